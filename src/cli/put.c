/* cli/put.c -- see put_priv.h. */
#include "cli/put_priv.h"

#include "base/mem.h"
#include "disk/disk.h"

#include <string.h>
#include <sys/stat.h>

#define LOCAL_PATH_STANDARD "-"
#define TARGET_SIZE 4096u

/* ---- Items ---- */

static void free_item(struct tree_item *base)
{
    struct put_item *i = container_of(base, struct put_item, base);
    (void)disk_local_close(i->file);
    mem_free(i->small);
    mem_free(i->target);
    mem_free(i);
}

/* What is to be set in the cluster; returns which of it. */
static unsigned values_of(const struct put *p, const struct disk_local_attr *a,
                          struct opendfs_stat *ret)
{
    *ret = (struct opendfs_stat){.type = (a->mode & S_IFMT) >> 12, /* DT_... */
                                 .mode = a->mode & 07777u,
                                 .uid = a->uid,
                                 .gid = a->gid,
                                 .rdev = a->rdev,
                                 .atime_ns = a->atime_ns,
                                 .mtime_ns = a->mtime_ns};
    unsigned owner = p->tree.copy.owner ? OPENDFS_SET_UID | OPENDFS_SET_GID : 0;
    return OPENDFS_SET_MODE | OPENDFS_SET_ATIME | OPENDFS_SET_MTIME | owner;
}

/* ---- Names that are no files ---- */

static void start_other(struct put_item *i);

static void other_made(struct cli_job *j)
{
    struct tree_item *base = container_of(j, struct tree_item, job);
    if (j->op.result == -EEXIST && cli_into_use_temporary(base)) {
        start_other(container_of(base, struct put_item, base));
        return;
    }
    if (j->op.result < 0) {
        cli_tree_item_fail_op(base, &j->op);
    }
    cli_into_finish(base);
}

static void start_other(struct put_item *i)
{
    cli_into_make(&i->base, i->target, other_made);
}

static int read_target(struct put_item *i)
{
    char target[TARGET_SIZE];
    int64_t n = disk_local_readlink(i->base.local, target, sizeof target);
    if (n < 0) {
        return (int)n;
    }
    i->target = mem_strdup(target);
    return i->target == NULL ? -ENOMEM : 0;
}

/* ---- The walk ---- */

static void start_item(struct tree_item *base)
{
    struct put_item *i = container_of(base, struct put_item, base);
    if (base->type == OPENDFS_TYPE_DIRECTORY) {
        cli_into_make_dir(base);
    } else if (base->type == OPENDFS_TYPE_FILE && !base->second) {
        cli_put_file_start(i);
    } else {
        start_other(i);
    }
}

/* Fills in what the local file tells. 0, or an error that is the file's. */
static int look_at(struct put_item *i)
{
    struct tree_item *base = &i->base;
    bool standard = strcmp(base->local, LOCAL_PATH_STANDARD) == 0;
    if (standard) {
        int64_t now_ns = (int64_t)loop_wall_ns(base->tree->c->loop);
        i->attr = (struct disk_local_attr){
            .mode = S_IFREG | 0644, .nlink = 1, .atime_ns = now_ns, .mtime_ns = now_ns};
    }
    int rc = standard ? 0 : disk_local_lstat(base->local, &i->attr);
    if (rc < 0) {
        return rc;
    }
    base->mask = values_of(i->p, &i->attr, &base->values);
    base->no_source = standard;
    if (standard) { /* nobody's */
        base->mask &= ~(unsigned)(OPENDFS_SET_UID | OPENDFS_SET_GID);
    }
    base->type = base->values.type;
    if (S_ISLNK(i->attr.mode)) {
        rc = read_target(i);
    }
    if (rc == 0 && i->attr.nlink > 1 && !S_ISDIR(i->attr.mode)) {
        rc = cli_tree_item_link(base, i->attr.device, i->attr.ino, i->attr.size_bytes, base->path);
    }
    return rc;
}

/* `name` below `d`, from `local` (taken over). */
static void begin_item(struct tree_dir *d, char *local, const char *name)
{
    struct put_item *i = mem_zalloc(sizeof *i);
    if (!cli_into_init(i == NULL ? NULL : &i->base, d, local, name) || i == NULL) {
        mem_free(i);
        return;
    }
    i->p = container_of(d->tree, struct put, tree);
    int rc = look_at(i);
    cli_into_values(&i->base);
    cli_tree_item_begin(&i->base, rc);
}

static void begin(struct tree_dir *d, const char *name, const struct opendfs_stat *st)
{
    (void)st; /* of this machine */
    begin_item(d, cli_join(d->local, name), name);
}

/* ---- The command ---- */

static void measure(struct tree *t, const char *path, struct list *stack)
{
    struct disk_local_attr a;
    CLEANUP(mem_freep) struct disk_names *names = NULL;
    bool known = disk_local_lstat(path, &a) == 0;
    if (known && S_ISREG(a.mode)) {
        t->copy.bytes_total += a.size_bytes;
        t->copy.files_total++;
    } else if (known && S_ISDIR(a.mode) && disk_local_list(path, &names) == 0) {
        for (size_t i = 0; i < names->count; i++) {
            cli_tree_push(stack, cli_join(path, names->name[i]));
        }
    }
}

/* A source without a name of its own ("." or "/"): what is in it goes into the destination. */
static void put_contents(struct tree_dir *top, const char *source)
{
    struct tree *t = top->tree;
    struct disk_local_attr a;
    struct tree_dir *d = NULL;
    int rc = disk_local_stat(source, &a);
    rc = rc == 0 && !S_ISDIR(a.mode) ? -ENOTDIR : rc;
    if (rc == 0) {
        d = cli_tree_dir_new(t, top, mem_strdup(source), mem_strdup(top->path));
    }
    if (d == NULL) {
        cli_copy_fail(&t->copy, source, rc < 0 ? rc : -ENOMEM);
        return;
    }
    d->mask = values_of(container_of(t, struct put, tree), &a, &d->values);
    d->ino = top->ino;
    cli_tree_dir_ready(d);
}

/* Under `name`, or under its own (NULL). */
static void put_source(struct tree_dir *top, const char *source, const char *name)
{
    struct tree *t = top->tree;
    CLEANUP(mem_freep) char *clean = mem_strdup(source);
    if (clean == NULL) {
        cli_copy_fail(&t->copy, source, -ENOMEM);
        return;
    }
    for (size_t n = strlen(clean); n > 1 && clean[n - 1] == '/'; n--) {
        clean[n - 1] = 0;
    }
    const char *base = cli_copy_base_name(clean);
    if (name != NULL) {
        begin_item(top, mem_strdup(clean), name);
    } else if (base[0] == 0) {
        put_contents(top, source);
    } else if (strcmp(source, LOCAL_PATH_STANDARD) == 0) {
        t->copy.failed++;
        cli_fail(t->c, "-: standard input needs a name: %s is a directory", top->path);
    } else {
        begin_item(top, mem_strdup(clean), base);
    }
}

static void put_sources(struct put *p, const struct copy_destination *to)
{
    struct cli *c = p->tree.c;
    struct tree_dir *top = cli_tree_dir_new(&p->tree, NULL, mem_strdup(""), mem_strdup(to->path));
    if (top == NULL) {
        cli_copy_fail(&p->tree.copy, to->path, -ENOMEM);
        return;
    }
    top->top = true;
    top->ino = to->ino;
    for (size_t i = 0; i + 1 < c->argument_count; i++) {
        put_source(top, c->argument[i], to->name);
    }
    cli_tree_unpend(top);
    cli_tree_run(&p->tree);
}

static const struct tree_ops put_ops = {.follow_found = true,
                                        .walk = cli_tree_walk_names,
                                        .begin = begin,
                                        .start = start_item,
                                        .free_item = free_item,
                                        .finish_dir = cli_into_finish_dir,
                                        .measure = measure,
                                        .begin_piece = cli_put_file_begin_piece,
                                        .all_pieces = cli_into_close,
                                        .file_made = cli_into_finish};

int cli_run_put(struct cli *c)
{
    struct put p = {0};
    struct copy_destination to = {0};
    int status = cli_connect(c);
    status = status != 0 ? status : cli_copy_find_destination(c, c->argument_count > 2, &to);
    if (status == 0) {
        cli_tree_begin(&p.tree, c, "put", &put_ops);
        p.tree.copy.owner = p.tree.copy.owner && !cli_flag(c, "no-owner");
        p.tree.xattrs = cli_flag(c, "xattrs");
        list_init(&p.buffers);
        for (size_t i = 0;
             cli_terminal_is_one(c->terminal) && !c->quiet && i + 1 < c->argument_count; i++) {
            cli_tree_measure(&p.tree, c->argument[i]);
        }
        put_sources(&p, &to);
        cli_put_buffers_free(&p);
        status = cli_tree_end(&p.tree);
    }
    cli_copy_destination_fini(&to);
    return status;
}
