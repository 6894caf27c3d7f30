/*
 * tree/tree_trickle.c -- writes nodes between checkpoints, so that what is dirty stays a part of
 * the memory: leaves before inner nodes, which are likely to change again, and the oldest first.
 * What a checkpoint under way has to write is left to it, and told to hurry.
 *
 * Not by age: owners make checkpoints every minute and spread them over part of the next one, which
 * writes what is old early enough. To write it before as well was tried: it spreads nothing more,
 * and on disks that are nearly full checkpoints found no room any more (tree_disk_test.c).
 */
#include "tree/tree_maintain_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "tree/tree_checkpoint_priv.h"
#include "tree/tree_disk_priv.h"

#define WRITES_DEFAULT 4u
#define TRICKLE_BROKEN_MAX 100u /* failures of the disk in a row: some 20 s */

static uint64_t trickle_share(const struct tree_maintain *m, unsigned percent)
{
    return tree_cache_budget(m->t->cache)->limit_bytes / 100 * percent;
}

/* Bytes that are dirty and not on their way to disk. */
static uint64_t trickle_dirty(const struct tree_maintain *m)
{
    struct tree_nodes_info info;
    tree_nodes_info(m->t->nodes, &info);
    return info.dirty_bytes - base_min(info.dirty_bytes, m->writing_bytes);
}

/* Of one block versions are written in order. */
static bool trickle_may(const struct tree_maintain *m, const struct tree_node *node)
{
    const struct tree_node *older = node;
    if (node->replaced != TREE_NO_VERSION) {
        return false;
    }
    while (older != NULL && !tree_checkpoint_wants(m->t, older)) {
        older = atomic_load_explicit(&older->older, memory_order_relaxed);
    }
    return older == NULL && !tree_nodes_block_writing(m->t->nodes, node->block);
}

/* NULL: none may be written now. */
static struct tree_node *trickle_next(const struct tree_maintain *m)
{
    struct tree_node *node = tree_nodes_dirty(m->t->nodes, NULL), *inner = NULL;
    for (; node != NULL; node = tree_nodes_dirty(m->t->nodes, node)) {
        if ((inner == NULL || node->head->header.level == 0) && trickle_may(m, node)) {
            if (node->head->header.level == 0) {
                return node;
            }
            inner = node;
        }
    }
    return inner;
}

static bool trickle_paused(const struct tree_maintain *m)
{
    return m->pause_ns > loop_now_ns(m->t->env.loop);
}

/* A checkpoint that waits for jobs to end writes nothing until they have. */
static bool trickle_checkpoint(const struct tree *t)
{
    return tree_checkpoint_busy(t) && !tree_checkpoint_holds(t) && !tree_checkpoint_freezes(t);
}

bool tree_maintain_can_write(const struct tree_maintain *m)
{
    return m->writing > 0 || trickle_paused(m) || trickle_checkpoint(m->t) ||
           trickle_next(m) != NULL;
}

/* It stays dirty. What is full or broken now may be better later; commits are slowed meanwhile.
 * Full may last for ever, broken not. */
static void trickle_failed(struct tree_maintain *m, int rc)
{
    struct tree *t = m->t;
    bool broken = err_is(rc, EIO);
    m->broken += broken ? 1 : 0;
    if (rc == -ERR_failed_before || err_is(rc, ERR_corrupt) || m->broken > TRICKLE_BROKEN_MAX) {
        tree_fail(t, rc, "write a node", broken ? tree_writer_error(t->writer) : NULL);
        return;
    }
    if (rc == -ENOSPC || rc == -EDQUOT) {
        tree_disk_refused(t);
    }
    uint64_t delay_ns = rc == -ENOMEM ? MAINTAIN_RETRY_NS : MAINTAIN_SPACE_NS;
    m->pause_ns = loop_now_ns(t->env.loop) + delay_ns;
    tree_checkpoint_hurry(&t->base); /* its end gives back what only older ones need */
    if (rc != -ENOMEM && !m->told_of_full) {
        m->told_of_full = true;
        log_warn(t->env.log, "nodes of the tree cannot be written", LOG_TEXT("file", t->path),
                 LOG_RC(rc));
    }
    tree_maintain_later(m, delay_ns);
}

static void trickle_done(struct tree_node_write *req, int rc)
{
    struct maintain_write *w = container_of(req, struct maintain_write, req);
    struct tree_maintain *m = w->m;
    w->busy = false;
    m->writing--;
    m->writing_bytes -= w->bytes;
    if (rc < 0) {
        trickle_failed(m, rc);
    } else {
        m->told_of_full = false;
        m->broken = 0;
        m->t->counts.written_bytes += req->written_bytes;
    }
    tree_fetcher_retry(m->t->fetcher);
    tree_checkpoint_kick(m->t);
    tree_maintain_kick(m->t);
}

static void trickle_write(struct tree_maintain *m, struct tree_node *node)
{
    struct maintain_write *w = m->write;
    while (w->busy) {
        w++;
    }
    w->busy = true;
    w->m = m;
    w->bytes = node->dirty_bytes;
    w->req = (struct tree_node_write){
        .done = trickle_done, .node = node, .birth = tree_file_number(m->t->file)};
    m->writing++;
    m->writing_bytes += w->bytes;
    tree_writer_write(m->t->writer, &w->req);
}

/* ---- nodes that lean on other blocks ---- */

bool tree_maintain_leans(const struct tree_flush_out *out)
{
    for (uint32_t i = 0; i < out->head->header.partition_count; i++) {
        const struct tree_part *p = out->head->part[i];
        if (!tree_part_is_dirty(p) && p->place.block != out->block) {
            return true;
        }
    }
    return false;
}

int tree_maintain_hold(struct tree_maintain *m)
{
    return m->hold != NULL ? 0 : tree_view_new(m->t, true, &m->hold);
}

void tree_maintain_hold_add(struct tree_maintain *m, uint64_t block)
{
    CHECK(m->hold != NULL && m->held_count < ARRAY_COUNT(m->held));
    m->held[m->held_count++] = block;
}

void tree_maintain_hold_end(struct tree_maintain *m)
{
    m->held_count = 0;
    m->hold = tree_view_free(m->hold);
}

/* Whatever is dirty: jobs wait for these. */
static void trickle_held(struct tree_maintain *m)
{
    size_t left = 0;
    for (size_t i = 0; i < m->held_count; i++) {
        struct tree *t = m->t;
        struct tree_node *node = tree_nodes_find(t->nodes, m->held[i], t->state->version);
        if (node == NULL || node->written) {
            continue;
        }
        m->held[left++] = m->held[i];
        if (trickle_may(m, node) && !trickle_paused(m) && m->writing < MAINTAIN_WRITES_MAX) {
            trickle_write(m, node);
        } else if (tree_checkpoint_wants(t, node)) {
            tree_checkpoint_hurry(&t->base);
        } else if (trickle_paused(m)) {
            tree_maintain_later(m, MAINTAIN_RETRY_NS);
        }
    }
    m->held_count = left;
    if (left == 0 && m->hold != NULL) {
        tree_maintain_hold_end(m);
        tree_maintain_kick(m->t);
    }
}

void tree_maintain_trickle(struct tree_maintain *m)
{
    unsigned most = m->t->opt.writes_max == 0 ? WRITES_DEFAULT : m->t->opt.writes_max;
    uint64_t dirty = trickle_dirty(m);
    bool tight = tree_maintain_is_tight(m) || m->step == MAINTAIN_ROOM;
    trickle_held(m);
    if (tight) {
        tree_checkpoint_hurry(&m->t->base);
    }
    m->trickles = tight || dirty > trickle_share(m, m->trickles ? 20 : 25);
    if (!m->trickles || m->stopped) {
        return;
    }
    if (trickle_paused(m)) {
        tree_maintain_later(m, m->pause_ns - loop_now_ns(m->t->env.loop));
        return;
    }
    while (m->writing < base_min(most, MAINTAIN_WRITES_MAX) &&
           (tight || trickle_dirty(m) > trickle_share(m, 20))) {
        struct tree_node *node = trickle_next(m);
        if (node == NULL) {
            tree_checkpoint_hurry(&m->t->base);
            return;
        }
        trickle_write(m, node);
    }
}
