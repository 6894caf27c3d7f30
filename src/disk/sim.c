/*
 * disk/sim.c -- simulated machines and the struct disk that each of their processes has: when
 * requests happen, which fail, and what becomes of them when the process dies.
 */
#include "disk/sim.h"

#include "base/mem.h"
#include "disk/sim_cache_priv.h"

#include <string.h>

#define VIEW_MAX_IN_FLIGHT 4096u
#define VIEW_MAX_BACKGROUND 1024u /* waiting in each of its queues */
#define VIEW_DEPTH 64u            /* begun and not ended */
#define DEFAULT_MIN_NS 20000u
#define DEFAULT_MAX_NS 600000u
#define LATE_ONE_OF 64u /* requests that take much longer, so that others overtake them */
#define LATE_FACTOR 16u

struct sim_flight { /* a request on its way, or waiting for its turn */
    struct loop_sim_event event;
    struct disk_share_turn turn;
    bool begun;
    struct list node; /* of the view */
    struct sim_view *view;
    struct disk_req *req;
    uint64_t mark; /* changes made before it was submitted: what a sync covers */
    uint64_t start_ns;
    int forced; /* 0, or the error that it must fail with */
};

static struct sim_view *view_of(struct disk *d)
{
    return container_of(d, struct sim_view, base);
}

/* ---- Faults ---- */

static bool path_matches(const struct sim_fault *f, const char *path)
{
    return path != NULL && strstr(path, f->path_part) != NULL;
}

static bool fault_matches(const struct sim_fault *f, const struct disk_req *req)
{
    bool sync = f->op == DISK_SYNC && req->op == DISK_WRITE && (req->flags & DISK_STABLE) != 0;
    if (f->op != req->op && !sync) {
        return false;
    }
    if (f->any_path) {
        return true;
    }
    if (req->file != NULL && req->op != DISK_OPEN) {
        return path_matches(f, container_of(req->file, struct sim_file, base)->path);
    }
    bool two = req->op == DISK_RENAME || req->op == DISK_LINK;
    return path_matches(f, req->path) || (two && path_matches(f, req->path_to));
}

/* 0, or the error of the first fault that is due. Those spent stay until the machine is healed. */
static int sim_forced(struct disk_sim *m, const struct disk_req *req)
{
    int rc = 0;
    for (size_t i = 0; i < m->fault_count; i++) {
        struct sim_fault *f = &m->fault[i];
        if (f->nth == 0 || !fault_matches(f, req)) {
            continue;
        }
        if (f->nth > 1) {
            f->nth--;
            continue;
        }
        if (rc == 0) {
            rc = f->rc;
            f->nth = f->count == 1 ? 0 : 1;
            f->count -= f->count == 0 ? 0 : 1;
        }
    }
    return rc;
}

/* ---- Requests ---- */

static int64_t view_execute(struct sim_view *v, struct disk_req *req, uint64_t mark, int forced)
{
    return forced == 0 ? disk_sim_execute(v, req, mark)
                       : disk_sim_execute_failing(v, req, mark, forced);
}

static uint64_t sim_latency_ns(struct disk_sim *m)
{
    uint64_t ns = rand_range(&m->rand, m->min_ns, m->max_ns);
    return m->extra_ns + (rand_chance(&m->rand, 1, LATE_ONE_OF) ? ns * LATE_FACTOR : ns);
}

static void view_hold(struct disk_req *req)
{
    if (disk_request_on_file(req)) {
        req->file->in_flight++;
    }
}

static void view_release(struct disk_req *req)
{
    if (disk_request_on_file(req)) {
        CHECK(req->file->in_flight > 0);
        req->file->in_flight--;
    }
}

/* One at a time: a callback may free the view or kill the process, so nothing is touched after it.
 */
static void view_report(struct loop_task *t)
{
    struct sim_view *v = container_of(t, struct sim_view, report);
    struct disk_req *req = LIST_ENTRY(list_pop_front(&v->refused), struct disk_req, node);
    v->in_flight--;
    if (!list_empty(&v->refused)) {
        loop_defer(v->base.loop, &v->report);
    }
    req->done(req, req->result);
}

static void view_refuse(struct sim_view *v, struct disk_req *req, int64_t rc)
{
    req->result = rc;
    list_push_back(&v->refused, &req->node);
    loop_defer(v->base.loop, &v->report);
}

/* A sync that fails has done so, and has taken the error from others that sync the same open file,
 * perhaps long before it says it. */
static void flight_sync(struct sim_flight *f)
{
    const struct disk_req *req = f->req;
    if (req->op != DISK_SYNC && req->op != DISK_SYNC_ALL) {
        return;
    }
    struct sim_file *file = container_of(req->file, struct sim_file, base);
    struct rand *rand = &f->view->machine->rand;
    if (f->forced != 0 && rand_chance(rand, 1, 2)) {
        disk_sim_fail_sync(file, f->mark);
    } else if (f->forced == 0 && disk_sim_deaf(file) && rand_chance(rand, 1, 2)) {
        (void)disk_sim_hear(file);
        f->forced = -EIO;
    }
}

/* Begins those whose turn it is; returns how many. Outside of domains. */
static unsigned view_take_turns(struct sim_view *v)
{
    struct disk_sim *m = v->machine;
    uint64_t now_ns = loop_sim_now_ns(m->sim);
    unsigned count = 0;
    for (struct disk_share_turn *t; (t = disk_share_next(&v->share, now_ns)) != NULL; count++) {
        struct sim_flight *f = container_of(t, struct sim_flight, turn);
        f->begun = true;
        f->start_ns = now_ns;
        flight_sync(f);
        m->begun[f->req->lane]++;
        loop_sim_at(m->sim, &f->event, now_ns + sim_latency_ns(m));
    }
    return count;
}

/* In the domain of the process. */
static void view_tell_begun(const struct sim_view *v, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        disk_request_begun(&v->base);
    }
}

static void flight_free(struct sim_flight *f)
{
    list_remove(&f->node);
    mem_free(f);
}

static void flight_land(struct loop_sim_event *ev)
{
    struct sim_flight *f = container_of(ev, struct sim_flight, event);
    struct sim_view *v = f->view;
    struct disk_req *req = f->req;
    struct loop_sim *sim = v->machine->sim;
    v->caller = mem_domain_enter(NULL);
    struct mem_domain *caller = v->caller;
    view_release(req);
    int64_t rc = view_execute(v, req, f->mark, f->forced);
    uint64_t took_ns = loop_sim_now_ns(sim) - f->start_ns;
    disk_share_leave(&v->share, &f->turn, loop_sim_now_ns(sim));
    flight_free(f);
    v->in_flight--;
    unsigned begun = view_take_turns(v);
    mem_domain_enter(caller);
    disk_request_ended(&v->base, req, rc, took_ns);
    view_tell_begun(v, begun);
    loop_sim_mix(sim, (uint64_t)rc * 32 + (uint64_t)req->op);
    req->done(req, rc);
}

/* The process died while it waited for an answer, or for its turn: then nothing happened. */
static void flight_orphan(struct sim_flight *f)
{
    if (f->begun) {
        loop_sim_cancel(f->view->machine->sim, &f->event);
        disk_sim_execute_orphan(f->view, f->req, f->mark);
    }
    flight_free(f);
}

static void view_submit(struct disk *d, struct disk_req *req)
{
    struct sim_view *v = view_of(d);
    struct disk_sim *m = v->machine;
    LOOP_OWNED(d->loop);
    int rc = disk_request_check(req);
    CHECK(req->op != DISK_CLOSE || req->file->in_flight == 0); /* it frees the file */
    v->in_flight++;
    if (rc == 0 && (v->in_flight > VIEW_MAX_IN_FLIGHT || !disk_share_admits(&v->share, req))) {
        rc = -ERR_busy;
    }
    unsigned begun = 0;
    v->caller = mem_domain_enter(NULL);
    struct sim_flight *f = rc == 0 ? mem_zalloc(sizeof *f) : NULL;
    if (f != NULL) {
        f->event.run = flight_land;
        f->event.on = d->loop;
        f->view = v;
        f->req = req;
        f->mark = m->seq;
        f->forced = sim_forced(m, req);
        view_hold(req);
        list_push_back(&v->flights, &f->node);
        disk_share_enter(&v->share, &f->turn, req, loop_sim_now_ns(m->sim));
        begun = view_take_turns(v);
    } else if (req->op == DISK_CLOSE) { /* never refused, so that no file is left behind */
        view_refuse(v, req, disk_sim_execute(v, req, m->seq));
    } else {
        view_refuse(v, req, rc == 0 ? -ENOMEM : rc);
    }
    mem_domain_enter(v->caller);
    view_tell_begun(v, begun);
}

static int64_t view_now(struct disk *d, struct disk_req *req)
{
    struct sim_view *v = view_of(d);
    int rc = disk_request_check(req);
    if (rc < 0) {
        return rc;
    }
    CHECK(req->op != DISK_CLOSE || req->file->in_flight == 0);
    v->caller = mem_domain_enter(NULL);
    struct mem_domain *caller = v->caller;
    int64_t result = view_execute(v, req, v->machine->seq, sim_forced(v->machine, req));
    mem_domain_enter(caller);
    return result;
}

static bool view_cached(struct sim_view *v, struct disk_file *f, uint64_t offset, uint64_t len)
{
    if (v->machine->cache == DISK_SIM_CACHE_CHANCE) {
        return rand_chance(&v->machine->rand, 1, 2);
    }
    return disk_sim_cache_has(container_of(f, struct sim_file, base)->inode, offset, len);
}

static bool view_resident(struct disk *d, struct disk_file *f, uint64_t offset, uint64_t len)
{
    LOOP_OWNED(d->loop);
    return len == 0 || ((f->flags & DISK_DIRECT) == 0 && view_cached(view_of(d), f, offset, len));
}

static int64_t view_try_read(struct disk *d, struct disk_req *req)
{
    struct sim_view *v = view_of(d);
    LOOP_OWNED(d->loop);
    CHECK(req->op == DISK_READ);
    bool cached = !disk_request_direct(req) &&
                  view_cached(v, req->file, req->offset, disk_request_bytes(req));
    return cached ? view_now(d, req) : -EAGAIN;
}

static int view_lend(struct disk *d, void *at, size_t len)
{
    LOOP_OWNED(d->loop);
    (void)at;
    (void)len;
    return -EOPNOTSUPP;
}

static void view_unlend(struct disk *d, const void *at)
{
    LOOP_OWNED(d->loop);
    (void)at;
}

static size_t view_in_flight(const struct disk *d)
{
    return container_of(d, const struct sim_view, base)->in_flight;
}

/* ---- Life of a view ---- */

static void view_close_files(struct sim_view *v)
{
    LIST_FOR_EACH_SAFE(node, &v->files)
    {
        disk_sim_file_close(LIST_ENTRY(node, struct sim_file, node));
    }
    disk_sim_reap(v->machine);
}

static struct sim_view *view_destroy(struct sim_view *v)
{
    view_close_files(v);
    loop_undefer(v->base.loop, &v->report);
    list_remove(&v->death.node);
    list_remove(&v->node);
    mem_free(v);
    return NULL;
}

/* As exit() does, files that are still open are closed. */
static struct disk *view_free(struct disk *d)
{
    struct sim_view *v = view_of(d);
    CHECK(v->in_flight == 0);
    struct mem_domain *caller = mem_domain_enter(NULL);
    view_destroy(v);
    mem_domain_enter(caller);
    return NULL;
}

static void view_abandon(struct sim_view *v)
{
    LIST_FOR_EACH_SAFE(node, &v->flights)
    {
        flight_orphan(LIST_ENTRY(node, struct sim_flight, node));
    }
    view_destroy(v);
}

static void view_died(struct loop_sim_death *death, struct loop *l)
{
    struct sim_view *v = container_of(death, struct sim_view, death);
    CHECK(v->base.loop == l);
    struct mem_domain *before = mem_domain_enter(NULL);
    view_abandon(v);
    mem_domain_enter(before);
}

static const struct disk_ops view_ops = {
    .submit = view_submit,
    .now = view_now,
    .resident = view_resident,
    .try_read = view_try_read,
    .lend = view_lend,
    .unlend = view_unlend,
    .in_flight = view_in_flight,
    .free = view_free,
};

int disk_sim_open(struct disk_sim *m, struct loop *l, struct disk **ret)
{
    struct mem_domain *caller = mem_domain_enter(NULL);
    struct sim_view *v = mem_zalloc(sizeof *v);
    if (v != NULL) {
        v->base.ops = &view_ops;
        v->base.loop = l;
        v->machine = m;
        v->report.run = view_report;
        v->death.died = view_died;
        list_init(&v->files);
        list_init(&v->flights);
        list_init(&v->refused);
        disk_share_init(&v->share, VIEW_DEPTH, VIEW_MAX_BACKGROUND);
        list_push_back(&m->views, &v->node);
        loop_sim_on_death(l, &v->death);
        *ret = &v->base;
    }
    mem_domain_enter(caller);
    return v == NULL ? -ENOMEM : 0;
}

/* ---- Life of a machine ---- */

static int machine_init(struct disk_sim *m, const struct disk_sim_options *opt)
{
    m->sim = opt->sim;
    m->rand = rand_fork(loop_sim_rand(opt->sim));
    list_init(&m->nodes);
    list_init(&m->dead);
    list_init(&m->name_changes);
    list_init(&m->views);
    m->capacity_bytes = opt->capacity_bytes;
    m->max_ns = opt->max_ns == 0 ? base_max(DEFAULT_MAX_NS, opt->min_ns) : opt->max_ns;
    m->min_ns = opt->min_ns == 0 ? base_min(DEFAULT_MIN_NS, m->max_ns) : opt->min_ns;
    CHECK(m->min_ns <= m->max_ns);
    m->zero = mem_zalloc(sizeof *m->zero);
    m->root = disk_sim_node_new(m, true);
    if (m->zero == NULL || m->root == NULL) {
        return -ENOMEM;
    }
    m->zero->refs = 1;
    m->root->links = 1;
    return 0;
}

struct disk_sim *disk_sim_new(const struct disk_sim_options *opt)
{
    struct mem_domain *caller = mem_domain_enter(NULL);
    struct disk_sim *m = mem_zalloc(sizeof *m);
    if (m != NULL && machine_init(m, opt) < 0) {
        m = disk_sim_free(m);
    }
    mem_domain_enter(caller);
    return m;
}

struct disk_sim *disk_sim_free(struct disk_sim *m)
{
    if (m == NULL) {
        return NULL;
    }
    struct mem_domain *caller = mem_domain_enter(NULL);
    LIST_FOR_EACH_SAFE(node, &m->views)
    {
        view_abandon(LIST_ENTRY(node, struct sim_view, node));
    }
    disk_sim_names_crash(m, 0);
    if (m->root != NULL) {
        disk_sim_node_unref(m->root);
    }
    disk_sim_reap(m);
    CHECK(list_empty(&m->nodes));
    CHECK(m->used_bytes == 0);
    CHECK(m->zero == NULL || m->zero->refs <= 1);
    mem_free(m->zero);
    mem_free(m);
    mem_domain_enter(caller);
    return NULL;
}

void disk_sim_crash_mode(struct disk_sim *m, enum disk_sim_crash_mode mode)
{
    m->mode = mode;
}

void disk_sim_fail(struct disk_sim *m, enum disk_op op, const char *path_part, uint64_t nth,
                   uint64_t count, int rc)
{
    CHECK(nth > 0);
    CHECK(rc < 0 || (rc > 0 && op == DISK_READ));
    CHECK(m->fault_count < SIM_FAULTS);
    struct sim_fault *f = &m->fault[m->fault_count++];
    *f = (struct sim_fault){
        .op = op, .any_path = path_part == NULL, .nth = nth, .count = count, .rc = rc};
    if (path_part != NULL) {
        size_t size = strlen(path_part) + 1;
        CHECK(size <= sizeof f->path_part);
        memcpy(f->path_part, path_part, size);
    }
}

void disk_sim_heal(struct disk_sim *m)
{
    m->fault_count = 0;
    m->fails_one_of = 0;
}

void disk_sim_writeback(struct disk_sim *m, uint32_t one_of, uint32_t fail_one_of)
{
    m->writes_one_of = one_of;
    m->fails_one_of = fail_one_of;
}

void disk_sim_hold_pages(struct disk_sim *m, bool on)
{
    m->holds = on;
}

void disk_sim_slow(struct disk_sim *m, uint64_t extra_ns)
{
    m->extra_ns = extra_ns;
}

void disk_sim_capacity(struct disk_sim *m, uint64_t capacity_bytes)
{
    m->capacity_bytes = capacity_bytes;
}

static int sim_spoil(struct disk_sim *m, const char *path,
                     int (*how)(struct sim_node *n, uint64_t offset, uint8_t xor_with),
                     uint64_t offset, uint8_t xor_with)
{
    struct sim_place at;
    int rc = disk_sim_walk(m, path, NULL, &at);
    if (rc < 0 || at.node == NULL) {
        return rc < 0 ? rc : -ENOENT;
    }
    struct mem_domain *caller = mem_domain_enter(NULL);
    rc = how(at.node, offset, xor_with);
    mem_domain_enter(caller);
    return rc;
}

int disk_sim_corrupt(struct disk_sim *m, const char *path, uint64_t offset, uint8_t xor_with)
{
    return sim_spoil(m, path, disk_sim_corrupt_byte, offset, xor_with);
}

int disk_sim_rot(struct disk_sim *m, const char *path, uint64_t offset, uint8_t xor_with)
{
    return sim_spoil(m, path, disk_sim_rot_byte, offset, xor_with);
}

int disk_sim_corrupt_file(struct disk_file *f, uint64_t offset, uint8_t xor_with)
{
    struct mem_domain *caller = mem_domain_enter(NULL);
    int rc = disk_sim_corrupt_byte(container_of(f, struct sim_file, base)->inode, offset, xor_with);
    mem_domain_enter(caller);
    return rc;
}

uint64_t disk_sim_capacity_bytes(const struct disk_sim *m)
{
    return m->capacity_bytes == 0 ? UINT64_C(1) << 40 : m->capacity_bytes;
}

uint64_t disk_sim_used_bytes(const struct disk_sim *m)
{
    return m->used_bytes;
}

uint64_t disk_sim_begun(const struct disk_sim *m, enum disk_lane lane)
{
    return m->begun[lane];
}
