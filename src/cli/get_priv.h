/*
 * cli/get_priv.h -- getting a tree: the mirror image of put_priv.h. Local files are written on the
 * main thread, which waits for nothing but them; data comes lent from the library.
 */
#pragma once

#include "cli/tree_priv.h"
#include "disk/local.h"

struct get {
    struct tree tree;
    struct list waiting;  /* items that wait for room in `asked_bytes` */
    uint64_t asked_bytes; /* of pieces under way */
};
struct get_dir {
    struct tree_dir base;
    struct get *g;
    struct opendfs_stat stat;
    char after[256]; /* the last name seen */
    struct cli_job job;
    bool at_end;
    size_t next;
};
struct get_item {
    struct tree_item base;
    struct cli_job job;
    struct get *g;
    char *temporary; /* beside `base.local` */
    struct opendfs_stat stat;
    /* files */
    struct opendfs_file *file;
    struct disk_local_file *out;
    uint64_t offset, size_bytes;
    unsigned pieces;
    bool failed;
    char target[4096]; /* of a symbolic link */
};

/* get.c */
/* What lies under the temporary name gets its attributes and its final name. */
void cli_get_item_finish(struct get_item *i);

/* get_file.c */
void cli_get_file_start(struct get_item *i);
void cli_get_file_fill(struct get_item *i);
/* Files one after the other to standard output; the exit status. */
int cli_get_to_standard_output(struct cli *c, size_t count);
