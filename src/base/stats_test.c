#include "base/stats.h"

#include "base/err.h"
#include "base/mem.h"
#include "base/text.h"
#include "testing/testing.h"

#include <pthread.h>
#include <string.h>

struct walker {
    struct stats_visitor visitor;
    struct text seen; /* "path=value " of each */
    char memory[512];
    struct stats *grow; /* gets a leaf on each visit, when set */
    struct stats_counter extra;
};

static void seen_one(struct stats_visitor *visitor, const struct stats_value *value)
{
    struct walker *t = container_of(visitor, struct walker, visitor);
    if (value->kind == STATS_IS_HISTOGRAM) {
        text_add(&t->seen, "%s~%u ", value->path, (unsigned)value->histogram->count);
    } else {
        text_add(&t->seen, "%s%s%lld ", value->path, value->kind == STATS_IS_GAUGE ? ":" : "=",
                 (long long)value->value);
    }
    stats_add_counter(t->grow, "extra", &t->extra);
}

static int walk(struct walker *t, struct stats *s)
{
    t->visitor.visit = seen_one;
    text_init(&t->seen, t->memory, sizeof t->memory);
    return stats_walk(s, &t->visitor);
}

TEST_TORTURE(stats_walk_is_depth_first_in_order_of_creation)
{
    struct stats_counter reads = {0}, late = {0};
    struct stats_gauge queue = {0};
    struct stats_histogram latency = {0};
    CLEANUP(stats_freep) struct stats *root = stats_new(NULL, "");
    TRY_PTR(root);
    struct stats *data = stats_new(root, "data.0");
    TRY_PTR(data);
    stats_add_counter(data, "reads", &reads);
    struct stats *disk = stats_new(data, "disk");
    TRY_PTR(disk);
    stats_add_histogram(disk, "latency", &latency);
    TRY_PTR(stats_new(disk, "empty"));
    stats_add_gauge(data, "queue", &queue);
    stats_add_counter(root, "late", &late);
    stats_count(&reads, 3);
    stats_count(&reads, 4);
    stats_gauge_set(&queue, -5);
    stats_gauge_add(&queue, 3);
    stats_sample(&latency, 1000);
    CHECK_EQ(stats_counter_value(&reads), 7);
    struct walker t = {0};
    TRY(walk(&t, root));
    if (!testing_torturing()) { /* else a leaf may be missing */
        CHECK_TEXT(t.memory, "data.0/reads=7 data.0/disk/latency~1 data.0/queue:-2 late=0 ");
    }
    TRY(walk(&t, disk)); /* a part: the same paths */
    if (!testing_torturing()) {
        CHECK_TEXT(t.memory, "data.0/disk/latency~1 ");
    }
}

TEST_TORTURE(stats_free_of_a_group_takes_what_is_below)
{
    struct stats_counter c = {0};
    CLEANUP(stats_freep) struct stats *root = stats_new(NULL, "node");
    TRY_PTR(root);
    struct stats *a = stats_new(root, "a");
    TRY_PTR(a);
    struct stats *b = stats_new(a, "b");
    TRY_PTR(b);
    stats_add_counter(b, "c", &c);
    stats_add_counter(a, "c", &c);
    stats_add_counter(root, "c", &c);
    CHECK_TRUE(stats_free(a) == NULL);
    CHECK_TRUE(stats_free(NULL) == NULL);
    struct walker t = {0};
    TRY(walk(&t, root));
    if (!testing_torturing()) {
        CHECK_TEXT(t.memory, "node/c=0 ");
    }
}

TEST_TORTURE(stats_visitor_may_change_the_tree)
{
    struct stats_counter c = {0};
    CLEANUP(stats_freep) struct stats *root = stats_new(NULL, "");
    TRY_PTR(root);
    stats_add_counter(root, "c", &c);
    struct walker t = {.grow = root};
    TRY(walk(&t, root));
    t.grow = NULL;
    struct walker again = {0};
    TRY(walk(&again, root));
    if (!testing_torturing()) {
        CHECK_TEXT(t.memory, "c=0 ");
        CHECK_TEXT(again.memory, "c=0 extra=0 ");
    }
}

TEST(stats_without_a_group_is_fine)
{
    struct stats_counter c = {0};
    struct stats_gauge g = {0};
    struct stats_histogram h = {0};
    stats_add_counter(NULL, "c", &c);
    stats_add_gauge(NULL, "g", &g);
    stats_add_histogram(NULL, "h", &h);
    struct walker t = {0};
    CHECK_OK(walk(&t, NULL));
    CHECK_TEXT(t.memory, "");
}

TEST_TORTURE(stats_long_paths_are_cut)
{
    struct stats_counter c = {0};
    CLEANUP(stats_freep) struct stats *root = stats_new(NULL, "");
    TRY_PTR(root);
    struct stats *at = root;
    for (int i = 0; i < 40; i++) {
        at = stats_new(at, "0123456789");
        TRY_PTR(at);
    }
    stats_add_counter(at, "c", &c);
    struct walker t = {0};
    TRY(walk(&t, root));
    CHECK_TRUE(t.seen.len == STATS_PATH_SIZE - 1 + 3 || testing_torturing());
}

TEST(stats_buckets_follow_each_other)
{
    CHECK_EQ(stats_bucket_from_ns(0), 0);
    CHECK_EQ(stats_bucket_to_ns(0), 1250);
    for (unsigned i = 1; i < STATS_BUCKETS; i++) {
        uint64_t from = stats_bucket_from_ns(i);
        CHECK_EQ(from, stats_bucket_to_ns(i - 1));
        CHECK_TRUE(i + 1 == STATS_BUCKETS || stats_bucket_to_ns(i) - from <= from / 4);
        struct stats_histogram h = {0};
        stats_sample(&h, from - 1);
        stats_sample(&h, from);
        CHECK_EQ(h.bucket[i - 1], 1);
        CHECK_EQ(h.bucket[i], 1);
    }
    CHECK_TRUE(stats_bucket_to_ns(STATS_BUCKETS - 1) == UINT64_MAX);
}

TEST(stats_sample_counts)
{
    struct stats_histogram h = {0};
    stats_sample(&h, 5000);
    stats_sample(&h, 0);
    stats_sample(&h, 3000);
    CHECK_EQ(h.count, 3);
    CHECK_EQ(h.sum_ns, 8000);
    CHECK_EQ(h.max_ns, 5000);
    stats_sample(&h, UINT64_MAX);
    CHECK_EQ(h.bucket[STATS_BUCKETS - 1], 1);
    CHECK_TRUE(h.max_ns == UINT64_MAX);
}

TEST(stats_quantile_is_within_a_quarter)
{
    struct stats_histogram h = {0};
    CHECK_EQ(stats_quantile_ns(&h, 500), 0);
    for (uint64_t us = 1; us <= 10000; us++) {
        stats_sample(&h, us * 1000);
    }
    for (unsigned permille = 1; permille <= 1000; permille++) {
        int64_t exact = (int64_t)permille * 10000;
        int64_t got = (int64_t)stats_quantile_ns(&h, permille);
        int64_t off = got > exact ? got - exact : exact - got;
        CHECK_TRUE(off * 4 <= exact);
        CHECK_TRUE(permille == 1 || got >= (int64_t)stats_quantile_ns(&h, permille - 1));
    }
    CHECK_EQ(stats_quantile_ns(&h, 1000), 10000000); /* the largest is known exactly */
}

TEST(stats_quantile_of_one_sample)
{
    struct stats_histogram h = {0};
    stats_sample(&h, 7);
    CHECK_EQ(stats_quantile_ns(&h, 0), 7);
    CHECK_EQ(stats_quantile_ns(&h, 1000), 7);
    struct stats_histogram large = {0};
    stats_sample(&large, UINT64_MAX);
    CHECK_TRUE(stats_quantile_ns(&large, 500) == UINT64_MAX);
}

struct sampler {
    struct stats *root;
    struct stats_histogram *latency;
    struct stats_counter *count;
};

/* Samples and makes groups with leaves, as loops do, while the test reads. */
static void *sample_many(void *at)
{
    struct sampler *sampler = at;
    for (uint64_t i = 0; i < 2000; i++) {
        stats_sample(sampler->latency, i * 1000);
        stats_count(sampler->count, 1);
        if (i % 20 == 0) {
            struct stats *group = stats_new(sampler->root, "group");
            struct stats_gauge gauge = {0};
            stats_add_gauge(group, "gauge", &gauge);
            stats_free(group); /* before its leaf goes */
        }
    }
    return NULL;
}

TEST(stats_may_be_read_while_loops_change_them)
{
    struct stats_histogram latency = {0};
    struct stats_counter count = {0};
    CLEANUP(stats_freep) struct stats *root = stats_new(NULL, "");
    CHECK_TRUE(root != NULL);
    stats_add_histogram(root, "latency", &latency);
    stats_add_counter(root, "count", &count);
    struct sampler sampler = {.root = root, .latency = &latency, .count = &count};
    pthread_t threads[2];
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, sample_many, &sampler), 0);
    }
    for (int i = 0; i < 100; i++) {
        struct walker t = {0};
        CHECK_OK(walk(&t, root));
        CHECK_TRUE(strncmp(t.memory, "latency~", 8) == 0);
    }
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    CHECK_EQ(latency.count, 4000);
    CHECK_EQ(stats_counter_value(&count), 4000);
    CHECK_EQ(latency.max_ns, 1999000);
}
