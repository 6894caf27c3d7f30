#include "kv/batch.h"

#include <string.h>

#include "base/mem.h"
#include "testing/testing.h"

static void batch_freep(struct kv_batch *b)
{
    kv_batch_fini(b);
}

TEST(slices_sort_by_bytes_and_then_by_length)
{
    struct kv_slice a = kv_slice_of("ab", 2), b = kv_slice_of("ab\0", 3), c = kv_slice_of("b", 1);
    struct kv_slice high = kv_slice_of("\xff", 1), none = kv_slice_of(NULL, 0);
    CHECK_TRUE(kv_slice_compare(a, b) < 0);
    CHECK_TRUE(kv_slice_compare(b, c) < 0);
    CHECK_TRUE(kv_slice_compare(high, c) > 0);
    CHECK_TRUE(kv_slice_compare(none, a) < 0);
    CHECK_EQ(kv_slice_compare(a, a), 0);
    CHECK_EQ(kv_slice_compare(none, none), 0);
}

TEST_TORTURE(batch_gives_back_what_was_put_in)
{
    CLEANUP(batch_freep) struct kv_batch b = {0};
    struct kv_field f[2] = {{.offset = 0, .op = KV_FIELD_ADD, .operand = (uint64_t)-5},
                            {.offset = 8, .op = KV_FIELD_MAX, .operand = 7}};
    TRY(kv_batch_put(&b, kv_slice_of("key", 3), kv_slice_of("value", 5)));
    TRY(kv_batch_delete(&b, kv_slice_of("gone", 4)));
    TRY(kv_batch_delete_range(&b, kv_slice_of("a", 1), kv_slice_of("bb", 2)));
    TRY(kv_batch_upsert(&b, kv_slice_of("count", 5), 16, f, 2));
    TRY(kv_batch_put(&b, kv_slice_of("empty", 5), kv_slice_of(NULL, 0)));
    CHECK_EQ(b.count, 5);
    struct kv_batch_reader r;
    struct kv_batch_item it;
    kv_batch_reader_init(&r, &b);
    CHECK_TRUE(kv_batch_reader_next(&r, &it) && it.op == KV_PUT);
    CHECK_EQ(kv_slice_compare(it.key, kv_slice_of("key", 3)), 0);
    CHECK_EQ(kv_slice_compare(it.value, kv_slice_of("value", 5)), 0);
    CHECK_TRUE(kv_batch_reader_next(&r, &it) && it.op == KV_DELETE);
    CHECK_EQ(kv_slice_compare(it.key, kv_slice_of("gone", 4)), 0);
    CHECK_TRUE(kv_batch_reader_next(&r, &it) && it.op == KV_DELETE_RANGE);
    CHECK_EQ(kv_slice_compare(it.key, kv_slice_of("a", 1)), 0);
    CHECK_EQ(kv_slice_compare(it.value, kv_slice_of("bb", 2)), 0);
    CHECK_TRUE(kv_batch_reader_next(&r, &it) && it.op == KV_UPSERT);
    CHECK_EQ(it.value_len, 16);
    CHECK_EQ(it.field_count, 2);
    CHECK_EQ(it.field[0].operand, (uint64_t)-5);
    CHECK_EQ(it.field[1].offset, 8);
    CHECK_EQ(it.field[1].op, KV_FIELD_MAX);
    CHECK_TRUE(kv_batch_reader_next(&r, &it) && it.op == KV_PUT);
    CHECK_EQ(it.value.len, 0);
    CHECK_TRUE(!kv_batch_reader_next(&r, &it));
}

TEST(batch_refuses_what_is_outside_its_limits_and_stays_refused)
{
    CLEANUP(batch_freep) struct kv_batch b = {0};
    static uint8_t big[KV_VALUE_MAX + 1];
    struct kv_slice key = kv_slice_of("k", 1), value = kv_slice_of("v", 1);
    CHECK_OK(kv_batch_put(&b, kv_slice_of(big, KV_KEY_MAX), kv_slice_of(big, KV_VALUE_MAX)));
    CHECK_RC(kv_batch_put(&b, kv_slice_of(big, KV_KEY_MAX + 1), value), E2BIG);
    CHECK_RC(kv_batch_put(&b, key, value), E2BIG);
    kv_batch_clear(&b);
    CHECK_RC(kv_batch_put(&b, key, kv_slice_of(big, KV_VALUE_MAX + 1)), E2BIG);
    kv_batch_clear(&b);
    CHECK_RC(kv_batch_delete(&b, kv_slice_of("", 0)), EINVAL);
    kv_batch_clear(&b);
    CHECK_RC(kv_batch_delete_range(&b, key, kv_slice_of("", 0)), EINVAL);
    kv_batch_clear(&b);
    struct kv_field f = {.offset = 1, .op = KV_FIELD_ADD, .operand = 1};
    CHECK_RC(kv_batch_upsert(&b, key, 8, &f, 1), EINVAL);
    kv_batch_clear(&b);
    CHECK_RC(kv_batch_upsert(&b, key, KV_KEY_MAX + 1, &f, 1), EINVAL);
    kv_batch_clear(&b);
    CHECK_RC(kv_batch_upsert(&b, key, 16, &f, 0), EINVAL);
    kv_batch_clear(&b);
    CHECK_OK(kv_batch_upsert(&b, key, 9, &f, 1));
}

TEST(fields_add_modulo_and_take_the_greater)
{
    uint8_t v[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 9};
    struct kv_field f[] = {{.offset = 0, .op = KV_FIELD_ADD, .operand = 3},
                           {.offset = 8, .op = KV_FIELD_MAX, .operand = 4},
                           {.offset = 8, .op = KV_FIELD_MAX, .operand = 300}};
    kv_fields_apply(v, sizeof v, f, 2);
    CHECK_EQ(v[0], 2);
    CHECK_EQ(v[7], 0);
    CHECK_EQ(v[8], 9);
    kv_fields_apply(v, sizeof v, f + 2, 1);
    CHECK_EQ(v[8], 300 - 256);
    CHECK_EQ(v[9], 1);
}
