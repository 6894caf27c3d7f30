/* chunk/work.c -- requests under way: turns, I/O. */
#include "chunk/engine_priv.h"

/* ---- Life ---- */

struct chunk_work *chunk_work_new(struct chunk_store *s)
{
    CHECK(s->started);
    struct chunk_work *w = s->work_count < CHUNK_WORKS_MAX ? mem_zalloc(sizeof *w) : NULL;
    if (w == NULL) {
        return NULL;
    }
    w->s = s;
    list_init(&w->node);
    list_init(&w->ready);
    list_push_back(&s->works, &w->all);
    s->work_count++;
    return w;
}

void chunk_work_free(struct chunk_work *w)
{
    struct chunk_store *s = w->s;
    list_remove(&w->ready);
    list_remove(&w->all);
    s->work_count--;
    chunk_store_ahead_end(s, &w->ahead);
    chunk_version_unref(w->version);
    chunk_version_unref(w->loading);
    mem_free(w->path);
    mem_free(w->bytes);
    mem_free(w->waiter);
    mem_free(w->dirs);
    mem_free(w);
    if (s->stop != NULL && !s->freed) {
        loop_defer(s->loop, &s->task); /* which asks whether that was all */
    }
}

void chunk_work_ready(struct chunk_work *w)
{
    list_remove(&w->ready);
    list_push_back(&w->s->ready, &w->ready);
    loop_defer(w->s->loop, &w->s->task);
}

void chunk_work_enqueue(struct chunk_work *w, struct chunk_entry *e)
{
    w->e = e;
    w->queued = true;
    bool first = list_empty(&e->queue);
    list_push_back(&e->queue, &w->node);
    if (first) {
        chunk_work_ready(w);
    }
}

void chunk_work_leave(struct chunk_work *w)
{
    struct chunk_entry *e = w->e;
    if (!w->queued) {
        return;
    }
    w->queued = false;
    list_remove(&w->node);
    if (!list_empty(&e->queue)) {
        chunk_work_ready(LIST_ENTRY(e->queue.next, struct chunk_work, node));
    }
}

void chunk_work_end(struct chunk_work *w, int rc)
{
    struct chunk_store *s = w->s;
    struct chunk_entry *e = w->e;
    bool was = w->queued;
    chunk_work_leave(w);
    if (was) {
        chunk_entry_settle(s, e);
    }
    w->finish(w, rc); /* frees w; the owner may begin new requests */
}

static void work_loaded(struct chunk_work *w, int rc)
{
    if (rc < 0) {
        chunk_work_end(w, rc);
    } else {
        w->begin(w);
    }
}

static void work_begin(struct chunk_work *w)
{
    if (w->queued && !w->e->loaded) {
        w->s->engine->load(w, work_loaded);
    } else {
        w->begin(w);
    }
}

/* Those that are ready now; what they make ready comes in the next round. */
void chunk_works_run(struct loop_task *t)
{
    struct chunk_store *s = container_of(t, struct chunk_store, task);
    chunk_refuse(s);
    struct list now;
    list_init(&now);
    list_splice_back(&now, &s->ready);
    for (struct list *node = list_pop_front(&now); node != NULL; node = list_pop_front(&now)) {
        struct chunk_work *w = LIST_ENTRY(node, struct chunk_work, ready);
        work_begin(w);
    }
    if (s->engine->forget != NULL) {
        s->engine->forget(s);
    }
    chunk_stop_check(s);
}

/* ---- Those that got no memory ---- */

/* They hang one behind the other on `work`; all get -ERR_busy. */
#define REFUSE(s, name)                                                      \
    for (struct chunk_##name *r = (s)->refused.name, *n; r != NULL; r = n) { \
        n = (struct chunk_##name *)(void *)r->work;                          \
        (s)->refused.name = n;                                               \
        r->work = NULL;                                                      \
        r->done(r, -ERR_busy);                                               \
    }

void chunk_refuse(struct chunk_store *s)
{
    REFUSE(s, update)
    REFUSE(s, change)
    REFUSE(s, sync)
    REFUSE(s, pin)
    REFUSE(s, read)
    REFUSE(s, verify)
    REFUSE(s, hold)
}

/* ---- I/O ---- */

static void work_io_done(struct chunk_work *w, int64_t rc)
{
    struct chunk_store *s = w->s;
    if (!chunk_came_back(s)) {
        return;
    }
    if (rc < 0 && w->rc == 0) {
        w->rc = (int)rc;
    }
    if (--w->left > 0) {
        return;
    }
    int64_t result = w->rc < 0 ? w->rc : rc;
    w->rc = 0;
    w->step(w, result);
}

static void work_main_done(struct disk_req *req, int64_t rc)
{
    work_io_done(container_of(req, struct chunk_work, io), rc);
}

static void work_tail_done(struct disk_req *req, int64_t rc)
{
    work_io_done(container_of(req, struct chunk_work, tail_io), rc);
}

void chunk_work_prepare(struct chunk_work *w, struct disk_req *req,
                        void (*step)(struct chunk_work *w, int64_t rc))
{
    CHECK(req == &w->io || req == &w->tail_io);
    w->step = step;
    w->left++;
    w->s->in_flight++;
    req->done = req == &w->io ? work_main_done : work_tail_done;
    req->lane = w->lane;
}

void chunk_work_io(struct chunk_work *w, struct disk_req *req,
                   void (*step)(struct chunk_work *w, int64_t rc))
{
    chunk_work_prepare(w, req, step);
    disk_submit(w->s->disk, req);
}

/* ---- States ---- */

struct chunk_state chunk_state_of(const struct chunk_entry *e)
{
    return (struct chunk_state){.committed = e->committed,
                                .pending = e->pending,
                                .last_ver = e->last_ver,
                                .chain = e->chain,
                                .damaged = e->damaged};
}
