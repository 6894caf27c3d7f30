/*
 * proto/decode.c -- bytes to a record. A walk with a stack of its own: one level per record that is
 * open; each level reads from exactly the bytes that its length gave it, so that no inner length
 * can reach into what follows.
 */
#include "proto/table.h"

#include "proto/table_priv.h"

struct decode_level {
    const struct proto_type *type;
    size_t field;          /* the next one */
    uint8_t *at;           /* the record being filled */
    size_t more;           /* records of the same list that follow it */
    bool begun;            /* false: `at` is the first of them, not begun yet */
    struct wire_reader in; /* what is left of the record's bytes */
};
struct decode {
    struct decode_level stack[PROTO_DEPTH_MAX];
    size_t depth;
    struct mem_arena *arena;
};

/* `count` records from `at` come next; their bytes are in the level that is open now. */
static void decode_push(struct decode *d, const struct proto_type *t, void *at, size_t count)
{
    CHECK(d->depth < PROTO_DEPTH_MAX); /* tables are checked by proto_type_check() in tests */
    struct decode_level *l = &d->stack[d->depth];
    *l = (struct decode_level){.type = t, .at = at, .more = count, .field = t->field_count};
    d->depth++;
}

/* The record that was open is complete (or the level is new): the next of its list, or back. */
static int decode_next(struct decode *d, struct decode_level *l)
{
    if (l->more == 0) {
        d->depth--;
        return 0;
    }
    CHECK(d->depth >= 2); /* the outermost record is one */
    struct wire_reader *from = &d->stack[d->depth - 2].in;
    size_t len = wire_read_u32(from);
    const uint8_t *bytes = wire_read_bytes(from, len);
    if (bytes == NULL) {
        return -ERR_short_msg;
    }
    l->in = wire_reader_over(bytes, len);
    l->at += l->begun ? l->type->size : 0;
    l->begun = true;
    l->field = 0;
    l->more--;
    return 0;
}

/* The bytes of the record have ended before the field: zero it stays, a NAME may not. */
static int decode_absent(struct decode_level *l)
{
    for (; l->field < l->type->field_count; l->field++) {
        if (l->type->fields[l->field].kind == PROTO_NAME) {
            return -ERR_short_msg;
        }
    }
    return 0;
}

static int decode_bytes(const struct proto_field *f, struct wire_reader *r, struct proto_bytes *ret)
{
    size_t len = wire_read_u32(r);
    if (len > f->max) {
        return -ERR_bad_length;
    }
    const uint8_t *at = wire_read_bytes(r, len);
    if (at == NULL) {
        return -ERR_short_msg;
    }
    int rc = proto_check_bytes(f, at, len);
    if (rc == 0) {
        *ret = (struct proto_bytes){.at = at, .len = len};
    }
    return rc;
}

/* A count that is within its limit and whose elements can be in what is left. */
static int decode_count(const struct proto_field *f, struct wire_reader *r, size_t element_bytes,
                        size_t *ret)
{
    size_t count = wire_read_u32(r);
    if (count > f->max) {
        return -ERR_bad_length;
    }
    if (r->bad || count > r->left / element_bytes) {
        return -ERR_short_msg;
    }
    *ret = count;
    return 0;
}

static void *decode_alloc(struct decode *d, size_t count, size_t size)
{
    void *at = d->arena == NULL ? NULL : mem_arena_alloc(d->arena, count * size);
    if (at != NULL) {
        memset(at, 0, count * size);
    }
    return at;
}

static int decode_u32s(struct decode *d, const struct proto_field *f, struct wire_reader *r,
                       struct proto_u32s *ret)
{
    size_t count = 0;
    int rc = decode_count(f, r, sizeof(uint32_t), &count);
    if (rc < 0 || count == 0) {
        return rc;
    }
    uint32_t *at = decode_alloc(d, count, sizeof *at);
    if (at == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        at[i] = wire_read_u32(r);
    }
    *ret = (struct proto_u32s){.at = at, .count = count};
    return 0;
}

static int decode_u64s(struct decode *d, const struct proto_field *f, struct wire_reader *r,
                       struct proto_u64s *ret)
{
    size_t count = 0;
    int rc = decode_count(f, r, sizeof(uint64_t), &count);
    if (rc < 0 || count == 0) {
        return rc;
    }
    uint64_t *at = decode_alloc(d, count, sizeof *at);
    if (at == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        at[i] = wire_read_u64(r);
    }
    *ret = (struct proto_u64s){.at = at, .count = count};
    return 0;
}

static int decode_list(struct decode *d, const struct proto_field *f, struct wire_reader *r,
                       uint8_t *to)
{
    size_t count = 0;
    int rc = decode_count(f, r, TABLE_LENGTH_BYTES, &count);
    if (rc < 0 || count == 0) {
        return rc;
    }
    struct table_any_list list = {.count = count};
    list.at = decode_alloc(d, count, f->type->size);
    if (list.at == NULL) {
        return -ENOMEM;
    }
    memcpy(to, &list, sizeof list);
    decode_push(d, f->type, list.at, count);
    return 0;
}

static int decode_field(struct decode *d, const struct proto_field *f, struct wire_reader *r,
                        uint8_t *to)
{
    switch (f->kind) {
    case PROTO_UUID: {
        const uint8_t *at = wire_read_bytes(r, sizeof(struct uuid));
        if (at != NULL) {
            memcpy(to, at, sizeof(struct uuid));
        }
        return 0;
    }
    case PROTO_BYTES:
    case PROTO_TEXT:
    case PROTO_NAME:
        return decode_bytes(f, r, (struct proto_bytes *)(void *)to);
    case PROTO_STRUCT:
        decode_push(d, f->type, to, 1);
        return 0;
    case PROTO_LIST:
        return decode_list(d, f, r, to);
    case PROTO_U32S:
        return decode_u32s(d, f, r, (struct proto_u32s *)(void *)to);
    case PROTO_U64S:
        return decode_u64s(d, f, r, (struct proto_u64s *)(void *)to);
    case PROTO_U8:
    case PROTO_U16:
    case PROTO_U32:
    case PROTO_U64:
    case PROTO_I32:
    case PROTO_I64:
    case PROTO_BOOL:
        break; /* numbers: decode_numbers() */
    }
    return -EINVAL; /* no such kind: proto_type_check() refuses the table */
}

static void decode_number(const uint8_t *at, size_t width, uint8_t *to)
{
    switch (width) {
    case 1:
        *to = *at;
        break;
    case 2:
        *(uint16_t *)(void *)to = wire_load_u16(at);
        break;
    case 4:
        *(uint32_t *)(void *)to = wire_load_u32(at);
        break;
    default:
        *(uint64_t *)(void *)to = wire_load_u64(at);
        break;
    }
}

/* Most fields are numbers, which come in runs: all of one with the reader in registers. */
static int decode_numbers(struct decode_level *l)
{
    const struct proto_field *fields = l->type->fields;
    const uint8_t *at = l->in.at;
    size_t left = l->in.left, i = l->field, count = l->type->field_count;
    int rc = 0;
    for (; i < count && left > 0 && fields[i].width != 0; i++) {
        size_t width = fields[i].width;
        if (left < width) {
            rc = -ERR_short_msg;
            break;
        }
        if (fields[i].kind == PROTO_BOOL && *at > 1) {
            rc = -ERR_bad_value;
            break;
        }
        decode_number(at, width, l->at + fields[i].offset);
        at += width;
        left -= width;
    }
    l->in.at = at;
    l->in.left = left;
    l->field = i;
    return rc;
}

static int decode_step(struct decode *d)
{
    struct decode_level *l = &d->stack[d->depth - 1];
    if (l->field == l->type->field_count) {
        return decode_next(d, l);
    }
    if (l->in.left == 0) {
        return decode_absent(l);
    }
    const struct proto_field *f = &l->type->fields[l->field];
    if (f->width != 0) {
        return decode_numbers(l);
    }
    l->field++;
    int rc = decode_field(d, f, &l->in, l->at + f->offset);
    return rc == 0 && l->in.bad ? -ERR_short_msg : rc;
}

int proto_decode(const struct proto_type *t, const void *bytes, size_t len, struct mem_arena *a,
                 void *ret)
{
    struct decode d;
    d.depth = 0;
    d.arena = a;
    memset(ret, 0, t->size);
    decode_push(&d, t, ret, 0);
    d.stack[0].field = 0;
    d.stack[0].in = wire_reader_over(bytes, len);
    int rc = 0;
    while (d.depth > 0 && rc == 0) {
        rc = decode_step(&d);
    }
    return rc;
}
