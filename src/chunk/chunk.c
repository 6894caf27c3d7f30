/* chunk/chunk.c -- the digest of a content. */
#include "chunk/chunk.h"

#include "base/crc32c.h"
#include "wire/wire.h"

#define DIGEST_STEP 64u

uint32_t chunk_digest(uint32_t length, const uint32_t *crc)
{
    uint8_t bytes[DIGEST_STEP * 4];
    uint32_t cells = chunk_cells(length);
    wire_store_u32(bytes, length);
    uint32_t digest = crc32c(0, bytes, 4);
    for (uint32_t cell = 0; cell < cells; cell += DIGEST_STEP) {
        uint32_t count = (uint32_t)base_min(DIGEST_STEP, cells - cell);
        for (uint32_t i = 0; i < count; i++) {
            wire_store_u32(bytes + (size_t)i * 4, crc[cell + i]);
        }
        digest = crc32c(digest, bytes, (size_t)count * 4);
    }
    return digest;
}
