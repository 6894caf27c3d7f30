/* testing/machine.c -- see machine.h. */
#include "testing/machine.h"

#include "base/env.h"
#include "base/rand.h"
#include "disk/disk.h"
#include "disk/sim.h"
#include "loop/sim.h"

#include <string.h>

#define HOST 1u
#define NS_PER_MS UINT64_C(1000000)
#define SMALL_BYTES 64u

void testing_machine_init(struct testing_machine *m, uint64_t seed)
{
    *m = (struct testing_machine){.sim = loop_sim_new(seed)};
    CHECK(m->sim != NULL);
    m->disk = disk_sim_new(&(struct disk_sim_options){.sim = m->sim});
    CHECK(m->disk != NULL);
}

void testing_machine_fini(struct testing_machine *m)
{
    disk_sim_free(m->disk);
    loop_sim_free(m->sim);
}

void testing_machine_start(struct testing_machine *m, const char *name, struct env *env)
{
    *env = (struct env){0};
    CHECK(loop_sim_process(m->sim, name, HOST, &m->loop) == 0);
    CHECK(disk_sim_open(m->disk, m->loop, &env->disk) == 0);
    env->loop = m->loop;
}

void testing_machine_kill(struct testing_machine *m, bool power)
{
    loop_sim_kill(m->loop);
    if (power) {
        disk_sim_crash(m->disk);
        loop_sim_reboot(m->sim, HOST);
    }
}

bool testing_machine_until(struct testing_machine *m, bool (*done)(void *ctx), void *ctx,
                           uint64_t limit_ms)
{
    return loop_sim_run(m->sim, done, ctx, loop_sim_now_ns(m->sim) + limit_ms * NS_PER_MS);
}

void testing_machine_steps(struct testing_machine *m, uint64_t count)
{
    for (uint64_t i = 0; i < count && loop_sim_step(m->sim); i++) {
    }
}

void testing_machine_spoil(struct testing_machine *m, struct rand *r, const char *directory,
                           uint64_t calls)
{
    static const enum disk_op ops[] = {DISK_OPEN,  DISK_WRITE,  DISK_SYNC,     DISK_SYNC_ALL,
                                       DISK_CLOSE, DISK_RENAME, DISK_REMOVE,   DISK_SYNC_DIR,
                                       DISK_READ,  DISK_LIST,   DISK_TRUNCATE, DISK_ALLOCATE};
    if (rand_chance(r, 2, 3)) {
        enum disk_op op = ops[rand_below(r, ARRAY_COUNT(ops))];
        uint64_t nth = rand_range(r, 1, calls), count = rand_below(r, 3);
        disk_sim_fail(m->disk, op, directory, nth, count, rand_chance(r, 1, 2) ? -EIO : -ENOSPC);
    }
}

size_t testing_payload(uint64_t id, size_t max, uint8_t *out)
{
    struct rand r;
    rand_seed(&r, id);
    size_t len = rand_chance(&r, 1, 4) ? rand_range(&r, sizeof id, max)
                                       : rand_range(&r, sizeof id, SMALL_BYTES);
    rand_bytes(&r, out, len);
    memcpy(out, &id, sizeof id);
    return len;
}
