/*
 * cli/get_priv.h -- getting a tree: the mirror image of put_priv.h. Local files are written on the
 * main thread, which waits for nothing but them; data comes lent from the library.
 */
#pragma once

#include "cli/pieces_priv.h"
#include "disk/local.h"

struct get_item {
    struct tree_item base;
    char *temporary; /* beside `base.local` */
    struct opendfs_stat stat;
    struct disk_local_file *file;
    char target[4096]; /* of a symbolic link */
};

/* get.c */
/* What lies under the temporary name gets its attributes and its final name. */
void cli_get_item_finish(struct get_item *i);

/* get_file.c */
void cli_get_file_start(struct get_item *i);
/* tree_ops.store and tree_ops.all_pieces. */
void cli_get_file_store(struct tree_piece *x, const void *bytes, size_t len);
void cli_get_file_all_pieces(struct tree_item *base);
/* Files one after the other to standard output; the exit status. */
int cli_get_to_standard_output(struct cli *c, size_t count);
