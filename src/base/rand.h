/* base/rand.h -- a pure pseudo-random generator (xoshiro256**, Blackman and Vigna) for simulation
 * and jitter. */
#pragma once

#include "base/base.h"

struct rand {
    uint64_t s[4];
};
void rand_seed(struct rand *r, uint64_t seed); /* splitmix64 expansion */
uint64_t rand_u64(struct rand *r);
uint64_t rand_below(struct rand *r, uint64_t bound);              /* 0 .. bound - 1; bound > 0 */
uint64_t rand_range(struct rand *r, uint64_t low, uint64_t high); /* low .. high inclusive */
bool rand_chance(struct rand *r, uint64_t num, uint64_t den);     /* true num times of den */
void rand_bytes(struct rand *r, void *out, size_t len);
struct rand rand_fork(struct rand *r); /* an independent stream */
