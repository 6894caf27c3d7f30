/* chunk/sums_test.c -- what is not the same adds another number to the sum of its chain. */
#include "chunk/sums_priv.h"

#include "base/mem.h"
#include "chunk/record_format.h"
#include "testing/testing.h"

#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y ? 1 : 0;
}

static uint64_t mark(uint64_t data_id, uint32_t index, uint32_t aepoch, uint64_t ver,
                     uint32_t digest)
{
    const struct chunk_meta m = {.identity = {.aepoch = aepoch, .ver = ver}, .digest = digest};
    return chunk_sum_of((struct chunk_key){data_id, index}, &m).mark;
}

/* Files that are made one after the other, with the same contents: all their numbers are close. */
TEST(no_two_chunks_have_one_mark)
{
    CLEANUP(mem_freep) uint64_t *seen = mem_calloc(32 * 32 * 4 * 4 * 2, sizeof *seen);
    size_t count = 0;
    CHECK_TRUE(seen != NULL);
    for (uint64_t data_id = 1; data_id <= 32; data_id++) {
        for (uint32_t i = 0; i < 32 * 4 * 4 * 2; i++) {
            seen[count++] = mark(data_id, i % 32, 1 + i / 32 % 4, 1 + i / 128 % 4, i / 512);
        }
    }
    qsort(seen, count, sizeof *seen, compare);
    for (size_t i = 1; i < count; i++) {
        CHECK_TRUE(seen[i - 1] != seen[i]);
    }
}

/* One content less and another one more, as when a file went while another one came. */
TEST(what_goes_is_not_made_up_for_by_what_comes)
{
    const struct chunk_meta m = {.identity = {.aepoch = 1, .ver = 1}, .digest = 7};
    struct chunk_sum sum = {0}, other = {0};
    struct chunk_sum four = chunk_sum_of((struct chunk_key){4, 1}, &m);
    struct chunk_sum five = chunk_sum_of((struct chunk_key){5, 0}, &m);
    chunk_sum_add(&sum, &four);
    chunk_sum_add(&other, &five);
    CHECK_EQ(sum.count, other.count);
    CHECK_TRUE(!chunk_sum_equal(&sum, &other));
    chunk_sum_add(&sum, &five);
    chunk_sum_take(&sum, &four);
    CHECK_TRUE(chunk_sum_equal(&sum, &other));
}
