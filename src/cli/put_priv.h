/*
 * cli/put_priv.h -- putting a tree: one walker, many items under way.
 *
 * A directory (put_dir) is listed when its own mkdir is done; each name becomes an item, of which
 * at most COPY_PARALLEL are under way. A directory gets its final mode and times when nothing below
 * it is pending any more. Second names of a file wait for the end: then the first one is there.
 */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "cli/copy_priv.h"
#include "disk/disk.h"
#include "disk/local.h"

struct put {
    struct copy copy;
    struct cli *c;
    struct list ready;   /* directories to be walked; the newest first */
    struct list late;    /* items: second names */
    struct list starved; /* items that wait for buffers */
    struct list buffers; /* free ones of COPY_PIECE_BYTES */
    struct dict links;   /* struct put_link by device and inode */
    uint64_t buffered_bytes;
    size_t running;
};
struct put_dir {
    struct put *p;
    struct put_dir *parent;
    char *local, *path;
    uint64_t ino;
    struct disk_local_attr attr;
    bool top; /* not ours: only a place to put things */
    struct disk_names *names;
    size_t next, pending; /* pending: items below, and 1 while it is being walked */
    struct list node;
    struct cli_job job;
    struct opendfs_stat values;
};
struct put_link {
    struct dict_node node;
    uint64_t device, ino;
    char *path; /* of the first name */
    bool good;
};
struct put_item {
    struct cli_job job;
    struct put *p;
    struct put_dir *dir;
    char *local, *path, *target;
    const char *name;               /* inside of path */
    char temporary[COPY_NAME_SIZE]; /* "" until it is needed */
    struct disk_local_attr attr;
    struct opendfs_stat values;
    unsigned mask;
    struct put_link *link; /* this is its first name, or a later one */
    bool second;
    struct list node;
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
void cli_put_pump(struct put *p);
void cli_put_item_end(struct put_item *i, bool good);
/* The name to make: the final one, or a temporary one that replaces it at last. */
const char *cli_put_item_name(const struct put_item *i);
/* Fails with `op`, or with the local error `rc` when it is NULL. */
void cli_put_item_fail(struct put_item *i, const struct opendfs_op *op, int64_t rc);
/* The name is there already: again, under a temporary one. False: it is temporary already. */
bool cli_put_item_use_temporary(struct put_item *i);
/* The last step of an item: the temporary name becomes the final one. */
void cli_put_item_finish(struct put_item *i);
void cli_put_item_values(struct put_item *i);

/* put_file.c */
void cli_put_file_start(struct put_item *i);
void cli_put_file_fill(struct put_item *i); /* a buffer came back */
void cli_put_buffers_free(struct put *p);
