/* datanode/sick_priv.h -- the worker judges its disk. See sick.c. */
#pragma once

#include "datanode/health.h"
#include "disk/disk.h"

struct datanode_worker;

struct datanode_sick {
    struct disk_observer observer;
    struct datanode_health health;
};
void datanode_sick_start(struct datanode_worker *w);
void datanode_sick_end(struct datanode_worker *w); /* nothing is in flight; never started is fine */
void datanode_sick_tick(struct datanode_worker *w);
/* What is wrong with the disk; empty: nothing. */
void datanode_sick_words(const struct datanode_worker *w, char out[DATANODE_HEALTH_TEXT]);
