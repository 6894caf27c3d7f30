/* chunk/sync.c -- syncs as they are asked for, what is done again and again, the end of a store. */
#include "chunk/engine_priv.h"

#define STOP_TICK_NS UINT64_C(20000000)
#define TICK_NS UINT64_C(1000000000)
#define LOOK_IDLE_NS UINT64_C(5000000000) /* others take of the space of a store that rests */
#define LOOK_OLD_NS TICK_NS               /* nothing is reserved by older figures */

/* ---- Requests ---- */

void chunk_sync_wake(struct chunk_entry *e, int rc)
{
    LIST_FOR_EACH_SAFE(node, &e->waiters)
    {
        struct chunk_waiter *waiter = LIST_ENTRY(node, struct chunk_waiter, node);
        if (rc < 0 || waiter->change <= e->stable) {
            struct chunk_work *w = waiter->work;
            list_remove(&waiter->node);
            w->kept = rc < 0 ? rc : w->kept;
            if (--w->waiting == 0) {
                chunk_work_ready(w);
            }
        }
    }
}

static void sync_finish(struct chunk_work *w, int rc)
{
    struct chunk_sync *c = w->of.sync;
    c->work = NULL;
    chunk_work_free(w);
    c->done(c, rc);
}

static void sync_refused(struct chunk_work *w)
{
    w->finish(w, w->kept);
}

void chunk_sync_submit(struct chunk_store *s, struct chunk_sync *c)
{
    struct chunk_work *w = chunk_work_new(s);
    if (w == NULL) {
        c->work = s->refused.sync;
        s->refused.sync = c;
        loop_defer(s->loop, &s->task);
        return;
    }
    c->work = w;
    w->of.sync = c;
    w->finish = sync_finish;
    if (s->failed != 0) {
        w->kept = -ERR_failed_before;
        w->begin = sync_refused;
        chunk_work_ready(w);
        return;
    }
    s->engine->sync(s, w);
}

void chunk_store_sync(struct chunk_store *s, struct chunk_sync *c)
{
    LOOP_OWNED(s->loop);
    CHECK(!s->stopping);
    chunk_sync_submit(s, c);
}

/* ---- Once a second ---- */

static void look_done(struct disk_req *req, int64_t rc)
{
    struct chunk_store *s = container_of(req, struct chunk_store, look);
    s->in_flight--;
    s->looking = false;
    if (s->freed) {
        if (s->in_flight == 0) {
            chunk_store_destroy(s);
        }
        return;
    }
    s->looked_ns = loop_tick_ns(s->loop);
    if (rc >= 0) {
        s->total_bytes = req->stat.total_bytes;
        s->free_bytes = req->stat.free_bytes;
    }
    for (struct list *node = list_pop_front(&s->lookers); node != NULL;
         node = list_pop_front(&s->lookers)) {
        chunk_work_ready(LIST_ENTRY(node, struct chunk_work, ready));
    }
    chunk_stop_check(s);
}

void chunk_look(struct chunk_store *s)
{
    if (s->looking || s->super_file == NULL) {
        return;
    }
    s->looking = true;
    s->in_flight++;
    s->look = (struct disk_req){.op = DISK_STATFS, .path = s->directory, .done = look_done};
    disk_submit(s->disk, &s->look);
}

bool chunk_look_wait(struct chunk_store *s, struct chunk_work *w)
{
    if (s->super_file == NULL || loop_tick_ns(s->loop) - s->looked_ns < LOOK_OLD_NS) {
        return false;
    }
    list_remove(&w->ready);
    list_push_back(&s->lookers, &w->ready);
    chunk_look(s);
    return true;
}

static bool tick_idle(const struct chunk_store *s)
{
    return list_empty(&s->dirty) && list_empty(&s->rests) && s->work_count == 0 &&
           s->reserved_bytes == 0 && s->in_flight == 0;
}

void chunk_tick(struct loop_timer *t)
{
    struct chunk_store *s = container_of(t, struct chunk_store, timer);
    s->engine->tick(s);
    if (s->stopping) {
        loop_timer_in(s->loop, t, STOP_TICK_NS);
        return;
    }
    chunk_dead_shorten(s);
    uint64_t flush_ns = (uint64_t)s->opt.flush_ms * 1000000, now_ns = loop_tick_ns(s->loop);
    if (!tick_idle(s) || now_ns - s->looked_ns >= LOOK_IDLE_NS) {
        chunk_look(s);
    }
    loop_timer_lazy_in(s->loop, t, base_min(TICK_NS, base_max(flush_ns / 2, 1000000)));
}

/* ---- The end ---- */

static void stop_tell(struct loop_task *t)
{
    struct chunk_store *s = container_of(t, struct chunk_store, stopped);
    struct chunk_stop *stop = s->stop;
    s->stop = NULL;
    loop_timer_cancel(s->loop, &s->timer);
    stop->done(stop, s->stop_rc); /* may free s */
}

void chunk_stop_check(struct chunk_store *s)
{
    if (s->stop == NULL || s->round_active || s->work_count > 0 || s->in_flight > 0 ||
        s->super_busy || s->stopped.queued) {
        return;
    }
    bool good = s->super_file != NULL && s->started && s->failed == 0 && !s->stop_failed;
    if (good && !s->engine->settled(s)) {
        s->engine->round(s);
        return;
    }
    if (good && !s->marking) {
        s->marking = true;
        s->super.clean = true;
        chunk_super_save(s, NULL);
        return;
    }
    if (s->engine->end != NULL && !s->engine->end(s)) {
        return;
    }
    s->stop_rc = s->stop_rc == 0 ? s->failed : s->stop_rc;
    s->stopped.run = stop_tell;
    loop_defer(s->loop, &s->stopped);
}

void chunk_store_stop(struct chunk_store *s, struct chunk_stop *stop)
{
    LOOP_OWNED(s->loop);
    CHECK(!s->stopping);
    s->stopping = true;
    s->stop = stop;
    loop_timer_in(s->loop, &s->timer, STOP_TICK_NS);
    loop_defer(s->loop, &s->task); /* which asks whether all is done */
}
