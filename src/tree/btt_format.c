/* tree/btt_format.c -- the bytes of the block translation table; see btt.h. */
#include "tree/btt.h"

#include "base/mem.h"
#include "wire/wire.h"

#include <xxhash.h>

#define PAGE_MAGIC 0x42545442u   /* "BTTB" */
#define INDEX_MAGIC 0x49545442u  /* "BTTI" */
#define PIECES_MAGIC 0x4c475342u /* "BSGL" */
#define FORMAT 1u
#define PAGE_HEAD_BYTES 16u
#define PAGE_SUM_AT (TREE_BTT_PAGE_BYTES - 8)
#define INDEX_HEAD_BYTES 48u
#define PLACE_BYTES 24u
#define PIECES_HEAD_BYTES 24u
#define PIECE_BYTES 48u
#define MAX_48 ((UINT64_C(1) << 48) - 1)
/* What the checksum is seeded with besides the file: numbers of pages are far below. */
#define SEED_INDEX (UINT64_C(1) << 62)
#define SEED_PIECES (UINT64_C(1) << 63)
#define SEED_BLOB (UINT64_C(3) << 62)

_Static_assert(PAGE_HEAD_BYTES + TREE_BTT_PAGE_ENTRIES * TREE_BTT_ENTRY_BYTES <= PAGE_SUM_AT,
               "disk layout");

/* File and place are part of it: a page of another file, or of another number, fits nowhere. */
static uint64_t btt_sum(const uint8_t *file_id, uint64_t place, const void *bytes, size_t len)
{
    uint64_t seed = XXH3_64bits_withSeed(file_id, TREE_BTT_ID_BYTES, place);
    return XXH3_64bits_withSeed(bytes, len, seed);
}

static void store_bytes(uint8_t *at, uint64_t v, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        at[i] = (uint8_t)(v >> (8 * i));
    }
}

static uint64_t load_bytes(const uint8_t *at, unsigned count)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < count; i++) {
        v |= (uint64_t)at[i] << (8 * i);
    }
    return v;
}

/* ---- entries ---- */

void tree_btt_entry_encode(const struct tree_btt_entry *e, uint8_t out[TREE_BTT_ENTRY_BYTES])
{
    CHECK(e->unit <= MAX_48 && e->birth <= MAX_48 && e->link <= TREE_BTT_BLOCK_MAX);
    CHECK(e->header_len <= UINT16_MAX * TREE_BTT_HEADER_UNIT && e->flags < 64);
    store_bytes(out, e->unit, 6);
    wire_store_u16(out + 6, e->units);
    uint32_t header = (e->header_len + TREE_BTT_HEADER_UNIT - 1) / TREE_BTT_HEADER_UNIT;
    wire_store_u16(out + 8, (uint16_t)header);
    out[10] = (uint8_t)((unsigned)e->kind | (unsigned)e->flags << 2);
    out[11] = e->level;
    wire_store_u64(out + 12, e->checksum);
    store_bytes(out + 20, e->birth, 6);
    store_bytes(out + 26, e->link, 5);
    out[31] = e->segment_count;
}

static bool entry_valid(const struct tree_btt_entry *e)
{
    switch (e->kind) {
    case TREE_BTT_VOID:
    case TREE_BTT_FREE: {
        bool blank = e->flags == 0 && e->level == 0 && e->segment_count == 0 && e->units == 0 &&
                     e->header_len == 0 && e->unit == 0 && e->checksum == 0 && e->birth == 0;
        return blank && (e->kind == TREE_BTT_FREE || e->link == 0);
    }
    case TREE_BTT_NODE:
        if (e->units == 0) {
            return e->birth > 0 && e->unit == 0 && e->header_len == 0 && e->link == 0 &&
                   e->segment_count == 0;
        }
        break;
    case TREE_BTT_SEGMENT:
        if (e->units == 0 || e->segment_count != 0) {
            return false;
        }
        break;
    }
    bool header = e->header_len <= (uint64_t)e->units * TREE_BTT_UNIT;
    bool chained = e->kind == TREE_BTT_SEGMENT || (e->segment_count > 0) == (e->link != 0);
    return e->unit > 0 && e->birth > 0 && header && chained;
}

int tree_btt_entry_decode(const uint8_t in[TREE_BTT_ENTRY_BYTES], struct tree_btt_entry *ret)
{
    struct tree_btt_entry e = {
        .kind = (enum tree_btt_kind)(in[10] & 3u),
        .flags = in[10] >> 2,
        .level = in[11],
        .segment_count = in[31],
        .units = wire_load_u16(in + 6),
        .header_len = wire_load_u16(in + 8) * TREE_BTT_HEADER_UNIT,
        .unit = load_bytes(in, 6),
        .checksum = wire_load_u64(in + 12),
        .birth = load_bytes(in + 20, 6),
        .link = load_bytes(in + 26, 5),
    };
    *ret = e;
    return entry_valid(&e) ? 0 : -ERR_bad_value;
}

/* ---- pages ---- */

static const uint8_t *page_entry(const uint8_t *page, unsigned i)
{
    return page + PAGE_HEAD_BYTES + (size_t)i * TREE_BTT_ENTRY_BYTES;
}

static unsigned page_entries_used(const uint8_t *page)
{
    unsigned used = 0;
    for (unsigned i = 0; i < TREE_BTT_PAGE_ENTRIES; i++) {
        used += (page_entry(page, i)[10] & 3u) != TREE_BTT_VOID;
    }
    return used;
}

uint64_t tree_btt_page_seal(uint8_t page[TREE_BTT_PAGE_BYTES], const uint8_t *file_id,
                            uint64_t page_no)
{
    wire_store_u32(page, PAGE_MAGIC);
    wire_store_u64(page + 4, page_no * TREE_BTT_PAGE_ENTRIES);
    wire_store_u16(page + 12, (uint16_t)page_entries_used(page));
    wire_store_u16(page + 14, 0);
    size_t end = PAGE_HEAD_BYTES + TREE_BTT_PAGE_ENTRIES * TREE_BTT_ENTRY_BYTES;
    memset(page + end, 0, PAGE_SUM_AT - end);
    uint64_t sum = btt_sum(file_id, page_no, page, PAGE_SUM_AT);
    wire_store_u64(page + PAGE_SUM_AT, sum);
    return sum;
}

int tree_btt_page_check(const uint8_t page[TREE_BTT_PAGE_BYTES], const uint8_t *file_id,
                        uint64_t page_no, uint64_t expected)
{
    if (wire_load_u32(page) != PAGE_MAGIC) {
        return -ERR_bad_magic;
    }
    uint64_t sum = btt_sum(file_id, page_no, page, PAGE_SUM_AT);
    if (wire_load_u64(page + PAGE_SUM_AT) != sum || sum != expected) {
        return -ERR_bad_crc;
    }
    size_t end = PAGE_HEAD_BYTES + TREE_BTT_PAGE_ENTRIES * TREE_BTT_ENTRY_BYTES;
    bool head = wire_load_u64(page + 4) == page_no * TREE_BTT_PAGE_ENTRIES &&
                wire_load_u16(page + 12) == page_entries_used(page) &&
                wire_load_u16(page + 14) == 0 && load_bytes(page + end, 8) == 0;
    int rc = head ? 0 : -ERR_bad_value;
    struct tree_btt_entry e;
    for (unsigned i = 0; i < TREE_BTT_PAGE_ENTRIES && rc == 0; i++) {
        rc = tree_btt_entry_decode(page_entry(page, i), &e);
    }
    return rc;
}

int tree_btt_page_entry(const uint8_t page[TREE_BTT_PAGE_BYTES], unsigned i,
                        struct tree_btt_entry *ret)
{
    CHECK(i < TREE_BTT_PAGE_ENTRIES);
    return tree_btt_entry_decode(page_entry(page, i), ret);
}

/* ---- the index ---- */

size_t tree_btt_index_bytes(size_t page_count)
{
    return INDEX_HEAD_BYTES + page_count * PLACE_BYTES + 8;
}

/* The checksum of what the writer holds, behind it. */
static uint64_t btt_finish(struct wire_writer *w, const uint8_t *file_id, uint64_t place)
{
    uint64_t sum = btt_sum(file_id, place, w->at, w->len);
    wire_write_u64(w, sum);
    CHECK(!w->bad && w->len == w->size);
    return sum;
}

uint64_t tree_btt_index_encode(const struct tree_btt_index *x, const uint8_t *file_id, uint8_t *out)
{
    struct wire_writer w = wire_writer_over(out, tree_btt_index_bytes(x->page_count));
    wire_write_u32(&w, INDEX_MAGIC);
    wire_write_u32(&w, FORMAT);
    wire_write_u64(&w, x->checkpoint);
    wire_write_u64(&w, x->next_block);
    wire_write_u64(&w, x->free_head);
    wire_write_u64(&w, x->free_count);
    wire_write_u64(&w, x->page_count);
    for (size_t i = 0; i < x->page_count; i++) {
        wire_write_u64(&w, x->place[i].offset);
        wire_write_u64(&w, x->place[i].checksum);
        wire_write_u64(&w, x->place[i].birth);
    }
    return btt_finish(&w, file_id, SEED_INDEX ^ x->checkpoint);
}

/* What blobs begin with: magic, format, checkpoint. `sum` is of the whole. */
static int blob_begin(struct wire_reader *r, uint32_t magic, uint64_t sum, uint64_t expected)
{
    if (r->left < INDEX_HEAD_BYTES / 2 + 8) {
        return -ERR_short_msg;
    }
    uint64_t stored = wire_load_u64(r->at + r->left - 8);
    if (wire_read_u32(r) != magic) {
        return -ERR_bad_magic;
    }
    r->left -= 8;
    if (stored != sum || sum != expected) {
        return -ERR_bad_crc;
    }
    return wire_read_u32(r) == FORMAT ? 0 : -ERR_bad_version;
}

/* Of the bytes that a blob's checksum covers; the number of its checkpoint stands in its head. */
static uint64_t blob_sum(const uint8_t *in, size_t len, const uint8_t *file_id, uint64_t seed)
{
    return len < PIECES_HEAD_BYTES + 8
               ? 0
               : btt_sum(file_id, seed ^ wire_load_u64(in + 8), in, len - 8);
}

static bool place_valid(const struct tree_btt_place *p, uint64_t checkpoint)
{
    if (p->offset == 0) {
        return p->checksum == 0 && p->birth == 0;
    }
    return p->offset % TREE_BTT_UNIT == 0 && p->offset <= INT64_MAX && p->birth > 0 &&
           p->birth <= checkpoint;
}

static int index_check(const struct tree_btt_index *x)
{
    uint64_t pages = (x->next_block + TREE_BTT_PAGE_ENTRIES - 1) / TREE_BTT_PAGE_ENTRIES;
    bool good = x->next_block > 0 && x->next_block <= TREE_BTT_BLOCK_MAX + 1 &&
                x->page_count == pages && x->free_head < x->next_block &&
                x->free_count < x->next_block && (x->free_head == 0) == (x->free_count == 0);
    for (size_t i = 0; i < x->page_count && good; i++) {
        good = place_valid(&x->place[i], x->checkpoint);
    }
    return good ? 0 : -ERR_bad_value;
}

int tree_btt_index_decode(const uint8_t *in, size_t len, const uint8_t *file_id, uint64_t expected,
                          struct tree_btt_index *ret)
{
    struct wire_reader r = wire_reader_over(in, len);
    struct tree_btt_index x = {0};
    int rc = blob_begin(&r, INDEX_MAGIC, blob_sum(in, len, file_id, SEED_INDEX), expected);
    if (rc < 0) {
        return rc;
    }
    x.checkpoint = wire_read_u64(&r);
    x.next_block = wire_read_u64(&r);
    x.free_head = wire_read_u64(&r);
    x.free_count = wire_read_u64(&r);
    uint64_t count = wire_read_u64(&r);
    if (r.bad || r.left % PLACE_BYTES != 0 || count != r.left / PLACE_BYTES) {
        return -ERR_bad_length;
    }
    x.page_count = (size_t)count;
    x.place = mem_calloc(x.page_count + 1, sizeof *x.place);
    if (x.place == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < x.page_count; i++) {
        x.place[i].offset = wire_read_u64(&r);
        x.place[i].checksum = wire_read_u64(&r);
        x.place[i].birth = wire_read_u64(&r);
    }
    rc = index_check(&x);
    if (rc < 0) {
        mem_free(x.place);
        return rc;
    }
    *ret = x;
    return 0;
}

/* ---- pieces ---- */

size_t tree_btt_pieces_bytes(size_t count)
{
    return PIECES_HEAD_BYTES + count * PIECE_BYTES + 8;
}

uint64_t tree_btt_pieces_encode(const struct tree_btt_piece *p, size_t count, uint64_t checkpoint,
                                const uint8_t *file_id, uint8_t *out)
{
    struct wire_writer w = wire_writer_over(out, tree_btt_pieces_bytes(count));
    wire_write_u32(&w, PIECES_MAGIC);
    wire_write_u32(&w, FORMAT);
    wire_write_u64(&w, checkpoint);
    wire_write_u64(&w, count);
    for (size_t i = 0; i < count; i++) {
        wire_write_u64(&w, p[i].offset);
        wire_write_u64(&w, p[i].len);
        wire_write_u64(&w, p[i].checksum);
        wire_write_u64(&w, p[i].birth);
        wire_write_bytes(&w, p[i].owner, sizeof p[i].owner);
    }
    return btt_finish(&w, file_id, SEED_PIECES ^ checkpoint);
}

static bool piece_valid(const struct tree_btt_piece *p, uint64_t checkpoint)
{
    return p->offset > 0 && p->offset % TREE_BTT_UNIT == 0 && p->offset <= INT64_MAX &&
           p->len > 0 && p->len <= INT64_MAX && p->birth > 0 && p->birth <= checkpoint;
}

int tree_btt_pieces_decode(const struct tree_btt_pieces_in *in, struct tree_btt_piece *ret)
{
    struct wire_reader r = wire_reader_over(in->bytes, in->len);
    uint64_t sum = blob_sum(in->bytes, in->len, in->file_id, SEED_PIECES);
    int rc = blob_begin(&r, PIECES_MAGIC, sum, in->expected);
    if (rc < 0) {
        return rc;
    }
    if (in->len != tree_btt_pieces_bytes(in->count)) {
        return -ERR_bad_length;
    }
    if (wire_read_u64(&r) != in->checkpoint || wire_read_u64(&r) != in->count) {
        return -ERR_bad_value;
    }
    for (size_t i = 0; i < in->count; i++) {
        struct tree_btt_piece *p = &ret[i];
        p->offset = wire_read_u64(&r);
        p->len = wire_read_u64(&r);
        p->checksum = wire_read_u64(&r);
        p->birth = wire_read_u64(&r);
        memcpy(p->owner, wire_read_bytes(&r, sizeof p->owner), sizeof p->owner);
        if (!piece_valid(p, in->checkpoint)) {
            return -ERR_bad_value;
        }
    }
    return 0;
}

uint64_t tree_btt_blob_sum(const uint8_t *file_id, uint64_t checkpoint, const void *bytes,
                           size_t len)
{
    return btt_sum(file_id, SEED_BLOB ^ checkpoint, bytes, len);
}
