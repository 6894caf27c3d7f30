/* tree/rebuild_priv.h -- how the sources of tree/rebuild.h share a run: rebuild.c (which
 * checkpoint), rebuild_scan.c (what the file holds), rebuild_node.c (the way down, copies),
 * rebuild_mend.c (nodes that are made), rebuild_hole.c (what is lost), rebuild_segment.c
 * (memtables), rebuild_write.c (the new file). */
#pragma once

#include "tree/look.h"
#include "tree/rebuild.h"
#include "tree/tree_extra.h"

#define REBUILD_DEPTH_MAX 64u

struct rebuild_seen { /* a node that was found */
    uint64_t block, birth, version, sum, offset;
    uint32_t len;
    uint8_t level, file_id[TREE_FILE_ID_BYTES];
};
enum rebuild_blob_kind { REBUILD_INDEX, REBUILD_LIST, REBUILD_EXTRA };
struct rebuild_blob { /* something that begins like one */
    uint64_t offset;
    enum rebuild_blob_kind kind;
};
struct rebuild_way { /* to a node: where it belongs */
    uint64_t block;
    uint8_t level;
    struct kv_slice low, high;
};
struct rebuild_frame {
    struct tree_look_node node;
    uint64_t *child; /* instead of the node's own, if some of them cannot be; owned */
    uint32_t next;   /* slot */
};
struct rebuild_hole { /* a node that is not there */
    uint64_t block;
    uint8_t level;
    size_t low_len, high_len;
    uint8_t low[TREE_KEY_MAX], high[TREE_KEY_MAX];
};
struct rebuild_spare { /* a node without a way to it */
    uint64_t block, version;
    uint8_t level;
    uint8_t *keys; /* owned: low, high */
    size_t low_len, high_len;
};

struct rebuild {
    const struct tree_rebuild_options *opt;
    struct tree_rebuild_result *result;
    struct tree_look look;
    struct tree_super super; /* of the new file */
    struct tree_look_table table;
    struct rebuild_seen *seen; /* by block, the newest first */
    size_t seen_count, seen_capacity;
    struct rebuild_blob *blob;
    size_t blob_count, blob_capacity;
    /* the way down */
    struct rebuild_frame *frame; /* REBUILD_DEPTH_MAX */
    unsigned depth;
    struct rebuild_hole *hole;
    size_t hole_count, hole_capacity;
    struct rebuild_spare *spare;
    size_t spare_count, spare_capacity;
    bool spares_known;
    uint64_t msn_max; /* of nodes and segments */
    /* the new file */
    struct disk_file *out;
    char *partial;
    uint64_t end;                 /* in bytes */
    struct tree_btt_entry *entry; /* by block; kind void: not there */
    size_t entry_capacity;
    uint64_t next_block;
    struct tree_btt_piece *piece;
    size_t piece_count;
    uint8_t *extra;
    size_t extra_len;
    struct tree_codec packer;
};

/* rebuild.c */
struct tree_finding tree_rebuild_finding(enum tree_finding_severity severity, const char *code);
void tree_rebuild_tell(struct rebuild *r, const struct tree_finding *f);

/* rebuild_scan.c */
NODISCARD int tree_rebuild_scan(struct rebuild *r);
/* Only those of the file, in order. */
void tree_rebuild_sort(struct rebuild *r, const uint8_t *file_id);
/* The newest checkpoint whose index is in the file; 0: none. -ENOMEM. */
NODISCARD int tree_rebuild_newest(struct rebuild *r, const uint8_t *file_id, uint64_t *ret);
/* A superblock from what was found. Class ERR_corrupt: there is nothing. */
NODISCARD int tree_rebuild_guess(struct rebuild *r, struct tree_super *ret, struct err *e);

/* rebuild_node.c: the node, and all below it. */
NODISCARD int tree_rebuild_node(struct rebuild *r, const struct rebuild_way *way);
void tree_rebuild_frame_fini(struct rebuild_frame *f);
/* The state of a block to be used: *ret_older: not the newest one. -ENOENT: none; -ENOMEM. `way`
 * NULL would fit anywhere: way->level UINT8_MAX. */
NODISCARD int tree_rebuild_find(struct rebuild *r, const struct rebuild_way *way,
                                struct tree_look_node *ret, bool *ret_older);
bool tree_rebuild_has(const struct rebuild *r, uint64_t block); /* it is in the new file */

/* rebuild_mend.c: without the partitions that are marked, and with these children (NULL: its own).
 * -E2BIG. */
NODISCARD int tree_rebuild_mend(struct rebuild *r, const struct rebuild_frame *f,
                                const bool *without);
NODISCARD int tree_rebuild_leaf(struct rebuild *r, const struct rebuild_way *way);
NODISCARD int tree_rebuild_internal(struct rebuild *r, const struct rebuild_way *way,
                                    const struct tree_pivots_source *s);

/* rebuild_hole.c */
NODISCARD int tree_rebuild_lose(struct rebuild *r, const struct rebuild_way *way);
NODISCARD int tree_rebuild_holes(struct rebuild *r);
void tree_rebuild_holes_fini(struct rebuild *r);

/* rebuild_segment.c */
NODISCARD int tree_rebuild_memtables(struct rebuild *r);

/* rebuild_write.c */
NODISCARD int tree_rebuild_create(struct rebuild *r, struct err *e);
NODISCARD int tree_rebuild_copy(struct rebuild *r, uint64_t offset, uint64_t len);
/* New space behind everything; `bytes` become durable there. */
NODISCARD int tree_rebuild_append(struct rebuild *r, const void *bytes, size_t len,
                                  uint64_t *ret_offset);
NODISCARD int tree_rebuild_entry(struct rebuild *r, uint64_t block, const struct tree_btt_entry *e);
/* Table, lists and superblock; then it gets its name. */
NODISCARD int tree_rebuild_finish(struct rebuild *r, struct err *e);
void tree_rebuild_abandon(struct rebuild *r);
