/*
 * tree/segment_fuzz.c -- any bytes as a memtable segment, as they are and with every checksum made
 * right from the blocks up. What is accepted is in order from the first block to the last.
 */
#include "tree/segment.h"

#include "base/mem.h"
#include "testing/replay.h"
#include "wire/wire.h"

#define FUZZ_MAX (64u << 10)
#define HEADER_AND_TRAILER (TREE_SEGMENT_HEADER_BYTES + TREE_SEGMENT_TRAILER_BYTES)

struct input {
    uint8_t *bytes;
    size_t size;
    struct tree_segment_id id;
    uint64_t seed;
};

static uint8_t *trailer_of(const struct input *in)
{
    return in->bytes + in->size - TREE_SEGMENT_TRAILER_BYTES;
}

/* Who it says it is. */
static void identify(struct input *in)
{
    const uint8_t *trailer = trailer_of(in);
    in->id = (struct tree_segment_id){.file_id = trailer + 8,
                                      .checkpoint = wire_load_u64(trailer + 24),
                                      .number = wire_load_u32(trailer + 32)};
    in->seed = tree_seed(in->id.file_id, TREE_PLACE_SEGMENT + in->id.number, in->id.checkpoint);
}

/* The bytes of a part whose offset and length stand at `at`; NULL when they are not there. */
static uint8_t *part_at(const struct input *in, const uint8_t *at, size_t *ret_len)
{
    uint64_t offset = wire_load_u64(at), len = wire_load_u32(at + 8);
    *ret_len = (size_t)len;
    return offset <= in->size && len <= in->size - offset ? in->bytes + offset : NULL;
}

static void fix_part(const struct input *in, uint8_t *at)
{
    size_t len = 0;
    const uint8_t *part = part_at(in, at, &len);
    if (part != NULL && len > 0) {
        wire_store_u64(at + 16, tree_sum(in->seed, part, len));
    }
}

/* An index that is not packed can be changed where it lies. */
static void fix_blocks(const struct input *in)
{
    size_t len = 0;
    struct tree_block b;
    uint8_t *index = part_at(in, trailer_of(in) + 96, &len);
    if (index == NULL || len < 2 || index[0] != TREE_CODEC_NONE ||
        tree_block_open(index + 1, len - 1, TREE_BLOCK_INDEX, &b) < 0) {
        return;
    }
    for (uint32_t i = 0; i < b.count; i++) {
        struct tree_block_entry e;
        tree_block_get(&b, i, &e);
        if (e.body.len == 32) {
            fix_part(in, index + ((const uint8_t *)e.body.at - index));
        }
    }
}

static void fix(struct input *in)
{
    uint8_t *trailer = trailer_of(in);
    fix_blocks(in);
    fix_part(in, trailer + 72);
    fix_part(in, trailer + 96);
    wire_store_u64(trailer + 120, in->size);
    wire_store_u64(trailer + 128, tree_sum(in->seed, trailer, 128));
    wire_store_u64(in->bytes + 56, tree_sum(in->seed, in->bytes, 56));
}

struct order {
    uint8_t key[TREE_KEY_MAX];
    size_t len;
    uint64_t msn, count;
};

static void check_order(const struct tree_block *b, struct order *last)
{
    struct tree_block_iter it;
    tree_block_iter_init(&it, b);
    for (bool on = tree_block_iter_seek(&it, 0); on; on = tree_block_iter_next(&it)) {
        int order = kv_slice_compare(kv_slice_of(last->key, last->len), it.entry.key);
        CHECK(order < 0 || (order == 0 && last->msn > it.entry.msn));
        memcpy(last->key, it.entry.key.at, it.entry.key.len);
        last->len = it.entry.key.len;
        last->msn = it.entry.msn;
        last->count++;
    }
}

static void read_blocks(const struct input *in, const struct tree_segment *s, struct tree_codec *c)
{
    struct order last = {0};
    struct tree_block b;
    int rc = 0;
    for (uint32_t i = 0; i < s->block_count && rc == 0; i++) {
        uint8_t *raw = mem_alloc(tree_segment_part(s, i).raw_len);
        CHECK(raw != NULL);
        const struct tree_segment_block_in block = {
            .i = i, .packed = in->bytes + tree_segment_part(s, i).offset, .raw = raw};
        rc = tree_segment_open_block(s, &block, c, &b);
        if (rc == 0) {
            check_order(&b, &last);
        }
        mem_free(raw);
    }
    CHECK(rc < 0 || last.count == s->entries);
}

static void read_segment(const struct input *in, struct tree_codec *c)
{
    struct tree_segment s;
    struct tree_ranges ranges;
    const uint8_t *trailer = trailer_of(in);
    const struct tree_segment_expect x = {
        .id = in->id, .len = in->size, .sum = wire_load_u64(trailer + 128)};
    if (tree_segment_check_header(in->bytes, &in->id) < 0 ||
        tree_segment_open(trailer, &x, &s) < 0) {
        return;
    }
    uint8_t *index = mem_alloc(s.index.raw_len + 1u), *raw = mem_alloc(s.ranges.raw_len + 1u);
    CHECK(index != NULL && raw != NULL);
    if (s.ranges.raw_len > 0) {
        int rc = tree_segment_open_ranges(&s, in->bytes + s.ranges.offset, c, raw, &ranges);
        CHECK(rc == 0 || err_is(rc, ERR_corrupt));
    }
    if (s.block_count > 0 &&
        tree_segment_open_index(&s, in->bytes + s.index.offset, c, index) == 0) {
        CHECK(tree_segment_find(&s, kv_slice_of("k", 1)) < s.block_count);
        read_blocks(in, &s, c);
    }
    mem_free(index);
    mem_free(raw);
}

/* Its memory is made once: that costs more than most inputs. */
static struct tree_codec *codec_once(void)
{
    static struct tree_codec c;
    if (c.unpacker == NULL) {
        CHECK(tree_codec_init(&c, NULL) == 0);
    }
    return &c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {.size = size};
    if (size < HEADER_AND_TRAILER || size > FUZZ_MAX) {
        return 0;
    }
    in.bytes = mem_dup(data, size);
    CHECK(in.bytes != NULL);
    identify(&in);
    read_segment(&in, codec_once());
    fix(&in);
    read_segment(&in, codec_once());
    mem_free(in.bytes);
    return 0;
}
