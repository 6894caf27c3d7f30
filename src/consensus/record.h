/*
 * consensus/record.h -- the two small files beside the log. Little-endian; replaced as a whole.
 *
 * "term", 64 bytes: magic u64 | version u32 | zero u32 | cluster 16 bytes | voter id u64 | term u64
 * | vote u64 (0: none) | zero u32 | CRC-32C u32 of the bytes before.
 *
 * "snapshot": magic u64 | version u32 | flags u32 | cluster 16 bytes | index u64 | term u64
 * | log begins at u64 | index of the configuration u64 | its length u32 | reference length u32
 * | configuration, as the engine encodes it | reference | CRC-32C u32 of the bytes before.
 * Flag 1 (installed): records of the log from index + 1 on are older than the snapshot, and void.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "consensus/consensus.h"

#define CONSENSUS_TERM_BYTES 64u
#define CONSENSUS_SNAPSHOT_HEADER 72u
#define CONSENSUS_CONFIGURATION_MAX (64u << 10)

struct consensus_term {
    uint8_t cluster[CONSENSUS_CLUSTER_BYTES];
    uint64_t id, term, vote;
};
void consensus_term_encode(const struct consensus_term *t, uint8_t out[CONSENSUS_TERM_BYTES]);
/* ERR_corrupt class. */
NODISCARD int consensus_term_decode(const uint8_t *bytes, size_t len, struct consensus_term *ret);

struct consensus_snapshot {
    uint8_t cluster[CONSENSUS_CLUSTER_BYTES];
    bool installed;
    uint64_t index, term, log_begin, configuration_index;
    const uint8_t *configuration; /* decoded: inside the bytes */
    size_t configuration_len;
    const uint8_t *reference; /* the owner's bytes */
    size_t reference_len;
};
size_t consensus_snapshot_size(const struct consensus_snapshot *s);
void consensus_snapshot_encode(const struct consensus_snapshot *s, uint8_t *out);
/* ERR_corrupt class. */
NODISCARD int consensus_snapshot_decode(const uint8_t *bytes, size_t len,
                                        struct consensus_snapshot *ret);
