/*
 * chunk/extent_priv.h -- the parts of the `extent` engine: see engine_priv.h for what they do,
 * doc/format/extent.md for what they keep.
 *
 * Three states of a chunk: in memory (an entry), in the journal, in the index. An update is done
 * when the journal has it. A round makes all that is done stable and then tells the index, which so
 * never knows what a power cut could take back. Entries that the index knows as they are, and that
 * nobody uses, leave memory.
 */
#pragma once

#include "chunk/engine_priv.h"
#include "chunk/extent_format.h"
#include "journal/journal.h"
#include "kv/kv.h"
#include "tree/space.h"

#define CHUNK_CONTAINER_UNITS (UINT64_C(1) << 24)
#define CHUNK_GROW_UNITS (UINT64_C(64) << 20 >> 12)

struct chunk_container {
    struct disk_file *file;
    uint32_t flights; /* writes under way */
    bool dirty;       /* written since the last sync of it began */
};

/* What a round makes stable of one entry. */
struct chunk_shot {
    struct chunk_entry *entry;
    struct chunk_state state; /* with references */
    uint64_t change, journaled;
    bool exists;
};

struct chunk_round {
    struct chunk_store *s;
    enum { ROUND_IDLE, ROUND_FLIPS, ROUND_DATA, ROUND_JOURNAL, ROUND_INDEX } step;
    uint64_t number; /* of the one that is under way, or of the last one */
    struct chunk_shot *shot;
    size_t count, capacity, indexed; /* shots that the index has */
    uint64_t index;                  /* records up to it are covered */
    unsigned left;                   /* syncs of containers under way */
    int rc;
    bool wanted; /* another one behind this */
    struct journal_append append;
    struct journal_sync sync;
    struct iovec iov;
    uint8_t *bytes;
    struct kv_batch batch;
    struct kv_room room;
    struct kv_need need;
    struct kv_fetch fetch;
    struct kv_checkpoint checkpoint;
    bool checkpointing;
    uint64_t checkpoint_bytes; /* of journal since the last one */
    uint64_t checkpoint_ns;
    struct list waiters; /* works: syncs, in order of `captured`, the round they need */
};

struct chunk_extent {
    struct chunk_store *s;
    struct tree_space *space;
    struct chunk_container *container;
    size_t container_count, container_capacity;
    uint64_t units; /* that the containers have */
    bool growing;
    struct disk_req grow;
    char *grow_path;
    uint8_t *header;
    struct list growers; /* works that wait for space */
    struct kv *index;
    struct journal *journal;
    struct journal_user user;
    uint64_t journaled; /* index of the newest record that is done */
    struct chunk_round round;
    struct list cached; /* entries that may leave memory, the coldest first */
    size_t cached_count, cached_max;
    struct kv_stop stop;
    struct journal_stop journal_stop;
};

/* ---- extent_space.c ---- */
NODISCARD int chunk_space_open(struct chunk_extent *x, struct err *e);
void chunk_space_close(struct chunk_extent *x);
NODISCARD int chunk_space_format(struct disk *d, const char *root, const struct chunk_super *super,
                                 struct err *e);
void chunk_extent_reserve(struct chunk_work *w, chunk_next *next);
void chunk_extent_unreserve(struct chunk_work *w);
void chunk_extent_write(struct chunk_work *w, chunk_next *next);
void chunk_extent_waste(struct chunk_work *w);
struct chunk_place chunk_extent_place(const struct chunk_store *s, const struct chunk_file *f,
                                      uint64_t block);
