/*
 * chunk/extent_format_test.c -- keys and values of the index, records of the journal: there and
 * back, cut anywhere, with anything in them; and deltas on random contents.
 */
#include "chunk/extent_format.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"
#include "wire/wire.h"

#include <string.h>

static const struct chunk_key some_key = {.data_id = UINT64_C(0x1122334455667788), .index = 77};

/* ---- Keys ---- */

TEST(keys_are_in_the_order_of_chunks_and_parts)
{
    const struct chunk_key at[] = {{1, 0}, {1, 255}, {1, 256}, {2, 0}, {UINT64_MAX, UINT32_MAX}};
    struct chunk_index_key last = chunk_key_about();
    for (size_t i = 0; i < ARRAY_COUNT(at); i++) {
        for (unsigned part = 0; part < CHUNK_PART_END; part++) {
            struct chunk_index_key k = chunk_key_part(at[i], part);
            CHECK_TRUE(kv_slice_compare(chunk_index_slice(&last), chunk_index_slice(&k)) < 0);
            struct chunk_key back;
            unsigned back_part = 0;
            CHECK_OK(chunk_key_part_decode(chunk_index_slice(&k), &back, &back_part));
            CHECK_EQ(chunk_key_compare(back, at[i]), 0);
            CHECK_EQ(back_part, part);
            last = k;
        }
    }
    uint64_t slab = 0;
    struct chunk_index_key k = chunk_key_slab(70000);
    CHECK_TRUE(kv_slice_compare(chunk_index_slice(&last), chunk_index_slice(&k)) < 0);
    CHECK_OK(chunk_key_slab_decode(chunk_index_slice(&k), &slab));
    CHECK_EQ(slab, 70000);
}

TEST(keys_of_another_kind_or_length_are_refused)
{
    struct chunk_key back;
    unsigned part = 0;
    uint32_t chain = 0;
    uint64_t slab = 0;
    struct chunk_index_key k = chunk_key_part(some_key, 3);
    struct chunk_index_key m = chunk_key_mark(CHUNK_MARK_CHAIN, 9, some_key);
    CHECK_OK(chunk_key_mark_decode(chunk_index_slice(&m), CHUNK_MARK_CHAIN, &chain, &back));
    CHECK_EQ(chain, 9);
    CHECK_EQ(chunk_key_compare(back, some_key), 0);
    CHECK_ERR(chunk_key_mark_decode(chunk_index_slice(&m), CHUNK_MARK_PENDING, &chain, &back),
              ERR_corrupt);
    CHECK_ERR(chunk_key_part_decode(chunk_index_slice(&m), &back, &part), ERR_corrupt);
    CHECK_ERR(chunk_key_slab_decode(chunk_index_slice(&k), &slab), ERR_corrupt);
    for (size_t len = 0; len < k.len; len++) {
        CHECK_ERR(chunk_key_part_decode(kv_slice_of(k.bytes, len), &back, &part), ERR_corrupt);
        CHECK_ERR(chunk_key_mark_decode(kv_slice_of(m.bytes, len), CHUNK_MARK_CHAIN, &chain, &back),
                  ERR_corrupt);
    }
    k.bytes[k.len - 1] = CHUNK_PART_END;
    CHECK_ERR(chunk_key_part_decode(chunk_index_slice(&k), &back, &part), ERR_corrupt);
    k = chunk_key_slab(CHUNK_UNITS_MAX / CHUNK_SLAB_UNITS);
    CHECK_ERR(chunk_key_slab_decode(chunk_index_slice(&k), &slab), ERR_corrupt);
}

TEST(about_comes_back)
{
    struct chunk_about a = {CHUNK_ABOUT_VERSION, 5, 6, 7, 8, 9}, back;
    uint8_t bytes[CHUNK_ABOUT_BYTES];
    chunk_about_encode(&a, bytes);
    CHECK_OK(chunk_about_decode(kv_slice_of(bytes, sizeof bytes), &back));
    CHECK_BYTES(&back, &a, sizeof a);
    for (size_t len = 0; len < sizeof bytes; len++) {
        CHECK_RC(chunk_about_decode(kv_slice_of(bytes, len), &back), ERR_bad_length);
    }
    bytes[0]++;
    CHECK_RC(chunk_about_decode(kv_slice_of(bytes, sizeof bytes), &back), ERR_bad_version);
    bytes[0] = 1; /* an older one, which does not end like this one, or was changed by this one */
    CHECK_OK(chunk_about_decode(kv_slice_of(bytes, sizeof bytes), &back));
    CHECK_OK(chunk_about_decode(kv_slice_of(bytes, CHUNK_ABOUT_KNOWN), &back));
    CHECK_EQ(back.version, 1);
    CHECK_EQ(back.units, 8);
    CHECK_EQ(back.known, 0);
}

TEST(sums_come_back)
{
    const struct chunk_sum sum = {.count = 3, .digest = UINT64_MAX - 4, .mark = 5};
    struct chunk_sum back;
    struct chunk_index_key k = chunk_key_sum(77);
    uint8_t bytes[CHUNK_SUM_BYTES];
    uint32_t chain = 0;
    chunk_sum_encode(&sum, bytes);
    CHECK_OK(chunk_sum_decode(kv_slice_of(bytes, sizeof bytes), &back));
    CHECK_BYTES(&back, &sum, sizeof sum);
    CHECK_RC(chunk_sum_decode(kv_slice_of(bytes, sizeof bytes - 1), &back), ERR_bad_length);
    CHECK_OK(chunk_key_sum_decode(chunk_index_slice(&k), &chain));
    CHECK_EQ(chain, 77);
    k.len--;
    CHECK_RC(chunk_key_sum_decode(chunk_index_slice(&k), &chain), ERR_bad_value);
}

/* ---- Random contents ---- */

struct sample {
    uint32_t crc[CHUNK_CELLS_MAX];
    uint64_t unit[CHUNK_CELLS_MAX];
    struct chunk_cells cells;
    struct chunk_recent recent[CHUNK_RECENT_MAX];
    unsigned recent_count;
};

static uint64_t random_unit(struct rand *rand)
{
    return rand_below(rand, 4) == 0 ? 0
                                    : 1 + rand_below(rand, CHUNK_UNITS_MAX - 2 * CHUNK_CELLS_MAX);
}

static void sample_cells(struct sample *x, struct rand *rand, uint32_t from, uint32_t to)
{
    uint64_t unit = random_unit(rand);
    for (uint32_t i = from; i < to; i++) {
        unit = rand_below(rand, 4) == 0 ? random_unit(rand) : unit == 0 ? 0 : unit + 1;
        x->unit[i] = unit;
        x->crc[i] = (uint32_t)rand_u64(rand);
    }
}

static void sample_recent(struct sample *x, struct rand *rand)
{
    for (unsigned i = 0; i < x->recent_count; i++) {
        x->recent[i] = (struct chunk_recent){.client = rand_u64(rand),
                                             .seq = rand_u64(rand),
                                             .ver = rand_u64(rand),
                                             .result = (uint32_t)rand_u64(rand),
                                             .time_ms = rand_u64(rand)};
    }
}

static void sample_new(struct sample *x, struct rand *rand, uint32_t length)
{
    x->cells = (struct chunk_cells){.length = length, .crc = x->crc, .unit = x->unit};
    x->recent_count = (unsigned)rand_below(rand, CHUNK_RECENT_MAX + 1);
    sample_cells(x, rand, 0, chunk_cells(length));
    sample_recent(x, rand);
}

/* What follows from `base`: cut or longer, some cells and some of the recent ones others. */
static void sample_next(struct sample *x, struct rand *rand, const struct sample *base)
{
    uint32_t length = (uint32_t)rand_below(rand, CHUNK_LENGTH_MAX + 1);
    length = rand_below(rand, 2) == 0 ? base->cells.length : length;
    x->cells = (struct chunk_cells){.length = length, .crc = x->crc, .unit = x->unit};
    chunk_cells_keep(&base->cells, &x->cells);
    for (uint64_t n = rand_below(rand, 4); n > 0 && length > 0; n--) {
        uint32_t from = (uint32_t)rand_below(rand, chunk_cells(length));
        uint32_t some = (uint32_t)rand_below(rand, 20);
        sample_cells(x, rand, from, (uint32_t)base_min(chunk_cells(length), from + some));
    }
    x->recent_count = (unsigned)rand_below(rand, CHUNK_RECENT_MAX + 1);
    sample_recent(x, rand);
    for (unsigned i = 0; i < x->recent_count && base->recent_count > 0; i++) {
        if (rand_below(rand, 3) > 0) {
            x->recent[i] = base->recent[rand_below(rand, base->recent_count)];
        }
    }
}

static struct chunk_meta sample_meta(const struct sample *x)
{
    return (struct chunk_meta){.identity = {3, 12},
                               .base = {2, 11},
                               .kind = CHUNK_WRITE,
                               .length = x->cells.length,
                               .digest = chunk_digest(x->cells.length, x->crc),
                               .tgen = 4,
                               .flags = CHUNK_DEDUPE_OVERFLOW,
                               .recent_count = x->recent_count};
}

/* ---- Values ---- */

static void content_of(struct chunk_content *c, const struct sample *x)
{
    c->meta = sample_meta(x);
    memcpy(c->recent, x->recent, sizeof c->recent);
    c->has_cells = chunk_content_is_small(x->cells.length);
    if (c->has_cells) {
        memcpy(c->crc, x->crc, sizeof c->crc);
        memcpy(c->unit, x->unit, sizeof c->unit);
    }
}

static void check_content(const struct chunk_content *c, const struct sample *x)
{
    struct chunk_meta m = sample_meta(x);
    size_t cells = c->has_cells ? chunk_cells(x->cells.length) : 0;
    CHECK_TRUE(chunk_identity_equal(c->meta.identity, m.identity));
    CHECK_TRUE(chunk_identity_equal(c->meta.base, m.base));
    CHECK_EQ(c->meta.length, m.length);
    CHECK_EQ(c->meta.digest, m.digest);
    CHECK_EQ(c->meta.tgen, m.tgen);
    CHECK_EQ(c->meta.flags, m.flags);
    CHECK_EQ(c->meta.recent_count, x->recent_count);
    for (unsigned i = 0; i < x->recent_count; i++) {
        CHECK_EQ(c->recent[i].client, x->recent[i].client);
        CHECK_EQ(c->recent[i].time_ms, x->recent[i].time_ms);
    }
    CHECK_EQ(c->has_cells, chunk_content_is_small(m.length));
    CHECK_BYTES(c->crc, x->crc, cells * sizeof *x->crc);
    CHECK_BYTES(c->unit, x->unit, cells * sizeof *x->unit);
}

TEST(heads_come_back)
{
    static struct sample one, two;
    static struct chunk_head head, back;
    static uint8_t bytes[CHUNK_HEAD_BYTES_MAX];
    struct rand rand;
    rand_seed(&rand, testing_seed());
    for (unsigned i = 0; i < 200; i++) {
        uint32_t most = i % 2 == 0 ? CHUNK_GROUP * CHUNK_CELL : CHUNK_LENGTH_MAX;
        sample_new(&one, &rand, (uint32_t)rand_below(&rand, most + 1));
        sample_next(&two, &rand, &one);
        head.chain = 7;
        head.last_ver = i;
        head.has_committed = i % 3 != 0;
        head.has_pending = i % 5 != 0 || !head.has_committed;
        head.damaged = i % 7 == 0;
        content_of(&head.committed, &one);
        content_of(&head.pending, &two);
        size_t len = chunk_head_encode(&head, bytes);
        CHECK_OK(chunk_head_decode(kv_slice_of(bytes, len), &back));
        CHECK_EQ(back.chain, 7);
        CHECK_EQ(back.last_ver, i);
        CHECK_EQ(back.damaged, head.damaged);
        CHECK_EQ(back.has_committed, head.has_committed);
        CHECK_EQ(back.has_pending, head.has_pending);
        if (head.has_committed) {
            check_content(&back.committed, &one);
        }
        if (head.has_pending) {
            check_content(&back.pending, &two);
        }
        for (size_t cut = 0; cut < len; cut += 1 + cut / 16) {
            CHECK_ERR(chunk_head_decode(kv_slice_of(bytes, cut), &back), ERR_corrupt);
        }
    }
}

TEST(a_number_that_was_given_is_kept_without_a_content)
{
    struct chunk_head head = {.chain = 1, .last_ver = 9};
    static struct chunk_head back;
    uint8_t bytes[CHUNK_HEAD_BYTES_MAX];
    size_t len = chunk_head_encode(&head, bytes);
    CHECK_OK(chunk_head_decode(kv_slice_of(bytes, len), &back));
    CHECK_EQ(back.last_ver, 9);
    CHECK_TRUE(!back.has_committed && !back.has_pending);
    head.last_ver = 0;
    len = chunk_head_encode(&head, bytes);
    CHECK_RC(chunk_head_decode(kv_slice_of(bytes, len), &back), ERR_bad_value);
}

/* Version 1 did not say how many units there are. */
TEST(older_heads_are_read)
{
    struct chunk_head head = {.chain = 1, .last_ver = 9, .known = 4, .units = 5};
    static struct chunk_head back;
    uint8_t bytes[CHUNK_HEAD_BYTES_MAX];
    size_t len = chunk_head_encode(&head, bytes);
    CHECK_OK(chunk_head_decode(kv_slice_of(bytes, len), &back));
    CHECK_EQ(back.units, 5);
    bytes[0] = 1;
    CHECK_OK(chunk_head_decode(kv_slice_of(bytes, len - 4), &back));
    CHECK_EQ(back.known, 4);
    CHECK_EQ(back.units, CHUNK_UNITS_UNKNOWN);
    bytes[0] = 3;
    CHECK_RC(chunk_head_decode(kv_slice_of(bytes, len), &back), ERR_bad_version);
}

TEST(groups_come_back)
{
    static struct sample x;
    uint8_t bytes[CHUNK_GROUP_BYTES_MAX];
    struct rand rand;
    rand_seed(&rand, testing_seed());
    for (unsigned i = 0; i < 500; i++) {
        unsigned cells = 1 + i % CHUNK_GROUP;
        uint32_t crc[CHUNK_GROUP];
        uint64_t unit[CHUNK_GROUP];
        sample_new(&x, &rand, cells * CHUNK_CELL);
        size_t len = chunk_group_encode(x.crc, x.unit, cells, bytes);
        CHECK_OK(chunk_group_decode(kv_slice_of(bytes, len), cells, crc, unit));
        CHECK_BYTES(crc, x.crc, cells * sizeof *crc);
        CHECK_BYTES(unit, x.unit, cells * sizeof *unit);
        for (size_t cut = 0; cut < len; cut++) {
            CHECK_ERR(chunk_group_decode(kv_slice_of(bytes, cut), cells, crc, unit), ERR_corrupt);
        }
        CHECK_ERR(chunk_group_decode(kv_slice_of(bytes, len), cells % CHUNK_GROUP + 1, crc, unit),
                  ERR_corrupt);
    }
}

/* ---- The journal ---- */

static struct chunk_delta_base base_of(const struct sample *x)
{
    return (struct chunk_delta_base){
        .cells = x->cells, .recent = x->recent, .recent_count = x->recent_count};
}

static void check_delta(const struct chunk_delta *d, const uint8_t *bytes, size_t len,
                        const struct sample *base, const struct sample *to)
{
    static struct sample back;
    static struct chunk_delta half, whole;
    struct chunk_delta_base from = base_of(base);
    CHECK_OK(chunk_delta_decode(CHUNK_JOURNAL_UPDATE, bytes, len, &half));
    CHECK_EQ(chunk_key_compare(half.key, d->key), 0);
    CHECK_EQ(half.install, d->install);
    CHECK_EQ(half.damaged, d->damaged);
    back.cells =
        (struct chunk_cells){.length = half.meta.length, .crc = back.crc, .unit = back.unit};
    CHECK_OK(chunk_delta_apply(bytes, len, &from, &whole, &back.cells));
    size_t cells = chunk_cells(to->cells.length);
    CHECK_BYTES(back.crc, to->crc, cells * sizeof *back.crc);
    CHECK_BYTES(back.unit, to->unit, cells * sizeof *back.unit);
    CHECK_EQ(whole.meta.recent_count, to->recent_count);
    for (unsigned i = 0; i < to->recent_count; i++) {
        CHECK_EQ(whole.recent[i].client, to->recent[i].client);
        CHECK_EQ(whole.recent[i].result, to->recent[i].result);
    }
    for (size_t cut = 0; cut < len; cut += 1 + cut / 16) {
        CHECK_ERR(chunk_delta_apply(bytes, cut, &from, &whole, &back.cells), ERR_corrupt);
    }
}

static struct chunk_delta delta_of(const struct sample *to)
{
    struct chunk_delta d = {.key = some_key, .chain = 5, .last_ver = 12, .meta = sample_meta(to)};
    memcpy(d.recent, to->recent, to->recent_count * sizeof *d.recent);
    return d;
}

TEST(deltas_lead_from_their_base_to_their_content)
{
    static struct sample base, to;
    struct rand rand;
    rand_seed(&rand, testing_seed());
    for (unsigned i = 0; i < 300; i++) {
        sample_new(&base, &rand, (uint32_t)rand_below(&rand, CHUNK_LENGTH_MAX + 1));
        sample_next(&to, &rand, &base);
        struct chunk_delta d = delta_of(&to);
        struct chunk_delta_base from = base_of(&base);
        uint8_t *bytes = NULL;
        size_t len = 0;
        d.install = i % 2 == 0;
        d.damaged = i % 3 == 0;
        CHECK_OK(chunk_delta_encode(CHUNK_JOURNAL_UPDATE, &d, &from, &to.cells, &bytes, &len));
        check_delta(&d, bytes, len, &base, &to);
        mem_free(bytes);
    }
}

/* Some cells of `to` are others than those of `base`, in places of their own; the bytes of them. */
static uint32_t sample_overwrite(struct sample *to, struct rand *rand, const struct sample *base)
{
    uint32_t cells = chunk_cells(base->cells.length), bytes = 0;
    uint32_t first = (uint32_t)rand_below(rand, cells);
    *to = *base;
    to->cells =
        (struct chunk_cells){.length = base->cells.length, .crc = to->crc, .unit = to->unit};
    for (uint32_t i = 0; i < CHUNK_CARRIED_MAX && first + i < cells; i++) {
        uint32_t cell = first + i;
        bool zeros = rand_below(rand, 3) == 0;
        to->crc[cell]++;
        to->unit[cell] = zeros ? 0 : 1 + (rand_u64(rand) & 0xffff) * 3;
        bytes += zeros ? 0 : chunk_cell_bytes(to->cells.length, cell);
    }
    return bytes;
}

static void check_carried(const struct chunk_delta *d, const uint8_t *bytes, size_t len,
                          const struct sample *base, const struct sample *to)
{
    static struct chunk_delta back;
    struct chunk_carried cell[CHUNK_CARRIED_MAX];
    size_t at = len - d->carried_bytes;
    int count = chunk_delta_carried(bytes, len, &back, cell);
    CHECK_TRUE(count > 0);
    CHECK_EQ(chunk_key_compare(back.key, d->key), 0);
    for (int i = 0; i < count; i++) {
        CHECK_EQ(cell[i].unit, to->unit[cell[i].cell]);
        CHECK_EQ(cell[i].crc, to->crc[cell[i].cell]);
        CHECK_TRUE(cell[i].crc != base->crc[cell[i].cell]);
        CHECK_EQ(cell[i].len, chunk_cell_bytes(to->cells.length, cell[i].cell));
        CHECK_TRUE(cell[i].bytes == bytes + at);
        at += cell[i].len;
    }
    CHECK_EQ(at, len);
    for (size_t cut = 0; cut < len; cut += 1 + cut / 64) {
        CHECK_ERR(chunk_delta_carried(bytes, cut, &back, cell), ERR_corrupt);
    }
}

/* The cells that an update writes may follow in its record. */
TEST(deltas_carry_cells)
{
    static struct sample base, to;
    static uint8_t record[65536];
    struct rand rand;
    unsigned carried = 0;
    rand_seed(&rand, testing_seed());
    for (unsigned i = 0; i < 200; i++) {
        sample_new(&base, &rand, 1 + (uint32_t)rand_below(&rand, CHUNK_LENGTH_MAX));
        uint32_t more = sample_overwrite(&to, &rand, &base);
        struct chunk_delta d = delta_of(&to);
        struct chunk_delta_base from = base_of(&base);
        uint8_t *bytes = NULL;
        size_t len = 0;
        d.carried_bytes = more;
        CHECK_OK(chunk_delta_encode(CHUNK_JOURNAL_UPDATE, &d, &from, &to.cells, &bytes, &len));
        CHECK_TRUE(len + more <= sizeof record);
        memcpy(record, bytes, len);
        memset(record + len, 7, more);
        check_delta(&d, record, len + more, &base, &to);
        if (more > 0) {
            check_carried(&d, record, len + more, &base, &to);
            carried++;
        }
        mem_free(bytes);
    }
    CHECK_TRUE(carried > 100);
}

/* How many bytes follow is said twice, and is not believed when both differ. */
TEST(a_delta_that_carries_something_else_is_refused)
{
    static struct sample base, to;
    static uint8_t record[65536];
    static struct chunk_delta back;
    static struct sample away;
    struct chunk_carried cell[CHUNK_CARRIED_MAX];
    struct rand rand;
    rand_seed(&rand, testing_seed());
    sample_new(&base, &rand, 40 * CHUNK_CELL);
    to = base;
    to.cells = (struct chunk_cells){.length = base.cells.length, .crc = to.crc, .unit = to.unit};
    to.crc[7]++;
    to.unit[7] = 99;
    struct chunk_delta d = delta_of(&to);
    struct chunk_delta_base from = base_of(&base);
    uint8_t *bytes = NULL;
    size_t len = 0;
    d.carried_bytes = CHUNK_CELL;
    CHECK_OK(chunk_delta_encode(CHUNK_JOURNAL_UPDATE, &d, &from, &to.cells, &bytes, &len));
    memcpy(record, bytes, len);
    away.cells =
        (struct chunk_cells){.length = to.cells.length, .crc = away.crc, .unit = away.unit};
    CHECK_EQ(chunk_delta_carried(record, len + CHUNK_CELL, &back, cell), 1);
    CHECK_RC(chunk_delta_carried(record, len + CHUNK_CELL + 1, &back, cell), ERR_bad_value);
    CHECK_RC(chunk_delta_carried(record, len, &back, cell), ERR_bad_value);
    CHECK_RC(chunk_delta_apply(record, len, &from, &back, &away.cells), ERR_bad_value);
    record[0]++; /* of a later version */
    CHECK_RC(chunk_delta_decode(CHUNK_JOURNAL_UPDATE, record, len + CHUNK_CELL, &back),
             ERR_bad_version);
    record[0]--;
    CHECK_RC(chunk_delta_decode(CHUNK_JOURNAL_CHANGE, record, len + CHUNK_CELL, &back),
             ERR_bad_version);
    mem_free(bytes);
}

TEST(a_delta_says_when_its_base_is_another)
{
    static struct sample base, to, other;
    static struct chunk_delta back;
    struct rand rand;
    rand_seed(&rand, testing_seed());
    sample_new(&base, &rand, 40 * CHUNK_CELL);
    to = base;
    to.cells = (struct chunk_cells){.length = base.cells.length, .crc = to.crc, .unit = to.unit};
    to.crc[7]++;
    struct chunk_delta d = delta_of(&to);
    struct chunk_delta_base from = base_of(&base);
    uint8_t *bytes = NULL;
    size_t len = 0;
    CHECK_OK(chunk_delta_encode(CHUNK_JOURNAL_UPDATE, &d, &from, &to.cells, &bytes, &len));
    base.crc[30]++;
    other.cells =
        (struct chunk_cells){.length = to.cells.length, .crc = other.crc, .unit = other.unit};
    CHECK_RC(chunk_delta_apply(bytes, len, &from, &back, &other.cells), ERR_bad_crc);
    mem_free(bytes);
}

/* What is journaled for each overwrite of 4 KiB somewhere in a large chunk. */
TEST(a_small_overwrite_is_a_small_record)
{
    static struct sample base, to;
    struct rand rand;
    rand_seed(&rand, testing_seed());
    sample_new(&base, &rand, CHUNK_LENGTH_MAX);
    to = base;
    to.cells = (struct chunk_cells){.length = base.cells.length, .crc = to.crc, .unit = to.unit};
    to.crc[500]++;
    to.unit[500] = 99;
    to.recent_count = base.recent_count = 8;
    to.recent[3].seq++;
    struct chunk_delta d = delta_of(&to);
    struct chunk_delta_base from = base_of(&base);
    uint8_t *bytes = NULL;
    size_t len = 0;
    CHECK_OK(chunk_delta_encode(CHUNK_JOURNAL_UPDATE, &d, &from, &to.cells, &bytes, &len));
    CHECK_TRUE(len <= 150);
    mem_free(bytes);
}

TEST(changes_and_lists_come_back)
{
    struct chunk_delta d = {.key = some_key, .chain = 3, .last_ver = 8, .drops = true, .flags = 4};
    struct chunk_delta_base none = {0};
    static struct chunk_delta back;
    uint8_t *bytes = NULL;
    size_t len = 0;
    CHECK_OK(chunk_delta_encode(CHUNK_JOURNAL_CHANGE, &d, &none, NULL, &bytes, &len));
    CHECK_OK(chunk_delta_decode(CHUNK_JOURNAL_CHANGE, bytes, len, &back));
    CHECK_TRUE(back.drops && back.flags == 4 && back.last_ver == 8 && back.chain == 3);
    for (size_t cut = 0; cut < len; cut++) {
        CHECK_ERR(chunk_delta_decode(CHUNK_JOURNAL_CHANGE, bytes, cut, &back), ERR_corrupt);
    }
    mem_free(bytes);
    static struct chunk_listed item[CHUNK_LIST_MAX], item_back[CHUNK_LIST_MAX];
    static uint8_t list[CHUNK_LIST_BYTES_MAX];
    for (size_t i = 0; i < CHUNK_LIST_MAX; i++) {
        item[i] = (struct chunk_listed){.key = {i, (uint32_t)i}, .identity = {1, i}};
    }
    size_t count = 0;
    len = chunk_list_encode(CHUNK_JOURNAL_COMMIT, item, CHUNK_LIST_MAX, list);
    CHECK_EQ(len, CHUNK_LIST_BYTES_MAX);
    CHECK_OK(chunk_list_decode(CHUNK_JOURNAL_COMMIT, list, len, item_back, &count));
    CHECK_EQ(count, CHUNK_LIST_MAX);
    CHECK_EQ(item_back[77].identity.ver, 77);
    len = chunk_list_encode(CHUNK_JOURNAL_DELETE, item, 3, list);
    CHECK_OK(chunk_list_decode(CHUNK_JOURNAL_DELETE, list, len, item_back, &count));
    CHECK_EQ(count, 3);
    for (size_t cut = 0; cut < len; cut++) {
        CHECK_ERR(chunk_list_decode(CHUNK_JOURNAL_DELETE, list, cut, item_back, &count),
                  ERR_corrupt);
    }
}
