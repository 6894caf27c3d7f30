/*
 * datanode/resync.h -- bringing a syncing member up to date (section 9 of the protocol): the
 * source's side and the syncing member's side of a session. Private to the folder.
 */
#pragma once

#include <stdbool.h>

struct chunk_sum;
struct datanode_chain;
struct peer_request;
struct peer_user;

/* The predecessor of a syncing member: a session for the present row. Stop ends it, at once. */
void datanode_resync_start(struct datanode_chain *c);
void datanode_resync_stop(struct datanode_chain *c);
/* What this target has of the chain, in numbers that leave nothing out that a session would look
 * at. False: they do, or may. */
bool datanode_resync_sum(const struct datanode_chain *c, struct chunk_sum *ret); /* ..._sink.c */
/* The syncing member: whatever belongs to the session of an older row is forgotten. */
void datanode_sink_stop(struct datanode_chain *c);

void datanode_on_sync_begin(struct peer_user *user, struct peer_request *r);
void datanode_on_index(struct peer_user *user, struct peer_request *r);
void datanode_on_copy(struct peer_user *user, struct peer_request *r);
void datanode_on_drop(struct peer_user *user, struct peer_request *r);
void datanode_on_sync_end(struct peer_user *user, struct peer_request *r);
