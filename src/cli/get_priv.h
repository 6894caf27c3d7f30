/*
 * cli/get_priv.h -- getting a tree: the mirror image of put_priv.h. Local files are written on the
 * main thread, which waits for nothing but them; data comes lent from the library.
 */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "cli/copy_priv.h"
#include "disk/local.h"

struct get {
    struct copy copy;
    struct cli *c;
    struct list ready, late; /* struct get_dir; struct get_item: second names */
    struct list waiting;     /* items that wait for room in `asked_bytes` */
    struct dict links;       /* struct get_link by inode */
    uint64_t asked_bytes;    /* of pieces under way */
    size_t running;
};
struct get_dir {
    struct get *g;
    struct get_dir *parent;
    char *local, *path;
    struct opendfs_stat stat;
    bool top;
    char after[256]; /* the last name seen */
    struct cli_job job;
    bool listing, at_end; /* listing: its page is under way or being walked */
    size_t next, pending;
    struct list node;
};
struct get_link {
    struct dict_node node;
    uint64_t ino;
    char *local; /* of the first name */
    bool good;
};
struct get_item {
    struct cli_job job;
    struct get *g;
    struct get_dir *dir;
    char *local, *path;
    char *temporary; /* beside `local` */
    struct opendfs_stat stat;
    struct get_link *link;
    bool second;
    struct list node;
    /* files */
    struct opendfs_file *file;
    struct disk_local_file *out;
    uint64_t offset, size_bytes;
    unsigned pieces;
    bool failed;
    char target[4096]; /* of a symbolic link */
};

/* get.c */
void cli_get_item_end(struct get_item *i, bool good);
void cli_get_item_fail(struct get_item *i, const struct opendfs_op *op, int64_t rc);
/* What lies under the temporary name gets its attributes and its final name. */
void cli_get_item_finish(struct get_item *i);

/* get_file.c */
void cli_get_file_start(struct get_item *i);
void cli_get_file_fill(struct get_item *i);
/* Files one after the other to standard output; the exit status. */
int cli_get_to_standard_output(struct cli *c, size_t count);
