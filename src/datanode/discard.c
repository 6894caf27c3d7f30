/* datanode/discard.c -- see discard.h. Each chunk goes under its lock, whoever uses it first. */
#include "datanode/discard.h"

#include "datanode/worker_priv.h"

#define DISCARD_BATCH 512u
#define DISCARD_PAUSE_MS 500u

static void discard_soon(struct datanode_worker *w)
{
    loop_defer(w->loop, &w->discard.task);
}

static struct datanode_discard_job *discard_job(struct datanode_discard *d)
{
    for (size_t i = 0; i < DATANODE_DISCARDS; i++) {
        if (d->job[i].item == NULL) {
            return &d->job[i];
        }
    }
    return NULL;
}

bool datanode_discard_busy(const struct datanode_worker *w)
{
    bool busy = false;
    for (size_t i = 0; i < DATANODE_DISCARDS; i++) {
        busy = busy || w->discard.job[i].item != NULL;
    }
    return busy;
}

bool datanode_discards(const struct datanode_chain *c)
{
    const struct datanode_discard *d = &c->worker->discard;
    bool found = false;
    for (size_t i = 0; i < DATANODE_DISCARDS; i++) {
        found = found || (d->job[i].item != NULL && d->job[i].item->chain == c);
    }
    return found;
}

static bool discard_ends(const struct datanode_worker *w)
{
    return w->stopping || w->closing || w->left || w->failed;
}

/* Something is left: another walk, after this one. It may have ended, while this was under way. */
static void discard_again(struct datanode_worker *w)
{
    w->discard.again = true;
    if (!w->discard.walking && !discard_ends(w)) {
        loop_timer_in(w->loop, &w->discard.later, DISCARD_PAUSE_MS * NS_PER_MS);
    }
}

static void discard_gone(struct chunk_change *ch, int rc)
{
    struct datanode_discard_job *j = container_of(ch, struct datanode_discard_job, change);
    struct datanode_worker *w = j->worker;
    struct datanode_item *it = j->item;
    if (rc == 0) {
        stats_count(&w->counters.discarded, 1);
    } else if (rc != -ENOENT) {
        discard_again(w);
    }
    j->item = NULL;
    datanode_item_unlock(it);
    datanode_item_put(it);
    discard_soon(w);
}

/* May what is here of this chain go? Not while nobody serves it: then it may be the last. And not
 * when it only looks as if this target had left: see chain_release(). Nor before it is sure that it
 * will still know, after a restart, that it has nothing of this chain. */
static bool discard_may(const struct datanode_chain *c)
{
    return c->released && !datanode_chain_is_member(c) && cluster_row_serving_count(&c->row) > 0 &&
           datanode_hold_stable(c);
}

/* False: not now, the same chunk again when a job has ended. */
static bool discard_one(struct datanode_worker *w, const struct chunk_info *info)
{
    struct datanode_chain *c = info->chain == 0 ? NULL : datanode_chain_find(w, info->chain);
    if (info->chain != 0 && c == NULL) {
        if (datanode_chain_meet(w, info->chain) == NULL) {
            w->discard.again = true; /* no memory */
        }
        datanode_control_report(w);
        return true;
    }
    if (c == NULL || !discard_may(c)) {
        return true;
    }
    struct datanode_discard_job *j = discard_job(&w->discard);
    if (j == NULL) {
        return false;
    }
    struct datanode_item *it = datanode_item_get(w, c, info->key);
    if (it == NULL || !datanode_item_try_lock(it)) {
        w->discard.again = true; /* in use: it ends soon, for nothing new comes */
        if (it != NULL) {
            datanode_item_put(it);
        }
        return true;
    }
    j->item = it;
    j->change = (struct chunk_change){.done = discard_gone, .op = CHUNK_DELETE, .key = info->key};
    chunk_store_change(w->store, &j->change);
    return true;
}

static void discard_over(struct datanode_worker *w)
{
    struct datanode_discard *d = &w->discard;
    d->walking = false;
    if (d->again) {
        loop_timer_in(w->loop, &d->later, DISCARD_PAUSE_MS * NS_PER_MS);
    }
}

static void discard_read(struct chunk_ahead *a, int rc)
{
    struct datanode_worker *w = container_of(a, struct datanode_worker, discard.ahead);
    if (rc < 0) { /* from the beginning, later */
        w->discard.again = true;
        discard_over(w);
    } else {
        discard_soon(w);
    }
}

/* Nothing is there, or it is on the disk, or cannot be had. */
static void discard_none(struct datanode_worker *w, int rc)
{
    struct datanode_discard *d = &w->discard;
    if (rc == -ERR_need) {
        d->ahead.done = discard_read;
        d->ahead.from = d->at;
        rc = chunk_store_ahead(w->store, &d->ahead);
        if (rc == 0) {
            return;
        }
    }
    chunk_store_ahead_end(w->store, &d->ahead);
    d->again = d->again || rc != -ENOENT;
    discard_over(w);
}

static void discard_run(struct loop_task *t)
{
    struct datanode_worker *w = container_of(t, struct datanode_worker, discard.task);
    struct datanode_discard *d = &w->discard;
    struct chunk_info info;
    for (unsigned i = 0; d->walking && i < DISCARD_BATCH; i++) {
        if (discard_ends(w)) {
            d->walking = false;
            return;
        }
        if (chunk_ahead_active(&d->ahead)) {
            return; /* its end goes on */
        }
        int rc = chunk_store_next(w->store, d->at, &info);
        if (rc < 0) {
            discard_none(w, rc);
            return;
        }
        if (!discard_one(w, &info)) {
            return;
        }
        d->at = info.key;
        d->at.index++;
        d->at.data_id += d->at.index == 0 ? 1U : 0U;
    }
    if (d->walking) {
        discard_soon(w);
    }
}

static void discard_later(struct loop_timer *t)
{
    datanode_discard_start(container_of(t, struct datanode_worker, discard.later));
}

void datanode_discard_init(struct datanode_worker *w)
{
    w->discard.task.run = discard_run;
    w->discard.later.fire = discard_later;
    for (size_t i = 0; i < DATANODE_DISCARDS; i++) {
        w->discard.job[i].worker = w;
    }
}

void datanode_discard_start(struct datanode_worker *w)
{
    struct datanode_discard *d = &w->discard;
    if (discard_ends(w)) {
        return;
    }
    if (d->walking) {
        d->again = true;
        return;
    }
    d->walking = true;
    d->again = false;
    d->at = (struct chunk_key){0};
    discard_soon(w);
}

void datanode_discard_fini(struct datanode_worker *w)
{
    loop_undefer(w->loop, &w->discard.task);
    loop_timer_cancel(w->loop, &w->discard.later);
    if (w->store != NULL) {
        chunk_store_ahead_end(w->store, &w->discard.ahead);
    }
}
