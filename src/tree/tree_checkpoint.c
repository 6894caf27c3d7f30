/*
 * tree/tree_checkpoint.c -- makes the state of a moment durable.
 *
 * The moment is that of the call: the active memtable is frozen, so that its messages and those of
 * older memtables and nodes are all that there is; `barrier` is the number of the first memtable
 * that does not belong to it. Until the file is frozen, which may have to wait until every block
 * that the tree does without is free in the file too, no newer memtable gets into nodes.
 *
 * Then the file is frozen and a view of the same moment taken. What the view sees of nodes that are
 * not on disk is written with the number of the checkpoint, spread over the time that it may take;
 * memtables become segments, unless an older checkpoint has made them. The commit lists them, and
 * the rest is in the superblock and in struct tree_extra.
 *
 * Writers of the tree never wait. When there are too many frozen memtables to add one, commits go
 * on in the active one, which is frozen as soon as older ones have gone, or by a commit that finds
 * it full. What it had at the moment of the call is read through a snapshot of its own, and the
 * pieces, which are a part of the memtable, serve this checkpoint only.
 */
#include "tree/tree_checkpoint_priv.h"
#include "tree/tree_disk_priv.h"

#include "base/log.h"
#include "base/mem.h"

#include <string.h>

#define CHECKPOINT_WRITES_MAX 16u
#define CHECKPOINT_WRITES_DEFAULT 4u
#define CHECKPOINT_RETRY_NS UINT64_C(10000000)
#define CHECKPOINT_GARBAGE_MAX ((size_t)4 * TREE_MEMTABLES_MAX)

_Static_assert(TREE_EXTRA_TABLES_MAX >= TREE_FROZEN_MAX, "all of them are listed");

enum checkpoint_step {
    CHECKPOINT_IDLE,
    CHECKPOINT_ROOM,  /* for one more frozen memtable */
    CHECKPOINT_FREES, /* until all blocks that were dropped are free */
    CHECKPOINT_WRITE,
    CHECKPOINT_COMMIT,
    CHECKPOINT_OVER, /* to be answered */
};

struct checkpoint_write {
    struct tree_node_write req;
    struct tree_checkpointer *m;
    bool busy;
};

struct checkpoint_table {
    struct tree_table *table; /* a reference, until it is in pieces */
    uint32_t number;
    bool draining; /* of the oldest ones, which the view has in nodes in part */
    bool fresh;    /* not kept before */
    bool cut;      /* it has newer messages as well, which are left out: see `moment` */
    uint64_t msn_min, msn_max;
    struct tree_btt_piece *piece;
    size_t piece_count;
};

/* Pieces that no checkpoint from now on will list. */
struct checkpoint_garbage {
    struct tree_btt_piece *piece;
    size_t piece_count;
};

struct tree_checkpointer {
    struct tree *t;
    enum checkpoint_step step;
    struct kv_checkpoint *c;    /* under way */
    struct kv_checkpoint *late; /* refused ones, to be answered */
    struct loop_task task;
    struct loop_timer timer;
    int rc;         /* why it ends */
    struct err why; /* the same, of class EIO */
    bool hurry;
    uint64_t index, msn;
    struct tree_snapshot moment; /* of the call, while it waits for room: commits go on in the same
                                    memtable, and leave what there was then to be written */
    uint32_t barrier;
    uint64_t number; /* of the file */
    struct tree_view *view;
    uint64_t *drops;
    size_t drop_count;
    /* nodes */
    struct checkpoint_write write[CHECKPOINT_WRITES_MAX];
    unsigned writing;
    uint64_t begin_ns, total_bytes, begun_bytes;
    struct kv_estimate estimate; /* of all there is */
    /* memtables, newest first */
    struct checkpoint_table table[TREE_MEMTABLES_MAX];
    unsigned table_count, kept_count; /* so many of them are in pieces */
    struct tree_keep keep;
    bool keeping;
    struct tree_file_commit commit;
    struct tree_btt_piece *pieces; /* of all memtables */
    uint8_t *extra;
    struct checkpoint_garbage garbage[CHECKPOINT_GARBAGE_MAX];
    size_t garbage_count;
    uint64_t durable_index;
};

/* ---- what others ask ---- */

bool tree_checkpoint_busy(const struct tree *t)
{
    const struct tree_checkpointer *m = t->checkpointer;
    return m->step != CHECKPOINT_IDLE || m->late != NULL;
}

bool tree_checkpoint_holds(const struct tree *t)
{
    return t->checkpointer->step == CHECKPOINT_ROOM;
}

bool tree_checkpoint_freezes(const struct tree *t)
{
    return t->checkpointer->step == CHECKPOINT_FREES;
}

bool tree_checkpoint_wants(const struct tree *t, const struct tree_node *node)
{
    const struct tree_checkpointer *m = t->checkpointer;
    if (m->step != CHECKPOINT_WRITE || m->view == NULL || node->written) {
        return false;
    }
    uint64_t version = m->view->state->version;
    return node->version <= version && node->replaced > version;
}

void tree_checkpoint_kick(struct tree *t)
{
    struct tree_checkpointer *m = t->checkpointer;
    if (m != NULL && (tree_checkpoint_busy(t) || m->garbage_count > 0)) {
        loop_defer(t->env.loop, &m->task);
    }
}

void tree_checkpoint_hurry(struct kv *kv)
{
    struct tree *t = tree_of(kv);
    struct tree_checkpointer *m = t->checkpointer;
    if (m->step != CHECKPOINT_IDLE && !m->hurry) {
        m->hurry = true;
        loop_defer(t->env.loop, &m->task);
    }
}

static void checkpoint_later(struct tree_checkpointer *m, uint64_t delay_ns)
{
    loop_timer_in(m->t->env.loop, &m->timer, delay_ns);
}

static bool table_is_empty(const struct tree_table *table)
{
    return tree_memtable_state(table->memtable).max_msn == 0;
}

/* What is packed takes about half of it. */
void tree_checkpoints(struct kv *kv, struct kv_checkpoints *ret)
{
    const struct tree *t = tree_of(kv);
    struct tree_nodes_info info;
    uint64_t bytes = 0;
    tree_nodes_info(t->nodes, &info);
    for (unsigned i = 0; i < t->state->count; i++) {
        const struct tree_table *table = t->state->tables[i];
        bool counts = !table->kept && !table_is_empty(table);
        bytes += counts ? tree_memtable_state(table->memtable).bytes : 0;
    }
    *ret = (struct kv_checkpoints){.durable_index = t->checkpointer->durable_index,
                                   .next_bytes = (info.dirty_bytes + bytes) / 2};
}

/* ---- pieces that are not needed any more ---- */

static void garbage_add(struct tree_checkpointer *m, struct tree_btt_piece *piece, size_t count)
{
    if (count == 0) {
        mem_free(piece);
        return;
    }
    CHECK(m->garbage_count < CHECKPOINT_GARBAGE_MAX);
    m->garbage[m->garbage_count++] =
        (struct checkpoint_garbage){.piece = piece, .piece_count = count};
}

static int garbage_free_one(struct tree_checkpointer *m, struct checkpoint_garbage *g)
{
    while (g->piece_count > 0) {
        const struct tree_btt_piece *p = &g->piece[g->piece_count - 1];
        struct tree_space_extent x = {.unit = p->offset / TREE_UNIT,
                                      .count =
                                          (uint32_t)(base_align_up(p->len, TREE_UNIT) / TREE_UNIT)};
        int rc = tree_file_piece_free(m->t->file, x, p->birth, 0); /* no snapshot reads them */
        if (rc == -ENOMEM) {
            return rc;
        }
        g->piece_count--; /* else nothing is written any more */
    }
    mem_free(g->piece);
    return 0;
}

static void garbage_run(struct tree_checkpointer *m)
{
    while (m->garbage_count > 0) {
        if (garbage_free_one(m, &m->garbage[m->garbage_count - 1]) < 0) {
            checkpoint_later(m, CHECKPOINT_RETRY_NS);
            return;
        }
        m->garbage_count--;
    }
}

/* Room for what a checkpoint under way may still give up is left. */
bool tree_checkpoint_retire(struct tree *t, struct tree_table *const *table, unsigned count)
{
    struct tree_checkpointer *m = t->checkpointer;
    if (m->garbage_count + count + TREE_MEMTABLES_MAX > CHECKPOINT_GARBAGE_MAX) {
        garbage_run(m);
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        if (table[i]->kept) {
            garbage_add(m, table[i]->piece, table[i]->piece_count);
            table[i]->piece = NULL;
            table[i]->piece_count = 0;
            table[i]->kept = false;
        }
    }
    garbage_run(m);
    return true;
}

/* ---- the end ---- */

static void checkpoint_over(struct tree_checkpointer *m, int rc)
{
    if (m->step == CHECKPOINT_ROOM) {
        tree_snapshots_release(m->t->snapshots, &m->moment);
    }
    if (rc == -ENOSPC || rc == -EDQUOT) {
        tree_disk_refused(m->t);
    }
    m->rc = rc;
    m->step = CHECKPOINT_OVER;
    loop_defer(m->t->env.loop, &m->task);
}

/* NULL: it has left. */
static struct tree_table *table_find(const struct tree *t, uint32_t number)
{
    for (unsigned i = 0; i < t->state->count; i++) {
        if (t->state->tables[i]->number == number) {
            return t->state->tables[i];
        }
    }
    return NULL;
}

static void checkpoint_leave_table(struct checkpoint_table *k)
{
    if (k->table != NULL) {
        tree_table_unref(k->table);
        k->table = NULL;
    }
}

/* Fresh pieces become the table's, if it is still there, and the checkpoint durable. */
static void checkpoint_drop_tables(struct tree_checkpointer *m, bool durable)
{
    for (unsigned i = 0; i < m->table_count; i++) {
        struct checkpoint_table *k = &m->table[i];
        struct tree_table *table = table_find(m->t, k->number);
        checkpoint_leave_table(k);
        if (!k->fresh) {
            mem_free(k->piece); /* a copy */
        } else if (durable && table != NULL && !k->cut) {
            table->piece = k->piece;
            table->piece_count = k->piece_count;
            table->kept = true;
        } else {
            garbage_add(m, k->piece, k->piece_count);
        }
        *k = (struct checkpoint_table){0};
    }
    m->table_count = 0;
    m->kept_count = 0;
}

/* What it holds is let go of; nothing of it is under way. */
static void checkpoint_end(struct tree_checkpointer *m, bool durable)
{
    checkpoint_drop_tables(m, durable);
    mem_freep(&m->pieces);
    mem_freep(&m->extra);
    mem_freep(&m->drops);
    m->drop_count = 0;
    m->view = tree_view_free(m->view);
    loop_timer_cancel(m->t->env.loop, &m->timer);
    garbage_run(m);
}

static void checkpoint_answer(struct tree_checkpointer *m)
{
    struct kv_checkpoint *c = m->c;
    tree_disk_look(m->t);
    m->c = NULL;
    m->step = CHECKPOINT_IDLE;
    tree_maintain_kick(m->t);
    c->done(c, m->rc);
    tree_stop_check(m->t);
}

/* ---- the commit ---- */

static void checkpoint_committed(struct tree_file_commit *commit, int rc)
{
    struct tree_checkpointer *m = container_of(commit, struct tree_checkpointer, commit);
    struct tree *t = m->t;
    if (rc == 0) {
        m->durable_index = m->index;
        t->counts.checkpoints++;
        t->counts.written_bytes += commit->written_bytes;
    }
    checkpoint_end(m, rc == 0);
    if (tree_file_failed(t->file, NULL) < 0) {
        tree_fail(t, rc < 0 ? rc : -ERR_failed_before, "checkpoint", NULL);
    }
    checkpoint_over(m, rc);
}

static void checkpoint_super(const struct tree_checkpointer *m, struct tree_super *ret)
{
    const struct tree *t = m->t;
    const struct tree_state *s = m->view->state;
    *ret = (struct tree_super){.applied_index = m->index,
                               .applied_term = m->c->term,
                               .max_msn = m->msn,
                               .tree_version = s->version,
                               .root_block = s->root,
                               .height = s->height,
                               .fanout = t->shape.fanout,
                               .leaf_raw = t->shape.leaf_raw,
                               .basement_raw = t->shape.basement_raw,
                               .internal_raw = t->shape.internal_raw,
                               .codec = t->shape.codec,
                               .key_count = m->estimate.key_count,
                               .logical_bytes = m->estimate.bytes,
                               .app_len = TREE_OWNER_BYTES};
    memcpy(ret->app, t->owner, TREE_OWNER_BYTES);
}

static int checkpoint_extra(struct tree_checkpointer *m)
{
    const struct tree_state *s = m->view->state;
    struct tree_extra x = {.drained = kv_slice_of(s->drained, s->drained_len),
                           .table_count = m->table_count,
                           .drop_count = m->drop_count};
    for (unsigned i = 0; i < m->table_count; i++) {
        const struct checkpoint_table *k = &m->table[i];
        x.table[i] = (struct tree_extra_table){.number = k->number,
                                               .draining = k->draining ? 1 : 0,
                                               .msn_min = k->msn_min,
                                               .msn_max = k->msn_max};
    }
    size_t len = tree_extra_bytes(&x);
    m->extra = mem_alloc(len);
    if (m->extra == NULL) {
        return -ENOMEM;
    }
    tree_extra_encode(&x, m->drops, m->extra);
    m->commit.drops = m->extra;
    m->commit.drops_len = len;
    return 0;
}

/* Those of one memtable after the other, newest first. */
static int checkpoint_pieces(struct tree_checkpointer *m)
{
    size_t count = 0;
    for (unsigned i = 0; i < m->table_count; i++) {
        count += m->table[i].piece_count;
    }
    if (count > TREE_BTT_PIECES_MAX) {
        return -E2BIG;
    }
    m->pieces = mem_calloc(count + 1, sizeof *m->pieces);
    if (m->pieces == NULL) {
        return -ENOMEM;
    }
    count = 0;
    for (unsigned i = 0; i < m->table_count; i++) {
        const struct checkpoint_table *k = &m->table[i];
        if (k->piece_count > 0) {
            memcpy(m->pieces + count, k->piece, k->piece_count * sizeof *k->piece);
            count += k->piece_count;
        }
    }
    m->commit.piece = m->pieces;
    m->commit.piece_count = count;
    return 0;
}

static void checkpoint_give_up(struct tree_checkpointer *m, int rc)
{
    tree_file_thaw(m->t->file);
    checkpoint_end(m, false);
    if (tree_file_failed(m->t->file, NULL) < 0 || err_is(rc, ERR_corrupt)) {
        tree_fail(m->t, rc, "checkpoint", &m->why);
    }
    checkpoint_over(m, rc);
}

static void checkpoint_commit(struct tree_checkpointer *m)
{
    m->commit = (struct tree_file_commit){.done = checkpoint_committed};
    int rc = checkpoint_pieces(m);
    rc = rc < 0 ? rc : checkpoint_extra(m);
    if (rc < 0) {
        checkpoint_give_up(m, rc);
        return;
    }
    checkpoint_super(m, &m->commit.super);
    m->step = CHECKPOINT_COMMIT;
    tree_file_commit(m->t->file, &m->commit);
}

/* ---- writing ---- */

static void keep_done(struct tree_keep *keep, int rc)
{
    struct tree_checkpointer *m = container_of(keep, struct tree_checkpointer, keep);
    m->keeping = false;
    if (rc == 0) {
        struct checkpoint_table *k = &m->table[m->kept_count++];
        k->piece = keep->piece;
        k->piece_count = keep->piece_count;
        checkpoint_leave_table(k);
        m->t->counts.written_bytes += keep->written_bytes;
    } else if (m->rc == 0) {
        m->rc = rc;
    }
    loop_defer(m->t->env.loop, &m->task);
}

/* The next memtable that is in no pieces yet. */
static void checkpoint_keep(struct tree_checkpointer *m)
{
    const struct tree_state *s = m->view->state;
    while (m->kept_count < m->table_count && !m->table[m->kept_count].fresh) {
        m->kept_count++;
    }
    if (m->keeping || m->kept_count == m->table_count) {
        return;
    }
    const struct checkpoint_table *k = &m->table[m->kept_count];
    m->keep = (struct tree_keep){
        .done = keep_done,
        .memtable = k->table->memtable,
        .birth = m->number,
        .memtable_number = k->number,
        .msn_max = k->msn_max,
        .piece_bytes = m->t->opt.piece_bytes,
    };
    if (k->draining) {
        m->keep.from = kv_slice_of(s->drained, s->drained_len);
    }
    m->keeping = true;
    tree_writer_keep(m->t->writer, &m->keep);
}

/* The next node that it wants and that may be written now; *left: there are some that it wants.
 * Nodes are listed in the order of their versions. */
static struct tree_node *checkpoint_next(const struct tree_checkpointer *m, bool *left)
{
    struct tree *t = m->t;
    struct tree_node *node = tree_nodes_dirty(t->nodes, NULL);
    *left = false;
    while (node != NULL && node->version <= m->view->state->version) {
        if (tree_checkpoint_wants(t, node)) {
            *left = true;
            if (!tree_nodes_block_writing(t->nodes, node->block)) {
                return node;
            }
        }
        node = tree_nodes_dirty(t->nodes, node);
    }
    return NULL;
}

static void node_done(struct tree_node_write *req, int rc)
{
    struct checkpoint_write *w = container_of(req, struct checkpoint_write, req);
    struct tree_checkpointer *m = w->m;
    w->busy = false;
    m->writing--;
    if (rc == 0) {
        m->t->counts.written_bytes += req->written_bytes;
    } else if (m->rc == 0) {
        m->rc = rc;
        m->why = err_is(rc, EIO) ? *tree_writer_error(m->t->writer) : (struct err){0};
    }
    tree_fetcher_retry(m->t->fetcher);
    tree_maintain_kick(m->t);
    loop_defer(m->t->env.loop, &m->task);
}

static void checkpoint_write_node(struct tree_checkpointer *m, struct tree_node *node)
{
    struct checkpoint_write *w = m->write;
    while (w->busy) {
        w++;
    }
    w->busy = true;
    w->m = m;
    w->req = (struct tree_node_write){.done = node_done, .node = node, .birth = m->number};
    m->writing++;
    m->begun_bytes += node->dirty_bytes;
    tree_writer_write(m->t->writer, &w->req);
}

/* When the next node may be begun, from now; 0: now. */
static uint64_t checkpoint_wait_ns(const struct tree_checkpointer *m)
{
    uint64_t pace_ns = m->c->pace_ns;
    if (pace_ns == 0 || m->hurry || m->t->stopping || m->total_bytes == 0) {
        return 0;
    }
    double share = (double)m->begun_bytes / (double)m->total_bytes;
    uint64_t due_ns = m->begin_ns + (uint64_t)(share * (double)pace_ns);
    uint64_t now_ns = loop_now_ns(m->t->env.loop);
    return due_ns > now_ns ? due_ns - now_ns : 0;
}

static void checkpoint_write(struct tree_checkpointer *m)
{
    unsigned most = m->t->opt.writes_max == 0 ? CHECKPOINT_WRITES_DEFAULT : m->t->opt.writes_max;
    bool left = false;
    if (m->rc < 0) {
        if (m->writing == 0 && !m->keeping) {
            checkpoint_give_up(m, m->rc);
        }
        return;
    }
    checkpoint_keep(m);
    struct tree_node *node = checkpoint_next(m, &left);
    while (node != NULL && m->writing < base_min(most, CHECKPOINT_WRITES_MAX)) {
        uint64_t wait_ns = checkpoint_wait_ns(m);
        if (wait_ns > 0) {
            checkpoint_later(m, wait_ns);
            return;
        }
        checkpoint_write_node(m, node);
        node = checkpoint_next(m, &left);
    }
    if (!left && !m->keeping && m->kept_count == m->table_count) {
        CHECK(m->writing == 0);
        checkpoint_commit(m);
    }
}

/* ---- the beginning ---- */

/* Of the view's memtables those that belong to it; copies of what is kept of them. */
static int freeze_tables(struct tree_checkpointer *m)
{
    const struct tree_state *s = m->view->state;
    for (unsigned i = 0; i < s->count; i++) {
        struct tree_table *table = s->tables[i];
        if (table->number >= m->barrier) {
            continue;
        }
        struct checkpoint_table *k = &m->table[m->table_count++];
        struct tree_memtable_state state = tree_memtable_state(table->memtable);
        *k = (struct checkpoint_table){.table = table->kept ? NULL : tree_table_ref(table),
                                       .number = table->number,
                                       .draining = i >= s->count - s->draining,
                                       .fresh = !table->kept,
                                       .cut = state.max_msn > m->msn,
                                       .msn_min = state.min_msn,
                                       .msn_max = base_min(state.max_msn, m->msn)};
        if (table->kept && table->piece_count > 0) {
            k->piece = mem_dup(table->piece, table->piece_count * sizeof *table->piece);
            if (k->piece == NULL) {
                return -ENOMEM;
            }
            k->piece_count = table->piece_count;
        }
    }
    return 0;
}

static uint64_t checkpoint_total(const struct tree_checkpointer *m)
{
    uint64_t bytes = 0;
    const struct tree_node *node = tree_nodes_dirty(m->t->nodes, NULL);
    for (; node != NULL; node = tree_nodes_dirty(m->t->nodes, node)) {
        bytes += tree_checkpoint_wants(m->t, node) ? node->dirty_bytes : 0;
    }
    return bytes;
}

/* The view, the file and the queue of what is dropped are of one moment. */
static void checkpoint_freeze(struct tree_checkpointer *m)
{
    struct tree *t = m->t;
    struct kv_slice all = {0};
    int rc = tree_view_new(t, true, &m->view);
    rc = rc < 0 ? rc : freeze_tables(m);
    if (rc == 0) {
        tree_estimate(&m->view->base, all, all, &m->estimate);
        rc = tree_view_leave_tables(m->view);
    }
    rc = rc < 0 ? rc : tree_maintain_drops(t, &m->drops, &m->drop_count);
    rc = rc < 0 ? rc : tree_file_freeze(t->file, &m->number);
    if (rc < 0) {
        checkpoint_end(m, false);
        checkpoint_over(m, rc);
        return;
    }
    m->step = CHECKPOINT_WRITE;
    m->begin_ns = loop_now_ns(t->env.loop);
    m->begun_bytes = 0;
    m->total_bytes = checkpoint_total(m);
    tree_maintain_kick(t);
    checkpoint_write(m);
}

static void checkpoint_frees(struct tree_checkpointer *m)
{
    struct tree_nodes_info info;
    tree_reclaim(m->t); /* tries again what could not be freed for want of memory */
    tree_nodes_info(m->t->nodes, &info);
    if (info.frees_pending > 0) {
        checkpoint_later(m, CHECKPOINT_RETRY_NS);
        return;
    }
    checkpoint_freeze(m);
}

/* All messages of the moment are in frozen memtables: no job begins from now on. */
static void checkpoint_rotated(struct tree_checkpointer *m)
{
    m->barrier = m->t->state->tables[0]->number;
    m->step = CHECKPOINT_FREES;
    loop_defer(m->t->env.loop, &m->task);
}

void tree_checkpoint_rotated(struct tree *t)
{
    struct tree_checkpointer *m = t->checkpointer;
    if (m->step == CHECKPOINT_ROOM) {
        tree_snapshots_release(t->snapshots, &m->moment);
        checkpoint_rotated(m);
    }
}

/* One that waits for room goes on in tree_checkpoint_rotated(). */
static void checkpoint_rotate(struct tree_checkpointer *m)
{
    struct tree *t = m->t;
    bool waited = m->step == CHECKPOINT_ROOM, empty = table_is_empty(t->state->tables[0]);
    int rc = empty ? 0 : tree_rotate(t, TREE_FROZEN_MAX);
    if (rc == -ERR_busy) {
        if (!waited) {
            tree_snapshots_hold(t->snapshots, &m->moment);
            m->step = CHECKPOINT_ROOM;
        }
        tree_maintain_kick(t);
    } else if (rc < 0) {
        checkpoint_over(m, rc);
    } else if (!waited) {
        checkpoint_rotated(m);
    }
}

/* 0, or why there will be none now. */
static int checkpoint_refusal(const struct tree *t)
{
    if (t->opt.read_only || t->failure.code < 0) {
        return t->opt.read_only ? -EROFS : t->failure.code;
    }
    return t->stopping ? -ECANCELED : t->checkpointer->step != CHECKPOINT_IDLE ? -EALREADY : 0;
}

void tree_checkpoint(struct kv *kv, struct kv_checkpoint *c)
{
    struct tree *t = tree_of(kv);
    struct tree_checkpointer *m = t->checkpointer;
    LOOP_OWNED(t->env.loop);
    c->index = t->index;
    c->next = NULL;
    if (checkpoint_refusal(t) < 0) {
        c->next = m->late;
        m->late = c;
        loop_defer(t->env.loop, &m->task);
        return;
    }
    m->c = c;
    m->rc = 0;
    m->why = (struct err){0};
    m->hurry = false;
    m->index = t->index;
    m->msn = t->msn;
    checkpoint_rotate(m);
}

void tree_checkpoint_cancel(struct kv *kv)
{
    struct tree *t = tree_of(kv);
    struct tree_checkpointer *m = t->checkpointer;
    if (m->step == CHECKPOINT_ROOM || m->step == CHECKPOINT_FREES) {
        checkpoint_over(m, -ECANCELED);
    } else if (m->step == CHECKPOINT_WRITE && m->rc == 0) {
        m->rc = -ECANCELED;
        loop_defer(t->env.loop, &m->task);
    }
}

/* ---- the task ---- */

static void checkpoint_answer_late(struct tree_checkpointer *m)
{
    struct kv_checkpoint *c = m->late;
    m->late = NULL;
    while (c != NULL) {
        struct kv_checkpoint *next = c->next;
        int rc = checkpoint_refusal(m->t);
        c->done(c, rc < 0 ? rc : -EALREADY);
        c = next;
    }
}

static void checkpoint_step(struct tree_checkpointer *m)
{
    bool failed = m->t->failure.code < 0;
    switch (m->step) {
    case CHECKPOINT_ROOM:
    case CHECKPOINT_FREES:
        if (failed) {
            checkpoint_over(m, m->t->failure.code);
        } else if (m->step == CHECKPOINT_ROOM) {
            checkpoint_rotate(m);
        } else {
            checkpoint_frees(m);
        }
        break;
    case CHECKPOINT_WRITE:
        m->rc = m->rc == 0 && failed ? m->t->failure.code : m->rc;
        checkpoint_write(m);
        break;
    case CHECKPOINT_OVER:
        checkpoint_answer(m);
        break;
    case CHECKPOINT_IDLE:
    case CHECKPOINT_COMMIT:
        break;
    }
}

static void checkpoint_run(struct loop_task *task)
{
    struct tree_checkpointer *m = container_of(task, struct tree_checkpointer, task);
    struct tree *t = m->t;
    garbage_run(m);
    checkpoint_answer_late(m);
    checkpoint_step(m);
    tree_stop_check(t);
}

static void checkpoint_fired(struct loop_timer *timer)
{
    struct tree_checkpointer *m = container_of(timer, struct tree_checkpointer, timer);
    loop_defer(m->t->env.loop, &m->task);
}

uint64_t tree_checkpoint_memory(const struct tree *t)
{
    const struct tree_checkpointer *m = t->checkpointer;
    uint64_t bytes = sizeof *m + m->drop_count * sizeof m->drops[0];
    for (size_t i = 0; i < m->garbage_count; i++) {
        bytes += m->garbage[i].piece_count * sizeof *m->garbage[i].piece;
    }
    return bytes;
}

/* ---- life ---- */

int tree_checkpointer_new(struct tree *t)
{
    struct tree_checkpointer *m = mem_zalloc(sizeof *m);
    if (m == NULL) {
        return -ENOMEM;
    }
    m->t = t;
    m->task.run = checkpoint_run;
    m->timer.fire = checkpoint_fired;
    m->durable_index = t->index;
    t->checkpointer = m;
    return 0;
}

void tree_checkpointer_free(struct tree *t)
{
    struct tree_checkpointer *m = t->checkpointer;
    if (m == NULL) {
        return;
    }
    CHECK(!tree_checkpoint_busy(t));
    loop_undefer(t->env.loop, &m->task);
    loop_timer_cancel(t->env.loop, &m->timer);
    for (size_t i = 0; i < m->garbage_count; i++) {
        mem_free(m->garbage[i].piece); /* no checkpoint lists them: the next open knows */
    }
    mem_free(m);
    t->checkpointer = NULL;
}
