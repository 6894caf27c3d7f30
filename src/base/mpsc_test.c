#include "base/mpsc.h"

#include "testing/testing.h"

#include <pthread.h>
#include <sched.h>

#define PRODUCER_COUNT 4u
#define ITEMS_EACH 20000u

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
