#include "base/ring.h"

#include "testing/testing.h"

#include <pthread.h>
#include <sched.h>

#define PRODUCER_COUNT 4u
#define ITEMS_EACH 20000u

static void ring_finip(struct ring *r)
{
    ring_fini(r);
}

TEST_TORTURE(ring_is_first_in_first_out_and_bounded)
{
    CLEANUP(ring_finip) struct ring r = {.slot = NULL};
    int item[8];
    TRY(ring_init(&r, 5)); /* rounded up to 8 */
    for (unsigned round = 0; round < 5; round++) {
        for (size_t i = 0; i < ARRAY_COUNT(item); i++) {
            CHECK_EQ(ring_count(&r), i);
            CHECK_TRUE(ring_push(&r, &item[i]));
        }
        CHECK_TRUE(!ring_push(&r, &item[0]));
        for (size_t i = 0; i < ARRAY_COUNT(item); i++) {
            CHECK_TRUE(ring_pop(&r) == &item[i]);
        }
        CHECK_TRUE(ring_pop(&r) == NULL);
        CHECK_TRUE(ring_push(&r, &item[0])); /* shifts the rounds against the slots */
        CHECK_TRUE(ring_pop(&r) == &item[0]);
    }
}

TEST(ring_survives_the_wrap_of_its_positions)
{
    CLEANUP(ring_finip) struct ring r = {.slot = NULL};
    int item[4];
    CHECK_OK(ring_init(&r, 4));
    r.head = r.tail = SIZE_MAX - 1;
    for (size_t i = 0; i < ARRAY_COUNT(item); i++) {
        CHECK_TRUE(ring_push(&r, &item[i]));
    }
    CHECK_TRUE(!ring_push(&r, &item[0]));
    CHECK_EQ(ring_count(&r), 4);
    for (size_t i = 0; i < ARRAY_COUNT(item); i++) {
        CHECK_TRUE(ring_pop(&r) == &item[i]);
    }
    CHECK_EQ(ring_count(&r), 0);
}

TEST(ring_refuses_a_capacity_that_cannot_be_rounded_up)
{
    struct ring r = {.slot = NULL};
    CHECK_RC(ring_init(&r, SIZE_MAX), ENOMEM);
    CHECK_RC(ring_init(&r, SIZE_MAX / 2), ENOMEM); /* the array's size in bytes does not fit */
    ring_fini(&r);
}

TEST(mpsc_is_bounded_and_says_when_it_was_empty)
{
    struct mpsc q;
    struct mpsc_node n[3];
    bool was_empty = false;
    mpsc_init(&q, 2);
    for (unsigned round = 0; round < 3; round++) {
        CHECK_TRUE(mpsc_empty(&q));
        CHECK_TRUE(mpsc_pop(&q) == NULL);
        CHECK_TRUE(mpsc_push(&q, &n[0], &was_empty) && was_empty);
        CHECK_TRUE(mpsc_push(&q, &n[1], &was_empty) && !was_empty);
        CHECK_TRUE(!mpsc_push(&q, &n[2], NULL));
        CHECK_TRUE(mpsc_pop(&q) == &n[0]);
        CHECK_TRUE(mpsc_push(&q, &n[2], NULL));
        CHECK_TRUE(mpsc_pop(&q) == &n[1]);
        CHECK_TRUE(!mpsc_empty(&q));
        CHECK_TRUE(mpsc_pop(&q) == &n[2]);
    }
    CHECK_TRUE(mpsc_empty(&q));
}

struct item {
    struct mpsc_node node;
    unsigned producer, number;
};

struct producer {
    struct mpsc *queue;
    struct item *items;
    pthread_t thread;
    unsigned wakeups;
};

static void *produce(void *arg)
{
    struct producer *p = arg;
    for (unsigned i = 0; i < ITEMS_EACH; i++) {
        bool was_empty = false;
        while (!mpsc_push(p->queue, &p->items[i].node, &was_empty)) {
            (void)sched_yield();
        }
        p->wakeups += was_empty ? 1U : 0U;
    }
    return NULL;
}

/* Each producer's items arrive once and in its order; the bound holds all the time. */
TEST(mpsc_carries_everything_from_many_threads)
{
    static struct item items[PRODUCER_COUNT][ITEMS_EACH];
    struct producer producers[PRODUCER_COUNT];
    unsigned next[PRODUCER_COUNT] = {0};
    struct mpsc q;
    mpsc_init(&q, 64);
    unsigned started = 0, bad = 0;
    for (unsigned p = 0; p < PRODUCER_COUNT; p++) {
        producers[p] = (struct producer){.queue = &q, .items = items[p]};
        for (unsigned i = 0; i < ITEMS_EACH; i++) {
            items[p][i].producer = p;
            items[p][i].number = i;
        }
        bad += pthread_create(&producers[p].thread, NULL, produce, &producers[p]) != 0 ? 1U : 0U;
        started += bad == 0 ? 1U : 0U;
    }
    for (unsigned left = started * ITEMS_EACH; left > 0;) {
        struct mpsc_node *n = mpsc_pop(&q);
        if (n == NULL) {
            (void)sched_yield();
            continue;
        }
        struct item *at = container_of(n, struct item, node);
        bad += at->number != next[at->producer]++ ? 1U : 0U;
        left--;
    }
    unsigned wakeups = 0;
    for (unsigned p = 0; p < started; p++) {
        (void)pthread_join(producers[p].thread, NULL);
        wakeups += producers[p].wakeups;
    }
    CHECK_EQ(started, PRODUCER_COUNT);
    CHECK_EQ(bad, 0);
    CHECK_TRUE(wakeups > 0);
    CHECK_TRUE(mpsc_empty(&q));
    CHECK_TRUE(mpsc_pop(&q) == NULL);
}
