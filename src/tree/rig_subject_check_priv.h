/*
 * tree/rig_subject_check_priv.h -- for tests only: nodes of rig_subject_priv.h are written, and are
 * what they ought to be, on disk and in memory; what is evicted; checkpoints.
 */
#pragma once

#include "tree/rig_commit_priv.h"
#include "tree/rig_heads_read_priv.h"
#include "tree/rig_subject_priv.h"
#include "tree/rig_trouble_priv.h"

static inline void write_done(struct tree_node_write *w, int rc)
{
    struct subject *s = container_of(w, struct subject, req);
    CHECK(!s->over);
    s->rc = rc;
    s->over = true;
    s->rig->running--;
}

static inline void write_in(void *ctx)
{
    struct rig *r = ctx;
    struct subject *s = r->on;
    s->over = false;
    s->req =
        (struct tree_node_write){.done = write_done,
                                 .node = r->birth == 0 ? s->node : s->frozen,
                                 .birth = r->birth == 0 ? tree_file_number(r->w->file) : r->birth};
    r->running++;
    tree_writer_write(r->w->writer, &s->req);
    CHECK(!s->over && s->req.node->writing);
}

static inline void write_begin(struct subject *s)
{
    s->rig->on = s;
    (void)inside(s->rig, write_in);
}

static inline bool is_idle(void *ctx)
{
    const struct rig *r = ctx;
    const struct tree_writer *w = r->w->writer;
    CHECK_TRUE(w->nodes_running <= (r->w->cache_bytes < 4096 ? 1 : w->options.writes_max));
    return r->running == 0;
}

static inline void wait_idle(struct rig *r)
{
    if (r->w->real) {
        uint64_t end = loop_now_ns(r->w->env.loop) + UINT64_C(20000000000);
        while (!is_idle(r) && loop_now_ns(r->w->env.loop) < end) {
            loop_run_once(r->w->env.loop, 10000000);
        }
        CHECK_EQ(r->running, 0);
    } else {
        CHECK_TRUE(testing_machine_until(&r->w->machine, is_idle, r, 60000));
    }
    CHECK_TRUE(!tree_writer_busy(r->w->writer));
}

static inline int write_out(struct subject *s)
{
    write_begin(s);
    wait_idle(s->rig);
    CHECK_TRUE(!s->node->writing && s->node->written == (s->rc == 0));
    return s->rc;
}

/* ---- as it ought to be ---- */

static inline void check_in(void *ctx)
{
    struct rig *r = ctx;
    rig_check_node(r->w, r->on->block, &r->on->raw);
}

static inline void check(struct subject *s)
{
    s->rig->on = s;
    (void)inside(s->rig, check_in);
}

/* The places that parts in memory have are those on disk. */
static inline void places_in(void *ctx)
{
    struct rig *r = ctx;
    struct subject *s = r->on;
    struct tree_codec codec;
    struct tree_head *h = NULL;
    if (s->node->head == NULL) {
        return; /* evicted */
    }
    CHECK_OK(tree_codec_init(&codec, NULL));
    CHECK_OK(rig_head_read(r->w, s->block, &codec, &h));
    CHECK_TRUE(s->node->version == 0 || h->header.version == s->node->version); /* 0: found */
    for (uint32_t i = 0; i < h->header.partition_count; i++) {
        const struct tree_part_place *a = &h->part[i]->place, *b = &s->node->head->part[i]->place;
        CHECK_TRUE(a->block == b->block && a->extent == b->extent && a->birth == b->birth);
        CHECK_TRUE(a->extent_len == b->extent_len && a->offset == b->offset);
        CHECK_TRUE(a->packed_len == b->packed_len && a->sum == b->sum);
    }
    tree_head_unref(h);
    tree_codec_fini(&codec);
}

static inline void check_places(struct subject *s)
{
    s->rig->on = s;
    (void)inside(s->rig, places_in);
}

static inline void reclaim_in(void *ctx)
{
    struct rig *r = ctx;
    tree_nodes_reclaim(r->w->nodes, r->version);
}

/* A head that was evicted, or the one of a new process. */
static inline void fill_in(void *ctx)
{
    struct rig *r = ctx;
    struct tree_codec codec;
    struct tree_head *h = NULL;
    r->on->node = tree_nodes_find(r->w->nodes, r->on->block, r->version);
    CHECK_TRUE(r->on->node != NULL);
    CHECK_OK(tree_codec_init(&codec, NULL));
    CHECK_OK(rig_head_read(r->w, r->on->block, &codec, &h));
    tree_node_fill(r->w->nodes, r->on->node, h);
    tree_codec_fini(&codec);
}

static inline void shrink_in(void *ctx)
{
    struct rig *r = ctx;
    (void)tree_cache_shrink(r->w->cache, 0);
}

/* All that may go has gone, and the head of this one was read again, without parts. */
static inline void evict(struct subject *s)
{
    struct rig *r = s->rig;
    (void)inside(r, reclaim_in);
    (void)inside(r, shrink_in);
    r->on = s;
    (void)inside(r, fill_in);
    for (uint32_t i = 0; i < s->node->head->header.partition_count; i++) {
        CHECK_TRUE((s->node->head->part[i]->state & TREE_PART_ABSENT) != 0);
    }
}

static inline void used_in(void *ctx)
{
    struct rig *r = ctx;
    struct tree_cache_info info;
    tree_cache_info(r->w->cache, &info);
    r->used = info.used;
}

static inline uint64_t used(struct rig *r)
{
    (void)inside(r, used_in);
    return r->used;
}

static inline void commit(struct rig *r)
{
    (void)rig_freeze(r->w);
    CHECK_OK(rig_wait(r->w, rig_commit_in));
}

static inline void reopen(struct rig *r)
{
    commit(r);
    rig_reopen(r->w, true);
    r->version = 0;
    for (unsigned i = 0; i < r->subjects; i++) {
        r->on = &r->s[i];
        (void)inside(r, fill_in);
    }
}

static inline void freeze(struct rig *r)
{
    for (unsigned i = 0; i < r->subjects; i++) {
        r->s[i].frozen = r->s[i].node;
        r->s[i].frozen_raw = r->s[i].raw;
    }
    r->birth = rig_freeze(r->w);
}
