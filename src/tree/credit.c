#include "tree/credit.h"

#define CREDIT_SECOND_NS UINT64_C(1000000000)
#define CREDIT_KEEP_PERCENT 90u                /* of what was known, with each job */
#define CREDIT_STEP_NS (CREDIT_SECOND_NS / 10) /* so much time counts at once, at most */
#define CREDIT_BYTES_MAX (UINT64_C(1) << 30)   /* the same of bytes: what is computed fits */
#define CREDIT_RATE_MAX (UINT64_C(1) << 33)
#define CREDIT_KNOWN_BYTES (UINT64_C(1) << 20)
#define CREDIT_TIMES_MAX 4u /* as fast as work is done, at most; then nobody need wait */

/* What a few small jobs have said of how fast work is done says nothing of large ones. */
void tree_credit_begin(struct tree_credit *c, uint64_t now_ns)
{
    if (c->span_bytes < CREDIT_KNOWN_BYTES) {
        c->span_ns = c->span_bytes = c->rate = 0;
    }
    c->since_ns = now_ns;
}

/* So little of a long time counts that one job without much work is forgotten soon. */
void tree_credit_work(struct tree_credit *c, uint64_t now_ns, uint64_t bytes)
{
    uint64_t took_ns = base_min(now_ns - c->since_ns, CREDIT_SECOND_NS);
    c->span_ns = c->span_ns / 100 * CREDIT_KEEP_PERCENT + took_ns;
    c->span_bytes = c->span_bytes * CREDIT_KEEP_PERCENT / 100 + base_min(bytes, CREDIT_BYTES_MAX);
    uint64_t us = base_max(c->span_ns / 1000, 1000);
    c->rate = base_min(c->span_bytes * 1000 / us * 1000, CREDIT_RATE_MAX);
    c->since_ns = now_ns;
}

/* Bytes per second that may come. */
static uint64_t credit_rate(const struct tree_credit *c, const struct tree_credit_room *r)
{
    double times = (double)r->room / (double)base_max(r->work, 1);
    times = times < CREDIT_TIMES_MAX ? times : CREDIT_TIMES_MAX;
    return (uint64_t)((double)c->rate * times);
}

static void credit_advance(struct tree_credit *c, uint64_t now_ns, const struct tree_credit_room *r)
{
    uint64_t passed_ns = base_min(now_ns - c->look_ns, CREDIT_STEP_NS);
    uint64_t bytes = credit_rate(c, r) / 1000 * (passed_ns / 1000) / 1000;
    if (bytes > 0) {
        int64_t sum = c->bytes + (int64_t)bytes;
        c->bytes = sum < (int64_t)r->most ? sum : (int64_t)r->most;
        c->look_ns = now_ns;
    }
}

bool tree_credit_take(struct tree_credit *c, uint64_t now_ns, const struct tree_credit_room *r,
                      uint64_t bytes)
{
    if (c->rate == 0 || r->room / CREDIT_TIMES_MAX >= r->work) {
        tree_credit_rest(c, now_ns);
        return true;
    }
    credit_advance(c, now_ns, r);
    if (c->bytes <= 0) {
        return false;
    }
    c->bytes -= (int64_t)base_min(bytes, CREDIT_BYTES_MAX);
    return true;
}

uint64_t tree_credit_wait_ns(const struct tree_credit *c, const struct tree_credit_room *r)
{
    uint64_t owed = c->bytes < 0 ? (uint64_t)-c->bytes + 1 : 1, rate = credit_rate(c, r);
    return rate == 0 ? UINT64_MAX : owed * CREDIT_SECOND_NS / rate + 1;
}

void tree_credit_rest(struct tree_credit *c, uint64_t now_ns)
{
    c->bytes = 0;
    c->look_ns = now_ns;
}
