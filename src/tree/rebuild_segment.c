/*
 * tree/rebuild_segment.c -- memtables of the new file: their pieces as they are, or without damaged
 * blocks; and what the checkpoint knows of them. Where that is lost it is made of the pieces: then
 * nobody knows how far the oldest were drained, and they count as not drained at all.
 */
#include "tree/rebuild_priv.h"

#include "base/mem.h"
#include "tree/write.h"
#include "wire/wire.h"

#include <inttypes.h>

/* One piece of the old file. */
struct piece_job {
    struct rebuild *r;
    const struct tree_btt_piece *old;
    size_t no;
    uint32_t number; /* of the segment that it becomes */
    struct tree_look_segment s;
    uint64_t msn_min, msn_max; /* of what is kept, deleted ranges included */
    uint64_t lost;             /* messages */
    bool damaged, any;
    uint8_t *out; /* the new one, if it is made */
    size_t len, capacity;
};
/* A memtable, from its pieces. */
struct memtable_found {
    uint32_t number;
    uint64_t msn_min, msn_max;
    size_t first, count; /* of the new pieces */
};

static void piece_tell(struct piece_job *j, const char *text, uint64_t records)
{
    struct tree_finding f = tree_rebuild_finding(TREE_FINDING_DAMAGE, "segment");
    f.segment = j->no;
    f.offset = j->old->offset;
    f.len = j->old->len;
    f.text = text;
    f.ranged = true;
    f.records = records;
    tree_rebuild_tell(j->r, &f);
}

static void piece_number(struct piece_job *j, uint64_t msn)
{
    j->msn_min = j->any ? base_min(j->msn_min, msn) : msn;
    j->msn_max = j->any ? base_max(j->msn_max, msn) : msn;
    j->any = true;
}

/* ---- what is sound in it ---- */

static int piece_block(struct piece_job *j, uint32_t i, struct tree_segment_writer *w);

/* Looks at all of it; with a writer what is sound goes there. */
static int piece_walk(struct piece_job *j, struct tree_segment_writer *w)
{
    int rc = 0;
    for (uint32_t i = 0; i < j->s.s.block_count && rc == 0; i++) {
        rc = piece_block(j, i, w);
    }
    return rc;
}

static int piece_flush(struct piece_job *j, struct tree_segment_writer *w)
{
    size_t len = 0;
    int rc = mem_grow(&j->out, &j->capacity, j->len + tree_segment_block_bound(w), 1);
    rc = rc < 0 ? rc : tree_segment_block(w, j->out + j->len, &len);
    j->len += len;
    return rc;
}

static int piece_add(struct piece_job *j, const struct tree_block_entry *e,
                     struct tree_segment_writer *w)
{
    int rc = tree_segment_add(w, e);
    while (rc == 0) {
        rc = piece_flush(j, w);
        rc = rc < 0 ? rc : tree_segment_add(w, e);
    }
    return rc < 0 ? rc : 0;
}

static int piece_block(struct piece_job *j, uint32_t i, struct tree_segment_writer *w)
{
    CLEANUP(mem_freep) uint8_t *raw = NULL;
    struct tree_block b;
    struct tree_block_iter it;
    int rc = tree_look_segment_block(&j->r->look, &j->s, i, &raw, &b);
    if (rc == -ENOMEM) {
        return rc;
    }
    if (rc < 0) {
        j->damaged = true;
        j->lost += w == NULL ? tree_segment_part(&j->s.s, i).entries : 0;
        return 0;
    }
    tree_block_iter_init(&it, &b);
    rc = 0;
    for (bool there = tree_block_iter_seek(&it, 0); there && rc == 0;
         there = tree_block_iter_next(&it)) {
        piece_number(j, it.entry.msn);
        rc = w == NULL ? 0 : piece_add(j, &it.entry, w);
    }
    return rc;
}

/* Its deleted ranges, if they are sound. */
static int piece_ranges(struct piece_job *j, uint8_t **ret_raw)
{
    struct tree_ranges ranges;
    *ret_raw = NULL;
    if (j->s.s.ranges.raw_len == 0) {
        return 0;
    }
    int rc = tree_look_segment_ranges(&j->r->look, &j->s, ret_raw, &ranges);
    for (uint32_t i = 0; rc == 0 && i < ranges.count; i++) {
        piece_number(j, tree_ranges_get(&ranges, i).msn);
    }
    j->damaged = j->damaged || rc < 0;
    return rc == -ENOMEM ? rc : 0;
}

/* ---- the new one ---- */

static int piece_remake(struct piece_job *j, const uint8_t *ranges, struct tree_btt_piece *ret)
{
    struct tree_segment_options opt = {
        .id = {.file_id = j->r->super.file_id, .checkpoint = j->old->birth, .number = j->number},
        .packer = &j->r->packer,
        .codec = TREE_CODEC_LZ4};
    struct kv_slice range_bytes = kv_slice_of(ranges, ranges == NULL ? 0 : j->s.s.ranges.raw_len);
    struct tree_segment_writer w;
    struct tree_segment_end end = {0};
    uint64_t offset = 0;
    tree_segment_writer_init(&w, &opt);
    int rc = mem_grow(&j->out, &j->capacity, TREE_SEGMENT_HEADER_BYTES, 1);
    if (rc == 0) {
        tree_segment_begin(&w, j->out);
        j->len = TREE_SEGMENT_HEADER_BYTES;
        rc = piece_walk(j, &w);
    }
    rc = rc < 0 || !tree_segment_has_block(&w) ? rc : piece_flush(j, &w);
    size_t bound = rc < 0 ? 0 : tree_segment_end_bound(&w, range_bytes.len);
    rc = rc < 0 ? rc : mem_grow(&j->out, &j->capacity, j->len + bound, 1);
    rc = rc < 0 ? rc : tree_segment_end(&w, range_bytes, j->out + j->len, &end);
    j->len += end.len;
    rc = rc < 0 ? rc : tree_rebuild_append(j->r, j->out, j->len, &offset);
    *ret = (struct tree_btt_piece){
        .offset = offset, .len = j->len, .checksum = end.sum, .birth = j->old->birth};
    tree_segment_writer_fini(&w);
    return rc;
}

/* 1: *ret is in the new file; 0: nothing of it. */
static int piece_keep(struct piece_job *j, struct tree_btt_piece *ret)
{
    struct err e = {0};
    int rc = tree_look_segment(&j->r->look, j->r->super.file_id, j->old, &j->s, &e);
    if (rc < 0) {
        if (rc != -ENOMEM) {
            piece_tell(j, "lost: a memtable segment, its head or index is damaged",
                       TREE_FINDING_NONE);
        }
        return rc == -ENOMEM ? rc : 0;
    }
    CLEANUP(mem_freep) uint8_t *ranges = NULL;
    rc = piece_walk(j, NULL);
    rc = rc < 0 ? rc : piece_ranges(j, &ranges);
    if (rc == 0 && j->damaged) {
        piece_tell(j, "lost: damaged blocks or deleted ranges of a memtable segment", j->lost);
    }
    if (rc < 0 || !j->any) {
        return rc;
    }
    *ret = *j->old;
    /* One whose predecessor is lost takes its number, which is in all of its checksums. */
    rc = j->damaged || j->number != j->s.number
             ? piece_remake(j, ranges, ret)
             : tree_rebuild_copy(j->r, j->old->offset, j->old->len);
    j->r->result->pieces_mended += rc == 0 && j->damaged ? 1 : 0;
    return rc < 0 ? rc : 1;
}

static int piece_run(struct rebuild *r, size_t no, struct memtable_found *m)
{
    struct piece_job j = {.r = r, .old = &r->table.piece[no], .no = no};
    j.number = tree_keep_number(m->number, (uint32_t)m->count);
    struct tree_btt_piece made;
    int rc = piece_keep(&j, &made);
    if (rc == 1) {
        m->msn_min = m->count == 0 ? j.msn_min : base_min(m->msn_min, j.msn_min);
        m->msn_max = m->count == 0 ? j.msn_max : base_max(m->msn_max, j.msn_max);
        r->msn_max = base_max(r->msn_max, j.msn_max);
        r->piece[r->piece_count++] = made;
        r->result->pieces++;
        m->count++;
    }
    r->result->pieces_lost += rc == 0 ? 1 : 0;
    tree_look_segment_fini(&j.s);
    mem_free(j.out);
    return rc < 0 ? rc : 0;
}

/* ---- memtables ---- */

/* Their numbers within the memtable, now that some may be missing. */
static void memtable_number(struct rebuild *r, const struct memtable_found *m)
{
    for (size_t i = 0; i < m->count; i++) {
        uint8_t *owner = r->piece[m->first + i].owner;
        memset(owner, 0, sizeof r->piece->owner);
        wire_store_u32(owner, m->number);
        wire_store_u32(owner + 4, (uint32_t)i);
        wire_store_u32(owner + 8, (uint32_t)m->count);
    }
}

/* Pieces from `*at` on that are of one memtable. */
static int memtable_run(struct rebuild *r, size_t *at, struct memtable_found *m)
{
    struct tree_keep_owner owner;
    int rc = 0;
    *m = (struct memtable_found){.first = r->piece_count};
    if (tree_keep_owner(&r->table.piece[*at], &owner) < 0) {
        struct piece_job j = {.r = r, .old = &r->table.piece[*at], .no = (*at)++};
        piece_tell(&j, "lost: nobody knows whose memtable segment this is", TREE_FINDING_NONE);
        return 0;
    }
    m->number = owner.memtable_number;
    while (*at < r->table.piece_count && rc == 0 &&
           tree_keep_owner(&r->table.piece[*at], &owner) == 0 &&
           owner.memtable_number == m->number) {
        rc = piece_run(r, (*at)++, m);
    }
    memtable_number(r, m);
    return rc;
}

/* Is it one that the list may have behind what it has? */
static bool memtable_follows(const struct tree_extra *x, const struct memtable_found *m)
{
    const struct tree_extra_table *newer =
        x->table_count > 0 ? &x->table[x->table_count - 1] : NULL;
    return m->msn_min > 0 && x->table_count < TREE_EXTRA_TABLES_MAX &&
           (newer == NULL || (newer->number > m->number && newer->msn_min > m->msn_max));
}

static void memtable_tell(struct rebuild *r, const struct memtable_found *m, bool kept)
{
    char text[TREE_FINDING_TEXT];
    struct tree_finding f =
        tree_rebuild_finding(kept ? TREE_FINDING_WARNING : TREE_FINDING_DAMAGE, "memtables");
    if (kept) {
        tree_finding_text(text,
                          "nobody knows how far memtable %" PRIu32
                          " was moved into the tree: what it adds to values may count twice",
                          m->number);
    } else {
        tree_finding_text(text, "lost: memtable %" PRIu32 ", which contradicts a newer one",
                          m->number);
    }
    f.text = text;
    tree_rebuild_tell(r, &f);
}

/* Keeps those of the old list that have pieces or are being drained; without a list all. */
static void memtable_enter(struct rebuild *r, const struct tree_extra *old, bool known,
                           const struct memtable_found *m, struct tree_extra *x)
{
    struct tree_extra_table entry = {
        .number = m->number, .msn_min = m->msn_min, .msn_max = m->msn_max};
    bool listed = false;
    for (unsigned i = 0; i < old->table_count; i++) {
        if (old->table[i].number == m->number) {
            entry = old->table[i];
            listed = true;
        }
    }
    bool fits = known ? listed : memtable_follows(x, m);
    bool doubt = !known && r->msn_max >= m->msn_min;
    if (fits && m->count > 0) {
        x->table[x->table_count++] = entry;
    } else if (m->count > 0) {
        r->piece_count = m->first; /* its pieces are not listed */
    }
    if (m->count > 0 && (!fits || doubt)) {
        memtable_tell(r, m, fits);
    }
}

/* Those that drain and have no pieces any more stay as well. */
static void memtables_draining(const struct tree_extra *old, struct tree_extra *x)
{
    struct tree_extra all = {0};
    for (unsigned i = 0; i < old->table_count; i++) {
        bool kept = old->table[i].draining != 0;
        for (unsigned k = 0; k < x->table_count; k++) {
            kept = kept || x->table[k].number == old->table[i].number;
        }
        if (kept) {
            all.table[all.table_count++] = old->table[i];
        }
    }
    all.drained = old->drained;
    *x = all;
}

static int memtables_list(struct rebuild *r, struct tree_extra *x)
{
    r->extra_len = tree_extra_bytes(x);
    r->extra = mem_alloc(r->extra_len);
    if (r->extra == NULL) {
        return -ENOMEM;
    }
    tree_extra_encode(x, NULL, r->extra);
    return 0;
}

static void memtables_tell_list(struct rebuild *r)
{
    struct tree_finding f = tree_rebuild_finding(TREE_FINDING_DAMAGE, "memtables");
    f.text = "lost: the list of memtable segments, and with it all messages in them";
    f.offset = r->table.super.segments.offset;
    f.ranged = true;
    tree_rebuild_tell(r, &f);
}

int tree_rebuild_memtables(struct rebuild *r)
{
    const struct tree_look_table *t = &r->table;
    uint64_t nodes_max = r->msn_max;
    struct tree_extra old = {0}, x = {0};
    bool known = t->drops_rc == 0 && t->drops_len > 0 &&
                 tree_extra_decode(t->drops, t->drops_len, &old) == 0;
    if (t->pieces_rc < 0) {
        memtables_tell_list(r);
    }
    r->piece = mem_calloc(t->piece_count + 1, sizeof *r->piece);
    int rc = r->piece == NULL ? -ENOMEM : 0;
    for (size_t at = 0; at < t->piece_count && rc == 0;) {
        struct memtable_found m;
        rc = memtable_run(r, &at, &m);
        if (rc == 0) {
            uint64_t all_max = r->msn_max;
            r->msn_max = nodes_max; /* doubt is about what nodes have */
            memtable_enter(r, &old, known, &m, &x);
            r->msn_max = all_max;
        }
    }
    if (rc == 0 && known) {
        memtables_draining(&old, &x);
    }
    return rc < 0 ? rc : memtables_list(r, &x);
}
