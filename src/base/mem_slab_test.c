#include "base/mem_slab.h"

#include "base/rand.h"
#include "testing/testing.h"

#include <pthread.h>
#include <string.h>

TEST(mem_slab_wastes_an_eighth_at_most)
{
    size_t before = 0;
    for (size_t size = 1; size < (8u << 20); size += 1 + size / 97) {
        size_t rounded = mem_slab_rounded(size);
        CHECK_TRUE(rounded >= size && rounded >= before && rounded % MEM_SLAB_ALIGN == 0);
        CHECK_TRUE(size <= 512 ? rounded < size + 64 : (rounded - size) * 8 < size);
        CHECK_EQ(mem_slab_rounded(rounded), rounded);
        before = rounded;
    }
    for (size_t pages = 1; pages <= 64; pages++) {
        size_t rounded = mem_slab_rounded(pages * MEM_SLAB_PAGE);
        CHECK_TRUE(rounded % MEM_SLAB_PAGE == 0);
    }
    CHECK_EQ(mem_slab_rounded(256u << 10), 256u << 10);
}

/* ---- a model: who has what, and what the account has to say about it ---- */

#define OBJECTS 400u
struct model {
    struct mem_budget budget;
    struct mem_slab *slab;
    uint8_t *at[OBJECTS];
    size_t size[OBJECTS];
    uint8_t mark[OBJECTS];
    uint64_t asked, rounded;
};

static void model_check(struct model *m)
{
    struct mem_slab_info i;
    mem_slab_info(m->slab, &i);
    CHECK_EQ(i.asked_bytes, m->asked);
    CHECK_EQ(i.rounded_bytes, m->rounded);
    CHECK_TRUE(i.resident_bytes >= i.rounded_bytes + i.kept_bytes * 7 / 8);
    CHECK_TRUE(m->budget.used_bytes >= i.resident_bytes); /* what is charged is what is taken */
    CHECK_EQ(m->budget.used_bytes, m->asked + i.charged_bytes);
}

static void model_put(struct model *m, size_t i)
{
    if (m->at[i] == NULL) {
        return;
    }
    CHECK_EQ(m->at[i][0], m->mark[i]);
    CHECK_EQ(m->at[i][m->size[i] / 2], m->mark[i]);
    CHECK_EQ(m->at[i][m->size[i] - 1], m->mark[i]);
    mem_slab_put(m->slab, m->at[i], m->size[i]);
    mem_budget_give(&m->budget, m->size[i]);
    m->asked -= m->size[i];
    m->rounded -= mem_slab_rounded(m->size[i]);
    m->at[i] = NULL;
}

static int model_get(struct model *m, size_t i, size_t size)
{
    uint8_t *p = mem_slab_get(m->slab, size);
    if (p == NULL) {
        return -ENOMEM;
    }
    CHECK_EQ((uintptr_t)p % (size % MEM_SLAB_PAGE == 0 ? MEM_SLAB_PAGE : MEM_SLAB_ALIGN), 0);
    m->at[i] = p;
    m->size[i] = size;
    m->mark[i] = (uint8_t)(i * 7 + size);
    memset(p, m->mark[i], size);
    mem_budget_force(&m->budget, size);
    m->asked += size;
    m->rounded += mem_slab_rounded(size);
    return 0;
}

static size_t model_size(struct rand *r)
{
    static const size_t most[] = {100, 1000, 17000, 17000, 17000, 70000, 300000};
    size_t size = 1 + rand_below(r, most[rand_below(r, ARRAY_COUNT(most))]);
    return rand_below(r, 8) == 0 ? (size_t)base_align_up(size, MEM_SLAB_PAGE) : size;
}

static int model_run(struct model *m, struct rand *r, unsigned turns)
{
    int rc = 0;
    for (unsigned turn = 0; turn < turns && rc == 0; turn++) {
        size_t i = rand_below(r, OBJECTS);
        bool had = m->at[i] != NULL;
        model_put(m, i);
        if (!had || rand_below(r, 4) == 0) {
            rc = model_get(m, i, model_size(r));
        }
        if (turn % 16 == 0) {
            model_check(m);
        }
    }
    return rc;
}

static void model_end(struct model *m)
{
    for (size_t i = 0; i < OBJECTS; i++) {
        model_put(m, i);
    }
    model_check(m);
    m->slab = mem_slab_free(m->slab);
    CHECK_EQ(m->budget.used_bytes, 0);
}

TEST_TORTURE(mem_slab_charges_what_it_takes)
{
    struct model m = {.asked = 0};
    struct rand r;
    rand_seed(&r, testing_seed());
    mem_budget_init(&m.budget, NULL, 1u << 30);
    struct mem_slab_options opt = {.budget = &m.budget, .keep_bytes = rand_below(&r, 4) << 20};
    m.slab = mem_slab_new(&opt);
    TRY_PTR(m.slab);
    int rc = model_run(&m, &r, testing_torturing() ? 300 : 4000);
    CHECK_TRUE(rc == 0 || testing_torturing());
    model_end(&m);
    TRY(rc);
}

/* ---- what goes back ---- */

TEST_TORTURE(mem_slab_gives_pages_back)
{
    struct model m = {.asked = 0};
    struct mem_slab_info i;
    int rc = 0;
    mem_budget_init(&m.budget, NULL, 1u << 30);
    struct mem_slab_options opt = {.budget = &m.budget};
    m.slab = mem_slab_new(&opt);
    TRY_PTR(m.slab);
    for (size_t n = 0; n < 100 && rc == 0; n++) {
        rc = model_get(&m, n, 17000);
    }
    mem_slab_info(m.slab, &i);
    CHECK_TRUE(rc < 0 || i.resident_bytes >= UINT64_C(100) * 17000);
    for (size_t n = 0; n < 100 && rc == 0; n++) {
        if (n % 10 != 0) {
            model_put(&m, n); /* nine of ten: the others keep the region */
        }
    }
    mem_slab_info(m.slab, &i);
    if (rc == 0) { /* two more pages for each that is left, at both ends, and one for the region */
        CHECK_TRUE(i.resident_bytes <= 10 * (20480 + 2 * 4096) + 4096);
        CHECK_TRUE(i.returned > 0 && i.kept_bytes == 0);
        CHECK_TRUE(m.budget.used_bytes <= 10 * (20480 + 2 * 4096) + 4096);
    }
    uint8_t *again = rc == 0 ? mem_slab_get(m.slab, 18000) : NULL;
    if (again != NULL) { /* of the same class: its pages are new ones */
        CHECK_EQ(again[4096] | again[8192] | again[9000], 0);
        mem_slab_put(m.slab, again, 18000);
    }
    model_end(&m);
    TRY(rc);
}

TEST_TORTURE(mem_slab_keeps_some_for_the_next)
{
    struct mem_budget budget;
    struct mem_slab_info i;
    mem_budget_init(&budget, NULL, 1u << 30);
    struct mem_slab_options opt = {.budget = &budget, .keep_bytes = 8u << 20};
    CLEANUP(mem_slab_freep) struct mem_slab *s = mem_slab_new(&opt);
    TRY_PTR(s);
    CHECK_EQ(budget.used_bytes, 8u << 20); /* whether they are needed or not */
    static const size_t sizes[] = {16384, 3u << 20};
    for (size_t n = 0; n < ARRAY_COUNT(sizes); n++) {
        uint8_t *a = mem_slab_get(s, sizes[n]);
        TRY_PTR(a);
        memset(a, 1, sizes[n]);
        mem_slab_put(s, a, sizes[n]);
        mem_slab_info(s, &i);
        CHECK_TRUE(i.kept_bytes >= sizes[n] && i.returned == 0);
        uint8_t *b = mem_slab_get(s, sizes[n]);
        CHECK_TRUE(a == b);
        mem_slab_put(s, b, sizes[n]);
    }
    CHECK_EQ(budget.used_bytes, 8u << 20);
}

TEST_TORTURE(mem_slab_plain_is_mem_aligned)
{
    struct mem_budget budget;
    mem_budget_init(&budget, NULL, 0);
    struct mem_slab_options opt = {.budget = &budget, .keep_bytes = 8u << 20, .plain = true};
    CLEANUP(mem_slab_freep) struct mem_slab *s = mem_slab_new(&opt);
    TRY_PTR(s);
    uint8_t *a = mem_slab_get(s, 8192), *b = mem_slab_get(s, 100);
    CHECK_EQ((uintptr_t)a % 4096 + (uintptr_t)b % 64, 0);
    mem_slab_put(s, a, 8192);
    mem_slab_put(s, b, 100);
    mem_slab_put(s, NULL, 100);
    CHECK_EQ(budget.used_bytes, 0);
    CHECK_TRUE(mem_slab_get(s, SIZE_MAX) == NULL);
}

/* ---- threads ---- */

struct together {
    struct mem_slab *slab;
    struct mem_budget *budget;
    uint64_t seed;
};

static void *run_alone(void *arg)
{
    struct together *t = arg;
    struct rand r;
    uint8_t *at[32] = {NULL};
    size_t size[32] = {0};
    rand_seed(&r, t->seed);
    for (unsigned turn = 0; turn < 3000 + ARRAY_COUNT(at); turn++) {
        size_t i = turn % ARRAY_COUNT(at);
        if (at[i] != NULL) {
            CHECK_TRUE(at[i][0] == (uint8_t)t->seed && at[i][size[i] - 1] == (uint8_t)t->seed);
            mem_slab_put(t->slab, at[i], size[i]);
            mem_budget_give(t->budget, size[i]);
            at[i] = NULL;
        }
        if (turn < 3000) {
            size[i] = model_size(&r);
            at[i] = mem_slab_get(t->slab, size[i]);
            CHECK_TRUE(at[i] != NULL);
            mem_budget_force(t->budget, size[i]);
            at[i][0] = (uint8_t)t->seed;
            at[i][size[i] - 1] = (uint8_t)t->seed;
        }
    }
    return NULL;
}

TEST(mem_slab_is_for_all_threads)
{
    struct mem_budget budget;
    mem_budget_init(&budget, NULL, 1u << 30);
    struct mem_slab_options opt = {.budget = &budget, .keep_bytes = 1u << 20};
    struct mem_slab *s = mem_slab_new(&opt);
    struct together t[3];
    pthread_t thread[3];
    CHECK_TRUE(s != NULL);
    for (size_t i = 0; i < 3; i++) {
        t[i] = (struct together){.slab = s, .budget = &budget, .seed = testing_seed() + i};
        CHECK_EQ(pthread_create(&thread[i], NULL, run_alone, &t[i]), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    }
    mem_slab_free(s);
    CHECK_EQ(budget.used_bytes, 0);
}
