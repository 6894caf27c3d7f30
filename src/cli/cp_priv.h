/* cli/cp_priv.h -- copying inside the cluster: `local` of a tree_item is the source's path, `path`
 * that of the copy. A directory is walked when its own mkdir is done. */
#pragma once

#include "cli/into_priv.h"
#include "cli/pieces_priv.h"

struct cp {
    struct tree tree;
    bool recursive, preserve, no_replace;
    uint32_t umask;
};
struct cp_item {
    struct tree_item base;
    struct cp *p;
    void (*again)(struct cp_item *i);
    struct cli_job small; /* lends the contents of a small file */
    uint64_t written_end;
    char target[4096]; /* of a symbolic link */
};

/* cp.c */
/* What is set on the copy. */
unsigned cli_cp_values(const struct cp *p, const struct opendfs_stat *st, struct opendfs_stat *ret);
/* The name is there already: `again` makes a temporary one, or finds the item failed. */
void cli_cp_item_is_there(struct cp_item *i, void (*again)(struct cp_item *i));

/* cp_file.c */
void cli_cp_file_start(struct cp_item *i);
/* tree_ops.store, tree_ops.all_pieces and tree_ops.file_made. */
void cli_cp_file_store(struct tree_piece *x, const void *bytes, size_t len);
void cli_cp_file_all_pieces(struct tree_item *base);
void cli_cp_file_made(struct tree_item *base);
