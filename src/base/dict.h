/*
 * base/dict.h -- intrusive hash dictionary with incremental rehash: no operation ever moves
 * everything.
 *
 * The owner embeds struct dict_node and supplies key comparison; the dictionary owns only its
 * bucket arrays. Hashes are the caller's (dict_hash is XXH3 with the dictionary's seed, so that
 * peers cannot aim at one bucket). Not thread-safe.
 */
#pragma once

#include "base/base.h"

struct dict_node {
    struct dict_node *next;
    uint64_t hash;
};
struct dict_ops {
    bool (*equal)(const struct dict_node *node, const void *key);
    void (*dropped)(struct dict_node *node, void *owner); /* by dict_fini/dict_clear; may be NULL */
};
struct dict {
    const struct dict_ops *ops;
    void *owner;
    struct dict_table {
        struct dict_node **bucket;
        size_t mask;
    } table[2];
    size_t count, moved; /* moved: buckets of table[0] already rehashed into table[1] */
    uint64_t seed;
};

void dict_init(struct dict *d, const struct dict_ops *ops, void *owner, uint64_t seed);
void dict_fini(struct dict *d);  /* drops all nodes */
void dict_clear(struct dict *d); /* drops all nodes, keeps d usable */
uint64_t dict_hash(const struct dict *d, const void *key, size_t len);
uint64_t dict_hash_u64(const struct dict *d, uint64_t key);
struct dict_node *dict_find(struct dict *d, uint64_t hash, const void *key);
/* The key must not be present. Only the first insertion can fail (-ENOMEM); growth failures are
 * retried later. */
NODISCARD int dict_insert(struct dict *d, uint64_t hash, struct dict_node *node);
void dict_remove(struct dict *d, struct dict_node *node); /* must be present; not `dropped` */

/* Visits all; the body may remove the current node. */
struct dict_iter {
    struct dict *dict;
    size_t table, bucket;
    struct dict_node *next;
};
void dict_iter_init(struct dict_iter *it, struct dict *d);
struct dict_node *dict_iter_next(struct dict_iter *it); /* no insertion between calls */
