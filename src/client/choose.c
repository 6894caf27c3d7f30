#include "client/choose_priv.h"

#include <string.h>

/*
 * The cost of a member is its moving time, multiplied by the requests that are under way there: the
 * "peak EWMA" of RPC libraries, of all members instead of two by chance, because a chain has few.
 * Times fade while nobody asks, by half every FADE_NS, so that a member that was slow, or failed,
 * is tried again after a while, with one request.
 */

#define SMALL_BYTES (64u << 10)
#define MIDDLE_BYTES (1u << 20)
#define STEP_BITS 16u /* the first step: up to 2^16 ns */
#define FADE_NS UINT64_C(1000000000)
#define FLOOR_NS UINT64_C(500000) /* what is faster is all the same: chance, or distance */
#define TIME_MAX_NS UINT64_C(60000000000)
#define FAIL_NS UINT64_C(100000000)
#define QUEUE_BASE 4u /* few requests more or less are no reason to leave the home */
#define LATE_SAMPLES 16u

static unsigned size_of(size_t bytes)
{
    return bytes <= SMALL_BYTES ? 0 : bytes <= MIDDLE_BYTES ? 1 : 2;
}

/* ---- Times ---- */

static unsigned step_of(uint64_t ns)
{
    if (ns >> STEP_BITS == 0) {
        return 0;
    }
    unsigned power = 63u - (unsigned)__builtin_clzll(ns);
    unsigned quarter = (unsigned)(ns >> (power - 2)) & 3u;
    return (unsigned)base_min(1 + (power - STEP_BITS) * 4 + quarter, CLIENT_TIME_STEPS - 1);
}

/* Above all times of the step. */
static uint64_t step_end_ns(unsigned step)
{
    if (step == 0) {
        return UINT64_C(1) << STEP_BITS;
    }
    unsigned power = STEP_BITS + (step - 1) / 4, quarter = (step - 1) % 4;
    return (UINT64_C(5) + quarter) << (power - 2);
}

static void times_age(struct client_times *t)
{
    t->count = 0;
    for (unsigned i = 0; i < CLIENT_TIME_STEPS; i++) {
        t->step[i] /= 2;
        t->count += t->step[i];
    }
}

static uint64_t times_mean_ns(const struct client_times *t, uint64_t now_ns)
{
    uint64_t idle = now_ns > t->at_ns ? (now_ns - t->at_ns) / FADE_NS : 0;
    return t->at_ns == 0 || idle > 63 ? 0 : t->mean_ns >> idle;
}

/* Worse is believed sooner than better. */
static void times_move(struct client_times *t, uint64_t now_ns, uint64_t took_ns)
{
    uint64_t mean = times_mean_ns(t, now_ns);
    if (t->at_ns == 0 || mean == 0) {
        mean = took_ns;
    } else if (took_ns > mean) {
        mean += (took_ns - mean) / 4;
    } else {
        mean -= (mean - took_ns) / 8;
    }
    t->mean_ns = mean;
    t->at_ns = base_max(now_ns, 1);
}

void client_load_begin(struct client_load *l)
{
    l->in_flight++;
}

void client_load_drop(struct client_load *l)
{
    CHECK(l->in_flight > 0);
    l->in_flight--;
}

void client_load_end(struct client_load *l, size_t bytes, uint64_t now_ns, uint64_t took_ns)
{
    struct client_times *t = &l->times[size_of(bytes)];
    took_ns = base_min(took_ns, TIME_MAX_NS);
    client_load_drop(l);
    times_move(t, now_ns, took_ns);
    t->step[step_of(took_ns)]++;
    t->count++;
    if (t->count >= CLIENT_TIMES_MAX) {
        times_age(t);
    }
}

void client_load_fail(struct client_load *l, uint64_t now_ns, uint64_t took_ns)
{
    took_ns = base_min(base_max(took_ns, FAIL_NS), TIME_MAX_NS);
    client_load_drop(l);
    for (unsigned i = 0; i < CLIENT_SIZES; i++) {
        struct client_times *t = &l->times[i];
        t->mean_ns = base_max(times_mean_ns(t, now_ns), took_ns);
        t->at_ns = base_max(now_ns, 1);
    }
}

uint64_t client_load_expect_ns(const struct client_load *l, size_t bytes, uint64_t now_ns)
{
    return times_mean_ns(&l->times[size_of(bytes)], now_ns);
}

uint64_t client_load_late_ns(const struct client_load *l, size_t bytes)
{
    const struct client_times *t = &l->times[size_of(bytes)];
    uint32_t above = 0;
    if (t->count < LATE_SAMPLES) {
        return 0;
    }
    for (unsigned i = CLIENT_TIME_STEPS; i-- > 0;) {
        above += t->step[i];
        if (above > t->count / 20) {
            return step_end_ns(i);
        }
    }
    return 0;
}

/* ---- Members ---- */

static bool label_equal(const char *a, const char *b)
{
    return a[0] != '\0' && strcmp(a, b) == 0;
}

enum client_distance client_distance_of(const char *own_host, const char *own_rack,
                                        const char *host, const char *rack)
{
    if (label_equal(own_host, host)) {
        return CLIENT_SAME_HOST;
    }
    return label_equal(own_rack, rack) ? CLIENT_SAME_RACK : CLIENT_ELSEWHERE;
}

static uint64_t choice_cost(const struct client_choice_of *c, size_t i)
{
    const struct client_choice *m = &c->member[i];
    uint64_t expect = client_load_expect_ns(m->load, c->bytes, c->now_ns);
    uint64_t queue = (uint64_t)m->load->in_flight + QUEUE_BASE;
    return (base_max(expect, FLOOR_NS) * queue) << (unsigned)m->distance;
}

/* The one of the nearest that `spread` falls on. */
static size_t choice_home(const struct client_choice_of *c)
{
    enum client_distance nearest = CLIENT_ELSEWHERE;
    size_t near_count = 0;
    for (size_t i = 0; i < c->count; i++) {
        if (c->member[i].allowed && c->member[i].distance <= nearest) {
            near_count = c->member[i].distance < nearest ? 1 : near_count + 1;
            nearest = c->member[i].distance;
        }
    }
    size_t skip = near_count == 0 ? 0 : (size_t)(c->spread % near_count);
    for (size_t i = 0; i < c->count; i++) {
        if (c->member[i].allowed && c->member[i].distance == nearest && skip-- == 0) {
            return i;
        }
    }
    return c->count;
}

size_t client_choose(const struct client_choice_of *c)
{
    size_t home = choice_home(c);
    if (home == c->count) {
        return home;
    }
    size_t best = home;
    uint64_t home_cost = choice_cost(c, home), best_cost = home_cost;
    for (size_t i = 0; i < c->count; i++) {
        uint64_t cost = c->member[i].allowed ? choice_cost(c, i) : UINT64_MAX;
        if (cost < best_cost) {
            best = i;
            best_cost = cost;
        }
    }
    return home_cost / 3 > best_cost / 2 ? best : home;
}

/* ---- How often ---- */

void client_budget_init(struct client_budget *b)
{
    b->credit = CLIENT_HEDGE_SHARE;
}

void client_budget_earn(struct client_budget *b)
{
    b->credit = (uint32_t)base_min(b->credit + 1, CLIENT_HEDGE_SHARE * CLIENT_HEDGE_BURST);
}

bool client_budget_take(struct client_budget *b)
{
    if (b->credit < CLIENT_HEDGE_SHARE) {
        return false;
    }
    b->credit -= CLIENT_HEDGE_SHARE;
    return true;
}
