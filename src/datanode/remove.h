/* datanode/remove.h -- data ids that are being removed. Private to the folder. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct datanode_worker;
struct peer_request;
struct peer_user;

/* Removed, or about to be: nothing new of it is accepted. */
bool datanode_removed(const struct datanode_worker *w, uint64_t data_id);
void datanode_on_remove_member(struct peer_user *user, struct peer_request *r);
