/*
 * tree/file_priv.h -- the parts of a tree file and how its sources share them: file.c (blocks),
 * file_room.c (growing and shrinking), file_commit.c (checkpoints), file_open.c.
 */
#pragma once

#include "base/env.h"
#include "loop/loop.h"
#include "tree/file.h"

#define FILE_UNIT TREE_SPACE_UNIT
#define FILE_BATCH_PAGES 64u                  /* of the table, written at once */
#define FILE_READ_TRIES 5u                    /* of one that ends with -EIO */
#define FILE_READ_AGAIN_NS UINT64_C(20000000) /* between the first two; then twice as long */
#define FILE_PINS_MAX 8u
#define FILE_DOUBTS_MAX 4u
#define FILE_BLOB_MAX ((uint64_t)TREE_SPACE_REGION_UNITS * FILE_UNIT)

enum file_shape {
    SHAPE_IDLE,
    SHAPE_GROW,
    SHAPE_GROW_LEAST, /* a whole step was not to be had */
    SHAPE_TRIM,
    SHAPE_PUNCH,
    SHAPE_AHEAD, /* for nobody in particular */
};
struct file_shaper { /* changes the length of the file, one step at a time */
    enum file_shape step;
    struct disk_req req;
    uint64_t target;
    struct tree_space_extent hole;
    struct list waiting;   /* tree_room */
    struct loop_task task; /* no memory to grow, or it may not: */
    int rc;
    bool settling; /* after a checkpoint, until there is nothing to give back */
    bool no_allocate, no_punch;
    uint64_t ahead;    /* units to be kept free; 0: none */
    uint64_t may_grow; /* units */
};

enum file_commit_step {
    COMMIT_IDLE,
    COMMIT_WAIT, /* for writes of blocks */
    COMMIT_PREPARE,
    COMMIT_PAGES,
    COMMIT_INDEX,
    COMMIT_PIECES,
    COMMIT_DROPS,
    COMMIT_SYNC,
    COMMIT_SUPER,
    COMMIT_SYNC_SUPER,
};
struct file_committer {
    enum file_commit_step step;
    struct tree_file_commit *c;
    struct disk_req req;
    struct tree_file_room room;
    bool have_room;
    uint8_t *pages; /* FILE_BATCH_PAGES of them; also for the superblock */
    uint8_t *blob;  /* index or list that is being written */
    size_t blob_len;
    uint64_t next_page; /* of the table */
    uint64_t batch[FILE_BATCH_PAGES];
    uint32_t batch_count;
    struct tree_btt_place *place; /* as they will be */
    size_t place_count;
    struct tree_space_extent *taken; /* for this checkpoint */
    size_t taken_count, taken_capacity;
    size_t reserved; /* extents to be given back */
};

struct file_pin {
    uint64_t checkpoint;
    unsigned count;
};

struct tree_file {
    struct env env;
    struct disk_file *file;
    bool direct;
    uint32_t punch_units;
    struct tree_space *space;
    struct tree_btt *table, *frozen;
    uint64_t number;              /* of the next checkpoint */
    uint64_t frozen_number;       /* while `frozen` */
    struct tree_super super;      /* of the newest durable one */
    struct tree_btt_place *place; /* of the pages of its table */
    size_t place_count;
    uint64_t older;                  /* 0: none */
    uint64_t doubt[FILE_DOUBTS_MAX]; /* checkpoints whose superblock may be there or not */
    size_t doubt_count;
    uint64_t failed; /* the first checkpoint since the newest durable one that failed; 0: none */
    struct file_pin pin[FILE_PINS_MAX];
    struct list writing; /* tree_file_write, waiting for room or in flight */
    size_t reading;
    struct list late_writes, late_commits; /* refused: answered by the task */
    struct loop_task task;
    struct file_shaper shape;
    struct file_committer commit;
    struct tree_file_stop *stop;
    struct err failure; /* code 0: none */
};

/* file.c */
void tree_file_init(struct tree_file *f); /* zeroed before */
void tree_file_fail(struct tree_file *f, int rc, const char *what);
void tree_file_progress(struct tree_file *f); /* something has ended */
void tree_file_retain(struct tree_file *f);
/* A commit or its attempt is over: what was changed for it, the live table writes. */
void tree_file_unfreeze(struct tree_file *f);
bool tree_file_frozen_writes(const struct tree_file *f); /* some are under way */

/* file_room.c */
/* By how much it may, from now on; UINT64_MAX, as at first: as far as the disk allows. */
void tree_file_may_grow(struct tree_file *f, uint64_t bytes);
/* True: r->extent. False: ready() comes later. */
bool tree_file_room_take(struct tree_file *f, struct tree_file_room *r);
void tree_file_room_run(struct tree_file *f); /* after space was given back */
void tree_file_room_settle(
    struct tree_file *f); /* shrink and punch, when there is nothing better */
void tree_file_room_fail(struct tree_file *f);
void tree_file_room_init(struct tree_file *f);

/* file_commit.c */
void tree_file_commit_go(struct tree_file *f); /* if it waits for writes and there are none */
bool tree_file_commit_busy(const struct tree_file *f);
uint64_t tree_file_commit_memory(const struct tree_file *f); /* bytes */
uint64_t tree_file_blob_units(uint64_t len);
struct tree_space_extent tree_file_blob_extent(const struct tree_super_blob *b);
