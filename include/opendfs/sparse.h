/*
 * opendfs/sparse.h -- files with holes: where bytes are, and making holes. What is said of each in
 * opendfs/async.h counts here, too.
 */
#ifndef OPENDFS_SPARSE_H
#define OPENDFS_SPARSE_H

#include "opendfs/opendfs.h"

#ifdef __cplusplus
extern "C" {
#endif

/* No file is larger: -EFBIG. What is written must besides lie in one of the first 2^32 chunks (with
 * chunks of 4 MiB: below 2^54). */
#define OPENDFS_SIZE_MAX (UINT64_C(1) << 60)

/* As of fallocate(2). */
#define OPENDFS_ALLOCATE_KEEP_SIZE 1
#define OPENDFS_ALLOCATE_PUNCH 2 /* with KEEP_SIZE */
#define OPENDFS_ALLOCATE_ZERO 16
int opendfs_allocate(struct opendfs_file *file, unsigned mode, uint64_t offset, uint64_t len);

/* As of lseek(2): the next bytes, the next hole. */
#define OPENDFS_SEEK_DATA 3
#define OPENDFS_SEEK_HOLE 4
int64_t opendfs_seek(struct opendfs_file *file, uint64_t offset, int whence);

/* Bytes from one file into another (or the same, where the ranges do not touch), as many as the
 * source has: how many. They do not pass the caller's memory. */
int64_t opendfs_copy_range(struct opendfs_file *from, uint64_t from_offset, struct opendfs_file *to,
                           uint64_t to_offset, uint64_t len);

#ifdef __cplusplus
}
#endif

#endif
