/* cli/put_priv.h -- putting a tree: a directory is walked when its own mkdir is done. */
#pragma once

#include "cli/tree_priv.h"
#include "disk/disk.h"
#include "disk/local.h"

struct put {
    struct tree tree;
    struct list starved; /* items that wait for buffers */
    struct list buffers; /* free ones of COPY_PIECE_BYTES */
    uint64_t buffered_bytes;
};
struct put_dir {
    struct tree_dir base;
    struct put *p;
    uint64_t ino;
    struct disk_local_attr attr;
    struct disk_names *names;
    size_t next;
    struct cli_job job;
    struct opendfs_stat values;
};
struct put_item {
    struct tree_item base;
    struct cli_job job;
    struct put *p;
    uint64_t parent; /* inode of its directory */
    char *target;
    const char *name;               /* inside of `base.path` */
    char temporary[COPY_NAME_SIZE]; /* "" until it is needed */
    struct disk_local_attr attr;
    struct opendfs_stat values;
    unsigned mask;
    /* files */
    struct disk_local_file *source;
    struct opendfs_file *file;
    void *small;
    size_t small_len;
    uint64_t offset;
    unsigned pieces;
    bool at_end, failed;
};

/* put.c */
/* The name to make: the final one, or a temporary one that replaces it at last. */
const char *cli_put_item_name(const struct put_item *i);
/* The name is there already: again, under a temporary one. False: it is temporary already. */
bool cli_put_item_use_temporary(struct put_item *i);
/* The last step of an item: the temporary name becomes the final one. */
void cli_put_item_finish(struct put_item *i);

/* put_file.c */
void cli_put_file_start(struct put_item *i);
void cli_put_file_fill(struct put_item *i); /* a buffer came back */
void cli_put_buffers_free(struct put *p);
