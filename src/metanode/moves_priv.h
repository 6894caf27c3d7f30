/* metanode/moves_priv.h -- moves.c, table.c: where copies lie, and what is moved. */
#pragma once

#include "cluster/moves.h"
#include "loop/loop.h"
#include "proto/proto.h"

struct metanode;
struct metanode_target;

/* As the placement sees it. */
struct cluster_target metanode_target_place(const struct metanode_target *t);
/* Of a class over these targets. */
enum proto_failure_domain metanode_table_domain(const struct proto_storage_class *class,
                                                const struct cluster_target *t, size_t n);

/* How even its chains lie over the targets that stay; returns how many it has. */
size_t metanode_table_spread(struct metanode *m, const struct proto_storage_class *class,
                             struct cluster_spread *ret);

/* ---- moves.c: members that join and leave chains (cluster/moves.h) ---- */
struct metanode_moves {
    struct loop_timer timer;
    bool looking, again, soon;
    bool looked;                  /* nothing has changed since it looked last */
    bool paused;                  /* as of the last look: the record says so */
    struct cluster_moves_sum sum; /* of the last look */
    uint64_t begun_ns;            /* since when there has been something to do; 0: there is not */
    size_t done;                  /* members that have gone since */
    uint64_t done_bytes, left_bytes; /* about: what is used on a target is shared by its chains */
    uint64_t rate_ms; /* what is left takes that at least, by the `move_rate` of the sources */
};
void metanode_moves_start(struct metanode *m);
void metanode_moves_fini(struct metanode *m);
/* A row, a target or a setting has changed: looks, soon. */
void metanode_moves_touch(struct metanode *m);
/* Members that are still to go; how long that may take, by what was done so far; 0: nobody knows.
 */
size_t metanode_moves_left(const struct metanode *m, uint64_t *ret_ms);
