/* base/rand.c -- see rand.h. xoshiro256** 1.0, seeded through splitmix64, as its authors advise. */
#include "base/rand.h"

static uint64_t rotate_left(uint64_t v, unsigned by)
{
    return (v << by) | (v >> (64 - by));
}

static uint64_t splitmix64(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void rand_seed(struct rand *r, uint64_t seed)
{
    for (size_t i = 0; i < ARRAY_COUNT(r->s); i++) {
        r->s[i] = splitmix64(&seed);
    }
}

uint64_t rand_u64(struct rand *r)
{
    uint64_t *s = r->s;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

/* Lemire's multiplication; the few values that would make some results likelier are drawn again.
 * The chance of another turn is below 1/2 for the worst bound, so the loop ends. */
uint64_t rand_below(struct rand *r, uint64_t bound)
{
    CHECK(bound > 0);
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)rand_u64(r) * bound;
    if ((uint64_t)product < bound) {
        uint64_t unfair = (0 - bound) % bound; /* 2^64 mod bound */
        while ((uint64_t)product < unfair) {
            product = (wide)rand_u64(r) * bound;
        }
    }
    return (uint64_t)(product >> 64);
}

uint64_t rand_range(struct rand *r, uint64_t low, uint64_t high)
{
    CHECK(low <= high);
    uint64_t span = high - low;
    return span == UINT64_MAX ? rand_u64(r) : low + rand_below(r, span + 1);
}

bool rand_chance(struct rand *r, uint64_t num, uint64_t den)
{
    return rand_below(r, den) < num;
}

void rand_bytes(struct rand *r, void *out, size_t len)
{
    uint8_t *at = out;
    while (len > 0) {
        uint64_t v = rand_u64(r);
        size_t step = base_min(len, sizeof v);
        for (size_t i = 0; i < step; i++) {
            at[i] = (uint8_t)(v >> (8 * i)); /* the same bytes on every host */
        }
        at += step;
        len -= step;
    }
}

struct rand rand_fork(struct rand *r)
{
    struct rand fork;
    rand_seed(&fork, rand_u64(r));
    return fork;
}
