/* client/connect_priv.h -- a client with a thread of its own, for programs of others. */
#pragma once

#include "base/env.h"
#include "client/core_priv.h"
#include "loop/executor.h"

struct client_thread {
    struct env env;
    struct opendfs *fs;
    struct loop_thread *thread;
};
struct client_thread *client_thread_free(struct client_thread *t);
/* What opendfs_last_error() tells this thread from now on. */
void client_note_error(const char *text);
/* Blocks until a leader has answered; -ETIMEDOUT after `ms` (0: never), with the cause noted. */
NODISCARD int client_wait_ready(struct opendfs *fs, uint64_t ms);
