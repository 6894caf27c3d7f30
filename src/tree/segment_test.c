/*
 * tree/segment_test.c -- a stream of messages comes back; every flipped bit and every truncation is
 * noticed; what contradicts itself is refused.
 */
#include "tree/segment.h"

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"
#include "wire/wire.h"

#include <stdio.h>
#include <string.h>

#define BODY_MAX 60u

static const uint8_t file_id[] = "a file's own id.";

/* Message n of a test: keys ascend, some have several messages. */
struct message {
    char key[12];
    uint8_t body[BODY_MAX];
    struct tree_block_entry entry;
};

static void message_of(struct message *m, uint32_t n)
{
    uint32_t age = n % 7 % 3, key = n - age; /* 0 0 0 3 3 3 6 | 7 7 7 ... */
    memset(m->body, (int)(n & 0xff), sizeof m->body);
    (void)snprintf(m->key, sizeof m->key, "key%08u", key);
    m->entry = (struct tree_block_entry){.key = kv_slice_of(m->key, 11),
                                         .body = kv_slice_of(m->body, n * 13 % BODY_MAX),
                                         .msn = 5000 + key * 17 % 31 * 10 + 2 - age,
                                         .type = (uint8_t)(1 + n % 4)};
}

struct stream {
    uint8_t *bytes; /* owned */
    size_t len, capacity;
    uint64_t sum;
    struct tree_segment_expect expect;
    struct tree_codec codec; /* of writer and readers */
};

struct plan {
    uint32_t messages;
    size_t block_bytes;
    enum tree_codec_id codec;
    bool ranges;
};

static uint8_t *stream_room(struct stream *s, size_t len)
{
    return mem_grow(&s->bytes, &s->capacity, s->len + len, 1) < 0 ? NULL : s->bytes + s->len;
}

static size_t some_ranges(uint8_t *out)
{
    const struct tree_ranges_item items[] = {
        {.low = kv_slice_of("a", 1), .high = kv_slice_of("b", 1), .msn = 4999},
        {.low = kv_slice_of("key", 3), .high = kv_slice_of("key5", 4), .msn = 5001},
    };
    return tree_ranges_encode(items, 2, out);
}

static int stream_block(struct stream *s, struct tree_segment_writer *w)
{
    size_t len = 0, bound = tree_segment_block_bound(w);
    uint8_t *room = stream_room(s, bound);
    int rc = room == NULL ? -ENOMEM : tree_segment_block(w, room, &len);
    CHECK_TRUE(len <= bound);
    s->len += rc == 0 ? len : 0;
    return rc;
}

static int stream_messages(struct stream *s, struct tree_segment_writer *w, uint32_t count)
{
    int rc = 0;
    for (uint32_t i = 0; i < count && rc >= 0;) {
        struct message m;
        message_of(&m, i);
        rc = tree_segment_add(w, &m.entry);
        if (rc == 0) {
            rc = stream_block(s, w);
        } else {
            i++;
        }
    }
    return rc >= 0 && tree_segment_has_block(w) ? stream_block(s, w) : (rc < 0 ? rc : 0);
}

static int stream_end(struct stream *s, struct tree_segment_writer *w, bool with_ranges)
{
    uint8_t raw[128];
    size_t len = with_ranges ? some_ranges(raw) : 0, bound = tree_segment_end_bound(w, len);
    struct tree_segment_end end = {0};
    uint8_t *room = stream_room(s, bound);
    int rc = room == NULL ? -ENOMEM : tree_segment_end(w, kv_slice_of(raw, len), room, &end);
    CHECK_TRUE(end.len <= bound);
    s->len += end.len;
    s->expect.sum = end.sum;
    s->expect.len = s->len;
    return rc;
}

static int stream_write(struct stream *s, const struct plan *plan)
{
    struct tree_segment_writer w;
    const struct tree_codec_options options = {0};
    *s = (struct stream){.expect.id = {.file_id = file_id, .checkpoint = 9, .number = 2}};
    int rc = tree_codec_init(&s->codec, &options);
    if (rc < 0) {
        return rc;
    }
    tree_segment_writer_init(&w, &(struct tree_segment_options){.id = s->expect.id,
                                                                .packer = &s->codec,
                                                                .codec = plan->codec,
                                                                .block_bytes = plan->block_bytes});
    uint8_t *room = stream_room(s, TREE_SEGMENT_HEADER_BYTES);
    rc = room == NULL ? -ENOMEM : 0;
    if (rc == 0) {
        tree_segment_begin(&w, room);
        s->len = TREE_SEGMENT_HEADER_BYTES;
        rc = stream_messages(s, &w, plan->messages);
    }
    if (rc == 0) {
        rc = stream_end(s, &w, plan->ranges);
    }
    tree_segment_writer_fini(&w);
    return rc;
}

static void stream_free(struct stream *s)
{
    mem_free(s->bytes);
    s->bytes = NULL;
    tree_codec_fini(&s->codec);
}

/* An opened segment. */
struct reader {
    struct tree_segment segment;
    struct tree_ranges ranges;
    uint8_t *index, *block, *range; /* owned */
};

static void reader_close(struct reader *r)
{
    mem_free(r->index);
    mem_free(r->block);
    mem_free(r->range);
}

/* Everything but the blocks. */
static int reader_open(struct reader *r, struct stream *s)
{
    struct tree_segment *g = &r->segment;
    *r = (struct reader){0};
    if (s->len < TREE_SEGMENT_HEADER_BYTES + TREE_SEGMENT_TRAILER_BYTES) {
        return -ERR_short_msg;
    }
    const uint8_t *trailer = s->bytes + s->len - TREE_SEGMENT_TRAILER_BYTES;
    int rc = tree_segment_check_header(s->bytes, &s->expect.id);
    rc = rc < 0 ? rc : tree_segment_open(trailer, &s->expect, g);
    if (rc < 0) {
        return rc;
    }
    r->index = mem_alloc(g->index.raw_len + 1u);
    r->range = mem_alloc(g->ranges.raw_len + 1u);
    CHECK_TRUE(r->index != NULL && r->range != NULL);
    if (g->block_count > 0) {
        rc = tree_segment_open_index(g, s->bytes + g->index.offset, &s->codec, r->index);
    }
    if (rc == 0 && g->ranges.raw_len > 0) {
        rc = tree_segment_open_ranges(g, s->bytes + g->ranges.offset, &s->codec, r->range,
                                      &r->ranges);
    }
    return rc;
}

/* The block is there until the next one is. */
static int reader_block(struct reader *r, struct stream *s, uint32_t i, struct tree_block *b)
{
    mem_free(r->block);
    r->block = mem_alloc(tree_segment_part(&r->segment, i).raw_len);
    CHECK_TRUE(r->block != NULL);
    const struct tree_segment_block_in in = {
        .i = i,
        .packed = s->bytes + tree_segment_part(&r->segment, i).offset,
        .raw = r->block,
    };
    return tree_segment_open_block(&r->segment, &in, &s->codec, b);
}

/* Reads all; the number of messages, each compared. */
static int read_all(struct stream *s, uint32_t *ret_count)
{
    struct reader r;
    uint32_t count = 0;
    int rc = reader_open(&r, s);
    for (uint32_t i = 0; rc == 0 && i < r.segment.block_count; i++) {
        struct tree_block b = {0};
        struct tree_block_iter it;
        rc = reader_block(&r, s, i, &b);
        if (rc < 0) {
            break;
        }
        tree_block_iter_init(&it, &b);
        for (bool on = tree_block_iter_seek(&it, 0); on; on = tree_block_iter_next(&it)) {
            struct message m;
            message_of(&m, count++);
            CHECK_EQ(kv_slice_compare(it.entry.key, m.entry.key), 0);
            CHECK_EQ(kv_slice_compare(it.entry.body, m.entry.body), 0);
            CHECK_TRUE(it.entry.msn == m.entry.msn && it.entry.type == m.entry.type);
            CHECK_TRUE(it.entry.msn >= r.segment.msn_min && it.entry.msn <= r.segment.msn_max);
        }
    }
    reader_close(&r);
    *ret_count = count;
    return rc;
}

static const struct plan plans[] = {
    {.messages = 5000, .codec = TREE_CODEC_LZ4, .ranges = true},
    {.messages = 3000, .codec = TREE_CODEC_ZSTD},
    {.messages = 300, .block_bytes = 500, .ranges = true},
    {.messages = 300, .block_bytes = 1, .codec = TREE_CODEC_LZ4},
    {.messages = 1},
    {.messages = 0, .ranges = true},
};

TEST(streams_come_back)
{
    for (size_t i = 0; i < ARRAY_COUNT(plans); i++) {
        struct stream s;
        struct reader r;
        uint32_t count = 0;
        CHECK_OK(stream_write(&s, &plans[i]));
        CHECK_OK(read_all(&s, &count));
        CHECK_EQ(count, plans[i].messages);
        CHECK_OK(reader_open(&r, &s));
        CHECK_EQ(r.segment.entries, plans[i].messages);
        CHECK_EQ(r.ranges.count, plans[i].ranges ? 2 : 0);
        CHECK_TRUE(plans[i].block_bytes != 1 || r.segment.block_count == plans[i].messages);
        reader_close(&r);
        stream_free(&s);
    }
}

/* A search begins in the right block: the key is in it or at the start of the next. */
TEST(every_key_is_found)
{
    struct stream s;
    struct reader r;
    CHECK_OK(stream_write(&s, &plans[2]));
    CHECK_OK(reader_open(&r, &s));
    CHECK_TRUE(r.segment.block_count > 20);
    for (uint32_t n = 0; n < plans[2].messages; n++) {
        struct message m;
        struct tree_block b = {0};
        bool equal = false;
        message_of(&m, n);
        uint32_t i = tree_segment_find(&r.segment, m.entry.key), at = 0;
        for (uint32_t tries = 0; tries < 2 && i < r.segment.block_count; tries++, i++) {
            CHECK_OK(reader_block(&r, &s, i, &b));
            at = tree_block_lower(&b, m.entry.key, &equal);
            if (at < b.count) {
                break;
            }
        }
        CHECK_TRUE(equal);
    }
    CHECK_EQ(tree_segment_find(&r.segment, kv_slice_of("", 0)), 0);
    CHECK_EQ(tree_segment_find(&r.segment, kv_slice_of("z", 1)), r.segment.block_count - 1);
    reader_close(&r);
    stream_free(&s);
}

TEST(every_flipped_bit_is_noticed)
{
    for (unsigned i = 0; i < 2; i++) {
        struct stream s;
        uint32_t count = 0;
        const struct plan plan = {
            .messages = 30, .block_bytes = 500, .ranges = true, .codec = (enum tree_codec_id)i};
        CHECK_OK(stream_write(&s, &plan));
        for (size_t bit = 0; bit < 8 * s.len; bit++) {
            s.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            CHECK_ERR(read_all(&s, &count), ERR_corrupt);
            s.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        CHECK_OK(read_all(&s, &count));
        stream_free(&s);
    }
}

TEST(every_truncation_is_noticed)
{
    struct stream s;
    uint32_t count = 0;
    const struct plan plan = {.messages = 30, .block_bytes = 500, .ranges = true};
    CHECK_OK(stream_write(&s, &plan));
    for (size_t len = s.len; len-- > 0;) {
        struct stream cut = s;
        cut.bytes = mem_dup(s.bytes, len > 0 ? len : 1);
        CHECK_TRUE(cut.bytes != NULL);
        cut.len = len;
        CHECK_ERR(read_all(&cut, &count), ERR_corrupt);
        mem_free(cut.bytes); /* the rest is that of the whole one */
    }
    s.expect.len++;
    CHECK_RC(read_all(&s, &count), ERR_bad_length);
    stream_free(&s);
}

TEST(segments_that_should_not_be_here_are_refused)
{
    struct stream s;
    uint32_t count = 0;
    CHECK_OK(stream_write(&s, &plans[2]));
    struct tree_segment_expect x = s.expect;
    s.expect.id.number++;
    CHECK_RC(read_all(&s, &count), ERR_bad_crc);
    s.expect = x;
    s.expect.id.checkpoint--;
    CHECK_RC(read_all(&s, &count), ERR_bad_crc);
    s.expect = x;
    s.expect.id.file_id = (const uint8_t *)"another file's id";
    CHECK_RC(read_all(&s, &count), ERR_bad_crc);
    s.expect = x;
    s.expect.sum++;
    CHECK_RC(read_all(&s, &count), ERR_bad_crc);
    stream_free(&s);
}

/* Two blocks of the same segment in each other's place. */
TEST(blocks_belong_to_their_place)
{
    struct stream s;
    struct reader r;
    struct tree_block b;
    CHECK_OK(stream_write(&s, &plans[3]));
    CHECK_OK(reader_open(&r, &s));
    CHECK_OK(reader_block(&r, &s, 6, &b));
    struct tree_segment_part p = tree_segment_part(&r.segment, 5);
    const struct tree_segment_block_in in = {.i = 6, .packed = s.bytes + p.offset, .raw = r.block};
    CHECK_ERR(tree_segment_open_block(&r.segment, &in, &s.codec, &b), ERR_corrupt);
    reader_close(&r);
    stream_free(&s);
}

TEST_TORTURE(writing_without_memory_leaves_nothing)
{
    struct stream s;
    const struct plan plan = {.messages = 30, .block_bytes = 500, .ranges = true};
    int rc = stream_write(&s, &plan);
    CHECK_TRUE(rc == 0 || (rc == -ENOMEM && testing_torturing()));
    stream_free(&s);
    TRY(rc);
}

/* ---- nonsense behind good checksums ---- */

static uint64_t seed_of(const struct stream *s)
{
    return tree_seed(file_id, TREE_PLACE_SEGMENT + s->expect.id.number, s->expect.id.checkpoint);
}

/* One message in one block, a list of ranges, nothing packed: 64 header, 64 block, 74 ranges. */
static const struct plan small = {.messages = 1, .ranges = true};

static void fix_trailer(struct stream *s)
{
    uint8_t *trailer = s->bytes + s->len - TREE_SEGMENT_TRAILER_BYTES;
    s->expect.sum = tree_sum(seed_of(s), trailer, TREE_SEGMENT_TRAILER_BYTES - 8);
    wire_store_u64(trailer + TREE_SEGMENT_TRAILER_BYTES - 8, s->expect.sum);
}

TEST(trailers_that_lie_about_themselves_are_refused)
{
    static const struct {
        size_t at;
        uint8_t to;
        int code;
    } edits[] = {
        {0, 0, ERR_bad_magic},    {4, 2, ERR_bad_version},  {6, 1, ERR_bad_version},
        {8, 0, ERR_bad_value},    {24, 1, ERR_bad_value},   {32, 0, ERR_bad_value},
        {36, 2, ERR_bad_value},   {36, 0, ERR_bad_length},  {40, 0, ERR_bad_value},
        {40, 2, ERR_bad_value},   {48, 0, ERR_bad_value},   {57, 0xff, ERR_bad_value},
        {72, 0, ERR_bad_length},  {80, 1, ERR_bad_length},  {84, 1, ERR_bad_length},
        {87, 1, ERR_bad_length},  {88, 1, ERR_bad_crc},     {96, 1, ERR_bad_length},
        {104, 1, ERR_bad_length}, {108, 1, ERR_bad_length}, {112, 1, ERR_bad_crc},
        {120, 1, ERR_bad_length},
    };
    for (size_t i = 0; i < ARRAY_COUNT(edits); i++) {
        struct stream s;
        uint32_t count = 0;
        CHECK_OK(stream_write(&s, &small));
        CHECK_TRUE(s.bytes != NULL);
        uint8_t *at = s.bytes + s.len - TREE_SEGMENT_TRAILER_BYTES + edits[i].at;
        *at = *at == edits[i].to ? (uint8_t)(edits[i].to + 1) : edits[i].to;
        fix_trailer(&s);
        int rc = read_all(&s, &count);
        if (rc != -edits[i].code) {
            (void)fprintf(stderr, "edit %zu: %s\n", i, err_name(rc));
        }
        CHECK_RC(rc, edits[i].code);
        stream_free(&s);
    }
}

/* Changes a byte of the index's only body, with all checksums right again. */
static int read_edited_index(size_t at, uint8_t to)
{
    struct stream s;
    struct reader r;
    uint32_t count = 0;
    CHECK_OK(stream_write(&s, &small));
    CHECK_OK(reader_open(&r, &s));
    CHECK_TRUE(s.bytes != NULL);
    const struct tree_segment_part *index = &r.segment.index;
    uint8_t *packed = s.bytes + index->offset, *body = packed + index->packed_len - 32;
    body[at] = body[at] == to ? (uint8_t)(to + 1) : to;
    uint8_t *trailer = s.bytes + s.len - TREE_SEGMENT_TRAILER_BYTES;
    wire_store_u64(trailer + 112, tree_sum(seed_of(&s), packed, index->packed_len));
    fix_trailer(&s);
    reader_close(&r);
    int rc = read_all(&s, &count);
    stream_free(&s);
    return rc;
}

TEST(indexes_that_lie_about_themselves_are_refused)
{
    CHECK_RC(read_edited_index(0, 65), ERR_bad_length); /* where */
    CHECK_RC(read_edited_index(8, 1), ERR_bad_length);  /* how long */
    CHECK_RC(read_edited_index(10, 1), ERR_bad_length);
    CHECK_RC(read_edited_index(12, 0), ERR_bad_length);
    CHECK_RC(read_edited_index(16, 1), ERR_bad_crc);   /* sum */
    CHECK_RC(read_edited_index(24, 0), ERR_bad_value); /* how many */
    CHECK_RC(read_edited_index(24, 2), ERR_bad_value);
    CHECK_RC(read_edited_index(28, 1), ERR_bad_value);
}

/* ---- the golden bytes ---- */

static const char golden[] =
    "42544d5301000000612066696c652773206f776e2069642e09000000000000000200000000000000"
    "00000000000000000000000000000000332695fce11c4fa80002000b00010000008a130000000000"
    "0000000000020000000000000000000000000000006b657930303030303030300100000100000002"
    "00000009000000000000008713000000000000000000000100010089130000000000000200000003"
    "00040061626b65796b6579350004000b00010000008a130000000000000000000022000000000000"
    "0000000000000000006b65793030303030303030000040000000000000003200000031000000d1f2"
    "dc312ee422fb010000000000000042544d4501000000612066696c652773206f776e2069642e0900"
    "0000000000000200000001000000010000000000000031000000000000008a130000000000008a13"
    "00000000000072000000000000003a0000003900000008bb33ce4ec00561ac000000000000005200"
    "00005100000005e4b68809f7ffd98601000000000000ac92fb2a226c72f5";

TEST(the_bytes_are_the_golden_ones)
{
    struct stream s;
    char hex[1024] = "";
    CHECK_OK(stream_write(&s, &small));
    CHECK_TRUE(s.len < sizeof hex / 2);
    for (size_t i = 0; i < s.len; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", s.bytes[i]);
    }
    CHECK_TEXT(hex, golden);
    stream_free(&s);
}
