/* cli/names.c -- stat, mkdir, mv; the table of names. (ls and rm have files of their own.) */
#include "cli/change_priv.h"
#include "cli/cli_priv.h"
#include "cli/ls_priv.h"
#include "cli/mode_priv.h"
#include "cli/remove_priv.h"
#include "cli/tables_priv.h"

#include "base/mem.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

/* ---- stat ---- */

/* `target`: of a symbolic link, else NULL. */
static void print_stat(const char *path, const struct opendfs_stat *st, const char *target)
{
    char mode[CLI_MODE_SIZE], time[CLI_TIME_SIZE];
    cli_mode_to_text(st, mode);
    printf("  path: ");
    cli_print_name(path);
    if (target != NULL) {
        printf(" -> ");
        cli_print_name(target);
    }
    printf("\n  type: %s\n  size: %llu bytes, %llu allocated\n", cli_type_name(st->type),
           (unsigned long long)st->size_bytes, (unsigned long long)st->allocated_bytes);
    char user[CLI_OWNER_SIZE], group[CLI_OWNER_SIZE];
    printf("  mode: %04o (%s)\n owner: uid %u (%s), gid %u (%s)\n links: %u\n inode: %llu\n",
           st->mode & 07777u, mode, st->uid, cli_user_to_text(st->uid, false, user), st->gid,
           cli_group_to_text(st->gid, false, group), st->nlink, (unsigned long long)st->ino);
    const struct {
        const char *name;
        int64_t ns;
    } times[] = {{"modify", st->mtime_ns},
                 {"change", st->ctime_ns},
                 {"access", st->atime_ns},
                 {" birth", st->btime_ns}};
    for (size_t i = 0; i < ARRAY_COUNT(times); i++) {
        cli_time_to_text(times[i].ns, true, time);
        printf("%s: %s\n", times[i].name, time);
    }
}

static int stat_one(struct cli *c, const char *path)
{
    struct opendfs_stat st;
    char target[4096];
    if (opendfs_lstat(c->fs, path, &st) < 0) {
        return cli_fail_op(c, NULL);
    }
    bool link = st.type == OPENDFS_TYPE_SYMLINK;
    if (link && opendfs_readlink(c->fs, path, target, sizeof target) < 0) {
        return cli_fail_op(c, NULL);
    }
    if (!c->json) {
        print_stat(path, &st, link ? target : NULL);
        return 0;
    }
    struct cJSON *o = cli_stat_to_json(path, &st);
    if (link) {
        cli_json_add_name(o, "target", target);
    }
    cli_print_json(o);
    return 0;
}

static int run_stat(struct cli *c)
{
    int status = cli_connect(c);
    for (size_t i = 0; status != CLI_EXIT_USAGE && c->fs != NULL && i < c->argument_count; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument[i]);
        int one = path == NULL ? CLI_EXIT_USAGE : stat_one(c, path);
        status = one != 0 ? one : status;
    }
    return status;
}

/* ---- mkdir ---- */

static int parse_mode(struct cli *c, uint32_t *ret)
{
    const char *text = cli_value(c, "mode");
    struct mode_change m;
    if (text != NULL && !cli_mode_parse(text, cli_umask(), &m)) {
        return cli_usage(c, "'%s' is no mode: an octal number up to 7777, or as u=rwx,go=rx", text);
    }
    *ret = text == NULL ? 0755 : cli_mode_apply(&m, 0777, true);
    return 0;
}

static int run_mkdir(struct cli *c)
{
    uint32_t mode = 0;
    int status = parse_mode(c, &mode);
    status = status != 0 ? status : cli_connect(c);
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < c->argument_count; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument[i]);
        if (path == NULL) {
            return CLI_EXIT_USAGE;
        }
        int rc = cli_flag(c, "parents") ? opendfs_make_directories(c->fs, path, mode)
                                        : opendfs_mkdir(c->fs, path, mode);
        if (rc < 0) {
            status = cli_fail_op(c, NULL);
        } else {
            cli_done(c);
        }
    }
    return status;
}

/* ---- mv ---- */

static int move_one(struct cli *c, const char *from, const char *to, bool into)
{
    CLEANUP(mem_freep) char *inside = into ? cli_join(to, strrchr(from, '/') + 1) : NULL;
    if (into && inside == NULL) {
        return cli_fail_path(c, from, -ENOMEM);
    }
    to = into ? inside : to;
    unsigned flags = cli_flag(c, "no-replace") ? OPENDFS_RENAME_NOREPLACE : 0;
    int rc = opendfs_rename(c->fs, from, to, flags);
    size_t len = strlen(from);
    if (err_is(rc, EINVAL) && strncmp(from, to, len) == 0 && to[len] == '/') {
        return cli_fail(c, "%s cannot be moved into itself, to %s", from, to);
    }
    if (rc < 0) {
        return cli_fail_op(c, NULL);
    }
    cli_done(c);
    return 0;
}

static int run_mv(struct cli *c)
{
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    size_t last = c->argument_count - 1;
    CLEANUP(mem_freep) char *to = cli_path(c, c->argument[last]);
    if (to == NULL) {
        return CLI_EXIT_USAGE;
    }
    struct opendfs_stat st;
    int rc = opendfs_stat(c->fs, to, &st);
    if (rc < 0 && rc != -ENOENT) {
        return cli_fail_op(c, NULL);
    }
    bool into = rc == 0 && st.type == OPENDFS_TYPE_DIRECTORY;
    if (last > 1 && !into) {
        return cli_fail(c, "%s: not a directory, and there are several sources", to);
    }
    for (size_t i = 0; i < last; i++) {
        CLEANUP(mem_freep) char *from = cli_path(c, c->argument[i]);
        if (from == NULL) {
            return CLI_EXIT_USAGE;
        }
        status = move_one(c, from, to, into) != 0 ? CLI_EXIT_FAILED : status;
    }
    return status;
}

/* ---- The table ---- */

static const struct cli_option ls_options[] = {
    {"long", 'l', NULL, "type and mode, links, owner, group, size, time"},
    {"recursive", 'R', NULL, "directories below as well"},
    {"directory", 'd', NULL, "the directory itself, not what is in it"},
    {"human", 'h', NULL, "sizes with units"},
    {"numeric", 'n', NULL, "as -l, users and groups by number"},
    {NULL, 0, NULL, NULL},
};
static const struct cli_option mkdir_options[] = {
    {"parents", 'p', NULL, "make what is missing above; no error when it is there"},
    {"mode", 'm', "MODE", "as of chmod; default 0755"},
    {NULL, 0, NULL, NULL},
};
static const struct cli_option mv_options[] = {
    {"no-replace", 'n', NULL, "fail when the destination is there"},
    {NULL, 0, NULL, NULL},
};
static const struct cli_option rm_options[] = {
    {"recursive", 'r', NULL, "directories with all that is in them"},
    {"force", 'f', NULL, "what is not there is no error"},
    {NULL, 0, NULL, NULL},
};
#define MANY 100000u
const struct cli_command cli_name_commands[] = {
    {.name = "ls",
     .arguments = "[PATH...]",
     .summary = "list directories",
     .options = ls_options,
     .max_arguments = MANY,
     .run = cli_run_ls},
    {.name = "stat",
     .arguments = "PATH...",
     .summary = "show all attributes of files",
     .min_arguments = 1,
     .max_arguments = MANY,
     .run = run_stat},
    {.name = "mkdir",
     .arguments = "PATH...",
     .summary = "make directories",
     .options = mkdir_options,
     .min_arguments = 1,
     .max_arguments = MANY,
     .counts = true,
     .run = run_mkdir},
    {.name = "mv",
     .arguments = "SOURCE... DESTINATION",
     .summary = "rename, move",
     .details = "Into DESTINATION when it is a directory; else SOURCE becomes DESTINATION, and a "
                "file of that\nname is replaced in one step.",
     .options = mv_options,
     .min_arguments = 2,
     .max_arguments = MANY,
     .counts = true,
     .run = run_mv},
    {.name = "rm",
     .arguments = "PATH...",
     .summary = "remove files and directories",
     .options = rm_options,
     .min_arguments = 1,
     .max_arguments = MANY,
     .counts = true,
     .run = cli_run_rm},
};
const size_t cli_name_command_count = ARRAY_COUNT(cli_name_commands);
