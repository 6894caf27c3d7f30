/*
 * opendfs/where.h -- where the pieces of a file are: its chunks, the chains that they belong to,
 * and what each member of a chain says about its copy.
 *
 * Results and threads as in opendfs/opendfs.h; the asynchronous forms as in opendfs/async.h.
 */
#ifndef OPENDFS_WHERE_H
#define OPENDFS_WHERE_H

#include "opendfs/async.h"

#ifdef __cplusplus
extern "C" {
#endif

struct opendfs_where_target {
    uint32_t id;
    const char *name, *host, *rack, *address; /* "": not known */
};
#define OPENDFS_MEMBER_SERVING 1
#define OPENDFS_MEMBER_SYNCING 2      /* is being brought up to date */
#define OPENDFS_MEMBER_WAITING 3      /* will be */
#define OPENDFS_MEMBER_LAST_SERVING 4 /* has all that was synced, and nobody serves */
#define OPENDFS_MEMBER_OFFLINE 5
struct opendfs_where_member {
    const struct opendfs_where_target *target;
    uint32_t state;
    int result;      /* what it answered: 0, or a negative errno: nothing is known of its copy */
    const char *why; /* not 0: in words */
    int there;       /* it has the chunk; else the chunk is a hole, or lost */
    int damaged;     /* it knows that its copy is bad */
    uint32_t epoch;  /* with `version` the identity: equal identity is equal contents */
    uint64_t version;
    uint32_t length_bytes;
    uint64_t allocated_bytes;
};
struct opendfs_where_chunk {
    uint32_t index, chain, epoch; /* epoch of the chain */
    const struct opendfs_where_member *members;
    size_t member_count;
};
struct opendfs_where {
    struct opendfs_stat stat;
    int in_metadata; /* contents (if any) are kept with the attributes: there are no chunks */
    uint64_t data_id;
    uint32_t chunk_bytes, class_id, table_version, seed, stripe_width;
    const char *class_name;                   /* "": not known */
    uint32_t copies;                          /* as the class wants; 0: not known */
    uint64_t chunk_count;                     /* of the whole file */
    const struct opendfs_where_chunk *chunks; /* of this page */
    size_t count;
};
#define OPENDFS_WHERE_MAX ((size_t)64)
struct opendfs_where_query {
    const char *path; /* symbolic links are not followed at its end; NULL: */
    uint64_t ino;
    uint64_t first; /* chunk of the page; goes on with first + count */
    size_t max;     /* chunks; 0: OPENDFS_WHERE_MAX, which is also the limit */
};
/* A page; *ret is freed by opendfs_free(). Members are asked for some seconds. The file must be
 * readable for the caller, else members say nothing (-EACCES). */
int opendfs_where(struct opendfs *fs, const struct opendfs_where_query *query,
                  struct opendfs_where **ret);
/* `data` is a struct opendfs_where, until opendfs_async_release(). */
void opendfs_async_where(struct opendfs *fs, struct opendfs_op *op,
                         const struct opendfs_where_query *query);

/* All names of an inode, in pages. For root (-EPERM). */
struct opendfs_name {
    uint64_t parent_ino;
    const char *directory, *name; /* directory: its path; of a long one the end, behind "..." */
};
struct opendfs_names_page {
    const struct opendfs_name *names;
    size_t count;
    int at_end;
};
struct opendfs_names { /* `ino`, the rest zero; moved on by each call */
    uint64_t ino, after_parent;
    char after_name[256];
};
int opendfs_names_next(struct opendfs *fs, struct opendfs_names *names,
                       struct opendfs_names_page **ret);
void opendfs_async_names_next(struct opendfs *fs, struct opendfs_op *op,
                              struct opendfs_names *names);

#ifdef __cplusplus
}
#endif

#endif
