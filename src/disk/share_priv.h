/*
 * disk/share_priv.h -- whose turn it is at a disk: what people read and write, copying (resync,
 * repair) and scrubbing share it. Pure: no clock, no memory, no I/O; both backends go by it.
 *
 * Start-time fair queueing with several requests under way, SFQ(D): P. Goyal, H. M. Vin, H. Cheng,
 * "Start-time Fair Queueing", SIGCOMM 1996; W. Jin, J. S. Chase, J. Kaur, "Interposed Proportional
 * Sharing for a Storage Service Utility", SIGMETRICS 2004. Each queue gets its part of what is
 * served while others wait, whatever the disk is able to, and saves nothing up while it is empty.
 *
 * Beyond that there is a limit per queue of what is under way. While people use the disk, and for
 * DISK_SHARE_QUIET_NS after, that of the background is small: a request of theirs then finds one
 * or two others before it. It is never zero, so that an end of a request is all that has to wake
 * anybody.
 */
#pragma once

#include "disk/disk.h"

#define DISK_SHARE_QUIET_NS UINT64_C(50000000)

enum disk_share_queue {
    DISK_SHARE_READS,
    DISK_SHARE_WRITES, /* whatever changes something, and closing */
    DISK_SHARE_COPYING,
    DISK_SHARE_SCRUBBING,
    DISK_SHARE_QUEUES
};

struct disk_share_turn { /* of one request, in what the backend keeps of it */
    struct list node;
    enum disk_share_queue queue;
    uint32_t cost;
};

struct disk_share_flow {
    struct list waiting;
    unsigned waiting_count, under_way;
    uint64_t finish; /* in virtual time, of the last one that began */
};

struct disk_share {
    unsigned depth; /* under way in all; more would wait where nobody tells them apart */
    unsigned under_way;
    unsigned max_waiting; /* of each queue of the background */
    uint64_t virtual;     /* start of the last one that began */
    bool used;            /* by people, at any time */
    uint64_t used_ns;     /* when they last came or went */
    struct disk_share_flow flow[DISK_SHARE_QUEUES];
};

void disk_share_init(struct disk_share *s, unsigned depth, unsigned max_waiting);
enum disk_share_queue disk_share_queue_of(const struct disk_req *req);
/* May it wait here? What people ask for may, up to what the backend itself takes. */
bool disk_share_admits(const struct disk_share *s, const struct disk_req *req);
void disk_share_enter(struct disk_share *s, struct disk_share_turn *t, const struct disk_req *req,
                      uint64_t now_ns);
/* The next that begins, which counts as under way from now on. NULL: none for the time being; ask
 * again when one was entered or left. */
struct disk_share_turn *disk_share_next(struct disk_share *s, uint64_t now_ns);
/* What began is over. */
void disk_share_leave(struct disk_share *s, const struct disk_share_turn *t, uint64_t now_ns);
/* Most that may be under way of a queue just now. */
unsigned disk_share_limit(const struct disk_share *s, enum disk_share_queue q, uint64_t now_ns);
