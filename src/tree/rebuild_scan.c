/*
 * tree/rebuild_scan.c -- reads all of a file and notes every node, and everything that begins like
 * an index, a list of segments or a list of memtables; and says what the newest checkpoint was when
 * no superblock does.
 */
#include "tree/rebuild_priv.h"

#include "base/mem.h"
#include "tree/write.h"
#include "wire/wire.h"

#include <stdlib.h>

#define SCAN_BYTES (1u << 20)
#define INDEX_MAGIC 0x49545442u /* "BTTI" */
#define LIST_MAGIC 0x4c475342u  /* "BSGL" */
#define EXTRA_MAGIC 0x58455442u /* "BTEX" */
#define BLOB_HEAD_BYTES 48u
#define BLOB_MAX (UINT64_C(64) << 20)
#define GUESS_AHEAD 2u /* births of the next checkpoint; of the one after, when one failed */

/* ---- scanning ---- */

static int scan_add_node(struct rebuild *r, const struct tree_node_probe *p, uint64_t offset)
{
    int rc = mem_grow(&r->seen, &r->seen_capacity, r->seen_count + 1, sizeof *r->seen);
    if (rc < 0) {
        return rc;
    }
    struct rebuild_seen *s = &r->seen[r->seen_count++];
    *s = (struct rebuild_seen){.block = p->block,
                               .birth = p->birth,
                               .version = p->version,
                               .sum = p->sum,
                               .offset = offset,
                               .len = p->total_len,
                               .level = p->level};
    memcpy(s->file_id, p->file_id, sizeof s->file_id);
    return 0;
}

static int scan_add_blob(struct rebuild *r, uint64_t offset, enum rebuild_blob_kind kind)
{
    int rc = mem_grow(&r->blob, &r->blob_capacity, r->blob_count + 1, sizeof *r->blob);
    if (rc == 0) {
        r->blob[r->blob_count++] = (struct rebuild_blob){.offset = offset, .kind = kind};
    }
    return rc;
}

/* A header that goes on behind what was read. */
static int scan_long_header(struct rebuild *r, uint64_t offset, struct tree_node_probe *p)
{
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(p->header_len);
    if (bytes == NULL) {
        return -ENOMEM;
    }
    int rc = tree_look_read(&r->look, offset, bytes, p->header_len);
    return rc < 0 ? rc : tree_node_probe(bytes, p->header_len, p);
}

static int scan_unit(struct rebuild *r, const uint8_t *bytes, size_t left, uint64_t offset)
{
    struct tree_node_probe p;
    uint32_t magic = wire_load_u32(bytes);
    if (magic == INDEX_MAGIC || magic == LIST_MAGIC || magic == EXTRA_MAGIC) {
        return scan_add_blob(r, offset,
                             magic == INDEX_MAGIC  ? REBUILD_INDEX
                             : magic == LIST_MAGIC ? REBUILD_LIST
                                                   : REBUILD_EXTRA);
    }
    int rc = tree_node_probe(bytes, left, &p);
    if (rc == -ERR_short_msg) {
        rc = scan_long_header(r, offset, &p);
    }
    bool good = rc == 0 && p.block != 0 && p.block <= TREE_BTT_BLOCK_MAX && p.birth != 0;
    return good ? scan_add_node(r, &p, offset) : rc == -ENOMEM ? rc : 0;
}

/* As much of it as can be read: unit by unit when all at once cannot. */
static int scan_chunk(struct rebuild *r, uint64_t offset, uint8_t *bytes, size_t len)
{
    int rc = tree_look_read(&r->look, offset, bytes, len);
    for (size_t at = 0; rc < 0 && at < len; at += TREE_UNIT) {
        if (tree_look_read(&r->look, offset + at, bytes + at, TREE_UNIT) < 0) {
            memset(bytes + at, 0, TREE_UNIT);
        }
    }
    rc = 0;
    for (size_t at = 0; at < len && rc == 0; at += TREE_UNIT) {
        rc = scan_unit(r, bytes + at, len - at, offset + at);
    }
    return rc;
}

int tree_rebuild_scan(struct rebuild *r)
{
    CLEANUP(mem_freep) uint8_t *bytes = mem_aligned(TREE_UNIT, SCAN_BYTES);
    uint64_t size = base_align_down(r->look.size_bytes, TREE_UNIT);
    int rc = bytes == NULL ? -ENOMEM : 0;
    for (uint64_t offset = 0; offset < size && rc == 0; offset += SCAN_BYTES) {
        rc = scan_chunk(r, offset, bytes, (size_t)base_min(SCAN_BYTES, size - offset));
    }
    return rc;
}

static int seen_order(const void *left, const void *right)
{
    const struct rebuild_seen *a = left, *b = right;
    if (a->block != b->block) {
        return a->block < b->block ? -1 : 1;
    }
    if (a->birth != b->birth) {
        return a->birth > b->birth ? -1 : 1;
    }
    return (a->version < b->version) - (a->version > b->version);
}

void tree_rebuild_sort(struct rebuild *r, const uint8_t *file_id)
{
    size_t kept = 0;
    for (size_t i = 0; i < r->seen_count; i++) {
        if (memcmp(r->seen[i].file_id, file_id, TREE_FILE_ID_BYTES) == 0) {
            r->seen[kept++] = r->seen[i];
        }
    }
    r->seen_count = kept;
    if (kept > 0) {
        qsort(r->seen, kept, sizeof *r->seen, seen_order);
    }
}

/* ---- guessing ---- */

/* The id that most nodes have (Boyer and Moore): remains of other files are fewer. */
static bool guess_file_id(const struct rebuild *r, uint8_t *ret)
{
    size_t lead = 0;
    for (size_t i = 0; i < r->seen_count; i++) {
        const uint8_t *id = r->seen[i].file_id;
        if (lead == 0) {
            memcpy(ret, id, TREE_FILE_ID_BYTES);
        }
        bool same = memcmp(ret, id, TREE_FILE_ID_BYTES) == 0;
        lead = same ? lead + 1 : lead - 1;
    }
    return r->seen_count > 0;
}

/* Into fresh memory. 1; 0: no. */
static int guess_read(struct rebuild *r, uint64_t offset, uint64_t len, uint8_t **ret)
{
    if (len > BLOB_MAX || offset > r->look.size_bytes || len > r->look.size_bytes - offset) {
        return 0;
    }
    uint8_t *bytes = mem_alloc((size_t)len);
    if (bytes == NULL) {
        return -ENOMEM;
    }
    if (tree_look_read(&r->look, offset, bytes, (size_t)len) < 0) {
        mem_free(bytes);
        return 0;
    }
    *ret = bytes;
    return 1;
}

static uint64_t guess_sum(const uint8_t *bytes, uint64_t len)
{
    return wire_load_u64(bytes + len - 8);
}

/* 1: it is one, newer than what is known. */
static int guess_index(struct rebuild *r, uint64_t offset, struct tree_super *s)
{
    uint8_t head[BLOB_HEAD_BYTES];
    CLEANUP(mem_freep) uint8_t *bytes = NULL;
    struct tree_btt_index x;
    if (tree_look_read(&r->look, offset, head, sizeof head) < 0 ||
        wire_load_u64(head + 40) > r->look.size_bytes / TREE_UNIT) {
        return 0;
    }
    uint64_t len = tree_btt_index_bytes((size_t)wire_load_u64(head + 40));
    int rc = guess_read(r, offset, len, &bytes);
    if (rc <= 0) {
        return rc;
    }
    rc = tree_btt_index_decode(bytes, (size_t)len, s->file_id, guess_sum(bytes, len), &x);
    if (rc < 0) {
        return rc == -ENOMEM ? rc : 0;
    }
    mem_free(x.place);
    if (x.checkpoint > s->checkpoint) {
        s->checkpoint = x.checkpoint;
        s->next_block = x.next_block;
        s->table = (struct tree_super_blob){
            .offset = offset, .len = (uint32_t)len, .checksum = guess_sum(bytes, len)};
    }
    return 0;
}

/* The list of the checkpoint, or without an index the newest one. */
static int guess_list(struct rebuild *r, uint64_t offset, struct tree_super *s, uint64_t *newest)
{
    uint8_t head[BLOB_HEAD_BYTES];
    CLEANUP(mem_freep) uint8_t *bytes = NULL;
    if (tree_look_read(&r->look, offset, head, sizeof head) < 0 ||
        wire_load_u64(head + 16) > TREE_BTT_PIECES_MAX) {
        return 0;
    }
    uint64_t checkpoint = wire_load_u64(head + 8), count = wire_load_u64(head + 16);
    bool wanted = s->table.len > 0 ? checkpoint == s->checkpoint : checkpoint > *newest;
    uint64_t len = tree_btt_pieces_bytes((size_t)count);
    int rc = wanted ? guess_read(r, offset, len, &bytes) : 0;
    if (rc <= 0) {
        return rc;
    }
    CLEANUP(mem_freep) struct tree_btt_piece *piece = mem_calloc((size_t)count + 1, sizeof *piece);
    struct tree_btt_pieces_in in = {.bytes = bytes,
                                    .file_id = s->file_id,
                                    .len = (size_t)len,
                                    .count = (size_t)count,
                                    .checkpoint = checkpoint,
                                    .expected = guess_sum(bytes, len)};
    if (piece == NULL) {
        return -ENOMEM;
    }
    if (tree_btt_pieces_decode(&in, piece) == 0) {
        *newest = checkpoint;
        s->segment_count = (uint32_t)count;
        s->segments = (struct tree_super_blob){
            .offset = offset, .len = (uint32_t)len, .checksum = guess_sum(bytes, len)};
    }
    return 0;
}

/* How far it has come: later ones know newer memtables, or fewer old ones, or have drained more. */
static bool extra_is_later(const struct tree_extra *a, const struct tree_extra *b)
{
    uint32_t a_new = a->table_count == 0 ? 0 : a->table[0].number;
    uint32_t b_new = b->table_count == 0 ? 0 : b->table[0].number;
    if (a_new != b_new) {
        return a_new > b_new;
    }
    if (a->table_count != b->table_count) {
        return a->table_count < b->table_count;
    }
    unsigned a_drains = 0, b_drains = 0;
    for (unsigned i = 0; i < a->table_count; i++) {
        a_drains += a->table[i].draining;
        b_drains += b->table[i].draining;
    }
    return a_drains != b_drains ? a_drains > b_drains
                                : kv_slice_compare(a->drained, b->drained) > 0;
}

/* All memtables that the pieces belong to are in it. */
static bool extra_fits(const struct rebuild *r, const struct tree_extra *x)
{
    for (size_t i = 0; i < r->table.piece_count; i++) {
        struct tree_keep_owner owner;
        bool known = false;
        if (tree_keep_owner(&r->table.piece[i], &owner) < 0) {
            continue;
        }
        for (unsigned k = 0; k < x->table_count; k++) {
            known = known || x->table[k].number == owner.memtable_number;
        }
        if (!known) {
            return false;
        }
    }
    return true;
}

struct extra_guess {
    uint8_t *bytes; /* owned; NULL: none yet */
    struct tree_extra extra;
};

static int guess_extra(struct rebuild *r, uint64_t offset, struct tree_super *s,
                       struct extra_guess *best)
{
    uint8_t head[BLOB_HEAD_BYTES] = {0};
    CLEANUP(mem_freep) uint8_t *bytes = NULL;
    struct tree_extra x;
    if (tree_look_read(&r->look, offset, head, sizeof head) < 0 ||
        wire_load_u32(head + 8) > TREE_EXTRA_TABLES_MAX ||
        wire_load_u64(head + 16) > BLOB_MAX / 8) {
        return 0;
    }
    uint64_t len = 24 + 24 * (uint64_t)wire_load_u32(head + 8) + wire_load_u16(head + 12) +
                   8 * wire_load_u64(head + 16);
    int rc = guess_read(r, offset, len, &bytes);
    if (rc <= 0) {
        return rc;
    }
    bool better = tree_extra_decode(bytes, (size_t)len, &x) == 0 && extra_fits(r, &x) &&
                  (best->bytes == NULL || extra_is_later(&x, &best->extra));
    if (better) {
        mem_free(best->bytes);
        *best = (struct extra_guess){.bytes = bytes, .extra = x};
        bytes = NULL;
        s->drops = (struct tree_super_blob){
            .offset = offset,
            .len = (uint32_t)len,
            .checksum = tree_btt_blob_sum(s->file_id, s->checkpoint, best->bytes, (size_t)len)};
    }
    return 0;
}

/* The newest index; without one the newest list, which is written at the end of a checkpoint. Nodes
 * may have a birth behind that: they are of a checkpoint that was not finished. A list that is far
 * behind them is of no use. */
static int guess_checkpoint(struct rebuild *r, struct tree_super *s)
{
    uint64_t newest = 0, birth = 0;
    int rc = 0;
    for (size_t i = 0; i < r->blob_count && rc == 0; i++) {
        rc = r->blob[i].kind == REBUILD_INDEX ? guess_index(r, r->blob[i].offset, s) : 0;
    }
    for (size_t i = 0; i < r->seen_count; i++) {
        birth = base_max(birth, r->seen[i].birth);
    }
    for (size_t i = 0; i < r->blob_count && rc == 0; i++) {
        rc = r->blob[i].kind == REBUILD_LIST ? guess_list(r, r->blob[i].offset, s, &newest) : 0;
    }
    if (s->table.len == 0 && birth > newest + GUESS_AHEAD) {
        s->segments = (struct tree_super_blob){0};
        s->segment_count = 0;
        newest = birth;
    }
    s->checkpoint = s->table.len == 0 ? newest : s->checkpoint;
    return rc;
}

/* What lies at the places of the blobs; the pieces are needed to know the extra that fits. */
static int guess_blobs(struct rebuild *r, struct tree_super *s)
{
    struct extra_guess best = {0};
    int rc = guess_checkpoint(r, s);
    rc = rc < 0 ? rc : tree_look_table(&r->look, s, &r->table);
    for (size_t i = 0; i < r->blob_count && rc == 0; i++) {
        rc = r->blob[i].kind == REBUILD_EXTRA ? guess_extra(r, r->blob[i].offset, s, &best) : 0;
    }
    if (rc == 0 && best.bytes != NULL) {
        r->table.drops_len = s->drops.len;
        r->table.drops = best.bytes;
        best.bytes = NULL;
    }
    mem_free(best.bytes);
    return rc;
}

/* The node without fences that was made last. */
static int guess_root(struct rebuild *r, struct tree_super *s)
{
    uint64_t version = 0;
    const uint64_t none = tree_fingerprint(kv_slice_of("", 0));
    for (size_t i = 0; i < r->seen_count; i++) {
        struct rebuild_way way = {.block = r->seen[i].block, .level = UINT8_MAX};
        struct tree_look_node n;
        bool older = false;
        if (i > 0 && r->seen[i - 1].block == r->seen[i].block) {
            continue;
        }
        int rc = tree_rebuild_find(r, &way, &n, &older);
        if (rc == -ENOMEM) {
            return rc;
        }
        if (rc < 0) {
            continue;
        }
        const struct tree_node_header *h = &n.header;
        bool all = h->low_print == none && h->high_print == none;
        bool later = s->height == 0 || h->version > version ||
                     (h->version == version && h->level + 1u > s->height);
        if (all && !older && later) {
            version = h->version;
            s->root_block = h->block;
            s->height = h->level + 1u;
        }
        s->tree_version = base_max(s->tree_version, h->version);
        tree_look_node_fini(&n);
    }
    return 0;
}

int tree_rebuild_newest(struct rebuild *r, const uint8_t *file_id, uint64_t *ret)
{
    struct tree_super s = {.checkpoint = 0};
    int rc = 0;
    memcpy(s.file_id, file_id, sizeof s.file_id);
    for (size_t i = 0; i < r->blob_count && rc == 0; i++) {
        rc = r->blob[i].kind == REBUILD_INDEX ? guess_index(r, r->blob[i].offset, &s) : 0;
    }
    *ret = s.checkpoint;
    return rc;
}

int tree_rebuild_guess(struct rebuild *r, struct tree_super *ret, struct err *e)
{
    struct tree_super s = {.fanout = 32,
                           .leaf_raw = 1u << 20,
                           .basement_raw = 16u << 10,
                           .internal_raw = 4u << 20,
                           .codec = TREE_CODEC_LZ4};
    if (!guess_file_id(r, s.file_id)) {
        return err_set(e, -ERR_bad_magic, "there is no superblock and no node");
    }
    tree_rebuild_sort(r, s.file_id);
    int rc = guess_blobs(r, &s);
    r->super = s; /* finding nodes looks at its checkpoint */
    rc = rc < 0 ? rc : guess_root(r, &s);
    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; i < r->seen_count && s.root_block == 0; i++) {
        s.height = (uint32_t)base_max(s.height, r->seen[i].level + 2u); /* one above all */
    }
    *ret = s;
    return 0;
}
