/*
 * history/tree.h -- the sequential model: a small file system in plain arrays, and how far each
 * process has come with the operation that it is at. Written from POSIX and doc/coherence.md,
 * independently of src/namespace.
 *
 * An operation is a few steps: one per directory of its paths, then what it does. POSIX promises no
 * more: between two steps others may move the directories. Each step happens at one moment.
 */
#pragma once

#include "history.h"

#define TREE_INODES 48u
#define TREE_SLOTS 12u /* operations that may be under way at once, unknown ones included */
#define TREE_NONE 0u   /* the root is nobody's entry */
#define TREE_ENDED UINT8_MAX

struct tree_inode {
    uint8_t type;   /* enum history_type; nothing: free */
    uint8_t names;  /* that files and links have; a directory: 1, removed: 0 */
    uint8_t parent; /* of a directory */
    uint8_t entry[HISTORY_NAMES];
    uint8_t zero[3];
    uint16_t mode;
    uint32_t content; /* what a file holds, or a link says */
    uint32_t number;  /* by which clients know it; 0: nobody was told yet */
};
_Static_assert(sizeof(struct tree_inode) == 24, "no padding: trees are compared as bytes");
struct tree_walker {
    uint8_t steps; /* done; TREE_ENDED: all */
    uint8_t at[2]; /* inodes that its paths have led to */
    uint8_t zero;
};
struct tree {
    struct tree_inode inode[TREE_INODES]; /* [0]: the root */
    struct tree_walker walker[TREE_SLOTS];
};
_Static_assert(sizeof(struct tree) == 24u * TREE_INODES + 4u * TREE_SLOTS, "no padding");

void tree_init(struct tree *t); /* an empty root */
void tree_begin(struct tree *t, unsigned slot);
bool tree_has_ended(const struct tree *t, unsigned slot);
/*
 * The next step of `op`. 1: it fits what the client was told (or nobody knows what it was told, and
 * it changes something); 0: it does not, and `t` is not to be used any more. -E2BIG: the tree has
 * grown too large. An inode that a path has led to stays what it is, also without a name: who asked
 * for it by name is told of it, or that there is no such name, but not that it has gone.
 */
NODISCARD int tree_step(struct tree *t, const struct history_op *op, unsigned slot);
/* The same tree always gets the same bytes: inodes are numbered as they are found. */
void tree_normalize(struct tree *t);
/* All names, for people. */
struct text;
void tree_to_text(const struct tree *t, const struct history *h, struct text *out);
