#include "wire/wire.h"

#include "base/mem.h"
#include "testing/testing.h"

TEST(loads_and_stores_are_little_endian_anywhere)
{
    uint8_t bytes[16] = {0};
    for (size_t at = 0; at < 8; at++) {
        wire_store_u64(bytes + at, 0x8877665544332211u);
        for (size_t i = 0; i < 8; i++) {
            CHECK_EQ(bytes[at + i], 0x11 * (i + 1));
        }
        CHECK_TRUE(wire_load_u64(bytes + at) == 0x8877665544332211u);
        CHECK_EQ(wire_load_u32(bytes + at + 4), 0x88776655);
        CHECK_EQ(wire_load_u16(bytes + at + 6), 0x8877);
    }
}

#define SAMPLE_BYTES 26u
static void sample_write(struct wire_writer *w)
{
    wire_write_u8(w, 0x01);
    wire_write_u16(w, 0x0302);
    wire_write_u32(w, 0x07060504);
    wire_write_u64(w, 0x0f0e0d0c0b0a0908u);
    wire_write_counted(w, "\x14\x15\x16\x17", 4);
    wire_write_bytes(w, "\x18\x19\x1a", 3);
}
/* True: it is all there. */
static bool sample_read(struct wire_reader *r)
{
    size_t len = 99;
    bool same = wire_read_u8(r) == 0x01;
    same = wire_read_u16(r) == 0x0302 && same;
    same = wire_read_u32(r) == 0x07060504 && same;
    same = wire_read_u64(r) == 0x0f0e0d0c0b0a0908u && same;
    const uint8_t *counted = wire_read_counted(r, 4, &len);
    same = counted != NULL && len == 4 && counted[3] == 0x17 && same;
    CHECK_TRUE(counted != NULL || len == 0);
    const uint8_t *bytes = wire_read_bytes(r, 3);
    same = bytes != NULL && bytes[2] == 0x1a && same;
    return same;
}

TEST(what_is_written_is_read)
{
    uint8_t bytes[SAMPLE_BYTES];
    struct wire_writer w = wire_writer_over(bytes, sizeof bytes);
    sample_write(&w);
    CHECK_TRUE(!w.bad);
    CHECK_EQ(w.len, SAMPLE_BYTES);
    struct wire_reader r = wire_reader_over(bytes, w.len);
    CHECK_TRUE(sample_read(&r) && !r.bad);
    CHECK_EQ(r.left, 0);
    CHECK_EQ(wire_read_u8(&r), 0);
    CHECK_TRUE(r.bad);
}

/* Of memory of its own length each, so that a sanitizer sees a read behind the end. */
TEST(every_truncation_is_noticed_and_sticks)
{
    uint8_t bytes[SAMPLE_BYTES];
    struct wire_writer w = wire_writer_over(bytes, sizeof bytes);
    sample_write(&w);
    for (size_t len = 0; len < SAMPLE_BYTES; len++) {
        CLEANUP(mem_freep) uint8_t *cut = mem_dup(bytes, len);
        CHECK_TRUE(cut != NULL);
        struct wire_reader r = wire_reader_over(cut, len);
        CHECK_TRUE(!sample_read(&r));
        CHECK_TRUE(r.bad);
        CHECK_TRUE(wire_read_u64(&r) == 0 && wire_read_bytes(&r, 0) == NULL); /* for ever */
    }
}

TEST(a_full_writer_writes_nothing_more)
{
    for (size_t size = 0; size < SAMPLE_BYTES; size++) {
        uint8_t bytes[SAMPLE_BYTES];
        memset(bytes, 0xee, sizeof bytes);
        struct wire_writer w = wire_writer_over(bytes, size);
        sample_write(&w);
        CHECK_TRUE(w.bad && w.len <= size);
        for (size_t i = size; i < SAMPLE_BYTES; i++) {
            CHECK_EQ(bytes[i], 0xee);
        }
        wire_patch_u32(&w, 0, 0); /* nothing of what is bad is touched */
    }
}

TEST(a_writer_without_memory_counts)
{
    struct wire_writer w = wire_writer_over(NULL, 0);
    sample_write(&w);
    wire_patch_u32(&w, 0, 7);
    CHECK_TRUE(!w.bad);
    CHECK_EQ(w.len, SAMPLE_BYTES);
}

TEST(counted_bytes_keep_their_limit)
{
    uint8_t bytes[12];
    struct wire_writer w = wire_writer_over(bytes, sizeof bytes);
    size_t len = 0;
    wire_write_counted(&w, "12345678", 8);
    CHECK_TRUE(!w.bad);
    struct wire_reader r = wire_reader_over(bytes, sizeof bytes);
    CHECK_TRUE(wire_read_counted(&r, 8, &len) != NULL && len == 8);
    r = wire_reader_over(bytes, sizeof bytes);
    CHECK_TRUE(wire_read_counted(&r, 7, &len) == NULL && len == 0 && r.bad);
    wire_patch_u32(&w, 0, UINT32_MAX); /* a length that no memory has */
    r = wire_reader_over(bytes, sizeof bytes);
    CHECK_TRUE(wire_read_counted(&r, SIZE_MAX, &len) == NULL && len == 0 && r.bad);
    w = wire_writer_over(bytes, sizeof bytes);
    wire_write_counted(&w, bytes, (size_t)UINT32_MAX + 1);
    CHECK_TRUE(w.bad && w.len == 0);
}
