/* base/crc32c_priv.h -- the constants, and each way to compute, so that tests can compare them. */
#pragma once

#include "base/crc32c.h"

#define CRC32C_POLYNOMIAL 0x82f63b78u /* bit i is the coefficient of x^(31 - i) */
#define CRC32C_POWER_COUNT 67u

extern const uint32_t crc32c_slice_table[8][256];
extern const uint32_t crc32c_power_table[CRC32C_POWER_COUNT];

/* Lengths of the three interleaved streams in bytes: 4096 is 3 * 1360 + 16. */
#define CRC32C_LONG_BYTES 1360u
#define CRC32C_SHORT_BYTES 168u

/* Computes with the processor's instructions: true and *crc moves on. False: it has none. */
bool crc32c_hardware(uint32_t *crc, const void *data, size_t len);
