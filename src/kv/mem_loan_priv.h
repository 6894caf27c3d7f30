/*
 * kv/mem_loan_priv.h -- for tests of those who use the memory engine: what it lends are copies,
 * spoiled and freed as soon as they are not lent any more. The book of what was lent to one need
 * list is an item of it.
 */
#pragma once

#include "base/list.h"
#include "kv/kv.h"

#define KV_MEM_ID_LOANS 3u /* second word of the name of such an item */

/* Of a need list. 1: it is new, and pinned; 0; -ENOMEM, -ENOBUFS. */
NODISCARD int kv_mem_loan_book(struct kv *kv, struct kv_need *need, struct list **ret);
/* Makes `value` a copy, which ends with the list or with the snapshot. 0, -ENOMEM. */
NODISCARD int kv_mem_loan(struct list *of_snapshot, struct list *book, struct kv_slice *value);
/* The list is released. */
void kv_mem_loans_return(struct list *book);
/* The snapshot ends: nobody may look at these any more. */
void kv_mem_loans_end(struct list *of_snapshot);
/* NULL is fine. */
void kv_mem_loan_spoil(uint8_t *bytes, size_t len);
