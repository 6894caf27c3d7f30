/*
 * disk/request_priv.h -- what all backends share: the head of an open file, the checks that make
 * them refuse the same requests, and a cursor over the pieces of memory of a read or write.
 */
#pragma once

#include "disk/disk.h"

#include <limits.h>
#include <stdatomic.h>

#define DISK_UNIT 4096u /* of DISK_DIRECT */

#define DISK_PAST_NONE (-1)   /* not opened yet */
#define DISK_PAST_CANNOT (-2) /* the file system has no direct I/O */

/* Backends embed it first. Thread: the loop of its struct disk; `fd` and `flags` never change, and
 * `past_fd` and `keeps` once, by the first thread that needs it. */
struct disk_file {
    int fd; /* -1 in simulation */
    uint32_t flags;
    _Atomic int past_fd;  /* of the same file, for DISK_PAST_CACHE; or DISK_PAST_... */
    _Atomic bool keeps;   /* what was written DISK_SOON stays in the page cache: old kernels */
    unsigned in_flight;   /* requests on it, so that a close below one is caught */
    unsigned uses, known; /* of a ring: see known_priv.h; known: number + 1 */
    bool locked;          /* or was to be */
    bool device;          /* a block device */
};

/* 0, or what is wrong: -EINVAL (range, flags, alignment), -EBADF (opened for reading only). */
NODISCARD int disk_request_check(const struct disk_req *req);
/* Does the operation work on req->file? */
bool disk_request_on_file(const struct disk_req *req);
/* Is it a transfer that goes past the page cache, in whole units? */
bool disk_request_direct(const struct disk_req *req);
/* Tells the observer of the disk, if it has one. */
void disk_request_begun(const struct disk *d);
void disk_request_ended(const struct disk *d, const struct disk_req *req, int64_t rc, uint64_t ns);
/* Bytes of memory of a read or write; more than INT64_MAX when they do not fit. */
uint64_t disk_request_bytes(const struct disk_req *req);

/* Walks the pieces of memory without touching the caller's vector. */
#define DISK_CURSOR_WINDOW 64u
struct disk_cursor {
    const struct iovec *iov;
    unsigned left;      /* vectors, the current one included */
    size_t skip;        /* bytes of the current one that are done */
    struct iovec whole; /* of a request without a vector */
};
void disk_cursor_init(struct disk_cursor *c, const struct disk_req *req);
/* The next pieces, at most `max` of them and INT_MAX bytes. Returns how many; 0: the end. */
unsigned disk_cursor_window(const struct disk_cursor *c, struct iovec *out, unsigned max);
void disk_cursor_advance(struct disk_cursor *c, size_t bytes);

/* Sorts `count` zero-terminated names that lie one behind the other into one allocation. */
NODISCARD int disk_names_make(const char *text, size_t text_len, size_t count,
                              struct disk_names **ret);
