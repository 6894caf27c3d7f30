/* kv/frame_test.c -- frames and cursors: golden bytes, every truncation, every flipped bit. */
#include "kv/frame.h"

#include <stdio.h>
#include <string.h>

#include "testing/testing.h"

#define LEN 24u
#define GOLDEN_FRAME                                                   \
    "4b56535401000000887766554433221109000000000000004d00000000000000" \
    "0500000001000000e80300000000000000000400000000000600000000000000" \
    "000000000000000000000000000000001800000000000000e6d910579cc6b6d0"
#define GOLDEN_CURSOR                                                  \
    "4b56534301000000887766554433221109000000000000004d00000000000000" \
    "0500000001000000e8030000000000000000040000000000be0390565aff0fe3"
#define GOLDEN_CHAIN UINT64_C(0x2e88c629546b4f25)

static struct kv_cursor cursor(void)
{
    return (struct kv_cursor){.stream = UINT64_C(0x1122334455667788),
                              .number = 9,
                              .chain = 77,
                              .place = {.kind = 5, .part = 1, .item = 1000, .offset = 262144}};
}

static size_t make(const struct kv_cursor *at, bool last, uint8_t *out, struct kv_cursor *ret)
{
    struct kv_frame f = {.at = *at, .last = last, .len = LEN};
    if (!last) {
        f.next.place = (struct kv_place){.kind = 6};
    }
    memset(out + KV_FRAME_HEADER_BYTES, 'x', LEN);
    size_t len = kv_frame_seal(&f, out);
    CHECK_EQ(len, KV_FRAME_HEADER_BYTES + LEN);
    *ret = f.next;
    return len;
}

TEST(a_frame_is_what_was_sealed)
{
    uint8_t bytes[256];
    struct kv_cursor at = cursor(), next;
    struct kv_frame f;
    struct err e = {0};
    size_t len = make(&at, false, bytes, &next);
    CHECK_OK(kv_frame_open(&at, bytes, len, &f, &e));
    CHECK_EQ(f.len, LEN);
    CHECK_TRUE(!f.last && f.payload == bytes + KV_FRAME_HEADER_BYTES);
    CHECK_EQ(f.next.number, 10);
    CHECK_EQ(f.next.place.kind, 6);
    CHECK_EQ(f.next.chain, next.chain);
    CHECK_TRUE(next.chain != at.chain && next.stream == at.stream);
    len = make(&at, true, bytes, &next);
    CHECK_OK(kv_frame_open(&at, bytes, len, &f, &e));
    CHECK_TRUE(f.last);
}

TEST(golden_bytes)
{
    uint8_t bytes[256], c[KV_CURSOR_BYTES];
    char text[2 * KV_FRAME_HEADER_BYTES + 1];
    struct kv_cursor at = cursor(), next;
    (void)make(&at, false, bytes, &next);
    for (size_t i = 0; i < KV_FRAME_HEADER_BYTES; i++) {
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
    CHECK_TEXT(text, GOLDEN_FRAME);
    kv_cursor_encode(&at, c);
    for (size_t i = 0; i < KV_CURSOR_BYTES; i++) {
        snprintf(text + 2 * i, 3, "%02x", c[i]);
    }
    CHECK_TEXT(text, GOLDEN_CURSOR);
    CHECK_EQ(next.chain, (int64_t)GOLDEN_CHAIN);
}

TEST(damaged_frames_are_refused)
{
    uint8_t bytes[256];
    struct kv_cursor at = cursor(), next;
    struct kv_frame f;
    struct err e;
    size_t len = make(&at, false, bytes, &next);
    for (size_t i = 0; i < len; i++) {
        e = (struct err){0};
        CHECK_ERR(kv_frame_open(&at, bytes, i, &f, &e), ERR_corrupt);
        CHECK_TRUE(strstr(e.text, "where frame 9 is expected") != NULL);
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes[i] ^= (uint8_t)(1u << bit);
            CHECK_ERR(kv_frame_open(&at, bytes, len, &f, &e), ERR_corrupt);
            bytes[i] ^= (uint8_t)(1u << bit);
        }
    }
    CHECK_RC(kv_frame_open(&at, bytes, len + 1, &f, &e), ERR_bad_length);
}

TEST(only_the_next_frame_of_the_stream_fits)
{
    uint8_t bytes[256];
    struct kv_cursor at = cursor(), next, none = {0};
    struct kv_frame f;
    struct err e;
    size_t len = make(&at, false, bytes, &next);
    struct kv_cursor x = at;
    x.stream++;
    CHECK_RC(kv_frame_open(&x, bytes, len, &f, &e), ESTALE);
    CHECK_RC(kv_frame_open(&next, bytes, len, &f, &e), ERR_bad_value);
    CHECK_TRUE(strstr(e.text, "frame 9 came again, 10 is expected") != NULL);
    x = at;
    x.number = 3;
    CHECK_RC(kv_frame_open(&x, bytes, len, &f, &e), ERR_bad_value);
    CHECK_TRUE(strstr(e.text, "came too early") != NULL);
    x = at;
    x.chain++;
    CHECK_RC(kv_frame_open(&x, bytes, len, &f, &e), ERR_bad_value);
    x = at;
    x.place.offset++;
    CHECK_RC(kv_frame_open(&x, bytes, len, &f, &e), ERR_bad_value);
    CHECK_RC(kv_frame_open(&none, bytes, len, &f, &e), ERR_bad_value);
    at = (struct kv_cursor){.stream = 5};
    len = make(&at, false, bytes, &next);
    CHECK_OK(kv_frame_open(&none, bytes, len, &f, &e)); /* the first one, of any */
}

TEST(cursors)
{
    uint8_t bytes[KV_CURSOR_BYTES];
    struct kv_cursor at = cursor(), got;
    kv_cursor_encode(&at, bytes);
    CHECK_OK(kv_cursor_decode(bytes, &got));
    CHECK_TRUE(got.stream == at.stream && got.number == at.number && got.chain == at.chain);
    CHECK_TRUE(got.place.kind == 5 && got.place.part == 1 && got.place.item == 1000 &&
               got.place.offset == 262144);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= 4;
        CHECK_ERR(kv_cursor_decode(bytes, &got), ERR_corrupt);
        bytes[i] ^= 4;
    }
}
