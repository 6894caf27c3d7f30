/*
 * cli/walk_priv.h -- goes through a tree inside the cluster: in the order of the paths, while the
 * directories to come are read ahead (up to WALK_AHEAD pages). Symbolic links are not followed. A
 * directory that cannot be read is said and counted, and the walk goes on. All of it on the main
 * thread; a visitor may start operations, which end while the walk goes on.
 */
#pragma once

#include "base/list.h"
#include "cli/cli_priv.h"

#define WALK_AHEAD 64u
#define WALK_PARALLEL 128u /* operations of a visitor */
#define WALK_ANY_DEPTH UINT32_MAX

struct walk_entry {
    const char *path, *name;
    const struct opendfs_stat *stat;
    uint64_t parent; /* inode of its directory; 0: of the name the walk began with */
    unsigned depth;  /* of that: 0 */
    bool last;       /* of its directory */
};
struct walk_dir;
/* Zero it, set the first part. */
struct walk {
    struct cli *c;
    unsigned max_depth; /* deeper names are not visited */
    /* A directory comes before what is in it, and once more to `leave` (may be NULL) behind it. */
    void (*visit)(struct walk *w, const struct walk_entry *e);
    void (*leave)(struct walk *w, const struct walk_entry *e);

    int status;          /* CLI_EXIT_FAILED once something could not be read or done */
    size_t running;      /* operations of the visitor */
    size_t pages;        /* asked for, or here and not gone through */
    struct list waiting; /* struct walk_dir, in the order in which they will be needed */
};
/* From `path` on, which has these attributes. Until all was visited; operations may still run. */
void cli_walk(struct walk *w, const char *path, const struct opendfs_stat *st);
/* Waits until fewer than `limit` of the visitor's operations are under way. */
void cli_walk_wait(struct walk *w, size_t limit);
