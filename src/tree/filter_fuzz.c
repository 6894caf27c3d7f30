/* tree/filter_fuzz.c -- any bytes as a filter, as they are and with a good checksum. */
#include "tree/filter.h"

#include "base/mem.h"
#include "testing/replay.h"
#include "wire/wire.h"

#define SEED 1u

static void fuzz(const uint8_t *data, size_t size)
{
    struct tree_filter f;
    if (tree_filter_open(data, size, SEED, &f) < 0) {
        return;
    }
    for (uint64_t i = 0; i < 64; i++) {
        (void)tree_filter_may_contain(&f, i * UINT64_C(0x9e3779b97f4a7c15) - 1);
    }
    (void)tree_filter_may_contain(&f, UINT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz(data, size);
    if (size >= TREE_FILTER_HEADER_BYTES && size <= TREE_RAW_MAX) {
        uint8_t *forged = mem_dup(data, size);
        CHECK(forged != NULL);
        uint64_t head = tree_sum(SEED, forged, 56);
        wire_store_u64(forged + 56, tree_sum(head, forged + 64, size - 64));
        fuzz(forged, size);
        mem_free(forged);
    }
    return 0;
}
