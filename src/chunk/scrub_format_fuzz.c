/* chunk/scrub_format_fuzz.c -- any bytes as what says where a round of the scrubber is. */
#include "chunk/scrub_format.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "testing/replay.h"
#include "wire/wire.h"

#include <string.h>

/* What is accepted is itself when it is encoded, but for bytes that a later version may use. */
static void fuzz(const uint8_t *bytes)
{
    struct chunk_scrub_record x, y;
    uint8_t again[CHUNK_SCRUB_BYTES];
    if (chunk_scrub_decode(bytes, &x) < 0) {
        return;
    }
    chunk_scrub_encode(&x, again);
    CHECK(chunk_scrub_decode(again, &y) == 0);
    CHECK(x.number == y.number && x.info.round.next.data_id == y.info.round.next.data_id &&
          x.info.found == y.info.found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t bytes[CHUNK_SCRUB_BYTES] = {0};
    memcpy(bytes, data, base_min(size, sizeof bytes));
    fuzz(bytes);
    wire_store_u32(bytes + sizeof bytes - 4, crc32c(0, bytes, sizeof bytes - 4));
    fuzz(bytes);
    return 0;
}
