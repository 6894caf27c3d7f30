/*
 * tree/merge.h -- the heart of reads: what a key's value is, and all keys in order, out of sources
 * that are ordered from the newest to the oldest.
 *
 * Of one key all messages of a source are newer than those of the sources behind it, and a range
 * delete of a source covers all that is behind it and what is older in itself. The last source may
 * be the base: records as PUT with msn 0.
 *
 * A record costs no allocation but the growing of a buffer, which is used again. Nothing waits:
 * when a source says -ERR_need, the merge has not moved and the same call may be repeated; it goes
 * on where it was. One thread at a time.
 */
#pragma once

#include "tree/snapshots.h"
#include "tree/source.h"

#define TREE_SOURCES_MAX 256u       /* see flush_inner.c: what a way down may have at most */
#define TREE_PENDING_MAX (1u << 20) /* upserts of one key that do not fold */

/* Memory of one reader, used again; all zero is empty. */
struct tree_fold {
    struct kv_slice *pending; /* owned: upserts on the way down, newest first */
    size_t count, capacity;
    struct tree_room room; /* the value that they make */
    struct kv_slice base;  /* the PUT below them, lent by its source; its address NULL: none */
    bool decided;          /* what is behind does not matter */
};
void tree_fold_fini(struct tree_fold *f);

/*
 * The value of a key, source by source from the newest on, for who does not have all of them at
 * once. ask: 1: it is decided; 0: go on with the next source; an error of the source or of this
 * (see below): nothing has changed, and it may be repeated, or all of it begun again. end: when it
 * is decided or no source is left; 1 and the value, 0: absent, -ENOMEM: may be repeated. What
 * sources have lent must stay until then.
 */
void tree_fold_begin(struct tree_fold *f);
NODISCARD int tree_fold_ask(struct tree_fold *f, struct tree_source *s, struct kv_slice key);
NODISCARD int tree_fold_end(struct tree_fold *f, struct kv_slice *ret);

/*
 * The value of a key: goes down until the first PUT, DELETE or range delete, and applies the
 * upserts that it met. 1 and the value, which lies in `f` or is lent by a source; 0: absent.
 * -ENOMEM, -E2BIG (more upserts than TREE_PENDING_MAX), class EIO, and what sources say.
 * Ask tree_snapshot_check() afterwards.
 */
NODISCARD int tree_merge_get(struct tree_source *const *sources, size_t count, struct kv_slice key,
                             struct tree_fold *f, struct kv_slice *ret);

struct tree_merge;

struct tree_merge_options {
    struct tree_source *const *sources;   /* newest first; they and what they stand on are the
                                             merge's until it is freed */
    size_t count;                         /* at most TREE_SOURCES_MAX */
    struct kv_slice lower;                /* inclusive; empty: from the first key; copied */
    struct kv_slice upper;                /* exclusive; empty: to the last key; copied */
    const struct tree_snapshot *snapshot; /* asked after every move; NULL: nobody gives it up */
};
size_t tree_merge_bytes(size_t count); /* that one of so many sources has, at first */
NODISCARD int tree_merge_new(const struct tree_merge_options *opt, struct tree_merge **ret);
struct tree_merge *tree_merge_free(struct tree_merge *m); /* not the sources */
DEFINE_FREEP(tree_merge)

/*
 * As those of kv_iter: 1 and it stands on a record, 0 and it stands nowhere, or an error and it has
 * not moved. seek: the first key >= `key`; seek_back: the last key <= `key`; an empty key: the
 * first and the last; both stay within the bounds. next and prev need a record to stand on.
 * -ECANCELED: the snapshot was given up.
 */
NODISCARD int tree_merge_seek(struct tree_merge *m, struct kv_slice key);
NODISCARD int tree_merge_seek_back(struct tree_merge *m, struct kv_slice key);
NODISCARD int tree_merge_next(struct tree_merge *m);
NODISCARD int tree_merge_prev(struct tree_merge *m);

/* Of the record it stands on; lent until it moves or is freed. */
struct kv_slice tree_merge_key(const struct tree_merge *m);
struct kv_slice tree_merge_value(const struct tree_merge *m);
