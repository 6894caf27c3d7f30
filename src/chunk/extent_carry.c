/*
 * chunk/extent_carry.c -- the `extent` engine: which contents are in their record in the journal,
 * too. Who syncs those waits for one flush, of the journal, and what makes it long is left for
 * later: the flush of the container, where they are as well, and the index (doc/design/0043).
 *
 * It costs their bytes twice, so it is for small ones of which a sync is expected soon. Nothing
 * waits for room: where the budget is used up, contents go as they would without all this.
 */
#include "chunk/extent_room_priv.h"

#define CARRY_SYNC_BYTES (UINT64_C(1) << 20) /* beside more than that one flush is little */
#define CARRY_PIECES (JOURNAL_IOV_MAX - 1u)  /* the first one is the record */
#define CARRY_SEGMENTS 6u                    /* of the journal: it has to be trimmed first */
#define CARRY_HURRY_SEGMENTS 3u              /* the index has no time to lose */

static bool carry_fits(const struct chunk_work *w)
{
    const struct chunk_plan *p = w->plan;
    return w->of.update->kind != CHUNK_SET_LENGTH && w->lane == DISK_FOREGROUND &&
           !p->tail_append && p->cell_blocks > 0 && p->cell_blocks <= CHUNK_CARRIED_MAX &&
           p->iov_count <= CARRY_PIECES;
}

/* In the journal, on its disk, and until containers are flushed. */
static bool carry_has_room(const struct chunk_extent *x)
{
    const struct chunk_store *s = x->s;
    uint64_t segment = chunk_room_segment(s);
    struct journal_info info;
    journal_info(x->journal, &info);
    return info.size_bytes < CARRY_SEGMENTS * segment && info.spare_rc == 0 &&
           x->carry.late_bytes < 2 * segment && s->free_bytes > chunk_room_kept(s) &&
           !x->index_full;
}

/* While something else has to be flushed, a sync does that anyway, and for all. */
void chunk_carry_look(struct chunk_work *w, uint64_t bytes)
{
    struct chunk_extent *x = w->s->extent;
    struct chunk_carry *c = &x->carry;
    if (!c->raw && bytes <= c->sync_bytes && carry_fits(w) && carry_has_room(x)) {
        c->sync_bytes -= bytes;
        w->plan->carried_bytes = (uint32_t)bytes;
    }
}

void chunk_carry_recorded(struct chunk_extent *x, uint64_t bytes)
{
    struct chunk_carry *c = &x->carry;
    c->late_bytes += bytes;
    c->since_bytes += bytes;
    if (bytes > 0 && c->late_bytes >= chunk_room_segment(x->s)) {
        chunk_extent_round(x->s);
    }
}

void chunk_carry_asked(struct chunk_extent *x)
{
    x->carry.sync_bytes = CARRY_SYNC_BYTES;
}

void chunk_carry_trim(struct chunk_extent *x)
{
    uint64_t segment = chunk_room_segment(x->s);
    struct journal_info info;
    journal_info(x->journal, &info);
    if (x->carry.since_bytes >= segment && info.size_bytes >= CARRY_HURRY_SEGMENTS * segment) {
        chunk_extent_hurry(x);
    }
}
