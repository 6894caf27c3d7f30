#include "proto/table.h"

#include "proto/table_priv.h"

int proto_check_bytes(const struct proto_field *f, const uint8_t *at, size_t len)
{
    if (len > f->max) {
        return -ERR_bad_length;
    }
    if (f->kind == PROTO_BYTES) {
        return 0;
    }
    if (f->kind == PROTO_NAME && len == 0) {
        return -ERR_bad_length;
    }
    if (len > 0 && memchr(at, 0, len) != NULL) {
        return -ERR_bad_value;
    }
    if (f->kind == PROTO_NAME && memchr(at, '/', len) != NULL) {
        return -ERR_bad_value;
    }
    return 0;
}

char *proto_bytes_to_c(struct proto_bytes from, char *out, size_t size)
{
    CHECK(size > 0);
    size_t len = base_min(from.len, size - 1);
    if (len > 0) {
        memcpy(out, from.at, len);
    }
    out[len] = 0;
    return out;
}

static bool field_is_sound(const struct proto_field *f)
{
    switch (f->kind) {
    case PROTO_U8:
    case PROTO_U16:
    case PROTO_U32:
    case PROTO_U64:
    case PROTO_I32:
    case PROTO_I64:
    case PROTO_BOOL:
    case PROTO_UUID:
        return f->max == 0 && f->type == NULL;
    case PROTO_BYTES:
    case PROTO_TEXT:
    case PROTO_NAME:
    case PROTO_U32S:
    case PROTO_U64S:
        return f->max > 0 && f->type == NULL;
    case PROTO_STRUCT:
        return f->max == 0 && f->type != NULL;
    case PROTO_LIST:
        return f->max > 0 && f->type != NULL && f->type->size > 0;
    }
    return false;
}

int proto_type_check(const struct proto_type *t)
{
    struct {
        const struct proto_type *type;
        size_t field;
    } stack[PROTO_DEPTH_MAX] = {{.type = t}};
    size_t depth = 1;
    while (depth > 0) {
        const struct proto_type *type = stack[depth - 1].type;
        size_t i = stack[depth - 1].field++;
        if (i == type->field_count) {
            depth--;
            continue;
        }
        const struct proto_field *f = &type->fields[i];
        if (!field_is_sound(f) || f->offset >= type->size) {
            return -EINVAL;
        }
        if (f->type != NULL) {
            if (depth == PROTO_DEPTH_MAX) {
                return -EINVAL;
            }
            stack[depth].type = f->type;
            stack[depth].field = 0;
            depth++;
        }
    }
    return 0;
}
