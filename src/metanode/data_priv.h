/* metanode/data_priv.h -- the parts of the server that see to data nodes (metanode_priv.h). */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "cluster/chain.h"
#include "loop/loop.h"
#include "metanode/compare_priv.h"
#include "metanode/errand_priv.h"
#include "metanode/seat_priv.h"
#include "peer/link.h"
#include "proto/proto.h"

struct mem_arena;
struct metanode;
struct peer_request;

/* ---- target.c, register.c: data nodes ---- */
#define METANODE_FORGET_MAX 1088u

struct metanode_target {
    struct dict_node node;
    struct list all;
    struct metanode *m;
    uint32_t id;
    struct uuid uuid, boot_id;
    char address[128], host[65], rack[65], labels[256], name[65];
    uint32_t weight;
    uint8_t plan, engine; /* enum proto_target_plan, proto_engine; 0: it has not said it yet */
    uint32_t heir;        /* of PROTO_PLAN_REPLACE */
    uint64_t logged;      /* the incarnation of the record: it has passed R4 */
    uint64_t incarnation; /* the registered one, `logged` or above */
    uint64_t total, free, used;
    uint32_t damaged;
    bool registered; /* with this leader */
    bool lossy, low_space;
    char sick[121]; /* what is wrong with its disk, in its own words; empty: nothing */
    bool ejected;   /* so it shall be in no chain that others serve */
    bool alive;     /* heard within T */
    uint64_t heard_ns;
    struct peer_link *link;
    struct loop_timer expiry; /* T behind the receipt of the last heartbeat that was granted */
    uint32_t suspect[16];     /* R6, as named in the newest heartbeat */
    size_t suspect_count;
    uint64_t forget[METANODE_FORGET_MAX]; /* for the answer to its next heartbeat */
    size_t forget_count;
    bool forget_asked; /* is being found out */
    /* report.c */
    int disk_error; /* 0: none was told */
    uint64_t disk_error_ns;
    char disk_text[256];
    bool has_figures;
    struct proto_report_figures figures;
    uint64_t to_copy; /* bytes that others get from here, about, as of the last look of moves.c */
};
struct metanode_targets {
    struct dict by_id;
    struct list all;    /* ascending by id */
    struct list writes; /* of records, under way: write_priv.h */
    uint64_t visits;    /* to find one by its id: statistics */
    size_t count;
};
void metanode_targets_init(struct metanode *m);
void metanode_targets_fini(struct metanode *m);
struct metanode_target *metanode_target_find(struct metanode *m, uint32_t id);
struct metanode_target *metanode_target_of(struct metanode *m, const struct uuid *uuid);
/* Whose request it is, if that is registered with this leader; else NULL, and it is answered. */
struct metanode_target *metanode_target_who(struct metanode *m, struct peer_request *r, uint32_t id,
                                            uint64_t incarnation);
/* From the stored record: new or changed. */
int metanode_target_put(struct metanode *m, const struct proto_target *r);
/* This leader expires nobody before it has led for T. */
void metanode_targets_start(struct metanode *m);
void metanode_target_down(struct metanode *m, struct peer_link *l);
/* Does it keep copies? Not when it is drained, replaced, removed, or of weight 0. */
static inline bool metanode_target_stays(const struct metanode_target *t)
{
    return t->plan == PROTO_PLAN_NORMAL && t->weight > 0;
}
/* It has been removed, and nothing of it is there any more. */
static inline bool metanode_target_is_past(const struct metanode_target *t)
{
    return t->plan == PROTO_PLAN_REMOVED && !t->alive;
}
/* Points into `t`. */
struct proto_target metanode_target_record(const struct metanode_target *t);
void metanode_target_gone(struct metanode_target *t, const char *why);
/* revoke.c: what it says of its disk. Not more than one of ten is ejected at a time, or one: many
 * disks that are slow at once are not sick, but have too much to do. */
void metanode_target_sick(struct metanode_target *t, struct proto_bytes words);
bool metanode_target_named(const struct metanode_target *by, uint32_t id);
/* forget.c: which of these data ids nobody needs to know as removed any more. */
void metanode_forget_ask(struct metanode_target *t, const struct proto_heartbeat_request *q);
void metanode_register(struct peer_user *u, struct peer_request *r);
void metanode_heartbeat(struct peer_user *u, struct peer_request *r);
void metanode_exited(struct peer_user *u, struct peer_request *r);

/* ---- chain.c, seat.c, revoke.c: rows and facts (chain.md 4) ---- */
struct metanode_chain {
    struct dict_node node;
    struct list all, dirty;
    struct list thin; /* of those in which not everybody serves */
    struct metanode_seat seat[CLUSTER_MEMBERS_MAX];
    struct metanode *m;
    struct cluster_row row;
    struct cluster_fact fact[CLUSTER_MEMBERS_MAX]; /* at the member's place of the row, as are */
    uint32_t must_know[CLUSTER_MEMBERS_MAX];       /* R4: no lease before it knows this epoch */
    uint64_t hold_until_ns[CLUSTER_MEMBERS_MAX];   /* removed (R6), or left: not back before */
    uint64_t away_since_ns[CLUSTER_MEMBERS_MAX];   /* offline since, or waiting, and cannot come in;
                                                      0: it is not */
    uint64_t dark_since_ns;
    struct metanode_digests digests;
    bool proposing, revoking;
    uint32_t copies; /* of its class, as of the last look at what is to be moved; 0: not yet */
    uint64_t bytes;  /* of a copy, about, as of that look */
};
int metanode_chains_init(struct metanode *m);
void metanode_chains_fini(struct metanode *m);
void metanode_chains_start(struct metanode *m);
struct metanode_chain *metanode_chain_find(struct metanode *m, uint32_t id);
/* A stored row: the cache follows, members are told. */
int metanode_chain_put(struct metanode *m, const struct proto_row *from);
/* Something is known of a member of this chain: look at it again, soon. */
void metanode_chain_touch(struct metanode_chain *c);
void metanode_chains_gone(struct metanode *m, uint32_t target);
/* A worker has registered; `newer`: a later incarnation than that which is known. */
void metanode_chains_registered(struct metanode *m, const struct metanode_target *t, bool newer);
void metanode_chain_heard(struct metanode_chain *c, const struct metanode_target *t,
                          const struct proto_chain_report *report);
/* R4: may this target serve at all now? `known`: nothing waits to be learned by it either. */
bool metanode_chains_settled(struct metanode *m, uint32_t target, bool known);
/* Rows of a target's chains with an epoch other than what it reported (NULL: all), in the arena. */
int metanode_chains_rows(struct metanode *m, uint32_t target,
                         const struct proto_chain_report_list *known, struct mem_arena *a,
                         struct proto_row_list *ret);
/* Rows of chains that a target names and is no member of, with another epoch than the row's: it has
 * not learned yet that it left, or has chunks of before. Until then it gets no lease. In the arena,
 * behind those that are there. */
int metanode_chains_left(struct metanode *m, uint32_t target,
                         const struct proto_chain_report_list *known, struct mem_arena *a,
                         struct proto_row_list *rows, bool *ret_left);
/* Proposes a row, unless a change of it is under way. */
void metanode_chain_change(struct metanode_chain *c, const struct cluster_row *next);
/* R5: asks a member to stop; it is offline when it has, and does not come back for a while. */
void metanode_chain_revoke(struct metanode_chain *c, uint32_t target);
/* R5, R6. */
void metanode_chains_suspect(struct metanode *m, const struct metanode_target *by);
void metanode_revokes_fini(struct metanode *m);

/* ---- table.c: storage classes and their chain tables ---- */
struct metanode_tables {
    struct loop_timer quiet;
    bool growing;  /* one at a time */
    uint32_t next; /* class to begin with */
    struct loop_timer again;
    uint64_t avoided_ns; /* when a version was made only because targets are full, or not any more
                          */
};
void metanode_tables_touch(struct metanode *m); /* targets came or changed */
void metanode_tables_fini(struct metanode *m);
bool metanode_target_suits(const struct metanode_target *t, struct proto_bytes labels);
/* ---- garbage.c, trim.c, fence.c: asked until it is answered; trash.c: garbage by time ---- */
#define METANODE_CALL_MS 30000u
#define METANODE_BACKOFF_MIN_MS 100u
#define METANODE_BACKOFF_MAX_MS 10000u
struct metanode_cleanup {
    struct metanode_errand garbage, trims;
    struct metanode_garbage *page; /* of the garbage, that is being removed */
    struct metanode_fences *fencing;
    struct metanode_trash *trash;
    struct metanode_check *check;
    struct metanode_audits *audits;
    struct metanode_compares *compares;
    size_t fences; /* sessions that could still write somewhere */
};
int metanode_cleanup_init(struct metanode *m);
void metanode_cleanup_fini(struct metanode *m);
void metanode_cleanup_start(struct metanode *m);
void metanode_cleanup_stop(struct metanode *m);
/* The head of a chain, where it can be asked; NULL: not now. */
struct peer_link *metanode_head_link(struct metanode *m, uint32_t chain,
                                     struct proto_route *ret_route);

extern const struct metanode_errand_ops metanode_garbage_ops, metanode_trim_ops;
int metanode_garbage_init(struct metanode *m);
void metanode_garbage_fini(struct metanode *m);
int metanode_fence_init(struct metanode *m);
void metanode_fence_stop(struct metanode *m);
void metanode_fence_fini(struct metanode *m);
void metanode_fence_kick(struct metanode *m);
int metanode_trash_init(struct metanode *m);
void metanode_trash_stop(struct metanode *m);
void metanode_trash_fini(struct metanode *m);
void metanode_trash_kick(struct metanode *m);
/* A file has gone to the trash, until then. */
void metanode_trash_came(struct metanode *m, int64_t expiry_ns);
int metanode_fsck_init(struct metanode *m);
void metanode_fsck_fini(struct metanode *m);
/* Has this incarnation of the target shut out every session that is to be? */
bool metanode_fence_acked(struct metanode *m, const struct metanode_target *t);
