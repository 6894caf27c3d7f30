/*
 * tree/flush_plan.c -- internal nodes that are to be made: slots with their children, each with
 * partitions old and new, until they are cut into heads.
 */
#include "tree/flush_filter_priv.h"

#include <string.h>

void tree_flush_plan_fini(struct flush_plan *p)
{
    for (size_t i = 0; i < p->part_count; i++) {
        tree_part_unref(p->part[i].part);
    }
    mem_free(p->part);
    mem_free(p->slot);
    *p = (struct flush_plan){0};
}

int tree_flush_plan_slot(struct flush_job *j, struct flush_plan *p, struct kv_slice low,
                         uint64_t child)
{
    int rc = mem_grow(&p->slot, &p->slot_capacity, p->slot_count + 1, sizeof p->slot[0]);
    if (rc == 0) {
        p->slot[p->slot_count++] = (struct flush_slot){
            .low = low, .child = child, .first = p->part_count, .print_first = j->print_count};
    }
    return rc;
}

int tree_flush_plan_part(struct flush_plan *p, const struct flush_part *part)
{
    int rc = mem_grow(&p->part, &p->part_capacity, p->part_count + 1, sizeof p->part[0]);
    if (rc < 0) {
        tree_part_unref(part->part);
        return rc;
    }
    p->part[p->part_count++] = *part;
    return 0;
}

int tree_flush_plan_keep(struct flush_plan *p, const struct tree_node_at *node, uint16_t slot)
{
    const struct tree_node_header *n = &node->head->header;
    int rc = 0;
    for (unsigned kind = TREE_PARTITION_RUN; kind <= TREE_PARTITION_RANGES; kind++) {
        uint32_t i = tree_node_find(n, (enum tree_partition_kind)kind, slot, 0);
        uint32_t end = tree_node_find(n, (enum tree_partition_kind)kind, slot + 1, 0);
        for (; i < end && rc == 0; i++) {
            struct flush_part part = {
                .kind = (uint8_t)kind, .run = n->partition[i].run, .origin = node->block};
            if (n->partition[i].flags == TREE_PARTITION_MORE) {
                part.cut = tree_pivots_cut(&node->head->pivots, n->partition[i].cut);
            }
            part.part = tree_part_ref(node->head->part[i]);
            rc = tree_flush_plan_part(p, &part);
        }
    }
    return rc;
}

void tree_flush_plan_msn(struct flush_plan *p, uint64_t msn_min, uint64_t msn_max)
{
    if (msn_min > 0) {
        p->msn_min = p->msn_min > 0 ? base_min(p->msn_min, msn_min) : msn_min;
    }
    p->msn_max = base_max(p->msn_max, msn_max);
}

/* ---- heads ---- */

/* Slots [first, end) in a node. */
struct plan_cut {
    const struct flush_plan *plan;
    size_t first, end;
    uint64_t block;
};

static size_t plan_part_end(const struct flush_plan *p, size_t slot)
{
    return slot + 1 < p->slot_count ? p->slot[slot + 1].first : p->part_count;
}

static int plan_add_part(struct flush_job *j, const struct plan_cut *cut,
                         const struct flush_part *p, uint16_t slot, struct tree_head_builder *b)
{
    struct tree_head_add add = {.kind = p->kind, .run = p->run, .slot = slot, .cut = p->cut};
    struct tree_part *part = NULL;
    int rc = 0;
    if (cut->plan->clone && p->origin != 0 && p->origin != cut->block) {
        rc = tree_flush_clone(j, p->part, &part);
    } else {
        part = tree_part_ref(p->part);
    }
    if (rc == 0) {
        tree_head_builder_add(b, part, &add);
        tree_part_unref(part);
    }
    return rc;
}

/* Returns how many there are of the kind. */
static int plan_add_kind(struct flush_job *j, const struct plan_cut *cut, uint8_t kind,
                         struct tree_head_builder *b, size_t *ret_count)
{
    const struct flush_plan *p = cut->plan;
    size_t count = 0;
    int rc = 0;
    for (size_t s = cut->first; s < cut->end; s++) {
        for (size_t i = p->slot[s].first; i < plan_part_end(p, s) && rc == 0; i++) {
            if (p->part[i].kind == kind) {
                rc = plan_add_part(j, cut, &p->part[i], (uint16_t)(s - cut->first), b);
                count++;
            }
        }
    }
    *ret_count = count;
    return rc;
}

static int plan_filter(struct flush_job *j, const struct plan_cut *cut, uint8_t **ret,
                       size_t *ret_len)
{
    const struct flush_plan *p = cut->plan;
    bool last = cut->end == p->slot_count;
    struct flush_filter x = {.kind = TREE_FILTER_RUNS,
                             .first = p->slot[cut->first].print_first,
                             .end = last ? j->print_count : p->slot[cut->end].print_first};
    if (p->filter != NULL) {
        x.base = p->filter->filter_bytes;
        x.base_len = p->filter->filter_len;
    }
    return tree_flush_filter(j, &x, ret, ret_len);
}

static int plan_finish(const struct plan_cut *cut, struct tree_head_builder *b,
                       struct flush_bytes *filter, struct tree_head **ret)
{
    const struct flush_plan *p = cut->plan;
    size_t count = cut->end - cut->first;
    struct tree_pivots_source s = {.low = cut->first == 0 ? p->low : p->slot[cut->first].low,
                                   .high =
                                       cut->end == p->slot_count ? p->high : p->slot[cut->end].low,
                                   .slots = (uint16_t)count};
    struct kv_slice *pivot = mem_calloc(count, sizeof *pivot);
    uint64_t *child = mem_calloc(count, sizeof *child);
    int rc = pivot == NULL || child == NULL ? -ENOMEM : 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        child[i] = p->slot[cut->first + i].child;
        if (i > 0) {
            pivot[i - 1] = p->slot[cut->first + i].low;
        }
    }
    if (rc == 0) {
        s.pivot = pivot;
        s.child = child;
        rc = tree_head_builder_finish(b, &s, filter->at, filter->len, ret);
        filter->at = NULL; /* the head's, or freed */
    }
    mem_free(pivot);
    mem_free(child);
    return rc;
}

static int plan_make(struct flush_job *j, const struct plan_cut *cut)
{
    const struct flush_plan *p = cut->plan;
    struct tree_head_builder b;
    struct tree_head *head = NULL;
    struct flush_bytes filter = {0};
    size_t runs = 0, ranges = 0;
    tree_head_builder_init(&b, j->f->cache);
    b.header.block = cut->block;
    b.header.level = p->level;
    b.header.codec = j->f->shape->codec;
    memcpy(b.header.file_id, j->f->shape->file_id, sizeof b.header.file_id);
    b.header.msn_min = p->msn_min;
    b.header.msn_max = p->msn_max;
    int rc = plan_add_kind(j, cut, TREE_PARTITION_RUN, &b, &runs);
    rc = rc == 0 ? plan_add_kind(j, cut, TREE_PARTITION_RANGES, &b, &ranges) : rc;
    if (rc == 0 && p->filtered && runs > 0) {
        rc = plan_filter(j, cut, &filter.at, &filter.len);
    }
    rc = rc == 0 ? plan_finish(cut, &b, &filter, &head) : rc;
    tree_cache_put(j->f->cache, filter.at, filter.len);
    tree_head_builder_fini(&b);
    if (rc == 0) {
        tree_flush_out(j, cut->block, head);
        j->made[j->made_count++] =
            (struct flush_made){.block = cut->block, .head = head, .low = head->pivots.low};
    }
    return rc;
}

int tree_flush_plan_make(struct flush_job *j, const struct flush_plan *p, size_t count,
                         const struct flush_numbers *n)
{
    int rc = 0;
    CHECK(count > 0 && count <= p->slot_count && p->slot_count < TREE_SLOT_ALL);
    j->made_count = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        struct plan_cut cut = {.plan = p,
                               .first = p->slot_count * i / count,
                               .end = p->slot_count * (i + 1) / count,
                               .block = i < n->count ? n->block[i] : tree_flush_spare(j)};
        rc = plan_make(j, &cut);
    }
    return rc;
}
