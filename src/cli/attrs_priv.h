/*
 * cli/attrs_priv.h -- what put, get and cp do with --xattrs: the extended attributes of one name,
 * one after the other.
 *
 * Access control lists (which are extended attributes, too) are not among them. What cannot be read
 * or set is said with path and name; the file then counts as failed, and is there nevertheless.
 */
#pragma once

#include "cli/tree_priv.h"

/* From its source to what was made of it: `local` (on this machine), or NULL: under the item's name
 * inside the cluster. Then `done`, perhaps at once. */
void cli_attrs_of_item(struct tree_item *i, const char *local, void (*done)(struct tree_item *i));
/* The same of a directory: to `d->local` or `d->path`. */
void cli_attrs_of_dir(struct tree_dir *d, void (*done)(struct tree_dir *d));
