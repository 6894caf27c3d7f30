/*
 * metanode/grant_priv.h -- grant.c: who has which file open for reading (grants on INO(i) of
 * coherence.md), and latches on such files; inval.c: the question to all of them before a change.
 */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "base/stats.h"
#include "loop/loop.h"
#include "peer/link.h"
#include "proto/proto.h"

struct metanode;
struct metanode_session;
struct namespace_keep;

/* Of all sessions; one of which there is no room for more is asked about every file. */
#define METANODE_GRANTS_MAX (256u << 10)
#define METANODE_MAYBES_MAX 4096u /* nameless files kept for a session that could not be asked */

/*
 * In the leader's memory, each known by (file, session). A client says with its renewals which it
 * does not have open any more, or when it is asked. What is lost with a leader is claimed again:
 * until then, a session of before has anything open, perhaps.
 */
struct metanode_grants {
    struct dict by_key, by_ino; /* struct grant; struct grant_object */
    size_t count;
    size_t losers;       /* sessions of which a grant is missing here */
    size_t unclaimed;    /* sessions of before this leader that have claimed nothing yet */
    size_t blind;        /* removals under way that asked nobody, as nobody had anything open */
    struct list blinded; /* opens that wait for those: struct metanode_latch_wait */
    struct list ready;   /* may go on: the same */
    struct list asking;  /* struct metanode_inval */
    struct loop_task task;
    struct stats_gauge gauge;
    struct stats_counter asked, kept;
};
void metanode_grants_init(struct metanode *m);
void metanode_grants_statistics(struct metanode *m);
/* The server stops: who waits goes on, and is refused. */
void metanode_grants_stop(struct metanode *m);
void metanode_grants_fini(struct metanode *m);
size_t metanode_grants_bytes(const struct metanode *m);

/* Who waits for a latch. Caller-owned, embedded; `go` once, from the loop. */
struct metanode_latch_wait {
    void (*go)(struct metanode_latch_wait *w);
    struct list node;
};
/* A change of what others have open is under way: nobody opens the file meanwhile. 1: latched; 0:
 * `w` goes on later and tries again; -ENOMEM. */
NODISCARD int metanode_latch(struct metanode *m, uint64_t ino, struct metanode_latch_wait *w);
void metanode_unlatch(struct metanode *m, uint64_t ino);
bool metanode_is_latched(struct metanode *m, uint64_t ino);

/*
 * A file is about to be opened for reading: 1: it is known now, before it is read (L1), and
 * metanode_grant_opened() must follow; 0: `w` goes on later, when a change is through;
 * -ERR_shutting_down.
 */
NODISCARD int metanode_grant_open(struct metanode *m, struct metanode_session *s, uint64_t ino,
                                  struct metanode_latch_wait *w);
void metanode_grant_opened(struct metanode *m, uint64_t session, uint64_t ino, bool is_open);
/* A claim of a client that had it open under another leader, or lapsed. */
void metanode_grant_claim(struct metanode *m, struct metanode_session *s, uint64_t ino);
bool metanode_grant_has(struct metanode *m, uint64_t session, uint64_t ino);
void metanode_grant_return(struct metanode *m, uint64_t session, uint64_t ino);
/* The session has claimed all that it has. */
void metanode_grants_claimed(struct metanode *m, struct metanode_session *s);
void metanode_grants_drop(struct metanode *m, struct metanode_session *s); /* it ends */
/* Could anybody have anything open that is not asked for it? */
static inline bool metanode_grants_none(const struct metanode_grants *g)
{
    return g->count == 0 && g->losers == 0 && g->unclaimed == 0;
}
/* A removal that asks nobody begins, has ended. */
void metanode_grants_blind(struct metanode *m, int delta);
/* Sessions that have, or may have, the file open, all but one: ids into `ret` (mem_free). */
NODISCARD int metanode_grant_holders(struct metanode *m, uint64_t ino, uint64_t but, uint64_t **ret,
                                     size_t *ret_count);
/* What is read of it has changed: holders are told, and nobody waits for that. */
void metanode_grants_changed(struct metanode *m, uint64_t ino, uint64_t but);
/* Ends without a name: who holds it, or writes it, will let it go by `release`. */
void metanode_grants_tell_unlinked(struct metanode *m, uint64_t session, uint64_t ino);

/* reclaim.c: nameless files that were kept for a session that could not be asked: it is told of
 * those that it has open, the others go. */
void metanode_orphans_confirm(struct metanode *m, struct metanode_session *s);
/* This session does not have that nameless file open any more. */
void metanode_orphan_let_go(struct metanode *m, uint64_t session, uint64_t ino);
/* The last name of this file is gone: all others for whom it is kept are told. */
void metanode_orphans_tell(struct metanode *m, uint64_t ino, uint64_t but);

/* inval.c: one push `inval` about one file to one session. Caller-owned; `done` of the call once.
 */
struct metanode_inval_call {
    struct peer_call call;
    struct proto_inval_request request;
    struct proto_inval_item item;
};
/* The session has a link. `bits`: PROTO_INVAL_... */
void metanode_inval_send(struct metanode *m, struct metanode_session *s,
                         struct metanode_inval_call *c, uint64_t ino, uint32_t bits);
/* What was answered; NULL: nothing that can be understood. */
const struct proto_inval_ack *metanode_inval_ack(const struct peer_reply *r);

/* One question about one file to all who have it open (coherence.md 6.0, steps 3 and 4). */
struct metanode_inval {
    void (*done)(struct metanode_inval *x, int rc); /* once, not from inside; 0 or class EAGAIN */
    uint64_t ino;
    uint32_t bits;
    /* out, valid in `done` and until metanode_inval_fini() */
    struct namespace_keep *keep; /* ascending by session */
    size_t keep_count;
    bool is_open; /* somebody has it open */
    bool has_times;
    int64_t mtime_ns, ctime_ns, atime_ns; /* the newest that writers handed over */
    /* private */
    struct metanode *m;
    struct inval_ask *ask;
    size_t count, left;
    struct list node;
    struct loop_task end;
    bool ended;
};
/* Asks these sessions; the array is copied. -ENOMEM: nothing was asked. */
NODISCARD int metanode_inval_start(struct metanode *m, struct metanode_inval *x,
                                   const uint64_t *session, size_t count);
void metanode_inval_fini(struct metanode_inval *x);
/* The server is being freed: none has an answer. */
void metanode_invals_fini(struct metanode *m);
