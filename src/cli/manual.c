/*
 * cli/manual.c -- the pages of the manual, in man(7) macros, from the same tables as `help`:
 * opendfs(1) has the list, opendfs-WORD(1) all commands whose names begin with WORD.
 */
#include "cli/cli_priv.h"
#include "cli/tables_priv.h"

#include <stdio.h>
#include <string.h>

/* Text for roff: backslashes and hyphens escaped, no line that begins like a request. A newline of
 * the source is one of the page: details are written for lines of a terminal. */
static void put_text(const char *text)
{
    bool line_start = true;
    for (; *text != 0; text++) {
        if (line_start && (*text == '.' || *text == '\'')) {
            fputs("\\&", stdout);
        }
        line_start = *text == '\n';
        if (*text == '\\') {
            fputs("\\e", stdout);
        } else if (*text == '-') {
            fputs("\\-", stdout);
        } else {
            putchar(*text);
        }
    }
}

static void put_line(const char *text)
{
    put_text(text);
    putchar('\n');
}

/* `k`: see cli_option_letter(). */
static void put_options(const struct cli_option *o, const struct cli_command *k)
{
    for (; o != NULL && o->name != NULL; o++) {
        char letter = cli_option_letter(o, k);
        fputs(".TP\n\\fB", stdout);
        if (letter != 0) {
            printf("\\-%c\\fR, \\fB", letter);
        }
        fputs("\\-\\-", stdout);
        put_text(o->name);
        fputs("\\fR", stdout);
        if (o->value != NULL) {
            fputs(" \\fI", stdout);
            put_text(o->value);
            fputs("\\fR", stdout);
        }
        putchar('\n');
        put_line(o->help);
    }
}

/* "opendfs-ls" */
static void put_page_name(const char *word)
{
    fputs("opendfs\\-", stdout);
    put_text(word);
}

static void put_title(const char *word)
{
    fputs(".TH OPENDFS", stdout);
    if (word != NULL) {
        fputs("\\-", stdout);
        for (; *word != 0; word++) {
            putchar(*word >= 'a' && *word <= 'z' ? *word - 'a' + 'A' : *word);
        }
    }
    printf(" 1 \"\" \"opendfs %s\" \"User Commands\"\n", opendfs_version());
}

static void put_term(const char *term, const char *text)
{
    fputs(".TP\n\\fB", stdout);
    put_text(term);
    fputs("\\fR\n", stdout);
    put_line(text);
}

static void put_exit_status(void)
{
    fputs(".SH EXIT STATUS\n", stdout);
    put_term("0", "All was done. Servers: ended by SIGTERM or SIGINT.");
    put_term("1",
             "Something failed; each failure was named with path and cause on standard error.");
    put_term("2", "The command line is wrong.");
}

/* ---- A page of commands ---- */

static void put_usage(const struct cli_command *k)
{
    fputs("\\fBopendfs ", stdout);
    put_text(k->name);
    fputs("\\fR [\\fIOPTIONS\\fR]", stdout);
    if (k->arguments[0] != 0) {
        fputs(" \\fI", stdout);
        put_text(k->arguments);
        fputs("\\fR", stdout);
    }
    putchar('\n');
}

static void put_description(const struct cli_command *k)
{
    put_text(k->summary);
    fputs(".\n", stdout);
    if (k->details != NULL) {
        fputs(".PP\n", stdout);
        put_line(k->details);
    }
    put_options(k->options, NULL);
}

/* The next shown command whose name begins with `word`. */
static const struct cli_command *next_of(const struct cli_options *opt, const char *word,
                                         struct cli_command_cursor *cursor)
{
    const struct cli_command *k;
    while ((k = cli_command_next(opt, cursor)) != NULL) {
        if (!k->hidden && cli_command_begins(k, word)) {
            return k;
        }
    }
    return NULL;
}

bool cli_manual_is_first(const struct cli_options *opt, const struct cli_command *k)
{
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)strcspn(k->name, " "), k->name);
    struct cli_command_cursor cursor = {0};
    return next_of(opt, word, &cursor) == k;
}

static void put_name_and_synopsis(const struct cli_options *opt, const char *word)
{
    const struct cli_command *k;
    fputs(".SH NAME\n", stdout);
    put_page_name(word);
    struct cli_command_cursor cursor = {0};
    for (const char *between = " \\- "; (k = next_of(opt, word, &cursor)) != NULL; between = "; ") {
        fputs(between, stdout);
        put_text(k->summary);
    }
    fputs("\n.SH SYNOPSIS\n", stdout);
    cursor = (struct cli_command_cursor){0};
    for (const char *between = ""; (k = next_of(opt, word, &cursor)) != NULL; between = ".br\n") {
        fputs(between, stdout);
        put_usage(k);
    }
}

static void put_commands_of(const struct cli_options *opt, const char *word)
{
    struct cli_command_cursor cursor = {0};
    const struct cli_command *k = next_of(opt, word, &cursor), *next = next_of(opt, word, &cursor);
    fputs(".SH DESCRIPTION\n", stdout);
    if (next == NULL) {
        put_description(k);
        return;
    }
    for (cursor = (struct cli_command_cursor){0}; (k = next_of(opt, word, &cursor)) != NULL;) {
        fputs(".SS ", stdout);
        put_usage(k);
        put_description(k);
    }
}

static bool page_of(const struct cli_options *opt, const char *word)
{
    struct cli_command_cursor cursor = {0};
    if (strchr(word, ' ') != NULL || next_of(opt, word, &cursor) == NULL) {
        return false;
    }
    put_title(word);
    put_name_and_synopsis(opt, word);
    put_commands_of(opt, word);
    fputs(".SH OPTIONS OF ALL COMMANDS\n", stdout);
    cursor = (struct cli_command_cursor){0};
    put_options(cli_common_options, next_of(opt, word, &cursor));
    put_exit_status();
    fputs(".SH SEE ALSO\n\\fBopendfs\\fR(1)\n", stdout);
    return true;
}

/* ---- opendfs(1) ---- */

static void put_list(const struct cli_options *opt)
{
    struct cli_table table;
    for (size_t i = 0; cli_table_at(opt, i, &table); i++) {
        if (table.count > 0 && table.title != NULL) {
            fputs(".SS ", stdout);
            put_line(table.title);
        }
        for (size_t k = 0; k < table.count; k++) {
            if (!table.commands[k].hidden) {
                put_term(table.commands[k].name, table.commands[k].summary);
            }
        }
    }
}

static void put_files(void)
{
    fputs(".SH ENVIRONMENT\n", stdout);
    put_term("OPENDFS_CLUSTER",
             "The cluster when there is no --cluster; else the working directory.");
    put_term("OPENDFS_SECRET", "File with the client secret; needed when a cluster is named by the "
                               "addresses of its metadata servers.");
    put_term("OPENDFS_HOST, OPENDFS_RACK",
             "Where the command runs, as host and rack of data nodes in cluster.ini: copies that "
             "are near are read first.");
    fputs(".SH FILES\n", stdout);
    put_term("cluster.ini", "The configuration of a cluster; made by `opendfs init`, which appends "
                            "all keys as comments.");
    fputs(".SH EXAMPLES\n.nf\nopendfs init demo && opendfs up demo\n"
          "opendfs \\-C demo put /some/tree /tree\nopendfs \\-C demo ls \\-l /tree\n"
          "opendfs \\-C 10.0.0.1:9400 status\n.fi\n",
          stdout);
}

static void put_see_also(const struct cli_options *opt)
{
    fputs(".SH SEE ALSO\n", stdout);
    const struct cli_command *k;
    struct cli_command_cursor cursor = {0};
    const char *between = "";
    while ((k = cli_command_next(opt, &cursor)) != NULL) {
        if (!k->hidden && cli_manual_is_first(opt, k)) {
            char word[64];
            snprintf(word, sizeof word, "%.*s", (int)strcspn(k->name, " "), k->name);
            printf("%s\\fB", between);
            put_page_name(word);
            fputs("\\fR(1)", stdout);
            between = ",\n";
        }
    }
    putchar('\n');
}

bool cli_manual_page(const struct cli_options *opt, const char *word)
{
    if (word != NULL) {
        return page_of(opt, word);
    }
    put_title(NULL);
    fputs(".SH NAME\nopendfs \\- a distributed file system\n"
          ".SH SYNOPSIS\n\\fBopendfs\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]\n"
          ".SH DESCRIPTION\n"
          "One executable for the servers of OpenDFS and for working with its files and clusters.\n"
          "Paths inside a cluster begin with a slash. Each command has a page of its own.\n"
          ".SH OPTIONS OF ALL COMMANDS\n",
          stdout);
    put_options(cli_common_options, NULL);
    fputs(".SH COMMANDS\n", stdout);
    put_list(opt);
    put_exit_status();
    put_files();
    put_see_also(opt);
    return true;
}
