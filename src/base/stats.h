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
#define STATS_BUCKETS 64u /* log2 with 2 sub-bits from 1 us up: relative error below 25 % */
struct stats_histogram {
    _Atomic uint64_t count, sum_ns, max_ns;
    _Atomic uint64_t bucket[STATS_BUCKETS];
};

NODISCARD struct stats *stats_new(struct stats *parent, const char *name); /* parent may be NULL */
struct stats *stats_free(struct stats *s); /* also its subgroups; NULL is fine */
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
static inline void stats_gauge_set(struct stats_gauge *g, int64_t v)
{
    __atomic_store_n((int64_t *)&g->value, v, __ATOMIC_RELAXED);
}
void stats_sample(struct stats_histogram *h, uint64_t ns);
uint64_t stats_quantile_ns(const struct stats_histogram *h, unsigned permille); /* 0 when empty */

/* Every leaf below `s`, depth first, in order of creation. `path` is "data.0/reads". */
struct stats_value {
    const char *path;
    enum { STATS_IS_COUNTER, STATS_IS_GAUGE, STATS_IS_HISTOGRAM } kind;
    int64_t value; /* counter, gauge */
    const struct stats_histogram *histogram;
};
struct stats_visitor {
    void (*visit)(struct stats_visitor *v, const struct stats_value *value);
};
void stats_walk(struct stats *s, struct stats_visitor *v);
