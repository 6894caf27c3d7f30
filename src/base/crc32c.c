/*
 * base/crc32c.c -- see crc32c.h.
 *
 * A register value is a polynomial over GF(2) of degree < 32, with the highest power in the lowest
 * bit. Appending n bytes multiplies it by x^(8n) and adds the bytes, modulo P. Hence sums of parts
 * can be put together (crc32c_combine), and hence three streams can run side by side: one crc32
 * instruction takes three cycles, but one can start in each (Gopal et al., "Fast CRC Computation
 * for iSCSI Polynomial Using CRC32 Instruction", Intel 2011). Shifting a finished stream is one
 * carry-less multiplication.
 */
#include "base/crc32c.h"

#include "base/crc32c_priv.h"

#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_acle.h>
#include <sys/auxv.h>
#endif

/* Bytes in memory order as a little-endian number, on every host. */
static uint64_t load_u64(const uint8_t *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

/* ---- software ---- */

static uint32_t slice_u64(uint64_t v)
{
    uint32_t crc = 0;
    for (unsigned i = 0; i < 8; i++) {
        crc ^= crc32c_slice_table[7 - i][(v >> (8 * i)) & 0xff];
    }
    return crc;
}

uint32_t crc32c_software(uint32_t crc, const void *data, size_t len)
{
    const uint8_t *at = data;
    uint32_t state = ~crc;
    for (; len >= 8; len -= 8, at += 8) {
        state = slice_u64(load_u64(at) ^ state);
    }
    for (; len > 0; len--, at++) {
        state = crc32c_slice_table[0][(state ^ *at) & 0xff] ^ (state >> 8);
    }
    return ~state;
}

/* ---- hardware ---- */

#if defined(__x86_64__)

#define TARGET __attribute__((target("sse4.2,pclmul")))

/*
 * x^(8 * bytes - 33) modulo P: the product of two reflected numbers stands one bit too low, and the
 * crc32 instruction that reduces it appends 32 more.
 */
#define LONG_ONCE 0x3f70cc6fu
#define LONG_TWICE 0x5aa1f3cfu
#define SHORT_ONCE 0x1b3d8f29u
#define SHORT_TWICE 0xa60ce07bu
#define LONG_STEP ((size_t)3 * CRC32C_LONG_BYTES)
#define SHORT_STEP ((size_t)3 * CRC32C_SHORT_BYTES)

TARGET static uint64_t shift(uint64_t state, uint32_t power)
{
    __m128i a = _mm_cvtsi64_si128((long long)state);
    __m128i b = _mm_cvtsi64_si128((long long)power);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(_mm_clmulepi64_si128(a, b, 0)));
}

/* Three streams of `bytes` (a multiple of 8) each; `state` is what came before. */
TARGET static uint64_t three_streams(uint64_t state, const uint8_t *at, size_t bytes, uint32_t once,
                                     uint32_t twice)
{
    uint64_t first = state, second = 0, third = 0;
    for (size_t i = 0; i < bytes; i += 8) {
        first = _mm_crc32_u64(first, load_u64(at + i));
        second = _mm_crc32_u64(second, load_u64(at + bytes + i));
        third = _mm_crc32_u64(third, load_u64(at + 2 * bytes + i));
    }
    return shift(first, twice) ^ shift(second, once) ^ third;
}

TARGET static uint32_t run_sse42(uint32_t crc, const uint8_t *at, size_t len)
{
    uint64_t state = ~crc;
    for (; len >= LONG_STEP; len -= LONG_STEP) {
        state = three_streams(state, at, CRC32C_LONG_BYTES, LONG_ONCE, LONG_TWICE);
        at += LONG_STEP;
    }
    for (; len >= SHORT_STEP; len -= SHORT_STEP) {
        state = three_streams(state, at, CRC32C_SHORT_BYTES, SHORT_ONCE, SHORT_TWICE);
        at += SHORT_STEP;
    }
    for (; len >= 8; len -= 8, at += 8) {
        state = _mm_crc32_u64(state, load_u64(at));
    }
    for (; len > 0; len--, at++) {
        state = _mm_crc32_u8((uint32_t)state, *at);
    }
    return ~(uint32_t)state;
}

/* Asked each time: it is one load and a test, and needs no state of ours that threads could race
 * for. */
bool crc32c_hardware(uint32_t *crc, const void *data, size_t len)
{
    if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("pclmul")) {
        return false;
    }
    *crc = run_sse42(*crc, data, len);
    return true;
}

#elif defined(__aarch64__) && defined(__linux__)

/* clang 14 hides the functions of arm_acle.h unless the whole file is built for them. */
#ifdef __clang__
#define TARGET __attribute__((target("crc")))
#define CRC_U64(state, v) __builtin_arm_crc32cd((state), (v))
#define CRC_U8(state, v) __builtin_arm_crc32cb((state), (v))
#else
#define TARGET __attribute__((target("+crc")))
#define CRC_U64(state, v) __crc32cd((state), (v))
#define CRC_U8(state, v) __crc32cb((state), (v))
#endif
#define HWCAP_HAS_CRC32 (1ul << 7)

TARGET static uint32_t run_armv8(uint32_t crc, const uint8_t *at, size_t len)
{
    uint32_t state = ~crc;
    for (; len >= 8; len -= 8, at += 8) {
        state = CRC_U64(state, load_u64(at));
    }
    for (; len > 0; len--, at++) {
        state = CRC_U8(state, *at);
    }
    return ~state;
}

bool crc32c_hardware(uint32_t *crc, const void *data, size_t len)
{
    if ((getauxval(AT_HWCAP) & HWCAP_HAS_CRC32) == 0) {
        return false;
    }
    *crc = run_armv8(*crc, data, len);
    return true;
}

#else

bool crc32c_hardware(uint32_t *crc, const void *data, size_t len)
{
    (void)crc;
    (void)data;
    (void)len;
    return false;
}

#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    return crc32c_hardware(&crc, data, len) ? crc : crc32c_software(crc, data, len);
}

/* ---- arithmetic on sums ---- */

/* a * b modulo P. Without branches on the bits, which are as good as random. */
static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (unsigned i = 0; i < 32; i++) {
        product ^= b & (0 - ((a >> (31 - i)) & 1));         /* adds b * x^i */
        b = (b >> 1) ^ (CRC32C_POLYNOMIAL & (0 - (b & 1))); /* times x */
    }
    return product;
}

/* state * x^(8 * bytes) modulo P: one multiplication for each bit that is set in `bytes`. */
static uint32_t append_zeros(uint32_t state, uint64_t bytes)
{
    for (unsigned k = 3; bytes != 0; k++, bytes >>= 1) {
        if ((bytes & 1) != 0) {
            state = multiply(crc32c_power_table[k], state);
        }
    }
    return state;
}

/* The inversions at the ends cancel out: both sums carry them, see zlib's crc32_combine. */
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b)
{
    return append_zeros(crc_a, len_b) ^ crc_b;
}

uint32_t crc32c_zeros(uint32_t crc_a, uint64_t len)
{
    return ~append_zeros(~crc_a, len);
}
