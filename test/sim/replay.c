/* sim/replay.c -- see replay.h. */
#include "replay.h"

#include "metanode/read.h"

#include "namespace/namespace.h"

#define TRIES 8u /* one that applies more than the other had is no comparison */
#define OTHER_NEED_PERMILLE 150u
#define STEP_RECORDS 200u

struct replay {
    struct world *w;
    struct metanode_read read;
    struct namespace_digest digest;
    uint64_t index, goal;
    int rc;
    bool done;
};

static struct metanode *server(const struct world *w)
{
    const struct world_process *p = w->node[WORLD_META].process;
    return p == NULL ? NULL : p->meta;
}

static int take_digest(struct metanode_read *r, const struct namespace_view *v)
{
    struct replay *x = container_of(r, struct replay, read);
    int rc = 0;
    x->index = v->snapshot->index;
    while (rc == 0 && !x->digest.done) {
        rc = namespace_digest_step(v, STEP_RECORDS, &x->digest);
    }
    return rc;
}

static void digest_taken(struct metanode_read *r, int rc)
{
    struct replay *x = container_of(r, struct replay, read);
    x->rc = rc;
    x->done = true;
}

static void begin_inside(void *context)
{
    struct replay *x = context;
    x->read = (struct metanode_read){.run = take_digest, .done = digest_taken};
    x->digest = (struct namespace_digest){.done = false};
    x->done = false;
    metanode_read(server(x->w), &x->read);
}

static bool is_done(void *context)
{
    return ((const struct replay *)context)->done;
}

static bool is_serving(void *context)
{
    const struct replay *x = context;
    return server(x->w) != NULL && metanode_is_serving(server(x->w));
}

static bool has_applied(void *context)
{
    const struct replay *x = context;
    return server(x->w) != NULL && metanode_applied_index(server(x->w)) >= x->goal;
}

static uint64_t digest_of(struct replay *x)
{
    if (world_failed(x->w)) {
        return 0;
    }
    loop_sim_enter(x->w->node[WORLD_META].process->loop, begin_inside, x);
    world_run(x->w, is_done, x, 60 * WORLD_S, "the digest of the metadata");
    if (!world_failed(x->w) && x->rc < 0) {
        world_fail(x->w, "the digest of the metadata: %s", err_name(x->rc));
    }
    return x->digest.value;
}

/* True: there was a comparison. */
static bool compare(struct replay *x)
{
    struct world *w = x->w;
    world_run(w, is_serving, x, 60 * WORLD_S, "the metadata server serves");
    uint64_t before = digest_of(x);
    if (world_failed(w)) {
        return false;
    }
    x->goal = x->index;
    world_kill(w, WORLD_META);
    uint32_t need_permille = w->need_permille;
    w->need_permille = OTHER_NEED_PERMILLE;
    world_start(w, WORLD_META);
    w->need_permille = need_permille;
    world_run(w, has_applied, x, 60 * WORLD_S, "the metadata server applies its log");
    uint64_t after = digest_of(x);
    if (world_failed(w) || x->index != x->goal) {
        return false;
    }
    if (before != after) {
        world_fail(w, "two servers with the log up to %llu differ: digests %llx and %llx",
                   (unsigned long long)x->index, (unsigned long long)before,
                   (unsigned long long)after);
    }
    return true;
}

void replay_check(struct world *w)
{
    struct replay *x = mem_zalloc(sizeof *x);
    CHECK(x != NULL);
    x->w = w;
    bool compared = false;
    for (unsigned i = 0; i < TRIES && !compared && !world_failed(w); i++) {
        compared = compare(x);
    }
    if (!compared) {
        world_fail(w, "the metadata never rests: no two servers could be compared");
    }
    if (!world_failed(w)) {
        world_run(w, is_serving, x, 60 * WORLD_S, "the metadata server serves again");
    }
    mem_free(x);
}
