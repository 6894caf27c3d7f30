/* tree/ranges_fuzz.c -- any bytes as a list of ranges. What is accepted is itself when encoded. */
#include "tree/ranges.h"

#include "base/mem.h"
#include "testing/replay.h"

#include <string.h>

static void fuzz(const uint8_t *data, size_t size)
{
    struct tree_ranges r;
    if (tree_ranges_open(data, size, &r) < 0) {
        return;
    }
    struct tree_ranges_item *range = mem_calloc(r.count, sizeof *range);
    uint8_t *out = mem_alloc(size);
    CHECK(range != NULL && out != NULL);
    for (uint32_t i = 0; i < r.count; i++) {
        range[i] = tree_ranges_get(&r, i);
        CHECK(tree_ranges_cover(&r, range[i].low, range[i].msn) == range[i].msn);
    }
    CHECK(tree_ranges_encode(range, r.count, out) == size && memcmp(out, data, size) == 0);
    mem_free(range);
    mem_free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t version[] = {1, 0, 0, 0};
    fuzz(data, size);
    if (size >= TREE_RANGES_HEADER_BYTES) {
        uint8_t *forged = mem_dup(data, size);
        CHECK(forged != NULL);
        memcpy(forged, version, sizeof version);
        memset(forged + 12, 0, 4);
        fuzz(forged, size);
        mem_free(forged);
    }
    return 0;
}
