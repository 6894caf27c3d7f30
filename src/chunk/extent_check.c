/*
 * chunk/extent_check.c -- the `extent` engine, while it starts: reads the whole index, and compares
 * what its chunks are with what it says of all of them: counts, sums, which units are used.
 *
 * So an index of version 1 gets what a start of version 2 does without reading it, once; and so
 * `opendfs chunk verify` sees whether it is right (chunk_options.thorough).
 */
#include "chunk/extent_start_priv.h"

#include "base/env.h"
#include "base/log.h"
#include "wire/wire.h"

#include <string.h>

#define WORD 64u

struct chunk_checking {
    struct chunk_about counted;
    struct chunk_sums sums;
    uint64_t *used; /* a bit for each unit that a chunk has */
    size_t words;
    uint64_t slab;     /* the first one that was not compared yet */
    uint64_t unmarked; /* units of a chunk that their slab says are free */
    uint64_t lost;     /* units in use that no chunk has */
    bool open;         /* a chunk's parts come now */
    struct chunk_key key;
    struct chunk_head head;
    struct chunk_version *version[2]; /* committed, pending */
};

static void check_wrong(struct chunk_loading *l, const char *what, struct chunk_key key)
{
    l->x->wrong++;
    log_error(l->x->s->opt.env->log, "the index of a store contradicts itself",
              LOG_TEXT("what", what), LOG_U64("data", key.data_id), LOG_U64("index", key.index));
}

/* ---- Units ---- */

static void check_run(struct chunk_loading *l, struct chunk_run run)
{
    struct chunk_checking *c = l->checking;
    for (uint32_t i = 0; i < run.count; i++) {
        uint64_t unit = run.block + i, bit = UINT64_C(1) << unit % WORD;
        bool good = unit < l->x->units && (c->used[unit / WORD] & bit) == 0;
        if (!good) {
            check_wrong(l, "a unit is outside, or of two chunks", c->key);
            return;
        }
        c->used[unit / WORD] |= bit;
    }
    c->counted.units += run.count;
}

static void check_units(struct chunk_loading *l)
{
    struct chunk_checking *c = l->checking;
    const struct chunk_version *none[CHUNK_OTHERS] = {NULL};
    const struct chunk_version *base[CHUNK_OTHERS] = {c->version[0]};
    struct chunk_run run;
    for (uint32_t at = 0; chunk_run_next(c->version[0], none, &at, &run);) {
        check_run(l, run);
    }
    for (uint32_t at = 0; chunk_run_next(c->version[1], base, &at, &run);) {
        check_run(l, run);
    }
}

/* A word of a slab's bits, and what the chunks say. What a chunk has is nobody else's, whatever the
 * slab says. */
static int check_word(struct chunk_loading *l, uint64_t word, uint64_t bits)
{
    struct chunk_checking *c = l->checking;
    uint64_t used = word < c->words ? c->used[word] : 0;
    c->lost += (unsigned)__builtin_popcountll(bits & ~used);
    c->unmarked += (unsigned)__builtin_popcountll(used & ~bits);
    for (unsigned i = 0; (used & ~bits) != 0 && i < WORD; i++) {
        if (((used & ~bits) >> i & 1) != 0) {
            int rc = chunk_space_claim(l->x, word * WORD + i, 1);
            if (rc < 0) {
                return rc;
            }
        }
    }
    return 0;
}

static int check_slab(struct chunk_loading *l, uint64_t slab, const uint8_t *bits)
{
    const uint64_t words = CHUNK_SLAB_UNITS / WORD;
    int rc = 0;
    for (uint64_t i = 0; i < words && rc == 0; i++) {
        rc = check_word(l, slab * words + i, bits == NULL ? 0 : wire_load_u64(bits + i * 8));
    }
    return rc;
}

/* Those that have no record: all free. */
static int check_slabs_to(struct chunk_loading *l, uint64_t end)
{
    struct chunk_checking *c = l->checking;
    int rc = 0;
    for (; c->slab < end && rc == 0; c->slab++) {
        rc = check_slab(l, c->slab, NULL);
    }
    return rc;
}

/* ---- Chunks ---- */

static int check_close(struct chunk_loading *l)
{
    struct chunk_checking *c = l->checking;
    const struct chunk_head *h = &c->head;
    int rc = 0;
    if (!c->open) {
        return 0;
    }
    c->open = false;
    c->counted.chunks++;
    c->counted.damaged += h->damaged ? 1 : 0;
    c->counted.pending += h->has_pending ? 1 : 0;
    c->counted.known = base_max(c->counted.known, h->known);
    check_units(l);
    for (unsigned i = 0; i < 2; i++) {
        const struct chunk_version *v = c->version[i];
        if (v != NULL && chunk_digest(v->meta.length, v->crc) != v->meta.digest) {
            check_wrong(l, "cells of a chunk are missing", c->key);
        }
    }
    if (c->version[0] != NULL && h->chain != 0) {
        rc = chunk_sums_add(&c->sums, h->chain, chunk_sum_of(c->key, &c->version[0]->meta));
    }
    for (unsigned i = 0; i < 2; i++) {
        chunk_version_unref(c->version[i]);
        c->version[i] = NULL;
    }
    return rc;
}

static int check_head(struct chunk_loading *l, struct chunk_key key, struct kv_slice value)
{
    struct chunk_checking *c = l->checking;
    struct chunk_head *h = &c->head;
    memset(h, 0, sizeof *h);
    int rc = chunk_head_decode(value, h);
    if (rc < 0) {
        return rc;
    }
    c->key = key;
    c->open = true;
    c->version[0] = h->has_committed ? chunk_load_content(&h->committed) : NULL;
    c->version[1] = h->has_pending ? chunk_load_content(&h->pending) : NULL;
    bool lacks =
        (h->has_committed && c->version[0] == NULL) || (h->has_pending && c->version[1] == NULL);
    return lacks ? -ENOMEM : 0;
}

static int check_group(struct chunk_loading *l, struct chunk_key key, unsigned part,
                       struct kv_slice value)
{
    struct chunk_checking *c = l->checking;
    bool of_pending = part >= CHUNK_PART_PENDING;
    uint32_t at = (part - (of_pending ? CHUNK_PART_PENDING : CHUNK_PART_COMMITTED)) * CHUNK_GROUP;
    struct chunk_version *v = c->open ? c->version[of_pending ? 1 : 0] : NULL;
    uint32_t cells =
        v == NULL || chunk_content_is_small(v->meta.length) ? 0 : chunk_cells(v->meta.length);
    if (at >= cells || chunk_key_compare(key, c->key) != 0) {
        check_wrong(l, "cells of nothing", key); /* the next content of it writes over them */
        return 0;
    }
    return chunk_group_decode(value, (unsigned)base_min(cells - at, CHUNK_GROUP), v->crc + at,
                              v->block + at);
}

int chunk_check_record(struct chunk_loading *l, struct kv_slice key, struct kv_slice value)
{
    struct chunk_key chunk;
    uint64_t slab = 0;
    unsigned part = 0;
    if (chunk_key_part_decode(key, &chunk, &part) == 0) {
        int rc = part == CHUNK_PART_HEAD ? check_close(l) : 0;
        rc = rc < 0 ? rc : part == CHUNK_PART_HEAD ? check_head(l, chunk, value) : 0;
        return rc < 0 || part == CHUNK_PART_HEAD ? rc : check_group(l, chunk, part, value);
    }
    int rc = check_close(l);
    rc = rc < 0 ? rc : chunk_key_slab_decode(key, &slab);
    rc = rc < 0 ? rc : value.len == CHUNK_SLAB_UNITS / 8 ? 0 : -ERR_bad_length;
    rc = rc < 0 ? rc : check_slabs_to(l, slab);
    if (rc == 0) {
        l->checking->slab = slab + 1;
        rc = check_slab(l, slab, value.at);
    }
    return rc;
}

/* ---- Beginning and end ---- */

bool chunk_check_wanted(const struct chunk_loading *l)
{
    return l->told && (l->about.version < CHUNK_ABOUT_VERSION || l->x->s->opt.thorough);
}

int chunk_check_begin(struct chunk_loading *l)
{
    struct chunk_checking *c = mem_zalloc(sizeof *c);
    if (c == NULL) {
        return -ENOMEM;
    }
    l->checking = c;
    l->converting = l->about.version < CHUNK_ABOUT_VERSION;
    c->words = (size_t)(l->x->units / WORD + 1);
    c->used = mem_calloc(c->words, sizeof *c->used);
    return c->used == NULL ? -ENOMEM : 0;
}

static void check_compare(struct chunk_loading *l, const char *what, uint64_t have, uint64_t told)
{
    if (have != told) {
        l->x->wrong++;
        log_error(l->x->s->opt.env->log, "the index of a store counts wrongly",
                  LOG_TEXT("what", what), LOG_U64("counted", have), LOG_U64("told", told));
    }
}

int chunk_check_over(struct chunk_loading *l)
{
    struct chunk_checking *c = l->checking;
    struct chunk_store *s = l->x->s;
    int rc = check_close(l);
    rc = rc < 0 ? rc : check_slabs_to(l, l->x->units / CHUNK_SLAB_UNITS + 1);
    if (rc < 0) {
        return rc;
    }
    check_compare(l, "chunks", c->counted.chunks, l->about.chunks);
    check_compare(l, "damaged chunks", c->counted.damaged, l->about.damaged);
    check_compare(l, "pending contents", c->counted.pending, l->about.pending);
    check_compare(l, "units", c->counted.units, l->about.units);
    check_compare(l, "units in use that no chunk has", c->lost, 0);
    check_compare(l, "units of chunks that are said to be free", c->unmarked, 0);
    if (!l->converting) {
        return 0;
    }
    c->counted.version = l->about.version;
    l->about = c->counted;
    s->sums = c->sums;
    c->sums = (struct chunk_sums){0};
    return 0;
}

/* What a start needs, for the next one. Of an index that contradicts itself nothing is: then each
 * start reads all of it. */
int chunk_check_convert(struct chunk_loading *l)
{
    struct chunk_extent *x = l->x;
    struct chunk_index_key low = chunk_key_sum(0), about = chunk_key_about();
    struct chunk_about is = l->about;
    const uint8_t end = low.bytes[0] + 1;
    uint8_t bytes[CHUNK_ABOUT_BYTES];
    struct kv_batch b;
    uint32_t chain = 0;
    struct chunk_sum sum;
    if (l->told && (!l->converting || x->wrong > 0)) {
        return 0;
    }
    kv_batch_init(&b);
    is.version = CHUNK_ABOUT_VERSION;
    chunk_about_encode(&is, bytes);
    (void)kv_batch_put(&b, chunk_index_slice(&about), kv_slice_of(bytes, sizeof bytes));
    (void)kv_batch_delete_range(&b, chunk_index_slice(&low), kv_slice_of(&end, 1));
    for (uint64_t at = 0; chunk_sums_next(&x->s->sums, at, &chain, &sum);
         at = chain + UINT64_C(1)) {
        uint8_t one[CHUNK_SUM_BYTES];
        struct chunk_index_key k = chunk_key_sum(chain);
        chunk_sum_encode(&sum, one);
        (void)kv_batch_put(&b, chunk_index_slice(&k), kv_slice_of(one, sizeof one));
    }
    int rc = kv_commit(x->index, &b, kv_applied_index(x->index));
    kv_batch_fini(&b);
    x->checkpointed = false;
    return rc;
}

/* What the index says of chains, beside what was added up. */
void chunk_check_sums(struct chunk_loading *l)
{
    const struct chunk_checking *c = l->checking;
    uint32_t chain = 0;
    struct chunk_sum told, have;
    uint64_t sum = 0, count = 0, sum_told = 0, count_told = 0;
    if (c == NULL || l->converting) {
        return;
    }
    for (uint64_t at = 0; chunk_sums_next(&c->sums, at, &chain, &have); at = chain + UINT64_C(1)) {
        sum += (have.digest ^ have.mark) * (2 * (uint64_t)chain + 1);
        count += have.count;
    }
    for (uint64_t at = 0; chunk_sums_next(&l->x->s->sums, at, &chain, &told);
         at = chain + UINT64_C(1)) {
        sum_told += (told.digest ^ told.mark) * (2 * (uint64_t)chain + 1);
        count_told += told.count;
    }
    check_compare(l, "chunks of chains", count, count_told);
    check_compare(l, "digests of chains", sum, sum_told);
}

struct chunk_checking *chunk_check_free(struct chunk_checking *c)
{
    if (c != NULL) {
        chunk_version_unref(c->version[0]);
        chunk_version_unref(c->version[1]);
        chunk_sums_fini(&c->sums);
        mem_free(c->used);
        mem_free(c);
    }
    return NULL;
}
