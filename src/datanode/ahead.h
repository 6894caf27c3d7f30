/* datanode/ahead.h -- requests that walk over chunks, and wait for what is on the disk of the
 * index. */
#pragma once

#include "chunk/chunk.h"

struct datanode_worker;
struct peer_request;
struct peer_user;

/* A walk was told -ERR_need at `from`: when that is there, `again` is called with the same request,
 * as if it had just come; or it is refused, also when its link has ended meanwhile. */
void datanode_request_ahead(struct datanode_worker *w, struct peer_request *r,
                            struct chunk_key from,
                            void (*again)(struct peer_user *user, struct peer_request *r));
