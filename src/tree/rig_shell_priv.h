/*
 * tree/rig_shell_priv.h -- for tests: a shell around any source that says -ERR_need at random calls
 * and lends bytes for no longer than it must.
 */
#pragma once

#include "base/rand.h"
#include "tree/rig_run_priv.h"

#define RIG_LENT_MAX 64u

struct rig_shell {
    struct tree_source base;
    struct tree_source *inner;
    struct rand *rand;
    uint32_t need_permille;
    bool short_lived;                   /* what it lends is freed as early as it may be */
    struct kv_slice lent[RIG_LENT_MAX]; /* key, then messages */
    size_t lent_count;
    struct kv_slice low, high;
};

static inline struct rig_shell *rig_shell_of(struct tree_source *s)
{
    return container_of(s, struct rig_shell, base);
}

static inline void rig_shell_forget_range(struct rig_shell *s)
{
    rig_drop(s->low);
    rig_drop(s->high);
    s->low = kv_slice_of(NULL, 0);
    s->high = kv_slice_of(NULL, 0);
}

static inline void rig_shell_forget(struct rig_shell *s)
{
    rig_shell_forget_range(s);
    while (s->lent_count > 0) {
        rig_drop(s->lent[--s->lent_count]);
    }
}

static inline struct kv_slice rig_shell_lend(struct rig_shell *s, struct kv_slice bytes)
{
    if (!s->short_lived) {
        return bytes;
    }
    CHECK(s->lent_count < RIG_LENT_MAX);
    s->lent[s->lent_count] = rig_dup(bytes);
    return s->lent[s->lent_count++];
}

static inline int rig_shell_moved(struct rig_shell *s, int rc)
{
    rig_shell_forget(s);
    if (rc == 1) {
        s->base.key = rig_shell_lend(s, s->inner->key);
        s->base.message = s->inner->message;
        s->base.message.body = rig_shell_lend(s, s->inner->message.body);
    }
    return rc;
}

static inline bool rig_shell_needs(struct rig_shell *s)
{
    return rand_chance(s->rand, s->need_permille, 1000);
}

static inline int rig_shell_seek(struct tree_source *base, struct kv_slice key)
{
    struct rig_shell *s = rig_shell_of(base);
    return rig_shell_needs(s) ? -ERR_need : rig_shell_moved(s, s->inner->ops->seek(s->inner, key));
}

static inline int rig_shell_seek_back(struct tree_source *base, struct kv_slice key)
{
    struct rig_shell *s = rig_shell_of(base);
    return rig_shell_needs(s) ? -ERR_need
                              : rig_shell_moved(s, s->inner->ops->seek_back(s->inner, key));
}

static inline int rig_shell_next(struct tree_source *base)
{
    struct rig_shell *s = rig_shell_of(base);
    return rig_shell_needs(s) ? -ERR_need : rig_shell_moved(s, s->inner->ops->next(s->inner));
}

static inline int rig_shell_prev(struct tree_source *base)
{
    struct rig_shell *s = rig_shell_of(base);
    return rig_shell_needs(s) ? -ERR_need : rig_shell_moved(s, s->inner->ops->prev(s->inner));
}

static inline int rig_shell_find(struct tree_source *base, struct kv_slice key)
{
    struct rig_shell *s = rig_shell_of(base);
    return rig_shell_needs(s) ? -ERR_need : rig_shell_moved(s, s->inner->ops->find(s->inner, key));
}

static inline int rig_shell_older(struct tree_source *base)
{
    struct rig_shell *s = rig_shell_of(base);
    if (rig_shell_needs(s)) {
        return -ERR_need;
    }
    int rc = s->inner->ops->older(s->inner);
    if (rc == 1) {
        s->base.message = s->inner->message;
        s->base.message.body = rig_shell_lend(s, s->inner->message.body);
    }
    return rc;
}

static inline void rig_shell_lend_range(struct rig_shell *s, struct tree_range *range)
{
    if (s->short_lived) {
        rig_shell_forget_range(s);
        s->low = rig_dup(range->low);
        s->high = rig_dup(range->high);
        range->low = s->low;
        range->high = s->high;
    }
}

static inline int rig_shell_covering(struct tree_source *base, struct kv_slice key,
                                     struct tree_range *ret)
{
    struct rig_shell *s = rig_shell_of(base);
    if (rig_shell_needs(s)) {
        return -ERR_need;
    }
    int rc = s->inner->ops->covering(s->inner, key, ret);
    if (rc == 0) {
        rig_shell_lend_range(s, ret);
    }
    return rc;
}

static inline int rig_shell_range(struct tree_source *base, struct kv_slice from,
                                  struct tree_range *ret)
{
    struct rig_shell *s = rig_shell_of(base);
    if (rig_shell_needs(s)) {
        return -ERR_need;
    }
    int rc = s->inner->ops->range(s->inner, from, ret); /* `from` may be what was lent before */
    if (rc == 1) {
        rig_shell_lend_range(s, ret);
    }
    return rc;
}

/* Fewer than there are, at random. */
static inline uint32_t rig_shell_plain(struct tree_source *base, struct kv_slice limit)
{
    struct rig_shell *s = rig_shell_of(base);
    const struct tree_source_ops *ops = s->inner->ops;
    uint32_t count = ops->plain == NULL ? 0 : ops->plain(s->inner, limit);
    return count == 0 ? 0 : (uint32_t)rand_below(s->rand, count + 1);
}

static inline void rig_shell_step(struct tree_source *base)
{
    struct rig_shell *s = rig_shell_of(base);
    s->inner->ops->step(s->inner);
    (void)rig_shell_moved(s, 1);
}

static const struct tree_source_ops rig_shell_ops = {
    .seek = rig_shell_seek,
    .seek_back = rig_shell_seek_back,
    .next = rig_shell_next,
    .prev = rig_shell_prev,
    .find = rig_shell_find,
    .older = rig_shell_older,
    .covering = rig_shell_covering,
    .range = rig_shell_range,
    .plain = rig_shell_plain,
    .step = rig_shell_step,
};

static inline void rig_shell_init(struct rig_shell *s, struct tree_source *inner, struct rand *rand,
                                  uint32_t need_permille, bool short_lived)
{
    *s = (struct rig_shell){.base.ops = &rig_shell_ops,
                            .inner = inner,
                            .rand = rand,
                            .need_permille = need_permille,
                            .short_lived = short_lived};
    s->base.stable = inner->stable && !short_lived;
    s->base.has_ranges = inner->has_ranges;
}

static inline void rig_shell_fini(struct rig_shell *s)
{
    rig_shell_forget(s);
}
