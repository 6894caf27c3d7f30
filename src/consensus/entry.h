/*
 * consensus/entry.h -- what we put into one raft entry: a batch of operations; and how a raft entry
 * lies in the journal. Little-endian.
 *
 * Batch: version u32 | count u32 | term u64 | per operation: length u32, zero u32, bytes, zeros up
 * to a multiple of 8. The whole is a multiple of 8 (the engine demands it). Journal record: type =
 * raft's entry type; payload = term u64, the entry's bytes.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "consensus/consensus.h"

#define CONSENSUS_ENTRY_VERSION 1u
#define CONSENSUS_ENTRY_HEADER 16u
#define CONSENSUS_ENTRY_MAX (1u << 20)
#define CONSENSUS_RECORD_HEADER 8u

static inline size_t consensus_entry_cost(size_t len) /* of one operation */
{
    return 8 + (size_t)base_align_up(len, 8);
}
void consensus_entry_begin(uint8_t *at, uint32_t count, uint64_t term);
/* Appends one operation at `at`, which has room; returns the end. */
uint8_t *consensus_entry_add(uint8_t *at, const void *bytes, size_t len);
/* Checks everything, so that consensus_entry_next() cannot meet anything bad. -ERR_corrupt class.
 */
NODISCARD int consensus_entry_decode(const uint8_t *bytes, size_t len, struct consensus_entry *ret);
