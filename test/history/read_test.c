/* history/read_test.c -- histories as text: the way there and back, and what is refused. */
#include "history.h"

#include "testing/testing.h"

#include <stdlib.h>
#include <string.h>

#define HEADER "{\"type\":\"header\",\"format\":\"opendfs-history\",\"version\":1}\n"

static const char good[] = HEADER
    "{\"type\":\"invoke\",\"process\":0,\"time\":1,\"f\":\"create\",\"path\":\"/a/b\",\"mode\":420,"
    "\"data\":7}\n"
    "{\"type\":\"invoke\",\"process\":1,\"time\":2,\"f\":\"rename\",\"path\":\"/a\",\"to\":\"/c\","
    "\"flags\":\"noreplace\"}\n"
    "{\"type\":\"fail\",\"process\":0,\"time\":3,\"f\":\"create\",\"error\":\"ENOENT\"}\n"
    "{\"type\":\"invoke\",\"process\":0,\"time\":4,\"f\":\"list\",\"path\":\"/\"}\n"
    "{\"type\":\"ok\",\"process\":0,\"time\":5,\"f\":\"list\",\"entries\":\"a:directory:2 "
    "c:file:3\"}\n"
    "{\"type\":\"invoke\",\"process\":0,\"time\":6,\"f\":\"stat\",\"path\":\"/c\"}\n"
    "{\"type\":\"ok\",\"process\":0,\"time\":7,\"f\":\"stat\",\"ino\":3,\"kind\":\"file\",\"mode\":"
    "384,\"nlink\":1}\n";

static int read_text(const char *text, size_t len, struct history *h)
{
    struct err e = {0};
    history_init(h);
    int rc = history_read(text, len, h, &e);
    CHECK_TRUE((rc < 0) == (e.text[0] != 0));
    return rc;
}

TEST(there_and_back)
{
    struct history h;
    char *text = NULL;
    size_t len = 0;
    CHECK_OK(read_text(good, strlen(good), &h));
    CHECK_EQ(h.op_count, 4);
    CHECK_EQ(h.event_count, 7);
    CHECK_EQ(h.op[1].outcome, HISTORY_OPEN);
    CHECK_EQ(h.op[1].flags, HISTORY_NOREPLACE);
    CHECK_EQ(h.op[0].error, ENOENT);
    CHECK_EQ(h.op[2].entry_count, 2);
    CHECK_EQ(h.op[3].nlink, 1);
    FILE *f = open_memstream(&text, &len);
    CHECK_TRUE(f != NULL);
    CHECK_OK(history_write(&h, f));
    (void)fclose(f);
    CHECK_EQ(len, strlen(good));
    CHECK_BYTES(text, good, len);
    free(text);
    history_fini(&h);
}

/* Every truncation is read up to its last whole line, or refused; never beyond its end. */
TEST(every_truncation)
{
    for (size_t len = 0; len < strlen(good); len++) {
        struct history h;
        char *exact = malloc(len + 1);
        CHECK_TRUE(exact != NULL);
        memcpy(exact, good, len);
        exact = realloc(exact, len > 0 ? len : 1);
        CHECK_TRUE(exact != NULL);
        bool whole = len >= strlen(HEADER) - 1 && (good[len] == '\n' || good[len - 1] == '\n');
        CHECK_EQ(read_text(exact, len, &h) == 0, whole);
        history_fini(&h);
        free(exact);
    }
}

TEST(refused)
{
    static const char *const bad[] = {
        "{\"type\":\"ok\",\"process\":0,\"time\":1}",
        "{\"type\":\"invoke\",\"process\":0,\"time\":1,\"f\":\"nothing\",\"path\":\"/a\"}",
        "{\"type\":\"invoke\",\"process\":0,\"time\":1,\"f\":\"unlink\",\"path\":\"a\"}",
        "{\"type\":\"invoke\",\"process\":0,\"time\":1,\"f\":\"unlink\",\"path\":\"/a/\"}",
        "{\"type\":\"invoke\",\"process\":0,\"time\":1,\"f\":\"unlink\",\"path\":\"/a//b\"}",
        "{\"type\":\"invoke\",\"process\":0,\"time\":1,\"f\":\"unlink\",\"path\":\"/\"}",
        "{\"type\":\"invoke\",\"process\":0,\"time\":1,\"f\":\"unlink\",\"path\":\"/a/a/a/a/a\"}",
        "{\"type\":\"invoke\",\"process\":0,\"time\":-1,\"f\":\"unlink\",\"path\":\"/a\"}",
        "{\"type\":\"invoke\",\"process\":99999999,\"time\":1,\"f\":\"unlink\",\"path\":\"/a\"}",
        "{\"type\":\"invoke\",\"process\":0,\"time\":1,\"f\":\"unlink\",\"path\":\"/\\u0061\"}",
        ("{\"type\":\"invoke\",\"process\":0,\"time\":18446744073709551616,\"f\":\"stat\","
         "\"path\":\"/\"}"),
        ("{\"type\":\"invoke\",\"process\":0,\"time\":1,\"f\":\"create\",\"path\":\"/"
         "a\",\"mode\":1}"),
        "{\"type\":\"invoke\"",
        "[]",
        HEADER,
    };
    for (unsigned i = 0; i < ARRAY_COUNT(bad); i++) {
        struct history h;
        char text[600];
        (void)snprintf(text, sizeof text, "%s%s\n", HEADER, bad[i]);
        CHECK_RC(read_text(text, strlen(text), &h), EINVAL);
        history_fini(&h);
    }
}
