/*
 * datanode/inventory.h -- what this target holds of the chains that it serves, told to the metadata
 * leader page by page: for its look for data that belongs to nothing, and where members differ.
 * Private to the folder.
 */
#pragma once

struct peer_request;
struct peer_user;

void datanode_on_inventory(struct peer_user *user, struct peer_request *r);
