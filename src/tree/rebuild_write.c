/*
 * tree/rebuild_write.c -- the new file. What is copied stays at its offset, so that headers may go
 * on naming their older extents; what is made comes behind the end of the old file. It has its name
 * when all of it is durable and a check has found nothing.
 */
#include "tree/rebuild_priv.h"

#include "base/mem.h"
#include "tree/space.h"

#include <string.h>

#define COPY_BYTES (1u << 20)
#define PAGE_ENTRIES_AT 16u
#define REGION_BYTES ((uint64_t)TREE_SPACE_REGION_UNITS * TREE_UNIT)

static int out_now(struct rebuild *r, struct disk_req *req)
{
    int64_t rc = disk_now(r->opt->disk, req);
    return rc < 0 ? (int)rc : 0;
}

static int out_write(struct rebuild *r, uint64_t offset, const void *bytes, size_t len)
{
    struct disk_req req = {.op = DISK_WRITE, .file = r->out, .offset = offset, .len = len};
    memcpy(&req.buf, &bytes, sizeof bytes); /* it is only read */
    int64_t put = disk_now(r->opt->disk, &req);
    r->end = base_max(r->end, offset + len);
    return put < 0 ? (int)put : (uint64_t)put < len ? -EIO : 0;
}

int tree_rebuild_create(struct rebuild *r, struct err *e)
{
    struct disk_req stat = {.op = DISK_STAT, .path = r->opt->out};
    int rc = out_now(r, &stat);
    if (rc != -ENOENT) {
        return err_set(e, rc < 0 ? rc : -EEXIST, "'%s'", r->opt->out);
    }
    r->partial = mem_printf("%s.partial", r->opt->out);
    if (r->partial == NULL) {
        return -ENOMEM;
    }
    struct disk_req open = {
        .op = DISK_OPEN, .path = r->partial, .flags = DISK_READ_WRITE | DISK_CREATE};
    rc = out_now(r, &open);
    if (rc < 0) {
        return err_set(e, rc, "make '%s'", r->partial);
    }
    r->out = open.file;
    r->end = base_max(base_align_up(r->look.size_bytes, TREE_UNIT),
                      TREE_SUPER_SECOND + TREE_SUPER_BYTES);
    struct disk_req cut = {.op = DISK_TRUNCATE, .file = r->out}; /* of an attempt before */
    return out_now(r, &cut);
}

/* What cannot be read is no part of anything: those were read before. */
static void copy_read(struct rebuild *r, uint64_t offset, uint8_t *bytes, size_t len)
{
    int rc = tree_look_read(&r->look, offset, bytes, len);
    for (size_t at = 0; rc < 0 && at < len; at += TREE_UNIT) {
        if (tree_look_read(&r->look, offset + at, bytes + at, TREE_UNIT) < 0) {
            memset(bytes + at, 0, TREE_UNIT);
        }
    }
}

int tree_rebuild_copy(struct rebuild *r, uint64_t offset, uint64_t len)
{
    CLEANUP(mem_freep) uint8_t *bytes = mem_aligned(TREE_UNIT, COPY_BYTES);
    int rc = bytes == NULL ? -ENOMEM : 0;
    len = base_align_up(len, TREE_UNIT);
    for (uint64_t at = 0; at < len && rc == 0; at += COPY_BYTES) {
        size_t part = (size_t)base_min(COPY_BYTES, len - at);
        copy_read(r, offset + at, bytes, part);
        rc = out_write(r, offset + at, bytes, part);
    }
    return rc;
}

int tree_rebuild_append(struct rebuild *r, const void *bytes, size_t len, uint64_t *ret_offset)
{
    uint64_t offset = base_align_up(r->end, TREE_UNIT);
    if (offset / REGION_BYTES != (offset + len - 1) / REGION_BYTES) {
        offset = base_align_up(offset, REGION_BYTES);
    }
    *ret_offset = offset;
    return out_write(r, offset, bytes, len);
}

int tree_rebuild_entry(struct rebuild *r, uint64_t block, const struct tree_btt_entry *e)
{
    size_t had = r->entry_capacity;
    int rc = block > TREE_BTT_BLOCK_MAX
                 ? -ERR_bad_value
                 : mem_grow(&r->entry, &r->entry_capacity, (size_t)block + 1, sizeof *r->entry);
    if (rc < 0) {
        return rc;
    }
    memset(r->entry + had, 0, (r->entry_capacity - had) * sizeof *r->entry);
    r->entry[block] = *e;
    r->next_block = base_max(r->next_block, block + 1);
    return 0;
}

/* ---- the end ---- */

static int finish_page(struct rebuild *r, size_t no, struct tree_btt_place *ret)
{
    uint8_t page[TREE_BTT_PAGE_BYTES] = {0};
    bool any = false;
    for (unsigned i = 0; i < TREE_BTT_PAGE_ENTRIES; i++) {
        uint64_t block = no * TREE_BTT_PAGE_ENTRIES + i;
        if (tree_rebuild_has(r, block)) {
            tree_btt_entry_encode(&r->entry[block],
                                  page + PAGE_ENTRIES_AT + (size_t)i * TREE_BTT_ENTRY_BYTES);
            any = true;
        }
    }
    *ret = (struct tree_btt_place){0};
    if (!any) {
        return 0;
    }
    ret->checksum = tree_btt_page_seal(page, r->super.file_id, no);
    ret->birth = r->super.checkpoint;
    return tree_rebuild_append(r, page, sizeof page, &ret->offset);
}

static int finish_blob(struct rebuild *r, const uint8_t *bytes, size_t len,
                       struct tree_super_blob *ret)
{
    uint64_t offset = 0;
    int rc = tree_rebuild_append(r, bytes, len, &offset);
    ret->offset = offset;
    ret->len = (uint32_t)len;
    return rc;
}

static int finish_table(struct rebuild *r)
{
    size_t count = (size_t)((r->next_block + TREE_BTT_PAGE_ENTRIES - 1) / TREE_BTT_PAGE_ENTRIES);
    size_t len = tree_btt_index_bytes(count);
    CLEANUP(mem_freep) struct tree_btt_place *place = mem_calloc(count + 1, sizeof *place);
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(len);
    int rc = place == NULL || bytes == NULL ? -ENOMEM : 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = finish_page(r, i, &place[i]);
    }
    if (rc < 0) {
        return rc;
    }
    struct tree_btt_index x = {.checkpoint = r->super.checkpoint,
                               .next_block = r->next_block,
                               .page_count = count,
                               .place = place};
    r->super.table.checksum = tree_btt_index_encode(&x, r->super.file_id, bytes);
    r->super.next_block = r->next_block;
    return finish_blob(r, bytes, len, &r->super.table);
}

static int finish_lists(struct rebuild *r)
{
    struct tree_super *s = &r->super;
    s->segments = s->drops = (struct tree_super_blob){0};
    s->segment_count = (uint32_t)r->piece_count;
    int rc = 0;
    if (r->piece_count > 0) {
        size_t len = tree_btt_pieces_bytes(r->piece_count);
        CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(len);
        if (bytes == NULL) {
            return -ENOMEM;
        }
        s->segments.checksum =
            tree_btt_pieces_encode(r->piece, r->piece_count, s->checkpoint, s->file_id, bytes);
        rc = finish_blob(r, bytes, len, &s->segments);
    }
    if (rc == 0 && r->extra_len > 0) {
        s->drops.checksum = tree_btt_blob_sum(s->file_id, s->checkpoint, r->extra, r->extra_len);
        rc = finish_blob(r, r->extra, r->extra_len, &s->drops);
    }
    return rc;
}

static int finish_super(struct rebuild *r)
{
    uint8_t bytes[TREE_SUPER_BYTES] = {0};
    struct tree_super *s = &r->super;
    uint64_t offset = tree_super_offset(s->checkpoint);
    uint64_t size = base_align_up(r->end, TREE_UNIT);
    struct disk_req cut = {.op = DISK_TRUNCATE, .file = r->out, .len = size};
    struct disk_req sync = {.op = DISK_SYNC_ALL, .file = r->out};
    s->previous = 0; /* nothing was before it here */
    s->size_used = size;
    int rc = out_now(r, &cut);
    rc = rc < 0 ? rc : out_write(r, TREE_SUPER_SECOND - offset, bytes, sizeof bytes);
    tree_super_encode(s, bytes);
    rc = rc < 0 ? rc : out_write(r, offset, bytes, sizeof bytes);
    return rc < 0 ? rc : out_now(r, &sync);
}

static void finish_found(void *arg, const struct tree_finding *f)
{
    struct err *e = arg;
    if (f->severity == TREE_FINDING_DAMAGE && e->code == 0) {
        err_set(e, -ERR_corrupt, "%s", f->text);
    }
}

/* It must not be worse than the old one. */
static int finish_check(struct rebuild *r, struct err *e)
{
    struct err why = {0};
    struct tree_check_result result;
    struct tree_check_options opt = {
        .disk = r->opt->disk, .path = r->partial, .level = 3, .found = finish_found, .arg = &why};
    int rc = tree_check(&opt, &result, e);
    if (rc == 0 && result.damages > 0) {
        rc = err_set(e, -ERR_corrupt, "the new file is not sound: %s", why.text);
    }
    return rc;
}

static int finish_name(struct rebuild *r)
{
    CLEANUP(mem_freep) char *directory = mem_strdup(r->opt->out);
    if (directory == NULL) {
        return -ENOMEM;
    }
    char *slash = strrchr(directory, '/');
    if (slash != NULL) {
        slash[slash == directory ? 1 : 0] = '\0';
    }
    struct disk_req rename = {.op = DISK_RENAME, .path = r->partial, .path_to = r->opt->out};
    struct disk_req sync = {.op = DISK_SYNC_DIR, .path = slash == NULL ? "." : directory};
    int rc = out_now(r, &rename);
    return rc < 0 ? rc : out_now(r, &sync);
}

int tree_rebuild_finish(struct rebuild *r, struct err *e)
{
    int rc = finish_table(r);
    rc = rc < 0 ? rc : finish_lists(r);
    rc = rc < 0 ? rc : finish_super(r);
    struct disk_req close = {.op = DISK_CLOSE, .file = r->out};
    if (rc == 0) {
        rc = out_now(r, &close);
        r->out = NULL;
    }
    if (rc < 0) {
        return err_set(e, rc, "write '%s'", r->partial);
    }
    rc = finish_check(r, e);
    if (rc < 0) {
        return rc;
    }
    rc = finish_name(r);
    return rc < 0 ? err_set(e, rc, "rename '%s'", r->partial) : 0;
}

void tree_rebuild_abandon(struct rebuild *r)
{
    if (r->out != NULL) {
        struct disk_req close = {.op = DISK_CLOSE, .file = r->out};
        (void)out_now(r, &close);
        r->out = NULL;
    }
    if (r->partial != NULL) {
        struct disk_req remove = {.op = DISK_REMOVE, .path = r->partial};
        (void)out_now(r, &remove); /* the next attempt begins with it */
    }
}
