/*
 * sim/drains.h -- an administrator who empties targets and calls them back while all else goes on,
 * and starts and stops the evening out of copies; who also looks for data that belongs to no file,
 * and soon again, so that what looks find is removed while all else goes on. In the end all targets
 * are to hold copies again, and it is waited for that.
 */
#pragma once

#include "world.h"

enum drains_step { DRAINS_REST, DRAINS_PLAN, DRAINS_BALANCE, DRAINS_AUDIT, DRAINS_STATUS };

struct drains {
    struct world *w;
    struct loop_sim_event wake;
    struct opendfs_op op;
    struct opendfs_target_plan *plan; /* of the operation under way */
    enum drains_step step;
    unsigned node, made, looks, moved; /* moved: how often in a row status says that all is done */
    uint64_t life;
    bool arrived;
    bool away[WORLD_TARGETS], paused;
    bool stopping, ended;
};
void drains_init(struct drains *d, struct world *w);
void drains_fini(struct drains *d);
void drains_begin(struct drains *d);
void drains_stop(struct drains *d);        /* no more of it: all come back */
bool drains_ended(const struct drains *d); /* and that is done, with all that follows from it */
