/*
 * base/crc32c.h -- CRC-32C (Castagnoli, RFC 3720 B.4): hardware (SSE4.2 with three interleaved
 * streams, ARMv8 CRC) with a software twin (slicing by 8) that tests compare. Usual form: initial
 * and final inversion inside.
 */
#pragma once

#include "base/base.h"

/* crc of the bytes before (0 to begin) -> crc with these appended. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
uint32_t crc32c_software(uint32_t crc, const void *data, size_t len);
/* crc of A and B concatenated from crc(A), crc(B) and the length of B (GF(2) matrix, Adler's zlib).
 */
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b);
/* crc of A followed by `len` zero bytes. */
uint32_t crc32c_zeros(uint32_t crc_a, uint64_t len);
