#include "tree/credit.h"

#define CREDIT_SECOND_NS UINT64_C(1000000000)
#define CREDIT_KEEP_PERCENT 75u                /* of what was known, with each job */
#define CREDIT_STEP_NS (CREDIT_SECOND_NS / 10) /* so much time counts at once, at most */
#define CREDIT_BYTES_MAX (UINT64_C(1) << 30)   /* the same of bytes: what is computed fits */

/* So little of a long time counts that one in which there were no jobs is forgotten soon. */
static void credit_measure(struct tree_credit *c, uint64_t took_ns, uint64_t bytes)
{
    c->span_ns = c->span_ns / 100 * CREDIT_KEEP_PERCENT + base_min(took_ns, CREDIT_SECOND_NS);
    c->span_bytes = c->span_bytes * CREDIT_KEEP_PERCENT / 100 + base_min(bytes, CREDIT_BYTES_MAX);
    c->rate = c->span_bytes * CREDIT_SECOND_NS / base_max(c->span_ns, CREDIT_SECOND_NS / 1000);
}

void tree_credit_earn(struct tree_credit *c, uint64_t now_ns, uint64_t bytes, uint64_t most)
{
    credit_measure(c, now_ns - c->earned_ns, bytes);
    c->bytes += (int64_t)bytes - (int64_t)c->advanced;
    c->bytes = c->bytes < (int64_t)most ? c->bytes : (int64_t)most;
    c->advanced = 0;
    c->advanced_most = base_min(bytes, most);
    c->earned_ns = now_ns;
    c->look_ns = now_ns;
}

static void credit_advance(struct tree_credit *c, uint64_t now_ns)
{
    uint64_t passed_ns = base_min(now_ns - c->look_ns, CREDIT_STEP_NS);
    uint64_t room = c->advanced_most - c->advanced;
    uint64_t bytes = base_min(c->rate / 1000 * passed_ns / (CREDIT_SECOND_NS / 1000), room);
    if (bytes > 0) {
        c->advanced += bytes;
        c->bytes += (int64_t)bytes;
        c->look_ns = now_ns;
    }
}

bool tree_credit_take(struct tree_credit *c, uint64_t now_ns, uint64_t bytes)
{
    if (c->bytes <= 0) {
        credit_advance(c, now_ns);
    }
    if (c->bytes <= 0) {
        return false;
    }
    c->bytes -= (int64_t)bytes;
    return true;
}

uint64_t tree_credit_wait_ns(const struct tree_credit *c)
{
    uint64_t owed = c->bytes < 0 ? (uint64_t)-c->bytes + 1 : 1;
    if (c->rate == 0 || owed > c->advanced_most - c->advanced) {
        return UINT64_MAX;
    }
    return base_min(owed, CREDIT_BYTES_MAX) * CREDIT_SECOND_NS / c->rate + 1;
}

void tree_credit_rest(struct tree_credit *c, uint64_t now_ns)
{
    c->bytes = 0;
    c->advanced = 0;
    c->look_ns = now_ns;
}
