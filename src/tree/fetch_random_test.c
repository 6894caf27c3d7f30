/*
 * tree/fetch_random_test.c -- many who fetch, and everything that may happen meanwhile: little
 * memory, failing reads, damage, nodes that go, heads and parts that are let go of.
 */
#include "tree/fetch.h"

#include "testing/machine.h"
#include "testing/testing.h"
#include "tree/rig_fetch_ask_priv.h"

#define ASKS 6u
#define STEPS 400u

struct chaos {
    struct rig *rig;
    struct rand rand;
    struct ask *ask[ASKS];
    bool gone[NODES_MAX];
    size_t node; /* to be dropped */
    bool spoilt; /* reads may fail, or bring damage */
    size_t right, short_of, broken;
};

static size_t chaos_node(const struct chaos *c, uint64_t block)
{
    size_t n = 0;
    while (c->rig->spec[n].block != block) {
        n++;
    }
    return n;
}

/* What is pinned is right; what is missing may be. */
static void chaos_check(struct chaos *c, struct ask *a)
{
    size_t missing = 0;
    bool spoilt = err_is(a->rc, EIO) && c->spoilt;
    CHECK_TRUE(a->rc == 0 || a->rc == -ENOMEM || spoilt);
    for (size_t i = 0; i < a->need.count; i++) {
        const struct kv_need_item *item = &a->need.item[i];
        struct tree_need_name name = tree_need_name(item);
        size_t n = chaos_node(c, name.block);
        if (item->pin == NULL) {
            bool may = a->rc < 0 || c->gone[n] || name.part != TREE_NEED_HEAD;
            CHECK_TRUE(may); /* of a part the head may have been missing */
            missing++;
        } else if (name.part != TREE_NEED_HEAD) {
            made_check(&c->rig->spec[n], &c->rig->made[n], name.part, item->pin);
            c->right++;
        }
    }
    CHECK_EQ(a->need.missing, missing);
    c->short_of += a->rc == -ENOMEM ? 1 : 0;
    c->broken += spoilt ? 1 : 0;
}

static void chaos_retry_in(void *ctx)
{
    struct chaos *c = ctx;
    tree_fetcher_retry(c->rig->x);
}

static void chaos_drop_in(void *ctx)
{
    struct chaos *c = ctx;
    struct rig *r = c->rig;
    tree_nodes_drop(r->nodes, r->spec[c->node].block, ++r->version);
    tree_nodes_reclaim(r->nodes, r->version);
    c->gone[c->node] = true;
}

static void chaos_ask(struct chaos *c, struct ask *a)
{
    bool heads = rand_chance(&c->rand, 1, 4);
    ask_release(a);
    for (uint64_t i = rand_range(&c->rand, 1, 12); i > 0; i--) {
        size_t n = rand_below(&c->rand, c->rig->count);
        uint32_t part = (uint32_t)rand_below(&c->rand, c->rig->spec[n].slots + 1u);
        ask_add(a, n, heads ? TREE_NEED_HEAD : part);
    }
    a->lane = rand_chance(&c->rand, 1, 2) ? TREE_FETCH_READER : TREE_FETCH_JOB;
    ask_begin(a);
}

static void chaos_ask_one(struct chaos *c)
{
    struct ask *a = c->ask[rand_below(&c->rand, ASKS)];
    if (a->over) {
        chaos_check(c, a);
        chaos_ask(c, a);
    }
}

static void chaos_spoil(struct chaos *c)
{
    struct rig *r = c->rig;
    size_t n = rand_below(&c->rand, r->count);
    if (!c->spoilt) {
        return;
    }
    r->tap.fail_nth = rand_chance(&c->rand, 1, 2) ? rand_range(&c->rand, 1, 5) : 0;
    r->tap.flip_at = 0;
    if (rand_chance(&c->rand, 1, 3) && !c->gone[n]) {
        struct tree_file_place p;
        CHECK_OK(tree_file_find(r->file, r->spec[n].block, &p));
        r->tap.flip_at =
            tree_space_offset(p.extent) + rand_below(&c->rand, r->made[n].header.total_len);
    }
}

static void chaos_step(struct chaos *c)
{
    struct rig *r = c->rig;
    r->tap.reads = 0;
    switch (rand_below(&c->rand, 12)) {
    case 0:
        rig_evict(r);
        break;
    case 1:
        chaos_spoil(c);
        break;
    case 2:
        loop_sim_enter(r->machine.loop, chaos_retry_in, c);
        break;
    case 3:
        c->node = rand_below(&c->rand, r->count);
        if (rand_chance(&c->rand, 1, 10) && !c->gone[c->node]) {
            loop_sim_enter(r->machine.loop, chaos_drop_in, c);
        }
        break;
    case 4:
    case 5:
    case 6:
        chaos_ask_one(c);
        break;
    default:
        testing_machine_steps(&r->machine, rand_range(&c->rand, 1, 8));
    }
}

static void chaos_run(uint64_t seed, bool spoilt, struct chaos *sum)
{
    struct chaos c = {.spoilt = spoilt};
    rand_seed(&c.rand, seed);
    const struct rig_options opt = {.cache_bytes = rand_range(&c.rand, 50, 160) << 10,
                                    .max_queued = rand_range(&c.rand, 1, 3),
                                    .reads_max = (unsigned)rand_range(&c.rand, 1, 5)};
    CLEANUP(rig_freep) struct rig *r = rig_new(&opt);
    struct made_spec medium = {.slots = 30, .keys = 4, .value_len = 2500};
    c.rig = r;
    for (unsigned i = 0; i < NODES_MAX; i++) {
        (void)rig_write(r, i % 4 == 0 ? &medium : i % 2 == 0 ? &leaf : &inner);
    }
    rig_open(r);
    for (unsigned i = 0; i < ASKS; i++) {
        c.ask[i] = ask_new(r);
        chaos_ask(&c, c.ask[i]);
    }
    for (unsigned i = 0; i < STEPS; i++) {
        chaos_step(&c);
    }
    for (unsigned i = 0; i < ASKS; i++) {
        (void)ask_wait(c.ask[i]);
        chaos_check(&c, c.ask[i]);
    }
    for (unsigned i = 0; i < ASKS; i++) {
        c.ask[i] = ask_free(c.ask[i]);
    }
    sum->right += c.right;
    sum->short_of += c.short_of;
    sum->broken += c.broken;
}

TEST(fetch_whatever_happens)
{
    struct chaos sum = {0};
    for (unsigned i = 0; i < 16; i++) {
        chaos_run(testing_seed() + i, i % 2 == 1, &sum);
    }
    CHECK_TRUE(sum.right > 500 && sum.short_of > 5 && sum.broken > 10);
}
