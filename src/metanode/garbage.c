/*
 * metanode/garbage.c -- removes the data of removed files: REMOVE to the head of every chain of the
 * file's layout, until it has answered that it is stable; then the log says so. Garbage is taken in
 * pages of the stored queue; each chain of a page is one group with one question under way. What
 * failed is asked again, for ever, with growing pauses.
 */
#include "metanode/metanode_priv.h"

#define GARBAGE_PAGE 64u

struct garbage_group {
    struct list node;
    struct metanode_garbage *g;
    struct metanode_waiter waiter;
    struct peer_call call;
    struct proto_remove_request request;
    uint32_t chain;
    size_t at, count, done;
    uint64_t data_id[GARBAGE_PAGE]; /* ascending */
    uint64_t answered[GARBAGE_PAGE];
};

struct metanode_garbage {
    struct metanode *m;
    struct loop_timer timer;
    struct metanode_read read;
    struct list groups;
    uint64_t after, wait_ms;
    bool reading, more, failed, again, stopped;
};

static void garbage_group_step(struct garbage_group *x);

static void garbage_schedule(struct metanode_garbage *g, uint64_t ms)
{
    if (!g->stopped && !g->reading && list_empty(&g->groups)) {
        loop_timer_in(g->m->env->loop, &g->timer, ms * METANODE_NS_PER_MS);
    }
}

/* All groups of the page are through. */
static void garbage_page_end(struct metanode_garbage *g)
{
    if (g->more) {
        garbage_schedule(g, 0);
        return;
    }
    g->after = 0;
    if (g->failed) {
        g->wait_ms =
            base_min(base_max(g->wait_ms * 2, METANODE_BACKOFF_MIN_MS), METANODE_BACKOFF_MAX_MS);
        garbage_schedule(g, g->wait_ms);
    } else if (g->again) {
        garbage_schedule(g, 0);
    }
    g->failed = false;
}

static void garbage_group_end(struct garbage_group *x)
{
    struct metanode_garbage *g = x->g;
    list_remove(&x->node);
    mem_free(x);
    if (list_empty(&g->groups) && !g->reading) {
        garbage_page_end(g);
    }
}

static void garbage_logged(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct garbage_group *x = container_of(w, struct garbage_group, waiter);
    if (rc < 0 || reply->rc < 0) {
        x->g->failed = true;
    }
    garbage_group_end(x);
}

static void garbage_group_log(struct garbage_group *x)
{
    struct namespace_garbage_done body = {.chain = x->chain,
                                          .data_ids = {.at = x->answered, .count = x->done}};
    x->waiter.done = garbage_logged;
    if (x->done == 0 || x->g->stopped) {
        garbage_group_end(x);
    } else if (metanode_propose(x->g->m, NAMESPACE_GARBAGE_DONE, &namespace_garbage_done_type,
                                &body, &x->waiter) < 0) {
        x->g->failed = true;
        garbage_group_end(x);
    } else {
        x->g->wait_ms = 0; /* something goes on */
    }
}

static void garbage_answered(struct peer_call *call, const struct peer_reply *r)
{
    struct garbage_group *x = container_of(call, struct garbage_group, call);
    if (r->rc == 0 || r->rc == -ERR_gone) {
        x->answered[x->done++] = x->data_id[x->at];
    } else {
        x->g->failed = true;
        x->at = x->count; /* the rest of this chain will hardly go better now */
    }
    x->at++;
    garbage_group_step(x);
}

static void garbage_group_step(struct garbage_group *x)
{
    struct metanode_garbage *g = x->g;
    struct peer_link *link = NULL;
    if (x->at < x->count && !g->stopped) {
        link = metanode_head_link(g->m, x->chain, &x->request.route);
        g->failed = g->failed || link == NULL;
    }
    if (link == NULL) {
        garbage_group_log(x);
        return;
    }
    x->request.data_id = x->data_id[x->at];
    x->call = (struct peer_call){.done = garbage_answered,
                                 .request = &x->request,
                                 .opcode = PROTO_OP_remove,
                                 .timeout_ms = METANODE_CALL_MS};
    peer_link_call(link, &x->call);
}

static struct garbage_group *garbage_group_of(struct metanode_garbage *g, uint32_t chain)
{
    LIST_FOR_EACH(node, &g->groups)
    {
        struct garbage_group *x = LIST_ENTRY(node, struct garbage_group, node);
        if (x->chain == chain) {
            return x;
        }
    }
    struct garbage_group *x = mem_zalloc(sizeof *x);
    if (x != NULL) {
        x->g = g;
        x->chain = chain;
        list_push_back(&g->groups, &x->node);
    }
    return x;
}

static void garbage_drop_groups(struct metanode_garbage *g)
{
    struct list *node;
    while ((node = list_pop_front(&g->groups)) != NULL) {
        mem_free(LIST_ENTRY(node, struct garbage_group, node));
    }
}

static bool garbage_is_done(const struct namespace_garbage *r, uint32_t chain)
{
    bool found = false;
    for (size_t i = 0; i < r->done.count && !found; i++) {
        found = r->done.at[i] == chain;
    }
    return found;
}

static int garbage_add(struct metanode_garbage *g, const struct namespace_view *v, uint64_t data_id,
                       const struct namespace_garbage *record)
{
    struct proto_u32s chains;
    int rc = namespace_layout_chains(v, &record->layout, &chains);
    for (size_t i = 0; i < chains.count && rc == 0; i++) {
        if (garbage_is_done(record, chains.at[i])) {
            continue;
        }
        struct garbage_group *x = garbage_group_of(g, chains.at[i]);
        rc = x == NULL ? -ENOMEM : 0;
        if (rc == 0) {
            x->data_id[x->count++] = data_id;
        }
    }
    return rc;
}

static int garbage_read(struct metanode_read *read, const struct namespace_view *v)
{
    struct metanode_garbage *g = container_of(read, struct metanode_garbage, read);
    struct namespace_garbages page;
    garbage_drop_groups(g); /* of an earlier round of this read */
    int rc = namespace_garbages(v, g->after, GARBAGE_PAGE, &page);
    for (size_t i = 0; rc == 0 && i < page.count; i++) {
        rc = garbage_add(g, v, page.ids[i], &page.at[i]);
    }
    if (rc == 0) {
        g->more = page.more;
        g->after = page.count > 0 ? page.ids[page.count - 1] : 0;
    }
    return rc;
}

static void garbage_read_done(struct metanode_read *read, int rc)
{
    struct metanode_garbage *g = container_of(read, struct metanode_garbage, read);
    if (rc < 0 || g->stopped) {
        garbage_drop_groups(g);
        g->failed = true;
        g->more = false;
    }
    g->reading = false;
    if (list_empty(&g->groups)) {
        garbage_page_end(g);
        return;
    }
    g->reading = true; /* the page does not end while its groups are being started */
    LIST_FOR_EACH_SAFE(node, &g->groups)
    {
        garbage_group_step(LIST_ENTRY(node, struct garbage_group, node));
    }
    g->reading = false;
    if (list_empty(&g->groups)) {
        garbage_page_end(g);
    }
}

static void garbage_run(struct loop_timer *t)
{
    struct metanode_garbage *g = container_of(t, struct metanode_garbage, timer);
    if (g->m->phase != METANODE_SERVING || g->stopped || g->reading || !list_empty(&g->groups)) {
        return;
    }
    g->again = false;
    g->reading = true;
    g->read = (struct metanode_read){.run = garbage_read, .done = garbage_read_done};
    metanode_read(g->m, &g->read);
}

void metanode_garbage_kick(struct metanode *m)
{
    struct metanode_garbage *g = m->cleanup.garbage;
    g->again = true;
    if (!loop_timer_active(&g->timer)) {
        garbage_schedule(g, 0);
    }
}

void metanode_garbage_hurry(struct metanode *m)
{
    struct metanode_garbage *g = m->cleanup.garbage;
    g->again = true;
    g->wait_ms = 0;
    garbage_schedule(g, 0);
}

int metanode_garbage_init(struct metanode *m)
{
    struct metanode_garbage *g = mem_zalloc(sizeof *g);
    if (g == NULL) {
        return -ENOMEM;
    }
    g->m = m;
    g->timer.fire = garbage_run;
    list_init(&g->groups);
    m->cleanup.garbage = g;
    return 0;
}

void metanode_garbage_stop(struct metanode *m)
{
    m->cleanup.garbage->stopped = true;
    loop_timer_cancel(m->env->loop, &m->cleanup.garbage->timer);
}

void metanode_garbage_fini(struct metanode *m)
{
    if (m->cleanup.garbage != NULL) {
        metanode_garbage_stop(m);
        garbage_drop_groups(m->cleanup.garbage);
        mem_free(m->cleanup.garbage);
        m->cleanup.garbage = NULL;
    }
}
