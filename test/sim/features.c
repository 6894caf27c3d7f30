/* sim/features.c -- see features.h. */
#include "features.h"

#include "base/rand.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>

#define SALT UINT64_C(0x66656174757265) /* not the numbers that the world draws */

static const struct {
    const char *name;
    uint8_t one_in;
} features[FEATURE_COUNT] = {
    [FEATURE_DRAINS] = {"drains", 3},   [FEATURE_REBUILD] = {"rebuild", 4},
    [FEATURE_ADDS] = {"adds", 5},       [FEATURE_ROTS] = {"rots", 4},
    [FEATURE_CLASSES] = {"classes", 4}, [FEATURE_PAIRS] = {"pairs", 5},
    [FEATURE_RACKS] = {"racks", 6},     [FEATURE_ANYWHERE] = {"anywhere", 5}};

bool features_have(const struct features *f, enum feature which)
{
    return (f->bits >> which & 1) != 0;
}

struct features features_of(uint64_t seed, const struct features_wish *wish)
{
    /* Mostly two; chains with members in the middle, and those that have but one. */
    static const uint8_t copies[] = {2, 3, 2, 1, 2, 3, 2, 4, 2, 5, 3, 2, 1, 2, 3, 2};
    struct features f = {.bits = 0};
    struct rand r;
    rand_seed(&r, seed ^ SALT);
    f.copies = copies[rand_below(&r, ARRAY_COUNT(copies))];
    for (unsigned i = 0; i < FEATURE_COUNT; i++) {
        f.bits |= rand_chance(&r, 1, features[i].one_in) ? 1u << i : 0;
    }
    uint32_t other = (uint32_t)rand_range(&r, 1, 2);
    f.bits = (f.bits | wish->with) & ~wish->without;
    f.copies = wish->copies > 0 ? wish->copies : f.copies;
    if (features_have(&f, FEATURE_CLASSES)) { /* another number of 1 to 3 */
        f.other = other < f.copies ? other : other + 1;
    }
    return f;
}

int features_find(const char *name, uint32_t *ret_bit)
{
    for (unsigned i = 0; i < FEATURE_COUNT; i++) {
        if (strcmp(name, features[i].name) == 0) {
            *ret_bit = 1u << i;
            return 0;
        }
    }
    return -ENOENT;
}

void features_to_text(const struct features *f, char to[FEATURES_TEXT])
{
    struct text t;
    text_init(&t, to, FEATURES_TEXT);
    text_add(&t, "copies=%u", f->copies);
    for (unsigned i = 0; i < FEATURE_COUNT; i++) {
        if (features_have(f, (enum feature)i)) {
            text_add(&t, " %s", features[i].name);
        }
        if (i == FEATURE_CLASSES && f->other > 0) {
            text_add(&t, "=%u", f->other);
        }
    }
}
