/*
 * net/notify.h -- a service manager is told what has become of this process: the datagrams of
 * sd_notify(3), to the socket that NOTIFY_SOCKET names.
 */
#pragma once

#include "base/base.h"

/* `where`: the value of NOTIFY_SOCKET, NULL or "": nobody wants to know (0). `state`: "READY=1".
 * Does not block. -errno when it could not be told. */
NODISCARD int net_notify(const char *where, const char *state);
