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
#include "kv/iter.h"
#include "kv/need.h"
#include "kv/statistics.h"

struct kv_ops;
struct kv_pin; /* kv/stream.h */

struct kv {
    const struct kv_ops *ops;
    bool resident; /* no read of it will ever say -ERR_need: nothing is worth being read ahead */
};

/* A frozen state. Cheap, any number; sees no later commit. Between two calls of the writer the
 * oldest may be given up: who keeps one takes a new one. Who does what: doc/design/0056. */
struct kv_snapshot {
    struct kv *kv;
    uint64_t index; /* the applied index at its birth */
};

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
    uint64_t index;   /* out, set by the call: what a restart will find applied */
    uint64_t term;    /* in: stored with it */
    uint64_t pace_ns; /* in: it may take about so long, if the engine can spread what it writes and
                         is short of nothing; 0: as fast as it can */
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

/* Who was told -ERR_busy by kv_commit() waits for room. `done` (also when the engine has failed or
 * is stopped) means: try again. */
struct kv_room {
    void (*done)(struct kv_room *r);
    struct kv_room *next; /* the engine's, while it waits */
};

/* Room on the disk. What is in a log must be committed: who keeps one asks before. An engine keeps
 * a reserve for a checkpoint of what it has been given already. */
enum kv_disk {
    KV_DISK_ROOM,
    KV_DISK_LOW,  /* for what removes; a checkpoint is worth while, for it gives space back */
    KV_DISK_FULL, /* for nothing that can be refused */
};

struct kv_stop {
    void (*done)(struct kv_stop *s);
};

struct kv_estimate {
    uint64_t key_count, bytes;
};

/* About checkpoints. */
struct kv_checkpoints {
    uint64_t durable_index; /* of the newest; 0: there is none */
    uint64_t next_bytes;    /* what one would write now, about */
    bool whole;             /* it writes all there is, not what has changed since the one before */
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
    void (*checkpoint_hurry)(struct kv *kv);
    void (*checkpoint_cancel)(struct kv *kv);
    void (*checkpoints)(struct kv *kv, struct kv_checkpoints *ret);
    void (*room)(struct kv *kv, struct kv_room *r);
    int (*pin)(struct kv *kv, struct kv_pin **ret); /* kv/stream.h */
    int (*failed)(struct kv *kv, struct err *e);
    enum kv_disk (*disk)(struct kv *kv);
    void (*statistics)(struct kv *kv, struct kv_statistics *ret);
    unsigned (*poll)(struct kv *kv);
    void (*stop)(struct kv *kv, struct kv_stop *s);
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

/* Several at once, KV_GETS_MAX at most, searched in the order of their keys: what is missing for
 * any of them is in the list afterwards. 0: each `rc` is what kv_get() says; else the first
 * failure, -ERR_need only when there is no other. */
#define KV_GETS_MAX 1024u
struct kv_wanted {
    struct kv_slice key;
    struct kv_slice value; /* out, lent as by kv_get() */
    int rc;                /* out */
};
NODISCARD int kv_multiget(struct kv_snapshot *s, struct kv_wanted *at, size_t count,
                          struct kv_need *need);

/* How much lies in [low, high): a guess from what is in memory, at the price of two reads, for
 * which nothing is ever missing. Exact is that there is nothing at all. Of many records, and where
 * changes are few beside them, about half to twice as much; of a tree that was just opened it is as
 * good as the shapes of its parts are alike. An empty `high` means the end. */
struct kv_estimate kv_estimate(struct kv_snapshot *s, struct kv_slice low, struct kv_slice high);

/* A list that misses nothing is fine. */
void kv_fetch(struct kv *kv, struct kv_fetch *f);

/*
 * Applies the whole batch or nothing; snapshots taken later see all of it. `index` is at least the
 * applied index; equal means that the entry of that index goes on. 0, -ENOMEM, -ERR_busy
 * (back-pressure: see kv_room()), class EIO (kv_failed() says more), or the batch's own failure.
 */
NODISCARD int kv_commit(struct kv *kv, const struct kv_batch *b, uint64_t index);
/* Any number may wait; where there is room already `done` comes soon. */
void kv_room(struct kv *kv, struct kv_room *r);

/* The index of the newest commit; after opening an engine on disk, of the checkpoint it found. */
uint64_t kv_applied_index(struct kv *kv);

void kv_checkpoint(struct kv *kv, struct kv_checkpoint *c);
/* The one under way is as fast as it can from now on. None: no effect. */
void kv_checkpoint_hurry(struct kv *kv);
/* The one under way ends soon, with -ECANCELED if it was not complete. None: no effect. */
void kv_checkpoint_cancel(struct kv *kv);
struct kv_checkpoints kv_checkpoints(struct kv *kv);

/* Calls back what is complete; returns how many. Writer thread, after kv_owner.wake(). */
unsigned kv_poll(struct kv *kv);

/* 0; or why the engine writes no more, for good (class EIO, -ENOSPC): commits and checkpoints say
 * so, too, reads go on. `e` tells the cause. */
int kv_failed(struct kv *kv, struct err *e);
enum kv_disk kv_disk(struct kv *kv);
struct kv_statistics kv_statistics(struct kv *kv);

/*
 * Ends the engine's work in the background. Once, and no commit, fetch, checkpoint or wait for room
 * begins any more. What is under way ends before `done`: fetches with 0 or -ECANCELED, a checkpoint
 * as after kv_checkpoint_cancel(), waits for room. Snapshots and pins may stay until kv_free().
 */
void kv_stop(struct kv *kv, struct kv_stop *s);

/* After kv_stop(), or when nothing was ever begun (an engine begins nothing by itself). No
 * snapshot, pin or anything that has a `done` may be left: CHECKed. NULL is fine. */
struct kv *kv_free(struct kv *kv);
DEFINE_FREEP(kv)
