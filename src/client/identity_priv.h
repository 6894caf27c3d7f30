/*
 * client/identity_priv.h -- users other than the one of the client. Each has a credential in the
 * session, which the servers gave it; calls in its name wait until it has. One is registered at a
 * time.
 */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "peer/client.h"

#define CLIENT_IDENTITIES_IDLE 1024u
#define CLIENT_GROUPS_MAX 65536u
struct opendfs_identity {
    struct dict_node node;
    struct list idle;   /* of identities.idle while nobody has it, the oldest first */
    struct list wanted; /* of identities.wanted while it waits for its turn */
    unsigned refs;
    uint64_t session_number; /* in which `cred` counts */
    uint32_t uid, gid, cred;
    size_t group_count;
    uint32_t groups[];
};
struct client_identities {
    struct dict dict;
    struct list idle, wanted;
    size_t idle_count;
    struct opendfs_identity *asking; /* its registration is under way, in session `number`; */
    uint64_t number;
    struct peer_call call;
    struct proto_credential_request request;
    struct list waiting; /* queries: client_call.node; mutations wait for a slot */
};

void client_identities_init(struct opendfs *fs);
void client_identities_fini(struct opendfs *fs);
/* Has a credential in this session; NULL has. */
bool client_identity_known(const struct opendfs *fs, const struct opendfs_identity *as);
uint32_t client_identity_cred(const struct opendfs *fs, const struct opendfs_identity *as);
/* Registers it; then client_calls_named(). */
void client_identity_want(struct opendfs *fs, struct opendfs_identity *as);
/* The session is ready: who waits for a credential asks for it in this one. */
void client_identities_ready(struct opendfs *fs);
/* Calls that wait for this identity go on, or end with `rc`; if `late` only those whose time is
 * over. slots.c */
void client_calls_named(struct opendfs *fs, const struct opendfs_identity *as, int rc, bool late);
