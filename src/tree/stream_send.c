/* tree/stream_send.c -- see stream_send.h. The format: doc/format/tree_stream.md. */
#include "tree/stream_send.h"

#include "base/mem.h"
#include "tree/space.h"

#include <inttypes.h>
#include <string.h>

#define SEND_NOTHING UINT32_MAX /* kind of what is held */

struct tree_send {
    struct tree_send_options opt;
    struct tree_super super;
    uint64_t stream;
    bool ready; /* the next ones are read */
    struct tree_btt_index index;
    uint64_t page_sent;
    uint8_t *list, *drops;
    struct tree_btt_piece *piece;
    struct tree_codec codec;
    uint8_t *page;
    uint64_t page_no; /* TREE_BTT_NO_PAGE: none is held */
    /* what frames are being cut from */
    struct kv_place held; /* offset 0 */
    uint8_t *buf;
    size_t capacity, len; /* len: without what fills up the last unit */
    /* of the node whose extents are sent */
    struct tree_node_header header;
    uint64_t block; /* 0: none */
};

/* ---- reading ---- */

static int send_read(struct tree_send *s, uint64_t offset, uint8_t *buf, size_t len)
{
    return s->opt.read(s->opt.from, offset, buf, (size_t)base_align_up(len, TREE_UNIT));
}

static int send_alloc(uint8_t **ret, size_t len)
{
    *ret = mem_aligned(TREE_UNIT, (size_t)base_align_up(len, TREE_UNIT));
    return *ret == NULL ? -ENOMEM : 0;
}

/* Room for `len` bytes; nothing is held. */
static int send_room(struct tree_send *s, size_t len)
{
    s->held.kind = SEND_NOTHING;
    if (len <= s->capacity) {
        return 0;
    }
    mem_freep(&s->buf);
    s->capacity = 0;
    int rc = send_alloc(&s->buf, len);
    s->capacity = rc < 0 ? 0 : (size_t)base_align_up(len, TREE_UNIT);
    return rc;
}

static int send_blob(struct tree_send *s, const struct tree_super_blob *b, uint8_t **ret)
{
    uint8_t *bytes = NULL;
    int rc = b->len > (uint64_t)TREE_SPACE_REGION_UNITS * TREE_UNIT ? -ERR_bad_length
                                                                    : send_alloc(&bytes, b->len);
    rc = rc < 0 ? rc : send_read(s, b->offset, bytes, b->len);
    if (rc < 0) {
        mem_free(bytes);
        return rc;
    }
    *ret = bytes;
    return 0;
}

/* ---- what the superblock names ---- */

static int load_index(struct tree_send *s, struct err *e)
{
    const struct tree_super *super = &s->super;
    CLEANUP(mem_freep) uint8_t *bytes = NULL;
    int rc = send_blob(s, &super->table, &bytes);
    rc = rc < 0 ? rc
                : tree_btt_index_decode(bytes, super->table.len, super->file_id,
                                        super->table.checksum, &s->index);
    if (rc == 0 &&
        (s->index.checkpoint != super->checkpoint || s->index.next_block != super->next_block)) {
        rc = -ERR_bad_value;
    }
    for (size_t i = 0; rc == 0 && i < s->index.page_count; i++) {
        s->page_sent += s->index.place[i].offset != 0;
    }
    return rc < 0 ? err_set(e, rc, "index of the translation table at offset %" PRIu64,
                            super->table.offset)
                  : 0;
}

static int load_list(struct tree_send *s, struct err *e)
{
    const struct tree_super *super = &s->super;
    if (super->segment_count == 0) {
        return 0;
    }
    bool fits = super->segment_count <= TREE_BTT_PIECES_MAX &&
                tree_btt_pieces_bytes(super->segment_count) == super->segments.len;
    int rc = fits ? send_blob(s, &super->segments, &s->list) : -ERR_bad_length;
    s->piece = rc < 0 ? NULL : mem_calloc(super->segment_count, sizeof *s->piece);
    if (rc == 0 && s->piece == NULL) {
        return -ENOMEM;
    }
    struct tree_btt_pieces_in in = {.bytes = s->list,
                                    .file_id = super->file_id,
                                    .len = super->segments.len,
                                    .count = super->segment_count,
                                    .checkpoint = super->checkpoint,
                                    .expected = super->segments.checksum};
    rc = rc < 0 ? rc : tree_btt_pieces_decode(&in, s->piece);
    return rc < 0 ? err_set(e, rc, "list of memtable segments at offset %" PRIu64,
                            super->segments.offset)
                  : 0;
}

static int load_drops(struct tree_send *s, struct err *e)
{
    const struct tree_super_blob *b = &s->super.drops;
    if (b->len == 0) {
        return 0;
    }
    int rc = send_blob(s, b, &s->drops);
    if (rc == 0 &&
        tree_btt_blob_sum(s->super.file_id, s->super.checkpoint, s->drops, b->len) != b->checksum) {
        rc = -ERR_bad_crc;
    }
    return rc < 0 ? err_set(e, rc, "drop queue at offset %" PRIu64, b->offset) : 0;
}

static void send_unload(struct tree_send *s)
{
    mem_freep(&s->index.place);
    mem_freep(&s->list);
    mem_freep(&s->drops);
    mem_freep(&s->piece);
    s->page_sent = 0;
}

static int send_load(struct tree_send *s, struct err *e)
{
    if (s->ready) {
        return 0;
    }
    int rc = load_index(s, e);
    rc = rc < 0 ? rc : load_list(s, e);
    rc = rc < 0 ? rc : load_drops(s, e);
    if (rc < 0) {
        send_unload(s);
    }
    s->ready = rc == 0;
    return rc;
}

/* ---- pages and entries ---- */

static int page_read(struct tree_send *s, uint64_t no, uint8_t *out, struct err *e)
{
    const struct tree_btt_place *p = &s->index.place[no];
    int rc = send_read(s, p->offset, out, TREE_BTT_PAGE_BYTES);
    rc = rc < 0 ? rc : tree_btt_page_check(out, s->super.file_id, no, p->checksum);
    return rc < 0 ? err_set(e, rc, "page %" PRIu64 " of the translation table at offset %" PRIu64,
                            no, p->offset)
                  : 0;
}

/* s->page is that one; not of a void one. */
static int page_hold(struct tree_send *s, uint64_t no, struct err *e)
{
    if (s->page_no == no) {
        return 0;
    }
    s->page_no = TREE_BTT_NO_PAGE;
    int rc = page_read(s, no, s->page, e);
    s->page_no = rc < 0 ? TREE_BTT_NO_PAGE : no;
    return rc;
}

static int entry_get(struct tree_send *s, uint64_t block, struct tree_btt_entry *ret, struct err *e)
{
    uint64_t no = block / TREE_BTT_PAGE_ENTRIES;
    *ret = (struct tree_btt_entry){0};
    if (no >= s->index.page_count || s->index.place[no].offset == 0) {
        return 0;
    }
    int rc = page_hold(s, no, e);
    return rc < 0 ? rc
                  : tree_btt_page_entry(s->page, (unsigned)(block % TREE_BTT_PAGE_ENTRIES), ret);
}

static bool entry_is_sent(const struct tree_btt_entry *e)
{
    return e->kind == TREE_BTT_NODE && e->units > 0;
}

/* ---- what comes next ---- */

/* The first node from `block` on, or the end. */
static int place_node(struct tree_send *s, uint64_t block, struct kv_place *ret, struct err *e)
{
    struct tree_btt_entry entry;
    while (block < s->index.next_block) {
        uint64_t no = block / TREE_BTT_PAGE_ENTRIES;
        if (s->index.place[no].offset == 0) {
            block = (no + 1) * TREE_BTT_PAGE_ENTRIES;
            continue;
        }
        int rc = entry_get(s, block, &entry, e);
        if (rc < 0) {
            return rc;
        }
        if (entry_is_sent(&entry)) {
            *ret = (struct kv_place){.kind = TREE_STREAM_NODE, .item = block};
            return 0;
        }
        block++;
    }
    *ret = (struct kv_place){.kind = TREE_STREAM_END};
    return 0;
}

static int place_piece(struct tree_send *s, uint64_t i, struct kv_place *ret, struct err *e)
{
    *ret = (struct kv_place){.kind = TREE_STREAM_PIECE, .item = i};
    return i < s->super.segment_count ? 0 : place_node(s, 1, ret, e);
}

static int place_drops(struct tree_send *s, uint64_t offset, struct kv_place *ret, struct err *e)
{
    *ret = (struct kv_place){.kind = TREE_STREAM_DROPS, .offset = offset};
    return offset < s->super.drops.len ? 0 : place_piece(s, 0, ret, e);
}

static int place_page(struct tree_send *s, uint64_t no, struct kv_place *ret, struct err *e)
{
    while (no < s->index.page_count && s->index.place[no].offset == 0) {
        no++;
    }
    *ret = (struct kv_place){.kind = TREE_STREAM_PAGES, .item = no};
    if (no < s->index.page_count) {
        return 0;
    }
    *ret = (struct kv_place){.kind = TREE_STREAM_LIST};
    return s->super.segment_count > 0 ? 0 : place_drops(s, 0, ret, e);
}

/* ---- frames ---- */

struct send_frame { /* one that is being made */
    struct kv_place at, next;
    uint8_t *out; /* of the payload */
    size_t len;
    struct err *err;
};

static int send_refuse(const struct send_frame *f)
{
    return err_set(f->err, -ERR_bad_value,
                   "no frame begins at kind %" PRIu32 ", item %" PRIu64 ", part %" PRIu32
                   ", offset %" PRIu64,
                   f->at.kind, f->at.item, f->at.part, f->at.offset);
}

static int frame_header(struct tree_send *s, struct send_frame *f)
{
    struct tree_stream_header h = {.super = s->super,
                                   .page_count = s->index.page_count,
                                   .page_sent = s->page_sent,
                                   .free_head = s->index.free_head,
                                   .free_count = s->index.free_count};
    tree_stream_header_encode(&h, f->out);
    f->len = TREE_STREAM_HEADER_BYTES;
    return place_page(s, 0, &f->next, f->err);
}

/* Pages that follow each other. */
static int frame_pages(struct tree_send *s, struct send_frame *f)
{
    uint64_t no = f->at.item;
    if (no >= s->index.page_count || s->index.place[no].offset == 0) {
        return send_refuse(f);
    }
    for (unsigned i = 0; i < TREE_STREAM_PAGES_MAX; i++, no++) {
        if (no == s->index.page_count || s->index.place[no].offset == 0) {
            break;
        }
        int rc = page_hold(s, no, f->err);
        if (rc < 0) {
            return rc;
        }
        memcpy(f->out + f->len, s->page, TREE_BTT_PAGE_BYTES);
        f->len += TREE_BTT_PAGE_BYTES;
    }
    return place_page(s, no, &f->next, f->err);
}

static int frame_list(struct tree_send *s, struct send_frame *f)
{
    if (s->super.segment_count == 0) {
        return send_refuse(f);
    }
    memcpy(f->out, s->list, s->super.segments.len);
    f->len = s->super.segments.len;
    return place_drops(s, 0, &f->next, f->err);
}

/* From f->at.offset on. False: nothing begins there. */
static bool frame_cut(struct send_frame *f, const uint8_t *bytes, size_t len)
{
    if (f->at.offset >= len || f->at.offset % KV_FRAME_PAYLOAD_MAX != 0) {
        return false;
    }
    f->len = (size_t)base_min(KV_FRAME_PAYLOAD_MAX, len - f->at.offset);
    memcpy(f->out, bytes + f->at.offset, f->len);
    return true;
}

static int frame_drops(struct tree_send *s, struct send_frame *f)
{
    if (!frame_cut(f, s->drops, s->super.drops.len)) {
        return send_refuse(f);
    }
    return place_drops(s, f->at.offset + f->len, &f->next, f->err);
}

static bool send_holds(const struct tree_send *s, const struct kv_place *p)
{
    return s->held.kind == p->kind && s->held.item == p->item && s->held.part == p->part;
}

static void send_hold(struct tree_send *s, const struct kv_place *p, size_t len)
{
    s->held = *p;
    s->held.offset = 0;
    s->len = len;
}

static int hold_piece(struct tree_send *s, const struct send_frame *f)
{
    const struct tree_btt_piece *p = &s->piece[f->at.item];
    struct err why = {0};
    int rc = p->len > (uint64_t)TREE_SPACE_REGION_UNITS * TREE_UNIT ? -ERR_bad_length
                                                                    : send_room(s, (size_t)p->len);
    rc = rc < 0 ? rc : send_read(s, p->offset, s->buf, (size_t)p->len);
    rc = rc < 0 ? rc : tree_stream_check_piece(s->super.file_id, p, s->buf, &s->codec, &why);
    if (rc < 0) {
        return err_set(f->err, rc, "memtable segment %" PRIu64 " at offset %" PRIu64 ": %s",
                       f->at.item, p->offset, err_message(&why, rc));
    }
    send_hold(s, &f->at, (size_t)p->len);
    return 0;
}

static int frame_piece(struct tree_send *s, struct send_frame *f)
{
    if (f->at.item >= s->super.segment_count) {
        return send_refuse(f);
    }
    int rc = send_holds(s, &f->at) ? 0 : hold_piece(s, f);
    if (rc < 0) {
        return rc;
    }
    if (!frame_cut(f, s->buf, s->len)) {
        return send_refuse(f);
    }
    f->next = f->at;
    f->next.offset += f->len;
    return f->next.offset < s->len ? 0 : place_piece(s, f->at.item + 1, &f->next, f->err);
}

/* ---- nodes ---- */

static int node_wrong(const struct send_frame *f, int rc, uint64_t offset, const struct err *why)
{
    return err_set(f->err, rc, "block %" PRIu64 ", extent %" PRIu32 " at offset %" PRIu64 ": %s",
                   f->at.item, f->at.part, offset, err_message(why, rc));
}

/* s->header is that of the node; its extent is in s->buf. */
static int hold_header(struct tree_send *s, const struct send_frame *f,
                       const struct tree_btt_entry *e)
{
    struct tree_node_expect x = {
        .file_id = s->super.file_id, .block = f->at.item, .birth = e->birth, .sum = e->checksum};
    struct kv_place place = {.kind = TREE_STREAM_NODE, .item = f->at.item};
    struct err why = {0};
    uint64_t offset = e->unit * TREE_UNIT;
    size_t len = (size_t)e->units * TREE_UNIT;
    s->block = 0;
    tree_node_fini(&s->header);
    s->header = (struct tree_node_header){0};
    int rc = len > TREE_NODE_MAX ? -ERR_bad_length : send_room(s, len);
    rc = rc < 0 ? rc : send_read(s, offset, s->buf, len);
    rc = rc < 0 ? rc : tree_node_decode(s->buf, len, &x, &s->header);
    if (rc < 0) {
        return node_wrong(f, rc, offset, &why);
    }
    rc = tree_stream_check_extent(&s->header, 0, s->buf, len, &why);
    if (rc == 0 && (s->header.level != e->level || s->header.extent_count > e->segment_count)) {
        rc = err_set(&why, -ERR_bad_value, "level, or count of extents");
    }
    if (rc < 0) {
        return node_wrong(f, rc, offset, &why);
    }
    s->block = f->at.item;
    send_hold(s, &place, len);
    return 0;
}

static int hold_extent(struct tree_send *s, const struct send_frame *f)
{
    const struct tree_extent *x = &s->header.extent[f->at.part - 1];
    struct err why = {0};
    int rc =
        x->len > TREE_NODE_MAX || x->len % TREE_UNIT != 0 ? -ERR_bad_length : send_room(s, x->len);
    rc = rc < 0 ? rc : send_read(s, x->offset, s->buf, x->len);
    rc = rc < 0 ? rc : tree_stream_check_extent(&s->header, f->at.part, s->buf, x->len, &why);
    if (rc < 0) {
        return node_wrong(f, rc, x->offset, &why);
    }
    send_hold(s, &f->at, x->len);
    return 0;
}

static int hold_node(struct tree_send *s, const struct send_frame *f)
{
    struct tree_btt_entry e;
    int rc =
        f->at.item < s->index.next_block ? entry_get(s, f->at.item, &e, f->err) : send_refuse(f);
    if (rc < 0) {
        return rc;
    }
    if (!entry_is_sent(&e)) {
        return send_refuse(f);
    }
    if (s->block != f->at.item || f->at.part == 0) {
        rc = hold_header(s, f, &e);
    }
    if (rc < 0 || f->at.part == 0) {
        return rc;
    }
    return f->at.part > s->header.extent_count ? send_refuse(f) : hold_extent(s, f);
}

static int frame_node(struct tree_send *s, struct send_frame *f)
{
    int rc = send_holds(s, &f->at) ? 0 : hold_node(s, f);
    if (rc < 0) {
        return rc;
    }
    if (!frame_cut(f, s->buf, s->len)) {
        return send_refuse(f);
    }
    f->next = f->at;
    f->next.offset += f->len;
    if (f->next.offset < s->len) {
        return 0;
    }
    if (f->at.part < s->header.extent_count) {
        f->next.part++;
        f->next.offset = 0;
        return 0;
    }
    return place_node(s, f->at.item + 1, &f->next, f->err);
}

static int frame_end(struct tree_send *s, struct send_frame *f)
{
    struct tree_stream_totals t = {.pages = s->page_sent, .pieces = s->super.segment_count};
    for (uint64_t no = 0; no < s->index.page_count; no++) {
        int rc = s->index.place[no].offset == 0 ? 0 : page_hold(s, no, f->err);
        if (rc < 0) {
            return rc;
        }
        for (unsigned i = 0; i < TREE_BTT_PAGE_ENTRIES && s->page_no == no; i++) {
            struct tree_btt_entry e = {0};
            CHECK(tree_btt_page_entry(s->page, i, &e) == 0); /* the page was checked */
            tree_stream_count(&t, &e);
        }
    }
    for (uint64_t i = 0; i < t.pieces; i++) {
        t.piece_bytes += s->piece[i].len;
    }
    tree_stream_end_encode(&t, f->out);
    f->len = TREE_STREAM_END_BYTES;
    f->next = (struct kv_place){0};
    return 0;
}

/* Numbers that its kind does not use are zero. */
static bool send_place_is_plain(const struct kv_place *p)
{
    bool item =
        p->kind == TREE_STREAM_PAGES || p->kind == TREE_STREAM_PIECE || p->kind == TREE_STREAM_NODE;
    bool offset =
        p->kind == TREE_STREAM_DROPS || p->kind == TREE_STREAM_PIECE || p->kind == TREE_STREAM_NODE;
    return (item || p->item == 0) && (offset || p->offset == 0) &&
           (p->kind == TREE_STREAM_NODE || p->part == 0);
}

static int send_make(struct tree_send *s, struct send_frame *f)
{
    if (!send_place_is_plain(&f->at)) {
        return send_refuse(f);
    }
    switch (f->at.kind) {
    case TREE_STREAM_HEADER:
        return frame_header(s, f);
    case TREE_STREAM_PAGES:
        return frame_pages(s, f);
    case TREE_STREAM_LIST:
        return frame_list(s, f);
    case TREE_STREAM_DROPS:
        return frame_drops(s, f);
    case TREE_STREAM_PIECE:
        return frame_piece(s, f);
    case TREE_STREAM_NODE:
        return frame_node(s, f);
    case TREE_STREAM_END:
        return frame_end(s, f);
    default:
        return send_refuse(f);
    }
}

int tree_send_frame(struct tree_send *s, const struct kv_cursor *from, uint8_t *out,
                    struct kv_frame *ret, size_t *ret_len, struct err *e)
{
    struct send_frame f = {.at = from->place, .out = out + KV_FRAME_HEADER_BYTES, .err = e};
    if (from->stream != s->stream && (from->stream != 0 || from->number != 0)) {
        return err_set(e, -ESTALE,
                       "stream %016" PRIx64 " is of a checkpoint that is not here any more",
                       from->stream);
    }
    int rc = send_load(s, e);
    rc = rc < 0 ? rc : send_make(s, &f);
    if (rc < 0) {
        return rc;
    }
    *ret = (struct kv_frame){
        .at = *from, .next.place = f.next, .last = f.at.kind == TREE_STREAM_END, .len = f.len};
    ret->at.stream = s->stream;
    *ret_len = kv_frame_seal(ret, out);
    return 0;
}

/* ---- beginning and end ---- */

int tree_send_new(const struct tree_send_options *opt, struct tree_send **ret)
{
    uint8_t super[TREE_SUPER_BYTES];
    CLEANUP(tree_send_freep) struct tree_send *s = mem_zalloc(sizeof *s);
    if (s == NULL) {
        return -ENOMEM;
    }
    s->opt = *opt;
    s->opt.super = NULL;
    s->super = *opt->super;
    tree_super_encode(&s->super, super); /* its checksum as others will see it */
    s->stream = tree_stream_name(&s->super);
    s->page_no = TREE_BTT_NO_PAGE;
    s->held.kind = SEND_NOTHING;
    int rc = tree_codec_init(&s->codec, NULL);
    rc = rc < 0 ? rc : send_alloc(&s->page, TREE_BTT_PAGE_BYTES);
    if (rc < 0) {
        return rc;
    }
    *ret = s;
    s = NULL;
    return 0;
}

struct tree_send *tree_send_free(struct tree_send *s)
{
    if (s != NULL) {
        send_unload(s);
        tree_node_fini(&s->header);
        tree_codec_fini(&s->codec);
        mem_free(s->page);
        mem_free(s->buf);
        mem_free(s);
    }
    return NULL;
}

bool tree_send_is(const struct tree_send *s, uint64_t stream)
{
    return s->stream == stream;
}
