/* tree/fetch_memory_test.c -- what tree/fetch.h does without memory. */
#include "tree/fetch.h"

#include "base/fault.h"
#include "testing/machine.h"
#include "testing/testing.h"
#include "tree/rig_fetch_ask_priv.h"

TEST(fetch_says_that_memory_is_missing)
{
    const struct rig_options opt = {.cache_bytes = 300u << 10};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &large);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r), *a = ask_new(r);
    struct tree_cache_info before, after;
    rig_evict(r);
    tree_cache_info(r->cache, &before);
    for (uint32_t i = 0; i < large.slots; i += 2) { /* pinned, 16 of them are too many */
        ask_add(a, 0, i);
    }
    CHECK_RC(ask_run(a), ENOMEM);
    CHECK_TRUE(a->need.missing > 0 && a->need.missing < a->need.count);
    CHECK_TRUE(!tree_fetcher_busy(r->x));
    ask_release(a);
    rig_evict(r);
    tree_cache_info(r->cache, &after);
    CHECK_TRUE(after.used <= before.used + (300u << 10) / 64); /* buffers that are kept */
    for (uint32_t i = 0; i < 4; i++) {
        ask_add(a, 0, i);
    }
    CHECK_OK(ask_run(a));
    ask_check(a);
    ask_check(heads);
}

/* Each fits alone; who comes later waits until the one before lets go. */
/* As much as the cache has, but for `room`. */
static void hog_but(struct rig *r, uint64_t room)
{
    struct tree_cache_info info;
    tree_cache_info(r->cache, &info);
    CHECK_TRUE(info.limit - info.used >= room);
    r->hogged = info.limit - info.used - room;
    CHECK_TRUE(tree_cache_charge(r->cache, r->hogged));
}

/* Buffers that were kept go when their memory is wanted. */
TEST(fetch_lets_go_of_buffers)
{
    const struct rig_options opt = {.cache_bytes = 1u << 20};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &large);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r), *a = ask_new(r);
    const struct tree_partition *p = &r->made[0].partition[5];
    uint64_t low = base_align_down(p->offset, TREE_UNIT);
    uint64_t cost = base_align_up(p->offset + p->packed_len, TREE_UNIT) - low + p->raw_len;
    hog_but(r, cost - TREE_UNIT); /* a head was read: so much is kept */
    ask_add(a, 0, 5);
    CHECK_OK(ask_run(a));
    ask_check(a);
    tree_cache_give(r->cache, r->hogged);
    ask_check(heads);
}

TEST(fetch_waits_for_memory)
{
    const struct rig_options opt = {.cache_bytes = 300u << 10};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &large);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r);
    struct ask *a[6];
    for (size_t i = 0; i < ARRAY_COUNT(a); i++) {
        a[i] = ask_new(r);
        a[i]->release = true;
        for (uint32_t p = 0; p < 3; p++) {
            ask_add(a[i], 0, (uint32_t)i * 5 + p);
        }
        ask_begin(a[i]);
    }
    for (size_t i = 0; i < ARRAY_COUNT(a); i++) {
        CHECK_OK(ask_wait(a[i]));
    }
    for (size_t i = 0; i < ARRAY_COUNT(a); i++) {
        a[i] = ask_free(a[i]);
    }
    ask_check(heads);
}

/* One after the other, and what the first one has is missing until he has been told. */
TEST(fetch_waits_for_those_who_are_told)
{
    const struct rig_options opt = {.cache_bytes = 312u << 10, .reads_max = 1};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &large);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r);
    CLEANUP(ask_freep) struct ask *a = ask_new(r), *b = ask_new(r);
    a->release = true;
    for (uint32_t p = 0; p < 6; p++) {
        ask_add(a, 0, p * 3);
        ask_add(b, 0, p * 3 + 2);
    }
    ask_begin(a);
    ask_begin(b);
    CHECK_OK(ask_wait(a));
    CHECK_OK(ask_wait(b));
    ask_check(b);
    ask_check(heads);
}

static void hog_all(struct rig *r)
{
    hog_but(r, 0);
}

/* Two are told in one go. The first one begins a third, which needs what the second one has. */
TEST(fetch_in_a_callback_waits_for_those_who_are_told)
{
    const struct rig_options opt = {.cache_bytes = 4u << 20, .reads_max = 1};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &large);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r), *first = ask_new(r);
    CLEANUP(ask_freep) struct ask *a = ask_new(r), *b = ask_new(r), *c = ask_new(r);
    ask_add(first, 0, 31);
    for (uint32_t p = 0; p < 3; p++) {
        ask_add(a, 0, p);
        ask_add(b, 0, 3 + p);
    }
    ask_add(c, 0, 20);
    a->next = c;
    a->before_next = hog_all;
    b->release = true;
    ask_begin(first);
    ask_begin(a);
    ask_begin(b);
    CHECK_OK(ask_wait(c));
    CHECK_TRUE(b->over);
    ask_check(c);
    CHECK_EQ(r->tap.reads, 1 + 3);
    tree_cache_give(r->cache, r->hogged);
    ask_check(heads);
}

/* Somebody else has all of it, and gives it back. */
static void retry_in(void *ctx)
{
    struct rig *r = ctx;
    tree_cache_give(r->cache, r->hogged);
    tree_fetcher_retry(r->x);
}

static void hog_in(void *ctx)
{
    hog_but(ctx, 0);
}

/* More than there is, and than readers may have beyond that. */
static void hog_beyond_in(void *ctx)
{
    struct rig *r = ctx;
    struct tree_cache_info info;
    tree_cache_info(r->cache, &info);
    r->hogged = info.limit + info.limit / 16 - info.used;
    tree_cache_force(r->cache, r->hogged);
}

TEST(fetch_is_tried_again)
{
    const struct rig_options opt = {.cache_bytes = 1u << 20};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &large);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r), *a = ask_new(r), *b = ask_new(r);
    ask_add(a, 0, 0);
    ask_add(b, 0, 31);
    disk_sim_slow(r->machine.disk, 1000000000);
    ask_begin(a);
    loop_sim_enter(r->machine.loop, hog_in, r);
    ask_begin(b); /* waits, because the first one is under way */
    CHECK_EQ(r->tap.reads, 1 + 1);
    loop_sim_enter(r->machine.loop, retry_in, r);
    CHECK_EQ(r->tap.reads, 1 + 2);
    CHECK_OK(ask_wait(a));
    CHECK_OK(ask_wait(b));
    ask_check(a);
    ask_check(b);
    ask_release(b);
    loop_sim_enter(r->machine.loop, hog_beyond_in, r);
    ask_add(b, 0, 20);
    CHECK_RC(ask_run(b), ENOMEM); /* nobody is under way who could give any back */
    loop_sim_enter(r->machine.loop, retry_in, r);
    CHECK_OK(ask_run(b));
    ask_check(heads);
}

/* What has the memory may keep it for ever: on a full disk nothing that is dirty can be written. */
TEST(a_reader_alone_goes_on)
{
    const struct rig_options opt = {.cache_bytes = 2u << 20};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &large);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r), *a = ask_new(r);
    struct tree_cache_info info;
    rig_evict(r);
    loop_sim_enter(r->machine.loop, hog_in, r);
    for (uint32_t i = 0; i < large.slots; i++) { /* one after the other is let go of */
        ask_add(a, 0, i);
        CHECK_OK(ask_run(a));
        ask_check(a);
        tree_cache_info(r->cache, &info);
        CHECK_TRUE(info.used > info.limit && info.used <= info.limit + info.limit / 16);
        ask_release(a);
    }
    loop_sim_enter(r->machine.loop, retry_in, r);
    ask_check(heads);
}

/* The nth allocation of the process fails. */
struct starve {
    struct rig *rig;
    struct fault *fault;
    uint64_t nth;
    unsigned failed;
};

static void starve_in(void *ctx)
{
    const struct starve *s = ctx;
    struct mem_domain *d = mem_domain_enter(NULL);
    (void)mem_domain_enter(d);
    mem_domain_set_fault(d, s->nth > 0 ? s->fault : NULL);
    fault_arm(s->fault, "mem.alloc", base_max(s->nth, 1), 1);
}

static bool starve_run(struct starve *s)
{
    CLEANUP(ask_freep) struct ask *a = ask_new(s->rig);
    uint64_t before = fault_passed(s->fault, "mem.alloc");
    struct tree_need_from from = {.kv = &s->rig->kv, .need = &a->need};
    ask_add(a, 0, 1);
    ask_add(a, 0, 8);
    ask_add(a, 1, TREE_NEED_HEAD);
    for (size_t i = 0; i < a->count; i++) {
        CHECK_RC(tree_need_miss(&from, &a->name[i]), ERR_need);
    }
    loop_sim_enter(s->rig->machine.loop, starve_in, s);
    int rc = ask_run(a);
    CHECK_TRUE(rc == 0 || rc == -ENOMEM);
    bool all = fault_passed(s->fault, "mem.alloc") - before < s->nth;
    CHECK_TRUE(rc == 0 || !all);
    s->failed += rc < 0 ? 1 : 0; /* a buffer is tried again while another one is in use */
    s->nth = 0;
    loop_sim_enter(s->rig->machine.loop, starve_in, s);
    a->count = 0;
    CHECK_OK(ask_run(a));
    ask_check(a);
    return all;
}

TEST(fetch_without_memory_of_the_heap)
{
    const struct rig_options opt = {0};
    uint64_t nth = 0;
    unsigned failed = 0;
    bool all = false;
    CLEANUP(fault_freep) struct fault *fault = fault_new();
    while (!all) {
        CLEANUP(rig_freep) struct rig *r = rig_new(&opt);
        (void)rig_write(r, &leaf);
        (void)rig_write(r, &inner);
        rig_open(r);
        CLEANUP(ask_freep) struct ask *head = ask_new(r);
        ask_add(head, 0, TREE_NEED_HEAD);
        CHECK_OK(ask_run(head));
        struct starve s = {.rig = r, .fault = fault, .nth = ++nth};
        all = starve_run(&s);
        failed += s.failed;
        CHECK_TRUE(nth < 100);
    }
    CHECK_TRUE(failed > 8);
}
