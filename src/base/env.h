/*
 * base/env.h -- everything that a node takes from outside, passed at construction.
 *
 * One env belongs to one loop (its thread). There is no file-scope state anywhere: many nodes live
 * in one process in the simulator. Clock and randomness come from the loop (loop_now_ns,
 * loop_random).
 */
#pragma once

#include "base/base.h"

struct disk;
struct fault;
struct log;
struct loop;
struct mem_budget;
struct net;
struct stats;

struct env {
    struct loop *loop;
    struct disk *disk;
    struct net *net;
    struct log *log;
    struct stats *stats; /* the node's group; components make their own below it */
    struct fault *fault; /* NULL in release builds */
    struct mem_budget *budget;
};
