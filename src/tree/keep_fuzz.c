/* tree/keep_fuzz.c -- any bytes as what says whose piece of a memtable it is. */
#include "tree/write.h"

#include "base/mem.h"
#include "testing/replay.h"
#include "wire/wire.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t at = 0; at + 16 <= size; at += 16) {
        struct tree_btt_piece piece = {0};
        struct tree_keep_owner o;
        memcpy(piece.owner, data + at, sizeof piece.owner);
        if (tree_keep_owner(&piece, &o) < 0) {
            continue;
        }
        uint8_t again[16] = {0};
        CHECK(o.piece_number < o.piece_count);
        (void)tree_keep_number(o.memtable_number, o.piece_number);
        wire_store_u32(again, o.memtable_number);
        wire_store_u32(again + 4, o.piece_number);
        wire_store_u32(again + 8, o.piece_count);
        CHECK(memcmp(again, piece.owner, sizeof again) == 0);
    }
    return 0;
}
