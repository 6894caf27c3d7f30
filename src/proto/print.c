/* proto/print.c -- a record to bounded text, for logs and people. */
#include "proto/table.h"

#include "proto/table_priv.h"

#include <inttypes.h>

#define PRINT_LIST_MAX 8u
#define PRINT_BYTES_MAX 64u

struct print_level {
    const struct proto_type *type;
    size_t field;      /* the next one */
    const uint8_t *at; /* the record */
    size_t more;       /* records of the same list that follow it and are shown */
    size_t hidden;     /* and those that are not */
    bool begun;
    bool in_list;
};
struct print {
    struct print_level stack[PROTO_DEPTH_MAX];
    size_t depth;
    struct text *out;
};

static void print_push(struct print *p, struct print_level level)
{
    CHECK(p->depth < PROTO_DEPTH_MAX);
    level.field = level.type->field_count;
    p->stack[p->depth] = level;
    p->depth++;
}

static void print_next(struct print *p, struct print_level *l)
{
    if (l->begun) {
        text_add(p->out, "}");
    }
    if (l->more > 0) {
        l->at += l->begun ? l->type->size : 0;
        text_add(p->out, l->begun ? " {" : "{");
        l->begun = true;
        l->field = 0;
        l->more--;
        return;
    }
    if (l->hidden > 0) {
        text_add(p->out, " +%zu", l->hidden);
    }
    if (l->in_list) {
        text_add(p->out, "]");
    }
    p->depth--;
}

static void print_bytes(const struct proto_field *f, const struct proto_bytes *b, struct text *out)
{
    if (f->kind == PROTO_BYTES) {
        text_add(out, "<%zu bytes>", b->len);
        return;
    }
    text_add(out, "\"");
    text_add_bytes(out, b->at, base_min(b->len, PRINT_BYTES_MAX));
    text_add(out, b->len > PRINT_BYTES_MAX ? "...\"" : "\"");
}

static void print_u32s(const struct proto_u32s *v, struct text *out)
{
    text_add(out, "[");
    for (size_t i = 0; i < base_min(v->count, PRINT_LIST_MAX); i++) {
        text_add(out, i == 0 ? "%" PRIu32 : " %" PRIu32, v->at[i]);
    }
    if (v->count > PRINT_LIST_MAX) {
        text_add(out, " +%zu", v->count - PRINT_LIST_MAX);
    }
    text_add(out, "]");
}

static void print_u64s(const struct proto_u64s *v, struct text *out)
{
    text_add(out, "[");
    for (size_t i = 0; i < base_min(v->count, PRINT_LIST_MAX); i++) {
        text_add(out, i == 0 ? "%" PRIu64 : " %" PRIu64, v->at[i]);
    }
    if (v->count > PRINT_LIST_MAX) {
        text_add(out, " +%zu", v->count - PRINT_LIST_MAX);
    }
    text_add(out, "]");
}

static void print_list(struct print *p, const struct proto_field *f, const uint8_t *from)
{
    struct table_any_list list;
    memcpy(&list, from, sizeof list);
    size_t shown = base_min(list.count, PRINT_LIST_MAX);
    text_add(p->out, "[");
    print_push(p, (struct print_level){.type = f->type,
                                       .at = list.at,
                                       .more = shown,
                                       .hidden = list.count - shown,
                                       .in_list = true});
}

static void print_uuid(const uint8_t *from, struct text *out)
{
    struct uuid u;
    char text[UUID_TEXT_SIZE];
    memcpy(&u, from, sizeof u);
    uuid_to_text(&u, text);
    text_add(out, "%s", text);
}

static void print_field(struct print *p, const struct proto_field *f, const uint8_t *from)
{
    switch (f->kind) {
    case PROTO_U8:
        text_add(p->out, "%u", *from);
        break;
    case PROTO_U16:
        text_add(p->out, "%u", *(const uint16_t *)(const void *)from);
        break;
    case PROTO_U32:
        text_add(p->out, "%" PRIu32, *(const uint32_t *)(const void *)from);
        break;
    case PROTO_U64:
        text_add(p->out, "%" PRIu64, *(const uint64_t *)(const void *)from);
        break;
    case PROTO_I32:
        text_add(p->out, "%" PRId32, *(const int32_t *)(const void *)from);
        break;
    case PROTO_I64:
        text_add(p->out, "%" PRId64, *(const int64_t *)(const void *)from);
        break;
    case PROTO_BOOL:
        text_add(p->out, *(const bool *)(const void *)from ? "true" : "false");
        break;
    case PROTO_UUID:
        print_uuid(from, p->out);
        break;
    case PROTO_BYTES:
    case PROTO_TEXT:
    case PROTO_NAME:
        print_bytes(f, (const struct proto_bytes *)(const void *)from, p->out);
        break;
    case PROTO_STRUCT:
        print_push(p, (struct print_level){.type = f->type, .at = from, .more = 1});
        break;
    case PROTO_LIST:
        print_list(p, f, from);
        break;
    case PROTO_U32S:
        print_u32s((const struct proto_u32s *)(const void *)from, p->out);
        break;
    case PROTO_U64S:
        print_u64s((const struct proto_u64s *)(const void *)from, p->out);
        break;
    }
}

void proto_to_text(const struct proto_type *t, const void *record, struct text *out)
{
    struct print p = {.out = out};
    text_add(out, "%s", t->name);
    print_push(&p, (struct print_level){.type = t, .at = record, .more = 1});
    while (p.depth > 0 && !out->cut) {
        struct print_level *l = &p.stack[p.depth - 1];
        if (l->field == l->type->field_count) {
            print_next(&p, l);
        } else {
            const struct proto_field *f = &l->type->fields[l->field];
            text_add(out, l->field == 0 ? "%s=" : " %s=", f->name);
            l->field++;
            print_field(&p, f, l->at + f->offset);
        }
    }
}
