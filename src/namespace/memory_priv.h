/*
 * namespace/memory_priv.h -- what the state machine remembers of records, so that it need not read
 * and decode them for each command. All of it is what the records say, or absent: no outcome
 * depends on it. Bounded tables; what is newer takes the place of what is older.
 *
 * Owner: struct namespace; its thread. All zero is empty.
 */
#pragma once

#include "namespace/known.h"

#define NAMESPACE_MEMORY_SLOTS 512u
#define NAMESPACE_MEMORY_DIRS 262144u /* 6 MiB, of which what is used is resident */

struct namespace_memory {
    struct namespace_known_table callers;
    struct namespace_memory_slot { /* a client's slot, and the newest sequence in it */
        uint64_t session, sequence;
        uint32_t slot;
    } slot[NAMESPACE_MEMORY_SLOTS];
    struct namespace_memory_dir { /* one whose statistics have no flags: a step on the way up */
        uint64_t ino, parent;
        uint64_t age; /* known only while it is that of all */
    } dir[NAMESPACE_MEMORY_DIRS];
    uint64_t age; /* how often all of them were forgotten */
};
void namespace_memory_clear(struct namespace_memory *m);

/* Was `sequence` the newest of the slot? False also when that is not known. */
bool namespace_memory_is_newest(const struct namespace_memory *m, uint64_t session, uint32_t slot,
                                uint64_t sequence);
void namespace_memory_put_slot(struct namespace_memory *m, uint64_t session, uint32_t slot,
                               uint64_t sequence);

/* False: not known. */
bool namespace_memory_parent(const struct namespace_memory *m, uint64_t ino, uint64_t *ret);
void namespace_memory_put_dir(struct namespace_memory *m, uint64_t ino, uint64_t parent);
void namespace_memory_drop_dir(struct namespace_memory *m, uint64_t ino);
void namespace_memory_drop_dirs(struct namespace_memory *m);
