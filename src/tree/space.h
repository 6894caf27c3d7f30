/*
 * tree/space.h -- free space of a tree file: who may use which units of 4 KiB, and when a unit that
 * is given back may be used again. Pure: it decides, tree/file.h does. One thread.
 *
 * Two bits per unit (1/16,384 of the file): free, free and punched, used, used but given back. So
 * giving back never needs memory, neighbours join by themselves, and overlap or a second giving
 * back are seen at once. An extent lies in one region of 64 MiB. Small ones come from the smallest
 * class (power of two) of free runs that has one, the lowest offset first; large ones from the
 * lowest run.
 *
 * An extent is used from its birth to its death, both numbers of checkpoints: checkpoint k contains
 * it when birth <= k < death. Given back, it waits until no retained checkpoint contains it and no
 * live snapshot is older than the version of the tree that did without it.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

#define TREE_SPACE_UNIT 4096u
#define TREE_SPACE_REGION_UNITS 16384u
#define TREE_SPACE_RETAINED_MAX 32u

struct tree_space;

struct tree_space_extent {
    uint64_t unit; /* of the file */
    uint32_t count;
};
static inline uint64_t tree_space_offset(struct tree_space_extent x)
{
    return x.unit * TREE_SPACE_UNIT;
}
static inline uint64_t tree_space_bytes(struct tree_space_extent x)
{
    return (uint64_t)x.count * TREE_SPACE_UNIT;
}

struct tree_space_options {
    uint64_t grow_units;  /* the file grows and shrinks in steps of; 0: 64 MiB */
    uint32_t large_units; /* from here on the lowest offset counts; 0: 256 KiB */
};
NODISCARD int tree_space_new(const struct tree_space_options *opt, struct tree_space **ret);
struct tree_space *tree_space_free(struct tree_space *s);
DEFINE_FREEP(tree_space)

/* ---- the file's length, in units ---- */

uint64_t tree_space_size(const struct tree_space *s);
/* Memory for a file of so many units; nothing changes. -ENOMEM. */
NODISCARD int tree_space_prepare(struct tree_space *s, uint64_t units);
/* The file has so many units: more (prepared: cannot fail), or fewer; CHECKs that those are free.
 */
void tree_space_resize(struct tree_space *s, uint64_t units);
/* How long the file must be for an extent of `count` that tree_space_take() did not find: in steps
 * (`least` false), or just long enough. */
uint64_t tree_space_grow_target(const struct tree_space *s, uint32_t count, bool least);
/* How long it needs to be, with a step to spare; its size when that is not worth a change. */
uint64_t tree_space_trim_target(const struct tree_space *s);

/* ---- using ---- */

/* An extent of `count`, 1 to TREE_SPACE_REGION_UNITS. -ENOSPC: the file must grow. */
NODISCARD int tree_space_take(struct tree_space *s, uint32_t count, struct tree_space_extent *ret);
/* Up to `count` in one piece, at least one. */
NODISCARD int tree_space_take_some(struct tree_space *s, uint32_t count,
                                   struct tree_space_extent *ret);

/* While opening: what is in use. -ERR_bad_value: outside of the file, or across regions;
 * -ERR_corrupt: (partly) in use already. */
NODISCARD int tree_space_claim(struct tree_space *s, struct tree_space_extent x);
/* All of it is in use; of an extent that tree_space_claim() has refused with -ERR_corrupt. */
bool tree_space_all_used(const struct tree_space *s, struct tree_space_extent x);

/* What is free in `from`, of the same file when it was no longer than now, and where nothing waits,
 * is free here, too. CHECKs that it is in use here. */
void tree_space_join(struct tree_space *s, const struct tree_space *from);

/* ---- giving back ---- */

/* At once: no checkpoint and no snapshot ever knew it. CHECKs that it is in use. */
void tree_space_give(struct tree_space *s, struct tree_space_extent x);

/* Memory for `count` extents given back later, so that this cannot fail then. -ENOMEM. */
NODISCARD int tree_space_reserve(struct tree_space *s, size_t count);
void tree_space_unreserve(struct tree_space *s, size_t count);

struct tree_space_life {
    uint64_t birth, death; /* checkpoints; death >= birth */
    uint64_t version;      /* snapshots of an older tree need it; 0: none does */
};
/* Takes one of what was reserved. CHECKs that it is in use and was not given back before. */
void tree_space_defer(struct tree_space *s, struct tree_space_extent x,
                      const struct tree_space_life *life);
/* Exactly these checkpoints are retained, that being written included. Ascending or not. */
void tree_space_retain(struct tree_space *s, const uint64_t *checkpoint, size_t count);
/* How many units are kept that would be free if only these were retained. */
uint64_t tree_space_kept_without(const struct tree_space *s, const uint64_t *checkpoint,
                                 size_t count);
/* And all from this one on, also those that came to nothing; 0: no more. */
void tree_space_retain_from(struct tree_space *s, uint64_t checkpoint);
/* No live snapshot is of a version below. Never goes back. */
void tree_space_oldest(struct tree_space *s, uint64_t version);

/* ---- holes ---- */

/* A free range of at least `min_units` that was not punched yet; it counts as used until done. */
bool tree_space_hole(struct tree_space *s, uint32_t min_units, struct tree_space_extent *ret);
void tree_space_hole_done(struct tree_space *s, struct tree_space_extent x, bool punched);

struct tree_space_info { /* units */
    uint64_t size, used, free, deferred;
    uint64_t punched; /* of the free ones */
    uint64_t largest; /* free run */
    uint64_t memory;  /* bytes that all this takes */
};
void tree_space_info(struct tree_space *s, struct tree_space_info *ret);
/* Counts everything again: does it agree? For tests and verification; as long as the file is. */
bool tree_space_sound(const struct tree_space *s);
