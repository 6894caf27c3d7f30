/* tree/rig_tap_priv.h -- for tests only: a disk that hands everything on to another one, and is
 * asked about each request before. */
#pragma once

#include "disk/disk.h"

struct rig_tap {
    struct disk base;
    struct disk *below;
    /* The request that goes on instead, or this one. `now`: it is for disk_now(). */
    struct disk_req *(*seen)(struct rig_tap *t, struct disk_req *req, bool now);
};

static inline struct rig_tap *rig_tap_of(struct disk *d)
{
    return container_of(d, struct rig_tap, base);
}
static inline void rig_tap_submit(struct disk *d, struct disk_req *req)
{
    struct rig_tap *t = rig_tap_of(d);
    disk_submit(t->below, t->seen(t, req, false));
}
static inline int64_t rig_tap_now(struct disk *d, struct disk_req *req)
{
    struct rig_tap *t = rig_tap_of(d);
    return disk_now(t->below, t->seen(t, req, true));
}
static inline bool rig_tap_resident(struct disk *d, struct disk_file *f, uint64_t offset,
                                    uint64_t len)
{
    return disk_resident(rig_tap_of(d)->below, f, offset, len);
}
static inline int64_t rig_tap_try_read(struct disk *d, struct disk_req *req)
{
    return disk_try_read(rig_tap_of(d)->below, req);
}
static inline int rig_tap_lend(struct disk *d, void *at, size_t len)
{
    return disk_lend(rig_tap_of(d)->below, at, len);
}
static inline void rig_tap_unlend(struct disk *d, const void *at)
{
    disk_unlend(rig_tap_of(d)->below, at);
}
static inline size_t rig_tap_in_flight(const struct disk *d)
{
    return disk_in_flight(((const struct rig_tap *)(const void *)d)->below); /* base is first */
}
static inline struct disk *rig_tap_free(struct disk *d)
{
    return disk_free(rig_tap_of(d)->below);
}
static const struct disk_ops rig_tap_ops = {.submit = rig_tap_submit,
                                            .now = rig_tap_now,
                                            .resident = rig_tap_resident,
                                            .try_read = rig_tap_try_read,
                                            .lend = rig_tap_lend,
                                            .unlend = rig_tap_unlend,
                                            .in_flight = rig_tap_in_flight,
                                            .free = rig_tap_free};
