/* datanode/remove.h -- data ids that are being removed. Private to the folder. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct datanode_chain;
struct datanode_worker;
struct peer_request;
struct peer_user;

/* Removed, or about to be: nothing new of it is accepted. */
bool datanode_removed(const struct datanode_worker *w, uint64_t data_id);
/* What this chain's successor is asked is void: a new row, or this worker ends. */
void datanode_removes_void(struct datanode_chain *c);
void datanode_on_remove_member(struct peer_user *user, struct peer_request *r);
