#include "mount/fuse_io_priv.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>

/*
 * What libfuse says to the kernel when they meet, with what it does not know yet: that set-id bits
 * are taken away by the servers when somebody writes (FUSE_HANDLE_KILLPRIV_V2). Without that the
 * kernel asks for the attribute `security.capability` before each write. libfuse 3.14 has no option
 * for it, but it lets its user do the reading and writing: so the two messages are looked at on
 * their way, and all others pass.
 */

void mount_fuse_greeting_init(struct mount_fuse_greeting *g)
{
    *g = (struct mount_fuse_greeting){0};
}

ssize_t mount_fuse_read(struct mount_fuse_greeting *g, int fd, void *buf, size_t size)
{
    ssize_t n = read(fd, buf, size);
    struct fuse_in_header head;
    struct fuse_init_in in;
    size_t least = sizeof head + offsetof(struct fuse_init_in, flags) + sizeof in.flags;
    if (g->over || n < 0 || (size_t)n < least) {
        return n;
    }
    memcpy(&head, buf, sizeof head);
    memset(&in, 0, sizeof in);
    size_t have = (size_t)n - sizeof head < sizeof in ? (size_t)n - sizeof head : sizeof in;
    memcpy(&in, (const char *)buf + sizeof head, have);
    if (head.opcode == FUSE_INIT && in.major == FUSE_KERNEL_VERSION) {
        g->unique = head.unique;
        g->offered = in.flags;
    }
    return n;
}

ssize_t mount_fuse_writev(struct mount_fuse_greeting *g, int fd, struct iovec *iov, int count)
{
    struct fuse_out_header head;
    struct fuse_init_out out;
    size_t flags_end = offsetof(struct fuse_init_out, flags) + sizeof out.flags;
    if (!g->over && count == 2 && iov[0].iov_len == sizeof head && iov[1].iov_len >= flags_end) {
        memcpy(&head, iov[0].iov_base, sizeof head);
        memset(&out, 0, sizeof out);
        memcpy(&out, iov[1].iov_base, flags_end);
        if (head.unique == g->unique && head.error == 0 && out.major == FUSE_KERNEL_VERSION) {
            out.flags |= g->offered & FUSE_HANDLE_KILLPRIV_V2;
            memcpy(iov[1].iov_base, &out, flags_end);
            g->over = true;
        }
    }
    return writev(fd, iov, count);
}
