/* metanode/lock_wait_priv.h -- one who waits for a lock. */
#pragma once

#include "metanode/metanode_priv.h"

struct lock_waiter {
    struct list node, of_owner;
    struct lock_file *file;
    struct lock_owner *owner;
    struct peer_request *request; /* NULL: its connection has ended; it may ask again */
    struct namespace_held_lock wanted;
    uint64_t cookie;
    uint64_t since;    /* lock_file.looks when it came: older looks do not count */
    uint64_t came_ns;  /* when it was asked first */
    uint64_t gone_ns;  /* since when there is no request */
    bool wait, cancel; /* cancel: it only wants to know whether it was granted */
    bool proposing;    /* its command is on its way */
    bool unchecked;    /* for whom it waits has changed: is there a cycle now? */
    struct lock_blocker blocker[METANODE_LOCK_BLOCKERS];
    size_t blocker_count;
    struct metanode_waiter applied;
};
