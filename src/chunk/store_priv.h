/*
 * chunk/store_priv.h -- the parts of a store. One thread, that of the loop.
 *
 * An *entry* per chunk in an ordered index. It has up to two *versions* (contents): committed and
 * pending. A version says where each cell lies (`block`) and its CRC; contents are never written
 * over, an update gets new blocks. `change` counts what happened to an entry, `written` is the
 * change that its newest record holds, `stable` that of the newest record that is stable.
 * *Works* are requests under way; those of one entry run one at a time.
 */
#pragma once

#include "base/list.h"
#include "base/mem.h"
#include "base/text.h"
#include "chunk/entry_priv.h"
#include "chunk/hold.h"
#include "chunk/index_priv.h"
#include "chunk/read.h"
#include "chunk/record_format.h"
#include "chunk/store.h"
#include "chunk/sums_priv.h"
#include "disk/disk.h"
#include "loop/loop.h"

#define CHUNK_NO_SLOT 255u
#define CHUNK_WORKS_MAX 8192u
#define CHUNK_BLOCK_LIMIT (UINT32_C(1) << 31) /* 8 TiB of a file */

struct chunk_work {
    struct list node;  /* in the entry's queue */
    struct list ready; /* in the store's, or in one of its waiting lists */
    struct list all;
    struct chunk_store *s;
    struct chunk_entry *e;
    void (*begin)(struct chunk_work *w);            /* its turn has come */
    void (*step)(struct chunk_work *w, int64_t rc); /* after I/O */
    void (*next)(struct chunk_work *w, int rc);     /* after a sequence of steps */
    void (*then)(struct chunk_work *w, int rc);     /* after a sequence of sequences */
    void (*finish)(struct chunk_work *w, int rc);   /* tells the owner, last */
    union {
        struct chunk_update *update;
        struct chunk_change *change;
        struct chunk_pin *pin;
        struct chunk_read *read;
        struct chunk_verify *verify;
        struct chunk_sync *sync;
        struct chunk_hold *hold;
    } of;
    bool running, turned, parked, queued;
    int rc;   /* of the I/O under way */
    int kept; /* of what went before */
    unsigned left;
    enum disk_lane lane; /* of its I/O */
    struct disk_req io, tail_io;
    char *path;
    uint8_t *bytes; /* header, table, buffer: see users */
    /* update */
    struct chunk_plan *plan;
    struct chunk_version *version, *loading;
    uint64_t captured, era;
    uint32_t life;
    uint8_t slot;
    /* read, verify */
    bool uncached; /* its pages go when it is over */
    bool past;     /* it is read past the page cache */
    struct chunk_pin own_pin;
    uint32_t at, end, cell, wanted;
    uint8_t *to;
    /* sync, removal */
    struct chunk_waiter *waiter;
    size_t waiting;
    uint32_t dir;
    uint64_t *dirs;
    struct chunk_ahead ahead;
};

struct chunk_store {
    struct chunk_options opt;
    char *directory;
    struct loop *loop;
    struct disk *disk;
    const struct chunk_engine_ops *engine;
    bool stopping, freed, marking;
    struct chunk_super super;
    bool rebooted;
    bool through_cache; /* past it nothing can be read on this disk */
    int failed;
    struct chunk_index index, dead;
    struct chunk_sums sums;
    uint64_t exists_count, damaged_count, pending_count, dirty_count;
    uint64_t total_bytes, free_bytes, used_bytes, reserved_bytes, resting_bytes, low_bytes;
    uint64_t pin_number;
    size_t hot_count, in_flight, work_count;
    struct list lru, dirty, unstable, ready, works, sync_queue, rests, clock;
    struct list unsent;    /* chunk_rest, of all entries: what need not rest */
    uint64_t cached_bytes; /* of all in `clock` */
    unsigned sync_active;
    struct loop_task task, stopped;
    struct loop_timer timer;
    struct chunk_stop *stop;
    int stop_rc;
    unsigned stop_tries; /* rounds of the end that had no memory */
    struct {             /* refused for want of memory: chains through `work` */
        void *update, *change, *sync, *pin, *read, *verify, *hold;
    } refused;
    uint64_t *dirty_dirs; /* a bit each */
    bool dirs_dirty;
    /* Rounds: all that was written in an older era becomes stable. */
    uint64_t era, round_era;
    uint64_t recorded_era; /* the newest one of a record */
    bool round_active;
    uint64_t round_at_ns;
    bool stop_failed;
    struct chunk_sync round_sync;
    /* Superblock and list of the dead. */
    struct disk_file *super_file, *dead_file;
    uint64_t super_wanted, super_written;
    bool super_busy;
    struct disk_req super_req;
    uint8_t super_bytes[CHUNK_SUPER_BYTES];
    struct list super_waiters;
    uint64_t super_target;
    struct list dead_waiters, dead_batch;
    uint64_t dead_records;
    uint64_t dead_ahead; /* bytes that the list has on the disk, for when that is full */
    uint8_t *dead_bytes;
    struct disk_req dead_req;
    bool dead_busy;
    struct chunk_dead_copy *dead_copy; /* a shorter one is being made */
    uint64_t dead_again;               /* records, from which on that is tried once more */
    struct disk_req look;
    bool looking;
    uint64_t looked_ns;
    struct list lookers;         /* works that wait for it */
    struct chunk_extent *extent; /* its engine's */
    bool started;
    struct chunk_start *start;
    struct loop_task started_task;
    int start_rc;
    /* ram */
    uint8_t **page;
    uint32_t *free_page;
    size_t page_count, page_capacity, free_count, free_capacity;
};
