/*
 * cli/command.c -- finds the command, takes its options apart, prints help.
 *
 * Options may stand anywhere up to "--"; "--name value", "--name=value", "-n value", "-nvalue",
 * flags of one letter together ("-lr"). Options of all commands: see `common`.
 */
#include "cli/cli_priv.h"

#include "base/mem.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELP_WIDTH 22

static const struct cli_option common[] = {
    {"cluster", 'C', "DIR|HOST:PORT", "directory of a local cluster, or its metadata servers"},
    {"json", 0, NULL, "output for programs"},
    {"quiet", 'q', NULL, "no progress and no messages but errors"},
    {"help", 'h', NULL, "this text"},
    {NULL, 0, NULL, NULL},
};

static int run_help(struct cli *c);
static int run_version(struct cli *c)
{
    (void)c;
    printf("opendfs %s\n", opendfs_version());
    return 0;
}

static const struct cli_option help_options[] = {
    {"man", 0, NULL, "all of it as a manual page (man macros)"},
    {NULL, 0, NULL, NULL},
};
static const struct cli_command help_commands[] = {
    {.name = "help",
     .arguments = "[COMMAND]",
     .summary = "say what a command does",
     .options = help_options,
     .max_arguments = 1,
     .run = run_help},
    {.name = "version", .arguments = "", .summary = "print the version", .run = run_version},
};

/* All tables in the order of the help. */
static const struct cli_command *command_at(const struct cli_options *opt, size_t i)
{
    const struct cli_command *table[] = {cli_local_commands, opt->commands, cli_name_commands,
                                         cli_copy_commands, help_commands};
    size_t count[] = {cli_local_command_count, opt->command_count, cli_name_command_count,
                      cli_copy_command_count, ARRAY_COUNT(help_commands)};
    for (size_t k = 0; k < ARRAY_COUNT(table); k++) {
        if (i < count[k]) {
            return &table[k][i];
        }
        i -= count[k];
    }
    return NULL;
}

static const struct cli_command *find_command(const struct cli_options *opt, const char *name)
{
    const struct cli_command *k;
    for (size_t i = 0; (k = command_at(opt, i)) != NULL; i++) {
        if (strcmp(k->name, name) == 0) {
            return k;
        }
    }
    return NULL;
}

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

/* ---- Help ---- */

static void print_options(const struct cli_option *o)
{
    for (; o != NULL && o->name != NULL; o++) {
        char left[64];
        struct text t;
        text_init(&t, left, sizeof left);
        text_add(&t, o->letter == 0 ? "    " : "-%c, ", o->letter);
        text_add(&t, "--%s%s%s", o->name, o->value == NULL ? "" : " ",
                 o->value == NULL ? "" : o->value);
        printf("  %-*s  %s\n", HELP_WIDTH, left, o->help);
    }
}

static void help_of(const struct cli_command *k)
{
    printf("usage: opendfs %s [OPTIONS] %s\n\n%s\n", k->name, k->arguments, k->summary);
    if (k->details != NULL) {
        printf("\n%s\n", k->details);
    }
    printf("\nOptions:\n");
    print_options(k->options);
    print_options(common);
}

static void help_all(const struct cli *c)
{
    printf("opendfs %s: a distributed file system\n\nusage: opendfs COMMAND [OPTIONS] "
           "[ARGUMENTS]\n\n",
           opendfs_version());
    const struct cli_command *k;
    for (size_t i = 0; (k = command_at(c->opt, i)) != NULL; i++) {
        if (!k->hidden) {
            printf("  %-10s %s\n", k->name, k->summary);
        }
    }
    printf("\nOptions of all commands:\n");
    print_options(common);
    printf("\nWithout -C the cluster is the one in OPENDFS_CLUSTER, or the one in the working "
           "directory.\n`opendfs help COMMAND` says more. A first cluster: opendfs init DIR && "
           "opendfs up DIR\n");
}

static void manual(const struct cli *c)
{
    cli_manual_begin(common);
    const struct cli_command *k;
    for (size_t i = 0; (k = command_at(c->opt, i)) != NULL; i++) {
        if (!k->hidden) {
            cli_manual_command(k);
        }
    }
    cli_manual_end();
}

static int run_help(struct cli *c)
{
    if (cli_flag(c, "man")) {
        manual(c);
        return 0;
    }
    if (c->argument_count == 0) {
        help_all(c);
        return 0;
    }
    const struct cli_command *k = find_command(c->opt, c->argument[0]);
    if (k == NULL) {
        return cli_usage(c, "there is no command '%s'", c->argument[0]);
    }
    help_of(k);
    return 0;
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
    const struct cli_option *tables[] = {k->options, common};
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
        help_of(c->command);
        return 0;
    }
    rc = check_arguments(c);
    if (rc != 0) {
        return rc;
    }
    rc = c->command->run(c);
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

/* Puts the options before the command behind it. */
static void rotate(char **argv, int at)
{
    char *name = argv[at];
    for (; at > 1; at--) {
        argv[at] = argv[at - 1];
    }
    argv[1] = name;
}

int cli_main(const struct cli_options *opt, int argc, char **argv)
{
    struct cli c = {.opt = opt, .cluster = cli_environment("OPENDFS_CLUSTER")};
    int at = command_index(argc, argv);
    if (at == argc) {
        bool asked = argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
        if (argc == 2 && strcmp(argv[1], "--version") == 0) {
            return run_version(&c);
        }
        help_all(&c);
        return asked ? 0 : CLI_EXIT_USAGE;
    }
    rotate(argv, at);
    const struct cli_command *k = find_command(opt, argv[1]);
    if (k == NULL) {
        return cli_usage(&c, "there is no command '%s'", argv[1]);
    }
    c.command = k;
    c.argument = mem_calloc((size_t)argc, sizeof *c.argument);
    c.terminal = cli_terminal_new();
    struct err e = {0};
    int status = CLI_EXIT_FAILED;
    int rc = loop_new(&(struct loop_options){.name = "main"}, &c.loop, &e);
    if (rc < 0 || c.argument == NULL || c.terminal == NULL) {
        cli_fail(&c, "start: %s", rc < 0 ? err_message(&e, rc) : err_text(-ENOMEM));
    } else {
        status = run(&c, argc - 2, argv + 2);
    }
    opendfs_disconnect(c.fs);
    loop_free(c.loop);
    cli_terminal_free(c.terminal);
    mem_free(c.argument);
    return status;
}

/* ---- What a command sees ---- */

const char *cli_value(const struct cli *c, const char *option)
{
    for (size_t i = 0; c->command->options != NULL && c->command->options[i].name != NULL; i++) {
        if (strcmp(c->command->options[i].name, option) == 0) {
            return c->value[i];
        }
    }
    CHECK(!"an option of this command");
    return NULL;
}

bool cli_flag(const struct cli *c, const char *option)
{
    return cli_value(c, option) != NULL;
}
