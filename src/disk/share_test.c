/*
 * disk/share_test.c -- who gets how much of a disk, on a disk that exists only here: as many
 * requests at a time as there are places, each takes as long as it costs.
 */
#include "disk/share_priv.h"

#include "base/rand.h"
#include "testing/testing.h"

#define DEPTH 32u
#define PLACES 256u /* requests of a test, each queue */
#define NS_PER_COST 1000u

struct job {
    struct disk_share_turn turn; /* first: of the pointers that come back */
    uint64_t end_ns, number;
    bool runs;
};

struct bench {
    struct disk_share share;
    uint64_t now_ns, number;
    struct job job[DISK_SHARE_QUEUES][PLACES];
    struct disk_req req[DISK_SHARE_QUEUES];
    unsigned wanted[DISK_SHARE_QUEUES]; /* so many are always there; less: they run out */
    uint64_t cost[DISK_SHARE_QUEUES], begun[DISK_SHARE_QUEUES], ended[DISK_SHARE_QUEUES];
};

static struct disk_req request(enum disk_share_queue q, uint64_t len)
{
    struct disk_req req = {.op = q == DISK_SHARE_WRITES ? DISK_WRITE : DISK_READ, .len = len};
    req.lane = q == DISK_SHARE_COPYING     ? DISK_COPYING
               : q == DISK_SHARE_SCRUBBING ? DISK_SCRUBBING
                                           : DISK_FOREGROUND;
    return req;
}

static void bench_init(struct bench *b)
{
    *b = (struct bench){.now_ns = 1000000000};
    disk_share_init(&b->share, DEPTH, 100);
    for (unsigned q = 0; q < DISK_SHARE_QUEUES; q++) {
        b->req[q] = request((enum disk_share_queue)q, 64u << 10);
    }
}

static void begin_what_may(struct bench *b)
{
    for (struct disk_share_turn *t; (t = disk_share_next(&b->share, b->now_ns)) != NULL;) {
        struct job *j = container_of(t, struct job, turn);
        CHECK_TRUE(!j->runs);
        j->runs = true;
        j->end_ns = b->now_ns + (uint64_t)t->cost * NS_PER_COST;
        b->begun[t->queue]++;
        b->cost[t->queue] += t->cost;
        CHECK_TRUE(b->share.under_way <= DEPTH);
    }
}

static void enter(struct bench *b, enum disk_share_queue q, struct job *j)
{
    *j = (struct job){.number = ++b->number};
    disk_share_enter(&b->share, &j->turn, &b->req[q], b->now_ns);
    CHECK_EQ(j->turn.queue, q);
}

/* The request that ends first, and what begins then. False: nothing runs. */
static bool step(struct bench *b)
{
    struct job *first = NULL;
    for (unsigned q = 0; q < DISK_SHARE_QUEUES; q++) {
        for (unsigned i = 0; i < b->wanted[q]; i++) {
            struct job *j = &b->job[q][i];
            bool earlier = first == NULL || j->end_ns < first->end_ns ||
                           (j->end_ns == first->end_ns && j->number < first->number);
            first = j->runs && earlier ? j : first;
        }
    }
    if (first == NULL) {
        return false;
    }
    enum disk_share_queue q = first->turn.queue;
    b->now_ns = first->end_ns;
    b->ended[q]++;
    disk_share_leave(&b->share, &first->turn, b->now_ns);
    enter(b, q, first);
    begin_what_may(b);
    return true;
}

/* `count` requests of `len` bytes each are always there from now on. */
static void want(struct bench *b, enum disk_share_queue q, unsigned count, uint64_t len)
{
    b->req[q] = request(q, len);
    for (unsigned i = b->wanted[q]; i < count; i++) {
        enter(b, q, &b->job[q][i]);
    }
    b->wanted[q] = count;
}

static void run_for(struct bench *b, unsigned steps)
{
    begin_what_may(b);
    for (unsigned i = 0; i < steps; i++) {
        CHECK_TRUE(step(b));
    }
}

/* In parts of a thousand. */
static uint64_t part(const struct bench *b, enum disk_share_queue q)
{
    uint64_t all = 0;
    for (unsigned i = 0; i < DISK_SHARE_QUEUES; i++) {
        all += b->cost[i];
    }
    return b->cost[q] * 1000 / all;
}

TEST(queues_follow_from_requests)
{
    static const enum disk_op reads[] = {DISK_READ,   DISK_SEND, DISK_STAT,
                                         DISK_STATFS, DISK_LIST, DISK_OPEN};
    static const enum disk_op writes[] = {DISK_WRITE, DISK_SYNC, DISK_CLOSE, DISK_PUNCH};
    for (size_t i = 0; i < ARRAY_COUNT(reads); i++) {
        struct disk_req req = {.op = reads[i]};
        CHECK_EQ(disk_share_queue_of(&req), DISK_SHARE_READS);
        req.lane = DISK_SCRUBBING;
        CHECK_EQ(disk_share_queue_of(&req), DISK_SHARE_SCRUBBING);
    }
    for (size_t i = 0; i < ARRAY_COUNT(writes); i++) {
        struct disk_req req = {.op = writes[i]};
        CHECK_EQ(disk_share_queue_of(&req), DISK_SHARE_WRITES);
        req.lane = DISK_COPYING;
        CHECK_EQ(disk_share_queue_of(&req), DISK_SHARE_COPYING);
    }
    struct disk_req create = {.op = DISK_OPEN, .flags = DISK_READ_WRITE | DISK_CREATE};
    CHECK_EQ(disk_share_queue_of(&create), DISK_SHARE_WRITES);
}

TEST(whoever_is_alone_gets_all)
{
    static const struct {
        enum disk_share_queue queue;
        unsigned under_way;
    } alone[] = {{DISK_SHARE_READS, DEPTH - DEPTH / 8},
                 {DISK_SHARE_WRITES, DEPTH - DEPTH / 8},
                 {DISK_SHARE_COPYING, DEPTH / 4},
                 {DISK_SHARE_SCRUBBING, DEPTH / 8}};
    for (size_t i = 0; i < ARRAY_COUNT(alone); i++) {
        static struct bench b;
        bench_init(&b);
        want(&b, alone[i].queue, 100, 4096);
        run_for(&b, 1000);
        CHECK_EQ(b.share.under_way, alone[i].under_way);
        CHECK_EQ(b.ended[alone[i].queue], 1000);
    }
}

/* All four want more than they can get: reads and writes have the same part, the others what their
 * few places are worth, and nobody has nothing. */
TEST(all_get_their_part)
{
    static struct bench b;
    bench_init(&b);
    for (unsigned q = 0; q < DISK_SHARE_QUEUES; q++) {
        want(&b, (enum disk_share_queue)q, 100, 64u << 10);
    }
    run_for(&b, 20000);
    CHECK_TRUE(part(&b, DISK_SHARE_READS) >= 455 && part(&b, DISK_SHARE_READS) <= 480);
    CHECK_TRUE(part(&b, DISK_SHARE_WRITES) >= 455 && part(&b, DISK_SHARE_WRITES) <= 480);
    CHECK_TRUE(part(&b, DISK_SHARE_COPYING) >= 25 && part(&b, DISK_SHARE_COPYING) <= 35);
    CHECK_TRUE(part(&b, DISK_SHARE_SCRUBBING) >= 25 && part(&b, DISK_SHARE_SCRUBBING) <= 35);
}

/* What is shared is the disk, not the number of requests: small reads beside large writes. */
TEST(large_requests_do_not_get_more)
{
    static struct bench b;
    bench_init(&b);
    want(&b, DISK_SHARE_READS, 200, 4096);
    want(&b, DISK_SHARE_WRITES, 200, 1u << 20);
    run_for(&b, 50000);
    CHECK_TRUE(part(&b, DISK_SHARE_READS) >= 480 && part(&b, DISK_SHARE_READS) <= 520);
    CHECK_TRUE(b.ended[DISK_SHARE_READS] > 10 * b.ended[DISK_SHARE_WRITES]);
}

/* Large copies on a disk that is used: one at a time, and its part at most. */
TEST(copying_cannot_take_more_than_its_part)
{
    static struct bench b;
    bench_init(&b);
    want(&b, DISK_SHARE_READS, 200, 4096);
    want(&b, DISK_SHARE_COPYING, 50, 4u << 20);
    run_for(&b, 50000);
    CHECK_TRUE(b.share.flow[DISK_SHARE_COPYING].under_way <= 1);
    CHECK_TRUE(part(&b, DISK_SHARE_COPYING) <= 210); /* 2 of 8 and 2 */
    CHECK_TRUE(b.ended[DISK_SHARE_COPYING] > 10);
}

/* However much people want: between two of the background there are only so many of theirs. */
TEST(nobody_starves)
{
    static struct bench b;
    bench_init(&b);
    want(&b, DISK_SHARE_READS, 250, 4096);
    want(&b, DISK_SHARE_WRITES, 250, 4096);
    run_for(&b, 500);
    want(&b, DISK_SHARE_COPYING, 10, 4096);
    want(&b, DISK_SHARE_SCRUBBING, 10, 4096);
    begin_what_may(&b);
    uint64_t copying = 0, scrubbing = 0, since_copy = 0, since_scrub = 0;
    for (unsigned i = 0; i < 20000; i++) {
        CHECK_TRUE(step(&b));
        since_copy = b.begun[DISK_SHARE_COPYING] == copying ? since_copy + 1 : 0;
        since_scrub = b.begun[DISK_SHARE_SCRUBBING] == scrubbing ? since_scrub + 1 : 0;
        copying = b.begun[DISK_SHARE_COPYING];
        scrubbing = b.begun[DISK_SHARE_SCRUBBING];
        CHECK_TRUE(since_copy <= 2 * DEPTH);
        CHECK_TRUE(since_scrub <= 3 * DEPTH);
    }
}

TEST(the_background_yields_while_people_come_and_a_while_after)
{
    static struct bench b;
    bench_init(&b);
    CHECK_EQ(disk_share_limit(&b.share, DISK_SHARE_COPYING, b.now_ns), DEPTH / 4);
    CHECK_EQ(disk_share_limit(&b.share, DISK_SHARE_SCRUBBING, b.now_ns), DEPTH / 8);
    struct job read;
    enter(&b, DISK_SHARE_READS, &read);
    CHECK_EQ(disk_share_limit(&b.share, DISK_SHARE_COPYING, b.now_ns), 1);
    CHECK_EQ(disk_share_limit(&b.share, DISK_SHARE_SCRUBBING, b.now_ns), 1);
    begin_what_may(&b);
    b.now_ns += 10 * DISK_SHARE_QUIET_NS; /* it takes that long */
    CHECK_EQ(disk_share_limit(&b.share, DISK_SHARE_COPYING, b.now_ns), 1);
    disk_share_leave(&b.share, &read.turn, b.now_ns);
    b.now_ns += DISK_SHARE_QUIET_NS - 1;
    CHECK_EQ(disk_share_limit(&b.share, DISK_SHARE_COPYING, b.now_ns), 1);
    CHECK_EQ(disk_share_limit(&b.share, DISK_SHARE_SCRUBBING, b.now_ns), 1);
    b.now_ns++;
    CHECK_EQ(disk_share_limit(&b.share, DISK_SHARE_COPYING, b.now_ns), DEPTH / 4);
    CHECK_EQ(disk_share_limit(&b.share, DISK_SHARE_SCRUBBING, b.now_ns), DEPTH / 8);
}

/* It does not need a clock of its own: the ends of its own requests are enough. */
TEST(the_background_takes_more_when_it_is_alone_again)
{
    static struct bench b;
    bench_init(&b);
    struct job read;
    enter(&b, DISK_SHARE_READS, &read);
    want(&b, DISK_SHARE_COPYING, 50, 1u << 20);
    begin_what_may(&b);
    CHECK_EQ(b.share.flow[DISK_SHARE_COPYING].under_way, 1);
    b.now_ns += 1000;
    disk_share_leave(&b.share, &read.turn, b.now_ns);
    begin_what_may(&b);
    CHECK_EQ(b.share.flow[DISK_SHARE_COPYING].under_way, 1);
    b.now_ns += DISK_SHARE_QUIET_NS;
    struct job *running = b.job[DISK_SHARE_COPYING];
    running[0].end_ns = b.now_ns;
    CHECK_TRUE(step(&b));
    CHECK_EQ(b.share.flow[DISK_SHARE_COPYING].under_way, DEPTH / 4);
}

/* Who was away for long gets half of the disk when he comes back, not all that he has missed. */
TEST(nothing_is_saved_up)
{
    static struct bench b;
    bench_init(&b);
    want(&b, DISK_SHARE_WRITES, 100, 64u << 10);
    run_for(&b, 20000);
    for (unsigned q = 0; q < DISK_SHARE_QUEUES; q++) {
        b.cost[q] = 0;
    }
    want(&b, DISK_SHARE_READS, 100, 64u << 10);
    run_for(&b, 400);
    CHECK_TRUE(part(&b, DISK_SHARE_READS) >= 400 && part(&b, DISK_SHARE_READS) <= 600);
}

TEST(only_so_many_of_the_background_may_wait)
{
    static struct bench b;
    bench_init(&b);
    for (unsigned i = 0; i < 100; i++) {
        CHECK_TRUE(disk_share_admits(&b.share, &b.req[DISK_SHARE_SCRUBBING]));
        enter(&b, DISK_SHARE_SCRUBBING, &b.job[DISK_SHARE_SCRUBBING][i]);
        enter(&b, DISK_SHARE_READS, &b.job[DISK_SHARE_READS][i]);
    }
    CHECK_TRUE(!disk_share_admits(&b.share, &b.req[DISK_SHARE_SCRUBBING]));
    CHECK_TRUE(disk_share_admits(&b.share, &b.req[DISK_SHARE_COPYING]));
    CHECK_TRUE(disk_share_admits(&b.share, &b.req[DISK_SHARE_READS]));
    begin_what_may(&b);
    CHECK_TRUE(disk_share_admits(&b.share, &b.req[DISK_SHARE_SCRUBBING]));
}

/* Whatever comes and goes: limits hold, each queue is served in order, and nobody waits while there
 * is room for him. */
static void check_at_rest(const struct bench *b)
{
    unsigned under_way = 0;
    for (unsigned q = 0; q < DISK_SHARE_QUEUES; q++) {
        const struct disk_share_flow *f = &b->share.flow[q];
        unsigned limit = disk_share_limit(&b->share, (enum disk_share_queue)q, b->now_ns);
        CHECK_TRUE(limit > 0);
        under_way += f->under_way;
        CHECK_TRUE(f->waiting_count == 0 || b->share.under_way == DEPTH || f->under_way >= limit);
    }
    CHECK_EQ(under_way, b->share.under_way);
    CHECK_TRUE(under_way <= DEPTH);
}

TEST(whatever_comes_and_goes)
{
    static struct bench b;
    struct rand r;
    bench_init(&b);
    rand_seed(&r, testing_seed());
    uint64_t last[DISK_SHARE_QUEUES] = {0};
    unsigned used[DISK_SHARE_QUEUES] = {0};
    for (unsigned i = 0; i < 20000; i++) {
        enum disk_share_queue q = (enum disk_share_queue)rand_below(&r, DISK_SHARE_QUEUES);
        struct job *j = &b.job[q][rand_below(&r, PLACES)];
        b.now_ns += rand_chance(&r, 1, 100) ? rand_below(&r, 2 * DISK_SHARE_QUIET_NS)
                                            : rand_below(&r, 100000);
        if (j->number == 0) {
            b.req[q] = request(q, rand_below(&r, 8u << 20));
            enter(&b, q, j);
            used[q]++;
        } else if (j->runs) {
            disk_share_leave(&b.share, &j->turn, b.now_ns);
            *j = (struct job){.number = 0};
            used[q]--;
        }
        for (struct disk_share_turn *t; (t = disk_share_next(&b.share, b.now_ns)) != NULL;) {
            struct job *begun = container_of(t, struct job, turn);
            CHECK_TRUE(begun->number > last[t->queue]);
            last[t->queue] = begun->number;
            begun->runs = true;
        }
        check_at_rest(&b);
        CHECK_EQ(b.share.flow[q].under_way + b.share.flow[q].waiting_count, used[q]);
    }
}
