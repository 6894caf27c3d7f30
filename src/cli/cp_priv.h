/* cli/cp_priv.h -- copying inside the cluster: `local` of a tree_item is the source's path, `path`
 * that of the copy. A directory is walked when its own mkdir is done. */
#pragma once

#include "cli/tree_priv.h"

struct cp {
    struct tree tree;
    struct list waiting;  /* items that wait for room in `asked_bytes` */
    uint64_t asked_bytes; /* of pieces under way */
    bool recursive, preserve, no_replace;
    uint32_t umask;
};
struct cp_dir {
    struct tree_dir base;
    struct cp *p;
    struct opendfs_stat stat; /* of the source */
    uint64_t ino;             /* of the copy */
    bool found;               /* it was there before */
    char after[256];          /* the last name seen */
    struct cli_job job;
    bool at_end;
    size_t next;
    struct opendfs_stat values;
};
struct cp_item {
    struct tree_item base;
    struct cli_job job;
    struct cp *p;
    uint64_t parent;                /* inode of the directory of the copy */
    const char *name;               /* inside of `base.path` */
    char temporary[COPY_NAME_SIZE]; /* "" until it is needed */
    bool follow;                    /* a symbolic link means what it points to */
    struct opendfs_stat stat;       /* of the source */
    struct opendfs_stat values;
    unsigned mask;
    /* files */
    struct opendfs_file *in, *out;
    struct cli_job small; /* lends the contents of a small one */
    uint64_t offset, size_bytes, written_end;
    unsigned pieces;
    bool failed;
    char target[4096]; /* of a symbolic link */
};

/* cp.c */
/* What is set on the copy. */
unsigned cli_cp_values(const struct cp *p, const struct opendfs_stat *st, struct opendfs_stat *ret);
const char *cli_cp_item_name(const struct cp_item *i);
/* The name is there already: `again` makes a temporary one, or finds the item failed. */
void cli_cp_item_is_there(struct cp_item *i, void (*again)(struct cp_item *i));
/* The last step of an item: the temporary name becomes the final one. */
void cli_cp_item_finish(struct cp_item *i);
/* "SOURCE: cause", counted. */
void cli_cp_fail_source(struct cp_item *i, const struct opendfs_op *op);

/* cp_file.c */
void cli_cp_file_start(struct cp_item *i);
