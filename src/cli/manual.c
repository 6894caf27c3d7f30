/*
 * cli/manual.c -- the manual page opendfs(1), in man(7) macros, from the same tables as `help`.
 */
#include "cli/cli_priv.h"

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

static void put_options(const struct cli_option *o)
{
    for (; o != NULL && o->name != NULL; o++) {
        fputs(".TP\n\\fB", stdout);
        if (o->letter != 0) {
            printf("\\-%c\\fR, \\fB", o->letter);
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

void cli_manual_command(const struct cli_command *k)
{
    fputs(".SS \\fBopendfs ", stdout);
    put_text(k->name);
    fputs("\\fR", stdout);
    if (k->options != NULL) {
        fputs(" [\\fIOPTIONS\\fR]", stdout);
    }
    if (k->arguments[0] != 0) {
        fputs(" \\fI", stdout);
        put_text(k->arguments);
        fputs("\\fR", stdout);
    }
    putchar('\n');
    put_text(k->summary);
    fputs(".\n", stdout);
    if (k->details != NULL) {
        fputs(".PP\n", stdout);
        put_line(k->details);
    }
    put_options(k->options);
}

void cli_manual_begin(const struct cli_option *common)
{
    printf(".TH OPENDFS 1 \"\" \"opendfs %s\" \"User Commands\"\n", opendfs_version());
    fputs(".SH NAME\nopendfs \\- a distributed file system\n"
          ".SH SYNOPSIS\n\\fBopendfs\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]\n"
          ".SH DESCRIPTION\n"
          "One executable for the servers of OpenDFS and for working with its files and clusters.\n"
          "Paths inside a cluster begin with a slash.\n"
          ".SH OPTIONS OF ALL COMMANDS\n",
          stdout);
    put_options(common);
    fputs(".SH COMMANDS\n", stdout);
}

static void put_end(const char *term, const char *text)
{
    printf(".TP\n\\fB%s\\fR\n", term);
    put_line(text);
}

void cli_manual_end(void)
{
    fputs(".SH EXIT STATUS\n", stdout);
    put_end("0", "All was done. Servers: ended by SIGTERM or SIGINT.");
    put_end("1", "Something failed; each failure was named with path and cause on standard error.");
    put_end("2", "The command line is wrong.");
    fputs(".SH ENVIRONMENT\n", stdout);
    put_end("OPENDFS_CLUSTER",
            "The cluster when there is no --cluster; else the working directory.");
    put_end("OPENDFS_SECRET", "File with the client secret; needed when a cluster is named by the "
                              "addresses of its metadata servers.");
    fputs(".SH FILES\n", stdout);
    put_end("cluster.ini", "The configuration of a cluster; made by `opendfs init`, which appends "
                           "all keys as comments.");
    fputs(".SH EXAMPLES\n.nf\nopendfs init demo && opendfs up demo\n"
          "opendfs \\-C demo put /some/tree /tree\nopendfs \\-C demo ls \\-l /tree\n"
          "opendfs \\-C 10.0.0.1:9400 status\n.fi\n",
          stdout);
}
