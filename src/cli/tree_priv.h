/*
 * cli/tree_priv.h -- what put, get and cp share: a walk over a tree with many names under way.
 *
 * A directory is ready while it has names that were not begun; each name becomes an item, of which
 * at most COPY_PARALLEL are under way. A directory is finished when nothing below it is pending any
 * more: then nothing changes its times. Second names of a file wait for the end: then the first one
 * is there. All of it on the main thread.
 */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "cli/copy_priv.h"

struct tree_dir {
    struct tree_dir *parent;
    char *local, *path; /* on this machine; inside the cluster */
    bool top;           /* not ours: only a place to put things */
    size_t pending;     /* items and directories below, and 1 while it is being walked */
    struct list node;
};
/* A file with several names. */
struct tree_link {
    struct dict_node node;
    uint64_t device, ino;
    char *first; /* its first name */
    bool good;   /* that one is there */
};
struct tree_item {
    struct tree *tree;
    struct tree_dir *dir;
    char *local, *path;
    uint32_t type;          /* OPENDFS_TYPE_...; 0: not known yet */
    struct tree_link *link; /* NULL: it has one name only */
    bool second;            /* not the first name of `link` */
    struct list node;       /* free for its owner once it has been started */
};
struct tree {
    const struct tree_ops *ops;
    struct copy copy;
    struct cli *c;
    struct list ready, late; /* struct tree_dir, the newest first; struct tree_item */
    struct dict links;       /* struct tree_link */
    size_t running;          /* operations under way */
};
struct tree_ops {
    /* Begins one more name of a ready directory; at its end takes it off the list and unpends it.
     */
    void (*walk)(struct tree *t, struct tree_dir *d);
    /* Ends with cli_tree_item_end(), perhaps at once. */
    void (*start)(struct tree_item *i);
    void (*free_item)(struct tree_item *i, bool good);
    /* Gives it its attributes and frees it; the parent, or NULL: goes on by itself, and unpends the
     * parent later. */
    struct tree_dir *(*finish_dir)(struct tree *t, struct tree_dir *d);
    /* Adds one name to the totals, puts what is below on the stack (cli_tree_push()). */
    void (*measure)(struct tree *t, const char *path, struct list *stack);
};

void cli_tree_begin(struct tree *t, struct cli *c, const char *what, const struct tree_ops *ops);
/* Until nothing is ready, late or running. */
void cli_tree_run(struct tree *t);
int cli_tree_end(struct tree *t); /* as cli_copy_end() */

/* The texts are taken over. */
void cli_tree_dir_init(struct tree_dir *d, struct tree_dir *parent, char *local, char *path);
struct tree_dir *cli_tree_dir_fini(struct tree_dir *d); /* the parent */
/* A new directory below `d->parent` is to be walked. */
void cli_tree_dir_ready(struct tree *t, struct tree_dir *d);
/* Something below has ended; NULL is fine. */
void cli_tree_unpend(struct tree *t, struct tree_dir *d);

/* From here on it counts; the texts are taken over. */
void cli_tree_item_init(struct tree_item *i, struct tree *t, struct tree_dir *d, char *local,
                        char *path);
/* It was looked at: starts it, now or at the end; `rc` negative: it fails with that. */
void cli_tree_item_begin(struct tree_item *i, int rc);
/* Is this another name of a file that has been seen? `first` is remembered if not. After the type
 * is set. */
NODISCARD int cli_tree_item_link(struct tree_item *i, uint64_t device, uint64_t ino,
                                 uint64_t size_bytes, const char *first);
/* Fails with `op`, or with the local error `rc` when it is NULL. */
void cli_tree_item_fail(struct tree_item *i, const struct opendfs_op *op, int64_t rc);
void cli_tree_item_end(struct tree_item *i, bool good);

/* Counts what is to come, so that progress can tell the remaining time. Failures are left to the
 * copy itself. */
void cli_tree_measure(struct tree *t, const char *path);
void cli_tree_push(struct list *stack, char *path); /* taken over; NULL is fine */
