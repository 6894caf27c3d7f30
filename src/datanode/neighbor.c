/*
 * datanode/neighbor.c -- links to other targets: one control link and DATANODE_LINKS bulk links
 * each, with rising numbers (R10, done by peer/). Messages go out on a link that is up; whoever
 * needs one waits here. Where a target is, the cluster map says (control.c).
 *
 * R6: those that chains need are asked every tick; one that was silent for 2 s is a suspect. So is
 * one that answers but to which a bulk link that somebody waits for was not to be had for so long:
 * updates of the chunks of that slot do not reach it. A bulk link that is up proves itself by its
 * keepalive; behind a lot of data a question there would be late, and say nothing. Whose own loop
 * stood still accuses nobody for it.
 */
#include "datanode/worker_priv.h"

/* A tick that comes no later than that is no sign of a loop that stood still. */
#define NEIGHBOR_LATE_MS 500u

static const struct proto_ping_request ping_request = {.cookie = 1};

static bool neighbor_equal(const struct dict_node *node, const void *key)
{
    const struct datanode_neighbor *n =
        (const struct datanode_neighbor *)(const void *)((const char *)node -
                                                         offsetof(struct datanode_neighbor, node));
    return n->target == *(const uint32_t *)key;
}

static void neighbor_dropped(struct dict_node *node, void *owner)
{
    (void)owner;
    struct datanode_neighbor *n = container_of(node, struct datanode_neighbor, node);
    mem_free(n);
}

const struct dict_ops datanode_neighbor_ops = {.equal = neighbor_equal,
                                               .dropped = neighbor_dropped};

static void neighbor_ping_done(struct peer_call *c, const struct peer_reply *r)
{
    struct peer_call *first = c - c->slot; /* element 0 of n->ping */
    struct datanode_neighbor *n =
        (struct datanode_neighbor *)(void *)((char *)first -
                                             offsetof(struct datanode_neighbor, ping));
    if (r->rc == 0 && c->slot == 0) {
        n->heard_ns = loop_now_ns(n->worker->loop);
    }
}

static void neighbor_ping(struct datanode_neighbor *n, unsigned slot)
{
    struct peer_call *c = &n->ping[slot];
    if (n->peer == NULL || peer_call_active(c)) {
        return;
    }
    *c = (struct peer_call){.done = neighbor_ping_done,
                            .request = &ping_request,
                            .opcode = PROTO_OP_ping,
                            .slot = (uint16_t)slot,
                            .flags = PEER_CALL_AGAIN,
                            .timeout_ms = 1900};
    peer_call(n->peer, c);
}

static void neighbor_up(struct peer_user *user, struct peer_link *l)
{
    struct datanode_neighbor *n = container_of(user, struct datanode_neighbor, user);
    unsigned slot = l->slot;
    if (slot > DATANODE_LINKS) {
        return;
    }
    n->missed_ns[slot] = 0;
    if (slot == 0) {
        n->heard_ns = loop_now_ns(n->worker->loop);
    }
    struct list told;
    list_init(&told);
    list_splice_back(&told, &n->waiting[slot]);
    while (!list_empty(&told)) {
        struct datanode_send *s = LIST_ENTRY(list_pop_front(&told), struct datanode_send, node);
        if (n->peer != NULL && peer_link_of(n->peer, slot) == l) {
            s->ready(s, l);
        } else {
            list_push_back(&n->waiting[slot], &s->node);
        }
    }
}

static void neighbor_down(struct peer_user *user, struct peer_link *l, int rc, const char *reason)
{
    struct datanode_neighbor *n = container_of(user, struct datanode_neighbor, user);
    log_info(n->worker->env.log, "link to a target has ended", LOG_U64("target", n->target),
             LOG_U64("slot", l->slot), LOG_RC(rc), LOG_TEXT("reason", reason));
}

static const struct peer_user_ops neighbor_ops = {.up = neighbor_up, .down = neighbor_down};

static void neighbor_connect(struct datanode_neighbor *n)
{
    struct datanode_worker *w = n->worker;
    if (n->peer != NULL || !n->known || w->closing) {
        return;
    }
    const struct peer_options opt = {.env = &w->env,
                                     .user = &n->user,
                                     .secrets = w->opt.secrets,
                                     .cluster_id = w->opt.cluster_id,
                                     .role = PROTO_ROLE_TARGET,
                                     .name = w->name,
                                     .addresses = &n->address,
                                     .address_count = 1,
                                     .pool = w->member_pool,
                                     .bulk_count = DATANODE_LINKS,
                                     .session = w->control.target,
                                     .generation = w->incarnation};
    if (peer_new(&opt, &n->peer) < 0) {
        return; /* the tick tries again */
    }
    peer_start(n->peer);
    for (unsigned slot = 0; slot <= DATANODE_LINKS; slot++) {
        if (!list_empty(&n->waiting[slot])) {
            neighbor_ping(n, slot); /* asked for before its address was known */
        }
    }
}

static void neighbor_renew(struct loop_task *t)
{
    struct datanode_neighbor *n = container_of(t, struct datanode_neighbor, renew);
    n->peer = peer_free(n->peer);
    neighbor_connect(n);
}

struct datanode_neighbor *datanode_neighbor_get(struct datanode_worker *w, uint32_t target)
{
    uint64_t hash = dict_hash_u64(&w->neighbors, target);
    struct dict_node *node = dict_find(&w->neighbors, hash, &target);
    if (node != NULL) {
        return container_of(node, struct datanode_neighbor, node);
    }
    struct datanode_neighbor *n = mem_zalloc(sizeof *n);
    if (n == NULL) {
        return NULL;
    }
    n->worker = w;
    n->target = target;
    n->user.ops = &neighbor_ops;
    n->renew.run = neighbor_renew;
    for (unsigned i = 0; i <= DATANODE_LINKS; i++) {
        list_init(&n->waiting[i]);
    }
    if (dict_insert(&w->neighbors, hash, &n->node) < 0) {
        mem_free(n);
        return NULL;
    }
    list_push_back(&w->neighbor_list, &n->all);
    datanode_control_want_map(w);
    return n;
}

void datanode_neighbor_set_address(struct datanode_neighbor *n, struct proto_bytes address)
{
    struct net_address a;
    char text[NET_ADDRESS_SIZE];
    (void)proto_bytes_to_c(address, text, sizeof text);
    if (net_address_parse(text, 0, &a, NULL) < 0) {
        return;
    }
    bool same = n->known && strcmp(a.text, n->address.text) == 0;
    n->address = a;
    n->known = true;
    if (n->peer == NULL) {
        neighbor_connect(n);
    } else if (!same) {
        loop_defer(n->worker->loop, &n->renew);
    }
}

struct peer_link *datanode_neighbor_link(struct datanode_neighbor *n, unsigned slot,
                                         struct datanode_send *s)
{
    neighbor_connect(n);
    struct peer_link *l = n->peer == NULL ? NULL : peer_link_of(n->peer, slot);
    if (l != NULL) {
        return l;
    }
    list_push_back(&n->waiting[slot], &s->node);
    if (n->missed_ns[slot] == 0) {
        n->missed_ns[slot] = loop_now_ns(n->worker->loop);
    }
    neighbor_ping(n, slot);
    return NULL;
}

bool datanode_neighbor_call(struct datanode_neighbor *n, struct peer_call *c,
                            const struct peer_call *model)
{
    neighbor_connect(n);
    if (n->peer == NULL) {
        return false;
    }
    *c = *model;
    peer_call(n->peer, c);
    return true;
}

void datanode_neighbor_unwait(struct datanode_send *s)
{
    if (s->node.next != NULL) {
        list_remove(&s->node);
    }
}

void datanode_neighbor_drop(struct datanode_neighbor *n, unsigned slot, const char *reason)
{
    if (n->peer != NULL) {
        peer_drop_link(n->peer, slot, reason);
    }
}

void datanode_neighbor_answered(struct datanode_neighbor *n, unsigned slot,
                                const struct peer_reply *r)
{
    if (!r->answered && r->rc == -ERR_deadline) {
        datanode_neighbor_drop(n, slot, "an answer is late");
    }
}

static void neighbors_watch(struct datanode_worker *w, uint64_t now_ns)
{
    LIST_FOR_EACH(at, &w->chain_list)
    {
        const struct datanode_chain *c = LIST_ENTRY(at, struct datanode_chain, all);
        struct datanode_neighbor *n =
            c->successor == 0 ? NULL : datanode_neighbor_get(w, c->successor);
        if (n != NULL && n->watched_ns != now_ns && !n->watched) {
            n->heard_ns = base_max(n->heard_ns, now_ns); /* its time begins here */
        }
        if (n != NULL) {
            n->watched_ns = now_ns;
        }
    }
}

/*
 * Whoever stood still itself has heard of nobody and had no link for a while: that says nothing
 * about the others. Their time begins anew.
 */
static uint64_t neighbors_awake(struct datanode_worker *w)
{
    uint64_t now_ns = loop_now_ns(w->loop);
    uint64_t most_ns = (w->control.heartbeat_ms + NEIGHBOR_LATE_MS) * NS_PER_MS;
    bool slept = w->neighbors_ns != 0 && now_ns > w->neighbors_ns + most_ns;
    w->neighbors_ns = now_ns;
    LIST_FOR_EACH(at, &w->neighbor_list)
    {
        struct datanode_neighbor *n = LIST_ENTRY(at, struct datanode_neighbor, all);
        n->heard_ns = slept ? now_ns : n->heard_ns;
        for (unsigned slot = 1; slept && slot <= DATANODE_LINKS; slot++) {
            n->missed_ns[slot] = n->missed_ns[slot] == 0 ? 0 : now_ns;
        }
    }
    return now_ns;
}

void datanode_neighbors_tick(struct datanode_worker *w)
{
    uint64_t now_ns = neighbors_awake(w);
    neighbors_watch(w, now_ns);
    LIST_FOR_EACH(at, &w->neighbor_list)
    {
        struct datanode_neighbor *n = LIST_ENTRY(at, struct datanode_neighbor, all);
        n->watched = n->watched_ns == now_ns;
        n->accused = n->accused && n->watched;
        if (!n->known) {
            datanode_control_want_map(w);
            continue;
        }
        neighbor_connect(n);
        if (n->watched) {
            neighbor_ping(n, 0);
        }
        for (unsigned slot = 0; slot <= DATANODE_LINKS; slot++) {
            if (list_empty(&n->waiting[slot])) {
                n->missed_ns[slot] = 0; /* nobody wants it any more */
            } else {
                neighbor_ping(n, slot);
            }
        }
    }
}

static bool neighbor_silent(const struct datanode_neighbor *n, uint64_t now_ns)
{
    bool silent = now_ns > n->heard_ns + DATANODE_SUSPECT_NS;
    for (unsigned slot = 1; slot <= DATANODE_LINKS; slot++) {
        uint64_t since_ns = n->missed_ns[slot];
        silent = silent || (since_ns != 0 && now_ns > since_ns + DATANODE_SUSPECT_NS);
    }
    return n->known && silent;
}

size_t datanode_neighbors_suspects(struct datanode_worker *w, uint32_t *ret, size_t max)
{
    size_t count = 0;
    uint64_t now_ns = neighbors_awake(w); /* a heartbeat may come before the tick */
    LIST_FOR_EACH(at, &w->neighbor_list)
    {
        const struct datanode_neighbor *n = LIST_ENTRY(at, struct datanode_neighbor, all);
        bool suspect = neighbor_silent(n, now_ns) || n->accused;
        if (n->watched && suspect && count < max) {
            ret[count++] = n->target;
        }
    }
    return count;
}

void datanode_neighbors_free(struct datanode_worker *w)
{
    LIST_FOR_EACH(at, &w->neighbor_list)
    {
        struct datanode_neighbor *n = LIST_ENTRY(at, struct datanode_neighbor, all);
        loop_undefer(w->loop, &n->renew);
        n->peer = peer_free(n->peer);
    }
    list_init(&w->neighbor_list);
    dict_clear(&w->neighbors);
}
