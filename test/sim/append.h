/*
 * sim/append.h -- one file to whose end all clients write at the same time, and the rule for it:
 * every record that was acknowledged is there exactly once and whole, one that was not at most
 * once, and between records there is nothing (coherence.md section 6.1, append-append-crash).
 */
#pragma once

#include "world.h"

#define APPEND_RECORDS 2000u /* of all */
#define APPEND_RECORD_MAX 9000u
#define APPEND_FILE_MAX (24u << 20)

struct append_record {
    uint32_t len;
    bool acked;
    unsigned found;
};
enum append_step { APPEND_REST, APPEND_OPENING, APPEND_WRITING, APPEND_CLOSING, APPEND_READING };

struct append;
struct append_actor {
    struct append *s;
    unsigned index, node;
    struct loop_sim_event wake;
    enum append_step step;
    bool arrived, ended, broken;
    unsigned left;
    uint64_t life;
    uint32_t record; /* under way */
    struct opendfs_op op;
    struct opendfs_file *file;
    uint8_t bytes[APPEND_RECORD_MAX];
};
struct append {
    struct world *w;
    struct append_actor actor[WORLD_CLIENTS];
    struct append_record record[APPEND_RECORDS];
    uint32_t count, acked;
    unsigned failed; /* writes that were told an error */
    bool stopping, auditing;
    uint8_t *content;
    size_t content_len, size; /* size: as the metadata say */
    size_t lost, lost_reads;  /* bytes that reads failed for, with an error, and how many did */
};

void append_init(struct append *s, struct world *w);
void append_fini(struct append *s);
void append_begin(struct append *s);
void append_stop(struct append *s); /* each ends what it is at */
bool append_step(struct append *s); /* true: all have ended */
void append_begin_audit(struct append *s);
void append_verify(struct append *s);
