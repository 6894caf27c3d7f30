/* sim/append.c -- see append.h. */
#include "append.h"

#include "base/crc32c.h"
#include "base/rand.h"
#include "wire/wire.h"

#include <stdio.h>
#include <string.h>

#define PATH "/appended"
#define MAGIC UINT32_C(0x41504e44)
#define HEAD 16u /* magic, number, length, CRC of all that follows */
#define WRITES_MAX 6u
#define READ_BYTES (64u << 10) /* a chunk */

/* ---- Starting: inside the client's process ---- */

static void op_done(struct opendfs_op *op)
{
    container_of(op, struct append_actor, op)->arrived = true;
}

static void start_inside(void *context)
{
    struct append_actor *a = context;
    struct append *s = a->s;
    struct opendfs *fs = s->w->node[a->node].process->fs;
    unsigned flags = OPENDFS_READ;
    a->op = (struct opendfs_op){.done = op_done};
    a->arrived = false;
    flags |= s->auditing ? 0 : OPENDFS_WRITE | OPENDFS_CREATE | OPENDFS_APPEND | OPENDFS_SYNC;
    switch (a->step) {
    case APPEND_OPENING:
        opendfs_async_open(fs, &a->op, PATH, flags, 0644);
        break;
    case APPEND_WRITING:
        opendfs_async_pwrite(fs, &a->op, a->file, a->bytes, s->record[a->record].len, 0);
        break;
    case APPEND_READING:
        opendfs_async_pread(fs, &a->op, a->file, s->content + s->content_len, READ_BYTES,
                            s->content_len);
        break;
    case APPEND_CLOSING:
        opendfs_async_close(fs, &a->op, a->file, NULL, 0);
        break;
    case APPEND_REST:
        CHECK(!"an operation");
    }
}

static void start(struct append_actor *a, enum append_step step)
{
    a->step = step;
    a->life = a->s->w->node[a->node].starts;
    loop_sim_enter(a->s->w->node[a->node].process->loop, start_inside, a);
}

static void make_record(struct append_actor *a)
{
    struct append *s = a->s;
    struct rand *r = s->w->rand;
    uint32_t len = HEAD + (uint32_t)rand_below(r, rand_chance(r, 1, 3) ? 8000 : 200);
    a->record = s->count++;
    s->record[a->record] = (struct append_record){.len = len};
    wire_store_u32(a->bytes, MAGIC);
    wire_store_u32(a->bytes + 4, a->record);
    wire_store_u32(a->bytes + 8, len);
    for (uint32_t i = HEAD; i < len; i++) {
        a->bytes[i] = (uint8_t)((a->record * 31 + i) | 1); /* no zeros: a gap shows */
    }
    wire_store_u32(a->bytes + 12, crc32c(a->record, a->bytes + HEAD, len - HEAD));
}

/* ---- Doing ---- */

static void rest(struct append_actor *a, uint64_t longest_ns)
{
    a->step = a->file == NULL ? APPEND_REST : a->step;
    loop_sim_at(a->s->w->sim, &a->wake,
                world_now_ns(a->s->w) + world_between(a->s->w, 1, longest_ns));
}

static bool is_over(const struct append_actor *a)
{
    const struct append *s = a->s;
    return s->auditing || s->stopping || s->count + WORLD_CLIENTS > APPEND_RECORDS ||
           world_failed(s->w);
}

static void next_operation(struct append_actor *a)
{
    struct append *s = a->s;
    if (s->auditing) {
        bool more = a->left > 0 && s->content_len + READ_BYTES <= APPEND_FILE_MAX;
        start(a, more ? APPEND_READING : APPEND_CLOSING);
    } else if (a->left == 0 || a->broken || is_over(a)) {
        start(a, APPEND_CLOSING);
    } else {
        a->left--;
        make_record(a);
        start(a, APPEND_WRITING);
    }
}

static void woken(struct loop_sim_event *ev)
{
    struct append_actor *a = container_of(ev, struct append_actor, wake);
    struct world *w = a->s->w;
    bool audits = a->s->auditing && a->left > 0;
    if (a->file == NULL && is_over(a) && !audits) {
        a->ended = true;
        return;
    }
    if (!world_is_running(w, a->node)) {
        loop_sim_at(w->sim, &a->wake, world_now_ns(w) + 20 * WORLD_MS);
    } else if (a->file != NULL) {
        next_operation(a);
    } else {
        a->broken = false;
        a->left = audits ? 1 : (unsigned)world_between(w, 1, WRITES_MAX);
        start(a, APPEND_OPENING);
    }
}

/* There was one copy, and its bytes went bad: that is told, and all the rest has to be there. */
static bool is_lost(struct append_actor *a)
{
    struct append *s = a->s;
    bool told = a->step == APPEND_READING && a->op.result == -EIO;
    if (!s->auditing || !told || !world_may_lack_good_copies(s->w)) {
        return false;
    }
    size_t len = base_min(READ_BYTES, s->size - base_min(s->size, s->content_len));
    memset(s->content + s->content_len, 0, len);
    s->content_len += len;
    s->lost += len;
    s->lost_reads++;
    a->left = len == READ_BYTES ? 1 : 0;
    rest(a, 20 * WORLD_MS);
    return true;
}

static void arrived(struct append_actor *a)
{
    struct append *s = a->s;
    bool good = a->op.result >= 0;
    if (is_lost(a)) {
        return;
    }
    if (s->w->verbose) {
        printf("%12.6f client%u   append step %u record %u -> %lld\n",
               (double)world_now_ns(s->w) / 1e9, a->index + 1, (unsigned)a->step, a->record,
               (long long)a->op.result);
    }
    a->broken = a->broken || !good;
    if (s->auditing && !good && !(a->op.result == -ENOENT && s->acked == 0)) {
        world_fail(s->w, "the last look at the appended file: %s", a->op.error);
        return;
    }
    switch (a->step) {
    case APPEND_OPENING:
        a->file = good ? a->op.file : NULL;
        s->size = good ? a->op.stat.size_bytes : 0;
        a->left = s->auditing && !good ? 0 : a->left;
        break;
    case APPEND_WRITING:
        s->record[a->record].acked = good;
        s->acked += good ? 1 : 0;
        s->failed += good ? 0 : 1;
        break;
    case APPEND_READING:
        s->content_len += (size_t)a->op.result;
        a->left = a->op.result == READ_BYTES ? 1 : 0;
        break;
    case APPEND_CLOSING:
        a->file = NULL;
        break;
    case APPEND_REST:
        CHECK(!"an operation");
    }
    rest(a, rand_chance(s->w->rand, 1, 4) ? 900 * WORLD_MS : 20 * WORLD_MS);
}

static bool is_killed(const struct append_actor *a)
{
    const struct world_node *n = &a->s->w->node[a->node];
    bool busy = a->step != APPEND_REST || a->file != NULL;
    return busy && !a->ended && (n->process == NULL || n->starts != a->life);
}

bool append_step(struct append *s)
{
    bool all = true;
    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        struct append_actor *a = &s->actor[i];
        if (a->arrived && !a->ended) {
            a->arrived = false;
            arrived(a);
        } else if (is_killed(a)) { /* what it was writing is there or not */
            a->file = NULL;
            a->arrived = false;
            loop_sim_cancel(s->w->sim, &a->wake);
            rest(a, WORLD_MS);
        }
        all = all && a->ended;
    }
    return all;
}

/* ---- Judging ---- */

/* The number of the record that begins here, or UINT32_MAX. */
static uint32_t record_at(const struct append *s, size_t at, uint32_t *ret_len)
{
    const uint8_t *p = s->content + at;
    size_t left = s->content_len - at;
    if (left < HEAD || wire_load_u32(p) != MAGIC) {
        return UINT32_MAX;
    }
    uint32_t number = wire_load_u32(p + 4), len = wire_load_u32(p + 8);
    bool fits = number < s->count && len == s->record[number].len && len <= left;
    if (!fits || crc32c(number, p + HEAD, len - HEAD) != wire_load_u32(p + 12)) {
        return UINT32_MAX;
    }
    *ret_len = len;
    return number;
}

void append_verify(struct append *s)
{
    size_t gaps = 0, missing = 0, spoilt = s->lost + s->lost_reads * 2 * APPEND_RECORD_MAX;
    for (size_t at = 0; at < s->content_len && !world_failed(s->w);) {
        uint32_t len = 0, number = record_at(s, at, &len);
        if (number == UINT32_MAX) {
            gaps++;
            at++;
            continue;
        }
        s->record[number].found++;
        at += len;
    }
    /* A write that was told an error may have left anything: the file is as long as it said. */
    if (gaps > spoilt && s->failed == 0) {
        world_fail(s->w, "the appended file of %zu bytes has %zu that nobody wrote", s->content_len,
                   gaps);
    }
    /* Machines that lost power took what was not synced with them, and said so (chain.md 8). */
    bool kept = s->w->possible_losses == 0;
    for (uint32_t i = 0; i < s->count && !world_failed(s->w); i++) {
        const struct append_record *r = &s->record[i];
        missing += r->found == 0 && r->acked ? r->len : 0;
        if (r->found > 1 || (r->found == 0 && r->acked && kept && missing > spoilt)) {
            world_fail(s->w, "record %u of %u bytes, %s, is %u times in the appended file", i,
                       r->len, r->acked ? "acknowledged" : "not acknowledged", r->found);
        }
    }
}

/* ---- Life ---- */

void append_init(struct append *s, struct world *w)
{
    s->w = w;
    s->content = mem_alloc(APPEND_FILE_MAX);
    CHECK(s->content != NULL);
    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        s->actor[i] = (struct append_actor){
            .s = s, .index = i, .node = WORLD_CLIENT(i), .wake.run = woken, .ended = true};
    }
}

void append_fini(struct append *s)
{
    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        loop_sim_cancel(s->w->sim, &s->actor[i].wake);
    }
    mem_free(s->content);
}

void append_begin(struct append *s)
{
    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        s->actor[i].ended = false;
        rest(&s->actor[i], WORLD_S);
    }
}

void append_stop(struct append *s)
{
    s->stopping = true;
}

void append_begin_audit(struct append *s)
{
    struct append_actor *a = &s->actor[0];
    s->auditing = true;
    a->ended = false;
    a->left = 1;
    rest(a, WORLD_MS);
}
