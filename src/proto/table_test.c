#include "proto/table.h"

#include "testing/testing.h"

/* A table of our own, as other folders have them: every kind once. */
#define test_leaf_FIELDS(X, S) \
    X(S, U16, a)               \
    X(S, TEXT, b, 5)
#define test_all_FIELDS(X, S)      \
    X(S, U8, u8)                   \
    X(S, U16, u16)                 \
    X(S, U32, u32)                 \
    X(S, U64, u64)                 \
    X(S, I32, i32)                 \
    X(S, I64, i64)                 \
    X(S, BOOL, flag)               \
    X(S, NAME, name)               \
    X(S, UUID, uuid)               \
    X(S, BYTES, bytes, 4)          \
    X(S, TEXT, text, 6)            \
    X(S, STRUCT, leaf, test_leaf)  \
    X(S, LIST, list, test_leaf, 3) \
    X(S, U32S, u32s, 3)            \
    X(S, U64S, u64s, 2)
/* What test_leaf looked like before and may look like later. */
#define test_old_FIELDS(X, S) X(S, U16, a)
#define test_new_FIELDS(X, S) \
    X(S, U16, a)              \
    X(S, TEXT, b, 5)          \
    X(S, U32, c)              \
    X(S, LIST, d, test_old, 9)
#define test_old_holder_FIELDS(X, S) \
    X(S, LIST, list, test_old, 3)    \
    X(S, STRUCT, one, test_old)      \
    X(S, U8, end)
#define test_new_holder_FIELDS(X, S) \
    X(S, LIST, list, test_new, 3)    \
    X(S, STRUCT, one, test_new)      \
    X(S, U8, end)
#define test_empty_FIELDS(X, S)
#define test_flat_FIELDS(X, S) \
    X(S, U32, a)               \
    X(S, TEXT, b, 9)           \
    X(S, UUID, c)              \
    X(S, U16, d)               \
    X(S, BOOL, e)              \
    X(S, BYTES, f, 9)          \
    X(S, I64, g)
#define TEST_RECORDS(T) \
    T(test_leaf)        \
    T(test_all)         \
    T(test_old)         \
    T(test_new)         \
    T(test_old_holder)  \
    T(test_new_holder)  \
    T(test_empty)       \
    T(test_flat)
TEST_RECORDS(TABLE_STRUCT)
TEST_RECORDS(TABLE_DEFINE)

#define BYTES(...) ((const uint8_t[]){__VA_ARGS__})
#define ARENA_BYTES 65536u

static const uint8_t all_bytes[] = {
    0x01,                                           /* u8 */
    0x03, 0x02,                                     /* u16 */
    0x07, 0x06, 0x05, 0x04,                         /* u32 */
    0x0f, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08, /* u64 */
    0xfe, 0xff, 0xff, 0xff,                         /* i32 */
    0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, /* i64 */
    0x01,                                           /* flag */
    2,    0,    0,    0,    'n',  'a',              /* name */
    1,    2,    3,    4,    5,    6,    7,    8,    /* uuid */
    9,    10,   11,   12,   13,   14,   15,   16,   /* */
    3,    0,    0,    0,    0,    '/',  0xff,       /* bytes */
    1,    0,    0,    0,    '/',                    /* text */
    8,    0,    0,    0,                            /* leaf */
    0x22, 0x11, 2,    0,    0,    0,    'x',  'y',  /* */
    2,    0,    0,    0,                            /* list */
    6,    0,    0,    0,    1,    0,    0,    0,    0, 0, 7, 0, 0, 0, 2,
    0,    1,    0,    0,    0,    'z',  1,    0,    0, 0, 9, 0, 0, 0, /* u32s */
    1,    0,    0,    0,    8,    0,    0,    0,    0, 0, 0, 0,       /* u64s */
};

static void check_all(const struct test_all *m)
{
    CHECK_EQ(m->u8, 1);
    CHECK_EQ(m->u16, 0x0203);
    CHECK_EQ(m->u32, 0x04050607);
    CHECK_EQ(m->u64, 0x08090a0b0c0d0e0f);
    CHECK_EQ(m->i32, -2);
    CHECK_EQ(m->i64, -3);
    CHECK_TRUE(m->flag);
    CHECK_TRUE(proto_bytes_equal(m->name, proto_bytes_text("na")));
    CHECK_EQ(m->uuid.bytes[15], 16);
    CHECK_TRUE(proto_bytes_equal(m->bytes, proto_bytes_of("\0/\xff", 3)));
    CHECK_TRUE(proto_bytes_equal(m->text, proto_bytes_text("/")));
    CHECK_EQ(m->leaf.a, 0x1122);
    CHECK_TRUE(proto_bytes_equal(m->leaf.b, proto_bytes_text("xy")));
    CHECK_EQ(m->list.count, 2);
    CHECK_EQ(m->list.at[0].a, 1);
    CHECK_EQ(m->list.at[0].b.len, 0);
    CHECK_EQ(m->list.at[1].a, 2);
    CHECK_TRUE(proto_bytes_equal(m->list.at[1].b, proto_bytes_text("z")));
    CHECK_EQ(m->u32s.count, 1);
    CHECK_EQ(m->u32s.at[0], 9);
    CHECK_EQ(m->u64s.count, 1);
    CHECK_EQ(m->u64s.at[0], 8);
}

TEST_TORTURE(decodes_known_bytes)
{
    CLEANUP(mem_arena_fini) struct mem_arena a;
    mem_arena_init(&a, ARENA_BYTES);
    struct test_all m;
    TRY(PROTO_DECODE(test_all, all_bytes, sizeof all_bytes, &a, &m));
    check_all(&m);
    CHECK_TRUE(m.name.at > all_bytes && m.name.at < all_bytes + sizeof all_bytes); /* lent */
}

TEST(encodes_known_bytes)
{
    struct test_leaf list[] = {{.a = 1}, {.a = 2, .b = proto_bytes_text("z")}};
    uint32_t u32 = 9;
    uint64_t u64 = 8;
    struct test_all m = {.u8 = 1,
                         .u16 = 0x0203,
                         .u32 = 0x04050607,
                         .u64 = 0x08090a0b0c0d0e0f,
                         .i32 = -2,
                         .i64 = -3,
                         .flag = true,
                         .name = proto_bytes_text("na"),
                         .bytes = proto_bytes_of("\0/\xff", 3),
                         .text = proto_bytes_text("/"),
                         .leaf = {.a = 0x1122, .b = proto_bytes_text("xy")},
                         .list = {.at = list, .count = 2},
                         .u32s = {.at = &u32, .count = 1},
                         .u64s = {.at = &u64, .count = 1}};
    for (size_t i = 0; i < sizeof m.uuid; i++) {
        m.uuid.bytes[i] = (uint8_t)(i + 1);
    }
    uint8_t out[256];
    struct wire_writer w = wire_writer_over(out, sizeof out);
    CHECK_OK(PROTO_ENCODE(test_all, &m, &w));
    CHECK_EQ(w.len, sizeof all_bytes);
    CHECK_BYTES(out, all_bytes, sizeof all_bytes);
    size_t size = 0;
    CHECK_OK(proto_encoded_bytes(&test_all_type, &m, &size));
    CHECK_EQ(size, sizeof all_bytes);
    for (size_t room = 0; room < sizeof all_bytes; room++) {
        w = wire_writer_over(out, room);
        CHECK_RC(PROTO_ENCODE(test_all, &m, &w), EMSGSIZE);
    }
}

/* Where a field begins, what follows is absent and zero; inside a field the message is short. */
TEST(every_truncation)
{
    struct mem_arena a;
    mem_arena_init(&a, ARENA_BYTES);
    unsigned good = 0;
    for (size_t len = 0; len < sizeof all_bytes; len++) {
        struct test_all m;
        mem_arena_reset(&a);
        int rc = PROTO_DECODE(test_all, all_bytes, len, &a, &m);
        CHECK_TRUE(rc == 0 || rc == -ERR_short_msg);
        good += rc == 0 ? 1 : 0;
        CHECK_TRUE(rc != 0 || len >= 34); /* never without the name */
        CHECK_EQ(m.u64s.count, 0);
    }
    CHECK_EQ(good, 7); /* before each of the seven fields behind the name */
    mem_arena_fini(&a);
}

TEST(limits_are_kept)
{
    static const struct {
        size_t at;     /* where a byte of all_bytes is changed */
        uint8_t value; /* to what */
        int code;
    } cases[] = {
        {27, 2, ERR_bad_value},     /* flag */
        {28, 0, ERR_bad_length},    /* name: empty */
        {29, 1, ERR_bad_length},    /* name: 258 bytes */
        {32, 0, ERR_bad_value},     /* name: NUL */
        {33, '/', ERR_bad_value},   /* name: slash */
        {50, 5, ERR_bad_length},    /* bytes: 5 of 4 */
        {53, 0x80, ERR_bad_length}, /* bytes: 2 GiB */
        {57, 7, ERR_bad_length},    /* text: 7 of 6 */
        {61, 0, ERR_bad_value},     /* text: NUL */
        {65, 1, ERR_short_msg},     /* leaf: longer than all */
        {68, 6, ERR_bad_length},    /* leaf: text of 6 */
        {74, 4, ERR_bad_length},    /* list: 4 of 3 */
        {75, 1, ERR_bad_length},    /* list: 258 */
        {78, 255, ERR_short_msg},   /* list: element longer than all */
        {78, 5, ERR_short_msg},     /* list: element ends inside its text */
        {99, 4, ERR_bad_length},    /* u32s */
        {107, 3, ERR_bad_length},   /* u64s */
        {107, 2, ERR_short_msg},    /* u64s: one is there */
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        uint8_t bytes[sizeof all_bytes];
        memcpy(bytes, all_bytes, sizeof bytes);
        bytes[cases[i].at] = cases[i].value;
        struct mem_arena a;
        mem_arena_init(&a, ARENA_BYTES);
        struct test_all m;
        CHECK_RC(PROTO_DECODE(test_all, bytes, sizeof bytes, &a, &m), cases[i].code);
        mem_arena_fini(&a);
    }
}

TEST(nothing_is_allocated_for_a_count_that_cannot_be)
{
    struct mem_arena a;
    mem_arena_init(&a, ARENA_BYTES);
    struct test_old_holder m;
    const uint8_t *bytes = BYTES(3, 0, 0, 0, 0, 0, 0, 0);
    CHECK_RC(PROTO_DECODE(test_old_holder, bytes, 8, &a, &m), ERR_short_msg);
    CHECK_EQ(a.used_bytes, 0);
    CHECK_TRUE(m.list.at == NULL);
    mem_arena_fini(&a);
}

TEST(a_full_or_missing_arena_is_an_error)
{
    struct mem_arena a;
    mem_arena_init(&a, 16);
    struct test_all m;
    CHECK_RC(PROTO_DECODE(test_all, all_bytes, sizeof all_bytes, &a, &m), ENOMEM);
    mem_arena_fini(&a);
    CHECK_RC(PROTO_DECODE(test_all, all_bytes, sizeof all_bytes, NULL, &m), ENOMEM);
    CHECK_OK(PROTO_DECODE(test_all, all_bytes, 34, NULL, &m)); /* ends behind the name */
}

TEST(the_encoder_keeps_the_limits_too)
{
    uint8_t out[512];
    struct test_leaf leaf[4] = {{.a = 1}};
    uint32_t u32[4] = {0};
    uint64_t u64[4] = {0};
    const struct test_all good = {.name = proto_bytes_text("n")};
    struct test_all bad[9];
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        bad[i] = good;
    }
    bad[0].name.len = 0;
    bad[1].name = proto_bytes_text("a/b");
    bad[2].name = proto_bytes_of("a\0b", 3);
    bad[3].bytes = proto_bytes_of("12345", 5);
    bad[4].text = proto_bytes_text("1234567");
    bad[5].text = proto_bytes_of("1\0", 2);
    bad[6].list = (struct test_leaf_list){.at = leaf, .count = 4};
    bad[7].u32s = (struct proto_u32s){.at = u32, .count = 4};
    bad[8].u64s = (struct proto_u64s){.at = u64, .count = 3};
    struct wire_writer w = wire_writer_over(out, sizeof out);
    CHECK_OK(PROTO_ENCODE(test_all, &good, &w));
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        w = wire_writer_over(out, sizeof out);
        bool value = i == 1 || i == 2 || i == 5;
        CHECK_RC(PROTO_ENCODE(test_all, &bad[i], &w), value ? ERR_bad_value : ERR_bad_length);
        size_t size;
        CHECK_TRUE(proto_encoded_bytes(&test_all_type, &bad[i], &size) < 0);
    }
}

/* Old and new versions of records read each other, on every level. */
TEST(records_grow_at_the_end)
{
    struct mem_arena a;
    mem_arena_init(&a, ARENA_BYTES);
    struct test_old inner = {.a = 77};
    struct test_new list[] = {{.a = 1, .b = proto_bytes_text("b"), .c = 5},
                              {.a = 2, .d = {.at = &inner, .count = 1}}};
    struct test_new_holder sent = {
        .list = {.at = list, .count = 2}, .one = {.a = 3, .c = 6}, .end = 9};
    uint8_t out[256];
    struct wire_writer w = wire_writer_over(out, sizeof out);
    CHECK_OK(PROTO_ENCODE(test_new_holder, &sent, &w));
    struct test_old_holder old;
    CHECK_OK(PROTO_DECODE(test_old_holder, out, w.len, &a, &old));
    CHECK_EQ(old.list.count, 2);
    CHECK_EQ(old.list.at[0].a, 1);
    CHECK_EQ(old.list.at[1].a, 2);
    CHECK_EQ(old.one.a, 3);
    CHECK_EQ(old.end, 9);

    w = wire_writer_over(out, sizeof out);
    CHECK_OK(PROTO_ENCODE(test_old_holder, &old, &w));
    struct test_new_holder back;
    CHECK_OK(PROTO_DECODE(test_new_holder, out, w.len, &a, &back));
    CHECK_EQ(back.list.count, 2);
    CHECK_EQ(back.list.at[0].a, 1);
    CHECK_EQ(back.list.at[0].b.len, 0);
    CHECK_EQ(back.list.at[1].d.count, 0);
    CHECK_EQ(back.one.a, 3);
    CHECK_EQ(back.one.c, 0);
    CHECK_EQ(back.end, 9);
    mem_arena_fini(&a);
}

/* Every combination of fields that are zero and that are not. */
TEST(zeros_at_the_end_need_not_be_stored)
{
    static const size_t ends[] = {0, 4, 9, 25, 27, 28, 33, 41}; /* with `b` and `f` of one byte */
    for (unsigned set = 0; set < 1U << 7; set++) {
        struct test_flat m = {.a = set & 1U, .d = set >> 3 & 1U, .e = (set >> 4 & 1U) != 0};
        m.b = proto_bytes_of("b", set >> 1 & 1U);
        m.c.bytes[15] = set >> 2 & 1U;
        m.f = proto_bytes_of("f", set >> 5 & 1U);
        m.g = (set >> 6 & 1U) != 0 ? -1 : 0;
        uint8_t whole[64], part[64], again[64];
        struct wire_writer w = wire_writer_over(whole, sizeof whole);
        struct wire_writer c = wire_writer_over(part, sizeof part);
        CHECK_OK(PROTO_ENCODE(test_flat, &m, &w));
        CHECK_OK(proto_encode_compact(&test_flat_type, &m, &c));
        unsigned fields = set == 0 ? 0 : 32U - (unsigned)__builtin_clz(set);
        size_t empty = (fields > 1 && m.b.len == 0) + (size_t)(fields > 5 && m.f.len == 0);
        CHECK_EQ(c.len, ends[fields] - empty);
        CHECK_BYTES(part, whole, c.len);
        struct test_flat back;
        CHECK_OK(PROTO_DECODE(test_flat, part, c.len, NULL, &back));
        struct wire_writer b = wire_writer_over(again, sizeof again);
        CHECK_OK(PROTO_ENCODE(test_flat, &back, &b));
        CHECK_EQ(b.len, w.len);
        CHECK_BYTES(again, whole, w.len);
    }
}

TEST(an_empty_record)
{
    struct test_empty m;
    uint8_t out[1];
    struct wire_writer w = wire_writer_over(out, 0);
    CHECK_OK(PROTO_DECODE(test_empty, NULL, 0, NULL, &m));
    CHECK_OK(PROTO_DECODE(test_empty, "abc", 3, NULL, &m));
    CHECK_OK(PROTO_ENCODE(test_empty, &m, &w));
    CHECK_EQ(w.len, 0);
}

TEST(prints_what_it_holds)
{
    struct mem_arena a;
    mem_arena_init(&a, ARENA_BYTES);
    struct test_all m;
    CHECK_OK(PROTO_DECODE(test_all, all_bytes, sizeof all_bytes, &a, &m));
    char out[512];
    struct text t;
    text_init(&t, out, sizeof out);
    PROTO_TO_TEXT(test_all, &m, &t);
    CHECK_TEXT(out, "test_all{u8=1 u16=515 u32=67438087 u64=579005069656919567 i32=-2 i64=-3 "
                    "flag=true name=\"na\" uuid=01020304-0506-0708-090a-0b0c0d0e0f10 "
                    "bytes=<3 bytes> text=\"/\" leaf={a=4386 b=\"xy\"} "
                    "list=[{a=1 b=\"\"} {a=2 b=\"z\"}] u32s=[9] u64s=[8]}");
    for (size_t size = 1; size < 260; size++) { /* cut anywhere, never beyond */
        text_init(&t, out, size);
        PROTO_TO_TEXT(test_all, &m, &t);
        CHECK_TRUE(strlen(out) < size);
    }
    mem_arena_fini(&a);
}

TEST(prints_the_first_of_a_long_list)
{
    struct test_old list[20] = {{.a = 1}};
    struct test_new m = {.d = {.at = list, .count = ARRAY_COUNT(list)}};
    char out[256];
    struct text t;
    text_init(&t, out, sizeof out);
    PROTO_TO_TEXT(test_new, &m, &t);
    CHECK_TEXT(out, "test_new{a=0 b=\"\" c=0 d=[{a=1} {a=0} {a=0} {a=0} {a=0} {a=0} {a=0} {a=0} "
                    "+12]}");
}

TEST(tables_are_checked)
{
    CHECK_OK(proto_type_check(&test_all_type));
    CHECK_OK(proto_type_check(&test_new_holder_type));
    CHECK_OK(proto_type_check(&test_empty_type));
    struct proto_field f = {.name = "f", .kind = PROTO_BYTES, .max = 0};
    struct proto_type t = {.name = "t", .fields = &f, .field_count = 1, .size = 16};
    CHECK_RC(proto_type_check(&t), EINVAL); /* no limit */
    f.kind = PROTO_U8;
    CHECK_OK(proto_type_check(&t));
    f.offset = 16;
    CHECK_RC(proto_type_check(&t), EINVAL); /* outside */
    f = (struct proto_field){.name = "f", .kind = PROTO_STRUCT};
    CHECK_RC(proto_type_check(&t), EINVAL); /* of what? */
    f.type = &t;
    CHECK_RC(proto_type_check(&t), EINVAL); /* without end */
}

TEST(bytes_become_c_strings)
{
    char out[4];
    CHECK_TEXT(proto_bytes_to_c(proto_bytes_text("ab"), out, sizeof out), "ab");
    CHECK_TEXT(proto_bytes_to_c(proto_bytes_text("abcdef"), out, sizeof out), "abc");
    CHECK_TEXT(proto_bytes_to_c((struct proto_bytes){0}, out, sizeof out), "");
}
