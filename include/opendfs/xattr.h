/*
 * opendfs/xattr.h -- extended attributes and access control lists of files in OpenDFS.
 *
 * They are as the system's calls of these names have them: "user.*" of files and
 * directories, "trusted.*" and "security.*" for root to set, and "system.posix_acl_access" and
 * "system.posix_acl_default", whose values are those of Linux. Names have up to 255 bytes
 * (-ERANGE), values up to 64 KiB (-E2BIG); -ENODATA: there is none; -EOPNOTSUPP: of another kind,
 * or an access list of a symbolic link. A `size` of 0 asks for the length; more than fits is
 * -ERANGE. Those that begin with "l" do not follow a final symbolic link.
 */
#ifndef OPENDFS_XATTR_H
#define OPENDFS_XATTR_H

#include "opendfs/opendfs.h"

#ifdef __cplusplus
extern "C" {
#endif

#define OPENDFS_XATTR_CREATE 1  /* -EEXIST when it is there */
#define OPENDFS_XATTR_REPLACE 2 /* -ENODATA when it is not */
struct opendfs_xattr {
    const char *name;
    const void *value;
    size_t size;
    unsigned flags; /* OPENDFS_XATTR_... */
};
int64_t opendfs_getxattr(struct opendfs *fs, const char *path, const char *name, void *value,
                         size_t size);
int64_t opendfs_lgetxattr(struct opendfs *fs, const char *path, const char *name, void *value,
                          size_t size);
int opendfs_setxattr(struct opendfs *fs, const char *path, const struct opendfs_xattr *xattr);
int opendfs_lsetxattr(struct opendfs *fs, const char *path, const struct opendfs_xattr *xattr);
/* The names, each with a NUL behind it; returns their bytes. */
int64_t opendfs_listxattr(struct opendfs *fs, const char *path, char *names, size_t size);
int64_t opendfs_llistxattr(struct opendfs *fs, const char *path, char *names, size_t size);
int opendfs_removexattr(struct opendfs *fs, const char *path, const char *name);
int opendfs_lremovexattr(struct opendfs *fs, const char *path, const char *name);

#ifdef __cplusplus
}
#endif

#endif
