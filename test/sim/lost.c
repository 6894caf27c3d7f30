/* sim/lost.c -- see lost.h. */
#include "lost.h"

#include "opendfs/check.h"

#include <string.h>

#define TRIES 30u /* reports to the leader take their time */
#define FINDINGS_MAX 256u

struct lost {
    struct world *w;
    struct opendfs_op op;
    struct opendfs_check check;
    uint64_t ino[FINDINGS_MAX]; /* named */
    size_t count;
    bool arrived, done;
    uint64_t until_ns;
};

static struct world_process *client(const struct lost *x)
{
    return x->w->node[WORLD_CLIENT(0)].process;
}

static bool client_runs(void *context)
{
    const struct lost *x = context;
    return client(x) != NULL && client(x)->fs != NULL;
}

static void op_done(struct opendfs_op *op)
{
    struct lost *x = container_of(op, struct lost, op);
    const struct opendfs_check_page *page = op->data;
    x->arrived = true;
    x->count = op->result < 0 || page->restarted ? 0 : x->count;
    x->done = op->result < 0 || page->done;
    for (size_t i = 0; op->result >= 0 && i < page->count && x->count < FINDINGS_MAX; i++) {
        x->ino[x->count++] = page->findings[i].ino;
    }
}

static void next_inside(void *context)
{
    struct lost *x = context;
    x->op = (struct opendfs_op){.done = op_done};
    x->arrived = false;
    opendfs_async_check_next(client(x)->fs, &x->op, &x->check);
}

static void release_inside(void *context)
{
    struct lost *x = context;
    opendfs_async_release(client(x)->fs, &x->op);
}

static bool has_arrived(void *context)
{
    return ((const struct lost *)context)->arrived;
}

static bool time_is_over(void *context)
{
    const struct lost *x = context;
    return world_now_ns(x->w) >= x->until_ns;
}

/* All of `fsck --data`. */
static void ask(struct lost *x)
{
    x->check = (struct opendfs_check){.data = 1};
    x->count = 0;
    for (x->done = false; !x->done && !world_failed(x->w);) {
        loop_sim_enter(client(x)->loop, next_inside, x);
        world_run(x->w, has_arrived, x, 60 * WORLD_S, "fsck");
        if (!world_failed(x->w) && x->op.result >= 0) {
            loop_sim_enter(client(x)->loop, release_inside, x);
        }
    }
}

static bool is_named(const struct lost *x, uint64_t ino)
{
    bool named = false;
    for (size_t i = 0; i < x->count && !named; i++) {
        named = x->ino[i] == ino;
    }
    return named;
}

/* The first that is not named; NULL: all are. */
static const struct lost_chunk *unnamed(const struct lost *x, const struct lost_chunk *lost,
                                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!is_named(x, lost[i].ino)) {
            return &lost[i];
        }
    }
    return NULL;
}

static void check_named(struct lost *x, const struct lost_chunk *lost, size_t count)
{
    const struct lost_chunk *open = lost;
    for (unsigned i = 0; i < TRIES && open != NULL && !world_failed(x->w); i++) {
        ask(x);
        open = unnamed(x, lost, count);
        x->until_ns = world_now_ns(x->w) + WORLD_S;
        world_run(x->w, time_is_over, x, 2 * WORLD_S, "time passes");
    }
    if (open != NULL && !world_failed(x->w)) {
        world_fail(x->w, "inode %llu has lost chunk %llx.%u, and fsck does not name it",
                   (unsigned long long)open->ino, (unsigned long long)open->key.data_id,
                   open->key.index);
    }
}

/* What clients were told in their last look. */
static void check_told(struct world *w, const struct lost_chunk *lost, size_t count)
{
    for (size_t i = 0; i < w->seen_count && !world_failed(w); i++) {
        const struct world_seen *s = &w->seen[i];
        bool is_lost = false;
        for (size_t k = 0; k < count && !is_lost; k++) {
            is_lost = lost[k].ino == s->ino;
        }
        if (is_lost && !s->failed) {
            world_fail(w, "inode %llu was read without an error, though a part of it is lost",
                       (unsigned long long)s->ino);
        } else if (!is_lost && s->failed && w->copies == 1 && w->other_copies <= 1) {
            world_fail(w, "inode %llu could not be read, though nothing of it is lost",
                       (unsigned long long)s->ino);
        }
    }
}

void lost_check(struct world *w, const struct lost_chunk *lost, size_t count)
{
    check_told(w, lost, count);
    if (count == 0 || world_failed(w)) {
        return;
    }
    struct lost *x = mem_zalloc(sizeof *x);
    CHECK(x != NULL);
    x->w = w;
    world_start(w, WORLD_CLIENT(0));
    world_run(w, client_runs, x, 10 * WORLD_S, "an administrator comes");
    check_named(x, lost, count);
    world_kill(w, WORLD_CLIENT(0));
    mem_free(x);
}
