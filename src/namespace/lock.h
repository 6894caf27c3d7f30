/*
 * namespace/lock.h -- locks of files in the state: what is held, and what would be in the way. Who
 * waits is the leader's affair. Plain functions on a view or a plan; any thread.
 */
#pragma once

#include "namespace/view.h"

struct namespace_plan;

/* A lock that is held, or wanted. */
struct namespace_held_lock {
    uint64_t session, owner, start, last;
    uint8_t kind, type;
    uint32_t pid;
};
struct namespace_held_locks {
    struct namespace_held_lock *at; /* in the view's arena; by session, kind, owner, start */
    size_t count;
};
/* All locks of a file, or (`session` not 0) those of a session. */
NODISCARD int namespace_locks(const struct namespace_view *v, uint64_t ino, uint64_t session,
                              struct namespace_held_locks *ret);
/* Of two owners, and one of them would have to wait for the other. */
bool namespace_lock_conflicts(const struct namespace_held_lock *a,
                              const struct namespace_held_lock *b);
/* Are the owner's locks, all together, what is wanted, or more? */
bool namespace_lock_is_held(const struct namespace_held_locks *held,
                            const struct namespace_held_lock *wanted);
/* Kind, type and range are such. -EINVAL. */
NODISCARD int namespace_lock_check(const struct namespace_held_lock *l);
NODISCARD int namespace_lock_test(const struct namespace_view *v,
                                  const struct proto_lock_test_request *q,
                                  struct proto_lock_test_reply *ret);

/* Commands. */
NODISCARD int namespace_unlock(struct namespace_plan *p, const struct proto_unlock_request *r);
NODISCARD int namespace_lock_take(struct namespace_plan *p, const struct namespace_lock_grant *r);
NODISCARD int namespace_end_locks(struct namespace_plan *p, uint64_t session);
