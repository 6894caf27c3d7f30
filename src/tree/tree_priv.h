/*
 * tree/tree_priv.h -- the parts of a tree and how its sources share them: tree.c (life, commits,
 * states), tree_read.c (gets), tree_iter.c, tree_maintain.c (what is moved down, and when),
 * tree_checkpoint.c, tree_open.c.
 *
 * A state is what readers see: a version of the nodes and the memtables above it, published under
 * `lock`. The commit of a batch changes no state: its messages become visible by their numbers.
 */
#pragma once

#include "base/env.h"
#include "base/lock.h"
#include "loop/executor.h"
#include "loop/loop.h"
#include "tree/credit.h"
#include "tree/merge.h"
#include "tree/tree.h"
#include "tree/tree_extra.h"
#include "tree/write.h"

#define TREE_FROZEN_MAX 4u
#define TREE_FROZEN_COMMITS 3u /* by commits: a checkpoint never has to wait for the last one */
#define TREE_MEMTABLES_MAX (TREE_FROZEN_MAX + 1)
#define TREE_OWNER_BYTES 16u

/* A memtable and what is known of it. */
struct tree_table {
    struct tree_memtable *memtable; /* a reference */
    uint32_t number;
    struct tree_btt_piece *piece; /* the loop's: where it is in the file, if `kept` */
    size_t piece_count;
    bool kept;
    _Atomic uint32_t refs; /* by states */
};

/* Immutable. tables[0] is the active one; the oldest `draining` of them (at the end) are being
 * moved into the nodes together: of these, keys below `drained` are in the nodes already. */
struct tree_state {
    _Atomic uint32_t refs;
    uint64_t version, root; /* root 0: there are no nodes */
    uint8_t height;         /* levels of nodes; 0: none */
    unsigned count, draining;
    struct tree_table *tables[TREE_MEMTABLES_MAX];
    size_t drained_len;
    uint8_t drained[TREE_KEY_MAX];
};

struct tree_view { /* a snapshot; kv_snapshot.kv leads to the tree */
    struct kv_snapshot base;
    bool inner;                    /* of work in the background: is not given up, reads nodes and
                                      frozen memtables only */
    struct tree_snapshot snapshot; /* unless `inner` */
    struct tree_state *state;      /* a reference */
    struct list node;              /* of tree.views, in the order of versions */
};

struct tree_maintain;     /* tree_maintain.c */
struct tree_checkpointer; /* tree_checkpoint.c */

struct tree {
    struct kv base;
    struct env env;
    struct tree_options opt; /* path and owner are its own */
    char *path;
    uint8_t owner[TREE_OWNER_BYTES];
    struct tree_shape shape;
    struct loop_executor *executor, *own_executor;
    struct tree_cache *cache;
    struct tree_file *file;
    struct tree_nodes *nodes;
    struct tree_fetcher *fetcher;
    struct tree_writer *writer;
    struct tree_snapshots *snapshots;
    struct tree_times times;

    struct lock lock; /* of the next three */
    struct tree_state *state;
    struct list views, pins;  /* pins: the loop's (tree_pin_priv.h) */
    uint64_t published_index; /* goes with what tree_snapshots has published */
    _Atomic bool reclaim_due; /* a view has gone */

    /* the loop's */
    uint64_t index, term, msn;           /* applied; the newest message */
    uint64_t frozen_bytes;               /* of frozen memtables */
    struct {                             /* of those that are being drained, at first: */
        uint64_t bytes, messages, moved; /* messages that were */
    } drain;
    bool crowded;              /* so many views that what lies between them stays */
    unsigned starved;          /* commits in a row that found no memory */
    struct tree_credit credit; /* of commits that are slowed */
    uint32_t next_table;
    bool stopping;
    bool stop_file; /* the last step of it */
    struct kv_stop *stop;
    struct kv_room *rooms, **rooms_end; /* who waits for room, in order */
    struct loop_task room_task;
    struct loop_timer room_timer; /* should nobody say that there is some */
    struct tree_file_stop file_stop;
    struct loop_task stop_task;
    struct err failure; /* code 0: none */
    struct tree_maintain *maintain;
    struct tree_checkpointer *checkpointer;
    struct tree_disk *disk; /* tree_disk.c */
    struct tree_statistics counts;
};

static inline struct tree *tree_of(struct kv *kv)
{
    return container_of(kv, struct tree, base);
}

/* Memory that a memtable takes at a time: small ones (of tests) little. */
static inline size_t tree_memtable_block(const struct tree *t)
{
    return (size_t)base_min(256u << 10, base_max(TREE_UNIT, t->opt.memtable_bytes / 16));
}

/* ---- tree.c: states ---- */

struct tree_state *tree_state_ref(struct tree_state *s); /* any thread */
struct tree_state *tree_state_unref(struct tree_state *s);
/* A copy to be changed and published, with references on its tables. -ENOMEM. */
NODISCARD int tree_state_copy(const struct tree_state *s, struct tree_state **ret);
/* Takes the reference; after the installs of its version. Counts for snapshots what it ends. */
void tree_state_publish(struct tree *t, struct tree_state *s);
/* The active memtable is frozen, or goes if it is empty; a new one begins. -ENOMEM, -ERR_busy:
 * frozen_max are there (TREE_FROZEN_COMMITS, TREE_FROZEN_MAX). */
NODISCARD int tree_rotate(struct tree *t, unsigned frozen_max);
/* Frees versions that nobody looks at any more. Called when states and snapshots have gone. */
void tree_reclaim(struct tree *t);
/* `inner`: for work in the background. -ENOMEM; -ERR_busy: too many snapshots. */
NODISCARD int tree_view_new(struct tree *t, bool inner, struct tree_view **ret);
/* An inner one that goes on looking at nodes only: it keeps no memtable in memory. -ENOMEM. */
NODISCARD int tree_view_leave_tables(struct tree_view *v);
struct tree_view *tree_view_free(struct tree_view *v); /* any thread; NULL is fine */
void tree_view_read(struct tree_view *v);              /* before each read: a fault point */
void tree_fail(struct tree *t, int rc, const char *what, const struct err *why); /* or NULL */
int tree_failed(struct kv *kv, struct err *e); /* 0, or why nothing is written any more */
void tree_room_wake(struct tree *t);           /* commits that were refused may go on */
/* Memtables are to be moved into nodes now; so many of their messages have been. */
void tree_drain_begins(struct tree *t);
void tree_drained(struct tree *t, uint64_t messages);
struct tree_table *tree_table_new(struct tree *t,
                                  struct tree_memtable *m); /* takes m; NULL: no memory */
struct tree_table *tree_table_ref(struct tree_table *table);
void tree_table_unref(struct tree_table *table);
extern const struct kv_ops tree_kv_ops;
/* lock, views, reclaiming; with the first state, which it takes. tree_open.c has made the rest. */
void tree_start(struct tree *t, struct tree_state *first);
void tree_end(struct tree *t);        /* CHECKs that no view is left */
void tree_close(struct kv *kv);       /* kv_ops.free; tree_open.c */
void tree_stop_check(struct tree *t); /* background work has ended: is the stop complete? */

/* ---- reads ---- */

int tree_get(struct kv_snapshot *s, struct kv_slice key, struct kv_need *need,
             struct kv_slice *ret);
int tree_iter(struct kv_snapshot *s, const struct kv_iter_options *opt, struct kv_iter **ret);
void tree_estimate(struct kv_snapshot *base, struct kv_slice low, struct kv_slice high,
                   struct kv_estimate *ret);
/* A way down: nodes with pinned heads. */
struct tree_descent {
    unsigned depth;
    struct tree_node *node[TREE_HEIGHT_MAX];
    uint16_t slot[TREE_HEIGHT_MAX]; /* of internal ones */
};
/* From the root to the node of `level` that holds the key (empty: the first one). 0; -ERR_need,
 * -ENOMEM, -ENOBUFS: nothing is pinned; class ERR_corrupt. */
NODISCARD int tree_descend(struct tree *t, const struct tree_state *s,
                           const struct tree_need_from *from, struct kv_slice key, uint8_t level,
                           struct tree_descent *ret);
/* To the leaf with the greatest keys below `key` (empty: with the last ones). */
NODISCARD int tree_descend_below(struct tree *t, const struct tree_state *s,
                                 const struct tree_need_from *from, struct kv_slice key,
                                 struct tree_descent *ret);
void tree_descent_fini(struct tree_descent *d); /* unpins */

/* ---- tree_maintain.c ---- */

NODISCARD int tree_maintain_new(struct tree *t);
void tree_maintain_free(struct tree *t);
/* Something has changed: a memtable was frozen, memory is short, a write has ended. */
void tree_maintain_kick(struct tree *t);
bool tree_maintain_busy(const struct tree *t);
/* Frozen memtables are being moved into nodes, or will be as soon as a job may begin. */
bool tree_maintain_drains(const struct tree *t);
/* Roots of subtrees that are being freed, for a checkpoint (mem_alloc, the caller's), and back. */
NODISCARD int tree_maintain_drops(const struct tree *t, uint64_t **ret, size_t *ret_count);
NODISCARD int tree_maintain_add_drop(struct tree *t, uint64_t block);
uint64_t tree_maintain_memory(const struct tree *t); /* bytes that are charged to nobody */
