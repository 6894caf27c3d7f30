/* datanode/hold_fuzz.c -- any bytes as records of chains without a whole copy. */
#include "datanode/hold.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "testing/replay.h"
#include "wire/wire.h"

#include <string.h>

static void fuzz(const uint8_t *bytes, uint64_t place)
{
    struct datanode_hold_record x, y;
    uint8_t again[DATANODE_HOLD_BYTES];
    if (datanode_hold_decode(bytes, place, &x) < 0) {
        return;
    }
    datanode_hold_encode(&x, place, again);
    CHECK(datanode_hold_decode(again, place, &y) == 0);
    CHECK(x.chain == y.chain && x.epoch == y.epoch && x.lost == y.lost);
    CHECK(datanode_hold_decode(again, place + 1, &y) < 0); /* elsewhere it is not one */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t place = 0;
    for (size_t at = 0; at + DATANODE_HOLD_BYTES <= size; at += DATANODE_HOLD_BYTES, place++) {
        uint8_t bytes[DATANODE_HOLD_BYTES], number[8];
        memcpy(bytes, data + at, sizeof bytes);
        fuzz(bytes, place);
        wire_store_u64(number, place);
        wire_store_u32(bytes + sizeof bytes - 4,
                       crc32c(crc32c(0, number, sizeof number), bytes, sizeof bytes - 4));
        fuzz(bytes, place);
    }
    return 0;
}
