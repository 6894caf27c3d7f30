/* disk/share.c -- see share_priv.h. */
#include "disk/share_priv.h"

#include "disk/request_priv.h"

#define COST_UNIT 4096u      /* bytes */
#define COST_REQUEST 16u     /* of one, beside its bytes: 64 KiB */
#define COST_BYTES_MAX 1024u /* longer ones are cut into pieces below us */
#define BUSY_COPYING 1u      /* under way while people use the disk */
#define BUSY_SCRUBBING 1u

/* Parts of the disk while all four wait: 8 to 8 to 2 to 1. */
static const uint32_t share_weight[DISK_SHARE_QUEUES] = {[DISK_SHARE_READS] = 8,
                                                         [DISK_SHARE_WRITES] = 8,
                                                         [DISK_SHARE_COPYING] = 2,
                                                         [DISK_SHARE_SCRUBBING] = 1};
#define WEIGHT_ALL 8u /* a multiple of each, so that nothing is rounded */

void disk_share_init(struct disk_share *s, unsigned depth, unsigned max_waiting)
{
    CHECK(depth > 0);
    *s = (struct disk_share){.depth = depth, .max_waiting = max_waiting};
    for (unsigned i = 0; i < DISK_SHARE_QUEUES; i++) {
        list_init(&s->flow[i].waiting);
    }
}

static bool share_changes_nothing(const struct disk_req *req)
{
    switch (req->op) {
    case DISK_READ:
    case DISK_SEND:
    case DISK_FETCH:
    case DISK_STAT:
    case DISK_STATFS:
    case DISK_LIST:
        return true;
    case DISK_OPEN:
        return (req->flags & DISK_CREATE) == 0;
    case DISK_CLOSE:
    case DISK_WRITE:
    case DISK_SYNC:
    case DISK_SYNC_ALL:
    case DISK_SYNC_DIR:
    case DISK_DROP:
    case DISK_ALLOCATE:
    case DISK_PUNCH:
    case DISK_TRUNCATE:
    case DISK_RENAME:
    case DISK_LINK:
    case DISK_REMOVE:
    case DISK_MKDIR:
    case DISK_LOCK:
        return false;
    }
    return false;
}

enum disk_share_queue disk_share_queue_of(const struct disk_req *req)
{
    switch (req->lane) {
    case DISK_COPYING:
        return DISK_SHARE_COPYING;
    case DISK_SCRUBBING:
        return DISK_SHARE_SCRUBBING;
    case DISK_FOREGROUND:
        break;
    }
    return share_changes_nothing(req) ? DISK_SHARE_READS : DISK_SHARE_WRITES;
}

static bool share_is_background(enum disk_share_queue q)
{
    return q == DISK_SHARE_COPYING || q == DISK_SHARE_SCRUBBING;
}

/* Names, reservations and syncs take what a request takes: how long nobody knows before. */
static uint32_t share_cost(const struct disk_req *req)
{
    uint64_t bytes = 0;
    if (req->op == DISK_READ || req->op == DISK_WRITE) {
        bytes = disk_request_bytes(req);
    } else if (req->op == DISK_SEND) {
        bytes = req->len;
    }
    return COST_REQUEST + (uint32_t)base_min(bytes / COST_UNIT, COST_BYTES_MAX);
}

bool disk_share_admits(const struct disk_share *s, const struct disk_req *req)
{
    enum disk_share_queue q = disk_share_queue_of(req);
    return !share_is_background(q) || s->flow[q].waiting_count < s->max_waiting;
}

/* ---- Who uses the disk ---- */

static void share_touch(struct disk_share *s, enum disk_share_queue q, uint64_t now_ns)
{
    if (!share_is_background(q)) {
        s->used = true;
        s->used_ns = base_max(s->used_ns, now_ns);
    }
}

static bool share_is_used(const struct disk_share *s, uint64_t now_ns)
{
    const struct disk_share_flow *r = &s->flow[DISK_SHARE_READS], *w = &s->flow[DISK_SHARE_WRITES];
    bool present = r->under_way + r->waiting_count + w->under_way + w->waiting_count > 0;
    return present || (s->used && now_ns < s->used_ns + DISK_SHARE_QUIET_NS);
}

unsigned disk_share_limit(const struct disk_share *s, enum disk_share_queue q, uint64_t now_ns)
{
    bool used = share_is_used(s, now_ns);
    switch (q) {
    case DISK_SHARE_READS:
    case DISK_SHARE_WRITES:
        return s->depth - s->depth / 8; /* some places are left to the others */
    case DISK_SHARE_COPYING:
        return used ? BUSY_COPYING : (unsigned)base_max(s->depth / 4, BUSY_COPYING);
    case DISK_SHARE_SCRUBBING:
        return used ? BUSY_SCRUBBING : (unsigned)base_max(s->depth / 8, BUSY_SCRUBBING);
    case DISK_SHARE_QUEUES:
        break;
    }
    return 0;
}

/* ---- Turns ---- */

void disk_share_enter(struct disk_share *s, struct disk_share_turn *t, const struct disk_req *req,
                      uint64_t now_ns)
{
    t->queue = disk_share_queue_of(req);
    t->cost = share_cost(req);
    list_push_back(&s->flow[t->queue].waiting, &t->node);
    s->flow[t->queue].waiting_count++;
    share_touch(s, t->queue, now_ns);
}

/* Who may begin and would end up least ahead of the others; of equals the first. One that was at
 * its limit, or empty, begins where the others are: it gets its part, not what it has missed. */
static struct disk_share_flow *share_pick(struct disk_share *s, uint64_t now_ns)
{
    struct disk_share_flow *best = NULL;
    uint64_t best_start = 0;
    for (unsigned i = 0; i < DISK_SHARE_QUEUES; i++) {
        struct disk_share_flow *f = &s->flow[i];
        uint64_t start = base_max(s->virtual, f->finish);
        bool may = f->waiting_count > 0 &&
                   f->under_way < disk_share_limit(s, (enum disk_share_queue)i, now_ns);
        if (may && (best == NULL || start < best_start)) {
            best = f;
            best_start = start;
        }
    }
    return best;
}

struct disk_share_turn *disk_share_next(struct disk_share *s, uint64_t now_ns)
{
    struct disk_share_flow *f = s->under_way < s->depth ? share_pick(s, now_ns) : NULL;
    if (f == NULL) {
        return NULL;
    }
    struct disk_share_turn *t =
        LIST_ENTRY(list_pop_front(&f->waiting), struct disk_share_turn, node);
    f->waiting_count--;
    f->under_way++;
    s->under_way++;
    s->virtual = base_max(s->virtual, f->finish);
    f->finish = s->virtual + (uint64_t)t->cost * (WEIGHT_ALL / share_weight[t->queue]);
    return t;
}

void disk_share_leave(struct disk_share *s, const struct disk_share_turn *t, uint64_t now_ns)
{
    struct disk_share_flow *f = &s->flow[t->queue];
    CHECK(f->under_way > 0 && s->under_way > 0);
    f->under_way--;
    s->under_way--;
    share_touch(s, t->queue, now_ns);
}
