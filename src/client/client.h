/*
 * client/client.h -- libopendfs inside of OpenDFS: a client on the caller's own loop.
 *
 * The operations are those of opendfs/async.h; they may be started from any thread, their `done`
 * comes on the loop of env. The synchronous calls of opendfs/opendfs.h are for clients made by
 * opendfs_connect(), which have a loop and a thread of their own; on any other they would wait for
 * themselves.
 *
 * Owner: the loop of env; nothing blocks. Errors are told by the operations.
 */
#pragma once

#include "net/stream.h"
#include "opendfs/async.h"
#include "peer/auth.h"

struct env;

#define CLIENT_CACHE_BYTES (UINT64_C(256) << 20)
#define CLIENT_CACHE_MIN (UINT64_C(32) << 20)

#define CLIENT_STREAM_BYTES (UINT64_C(4) << 20)

#define CLIENT_META_PORT 9400u

struct client_options {
    const struct env *env;
    const struct net_address *addresses; /* metadata servers; copied */
    size_t address_count;                /* at least 1 */
    struct uuid cluster_id;              /* zero: that of the server that knows the secret */
    struct peer_secrets secrets;         /* the client's must be known */
    const char *name;                    /* for the logs of servers; copied, may be NULL */
    uint32_t uid, gid;
    uint32_t umask;         /* as in struct opendfs_options */
    const uint32_t *groups; /* copied */
    size_t group_count;
    uint64_t cache_bytes;    /* 0: CLIENT_CACHE_BYTES; at least CLIENT_CACHE_MIN */
    uint64_t timeout_ms;     /* 0: never */
    const char *host, *rack; /* as the map names those of targets; copied, may be NULL */
    uint64_t stream_bytes;   /* as in struct opendfs_options; 0: CLIENT_STREAM_BYTES */
};
/* Begins to connect. Operations may be started at once: they wait for the session. -ENOMEM,
 * -EINVAL. */
NODISCARD int client_new(const struct client_options *opt, struct opendfs **ret);
/* At once: operations that are not done end with -ECANCELED from inside, open files are gone. */
struct opendfs *client_free(struct opendfs *fs);
const struct env *client_env(const struct opendfs *fs); /* its loop, also of opendfs_connect() */
/*
 * A user whom operations may name (opendfs_op.as): who asks for the same gets the same. Servers are
 * told of it with the first operation, and again in each new session. Put it back when the
 * operations that name it are done. Some are kept for the next who asks. On the loop. -ENOMEM,
 * -ERR_many_groups.
 */
NODISCARD int client_identity_get(struct opendfs *fs, uint32_t uid, uint32_t gid,
                                  const uint32_t *groups, size_t group_count,
                                  struct opendfs_identity **ret);
struct opendfs_identity *client_identity_again(struct opendfs_identity *as); /* one more to put */
/* Whether what is written through it from now on goes to the end of the file. */
void client_file_appends(struct opendfs_file *f, bool on);
/* Who looks names up and opens by number what he has found (a kernel): what a rename from here
 * replaces stays open for a second. On the loop. */
void client_keep_replaced(struct opendfs *fs);
/* As opendfs_async_flush(), and probably nobody writes through the handle any more. */
void client_flush_last(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file);
/* As opendfs_async_cancel(), on the loop. */
void client_op_cancel(struct opendfs_op *op);
/* What was known of the file has become old by a lock: true, once. */
bool client_lock_dropped(struct opendfs_file *f);
/* May the owner have locks of that kind (opendfs/lock.h)? On the loop. */
bool client_lock_held(const struct opendfs_file *f, unsigned kind, uint64_t owner);
void client_identity_put(struct opendfs *fs, struct opendfs_identity *as);
/* Waits for the operations under way, ends the session, then `stopped`, once, from the loop. Free
 * it then. New operations get -ESHUTDOWN. */
void client_stop(struct opendfs *fs, void (*stopped)(void *context), void *context);