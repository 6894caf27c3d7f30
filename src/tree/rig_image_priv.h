/*
 * tree/rig_image_priv.h -- for tests: a whole tree file, made with tree/file.h on a simulated disk,
 * as bytes.
 *
 *   block 1, level 2: ["", "")  messages b1 c1 h1 (800)      m: 2 | 3
 *   block 2, level 1: ["", m)   two runs, ranges, a filter   f: 4 | 5    appended to
 *   block 3, level 1: [m, "")   nothing                      t: 6 | 7
 *   blocks 4 to 7: leaves with filters; 4 was written again
 *
 * Checkpoint 2 has the first state of all, 3 the second, and two memtable segments besides. Of a
 * checkpoint 4 that was never finished there is another state of block 5.
 */
#pragma once

#include "base/env.h"
#include "disk/sim.h"
#include "loop/sim.h"
#include "tree/file.h"
#include "tree/node_rig_priv.h"
#include "tree/segment.h"
#include "tree/tree_extra.h"

#define RIG_IMAGE_BLOCKS 7u
#define RIG_IMAGE_CHECKPOINT 3u

#define RIG_IMAGE_OWNER "sixteen bytes..."

/* What is wrong with it on purpose, behind good checksums. */
enum rig_wrong {
    RIG_WRONG_NOTHING,
    RIG_WRONG_ORDER,  /* messages of the root are older than those of block 2 */
    RIG_WRONG_RUNS,   /* those of a newer run than those of an older one */
    RIG_WRONG_RANGE,  /* a deleted range than what it lies above */
    RIG_WRONG_FILTER, /* a key is not in the filter of block 2 */
    RIG_WRONG_FENCES, /* block 7 begins at u */
    RIG_WRONG_CHILD,  /* block 6 is there twice, 7 not at all */
    RIG_WRONG_NEWER,  /* messages of the root are newer than those of the memtable */
    RIG_WRONG_ABOVE,  /* a message of the root is older than a deleted range below */
    RIG_WRONG_LEAF,   /* a key is not in the filter of block 6 */
    RIG_WRONG_PIECES, /* the second piece of the memtable is not listed */
    RIG_WRONG_COUNT,
};

struct rig_image {
    enum rig_wrong wrong;
    struct loop_sim *sim;
    struct disk_sim *disk;
    struct env env;
    struct tree_file_options opt;
    struct tree_file *file;
    struct tree_file_found found;
    struct tree_file_write write;
    struct tree_file_commit commit;
    struct tree_file_stop stop;
    struct tree_btt_piece piece[2];
    uint8_t extra[128];
    struct rig_node node;
    uint64_t birth; /* of what is written */
    uint8_t *aligned;
    bool over;
    int rc;
    uint8_t *bytes; /* of the file, in the end; the caller's */
    size_t len;
    void (*run)(struct rig_image *r);
};

static inline bool rig_image_over(void *ctx)
{
    return ((struct rig_image *)ctx)->over;
}
static inline void rig_image_enter(void *ctx)
{
    struct rig_image *r = ctx;
    r->run(r);
}
static inline void rig_image_wait(struct rig_image *r, void (*run)(struct rig_image *r))
{
    r->over = false;
    r->run = run;
    loop_sim_enter(r->env.loop, rig_image_enter, r);
    CHECK(loop_sim_run(r->sim, rig_image_over, r, UINT64_MAX));
    CHECK(r->rc == 0);
}
static inline void rig_image_done(struct rig_image *r, int rc)
{
    r->rc = rc;
    r->over = true;
}

/* ---- writing ---- */

static inline void rig_image_written(struct tree_file_write *w, int rc)
{
    rig_image_done(container_of(w, struct rig_image, write), rc);
}
static inline void rig_image_write(struct rig_image *r)
{
    tree_file_write(r->file, &r->write);
}

/* What is in r->node. */
static inline void rig_image_put(struct rig_image *r, bool append)
{
    const struct tree_node_header *h = &r->node.header;
    memcpy(r->aligned, r->node.bytes, h->total_len);
    r->write = (struct tree_file_write){.done = rig_image_written,
                                        .block = h->block,
                                        .birth = h->birth,
                                        .buf = r->aligned,
                                        .len = h->total_len,
                                        .header_len =
                                            h->pivots.offset + h->pivots.packed_len + h->filter.len,
                                        .level = h->level,
                                        .append = append};
    memcpy(&r->write.checksum, r->aligned + h->header_len - 8, 8);
    rig_image_wait(r, rig_image_write);
    rig_fini(&r->node);
}

static inline void rig_image_begin(struct rig_image *r, uint64_t block, uint8_t level)
{
    rig_begin(&r->node, level, TREE_CODEC_LZ4);
    r->node.header.block = block;
    r->node.header.birth = r->birth;
    r->node.header.version = r->birth * 100;
    r->node.header.msn_max = 900;
    memcpy(r->node.header.file_id, r->found.super.file_id, TREE_FILE_ID_BYTES);
}

/* Messages for the letters, with numbers from `msn` on. */
static inline struct tree_partition *rig_image_run(struct rig_image *r, uint16_t slot,
                                                   const char *letters, uint64_t msn)
{
    struct tree_block_builder b;
    uint8_t raw[512];
    tree_block_builder_init(&b, TREE_BLOCK_MESSAGE);
    for (size_t i = 0; letters[i] != 0; i++) {
        char key[] = {letters[i], '1', 0};
        struct tree_block_entry e = {
            .key = rig_text(key), .body = rig_text("changed"), .type = 1, .msn = msn + i};
        CHECK(tree_block_builder_add(&b, &e) == 0);
    }
    size_t len = tree_block_builder_finish(&b, raw);
    struct tree_partition *p = rig_part(&r->node, TREE_PARTITION_RUN, slot, raw, len);
    p->entries = b.count;
    tree_block_builder_fini(&b);
    return p;
}

static inline size_t rig_image_filter(struct rig_image *r, const char *letters, uint8_t *out)
{
    uint64_t print[32];
    size_t count = strlen(letters);
    for (size_t i = 0; i < count; i++) {
        char key[] = {letters[i], '1', 0};
        print[i] = tree_fingerprint(rig_text(key));
    }
    return tree_filter_build(print, count, 10, tree_node_seed(&r->node.header, 0), out);
}

/* Fences are letters; two basements divided at `pivot`. */
struct rig_image_leaf {
    uint64_t block;
    const char *low, *high, *pivot, *first, *second, *all;
};
static inline void rig_image_leaf(struct rig_image *r, const struct rig_image_leaf *l)
{
    const struct kv_slice pivot[] = {rig_text(l->pivot)};
    uint8_t filter[192];
    rig_image_begin(r, l->block, 0);
    rig_block(&r->node, TREE_PARTITION_LEAF, 0, l->first);
    rig_block(&r->node, TREE_PARTITION_LEAF, 1, l->second);
    size_t len = rig_image_filter(r, l->all, filter);
    rig_part(&r->node, TREE_PARTITION_FILTER, TREE_SLOT_ALL, filter, len)->entries =
        (uint32_t)strlen(l->all);
    rig_end(&r->node,
            &(struct tree_pivots_source){
                .low = rig_text(l->low), .high = rig_text(l->high), .pivot = pivot, .slots = 2});
    rig_image_put(r, false);
}

static inline void rig_image_internal_end(struct rig_image *r, const char *letters,
                                          const struct tree_pivots_source *s)
{
    if (letters[0] != 0) {
        r->node.header.filter.kind = TREE_FILTER_BLOOM;
        r->node.header.filter.len = (uint32_t)rig_image_filter(r, letters, r->node.filter);
    }
    rig_end(&r->node, s);
}
