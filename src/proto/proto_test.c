#include "proto/proto.h"

#include "base/crc32c.h"
#include "proto/sample.h"
#include "testing/testing.h"

#define ARENA_BYTES (1u << 20)
#define SAMPLE_COUNT 20u
#define BUFFER_BYTES 65536u

/* Every record of the tables, messages or not. */
#define RECORD_TYPE(tag) &tag##_type,
#define CALL_TYPES(opcode, name, roles, text) \
    &proto_##name##_request_type, &proto_##name##_reply_type,
#define PUSH_TYPE(opcode, name, roles, text) &proto_##name##_push_type,
static const struct proto_type *const all_types[] = {PROTO_RECORDS(RECORD_TYPE)
                                                         PROTO_MESSAGES(CALL_TYPES, PUSH_TYPE)};

/* What one test of one record needs. */
struct fixture {
    struct rand rand;
    struct mem_arena arena;
    uint8_t *bytes, *again;
    void *record;
};

static void fixture_open(struct fixture *f)
{
    rand_seed(&f->rand, testing_seed());
    mem_arena_init(&f->arena, ARENA_BYTES);
    f->bytes = mem_alloc(BUFFER_BYTES);
    f->again = mem_alloc(BUFFER_BYTES);
    f->record = mem_alloc(BUFFER_BYTES);
    CHECK_TRUE(f->bytes != NULL && f->again != NULL && f->record != NULL);
}

static void fixture_close(struct fixture *f)
{
    mem_arena_fini(&f->arena);
    mem_free(f->bytes);
    mem_free(f->again);
    mem_free(f->record);
}

/* A random record in f->bytes. */
static size_t fixture_encode(struct fixture *f, const struct proto_type *t, size_t max_count)
{
    mem_arena_reset(&f->arena);
    CHECK_TRUE(t->size <= BUFFER_BYTES);
    CHECK_OK(proto_sample(t, &f->rand, max_count, &f->arena, f->record));
    struct wire_writer w = wire_writer_over(f->bytes, BUFFER_BYTES);
    CHECK_OK(proto_encode(t, f->record, &w));
    return w.len;
}

/* What `record` encodes to, in f->again. */
static size_t fixture_again(struct fixture *f, const struct proto_type *t)
{
    struct wire_writer w = wire_writer_over(f->again, BUFFER_BYTES);
    CHECK_OK(proto_encode(t, f->record, &w));
    return w.len;
}

static bool has_name(const struct proto_type *t)
{
    for (size_t i = 0; i < t->field_count; i++) {
        if (t->fields[i].kind == PROTO_NAME) {
            return true;
        }
    }
    return false;
}

TEST(all_tables_are_sound)
{
    for (size_t i = 0; i < ARRAY_COUNT(all_types); i++) {
        CHECK_OK(proto_type_check(all_types[i]));
    }
    size_t count;
    const struct proto_message *m = proto_messages(&count);
    CHECK_TRUE(count > 60);
    for (size_t i = 0; i < count; i++) {
        CHECK_TRUE(proto_message_find(m[i].opcode) == &m[i]);
        CHECK_TEXT(proto_opcode_name(m[i].opcode), m[i].name);
        CHECK_TRUE(m[i].roles != 0 && (m[i].roles & ~PROTO_ROLE_ANY) == 0);
        CHECK_TRUE(m[i].text[0] != 0);
    }
    CHECK_TRUE(proto_message_find(0) == NULL);
    CHECK_TEXT(proto_opcode_name(0xffff), "unknown");
}

TEST(round_trip_of_everything)
{
    struct fixture f;
    fixture_open(&f);
    for (size_t i = 0; i < ARRAY_COUNT(all_types); i++) {
        const struct proto_type *t = all_types[i];
        for (size_t n = 0; n < SAMPLE_COUNT; n++) {
            size_t len = fixture_encode(&f, t, n);
            mem_arena_reset(&f.arena);
            CHECK_OK(proto_decode(t, f.bytes, len, &f.arena, f.record));
            CHECK_EQ(fixture_again(&f, t), len);
            CHECK_BYTES(f.bytes, f.again, len);
        }
    }
    fixture_close(&f);
}

TEST(every_truncation_of_everything)
{
    struct fixture f;
    fixture_open(&f);
    for (size_t i = 0; i < ARRAY_COUNT(all_types); i++) {
        const struct proto_type *t = all_types[i];
        size_t len = fixture_encode(&f, t, 2);
        size_t good = 0;
        for (size_t cut = 0; cut < len; cut++) {
            /* A block of its own size, so that a read behind the end is seen by the sanitizer. */
            uint8_t *exact = mem_dup(f.bytes, cut + (cut == 0));
            mem_arena_reset(&f.arena);
            int rc = proto_decode(t, exact, cut, &f.arena, f.record);
            CHECK_TRUE(rc == 0 || rc == -ERR_short_msg);
            good += rc == 0 ? 1 : 0;
            mem_free(exact);
        }
        CHECK_TRUE(good <= t->field_count); /* only where a field begins */
        CHECK_TRUE(has_name(t) || good == t->field_count);
    }
    fixture_close(&f);
}

TEST(unknown_fields_behind_the_known_are_skipped)
{
    struct fixture f;
    fixture_open(&f);
    for (size_t i = 0; i < ARRAY_COUNT(all_types); i++) {
        const struct proto_type *t = all_types[i];
        size_t len = fixture_encode(&f, t, 3);
        CHECK_TRUE(len + 9 <= BUFFER_BYTES);
        rand_bytes(&f.rand, f.bytes + len, 9);
        mem_arena_reset(&f.arena);
        CHECK_OK(proto_decode(t, f.bytes, len + 9, &f.arena, f.record));
        CHECK_EQ(fixture_again(&f, t), len);
        CHECK_BYTES(f.bytes, f.again, len);
    }
    fixture_close(&f);
}

TEST(absent_fields_are_zero)
{
    struct fixture f;
    fixture_open(&f);
    for (size_t i = 0; i < ARRAY_COUNT(all_types); i++) {
        const struct proto_type *t = all_types[i];
        memset(f.record, 0xff, t->size);
        int rc = proto_decode(t, NULL, 0, &f.arena, f.record);
        if (has_name(t)) {
            CHECK_RC(rc, ERR_short_msg);
            continue;
        }
        CHECK_OK(rc);
        const uint8_t *at = f.record;
        for (size_t k = 0; k < t->size; k++) {
            CHECK_EQ(at[k], 0);
        }
    }
    fixture_close(&f);
}

/* Whatever comes is refused or is a valid record; both can be printed. */
TEST(mutated_bytes_never_harm)
{
    struct fixture f;
    fixture_open(&f);
    char out[300];
    size_t refused = 0;
    for (size_t i = 0; i < ARRAY_COUNT(all_types); i++) {
        const struct proto_type *t = all_types[i];
        for (size_t n = 0; n < SAMPLE_COUNT; n++) {
            size_t len = fixture_encode(&f, t, 4);
            for (size_t k = 0; len > 0 && k < 1 + n / 4; k++) {
                f.bytes[rand_below(&f.rand, len)] = (uint8_t)rand_u64(&f.rand);
            }
            mem_arena_reset(&f.arena);
            int rc = proto_decode(t, f.bytes, len, &f.arena, f.record);
            refused += rc < 0 ? 1 : 0;
            if (rc == 0) {
                CHECK_TRUE(fixture_again(&f, t) <= len + t->size * 64);
            }
            struct text text;
            text_init(&text, out, sizeof out);
            proto_to_text(t, f.record, &text);
        }
    }
    CHECK_TRUE(refused > 0);
    fixture_close(&f);
}

/* The CRC covers what is asked for and nothing that a retry changes. */
TEST(crc_of_a_mutation)
{
    uint8_t bytes[512], other[512];
    struct proto_unlink_request r = {
        .op = {.session = 1, .slot = 2, .sequence = 3, .unanswered = 3, .cred = 4},
        .parent = 7,
        .name = proto_bytes_text("a")};
    struct wire_writer w = wire_writer_over(bytes, sizeof bytes);
    CHECK_OK(PROTO_ENCODE(proto_unlink_request, &r, &w));
    CHECK_OK(proto_op_seal(PROTO_OP_unlink, bytes, w.len));
    struct proto_unlink_request sealed;
    CHECK_OK(PROTO_DECODE(proto_unlink_request, bytes, w.len, NULL, &sealed));
    uint32_t crc = 0;
    CHECK_OK(proto_op_crc(PROTO_OP_unlink, bytes, w.len, &crc));
    CHECK_EQ(sealed.op.crc, crc);
    CHECK_EQ(sealed.op.cred, 4);
    CHECK_EQ(sealed.parent, 7);

    r.op.lease_epoch = 99;
    r.op.unanswered = 2;
    w = wire_writer_over(other, sizeof other);
    CHECK_OK(PROTO_ENCODE(proto_unlink_request, &r, &w));
    uint32_t again = 0;
    CHECK_OK(proto_op_crc(PROTO_OP_unlink, other, w.len, &again));
    CHECK_EQ(again, crc);
    CHECK_OK(proto_op_crc(PROTO_OP_rmdir, other, w.len, &again));
    CHECK_NE(again, crc);
    r.parent = 8;
    w = wire_writer_over(other, sizeof other);
    CHECK_OK(PROTO_ENCODE(proto_unlink_request, &r, &w));
    CHECK_OK(proto_op_crc(PROTO_OP_unlink, other, w.len, &again));
    CHECK_NE(again, crc);
}

TEST(crc_of_a_body_without_op)
{
    uint8_t bytes[64] = {0};
    uint32_t crc;
    for (size_t len = 0; len < sizeof bytes; len++) {
        CHECK_RC(proto_op_crc(1, bytes, len, &crc), ERR_short_msg);
    }
    bytes[0] = 60; /* exactly as long as the body has room for */
    CHECK_OK(proto_op_crc(1, bytes, 64, &crc));
    CHECK_RC(proto_op_crc(1, bytes, 63, &crc), ERR_short_msg);
    bytes[3] = 0xff;
    CHECK_RC(proto_op_seal(1, bytes, 64), ERR_short_msg);
}
