/*
 * metanode/compare.c -- do the members of a chain have the same? Each that serves says what it has
 * of a chain as one number, when nothing of it changes for a while (datanode/digest.h). Numbers of
 * one epoch that differ for longer than any write takes are looked into: the members name all of
 * their chunks, page by page, and what differs is asked for once more after a pause. What is the
 * same difference then is named, in memory only: in the words of `fsck` and `status`. Members of a
 * chain that is written all the time say their numbers at different moments: that costs a listing
 * now and then, and names nothing.
 *
 * Nothing is healed by that. A resync would make the members behind like the one before them, and
 * when that is the one that has lost something, it would take the last good copy away. One chain at
 * a time, a page of each member at a time.
 */
#include "metanode/compare_priv.h"

#include "metanode/metanode_priv.h"

#include "base/log.h"

#define COMPARE_TICK_MS 5000u
#define COMPARE_AGAIN_MS 3600000u /* the same chain */
#define COMPARE_PAUSE_MS 5000u
#define COMPARE_PAGE 1024u
#define COMPARE_FOUND_MAX 64u /* chunks of one chain */

/* What a member has of a chunk. */
struct compare_has {
    bool there;
    struct proto_identity identity;
    uint32_t digest;
};
struct compare_found {
    struct proto_chunk chunk;
    struct compare_has has[CLUSTER_MEMBERS_MAX];
};
struct compare_member {
    struct metanode_comparing *x;
    uint32_t target;
    uint64_t incarnation;
    struct proto_inventory_request request;
    struct peer_call call;
    bool eof;
    struct proto_chunk next;
    size_t count, at;
    struct proto_inventory_entry page[COMPARE_PAGE];
};
struct metanode_comparing {
    struct metanode *m;
    struct loop_timer timer;
    uint32_t chain, epoch;
    bool over, failed, again; /* again: what was found is asked for once more */
    size_t asking;
    struct proto_chunk first;
    size_t found_count, found_at, kept;
    uint64_t more; /* differences that there was no room for */
    struct compare_found found[COMPARE_FOUND_MAX];
    size_t member_count;
    struct compare_member member[];
};

/* ---- What members have said ---- */

bool metanode_chain_differs(const struct metanode_chain *c)
{
    const struct metanode_digests *d = &c->digests;
    return d->differs_ns != 0 && d->differs_epoch == c->row.epoch &&
           metanode_now(c->m) - d->differs_ns >= METANODE_DIFFERS_MS * METANODE_NS_PER_MS;
}

bool metanode_difference_stands(struct metanode *m, const struct metanode_difference *d)
{
    const struct metanode_chain *c = metanode_chain_find(m, d->chain);
    return c != NULL && c->row.epoch == d->epoch && metanode_chain_differs(c);
}

size_t metanode_differences(struct metanode *m)
{
    const struct metanode_compares *all = m->cleanup.compares;
    size_t count = 0;
    for (size_t i = 0; i < all->count; i++) {
        count += metanode_difference_stands(m, &all->named[i]) ? 1 : 0;
    }
    return count;
}

/* -1: not all have said something in this epoch; else whether they differ. */
static int digests_differ(const struct metanode_chain *c)
{
    const struct metanode_digests *d = &c->digests;
    size_t first = CLUSTER_MEMBERS_MAX;
    int differ = 0;
    for (size_t i = 0; i < c->row.count; i++) {
        size_t k = 0;
        if (c->row.member[i].state != PROTO_MEMBER_SERVING) {
            continue;
        }
        while (k < CLUSTER_MEMBERS_MAX &&
               (d->at[k].target != c->row.member[i].target || d->at[k].epoch != c->row.epoch)) {
            k++;
        }
        if (k == CLUSTER_MEMBERS_MAX) {
            return -1;
        }
        first = first == CLUSTER_MEMBERS_MAX ? k : first;
        bool same = d->at[k].count == d->at[first].count && d->at[k].digest == d->at[first].digest;
        differ = same ? differ : 1;
    }
    return differ;
}

void metanode_digest_heard(struct metanode_target *t, const struct proto_chain_digest *said)
{
    struct metanode_chain *c = metanode_chain_find(t->m, said->chain);
    size_t member = c == NULL ? 0 : cluster_row_find(&c->row, t->id);
    size_t place = CLUSTER_MEMBERS_MAX;
    if (c == NULL || member == c->row.count || said->epoch != c->row.epoch) {
        return; /* it says so again when it knows its row */
    }
    struct metanode_digests *d = &c->digests;
    for (size_t k = CLUSTER_MEMBERS_MAX; k-- > 0;) {
        bool own = d->at[k].target == t->id;
        bool taken = place < CLUSTER_MEMBERS_MAX && d->at[place].target == t->id;
        place = own || (!taken && d->at[k].epoch != c->row.epoch) ? k : place;
    }
    if (place == CLUSTER_MEMBERS_MAX) {
        return;
    }
    d->at[place].target = t->id;
    d->at[place].epoch = said->epoch;
    d->at[place].count = said->count;
    d->at[place].digest = said->digest;
    int differ = digests_differ(c);
    if (differ <= 0) {
        d->differs_ns = differ == 0 ? 0 : d->differs_ns;
    } else if (d->differs_ns == 0 || d->differs_epoch != c->row.epoch) {
        d->differs_ns = metanode_now(t->m);
        d->differs_epoch = c->row.epoch;
        d->looked_ns = 0;
    }
    struct metanode_compares *all = t->m->cleanup.compares;
    if (d->differs_ns != 0 && !all->stopped && !loop_timer_active(&all->timer)) {
        loop_timer_in(t->m->env->loop, &all->timer, COMPARE_TICK_MS * METANODE_NS_PER_MS);
    }
}

/* ---- The end of a comparison ---- */

static void names_drop(struct metanode_compares *all, uint32_t chain)
{
    size_t kept = 0;
    for (size_t i = 0; i < all->count; i++) {
        const struct metanode_difference *d = &all->named[i];
        if (d->chain != chain && metanode_difference_stands(all->m, d)) {
            all->named[kept++] = *d;
        }
    }
    all->count = kept;
}

static void name_words(struct metanode_comparing *x, const struct compare_found *f,
                       struct metanode_difference *d)
{
    struct text t;
    text_init(&t, d->text, sizeof d->text);
    for (size_t i = 0; i < x->member_count; i++) {
        const struct metanode_target *target = metanode_target_find(x->m, x->member[i].target);
        const struct compare_has *h = &f->has[i];
        text_add(&t, "%s%s has ", i == 0 ? "" : ", ",
                 target == NULL || target->name[0] == 0 ? "a target" : target->name);
        if (h->there) {
            text_add(&t, "version %u.%llu (%08x)", h->identity.aepoch,
                     (unsigned long long)h->identity.ver, h->digest);
        } else {
            text_add(&t, "none");
        }
    }
}

static void compare_free(struct metanode_comparing *x)
{
    struct metanode_compares *all = x->m->cleanup.compares;
    x->over = true;
    loop_timer_cancel(x->m->env->loop, &x->timer);
    if (x->asking > 0) {
        return;
    }
    if (all->now == x) {
        all->now = NULL;
    }
    mem_free(x);
}

static void compare_end(struct metanode_comparing *x)
{
    struct metanode_compares *all = x->m->cleanup.compares;
    struct metanode_chain *c = metanode_chain_find(x->m, x->chain);
    if (c != NULL && c->row.epoch == x->epoch) {
        c->digests.looked_ns = metanode_now(x->m);
    }
    if (x->failed || c == NULL || c->row.epoch != x->epoch) {
        compare_free(x);
        return;
    }
    names_drop(all, x->chain);
    for (size_t i = 0; i < x->kept && all->count < METANODE_DIFFERENCES_MAX; i++) {
        struct metanode_difference *d = &all->named[all->count++];
        *d = (struct metanode_difference){
            .chain = x->chain, .epoch = x->epoch, .chunk = x->found[i].chunk};
        name_words(x, &x->found[i], d);
        log_error(x->m->env->log, "members of a chain do not have the same",
                  LOG_U64("chain", x->chain), LOG_U64("data", d->chunk.data_id),
                  LOG_U64("index", d->chunk.index), LOG_TEXT("who", d->text));
    }
    if (x->more > 0) {
        log_error(x->m->env->log, "and more chunks of it differ, or did",
                  LOG_U64("chain", x->chain), LOG_U64("chunks", x->more));
    }
    compare_free(x);
}

/* ---- Side by side ---- */

static int key_order(struct proto_chunk a, struct proto_chunk b)
{
    if (a.data_id != b.data_id) {
        return a.data_id < b.data_id ? -1 : 1;
    }
    return a.index == b.index ? 0 : a.index < b.index ? -1 : 1;
}

static const struct proto_inventory_entry *member_at(const struct compare_member *p)
{
    return p->at < p->count ? &p->page[p->at] : NULL;
}

/* What all have of one chunk; true: an update of it is under way somewhere. */
static bool compare_take(struct metanode_comparing *x, struct proto_chunk key,
                         struct compare_found *ret)
{
    bool busy = false;
    *ret = (struct compare_found){.chunk = key};
    for (size_t i = 0; i < x->member_count; i++) {
        const struct proto_inventory_entry *e = member_at(&x->member[i]);
        if (e == NULL || key_order(e->chunk, key) != 0) {
            continue;
        }
        busy = busy || e->busy;
        ret->has[i] = (struct compare_has){
            .there = e->identity.aepoch != 0, .identity = e->identity, .digest = e->digest};
        x->member[i].at++;
    }
    return busy;
}

static bool has_equal(const struct compare_has *a, const struct compare_has *b)
{
    return a->there == b->there && a->identity.aepoch == b->identity.aepoch &&
           a->identity.ver == b->identity.ver && a->digest == b->digest;
}

static bool found_differs(const struct metanode_comparing *x, const struct compare_found *f)
{
    bool differs = false;
    for (size_t i = 1; i < x->member_count; i++) {
        differs = differs || !has_equal(&f->has[0], &f->has[i]);
    }
    return differs;
}

static bool found_equal(const struct metanode_comparing *x, const struct compare_found *a,
                        const struct compare_found *b)
{
    bool equal = true;
    for (size_t i = 0; i < x->member_count; i++) {
        equal = equal && has_equal(&a->has[i], &b->has[i]);
    }
    return equal;
}

/* Up to where every page reaches; false: to the end of all. */
static bool compare_bound(const struct metanode_comparing *x, struct proto_chunk *ret)
{
    bool bounded = false;
    for (size_t i = 0; i < x->member_count; i++) {
        const struct compare_member *p = &x->member[i];
        if (!p->eof && (!bounded || key_order(p->next, *ret) < 0)) {
            *ret = p->next;
            bounded = true;
        }
    }
    return bounded;
}

static bool compare_least(const struct metanode_comparing *x, struct proto_chunk *ret)
{
    bool some = false;
    for (size_t i = 0; i < x->member_count; i++) {
        const struct proto_inventory_entry *e = member_at(&x->member[i]);
        if (e != NULL && (!some || key_order(e->chunk, *ret) < 0)) {
            *ret = e->chunk;
            some = true;
        }
    }
    return some;
}

static void compare_go(struct metanode_comparing *x);

static void compare_pages(struct metanode_comparing *x)
{
    struct proto_chunk bound = {0}, key = {0};
    bool bounded = compare_bound(x, &bound);
    while (compare_least(x, &key) && (!bounded || key_order(key, bound) < 0)) {
        struct compare_found f;
        bool busy = compare_take(x, key, &f);
        if (busy || !found_differs(x, &f)) {
            continue;
        }
        if (x->found_count < COMPARE_FOUND_MAX) {
            x->found[x->found_count++] = f;
        } else {
            x->more++;
        }
    }
    if (bounded) {
        x->first = bound;
        compare_go(x);
        return;
    }
    x->again = true;
    loop_timer_in(x->m->env->loop, &x->timer, COMPARE_PAUSE_MS * METANODE_NS_PER_MS);
}

/* The one that was asked for: is it the same difference? */
static void compare_once_more(struct metanode_comparing *x)
{
    struct compare_found f;
    struct proto_chunk key = x->found[x->found_at].chunk;
    bool busy = compare_take(x, key, &f);
    if (!busy && found_differs(x, &f) && found_equal(x, &f, &x->found[x->found_at])) {
        x->found[x->kept++] = f;
    }
    x->found_at++;
    compare_go(x);
}

/* ---- Questions ---- */

static bool page_is_sound(const struct compare_member *p, const struct proto_inventory_reply *m)
{
    bool sound = m->entries.count <= p->request.max_entries;
    struct proto_chunk last = p->request.first;
    for (size_t i = 0; i < m->entries.count && sound; i++) {
        int order = key_order(m->entries.at[i].chunk, last);
        sound = i == 0 ? order >= 0 : order > 0;
        last = m->entries.at[i].chunk;
    }
    return sound && (m->eof || key_order(m->next, last) > 0);
}

static void compare_answered(struct peer_call *call, const struct peer_reply *r)
{
    struct compare_member *p = container_of(call, struct compare_member, call);
    struct metanode_comparing *x = p->x;
    const struct proto_inventory_reply *m = r->rc == 0 ? r->body : NULL;
    x->asking--;
    x->failed = x->failed || m == NULL || !page_is_sound(p, m);
    if (!x->failed) {
        p->count = m->entries.count;
        p->at = 0;
        p->eof = m->eof;
        p->next = m->next;
        for (size_t i = 0; i < p->count; i++) {
            p->page[i] = m->entries.at[i];
        }
    }
    if (x->asking > 0) {
        return;
    }
    if (x->over || x->m->phase != METANODE_SERVING) {
        compare_free(x);
    } else if (x->failed) {
        compare_end(x);
    } else if (x->again) {
        compare_once_more(x);
    } else {
        compare_pages(x);
    }
}

/* The link of a member in the life that it had at the beginning. */
static struct peer_link *compare_link(const struct metanode_comparing *x,
                                      const struct compare_member *p)
{
    const struct metanode_target *t = metanode_target_find(x->m, p->target);
    bool same = t != NULL && t->alive && t->registered && t->incarnation == p->incarnation;
    return same ? t->link : NULL;
}

static void compare_ask(struct metanode_comparing *x, struct compare_member *p)
{
    p->request = (struct proto_inventory_request){.target = p->target,
                                                  .incarnation = p->incarnation,
                                                  .chain = x->chain,
                                                  .epoch = x->epoch,
                                                  .first = x->first,
                                                  .max_entries = x->again ? 1 : COMPARE_PAGE};
    p->call = (struct peer_call){.done = compare_answered,
                                 .request = &p->request,
                                 .opcode = PROTO_OP_inventory,
                                 .timeout_ms = METANODE_CALL_MS};
    p->count = p->at = 0;
    x->asking++;
    peer_link_call(compare_link(x, p), &p->call);
}

/* The next page of all members, or the next chunk. */
static void compare_go(struct metanode_comparing *x)
{
    const struct metanode_chain *c = metanode_chain_find(x->m, x->chain);
    bool same = c != NULL && c->row.epoch == x->epoch;
    if (x->again && x->found_at == x->found_count) {
        compare_end(x);
        return;
    }
    for (size_t i = 0; i < x->member_count; i++) {
        same = same && compare_link(x, &x->member[i]) != NULL;
    }
    if (!same) {
        x->failed = true;
        compare_end(x);
        return;
    }
    x->first = x->again ? x->found[x->found_at].chunk : x->first;
    for (size_t i = 0; i < x->member_count; i++) {
        compare_ask(x, &x->member[i]);
    }
}

static void compare_resume(struct loop_timer *t)
{
    struct metanode_comparing *x = container_of(t, struct metanode_comparing, timer);
    if (x->m->phase == METANODE_SERVING) {
        compare_go(x);
    } else {
        compare_free(x);
    }
}

static void compare_begin(struct metanode_chain *c)
{
    struct metanode *m = c->m;
    struct metanode_comparing *x = mem_zalloc(sizeof *x + c->row.count * sizeof x->member[0]);
    if (x == NULL) {
        return; /* with the next tick */
    }
    x->m = m;
    x->chain = c->row.chain;
    x->epoch = c->row.epoch;
    x->timer.fire = compare_resume;
    for (size_t i = 0; i < c->row.count; i++) {
        const struct metanode_target *t = metanode_target_find(m, c->row.member[i].target);
        if (c->row.member[i].state == PROTO_MEMBER_SERVING && t != NULL) {
            struct compare_member *p = &x->member[x->member_count++];
            p->x = x;
            p->target = t->id;
            p->incarnation = t->incarnation;
        }
    }
    m->cleanup.compares->now = x;
    compare_go(x);
}

/* ---- Which chain ---- */

static bool compare_is_due(const struct metanode_chain *c)
{
    uint64_t looked_ns = c->digests.looked_ns;
    return metanode_chain_differs(c) &&
           (looked_ns == 0 ||
            metanode_now(c->m) - looked_ns >= COMPARE_AGAIN_MS * METANODE_NS_PER_MS);
}

static void compare_tick(struct loop_timer *t)
{
    struct metanode_compares *all = container_of(t, struct metanode_compares, timer);
    struct metanode *m = all->m;
    bool some = false;
    if (m->phase != METANODE_SERVING || all->stopped) {
        return;
    }
    names_drop(all, 0);
    LIST_FOR_EACH(node, &m->chains.all)
    {
        struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        some = some || (c->digests.differs_ns != 0 && c->digests.differs_epoch == c->row.epoch);
        if (all->now == NULL && compare_is_due(c)) {
            compare_begin(c);
        }
    }
    if (some) {
        loop_timer_in(m->env->loop, t, COMPARE_TICK_MS * METANODE_NS_PER_MS);
    }
}

int metanode_compare_init(struct metanode *m)
{
    struct metanode_compares *all = mem_zalloc(sizeof *all);
    if (all == NULL) {
        return -ENOMEM;
    }
    all->m = m;
    all->timer.fire = compare_tick;
    m->cleanup.compares = all;
    return 0;
}

void metanode_compare_stop(struct metanode *m)
{
    struct metanode_compares *all = m->cleanup.compares;
    all->stopped = true;
    loop_timer_cancel(m->env->loop, &all->timer);
    if (all->now != NULL) {
        compare_free(all->now);
    }
}

void metanode_compare_fini(struct metanode *m)
{
    struct metanode_compares *all = m->cleanup.compares;
    if (all == NULL) {
        return;
    }
    loop_timer_cancel(m->env->loop, &all->timer);
    if (all->now != NULL) { /* links are gone: nothing comes back */
        all->now->asking = 0;
        compare_free(all->now);
    }
    mem_free(all);
    m->cleanup.compares = NULL;
}
