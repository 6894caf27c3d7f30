/*
 * sim/keep.h -- one client replaces and removes a file again and again, the others have it open
 * meanwhile, and the rule for it: what a reader has opened it reads to its end, whatever becomes of
 * the name; never another file's bytes, and never an error that no fault explains (coherence.md
 * section 7).
 */
#pragma once

#include "world.h"

#define KEEP_MADE 200u /* files that the owner makes */
#define KEEP_FILE_MAX (150u << 10)
#define KEEP_PIECE_MAX (64u << 10)

enum keep_step {
    KEEP_REST,
    KEEP_OPENING,
    KEEP_WRITING,
    KEEP_READING,
    KEEP_CLOSING,
    KEEP_RENAMING,
    KEEP_UNLINKING,
};

struct keep;
struct keep_actor {
    struct keep *s;
    unsigned index, node;
    struct loop_sim_event wake;
    enum keep_step step;
    bool arrived, ended, broken;
    unsigned left; /* reads */
    uint64_t life, opened_ns, meta_starts;
    unsigned sessions_lost;
    uint32_t made;    /* which file it has */
    uint32_t at, len; /* of the read under way */
    char path[32];
    struct opendfs_op op;
    struct opendfs_file *file;
    uint8_t *bytes;
};
struct keep {
    struct world *w;
    struct keep_actor actor[WORLD_CLIENTS];
    uint32_t len[KEEP_MADE];        /* of each file made */
    uint32_t made, reads, nameless; /* nameless: reads of what had been replaced or removed */
    uint32_t named;                 /* the file that has the name, as far as it is known */
    uint64_t cut_ns;                /* when hosts could not reach each other last */
    bool stopping;
};

void keep_init(struct keep *s, struct world *w);
void keep_fini(struct keep *s);
void keep_begin(struct keep *s);
void keep_stop(struct keep *s); /* each ends what it is at */
bool keep_step(struct keep *s); /* true: all have ended */
