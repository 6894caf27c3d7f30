/*
 * tree/tree_maintain_priv.h -- the parts of maintenance and how its sources share them:
 * tree_maintain.c (what is to be done next), tree_job.c (one job from its beginning to its end),
 * tree_trickle.c (nodes that are written for want of memory), tree_drops.c (subtrees that have left
 * the tree).
 *
 * Thread: the loop's, but for the work of a job.
 */
#pragma once

#include "tree/tree_priv.h"

#define MAINTAIN_TODO_MAX 128u
#define MAINTAIN_WRITES_MAX 16u
#define MAINTAIN_RETRY_NS UINT64_C(10000000)  /* no memory */
#define MAINTAIN_SPACE_NS UINT64_C(200000000) /* no space */

/* A node that has become too large or too small: that of this level which holds the key. */
struct maintain_about {
    uint8_t level;
    bool merge;
    size_t key_len;
    uint8_t key[TREE_KEY_MAX];
};

enum maintain_kind {
    MAINTAIN_DRAIN, /* memtables into a child of the root */
    MAINTAIN_FLUSH, /* an inner node that has too much into the child that has most of it */
    MAINTAIN_MERGE, /* a small node with its neighbour */
    MAINTAIN_FREE,  /* the head of an inner node of a subtree that has gone */
};
enum maintain_step {
    MAINTAIN_IDLE,
    MAINTAIN_GATHER,
    MAINTAIN_FETCH, /* of what gathering has missed */
    MAINTAIN_ROOM,  /* waits for memory */
    MAINTAIN_RUN,
    MAINTAIN_INSTALL,
};

struct maintain_job {
    enum maintain_kind kind;
    struct maintain_about about;
    struct tree_state *state; /* a reference: as of its beginning */
    struct tree_descent path;
    bool have_path;
    struct tree_node *second; /* pinned: the neighbour */
    struct kv_need need;
    struct kv_fetch fetch;
    struct tree_flush flush;
    struct tree_memtable_cursor cursor[TREE_MEMTABLES_MAX];
    struct tree_source *source[TREE_MEMTABLES_MAX];
    uint64_t charged;
    struct loop_executor_job run;
    int rc; /* of the run */
};

struct maintain_write {
    struct tree_node_write req;
    struct tree_maintain *m;
    uint64_t bytes; /* that were dirty */
    bool busy;
};

struct tree_maintain {
    struct tree *t;
    struct loop_task task;
    struct loop_timer timer;
    uint64_t timer_ns; /* when it fires */
    bool stopped;      /* nothing begins any more */
    uint64_t rest_ns;  /* no job begins before this time: the last one has failed */
    unsigned failures; /* of reads, for one job after the other */
    enum maintain_step step;
    struct maintain_job job;
    uint64_t spare[TREE_FLUSH_OUT_MAX]; /* numbers for new nodes */
    size_t spare_count;
    struct maintain_about todo[MAINTAIN_TODO_MAX];
    size_t todo_count;
    /* Nodes that lean on extents of other blocks: tree_trickle.c */
    struct tree_view *hold;
    uint64_t held[TREE_FLUSH_OUT_MAX]; /* blocks */
    size_t held_count;
    /* tree_drops.c */
    uint64_t *drop; /* roots of subtrees that have gone; the last one is next */
    size_t drop_count, drop_capacity;
    /* tree_trickle.c */
    struct maintain_write write[MAINTAIN_WRITES_MAX];
    unsigned writing;
    uint64_t writing_bytes;
    bool trickles;     /* until enough is clean */
    bool told_of_full; /* the log was */
    unsigned broken;   /* writes that ended with class EIO, one after the other */
    uint64_t pause_ns; /* no write before this time */
    struct list settles;
    bool freed; /* the last job freed blocks: another kind is next, if there is one */
};

/* tree_maintain.c */
/* There was no memory: no job begins for a while. */
void tree_maintain_rest(struct tree_maintain *m);
/* The task runs then, if not before. */
void tree_maintain_later(struct tree_maintain *m, uint64_t delay_ns);
/* A node that a job has made is to be looked at. */
void tree_maintain_note(struct tree_maintain *m, const struct tree_head *h, bool merge);
/* The memtables that were drained leave `s`, which is not published yet. False: not now. */
NODISCARD bool tree_maintain_group_ends(struct tree_maintain *m, struct tree_state *s);
/* Memory that cannot be evicted is nearly all there is. */
bool tree_maintain_is_tight(const struct tree_maintain *m);

/* tree_job.c */
/* `key`: where a drain goes on, or what about.key says. */
void tree_maintain_job_begin(struct tree_maintain *m, enum maintain_kind kind,
                             const struct maintain_about *about);
/* One step on, if it need not wait. True: it has gone on. */
bool tree_maintain_job_step(struct tree_maintain *m);
/* It has neither a fetch nor a run under way: lets go of everything. */
bool tree_maintain_job_waits(const struct tree_maintain *m);
void tree_maintain_job_end(struct tree_maintain *m);

/* tree_trickle.c */
/*
 * A node that was split off may share parts with the block where they were, and lie in its extents.
 * When that block is written or dropped, they would be given back while the new node still needs
 * them: so a view of the state before the split keeps them, and no job begins, until the new node
 * is on disk itself.
 */
bool tree_maintain_leans(const struct tree_flush_out *out);
/* Before what leans is published. -ENOMEM. */
NODISCARD int tree_maintain_hold(struct tree_maintain *m);
void tree_maintain_hold_add(struct tree_maintain *m, uint64_t block);
void tree_maintain_hold_end(struct tree_maintain *m);
void tree_maintain_trickle(struct tree_maintain *m);
/* Is there anything that could be written to get memory, now or soon? */
bool tree_maintain_can_write(const struct tree_maintain *m);

/* tree_drops.c */
NODISCARD int tree_maintain_drop_room(struct tree_maintain *m, size_t count);
void tree_maintain_drop_add(struct tree_maintain *m, uint64_t block); /* there is room */
/* Frees some blocks. 0: nothing is left to do without a fetch; 1: there is more; -ERR_need: the
 * head of the next one is missing (in `need`); -ENOMEM, class EIO. */
NODISCARD int tree_maintain_drop_some(struct tree_maintain *m, struct kv_need *need);
