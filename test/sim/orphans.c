/* sim/orphans.c -- see orphans.h. */
#include "orphans.h"

#include "chunk/read.h"
#include "opendfs/check.h"

#include <string.h>

#define INDEX 3u
#define TRIES 20u
#define WAIT_NS (4 * WORLD_S) /* longer than audit_wait of process.c */

enum orphans_ask { ORPHANS_START, ORPHANS_STATUS };

struct orphans_put {
    struct orphans *o;
    struct chunk_store *store;
    struct chunk_update update;
    bool done;
};
struct orphans {
    struct world *w;
    const struct orphans_place *place;
    struct orphans_put put[CLUSTER_MEMBERS_MAX];
    struct opendfs_op op;
    enum orphans_ask ask;
    bool arrived, over; /* over: the newest look */
    int result;
    uint64_t until_ns;
};

/* ---- Stores ---- */

static void put_done(struct chunk_update *u, int rc)
{
    struct orphans_put *p = container_of(u, struct orphans_put, update);
    CHECK(rc == 0);
    p->done = true;
}

static void put_inside(void *context)
{
    struct orphans_put *p = context;
    p->update = (struct chunk_update){.done = put_done,
                                      .key = {.data_id = p->o->place->data_id, .index = INDEX},
                                      .chain = p->o->place->chain,
                                      .identity = {.aepoch = 1, .ver = 1},
                                      .kind = CHUNK_WHOLE,
                                      .install = true,
                                      .last_ver = 1};
    chunk_store_update(p->store, &p->update);
}

static bool is_put(void *context)
{
    return ((const struct orphans_put *)context)->done;
}

static size_t members_that_have(const struct orphans *o)
{
    size_t count = 0;
    for (size_t i = 0; i < o->place->count; i++) {
        struct chunk_key key = {.data_id = o->place->data_id, .index = INDEX};
        struct chunk_info info;
        count += chunk_store_lookup(o->put[i].store, key, &info) == -ENOENT ? 0 : 1;
    }
    return count;
}

static bool none_has(void *context)
{
    return members_that_have(context) == 0;
}

/* ---- The administrator ---- */

static struct world_process *client(const struct orphans *o)
{
    return o->w->node[WORLD_CLIENT(0)].process;
}

static bool client_runs(void *context)
{
    const struct orphans *o = context;
    return client(o) != NULL && client(o)->fs != NULL;
}

static void ask_done(struct opendfs_op *op)
{
    struct orphans *o = container_of(op, struct orphans, op);
    static const char done[] = "\"audit\":{\"state\":\"done\"";
    o->arrived = true;
    o->result = (int)op->result;
    if (o->ask == ORPHANS_STATUS && op->result >= 0) {
        o->over = memmem(op->data, op->data_len, done, sizeof done - 1) != NULL;
    }
}

static void ask_inside(void *context)
{
    static const struct opendfs_audit look = {.release = 0};
    struct orphans *o = context;
    if (o->ask == ORPHANS_STATUS && o->arrived) {
        opendfs_async_release(client(o)->fs, &o->op);
    }
    o->op = (struct opendfs_op){.done = ask_done};
    o->arrived = false;
    if (o->ask == ORPHANS_START) {
        opendfs_async_audit(client(o)->fs, &o->op, &look);
    } else {
        opendfs_async_status_json(client(o)->fs, &o->op);
    }
}

static bool has_arrived(void *context)
{
    return ((struct orphans *)context)->arrived;
}

static bool time_is_over(void *context)
{
    const struct orphans *o = context;
    return world_now_ns(o->w) >= o->until_ns;
}

static void rest(struct orphans *o, uint64_t ns)
{
    o->until_ns = world_now_ns(o->w) + ns;
    world_run(o->w, time_is_over, o, ns + WORLD_S, "time passes");
}

static void ask(struct orphans *o, enum orphans_ask what)
{
    o->arrived = o->arrived && o->ask == what && what == ORPHANS_STATUS && o->result >= 0;
    o->ask = what;
    loop_sim_enter(client(o)->loop, ask_inside, o);
    world_run(o->w, has_arrived, o, 60 * WORLD_S, "an administrator is answered");
}

/* A whole look; one of before may be under way. */
static void look(struct orphans *o)
{
    o->result = -1;
    o->over = false;
    for (unsigned i = 0; i < TRIES && o->result < 0 && !world_failed(o->w); i++) {
        ask(o, ORPHANS_START);
        rest(o, WORLD_S);
    }
    for (unsigned i = 0; i < TRIES && !o->over && !world_failed(o->w); i++) {
        ask(o, ORPHANS_STATUS);
        rest(o, WORLD_S);
    }
    if (!o->over && !world_failed(o->w)) {
        world_fail(o->w, "a look for orphans does not end");
    }
}

void orphans_check(struct world *w, const struct orphans_place *place)
{
    struct orphans *o = mem_zalloc(sizeof *o);
    CHECK(o != NULL);
    o->w = w;
    o->place = place;
    /* A clock that was put back would have the wait last until it has caught up. */
    loop_sim_clock(w->sim, w->node[WORLD_META].host, INT64_C(86400) * (int64_t)WORLD_S, 0);
    w->plants = true; /* one after the other: neighbours differ meanwhile */
    for (size_t i = 0; i < place->count; i++) {
        struct world_process *p = w->node[place->node[i]].process;
        o->put[i] = (struct orphans_put){.o = o, .store = datanode_worker_store(p->worker)};
        loop_sim_enter(p->loop, put_inside, &o->put[i]);
        world_run(w, is_put, &o->put[i], 10 * WORLD_S, "an orphan is made");
    }
    w->plants = false;
    world_start(w, WORLD_CLIENT(0));
    world_run(w, client_runs, o, 10 * WORLD_S, "an administrator comes");
    if (!world_failed(w)) {
        look(o);
        rest(o, WAIT_NS);
    }
    if (!world_failed(w) && members_that_have(o) != place->count) {
        world_fail(w, "the first look has removed data id %llu",
                   (unsigned long long)place->data_id);
    }
    if (!world_failed(w)) {
        look(o);
        world_run(w, none_has, o, 60 * WORLD_S, "orphans are removed by the second look");
    }
    world_kill(w, WORLD_CLIENT(0));
    mem_free(o);
}
