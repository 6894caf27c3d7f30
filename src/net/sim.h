/*
 * net/sim.h -- the simulated network: hosts, delays, losses, partitions, all from the seed.
 *
 * Streams keep TCP's promise (bytes in order, or the connection breaks): "loss" shows as delay or
 * as a reset, a partition as silence (bytes wait, connects time out) that ends when it heals or
 * resets the connection. Addresses are "hostN:port" or "127.0.0.1:port" within the machine;
 * reordering happens between connections.
 */
#pragma once

#include "net/stream.h"

struct loop_sim;
struct net_sim;

struct net_sim_options {
    struct loop_sim *sim;
    uint64_t min_ns, max_ns;    /* one-way delay; 0: 20 us .. 500 us */
    uint32_t reset_per_million; /* chance that a delivery breaks its connection instead */
    uint32_t stall_per_million; /* chance that a delivery takes up to a second */
    size_t window_bytes;        /* bytes in flight per direction; then -EAGAIN. 0: 256 KiB */
};
NODISCARD struct net_sim *net_sim_new(const struct net_sim_options *opt);
struct net_sim *net_sim_free(struct net_sim *w);
DEFINE_FREEP(net_sim)
NODISCARD int net_sim_open(struct net_sim *w, unsigned host, struct loop *l, struct net **ret);

void net_sim_faults(struct net_sim *w, uint32_t reset_per_million, uint32_t stall_per_million);
/* Cuts or heals one direction between two hosts. */
void net_sim_cut(struct net_sim *w, unsigned from, unsigned to, bool cut);
void net_sim_heal(struct net_sim *w);
/* Breaks every connection between two hosts now. */
void net_sim_reset(struct net_sim *w, unsigned a, unsigned b);
/* Breaks the connection of the nth arrival from now (not within a machine) instead of delivering
 * what arrives; 0: does not any more. True: an earlier one has not come to pass. */
bool net_sim_break(struct net_sim *w, uint64_t nth);
/* Corrupts one byte of the nth delivery from now (tests of checksums; TCP would have passed it). */
void net_sim_corrupt(struct net_sim *w, uint64_t nth);
uint64_t net_sim_delivered_bytes(const struct net_sim *w);
