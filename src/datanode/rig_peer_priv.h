/*
 * datanode/rig_peer_priv.h -- for tests only: the secrets that all of a test's cluster share, and
 * the end of a connection that does not care when it comes and goes.
 */
#pragma once

#include "peer/auth.h"
#include "peer/link.h"

#include <string.h>

#define RIG __attribute__((unused)) static

RIG struct peer_secrets rig_secrets(void)
{
    struct peer_secrets s = {.server.known = true, .client.known = true};
    memset(s.server.bytes, 5, sizeof s.server.bytes);
    memset(s.client.bytes, 6, sizeof s.client.bytes);
    return s;
}

RIG void rig_nothing_up(struct peer_user *u, struct peer_link *l)
{
    (void)u;
    (void)l;
}
RIG void rig_nothing_down(struct peer_user *u, struct peer_link *l, int rc, const char *reason)
{
    (void)u;
    (void)l;
    (void)rc;
    (void)reason;
}
static const struct peer_user_ops rig_nothing_ops = {.up = rig_nothing_up,
                                                     .down = rig_nothing_down};
