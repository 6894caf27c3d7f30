#include "base/buf.h"

#include "testing/testing.h"

#include <string.h>

#define MAX_SIZE (64u << 10)
#define UNIT UINT64_C(4096)

static struct buf_pool *pool_of(uint64_t limit_bytes, struct mem_budget *budget)
{
    return buf_pool_new(&(struct buf_pool_options){
        .limit_bytes = limit_bytes, .max_size = MAX_SIZE, .budget = budget});
}

TEST_TORTURE(buf_get_rounds_up_to_a_class)
{
    static const struct {
        size_t asked, size;
    } rows[] = {{0, 4096},    {1, 4096},     {4096, 4096},   {4097, 8192},
                {8192, 8192}, {8193, 16384}, {30000, 32768}, {65536, 65536}};
    CLEANUP(buf_pool_freep) struct buf_pool *p = pool_of(1u << 20, NULL);
    TRY_PTR(p);
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct buf *b = buf_get(p, rows[i].asked);
        TRY_PTR(b);
        CHECK_EQ(b->size, rows[i].size);
        CHECK_EQ((uintptr_t)b->at % BUF_ALIGN, 0);
        CHECK_EQ(buf_pool_used_bytes(p), rows[i].size);
        memset(b->at, 0x77, b->size);
        CHECK_TRUE(buf_unref(b) == NULL);
        CHECK_EQ(buf_pool_used_bytes(p), 0);
    }
    CHECK_TRUE(buf_get(p, MAX_SIZE + 1) == NULL);
    CHECK_TRUE(buf_get(p, SIZE_MAX) == NULL);
    CHECK_TRUE(buf_unref(NULL) == NULL);
}

TEST_TORTURE(buf_reuse_allocates_nothing)
{
    CLEANUP(buf_pool_freep) struct buf_pool *p = pool_of(1u << 20, NULL);
    TRY_PTR(p);
    struct buf *a = buf_get(p, 5000);
    TRY_PTR(a);
    buf_unref(a);
    uint64_t allocations = mem_count();
    struct buf *b = buf_get(p, 8000);
    TRY_PTR(b);
    CHECK_TRUE(a == b);
    CHECK_EQ(b->refs, 1);
    CHECK_EQ(mem_count(), allocations);
    buf_unref(b);
}

TEST_TORTURE(buf_limit_counts_kept_buffers_and_trims_them)
{
    struct mem_budget budget;
    mem_budget_init(&budget, NULL, 1u << 20);
    struct buf_pool *p = pool_of(65536, &budget);
    TRY_PTR(p);
    struct buf *small[16] = {NULL};
    bool all = true;
    for (size_t i = 0; i < ARRAY_COUNT(small); i++) {
        small[i] = buf_get(p, 4096);
        all = all && small[i] != NULL;
    }
    CHECK_TRUE(all || testing_torturing());
    if (all) {
        CHECK_TRUE(buf_get(p, 1) == NULL); /* full */
        CHECK_EQ(budget.used_bytes, 65536);
    }
    for (size_t i = 0; i < ARRAY_COUNT(small); i++) {
        buf_unref(small[i]);
    }
    CHECK_EQ(budget.used_bytes, all ? 65536 : 15 * 4096); /* kept */
    struct buf *large = buf_get(p, 65536);                /* takes the room of all of them */
    CHECK_TRUE(large != NULL || testing_torturing());
    if (large != NULL) {
        CHECK_EQ(budget.used_bytes, 65536);
        CHECK_TRUE(buf_get(p, 1) == NULL);
        buf_unref(large);
    }
    p = buf_pool_free(p);
    CHECK_TRUE(p == NULL);
    CHECK_EQ(budget.used_bytes, 0);
}

TEST_TORTURE(buf_budget_of_others_is_respected)
{
    struct mem_budget budget;
    mem_budget_init(&budget, NULL, 3 * UNIT);
    CLEANUP(buf_pool_freep) struct buf_pool *p = pool_of(1u << 20, &budget);
    TRY_PTR(p);
    CHECK_TRUE(mem_budget_take(&budget, 4096)); /* somebody else's */
    struct buf *a = buf_get(p, 4096);
    TRY_PTR(a);
    CHECK_TRUE(buf_get(p, 8192) == NULL);
    buf_unref(a);
    struct buf *b = buf_get(p, 8192); /* a is kept and gives way */
    CHECK_TRUE(b != NULL || testing_torturing());
    buf_unref(b);
    CHECK_TRUE(budget.used_bytes <= 3 * UNIT);
}

/* All of it is taken at once, lies in one piece, and goes at once. */
TEST_TORTURE(buf_pool_in_one_piece)
{
    enum { COUNT = 5 };
    struct mem_budget budget;
    mem_budget_init(&budget, NULL, 1u << 20);
    const struct buf_pool_options opt = {.limit_bytes = COUNT * MAX_SIZE + 100,
                                         .max_size = MAX_SIZE,
                                         .budget = &budget,
                                         .whole = true};
    CLEANUP(buf_pool_freep) struct buf_pool *p = buf_pool_new(&opt);
    if (p == NULL) {
        CHECK_EQ(budget.used_bytes, 0);
    }
    TRY_PTR(p);
    size_t len = 0;
    uint8_t *memory = buf_pool_memory(p, &len);
    CHECK_EQ(len, COUNT * MAX_SIZE);
    CHECK_EQ(budget.used_bytes, COUNT * MAX_SIZE);
    uint64_t allocations = mem_count();
    for (unsigned round = 0; round < 2; round++) {
        struct buf *b[COUNT];
        for (size_t i = 0; i < COUNT; i++) {
            b[i] = buf_get(p, i * 10000);
            CHECK_TRUE(b[i] != NULL);
            CHECK_EQ(b[i]->size, MAX_SIZE);
            CHECK_TRUE(b[i]->at >= memory && b[i]->at + MAX_SIZE <= memory + len);
            memset(b[i]->at, (int)i, MAX_SIZE);
        }
        CHECK_TRUE(buf_get(p, 1) == NULL);
        for (size_t i = 0; i < COUNT; i++) {
            CHECK_EQ(b[i]->at[0] + b[i]->at[MAX_SIZE - 1], 2 * i);
            buf_unref(b[i]);
        }
    }
    CHECK_EQ(mem_count(), allocations);
    CHECK_EQ(buf_pool_used_bytes(p), 0);
    p = buf_pool_free(p);
    CHECK_EQ(budget.used_bytes, 0);
    CHECK_TRUE(mem_budget_take(&budget, (1u << 20) - 1000));
    CHECK_TRUE(buf_pool_new(&opt) == NULL); /* no room in the budget */
    CHECK_EQ(budget.used_bytes, (1u << 20) - 1000);
}

TEST_TORTURE(buf_pool_in_pieces_has_no_memory_to_show)
{
    CLEANUP(buf_pool_freep) struct buf_pool *p = pool_of(1u << 20, NULL);
    TRY_PTR(p);
    size_t len = 1;
    CHECK_TRUE(buf_pool_memory(p, &len) == NULL);
    CHECK_EQ(len, 0);
}

TEST_TORTURE(buf_slices_hold_the_buffer)
{
    CLEANUP(buf_pool_freep) struct buf_pool *p = pool_of(1u << 20, NULL);
    TRY_PTR(p);
    struct buf *b = buf_get(p, 4096);
    TRY_PTR(b);
    memcpy(b->at, "0123456789", 10);
    struct slice s = buf_slice(b, 2, 5);
    struct slice end = buf_slice(b, 4096, 0);
    CHECK_TRUE(buf_ref(b) == b);
    CHECK_EQ(b->refs, 4);
    buf_unref(b);
    buf_unref(b);
    CHECK_EQ(buf_pool_used_bytes(p), 4096);
    CHECK_EQ(buf_pool_copied_bytes(p), 0);
    char out[5];
    buf_copy(p, out, &s);
    CHECK_BYTES(out, "23456", 5);
    CHECK_EQ(buf_pool_copied_bytes(p), 5);
    buf_copy(p, out, &end);
    CHECK_EQ(buf_pool_copied_bytes(p), 5);
    buf_slice_drop(&s);
    CHECK_TRUE(s.buf == NULL && s.at == NULL && s.len == 0);
    buf_slice_drop(&s);
    CHECK_EQ(buf_pool_used_bytes(p), 4096);
    buf_slice_drop(&end);
    CHECK_EQ(buf_pool_used_bytes(p), 0);
}

struct wrapped {
    struct buf buf;
    int released_count;
};

static void released(struct buf *b)
{
    container_of(b, struct wrapped, buf)->released_count++;
}

TEST(buf_wrap_counts_memory_of_the_caller)
{
    uint8_t bytes[10] = "abcdefghi";
    struct wrapped w = {.released_count = 0};
    buf_wrap(&w.buf, bytes, sizeof bytes, released);
    struct slice s = buf_slice(&w.buf, 3, 2);
    CHECK_TRUE(s.at == bytes + 3);
    buf_unref(&w.buf);
    CHECK_EQ(w.released_count, 0);
    buf_slice_drop(&s);
    CHECK_EQ(w.released_count, 1);
    buf_wrap(&w.buf, bytes, sizeof bytes, NULL);
    buf_unref(&w.buf);
    CHECK_EQ(w.released_count, 1);
}

/* A waiter that takes a buffer of `want` bytes when called, and then does what `drop` or `again`
 * say. */
struct waiting {
    struct buf_waiter waiter;
    struct buf_pool *pool;
    size_t want;
    struct buf *got, *drop;
    bool again;
    int called_count, depth_seen;
    int *depth, *order;
    int turn;
};

static void ready(struct buf_waiter *waiter)
{
    struct waiting *w = container_of(waiter, struct waiting, waiter);
    w->called_count++;
    w->turn = ++*w->order;
    w->depth_seen = ++*w->depth;
    w->got = w->want > 0 ? buf_get(w->pool, w->want) : NULL;
    if (w->again) {
        buf_wait(w->pool, waiter);
    }
    w->drop = buf_unref(w->drop);
    --*w->depth;
}

struct waiters {
    struct buf_pool *pool;
    struct buf *out[4];
    struct waiting w[4];
    int depth, order;
};

/* A pool of four small buffers, all out, and four waiters that are not queued. */
static int waiters_begin(struct waiters *t)
{
    *t = (struct waiters){.pool = pool_of(4 * UNIT, NULL)};
    if (t->pool == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < 4; i++) {
        t->w[i] = (struct waiting){.waiter.ready = ready,
                                   .pool = t->pool,
                                   .want = 4096,
                                   .depth = &t->depth,
                                   .order = &t->order};
        t->out[i] = buf_get(t->pool, 4096);
        if (t->out[i] == NULL) {
            return -ENOMEM;
        }
    }
    return 0;
}

static void waiters_end(struct waiters *t)
{
    for (size_t i = 0; i < 4 && t->pool != NULL; i++) {
        buf_unwait(t->pool, &t->w[i].waiter);
    }
    for (size_t i = 0; i < 4; i++) {
        buf_unref(t->out[i]);
        buf_unref(t->w[i].got);
        buf_unref(t->w[i].drop);
    }
    buf_pool_free(t->pool);
}

TEST_TORTURE(buf_waiters_are_called_in_order_one_per_buffer)
{
    CLEANUP(waiters_end) struct waiters t;
    TRY(waiters_begin(&t));
    for (size_t i = 0; i < 3; i++) {
        buf_wait(t.pool, &t.w[i].waiter);
    }
    CHECK_TRUE(buf_get(t.pool, 1) == NULL);
    CHECK_EQ(t.order, 0); /* nobody is called from inside buf_get */
    t.out[0] = buf_unref(t.out[0]);
    CHECK_EQ(t.order, 1);
    CHECK_TRUE(t.w[0].got != NULL && !t.w[0].waiter.queued);
    t.out[1] = buf_unref(t.out[1]);
    CHECK_EQ(t.order, 2);
    CHECK_EQ(t.w[1].turn, 2);
    t.out[2] = buf_unref(t.out[2]);
    t.out[3] = buf_unref(t.out[3]);
    CHECK_EQ(t.order, 3); /* none is left */
    CHECK_EQ(t.w[2].turn, 3);
}

TEST_TORTURE(buf_unwait_takes_out_of_any_place)
{
    CLEANUP(waiters_end) struct waiters t;
    TRY(waiters_begin(&t));
    for (size_t i = 0; i < 4; i++) {
        buf_wait(t.pool, &t.w[i].waiter);
    }
    buf_unwait(t.pool, &t.w[1].waiter);
    buf_unwait(t.pool, &t.w[0].waiter);
    buf_unwait(t.pool, &t.w[3].waiter);
    buf_unwait(t.pool, &t.w[3].waiter);
    buf_wait(t.pool, &t.w[0].waiter);
    for (size_t i = 0; i < 4; i++) {
        t.out[i] = buf_unref(t.out[i]);
    }
    CHECK_EQ(t.w[2].turn, 1);
    CHECK_EQ(t.w[0].turn, 2);
    CHECK_EQ(t.order, 2);
}

TEST_TORTURE(buf_waiters_do_not_nest)
{
    CLEANUP(waiters_end) struct waiters t;
    TRY(waiters_begin(&t));
    for (size_t i = 0; i < 4; i++) {
        t.w[i].want = 0;
        if (i < 3) { /* each gives a buffer back while it is called */
            t.w[i].drop = t.out[i + 1];
            t.out[i + 1] = NULL;
        }
        buf_wait(t.pool, &t.w[i].waiter);
    }
    t.out[0] = buf_unref(t.out[0]);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(t.w[i].turn, i + 1);
        CHECK_EQ(t.w[i].depth_seen, 1);
    }
}

TEST_TORTURE(buf_waiter_for_which_it_was_not_enough_waits_at_the_end)
{
    CLEANUP(waiters_end) struct waiters t;
    TRY(waiters_begin(&t));
    t.w[0].want = 8192;
    t.w[0].again = true;
    buf_wait(t.pool, &t.w[0].waiter);
    buf_wait(t.pool, &t.w[1].waiter);
    t.out[0] = buf_unref(t.out[0]);
    CHECK_EQ(t.w[0].called_count, 1); /* once, although it waits again */
    CHECK_TRUE(t.w[0].got == NULL);
    CHECK_EQ(t.w[1].called_count, 0);
    t.out[1] = buf_unref(t.out[1]);
    CHECK_EQ(t.w[1].called_count, 1);
    CHECK_TRUE(t.w[1].got != NULL);
    t.w[0].again = false;
    t.out[2] = buf_unref(t.out[2]);
    CHECK_EQ(t.w[0].called_count, 2);
    CHECK_TRUE(t.w[0].got != NULL || testing_torturing()); /* two small ones gave way */
}
