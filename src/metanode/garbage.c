/*
 * metanode/garbage.c -- removes the data of removed files: REMOVE to the head of every chain of the
 * file's layout, until it has answered that it is stable; then the log says so. Each chain of a
 * page of the stored queue is one group with one question under way.
 */
#include "metanode/metanode_priv.h"

#define GARBAGE_PAGE 64u

struct garbage_group {
    struct metanode_errand_item item; /* first */
    struct metanode_waiter waiter;
    struct peer_call call;
    struct proto_remove_request request;
    uint32_t chain;
    size_t at, count, done;
    uint64_t data_id[GARBAGE_PAGE]; /* ascending */
    uint64_t answered[GARBAGE_PAGE];
};

_Static_assert(offsetof(struct garbage_group, item) == 0, "an errand frees its items");

static void garbage_group_step(struct garbage_group *x);

static void garbage_logged(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct garbage_group *x = container_of(w, struct garbage_group, waiter);
    metanode_errand_end(&x->item, rc == 0 && reply->rc == 0);
}

static void garbage_group_log(struct garbage_group *x)
{
    struct namespace_garbage_done body = {.chain = x->chain,
                                          .data_ids = {.at = x->answered, .count = x->done}};
    x->waiter.done = garbage_logged;
    const struct metanode_errand *e = x->item.errand;
    if (x->done == 0 || e->stopped ||
        metanode_propose(e->m, NAMESPACE_GARBAGE_DONE, &namespace_garbage_done_type, &body,
                         &x->waiter) < 0) {
        metanode_errand_end(&x->item, false);
    }
}

static void garbage_answered(struct peer_call *call, const struct peer_reply *r)
{
    struct garbage_group *x = container_of(call, struct garbage_group, call);
    if (r->rc == 0 || r->rc == -ERR_gone) {
        x->answered[x->done++] = x->data_id[x->at];
    } else {
        x->item.errand->failed = true;
        x->at = x->count; /* the rest of this chain will hardly go better now */
    }
    x->at++;
    garbage_group_step(x);
}

static void garbage_group_step(struct garbage_group *x)
{
    struct metanode_errand *e = x->item.errand;
    struct peer_link *link = NULL;
    if (x->at < x->count && !e->stopped) {
        link = metanode_head_link(e->m, x->chain, &x->request.route);
        e->failed = e->failed || link == NULL;
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

static struct garbage_group *garbage_group_of(struct metanode_errand *e, uint32_t chain)
{
    LIST_FOR_EACH(node, &e->items)
    {
        struct garbage_group *x = LIST_ENTRY(node, struct garbage_group, item.node);
        if (x->chain == chain) {
            return x;
        }
    }
    struct garbage_group *x = mem_zalloc(sizeof *x);
    if (x != NULL) {
        x->chain = chain;
        metanode_errand_add(e, &x->item);
    }
    return x;
}

static bool garbage_is_done(const struct namespace_garbage *r, uint32_t chain)
{
    bool found = false;
    for (size_t i = 0; i < r->done.count && !found; i++) {
        found = r->done.at[i] == chain;
    }
    return found;
}

static int garbage_add(struct metanode_errand *e, const struct namespace_view *v, uint64_t data_id,
                       const struct namespace_garbage *record)
{
    struct proto_u32s chains;
    int rc = namespace_layout_chains(v, &record->layout, &chains);
    for (size_t i = 0; i < chains.count && rc == 0; i++) {
        if (garbage_is_done(record, chains.at[i])) {
            continue;
        }
        struct garbage_group *x = garbage_group_of(e, chains.at[i]);
        rc = x == NULL ? -ENOMEM : 0;
        if (rc == 0) {
            x->data_id[x->count++] = data_id;
        }
    }
    return rc;
}

static int garbage_page(struct metanode_errand *e, const struct namespace_view *v)
{
    struct namespace_garbages page;
    int rc = namespace_garbages(v, e->after, GARBAGE_PAGE, &page);
    for (size_t i = 0; rc == 0 && i < page.count; i++) {
        rc = garbage_add(e, v, page.ids[i], &page.at[i]);
    }
    if (rc == 0) {
        e->more = page.more;
        e->after = page.count > 0 ? page.ids[page.count - 1] : 0;
    }
    return rc;
}

static void garbage_start(struct metanode_errand_item *item)
{
    garbage_group_step(container_of(item, struct garbage_group, item));
}

const struct metanode_errand_ops metanode_garbage_ops = {.page = garbage_page,
                                                         .start = garbage_start};
