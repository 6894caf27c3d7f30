/*
 * kv/kv.h -- the ordered key-value interface of the metadata. Engines: kv/mem.h, tree/.
 *
 * Nothing here waits. A read that needs what is not in memory adds it to the caller's need list and
 * says -ERR_need; kv_fetch() brings it in and pins it; the caller then runs the same pure function
 * again, on the same or a newer snapshot. Keys are 1 .. KV_KEY_MAX bytes in byte order, values
 * 0 .. KV_VALUE_MAX.
 *
 * Threads: one writer thread (kv_commit, kv_checkpoint, kv_poll, kv_free); an engine says whether
 * other threads may take and read snapshots. A need list, a snapshot and an iterator belong to one
 * thread at a time. Completion callbacks fire exactly once, on the submitting thread, never inside
 * the call that submits.
 *
 * Errors of every read: -ERR_need, -ENOMEM, class EIO (damage), -ECANCELED (the snapshot was given
 * up because it kept too much; take a new one).
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "kv/batch.h"

struct kv_ops;
struct kv_iter_ops;

struct kv {
    const struct kv_ops *ops;
    bool resident; /* no read of it will ever say -ERR_need: nothing is worth being read ahead */
};

/* A frozen state. Cheap, any number; sees no later commit. */
struct kv_snapshot {
    struct kv *kv;
    uint64_t index; /* the applied index at its birth */
};

/*
 * What one operation needs and has: the missing items that kv_fetch() will bring, and pins of what
 * it brought. Owner: the caller, who passes the same list to every read of the operation and
 * releases it at its end. Bounded: a read that finds the list full says -ENOBUFS, and the caller
 * works in smaller steps. All zero is an empty list.
 */
#define KV_NEED_MAX 16384u
struct kv_need_item {
    uint64_t id[2]; /* the engine's name for the piece */
    void *pin;      /* the engine's; not NULL when present */
};
struct kv_need {
    struct kv *kv; /* set by the first read that adds to it */
    struct kv_need_item *item;
    size_t count, capacity;
    size_t missing; /* items not fetched yet */
};
/* Unpins all and frees its memory; usable again as empty. Not while a fetch is under way. */
void kv_need_release(struct kv_need *n);
/* For engines: adds a missing item, unless it is listed. 0, -ENOMEM, -ENOBUFS. */
NODISCARD int kv_need_add(struct kv_need *n, struct kv *kv, uint64_t id0, uint64_t id1);
struct kv_need_item *kv_need_find(const struct kv_need *n, uint64_t id0, uint64_t id1);

/* Brings in what a need list misses. The caller owns the request and the list until `done`. */
struct kv_fetch {
    struct kv_need *need;
    void (*done)(struct kv_fetch *f, int rc); /* 0, -ENOMEM, class EIO */
    struct kv_fetch *next;                    /* the engine's, while under way, with the next two */
    uint64_t engine[2];
};

/*
 * Makes the state of a moment durable: that of the call. The one before is kept, so that a restart
 * that finds this one damaged begins there: whoever keeps a log keeps it behind the older of both.
 * `done` with a failure (-ENOSPC, class EIO, -ENOMEM; -EALREADY: one is under way; -ECANCELED):
 * nothing has changed, it may be tried again.
 */
struct kv_checkpoint {
    void (*done)(struct kv_checkpoint *c, int rc);
    uint64_t index;             /* out, set by the call: what a restart will find applied */
    uint64_t term;              /* in: stored with it */
    struct kv_checkpoint *next; /* the engine's, while under way */
};

/*
 * Who built the engine. wake() says that kv_poll() has something to do; it may come inside any call
 * of this interface and from other threads, must not call back in, and only arranges a later
 * kv_poll() on the writer thread. An engine with its own loop events may never need it.
 */
struct kv_owner {
    void (*wake)(struct kv_owner *o);
};

struct kv_estimate {
    uint64_t key_count, bytes;
};

/* A walk over a snapshot in key order, both ways, within [lower, upper). */
struct kv_iter_options {
    struct kv_slice lower; /* inclusive; empty: from the first key */
    struct kv_slice upper; /* exclusive; empty: to the last key */
    struct kv_need *need;  /* must outlive the iterator */
};
struct kv_iter {
    const struct kv_iter_ops *ops;
    struct kv_slice key, value; /* of the record it stands on, lent until it moves or is freed */
};
struct kv_iter_ops { /* see the calls of the same name */
    int (*seek)(struct kv_iter *it, struct kv_slice key);
    int (*seek_back)(struct kv_iter *it, struct kv_slice key);
    int (*next)(struct kv_iter *it);
    int (*prev)(struct kv_iter *it);
    void (*free)(struct kv_iter *it);
};

/* About checkpoints. */
struct kv_checkpoints {
    uint64_t durable_index; /* of the newest; 0: there is none */
    uint64_t next_bytes;    /* what one would write now, about */
};

struct kv_ops { /* see the calls of the same name; arguments are checked before */
    int (*snapshot)(struct kv *kv, struct kv_snapshot **ret);
    void (*snapshot_free)(struct kv_snapshot *s);
    int (*get)(struct kv_snapshot *s, struct kv_slice key, struct kv_need *need,
               struct kv_slice *ret);
    int (*iter)(struct kv_snapshot *s, const struct kv_iter_options *opt, struct kv_iter **ret);
    void (*estimate)(struct kv_snapshot *s, struct kv_slice low, struct kv_slice high,
                     struct kv_estimate *ret);
    void (*fetch)(struct kv *kv, struct kv_fetch *f);
    void (*unpin)(struct kv *kv, struct kv_need_item *item); /* item->pin is not NULL */
    int (*commit)(struct kv *kv, const struct kv_batch *b, uint64_t index);
    uint64_t (*applied_index)(struct kv *kv);
    void (*checkpoint)(struct kv *kv, struct kv_checkpoint *c);
    void (*checkpoint_cancel)(struct kv *kv);
    void (*checkpoints)(struct kv *kv, struct kv_checkpoints *ret);
    unsigned (*poll)(struct kv *kv);
    void (*free)(struct kv *kv);
};

/* -ENOMEM; -ERR_busy when snapshots already keep too much. */
NODISCARD int kv_snapshot_new(struct kv *kv, struct kv_snapshot **ret);
struct kv_snapshot *kv_snapshot_free(struct kv_snapshot *s);
DEFINE_FREEP(kv_snapshot)

/*
 * 1 and the value, or 0 when the key is absent. The value is lent until the need list is released
 * or the snapshot freed, whichever comes first.
 */
NODISCARD int kv_get(struct kv_snapshot *s, struct kv_slice key, struct kv_need *need,
                     struct kv_slice *ret);

/* 0, -ENOMEM. Bounds are copied. A new iterator stands nowhere: seek first. Free it before the
 * snapshot. */
NODISCARD int kv_iter_new(struct kv_snapshot *s, const struct kv_iter_options *opt,
                          struct kv_iter **ret);
struct kv_iter *kv_iter_free(struct kv_iter *it);
DEFINE_FREEP(kv_iter)

/*
 * 1: it stands on a record; 0: beyond the end (next) or the beginning (prev), where it stands
 * nowhere. On any error, -ERR_need among them, it has not moved: the same call may be repeated
 * after the fetch. seek: the first key >= `key`; seek_back: the last key <= `key`; both clamp to
 * the bounds, an empty key means the first and the last. next and prev need a record to stand on.
 */
NODISCARD int kv_iter_seek(struct kv_iter *it, struct kv_slice key);
NODISCARD int kv_iter_seek_back(struct kv_iter *it, struct kv_slice key);
NODISCARD int kv_iter_next(struct kv_iter *it);
NODISCARD int kv_iter_prev(struct kv_iter *it);

/* How much lies in [low, high); a guess from the shape of the tree, exact for nothing but emptiness
 * of the whole. An empty `high` means the end. */
struct kv_estimate kv_estimate(struct kv_snapshot *s, struct kv_slice low, struct kv_slice high);

/* A list that misses nothing is fine. */
void kv_fetch(struct kv *kv, struct kv_fetch *f);

/*
 * Applies the whole batch or nothing; snapshots taken later see all of it. `index` is at least the
 * applied index; equal means that the entry of that index goes on. 0, -ENOMEM, -ERR_busy
 * (back-pressure: again after the next completion), class EIO, or the batch's own failure.
 */
NODISCARD int kv_commit(struct kv *kv, const struct kv_batch *b, uint64_t index);

/* The index of the newest commit; after opening an engine on disk, of the checkpoint it found. */
uint64_t kv_applied_index(struct kv *kv);

void kv_checkpoint(struct kv *kv, struct kv_checkpoint *c);
/* The one under way ends soon, with -ECANCELED if it was not complete. None: no effect. */
void kv_checkpoint_cancel(struct kv *kv);
struct kv_checkpoints kv_checkpoints(struct kv *kv);

/* Calls back what is complete; returns how many. Writer thread, after kv_owner.wake(). */
unsigned kv_poll(struct kv *kv);

/* No snapshot, pin, fetch or checkpoint may be left: CHECKed. NULL is fine. */
struct kv *kv_free(struct kv *kv);
DEFINE_FREEP(kv)
