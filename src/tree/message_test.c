#include "tree/message.h"

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"
#include "wire/wire.h"

#include <string.h>

#define VALUE_MAX 48u

/* A value by the book: what kv/batch.h says, without any folding. */
struct plain {
    bool present;
    size_t len;
    uint8_t bytes[VALUE_MAX];
};

/* A message and what it was made of. */
struct made {
    struct tree_message message;
    struct kv_field field[KV_FIELDS_MAX];
    size_t count;
    uint32_t value_len;
    uint8_t body[TREE_UPSERT_MAX];
};

static void made_upsert(struct rand *r, struct made *m, size_t most)
{
    m->value_len = (uint32_t)rand_range(r, 8, VALUE_MAX);
    m->count = (size_t)rand_range(r, 1, most);
    for (size_t i = 0; i < m->count; i++) {
        bool even = rand_chance(r, 3, 4);
        uint64_t offset = rand_below(r, m->value_len - 7);
        m->field[i] = (struct kv_field){
            .offset = (uint16_t)(even ? offset / 8 * 8 : offset),
            .op = rand_chance(r, 1, 2) ? KV_FIELD_ADD : KV_FIELD_MAX,
            .operand = rand_chance(r, 1, 2) ? rand_u64(r) : rand_below(r, 3),
        };
    }
    size_t len = tree_upsert_encode(m->value_len, m->field, m->count, m->body);
    m->message.body = kv_slice_of(m->body, len);
}

static void made_random(struct rand *r, struct made *m, uint64_t msn, size_t most)
{
    static const enum tree_message_type types[] = {TREE_PUT,    TREE_DELETE, TREE_UPSERT,
                                                   TREE_UPSERT, TREE_UPSERT, TREE_NOTE};
    *m = (struct made){.message = {.msn = msn, .type = types[rand_below(r, ARRAY_COUNT(types))]}};
    if (m->message.type == TREE_UPSERT) {
        made_upsert(r, m, most);
    } else if (m->message.type == TREE_PUT) {
        size_t len = (size_t)rand_below(r, VALUE_MAX + 1);
        rand_bytes(r, m->body, len);
        m->message.body = kv_slice_of(len > 0 ? m->body : NULL, len);
    }
    CHECK_OK(tree_message_check(m->message.type, m->message.body, NULL));
}

static void plain_apply(struct plain *v, const struct made *m)
{
    if (m->message.type == TREE_DELETE) {
        *v = (struct plain){0};
    } else if (m->message.type == TREE_PUT) {
        *v = (struct plain){.present = true, .len = m->message.body.len};
        memcpy(v->bytes, m->body, v->len);
    } else if (m->message.type == TREE_UPSERT) {
        v->present = true;
        v->len = (size_t)base_max(v->len, m->value_len); /* the rest is zero already */
        kv_fields_apply(v->bytes, v->len, m->field, m->count);
    }
}

static struct kv_slice plain_slice(const struct plain *v)
{
    return v->present ? kv_slice_of(v->bytes, v->len) : kv_slice_of(NULL, 0);
}

static void check_applied(int rc, struct kv_slice got, const struct plain *v)
{
    CHECK_EQ(rc, v->present ? 1 : 0);
    if (rc == 1) {
        CHECK_EQ(got.len, v->len);
        CHECK_BYTES(got.at, v->bytes, v->len);
    }
}

static void plain_random(struct rand *r, struct plain *v)
{
    *v = (struct plain){.present = rand_chance(r, 2, 3)};
    if (v->present) {
        v->len = (size_t)rand_below(r, VALUE_MAX + 1);
        rand_bytes(r, v->bytes, v->len);
    }
}

/* One message alone does what the book says, also on a value that lies in the room for results. */
TEST(apply_agrees_with_the_plain_model)
{
    struct rand r;
    struct tree_room room = {0};
    rand_seed(&r, testing_seed());
    for (unsigned n = 0; n < 20000; n++) {
        struct plain v;
        struct made m;
        struct kv_slice got = {0};
        plain_random(&r, &v);
        made_random(&r, &m, 1, 8);
        struct kv_slice value = plain_slice(&v);
        if (v.present && rand_chance(&r, 1, 2)) {
            CHECK_OK(tree_room_reserve(&room, v.len + 1));
            memcpy(room.at, v.bytes, v.len);
            value = kv_slice_of(room.at, v.len);
        }
        int rc = tree_message_apply(&m.message, value, &room, &got);
        plain_apply(&v, &m);
        check_applied(rc, got, &v);
        if (n % 16 == 0) {
            tree_room_fini(&room); /* so that it must grow at times */
        }
    }
    tree_room_fini(&room);
}

/* apply(combine(a, b), v) == apply(a, apply(b, v)), and the folded one may come from a disk. */
TEST(combine_does_what_both_do)
{
    struct rand r;
    struct tree_room room = {0}, out = {0};
    unsigned kept = 0, folded = 0;
    rand_seed(&r, testing_seed());
    for (unsigned n = 0; n < 40000; n++) {
        struct plain v;
        struct made older, newer;
        struct tree_message both = {0};
        struct kv_slice got = {0};
        size_t most = rand_chance(&r, 1, 4) ? KV_FIELDS_MAX : 3;
        plain_random(&r, &v);
        made_random(&r, &older, 6, most);
        made_random(&r, &newer, 7, most);
        int rc = tree_message_combine(&newer.message, &older.message, &room, &both);
        if (rc == 0) {
            CHECK_TRUE(newer.message.type == TREE_UPSERT && older.message.type == TREE_UPSERT);
            kept++;
            continue;
        }
        CHECK_EQ(rc, 1);
        CHECK_EQ(both.msn, 7);
        CHECK_OK(tree_message_check(both.type, both.body, NULL));
        folded += both.type == TREE_UPSERT && older.message.type == TREE_UPSERT ? 1 : 0;
        rc = tree_message_apply(&both, plain_slice(&v), &out, &got);
        plain_apply(&v, &older);
        plain_apply(&v, &newer);
        check_applied(rc, got, &v);
    }
    CHECK_TRUE(kept > 100 && folded > 1000);
    tree_room_fini(&room);
    tree_room_fini(&out);
}

static size_t upsert_count(struct kv_slice body)
{
    return ((const uint8_t *)body.at)[4];
}

/* Counters fold for ever; what does not commute is kept in its order. */
TEST(upserts_fold_where_they_commute)
{
    struct tree_room room = {0};
    uint8_t a[TREE_UPSERT_MAX], b[TREE_UPSERT_MAX];
    struct tree_message both = {0};
    struct kv_field statistics[] = {{0, KV_FIELD_ADD, 5}, {8, KV_FIELD_MAX, 9}};
    size_t len = tree_upsert_encode(16, statistics, 2, a);
    struct tree_message m = {TREE_UPSERT, 1, kv_slice_of(a, len)};
    both = m;
    for (unsigned i = 0; i < 1000; i++) {
        memcpy(b, both.body.at, both.body.len);
        struct tree_message older = {TREE_UPSERT, 1, kv_slice_of(b, both.body.len)};
        CHECK_EQ(tree_message_combine(&m, &older, &room, &both), 1);
        CHECK_EQ(upsert_count(both.body), 2);
    }
    const uint8_t *at = both.body.at;
    CHECK_EQ(wire_load_u64(at + 8), UINT64_C(1001) * 5);
    CHECK_EQ(wire_load_u64(at + 8 + TREE_FIELD_BYTES), 9);
    struct kv_field mixed[] = {{0, KV_FIELD_ADD, 1}, {0, KV_FIELD_MAX, 7}, {0, KV_FIELD_ADD, 1}};
    CHECK_EQ(tree_upsert_encode(8, mixed, 3, a), TREE_UPSERT_HEADER_BYTES + 3 * TREE_FIELD_BYTES);
    mixed[1].offset = 4; /* overlaps both */
    CHECK_EQ(tree_upsert_encode(16, mixed, 3, a), TREE_UPSERT_HEADER_BYTES + 3 * TREE_FIELD_BYTES);
    mixed[1].offset = 8;
    CHECK_EQ(tree_upsert_encode(16, mixed, 3, a), TREE_UPSERT_HEADER_BYTES + 2 * TREE_FIELD_BYTES);
    tree_room_fini(&room);
}

TEST(more_fields_than_fit_are_kept_apart)
{
    struct tree_room room = {0};
    struct kv_field f[KV_FIELDS_MAX], more = {.offset = 512, .op = KV_FIELD_ADD, .operand = 1};
    uint8_t a[TREE_UPSERT_MAX], b[TREE_UPSERT_MAX];
    struct tree_message ret = {0};
    for (uint16_t i = 0; i < KV_FIELDS_MAX; i++) {
        f[i] = (struct kv_field){.offset = (uint16_t)(i * 8), .op = KV_FIELD_ADD, .operand = i};
    }
    struct tree_message full = {TREE_UPSERT, 1,
                                kv_slice_of(a, tree_upsert_encode(1024, f, KV_FIELDS_MAX, a))};
    struct tree_message one = {TREE_UPSERT, 2,
                               kv_slice_of(b, tree_upsert_encode(520, &more, 1, b))};
    CHECK_EQ(full.body.len, TREE_UPSERT_MAX);
    CHECK_EQ(tree_message_combine(&one, &full, &room, &ret), 0);
    one.body = kv_slice_of(b, tree_upsert_encode(8, f, 1, b));
    CHECK_EQ(tree_message_combine(&one, &full, &room, &ret), 1);
    tree_room_fini(&room);
}

TEST(check_refuses_what_is_outside_its_limits)
{
    struct err e = {0};
    uint8_t body[TREE_UPSERT_MAX + 1] = {0};
    struct kv_field f[] = {{0, KV_FIELD_ADD, 5}, {8, KV_FIELD_MAX, 9}};
    size_t len = tree_upsert_encode(16, f, 2, body);
    CHECK_OK(tree_message_check(TREE_UPSERT, kv_slice_of(body, len), &e));
    for (size_t cut = 0; cut <= sizeof body; cut++) {
        int rc = tree_message_check(TREE_UPSERT, kv_slice_of(body, cut), &e);
        CHECK_EQ(rc, cut == len ? 0 : -ERR_bad_length);
    }
    CHECK_TRUE(strstr(e.text, "2 fields in") != NULL);
    struct { /* a byte of the body, what it becomes */
        size_t at;
        uint8_t to;
    } bad[] = {{0, 15}, {1, 5}, {2, 1}, {3, 1}, {4, 0}, {4, 33}, {5, 9}, {6, 1}, {7, 0}, {7, 3}};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        uint8_t copy[TREE_UPSERT_MAX];
        memcpy(copy, body, len);
        copy[bad[i].at] = bad[i].to;
        CHECK_RC(tree_message_check(TREE_UPSERT, kv_slice_of(copy, len), &e), ERR_bad_value);
    }
    static uint8_t big[KV_VALUE_MAX + 1];
    CHECK_OK(tree_message_check(TREE_PUT, kv_slice_of(big, KV_VALUE_MAX), &e));
    CHECK_RC(tree_message_check(TREE_PUT, kv_slice_of(big, sizeof big), &e), ERR_bad_length);
    CHECK_OK(tree_message_check(TREE_DELETE, kv_slice_of(big, 0), &e));
    CHECK_RC(tree_message_check(TREE_DELETE, kv_slice_of(big, 1), &e), ERR_bad_length);
    CHECK_OK(tree_message_check(TREE_RANGE_DELETE, kv_slice_of(big, KV_KEY_MAX), &e));
    CHECK_RC(tree_message_check(TREE_RANGE_DELETE, kv_slice_of(big, 0), &e), ERR_bad_length);
    CHECK_RC(tree_message_check(TREE_RANGE_DELETE, kv_slice_of(big, KV_KEY_MAX + 1), &e),
             ERR_bad_length);
    CHECK_OK(tree_message_check(TREE_NOTE, kv_slice_of(big, TREE_NOTE_MAX), &e));
    CHECK_RC(tree_message_check(TREE_NOTE, kv_slice_of(big, TREE_NOTE_MAX + 1), &e),
             ERR_bad_length);
    CHECK_RC(tree_message_check(0, kv_slice_of(big, 0), &e), ERR_bad_value);
    CHECK_RC(tree_message_check(5, kv_slice_of(big, 0), &e), ERR_bad_value);
    CHECK_RC(tree_message_check(7, kv_slice_of(big, 0), NULL), ERR_bad_value);
}

static void room_freep(struct tree_room *r)
{
    tree_room_fini(r);
}

TEST_TORTURE(folding_survives_every_failed_allocation)
{
    CLEANUP(room_freep) struct tree_room room = {0};
    CLEANUP(room_freep) struct tree_room out = {0};
    uint8_t a[TREE_UPSERT_MAX];
    struct kv_field f = {.op = KV_FIELD_ADD, .operand = 1};
    struct tree_message ret = {0};
    struct tree_message upsert = {TREE_UPSERT, 2, kv_slice_of(a, tree_upsert_encode(8, &f, 1, a))};
    struct tree_message put = {TREE_PUT, 1, kv_slice_of("a value of 21 bytes..", 21)};
    struct kv_slice value = {0};
    int rc = tree_message_combine(&upsert, &upsert, &room, &ret);
    TRY(rc < 0 ? rc : 0);
    CHECK_EQ(rc, 1);
    rc = tree_message_combine(&upsert, &put, &out, &ret);
    TRY(rc < 0 ? rc : 0);
    CHECK_EQ(ret.body.len, 21);
    rc = tree_message_apply(&upsert, put.body, &room, &value);
    TRY(rc < 0 ? rc : 0);
    CHECK_EQ(value.len, 21);
}
