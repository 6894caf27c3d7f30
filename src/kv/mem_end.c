#include "kv/mem.h"

#define END_POLLS_MAX 1000000u /* what waits for the loop would never come */

struct kv_mem_end {
    struct kv_stop stop;
    bool done;
};

static void kv_mem_ended(struct kv_stop *s)
{
    container_of(s, struct kv_mem_end, stop)->done = true;
}

struct kv *kv_mem_end(struct kv *kv)
{
    struct kv_mem_end end = {.stop.done = kv_mem_ended};
    if (kv == NULL) {
        return NULL;
    }
    kv_stop(kv, &end.stop);
    for (unsigned i = 0; !end.done; i++) {
        CHECK(i < END_POLLS_MAX);
        (void)kv_poll(kv);
    }
    return kv_free(kv);
}
