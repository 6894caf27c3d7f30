/*
 * tree/stream_test.c -- checkpoints that go to another file frame by frame, while the tree they are
 * of goes on: what arrives is the model of the checkpoint's index, in a file that can be used.
 */
#include "tree/check.h"
#include "tree/rig_starve_priv.h"
#include "tree/rig_stream_priv.h"

#define PIN_CHECKPOINTS 12u

struct world {
    struct rig_life life;
    struct rig_stream stream;
};

static void begin(struct world *w, uint64_t seed)
{
    struct tree_options *o = &w->life.rig.opt;
    rig_life_init(&w->life, seed);
    o->memtable_bytes = seed % 3 == 0 ? 8u << 10 : 16u << 10;
    o->cache_bytes = seed % 2 == 0 ? 320u << 10 : 1u << 20;
    o->writes_max = 1 + (unsigned)(seed % 3);
    o->snapshot_bytes = 64u << 20;
    rig_life_kill(&w->life, true);
    CHECK_OK(rig_life_open(&w->life));
    rig_stream_init(&w->stream, &w->life);
}

static void end(struct world *w)
{
    rig_stream_fini(&w->stream);
    rig_life_fini(&w->life);
}

/* The tree goes on: commits, checkpoints, memory that is taken away. */
static void act(struct world *w)
{
    struct rig_life *l = &w->life;
    uint64_t dice = rand_below(&l->rig.rand, 100);
    if (dice < 60) {
        int rc = rig_life_commit(l);
        CHECK_TRUE(rc == 0 || rc == -ERR_busy);
        rig_life_steps(l, rc == 0 ? rand_below(&l->rig.rand, 8) : 15);
    } else if (dice < 75 && !l->checkpointing) {
        rig_life_run(l, rig_life_checkpoint_in);
    } else if (dice < 80) {
        rig_life_run(l, rig_life_evict_in);
    } else {
        rig_life_steps(l, rand_below(&l->rig.rand, 30));
    }
}

/* ---- what has arrived ---- */

static void found_damage(void *arg, const struct tree_finding *f)
{
    (void)arg;
    if (f->severity == TREE_FINDING_DAMAGE) {
        fprintf(stderr, "%s: %s\n", f->code, f->text);
    }
}

static void check_copy_in(void *ctx)
{
    struct rig_stream *s = ctx;
    struct tree_check_result r;
    struct tree_check_options opt = {
        .disk = s->life->rig.env.disk, .path = RIG_COPY, .level = 4, .found = found_damage};
    CHECK_OK(tree_check(&opt, &r, &s->err));
    CHECK_EQ(r.damages, 0);
    CHECK_EQ(r.warnings, 0);
}

/* The copy is a tree of that index, level by level, record by record; and goes on as one. */
static void check_copy(struct world *w, uint64_t index)
{
    struct rig_life *l = &w->life;
    loop_sim_enter(l->rig.machine.loop, check_copy_in, &w->stream);
    rig_life_kill(l, rand_chance(&l->rig.rand, 1, 2));
    l->rig.opt.path = RIG_COPY;
    l->durable = 0;
    CHECK_OK(rig_life_open(l));
    CHECK_EQ(l->rig.found.index, index);
    CHECK_EQ(l->rig.found.term, 7);
    CHECK_OK(rig_life_check(l, 3));
    rig_life_commit_to(l, index + 60);
    CHECK_OK(rig_life_save(l));
    rig_life_commit_to(l, index + 80);
    CHECK_OK(rig_life_save(l));
    CHECK_OK(rig_life_check(l, 3));
    rig_life_stop(l);
}

/* ---- streams ---- */

/* One frame from the sender to the receiver; connections break, frames come twice. */
static bool step(struct world *w)
{
    struct rig_stream *s = &w->stream;
    struct rand *r = &w->life.rig.rand;
    struct kv_cursor at = kv_receiver_cursor(s->receiver);
    if (rig_stream_read(s, &at) < 0) {
        fprintf(stderr, "read: %s\n", s->read.err.text);
    }
    CHECK_OK(s->rc);
    if (rand_chance(r, 1, 10)) {
        return false; /* lost on the way */
    }
    int rc = rig_stream_put(s, s->buf, s->read.len);
    if (rc < 0) {
        fprintf(stderr, "put: %s\n", s->put.err.text);
    }
    CHECK_OK(rc);
    CHECK_TRUE(s->put.whole == s->read.last);
    CHECK_EQ(kv_receiver_cursor(s->receiver).chain, s->read.next.chain);
    if (!s->read.last && rand_chance(r, 1, 10)) { /* and again */
        CHECK_RC(rig_stream_put(s, s->buf, s->read.len), ERR_bad_value);
        CHECK_TRUE(strstr(s->put.err.text, "came again") != NULL);
    }
    return s->read.last;
}

/* How many times it did not get any further: a connection broke, the receiver died. */
static unsigned stream_run(uint64_t seed, uint64_t index)
{
    struct world w;
    begin(&w, seed);
    struct rig_life *l = &w.life;
    struct rig_stream *s = &w.stream;
    rig_life_commit_to(l, index);
    CHECK_OK(rig_life_save(l));
    for (uint64_t i = rand_below(&l->rig.rand, 20); i > 0; i--) {
        act(&w);
    }
    CHECK_OK(rig_stream_pin(s));
    uint64_t pinned = s->pin->index;
    CHECK_OK(rig_stream_open(s));
    uint64_t frames = 0;
    unsigned again = 0;
    while (!step(&w)) {
        again += kv_receiver_cursor(s->receiver).number <= frames ? 1 : 0;
        frames = kv_receiver_cursor(s->receiver).number;
        for (uint64_t i = rand_below(&l->rig.rand, 6); i > 0; i--) {
            act(&w);
        }
        if (rand_chance(&l->rig.rand, 1, 25)) { /* the receiver dies */
            rig_stream_close(s);
            CHECK_OK(rig_stream_open(s));
        }
    }
    rig_stream_close(s);
    rig_stream_unpin(s);
    rig_life_save(l);
    CHECK_OK(rig_life_check(l, 5));
    check_copy(&w, pinned);
    end(&w);
    return again;
}

TEST(an_empty_tree_is_streamed)
{
    struct world w;
    begin(&w, testing_seed());
    CHECK_OK(rig_stream_pin(&w.stream));
    CHECK_EQ(w.stream.pin->index, 0);
    CHECK_OK(rig_stream_open(&w.stream));
    while (!step(&w)) {
    }
    rig_stream_close(&w.stream);
    rig_stream_unpin(&w.stream);
    loop_sim_enter(w.life.rig.machine.loop, check_copy_in, &w.stream);
    end(&w);
}

TEST(a_checkpoint_is_streamed_while_the_tree_goes_on)
{
    unsigned again = 0;
    for (uint64_t i = 0; i < 6; i++) {
        again += stream_run(testing_seed() + i, 20 + i * 60);
    }
    CHECK_TRUE(again > 0);
}

/* ---- pins ---- */

static void grow(struct world *w, uint64_t index)
{
    rig_life_commit_to(&w->life, index);
    CHECK_OK(rig_life_save(&w->life));
}

struct counts {
    struct world *w;
    struct kv_statistics kv;
};
static void counts_in(void *ctx)
{
    struct counts *c = ctx;
    c->kv = kv_statistics(c->w->life.rig.kv);
}
static struct kv_statistics counts(struct world *w)
{
    struct counts c = {.w = w};
    loop_sim_enter(w->life.rig.machine.loop, counts_in, &c);
    return c.kv;
}

/* What it names is not used again, however many checkpoints come; then it is. */
TEST(a_pin_is_held_across_checkpoints)
{
    struct world w;
    struct rig_frames before, after;
    begin(&w, testing_seed());
    grow(&w, 150);
    CHECK_OK(rig_stream_pin(&w.stream));
    rig_stream_read_all(&w.stream, &before);
    for (uint64_t i = 1; i <= PIN_CHECKPOINTS; i++) {
        grow(&w, 150 + i * 20);
    }
    struct kv_statistics s = counts(&w);
    CHECK_EQ(s.pins, 1);
    CHECK_TRUE(s.pinned_bytes > 0 && s.pinned_bytes <= s.file_bytes);
    rig_stream_read_all(&w.stream, &after);
    CHECK_EQ(after.count, before.count);
    for (size_t i = 0; i < after.count; i++) {
        CHECK_EQ(after.len[i], before.len[i]);
        CHECK_TRUE(memcmp(after.frame[i], before.frame[i], after.len[i]) == 0);
    }
    struct tree_statistics less;
    rig_stream_unpin(&w.stream);
    CHECK_EQ(counts(&w).pins, 0);
    CHECK_EQ(counts(&w).pinned_bytes, 0);
    tree_statistics(w.life.rig.kv, &less);
    CHECK_EQ(less.pinned_bytes, 0);
    for (uint64_t i = 1; i <= 3; i++) { /* the space is used again */
        grow(&w, 150 + (PIN_CHECKPOINTS + i) * 20);
    }
    CHECK_OK(rig_life_check(&w.life, 5));
    rig_frames_fini(&before);
    rig_frames_fini(&after);
    rig_life_stop(&w.life);
    end(&w);
}

static void three_in(void *ctx)
{
    struct rig_stream *s = ctx;
    struct kv_pin *pin[KV_PINS_MAX], *more = NULL;
    for (unsigned i = 0; i < KV_PINS_MAX; i++) {
        CHECK_OK(kv_pin_new(s->life->rig.kv, &pin[i]));
    }
    CHECK_RC(kv_pin_new(s->life->rig.kv, &more), ENOBUFS);
    for (unsigned i = 0; i < KV_PINS_MAX; i++) {
        pin[i] = kv_pin_free(pin[i]);
    }
    CHECK_TRUE(kv_pin_free(NULL) == NULL);
}

/* Its owner gives up while a frame is being read. */
TEST(pins_are_few_and_may_go_at_any_time)
{
    struct world w;
    struct kv_cursor none = {0};
    begin(&w, testing_seed());
    grow(&w, 60);
    loop_sim_enter(w.life.rig.machine.loop, three_in, &w.stream);
    CHECK_OK(rig_stream_pin(&w.stream));
    rig_stream_ask(&w.stream, &none);
    rig_stream_unpin(&w.stream);
    CHECK_TRUE(w.stream.reading);
    CHECK_TRUE(
        testing_machine_until(&w.life.rig.machine, rig_stream_not_reading, &w.stream, 60000));
    CHECK_RC(w.stream.rc, ECANCELED);
    CHECK_OK(rig_stream_pin(&w.stream));
    rig_stream_ask(&w.stream, &none);
    rig_life_run(&w.life, rig_life_stop_in); /* waits for it */
    CHECK_TRUE(testing_machine_until(&w.life.rig.machine, rig_tree_over, &w.life.rig, 60000));
    CHECK_TRUE(!w.stream.reading && w.stream.rc == 0);
    CHECK_RC(rig_stream_read(&w.stream, &none), ECANCELED);
    rig_stream_unpin(&w.stream);
    rig_life_run(&w.life, rig_life_free_in);
    end(&w);
}

TEST(a_restart_forgets_pins)
{
    struct world w;
    struct kv_cursor none = {0};
    begin(&w, testing_seed());
    grow(&w, 60);
    CHECK_OK(rig_stream_pin(&w.stream));
    CHECK_OK(rig_stream_read(&w.stream, &none));
    struct kv_cursor next = w.stream.read.next;
    rig_life_kill(&w.life, true);
    rig_stream_killed(&w.stream);
    CHECK_OK(rig_life_open(&w.life));
    CHECK_EQ(counts(&w).pins, 0);
    CHECK_OK(rig_stream_pin(&w.stream)); /* it is the same checkpoint still */
    CHECK_OK(rig_stream_read(&w.stream, &next));
    rig_stream_unpin(&w.stream);
    grow(&w, 70);
    CHECK_OK(rig_stream_pin(&w.stream));
    CHECK_RC(rig_stream_read(&w.stream, &next), ESTALE);
    CHECK_TRUE(strstr(w.stream.read.err.text, "not here any more") != NULL);
    rig_stream_unpin(&w.stream);
    end(&w);
}

TEST(cursors_that_name_nothing)
{
    static const struct kv_place places[] = {
        {.kind = 7},
        {.kind = TREE_STREAM_PAGES, .item = 1000},
        {.kind = TREE_STREAM_PAGES, .part = 1},
        {.kind = TREE_STREAM_HEADER, .offset = 1},
        {.kind = TREE_STREAM_DROPS, .offset = 1u << 30},
        {.kind = TREE_STREAM_PIECE, .item = 900},
        {.kind = TREE_STREAM_NODE, .item = 0},
        {.kind = TREE_STREAM_NODE, .item = UINT64_MAX},
        {.kind = TREE_STREAM_NODE, .item = 1, .part = 200},
        {.kind = TREE_STREAM_NODE, .item = 1, .offset = 1},
        {.kind = TREE_STREAM_END, .item = 1},
    };
    struct world w;
    struct kv_cursor at = {0};
    begin(&w, testing_seed());
    grow(&w, 100);
    CHECK_OK(rig_stream_pin(&w.stream));
    CHECK_OK(rig_stream_read(&w.stream, &at));
    at = w.stream.read.next;
    for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
        at.place = places[i];
        CHECK_RC(rig_stream_read(&w.stream, &at), ERR_bad_value);
        CHECK_TRUE(strstr(w.stream.read.err.text, "no frame begins at") != NULL);
    }
    rig_stream_unpin(&w.stream);
    end(&w);
}

/* ---- a sender in trouble ---- */

/* Reads all; each frame is as it was before, or it fails. Frames that are read. */
static size_t read_on(struct world *w, const struct rig_frames *was, bool *ret_same)
{
    struct kv_cursor at = {0};
    size_t i = 0;
    *ret_same = true;
    while (i < was->count && *ret_same && rig_stream_read(&w->stream, &at) == 0) {
        *ret_same = w->stream.read.len == was->len[i] &&
                    memcmp(w->stream.buf, was->frame[i], was->len[i]) == 0;
        at = w->stream.read.next;
        i++;
    }
    return i;
}

/* Where frame `i` has its bytes on the disk, if it begins a node; else 0. */
static uint64_t place_of(struct world *w, const struct rig_frames *f, size_t i)
{
    const struct tree *t = tree_of(w->life.rig.kv);
    const struct kv_place *p = &f->at[i].place;
    struct tree_file_place found;
    if (p->kind != TREE_STREAM_NODE || p->part != 0 || p->offset != 0 ||
        tree_file_find(t->file, p->item, &found) < 0 ||
        found.birth > tree_file_super(t->file)->checkpoint) { /* it was written again */
        return 0;
    }
    return tree_space_offset(found.extent);
}

/* How many nodes were damaged in turn, none of which was sent. */
static size_t damage_run(uint64_t seed)
{
    struct world w;
    struct rig_frames was;
    size_t damaged = 0;
    begin(&w, seed);
    grow(&w, 150);
    CHECK_OK(rig_stream_pin(&w.stream));
    rig_stream_read_all(&w.stream, &was);
    for (size_t i = 0; i < was.count; i++) {
        uint64_t offset = place_of(&w, &was, i);
        bool same = false;
        if (offset == 0) {
            continue;
        }
        char text[64];
        uint64_t at = rand_below(&w.life.rig.rand, 170); /* header, or the beginning of pivots */
        CHECK_OK(disk_sim_corrupt(w.life.rig.machine.disk, RIG_PATH, offset + at, 0x10));
        CHECK_EQ(read_on(&w, &was, &same), i); /* nothing wrong was sent */
        CHECK_TRUE(same);
        CHECK_ERR(w.stream.rc, ERR_corrupt);
        snprintf(text, sizeof text,
                 "block %llu, extent 0 at offset %llu:", (unsigned long long)was.at[i].place.item,
                 (unsigned long long)offset);
        CHECK_TRUE(strstr(w.stream.read.err.text, text) != NULL);
        CHECK_OK(disk_sim_corrupt(w.life.rig.machine.disk, RIG_PATH, offset + at, 0x10));
        damaged++;
    }
    bool same = false;
    CHECK_EQ(read_on(&w, &was, &same), was.count);
    CHECK_TRUE(same);
    rig_frames_fini(&was);
    rig_stream_unpin(&w.stream);
    end(&w);
    return damaged;
}

TEST(what_is_damaged_is_not_sent)
{
    size_t damaged = 0;
    for (uint64_t i = 0; i < 3; i++) {
        damaged += damage_run(testing_seed() + i);
    }
    CHECK_TRUE(damaged > 5);
}

/* Anywhere in the file: what is not found is in no part that somebody uses. */
TEST(damage_anywhere)
{
    struct world w;
    begin(&w, testing_seed());
    grow(&w, 120);
    struct rand *r = &w.life.rig.rand;
    CHECK_OK(rig_stream_pin(&w.stream));
    uint64_t pinned = w.stream.pin->index, size = counts(&w).file_bytes, missed = 0;
    for (unsigned i = 0; i < 40; i++) {
        uint64_t at = rand_below(r, base_min(size, w.stream.pin->bytes + 40960));
        CHECK_OK(disk_sim_corrupt(w.life.rig.machine.disk, RIG_PATH, at, 1));
        w.stream.opt.again = true;
        CHECK_OK(rig_stream_open(&w.stream));
        w.stream.opt.again = false;
        bool last = false;
        int rc = 0;
        while (!last && rc == 0) {
            struct kv_cursor c = kv_receiver_cursor(w.stream.receiver);
            rc = rig_stream_read(&w.stream, &c);
            if (rc == 0) {
                last = w.stream.read.last;
                CHECK_OK(rig_stream_put(&w.stream, w.stream.buf, w.stream.read.len));
            }
        }
        CHECK_TRUE(rc == 0 || err_is(rc, ERR_corrupt));
        rig_stream_close(&w.stream);
        CHECK_OK(disk_sim_corrupt(w.life.rig.machine.disk, RIG_PATH, at, 1));
        missed += last;
        if (last) {
            break;
        }
    }
    rig_stream_unpin(&w.stream);
    if (missed > 0) {
        check_copy(&w, pinned);
    }
    end(&w);
}

TEST(reads_that_fail_and_memory_that_is_short)
{
    struct world w;
    struct rig_frames was;
    struct fault *fault = fault_new();
    CHECK_TRUE(fault != NULL);
    begin(&w, testing_seed());
    grow(&w, 120);
    for (uint64_t i = 0; i < 30; i++) {
        bool same = false;
        CHECK_OK(rig_stream_pin(&w.stream));
        if (i == 0) {
            rig_stream_read_all(&w.stream, &was);
        } else if (i % 2 == 0) {
            disk_sim_fail(w.life.rig.machine.disk, DISK_READ, RIG_PATH, 1 + i % 9, 0, -EIO);
            CHECK_TRUE(read_on(&w, &was, &same) < was.count && same);
            CHECK_ERR(w.stream.rc, EIO);
            disk_sim_heal(w.life.rig.machine.disk);
        } else {
            w.life.fault = fault;
            rig_life_run(&w.life, rig_life_domain_in);
            fault_arm(fault, "mem.alloc", i / 2 + 1, 1);
            size_t got = read_on(&w, &was, &same);
            CHECK_TRUE(same && (got == was.count || w.stream.rc == -ENOMEM));
            fault_disarm(fault, NULL);
            w.life.fault = NULL;
            rig_life_run(&w.life, rig_life_domain_in);
        }
        CHECK_EQ(read_on(&w, &was, &same), was.count); /* it goes on */
        CHECK_TRUE(same);
        rig_stream_unpin(&w.stream);
    }
    rig_frames_fini(&was);
    end(&w);
    fault = fault_free(fault);
    CHECK_TRUE(fault == NULL);
}

/* A pin and all of its frames, with the nth allocation failing: true when there is none so late. */
static bool starve_sender(struct world *w, struct rig_starve *x, const struct rig_frames *was)
{
    struct rig_stream *s = &w->stream;
    size_t bytes = rig_starve_bytes(x), got = 0;
    bool same = true;
    rig_starve_begin(x);
    int rc = rig_stream_pin(s);
    if (rc == 0) {
        got = read_on(w, was, &same);
        rc = got < was->count ? s->rc : 0;
    }
    bool all = rig_starve_end(x);
    CHECK_TRUE(same && (rc == 0 || rc == -ENOMEM) && (rc == 0 || !all));
    if (s->pin == NULL) {
        CHECK_OK(rig_stream_pin(s));
    }
    while (got < was->count) { /* the frame that failed, and those behind it */
        CHECK_OK(rig_stream_read(s, &was->at[got]));
        CHECK_EQ(s->read.len, was->len[got]);
        CHECK_BYTES(s->buf, was->frame[got], was->len[got]);
        got++;
    }
    rig_stream_unpin(s);
    CHECK_EQ(rig_starve_bytes(x), bytes);
    return all;
}

TEST(each_allocation_of_a_sender_fails_once)
{
    CLEANUP(fault_freep) struct fault *fault = fault_new();
    struct world w;
    struct rig_frames was;
    struct rig_starve x = {.life = &w.life, .fault = fault, .nth = 1};
    CHECK_TRUE(fault != NULL);
    begin(&w, testing_seed());
    grow(&w, 120);
    rig_life_steps(&w.life, 2000); /* nothing else is under way */
    CHECK_OK(rig_stream_pin(&w.stream));
    rig_stream_read_all(&w.stream, &was);
    rig_stream_unpin(&w.stream);
    while (!starve_sender(&w, &x, &was)) {
        CHECK_TRUE(++x.nth < 20000);
    }
    CHECK_TRUE(x.nth > 10);
    rig_frames_fini(&was);
    rig_life_stop(&w.life);
    end(&w);
}
