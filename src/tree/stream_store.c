/*
 * tree/stream_store.c -- the partial file of a checkpoint that is received. Two records take turns;
 * each is written when what it speaks of is durable, so the newer sound one is true. At the end
 * come a table, lists and a superblock that say where things are here; they lie behind everything
 * else, so that this, too, can be done again after a death.
 */
#include "tree/stream_receive_priv.h"

#include "base/mem.h"
#include "disk/disk.h"
#include "tree/check.h"
#include "tree/space.h"
#include "wire/wire.h"

#include <string.h>

#define RECORD_MAGIC UINT64_C(0x0031564345525442) /* "BTREC1", 0 */
#define RECORD_VERSION 1u
#define RECORD_REACH_AT (32u + KV_CURSOR_BYTES)
#define RECORD_SUM_AT (TREE_UNIT - 8u)
#define RECORD_COUNT 2u
#define STORE_CHUNK (1u << 20)
#define PAGE_ENTRIES_AT 16u

static int store_now(struct tree_receive *x, struct disk_req *req)
{
    int64_t rc = disk_now(x->disk, req);
    return rc < 0 ? (int)rc : 0;
}

static int store_put(struct tree_receive *x, uint64_t unit, const void *bytes, size_t len)
{
    struct disk_req req = {
        .op = DISK_WRITE, .file = x->file, .offset = unit * TREE_UNIT, .len = len};
    memcpy(&req.buf, &bytes, sizeof bytes); /* it is only read */
    int64_t put = disk_now(x->disk, &req);
    return put < 0 ? (int)put : (uint64_t)put < len ? -EIO : 0;
}

static int store_get(struct tree_receive *x, uint64_t unit, void *bytes, size_t len)
{
    uint8_t *at = bytes;
    for (size_t done = 0; done < len; done += STORE_CHUNK) {
        size_t part = base_min(STORE_CHUNK, len - done);
        struct disk_req req = {.op = DISK_READ,
                               .file = x->file,
                               .offset = unit * TREE_UNIT + done,
                               .buf = at + done,
                               .len = part};
        int64_t got = disk_now(x->disk, &req);
        if (got < 0 || (uint64_t)got < part) {
            return got < 0 ? (int)got : -ERR_short_msg;
        }
    }
    return 0;
}

static int store_sync(struct tree_receive *x, enum disk_op op)
{
    struct disk_req req = {.op = op, .file = x->file};
    int rc = store_now(x, &req);
    x->failed = x->failed || rc < 0; /* nobody knows what is there now */
    return rc;
}

int tree_receive_write(struct tree_receive *x, uint64_t unit, const void *bytes, size_t len)
{
    int rc = store_put(x, unit, bytes, len);
    if (rc == 0) {
        x->stored += len;
        x->unsynced += len;
        x->reach = base_max(x->reach, unit * TREE_UNIT + len);
    }
    return rc;
}

/* ---- tables and records ---- */

static uint64_t store_list_unit(const struct tree_receive *x)
{
    return RECEIVE_TABLE_UNIT + x->header.page_count;
}

static uint64_t store_drops_unit(const struct tree_receive *x)
{
    return store_list_unit(x) + base_align_up(x->header.super.segments.len, TREE_UNIT) / TREE_UNIT;
}

int tree_receive_store_tables(struct tree_receive *x)
{
    const struct tree_stream_header *h = &x->header;
    uint8_t header[TREE_STREAM_HEADER_BYTES];
    tree_stream_header_encode(h, header);
    int rc = store_put(x, RECEIVE_HEADER_UNIT, header, sizeof header);
    size_t len = (size_t)h->page_count * TREE_BTT_PAGE_BYTES;
    rc = rc < 0 || len == 0 ? rc : store_put(x, RECEIVE_TABLE_UNIT, x->pages, len);
    len = h->super.segments.len;
    rc = rc < 0 || len == 0 ? rc : store_put(x, store_list_unit(x), x->list, len);
    len = h->super.drops.len;
    rc = rc < 0 || len == 0 ? rc : store_put(x, store_drops_unit(x), x->drops, len);
    return rc;
}

static void record_encode(const struct tree_receive *x, const struct kv_cursor *at, uint8_t *out)
{
    memset(out, 0, TREE_UNIT);
    wire_store_u64(out, RECORD_MAGIC);
    wire_store_u32(out + 8, RECORD_VERSION);
    wire_store_u64(out + 16, x->record);
    wire_store_u64(out + 24, x->stored);
    kv_cursor_encode(at, out + 32);
    wire_store_u64(out + RECORD_REACH_AT, x->reach);
    wire_store_u64(out + RECORD_SUM_AT, tree_sum(0, out, RECORD_SUM_AT));
}

/* Also the length of the file, and (the first time) its name. */
int tree_receive_record(struct tree_receive *x, const struct kv_cursor *at)
{
    uint8_t bytes[TREE_UNIT];
    int rc = store_sync(x, DISK_SYNC_ALL);
    if (rc < 0) {
        return rc;
    }
    record_encode(x, at, bytes);
    rc = store_put(x, RECEIVE_RECORD_UNIT + x->record % RECORD_COUNT, bytes, sizeof bytes);
    if (rc == 0) {
        x->record++;
        x->unsynced = 0;
    }
    return rc;
}

/* ---- going on ---- */

struct store_found {
    bool any;
    uint64_t number, stored, reach;
    struct kv_cursor at;
};

/* Of a file that is shorter than it was then, some of what the record speaks of is missing. */
static void record_look(const uint8_t *in, uint64_t size, struct store_found *f)
{
    struct kv_cursor at;
    bool good = wire_load_u64(in) == RECORD_MAGIC && wire_load_u32(in + 8) == RECORD_VERSION &&
                wire_load_u64(in + RECORD_SUM_AT) == tree_sum(0, in, RECORD_SUM_AT) &&
                kv_cursor_decode(in + 32, &at) == 0;
    uint64_t number = wire_load_u64(in + 16), reach = wire_load_u64(in + RECORD_REACH_AT);
    if (good && reach <= size && (!f->any || number > f->number)) {
        *f = (struct store_found){.any = true,
                                  .number = number,
                                  .stored = wire_load_u64(in + 24),
                                  .reach = reach,
                                  .at = at};
    }
}

static int store_look(struct tree_receive *x, struct store_found *ret)
{
    uint8_t bytes[TREE_UNIT];
    struct disk_req stat = {.op = DISK_STAT, .file = x->file};
    int rc = store_now(x, &stat);
    *ret = (struct store_found){0};
    for (unsigned i = 0; i < RECORD_COUNT && rc == 0; i++) {
        rc = store_get(x, RECEIVE_RECORD_UNIT + i, bytes, sizeof bytes);
        if (rc == 0) {
            record_look(bytes, stat.stat.size_bytes, ret);
        }
        rc = rc == -ERR_short_msg ? 0 : rc;
    }
    return rc;
}

static int load_header(struct tree_receive *x, const struct store_found *f)
{
    uint8_t bytes[TREE_STREAM_HEADER_BYTES];
    int rc = store_get(x, RECEIVE_HEADER_UNIT, bytes, sizeof bytes);
    rc = rc < 0 ? rc : tree_stream_header_decode(bytes, sizeof bytes, &x->header, NULL);
    if (rc < 0) {
        return rc;
    }
    const struct tree_super *s = &x->header.super;
    bool ours = !x->owned || (s->app_len == RECEIVE_OWNER_BYTES &&
                              memcmp(s->app, x->owner, RECEIVE_OWNER_BYTES) == 0);
    return ours && tree_stream_name(s) == f->at.stream ? 0 : -ERR_bad_value;
}

static int load_pages(struct tree_receive *x)
{
    const struct tree_stream_header *h = &x->header;
    int rc =
        store_get(x, RECEIVE_TABLE_UNIT, x->pages, (size_t)h->page_count * TREE_BTT_PAGE_BYTES);
    for (uint64_t no = 0; no < h->page_count && rc == 0; no++) {
        const uint8_t *page = x->pages + no * TREE_BTT_PAGE_BYTES;
        if (!tree_is_zero(page, TREE_BTT_PAGE_BYTES)) {
            x->page_got++;
            rc = tree_btt_page_check(page, h->super.file_id, no,
                                     wire_load_u64(page + TREE_BTT_PAGE_BYTES - 8));
        }
    }
    return rc < 0 ? rc : x->page_got == h->page_sent ? 0 : -ERR_bad_value;
}

/* In front of a segment or a node, or behind all of them. */
static bool load_place_is_good(const struct tree_receive *x, const struct kv_place *p)
{
    struct tree_btt_entry e = {0};
    if (p->part != 0 || p->offset != 0) {
        return false;
    }
    switch (p->kind) {
    case TREE_STREAM_PIECE:
        return p->item < x->header.super.segment_count;
    case TREE_STREAM_NODE:
        if (p->item < x->header.super.next_block) {
            tree_receive_entry(x, p->item, &e);
        }
        return e.kind == TREE_BTT_NODE && e.units > 0;
    default:
        return p->kind == TREE_STREAM_END && p->item == 0;
    }
}

static int store_load(struct tree_receive *x, const struct store_found *f)
{
    int rc = load_header(x, f);
    rc = rc < 0 ? rc : tree_receive_begin(x);
    rc = rc < 0 ? rc : load_pages(x);
    rc = rc < 0 ? rc : store_get(x, store_list_unit(x), x->list, x->header.super.segments.len);
    rc = rc < 0 ? rc : store_get(x, store_drops_unit(x), x->drops, x->header.super.drops.len);
    rc = rc < 0 ? rc : tree_receive_plan(x, NULL);
    return rc < 0 ? rc : load_place_is_good(x, &f->at.place) ? 0 : -ERR_bad_value;
}

/* From the record, if there is one and what it needs is sound; else from the beginning. */
static int store_resume(struct tree_receive *x, bool again)
{
    struct store_found found = {0};
    /* An earlier life may have seen a sync fail: what counts is on the medium. */
    int rc = again ? 0 : disk_refresh(x->disk, x->file);
    rc = again || rc < 0 ? rc : store_look(x, &found);
    if (rc == 0 && found.any) {
        rc = store_load(x, &found);
        if (rc == 0) {
            x->begun = true;
            x->next = found.at;
            x->stored = found.stored;
            x->reach = found.reach;
            x->record = found.number + 1;
            return 0;
        }
        tree_receive_forget(x);
        x->header = (struct tree_stream_header){0};
        rc = err_is(rc, ERR_corrupt) ? 0 : rc;
    }
    if (rc < 0) {
        return rc;
    }
    struct disk_req cut = {.op = DISK_TRUNCATE, .file = x->file};
    return store_now(x, &cut);
}

int tree_receive_open(struct tree_receive *x, bool again, struct err *e)
{
    struct disk_req stat = {.op = DISK_STAT, .path = x->path};
    int rc = store_now(x, &stat);
    if (rc != -ENOENT) {
        return err_set(e, rc < 0 ? rc : -EEXIST, "'%s'", x->path);
    }
    struct disk_req open = {
        .op = DISK_OPEN, .path = x->partial, .flags = DISK_READ_WRITE | DISK_CREATE};
    rc = store_now(x, &open);
    if (rc < 0) {
        return err_set(e, rc, "make '%s'", x->partial);
    }
    x->file = open.file;
    struct disk_req lock = {.op = DISK_LOCK, .file = x->file};
    rc = store_now(x, &lock);
    rc = rc < 0 ? rc : store_resume(x, again);
    return rc < 0 ? err_set(e, rc, "'%s'", x->partial) : 0;
}

/* ---- the end ---- */

struct store_finish {
    struct tree_receive *x;
    struct tree_super super;
    uint64_t end;   /* unit */
    uint8_t *pages; /* as they will be */
    struct tree_btt_place *place;
};

static int finish_append(struct store_finish *f, const void *bytes, size_t len,
                         uint64_t *ret_offset)
{
    uint64_t units = base_align_up(len, TREE_UNIT) / TREE_UNIT;
    if (units > TREE_SPACE_REGION_UNITS) {
        return -E2BIG;
    }
    uint64_t unit = tree_receive_take(&f->end, units);
    *ret_offset = unit * TREE_UNIT;
    return store_put(f->x, unit, bytes, len);
}

static uint8_t *finish_at(const struct store_finish *f, uint64_t block)
{
    return f->pages + block / TREE_BTT_PAGE_ENTRIES * TREE_BTT_PAGE_BYTES + PAGE_ENTRIES_AT +
           block % TREE_BTT_PAGE_ENTRIES * TREE_BTT_ENTRY_BYTES;
}

/* A header that names older extents, as it was written here. */
static int finish_header(struct store_finish *f, uint64_t block, const struct tree_btt_entry *e,
                         struct tree_node_header *ret, uint64_t *ret_sum)
{
    struct tree_node_probe probe;
    size_t len = (size_t)base_align_up(e->header_len, TREE_UNIT);
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(len);
    int rc = bytes == NULL ? -ENOMEM : store_get(f->x, f->x->unit[block], bytes, len);
    rc = rc < 0 ? rc : tree_node_probe(bytes, len, &probe);
    if (rc < 0) {
        return rc;
    }
    struct tree_node_expect expect = {
        .file_id = f->super.file_id, .block = block, .birth = e->birth, .sum = probe.sum};
    *ret_sum = probe.sum;
    return tree_node_decode(bytes, len, &expect, ret);
}

static bool finish_uses(const struct tree_node_header *h, uint64_t unit)
{
    for (unsigned i = 0; i < h->extent_count; i++) {
        if (h->extent[i].offset == unit * TREE_UNIT) {
            return true;
        }
    }
    return false;
}

/* The chain of a node has those extents that its header uses; the others did not come. */
static int finish_node(struct store_finish *f, uint64_t block, struct tree_btt_entry *e)
{
    const struct tree_receive *x = f->x;
    struct tree_node_header h = {0};
    struct tree_btt_entry older, last = *e, none = {0};
    uint64_t at = block, next = e->link;
    int rc = finish_header(f, block, e, &h, &last.checksum);
    if (rc < 0) {
        return rc;
    }
    last.segment_count = h.extent_count;
    last.unit = x->unit[block];
    for (unsigned i = e->segment_count; i > 0; i--) {
        uint64_t number = next;
        tree_receive_entry(x, number, &older);
        next = older.link;
        if (!finish_uses(&h, x->unit[number])) {
            tree_btt_entry_encode(&none, finish_at(f, number));
            continue;
        }
        last.link = number;
        tree_btt_entry_encode(&last, finish_at(f, at));
        at = number;
        last = older;
        last.unit = x->unit[number];
    }
    last.link = 0;
    tree_btt_entry_encode(&last, finish_at(f, at));
    tree_node_fini(&h);
    return 0;
}

static int finish_nodes(struct store_finish *f)
{
    for (uint64_t block = 1; block < f->super.next_block; block++) {
        struct tree_btt_entry e;
        tree_receive_entry(f->x, block, &e);
        if (e.kind != TREE_BTT_NODE || e.units == 0) {
            continue;
        }
        if (e.segment_count == 0) {
            e.unit = f->x->unit[block];
            tree_btt_entry_encode(&e, finish_at(f, block));
            continue;
        }
        int rc = finish_node(f, block, &e);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static int finish_page(struct store_finish *f, uint64_t no)
{
    uint8_t *page = f->pages + no * TREE_BTT_PAGE_BYTES;
    struct tree_btt_place *p = &f->place[no];
    if (tree_is_zero(page, TREE_BTT_PAGE_BYTES)) {
        return 0;
    }
    p->checksum = tree_btt_page_seal(page, f->super.file_id, no);
    p->birth = f->super.checkpoint;
    return finish_append(f, page, TREE_BTT_PAGE_BYTES, &p->offset);
}

static int finish_table(struct store_finish *f)
{
    const struct tree_stream_header *h = &f->x->header;
    size_t count = (size_t)h->page_count, len = tree_btt_index_bytes(count);
    CLEANUP(mem_freep) struct tree_btt_place *place = mem_calloc(count + 1, sizeof *place);
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(len);
    CLEANUP(mem_freep)
    uint8_t *pages = mem_dup(f->x->pages, (count + 1) * TREE_BTT_PAGE_BYTES);
    int rc = place == NULL || bytes == NULL || pages == NULL ? -ENOMEM : 0;
    f->place = place;
    f->pages = pages;
    rc = rc < 0 ? rc : finish_nodes(f);
    for (uint64_t no = 0; no < count && rc == 0; no++) {
        rc = finish_page(f, no);
    }
    if (rc < 0) {
        return rc;
    }
    struct tree_btt_index index = {.checkpoint = f->super.checkpoint,
                                   .next_block = f->super.next_block,
                                   .free_head = h->free_head,
                                   .free_count = h->free_count,
                                   .page_count = count,
                                   .place = place};
    f->super.table.checksum = tree_btt_index_encode(&index, f->super.file_id, bytes);
    f->super.table.len = (uint32_t)len;
    return finish_append(f, bytes, len, &f->super.table.offset);
}

static int finish_list(struct store_finish *f)
{
    struct tree_receive *x = f->x;
    struct tree_super *s = &f->super;
    if (s->segment_count == 0) {
        return 0;
    }
    size_t len = tree_btt_pieces_bytes(s->segment_count);
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(len);
    CLEANUP(mem_freep)
    struct tree_btt_piece *piece = mem_dup(x->piece, s->segment_count * sizeof *x->piece);
    if (bytes == NULL || piece == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < s->segment_count; i++) {
        piece[i].offset = x->piece_unit[i] * TREE_UNIT;
    }
    s->segments.checksum =
        tree_btt_pieces_encode(piece, s->segment_count, s->checkpoint, s->file_id, bytes);
    return finish_append(f, bytes, len, &s->segments.offset);
}

static int finish_drops(struct store_finish *f)
{
    struct tree_super_blob *b = &f->super.drops;
    return b->len == 0 ? 0 : finish_append(f, f->x->drops, b->len, &b->offset);
}

static int finish_super(struct store_finish *f)
{
    struct tree_receive *x = f->x;
    uint8_t bytes[TREE_SUPER_BYTES] = {0};
    struct tree_super *s = &f->super;
    uint64_t offset = tree_super_offset(s->checkpoint);
    struct disk_req cut = {.op = DISK_TRUNCATE, .file = x->file, .len = f->end * TREE_UNIT};
    s->previous = 0; /* nothing was before it here */
    s->size_used = cut.len;
    int rc = store_now(x, &cut);
    rc = rc < 0 ? rc : store_put(x, (TREE_SUPER_SECOND - offset) / TREE_UNIT, bytes, sizeof bytes);
    tree_super_encode(s, bytes);
    rc = rc < 0 ? rc : store_put(x, offset / TREE_UNIT, bytes, sizeof bytes);
    return rc < 0 ? rc : store_sync(x, DISK_SYNC_ALL);
}

static void finish_found(void *arg, const struct tree_finding *f)
{
    struct err *e = arg;
    if (f->severity == TREE_FINDING_DAMAGE && e->code == 0) {
        err_set(e, -ERR_corrupt, "%s", f->text);
    }
}

static int finish_check(struct tree_receive *x, struct err *e)
{
    struct err why = {0};
    struct tree_check_result result;
    struct tree_check_options opt = {
        .disk = x->disk, .path = x->partial, .level = 1, .found = finish_found, .arg = &why};
    int rc = tree_check(&opt, &result, e);
    if (rc == 0 && result.damages > 0) {
        rc = err_set(e, -ERR_corrupt, "'%s' is not sound: %s", x->partial, why.text);
    }
    return rc;
}

/* From now on it is there. */
static int finish_name(struct tree_receive *x)
{
    struct disk_req stat = {.op = DISK_STAT, .path = x->path};
    CLEANUP(mem_freep) char *directory = mem_strdup(x->path);
    if (directory == NULL) {
        return -ENOMEM;
    }
    char *slash = strrchr(directory, '/');
    if (slash != NULL) {
        slash[slash == directory ? 1 : 0] = '\0';
    }
    int rc = store_now(x, &stat);
    if (rc != -ENOENT) {
        return rc < 0 ? rc : -EEXIST;
    }
    struct disk_req rename = {.op = DISK_RENAME, .path = x->partial, .path_to = x->path};
    struct disk_req sync = {.op = DISK_SYNC_DIR, .path = slash == NULL ? "." : directory};
    rc = store_now(x, &rename);
    if (rc == 0) {
        rc = store_now(x, &sync);
        x->failed = rc < 0;
    }
    return rc;
}

int tree_receive_finish(struct tree_receive *x, struct err *e)
{
    struct store_finish f = {.x = x, .super = x->header.super, .end = x->end};
    int rc = finish_table(&f);
    rc = rc < 0 ? rc : finish_list(&f);
    rc = rc < 0 ? rc : finish_drops(&f);
    rc = rc < 0 ? rc : finish_super(&f);
    if (rc < 0) {
        return err_set(e, rc, "write '%s'", x->partial);
    }
    rc = finish_check(x, e);
    if (rc < 0) {
        return rc;
    }
    rc = finish_name(x);
    if (rc < 0) {
        return err_set(e, rc, "rename '%s'", x->partial);
    }
    struct disk_req close = {.op = DISK_CLOSE, .file = x->file};
    x->file = NULL;
    (void)store_now(x, &close); /* it was synced */
    return 0;
}
