#include "cli/complete_priv.h"

#include "base/mem.h"
#include "testing/testing.h"

#include <stdio.h>
#include <string.h>

#define BREAKS " \t\n\"'@><=;|&(:"

TEST(complete_splits_as_a_shell_does)
{
    static const struct {
        const char *line, *words; /* the words, each in [] */
        char quote;
        size_t skip;
    } rows[] = {
        {"", "[]", 0, 0},
        {"opendfs", "[opendfs]", 0, 0},
        {"opendfs ", "[opendfs][]", 0, 0},
        {"  opendfs \t ls  /a", "[opendfs][ls][/a]", 0, 0},
        {"a b\\ c", "[a][b c]", 0, 0},
        {"a 'b  c' d", "[a][b  c][d]", 0, 0},
        {"a \"b \\\" \\c", "[a][b \" \\c]", '"', 0},
        {"a 'x\\", "[a][x\\]", '\'', 0},
        {"a '' ", "[a][][]", 0, 0},
        {"a --mode=07", "[a][--mode=07]", 0, 7},
        {"a /x:y/z", "[a][/x:y/z]", 0, 3},
        {"a /x\\:y", "[a][/x:y]", 0, 0},
        {"a /x'y z", "[a][/xy z]", '\'', 2},
        {"a \\", "[a][\\]", 0, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct complete_line l;
        char text[100];
        size_t len = 0;
        CHECK_OK(cli_complete_split(rows[i].line, BREAKS, &l));
        for (size_t k = 0; k < l.count; k++) {
            len += (size_t)snprintf(text + len, sizeof text - len, "[%s]", l.word[k]);
        }
        CHECK_TEXT(text, rows[i].words);
        CHECK_EQ(l.quote, rows[i].quote);
        CHECK_EQ(l.skip, rows[i].skip);
        cli_complete_line_fini(&l);
    }
}

TEST(complete_quotes_what_the_shell_would_take_apart)
{
    static const struct {
        const char *line, *word, *out;
    } rows[] = {
        {"a /x", "/x y$z", "/x\\ y\\$z"},      {"a \"/x", "/x y$z", "/x y\\$z"},
        {"a '/x", "/x y$z", "/x y$z"},         {"a --mode=0", "--mode=0755", "0755"},
        {"a /x:y", "/x:y (2)", "y\\ \\(2\\)"}, {"a ", "\xc3\xa4", "\xc3\xa4"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct complete_line l;
        CHECK_OK(cli_complete_split(rows[i].line, BREAKS, &l));
        CLEANUP(mem_freep) char *out = cli_complete_quote(&l, rows[i].word);
        CHECK_TEXT(out, rows[i].out);
        cli_complete_line_fini(&l);
    }
}

TEST(complete_bounds_the_number_of_words)
{
    char line[2 * COMPLETE_WORDS_MAX + 3];
    for (size_t i = 0; i + 1 < sizeof line; i++) {
        line[i] = i % 2 == 0 ? 'a' : ' ';
    }
    struct complete_line l;
    line[2 * COMPLETE_WORDS_MAX - 1] = 0;
    CHECK_OK(cli_complete_split(line, BREAKS, &l));
    CHECK_EQ(l.count, COMPLETE_WORDS_MAX);
    cli_complete_line_fini(&l);
    line[2 * COMPLETE_WORDS_MAX - 1] = ' ';
    line[2 * COMPLETE_WORDS_MAX + 2] = 0;
    CHECK_RC(cli_complete_split(line, BREAKS, &l), E2BIG);
    cli_complete_line_fini(&l);
}
