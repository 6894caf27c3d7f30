/*
 * cli/command.c -- finds the command, takes its options apart; messages and exit statuses.
 *
 * Options may stand anywhere up to "--"; "--name value", "--name=value", "-n value", "-nvalue",
 * flags of one letter together ("-lr"). Options of all commands: see tables.c.
 */
#include "cli/cli_priv.h"
#include "cli/tables_priv.h"

#include "base/mem.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Messages ---- */

static void say(const struct cli *c, const char *text)
{
    if (c->terminal != NULL) {
        cli_terminal_say(c->terminal, text);
    } else {
        fprintf(stderr, "%s\n", text);
    }
}

static void message(const struct cli *c, const char *fmt, va_list args)
{
    char line[5000];
    struct text t;
    text_init(&t, line, sizeof line);
    text_add(&t, "opendfs%s%s: ", c->command == NULL ? "" : " ",
             c->command == NULL ? "" : c->command->name);
    text_add_va(&t, fmt, args);
    say(c, line);
}

int cli_fail(const struct cli *c, const char *fmt, ...)
{
    c->totals->failed++;
    va_list args;
    va_start(args, fmt);
    message(c, fmt, args);
    va_end(args);
    return CLI_EXIT_FAILED;
}

int cli_usage(const struct cli *c, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    message(c, fmt, args);
    va_end(args);
    if (c->command == NULL) {
        say(c, "`opendfs help` lists the commands.");
    } else {
        fprintf(stderr, "usage: opendfs %s%s %s\n`opendfs help %s` says more.\n", c->command->name,
                c->command->options == NULL ? "" : " [OPTIONS]", c->command->arguments,
                c->command->name);
    }
    return CLI_EXIT_USAGE;
}

void cli_say(const struct cli *c, const char *fmt, ...)
{
    if (c->quiet) {
        return;
    }
    char line[5000];
    struct text t;
    text_init(&t, line, sizeof line);
    va_list args;
    va_start(args, fmt);
    text_add_va(&t, fmt, args);
    va_end(args);
    say(c, line);
}

/* ---- Parsing ---- */

struct parse {
    struct cli *c;
    char **argv;
    int argc, at;
    bool help;
};

/* Own options first, then the common ones; ret_index past CLI_OPTIONS_MAX: a common one. */
static const struct cli_option *find_option(const struct cli_command *k, const char *name,
                                            size_t len, char letter, size_t *ret_index)
{
    const struct cli_option *tables[] = {k->options, cli_common_options};
    for (size_t t = 0; t < ARRAY_COUNT(tables); t++) {
        for (size_t i = 0; tables[t] != NULL && tables[t][i].name != NULL; i++) {
            const struct cli_option *o = &tables[t][i];
            bool long_one =
                name != NULL && strlen(o->name) == len && memcmp(o->name, name, len) == 0;
            if (long_one || (name == NULL && letter == o->letter)) {
                *ret_index = i + t * CLI_OPTIONS_MAX;
                return o;
            }
        }
    }
    return NULL;
}

static void set_option(struct parse *p, const struct cli_option *o, size_t index, const char *value)
{
    struct cli *c = p->c;
    if (index < CLI_OPTIONS_MAX) {
        c->value[index] = value;
    } else if (strcmp(o->name, "cluster") == 0) {
        c->cluster = value;
    } else if (strcmp(o->name, "json") == 0) {
        c->json = true;
    } else if (strcmp(o->name, "quiet") == 0) {
        c->quiet = true;
    } else {
        p->help = true;
    }
}

/* `value` is what stands behind in the same word, or NULL. 0 or an exit status. */
static int take_option(struct parse *p, const struct cli_option *o, size_t index, const char *value)
{
    if (o->value == NULL && value != NULL) {
        return cli_usage(p->c, "option --%s takes no value", o->name);
    }
    if (o->value != NULL && value == NULL) {
        if (p->at >= p->argc) {
            return cli_usage(p->c, "option --%s needs a value: %s", o->name, o->value);
        }
        value = p->argv[p->at++];
    }
    set_option(p, o, index, value == NULL ? "" : value);
    return 0;
}

static int parse_long(struct parse *p, const char *word)
{
    const char *equal = strchr(word, '=');
    size_t len = equal == NULL ? strlen(word) : (size_t)(equal - word), index = 0;
    const struct cli_option *o = find_option(p->c->command, word, len, 0, &index);
    if (o == NULL) {
        return cli_usage(p->c, "there is no option --%.*s", (int)len, word);
    }
    return take_option(p, o, index, equal == NULL ? NULL : equal + 1);
}

static int parse_letters(struct parse *p, const char *word)
{
    for (; *word != 0; word++) {
        size_t index = 0;
        const struct cli_option *o = find_option(p->c->command, NULL, 0, *word, &index);
        if (o == NULL) {
            return cli_usage(p->c, "there is no option -%c", *word);
        }
        if (o->value != NULL) {
            return take_option(p, o, index, word[1] == 0 ? NULL : word + 1);
        }
        set_option(p, o, index, "");
    }
    return 0;
}

/* "-name" of a command that allows it. */
static bool is_word(const struct cli_command *k, const char *word)
{
    size_t index, len = strcspn(word, "=");
    return k->words && len > 1 && find_option(k, word, len, 0, &index) != NULL;
}

static int parse(struct parse *p)
{
    bool options = true;
    while (p->at < p->argc) {
        const char *word = p->argv[p->at++];
        int rc = 0;
        if (options && strcmp(word, "--") == 0) {
            options = false;
        } else if (options && strncmp(word, "--", 2) == 0) {
            rc = parse_long(p, word + 2);
        } else if (options && word[0] == '-' && is_word(p->c->command, word + 1)) {
            rc = parse_long(p, word + 1);
        } else if (options && word[0] == '-' && word[1] != 0) {
            rc = parse_letters(p, word + 1);
        } else {
            p->c->argument[p->c->argument_count++] = word;
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int check_arguments(struct cli *c)
{
    const struct cli_command *k = c->command;
    if (c->argument_count < k->min_arguments) {
        return cli_usage(c, "an argument is missing");
    }
    if (c->argument_count > k->max_arguments) {
        return cli_usage(c, "'%s' is one argument too many", c->argument[k->max_arguments]);
    }
    return 0;
}

static int run(struct cli *c, int argc, char **argv)
{
    struct parse p = {.c = c, .argv = argv, .argc = argc};
    int rc = parse(&p);
    if (rc != 0) {
        return rc;
    }
    if (p.help) {
        cli_help_command(c->command);
        return 0;
    }
    rc = check_arguments(c);
    if (rc != 0) {
        return rc;
    }
    rc = c->command->run(c);
    if (c->json && c->command->counts && rc != CLI_EXIT_USAGE) {
        printf("{\"done\":%llu,\"failed\":%llu}\n", (unsigned long long)c->totals->done,
               (unsigned long long)c->totals->failed);
    }
    /* What could not be written was not done: a full disk, a closed pipe. */
    if (fflush(stdout) != 0 || ferror(stdout)) {
        return cli_fail(c, "standard output: %s", err_text(-errno));
    }
    return rc;
}

/* Where the command stands: common options may come before it. argc when there is none. */
static int command_index(int argc, char **argv)
{
    int i = 1;
    while (i < argc && argv[i][0] == '-' && argv[i][1] != 0) {
        bool value = strcmp(argv[i], "-C") == 0 || strcmp(argv[i], "--cluster") == 0;
        i += value ? 2 : 1;
    }
    return i < argc ? i : argc;
}

/* Puts the options before the command's words behind them. */
static void rotate(char **argv, int at, size_t words)
{
    for (size_t i = 0; i < words; i++) {
        int from = at + (int)i, to = 1 + (int)i;
        char *word = argv[from];
        for (; from > to; from--) {
            argv[from] = argv[from - 1];
        }
        argv[to] = word;
    }
}

/* 0 or an exit status; ret_words: how many belong to its name. */
static int choose(struct cli *c, int argc, char **argv, int at, size_t *ret_words)
{
    const char *words[] = {argv[at], at + 1 < argc ? argv[at + 1] : NULL};
    c->command = cli_command_find(c->opt, words, words[1] == NULL ? 1 : 2, ret_words);
    if (c->command != NULL) {
        return 0;
    }
    char second[200];
    if (!cli_command_list_second(c->opt, words[0], second, sizeof second)) {
        return cli_usage(c, "there is no command '%s'", words[0]);
    }
    if (words[1] == NULL || words[1][0] == '-') {
        return cli_usage(c, "%s what? One of: %s", words[0], second);
    }
    return cli_usage(c, "there is no command '%s %s'; there are: %s", words[0], words[1], second);
}

static int start(struct cli *c, int argc)
{
    c->argument = mem_calloc((size_t)argc, sizeof *c->argument);
    c->terminal = cli_terminal_new();
    struct err e = {0};
    int rc = loop_new(&(struct loop_options){.name = "main"}, &c->loop, &e);
    if (rc < 0 || c->argument == NULL || c->terminal == NULL) {
        return cli_fail(c, "start: %s", rc < 0 ? err_message(&e, rc) : err_text(-ENOMEM));
    }
    return 0;
}

/* Without a command. */
static int run_bare(struct cli *c, int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        return cli_run_version(c);
    }
    bool asked = argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
    cli_help_all(c->opt);
    return asked ? 0 : CLI_EXIT_USAGE;
}

int cli_main(const struct cli_options *opt, int argc, char **argv)
{
    struct cli_totals totals = {0};
    struct cli c = {.opt = opt, .cluster = cli_environment("OPENDFS_CLUSTER"), .totals = &totals};
    int at = command_index(argc, argv);
    if (at == argc) {
        return run_bare(&c, argc, argv);
    }
    size_t words = 0;
    int status = choose(&c, argc, argv, at, &words);
    if (status != 0) {
        return status;
    }
    rotate(argv, at, words);
    status = start(&c, argc);
    status = status != 0 ? status : run(&c, argc - 1 - (int)words, argv + 1 + words);
    opendfs_disconnect(c.fs);
    loop_free(c.loop);
    cli_terminal_free(c.terminal);
    mem_free(c.argument);
    return status;
}

/* ---- What a command sees ---- */

const char *cli_argument(const struct cli *c, size_t i)
{
    return i < c->argument_count ? c->argument[i] : NULL;
}

const char *cli_value(const struct cli *c, const char *option)
{
    for (size_t i = 0; c->command->options != NULL && c->command->options[i].name != NULL; i++) {
        if (strcmp(c->command->options[i].name, option) == 0) {
            return c->value[i];
        }
    }
    CHECK(false); /* it is no option of this command */
    return NULL;
}

bool cli_flag(const struct cli *c, const char *option)
{
    return cli_value(c, option) != NULL;
}

bool cli_json(const struct cli *c)
{
    return c->json;
}
