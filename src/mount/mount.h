/*
 * mount/mount.h -- a file system of the kernel on the client library.
 *
 * A mount has a transport, which speaks with the kernel (fuse.c, libfuse low level), and calls:
 * what the kernel asks is executed by operations of the library on the loop that both share, each
 * on behalf of the user who asked. Numbers of nodes are those of inodes, so nothing has to be
 * translated or forgotten. The kernel keeps names and attributes for no time: what it shows is what
 * the servers say (coherence.md section 5; grants come later).
 *
 * Owner: the loop of env; nothing blocks but mount_new() and mount_free(), which ask the kernel to
 * mount and unmount.
 */
#pragma once

#include "base/err.h"
#include "client/client.h"

struct mount;
struct mount_options {
    const struct env *env;
    struct opendfs *fs;        /* a client on that loop */
    uint64_t root;             /* inode that is mounted; 0: the root */
    const char *at;            /* an existing directory */
    const char *source;        /* as mount(8) shows it */
    const char *options;       /* for the kernel and fusermount3, as after -o; NULL or "": none */
    uint64_t read_ahead_bytes; /* by the kernel, for who reads in order; 0: 1 MiB */
    void (*ended)(void *context, int rc); /* unmounted by others, or the kernel is not to be spoken
                                             with: rc; then free it */
    void *context;
};
NODISCARD int mount_new(const struct mount_options *opt, struct mount **ret, struct err *e);
/* No more calls come; `stopped`, from the loop, when those under way have been answered. */
void mount_stop(struct mount *m, void (*stopped)(void *context), void *context);
struct mount *mount_free(struct mount *m); /* unmounts; calls under way must have ended */
