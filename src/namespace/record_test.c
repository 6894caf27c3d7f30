#include "namespace/record.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "testing/testing.h"

#define RECORD_TYPE(tag) &tag##_type,
static const struct proto_type *const all_types[] = {NAMESPACE_RECORDS(RECORD_TYPE)
                                                         NAMESPACE_COMMANDS(RECORD_TYPE)};
#define RECORD_BYTES 4096u

TEST(tables_are_sound)
{
    for (size_t i = 0; i < ARRAY_COUNT(all_types); i++) {
        CHECK_OK(proto_type_check(all_types[i]));
        CHECK_TRUE(all_types[i]->size <= RECORD_BYTES);
    }
}

/* Puts something into every field, lists and nested records included. */

static void fill_field(const struct proto_field *f, struct mem_arena *a, uint8_t *at,
                       unsigned depth)
{
    static const uint8_t text[] = "some text";
    switch (f->kind) {
    case PROTO_U8:
    case PROTO_BOOL:
        *at = 1;
        break;
    case PROTO_U16:
        memset(at, 2, 2);
        break;
    case PROTO_U32:
    case PROTO_I32:
        memset(at, 3, 4);
        break;
    case PROTO_U64:
    case PROTO_I64:
        memset(at, 4, 8);
        break;
    case PROTO_UUID:
        memset(at, 5, sizeof(struct uuid));
        break;
    case PROTO_BYTES:
    case PROTO_TEXT:
    case PROTO_NAME:
        *(struct proto_bytes *)(void *)at = proto_bytes_of(text, sizeof text - 1);
        break;
    case PROTO_U32S:
        *(struct proto_u32s *)(void *)at =
            (struct proto_u32s){.at = mem_arena_dup(a, text, 8), .count = 2};
        break;
    case PROTO_U64S:
        *(struct proto_u64s *)(void *)at =
            (struct proto_u64s){.at = mem_arena_dup(a, text, 8), .count = 1};
        break;
    case PROTO_STRUCT:
    case PROTO_LIST:
        CHECK_TRUE(depth > 0);
        break;
    }
}

/* Two levels are what the tables have; the depth is checked. */
static void fill_flat(const struct proto_type *t, struct mem_arena *a, uint8_t *record)
{
    for (size_t i = 0; i < t->field_count; i++) {
        fill_field(&t->fields[i], a, record + t->fields[i].offset, 1);
    }
}

static void fill(const struct proto_type *t, struct mem_arena *a, uint8_t *record, unsigned depth)
{
    memset(record, 0, t->size);
    fill_flat(t, a, record);
    for (size_t i = 0; i < t->field_count; i++) {
        const struct proto_field *f = &t->fields[i];
        uint8_t *at = record + f->offset;
        if (f->kind == PROTO_STRUCT) {
            fill_flat(f->type, a, at);
        } else if (f->kind == PROTO_LIST) {
            struct proto_dirent_list *l = (void *)at; /* all lists have this shape */
            uint8_t *element = mem_arena_alloc(a, f->type->size);
            memset(element, 0, f->type->size);
            fill_flat(f->type, a, element);
            l->at = (void *)element;
            l->count = 1;
        }
    }
    CHECK_TRUE(depth == 0);
}

static void check_every_cut(const struct proto_type *t, struct mem_arena *a)
{
    uint64_t record[RECORD_BYTES / 8], again[RECORD_BYTES / 8];
    uint8_t bytes[8192], out[8192];
    fill(t, a, (uint8_t *)record, 0);
    struct wire_writer w = wire_writer_over(bytes, sizeof bytes), w2;
    CHECK_OK(proto_encode(t, record, &w));
    for (size_t len = 0; len <= w.len; len++) {
        uint8_t *exact = mem_alloc(len + (len == 0)); /* so that reading beyond it is seen */
        CHECK_TRUE(exact != NULL);
        memcpy(exact, bytes, len);
        int rc = proto_decode(t, exact, len, a, again);
        CHECK_TRUE(rc == 0 || err_is(rc, EIO));
        if (rc == 0) { /* cut between fields: those behind are zero */
            w2 = wire_writer_over(out, sizeof out);
            rc = proto_encode(t, again, &w2);
            CHECK_TRUE(rc == 0 && w2.len >= len);
            CHECK_BYTES(out, bytes, len == w.len ? len : 0);
        }
        mem_free(exact);
    }
}

TEST(every_cut_of_every_record)
{
    struct mem_arena a;
    mem_arena_init(&a, 64U << 20);
    for (size_t i = 0; i < ARRAY_COUNT(all_types); i++) {
        check_every_cut(all_types[i], &a);
        mem_arena_reset(&a);
    }
    mem_arena_fini(&a);
}

TEST(keys_keep_the_order_of_numbers)
{
    struct namespace_key a = namespace_key_u64s(NAMESPACE_WOPEN, 1, 255);
    struct namespace_key b = namespace_key_u64s(NAMESPACE_WOPEN, 1, 256);
    struct namespace_key c = namespace_key_u64s(NAMESPACE_WOPEN, UINT64_MAX, 0);
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_WOPEN, UINT64_MAX);
    struct namespace_key end = namespace_key_end(&prefix);
    CHECK_TRUE(kv_slice_compare(namespace_key_slice(&a), namespace_key_slice(&b)) < 0);
    CHECK_TRUE(kv_slice_compare(namespace_key_slice(&b), namespace_key_slice(&c)) < 0);
    CHECK_TRUE(kv_slice_compare(namespace_key_slice(&c), namespace_key_slice(&end)) < 0);
    CHECK_EQ(end.len, 1);
    CHECK_EQ(namespace_key_read_u64(namespace_key_slice(&b), 9), 256);
    CHECK_EQ(namespace_key_read_u64(namespace_key_slice(&b), 10), 0);
    CHECK_EQ(namespace_key_read_u32(namespace_key_slice(&b), 13), 256);
}

TEST(names_sort_by_bytes)
{
    struct namespace_key a = namespace_key_name(NAMESPACE_DIRENT, 7, proto_bytes_text("a"));
    struct namespace_key b = namespace_key_name(NAMESPACE_DIRENT, 7, proto_bytes_text("a!"));
    struct namespace_key c = namespace_key_name(NAMESPACE_DIRENT, 8, proto_bytes_text(""));
    CHECK_TRUE(kv_slice_compare(namespace_key_slice(&a), namespace_key_slice(&b)) < 0);
    CHECK_TRUE(kv_slice_compare(namespace_key_slice(&b), namespace_key_slice(&c)) < 0);
}

TEST(commands_are_printed_with_their_bodies)
{
    struct mem_arena a;
    uint8_t body[64], bytes[256];
    char out[512];
    struct text text;
    struct namespace_expire e = {.session = 42};
    struct wire_writer w = wire_writer_over(body, sizeof body);
    CHECK_OK(PROTO_ENCODE(namespace_expire, &e, &w));
    struct namespace_command c = {
        .version = 1, .kind = NAMESPACE_EXPIRE, .body = proto_bytes_of(body, w.len)};
    w = wire_writer_over(bytes, sizeof bytes);
    CHECK_OK(PROTO_ENCODE(namespace_command, &c, &w));
    mem_arena_init(&a, 1U << 20);
    text_init(&text, out, sizeof out);
    namespace_command_to_text(bytes, w.len, &a, &text);
    CHECK_TRUE(strstr(out, "namespace_expire{session=42}") != NULL);
    text_init(&text, out, sizeof out);
    namespace_command_to_text(bytes, 3, &a, &text);
    CHECK_TRUE(strstr(out, "no command") != NULL);
    mem_arena_fini(&a);
    CHECK_TRUE(namespace_body_type(NAMESPACE_DEFAULT_CLASS) == &namespace_default_class_type);
    CHECK_TRUE(namespace_body_type(NAMESPACE_LOCK_GRANT + 1) == NULL);
    CHECK_TRUE(namespace_body_type(PROTO_OP_create) == &proto_create_request_type);
    CHECK_TRUE(namespace_body_type(7) == NULL);
}
