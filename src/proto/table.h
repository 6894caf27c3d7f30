/*
 * proto/table.h -- a record described once: struct, encoder, decoder and printer from one table.
 *
 * A record is a macro <tag>_FIELDS(X, S) with one row per field, in order, in a .def file:
 *
 *     #define proto_member_FIELDS(X, S)                 \
 *         X(S, U32, target) (comment: shown in the doc) \
 *         X(S, U8, state)
 *
 *     TABLE_STRUCT(proto_member)    in a header: struct proto_member, struct proto_member_list and
 *                                   the declaration of proto_member_type
 *     TABLE_DEFINE(proto_member)    in one .c file: proto_member_type, the description
 *
 * Kinds: X(S, KIND, name) with U8 U16 U32 U64 I32 I64 BOOL UUID NAME; X(S, KIND, name, max) with
 * BYTES TEXT U32S U64S; X(S, STRUCT, name, tag); X(S, LIST, name, tag, max). A record that another
 * one holds must be described before it. Any folder may have tables of its own (log commands, kv
 * records, journal records): nothing here knows of messages.
 *
 * Encoding (little-endian): integers in their width; BOOL one byte, 0 or 1; UUID 16 bytes; BYTES,
 * TEXT and NAME a u32 length and the bytes; U32S and U64S a u32 count and the numbers; STRUCT a u32
 * length and its fields; LIST a u32 count and per element what STRUCT has. The outermost record has
 * no length: its bytes are given.
 *
 * Growth: fields are only ever appended. A record that ends before a field gives it and all that
 * follow the value zero; bytes behind the last known field are skipped; both on every level. A NAME
 * alone must be there: it is never zero, so none can be appended to a record in use.
 *
 * Nothing is trusted: a length above its limit, or a count above its limit or above what the bytes
 * that are left can hold, is refused before memory is taken for it.
 */
#pragma once

#include "base/mem.h"
#include "base/text.h"
#include "wire/wire.h"

/* Decoded from input: lent from it, valid as long as the input. */
struct proto_bytes {
    const uint8_t *at;
    size_t len;
};
/* Decoded from input: in the arena. */
struct proto_u32s {
    uint32_t *at;
    size_t count;
};
struct proto_u64s {
    uint64_t *at;
    size_t count;
};

enum proto_kind {
    PROTO_U8,
    PROTO_U16,
    PROTO_U32,
    PROTO_U64,
    PROTO_I32,
    PROTO_I64,
    PROTO_BOOL,
    PROTO_UUID,
    PROTO_BYTES,
    PROTO_TEXT, /* any bytes but NUL */
    PROTO_NAME, /* 1 to 255 bytes, no NUL, no slash */
    PROTO_STRUCT,
    PROTO_LIST,
    PROTO_U32S,
    PROTO_U64S,
};
struct proto_type;
struct proto_field {
    const char *name;
    const struct proto_type *type; /* STRUCT, LIST */
    uint32_t offset;               /* in the struct */
    uint32_t max;                  /* bytes, elements or numbers */
    uint8_t width;                 /* bytes of a number, encoded and in the struct; else 0 */
    enum proto_kind kind;
};
struct proto_type {
    const char *name; /* the struct's tag */
    const struct proto_field *fields;
    size_t field_count;
    size_t size; /* of the struct */
};

#define PROTO_NAME_MAX 255u
/* How deep records may nest, the outermost counted. See proto_type_check(). */
#define PROTO_DEPTH_MAX 8u

/*
 * All of them: any thread; no I/O; only proto_decode allocates, from `a` (which may be NULL for
 * records without lists). Errors: -ERR_short_msg (ends inside a field, or before a NAME),
 * -ERR_bad_length (a length or count above its limit), -ERR_bad_value (BOOL above 1, NUL or slash
 * where none may be), -ENOMEM (arena at its limit).
 */
/* `ret` has t->size bytes. On failure its contents are of no use, but safe to print. */
NODISCARD int proto_decode(const struct proto_type *t, const void *bytes, size_t len,
                           struct mem_arena *a, void *ret);
/* Appends to `w`. The same limits are checked; -EMSGSIZE when `w` is full. */
NODISCARD int proto_encode(const struct proto_type *t, const void *record, struct wire_writer *w);
/* The same without the zero fields at its end, which a decoder gives back: for records that are
 * stored many times. */
NODISCARD int proto_encode_compact(const struct proto_type *t, const void *record,
                                   struct wire_writer *w);
/* Bytes that proto_encode would write; the same errors. */
NODISCARD int proto_encoded_bytes(const struct proto_type *t, const void *record, size_t *ret);
/* "proto_attr{ino=7 type=1 ...}". TEXT and NAME are escaped and cut, long lists too; of BYTES only
 * the length is shown: they hold users' data and keys. */
void proto_to_text(const struct proto_type *t, const void *record, struct text *out);
/* Is the table itself sound: limits and types set, depth within PROTO_DEPTH_MAX? -EINVAL. Each
 * folder with tables calls it in a test. */
NODISCARD int proto_type_check(const struct proto_type *t);

/* The tag's own proto_decode and so on, with the type checked by the compiler. */
#define PROTO_DECODE(tag, bytes, len, arena, ret) \
    proto_decode(&tag##_type, (bytes), (len), (arena), (1 ? (ret) : (struct tag *)NULL))
#define PROTO_ENCODE(tag, record, writer) \
    proto_encode(&tag##_type, (1 ? (record) : (const struct tag *)NULL), (writer))
#define PROTO_TO_TEXT(tag, record, out) \
    proto_to_text(&tag##_type, (1 ? (record) : (const struct tag *)NULL), (out))

/* Text constants and C strings as field values. */
static inline struct proto_bytes proto_bytes_of(const void *at, size_t len)
{
    return (struct proto_bytes){.at = at, .len = len};
}
static inline struct proto_bytes proto_bytes_text(const char *text)
{
    return (struct proto_bytes){.at = (const uint8_t *)text, .len = strlen(text)};
}
static inline bool proto_bytes_equal(struct proto_bytes a, struct proto_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}
/* Copies as a C string, cut to fit; size > 0. Returns `out`. */
char *proto_bytes_to_c(struct proto_bytes from, char *out, size_t size);

/* Declares what a table yields. */
#define TABLE_STRUCT(tag)                      \
    struct tag {                               \
        tag##_FIELDS(TABLE_MEMBER, struct tag) \
    };                                         \
    struct tag##_list {                        \
        struct tag *at;                        \
        size_t count;                          \
    };                                         \
    extern const struct proto_type tag##_type;
/* Defines the description. */
#define TABLE_DEFINE(tag)                                                                   \
    static const struct proto_field tag##_fields[] = {tag##_FIELDS(TABLE_ROW, struct tag)}; \
    const struct proto_type tag##_type = {.name = #tag,                                     \
                                          .fields = tag##_fields,                           \
                                          .field_count = ARRAY_COUNT(tag##_fields),         \
                                          .size = sizeof(struct tag)};

#define TABLE_MEMBER(S, kind, name, ...) TABLE_MEMBER_##kind(name __VA_OPT__(, ) __VA_ARGS__)
#define TABLE_MEMBER_U8(name) uint8_t name;
#define TABLE_MEMBER_U16(name) uint16_t name;
#define TABLE_MEMBER_U32(name) uint32_t name;
#define TABLE_MEMBER_U64(name) uint64_t name;
#define TABLE_MEMBER_I32(name) int32_t name;
#define TABLE_MEMBER_I64(name) int64_t name;
#define TABLE_MEMBER_BOOL(name) bool name;
#define TABLE_MEMBER_UUID(name) struct uuid name;
#define TABLE_MEMBER_BYTES(name, limit) struct proto_bytes name;
#define TABLE_MEMBER_TEXT(name, limit) struct proto_bytes name;
#define TABLE_MEMBER_NAME(name) struct proto_bytes name;
#define TABLE_MEMBER_STRUCT(name, tag) struct tag name;
#define TABLE_MEMBER_LIST(name, tag, limit) struct tag##_list name;
#define TABLE_MEMBER_U32S(name, limit) struct proto_u32s name;
#define TABLE_MEMBER_U64S(name, limit) struct proto_u64s name;

#define TABLE_ROW(S, kind_, name_, ...)      \
    {.name = #name_,                         \
     .kind = PROTO_##kind_,                  \
     .offset = (uint32_t)offsetof(S, name_), \
     TABLE_ROW_##kind_(__VA_ARGS__)},
#define TABLE_ROW_U8(...) .width = 1
#define TABLE_ROW_U16(...) .width = 2
#define TABLE_ROW_U32(...) .width = 4
#define TABLE_ROW_U64(...) .width = 8
#define TABLE_ROW_I32(...) .width = 4
#define TABLE_ROW_I64(...) .width = 8
#define TABLE_ROW_BOOL(...) .width = 1
#define TABLE_ROW_UUID(...)
#define TABLE_ROW_BYTES(limit) .max = (limit)
#define TABLE_ROW_TEXT(limit) .max = (limit)
#define TABLE_ROW_NAME(...) .max = PROTO_NAME_MAX
#define TABLE_ROW_STRUCT(tag) .type = (&tag##_type)
#define TABLE_ROW_LIST(tag, limit) .type = (&tag##_type), .max = (limit)
#define TABLE_ROW_U32S(limit) .max = (limit)
#define TABLE_ROW_U64S(limit) .max = (limit)
