/* client/linger_priv.h -- linger.c: files that were replaced a moment ago. Owner: the client's
 * loop.
 */
#pragma once

#include "base/list.h"
#include "loop/loop.h"

struct opendfs;
struct client_lingers {
    struct list all; /* struct linger, the oldest first */
    unsigned count;
    bool wanted; /* client_keep_replaced() */
    struct loop_timer timer;
};
void client_lingers_init(struct opendfs *fs);
void client_lingers_fini(struct opendfs *fs);
/* Whether a rename says that this client has what it replaces open. */
bool client_lingers_next(const struct opendfs *fs);
void client_linger(struct opendfs *fs, uint64_t ino); /* it did, and there was such a file */
