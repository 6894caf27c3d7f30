/*
 * consensus/io.c -- struct raft_io: the engine's disk, clock, messages and chance.
 *
 * None of its functions fails in a way that the engine would have to unwind, because it cannot
 * (guards B3, B6): an append that the journal cannot take now is kept and tried again; one whose
 * write failed is never answered, and the whole stops. Writes go into the journal strictly in
 * order: what it hands back is handed in again before anything newer.
 */
#include "base/mem.h"
#include "consensus/consensus_priv.h"
#include "consensus/message.h"
#include "wire/wire.h"

#include <string.h>

static struct consensus *consensus_of(struct raft_io *io)
{
    return io->impl;
}

void consensus_enter(struct consensus *c)
{
    CHECK(!c->in_raft);
    c->in_raft = true;
}

void consensus_leave(struct consensus *c)
{
    c->in_raft = false;
    bool leads = raft_state(&c->raft) == RAFT_LEADER;
    if (leads && c->leader_term != raft_current_term(&c->raft)) {
        c->leader_term = raft_current_term(&c->raft);
        c->leader_index = raft_last_index(&c->raft); /* all of its log, and its own barrier */
        c->lease_from_ns = 0;
        stats_count(&c->stats.elections, 1);
    }
    if (!leads) {
        c->lease_from_ns = 0;
    }
    consensus_check_batches(c);
    consensus_wake(c);
}

/* --- appending -----------------------------------------------------------------------------------
 */

static void append_over(struct consensus_append *a, struct consensus *c, int status)
{
    list_remove(&a->node);
    if (a->req == NULL) {
        consensus_engine_start(c);
    } else if (status == 0) {
        consensus_enter(c);
        a->req->cb(a->req, 0);
        consensus_leave(c);
    } else {
        a->req->cb(a->req, status);
    }
    raft_free(a);
}

/* Out of order is impossible: the journal fails all that stands behind what it fails. */
static bool write_returned(struct consensus_write *w, int rc)
{
    struct consensus *c = w->consensus;
    c->writes_in_flight--;
    if (!err_is(rc, ENOSPC) && rc != -ERR_busy) {
        return false;
    }
    c->held = true;
    c->no_space = c->no_space || err_is(rc, ENOSPC);
    list_push_back(&c->returned, &w->node);
    if (!c->closing) {
        loop_timer_in(c->env.loop, &c->retry, CONSENSUS_RETRY_NS);
    }
    consensus_wake(c);
    return true;
}

static void record_done(struct journal_append *r, int rc)
{
    struct consensus_write *w = container_of(r, struct consensus_write, record);
    struct consensus *c = w->consensus;
    if (write_returned(w, rc) || rc < 0 || c->failed != 0) {
        return; /* a failure comes by journal_user.failed, too */
    }
    c->no_space = false;
    w->append->left--;
    if (w->append->left == 0 && !c->closing) {
        append_over(w->append, c, 0);
    }
}

static void cut_done(struct journal_cut *r, int rc)
{
    struct consensus_write *w = container_of(r, struct consensus_write, cut);
    struct consensus *c = w->consensus;
    if (!write_returned(w, rc)) {
        if (c->put.step == PUT_CUT && w->index == c->put.index + 1) {
            consensus_snapshot_cut_done(c, rc);
        }
        raft_free(w);
    }
}

/* Hands one to the journal; false: not now. */
static bool write_submit(struct consensus *c, struct consensus_write *w)
{
    if (w->append == NULL) {
        w->cut = (struct journal_cut){.done = cut_done, .index = w->index};
        journal_cut(c->journal, &w->cut);
        return w->cut.append.index != 0;
    }
    w->record.done = record_done;
    w->record.durability = JOURNAL_STABLE;
    journal_append(c->journal, &w->record);
    return w->record.index != 0;
}

static void writes_run(struct consensus *c)
{
    if (c->journal == NULL || c->failed != 0 || c->closing) {
        return;
    }
    if (c->held && (c->writes_in_flight > 0 || loop_timer_active(&c->retry))) {
        return;
    }
    c->held = false;
    list_splice_back(&c->returned, &c->writes);
    list_splice_back(&c->writes, &c->returned);
    while (!list_empty(&c->writes) && !c->held) {
        struct consensus_write *w = LIST_ENTRY(c->writes.next, struct consensus_write, node);
        struct journal_info info;
        journal_info(c->journal, &info);
        if (info.failed != 0) {
            return;
        }
        if (w->append != NULL && info.next_index != w->index) {
            /* It has taken back some in front of this one; their callbacks are on the way. */
            CHECK(c->writes_in_flight > 0);
            c->held = true;
            return;
        }
        list_remove(&w->node);
        c->writes_in_flight++;
        c->held = !write_submit(c, w);
    }
}

static void record_init(struct consensus *c, struct consensus_append *a, unsigned i,
                        const struct raft_entry *e)
{
    struct consensus_write *w = &a->record[i];
    w->consensus = c;
    w->append = a;
    w->index = c->log_next++;
    wire_store_u64(w->header, e->term);
    w->iov[0] = (struct iovec){.iov_base = w->header, .iov_len = sizeof w->header};
    w->iov[1] = (struct iovec){.iov_base = e->buf.base, .iov_len = e->buf.len};
    w->record = (struct journal_append){.iov = w->iov, .iov_count = 2, .type = (uint16_t)e->type};
    list_push_back(&c->writes, &w->node);
}

static void append_add(struct consensus *c, struct raft_io_append *req,
                       const struct raft_entry entries[], unsigned n)
{
    struct consensus_append *a =
        raft_calloc(1, sizeof *a + n * sizeof(struct consensus_write)); /* aborts without memory */
    a->req = req;
    a->left = n;
    list_push_back(&c->appends, &a->node);
    for (unsigned i = 0; i < n; i++) {
        record_init(c, a, i, &entries[i]);
    }
    writes_run(c);
}

void consensus_write_first(struct consensus *c)
{
    c->log_next = c->loaded_begin;
    append_add(c, NULL, c->loaded, 1);
}

static int io_append(struct raft_io *io, struct raft_io_append *req,
                     const struct raft_entry entries[], unsigned n, raft_io_append_cb cb)
{
    req->cb = cb;
    append_add(consensus_of(io), req, entries, n);
    return 0;
}

void consensus_write_cut(struct consensus *c, uint64_t index)
{
    struct consensus_write *w = raft_calloc(1, sizeof *w);
    w->consensus = c;
    w->index = index;
    c->log_next = index;
    list_push_back(&c->writes, &w->node);
    writes_run(c);
}

static int io_truncate(struct raft_io *io, raft_index index)
{
    struct consensus *c = consensus_of(io);
    if (index < c->log_next) { /* the engine calls it with every append */
        consensus_write_cut(c, index);
    }
    return 0;
}

static void retry_fire(struct loop_timer *t)
{
    consensus_wake(container_of(t, struct consensus, retry));
}

/* --- term and vote -------------------------------------------------------------------------------
 */

static int term_change(struct consensus *c, uint64_t term, uint64_t vote)
{
    c->lease_from_ns = 0; /* before anything of it can leave: guard G5 */
    if (c->failed != 0) {
        return RAFT_IOERR;
    }
    int rc = consensus_term_store(c, term, vote);
    if (rc < 0) {
        consensus_fail(c, rc, "write '%s'", c->path_term);
        return RAFT_IOERR;
    }
    c->term = term;
    c->vote = vote;
    return 0;
}

/* The engine sets the same term again before a vote; storing that would forget an earlier vote
 * (guard B5). */
static int io_set_term(struct raft_io *io, raft_term term)
{
    struct consensus *c = consensus_of(io);
    return term == c->term ? 0 : term_change(c, term, 0);
}

static int io_set_vote(struct raft_io *io, raft_id id)
{
    struct consensus *c = consensus_of(io);
    return id == c->vote ? 0 : term_change(c, c->term, id);
}

/* --- start, time, messages -----------------------------------------------------------------------
 */

static int io_init(struct raft_io *io, raft_id id, const char *address)
{
    (void)io;
    (void)id;
    (void)address;
    return 0;
}

/* NOLINTNEXTLINE(readability-function-size): the engine's signature */
static int io_load(struct raft_io *io, raft_term *term, raft_id *vote,
                   struct raft_snapshot **snapshot, raft_index *start, struct raft_entry *entries[],
                   size_t *count)
{
    struct consensus *c = consensus_of(io);
    *term = c->term;
    *vote = c->vote;
    *snapshot = consensus_snapshot_make(c);
    *start = c->loaded_begin;
    *count = c->loaded_count;
    *entries = c->loaded_count > 0 ? c->loaded : NULL;
    if (c->loaded_count == 0) {
        raft_free(c->loaded);
    }
    c->loaded = NULL;
    c->loaded_count = 0;
    return 0;
}

static void tick_fire(struct loop_timer *t)
{
    struct consensus *c = container_of(t, struct consensus, tick);
    if (c->failed == 0 && !c->closing) {
        loop_timer_in(c->env.loop, t, (uint64_t)c->tick_ms * 1000000);
        consensus_enter(c);
        c->on_tick(&c->io);
        consensus_leave(c);
    }
}

static int io_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb recv)
{
    struct consensus *c = consensus_of(io);
    c->tick_ms = msecs;
    c->on_tick = tick;
    c->on_receive = recv;
    loop_timer_in(c->env.loop, &c->tick, (uint64_t)msecs * 1000000);
    return 0;
}

/* Both are done by consensus_open(), or not at all. */
static int io_refuse(struct raft_io *io, const struct raft_configuration *conf)
{
    (void)io;
    (void)conf;
    return RAFT_INVALID;
}

static raft_time io_time(struct raft_io *io)
{
    return loop_now_ns(consensus_of(io)->env.loop) / 1000000; /* fresh at each call: guard G4 */
}

static int io_random(struct raft_io *io, int min, int max)
{
    uint64_t span = (uint64_t)((int64_t)max - min) + 1;
    return (int)(min + (int64_t)(loop_random(consensus_of(io)->env.loop) % span));
}

static int io_send(struct raft_io *io, struct raft_io_send *req, const struct raft_message *m,
                   raft_io_send_cb cb)
{
    struct consensus *c = consensus_of(io);
    req->cb = cb;
    struct consensus_deferred *d = raft_calloc(1, sizeof *d);
    d->send = req;
    list_push_back(&c->deferred, &d->node);
    if (c->transport != NULL && c->failed == 0 && !c->closing) {
        struct raft_message copy = *m;
        consensus_hold_result(c, &copy);
        consensus_message_send(c, &copy);
    }
    consensus_wake(c);
    return 0;
}

static int io_snapshot_get(struct raft_io *io, struct raft_io_snapshot_get *req,
                           raft_io_snapshot_get_cb cb)
{
    struct consensus *c = consensus_of(io);
    req->cb = cb;
    struct consensus_deferred *d = raft_calloc(1, sizeof *d);
    d->get = req;
    list_push_back(&c->deferred, &d->node);
    consensus_wake(c);
    return 0;
}

/* Those of the engine that must not be called from inside the request. */
static void deferred_run(struct consensus *c, int status)
{
    struct list now;
    list_init(&now);
    list_splice_back(&now, &c->deferred);
    struct list *node = list_pop_front(&now);
    for (; node != NULL; node = list_pop_front(&now)) {
        struct consensus_deferred *d = LIST_ENTRY(node, struct consensus_deferred, node);
        c->in_raft = true;
        if (d->send != NULL) {
            d->send->cb(d->send, status);
        } else {
            struct raft_snapshot *s = status == 0 ? consensus_snapshot_make(c) : NULL;
            d->get->cb(d->get, s, s != NULL ? 0 : RAFT_CANCELED);
        }
        c->in_raft = false;
        raft_free(d);
    }
}

void consensus_io_run(struct consensus *c)
{
    deferred_run(c, 0);
    writes_run(c);
}

/* --- the end -------------------------------------------------------------------------------------
 */

static void writes_free(struct list *from)
{
    struct list *node = list_pop_front(from);
    for (; node != NULL; node = list_pop_front(from)) {
        struct consensus_write *w = LIST_ENTRY(node, struct consensus_write, node);
        if (w->append == NULL) {
            raft_free(w); /* a cut; records belong to their append */
        }
    }
}

/* Nothing is in flight any more: everything that the engine waits for is cancelled. */
static void close_finish(struct consensus *c)
{
    writes_free(&c->returned);
    writes_free(&c->writes);
    while (!list_empty(&c->appends)) {
        struct consensus_append *a = LIST_ENTRY(c->appends.next, struct consensus_append, node);
        if (a->req == NULL) {
            list_remove(&a->node);
            raft_free(a);
        } else {
            append_over(a, c, RAFT_CANCELED);
        }
    }
    consensus_snapshot_cancel(c);
    while (!list_empty(&c->deferred)) {
        deferred_run(c, RAFT_CANCELED);
    }
    c->on_close(&c->io);
}

void consensus_io_closed(struct consensus *c)
{
    if (c->on_close != NULL && c->journal == NULL && !consensus_snapshot_busy(c)) {
        close_finish(c);
    }
}

static void journal_stopped(struct journal_stop *s, int rc)
{
    struct consensus *c = container_of(s, struct consensus, journal_stop);
    (void)rc; /* what failed was told by `failed` */
    c->journal = journal_free(c->journal);
    consensus_io_closed(c);
}

static void io_close(struct raft_io *io, raft_io_close_cb cb)
{
    struct consensus *c = consensus_of(io);
    c->on_close = cb;
    loop_timer_cancel(c->env.loop, &c->tick);
    loop_timer_cancel(c->env.loop, &c->retry);
    if (c->stop == NULL) { /* consensus_free() right after consensus_open() */
        c->journal = journal_free(c->journal);
        close_finish(c);
        return;
    }
    c->journal_stop.done = journal_stopped;
    journal_stop(c->journal, &c->journal_stop);
}

void consensus_io_init(struct consensus *c)
{
    list_init(&c->appends);
    list_init(&c->writes);
    list_init(&c->returned);
    list_init(&c->deferred);
    c->retry.fire = retry_fire;
    c->tick.fire = tick_fire;
    c->io = (struct raft_io){.version = 2,
                             .capacity = UINT16_MAX, /* space is the journal's business */
                             .impl = c,
                             .init = io_init,
                             .close = io_close,
                             .load = io_load,
                             .start = io_start,
                             .bootstrap = io_refuse,
                             .recover = io_refuse,
                             .set_term = io_set_term,
                             .set_vote = io_set_vote,
                             .send = io_send,
                             .append = io_append,
                             .truncate = io_truncate,
                             .snapshot_put = consensus_snapshot_put,
                             .snapshot_get = io_snapshot_get,
                             .time = io_time,
                             .random = io_random};
}
