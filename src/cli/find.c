/* cli/find.c -- find and tree: both go through a tree and print what they see, in order. */
#include "cli/cli_priv.h"
#include "cli/mode_priv.h"
#include "cli/tables_priv.h"
#include "cli/walk_priv.h"

#include "base/mem.h"
#include "base/text.h"

#include <cjson/cJSON.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_DAY (86400ll * 1000000000)

struct find {
    struct walk walk;
    const char *name, *iname;
    uint32_t type; /* 0: any */
    bool with_size, with_age, with_newer, print0, delete, empty;
    struct size_test size, age_days;
    int64_t now_ns, newer_ns;
    unsigned min_depth;
};
struct removal_job {
    struct cli_job job;
    struct walk *walk;
    char path[];
};

static bool age_fits(const struct find *f, const struct opendfs_stat *st)
{
    int64_t age = f->now_ns - st->mtime_ns;
    return cli_size_test(&f->age_days, (uint64_t)(age < 0 ? 0 : age / NS_PER_DAY));
}

static bool fits(const struct find *f, const struct walk_entry *e)
{
    const struct opendfs_stat *st = e->stat;
    return e->depth >= f->min_depth && (f->name == NULL || fnmatch(f->name, e->name, 0) == 0) &&
           (f->iname == NULL || fnmatch(f->iname, e->name, FNM_CASEFOLD) == 0) &&
           (f->type == 0 || st->type == f->type) &&
           (!f->empty || (st->type == OPENDFS_TYPE_FILE && st->size_bytes == 0)) &&
           (!f->with_size ||
            (st->type == OPENDFS_TYPE_FILE && cli_size_test(&f->size, st->size_bytes))) &&
           (!f->with_age || age_fits(f, st)) && (!f->with_newer || st->mtime_ns > f->newer_ns);
}

static void found(struct find *f, const struct walk_entry *e)
{
    if (f->walk.c->json) {
        cli_print_json(cli_stat_to_json(e->path, e->stat));
    } else if (f->print0) {
        fwrite(e->path, strlen(e->path) + 1, 1, stdout);
    } else {
        cli_print_name(e->path);
        putchar('\n');
    }
}

static void removed(struct cli_job *j)
{
    struct removal_job *job = container_of(j, struct removal_job, job);
    struct walk *w = job->walk;
    if (j->op.result < 0) {
        w->status = cli_fail_at(w->c, job->path, &j->op);
    }
    mem_free(job);
    w->running--;
    loop_stop(w->c->loop, 0);
}

static void remove_one(struct find *f, const struct walk_entry *e)
{
    struct walk *w = &f->walk;
    size_t size = strlen(e->path) + 1;
    struct removal_job *job = mem_zalloc(sizeof *job + size);
    if (job == NULL) {
        w->status = cli_fail_path(w->c, e->path, -ENOMEM);
        return;
    }
    job->walk = w;
    memcpy(job->path, e->path, size);
    cli_job_prepare(w->c, &job->job, removed);
    if (e->stat->type == OPENDFS_TYPE_DIRECTORY) {
        cli_walk_wait(w, 1); /* what is in it goes first */
        opendfs_async_rmdir(w->c->fs, &job->job.op, job->path);
    } else {
        opendfs_async_unlink(w->c->fs, &job->job.op, job->path);
    }
    w->running++;
    cli_walk_wait(w, WALK_PARALLEL);
}

/* With --delete a directory is dealt with when it is left. */
static void find_visit(struct walk *w, const struct walk_entry *e)
{
    struct find *f = container_of(w, struct find, walk);
    if ((f->delete &&e->stat->type == OPENDFS_TYPE_DIRECTORY) || !fits(f, e)) {
        return;
    }
    found(f, e);
    if (f->delete) {
        remove_one(f, e);
    }
}

static void find_leave(struct walk *w, const struct walk_entry *e)
{
    struct find *f = container_of(w, struct find, walk);
    if (f->delete &&e->depth > 0 && fits(f, e)) {
        found(f, e);
        remove_one(f, e);
    }
}

/* ---- What is looked for ---- */

static int depth_option(struct cli *c, const char *option, unsigned otherwise, unsigned *ret)
{
    const char *text = cli_value(c, option);
    uint64_t v = otherwise;
    if (text != NULL && (text_to_u64(text, &v) < 0 || v > UINT32_MAX - 1)) {
        return cli_usage(c, "--%s '%s' is not a number", option, text);
    }
    *ret = (unsigned)v;
    return 0;
}

static int type_option(struct cli *c, uint32_t *ret)
{
    static const char letters[] = "fdlpscb";
    static const uint32_t types[] = {
        OPENDFS_TYPE_FILE,   OPENDFS_TYPE_DIRECTORY, OPENDFS_TYPE_SYMLINK, OPENDFS_TYPE_FIFO,
        OPENDFS_TYPE_SOCKET, OPENDFS_TYPE_CHAR,      OPENDFS_TYPE_BLOCK};
    const char *text = cli_value(c, "type");
    const char *at = text == NULL || text[0] == 0 || text[1] != 0 ? NULL : strchr(letters, text[0]);
    if (text != NULL && at == NULL) {
        return cli_usage(c, "--type '%s': one of f d l p s c b", text);
    }
    *ret = at == NULL ? 0 : types[at - letters];
    return 0;
}

static int size_options(struct cli *c, struct find *f)
{
    const char *size = cli_value(c, "size"), *age = cli_value(c, "mtime");
    f->with_size = size != NULL;
    f->with_age = age != NULL;
    if (size != NULL && !cli_size_test_parse(size, true, &f->size)) {
        return cli_usage(c, "--size '%s': [+|-]N and one of c k M G T, or nothing", size);
    }
    if (age != NULL && !cli_size_test_parse(age, false, &f->age_days)) {
        return cli_usage(c, "--mtime '%s': [+|-]N, in days", age);
    }
    return 0;
}

static int newer_option(struct cli *c, struct find *f)
{
    const char *text = cli_value(c, "newer");
    f->with_newer = text != NULL;
    if (text == NULL || (text[0] != '/' && cli_time_parse(text, &f->newer_ns))) {
        return 0;
    }
    CLEANUP(mem_freep) char *path = cli_path(c, text);
    struct opendfs_stat st;
    if (path == NULL) {
        return CLI_EXIT_USAGE;
    }
    if (opendfs_stat(c->fs, path, &st) < 0) {
        return cli_fail_op(c, NULL);
    }
    f->newer_ns = st.mtime_ns;
    return 0;
}

/* Each PATH of the command line, or "/". */
static int walk_arguments(struct cli *c, struct walk *w, void (*between)(struct walk *w))
{
    int status = 0;
    size_t count = c->argument_count == 0 ? 1 : c->argument_count;
    for (size_t i = 0; i < count && status != CLI_EXIT_USAGE; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument_count == 0 ? "/" : c->argument[i]);
        struct opendfs_stat st;
        if (path == NULL) {
            status = CLI_EXIT_USAGE;
        } else if (opendfs_lstat(c->fs, path, &st) < 0) {
            status = cli_fail_op(c, NULL);
        } else {
            cli_walk(w, path, &st);
        }
    }
    cli_walk_wait(w, 1);
    if (between != NULL) {
        between(w);
    }
    return status != 0 ? status : w->status;
}

static int run_find(struct cli *c)
{
    struct find f = {.walk = {.c = c, .visit = find_visit, .leave = find_leave}};
    f.name = cli_value(c, "name");
    f.iname = cli_value(c, "iname");
    f.print0 = cli_flag(c, "print0");
    f.delete = cli_flag(c, "delete");
    f.empty = cli_flag(c, "empty");
    f.now_ns = (int64_t)loop_wall_ns(c->loop);
    int status = depth_option(c, "maxdepth", WALK_ANY_DEPTH - 1, &f.walk.max_depth);
    status = status != 0 ? status : depth_option(c, "mindepth", 0, &f.min_depth);
    status = status != 0 ? status : type_option(c, &f.type);
    status = status != 0 ? status : size_options(c, &f);
    status = status != 0 ? status : cli_connect(c);
    status = status != 0 ? status : newer_option(c, &f);
    return status != 0 ? status : walk_arguments(c, &f.walk, NULL);
}

/* ---- tree ---- */

#define TREE_DEPTH_MAX 2048u

struct tree_view {
    struct walk walk;
    bool ascii, sizes;
    bool open[TREE_DEPTH_MAX]; /* more follows at this depth */
    uint64_t directories, files;
};

static void print_branch(const struct tree_view *t, const struct walk_entry *e)
{
    static const char *const lines[2][4] = {{"\xe2\x94\x82   ", "    ",
                                             "\xe2\x94\x9c\xe2\x94\x80\xe2\x94\x80 ",
                                             "\xe2\x94\x94\xe2\x94\x80\xe2\x94\x80 "},
                                            {"|   ", "    ", "|-- ", "`-- "}};
    const char *const *line = lines[t->ascii ? 1 : 0];
    for (unsigned i = 1; i < e->depth; i++) {
        fputs(line[t->open[i % TREE_DEPTH_MAX] ? 0 : 1], stdout);
    }
    fputs(e->depth == 0 ? "" : line[e->last ? 3 : 2], stdout);
}

static void print_end(const struct tree_view *t, const struct walk_entry *e)
{
    char size[TEXT_UNIT_SIZE], target[4096];
    if (e->stat->type == OPENDFS_TYPE_SYMLINK &&
        opendfs_readlink(t->walk.c->fs, e->path, target, sizeof target) >= 0) {
        fputs(" -> ", stdout);
        cli_print_name(target);
    }
    if (t->sizes && e->stat->type == OPENDFS_TYPE_FILE) {
        printf("  [%s]", text_from_bytes(e->stat->size_bytes, size));
    }
    putchar('\n');
}

static void tree_visit(struct walk *w, const struct walk_entry *e)
{
    struct tree_view *t = container_of(w, struct tree_view, walk);
    bool directory = e->stat->type == OPENDFS_TYPE_DIRECTORY;
    t->directories += directory && e->depth > 0 ? 1 : 0;
    t->files += directory ? 0 : 1;
    if (w->c->json) {
        cli_print_json(cli_stat_to_json(e->path, e->stat));
        return;
    }
    t->open[e->depth % TREE_DEPTH_MAX] = !e->last;
    print_branch(t, e);
    cli_print_name(e->depth == 0 ? e->path : e->name);
    print_end(t, e);
}

static void tree_end(struct walk *w)
{
    const struct tree_view *t = container_of(w, struct tree_view, walk);
    if (!w->c->json) {
        printf("\n%llu director%s, %llu file%s\n", (unsigned long long)t->directories,
               t->directories == 1 ? "y" : "ies", (unsigned long long)t->files,
               t->files == 1 ? "" : "s");
    }
}

/* As the shell's other programs decide it: UTF-8 or not. */
static bool is_utf8(void)
{
    const char *names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        const char *value = cli_environment(names[i]);
        if (value != NULL) {
            return strstr(value, "UTF-8") != NULL || strstr(value, "utf8") != NULL;
        }
    }
    return false;
}

static int run_tree(struct cli *c)
{
    CLEANUP(mem_freep) struct tree_view *t = mem_zalloc(sizeof *t);
    if (t == NULL) {
        return cli_fail(c, "%s", err_text(-ENOMEM));
    }
    t->walk.c = c;
    t->walk.visit = tree_visit;
    t->ascii = !is_utf8();
    t->sizes = cli_flag(c, "size");
    int status = depth_option(c, "maxdepth", WALK_ANY_DEPTH - 1, &t->walk.max_depth);
    status = status != 0 ? status : cli_connect(c);
    return status != 0 ? status : walk_arguments(c, &t->walk, tree_end);
}

/* ---- The table ---- */

static const struct cli_option find_options[] = {
    {"name", 0, "GLOB", "the name, without its directory, fits: * ? [abc]"},
    {"iname", 0, "GLOB", "the same, a and A are one"},
    {"type", 0, "f|d|l|p|s|c|b", "file, directory, symbolic link, fifo, socket, device"},
    {"size", 0, "N", "files of N bytes; +N: more, -N: less; k M G T behind it: units of 1024"},
    {"empty", 0, NULL, "files without contents"},
    {"mtime", 0, "N", "last changed N days ago; +N: longer, -N: less"},
    {"newer", 0, "PATH|TIME", "changed later than that file, or than \"2026-11-21 10:15\""},
    {"maxdepth", 0, "N", "go N levels down; 0: only the names themselves"},
    {"mindepth", 0, "N", "leave out what is less deep"},
    {"print0", '0', NULL, "a NUL behind each path, for xargs -0"},
    {"delete", 0, NULL, "remove what is found, directories behind what is in them"},
    {NULL, 0, NULL, NULL},
};
static const struct cli_option tree_options[] = {
    {"maxdepth", 'L', "N", "go N levels down"},
    {"size", 's', NULL, "sizes of files"},
    {NULL, 0, NULL, NULL},
};
const struct cli_command cli_find_commands[] = {
    {.name = "find",
     .arguments = "[PATH...]",
     .summary = "look for names in a tree",
     .details = "Prints what all the given options fit, in the order of the paths. Symbolic links "
                "are not followed.\nThe options may also be written with one hyphen. With "
                "--delete the PATHs themselves stay.",
     .options = find_options,
     .max_arguments = 100000u,
     .words = true,
     .run = run_find},
    {.name = "tree",
     .arguments = "[PATH...]",
     .summary = "draw a tree",
     .options = tree_options,
     .max_arguments = 100000u,
     .run = run_tree},
};
const size_t cli_find_command_count = ARRAY_COUNT(cli_find_commands);
