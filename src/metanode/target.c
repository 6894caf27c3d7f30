/*
 * metanode/target.c -- what the leader knows of each target: its record, and in memory only when it
 * was heard, on which connection, and when its lease runs out (chain.md R7: T after the receipt of
 * the last heartbeat that was granted).
 */
#include "metanode/write_priv.h"

#include "base/log.h"

static void target_expired(struct loop_timer *timer);

static bool target_equal(const struct dict_node *node, const void *key)
{
    return container_of(node, const struct metanode_target, node)->id == *(const uint32_t *)key;
}

static void target_dropped(struct dict_node *node, void *owner)
{
    const struct metanode *m = owner;
    struct metanode_target *t = container_of(node, struct metanode_target, node);
    loop_timer_cancel(m->env->loop, &t->expiry);
    mem_free(t);
}

static const struct dict_ops target_dict_ops = {.equal = target_equal, .dropped = target_dropped};

void metanode_targets_init(struct metanode *m)
{
    dict_init(&m->targets.by_id, &target_dict_ops, m, 0);
    list_init(&m->targets.all);
    list_init(&m->targets.writes);
}

void metanode_targets_fini(struct metanode *m)
{
    list_init(&m->targets.all);
    dict_fini(&m->targets.by_id);
}

struct metanode_target *metanode_target_find(struct metanode *m, uint32_t id)
{
    struct dict *d = &m->targets.by_id;
    struct dict_node *node = dict_find(d, dict_hash_u64(d, id), &id);
    m->targets.visits++;
    return node == NULL ? NULL : container_of(node, struct metanode_target, node);
}

struct metanode_target *metanode_target_of(struct metanode *m, const struct uuid *uuid)
{
    LIST_FOR_EACH(node, &m->targets.all)
    {
        struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        if (uuid_equal(&t->uuid, uuid)) {
            return t;
        }
    }
    return NULL;
}

struct metanode_target *metanode_target_who(struct metanode *m, struct peer_request *r, uint32_t id,
                                            uint64_t incarnation)
{
    if (!metanode_admit(m, r)) {
        return NULL;
    }
    struct metanode_target *t = metanode_target_find(m, id);
    if (t == NULL || !t->registered || t->incarnation != incarnation) {
        metanode_refuse(m, NULL, r, -ESTALE, "register first");
        return NULL;
    }
    return t;
}

int metanode_target_put(struct metanode *m, const struct proto_target *r)
{
    struct metanode_target *t = metanode_target_find(m, r->id);
    if (t == NULL) {
        t = mem_zalloc(sizeof *t);
        if (t == NULL) {
            return -ENOMEM;
        }
        t->m = m;
        t->id = r->id;
        t->uuid = r->uuid;
        t->expiry.fire = target_expired;
        t->total = r->total;
        t->free = r->free;
        t->used = r->used;
        if (dict_insert(&m->targets.by_id, dict_hash_u64(&m->targets.by_id, t->id), &t->node) < 0) {
            mem_free(t);
            return -ENOMEM;
        }
        list_push_back(&m->targets.all, &t->all);
        m->targets.count++;
    }
    proto_bytes_to_c(r->address, t->address, sizeof t->address);
    proto_bytes_to_c(r->host, t->host, sizeof t->host);
    proto_bytes_to_c(r->rack, t->rack, sizeof t->rack);
    proto_bytes_to_c(r->labels, t->labels, sizeof t->labels);
    proto_bytes_to_c(r->name, t->name, sizeof t->name);
    t->weight = r->weight;
    t->plan = r->plan;
    t->heir = r->heir;
    t->logged = r->incarnation;
    t->incarnation = base_max(t->incarnation, r->incarnation);
    return 0;
}

struct proto_target metanode_target_record(const struct metanode_target *t)
{
    return (struct proto_target){
        .id = t->id,
        .uuid = t->uuid,
        .address = proto_bytes_text(t->address),
        .host = proto_bytes_text(t->host),
        .rack = proto_bytes_text(t->rack),
        .labels = proto_bytes_text(t->labels),
        .weight = t->weight,
        .state = t->alive ? PROTO_TARGET_UP : PROTO_TARGET_DOWN,
        .total = t->total,
        .free = t->free,
        .used = t->used,
        .incarnation = t->incarnation,
        .name = proto_bytes_text(t->name),
        .plan = t->plan,
        .heir = t->heir,
    };
}

static void target_written(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct metanode_target_write *x = container_of(w, struct metanode_target_write, waiter);
    list_remove(&x->node);
    x->done(x, rc == 0 ? reply->rc : rc, reply);
}

int metanode_target_write(struct metanode *m, struct metanode_target_write *x,
                          const struct proto_target *record)
{
    struct namespace_target_put put = {.target = *record};
    LIST_FOR_EACH(node, &m->targets.writes)
    {
        if (uuid_equal(&LIST_ENTRY(node, struct metanode_target_write, node)->uuid,
                       &record->uuid)) {
            return -ERR_busy;
        }
    }
    x->waiter.done = target_written;
    x->uuid = record->uuid;
    int rc =
        metanode_propose(m, NAMESPACE_TARGET_PUT, &namespace_target_put_type, &put, &x->waiter);
    if (rc == 0) {
        list_push_back(&m->targets.writes, &x->node);
    }
    return rc;
}

bool metanode_target_named(const struct metanode_target *by, uint32_t id)
{
    bool found = false;
    for (size_t i = 0; i < by->suspect_count && !found; i++) {
        found = by->suspect[i] == id;
    }
    return found;
}

void metanode_target_gone(struct metanode_target *t, const char *why)
{
    if (t->alive) {
        log_warn(t->m->env->log, "target is gone", LOG_U64("target", t->id),
                 LOG_TEXT("address", t->address), LOG_TEXT("why", why));
    }
    t->alive = false;
    t->suspect_count = 0;
    t->sick[0] = 0; /* its next life says so again */
    t->ejected = false;
    metanode_chains_gone(t->m, t->id);
    metanode_moves_touch(t->m);
    metanode_fence_kick(t->m); /* who serves nobody needs no fence */
}

static void target_expired(struct loop_timer *timer)
{
    struct metanode_target *t = container_of(timer, struct metanode_target, expiry);
    metanode_target_gone(t, "its lease has run out");
}

/* A new leader expires nobody before it could hear of them for T: it has led for longer. */
void metanode_targets_start(struct metanode *m)
{
    LIST_FOR_EACH(node, &m->targets.all)
    {
        struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        loop_timer_at(m->env->loop, &t->expiry, m->serve_ns + metanode_lease_ns(m));
    }
}

void metanode_target_down(struct metanode *m, struct peer_link *l)
{
    LIST_FOR_EACH(node, &m->targets.all)
    {
        struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        if (t->link == l) {
            t->link = NULL; /* its lease goes on: only silence, or its master, says more */
        }
    }
}
