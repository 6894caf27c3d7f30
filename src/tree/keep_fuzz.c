/*
 * tree/keep_fuzz.c -- whose piece a segment is, from arbitrary bytes: as they are, and in a list
 * whose checksum is good. What is accepted is one of so many pieces, and is written again.
 */
#include "base/mem.h"
#include "testing/replay.h"
#include "tree/btt.h"
#include "tree/write.h"
#include "wire/wire.h"

#include <string.h>

#define FUZZ_PIECES 8u

static const uint8_t fuzz_id[TREE_BTT_ID_BYTES] = "fuzz";

static void fuzz_owner(const struct tree_btt_piece *p)
{
    struct tree_keep_owner o;
    uint8_t again[sizeof p->owner] = {0};
    int rc = tree_keep_owner(p, &o);
    CHECK(rc == 0 || rc == -ERR_bad_value);
    if (rc == 0) {
        CHECK(o.piece_number < o.piece_count && o.piece_count <= TREE_KEEP_PIECES_MAX);
        wire_store_u32(again, o.memtable_number);
        wire_store_u32(again + 4, o.piece_number);
        wire_store_u32(again + 8, o.piece_count);
        CHECK(memcmp(again, p->owner, sizeof again) == 0);
        CHECK(tree_keep_number(o.memtable_number, o.piece_number) % TREE_KEEP_PIECES_MAX ==
              o.piece_number);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tree_btt_piece p[FUZZ_PIECES] = {0}, got[FUZZ_PIECES];
    uint8_t bytes[1024];
    size_t count = base_min(size / sizeof p->owner, FUZZ_PIECES);
    for (size_t i = 0; i < count; i++) {
        memcpy(p[i].owner, data + i * sizeof p->owner, sizeof p->owner);
        p[i].offset = (20 + i) * 4096;
        p[i].len = 4096;
        p[i].birth = 1;
        fuzz_owner(&p[i]);
    }
    CHECK(tree_btt_pieces_bytes(FUZZ_PIECES) <= sizeof bytes);
    struct tree_btt_pieces_in in = {.bytes = bytes,
                                    .file_id = fuzz_id,
                                    .len = tree_btt_pieces_bytes(count),
                                    .count = count,
                                    .checkpoint = 7};
    in.expected = tree_btt_pieces_encode(p, count, 7, fuzz_id, bytes);
    CHECK(tree_btt_pieces_decode(&in, got) == 0);
    for (size_t i = 0; i < count; i++) {
        fuzz_owner(&got[i]);
    }
    return 0;
}
