/*
 * tree/rig_subject_priv.h -- for tests only: nodes of rig_heads_priv.h with one version after the
 * other, in the process of rig_write_priv.h.
 */
#pragma once

#include "tree/rig_heads_priv.h"
#include "tree/write_priv.h"

#define TEST_SHAPE                                                        \
    {                                                                     \
        .codec = TREE_CODEC_LZ4, .leaf_raw = 65536, .internal_raw = 65536 \
    }
#define BLOCKS 6u

static const struct tree_shape shape = TEST_SHAPE;

static const struct rig_head_spec leaf = {
    .slots = 8,
    .count = 9,
    .part = {{TREE_PARTITION_LEAF, 0, 0, false},
             {TREE_PARTITION_LEAF, 0, 1, false},
             {TREE_PARTITION_LEAF, 0, 2, false},
             {TREE_PARTITION_LEAF, 0, 3, false},
             {TREE_PARTITION_LEAF, 0, 4, false},
             {TREE_PARTITION_LEAF, 0, 5, false},
             {TREE_PARTITION_LEAF, 0, 6, false},
             {TREE_PARTITION_LEAF, 0, 7, false},
             {TREE_PARTITION_FILTER, 0, TREE_SLOT_ALL, false}},
    .records = 20,
    .record_bytes = 300,
};
static const struct rig_head_spec inner = {
    .level = 1,
    .slots = 3,
    .count = 6,
    .part = {{TREE_PARTITION_RUN, 0, 0, false},
             {TREE_PARTITION_RUN, 0, 1, false},
             {TREE_PARTITION_RUN, 3, 1, false},
             {TREE_PARTITION_RUN, 3, 1, true},
             {TREE_PARTITION_RUN, 0, 2, false},
             {TREE_PARTITION_RANGES, 3, 1, false}},
    .filter = true,
    .records = 20,
    .record_bytes = 300,
};

/* A node with one version after the other. */
struct subject {
    struct rig *rig;
    const struct rig_head_spec *spec;
    uint64_t block;
    struct rig_head_raw raw; /* of the newest version */
    struct tree_node *node;  /* the newest version */
    struct tree_node_write req;
    int rc;
    bool over;
    /* of the checkpoint that is being made, and of the last one */
    struct tree_node *frozen;
    struct rig_head_raw frozen_raw, durable;
    bool is_durable;
};

struct rig {
    struct rig_write *w;
    struct rand rand;
    uint64_t version, oldest;
    struct subject s[BLOCKS];
    unsigned subjects, running;
    /* for what runs inside of the process */
    struct subject *on;
    uint64_t changed, birth, used;
    int rc;
};

static inline struct rig *rig_new(uint64_t seed)
{
    struct rig *r = mem_zalloc(sizeof *r);
    CHECK(r != NULL);
    rand_seed(&r->rand, seed);
    r->w = rig_write_new(seed, &shape);
    return r;
}

static inline struct rig *rig_free(struct rig *r)
{
    if (r != NULL) {
        rig_write_free(r->w);
        mem_free(r);
    }
    return NULL;
}
DEFINE_FREEP(rig)

/* Calls `fn` inside of the process. */
static inline int inside(struct rig *r, void (*fn)(void *ctx))
{
    r->rc = 0;
    if (r->w->real) {
        fn(r);
    } else {
        loop_sim_enter(r->w->machine.loop, fn, r);
    }
    return r->rc;
}

/* ---- nodes ---- */

static inline void block_in(void *ctx)
{
    struct rig *r = ctx;
    r->rc = tree_file_block_new(r->w->file, r->on->spec->level, &r->on->block);
}

static inline struct subject *subject_new(struct rig *r, const struct rig_head_spec *spec)
{
    struct subject *s = &r->s[r->subjects++];
    CHECK(r->subjects <= BLOCKS);
    s->rig = r;
    s->spec = spec;
    r->on = s;
    CHECK_OK(inside(r, block_in));
    for (size_t i = 0; i < spec->count; i++) {
        rig_make_part(spec, i, &r->rand, &s->raw);
    }
    s->raw.filter_len = spec->filter ? rig_make_filter(spec, s->raw.filter) : 0;
    return s;
}

static inline void install_in(void *ctx)
{
    struct rig *r = ctx;
    struct subject *s = r->on;
    struct tree_head *h = NULL;
    struct rig_head_make m = {.cache = r->w->cache,
                              .shape = &r->w->shape,
                              .spec = s->spec,
                              .raw = &s->raw,
                              .older = s->node == NULL ? NULL : s->node->head,
                              .changed = r->changed};
    r->rc = rig_head_new(&m, &h);
    if (r->rc == 0) {
        r->rc = tree_nodes_prepare(r->w->nodes, 1, s->block);
        CHECK_OK(r->rc);
        h->header.block = s->block;
        s->node = tree_nodes_install(r->w->nodes, s->block, ++r->version, h);
    }
}

/* The next version: these parts are other ones. */
static inline void change(struct subject *s, uint64_t changed)
{
    struct rig *r = s->rig;
    for (size_t i = 0; i < s->spec->count; i++) {
        if ((changed >> i & 1) != 0) {
            rig_make_part(s->spec, i, &r->rand, &s->raw);
        }
    }
    r->on = s;
    r->changed = changed;
    CHECK_OK(inside(r, install_in));
}
