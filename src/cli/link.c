/* cli/link.c -- ln. */
#include "cli/cli_priv.h"
#include "cli/copy_priv.h"
#include "cli/tables_priv.h"

#include "base/mem.h"

#include <string.h>

static int make(struct cli *c, const char *target, const char *path)
{
    return cli_flag(c, "symbolic") ? opendfs_symlink(c->fs, target, path)
                                   : opendfs_link(c->fs, target, path);
}

static bool is_same(struct cli *c, const char *a, const char *b)
{
    struct opendfs_stat x, y;
    return opendfs_lstat(c->fs, a, &x) == 0 && opendfs_lstat(c->fs, b, &y) == 0 && x.ino == y.ino;
}

/* Under a temporary name beside it, which then takes its place in one step. */
static int replace(struct cli *c, const char *target, const char *path)
{
    const char *slash = strrchr(path, '/');
    CLEANUP(mem_freep)
    char *temporary = mem_printf("%.*s/.opendfs-ln-%016llx", (int)(slash - path), path,
                                 (unsigned long long)loop_random(c->loop));
    if (temporary == NULL) {
        return cli_fail_path(c, path, -ENOMEM);
    }
    if (!cli_flag(c, "symbolic") && is_same(c, target, path)) {
        cli_done(c); /* it is that link already */
        return 0;
    }
    int rc = make(c, target, temporary);
    if (rc < 0) {
        return cli_fail_path(c, path, rc);
    }
    rc = opendfs_rename(c->fs, temporary, path, 0);
    if (rc < 0) {
        (void)opendfs_unlink(c->fs, temporary); /* the failure to tell is the other one */
        return cli_fail_path(c, path, rc);
    }
    cli_done(c);
    return 0;
}

static int link_one(struct cli *c, const char *target, const char *path)
{
    int rc = make(c, target, path);
    if (rc == -EEXIST && cli_flag(c, "force")) {
        return replace(c, target, path);
    }
    if (rc < 0) {
        return cli_fail_op(c, NULL);
    }
    cli_done(c);
    return 0;
}

static int link_argument(struct cli *c, const char *argument, const char *to, bool into)
{
    bool symbolic = cli_flag(c, "symbolic");
    CLEANUP(mem_freep) char *target = symbolic ? mem_strdup(argument) : cli_path(c, argument);
    if (target == NULL) {
        return symbolic ? cli_fail_path(c, argument, -ENOMEM) : CLI_EXIT_USAGE;
    }
    const char *base = cli_copy_base_name(target);
    if (into && base[0] == 0) {
        return cli_fail(c, "%s: has no name that could be made in %s", argument, to);
    }
    CLEANUP(mem_freep) char *path = into ? cli_join(to, base) : mem_strdup(to);
    return path == NULL ? cli_fail_path(c, to, -ENOMEM) : link_one(c, target, path);
}

static int run_ln(struct cli *c)
{
    size_t last = c->argument_count - 1;
    struct opendfs_stat st;
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    CLEANUP(mem_freep) char *to = cli_path(c, c->argument[last]);
    if (to == NULL) {
        return CLI_EXIT_USAGE;
    }
    int rc = cli_flag(c, "no-dereference") ? opendfs_lstat(c->fs, to, &st)
                                           : opendfs_stat(c->fs, to, &st);
    if (rc < 0 && rc != -ENOENT) {
        return cli_fail_op(c, NULL);
    }
    bool into = rc == 0 && st.type == OPENDFS_TYPE_DIRECTORY;
    if (last > 1 && !into) {
        return cli_fail(c, "%s: not a directory, and there are several targets", to);
    }
    for (size_t i = 0; i < last && status != CLI_EXIT_USAGE; i++) {
        int one = link_argument(c, c->argument[i], to, into);
        status = one != 0 ? one : status;
    }
    return status;
}

static const struct cli_option ln_options[] = {
    {"symbolic", 's', NULL, "symbolic links: SOURCE is kept as it is written"},
    {"force", 'f', NULL, "replace what is there, in one step"},
    {"no-dereference", 'n', NULL, "a symbolic link at DESTINATION is no directory"},
    {NULL, 0, NULL, NULL},
};
const struct cli_command cli_link_commands[] = {
    {.name = "ln",
     .arguments = "SOURCE... DESTINATION",
     .summary = "make hard or symbolic links",
     .details = "Into DESTINATION when it is a directory; else DESTINATION becomes the new name. A "
                "hard link to a\nsymbolic link is one to the link itself.",
     .options = ln_options,
     .min_arguments = 2,
     .max_arguments = 100000u,
     .counts = true,
     .run = run_ln},
};
const size_t cli_link_command_count = ARRAY_COUNT(cli_link_commands);
