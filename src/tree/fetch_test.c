/* tree/fetch_test.c -- tree/fetch.h on a simulated disk. Memory: fetch_memory_test.c. */
#include "tree/fetch.h"

#include "testing/machine.h"
#include "testing/testing.h"
#include "tree/rig_fetch_ask_priv.h"

static uint64_t rig_at(struct rig *r, uint64_t block)
{
    struct tree_file_place p;
    CHECK_OK(tree_file_find(r->file, block, &p));
    return tree_space_offset(p.extent);
}

TEST(fetch_brings_heads_and_parts)
{
    const struct rig_options opt = {0};
    CLEANUP(rig_freep) struct rig *r = rig_new(&opt);
    struct rand rand;
    rand_seed(&rand, testing_seed());
    (void)rig_write(r, &leaf);
    (void)rig_write(r, &inner);
    (void)rig_write(r, &leaf);
    rig_open(r);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r);
    ask_check(heads);
    CHECK_EQ(r->tap.reads, 3);
    for (unsigned round = 0; round < 20; round++) {
        CLEANUP(ask_freep) struct ask *a = ask_new(r), *b = ask_new(r);
        for (unsigned i = 0; i < 30; i++) {
            size_t n = rand_below(&rand, r->count);
            uint32_t part = (uint32_t)rand_below(&rand, r->spec[n].slots + 1u);
            ask_add(rand_chance(&rand, 1, 2) ? a : b, n, part);
            ask_add(rand_chance(&rand, 1, 2) ? a : b, n, part);
        }
        ask_begin(a);
        ask_begin(b);
        CHECK_OK(ask_wait(a));
        CHECK_OK(ask_wait(b));
        ask_check(a);
        ask_check(b);
        ask_release(a);
        ask_release(b);
        if (rand_chance(&rand, 1, 2)) {
            rig_evict(r);
        }
    }
    CHECK_TRUE(r->times.count[TREE_TIME_READ] == r->tap.reads);
    CHECK_TRUE(r->times.bytes[TREE_TIME_DECOMPRESS] > 0);
    CHECK_TRUE(r->times.count[TREE_TIME_DESERIALISE] > 3);
}

TEST(fetch_reads_once_what_several_want)
{
    const struct rig_options opt = {0};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &leaf);
    CLEANUP(ask_freep) struct ask *a = ask_new(r), *b = ask_new(r), *c = ask_new(r);
    ask_add(a, 0, TREE_NEED_HEAD);
    ask_add(b, 0, TREE_NEED_HEAD);
    ask_begin(a);
    ask_begin(b);
    CHECK_OK(ask_wait(a));
    CHECK_OK(ask_wait(b));
    CHECK_EQ(r->tap.reads, 1);
    a->count = 0;
    b->count = 0;
    for (uint32_t i = 0; i <= leaf.slots; i++) {
        ask_add(a, 0, i);
        ask_add(b, 0, leaf.slots - i);
    }
    ask_begin(a);
    ask_begin(b);
    CHECK_OK(ask_wait(a));
    CHECK_OK(ask_wait(b));
    ask_check(a);
    ask_check(b);
    CHECK_EQ(r->tap.reads, 2); /* all parts by one */
    CHECK_TRUE(r->tap.log[1].len <= r->made[0].header.total_len);
    for (uint32_t i = 0; i <= leaf.slots; i++) {
        ask_add(c, 0, i);
    }
    CHECK_OK(ask_run(c));
    CHECK_EQ(r->tap.reads, 2);
    c->count = 0;
    CHECK_OK(ask_run(c)); /* nothing is missing */
    ask_check(c);
}

TEST(fetch_of_a_part_without_its_head_brings_the_head)
{
    const struct rig_options opt = {0};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &inner);
    CLEANUP(ask_freep) struct ask *a = ask_new(r);
    ask_add(a, 0, 1);
    ask_add(a, 0, 2);
    CHECK_OK(ask_run(a));
    CHECK_EQ(a->need.missing, 2);
    CHECK_EQ(r->tap.reads, 1);
    a->count = 0;
    CHECK_OK(ask_run(a));
    ask_check(a);
    CHECK_EQ(r->tap.reads, 2);
}

/* What is written now has another birth. */
static void freeze_in(void *ctx)
{
    struct rig *r = ctx;
    uint64_t k = 0;
    CHECK_OK(tree_file_freeze(r->file, &k));
}

TEST(fetch_reads_older_extents)
{
    const struct rig_options opt = {0};
    CLEANUP(rig_freep) struct rig *r = rig_new(&opt);
    struct made_spec newer = inner;
    (void)rig_write(r, &inner);
    loop_sim_enter(r->machine.loop, freeze_in, r);
    newer.block = r->spec[0].block;
    newer.older = &r->made[0].header;
    newer.older_at = rig_at(r, newer.block);
    (void)rig_write(r, &newer);
    rig_open(r);
    r->spec[0] = r->spec[1]; /* the same block: what is there now */
    r->made[0] = r->made[1];
    CLEANUP(ask_freep) struct ask *a = ask_new(r), *heads = ask_heads(r);
    for (uint32_t i = 0; i <= inner.slots; i++) {
        ask_add(a, 1, i);
    }
    CHECK_OK(ask_run(a));
    ask_check(a);
    CHECK_EQ(r->tap.reads, 3); /* the head, and each extent */
    ask_check(heads);
}

TEST(fetch_joins_what_lies_close)
{
    const struct rig_options opt = {0};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &large);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r), *a = ask_new(r), *b = ask_new(r);
    static const uint32_t part[] = {9, 3, 7, 4, 12, 20, 13};
    for (size_t i = 0; i < ARRAY_COUNT(part); i++) { /* one between is too near, two are not */
        ask_add(a, 0, part[i]);
    }
    CHECK_OK(ask_run(a));
    ask_check(a);
    CHECK_EQ(r->tap.reads, 1 + 4); /* 3 4, 7 9, 12 13, 20 */
    ask_release(a);
    rig_evict(r);
    r->tap.reads = 0;
    for (uint32_t i = 0; i < large.slots; i++) {
        ask_add(b, 0, i);
    }
    CHECK_OK(ask_run(b));
    ask_check(b);
    CHECK_EQ(r->tap.reads, 2);
    CHECK_TRUE(r->tap.log[0].len <= 1u << 20 && r->tap.log[1].len <= 1u << 20);
    ask_check(heads);
}

TEST(fetch_reads_so_many_at_a_time)
{
    const struct rig_options opt = {.reads_max = 2, .max_queued = 1};
    CLEANUP(rig_freep) struct rig *r = rig_new(&opt);
    for (unsigned i = 0; i < NODES_MAX; i++) {
        (void)rig_write(r, i % 2 == 0 ? &leaf : &inner);
    }
    rig_open(r);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r), *a = ask_new(r);
    for (unsigned i = 0; i < NODES_MAX; i++) {
        ask_add(a, i, 0);
        ask_add(a, i, 3);
    }
    CHECK_OK(ask_run(a));
    ask_check(a);
    CHECK_EQ(r->tap.in_flight_max, 2);
    CHECK_EQ(r->tap.reads, 2 * NODES_MAX);
    ask_check(heads);
}

/* Somebody who reads does not wait until a job has all that it has asked for before; what both want
 * is read once. */
TEST(readers_come_before_jobs)
{
    const struct rig_options opt = {.reads_max = 2, .max_queued = 1};
    CLEANUP(rig_freep) struct rig *r = rig_new(&opt);
    for (unsigned i = 0; i < NODES_MAX; i++) {
        (void)rig_write(r, i % 2 == 0 ? &leaf : &inner);
    }
    rig_open(r);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r), *job = ask_new(r), *reader = ask_new(r);
    for (unsigned i = 0; i < NODES_MAX; i++) {
        ask_add(job, i, 0);
        ask_add(job, i, 3);
    }
    job->lane = TREE_FETCH_JOB;
    ask_add(reader, NODES_MAX - 1, 3);
    size_t before = r->tap.reads;
    ask_begin(job);
    ask_begin(reader);
    rig_until(r, ask_is_over, reader);
    CHECK_TRUE(!job->over);
    struct tree_file_place at;
    CHECK_OK(tree_file_find(r->file, r->spec[NODES_MAX - 1].block, &at));
    uint64_t from = tree_space_offset(at.extent), nth = before;
    while (nth < r->tap.reads && (r->tap.log[nth].offset < from ||
                                  r->tap.log[nth].offset >= from + tree_space_bytes(at.extent))) {
        nth++;
    }
    CHECK_TRUE(nth <= before + 3); /* two were under way already */
    ask_check(reader);
    rig_until(r, ask_is_over, job);
    ask_check(job);
    CHECK_EQ(r->tap.reads, 2 * NODES_MAX + 1); /* what both want once; not together with the rest */
    ask_check(heads);
}

static void ahead_in(void *ctx)
{
    struct rig *r = ctx;
    struct tree_node *node = tree_nodes_find(r->nodes, r->spec[0].block, r->version);
    CHECK_TRUE(node != NULL);
    tree_fetcher_ahead(r->x, node, 1, UINT32_MAX);
}

static bool ahead_is_over(void *ctx)
{
    return !tree_fetcher_busy(((struct rig *)ctx)->x);
}

static void ahead_run(struct rig *r)
{
    unsigned idle = r->tap.idle;
    loop_sim_enter(r->machine.loop, ahead_in, r);
    rig_until(r, ahead_is_over, r);
    testing_machine_steps(&r->machine, 20);
    CHECK_EQ(r->tap.idle, idle + 1); /* whoever waits for its end is told */
}

/* First the head, then in one read all parts but the first, for nobody. */
TEST(fetch_reads_ahead)
{
    const struct rig_options opt = {0};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &leaf);
    CLEANUP(ask_freep) struct ask *heads = ask_new(r), *a = ask_new(r), *b = ask_new(r);
    ahead_run(r);
    ask_add(heads, 0, TREE_NEED_HEAD);
    CHECK_OK(ask_run(heads));
    CHECK_EQ(r->tap.reads, 1);
    ahead_run(r);
    CHECK_EQ(r->tap.reads, 2);
    for (uint32_t i = 1; i <= leaf.slots; i++) {
        ask_add(a, 0, i);
    }
    CHECK_OK(ask_run(a));
    ask_check(a);
    CHECK_EQ(r->tap.reads, 2); /* they were there */
    ask_add(b, 0, 0);
    CHECK_OK(ask_run(b));
    CHECK_EQ(r->tap.reads, 3); /* this one was not */
}

/* Damage is nobody's business until somebody asks; who asks meanwhile waits for the same read. */
TEST(fetch_ahead_may_fail)
{
    const struct rig_options opt = {0};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &leaf);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r), *a = ask_new(r), *b = ask_new(r);
    const struct tree_partition *p = &r->made[0].partition[2];
    r->tap.flip_at = rig_at(r, r->spec[0].block) + p->offset;
    ahead_run(r);
    ask_add(a, 0, 2);
    CHECK_ERR(ask_run(a), ERR_corrupt);
    r->tap.flip_at = 0;
    r->tap.reads = 0;
    rig_evict(r);
    loop_sim_enter(r->machine.loop, ahead_in, r);
    ask_add(b, 0, 2);
    CHECK_OK(ask_run(b));
    ask_check(b);
    CHECK_EQ(r->tap.reads, 1);
    rig_until(r, ahead_is_over, r);
    ask_check(heads);
}

/* With an executor that takes one job the loop unpacks itself. */
TEST(fetch_works_when_the_executor_is_full)
{
    const struct rig_options opt = {.max_queued = 1};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &large);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r), *a = ask_new(r);
    for (uint32_t i = 0; i < large.slots; i += 3) {
        ask_add(a, 0, i);
    }
    CHECK_OK(ask_run(a));
    ask_check(a);
    CHECK_EQ(r->tap.reads, 1 + 11);
    ask_check(heads);
}

/* ---- failures ---- */

static const struct made_spec small_leaf = {
    .slots = 3, .keys = 3, .value_len = 10, .codec = TREE_CODEC_NONE};
static const struct made_spec small_inner = {
    .level = 1, .slots = 2, .keys = 3, .value_len = 10, .codec = TREE_CODEC_LZ4};

static void check_names(struct rig *r, const char *what)
{
    char block[32];
    const struct err *e = tree_fetcher_error(r->x, NULL);
    (void)snprintf(block, sizeof block, " %u", (unsigned)r->spec[0].block);
    CHECK_TRUE(strstr(e->text, block) != NULL && strstr(e->text, what) != NULL);
}

TEST(fetch_tells_of_reads_that_fail)
{
    const struct rig_options opt = {0};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &leaf);
    CLEANUP(ask_freep) struct ask *a = ask_new(r), *b = ask_new(r), *c = ask_new(r);
    ask_add(a, 0, TREE_NEED_HEAD);
    ask_add(b, 0, TREE_NEED_HEAD);
    r->tap.fail_nth = 1;
    ask_begin(a);
    ask_begin(b);
    CHECK_RC(ask_wait(a), EIO);
    CHECK_RC(ask_wait(b), EIO);
    CHECK_EQ(a->need.missing, 1);
    check_names(r, "read of 4096 bytes");
    CHECK_OK(ask_run(a));
    ask_check(a);
    for (uint32_t i = 0; i < leaf.slots; i++) {
        ask_add(c, 0, i);
    }
    r->tap.fail_nth = 1;
    CHECK_RC(ask_run(c), EIO);
    CHECK_EQ(c->need.missing, leaf.slots);
    check_names(r, "read of");
    CHECK_OK(ask_run(c));
    ask_check(c);
}

TEST(fetch_has_few_codes)
{
    const struct rig_options opt = {0};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &leaf);
    CLEANUP(ask_freep) struct ask *a = ask_new(r);
    ask_add(a, 0, TREE_NEED_HEAD);
    r->tap.fail_nth = 1;
    r->tap.fail_rc = -ERR_busy; /* too many requests */
    CHECK_RC(ask_run(a), ENOMEM);
    r->tap.fail_nth = 1;
    r->tap.fail_rc = -ENXIO;
    CHECK_RC(ask_run(a), EIO);
    check_names(r, err_text(-ENXIO));
    CHECK_OK(ask_run(a));
}

/* Flips each of `len` bytes behind `at` in turn. */
static void check_damage(struct rig *r, uint32_t part, uint64_t at, uint32_t len, const char *what)
{
    for (uint32_t i = 0; i < len; i++) {
        CLEANUP(ask_freep) struct ask *a = ask_new(r);
        ask_add(a, 0, part);
        r->tap.flip_at = at + i;
        CHECK_ERR(ask_run(a), ERR_corrupt);
        check_names(r, what);
        CHECK_EQ(a->need.missing, 1);
        r->tap.flip_at = 0;
        r->tap.reads = 0;
    }
    CLEANUP(ask_freep) struct ask *a = ask_new(r);
    ask_add(a, 0, part);
    CHECK_OK(ask_run(a));
    ask_check(a);
}

static void check_damage_of(const struct made_spec *s)
{
    const struct rig_options opt = {0};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, s);
    const struct made *m = &r->made[0];
    uint64_t at = rig_at(r, r->spec[0].block);
    char what[80];
    (void)snprintf(what, sizeof what, "at byte %llu", (unsigned long long)at);
    check_damage(r, TREE_NEED_HEAD, at, m->head_len, what);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r);
    for (uint32_t i = 0; i <= s->slots; i++) {
        const struct tree_partition *p = &m->partition[i];
        (void)snprintf(what, sizeof what, "partition %u at offset %u of the extent at 0x%llx",
                       (unsigned)i, (unsigned)p->offset, (unsigned long long)at);
        check_damage(r, i, at + p->offset, p->packed_len, what);
    }
}

TEST(fetch_finds_damage)
{
    check_damage_of(&small_leaf);
    check_damage_of(&small_inner);
}

/* Soundly written, but not what the header says. */
TEST(fetch_opens_what_it_brings)
{
    const struct rig_options opt = {0};
    struct made_spec s = small_leaf;
    s.lies = true;
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &s);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r), *a = ask_new(r), *b = ask_new(r);
    ask_add(a, 0, 1);
    CHECK_RC(ask_run(a), ERR_bad_value);
    check_names(r, "partition 1");
    ask_add(b, 0, 2);
    CHECK_OK(ask_run(b));
    ask_check(b);
    ask_check(heads);
}

/* One part of a read is damaged: who wants the others gets them. */
TEST(fetch_fails_for_those_who_want_it)
{
    const struct rig_options opt = {.reads_max = 1};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &leaf);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r), *first = ask_new(r);
    CLEANUP(ask_freep) struct ask *a = ask_new(r), *b = ask_new(r), *both = ask_new(r);
    ask_add(first, 0, 7);
    ask_add(a, 0, 1);
    ask_add(b, 0, 2);
    ask_add(both, 0, 2);
    ask_add(both, 0, 1);
    r->tap.flip_at = rig_at(r, r->spec[0].block) + r->made[0].partition[1].offset + 5;
    ask_begin(first);
    ask_begin(a);
    ask_begin(b);
    ask_begin(both);
    CHECK_OK(ask_wait(first));
    CHECK_ERR(ask_wait(a), ERR_corrupt);
    CHECK_OK(ask_wait(b));
    CHECK_ERR(ask_wait(both), ERR_corrupt);
    CHECK_EQ(both->need.missing, 1);
    ask_check(b);
    CHECK_EQ(r->tap.reads, 1 + 2);
    ask_check(heads);
}

/* What was not begun when a fetch failed is not read, unless somebody else wants it. */
TEST(fetch_that_failed_wants_nothing_more)
{
    const struct rig_options opt = {.reads_max = 1};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &large);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r), *a = ask_new(r), *b = ask_new(r);
    for (uint32_t i = 0; i < 5; i++) { /* too far from each other for one read */
        ask_add(a, 0, i * 4);
    }
    ask_add(b, 0, 12);
    r->tap.fail_nth = 2;
    ask_begin(a);
    ask_begin(b);
    CHECK_RC(ask_wait(a), EIO);
    CHECK_OK(ask_wait(b));
    ask_check(b);
    CHECK_EQ(a->need.missing, 4);
    CHECK_EQ(r->tap.reads, 1 + 3);
    ask_check(heads);
}

/* ---- what is gone ---- */

static void drop_in(void *ctx)
{
    struct rig *r = ctx;
    tree_nodes_drop(r->nodes, r->spec[0].block, ++r->version);
    tree_nodes_reclaim(r->nodes, r->version);
}

static void check_gone(uint32_t part, bool fails, unsigned steps)
{
    const struct rig_options opt = {.reads_max = 1};
    CLEANUP(rig_freep) struct rig *r = rig_new(&opt);
    (void)rig_write(r, &leaf);
    (void)rig_write(r, &inner);
    rig_open(r);
    CLEANUP(ask_freep) struct ask *heads = part == TREE_NEED_HEAD ? ask_new(r) : ask_heads(r);
    CLEANUP(ask_freep) struct ask *a = ask_new(r);
    ask_add(a, 0, part);
    ask_add(a, 1, part);
    r->tap.fail_nth = fails ? 1 : 0;
    ask_begin(a);
    testing_machine_steps(&r->machine, steps);
    loop_sim_enter(r->machine.loop, drop_in, r);
    int rc = ask_wait(a);
    CHECK_TRUE(rc == 0 || (rc == -EIO && fails && steps > 0));
    CHECK_TRUE(a->need.missing == 1 || steps > 0);
}

TEST(fetch_passes_over_what_is_gone)
{
    for (unsigned steps = 0; steps < 12; steps++) {
        check_gone(TREE_NEED_HEAD, false, steps);
        check_gone(TREE_NEED_HEAD, true, steps);
        check_gone(2, false, steps);
        check_gone(2, true, steps);
    }
}

TEST(fetch_passes_over_what_never_was)
{
    const struct rig_options opt = {.reads_max = 1};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &leaf);
    CLEANUP(ask_freep) struct ask *heads = ask_heads(r), *a = ask_new(r);
    uint64_t block = r->spec[0].block;
    a->name[0] = (struct tree_need_name){.block = block, .part = leaf.slots + 1u};
    a->name[1] = (struct tree_need_name){.block = block, .version = 1, .part = 1};
    a->name[2] = (struct tree_need_name){.block = 999, .part = TREE_NEED_HEAD};
    a->name[3] = (struct tree_need_name){.block = block, .part = 3};
    a->count = 4;
    CHECK_OK(ask_run(a));
    CHECK_EQ(a->need.missing, 3);
    CHECK_TRUE(a->need.item[3].pin != NULL && a->need.item[0].pin == NULL);
    ask_check(heads);
}

/* A head that was waited for is gone before its turn comes. */
TEST(fetch_does_not_read_what_is_gone)
{
    const struct rig_options opt = {.reads_max = 1};
    CLEANUP(rig_freep) struct rig *r = rig_new(&opt);
    (void)rig_write(r, &leaf);
    (void)rig_write(r, &inner);
    rig_open(r);
    CLEANUP(ask_freep) struct ask *a = ask_new(r), *b = ask_new(r);
    ask_add(a, 1, TREE_NEED_HEAD);
    ask_add(b, 0, TREE_NEED_HEAD);
    ask_begin(a);
    ask_begin(b);
    loop_sim_enter(r->machine.loop, drop_in, r);
    CHECK_OK(ask_wait(a));
    CHECK_OK(ask_wait(b));
    CHECK_EQ(b->need.missing, 1);
    CHECK_EQ(r->tap.reads, 1);
}

/* ---- life ---- */

TEST(fetch_may_follow_in_a_callback)
{
    const struct rig_options opt = {.reads_max = 2};
    CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &leaf);
    struct ask *a[8];
    for (size_t i = ARRAY_COUNT(a); i > 0; i--) {
        a[i - 1] = ask_new(r);
        a[i - 1]->next = i < ARRAY_COUNT(a) ? a[i] : NULL;
        ask_add(a[i - 1], 0, i == 1 ? TREE_NEED_HEAD : (uint32_t)i);
    }
    CHECK_TRUE(!tree_fetcher_busy(r->x));
    ask_begin(a[0]);
    CHECK_TRUE(tree_fetcher_busy(r->x));
    CHECK_OK(ask_wait(a[ARRAY_COUNT(a) - 1]));
    CHECK_TRUE(!tree_fetcher_busy(r->x));
    for (size_t i = 0; i < ARRAY_COUNT(a); i++) {
        CHECK_EQ(a[i]->rc, 0);
        ask_check(a[i]);
        a[i] = ask_free(a[i]);
    }
}

/* The process dies at any moment: whatever it held goes with it. */
TEST(fetch_dies_with_its_process)
{
    unsigned early = 0;
    for (unsigned steps = 0; steps < 40; steps++) {
        const struct rig_options opt = {.reads_max = 2};
        CLEANUP(rig_freep) struct rig *r = rig_with(&opt, &large);
        CLEANUP(ask_freep) struct ask *heads = ask_heads(r);
        struct ask *a = ask_new(r);
        for (uint32_t i = 0; i < large.slots; i += 4) {
            ask_add(a, 0, i);
        }
        ask_begin(a);
        testing_machine_steps(&r->machine, steps);
        early += tree_fetcher_busy(r->x) ? 1 : 0;
        testing_machine_kill(&r->machine, false);
        r->x = NULL;
        mem_free(a);
    }
    CHECK_TRUE(early > 5);
}
