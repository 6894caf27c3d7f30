#include "kv/batch.h"

#include <string.h>

#include "base/mem.h"

/*
 * Layout of one operation: op u8, key length u16, key, then
 *   PUT: value length u32, value          DELETE: nothing
 *   DELETE_RANGE: high length u16, high   UPSERT: value length u32, count u8,
 *                                                 count x {offset u16, op u8, operand u64}
 * The bytes are made here only, so the reader CHECKs instead of reporting.
 */
#define KV_FIELD_BYTES 11u

int kv_slice_compare(struct kv_slice a, struct kv_slice b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common == 0 ? 0 : memcmp(a.at, b.at, common);
    if (order != 0) {
        return order;
    }
    return a.len < b.len ? -1 : a.len > b.len ? 1 : 0;
}

static void kv_store(uint8_t *to, uint64_t v, size_t width)
{
    for (size_t i = 0; i < width; i++) {
        to[i] = (uint8_t)(v >> (8 * i));
    }
}

static uint64_t kv_load(const uint8_t *from, size_t width)
{
    uint64_t v = 0;
    for (size_t i = 0; i < width; i++) {
        v |= (uint64_t)from[i] << (8 * i);
    }
    return v;
}

void kv_batch_init(struct kv_batch *b)
{
    *b = (struct kv_batch){0};
}

void kv_batch_fini(struct kv_batch *b)
{
    mem_free(b->bytes);
    *b = (struct kv_batch){0};
}

void kv_batch_clear(struct kv_batch *b)
{
    b->len = 0;
    b->count = 0;
    b->rc = 0;
}

static int kv_batch_fail(struct kv_batch *b, int rc)
{
    CHECK(rc < 0);
    b->rc = b->rc == 0 ? rc : b->rc;
    return b->rc;
}

/* Room for an operation of `extra` bytes behind its key; writes op and key. NULL: failed. */
static uint8_t *kv_batch_begin(struct kv_batch *b, enum kv_op op, struct kv_slice key, size_t extra)
{
    if (b->rc != 0) {
        return NULL;
    }
    if (key.len == 0 || key.len > KV_KEY_MAX) {
        kv_batch_fail(b, key.len == 0 ? -EINVAL : -E2BIG);
        return NULL;
    }
    size_t need = b->len + 3 + key.len + extra;
    if (need > KV_BATCH_MAX) {
        kv_batch_fail(b, -E2BIG);
        return NULL;
    }
    if (mem_grow(&b->bytes, &b->capacity, need, 1) < 0) {
        kv_batch_fail(b, -ENOMEM);
        return NULL;
    }
    uint8_t *at = b->bytes + b->len;
    at[0] = (uint8_t)op;
    kv_store(at + 1, key.len, 2);
    memcpy(at + 3, key.at, key.len);
    b->len = need;
    b->count++;
    return at + 3 + key.len;
}

int kv_batch_put(struct kv_batch *b, struct kv_slice key, struct kv_slice value)
{
    if (value.len > KV_VALUE_MAX) {
        return kv_batch_fail(b, -E2BIG);
    }
    uint8_t *at = kv_batch_begin(b, KV_PUT, key, 4 + value.len);
    if (at == NULL) {
        return b->rc;
    }
    kv_store(at, value.len, 4);
    if (value.len > 0) {
        memcpy(at + 4, value.at, value.len);
    }
    return 0;
}

int kv_batch_delete(struct kv_batch *b, struct kv_slice key)
{
    kv_batch_begin(b, KV_DELETE, key, 0);
    return b->rc;
}

int kv_batch_delete_range(struct kv_batch *b, struct kv_slice low, struct kv_slice high)
{
    if (high.len == 0 || high.len > KV_KEY_MAX) {
        return kv_batch_fail(b, high.len == 0 ? -EINVAL : -E2BIG);
    }
    uint8_t *at = kv_batch_begin(b, KV_DELETE_RANGE, low, 2 + high.len);
    if (at == NULL) {
        return b->rc;
    }
    kv_store(at, high.len, 2);
    memcpy(at + 2, high.at, high.len);
    return 0;
}

static bool kv_fields_valid(uint32_t value_len, const struct kv_field *fields, size_t count)
{
    if (value_len > KV_KEY_MAX || count == 0 || count > KV_FIELDS_MAX) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        bool known = fields[i].op == KV_FIELD_ADD || fields[i].op == KV_FIELD_MAX;
        if (!known || (uint32_t)fields[i].offset + 8 > value_len) {
            return false;
        }
    }
    return true;
}

int kv_batch_upsert(struct kv_batch *b, struct kv_slice key, uint32_t value_len,
                    const struct kv_field *fields, size_t count)
{
    if (!kv_fields_valid(value_len, fields, count)) {
        return kv_batch_fail(b, -EINVAL);
    }
    uint8_t *at = kv_batch_begin(b, KV_UPSERT, key, 5 + count * KV_FIELD_BYTES);
    if (at == NULL) {
        return b->rc;
    }
    kv_store(at, value_len, 4);
    at[4] = (uint8_t)count;
    at += 5;
    for (size_t i = 0; i < count; i++, at += KV_FIELD_BYTES) {
        kv_store(at, fields[i].offset, 2);
        at[2] = (uint8_t)fields[i].op;
        kv_store(at + 3, fields[i].operand, 8);
    }
    return 0;
}

void kv_batch_reader_init(struct kv_batch_reader *r, const struct kv_batch *b)
{
    *r = (struct kv_batch_reader){.batch = b};
}

static void kv_batch_read_fields(const uint8_t *at, struct kv_batch_item *item)
{
    for (size_t i = 0; i < item->field_count; i++, at += KV_FIELD_BYTES) {
        item->field[i].offset = (uint16_t)kv_load(at, 2);
        item->field[i].op = at[2] == KV_FIELD_ADD ? KV_FIELD_ADD : KV_FIELD_MAX;
        item->field[i].operand = kv_load(at + 3, 8);
    }
}

bool kv_batch_reader_next(struct kv_batch_reader *r, struct kv_batch_item *ret)
{
    const struct kv_batch *b = r->batch;
    if (b->rc != 0 || r->at == b->len) {
        return false;
    }
    const uint8_t *at = b->bytes + r->at;
    ret->op = (enum kv_op)at[0];
    ret->key = kv_slice_of(at + 3, (size_t)kv_load(at + 1, 2));
    ret->value = kv_slice_of(NULL, 0);
    ret->value_len = 0;
    ret->field_count = 0;
    at += 3 + ret->key.len;
    switch (ret->op) {
    case KV_PUT:
        ret->value = kv_slice_of(at + 4, (size_t)kv_load(at, 4));
        at += 4 + ret->value.len;
        break;
    case KV_DELETE:
        break;
    case KV_DELETE_RANGE:
        ret->value = kv_slice_of(at + 2, (size_t)kv_load(at, 2));
        at += 2 + ret->value.len;
        break;
    case KV_UPSERT:
        ret->value_len = (uint32_t)kv_load(at, 4);
        ret->field_count = at[4];
        kv_batch_read_fields(at + 5, ret);
        at += 5 + ret->field_count * KV_FIELD_BYTES;
        break;
    default:
        CHECK(false && "an operation of a batch");
    }
    r->at = (size_t)(at - b->bytes);
    CHECK(r->at <= b->len);
    return true;
}

void kv_fields_apply(uint8_t *value, size_t value_len, const struct kv_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        CHECK((size_t)fields[i].offset + 8 <= value_len);
        uint8_t *at = value + fields[i].offset;
        uint64_t old = kv_load(at, 8);
        uint64_t now = fields[i].op == KV_FIELD_ADD ? old + fields[i].operand
                                                    : base_max(old, fields[i].operand);
        kv_store(at, now, 8);
    }
}
