/*
 * tree/tree.h -- the engine of kv/kv.h that keeps its records in a file, with as much of them in
 * memory as a budget allows: a fractal tree. How it works: README.md; the file: doc/format/tree.md.
 *
 * Threads: the loop of env is the writer's. Snapshots, reads and iterators may be used on any
 * thread; kv_fetch() and everything else on the loop's only. Completions come from the loop;
 * kv_poll() has nothing to do.
 *
 * kv_commit() says -ERR_busy when too much waits to be moved into the tree; before that it is
 * slowed in proportion (-ERR_busy for a part of the commits). A failed sync is final, and so is
 * damage, or a disk that cannot be read for many tries, where work in the background comes across
 * it: kv_commit() and kv_checkpoint() say so from then on, reads go on. A disk that is full is
 * waited for; kv_disk() tells of it while there is room for what has been committed already.
 */
#pragma once

#include "kv/kv.h"
#include "tree/file.h"
#include "tree/flush.h"

struct loop_executor;

#define TREE_COLD_DEFAULT 60u
#define TREE_COLD_NEVER UINT32_MAX
struct tree_options {
    const struct env *env;
    const char *path;               /* of the file; copied */
    const uint8_t *owner;           /* 16 bytes, kept in the file: another's is refused */
    struct loop_executor *executor; /* NULL: one of its own */
    struct tree_shape shape;        /* leaf_raw 0: TREE_SHAPE_DEFAULT; file_id is not looked at */
    uint64_t
        cache_bytes; /* everything: memtables, nodes, buffers for input and output; 0: 256 MiB */
    size_t memtable_bytes;   /* 0: 32 MiB; at most a twelfth of the cache */
    size_t piece_bytes;      /* of a memtable in the file; 0: 4 MiB; smaller for tests */
    uint64_t snapshot_bytes; /* for snapshots only; 0: a tenth of the cache, two memtables */
    size_t snapshots_max;    /* 0: 4,096 */
    uint64_t reserve_bytes;  /* of the disk, left to others there; at most an eighth of it */
    uint64_t ahead_bytes; /* of the file, kept free and allocated, at most 64 MiB: for checkpoints
                             on a disk that others have filled; 0: what is free goes back */
    unsigned cold_checkpoints; /* what lay in leaves for so many is packed with zstd when it is
                                  written again; 0: TREE_COLD_DEFAULT; TREE_COLD_NEVER */
    unsigned writes_max;       /* nodes packed and written at a time; 0: 4 */
    bool buffered;             /* no direct I/O */
    bool serial; /* packs on the loop's thread, a partition at a time; else the executor does, and
                    the loop what that has no thread for */
    bool read_only;
};

/* A new, empty file; applied index 0. -EEXIST, -ENOSPC, -EIO ... Blocks. */
NODISCARD int tree_create(const struct tree_options *opt, struct err *e);

struct tree_found {
    uint64_t index, term; /* of the checkpoint that is used */
    uint64_t older;       /* index of the other one; 0: none */
    bool fell_back;       /* the newest was damaged: the log behind the older one is needed */
    struct err note;
};
/* Blocks, start-up only. -ENOENT, class ERR_corrupt, -ERR_bad_version, -ERR_wrong_cluster (owner),
 * -EIO, -ENOMEM. */
NODISCARD int tree_open(const struct tree_options *opt, struct kv **ret, struct tree_found *found,
                        struct err *e);

struct tree_statistics {
    uint64_t cache_limit, cache_used, clean_bytes, dirty_bytes, memtable_bytes, retired_bytes;
    uint64_t nodes, height, file_bytes, file_free_bytes;
    uint64_t pinned_bytes;    /* of the free ones, kept for pinned checkpoints only */
    uint64_t file_held_bytes; /* of the free ones: older checkpoints and snapshots have them */
    uint64_t hits, fills, evictions;
    uint64_t flushes, splits, merges, drops, flushed_bytes, written_bytes, checkpoints;
    uint64_t outside_bytes; /* of memory that is not in cache_used: tables of blocks and of space,
                               and what does not grow (README.md, Memory) */
    uint64_t busy;          /* commits refused */
    uint64_t time_ns[6], time_count[6], time_bytes[6]; /* enum tree_time */
};
void tree_statistics(struct kv *kv, struct tree_statistics *ret);

/* Waits until everything that is buffered in memtables is in nodes and nothing is overfull: for
 * tests and benchmarks. */
struct tree_settle {
    void (*done)(struct tree_settle *s, int rc);
    struct list node;
};
void tree_settle(struct kv *kv, struct tree_settle *s);
