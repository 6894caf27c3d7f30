/* chunk/sums_priv.h -- per chain, what a store has of it as one number: see sums.c. */
#pragma once

#include "chunk/index_priv.h"
#include "chunk/store.h"

struct chunk_entry;

struct chunk_sums {
    struct chunk_index index; /* by chain, as data id */
    bool unknown;             /* there was no memory once */
};
/* The committed content of an entry is another one, or gone; it has changed already. */
void chunk_sums_changed(struct chunk_store *s, struct chunk_entry *e);
void chunk_sums_fini(struct chunk_sums *x);
