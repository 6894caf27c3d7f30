/*
 * testing/machine.h -- a simulated machine with a disk and one process on it, for tests of what
 * survives the death of either.
 */
#pragma once

#include "base/base.h"

struct env;
struct rand;

struct testing_machine {
    struct loop_sim *sim;
    struct disk_sim *disk;
    struct loop *loop; /* of the process */
};
void testing_machine_init(struct testing_machine *m, uint64_t seed);
void testing_machine_fini(struct testing_machine *m);
/* A process, the only one at a time; `env` gets its loop and its disk and nothing else. */
void testing_machine_start(struct testing_machine *m, const char *name, struct env *env);
/* The process dies; with `power` the machine does: what was not synced may be lost. */
void testing_machine_kill(struct testing_machine *m, bool power);
/* At most that long in the time of the world. */
bool testing_machine_until(struct testing_machine *m, bool (*done)(void *ctx), void *ctx,
                           uint64_t limit_ms);
void testing_machine_steps(struct testing_machine *m, uint64_t count);
/* Mostly: one of the next `calls` requests of some kind to `directory`, or each from it on, will
 * fail. disk_sim_heal() ends it. */
void testing_machine_spoil(struct testing_machine *m, struct rand *r, const char *directory,
                           uint64_t calls);

/* The content of record `id`, which it begins with: 8 to `max` bytes, mostly few. */
size_t testing_payload(uint64_t id, size_t max, uint8_t *out);
