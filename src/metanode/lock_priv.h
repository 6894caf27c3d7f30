/* metanode/lock_priv.h -- lock.c, deadlock.c: who waits for locks of files (coherence.md 8). */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "loop/loop.h"
#include "metanode/read.h"
#include "namespace/lock.h"

struct metanode;
struct metanode_session;
struct peer_request;
struct peer_user;

#define METANODE_LOCK_BLOCKERS 16u /* of one who waits, that are remembered */

/* Who locks: a session's clients share nothing but this number. One that waits, or several times.
 */
struct lock_owner {
    struct dict_node node;
    uint64_t session, owner;
    struct list waiters; /* lock_waiter.of_owner */
    uint64_t mark;       /* of the newest search that came by */
    struct list search;
};
struct lock_waiter;
struct metanode_locks {
    struct dict by_ino;   /* struct lock_file */
    struct dict by_owner; /* struct lock_owner */
    struct list files;
    struct loop_timer timer;
    size_t waiting;
    uint64_t marks;
};
void metanode_locks_init(struct metanode *m);
void metanode_locks_fini(struct metanode *m);
void metanode_lock(struct peer_user *u, struct peer_request *r);
/* Something was applied that others may have waited for: an unlock, or (ino 0) the end of a
 * session. */
void metanode_locks_moved(struct metanode *m, uint64_t ino);
void metanode_locks_drop(struct metanode *m, struct metanode_session *s);

/* A file that somebody waits for. */
struct lock_file {
    struct dict_node node;
    struct list all;
    struct metanode *m;
    uint64_t ino;
    struct list waiters; /* struct lock_waiter, first come first */
    size_t count;
    uint64_t looks, looked_ns; /* looks: how many have begun */
    bool reading, stale;       /* stale: something has changed since the look began */
    size_t proposing;
    struct metanode_read read;
    uint64_t data_version;
    struct namespace_held_locks held; /* of the newest look, while it is gone through */
};
bool metanode_lock_settled(const struct lock_file *f); /* what its waiters wait for is known */

struct lock_blocker {
    uint64_t session, owner;
};
/* deadlock.c */
NODISCARD int metanode_lock_own(struct metanode *m, struct lock_waiter *w); /* -ENOMEM */
void metanode_lock_disown(struct metanode *m, struct lock_waiter *w);
/* Would all wait for each other for ever? NO, YES, or it cannot be said just now. */
enum lock_cycle { LOCK_CYCLE_NO, LOCK_CYCLE_YES, LOCK_CYCLE_UNSURE };
enum lock_cycle metanode_lock_cycle(struct metanode *m, struct lock_waiter *w);
void metanode_lock_owners_init(struct metanode *m);
