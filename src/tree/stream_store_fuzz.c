/* tree/stream_store_fuzz.c -- any bytes as records of a partial file: what counts is sound, and the
 * newest. */
#include "tree/stream_receive_priv.h"

#include "base/mem.h"
#include "testing/replay.h"
#include "wire/wire.h"

#include <string.h>

#define SUM_AT (TREE_UNIT - 8)

static void fuzz_look(const uint8_t *unit, struct tree_receive_found *f)
{
    struct tree_receive_found before = *f;
    tree_receive_look(unit, f);
    CHECK(!before.any || (f->any && f->number >= before.number));
    if (f->any && (!before.any || f->number != before.number)) {
        uint8_t again[KV_CURSOR_BYTES];
        CHECK(f->number == wire_load_u64(unit + 16) && f->stored == wire_load_u64(unit + 24));
        kv_cursor_encode(&f->at, again);
        CHECK(memcmp(again, unit + 32, sizeof again) == 0);
    }
}

/* Twice: as it is, and with a good sum, so that what lies behind it is reached. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tree_receive_found f = {0};
    uint8_t unit[TREE_UNIT];
    for (size_t at = 0; at < size; at += 256) {
        memset(unit, 0, sizeof unit);
        memcpy(unit, data + at, base_min(size - at, 256));
        fuzz_look(unit, &f);
        wire_store_u64(unit + SUM_AT, tree_sum(0, unit, SUM_AT));
        fuzz_look(unit, &f);
    }
    return 0;
}
