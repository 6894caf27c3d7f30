/*
 * chunk/extent_room.c -- the `extent` engine on a disk that is full: what is kept back, so that
 * what removes, and the rounds that give units back, go on.
 *
 * Three share the disk. Containers grow only while enough is left for the other two. The index
 * leaves some to the journal, and has room of its own in its file, for checkpoints. The journal has
 * its next segment before it needs it; when there is no room for another one, what is left of it is
 * for records of what removes: contents are refused. They are, too, when the index could not be
 * written, because only that lets the journal be trimmed.
 */
#include "chunk/extent_room_priv.h"

#define SEGMENT_BYTES (UINT64_C(16) << 20)
#define SEGMENT_SHARE 128u /* of the disk: one is no larger, where the disk is small */
#define SEGMENT_LEAST (UINT64_C(1) << 20)
#define SEGMENT_UNIT (UINT64_C(64) << 10)
#define SEGMENTS_KEPT 4u
#define KEPT_SHARE 8u /* of the disk: no more is kept back */
#define KEPT_MAX (UINT64_C(256) << 20)
#define RETRY_NS (UINT64_C(5) * 1000000000) /* of a checkpoint that found no room */

uint64_t chunk_room_segment(const struct chunk_store *s)
{
    if (s->opt.journal_bytes != 0) {
        return s->opt.journal_bytes;
    }
    uint64_t share = s->total_bytes / SEGMENT_SHARE / SEGMENT_UNIT * SEGMENT_UNIT;
    return base_min(base_max(share, SEGMENT_LEAST), SEGMENT_BYTES);
}

uint64_t chunk_room_left(const struct chunk_store *s)
{
    return base_min(SEGMENTS_KEPT * chunk_room_segment(s), s->total_bytes / KEPT_SHARE);
}

uint64_t chunk_room_index(const struct chunk_store *s)
{
    return base_min(s->opt.index_bytes / 4, s->total_bytes / (KEPT_SHARE * 2));
}

uint64_t chunk_room_kept(const struct chunk_store *s)
{
    uint64_t own = chunk_room_left(s) + chunk_room_index(s);
    uint64_t some = base_min(s->total_bytes / 1024, KEPT_MAX);
    return base_max(some, base_min(own, s->total_bytes / KEPT_SHARE));
}

uint64_t chunk_room_units(const struct chunk_extent *x)
{
    const struct chunk_store *s = x->s;
    uint64_t free_bytes = x->device != NULL ? 0 : s->free_bytes;
    uint64_t room = free_bytes - base_min(free_bytes, chunk_room_kept(s));
    return room / CHUNK_UNIT / CHUNK_STEP_UNITS * CHUNK_STEP_UNITS;
}

uint64_t chunk_room_step(const struct chunk_extent *x)
{
    uint64_t room = chunk_room_units(x), end = CHUNK_CONTAINER_UNITS, step = CHUNK_GROW_UNITS;
    if (room / 2 < step) { /* the less there is, the less at a time */
        step = base_max(room / 2 / CHUNK_STEP_UNITS, 1) * CHUNK_STEP_UNITS;
    }
    return step > room ? 0 : base_min(step, end - x->units % end);
}

/* There is no room for another segment of the journal, and little is left of what there is. */
static bool room_journal_low(const struct chunk_extent *x)
{
    struct journal_info info;
    journal_info(x->journal, &info);
    return info.spare_rc < 0 && info.room_bytes < info.segment_bytes / 2;
}

bool chunk_room_refused(const struct chunk_extent *x)
{
    return x->index_full || room_journal_low(x);
}

void chunk_room_trim(struct chunk_extent *x)
{
    if (x->older != x->newer) {
        x->checkpointed = x->checkpointing;
    }
    x->checkpoint_due = true;
    chunk_extent_checkpoint(x);
    if (x->checkpointing) {
        kv_checkpoint_hurry(x->index);
    }
}

void chunk_room_tick(struct chunk_extent *x)
{
    bool retry = x->index_full && loop_now_ns(x->s->loop) - x->checkpoint_ns >= RETRY_NS;
    struct journal_info info;
    journal_info(x->journal, &info);
    bool trim = !x->index_full && (info.spare_rc < 0 || room_journal_low(x));
    if (!retry && !trim) {
        return;
    }
    chunk_room_trim(x);
}

void chunk_room_checkpoint(struct chunk_extent *x, int rc)
{
    bool full = rc < 0 && (err_is(rc, ENOSPC) || rc == -EDQUOT);
    if (full && x->loading == NULL && !x->s->stopping) {
        x->checkpoint_due = false; /* not at once */
    }
    x->index_full = full;
}
