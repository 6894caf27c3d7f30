/* tree/need_test.c -- tree/need.h: names in items, and who holds which pin. */
#include "tree/need.h"

#include "base/mem.h"
#include "testing/testing.h"

#include <string.h>

#define RAW 256u
#define PARTS 40u

struct rig {
    struct kv kv;
    struct kv_ops ops;
    struct kv_need need;
    struct tree_need_from from;
    struct tree_cache *cache;
    struct tree_part *part[PARTS];
    struct tree_node node;
    struct tree_head head;
};

static void unpin(struct kv *kv, struct kv_need_item *item)
{
    (void)kv;
    CHECK(item->pin != NULL);
    tree_need_unpin(item);
    CHECK(item->pin == NULL);
}

static void rig_fini(struct rig *r)
{
    kv_need_release(&r->need);
    CHECK(r->node.state == 0);
    for (size_t i = 0; i < PARTS; i++) {
        r->part[i] = tree_part_unref(r->part[i]);
    }
    r->cache = tree_cache_free(r->cache);
}

static const struct tree_part_place somewhere = {.block = 7, .extent = 4096, .birth = 3};

static int part_new(struct rig *r, size_t i)
{
    uint8_t *bytes = mem_aligned(TREE_PART_ALIGN, RAW);
    if (bytes == NULL) {
        return -ENOMEM;
    }
    memset(bytes, (int)i, RAW);
    struct tree_part_options opt = {
        .cache = r->cache, .kind = 1, .raw_len = RAW, .bytes = bytes, .place = &somewhere};
    int rc = tree_part_new(&opt, &r->part[i]);
    if (rc < 0) {
        mem_free(bytes);
        return rc;
    }
    tree_cache_force(r->cache, RAW);
    return 0;
}

static int rig_init(struct rig *r)
{
    r->ops = (struct kv_ops){.unpin = unpin};
    r->kv = (struct kv){.ops = &r->ops};
    r->from = (struct tree_need_from){.kv = &r->kv, .need = &r->need};
    r->node.head = &r->head;
    struct tree_cache_options opt = {.limit_bytes = 1 << 20};
    int rc = tree_cache_new(&opt, &r->cache);
    for (size_t i = 0; i < PARTS && rc == 0; i++) {
        rc = part_new(r, i);
    }
    return rc;
}

static uint32_t pins(const struct tree_part *p)
{
    return p->state & ~TREE_PART_ABSENT;
}

static struct tree_part *pinned(struct rig *r, size_t i)
{
    CHECK_TRUE(tree_part_pin(r->part[i]));
    return r->part[i];
}

static void check_name(const struct kv_need_item *item, struct tree_need_name expected)
{
    struct tree_need_name got = tree_need_name(item);
    CHECK_EQ(got.block, expected.block);
    CHECK_EQ(got.version, expected.version);
    CHECK_EQ(got.part, expected.part);
}

TEST(a_name_survives)
{
    static const uint64_t blocks[] = {0, 1, 77, TREE_BLOCK_LIMIT - 1};
    static const uint64_t versions[] = {0, 1, 0xffff, 0x10000, (UINT64_C(1) << 46) - 1};
    static const uint32_t parts[] = {0, 1, 4095, TREE_NEED_HEAD - 1, TREE_NEED_HEAD};
    CLEANUP(rig_fini) struct rig r = {0};
    CHECK_OK(rig_init(&r));
    size_t count = 0;
    for (size_t b = 0; b < ARRAY_COUNT(blocks); b++) {
        for (size_t v = 0; v < ARRAY_COUNT(versions); v++) {
            for (size_t p = 0; p < ARRAY_COUNT(parts); p++) {
                struct tree_need_name name = {blocks[b], versions[v], parts[p]};
                CHECK_RC(tree_need_miss(&r.from, &name), ERR_need);
                CHECK_EQ(r.need.count, ++count); /* none is taken for another */
                CHECK_EQ(r.need.missing, count);
                check_name(&r.need.item[count - 1], name);
            }
        }
    }
    for (size_t i = 0; i < count; i++) { /* each is found again */
        struct tree_need_name name = tree_need_name(&r.need.item[i]);
        CHECK_RC(tree_need_miss(&r.from, &name), ERR_need);
        CHECK_EQ(r.need.count, count);
    }
    CHECK_EQ(r.need.missing, count);
}

TEST(what_is_kept_is_let_go_at_the_end)
{
    CLEANUP(rig_fini) struct rig r = {0};
    CHECK_OK(rig_init(&r));
    CHECK_OK(tree_need_keep_part(&r.from, pinned(&r, 0)));
    CHECK_TRUE(tree_node_pin(&r.node));
    CHECK_OK(tree_need_keep_node(&r.from, &r.node));
    uint64_t before = tree_cache_budget(r.cache)->used_bytes;
    uint8_t *room = tree_need_room(&r.from, r.cache, 100);
    CHECK_TRUE(room != NULL);
    memset(room, 1, 100);
    CHECK_TRUE(tree_cache_budget(r.cache)->used_bytes >= before + 100);
    CHECK_TRUE(tree_need_room(&r.from, r.cache, 0) != NULL);
    CHECK_EQ(r.need.count, 4);
    CHECK_EQ(r.need.missing, 0);
    CHECK_TRUE(r.need.kv == &r.kv);
    CHECK_EQ(pins(r.part[0]), 1);
    CHECK_EQ(r.node.state, 1);
    kv_need_release(&r.need);
    CHECK_EQ(tree_cache_budget(r.cache)->used_bytes, before);
    CHECK_EQ(pins(r.part[0]), 0);
    CHECK_EQ(r.node.state, 0);
}

/* A name whose bits are those of what is kept, if any name's are. */
TEST(what_is_kept_has_no_name)
{
    CLEANUP(rig_fini) struct rig r = {0};
    CHECK_OK(rig_init(&r));
    CHECK_OK(tree_need_keep_part(&r.from, pinned(&r, 0)));
    CHECK_TRUE(tree_node_pin(&r.node));
    CHECK_OK(tree_need_keep_node(&r.from, &r.node));
    CHECK_TRUE(tree_need_room(&r.from, r.cache, 100) != NULL);
    for (unsigned v = 0; v < 46; v++) {
        for (uint32_t part = 0; part < 3; part++) {
            struct tree_need_name name = {.version = UINT64_C(1) << v, .part = part};
            size_t count = r.need.count;
            CHECK_RC(tree_need_miss(&r.from, &name), ERR_need);
            CHECK_EQ(r.need.count, count + 1);
        }
    }
    CHECK_EQ(r.need.missing, r.need.count - 3);
}

/* What a fetch does, in short. */
static void fetch(struct rig *r, struct tree_part *p)
{
    for (size_t i = 0; i < r->need.count; i++) {
        struct kv_need_item *item = &r->need.item[i];
        if (item->pin != NULL) {
            continue;
        }
        if (tree_need_name(item).part == TREE_NEED_HEAD) {
            CHECK_TRUE(tree_node_pin(&r->node));
            tree_need_set_node(item, &r->node);
        } else {
            CHECK_TRUE(tree_part_pin(p));
            tree_need_set_part(item, p);
        }
        r->need.missing--;
    }
}

TEST(an_item_holds_what_was_fetched)
{
    CLEANUP(rig_fini) struct rig r = {0};
    CHECK_OK(rig_init(&r));
    struct tree_need_name head = {5, 9, TREE_NEED_HEAD}, part = {5, 9, 3};
    CHECK_RC(tree_need_miss(&r.from, &head), ERR_need);
    CHECK_RC(tree_need_miss(&r.from, &part), ERR_need);
    fetch(&r, r.part[1]);
    CHECK_EQ(pins(r.part[1]), 1);
    CHECK_EQ(r.node.state, 1);
    check_name(&r.need.item[0], head);
    check_name(&r.need.item[1], part);
    kv_need_release(&r.need);
    CHECK_EQ(pins(r.part[1]), 0);
    CHECK_EQ(r.node.state, 0);
}

/* The head was away since, and came back with other parts: those are missing in earnest, and what
 * was read from the one that is pinned stays. */
TEST(what_was_fetched_is_missed_again)
{
    CLEANUP(rig_fini) struct rig r = {0};
    CHECK_OK(rig_init(&r));
    struct tree_need_name head = {5, 9, TREE_NEED_HEAD}, part = {5, 9, 3};
    CHECK_RC(tree_need_miss(&r.from, &part), ERR_need);
    fetch(&r, r.part[1]);
    CHECK_EQ(r.need.missing, 0);
    CHECK_RC(tree_need_miss(&r.from, &part), ERR_need);
    CHECK_EQ(r.need.missing, 1); /* or a fetch would bring nothing, for ever */
    CHECK_EQ(r.need.count, 2);
    CHECK_RC(tree_need_miss(&r.from, &part), ERR_need);
    CHECK_EQ(r.need.missing, 1);
    fetch(&r, r.part[2]);
    CHECK_EQ(pins(r.part[1]), 1);
    CHECK_EQ(pins(r.part[2]), 1);
    CHECK_RC(tree_need_miss(&r.from, &head), ERR_need);
    fetch(&r, NULL);
    CHECK_RC(tree_need_miss(&r.from, &head), ERR_need);
    CHECK_EQ(r.need.missing, 1);
    kv_need_release(&r.need);
    CHECK_EQ(pins(r.part[1]) + pins(r.part[2]), 0);
    CHECK_EQ(r.node.state, 0);
}

TEST(many_reads_of_one_place_need_one_item)
{
    CLEANUP(rig_fini) struct rig r = {0};
    CHECK_OK(rig_init(&r));
    for (unsigned n = 0; n < 3 * KV_NEED_MAX; n++) {
        CHECK_OK(tree_need_keep_part(&r.from, pinned(&r, n % 4)));
        CHECK_TRUE(tree_node_pin(&r.node));
        CHECK_OK(tree_need_keep_node(&r.from, &r.node));
    }
    CHECK_EQ(r.need.count, 5);
    CHECK_EQ(pins(r.part[0]), 1);
    CHECK_EQ(r.part[0]->refs, 2);
    CHECK_EQ(r.node.state, 1);
}

TEST(a_full_list_says_so)
{
    CLEANUP(rig_fini) struct rig r = {0};
    CHECK_OK(rig_init(&r));
    for (uint32_t i = 0; i < KV_NEED_MAX - 1; i++) {
        CHECK_TRUE(tree_need_room(&r.from, r.cache, 1) != NULL);
    }
    CHECK_OK(tree_need_keep_part(&r.from, pinned(&r, 0)));
    CHECK_RC(tree_need_keep_part(&r.from, pinned(&r, 1)), ENOBUFS);
    CHECK_EQ(pins(r.part[1]), 1); /* still the caller's */
    tree_part_unpin(r.part[1]);
    CHECK_TRUE(tree_node_pin(&r.node));
    CHECK_RC(tree_need_keep_node(&r.from, &r.node), ENOBUFS);
    tree_node_unpin(&r.node);
    CHECK_TRUE(tree_need_room(&r.from, r.cache, 1) == NULL);
    struct tree_need_name name = {.block = 1};
    CHECK_RC(tree_need_miss(&r.from, &name), ENOBUFS);
    CHECK_EQ(r.need.count, KV_NEED_MAX);
    CHECK_EQ(r.need.missing, 0);
    CHECK_OK(tree_need_keep_part(&r.from, pinned(&r, 0))); /* it has this one */
}

static int need_all(struct rig *r, uint32_t i)
{
    struct tree_part *p = pinned(r, i);
    int rc = tree_need_keep_part(&r->from, p);
    if (rc < 0) {
        tree_part_unpin(p);
        return rc;
    }
    if (tree_need_room(&r->from, r->cache, 20) == NULL) {
        return -ENOMEM;
    }
    struct tree_need_name name = {.block = i, .part = i};
    rc = tree_need_miss(&r->from, &name);
    return rc == -ERR_need ? 0 : rc;
}

TEST_TORTURE(nothing_is_lost_without_memory)
{
    CLEANUP(rig_fini) struct rig r = {0};
    TRY(rig_init(&r));
    for (uint32_t i = 0; i < PARTS; i++) {
        TRY(need_all(&r, i));
    }
    CHECK_EQ(r.need.count, 3 * PARTS);
    CHECK_EQ(r.need.missing, PARTS);
}
