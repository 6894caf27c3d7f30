/*
 * base/fault.h -- fault points: places where a test can make the program fail. Test builds only
 * (ODFS_FAULTS); in release builds FAULT() is `false` and nothing is compiled in. Points are listed
 * in base/fault.def (X(name, what happens)); a name that is not listed aborts.
 */
#pragma once

#include "base/base.h"

struct fault; /* one set of armed points: one per node, from env->fault */

#ifdef ODFS_FAULTS
NODISCARD struct fault *fault_new(void);
struct fault *fault_free(struct fault *f);
DEFINE_FREEP(fault)
/* The point fails on its `nth` passing from now (1 = the next), `count` times (0 = for ever). */
void fault_arm(struct fault *f, const char *point, uint64_t nth, uint64_t count);
void fault_disarm(struct fault *f, const char *point); /* NULL: all */
bool fault_hit(struct fault *f, const char *point);    /* any thread; f may be NULL: never */
uint64_t fault_passed(const struct fault *f, const char *point); /* since fault_new */
#define FAULT(f, point) fault_hit((f), (point))
#else
#define FAULT(f, point) ((void)(f), false)
#endif
