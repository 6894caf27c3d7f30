#include "client/map_priv.h"

#include "base/text.h"
#include "cluster/placement.h"

#include <stdio.h>
#include <string.h>

/*
 * The map comes in pages by chain id; classes, tables and targets with the first, and tables that
 * do not fit there in pages before the second. A fetch that is asked for while one is under way is
 * made after it, so that nobody is told of an older state than that in which he asked.
 */

#define MAP_RETRY_MS 100u
#define LABEL_SIZE (CLIENT_LABEL_MAX + 1)

struct map_table {
    struct proto_table table; /* chains: owned */
    struct list node;
};
struct map_row {
    struct dict_node node;
    struct cluster_row row;
};
struct client_target {
    struct dict_node node;
    struct opendfs *fs;
    uint32_t id;
    struct net_address address, used; /* as the map says; of `peer` */
    bool here;                        /* a link to it has not left this machine */
    char name[LABEL_SIZE], host[LABEL_SIZE], rack[LABEL_SIZE];
    struct peer *peer;
    struct peer_user user;
    struct client_source source;
};
struct client_map {
    struct opendfs *fs;
    struct client_call call;
    struct proto_cluster_map_request request;
    struct loop_timer retry;
    struct loop_task reap;
    bool fetching, wanted;
    uint64_t epoch, newest_epoch; /* fetched; heard of */
    struct list waiting, next;    /* for this fetch; for the one after it */
    struct list tables;
    struct dict rows, targets;
    struct client_class *classes; /* owned */
    size_t class_count;
    struct list old_peers;
};
struct old_peer {
    struct peer *peer;
    struct list node;
};

static bool row_equal(const struct dict_node *n, const void *key)
{
    return container_of((struct dict_node *)n, struct map_row, node)->row.chain ==
           *(const uint32_t *)key;
}
static void row_dropped(struct dict_node *n, void *owner)
{
    (void)owner;
    mem_free(container_of(n, struct map_row, node));
}
static const struct dict_ops row_ops = {.equal = row_equal, .dropped = row_dropped};

static bool target_equal(const struct dict_node *n, const void *key)
{
    return container_of((struct dict_node *)n, struct client_target, node)->id ==
           *(const uint32_t *)key;
}
static void target_dropped(struct dict_node *n, void *owner)
{
    struct client_target *t = container_of(n, struct client_target, node);
    (void)owner;
    peer_free(t->peer);
    stats_free(t->source.stats);
    mem_free(t);
}
static const struct dict_ops target_ops = {.equal = target_equal, .dropped = target_dropped};

static void reap_run(struct loop_task *task)
{
    struct client_map *m = container_of(task, struct client_map, reap);
    struct list *at;
    while ((at = list_pop_front(&m->old_peers)) != NULL) {
        struct old_peer *o = LIST_ENTRY(at, struct old_peer, node);
        peer_free(o->peer);
        mem_free(o);
    }
}

/* --- taking in ----------------------------------------------------------------------------------
 */

void client_map_take_row(struct opendfs *fs, const struct proto_row *told)
{
    struct client_map *m = fs->map;
    struct cluster_row row;
    if (told->epoch == 0 || cluster_row_from_proto(told, &row) < 0) {
        return; /* empty: the refusal had none */
    }
    uint64_t hash = dict_hash_u64(&m->rows, row.chain);
    struct dict_node *n = dict_find(&m->rows, hash, &row.chain);
    if (n != NULL) {
        struct map_row *known = container_of(n, struct map_row, node);
        if (row.epoch > known->row.epoch) {
            known->row = row;
        }
        return;
    }
    struct map_row *fresh = mem_zalloc(sizeof *fresh);
    if (fresh != NULL) {
        fresh->row = row;
        if (dict_insert(&m->rows, hash, &fresh->node) < 0) {
            mem_free(fresh);
        }
    }
}

static void target_add_stats(struct client_target *t)
{
    struct client_source *s = &t->source;
    char name[16];
    snprintf(name, sizeof name, "%u", t->id);
    s->stats = stats_new(t->fs->target_stats, name);
    stats_add_counter(s->stats, "reads", &s->reads);
    stats_add_counter(s->stats, "failures", &s->failures);
    stats_add_counter(s->stats, "bad_cells", &s->bad_cells);
    stats_add_counter(s->stats, "hedges", &s->hedges);
    stats_add_histogram(s->stats, "read_time", &s->read_time);
}

static struct client_target *map_new_target(struct client_map *m, uint32_t id)
{
    struct client_target *t = mem_zalloc(sizeof *t);
    if (t == NULL) {
        return NULL;
    }
    t->fs = m->fs;
    t->id = id;
    t->source.distance = CLIENT_ELSEWHERE;
    if (dict_insert(&m->targets, dict_hash_u64(&m->targets, id), &t->node) < 0) {
        mem_free(t);
        return NULL;
    }
    target_add_stats(t);
    return t;
}

static void map_take_target(struct client_map *m, const struct proto_target *from)
{
    uint64_t hash = dict_hash_u64(&m->targets, from->id);
    struct dict_node *n = dict_find(&m->targets, hash, &from->id);
    char text[NET_ADDRESS_SIZE];
    struct net_address address;
    if (net_address_parse(proto_bytes_to_c(from->address, text, sizeof text), 0, &address, NULL) <
        0) {
        return; /* it has never registered */
    }
    struct client_target *t =
        n != NULL ? container_of(n, struct client_target, node) : map_new_target(m, from->id);
    if (t == NULL) {
        return; /* with the next map */
    }
    t->here = t->here && strcmp(t->address.text, address.text) == 0;
    t->address = address;
    proto_bytes_to_c(from->name, t->name, sizeof t->name);
    proto_bytes_to_c(from->host, t->host, sizeof t->host);
    proto_bytes_to_c(from->rack, t->rack, sizeof t->rack);
}

/* On our own machine: it says so, its address cannot be elsewhere, or was ours. */
static bool target_is_here(const struct client_target *t)
{
    return t->here || net_address_is_loopback(&t->address) ||
           (t->fs->host[0] != '\0' && strcmp(t->fs->host, t->host) == 0);
}

/* Who has not been told in which rack it is finds out by a target beside it. */
static void map_measure(struct client_map *m)
{
    const char *rack = m->fs->rack;
    struct dict_iter it;
    struct dict_node *n;
    dict_iter_init(&it, &m->targets);
    while (rack[0] == '\0' && (n = dict_iter_next(&it)) != NULL) {
        const struct client_target *t = container_of(n, struct client_target, node);
        rack = target_is_here(t) ? t->rack : rack;
    }
    dict_iter_init(&it, &m->targets);
    while ((n = dict_iter_next(&it)) != NULL) {
        struct client_target *t = container_of(n, struct client_target, node);
        t->source.distance = target_is_here(t)
                                 ? CLIENT_SAME_HOST
                                 : client_distance_of(m->fs->host, rack, t->host, t->rack);
    }
}

static struct map_table *map_find_table(struct client_map *m, uint32_t class_id, uint32_t version)
{
    LIST_FOR_EACH(at, &m->tables)
    {
        struct map_table *t = LIST_ENTRY(at, struct map_table, node);
        if (t->table.class_id == class_id && t->table.version == version) {
            return t;
        }
    }
    return NULL;
}

static void map_take_table(struct client_map *m, const struct proto_table *from)
{
    if (from->chains.count == 0 ||
        map_find_table(m, from->class_id, from->version) != NULL) { /* immutable once published */
        return;
    }
    struct map_table *t = mem_zalloc(sizeof *t);
    uint32_t *chains = mem_dup(from->chains.at, from->chains.count * sizeof *chains);
    if (t == NULL || chains == NULL) {
        mem_free(t);
        mem_free(chains);
        return;
    }
    t->table = *from;
    t->table.chains.at = chains;
    list_push_front(&m->tables, &t->node);
}

static void map_take_classes(struct client_map *m, const struct proto_storage_class_list *l)
{
    struct client_class *classes = l->count == 0 ? NULL : mem_calloc(l->count, sizeof *classes);
    if (classes == NULL) {
        return; /* not the first page, or the old ones stay */
    }
    for (size_t i = 0; i < l->count; i++) {
        classes[i].id = l->at[i].id;
        classes[i].copies = l->at[i].copies;
        proto_bytes_to_c(l->at[i].name, classes[i].name, sizeof classes[i].name);
    }
    mem_free(m->classes);
    m->classes = classes;
    m->class_count = l->count;
}

static void map_take(struct client_map *m, const struct proto_cluster_map_reply *r)
{
    map_take_classes(m, &r->classes);
    for (size_t i = 0; i < r->rows.count; i++) {
        client_map_take_row(m->fs, &r->rows.at[i]);
    }
    for (size_t i = 0; i < r->tables.count; i++) {
        map_take_table(m, &r->tables.at[i]);
    }
    for (size_t i = 0; i < r->targets.count; i++) {
        map_take_target(m, &r->targets.at[i]);
    }
    map_measure(m);
    for (size_t i = 0; i < r->classes.count; i++) {
        const struct proto_storage_class *c = &r->classes.at[i];
        if (i == 0 || c->id == 1) { /* new files are of the first, unless their parent says so */
            m->fs->inline_limit = c->inline_limit == 0 ? PROTO_CELL_BYTES : c->inline_limit;
        }
    }
}

/* --- fetching ------------------------------------------------------------------------------------
 */

static void map_fetch(struct client_map *m, uint32_t first_chain, uint64_t first_table);

static void map_begin(struct client_map *m)
{
    m->fetching = true;
    m->wanted = false;
    list_splice_back(&m->waiting, &m->next);
    map_fetch(m, 0, 0);
}

static void map_finish(struct client_map *m, int rc)
{
    struct list due, *at;
    list_init(&due);
    list_splice_back(&due, &m->waiting);
    if (m->fs->freeing) { /* there will be no other fetch */
        list_splice_back(&due, &m->next);
    }
    m->fetching = false;
    while ((at = list_pop_front(&due)) != NULL) {
        struct client_map_waiter *w = LIST_ENTRY(at, struct client_map_waiter, node);
        w->done(w, rc);
    }
    if (m->fs->freeing || m->fetching) {
        return;
    }
    if (!list_empty(&m->next) || m->wanted) {
        map_begin(m);
    } else if (rc < 0 || m->newest_epoch > m->epoch) {
        loop_timer_in(m->fs->loop, &m->retry, MAP_RETRY_MS * CLIENT_NS_PER_MS);
    }
}

static void map_fetched(struct client_call *c, const struct peer_reply *r)
{
    struct client_map *m = container_of(c, struct client_map, call);
    if (r->rc < 0) {
        map_finish(m, r->rc);
        return;
    }
    const struct proto_cluster_map_reply *reply = r->body;
    map_take(m, reply);
    m->epoch = reply->epoch;
    const struct proto_cluster_map_request asked = m->request;
    if (reply->next_table > asked.first_table) {
        map_fetch(m, reply->next_chain, reply->next_table);
    } else if (reply->more && (asked.first_table > 0 || reply->next_chain > asked.first_chain)) {
        map_fetch(m, reply->next_chain, 0);
    } else {
        map_finish(m, 0);
    }
}

/* Its request has no caller: it is told who asks by the link. */
static void map_fetch(struct client_map *m, uint32_t first_chain, uint64_t first_table)
{
    m->request =
        (struct proto_cluster_map_request){.first_chain = first_chain, .first_table = first_table};
    m->call.done = map_fetched;
    stats_count(&m->fs->counters.map_fetches, 1);
    client_ask(m->fs, &m->call, PROTO_OP_cluster_map, &m->request);
}

static void map_retry(struct loop_timer *t)
{
    struct client_map *m = container_of(t, struct client_map, retry);
    if (!m->fetching) {
        map_begin(m);
    }
}

void client_map_refresh(struct opendfs *fs, struct client_map_waiter *w)
{
    struct client_map *m = fs->map;
    list_push_back(&m->next, &w->node);
    if (!m->fetching) {
        map_begin(m);
    }
}

void client_map_unwait(struct client_map_waiter *w)
{
    if (w->node.next != NULL) {
        list_remove(&w->node);
    }
}

void client_map_changed(struct opendfs *fs, uint64_t epoch)
{
    struct client_map *m = fs->map;
    m->newest_epoch = base_max(m->newest_epoch, epoch);
    if (m->epoch >= epoch) {
        return;
    }
    m->wanted = m->fetching;
    if (!m->fetching) {
        map_begin(m);
    }
}

void client_map_session_ready(struct opendfs *fs)
{
    if (fs->map->epoch == 0 && !fs->map->fetching) {
        map_begin(fs->map);
    }
}

/* --- asking -------------------------------------------------------------------------------------
 */

const struct cluster_row *client_map_row(struct opendfs *fs, uint32_t chain)
{
    struct client_map *m = fs->map;
    struct dict_node *n = dict_find(&m->rows, dict_hash_u64(&m->rows, chain), &chain);
    return n == NULL ? NULL : &container_of(n, struct map_row, node)->row;
}

int client_map_chain(struct opendfs *fs, const struct proto_layout *layout, uint32_t index,
                     uint32_t *ret)
{
    struct map_table *t = map_find_table(fs->map, layout->class_id, layout->table_version);
    if (t == NULL) {
        return -ERR_waiting_row;
    }
    *ret = t->table.chains.at[cluster_chunk_place(layout, index, t->table.chains.count)];
    return 0;
}

static void target_up(struct peer_user *u, struct peer_link *l)
{
    struct client_target *t = container_of(u, struct client_target, user);
    if (!t->here && net_conn_within_host(l->conn)) {
        t->here = true;
        map_measure(t->fs->map);
    }
}
static void target_down(struct peer_user *u, struct peer_link *l, int rc, const char *reason)
{
    (void)u;
    (void)l;
    (void)rc;
    (void)reason;
}
static const struct peer_user_ops target_user_ops = {.up = target_up, .down = target_down};

static int target_connect(struct client_target *t)
{
    struct opendfs *fs = t->fs;
    t->user.ops = &target_user_ops;
    const struct peer_options opt = {.env = &fs->env,
                                     .user = &t->user,
                                     .secrets = fs->secrets,
                                     .cluster_id = *peer_cluster_id(fs->meta),
                                     .role = PROTO_ROLE_CLIENT,
                                     .features = PROTO_FEATURES,
                                     .name = fs->name,
                                     .addresses = &t->address,
                                     .address_count = 1,
                                     .pool = fs->pool,
                                     .bulk_count = CLIENT_BULK_LINKS,
                                     .max_queued = CLIENT_CALLS_MAX,
                                     .session = fs->session.id,
                                     .generation = 1};
    int rc = peer_new(&opt, &t->peer);
    if (rc == 0) {
        t->used = t->address;
        peer_start(t->peer);
    }
    return rc;
}

/* The old one's calls end with -ERR_closed, later: somebody may be inside one of them. */
static void target_leave(struct client_target *t)
{
    struct client_map *m = t->fs->map;
    struct old_peer *o = mem_zalloc(sizeof *o);
    if (o == NULL) {
        return; /* stays with the old address until there is memory */
    }
    o->peer = t->peer;
    t->peer = NULL;
    list_push_back(&m->old_peers, &o->node);
    loop_defer(t->fs->loop, &m->reap);
}

static struct client_target *map_target(struct opendfs *fs, uint32_t target)
{
    struct client_map *m = fs->map;
    struct dict_node *n = dict_find(&m->targets, dict_hash_u64(&m->targets, target), &target);
    return n == NULL ? NULL : container_of(n, struct client_target, node);
}

int client_map_peer(struct opendfs *fs, uint32_t target, struct peer **ret)
{
    struct client_target *t = map_target(fs, target);
    if (t == NULL) {
        return -ERR_waiting_row;
    }
    if (t->peer != NULL && strcmp(t->used.text, t->address.text) != 0) {
        target_leave(t);
    }
    int rc = t->peer == NULL ? target_connect(t) : 0;
    if (rc == 0) {
        *ret = t->peer;
    }
    return rc;
}

bool client_map_reachable(struct opendfs *fs, uint32_t target)
{
    const struct client_target *t = map_target(fs, target);
    return t != NULL && (t->peer == NULL || peer_link_of(t->peer, 0) != NULL ||
                         peer_trouble(t->peer)->text[0] == '\0');
}

struct client_source *client_map_source(struct opendfs *fs, uint32_t target)
{
    struct client_target *t = map_target(fs, target);
    return t == NULL ? NULL : &t->source;
}

void client_map_target_text(struct opendfs *fs, uint32_t target, struct text *out)
{
    const struct client_target *t = map_target(fs, target);
    text_add(out, "target %u", target);
    if (t != NULL) {
        text_add(out, " (%s)", t->address.text);
    }
}

void client_map_target(struct opendfs *fs, uint32_t target, struct client_map_target *ret)
{
    const struct client_target *t = map_target(fs, target);
    *ret = (struct client_map_target){.name = "", .host = "", .rack = "", .address = ""};
    if (t != NULL) {
        *ret = (struct client_map_target){
            .name = t->name, .host = t->host, .rack = t->rack, .address = t->address.text};
    }
}

const struct client_class *client_map_class(struct opendfs *fs, uint32_t id)
{
    for (size_t i = 0; i < fs->map->class_count; i++) {
        if (fs->map->classes[i].id == id) {
            return &fs->map->classes[i];
        }
    }
    return NULL;
}

void client_map_stop(struct opendfs *fs)
{
    if (fs->map != NULL) {
        loop_timer_cancel(fs->loop, &fs->map->retry);
        dict_clear(&fs->map->targets);
        loop_undefer(fs->loop, &fs->map->reap);
        reap_run(&fs->map->reap);
    }
}

void client_map_new_session(struct opendfs *fs)
{
    struct dict_iter it;
    struct dict_node *n;
    dict_iter_init(&it, &fs->map->targets);
    while ((n = dict_iter_next(&it)) != NULL) {
        struct client_target *t = container_of(n, struct client_target, node);
        if (t->peer != NULL) {
            target_leave(t);
        }
    }
}

int client_map_init(struct opendfs *fs)
{
    struct client_map *m = mem_zalloc(sizeof *m);
    if (m == NULL) {
        return -ENOMEM;
    }
    m->fs = fs;
    m->retry.fire = map_retry;
    m->reap.run = reap_run;
    list_init(&m->waiting);
    list_init(&m->next);
    list_init(&m->tables);
    list_init(&m->old_peers);
    dict_init(&m->rows, &row_ops, m, loop_random(fs->loop));
    dict_init(&m->targets, &target_ops, m, loop_random(fs->loop));
    fs->map = m;
    return 0;
}

void client_map_fini(struct opendfs *fs)
{
    struct client_map *m = fs->map;
    struct list *at;
    if (m == NULL) {
        return;
    }
    loop_timer_cancel(fs->loop, &m->retry);
    loop_undefer(fs->loop, &m->reap);
    reap_run(&m->reap);
    dict_fini(&m->targets);
    dict_fini(&m->rows);
    while ((at = list_pop_front(&m->tables)) != NULL) {
        struct map_table *t = LIST_ENTRY(at, struct map_table, node);
        mem_free(t->table.chains.at);
        mem_free(t);
    }
    mem_free(m->classes);
    mem_free(m);
    fs->map = NULL;
}
