/*
 * tree/tree_open.c -- making a tree, opening one, and its end.
 *
 * What is loaded at once: the table of blocks, and the memtables that the checkpoint kept. Nodes
 * are read when somebody asks for them. If memtables or what says how far they were drained are
 * damaged, the checkpoint before is used, as tree/file.h does with a damaged table.
 */
#include "tree/tree_checkpoint_priv.h"
#include "tree/tree_disk_priv.h"

#include "base/mem.h"
#include "wire/wire.h"

#include <inttypes.h>
#include <string.h>

#define OPEN_CACHE_BYTES (UINT64_C(256) << 20)
#define OPEN_SNAPSHOTS_MAX 4096u
#define OPEN_THREADS 4u
#define OPEN_MEMTABLE_SHARE 12u
#define OPEN_JOBS_MAX 1024u

/* ---- making one ---- */

static struct tree_shape open_shape(const struct tree_options *opt)
{
    struct tree_shape standard = TREE_SHAPE_DEFAULT;
    return opt->shape.leaf_raw == 0 ? standard : opt->shape;
}

static struct tree_file_options open_file_options(const struct tree_options *opt)
{
    return (struct tree_file_options){.env = opt->env,
                                      .path = opt->path,
                                      .read_only = opt->read_only,
                                      .buffered = opt->buffered,
                                      .ahead_bytes = opt->ahead_bytes};
}

int tree_create(const struct tree_options *opt, struct err *e)
{
    struct tree_shape shape = open_shape(opt);
    struct tree_file_options file = open_file_options(opt);
    struct tree_super first = {.fanout = shape.fanout,
                               .leaf_raw = shape.leaf_raw,
                               .basement_raw = shape.basement_raw,
                               .internal_raw = shape.internal_raw,
                               .codec = shape.codec,
                               .app_len = TREE_OWNER_BYTES};
    memcpy(first.app, opt->owner, TREE_OWNER_BYTES);
    return tree_file_create(&file, &first, e);
}

/* ---- what a checkpoint says ---- */

/* One attempt: the newest checkpoint or the one before. */
struct tree_opening {
    struct tree *t;
    struct tree_file_found found;
    struct tree_extra extra;
    struct tree_state *state; /* an active memtable, and those of the checkpoint */
    struct err *err;
};

static int opening_wrong(const struct tree_opening *o, int rc, const char *what)
{
    return err_set(o->err, rc, "tree '%s', checkpoint %" PRIu64 ": %s", o->t->path,
                   o->found.super.checkpoint, what);
}

static int opening_extra(struct tree_opening *o)
{
    const struct tree_super *s = &o->found.super;
    int rc = s->drops.len == 0 ? 0 : tree_extra_decode(o->found.drops, s->drops.len, &o->extra);
    if (rc < 0) {
        return opening_wrong(o, rc, "list of memtables and of what is dropped");
    }
    for (unsigned i = 0; i < o->extra.table_count; i++) {
        if (o->extra.table[i].msn_max > s->max_msn) {
            return opening_wrong(o, -ERR_corrupt, "a memtable is newer than the checkpoint");
        }
    }
    return 0;
}

static uint64_t opening_drop(const struct tree_opening *o, size_t i)
{
    return wire_load_u64(o->extra.drops + i * sizeof(uint64_t));
}

/* Blocks that it names are there. */
static int opening_blocks(const struct tree_opening *o)
{
    const struct tree_super *s = &o->found.super;
    struct tree_file_place place;
    if ((s->root_block == 0) != (s->height == 0) || s->height > TREE_HEIGHT_MAX) {
        return opening_wrong(o, -ERR_corrupt, "a root and no height, or the other way round");
    }
    if (s->root_block != 0 &&
        (tree_file_find(o->t->file, s->root_block, &place) < 0 || place.level != s->height - 1)) {
        return opening_wrong(o, -ERR_corrupt, "the root is not of its level");
    }
    for (size_t i = 0; i < o->extra.drop_count; i++) {
        if (tree_file_find(o->t->file, opening_drop(o, i), &place) < 0) {
            return opening_wrong(o, -ERR_corrupt, "a block that is dropped is not there");
        }
    }
    return 0;
}

/* ---- memtables ---- */

/* How many of the pieces from `first` on belong to it, which are its first, second, ... */
static int opening_pieces(const struct tree_opening *o, uint32_t number, size_t first,
                          size_t *ret_count)
{
    size_t count = 0;
    while (first + count < o->found.piece_count) {
        struct tree_keep_owner owner;
        int rc = tree_keep_owner(&o->found.piece[first + count], &owner);
        if (rc < 0) {
            return opening_wrong(o, rc, "a piece of no memtable");
        }
        if (owner.memtable_number != number) {
            break;
        }
        if (owner.piece_number != count) {
            return opening_wrong(o, -ERR_corrupt, "a piece of a memtable is missing");
        }
        count++;
    }
    *ret_count = count;
    return 0;
}

/* A table of the state; takes its place at the end. */
static int opening_add(struct tree_opening *o, uint64_t base_msn, uint32_t number,
                       struct tree_table **ret)
{
    struct tree *t = o->t;
    struct tree_memtable_options opt = {.budget = tree_cache_budget(t->cache),
                                        .slab = tree_cache_slab(t->cache),
                                        .base_msn = base_msn,
                                        .limit_bytes = t->opt.memtable_bytes,
                                        .block_bytes = tree_memtable_block(t),
                                        .force = true}; /* the cache may have been larger then */
    struct tree_memtable *m = NULL;
    int rc = tree_memtable_new(&opt, &m);
    if (rc < 0) {
        return rc;
    }
    t->next_table = number;
    struct tree_table *table = tree_table_new(t, m);
    if (table == NULL) {
        return -ENOMEM;
    }
    o->state->tables[o->state->count++] = table;
    *ret = table;
    return 0;
}

static int opening_load(struct tree_opening *o, const struct tree_extra_table *x, size_t first,
                        size_t count)
{
    const struct tree_btt_piece *piece = o->found.piece + first;
    struct tree_table *table = NULL;
    int rc = opening_add(o, x->msn_min - 1, x->number, &table);
    if (rc < 0) {
        return rc;
    }
    table->piece = mem_dup(piece, count * sizeof *piece);
    if (table->piece == NULL) {
        return -ENOMEM;
    }
    table->piece_count = count;
    table->kept = true;
    o->state->draining += x->draining;
    rc = tree_keep_load(o->t->file, o->found.super.file_id, piece, count, table->memtable, o->err);
    if (rc < 0) {
        return err_prefix(o->err, rc, "tree '%s', checkpoint %" PRIu64 ": memtable %" PRIu32,
                          o->t->path, o->found.super.checkpoint, x->number);
    }
    tree_memtable_freeze(table->memtable);
    struct tree_memtable_state is = tree_memtable_state(table->memtable);
    if (is.max_msn == 0 || is.min_msn < x->msn_min || is.max_msn > x->msn_max) {
        return opening_wrong(o, -ERR_corrupt, "a memtable has other messages than it should");
    }
    return 0;
}

/* Of a memtable that was being drained nothing may be left. */
static int opening_tables(struct tree_opening *o)
{
    size_t first = 0;
    for (unsigned i = 0; i < o->extra.table_count; i++) {
        const struct tree_extra_table *x = &o->extra.table[i];
        size_t count = 0;
        int rc = opening_pieces(o, x->number, first, &count);
        if (rc == 0 && count == 0 && x->draining == 0) {
            rc = opening_wrong(o, -ERR_corrupt, "a memtable has no pieces");
        }
        if (rc == 0 && count > 0) {
            rc = opening_load(o, x, first, count);
        }
        if (rc < 0) {
            return rc;
        }
        first += count;
    }
    if (first != o->found.piece_count) {
        return opening_wrong(o, -ERR_corrupt, "pieces of a memtable that it does not know");
    }
    return 0;
}

static int opening_state(struct tree_opening *o)
{
    const struct tree_super *super = &o->found.super;
    uint32_t newest = o->extra.table_count > 0 ? o->extra.table[0].number : 0;
    struct tree_table *active = NULL;
    struct tree_state *s = mem_zalloc(sizeof *s);
    if (s == NULL) {
        return -ENOMEM;
    }
    atomic_init(&s->refs, 1);
    s->version = super->tree_version;
    s->root = super->root_block;
    s->height = (uint8_t)super->height;
    o->state = s;
    int rc = opening_add(o, super->max_msn, newest + 1, &active);
    rc = rc < 0 ? rc : opening_tables(o);
    if (active != NULL) {
        tree_memtable_bound(active->memtable);
    }
    o->t->next_table = newest + 2;
    if (rc == 0 && s->draining > 0 && o->extra.drained.len > 0) {
        memcpy(s->drained, o->extra.drained.at, o->extra.drained.len);
        s->drained_len = o->extra.drained.len;
    }
    return rc;
}

/* ---- an attempt ---- */

static void opening_fini(struct tree_opening *o)
{
    o->state = tree_state_unref(o->state);
    o->t->file = tree_file_free(o->t->file);
    tree_file_found_fini(&o->found);
}

/* The file is open, and everything that the checkpoint says of it makes sense; or nothing is. */
static int opening_try(struct tree_opening *o, bool older)
{
    struct tree *t = o->t;
    struct tree_file_options file = open_file_options(&t->opt);
    file.older = older;
    int rc = tree_file_open(&file, &t->file, &o->found, o->err);
    if (rc < 0) {
        return rc;
    }
    const struct tree_super *s = &o->found.super;
    if (s->app_len != TREE_OWNER_BYTES || memcmp(s->app, t->owner, TREE_OWNER_BYTES) != 0) {
        rc = err_set(o->err, -ERR_wrong_cluster, "tree '%s'", t->path);
    }
    rc = rc < 0 ? rc : opening_extra(o);
    rc = rc < 0 ? rc : opening_blocks(o);
    rc = rc < 0 ? rc : opening_state(o);
    if (rc < 0) {
        o->extra = (struct tree_extra){0};
        uint64_t before = o->found.older;
        opening_fini(o);
        o->found.older = before;
    }
    return rc;
}

/* The newest, or the one before when what lies behind its table is damaged. */
static int opening_run(struct tree_opening *o, struct tree_found *found)
{
    struct err *err = o->err, note = {0};
    o->err = &note;
    int rc = opening_try(o, false);
    if (rc < 0 && rc != -ERR_bad_version && err_is(rc, EIO) && o->found.older != 0) {
        o->err = err;
        o->found = (struct tree_file_found){0};
        rc = opening_try(o, true);
        if (rc < 0) {
            return err == NULL ? rc : err_prefix(err, rc, "%s; before", note.text);
        }
        o->found.note = note;
        o->found.fell_back = true;
    } else if (rc < 0) {
        return err_set(err, rc, "%s", err_message(&note, rc));
    }
    found->index = o->found.super.applied_index;
    found->term = o->found.super.applied_term;
    found->older = o->found.older_index;
    found->fell_back = o->found.fell_back;
    found->note = o->found.note;
    return 0;
}

/* ---- all that works on it ---- */

static int open_executor(struct tree *t)
{
    struct loop *l = t->env.loop;
    struct loop_executor_options x = {.name = "tree",
                                      .max_threads = OPEN_THREADS,
                                      .max_queued = OPEN_JOBS_MAX,
                                      .simulated = loop_is_simulated(l) ? l : NULL};
    t->executor = t->opt.executor;
    if (t->executor != NULL) {
        return 0;
    }
    int rc = loop_executor_new(&x, &t->own_executor);
    t->executor = t->own_executor;
    return rc;
}

static void open_idle(void *arg)
{
    tree_stop_check(arg);
}

static int open_workers(struct tree *t, const struct tree_super *found)
{
    struct tree_nodes_options nodes = {.file = t->file,
                                       .cache = t->cache,
                                       .logical_bytes = found->logical_bytes,
                                       .key_count = found->key_count};
    int rc = tree_nodes_new(&nodes, &t->nodes);
    rc = rc < 0 ? rc : open_executor(t);
    if (rc < 0) {
        return rc;
    }
    struct tree_fetcher_options fetcher = {.env = &t->env,
                                           .file = t->file,
                                           .nodes = t->nodes,
                                           .cache = t->cache,
                                           .executor = t->executor,
                                           .times = &t->times,
                                           .file_id = t->shape.file_id,
                                           .idle = open_idle,
                                           .idle_arg = t};
    rc = tree_fetcher_new(&fetcher, &t->fetcher);
    if (rc < 0) {
        return rc;
    }
    unsigned cold = t->opt.cold_checkpoints == 0 ? TREE_COLD_DEFAULT : t->opt.cold_checkpoints;
    struct tree_writer_options writer = {.env = &t->env,
                                         .file = t->file,
                                         .nodes = t->nodes,
                                         .cache = t->cache,
                                         .executor = t->executor,
                                         .times = &t->times,
                                         .shape = &t->shape,
                                         .writes_max = t->opt.writes_max,
                                         .serial = t->opt.serial,
                                         .cold_checkpoints = cold == TREE_COLD_NEVER ? 0 : cold};
    return tree_writer_new(&writer, &t->writer);
}

static int open_readers(struct tree *t)
{
    struct tree_snapshots_options snapshots = {.count_max = t->opt.snapshots_max,
                                               .budget_bytes = t->opt.snapshot_bytes,
                                               .published = t->msn};
    int rc = tree_snapshots_new(&snapshots, &t->snapshots);
    rc = rc < 0 ? rc : tree_checkpointer_new(t);
    rc = rc < 0 ? rc : tree_maintain_new(t);
    return rc < 0 ? rc : tree_disk_new(t);
}

/* What the checkpoint has left to be done. */
static int open_drops(struct tree *t, const struct tree_opening *o)
{
    int rc = 0;
    for (size_t i = 0; i < o->extra.drop_count && rc == 0; i++) {
        rc = tree_maintain_add_drop(t, opening_drop(o, i));
    }
    return rc;
}

static void open_options(struct tree *t, const struct tree_options *opt)
{
    struct tree_options *o = &t->opt;
    *o = *opt;
    o->env = &t->env;
    o->path = t->path;
    o->owner = t->owner;
    if (o->cache_bytes == 0) {
        o->cache_bytes = OPEN_CACHE_BYTES;
    }
    /* All memtables together must leave room for what moving them takes. */
    size_t wanted = o->memtable_bytes == 0 ? TREE_MEMTABLE_BYTES : o->memtable_bytes;
    o->memtable_bytes = (size_t)base_min(wanted, o->cache_bytes / OPEN_MEMTABLE_SHARE);
    if (o->snapshot_bytes == 0) {
        /* A group of memtables that leaves while somebody reads is not too much. */
        o->snapshot_bytes = o->cache_bytes / 10 + 2 * (uint64_t)o->memtable_bytes;
    }
    if (o->snapshots_max == 0) {
        o->snapshots_max = OPEN_SNAPSHOTS_MAX;
    }
    t->shape = open_shape(opt);
    o->shape = t->shape;
}

static int open_new(const struct tree_options *opt, struct tree **ret)
{
    struct tree *t = mem_zalloc(sizeof *t);
    if (t == NULL) {
        return -ENOMEM;
    }
    t->env = *opt->env;
    memcpy(t->owner, opt->owner, sizeof t->owner);
    t->path = mem_strdup(opt->path);
    open_options(t, opt);
    struct tree_cache_options cache = {.parent = opt->env->budget,
                                       .limit_bytes = t->opt.cache_bytes,
                                       .seed = loop_random(opt->env->loop)};
    int rc = t->path == NULL ? -ENOMEM : tree_cache_new(&cache, &t->cache);
    if (rc < 0) {
        mem_free(t->path);
        mem_free(t);
        return rc;
    }
    *ret = t;
    return 0;
}

/* ---- its end ---- */

/* Of what is there; the state, if there is one, was ended before or is given here. */
static void open_end(struct tree *t, struct tree_state *state)
{
    if (t->maintain != NULL) {
        tree_maintain_free(t);
    }
    if (t->checkpointer != NULL) {
        tree_checkpointer_free(t);
    }
    tree_disk_free(t);
    tree_state_unref(state);
    t->writer = tree_writer_free(t->writer);
    t->fetcher = tree_fetcher_free(t->fetcher);
    t->nodes = tree_nodes_free(t->nodes);
    t->snapshots = tree_snapshots_free(t->snapshots);
    t->own_executor = loop_executor_free(t->own_executor);
    t->file = tree_file_free(t->file);
    t->cache = tree_cache_free(t->cache);
    mem_free(t->path);
    mem_free(t);
}

void tree_close(struct kv *kv)
{
    struct tree *t = tree_of(kv);
    LOOP_OWNED(t->env.loop);
    CHECK(t->stop == NULL);
    loop_undefer(t->env.loop, &t->stop_task);
    tree_maintain_free(t);
    tree_checkpointer_free(t);
    tree_end(t);
    open_end(t, NULL);
}

/* ---- opening ---- */

static void open_begin(struct tree *t, struct tree_opening *o)
{
    const struct tree_super *s = &o->found.super;
    t->index = s->applied_index;
    t->term = s->applied_term;
    t->msn = s->max_msn;
    memcpy(t->shape.file_id, s->file_id, sizeof t->shape.file_id);
}

int tree_open(const struct tree_options *opt, struct kv **ret, struct tree_found *found,
              struct err *e)
{
    struct tree *t = NULL;
    struct tree_found result = {0};
    int rc = open_new(opt, &t);
    if (rc < 0) {
        return rc;
    }
    struct tree_opening o = {.t = t, .err = e};
    rc = opening_run(&o, &result);
    if (rc == 0) {
        open_begin(t, &o);
        rc = open_workers(t, &o.found.super);
        rc = rc < 0 ? rc : open_readers(t);
        rc = rc < 0 ? rc : open_drops(t, &o);
        tree_file_found_fini(&o.found);
    }
    if (rc < 0) {
        open_end(t, o.state);
        return rc;
    }
    tree_start(t, o.state);
    tree_maintain_kick(t);
    *ret = &t->base;
    *found = result;
    return 0;
}
