/*
 * tree/rig_starve_priv.h -- for tests only: the nth allocation of a process fails, for each n until
 * there is none; and what the process has must be the same afterwards.
 */
#pragma once

#include "tree/rig_life_priv.h"

struct rig_starve {
    struct rig_life *life;
    struct fault *fault;
    uint64_t nth, before; /* of all that have passed */
    size_t bytes;
};

/* The nth from now on. */
static inline void rig_starve_begin(struct rig_starve *s)
{
    s->before = fault_passed(s->fault, "mem.alloc");
    s->life->fault = s->fault;
    s->life->hasty = true;
    rig_life_run(s->life, rig_life_domain_in);
    fault_arm(s->fault, "mem.alloc", s->nth, 1);
}

/* True: there were fewer than that. */
static inline bool rig_starve_end(struct rig_starve *s)
{
    bool all = fault_passed(s->fault, "mem.alloc") - s->before < s->nth;
    fault_disarm(s->fault, NULL);
    s->life->fault = NULL;
    s->life->hasty = false;
    rig_life_run(s->life, rig_life_domain_in);
    return all;
}

static inline void rig_starve_bytes_in(void *ctx)
{
    struct mem_domain *d = mem_domain_enter(NULL);
    ((struct rig_starve *)ctx)->bytes = mem_domain_bytes(d);
    (void)mem_domain_enter(d);
}
/* What the process has. */
static inline size_t rig_starve_bytes(struct rig_starve *s)
{
    loop_sim_enter(s->life->rig.machine.loop, rig_starve_bytes_in, s);
    return s->bytes;
}
