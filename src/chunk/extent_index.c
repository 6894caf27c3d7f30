/*
 * chunk/extent_index.c -- the `extent` engine: what is told to the index of one chunk, as what
 * differs from what it was told before. Pure but for memory.
 */
#include "chunk/extent_index_priv.h"

#include <string.h>

#define SLAB_BYTES (CHUNK_SLAB_UNITS / 8)

/* ---- Units in use ---- */

/* Changes of one slab's bits, each 64 of them a field. */
struct slab_change {
    struct kv_batch *b;
    uint64_t slab, units; /* units: in use, more or fewer (two's complement) */
    struct kv_field field[KV_FIELDS_MAX];
    size_t count;
};

static void slab_flush(struct slab_change *c)
{
    if (c->count > 0) {
        struct chunk_index_key key = chunk_key_slab(c->slab);
        (void)kv_batch_upsert(c->b, chunk_index_slice(&key), SLAB_BYTES, c->field, c->count);
    }
    c->count = 0;
}

static void slab_set(struct slab_change *c, uint64_t unit, bool used)
{
    uint64_t slab = unit / CHUNK_SLAB_UNITS, bit = UINT64_C(1) << (unit % 64);
    uint16_t offset = (uint16_t)(unit % CHUNK_SLAB_UNITS / 64 * 8);
    struct kv_field *last = c->count > 0 ? &c->field[c->count - 1] : NULL;
    bool same = last != NULL && c->slab == slab && last->offset == offset;
    if (!same && (c->count == KV_FIELDS_MAX || (last != NULL && c->slab != slab))) {
        slab_flush(c);
    }
    if (!same) {
        c->slab = slab;
        last = &c->field[c->count++];
        *last = (struct kv_field){.offset = offset, .op = KV_FIELD_ADD};
    }
    last->operand += used ? bit : -bit;
    c->units += used ? 1u : UINT64_MAX;
}

static void slab_set_run(struct slab_change *c, struct chunk_run run, bool used)
{
    for (uint32_t i = 0; i < run.count; i++) {
        slab_set(c, run.block + i, used);
    }
}

/* What `a` and `b` have, and `c` and `d` have not. */
static void slab_compare(struct slab_change *out, const struct chunk_version *a,
                         const struct chunk_version *b, const struct chunk_version *c,
                         const struct chunk_version *d, bool used)
{
    const struct chunk_version *others[CHUNK_OTHERS] = {c, d};
    struct chunk_run run;
    for (uint32_t at = 0; chunk_run_next(a, others, &at, &run);) {
        slab_set_run(out, run, used);
    }
    others[2] = a;
    for (uint32_t at = 0; chunk_run_next(b, others, &at, &run);) {
        slab_set_run(out, run, used);
    }
    slab_flush(out);
}

static uint64_t index_units(struct kv_batch *b, const struct chunk_indexed *had,
                            const struct chunk_state *st)
{
    struct slab_change c = {.b = b};
    if (had->committed == st->committed && had->pending == st->pending) {
        return 0;
    }
    slab_compare(&c, st->committed, st->pending, had->committed, had->pending, true);
    slab_compare(&c, had->committed, had->pending, st->committed, st->pending, false);
    return c.units;
}

/* ---- Cells of large contents ---- */

static unsigned group_count(const struct chunk_version *v)
{
    return v == NULL || chunk_content_is_small(v->meta.length)
               ? 0
               : (chunk_cells(v->meta.length) + CHUNK_GROUP - 1) / CHUNK_GROUP;
}

static unsigned group_cells(const struct chunk_version *v, unsigned group)
{
    return (unsigned)base_min(chunk_cells(v->meta.length) - group * CHUNK_GROUP, CHUNK_GROUP);
}

static bool group_same(const struct chunk_version *a, const struct chunk_version *b, unsigned group)
{
    unsigned cells = group_cells(b, group), at = group * CHUNK_GROUP;
    return group < group_count(a) && group_cells(a, group) == cells &&
           memcmp(a->crc + at, b->crc + at, cells * sizeof *a->crc) == 0 &&
           memcmp(a->block + at, b->block + at, cells * sizeof *a->block) == 0;
}

static void index_groups(struct kv_batch *b, struct chunk_key key, unsigned first,
                         const struct chunk_version *had, const struct chunk_version *v)
{
    unsigned count = group_count(v);
    for (unsigned g = 0; g < count && had != v; g++) {
        if (!group_same(had, v, g)) {
            uint8_t bytes[CHUNK_GROUP_BYTES_MAX];
            struct chunk_index_key k = chunk_key_part(key, first + g);
            size_t len =
                chunk_group_encode(v->crc + (size_t)g * CHUNK_GROUP,
                                   v->block + (size_t)g * CHUNK_GROUP, group_cells(v, g), bytes);
            (void)kv_batch_put(b, chunk_index_slice(&k), kv_slice_of(bytes, len));
        }
    }
    for (unsigned g = count; g < group_count(had); g++) {
        struct chunk_index_key k = chunk_key_part(key, first + g);
        (void)kv_batch_delete(b, chunk_index_slice(&k));
    }
}

/* ---- Head ---- */

static void content_of(const struct chunk_version *v, struct chunk_content *c)
{
    c->meta = v->meta;
    memcpy(c->recent, v->recent, v->meta.recent_count * sizeof *v->recent);
    c->has_cells = chunk_content_is_small(v->meta.length);
    uint32_t cells = c->has_cells ? chunk_cells(v->meta.length) : 0;
    memcpy(c->crc, v->crc, cells * sizeof *c->crc);
    memcpy(c->unit, v->block, cells * sizeof *c->unit);
}

static uint32_t head_units(const struct chunk_state *st)
{
    uint32_t units = st->committed == NULL ? 0 : chunk_version_own(st->committed, NULL);
    return units + (st->pending == NULL ? 0 : chunk_version_own(st->pending, st->committed));
}

static void index_head(struct kv_batch *b, const struct chunk_shot *shot)
{
    const struct chunk_state *st = &shot->state;
    uint8_t bytes[CHUNK_HEAD_BYTES_MAX];
    struct chunk_head h = {.chain = st->chain,
                           .units = head_units(st),
                           .last_ver = st->last_ver,
                           .known = shot->known,
                           .damaged = st->damaged,
                           .has_committed = st->committed != NULL,
                           .has_pending = st->pending != NULL};
    if (h.has_committed) {
        content_of(st->committed, &h.committed);
    }
    if (h.has_pending) {
        content_of(st->pending, &h.pending);
    }
    struct chunk_index_key k = chunk_key_part(shot->e->item.key, CHUNK_PART_HEAD);
    (void)kv_batch_put(b, chunk_index_slice(&k), kv_slice_of(bytes, chunk_head_encode(&h, bytes)));
}

/* ---- Marks, and about the whole ---- */

static void index_mark(struct kv_batch *b, enum chunk_mark mark, uint32_t chain,
                       struct chunk_key key, bool is)
{
    struct chunk_index_key k = chunk_key_mark(mark, chain, key);
    (void)(is ? kv_batch_put(b, chunk_index_slice(&k), kv_slice_of("", 0))
              : kv_batch_delete(b, chunk_index_slice(&k)));
}

/* Marks begin with the chain, so that they move when it changes. */
static void index_marks(struct kv_batch *b, const struct chunk_shot *shot)
{
    const struct chunk_indexed *had = &shot->e->indexed;
    const struct chunk_state *st = &shot->state;
    const bool was[3] = {had->exists && had->pending != NULL, had->exists && had->damaged,
                         had->exists};
    const bool is[3] = {shot->exists && st->pending != NULL, shot->exists && st->damaged,
                        shot->exists};
    static const enum chunk_mark mark[3] = {CHUNK_MARK_PENDING, CHUNK_MARK_DAMAGED,
                                            CHUNK_MARK_CHAIN};
    bool moved = had->chain != st->chain;
    for (unsigned i = 0; i < 3; i++) {
        if (was[i] && (!is[i] || moved)) {
            index_mark(b, mark[i], had->chain, shot->e->item.key, false);
        }
        if (is[i] && (!was[i] || moved)) {
            index_mark(b, mark[i], st->chain, shot->e->item.key, true);
        }
    }
}

static void index_about(struct kv_batch *b, const struct chunk_shot *shot, uint64_t units)
{
    const struct chunk_indexed *had = &shot->e->indexed;
    const struct chunk_state *st = &shot->state;
    const uint64_t change[4] = {(uint64_t)shot->exists - had->exists,
                                (uint64_t)(shot->exists && st->damaged) -
                                    (had->exists && had->damaged),
                                (uint64_t)(st->pending != NULL) - (had->pending != NULL), units};
    struct kv_field field[5] = {
        {.offset = CHUNK_ABOUT_KNOWN, .op = KV_FIELD_MAX, .operand = shot->known}};
    size_t count = 1;
    for (uint16_t i = 0; i < 4; i++) {
        if (change[i] != 0) {
            field[count++] = (struct kv_field){
                .offset = (uint16_t)(8 + 8 * i), .op = KV_FIELD_ADD, .operand = change[i]};
        }
    }
    struct chunk_index_key k = chunk_key_about();
    (void)kv_batch_upsert(b, chunk_index_slice(&k), CHUNK_ABOUT_BYTES, field, count);
}

static void index_sum(struct kv_batch *b, uint32_t chain, const struct chunk_sum *x)
{
    const struct kv_field field[3] = {{.offset = 0, .op = KV_FIELD_ADD, .operand = x->count},
                                      {.offset = 8, .op = KV_FIELD_ADD, .operand = x->digest},
                                      {.offset = 16, .op = KV_FIELD_ADD, .operand = x->mark}};
    struct chunk_index_key k = chunk_key_sum(chain);
    if (chain != 0 && (x->count != 0 || x->digest != 0 || x->mark != 0)) {
        (void)kv_batch_upsert(b, chunk_index_slice(&k), CHUNK_SUM_BYTES, field, 3);
    }
}

/* What it was leaves the sum of its chain, what it is comes into that of its own. */
static void index_sums(struct kv_batch *b, const struct chunk_shot *shot)
{
    const struct chunk_indexed *had = &shot->e->indexed;
    const struct chunk_state *st = &shot->state;
    struct chunk_key key = shot->e->item.key;
    const struct chunk_sum none = {0};
    struct chunk_sum old = had->committed == NULL ? none : chunk_sum_of(key, &had->committed->meta);
    struct chunk_sum new = st->committed == NULL ? none : chunk_sum_of(key, &st->committed->meta);
    struct chunk_sum less = none;
    chunk_sum_take(&less, &old);
    if (had->chain == st->chain) {
        chunk_sum_add(&less, &new);
    } else {
        index_sum(b, st->chain, &new);
    }
    index_sum(b, had->chain, &less);
}

/* ---- Shots ---- */

void chunk_index_shot(struct kv_batch *b, const struct chunk_shot *shot)
{
    const struct chunk_indexed *had = &shot->e->indexed;
    struct chunk_key key = shot->e->item.key;
    if (!shot->exists && !had->exists) {
        return;
    }
    index_groups(b, key, CHUNK_PART_COMMITTED, had->committed, shot->state.committed);
    index_groups(b, key, CHUNK_PART_PENDING, had->pending, shot->state.pending);
    if (shot->exists) {
        index_head(b, shot);
    } else {
        struct chunk_index_key k = chunk_key_part(key, CHUNK_PART_HEAD);
        (void)kv_batch_delete(b, chunk_index_slice(&k));
    }
    index_marks(b, shot);
    index_sums(b, shot);
    index_about(b, shot, index_units(b, had, &shot->state));
}

void chunk_index_shot_done(struct chunk_shot *shot)
{
    struct chunk_indexed *had = &shot->e->indexed;
    chunk_version_unref(had->committed);
    chunk_version_unref(had->pending);
    *had = (struct chunk_indexed){.committed = shot->state.committed,
                                  .pending = shot->state.pending,
                                  .chain = shot->state.chain,
                                  .exists = shot->exists,
                                  .damaged = shot->exists && shot->state.damaged};
    shot->state.committed = shot->state.pending = NULL;
}

void chunk_shot_fini(struct chunk_shot *shot)
{
    chunk_version_unref(shot->state.committed);
    chunk_version_unref(shot->state.pending);
    shot->state.committed = shot->state.pending = NULL;
}
