/*
 * Every decoder of the tables: the first byte chooses the record, the rest is its bytes. What is
 * accepted must be a valid record: it encodes, and its encoding decodes to the same.
 */
#include "proto/proto.h"

#define FUZZ_ARENA_BYTES (8u << 20)
#define FUZZ_RECORD_BYTES 4096u

#define RECORD_TYPE(tag) &tag##_type,
#define CALL_TYPES(opcode, name, roles, text) \
    &proto_##name##_request_type, &proto_##name##_reply_type,
#define PUSH_TYPE(opcode, name, roles, text) &proto_##name##_push_type,
static const struct proto_type *const all_types[] = {PROTO_RECORDS(RECORD_TYPE)
                                                         PROTO_MESSAGES(CALL_TYPES, PUSH_TYPE)};

static void fuzz_accepted(const struct proto_type *t, const void *record, struct mem_arena *a)
{
    size_t len = 0, again = 0;
    CHECK(proto_encoded_bytes(t, record, &len) == 0);
    uint8_t *first = mem_arena_alloc(a, len + 1);
    uint8_t *second = mem_arena_alloc(a, len + 1);
    void *copy = mem_arena_alloc(a, t->size + 1);
    if (first == NULL || second == NULL || copy == NULL) {
        return;
    }
    struct wire_writer w = wire_writer_over(first, len);
    CHECK(proto_encode(t, record, &w) == 0);
    if (proto_decode(t, first, len, a, copy) == -ENOMEM) {
        return;
    }
    w = wire_writer_over(second, len);
    CHECK(proto_encode(t, copy, &w) == 0);
    again = w.len;
    CHECK(again == len && memcmp(first, second, len) == 0);
}

_Static_assert(ARRAY_COUNT(all_types) <= 256, "one byte chooses");

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const struct proto_type *t = all_types[data[0] % ARRAY_COUNT(all_types)];
    uint64_t record[FUZZ_RECORD_BYTES / sizeof(uint64_t)];
    CHECK(t->size <= sizeof record);
    struct mem_arena a;
    mem_arena_init(&a, FUZZ_ARENA_BYTES);
    int rc = proto_decode(t, data + 1, size - 1, &a, record);
    if (rc == 0) {
        fuzz_accepted(t, record, &a);
    }
    char out[256];
    struct text text;
    text_init(&text, out, sizeof out);
    proto_to_text(t, record, &text);
    mem_arena_fini(&a);
    return 0;
}
