/*
 * peer/server.h -- accepts connections, lets in who proves to belong here, and hands their messages
 * to the owner's table.
 *
 * Nothing but `hello` and then `auth` is heard before both are done; another cluster, version or
 * role, a wrong secret and an older link are refused with a text, and the connection ends. A link
 * whose number or generation is below one that this server has seen of the same sender is dead
 * (chain.md R10, R11; coherence.md C8): it is closed when the newer one comes, or refused.
 *
 * Owner: the loop of env; nothing blocks. Requests that were handed out must be answered before
 * peer_server_free(); peer_server_stop() waits for that.
 */
#pragma once

#include "peer/auth.h"
#include "peer/link.h"

struct peer_server;
struct peer_server_options {
    const struct env *env;
    struct peer_user *user;              /* must outlive the server */
    const struct peer_handler *handlers; /* constant memory */
    size_t handler_count;
    struct peer_secrets secrets;
    struct uuid cluster_id;
    uint32_t role;         /* this server's, PROTO_ROLE_... */
    uint32_t accept_roles; /* of those who may connect; 0: any */
    uint64_t features;
    const char *name;             /* for the logs of others; lent */
    struct buf_pool *pool;        /* for incoming data; NULL: none is taken */
    struct buf_pool *member_pool; /* NULL, or that of targets, who are never held up, see
                                     net_conn_never_pause() */
    size_t max_connections;     /* 0: 16,384; of more the oldest that has not proven itself goes */
    unsigned max_sender_links;  /* of one session of one role; 0: 64 */
    size_t max_requests;        /* unanswered, of all together; 0: 16,384 */
    unsigned max_link_requests; /* unanswered, of one; 0: 256 */
    uint64_t hello_ms;          /* from connecting to the end of `auth`; 0: 5,000 */
    uint64_t keepalive_ms;      /* net/conn.h, as are */
    uint64_t stall_ms;
    size_t max_send_bytes;
};
NODISCARD int peer_server_new(const struct peer_server_options *opt, struct peer_server **ret);
/* Closes everything at once: `down` is called for each link from inside. */
struct peer_server *peer_server_free(struct peer_server *s);
DEFINE_FREEP(peer_server)

/* One listener per server. Errors as net_listen(). */
NODISCARD int peer_server_listen(struct peer_server *s, const struct net_address *at,
                                 struct err *e);
NODISCARD int peer_server_listen_fd(struct peer_server *s, int fd); /* inherited */
void peer_server_address(const struct peer_server *s, struct net_address *ret);
/* A connection that came in some other way. Takes it over. */
void peer_server_adopt(struct peer_server *s, struct stream *stream);

/* What `hello` tells clients. Until it is called this server says that it leads. */
void peer_server_set_leader(struct peer_server *s, uint64_t term, const char *address,
                            bool is_leader);

/* No new connections and requests; those in progress are answered, for at most `limit_ms`. Then
 * `stopped`, once, from the loop: no link is left and no request. */
void peer_server_stop(struct peer_server *s, uint64_t limit_ms,
                      void (*stopped)(struct peer_user *u));

/* All links that are up, in order of coming: NULL begins, NULL ends. */
struct peer_link *peer_server_next(const struct peer_server *s, const struct peer_link *after);
size_t peer_server_link_count(const struct peer_server *s);
/* What all connections and their requests take, in bytes, about. */
struct peer_server_memory {
    size_t connections; /* themselves, with those that are no link yet */
    size_t requests;    /* unanswered */
    size_t replies;     /* not taken yet by who asked */
};
void peer_server_memory(const struct peer_server *s, struct peer_server_memory *ret);
/* A session was given to this link after `hello`: links of older generations of it are closed. */
void peer_server_name_session(struct peer_server *s, struct peer_link *l, uint64_t session,
                              uint64_t generation);
