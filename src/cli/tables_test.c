#include "cli/tables_priv.h"

#include "testing/testing.h"

#include <string.h>

static int run_nothing(struct cli *c)
{
    (void)c;
    return 0;
}

static const struct cli_command own[] = {
    {.name = "colour get", .arguments = "PATH", .summary = "tell", .run = run_nothing},
    {.name = "colour set", .arguments = "PATH", .summary = "change", .run = run_nothing},
    {.name = "meta", .arguments = "", .summary = "serve", .run = run_nothing},
    {.name = "meta backup", .arguments = "FILE", .summary = "save", .run = run_nothing},
    {.name = "meta secret", .arguments = "", .summary = "x", .hidden = true, .run = run_nothing},
};
static const struct cli_options options = {.commands = own, .command_count = ARRAY_COUNT(own)};
static const struct cli_options bare = {.commands = NULL};

static const char *found(const char *first, const char *second, size_t *ret_used)
{
    const char *words[] = {first, second};
    *ret_used = 77;
    const struct cli_command *k =
        cli_command_find(&options, words, second == NULL ? 1 : 2, ret_used);
    return k == NULL ? "none" : k->name;
}

TEST(tables_find_commands_of_one_and_two_words)
{
    size_t used;
    CHECK_TEXT(found("ls", "/x", &used), "ls");
    CHECK_EQ(used, 1);
    CHECK_TEXT(found("colour", "set", &used), "colour set");
    CHECK_EQ(used, 2);
    CHECK_TEXT(found("colour", "se", &used), "none");
    CHECK_EQ(used, 77);
    CHECK_TEXT(found("colour", NULL, &used), "none");
    CHECK_TEXT(found("meta", NULL, &used), "meta");
    CHECK_TEXT(found("meta", "--config", &used), "meta");
    CHECK_EQ(used, 1);
    CHECK_TEXT(found("meta", "backup", &used), "meta backup");
    CHECK_TEXT(found("met", "backup", &used), "none");
    CHECK_TEXT(found("l", NULL, &used), "none");
    CHECK_TEXT(found("", NULL, &used), "none");
}

TEST(tables_list_second_words_that_are_shown)
{
    char out[64];
    CHECK_TRUE(cli_command_list_second(&options, "colour", out, sizeof out));
    CHECK_TEXT(out, "get, set");
    CHECK_TRUE(cli_command_list_second(&options, "meta", out, sizeof out));
    CHECK_TEXT(out, "backup");
    CHECK_TRUE(!cli_command_list_second(&options, "ls", out, sizeof out));
    CHECK_TRUE(!cli_command_list_second(&options, "quo", out, sizeof out));
}

/* ---- What every table of this folder keeps to ---- */

static void check_letters(const struct cli_option *o)
{
    for (const struct cli_option *other = o + 1; other->name != NULL; other++) {
        CHECK_TRUE(strcmp(o->name, other->name) != 0);
        CHECK_TRUE(o->letter == 0 || o->letter != other->letter);
    }
    for (const struct cli_option *common = cli_common_options; common->name != NULL; common++) {
        CHECK_TRUE(strcmp(o->name, common->name) != 0);
        /* -h may be taken, as for ls: --help is always there */
        CHECK_TRUE(o->letter == 0 || o->letter != common->letter || o->letter == 'h');
    }
}

static void check_text(const char *text)
{
    CHECK_TRUE(text != NULL && text[0] != 0 && text[strlen(text) - 1] != '.');
}

static void check_command(const struct cli_command *k)
{
    const char *space = strchr(k->name, ' ');
    CHECK_TRUE(space == NULL || strchr(space + 1, ' ') == NULL);
    CHECK_TRUE(strspn(k->name, "abcdefghijklmnopqrstuvwxyz0123456789_- ") == strlen(k->name));
    CHECK_TRUE(k->arguments != NULL && k->run != NULL);
    CHECK_TRUE(k->min_arguments <= k->max_arguments);
    CHECK_EQ(k->arguments[0] == 0, k->max_arguments == 0);
    check_text(k->summary);
    size_t count = 0;
    for (const struct cli_option *o = k->options; o != NULL && o->name != NULL; o++, count++) {
        check_text(o->help);
        check_letters(o);
    }
    CHECK_TRUE(count < CLI_OPTIONS_MAX);
}

TEST(tables_hold_only_good_commands)
{
    struct cli_command_cursor cursor = {0};
    const struct cli_command *k;
    size_t count = 0;
    for (; (k = cli_command_next(&bare, &cursor)) != NULL; count++) {
        check_command(k);
        struct cli_command_cursor rest = cursor;
        const struct cli_command *other;
        while ((other = cli_command_next(&bare, &rest)) != NULL) {
            CHECK_TRUE(strcmp(k->name, other->name) != 0);
        }
    }
    CHECK_TRUE(count > 10);
}
