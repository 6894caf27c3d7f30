/*
 * mount/options.h -- what is mounted, and how, from the words of mount(8): a source
 * [CLUSTER:]/PATH, and a list of options with commas between them. Pure; any thread.
 */
#pragma once

#include "base/err.h"

/* Texts are owned; NULL: not said. */
struct mount_setup {
    char *cluster; /* directory or addresses, as opendfs_options.cluster */
    char *path;    /* in the tree, absolute */
    char *secret, *log;
    char *kernel;         /* options for libfuse and the kernel */
    uint64_t timeout_ms;  /* of a soft mount: calls end with an error after so long; 0: never */
    uint64_t cache_bytes; /* 0: as the library has it */
    uint64_t read_ahead_bytes; /* of the kernel; 0: as the mount has it */
};
/* `root`: it is root who mounts; then, as with other file systems, all users may use it, and set-id
 * bits and devices count unless the list says no. `e` names the word that was not understood. */
NODISCARD int mount_setup_parse(const char *source, const char *list, bool root,
                                struct mount_setup *ret, struct err *e);
void mount_setup_fini(struct mount_setup *s);
