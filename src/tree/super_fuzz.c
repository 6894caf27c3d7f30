/*
 * tree/super_fuzz.c -- superblocks from arbitrary bytes: raw, and with magic, place and checksum
 * made good, so that what lies behind them is reached. What is accepted survives a round trip.
 */
#include "tree/super.h"

#include "wire/wire.h"

#include <string.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_decode(const uint8_t in[TREE_SUPER_BYTES], struct tree_super_pair *pair)
{
    for (unsigned i = 0; i < TREE_SUPER_PLACES; i++) {
        struct tree_super *s = &pair->super[i];
        uint64_t offset = i * (uint64_t)TREE_SUPER_SECOND;
        pair->rc[i] = tree_super_decode(in, offset, s, &pair->err[i]);
        CHECK(pair->rc[i] == 0 || pair->err[i].code == pair->rc[i]);
        if (pair->rc[i] == 0) {
            struct tree_super copy = *s, again;
            uint8_t bytes[TREE_SUPER_BYTES];
            char text[256];
            tree_super_encode(&copy, bytes);
            CHECK(tree_super_decode(bytes, offset, &again, NULL) == 0);
            CHECK(again.checkpoint == s->checkpoint && again.app_len == s->app_len);
            tree_super_to_text(s, text, sizeof text);
        }
    }
}

static void fuzz_repair(uint8_t *bytes)
{
    wire_store_u64(bytes, UINT64_C(0x3176004545525442)); /* "BTREE", 0, "v1" */
    wire_store_u32(bytes + 8, 1);
    wire_store_u32(bytes + 12, 1);
    uint64_t seed = XXH3_64bits(bytes + 16, TREE_SUPER_ID_BYTES);
    wire_store_u64(bytes + TREE_SUPER_BYTES - 8,
                   XXH3_64bits_withSeed(bytes, TREE_SUPER_BYTES - 8, seed));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tree_super_pair pair;
    struct tree_super_choice choice;
    uint8_t bytes[TREE_SUPER_BYTES] = {0};
    memset(&pair, 0, sizeof pair);
    if (size > 0) {
        memcpy(bytes, data, base_min(size, sizeof bytes));
    }
    fuzz_decode(bytes, &pair);
    fuzz_repair(bytes);
    fuzz_decode(bytes, &pair);
    if (tree_super_choose(&pair, &choice, NULL) == 0) {
        CHECK(pair.rc[choice.newest] == 0);
        CHECK(choice.older < 0 || pair.rc[choice.older] == 0);
    }
    return 0;
}
