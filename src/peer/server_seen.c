/*
 * peer/server_seen.c -- which links are dead: those below the newest that was seen.
 *
 * Two kinds of entries: of each (role, session) the newest generation, under the slot ALL_SLOTS; of
 * each (role, session, slot) the newest link number within it. The table is bounded; the entry that
 * was not used for longest goes first, which forgets senders that are gone.
 */
#include "peer/server_priv.h"

#include "base/mem.h"

#define SEEN_MAX 65536u
#define ALL_SLOTS UINT32_MAX

struct seen_key {
    uint64_t session;
    uint32_t role, slot;
};
struct peer_seen {
    struct dict_node node;
    struct list order;
    struct seen_key key;
    uint64_t generation, number;
    struct list links; /* of ALL_SLOTS: those that are up */
    size_t link_count;
};

static bool seen_equal(const struct dict_node *node, const void *key)
{
    const struct peer_seen *s =
        (const struct peer_seen *)(const void *)((const char *)node -
                                                 offsetof(struct peer_seen, node));
    const struct seen_key *k = key;
    return s->key.session == k->session && s->key.role == k->role && s->key.slot == k->slot;
}

static void seen_dropped(struct dict_node *node, void *owner)
{
    (void)owner;
    mem_free(container_of(node, struct peer_seen, node));
}

static const struct dict_ops seen_ops = {.equal = seen_equal, .dropped = seen_dropped};

void peer_seen_init(struct peer_server *s)
{
    list_init(&s->seen_order);
    dict_init(&s->seen, &seen_ops, s, loop_random(s->loop));
}

void peer_seen_fini(struct peer_server *s)
{
    dict_fini(&s->seen);
}

/* Whose links are here, is in use: there are fewer of these than the table has room for. */
static void seen_forget_oldest(struct peer_server *s)
{
    struct peer_seen *e;
    for (;;) {
        e = LIST_ENTRY(list_pop_front(&s->seen_order), struct peer_seen, order);
        if (e->link_count == 0) {
            break;
        }
        list_push_back(&s->seen_order, &e->order);
    }
    dict_remove(&s->seen, &e->node);
    mem_free(e);
}

/* The entry of a key, made when there is none. NULL: no memory. */
static struct peer_seen *seen_get(struct peer_server *s, const struct peer_link *l, uint32_t slot)
{
    struct seen_key key = {.session = l->session, .role = l->role, .slot = slot};
    uint64_t packed[2] = {key.session, (uint64_t)key.role << 32 | key.slot};
    uint64_t hash = dict_hash(&s->seen, packed, sizeof packed);
    struct dict_node *node = dict_find(&s->seen, hash, &key);
    if (node != NULL) {
        struct peer_seen *e = container_of(node, struct peer_seen, node);
        list_remove(&e->order);
        list_push_back(&s->seen_order, &e->order);
        return e;
    }
    if (s->seen.count >= SEEN_MAX) {
        seen_forget_oldest(s);
    }
    struct peer_seen *e = mem_zalloc(sizeof *e);
    if (e == NULL || dict_insert(&s->seen, hash, &e->node) < 0) {
        mem_free(e);
        return NULL;
    }
    e->key = key;
    list_init(&e->links);
    list_push_back(&s->seen_order, &e->order);
    return e;
}

int peer_seen_note(struct peer_server *s, const struct peer_link *l)
{
    if (l->session == 0 || l->number == 0) {
        return 0; /* not numbered: nothing to compare */
    }
    struct peer_seen *all = seen_get(s, l, ALL_SLOTS);
    struct peer_seen *one = all == NULL ? NULL : seen_get(s, l, l->slot);
    if (one == NULL) {
        return -ENOMEM;
    }
    bool stale = l->generation < all->generation ||
                 (l->generation == one->generation && l->number <= one->number);
    if (stale) {
        return -ERR_stale_request;
    }
    all->generation = l->generation;
    one->generation = l->generation;
    one->number = l->number;
    return 0;
}

static bool replaces(const struct peer_link *by, const struct peer_link *l)
{
    if (by->session == 0 || by->session != l->session || by->role != l->role) {
        return false;
    }
    return l->generation < by->generation ||
           (l->generation == by->generation && l->slot == by->slot && l->number < by->number);
}

int peer_seen_join(struct peer_server *s, struct peer_guest *g)
{
    peer_seen_leave(g);
    if (g->link.session == 0) {
        return 0;
    }
    struct peer_seen *e = seen_get(s, &g->link, ALL_SLOTS);
    if (e == NULL) {
        return -ENOMEM;
    }
    size_t staying = 0;
    LIST_FOR_EACH_SAFE(at, &e->links)
    {
        struct peer_guest *old = LIST_ENTRY(at, struct peer_guest, by_sender);
        if (!replaces(&g->link, &old->link)) {
            staying++;
            continue;
        }
        stats_count(&s->counters.replaced, 1);
        peer_seen_leave(old);
        net_conn_close(old->conn, -ERR_stale_request, "replaced by a newer link");
    }
    if (staying >= s->opt.max_sender_links) {
        stats_count(&s->counters.refused_many, 1);
        return -ERR_busy;
    }
    e->link_count++;
    g->sender = e;
    list_push_back(&e->links, &g->by_sender);
    return 0;
}

void peer_seen_leave(struct peer_guest *g)
{
    if (g->sender != NULL) {
        g->sender->link_count--;
        g->sender = NULL;
        list_remove(&g->by_sender);
    }
}
