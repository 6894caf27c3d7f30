/*
 * opendfs/check.h -- do all records of the metadata agree with each other? And what is known to be
 * wrong with what data nodes hold, and whose it is?
 *
 * For root. The metadata leader looks at all records of one moment, some thousand per call, while
 * everything else goes on; one check at a time in a cluster. Results and threads as in
 * opendfs/opendfs.h.
 */
#ifndef OPENDFS_CHECK_H
#define OPENDFS_CHECK_H

#include "opendfs/async.h"

#ifdef __cplusplus
extern "C" {
#endif

struct opendfs_finding {
    const char *code; /* "name.dangling": for programs */
    uint64_t ino;     /* what it is about; 0: no file or directory */
    const char *path; /* of that, as far as it is known; may be empty */
    const char *text; /* what is wrong, for people */
};
struct opendfs_check_page {
    const struct opendfs_finding *findings;
    size_t count;
    uint64_t records; /* looked at so far */
    int done;
    int restarted; /* it took too long, and begins again: forget all findings so far */
};
/* Start with zero; moved on by each call. */
struct opendfs_check {
    uint64_t run, records;
    int data; /* set before the first call: not the metadata, but what data nodes hold */
};

/* The next part; *ret is freed by opendfs_free(). -EPERM: not root; -EBUSY or -EAGAIN: another
 * check is under way; -ESTALE: the server does not know of this one any more: start again. */
int opendfs_check_next(struct opendfs *fs, struct opendfs_check *check,
                       struct opendfs_check_page **ret);
/* `data` is a struct opendfs_check_page, until opendfs_async_release(); `check` is moved on. */
void opendfs_async_check_next(struct opendfs *fs, struct opendfs_op *op,
                              struct opendfs_check *check);

/*
 * Data that belongs to no file. A look compares what data nodes hold with the metadata, in the
 * background; what two looks find that are far enough apart is removed. Data ids that a restore
 * from a backup has leapt over are kept until a range is let go of, which is to be named exactly.
 * How it stands is in the status. -EPERM: not root; -EALREADY: one is under way; -ENOENT: no such
 * range.
 */
int opendfs_audit_start(struct opendfs *fs);
int opendfs_audit_release(struct opendfs *fs, uint64_t first, uint64_t last);
struct opendfs_audit {
    int release; /* 0: start */
    uint64_t first, last;
};
void opendfs_async_audit(struct opendfs *fs, struct opendfs_op *op,
                         const struct opendfs_audit *audit);

#ifdef __cplusplus
}
#endif

#endif
