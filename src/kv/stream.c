#include "kv/stream.h"

int kv_pin_new(struct kv *kv, struct kv_pin **ret)
{
    return kv->ops->pin(kv, ret);
}

struct kv_pin *kv_pin_free(struct kv_pin *p)
{
    if (p != NULL) {
        p->ops->free(p);
    }
    return NULL;
}

void kv_pin_read(struct kv_pin *p, struct kv_pin_read *r)
{
    CHECK(r->done != NULL && r->buf != NULL && !p->reading);
    p->reading = true;
    r->len = 0;
    r->last = false;
    r->err = (struct err){0};
    p->ops->read(p, r);
}

void kv_receiver_put(struct kv_receiver *x, struct kv_receive *r)
{
    CHECK(r->done != NULL && !x->putting);
    x->putting = true;
    r->whole = false;
    r->err = (struct err){0};
    x->ops->put(x, r);
}

struct kv_receiver *kv_receiver_free(struct kv_receiver *x)
{
    if (x != NULL) {
        CHECK(!x->putting);
        x->ops->free(x);
    }
    return NULL;
}
