/*
 * kv/batch.h -- a write batch: operations as data, applied atomically by kv_commit().
 *
 * Owner: the caller; one thread. A batch copies what it is given and is sticky: after a failed call
 * (out of memory, limit, bad argument) all later ones fail alike and kv_commit() refuses it; build
 * all, ask once. Operations take effect in their order. The bytes of a batch are little-endian, so
 * that engines may keep them as they are.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

#define KV_KEY_MAX 1024u
#define KV_VALUE_MAX (128u << 10)
#define KV_FIELDS_MAX 32u        /* of one upsert */
#define KV_BATCH_MAX (64u << 20) /* bytes of one batch */

/* Bytes of somebody else; each user says how long they are lent. */
struct kv_slice {
    const void *at;
    size_t len;
};

static inline struct kv_slice kv_slice_of(const void *at, size_t len)
{
    return (struct kv_slice){.at = at, .len = len};
}

/* Byte order; a prefix sorts before what it begins. <0, 0, >0. */
int kv_slice_compare(struct kv_slice a, struct kv_slice b);

/*
 * A blind change of one 64-bit little-endian field of a value. Deltas are data, so that replicas
 * and tools agree without code of the application. Adding is modulo 2^64: deltas may be summed in
 * any grouping, which is what lets an engine fold them.
 */
enum kv_field_op { KV_FIELD_ADD = 1, KV_FIELD_MAX = 2 };
struct kv_field {
    uint16_t offset; /* offset + 8 <= value_len of the upsert */
    enum kv_field_op op;
    uint64_t operand; /* ADD: two's complement; MAX: unsigned */
};

enum kv_op { KV_PUT = 1, KV_DELETE = 2, KV_DELETE_RANGE = 3, KV_UPSERT = 4 };

struct kv_batch {
    uint8_t *bytes; /* owned */
    size_t len, capacity;
    size_t count; /* operations */
    int rc;       /* first failure */
};

void kv_batch_init(struct kv_batch *b); /* all zero is the same */
void kv_batch_fini(struct kv_batch *b);
void kv_batch_clear(struct kv_batch *b); /* empty and good again; keeps its memory */

/* 0, or the first failure of this batch: -ENOMEM, -E2BIG (a limit above), -EINVAL. */
int kv_batch_put(struct kv_batch *b, struct kv_slice key, struct kv_slice value);
int kv_batch_delete(struct kv_batch *b, struct kv_slice key); /* an absent key is fine */
/* All keys with low <= key < high; nothing when low >= high. */
int kv_batch_delete_range(struct kv_batch *b, struct kv_slice low, struct kv_slice high);
/*
 * Applies `fields` to the value of `key`. An absent value, and what a value lacks to `value_len`
 * bytes (at most KV_KEY_MAX), is taken as zeros first; a longer value keeps its length.
 */
int kv_batch_upsert(struct kv_batch *b, struct kv_slice key, uint32_t value_len,
                    const struct kv_field *fields, size_t count);

/* Walks the operations; slices are lent until the batch changes. */
struct kv_batch_reader {
    const struct kv_batch *batch;
    size_t at;
};
struct kv_batch_item {
    enum kv_op op;
    struct kv_slice key;   /* DELETE_RANGE: low */
    struct kv_slice value; /* PUT; DELETE_RANGE: high */
    uint32_t value_len;    /* UPSERT */
    size_t field_count;
    struct kv_field field[KV_FIELDS_MAX];
};
void kv_batch_reader_init(struct kv_batch_reader *r, const struct kv_batch *b);
bool kv_batch_reader_next(struct kv_batch_reader *r, struct kv_batch_item *ret);

/* Applies fields to value_len bytes in place; every field was checked by kv_batch_upsert(). */
void kv_fields_apply(uint8_t *value, size_t value_len, const struct kv_field *fields, size_t count);
