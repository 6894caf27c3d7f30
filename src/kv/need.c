#include "kv/need.h"

#include "base/mem.h"
#include "kv/kv.h"

struct kv_need_item *kv_need_find(const struct kv_need *n, uint64_t id0, uint64_t id1)
{
    for (size_t i = n->count; i > 0; i--) { /* newest first: what was just missed is asked again */
        struct kv_need_item *item = &n->item[i - 1];
        if (item->id[0] == id0 && item->id[1] == id1) {
            return item;
        }
    }
    return NULL;
}

int kv_need_add(struct kv_need *n, struct kv *kv, uint64_t id0, uint64_t id1)
{
    CHECK(n->kv == NULL || n->kv == kv);
    if (kv_need_find(n, id0, id1) != NULL) {
        return 0;
    }
    if (n->count >= KV_NEED_MAX) {
        return -ENOBUFS;
    }
    if (mem_grow(&n->item, &n->capacity, n->count + 1, sizeof *n->item) < 0) {
        return -ENOMEM;
    }
    n->kv = kv;
    n->item[n->count++] = (struct kv_need_item){.id = {id0, id1}};
    n->missing++;
    return 0;
}

void kv_need_release(struct kv_need *n)
{
    for (size_t i = 0; i < n->count; i++) {
        if (n->item[i].pin != NULL) {
            n->kv->ops->unpin(n->kv, &n->item[i]);
        }
    }
    mem_free(n->item);
    *n = (struct kv_need){0};
}
