/*
 * cli/remove.c -- rm: directories are emptied page by page with many removals under way, those
 * below them first. A stack of directories instead of recursion; what is listed again after its
 * removals is empty or failed.
 */
#include "cli/remove_priv.h"

#include "base/mem.h"
#include "cli/cli_priv.h"

#include <string.h>

#define REMOVE_PARALLEL 128u

struct removal {
    struct cli *c;
    int status;
    size_t running;
};
struct remove_job {
    struct cli_job job;
    struct removal *r;
    char path[];
};
/* A directory on the stack: `tried` after its entries were removed. */
struct remove_level {
    char *path;
    bool tried;
};
struct remove_stack {
    struct remove_level *level;
    size_t count, size;
};

static void removed(struct cli_job *j)
{
    struct remove_job *job = container_of(j, struct remove_job, job);
    struct removal *r = job->r;
    if (j->op.result < 0 && j->op.result != -ENOENT) {
        r->status = cli_fail_op(r->c, &j->op);
    } else {
        cli_done(r->c);
    }
    mem_free(job);
    r->running--;
    loop_stop(r->c->loop, 0);
}

static void wait_below(struct removal *r, size_t limit)
{
    while (r->running >= limit) {
        loop_run(r->c->loop);
    }
}

static void start(struct removal *r, const char *directory, const char *name)
{
    size_t size = strlen(directory) + strlen(name) + 2;
    struct remove_job *job = mem_zalloc(sizeof *job + size);
    if (job == NULL) {
        r->status = cli_fail_path(r->c, directory, -ENOMEM);
        return;
    }
    job->r = r;
    size_t len = strlen(directory);
    memcpy(job->path, directory, len);
    job->path[len] = '/';
    memcpy(job->path + len + 1, name, strlen(name) + 1);
    cli_job_prepare(r->c, &job->job, removed);
    r->running++;
    opendfs_async_unlink(r->c->fs, &job->job.op, job->path);
    wait_below(r, REMOVE_PARALLEL);
}

static int push(struct remove_stack *s, char *path)
{
    int rc = path == NULL ? -ENOMEM : mem_grow(&s->level, &s->size, s->count + 1, sizeof *s->level);
    if (rc < 0) {
        mem_free(path);
        return rc;
    }
    s->level[s->count++] = (struct remove_level){.path = path};
    return 0;
}

/* Removes the files of a directory and puts those below on the stack. */
static void empty(struct removal *r, struct remove_stack *s, const char *path)
{
    struct opendfs_dir *dir;
    if (opendfs_opendir(r->c->fs, path, &dir) < 0) {
        r->status = cli_fail_op(r->c, NULL);
        return;
    }
    struct opendfs_entry e;
    int rc;
    while ((rc = opendfs_readdir(dir, &e)) > 0) {
        if (e.stat.type != OPENDFS_TYPE_DIRECTORY) {
            start(r, path, e.name);
        } else if (push(s, cli_join(path, e.name)) < 0) {
            r->status = cli_fail_path(r->c, path, -ENOMEM);
        }
    }
    if (rc < 0) {
        r->status = cli_fail_op(r->c, NULL);
    }
    opendfs_closedir(dir);
    wait_below(r, 1);
}

static void remove_tree(struct removal *r, const char *path)
{
    struct remove_stack s = {0};
    if (push(&s, mem_strdup(path)) < 0) {
        r->status = cli_fail_path(r->c, path, -ENOMEM);
    }
    while (s.count > 0) {
        size_t at = s.count - 1;
        CLEANUP(mem_freep) char *here = mem_strdup(s.level[at].path);
        if (here != NULL && !s.level[at].tried) {
            s.level[at].tried = true;
            empty(r, &s, here);
            continue;
        }
        if (opendfs_rmdir(r->c->fs, s.level[at].path) < 0) {
            r->status = cli_fail_op(r->c, NULL);
        } else {
            cli_done(r->c);
        }
        mem_free(s.level[at].path);
        s.count--;
    }
    mem_free(s.level);
}

static void remove_argument(struct removal *r, const char *path)
{
    struct opendfs_stat st;
    int rc = opendfs_lstat(r->c->fs, path, &st);
    if (rc == -ENOENT && cli_flag(r->c, "force")) {
        return;
    }
    if (rc < 0) {
        r->status = cli_fail_op(r->c, NULL);
    } else if (st.type != OPENDFS_TYPE_DIRECTORY) {
        rc = opendfs_unlink(r->c->fs, path);
        r->status = rc < 0 ? cli_fail_op(r->c, NULL) : r->status;
        if (rc == 0) {
            cli_done(r->c);
        }
    } else if (!cli_flag(r->c, "recursive")) {
        r->status =
            cli_fail(r->c, "%s: is a directory (-r removes it with all that is in it)", path);
    } else {
        remove_tree(r, path);
    }
}

int cli_run_rm(struct cli *c)
{
    struct removal r = {.c = c, .status = cli_connect(c)};
    for (size_t i = 0; c->fs != NULL && i < c->argument_count; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument[i]);
        if (path == NULL) {
            return CLI_EXIT_USAGE;
        }
        if (strcmp(path, "/") == 0) {
            r.status = cli_fail(c, "/: the root cannot be removed; name what is in it");
            continue;
        }
        remove_argument(&r, path);
    }
    return r.status;
}
