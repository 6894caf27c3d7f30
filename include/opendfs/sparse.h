/*
 * opendfs/sparse.h -- files with holes: where bytes are, making holes, copies that keep them.
 */
#ifndef OPENDFS_SPARSE_H
#define OPENDFS_SPARSE_H

#include "opendfs/async.h"

#ifdef __cplusplus
extern "C" {
#endif

/* No file is larger: -EFBIG. What is written must besides lie in one of the first 2^32 chunks (with
 * chunks of 4 MiB: below 2^54). */
#define OPENDFS_SIZE_MAX (UINT64_C(1) << 60)

/* fallocate(2). `mode` 0: the file is at least as long as the range's end. No space is set aside:
 * it is only asked whether as much is free (-ENOSPC), and whether quotas let it (-EDQUOT).
 * KEEP_SIZE: no more than that question. PUNCH and ZERO: the range is zeros, stable when this is
 * done, and takes no space where whole cells of 4,096 bytes are in it. Anything else: -EOPNOTSUPP.
 */
#define OPENDFS_ALLOCATE_KEEP_SIZE 1
#define OPENDFS_ALLOCATE_PUNCH 2 /* with KEEP_SIZE */
#define OPENDFS_ALLOCATE_ZERO 16
int opendfs_allocate(struct opendfs_file *file, unsigned mode, uint64_t offset, uint64_t len);
void opendfs_async_allocate(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                            unsigned mode, uint64_t offset, uint64_t len);

/* lseek(2): where, from `offset` on, bytes are, or a hole is, as which the end of the file counts.
 * -ENXIO: there are none, or `offset` is not within the file. What was written and is on its way
 * counts as bytes. Holes are what nobody has written, was cut or punched, or was written as zeros
 * in whole cells; files that are in the metadata have none. */
#define OPENDFS_SEEK_DATA 3
#define OPENDFS_SEEK_HOLE 4
int64_t opendfs_seek(struct opendfs_file *file, uint64_t offset, int whence);
void opendfs_async_seek(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                        uint64_t offset, int whence);

/* copy_file_range(2): bytes of one file into another, or within one (-EINVAL: the ranges overlap).
 * How many: it may be less than `len`, at the end of the source, and where much was copied already.
 * They do not pass the caller's memory. Holes stay holes. */
struct opendfs_copy {
    struct opendfs_file *from, *to;
    uint64_t from_offset, to_offset, len;
};
int64_t opendfs_copy_range(const struct opendfs_copy *copy);
void opendfs_async_copy_range(struct opendfs *fs, struct opendfs_op *op,
                              const struct opendfs_copy *copy);

#ifdef __cplusplus
}
#endif

#endif
