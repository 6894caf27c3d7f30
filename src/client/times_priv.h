/*
 * client/times_priv.h -- setattr beside what is written here (coherence.md 6.1). Owner: the
 * client's loop.
 */
#pragma once

#include "client/op_priv.h"

/* Sends request.setattr, in its turn with what is told of writes of before. When it is answered, or
 * given up: _end(), before anybody is told. */
void client_times_set(struct client_task *t,
                      void (*next)(struct client_task *t, const struct peer_reply *r));
void client_times_end(struct client_task *t, int rc);
void client_times_known(struct opendfs *fs, const struct proto_attr *a); /* what was answered */
