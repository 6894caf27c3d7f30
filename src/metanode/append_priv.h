/* metanode/append_priv.h -- append.c: who may append to a file that several write. */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "loop/loop.h"

struct metanode;
struct metanode_session;
struct namespace_reply;
struct peer_request;

struct metanode_appends {
    struct dict by_ino;
    struct list all;
    size_t count;
    struct loop_timer timer;
    struct loop_task task;
    struct peer_request *serving;
};
void metanode_appends_init(struct metanode *m);
void metanode_appends_fini(struct metanode *m);
/* True: an append_turn may be proposed; metanode_append_turned() must follow. False: it waits, or
 * was refused. */
bool metanode_append_take(struct metanode *m, struct metanode_session *s, struct peer_request *r);
/* What became of it: `rc`, or what the state machine said. */
void metanode_append_turned(struct metanode *m, uint64_t session, const struct peer_request *r,
                            int rc, const struct namespace_reply *reply);
/* The session has nothing to append to this file any more (ino 0: to any). */
void metanode_append_moved(struct metanode *m, uint64_t ino, uint64_t session);
