/*
 * disk/pool.c -- the backend of a real machine: each request is a job of an executor, whose threads
 * grow with load and end when idle, or, with disk_pool_use_uring(), of a ring if that takes it. Not
 * more are begun than keep the disk busy; the others wait for their turn (share_priv.h).
 *
 * The fast way: a small read of what the page cache holds is done on the loop in submit, because a
 * hand-over to a thread and back costs more than the copy. Its result waits on `finished` for the
 * end of the current callback, as do refusals. Everything of struct disk_pool belongs to the loop;
 * a thread sees only its job, the request and the descriptor.
 */
#include "disk/disk.h"

#include "base/env.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/stats.h"
#include "disk/ops_priv.h"
#include "disk/ring_priv.h"
#include "disk/share_priv.h"
#include "loop/executor.h"
#include "loop/loop.h"

#define POOL_MAX_THREADS 16u
#define POOL_MAX_IN_FLIGHT 4096u
#define POOL_IDLE_MS 10000u
#define POOL_DEPTH_THREADS                                                \
    2u /* begun for each thread: one more waits there, so that none idles \
        */
#define POOL_DEPTH_URING 128u
#define POOL_BACKGROUND 4u     /* part of what may wait in all, for each of its queues */
#define POOL_PART (256u << 10) /* of the background, at a time: a reader may find it before him */
#define POOL_PART_PIECES 8u
#define POOL_CACHED_READ_MAX (128u << 10) /* copied on the loop: at most some 10 us */

struct pool_stats {
    struct stats *group;
    struct stats_counter reads, read_bytes, writes, write_bytes, syncs, others;
    struct stats_counter cached_reads, uring, uring_again, errors, refused;
    struct stats_counter uring_files, uring_memory; /* of those: known to the kernel before */
    struct stats_counter copying, scrubbing;
    struct stats_histogram read_time, write_time, sync_time;
    struct stats_histogram turn_time; /* what people's requests have waited for their turn */
};

struct disk_pool {
    struct disk base;
    struct loop_executor *executor;
    struct disk_ring *ring; /* NULL: all goes to threads */
    struct disk_ring_user ring_user;
    unsigned max_threads;
    struct fault *fault;
    struct mem_pool *jobs;
    struct disk_share share;
    struct list finished; /* requests to report by `report` */
    struct loop_task report;
    size_t in_flight, max_in_flight;
    struct pool_stats stats;
};

/* A large transfer of the background is done in parts, each with a turn of its own. */
struct pool_job {
    struct loop_executor_job job;
    struct disk_ring_job ring;
    struct disk_share_turn turn;
    struct disk_pool *pool;
    struct disk_req *req, *now; /* now: what is done of it, `part` or all */
    struct disk_req part;
    struct iovec piece[POOL_PART_PIECES]; /* of memory, of the part */
    uint64_t moved;                       /* by the parts before */
    uint64_t start_ns;                    /* it was submitted; later: it was begun */
};

static struct disk_pool *pool_of(struct disk *d)
{
    return container_of(d, struct disk_pool, base);
}

/* ---- Statistics ---- */

static void pool_stats_init(struct pool_stats *s, struct stats *parent)
{
    s->group = parent == NULL ? NULL : stats_new(parent, "disk");
    stats_add_counter(s->group, "reads", &s->reads);
    stats_add_counter(s->group, "read_bytes", &s->read_bytes);
    stats_add_counter(s->group, "cached_reads", &s->cached_reads);
    stats_add_counter(s->group, "writes", &s->writes);
    stats_add_counter(s->group, "write_bytes", &s->write_bytes);
    stats_add_counter(s->group, "syncs", &s->syncs);
    stats_add_counter(s->group, "others", &s->others);
    stats_add_counter(s->group, "uring", &s->uring);
    stats_add_counter(s->group, "uring_again", &s->uring_again);
    stats_add_counter(s->group, "uring_files", &s->uring_files);
    stats_add_counter(s->group, "uring_memory", &s->uring_memory);
    stats_add_counter(s->group, "copying", &s->copying);
    stats_add_counter(s->group, "scrubbing", &s->scrubbing);
    stats_add_counter(s->group, "errors", &s->errors);
    stats_add_counter(s->group, "refused", &s->refused);
    stats_add_histogram(s->group, "read_time", &s->read_time);
    stats_add_histogram(s->group, "write_time", &s->write_time);
    stats_add_histogram(s->group, "sync_time", &s->sync_time);
    stats_add_histogram(s->group, "turn_time", &s->turn_time);
}

static bool pool_is_sync(enum disk_op op)
{
    return op == DISK_SYNC || op == DISK_SYNC_ALL || op == DISK_SYNC_DIR;
}

static void pool_stats_take(struct pool_stats *s, enum disk_op op, int64_t rc, uint64_t ns)
{
    uint64_t bytes = rc > 0 ? (uint64_t)rc : 0;
    stats_count(&s->errors, rc < 0 ? 1 : 0);
    if (op == DISK_READ || op == DISK_SEND || op == DISK_FETCH) {
        stats_count(&s->reads, 1);
        stats_count(&s->read_bytes, bytes);
        stats_sample(&s->read_time, ns);
    } else if (op == DISK_WRITE) {
        stats_count(&s->writes, 1);
        stats_count(&s->write_bytes, bytes);
        stats_sample(&s->write_time, ns);
    } else if (pool_is_sync(op)) {
        stats_count(&s->syncs, 1);
        stats_sample(&s->sync_time, ns);
    } else {
        stats_count(&s->others, 1);
    }
}

static void pool_stats_begun(struct pool_stats *s, enum disk_lane lane, uint64_t waited_ns)
{
    stats_count(&s->copying, lane == DISK_COPYING ? 1 : 0);
    stats_count(&s->scrubbing, lane == DISK_SCRUBBING ? 1 : 0);
    if (lane == DISK_FOREGROUND) {
        stats_sample(&s->turn_time, waited_ns);
    }
}

/* ---- Requests ---- */

/* On the loop, so that which request fails depends on their order only. */
static int64_t pool_fault(struct disk_pool *p, const struct disk_req *req)
{
    bool hit = false;
    if (req->op == DISK_OPEN) {
        hit = FAULT(p->fault, "disk.open");
    } else if (req->op == DISK_READ || req->op == DISK_SEND || req->op == DISK_FETCH) {
        hit = FAULT(p->fault, "disk.read");
    } else if (req->op == DISK_WRITE) {
        hit = FAULT(p->fault, "disk.write") ||
              ((req->flags & DISK_STABLE) != 0 && FAULT(p->fault, "disk.sync"));
    } else if (pool_is_sync(req->op)) {
        hit = FAULT(p->fault, "disk.sync");
    }
    return hit ? -EIO : 0;
}

static void pool_hold(struct disk_req *req)
{
    if (disk_request_on_file(req)) {
        req->file->in_flight++;
    }
}

static void pool_release(struct disk_req *req)
{
    if (disk_request_on_file(req)) {
        CHECK(req->file->in_flight > 0);
        req->file->in_flight--;
    }
}

static void pool_finish(struct disk_pool *p, struct disk_req *req, int64_t rc)
{
    req->result = rc;
    list_push_back(&p->finished, &req->node);
    loop_defer(p->base.loop, &p->report);
}

/* Calls `done` of each; the last one may free the pool. */
static void pool_report_all(struct disk_pool *p, struct list *ready)
{
    for (struct list *node; (node = list_pop_front(ready)) != NULL;) {
        struct disk_req *req = LIST_ENTRY(node, struct disk_req, node);
        CHECK(p->in_flight > 0);
        p->in_flight--;
        req->done(req, req->result);
    }
}

static void pool_report(struct loop_task *t)
{
    struct disk_pool *p = container_of(t, struct disk_pool, report);
    LOOP_OWNED(p->base.loop);
    /* Only what is there now: a callback that submits the next request does not keep us here. The
     * last callback may free the pool, so it is not looked at afterwards. */
    struct list ready;
    list_init(&ready);
    list_splice_back(&ready, &p->finished);
    pool_report_all(p, &ready);
}

static void pool_job_work(struct loop_executor_job *j)
{
    struct pool_job *job = container_of(j, struct pool_job, job);
    job->now->result = disk_ops_go_on(job->now, job->ring.so_far, job->pool->fault);
}

static void pool_job_done(struct loop_executor_job *j);

static void pool_cut_part(struct pool_job *job)
{
    const struct disk_req *req = job->req;
    struct disk_cursor c;
    disk_cursor_init(&c, req);
    disk_cursor_advance(&c, (size_t)job->moved);
    unsigned count = disk_cursor_window(&c, job->piece, POOL_PART_PIECES), used = 0;
    uint64_t len = 0;
    for (; used < count && len < POOL_PART; used++) {
        struct iovec *v = &job->piece[used];
        v->iov_len = base_min(v->iov_len, POOL_PART - len);
        len += v->iov_len;
    }
    job->part = *req;
    job->part.offset += job->moved;
    if (used == 1) {
        job->part.iov = NULL;
        job->part.buf = job->piece[0].iov_base;
        job->part.len = len;
    } else {
        job->part.iov = job->piece;
        job->part.iov_count = used;
    }
    if (disk_request_bytes(req) - job->moved > len) {
        job->part.flags &= ~DISK_STABLE; /* the last one makes all of it stable */
    }
    job->now = &job->part;
}

static bool pool_goes_in_parts(const struct disk_req *req)
{
    return req->lane != DISK_FOREGROUND && (req->op == DISK_READ || req->op == DISK_WRITE) &&
           disk_request_bytes(req) > POOL_PART;
}

/* It waits for its turn, or its next one. */
static void pool_queue_job(struct disk_pool *p, struct pool_job *job)
{
    job->now = job->req;
    if (pool_goes_in_parts(job->req)) {
        pool_cut_part(job);
    }
    job->job = (struct loop_executor_job){.work = pool_job_work, .done = pool_job_done};
    job->ring = (struct disk_ring_job){.req = job->now};
    job->start_ns = loop_now_ns(p->base.loop);
    disk_share_enter(&p->share, &job->turn, job->now, loop_tick_ns(p->base.loop));
}

/* False: that was a part, and the next one waits. True: the request has its result and is not ours
 * any more, but for its `done`. */
static bool pool_end_job(struct disk_pool *p, struct pool_job *job, int64_t rc)
{
    struct disk_req *req = job->req;
    bool parts = job->now == &job->part;
    uint64_t took_ns = loop_now_ns(p->base.loop) - job->start_ns;
    pool_stats_take(&p->stats, req->op, rc, took_ns);
    disk_request_ended(&p->base, req, rc, took_ns);
    disk_share_leave(&p->share, &job->turn, loop_tick_ns(p->base.loop));
    if (parts && rc >= 0) {
        job->moved += (uint64_t)rc;
    }
    if (parts && rc == (int64_t)disk_request_bytes(&job->part) &&
        job->moved < disk_request_bytes(req)) {
        pool_queue_job(p, job);
        return false;
    }
    req->result = parts && rc >= 0 ? (int64_t)job->moved : rc;
    if (req->op != DISK_CLOSE) { /* a closed file is gone */
        pool_release(req);
    }
    mem_pool_put(p->jobs, job);
    return true;
}

/* ---- Turns ---- */

static int pool_begin_job(struct disk_pool *p, struct pool_job *job)
{
    if (p->ring != NULL && disk_ring_takes(job->now) && disk_ring_usable(p->ring)) {
        stats_count(&p->stats.uring, 1);
        disk_ring_submit(p->ring, &job->ring);
        return 0;
    }
    return loop_executor_submit(p->executor, p->base.loop, &job->job);
}

/* A close is never refused, so that no file is left behind: it hardly ever waits. */
static void pool_refuse(struct disk_pool *p, struct disk_req *req, int64_t rc)
{
    stats_count(&p->stats.refused, 1);
    pool_finish(p, req, req->op == DISK_CLOSE ? disk_ops_run(req, NULL) : rc);
}

/* Begins those whose turn it is: when there is a new one, and when one has ended. */
static void pool_take_turns(struct disk_pool *p)
{
    uint64_t now_ns = loop_tick_ns(p->base.loop);
    for (struct disk_share_turn *t; (t = disk_share_next(&p->share, now_ns)) != NULL;) {
        struct pool_job *job = container_of(t, struct pool_job, turn);
        struct disk_req *req = job->req;
        uint64_t submit_ns = job->start_ns;
        job->start_ns = loop_now_ns(p->base.loop);
        int rc = pool_begin_job(p, job);
        if (rc == 0) {
            pool_stats_begun(&p->stats, req->lane, job->start_ns - submit_ns);
            disk_request_begun(&p->base);
            continue;
        }
        disk_share_leave(&p->share, t, now_ns);
        pool_release(req);
        mem_pool_put(p->jobs, job);
        pool_refuse(p, req, rc);
    }
}

static void pool_job_done(struct loop_executor_job *j)
{
    struct pool_job *job = container_of(j, struct pool_job, job);
    struct disk_pool *p = job->pool;
    struct disk_req *req = job->req;
    LOOP_OWNED(p->base.loop);
    bool ended = pool_end_job(p, job, job->now->result);
    pool_take_turns(p);
    if (ended) {
        CHECK(p->in_flight > 0);
        p->in_flight--;
        req->done(req, req->result);
    }
}

static void pool_ring_finished(struct disk_ring_user *u, struct list *jobs)
{
    struct disk_pool *p = container_of(u, struct disk_pool, ring_user);
    LOOP_OWNED(p->base.loop);
    struct list ready;
    list_init(&ready);
    for (struct list *node; (node = list_pop_front(jobs)) != NULL;) {
        struct pool_job *job = LIST_ENTRY(node, struct pool_job, ring.node);
        struct disk_req *req = job->req;
        int64_t rc = job->ring.result;
        stats_count(&p->stats.uring_files, job->ring.known_file ? 1 : 0);
        stats_count(&p->stats.uring_memory, job->ring.known_memory ? 1 : 0);
        if (job->ring.again) {
            stats_count(&p->stats.uring_again, 1);
            rc = loop_executor_submit(p->executor, p->base.loop, &job->job);
        }
        if ((!job->ring.again || rc < 0) && pool_end_job(p, job, rc)) {
            list_push_back(&ready, &req->node);
        }
    }
    pool_take_turns(p);
    pool_report_all(p, &ready);
}

static int pool_enter_job(struct disk_pool *p, struct disk_req *req)
{
    if (p->in_flight > p->max_in_flight || !disk_share_admits(&p->share, req)) {
        return -ERR_busy;
    }
    struct pool_job *job = mem_pool_get(p->jobs);
    if (job == NULL) {
        return -ENOMEM;
    }
    job->pool = p; /* all else is zero */
    job->req = req;
    pool_hold(req);
    pool_queue_job(p, job);
    return 0;
}

static int64_t pool_read_cached(struct disk_pool *p, const struct disk_req *req)
{
    int64_t got = disk_ops_read_cached(req, p->fault);
    if (got >= 0) {
        stats_count(&p->stats.cached_reads, 1);
        stats_count(&p->stats.read_bytes, (uint64_t)got);
    }
    return got;
}

static int64_t pool_try_read(struct disk *d, struct disk_req *req)
{
    struct disk_pool *p = pool_of(d);
    LOOP_OWNED(d->loop);
    CHECK(req->op == DISK_READ);
    int64_t rc = disk_request_check(req);
    if (rc == 0) {
        rc = pool_fault(p, req);
    }
    return rc < 0 ? rc : pool_read_cached(p, req);
}

/* A ring must not keep open what is closed, nor a lock held that is given up. */
static void pool_forget_file(struct disk_pool *p, const struct disk_req *req)
{
    if (req->op != DISK_CLOSE && req->op != DISK_LOCK) {
        return;
    }
    req->file->locked = req->file->locked || req->op == DISK_LOCK;
    if (p->ring != NULL) {
        disk_ring_forget(p->ring, req->file);
    }
}

static void pool_submit(struct disk *d, struct disk_req *req)
{
    struct disk_pool *p = pool_of(d);
    LOOP_OWNED(d->loop);
    int64_t rc = disk_request_check(req);
    CHECK(req->op != DISK_CLOSE || req->file->in_flight == 0); /* it frees the file */
    pool_forget_file(p, req);
    p->in_flight++;
    if (rc == 0) {
        rc = pool_fault(p, req);
    }
    if (rc == 0 && req->op == DISK_READ && disk_request_bytes(req) <= POOL_CACHED_READ_MAX) {
        rc = pool_read_cached(p, req);
        if (rc != -EAGAIN) {
            pool_finish(p, req, rc);
            return;
        }
        rc = 0;
    }
    if (rc < 0) {
        CHECK(req->op != DISK_CLOSE);
        pool_finish(p, req, rc);
        return;
    }
    rc = pool_enter_job(p, req);
    if (rc < 0) {
        pool_refuse(p, req, rc);
    } else {
        pool_take_turns(p);
    }
}

static int64_t pool_now(struct disk *d, struct disk_req *req)
{
    struct disk_pool *p = pool_of(d);
    int64_t rc = disk_request_check(req);
    if (rc == 0) {
        rc = pool_fault(p, req);
    }
    if (rc < 0) {
        return rc;
    }
    CHECK(req->op != DISK_CLOSE || req->file->in_flight == 0);
    pool_forget_file(p, req);
    uint64_t start_ns = loop_now_ns(d->loop);
    rc = disk_ops_run(req, p->fault);
    pool_stats_take(&p->stats, req->op, rc, loop_now_ns(d->loop) - start_ns);
    return rc;
}

static bool pool_resident(struct disk *d, struct disk_file *f, uint64_t offset, uint64_t len)
{
    LOOP_OWNED(d->loop);
    return disk_ops_resident(f, offset, len);
}

static int pool_lend(struct disk *d, void *at, size_t len)
{
    struct disk_pool *p = pool_of(d);
    LOOP_OWNED(d->loop);
    return p->ring == NULL ? -EOPNOTSUPP : disk_ring_lend(p->ring, at, len);
}

static void pool_unlend(struct disk *d, const void *at)
{
    struct disk_pool *p = pool_of(d);
    LOOP_OWNED(d->loop);
    if (p->ring != NULL) {
        disk_ring_unlend(p->ring, at);
    }
}

static size_t pool_in_flight(const struct disk *d)
{
    const struct disk_pool *p = container_of(d, const struct disk_pool, base);
    return p->in_flight;
}

/* ---- Life ---- */

static struct disk *pool_free(struct disk *d)
{
    struct disk_pool *p = pool_of(d);
    CHECK(p->in_flight == 0);
    loop_undefer(d->loop, &p->report);
    disk_ring_free(p->ring);
    loop_executor_free(p->executor);
    if (p->jobs != NULL) {
        mem_pool_free(p->jobs);
    }
    stats_free(p->stats.group);
    mem_free(p);
    return NULL;
}

static const struct disk_ops pool_ops = {
    .submit = pool_submit,
    .now = pool_now,
    .resident = pool_resident,
    .try_read = pool_try_read,
    .lend = pool_lend,
    .unlend = pool_unlend,
    .in_flight = pool_in_flight,
    .free = pool_free,
};

int disk_pool_new(const struct env *env, const struct disk_pool_options *opt, struct disk **ret)
{
    CHECK(!loop_is_simulated(env->loop)); /* real descriptors there would break determinism */
    struct disk_pool *p = mem_zalloc(sizeof *p);
    if (p == NULL) {
        return -ENOMEM;
    }
    p->base.ops = &pool_ops;
    p->base.loop = env->loop;
    p->fault = env->fault;
    p->max_in_flight = opt->max_in_flight == 0 ? POOL_MAX_IN_FLIGHT : opt->max_in_flight;
    list_init(&p->finished);
    p->report.run = pool_report;
    pool_stats_init(&p->stats, env->stats);
    const struct mem_pool_options jobs = {
        .object_size = sizeof(struct pool_job),
        .max_count = p->max_in_flight,
        .budget = env->budget,
    };
    p->jobs = mem_pool_new(&jobs);
    p->max_threads = opt->max_threads == 0 ? POOL_MAX_THREADS : opt->max_threads;
    disk_share_init(&p->share, POOL_DEPTH_THREADS * p->max_threads,
                    (unsigned)base_max(p->max_in_flight / POOL_BACKGROUND, 1));
    const struct loop_executor_options threads = {
        .name = "disk",
        .max_threads = p->max_threads,
        .max_queued = p->max_in_flight,
        .idle_ms = POOL_IDLE_MS,
    };
    int rc = p->jobs == NULL ? -ENOMEM : loop_executor_new(&threads, &p->executor);
    if (rc < 0) {
        pool_free(&p->base);
        return rc;
    }
    *ret = &p->base;
    return 0;
}

int disk_pool_use_uring(struct disk *d)
{
    struct disk_pool *p = pool_of(d);
    LOOP_OWNED(d->loop);
    CHECK(d->ops == &pool_ops);
    if (p->ring != NULL) {
        return 0;
    }
    p->ring_user.finished = pool_ring_finished;
    const struct disk_ring_options opt = {
        .loop = d->loop, .fault = p->fault, .user = &p->ring_user, .max_workers = p->max_threads};
    int rc = disk_ring_new(&opt, &p->ring);
    if (rc == 0) {
        p->share.depth = (unsigned)base_max(p->share.depth, POOL_DEPTH_URING);
    }
    return rc;
}
