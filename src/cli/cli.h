/*
 * cli/cli.h -- the command line: one table of commands, from which parsing, `help` and usage errors
 * come.
 *
 * A command runs on the main thread and may block. Results go to standard output, everything else
 * to standard error. Exit status: 0 all was done; 1 something failed (each failure was named with
 * path and cause); 2 the command line is wrong.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

struct cli;
struct opendfs;

#define CLI_OPTIONS_MAX 24u
#define CLI_EXIT_FAILED 1
#define CLI_EXIT_USAGE 2

struct cli_option {
    const char *name;  /* "recursive"; NULL ends a table */
    char letter;       /* 0: none */
    const char *value; /* what stands behind it in the help: "DIR"; NULL: it is a flag */
    const char *help;
};
struct cli_command {
    const char *name;                 /* one word, or two: "quota set" */
    const char *arguments;            /* "SOURCE... DESTINATION" */
    const char *summary;              /* one line, small letter, no stop */
    const char *details;              /* paragraphs; may be NULL */
    const struct cli_option *options; /* may be NULL */
    unsigned min_arguments, max_arguments;
    bool hidden; /* for the processes of the system itself */
    bool counts; /* with --json it ends with {"done":N,"failed":N} */
    bool words;  /* its long options may also begin with one hyphen: "-name" */
    int (*run)(struct cli *c);
};

struct cli_options {
    const struct cli_command *commands; /* of the assembling program, beside those of cli/ */
    size_t command_count;
    const char *program; /* path of this executable, for starting servers; NULL: found by itself */
};
/* Parses and runs; returns the exit status. */
int cli_main(const struct cli_options *opt, int argc, char **argv);

/* What a command sees. */
const char *cli_value(const struct cli *c, const char *option); /* NULL: not given */
const char *cli_argument(const struct cli *c, size_t i);        /* NULL: there are fewer */
bool cli_flag(const struct cli *c, const char *option);
bool cli_json(const struct cli *c); /* --json: each line of standard output is an object */
/* A client of the cluster that was chosen, or of that in `wanted`, from which secret, timeout and
 * cache are taken, too: 0 or an exit status, after having said why. Ended by cli_main(). */
struct opendfs_options;
int cli_client(struct cli *c, const struct opendfs_options *wanted, struct opendfs **ret);
const char *cli_cluster(const struct cli *c); /* by -C or the environment; NULL: not said */
/* What is mounted on this machine, or on `only` (NULL: all), and what it does: 0 or an exit status.
 */
int cli_mounts_show(struct cli *c, const char *only);
struct loop *cli_loop(struct cli *c); /* of the main thread */
/* "opendfs put: /x: No space left on device" to standard error, above a progress bar if there is
 * one. Returns CLI_EXIT_FAILED, or CLI_EXIT_USAGE for cli_usage() (which adds where help is). */
int cli_fail(const struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
int cli_usage(const struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* For people, on standard error unless --quiet. */
void cli_say(const struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
