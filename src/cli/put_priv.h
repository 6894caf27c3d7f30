/* cli/put_priv.h -- putting a tree: a directory is walked when its own mkdir is done. */
#pragma once

#include "cli/into_priv.h"
#include "cli/pieces_priv.h"
#include "disk/local.h"

struct put {
    struct tree tree;
    struct list buffers; /* free ones of COPY_PIECE_BYTES */
};
struct put_item {
    struct tree_item base;
    struct put *p;
    char *target; /* of a symbolic link */
    struct disk_local_attr attr;
    /* files */
    struct disk_local_file *file;
    void *small;
    size_t small_len;
};

/* put_file.c */
void cli_put_file_start(struct put_item *i);
bool cli_put_file_begin_piece(struct tree_item *base); /* tree_ops.begin_piece */
void cli_put_buffers_free(struct put *p);
