/*
 * cluster/promote.h -- R3's last way out of a dark chain: an administrator says that an old copy is
 * to serve, because those that have all are lost for good. Pure, as chain.h.
 *
 * Everything that was written since the old copy left is given up by that, synced or not; so it is
 * refused whenever another way may lose less, and what may have more than the old copy is *set
 * aside*: such a member stays offline as it is, neither serves nor is made equal to the others, and
 * no move takes it away, until an administrator discards what it has.
 */
#pragma once

#include "cluster/chain.h"

enum cluster_promotable {
    CLUSTER_PROMOTE_MAY,
    CLUSTER_PROMOTE_STRANGER, /* it is no member */
    CLUSTER_PROMOTE_SERVED,   /* somebody serves: a copy comes back by itself */
    CLUSTER_PROMOTE_RETURNS,  /* one of the set is there, and is going to serve by itself */
    CLUSTER_PROMOTE_SET,      /* it is of the set: it serves by itself when it comes */
    CLUSTER_PROMOTE_EARLY,    /* the set is still waited for */
    CLUSTER_PROMOTE_AWAY,     /* it is not there, or has not learned of this row */
    CLUSTER_PROMOTE_SILENT,   /* it does not say what it has: it is of an earlier version */
    CLUSTER_PROMOTE_PART,     /* it has no whole copy: what it lacks would be read as zeros */
    CLUSTER_PROMOTE_OLDER,    /* another one that is there has a newer copy */
};
/* May this target be promoted? *ret_other: the member that stands against it, or row->count. */
enum cluster_promotable cluster_promote_check(const struct cluster_row *row,
                                              const struct cluster_fact *fact,
                                              const struct cluster_chain_times *times,
                                              uint32_t target, size_t *ret_other);
/* The member that may be, and with which least is lost; row->count: there is none. */
size_t cluster_promote_best(const struct cluster_row *row, const struct cluster_fact *fact,
                            const struct cluster_chain_times *times);
/* May member i have what member `chosen` has not? Then it is set aside when that is promoted. */
bool cluster_promote_puts_aside(const struct cluster_row *row, const struct cluster_fact *fact,
                                size_t chosen, size_t i);
/* The row in which `target` serves alone; loss_gen and epoch rise. Only of who may be. */
void cluster_promote_row(const struct cluster_row *row, const struct cluster_fact *fact,
                         uint32_t target, uint64_t wall_ms, struct cluster_row *ret);

/* What a member that was set aside has is given up: it comes back by a session, as any other. Not
 * while nobody serves; false then, and for who is not aside. */
bool cluster_discard_row(const struct cluster_row *row, uint32_t target, struct cluster_row *ret);
