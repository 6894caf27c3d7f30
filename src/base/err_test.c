#include "base/err.h"

#include "testing/testing.h"

#include <limits.h>
#include <string.h>

TEST(err_is_walks_to_the_class)
{
    CHECK_TRUE(err_is(-ERR_not_leader, ERR_not_leader));
    CHECK_TRUE(err_is(-ERR_not_leader, ERR_redirect));
    CHECK_TRUE(err_is(-ERR_not_leader, EAGAIN));
    CHECK_TRUE(err_is(-ENOENT, ENOENT));
    CHECK_TRUE(!err_is(-ERR_redirect, ERR_not_leader)); /* up only */
    CHECK_TRUE(!err_is(-ERR_not_leader, EIO));
    CHECK_TRUE(!err_is(0, EAGAIN));
    CHECK_TRUE(!err_is(EAGAIN, EAGAIN)); /* positive is success */
}

TEST(err_numbers_never_change)
{
    CHECK_EQ(ERR_redirect, 4097);
    CHECK_EQ(ERR_short_msg, 4100);
    CHECK_EQ(ERR_unknown_outcome, 4108);
    CHECK_EQ(ERR_capability_expired, 4132);
    CHECK_EQ(ERR_waiting_row, 4140);
    CHECK_EQ(ERR_unknown_host, 4143);
}

#define ERR_TEST_ROW(parent, leaf, nr, what) {ERR_##leaf, (parent), (nr), "ERR_" #leaf, what},
static const struct {
    int code, parent, number;
    const char *name, *text;
} err_rows[] = {ERRORS(ERR_TEST_ROW)};

TEST(err_every_row_is_consistent)
{
    for (size_t i = 0; i < ARRAY_COUNT(err_rows); i++) {
        int rc = -err_rows[i].code;
        CHECK_EQ(err_rows[i].number, (int64_t)i + 1); /* no gap, none twice */
        CHECK_TEXT(err_text(rc), err_rows[i].text);
        CHECK_TEXT(err_name(rc), err_rows[i].name);
        CHECK_TRUE(err_is(rc, err_rows[i].parent));
        CHECK_TRUE(err_to_errno(rc) > 0 && err_to_errno(rc) < ERR_BASE);
        CHECK_TRUE(err_is(rc, err_to_errno(rc)));
    }
}

TEST(err_to_errno_answers_for_any_number)
{
    CHECK_EQ(err_to_errno(0), 0);
    CHECK_EQ(err_to_errno(17), 0);
    CHECK_EQ(err_to_errno(-ENOSPC), ENOSPC);
    CHECK_EQ(err_to_errno(-ERR_capability_expired), EACCES);
    const int strange[] = {-ERR_BASE, -ERR_END, -9999, -100000, INT_MIN, INT_MIN + 1};
    for (size_t i = 0; i < ARRAY_COUNT(strange); i++) {
        CHECK_EQ(err_to_errno(strange[i]), EIO);
        CHECK_TEXT(err_text(strange[i]), "unknown error");
        CHECK_TEXT(err_name(strange[i]), "ERR_unknown");
        CHECK_TRUE(!err_is(strange[i], EIO));
    }
}

TEST(err_text_knows_errno)
{
    CHECK_TEXT(err_text(-ENOSPC), "No space left on device");
    CHECK_TEXT(err_name(-ENOSPC), "ENOSPC");
    CHECK_TEXT(err_text(0), "success");
    CHECK_TEXT(err_name(0), "OK");
}

TEST(err_set_adds_the_text_of_the_code)
{
    struct err e = {0};
    CHECK_RC(err_set(&e, -ENOENT, "open '%s'", "/a"), ENOENT);
    CHECK_EQ(e.code, -ENOENT);
    CHECK_TEXT(e.text, "open '/a': No such file or directory");
    CHECK_RC(err_set(NULL, -EIO, "nobody asks %d", 1), EIO);
}

/* The cause stays readable however long the context is, and no character is cut in two. */
TEST(err_set_cuts_in_whole_characters)
{
    char path[400];
    for (size_t shift = 0; shift < 4; shift++) {
        memset(path, 'x', shift);
        for (size_t i = shift; i + 4 < sizeof path; i += 3) {
            memcpy(path + i, "\xe2\x82\xac", 4); /* the sign of the euro */
        }
        struct err e = {0};
        CHECK_RC(err_set(&e, -ENOENT, "%s", path), ENOENT);
        static const char end[] = "\xe2\x82\xac...: No such file or directory";
        size_t len = strlen(e.text);
        CHECK_TRUE(len > 220 && len < sizeof e.text);
        CHECK_TEXT(e.text + len - (sizeof end - 1), end);
    }
}

TEST(err_prefix_goes_in_front)
{
    struct err e = {0};
    CHECK_RC(err_set(&e, -ERR_bad_crc, "block %d", 7), ERR_bad_crc);
    CHECK_RC(err_prefix(&e, -EIO, "open tree '%s'", "t"), EIO);
    CHECK_TEXT(e.text, "open tree 't': block 7: checksum does not match");
    CHECK_EQ(e.code, -ERR_bad_crc);                    /* what really happened */
    CHECK_RC(err_prefix(&e, -EIO, "%s", e.text), EIO); /* its own text as argument */
    CHECK_TEXT(e.text, "open tree 't': block 7: checksum does not match: "
                       "open tree 't': block 7: checksum does not match");
    CHECK_RC(err_prefix(NULL, -EIO, "x"), EIO);
}

TEST(err_prefix_of_an_empty_error_sets_it)
{
    struct err e = {0};
    CHECK_RC(err_prefix(&e, -EBUSY, "mount"), EBUSY);
    CHECK_TEXT(e.text, "mount: Device or resource busy");
    CHECK_EQ(e.code, -EBUSY);
    struct err coded = {.code = -ENOENT};
    CHECK_RC(err_prefix(&coded, -EIO, "mount"), EIO);
    CHECK_TEXT(coded.text, "mount: No such file or directory");
}

TEST(err_prefix_stays_inside)
{
    struct err e = {0};
    CHECK_RC(err_set(&e, -EIO, "the first one"), EIO);
    for (int i = 0; i < 50; i++) {
        CHECK_RC(err_prefix(&e, -EIO, "level %d", i), EIO);
        CHECK_TRUE(strnlen(e.text, sizeof e.text) < sizeof e.text);
    }
    CHECK_TRUE(strncmp(e.text, "level 49: level 48: ", 20) == 0);
}

TEST(err_message_is_never_null)
{
    struct err e = {0};
    CHECK_TEXT(err_message(NULL, -ENOSPC), "No space left on device");
    CHECK_TEXT(err_message(&e, -ENOSPC), "No space left on device");
    CHECK_RC(err_set(&e, -EIO, "disk"), EIO);
    CHECK_TEXT(err_message(&e, -ENOSPC), "disk: Input/output error");
}
