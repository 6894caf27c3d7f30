/*
 * cli/into_priv.h -- what put and cp share: names made inside the cluster.
 *
 * A name is made under its final name when there is none of it yet, else under a temporary one that
 * replaces it in one step at last; of a file that is not complete nothing stays.
 */
#pragma once

#include "cli/tree_priv.h"

/* A new item in memory of the caller (NULL: no memory): `name` below `d`, from `local` (taken
 * over). False: said why, nothing has begun. */
NODISCARD bool cli_into_init(struct tree_item *i, struct tree_dir *d, char *local,
                             const char *name);
/* After type, values and links are known: the mode of a file that its owner may not write waits for
 * its extended attributes. */
void cli_into_values(struct tree_item *i);
/* The last part of its path. */
const char *cli_into_final_name(const struct tree_item *i);
/* The name to make: the final one, or the temporary one. */
const char *cli_into_name(const struct tree_item *i);
/* The name is there already: again, under a temporary one. False: it is temporary already. */
bool cli_into_use_temporary(struct tree_item *i);

/* The last steps of an item: its extended attributes, when they are copied; a temporary name
 * becomes the final one, and the item ends. */
void cli_into_finish(struct tree_item *i);
/* Makes what is no file and no directory; `target` of a symbolic link. */
void cli_into_make(struct tree_item *i, const char *target, void (*made)(struct cli_job *j));
/* A directory, or one that is there, which is walked then. */
void cli_into_make_dir(struct tree_item *i);
/* tree_ops.finish_dir. */
struct tree_dir *cli_into_finish_dir(struct tree_dir *d);

/* All was sent to i->out: syncs and closes it, then ops->file_made(). */
void cli_into_close(struct tree_item *i);
