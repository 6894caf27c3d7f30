/*
 * namespace/stats_priv.h -- what a command means for the directories above: their statistics, their
 * quotas.
 */
#pragma once

#include "namespace/plan_priv.h"

/* stats.c */
/* What the inodes of the plan became changes the statistics of all directories above them. -ELOOP:
 * directories would lie deeper than NAMESPACE_DEPTH_MAX. */
int namespace_stats_apply(struct namespace_plan *p);
/* The record of a directory that has nothing below it. */
int namespace_stats_put_new(struct namespace_plan *p, uint64_t ino, uint64_t parent);
/* Is this the name that `h` counts at? */
bool namespace_stats_is_home(const struct namespace_held *h, uint64_t parent,
                             struct proto_bytes name);
/* A LINKED file lost that name and has others: it counts at the first of them from now on. */
int namespace_stats_new_home(struct namespace_plan *p, struct namespace_held *h);

/* quota.c */
/* The size that the inode has now is that of data which is there already: it counts, but no quota
 * refuses it. */
void namespace_quota_accept(struct namespace_held *h);
/* What a directory gets, modulo 2^64: in all, and of that what may be refused. */
struct namespace_charge {
    uint64_t files, bytes, want_files, want_bytes;
};
/* A directory with a quota: -EDQUOT and p->reply->refusal, or its record is brought up to date. */
int namespace_quota_charge(struct namespace_plan *p, uint64_t ino,
                           const struct namespace_dir_stats *used,
                           const struct namespace_charge *c);
int namespace_quota_drop(struct namespace_plan *p, uint64_t ino); /* the directory goes */
/* How large the writer of the reply's file may make it. */
int namespace_quota_room(struct namespace_plan *p);
int namespace_set_quota(struct namespace_plan *p, const struct proto_set_quota_request *r);
/* Flags of a directory's statistics change by so much. */
int namespace_stats_add_flags(struct namespace_plan *p, uint64_t ino, uint64_t difference);
