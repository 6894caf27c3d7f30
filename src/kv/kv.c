#include "kv/kv.h"

#include <stdlib.h>

/* Arguments are checked here once, so that engines may trust them. */

static void kv_check_key(struct kv_slice key)
{
    CHECK(key.len > 0);
    CHECK(key.len <= KV_KEY_MAX);
}

int kv_snapshot_new(struct kv *kv, struct kv_snapshot **ret)
{
    return kv->ops->snapshot(kv, ret);
}

struct kv_snapshot *kv_snapshot_free(struct kv_snapshot *s)
{
    if (s != NULL) {
        s->kv->ops->snapshot_free(s);
    }
    return NULL;
}

int kv_get(struct kv_snapshot *s, struct kv_slice key, struct kv_need *need, struct kv_slice *ret)
{
    kv_check_key(key);
    return s->kv->ops->get(s, key, need, ret);
}

static int kv_wanted_order(const void *a, const void *b)
{
    const struct kv_wanted *const *x = a, *const *y = b;
    return kv_slice_compare((*x)->key, (*y)->key);
}

int kv_multiget(struct kv_snapshot *s, struct kv_wanted *at, size_t count, struct kv_need *need)
{
    struct kv_wanted *order[KV_GETS_MAX];
    int rc = 0;
    CHECK(count <= KV_GETS_MAX);
    for (size_t i = 0; i < count; i++) {
        order[i] = &at[i];
    }
    qsort(order, count, sizeof order[0], kv_wanted_order);
    for (size_t i = 0; i < count; i++) {
        struct kv_wanted *w = order[i];
        w->rc = kv_get(s, w->key, need, &w->value);
        rc = w->rc < 0 && (rc == 0 || rc == -ERR_need) ? w->rc : rc;
    }
    return rc;
}

int kv_iter_new(struct kv_snapshot *s, const struct kv_iter_options *opt, struct kv_iter **ret)
{
    CHECK(opt->lower.len <= KV_KEY_MAX);
    CHECK(opt->upper.len <= KV_KEY_MAX);
    CHECK(opt->need != NULL);
    return s->kv->ops->iter(s, opt, ret);
}

struct kv_iter *kv_iter_free(struct kv_iter *it)
{
    if (it != NULL) {
        it->ops->free(it);
    }
    return NULL;
}

int kv_iter_seek(struct kv_iter *it, struct kv_slice key)
{
    CHECK(key.len <= KV_KEY_MAX);
    return it->ops->seek(it, key);
}

int kv_iter_seek_back(struct kv_iter *it, struct kv_slice key)
{
    CHECK(key.len <= KV_KEY_MAX);
    return it->ops->seek_back(it, key);
}

int kv_iter_next(struct kv_iter *it)
{
    CHECK(it->key.at != NULL);
    return it->ops->next(it);
}

int kv_iter_prev(struct kv_iter *it)
{
    CHECK(it->key.at != NULL);
    return it->ops->prev(it);
}

struct kv_estimate kv_estimate(struct kv_snapshot *s, struct kv_slice low, struct kv_slice high)
{
    struct kv_estimate e = {0};
    s->kv->ops->estimate(s, low, high, &e);
    return e;
}

void kv_fetch(struct kv *kv, struct kv_fetch *f)
{
    CHECK(f->done != NULL);
    CHECK(f->need != NULL);
    CHECK(f->need->kv == NULL || f->need->kv == kv);
    kv->ops->fetch(kv, f);
}

int kv_commit(struct kv *kv, const struct kv_batch *b, uint64_t index)
{
    if (b->rc != 0) {
        return b->rc;
    }
    CHECK(index >= kv->ops->applied_index(kv));
    return kv->ops->commit(kv, b, index);
}

uint64_t kv_applied_index(struct kv *kv)
{
    return kv->ops->applied_index(kv);
}

void kv_checkpoint(struct kv *kv, struct kv_checkpoint *c)
{
    CHECK(c->done != NULL);
    kv->ops->checkpoint(kv, c);
}

void kv_checkpoint_hurry(struct kv *kv)
{
    kv->ops->checkpoint_hurry(kv);
}

void kv_checkpoint_cancel(struct kv *kv)
{
    kv->ops->checkpoint_cancel(kv);
}

struct kv_checkpoints kv_checkpoints(struct kv *kv)
{
    struct kv_checkpoints ret = {0};
    kv->ops->checkpoints(kv, &ret);
    return ret;
}

void kv_room(struct kv *kv, struct kv_room *r)
{
    CHECK(r->done != NULL);
    kv->ops->room(kv, r);
}

int kv_failed(struct kv *kv, struct err *e)
{
    return kv->ops->failed(kv, e);
}

enum kv_disk kv_disk(struct kv *kv)
{
    return kv->ops->disk(kv);
}

struct kv_statistics kv_statistics(struct kv *kv)
{
    struct kv_statistics ret = {0};
    kv->ops->statistics(kv, &ret);
    CHECK(ret.engine != NULL);
    return ret;
}

unsigned kv_poll(struct kv *kv)
{
    return kv->ops->poll(kv);
}

void kv_stop(struct kv *kv, struct kv_stop *s)
{
    CHECK(s->done != NULL);
    kv->ops->stop(kv, s);
}

struct kv *kv_free(struct kv *kv)
{
    if (kv != NULL) {
        kv->ops->free(kv);
    }
    return NULL;
}
