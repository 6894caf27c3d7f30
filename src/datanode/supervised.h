/*
 * datanode/supervised.h -- the worker's end of the connection that it inherits from its master: it
 * says which target it serves, then again and again that its loop turns, and hears when the master
 * is gone.
 *
 * Owner: the loop of env; nothing blocks.
 */
#pragma once

#include "base/text.h"
#include "peer/auth.h"

struct datanode_supervised;
struct env;

#define DATANODE_EXIT_DISK 3 /* status of a worker that ends because its disk has failed */

struct datanode_supervised_user {
    const struct datanode_supervised_user_ops *ops;
};
struct datanode_supervised_user_ops {
    void (*lost)(struct datanode_supervised_user *u); /* once: the master has ended: stop */
    /* Do all chains that have this target serve with it? */
    bool (*settled)(const struct datanode_supervised_user *u);
    /* So many lives in a row have ended because the disk failed. Only if there are any. */
    void (*disk_failures)(struct datanode_supervised_user *u, uint32_t count);
};
struct datanode_supervised_options {
    const struct env *env;
    struct datanode_supervised_user *user;
    struct peer_secrets secrets;
    struct uuid cluster_id;
    const char *name; /* "target.0"; lent */
    int fd;           /* inherited */
    struct uuid uuid; /* what this worker serves */
    uint64_t incarnation;
    const char *address; /* where; lent */
};
NODISCARD int datanode_supervised_start(const struct datanode_supervised_options *opt,
                                        struct datanode_supervised **ret);
struct datanode_supervised *datanode_supervised_free(struct datanode_supervised *s);
DEFINE_FREEP(datanode_supervised)
