/* sim/share.c -- see share.h. */
#include "share.h"

#include "base/rand.h"

#include <stdio.h>
#include <string.h>

#define CALM_NS (5 * WORLD_S)
#define OPERATIONS_MAX 5u
#define EVENTS_SPARE 64u /* for tenures under way, and the last look */
#define PATH "/shared"

static const char *const step_names[] = {"rest", "open", "write", "read", "sync", "cut", "close"};
/* Two neighbours, the end of a chunk, the beginning of the next. The first one alone is small. */
static const uint64_t offsets[SHARE_BLOCKS] = {0, 4096, 8192, 1 << 20, (4 << 20) - 4096, 4 << 20};

/* ---- Starting: inside the client's process ---- */

static void op_done(struct opendfs_op *op)
{
    container_of(op, struct share_actor, op)->arrived = true;
}

static void start_inside(void *context)
{
    struct share_actor *a = context;
    struct opendfs *fs = a->s->w->node[a->node].process->fs;
    uint64_t offset = offsets[a->block];
    a->op = (struct opendfs_op){.done = op_done};
    a->arrived = false;
    switch (a->step) {
    case SHARE_OPENING:
        opendfs_async_open(fs, &a->op, PATH, OPENDFS_READ | OPENDFS_WRITE | OPENDFS_CREATE, 0644);
        break;
    case SHARE_WRITING:
        opendfs_async_pwrite(fs, &a->op, a->file, a->bytes, SHARE_BLOCK_BYTES, offset);
        break;
    case SHARE_READING:
        opendfs_async_pread(fs, &a->op, a->file, a->bytes, SHARE_BLOCK_BYTES, offset);
        break;
    case SHARE_SYNCING:
        opendfs_async_fsync(fs, &a->op, a->file);
        break;
    case SHARE_CUTTING:
        opendfs_async_ftruncate(fs, &a->op, a->file, offset);
        break;
    case SHARE_CLOSING:
        opendfs_async_close(fs, &a->op, a->file, NULL, 0);
        break;
    case SHARE_REST:
        CHECK(!"an operation");
    }
}

static void start(struct share_actor *a, enum share_step step)
{
    a->step = step;
    a->begin_ns = world_now_ns(a->s->w);
    a->life = a->s->w->node[a->node].starts;
    loop_sim_enter(a->s->w->node[a->node].process->loop, start_inside, a);
}

static void say(const struct share_actor *a, const char *what)
{
    if (a->s->w->verbose) {
        printf("%12.6f client%u   %s shared %s block %u stamp %llu -> %lld\n",
               (double)world_now_ns(a->s->w) / 1e9, a->index + 1, what, step_names[a->step],
               a->block, (unsigned long long)a->bytes[0], (long long)a->op.result);
    }
}

/* ---- History ---- */

static struct share_event *remember(struct share_actor *a, enum share_kind kind, uint64_t stamp)
{
    struct share *s = a->s;
    CHECK(s->count < SHARE_EVENTS);
    struct share_event *e = &s->event[s->count++];
    *e = (struct share_event){.kind = kind,
                              .actor = a->index,
                              .block = a->block,
                              .stamp = stamp,
                              .begin_ns = a->begin_ns,
                              .end_ns = UINT64_MAX};
    return e;
}

static void begin_write(struct share_actor *a)
{
    uint64_t stamp = ++a->s->stamps;
    for (size_t i = 0; i < ARRAY_COUNT(a->bytes); i++) {
        a->bytes[i] = stamp;
    }
    start(a, SHARE_WRITING);
    a->event = a->s->count;
    (void)remember(a, SHARE_WRITE, stamp);
}

static void begin_cut(struct share_actor *a)
{
    start(a, SHARE_CUTTING);
    a->event = a->s->count;
    (void)remember(a, SHARE_CUT, 0);
}

static void end_read(struct share_actor *a)
{
    size_t len = a->op.result < 0 ? 0 : (size_t)a->op.result;
    uint64_t stamp = len < SHARE_BLOCK_BYTES ? 0 : a->bytes[0];
    for (size_t i = 0; i < len / 8; i++) {
        if (a->bytes[i] != (len < SHARE_BLOCK_BYTES ? 0 : stamp)) {
            world_fail(a->s->w, "client%u: block %u of the shared file has parts of two writes",
                       a->index + 1, a->block);
            return;
        }
    }
    struct share_event *e = remember(a, SHARE_READ, stamp);
    e->end_ns = world_now_ns(a->s->w);
    e->there = len > 0;
}

static bool changes(const struct share_event *e)
{
    return e->kind != SHARE_READ;
}

/* All that was acknowledged so far cannot get lost with the client any more. */
static void all_flushed(struct share_actor *a)
{
    for (size_t i = a->first_loose; i < a->s->count; i++) {
        struct share_event *e = &a->s->event[i];
        if (e->actor == a->index && changes(e) && e->end_ns != UINT64_MAX) {
            e->sure = true;
        }
    }
    a->first_loose = a->s->count;
}

/* The tenure was broken off. What it had not flushed is there, or comes soon, or never. */
static void all_loose(struct share_actor *a)
{
    struct share *s = a->s;
    for (size_t i = a->first_loose; i < s->count; i++) {
        struct share_event *e = &s->event[i];
        if (e->actor == a->index && changes(e)) {
            e->sure = false;
            e->end_ns = UINT64_MAX;
        }
    }
    a->loose_ns = world_now_ns(s->w);
    a->loose_end = s->count;
}

/* When nothing can be on its way any more, what has not happened never will. */
static void settle(struct share_actor *a)
{
    struct share *s = a->s;
    const struct world_node *meta = &s->w->node[WORLD_META];
    uint64_t now = world_now_ns(s->w);
    if (a->loose_ns == 0) {
        return;
    }
    if (s->w->cut || meta->process == NULL || now < meta->unsteady_until_ns) {
        a->loose_ns = now;
    }
    if (now < a->loose_ns + CALM_NS) {
        return;
    }
    for (size_t i = a->first_loose; i < a->loose_end; i++) {
        struct share_event *e = &s->event[i];
        if (e->actor == a->index && changes(e)) {
            e->end_ns = now;
        }
    }
    a->first_loose = a->loose_end;
    a->loose_ns = 0;
}

/* ---- Doing ---- */

static void rest(struct share_actor *a, uint64_t longest_ns)
{
    a->step = a->file == NULL ? SHARE_REST : a->step;
    loop_sim_at(a->s->w->sim, &a->wake,
                world_now_ns(a->s->w) + world_between(a->s->w, 1, longest_ns));
}

static bool is_over(const struct share_actor *a)
{
    const struct share *s = a->s;
    if (s->auditing) {
        return s->audit_block == SHARE_BLOCKS;
    }
    return s->stopping || s->count + EVENTS_SPARE > SHARE_EVENTS || world_failed(s->w);
}

static void next_operation(struct share_actor *a)
{
    struct rand *r = a->s->w->rand;
    if (a->s->auditing) {
        bool more = a->s->audit_block < SHARE_BLOCKS;
        a->block = more ? a->s->audit_block++ : 0;
        start(a, more ? SHARE_READING : SHARE_CLOSING);
        return;
    }
    a->block = (unsigned)rand_below(r, SHARE_BLOCKS);
    a->block = rand_chance(r, 1, 2) ? a->block % 2 : a->block;
    if (a->left == 0 || a->broken || a->s->stopping) {
        start(a, SHARE_CLOSING);
        return;
    }
    a->left--;
    if (rand_chance(r, 1, 8)) {
        start(a, SHARE_SYNCING);
    } else if (rand_chance(r, 1, 10)) {
        begin_cut(a);
    } else if (rand_chance(r, 1, 2)) {
        start(a, SHARE_READING);
    } else {
        begin_write(a);
    }
}

static void woken(struct loop_sim_event *ev)
{
    struct share_actor *a = container_of(ev, struct share_actor, wake);
    struct world *w = a->s->w;
    if (a->file == NULL && is_over(a)) {
        a->ended = true;
        return;
    }
    if (!world_is_running(w, a->node) || a->loose_ns != 0) {
        loop_sim_at(w->sim, &a->wake, world_now_ns(w) + 20 * WORLD_MS);
        return;
    }
    if (a->file != NULL) {
        next_operation(a);
        return;
    }
    a->broken = false;
    a->left = (unsigned)world_between(w, 1, OPERATIONS_MAX);
    a->s->tenures++;
    start(a, SHARE_OPENING);
}

static void arrived(struct share_actor *a)
{
    bool good = a->op.result >= 0;
    uint64_t pause = rand_chance(a->s->w->rand, 1, 4) ? 900 * WORLD_MS : 20 * WORLD_MS;
    say(a, "end");
    bool lost = a->step == SHARE_READING && a->op.result == -EIO; /* the only copy, and told */
    a->broken = a->broken || (!good && !lost);
    if (a->s->auditing && !good && !(lost && world_may_lack_good_copies(a->s->w))) {
        world_fail(a->s->w, "the last look at the shared file: %s: %s", step_names[a->step],
                   a->op.error);
        return;
    }
    switch (a->step) {
    case SHARE_OPENING:
        a->file = good ? a->op.file : NULL;
        break;
    case SHARE_WRITING:
    case SHARE_CUTTING:
        a->s->event[a->event].end_ns = good ? world_now_ns(a->s->w) : UINT64_MAX;
        break;
    case SHARE_READING:
        if (good) {
            end_read(a);
        }
        break;
    case SHARE_SYNCING:
    case SHARE_CLOSING:
        if (good && !a->broken) {
            all_flushed(a);
        }
        break;
    case SHARE_REST:
        CHECK(!"an operation");
    }
    if (a->step == SHARE_CLOSING) {
        a->file = NULL;
        if (a->broken) {
            all_loose(a);
        }
    }
    rest(a, pause);
}

static void killed(struct share_actor *a)
{
    say(a, "killed");
    a->file = NULL;
    a->arrived = false;
    all_loose(a);
    loop_sim_cancel(a->s->w->sim, &a->wake);
    rest(a, WORLD_MS);
}

static bool is_killed(const struct share_actor *a)
{
    const struct world_node *n = &a->s->w->node[a->node];
    bool busy = a->step != SHARE_REST || a->file != NULL;
    return busy && !a->ended && (n->process == NULL || n->starts != a->life);
}

bool share_step(struct share *s)
{
    bool all = true;
    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        struct share_actor *a = &s->actor[i];
        settle(a);
        if (a->arrived && !a->ended) {
            a->arrived = false;
            arrived(a);
        } else if (is_killed(a)) {
            killed(a);
        }
        all = all && a->ended;
    }
    return all;
}

/* ---- Judging ---- */

/* Is `later`, or what it has seen, certainly after everything that ended before `end_ns`, and
 * before what began at `begin_ns`? */
static bool covers(const struct share *s, const struct share_event *later, uint64_t end_ns,
                   uint64_t begin_ns)
{
    if (later->end_ns >= begin_ns) {
        return false;
    }
    if (changes(later)) {
        return later->sure && later->begin_ns > end_ns;
    }
    for (size_t i = 0; i < s->count && later->stamp != 0; i++) { /* the write that it has seen */
        const struct share_event *w = &s->event[i];
        if (w->kind == SHARE_WRITE && w->stamp == later->stamp) {
            return w->begin_ns > end_ns;
        }
    }
    return false;
}

static bool touches(const struct share_event *e, unsigned block)
{
    return e->kind == SHARE_CUT ? e->block <= block : e->block == block;
}

/* What gave the block its stamp: of several cuts the one that says least. */
static const struct share_event *source(const struct share *s, const struct share_event *read)
{
    const struct share_event *from = NULL;
    for (size_t i = 0; i < s->count; i++) {
        const struct share_event *e = &s->event[i];
        bool can = changes(e) && e->stamp == read->stamp && touches(e, read->block) &&
                   e->begin_ns <= read->end_ns;
        from = can && (from == NULL || e->end_ns > from->end_ns) ? e : from;
    }
    return from;
}

/* A file that goes beyond a block has been written there, or made longer, after the last cut that
 * ended before it. */
static void verify_there(struct share *s, const struct share_event *read)
{
    uint64_t newest = 0;
    for (size_t i = 0; i < s->count && read->there; i++) {
        const struct share_event *e = &s->event[i];
        bool longer = e->kind == SHARE_CUT ? e->block > read->block : e->block >= read->block;
        if (changes(e) && longer && e->begin_ns <= read->end_ns) {
            newest = base_max(newest, e->end_ns);
        }
    }
    for (size_t i = 0; i < s->count && read->there && s->w->possible_losses == 0; i++) {
        const struct share_event *e = &s->event[i];
        bool after = e->sure && e->begin_ns > newest && e->end_ns < read->begin_ns;
        if (e->kind == SHARE_CUT && e->block <= read->block && after) {
            world_fail(s->w,
                       "client%u: the shared file, cut to block %u by client%u at %.6f, had block "
                       "%u at %.6f, and nobody had made it longer",
                       read->actor + 1, e->block, e->actor + 1, (double)e->end_ns / 1e9,
                       read->block, (double)read->begin_ns / 1e9);
            return;
        }
    }
}

static void verify_read(struct share *s, const struct share_event *read)
{
    const struct share_event *from = source(s, read);
    if (read->stamp != 0 && from == NULL) {
        world_fail(s->w, "client%u: block %u of the shared file has what nobody wrote there",
                   read->actor + 1, read->block);
        return;
    }
    for (size_t i = 0; i < s->count && s->w->possible_losses == 0; i++) {
        const struct share_event *e = &s->event[i];
        bool same = changes(e) ? touches(e, read->block) : e->block == read->block;
        if (same && e != read && covers(s, e, from == NULL ? 0 : from->end_ns, read->begin_ns)) {
            world_fail(s->w,
                       "client%u: block %u of the shared file, read at %.6f, was %llu, which is "
                       "older than %llu of client%u (%s at %.6f)",
                       read->actor + 1, read->block, (double)read->begin_ns / 1e9,
                       (unsigned long long)read->stamp, (unsigned long long)e->stamp, e->actor + 1,
                       changes(e) ? "written" : "read", (double)e->end_ns / 1e9);
            return;
        }
    }
}

void share_verify(struct share *s)
{
    for (size_t i = 0; i < s->count && !world_failed(s->w); i++) {
        if (s->event[i].kind == SHARE_READ) {
            verify_read(s, &s->event[i]);
            verify_there(s, &s->event[i]);
        }
    }
}

/* ---- Life ---- */

void share_init(struct share *s, struct world *w)
{
    s->w = w;
    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        s->actor[i] = (struct share_actor){
            .s = s, .index = i, .node = WORLD_CLIENT(i), .wake.run = woken, .ended = true};
    }
}

void share_fini(struct share *s)
{
    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        loop_sim_cancel(s->w->sim, &s->actor[i].wake);
    }
}

void share_begin(struct share *s)
{
    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        s->actor[i].ended = false;
        rest(&s->actor[i], WORLD_S);
    }
}

void share_stop(struct share *s)
{
    s->stopping = true;
}

void share_begin_audit(struct share *s)
{
    struct share_actor *a = &s->actor[0];
    s->auditing = true;
    a->ended = false;
    rest(a, WORLD_MS);
}
