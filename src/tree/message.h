/*
 * tree/message.h -- what a tree buffers: changes of one key as data, and how they fold.
 *
 * Bodies are little-endian, the same in memory and on disk:
 *   PUT: the value            DELETE: nothing         RANGE_DELETE: the high key (its key is the
 * low) UPSERT: value length u32, count u8, count x {offset u16, op u8, operand u64}, as in
 * kv/batch.h NOTE: any bytes, without effect Every message has an msn, given in the order of
 * applying; of one key the greater one is newer.
 *
 * Pure functions; a buffer belongs to one thread. Bodies handed to them were made here or passed
 * tree_message_check().
 */
#pragma once

#include "kv/batch.h"

enum tree_message_type {
    TREE_PUT = 1,
    TREE_DELETE = 2,
    TREE_UPSERT = 3,
    TREE_RANGE_DELETE = 4, /* 5 is reserved */
    TREE_NOTE = 6,
};

struct tree_message {
    enum tree_message_type type;
    uint64_t msn;
    struct kv_slice body; /* lent */
};

#define TREE_NOTE_MAX 1024u
#define TREE_UPSERT_HEADER_BYTES 5u
#define TREE_FIELD_BYTES 11u
#define TREE_UPSERT_MAX (TREE_UPSERT_HEADER_BYTES + KV_FIELDS_MAX * TREE_FIELD_BYTES)

/* Reusable memory for a result of at most KV_VALUE_MAX bytes; all zero is empty. */
struct tree_room {
    uint8_t *at; /* owned */
    size_t capacity;
};
/* Room for `len` bytes; what was in it stays. -ENOMEM. */
NODISCARD int tree_room_reserve(struct tree_room *r, size_t len);
void tree_room_fini(struct tree_room *r);

/* Is this type and body, of disk or wire, one that the rest may be given? 0, -ERR_bad_value,
 * -ERR_bad_length, with what and why in `e` (may be NULL). */
NODISCARD int tree_message_check(unsigned type, struct kv_slice body, struct err *e);

/* Writes an upsert's body of at most TREE_UPSERT_MAX bytes, folded; returns its length. The
 * arguments are those of a batch: count 1 .. KV_FIELDS_MAX, each within value_len. */
size_t tree_upsert_encode(uint32_t value_len, const struct kv_field *fields, size_t count,
                          uint8_t *out);

/* How much room combining these two takes at most. */
size_t tree_message_room(const struct tree_message *newer, const struct tree_message *older);

/*
 * The one message that does what `older` and then `newer` do, with the newer msn. Neither is a
 * RANGE_DELETE. 1 and *ret, whose body lies in an argument's or in `room`, where an
 * older PUT may lie at the beginning; 0: two upserts that do not fold, both must be kept; -ENOMEM.
 */
NODISCARD int tree_message_combine(const struct tree_message *newer,
                                   const struct tree_message *older, struct tree_room *room,
                                   struct tree_message *ret);

/*
 * What a value becomes; value.at is NULL when there is none (an empty value has an address). 1 and
 * *ret, which lies in the message's body, in `value` or in `room`; 0: no value; -ENOMEM. `value`
 * may lie at the beginning of `room`.
 */
NODISCARD int tree_message_apply(const struct tree_message *m, struct kv_slice value,
                                 struct tree_room *room, struct kv_slice *ret);
