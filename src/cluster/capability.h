/*
 * cluster/capability.h -- signing and checking of capabilities (design section 8, coherence.md
 * section 3).
 *
 * A key is derived from the servers' secret and a key id (HMAC-SHA256), never sent; the MAC covers
 * every field. Data nodes and metadata servers hold the secret; clients hold capabilities only. Any
 * thread, no I/O.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "proto/proto.h"

#define CLUSTER_SECRET_BYTES 32u
#define CLUSTER_MAC_BYTES 32u
#define CLUSTER_SIGNED_BYTES (8u + 8u + 8u + 1u + 8u + 8u + 4u) /* of a capability */
/* How long they live. */
#define CLUSTER_CAPABILITY_WRITE_MS 60000u
#define CLUSTER_CAPABILITY_READ_MS 600000u

struct cluster_secret {
    uint8_t bytes[CLUSTER_SECRET_BYTES];
};

/* Fills c->mac, which then points to `mac` (CLUSTER_MAC_BYTES, the caller's). -EIO when libcrypto
 * fails. */
NODISCARD int cluster_capability_sign(const struct cluster_secret *secret,
                                      struct proto_capability *c, uint8_t mac[CLUSTER_MAC_BYTES]);

struct cluster_access {
    uint64_t data_id;
    uint8_t rights;   /* all of these are needed */
    uint64_t wall_ms; /* now */
    uint64_t skew_ms; /* how much later than its expiry a capability still counts: clocks differ */
};
/* 0; -ERR_capability_expired; -ERR_bad_capability: forged, or it does not cover this. MACs are
 * compared in constant time. */
NODISCARD int cluster_capability_check(const struct cluster_secret *secret,
                                       const struct proto_capability *c,
                                       const struct cluster_access *a);

/* Some that were found genuine under one secret: to check a MAC takes longer than all else that a
 * small read does. Zero-initialise. */
#define CLUSTER_KNOWN 512u
struct cluster_capability_known {
    struct cluster_known {
        bool genuine;
        uint8_t fields[CLUSTER_SIGNED_BYTES], mac[CLUSTER_MAC_BYTES];
    } at[CLUSTER_KNOWN];
};
/* The same answers as cluster_capability_check(), sooner. Always the same `secret` with one `k`. */
NODISCARD int cluster_capability_check_known(struct cluster_capability_known *k,
                                             const struct cluster_secret *secret,
                                             const struct proto_capability *c,
                                             const struct cluster_access *a);
