/*
 * tree/tree_extra_fuzz.c -- what a checkpoint knows besides nodes, from arbitrary bytes. What is
 * accepted is what an encoder writes.
 */
#include "tree/tree_extra.h"

#include "base/mem.h"
#include "wire/wire.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_decode(const uint8_t *bytes, size_t len)
{
    struct tree_extra x;
    if (tree_extra_decode(bytes, len, &x) < 0) {
        return;
    }
    CHECK(tree_extra_bytes(&x) == len && x.table_count <= TREE_EXTRA_TABLES_MAX);
    uint64_t *drops = mem_calloc(x.drop_count + 1, sizeof *drops);
    uint8_t *again = mem_alloc(len);
    if (drops != NULL && again != NULL) {
        for (size_t i = 0; i < x.drop_count; i++) {
            drops[i] = wire_load_u64(x.drops + i * sizeof(uint64_t));
        }
        tree_extra_encode(&x, drops, again);
        CHECK(memcmp(again, bytes, len) == 0);
    }
    mem_free(drops);
    mem_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_decode(data, size);
    uint8_t bytes[512] = {'B', 'T', 'E', 'X', 1};
    size_t len = base_min(size + 8, sizeof bytes);
    if (size > 0) { /* behind a good beginning */
        memcpy(bytes + 8, data, len - 8);
    }
    fuzz_decode(bytes, len);
    return 0;
}
