/*
 * datanode/hold_fuzz.c -- any bytes as records of the list of chains, each at its place: as they
 * are, and with the checksum made good.
 */
#include "base/crc32c.h"
#include "datanode/hold.h"
#include "testing/replay.h"
#include "wire/wire.h"

#include <string.h>

static bool fuzz_decode(const uint8_t bytes[DATANODE_HOLD_BYTES], uint64_t place)
{
    struct datanode_hold_record x, y;
    uint8_t again[DATANODE_HOLD_BYTES];
    int rc = datanode_hold_decode(bytes, place, &x);
    CHECK(rc == 0 || rc == -ERR_bad_crc);
    if (rc == 0) {
        datanode_hold_encode(&x, place, again);
        CHECK(datanode_hold_decode(again, place, &y) == 0);
        CHECK(x.chain == y.chain && x.epoch == y.epoch && x.lost == y.lost);
        CHECK(datanode_hold_decode(again, place + 1, &y) == -ERR_bad_crc);
    }
    return rc == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (uint64_t i = 0; i < size / DATANODE_HOLD_BYTES; i++) {
        uint8_t bytes[DATANODE_HOLD_BYTES], number[8];
        memcpy(bytes, data + i * sizeof bytes, sizeof bytes);
        (void)fuzz_decode(bytes, i);
        wire_store_u64(number, i);
        uint32_t crc = crc32c(0, number, sizeof number);
        wire_store_u32(bytes + 12, crc32c(crc, bytes, sizeof bytes - 4));
        CHECK(fuzz_decode(bytes, i));
    }
    return 0;
}
