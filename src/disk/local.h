/*
 * disk/local.h -- files of the user's own machine with all their attributes, for tools that copy
 * trees in and out (`opendfs put`, `get`).
 *
 * Everything here blocks and belongs to no loop: any thread but a serving one. Nothing follows a
 * final symbolic link except where said. All errors are -errno; paths are the caller's to name.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

struct disk_names;

struct disk_local_attr {
    uint32_t mode; /* type and permission bits as in st_mode */
    uint32_t uid, gid;
    uint64_t nlink, device, ino, rdev;
    uint64_t size_bytes, allocated_bytes;
    int64_t atime_ns, mtime_ns; /* since 1970, may be negative */
};

NODISCARD int disk_local_lstat(const char *path, struct disk_local_attr *ret);
NODISCARD int disk_local_stat(const char *path, struct disk_local_attr *ret); /* follows */
/* Names sorted by bytes, as DISK_LIST; freed by mem_free. */
NODISCARD int disk_local_list(const char *path, struct disk_names **ret);
/* Writes the target and a NUL; its length. -ENAMETOOLONG when it does not fit. */
NODISCARD int64_t disk_local_readlink(const char *path, char *out, size_t size);
NODISCARD int disk_local_symlink(const char *target, const char *path);
NODISCARD int disk_local_link(const char *existing, const char *path);
NODISCARD int disk_local_mkdir(const char *path, uint32_t mode);
NODISCARD int disk_local_mknod(const char *path, uint32_t mode, uint64_t rdev);
NODISCARD int disk_local_rename(const char *from, const char *to); /* replaces */
int disk_local_remove(const char *path);                           /* file or empty directory */

/* The whole path, as the kernel's table of mounts has it, of what is at `path`, which itself is not
 * asked anything: its servers may be gone. Freed by mem_free. */
NODISCARD int disk_local_whole(const char *path, char **ret);

/* How far the kernel reads ahead of who reads in order, in the file system that is mounted at `at`,
 * which is not asked anything. -EACCES: only root may say so. */
NODISCARD int disk_local_read_ahead(const char *at, uint64_t bytes);

#define DISK_LOCAL_MODE 1u
#define DISK_LOCAL_OWNER 2u
#define DISK_LOCAL_TIMES 4u
/* Owner first, because it clears setuid bits, then mode (not of symbolic links), then times. */
NODISCARD int disk_local_set(const char *path, const struct disk_local_attr *values, unsigned mask);

/* Extended attributes, of symbolic links themselves. The length of all names, each with a NUL, of a
 * value; -ERANGE when it does not fit, -EOPNOTSUPP: the file system has none. */
NODISCARD int64_t disk_local_list_xattrs(const char *path, char *names, size_t size);
NODISCARD int64_t disk_local_get_xattr(const char *path, const char *name, void *value,
                                       size_t size);
NODISCARD int disk_local_set_xattr(const char *path, const char *name, const void *value,
                                   size_t len);

struct disk_local_file;
/* Follows. Regular files, also /dev/stdin; -EISDIR. */
NODISCARD int disk_local_open(const char *path, struct disk_local_file **ret);
/* Creates; -EEXIST. Mode 0600 until disk_local_set(). */
NODISCARD int disk_local_create(const char *path, struct disk_local_file **ret);
/* Standard input (0) or output (1) as a file, without offsets. */
NODISCARD int disk_local_standard(int number, struct disk_local_file **ret);
/* Bytes read; fewer than `len` only at the end. Standard input: `offset` is ignored. */
NODISCARD int64_t disk_local_read(struct disk_local_file *f, void *out, size_t len,
                                  uint64_t offset);
/* All of it or an error. */
NODISCARD int disk_local_write(struct disk_local_file *f, const void *bytes, size_t len,
                               uint64_t offset);
NODISCARD int disk_local_set_size(struct disk_local_file *f, uint64_t size_bytes);
NODISCARD int disk_local_sync(struct disk_local_file *f);
/* Also reports what a file system tells only now. NULL is fine. */
int disk_local_close(struct disk_local_file *f);
