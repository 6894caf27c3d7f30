/*
 * cli/complete.c -- `opendfs __complete LINE BREAKS`: what may stand at the end of a command line,
 * for packaging/completion/opendfs.bash. Each line of the answer is one candidate, quoted for the
 * shell, or ":files" or ":directories": let the shell itself offer those of this machine.
 *
 * What may stand where is read from the tables: the words of `arguments` and of an option's
 * `value`. "a|b" are the texts themselves, upper case is a kind:
 *
 *   PATH SOURCE DESTINATION  inside the cluster        FILE LOCAL  files of this machine
 *   DIR                      directories of this machine   COMMAND     a command
 *
 * A shell that waits is worse than one that offers nothing: the cluster has a second to answer.
 */
#include "cli/complete_priv.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define PATHS_MAX 512u
#define CLUSTER_MS 1000u

struct complete {
    struct cli *c;
    struct complete_line line;
    const struct cli_command *command; /* NULL: not known yet */
    const struct cli_option *pending;  /* the last word is its value */
    const char *at;                    /* what is to be completed: the last word, or behind "=" */
    const char *before;                /* stands in front of each candidate: "--mode=" */
    size_t argument;                   /* index of the last word among the arguments */
    unsigned offered;                  /* kinds, by bit: each once */
};

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static void offer(const struct complete *p, const char *text, const char *end)
{
    CLEANUP(mem_freep) char *whole = mem_printf("%s%s%s", p->before, text, end);
    CLEANUP(mem_freep)
    char *word =
        whole == NULL || strchr(whole, '\n') != NULL ? NULL : cli_complete_quote(&p->line, whole);
    if (word != NULL) {
        printf("%s\n", word);
    }
}

static void offer_if(const struct complete *p, const char *text)
{
    if (starts(text, p->at)) {
        offer(p, text, "");
    }
}

/* ---- Commands and options ---- */

/* First words, or with `first` the second ones behind it. */
static void offer_commands(const struct complete *p, const char *first)
{
    struct cli_command_cursor cursor = {0};
    const struct cli_command *k;
    while ((k = cli_command_next(p->c->opt, &cursor)) != NULL) {
        char word[64];
        size_t len = strcspn(k->name, " ");
        const char *from = k->name;
        bool second = first != NULL && cli_command_begins(k, first) && from[len] != 0;
        if (k->hidden || (first == NULL ? !cli_manual_is_first(p->c->opt, k) : !second)) {
            continue;
        }
        from += first != NULL ? len + 1 : 0;
        len = first != NULL ? strlen(from) : len;
        snprintf(word, sizeof word, "%.*s", (int)len, from);
        offer_if(p, word);
    }
}

static void offer_options(const struct complete *p, const struct cli_option *o)
{
    for (; o != NULL && o->name != NULL; o++) {
        char text[64];
        snprintf(text, sizeof text, "--%s", o->name);
        offer_if(p, text);
    }
}

/* ---- Paths inside the cluster ---- */

static struct opendfs *connect_briefly(const struct cli *c)
{
    struct opendfs_options o = {.api_version = OPENDFS_API_VERSION,
                                .cluster = c->cluster == NULL ? "." : c->cluster,
                                .secret_file = cli_environment("OPENDFS_SECRET"),
                                .uid = UINT32_MAX,
                                .gid = UINT32_MAX,
                                .timeout_ms = CLUSTER_MS,
                                .connect_ms = CLUSTER_MS};
    struct opendfs *fs;
    return opendfs_connect(&o, &fs) < 0 ? NULL : fs;
}

static void listed(struct cli_job *j)
{
    loop_stop(j->loop, 0);
}

/* Names follow `from` in the order of their bytes: those that begin with `from` come first. */
static void offer_names(struct complete *p, const char *directory, const char *from)
{
    struct cli *c = p->c;
    struct cli_job j = {0};
    struct opendfs_stat st;
    CLEANUP(mem_freep) char *itself = mem_printf("%s%s", directory, from);
    if (itself != NULL && from[0] != 0 && opendfs_stat(c->fs, itself, &st) == 0) {
        offer(p, itself, st.type == OPENDFS_TYPE_DIRECTORY ? "/" : "");
    }
    cli_job_prepare(c, &j, listed);
    opendfs_async_list(c->fs, &j.op, directory, from, PATHS_MAX);
    loop_run(c->loop);
    for (size_t i = 0; j.op.result == 0 && i < j.op.entry_count; i++) {
        const struct opendfs_entry *e = &j.op.entries[i];
        if (!starts(e->name, from)) {
            break;
        }
        CLEANUP(mem_freep) char *path = mem_printf("%s%s", directory, e->name);
        if (path != NULL) {
            offer(p, path, e->stat.type == OPENDFS_TYPE_DIRECTORY ? "/" : "");
        }
    }
    opendfs_async_release(c->fs, &j.op);
}

static void offer_paths(struct complete *p)
{
    const char *slash = strrchr(p->at, '/');
    if (slash == NULL) {
        if (p->at[0] == 0) {
            offer(p, "/", "");
        }
        return;
    }
    p->c->fs = p->at[0] == '/' ? connect_briefly(p->c) : NULL;
    CLEANUP(mem_freep) char *directory = mem_printf("%.*s", (int)(slash + 1 - p->at), p->at);
    if (p->c->fs != NULL && directory != NULL) {
        offer_names(p, directory, slash + 1);
    }
}

/* ---- Kinds ---- */

enum kind { KIND_NONE, KIND_CLUSTER, KIND_FILE, KIND_DIRECTORY, KIND_COMMAND };

static enum kind kind_of(const char *word, size_t len)
{
    static const struct {
        const char *word;
        enum kind kind;
    } kinds[] = {{"PATH", KIND_CLUSTER},   {"SOURCE", KIND_CLUSTER}, {"DESTINATION", KIND_CLUSTER},
                 {"FILE", KIND_FILE},      {"LOCAL", KIND_FILE},     {"DIR", KIND_DIRECTORY},
                 {"COMMAND", KIND_COMMAND}};
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
        if (strlen(kinds[i].word) == len && memcmp(kinds[i].word, word, len) == 0) {
            return kinds[i].kind;
        }
    }
    return KIND_NONE;
}

static void offer_kind(struct complete *p, const char *word, size_t len)
{
    enum kind kind = kind_of(word, len);
    if (kind != KIND_NONE && (p->offered & 1u << kind) != 0) {
        return;
    }
    p->offered |= 1u << kind;
    switch (kind) {
    case KIND_CLUSTER:
        offer_paths(p);
        break;
    case KIND_FILE:
        printf(":files\n");
        break;
    case KIND_DIRECTORY:
        printf(":directories\n");
        break;
    case KIND_COMMAND:
        offer_commands(p, NULL);
        break;
    case KIND_NONE:
        if (word[0] >= 'a' && word[0] <= 'z') {
            char text[64];
            snprintf(text, sizeof text, "%.*s", (int)base_min(len, sizeof text - 1), word);
            offer_if(p, text);
        }
        break;
    }
}

/* "a|b", "DIR|HOST:PORT", "[PATH...]": each part of one word of the table. */
static void offer_word(struct complete *p, const char *word, size_t len)
{
    const char *end = word + len;
    while (word < end) {
        size_t n = strcspn(word, "|[]. ");
        n = base_min(n, (size_t)(end - word));
        if (n > 0) {
            offer_kind(p, word, n);
        }
        word += n + 1;
    }
}

/* The words of `arguments` that the argument of this index may be: what repeats may still go on
 * when the next one begins. */
static void offer_argument(struct complete *p, const char *arguments, size_t index)
{
    bool repeats = false; /* an earlier word may be there any number of times */
    for (const char *word = arguments; *word != 0; word += strspn(word, " ")) {
        size_t len = strcspn(word, " ");
        bool many = len > 3 && memmem(word, len, "...", 3) != NULL;
        if (index == 0 || repeats || (many && index > 0)) {
            offer_word(p, word, len);
        }
        if (index == 0 && !repeats) {
            return;
        }
        index -= index > 0 ? 1 : 0;
        repeats = repeats || many;
        word += len;
    }
}

/* ---- What the words before say ---- */

static const struct cli_option *long_option(const struct cli_command *k, const char *word)
{
    const struct cli_option *tables[] = {k == NULL ? NULL : k->options, cli_common_options};
    size_t len = strcspn(word, "=");
    for (size_t t = 0; t < ARRAY_COUNT(tables); t++) {
        for (const struct cli_option *o = tables[t]; o != NULL && o->name != NULL; o++) {
            bool same = strlen(o->name) == len - 2 && memcmp(o->name, word + 2, len - 2) == 0;
            if (word[1] == '-' ? same : o->letter != 0 && o->letter == word[1] && word[2] == 0) {
                return o;
            }
        }
    }
    return NULL;
}

/* One word that stands before the last. */
static void pass_option(struct complete *p, const char *word)
{
    const struct cli_option *o = strlen(word) > 1 ? long_option(p->command, word) : NULL;
    p->pending = o != NULL && o->value != NULL && strchr(word, '=') == NULL ? o : NULL;
    if (o != NULL && strcmp(o->name, "cluster") == 0 && strchr(word, '=') != NULL) {
        p->c->cluster = strchr(word, '=') + 1;
    }
}

static void pass_words(struct complete *p)
{
    const struct complete_line *l = &p->line;
    for (size_t i = 1; i + 1 < l->count; i++) {
        const char *word = l->word[i];
        if (p->pending != NULL) {
            p->c->cluster = strcmp(p->pending->name, "cluster") == 0 ? word : p->c->cluster;
            p->pending = NULL;
        } else if (word[0] == '-' && word[1] != 0) {
            pass_option(p, word);
        } else if (p->command == NULL) {
            const char *words[] = {word, l->word[i + 1]};
            size_t used = 1;
            p->command = cli_command_find(p->c->opt, words, i + 2 < l->count ? 2 : 1, &used);
            i += used - 1;
        } else {
            p->argument++;
        }
    }
}

/* The word before the last, when it may be the first of two. */
static const char *first_of_two(const struct complete *p)
{
    const struct complete_line *l = &p->line;
    const char *word = l->count > 2 ? l->word[l->count - 2] : "";
    struct cli_command_cursor cursor = {0};
    const struct cli_command *k;
    while (p->argument == 0 && p->pending == NULL && word[0] != '-' && word[0] != 0 &&
           (k = cli_command_next(p->c->opt, &cursor)) != NULL) {
        bool other = p->command != NULL && strcmp(p->command->name, word) != 0;
        if (!other && cli_command_begins(k, word) && k->name[strlen(word)] == ' ') {
            return word;
        }
    }
    return NULL;
}

static void offer_value(struct complete *p, const struct cli_option *o)
{
    offer_word(p, o->value, strlen(o->value));
}

static void offer_all(struct complete *p)
{
    const char *equal = strchr(p->at, '=');
    const char *first = first_of_two(p);
    if (p->pending != NULL) {
        offer_value(p, p->pending);
    } else if (starts(p->at, "--") && equal != NULL) {
        const struct cli_option *o = long_option(p->command, p->at);
        CLEANUP(mem_freep) char *before = mem_printf("%.*s", (int)(equal + 1 - p->at), p->at);
        if (o != NULL && o->value != NULL && before != NULL) {
            p->before = before;
            p->at = equal + 1;
            offer_value(p, o);
        }
    } else if (p->at[0] == '-') {
        offer_options(p, p->command == NULL ? NULL : p->command->options);
        offer_options(p, cli_common_options);
    } else if (p->command == NULL && first == NULL) {
        offer_commands(p, NULL);
    } else {
        if (first != NULL) {
            offer_commands(p, first);
        }
        if (p->command != NULL && p->argument < p->command->max_arguments) {
            offer_argument(p, p->command->arguments, p->argument);
        }
    }
}

static int run_complete(struct cli *c)
{
    struct complete p = {.c = c, .before = ""};
    const char *breaks = c->argument_count > 1 ? c->argument[1] : " \t\n\"'@><=;|&(:";
    int rc = cli_complete_split(c->argument[0], breaks, &p.line);
    if (rc == 0 && p.line.count > 1) {
        p.at = p.line.word[p.line.count - 1];
        pass_words(&p);
        offer_all(&p);
    }
    cli_complete_line_fini(&p.line);
    return rc < 0 ? CLI_EXIT_FAILED : 0;
}

const struct cli_command cli_complete_commands[] = {
    {.name = "__complete",
     .arguments = "LINE [BREAKS]",
     .summary = "what may stand at the end of a command line; for the completion of shells",
     .hidden = true,
     .min_arguments = 1,
     .max_arguments = 2,
     .run = run_complete},
};
const size_t cli_complete_command_count = ARRAY_COUNT(cli_complete_commands);
