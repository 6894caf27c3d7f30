/*
 * disk/ops_priv.h -- one request carried out by system calls on the calling thread. Shared by the
 * backends of a real machine: by the pool's threads and by disk_now().
 */
#pragma once

#include "disk/request_priv.h"

struct fault; /* of each function: may be NULL */

/* Blocks. The request has passed disk_request_check(). Returns what `done` gets. Any thread; the
 * caller sees to it that nobody closes the file meanwhile. SIGPIPE must be ignored (DISK_SEND). */
int64_t disk_ops_run(struct disk_req *req, struct fault *fault);
/* The same of a request whose first bytes are transferred already: the rest of a read or write, and
 * the sync that belongs to the write. `so_far` is 0 for all others. */
int64_t disk_ops_go_on(struct disk_req *req, uint64_t so_far, struct fault *fault);
/* DISK_READ from the page cache only: all bytes, or -EAGAIN (also at the end of the file, and where
 * the file system cannot say). */
int64_t disk_ops_read_cached(const struct disk_req *req, struct fault *fault);
/* Whether the range is in the page cache, as far as can be told without waiting. */
bool disk_ops_resident(const struct disk_file *f, uint64_t offset, uint64_t len);
