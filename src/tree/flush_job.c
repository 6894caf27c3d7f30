/*
 * tree/flush_job.c -- what gather and run of a flush have in common: where messages come from, what
 * was taken of them, and parts that are made.
 */
#include "tree/flush_priv.h"

#include <string.h>

/* ---- the messages ---- */

/* The runs of the parent for the children, newest first; those of the second child are of other
 * keys. */
static int job_buffer(struct flush_job *j)
{
    struct tree_flush *f = j->f;
    const struct tree_node_at *parent = &f->path[f->depth - 1];
    uint8_t number[2][256];
    unsigned count[2] = {0};
    for (unsigned c = 0; c < f->child_count; c++) {
        uint16_t slot = (uint16_t)(f->slot[f->depth - 1] + c);
        count[c] = tree_head_runs(parent->head, slot, number[c]);
    }
    if (count[0] + count[1] > TREE_SOURCES_MAX) {
        return -ERR_corrupt; /* more runs than any writer makes */
    }
    j->run = mem_calloc(count[0] + count[1] + 1u, sizeof j->run[0]);
    if (j->run == NULL) {
        return -ENOMEM;
    }
    for (unsigned c = 0; c < f->child_count; c++) {
        uint16_t slot = (uint16_t)(f->slot[f->depth - 1] + c);
        for (unsigned i = 0; i < count[c]; i++) {
            struct tree_node_source *s = &j->run[j->source_count];
            tree_node_source_run(s, &j->from, parent, slot, number[c][i]);
            j->source[j->source_count++] = &s->base;
        }
    }
    return 0;
}

static uint64_t job_room(uint64_t most, uint64_t used, uint64_t least)
{
    return base_max(most > used ? most - used : 0, least);
}

/* So much is taken that what is made stays within the limits of a node (16 MiB): a buffer takes
 * until it is twice as large as it should be, or from above, where room has to be made, three
 * times. */
static void job_set_limit(struct flush_job *j)
{
    const struct tree_flush *f = j->f;
    const struct tree_shape *s = f->shape;
    uint64_t take = f->take_bytes == 0 ? TREE_FLUSH_TAKE_MAX : f->take_bytes;
    bool leaf = f->child_count == 0 || f->child[0].head->header.level == 0;
    j->limit = UINT64_MAX;
    if (leaf) {
        j->limit = j->buffered ? UINT64_MAX
                               : base_min(take, TREE_FLUSH_LEAVES_MAX / 2 * (uint64_t)s->leaf_raw);
    } else if (f->child_count == 1) {
        uint64_t raw = tree_head_raw_bytes(f->child[0].head), least = s->internal_raw / 4;
        j->limit = j->buffered
                       ? job_room(3 * (uint64_t)s->internal_raw, raw, least)
                       : base_min(take, job_room(2 * (uint64_t)s->internal_raw, raw, least));
    }
}

int tree_flush_job_init(struct flush_job *j, struct tree_flush *f, bool gather)
{
    memset(j, 0, offsetof(struct flush_job, made));
    j->made_count = 0;
    j->rest = NULL;
    j->f = f;
    j->from = (struct tree_need_from){.kv = f->from.kv, .need = gather ? f->from.need : NULL};
    j->buffered = f->source_count == 0;
    mem_arena_init(&j->arena, PTRDIFF_MAX / 2);
    tree_block_builder_init(&j->builder[0], TREE_BLOCK_LEAF);
    tree_block_builder_init(&j->builder[1], TREE_BLOCK_LEAF);
    CHECK(f->child_count <= 2 && f->depth < TREE_HEIGHT_MAX && f->source_count <= TREE_SOURCES_MAX);
    if (f->child_count > 0) {
        j->low = f->child[0].head->pivots.low;
        j->high = f->child[f->child_count - 1].head->pivots.high;
    }
    j->start = j->low;
    if (!j->buffered) {
        j->start = kv_slice_compare(f->drain_from, j->low) > 0 ? f->drain_from : j->low;
        j->source_count = f->source_count;
        memcpy(j->source, f->source, f->source_count * sizeof(struct tree_source *));
    } else if (f->depth > 0) {
        int rc = job_buffer(j);
        if (rc < 0) {
            return rc;
        }
    }
    for (size_t i = 0; i < j->source_count; i++) {
        j->has_ranges = j->has_ranges || j->source[i]->has_ranges;
    }
    job_set_limit(j);
    return 0;
}

void tree_flush_job_fini(struct flush_job *j)
{
    for (size_t i = 0; j->run != NULL && i < j->source_count; i++) {
        tree_node_source_fini(&j->run[i]);
    }
    if (j->rest != NULL) {
        tree_flush_plan_fini(j->rest);
        mem_free(j->rest);
    }
    mem_free(j->run);
    mem_free(j->print);
    tree_block_builder_fini(&j->builder[0]);
    tree_block_builder_fini(&j->builder[1]);
    mem_arena_fini(&j->arena);
}

int tree_flush_messages(struct flush_job *j, const struct flush_range *r,
                        const struct flush_more *m, struct tree_compact **ret)
{
    struct tree_source *source[TREE_SOURCES_MAX];
    struct tree_compact_options opt = {.sources = source, .low = r->low, .high = r->high};
    if (!m->only) {
        memcpy(source, j->source, j->source_count * sizeof(struct tree_source *));
        opt.count = j->source_count;
    }
    if (opt.count + m->count > TREE_SOURCES_MAX) {
        return -ERR_corrupt;
    }
    for (size_t i = 0; i < m->count; i++) {
        source[opt.count++] = &m->run[i].base;
    }
    return tree_compact_new(&opt, ret);
}

/* ---- what was taken ---- */

int tree_flush_dup(struct flush_job *j, struct kv_slice key, struct kv_slice *ret)
{
    const void *at = key.len == 0 ? "" : mem_arena_dup(&j->arena, key.at, key.len);
    if (at == NULL) {
        return -ENOMEM;
    }
    *ret = kv_slice_of(at, key.len);
    return 0;
}

/* The least key behind another. False: there is none. */
static bool key_behind(struct kv_slice key, uint8_t out[TREE_KEY_MAX], struct kv_slice *ret)
{
    size_t len = key.len;
    memcpy(out, key.at, len);
    if (len < TREE_KEY_MAX) {
        out[len++] = 0;
    } else {
        while (len > 0 && out[len - 1] == 0xff) {
            len--;
        }
        if (len == 0) {
            return false;
        }
        out[len - 1]++;
    }
    *ret = kv_slice_of(out, len);
    return true;
}

void tree_flush_saw(struct flush_job *j, uint64_t msn)
{
    j->msn_min = j->msn_min == 0 ? msn : base_min(j->msn_min, msn);
    j->msn_max = base_max(j->msn_max, msn);
}

bool tree_flush_took(struct flush_job *j, struct kv_slice key, uint64_t bytes)
{
    j->taken_bytes += bytes;
    j->taken_count++;
    if (j->taken_bytes >= j->limit && !j->stopped) {
        j->stopped = key_behind(key, j->end_key, &j->end);
    }
    return j->stopped;
}

uint64_t tree_flush_message_bytes(struct kv_slice key, const struct tree_message *m, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += key.len + m[i].body.len + TREE_BLOCK_ENTRY_BYTES + 3; /* type and number */
    }
    return bytes;
}

void tree_flush_stop_at(struct flush_job *j, struct kv_slice key)
{
    CHECK(!j->stopped && key.len > 0 && key.len <= TREE_KEY_MAX);
    memcpy(j->end_key, key.at, key.len);
    j->end = kv_slice_of(j->end_key, key.len);
    j->stopped = true;
}

bool tree_flush_covers(const struct tree_ranges_item *range, size_t count,
                       const struct flush_range *all)
{
    struct kv_slice at = all->low.len > 0 ? all->low : kv_slice_of("\0", 1); /* the least key */
    if (all->high.len == 0) {
        return false; /* a deleted range has an end */
    }
    for (size_t i = 0; i < count; i++) {
        if (kv_slice_compare(range[i].low, at) > 0) {
            return false;
        }
        at = kv_slice_compare(at, range[i].high) < 0 ? range[i].high : at;
        if (kv_slice_compare(at, all->high) >= 0) {
            return true;
        }
    }
    return false;
}

/* ---- parts ---- */

int tree_flush_part(struct flush_job *j, const struct flush_bytes *b, struct tree_part **ret)
{
    struct tree_part_options opt = {.cache = j->f->cache,
                                    .kind = b->kind,
                                    .raw_len = (uint32_t)b->len,
                                    .entries = b->entries,
                                    .bytes = b->at};
    tree_cache_force(opt.cache, b->len);
    int rc = tree_part_new(&opt, ret);
    if (rc < 0) {
        tree_cache_give(opt.cache, b->len);
        tree_cache_put(opt.cache, b->at, b->len);
        return rc;
    }
    j->moved_bytes += b->len;
    return 0;
}

int tree_flush_seal(struct flush_job *j, struct tree_block_builder *b, struct tree_part **ret)
{
    struct flush_bytes bytes = {.entries = b->count,
                                .kind = b->kind == TREE_BLOCK_LEAF ? TREE_PARTITION_LEAF
                                                                   : TREE_PARTITION_RUN};
    size_t size = tree_block_builder_len(b);
    bytes.at = tree_cache_get(j->f->cache, size);
    if (bytes.at == NULL) {
        return -ENOMEM;
    }
    bytes.len = tree_block_builder_finish(b, bytes.at);
    CHECK(bytes.len == size);
    tree_block_builder_clear(b);
    return tree_flush_part(j, &bytes, ret);
}

int tree_flush_clone(struct flush_job *j, struct tree_part *p, struct tree_part **ret)
{
    struct flush_bytes bytes = {.len = p->raw_len, .entries = p->entries, .kind = p->kind};
    bytes.at = tree_cache_get(j->f->cache, p->raw_len);
    if (bytes.at == NULL) {
        return -ENOMEM;
    }
    bool there = tree_part_pin(p);
    CHECK(there); /* gathered */
    memcpy(bytes.at, p->bytes, p->raw_len);
    tree_part_unpin(p);
    return tree_flush_part(j, &bytes, ret);
}

/* ---- nodes ---- */

uint64_t tree_flush_spare(struct flush_job *j)
{
    struct tree_flush *f = j->f;
    CHECK(f->spare_used < f->spare_count);
    return f->spare[f->spare_used++];
}

void tree_flush_out(struct flush_job *j, uint64_t block, struct tree_head *head)
{
    struct tree_flush *f = j->f;
    CHECK(f->out_count < TREE_FLUSH_OUT_MAX && head->header.block == block);
    f->out[f->out_count++] = (struct tree_flush_out){.block = block, .head = head};
}
