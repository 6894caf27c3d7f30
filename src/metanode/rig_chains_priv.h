/*
 * metanode/rig_chains_priv.h -- what tests ask about all chains of a server at once.
 */
#pragma once

#include "metanode/metanode_priv.h"
#include "metanode/rig_priv.h"

struct rig_serving {
    struct rig *rig;
    size_t count;
};

static inline bool rig_all_serve(void *ctx)
{
    const struct rig_serving *w = ctx;
    const struct metanode *m = w->rig->m;
    bool all = m->chains.count > 0;
    LIST_FOR_EACH(node, &m->chains.all)
    {
        const struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        all = all && cluster_row_serving_count(&c->row) == w->count;
    }
    return all;
}

/* Until so many members of each chain serve. */
static inline bool rig_reach(struct rig *r, size_t serving)
{
    struct rig_serving w = {.rig = r, .count = serving};
    return rig_until(r, rig_all_serve, &w);
}

static inline size_t rig_serving_least(const struct rig *r)
{
    size_t least = SIZE_MAX;
    LIST_FOR_EACH(node, &r->m->chains.all)
    {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        least = base_min(least, cluster_row_serving_count(row));
    }
    return least;
}

/* Two copies, all of them serving, and nothing is under way. */
static inline bool rig_all_rest(void *ctx)
{
    const struct rig *r = ctx;
    bool all = r->m != NULL && r->m->phase == METANODE_SERVING && r->m->chains.count > 0;
    uint64_t ms;
    if (!all) {
        return false;
    }
    LIST_FOR_EACH(node, &r->m->chains.all)
    {
        const struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        all = all && c->row.count == 2 && cluster_row_serving_count(&c->row) == 2 &&
              !c->proposing && !c->revoking;
    }
    return all && metanode_moves_left(r->m, &ms) == 0;
}
