#include "namespace/record.h"

#include <string.h>

NAMESPACE_RECORDS(TABLE_DEFINE)
NAMESPACE_COMMANDS(TABLE_DEFINE)

uint16_t namespace_command_version(uint16_t kind, const void *body)
{
    const struct namespace_garbage_done *done = kind == NAMESPACE_GARBAGE_DONE ? body : NULL;
    if (kind == NAMESPACE_LOCK_GRANT || kind == PROTO_OP_unlock) {
        return 3;
    }
    return done != NULL && done->all ? 2 : NAMESPACE_COMMAND_FIRST;
}

const struct proto_type *namespace_body_type(uint16_t kind)
{
    static const struct proto_type *const types[] = {
        &namespace_format_type,        &namespace_expire_type,
        &namespace_fence_done_type,    &namespace_trim_done_type,
        &namespace_garbage_done_type,  &namespace_orphan_drop_type,
        &namespace_target_put_type,    &namespace_rows_put_type,
        &namespace_table_put_type,     NULL,
        &namespace_default_class_type, &namespace_trash_expire_type,
        &namespace_balance_type,       &namespace_audit_begin_type,
        &namespace_audit_found_type,   &namespace_audit_end_type,
        &namespace_audit_release_type, &namespace_lock_grant_type};
    if (kind >= NAMESPACE_FORMAT_ROOT) {
        size_t i = (size_t)kind - NAMESPACE_FORMAT_ROOT;
        return i < ARRAY_COUNT(types) ? types[i] : NULL;
    }
    const struct proto_message *m = proto_message_find(kind);
    return m == NULL ? NULL : m->request;
}

void namespace_command_to_text(const void *bytes, size_t len, struct mem_arena *a, struct text *out)
{
    struct namespace_command c;
    int rc = PROTO_DECODE(namespace_command, bytes, len, a, &c);
    if (rc < 0) {
        text_add(out, "no command: %s", err_name(rc));
        return;
    }
    PROTO_TO_TEXT(namespace_command, &c, out);
    const struct proto_type *type = namespace_body_type(c.kind);
    void *body = type == NULL ? NULL : mem_arena_alloc(a, type->size);
    rc = body == NULL ? -EOPNOTSUPP : proto_decode(type, c.body.at, c.body.len, a, body);
    text_add(out, " ");
    if (rc < 0) {
        text_add(out, "no body: %s", err_name(rc));
        return;
    }
    proto_to_text(type, body, out);
}

static void namespace_key_add(struct namespace_key *k, const void *at, size_t len)
{
    CHECK(len <= NAMESPACE_KEY_MAX - k->len);
    memcpy(k->bytes + k->len, at, len);
    k->len += len;
}

void namespace_key_add_u64(struct namespace_key *k, uint64_t v)
{
    uint8_t be[8];
    for (size_t i = 0; i < 8; i++) {
        be[i] = (uint8_t)(v >> (56 - 8 * i));
    }
    namespace_key_add(k, be, sizeof be);
}

void namespace_key_add_u32(struct namespace_key *k, uint32_t v)
{
    uint8_t be[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    namespace_key_add(k, be, sizeof be);
}

void namespace_key_add_bytes(struct namespace_key *k, struct proto_bytes b)
{
    if (b.len > 0) {
        namespace_key_add(k, b.at, b.len);
    }
}

struct namespace_key namespace_key(enum namespace_range range)
{
    struct namespace_key k;
    k.bytes[0] = (uint8_t)range;
    k.len = 1;
    return k;
}

struct namespace_key namespace_key_u64(enum namespace_range range, uint64_t a)
{
    struct namespace_key k = namespace_key(range);
    namespace_key_add_u64(&k, a);
    return k;
}

struct namespace_key namespace_key_u64s(enum namespace_range range, uint64_t a, uint64_t b)
{
    struct namespace_key k = namespace_key_u64(range, a);
    namespace_key_add_u64(&k, b);
    return k;
}

struct namespace_key namespace_key_name(enum namespace_range range, uint64_t a,
                                        struct proto_bytes name)
{
    struct namespace_key k = namespace_key_u64(range, a);
    namespace_key_add_bytes(&k, name);
    return k;
}

struct namespace_key namespace_key_end(const struct namespace_key *k)
{
    struct namespace_key end = *k;
    while (end.len > 0 && end.bytes[end.len - 1] == 0xff) {
        end.len--;
    }
    CHECK(end.len > 0);
    end.bytes[end.len - 1]++;
    return end;
}

static uint64_t namespace_key_read(struct kv_slice key, size_t offset, size_t width)
{
    const uint8_t *at = key.at;
    uint64_t v = 0;
    if (key.len < width || offset > key.len - width) {
        return 0;
    }
    for (size_t i = 0; i < width; i++) {
        v = v << 8 | at[offset + i];
    }
    return v;
}

uint64_t namespace_key_read_u64(struct kv_slice key, size_t offset)
{
    return namespace_key_read(key, offset, 8);
}

uint32_t namespace_key_read_u32(struct kv_slice key, size_t offset)
{
    return (uint32_t)namespace_key_read(key, offset, 4);
}
