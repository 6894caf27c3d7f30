/*
 * tree/tree_drops.c -- subtrees that have left the tree, freed a few blocks at a time: the head of
 * an inner node says what its children are, then its block goes. What waits is a stack of roots
 * that every checkpoint keeps, so that a restart goes on with it: a block is either in the tree, or
 * below one of these, or free.
 */
#include "tree/tree_maintain_priv.h"

#include "base/mem.h"

#define DROPS_AT_ONCE 32u

int tree_maintain_drop_room(struct tree_maintain *m, size_t count)
{
    return mem_grow(&m->drop, &m->drop_capacity, m->drop_count + count, sizeof *m->drop);
}

void tree_maintain_drop_add(struct tree_maintain *m, uint64_t block)
{
    CHECK(m->drop_count < m->drop_capacity);
    m->drop[m->drop_count++] = block;
}

/* What is not on disk has its head in memory. */
static uint8_t drop_level(const struct tree_node *node)
{
    return node->written ? node->place.level : node->head->header.level;
}

/* Its children wait instead of it. */
static int drop_open(struct tree_maintain *m, struct tree_node *node, struct kv_need *need)
{
    struct tree_need_from from = {.kv = &m->t->base, .need = need};
    struct tree_need_name name = {
        .block = node->block, .version = node->version, .part = TREE_NEED_HEAD};
    if (!tree_node_pin(node)) {
        return tree_need_miss(&from, &name);
    }
    const struct tree_pivots *p = &node->head->pivots;
    int rc = tree_maintain_drop_room(m, p->slots);
    if (rc == 0) {
        m->drop_count--;
        for (uint16_t i = 0; i < p->slots; i++) {
            tree_maintain_drop_add(m, tree_pivots_child(p, i));
        }
    }
    tree_node_unpin(node);
    return rc;
}

static int drop_one(struct tree_maintain *m, uint64_t version, struct kv_need *need)
{
    struct tree_nodes *nodes = m->t->nodes;
    uint64_t block = m->drop[m->drop_count - 1];
    struct tree_node *node = tree_nodes_find(nodes, block, version);
    if (node == NULL) {
        return -ERR_corrupt; /* a child that no table knows */
    }
    int rc = 0;
    if (drop_level(node) > 0) {
        rc = drop_open(m, node, need);
    } else {
        m->drop_count--;
    }
    if (rc == 0) {
        tree_nodes_drop(nodes, block, version);
    }
    return rc;
}

int tree_maintain_drop_some(struct tree_maintain *m, struct kv_need *need)
{
    struct tree *t = m->t;
    struct tree_state *s = NULL;
    int rc = tree_state_copy(t->state, &s);
    if (rc < 0) {
        return rc;
    }
    s->version++;
    unsigned done = 0;
    while (rc == 0 && done < DROPS_AT_ONCE && m->drop_count > 0) {
        rc = drop_one(m, s->version, need);
        done += rc == 0 ? 1 : 0;
    }
    if (done == 0) {
        tree_state_unref(s);
        return rc;
    }
    tree_state_publish(t, s);
    return rc < 0 ? rc : m->drop_count > 0 ? 1 : 0;
}

int tree_maintain_drops(const struct tree *t, uint64_t **ret, size_t *ret_count)
{
    const struct tree_maintain *m = t->maintain;
    uint64_t *copy = mem_calloc(m->drop_count + 1, sizeof *copy);
    if (copy == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < m->drop_count; i++) {
        copy[i] = m->drop[i];
    }
    *ret = copy;
    *ret_count = m->drop_count;
    return 0;
}

int tree_maintain_add_drop(struct tree *t, uint64_t block)
{
    int rc = tree_maintain_drop_room(t->maintain, 1);
    if (rc == 0) {
        tree_maintain_drop_add(t->maintain, block);
    }
    return rc;
}
