/*
 * metanode/checkpoint.c -- when the state is made durable, so that the log need not be kept.
 *
 * A checkpoint is begun by the engine of the log (fsm_snapshot), at a moment when everything
 * committed is applied; kv/ writes it in the background. When it is stable the log is told, and
 * trimmed up to the checkpoint before: should this one turn out damaged, the one before and the log
 * behind it still give the same state.
 */
#include "metanode/metanode_priv.h"

#include "base/log.h"

/*
 * The rule, by what the engine says of its checkpoints. One is due after so much log, or after a
 * time, so that a restart has little to do again.
 *
 * Where each writes everything, it waits for so much log that the disk is not written more than
 * CHECKPOINT_SHARE times as often as by the log alone, and after a time there must be a share that
 * makes it worth while. Where it writes what has changed, its cost is that of the changes, whenever
 * it is made; and then it is due, too, when the changes take much of the cache.
 */
#define CHECKPOINT_LOG_BYTES (UINT64_C(24) << 20)
#define CHECKPOINT_INTERVAL_MS (UINT64_C(60) * 1000)
#define CHECKPOINT_CACHE 4u /* the part of the cache that the changes may take */
#define CHECKPOINT_WHOLE_INTERVAL_MS (UINT64_C(300) * 1000)
#define CHECKPOINT_SHARE 8u
#define CHECKPOINT_WORTH 64u /* after the interval and at a stop a smaller share is enough */
#define CHECKPOINT_LIMIT_BYTES (UINT64_C(96) << 20) /* of the log, or so many times the rule: */
#define CHECKPOINT_LIMIT_TIMES 4u
/*
 * The log is in memory, too. What a cache leaves of that has to be enough for the log of two
 * checkpoints, of what is applied while the second is written, and for a segment of which not all
 * can go: where there is little, the log between two is shorter.
 */
#define CHECKPOINT_LOG_TIMES 4u
#define CHECKPOINT_LOG_SEGMENT (UINT64_C(16) << 20)
#define CHECKPOINT_LOG_MIN (UINT64_C(1) << 20)
/*
 * One that need not be soon is spread: over a part of the time in which the next one will be due,
 * if it goes on as it went since the one before, so that disk and processor have little to do at a
 * time; not over more of it, for a start executes the log behind the one that is complete. It
 * hurries when the next one is due by its log, for then the log comes
 * near its limit; when the changes take much of the cache; and at the end.
 */
#define CHECKPOINT_PACE_PERCENT 40u
#define CHECKPOINT_IDLE_MAX 2u
#define CHECKPOINT_RETRY_MS UINT64_C(30000) /* after a failure */
#define CHECKPOINT_FULL_MS UINT64_C(5000)   /* the same, where only room is lacking */
#define CHECKPOINT_STOP_MS \
    UINT64_C(20000) /* one that is not done by then does not hold up an end */
#define CHECKPOINT_VERSION 1u

/* For the log of one checkpoint, in the memory that a cache leaves. */
static uint64_t checkpoint_room(struct metanode *m)
{
    uint64_t taken = m->engine.cache_limit + CHECKPOINT_LOG_SEGMENT;
    uint64_t near = metanode_memory_near(m);
    uint64_t room = near > taken ? (near - taken) / CHECKPOINT_LOG_TIMES : 0;
    return base_max(room, CHECKPOINT_LOG_MIN);
}

/* Of log. */
static uint64_t checkpoint_due_bytes(struct metanode *m)
{
    struct kv_checkpoints c = kv_checkpoints(m->kv);
    return c.whole ? base_max(m->opt.checkpoint_bytes, c.next_bytes / CHECKPOINT_SHARE)
                   : base_min(m->opt.checkpoint_bytes, checkpoint_room(m));
}

/* Too much of the cache is what no disk has. */
static bool checkpoint_is_large(struct metanode *m)
{
    struct kv_checkpoints c = kv_checkpoints(m->kv);
    uint64_t limit = c.whole ? 0 : m->engine.cache_limit;
    return limit > 0 && c.next_bytes >= limit / CHECKPOINT_CACHE;
}

/* Less than a replay would notice is not worth writing everything. */
static bool checkpoint_is_worth(struct metanode *m)
{
    uint64_t since = m->checkpoints.since_bytes;
    struct kv_checkpoints c = kv_checkpoints(m->kv);
    return since > 0 && (!c.whole || since >= c.next_bytes / CHECKPOINT_WORTH);
}

static uint64_t checkpoint_interval_ns(struct metanode *m)
{
    bool whole = kv_checkpoints(m->kv).whole;
    uint64_t ms = whole ? CHECKPOINT_WHOLE_INTERVAL_MS : CHECKPOINT_INTERVAL_MS;
    ms = m->opt.checkpoint_interval_ms > 0 ? m->opt.checkpoint_interval_ms : ms;
    return ms * METANODE_NS_PER_MS;
}

static void checkpoint_limit(struct metanode *m)
{
    uint64_t limit = CHECKPOINT_LIMIT_TIMES * checkpoint_due_bytes(m);
    consensus_set_log_limit(m->consensus, base_max(limit, CHECKPOINT_LIMIT_BYTES));
}

static void checkpoint_stop_next(struct metanode *m);

static void checkpoint_failed(struct metanode *m, int rc)
{
    struct metanode_checkpoints *c = &m->checkpoints;
    c->since_bytes += c->begun_bytes;
    bool full = rc == -ENOSPC || rc == -EDQUOT;
    c->retry_ns =
        metanode_now(m) + (full ? CHECKPOINT_FULL_MS : CHECKPOINT_RETRY_MS) * METANODE_NS_PER_MS;
    stats_count(&c->failures, 1);
    if (rc != -ECANCELED && !c->failing) {
        c->failing = true;
        log_error(m->env->log, "checkpoint of the metadata failed, the log goes on growing",
                  LOG_TEXT("directory", m->opt.directory), LOG_RC(rc));
    }
    loop_timer_at(m->env->loop, &c->timer, c->retry_ns);
    (void)metanode_engine_failed(m);
}

static void checkpoint_succeeded(struct metanode *m)
{
    struct metanode_checkpoints *c = &m->checkpoints;
    uint64_t now = metanode_now(m);
    c->idle = c->begun_bytes > 0 ? 0 : c->idle + 1;
    stats_count(&c->count, 1);
    stats_sample(&c->time_ns, now - c->begun_ns);
    if (c->failing) {
        c->failing = false;
        log_info(m->env->log, "checkpoint of the metadata succeeds again");
    }
    log_debug(m->env->log, "checkpoint", LOG_U64("index", c->base.index),
              LOG_U64("ms", (now - c->begun_ns) / METANODE_NS_PER_MS));
    checkpoint_limit(m);
    loop_timer_in(m->env->loop, &c->timer, checkpoint_interval_ns(m));
}

static void checkpoint_done(struct kv_checkpoint *base, int rc)
{
    struct metanode_checkpoints *c = container_of(base, struct metanode_checkpoints, base);
    struct metanode *m = container_of(c, struct metanode, checkpoints);
    c->active = false;
    if (rc < 0) {
        checkpoint_failed(m, rc);
    } else {
        checkpoint_succeeded(m);
    }
    if (c->log_index != 0) {
        consensus_snapshot_durable(m->consensus, c->log_index, rc);
    }
    checkpoint_stop_next(m);
}

static uint64_t checkpoint_pace_ns(struct metanode *m)
{
    const struct metanode_checkpoints *c = &m->checkpoints;
    uint64_t since_ns = base_min(metanode_now(m) - c->begun_ns, checkpoint_interval_ns(m));
    bool late = c->since_bytes >= 2 * checkpoint_due_bytes(m);
    bool soon = late || m->stop != NULL || checkpoint_is_large(m);
    return soon ? 0 : since_ns / 100 * CHECKPOINT_PACE_PERCENT;
}

static void checkpoint_begin(struct metanode *m, uint64_t log_index)
{
    struct metanode_checkpoints *c = &m->checkpoints;
    uint64_t pace_ns = checkpoint_pace_ns(m);
    c->active = true;
    c->log_index = log_index;
    c->begun_bytes = c->since_bytes;
    c->begun_ns = metanode_now(m);
    c->since_bytes = 0;
    c->base = (struct kv_checkpoint){.done = checkpoint_done, .term = m->term, .pace_ns = pace_ns};
    kv_checkpoint(m->kv, &c->base);
}

void metanode_checkpoint_reference(uint64_t index, struct consensus_reference *ret)
{
    struct wire_writer w = wire_writer_over(ret->bytes, sizeof ret->bytes);
    wire_write_u32(&w, CHECKPOINT_VERSION);
    wire_write_u32(&w, 0);
    wire_write_u64(&w, index);
    ret->len = w.len;
}

int metanode_checkpoint_snapshot(struct metanode *m, struct consensus_reference *ret)
{
    struct metanode_checkpoints *c = &m->checkpoints;
    if (c->active || m->stop != NULL || m->phase == METANODE_ENDED) {
        return -ERR_busy;
    }
    ret->keep_from = kv_checkpoints(m->kv).durable_index + 1;
    checkpoint_begin(m, ret->index);
    metanode_checkpoint_reference(c->base.index, ret);
    return 0;
}

static void checkpoint_want(struct metanode *m)
{
    const struct metanode_checkpoints *c = &m->checkpoints;
    if (!c->active && m->stop == NULL && metanode_now(m) >= c->retry_ns) {
        consensus_snapshot_want(m->consensus);
    }
}

void metanode_checkpoint_applied(struct metanode *m, size_t bytes)
{
    m->checkpoints.since_bytes += bytes;
    uint64_t since = m->checkpoints.since_bytes;
    bool due = since >= checkpoint_due_bytes(m) || (since > 0 && checkpoint_is_large(m));
    if (m->checkpoints.active && due) {
        kv_checkpoint_hurry(m->kv);
    }
    if (m->phase == METANODE_SERVING && due) {
        checkpoint_want(m);
    }
}

/*
 * On a disk or in a memory with little room: what was removed, and the log behind it, is given back
 * by a checkpoint, and by the next one, for the one before is kept.
 */
void metanode_checkpoint_look(struct metanode *m)
{
    const struct metanode_checkpoints *c = &m->checkpoints;
    bool disk = kv_disk(m->kv) != KV_DISK_ROOM;
    if (m->phase != METANODE_SERVING || (!disk && !metanode_memory_is_short(m))) {
        return;
    }
    bool worth = disk ? c->since_bytes > 0 : checkpoint_is_worth(m);
    if (c->active) {
        kv_checkpoint_hurry(m->kv);
    } else if (worth || c->idle < CHECKPOINT_IDLE_MAX) {
        checkpoint_want(m);
    }
}

static void checkpoint_timer(struct loop_timer *t)
{
    struct metanode *m = container_of(t, struct metanode, checkpoints.timer);
    if (m->checkpoints.active || m->stop != NULL) {
        return; /* its end sets the timer */
    }
    if (m->phase == METANODE_SERVING && checkpoint_is_worth(m)) {
        checkpoint_want(m);
    }
    loop_timer_in(m->env->loop, t, checkpoint_interval_ns(m));
}

void metanode_checkpoints_start(struct metanode *m)
{
    checkpoint_limit(m);
    m->checkpoints.begun_ns = metanode_now(m);
    metanode_checkpoint_applied(m, 0); /* the log that was replayed may be long */
    loop_timer_in(m->env->loop, &m->checkpoints.timer, checkpoint_interval_ns(m));
}

/* ---- the end ---- */

static void checkpoint_stop_late(struct loop_timer *t)
{
    kv_checkpoint_cancel(container_of(t, struct metanode, checkpoints.late)->kv);
}

static void checkpoint_stop_next(struct metanode *m)
{
    struct metanode_checkpoints *c = &m->checkpoints;
    if (c->stopped == NULL || c->active) {
        return;
    }
    if (!c->last_tried && m->phase == METANODE_SERVING && checkpoint_is_worth(m)) {
        c->last_tried = true;
        checkpoint_begin(m, 0); /* the log need not know: it ends anyway */
        return;
    }
    loop_timer_cancel(m->env->loop, &c->timer);
    loop_timer_cancel(m->env->loop, &c->late);
    loop_defer(m->env->loop, c->stopped);
}

void metanode_checkpoints_stop(struct metanode *m, struct loop_task *stopped)
{
    struct metanode_checkpoints *c = &m->checkpoints;
    c->stopped = stopped;
    loop_timer_in(m->env->loop, &c->late, CHECKPOINT_STOP_MS * METANODE_NS_PER_MS);
    kv_checkpoint_hurry(m->kv);
    if (m->phase == METANODE_ENDED) {
        kv_checkpoint_cancel(m->kv);
    }
    checkpoint_stop_next(m);
}

void metanode_checkpoints_init(struct metanode *m)
{
    m->checkpoints.timer.fire = checkpoint_timer;
    m->checkpoints.late.fire = checkpoint_stop_late;
    if (m->opt.checkpoint_bytes == 0) {
        m->opt.checkpoint_bytes = CHECKPOINT_LOG_BYTES;
    }
}

void metanode_checkpoints_fini(struct metanode *m)
{
    CHECK(!m->checkpoints.active);
    loop_timer_cancel(m->env->loop, &m->checkpoints.timer);
    loop_timer_cancel(m->env->loop, &m->checkpoints.late);
}
