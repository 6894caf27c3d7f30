/* tree/memtable_load_test.c -- what may be put back, and that batches go on behind it; that all of
 * a memtable comes back is tested with its way over the disk: keep_test.c. */
#include "tree/memtable.h"

#include "testing/testing.h"
#include "tree/merge.h"

#include <string.h>

struct fixture {
    struct tree_snapshots *snapshots;
    struct tree_memtable *memtable;
    struct kv_batch batch;
    struct tree_fold fold;
};

static int fixture_open(struct fixture *f)
{
    struct tree_snapshots_options so = {
        .count_max = 4, .budget_bytes = UINT64_MAX, .published = 100};
    struct tree_memtable_options mo = {.base_msn = 10, .block_bytes = 4096};
    *f = (struct fixture){0};
    int rc = tree_snapshots_new(&so, &f->snapshots);
    return rc < 0 ? rc : tree_memtable_new(&mo, &f->memtable);
}

static void fixture_freep(struct fixture *f)
{
    f->memtable = tree_memtable_unref(f->memtable);
    f->snapshots = tree_snapshots_free(f->snapshots);
    kv_batch_fini(&f->batch);
    tree_fold_fini(&f->fold);
}

static struct kv_slice text(const char *t)
{
    return kv_slice_of(t, strlen(t));
}

static int put(struct fixture *f, const char *key, uint64_t msn)
{
    struct tree_message m = {.type = TREE_PUT, .msn = msn, .body = text("value")};
    return tree_memtable_load(f->memtable, text(key), &m);
}

static int range(struct fixture *f, const char *low, const char *high, uint64_t msn)
{
    struct tree_range r = {.msn = msn, .low = text(low), .high = text(high)};
    return tree_memtable_load_range(f->memtable, &r);
}

TEST(messages_come_in_order)
{
    CLEANUP(fixture_freep) struct fixture f;
    CHECK_OK(fixture_open(&f));
    CHECK_OK(put(&f, "b", 20));
    CHECK_RC(put(&f, "a", 21), ERR_bad_value); /* before */
    CHECK_RC(put(&f, "b", 20), ERR_bad_value); /* not older */
    CHECK_RC(put(&f, "b", 21), ERR_bad_value);
    CHECK_RC(put(&f, "c", 10), ERR_bad_value); /* of an older memtable */
    CHECK_RC(put(&f, "", 20), ERR_bad_value);
    struct tree_message m = {.type = TREE_RANGE_DELETE, .msn = 30, .body = text("x")};
    CHECK_RC(tree_memtable_load(f.memtable, text("c"), &m), ERR_bad_value);
    CHECK_OK(put(&f, "b", 19));
    CHECK_OK(put(&f, "c", 11));
    CHECK_RC(put(&f, "b", 12), ERR_bad_value);
    struct tree_memtable_state s = tree_memtable_state(f.memtable);
    CHECK_TRUE(s.key_count == 2 && s.min_msn == 11 && s.max_msn == 20);
}

TEST(ranges_come_in_order)
{
    CLEANUP(fixture_freep) struct fixture f;
    struct tree_range r;
    struct tree_memtable_found found;
    CHECK_OK(fixture_open(&f));
    CHECK_OK(put(&f, "dd", 20));
    CHECK_OK(range(&f, "b", "d", 20));
    CHECK_RC(range(&f, "b", "d", 19), ERR_bad_value); /* there is one */
    CHECK_RC(range(&f, "a", "b", 20), ERR_bad_value);
    CHECK_RC(range(&f, "c", "e", 20), ERR_bad_value);
    CHECK_RC(range(&f, "e", "e", 20), ERR_bad_value);
    CHECK_RC(range(&f, "e", "", 20), ERR_bad_value);
    CHECK_RC(range(&f, "e", "f", 10), ERR_bad_value);
    CHECK_OK(range(&f, "d", "e", 30)); /* side by side */
    CHECK_OK(range(&f, "g", "h", 15));
    struct tree_memtable_state s = tree_memtable_state(f.memtable);
    CHECK_TRUE(s.range_count == 3 && s.min_msn == 15 && s.max_msn == 30);
    CHECK_TRUE(tree_memtable_range(f.memtable, 100, text("e"), &r));
    CHECK_TRUE(r.msn == 15 && kv_slice_compare(r.low, text("g")) == 0);
    CHECK_TRUE(!tree_memtable_range(f.memtable, 100, text("h"), &r));
    tree_memtable_get(f.memtable, text("dd"), 100, &found);
    CHECK_TRUE(found.message.msn == 20 && found.range_msn == 30);
}

/* The first change of a key that was put back folds with it; a range goes on between old ones. */
TEST(batches_go_on_behind_it)
{
    CLEANUP(fixture_freep) struct fixture f;
    struct tree_superseded superseded;
    struct tree_memtable_found found;
    uint8_t body[TREE_UPSERT_MAX];
    struct kv_field one = {.op = KV_FIELD_ADD, .operand = 1}, five = {.operand = 5};
    CHECK_OK(fixture_open(&f));
    five.op = KV_FIELD_ADD;
    struct tree_message m = {.type = TREE_UPSERT, .msn = 20};
    m.body = kv_slice_of(body, tree_upsert_encode(8, &five, 1, body));
    CHECK_OK(tree_memtable_load(f.memtable, text("k"), &m));
    CHECK_OK(range(&f, "p", "z", 15));
    CHECK_OK(kv_batch_upsert(&f.batch, text("k"), 8, &one, 1));
    CHECK_OK(kv_batch_put(&f.batch, text("a"), text("first")));
    CHECK_OK(kv_batch_delete_range(&f.batch, text("q"), text("r")));
    CHECK_OK(tree_memtable_apply(f.memtable, &f.batch, 101, tree_snapshots_look(f.snapshots),
                                 &superseded));
    tree_snapshots_publish(f.snapshots, 103, &superseded);
    tree_memtable_get(f.memtable, text("k"), 103, &found);
    CHECK_TRUE(found.message.type == TREE_UPSERT && found.message.msn == 101 && !found.more);
    struct tree_memtable_cursor c;
    struct tree_source *source = &c.base;
    struct kv_slice got;
    tree_memtable_cursor_init(&c, f.memtable, 103);
    CHECK_EQ(tree_merge_get(&source, 1, text("k"), &f.fold, &got), 1);
    CHECK_EQ(((const uint8_t *)got.at)[0], 6);
    tree_memtable_get(f.memtable, text("a"), 103, &found);
    CHECK_EQ(found.message.msn, 102);
    const struct {
        const char *key;
        uint64_t msn;
    } covers[] = {{"o", 0}, {"p", 15}, {"qq", 103}, {"r", 15}, {"z", 0}};
    for (size_t i = 0; i < ARRAY_COUNT(covers); i++) {
        tree_memtable_get(f.memtable, text(covers[i].key), 103, &found);
        CHECK_EQ(found.range_msn, covers[i].msn);
    }
    tree_memtable_get(f.memtable, text("qq"), 100, &found);
    CHECK_EQ(found.range_msn, 15);
}
