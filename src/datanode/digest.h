/*
 * datanode/digest.h -- what this target has of each chain as one number (chunk_store_sum()), told
 * to the leader, which compares members. Told when nothing of the chain has changed from one look
 * to the next, once for each state of it. Private to the folder.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct datanode_reporter;
struct datanode_worker;
struct proto_chain_digest;

/* From time to time. True: there is something to tell. */
bool datanode_digests_look(struct datanode_worker *w);
/* The next ones that are to be told; returns how many. They stay until they were heard. */
size_t datanode_digests_take(struct datanode_worker *w, struct proto_chain_digest *ret, size_t max);
/* These were heard. True: there are others. */
bool datanode_digests_heard(struct datanode_worker *w, const struct proto_chain_digest *heard,
                            size_t count);
/* A leader that knows nothing. */
void datanode_digests_forget(struct datanode_worker *w);
