/* tree/look.c -- see look.h. Layouts: doc/format/tree.md, doc/format/tree_store.md. */
#include "tree/look.h"

#include "base/mem.h"
#include "wire/wire.h"

#include <inttypes.h>
#include <string.h>

#define LOOK_BLOB_MAX (UINT64_C(64) << 20) /* an extent lies in one region */
#define LOOK_HEAD_BYTES 4096u              /* of a node, read before its length is known */
#define LOOK_SEGMENT_NUMBER_AT 32u

/* ---- the file ---- */

int tree_look_read(struct tree_look *l, uint64_t offset, void *out, size_t len)
{
    if (offset > l->size_bytes || len > l->size_bytes - offset) {
        return -ERR_short_msg;
    }
    struct disk_req req = {
        .op = DISK_READ, .file = l->file, .offset = offset, .buf = out, .len = len};
    int64_t got = disk_now(l->disk, &req);
    l->read_bytes += got > 0 ? (uint64_t)got : 0;
    return got < 0 ? (int)got : (uint64_t)got < len ? -ERR_short_msg : 0;
}

static void look_supers(struct tree_look *l, struct tree_super_pair *ret)
{
    uint8_t bytes[TREE_SUPER_BYTES];
    for (unsigned i = 0; i < TREE_SUPER_PLACES; i++) {
        uint64_t offset = i * (uint64_t)TREE_SUPER_SECOND;
        int rc = tree_look_read(l, offset, bytes, sizeof bytes);
        if (rc < 0) {
            err_set(&ret->err[i], rc, "superblock at offset %" PRIu64, offset);
        }
        ret->rc[i] = rc < 0 ? rc : tree_super_decode(bytes, offset, &ret->super[i], &ret->err[i]);
    }
}

static int look_open_file(struct tree_look *l, const char *path)
{
    struct disk_req open = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_ONLY};
    int64_t rc = disk_now(l->disk, &open);
    if (rc < 0) {
        return (int)rc;
    }
    l->file = open.file;
    struct disk_req stat = {.op = DISK_STAT, .file = l->file};
    struct disk_req drop = {.op = DISK_DROP, .file = l->file}; /* the medium counts, not memory */
    rc = disk_now(l->disk, &stat);
    l->size_bytes = stat.stat.size_bytes;
    rc = rc < 0 ? rc : disk_now(l->disk, &drop);
    return rc < 0 ? (int)rc : 0;
}

int tree_look_open(struct disk *d, const char *path, struct tree_look *ret, struct err *e)
{
    *ret = (struct tree_look){.disk = d};
    int rc = tree_codec_init(&ret->codec, NULL);
    rc = rc < 0 ? rc : look_open_file(ret, path);
    if (rc < 0) {
        tree_look_close(ret);
        return err_set(e, rc, "open '%s'", path);
    }
    look_supers(ret, &ret->pair);
    ret->choice_rc = tree_super_choose(&ret->pair, &ret->choice, &ret->choice_err);
    return 0;
}

void tree_look_close(struct tree_look *l)
{
    if (l->file != NULL) {
        struct disk_req close = {.op = DISK_CLOSE, .file = l->file};
        (void)disk_now(l->disk, &close); /* nothing was written */
        l->file = NULL;
    }
    tree_codec_fini(&l->codec);
    mem_freep(&l->packed);
    l->packed_capacity = 0;
}

bool tree_look_changed(struct tree_look *l)
{
    struct tree_super_pair now = {0};
    look_supers(l, &now);
    bool same = true;
    for (unsigned i = 0; i < TREE_SUPER_PLACES; i++) {
        same = same && now.rc[i] == l->pair.rc[i] &&
               (now.rc[i] < 0 || now.super[i].checksum == l->pair.super[i].checksum);
    }
    return !same;
}

/* Into l->packed. */
static int look_packed(struct tree_look *l, uint64_t offset, size_t len)
{
    int rc = mem_grow(&l->packed, &l->packed_capacity, len, 1);
    return rc < 0 ? rc : tree_look_read(l, offset, l->packed, len);
}

/* ---- a checkpoint ---- */

static int look_blob(struct tree_look *l, const struct tree_super_blob *b)
{
    return b->len > LOOK_BLOB_MAX ? -ERR_bad_length : look_packed(l, b->offset, b->len);
}

static int look_index(struct tree_look *l, struct tree_look_table *t)
{
    const struct tree_super *s = &t->super;
    int rc = look_blob(l, &s->table);
    rc = rc < 0 ? rc
                : tree_btt_index_decode(l->packed, s->table.len, s->file_id, s->table.checksum,
                                        &t->index);
    if (rc < 0) {
        return rc;
    }
    /* Each page lies somewhere else. */
    bool good = t->index.checkpoint == s->checkpoint && t->index.next_block == s->next_block &&
                t->index.page_count <= l->size_bytes / TREE_BTT_PAGE_BYTES;
    if (!good) {
        mem_freep(&t->index.place);
        t->index = (struct tree_btt_index){0};
        return -ERR_bad_value;
    }
    return 0;
}

static int look_pages(struct tree_look *l, struct tree_look_table *t)
{
    size_t count = t->index.page_count;
    t->pages = mem_calloc(count + 1, TREE_BTT_PAGE_BYTES);
    t->page_rc = mem_calloc(count + 1, sizeof *t->page_rc);
    if (t->pages == NULL || t->page_rc == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        uint8_t *page = t->pages + i * TREE_BTT_PAGE_BYTES;
        const struct tree_btt_place *p = &t->index.place[i];
        if (p->offset == 0) {
            continue;
        }
        int rc = tree_look_read(l, p->offset, page, TREE_BTT_PAGE_BYTES);
        rc = rc < 0 ? rc : tree_btt_page_check(page, t->super.file_id, i, p->checksum);
        if (rc < 0) {
            memset(page, 0, TREE_BTT_PAGE_BYTES);
            t->page_rc[i] = rc;
        }
    }
    return 0;
}

static int look_pieces(struct tree_look *l, struct tree_look_table *t)
{
    const struct tree_super *s = &t->super;
    if (s->segment_count > TREE_BTT_PIECES_MAX) {
        return -ERR_bad_length;
    }
    int rc = look_blob(l, &s->segments);
    if (rc < 0) {
        return rc;
    }
    struct tree_btt_pieces_in in = {.bytes = l->packed,
                                    .file_id = s->file_id,
                                    .len = s->segments.len,
                                    .count = s->segment_count,
                                    .checkpoint = s->checkpoint,
                                    .expected = s->segments.checksum};
    t->piece = mem_calloc(s->segment_count + 1, sizeof *t->piece);
    rc = t->piece == NULL ? -ENOMEM : tree_btt_pieces_decode(&in, t->piece);
    t->piece_count = rc < 0 ? 0 : s->segment_count;
    return rc;
}

static int look_drops(struct tree_look *l, struct tree_look_table *t)
{
    const struct tree_super *s = &t->super;
    int rc = look_blob(l, &s->drops);
    if (rc < 0) {
        return rc;
    }
    if (tree_btt_blob_sum(s->file_id, s->checkpoint, l->packed, s->drops.len) !=
        s->drops.checksum) {
        return -ERR_bad_crc;
    }
    t->drops = mem_dup(l->packed, s->drops.len);
    t->drops_len = t->drops == NULL ? 0 : s->drops.len;
    return t->drops == NULL ? -ENOMEM : 0;
}

int tree_look_table(struct tree_look *l, const struct tree_super *s, struct tree_look_table *ret)
{
    *ret = (struct tree_look_table){.super = *s};
    ret->index_rc = look_index(l, ret);
    int rc = ret->index_rc < 0 ? 0 : look_pages(l, ret);
    ret->pieces_rc = s->segment_count == 0 ? 0 : look_pieces(l, ret);
    ret->drops_rc = s->drops.len == 0 ? 0 : look_drops(l, ret);
    bool memory = rc == -ENOMEM || ret->index_rc == -ENOMEM || ret->pieces_rc == -ENOMEM ||
                  ret->drops_rc == -ENOMEM;
    if (memory) {
        tree_look_table_fini(ret);
        return -ENOMEM;
    }
    return 0;
}

void tree_look_table_fini(struct tree_look_table *t)
{
    mem_freep(&t->index.place);
    mem_freep(&t->pages);
    mem_freep(&t->page_rc);
    mem_freep(&t->piece);
    mem_freep(&t->drops);
    t->index.page_count = 0;
    t->piece_count = 0;
}

bool tree_look_knows(const struct tree_look_table *t, uint64_t block)
{
    uint64_t page = block / TREE_BTT_PAGE_ENTRIES;
    return t->index_rc == 0 && page < t->index.page_count && t->page_rc[page] == 0;
}

void tree_look_entry(const struct tree_look_table *t, uint64_t block, struct tree_btt_entry *ret)
{
    *ret = (struct tree_btt_entry){.kind = TREE_BTT_VOID};
    if (block != 0 && block < tree_look_blocks(t) && tree_look_knows(t, block)) {
        const uint8_t *page = t->pages + block / TREE_BTT_PAGE_ENTRIES * TREE_BTT_PAGE_BYTES;
        int rc = tree_btt_page_entry(page, (unsigned)(block % TREE_BTT_PAGE_ENTRIES), ret);
        CHECK(rc == 0); /* the page was checked */
    }
}

bool tree_look_is_void(struct tree_look *l, unsigned place)
{
    uint8_t bytes[8];
    int rc = tree_look_read(l, place * (uint64_t)TREE_SUPER_SECOND, bytes, sizeof bytes);
    return rc == 0 && wire_load_u64(bytes) == TREE_SUPER_VOID_MAGIC;
}

int tree_look_choose(const struct tree_look *l, bool older, const struct tree_super **ret,
                     struct err *e)
{
    if (l->choice_rc < 0) {
        return err_set(e, l->choice_rc, "%s", l->choice_err.text);
    }
    int place = older ? l->choice.older : l->choice.newest;
    if (place < 0) {
        return err_set(e, -ENOENT, "there is no older checkpoint");
    }
    *ret = &l->pair.super[place];
    return 0;
}

static void look_mark(const struct tree_look *l, uint64_t *bits, uint64_t offset, uint64_t len)
{
    uint64_t end = l->size_bytes / TREE_UNIT;
    uint64_t units = (len + TREE_UNIT - 1) / TREE_UNIT;
    for (uint64_t i = offset / TREE_UNIT; units > 0 && i < end; i++, units--) {
        bits[i / 64] |= UINT64_C(1) << i % 64;
    }
}

void tree_look_mark(const struct tree_look *l, const struct tree_look_table *t, uint64_t *bits)
{
    const struct tree_super *s = &t->super;
    look_mark(l, bits, 0, TREE_SUPER_BYTES);
    look_mark(l, bits, TREE_SUPER_SECOND, TREE_SUPER_BYTES);
    look_mark(l, bits, s->table.offset, s->table.len);
    look_mark(l, bits, s->segments.offset, s->segments.len);
    look_mark(l, bits, s->drops.offset, s->drops.len);
    for (size_t i = 0; i < t->index.page_count; i++) {
        uint64_t offset = t->index.place[i].offset;
        look_mark(l, bits, offset, offset == 0 ? 0 : TREE_BTT_PAGE_BYTES);
    }
    for (size_t i = 0; i < t->piece_count; i++) {
        look_mark(l, bits, t->piece[i].offset, t->piece[i].len);
    }
    for (uint64_t block = 1; block < tree_look_blocks(t); block++) {
        struct tree_btt_entry e;
        tree_look_entry(t, block, &e);
        look_mark(l, bits, e.unit * TREE_UNIT, (uint64_t)e.units * TREE_UNIT);
    }
}

/* ---- nodes ---- */

struct tree_look_at tree_look_at_entry(const struct tree_look_table *t, uint64_t block,
                                       const struct tree_btt_entry *e)
{
    return (struct tree_look_at){.file_id = t->super.file_id,
                                 .block = block,
                                 .birth = e->birth,
                                 .sum = e->checksum,
                                 .offset = e->unit * TREE_UNIT,
                                 .len = (uint32_t)e->units * TREE_UNIT};
}

static int look_header(struct tree_look *l, const struct tree_look_at *at,
                       struct tree_node_header *ret)
{
    struct tree_node_probe probe = {0};
    struct tree_node_expect x = {
        .file_id = at->file_id, .block = at->block, .birth = at->birth, .sum = at->sum};
    size_t len = (size_t)base_min(at->len == 0 ? LOOK_HEAD_BYTES : at->len, LOOK_HEAD_BYTES);
    int rc = look_packed(l, at->offset, len);
    rc = rc < 0 ? rc : tree_node_probe(l->packed, len, &probe);
    if (rc == -ERR_short_msg && len == LOOK_HEAD_BYTES && probe.header_len > len) {
        len = probe.header_len;
        rc = at->len != 0 && len > at->len ? -ERR_bad_length : look_packed(l, at->offset, len);
    }
    rc = rc < 0 ? rc : tree_node_decode(l->packed, len, &x, ret);
    if (rc == 0 && at->len != 0 && ret->total_len != at->len) {
        tree_node_fini(ret);
        return -ERR_bad_length;
    }
    return rc;
}

static int look_pivots(struct tree_look *l, struct tree_look_node *n)
{
    const struct tree_node_header *h = &n->header;
    int rc = look_packed(l, n->offset + h->pivots.offset, h->pivots.packed_len);
    if (rc < 0) {
        return rc;
    }
    n->pivot_bytes = mem_alloc(h->pivots.raw_len);
    if (n->pivot_bytes == NULL) {
        return -ENOMEM;
    }
    rc = tree_node_unpack_pivots(h, l->packed, &l->codec, n->pivot_bytes);
    return rc < 0 ? rc : tree_pivots_open(n->pivot_bytes, h->pivots.raw_len, h, &n->pivots);
}

static int look_filter(struct tree_look *l, struct tree_look_node *n)
{
    const struct tree_node_header *h = &n->header;
    if (h->filter.kind == TREE_FILTER_NONE) {
        return 0;
    }
    n->filter_bytes = mem_alloc(h->filter.len);
    if (n->filter_bytes == NULL) {
        return -ENOMEM;
    }
    int rc = tree_look_read(l, n->offset + h->filter.offset, n->filter_bytes, h->filter.len);
    rc = rc < 0
             ? rc
             : tree_filter_open(n->filter_bytes, h->filter.len, tree_node_seed(h, 0), &n->filter);
    return rc == 0 && n->filter.kind != h->filter.kind ? -ERR_bad_value : rc;
}

int tree_look_node(struct tree_look *l, const struct tree_look_at *at, struct tree_look_node *ret,
                   struct err *e)
{
    struct tree_look_node n = {.offset = at->offset};
    int rc = look_header(l, at, &n.header);
    if (rc < 0) {
        return err_set(e, rc, "header");
    }
    rc = look_pivots(l, &n);
    n.filter_rc = rc < 0 ? 0 : look_filter(l, &n);
    if (rc < 0 || n.filter_rc == -ENOMEM) {
        tree_look_node_fini(&n);
        return err_set(e, rc < 0 ? rc : -ENOMEM, "pivots");
    }
    *ret = n;
    return 0;
}

void tree_look_node_fini(struct tree_look_node *n)
{
    tree_node_fini(&n->header);
    mem_freep(&n->pivot_bytes);
    mem_freep(&n->filter_bytes);
}

uint64_t tree_look_part_offset(const struct tree_look_node *n, uint32_t i)
{
    const struct tree_partition *p = &n->header.partition[i];
    uint64_t base = p->extent == 0 ? n->offset : n->header.extent[p->extent - 1].offset;
    return base + p->offset;
}

int tree_look_part(struct tree_look *l, const struct tree_look_node *n, uint32_t i, uint8_t **ret)
{
    const struct tree_partition *p = &n->header.partition[i];
    int rc = look_packed(l, tree_look_part_offset(n, i), p->packed_len);
    if (rc < 0) {
        return rc;
    }
    uint8_t *raw = mem_alloc(p->raw_len);
    if (raw == NULL) {
        return -ENOMEM;
    }
    rc = tree_node_unpack(&n->header, i, l->packed, &l->codec, raw);
    if (rc < 0) {
        mem_free(raw);
        return rc;
    }
    *ret = raw;
    return 0;
}

const char *tree_look_kind(uint8_t kind)
{
    switch (kind) {
    case TREE_PARTITION_LEAF:
        return "basement";
    case TREE_PARTITION_RUN:
        return "run";
    case TREE_PARTITION_RANGES:
        return "ranges";
    case TREE_PARTITION_FILTER:
        return "filter";
    default:
        return "unknown";
    }
}

void tree_look_bounds(const struct tree_look_node *n, uint32_t i, struct tree_pivots_bounds *ret)
{
    const struct tree_node_header *h = &n->header;
    const struct tree_partition *p = &h->partition[i];
    if (p->slot == TREE_SLOT_ALL) {
        ret->low = n->pivots.low;
        ret->high = n->pivots.high;
        return;
    }
    tree_pivots_bounds(&n->pivots, p->slot, ret);
    if (p->flags == TREE_PARTITION_MORE) {
        ret->low = tree_pivots_cut(&n->pivots, p->cut);
    }
    if (i + 1 < h->partition_count && p[1].flags == TREE_PARTITION_MORE) {
        ret->high = tree_pivots_cut(&n->pivots, p[1].cut);
    }
}

/* ---- memtable segments ---- */

static int look_segment_ends(struct tree_look *l, const uint8_t *file_id,
                             const struct tree_btt_piece *p, struct tree_look_segment *s)
{
    uint8_t header[TREE_SEGMENT_HEADER_BYTES], trailer[TREE_SEGMENT_TRAILER_BYTES];
    if (p->len < sizeof header + sizeof trailer || p->len > LOOK_BLOB_MAX) {
        return -ERR_bad_length;
    }
    int rc = tree_look_read(l, p->offset, header, sizeof header);
    if (rc < 0) {
        return rc;
    }
    /* It says its number itself; the checksums are seeded with it. */
    struct tree_segment_expect x = {
        .id = {.file_id = file_id, .checkpoint = p->birth}, .len = p->len, .sum = p->checksum};
    x.id.number = wire_load_u32(header + LOOK_SEGMENT_NUMBER_AT);
    s->number = x.id.number;
    rc = tree_segment_check_header(header, &x.id);
    rc = rc < 0 ? rc
                : tree_look_read(l, p->offset + p->len - sizeof trailer, trailer, sizeof trailer);
    return rc < 0 ? rc : tree_segment_open(trailer, &x, &s->s);
}

static int look_segment_index(struct tree_look *l, struct tree_look_segment *s)
{
    if (s->s.block_count == 0) {
        return 0;
    }
    int rc = look_packed(l, s->offset + s->s.index.offset, s->s.index.packed_len);
    if (rc < 0) {
        return rc;
    }
    s->index = mem_alloc(s->s.index.raw_len);
    return s->index == NULL ? -ENOMEM
                            : tree_segment_open_index(&s->s, l->packed, &l->codec, s->index);
}

int tree_look_segment(struct tree_look *l, const uint8_t *file_id, const struct tree_btt_piece *p,
                      struct tree_look_segment *ret, struct err *e)
{
    struct tree_look_segment s = {.offset = p->offset};
    int rc = look_segment_ends(l, file_id, p, &s);
    if (rc < 0) {
        return err_set(e, rc, "header or trailer");
    }
    rc = look_segment_index(l, &s);
    if (rc < 0) {
        tree_look_segment_fini(&s);
        return err_set(e, rc, "index");
    }
    *ret = s;
    return 0;
}

void tree_look_segment_fini(struct tree_look_segment *s)
{
    mem_freep(&s->index);
}

int tree_look_segment_block(struct tree_look *l, const struct tree_look_segment *s, uint32_t i,
                            uint8_t **ret_raw, struct tree_block *ret)
{
    struct tree_segment_part p = tree_segment_part(&s->s, i);
    int rc = look_packed(l, s->offset + p.offset, p.packed_len);
    if (rc < 0) {
        return rc;
    }
    uint8_t *raw = mem_alloc(p.raw_len);
    if (raw == NULL) {
        return -ENOMEM;
    }
    struct tree_segment_block_in in = {.i = i, .packed = l->packed, .raw = raw};
    rc = tree_segment_open_block(&s->s, &in, &l->codec, ret);
    if (rc < 0) {
        mem_free(raw);
        return rc;
    }
    *ret_raw = raw;
    return 0;
}

int tree_look_segment_ranges(struct tree_look *l, const struct tree_look_segment *s,
                             uint8_t **ret_raw, struct tree_ranges *ret)
{
    const struct tree_segment_part *p = &s->s.ranges;
    int rc = look_packed(l, s->offset + p->offset, p->packed_len);
    if (rc < 0) {
        return rc;
    }
    uint8_t *raw = mem_alloc(p->raw_len);
    if (raw == NULL) {
        return -ENOMEM;
    }
    rc = tree_segment_open_ranges(&s->s, l->packed, &l->codec, raw, ret);
    if (rc < 0) {
        mem_free(raw);
        return rc;
    }
    *ret_raw = raw;
    return 0;
}
