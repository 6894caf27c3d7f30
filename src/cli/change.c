/*
 * cli/change.c -- chmod, chown and touch. With -R the walk goes on while up to WALK_PARALLEL
 * changes are under way; each is about an inode that was seen, so that a directory whose rights
 * have just gone does not stand in the way of what is below it.
 */
#include "cli/change_priv.h"

#include "base/mem.h"
#include "cli/mode_priv.h"
#include "cli/tables_priv.h"
#include "cli/walk_priv.h"

#include <string.h>
#include <sys/stat.h>

struct change {
    struct walk walk;
    struct mode_change mode;
    struct owner_change owner;
    /* What one name is to get; 0: nothing. */
    unsigned (*values)(const struct change *h, const struct opendfs_stat *st,
                       struct opendfs_stat *ret);
};
struct change_job {
    struct cli_job job;
    struct walk *walk;
    struct opendfs_stat values;
    char path[];
};

static void changed(struct cli_job *j)
{
    struct change_job *job = container_of(j, struct change_job, job);
    struct walk *w = job->walk;
    if (j->op.result < 0) {
        w->status = cli_fail_at(w->c, job->path, &j->op);
    } else {
        cli_done(w->c);
    }
    mem_free(job);
    w->running--;
    loop_stop(w->c->loop, 0);
}

static void start(struct change *h, const char *path, const struct opendfs_stat *st)
{
    struct walk *w = &h->walk;
    size_t size = strlen(path) + 1;
    struct change_job *job = mem_zalloc(sizeof *job + size);
    if (job == NULL) {
        w->status = cli_fail_path(w->c, path, -ENOMEM);
        return;
    }
    unsigned mask = h->values(h, st, &job->values);
    if (mask == 0) {
        mem_free(job);
        return;
    }
    job->walk = w;
    memcpy(job->path, path, size);
    cli_job_prepare(w->c, &job->job, changed);
    w->running++;
    opendfs_async_setattr_ino(w->c->fs, &job->job.op, st->ino, &job->values, mask);
    cli_walk_wait(w, WALK_PARALLEL);
}

/* The owner's right to list and search a directory that is walked: bits that the change takes
 * (`gives`: brings). Who else changes modes is root, who needs none. */
static bool changes_reading(const struct change *h, const struct opendfs_stat *st, bool gives)
{
    struct opendfs_stat values = *st;
    if (st->type != OPENDFS_TYPE_DIRECTORY || h->walk.max_depth == 0 ||
        (h->values(h, st, &values) & OPENDFS_SET_MODE) == 0) {
        return false;
    }
    return ((gives ? values.mode & ~st->mode : st->mode & ~values.mode) & 0500) != 0;
}

/* A directory that we may not read after the change is changed behind what is in it. */
static bool is_late(const struct change *h, const struct opendfs_stat *st)
{
    return changes_reading(h, st, false);
}

static bool opens(const struct change *h, const struct opendfs_stat *st)
{
    return changes_reading(h, st, true);
}

static void visit(struct walk *w, const struct walk_entry *e)
{
    struct change *h = container_of(w, struct change, walk);
    if (!is_late(h, e->stat)) {
        start(h, e->path, e->stat);
        if (opens(h, e->stat)) {
            cli_walk_wait(w, 1); /* only now may it be read */
        }
    }
}

static void leave(struct walk *w, const struct walk_entry *e)
{
    struct change *h = container_of(w, struct change, walk);
    if (is_late(h, e->stat)) {
        start(h, e->path, e->stat);
    }
}

/* All arguments from `first` on. `follow`: a symbolic link means what it points to. */
static int change_all(struct change *h, struct cli *c, size_t first, bool follow)
{
    int status = 0;
    h->walk.c = c;
    h->walk.max_depth = cli_flag(c, "recursive") ? WALK_ANY_DEPTH : 0;
    h->walk.visit = visit;
    h->walk.leave = leave;
    for (size_t i = first; i < c->argument_count && status != CLI_EXIT_USAGE; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument[i]);
        struct opendfs_stat st;
        if (path == NULL) {
            status = CLI_EXIT_USAGE;
        } else if ((follow ? opendfs_stat(c->fs, path, &st) : opendfs_lstat(c->fs, path, &st)) <
                   0) {
            status = cli_fail_op(c, NULL);
        } else {
            cli_walk(&h->walk, path, &st);
        }
    }
    cli_walk_wait(&h->walk, 1);
    return status != 0 ? status : h->walk.status;
}

/* ---- chmod ---- */

static unsigned mode_values(const struct change *h, const struct opendfs_stat *st,
                            struct opendfs_stat *ret)
{
    if (st->type == OPENDFS_TYPE_SYMLINK) {
        return 0; /* met below a directory: its mode means nothing */
    }
    ret->mode = cli_mode_apply(&h->mode, st->mode, st->type == OPENDFS_TYPE_DIRECTORY);
    return OPENDFS_SET_MODE;
}

uint32_t cli_umask(void)
{
    mode_t mask = umask(022);
    (void)umask(mask);
    return mask;
}

static int run_chmod(struct cli *c)
{
    struct change h = {.values = mode_values};
    if (!cli_mode_parse(c->argument[0], cli_umask(), &h.mode)) {
        return cli_usage(c, "'%s' is no mode: an octal number up to 7777, or as u+rwx,go-w",
                         c->argument[0]);
    }
    int status = cli_connect(c);
    return status != 0 ? status : change_all(&h, c, 1, true);
}

/* ---- chown ---- */

static unsigned owner_values(const struct change *h, const struct opendfs_stat *st,
                             struct opendfs_stat *ret)
{
    (void)st;
    ret->uid = h->owner.uid;
    ret->gid = h->owner.gid;
    return (h->owner.set_uid ? OPENDFS_SET_UID : 0u) | (h->owner.set_gid ? OPENDFS_SET_GID : 0u);
}

static int run_chown(struct cli *c)
{
    struct change h = {.values = owner_values};
    const char *trouble = cli_owner_parse(c->argument[0], &h.owner);
    if (trouble != NULL) {
        return cli_usage(c, "'%s': %s", c->argument[0], trouble);
    }
    int status = cli_connect(c);
    return status != 0 ? status : change_all(&h, c, 1, !cli_flag(c, "no-dereference"));
}

/* ---- touch ---- */

struct touch {
    struct opendfs_stat values;
    unsigned mask;
};

static int touch_times(struct cli *c, struct touch *t)
{
    const char *date = cli_value(c, "date"), *stamp = cli_value(c, "time");
    bool both = cli_flag(c, "access") == cli_flag(c, "modify");
    bool access = both || cli_flag(c, "access"), modify = both || cli_flag(c, "modify");
    int64_t ns = 0;
    if (date != NULL && stamp != NULL) {
        return cli_usage(c, "either --date or --time");
    }
    if (date != NULL && !cli_time_parse(date, &ns)) {
        return cli_usage(c,
                         "'%s' is no time: \"2026-11-21 10:15:30\", with Z behind it for UTC, or "
                         "@SECONDS",
                         date);
    }
    if (stamp != NULL && !cli_time_parse_stamp(stamp, (int64_t)loop_wall_ns(c->loop), &ns)) {
        return cli_usage(c, "'%s' is no time: [[CC]YY]MMDDhhmm[.ss]", stamp);
    }
    t->values.atime_ns = t->values.mtime_ns = ns;
    bool now = date == NULL && stamp == NULL; /* the server's, whose clock all others see */
    t->mask = (access ? (now ? OPENDFS_SET_ATIME_NOW : OPENDFS_SET_ATIME) : 0u) |
              (modify ? (now ? OPENDFS_SET_MTIME_NOW : OPENDFS_SET_MTIME) : 0u);
    return 0;
}

static int set_times(struct cli *c, const char *path, uint64_t ino, const struct touch *t)
{
    struct cli_wait w;
    opendfs_async_setattr_ino(c->fs, cli_wait_begin(c, &w), ino, &t->values, t->mask);
    if (cli_wait_end(c, &w) < 0) {
        return cli_fail_at(c, path, &w.job.op);
    }
    cli_done(c);
    return 0;
}

static int touch_new(struct cli *c, const char *path, const struct touch *t)
{
    bool now = (t->mask & (OPENDFS_SET_ATIME_NOW | OPENDFS_SET_MTIME_NOW)) != 0;
    struct opendfs_file *file;
    struct opendfs_stat st = {0};
    int rc = opendfs_open(c->fs, path, OPENDFS_WRITE | OPENDFS_CREATE, 0666 & ~cli_umask(), &file);
    if (rc < 0) {
        return cli_fail_op(c, NULL);
    }
    rc = opendfs_fstat(file, &st);
    int closed = opendfs_close(file);
    if (rc < 0 || closed < 0) {
        return cli_fail_op(c, NULL);
    }
    if (now) {
        cli_done(c);
        return 0;
    }
    return set_times(c, path, st.ino, t);
}

static int touch_one(struct cli *c, const char *path, const struct touch *t)
{
    struct opendfs_stat st;
    int rc = cli_flag(c, "no-dereference") ? opendfs_lstat(c->fs, path, &st)
                                           : opendfs_stat(c->fs, path, &st);
    if (rc == 0) {
        return set_times(c, path, st.ino, t);
    }
    if (rc != -ENOENT) {
        return cli_fail_op(c, NULL);
    }
    return cli_flag(c, "no-create") ? 0 : touch_new(c, path, t);
}

static int run_touch(struct cli *c)
{
    struct touch t = {.mask = 0};
    int status = touch_times(c, &t);
    status = status != 0 ? status : cli_connect(c);
    for (size_t i = 0; c->fs != NULL && status != CLI_EXIT_USAGE && i < c->argument_count; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument[i]);
        int one = path == NULL ? CLI_EXIT_USAGE : touch_one(c, path, &t);
        status = one != 0 ? one : status;
    }
    return status;
}

/* ---- The table ---- */

static const struct cli_option chmod_options[] = {
    {"recursive", 'R', NULL, "directories with all that is in them"},
    {NULL, 0, NULL, NULL},
};
static const struct cli_option chown_options[] = {
    {"recursive", 'R', NULL, "directories with all that is in them"},
    {"no-dereference", 0, NULL, "a symbolic link itself, not what it points to"},
    {NULL, 0, NULL, NULL},
};
static const struct cli_option touch_options[] = {
    {"no-create", 'c', NULL, "what is not there is not made, and is no error"},
    {"access", 'a', NULL, "only the time of the last access"},
    {"modify", 'm', NULL, "only the time of the last change"},
    {"date", 'd', "TIME", "\"2026-11-21 10:15:30.5\" of local time, with Z of UTC; or @SECONDS"},
    {"time", 't', "STAMP", "[[CC]YY]MMDDhhmm[.ss]"},
    {"no-dereference", 0, NULL, "a symbolic link itself, not what it points to"},
    {NULL, 0, NULL, NULL},
};
#define MANY 100000u
const struct cli_command cli_change_commands[] = {
    {.name = "chmod",
     .arguments = "MODE PATH...",
     .summary = "change permissions",
     .details =
         "MODE is an octal number, which stands for all twelve bits, or a list as u+rwX,go-w,+t. "
         "With -R\nsymbolic links are left alone.",
     .options = chmod_options,
     .min_arguments = 2,
     .max_arguments = MANY,
     .counts = true,
     .run = run_chmod},
    {.name = "chown",
     .arguments = "OWNER PATH...",
     .summary = "change user and group",
     .details = "OWNER is USER, USER:GROUP, USER: (with the user's own group) or :GROUP, by the "
                "names that this\nmachine knows, or by number. With -R symbolic links below are "
                "changed themselves.",
     .options = chown_options,
     .min_arguments = 2,
     .max_arguments = MANY,
     .counts = true,
     .run = run_chown},
    {.name = "touch",
     .arguments = "PATH...",
     .summary = "set times, make empty files",
     .details = "Without a time: now, by the clock of the metadata server.",
     .options = touch_options,
     .min_arguments = 1,
     .max_arguments = MANY,
     .counts = true,
     .run = run_touch},
};
const size_t cli_change_command_count = ARRAY_COUNT(cli_change_commands);
