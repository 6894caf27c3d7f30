/*
 * metanode/garbage.c -- removes the data of removed files: REMOVE to the head of every chain of the
 * file's layout, until it has answered that it is stable; then the log says so.
 *
 * A page of the stored queue is asked for at once: each chain of it is one group, which names all
 * of its data ids in one question. When all groups have ended, one command says which data ids are
 * gone everywhere: a file of one chunk has a layout of many chains, and a command for each of them
 * would cost more than all the rest. What not all chains have answered for is said chain by chain.
 */
#include "metanode/metanode_priv.h"

#define GARBAGE_PAGE 256u

/* The page of the queue that is being removed. */
struct metanode_garbage {
    struct metanode_errand *errand;
    struct metanode_waiter waiter;
    size_t count, asking, logging; /* data ids; chains that are asked; commands under way */
    bool some, good;
    uint64_t id[GARBAGE_PAGE], gone[GARBAGE_PAGE];
    uint32_t left[GARBAGE_PAGE]; /* chains that have not answered */
    bool asked[GARBAGE_PAGE];
};

struct garbage_group {
    struct metanode_errand_item item; /* first */
    struct metanode_waiter waiter;
    struct peer_call call;
    struct proto_remove_request request;
    uint32_t chain;
    size_t at, count;
    uint16_t place[GARBAGE_PAGE];   /* of the page, ascending */
    uint64_t data_id[GARBAGE_PAGE]; /* there; in the end those that it answers for alone */
};

_Static_assert(offsetof(struct garbage_group, item) == 0, "an errand frees its items");
_Static_assert(GARBAGE_PAGE <= 1024, "of one command, of one question");

static struct metanode_garbage *garbage_of(struct metanode_errand *e)
{
    return e->m->cleanup.page;
}

/* ---- The log ---- */

/* All that was said is in the log: the page is over. */
static void garbage_logged(struct metanode_errand *e, bool good)
{
    struct metanode_garbage *page = garbage_of(e);
    page->good = page->good && good;
    if (--page->logging > 0) {
        return;
    }
    LIST_FOR_EACH_SAFE(node, &e->items)
    {
        metanode_errand_end(LIST_ENTRY(node, struct metanode_errand_item, node), page->good);
    }
}

static void garbage_all_logged(struct metanode_waiter *w, int rc,
                               const struct namespace_reply *reply)
{
    struct metanode_garbage *page = container_of(w, struct metanode_garbage, waiter);
    garbage_logged(page->errand, rc == 0 && reply->rc == 0);
}

static void garbage_group_logged(struct metanode_waiter *w, int rc,
                                 const struct namespace_reply *reply)
{
    struct garbage_group *x = container_of(w, struct garbage_group, waiter);
    garbage_logged(x->item.errand, rc == 0 && reply->rc == 0);
}

static void garbage_say(struct metanode_errand *e, const struct namespace_garbage_done *body,
                        struct metanode_waiter *w)
{
    struct metanode_garbage *page = garbage_of(e);
    if (body->data_ids.count == 0) {
        return;
    }
    page->logging++;
    if (e->stopped ||
        metanode_propose(e->m, NAMESPACE_GARBAGE_DONE, &namespace_garbage_done_type, body, w) < 0) {
        page->good = false;
        page->logging--;
    }
}

/* The part of what this chain has removed that others have not. */
static void garbage_say_group(struct garbage_group *x)
{
    const struct metanode_garbage *page = garbage_of(x->item.errand);
    size_t count = 0;
    for (size_t i = 0; i < x->at; i++) {
        if (page->left[x->place[i]] > 0) {
            x->data_id[count++] = x->data_id[i];
        }
    }
    const struct namespace_garbage_done body = {.chain = x->chain,
                                                .data_ids = {.at = x->data_id, .count = count}};
    x->waiter.done = garbage_group_logged;
    garbage_say(x->item.errand, &body, &x->waiter);
}

static void garbage_page_over(struct metanode_errand *e)
{
    struct metanode_garbage *page = garbage_of(e);
    size_t count = 0;
    for (size_t i = 0; i < page->count; i++) {
        if (page->asked[i] && page->left[i] == 0) {
            page->gone[count++] = page->id[i];
        }
    }
    page->good = page->some;
    page->logging = 1; /* nothing ends before all was proposed */
    const struct namespace_garbage_done body = {.data_ids = {.at = page->gone, .count = count},
                                                .all = true};
    page->errand = e;
    page->waiter.done = garbage_all_logged;
    garbage_say(e, &body, &page->waiter);
    LIST_FOR_EACH(node, &e->items)
    {
        struct metanode_errand_item *item = LIST_ENTRY(node, struct metanode_errand_item, node);
        garbage_say_group(container_of(item, struct garbage_group, item));
    }
    garbage_logged(e, true);
}

/* ---- Questions ---- */

static void garbage_group_step(struct garbage_group *x);

static void garbage_answered(struct peer_call *call, const struct peer_reply *r)
{
    struct garbage_group *x = container_of(call, struct garbage_group, call);
    struct metanode_garbage *page = garbage_of(x->item.errand);
    if (r->rc < 0 && r->rc != -ERR_gone) {
        x->item.errand->failed = true;
        x->count = x->at; /* the rest of this chain will hardly go better now */
    }
    const struct proto_remove_reply *m = r->rc == 0 ? r->body : NULL;
    size_t removed = m == NULL ? 1 : base_max(m->removed, 1); /* an earlier version: the first */
    size_t end = base_min(x->at + removed, x->count);
    for (; x->at < end; x->at++) {
        page->left[x->place[x->at]]--;
        page->some = true;
    }
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
        if (--garbage_of(e)->asking == 0) {
            garbage_page_over(e);
        }
        return;
    }
    x->request.data_id = x->data_id[x->at];
    x->request.more =
        (struct proto_u64s){.at = x->data_id + x->at + 1, .count = x->count - x->at - 1};
    x->call = (struct peer_call){.done = garbage_answered,
                                 .request = &x->request,
                                 .opcode = PROTO_OP_remove,
                                 .timeout_ms = METANODE_CALL_MS};
    peer_link_call(link, &x->call);
}

/* ---- Pages ---- */

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

static int garbage_add(struct metanode_errand *e, const struct namespace_view *v, size_t place,
                       const struct namespace_garbage *record)
{
    struct metanode_garbage *page = garbage_of(e);
    struct proto_u32s chains;
    int rc = namespace_garbage_chains(v, record, &chains);
    for (size_t i = 0; i < chains.count && rc == 0; i++) {
        if (garbage_is_done(record, chains.at[i])) {
            continue;
        }
        struct garbage_group *x = garbage_group_of(e, chains.at[i]);
        rc = x == NULL ? -ENOMEM : 0;
        if (rc == 0) {
            x->place[x->count] = (uint16_t)place;
            x->data_id[x->count++] = page->id[place];
            page->left[place]++;
            page->asked[place] = true;
        }
    }
    return rc;
}

static int garbage_page(struct metanode_errand *e, const struct namespace_view *v)
{
    struct metanode_garbage *page = garbage_of(e);
    struct namespace_garbages found;
    int rc = namespace_garbages(v, e->after, GARBAGE_PAGE, &found);
    *page = (struct metanode_garbage){.count = rc < 0 ? 0 : found.count};
    for (size_t i = 0; rc == 0 && i < found.count; i++) {
        page->id[i] = found.ids[i];
        rc = garbage_add(e, v, i, &found.at[i]);
    }
    if (rc == 0) {
        e->more = found.more;
        e->after = found.count > 0 ? found.ids[found.count - 1] : 0;
    }
    LIST_FOR_EACH(node, &e->items)
    {
        page->asking++;
    }
    return rc;
}

static void garbage_start(struct metanode_errand_item *item)
{
    garbage_group_step(container_of(item, struct garbage_group, item));
}

const struct metanode_errand_ops metanode_garbage_ops = {.page = garbage_page,
                                                         .start = garbage_start};

int metanode_garbage_init(struct metanode *m)
{
    m->cleanup.page = mem_zalloc(sizeof *m->cleanup.page);
    return m->cleanup.page == NULL ? -ENOMEM : 0;
}

void metanode_garbage_fini(struct metanode *m)
{
    mem_free(m->cleanup.page);
    m->cleanup.page = NULL;
}
