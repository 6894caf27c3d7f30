/*
 * metanode/mutate_priv.h -- one mutation of a client on its way: mutate.c takes it from the request
 * to the answer, consult.c asks those who hold what it changes in between.
 */
#pragma once

#include "metanode/metanode_priv.h"

#define METANODE_CONSULT_WRITERS 64u

/* Only where somebody may have to be asked. */
struct mutation_consult {
    struct metanode_mutation *mutation;
    struct metanode_latch_wait wait;
    struct metanode_inval inval;
    uint64_t ino, latched;                     /* latched: 0 if not */
    uint64_t writer[METANODE_CONSULT_WRITERS]; /* of `ino`, as the check found them */
    size_t writer_count;
    unsigned tries;
    bool asked;   /* the inval has its results */
    bool readers; /* who becomes a writer shares */
};

struct metanode_mutation {
    struct metanode_waiter waiter;
    struct metanode_read check;
    struct metanode *m;
    struct metanode_proposal *proposal; /* until it is submitted */
    struct namespace_reply reply;       /* of the check */
    uint64_t session, sequence, began_ns;
    uint32_t slot, crc;
    uint16_t opcode;
    bool blind;                       /* counts among those that asked nobody */
    struct mutation_consult *consult; /* NULL: nobody holds anything */
    struct list requests; /* of struct mutation_request: the first, and those attached */
};

/* Lives in the request's own memory. */
struct mutation_request {
    struct list node;
    struct peer_request *request;
};

/* mutate.c */
void metanode_mutation_check(struct metanode_mutation *u);
void metanode_mutation_submit(struct metanode_mutation *u);
void metanode_mutation_end(struct metanode_mutation *u, int rc,
                           const struct namespace_reply *reply);
const struct peer_request *metanode_mutation_request(const struct metanode_mutation *u);

/* consult.c: coherence.md 6.0, steps 2 to 5 and 8. */
/* Might this one have to ask somebody? Then u->consult is there. -ENOMEM. */
NODISCARD int metanode_consult_init(struct metanode_mutation *u);
/* More reads of the check. */
NODISCARD int metanode_consult_read(struct metanode_mutation *u, const struct namespace_view *v);
/* The check is done: asks, then encodes the command anew and submits it; or ends the mutation. */
void metanode_consult(struct metanode_mutation *u);
/* It was applied; true: not what was asked about, so that all begins again. */
bool metanode_consult_applied(struct metanode_mutation *u, int rc,
                              const struct namespace_reply *reply);
void metanode_consult_fini(struct metanode_mutation *u);
