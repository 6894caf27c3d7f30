#include "tree/snapshots.h"

#include "base/lock.h"
#include "base/mem.h"

/*
 * Limits ascend in the order of taking, for what is published only grows; so lists stay sorted by
 * appending. The writer works on a copy of the limits: between two looks snapshots can only go, or
 * come at what is published, which the writer keeps anyway.
 */

struct tree_snapshots {
    struct lock lock;
    struct list live;      /* struct tree_snapshot.node, limits ascend */
    struct list cancelled; /* the same */
    size_t live_count, cancelled_count, count_max;
    uint64_t published;
    uint64_t kept_bytes, budget_bytes;
    struct tree_snapshot *held; /* one of the live ones, or NULL */
    bool changed;               /* since the last look */

    /* the writer's */
    struct tree_snapshots_view view;
    uint64_t limits[]; /* count_max, and one for `held`: live ones from the front, cancelled ones
                          from the end */
};

static struct tree_snapshot *snapshot_of(struct list *node)
{
    return LIST_ENTRY(node, struct tree_snapshot, node);
}

int tree_snapshots_new(const struct tree_snapshots_options *opt, struct tree_snapshots **ret)
{
    struct tree_snapshots *s = mem_zalloc(sizeof *s + (opt->count_max + 1) * sizeof s->limits[0]);
    if (s == NULL) {
        return -ENOMEM;
    }
    lock_init(&s->lock, LOCK_RANK_leaf);
    list_init(&s->live);
    list_init(&s->cancelled);
    s->count_max = opt->count_max;
    s->budget_bytes = opt->budget_bytes;
    s->published = opt->published;
    s->changed = true;
    *ret = s;
    return 0;
}

struct tree_snapshots *tree_snapshots_free(struct tree_snapshots *s)
{
    if (s != NULL) {
        CHECK(list_empty(&s->live));
        CHECK(list_empty(&s->cancelled));
        lock_fini(&s->lock);
        mem_free(s);
    }
    return NULL;
}

/* With the lock. */
static void snapshots_add(struct tree_snapshots *s, struct tree_snapshot *at)
{
    at->limit = s->published;
    at->kept_bytes = 0;
    atomic_init(&at->cancelled, false);
    list_push_back(&s->live, &at->node);
    s->live_count++;
    s->changed = true;
}

int tree_snapshots_take(struct tree_snapshots *s, struct tree_snapshot *at)
{
    int rc = -ERR_busy;
    lock_take(&s->lock);
    size_t held = s->held == NULL ? 0 : 1;
    if (s->live_count + s->cancelled_count < s->count_max + held) {
        snapshots_add(s, at);
        rc = 0;
    }
    lock_release(&s->lock);
    return rc;
}

void tree_snapshots_hold(struct tree_snapshots *s, struct tree_snapshot *at)
{
    lock_take(&s->lock);
    CHECK(s->held == NULL);
    snapshots_add(s, at);
    s->held = at;
    lock_release(&s->lock);
}

/* What was kept for it is kept for the next older one now, or for nobody. */
static void snapshots_pass_on(struct tree_snapshots *s, struct tree_snapshot *at)
{
    if (at->node.prev != &s->live) {
        snapshot_of(at->node.prev)->kept_bytes += at->kept_bytes;
    } else {
        CHECK(s->kept_bytes >= at->kept_bytes);
        s->kept_bytes -= at->kept_bytes;
    }
    at->kept_bytes = 0;
}

void tree_snapshots_release(struct tree_snapshots *s, struct tree_snapshot *at)
{
    lock_take(&s->lock);
    if (atomic_load_explicit(&at->cancelled, memory_order_relaxed)) {
        s->cancelled_count--;
    } else {
        snapshots_pass_on(s, at);
        s->live_count--;
        s->held = s->held == at ? NULL : s->held;
    }
    list_remove(&at->node);
    s->changed = true;
    lock_release(&s->lock);
}

static void snapshots_copy_limits(struct tree_snapshots *s)
{
    struct tree_snapshots_view *v = &s->view;
    uint64_t *cancelled = s->limits + s->count_max + 1 - s->cancelled_count;
    v->count = 0;
    v->limit = s->limits;
    v->cancelled = cancelled;
    v->cancelled_count = s->cancelled_count;
    LIST_FOR_EACH(node, &s->live)
    {
        uint64_t limit = snapshot_of(node)->limit;
        if (v->count == 0 || s->limits[v->count - 1] != limit) {
            s->limits[v->count++] = limit;
        }
    }
    LIST_FOR_EACH(node, &s->cancelled)
    {
        *cancelled++ = snapshot_of(node)->limit;
    }
}

const struct tree_snapshots_view *tree_snapshots_look(struct tree_snapshots *s)
{
    lock_take(&s->lock);
    if (s->changed) {
        snapshots_copy_limits(s);
        s->changed = false;
    }
    s->view.published = s->published;
    lock_release(&s->lock);
    return &s->view;
}

/* Index of the first that is >= low. */
static size_t limits_from(const uint64_t *limit, size_t count, uint64_t low)
{
    size_t first = 0, end = count;
    while (first < end) {
        size_t mid = (first + end) / 2;
        if (limit[mid] < low) {
            first = mid + 1;
        } else {
            end = mid;
        }
    }
    return first;
}

bool tree_snapshots_between(const struct tree_snapshots_view *v, uint64_t low, uint64_t high)
{
    size_t i = limits_from(v->limit, v->count, low);
    return i < v->count && v->limit[i] < high;
}

bool tree_snapshots_youngest(const struct tree_snapshots_view *v, uint64_t *ret)
{
    if (v->count == 0) {
        return false;
    }
    *ret = v->limit[v->count - 1];
    return true;
}

uint64_t tree_snapshots_oldest_reader(const struct tree_snapshots_view *v, uint64_t base)
{
    uint64_t ret = v->published;
    size_t i = limits_from(v->limit, v->count, base + 1);
    ret = i < v->count ? base_min(ret, v->limit[i]) : ret;
    i = limits_from(v->cancelled, v->cancelled_count, base + 1);
    return i < v->cancelled_count ? base_min(ret, v->cancelled[i]) : ret;
}

static void snapshots_charge(struct tree_snapshots *s, const struct tree_superseded *superseded)
{
    if (list_empty(&s->live)) {
        return;
    }
    struct tree_snapshot *youngest = snapshot_of(s->live.prev);
    /* One at what was published until now sees everything that the batch superseded. */
    uint64_t kept = youngest->limit == s->published ? superseded->bytes : superseded->kept;
    youngest->kept_bytes += kept;
    s->kept_bytes += kept;
}

/* What may be given up: all but the one that is held, and what is kept for that one. */
static bool snapshots_exceed(const struct tree_snapshots *s, uint64_t bytes)
{
    bool any = s->live_count > (s->held == NULL ? 0U : 1U);
    return any && s->kept_bytes - (s->held == NULL ? 0 : s->held->kept_bytes) > bytes;
}

static void snapshots_cancel(struct tree_snapshots *s, struct tree_snapshot *at)
{
    snapshots_pass_on(s, at);
    list_remove(&at->node);
    list_push_back(&s->cancelled, &at->node);
    s->live_count--;
    s->cancelled_count++;
    s->changed = true;
    /* Before anything that it sees goes: a reader that misses something sees this, too. */
    atomic_store_explicit(&at->cancelled, true, memory_order_release);
}

static void snapshots_give_up_oldest(struct tree_snapshots *s)
{
    struct list *first = s->live.next;
    struct tree_snapshot *oldest = snapshot_of(first);
    snapshots_cancel(s, oldest == s->held ? snapshot_of(first->next) : oldest);
}

void tree_snapshots_cancel(struct tree_snapshots *s, struct tree_snapshot *at)
{
    lock_take(&s->lock);
    if (!atomic_load_explicit(&at->cancelled, memory_order_relaxed)) {
        snapshots_cancel(s, at);
    }
    lock_release(&s->lock);
}

unsigned tree_snapshots_publish(struct tree_snapshots *s, uint64_t msn,
                                const struct tree_superseded *superseded)
{
    unsigned given_up = 0;
    lock_take(&s->lock);
    CHECK(msn >= s->published);
    snapshots_charge(s, superseded);
    while (snapshots_exceed(s, s->budget_bytes)) {
        snapshots_give_up_oldest(s);
        given_up++;
    }
    s->published = msn;
    lock_release(&s->lock);
    return given_up;
}

bool tree_snapshots_give_up(struct tree_snapshots *s)
{
    lock_take(&s->lock);
    bool any = snapshots_exceed(s, 0);
    if (any) {
        snapshots_give_up_oldest(s);
    }
    lock_release(&s->lock);
    return any;
}

struct tree_snapshots_state tree_snapshots_state(struct tree_snapshots *s)
{
    lock_take(&s->lock);
    struct tree_snapshots_state ret = {
        .published = s->published,
        .kept_bytes = s->kept_bytes,
        .live_count = s->live_count,
        .cancelled_count = s->cancelled_count,
        .memory = sizeof *s + (s->count_max + 1) * sizeof s->limits[0],
    };
    lock_release(&s->lock);
    return ret;
}
