/*
 * client/fetch_priv.h -- what a read (fetch.c) and the second request for it (hedge.c) share.
 * Owner: the client's loop.
 */
#pragma once

#include "client/update_priv.h"

/* A member that can be reached and has not failed for this read, for a request beside the one to
 * `except` (0: nobody). row->count: there is none. */
size_t client_fetch_other(const struct client_fetch *f, const struct cluster_row *row,
                          uint32_t except);
/* Does what came fit its checksums, and what was asked for? */
bool client_fetch_fits(const struct client_fetch *f, const struct peer_reply *r);
/* One member's failure: is it a bad copy; then that is counted, and the member told when it does
 * not know. */
bool client_fetch_is_bad(struct client_fetch *f, uint32_t target, const struct peer_reply *r);
void client_fetch_failed(struct client_fetch *f, uint32_t target, int rc);
/* Every serving member has given bad bytes, or says that it has none. */
bool client_fetch_all_bad(const struct client_fetch *f);
/* What an answer to a request sent at `sent_ns` tells about its target. `overtaken`: it was not
 * waited for any more. */
void client_fetch_account(const struct client_fetch *f, struct client_source *s, uint64_t sent_ns,
                          const struct peer_reply *r, bool overtaken);

/* hedge.c. With each attempt: when it is late, another member is asked as well. */
void client_hedge_arm(struct client_fetch *f);
/* The attempt is over; `v` is what to do without a second request. */
enum client_verdict client_hedge_landed(struct client_fetch *f, enum client_verdict v);
/* The read is over: what the other member says is not heard any more. */
void client_hedge_drop(struct client_fetch *f);
