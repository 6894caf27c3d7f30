#include "kv/mem_loan_priv.h"

#include <string.h>

#include "base/mem.h"

#define LOAN_SPOILED 0xdb

struct kv_mem_loan {
    struct list of_snapshot, of_book;
    uint8_t *bytes; /* NULL: the snapshot is gone */
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
    list_remove(&l->of_snapshot);
}

void kv_mem_loans_return(struct list *book)
{
    while (!list_empty(book)) {
        struct kv_mem_loan *l = LIST_ENTRY(book->next, struct kv_mem_loan, of_book);
        loan_end(l);
        list_remove(&l->of_book);
        mem_free(l);
    }
    mem_free(book);
}

void kv_mem_loans_end(struct list *of_snapshot)
{
    while (!list_empty(of_snapshot)) {
        loan_end(LIST_ENTRY(of_snapshot->next, struct kv_mem_loan, of_snapshot));
    }
}

int kv_mem_loan_book(struct kv *kv, struct kv_need *need, struct list **ret)
{
    struct kv_need_item *item = kv_need_find(need, 0, KV_MEM_ID_LOANS);
    if (item != NULL) {
        *ret = item->pin;
        return 0;
    }
    struct list *book = mem_alloc(sizeof *book);
    int rc = book == NULL ? -ENOMEM : kv_need_add(need, kv, 0, KV_MEM_ID_LOANS);
    if (rc < 0) {
        mem_free(book);
        return rc;
    }
    list_init(book);
    need->item[need->count - 1].pin = book;
    need->missing--;
    *ret = book;
    return 1;
}

int kv_mem_loan(struct list *of_snapshot, struct list *book, struct kv_slice *value)
{
    struct kv_mem_loan *l = mem_zalloc(sizeof *l);
    uint8_t *bytes = mem_alloc(value->len + 1);
    if (l == NULL || bytes == NULL) {
        mem_free(l);
        mem_free(bytes);
        return -ENOMEM;
    }
    if (value->len > 0) {
        memcpy(bytes, value->at, value->len);
    }
    l->bytes = bytes;
    l->len = value->len;
    list_push_back(of_snapshot, &l->of_snapshot);
    list_push_back(book, &l->of_book);
    *value = kv_slice_of(bytes, value->len);
    return 0;
}
