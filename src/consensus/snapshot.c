/*
 * consensus/snapshot.c -- snapshots by reference: the owner's few bytes, recorded in a small file
 * when the owner says that the state behind them is durable (guard G8); the log in front is trimmed
 * then.
 *
 * The engine asks for a snapshot at any event once a threshold is passed; the threshold is out of
 * reach until one is wanted and everything committed is executed, so that its index is the owner's.
 */
#include "base/mem.h"
#include "consensus/configuration.h"
#include "consensus/consensus_priv.h"
#include "wire/wire.h"

#include <limits.h>
#include <string.h>

/* --- the engine's side ---------------------------------------------------------------------------
 */

static void buffer_of(const void *bytes, size_t len, struct raft_buffer *ret)
{
    ret->len = (size_t)base_align_up(len + 4, 8);
    ret->base = raft_calloc(1, ret->len);
    wire_store_u32(ret->base, (uint32_t)len);
    memcpy((uint8_t *)ret->base + 4, bytes, len);
}

static int buffer_reference(const struct raft_buffer *buf, struct consensus_reference *ret)
{
    struct wire_reader r = wire_reader_over(buf->base, buf->len);
    size_t len = wire_read_u32(&r);
    const uint8_t *bytes = len <= sizeof ret->bytes ? wire_read_bytes(&r, len) : NULL;
    if (bytes == NULL) {
        return -ERR_bad_length;
    }
    ret->len = len;
    memcpy(ret->bytes, bytes, len);
    return 0;
}

int consensus_raft_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *count)
{
    struct consensus *c = fsm->data;
    if (!c->snapshot_wanted || c->ring_count > 0 || c->put.step != PUT_IDLE || c->install.held) {
        return RAFT_BUSY; /* guard G3: not while one of the leader is held */
    }
    if (raft_last_applied(&c->raft) < c->skip_to) {
        return RAFT_BUSY; /* the owner is ahead: its state has another index */
    }
    struct consensus_reference r = {.index = raft_last_applied(&c->raft),
                                    .term = raft_current_term(&c->raft)};
    int rc = c->fsm->ops->snapshot(c->fsm, &r);
    if (rc < 0 || r.len > sizeof r.bytes) {
        return RAFT_BUSY;
    }
    *bufs = raft_malloc(sizeof **bufs);
    *count = 1;
    buffer_of(r.bytes, r.len, *bufs);
    c->snapshot_keep_from = r.keep_from;
    c->snapshot_wanted = false;
    return 0;
}

/* At the start: consensus_open() has offered it to the owner already. */
int consensus_raft_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    (void)fsm; /* the owner is there: consensus_open() or consensus_snapshot_durable() */
    raft_free(buf->base);
    return 0;
}

void consensus_snapshot_want(struct consensus *c)
{
    c->snapshot_wanted = c->put.step == PUT_IDLE && c->failed == 0 && c->stop == NULL;
    consensus_wake(c);
}

void consensus_snapshot_try(struct consensus *c)
{
    bool now = c->snapshot_wanted && c->put.step == PUT_IDLE && !c->install.held &&
               c->ring_count == 0 && c->on_tick != NULL && c->failed == 0 && !c->closing;
    if (!now) {
        return;
    }
    raft_set_snapshot_threshold(&c->raft, 1);
    consensus_enter(c);
    c->on_tick(&c->io);
    consensus_leave(c);
    raft_set_snapshot_threshold(&c->raft, UINT_MAX);
    c->snapshot_wanted = false; /* refused, or nothing new: the owner asks again */
}

/* --- recording it --------------------------------------------------------------------------------
 */

static void put_bytes(struct consensus *c, const struct raft_snapshot *s, uint64_t log_begin)
{
    struct raft_buffer conf;
    int bad = raft_configuration_encode(&s->configuration, &conf);
    CHECK(bad == 0);
    struct consensus_reference r = {0};
    bad = buffer_reference(&s->bufs[0], &r);
    CHECK(bad == 0); /* ours, or checked when it arrived */
    struct consensus_snapshot file = {.installed = c->put.installed,
                                      .index = s->index,
                                      .term = s->term,
                                      .log_begin = log_begin,
                                      .configuration_index = s->configuration_index,
                                      .configuration = conf.base,
                                      .configuration_len = conf.len,
                                      .reference = r.bytes,
                                      .reference_len = r.len};
    memcpy(file.cluster, c->cluster, sizeof file.cluster);
    c->put.len = consensus_snapshot_size(&file);
    c->put.bytes = raft_malloc(c->put.len);
    consensus_snapshot_encode(&file, c->put.bytes);
    raft_free(conf.base);
}

static void put_next(struct consensus *c);

int consensus_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                           const struct raft_snapshot *s, raft_io_snapshot_put_cb cb)
{
    struct consensus *c = io->impl;
    struct consensus_put *p = &c->put;
    CHECK(p->step == PUT_IDLE && s->n_bufs == 1);
    req->cb = cb;
    *p = (struct consensus_put){.step = PUT_WAIT,
                                .req = req,
                                .index = s->index,
                                .term = s->term,
                                .installed = trailing == 0};
    p->log_begin = p->installed ? s->index + 1 : 1; /* a short log is kept as a whole */
    if (!p->installed && s->index > trailing) {
        p->log_begin = s->index - trailing + 1;
    }
    if (!p->installed && c->snapshot_keep_from != 0) {
        p->log_begin = base_min(p->log_begin, c->snapshot_keep_from);
    }
    put_bytes(c, s, p->log_begin);
    if (p->installed) {
        c->skip_to = base_max(c->skip_to, p->index);
        p->step = PUT_OPEN; /* its state is durable already, or it would not have been given */
        put_next(c);
    }
    return 0;
}

void consensus_snapshot_durable(struct consensus *c, uint64_t index, int rc)
{
    LOOP_OWNED(c->env.loop);
    struct consensus_put *p = &c->put;
    if (c->install.held && c->install.index == index) {
        if (rc < 0) {
            consensus_install_drop(c);
        } else {
            c->skip_to = base_max(c->skip_to, index);
            c->install.ready = true;
        }
        consensus_wake(c);
        return;
    }
    if (p->step != PUT_WAIT || p->index != index) {
        return;
    }
    p->rc = rc;
    p->step = rc < 0 ? PUT_DONE : PUT_OPEN;
    put_next(c);
}

static void put_finish(struct consensus *c)
{
    struct consensus_put *p = &c->put;
    struct raft_io_snapshot_put *req = p->req;
    int rc = p->rc;
    if (rc == 0) {
        mem_free(c->snapshot_bytes);
        c->snapshot_bytes = p->bytes; /* one heap: raft_malloc() is mem_alloc() */
        c->snapshot_len = p->len;
        stats_count(&c->stats.snapshots, 1);
    } else {
        raft_free(p->bytes);
    }
    *p = (struct consensus_put){.index = p->index, .installed = p->installed};
    if (rc == 0 && c->journal != NULL) {
        struct consensus_snapshot s = {0};
        CHECK(consensus_snapshot_decode(c->snapshot_bytes, c->snapshot_len, &s) == 0);
        journal_trim(c->journal, s.log_begin);
    }
    consensus_enter(c);
    req->cb(req, rc == 0 ? 0 : RAFT_CANCELED);
    consensus_leave(c);
    p->installed = false;
}

static void put_done(struct disk_req *d, int64_t rc)
{
    struct consensus *c = container_of(d, struct consensus, put.disk);
    struct consensus_put *p = &c->put;
    p->rc = p->rc < 0 ? p->rc : rc < 0 ? (int)rc : 0;
    if (p->step == PUT_OPEN && rc >= 0) {
        p->file = d->file;
    }
    if (p->step == PUT_CLOSE) {
        p->file = NULL;
    }
    p->step++;
    if (p->rc < 0 && p->step <= PUT_CLOSE) {
        p->step = p->file != NULL ? PUT_CLOSE : PUT_DONE;
    } else if (p->rc < 0) {
        p->step = PUT_DONE;
    }
    put_next(c);
}

static enum disk_op put_op(enum consensus_put_step step)
{
    static const enum disk_op ops[] = {
        [PUT_IDLE] = DISK_STAT,         [PUT_WAIT] = DISK_STAT,     [PUT_OPEN] = DISK_OPEN,
        [PUT_TRUNCATE] = DISK_TRUNCATE, [PUT_WRITE] = DISK_WRITE,   [PUT_SYNC] = DISK_SYNC_ALL,
        [PUT_CLOSE] = DISK_CLOSE,       [PUT_RENAME] = DISK_RENAME, [PUT_SYNC_DIR] = DISK_SYNC_DIR,
    };
    CHECK(step > PUT_WAIT && step < PUT_CUT);
    return ops[step];
}

/* The log has begun anew: once more without the flag, or the next start would take what it holds by
 * then for void, too. Nothing is appended before that is done. */
static void put_clear_flag(struct consensus *c)
{
    struct consensus_put *p = &c->put;
    struct consensus_snapshot s = {0};
    CHECK(consensus_snapshot_decode(p->bytes, p->len, &s) == 0);
    s.installed = false;
    uint8_t *bytes = raft_malloc(p->len);
    consensus_snapshot_encode(&s, bytes);
    raft_free(p->bytes);
    p->bytes = bytes;
    p->cleared = true;
}

void consensus_snapshot_cut_done(struct consensus *c, int rc)
{
    c->put.rc = rc;
    c->put.step = rc < 0 || c->closing ? PUT_DONE : PUT_OPEN;
    if (c->put.step == PUT_OPEN) {
        put_clear_flag(c);
    }
    put_next(c);
}

/* Failing to record a snapshot loses nothing: the old one and the log are still there. One that the
 * leader sent cannot be given up in the engine, so that is the end. */
static void put_over(struct consensus *c)
{
    if (c->put.rc < 0 && c->put.installed) {
        consensus_fail(c, c->put.rc, "record an installed snapshot in '%s'", c->path_snapshot);
    }
    if (c->closing) {
        consensus_io_closed(c);
        return; /* cancelled there */
    }
    if (c->failed == 0) {
        put_finish(c);
    }
}

static void put_next(struct consensus *c)
{
    struct consensus_put *p = &c->put;
    if (p->step == PUT_CUT && p->installed && !p->cleared && !c->closing) {
        consensus_write_cut(c,
                            p->index + 1); /* the new name is durable: voids what the log holds */
        return;
    }
    if (p->step == PUT_CUT) {
        p->step = PUT_DONE;
    }
    if (p->step == PUT_DONE) {
        put_over(c);
        return;
    }
    p->disk = (struct disk_req){
        .op = put_op(p->step), .file = p->file, .path = c->path_snapshot_new, .done = put_done};
    if (p->step == PUT_OPEN) {
        p->disk.flags = DISK_READ_WRITE | DISK_CREATE;
    } else if (p->step == PUT_WRITE) {
        p->disk.buf = p->bytes;
        p->disk.len = p->len;
    } else if (p->step == PUT_RENAME) {
        p->disk.path_to = c->path_snapshot;
    } else if (p->step == PUT_SYNC_DIR) {
        p->disk.path = c->directory;
    }
    disk_submit(c->env.disk, &p->disk);
}

bool consensus_snapshot_busy(const struct consensus *c)
{
    return c->put.step > PUT_WAIT && c->put.step < PUT_CUT;
}

void consensus_snapshot_cancel(struct consensus *c)
{
    struct consensus_put *p = &c->put;
    if (p->step != PUT_IDLE) {
        struct raft_io_snapshot_put *req = p->req;
        raft_free(p->bytes);
        *p = (struct consensus_put){0};
        req->cb(req, RAFT_CANCELED);
    }
}

/* --- reading it ----------------------------------------------------------------------------------
 */

struct raft_snapshot *consensus_snapshot_make(const struct consensus *c)
{
    struct consensus_snapshot s = {0};
    if (c->snapshot_bytes == NULL) {
        return NULL;
    }
    CHECK(consensus_snapshot_decode(c->snapshot_bytes, c->snapshot_len, &s) == 0);
    struct raft_snapshot *ret = raft_calloc(1, sizeof *ret);
    int bad =
        consensus_configuration_decode(s.configuration, s.configuration_len, &ret->configuration);
    CHECK(bad == 0); /* checked when it was read */
    ret->index = s.index;
    ret->term = s.term;
    ret->configuration_index = s.configuration_index;
    ret->bufs = raft_malloc(sizeof *ret->bufs);
    ret->n_bufs = 1;
    buffer_of(s.reference, s.reference_len, &ret->bufs[0]);
    return ret;
}
