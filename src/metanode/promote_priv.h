/*
 * metanode/promote_priv.h -- the last way out of a dark chain (chain.md, R3): promote.c does what
 * an administrator orders, dark.c says in words and JSON what could be ordered, and what was set
 * aside by that. What is possible is cluster/promote.h's to say.
 */
#pragma once

#include "cluster/promote.h"
#include "metanode/metanode_priv.h"

/* chain.c: as metanode_chain_change(), for somebody who waits: `done` exactly once, unless this
 * fails. rc 0: applied. */
struct metanode_chain_told {
    void (*done)(struct metanode_chain_told *t, int rc);
};
NODISCARD int metanode_chain_order(struct metanode_chain *c, const struct cluster_row *next,
                                   struct metanode_chain_told *told);
struct cluster_chain_times metanode_chain_times(const struct metanode_chain *c);

/* promote.c: the handler. */
void metanode_chain_ordered(struct peer_user *u, struct peer_request *r);

/* dark.c */
/* What commands call this target: its name, or its number where others have that, too. */
#define METANODE_WORD_SIZE 80u
char *metanode_target_word(struct metanode *m, uint32_t target, char out[METANODE_WORD_SIZE]);
/* "2026-11-22T17:03:00.000Z" */
#define METANODE_TIME_SIZE 40u
char *metanode_time_text(uint64_t wall_ms, char out[METANODE_TIME_SIZE]);
/* What a chain that nobody serves waits for, and the command that would help if that never comes.
 */
struct metanode_way {
    size_t best;       /* the member that may be promoted, or row.count */
    char words[320];   /* one sentence */
    char command[128]; /* empty: there is none */
};
void metanode_way_out(struct metanode_chain *c, struct metanode_way *ret);
/* The first dark chain that a promotion would help, and how many there are; NULL: none. */
struct metanode_chain *metanode_way_first(struct metanode *m, size_t *ret_count);
/* Copies that are set aside; *ret_chain, *ret_member: the first of them. */
size_t metanode_aside_count(struct metanode *m, struct metanode_chain **ret_chain,
                            size_t *ret_member);
/* Members "dark" and "aside" of the JSON of the status, each with a comma behind it. */
void metanode_dark_json(struct metanode *m, struct text *out);
