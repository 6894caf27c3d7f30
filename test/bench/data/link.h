/*
 * bench/data/link.h -- a cluster of one target as a client of the chunk protocol sees it, without a
 * file system above: which chains there are, and connections on which READ and WRITE are heard.
 * Capabilities are signed here, with the servers' secret, as the metadata server would. Blocks.
 */
#pragma once

#include "cluster/capability.h"
#include "data.h"
#include "net/stream.h"
#include "peer/auth.h"
#include "wire/frame.h"
#include "wire/wire.h"

#define LINK_BASE (UINT64_C(1) << 40) /* data ids: far from those of files */

struct link_chain {
    uint32_t id, epoch;
};
struct link_cluster {
    struct uuid id;
    struct peer_secrets secrets;
    struct net_address target;
    struct link_chain *chain; /* of which that target is the head */
    size_t chains;
    struct proto_capability capability; /* for all data ids from LINK_BASE on */
    uint8_t mac[CLUSTER_MAC_BYTES];
};
void link_find(const char *directory, struct link_cluster *ret);
int link_open(const struct link_cluster *c); /* a descriptor */

/* A frame with the encoded record, and room for `data_len` bytes behind it, which is given back.
 * Such a request is answered with the same `id`. */
uint8_t *link_frame(struct wire_writer *out, const struct wire_frame *f,
                    const struct proto_type *type, const void *record);
/* Ends the process with what the server says, if this is a refusal. */
void link_check(const struct wire_frame *f, const uint8_t *body);
