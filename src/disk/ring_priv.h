/*
 * disk/ring_priv.h -- io_uring for the backend of a real machine (pool.c): transfers and syncs that
 * the loop's own thread gives to the kernel and whose completions it finds in shared memory.
 *
 * What comes out otherwise than whole or failed is handed back with `again`: a thread of the pool
 * does the rest, so that there is one place that knows how partial calls go on. All on the loop's
 * thread; a ring belongs to one thread and is made anew when the loop has moved.
 */
#pragma once

#include "disk/request_priv.h"

struct fault;
struct disk_ring;

struct disk_ring_job {
    struct disk_req *req;  /* the user's, set before submit */
    bool again;            /* out: not finished, a thread goes on behind `so_far` */
    uint64_t so_far;       /* out: bytes that are transferred */
    int64_t result;        /* out, if not `again` */
    int32_t moved, synced; /* the ring's, as all below: results of the two halves */
    bool severed;
    bool known_file, known_memory; /* out: the kernel did not have to look it up */
    unsigned left;                 /* completions to come */
    struct list node;
};

/* Gets what is finished, a list of jobs, once per round of the loop. It may free the ring. */
struct disk_ring_user {
    void (*finished)(struct disk_ring_user *u, struct list *jobs);
};

struct disk_ring_options {
    struct loop *loop;
    struct fault *fault;
    struct disk_ring_user *user;
    unsigned max_workers; /* threads of the kernel for what would block, of this ring's thread */
};
/* -errno: the kernel has none, or forbids it, or it lacks what is needed (Linux 6.1). */
NODISCARD int disk_ring_new(const struct disk_ring_options *opt, struct disk_ring **ret);
struct disk_ring *disk_ring_free(struct disk_ring *r); /* nothing under way; NULL is fine */

/* Is it a request for the ring, given that it has passed disk_request_check()? */
bool disk_ring_takes(const struct disk_req *req);
/* May disk_ring_submit() be called? No: the loop has moved to a thread that gets no ring. */
bool disk_ring_usable(struct disk_ring *r);
/* Goes to the kernel at the end of the round, or at once when many wait. */
void disk_ring_submit(struct disk_ring *r, struct disk_ring_job *job);
/* Before it is closed or locked: the ring does not keep it open. */
void disk_ring_forget(struct disk_ring *r, struct disk_file *f);
/* disk_lend() and disk_unlend(). */
NODISCARD int disk_ring_lend(struct disk_ring *r, void *at, size_t len);
void disk_ring_unlend(struct disk_ring *r, const void *at);
