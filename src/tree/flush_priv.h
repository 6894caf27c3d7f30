/*
 * tree/flush_priv.h -- the parts of a flush and how its sources share them: flush.c (the calls),
 * flush_job.c (what a job is made of), flush_gather.c, flush_leaf.c and flush_inner.c (the
 * children), flush_plan.c (heads of internal nodes), flush_path.c (the nodes above).
 */
#pragma once

#include "base/mem.h"
#include "tree/flush.h"
#include "tree/merge.h"
#include "tree/node_source.h"

#define TREE_FLUSH_LEAVES_MAX 48u /* that a job makes: more would be larger */

/* A node on the level that a job has got to: made by it, or as it was. */
struct flush_made {
    uint64_t block;
    struct tree_head *head; /* lent: by `out`; NULL: as it was */
    struct kv_slice low;    /* lent: by its head or that of the parent */
};

struct flush_job {
    struct tree_flush *f;
    struct tree_need_from from; /* gather: the caller's; run: nothing may be missing */
    bool buffered;              /* the messages come from the parent's buffer */
    struct kv_slice low, high;  /* of the children */
    struct kv_slice start;      /* of the messages */
    struct tree_source *source[TREE_SOURCES_MAX];
    size_t source_count;
    struct tree_node_source *run; /* owned: those of the parent's buffer */
    bool has_ranges;
    struct mem_arena arena; /* keys */

    /* what is taken */
    uint64_t limit, taken_bytes, taken_count;
    bool stopped; /* at: */
    struct kv_slice end;
    uint8_t end_key[TREE_KEY_MAX];
    uint64_t msn_min, msn_max; /* of what was taken; 0: nothing */

    struct tree_block_builder builder[2];
    uint64_t *print; /* owned: fingerprints of keys, in their order */
    size_t print_count, print_capacity;
    uint64_t moved_bytes;

    struct flush_made made[TREE_FLUSH_OUT_MAX];
    size_t made_count;
    struct flush_plan *rest; /* owned: what the parent's buffer keeps of a slot; NULL: nothing */
    size_t rest_print;       /* where its fingerprints begin; */
    size_t rest_prints;      /* in the end they are the only ones: so many */
};

/* ---- flush_job.c ---- */

int tree_flush_job_init(struct flush_job *j, struct tree_flush *f, bool gather);
void tree_flush_job_fini(struct flush_job *j);
struct flush_range {
    struct kv_slice low, high;
};
struct flush_more { /* runs of a child, newest first */
    struct tree_node_source *run;
    size_t count;
    bool only; /* nothing but them */
};
/* What the job's messages and, behind them, those runs have in the range. */
int tree_flush_messages(struct flush_job *j, const struct flush_range *r,
                        const struct flush_more *m, struct tree_compact **ret);
int tree_flush_dup(struct flush_job *j, struct kv_slice key, struct kv_slice *ret);
uint64_t tree_flush_message_bytes(struct kv_slice key, const struct tree_message *m, size_t count);
/* Messages of a key were taken. True: it is enough, nothing behind the key is. */
bool tree_flush_took(struct flush_job *j, struct kv_slice key, uint64_t bytes);
/* It is enough: nothing from `key` on. */
void tree_flush_stop_at(struct flush_job *j, struct kv_slice key);
void tree_flush_saw(struct flush_job *j, uint64_t msn);
struct flush_bytes {
    uint8_t *at;
    size_t len;
    uint32_t entries;
    uint8_t kind;
};
/* A part out of a builder, which is empty then; of bytes, which are its own even if it fails; of
 * another part. */
int tree_flush_seal(struct flush_job *j, struct tree_block_builder *b, struct tree_part **ret);
int tree_flush_part(struct flush_job *j, const struct flush_bytes *b, struct tree_part **ret);
int tree_flush_clone(struct flush_job *j, struct tree_part *p, struct tree_part **ret);
/* Do pieces that touch each other cover all of it? */
bool tree_flush_covers(const struct tree_ranges_item *range, size_t count,
                       const struct flush_range *all);
/* The number of a new node; what was made. */
uint64_t tree_flush_spare(struct flush_job *j);
void tree_flush_out(struct flush_job *j, uint64_t block, struct tree_head *head);

/* ---- flush_plan.c: one or more internal nodes that are to be made ---- */

struct flush_part {
    struct tree_part *part; /* a reference */
    uint64_t origin;        /* the block that had it; 0: it is new */
    struct kv_slice cut;    /* lent */
    uint8_t kind, run;
};
struct flush_slot {
    struct kv_slice low; /* lent; of the first one: not looked at */
    uint64_t child;
    size_t first;       /* of its parts, which go on to those of the next slot */
    size_t print_first; /* likewise: fingerprints of its keys */
};
struct flush_plan {
    struct flush_slot *slot; /* owned, as is: */
    struct flush_part *part;
    size_t slot_count, slot_capacity, part_count, part_capacity;
    struct kv_slice low, high;
    uint8_t level;
    uint64_t msn_min, msn_max;
    const struct tree_head *filter; /* whose filter is copied and added to; NULL: made anew */
    bool filtered;                  /* there is to be one at all */
    bool clone;                     /* parts of another block are copied: they are in memory */
};
void tree_flush_plan_fini(struct flush_plan *p);
int tree_flush_plan_slot(struct flush_job *j, struct flush_plan *p, struct kv_slice low,
                         uint64_t child);
/* Takes the reference, also on failure. */
int tree_flush_plan_part(struct flush_plan *p, const struct flush_part *part);
/* What a slot of an old head has, as it is. */
int tree_flush_plan_keep(struct flush_plan *p, const struct tree_node_at *node, uint16_t slot);
void tree_flush_plan_msn(struct flush_plan *p, uint64_t msn_min, uint64_t msn_max);
/* Makes `count` nodes of about the same size, the first ones with the numbers given. They are what
 * the job has made on this level. */
struct flush_numbers {
    uint64_t block[2];
    size_t count;
};
int tree_flush_plan_make(struct flush_job *j, const struct flush_plan *p, size_t count,
                         const struct flush_numbers *n);

/* ---- flush_leaf.c ---- */

/* What gather and run have to agree on. */
struct flush_leaf_choice {
    bool whole;   /* every basement is looked at */
    bool splits;  /* more leaves may come out than went in; implies whole */
    bool skipped; /* too many messages for gather to look for basements that they leave alone */
};
int tree_flush_leaf_choose(struct flush_job *j, struct flush_leaf_choice *ret);
/* Goes through basements in order, with what is done to each. */
enum flush_basement { FLUSH_SHARE, FLUSH_DROP, FLUSH_READ };
struct flush_leaf_walk {
    struct tree_compact *messages; /* owned */
    int have;                      /* it stands on a key; or an error */
    const struct tree_ranges_item *range;
    size_t range_count, range_at;
};
int tree_flush_leaf_begin(struct flush_job *j, struct flush_leaf_walk *w);
enum flush_basement tree_flush_leaf_ask(const struct flush_job *j, struct flush_leaf_walk *w,
                                        const struct flush_leaf_choice *choice,
                                        const struct flush_range *bounds, uint32_t raw_len);
int tree_flush_leaves(struct flush_job *j, bool *ret_splits);

/* ---- flush_inner.c ---- */

enum flush_slot_kind {
    FLUSH_KEEP,  /* nothing comes */
    FLUSH_ADD,   /* a new run */
    FLUSH_MERGE, /* one run instead of all */
    FLUSH_VOID,  /* what comes deletes all that is there */
};
int tree_flush_slot_choose(struct flush_job *j, const struct tree_node_at *node, uint16_t slot,
                           enum flush_slot_kind *ret);
/* Are all keys of its runs needed, because its filter is made anew? */
bool tree_flush_inner_whole(const struct flush_job *j, const struct tree_head *h);
/* True: all that the only child has is deleted; it need not be read. */
int tree_flush_is_void(struct flush_job *j, bool *ret);
int tree_flush_inner(struct flush_job *j);

/* ---- flush_path.c ---- */

/* May a node of the path be split? `below`: may the children get more? What the node above buffers
 * for it is split as well and has to be read: until it is full, it rather grows. */
bool tree_flush_may_split(const struct tree_flush *f, unsigned at, bool below);
bool tree_flush_slot_is_empty(const struct tree_head *h, uint16_t slot);
int tree_flush_path(struct flush_job *j, bool below);

/* ---- flush_gather.c ---- */

/* What gather has found, for run, and pinned. */
struct flush_inside {
    bool chosen;
    struct flush_leaf_choice choice;    /* of leaves */
    uint8_t *kept[TREE_HEIGHT_MAX + 2]; /* owned: of path and children, one for each part */
};
