/*
 * opendfs/targets.h -- what becomes of targets and of the copies that lie on them: for uid 0.
 * Results as in opendfs/opendfs.h; asynchronous forms as in async.h. How far it is: the object
 * `moves` of opendfs_status_json(), and `plan` and `chains` of each of its `targets`.
 */
#ifndef OPENDFS_TARGETS_H
#define OPENDFS_TARGETS_H

#include "opendfs/async.h"

#ifdef __cplusplus
extern "C" {
#endif

#define OPENDFS_TARGET_STAYS 0   /* holds copies: the end of all others, also of REMOVE */
#define OPENDFS_TARGET_DRAIN 1   /* all copies go to others; it stays in the cluster, empty */
#define OPENDFS_TARGET_REPLACE 2 /* all copies go to `heir`; then the target is removed */
#define OPENDFS_TARGET_REMOVE 3  /* as DRAIN; then it is removed */
struct opendfs_target_plan {
    uint32_t target; /* its number */
    uint32_t plan;   /* OPENDFS_TARGET_... */
    uint32_t heir;   /* of REPLACE, else 0 */
};
/* Answers when the plan is kept safely; the cluster does it then, whatever fails meanwhile.
 * -ENOENT: there is no such target; -EINVAL: it cannot be its own heir, nor can one that is
 * emptied. */
int opendfs_plan_target(struct opendfs *fs, const struct opendfs_target_plan *plan);
#define OPENDFS_TARGET_WEIGHT 1
#define OPENDFS_TARGET_LABELS 2
struct opendfs_target_values {
    uint32_t target; /* its number */
    uint32_t mask;   /* which of these are set: OPENDFS_TARGET_... */
    uint32_t weight; /* its share of the copies, up to 1,000,000; 0: none, it is emptied */
    char labels[256];
};
/* They count from now on, instead of what its configuration says; copies move accordingly. -ENOENT:
 * there is no such target. */
int opendfs_set_target(struct opendfs *fs, const struct opendfs_target_values *values);
#define OPENDFS_CHAIN_PROMOTE                                                                    \
    1                           /* the copy of `target`, an old one, serves: newer ones are lost \
                                 */
#define OPENDFS_CHAIN_DISCARD 2 /* what `target` has is given up, which such an order set aside */
struct opendfs_chain_order {
    uint32_t action; /* OPENDFS_CHAIN_... */
    uint32_t chain, target;
    uint32_t epoch; /* of the chain, in the objects `dark` and `aside` of opendfs_status_json() */
};
/* Answers when it is done. Refused, with a reason in opendfs_last_error(), when less may be lost in
 * another way: -EBUSY, -EINVAL; -ESTALE: the chain has changed since `epoch`; -ENOENT. */
int opendfs_order_chain(struct opendfs *fs, const struct opendfs_chain_order *order);
/* Whether copies that only lie unevenly are moved by themselves, as they are at first. */
int opendfs_set_balance(struct opendfs *fs, int on);

void opendfs_async_plan_target(struct opendfs *fs, struct opendfs_op *op,
                               const struct opendfs_target_plan *plan);
void opendfs_async_set_target(struct opendfs *fs, struct opendfs_op *op,
                              const struct opendfs_target_values *values);
void opendfs_async_order_chain(struct opendfs *fs, struct opendfs_op *op,
                               const struct opendfs_chain_order *order);
void opendfs_async_set_balance(struct opendfs *fs, struct opendfs_op *op, int on);

#ifdef __cplusplus
}
#endif

#endif
