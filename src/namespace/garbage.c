#include "namespace/plan_priv.h"

/* What data nodes have to remove: whole data ids (garbage), and what lies behind a size (trim). */

static bool namespace_chain_in(const struct proto_u32s *chains, uint32_t chain)
{
    bool found = false;
    for (size_t i = 0; i < chains->count && !found; i++) {
        found = chains->at[i] == chain;
    }
    return found;
}

static int namespace_garbage_end(struct namespace_plan *p, const struct namespace_key *key)
{
    CHECK(p->state.garbage > 0);
    p->state.garbage--;
    return namespace_plan_delete(p, key);
}

/* No chain has anything of it. */
static int namespace_garbage_gone(struct namespace_plan *p, uint64_t data_id)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_GARBAGE, data_id);
    struct namespace_garbage g;
    int rc = NAMESPACE_GET(&p->view, &key, namespace_garbage, &g);
    return rc <= 0 ? rc : namespace_garbage_end(p, &key); /* 0: it was said before */
}

/* One chain has removed one data id. The record goes when all chains of its layout have. */
static int namespace_garbage_answer(struct namespace_plan *p, uint64_t data_id, uint32_t chain)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_GARBAGE, data_id);
    struct namespace_garbage g;
    struct proto_u32s chains;
    int rc = NAMESPACE_GET(&p->view, &key, namespace_garbage, &g);
    if (rc <= 0) {
        return rc; /* an answer to a question asked twice */
    }
    rc = namespace_garbage_chains(&p->view, &g, &chains);
    if (rc < 0 || !namespace_chain_in(&chains, chain) || namespace_chain_in(&g.done, chain)) {
        return rc == -ENOENT ? -EUCLEAN : rc;
    }
    if (g.done.count + 1 >= chains.count) {
        return namespace_garbage_end(p, &key);
    }
    uint32_t *done = mem_arena_alloc(p->view.arena, (g.done.count + 1) * sizeof *done);
    if (done == NULL) {
        return -ENOMEM;
    }
    if (g.done.count > 0) {
        memcpy(done, g.done.at, g.done.count * sizeof *done);
    }
    done[g.done.count] = chain;
    g.done = (struct proto_u32s){.at = done, .count = g.done.count + 1};
    return NAMESPACE_PUT(p, &key, namespace_garbage, &g);
}

int namespace_garbage_finish(struct namespace_plan *p, const struct namespace_garbage_done *r)
{
    uint64_t last = 0;
    int rc = 0, needs = 0;
    for (size_t i = 0; i < r->data_ids.count && rc == 0; i++) {
        if (r->data_ids.at[i] <= last) {
            return -EINVAL; /* ascending, so that none is there twice */
        }
        last = r->data_ids.at[i];
        rc = namespace_plan_go_on(&needs, r->all ? namespace_garbage_gone(p, last)
                                                 : namespace_garbage_answer(p, last, r->chain));
    }
    return rc < 0 ? rc : needs;
}

int namespace_trim_finish(struct namespace_plan *p, const struct namespace_trim_done *r)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_TRIM, r->ino);
    struct namespace_trim t;
    int rc = NAMESPACE_GET(&p->view, &key, namespace_trim, &t);
    if (rc <= 0) {
        return rc;
    }
    if (t.tgen != r->tgen) {
        return -ESTALE; /* cut again meanwhile: the newer one is to be done too */
    }
    rc = r->fenced ? 0 : namespace_check_fences(p, t.fence_epoch);
    return rc < 0 ? rc : namespace_plan_delete(p, &key);
}
