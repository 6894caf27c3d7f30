/*
 * peer/client.h -- one named service that several addresses stand for: the metadata service and its
 * leader, or one target, which has one address.
 *
 * Slot 0 is the control link: it is kept up from peer_start() on, and found again when it is lost:
 * a server that does not lead names the leader; else the addresses are tried in turn; when none
 * would have us, all rest for a while that doubles. Slots from 1 are bulk links to the same server,
 * made when the first call wants one.
 *
 * A call waits in a bounded queue while its link is not up. What happens to one that failed:
 *  - the server does not lead: it goes to the leader;
 *  - another failure of class EAGAIN: it is sent again after a while that doubles (unless RAW, or
 *    it is the call's `give_back`);
 *  - the connection broke: it is sent again if it is marked AGAIN (what it asks for may happen
 *    twice, or has an exactly-once slot); else it fails with `unknown` set;
 *  - its answer is late (PEER_FOREVER only): its link is given up, as if the connection broke;
 *  - anything else is the answer.
 * All within its time: then the server's last "try again", or -ERR_deadline, or -ERR_unavailable
 * when nobody could be reached. While every address refuses us for good (another cluster, wrong
 * secret), calls fail with that.
 *
 * Owner: the loop of env; nothing blocks. peer_free() is not for callbacks of the same peer, and
 * no calls are made from those that it makes.
 */
#pragma once

#include "peer/auth.h"
#include "peer/link.h"

struct peer;
#define PEER_BULK_MAX 16u
struct peer_options {
    const struct env *env;
    struct peer_user *user;              /* must outlive the peer; `up` of slot 0: it is found */
    const struct peer_handler *handlers; /* for what the server asks and pushes; constant memory */
    size_t handler_count;
    struct peer_secrets secrets;
    struct uuid cluster_id; /* zero: not known, take the server's word (PEER_ROLES_JOINING) */
    uint32_t role;          /* ours */
    uint64_t features;
    const char *name;                    /* ours, for the logs of servers; lent */
    const struct net_address *addresses; /* copied */
    size_t address_count;                /* at least 1, or 0 with a stream */
    struct stream *stream;               /* may be NULL; else the first control link is made of it
                                            (an inherited one); taken over, also on failure */
    struct buf_pool *pool;               /* for incoming data; NULL: none is taken */
    bool wants_leader;
    bool gated;          /* after each `up` of slot 0 only EARLY calls go, until peer_open_gate() */
    unsigned bulk_count; /* at most PEER_BULK_MAX */
    size_t max_queued;   /* 0: 1,024; beyond: -ERR_busy */
    uint64_t session, generation; /* for `hello`; see peer_set_session() */
    uint64_t rest_min_ms;         /* 0: 10 */
    uint64_t rest_max_ms;         /* 0: 1,000 */
    uint64_t connect_ms;          /* to connect and to be let in, each; 0: 3,000 */
    uint64_t keepalive_ms;        /* net/conn.h */
};
NODISCARD int peer_new(const struct peer_options *opt, struct peer **ret);
/* Calls that are not done fail with -ERR_closed from inside, then `down` for each link. */
struct peer *peer_free(struct peer *p);
DEFINE_FREEP(peer)
void peer_start(struct peer *p);

#define PEER_CALL_AGAIN 1u /* may be sent again when its outcome is unknown */
#define PEER_CALL_RAW 2u   /* what the server answers is the answer, also "busy" */
#define PEER_CALL_EARLY 4u /* passes the gate; slot 0 only */
/* Does not outlive the control link: -ERR_unavailable at once when there is none, or it ends while
 * the call still waits. For who would rather ask somebody else. */
#define PEER_CALL_LINKED 8u
/* c->slot: 0 control, 1 to bulk_count. `done` comes exactly once, never from inside. */
void peer_call(struct peer *p, struct peer_call *c);
/* `done` with -ERR_cancelled comes later, unless an answer is already there. Idle calls: nothing.
 */
void peer_call_cancel(struct peer_call *c);
bool peer_call_active(const struct peer_call *c);

void peer_open_gate(struct peer *p);
/* For the next `hello` of each slot. With `reconnect` all links are made anew. */
void peer_set_session(struct peer *p, uint64_t session, uint64_t generation, bool reconnect);
/* Gives the link of a slot up; a retry then goes out on a newer one (chain.md R10, R11). */
void peer_drop_link(struct peer *p, unsigned slot, const char *reason);

struct peer_link *peer_link_of(const struct peer *p, unsigned slot); /* NULL: not up */
const struct uuid *peer_cluster_id(const struct peer *p);
/* Why it is not found, at last; empty when it is. */
const struct err *peer_trouble(const struct peer *p);
void peer_address(const struct peer *p, struct net_address *ret); /* in use or tried at last */
