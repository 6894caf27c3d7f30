/*
 * chunk/device.h -- a raw block device that has the containers of a target (engine `extent`), one
 * behind the other: doc/format/extent.md. Blocks.
 *
 * A server takes only a device with a header of ours on it that names no target yet; this writes
 * it.
 */
#pragma once

#include "disk/disk.h"

/*
 * -EEXIST: there is something on it, and `e` says what it looks like: another file system's, a
 * target's; `force` writes all the same. -EBUSY, -ERR_in_use: it is mounted, or a server has it.
 * -ENOSPC: too small. Else -errno.
 */
NODISCARD int chunk_device_format(struct disk *d, const char *path, bool force, struct err *e);
/* Would a new target take it? 0; or why not, with nothing changed. */
NODISCARD int chunk_device_ready(struct disk *d, const char *path, struct err *e);
