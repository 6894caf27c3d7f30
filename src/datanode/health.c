/* datanode/health.c -- see health.h. */
#include "datanode/health.h"

#include "base/text.h"

#include <errno.h>

#define NS_PER_MS UINT64_C(1000000)
#define ONE_ERROR 1000u
#define MEAN_OF 16u
#define USUAL_OF 1024u
#define KNOWN_AFTER 64u /* requests until it is known what is usual */
#define FAILURES 3u
#define SLOW_MIN 8u /* a few slow requests are an accident */

static const char *const kind_names[DATANODE_HEALTH_KINDS] = {"reads", "writes", "syncs"};

static uint64_t or_default(uint64_t v, uint64_t otherwise)
{
    return v == 0 ? otherwise : v;
}

static void forget_scores(struct datanode_health *h, uint64_t now_ns)
{
    for (size_t i = 0; i < DATANODE_HEALTH_KINDS; i++) {
        h->pace[i] = (struct datanode_health_pace){0};
    }
    h->errors = 0;
    h->errors_ns = now_ns;
    h->moved_ns = now_ns;
    h->silent = false;
    h->failures = 0;
}

void datanode_health_init(struct datanode_health *h, const struct datanode_health_limits *limits,
                          uint64_t now_ns)
{
    *h = (struct datanode_health){.limits = *limits, .changed_ns = now_ns};
    struct datanode_health_limits *l = &h->limits;
    l->errors = (uint32_t)or_default(l->errors, 5);
    l->error_half_life_ms = or_default(l->error_half_life_ms, 60000);
    l->slow_ms = or_default(l->slow_ms, 2000);
    l->slow_factor = (uint32_t)or_default(l->slow_factor, 10);
    l->slow_for_ms = or_default(l->slow_for_ms, 20000);
    l->stuck_ms = or_default(l->stuck_ms, 15000);
    l->rest_ms = or_default(l->rest_ms, 600000);
    l->rest_max_ms = base_max(or_default(l->rest_max_ms, 86400000), l->rest_ms);
    h->rest_ms = l->rest_ms;
    forget_scores(h, now_ns);
}

/* ---- What is seen ---- */

void datanode_health_begun(struct datanode_health *h, uint64_t now_ns)
{
    h->moved_ns = h->under_way == 0 ? now_ns : h->moved_ns;
    h->under_way++;
}

void datanode_health_ended(struct datanode_health *h, uint64_t now_ns)
{
    CHECK(h->under_way > 0);
    h->under_way--;
    h->moved_ns = now_ns;
    h->silent = false;
}

/* A step of one in `of` towards `ns`, and at least one, so that it arrives. */
static uint64_t step_towards(uint64_t mean, uint64_t ns, unsigned of)
{
    if (ns >= mean) {
        return mean + (ns - mean + of - 1) / of;
    }
    return mean - (mean - ns + of - 1) / of;
}

static bool is_slow(const struct datanode_health *h, const struct datanode_health_pace *p,
                    uint64_t ns)
{
    return p->count >= KNOWN_AFTER && ns > h->limits.slow_ms * NS_PER_MS &&
           ns / h->limits.slow_factor > p->usual_ns;
}

void datanode_health_took(struct datanode_health *h, enum datanode_health_kind kind, uint64_t ns,
                          uint64_t now_ns)
{
    struct datanode_health_pace *p = &h->pace[kind];
    /* One that took minutes, because the machine stood still, says no more than one that was slow.
     */
    uint64_t slow_ns = base_max(h->limits.slow_ms * NS_PER_MS, p->usual_ns * h->limits.slow_factor);
    ns = p->count < KNOWN_AFTER ? ns : base_min(ns, 2 * slow_ns);
    p->mean_ns = p->count == 0 ? ns : step_towards(p->mean_ns, ns, MEAN_OF);
    if (!is_slow(h, p, ns)) {
        unsigned of = p->count < USUAL_OF ? (unsigned)p->count + 1 : USUAL_OF;
        p->usual_ns = p->count == 0 ? ns : step_towards(p->usual_ns, ns, of);
    }
    if (!is_slow(h, p, p->mean_ns)) {
        p->slow_count = 0;
    } else {
        p->slow_since_ns = p->slow_count == 0 ? now_ns : p->slow_since_ns;
        p->slow_count++;
    }
    p->count++;
    p->last_ns = now_ns;
}

static bool is_of_medium(int64_t rc)
{
    switch (-rc) {
    case EIO:
    case ENXIO:
    case ENODEV:
    case EROFS:
    case ETIMEDOUT:
    case EREMOTEIO:
    case EUCLEAN:
    case EBADMSG:
    case ENODATA:
        return true;
    default:
        return false;
    }
}

/* Halved each half life; straight in between. */
static uint64_t decayed(uint64_t v, uint64_t passed_ns, uint64_t half_ns)
{
    uint64_t halvings = passed_ns / half_ns;
    if (halvings >= 32) {
        return 0;
    }
    v >>= halvings;
    uint64_t part = (passed_ns % half_ns) / (half_ns / 1000);
    return v - v * base_min(part, 1000) / 2000;
}

static void decay_errors(struct datanode_health *h, uint64_t now_ns)
{
    h->errors = decayed(h->errors, now_ns - h->errors_ns, h->limits.error_half_life_ms * NS_PER_MS);
    h->errors_ns = now_ns;
}

void datanode_health_error(struct datanode_health *h, int64_t rc, uint64_t now_ns)
{
    if (is_of_medium(rc)) {
        decay_errors(h, now_ns);
        h->errors = base_min(h->errors + ONE_ERROR, UINT32_MAX);
    }
}

void datanode_health_failures(struct datanode_health *h, uint32_t count)
{
    h->failures = count;
}

/* ---- What follows ---- */

static bool is_silent(const struct datanode_health *h, uint64_t now_ns)
{
    return h->under_way > 0 && now_ns - h->moved_ns >= h->limits.stuck_ms * NS_PER_MS;
}

static bool stays_slow(const struct datanode_health *h, struct datanode_health_pace *p,
                       uint64_t now_ns)
{
    uint64_t for_ns = h->limits.slow_for_ms * NS_PER_MS;
    if (now_ns - p->last_ns >= for_ns) {
        p->slow_count = 0; /* what was long ago is not the present */
    }
    return p->slow_count >= SLOW_MIN && now_ns - p->slow_since_ns >= for_ns;
}

/* Why it is sick, into h->reason; false: it is not. */
static bool diagnose(struct datanode_health *h, uint64_t now_ns)
{
    struct text t;
    text_init(&t, h->reason, sizeof h->reason);
    decay_errors(h, now_ns);
    if (h->errors >= (uint64_t)h->limits.errors * ONE_ERROR) {
        text_add(&t, "it has failed %llu times in the last minutes",
                 (unsigned long long)(h->errors / ONE_ERROR));
        return true;
    }
    if (h->failures >= FAILURES) {
        text_add(&t, "writing to it has failed %u times in a row", h->failures);
        return true;
    }
    bool again = h->silent;
    h->silent = is_silent(h, now_ns);
    if (again && h->silent) {
        text_add(&t, "nothing has come back from it for %llu s",
                 (unsigned long long)((now_ns - h->moved_ns) / (1000 * NS_PER_MS)));
        return true;
    }
    for (size_t i = 0; i < DATANODE_HEALTH_KINDS; i++) {
        struct datanode_health_pace *p = &h->pace[i];
        if (stays_slow(h, p, now_ns)) {
            text_add(&t, "%s take %llu ms, usual are %llu ms", kind_names[i],
                     (unsigned long long)(p->mean_ns / NS_PER_MS),
                     (unsigned long long)(p->usual_ns / NS_PER_MS));
            return true;
        }
    }
    return false;
}

static void become_sick(struct datanode_health *h, uint64_t now_ns)
{
    uint64_t well_ns = now_ns - h->changed_ns;
    if (well_ns >= h->limits.rest_max_ms * NS_PER_MS) {
        h->rest_ms = h->limits.rest_ms;
    }
    h->sick = true;
    h->changed_ns = now_ns;
}

bool datanode_health_judge(struct datanode_health *h, uint64_t now_ns)
{
    if (!h->sick) {
        if (!diagnose(h, now_ns)) {
            return false;
        }
        become_sick(h, now_ns);
        return true;
    }
    if (now_ns - h->changed_ns < h->rest_ms * NS_PER_MS || is_silent(h, now_ns)) {
        return false;
    }
    h->sick = false;
    h->changed_ns = now_ns;
    h->rest_ms = base_min(2 * h->rest_ms, h->limits.rest_max_ms);
    forget_scores(h, now_ns);
    return true;
}
