/*
 * sim/share.h -- one file that all clients write and read at the same time, and the rule for it:
 * every read of a block gives what some order of the writes allows (coherence.md: write authority
 * goes from one to several and back, leaders die in between, holders too).
 *
 * Nothing is judged before the end: what a client had written when it was killed, or when its
 * session ended, may be there or not, and that is known only later. See share_verify().
 */
#pragma once

#include "world.h"

#define SHARE_BLOCKS 6u
#define SHARE_BLOCK_BYTES 4096u /* a cell: written as a whole or not at all */
#define SHARE_EVENTS 4096u

enum share_kind {
    SHARE_WRITE,
    SHARE_READ,
    SHARE_CUT
}; /* a cut gives all blocks from `block` on
      stamp 0, and sets the size */
struct share_event {
    enum share_kind kind;
    unsigned actor, block;
    uint64_t stamp; /* that was written or read; 0: never written */
    uint64_t begin_ns, end_ns;
    bool there; /* reads: the file did not end before the block */
    bool sure;  /* writes and cuts: it was acknowledged, and nothing ended its writer before it was
                   flushed */
};
enum share_step {
    SHARE_REST,
    SHARE_OPENING,
    SHARE_WRITING,
    SHARE_READING,
    SHARE_SYNCING,
    SHARE_CUTTING,
    SHARE_CLOSING
};

struct share;
struct share_actor {
    struct share *s;
    unsigned index, node;
    struct loop_sim_event wake;
    enum share_step step;
    bool arrived, ended, broken; /* broken: an operation of this tenure has failed */
    unsigned left, block;        /* operations of this tenure */
    uint64_t life, begin_ns;
    size_t event;       /* the write under way */
    size_t first_loose; /* event: writes of this actor from here on are not known to be flushed */
    uint64_t loose_ns;  /* not 0: such writes may still take effect; since when it is calm */
    size_t loose_end;
    struct opendfs_op op;
    struct opendfs_file *file;
    uint64_t bytes[SHARE_BLOCK_BYTES / 8];
};
struct share {
    struct world *w;
    struct share_actor actor[WORLD_CLIENTS];
    struct share_event event[SHARE_EVENTS];
    size_t count;
    uint64_t stamps, tenures;
    bool stopping;
    unsigned audit_block; /* of the last look */
    bool auditing;
};

void share_init(struct share *s, struct world *w);
void share_fini(struct share *s);
void share_begin(struct share *s);
void share_stop(struct share *s); /* each ends what it is at */
/* True: all have ended. */
bool share_step(struct share *s);
/* The last look: every block, through a fresh client. */
void share_begin_audit(struct share *s);
void share_verify(struct share *s);
