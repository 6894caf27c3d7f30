/*
 * disk/ops_priv.h -- one request carried out by system calls on the calling thread. Shared by the
 * backends of a real machine: by the pool's threads and by disk_now().
 */
#pragma once

#include "disk/request_priv.h"

/* Blocks. The request has passed disk_request_check(). Returns what `done` gets. Any thread; the
 * caller sees to it that nobody closes the file meanwhile. SIGPIPE must be ignored (DISK_SEND). */
int64_t disk_ops_run(struct disk_req *req);
/* DISK_READ from the page cache only: all bytes, or -EAGAIN (also at the end of the file, and where
 * the file system cannot say). */
int64_t disk_ops_read_cached(const struct disk_req *req);
/* Whether the range is in the page cache, as far as can be told without waiting. */
bool disk_ops_resident(const struct disk_file *f, uint64_t offset, uint64_t len);
