/* tree/stream_plan.c -- the tables of a checkpoint that is received, and where its parts will lie:
 * segments, then the extents of the nodes in the order of their blocks, one behind the other. */
#include "tree/stream_receive_priv.h"

#include "base/mem.h"
#include "tree/space.h"

#include <inttypes.h>
#include <string.h>

static uint64_t units_of(uint64_t bytes)
{
    return (bytes + TREE_UNIT - 1) / TREE_UNIT;
}

int tree_receive_begin(struct tree_receive *x)
{
    const struct tree_stream_header *h = &x->header;
    x->pages = mem_calloc((size_t)h->page_count + 1, TREE_BTT_PAGE_BYTES);
    x->list = mem_zalloc((size_t)h->super.segments.len + 1);
    x->drops = mem_zalloc((size_t)h->super.drops.len + 1);
    return x->pages == NULL || x->list == NULL || x->drops == NULL ? -ENOMEM : 0;
}

static void plan_drop(struct tree_receive *x)
{
    mem_freep(&x->piece);
    mem_freep(&x->unit);
    mem_freep(&x->piece_unit);
    x->totals = (struct tree_stream_totals){0};
    x->planned = false;
}

void tree_receive_forget(struct tree_receive *x)
{
    plan_drop(x);
    mem_freep(&x->pages);
    mem_freep(&x->list);
    mem_freep(&x->drops);
    tree_node_fini(&x->node);
    x->node = (struct tree_node_header){0};
    x->block = 0;
    x->page_got = x->stored = x->unsynced = x->reach = 0;
    x->begun = false;
    x->next = (struct kv_cursor){0};
}

void tree_receive_entry(const struct tree_receive *x, uint64_t block, struct tree_btt_entry *ret)
{
    const uint8_t *page = x->pages + block / TREE_BTT_PAGE_ENTRIES * TREE_BTT_PAGE_BYTES;
    int rc = tree_btt_page_entry(page, (unsigned)(block % TREE_BTT_PAGE_ENTRIES), ret);
    CHECK(rc == 0); /* the page was checked; zeros are void entries */
}

static bool entry_is_sent(const struct tree_btt_entry *e)
{
    return e->kind == TREE_BTT_NODE && e->units > 0;
}

uint64_t tree_receive_extent(const struct tree_receive *x, uint64_t block,
                             const struct tree_extent *extent)
{
    struct tree_btt_entry e;
    tree_receive_entry(x, block, &e);
    for (unsigned i = e.segment_count; i > 0; i--) { /* the chain was checked */
        uint64_t number = e.link;
        tree_receive_entry(x, number, &e);
        if (e.unit * TREE_UNIT == extent->offset && e.birth == extent->birth &&
            (uint64_t)e.units * TREE_UNIT == extent->len) {
            return number;
        }
    }
    return 0;
}

/* ---- the order ---- */

void tree_receive_after_node(const struct tree_receive *x, uint64_t block, struct kv_place *ret)
{
    struct tree_btt_entry e;
    for (block++; block < x->header.super.next_block; block++) {
        tree_receive_entry(x, block, &e);
        if (entry_is_sent(&e)) {
            *ret = (struct kv_place){.kind = TREE_STREAM_NODE, .item = block};
            return;
        }
    }
    *ret = (struct kv_place){.kind = TREE_STREAM_END};
}

void tree_receive_after_piece(const struct tree_receive *x, uint64_t i, struct kv_place *ret)
{
    *ret = (struct kv_place){.kind = TREE_STREAM_PIECE, .item = i + 1};
    if (i + 1 >= x->header.super.segment_count) {
        tree_receive_after_node(x, 0, ret);
    }
}

void tree_receive_after_drops(const struct tree_receive *x, uint64_t offset, struct kv_place *ret)
{
    *ret = (struct kv_place){.kind = TREE_STREAM_DROPS, .offset = offset};
    if (offset < x->header.super.drops.len) {
        return;
    }
    *ret = (struct kv_place){.kind = TREE_STREAM_PIECE};
    if (x->header.super.segment_count == 0) {
        tree_receive_after_node(x, 0, ret);
    }
}

void tree_receive_after_pages(const struct tree_receive *x, struct kv_place *ret)
{
    *ret = (struct kv_place){.kind = TREE_STREAM_LIST};
    if (x->header.super.segment_count == 0) {
        tree_receive_after_drops(x, 0, ret);
    }
}

/* ---- is it one whole? ---- */

static const uint8_t *plan_page(const struct tree_receive *x, uint64_t no)
{
    return x->pages + no * TREE_BTT_PAGE_BYTES;
}

static int plan_adopt(const struct tree_receive *x, struct err *e)
{
    const struct tree_stream_header *h = &x->header;
    struct tree_btt_index index = {.checkpoint = h->super.checkpoint,
                                   .next_block = h->super.next_block,
                                   .free_head = h->free_head,
                                   .free_count = h->free_count,
                                   .page_count = (size_t)h->page_count};
    CLEANUP(tree_btt_freep) struct tree_btt *t = NULL;
    int rc = tree_btt_new(&t);
    rc = rc < 0 ? rc : tree_btt_load(t, &index);
    for (uint64_t no = 0; no < h->page_count && rc == 0; no++) {
        if (!tree_is_zero(plan_page(x, no), TREE_BTT_PAGE_BYTES)) {
            rc = tree_btt_load_page(t, no, plan_page(x, no));
        }
    }
    return rc < 0 ? rc : tree_btt_adopt(t, false, e);
}

static int plan_pieces(struct tree_receive *x, struct err *e)
{
    const struct tree_super *s = &x->header.super;
    struct tree_btt_pieces_in in = {.bytes = x->list,
                                    .file_id = s->file_id,
                                    .len = s->segments.len,
                                    .count = s->segment_count,
                                    .checkpoint = s->checkpoint,
                                    .expected = s->segments.checksum};
    int rc = s->segment_count == 0 ? 0 : tree_btt_pieces_decode(&in, x->piece);
    for (uint32_t i = 0; i < s->segment_count && rc == 0; i++) {
        const struct tree_btt_piece *p = &x->piece[i];
        bool good =
            p->len > 0 && units_of(p->len) <= TREE_SPACE_REGION_UNITS && p->birth <= s->checkpoint;
        rc = good ? 0 : -ERR_bad_value;
    }
    return rc < 0 ? err_set(e, rc, "list of memtable segments") : 0;
}

static int plan_drops(const struct tree_receive *x, struct err *e)
{
    const struct tree_super *s = &x->header.super;
    bool good = s->drops.len == 0 || tree_btt_blob_sum(s->file_id, s->checkpoint, x->drops,
                                                       s->drops.len) == s->drops.checksum;
    return good ? 0 : err_set(e, -ERR_bad_crc, "drop queue");
}

/* ---- where it will lie ---- */

uint64_t tree_receive_take(uint64_t *end, uint64_t units)
{
    uint64_t at = *end;
    if (at / TREE_SPACE_REGION_UNITS != (at + units - 1) / TREE_SPACE_REGION_UNITS) {
        at = base_align_up(at, TREE_SPACE_REGION_UNITS);
    }
    *end = at + units;
    return at;
}

static int plan_node(struct tree_receive *x, uint64_t block, struct err *e)
{
    struct tree_btt_entry entry;
    tree_receive_entry(x, block, &entry);
    if (!entry_is_sent(&entry)) {
        return 0;
    }
    uint64_t number = block;
    for (unsigned count = entry.segment_count + 1u; count > 0; count--) {
        bool good = entry.units * (uint64_t)TREE_UNIT <= TREE_NODE_MAX &&
                    entry.birth <= x->header.super.checkpoint;
        if (!good) {
            return err_set(e, -ERR_bad_value, "block %" PRIu64, block);
        }
        x->unit[number] = tree_receive_take(&x->end, entry.units);
        number = entry.link;
        if (count > 1) {
            tree_receive_entry(x, number, &entry);
        }
    }
    return 0;
}

static int plan_places(struct tree_receive *x, struct err *e)
{
    const struct tree_stream_header *h = &x->header;
    struct tree_btt_entry entry;
    int rc = 0;
    x->end = RECEIVE_TABLE_UNIT + h->page_count + units_of(h->super.segments.len) +
             units_of(h->super.drops.len);
    x->totals =
        (struct tree_stream_totals){.pages = h->page_sent, .pieces = h->super.segment_count};
    for (uint32_t i = 0; i < h->super.segment_count; i++) {
        x->piece_unit[i] = tree_receive_take(&x->end, units_of(x->piece[i].len));
        x->totals.piece_bytes += x->piece[i].len;
    }
    for (uint64_t block = 1; block < h->super.next_block && rc == 0; block++) {
        tree_receive_entry(x, block, &entry);
        tree_stream_count(&x->totals, &entry);
        rc = plan_node(x, block, e);
    }
    return rc;
}

int tree_receive_plan(struct tree_receive *x, struct err *e)
{
    const struct tree_super *s = &x->header.super;
    plan_drop(x);
    x->piece = mem_calloc(s->segment_count + 1, sizeof *x->piece);
    x->piece_unit = mem_calloc(s->segment_count + 1, sizeof *x->piece_unit);
    x->unit = mem_calloc((size_t)s->next_block + 1, sizeof *x->unit);
    int rc = x->piece == NULL || x->piece_unit == NULL || x->unit == NULL ? -ENOMEM : 0;
    rc = rc < 0 ? rc : plan_adopt(x, e);
    rc = rc < 0 ? rc : plan_pieces(x, e);
    rc = rc < 0 ? rc : plan_drops(x, e);
    rc = rc < 0 ? rc : plan_places(x, e);
    if (rc < 0) {
        plan_drop(x);
    }
    x->planned = rc == 0;
    return rc;
}
