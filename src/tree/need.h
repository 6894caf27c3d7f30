/*
 * tree/need.h -- what a reader lacks, as items of a need list (kv.h): heads and parts by name; and
 * what it keeps: pins of them, and memory of its own.
 *
 * An item is named by block and version of the node and the number of the partition, not by an
 * address: the snapshot that saw it may be gone when it is fetched.
 */
#pragma once

#include "kv/kv.h"
#include "tree/nodes.h"

#define TREE_NEED_HEAD UINT32_MAX /* instead of the number of a partition */

/* Who asks. */
struct tree_need_from {
    struct kv *kv;
    struct kv_need *need; /* NULL: nothing may be missing (CHECKed) */
};
/* A node whose head is pinned or otherwise held. */
struct tree_node_at {
    const struct tree_head *head;
    uint64_t block, version;
};

struct tree_need_name {
    uint64_t block, version;
    uint32_t part; /* or TREE_NEED_HEAD */
};
/* -ERR_need, or why it could not be noted: -ENOMEM, -ENOBUFS. */
NODISCARD int tree_need_miss(const struct tree_need_from *from, const struct tree_need_name *name);
struct tree_need_name tree_need_name(const struct kv_need_item *item);

/* The list unpins it at its end. 0; -ENOMEM, -ENOBUFS: it stays the caller's. */
NODISCARD int tree_need_keep_part(const struct tree_need_from *from, struct tree_part *pinned);
NODISCARD int tree_need_keep_node(const struct tree_need_from *from, struct tree_node *pinned);
/* Memory of `len` bytes that lives as long as the list, charged with force. NULL: -ENOMEM or full.
 */
NODISCARD uint8_t *tree_need_room(const struct tree_need_from *from, struct tree_cache *cache,
                                  size_t len);

/* kv_ops.unpin: of all kinds. */
void tree_need_unpin(struct kv_need_item *item);
/* After a fetch: the item holds the pin. */
void tree_need_set_part(struct kv_need_item *item, struct tree_part *pinned);
void tree_need_set_node(struct kv_need_item *item, struct tree_node *pinned);
