/* cli/help.c -- `help` and `version`; all texts come from the tables. */
#include "cli/cli_priv.h"
#include "cli/tables_priv.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

#define OPTION_WIDTH 22
#define NAME_WIDTH 14

/* `k`: whose own options may have taken a letter of the common ones; NULL: nobody has. */
static void print_options(const struct cli_option *o, const struct cli_command *k)
{
    for (; o != NULL && o->name != NULL; o++) {
        char left[64];
        struct text t;
        text_init(&t, left, sizeof left);
        char letter = cli_option_letter(o, k);
        text_add(&t, letter == 0 ? "    " : "-%c, ", letter);
        text_add(&t, "--%s%s%s", o->name, o->value == NULL ? "" : " ",
                 o->value == NULL ? "" : o->value);
        printf("  %-*s  %s\n", OPTION_WIDTH, left, o->help);
    }
}

void cli_help_command(const struct cli_command *k)
{
    printf("usage: opendfs %s [OPTIONS]%s%s\n\n%s\n", k->name, k->arguments[0] == 0 ? "" : " ",
           k->arguments, k->summary);
    if (k->details != NULL) {
        printf("\n%s\n", k->details);
    }
    printf("\nOptions:\n");
    print_options(k->options, NULL);
    print_options(cli_common_options, k);
}

static void print_table(const struct cli_table *table)
{
    if (table->title != NULL && table->count > 0) {
        printf("\n%s:\n", table->title);
    }
    for (size_t i = 0; i < table->count; i++) {
        const struct cli_command *k = &table->commands[i];
        if (!k->hidden) {
            printf("  %-*s %s\n", NAME_WIDTH, k->name, k->summary);
        }
    }
}

void cli_help_all(const struct cli_options *opt)
{
    printf("opendfs %s: a distributed file system\n\nusage: opendfs COMMAND [OPTIONS] "
           "[ARGUMENTS]\n",
           opendfs_version());
    struct cli_table table;
    for (size_t i = 0; cli_table_at(opt, i, &table); i++) {
        print_table(&table);
    }
    printf("\nOptions of all commands:\n");
    print_options(cli_common_options, NULL);
    printf("\nWithout -C the cluster is the one in OPENDFS_CLUSTER, or the one in the working "
           "directory.\n`opendfs help COMMAND` says more. A first cluster: opendfs init DIR && "
           "opendfs up DIR\n");
}

/* All commands whose name is, or begins with, these words. How many there are. */
static size_t help_of_words(const struct cli *c)
{
    size_t used = 0, shown = 0;
    const struct cli_command *k = cli_command_find(c->opt, c->argument, c->argument_count, &used);
    if (k != NULL && used == c->argument_count) {
        cli_help_command(k);
        shown++;
    }
    struct cli_command_cursor cursor = {0};
    while (c->argument_count == 1 && (k = cli_command_next(c->opt, &cursor)) != NULL) {
        if (cli_command_begins(k, c->argument[0]) && strcmp(k->name, c->argument[0]) != 0 &&
            !k->hidden) {
            printf("%s", shown++ == 0 ? "" : "\n");
            cli_help_command(k);
        }
    }
    return shown;
}

/* One name for each page of the manual: the first words. */
static void print_names(const struct cli *c)
{
    const struct cli_command *k;
    struct cli_command_cursor cursor = {0};
    while ((k = cli_command_next(c->opt, &cursor)) != NULL) {
        if (!k->hidden && cli_manual_is_first(c->opt, k)) {
            printf("%.*s\n", (int)strcspn(k->name, " "), k->name);
        }
    }
}

static int run_help(struct cli *c)
{
    if (cli_flag(c, "names")) {
        print_names(c);
        return 0;
    }
    if (cli_flag(c, "man")) {
        const char *word = c->argument_count == 0 ? NULL : c->argument[0];
        return cli_manual_page(c->opt, word)
                   ? 0
                   : cli_usage(c, "there is no command '%s'", c->argument[0]);
    }
    if (c->argument_count == 0) {
        cli_help_all(c->opt);
        return 0;
    }
    if (help_of_words(c) == 0) {
        return cli_usage(c, "there is no command '%s%s%s'", c->argument[0],
                         c->argument_count > 1 ? " " : "",
                         c->argument_count > 1 ? c->argument[1] : "");
    }
    return 0;
}

int cli_run_version(struct cli *c)
{
    (void)c;
    printf("opendfs %s\n", opendfs_version());
    return 0;
}

static const struct cli_option help_options[] = {
    {"man", 0, NULL, "as a manual page (man macros): opendfs(1), or that of the command"},
    {"names", 0, NULL, "only the names of the pages, one per line"},
    {NULL, 0, NULL, NULL},
};
const struct cli_command cli_help_commands[] = {
    {.name = "help",
     .arguments = "[COMMAND]",
     .summary = "say what a command does",
     .options = help_options,
     .max_arguments = 2,
     .run = run_help},
    {.name = "version", .arguments = "", .summary = "print the version", .run = cli_run_version},
};
const size_t cli_help_command_count = ARRAY_COUNT(cli_help_commands);
