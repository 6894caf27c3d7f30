/* tree/keep_test.c -- what was kept of a memtable answers as it did, on a simulated disk. */
#include "tree/memtable_priv.h"

#include "testing/machine.h"
#include "testing/testing.h"
#include "tree/rig_commit_priv.h"
#include "tree/rig_keys_priv.h"
#include "tree/rig_trouble_priv.h"
#include "wire/wire.h"

#define KEYS 400u

static const struct tree_shape shape = TREE_SHAPE_DEFAULT;

struct rig {
    struct rig_write *w;
    struct tree_snapshots *snapshots;
    struct tree_memtable *memtable, *loaded;
    struct tree_keep keep;
    struct kv_slice from;
    struct rand rand;
    uint64_t msn;
};

static void rig_freep(struct rig *r)
{
    tree_memtable_unref(r->memtable);
    tree_memtable_unref(r->loaded);
    tree_snapshots_free(r->snapshots);
    rig_write_free(r->w);
}

static int memtable_new(uint64_t base_msn, struct tree_memtable **ret)
{
    struct tree_memtable_options mo = {.base_msn = base_msn, .block_bytes = 4096};
    return tree_memtable_new(&mo, ret);
}

static void rig_init(struct rig *r, uint64_t seed)
{
    struct tree_snapshots_options so = {
        .count_max = 16, .budget_bytes = UINT64_MAX, .published = 5};
    *r = (struct rig){.msn = 5};
    rand_seed(&r->rand, seed);
    CHECK_OK(tree_snapshots_new(&so, &r->snapshots));
    CHECK_OK(memtable_new(r->msn, &r->memtable));
    r->w = rig_write_new(seed, &shape);
}

/* ---- a memtable with a bit of everything ---- */

static void commit_batch(struct rig *r, struct kv_batch *b)
{
    struct tree_superseded superseded;
    CHECK_OK(tree_memtable_apply(r->memtable, b, r->msn + 1, tree_snapshots_look(r->snapshots),
                                 &superseded));
    r->msn += b->count;
    tree_snapshots_publish(r->snapshots, r->msn, &superseded);
    kv_batch_clear(b);
}

static void random_change(struct rig *r, struct kv_batch *b, uint32_t range_in)
{
    uint8_t k1[RIG_KEY_SIZE], k2[RIG_KEY_SIZE], value[300];
    struct kv_slice key = rig_hard_key((uint32_t)rand_below(&r->rand, KEYS), k1);
    struct kv_slice other = rig_hard_key((uint32_t)rand_below(&r->rand, KEYS), k2);
    uint64_t what = rand_below(&r->rand, 10);
    struct kv_field f = {.offset = (uint16_t)(8 * rand_below(&r->rand, 3)),
                         .op = rand_below(&r->rand, 2) == 0 ? KV_FIELD_ADD : KV_FIELD_MAX,
                         .operand = rand_below(&r->rand, 1000)};
    memset(value, (int)what, sizeof value);
    if (rand_below(&r->rand, range_in) == 0) {
        bool swap = kv_slice_compare(key, other) > 0;
        CHECK_OK(kv_batch_delete_range(b, swap ? other : key, swap ? key : other));
    } else if (what < 4) {
        CHECK_OK(kv_batch_put(b, key, kv_slice_of(value, rand_below(&r->rand, sizeof value))));
    } else if (what < 5) {
        CHECK_OK(kv_batch_delete(b, key));
    } else {
        CHECK_OK(kv_batch_upsert(b, key, 32, &f, 1));
    }
}

static void fill(struct rig *r, unsigned batches, uint32_t range_in)
{
    struct kv_batch b = {0};
    for (unsigned i = 0; i < batches; i++) {
        for (uint64_t n = rand_range(&r->rand, 1, 20); n > 0; n--) {
            random_change(r, &b, range_in);
        }
        commit_batch(r, &b);
    }
    kv_batch_fini(&b);
    tree_memtable_freeze(r->memtable);
}

/* ---- the same answers ---- */

static void same_message(const struct tree_message *a, const struct tree_message *b)
{
    CHECK_EQ(a->type, b->type);
    CHECK_EQ(a->msn, b->msn);
    CHECK_EQ(a->body.len, b->body.len);
    CHECK_TRUE(a->body.len == 0 || memcmp(a->body.at, b->body.at, a->body.len) == 0);
}

static void same_place(struct tree_source *a, struct tree_source *b)
{
    CHECK_EQ(kv_slice_compare(a->key, b->key), 0);
    same_message(&a->message, &b->message);
}

/* Both ways; returns how many messages. */
static size_t same_walk(struct tree_source *a, struct tree_source *b, struct kv_slice from)
{
    size_t count = 0, keys = 0, back = 0;
    int more = a->ops->seek(a, from);
    CHECK_EQ(b->ops->seek(b, from), more);
    for (; more == 1; more = a->ops->next(a), CHECK_EQ(b->ops->next(b), more)) {
        int older = 1;
        for (; older == 1; older = a->ops->older(a), CHECK_EQ(b->ops->older(b), older)) {
            same_place(a, b);
            count++;
        }
        keys++;
    }
    more = a->ops->seek_back(a, kv_slice_of(NULL, 0));
    CHECK_EQ(b->ops->seek_back(b, kv_slice_of(NULL, 0)), keys > 0 ? 1 : 0);
    while (more == 1 && kv_slice_compare(a->key, from) >= 0) {
        same_place(a, b);
        back++;
        more = a->ops->prev(a);
        int other = b->ops->prev(b);
        CHECK_TRUE(other == more || kv_slice_compare(a->key, from) < 0);
    }
    CHECK_EQ(back, keys);
    return count;
}

static void same_gets(const struct rig *r, uint64_t limit)
{
    for (uint32_t k = 0; k < KEYS + 20; k++) {
        uint8_t buf[RIG_KEY_SIZE];
        struct tree_memtable_found a, b;
        struct kv_slice key = rig_hard_key(k, buf);
        if (kv_slice_compare(key, r->from) < 0) {
            continue;
        }
        tree_memtable_get(r->memtable, key, limit, &a);
        tree_memtable_get(r->loaded, key, limit, &b);
        same_message(&a.message, &b.message);
        CHECK_EQ(a.range_msn, b.range_msn);
        CHECK_EQ(a.more, b.more);
    }
}

static size_t same_ranges(const struct rig *r, uint64_t limit)
{
    size_t count = 0;
    struct kv_slice at = r->from;
    for (;; count++) {
        struct tree_range a, b;
        bool more = tree_memtable_range(r->memtable, limit, at, &a);
        CHECK_EQ(tree_memtable_range(r->loaded, limit, at, &b), more);
        if (!more) {
            return count;
        }
        struct kv_slice low = kv_slice_compare(a.low, r->from) < 0 ? r->from : a.low;
        CHECK_EQ(a.msn, b.msn);
        CHECK_EQ(kv_slice_compare(low, b.low), 0);
        CHECK_EQ(kv_slice_compare(a.high, b.high), 0);
        at = a.high;
    }
}

static size_t same(const struct rig *r)
{
    const uint64_t limits[] = {r->msn, r->msn + 1, UINT64_MAX};
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_COUNT(limits); i++) {
        struct tree_memtable_cursor a, b;
        tree_memtable_cursor_init(&a, r->memtable, limits[i]);
        tree_memtable_cursor_init(&b, r->loaded, limits[i]);
        count = same_walk(&a.base, &b.base, r->from);
        same_gets(r, limits[i]);
        count += same_ranges(r, limits[i]);
    }
    return count;
}

/* ---- keeping and loading ---- */

static struct rig *rig_of(void *ctx)
{
    return ctx;
}

static bool is_over(void *ctx)
{
    return rig_of(ctx)->w->over;
}

static void keep_done(struct tree_keep *k, int rc)
{
    rig_over(container_of(k, struct rig, keep)->w, rc);
}

static void keep_in(void *ctx)
{
    struct rig *r = ctx;
    tree_writer_keep(r->w->writer, &r->keep);
}

static int keep(struct rig *r, size_t piece_bytes, uint64_t birth)
{
    r->keep = (struct tree_keep){.done = keep_done,
                                 .memtable = r->memtable,
                                 .from = r->from,
                                 .birth = birth,
                                 .memtable_number = 77,
                                 .piece_bytes = piece_bytes};
    r->w->over = false;
    loop_sim_enter(r->w->machine.loop, keep_in, r);
    CHECK_TRUE(!r->w->over);
    CHECK_TRUE(testing_machine_until(&r->w->machine, is_over, r, 60000));
    CHECK_TRUE(!tree_writer_busy(r->w->writer));
    return r->w->rc;
}

static uint64_t cache_used(const struct rig *r)
{
    struct tree_cache_info info;
    tree_cache_info(r->w->cache, &info);
    return info.used;
}

/* A checkpoint that names the pieces, and a new process. */
static void commit_and_reopen(struct rig *r)
{
    r->w->commit.piece = r->keep.piece;
    r->w->commit.piece_count = r->keep.piece_count;
    CHECK_OK(rig_wait(r->w, rig_commit_in));
    rig_reopen(r->w, true);
}

static void load_in(void *ctx)
{
    struct rig *r = ctx;
    r->w->rc = tree_keep_load(r->w->file, r->w->shape.file_id, r->w->found.piece,
                              r->w->found.piece_count, r->loaded, &r->w->err);
}

static int load(struct rig *r)
{
    r->loaded = tree_memtable_unref(r->loaded);
    CHECK_OK(memtable_new(5, &r->loaded));
    r->w->err = (struct err){0};
    loop_sim_enter(r->w->machine.loop, load_in, r);
    return r->w->rc;
}

static void check_round_trip(uint64_t seed, uint32_t range_in, size_t piece_bytes, bool clip)
{
    CLEANUP(rig_freep) struct rig r;
    uint8_t buf[RIG_KEY_SIZE];
    rig_init(&r, seed);
    r.w->serial = seed % 2 == 0;
    rig_reopen(r.w, true);
    fill(&r, 200, range_in);
    if (clip) {
        r.from = rig_hard_key((uint32_t)rand_below(&r.rand, KEYS), buf);
    }
    CHECK_OK(keep(&r, piece_bytes, rig_freeze(r.w)));
    size_t pieces = r.keep.piece_count;
    CHECK_TRUE(pieces > 0 && (piece_bytes != 0 || pieces == 1));
    CHECK_TRUE(piece_bytes == 0 || clip || pieces > 1);
    commit_and_reopen(&r);
    CHECK_EQ(r.w->found.piece_count, pieces);
    CHECK_OK(load(&r));
    CHECK_TRUE(same(&r) > 0);
    struct tree_memtable_state state = tree_memtable_state(r.loaded);
    CHECK_TRUE(state.max_msn <= r.msn && state.min_msn > 5);
}

TEST(what_was_kept_answers_as_before)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        check_round_trip(testing_seed() + seed, 50, 0, false);
        check_round_trip(testing_seed() + seed, 50, 4096, false);
        check_round_trip(testing_seed() + seed, 3, 4096, false);
        check_round_trip(testing_seed() + seed, 3, 8192, true);
        check_round_trip(testing_seed() + seed, 50, 0, true);
    }
}

/* ---- trouble ---- */

/* Whatever fails, what was written is given back, and the next attempt is as good as any. */
static void check_failing(enum disk_op op, int fail)
{
    CLEANUP(rig_freep) struct rig r;
    uint64_t nth = 0;
    int rc = fail;
    rig_init(&r, 4);
    fill(&r, 100, 20);
    uint64_t birth = rig_freeze(r.w), before = rig_space_used(r.w), charged = 0;
    for (; rc != 0; nth++) {
        rig_fail(r.w, op, nth + 1, fail);
        rc = keep(&r, 4096, birth);
        charged = nth == 0 ? cache_used(&r) : charged; /* work memory stays */
        CHECK_EQ(cache_used(&r), charged);
        CHECK_TRUE(rc == 0 || (rc == fail && r.keep.piece == NULL && r.keep.piece_count == 0));
        CHECK_TRUE(rc == 0 || rig_space_used(r.w) == before);
    }
    rig_fail(r.w, op, 0, 0);
    CHECK_EQ(nth, op == DISK_WRITE ? r.keep.piece_count + 1 : 2);
    commit_and_reopen(&r);
    CHECK_OK(load(&r));
    CHECK_TRUE(same(&r) > 0);
}

TEST(a_failure_gives_everything_back)
{
    check_failing(DISK_WRITE, -EIO);
    check_failing(DISK_WRITE, -ENOSPC);
}

/* Every allocation fails once. */
TEST(a_memtable_is_kept_without_memory_or_not_at_all)
{
    CLEANUP(rig_freep) struct rig r;
    unsigned failed = 0;
    rig_init(&r, 5);
    fill(&r, 60, 20);
    uint64_t birth = rig_freeze(r.w), before = rig_space_used(r.w);
    for (uint64_t nth = 1;; nth++) {
        uint64_t passed = fault_passed(r.w->fault, "mem.alloc");
        rig_starve(r.w, nth);
        int rc = keep(&r, 4096, birth);
        rig_starve(r.w, 0);
        bool hit = fault_passed(r.w->fault, "mem.alloc") - passed >= nth;
        CHECK_TRUE(rc == 0 || (rc == -ENOMEM && hit));
        failed += rc < 0 ? 1 : 0;
        if (!hit) {
            break;
        }
        if (rc == 0) { /* tolerated where it was; these pieces are nobody's */
            before = rig_space_used(r.w);
        }
        CHECK_EQ(rig_space_used(r.w), before);
    }
    CHECK_TRUE(failed > 10);
    commit_and_reopen(&r);
    CHECK_OK(load(&r));
    CHECK_TRUE(same(&r) > 0);
}

TEST(loading_without_memory_says_so)
{
    CLEANUP(rig_freep) struct rig r;
    unsigned failed = 0;
    rig_init(&r, 6);
    fill(&r, 60, 20);
    CHECK_OK(keep(&r, 4096, rig_freeze(r.w)));
    commit_and_reopen(&r);
    for (int rc = -ENOMEM; rc != 0; failed += rc < 0 ? 1 : 0) {
        rig_starve(r.w, failed + 1);
        rc = load(&r);
        rig_starve(r.w, 0);
        CHECK_TRUE(rc == 0 || rc == -ENOMEM);
    }
    CHECK_TRUE(failed > 10);
    CHECK_TRUE(same(&r) > 0);
}

/* Bytes that were changed are noticed, wherever they are; but for zeros at the end of a piece. */
TEST(damage_is_noticed)
{
    CLEANUP(rig_freep) struct rig r;
    rig_init(&r, testing_seed());
    fill(&r, 60, 20);
    CHECK_OK(keep(&r, 4096, rig_freeze(r.w)));
    commit_and_reopen(&r);
    for (size_t i = 0; i < r.w->found.piece_count; i++) {
        const struct tree_btt_piece *p = &r.w->found.piece[i];
        for (uint64_t at = 0; at < p->len; at += rand_range(&r.rand, 1, 60)) {
            uint8_t mask = (uint8_t)(1U << rand_below(&r.rand, 8));
            rig_damage(r.w, p->offset + at, mask);
            int rc = load(&r);
            CHECK_ERR(rc, ERR_corrupt);
            CHECK_TRUE(strstr(r.w->err.text, "memtable 77, piece ") != NULL);
            rig_damage(r.w, p->offset + at, mask);
        }
    }
    CHECK_OK(load(&r));
    CHECK_TRUE(same(&r) > 0);
}

static void with_pieces(struct rig *r, const struct tree_btt_piece *p, size_t count)
{
    struct tree_file_found was = r->w->found;
    r->w->found.piece = mem_dup(p, count * sizeof *p);
    CHECK_TRUE(r->w->found.piece != NULL);
    r->w->found.piece_count = count;
    CHECK_ERR(load(r), ERR_corrupt);
    CHECK_TRUE(r->w->err.code < 0);
    mem_free(r->w->found.piece);
    r->w->found = was;
}

TEST(pieces_are_all_there_and_in_order)
{
    CLEANUP(rig_freep) struct rig r;
    struct tree_btt_piece p[64];
    rig_init(&r, 8);
    fill(&r, 100, 20);
    CHECK_OK(keep(&r, 4096, rig_freeze(r.w)));
    commit_and_reopen(&r);
    size_t count = r.w->found.piece_count;
    CHECK_TRUE(count > 2 && count <= ARRAY_COUNT(p));
    memcpy(p, r.w->found.piece, count * sizeof *p);
    with_pieces(&r, p, count - 1);
    with_pieces(&r, p + 1, count - 1);
    const size_t owners[] = {0, 4, 8, 12}; /* another memtable, piece, count; no zero */
    for (size_t i = 0; i < ARRAY_COUNT(owners); i++) {
        p[1].owner[owners[i]] ^= 1;
        with_pieces(&r, p, count);
        p[1].owner[owners[i]] ^= 1;
    }
    p[1].birth++;
    with_pieces(&r, p, count);
    p[1].birth--;
    p[1].checksum ^= 1;
    with_pieces(&r, p, count);
    p[1].checksum ^= 1;
    p[1].len--;
    with_pieces(&r, p, count);
    p[1].len = 100;
    with_pieces(&r, p, count);
    p[1] = p[0];
    with_pieces(&r, p, count);
    struct tree_keep_owner owner;
    CHECK_OK(tree_keep_owner(&r.w->found.piece[1], &owner));
    CHECK_TRUE(owner.memtable_number == 77 && owner.piece_number == 1);
    CHECK_EQ(owner.piece_count, count);
}

/* ---- what is special ---- */

TEST(nothing_is_kept_of_nothing)
{
    CLEANUP(rig_freep) struct rig r;
    struct kv_batch b = {0};
    rig_init(&r, 9);
    uint64_t birth = rig_freeze(r.w);
    CHECK_OK(keep(&r, 0, birth));
    CHECK_TRUE(r.keep.piece == NULL && r.keep.piece_count == 0 && r.keep.written_bytes == 0);
    CHECK_OK(kv_batch_put(&b, kv_slice_of("b", 1), kv_slice_of("v", 1)));
    CHECK_OK(kv_batch_delete_range(&b, kv_slice_of("a", 1), kv_slice_of("c", 1)));
    commit_batch(&r, &b);
    kv_batch_fini(&b);
    r.from = kv_slice_of("c", 1);
    CHECK_OK(keep(&r, 0, birth));
    CHECK_EQ(r.keep.piece_count, 0);
    r.from = kv_slice_of("bb", 2); /* a clipped range and nothing else */
    CHECK_OK(keep(&r, 0, birth));
    CHECK_EQ(r.keep.piece_count, 1);
    commit_and_reopen(&r);
    CHECK_OK(load(&r));
    CHECK_EQ(same(&r), 1);
}

TEST(values_larger_than_a_piece)
{
    CLEANUP(rig_freep) struct rig r;
    static uint8_t value[KV_VALUE_MAX];
    struct kv_batch b = {0};
    rig_init(&r, 10);
    for (uint32_t i = 0; i < 12; i++) {
        uint8_t key[RIG_KEY_SIZE];
        rand_bytes(&r.rand, value, sizeof value);
        size_t len = i % 3 == 0 ? sizeof value : rand_below(&r.rand, sizeof value);
        CHECK_OK(kv_batch_put(&b, rig_hard_key(i, key), kv_slice_of(value, len)));
        commit_batch(&r, &b);
    }
    kv_batch_fini(&b);
    CHECK_OK(keep(&r, 4096, rig_freeze(r.w)));
    CHECK_TRUE(r.keep.piece_count > 4);
    commit_and_reopen(&r);
    CHECK_OK(load(&r));
    CHECK_EQ(same(&r), 12);
}

/* Many messages of one key, which go on from piece to piece. */
TEST(upserts_that_do_not_fold_are_all_kept)
{
    CLEANUP(rig_freep) struct rig r;
    struct kv_batch b = {0};
    rig_init(&r, 11);
    for (uint64_t i = 0; i < 20000; i++) {
        struct kv_field f = {.op = i % 2 == 0 ? KV_FIELD_ADD : KV_FIELD_MAX, .operand = i};
        CHECK_OK(kv_batch_upsert(&b, kv_slice_of("k", 1), 8, &f, 1));
        commit_batch(&r, &b);
    }
    kv_batch_fini(&b);
    CHECK_OK(keep(&r, 4096, rig_freeze(r.w)));
    CHECK_TRUE(r.keep.piece_count > 2);
    commit_and_reopen(&r);
    CHECK_OK(load(&r));
    CHECK_TRUE(same(&r) > 500);
}

/* Several wait for each other, while nothing else is to be had of the budget. */
struct keeps {
    struct rig rig;
    struct tree_keep keep[3];
    unsigned order[3], done;
};

static void one_done(struct tree_keep *k, int rc)
{
    struct keeps *s = container_of(k - k->memtable_number, struct keeps, keep[0]);
    CHECK_OK(rc);
    s->order[s->done++] = k->memtable_number;
    s->rig.w->over = s->done == 3;
}

static void keeps_in(void *ctx)
{
    struct keeps *s = ctx;
    for (uint32_t i = 0; i < 3; i++) {
        s->keep[i] = (struct tree_keep){.done = one_done,
                                        .memtable = s->rig.memtable,
                                        .birth = tree_file_number(s->rig.w->file),
                                        .memtable_number = i,
                                        .piece_bytes = 4096};
        tree_writer_keep(s->rig.w->writer, &s->keep[i]);
    }
    CHECK_TRUE(s->done == 0 && tree_writer_busy(s->rig.w->writer));
}

TEST(one_after_the_other_in_little_memory)
{
    struct keeps s = {.done = 0};
    rig_init(&s.rig, 12);
    s.rig.w->cache_bytes = 1000; /* less than one needs */
    rig_reopen(s.rig.w, true);
    fill(&s.rig, 50, 20);
    loop_sim_enter(s.rig.w->machine.loop, keeps_in, &s);
    CHECK_TRUE(testing_machine_until(&s.rig.w->machine, is_over, &s.rig, 60000));
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(s.order[i], i);
        CHECK_TRUE(s.keep[i].piece_count == s.keep[0].piece_count && s.keep[i].piece != NULL);
    }
    CHECK_TRUE(!tree_writer_busy(s.rig.w->writer));
    rig_freep(&s.rig);
}
