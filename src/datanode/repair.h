/*
 * datanode/repair.h -- damaged chunks (section 10). Private to the folder.
 */
#pragma once

#include "chunk/chunk.h"

struct datanode_chain;
struct datanode_item;
struct peer_request;
struct peer_user;

/* Gets a good copy of the same identity from another member. No effect when that is under way, or
 * too many are: whoever finds the damage next asks again. */
void datanode_repair_start(struct datanode_chain *c, struct datanode_item *it);
void datanode_repair_key(struct datanode_chain *c, struct chunk_key key);

void datanode_on_fetch(struct peer_user *user, struct peer_request *r);
