/*
 * cli/tree_priv.h -- what put, get and cp share: a walk over a tree with many names under way.
 *
 * A directory is ready while it has names that were not begun; each name becomes an item, of which
 * at most COPY_PARALLEL are under way. A directory is finished when nothing below it is pending any
 * more: then nothing changes its times. Second names of a file wait for the end: then the first one
 * is there. All of it on the main thread.
 *
 * `path` is a name inside the cluster, `local` the other one: on this machine, or for cp the source
 * inside the cluster.
 */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "cli/copy_priv.h"

#define TREE_NAME_LIMIT 255u

struct disk_names;

struct tree_dir {
    struct tree *tree;
    struct tree_dir *parent;
    char *local, *path;
    bool top;        /* not ours: only a place to put things */
    bool found;      /* it was there before */
    bool partial;    /* some of its extended attributes could not be copied: said */
    size_t pending;  /* items and directories below, and 1 while it is being walked */
    uint64_t ino;    /* of `path`, for what is put into it */
    uint64_t source; /* the source's, when that is inside the cluster */
    struct list node;
    struct opendfs_stat values; /* what it gets in the end, of these what `mask` names */
    unsigned mask;
    struct cli_job job;
    /* its names: of this machine, or page by page */
    struct disk_names *names;
    size_t next;
    bool at_end;
    char after[TREE_NAME_LIMIT + 1]; /* the last name of the page before */
};
/* A file with several names. */
struct tree_link {
    struct dict_node node;
    uint64_t device, ino;
    char *first; /* its first name */
    bool good;   /* that one is there */
};
/* The first member of what a command has of a name. */
struct tree_item {
    struct tree *tree;
    struct tree_dir *dir;
    char *local, *path;
    uint32_t type;          /* OPENDFS_TYPE_...; 0: not known yet */
    struct tree_link *link; /* NULL: it has one name only */
    bool second;            /* not the first name of `link` */
    bool failed;            /* which was said and counted */
    bool partial;           /* some of its extended attributes could not be copied: said */
    bool follow;            /* its source: a symbolic link means what it points to */
    bool no_source;         /* standard input: without attributes */
    struct list node;       /* free for its owner once it has been started */
    struct cli_job job;
    uint64_t source; /* inode number of the source, when that is inside the cluster */
    /* what is made inside the cluster: into_priv.h */
    struct opendfs_stat values; /* it gets those that `mask` names */
    unsigned mask;
    char temporary[COPY_NAME_SIZE]; /* "" until it is needed */
    bool read_only; /* its mode is set last, because it forbids to set extended attributes */
    struct opendfs_file *out;
    /* the contents of a file: pieces_priv.h */
    struct opendfs_file *in;
    uint64_t offset, size_bytes;
    unsigned pieces;
};
struct tree {
    const struct tree_ops *ops;
    struct copy copy;
    struct cli *c;
    struct list ready, late; /* struct tree_dir, the newest first; struct tree_item */
    struct dict links;       /* struct tree_link */
    size_t running;          /* operations under way */
    bool xattrs;             /* extended attributes are copied, too */
    bool keep_found;         /* directories that are there already keep their attributes */
    /* pieces_priv.h */
    uint64_t piece_bytes; /* of pieces under way */
    struct list waiting;  /* items that wait for room in them */
};
struct tree_piece;
struct tree_ops {
    bool outward;      /* `path` is the source, not `local` */
    bool follow_found; /* a link to a directory is one, where one is to be made */
    /* Begins one more name of a ready directory; at its end takes it off the list and unpends it:
     * cli_tree_walk_names() or cli_tree_walk_pages(). */
    void (*walk)(struct tree_dir *d);
    /* The name in `d`; of this machine when `st` is NULL. */
    void (*begin)(struct tree_dir *d, const char *name, const struct opendfs_stat *st);
    /* Ends with cli_tree_item_end(), perhaps at once. */
    void (*start)(struct tree_item *i);
    void (*free_item)(struct tree_item *i);
    /* Gives it its attributes; what cli_tree_dir_end() returns, or NULL: goes on by itself, and
     * unpends that later. */
    struct tree_dir *(*finish_dir)(struct tree_dir *d);
    /* Adds one name to the totals, puts what is below on the stack (cli_tree_push()). */
    void (*measure)(struct tree *t, const char *path, struct list *stack);
    /* pieces_priv.h: a piece more of a file. False: there is no room for it now. */
    bool (*begin_piece)(struct tree_item *i);
    /* Bytes of a piece have come, no hole; ends with cli_piece_stored(). May be NULL. */
    void (*store)(struct tree_piece *x, const void *bytes, size_t len);
    /* All pieces of a file are done, or it has failed. */
    void (*all_pieces)(struct tree_item *i);
    /* into_priv.h: a file is complete and closed, or removed when it has failed. */
    void (*file_made)(struct tree_item *i);
};

void cli_tree_begin(struct tree *t, struct cli *c, const char *what, const struct tree_ops *ops);
/* Until nothing is ready, late or running. */
void cli_tree_run(struct tree *t);
int cli_tree_end(struct tree *t); /* as cli_copy_end() */

/* The texts are taken over; NULL: no memory, also when one of them is NULL. */
struct tree_dir *cli_tree_dir_new(struct tree *t, struct tree_dir *parent, char *local, char *path);
/* Without another word; the parent. */
struct tree_dir *cli_tree_dir_free(struct tree_dir *d);
/* A new directory below `d->parent` is to be walked. */
void cli_tree_dir_ready(struct tree_dir *d);
/* It has its attributes, or `op` tells why not, or `rc` when that is NULL: counts and frees it.
 * The parent. */
struct tree_dir *cli_tree_dir_end(struct tree_dir *d, const struct opendfs_op *op, int rc);
/* Something below has ended; NULL is fine. */
void cli_tree_unpend(struct tree_dir *d);
void cli_tree_walk_names(struct tree_dir *d); /* of this machine */
void cli_tree_walk_pages(struct tree_dir *d); /* of the directory `d->source` of the cluster */

/* From here on it counts; the texts are taken over. */
void cli_tree_item_init(struct tree_item *i, struct tree_dir *d, char *local, char *path);
/* It was looked at: starts it, now or at the end; `rc` negative: it fails with that. */
void cli_tree_item_begin(struct tree_item *i, int rc);
/* Is this another name of a file that has been seen? `first` is remembered if not. After the type
 * is set. */
NODISCARD int cli_tree_item_link(struct tree_item *i, uint64_t device, uint64_t ino,
                                 uint64_t size_bytes, const char *first);
/* It has failed: says so and counts it, the first time. With an error at `path` or `local`; with an
 * operation on `path`; with one on the source inside the cluster. */
void cli_tree_item_fail(struct tree_item *i, const char *path, int64_t rc);
void cli_tree_item_fail_op(struct tree_item *i, const struct opendfs_op *op);
void cli_tree_item_fail_source(struct tree_item *i, const struct opendfs_op *op);
void cli_tree_item_failed(struct tree_item *i); /* only counts it */
/* Frees it; good unless it has failed. */
void cli_tree_item_end(struct tree_item *i);

/* Counts what is to come, so that progress can tell the remaining time. Failures are left to the
 * copy itself. */
void cli_tree_measure(struct tree *t, const char *path);
void cli_tree_push(struct list *stack, char *path); /* taken over; NULL is fine */
