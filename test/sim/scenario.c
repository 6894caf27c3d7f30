/* sim/scenario.c -- see scenario.h. */
#include "scenario.h"

#include "world.h"

#include "opendfs/targets.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BYTES 300000u
#define TOLD_MS 30000u /* more than a client keeps written data to itself */
#define STATUS_SIZE (256u << 10)
#define STEP_LIMIT_NS (300 * WORLD_S)

enum step { OPEN, WRITE, SYNC, READ, CLOSE, STATUS, ORDER };
static const char *const step_names[] = {"open",  "pwrite",           "fsync",   "pread",
                                         "close", "asking how it is", "an order"};

struct scenario {
    struct world world;
    struct opendfs_op op;
    struct opendfs_file *file;
    enum step step;
    struct opendfs_chain_order order;
    char status[STATUS_SIZE];
    bool arrived;
    uint64_t until_ns;
    uint8_t bytes[BYTES], back[BYTES];
};

static void op_done(struct opendfs_op *op)
{
    container_of(op, struct scenario, op)->arrived = true;
}

static struct world_process *client(struct scenario *s)
{
    return s->world.node[WORLD_CLIENT(0)].process;
}

static void step_inside(void *context)
{
    struct scenario *s = context;
    struct opendfs *fs = client(s)->fs;
    s->op = (struct opendfs_op){.done = op_done};
    switch (s->step) {
    case OPEN:
        opendfs_async_open(fs, &s->op, "/f", OPENDFS_READ | OPENDFS_WRITE | OPENDFS_CREATE, 0644);
        break;
    case WRITE:
        opendfs_async_pwrite(fs, &s->op, s->file, s->bytes, BYTES, 0);
        break;
    case SYNC:
        opendfs_async_fsync(fs, &s->op, s->file);
        break;
    case READ:
        opendfs_async_pread(fs, &s->op, s->file, s->back, BYTES, 0);
        break;
    case CLOSE:
        opendfs_async_close(fs, &s->op, s->file, NULL, 0);
        break;
    case STATUS:
        opendfs_async_status_json(fs, &s->op);
        break;
    case ORDER:
        opendfs_async_order_chain(fs, &s->op, &s->order);
        break;
    }
}

static void release_inside(void *context)
{
    struct scenario *s = context;
    opendfs_async_release(client(s)->fs, &s->op);
}

static bool has_arrived(void *context)
{
    return ((const struct scenario *)context)->arrived;
}

/* One operation of the client; any other result than `expected` is a failure. */
static void take(struct scenario *s, enum step step, int64_t expected)
{
    struct world *w = &s->world;
    if (world_failed(w)) {
        return;
    }
    s->step = step;
    s->arrived = false;
    loop_sim_enter(client(s)->loop, step_inside, s);
    world_run(w, has_arrived, s, STEP_LIMIT_NS, step_names[step]);
    if (world_failed(w)) {
        return;
    }
    s->file = step == OPEN ? s->op.file : s->file;
    if (step == STATUS && s->op.result == 0) {
        size_t len = s->op.data_len < STATUS_SIZE ? s->op.data_len : STATUS_SIZE - 1;
        memcpy(s->status, s->op.data, len);
        s->status[len] = 0;
    }
    if (s->op.result != expected) {
        world_fail(w, "%s says %lld, not %lld", step_names[step], (long long)s->op.result,
                   (long long)expected);
    }
    loop_sim_enter(client(s)->loop, release_inside, s);
}

static bool is_healthy(void *context)
{
    return world_is_healthy(&((struct scenario *)context)->world, WORLD_HOSTS);
}

static bool time_is_over(void *context)
{
    const struct scenario *s = context;
    return world_now_ns(&s->world) >= s->until_ns;
}

static void wait_ms(struct scenario *s, uint64_t ms)
{
    s->until_ns = world_now_ns(&s->world) + ms * WORLD_MS;
    world_run(&s->world, time_is_over, s, STEP_LIMIT_NS, "time goes by");
}

static void fill(struct scenario *s, uint8_t first)
{
    for (size_t i = 0; i < BYTES; i++) {
        s->bytes[i] = (uint8_t)(first + i / 4096 + i % 251);
    }
}

static void check_contents(struct scenario *s)
{
    memset(s->back, 0, sizeof s->back);
    take(s, READ, BYTES);
    if (!world_failed(&s->world) && memcmp(s->back, s->bytes, BYTES) != 0) {
        world_fail(&s->world, "other bytes come back");
    }
}

/* All lose what was not synced, and come back. */
static void cut_power(struct scenario *s)
{
    struct world *w = &s->world;
    for (unsigned i = 0; i < w->targets; i++) {
        disk_sim_crash_mode(w->node[WORLD_TARGET(i)].disk, DISK_SIM_LOSE_ALL);
        world_power_cut(w, WORLD_TARGET(i));
    }
    wait_ms(s, UINT64_C(2) * WORLD_LEASE_MS);
    for (unsigned i = 0; i < w->targets; i++) {
        world_start(w, WORLD_TARGET(i));
    }
    world_run(w, is_healthy, s, STEP_LIMIT_NS, "the targets come back");
}

static void tell(struct scenario *s)
{
    fill(s, 1);
    take(s, OPEN, 0);
    take(s, WRITE, BYTES);
    take(s, SYNC, 0);
    cut_power(s);
    take(s, SYNC, 0); /* nothing was unsynced */
    check_contents(s);
    fill(s, 77);
    take(s, WRITE, BYTES);
    wait_ms(s, TOLD_MS);
    cut_power(s);
    take(s, SYNC, -EIO);
    take(s, SYNC, 0); /* told once */
    fill(s, 155);
    take(s, WRITE, BYTES);
    take(s, SYNC, 0);
    cut_power(s);
    check_contents(s);
    take(s, CLOSE, -EIO); /* each of fsync and close tells it once */
}

/* ---- The newest copies are lost ---- */

static void power_off(struct scenario *s, unsigned target)
{
    disk_sim_crash_mode(s->world.node[WORLD_TARGET(target)].disk, DISK_SIM_LOSE_ALL);
    world_power_cut(&s->world, WORLD_TARGET(target));
}

/* Gives the order for each element of a list of the status that names a target; how many. */
static unsigned order_all(struct scenario *s, uint32_t action)
{
    bool promotes = action == OPENDFS_CHAIN_PROMOTE;
    unsigned count = 0;
    take(s, STATUS, 0);
    char *at = strstr(s->status, promotes ? "\"dark\":[" : "\"aside\":[");
    char *end = at == NULL ? NULL : strstr(at, promotes ? "],\"aside\":[" : "],\"targets\":[");
    if (end == NULL) {
        world_fail(&s->world, "the status does not say what there is to order");
        return 0;
    }
    *end = 0;
    while ((at = strstr(at, "{\"chain\":")) != NULL && !world_failed(&s->world)) {
        const char *format =
            promotes ? "{\"chain\":%u,\"epoch\":%u,\"loss_gen\":%*u,\"since_ms\":%*u,\"promote\":%u"
                     : "{\"chain\":%u,\"epoch\":%u,\"target\":%u";
        s->order = (struct opendfs_chain_order){.action = action};
        if (sscanf(at++, format, &s->order.chain, &s->order.epoch, &s->order.target) == 3 &&
            s->order.target != 0) {
            take(s, ORDER, 0);
            count++;
        }
    }
    return count;
}

static void tell_promotion(struct scenario *s)
{
    struct world *w = &s->world;
    fill(s, 1);
    take(s, OPEN, 0);
    take(s, WRITE, BYTES);
    take(s, SYNC, 0);
    power_off(s, 2);
    wait_ms(s, UINT64_C(4) * WORLD_LEASE_MS);
    fill(s, 77);
    take(s, WRITE, BYTES);
    take(s, SYNC, 0);
    s->order = (struct opendfs_chain_order){
        .action = OPENDFS_CHAIN_PROMOTE, .chain = 1, .epoch = 1, .target = 3};
    take(s, ORDER, -EBUSY); /* others serve */
    power_off(s, 0);
    power_off(s, 1);
    wait_ms(s, UINT64_C(2) * WORLD_LEASE_MS);
    world_start(w, WORLD_TARGET(2));
    wait_ms(s, 8000);
    if (order_all(s, OPENDFS_CHAIN_PROMOTE) == 0) {
        world_fail(w, "nothing can be promoted");
    }
    fill(s, 1);
    check_contents(s); /* as they were when it left */
    fill(s, 30);
    take(s, WRITE, BYTES);
    take(s, SYNC, 0);
    world_start(w, WORLD_TARGET(0));
    world_start(w, WORLD_TARGET(1));
    wait_ms(s, 10000);
    check_contents(s);
    if (is_healthy(s)) {
        world_fail(w, "newer copies have been taken in");
    }
    world_kill(w, WORLD_META); /* the next leader has to know it, too */
    wait_ms(s, 100);
    world_start(w, WORLD_META);
    wait_ms(s, 10000);
    if (!is_healthy(s) && order_all(s, OPENDFS_CHAIN_DISCARD) == 0) {
        world_fail(w, "nothing was set aside");
    }
    world_run(w, is_healthy, s, STEP_LIMIT_NS, "they are made equal");
    power_off(s, 2);
    wait_ms(s, UINT64_C(4) * WORLD_LEASE_MS);
    check_contents(s); /* what others were given */
    take(s, CLOSE, 0);
}

void scenario_promotion(uint64_t seed, bool verbose, char *ret, size_t size)
{
    struct scenario *s = mem_zalloc(sizeof *s);
    CHECK(s != NULL);
    struct world *w = &s->world;
    world_init(w, seed, verbose);
    w->copies = 3;
    w->node[WORLD_TARGET(3)].absent = true;
    world_start_all(w);
    world_run(w, is_healthy, s, 60 * WORLD_S, "the cluster comes up");
    tell_promotion(s);
    (void)snprintf(ret, size, "%s%s", world_failed(w) ? "promotion: " : "", w->failure);
    world_fini(w);
    mem_free(s);
}

void scenario_power_cut_before_fsync(uint64_t seed, bool verbose, char *ret, size_t size)
{
    struct scenario *s = mem_zalloc(sizeof *s);
    CHECK(s != NULL);
    struct world *w = &s->world;
    world_init(w, seed, verbose);
    world_start_all(w);
    world_run(w, is_healthy, s, 60 * WORLD_S, "the cluster comes up");
    tell(s);
    (void)snprintf(ret, size, "%s%s", world_failed(w) ? "power cut before fsync: " : "",
                   w->failure);
    world_fini(w);
    mem_free(s);
}
