/*
 * tree/stream_receive_test.c -- a receiver that dies at any request to the disk, whose connection
 * breaks at any frame, that meets failures and damaged frames: it goes on, and the file that it
 * makes in the end is the same, byte for byte, as one that was made in peace.
 */
#include "tree/stream_receive.h"

#include "tree/rig_starve_priv.h"
#include "tree/rig_stream_priv.h"
#include "wire/wire.h"

#define PARTIAL RIG_COPY ".partial"
#define UNIT 4096u

struct file_bytes {
    uint8_t *at;
    size_t len;
};

struct world {
    struct rig_life life; /* the sender's; then processes with a receiver only */
    struct rig_stream stream;
    struct rig_frames frames;
    struct file_bytes made; /* in peace */
    void *found;            /* the process's memory */
    size_t found_len;
    uint64_t seen, crash_at;
    bool crashed;
};

/* ---- processes that receive ---- */

static bool changes_disk(enum disk_op op)
{
    return op == DISK_WRITE || op == DISK_SYNC_ALL || op == DISK_TRUNCATE || op == DISK_RENAME ||
           op == DISK_SYNC_DIR;
}

static struct disk_req *seen(struct rig_tap *tap, struct disk_req *req, bool now)
{
    static const enum disk_op changes[] = {DISK_WRITE, DISK_SYNC_ALL, DISK_TRUNCATE, DISK_RENAME,
                                           DISK_SYNC_DIR};
    struct rig_life *l = rig_life_of(tap);
    struct world *w = container_of(l, struct world, life);
    CHECK_TRUE(now); /* a receiver is on a thread of its own */
    w->seen += changes_disk(req->op);
    if (changes_disk(req->op) && w->seen == w->crash_at) {
        w->crashed = true;
        for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
            disk_sim_fail(l->rig.machine.disk, changes[i], NULL, 1, 0, -EIO);
        }
    }
    return req;
}

static void process_begin(struct world *w, uint64_t crash_at)
{
    rig_tree_start(&w->life.rig);
    w->life.rig.tap.seen = seen;
    w->seen = 0;
    w->crash_at = crash_at;
    w->crashed = false;
}

static void process_kill(struct world *w, bool power)
{
    rig_life_kill(&w->life, power);
    rig_stream_killed(&w->stream);
    w->crashed = false;
}

static void load_in(void *ctx)
{
    struct world *w = ctx;
    w->found = NULL;
    w->stream.rc = disk_load(w->life.rig.env.disk, RIG_COPY, 64u << 20, &w->found, &w->found_len);
}
static void unload_in(void *ctx)
{
    mem_freep(&((struct world *)ctx)->found);
}

/* True: it is there, and as it should be. */
static bool is_there(struct world *w)
{
    loop_sim_enter(w->life.rig.machine.loop, load_in, w);
    CHECK_TRUE(w->stream.rc == 0 || w->stream.rc == -ENOENT);
    if (w->stream.rc < 0) {
        return false;
    }
    memset((uint8_t *)w->found + UNIT, 0, 2 * UNIT); /* how often it was noted may differ */
    if (w->made.at == NULL) {
        w->made = (struct file_bytes){.at = mem_dup(w->found, w->found_len), .len = w->found_len};
    }
    CHECK_EQ(w->found_len, w->made.len);
    CHECK_TRUE(memcmp(w->found, w->made.at, w->made.len) == 0);
    loop_sim_enter(w->life.rig.machine.loop, unload_in, w);
    return true;
}

static void remove_in(void *ctx)
{
    struct world *w = ctx;
    struct disk_req remove = {.op = DISK_REMOVE, .path = RIG_COPY};
    struct disk_req partial = {.op = DISK_REMOVE, .path = PARTIAL};
    (void)disk_now(w->life.rig.env.disk, &remove);
    (void)disk_now(w->life.rig.env.disk, &partial);
}

static int put_next(struct world *w)
{
    uint64_t i = kv_receiver_cursor(w->stream.receiver).number;
    CHECK_TRUE(i < w->frames.count);
    return rig_stream_put(&w->stream, w->frames.frame[i], w->frames.len[i]);
}

/* Up to frame `to`, or as far as it gets. */
static int put_some(struct world *w, uint64_t to)
{
    int rc = 0;
    while (rc == 0 && !w->stream.put.whole && kv_receiver_cursor(w->stream.receiver).number < to) {
        rc = put_next(w);
    }
    return rc;
}

/* All that is missing; then it is there. */
static void put_rest(struct world *w)
{
    int rc = put_some(w, UINT64_MAX);
    if (rc < 0) {
        fprintf(stderr, "put: %s\n", w->stream.put.err.text);
    }
    CHECK_OK(rc);
    CHECK_TRUE(w->stream.put.whole);
    rig_stream_close(&w->stream);
    w->stream.put.whole = false;
    CHECK_TRUE(is_there(w));
    loop_sim_enter(w->life.rig.machine.loop, remove_in, w);
}

/* ---- */

static void begin(struct world *w, uint64_t seed, uint64_t index)
{
    struct rig_life *l = &w->life;
    *w = (struct world){0};
    rig_life_init(l, seed);
    l->rig.opt.memtable_bytes = 16u << 10;
    l->rig.opt.cache_bytes = seed % 2 == 0 ? 320u << 10 : 1u << 20;
    rig_life_kill(l, true);
    CHECK_OK(rig_life_open(l));
    rig_stream_init(&w->stream, l);
    for (uint64_t at = index / 4; at <= index; at += index / 4) {
        rig_life_commit_to(l, at);
        CHECK_OK(rig_life_save(l));
    }
    CHECK_OK(rig_stream_pin(&w->stream));
    rig_stream_read_all(&w->stream, &w->frames);
    process_kill(w, false);
    process_begin(w, 0);
    CHECK_OK(rig_stream_open(&w->stream));
    put_rest(w);
    CHECK_TRUE(w->made.len > 20 * UNIT);
}

static void end(struct world *w)
{
    mem_free(w->made.at);
    rig_frames_fini(&w->frames);
    rig_stream_fini(&w->stream);
    rig_life_fini(&w->life);
}

static void crash_run(struct world *w, uint64_t at)
{
    process_begin(w, at);
    if (rig_stream_open(&w->stream) == 0) {
        CHECK_TRUE(put_some(w, UINT64_MAX) < 0 || w->stream.put.whole);
    }
    CHECK_TRUE(w->crashed);
    w->stream.put.whole = false;
    process_kill(w, at % 4 != 0);
    process_begin(w, 0);
    if (is_there(w)) {
        loop_sim_enter(w->life.rig.machine.loop, remove_in, w);
    } else {
        CHECK_OK(rig_stream_open(&w->stream));
        put_rest(w);
    }
    process_kill(w, false);
}

TEST(a_receiver_dies_at_any_request)
{
    static const enum disk_sim_crash_mode modes[] = {DISK_SIM_RANDOM, DISK_SIM_LOSE_ALL,
                                                     DISK_SIM_KEEP_ALL};
    struct world w;
    begin(&w, testing_seed(), 120);
    process_kill(&w, false);
    process_begin(&w, 0);
    CHECK_OK(rig_stream_open(&w.stream));
    put_rest(&w);
    uint64_t count = w.seen - 2; /* without the removal */
    process_kill(&w, false);
    CHECK_TRUE(count > 20);
    for (uint64_t at = 1; at <= count; at += count > 60 ? rand_range(&w.life.rig.rand, 1, 4) : 1) {
        disk_sim_crash_mode(w.life.rig.machine.disk, modes[at % ARRAY_COUNT(modes)]);
        crash_run(&w, at);
    }
    end(&w);
}

TEST(a_connection_breaks_at_any_frame)
{
    struct world w;
    begin(&w, testing_seed(), 80);
    for (uint64_t at = 0; at < w.frames.count; at++) {
        CHECK_OK(rig_stream_open(&w.stream));
        CHECK_OK(put_some(&w, at));
        struct kv_cursor c = kv_receiver_cursor(w.stream.receiver);
        CHECK_EQ(c.number, at);
        CHECK_TRUE(at == 0 || c.chain == w.frames.at[at].chain);
        if (at % 2 == 1) { /* the receiver as well */
            rig_stream_close(&w.stream);
            CHECK_OK(rig_stream_open(&w.stream));
            CHECK_TRUE(kv_receiver_cursor(w.stream.receiver).number <= at);
        }
        put_rest(&w);
    }
    end(&w);
}

/* ---- what is not the next frame ---- */

static void refuse(struct world *w, const uint8_t *bytes, size_t len, int code, const char *text)
{
    struct kv_cursor before = kv_receiver_cursor(w->stream.receiver);
    int rc = rig_stream_put(&w->stream, bytes, len);
    CHECK_TRUE(rc < 0 && (code == 0 || rc == -code));
    if (text != NULL && strstr(w->stream.put.err.text, text) == NULL) {
        fprintf(stderr, "'%s' is not in '%s'\n", text, w->stream.put.err.text);
        CHECK_TRUE(false);
    }
    CHECK_EQ(kv_receiver_cursor(w->stream.receiver).number, before.number);
}

TEST(other_frames_are_refused)
{
    struct world w, other;
    begin(&w, testing_seed(), 80);
    begin(&other, testing_seed() + 1, 40);
    struct rand *r = &w.life.rig.rand;
    CHECK_OK(rig_stream_open(&w.stream));
    for (uint64_t i = 0; i < w.frames.count; i++) {
        size_t len = w.frames.len[i];
        uint8_t *bytes = mem_dup(w.frames.frame[i], len);
        CHECK(bytes != NULL);
        size_t at = rand_below(r, len);
        bytes[at] ^= (uint8_t)(1u << rand_below(r, 8));
        refuse(&w, bytes, len, 0, "is expected");
        mem_free(bytes);
        refuse(&w, w.frames.frame[i], rand_below(r, len), 0, "is expected");
        if (i > 0) {
            uint64_t j = rand_below(r, i);
            refuse(&w, w.frames.frame[j], w.frames.len[j], ERR_bad_value, "came again");
            uint64_t k = rand_below(r, other.frames.count);
            refuse(&w, other.frames.frame[k], other.frames.len[k], ESTALE, "is of stream");
        }
        if (i + 1 < w.frames.count) {
            uint64_t j = rand_range(r, i + 1, w.frames.count - 1);
            refuse(&w, w.frames.frame[j], w.frames.len[j], ERR_bad_value, "came too early");
        }
        CHECK_OK(put_next(&w));
    }
    CHECK_TRUE(w.stream.put.whole);
    end(&other);
    end(&w);
}

/* Sound frames of a sender that is wrong: what they hold does not fit. */
TEST(frames_that_do_not_fit_their_tables_are_refused)
{
    struct world w;
    begin(&w, testing_seed(), 80);
    struct rand *r = &w.life.rig.rand;
    CHECK_OK(rig_stream_open(&w.stream));
    for (uint64_t i = 0; i < w.frames.count; i++) {
        struct kv_frame f;
        uint8_t *out = w.stream.buf;
        CHECK_OK(kv_frame_open(&w.frames.at[i], w.frames.frame[i], w.frames.len[i], &f, NULL));
        memcpy(out, w.frames.frame[i], w.frames.len[i]);
        if (f.at.place.kind == TREE_STREAM_NODE && f.at.place.part == 0) {
            out[KV_FRAME_HEADER_BYTES + rand_below(r, 150)] ^= 0x20; /* of its header */
            (void)kv_frame_seal(&f, out);
            refuse(&w, out, w.frames.len[i], 0, "block ");
        } else if (f.at.place.kind == TREE_STREAM_PAGES) {
            f.len -= 8;
            refuse(&w, out, kv_frame_seal(&f, out), ERR_bad_length, "translation table");
        } else if (f.at.place.kind == TREE_STREAM_END) {
            wire_store_u64(out + KV_FRAME_HEADER_BYTES + 16, 77);
            refuse(&w, out, kv_frame_seal(&f, out), ERR_bad_value, "end of the stream");
        } else {
            f.next.place.item += 3;
            refuse(&w, out, kv_frame_seal(&f, out), 0, NULL);
        }
        CHECK_OK(put_next(&w));
    }
    end(&w);
}

TEST(a_stream_of_another_owner_is_refused)
{
    struct world w;
    begin(&w, testing_seed(), 40);
    w.stream.opt.owner = (const uint8_t *)"somebody else 16";
    CHECK_OK(rig_stream_open(&w.stream));
    refuse(&w, w.frames.frame[0], w.frames.len[0], ERR_wrong_cluster, NULL);
    w.stream.opt.owner = NULL;
    rig_stream_close(&w.stream);
    CHECK_OK(rig_stream_open(&w.stream));
    put_rest(&w);
    end(&w);
}

/* A receiver that is begun again, and one where a file is. */
TEST(where_something_is_already)
{
    struct world w;
    begin(&w, testing_seed(), 100);
    CHECK_OK(rig_stream_open(&w.stream));
    CHECK_OK(put_some(&w, w.frames.count - 2));
    rig_stream_close(&w.stream);
    CHECK_OK(rig_stream_open(&w.stream));
    CHECK_TRUE(kv_receiver_cursor(w.stream.receiver).number > 0);
    CHECK_TRUE(w.stream.receiver->stored_bytes > 0);
    rig_stream_close(&w.stream);
    w.stream.opt.again = true;
    CHECK_OK(rig_stream_open(&w.stream));
    CHECK_EQ(kv_receiver_cursor(w.stream.receiver).number, 0);
    CHECK_OK(put_some(&w, w.frames.count));
    rig_stream_close(&w.stream);
    CHECK_RC(rig_stream_open(&w.stream), EEXIST);
    CHECK_TRUE(is_there(&w));
    end(&w);
}

/* ---- failures ---- */

/* Did it fail? */
static bool fault_run(struct world *w, enum disk_op op, uint64_t nth, uint64_t count, int rc)
{
    process_begin(w, 0);
    disk_sim_fail(w->life.rig.machine.disk, op, RIG_COPY, nth, count, rc);
    int got = rig_stream_open(&w->stream);
    got = got < 0 ? got : put_some(w, UINT64_MAX);
    CHECK_TRUE(got < 0 || w->stream.put.whole);
    if (got < 0) {
        CHECK_TRUE(got == rc || err_is(got, EIO));
    }
    disk_sim_heal(w->life.rig.machine.disk);
    bool failed = got < 0, whole = w->stream.put.whole;
    w->stream.put.whole = false;
    int again = w->stream.receiver == NULL || whole ? -EIO : put_some(w, UINT64_MAX);
    if (again == -ERR_failed_before) {
        rig_stream_close(&w->stream);
        if (is_there(w)) { /* only its name may not be durable */
            whole = true;
        } else {
            CHECK_OK(rig_stream_open(&w->stream));
            CHECK_OK(put_some(w, UINT64_MAX));
        }
    } else if (!whole && w->stream.receiver == NULL) {
        CHECK_OK(rig_stream_open(&w->stream));
        CHECK_OK(put_some(w, UINT64_MAX));
    } else if (!whole) {
        CHECK_OK(again);
    }
    w->stream.put.whole = false;
    rig_stream_close(&w->stream);
    CHECK_TRUE(is_there(w));
    loop_sim_enter(w->life.rig.machine.loop, remove_in, w);
    process_kill(w, false);
    return failed;
}

TEST(requests_that_fail)
{
    static const struct {
        enum disk_op op;
        uint64_t nth, count;
        int rc;
    } plans[] = {
        {DISK_WRITE, 40, 1, -EIO},   {DISK_WRITE, 40, 1, -ENOSPC}, {DISK_WRITE, 40, 0, -ENOSPC},
        {DISK_SYNC_ALL, 6, 1, -EIO}, {DISK_SYNC_ALL, 6, 0, -EIO},  {DISK_TRUNCATE, 2, 1, -EIO},
        {DISK_RENAME, 1, 1, -EIO},   {DISK_READ, 6, 1, -EIO},      {DISK_OPEN, 2, 1, -EIO},
        {DISK_SYNC_DIR, 1, 1, -EIO}, {DISK_STAT, 3, 1, -EIO},      {DISK_LOCK, 1, 1, -EIO},
    };
    struct world w;
    begin(&w, testing_seed(), 80);
    process_kill(&w, false);
    size_t failed = 0;
    for (size_t i = 0; i < 5 * ARRAY_COUNT(plans); i++) {
        size_t p = i % ARRAY_COUNT(plans);
        uint64_t nth = rand_range(&w.life.rig.rand, 1, plans[p].nth);
        failed += fault_run(&w, plans[p].op, nth, plans[p].count, plans[p].rc);
    }
    CHECK_TRUE(failed > 2 * ARRAY_COUNT(plans));
    end(&w);
}

TEST(memory_that_is_short)
{
    struct world w;
    struct fault *fault = fault_new();
    CHECK_TRUE(fault != NULL);
    begin(&w, testing_seed(), 60);
    process_kill(&w, false);
    for (uint64_t i = 0; i < 60; i++) {
        process_begin(&w, 0);
        w.life.fault = fault;
        rig_life_run(&w.life, rig_life_domain_in);
        fault_arm(fault, "mem.alloc", 1 + i, 1 + i % 3);
        int rc = rig_stream_open(&w.stream);
        rc = rc < 0 ? rc : put_some(&w, UINT64_MAX);
        CHECK_TRUE(rc == -ENOMEM || w.stream.put.whole);
        fault_disarm(fault, NULL);
        w.life.fault = NULL;
        if (w.stream.receiver == NULL) {
            CHECK_OK(rig_stream_open(&w.stream));
        }
        if (w.stream.put.whole) {
            rig_stream_close(&w.stream);
            w.stream.put.whole = false;
            CHECK_TRUE(is_there(&w));
            loop_sim_enter(w.life.rig.machine.loop, remove_in, &w);
        } else {
            put_rest(&w);
        }
        process_kill(&w, false);
    }
    end(&w);
    fault = fault_free(fault);
    CHECK_TRUE(fault == NULL);
}

/* A whole stream, with the nth allocation failing: true when there is none so late. */
static bool starve_receiver(struct world *w, struct rig_starve *x)
{
    process_begin(w, 0);
    size_t bytes = rig_starve_bytes(x);
    rig_starve_begin(x);
    int rc = rig_stream_open(&w->stream);
    rc = rc < 0 ? rc : put_some(w, UINT64_MAX);
    bool all = rig_starve_end(x);
    CHECK_TRUE(rc == 0 || (rc == -ENOMEM && !all));
    if (rc == 0) {
        rig_stream_close(&w->stream);
        w->stream.put.whole = false;
        CHECK_TRUE(is_there(w));
        loop_sim_enter(w->life.rig.machine.loop, remove_in, w);
    } else {
        if (w->stream.receiver == NULL) {
            CHECK_OK(rig_stream_open(&w->stream));
        }
        put_rest(w); /* from the frame that it could not take */
    }
    CHECK_EQ(rig_starve_bytes(x), bytes);
    process_kill(w, false);
    return all;
}

TEST(each_allocation_of_a_receiver_fails_once)
{
    CLEANUP(fault_freep) struct fault *fault = fault_new();
    struct world w;
    struct rig_starve x = {.life = &w.life, .fault = fault, .nth = 1};
    CHECK_TRUE(fault != NULL);
    begin(&w, testing_seed(), 60);
    process_kill(&w, false);
    while (!starve_receiver(&w, &x)) {
        CHECK_TRUE(++x.nth < 20000);
    }
    CHECK_TRUE(x.nth > 10);
    end(&w);
}

/* ---- a partial file that was cut ---- */

struct cut {
    struct world *w;
    struct file_bytes whole;
    size_t len;
};

static void take_partial_in(void *ctx)
{
    struct cut *c = ctx;
    void *bytes = NULL;
    struct mem_domain *was = mem_domain_enter(NULL);
    CHECK_OK(disk_load(c->w->life.rig.env.disk, PARTIAL, 64u << 20, &bytes, &c->whole.len));
    c->whole.at = bytes;
    (void)mem_domain_enter(was);
}

static void cut_in(void *ctx)
{
    struct cut *c = ctx;
    CHECK_OK(disk_store(c->w->life.rig.env.disk, PARTIAL, c->whole.at, c->len));
}

/* As far as the file goes, a receiver goes on or begins anew; the number of its next frame. */
static uint64_t cut_open(struct cut *c, size_t len)
{
    c->len = len;
    loop_sim_enter(c->w->life.rig.machine.loop, cut_in, c);
    CHECK_OK(rig_stream_open(&c->w->stream));
    return kv_receiver_cursor(c->w->stream.receiver).number;
}

/* And it becomes the right file. */
static void cut_goes_on(struct cut *c)
{
    struct world *w = c->w;
    CHECK_OK(put_some(w, UINT64_MAX));
    rig_stream_close(&w->stream);
    w->stream.put.whole = false;
    CHECK_TRUE(is_there(w));
    loop_sim_enter(w->life.rig.machine.loop, remove_in, w);
}

/* Records, header of the stream, the first page of its table and what follows that. */
static bool cut_is_dense(size_t len)
{
    size_t unit = len / UNIT;
    return (unit >= 1 && unit <= 4) || (unit >= 17 && unit <= 19);
}

/* Of those every byte is the last one once; of what else there is the bytes around the ends of
 * units. */
TEST(a_partial_file_that_is_cut_anywhere)
{
    struct world w;
    struct cut c = {.w = &w};
    unsigned anew = 0, on = 0;
    uint64_t before = 0;
    begin(&w, testing_seed(), 80);
    CHECK_OK(rig_stream_open(&w.stream));
    CHECK_OK(put_some(&w, w.frames.count - 1));
    rig_stream_close(&w.stream);
    loop_sim_enter(w.life.rig.machine.loop, take_partial_in, &c);
    CHECK_TRUE(c.whole.len > 20 * UNIT);
    for (size_t len = 0; len <= c.whole.len; len++) {
        uint64_t number = cut_open(&c, len);
        CHECK_TRUE(number >= before); /* the more is there, the later it goes on */
        before = number;
        anew += number == 0;
        on += number > 0;
        if (len % UNIT < 2 || len == c.whole.len) {
            cut_goes_on(&c);
        } else {
            rig_stream_close(&w.stream);
        }
        if (!cut_is_dense(len) && len % UNIT == 2 && c.whole.len - len > UNIT) {
            len += UNIT - 4; /* the last one of this unit is next */
        }
    }
    CHECK_TRUE(anew > 4 * UNIT && on > 0);
    mem_free(c.whole.at);
    end(&w);
}
