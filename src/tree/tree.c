/*
 * tree/tree.c -- states, snapshots and commits of a tree: see tree_priv.h.
 *
 * A commit inserts into the active memtable and then publishes, under the lock, the number of its
 * last message together with the index; a state is published under the same lock. So a snapshot,
 * which takes all three under it, always has the memtables and nodes that its limit belongs to.
 */
#include "tree/tree.h"

#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/mem.h"
#include "tree/tree_checkpoint_priv.h"
#include "tree/tree_disk_priv.h"
#include "tree/tree_pin_priv.h"

#define TREE_COMMIT_ROOM (2u << 20)  /* memory that a commit finds free, at least */
#define TREE_ROTATE_ROOM (64u << 10) /* the same of one that freezes a memtable */
#define TREE_CREDIT_SHARE 8u         /* of a memtable, at most saved up */
#define TREE_ROOM_SPARE 4u           /* the same of room that is kept back */
#define TREE_DRAIN_PART 32u          /* of what is drained: work that is never said to be done */
#define TREE_CREDIT_NS UINT64_C(1000000) /* so long it is not worth to look again */
#define TREE_ROOM_NS UINT64_C(10000000)  /* until a refused commit is tried again, at most */
#define TREE_STARVED_MANY 64u            /* commits in a row without memory */
#define TREE_RECLAIM_MAX 256u            /* different versions that are looked at */

/* ---- memtables and states ---- */

struct tree_table *tree_table_new(struct tree *t, struct tree_memtable *m)
{
    struct tree_table *table = mem_zalloc(sizeof *table);
    if (table == NULL) {
        tree_memtable_unref(m);
        return NULL;
    }
    table->memtable = m;
    table->number = t->next_table++;
    atomic_init(&table->refs, 1);
    return table;
}

struct tree_table *tree_table_ref(struct tree_table *table)
{
    atomic_fetch_add_explicit(&table->refs, 1, memory_order_relaxed);
    return table;
}

void tree_table_unref(struct tree_table *table)
{
    if (atomic_fetch_sub_explicit(&table->refs, 1, memory_order_acq_rel) == 1) {
        tree_memtable_unref(table->memtable);
        mem_free(table->piece);
        mem_free(table);
    }
}

struct tree_state *tree_state_ref(struct tree_state *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

struct tree_state *tree_state_unref(struct tree_state *s)
{
    if (s != NULL && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
        for (unsigned i = 0; i < s->count; i++) {
            tree_table_unref(s->tables[i]);
        }
        mem_free(s);
    }
    return NULL;
}

int tree_state_copy(const struct tree_state *s, struct tree_state **ret)
{
    struct tree_state *copy = mem_alloc(sizeof *copy);
    if (copy == NULL) {
        return -ENOMEM;
    }
    memcpy(copy, s, sizeof *copy);
    atomic_init(&copy->refs, 1);
    for (unsigned i = 0; i < copy->count; i++) {
        (void)tree_table_ref(copy->tables[i]);
    }
    *ret = copy;
    return 0;
}

static uint64_t state_frozen_bytes(const struct tree_state *s)
{
    uint64_t bytes = 0;
    for (unsigned i = 1; i < s->count; i++) {
        bytes += tree_memtable_state(s->tables[i]->memtable).bytes;
    }
    return bytes;
}

/* The state of the youngest snapshot: what it does not see, no older one does. NULL: nobody has
 * one. With the lock. */
static const struct tree_state *state_youngest_held(const struct tree *t)
{
    for (struct list *node = t->views.prev; node != &t->views; node = node->prev) {
        const struct tree_view *v = LIST_ENTRY(node, struct tree_view, node);
        if (!v->inner) {
            return v->state;
        }
    }
    return NULL;
}

static bool state_has(const struct tree_state *s, const struct tree_table *table)
{
    bool has = false;
    for (unsigned i = 0; i < s->count; i++) {
        has = has || s->tables[i] == table;
    }
    return has;
}

/* Bytes of what `next` does without, and `held` has: memtables and nodes. What came after `held`
 * and goes now is nobody's, and its memory is free soon. */
static uint64_t state_gone_bytes(const struct tree *t, const struct tree_state *next,
                                 const struct tree_state *held)
{
    const struct tree_state *s = t->state;
    uint64_t bytes = 0;
    for (unsigned i = 0; i < s->count; i++) {
        bool gone = !state_has(next, s->tables[i]) && state_has(held, s->tables[i]);
        bytes += gone ? tree_memtable_state(s->tables[i]->memtable).bytes : 0;
    }
    if (next->version > s->version) {
        uint64_t seen = t->crowded ? UINT64_MAX : held->version;
        bytes += tree_nodes_replaced(t->nodes, next->version, seen);
    }
    return bytes;
}

void tree_state_publish(struct tree *t, struct tree_state *s)
{
    struct tree_state *old = t->state;
    CHECK(s->count >= 1 && s->count <= TREE_MEMTABLES_MAX && s->version >= old->version);
    lock_take(&t->lock);
    const struct tree_state *held = state_youngest_held(t);
    uint64_t gone = held == NULL ? 0 : state_gone_bytes(t, s, held);
    struct tree_superseded kept = {.bytes = gone, .kept = gone};
    t->state = s;
    (void)tree_snapshots_publish(t->snapshots, t->msn, &kept);
    lock_release(&t->lock);
    t->frozen_bytes = state_frozen_bytes(s);
    tree_state_unref(old);
    tree_reclaim(t);
    tree_room_wake(t);
}

/* Memtables take memory and evict nothing: what is clean goes before a writer is refused. */
static void make_room(struct tree *t, uint64_t need)
{
    struct mem_budget *budget = tree_cache_budget(t->cache);
    uint64_t used = atomic_load_explicit(&budget->used_bytes, memory_order_relaxed);
    need = base_min(need, budget->limit_bytes / 4);
    if (used + need > budget->limit_bytes) {
        (void)tree_cache_shrink(t->cache, budget->limit_bytes - need);
    }
}

/* An empty one is full as well when batches took its memory and then failed: nothing of it is kept.
 */
int tree_rotate(struct tree *t, unsigned frozen_max)
{
    bool empty = tree_memtable_state(t->state->tables[0]->memtable).max_msn == 0;
    struct tree_memtable_options opt = {.budget = tree_cache_budget(t->cache),
                                        .slab = tree_cache_slab(t->cache),
                                        .base_msn = t->msn,
                                        .limit_bytes = t->opt.memtable_bytes,
                                        .block_bytes = tree_memtable_block(t)};
    struct tree_state *next = NULL;
    struct tree_memtable *m = NULL;
    if (!empty && t->state->count > frozen_max) {
        return -ERR_busy;
    }
    make_room(t, TREE_ROTATE_ROOM + opt.block_bytes);
    int rc = tree_memtable_new(&opt, &m);
    rc = rc < 0 ? rc : tree_state_copy(t->state, &next);
    if (rc < 0) {
        tree_memtable_unref(m);
        return rc;
    }
    struct tree_table *table = tree_table_new(t, m);
    if (table == NULL) {
        tree_state_unref(next);
        return -ENOMEM;
    }
    if (empty) {
        tree_table_unref(next->tables[0]);
    } else {
        tree_memtable_freeze(next->tables[0]->memtable);
        for (unsigned i = next->count; i > 0; i--) {
            next->tables[i] = next->tables[i - 1];
        }
        next->count++;
    }
    next->tables[0] = table;
    tree_state_publish(t, next);
    if (!empty) {
        tree_checkpoint_rotated(t);
    }
    return 0;
}

/* ---- snapshots ---- */

int tree_view_new(struct tree *t, bool inner, struct tree_view **ret)
{
    struct tree_view *v = mem_alloc(sizeof *v);
    if (v == NULL) {
        return -ENOMEM;
    }
    v->base.kv = &t->base;
    v->inner = inner;
    lock_take(&t->lock);
    int rc = inner ? 0 : tree_snapshots_take(t->snapshots, &v->snapshot);
    if (rc == 0) {
        v->base.index = t->published_index;
        v->state = tree_state_ref(t->state);
        list_push_back(&t->views, &v->node);
    }
    lock_release(&t->lock);
    if (rc < 0) {
        mem_free(v);
        return rc;
    }
    *ret = v;
    return 0;
}

int tree_view_leave_tables(struct tree_view *v)
{
    struct tree *t = tree_of(v->base.kv);
    struct tree_state *old = v->state, *bare = NULL;
    CHECK(v->inner);
    int rc = tree_state_copy(old, &bare);
    if (rc < 0) {
        return rc;
    }
    while (bare->count > 0) {
        tree_table_unref(bare->tables[--bare->count]);
    }
    bare->draining = 0;
    lock_take(&t->lock);
    v->state = bare;
    lock_release(&t->lock);
    tree_state_unref(old);
    return 0;
}

struct tree_view *tree_view_free(struct tree_view *v)
{
    if (v == NULL) {
        return NULL;
    }
    struct tree *t = tree_of(v->base.kv);
    lock_take(&t->lock);
    bool old = v->state != t->state;
    list_remove(&v->node);
    if (!v->inner) {
        tree_snapshots_release(t->snapshots, &v->snapshot);
    }
    lock_release(&t->lock);
    tree_state_unref(v->state);
    mem_free(v);
    if (old && loop_is_mine(t->env.loop)) {
        tree_reclaim(t);
    } else if (old) {
        atomic_store_explicit(&t->reclaim_due, true, memory_order_relaxed);
    }
    return NULL;
}

void tree_view_read(struct tree_view *v)
{
    struct tree *t = tree_of(v->base.kv);
    if (FAULT(t->env.fault, "tree.snapshot")) {
        tree_snapshots_cancel(t->snapshots, &v->snapshot);
    }
}

/* What lies between the versions that are looked at goes; then what is older than all of them. */
void tree_reclaim(struct tree *t)
{
    uint64_t held[TREE_RECLAIM_MAX];
    size_t count = 0;
    atomic_store_explicit(&t->reclaim_due, false, memory_order_relaxed);
    lock_take(&t->lock);
    LIST_FOR_EACH(node, &t->views)
    {
        uint64_t version = LIST_ENTRY(node, struct tree_view, node)->state->version;
        if (count == 0 || held[count - 1] != version) {
            if (count == TREE_RECLAIM_MAX - 1) {
                break; /* the ones behind keep what they need, and more */
            }
            held[count++] = version;
        }
    }
    bool all = count < TREE_RECLAIM_MAX - 1;
    if (count == 0 || held[count - 1] != t->state->version) {
        held[count++] = t->state->version;
    }
    lock_release(&t->lock);
    t->crowded = !all;
    if (all) {
        tree_nodes_hollow(t->nodes, held, count);
    }
    tree_nodes_reclaim(t->nodes, held[0]);
}

static int tree_snapshot_new(struct kv *kv, struct kv_snapshot **ret)
{
    struct tree_view *v = NULL;
    int rc = tree_view_new(tree_of(kv), false, &v);
    if (rc == 0) {
        *ret = &v->base;
    }
    return rc;
}

static void tree_snapshot_free(struct kv_snapshot *s)
{
    tree_view_free(container_of(s, struct tree_view, base));
}

/* ---- commits ---- */

void tree_fail(struct tree *t, int rc, const char *what, const struct err *why)
{
    struct err of_file = {0};
    if (t->failure.code != 0) {
        return;
    }
    if (tree_file_failed(t->file, &of_file) < 0) {
        why = &of_file;
    }
    const char *reason = why == NULL ? "" : why->text;
    err_set(&t->failure, rc, "%s: %s%s%s", t->path, what, reason[0] == 0 ? "" : ": ", reason);
    log_error(t->env.log, "the tree is not written any more", LOG_TEXT("file", t->path),
              LOG_TEXT("while", what), LOG_TEXT("reason", reason), LOG_RC(rc));
    tree_room_wake(t);
    tree_maintain_kick(t);
    tree_checkpoint_kick(t); /* also one that only waits for room */
}

int tree_failed(struct kv *kv, struct err *e)
{
    struct tree *t = tree_of(kv);
    if (t->failure.code != 0) {
        if (e != NULL) {
            *e = t->failure;
        }
        return t->failure.code;
    }
    return tree_file_failed(t->file, e);
}

static uint64_t tables_bytes(const struct tree *t, unsigned count)
{
    return count * (uint64_t)t->opt.memtable_bytes;
}

void tree_drain_begins(struct tree *t)
{
    const struct tree_state *s = t->state;
    memset(&t->drain, 0, sizeof t->drain);
    for (unsigned i = s->count - s->draining; i < s->count; i++) {
        struct tree_memtable_state m = tree_memtable_state(s->tables[i]->memtable);
        t->drain.bytes += m.bytes;
        t->drain.messages += m.key_count + m.range_count;
    }
    tree_credit_begin(&t->credit, loop_now_ns(t->env.loop));
}

/* Of the memtables that are being drained, or of those that wait for it: what is still to be moved,
 * in bytes of their memory, all of which comes back at the end. Never quite nothing: how many
 * messages there are is not known exactly. */
static uint64_t drain_left(const struct tree *t)
{
    if (t->state->draining == 0) {
        return t->frozen_bytes;
    }
    uint64_t all = base_max(t->drain.messages, 1), moved = base_min(t->drain.moved, all);
    double left = (double)(all - moved) / (double)all;
    return (uint64_t)(left * (double)t->drain.bytes) + t->drain.bytes / TREE_DRAIN_PART;
}

void tree_drained(struct tree *t, uint64_t messages)
{
    uint64_t all = base_max(t->drain.messages, 1), before = base_min(t->drain.moved, all);
    t->drain.moved = base_min(t->drain.moved + messages, all);
    double part = (double)(t->drain.moved - before) / (double)all;
    tree_credit_work(&t->credit, loop_now_ns(t->env.loop),
                     (uint64_t)(part * (double)t->drain.bytes));
    tree_room_wake(t);
}

/* Memory of memtables that commits may still fill; work 0: they need not be slowed yet. Some of it
 * is kept back for work that takes longer than it looks. */
static struct tree_credit_room commit_room(const struct tree *t)
{
    uint64_t spare = t->opt.memtable_bytes / TREE_ROOM_SPARE;
    uint64_t active = tree_memtable_state(t->state->tables[0]->memtable).bytes;
    unsigned frozen = (unsigned)base_min(t->state->count - 1, TREE_FROZEN_COMMITS);
    uint64_t own = t->opt.memtable_bytes - base_min(t->opt.memtable_bytes, active);
    struct tree_credit_room r = {.room = tables_bytes(t, TREE_FROZEN_COMMITS - frozen) + own,
                                 .most = t->opt.memtable_bytes / TREE_CREDIT_SHARE};
    if (tree_maintain_drains(t)) {
        r.work = drain_left(t);
    }
    r.room -= base_min(spare, r.room - r.room / 8);
    return r;
}

/* Without memory: can what there is be moved, or written, so that there is some later? Snapshots
 * that keep much of it do not hold up a writer for ever. */
static int commit_starved(struct tree *t, int rc)
{
    if (++t->starved % TREE_STARVED_MANY == 0) {
        (void)tree_snapshots_give_up(t->snapshots);
    }
    bool empty = tree_memtable_state(t->state->tables[0]->memtable).max_msn == 0;
    bool moves = !empty && tree_rotate(t, TREE_FROZEN_COMMITS) == 0;
    bool busy = tree_maintain_busy(t) || tree_checkpoint_busy(t);
    return moves || busy || t->state->count > 1 ? -ERR_busy : rc;
}

static int commit_insert(struct tree *t, const struct kv_batch *b, struct tree_superseded *ret)
{
    int rc = 0;
    if (tree_memtable_state(t->state->tables[0]->memtable).full) {
        rc = tree_rotate(t, TREE_FROZEN_COMMITS);
        tree_maintain_kick(t);
    }
    if (rc == 0) {
        make_room(t, 3 * (uint64_t)b->len + TREE_COMMIT_ROOM);
        rc = tree_memtable_apply(t->state->tables[0]->memtable, b, t->msn + 1,
                                 tree_snapshots_look(t->snapshots), ret);
    }
    return rc == -ENOMEM ? commit_starved(t, rc) : rc;
}

void tree_room_wake(struct tree *t)
{
    if (t->rooms != NULL) {
        loop_defer(t->env.loop, &t->room_task);
    }
}

/* All of them try again; whoever finds none comes back. */
static void room_run(struct loop_task *task)
{
    struct tree *t = container_of(task, struct tree, room_task);
    struct kv_room *r = t->rooms;
    t->rooms = NULL;
    t->rooms_end = &t->rooms;
    loop_timer_cancel(t->env.loop, &t->room_timer);
    while (r != NULL) {
        struct kv_room *next = r->next;
        r->done(r);
        r = next;
    }
    tree_stop_check(t);
}

static void room_fired(struct loop_timer *timer)
{
    tree_room_wake(container_of(timer, struct tree, room_timer));
}

static void tree_room(struct kv *kv, struct kv_room *r)
{
    struct tree *t = tree_of(kv);
    r->next = NULL;
    *t->rooms_end = r;
    t->rooms_end = &r->next;
    if (!loop_timer_active(&t->room_timer)) {
        struct tree_credit_room room = commit_room(t);
        uint64_t wait_ns = base_max(tree_credit_wait_ns(&t->credit, &room), TREE_CREDIT_NS);
        loop_timer_in(t->env.loop, &t->room_timer, base_min(wait_ns, TREE_ROOM_NS));
    }
}

static int tree_commit(struct kv *kv, const struct kv_batch *b, uint64_t index)
{
    struct tree *t = tree_of(kv);
    struct tree_superseded superseded = {0};
    int rc = t->opt.read_only ? -EROFS : tree_failed(kv, NULL);
    if (rc < 0) {
        return rc;
    }
    if (atomic_load_explicit(&t->reclaim_due, memory_order_relaxed)) {
        tree_reclaim(t);
    }
    if (b->count > 0) {
        struct tree_credit_room room = commit_room(t);
        bool may = tree_credit_take(&t->credit, loop_now_ns(t->env.loop), &room, b->len);
        rc = may ? commit_insert(t, b, &superseded) : -ERR_busy;
    }
    if (rc < 0) {
        t->counts.busy += rc == -ERR_busy ? 1 : 0;
        if (!tree_maintain_busy(t)) {
            tree_maintain_kick(t);
        }
        return rc;
    }
    t->msn += b->count;
    t->index = index;
    t->starved = 0;
    lock_take(&t->lock);
    (void)tree_snapshots_publish(t->snapshots, t->msn, &superseded);
    t->published_index = index;
    lock_release(&t->lock);
    tree_disk_committed(t, b->len);
    return 0;
}

static uint64_t tree_applied_index(struct kv *kv)
{
    return tree_of(kv)->index;
}

/* ---- beginning and end ---- */

static void tree_fetch(struct kv *kv, struct kv_fetch *f)
{
    tree_fetcher_fetch(tree_of(kv)->fetcher, TREE_FETCH_READER, f);
}

static void tree_unpin(struct kv *kv, struct kv_need_item *item)
{
    (void)kv;
    tree_need_unpin(item);
}

static void tree_kv_statistics(struct kv *kv, struct kv_statistics *ret)
{
    struct tree_statistics s;
    tree_statistics(kv, &s);
    *ret = (struct kv_statistics){.engine = "tree",
                                  .cache_used = s.cache_used,
                                  .cache_limit = s.cache_limit,
                                  .dirty_bytes = s.dirty_bytes + s.memtable_bytes,
                                  .file_bytes = s.file_bytes,
                                  .disk_bytes = tree_disk_room(tree_of(kv)),
                                  .held_bytes = s.file_held_bytes,
                                  .busy = s.busy,
                                  .pinned_bytes = s.pinned_bytes,
                                  .pins = tree_pins(tree_of(kv), false),
                                  .hits = s.hits,
                                  .misses = s.fills,
                                  .evictions = s.evictions,
                                  .read_bytes = s.time_bytes[TREE_TIME_READ],
                                  .written_bytes = s.time_bytes[TREE_TIME_WRITE]};
    _Static_assert((int)TREE_TIME_SERIALISE == (int)KV_TIME_SERIALISE &&
                       (int)TREE_TIME_DESERIALISE == (int)KV_TIME_DESERIALISE,
                   "one order");
    memcpy(ret->time_ns, s.time_ns, sizeof ret->time_ns);
}

static unsigned tree_poll(struct kv *kv)
{
    (void)kv;
    return 0; /* everything comes from the loop */
}

static void stop_file_done(struct tree_file_stop *s)
{
    struct tree *t = container_of(s, struct tree, file_stop);
    struct kv_stop *stop = t->stop;
    t->stop = NULL;
    stop->done(stop);
}

void tree_stop_check(struct tree *t)
{
    if (t->stop == NULL || t->stop_file || tree_maintain_busy(t) || tree_checkpoint_busy(t) ||
        tree_writer_busy(t->writer) || tree_fetcher_busy(t->fetcher) || tree_disk_busy(t) ||
        t->rooms != NULL || tree_pins(t, true) > 0) {
        return;
    }
    t->stop_file = true;
    t->file_stop.done = stop_file_done;
    tree_file_stop(t->file, &t->file_stop);
}

static void stop_task(struct loop_task *task)
{
    tree_stop_check(container_of(task, struct tree, stop_task));
}

static void tree_stop(struct kv *kv, struct kv_stop *s)
{
    struct tree *t = tree_of(kv);
    CHECK(t->stop == NULL && !t->stopping);
    t->stopping = true;
    t->stop = s;
    t->stop_task.run = stop_task;
    tree_disk_stop(t);
    tree_checkpoint_cancel(kv);
    tree_maintain_kick(t);
    tree_room_wake(t);
    loop_defer(t->env.loop, &t->stop_task);
}

const struct kv_ops tree_kv_ops = {
    .snapshot = tree_snapshot_new,
    .snapshot_free = tree_snapshot_free,
    .get = tree_get,
    .iter = tree_iter,
    .estimate = tree_estimate,
    .fetch = tree_fetch,
    .unpin = tree_unpin,
    .commit = tree_commit,
    .applied_index = tree_applied_index,
    .checkpoint = tree_checkpoint,
    .checkpoint_hurry = tree_checkpoint_hurry,
    .checkpoint_cancel = tree_checkpoint_cancel,
    .checkpoints = tree_checkpoints,
    .room = tree_room,
    .pin = tree_pin,
    .failed = tree_failed,
    .disk = tree_disk,
    .statistics = tree_kv_statistics,
    .poll = tree_poll,
    .stop = tree_stop,
    .free = tree_close,
};

void tree_start(struct tree *t, struct tree_state *first)
{
    lock_init(&t->lock, LOCK_RANK_tree);
    list_init(&t->views);
    list_init(&t->pins);
    t->base.ops = &tree_kv_ops;
    t->state = first;
    t->rooms_end = &t->rooms;
    t->room_task.run = room_run;
    t->room_timer.fire = room_fired;
    t->published_index = t->index;
    t->frozen_bytes = state_frozen_bytes(first);
    tree_drain_begins(t); /* of what had been begun when it was written: all of it, to be sure */
}

void tree_end(struct tree *t)
{
    CHECK(list_empty(&t->views) && list_empty(&t->pins) && t->rooms == NULL);
    loop_undefer(t->env.loop, &t->room_task);
    loop_undefer(t->env.loop, &t->stop_task);
    loop_timer_cancel(t->env.loop, &t->room_timer);
    t->state = tree_state_unref(t->state);
    lock_fini(&t->lock);
}

/* What is charged to nobody and grows with the file, or is the same whatever happens. */
static uint64_t tree_outside(struct tree *t, const struct tree_nodes_info *nodes,
                             const struct tree_file_info *file)
{
    return sizeof *t + sizeof *t->state + nodes->memory + file->memory +
           tree_snapshots_state(t->snapshots).memory + tree_fetcher_memory(t->fetcher) +
           tree_maintain_memory(t) + tree_checkpoint_memory(t);
}

void tree_statistics(struct kv *kv, struct tree_statistics *ret)
{
    struct tree *t = tree_of(kv);
    struct tree_cache_info cache;
    struct tree_nodes_info nodes;
    struct tree_file_info file;
    tree_cache_info(t->cache, &cache);
    tree_nodes_info(t->nodes, &nodes);
    tree_file_info(t->file, &file);
    *ret = t->counts;
    ret->cache_limit = cache.limit;
    ret->cache_used = cache.used;
    ret->clean_bytes = cache.clean;
    ret->dirty_bytes = nodes.dirty_bytes;
    ret->memtable_bytes =
        t->frozen_bytes + tree_memtable_state(t->state->tables[0]->memtable).bytes;
    ret->retired_bytes = nodes.retired_bytes;
    ret->nodes = nodes.nodes;
    ret->height = t->state->height;
    ret->file_bytes = file.size_bytes;
    ret->file_free_bytes = (file.space.free + file.space.deferred) * TREE_SPACE_UNIT;
    ret->pinned_bytes = list_empty(&t->pins) ? 0 : tree_file_pinned(t->file) * TREE_SPACE_UNIT;
    ret->file_held_bytes = file.space.deferred * TREE_SPACE_UNIT;
    ret->outside_bytes = tree_outside(t, &nodes, &file);
    ret->hits = cache.hits;
    ret->fills = cache.fills;
    ret->evictions = cache.evictions;
    for (unsigned i = 0; i < ARRAY_COUNT(ret->time_ns); i++) {
        ret->time_ns[i] = atomic_load_explicit(&t->times.ns[i], memory_order_relaxed);
        ret->time_count[i] = atomic_load_explicit(&t->times.count[i], memory_order_relaxed);
        ret->time_bytes[i] = atomic_load_explicit(&t->times.bytes[i], memory_order_relaxed);
    }
}
