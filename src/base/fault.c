/*
 * base/fault.c -- one set of armed points: a fixed table, so that arming never allocates and a pass
 * is a search by name and one atomic add. Points may be passed from executor threads, hence the
 * atomics.
 */
#include "base/fault.h"

#ifdef ODFS_FAULTS

#include "base/mem.h"

#include <string.h>

#define X(name, what) name,
static const char *const fault_names[] = {
#include "base/fault.def"
};
#undef X
#define FAULT_POINTS ARRAY_COUNT(fault_names)

struct fault_point {
    _Atomic uint64_t passed;
    _Atomic uint64_t from,
        until; /* passings [from, until) fail, counted from 1; both 0: not armed */
};

struct fault {
    struct fault_point point[FAULT_POINTS];
};

static size_t fault_index(const char *point)
{
    size_t i = 0;
    while (i < FAULT_POINTS && strcmp(fault_names[i], point) != 0) {
        i++;
    }
    CHECK(i < FAULT_POINTS); /* add it to fault.def */
    return i;
}

struct fault *fault_new(void)
{
    return mem_zalloc(sizeof(struct fault));
}

struct fault *fault_free(struct fault *f)
{
    mem_free(f);
    return NULL;
}

void fault_arm(struct fault *f, const char *point, uint64_t nth, uint64_t count)
{
    CHECK(nth > 0);
    struct fault_point *at = &f->point[fault_index(point)];
    uint64_t from = at->passed + nth;
    at->until = 0; /* between the two stores nothing is armed */
    at->from = from;
    at->until = count == 0 || count > UINT64_MAX - from ? UINT64_MAX : from + count;
}

static void fault_point_disarm(struct fault_point *at)
{
    at->until = 0;
    at->from = 0;
}

void fault_disarm(struct fault *f, const char *point)
{
    if (point != NULL) {
        fault_point_disarm(&f->point[fault_index(point)]);
        return;
    }
    for (size_t i = 0; i < FAULT_POINTS; i++) {
        fault_point_disarm(&f->point[i]);
    }
}

bool fault_hit(struct fault *f, const char *point)
{
    if (f == NULL) {
        return false;
    }
    struct fault_point *at = &f->point[fault_index(point)];
    uint64_t pass = ++at->passed;
    return pass >= at->from && pass < at->until;
}

uint64_t fault_passed(const struct fault *f, const char *point)
{
    return f->point[fault_index(point)].passed;
}

#endif
