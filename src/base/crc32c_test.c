#include "base/crc32c.h"

#include "base/crc32c_priv.h"
#include "base/rand.h"
#include "testing/testing.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* Bit by bit from the definition, sharing nothing with what it tests. */
static uint32_t by_definition(uint32_t crc, const uint8_t *at, size_t len)
{
    uint32_t state = ~crc;
    for (size_t i = 0; i < len; i++) {
        state ^= at[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            state = (state & 1) != 0 ? (state >> 1) ^ CRC32C_POLYNOMIAL : state >> 1;
        }
    }
    return ~state;
}

/* RFC 3720 B.4, and the check value of the CRC catalogues. */
TEST(crc32c_gives_the_published_sums)
{
    uint8_t zeros[32] = {0}, ones[32], up[32], down[32];
    static const uint8_t read_command[48] = {
        0x01, 0xc0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18, [32] = 0x28, [40] = 0x02};
    memset(ones, 0xff, sizeof ones);
    for (size_t i = 0; i < 32; i++) {
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    CHECK_EQ(crc32c(0, zeros, 32), 0x8a9136aau);
    CHECK_EQ(crc32c(0, ones, 32), 0x62a8ab43u);
    CHECK_EQ(crc32c(0, up, 32), 0x46dd794eu);
    CHECK_EQ(crc32c(0, down, 32), 0x113fdb5cu);
    CHECK_EQ(crc32c(0, read_command, 48), 0xd9963a56u);
    CHECK_EQ(crc32c(0, "123456789", 9), 0xe3069283u);
    CHECK_EQ(crc32c_software(0, "123456789", 9), 0xe3069283u);
    CHECK_EQ(crc32c(0, "", 0), 0);
    CHECK_EQ(crc32c(0x12345678, "", 0), 0x12345678);
}

TEST(crc32c_tables_follow_from_the_polynomial)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint32_t v = byte;
        for (unsigned k = 0; k < 8; k++) {
            for (unsigned bit = 0; bit < 8; bit++) {
                v = (v & 1) != 0 ? (v >> 1) ^ CRC32C_POLYNOMIAL : v >> 1;
            }
            CHECK_EQ(crc32c_slice_table[k][byte], v);
        }
    }
    uint32_t power = UINT32_C(1) << 30; /* x */
    for (unsigned k = 0; k < 20; k++) {
        CHECK_EQ(crc32c_power_table[k], power);
        for (uint32_t i = UINT32_C(1) << k; i > 0; i--) { /* doubles the exponent by single steps */
            power = (power & 1) != 0 ? (power >> 1) ^ CRC32C_POLYNOMIAL : power >> 1;
        }
    }
    for (unsigned k = 31; k < CRC32C_POWER_COUNT; k++) { /* x^(2^31) is x again */
        CHECK_EQ(crc32c_power_table[k], crc32c_power_table[k - 31]);
    }
}

static void check_ways(const uint8_t *at, size_t len, uint32_t crc)
{
    uint32_t expected = by_definition(crc, at, len), hardware = crc;
    CHECK_EQ(crc32c(crc, at, len), expected);
    CHECK_EQ(crc32c_software(crc, at, len), expected);
    if (crc32c_hardware(&hardware, at, len)) {
        CHECK_EQ(hardware, expected);
    }
}

/* All short lengths and those around the lengths at which the code changes its way. */
TEST(crc32c_ways_agree_on_all_lengths_and_alignments)
{
    static const size_t edges[] = {(size_t)3 * CRC32C_SHORT_BYTES, (size_t)3 * CRC32C_LONG_BYTES,
                                   (size_t)3 * (CRC32C_LONG_BYTES + CRC32C_SHORT_BYTES),
                                   (size_t)6 * CRC32C_LONG_BYTES, 12300};
    static uint8_t bytes[12400];
    struct rand r;
    rand_seed(&r, testing_seed());
    rand_bytes(&r, bytes, sizeof bytes);
    for (size_t align = 0; align < 8; align++) {
        for (size_t len = 0; len < 300; len++) {
            check_ways(bytes + align, len, (uint32_t)rand_u64(&r));
        }
        for (size_t i = 0; i < ARRAY_COUNT(edges); i++) {
            check_ways(bytes + align, edges[i] - 1, (uint32_t)rand_u64(&r));
            check_ways(bytes + align, edges[i], (uint32_t)rand_u64(&r));
            check_ways(bytes + align, edges[i] + 9, (uint32_t)rand_u64(&r));
        }
    }
}

TEST(crc32c_goes_on_where_it_stopped)
{
    uint8_t bytes[5000];
    struct rand r;
    rand_seed(&r, testing_seed());
    rand_bytes(&r, bytes, sizeof bytes);
    uint32_t whole = crc32c(0, bytes, sizeof bytes);
    for (unsigned i = 0; i < 200; i++) {
        size_t cut = rand_below(&r, sizeof bytes + 1);
        uint32_t left = crc32c(0, bytes, cut);
        uint32_t right = crc32c(0, bytes + cut, sizeof bytes - cut);
        CHECK_EQ(crc32c(left, bytes + cut, sizeof bytes - cut), whole);
        CHECK_EQ(crc32c_combine(left, right, sizeof bytes - cut), whole);
    }
}

TEST(crc32c_zeros_is_the_sum_with_zeros_behind)
{
    static const uint8_t zeros[4200];
    for (size_t len = 0; len < sizeof zeros; len += len < 40 ? 1 : 64) {
        CHECK_EQ(crc32c_zeros(0, len), crc32c(0, zeros, len));
        CHECK_EQ(crc32c_zeros(0xdeadbeef, len), crc32c(0xdeadbeef, zeros, len));
    }
    CHECK_EQ(crc32c_zeros(0, 4096), crc32c(0, zeros, 4096));
}

/* Lengths that no test can hold in memory: appending in parts is appending at once. */
TEST(crc32c_zeros_and_combine_take_any_length)
{
    struct rand r;
    rand_seed(&r, testing_seed());
    for (unsigned i = 0; i < 200; i++) {
        uint64_t len = rand_u64(&r), part = rand_below(&r, len + (len == 0));
        uint32_t a = (uint32_t)rand_u64(&r), b = (uint32_t)rand_u64(&r);
        CHECK_EQ(crc32c_zeros(crc32c_zeros(a, part), len - part), crc32c_zeros(a, len));
        uint32_t longer = crc32c_zeros(crc32c_combine(a, b, part), len - part);
        CHECK_EQ(crc32c_combine(a, crc32c_zeros(b, len - part), len), longer);
    }
    CHECK_EQ(crc32c_zeros(1, (UINT64_C(1) << 31) - 1), 1); /* the order of x: all the way round */
}

static double seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Prints rates for the person who tunes; what it asserts holds on a loaded machine as well. */
TEST(crc32c_is_fast)
{
    static uint8_t bytes[1 << 16];
    uint32_t crc = 0;
    double best_long = 1, best_cell = 1, best_zeros = 1;
    for (unsigned round = 0; round < 50; round++) {
        double t0 = seconds();
        crc = crc32c(crc, bytes, sizeof bytes);
        double t1 = seconds();
        for (unsigned i = 0; i < 16; i++) {
            crc = crc32c(crc, bytes + (size_t)4096 * i, 4096);
        }
        double t2 = seconds();
        for (unsigned i = 0; i < 16; i++) {
            crc = crc32c_zeros(crc, 4096 - i);
        }
        double t3 = seconds();
        best_long = t1 - t0 < best_long ? t1 - t0 : best_long;
        best_cell = t2 - t1 < best_cell ? t2 - t1 : best_cell;
        best_zeros = t3 - t2 < best_zeros ? t3 - t2 : best_zeros;
    }
    (void)printf("64 KiB: %.1f GB/s, 4 KiB: %.1f GB/s, up to 4 KiB of zeros: %.0f ns (%08x)\n",
                 sizeof bytes / best_long / 1e9, sizeof bytes / best_cell / 1e9,
                 best_zeros / 16 * 1e9, crc);
    CHECK_TRUE(best_zeros / 16 < 50e-6);
    CHECK_TRUE(sizeof bytes / best_long > 50e6);
}
