/* tree/rig_fetch_ask_priv.h -- for tests: those who fetch. */
#pragma once

#include "tree/rig_fetch_file_priv.h"

#define ASK_NAMES_MAX 512u

/* Somebody who wants something. */
struct ask {
    enum tree_fetch_lane lane;
    struct kv_fetch fetch;
    struct kv_need need;
    struct rig *rig;
    struct tree_need_name name[ASK_NAMES_MAX];
    size_t count;
    int rc;
    bool over;
    struct ask *next; /* begun when this one is done, and that has been called: */
    void (*before_next)(struct rig *r);
    bool release; /* when it is done */
};

/* ---- asking ---- */

static inline struct ask *ask_new(struct rig *r)
{
    struct ask *a = mem_zalloc(sizeof *a);
    CHECK(a != NULL);
    a->rig = r;
    return a;
}

static inline void ask_add(struct ask *a, size_t node, uint32_t part)
{
    CHECK(a->count < ASK_NAMES_MAX);
    a->name[a->count++] = (struct tree_need_name){.block = a->rig->spec[node].block, .part = part};
}

static inline void ask_begin_in(void *ctx);

static inline void ask_done(struct kv_fetch *f, int rc)
{
    struct ask *a = container_of(f, struct ask, fetch);
    CHECK_TRUE(!a->rig->inside && !a->over);
    a->rc = rc;
    a->over = true;
    if (a->release) {
        kv_need_release(&a->need);
    }
    if (a->before_next != NULL) {
        a->before_next(a->rig);
    }
    if (a->next != NULL) {
        ask_begin_in(a->next);
    }
}

static inline void ask_begin_in(void *ctx)
{
    struct ask *a = ctx;
    struct tree_need_from from = {.kv = &a->rig->kv, .need = &a->need};
    for (size_t i = 0; i < a->count; i++) {
        CHECK_RC(tree_need_miss(&from, &a->name[i]), ERR_need);
    }
    a->over = false;
    a->fetch = (struct kv_fetch){.need = &a->need, .done = ask_done};
    a->rig->inside = true;
    tree_fetcher_fetch(a->rig->x, a->lane, &a->fetch);
    a->rig->inside = false;
}

static inline void ask_begin(struct ask *a)
{
    loop_sim_enter(a->rig->machine.loop, ask_begin_in, a);
}

static inline bool ask_is_over(void *ctx)
{
    return ((struct ask *)ctx)->over;
}

static inline void ask_release_in(void *ctx)
{
    struct ask *a = ctx;
    kv_need_release(&a->need);
    a->count = 0;
}

static inline void ask_release(struct ask *a)
{
    loop_sim_enter(a->rig->machine.loop, ask_release_in, a);
}

static inline int ask_wait(struct ask *a)
{
    rig_until(a->rig, ask_is_over, a);
    return a->rc;
}

static inline int ask_run(struct ask *a)
{
    ask_begin(a);
    return ask_wait(a);
}

static inline struct ask *ask_free(struct ask *a)
{
    if (a != NULL) {
        ask_release(a);
        mem_free(a);
    }
    return NULL;
}
DEFINE_FREEP(ask)

/* Heads of all nodes in memory and pinned. */
static inline struct ask *ask_heads(struct rig *r)
{
    struct ask *a = ask_new(r);
    for (size_t i = 0; i < r->count; i++) {
        ask_add(a, i, TREE_NEED_HEAD);
    }
    CHECK_OK(ask_run(a));
    CHECK_EQ(a->need.missing, 0);
    return a;
}

/* Everything that was asked for is there, and as it should be. */
static inline void ask_check(const struct ask *a)
{
    CHECK_EQ(a->need.missing, 0);
    for (size_t i = 0; i < a->need.count; i++) {
        const struct kv_need_item *item = &a->need.item[i];
        struct tree_need_name name = tree_need_name(item);
        size_t n = 0;
        CHECK_TRUE(item->pin != NULL);
        while (a->rig->spec[n].block != name.block) {
            n++;
        }
        if (name.part == TREE_NEED_HEAD) {
            const struct tree_node *node = item->pin;
            CHECK_EQ(node->head->header.partition_count, a->rig->made[n].header.partition_count);
        } else {
            made_check(&a->rig->spec[n], &a->rig->made[n], name.part, item->pin);
        }
    }
}

static inline void rig_evict_in(void *ctx)
{
    struct rig *r = ctx;
    (void)tree_cache_shrink(r->cache, 0);
}

static inline void rig_evict(struct rig *r)
{
    loop_sim_enter(r->machine.loop, rig_evict_in, r);
}

/* ---- nodes ---- */

static const struct made_spec leaf = {
    .slots = 8, .keys = 20, .value_len = 100, .codec = TREE_CODEC_LZ4};
static const struct made_spec inner = {
    .level = 1, .slots = 3, .keys = 20, .value_len = 30, .codec = TREE_CODEC_ZSTD};

static inline struct rig *rig_with(const struct rig_options *opt, const struct made_spec *s)
{
    struct rig *r = rig_new(opt);
    (void)rig_write(r, s);
    rig_open(r);
    return r;
}

/* About 40 KiB each on disk. */
static const struct made_spec large = {
    .slots = 32, .keys = 10, .value_len = 4000, .codec = TREE_CODEC_NONE};
