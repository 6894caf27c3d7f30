/* tree/segment.c -- see segment.h. Layout: doc/format/tree.md. */
#include "tree/segment.h"

#include "base/mem.h"
#include "wire/wire.h"

#define HEADER_MAGIC 0x534d5442u  /* "BTMS" */
#define TRAILER_MAGIC 0x454d5442u /* "BTME" */
#define SEGMENT_VERSION 1u
#define PART_BYTES 32u /* in the index, of a block */

static uint64_t segment_seed(const struct tree_segment_id *id)
{
    return tree_seed(id->file_id, TREE_PLACE_SEGMENT + id->number, id->checkpoint);
}

/* ---- writing ---- */

void tree_segment_writer_init(struct tree_segment_writer *w, const struct tree_segment_options *opt)
{
    *w = (struct tree_segment_writer){.options = *opt};
    memcpy(w->file_id, opt->id.file_id, TREE_FILE_ID_BYTES);
    w->options.id.file_id = w->file_id;
    w->seed = segment_seed(&opt->id);
    CHECK(opt->block_bytes <= TREE_SEGMENT_BLOCK_BYTES);
    w->options.block_bytes = opt->block_bytes == 0 ? TREE_SEGMENT_BLOCK_BYTES : opt->block_bytes;
    tree_block_builder_init(&w->block, TREE_BLOCK_MESSAGE);
    tree_block_builder_init(&w->index, TREE_BLOCK_INDEX);
}

void tree_segment_writer_fini(struct tree_segment_writer *w)
{
    tree_block_builder_fini(&w->block);
    tree_block_builder_fini(&w->index);
    mem_free(w->raw);
    w->raw = NULL;
    w->raw_capacity = 0;
}

void tree_segment_begin(struct tree_segment_writer *w, uint8_t out[TREE_SEGMENT_HEADER_BYTES])
{
    struct wire_writer h = wire_writer_over(out, TREE_SEGMENT_HEADER_BYTES);
    memset(out, 0, TREE_SEGMENT_HEADER_BYTES);
    wire_write_u32(&h, HEADER_MAGIC);
    wire_write_u16(&h, SEGMENT_VERSION);
    wire_write_u16(&h, 0);
    wire_write_bytes(&h, w->file_id, TREE_FILE_ID_BYTES);
    wire_write_u64(&h, w->options.id.checkpoint);
    wire_write_u32(&h, w->options.id.number);
    wire_store_u64(out + TREE_SEGMENT_HEADER_BYTES - 8,
                   tree_sum(w->seed, out, TREE_SEGMENT_HEADER_BYTES - 8));
    CHECK(!h.bad && w->offset == 0);
    w->offset = TREE_SEGMENT_HEADER_BYTES;
}

int tree_segment_add(struct tree_segment_writer *w, const struct tree_block_entry *e)
{
    size_t with = tree_block_builder_bytes_with(&w->block, e);
    if (w->block.count > 0 && with > w->options.block_bytes) {
        return 0;
    }
    int rc = tree_block_builder_add(&w->block, e);
    CHECK(rc != -E2BIG); /* one entry always fits */
    return rc < 0 ? rc : 1;
}

size_t tree_segment_block_bound(const struct tree_segment_writer *w)
{
    return tree_codec_bound(tree_block_builder_bytes(&w->block));
}

static void segment_store_part(uint8_t out[PART_BYTES], const struct tree_segment_part *p)
{
    wire_store_u64(out, p->offset);
    wire_store_u32(out + 8, p->packed_len);
    wire_store_u32(out + 12, p->raw_len);
    wire_store_u64(out + 16, p->sum);
    wire_store_u32(out + 24, p->entries);
    wire_store_u32(out + 28, 0);
}

static struct tree_segment_part segment_load_part(const uint8_t in[PART_BYTES])
{
    return (struct tree_segment_part){.offset = wire_load_u64(in),
                                      .packed_len = wire_load_u32(in + 8),
                                      .raw_len = wire_load_u32(in + 12),
                                      .sum = wire_load_u64(in + 16),
                                      .entries = wire_load_u32(in + 24)};
}

/* The next part of the stream; the caller moves the offset on. */
static struct tree_segment_part segment_pack(struct tree_segment_writer *w, const uint8_t *raw,
                                             size_t len, uint8_t *out)
{
    size_t packed = tree_codec_pack(w->options.packer, w->options.codec, raw, len, out);
    return (struct tree_segment_part){.offset = w->offset,
                                      .packed_len = (uint32_t)packed,
                                      .raw_len = (uint32_t)len,
                                      .sum = tree_sum(w->seed, out, packed)};
}

int tree_segment_block(struct tree_segment_writer *w, uint8_t *out, size_t *ret_len)
{
    struct tree_block first;
    struct tree_block_entry e;
    uint8_t key[TREE_KEY_MAX], body[PART_BYTES];
    CHECK(w->block.count > 0 && w->offset > 0);
    int rc = mem_grow(&w->raw, &w->raw_capacity, tree_block_builder_bytes(&w->block), 1);
    if (rc < 0) {
        return rc;
    }
    size_t len = tree_block_builder_finish(&w->block, w->raw);
    struct tree_segment_part part = segment_pack(w, w->raw, len, out);
    part.entries = w->block.count;
    segment_store_part(body, &part);
    first = tree_block_view(w->raw);
    tree_block_get(&first, 0, &e);
    e = (struct tree_block_entry){.key = kv_slice_of(key, tree_block_key(&first, 0, key)),
                                  .body = kv_slice_of(body, sizeof body),
                                  .msn = e.msn};
    rc = tree_block_builder_add(&w->index, &e);
    if (rc < 0) {
        return rc;
    }
    bool only = w->entries == 0;
    w->msn_min = only ? w->block.msn_min : base_min(w->msn_min, w->block.msn_min);
    w->msn_max = only ? w->block.msn_max : base_max(w->msn_max, w->block.msn_max);
    w->entries += w->block.count;
    w->raw_bytes += len;
    w->offset += part.packed_len;
    tree_block_builder_clear(&w->block);
    *ret_len = part.packed_len;
    return 0;
}

size_t tree_segment_end_bound(const struct tree_segment_writer *w, size_t ranges_len)
{
    size_t ranges = ranges_len == 0 ? 0 : tree_codec_bound(ranges_len);
    size_t index = w->index.count == 0 ? 0 : tree_codec_bound(tree_block_builder_bytes(&w->index));
    return ranges + index + TREE_SEGMENT_TRAILER_BYTES;
}

static void segment_write_part(struct wire_writer *t, const struct tree_segment_part *p)
{
    wire_write_u64(t, p->offset);
    wire_write_u32(t, p->packed_len);
    wire_write_u32(t, p->raw_len);
    wire_write_u64(t, p->sum);
}

static uint64_t segment_write_trailer(const struct tree_segment_writer *w,
                                      const struct tree_segment_part *ranges,
                                      const struct tree_segment_part *index, uint8_t *out)
{
    struct wire_writer t = wire_writer_over(out, TREE_SEGMENT_TRAILER_BYTES);
    wire_write_u32(&t, TRAILER_MAGIC);
    wire_write_u16(&t, SEGMENT_VERSION);
    wire_write_u16(&t, 0);
    wire_write_bytes(&t, w->file_id, TREE_FILE_ID_BYTES);
    wire_write_u64(&t, w->options.id.checkpoint);
    wire_write_u32(&t, w->options.id.number);
    wire_write_u32(&t, w->index.count);
    wire_write_u64(&t, w->entries);
    wire_write_u64(&t, w->raw_bytes);
    wire_write_u64(&t, w->msn_min);
    wire_write_u64(&t, w->msn_max);
    segment_write_part(&t, ranges);
    segment_write_part(&t, index);
    wire_write_u64(&t, w->offset + TREE_SEGMENT_TRAILER_BYTES);
    uint64_t sum = tree_sum(w->seed, out, t.len);
    wire_write_u64(&t, sum);
    CHECK(!t.bad && t.len == TREE_SEGMENT_TRAILER_BYTES);
    return sum;
}

int tree_segment_end(struct tree_segment_writer *w, struct kv_slice ranges, uint8_t *out,
                     struct tree_segment_end *ret)
{
    struct tree_segment_part r = {0}, index = {0};
    uint64_t start = w->offset;
    CHECK(w->block.count == 0 && start > 0 && (w->index.count > 0 || ranges.len > 0));
    if (w->index.count > 0) {
        int rc = mem_grow(&w->raw, &w->raw_capacity, tree_block_builder_bytes(&w->index), 1);
        if (rc < 0) {
            return rc;
        }
    }
    if (ranges.len > 0) {
        r = segment_pack(w, ranges.at, ranges.len, out);
        w->offset += r.packed_len;
    }
    if (w->index.count > 0) {
        size_t len = tree_block_builder_finish(&w->index, w->raw);
        index = segment_pack(w, w->raw, len, out + (w->offset - start));
        w->offset += index.packed_len;
    }
    ret->sum = segment_write_trailer(w, &r, &index, out + (w->offset - start));
    w->offset += TREE_SEGMENT_TRAILER_BYTES;
    ret->len = (size_t)(w->offset - start);
    return 0;
}

/* ---- reading ---- */

static int segment_check_identity(const uint8_t *bytes, size_t covered, uint32_t magic,
                                  const struct tree_segment_id *id)
{
    if (wire_load_u32(bytes) != magic) {
        return -ERR_bad_magic;
    }
    if (tree_sum(segment_seed(id), bytes, covered) != wire_load_u64(bytes + covered)) {
        return -ERR_bad_crc;
    }
    if (wire_load_u16(bytes + 4) != SEGMENT_VERSION || wire_load_u16(bytes + 6) != 0) {
        return -ERR_bad_version;
    }
    bool same = memcmp(bytes + 8, id->file_id, TREE_FILE_ID_BYTES) == 0 &&
                wire_load_u64(bytes + 24) == id->checkpoint &&
                wire_load_u32(bytes + 32) == id->number;
    return same ? 0 : -ERR_bad_value;
}

int tree_segment_check_header(const uint8_t header[TREE_SEGMENT_HEADER_BYTES],
                              const struct tree_segment_id *id)
{
    int rc = segment_check_identity(header, TREE_SEGMENT_HEADER_BYTES - 8, HEADER_MAGIC, id);
    return rc < 0 || tree_is_zero(header + 36, TREE_SEGMENT_HEADER_BYTES - 8 - 36) ? rc
                                                                                   : -ERR_bad_value;
}

static struct tree_segment_part segment_read_part(struct wire_reader *r)
{
    struct tree_segment_part p = {.offset = wire_read_u64(r)};
    p.packed_len = wire_read_u32(r);
    p.raw_len = wire_read_u32(r);
    p.sum = wire_read_u64(r);
    return p;
}

static bool segment_packed_fits(const struct tree_segment_part *p)
{
    return p->raw_len > 0 && p->raw_len <= TREE_RAW_MAX && p->packed_len > 1 &&
           p->packed_len <= tree_codec_bound(p->raw_len);
}

/* A part that ends at `end`, or none; returns where it begins. */
static bool segment_part_ends(const struct tree_segment_part *p, bool wanted, uint64_t *end)
{
    if (!wanted) {
        return p->offset == 0 && p->packed_len == 0 && p->raw_len == 0 && p->sum == 0;
    }
    bool good = segment_packed_fits(p) && p->packed_len <= *end &&
                p->offset == *end - p->packed_len && p->offset >= TREE_SEGMENT_HEADER_BYTES;
    *end = good ? p->offset : 0;
    return good;
}

static int segment_check(const struct tree_segment *s, uint64_t expected_len)
{
    uint64_t end = s->len - TREE_SEGMENT_TRAILER_BYTES;
    bool has_ranges = s->ranges.packed_len > 0;
    if (s->len != expected_len || s->len < TREE_SEGMENT_HEADER_BYTES + TREE_SEGMENT_TRAILER_BYTES ||
        !segment_part_ends(&s->index, s->block_count > 0, &end) ||
        !segment_part_ends(&s->ranges, has_ranges, &end)) {
        return -ERR_bad_length;
    }
    if (s->block_count == 0) {
        bool empty = s->entries == 0 && s->raw_bytes == 0 && s->msn_min == 0 && s->msn_max == 0;
        return !has_ranges || !empty || end != TREE_SEGMENT_HEADER_BYTES ? -ERR_bad_value : 0;
    }
    return s->entries >= s->block_count && s->msn_min <= s->msn_max ? 0 : -ERR_bad_value;
}

int tree_segment_open(const uint8_t trailer[TREE_SEGMENT_TRAILER_BYTES],
                      const struct tree_segment_expect *x, struct tree_segment *ret)
{
    size_t covered = TREE_SEGMENT_TRAILER_BYTES - 8;
    int rc = segment_check_identity(trailer, covered, TRAILER_MAGIC, &x->id);
    if (rc < 0) {
        return rc;
    }
    if (wire_load_u64(trailer + covered) != x->sum) {
        return -ERR_bad_crc; /* sound, but not the one that was written last */
    }
    struct wire_reader r = wire_reader_over(trailer + 36, covered - 36);
    struct tree_segment s = {.seed = segment_seed(&x->id), .block_count = wire_read_u32(&r)};
    s.entries = wire_read_u64(&r);
    s.raw_bytes = wire_read_u64(&r);
    s.msn_min = wire_read_u64(&r);
    s.msn_max = wire_read_u64(&r);
    s.ranges = segment_read_part(&r);
    s.index = segment_read_part(&r);
    s.len = wire_read_u64(&r);
    CHECK(!r.bad && r.left == 0);
    rc = segment_check(&s, x->len);
    if (rc == 0) {
        *ret = s;
    }
    return rc;
}

static int segment_unpack(const struct tree_segment *s, const struct tree_segment_part *p,
                          const uint8_t *packed, struct tree_codec *c, uint8_t *raw)
{
    if (tree_sum(s->seed, packed, p->packed_len) != p->sum) {
        return -ERR_bad_crc;
    }
    return tree_codec_unpack(c, packed, p->packed_len, raw, p->raw_len);
}

struct tree_segment_part tree_segment_part(const struct tree_segment *s, uint32_t i)
{
    struct tree_block_entry e;
    tree_block_get(&s->blocks, i, &e);
    return segment_load_part(e.body.at);
}

/* Blocks lie one behind the other between the header and what follows them. */
static int segment_check_index(const struct tree_segment *s, const struct tree_block *blocks)
{
    uint64_t at = TREE_SEGMENT_HEADER_BYTES, entries = 0, raw = 0;
    if (blocks->count != s->block_count) {
        return -ERR_bad_value;
    }
    for (uint32_t i = 0; i < blocks->count; i++) {
        struct tree_block_entry e;
        tree_block_get(blocks, i, &e);
        if (e.body.len != PART_BYTES) {
            return -ERR_bad_length;
        }
        const uint8_t *body = e.body.at;
        struct tree_segment_part p = segment_load_part(body);
        if (p.offset != at || !segment_packed_fits(&p)) {
            return -ERR_bad_length;
        }
        if (p.entries == 0 || wire_load_u32(body + 28) != 0) {
            return -ERR_bad_value;
        }
        at += p.packed_len;
        entries += p.entries;
        raw += p.raw_len;
    }
    uint64_t end = s->ranges.packed_len > 0 ? s->ranges.offset : s->index.offset;
    return at == end && entries == s->entries && raw == s->raw_bytes ? 0 : -ERR_bad_value;
}

int tree_segment_open_index(struct tree_segment *s, const uint8_t *packed, struct tree_codec *c,
                            uint8_t *raw)
{
    struct tree_block blocks;
    CHECK(s->block_count > 0);
    int rc = segment_unpack(s, &s->index, packed, c, raw);
    if (rc == 0) {
        rc = tree_block_open(raw, s->index.raw_len, TREE_BLOCK_INDEX, &blocks);
    }
    if (rc == 0) {
        rc = segment_check_index(s, &blocks);
    }
    if (rc == 0) {
        s->blocks = blocks;
    }
    return rc;
}

int tree_segment_open_ranges(const struct tree_segment *s, const uint8_t *packed,
                             struct tree_codec *c, uint8_t *raw, struct tree_ranges *ret)
{
    CHECK(s->ranges.raw_len > 0);
    int rc = segment_unpack(s, &s->ranges, packed, c, raw);
    return rc < 0 ? rc : tree_ranges_open(raw, s->ranges.raw_len, ret);
}

/* The first entry of a block is the one that the index names, and its last comes before the one
 * that the index names for the next. */
static bool segment_block_fits(const struct tree_segment *s, uint32_t i, const struct tree_block *b)
{
    uint8_t key[TREE_KEY_MAX], named[TREE_KEY_MAX];
    struct tree_block_entry e, n;
    size_t len = tree_block_key(b, 0, key), named_len = tree_block_key(&s->blocks, i, named);
    tree_block_get(b, 0, &e);
    tree_block_get(&s->blocks, i, &n);
    bool first = kv_slice_compare(kv_slice_of(key, len), kv_slice_of(named, named_len)) == 0 &&
                 e.msn == n.msn;
    if (!first || i + 1 == s->block_count) {
        return first;
    }
    len = tree_block_key(b, b->count - 1, key);
    named_len = tree_block_key(&s->blocks, i + 1, named);
    tree_block_get(b, b->count - 1, &e);
    tree_block_get(&s->blocks, i + 1, &n);
    int order = kv_slice_compare(kv_slice_of(key, len), kv_slice_of(named, named_len));
    return order < 0 || (order == 0 && e.msn > n.msn);
}

int tree_segment_open_block(const struct tree_segment *s, const struct tree_segment_block_in *in,
                            struct tree_codec *c, struct tree_block *ret)
{
    struct tree_block b = {0};
    struct tree_segment_part p = tree_segment_part(s, in->i);
    int rc = segment_unpack(s, &p, in->packed, c, in->raw);
    if (rc == 0) {
        rc = tree_block_open(in->raw, p.raw_len, TREE_BLOCK_MESSAGE, &b);
    }
    if (rc < 0) {
        return rc;
    }
    if (b.count != p.entries || b.base_msn < s->msn_min || !segment_block_fits(s, in->i, &b)) {
        return -ERR_bad_value;
    }
    *ret = b;
    return 0;
}

uint32_t tree_segment_find(const struct tree_segment *s, struct kv_slice key)
{
    bool equal = false;
    uint32_t i = tree_block_lower(&s->blocks, key, &equal);
    return i > 0 ? i - 1 : 0;
}
