/* tree/check_priv.h -- how the sources of tree/check.h share a check: check.c (what a superblock
 * names), check_space.c (who uses what), check_node.c (nodes), check_order.c (between levels),
 * check_segment.c. */
#pragma once

#include "tree/check.h"
#include "tree/look.h"
#include "tree/tree_extra.h"
#include "tree/write.h"

#define CHECK_DEPTH_MAX 64u          /* as high as a superblock may say */
#define CHECK_LOST_MAX 256u          /* subtrees that cannot be reached; more are not told apart */
#define CHECK_SLOT_BYTES (64u << 20) /* of a slot's messages in memory, for comparing */

/* One partition of messages of the slot that is below. */
struct check_run {
    uint8_t run;
    uint8_t *raw; /* owned */
    bool is_ranges;
    struct tree_block block;
    struct tree_ranges ranges;
};
/* A node on the way down. */
struct check_frame {
    struct tree_look_node node;
    uint32_t next;         /* slot */
    struct check_run *run; /* of slot next - 1; level 4 */
    size_t run_count, run_capacity;
};
/* What lies below a node that cannot be read. */
struct check_lost {
    struct tree_finding finding;
    struct err err;
    uint8_t low[TREE_KEY_MAX], high[TREE_KEY_MAX];
};

struct check {
    const struct tree_check_options *opt;
    struct tree_check_result *result;
    struct tree_look look;
    struct tree_look_table table;
    uint64_t *seen;            /* a bit for each block */
    struct check_frame *frame; /* CHECK_DEPTH_MAX */
    unsigned depth;
    struct check_lost *lost; /* CHECK_LOST_MAX */
    size_t lost_count;
    uint64_t sampled_records, sampled_units; /* of leaves: what one of them has, about */
    const char *advice;                      /* for damage that an open falls back from */
    struct tree_extra extra; /* memtables, drained position, dropped blocks; lent from the table */
    uint64_t msn_drained, msn_rest; /* messages of nodes have lower numbers: of keys below
                                       extra.drained, and of the others */
};

/* A finding about the checkpoint; `severity` counts it. */
struct tree_finding tree_check_finding(const struct check *c, enum tree_finding_severity severity,
                                       const char *code);
void tree_check_tell(struct check *c, const struct tree_finding *f);
static inline bool tree_check_fatal(int rc) /* ends the check: not about the file */
{
    return rc == -ENOMEM;
}

/* check_extra.c: what the checkpoint says of memtables, and whether its pieces are all of them. */
void tree_check_extra(struct check *c);
/* Messages of nodes for this key have lower numbers. */
uint64_t tree_check_limit(const struct check *c, struct kv_slice key);
/* check_space.c: -ENOMEM. */
NODISCARD int tree_check_space(struct check *c, const struct tree_look_table *other);
/* check_node.c: nodes. All from here on 0 or -ENOMEM. */
NODISCARD int tree_check_nodes(struct check *c);
/* check_part.c: everything in a node. */
NODISCARD int tree_check_parts(struct check *c, const struct tree_look_node *n);
/* check_order.c: the messages for a slot of the deepest frame, against those above. */
NODISCARD int tree_check_order(struct check *c, uint16_t slot);
void tree_check_order_fini(struct check_frame *f);
/* check_segment.c */
NODISCARD int tree_check_segments(struct check *c);
