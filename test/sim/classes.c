/* sim/classes.c -- see classes.h. */
#include "classes.h"

#include "opendfs/usage.h"

#define OTHER_CLASS 2u

struct classes {
    struct world *w;
    struct opendfs_op op;
    struct opendfs_class values;
    bool arrived;
};

static void op_done(struct opendfs_op *op)
{
    container_of(op, struct classes, op)->arrived = true;
}

static bool has_arrived(void *context)
{
    return ((const struct classes *)context)->arrived;
}

static bool is_healthy(void *context)
{
    return world_is_healthy(((const struct classes *)context)->w, WORLD_HOSTS);
}

static void create_inside(void *context)
{
    struct classes *c = context;
    opendfs_async_create_class(c->w->node[WORLD_CLIENT(0)].process->fs, &c->op, &c->values);
}

static void use_inside(void *context)
{
    struct classes *c = context;
    opendfs_async_set_class(c->w->node[WORLD_CLIENT(0)].process->fs, &c->op, "/", OTHER_CLASS);
}

static void take(struct world *w, void (*start)(void *context), const char *what, int64_t expected)
{
    struct classes c = {.w = w,
                        .op.done = op_done,
                        .values = {.copies = w->other_copies,
                                   .failure_domain = w->domain,
                                   .chunk_bytes = WORLD_CHUNK_BYTES,
                                   .name = "other"}};
    if (world_failed(w)) {
        return;
    }
    loop_sim_enter(w->node[WORLD_CLIENT(0)].process->loop, start, &c);
    world_run(w, has_arrived, &c, 60 * WORLD_S, what);
    if (!world_failed(w) && c.op.result != expected) {
        world_fail(w, "%s: %s", what, c.op.error);
    }
    world_run(w, is_healthy, &c, 60 * WORLD_S, what);
}

void classes_make(struct world *w)
{
    take(w, create_inside, "a second storage class", OTHER_CLASS);
    world_settle(w); /* its rows come to the targets */
}

void classes_use(struct world *w)
{
    take(w, use_inside, "the second storage class is used", 0);
}
