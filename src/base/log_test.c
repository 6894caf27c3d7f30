#include "base/log.h"

#include "testing/testing.h"

#include <string.h>

struct lines {
    struct log_sink sink;
    int count;
    enum log_level level;
    uint64_t wall_ns, trace;
    char node[32], message[64];
    char fields[LOG_LINE_SIZE];
    char text[LOG_LINE_SIZE];
    size_t text_len;
};

static void write_line(struct log_sink *sink, const struct log_line *line)
{
    struct lines *t = container_of(sink, struct lines, sink);
    t->count++;
    t->level = line->level;
    t->wall_ns = line->wall_ns;
    t->trace = line->trace;
    CHECK_TRUE(strlen(line->fields) < sizeof t->fields);
    strncpy(t->node, line->node, sizeof t->node - 1);
    strncpy(t->message, line->message, sizeof t->message - 1);
    memcpy(t->fields, line->fields, strlen(line->fields) + 1);
    t->text_len = log_line_to_text(line, t->text, sizeof t->text);
}

static uint64_t some_time(void *clock)
{
    return *(uint64_t *)clock;
}

static struct log *new_log(struct lines *t, enum log_level level)
{
    *t = (struct lines){.sink.write = write_line};
    return log_new(&(struct log_options){.node = "meta", .level = level, .sink = &t->sink});
}

TEST_TORTURE(log_passes_level_node_and_fields)
{
    struct lines t;
    uint64_t now = 1234567890123456789u;
    t = (struct lines){.sink.write = write_line};
    CLEANUP(log_freep)
    struct log *l = log_new(&(struct log_options){
        .node = "data.1", .level = LOG_INFO, .sink = &t.sink, .wall_ns = some_time, .clock = &now});
    TRY_PTR(l);
    LOG_AT(l, LOG_WARN, 0xabc, "slow disk", LOG_TEXT("path", "/x"), LOG_U64("chunk", UINT64_MAX),
           LOG_I64("delta", INT64_MIN), LOG_HEX("id", 0xbeef), LOG_RC(-ENOSPC));
    CHECK_EQ(t.count, 1);
    CHECK_EQ(t.level, LOG_WARN);
    CHECK_EQ(t.wall_ns, now);
    CHECK_EQ(t.trace, 0xabc);
    CHECK_TEXT(t.node, "data.1");
    CHECK_TEXT(t.message, "slow disk");
    CHECK_TEXT(t.fields, "path=/x chunk=18446744073709551615 delta=-9223372036854775808 id=0xbeef "
                         "error=\"No space left on device\"");
    CHECK_TEXT(t.text, "2009-02-13T23:31:30.123Z warn data.1 slow disk trace=0000000000000abc "
                       "path=/x chunk=18446744073709551615 delta=-9223372036854775808 id=0xbeef "
                       "error=\"No space left on device\"");
    CHECK_EQ(t.text_len, strlen(t.text));
}

TEST_TORTURE(log_level_decides_before_anything_is_evaluated)
{
    struct lines t;
    CLEANUP(log_freep) struct log *l = new_log(&t, LOG_WARN);
    TRY_PTR(l);
    int evaluated = 0;
    log_info(l, "no", LOG_I64("n", ++evaluated));
    CHECK_EQ(evaluated, 0);
    log_warn(l, "yes", LOG_I64("n", ++evaluated));
    CHECK_EQ(evaluated, 1);
    CHECK_EQ(t.count, 1);
    log_write(l, LOG_DEBUG, 0, "no", NULL);
    CHECK_EQ(t.count, 1);
    log_set_level(l, LOG_DEBUG);
    CHECK_TRUE(log_wants(l, LOG_DEBUG));
    log_debug(l, "now");
    log_error(l, "and this");
    CHECK_EQ(t.count, 3);
    CHECK_TEXT(t.fields, "");
    CHECK_TEXT(t.text, "1970-01-01T00:00:00.000Z error meta and this");
}

TEST_TORTURE(log_without_sink_or_log_is_silent)
{
    CLEANUP(log_freep) struct log *l = log_new(&(struct log_options){.level = LOG_DEBUG});
    TRY_PTR(l);
    CHECK_TRUE(!log_wants(l, LOG_ERROR));
    CHECK_TRUE(!log_wants(NULL, LOG_ERROR));
    log_error(l, "nobody hears this");
    log_write(NULL, LOG_ERROR, 0, "nor this", NULL);
}

TEST_TORTURE(log_quotes_what_could_be_mistaken)
{
    static const struct {
        const char *value, *shown;
    } rows[] = {
        {"plain/path-1.2:3", "plain/path-1.2:3"},
        {"", "\"\""},
        {NULL, "-"},
        {"two words", "\"two words\""},
        {"a=b", "\"a=b\""},
        {"say \"hi\"", "\"say \\\"hi\\\"\""},
        {"back\\slash", "\"back\\\\slash\""},
        {"line\nfeed\r\t", "\"line\\nfeed\\r\\t\""},
        {"\x1b[31m\x7f", "\"\\x1b[31m\\x7f\""},
        {"caf\xc3\xa9", "caf\xc3\xa9"},
        {"bad\xff\xc3", "\"bad\\xff\\xc3\""},
        {"\xc2\x9b"
         "31m",
         "\"\\xc2\\x9b31m\""}, /* a C1 control */
    };
    struct lines t;
    CLEANUP(log_freep) struct log *l = new_log(&t, LOG_INFO);
    TRY_PTR(l);
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        log_info(l, "m", LOG_TEXT("v", rows[i].value));
        CHECK_TRUE(strncmp(t.fields, "v=", 2) == 0);
        CHECK_TEXT(t.fields + 2, rows[i].shown);
    }
}

TEST_TORTURE(log_cuts_with_a_mark)
{
    char value[3000];
    struct lines t;
    CLEANUP(log_freep) struct log *l = new_log(&t, LOG_INFO);
    TRY_PTR(l);
    for (size_t len = 2030; len < 2060; len++) {
        memset(value, 'x', len);
        value[len] = '\0';
        log_info(l, "m", LOG_TEXT("v", value), LOG_U64("n", 1));
        size_t shown = strlen(t.fields);
        CHECK_TRUE(shown < LOG_LINE_SIZE);
        bool fits = strcmp(t.fields + shown - 4, " n=1") == 0;
        CHECK_EQ(fits, len + 6 < LOG_LINE_SIZE - 3);
        CHECK_TRUE(fits || strcmp(t.fields + shown - 3, "...") == 0);
        CHECK_TRUE(t.text_len < LOG_LINE_SIZE);
        CHECK_TEXT(t.text + t.text_len - 3, "...");
    }
    memset(value, '\n', sizeof value - 1); /* each becomes two bytes: none is split */
    value[sizeof value - 1] = '\0';
    log_info(l, "m", LOG_TEXT("v", value));
    CHECK_TEXT(t.fields + strlen(t.fields) - 5, "\\n...");
}

TEST(log_line_to_text_is_one_line_at_any_size)
{
    const struct log_line line = {.level = LOG_INFO,
                                  .wall_ns = 951782399999999999u,
                                  .trace = 1,
                                  .node = "n",
                                  .message = "two\nlines",
                                  .fields = "a=1"};
    static const char full[] =
        "2000-02-28T23:59:59.999Z info n two\\nlines trace=0000000000000001 a=1";
    char out[128];
    CHECK_EQ(log_line_to_text(&line, out, sizeof out), sizeof full - 1);
    CHECK_TEXT(out, full);
    for (size_t size = 1; size < sizeof out; size++) {
        size_t len = log_line_to_text(&line, out, size);
        CHECK_TRUE(len < size);
        CHECK_EQ(strlen(out), len);
    }
}

TEST(log_time_knows_the_calendar)
{
    static const struct {
        uint64_t seconds;
        const char *text;
    } rows[] = {
        {0, "1970-01-01T00:00:00.000Z info m"},
        {951782400, "2000-02-29T00:00:00.000Z info m"},
        {951868800, "2000-03-01T00:00:00.000Z info m"},
        {1709164800, "2024-02-29T00:00:00.000Z info m"},
        {1735689599, "2024-12-31T23:59:59.000Z info m"},
        {4107542400, "2100-03-01T00:00:00.000Z info m"}, /* 2100 has no leap day */
        {18446744073, "2554-07-21T23:34:33.000Z info m"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const struct log_line line = {.level = LOG_INFO,
                                      .wall_ns = rows[i].seconds * 1000000000u,
                                      .node = "",
                                      .message = "m",
                                      .fields = ""};
        char out[128];
        CHECK_EQ(log_line_to_text(&line, out, sizeof out), strlen(rows[i].text));
        CHECK_TEXT(out, rows[i].text);
    }
}

TEST(log_level_names)
{
    CHECK_TEXT(log_level_name(LOG_ERROR), "error");
    CHECK_TEXT(log_level_name(LOG_WARN), "warn");
    CHECK_TEXT(log_level_name(LOG_INFO), "info");
    CHECK_TEXT(log_level_name(LOG_DEBUG), "debug");
}
