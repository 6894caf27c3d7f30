#include "proto/sample.h"

#include "proto/table_priv.h"

struct sample_level {
    const struct proto_type *type;
    size_t field; /* the next one */
    uint8_t *at;  /* the record */
    size_t more;  /* records of the same list that follow it */
};
struct sample {
    struct sample_level stack[PROTO_DEPTH_MAX];
    size_t depth;
    struct rand *rand;
    struct mem_arena *arena;
    size_t max_count;
};

static void sample_push(struct sample *s, const struct proto_type *t, void *at, size_t count)
{
    CHECK(s->depth < PROTO_DEPTH_MAX && count > 0);
    s->stack[s->depth] = (struct sample_level){.type = t, .at = at, .more = count - 1};
    s->depth++;
}

static int sample_bytes(struct sample *s, const struct proto_field *f, uint8_t *to)
{
    size_t len = rand_below(s->rand, base_min(f->max, 4 * s->max_count) + 1);
    len = len == 0 && f->kind == PROTO_NAME ? 1 : len;
    uint8_t *at = mem_arena_alloc(s->arena, len + 1);
    if (at == NULL) {
        return -ENOMEM;
    }
    rand_bytes(s->rand, at, len);
    for (size_t i = 0; i < len && f->kind != PROTO_BYTES; i++) {
        at[i] = at[i] == 0 || at[i] == '/' ? 'x' : at[i];
    }
    struct proto_bytes b = {.at = at, .len = len};
    memcpy(to, &b, sizeof b);
    return 0;
}

static int sample_list(struct sample *s, const struct proto_field *f, uint8_t *to)
{
    struct table_any_list list = {.count = rand_below(s->rand, base_min(f->max, s->max_count) + 1)};
    size_t size = f->kind == PROTO_LIST   ? f->type->size
                  : f->kind == PROTO_U32S ? sizeof(uint32_t)
                                          : sizeof(uint64_t);
    if (list.count > 0) {
        list.at = mem_arena_alloc(s->arena, list.count * size);
        if (list.at == NULL) {
            return -ENOMEM;
        }
        rand_bytes(s->rand, list.at, list.count * size);
    }
    memcpy(to, &list, sizeof list);
    if (list.count > 0 && f->kind == PROTO_LIST) {
        sample_push(s, f->type, list.at, list.count);
    }
    return 0;
}

static int sample_field(struct sample *s, const struct proto_field *f, uint8_t *to)
{
    switch (f->kind) {
    case PROTO_U8:
        rand_bytes(s->rand, to, 1);
        return 0;
    case PROTO_U16:
        rand_bytes(s->rand, to, 2);
        return 0;
    case PROTO_U32:
    case PROTO_I32:
        rand_bytes(s->rand, to, 4);
        return 0;
    case PROTO_U64:
    case PROTO_I64:
        rand_bytes(s->rand, to, 8);
        return 0;
    case PROTO_BOOL: {
        bool v = rand_chance(s->rand, 1, 2);
        memcpy(to, &v, sizeof v);
        return 0;
    }
    case PROTO_UUID:
        rand_bytes(s->rand, to, sizeof(struct uuid));
        return 0;
    case PROTO_BYTES:
    case PROTO_TEXT:
    case PROTO_NAME:
        return sample_bytes(s, f, to);
    case PROTO_STRUCT:
        sample_push(s, f->type, to, 1);
        return 0;
    case PROTO_LIST:
    case PROTO_U32S:
    case PROTO_U64S:
        return sample_list(s, f, to);
    }
    return -EINVAL;
}

int proto_sample(const struct proto_type *t, struct rand *r, size_t max_count, struct mem_arena *a,
                 void *record)
{
    struct sample s = {.rand = r, .arena = a, .max_count = max_count};
    memset(record, 0, t->size);
    sample_push(&s, t, record, 1);
    int rc = 0;
    while (s.depth > 0 && rc == 0) {
        struct sample_level *l = &s.stack[s.depth - 1];
        if (l->field < l->type->field_count) {
            const struct proto_field *f = &l->type->fields[l->field++];
            rc = sample_field(&s, f, l->at + f->offset);
        } else if (l->more > 0) {
            l->at += l->type->size;
            l->field = 0;
            l->more--;
        } else {
            s.depth--;
        }
    }
    return rc;
}
