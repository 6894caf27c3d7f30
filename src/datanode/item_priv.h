/* datanode/item_priv.h -- chunks in use: locks, pending marks, waiting readers. See item.c. */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "chunk/hold.h"

#define DATANODE_ITEM_QUEUE 256u   /* requests that wait for one chunk; beyond: busy */
#define DATANODE_ITEM_READERS 256u /* the same for readers */
#define DATANODE_TOUCHED_MAX 65536u

struct datanode_chain;
struct datanode_update;
struct datanode_worker;

/* Waits for a chunk's lock. */
struct datanode_wait {
    void (*granted)(struct datanode_wait *w);
    struct list node;
};
/* A reader that waits for the pending update to be committed or dropped. */
struct datanode_reader {
    void (*settled)(struct datanode_reader *r);
    struct list node;
};
struct datanode_item {
    struct dict_node node;
    struct list on_chain;
    struct datanode_worker *worker;
    struct chunk_key key;
    struct datanode_chain *chain;
    struct datanode_update *update; /* in flight; it holds the lock */
    struct list queue, readers;
    unsigned queue_count, reader_count, users;
    bool locked, marked, draining, repairing, touch_held;
    bool loading, held; /* what the store knows of it is being read; stays in memory */
    struct chunk_hold hold;
    uint32_t touched; /* epoch of the sync session that set this chunk; holds a use */
};

/* One use of the item; NULL without memory. */
struct datanode_item *datanode_item_get(struct datanode_worker *w, struct datanode_chain *c,
                                        struct chunk_key key);
struct datanode_item *datanode_item_find(struct datanode_worker *w, struct chunk_key key);
void datanode_item_put(struct datanode_item *it);
/* I5: is there an update of this chunk that a read may not pass? */
bool datanode_item_unsettled(struct datanode_worker *w, const struct chunk_info *info);
/* 1: locked. 0: queued, `granted` comes. -ERR_busy. Who gets it this way can look the chunk up at
 * once: what the store knows of it is in memory as long as the lock is held. */
NODISCARD int datanode_item_lock(struct datanode_item *it, struct datanode_wait *wait);
bool datanode_item_try_lock(struct datanode_item *it);
void datanode_item_unlock(struct datanode_item *it);
void datanode_item_mark(struct datanode_item *it, bool marked); /* false: readers are told */
NODISCARD int datanode_item_wait_read(struct datanode_item *it, struct datanode_reader *r);
void datanode_item_unwait_read(struct datanode_item *it, struct datanode_reader *r);
/* Set in the sync session of this epoch; kept until datanode_item_untouch(). */
void datanode_item_touch(struct datanode_item *it, uint32_t epoch);
void datanode_item_untouch(struct datanode_item *it);
void datanode_item_readers_fail(struct datanode_item *it); /* told, though still marked */
/* For dict_init. */
extern const struct dict_ops datanode_item_ops;
