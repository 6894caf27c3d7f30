/* consensus/entry.c -- see entry.h. */
#include "consensus/entry.h"

#include "wire/wire.h"

void consensus_entry_begin(uint8_t *at, uint32_t count, uint64_t term)
{
    wire_store_u32(at, CONSENSUS_ENTRY_VERSION);
    wire_store_u32(at + 4, count);
    wire_store_u64(at + 8, term);
}

uint8_t *consensus_entry_add(uint8_t *at, const void *bytes, size_t len)
{
    size_t cost = consensus_entry_cost(len);
    wire_store_u32(at, (uint32_t)len);
    wire_store_u32(at + 4, 0);
    if (len > 0) {
        memcpy(at + 8, bytes, len);
    }
    memset(at + 8 + len, 0, cost - 8 - len);
    return at + cost;
}

/* One operation from the front. */
static int operation_take(struct wire_reader *r, const uint8_t **ret, size_t *ret_len)
{
    uint32_t len = wire_read_u32(r);
    uint32_t zero = wire_read_u32(r);
    const uint8_t *bytes = r->at;
    (void)wire_read_bytes(r, (size_t)base_align_up(len, 8));
    if (r->bad) {
        return -ERR_short_msg;
    }
    *ret = bytes;
    *ret_len = len;
    return zero == 0 ? 0 : -ERR_bad_value;
}

int consensus_entry_decode(const uint8_t *bytes, size_t len, struct consensus_entry *ret)
{
    struct wire_reader r = wire_reader_over(bytes, len);
    uint32_t version = wire_read_u32(&r);
    uint32_t count = wire_read_u32(&r);
    uint64_t term = wire_read_u64(&r);
    if (r.bad) {
        return -ERR_short_msg;
    }
    if (version != CONSENSUS_ENTRY_VERSION) {
        return -ERR_bad_version;
    }
    struct consensus_entry e = {.term = term, .count = count, .at = r.at, .left = r.left};
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *op = NULL;
        size_t op_len = 0;
        int rc = operation_take(&r, &op, &op_len);
        if (rc < 0) {
            return rc;
        }
    }
    if (r.left != 0) {
        return -ERR_bad_length;
    }
    *ret = e;
    return 0;
}

bool consensus_entry_next(struct consensus_entry *e, struct consensus_operation *ret)
{
    if (e->left == 0) {
        return false;
    }
    struct wire_reader r = wire_reader_over(e->at, e->left);
    struct consensus_operation op = {0};
    CHECK(operation_take(&r, &op.bytes, &op.len) == 0); /* decode has seen all of it */
    e->at = r.at;
    e->left = r.left;
    if (e->local != NULL && e->local != e->local_end) {
        op.local = LIST_ENTRY(e->local, struct consensus_proposal, node);
        e->local = e->local->next;
    }
    *ret = op;
    return true;
}
