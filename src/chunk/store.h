/*
 * chunk/store.h -- a chunk store: one target's data directory. Engines: `file` (one file per
 * chunk), `extent` (large containers), `ram`. What a record means and must survive: the replication
 * protocol; layout on disk: doc/format/chunk.md, doc/format/extent.md.
 *
 * Thread: the loop of env, for everything. Format, open and free block (start-up and end);
 * everything else does not. Requests are caller-owned, zero-initialised, embedded; `done` is called
 * exactly once, never from inside the call that submitted it. Requests on one chunk run one at a
 * time in order of submission; that they make sense together (one update at a time) is the caller's
 * business (its chunk lock). What requests point to is lent until `done`.
 *
 * Errors: -ENOENT no such chunk; -EEXIST, -EINVAL it is in another state than the call needs
 * (nothing changed); -ENOSPC (nothing changed); -ERR_corrupt class: stored bytes do not match their
 * CRCs, the chunk is flagged damaged; -ERR_busy too much queued; -ENOMEM; other -errno of the disk.
 * A failed sync, or a failed write of a record, makes the store *failed* for good: it is lossy,
 * `failed` is called once, all that changes anything gets -ERR_failed_before; reading goes on.
 */
#pragma once

#include "base/list.h"
#include "base/text.h"
#include "chunk/chunk.h"
#include "disk/disk.h"

#include <sys/uio.h>

struct chunk_store;
struct chunk_version; /* one content, immutable, counted */
struct env;

struct chunk_user {
    const struct chunk_user_ops *ops;
};
struct chunk_user_ops {
    void (*failed)(struct chunk_user *u, int rc, const char *reason);
    void (*damaged)(struct chunk_user *u, struct chunk_key key); /* newly found and flagged */
};

enum chunk_engine { CHUNK_ENGINE_FILE = 1, CHUNK_ENGINE_RAM, CHUNK_ENGINE_EXTENT };

struct chunk_options {
    const struct env *env;
    enum chunk_engine engine;
    const char *directory; /* of `file` and `extent`; copied */
    const char *device;    /* of `extent`: has the containers (chunk/device.h). NULL: what the
                              directory was made with, a new one: files in it. Lent */
    struct uuid cluster;   /* another cluster's store is refused */
    struct chunk_user *user;
    uint64_t ram_bytes;     /* capacity of `ram`; 0: 1 GiB */
    uint64_t index_bytes;   /* of memory for the index of `extent`; 0: 64 MiB */
    uint64_t journal_bytes; /* of a segment of its journal; 0: 16 MiB */
    uint64_t low_bytes;     /* less that is free is `low`; 0: 2 %, of more than 50 GiB 1 GiB */
    uint64_t entry_bytes;   /* of memory for what is known of chunks, by `extent`; 0: 64 MiB */
    bool thorough;          /* its start reads the whole index, too, and compares */
    struct chunk_rebuild *rebuild; /* NULL, or chunk/rebuild.h: it is made anew. Lent */
    uint32_t pieces_max;           /* what `extent` has in more is rewritten; 0: 32 */
    uint32_t open_files;           /* kept open; 0: 1,024 */
    uint32_t parallel;             /* files read or synced at the same time; 0: 16 */
    uint32_t flush_ms;             /* what is older is made stable in the background; 0: 5,000 */
    uint32_t rest_ms;              /* superseded space rests before it is given back; 0: 60,000 */
};

/* Makes a store in an existing, empty directory (`ram`: nothing to do). -ENOTEMPTY. */
struct chunk_format_options {
    struct uuid target;
    uint32_t fan_out; /* directories per level, a power of two up to 256; 0: 32 */
};
NODISCARD int chunk_store_format(const struct chunk_options *opt,
                                 const struct chunk_format_options *format, struct err *e);

/*
 * Locks, checks, recovers, raises the incarnation (stable). -ERR_in_use; -ERR_wrong_cluster;
 * -ENOENT no directory; -ERR_corrupt class: not a store or a damaged superblock. A `ram` store is
 * new each time: target and incarnation are random, lossy is set.
 */
NODISCARD int chunk_store_open(const struct chunk_options *opt, struct chunk_store **ret,
                               struct err *e);
/* Once, before anything else but info and the end: what an open leaves to be done without blocking.
 * Whatever it says, chunk_store_stop() comes before chunk_store_free(). */
struct chunk_start {
    void (*done)(struct chunk_start *s, int rc);
};
void chunk_store_start(struct chunk_store *s, struct chunk_start *start);
/* Makes all stable and marks the store clean; `done` comes when nothing is under way. No requests
 * after it. A store that was not started may also be freed without. */
struct chunk_stop {
    void (*done)(struct chunk_stop *s, int rc);
};
void chunk_store_stop(struct chunk_store *s, struct chunk_stop *stop);
/* Blocks for what the store itself has in flight. Nothing of the caller's may be, no pin held. */
struct chunk_store *chunk_store_free(struct chunk_store *s);
DEFINE_FREEP(chunk_store)

struct chunk_store_info {
    struct uuid target, cluster;
    uint64_t incarnation;
    bool lossy;    /* unsynced data may be missing since lossy was last cleared */
    bool rebooted; /* the machine was started anew since the store was last open */
    int failed;    /* 0, or the error that made it read-only */
    uint64_t chunk_count, damaged_count, pending_count, dirty_count;
    uint64_t total_bytes, free_bytes; /* of the file system, as of the last look (each second) */
    uint64_t used_bytes, reserved_bytes, resting_bytes;
    uint64_t wrong; /* what its start found in the index that contradicts itself */
    bool low;
};
void chunk_store_info(const struct chunk_store *s, struct chunk_store_info *ret);

/* ---- Index: at once; -ERR_need: it is on the disk, see chunk/hold.h; -ERR_busy, class EIO ---- */
NODISCARD int chunk_store_lookup(struct chunk_store *s, struct chunk_key key,
                                 struct chunk_info *ret);
/* The first chunk with a key >= `from`, in key order. -ENOENT: none. */
NODISCARD int chunk_store_next(struct chunk_store *s, struct chunk_key from,
                               struct chunk_info *ret);
bool chunk_store_dead(const struct chunk_store *s, uint64_t data_id);
/* What there is of a chain. False: it is not known. */
bool chunk_store_sum(const struct chunk_store *s, uint32_t chain, struct chunk_sum *ret);

/* ---- Updates ---- */
/*
 * A new content, pending (or, with `install`, committed at once: COPY, whole FORWARD to a syncing
 * member, repair; an older pending goes, higher local versions are overwritten). `done`: data and
 * record are with the kernel. CHUNK_WRITE: `crc` holds one per touched cell, over the bytes of this
 * update in it. Cells touched in part are merged: old bytes are read and verified first
 * (-ERR_corrupt), except by an append. Behind the old length lie zeros. The data is taken to match
 * `crc`, verified by the caller; need not with CHUNK_WHOLE and CHUNK_DAMAGED: never read as good.
 */
struct chunk_update {
    void (*done)(struct chunk_update *u, int rc);
    struct chunk_key key;
    uint32_t chain;             /* goes into the record: a target has chunks of many chains */
    struct chunk_identity base; /* of the committed content, none: no record; not for `install` */
    struct chunk_identity identity;
    enum chunk_kind kind;
    bool install;
    bool moves; /* with `install`: the committed content of this identity gets other places */
    uint32_t offset, length; /* CHUNK_WRITE */
    uint32_t new_length;     /* CHUNK_SET_LENGTH, CHUNK_WHOLE; out for CHUNK_WRITE */
    uint32_t tgen;
    uint16_t flags; /* CHUNK_...; damaged stays until a whole content comes */
    uint64_t last_ver;
    const struct chunk_recent *recent;
    unsigned recent_count;
    const uint32_t *crc;
    uint32_t crc_count;
    const struct iovec *data; /* any pieces, `length` (new_length) bytes in all */
    unsigned data_count;
    enum disk_lane lane;
    uint32_t digest;         /* out: of the new content */
    struct chunk_work *work; /* the store's */
};
/* Step 1, optional: space for everything, edges verified; data, crc and recent may still be unset.
 * Then chunk_store_update() or chunk_store_unreserve(), which may not fail for space any more. */
void chunk_store_reserve(struct chunk_store *s, struct chunk_update *u);
void chunk_store_unreserve(struct chunk_store *s, struct chunk_update *u); /* fine without */
void chunk_store_update(struct chunk_store *s, struct chunk_update *u);
/* Pending becomes committed, in memory at once; the record follows in the background or with a
 * sync; until then a killed process finds the update pending again. -ENOENT, -EINVAL: another. */
NODISCARD int chunk_store_commit(struct chunk_store *s, struct chunk_key key,
                                 struct chunk_identity identity);

/* ---- Changes of records ---- */
enum chunk_change_op {
    CHUNK_DROP_PENDING, /* last_ver stays, if nothing else: then without content. Journaled */
    CHUNK_SET_FLAGS,    /* flags = (flags & ~clear) | set */
    CHUNK_DELETE,       /* -ENOENT when it is not there */
    CHUNK_REMOVE_DATA,  /* key.data_id: dead list (stable), then all its chunks go */
    CHUNK_FORGET_DEAD,  /* key.data_id leaves the dead list (stable) */
    CHUNK_SET_LOSSY,    /* stable */
    CHUNK_CLEAR_LOSSY,  /* stable; refused when failed */
};
struct chunk_change {
    void (*done)(struct chunk_change *c, int rc);
    enum chunk_change_op op;
    struct chunk_key key;
    uint16_t set, clear;
    struct chunk_work *work; /* the store's */
};
void chunk_store_change(struct chunk_store *s, struct chunk_change *c);
/* Removed data ids above `after`, ascending; returns how many were stored. */
struct chunk_dead {
    uint64_t data_id, time_ms; /* wall clock of its removal here */
};
size_t chunk_store_dead_list(const struct chunk_store *s, uint64_t after, struct chunk_dead *ret,
                             size_t max);

/* What was committed (and pending) before the call, of the chunks named, of a data id, or of all
 * with removals (SYNC_END), is stable. Chunks that are not there count as stable. */
struct chunk_sync {
    void (*done)(struct chunk_sync *c, int rc);
    enum chunk_sync_scope { CHUNK_SYNC_ALL, CHUNK_SYNC_DATA, CHUNK_SYNC_KEYS } scope;
    uint64_t data_id;
    const struct chunk_key *key;
    size_t key_count;
    struct chunk_work *work; /* the store's */
};
void chunk_store_sync(struct chunk_store *s, struct chunk_sync *c);
