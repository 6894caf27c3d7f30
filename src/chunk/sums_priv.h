/* chunk/sums_priv.h -- per chain, what a store has of it as one number: see sums.c. */
#pragma once

#include "chunk/index_priv.h"
#include "chunk/store.h"

struct chunk_entry;
struct chunk_meta;

struct chunk_sums {
    struct chunk_index index; /* by chain, as data id */
    bool unknown;             /* there was no memory once */
};
/* The committed content of an entry is another one, or gone; it has changed already. */
void chunk_sums_changed(struct chunk_store *s, struct chunk_entry *e);
/* What an entry is that was read from the index: the sums have it already. */
void chunk_sums_known(struct chunk_entry *e);
/* What a chunk with this committed content adds. */
struct chunk_sum chunk_sum_of(struct chunk_key key, const struct chunk_meta *m);
void chunk_sum_add(struct chunk_sum *to, const struct chunk_sum *x);
void chunk_sum_take(struct chunk_sum *from, const struct chunk_sum *x);
NODISCARD int chunk_sums_add(struct chunk_sums *x, uint32_t chain, struct chunk_sum sum);
/* The first chain >= `from`. */
bool chunk_sums_next(const struct chunk_sums *x, uint64_t from, uint32_t *ret_chain,
                     struct chunk_sum *ret);
void chunk_sums_fini(struct chunk_sums *x);
