/*
 * cli/ls.c -- ls. With -R the directories to come are read ahead, up to LS_AHEAD pages of them.
 *
 * A directory is listed as a whole, then those in it, each with what is below it: the next one is
 * always the first of `pending`. Those below one directory hold at most half of the pages that are
 * left, so that deeper ones, which are needed first, find some.
 */
#include "cli/cli_priv.h"
#include "cli/ls_priv.h"
#include "cli/mode_priv.h"

#include "base/list.h"
#include "base/mem.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#define LS_AHEAD 64u
#define LS_DEPTHS 8u /* 64 halved so often is nothing */
#define NAME_LIMIT 255u

struct ls_dir {
    struct list node, wait; /* in listing.pending; in listing.waiting until it is asked */
    struct listing *l;
    char *path;
    uint64_t ino;
    unsigned depth;
    struct cli_job job; /* a page of it */
    bool asked, here;
    char after[NAME_LIMIT + 1];
};
struct listing {
    struct cli *c;
    bool details, recursive, directory, human, numeric;
    struct list pending, waiting; /* struct ls_dir, in the order in which they will be needed */
    size_t pages;                 /* asked for and not printed */
    size_t pages_at[LS_DEPTHS];   /* of these, by depth: all below one directory */
    int status;
};

static void print_entry(struct listing *l, const char *path, const char *shown,
                        const struct opendfs_stat *st)
{
    if (l->c->json) {
        cli_print_json(cli_stat_to_json(path, st));
        return;
    }
    if (!l->details) {
        cli_print_name(shown);
        printf("\n");
        return;
    }
    char mode[CLI_MODE_SIZE], time[CLI_TIME_SIZE], size[TEXT_UNIT_SIZE];
    cli_mode_to_text(st, mode);
    cli_time_to_text(st->mtime_ns, false, time);
    if (l->human) {
        text_from_bytes(st->size_bytes, size);
    } else {
        snprintf(size, sizeof size, "%llu", (unsigned long long)st->size_bytes);
    }
    char user[CLI_OWNER_SIZE], group[CLI_OWNER_SIZE];
    printf("%s %3u %-8s %-8s %11s %s ", mode, st->nlink,
           cli_user_to_text(st->uid, l->numeric, user),
           cli_group_to_text(st->gid, l->numeric, group), size, time);
    cli_print_name(shown);
    if (st->type == OPENDFS_TYPE_SYMLINK) {
        char target[4096];
        if (opendfs_readlink(l->c->fs, path, target, sizeof target) >= 0) {
            printf(" -> ");
            cli_print_name(target);
        }
    }
    printf("\n");
}

/* ---- Directories ---- */

/* Takes `path` over; NULL: no memory. */
static struct ls_dir *dir_new(struct listing *l, char *path, uint64_t ino, unsigned depth)
{
    struct ls_dir *d = path == NULL ? NULL : mem_zalloc(sizeof *d);
    if (d == NULL) {
        mem_free(path);
        return NULL;
    }
    *d = (struct ls_dir){.l = l, .path = path, .ino = ino, .depth = depth};
    list_init(&d->node);
    list_init(&d->wait);
    return d;
}

static size_t *pages_of_depth(struct ls_dir *d)
{
    return &d->l->pages_at[base_min(d->depth, LS_DEPTHS - 1)];
}

static void page_came(struct cli_job *j)
{
    struct ls_dir *d = container_of(j, struct ls_dir, job);
    d->here = true;
    loop_stop(d->l->c->loop, 0);
}

static void ask(struct ls_dir *d)
{
    struct listing *l = d->l;
    list_remove(&d->wait);
    d->asked = true;
    d->here = false;
    l->pages++;
    ++*pages_of_depth(d);
    cli_job_prepare(l->c, &d->job, page_came);
    d->job.op.at = d->ino;
    opendfs_async_list(l->c->fs, &d->job.op, NULL, d->after, 0);
}

static void page_free(struct ls_dir *d)
{
    while (d->asked && !d->here) {
        loop_run(d->l->c->loop);
    }
    if (d->asked) {
        opendfs_async_release(d->l->c->fs, &d->job.op);
        d->asked = false;
        d->l->pages--;
        --*pages_of_depth(d);
    }
}

static void dir_free(struct ls_dir *d)
{
    page_free(d);
    list_remove(&d->node);
    list_remove(&d->wait);
    mem_free(d->path);
    mem_free(d);
}

static void read_ahead(struct listing *l)
{
    while (l->pages < LS_AHEAD && !list_empty(&l->waiting)) {
        struct ls_dir *d = container_of(l->waiting.next, struct ls_dir, wait);
        if (*pages_of_depth(d) >= LS_AHEAD - l->pages) {
            return;
        }
        ask(d);
    }
}

/* ---- The listing ---- */

static void print_page(struct ls_dir *d, struct list *below)
{
    struct listing *l = d->l;
    const struct opendfs_op *op = &d->job.op;
    for (size_t i = 0; i < op->entry_count; i++) {
        const struct opendfs_entry *e = &op->entries[i];
        CLEANUP(mem_freep) char *path = cli_join(d->path, e->name);
        if (path == NULL) {
            l->status = cli_fail_path(l->c, d->path, -ENOMEM);
            continue;
        }
        print_entry(l, path, e->name, &e->stat);
        if (!l->recursive || e->stat.type != OPENDFS_TYPE_DIRECTORY) {
            continue;
        }
        struct ls_dir *x = dir_new(l, path, e->stat.ino, d->depth + 1);
        path = NULL;
        if (x == NULL) {
            l->status = cli_fail_path(l->c, d->path, -ENOMEM);
            continue;
        }
        list_push_back(below, &x->node);
    }
}

/* Prints the page that is here. True: there is another one. */
static bool next_page(struct ls_dir *d, struct list *below)
{
    const struct opendfs_op *op = &d->job.op;
    if (op->result < 0) {
        d->l->status = cli_fail_at(d->l->c, d->path, op);
        return false;
    }
    print_page(d, below);
    if (op->at_end || op->entry_count == 0) {
        return false;
    }
    const struct opendfs_entry *e = &op->entries[op->entry_count - 1];
    size_t len = base_min(e->name_len, NAME_LIMIT);
    memcpy(d->after, e->name, len);
    d->after[len] = 0;
    return true;
}

/* What cannot be written any more need not be read. */
static bool given_up(void)
{
    return ferror(stdout) != 0;
}

/* These come before all others. */
static void put_first(struct list *all, struct list *these)
{
    list_splice_back(these, all);
    list_splice_back(all, these);
}

/* The first of those pending, which goes; those in it take its place. */
static void list_first(struct listing *l)
{
    struct ls_dir *d = container_of(l->pending.next, struct ls_dir, node);
    struct list below, waiting;
    list_init(&below);
    list_init(&waiting);
    for (bool more = true; more && !given_up();) {
        if (!d->asked) {
            ask(d);
        }
        read_ahead(l);
        while (!d->here) {
            loop_run(l->c->loop);
        }
        more = next_page(d, &below);
        page_free(d);
    }
    LIST_FOR_EACH(n, &below)
    {
        list_push_back(&waiting, &container_of(n, struct ls_dir, node)->wait);
    }
    dir_free(d);
    put_first(&l->pending, &below);
    put_first(&l->waiting, &waiting);
}

static void list_argument(struct listing *l, const char *path, bool titles)
{
    struct opendfs_stat st;
    int rc = l->directory ? opendfs_lstat(l->c->fs, path, &st) : opendfs_stat(l->c->fs, path, &st);
    if (rc < 0) {
        l->status = cli_fail_op(l->c, NULL);
        return;
    }
    if (l->directory || st.type != OPENDFS_TYPE_DIRECTORY) {
        print_entry(l, path, path, &st);
        return;
    }
    struct ls_dir *top = dir_new(l, mem_strdup(path), st.ino, 0);
    if (top == NULL) {
        l->status = cli_fail_path(l->c, path, -ENOMEM);
        return;
    }
    list_push_back(&l->pending, &top->node);
    for (bool first = true; !list_empty(&l->pending); first = false) {
        struct ls_dir *d = container_of(l->pending.next, struct ls_dir, node);
        if (given_up()) {
            dir_free(d);
            continue;
        }
        if (!l->c->json && (titles || l->recursive)) {
            printf("%s", first ? "" : "\n");
            cli_print_name(d->path);
            printf(":\n");
        }
        list_first(l);
    }
}

int cli_run_ls(struct cli *c)
{
    int rc = cli_connect(c);
    if (rc != 0) {
        return rc;
    }
    struct listing l = {.c = c,
                        .details = cli_flag(c, "long") || cli_flag(c, "numeric"),
                        .recursive = cli_flag(c, "recursive"),
                        .directory = cli_flag(c, "directory"),
                        .human = cli_flag(c, "human"),
                        .numeric = cli_flag(c, "numeric")};
    list_init(&l.pending);
    list_init(&l.waiting);
    size_t count = c->argument_count == 0 ? 1 : c->argument_count;
    for (size_t i = 0; i < count; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument_count == 0 ? "/" : c->argument[i]);
        if (path == NULL) {
            l.status = CLI_EXIT_USAGE;
            break;
        }
        list_argument(&l, path, count > 1);
    }
    return l.status;
}
