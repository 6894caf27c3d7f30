/*
 * cluster/moves.h -- which member joins or leaves which chain next: away from targets that are to
 * be emptied, anew for members that are lost, out of failure domains that have two, and to targets
 * that have less than their share.
 *
 * Pure, and without memory: what is under way is read from the rows. A chain with more members than
 * copies is in the middle of a move, whoever began it; so a new leader goes on where the old one
 * ended. The order is that of chain.md section 9: a member is added behind the others, and only
 * when as many as there are to be serve without it does another one go (R5). At no time does a move
 * take a chain below its copies. Chains that lack most come first; two members share a failure
 * domain only where nothing else is left.
 */
#pragma once

#include "cluster/placement.h"

struct cluster_place {
    struct cluster_target target; /* weight 0: gets nothing */
    bool usable;                  /* up, and with room above its reserve: may get copies */
    bool full;                    /* up, but without that room */
    bool leaves;                  /* is to keep no copies */
    uint32_t heir;                /* the target that gets what is here, if it can; 0: any */
};
struct cluster_moves_class {
    uint32_t id;
    size_t copies;
    enum proto_failure_domain domain;
    const bool *suits; /* by place: it has the labels of the class */
};
struct cluster_moves_chain {
    const struct cluster_row *row;
    uint32_t lost; /* bit i: member i has been away for too long to be waited for */
    bool busy;     /* a change of its row is under way */
};
struct cluster_moves_facts {
    const struct cluster_place *place; /* all targets, ascending by id */
    size_t place_count;
    const struct cluster_moves_class *class;
    size_t class_count;
    const struct cluster_moves_chain *chain;
    size_t chain_count;
    unsigned per_target; /* copies made at a time, to one target as well as from one */
    bool balance;        /* also moves what only lies unevenly, or in one failure domain */
};

enum cluster_move_kind {
    CLUSTER_MOVE_JOIN,   /* a row with `target` behind the others, waiting */
    CLUSTER_MOVE_REVOKE, /* `target` is in the data path: it is asked to stop, then it is offline */
    CLUSTER_MOVE_DROP,   /* `target` is not: a row without it */
};
struct cluster_move {
    enum cluster_move_kind kind;
    size_t chain; /* its place in facts->chain */
    uint32_t target;
};

struct cluster_moves_sum {
    size_t leaving;    /* copies on targets that are to keep none, */
    size_t lost;       /* that have to be made anew, */
    size_t uneven;     /* that go to other targets so that each has its share, about */
    size_t making;     /* that are being made */
    size_t endangered; /* chains with fewer serving members than copies */
    size_t stuck;      /* chains that lack a member, and no target can be it */
    size_t clashing;   /* chains with two members in one failure domain */
    size_t looks;      /* at chains, to choose targets: statistics */
};

/* At most one move for each chain, the most urgent first; *ret_count of at most `max`. -ENOMEM. */
NODISCARD int cluster_moves_plan(const struct cluster_moves_facts *facts, struct cluster_move *ret,
                                 size_t max, size_t *ret_count, struct cluster_moves_sum *ret_sum);

/* The row with the move made; epoch + 1. Not for REVOKE. */
void cluster_move_row(const struct cluster_row *row, const struct cluster_move *move,
                      struct cluster_row *ret);
