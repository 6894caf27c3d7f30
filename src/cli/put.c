/* cli/put.c -- see put_priv.h. */
#include "cli/put_priv.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LOCAL_PATH_STANDARD "-"
#define TARGET_SIZE 4096u

/* ---- Items ---- */

const char *cli_put_item_name(const struct put_item *i)
{
    return i->temporary[0] == 0 ? i->name : i->temporary;
}

static struct put_item *item_free(struct put_item *i)
{
    if (i != NULL) {
        CHECK(i->pieces == 0 && i->file == NULL);
        (void)disk_local_close(i->source);
        mem_free(i->small);
        mem_free(i->local);
        mem_free(i->path);
        mem_free(i->target);
        mem_free(i);
    }
    return NULL;
}

static uint32_t type_of(uint32_t mode)
{
    return (mode & S_IFMT) >> 12; /* DT_... */
}

void cli_put_item_values(struct put_item *i)
{
    const struct disk_local_attr *a = &i->attr;
    i->values = (struct opendfs_stat){.type = type_of(a->mode),
                                      .mode = a->mode & 07777u,
                                      .uid = a->uid,
                                      .gid = a->gid,
                                      .rdev = a->rdev,
                                      .atime_ns = a->atime_ns,
                                      .mtime_ns = a->mtime_ns};
    i->mask = OPENDFS_SET_MODE | OPENDFS_SET_ATIME | OPENDFS_SET_MTIME;
    if (i->p->copy.owner) {
        i->mask |= OPENDFS_SET_UID | OPENDFS_SET_GID;
    }
}

static void dir_unpend(struct put_dir *d);

void cli_put_item_end(struct put_item *i, bool good)
{
    struct put *p = i->p;
    struct put_dir *d = i->dir;
    if (i->link != NULL && !i->second) {
        i->link->good = good;
    }
    if (good && i->second) {
        p->copy.links++;
    } else if (good && S_ISREG(i->attr.mode)) {
        p->copy.files++;
    } else if (good && !S_ISDIR(i->attr.mode)) {
        p->copy.others++;
    }
    item_free(i);
    p->running--;
    dir_unpend(d);
    cli_put_pump(p);
}

void cli_put_item_fail(struct put_item *i, const struct opendfs_op *op, int64_t rc)
{
    if (op != NULL) {
        cli_copy_fail_op(&i->p->copy, i->path, op);
    } else {
        cli_copy_fail(&i->p->copy, i->local, rc);
    }
}

bool cli_put_item_use_temporary(struct put_item *i)
{
    if (i->temporary[0] != 0) {
        return false;
    }
    cli_copy_temporary_name(&i->p->copy, i->temporary);
    return true;
}

static void discarded(struct cli_job *j)
{
    cli_put_item_end(container_of(j, struct put_item, job), false);
}

static void renamed(struct cli_job *j)
{
    struct put_item *i = container_of(j, struct put_item, job);
    if (j->op.result >= 0) {
        cli_put_item_end(i, true);
        return;
    }
    cli_put_item_fail(i, &j->op, 0);
    cli_job_prepare(i->p->c, &i->job, discarded);
    i->job.op.at = i->dir->ino;
    opendfs_async_unlink(i->p->c->fs, &i->job.op, i->temporary);
}

void cli_put_item_finish(struct put_item *i)
{
    if (i->temporary[0] == 0) {
        cli_put_item_end(i, true);
        return;
    }
    cli_job_prepare(i->p->c, &i->job, renamed);
    i->job.op.at = i->dir->ino;
    opendfs_async_rename(i->p->c->fs, &i->job.op, i->temporary, i->name, 0);
}

/* ---- Names that are no files ---- */

static void start_other(struct put_item *i);

static void other_made(struct cli_job *j)
{
    struct put_item *i = container_of(j, struct put_item, job);
    if (j->op.result == -EEXIST && cli_put_item_use_temporary(i)) {
        start_other(i);
    } else if (j->op.result < 0) {
        cli_put_item_fail(i, &j->op, 0);
        cli_put_item_end(i, false);
    } else {
        cli_put_item_finish(i);
    }
}

static void start_other(struct put_item *i)
{
    struct opendfs *fs = i->p->c->fs;
    cli_job_prepare(i->p->c, &i->job, other_made);
    i->job.op.at = i->dir->ino;
    if (i->second) {
        opendfs_async_link(fs, &i->job.op, i->link->path, cli_put_item_name(i));
    } else if (S_ISLNK(i->attr.mode)) {
        opendfs_async_symlink(fs, &i->job.op, i->target, cli_put_item_name(i), &i->values, i->mask);
    } else {
        opendfs_async_make_node(fs, &i->job.op, cli_put_item_name(i), &i->values, i->mask);
    }
}

static int read_target(struct put_item *i)
{
    char target[TARGET_SIZE];
    int64_t n = disk_local_readlink(i->local, target, sizeof target);
    if (n < 0) {
        return (int)n;
    }
    i->target = mem_strdup(target);
    return i->target == NULL ? -ENOMEM : 0;
}

/* ---- Directories ---- */

static struct put_dir *dir_new(struct put *p, struct put_dir *parent, char *local, char *path)
{
    struct put_dir *d = mem_zalloc(sizeof *d);
    if (d == NULL || local == NULL || path == NULL) {
        mem_free(d);
        mem_free(local);
        mem_free(path);
        return NULL;
    }
    d->p = p;
    d->parent = parent;
    d->local = local;
    d->path = path;
    d->pending = 1;
    list_init(&d->node);
    return d;
}

static struct put_dir *dir_free(struct put_dir *d)
{
    struct put_dir *parent = d->parent;
    mem_free(d->names);
    mem_free(d->local);
    mem_free(d->path);
    mem_free(d);
    return parent;
}

static void dir_set(struct cli_job *j)
{
    struct put_dir *d = container_of(j, struct put_dir, job);
    struct put *p = d->p;
    if (j->op.result < 0) {
        cli_copy_fail_op(&p->copy, d->path, &j->op);
    } else {
        p->copy.directories++;
    }
    p->running--;
    dir_unpend(dir_free(d));
    cli_put_pump(p);
}

/* The last one below is done: what changed its times is over. */
static void dir_unpend(struct put_dir *d)
{
    if (d == NULL || --d->pending > 0) {
        return;
    }
    if (d->top) {
        (void)dir_free(d);
        return;
    }
    struct put_item values = {.p = d->p, .attr = d->attr};
    cli_put_item_values(&values);
    d->values = values.values;
    cli_job_prepare(d->p->c, &d->job, dir_set);
    d->p->running++;
    opendfs_async_setattr_ino(d->p->c->fs, &d->job.op, d->ino, &d->values, values.mask);
}

/* The item has made or found its directory, which is walked now. */
static void dir_enter(struct put_item *i, uint64_t ino)
{
    struct put *p = i->p;
    struct put_dir *d = dir_new(p, i->dir, mem_strdup(i->local), mem_strdup(i->path));
    if (d == NULL) {
        cli_put_item_fail(i, NULL, -ENOMEM);
        cli_put_item_end(i, false);
        return;
    }
    d->attr = i->attr;
    d->ino = ino;
    i->dir->pending++;
    list_push_front(&p->ready, &d->node);
    cli_put_item_end(i, true);
}

static void dir_looked_at(struct cli_job *j)
{
    struct put_item *i = container_of(j, struct put_item, job);
    if (j->op.result < 0) {
        cli_put_item_fail(i, &j->op, 0);
        cli_put_item_end(i, false);
    } else if (j->op.stat.type != OPENDFS_TYPE_DIRECTORY) {
        cli_copy_fail(&i->p->copy, i->path, -ENOTDIR);
        cli_put_item_end(i, false);
    } else {
        dir_enter(i, j->op.stat.ino);
    }
}

static void dir_made(struct cli_job *j)
{
    struct put_item *i = container_of(j, struct put_item, job);
    if (j->op.result == -EEXIST) {
        cli_job_prepare(i->p->c, &i->job, dir_looked_at);
        i->job.op.at = i->dir->ino;
        opendfs_async_stat(i->p->c->fs, &i->job.op, i->name);
    } else if (j->op.result < 0) {
        cli_put_item_fail(i, &j->op, 0);
        cli_put_item_end(i, false);
    } else {
        dir_enter(i, j->op.stat.ino);
    }
}

/* ---- The walk ---- */

static struct put_link *find_link(struct put *p, const struct put_item *i, bool *ret_new)
{
    uint64_t key[2] = {i->attr.device, i->attr.ino};
    uint64_t hash = dict_hash(&p->links, key, sizeof key);
    struct dict_node *n = dict_find(&p->links, hash, key);
    *ret_new = n == NULL;
    if (n != NULL) {
        return container_of(n, struct put_link, node);
    }
    struct put_link *l = mem_zalloc(sizeof *l);
    if (l == NULL) {
        return NULL;
    }
    l->device = i->attr.device;
    l->ino = i->attr.ino;
    l->path = mem_strdup(i->path);
    if (l->path == NULL || dict_insert(&p->links, hash, &l->node) < 0) {
        mem_free(l->path);
        mem_free(l);
        return NULL;
    }
    return l;
}

static bool link_equal(const struct dict_node *node, const void *key)
{
    const struct put_link *l = container_of((struct dict_node *)node, struct put_link, node);
    uint64_t k[2];
    memcpy(k, key, sizeof k);
    return l->device == k[0] && l->ino == k[1];
}

static void link_dropped(struct dict_node *node, void *owner)
{
    (void)owner;
    struct put_link *l = container_of(node, struct put_link, node);
    mem_free(l->path);
    mem_free(l);
}

static const struct dict_ops link_ops = {.equal = link_equal, .dropped = link_dropped};

static void start_item(struct put_item *i)
{
    struct put *p = i->p;
    if (S_ISDIR(i->attr.mode)) {
        cli_job_prepare(p->c, &i->job, dir_made);
        i->job.op.at = i->dir->ino;
        opendfs_async_mkdir(p->c->fs, &i->job.op, i->name, 0700);
    } else if (S_ISREG(i->attr.mode) && !i->second) {
        cli_put_file_start(i);
    } else {
        start_other(i);
    }
}

/* Fills in what the local file tells. 0, or an error that is the file's. */
static int look_at(struct put_item *i)
{
    if (strcmp(i->local, LOCAL_PATH_STANDARD) == 0) {
        int64_t now_ns = (int64_t)loop_wall_ns(i->p->c->loop);
        i->attr = (struct disk_local_attr){
            .mode = S_IFREG | 0644, .nlink = 1, .atime_ns = now_ns, .mtime_ns = now_ns};
        cli_put_item_values(i);
        i->mask &= ~(unsigned)(OPENDFS_SET_UID | OPENDFS_SET_GID);
        return 0;
    }
    int rc = disk_local_lstat(i->local, &i->attr);
    if (rc < 0) {
        return rc;
    }
    cli_put_item_values(i);
    if (S_ISLNK(i->attr.mode)) {
        rc = read_target(i);
    }
    if (rc == 0 && i->attr.nlink > 1 && !S_ISDIR(i->attr.mode)) {
        bool first = false;
        i->link = find_link(i->p, i, &first);
        i->second = !first;
        rc = i->link == NULL ? -ENOMEM : 0;
    }
    return rc;
}

/* `name` below `d`, from `local` (taken over). */
static void begin_item(struct put *p, struct put_dir *d, char *local, const char *name)
{
    struct put_item *i = mem_zalloc(sizeof *i);
    if (i == NULL || local == NULL || (i->path = cli_join(d->path, name)) == NULL) {
        cli_copy_fail(&p->copy, d->local, -ENOMEM);
        mem_free(local);
        mem_free(i);
        return;
    }
    i->p = p;
    i->dir = d;
    i->local = local;
    i->name = strrchr(i->path, '/') + 1;
    list_init(&i->node);
    d->pending++;
    p->running++;
    int rc = look_at(i);
    if (rc < 0) {
        cli_put_item_fail(i, NULL, rc);
        cli_put_item_end(i, false);
    } else if (i->second) {
        p->running--;
        list_push_back(&p->late, &i->node);
    } else {
        start_item(i);
    }
}

/* One more item of the first ready directory. False: there is nothing to begin now. */
static bool walk_on(struct put *p)
{
    if (list_empty(&p->ready)) {
        return false;
    }
    struct put_dir *d = container_of(p->ready.next, struct put_dir, node);
    if (d->names == NULL) {
        int rc = disk_local_list(d->local, &d->names);
        if (rc < 0) {
            cli_copy_fail(&p->copy, d->local, rc);
        }
    }
    if (d->names == NULL || d->next == d->names->count) {
        list_remove(&d->node);
        dir_unpend(d);
        return true;
    }
    const char *name = d->names->name[d->next++];
    begin_item(p, d, cli_join(d->local, name), name);
    return true;
}

static bool begin_late(struct put *p)
{
    if (p->running > 0 || list_empty(&p->late)) {
        return false;
    }
    while (!list_empty(&p->late) && p->running < COPY_PARALLEL) {
        struct put_item *i = container_of(list_pop_front(&p->late), struct put_item, node);
        p->running++;
        if (i->link->good) {
            start_item(i);
        } else {
            p->copy.failed++;
            cli_fail(p->c, "%s: its first name %s could not be copied", i->path, i->link->path);
            cli_put_item_end(i, false);
        }
    }
    return true;
}

void cli_put_pump(struct put *p)
{
    loop_stop(p->c->loop, 0); /* the main function looks again */
    (void)p;
}

static void run(struct put *p)
{
    for (;;) {
        while (p->running < COPY_PARALLEL && walk_on(p)) {
        }
        bool begun = begin_late(p);
        if (p->running == 0 && !begun && list_empty(&p->ready) && list_empty(&p->late)) {
            return;
        }
        if (p->running > 0) {
            loop_run(p->c->loop);
        }
    }
}

/* ---- The command ---- */

/* What is in a directory comes onto the stack. */
static void measure_directory(struct put *p, const char *path, struct list *stack)
{
    CLEANUP(mem_freep) struct disk_names *names = NULL;
    if (disk_local_list(path, &names) < 0) {
        return; /* the copy itself will say so */
    }
    for (size_t i = 0; i < names->count; i++) {
        struct put_dir *below = dir_new(p, NULL, cli_join(path, names->name[i]), mem_strdup(""));
        if (below != NULL) {
            list_push_front(stack, &below->node);
        }
    }
}

/* Counts what is below, so that progress can tell the remaining time. */
static void measure(struct put *p, const char *path)
{
    struct list stack;
    list_init(&stack);
    struct put_dir *d = dir_new(p, NULL, mem_strdup(path), mem_strdup(""));
    while (d != NULL) {
        struct disk_local_attr a;
        bool known = disk_local_lstat(d->local, &a) == 0;
        if (known && S_ISREG(a.mode)) {
            p->copy.bytes_total += a.size_bytes;
            p->copy.files_total++;
        } else if (known && S_ISDIR(a.mode)) {
            measure_directory(p, d->local, &stack);
        }
        (void)dir_free(d);
        struct list *next = list_pop_front(&stack);
        d = next == NULL ? NULL : container_of(next, struct put_dir, node);
    }
}

struct put_destination {
    char *path; /* of a directory */
    char *name; /* NULL: into it, under the sources' own names */
    uint64_t ino;
};

/* The directory that things go into, and the name when DESTINATION is not one. */
static int find_destination(struct cli *c, bool many, struct put_destination *ret)
{
    struct opendfs_stat st;
    ret->path = cli_path(c, c->argument[c->argument_count - 1]);
    if (ret->path == NULL) {
        return CLI_EXIT_USAGE;
    }
    int rc = opendfs_stat(c->fs, ret->path, &st);
    if (rc < 0 && rc != -ENOENT) {
        return cli_fail_op(c, NULL);
    }
    if (rc == 0 && st.type == OPENDFS_TYPE_DIRECTORY) {
        ret->ino = st.ino;
        return 0;
    }
    if (many) {
        return rc < 0 ? cli_fail_path(c, ret->path, rc) : cli_fail_path(c, ret->path, -ENOTDIR);
    }
    char *slash = strrchr(ret->path, '/');
    ret->name = mem_strdup(slash + 1);
    slash[slash == ret->path ? 1 : 0] = 0;
    if (ret->name == NULL) {
        return cli_fail_path(c, ret->path, -ENOMEM);
    }
    if (opendfs_stat(c->fs, ret->path, &st) < 0) {
        return cli_fail_op(c, NULL);
    }
    if (st.type != OPENDFS_TYPE_DIRECTORY) {
        return cli_fail_path(c, ret->path, -ENOTDIR);
    }
    ret->ino = st.ino;
    return 0;
}

/* A source without a name of its own ("." or "/"): what is in it goes into the destination. */
static void put_contents(struct put *p, struct put_dir *top, const char *source)
{
    struct disk_local_attr a;
    int rc = disk_local_stat(source, &a);
    rc = rc == 0 && !S_ISDIR(a.mode) ? -ENOTDIR : rc;
    struct put_dir *d = rc < 0 ? NULL : dir_new(p, top, mem_strdup(source), mem_strdup(top->path));
    if (d == NULL) {
        cli_copy_fail(&p->copy, source, rc < 0 ? rc : -ENOMEM);
        return;
    }
    d->attr = a;
    d->ino = top->ino;
    top->pending++;
    list_push_front(&p->ready, &d->node);
}

static void put_sources(struct put *p, const struct put_destination *to)
{
    struct cli *c = p->c;
    struct put_dir *top = dir_new(p, NULL, mem_strdup(""), mem_strdup(to->path));
    if (top == NULL) {
        cli_copy_fail(&p->copy, to->path, -ENOMEM);
        return;
    }
    top->top = true;
    top->ino = to->ino;
    for (size_t i = 0; i + 1 < c->argument_count; i++) {
        const char *source = c->argument[i];
        CLEANUP(mem_freep) char *clean = mem_strdup(source);
        for (size_t n = clean == NULL ? 0 : strlen(clean); n > 1 && clean[n - 1] == '/'; n--) {
            clean[n - 1] = 0;
        }
        const char *base = clean == NULL ? "" : cli_copy_base_name(clean);
        if (to->name != NULL) {
            begin_item(p, top, mem_strdup(clean), to->name);
        } else if (base[0] == 0) {
            put_contents(p, top, source);
        } else if (strcmp(source, LOCAL_PATH_STANDARD) == 0) {
            p->copy.failed++;
            cli_fail(c, "-: standard input needs a name: %s is a directory", to->path);
        } else {
            begin_item(p, top, mem_strdup(clean), base);
        }
    }
    dir_unpend(top);
    run(p);
}

int cli_run_put(struct cli *c)
{
    struct put p = {.c = c};
    struct put_destination to = {0};
    int status = cli_connect(c);
    status = status != 0 ? status : find_destination(c, c->argument_count > 2, &to);
    if (status == 0) {
        cli_copy_begin(&p.copy, c, "put");
        p.copy.owner = p.copy.owner && !cli_flag(c, "no-owner");
        list_init(&p.ready);
        list_init(&p.late);
        list_init(&p.starved);
        list_init(&p.buffers);
        dict_init(&p.links, &link_ops, NULL, loop_random(c->loop));
        for (size_t i = 0;
             cli_terminal_is_one(c->terminal) && !c->quiet && i + 1 < c->argument_count; i++) {
            measure(&p, c->argument[i]);
        }
        put_sources(&p, &to);
        cli_put_buffers_free(&p);
        dict_fini(&p.links);
        status = cli_copy_end(&p.copy);
    }
    mem_free(to.path);
    mem_free(to.name);
    return status;
}
