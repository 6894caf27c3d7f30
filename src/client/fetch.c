#include "client/fetch_priv.h"

#include "base/crc32c.h"
#include "base/text.h"

#include <string.h>

/*
 * Reading a range of a chunk (chain.md section 7): any serving member may be asked, choose.c says
 * which. A member that fails is left for the next one at once; when all have failed the map is
 * looked at, and a new round begins after a while. A copy that does not fit its checksums, or that
 * says it is damaged, is not asked again; an update that is not committed yet is waited for at the
 * last serving member. Bytes that do not fit are never handed on.
 */

#define CAP_TRIES 10u
#define READ_WAIT_MS 50u
#define REPORTS_MAX 16u
#define EXPLAIN_SIZE 1024u
#define SHARED_BYTES ((size_t)16 << 10) /* larger buffers may hold several */

/* ---- What members have said ---- */

static struct client_fetch_try *fetch_find(const struct client_fetch *f, uint32_t target)
{
    for (size_t i = 0; i < f->try_count; i++) {
        if (f->tries[i].target == target) {
            return (struct client_fetch_try *)&f->tries[i];
        }
    }
    return NULL;
}

/* Rows may bring more members, one after the other, than a chain can have: the first is forgotten.
 */
static struct client_fetch_try *fetch_try(struct client_fetch *f, uint32_t target)
{
    struct client_fetch_try *t = fetch_find(f, target);
    if (t != NULL) {
        return t;
    }
    if (f->try_count == ARRAY_COUNT(f->tries)) {
        f->try_count--;
        memmove(&f->tries[0], &f->tries[1], f->try_count * sizeof f->tries[0]);
    }
    t = &f->tries[f->try_count++];
    *t = (struct client_fetch_try){.target = target};
    return t;
}

static void fetch_new_round(struct client_fetch *f)
{
    for (size_t i = 0; i < f->try_count; i++) {
        f->tries[i].tried = false;
    }
}

void client_fetch_failed(struct client_fetch *f, uint32_t target, int rc)
{
    struct client_fetch_try *t = fetch_try(f, target);
    t->rc = rc;
    t->tried = true;
}

bool client_fetch_all_bad(const struct client_fetch *f)
{
    const struct cluster_row *row = client_map_row(f->chain.fs, f->chain.chain);
    size_t bad = 0;
    for (size_t i = 0; row != NULL && i < row->count; i++) {
        const struct client_fetch_try *t = fetch_find(f, row->member[i].target);
        bool serves = row->member[i].state == PROTO_MEMBER_SERVING;
        if (serves && (t == NULL || !t->bad)) {
            return false;
        }
        bad += serves ? 1 : 0;
    }
    return bad > 0; /* of a chain that is dark nothing is known */
}

char *client_fetch_explain(const struct client_fetch *f)
{
    char line[EXPLAIN_SIZE];
    struct text t;
    if (f->try_count == 0 || f->chain.fs->freeing) {
        return NULL;
    }
    text_init(&t, line, sizeof line);
    text_add(&t, "chunk %u, chain %u", f->index, f->chain.chain);
    for (size_t i = 0; i < f->try_count; i++) {
        text_add(&t, i == 0 ? ": " : "; ");
        client_map_target_text(f->chain.fs, f->tries[i].target, &t);
        text_add(&t, ": %s", err_text(f->tries[i].rc));
    }
    return mem_strdup(line);
}

/* ---- Which member ---- */

/* From the best to the worst. */
enum fetch_pass {
    PASS_GOOD,   /* can be reached, and has not failed in this round */
    PASS_SILENT, /* has not failed in this round */
    PASS_AGAIN,  /* has failed, but may have good bytes */
    PASS_BAD,    /* may have been repaired by now */
    PASS_COUNT
};

static bool fetch_allows(const struct client_fetch *f, uint32_t target, enum fetch_pass pass)
{
    const struct client_fetch_try *t = fetch_find(f, target);
    bool bad = t != NULL && t->bad, tried = t != NULL && t->tried;
    switch (pass) {
    case PASS_GOOD:
        return !bad && !tried && client_map_reachable(f->chain.fs, target);
    case PASS_SILENT:
        return !bad && !tried;
    case PASS_AGAIN:
        return !bad;
    case PASS_BAD:
    case PASS_COUNT:
        break;
    }
    return true;
}

static size_t fetch_choose(const struct client_fetch *f, const struct cluster_row *row,
                           enum fetch_pass pass, uint32_t except)
{
    struct client_choice choice[CLUSTER_MEMBERS_MAX];
    struct opendfs *fs = f->chain.fs;
    const struct client_choice_of c = {.member = choice,
                                       .count = cluster_row_serving_count(row),
                                       .bytes = f->len,
                                       .spread = f->chain.spread,
                                       .now_ns = loop_tick_ns(fs->loop)};
    for (size_t i = 0; i < c.count; i++) {
        uint32_t target = row->member[i].target;
        const struct client_source *s = client_map_source(fs, target);
        choice[i] = (struct client_choice){.allowed = false};
        if (s != NULL && target != except && fetch_allows(f, target, pass)) {
            choice[i] =
                (struct client_choice){.load = &s->load, .distance = s->distance, .allowed = true};
        }
    }
    size_t i = client_choose(&c);
    return i < c.count ? i : row->count;
}

size_t client_fetch_other(const struct client_fetch *f, const struct cluster_row *row,
                          uint32_t except)
{
    return fetch_choose(f, row, PASS_GOOD, except);
}

static size_t fetch_pick(struct client_chain_call *c, const struct cluster_row *row)
{
    const struct client_fetch *f = container_of(c, struct client_fetch, chain);
    size_t serving = cluster_row_serving_count(row), i = row->count;
    if (serving > 0 && f->last_serving &&
        fetch_allows(f, row->member[serving - 1].target, PASS_GOOD)) {
        return serving - 1;
    }
    for (unsigned pass = 0; pass < PASS_COUNT && i == row->count; pass++) {
        i = fetch_choose(f, row, (enum fetch_pass)pass, 0);
    }
    return i;
}

static void fetch_prepare(struct client_chain_call *c)
{
    struct client_fetch *f = container_of(c, struct client_fetch, chain);
    struct client_inode *i = f->inode;
    const struct client_cap *cap = i->read_cap.known ? &i->read_cap : &i->write_cap;
    struct client_source *s = client_map_source(c->fs, c->target);
    f->request.capability = cap->cap;
    client_inode_check_cap(i, cap);
    f->sent_ns = loop_now_ns(c->fs->loop);
    client_load_begin(&s->load);
    stats_count(&s->reads, 1);
    client_budget_earn(&c->fs->hedges);
    client_hedge_arm(f);
}

/* Its queue or its role: others are preferred for a while. Not what says nothing about its speed.
 */
static bool account_failed(const struct peer_reply *r)
{
    if (!r->answered) {
        return r->rc != -ERR_cancelled && r->rc != -ERR_busy && r->rc != -ENOMEM;
    }
    return r->rc == -ERR_busy || err_is(r->rc, ERR_not_serving);
}

void client_fetch_account(const struct client_fetch *f, struct client_source *s, uint64_t sent_ns,
                          const struct peer_reply *r, bool overtaken)
{
    uint64_t now = loop_now_ns(f->chain.fs->loop), took = now - sent_ns;
    if (r->rc == 0 || overtaken) {
        client_load_end(&s->load, f->len, now, took);
        stats_sample(&s->read_time, took);
    } else if (account_failed(r)) {
        client_load_fail(&s->load, now, took);
        stats_count(&s->failures, 1);
    } else {
        client_load_drop(&s->load);
    }
}

/* ---- Bad copies ---- */

bool client_fetch_fits(const struct client_fetch *f, const struct peer_reply *r)
{
    const struct proto_read_reply *m = r->body;
    const struct slice *data = &r->data;
    uint64_t end = base_min((uint64_t)f->offset + f->len, m->length);
    uint64_t wanted = end > f->offset ? end - f->offset : 0;
    if (wanted == 0) {
        return data->len == 0;
    }
    if (m->offset != f->offset || data->len < wanted || data->len > (size_t)f->len ||
        m->crcs.count < (data->len + PROTO_CELL_BYTES - 1) / PROTO_CELL_BYTES) {
        return false;
    }
    for (size_t at = 0, cell = 0; at < data->len; at += PROTO_CELL_BYTES, cell++) {
        size_t n = base_min(PROTO_CELL_BYTES, data->len - at);
        if (crc32c(0, data->at + at, n) != m->crcs.at[cell]) {
            return false;
        }
    }
    return true;
}

/* Tells a member that what it sent does not fit: it looks at its copy and repairs it. Nobody waits
 * for the answer. */
struct fetch_report {
    struct opendfs *fs;
    struct peer_call call;
    struct proto_read_request request;
    struct client_cap cap;
};

static void report_done(struct peer_call *c, const struct peer_reply *r)
{
    struct fetch_report *p = container_of(c, struct fetch_report, call);
    (void)r;
    p->fs->reports--;
    mem_free(p);
}

static void fetch_report(const struct client_fetch *f, uint32_t target)
{
    struct opendfs *fs = f->chain.fs;
    struct peer *peer;
    if (fs->freeing || fs->reports >= REPORTS_MAX || client_map_peer(fs, target, &peer) < 0) {
        return;
    }
    struct fetch_report *p = mem_zalloc(sizeof *p);
    if (p == NULL) {
        return; /* the next reader tells it */
    }
    p->fs = fs;
    p->request = f->request;
    client_cap_take(fs, &p->cap, &f->request.capability);
    p->request.capability = p->cap.cap;
    p->request.flags = PROTO_READ_CHECK;
    p->call = (struct peer_call){.done = report_done,
                                 .request = &p->request,
                                 .opcode = PROTO_OP_read,
                                 .slot = f->chain.peer.slot};
    fs->reports++;
    peer_call(peer, &p->call);
}

bool client_fetch_is_bad(struct client_fetch *f, uint32_t target, const struct peer_reply *r)
{
    struct opendfs *fs = f->chain.fs;
    struct client_source *s = client_map_source(fs, target);
    if (r->rc < 0 && !(r->answered && err_is(r->rc, EIO))) {
        return false;
    }
    if (r->rc == 0) {
        fetch_report(f, target);
    }
    client_fetch_failed(f, target, r->rc == 0 ? -ERR_bad_crc : r->rc);
    fetch_try(f, target)->bad = true;
    stats_count(&fs->counters.bad_cells, 1);
    if (s != NULL) {
        stats_count(&s->bad_cells, 1);
    }
    return true;
}

/* ---- One attempt after the other ---- */

/* At once to another member, if there is one that may do better; else as `common` says, and then
 * all may be asked again. */
static enum client_verdict fetch_next(struct client_fetch *f, enum client_verdict common)
{
    struct opendfs *fs = f->chain.fs;
    const struct cluster_row *row = client_map_row(fs, f->chain.chain);
    if (row != NULL && client_fetch_other(f, row, 0) < row->count) {
        stats_count(&fs->counters.fallbacks, 1);
        return CHAIN_NOW;
    }
    fetch_new_round(f);
    return common == CHAIN_NOW ? CHAIN_LATER : common;
}

static void fetch_renewed(struct client_held *h)
{
    struct client_fetch *f = container_of(h, struct client_fetch, held);
    client_chain_resume(&f->chain, CHAIN_LATER);
}

static enum client_verdict fetch_refused(struct client_fetch *f, const struct peer_reply *r,
                                         enum client_verdict common)
{
    struct client_chain_call *c = &f->chain;
    if (err_is(r->rc, ERR_bad_capability) && f->cap_tries++ < CAP_TRIES && !c->fs->freeing) {
        f->held.renewed = fetch_renewed;
        client_inode_renew(f->inode, &f->held);
        return CHAIN_HELD;
    }
    if (common == CHAIN_FINAL) {
        return common;
    }
    if (r->rc == -ERR_stale_epoch && common == CHAIN_NOW) {
        fetch_new_round(f); /* by the new row */
        return common;
    }
    f->last_serving = f->last_serving || r->rc == -ERR_pending;
    client_fetch_failed(f, c->target, r->rc);
    return fetch_next(f, r->rc == -ERR_pending ? CHAIN_LATER : common);
}

static enum client_verdict fetch_verdict(struct client_fetch *f, const struct peer_reply *r,
                                         enum client_verdict common)
{
    struct client_chain_call *c = &f->chain;
    f->rc = r->rc;
    if (f->won || (r->rc == 0 && client_fetch_fits(f, r))) {
        return CHAIN_FINAL;
    }
    if (client_fetch_is_bad(f, c->target, r)) {
        if (client_fetch_all_bad(f)) {
            f->rc = -ERR_corrupt; /* all say so */
            return CHAIN_FINAL;
        }
        return fetch_next(f, CHAIN_REFRESH);
    }
    if (r->answered) {
        return fetch_refused(f, r, common);
    }
    if (common != CHAIN_REFRESH) {
        return common; /* the end, or no memory: no member has said anything */
    }
    client_fetch_failed(f, c->target, r->rc);
    return fetch_next(f, common);
}

static enum client_verdict fetch_judge(struct client_chain_call *c, const struct peer_reply *r,
                                       enum client_verdict common)
{
    struct client_fetch *f = container_of(c, struct client_fetch, chain);
    struct client_source *s = c->fs->freeing ? NULL : client_map_source(c->fs, c->target);
    if (s != NULL) {
        client_fetch_account(f, s, f->sent_ns, r, f->won);
    }
    return client_hedge_landed(f, fetch_verdict(f, r, common));
}

/* What is kept for long does not keep the buffer of a whole company: then it is copied. */
static void fetch_keep(struct client_fetch *f, const struct slice *data)
{
    struct buf_pool *pool = f->chain.fs->pool;
    bool shared =
        f->lasts && data->buf != NULL && data->buf->size > base_max(2 * data->len, SHARED_BYTES);
    struct buf *own = shared ? buf_get(pool, data->len) : NULL;
    f->data = *data;
    if (own != NULL) {
        buf_copy(pool, own->at, data);
        f->data = (struct slice){.buf = own, .at = own->at, .len = data->len};
    } else if (f->data.buf != NULL) {
        buf_ref(f->data.buf);
    }
}

static void fetch_done(struct client_chain_call *c, const struct peer_reply *r)
{
    struct client_fetch *f = container_of(c, struct client_fetch, chain);
    struct client_inode *i = f->inode;
    int rc = f->won ? 0 : r->rc < 0 ? r->rc : f->rc;
    list_remove(&f->node);
    list_remove(&f->held.node);
    client_hedge_drop(f);
    if (rc == 0 && !f->won) {
        const struct proto_read_reply *m = r->body;
        f->chunk_length = m->length;
        fetch_keep(f, &r->data);
    }
    stats_count(&c->fs->counters.read_bytes, f->data.len);
    stats_count(&c->fs->counters.streamed_bytes, f->stream ? f->data.len : 0);
    f->done(f, rc);
    client_inode_put(i);
}

static const struct client_chain_ops fetch_ops = {
    .pick = fetch_pick, .prepare = fetch_prepare, .judge = fetch_judge, .done = fetch_done};

void client_fetch_start(struct client_fetch *f)
{
    struct client_inode *i = f->inode;
    i->refs++;
    list_push_back(&i->fetches, &f->node);
    list_init(&f->held.node);
    f->data = (struct slice){0};
    f->try_count = 0;
    f->last_serving = false;
    f->cap_tries = 0;
    f->rc = 0;
    f->won = false;
    f->parked = false;
    f->request =
        (struct proto_read_request){.chunk = {.data_id = i->layout.data_id, .index = f->index},
                                    .offset = f->offset,
                                    .length = f->len,
                                    .wait_ms = READ_WAIT_MS,
                                    .flags = f->stream ? PROTO_READ_STREAM : 0};
    f->chain.ops = &fetch_ops;
    f->chain.route = &f->request.route;
    f->chain.spread = f->index + f->offset / CLIENT_UNIT_BYTES;
    f->chain.layout = &i->layout;
    f->chain.index = f->index;
    f->chain.settles = false;
    f->chain.hurries = true;
    f->gather.call = &f->chain.peer;
    f->gather.request = &f->request;
    f->chain.gather = client_gather_small(&f->request) ? &f->gather : NULL;
    f->chain.peer.request = &f->request;
    f->chain.peer.opcode = PROTO_OP_read;
    client_chain_start(i->fs, &f->chain);
}

void client_fetch_cancel(struct client_fetch *f)
{
    client_chain_cancel(&f->chain);
}
