/*
 * chunk/scrub_format.h -- pure parts of chunk/scrub.c: the file that says where a round is
 * (doc/format/chunk.md), and how long it rests.
 */
#pragma once

#include "base/text.h"
#include "chunk/scrub.h"

#define CHUNK_SCRUB_BYTES 256u
#define CHUNK_SCRUB_COPIES 2u
#define CHUNK_SCRUB_DISTANCE 4096u /* between copies */

struct chunk_scrub_record {
    uint64_t number; /* the higher one of the two copies counts */
    struct uuid target;
    struct chunk_scrub_info info;
};
void chunk_scrub_encode(const struct chunk_scrub_record *x, uint8_t to[CHUNK_SCRUB_BYTES]);
/* -ERR_bad_magic, -ERR_bad_crc, -ERR_bad_version, -ERR_bad_value. */
NODISCARD int chunk_scrub_decode(const uint8_t from[CHUNK_SCRUB_BYTES],
                                 struct chunk_scrub_record *ret);

/* What a chunk counts: its bytes, and what finding it costs. */
#define CHUNK_SCRUB_SEEK 65536u
#define CHUNK_SCRUB_PAUSE_MAX_NS (UINT64_C(3600) * 1000000000)
struct chunk_scrub_pace {
    uint64_t round_ms, share_permille; /* share: 1 to 1,000 */
    bool busy;
    uint64_t gone_ms;      /* since the round began */
    uint64_t weight, done; /* of the round, with what was just looked at */
    uint64_t now;          /* the weight of that, and how long it took */
    uint64_t took_ns;
};
/* So long it rests now: the greater one of what spreads the rest over the time that is left, and
 * what keeps the disk free for others. */
uint64_t chunk_scrub_pause_ns(const struct chunk_scrub_pace *p);
