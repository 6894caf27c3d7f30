/* metanode/rig_image_priv.h -- for tests only: the checkpoints on the disk of rig_priv.h's server.
 */
#pragma once

#include "metanode/rig_server_priv.h"

#define RIG_STATE "/meta/state"

struct rig_images {
    struct rig *rig;
    struct env env;
    char newest[300]; /* path; empty: there is none */
    unsigned count;
};
static inline void rig_images_in(void *ctx)
{
    struct rig_images *i = ctx;
    struct disk_req list = {.op = DISK_LIST, .path = RIG_STATE};
    CHECK(disk_sim_open(i->rig->disk, i->env.loop, &i->env.disk) == 0);
    if (disk_now(i->env.disk, &list) < 0) {
        return;
    }
    for (size_t n = 0; n < list.names->count; n++) {
        const char *name = list.names->name[n];
        if (strstr(name, ".image") != NULL) {
            (void)snprintf(i->newest, sizeof i->newest, RIG_STATE "/%s", name);
            i->count++;
        }
    }
    mem_free(list.names);
}
/* While the server is down or not: from a process of its own. */
static inline void rig_images_look(struct rig *r, struct rig_images *ret)
{
    *ret = (struct rig_images){.rig = r};
    rig_process(r, "look", 1, &ret->env);
    loop_sim_enter(ret->env.loop, rig_images_in, ret);
    loop_sim_kill(ret->env.loop);
}
/* A bit of the newest image flips, unless it was that one the last time. True: it has. */
static inline bool rig_image_damage(struct rig *r, char last[300])
{
    struct rig_images i;
    rig_images_look(r, &i);
    if (i.count == 0 || strcmp(i.newest, last) == 0) {
        return false;
    }
    (void)snprintf(last, 300, "%s", i.newest);
    CHECK(disk_sim_corrupt(r->disk, i.newest, 130 + rand_below(&r->rand, 60), 4) == 0);
    return true;
}
