/*
 * loop/loop.c -- the part that all backends share: timers, tasks, mailbox, signal watches, the
 * table of descriptors. See loop.h and loop_priv.h.
 *
 * Invariants: a timer in the heap has a key not before the tick at which it was set, so that one
 * that re-arms itself for the past queues behind all that are due; a slot's generation changes at
 * each use, so that an event that was fetched for an earlier user of the slot is recognised.
 */
#include "loop/loop.h"

#include "base/mem.h"
#include "loop/loop_priv.h"

#include <stdatomic.h>

#define TIMER_RESERVE 64u

int loop_common_init(struct loop *l, const struct loop_ops *ops, const struct loop_options *opt)
{
    l->ops = ops;
    l->name = opt->name != NULL ? opt->name : "loop";
    heap_init(&l->timers);
    heap_init(&l->lazy);
    list_init(&l->tasks);
    list_init(&l->signals);
    list_init(&l->sources);
    mpsc_init(&l->mailbox, opt->mailbox_limit > 0 ? opt->mailbox_limit : LOOP_MAILBOX_LIMIT);
    mpsc_init(&l->completions, SIZE_MAX);
    int rc = heap_reserve(&l->timers, TIMER_RESERVE);
    return rc < 0 ? rc : heap_reserve(&l->lazy, TIMER_RESERVE);
}

void loop_common_fini(struct loop *l)
{
    heap_fini(&l->timers);
    heap_fini(&l->lazy);
    mem_free(l->slots);
    l->slots = NULL;
}

struct loop *loop_free(struct loop *l)
{
    if (l == NULL) {
        return NULL;
    }
    CHECK(l->simulated || !l->in_round);
    return l->ops->free(l);
}

const char *loop_name(const struct loop *l)
{
    return l->name;
}

bool loop_is_mine(const struct loop *l)
{
    return l->ops->is_mine(l);
}

bool loop_is_simulated(const struct loop *l)
{
    return l->simulated;
}

int loop_run(struct loop *l)
{
    if (!l->simulated) {
        loop_own(l);
    }
    while (!l->stopping && !atomic_load_explicit(&l->stop_asked, memory_order_relaxed)) {
        l->ops->run_once(l, UINT64_MAX);
    }
    int code = l->code;
    l->stopping = false;
    l->code = 0;
    return code;
}

void loop_stop(struct loop *l, int code)
{
    LOOP_OWNED(l);
    if (!l->stopping) { /* the first reason counts */
        l->stopping = true;
        l->code = code;
    }
}

void loop_ask_stop(struct loop *l)
{
    atomic_store_explicit(&l->stop_asked, true, memory_order_release);
    loop_announce(l);
}

void loop_run_once(struct loop *l, uint64_t wait_ns)
{
    CHECK(!l->in_round);
    l->ops->run_once(l, wait_ns);
}

int loop_poll_fd(struct loop *l)
{
    return l->ops->poll_fd(l);
}

/* --- clocks, randomness, processes: the backend's --- */

uint64_t loop_now_ns(const struct loop *l)
{
    return l->ops->now_ns(l);
}

uint64_t loop_tick_ns(const struct loop *l)
{
    return l->tick_ns;
}

uint64_t loop_wall_ns(const struct loop *l)
{
    return l->ops->wall_ns(l);
}

uint64_t loop_random(struct loop *l)
{
    uint64_t v = 0;
    l->ops->random_bytes(l, &v, sizeof v);
    return v;
}

void loop_random_bytes(struct loop *l, void *out, size_t len)
{
    l->ops->random_bytes(l, out, len);
}

void loop_boot_id(struct loop *l, uint8_t out[16])
{
    l->ops->boot_id(l, out);
}

int loop_spawn(struct loop *l, const struct loop_spawn_options *opt, struct loop_child *c,
               struct err *e)
{
    LOOP_OWNED(l);
    CHECK(c->pid == 0);
    return l->ops->spawn(l, opt, c, e);
}

int loop_child_signal(struct loop *l, struct loop_child *c, int signo)
{
    LOOP_OWNED(l);
    return c->pid == 0 ? -ESRCH : l->ops->child_signal(l, c, signo);
}

void loop_child_forget(struct loop *l, struct loop_child *c)
{
    LOOP_OWNED(l);
    if (c->pid != 0) {
        l->ops->child_forget(l, c);
        c->pid = 0;
        c->backend = NULL;
    }
}

int loop_child_adopt(struct loop *l, int64_t pid, struct loop_child *c)
{
    LOOP_OWNED(l);
    CHECK(c->pid == 0);
    return l->ops->child_adopt(l, pid, c);
}

int loop_process_signal(struct loop *l, int64_t pid, int signo)
{
    return pid <= 0 ? -ESRCH : l->ops->process_signal(l, pid, signo);
}

int64_t loop_process_id(const struct loop *l)
{
    return l->ops->process_id(l);
}

uint64_t loop_process_cpu_ns(const struct loop *l)
{
    return l->ops->process_cpu_ns(l);
}

/* --- timers --- */

/* Setting a timer must not fail, so the heap grows while a quarter of it is still free: only as
 * many failures to allocate in a row as there are free places could stop it. In simulation the
 * array belongs to the world and not to the process, whose memory vanishes when it is killed. */
static void reserve_timers(struct heap *h)
{
    if (h->count < h->capacity - h->capacity / 4) {
        return;
    }
    struct mem_domain *domain = mem_domain_enter(NULL);
    int rc = heap_reserve(h, h->capacity * 2);
    (void)mem_domain_enter(domain);
    CHECK(rc == 0 || h->count < h->capacity);
}

static void set_timer(struct loop *l, struct loop_timer *t, uint64_t at_ns, bool lazy)
{
    LOOP_OWNED(l);
    heap_remove(t->lazy ? &l->lazy : &l->timers, &t->node);
    t->lazy = lazy;
    struct heap *h = lazy ? &l->lazy : &l->timers;
    reserve_timers(h);
    int rc = heap_insert(h, &t->node, base_max(at_ns, l->tick_ns));
    CHECK(rc == 0);
    if (l->notify) {
        l->ops->changed(l);
    }
}

void loop_timer_at(struct loop *l, struct loop_timer *t, uint64_t at_ns)
{
    set_timer(l, t, at_ns, false);
}

static uint64_t time_after(const struct loop *l, uint64_t delay_ns)
{
    uint64_t now = l->ops->now_ns(l);
    return delay_ns < UINT64_MAX - now ? now + delay_ns : UINT64_MAX;
}

void loop_timer_in(struct loop *l, struct loop_timer *t, uint64_t delay_ns)
{
    set_timer(l, t, time_after(l, delay_ns), false);
}

/* Simulated, it is as punctual as others: each world decides by itself what comes late. */
void loop_timer_lazy_in(struct loop *l, struct loop_timer *t, uint64_t delay_ns)
{
    set_timer(l, t, time_after(l, delay_ns), !l->simulated && delay_ns >= 2 * LOOP_LAZY_NS);
}

void loop_timer_cancel(struct loop *l, struct loop_timer *t)
{
    LOOP_OWNED(l);
    heap_remove(t->lazy ? &l->lazy : &l->timers, &t->node);
}

bool loop_timer_active(const struct loop_timer *t)
{
    return t->node.index != 0;
}

uint64_t loop_next_timer_ns(const struct loop *l)
{
    const struct heap_node *first = heap_first(&l->timers), *lazy = heap_first(&l->lazy);
    uint64_t next = first == NULL ? UINT64_MAX : first->key;
    bool far = lazy == NULL || lazy->key > UINT64_MAX - LOOP_LAZY_NS;
    return far ? next : base_min(next, lazy->key + LOOP_LAZY_NS);
}

bool loop_run_timer(struct loop *l)
{
    struct heap_node *first = heap_first(&l->timers), *lazy = heap_first(&l->lazy);
    if (first == NULL || (lazy != NULL && lazy->key <= first->key)) {
        first = lazy; /* of equals the one that has waited longer */
    }
    if (first == NULL || first->key > l->tick_ns) {
        return false;
    }
    struct loop_timer *t = container_of(first, struct loop_timer, node);
    heap_remove(t->lazy ? &l->lazy : &l->timers, first);
    t->fire(t);
    return true;
}

/* --- tasks --- */

void loop_defer(struct loop *l, struct loop_task *t)
{
    LOOP_OWNED(l);
    if (t->queued) {
        return;
    }
    t->queued = true;
    list_push_back(&l->tasks, &t->node);
    l->task_count++;
    if (l->notify) {
        l->ops->changed(l);
    }
}

void loop_undefer(struct loop *l, struct loop_task *t)
{
    LOOP_OWNED(l);
    if (t->queued) {
        t->queued = false;
        list_remove(&t->node);
        l->task_count--;
    }
}

bool loop_run_task(struct loop *l)
{
    struct list *node = list_pop_front(&l->tasks);
    if (node == NULL) {
        return false;
    }
    struct loop_task *t = LIST_ENTRY(node, struct loop_task, node);
    t->queued = false;
    l->task_count--;
    t->run(t);
    return true;
}

/* --- mailbox --- */

/*
 * No wake-up is lost: sender and loop both exchange `sleep` after they wrote and before they look.
 * The exchanges of one variable have one order. If the sender's is first, the loop's sees what the
 * sender published before it, and does not sleep; if it is second, the sender sees SLEEPING and
 * wakes. Only the first sender pays for the wake-up.
 */
void loop_announce(struct loop *l)
{
    if (atomic_exchange_explicit(&l->sleep, LOOP_AWAKE, memory_order_acq_rel) == LOOP_SLEEPING) {
        l->ops->wake(l);
    }
}

/* Simulated processes share no memory, so they cannot post to each other. */
static void check_sender(const struct loop *l)
{
    if (l->simulated) {
        LOOP_OWNED(l);
    }
}

int loop_post(struct loop *l, struct loop_message *m)
{
    check_sender(l);
    if (!mpsc_push(&l->mailbox, &m->node, NULL)) {
        return -ERR_busy;
    }
    loop_announce(l);
    return 0;
}

void loop_complete(struct loop *l, struct loop_message *m)
{
    check_sender(l);
    bool pushed = mpsc_push(&l->completions, &m->node, NULL);
    CHECK(pushed);
    loop_announce(l);
}

static bool run_one_of(struct mpsc *queue)
{
    struct mpsc_node *node = mpsc_pop(queue);
    if (node == NULL) {
        return false;
    }
    struct loop_message *m = container_of(node, struct loop_message, node);
    m->run(m);
    return true;
}

bool loop_run_message(struct loop *l)
{
    return run_one_of(&l->mailbox);
}

bool loop_run_completion(struct loop *l)
{
    return run_one_of(&l->completions);
}

bool loop_has_messages(struct loop *l)
{
    return !mpsc_empty(&l->completions) || !mpsc_empty(&l->mailbox);
}

bool loop_has_work(struct loop *l)
{
    return l->task_count > 0 || loop_has_messages(l) ||
           atomic_load_explicit(&l->stop_asked, memory_order_acquire);
}

/* --- descriptors --- */

static int slot_take(struct loop *l, uint32_t *ret_slot)
{
    if (l->free_slot == 0) {
        if (l->slot_count >= UINT32_MAX) {
            return -ENOMEM;
        }
        int rc = mem_grow(&l->slots, &l->slot_capacity, l->slot_count + 1, sizeof l->slots[0]);
        if (rc < 0) {
            return rc;
        }
        l->slots[l->slot_count] = (struct loop_slot){.watch = NULL};
        l->slot_count++;
        l->free_slot = (uint32_t)l->slot_count;
    }
    *ret_slot = l->free_slot - 1;
    l->free_slot = l->slots[*ret_slot].next_free;
    return 0;
}

static void slot_give(struct loop *l, uint32_t index)
{
    l->slots[index].watch = NULL;
    l->slots[index].next_free = l->free_slot;
    l->free_slot = index + 1;
}

int loop_fd_add(struct loop *l, struct loop_fd *w)
{
    LOOP_OWNED(l);
    CHECK(w->generation == 0);
    uint32_t index = 0;
    int rc = slot_take(l, &index);
    if (rc < 0) {
        return rc;
    }
    struct loop_slot *slot = &l->slots[index];
    slot->generation = slot->generation == UINT32_MAX ? 1 : slot->generation + 1;
    slot->watch = w;
    w->slot = index;
    w->generation = slot->generation;
    rc = l->ops->fd_add(l, w, (uint64_t)index << 32 | w->generation);
    if (rc < 0) {
        w->generation = 0;
        slot_give(l, index);
    }
    return rc;
}

void loop_fd_remove(struct loop *l, struct loop_fd *w)
{
    LOOP_OWNED(l);
    if (w->generation == 0) {
        return;
    }
    CHECK(w->slot < l->slot_count && l->slots[w->slot].watch == w);
    l->ops->fd_remove(l, w);
    slot_give(l, w->slot);
    w->generation = 0;
}

void loop_fd_want(struct loop *l, struct loop_fd *w, unsigned events)
{
    LOOP_OWNED(l);
    CHECK(w->generation != 0);
    l->ops->fd_want(l, w, events);
}

void loop_fd_ready(struct loop *l, uint64_t data, unsigned events)
{
    uint32_t index = (uint32_t)(data >> 32);
    uint32_t generation = (uint32_t)data;
    if (generation == 0 || index >= l->slot_count) {
        return;
    }
    const struct loop_slot *slot = &l->slots[index];
    if (slot->watch != NULL && slot->generation == generation) {
        slot->watch->ready(slot->watch, events);
    }
}

/* --- signals --- */

int loop_signal_add(struct loop *l, struct loop_signal *s)
{
    LOOP_OWNED(l);
    CHECK(s->signo > 0 && s->signo < LOOP_SIGNALS);
    if (l->signal_watches[s->signo] == 0) {
        int rc = l->ops->signal_add(l, s->signo);
        if (rc < 0) {
            return rc;
        }
    }
    l->signal_watches[s->signo]++;
    list_push_back(&l->signals, &s->node);
    return 0;
}

void loop_signal_remove(struct loop *l, struct loop_signal *s)
{
    LOOP_OWNED(l);
    if (s->node.next == NULL || list_empty(&s->node)) {
        return;
    }
    list_remove(&s->node);
    CHECK(l->signal_watches[s->signo] > 0);
    l->signal_watches[s->signo]--;
    if (l->signal_watches[s->signo] == 0) {
        l->ops->signal_remove(l, s->signo);
    }
}

/* A callback may add and remove any watch: those to be called wait in a list of their own and go
 * back before their call. */
bool loop_signal_deliver(struct loop *l, int signo)
{
    struct list waiting;
    list_init(&waiting);
    LIST_FOR_EACH_SAFE(node, &l->signals)
    {
        if (LIST_ENTRY(node, struct loop_signal, node)->signo == signo) {
            list_remove(node);
            list_push_back(&waiting, node);
        }
    }
    bool any = !list_empty(&waiting);
    for (struct list *node = list_pop_front(&waiting); node != NULL;
         node = list_pop_front(&waiting)) {
        list_push_back(&l->signals, node);
        struct loop_signal *s = LIST_ENTRY(node, struct loop_signal, node);
        s->caught(s, signo);
    }
    return any;
}
