/*
 * namespace/known.h -- callers (a session and one of its credentials) that were read once and need
 * not be read for each of their operations. A credential never changes as long as its session
 * exists; whoever keeps one drops it when the session ends.
 *
 * Owner: whoever embeds it; one thread. All zero is empty.
 */
#pragma once

#include "namespace/view.h"

struct namespace_known {
    uint64_t session; /* 0: empty */
    uint32_t cred;    /* 0: the client itself */
    uint32_t slots;
    struct namespace_cred who;
    uint32_t *groups; /* owned */
};

/* Reads it; what was in *ret is freed. -ERR_session_expired, -EPERM: no such credential; -ERR_need,
 * -ENOMEM and others of reading. *ret is empty or what it was then. */
NODISCARD int namespace_known_load(const struct namespace_view *v, uint64_t session, uint32_t cred,
                                   struct namespace_known *ret);
void namespace_known_fini(struct namespace_known *k);

#define NAMESPACE_KNOWN_MAX 16u
struct namespace_known_table {
    struct namespace_known at[NAMESPACE_KNOWN_MAX];
};
/* Read if it is not there; errors as above. Lent until the next call. */
NODISCARD int namespace_known_get(struct namespace_known_table *t, const struct namespace_view *v,
                                  uint64_t session, uint32_t cred,
                                  const struct namespace_known **ret);
void namespace_known_clear(struct namespace_known_table *t);
