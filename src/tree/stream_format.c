/* tree/stream_format.c -- see stream_format.h. */
#include "tree/stream_format.h"

#include "base/mem.h"
#include "tree/filter.h"
#include "tree/look.h"
#include "tree/segment.h"
#include "tree/write.h"
#include "wire/wire.h"

#include <inttypes.h>

#define HEADER_MAGIC 0x48535442u /* "BTSH" */
#define END_MAGIC 0x45535442u    /* "BTSE" */
#define FORMAT 1u
#define SUPER_AT 48u
#define DROPS_MAX (16u << 20) /* of a checkpoint */

void tree_stream_header_encode(const struct tree_stream_header *h,
                               uint8_t out[TREE_STREAM_HEADER_BYTES])
{
    struct wire_writer w = wire_writer_over(out, SUPER_AT);
    struct tree_super s = h->super;
    wire_write_u32(&w, HEADER_MAGIC);
    wire_write_u32(&w, FORMAT);
    wire_write_u64(&w, h->page_count);
    wire_write_u64(&w, h->page_sent);
    wire_write_u64(&w, h->free_head);
    wire_write_u64(&w, h->free_count);
    wire_write_u64(&w, 0);
    CHECK(!w.bad && w.len == SUPER_AT);
    tree_super_encode(&s, out + SUPER_AT);
}

int tree_stream_header_decode(const uint8_t *in, size_t len, struct tree_stream_header *ret,
                              struct err *e)
{
    struct wire_reader r = wire_reader_over(in, len);
    struct tree_stream_header h = {0};
    uint32_t magic = wire_read_u32(&r), format = wire_read_u32(&r);
    h.page_count = wire_read_u64(&r);
    h.page_sent = wire_read_u64(&r);
    h.free_head = wire_read_u64(&r);
    h.free_count = wire_read_u64(&r);
    uint64_t zero = wire_read_u64(&r);
    if (r.bad || len != TREE_STREAM_HEADER_BYTES) {
        return err_set(e, len < TREE_STREAM_HEADER_BYTES ? -ERR_short_msg : -ERR_bad_length,
                       "header of a checkpoint");
    }
    if (magic != HEADER_MAGIC || format != FORMAT) {
        return err_set(e, magic != HEADER_MAGIC ? -ERR_bad_magic : -ERR_bad_version,
                       "header of a checkpoint");
    }
    /* It lies in one of its two places. */
    uint64_t number = wire_load_u64(r.at + 32);
    int rc = tree_super_decode(r.at, tree_super_offset(number), &h.super, e);
    if (rc < 0) {
        return rc;
    }
    uint64_t pages = (h.super.next_block + TREE_BTT_PAGE_ENTRIES - 1) / TREE_BTT_PAGE_ENTRIES;
    bool list = h.super.segment_count == 0
                    ? h.super.segments.len == 0
                    : h.super.segments.len == tree_btt_pieces_bytes(h.super.segment_count);
    if (zero != 0 || !list || h.page_count != pages || h.page_sent > h.page_count ||
        h.super.segment_count > TREE_BTT_PIECES_MAX || h.super.drops.len > DROPS_MAX) {
        return err_set(e, -ERR_bad_value, "header of checkpoint %" PRIu64, h.super.checkpoint);
    }
    *ret = h;
    return 0;
}

void tree_stream_end_encode(const struct tree_stream_totals *t, uint8_t out[TREE_STREAM_END_BYTES])
{
    struct wire_writer w = wire_writer_over(out, TREE_STREAM_END_BYTES);
    wire_write_u32(&w, END_MAGIC);
    wire_write_u32(&w, FORMAT);
    wire_write_u64(&w, t->pages);
    wire_write_u64(&w, t->nodes);
    wire_write_u64(&w, t->extents);
    wire_write_u64(&w, t->units);
    wire_write_u64(&w, t->pieces);
    wire_write_u64(&w, t->piece_bytes);
    CHECK(!w.bad && w.len == TREE_STREAM_END_BYTES);
}

int tree_stream_end_decode(const uint8_t *in, size_t len, struct tree_stream_totals *ret)
{
    struct wire_reader r = wire_reader_over(in, len);
    struct tree_stream_totals t;
    uint32_t magic = wire_read_u32(&r), format = wire_read_u32(&r);
    t.pages = wire_read_u64(&r);
    t.nodes = wire_read_u64(&r);
    t.extents = wire_read_u64(&r);
    t.units = wire_read_u64(&r);
    t.pieces = wire_read_u64(&r);
    t.piece_bytes = wire_read_u64(&r);
    if (r.bad || r.left > 0) {
        return r.bad ? -ERR_short_msg : -ERR_bad_length;
    }
    if (magic != END_MAGIC || format != FORMAT) {
        return magic != END_MAGIC ? -ERR_bad_magic : -ERR_bad_version;
    }
    *ret = t;
    return 0;
}

void tree_stream_count(struct tree_stream_totals *t, const struct tree_btt_entry *e)
{
    if (e->kind >= TREE_BTT_NODE && e->units > 0) {
        t->nodes += e->kind == TREE_BTT_NODE ? 1 : 0;
        t->extents++;
        t->units += e->units;
    }
}

uint64_t tree_stream_name(const struct tree_super *s)
{
    uint64_t name = tree_seed(s->file_id, s->checkpoint, s->checksum);
    return name == 0 ? 1 : name;
}

/* ---- nodes ---- */

static bool part_is_sound(const struct tree_node_header *h, uint32_t i, uint64_t birth,
                          const uint8_t *bytes, size_t len)
{
    const struct tree_partition *p = &h->partition[i];
    return p->offset <= len && p->packed_len <= len - p->offset &&
           tree_node_sum(h, birth, bytes + p->offset, p->packed_len) == p->sum;
}

/* What lies in front of the partitions. */
static int check_front(const struct tree_node_header *h, const uint8_t *bytes, size_t len,
                       struct err *e)
{
    struct tree_filter filter;
    if (h->total_len != len) {
        return err_set(e, -ERR_bad_length, "length of the extent");
    }
    if (tree_node_sum(h, h->birth, bytes + h->pivots.offset, h->pivots.packed_len) !=
        h->pivots.sum) {
        return err_set(e, -ERR_bad_crc, "pivots");
    }
    int rc = h->filter.kind == TREE_FILTER_NONE
                 ? 0
                 : tree_filter_open(bytes + h->filter.offset, h->filter.len, tree_node_seed(h, 0),
                                    &filter);
    return rc < 0 ? err_set(e, rc, "filter") : 0;
}

int tree_stream_check_extent(const struct tree_node_header *h, unsigned part, const uint8_t *bytes,
                             size_t len, struct err *e)
{
    CHECK(part <= h->extent_count);
    uint64_t birth = part == 0 ? h->birth : h->extent[part - 1].birth;
    int rc = part == 0 ? check_front(h, bytes, len, e) : 0;
    for (uint32_t i = 0; rc == 0 && i < h->partition_count; i++) {
        if (h->partition[i].extent == part && !part_is_sound(h, i, birth, bytes, len)) {
            rc = err_set(e, -ERR_bad_crc, "partition %" PRIu32 ", a %s", i,
                         tree_look_kind(h->partition[i].kind));
        }
    }
    return rc;
}

/* ---- segments ---- */

static int check_blocks(const struct tree_segment *s, const uint8_t *bytes, struct err *e)
{
    const struct tree_segment_part *r = &s->ranges;
    if (r->raw_len > 0 && tree_sum(s->seed, bytes + r->offset, r->packed_len) != r->sum) {
        return err_set(e, -ERR_bad_crc, "ranges");
    }
    for (uint32_t i = 0; i < s->block_count; i++) {
        struct tree_segment_part p = tree_segment_part(s, i);
        if (p.offset > s->len || p.packed_len > s->len - p.offset ||
            tree_sum(s->seed, bytes + p.offset, p.packed_len) != p.sum) {
            return err_set(e, -ERR_bad_crc, "block %" PRIu32 " of the segment", i);
        }
    }
    return 0;
}

int tree_stream_check_piece(const uint8_t *file_id, const struct tree_btt_piece *p,
                            const uint8_t *bytes, struct tree_codec *c, struct err *e)
{
    struct tree_keep_owner owner = {0};
    struct tree_segment s;
    CLEANUP(mem_freep) uint8_t *index = NULL;
    int rc = tree_keep_owner(p, &owner);
    if (rc < 0 || p->len < TREE_SEGMENT_HEADER_BYTES + TREE_SEGMENT_TRAILER_BYTES) {
        return err_set(e, rc < 0 ? rc : -ERR_bad_length, "entry of the list");
    }
    struct tree_segment_expect x = {
        .id = {.file_id = file_id,
               .checkpoint = p->birth,
               .number = owner.memtable_number * TREE_KEEP_PIECES_MAX + owner.piece_number},
        .len = p->len,
        .sum = p->checksum};
    rc = tree_segment_open(bytes + p->len - TREE_SEGMENT_TRAILER_BYTES, &x, &s);
    rc = rc < 0 ? rc : tree_segment_check_header(bytes, &x.id);
    if (rc < 0) {
        return err_set(e, rc, "header or trailer of the segment");
    }
    if (s.block_count > 0) {
        index = mem_alloc(s.index.raw_len);
        rc =
            index == NULL ? -ENOMEM : tree_segment_open_index(&s, bytes + s.index.offset, c, index);
    }
    if (rc < 0) {
        return rc == -ENOMEM ? rc : err_set(e, rc, "index of the segment");
    }
    return check_blocks(&s, bytes, e);
}
