/*
 * Frame headers: the bytes as they are, and again with the magic number and the checksum made
 * right. What is accepted is within the limits and, encoded again, gives the same bytes, but for
 * the fields that its kind does not have.
 */
#include "wire/frame.h"

#include "base/crc32c.h"
#include "wire/wire.h"

#include <string.h>

#define AT_CRC 36u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode_one(const uint8_t bytes[FRAME_BYTES])
{
    struct wire_frame f, again;
    char text[FRAME_TEXT_SIZE];
    if (wire_frame_decode(bytes, &f) < 0) {
        return;
    }
    CHECK(f.body_len <= FRAME_BODY_MAX && f.data_len <= FRAME_DATA_MAX);
    CHECK(f.status <= 0 && f.status >= -INT32_MAX);
    uint8_t out[FRAME_BYTES];
    wire_frame_encode(&f, out);
    CHECK(wire_frame_decode(out, &again) == 0);
    if (f.kind == FRAME_REQUEST || f.kind == FRAME_RESPONSE) {
        CHECK(memcmp(bytes, out, FRAME_BYTES) == 0);
    }
    wire_frame_to_text(&f, text, sizeof text);
    CHECK(strlen(text) < sizeof text - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t bytes[FRAME_BYTES] = {0};
    if (size == 0) {
        return 0;
    }
    memcpy(bytes, data, base_min(size, FRAME_BYTES));
    decode_one(bytes);
    wire_store_u32(bytes, FRAME_MAGIC);
    bytes[4] = size % 2 == 0 ? FRAME_VERSION : bytes[4];
    wire_store_u32(bytes + AT_CRC, crc32c(0, bytes, AT_CRC));
    decode_one(bytes);
    return 0;
}
