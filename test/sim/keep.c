/* sim/keep.c -- see keep.h. */
#include "keep.h"

#include "base/rand.h"
#include "wire/wire.h"

#include <stdio.h>
#include <string.h>

#define PATH "/kept"
#define MAGIC UINT32_C(0x4b455054)
#define HEAD 8u /* magic, number */
#define READS_MAX 8u
#define OWNER 0u

static uint8_t byte_of(uint32_t made, uint32_t at)
{
    return (uint8_t)((made * 131 + at * 7 + at / 251) | 1); /* no zeros: a hole shows */
}

static void fill(uint8_t *to, uint32_t made, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        to[i] = byte_of(made, i);
    }
    wire_store_u32(to, MAGIC);
    wire_store_u32(to + 4, made);
}

/* ---- Starting: inside the client's process ---- */

static void op_done(struct opendfs_op *op)
{
    container_of(op, struct keep_actor, op)->arrived = true;
}

static void start_inside(void *context)
{
    struct keep_actor *a = context;
    struct keep *s = a->s;
    struct opendfs *fs = s->w->node[a->node].process->fs;
    unsigned make = OPENDFS_WRITE | OPENDFS_CREATE | OPENDFS_EXCLUSIVE | OPENDFS_SYNC;
    a->op = (struct opendfs_op){.done = op_done};
    a->arrived = false;
    switch (a->step) {
    case KEEP_OPENING:
        opendfs_async_open(fs, &a->op, a->index == OWNER ? a->path : PATH,
                           a->index == OWNER ? make : OPENDFS_READ, 0644);
        break;
    case KEEP_WRITING:
        opendfs_async_pwrite(fs, &a->op, a->file, a->bytes, s->len[a->made], 0);
        break;
    case KEEP_READING:
        opendfs_async_pread(fs, &a->op, a->file, a->bytes, a->len, a->at);
        break;
    case KEEP_CLOSING:
        opendfs_async_close(fs, &a->op, a->file, NULL, 0);
        break;
    case KEEP_RENAMING:
        opendfs_async_rename(fs, &a->op, a->path, PATH, 0);
        break;
    case KEEP_UNLINKING:
        opendfs_async_unlink(fs, &a->op, PATH);
        break;
    case KEEP_REST:
        CHECK(!"an operation");
    }
}

static void start(struct keep_actor *a, enum keep_step step)
{
    a->step = step;
    a->life = a->s->w->node[a->node].starts;
    loop_sim_enter(a->s->w->node[a->node].process->loop, start_inside, a);
}

static void rest(struct keep_actor *a, uint64_t longest_ns)
{
    loop_sim_at(a->s->w->sim, &a->wake,
                world_now_ns(a->s->w) + world_between(a->s->w, 1, longest_ns));
}

/* ---- The owner ---- */

static void owner_next(struct keep_actor *a)
{
    struct keep *s = a->s;
    struct rand *r = s->w->rand;
    if (!world_is_running(s->w, a->node) || s->w->node[a->node].starts != a->life) {
        a->file = NULL; /* killed at this moment */
        a->step = KEEP_REST;
        rest(a, WORLD_MS);
    } else if (a->step == KEEP_OPENING) {
        fill(a->bytes, a->made, s->len[a->made]);
        start(a, KEEP_WRITING);
    } else if (a->step == KEEP_WRITING) {
        start(a, KEEP_CLOSING);
    } else if (a->step == KEEP_CLOSING && !a->broken) {
        s->named = UINT32_MAX; /* until it is known */
        start(a, KEEP_RENAMING);
    } else if (a->step == KEEP_RENAMING && rand_chance(r, 1, 3)) {
        s->named = UINT32_MAX;
        start(a, KEEP_UNLINKING);
    } else {
        a->step = KEEP_REST;
        rest(a, WORLD_S);
    }
}

static void owner_begin(struct keep_actor *a)
{
    struct keep *s = a->s;
    a->made = s->made++;
    a->broken = false;
    s->len[a->made] =
        HEAD + (uint32_t)rand_below(s->w->rand,
                                    rand_chance(s->w->rand, 1, 2) ? 4000 : KEEP_FILE_MAX - HEAD);
    (void)snprintf(a->path, sizeof a->path, PATH ".%u", a->made);
    start(a, KEEP_OPENING);
}

/* What failed has left a file of another name, that nobody looks at, or the name as it was. */
static void owner_arrived(struct keep_actor *a, bool good)
{
    a->broken = a->broken || !good;
    if (a->step == KEEP_OPENING) {
        a->file = good ? a->op.file : NULL;
        a->step = good ? a->step : KEEP_REST;
    } else if (a->step == KEEP_CLOSING) {
        a->file = NULL;
    } else if (a->step == KEEP_RENAMING && good) {
        a->s->named = a->made;
    }
    if (a->step == KEEP_REST) {
        rest(a, WORLD_S);
    } else {
        owner_next(a);
    }
}

/* ---- Readers ---- */

static void reader_read(struct keep_actor *a)
{
    struct keep *s = a->s;
    uint32_t len = a->made == UINT32_MAX ? HEAD : s->len[a->made];
    a->at = a->made == UINT32_MAX ? 0 : (uint32_t)rand_below(s->w->rand, len);
    a->len = (uint32_t)base_min(len - a->at, KEEP_PIECE_MAX);
    a->left--;
    start(a, KEEP_READING);
}

static bool reader_is_excused(const struct keep_actor *a)
{
    const struct world *w = a->s->w;
    const struct world_node *own = &w->node[a->node];
    bool silent = a->s->cut_ns >= a->opened_ns || w->cut || own->unsteady_until_ns >= a->opened_ns;
    return silent || own->sessions_lost != a->sessions_lost ||
           w->node[WORLD_META].starts != a->meta_starts ||
           w->node[WORLD_META].unsteady_until_ns >= a->opened_ns;
}

static void reader_check(struct keep_actor *a)
{
    struct keep *s = a->s;
    if (a->made == UINT32_MAX && a->op.result == HEAD && wire_load_u32(a->bytes) == MAGIC &&
        wire_load_u32(a->bytes + 4) < s->made) {
        a->made = wire_load_u32(a->bytes + 4);
        return;
    }
    if (a->made == UINT32_MAX || a->op.result != (int64_t)a->len) {
        world_fail(s->w, "client%u reads %lld bytes of a kept file at %u instead of %u",
                   a->index + 1, (long long)a->op.result, a->at, a->len);
        return;
    }
    for (uint32_t i = 0; i < a->len && !world_failed(s->w); i++) {
        uint32_t at = a->at + i;
        if (at >= HEAD && a->bytes[i] != byte_of(a->made, at)) {
            world_fail(s->w, "client%u reads byte %u of kept file %u as %u instead of %u",
                       a->index + 1, at, a->made, a->bytes[i], byte_of(a->made, at));
        }
    }
    s->reads++;
    s->nameless += s->named != UINT32_MAX && s->named != a->made ? 1 : 0;
}

static void reader_arrived(struct keep_actor *a, bool good)
{
    struct keep *s = a->s;
    bool gone = a->op.result == -ENOENT || a->op.result == -ESTALE;
    if (a->step == KEEP_OPENING) {
        a->file = good ? a->op.file : NULL;
        a->step = good ? a->step : KEEP_REST;
    } else if (a->step == KEEP_READING && good) {
        reader_check(a);
    } else if (a->step == KEEP_READING && gone && !reader_is_excused(a)) {
        world_fail(s->w, "client%u has a file open that is gone: %s", a->index + 1, a->op.error);
    } else if (a->step == KEEP_CLOSING) {
        a->file = NULL;
        a->step = KEEP_REST;
    }
    a->broken = a->broken || !good;
    rest(a, rand_chance(s->w->rand, 1, 3) ? 900 * WORLD_MS : 30 * WORLD_MS);
}

static void reader_begin(struct keep_actor *a)
{
    struct world *w = a->s->w;
    a->broken = false;
    a->made = UINT32_MAX;
    a->left = 1 + (unsigned)world_between(w, 1, READS_MAX);
    a->opened_ns = world_now_ns(w);
    a->meta_starts = w->node[WORLD_META].starts;
    a->sessions_lost = w->node[a->node].sessions_lost;
    start(a, KEEP_OPENING);
}

/* ---- Both ---- */

static bool is_over(const struct keep_actor *a)
{
    return a->s->stopping || a->s->made >= KEEP_MADE || world_failed(a->s->w);
}

static void woken(struct loop_sim_event *ev)
{
    struct keep_actor *a = container_of(ev, struct keep_actor, wake);
    struct world *w = a->s->w;
    if (a->file == NULL && is_over(a)) {
        a->ended = true;
    } else if (!world_is_running(w, a->node)) {
        loop_sim_at(w->sim, &a->wake, world_now_ns(w) + 20 * WORLD_MS);
    } else if (a->index == OWNER) {
        owner_begin(a);
    } else if (a->file == NULL) {
        reader_begin(a);
    } else if (a->left == 0 || a->broken || is_over(a)) {
        start(a, KEEP_CLOSING);
    } else {
        reader_read(a);
    }
}

static void say(const struct keep_actor *a)
{
    if (a->s->w->verbose) {
        printf("%12.6f client%u   keep step %u file %u -> %lld\n",
               (double)world_now_ns(a->s->w) / 1e9, a->index + 1, (unsigned)a->step, a->made,
               (long long)a->op.result);
    }
}

static bool is_killed(const struct keep_actor *a)
{
    const struct world_node *n = &a->s->w->node[a->node];
    bool busy = a->step != KEEP_REST || a->file != NULL;
    return busy && !a->ended && (n->process == NULL || n->starts != a->life);
}

bool keep_step(struct keep *s)
{
    bool all = true;
    s->cut_ns = s->w->cut ? world_now_ns(s->w) : s->cut_ns;
    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        struct keep_actor *a = &s->actor[i];
        if (a->arrived && !a->ended) {
            bool good = a->op.result >= 0;
            say(a);
            a->arrived = false;
            if (i == OWNER) {
                owner_arrived(a, good);
            } else {
                reader_arrived(a, good);
            }
        } else if (is_killed(a)) {
            a->file = NULL;
            a->arrived = false;
            a->step = KEEP_REST;
            s->named = i == OWNER ? UINT32_MAX : s->named;
            loop_sim_cancel(s->w->sim, &a->wake);
            rest(a, WORLD_MS);
        }
        all = all && a->ended;
    }
    return all;
}

void keep_init(struct keep *s, struct world *w)
{
    *s = (struct keep){.w = w, .named = UINT32_MAX};
    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        struct keep_actor *a = &s->actor[i];
        *a = (struct keep_actor){
            .s = s, .index = i, .node = WORLD_CLIENT(i), .wake.run = woken, .ended = true};
        a->bytes = mem_alloc(i == OWNER ? KEEP_FILE_MAX : KEEP_PIECE_MAX);
        CHECK(a->bytes != NULL);
    }
}

void keep_fini(struct keep *s)
{
    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        loop_sim_cancel(s->w->sim, &s->actor[i].wake);
        mem_free(s->actor[i].bytes);
    }
}

void keep_begin(struct keep *s)
{
    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        s->actor[i].ended = false;
        rest(&s->actor[i], WORLD_S);
    }
}

void keep_stop(struct keep *s)
{
    s->stopping = true;
}
