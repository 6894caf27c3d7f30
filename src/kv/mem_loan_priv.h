/*
 * kv/mem_loan_priv.h -- for tests of those who use the memory engine: what it lends are copies,
 * spoiled and freed as soon as they are not lent any more.
 */
#pragma once

#include "base/list.h"
#include "kv/kv.h"

#define KV_MEM_ID_LOAN 3u /* second word of the name of such an item of a need list */

/* A copy of `value` that ends with the list or with the snapshot (whose `loans` it joins). 0 and a
 * pinned item more; -ENOMEM, -ENOBUFS. */
NODISCARD int kv_mem_loan(struct list *loans, struct kv *kv, struct kv_slice value,
                          struct kv_need *need, struct kv_slice *ret);
void kv_mem_loan_free(void *pin);
/* The snapshot ends: nobody may look at these any more. */
void kv_mem_loans_end(struct list *loans);
/* NULL is fine. */
void kv_mem_loan_spoil(uint8_t *bytes, size_t len);
