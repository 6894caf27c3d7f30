/*
 * sim/load.h -- one client's random work, each result held against the model.
 *
 * An action (make a directory, write a file, ...) is one or several operations of the library, one
 * after the other. Everything here runs outside of the simulated processes, except the starting of
 * an operation.
 */
#pragma once

#include "model.h"
#include "world.h"

enum load_kind {
    LOAD_MKDIR,
    LOAD_CREATE,
    LOAD_SYMLINK,
    LOAD_LINK,
    LOAD_UNLINK,
    LOAD_RMDIR,
    LOAD_RENAME,
    LOAD_STAT,
    LOAD_CHMOD,
    LOAD_SETXATTR,
    LOAD_GETXATTR,
    LOAD_LIST,
    LOAD_READLINK,
    LOAD_READ,
    LOAD_WRITE,
    LOAD_TRUNCATE,
    LOAD_KINDS
};
enum load_step {
    LOAD_ONLY,
    LOAD_OPEN,
    LOAD_DATA,
    LOAD_CUT,
    LOAD_SYNC,
    LOAD_CLOSE,
    LOAD_LOOK /* after the client was killed: has it happened? */
};

struct load {
    struct world *w;
    unsigned node;
    char prefix[8];
    struct model model;
    unsigned finished, wanted; /* actions */
    bool busy, ended;
    /* the action under way */
    enum load_kind kind;
    enum load_step step;
    struct model_place a, b;
    char path_a[MODEL_PATH], path_b[MODEL_PATH], target[MODEL_PATH];
    unsigned writes_left;
    bool will_sync, created;
    bool punches;           /* instead of a write: a hole */
    unsigned sessions_seen; /* of the node, when what is under way began */
    uint64_t offset, losses_before;
    size_t len;
    uint8_t *buffer;
    struct opendfs_stat values;
    struct opendfs_xattr xattr;
    uint32_t value, shown; /* of the attribute: to be set, and as it was read */
    struct opendfs_op op;
    bool arrived, under_way;
    uint64_t life, began_ns; /* the client's, the action's */
    bool unresolved;         /* the client was killed: the outcome is not known */
    uint64_t calm_ns;        /* since when nothing of it can be under way any more */
    struct opendfs_file *file;
    uint64_t ino, sync_ns; /* of the file; when the newest sync was asked for */
    struct loop_sim_event wake;
    /* the final look at everything */
    bool auditing;
    struct model_place *places;
    size_t place_count, place_next;
};

void load_init(struct load *l, struct world *w, unsigned client, unsigned actions);
void load_fini(struct load *l);
void load_begin(struct load *l);
/* Looks at what has arrived. True: all actions are done. */
bool load_step(struct load *l);
/* All that the model has is looked at through a client that has just been started. */
void load_begin_audit(struct load *l);
