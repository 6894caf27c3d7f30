/*
 * chunk/store_test.c -- all engines with one body: a model, random updates, commits, drops,
 * deletions, syncs, reads and pins; for `file` also processes killed and power cut at any moment.
 *
 * Contents are known by identity. The states a chunk goes through are kept; what a restart finds
 * must be one of them: after a kill the last (commits may be undone, they are not journaled), after
 * a power cut any from the last synced one on.
 */
#include "chunk/store.h"

#include "chunk/rig_model_priv.h"

#include <string.h>

#define PINS 4u

static const enum chunk_engine engines[] = {CHUNK_ENGINE_FILE, CHUNK_ENGINE_EXTENT, FORGETFUL,
                                            CHUNK_ENGINE_RAM};

/* ---- Calls ---- */

enum call_kind {
    HOLD,
    LET_GO,
    UPDATE,
    RESERVE,
    UNRESERVE,
    COMMIT,
    CHANGE,
    SYNC,
    READ,
    VERIFY,
    PIN,
    UNPIN,
    STOP
};
struct call {
    struct bench *b;
    enum call_kind kind;
    bool done;
    int rc;
    struct chunk_update update;
    struct chunk_change change;
    struct chunk_sync sync;
    struct chunk_read read;
    struct chunk_verify verify;
    struct chunk_pin *pin;
    struct chunk_stop stop;
    struct chunk_hold hold;
    bool submitting;
};

static void call_over(struct call *c, int rc)
{
    CHECK_TRUE(!c->submitting); /* never from inside the call */
    CHECK_TRUE(!c->done);
    c->done = true;
    c->rc = rc;
}
static void update_done(struct chunk_update *u, int rc)
{
    call_over(container_of(u, struct call, update), rc);
}
static void change_done(struct chunk_change *x, int rc)
{
    call_over(container_of(x, struct call, change), rc);
}
static void sync_done(struct chunk_sync *x, int rc)
{
    call_over(container_of(x, struct call, sync), rc);
}
static void read_done(struct chunk_read *x, int rc)
{
    call_over(container_of(x, struct call, read), rc);
}
static void verify_done(struct chunk_verify *x, int rc)
{
    call_over(container_of(x, struct call, verify), rc);
}
static void stop_done(struct chunk_stop *x, int rc)
{
    call_over(container_of(x, struct call, stop), rc);
}

static void hold_done(struct chunk_hold *h, int rc)
{
    call_over(container_of(h, struct call, hold), rc);
}

struct pin_call {
    struct chunk_pin pin;
    struct call *call;
};
static void pin_done(struct chunk_pin *p, int rc)
{
    call_over(container_of(p, struct pin_call, pin)->call, rc);
}

static void call_at_once(struct call *c, int rc)
{
    c->done = true;
    c->rc = rc;
}

static void call_pin(struct call *c)
{
    c->pin->done = pin_done;
    int rc = chunk_store_pin(c->b->store, c->pin);
    if (rc == -ERR_need) {
        chunk_store_pin_wait(c->b->store, c->pin);
        return;
    }
    call_at_once(c, rc);
}

static void call_hold(struct call *c)
{
    c->hold.done = hold_done;
    int rc = chunk_store_hold(c->b->store, &c->hold);
    if (rc == -ERR_need) {
        chunk_store_hold_wait(c->b->store, &c->hold);
        return;
    }
    call_at_once(c, rc);
}

static void call_submit(void *ctx)
{
    struct call *c = ctx;
    struct chunk_store *s = c->b->store;
    c->update.done = update_done;
    c->change.done = change_done;
    c->sync.done = sync_done;
    c->read.done = read_done;
    c->verify.done = verify_done;
    c->stop.done = stop_done;
    c->submitting = true;
    switch (c->kind) {
    case HOLD:
        call_hold(c);
        break;
    case LET_GO:
        chunk_store_let_go(s, &c->hold);
        call_at_once(c, 0);
        break;
    case UPDATE:
        chunk_store_update(s, &c->update);
        break;
    case RESERVE:
        chunk_store_reserve(s, &c->update);
        break;
    case UNRESERVE:
        chunk_store_unreserve(s, &c->update);
        call_at_once(c, 0);
        break;
    case COMMIT:
        call_at_once(c, chunk_store_commit(s, c->update.key, c->update.identity));
        break;
    case CHANGE:
        chunk_store_change(s, &c->change);
        break;
    case SYNC:
        chunk_store_sync(s, &c->sync);
        break;
    case READ:
        chunk_store_read(s, &c->read);
        break;
    case VERIFY:
        chunk_store_verify(s, &c->verify);
        break;
    case PIN:
        call_pin(c);
        break;
    case UNPIN:
        chunk_store_unpin(s, c->pin);
        call_at_once(c, 0);
        break;
    case STOP:
        chunk_store_stop(s, &c->stop);
        break;
    }
    c->submitting = false;
}

static bool call_is_done(void *ctx)
{
    const struct call *c = ctx;
    return c->done;
}

/* Submits; waits at most `steps` events of the world (0: as long as it takes). */
static bool call(struct bench *b, struct call *c, uint64_t steps)
{
    c->b = b;
    c->done = false;
    if (b->engine == FORGETFUL && rand_chance(&b->rand, 1, 2)) { /* then it has to wait */
        fault_arm(b->fault, "chunk.need", rand_range(&b->rand, 1, 2), 1);
    }
    loop_sim_enter(b->loop, call_submit, c);
    if (steps == 0) {
        CHECK_TRUE(loop_sim_run(b->sim, call_is_done, c, loop_sim_now_ns(b->sim) + LIMIT_NS));
        return true;
    }
    while (!c->done && steps-- > 0) {
        CHECK_TRUE(loop_sim_step(b->sim));
    }
    return c->done;
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

static void pass(struct bench *b, uint64_t ms)
{
    (void)loop_sim_run(b->sim, never, NULL, loop_sim_now_ns(b->sim) + ms * 1000000);
}

static struct chunk_key key_of(unsigned i)
{
    return (struct chunk_key){.data_id = 7 + i / 2, .index = i % 2};
}

static void bench_stop(struct bench *b)
{
    struct call c = {.kind = STOP};
    call(b, &c, 0);
    CHECK_OK(c.rc);
    loop_sim_enter(b->loop, free_now, b);
    pass(b, 1);
}

/* A request with its data. */
struct job {
    struct call call;
    uint8_t *data;
    uint32_t *crc;
    struct iovec *iov;
    struct chunk_recent recent;
};

static struct job *job_free(struct job *j)
{
    if (j != NULL) {
        mem_free(j->data);
        mem_free(j->crc);
        mem_free(j->iov);
        mem_free(j);
    }
    return NULL;
}

static struct job *job_new(enum call_kind kind)
{
    struct job *j = mem_zalloc(sizeof *j);
    CHECK_TRUE(j != NULL);
    j->call.kind = kind;
    return j;
}

/* ---- Model ---- */

static struct state *model_now(struct model *m)
{
    return &m->history[m->count - 1];
}

static void model_add(struct model *m, struct state s)
{
    if (m->count == CONTENTS) {
        memmove(m->history, m->history + 1, (CONTENTS - 1) * sizeof *m->history);
        m->count--;
        m->synced -= m->synced > 0 ? 1 : 0;
    }
    m->history[m->count++] = s;
}

static unsigned content_new(struct bench *b, uint32_t length)
{
    CHECK_TRUE(b->content_count < CONTENTS);
    struct content *c = &b->content[b->content_count];
    *c = (struct content){.ver = ++b->ver, .length = length, .bytes = mem_zalloc(length + 1u)};
    CHECK_TRUE(c->bytes != NULL);
    return b->content_count++;
}

static unsigned content_find(const struct bench *b, uint64_t ver)
{
    for (unsigned i = 1; i < b->content_count; i++) {
        if (b->content[i].ver == ver) {
            return i;
        }
    }
    return 0;
}

/* As chunk_store_lookup(), also what is not in memory. */
static int look_up(struct bench *b, struct chunk_key key, struct chunk_info *ret)
{
    struct call c = {.kind = HOLD, .hold = {.key = key}};
    call(b, &c, 0);
    CHECK_OK(c.rc);
    fault_disarm(b->fault, NULL);
    int rc = chunk_store_lookup(b->store, key, ret);
    c.kind = LET_GO;
    call(b, &c, 1);
    return rc;
}

/* What the store holds of one content must be those bytes. */
static void check_content(struct bench *b, unsigned key, enum chunk_which which, unsigned content)
{
    const struct content *c = &b->content[content];
    uint8_t *bytes = mem_zalloc(c->length + 1u);
    uint32_t *crc = mem_calloc(CHUNK_CELLS_MAX, sizeof *crc);
    struct call r = {.kind = READ};
    r.read =
        (struct chunk_read){.pin = {.key = key_of(key), .which = which, .length = CHUNK_LENGTH_MAX},
                            .verify = true,
                            .to = bytes,
                            .crc = crc};
    call(b, &r, 0);
    CHECK_OK(r.rc);
    CHECK_EQ(r.read.pin.chunk_length, c->length);
    CHECK_EQ(r.read.pin.identity.ver, c->ver);
    CHECK_BYTES(bytes, c->bytes, c->length);
    CHECK_EQ(chunk_digest(c->length, crc), r.read.pin.digest);
    for (uint32_t cell = 0; cell < chunk_cells(c->length); cell++) {
        CHECK_EQ(crc[cell], crc32c(0, c->bytes + (size_t)cell * CHUNK_CELL,
                                   chunk_cell_bytes(c->length, cell)));
    }
    mem_free(bytes);
    mem_free(crc);
}

static struct state state_found(struct bench *b, unsigned key, struct chunk_info *info)
{
    struct state s = {0, 0};
    if (look_up(b, key_of(key), info) < 0) {
        return s;
    }
    CHECK_EQ(info->flags & CHUNK_DAMAGED, 0);
    if (!chunk_identity_none(info->committed)) {
        s.committed = content_find(b, info->committed.ver);
        CHECK_TRUE(s.committed != 0);
    }
    if (info->has_pending) {
        s.pending = content_find(b, info->pending.ver);
        CHECK_TRUE(s.pending != 0);
    }
    CHECK_EQ(info->chain, 5);
    if (s.committed == 0 && s.pending == 0) { /* what was there first was dropped */
        CHECK_TRUE(info->last_ver > 0);
        return s;
    }
    CHECK_EQ(info->recent_count, 1);
    CHECK_EQ(info->recent[0].seq, s.pending != 0 ? info->pending.ver : info->committed.ver);
    return s;
}

static bool state_equal(struct state a, struct state b)
{
    return a.committed == b.committed && a.pending == b.pending;
}

static void check_state(struct bench *b, unsigned key)
{
    struct chunk_info info;
    struct state s = state_found(b, key, &info);
    CHECK_TRUE(state_equal(s, *model_now(&b->model[key])));
    if (s.committed != 0) {
        check_content(b, key, CHUNK_COMMITTED, s.committed);
    }
    if (s.pending != 0) {
        check_content(b, key, CHUNK_PENDING, s.pending);
    }
    struct call v = {.kind = VERIFY, .verify = {.key = key_of(key)}};
    call(b, &v, 0);
    CHECK_RC(v.rc, s.committed == 0 && s.pending == 0 ? ENOENT : 0);
    CHECK_TRUE(!v.verify.pending_bad);
}

/* ---- Random requests ---- */

/* CRCs per cell and random pieces of j->data, which stand for bytes `from`.. of the chunk. */
static void job_data(struct bench *b, struct job *j, uint32_t from, uint32_t length)
{
    struct chunk_update *u = &j->call.update;
    j->crc = mem_calloc(CHUNK_CELLS_MAX + 1, sizeof *j->crc);
    j->iov = mem_zalloc(64 * sizeof *j->iov);
    uint32_t at = 0;
    while (at < length) {
        uint32_t end = (from + at) / CHUNK_CELL * CHUNK_CELL + CHUNK_CELL;
        uint32_t n = (uint32_t)base_min(end - (from + at), length - at);
        j->crc[u->crc_count++] = crc32c(0, j->data + at, n);
        at += n;
    }
    at = 0;
    while (at < length) {
        uint32_t n = length - at;
        if (u->data_count < 8) {
            n = (uint32_t)rand_range(&b->rand, 0, n);
        }
        j->iov[u->data_count++] = (struct iovec){.iov_base = j->data + at, .iov_len = n};
        at += n;
    }
    u->crc = j->crc;
    u->data = j->iov;
}

static uint32_t random_length(struct bench *b, uint32_t max)
{
    uint32_t length = (uint32_t)rand_range(&b->rand, 1, max);
    return rand_chance(&b->rand, 1, 3) ? (length + CHUNK_CELL - 1) / CHUNK_CELL * CHUNK_CELL
                                       : length;
}

static void random_bytes(struct bench *b, uint8_t *to, uint32_t length)
{
    rand_bytes(&b->rand, to, length);
    if (length > 2 * CHUNK_CELL && rand_chance(&b->rand, 1, 3)) {
        memset(to, 0, length / 2); /* zeros are not stored */
    }
}

/* An update of the chunk and the content that comes of it. */
static unsigned job_update(struct bench *b, unsigned key, struct job *j)
{
    struct model *m = &b->model[key];
    const struct content *base = &b->content[model_now(m)->committed];
    struct chunk_update *u = &j->call.update;
    uint32_t max = rand_chance(&b->rand, 1, 10) ? 100 * CHUNK_CELL : 5 * CHUNK_CELL;
    uint64_t kind = rand_below(&b->rand, 8);
    u->kind = kind < 5 ? CHUNK_WRITE : kind < 6 ? CHUNK_SET_LENGTH : CHUNK_WHOLE;
    uint32_t from = 0, length = random_length(b, max), new_length = length;
    if (u->kind == CHUNK_WRITE) {
        from = kind < 3 ? base->length : (uint32_t)rand_below(&b->rand, max);
        length = kind == 0 ? (uint32_t)rand_range(&b->rand, 1, 600) : length;
        from = (uint32_t)base_min(from, UINT64_C(120) * CHUNK_CELL);
        new_length = (uint32_t)base_max(base->length, from + length);
    } else if (u->kind == CHUNK_SET_LENGTH) {
        length = 0;
        new_length = (uint32_t)rand_below(&b->rand, max);
    }
    unsigned index = content_new(b, new_length);
    struct content *c = &b->content[index];
    if (u->kind != CHUNK_WHOLE) {
        memcpy(c->bytes, base->bytes == NULL ? (const uint8_t *)"" : base->bytes,
               base_min(base->length, new_length));
    }
    j->data = mem_zalloc(length + 1u);
    random_bytes(b, j->data, length);
    memcpy(c->bytes + from, j->data, length);
    job_data(b, j, from, length);
    j->recent = (struct chunk_recent){.client = 3, .seq = c->ver, .ver = c->ver};
    u->key = key_of(key);
    u->chain = 5;
    u->base.ver = base->ver;
    u->base.aepoch = base->ver == 0 ? 0 : 1;
    u->identity = (struct chunk_identity){.aepoch = 1, .ver = c->ver};
    u->install = rand_chance(&b->rand, 1, 6);
    u->offset = from;
    u->length = u->kind == CHUNK_WRITE ? length : 0;
    u->new_length = new_length;
    u->last_ver = c->ver;
    u->recent = &j->recent;
    u->recent_count = 1;
    return index;
}

/* Kills at a random moment when `steps` is set: false. */
static bool do_update(struct bench *b, unsigned key, uint64_t steps)
{
    struct model *m = &b->model[key];
    struct job *j = job_new(UPDATE);
    unsigned content = job_update(b, key, j);
    struct state next = {model_now(m)->committed, content};
    if (j->call.update.install) {
        next = (struct state){content, 0};
    }
    bool done = true;
    if (rand_chance(&b->rand, 1, 3)) {
        j->call.kind = RESERVE;
        done = call(b, &j->call, steps);
        CHECK_TRUE(!done || j->call.rc == 0);
    }
    if (done) {
        j->call.kind = UPDATE;
        m->next_too = true;
        m->next = next;
        done = call(b, &j->call, steps);
    }
    if (!done) {
        b->orphan = j;
        return false;
    }
    CHECK_OK(j->call.rc);
    CHECK_EQ(j->call.update.new_length, b->content[content].length);
    m->next_too = false;
    model_add(m, next);
    job_free(j);
    return true;
}

static bool do_change(struct bench *b, unsigned key, enum chunk_change_op op, uint64_t steps)
{
    struct model *m = &b->model[key];
    struct job *j = job_new(CHANGE);
    struct call *c = &j->call;
    c->change.op = op;
    c->change.key = key_of(key);
    struct state next = {op == CHUNK_DELETE ? 0 : model_now(m)->committed, 0};
    m->next_too = true;
    m->next = next;
    if (!call(b, c, steps)) {
        b->orphan = j;
        return false;
    }
    CHECK_OK(c->rc);
    struct chunk_info info = {.last_ver = UINT64_MAX}; /* what is dropped leaves its number */
    CHECK_EQ(look_up(b, key_of(key), &info) == 0, op != CHUNK_DELETE);
    CHECK_TRUE(info.last_ver >= b->content[model_now(m)->pending].ver);
    m->next_too = false;
    model_add(m, next);
    job_free(j);
    return true;
}

static bool do_sync(struct bench *b, uint64_t steps)
{
    unsigned at[KEYS];
    for (unsigned i = 0; i < KEYS; i++) {
        at[i] = b->model[i].count - 1;
    }
    struct job *j = job_new(SYNC);
    struct call *c = &j->call;
    uint64_t scope = rand_below(&b->rand, 3);
    c->sync.scope = scope == 0 ? CHUNK_SYNC_ALL : scope == 1 ? CHUNK_SYNC_DATA : CHUNK_SYNC_KEYS;
    c->sync.data_id = 7;
    c->sync.key = b->some_keys;
    c->sync.key_count = 2;
    if (!call(b, c, steps)) {
        b->orphan = j;
        return false;
    }
    CHECK_OK(c->rc);
    for (unsigned i = 0; i < KEYS; i++) {
        bool covered = scope == 0 || (scope == 1 ? key_of(i).data_id == 7 : i != 1);
        struct state s = b->model[i].history[at[i]];
        bool deleted = s.committed == 0 && s.pending == 0; /* only a sync of all covers that */
        if (covered && (scope == 0 || !deleted)) {
            b->model[i].synced = (unsigned)base_max(b->model[i].synced, at[i]);
        }
    }
    job_free(j);
    return true;
}

static bool do_commit(struct bench *b, unsigned key)
{
    struct model *m = &b->model[key];
    struct state now = *model_now(m);
    struct call c = {.kind = COMMIT};
    c.update.key = key_of(key);
    c.update.identity = (struct chunk_identity){.aepoch = 1, .ver = b->content[now.pending].ver};
    call(b, &c, 1);
    CHECK_OK(c.rc);
    model_add(m, (struct state){now.pending, 0});
    return true;
}

/* One random request; false: not over within `steps`. */
static bool do_something(struct bench *b, uint64_t steps)
{
    unsigned key = (unsigned)rand_below(&b->rand, KEYS);
    struct state now = *model_now(&b->model[key]);
    uint64_t what = rand_below(&b->rand, 20);
    if (what < 2) {
        return do_sync(b, steps);
    }
    if (what == 2) {
        pass(b, rand_below(&b->rand, 200));
        return true;
    }
    if (what == 3 && (now.committed != 0 || now.pending != 0)) {
        return do_change(b, key, CHUNK_DELETE, steps);
    }
    if (now.pending == 0) {
        return do_update(b, key, steps);
    }
    if (what < 7) {
        return do_change(b, key, CHUNK_DROP_PENDING, steps);
    }
    return do_commit(b, key);
}

/* ---- After a restart ---- */

static bool found_allowed(const struct model *m, struct state found, bool power)
{
    if (m->next_too && state_equal(found, m->next)) {
        return true;
    }
    for (unsigned i = m->count; i-- > 0;) {
        struct state s = m->history[i];
        if (state_equal(found, s)) {
            return true;
        }
        if (power) {
            if (i <= m->synced) {
                return false;
            }
            continue;
        }
        /* A commit alone may be undone; one that was there before an update is in its record. */
        struct state before = i > 0 ? m->history[i - 1] : (struct state){0, 0};
        if (s.pending != 0 || before.pending != s.committed || s.committed == 0) {
            return false;
        }
    }
    return false;
}

static void restart(struct bench *b, bool power)
{
    loop_sim_kill(b->loop);
    b->orphan = job_free(b->orphan);
    if (power) {
        disk_sim_crash(b->machine);
        loop_sim_reboot(b->sim, 1);
    }
    CHECK_OK(bench_open(b, false));
    struct chunk_store_info info;
    chunk_store_info(b->store, &info);
    CHECK_EQ(info.lossy, power || info.lossy);
    CHECK_EQ(info.rebooted, power);
    for (unsigned i = 0; i < KEYS; i++) {
        struct chunk_info chunk;
        struct state found = state_found(b, i, &chunk);
        CHECK_TRUE(found_allowed(&b->model[i], found, power));
        if (power) { /* else what was not stable still is not */
            b->model[i] = (struct model){.count = 0};
        }
        b->model[i].next_too = false;
        model_add(&b->model[i], found);
        check_state(b, i);
    }
}

static void storm(struct bench *b, unsigned count, bool check)
{
    for (unsigned i = 0; i < count; i++) {
        CHECK_TRUE(do_something(b, 0));
        if (check) {
            check_state(b, (unsigned)rand_below(&b->rand, KEYS));
        }
    }
}

static unsigned model_check(enum chunk_engine engine)
{
    unsigned rounds = 0;
    for (uint64_t round = 0; round < 10; round++) {
        struct bench *b = bench_new(engine, testing_seed() + round);
        storm(b, 120, true);
        for (unsigned i = 0; i < KEYS; i++) {
            check_state(b, i);
        }
        CHECK_EQ(b->damages, 0);
        bench_stop(b);
        if (engine != CHUNK_ENGINE_RAM) {
            CHECK_OK(bench_open(b, false));
            for (unsigned i = 0; i < KEYS; i++) {
                check_state(b, i); /* also commits: a stop makes all stable */
            }
            bench_stop(b);
        }
        bench_end(b);
        rounds++;
    }
    return rounds;
}

TEST(engines_agree_with_the_model)
{
    for (size_t i = 0; i < ARRAY_COUNT(engines); i++) {
        CHECK_TRUE(model_check(engines[i]) > 0);
    }
}

/* Each life ends at a random moment, by kill or power cut. */
static unsigned survives(enum chunk_engine engine)
{
    unsigned lives = 0;
    for (uint64_t round = 0; round < 40; round++) {
        struct bench *b = bench_new(engine, testing_seed() * 1000 + round);
        uint64_t mode = round % 4;
        disk_sim_crash_mode(b->machine, mode == 0   ? DISK_SIM_KEEP_ALL
                                        : mode == 1 ? DISK_SIM_LOSE_ALL
                                                    : DISK_SIM_RANDOM);
        disk_sim_writeback(b->machine, round % 3 == 0 ? 0 : 4, 0);
        for (unsigned life = 0; life < 8; life++) {
            storm(b, (unsigned)rand_below(&b->rand, 20), false);
            (void)do_something(b, rand_range(&b->rand, 1, 12));
            restart(b, rand_chance(&b->rand, 2, 3));
            lives++;
        }
        CHECK_EQ(b->failures, 0);
        bench_end(b);
    }
    return lives;
}

TEST(engines_on_disk_survive_what_they_must)
{
    CHECK_TRUE(survives(CHUNK_ENGINE_FILE) > 0);
    CHECK_TRUE(survives(CHUNK_ENGINE_EXTENT) > 0);
    CHECK_TRUE(survives(FORGETFUL) > 0);
}

/* ---- Pins ---- */

static struct state settled(struct bench *b, unsigned key)
{
    struct model *m = &b->model[key];
    while (model_now(m)->committed == 0 || b->content[model_now(m)->committed].length == 0) {
        CHECK_TRUE(model_now(m)->pending != 0 ? do_commit(b, key) : do_update(b, key, 0));
    }
    return *model_now(m);
}

static void check_pinned(struct bench *b, const struct chunk_pin *p, const struct content *c)
{
    CHECK_EQ(p->identity.ver, c->ver);
    uint32_t at = p->offset;
    while (at < p->offset + p->length) {
        struct chunk_piece piece[3];
        unsigned count = 0;
        uint32_t next = chunk_pin_pieces(b->store, p, at, piece, 3, &count);
        CHECK_TRUE(count > 0);
        for (unsigned i = 0; i < count; i++) {
            uint8_t *bytes = mem_zalloc(piece[i].len);
            if (piece[i].file != NULL) {
                struct disk_req req = {.op = DISK_READ,
                                       .file = piece[i].file,
                                       .offset = piece[i].offset,
                                       .buf = bytes,
                                       .len = piece[i].len};
                CHECK_EQ(disk_now(b->disk, &req), piece[i].len); /* a send would not end early */
            } else if (piece[i].bytes != NULL) {
                memcpy(bytes, piece[i].bytes, piece[i].len);
            }
            CHECK_BYTES(bytes, c->bytes + at, piece[i].len);
            at += piece[i].len;
            mem_free(bytes);
        }
        CHECK_EQ(at, next);
    }
}

/* Whatever happens to the chunk, a pin shows the bytes that it was made for. */
static unsigned pins_hold(enum chunk_engine engine)
{
    unsigned rounds = 0;
    for (uint64_t round = 0; round < 10; round++) {
        struct bench *b = bench_new(engine, testing_seed() * 7 + round);
        struct pin_call pin[PINS] = {0};
        unsigned content[PINS] = {0};
        storm(b, 10, false);
        for (unsigned i = 0; i < PINS; i++) {
            unsigned key = i % KEYS;
            content[i] = settled(b, key).committed;
            uint32_t length = b->content[content[i]].length;
            struct call c = {.kind = PIN, .pin = &pin[i].pin};
            pin[i].call = &c;
            pin[i].pin.key = key_of(key);
            pin[i].pin.offset = (uint32_t)rand_below(&b->rand, length);
            pin[i].pin.length = (uint32_t)rand_range(&b->rand, 1, length);
            call(b, &c, 0);
            CHECK_OK(c.rc);
            storm(b, 12, false);
            pass(b, 100); /* syncs, and all that rests without pins is given back */
        }
        for (unsigned i = 0; i < PINS; i++) {
            check_pinned(b, &pin[i].pin, &b->content[content[i]]);
            struct call c = {.kind = UNPIN, .pin = &pin[i].pin};
            call(b, &c, 1);
        }
        pass(b, 3000);
        struct chunk_store_info info;
        chunk_store_info(b->store, &info);
        CHECK_EQ(info.resting_bytes, 0);
        CHECK_EQ(info.reserved_bytes, 0);
        bench_stop(b);
        bench_end(b);
        rounds++;
    }
    return rounds;
}

TEST(pins_hold_in_all_engines)
{
    for (size_t i = 0; i < ARRAY_COUNT(engines); i++) {
        CHECK_TRUE(pins_hold(engines[i]) > 0);
    }
}

/* ---- Removed data ---- */

static void remove_data(struct bench *b, enum chunk_change_op op, uint64_t data_id)
{
    struct call c = {.kind = CHANGE};
    c.change.op = op;
    c.change.key.data_id = data_id;
    call(b, &c, 0);
    CHECK_OK(c.rc);
}

struct first_chunk {
    struct chunk_store *store;
    struct chunk_info info;
    int rc;
};

static void first_in(void *ctx)
{
    struct first_chunk *f = ctx;
    f->rc = chunk_store_next(f->store, (struct chunk_key){0}, &f->info);
}

static unsigned removed_data(enum chunk_engine engine)
{
    struct bench *b = bench_new(engine, testing_seed());
    (void)settled(b, 0);
    (void)settled(b, 1);
    (void)settled(b, 2);
    remove_data(b, CHUNK_REMOVE_DATA, 7);
    remove_data(b, CHUNK_REMOVE_DATA, 7);
    struct chunk_info info;
    CHECK_RC(look_up(b, key_of(0), &info), ENOENT);
    CHECK_RC(look_up(b, key_of(1), &info), ENOENT);
    fault_disarm(b->fault, NULL);
    struct first_chunk first = {.store = b->store};
    loop_sim_enter(b->loop, first_in, &first);
    CHECK_OK(first.rc);
    CHECK_EQ(first.info.key.data_id, 8);
    struct job *j = job_new(UPDATE);
    b->model[0].count = 1;
    (void)job_update(b, 0, j);
    call(b, &j->call, 0);
    CHECK_RC(j->call.rc, ERR_gone);
    job_free(j);
    if (engine != CHUNK_ENGINE_RAM) { /* the list is stable, whether the files went or not */
        loop_sim_kill(b->loop);
        disk_sim_crash_mode(b->machine, DISK_SIM_LOSE_ALL);
        disk_sim_crash(b->machine);
        loop_sim_reboot(b->sim, 1);
        CHECK_OK(bench_open(b, false));
        CHECK_RC(look_up(b, key_of(0), &info), ENOENT);
    }
    struct chunk_dead dead[2];
    unsigned count = (unsigned)chunk_store_dead_list(b->store, 0, dead, 2);
    CHECK_EQ(count, 1);
    CHECK_EQ(dead[0].data_id, 7);
    CHECK_EQ(chunk_store_dead_list(b->store, 7, dead, 2), 0);
    CHECK_TRUE(chunk_store_dead(b->store, 7));
    remove_data(b, CHUNK_FORGET_DEAD, 7);
    CHECK_TRUE(!chunk_store_dead(b->store, 7));
    bench_stop(b);
    bench_end(b);
    return count;
}

TEST(removed_data_stays_away)
{
    for (size_t i = 0; i < ARRAY_COUNT(engines); i++) {
        CHECK_TRUE(removed_data(engines[i]) > 0);
    }
}
