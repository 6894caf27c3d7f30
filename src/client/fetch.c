#include "client/update_priv.h"

#include "base/crc32c.h"

/*
 * Reading a range of a chunk (chain.md section 7): any serving member, spread by chunk; a copy that
 * does not fit its checksums, or that says it is damaged, is left for the next member; an update
 * that is not committed yet is waited for at the last serving member.
 */

#define CAP_TRIES 10u
#define READ_WAIT_MS 50u
#define REPORTS_MAX 16u

static bool fetch_is_bad(const struct client_fetch *f, uint32_t target)
{
    for (size_t i = 0; i < f->bad_count; i++) {
        if (f->bad[i] == target) {
            return true;
        }
    }
    return false;
}

static size_t fetch_pick(struct client_chain_call *c, const struct cluster_row *row)
{
    const struct client_fetch *f = container_of(c, struct client_fetch, chain);
    size_t serving = cluster_row_serving_count(row);
    size_t fallback = row->count;
    if (serving == 0) {
        return row->count;
    }
    size_t first = f->last_serving ? serving - 1 : c->spread % serving;
    for (size_t k = 0; k < serving; k++) {
        size_t i = (first + k) % serving;
        uint32_t target = row->member[i].target;
        if (fetch_is_bad(f, target)) {
            continue;
        }
        if (target != f->avoid && client_map_reachable(c->fs, target)) {
            return i;
        }
        fallback = fallback == row->count || target != f->avoid ? i : fallback;
    }
    return fallback;
}

static void fetch_prepare(struct client_chain_call *c)
{
    struct client_fetch *f = container_of(c, struct client_fetch, chain);
    struct client_inode *i = f->inode;
    const struct client_cap *cap = i->read_cap.known ? &i->read_cap : &i->write_cap;
    f->request.capability = cap->cap;
    client_inode_check_cap(i, cap);
}

/* A member that cannot give good bytes. True: there is none left that could. */
static bool fetch_mark_bad(struct client_fetch *f)
{
    const struct cluster_row *row = client_map_row(f->chain.fs, f->chain.chain);
    if (f->bad_count < ARRAY_COUNT(f->bad)) {
        f->bad[f->bad_count++] = f->chain.target;
    }
    stats_count(&f->chain.fs->counters.bad_cells, 1);
    for (size_t i = 0; row != NULL && i < row->count; i++) {
        if (row->member[i].state == PROTO_MEMBER_SERVING &&
            !fetch_is_bad(f, row->member[i].target)) {
            return false;
        }
    }
    return true;
}

static bool fetch_verify(const struct client_fetch *f, const struct proto_read_reply *m,
                         const struct slice *data)
{
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

static void fetch_report(const struct client_fetch *f)
{
    struct opendfs *fs = f->chain.fs;
    struct peer *peer;
    if (fs->freeing || fs->reports >= REPORTS_MAX ||
        client_map_peer(fs, f->chain.target, &peer) < 0) {
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

static enum client_verdict fetch_corrupt(struct client_fetch *f)
{
    if (!fetch_mark_bad(f)) {
        return CHAIN_NOW;
    }
    f->rc = -ERR_corrupt; /* all say so */
    return CHAIN_FINAL;
}

static void fetch_renewed(struct client_held *h)
{
    struct client_fetch *f = container_of(h, struct client_fetch, held);
    client_chain_resume(&f->chain, CHAIN_LATER);
}

static enum client_verdict fetch_judge(struct client_chain_call *c, const struct peer_reply *r,
                                       enum client_verdict common)
{
    struct client_fetch *f = container_of(c, struct client_fetch, chain);
    f->rc = r->rc;
    f->avoid = r->answered ? 0 : c->target;
    if (r->rc == 0) {
        const struct proto_read_reply *m = r->body;
        if (fetch_verify(f, m, &r->data)) {
            return CHAIN_FINAL;
        }
        fetch_report(f);
        return fetch_corrupt(f);
    }
    if (r->answered && err_is(r->rc, ERR_corrupt)) {
        return fetch_corrupt(f);
    }
    if (r->answered && r->rc == -ERR_pending) {
        bool first = !f->last_serving;
        f->last_serving = true;
        f->avoid = first ? 0 : c->target;
        return first ? CHAIN_NOW : CHAIN_LATER;
    }
    if (r->answered && err_is(r->rc, ERR_bad_capability) && f->cap_tries++ < CAP_TRIES &&
        !c->fs->freeing) {
        f->held.renewed = fetch_renewed;
        client_inode_renew(f->inode, &f->held);
        return CHAIN_HELD;
    }
    if (r->answered && err_is(r->rc, EIO) && common == CHAIN_FINAL) {
        return fetch_corrupt(f); /* this copy cannot be read */
    }
    return common;
}

static void fetch_done(struct client_chain_call *c, const struct peer_reply *r)
{
    struct client_fetch *f = container_of(c, struct client_fetch, chain);
    struct client_inode *i = f->inode;
    int rc = r->rc < 0 ? r->rc : f->rc;
    list_remove(&f->node);
    list_remove(&f->held.node);
    f->data = (struct slice){0};
    if (rc == 0) {
        const struct proto_read_reply *m = r->body;
        f->chunk_length = m->length;
        f->data = r->data;
        if (f->data.buf != NULL) {
            buf_ref(f->data.buf);
        }
        stats_count(&c->fs->counters.read_bytes, f->data.len);
    }
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
    f->bad_count = 0;
    f->avoid = 0;
    f->last_serving = false;
    f->cap_tries = 0;
    f->rc = 0;
    f->request =
        (struct proto_read_request){.chunk = {.data_id = i->layout.data_id, .index = f->index},
                                    .offset = f->offset,
                                    .length = f->len,
                                    .wait_ms = READ_WAIT_MS};
    f->chain.ops = &fetch_ops;
    f->chain.route = &f->request.route;
    f->chain.spread = f->index + f->offset / CLIENT_UNIT_BYTES;
    f->chain.layout = &i->layout;
    f->chain.index = f->index;
    f->chain.settles = false;
    f->chain.hurries = true;
    f->chain.peer.request = &f->request;
    f->chain.peer.opcode = PROTO_OP_read;
    client_chain_start(i->fs, &f->chain);
}

void client_fetch_cancel(struct client_fetch *f)
{
    client_chain_cancel(&f->chain);
}
