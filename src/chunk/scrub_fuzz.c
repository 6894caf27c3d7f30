/*
 * chunk/scrub_fuzz.c -- any bytes as the record of a scrub: as they are, and with magic, version
 * and checksum made good. What is accepted is written again, and how long it rests has a bound.
 */
#include "base/crc32c.h"
#include "base/mem.h"
#include "chunk/scrub_format.h"
#include "testing/replay.h"
#include "wire/wire.h"

#include <string.h>

static void fuzz_pace(const struct chunk_scrub_record *x)
{
    const struct chunk_scrub_round *r = &x->info.round;
    const struct chunk_scrub_pace p = {.round_ms = x->info.last_took_ms,
                                       .share_permille = 1 + x->info.found % 1000,
                                       .busy = (x->info.rounds & 1) != 0,
                                       .gone_ms = r->begun_ms,
                                       .weight = r->weight,
                                       .done = r->done,
                                       .now = r->chunks,
                                       .took_ns = r->found};
    CHECK(chunk_scrub_pause_ns(&p) <= CHUNK_SCRUB_PAUSE_MAX_NS);
    CHECK(chunk_scrub_permille(&x->info) <= 1000);
}

static void fuzz_decode(const uint8_t bytes[CHUNK_SCRUB_BYTES])
{
    struct chunk_scrub_record x, y;
    uint8_t again[CHUNK_SCRUB_BYTES];
    if (chunk_scrub_decode(bytes, &x) == 0) {
        chunk_scrub_encode(&x, again);
        CHECK(chunk_scrub_decode(again, &y) == 0);
        CHECK(y.number == x.number && y.info.found == x.info.found);
        fuzz_pace(&x);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t bytes[CHUNK_SCRUB_BYTES] = {0};
    if (size > 0) {
        memcpy(bytes, data, base_min(size, sizeof bytes));
    }
    fuzz_decode(bytes);
    wire_store_u32(bytes, 0x42524353u); /* "SCRB" */
    wire_store_u32(bytes + 4, 1);
    wire_store_u32(bytes + CHUNK_SCRUB_BYTES - 4, crc32c(0, bytes, CHUNK_SCRUB_BYTES - 4));
    fuzz_decode(bytes);
    return 0;
}
