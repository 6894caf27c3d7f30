/*
 * metanode/audit.c -- a look for data that belongs to nothing (doc/design/0037). In windows of data
 * ids: which of them somebody has, by one snapshot, a bit for each; then what targets hold is
 * compared, page by page. What nobody has is named in the log, and there it is decided what becomes
 * of it (namespace/audit.c): nothing at the first look, and nothing that is not sure.
 *
 * Data ids are given in order and never again, and an id that neither an inode nor garbage has will
 * never be anybody's again. So it does not matter that targets are asked later than the snapshot
 * was taken, and each window may have a snapshot of its own.
 *
 * Before anything is named, targets tell what they have above the counter of the look. If any of it
 * was never given by this metadata, the metadata are older than the data (a directory that somebody
 * has put back by hand): then nobody knows whose anything is, and the look ends.
 *
 * A target that is down, comes again, or does not answer, is not looked at any more: the look does
 * not count for it. One step is under way at a time.
 */
#include "metanode/audit_priv.h"

#include "metanode/metanode_priv.h"

#include "base/log.h"

#define AUDIT_WINDOW_IDS (UINT64_C(1) << 27) /* 16 MiB of bits */
#define AUDIT_PROBE_PAGES 16u /* of what was given since the look began: more is not looked at */
#define AUDIT_BATCH 256u
#define AUDIT_STEP_RECORDS 64u
#define AUDIT_ROUND_STEPS 32u /* then others have their turn */
#define AUDIT_CHAINS 64u      /* of one data id: more is nonsense, and left alone */
#define AUDIT_TRIES 20u
#define AUDIT_PAUSE_MS 500u

enum audit_step {
    AUDIT_PROBE,   /* what do targets have from the counter on? */
    AUDIT_CHECK,   /* was all of that given? */
    AUDIT_NEAREST, /* where does the next window begin? */
    AUDIT_SCAN,    /* which data ids of the window are somebody's? */
    AUDIT_LIST,    /* what do targets have of it? */
    AUDIT_TELL,    /* what is nobody's goes into the log */
    AUDIT_FORGET,  /* suspects that nobody has any more do, too */
    AUDIT_FINISH,
};

struct audit_target {
    uint32_t id;
    uint64_t incarnation;
    bool missed;
};

struct metanode_auditing {
    struct metanode *m;
    struct loop_timer timer;
    enum audit_step step;
    bool busy; /* an answer of a target, the log or the engine is awaited */
    bool over;
    unsigned tries;
    uint64_t look, counter, ids;
    enum namespace_audit_outcome outcome;
    struct audit_target *target;
    size_t target_count, at_target;
    /* the window */
    uint64_t window_ids, least, greatest;
    uint64_t *bits;
    struct namespace_used used;
    struct kv_snapshot *snapshot;
    struct kv_need need;
    struct kv_fetch fetch;
    struct mem_arena arena;
    /* a target's page */
    struct proto_inventory_request request;
    struct peer_call call;
    struct proto_chunk start, at; /* of each target's first page; of the next one */
    unsigned pages;
    uint64_t last_id; /* counted */
    size_t pair_count, pair_at;
    uint64_t id[METANODE_AUDIT_PAGE];
    uint32_t chain[METANODE_AUDIT_PAGE];
    /* what goes into the log */
    size_t told; /* pairs of the batch under way */
    struct namespace_audit_id found[AUDIT_BATCH];
    uint64_t forget[AUDIT_BATCH];
    uint64_t forget_after, forget_last;
    size_t forget_count;
    bool forget_more;
    struct metanode_waiter waiter;
    struct metanode_read read;
    struct namespace_state state;
    struct namespace_audit audit;
};

static void audit_soon(struct metanode_auditing *x, uint64_t ms)
{
    loop_timer_in(x->m->env->loop, &x->timer, ms * METANODE_NS_PER_MS);
}

static void audit_step(struct metanode_auditing *x, enum audit_step step)
{
    x->step = step;
    x->tries = 0;
    audit_soon(x, 0);
}

/* What is under way ends by itself, later. */
static void audit_free(struct metanode_auditing *x)
{
    x->over = true;
    loop_timer_cancel(x->m->env->loop, &x->timer);
    if (x->busy) {
        return;
    }
    kv_need_release(&x->need);
    x->snapshot = kv_snapshot_free(x->snapshot);
    mem_arena_fini(&x->arena);
    mem_free(x->bits);
    mem_free(x->target);
    if (x->m->cleanup.audits->look == x) {
        x->m->cleanup.audits->look = NULL;
    }
    mem_free(x);
}

/* An answer has come. False: nobody waits for it any more. */
static bool audit_back(struct metanode_auditing *x)
{
    x->busy = false;
    if (x->over || x->m->phase != METANODE_SERVING) {
        audit_free(x);
        return false;
    }
    return true;
}

static void audit_end(struct metanode_auditing *x, enum namespace_audit_outcome outcome)
{
    kv_need_release(&x->need);
    x->snapshot = kv_snapshot_free(x->snapshot);
    x->outcome = outcome;
    audit_step(x, AUDIT_FINISH);
}

/* It goes on after a pause, a bounded number of times. */
static void audit_again(struct metanode_auditing *x)
{
    if (++x->tries < AUDIT_TRIES) {
        audit_soon(x, AUDIT_PAUSE_MS);
    } else if (x->step == AUDIT_FINISH) {
        audit_free(x); /* it looks as if it had been cut off */
    } else {
        audit_end(x, NAMESPACE_AUDIT_FAILED);
    }
}

/* ---- Targets ---- */

static struct audit_target *audit_target(struct metanode_auditing *x)
{
    return &x->target[x->at_target];
}

static void audit_miss(struct metanode_auditing *x, const char *why)
{
    struct audit_target *t = audit_target(x);
    if (!t->missed) {
        log_warn(x->m->env->log, "a target is left out of the look for orphans",
                 LOG_U64("target", t->id), LOG_TEXT("why", why));
    }
    t->missed = true;
}

/* The same life as at the beginning; NULL: it is missed. */
static struct metanode_target *audit_target_now(struct metanode_auditing *x)
{
    const struct audit_target *own = audit_target(x);
    struct metanode_target *t = metanode_target_find(x->m, own->id);
    bool same = t != NULL && t->alive && t->registered && t->incarnation == own->incarnation;
    if (own->missed || !same) {
        audit_miss(x, "it is down, or was");
        return NULL;
    }
    return t;
}

static void audit_next_target(struct metanode_auditing *x)
{
    x->at_target++;
    x->at = x->start;
    x->pages = 0;
    x->tries = 0;
}

/* All targets are asked for data ids from `first` to before `end` (0: without end). */
static void audit_ask_all(struct metanode_auditing *x, enum audit_step step, uint64_t first,
                          uint64_t end)
{
    x->start = x->at = (struct proto_chunk){.data_id = first};
    x->request = (struct proto_inventory_request){
        .end = end, .max_entries = step == AUDIT_NEAREST ? 1 : METANODE_AUDIT_PAGE};
    x->at_target = 0;
    x->pages = 0;
    audit_step(x, step);
}

/* Does this target serve that chain, as its row says? Else what it has of it does not count. */
static bool audit_serves(struct metanode_auditing *x, uint32_t chain)
{
    const struct metanode_chain *c = metanode_chain_find(x->m, chain);
    size_t i = c == NULL ? 0 : cluster_row_find(&c->row, audit_target(x)->id);
    return c != NULL && i < c->row.count && c->row.member[i].state == PROTO_MEMBER_SERVING;
}

static bool audit_is_behind(struct proto_chunk a, struct proto_chunk b)
{
    return a.data_id > b.data_id || (a.data_id == b.data_id && a.index > b.index);
}

/* In order, within what was asked for, and the next page begins behind this one. */
static bool audit_page_is_sound(const struct metanode_auditing *x,
                                const struct proto_inventory_reply *m)
{
    struct proto_chunk last = x->at;
    bool sound = m->entries.count <= x->request.max_entries;
    for (size_t i = 0; i < m->entries.count && sound; i++) {
        struct proto_chunk c = m->entries.at[i].chunk;
        bool ends = x->request.end != 0 && c.data_id >= x->request.end;
        sound = !ends && !audit_is_behind(last, c) && (i == 0 || audit_is_behind(c, last));
        last = c;
    }
    return sound && (m->eof || audit_is_behind(m->next, last));
}

/* What nobody has of this page waits to be named. */
static void audit_take(struct metanode_auditing *x, const struct proto_inventory_reply *m)
{
    x->pair_count = x->pair_at = 0;
    for (size_t i = 0; i < m->entries.count; i++) {
        const struct proto_inventory_entry *e = &m->entries.at[i];
        x->ids += e->chunk.data_id != x->last_id ? 1 : 0;
        x->last_id = e->chunk.data_id;
        if (!namespace_used_has(&x->used, e->chunk.data_id) && audit_serves(x, e->chain)) {
            x->id[x->pair_count] = e->chunk.data_id;
            x->chain[x->pair_count++] = e->chain;
        }
    }
}

static void audit_page(struct metanode_auditing *x, const struct proto_inventory_reply *m)
{
    size_t count = m->entries.count;
    bool enough = m->eof;
    if (!audit_page_is_sound(x, m)) {
        audit_miss(x, "it answers nonsense");
        audit_next_target(x);
        return;
    }
    if (x->step == AUDIT_PROBE) {
        x->greatest =
            count > 0 ? base_max(x->greatest, m->entries.at[count - 1].chunk.data_id) : x->greatest;
        enough = enough || ++x->pages >= AUDIT_PROBE_PAGES;
    } else if (x->step == AUDIT_NEAREST) {
        x->least = count > 0 ? base_min(x->least, m->entries.at[0].chunk.data_id) : x->least;
        enough = enough || count > 0;
    } else {
        audit_take(x, m);
    }
    x->at = m->next;
    if (enough) {
        audit_next_target(x);
    }
}

static void audit_answered(struct peer_call *call, const struct peer_reply *r)
{
    struct metanode_auditing *x = container_of(call, struct metanode_auditing, call);
    if (!audit_back(x)) {
        return;
    }
    if (r->rc < 0 && r->rc != -ESTALE && ++x->tries < AUDIT_TRIES) {
        audit_soon(x, AUDIT_PAUSE_MS);
        return;
    }
    if (r->rc < 0) {
        audit_miss(x, "it does not answer");
        audit_next_target(x);
    } else {
        x->tries = 0;
        audit_page(x, r->body);
        x->step = x->step == AUDIT_LIST && x->pair_count > 0 ? AUDIT_TELL : x->step;
    }
    audit_soon(x, 0);
}

/* Asks the next target for its next page. False: all have answered. */
static bool audit_ask(struct metanode_auditing *x)
{
    struct metanode_target *t = NULL;
    while (x->at_target < x->target_count && (t = audit_target_now(x)) == NULL) {
        audit_next_target(x);
    }
    if (t == NULL) {
        return false;
    }
    if (t->link == NULL) { /* it comes back, or its lease ends */
        audit_soon(x, AUDIT_PAUSE_MS);
        return true;
    }
    x->request.target = t->id;
    x->request.incarnation = t->incarnation;
    x->request.first = x->at;
    x->pair_count = x->pair_at = 0;
    x->busy = true;
    x->call = (struct peer_call){.done = audit_answered,
                                 .request = &x->request,
                                 .opcode = PROTO_OP_inventory,
                                 .timeout_ms = METANODE_CALL_MS};
    peer_link_call(t->link, &x->call);
    return true;
}

/* ---- The metadata ---- */

static int audit_state_read(struct metanode_read *read, const struct namespace_view *v)
{
    struct metanode_auditing *x = container_of(read, struct metanode_auditing, read);
    int rc = namespace_view_state(v, &x->state);
    int found = namespace_view_audit(v, &x->audit);
    return namespace_view_both(rc, found < 0 ? found : 0);
}

static void audit_windows(struct metanode_auditing *x, uint64_t first)
{
    x->least = UINT64_MAX;
    if (first >= x->counter) {
        audit_step(x, AUDIT_FORGET);
    } else {
        audit_ask_all(x, AUDIT_NEAREST, first, x->counter);
    }
}

/* Every data id that any target has was given: else the metadata are older than the data. */
static void audit_checked(struct metanode_read *read, int rc)
{
    struct metanode_auditing *x = container_of(read, struct metanode_auditing, read);
    if (!audit_back(x)) {
        return;
    }
    if (rc < 0) {
        audit_again(x);
    } else if (x->greatest >= x->state.next_data_id) {
        log_error(x->m->env->log, "targets have data that this metadata has never known of",
                  LOG_U64("data", x->greatest), LOG_U64("next", x->state.next_data_id));
        audit_end(x, NAMESPACE_AUDIT_STRANGE);
    } else {
        audit_windows(x, 1);
    }
}

static void audit_check(struct metanode_auditing *x)
{
    x->busy = true;
    x->read = (struct metanode_read){.run = audit_state_read, .done = audit_checked};
    metanode_read(x->m, &x->read);
}

/* ---- Which data ids of the window are somebody's ---- */

static int audit_scan_begin(struct metanode_auditing *x)
{
    kv_need_release(&x->need);
    x->snapshot = kv_snapshot_free(x->snapshot);
    uint64_t end = base_min(x->counter - x->least, x->window_ids) + x->least;
    x->used = (struct namespace_used){.first = x->least, .end = end, .bits = x->bits};
    memset(x->bits, 0, NAMESPACE_USED_WORDS(end - x->least) * sizeof *x->bits);
    return kv_snapshot_new(x->m->kv, &x->snapshot);
}

static int audit_scan_some(struct metanode_auditing *x)
{
    const struct namespace_view v = {.snapshot = x->snapshot, .need = &x->need, .arena = &x->arena};
    int rc = 0;
    for (unsigned i = 0; i < AUDIT_ROUND_STEPS && rc == 0 && !x->used.done; i++) {
        mem_arena_reset(&x->arena);
        rc = namespace_used_step(&v, AUDIT_STEP_RECORDS, &x->used);
        if (rc == 0) {
            kv_need_release(&x->need);
        }
    }
    return rc;
}

static void audit_scan_over(struct metanode_auditing *x)
{
    x->snapshot = kv_snapshot_free(x->snapshot);
    if (x->used.state.next_data_id < x->counter) { /* it never goes back */
        audit_end(x, NAMESPACE_AUDIT_FAILED);
        return;
    }
    audit_ask_all(x, AUDIT_LIST, x->used.first, x->used.end);
}

static void audit_fetched(struct kv_fetch *f, int rc)
{
    struct metanode_auditing *x = container_of(f, struct metanode_auditing, fetch);
    x->m->reads--;
    if (!audit_back(x)) {
        return;
    }
    if (rc < 0) {
        kv_need_release(&x->need);
        x->snapshot = kv_snapshot_free(x->snapshot); /* the window from its beginning */
        audit_again(x);
    } else {
        audit_soon(x, 0);
    }
}

static void audit_scan(struct metanode_auditing *x)
{
    int rc = x->snapshot == NULL ? audit_scan_begin(x) : 0;
    rc = rc < 0 ? rc : audit_scan_some(x);
    if (rc == -ERR_need) {
        x->busy = true;
        x->m->reads++;
        x->fetch = (struct kv_fetch){.need = &x->need, .done = audit_fetched};
        kv_fetch(x->m->kv, &x->fetch);
    } else if (rc == -ENOBUFS || rc == -ECANCELED || rc == -ENOMEM || rc == -ERR_busy) {
        kv_need_release(&x->need);
        x->snapshot = kv_snapshot_free(x->snapshot);
        audit_again(x);
    } else if (rc < 0) {
        log_error(x->m->env->log, "a look for orphans cannot read the metadata", LOG_RC(rc));
        audit_end(x, NAMESPACE_AUDIT_FAILED);
    } else if (x->used.done) {
        audit_scan_over(x);
    } else {
        audit_soon(x, 0);
    }
}

/* ---- What goes into the log ---- */

/* The chains of one data id, from pair `at` on: ascending, each once, as many as a record holds.
 * Returns how many pairs it has. */
static size_t audit_chains(struct metanode_auditing *x, size_t at, struct proto_u32s *ret)
{
    uint32_t *chain = &x->chain[at];
    size_t pairs = 0, count = 0;
    for (; at + pairs < x->pair_count && x->id[at + pairs] == x->id[at]; pairs++) {
        uint32_t one = chain[pairs];
        size_t i = 0;
        while (i < count && chain[i] < one) {
            i++;
        }
        if ((i < count && chain[i] == one) || count == AUDIT_CHAINS) {
            continue;
        }
        memmove(chain + i + 1, chain + i, (count - i) * sizeof *chain);
        chain[i] = one;
        count++;
    }
    *ret = (struct proto_u32s){.at = chain, .count = count};
    return pairs;
}

static bool audit_propose(struct metanode_auditing *x, uint16_t kind, const struct proto_type *type,
                          const void *body,
                          void (*done)(struct metanode_waiter *w, int rc,
                                       const struct namespace_reply *reply))
{
    x->waiter.done = done;
    x->busy = metanode_propose(x->m, kind, type, body, &x->waiter) == 0;
    if (!x->busy) {
        audit_again(x);
    }
    return x->busy;
}

/* True: it was taken. Else what is to become of the look is settled. */
static bool audit_logged(struct metanode_auditing *x, int rc, const struct namespace_reply *reply)
{
    if (!audit_back(x)) {
        return false;
    }
    if (rc < 0) {
        audit_again(x);
        return false;
    }
    if (reply->rc == -ESTALE) { /* another one has begun */
        audit_free(x);
        return false;
    }
    if (reply->rc < 0) {
        log_error(x->m->env->log, "what a look for orphans has found is refused",
                  LOG_RC(reply->rc));
        if (x->step == AUDIT_FINISH) {
            audit_free(x);
        } else {
            audit_end(x, NAMESPACE_AUDIT_FAILED);
        }
        return false;
    }
    x->tries = 0;
    return true;
}

static void audit_told(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct metanode_auditing *x = container_of(w, struct metanode_auditing, waiter);
    if (!audit_logged(x, rc, reply)) {
        return;
    }
    x->pair_at += x->told;
    x->step = x->pair_at < x->pair_count ? AUDIT_TELL : AUDIT_LIST;
    audit_soon(x, 0);
}

static void audit_tell(struct metanode_auditing *x)
{
    struct namespace_audit_found body = {.look = x->look, .found.at = x->found};
    size_t at = x->pair_at;
    while (at < x->pair_count && body.found.count < AUDIT_BATCH) {
        struct namespace_audit_id *f = &x->found[body.found.count++];
        f->data_id = x->id[at];
        at += audit_chains(x, at, &f->chains);
    }
    x->told = at - x->pair_at;
    (void)audit_propose(x, NAMESPACE_AUDIT_FOUND, &namespace_audit_found_type, &body, audit_told);
}

/* ---- Suspects that nobody has any more ---- */

/* Was every chain looked at, at every member? */
static bool audit_is_whole(const struct metanode_auditing *x)
{
    bool whole = true;
    size_t known = 0;
    for (size_t i = 0; i < x->target_count; i++) {
        whole = whole && !x->target[i].missed;
    }
    LIST_FOR_EACH(node, &x->m->targets.all)
    {
        known += metanode_target_is_past(LIST_ENTRY(node, struct metanode_target, all)) ? 0 : 1;
    }
    LIST_FOR_EACH(node, &x->m->chains.all)
    {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        whole = whole && cluster_row_serving_count(row) == row->count;
    }
    return whole && known == x->target_count;
}

static int audit_forget_read(struct metanode_read *read, const struct namespace_view *v)
{
    struct metanode_auditing *x = container_of(read, struct metanode_auditing, read);
    struct namespace_suspects page = {0};
    int rc = namespace_suspects(v, x->forget_after, AUDIT_BATCH, &page);
    x->forget_count = 0;
    for (size_t i = 0; rc == 0 && i < page.count; i++) {
        if (page.at[i].seen != x->look) {
            x->forget[x->forget_count++] = page.ids[i];
        }
    }
    x->forget_more = rc == 0 && page.more && page.count > 0;
    x->forget_last = rc == 0 && page.count > 0 ? page.ids[page.count - 1] : x->forget_after;
    return rc;
}

static void audit_forget_goes_on(struct metanode_auditing *x)
{
    x->forget_after = x->forget_last;
    if (x->forget_more) {
        audit_soon(x, 0);
    } else {
        audit_end(x, NAMESPACE_AUDIT_DONE);
    }
}

static void audit_forgotten(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct metanode_auditing *x = container_of(w, struct metanode_auditing, waiter);
    if (audit_logged(x, rc, reply)) {
        audit_forget_goes_on(x);
    }
}

static void audit_forget_found(struct metanode_read *read, int rc)
{
    struct metanode_auditing *x = container_of(read, struct metanode_auditing, read);
    if (!audit_back(x)) {
        return;
    }
    if (rc < 0) {
        audit_again(x);
    } else if (x->forget_count == 0) {
        audit_forget_goes_on(x);
    } else {
        const struct namespace_audit_found body = {
            .look = x->look, .forget = {.at = x->forget, .count = x->forget_count}};
        (void)audit_propose(x, NAMESPACE_AUDIT_FOUND, &namespace_audit_found_type, &body,
                            audit_forgotten);
    }
}

static void audit_forget(struct metanode_auditing *x)
{
    if (!audit_is_whole(x)) { /* one that is not there now may be where nobody has looked */
        audit_end(x, NAMESPACE_AUDIT_DONE);
        return;
    }
    x->busy = true;
    x->read = (struct metanode_read){.run = audit_forget_read, .done = audit_forget_found};
    metanode_read(x->m, &x->read);
}

/* ---- The end ---- */

static void audit_finished(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct metanode_auditing *x = container_of(w, struct metanode_auditing, waiter);
    if (audit_logged(x, rc, reply)) {
        log_info(x->m->env->log, "a look for orphans is over", LOG_U64("look", x->look),
                 LOG_U64("ids", x->ids), LOG_U64("outcome", (uint64_t)x->outcome));
        audit_free(x);
    }
}

static void audit_finish(struct metanode_auditing *x)
{
    uint32_t missed[64];
    size_t count = 0;
    for (size_t i = 0; i < x->target_count && count < ARRAY_COUNT(missed); i++) {
        if (x->target[i].missed) {
            missed[count++] = x->target[i].id;
        }
    }
    const struct namespace_audit_end body = {.look = x->look,
                                             .outcome = (uint8_t)x->outcome,
                                             .ids = x->ids,
                                             .missed = {.at = missed, .count = count}};
    (void)audit_propose(x, NAMESPACE_AUDIT_END, &namespace_audit_end_type, &body, audit_finished);
}

/* All targets have answered. */
static void audit_all_asked(struct metanode_auditing *x)
{
    if (x->step == AUDIT_PROBE) {
        audit_step(x, AUDIT_CHECK);
    } else if (x->step == AUDIT_LIST) {
        audit_windows(x, x->used.end);
    } else if (x->least < x->counter) {
        audit_step(x, AUDIT_SCAN);
    } else {
        x->forget_after = 0;
        audit_step(x, AUDIT_FORGET);
    }
}

static void audit_run(struct loop_timer *t)
{
    struct metanode_auditing *x = container_of(t, struct metanode_auditing, timer);
    if (x->m->phase != METANODE_SERVING) {
        audit_free(x);
        return;
    }
    switch (x->step) {
    case AUDIT_PROBE:
    case AUDIT_NEAREST:
    case AUDIT_LIST:
        if (!audit_ask(x)) {
            audit_all_asked(x);
        }
        break;
    case AUDIT_CHECK:
        audit_check(x);
        break;
    case AUDIT_SCAN:
        audit_scan(x);
        break;
    case AUDIT_TELL:
        audit_tell(x);
        break;
    case AUDIT_FORGET:
        audit_forget(x);
        break;
    case AUDIT_FINISH:
        audit_finish(x);
        break;
    }
}

/* ---- The beginning ---- */

static int audit_targets(struct metanode_auditing *x)
{
    x->target = mem_calloc(x->m->targets.count + 1, sizeof *x->target);
    if (x->target == NULL) {
        return -ENOMEM;
    }
    LIST_FOR_EACH(node, &x->m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        if (!metanode_target_is_past(t)) {
            x->target[x->target_count++] =
                (struct audit_target){.id = t->id, .incarnation = t->incarnation};
        }
    }
    return 0;
}

/* The counter is that of the log, from when the look began. */
static void audit_begun(struct metanode_read *read, int rc)
{
    struct metanode_auditing *x = container_of(read, struct metanode_auditing, read);
    if (!audit_back(x)) {
        return;
    }
    if (rc < 0 || x->audit.look != x->look || x->audit.ended_ns != 0) {
        audit_free(x);
        return;
    }
    x->counter = x->audit.counter;
    audit_ask_all(x, AUDIT_PROBE, x->counter, 0);
}

bool metanode_audit_goes_on(const struct metanode *m)
{
    return m->cleanup.audits->look != NULL;
}

int metanode_audit_go(struct metanode *m, uint64_t look)
{
    struct metanode_audits *all = m->cleanup.audits;
    struct metanode_auditing *x = mem_zalloc(sizeof *x);
    if (x == NULL) {
        return -ENOMEM;
    }
    x->m = m;
    x->look = look;
    x->timer.fire = audit_run;
    x->window_ids = m->opt.audit_window == 0 ? AUDIT_WINDOW_IDS : m->opt.audit_window;
    mem_arena_init(&x->arena, METANODE_ARENA_BYTES);
    x->bits = mem_calloc(NAMESPACE_USED_WORDS(x->window_ids), sizeof *x->bits);
    if (x->bits == NULL || audit_targets(x) < 0 || all->stopped || all->look != NULL) {
        audit_free(x);
        return -ENOMEM;
    }
    all->look = x;
    x->busy = true;
    x->read = (struct metanode_read){.run = audit_state_read, .done = audit_begun};
    metanode_read(m, &x->read);
    return 0;
}

int metanode_audit_init(struct metanode *m)
{
    m->cleanup.audits = mem_zalloc(sizeof *m->cleanup.audits);
    return m->cleanup.audits == NULL ? -ENOMEM : 0;
}

void metanode_audit_stop(struct metanode *m)
{
    m->cleanup.audits->stopped = true;
    if (m->cleanup.audits->look != NULL) {
        audit_free(m->cleanup.audits->look);
    }
}

void metanode_audit_fini(struct metanode *m)
{
    struct metanode_audits *all = m->cleanup.audits;
    if (all != NULL) {
        all->stopped = true;
        if (all->look != NULL) { /* links, log and engine are gone: nothing comes back */
            all->look->busy = false;
            audit_free(all->look);
        }
        mem_free(all);
        m->cleanup.audits = NULL;
    }
}
