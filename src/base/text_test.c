#include "base/text.h"

#include "testing/testing.h"

#include <string.h>

TEST(text_add_appends_and_remembers_a_cut)
{
    char at[8];
    struct text t;
    text_init(&t, at, sizeof at);
    CHECK_TEXT(at, "");
    text_add(&t, "%s", "abc");
    text_add(&t, "%d", 1234);
    CHECK_TEXT(at, "abc1234");
    CHECK_TRUE(!t.cut);
    CHECK_EQ(t.len, 7);
    text_add(&t, "%s", "");
    CHECK_TRUE(!t.cut);
    text_add(&t, "%s", "x");
    CHECK_TRUE(t.cut);
    CHECK_TEXT(at, "abc1234");
}

TEST(text_after_a_cut_nothing_is_added)
{
    char at[6];
    struct text t;
    text_init(&t, at, sizeof at);
    text_add(&t, "abc\xe2\x82\xac"); /* needs 7 with its end */
    CHECK_TEXT(at, "abc");
    CHECK_TRUE(t.cut);
    text_add(&t, "d");
    text_add_whole(&t, "d", 1);
    text_add_bytes(&t, "d", 1);
    CHECK_TEXT(at, "abc");
}

TEST(text_of_one_byte_holds_nothing)
{
    char at[1];
    struct text t;
    text_init(&t, at, sizeof at);
    text_add(&t, "abc");
    CHECK_TEXT(at, "");
    CHECK_TRUE(t.cut);
}

TEST(text_add_whole_is_all_or_nothing)
{
    char at[4];
    struct text t;
    text_init(&t, at, sizeof at);
    text_add_whole(&t, "ab", 2);
    text_add_whole(&t, "cd", 2);
    CHECK_TEXT(at, "ab");
    CHECK_TRUE(t.cut);
}

TEST(text_add_bytes_escapes_what_is_not_printable)
{
    char at[64];
    struct text t;
    text_init(&t, at, sizeof at);
    text_add_bytes(&t, "a\0\n\x7f\xff z", 7);
    CHECK_TEXT(at, "a\\x00\\x0a\\x7f\\xff z");
    CHECK_TRUE(!t.cut);
}

TEST(text_add_bytes_marks_the_cut_between_items)
{
    static const char bytes[] = "ab\x01"
                                "cd\x02"
                                "ef";
    char full[64];
    struct text f;
    text_init(&f, full, sizeof full);
    text_add_bytes(&f, bytes, sizeof bytes - 1);
    for (size_t size = 1; size <= f.len + 2; size++) {
        char at[64];
        struct text t;
        text_init(&t, at, size);
        text_add_bytes(&t, bytes, sizeof bytes - 1);
        CHECK_EQ(strlen(at), t.len);
        CHECK_TRUE(t.len < size);
        CHECK_EQ(t.cut, size <= f.len);
        if (t.cut && size > 3) {
            CHECK_TEXT(at + t.len - 3, "...");
            CHECK_BYTES(at, full, t.len - 3);
            CHECK_TRUE(strchr("abcdef\\", full[t.len - 3]) != NULL); /* no item is split */
        }
    }
}

TEST(text_utf8_len_accepts_well_formed_characters_only)
{
    static const struct {
        const char *bytes;
        size_t left, len;
    } rows[] = {
        {"", 0, 0},
        {"a", 1, 1},
        {"\0", 1, 1},
        {"\xc3\xa9", 2, 2},
        {"\xc3\xa9", 1, 0},
        {"\xe2\x82\xac", 3, 3},
        {"\xe2\x82\xac", 2, 0},
        {"\xf0\x9f\x98\x80", 4, 4},
        {"\xf0\x9f\x98\x80", 3, 0},
        {"\x80", 1, 0},             /* continues nothing */
        {"\xc0\x80", 2, 0},         /* overlong */
        {"\xe0\x9f\xbf", 3, 0},     /* overlong */
        {"\xf0\x8f\xbf\xbf", 4, 0}, /* overlong */
        {"\xed\x9f\xbf", 3, 3},
        {"\xed\xa0\x80", 3, 0}, /* surrogate */
        {"\xed\xbf\xbf", 3, 0}, /* surrogate */
        {"\xee\x80\x80", 3, 3},
        {"\xf4\x8f\xbf\xbf", 4, 4},
        {"\xf4\x90\x80\x80", 4, 0}, /* above U+10FFFF */
        {"\xf5\x80\x80\x80", 4, 0},
        {"\xff", 1, 0},
        {"\xc3"
         "a",
         2, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        CHECK_EQ(text_utf8_len(rows[i].bytes, rows[i].left), rows[i].len);
    }
}

TEST(text_whole_utf8_drops_the_incomplete_end)
{
    static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z";
    static const size_t whole[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11};
    for (size_t len = 0; len < sizeof text; len++) {
        CHECK_EQ(text_whole_utf8(text, len), whole[len]);
    }
    CHECK_EQ(text_whole_utf8("\x80\x80\x80\x80", 4), 4); /* broken before: nothing to repair */
}

TEST(text_hex_and_back)
{
    const uint8_t bytes[4] = {0x00, 0x9a, 0xbc, 0xff};
    char hex[9];
    uint8_t back[4] = {0};
    text_hex(hex, bytes, sizeof bytes);
    CHECK_TEXT(hex, "009abcff");
    CHECK_OK(text_unhex(back, sizeof back, hex));
    CHECK_BYTES(back, bytes, sizeof bytes);
    CHECK_OK(text_unhex(back, sizeof back, "009ABCFF"));
    CHECK_OK(text_unhex(back, 0, ""));
}

TEST(text_unhex_refuses_and_leaves_the_output)
{
    static const char *const bad[] = {"", "0", "00", "000", "0g", "00000", "xx00", "00 0", "-000"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        uint8_t out[2] = {7, 8};
        CHECK_RC(text_unhex(out, sizeof out, bad[i]), EINVAL);
        CHECK_EQ(out[0], 7);
        CHECK_EQ(out[1], 8);
    }
}

TEST(uuid_to_text_and_back)
{
    static const char text[] = "00112233-4455-6677-8899-aabbccddeeff";
    struct uuid u, same;
    char out[UUID_TEXT_SIZE];
    CHECK_OK(uuid_from_text(&u, text));
    CHECK_EQ(u.bytes[0], 0x00);
    CHECK_EQ(u.bytes[15], 0xff);
    uuid_to_text(&u, out);
    CHECK_TEXT(out, text);
    CHECK_OK(uuid_from_text(&same, "00112233-4455-6677-8899-AABBCCDDEEFF"));
    CHECK_TRUE(uuid_equal(&u, &same));
    same.bytes[15] ^= 1;
    CHECK_TRUE(!uuid_equal(&u, &same));
    CHECK_TRUE(!uuid_is_zero(&u));
    CHECK_TRUE(uuid_is_zero(&(struct uuid){{0}}));
}

TEST(uuid_from_text_refuses_every_truncation_and_change)
{
    static const char text[] = "00112233-4455-6677-8899-aabbccddeeff";
    char bad[64];
    struct uuid u;
    for (size_t len = 0; len < sizeof text - 1; len++) {
        memcpy(bad, text, sizeof text);
        bad[len] = '\0';
        CHECK_RC(uuid_from_text(&u, bad), EINVAL);
        memcpy(bad, text, sizeof text);
        bad[len] = 'g';
        CHECK_RC(uuid_from_text(&u, bad), EINVAL);
    }
    CHECK_RC(uuid_from_text(&u, "00112233-4455-6677-8899-aabbccddeeff0"), EINVAL);
    CHECK_RC(uuid_from_text(&u, "001122334-455-6677-8899-aabbccddeeff"), EINVAL);
}

struct text_row {
    const char *text;
    int rc;
    uint64_t value;
};

static void text_check_rows(int (*parse)(const char *, uint64_t *), const struct text_row *row,
                            size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t v = 4711;
        CHECK_EQ(parse(row[i].text, &v), row[i].rc);
        CHECK_EQ(v, row[i].rc == 0 ? row[i].value : 4711); /* written on success only */
    }
}

TEST(text_to_u64_takes_digits_only)
{
    static const struct text_row rows[] = {
        {"0", 0, 0},
        {"007", 0, 7},
        {"18446744073709551615", 0, UINT64_MAX},
        {"18446744073709551616", -ERANGE, 0},
        {"99999999999999999999999", -ERANGE, 0},
        {"99999999999999999999999x", -EINVAL, 0},
        {"", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"+1", -EINVAL, 0},
        {" 1", -EINVAL, 0},
        {"1 ", -EINVAL, 0},
        {"0x10", -EINVAL, 0},
    };
    text_check_rows(text_to_u64, rows, ARRAY_COUNT(rows));
}

TEST(text_to_bytes_knows_powers_of_1024)
{
    static const struct text_row rows[] = {
        {"4096", 0, 4096},
        {"0", 0, 0},
        {"12B", 0, 12},
        {"64K", 0, 65536},
        {"64k", 0, 65536},
        {"4MiB", 0, 4u << 20},
        {"4 MiB", 0, 4u << 20},
        {"1.5G", 0, 3ull << 29},
        {"0.000000001E", 0, 1152921504},
        {"1.3K", 0, 1331},
        {"15E", 0, 15ull << 60},
        {"16E", -ERANGE, 0},
        {"15.999999999E", 0, 18446744072556630111ull},
        {"18446744073709551616", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"K", -EINVAL, 0},
        {"1.5", -EINVAL, 0},
        {"1.5B", -EINVAL, 0},
        {"1.G", -EINVAL, 0},
        {".5G", -EINVAL, 0},
        {"1.0000000001G", -EINVAL, 0},
        {"1..5G", -EINVAL, 0},
        {"4  K", -EINVAL, 0},
        {"4 ", -EINVAL, 0},
        {"4KB", -EINVAL, 0}, /* 1000 or 1024? */
        {"4Q", -EINVAL, 0},
        {"-4K", -EINVAL, 0},
        {"99999999999999999999Q", -EINVAL, 0},
    };
    text_check_rows(text_to_bytes, rows, ARRAY_COUNT(rows));
}

TEST(text_to_ms_wants_a_unit)
{
    static const struct text_row rows[] = {
        {"30s", 0, 30000},     {"200ms", 0, 200},
        {"10min", 0, 600000},  {"1h", 0, 3600000},
        {"2d", 0, 172800000},  {"1.5s", 0, 1500},
        {"0", 0, 0},           {"30", -EINVAL, 0},
        {"1.5ms", -EINVAL, 0}, {"1m", -EINVAL, 0},
        {"s", -EINVAL, 0},     {"", -EINVAL, 0},
        {"0x", -EINVAL, 0},    {"213503982335d", -ERANGE, 0},
    };
    text_check_rows(text_to_ms, rows, ARRAY_COUNT(rows));
}

TEST(text_from_bytes_rounds_to_tenths)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } rows[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1 KiB"},
        {1536, "1.5 KiB"},
        {65536, "64 KiB"},
        {1048575, "1 MiB"}, /* not 1024 KiB */
        {1503238553, "1.4 GiB"},
        {UINT64_MAX, "16 EiB"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char out[TEXT_UNIT_SIZE];
        CHECK_TEXT(text_from_bytes(rows[i].bytes, out), rows[i].text);
    }
}

TEST(text_from_ms_shows_two_units)
{
    static const struct {
        uint64_t ms;
        const char *text;
    } rows[] = {
        {0, "0 ms"},
        {999, "999 ms"},
        {1000, "1 s"},
        {1500, "1 s 500 ms"},
        {80000, "1 min 20 s"},
        {3600000, "1 h"},
        {3660000, "1 h 1 min"},
        {90000000, "1 d 1 h"},
        {UINT64_MAX, "213503982334 d 14 h"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char out[TEXT_UNIT_SIZE];
        CHECK_TEXT(text_from_ms(rows[i].ms, out), rows[i].text);
    }
}
