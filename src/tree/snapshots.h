/*
 * tree/snapshots.h -- which states somebody still looks at: the msn limits of live snapshots, and
 * how many bytes are kept for them only.
 *
 * The writer publishes what it applied: a snapshot sees the messages up to the msn that was
 * published when it was taken. Old versions are kept while a snapshot needs them. When that is more
 * than the budget, the oldest snapshot is given up: its reads say -ECANCELED, its versions may go.
 * What it may be reading at this moment stays in place until it is released, all the same.
 *
 * A reader takes its snapshot and its references on memtables, runs and the rest at one moment:
 * under the lock under which these are exchanged. Else it could find a run in place of the memtable
 * of which it needs older versions.
 *
 * Threads: take, check and release on any thread, publish and look on the writer's only. Short
 * critical sections, no waiting.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/list.h"

#include <stdatomic.h>

struct tree_snapshots;

/* One snapshot; embedded, the caller's memory from take to release. */
struct tree_snapshot {
    uint64_t limit; /* sees messages with msn <= limit */
    _Atomic bool cancelled;
    struct list node;    /* these two belong to the list */
    uint64_t kept_bytes; /* charged to this one */
};

struct tree_snapshots_options {
    size_t count_max;      /* live at a time */
    uint64_t budget_bytes; /* that may be kept for snapshots only */
    uint64_t published;    /* msn to begin with */
};
NODISCARD int tree_snapshots_new(const struct tree_snapshots_options *opt,
                                 struct tree_snapshots **ret);
struct tree_snapshots *tree_snapshots_free(struct tree_snapshots *s); /* CHECKs that none is live */
DEFINE_FREEP(tree_snapshots)

/* 0; -ERR_busy: count_max are live already. */
NODISCARD int tree_snapshots_take(struct tree_snapshots *s, struct tree_snapshot *at);
/* One that is never given up, and beyond count_max: the writer's own, one at a time. What is kept
 * for it counts for no budget, so it is held for as long as one memtable is written, no longer. */
void tree_snapshots_hold(struct tree_snapshots *s, struct tree_snapshot *at);
void tree_snapshots_release(struct tree_snapshots *s, struct tree_snapshot *at);

/* After every read: was what it saw still whole? 0, -ECANCELED. */
NODISCARD static inline int tree_snapshot_check(const struct tree_snapshot *at)
{
    return atomic_load_explicit(&at->cancelled, memory_order_acquire) ? -ECANCELED : 0;
}

/* What the writer knows at the beginning of a batch. Until its next publishing, new snapshots
 * appear at `published` only, and those that are listed may go. */
struct tree_snapshots_view {
    uint64_t published;
    const uint64_t *limit; /* of live ones, ascending, equal ones once */
    size_t count;
    const uint64_t *cancelled; /* of those given up and not released: they may be reading, still */
    size_t cancelled_count;
};
/* Valid until the next look. */
const struct tree_snapshots_view *tree_snapshots_look(struct tree_snapshots *s);

/* Is there one with low <= limit < high? */
bool tree_snapshots_between(const struct tree_snapshots_view *v, uint64_t low, uint64_t high);
/* The greatest limit; false: none. */
bool tree_snapshots_youngest(const struct tree_snapshots_view *v, uint64_t *ret);

/* The least limit above `base` of somebody who may be reading, given up or not; `published` if
 * there is none: whoever comes reads at that. */
uint64_t tree_snapshots_oldest_reader(const struct tree_snapshots_view *v, uint64_t base);

/* What a batch superseded. */
struct tree_superseded {
    uint64_t bytes; /* all of it: kept if somebody took a snapshot while it was applied */
    uint64_t kept;  /* the part that snapshots of the batch's view need */
};
/*
 * From now on snapshots are taken at `msn`. Charges what the batch superseded to the youngest
 * snapshot that needs it; bytes of one that is released pass to the next older, for they keep their
 * place as long as that one lives. Gives up the oldest ones while the budget is exceeded and
 * returns how many.
 */
unsigned tree_snapshots_publish(struct tree_snapshots *s, uint64_t msn,
                                const struct tree_superseded *superseded);

/* Gives up the oldest one, if anything is kept for it: memory is short. */
bool tree_snapshots_give_up(struct tree_snapshots *s);

/* This one, whatever is kept for it: for tests of who reads. */
void tree_snapshots_cancel(struct tree_snapshots *s, struct tree_snapshot *at);

struct tree_snapshots_state {
    uint64_t published;
    uint64_t kept_bytes;
    size_t live_count;      /* not given up */
    size_t cancelled_count; /* given up, not released yet */
    uint64_t memory;        /* bytes, however many there are */
};
struct tree_snapshots_state tree_snapshots_state(struct tree_snapshots *s);
