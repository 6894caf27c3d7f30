/*
 * tree/stream_receive.c -- see stream_receive.h: frames. A frame is taken whole or not at all: what
 * it changes before it fails is overwritten when it, or the right one, is put again.
 */
#include "tree/stream_receive.h"

#include "tree/stream_receive_priv.h"

#include "base/mem.h"
#include "disk/disk.h"
#include "wire/wire.h"

#include <inttypes.h>
#include <string.h>

#define RECEIVE_SYNC_BYTES (UINT64_C(64) << 20)

/* What a frame must say of the one behind it. */
static int receive_next(const struct kv_frame *f, const struct kv_place *p, struct err *e)
{
    const struct kv_place *is = &f->next.place;
    bool same = is->kind == p->kind && is->part == p->part && is->item == p->item &&
                is->offset == p->offset;
    return same ? 0
                : err_set(e, -ERR_bad_value,
                          "frame %" PRIu64 " is followed by kind %" PRIu32 ", item %" PRIu64
                          "; kind %" PRIu32 ", item %" PRIu64 " is expected",
                          f->at.number, is->kind, is->item, p->kind, p->item);
}

/* ---- tables ---- */

static int take_header(struct tree_receive *x, const struct kv_frame *f, struct err *e)
{
    struct tree_stream_header h;
    int rc = tree_stream_header_decode(f->payload, f->len, &h, e);
    if (rc < 0) {
        return rc;
    }
    if (f->at.stream != tree_stream_name(&h.super)) {
        return err_set(e, -ERR_bad_value, "the stream has the name of another checkpoint");
    }
    if (x->owned && (h.super.app_len != RECEIVE_OWNER_BYTES ||
                     memcmp(h.super.app, x->owner, RECEIVE_OWNER_BYTES) != 0)) {
        return err_set(e, -ERR_wrong_cluster, "checkpoint %" PRIu64, h.super.checkpoint);
    }
    tree_receive_forget(x);
    x->header = h;
    rc = tree_receive_begin(x);
    x->begun = rc == 0;
    return rc;
}

/* The pages follow each other; *ret: how many there are with these. */
static int take_pages(struct tree_receive *x, const struct kv_frame *f, uint64_t *ret,
                      struct err *e)
{
    const struct tree_stream_header *h = &x->header;
    uint64_t no = f->at.place.item, count = f->len / TREE_BTT_PAGE_BYTES;
    if (f->len % TREE_BTT_PAGE_BYTES != 0 || count == 0 || no >= h->page_count ||
        count > h->page_count - no || count > h->page_sent - x->page_got) {
        return err_set(e, -ERR_bad_length, "pages of the translation table from %" PRIu64, no);
    }
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *page = f->payload + i * TREE_BTT_PAGE_BYTES;
        uint64_t sum = wire_load_u64(page + TREE_BTT_PAGE_BYTES - 8);
        int rc = tree_btt_page_check(page, h->super.file_id, no + i, sum);
        if (rc < 0) {
            return err_set(e, rc, "page %" PRIu64 " of the translation table", no + i);
        }
    }
    *ret = x->page_got + count;
    const struct kv_place *next = &f->next.place;
    bool more = *ret < h->page_sent;
    struct kv_place then = {.kind = TREE_STREAM_PAGES, .item = next->item};
    memcpy(x->pages + no * TREE_BTT_PAGE_BYTES, f->payload, f->len);
    if (!more) {
        tree_receive_after_pages(x, &then);
    } else if (next->item < no + count || next->item >= h->page_count) {
        return err_set(e, -ERR_bad_value, "pages of the translation table are not in order");
    }
    return receive_next(f, &then, e);
}

static int take_list(struct tree_receive *x, const struct kv_frame *f, struct err *e)
{
    struct kv_place then;
    if (f->len != x->header.super.segments.len) {
        return err_set(e, -ERR_bad_length, "list of memtable segments");
    }
    memcpy(x->list, f->payload, f->len);
    tree_receive_after_drops(x, 0, &then);
    return receive_next(f, &then, e);
}

static int take_drops(struct tree_receive *x, const struct kv_frame *f, struct err *e)
{
    uint64_t offset = f->at.place.offset, size = x->header.super.drops.len;
    struct kv_place then;
    if (f->len == 0 || offset > size || f->len > size - offset) {
        return err_set(e, -ERR_bad_length, "drop queue");
    }
    memcpy(x->drops + offset, f->payload, f->len);
    tree_receive_after_drops(x, offset + f->len, &then);
    return receive_next(f, &then, e);
}

/* The header says what comes first. */
static int next_of_header(const struct tree_receive *x, const struct kv_frame *f, struct err *e)
{
    struct kv_place then = {.kind = TREE_STREAM_PAGES, .item = f->next.place.item};
    if (x->header.page_sent == 0) {
        tree_receive_after_pages(x, &then);
    } else if (then.item >= x->header.page_count) {
        return err_set(e, -ERR_bad_value, "pages of the translation table");
    }
    return receive_next(f, &then, e);
}

/* The tables are complete with this frame. */
static int tables_done(struct tree_receive *x, const struct kv_frame *f, struct err *e)
{
    int rc = tree_receive_plan(x, e);
    rc = rc < 0 ? rc : tree_receive_store_tables(x);
    rc = rc < 0 ? rc : tree_receive_record(x, &f->next);
    x->planned = rc == 0;
    return rc;
}

static int take_table(struct tree_receive *x, const struct kv_frame *f, struct err *e)
{
    uint64_t pages = x->page_got;
    int rc = 0;
    switch (f->at.place.kind) {
    case TREE_STREAM_HEADER:
        rc = take_header(x, f, e);
        rc = rc < 0 ? rc : next_of_header(x, f, e);
        pages = 0;
        break;
    case TREE_STREAM_PAGES:
        rc = take_pages(x, f, &pages, e);
        break;
    case TREE_STREAM_LIST:
        rc = take_list(x, f, e);
        break;
    case TREE_STREAM_DROPS:
    default:
        rc = take_drops(x, f, e);
        break;
    }
    if (rc == 0 && f->next.place.kind > TREE_STREAM_DROPS) {
        rc = tables_done(x, f, e);
    }
    if (rc == 0) {
        x->page_got = pages;
    }
    return rc;
}

/* ---- what the tables name ---- */

static int receive_room(struct tree_receive *x, size_t len)
{
    if (len <= x->capacity) {
        return 0;
    }
    mem_freep(&x->buf);
    x->capacity = 0;
    size_t size = (size_t)base_align_up(len, TREE_UNIT);
    x->buf = mem_aligned(TREE_UNIT, size);
    x->capacity = x->buf == NULL ? 0 : size;
    return x->buf == NULL ? -ENOMEM : 0;
}

/* Joins it to what came before. 1: `goal` bytes are there. */
static int take_bytes(struct tree_receive *x, const struct kv_frame *f, size_t goal, struct err *e)
{
    uint64_t offset = f->at.place.offset;
    if (f->len == 0 || offset > goal || f->len > goal - offset) {
        return err_set(e, -ERR_bad_length, "frame %" PRIu64 " is longer than what it is of",
                       f->at.number);
    }
    int rc = offset == 0 ? receive_room(x, goal) : 0;
    if (rc < 0) {
        return rc;
    }
    CHECK(goal <= x->capacity);
    memcpy(x->buf + offset, f->payload, f->len);
    return offset + f->len == goal ? 1 : 0;
}

static int take_piece(struct tree_receive *x, const struct kv_frame *f, struct err *e)
{
    uint64_t i = f->at.place.item;
    const struct tree_btt_piece *p = &x->piece[i];
    struct kv_place then = f->at.place;
    struct err why = {0};
    int rc = take_bytes(x, f, (size_t)p->len, e);
    if (rc < 0) {
        return rc;
    }
    then.offset += f->len;
    if (rc == 1) {
        tree_receive_after_piece(x, i, &then);
    }
    int next = receive_next(f, &then, e);
    if (rc == 0 || next < 0) {
        return next;
    }
    rc = tree_stream_check_piece(x->header.super.file_id, p, x->buf, &x->codec, &why);
    if (rc < 0) {
        return err_set(e, rc, "memtable segment %" PRIu64 ": %s", i, err_message(&why, rc));
    }
    size_t len = (size_t)base_align_up(p->len, TREE_UNIT);
    memset(x->buf + p->len, 0, len - (size_t)p->len);
    return tree_receive_write(x, x->piece_unit[i], x->buf, len);
}

/* ---- nodes ---- */

/* The older extents that it names are its own. */
static int node_fits(const struct tree_receive *x, const struct tree_node_header *h,
                     const struct tree_btt_entry *e, struct err *why)
{
    if (h->level != e->level || h->extent_count > e->segment_count) {
        return err_set(why, -ERR_bad_value, "level, or count of extents");
    }
    for (unsigned i = 0; i < h->extent_count; i++) {
        if (tree_receive_extent(x, h->block, &h->extent[i]) == 0) {
            return err_set(why, -ERR_bad_value, "older extent %u", i + 1);
        }
    }
    return 0;
}

/* Its extent in the buffer is written, with a header that says where older ones are here. */
static int node_write(struct tree_receive *x, const struct tree_node_header *h, size_t len)
{
    struct tree_node_header here = *h;
    if (h->extent_count == 0) {
        return tree_receive_write(x, x->unit[h->block], x->buf, len);
    }
    here.extent = mem_dup(h->extent, h->extent_count * sizeof *h->extent);
    if (here.extent == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < h->extent_count; i++) {
        here.extent[i].offset =
            x->unit[tree_receive_extent(x, h->block, &h->extent[i])] * TREE_UNIT;
    }
    (void)tree_node_encode(&here, x->buf);
    mem_free(here.extent);
    int rc = tree_receive_write(x, x->unit[h->block], x->buf, len);
    if (rc < 0) {
        (void)tree_node_encode(h, x->buf); /* the frame may come again */
    }
    return rc;
}

static int store_header(struct tree_receive *x, uint64_t block, const struct tree_btt_entry *e,
                        struct err *why)
{
    struct tree_node_expect expect = {
        .file_id = x->header.super.file_id, .block = block, .birth = e->birth, .sum = e->checksum};
    struct tree_node_header h = {0};
    size_t len = (size_t)e->units * TREE_UNIT;
    int rc = tree_node_decode(x->buf, len, &expect, &h);
    if (rc < 0) {
        return err_set(why, rc, "header");
    }
    rc = tree_stream_check_extent(&h, 0, x->buf, len, why);
    rc = rc < 0 ? rc : node_fits(x, &h, e, why);
    rc = rc < 0 ? rc : node_write(x, &h, len);
    if (rc < 0) {
        tree_node_fini(&h);
        return rc;
    }
    tree_node_fini(&x->node);
    x->node = h;
    x->block = block;
    return 0;
}

static int store_extent(struct tree_receive *x, unsigned part, struct err *why)
{
    const struct tree_extent *extent = &x->node.extent[part - 1];
    uint64_t number = tree_receive_extent(x, x->block, extent);
    int rc = tree_stream_check_extent(&x->node, part, x->buf, extent->len, why);
    return rc < 0 ? rc : tree_receive_write(x, x->unit[number], x->buf, extent->len);
}

/* What comes behind extent `part`, the header being known. */
static void after_extent(const struct tree_receive *x, const struct kv_place *at,
                         struct kv_place *ret)
{
    *ret = (struct kv_place){.kind = at->kind, .item = at->item, .part = at->part + 1};
    if (at->part >= x->node.extent_count) {
        tree_receive_after_node(x, at->item, ret);
    }
}

static int take_node(struct tree_receive *x, const struct kv_frame *f, struct err *e)
{
    const struct kv_place *at = &f->at.place;
    struct kv_place then = *at;
    struct tree_btt_entry entry;
    struct err why = {0};
    CHECK(at->part == 0 || (x->block == at->item && at->part <= x->node.extent_count));
    tree_receive_entry(x, at->item, &entry);
    size_t goal =
        at->part == 0 ? (size_t)entry.units * TREE_UNIT : x->node.extent[at->part - 1].len;
    int rc = take_bytes(x, f, goal, e);
    if (rc <= 0) {
        then.offset += f->len;
        return rc < 0 ? rc : receive_next(f, &then, e);
    }
    rc = at->part == 0 ? store_header(x, at->item, &entry, &why) : store_extent(x, at->part, &why);
    if (rc < 0) {
        return err_set(e, rc, "block %" PRIu64 ", extent %" PRIu32 ": %s", at->item, at->part,
                       err_message(&why, rc));
    }
    after_extent(x, at, &then);
    return receive_next(f, &then, e);
}

static int take_end(struct tree_receive *x, const struct kv_frame *f, struct err *e)
{
    struct tree_stream_totals t;
    int rc = tree_stream_end_decode(f->payload, f->len, &t);
    const struct tree_stream_totals *is = &x->totals;
    bool same = rc == 0 && t.pages == is->pages && t.nodes == is->nodes &&
                t.extents == is->extents && t.units == is->units && t.pieces == is->pieces &&
                t.piece_bytes == is->piece_bytes;
    if (!same || !f->last) {
        return err_set(e, rc < 0 ? rc : -ERR_bad_value, "end of the stream");
    }
    return tree_receive_finish(x, e);
}

/* ---- frames ---- */

/* Between nodes and segments it is noted how far it has come, now and then. A note that cannot be
 * written now is written later; only a failed sync ends it. */
static int receive_note(struct tree_receive *x, const struct kv_frame *f)
{
    const struct kv_place *next = &f->next.place;
    bool between = next->part == 0 && next->offset == 0;
    bool due = x->unsynced >= x->sync_bytes || next->kind == TREE_STREAM_END;
    int rc = between && due ? tree_receive_record(x, &f->next) : 0;
    return x->failed ? rc : 0;
}

static int receive_take(struct tree_receive *x, const struct kv_frame *f, struct err *e)
{
    uint32_t kind = f->at.place.kind;
    CHECK(kind == TREE_STREAM_HEADER || x->begun);
    if (f->last != (kind == TREE_STREAM_END)) {
        return err_set(e, -ERR_bad_value, "end of the stream");
    }
    if (kind <= TREE_STREAM_DROPS) {
        return take_table(x, f, e);
    }
    CHECK(x->planned);
    int rc = kind == TREE_STREAM_PIECE  ? take_piece(x, f, e)
             : kind == TREE_STREAM_NODE ? take_node(x, f, e)
                                        : take_end(x, f, e);
    return rc < 0 || f->last ? rc : receive_note(x, f);
}

int tree_receive_put(struct tree_receive *x, const uint8_t *bytes, size_t len, bool *ret_whole,
                     struct err *e)
{
    struct kv_frame f;
    if (x->failed || x->file == NULL) {
        return err_set(e, -ERR_failed_before, "'%s'", x->partial);
    }
    int rc = kv_frame_open(&x->next, bytes, len, &f, e);
    rc = rc < 0 ? rc : receive_take(x, &f, e);
    if (rc < 0) {
        bool said = e == NULL || e->code < 0;
        return said ? rc : err_set(e, rc, "'%s', frame %" PRIu64, x->partial, x->next.number);
    }
    x->next = f.next;
    *ret_whole = f.last;
    return 0;
}

/* ---- beginning and end ---- */

int tree_receive_new(const struct tree_receive_options *opt, struct tree_receive **ret,
                     struct err *e)
{
    CLEANUP(tree_receive_freep) struct tree_receive *x = mem_zalloc(sizeof *x);
    if (x == NULL) {
        return -ENOMEM;
    }
    x->disk = opt->disk;
    x->path = mem_strdup(opt->path);
    x->partial = mem_printf("%s.partial", opt->path);
    x->owned = opt->owner != NULL;
    x->sync_bytes = opt->sync_bytes == 0 ? RECEIVE_SYNC_BYTES : opt->sync_bytes;
    if (x->owned) {
        memcpy(x->owner, opt->owner, sizeof x->owner);
    }
    int rc = x->path == NULL || x->partial == NULL ? -ENOMEM : tree_codec_init(&x->codec, NULL);
    rc = rc < 0 ? rc : tree_receive_open(x, opt->again, e);
    if (rc < 0) {
        return rc;
    }
    *ret = x;
    x = NULL;
    return 0;
}

struct tree_receive *tree_receive_free(struct tree_receive *x)
{
    if (x != NULL) {
        if (x->file != NULL) {
            struct disk_req close = {.op = DISK_CLOSE, .file = x->file};
            (void)disk_now(x->disk, &close); /* what matters was synced */
        }
        tree_receive_forget(x);
        tree_codec_fini(&x->codec);
        mem_free(x->buf);
        mem_free(x->path);
        mem_free(x->partial);
        mem_free(x);
    }
    return NULL;
}

const struct kv_cursor *tree_receive_next(const struct tree_receive *x)
{
    return &x->next;
}

uint64_t tree_receive_stored(const struct tree_receive *x)
{
    return x->stored;
}
