/* mount/fuse_io_priv.h -- reading and writing for libfuse: see fuse_io.c. */
#pragma once

#include "base/base.h"

#include <sys/uio.h>

struct mount_fuse_greeting {
    uint64_t unique; /* of the kernel's greeting */
    uint32_t offered;
    bool over; /* it has been answered */
};
void mount_fuse_greeting_init(struct mount_fuse_greeting *g);
/* As read(2) and writev(2). */
ssize_t mount_fuse_read(struct mount_fuse_greeting *g, int fd, void *buf, size_t size);
ssize_t mount_fuse_writev(struct mount_fuse_greeting *g, int fd, struct iovec *iov, int count);
