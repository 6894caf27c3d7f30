/*
 * peer/auth.h -- proofs of the `hello` exchange: HMAC-SHA256 over both nonces, the cluster id, the
 * roles, what was agreed and who speaks, so that neither side can pass the other's proof back, nor
 * use it on another connection. Pure functions, any thread; -ENOMEM when libcrypto has none.
 *
 * Clients (PROTO_ROLE_CLIENT) share the client secret with the servers, all others the cluster's
 * own.
 */
#pragma once

#include "proto/proto.h"

#define PEER_SECRET_BYTES 32u
/* May come without knowing the cluster's id: who else knows the secret is of the right one. */
#define PEER_ROLES_JOINING (PROTO_ROLE_ADMIN | PROTO_ROLE_CLIENT)
#define PEER_NONCE_BYTES 32u
#define PEER_PROOF_BYTES 32u

struct peer_secret {
    uint8_t bytes[PEER_SECRET_BYTES];
    bool known;
};
struct peer_secrets {
    struct peer_secret server; /* servers and administrators */
    struct peer_secret client;
};
/* 64 hexadecimal digits; -EINVAL. */
NODISCARD int peer_secret_from_text(struct peer_secret *s, const char *hex);

enum peer_side { PEER_SIDE_ASKED = 1, PEER_SIDE_ASKING = 2 };

/* Is the secret known that a sender of this role must know? */
bool peer_auth_possible(const struct peer_secrets *s, uint32_t role);
/* What `side` sends. The reply's own proof is no part of it. -EACCES: the secret is not known. */
NODISCARD int peer_auth_prove(const struct peer_secrets *s, enum peer_side side,
                              const struct proto_hello_request *hello,
                              const struct proto_hello_reply *reply, uint8_t ret[PEER_PROOF_BYTES]);
/* In constant time. -EACCES: wrong or unknown secret. */
NODISCARD int peer_auth_check(const struct peer_secrets *s, enum peer_side side,
                              const struct proto_hello_request *hello,
                              const struct proto_hello_reply *reply, struct proto_bytes proof);
