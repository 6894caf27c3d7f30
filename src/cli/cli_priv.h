/* cli/cli_priv.h -- shared by the commands of this folder. */
#pragma once

#include "cli/cli.h"
#include "cli/terminal.h"
#include "loop/loop.h"
#include "opendfs/async.h"

struct cJSON;

/* What a command has done, for the end of those that change things (cli_command.counts). */
struct cli_totals {
    uint64_t done, failed;
};
struct cli {
    const struct cli_options *opt;
    const struct cli_command *command;
    const char **argument;
    size_t argument_count;
    const char *value[CLI_OPTIONS_MAX]; /* by place in command->options; flags: "" */
    const char *cluster;
    bool json, quiet;
    struct cli_terminal *terminal; /* of standard error */
    struct loop *loop;             /* of the main thread */
    struct opendfs *fs;            /* connected by cli_connect() */
    struct cli_totals *totals;
};
/* One more of what the command is asked for was done; failures are counted by cli_fail(). */
void cli_done(const struct cli *c);

/*
 * An operation of the library whose end is heard on the main thread: zero it, start an
 * opendfs_async_...() on &j->op after cli_job_prepare(); `finished` comes from c->loop.
 */
struct cli_job {
    struct opendfs_op op;
    void (*finished)(struct cli_job *j);
    struct loop *loop;
    struct loop_message message;
};
void cli_job_prepare(struct cli *c, struct cli_job *j, void (*finished)(struct cli_job *j));
/* One operation that has no synchronous form: cli_wait_begin(), start it on the op that comes back,
 * cli_wait_end() gives its result. */
struct cli_wait {
    struct cli_job job;
    bool over;
};
struct opendfs_op *cli_wait_begin(struct cli *c, struct cli_wait *w);
int64_t cli_wait_end(struct cli *c, struct cli_wait *w);

/* A variable of the environment; NULL: not set, or empty. */
const char *cli_environment(const char *name);
/* Connects to the chosen cluster once; 0 or an exit status, after having said why. */
NODISCARD int cli_connect(struct cli *c);
/* A path inside the cluster from the command line: absolute, "." and ".." and double slashes
 * resolved by text, mem_free()d by the caller. NULL: said why (then the exit status is 2). */
NODISCARD char *cli_path(const struct cli *c, const char *text);
/* Parent + "/" + name; NULL: no memory. */
NODISCARD char *cli_join(const char *parent, const char *name);
/* "opendfs put: PATH: cause". */
int cli_fail_path(const struct cli *c, const char *path, int64_t rc);
/* The library's own words for a failed operation; for the last synchronous one when `op` is NULL.
 */
int cli_fail_op(const struct cli *c, const struct opendfs_op *op);
/* The same for one that was given another name than the user knows: "path: cause". */
int cli_fail_at(const struct cli *c, const char *path, const struct opendfs_op *op);
/* For a person's screen: control bytes shown as '?'. `out` has len + 1 bytes. */
void cli_printable(const char *name, size_t len, char *out);
/* To standard output: as it is, or cli_printable() when that is a screen. */
void cli_print_name(const char *name);
/* On one line; takes `json` over. */
void cli_print_json(struct cJSON *json);
/* JSON has no bytes: what is not UTF-8 is shown as \xNN, and then KEY_hex has the truth. */
void cli_json_add_name(struct cJSON *o, const char *key, const char *name);
/* An object with a path, and a number that may be beyond 2^53: as text. */
struct cJSON *cli_json_of_path(const char *path);
void cli_json_add_i64(struct cJSON *o, const char *name, int64_t v);
struct cJSON *cli_stat_to_json(const char *path, const struct opendfs_stat *st);

/* "drwxr-xr-x" */
#define CLI_MODE_SIZE 11u
void cli_mode_to_text(const struct opendfs_stat *st, char out[CLI_MODE_SIZE]);
/* "2026-11-21 10:15" of local time. */
#define CLI_TIME_SIZE 40u
void cli_time_to_text(int64_t ns, bool with_ns, char out[CLI_TIME_SIZE]);
const char *cli_type_name(uint32_t type);

/* manual.c: a page of the manual, to standard output: opendfs(1) when `word` is NULL, else
 * opendfs-WORD(1), with all commands that begin with the word; false: there is none. */
bool cli_manual_page(const struct cli_options *opt, const char *word);
/* Is it the first one of its page? */
bool cli_manual_is_first(const struct cli_options *opt, const struct cli_command *k);

/* help.c */
void cli_help_command(const struct cli_command *k);
void cli_help_all(const struct cli_options *opt);
int cli_run_version(struct cli *c);
