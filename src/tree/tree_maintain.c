/*
 * tree/tree_maintain.c -- what is moved down, and when. One job at a time, in this order: nodes
 * that have become overfull, so that none has more than one flush above its limit; blocks of
 * subtrees that have gone; small nodes; memtables.
 *
 * The frozen memtables that there are when a drain begins are drained together. A job takes what
 * fits into one child of the root (or the root, when it is a leaf); `drained` of the state says how
 * far they are. When nothing is left they leave the state, and their pieces the file.
 *
 * All that happens is decided in one task, which everybody kicks; a timer kicks it when the reason
 * to wait says nothing when it is over.
 */
#include "tree/tree_maintain_priv.h"

#include "base/mem.h"
#include "tree/tree_checkpoint_priv.h"

#include <string.h>

#define MAINTAIN_FROZEN_MANY 3u /* memtables are drained however small they are */
#define MAINTAIN_TURNS_MAX 64u  /* of one task */
#define MAINTAIN_DIRTY_PERCENT 40u

/* ---- what others ask ---- */

void tree_maintain_kick(struct tree *t)
{
    if (t->maintain != NULL && !t->opt.read_only) {
        loop_defer(t->env.loop, &t->maintain->task);
    }
}

bool tree_maintain_busy(const struct tree *t)
{
    const struct tree_maintain *m = t->maintain;
    return m->step != MAINTAIN_IDLE || m->writing > 0 || m->task.queued ||
           (!m->stopped && (loop_timer_active(&m->timer) || m->held_count > 0));
}

void tree_maintain_later(struct tree_maintain *m, uint64_t delay_ns)
{
    uint64_t at_ns = loop_now_ns(m->t->env.loop) + delay_ns;
    if (!m->stopped && (!loop_timer_active(&m->timer) || at_ns < m->timer_ns)) {
        m->timer_ns = at_ns;
        loop_timer_at(m->t->env.loop, &m->timer, at_ns);
    }
}

void tree_maintain_rest(struct tree_maintain *m)
{
    m->rest_ns = loop_now_ns(m->t->env.loop) + MAINTAIN_RETRY_NS;
}

bool tree_maintain_is_tight(const struct tree_maintain *m)
{
    struct tree_cache_info info;
    tree_cache_info(m->t->cache, &info);
    return info.used - base_min(info.used, info.clean) > info.limit / 4 * 3;
}

static bool about_is(const struct maintain_about *a, const struct maintain_about *b)
{
    return a->level == b->level && a->merge == b->merge && a->key_len == b->key_len &&
           memcmp(a->key, b->key, a->key_len) == 0;
}

/* If there is no room any more: whoever comes to the node next finds it as it is. */
void tree_maintain_note(struct tree_maintain *m, const struct tree_head *h, bool merge)
{
    struct kv_slice low = h->pivots.low;
    struct maintain_about about = {.level = h->header.level, .merge = merge, .key_len = low.len};
    if (low.len > 0) {
        memcpy(about.key, low.at, low.len);
    }
    for (size_t i = 0; i < m->todo_count; i++) {
        if (about_is(&m->todo[i], &about)) {
            return;
        }
    }
    if (m->todo_count < MAINTAIN_TODO_MAX) {
        m->todo[m->todo_count++] = about;
    }
}

/* ---- groups of memtables ---- */

static bool table_is_empty(const struct tree_table *table)
{
    return tree_memtable_state(table->memtable).max_msn == 0;
}

static bool group_is_due(const struct tree_maintain *m)
{
    const struct tree *t = m->t;
    return t->frozen_bytes >= t->opt.memtable_bytes ||
           t->state->count - 1 >= MAINTAIN_FROZEN_MANY || !list_empty(&m->settles) ||
           tree_checkpoint_holds(t) || tree_maintain_is_tight(m);
}

bool tree_maintain_drains(const struct tree *t)
{
    const struct tree_state *s = t->state;
    return s->draining > 0 || (s->count > 1 && group_is_due(t->maintain));
}

/* Either all of them go on being drained, or they were and leave. -ENOMEM. */
static int group_begin(struct tree_maintain *m, unsigned count)
{
    struct tree_state *s = NULL;
    int rc = tree_state_copy(m->t->state, &s);
    if (rc == 0) {
        s->draining = count;
        s->drained_len = 0;
        tree_state_publish(m->t, s);
        tree_drain_begins(m->t);
    }
    return rc;
}

bool tree_maintain_group_ends(struct tree_maintain *m, struct tree_state *s)
{
    struct tree_table **gone = &s->tables[s->count - s->draining];
    if (!tree_checkpoint_retire(m->t, gone, s->draining)) {
        return false;
    }
    for (unsigned i = 0; i < s->draining; i++) {
        /* the state that is still published has them as well */
        CHECK(atomic_fetch_sub_explicit(&gone[i]->refs, 1, memory_order_relaxed) > 1);
        gone[i] = NULL;
    }
    s->count -= s->draining;
    s->draining = 0;
    s->drained_len = 0;
    return true;
}

static int group_end(struct tree_maintain *m)
{
    struct tree_state *s = NULL;
    int rc = tree_state_copy(m->t->state, &s);
    if (rc < 0) {
        return rc;
    }
    if (!tree_maintain_group_ends(m, s)) {
        tree_state_unref(s);
        return -ENOMEM;
    }
    tree_state_publish(m->t, s);
    tree_checkpoint_kick(m->t);
    return 0;
}

static bool key_is_before(struct kv_slice a, struct kv_slice b)
{
    size_t len = base_min(a.len, b.len);
    int order = len == 0 ? 0 : memcmp(a.at, b.at, len);
    return order != 0 ? order < 0 : a.len < b.len;
}

/* Where the first message is that has not been drained. False: there is none. Nothing is ever
 * missing in a memtable. */
static bool group_next(const struct tree_maintain *m, struct maintain_about *ret)
{
    const struct tree_state *s = m->t->state;
    struct kv_slice from = kv_slice_of(s->drained, s->drained_len), least = {0};
    bool found = false;
    for (unsigned i = s->count - s->draining; i < s->count; i++) {
        struct tree_memtable_cursor c;
        struct tree_range range;
        tree_memtable_cursor_init(&c, s->tables[i]->memtable, UINT64_MAX);
        int rc = c.base.ops->seek(&c.base, from);
        CHECK(rc >= 0);
        if (rc > 0 && (!found || key_is_before(c.base.key, least))) {
            least = c.base.key;
            found = true;
        }
        if (tree_memtable_range(s->tables[i]->memtable, UINT64_MAX, from, &range)) {
            struct kv_slice low = key_is_before(range.low, from) ? from : range.low;
            least = !found || key_is_before(low, least) ? low : least;
            found = true;
        }
    }
    ret->key_len = found ? least.len : 0;
    if (ret->key_len > 0) {
        memcpy(ret->key, least.at, least.len);
    }
    return found;
}

/* ---- what is next ---- */

/* 1: a job has begun, or a group has ended; 0: there is nothing to drain. */
static int next_drain(struct tree_maintain *m)
{
    struct maintain_about about = {0};
    if (m->t->state->draining == 0) {
        unsigned count = group_is_due(m) ? m->t->state->count - 1 : 0;
        int rc = count == 0 ? 0 : group_begin(m, count);
        if (count == 0 || rc < 0) {
            return rc;
        }
    }
    if (!group_next(m, &about)) {
        int rc = group_end(m);
        return rc < 0 ? rc : 1;
    }
    tree_maintain_job_begin(m, MAINTAIN_DRAIN, &about);
    return 1;
}

/* The newest one of its kind. */
static bool next_todo(struct tree_maintain *m, bool merge)
{
    size_t i = m->todo_count;
    while (i > 0 && m->todo[i - 1].merge != merge) {
        i--;
    }
    if (i == 0) {
        return false;
    }
    struct maintain_about about = m->todo[i - 1];
    m->todo_count--;
    memmove(&m->todo[i - 1], &m->todo[i], (m->todo_count - (i - 1)) * sizeof m->todo[0]);
    tree_maintain_job_begin(m, merge ? MAINTAIN_MERGE : MAINTAIN_FLUSH, &about);
    return true;
}

static int next_free(struct tree_maintain *m)
{
    struct maintain_about none = {0};
    tree_maintain_job_begin(m, MAINTAIN_FREE, &none);
    m->freed = true;
    return 1;
}

/*
 * No job may begin: while a checkpoint waits until no block is left to be freed (jobs make more of
 * them, and would move memtables into nodes that do not belong to it); while nodes lean on extents
 * of others; and while writing does not keep up, so that in the end commits wait for the disk.
 */
static bool maintain_waits(const struct tree_maintain *m)
{
    struct tree_nodes_info info;
    if (tree_checkpoint_freezes(m->t) || m->held_count > 0) {
        return true;
    }
    tree_nodes_info(m->t->nodes, &info);
    uint64_t most = tree_cache_budget(m->t->cache)->limit_bytes / 100 * MAINTAIN_DIRTY_PERCENT;
    return info.dirty_bytes > most && tree_maintain_can_write(m);
}

static int maintain_next(struct tree_maintain *m)
{
    if (next_todo(m, false)) {
        return 1;
    }
    if (m->drop_count > 0 && !m->freed) {
        return next_free(m);
    }
    m->freed = false;
    if (next_todo(m, true)) {
        return 1;
    }
    int rc = next_drain(m);
    return rc != 0 || m->drop_count == 0 ? rc : next_free(m);
}

/* ---- who waits until everything is down ---- */

static void settle_answer(struct tree_maintain *m, int rc)
{
    struct list settled;
    list_init(&settled);
    list_splice_back(&settled, &m->settles);
    struct list *node = list_pop_front(&settled);
    for (; node != NULL; node = list_pop_front(&settled)) {
        struct tree_settle *s = LIST_ENTRY(node, struct tree_settle, node);
        s->done(s, rc);
    }
}

/* Nothing else is to be done: the active memtable is next, or that was all. */
static void maintain_settle(struct tree_maintain *m)
{
    struct tree *t = m->t;
    if (list_empty(&m->settles)) {
        return;
    }
    if (!table_is_empty(t->state->tables[0])) {
        if (tree_rotate(t, TREE_FROZEN_MAX) < 0) {
            tree_maintain_later(m, MAINTAIN_RETRY_NS);
        } else {
            tree_maintain_kick(t);
        }
    } else if (t->state->count == 1) {
        settle_answer(m, 0);
    } else {
        tree_maintain_later(m, MAINTAIN_RETRY_NS); /* a checkpoint holds them up */
    }
}

void tree_settle(struct kv *kv, struct tree_settle *s)
{
    struct tree *t = tree_of(kv);
    LOOP_OWNED(t->env.loop);
    list_push_back(&t->maintain->settles, &s->node);
    loop_defer(t->env.loop, &t->maintain->task);
}

/* ---- the task ---- */

static void maintain_wind_down(struct tree_maintain *m, int rc)
{
    m->stopped = true;
    loop_timer_cancel(m->t->env.loop, &m->timer);
    if (m->step != MAINTAIN_IDLE && !tree_maintain_job_waits(m)) {
        tree_maintain_job_end(m);
    }
    if (m->writing == 0) {
        tree_maintain_hold_end(m);
    }
    settle_answer(m, rc);
    tree_stop_check(m->t);
}

/* The timer goes on then. */
static bool maintain_rests(struct tree_maintain *m)
{
    uint64_t now_ns = loop_now_ns(m->t->env.loop);
    if (m->rest_ns <= now_ns) {
        return false;
    }
    tree_maintain_later(m, m->rest_ns - now_ns);
    return true;
}

static void maintain_turns(struct tree_maintain *m)
{
    for (unsigned i = 0; i < MAINTAIN_TURNS_MAX; i++) {
        if (m->step != MAINTAIN_IDLE) {
            if (!tree_maintain_job_step(m)) {
                return;
            }
            continue;
        }
        if (maintain_rests(m) || maintain_waits(m)) {
            return;
        }
        int rc = maintain_next(m);
        if (rc < 0) {
            tree_maintain_rest(m);
        } else if (rc == 0) {
            maintain_settle(m);
            return;
        }
    }
    loop_defer(m->t->env.loop, &m->task); /* others first */
}

static void maintain_run(struct loop_task *task)
{
    struct tree_maintain *m = container_of(task, struct tree_maintain, task);
    struct tree *t = m->t;
    if (!t->stopping && t->failure.code == 0 && !t->opt.read_only) {
        maintain_turns(m);
        tree_maintain_trickle(m);
    }
    if (t->stopping || t->failure.code != 0 || t->opt.read_only) {
        int rc = t->opt.read_only ? -EROFS : t->stopping ? -ECANCELED : t->failure.code;
        maintain_wind_down(m, rc);
    } else if (m->step == MAINTAIN_FETCH || m->step == MAINTAIN_ROOM) {
        tree_maintain_later(m, MAINTAIN_RETRY_NS); /* memory may be there before anybody says so */
    }
}

static void maintain_fired(struct loop_timer *timer)
{
    struct tree_maintain *m = container_of(timer, struct tree_maintain, timer);
    tree_fetcher_retry(m->t->fetcher);
    loop_defer(m->t->env.loop, &m->task);
}

uint64_t tree_maintain_memory(const struct tree *t)
{
    return sizeof *t->maintain + t->maintain->drop_capacity * sizeof t->maintain->drop[0];
}

/* ---- life ---- */

int tree_maintain_new(struct tree *t)
{
    struct tree_maintain *m = mem_zalloc(sizeof *m);
    if (m == NULL) {
        return -ENOMEM;
    }
    m->t = t;
    m->task.run = maintain_run;
    m->timer.fire = maintain_fired;
    list_init(&m->settles);
    t->maintain = m;
    return 0;
}

void tree_maintain_free(struct tree *t)
{
    struct tree_maintain *m = t->maintain;
    if (m == NULL) {
        return;
    }
    CHECK(!tree_maintain_job_waits(m) && m->writing == 0 && list_empty(&m->settles));
    if (m->step != MAINTAIN_IDLE) {
        tree_maintain_job_end(m);
    }
    tree_maintain_hold_end(m);
    loop_undefer(t->env.loop, &m->task);
    loop_timer_cancel(t->env.loop, &m->timer);
    mem_free(m->drop);
    mem_free(m);
    t->maintain = NULL;
}
