/* consensus/entry_test.c -- batches of operations: round trip, every truncation, bad lengths. */
#include "consensus/entry.h"

#include "base/mem.h"
#include "testing/testing.h"
#include "wire/wire.h"

#include <string.h>

#define OPERATIONS 20u

static size_t example(uint8_t *out, size_t size)
{
    static const uint8_t bytes[OPERATIONS];
    size_t len = CONSENSUS_ENTRY_HEADER;
    for (size_t i = 0; i < OPERATIONS; i++) {
        len += consensus_entry_cost(i);
    }
    CHECK_TRUE(len <= size && len % 8 == 0);
    consensus_entry_begin(out, OPERATIONS, 5);
    uint8_t *at = out + CONSENSUS_ENTRY_HEADER;
    for (size_t i = 0; i < OPERATIONS; i++) {
        at = consensus_entry_add(at, bytes, i);
    }
    CHECK_EQ(at - out, len);
    return len;
}

TEST(consensus_entry_gives_back_its_operations)
{
    _Alignas(8) uint8_t bytes[1024];
    size_t len = example(bytes, sizeof bytes);
    struct consensus_entry e;
    struct consensus_operation op;
    CHECK_OK(consensus_entry_decode(bytes, len, &e));
    CHECK_EQ(e.count, OPERATIONS);
    CHECK_EQ(e.term, 5);
    for (size_t i = 0; i < OPERATIONS; i++) {
        CHECK_TRUE(consensus_entry_next(&e, &op));
        CHECK_EQ(op.len, i);
        CHECK_TRUE(op.local == NULL && (uintptr_t)op.bytes % 8 == 0);
    }
    CHECK_TRUE(!consensus_entry_next(&e, &op));
}

TEST(consensus_entry_stands_every_truncation)
{
    uint8_t bytes[1024];
    size_t len = example(bytes, sizeof bytes);
    struct consensus_entry e;
    for (size_t cut = 0; cut < len; cut++) {
        CHECK_ERR(consensus_entry_decode(bytes, cut, &e), ERR_corrupt);
    }
    memset(bytes + len, 0, 8);
    CHECK_RC(consensus_entry_decode(bytes, len + 8, &e), ERR_bad_length);
}

TEST(consensus_entry_refuses_nonsense)
{
    uint8_t bytes[1024];
    size_t len = example(bytes, sizeof bytes);
    struct consensus_entry e;
    wire_store_u32(bytes, CONSENSUS_ENTRY_VERSION + 1);
    CHECK_RC(consensus_entry_decode(bytes, len, &e), ERR_bad_version);
    (void)example(bytes, sizeof bytes);
    wire_store_u32(bytes + 4, UINT32_MAX);
    CHECK_RC(consensus_entry_decode(bytes, len, &e), ERR_short_msg);
    (void)example(bytes, sizeof bytes);
    wire_store_u32(bytes + CONSENSUS_ENTRY_HEADER, UINT32_MAX);
    CHECK_RC(consensus_entry_decode(bytes, len, &e), ERR_short_msg);
    (void)example(bytes, sizeof bytes);
    bytes[CONSENSUS_ENTRY_HEADER + 4] = 1;
    CHECK_RC(consensus_entry_decode(bytes, len, &e), ERR_bad_value);
}
