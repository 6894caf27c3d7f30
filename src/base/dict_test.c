#include "base/dict.h"

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"

#include <string.h>

#define KEY_COUNT 3000u

struct entry {
    struct dict_node node;
    uint64_t key;
    bool in, seen;
};

static bool entry_equal(const struct dict_node *node, const void *key)
{
    const struct entry *e = (const void *)node; /* the node is its first member */
    return e->key == *(const uint64_t *)key;
}

_Static_assert(offsetof(struct entry, node) == 0, "entry_equal needs it");

static void entry_dropped(struct dict_node *node, void *owner)
{
    struct entry *e = container_of(node, struct entry, node);
    e->in = false;
    memset(node, 0xee, sizeof *node); /* as if it were freed */
    (*(unsigned *)owner)++;
}

static const struct dict_ops entry_ops = {.equal = entry_equal, .dropped = entry_dropped};

struct fixture {
    struct dict dict;
    unsigned dropped;
    struct entry entry[KEY_COUNT];
};

static struct fixture *fixture_free(struct fixture *f)
{
    if (f != NULL) {
        dict_fini(&f->dict);
        mem_free(f);
    }
    return NULL;
}
DEFINE_FREEP(fixture)

static struct fixture *fixture_new(void)
{
    struct fixture *f = mem_zalloc(sizeof *f);
    if (f != NULL) {
        dict_init(&f->dict, &entry_ops, &f->dropped, testing_seed());
        for (unsigned i = 0; i < KEY_COUNT; i++) {
            f->entry[i].key = UINT64_C(0x100000001) * i;
        }
    }
    return f;
}

static int add(struct fixture *f, unsigned i)
{
    struct entry *e = &f->entry[i];
    int rc = dict_insert(&f->dict, dict_hash_u64(&f->dict, e->key), &e->node);
    e->in = rc == 0;
    return rc;
}

static void take(struct fixture *f, unsigned i)
{
    dict_remove(&f->dict, &f->entry[i].node);
    f->entry[i].in = false;
}

static bool found(struct fixture *f, unsigned i)
{
    const struct entry *e = &f->entry[i];
    struct dict_node *n = dict_find(&f->dict, dict_hash_u64(&f->dict, e->key), &e->key);
    CHECK_TRUE(n == NULL || n == &e->node);
    return n != NULL;
}

static void check_all(struct fixture *f)
{
    size_t count = 0;
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        CHECK_EQ(found(f, i), f->entry[i].in);
        count += f->entry[i].in ? 1U : 0U;
    }
    CHECK_EQ(f->dict.count, count);
}

TEST(dict_begins_empty)
{
    CLEANUP(fixture_freep) struct fixture *f = fixture_new();
    struct dict_iter it;
    CHECK_TRUE(f != NULL);
    CHECK_TRUE(!found(f, 0));
    dict_iter_init(&it, &f->dict);
    CHECK_TRUE(dict_iter_next(&it) == NULL);
    dict_clear(&f->dict);
    CHECK_EQ(f->dropped, 0);
}

TEST(dict_finds_what_was_inserted_while_it_grows)
{
    CLEANUP(fixture_freep) struct fixture *f = fixture_new();
    CHECK_TRUE(f != NULL);
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        CHECK_OK(add(f, i));
        CHECK_TRUE(found(f, i));
        if (i % 97 == 0) {
            check_all(f);
        }
    }
    check_all(f);
}

/* Phases that mostly add and mostly take, so that it grows and shrinks, also while it moves. */
TEST(dict_agrees_with_a_table_of_flags)
{
    CLEANUP(fixture_freep) struct fixture *f = fixture_new();
    struct rand r;
    CHECK_TRUE(f != NULL);
    rand_seed(&r, testing_seed());
    for (unsigned step = 0; step < 60000; step++) {
        unsigned i = (unsigned)rand_below(&r, KEY_COUNT);
        bool adding = rand_chance(&r, step / 10000 % 2 == 0 ? 9 : 1, 10);
        if (adding && !f->entry[i].in) {
            CHECK_OK(add(f, i));
        } else if (!adding && f->entry[i].in) {
            take(f, i);
        }
        CHECK_EQ(found(f, i), f->entry[i].in);
        if (step % 5000 == 0) {
            check_all(f);
        }
    }
    check_all(f);
}

TEST(dict_moves_a_bounded_number_of_buckets)
{
    CLEANUP(fixture_freep) struct fixture *f = fixture_new();
    size_t most = 0, rehashes = 0;
    CHECK_TRUE(f != NULL);
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        size_t before = f->dict.moved;
        CHECK_OK(add(f, i));
        most = base_max(most, f->dict.moved > before ? f->dict.moved - before : 0);
        rehashes += f->dict.moved < before ? 1U : 0U;
        size_t buckets = f->dict.table[0].mask + 1;
        CHECK_TRUE(f->dict.count <= buckets * 2); /* it keeps up */
    }
    CHECK_TRUE(most > 0 && most <= 4);
    CHECK_TRUE(rehashes > 4);
}

TEST(dict_gives_memory_back)
{
    CLEANUP(fixture_freep) struct fixture *f = fixture_new();
    CHECK_TRUE(f != NULL);
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        CHECK_OK(add(f, i));
    }
    for (unsigned i = 0; i + 1 < KEY_COUNT; i++) {
        take(f, i);
    }
    for (unsigned i = 0; i < 10000; i++) {
        CHECK_OK(add(f, 0));
        take(f, 0);
    }
    CHECK_TRUE(f->dict.table[0].mask < 64);
    CHECK_TRUE(f->dict.table[1].bucket == NULL);
    check_all(f);
}

TEST(dict_tells_keys_with_one_hash_apart)
{
    CLEANUP(fixture_freep) struct fixture *f = fixture_new();
    CHECK_TRUE(f != NULL);
    for (unsigned i = 0; i < 40; i++) {
        CHECK_OK(dict_insert(&f->dict, 7, &f->entry[i].node));
    }
    for (unsigned i = 0; i < 40; i++) {
        CHECK_TRUE(dict_find(&f->dict, 7, &f->entry[i].key) == &f->entry[i].node);
    }
    dict_remove(&f->dict, &f->entry[20].node);
    CHECK_TRUE(dict_find(&f->dict, 7, &f->entry[20].key) == NULL);
    CHECK_TRUE(dict_find(&f->dict, 8, &f->entry[21].key) == NULL);
}

/* In every state of a move: each node once, also when the body removes it. */
TEST(dict_iter_visits_each_once_and_stands_removal)
{
    CLEANUP(fixture_freep) struct fixture *f = fixture_new();
    CHECK_TRUE(f != NULL);
    for (unsigned size = 1; size < 200; size++) {
        for (unsigned i = 0; i < size; i++) {
            f->entry[i].seen = false;
            if (!f->entry[i].in) {
                CHECK_OK(add(f, i));
            }
        }
        struct dict_iter it;
        dict_iter_init(&it, &f->dict);
        unsigned count = 0;
        for (struct dict_node *n = dict_iter_next(&it); n != NULL; n = dict_iter_next(&it)) {
            struct entry *e = container_of(n, struct entry, node);
            CHECK_TRUE(!e->seen);
            e->seen = true;
            count++;
            if (e->key % 3 == 0) {
                take(f, (unsigned)(e - f->entry));
            }
        }
        CHECK_EQ(count, size);
    }
    check_all(f);
}

TEST(dict_clear_drops_all_and_stays_usable)
{
    CLEANUP(fixture_freep) struct fixture *f = fixture_new();
    CHECK_TRUE(f != NULL);
    for (unsigned i = 0; i < 35; i++) { /* in the middle of a move */
        CHECK_OK(add(f, i));
    }
    CHECK_TRUE(f->dict.table[1].bucket != NULL);
    dict_clear(&f->dict);
    CHECK_EQ(f->dropped, 35);
    check_all(f);
    for (unsigned i = 0; i < 100; i++) {
        CHECK_OK(add(f, i));
    }
    check_all(f);
    dict_fini(&f->dict);
    CHECK_EQ(f->dropped, 135);
}

TEST(dict_hash_depends_on_seed_and_key)
{
    struct dict a, b;
    const uint64_t key = 12345;
    dict_init(&a, &entry_ops, NULL, 1);
    dict_init(&b, &entry_ops, NULL, 2);
    CHECK_NE(dict_hash(&a, "key", 3), dict_hash(&b, "key", 3));
    CHECK_NE(dict_hash(&a, "key", 3), dict_hash(&a, "key", 2));
    CHECK_NE(dict_hash_u64(&a, 1), dict_hash_u64(&a, 2));
    CHECK_EQ(dict_hash_u64(&a, key), dict_hash(&a, &key, sizeof key));
}

/* Only the first insertion may say -ENOMEM; growth that fails changes nothing that can be seen. */
TEST_TORTURE(dict_stands_without_memory)
{
    CLEANUP(fixture_freep) struct fixture *f = fixture_new();
    TRY_PTR(f);
    int rc = add(f, 0);
    if (testing_torturing() && rc == -ENOMEM) {
        CHECK_EQ(f->dict.count, 0);
        rc = add(f, 0);
    }
    CHECK_OK(rc);
    for (unsigned i = 1; i < 500; i++) {
        CHECK_OK(add(f, i));
    }
    check_all(f);
}

TEST(dict_stands_growth_that_fails_for_long)
{
    CLEANUP(fixture_freep) struct fixture *f = fixture_new();
    CHECK_TRUE(f != NULL);
    for (unsigned i = 0; i < 300; i++) {
        mem_fail_at(i > 0 ? 1 : 0);
        CHECK_OK(add(f, i));
    }
    mem_fail_at(0);
    CHECK_EQ(f->dict.table[0].mask, 7);
    check_all(f);
    for (unsigned i = 300; i < KEY_COUNT; i++) {
        CHECK_OK(add(f, i));
    }
    CHECK_TRUE(f->dict.table[0].mask >= KEY_COUNT / 4); /* it caught up */
    check_all(f);
}
