/* client/lock_priv.h -- lock.c: locks that owners of this client have, or may have. */
#pragma once

#include "client/inode_priv.h"

/* Of an owner on a file. */
struct client_holder {
    struct list node; /* of inode.locks */
    uint64_t owner;
    uint8_t kind, type;        /* type: of the newest that was granted */
    bool has;                  /* something was granted, or may have been */
    unsigned asking;           /* questions under way */
    struct opendfs_file *file; /* through which it locked last; NULL: it is closed */
};
/* A handle goes: what was locked through it goes, too. */
void client_locks_closed(struct opendfs_file *f);
/* The session has ended: there are none. */
void client_locks_lost(struct client_inode *i);
void client_locks_fini(struct client_inode *i);
