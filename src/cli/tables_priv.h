/*
 * cli/tables_priv.h -- all tables of commands, in the order of the help. A file with a new table
 * adds its line to CLI_TABLES and defines
 *
 *     const struct cli_command cli_NAME_commands[] = {...};
 *     const size_t cli_NAME_command_count = ARRAY_COUNT(cli_NAME_commands);
 *
 * Parsing, `help`, the manual pages and the completion of the shell all come from these tables. A
 * command of two words has both in its name ("quota set"): each with its own arguments and options;
 * one page of the manual for all that begin with the same word.
 */
#pragma once

#include "cli/cli.h"

/* X(NAME, "title of the group in the help"; NULL: it goes on with the one before) */
#define CLI_TABLES(X)               \
    X(local, "Clusters")            \
    X(metrics, NULL)                \
    X(name, "Names and attributes") \
    X(link, NULL)                   \
    X(change, NULL)                 \
    X(xattr, NULL)                  \
    X(find, NULL)                   \
    X(copy, "Contents")             \
    X(usage, "Space and limits")    \
    X(target, "Targets and nodes")  \
    X(chain, NULL)                  \
    X(trash, "Removed files")       \
    X(fsck, "Checks")               \
    X(audit, NULL)                  \
    X(why, NULL)                    \
    X(help, "Help")                 \
    X(complete, NULL)

#define CLI_TABLE_EXTERN(name, title)                        \
    extern const struct cli_command cli_##name##_commands[]; \
    extern const size_t cli_##name##_command_count;
CLI_TABLES(CLI_TABLE_EXTERN)

struct cli_table {
    const char *title;
    const struct cli_command *commands;
    size_t count;
};
/* The i-th table, those of the assembling program behind the others; false: there are no more. */
bool cli_table_at(const struct cli_options *opt, size_t i, struct cli_table *ret);

/* Goes through all commands: start with {0}; NULL at the end. */
struct cli_command_cursor {
    size_t table, at;
};
const struct cli_command *cli_command_next(const struct cli_options *opt,
                                           struct cli_command_cursor *cursor);

/* The command that words[0] and perhaps words[1] name, and how many of them (1 or 2) do. NULL:
 * there is none. */
const struct cli_command *cli_command_find(const struct cli_options *opt, const char *const *words,
                                           size_t count, size_t *ret_used);
/* Does its name begin with this word? */
bool cli_command_begins(const struct cli_command *k, const char *word);
/* The second words of what begins with `word`: "get, set"; false: there are none. */
bool cli_command_list_second(const struct cli_options *opt, const char *word, char *out,
                             size_t size);

/* Options of all commands: a table as those of the commands. */
extern const struct cli_option cli_common_options[];
/* The letter of a common option, 0 when an option of this command (may be NULL) has taken it. */
char cli_option_letter(const struct cli_option *o, const struct cli_command *k);
