/* tree/rig_trouble_priv.h -- for tests only: what can go wrong for the process of rig_write_priv.h.
 */
#pragma once

#include "tree/file_priv.h"
#include "tree/rig_write_priv.h"

static inline void rig_fail(struct rig_write *r, enum disk_op op, uint64_t nth, int rc)
{
    r->fail_op = op;
    r->fail_nth = nth;
    r->fail_count = nth == 0 ? 0 : op == DISK_READ && rc == -EIO ? FILE_READ_TRIES : 1;
    r->fail_rc = rc;
}

static inline void rig_fault_in(void *ctx)
{
    struct rig_write *r = ctx;
    struct mem_domain *d = mem_domain_enter(NULL);
    (void)mem_domain_enter(d);
    mem_domain_set_fault(d, r->fault);
}

/* The nth allocation of the process from now fails; 0: none any more. */
static inline void rig_starve(struct rig_write *r, uint64_t nth)
{
    if (nth > 0) {
        fault_arm(r->fault, "mem.alloc", nth, 1);
    } else {
        fault_disarm(r->fault, NULL);
    }
    loop_sim_enter(r->machine.loop, rig_fault_in, r);
}

/* One byte of the file is another one. */
struct rig_damage {
    struct rig_write *r;
    uint64_t offset;
    uint8_t mask;
};

static inline void rig_damage_in(void *ctx)
{
    const struct rig_damage *d = ctx;
    CLEANUP(mem_freep) uint8_t *unit = mem_aligned(TREE_UNIT, TREE_UNIT);
    uint64_t at = base_align_down(d->offset, TREE_UNIT);
    struct disk_req open = {.op = DISK_OPEN, .path = RIG_PATH, .flags = DISK_READ_WRITE};
    CHECK(unit != NULL && disk_now(d->r->env.disk, &open) >= 0);
    CHECK(tree_file_read_now(d->r->file, at, unit, TREE_UNIT) == 0);
    unit[d->offset - at] ^= d->mask;
    struct disk_req put = {
        .op = DISK_WRITE, .file = open.file, .offset = at, .buf = unit, .len = TREE_UNIT};
    struct disk_req close = {.op = DISK_CLOSE, .file = open.file};
    CHECK(disk_now(d->r->env.disk, &put) == TREE_UNIT);
    CHECK(disk_now(d->r->env.disk, &close) >= 0);
}

static inline void rig_damage(struct rig_write *r, uint64_t offset, uint8_t mask)
{
    struct rig_damage d = {.r = r, .offset = offset, .mask = mask};
    loop_sim_enter(r->machine.loop, rig_damage_in, &d);
}

static inline void rig_space_in(void *ctx)
{
    struct rig_write *r = ctx;
    CHECK_TRUE(tree_file_sound(r->file));
    tree_file_info(r->file, &r->info);
}

/* Units in use, without those that were given back. */
static inline uint64_t rig_space_used(struct rig_write *r)
{
    loop_sim_enter(r->machine.loop, rig_space_in, r);
    return r->info.space.used;
}
