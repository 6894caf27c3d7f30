#include "kv/mem_loan_priv.h"

#include <string.h>

#include "base/mem.h"

#define LOAN_SPOILED 0xdb

struct kv_mem_loan {
    struct list node; /* of the snapshot's */
    uint8_t *bytes;   /* NULL: the snapshot is gone */
    size_t len;
};

void kv_mem_loan_spoil(uint8_t *bytes, size_t len)
{
    if (bytes != NULL) {
        memset(bytes, LOAN_SPOILED, len);
        mem_free(bytes);
    }
}

static void loan_end(struct kv_mem_loan *l)
{
    kv_mem_loan_spoil(l->bytes, l->len);
    l->bytes = NULL;
    list_remove(&l->node);
}

void kv_mem_loan_free(void *pin)
{
    struct kv_mem_loan *l = pin;
    loan_end(l);
    mem_free(l);
}

void kv_mem_loans_end(struct list *loans)
{
    while (!list_empty(loans)) {
        loan_end(LIST_ENTRY(loans->next, struct kv_mem_loan, node));
    }
}

int kv_mem_loan(struct list *loans, struct kv *kv, struct kv_slice value, struct kv_need *need,
                struct kv_slice *ret)
{
    struct kv_mem_loan *l = mem_zalloc(sizeof *l);
    uint8_t *bytes = mem_alloc(value.len + 1);
    int rc = l == NULL || bytes == NULL
                 ? -ENOMEM
                 : kv_need_add(need, kv, (uint64_t)(uintptr_t)l, KV_MEM_ID_LOAN);
    if (rc < 0) {
        mem_free(l);
        mem_free(bytes);
        return rc;
    }
    if (value.len > 0) {
        memcpy(bytes, value.at, value.len);
    }
    l->bytes = bytes;
    l->len = value.len;
    list_push_back(loans, &l->node);
    need->item[need->count - 1].pin = l;
    need->missing--;
    *ret = kv_slice_of(bytes, value.len);
    return 0;
}
