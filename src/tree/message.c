#include "tree/message.h"

#include <string.h>

#include "base/mem.h"
#include "wire/wire.h"

/*
 * Fields change in their order. Two of them may change places when they touch different bytes, or
 * when they do the same to the same ones; so a later field folds into an earlier one of its offset
 * and operation unless one between them overlaps it.
 */

struct tree_upsert {
    uint32_t value_len;
    size_t count;
    struct kv_field field[KV_FIELDS_MAX];
};

int tree_room_reserve(struct tree_room *r, size_t len)
{
    CHECK(len <= KV_VALUE_MAX + 1);
    return mem_grow(&r->at, &r->capacity, len, 1);
}

void tree_room_fini(struct tree_room *r)
{
    mem_free(r->at);
    *r = (struct tree_room){0};
}

/* ---- upserts ---- */

static struct kv_field upsert_field(const uint8_t *at)
{
    return (struct kv_field){
        .offset = wire_load_u16(at),
        .op = at[2] == KV_FIELD_ADD ? KV_FIELD_ADD : KV_FIELD_MAX,
        .operand = wire_load_u64(at + 3),
    };
}

static uint32_t upsert_value_len(struct kv_slice body)
{
    CHECK(body.len >= TREE_UPSERT_HEADER_BYTES);
    return wire_load_u32(body.at);
}

static void upsert_decode(struct kv_slice body, struct tree_upsert *ret)
{
    const uint8_t *at = body.at;
    ret->value_len = upsert_value_len(body);
    ret->count = at[4];
    CHECK(ret->count <= KV_FIELDS_MAX);
    CHECK(body.len == TREE_UPSERT_HEADER_BYTES + ret->count * TREE_FIELD_BYTES);
    at += TREE_UPSERT_HEADER_BYTES;
    for (size_t i = 0; i < ret->count; i++, at += TREE_FIELD_BYTES) {
        ret->field[i] = upsert_field(at);
    }
}

static size_t upsert_encode(const struct tree_upsert *u, uint8_t *out)
{
    wire_store_u32(out, u->value_len);
    out[4] = (uint8_t)u->count;
    uint8_t *at = out + TREE_UPSERT_HEADER_BYTES;
    for (size_t i = 0; i < u->count; i++, at += TREE_FIELD_BYTES) {
        wire_store_u16(at, u->field[i].offset);
        at[2] = (uint8_t)u->field[i].op;
        wire_store_u64(at + 3, u->field[i].operand);
    }
    return (size_t)(at - out);
}

static bool fields_overlap(const struct kv_field *a, const struct kv_field *b)
{
    return a->offset < b->offset + 8 && b->offset < a->offset + 8;
}

/* Adds a field behind all others. False: no room. */
static bool upsert_add(struct tree_upsert *u, const struct kv_field *f)
{
    for (size_t i = u->count; i > 0; i--) {
        struct kv_field *old = &u->field[i - 1];
        if (old->offset == f->offset && old->op == f->op) {
            old->operand = f->op == KV_FIELD_ADD ? old->operand + f->operand
                                                 : base_max(old->operand, f->operand);
            return true;
        }
        if (fields_overlap(old, f)) {
            break;
        }
    }
    if (u->count == KV_FIELDS_MAX) {
        return false;
    }
    u->field[u->count++] = *f;
    return true;
}

size_t tree_upsert_encode(uint32_t value_len, const struct kv_field *fields, size_t count,
                          uint8_t *out)
{
    struct tree_upsert u = {.value_len = value_len};
    CHECK(value_len <= KV_KEY_MAX);
    CHECK(count > 0);
    CHECK(count <= KV_FIELDS_MAX);
    for (size_t i = 0; i < count; i++) {
        CHECK((uint32_t)fields[i].offset + 8 <= value_len);
        CHECK(upsert_add(&u, &fields[i]));
    }
    return upsert_encode(&u, out);
}

/* ---- checking ---- */

static int check_upsert(struct kv_slice body, struct err *e)
{
    if (body.len < TREE_UPSERT_HEADER_BYTES) {
        return err_set(e, -ERR_bad_length, "an upsert of %zu bytes", body.len);
    }
    const uint8_t *at = body.at;
    uint32_t value_len = wire_load_u32(at);
    size_t count = at[4];
    if (value_len > KV_KEY_MAX) {
        return err_set(e, -ERR_bad_value, "an upsert of a value of %u bytes", value_len);
    }
    if (count == 0 || count > KV_FIELDS_MAX) {
        return err_set(e, -ERR_bad_value, "an upsert of %zu fields", count);
    }
    if (body.len != TREE_UPSERT_HEADER_BYTES + count * TREE_FIELD_BYTES) {
        return err_set(e, -ERR_bad_length, "an upsert of %zu fields in %zu bytes", count, body.len);
    }
    at += TREE_UPSERT_HEADER_BYTES;
    for (size_t i = 0; i < count; i++, at += TREE_FIELD_BYTES) {
        uint32_t offset = wire_load_u16(at);
        if (at[2] != KV_FIELD_ADD && at[2] != KV_FIELD_MAX) {
            return err_set(e, -ERR_bad_value, "field %zu of an upsert has operation %u", i, at[2]);
        }
        if (offset + 8 > value_len) {
            return err_set(e, -ERR_bad_value, "field %zu of an upsert at %u of %u bytes", i, offset,
                           value_len);
        }
    }
    return 0;
}

static int check_length(const char *what, size_t len, size_t least, size_t most, struct err *e)
{
    return len >= least && len <= most ? 0
                                       : err_set(e, -ERR_bad_length, "%s of %zu bytes", what, len);
}

int tree_message_check(unsigned type, struct kv_slice body, struct err *e)
{
    switch (type) {
    case TREE_PUT:
        return check_length("a value", body.len, 0, KV_VALUE_MAX, e);
    case TREE_DELETE:
        return check_length("a delete", body.len, 0, 0, e);
    case TREE_UPSERT:
        return check_upsert(body, e);
    case TREE_RANGE_DELETE:
        return check_length("the high key of a range", body.len, 1, KV_KEY_MAX, e);
    case TREE_NOTE:
        return check_length("a note", body.len, 0, TREE_NOTE_MAX, e);
    default:
        return err_set(e, -ERR_bad_value, "a message of type %u", type);
    }
}

/* ---- folding ---- */

/* Changes a value; `old` may lie at the beginning of `room`. */
static int apply_upsert(struct kv_slice body, struct kv_slice old, struct tree_room *room,
                        struct kv_slice *ret)
{
    struct tree_upsert u;
    upsert_decode(body, &u);
    bool inside = old.at != NULL && old.at == room->at;
    size_t old_len = old.at == NULL ? 0 : old.len;
    size_t len = (size_t)base_max(old_len, u.value_len);
    int rc = tree_room_reserve(room, len);
    if (rc < 0) {
        return rc;
    }
    if (old_len > 0 && !inside) {
        memcpy(room->at, old.at, old_len);
    }
    memset(room->at + old_len, 0, len - old_len);
    kv_fields_apply(room->at, len, u.field, u.count);
    *ret = kv_slice_of(room->at, len);
    return 0;
}

size_t tree_message_room(const struct tree_message *newer, const struct tree_message *older)
{
    if (newer->type != TREE_UPSERT || older->type == TREE_NOTE) {
        return 0;
    }
    if (older->type == TREE_UPSERT) {
        return TREE_UPSERT_MAX;
    }
    size_t old_len = older->type == TREE_PUT ? older->body.len : 0;
    return (size_t)base_max(old_len, upsert_value_len(newer->body));
}

static int combine_upserts(const struct tree_message *newer, const struct tree_message *older,
                           struct tree_room *room, struct tree_message *ret)
{
    struct tree_upsert u, add;
    upsert_decode(older->body, &u);
    upsert_decode(newer->body, &add);
    u.value_len = (uint32_t)base_max(u.value_len, add.value_len);
    for (size_t i = 0; i < add.count; i++) {
        if (!upsert_add(&u, &add.field[i])) {
            return 0;
        }
    }
    int rc = tree_room_reserve(room, TREE_UPSERT_MAX);
    if (rc < 0) {
        return rc;
    }
    size_t len = upsert_encode(&u, room->at);
    *ret = (struct tree_message){TREE_UPSERT, newer->msn, kv_slice_of(room->at, len)};
    return 1;
}

static int combine_upsert(const struct tree_message *newer, const struct tree_message *older,
                          struct tree_room *room, struct tree_message *ret)
{
    struct tree_message put = {.type = TREE_PUT, .msn = newer->msn};
    int rc = 0;
    switch (older->type) {
    case TREE_UPSERT:
        return combine_upserts(newer, older, room, ret);
    case TREE_PUT:
        rc = apply_upsert(newer->body, older->body, room, &put.body);
        break;
    case TREE_DELETE:
        rc = apply_upsert(newer->body, kv_slice_of(NULL, 0), room, &put.body);
        break;
    case TREE_NOTE:
        *ret = *newer;
        return 1;
    case TREE_RANGE_DELETE:
    default:
        CHECK(false && "a message of one key");
    }
    if (rc < 0) {
        return rc;
    }
    *ret = put;
    return 1;
}

int tree_message_combine(const struct tree_message *newer, const struct tree_message *older,
                         struct tree_room *room, struct tree_message *ret)
{
    CHECK(newer->msn >= older->msn);
    CHECK(older->type != TREE_RANGE_DELETE);
    switch (newer->type) {
    case TREE_PUT:
    case TREE_DELETE:
        *ret = *newer;
        return 1;
    case TREE_UPSERT:
        return combine_upsert(newer, older, room, ret);
    case TREE_NOTE:
        *ret = older->type == TREE_NOTE ? *newer : *older;
        ret->msn = newer->msn;
        return 1;
    case TREE_RANGE_DELETE:
    default:
        CHECK(false && "a message of one key");
        return -EINVAL;
    }
}

int tree_message_apply(const struct tree_message *m, struct kv_slice value, struct tree_room *room,
                       struct kv_slice *ret)
{
    int rc = 0;
    switch (m->type) {
    case TREE_PUT:
        *ret = kv_slice_of(m->body.at != NULL ? m->body.at : "", m->body.len);
        return 1;
    case TREE_DELETE:
    case TREE_RANGE_DELETE:
        return 0;
    case TREE_UPSERT:
        rc = apply_upsert(m->body, value, room, ret);
        return rc < 0 ? rc : 1;
    case TREE_NOTE:
        *ret = value.at != NULL ? value : *ret;
        return value.at != NULL ? 1 : 0;
    default:
        CHECK(false && "a message");
        return -EINVAL;
    }
}
