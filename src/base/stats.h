/*
 * base/stats.h -- statistics: a tree of groups owned by instances, with counters, gauges and
 * latency histograms as leaves. The owner of a component makes a group below its env's and embeds
 * the leaves; taking a sample is one relaxed atomic add. Groups and leaves are added and removed on
 * their loop; reading may be from any.
 */
#pragma once

#include "base/base.h"
#include "base/list.h"

struct stats; /* a group */

struct stats_counter {
    _Atomic uint64_t value;
};
struct stats_gauge {
    _Atomic int64_t value;
};
/* Four buckets per power of two, from 1 us to 268 s: relative error below 25 %. The first also
 * holds what is shorter, the last what is longer. */
#define STATS_BUCKETS 112u
struct stats_histogram {
    _Atomic uint64_t count, sum_ns, max_ns;
    _Atomic uint64_t bucket[STATS_BUCKETS];
};

/* `parent` may be NULL: a tree of its own. The name is copied and must not hold '/'. NULL: no
 * memory. */
NODISCARD struct stats *stats_new(struct stats *parent, const char *name);
/* Also frees its subgroups, whose handles are dead then; NULL is fine. The leaves are the caller's.
 */
struct stats *stats_free(struct stats *s);
DEFINE_FREEP(stats)

/* Names are constant strings. The leaf must live as long as the group. s may be NULL (then nothing
 * is listed). Out of memory: the leaf works and is not listed. */
void stats_add_counter(struct stats *s, const char *name, struct stats_counter *c);
void stats_add_gauge(struct stats *s, const char *name, struct stats_gauge *g);
void stats_add_histogram(struct stats *s, const char *name, struct stats_histogram *h);

static inline void stats_count(struct stats_counter *c, uint64_t n)
{
    __atomic_fetch_add((uint64_t *)&c->value, n, __ATOMIC_RELAXED);
}
static inline uint64_t stats_counter_value(const struct stats_counter *c)
{
    return __atomic_load_n((const uint64_t *)&c->value, __ATOMIC_RELAXED);
}
static inline void stats_gauge_add(struct stats_gauge *g, int64_t n)
{
    __atomic_fetch_add((int64_t *)&g->value, n, __ATOMIC_RELAXED);
}
static inline void stats_gauge_set(struct stats_gauge *g, int64_t v)
{
    __atomic_store_n((int64_t *)&g->value, v, __ATOMIC_RELAXED);
}
void stats_sample(struct stats_histogram *h, uint64_t ns);
/* The time within which permille/1000 of the samples were, linear inside a bucket. 0 when empty. */
uint64_t stats_quantile_ns(const struct stats_histogram *h, unsigned permille);
/* Bounds of a bucket, [from, to), for exporters. The last has no upper bound: UINT64_MAX. */
uint64_t stats_bucket_from_ns(unsigned bucket);
uint64_t stats_bucket_to_ns(unsigned bucket);

/* `path` is "data.0/reads": names from the root of the tree on, empty ones left out. */
#define STATS_PATH_SIZE 128u /* longer paths are cut */
struct stats_value {
    const char *path;
    enum { STATS_IS_COUNTER, STATS_IS_GAUGE, STATS_IS_HISTOGRAM } kind;
    int64_t value; /* counter, gauge */
    const struct stats_histogram *histogram;
};
struct stats_visitor {
    void (*visit)(struct stats_visitor *v, const struct stats_value *value);
};
/*
 * Every leaf below `s` (NULL: none), depth first, in order of creation. The visitor sees a copy
 * that was taken under the tree's lock, and runs without it: it may do anything, also change the
 * tree. What it gets is lent for the call. 0, or -ENOMEM before the first visit.
 */
int stats_walk(struct stats *s, struct stats_visitor *v);
