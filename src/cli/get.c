/* cli/get.c -- see get_priv.h. */
#include "cli/get_priv.h"

#include "base/mem.h"
#include "disk/disk.h"

#include <string.h>
#include <sys/stat.h>

#define NAME_LIMIT 255u

static void dir_unpend(struct get_dir *d);

static struct disk_local_attr attr_of(const struct opendfs_stat *st)
{
    return (struct disk_local_attr){.mode = (st->type << 12) | st->mode,
                                    .uid = st->uid,
                                    .gid = st->gid,
                                    .rdev = st->rdev,
                                    .atime_ns = st->atime_ns,
                                    .mtime_ns = st->mtime_ns};
}

static unsigned mask_of(const struct get *g)
{
    return DISK_LOCAL_MODE | DISK_LOCAL_TIMES | (g->copy.owner ? DISK_LOCAL_OWNER : 0);
}

/* ---- Items ---- */

void cli_get_item_end(struct get_item *i, bool good)
{
    struct get *g = i->g;
    struct get_dir *d = i->dir;
    CHECK(i->file == NULL && i->out == NULL && i->pieces == 0);
    if (i->link != NULL && !i->second) {
        i->link->good = good;
    }
    if (good && i->second) {
        g->copy.links++;
    } else if (good && i->stat.type == OPENDFS_TYPE_FILE) {
        g->copy.files++;
    } else if (good && i->stat.type != OPENDFS_TYPE_DIRECTORY) {
        g->copy.others++;
    }
    if (!good && i->temporary != NULL) {
        (void)disk_local_remove(i->temporary); /* may never have been made */
    }
    mem_free(i->local);
    mem_free(i->path);
    mem_free(i->temporary);
    mem_free(i);
    g->running--;
    dir_unpend(d);
    loop_stop(g->c->loop, 0);
}

void cli_get_item_fail(struct get_item *i, const struct opendfs_op *op, int64_t rc)
{
    if (op != NULL) {
        cli_copy_fail_op(&i->g->copy, i->path, op);
    } else {
        cli_copy_fail(&i->g->copy, i->local, rc);
    }
}

/* Files and symbolic links are replaced; a device or a pipe (/dev/null, say) never is. */
static int may_replace(const char *local)
{
    struct disk_local_attr a;
    int rc = disk_local_lstat(local, &a);
    if (rc < 0) {
        return rc == -ENOENT ? 0 : rc;
    }
    bool plain = S_ISREG(a.mode) || S_ISLNK(a.mode) || S_ISDIR(a.mode); /* rename() says EISDIR */
    return plain ? 0 : -EEXIST;
}

void cli_get_item_finish(struct get_item *i)
{
    struct disk_local_attr a = attr_of(&i->stat);
    int rc = may_replace(i->local);
    rc = rc < 0 || i->second ? rc : disk_local_set(i->temporary, &a, mask_of(i->g));
    rc = rc < 0 ? rc : disk_local_rename(i->temporary, i->local);
    if (rc < 0) {
        cli_get_item_fail(i, NULL, rc);
    }
    cli_get_item_end(i, rc == 0);
}

static void make_locally(struct get_item *i, int rc)
{
    if (rc < 0) {
        cli_get_item_fail(i, NULL, rc);
        cli_get_item_end(i, false);
        return;
    }
    cli_get_item_finish(i);
}

static void target_known(struct cli_job *j)
{
    struct get_item *i = container_of(j, struct get_item, job);
    if (j->op.result < 0) {
        cli_get_item_fail(i, &j->op, 0);
        cli_get_item_end(i, false);
        return;
    }
    make_locally(i, disk_local_symlink(i->target, i->temporary));
}

static void start_item(struct get_item *i)
{
    struct get *g = i->g;
    if (i->second) {
        make_locally(i, disk_local_link(i->link->local, i->temporary));
    } else if (i->stat.type == OPENDFS_TYPE_FILE) {
        cli_get_file_start(i);
    } else if (i->stat.type == OPENDFS_TYPE_SYMLINK) {
        cli_job_prepare(g->c, &i->job, target_known);
        opendfs_async_readlink(g->c->fs, &i->job.op, i->path, i->target, sizeof i->target);
    } else {
        struct disk_local_attr a = attr_of(&i->stat);
        make_locally(i, disk_local_mknod(i->temporary, a.mode, a.rdev));
    }
}

/* ---- Directories ---- */

static struct get_dir *dir_new(struct get *g, struct get_dir *parent, char *local, char *path)
{
    struct get_dir *d = mem_zalloc(sizeof *d);
    if (d == NULL || local == NULL || path == NULL) {
        mem_free(d);
        mem_free(local);
        mem_free(path);
        return NULL;
    }
    d->g = g;
    d->parent = parent;
    d->local = local;
    d->path = path;
    d->pending = 1;
    list_init(&d->node);
    return d;
}

static struct get_dir *dir_free(struct get_dir *d)
{
    struct get_dir *parent = d->parent;
    mem_free(d->local);
    mem_free(d->path);
    mem_free(d);
    return parent;
}

/* The last one below is done: what changed its times is over. So it may be for those above. */
static void dir_unpend(struct get_dir *d)
{
    while (d != NULL && --d->pending == 0) {
        struct disk_local_attr a = attr_of(&d->stat);
        int rc = d->top ? 0 : disk_local_set(d->local, &a, mask_of(d->g));
        if (rc < 0) {
            cli_copy_fail(&d->g->copy, d->local, rc);
        } else if (!d->top) {
            d->g->copy.directories++;
        }
        d = dir_free(d);
    }
}

static int make_directory(const char *local)
{
    int rc = disk_local_mkdir(local, 0700);
    struct disk_local_attr a;
    if (rc == -EEXIST && disk_local_stat(local, &a) == 0) {
        rc = S_ISDIR(a.mode) ? 0 : -ENOTDIR;
    }
    return rc;
}

/* Takes both texts over. */
static void begin_directory(struct get *g, struct get_dir *parent, char *local, char *path,
                            const struct opendfs_stat *st)
{
    struct get_dir *d = dir_new(g, parent, local, path);
    if (d == NULL) {
        cli_copy_fail(&g->copy, parent->path, -ENOMEM);
        return;
    }
    d->stat = *st;
    int rc = make_directory(d->local);
    if (rc < 0) {
        cli_copy_fail(&g->copy, d->local, rc);
        (void)dir_free(d);
        return;
    }
    parent->pending++;
    list_push_front(&g->ready, &d->node);
}

/* ---- Hard links ---- */

static bool link_equal(const struct dict_node *node, const void *key)
{
    const struct get_link *l = container_of((struct dict_node *)node, struct get_link, node);
    return memcmp(&l->ino, key, sizeof l->ino) == 0;
}

static void link_dropped(struct dict_node *node, void *owner)
{
    (void)owner;
    struct get_link *l = container_of(node, struct get_link, node);
    mem_free(l->local);
    mem_free(l);
}

static const struct dict_ops link_ops = {.equal = link_equal, .dropped = link_dropped};

static int find_link(struct get *g, struct get_item *i)
{
    uint64_t hash = dict_hash_u64(&g->links, i->stat.ino);
    struct dict_node *n = dict_find(&g->links, hash, &i->stat.ino);
    if (n != NULL) {
        i->link = container_of(n, struct get_link, node);
        i->second = true;
        return 0;
    }
    struct get_link *l = mem_zalloc(sizeof *l);
    if (l == NULL) {
        return -ENOMEM;
    }
    l->ino = i->stat.ino;
    l->local = mem_strdup(i->local);
    if (l->local == NULL || dict_insert(&g->links, hash, &l->node) < 0) {
        mem_free(l->local);
        mem_free(l);
        return -ENOMEM;
    }
    i->link = l;
    return 0;
}

/* ---- The walk ---- */

static char *temporary_beside(struct get *g, const char *local)
{
    char name[COPY_NAME_SIZE];
    cli_copy_temporary_name(&g->copy, name);
    const char *slash = strrchr(local, '/');
    return slash == NULL ? mem_strdup(name)
                         : mem_printf("%.*s/%s", (int)(slash - local), local, name);
}

/* Takes both texts over. */
static void begin_item(struct get *g, struct get_dir *d, char *local, char *path,
                       const struct opendfs_stat *st)
{
    struct get_item *i = mem_zalloc(sizeof *i);
    char *temporary = local == NULL ? NULL : temporary_beside(g, local);
    if (i == NULL || local == NULL || path == NULL || temporary == NULL) {
        cli_copy_fail(&g->copy, d->path, -ENOMEM);
        mem_free(i);
        mem_free(local);
        mem_free(path);
        mem_free(temporary);
        return;
    }
    *i = (struct get_item){
        .g = g, .dir = d, .local = local, .path = path, .temporary = temporary, .stat = *st};
    list_init(&i->node);
    d->pending++;
    g->running++;
    int rc = st->nlink > 1 ? find_link(g, i) : 0;
    if (rc < 0) {
        cli_get_item_fail(i, NULL, rc);
        cli_get_item_end(i, false);
    } else if (i->second) {
        g->running--;
        list_push_back(&g->late, &i->node);
    } else {
        start_item(i);
    }
}

static void begin(struct get *g, struct get_dir *d, char *local, char *path,
                  const struct opendfs_stat *st)
{
    if (st->type == OPENDFS_TYPE_DIRECTORY && local != NULL && path != NULL) {
        begin_directory(g, d, local, path, st);
    } else {
        begin_item(g, d, local, path, st);
    }
}

/* A page has come; it stays in d->job.op until all its names were begun. */
static void listed(struct cli_job *j)
{
    struct get_dir *d = container_of(j, struct get_dir, job);
    d->g->running--;
    d->next = 0;
    d->listing = false;
    d->at_end = j->op.at_end != 0;
    if (j->op.result < 0) {
        cli_copy_fail_op(&d->g->copy, d->path, &j->op);
        d->at_end = true;
        j->op.entry_count = 0;
    }
    list_push_front(&d->g->ready, &d->node);
    loop_stop(d->g->c->loop, 0);
}

static void list_more(struct get *g, struct get_dir *d)
{
    list_remove(&d->node);
    d->listing = true;
    g->running++;
    cli_job_prepare(g->c, &d->job, listed);
    opendfs_async_list(g->c->fs, &d->job.op, d->path, d->after, 0);
}

static void walk_page(struct get *g, struct get_dir *d)
{
    const struct opendfs_entry *e = &d->job.op.entries[d->next++];
    begin(g, d, cli_join(d->local, e->name), cli_join(d->path, e->name), &e->stat);
    if (d->next == d->job.op.entry_count) {
        size_t len = base_min(e->name_len, NAME_LIMIT);
        memcpy(d->after, e->name, len);
        d->after[len] = 0;
        opendfs_async_release(g->c->fs, &d->job.op);
        d->job.op.entry_count = 0;
        d->next = 0;
    }
}

static bool walk_on(struct get *g)
{
    if (list_empty(&g->ready)) {
        return false;
    }
    struct get_dir *d = container_of(g->ready.next, struct get_dir, node);
    if (d->next < d->job.op.entry_count) {
        walk_page(g, d);
    } else if (!d->at_end) {
        list_more(g, d);
    } else {
        list_remove(&d->node);
        opendfs_async_release(g->c->fs, &d->job.op);
        dir_unpend(d);
    }
    return true;
}

static bool begin_late(struct get *g)
{
    if (g->running > 0 || list_empty(&g->late) || !list_empty(&g->ready)) {
        return false;
    }
    struct get_item *i = container_of(list_pop_front(&g->late), struct get_item, node);
    g->running++;
    if (i->link->good) {
        start_item(i);
    } else {
        g->copy.failed++;
        cli_fail(g->c, "%s: its first name %s could not be copied", i->path, i->link->local);
        cli_get_item_end(i, false);
    }
    return true;
}

static void run(struct get *g)
{
    for (;;) {
        while (g->running < COPY_PARALLEL && walk_on(g)) {
        }
        while (begin_late(g)) {
        }
        if (g->running > 0) {
            loop_run(g->c->loop);
        } else if (list_empty(&g->ready) && list_empty(&g->late)) {
            return;
        }
    }
}

/* ---- The command ---- */

static void get_source(struct get *g, struct get_dir *top, const char *argument, const char *to,
                       bool into)
{
    CLEANUP(mem_freep) char *path = cli_path(g->c, argument);
    struct opendfs_stat st;
    if (path == NULL) {
        g->copy.status = CLI_EXIT_USAGE;
        return;
    }
    if (opendfs_lstat(g->c->fs, path, &st) < 0) {
        g->copy.failed++;
        cli_fail_op(g->c, NULL);
        return;
    }
    const char *base = cli_copy_base_name(path);
    bool named = into && base[0] != 0;
    begin(g, top, named ? cli_join(to, base) : mem_strdup(to), mem_strdup(path), &st);
}

static void measure_directory(struct get *g, const char *path, struct list *stack)
{
    struct opendfs_dir *dir;
    if (opendfs_opendir(g->c->fs, path, &dir) < 0) {
        return;
    }
    struct opendfs_entry e;
    while (opendfs_readdir(dir, &e) > 0) {
        if (e.stat.type == OPENDFS_TYPE_FILE) {
            g->copy.bytes_total += e.stat.size_bytes;
            g->copy.files_total++;
        } else if (e.stat.type == OPENDFS_TYPE_DIRECTORY) {
            struct get_dir *below = dir_new(g, NULL, mem_strdup(""), cli_join(path, e.name));
            if (below != NULL) {
                list_push_front(stack, &below->node);
            }
        }
    }
    opendfs_closedir(dir);
}

/* Counts what is to come, so that progress can tell the remaining time. */
static void measure(struct get *g, const char *argument)
{
    struct list stack;
    list_init(&stack);
    CLEANUP(mem_freep) char *path = cli_path(g->c, argument);
    struct opendfs_stat st;
    if (path == NULL || opendfs_lstat(g->c->fs, path, &st) < 0) {
        return; /* the copy itself will say so */
    }
    if (st.type != OPENDFS_TYPE_DIRECTORY) {
        g->copy.bytes_total += st.size_bytes;
        g->copy.files_total++;
        return;
    }
    struct get_dir *d = dir_new(g, NULL, mem_strdup(""), mem_strdup(path));
    while (d != NULL) {
        measure_directory(g, d->path, &stack);
        (void)dir_free(d);
        struct list *next = list_pop_front(&stack);
        d = next == NULL ? NULL : container_of(next, struct get_dir, node);
    }
}

static void get_sources(struct get *g, const char *to, bool into)
{
    struct get_dir *top = dir_new(g, NULL, mem_strdup(to), mem_strdup("/"));
    if (top == NULL) {
        cli_copy_fail(&g->copy, to, -ENOMEM);
        return;
    }
    top->top = true;
    for (size_t i = 0; i + 1 < g->c->argument_count && g->copy.status == 0; i++) {
        get_source(g, top, g->c->argument[i], to, into);
    }
    dir_unpend(top);
    run(g);
}

int cli_run_get(struct cli *c)
{
    size_t last = c->argument_count - 1;
    const char *to = c->argument[last];
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    if (strcmp(to, "-") == 0) {
        return cli_get_to_standard_output(c, last);
    }
    struct disk_local_attr a;
    int rc = disk_local_stat(to, &a);
    bool into = rc == 0 && S_ISDIR(a.mode);
    if (rc < 0 && rc != -ENOENT) {
        return cli_fail_path(c, to, rc);
    }
    if (last > 1 && !into) {
        return cli_fail_path(c, to, rc < 0 ? rc : -ENOTDIR);
    }
    struct get g = {.c = c};
    cli_copy_begin(&g.copy, c, "get");
    g.copy.owner = g.copy.owner && !cli_flag(c, "no-owner");
    list_init(&g.ready);
    list_init(&g.late);
    list_init(&g.waiting);
    dict_init(&g.links, &link_ops, NULL, loop_random(c->loop));
    for (size_t i = 0; cli_terminal_is_one(c->terminal) && !c->quiet && i < last; i++) {
        measure(&g, c->argument[i]);
    }
    get_sources(&g, to, into);
    dict_fini(&g.links);
    return cli_copy_end(&g.copy);
}

int cli_run_cat(struct cli *c)
{
    int status = cli_connect(c);
    return status != 0 ? status : cli_get_to_standard_output(c, c->argument_count);
}
