/*
 * datanode/sync.h -- SYNC (section 8): what is committed becomes stable on all members. Private to
 * the folder.
 */
#pragma once

#include "chunk/chunk.h"
#include "proto/proto.h"

struct datanode_chain;
struct peer_request;

/* A WRITE with the sync flag that was executed before: answered with `reply` when stable. */
void datanode_sync_then_answer(struct datanode_chain *c, struct peer_request *r,
                               struct chunk_key key, const struct proto_write_reply *reply);
/* What this chain's successor is asked is void: a new row, or this worker ends. */
void datanode_syncs_void(struct datanode_chain *c);
