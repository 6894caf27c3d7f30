/* datanode/digest.c -- see digest.h. No queue: what is to be told follows from the chains. */
#include "datanode/digest.h"

#include "datanode/worker_priv.h"

static bool sum_equal(const struct chunk_sum *a, const struct chunk_sum *b)
{
    return a->count == b->count && a->digest == b->digest;
}

/* Members that are being filled, or have no lease, say nothing: they would differ. */
static bool digest_counts(const struct datanode_chain *c)
{
    return c->in_path && c->state == PROTO_MEMBER_SERVING && c->seen_epoch == c->row.epoch;
}

static bool digest_is_due(const struct datanode_chain *c)
{
    return digest_counts(c) && (c->told_epoch != c->seen_epoch || !sum_equal(&c->told, &c->seen));
}

bool datanode_digests_look(struct datanode_worker *w)
{
    bool due = false;
    LIST_FOR_EACH(at, &w->chain_list)
    {
        struct datanode_chain *c = LIST_ENTRY(at, struct datanode_chain, all);
        struct chunk_sum now;
        bool known = chunk_store_sum(w->store, c->id, &now) && !w->failed;
        bool rests = known && c->seen_epoch == c->row.epoch && sum_equal(&now, &c->seen);
        due = due || (rests && digest_is_due(c));
        c->resting = rests;
        c->seen = now;
        c->seen_epoch = known ? c->row.epoch : 0;
    }
    return due;
}

size_t datanode_digests_take(struct datanode_worker *w, struct proto_chain_digest *ret, size_t max)
{
    size_t count = 0;
    LIST_FOR_EACH(at, &w->chain_list)
    {
        const struct datanode_chain *c = LIST_ENTRY(at, struct datanode_chain, all);
        if (count < max && c->resting && digest_is_due(c)) {
            ret[count++] = (struct proto_chain_digest){.chain = c->id,
                                                       .epoch = c->seen_epoch,
                                                       .count = c->seen.count,
                                                       .digest = c->seen.digest};
        }
    }
    return count;
}

bool datanode_digests_heard(struct datanode_worker *w, const struct proto_chain_digest *heard,
                            size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct datanode_chain *c = datanode_chain_find(w, heard[i].chain);
        if (c != NULL) {
            c->told_epoch = heard[i].epoch;
            c->told = (struct chunk_sum){.count = heard[i].count, .digest = heard[i].digest};
        }
    }
    bool more = false;
    LIST_FOR_EACH(at, &w->chain_list)
    {
        const struct datanode_chain *c = LIST_ENTRY(at, struct datanode_chain, all);
        more = more || (c->resting && digest_is_due(c));
    }
    return more;
}

void datanode_digests_forget(struct datanode_worker *w)
{
    LIST_FOR_EACH(at, &w->chain_list)
    {
        LIST_ENTRY(at, struct datanode_chain, all)->told_epoch = 0;
    }
}
