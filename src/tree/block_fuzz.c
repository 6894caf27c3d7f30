/*
 * tree/block_fuzz.c -- any bytes as a sorted block of each kind. What is accepted is in order, is
 * found again, and is itself when it is built anew.
 */
#include "tree/block.h"

#include "base/mem.h"
#include "testing/replay.h"

#include <string.h>

static void rebuild(const struct tree_block *b, const uint8_t *bytes, size_t size)
{
    struct tree_block_builder builder;
    struct tree_block_iter it;
    tree_block_builder_init(&builder, (enum tree_block_kind)b->kind);
    tree_block_iter_init(&it, b);
    for (bool on = tree_block_iter_seek(&it, 0); on; on = tree_block_iter_next(&it)) {
        bool equal = false;
        uint32_t lower = tree_block_lower(b, it.entry.key, &equal);
        CHECK(equal && lower <= it.at && tree_block_upper(b, it.entry.key) > it.at);
        CHECK(tree_block_builder_add(&builder, &it.entry) == 0); /* CHECKs the order */
    }
    uint8_t *out = mem_alloc(tree_block_builder_bytes(&builder));
    CHECK(out != NULL);
    size_t len = tree_block_builder_finish(&builder, out);
    struct tree_block again;
    CHECK(tree_block_open(out, len, builder.kind, &again) == 0 && again.count == b->count);
    CHECK(builder.prefix_len != b->prefix_len || builder.msn_min != b->base_msn || len == size);
    CHECK(len != size || again.prefix_len != b->prefix_len || again.base_msn != b->base_msn ||
          memcmp(out, bytes, size) == 0);
    mem_free(out);
    tree_block_builder_fini(&builder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tree_block b;
    for (unsigned kind = TREE_BLOCK_LEAF; kind <= TREE_BLOCK_INDEX; kind++) {
        if (tree_block_open(data, size, (enum tree_block_kind)kind, &b) == 0) {
            rebuild(&b, data, size);
        }
    }
    uint8_t *forged = size > 8 ? mem_dup(data, size) : NULL;
    if (forged != NULL) { /* a kind that is one, so that more is reached */
        forged[0] = (uint8_t)(1 + data[0] % 4);
        forged[1] = 0;
        if (tree_block_open(forged, size, (enum tree_block_kind)forged[0], &b) == 0) {
            rebuild(&b, forged, size);
        }
    }
    mem_free(forged);
    return 0;
}
