#include "tree/memtable.h"

#include <string.h>

#include "testing/testing.h"
#include "tree/memtable_priv.h"
#include "tree/merge.h"

struct fixture {
    struct mem_budget budget;
    struct tree_snapshots *snapshots;
    struct tree_memtable *memtable;
    struct kv_batch batch;
    struct tree_fold fold;
    uint64_t msn;
};

static int fixture_open(struct fixture *f, uint64_t kept_bytes)
{
    *f = (struct fixture){.msn = 5};
    mem_budget_init(&f->budget, NULL, 64U << 20);
    struct tree_snapshots_options s = {.count_max = 16, .budget_bytes = kept_bytes, .published = 5};
    struct tree_memtable_options m = {.budget = &f->budget, .base_msn = 5, .block_bytes = 4096};
    int rc = tree_snapshots_new(&s, &f->snapshots);
    return rc < 0 ? rc : tree_memtable_new(&m, &f->memtable);
}

static void fixture_freep(struct fixture *f)
{
    f->memtable = tree_memtable_unref(f->memtable);
    f->snapshots = tree_snapshots_free(f->snapshots);
    kv_batch_fini(&f->batch);
    tree_fold_fini(&f->fold);
    CHECK_EQ(f->budget.used_bytes, 0);
}

static int fixture_commit(struct fixture *f)
{
    struct tree_superseded superseded;
    int rc = tree_memtable_apply(f->memtable, &f->batch, f->msn + 1,
                                 tree_snapshots_look(f->snapshots), &superseded);
    if (rc == 0) {
        f->msn += f->batch.count;
        tree_snapshots_publish(f->snapshots, f->msn, &superseded);
    }
    return rc;
}

static int fixture_put(struct fixture *f, const char *key, const char *value)
{
    kv_batch_clear(&f->batch);
    int rc =
        kv_batch_put(&f->batch, kv_slice_of(key, strlen(key)), kv_slice_of(value, strlen(value)));
    return rc < 0 ? rc : fixture_commit(f);
}

static int fixture_add(struct fixture *f, const char *key, enum kv_field_op op, uint64_t operand)
{
    struct kv_field field = {.op = op, .operand = operand};
    kv_batch_clear(&f->batch);
    int rc = kv_batch_upsert(&f->batch, kv_slice_of(key, strlen(key)), 8, &field, 1);
    return rc < 0 ? rc : fixture_commit(f);
}

/* 1 and a text or a number, 0. */
static int fixture_get(struct fixture *f, const char *key, uint64_t limit, struct kv_slice *ret)
{
    struct tree_memtable_cursor c;
    struct tree_source *source = &c.base;
    tree_memtable_cursor_init(&c, f->memtable, limit);
    return tree_merge_get(&source, 1, kv_slice_of(key, strlen(key)), &f->fold, ret);
}

static uint64_t fixture_number(struct fixture *f, const char *key, uint64_t limit)
{
    struct kv_slice got = {0};
    uint64_t v = 0;
    CHECK_EQ(fixture_get(f, key, limit, &got), 1);
    CHECK_EQ(got.len, 8);
    memcpy(&v, got.at, sizeof v); /* tests run on little-endian hosts only: operands are small */
    return v;
}

static unsigned chain_length(struct fixture *f, const char *key)
{
    unsigned n = 0;
    struct tree_memtable_entry *e =
        tree_memtable_find(&f->memtable->keys, kv_slice_of(key, strlen(key)));
    for (struct tree_memtable_version *v = e->head; v != NULL; v = v->older) {
        n++;
    }
    return n;
}

/* A directory's statistics: no more time and memory for the last change than for the first. */
TEST(a_hot_key_takes_no_more_than_others)
{
    CLEANUP(fixture_freep) struct fixture f;
    CHECK_OK(fixture_open(&f, UINT64_MAX));
    CHECK_OK(fixture_add(&f, "hot", KV_FIELD_ADD, 1));
    uint64_t bytes = tree_memtable_state(f.memtable).bytes;
    for (unsigned i = 1; i < 55000; i++) {
        CHECK_OK(fixture_add(&f, "hot", KV_FIELD_ADD, 1));
        CHECK_TRUE(chain_length(&f, "hot") <= 2);
    }
    CHECK_EQ(tree_memtable_state(f.memtable).bytes, bytes);
    CHECK_EQ(tree_memtable_state(f.memtable).key_count, 1);
    CHECK_EQ(fixture_number(&f, "hot", f.msn), 55000);
    kv_batch_clear(&f.batch); /* and all of them in one batch */
    struct kv_field one = {.op = KV_FIELD_ADD, .operand = 1};
    for (unsigned i = 0; i < 55000; i++) {
        CHECK_OK(kv_batch_upsert(&f.batch, kv_slice_of("hot", 3), 8, &one, 1));
    }
    CHECK_OK(fixture_commit(&f));
    CHECK_EQ(tree_memtable_state(f.memtable).bytes, bytes);
    CHECK_EQ(fixture_number(&f, "hot", f.msn), 110000);
}

/* With a snapshot that is held for a long time, there is what it sees and little more. */
TEST(a_snapshot_keeps_one_version)
{
    CLEANUP(fixture_freep) struct fixture f;
    struct tree_snapshot held;
    CHECK_OK(fixture_open(&f, UINT64_MAX));
    CHECK_OK(fixture_put(&f, "hot", "first"));
    CHECK_OK(tree_snapshots_take(f.snapshots, &held));
    uint64_t bytes = tree_memtable_state(f.memtable).bytes, kept = 0;
    for (unsigned i = 0; i < 5000; i++) {
        CHECK_OK(fixture_put(&f, "hot", i % 2 == 0 ? "even" : "odd"));
        kept = i == 0 ? tree_snapshots_state(f.snapshots).kept_bytes : kept;
        CHECK_TRUE(chain_length(&f, "hot") <= 3);
    }
    struct kv_slice got;
    CHECK_EQ(fixture_get(&f, "hot", held.limit, &got), 1);
    CHECK_BYTES(got.at, "first", 5);
    CHECK_EQ(fixture_get(&f, "hot", f.msn, &got), 1);
    CHECK_BYTES(got.at, "odd", 3);
    CHECK_TRUE(kept > 0);
    CHECK_EQ(tree_snapshots_state(f.snapshots).kept_bytes, kept);
    /* Who stands on what lies between is not known as long as it lives: nothing is used again. */
    CHECK_TRUE(tree_memtable_state(f.memtable).bytes > bytes + 4096);
    tree_snapshots_release(f.snapshots, &held);
    CHECK_EQ(tree_snapshots_state(f.snapshots).kept_bytes, 0);
    CHECK_OK(fixture_put(&f, "hot", "again"));
    CHECK_OK(fixture_put(&f, "hot", "again"));
    CHECK_EQ(chain_length(&f, "hot"), 2);
    bytes = tree_memtable_state(f.memtable).bytes;
    for (unsigned i = 0; i < 5000; i++) {
        CHECK_OK(fixture_put(&f, "hot", "last"));
    }
    CHECK_EQ(tree_memtable_state(f.memtable).bytes, bytes);
}

/* Adding and the maximum of one field do not commute: nothing folds, all is kept, in linear time.
 */
TEST(upserts_that_do_not_fold_are_all_applied)
{
    CLEANUP(fixture_freep) struct fixture f;
    struct tree_memtable_found found;
    uint64_t expected = 0;
    CHECK_OK(fixture_open(&f, UINT64_MAX));
    for (uint64_t i = 0; i < 5000; i++) {
        bool add = i % 2 == 0;
        CHECK_OK(fixture_add(&f, "k", add ? KV_FIELD_ADD : KV_FIELD_MAX, add ? 3 : i * 2));
        expected = add ? expected + 3 : base_max(expected, i * 2);
    }
    CHECK_EQ(fixture_number(&f, "k", f.msn), expected);
    tree_memtable_get(f.memtable, kv_slice_of("k", 1), f.msn, &found);
    CHECK_TRUE(found.more);
    CHECK_TRUE(f.fold.count >= 5000 / KV_FIELDS_MAX && f.fold.count < 400);
    CHECK_OK(fixture_put(&f, "k", "eight by"));
    tree_memtable_get(f.memtable, kv_slice_of("k", 1), f.msn, &found);
    CHECK_TRUE(!found.more);
}

TEST(a_batch_is_seen_when_it_is_published)
{
    CLEANUP(fixture_freep) struct fixture f;
    struct tree_superseded superseded;
    struct tree_memtable_found found;
    CHECK_OK(fixture_open(&f, UINT64_MAX));
    CHECK_OK(fixture_put(&f, "a", "old"));
    kv_batch_clear(&f.batch);
    CHECK_OK(kv_batch_put(&f.batch, kv_slice_of("a", 1), kv_slice_of("new", 3)));
    CHECK_OK(kv_batch_put(&f.batch, kv_slice_of("b", 1), kv_slice_of("new", 3)));
    CHECK_OK(kv_batch_delete_range(&f.batch, kv_slice_of("c", 1), kv_slice_of("d", 1)));
    CHECK_OK(tree_memtable_apply(f.memtable, &f.batch, f.msn + 1, tree_snapshots_look(f.snapshots),
                                 &superseded));
    tree_memtable_get(f.memtable, kv_slice_of("a", 1), f.msn, &found);
    CHECK_EQ(found.message.msn, f.msn);
    CHECK_BYTES(found.message.body.at, "old", 3);
    tree_memtable_get(f.memtable, kv_slice_of("b", 1), f.msn, &found);
    CHECK_EQ(found.message.msn, 0);
    tree_memtable_get(f.memtable, kv_slice_of("cc", 2), f.msn, &found);
    CHECK_EQ(found.range_msn, 0);
    f.msn += 3;
    tree_snapshots_publish(f.snapshots, f.msn, &superseded);
    tree_memtable_get(f.memtable, kv_slice_of("b", 1), f.msn, &found);
    CHECK_EQ(found.message.msn, 8);
    tree_memtable_get(f.memtable, kv_slice_of("cc", 2), f.msn, &found);
    CHECK_EQ(found.range_msn, 9);
    struct tree_memtable_state state = tree_memtable_state(f.memtable);
    CHECK_EQ(state.min_msn, 6);
    CHECK_EQ(state.max_msn, 9);
    CHECK_EQ(state.key_count, 2);
    CHECK_EQ(state.range_count, 1);
}

/* Nothing of it is for those who read at an older limit than its base: they may not even look. */
TEST(who_reads_below_the_base_finds_nothing)
{
    CLEANUP(fixture_freep) struct fixture f;
    struct tree_memtable_found found;
    struct tree_memtable_cursor c;
    struct tree_range range;
    CHECK_OK(fixture_open(&f, UINT64_MAX));
    kv_batch_clear(&f.batch);
    CHECK_OK(kv_batch_delete_range(&f.batch, kv_slice_of("a", 1), kv_slice_of("c", 1)));
    CHECK_OK(kv_batch_put(&f.batch, kv_slice_of("b", 1), kv_slice_of("new", 3)));
    CHECK_OK(fixture_commit(&f));
    tree_memtable_get(f.memtable, kv_slice_of("b", 1), 5, &found);
    CHECK_TRUE(found.message.msn == 0 && found.range_msn == 0);
    CHECK_TRUE(!tree_memtable_range(f.memtable, 5, kv_slice_of(NULL, 0), &range));
    tree_memtable_cursor_init(&c, f.memtable, 5);
    CHECK_TRUE(!c.base.has_ranges);
    CHECK_EQ(c.base.ops->seek(&c.base, kv_slice_of(NULL, 0)), 0);
    CHECK_EQ(c.base.ops->seek_back(&c.base, kv_slice_of(NULL, 0)), 0);
    CHECK_EQ(c.base.ops->find(&c.base, kv_slice_of("b", 1)), 0);
    CHECK_EQ(c.base.ops->range(&c.base, kv_slice_of(NULL, 0), &range), 0);
    tree_memtable_cursor_init(&c, f.memtable, 6);
    CHECK_TRUE(c.base.has_ranges);
    CHECK_EQ(c.base.ops->range(&c.base, kv_slice_of("b", 1), &range), 1);
    CHECK_EQ(range.msn, 6);
    CHECK_EQ(kv_slice_compare(range.low, kv_slice_of("a", 1)), 0);
    CHECK_EQ(kv_slice_compare(range.high, kv_slice_of("c", 1)), 0);
    CHECK_EQ(c.base.ops->range(&c.base, kv_slice_of("c", 1), &range), 0);
}

/* Many small ranges: a read finds the one it needs, in time that does not grow with their number.
 */
TEST(ranges_are_pieces)
{
    CLEANUP(fixture_freep) struct fixture f;
    struct tree_range range, same;
    struct tree_memtable_cursor c;
    struct kv_slice from = {0};
    CHECK_OK(fixture_open(&f, UINT64_MAX));
    kv_batch_clear(&f.batch);
    for (unsigned i = 0; i < 2000; i++) {
        uint8_t low[3] = {1, (uint8_t)(i >> 8), (uint8_t)i}, high[4] = {low[0], low[1], low[2], 9};
        CHECK_OK(kv_batch_delete_range(&f.batch, kv_slice_of(low, 3), kv_slice_of(high, 4)));
    }
    CHECK_OK(fixture_commit(&f));
    size_t count = 0;
    tree_memtable_cursor_init(&c, f.memtable, f.msn);
    for (; tree_memtable_range(f.memtable, f.msn, from, &range); from = range.high, count++) {
        CHECK_EQ(c.base.ops->range(&c.base, from, &same), 1);
        CHECK_TRUE(same.msn == range.msn && same.low.at == range.low.at);
        CHECK_TRUE(same.high.at == range.high.at);
        CHECK_EQ(range.msn, 6 + count);
        CHECK_EQ(range.low.len, 3);
        CHECK_EQ(range.high.len, 4);
    }
    CHECK_EQ(count, 2000);
    CHECK_EQ(c.base.ops->range(&c.base, from, &same), 0);
    kv_batch_clear(&f.batch); /* one over all of them, and one that holds nothing */
    CHECK_OK(kv_batch_delete_range(&f.batch, kv_slice_of("\x01", 1), kv_slice_of("\x02", 1)));
    CHECK_OK(kv_batch_delete_range(&f.batch, kv_slice_of("z", 1), kv_slice_of("a", 1)));
    CHECK_OK(fixture_commit(&f));
    from = kv_slice_of(NULL, 0);
    for (count = 0; tree_memtable_range(f.memtable, f.msn, from, &range); count++) {
        CHECK_EQ(range.msn, f.msn - 1);
        from = range.high;
    }
    CHECK_TRUE(count >= 4000);
    CHECK_EQ(range.msn, f.msn - 1);
}

static int fixture_delete_range(struct fixture *f, const char *low, const char *high)
{
    kv_batch_clear(&f->batch);
    int rc = kv_batch_delete_range(&f->batch, kv_slice_of(low, strlen(low)),
                                   kv_slice_of(high, strlen(high)));
    return rc < 0 ? rc : fixture_commit(f);
}

static bool range_is_bare(const struct fixture *f, uint64_t limit, const char *key)
{
    struct tree_memtable_cursor c;
    struct tree_range range;
    tree_memtable_cursor_init(&c, f->memtable, limit);
    CHECK_OK(c.base.ops->covering(&c.base, kv_slice_of(key, strlen(key)), &range));
    CHECK_TRUE(range.msn != 0);
    return range.bare;
}

/* Only then may whoever lists it pass over all that it has deleted. */
TEST(a_deleted_range_is_bare_until_a_key_comes_into_it)
{
    CLEANUP(fixture_freep) struct fixture f;
    CHECK_OK(fixture_open(&f, UINT64_MAX));
    CHECK_OK(fixture_put(&f, "b", "1"));
    CHECK_OK(fixture_delete_range(&f, "a", "f"));
    uint64_t first = f.msn;
    CHECK_OK(fixture_put(&f, "g", "2"));
    CHECK_TRUE(range_is_bare(&f, f.msn, "b"));
    CHECK_OK(fixture_delete_range(&f, "c", "d")); /* a piece of it */
    CHECK_OK(fixture_put(&f, "cc", "3"));
    CHECK_TRUE(range_is_bare(&f, f.msn, "b") && range_is_bare(&f, f.msn, "e"));
    CHECK_TRUE(!range_is_bare(&f, f.msn, "c"));
    CHECK_TRUE(range_is_bare(&f, first, "c")); /* what came since is nothing to this one */
    CHECK_OK(fixture_put(&f, "b", "4"));
    CHECK_TRUE(!range_is_bare(&f, f.msn, "b"));
    CHECK_OK(fixture_delete_range(&f, "a", "f"));
    CHECK_TRUE(range_is_bare(&f, f.msn, "b") && range_is_bare(&f, f.msn, "c"));
}

TEST(large_values_have_blocks_of_their_own)
{
    CLEANUP(fixture_freep) struct fixture f;
    static uint8_t big[KV_VALUE_MAX];
    struct kv_slice got;
    struct kv_field one = {.offset = 1016, .op = KV_FIELD_ADD, .operand = 1};
    CHECK_OK(fixture_open(&f, UINT64_MAX));
    for (size_t len = 1; len <= KV_VALUE_MAX; len = len * 3 / 2 + 1) {
        kv_batch_clear(&f.batch);
        memset(big, (int)len, len);
        CHECK_OK(kv_batch_put(&f.batch, kv_slice_of("k", 1), kv_slice_of(big, len)));
        CHECK_OK(fixture_commit(&f));
        CHECK_EQ(fixture_get(&f, "k", f.msn, &got), 1);
        CHECK_EQ(got.len, len);
        CHECK_BYTES(got.at, big, len);
    }
    kv_batch_clear(&f.batch);
    CHECK_OK(kv_batch_put(&f.batch, kv_slice_of("k", 1), kv_slice_of(big, sizeof big)));
    CHECK_OK(kv_batch_upsert(&f.batch, kv_slice_of("k", 1), 1024, &one, 1));
    CHECK_OK(fixture_commit(&f));
    CHECK_EQ(fixture_get(&f, "k", f.msn, &got), 1);
    CHECK_EQ(got.len, sizeof big);
    CHECK_EQ(((const uint8_t *)got.at)[1016], (uint8_t)(big[1016] + 1));
    CHECK_TRUE(f.budget.used_bytes >= tree_memtable_state(f.memtable).bytes);
}

TEST(it_says_when_it_is_full_and_stays_for_its_readers)
{
    CLEANUP(fixture_freep) struct fixture f;
    struct tree_memtable *mine;
    struct kv_slice got;
    char key[16] = "key";
    CHECK_OK(fixture_open(&f, UINT64_MAX));
    CHECK_TRUE(!tree_memtable_state(f.memtable).full);
    f.memtable->limit_bytes = 65536;
    unsigned puts = 0;
    for (; !tree_memtable_state(f.memtable).full; puts++) {
        key[3] = (char)('a' + puts % 26);
        key[4] = (char)('a' + puts / 26 % 26);
        key[5] = (char)('a' + puts / 676);
        CHECK_OK(fixture_put(&f, key, "a value of some length, to fill it"));
    }
    CHECK_TRUE(puts > 300 && puts < 1000);
    tree_memtable_freeze(f.memtable);
    mine = tree_memtable_ref(f.memtable);
    tree_memtable_unref(f.memtable);
    CHECK_EQ(fixture_get(&f, key, f.msn, &got), 1);
    f.memtable = mine;
}

/* Every allocation fails once: of the table itself, of blocks, of what a reader needs. */
TEST_TORTURE(everything_survives_a_failed_allocation)
{
    CLEANUP(fixture_freep) struct fixture f = {0};
    struct kv_slice got = {0};
    char key[3] = "k";
    TRY(fixture_open(&f, UINT64_MAX));
    for (unsigned i = 0; i < 40; i++) {
        char value[400];
        memset(value, 'v', sizeof value);
        value[399] = 0;
        key[1] = (char)('0' + i);
        TRY(fixture_put(&f, key, value));
        TRY(fixture_add(&f, "count", KV_FIELD_ADD, 1));
    }
    int rc = fixture_get(&f, "count", f.msn, &got);
    TRY(rc < 0 ? rc : 0);
    CHECK_EQ(rc, 1);
    kv_batch_clear(&f.batch);
    TRY(kv_batch_delete_range(&f.batch, kv_slice_of("k0", 2), kv_slice_of("k9", 2)));
    TRY(fixture_commit(&f));
    struct tree_memtable_cursor c;
    struct tree_source *source = &c.base;
    CLEANUP(tree_merge_freep) struct tree_merge *m = NULL;
    tree_memtable_cursor_init(&c, f.memtable, f.msn);
    TRY(tree_merge_new(&(struct tree_merge_options){.sources = &source, .count = 1}, &m));
    unsigned seen = 0;
    for (rc = tree_merge_seek(m, got = kv_slice_of(NULL, 0)); rc == 1; rc = tree_merge_next(m)) {
        seen++;
    }
    TRY(rc);
    CHECK_EQ(seen, 41 - 9);
}
