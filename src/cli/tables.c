/* cli/tables.c -- see tables_priv.h. */
#include "cli/tables_priv.h"

#include "base/text.h"

#include <string.h>

const struct cli_option cli_common_options[] = {
    {"cluster", 'C', "DIR|HOST:PORT", "directory of a local cluster, or its metadata servers"},
    {"json", 0, NULL, "output for programs"},
    {"quiet", 'q', NULL, "no progress and no messages but errors"},
    {"help", 'h', NULL, "this text"},
    {NULL, 0, NULL, NULL},
};

bool cli_table_at(const struct cli_options *opt, size_t i, struct cli_table *ret)
{
#define TABLE_ROW(name, title) {title, cli_##name##_commands, cli_##name##_command_count},
    const struct cli_table tables[] = {
        CLI_TABLES(TABLE_ROW){"Servers", opt->commands, opt->command_count}};
#undef TABLE_ROW
    if (i >= ARRAY_COUNT(tables)) {
        return false;
    }
    *ret = tables[i];
    return true;
}

const struct cli_command *cli_command_next(const struct cli_options *opt,
                                           struct cli_command_cursor *cursor)
{
    struct cli_table table;
    for (; cli_table_at(opt, cursor->table, &table); cursor->table++, cursor->at = 0) {
        if (cursor->at < table.count) {
            return &table.commands[cursor->at++];
        }
    }
    return NULL;
}

bool cli_command_begins(const struct cli_command *k, const char *word)
{
    size_t len = strlen(word);
    return strncmp(k->name, word, len) == 0 && (k->name[len] == 0 || k->name[len] == ' ');
}

char cli_option_letter(const struct cli_option *o, const struct cli_command *k)
{
    for (const struct cli_option *own = k == NULL ? NULL : k->options;
         own != NULL && own->name != NULL; own++) {
        if (own->letter == o->letter) {
            return 0;
        }
    }
    return o->letter;
}

const struct cli_command *cli_command_find(const struct cli_options *opt, const char *const *words,
                                           size_t count, size_t *ret_used)
{
    const struct cli_command *single = NULL, *k;
    struct cli_command_cursor cursor = {0};
    while (count > 0 && (k = cli_command_next(opt, &cursor)) != NULL) {
        size_t len = strlen(words[0]);
        if (strcmp(k->name, words[0]) == 0) {
            single = k;
        } else if (count > 1 && cli_command_begins(k, words[0]) &&
                   strcmp(k->name + len + 1, words[1]) == 0) {
            *ret_used = 2;
            return k;
        }
    }
    if (single != NULL) {
        *ret_used = 1;
    }
    return single;
}

bool cli_command_list_second(const struct cli_options *opt, const char *word, char *out,
                             size_t size)
{
    struct text t;
    text_init(&t, out, size);
    size_t len = strlen(word);
    const struct cli_command *k;
    struct cli_command_cursor cursor = {0};
    while ((k = cli_command_next(opt, &cursor)) != NULL) {
        if (!k->hidden && cli_command_begins(k, word) && k->name[len] == ' ') {
            text_add(&t, "%s%s", t.len == 0 ? "" : ", ", k->name + len + 1);
        }
    }
    return t.len > 0;
}
