/* proto/encode.c -- a record to bytes: the mirror of proto/decode.c, with the same limits. */
#include "proto/table.h"

#include "proto/table_priv.h"

struct encode_level {
    const struct proto_type *type;
    size_t field, end; /* the next one, and behind the last */
    const uint8_t *at; /* the record */
    size_t more;       /* records of the same list that follow it */
    bool begun;        /* false: `at` is the first of them, not begun yet */
    size_t start;      /* where in the writer its length stands */
};
struct encode {
    struct encode_level stack[PROTO_DEPTH_MAX];
    size_t depth;
    struct wire_writer *out;
};

static void encode_push(struct encode *e, const struct proto_type *t, const void *at, size_t count)
{
    CHECK(e->depth < PROTO_DEPTH_MAX);
    struct encode_level *l = &e->stack[e->depth];
    *l = (struct encode_level){
        .type = t, .at = at, .more = count, .field = t->field_count, .end = t->field_count};
    e->depth++;
}

/* The record that was open is complete (or the level is new): the next of its list, or back. */
static void encode_next(struct encode *e, struct encode_level *l)
{
    if (l->begun) {
        size_t len = e->out->len - l->start - TABLE_LENGTH_BYTES;
        e->out->bad = e->out->bad || len > UINT32_MAX;
        wire_patch_u32(e->out, l->start, (uint32_t)len);
    }
    if (l->more == 0) {
        e->depth--;
        return;
    }
    l->at += l->begun ? l->type->size : 0;
    l->begun = true;
    l->start = e->out->len;
    l->field = 0;
    l->more--;
    wire_write_u32(e->out, 0); /* patched when the record is complete */
}

static int encode_bytes(const struct proto_field *f, const struct proto_bytes *from,
                        struct wire_writer *w)
{
    int rc = proto_check_bytes(f, from->at, from->len);
    if (rc == 0) {
        wire_write_counted(w, from->at, from->len);
    }
    return rc;
}

static int encode_u32s(const struct proto_field *f, const struct proto_u32s *from,
                       struct wire_writer *w)
{
    if (from->count > f->max) {
        return -ERR_bad_length;
    }
    wire_write_u32(w, (uint32_t)from->count);
    for (size_t i = 0; i < from->count; i++) {
        wire_write_u32(w, from->at[i]);
    }
    return 0;
}

static int encode_u64s(const struct proto_field *f, const struct proto_u64s *from,
                       struct wire_writer *w)
{
    if (from->count > f->max) {
        return -ERR_bad_length;
    }
    wire_write_u32(w, (uint32_t)from->count);
    for (size_t i = 0; i < from->count; i++) {
        wire_write_u64(w, from->at[i]);
    }
    return 0;
}

static int encode_list(struct encode *e, const struct proto_field *f, const uint8_t *from)
{
    struct table_any_list list;
    memcpy(&list, from, sizeof list);
    if (list.count > f->max) {
        return -ERR_bad_length;
    }
    wire_write_u32(e->out, (uint32_t)list.count);
    if (list.count > 0) {
        encode_push(e, f->type, list.at, list.count);
    }
    return 0;
}

static int encode_field(struct encode *e, const struct proto_field *f, const uint8_t *from)
{
    switch (f->kind) {
    case PROTO_UUID:
        wire_write_bytes(e->out, from, sizeof(struct uuid));
        return 0;
    case PROTO_BYTES:
    case PROTO_TEXT:
    case PROTO_NAME:
        return encode_bytes(f, (const struct proto_bytes *)(const void *)from, e->out);
    case PROTO_STRUCT:
        encode_push(e, f->type, from, 1);
        return 0;
    case PROTO_LIST:
        return encode_list(e, f, from);
    case PROTO_U32S:
        return encode_u32s(f, (const struct proto_u32s *)(const void *)from, e->out);
    case PROTO_U64S:
        return encode_u64s(f, (const struct proto_u64s *)(const void *)from, e->out);
    case PROTO_U8:
    case PROTO_U16:
    case PROTO_U32:
    case PROTO_U64:
    case PROTO_I32:
    case PROTO_I64:
    case PROTO_BOOL:
        break; /* numbers: encode_numbers() */
    }
    return -EINVAL; /* no such kind: proto_type_check() refuses the table */
}

static void encode_number(const struct proto_field *f, const uint8_t *from, uint8_t *at)
{
    switch (f->width) {
    case 1:
        *at = f->kind == PROTO_BOOL ? *(const bool *)(const void *)from : *from;
        break;
    case 2:
        wire_store_u16(at, *(const uint16_t *)(const void *)from);
        break;
    case 4:
        wire_store_u32(at, *(const uint32_t *)(const void *)from);
        break;
    default:
        wire_store_u64(at, *(const uint64_t *)(const void *)from);
        break;
    }
}

/* Most fields are numbers, which come in runs: the room for all of one is taken at once. */
static void encode_numbers(struct encode_level *l, struct wire_writer *w)
{
    const struct proto_field *fields = l->type->fields;
    size_t first = l->field, end = first, bytes = 0;
    for (; end < l->end && fields[end].width != 0; end++) {
        bytes += fields[end].width;
    }
    l->field = end;
    uint8_t *at = wire_write_room(w, bytes);
    for (size_t i = first; i < end && at != NULL; i++) {
        encode_number(&fields[i], l->at + fields[i].offset, at);
        at += fields[i].width;
    }
}

static int encode_step(struct encode *e)
{
    struct encode_level *l = &e->stack[e->depth - 1];
    if (l->field == l->end) {
        encode_next(e, l);
        return 0;
    }
    const struct proto_field *f = &l->type->fields[l->field];
    if (f->width != 0) {
        encode_numbers(l, e->out);
        return 0;
    }
    l->field++;
    return encode_field(e, f, l->at + f->offset);
}

/* The first `fields` of the outermost record. */
static int encode_record(const struct proto_type *t, const void *record, size_t fields,
                         struct wire_writer *w)
{
    struct encode e;
    e.depth = 0;
    e.out = w;
    encode_push(&e, t, record, 0);
    e.stack[0].field = 0;
    e.stack[0].end = fields;
    int rc = 0;
    while (e.depth > 0 && rc == 0) {
        rc = encode_step(&e);
    }
    return rc == 0 && w->bad ? -EMSGSIZE : rc;
}

int proto_encode(const struct proto_type *t, const void *record, struct wire_writer *w)
{
    return encode_record(t, record, t->field_count, w);
}

/* Does a record without this field say something else? */
static bool encode_matters(const struct proto_field *f, const uint8_t *from)
{
    static const uint8_t zeros[sizeof(struct uuid)];
    switch (f->kind) {
    case PROTO_BYTES:
    case PROTO_TEXT:
        return ((const struct proto_bytes *)(const void *)from)->len > 0;
    case PROTO_UUID:
        return memcmp(from, zeros, sizeof zeros) != 0;
    case PROTO_LIST:
    case PROTO_U32S:
    case PROTO_U64S:
    case PROTO_NAME:
    case PROTO_STRUCT:
        return true; /* not looked into */
    case PROTO_U8:
    case PROTO_U16:
    case PROTO_U32:
    case PROTO_U64:
    case PROTO_I32:
    case PROTO_I64:
    case PROTO_BOOL:
        break;
    }
    return memcmp(from, zeros, f->width) != 0;
}

int proto_encode_compact(const struct proto_type *t, const void *record, struct wire_writer *w)
{
    const uint8_t *at = record;
    size_t fields = t->field_count;
    while (fields > 0 &&
           !encode_matters(&t->fields[fields - 1], at + t->fields[fields - 1].offset)) {
        fields--;
    }
    return encode_record(t, record, fields, w);
}

int proto_encoded_bytes(const struct proto_type *t, const void *record, size_t *ret)
{
    struct wire_writer w = wire_writer_over(NULL, 0);
    int rc = proto_encode(t, record, &w);
    if (rc == 0) {
        *ret = w.len;
    }
    return rc;
}
