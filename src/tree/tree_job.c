/*
 * tree/tree_job.c -- one job of maintenance, from finding the nodes that it is about to the state
 * in which its result is seen. A job is begun, gathers what it reads (fetched as often as something
 * is missing), waits until there is memory for what it makes, runs on the executor, and is
 * installed as the next version. Until then nothing has changed, so that it can be given up
 * anywhere.
 *
 * What is found is of the state of its beginning. Its nodes stay the newest, for nobody else makes
 * versions; memtables may have been frozen since, so what is published is made from the state of
 * that moment.
 */
#include "tree/tree_maintain_priv.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "tree/tree_checkpoint_priv.h"

#include <string.h>

#define JOB_TAKE_BYTES (4u << 20)
#define JOB_FAILURES_MAX 5u              /* one after the other; then it is the end of writing */
#define JOB_AGAIN_NS UINT64_C(250000000) /* after the first one; then twice as long */
#define JOB_KEY_SHOWN 24u
#define JOB_WORDS 128u
#define JOB_TAKE_LEAVES 16u /* that a drain makes of a leaf, at most about */
#define LEAF_FILTERS_SHARE 4u

/* ---- finding ---- */

static struct tree_need_from job_from(struct tree_maintain *m)
{
    return (struct tree_need_from){.kv = &m->t->base, .need = &m->job.need};
}

static void job_leave_path(struct tree_maintain *m)
{
    if (m->job.have_path) {
        tree_descent_fini(&m->job.path);
        m->job.have_path = false;
    }
    if (m->job.second != NULL) {
        tree_node_unpin(m->job.second);
        m->job.second = NULL;
    }
}

static int job_descend(struct tree_maintain *m, uint8_t level)
{
    struct maintain_job *j = &m->job;
    struct tree_need_from from = job_from(m);
    struct kv_slice key = kv_slice_of(j->about.key, j->about.key_len);
    job_leave_path(m);
    int rc = tree_descend(m->t, j->state, &from, key, level, &j->path);
    j->have_path = rc == 0;
    return rc;
}

static struct tree_head *job_head(const struct maintain_job *j, unsigned above)
{
    return j->path.node[j->path.depth - 1 - above]->head;
}

static bool job_is_overfull(const struct tree_maintain *m, const struct tree_head *h)
{
    return h->header.level > 0 && tree_head_raw_bytes(h) > m->t->shape.internal_raw;
}

/* about.key becomes the first key of that slot. */
static void job_go_to(struct maintain_job *j, const struct tree_head *h, uint16_t slot)
{
    struct tree_pivots_bounds b;
    tree_pivots_bounds(&h->pivots, slot, &b);
    if (b.low.len > 0) {
        memcpy(j->about.key, b.low.at, b.low.len);
    }
    j->about.key_len = b.low.len;
}

/* From the node that has too much down to the last one on the way that has: its child is to take
 * some. 1: there is nothing to be done. */
static int job_find_flush(struct tree_maintain *m)
{
    struct maintain_job *j = &m->job;
    j->kind = MAINTAIN_FLUSH;
    for (;;) {
        uint16_t slot = 0;
        if (j->about.level == 0 || j->about.level >= j->state->height) {
            return 1;
        }
        int rc = job_descend(m, j->about.level);
        if (rc < 0) {
            return rc;
        }
        struct tree_head *h = job_head(j, 0);
        if (!job_is_overfull(m, h) || !tree_flush_heaviest(h, &slot)) {
            return 1;
        }
        struct maintain_about parent = j->about;
        job_go_to(j, h, slot);
        rc = job_descend(m, (uint8_t)(parent.level - 1));
        if (rc < 0) {
            j->about = parent;
            return rc;
        }
        if (!job_is_overfull(m, job_head(j, 0))) {
            return 0;
        }
        j->about.level--;
    }
}

static int job_find_drain(struct tree_maintain *m)
{
    struct maintain_job *j = &m->job;
    uint8_t height = j->state->height;
    if (height == 0) {
        return 0;
    }
    j->about.level = height == 1 ? 0 : (uint8_t)(height - 2);
    int rc = job_descend(m, j->about.level);
    if (rc < 0 || height == 1 || !job_is_overfull(m, job_head(j, 0))) {
        return rc;
    }
    return job_find_flush(m); /* before it gets even more */
}

static int job_find_neighbour(struct tree_maintain *m)
{
    struct maintain_job *j = &m->job;
    const struct tree_head *parent = job_head(j, 1);
    uint16_t slot = j->path.slot[j->path.depth - 2];
    struct tree_need_from from = job_from(m);
    uint64_t block = tree_pivots_child(&parent->pivots, (uint16_t)(slot + 1));
    struct tree_node *node = tree_nodes_find(m->t->nodes, block, j->state->version);
    if (node == NULL) {
        return -ERR_corrupt;
    }
    if (!tree_node_pin(node)) {
        struct tree_need_name name = {
            .block = block, .version = node->version, .part = TREE_NEED_HEAD};
        return tree_need_miss(&from, &name);
    }
    j->second = node;
    return 0;
}

/* The node and the one right of it, or left if it is the last one. */
static int job_find_merge(struct tree_maintain *m)
{
    struct maintain_job *j = &m->job;
    if (j->about.level + 1 >= j->state->height) {
        return 1;
    }
    int rc = job_descend(m, j->about.level);
    if (rc < 0) {
        return rc;
    }
    const struct tree_head *parent = job_head(j, 1);
    uint16_t slot = j->path.slot[j->path.depth - 2], slots = parent->pivots.slots;
    if (slots < 2 || !tree_head_is_small(job_head(j, 0), &m->t->shape)) {
        return 1;
    }
    if (slot + 1 == slots) {
        struct maintain_about small = j->about;
        job_go_to(j, parent, (uint16_t)(slot - 1));
        rc = job_descend(m, j->about.level);
        if (rc < 0) {
            j->about = small;
            return rc;
        }
    }
    return job_find_neighbour(m);
}

/* ---- what the flush is told ---- */

static struct tree_node_at job_node_at(const struct tree_node *node)
{
    return (struct tree_node_at){
        .head = node->head, .block = node->block, .version = node->version};
}

static uint64_t job_take_bytes(const struct tree_maintain *m)
{
    const struct tree_shape *s = &m->t->shape;
    uint64_t most = base_min(JOB_TAKE_BYTES, TREE_FLUSH_TAKE_MAX);
    uint64_t child =
        m->job.state->height > 2 ? s->internal_raw : (uint64_t)s->leaf_raw * JOB_TAKE_LEAVES;
    return base_min(most, child);
}

static void job_fill_drain(struct tree_maintain *m)
{
    struct maintain_job *j = &m->job;
    const struct tree_state *s = j->state;
    for (unsigned i = 0; i < s->draining; i++) {
        const struct tree_table *table = s->tables[s->count - s->draining + i];
        tree_memtable_cursor_init(&j->cursor[i], table->memtable, UINT64_MAX);
        j->source[i] = &j->cursor[i].base;
    }
    j->flush.source = j->source;
    j->flush.source_count = s->draining;
    j->flush.drain_from = kv_slice_of(s->drained, s->drained_len);
    j->flush.take_bytes = job_take_bytes(m);
}

/* Filters of leaves are most of what should stay in memory while names are looked up at random.
 * Where all of them would take more than a share of it they are made smaller: one that is wrong in
 * a few of a hundred costs less than one that has to be read. */
static uint32_t job_leaf_bits(const struct tree *t)
{
    uint64_t keys = tree_nodes_level(t->nodes, 0).entries;
    keys += keys / 4; /* with the room that they have for more */
    return tree_filter_bits_fit(t->opt.cache_bytes / LEAF_FILTERS_SHARE, keys,
                                t->shape.filter_bits);
}

static void job_fill(struct tree_maintain *m)
{
    struct maintain_job *j = &m->job;
    struct tree_flush *f = &j->flush;
    *f = (struct tree_flush){.shape = &m->t->shape,
                             .leaf_bits = job_leaf_bits(m->t),
                             .cache = m->t->cache,
                             .from = job_from(m),
                             .spare = m->spare,
                             .spare_count = m->spare_count,
                             .root = j->state->root,
                             .height = j->state->height};
    if (j->have_path) {
        f->depth = j->path.depth - 1;
        for (unsigned i = 0; i < f->depth; i++) {
            f->path[i] = job_node_at(j->path.node[i]);
            f->slot[i] = j->path.slot[i];
        }
        f->child[f->child_count++] = job_node_at(j->path.node[f->depth]);
    }
    if (j->second != NULL) {
        f->child[f->child_count++] = job_node_at(j->second);
    }
    if (j->kind == MAINTAIN_DRAIN) {
        job_fill_drain(m);
    }
}

/* Numbers for new nodes are kept from job to job. The level said here is nobody's: that of a node
 * comes with its write. */
static int job_spares(struct tree_maintain *m)
{
    int rc = 0;
    while (rc == 0 && m->spare_count < ARRAY_COUNT(m->spare)) {
        rc = tree_file_block_new(m->t->file, 0, &m->spare[m->spare_count]);
        m->spare_count += rc == 0 ? 1 : 0;
    }
    return rc;
}

static int job_find(struct tree_maintain *m)
{
    switch (m->job.kind) {
    case MAINTAIN_DRAIN:
        return job_find_drain(m);
    case MAINTAIN_FLUSH:
        return job_find_flush(m);
    case MAINTAIN_MERGE:
        return job_find_merge(m);
    case MAINTAIN_FREE:
        break;
    }
    CHECK(false && "of nodes in the tree");
    return -EINVAL;
}

/* 1: nothing is to be done; 0: nothing is missing; -ERR_need, -ENOMEM, ... */
static int job_gather(struct tree_maintain *m)
{
    struct maintain_job *j = &m->job;
    if (j->kind == MAINTAIN_FREE) {
        int rc = tree_maintain_drop_some(m, &j->need);
        return rc < 0 ? rc : 1;
    }
    if (j->flush.shape == NULL) {
        int rc = job_spares(m);
        rc = rc < 0 ? rc : job_find(m);
        if (rc != 0) {
            return rc;
        }
        job_fill(m);
    }
    return tree_flush_gather(&j->flush);
}

/* ---- the result ---- */

/* What a drain has moved: how far it is now. True: that was all. */
static bool job_drained(const struct tree_maintain *m, struct tree_state *s)
{
    const struct tree_flush *f = &m->job.flush;
    struct kv_slice to = kv_slice_of(f->drained_to, f->drained_len);
    if (f->all && f->child_count > 0) {
        to = f->child[0].head->pivots.high;
    }
    if (f->all && (f->child_count == 0 || to.len == 0)) {
        return true;
    }
    CHECK(to.len > 0 && to.len <= TREE_KEY_MAX);
    memcpy(s->drained, to.at, to.len);
    s->drained_len = to.len;
    return false;
}

/* Just now, or a checkpoint under way still has to. */
static bool block_is_written(const struct tree *t, uint64_t block)
{
    const struct tree_node *node = tree_nodes_find(t->nodes, block, t->state->version);
    while (node != NULL && !tree_checkpoint_wants(t, node)) {
        node = atomic_load_explicit(&node->older, memory_order_relaxed);
    }
    return node != NULL || tree_nodes_block_writing(t->nodes, block);
}

static bool head_shares(const struct tree_head *a, const struct tree_head *b)
{
    for (uint32_t i = 0; i < a->header.partition_count; i++) {
        for (uint32_t k = 0; tree_part_is_dirty(a->part[i]) && k < b->header.partition_count; k++) {
            if (a->part[i] == b->part[k]) {
                return true;
            }
        }
    }
    return false;
}

static bool job_shares(const struct tree_maintain *m, const struct tree_flush_out *out,
                       const struct tree_node_at *in)
{
    return in->block != out->block && block_is_written(m->t, in->block) &&
           head_shares(out->head, in->head);
}

/* Also one with parts that are dirty still, but that a write of another block, under way or to
 * come, will have put there. */
static bool job_leans(const struct tree_maintain *m, const struct tree_flush_out *out)
{
    const struct tree_flush *f = &m->job.flush;
    bool leans = tree_maintain_leans(out);
    for (unsigned i = 0; i < f->child_count && !leans; i++) {
        leans = job_shares(m, out, &f->child[i]);
    }
    for (unsigned i = 0; i < f->depth && !leans; i++) {
        leans = job_shares(m, out, &f->path[i]);
    }
    return leans;
}

/* How many of the new nodes share parts with blocks that go on without them. */
static size_t job_leaning(const struct tree_maintain *m)
{
    const struct tree_flush *f = &m->job.flush;
    size_t count = 0;
    for (size_t i = 0; i < f->out_count; i++) {
        count += job_leans(m, &f->out[i]) ? 1 : 0;
    }
    return count;
}

/* All that can fail, before anything is changed. */
static int job_prepare(struct tree_maintain *m, struct tree_state **ret)
{
    struct tree *t = m->t;
    const struct tree_flush *f = &m->job.flush;
    struct tree_state *s = NULL;
    int rc =
        tree_nodes_prepare(t->nodes, f->out_count + f->gone_count, tree_file_block_limit(t->file));
    rc = rc < 0 ? rc : tree_maintain_drop_room(m, f->dropped_count);
    rc = rc < 0 || job_leaning(m) == 0 ? rc : tree_maintain_hold(m);
    rc = rc < 0 ? rc : tree_state_copy(t->state, &s);
    if (rc < 0) {
        return rc;
    }
    s->version++;
    s->root = f->root;
    s->height = f->height;
    if (m->job.kind == MAINTAIN_DRAIN && job_drained(m, s) && !tree_maintain_group_ends(m, s)) {
        tree_state_unref(s);
        return -ENOMEM;
    }
    *ret = s;
    return 0;
}

/* Nodes that are too large or too small now. A merge that has not made one node of two does not ask
 * for the next merge. */
static void job_note(struct tree_maintain *m)
{
    const struct maintain_job *j = &m->job;
    bool merge = j->kind != MAINTAIN_MERGE || j->flush.gone_count > 0;
    for (size_t i = 0; i < j->flush.out_count; i++) {
        const struct tree_flush_out *out = &j->flush.out[i];
        if (out->block == j->flush.root) {
            continue;
        }
        if (job_is_overfull(m, out->head)) {
            tree_maintain_note(m, out->head, false);
        } else if (merge && tree_head_is_small(out->head, &m->t->shape)) {
            tree_maintain_note(m, out->head, true);
        }
    }
}

static void job_install_nodes(struct tree_maintain *m, uint64_t version)
{
    struct tree_flush *f = &m->job.flush;
    struct tree_nodes *nodes = m->t->nodes;
    for (size_t i = 0; i < f->out_count; i++) {
        struct tree_flush_out *out = &f->out[i];
        out->head->header.block = out->block;
        out->head->header.version = version;
        if (job_leans(m, out)) {
            tree_maintain_hold_add(m, out->block);
        }
        (void)tree_nodes_install(nodes, out->block, version, out->head);
        out->head = NULL;
    }
    for (size_t i = 0; i < f->gone_count; i++) {
        tree_nodes_drop(nodes, f->gone[i], version);
    }
    for (size_t i = 0; i < f->dropped_count; i++) {
        tree_maintain_drop_add(m, f->dropped[i]);
    }
    m->spare_count -= f->spare_used;
    memmove(m->spare, m->spare + f->spare_used, m->spare_count * sizeof m->spare[0]);
    f->out_count = 0;
}

static void job_count(struct tree_maintain *m)
{
    const struct tree_flush *f = &m->job.flush;
    struct tree_statistics *c = &m->t->counts;
    c->flushes++;
    c->splits += f->spare_used;
    c->merges += m->job.kind == MAINTAIN_MERGE ? 1 : 0;
    c->drops += f->dropped_count;
    c->flushed_bytes += f->moved_bytes;
}

static int job_install(struct tree_maintain *m)
{
    struct tree *t = m->t;
    struct tree_state *s = NULL;
    int rc = job_prepare(m, &s);
    if (rc < 0) {
        return rc;
    }
    bool drain = m->job.kind == MAINTAIN_DRAIN;
    job_note(m);
    job_count(m);
    job_install_nodes(m, s->version);
    tree_state_publish(t, s);
    if (drain) {
        tree_drained(t, m->job.flush.taken_count);
    }
    return 0;
}

/* ---- life ---- */

void tree_maintain_job_begin(struct tree_maintain *m, enum maintain_kind kind,
                             const struct maintain_about *about)
{
    CHECK(m->step == MAINTAIN_IDLE);
    struct maintain_job *j = &m->job;
    j->kind = kind;
    j->about = *about;
    j->state = tree_state_ref(m->t->state);
    m->step = MAINTAIN_GATHER;
}

bool tree_maintain_job_waits(const struct tree_maintain *m)
{
    return m->step == MAINTAIN_FETCH || m->step == MAINTAIN_RUN;
}

void tree_maintain_job_end(struct tree_maintain *m)
{
    struct maintain_job *j = &m->job;
    CHECK(!tree_maintain_job_waits(m));
    tree_flush_fini(&j->flush);
    j->flush = (struct tree_flush){0};
    if (j->charged > 0) {
        tree_cache_give(m->t->cache, j->charged);
        j->charged = 0;
    }
    job_leave_path(m);
    kv_need_release(&j->need);
    j->state = tree_state_unref(j->state);
    m->step = MAINTAIN_IDLE;
    tree_fetcher_retry(m->t->fetcher);
}

/* Which part of the tree it is about: as much of the key as fits. */
static void job_describe(const struct maintain_job *j, struct text *out)
{
    static const char *const kinds[] = {[MAINTAIN_DRAIN] = "move memtables down",
                                        [MAINTAIN_FLUSH] = "move messages down",
                                        [MAINTAIN_MERGE] = "merge nodes",
                                        [MAINTAIN_FREE] = "free a subtree"};
    text_add(out, "%s", kinds[j->kind]);
    if (j->kind != MAINTAIN_FREE) {
        text_add(out, ", level %u, from key ", j->about.level);
        for (size_t i = 0; i < j->about.key_len && i < JOB_KEY_SHOWN; i++) {
            text_add(out, "%02x", j->about.key[i]);
        }
        text_add(out, "%s", j->about.key_len > JOB_KEY_SHOWN ? "..." : "");
    }
}

/* The same job, or another, but later: what is wrong may pass. */
static void job_later(struct tree_maintain *m, uint64_t delay_ns)
{
    m->rest_ns = loop_now_ns(m->t->env.loop) + delay_ns;
    tree_maintain_later(m, delay_ns);
}

/*
 * Of a step: it may be tried again, or nothing may be any more. A disk that cannot be read is tried
 * for some time. Only a merge can be done without. `why`: of class EIO, if it is known.
 */
static void job_failed(struct tree_maintain *m, int rc, const struct err *why)
{
    struct tree *t = m->t;
    struct text what;
    char words[JOB_WORDS];
    text_init(&what, words, sizeof words);
    job_describe(&m->job, &what);
    bool optional = m->job.kind == MAINTAIN_MERGE && err_is(rc, EIO);
    bool passes = rc == -EIO || rc == -ENOBUFS;
    tree_maintain_job_end(m);
    if (rc == -ENOMEM) {
        job_later(m, MAINTAIN_RETRY_NS);
    } else if (passes && m->failures < JOB_FAILURES_MAX) {
        job_later(m, JOB_AGAIN_NS << m->failures++);
        log_warn(t->env.log, "work in the background of the tree fails, and is tried again",
                 LOG_TEXT("file", t->path), LOG_TEXT("while", words),
                 LOG_TEXT("reason", why == NULL ? "" : why->text), LOG_RC(rc));
    } else if (optional) {
        m->failures = 0;
        log_error(t->env.log, "small nodes of the tree stay as they are", LOG_TEXT("file", t->path),
                  LOG_TEXT("while", words), LOG_TEXT("reason", why == NULL ? "" : why->text),
                  LOG_RC(rc));
    } else {
        tree_fail(t, rc, words, why);
    }
}

static void job_fetched(struct kv_fetch *f, int rc)
{
    struct tree_maintain *m = container_of(f, struct tree_maintain, job.fetch);
    m->step = MAINTAIN_GATHER;
    if (rc < 0) {
        job_failed(m, rc, err_is(rc, EIO) ? tree_fetcher_error(m->t->fetcher, f) : NULL);
    }
    tree_maintain_kick(m->t);
}

static bool job_step_gather(struct tree_maintain *m)
{
    struct maintain_job *j = &m->job;
    int rc = job_gather(m);
    if (rc == -ERR_need) {
        m->step = MAINTAIN_FETCH;
        j->fetch = (struct kv_fetch){.need = &j->need, .done = job_fetched};
        tree_fetcher_fetch(m->t->fetcher, TREE_FETCH_JOB, &j->fetch);
        return false;
    }
    if (rc < 0) {
        job_failed(m, rc, NULL);
    } else if (rc > 0) {
        tree_maintain_job_end(m);
    } else {
        m->step = MAINTAIN_ROOM;
    }
    return rc >= 0;
}

static void job_work(struct loop_executor_job *run)
{
    struct maintain_job *j = container_of(run, struct maintain_job, run);
    j->rc = tree_flush_run(&j->flush);
}

static void job_ran(struct loop_executor_job *run)
{
    struct tree_maintain *m = container_of(run, struct tree_maintain, job.run);
    m->step = MAINTAIN_INSTALL;
    tree_cache_give(m->t->cache, m->job.charged);
    m->job.charged = 0;
    tree_maintain_kick(m->t);
}

/* When nothing can be written to get memory, the job goes through all the same: one job is all that
 * is ever beyond the budget, and without it nothing would become less. */
static bool job_charge(struct tree_maintain *m)
{
    struct tree *t = m->t;
    uint64_t cost = tree_flush_cost(&m->job.flush);
    if (m->job.charged == 0 && !tree_cache_charge(t->cache, cost)) {
        if (tree_maintain_can_write(m)) {
            return false;
        }
        tree_cache_force(t->cache, cost);
    }
    m->job.charged = cost;
    return true;
}

static bool job_step_room(struct tree_maintain *m)
{
    struct maintain_job *j = &m->job;
    j->run = (struct loop_executor_job){.work = job_work, .done = job_ran};
    if (!job_charge(m) || loop_executor_submit(m->t->executor, m->t->env.loop, &j->run) < 0) {
        tree_maintain_later(m, MAINTAIN_RETRY_NS);
        return false;
    }
    m->step = MAINTAIN_RUN;
    return false;
}

static bool job_step_install(struct tree_maintain *m)
{
    int rc = m->job.rc;
    if (rc < 0) {
        job_failed(m, rc, NULL);
        return false;
    }
    rc = job_install(m);
    if (rc == -ENOMEM) { /* what was made stays until there is some */
        tree_maintain_later(m, MAINTAIN_RETRY_NS);
        return false;
    }
    if (rc < 0) {
        job_failed(m, rc, NULL);
        return false;
    }
    m->failures = 0;
    tree_maintain_job_end(m);
    tree_checkpoint_kick(m->t);
    return true;
}

bool tree_maintain_job_step(struct tree_maintain *m)
{
    switch (m->step) {
    case MAINTAIN_GATHER:
        return job_step_gather(m);
    case MAINTAIN_ROOM:
        return job_step_room(m);
    case MAINTAIN_INSTALL:
        return job_step_install(m);
    case MAINTAIN_IDLE:
    case MAINTAIN_FETCH:
    case MAINTAIN_RUN:
        break;
    }
    return false;
}
