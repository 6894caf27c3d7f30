/*
 * metanode/seat.c -- which chains a target is a member of: derived from the rows, in memory, so
 * that what a heartbeat costs depends on the chains of that target and not on those of the cluster.
 */
#include "metanode/metanode_priv.h"

struct seats {
    struct dict_node node;
    uint32_t target;
    struct list all;
};

static bool seats_equal(const struct dict_node *node, const void *key)
{
    return container_of(node, const struct seats, node)->target == *(const uint32_t *)key;
}

static void seats_dropped(struct dict_node *node, void *owner)
{
    (void)owner;
    mem_free(container_of(node, struct seats, node));
}

static const struct dict_ops seats_dict_ops = {.equal = seats_equal, .dropped = seats_dropped};

void metanode_seats_init(struct metanode *m)
{
    dict_init(&m->chains.by_target, &seats_dict_ops, m, 0);
    list_init(&m->chains.none);
}

void metanode_seats_fini(struct metanode *m)
{
    dict_fini(&m->chains.by_target);
}

struct list *metanode_seats_of(struct metanode *m, uint32_t target)
{
    struct dict *d = &m->chains.by_target;
    struct dict_node *node = dict_find(d, dict_hash_u64(d, target), &target);
    return node == NULL ? &m->chains.none : &container_of(node, struct seats, node)->all;
}

size_t metanode_seat_place(const struct metanode_seat *s)
{
    return (size_t)(s - s->chain->seat);
}

int metanode_seats_reserve(struct metanode *m, const struct cluster_row *row)
{
    struct dict *d = &m->chains.by_target;
    for (size_t i = 0; i < row->count; i++) {
        uint32_t target = row->member[i].target;
        if (metanode_seats_of(m, target) != &m->chains.none) {
            continue;
        }
        struct seats *s = mem_zalloc(sizeof *s);
        if (s == NULL) {
            return -ENOMEM;
        }
        s->target = target;
        list_init(&s->all);
        if (dict_insert(d, dict_hash_u64(d, target), &s->node) < 0) {
            mem_free(s);
            return -ENOMEM;
        }
    }
    return 0;
}

void metanode_seats_take(struct metanode_chain *c, size_t old_count)
{
    for (size_t i = 0; i < old_count; i++) {
        list_remove(&c->seat[i].node);
    }
    for (size_t i = 0; i < c->row.count; i++) {
        struct list *all = metanode_seats_of(c->m, c->row.member[i].target);
        CHECK(all != &c->m->chains.none);
        c->seat[i] = (struct metanode_seat){.chain = c};
        list_push_back(all, &c->seat[i].node);
    }
}
