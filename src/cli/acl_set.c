/*
 * cli/acl_set.c -- setfacl. Each name is a job: its lists are asked for, changed, and what differs
 * is stored. With -R the walk goes on while up to WALK_PARALLEL of them are under way; names below
 * are found by the number of their directory, so that nothing that others put in place of one leads
 * elsewhere, and symbolic links are left alone.
 */
#include "cli/acl_priv.h"
#include "cli/walk_priv.h"
#include "opendfs/xattr.h"

#include "base/mem.h"

#include <string.h>

const struct cli_option cli_setfacl_options[] = {
    {"modify", 'm', "ENTRY,...", "set these entries"},
    {"remove", 'x', "ENTRY,...", "remove these entries; they have no rights"},
    {"remove-all", 'b', NULL, "remove all entries but those that a mode has"},
    {"remove-default", 'k', NULL, "remove the default list"},
    {"default", 'd', NULL, "the entries are of the default list"},
    {"recursive", 'R', NULL, "directories with all that is in them"},
    {NULL, 0, NULL, NULL},
};

struct acl_set {
    struct walk walk;
    bool recursive;
};
struct acl_job {
    struct cli_job job;
    struct acl_set *s;
    uint64_t at;      /* where `name` begins */
    const char *name; /* inside of `path` */
    struct opendfs_stat stat;
    struct cli_acls was, now;
    struct opendfs_xattr xattr;
    uint8_t value[PROTO_ACL_VALUE_MAX];
    char path[];
};

/* ---- One name ---- */

static void job_end(struct acl_job *a)
{
    struct walk *w = &a->s->walk;
    mem_free(a);
    w->running--;
    loop_stop(w->c->loop, 0);
}

static void job_fail(struct acl_job *a, const struct opendfs_op *op)
{
    struct walk *w = &a->s->walk;
    w->status = cli_fail_at(w->c, a->path, op);
    job_end(a);
}

static struct opendfs_op *prepare(struct acl_job *a, void (*finished)(struct cli_job *j))
{
    cli_job_prepare(a->s->walk.c, &a->job, finished);
    a->job.op.at = a->at;
    return &a->job.op;
}

static void ask(struct acl_job *a, const char *name, void (*came)(struct cli_job *j))
{
    struct opendfs *fs = a->s->walk.c->fs;
    struct opendfs_op *op = prepare(a, came);
    if (a->s->recursive) {
        opendfs_async_lgetxattr(fs, op, a->name, name, a->value, sizeof a->value);
    } else {
        opendfs_async_getxattr(fs, op, a->name, name, a->value, sizeof a->value);
    }
}

static void store(struct acl_job *a, const char *name, const struct cli_acl *acl,
                  void (*stored)(struct cli_job *j))
{
    struct opendfs *fs = a->s->walk.c->fs;
    struct opendfs_op *op = prepare(a, stored);
    a->xattr = (struct opendfs_xattr){
        .name = name, .value = a->value, .size = cli_acl_value(acl, a->value)};
    if (a->s->recursive) {
        opendfs_async_lsetxattr(fs, op, a->name, &a->xattr);
    } else {
        opendfs_async_setxattr(fs, op, a->name, &a->xattr);
    }
}

static void remove_default(struct acl_job *a, void (*removed)(struct cli_job *j))
{
    struct opendfs *fs = a->s->walk.c->fs;
    struct opendfs_op *op = prepare(a, removed);
    if (a->s->recursive) {
        opendfs_async_lremovexattr(fs, op, a->name, PROTO_ACL_DEFAULT);
    } else {
        opendfs_async_removexattr(fs, op, a->name, PROTO_ACL_DEFAULT);
    }
}

static bool same_list(const struct cli_acl *a, const struct cli_acl *b)
{
    uint8_t one[PROTO_ACL_VALUE_MAX], two[PROTO_ACL_VALUE_MAX];
    size_t len = cli_acl_value(a, one);
    return len == cli_acl_value(b, two) && memcmp(one, two, len) == 0;
}

static void access_stored(struct cli_job *j)
{
    struct acl_job *a = container_of(j, struct acl_job, job);
    if (j->op.result < 0) {
        job_fail(a, &j->op);
        return;
    }
    cli_done(a->s->walk.c);
    job_end(a);
}

static void store_access(struct acl_job *a)
{
    if (same_list(&a->now.access, &a->was.access)) {
        cli_done(a->s->walk.c);
        job_end(a);
        return;
    }
    store(a, PROTO_ACL_ACCESS, &a->now.access, access_stored);
}

static void default_stored(struct cli_job *j)
{
    struct acl_job *a = container_of(j, struct acl_job, job);
    if (j->op.result < 0) {
        job_fail(a, &j->op);
        return;
    }
    store_access(a);
}

/* What has changed, the default list first: when the second fails, nobody has got more rights. */
static void store_both(struct acl_job *a)
{
    const struct cli_acl *now = &a->now.inherit, *was = &a->was.inherit;
    if (now->present && (!was->present || !same_list(now, was))) {
        store(a, PROTO_ACL_DEFAULT, now, default_stored);
    } else if (!now->present && was->present) {
        remove_default(a, default_stored);
    } else {
        store_access(a);
    }
}

static int change_by(struct cli *c, struct cli_acls *acls, const char *option, bool remove,
                     struct err *e)
{
    const char *spec = cli_value(c, option);
    return spec == NULL ? 0 : cli_acl_change(acls, spec, remove, cli_flag(c, "default"), e);
}

/* As the command line says. */
static int change(struct cli *c, struct cli_acls *acls, struct err *e)
{
    if (cli_flag(c, "remove-all")) {
        cli_acl_strip(acls);
    }
    if (cli_flag(c, "remove-default")) {
        acls->inherit.present = false;
    }
    int rc = change_by(c, acls, "remove", true, e);
    return rc < 0 ? rc : change_by(c, acls, "modify", false, e);
}

/* The lists that were there are known. */
static void known(struct acl_job *a)
{
    struct walk *w = &a->s->walk;
    struct err e = {0};
    a->now = a->was; /* the entries that its lists point to are those of before: */
    a->now.access.list.entries.at = a->now.access.entry;
    a->now.inherit.list.entries.at = a->now.inherit.entry;
    int rc = change(w->c, &a->now, &e);
    if (rc < 0) {
        w->status = cli_usage(w->c, "%s: %s", a->path, err_message(&e, rc));
        job_end(a);
        return;
    }
    store_both(a);
}

/* False: the job has ended. */
static bool take(struct acl_job *a, struct cli_acl *acl)
{
    struct walk *w = &a->s->walk;
    const struct opendfs_op *op = &a->job.op;
    struct err e = {0};
    if (op->result < 0 && op->result != -ENODATA) {
        job_fail(a, op);
        return false;
    }
    int rc = cli_acl_load(acl, a->value, op->result < 0 ? 0 : (size_t)op->result, a->stat.mode, &e);
    if (rc < 0) {
        w->status = cli_fail(w->c, "%s: %s", a->path, err_message(&e, rc));
        job_end(a);
    }
    return rc == 0;
}

static void default_came(struct cli_job *j)
{
    struct acl_job *a = container_of(j, struct acl_job, job);
    if (take(a, &a->was.inherit)) {
        known(a);
    }
}

static void access_came(struct cli_job *j)
{
    struct acl_job *a = container_of(j, struct acl_job, job);
    if (!take(a, &a->was.access)) {
        return;
    }
    if (a->was.directory) {
        ask(a, PROTO_ACL_DEFAULT, default_came);
    } else {
        known(a);
    }
}

static void start(struct acl_set *s, const struct walk_entry *e)
{
    struct walk *w = &s->walk;
    size_t size = strlen(e->path) + 1;
    struct acl_job *a = mem_zalloc(sizeof *a + size);
    if (a == NULL) {
        w->status = cli_fail_path(w->c, e->path, -ENOMEM);
        return;
    }
    memcpy(a->path, e->path, size);
    a->s = s;
    a->at = e->parent;
    a->name = e->parent == 0 ? a->path : strrchr(a->path, '/') + 1;
    a->stat = *e->stat;
    a->was.directory = e->stat->type == OPENDFS_TYPE_DIRECTORY;
    a->was.pass_over = s->recursive;
    w->running++;
    ask(a, PROTO_ACL_ACCESS, access_came);
    cli_walk_wait(w, WALK_PARALLEL);
}

/* ---- The walk ---- */

/* May the owner list and search a directory afterwards? Who else changes a list is root. 1: only
 * then; -1: not any more; 0: as before. */
static int changes_reading(const struct acl_set *s, const struct opendfs_stat *st)
{
    CLEANUP(mem_freep) struct cli_acls *acls = mem_zalloc(sizeof *acls);
    uint8_t was = (uint8_t)((st->mode >> 6) & 5U);
    if (acls == NULL || cli_acl_load(&acls->access, NULL, 0, st->mode, NULL) < 0 ||
        cli_acl_load(&acls->inherit, NULL, 0, 0, NULL) < 0) {
        return 0;
    }
    acls->directory = true;
    if (change(s->walk.c, acls, NULL) < 0) {
        return 0; /* each name will say so */
    }
    uint8_t now = acls->access.list.owner & 5U;
    return (was & (uint8_t)~now) != 0 ? -1 : now != was ? 1 : 0;
}

/* Is there nothing to do with it? */
static bool left_alone(const struct acl_set *s, const struct opendfs_stat *st)
{
    const struct cli *c = s->walk.c;
    bool access = cli_flag(c, "remove-all") ||
                  (!cli_flag(c, "default") &&
                   (cli_value(c, "modify") != NULL || cli_value(c, "remove") != NULL));
    bool directory = st->type == OPENDFS_TYPE_DIRECTORY;
    return s->recursive && (st->type == OPENDFS_TYPE_SYMLINK || (!directory && !access));
}

static void visit(struct walk *w, const struct walk_entry *e)
{
    struct acl_set *s = container_of(w, struct acl_set, walk);
    bool directory = e->stat->type == OPENDFS_TYPE_DIRECTORY;
    int reading = directory && s->recursive ? changes_reading(s, e->stat) : 0;
    if (reading >= 0 && !left_alone(s, e->stat)) { /* else behind what is in it, or not at all */
        start(s, e);
    }
    if (reading > 0) {
        cli_walk_wait(w, 1); /* only now may it be read */
    }
}

static void leave(struct walk *w, const struct walk_entry *e)
{
    struct acl_set *s = container_of(w, struct acl_set, walk);
    if (s->recursive && changes_reading(s, e->stat) < 0) {
        start(s, e);
    }
}

static void set_argument(struct acl_set *s, const char *argument)
{
    struct walk *w = &s->walk;
    CLEANUP(mem_freep) char *path = cli_path(w->c, argument);
    struct opendfs_stat st;
    if (path == NULL) {
        w->status = CLI_EXIT_USAGE;
    } else if ((s->recursive ? opendfs_lstat(w->c->fs, path, &st)
                             : opendfs_stat(w->c->fs, path, &st)) < 0) {
        w->status = cli_fail_op(w->c, NULL);
    } else {
        cli_walk(w, path, &st);
    }
    if (!s->recursive) {
        cli_walk_wait(w, 1); /* a wrong entry is told once */
    }
}

/* An entry that is none for any file is told before anything is changed. */
static int check_entries(struct cli *c)
{
    struct err e = {0};
    CLEANUP(mem_freep) struct cli_acls *acls = mem_zalloc(sizeof *acls);
    int rc = acls == NULL ? -ENOMEM : cli_acl_load(&acls->access, NULL, 0, 0, NULL);
    rc = rc < 0 ? rc : cli_acl_load(&acls->inherit, NULL, 0, 0, NULL);
    if (rc < 0) {
        return cli_fail(c, "%s", err_text(rc));
    }
    acls->directory = true;
    rc = change(c, acls, &e);
    return rc < 0 ? cli_usage(c, "%s", err_message(&e, rc)) : 0;
}

int cli_run_setfacl(struct cli *c)
{
    struct acl_set s = {.recursive = cli_flag(c, "recursive")};
    bool any = cli_value(c, "modify") != NULL || cli_value(c, "remove") != NULL ||
               cli_flag(c, "remove-all") || cli_flag(c, "remove-default");
    int status = any ? check_entries(c) : cli_usage(c, "nothing to do: -m, -x, -b or -k");
    status = status != 0 ? status : cli_connect(c);
    if (status != 0) {
        return status;
    }
    s.walk.c = c;
    s.walk.max_depth = s.recursive ? WALK_ANY_DEPTH : 0;
    s.walk.visit = visit;
    s.walk.leave = leave;
    for (size_t i = 0; i < c->argument_count && s.walk.status != CLI_EXIT_USAGE; i++) {
        set_argument(&s, c->argument[i]);
    }
    cli_walk_wait(&s.walk, 1);
    return s.walk.status;
}
