/*
 * tree/check_order.c -- of one key all messages above are newer than those below, and of one slot
 * those of a newer run.
 *
 * The messages for the slot that the walk goes through are in memory for each node on the way, so
 * the deepest of them can be held against all above. Records of leaves have no numbers any more.
 * Deleted ranges count for every key in them.
 */
#include "tree/check_priv.h"

#include "base/mem.h"

#include <inttypes.h>

void tree_check_order_fini(struct check_frame *f)
{
    for (size_t i = 0; i < f->run_count; i++) {
        mem_free(f->run[i].raw);
    }
    mem_freep(&f->run);
    f->run_count = f->run_capacity = 0;
}

/* ---- loading ---- */

static bool order_wants(const struct tree_partition *p, uint16_t slot)
{
    bool messages = p->kind == TREE_PARTITION_RUN || p->kind == TREE_PARTITION_RANGES;
    return messages && (p->slot == slot || p->slot == TREE_SLOT_ALL);
}

/* A damaged one was told by those who look at partitions. */
static int order_load_part(struct check *c, struct check_frame *f, uint32_t i)
{
    const struct tree_look_node *n = &f->node;
    const struct tree_partition *p = &n->header.partition[i];
    struct check_run r = {.run = p->run, .is_ranges = p->kind == TREE_PARTITION_RANGES};
    int rc = mem_grow(&f->run, &f->run_capacity, f->run_count + 1, sizeof *f->run);
    rc = rc < 0 ? rc : tree_look_part(&c->look, n, i, &r.raw);
    if (rc == 0) {
        rc = r.is_ranges ? tree_pivots_open_ranges(&n->pivots, &n->header, i, r.raw, &r.ranges)
                         : tree_pivots_open_block(&n->pivots, &n->header, i, r.raw, &r.block);
    }
    if (rc == 0) {
        f->run[f->run_count++] = r;
    } else {
        mem_free(r.raw);
    }
    return tree_check_fatal(rc) ? rc : 0;
}

static void order_skip(struct check *c, const struct tree_look_node *n, uint64_t bytes)
{
    struct tree_finding f = tree_check_finding(c, TREE_FINDING_WARNING, "order");
    struct err e = {0};
    tree_finding_text(e.text, "%" PRIu64 " bytes for one child: not compared", bytes);
    f.block = n->header.block;
    f.text = e.text;
    tree_check_tell(c, &f);
}

static int order_load(struct check *c, struct check_frame *f, uint16_t slot)
{
    const struct tree_node_header *h = &f->node.header;
    uint64_t bytes = 0;
    tree_check_order_fini(f);
    for (uint32_t i = 0; i < h->partition_count; i++) {
        bytes += order_wants(&h->partition[i], slot) ? h->partition[i].raw_len : 0;
    }
    if (bytes > CHECK_SLOT_BYTES) {
        order_skip(c, &f->node, bytes);
        return 0;
    }
    int rc = 0;
    for (uint32_t i = 0; i < h->partition_count && rc == 0; i++) {
        rc = order_wants(&h->partition[i], slot) ? order_load_part(c, f, i) : 0;
    }
    return rc;
}

/* ---- comparing ---- */

/* The least number that `r` has for a key; none: UINT64_MAX. */
static uint64_t order_least(const struct check_run *r, struct kv_slice key)
{
    uint64_t least = UINT64_MAX;
    if (r->is_ranges) {
        for (uint32_t i = tree_ranges_lower(&r->ranges, key); i < r->ranges.count; i++) {
            struct tree_ranges_item range = tree_ranges_get(&r->ranges, i);
            if (kv_slice_compare(range.low, key) > 0) {
                break;
            }
            least = range.msn; /* the same range again has a lower one */
        }
        return least;
    }
    bool equal = false;
    (void)tree_block_lower(&r->block, key, &equal);
    if (equal) {
        struct tree_block_entry e;
        tree_block_get(&r->block, tree_block_upper(&r->block, key) - 1, &e);
        least = e.msn;
    }
    return least;
}

/* How many keys of `newer` have a number that is not above `msn` in a range. */
static uint64_t order_wrong_in(const struct check_run *newer, const struct tree_ranges_item *range)
{
    uint64_t wrong = 0;
    if (newer->is_ranges) {
        uint32_t i = tree_ranges_lower(&newer->ranges, range->low);
        if (i < newer->ranges.count) {
            struct tree_ranges_item other = tree_ranges_get(&newer->ranges, i);
            bool meets = kv_slice_compare(other.low, range->high) < 0;
            wrong += meets && other.msn <= range->msn ? 1 : 0;
        }
        return wrong;
    }
    struct tree_block_iter it;
    bool equal = false;
    tree_block_iter_init(&it, &newer->block);
    bool there = tree_block_iter_seek(&it, tree_block_lower(&newer->block, range->low, &equal));
    for (; there && kv_slice_compare(it.entry.key, range->high) < 0;
         there = tree_block_iter_next(&it)) {
        wrong += it.entry.msn <= range->msn ? 1 : 0;
    }
    return wrong;
}

/* How many messages of `older` are not older than those of `newer` for the same key. */
static uint64_t order_wrong(const struct check_run *newer, const struct check_run *older)
{
    uint64_t wrong = 0;
    if (older->is_ranges) {
        for (uint32_t i = 0; i < older->ranges.count; i++) {
            struct tree_ranges_item range = tree_ranges_get(&older->ranges, i);
            wrong += order_wrong_in(newer, &range);
        }
        return wrong;
    }
    struct tree_block_iter it;
    tree_block_iter_init(&it, &older->block);
    for (bool there = tree_block_iter_seek(&it, 0); there; there = tree_block_iter_next(&it)) {
        wrong += order_least(newer, it.entry.key) <= it.entry.msn ? 1 : 0;
    }
    return wrong;
}

static void order_tell(struct check *c, const struct check_frame *f,
                       const struct check_frame *above, uint64_t wrong)
{
    struct tree_finding finding = tree_check_finding(c, TREE_FINDING_DAMAGE, "order");
    struct tree_pivots_bounds bounds;
    struct err e = {0};
    tree_finding_text(e.text, "%" PRIu64 " messages are newer than those above in block %" PRIu64,
                      wrong, above->node.header.block);
    tree_pivots_bounds(&f->node.pivots, (uint16_t)(f->next - 1), &bounds);
    finding.block = f->node.header.block;
    finding.text = e.text;
    finding.advice = c->advice;
    finding.ranged = true;
    finding.low = bounds.low;
    finding.high = bounds.high;
    finding.records = wrong;
    tree_check_tell(c, &finding);
}

static void order_compare(struct check *c, const struct check_frame *f,
                          const struct check_frame *above)
{
    uint64_t wrong = 0;
    for (size_t i = 0; i < f->run_count; i++) {
        for (size_t j = 0; j < above->run_count; j++) {
            bool newer = f != above || above->run[j].run > f->run[i].run;
            wrong += newer ? order_wrong(&above->run[j], &f->run[i]) : 0;
        }
    }
    if (wrong > 0) {
        order_tell(c, f, above, wrong);
    }
}

int tree_check_order(struct check *c, uint16_t slot)
{
    struct check_frame *f = &c->frame[c->depth - 1];
    int rc = order_load(c, f, slot);
    for (unsigned i = 0; i < c->depth && rc == 0; i++) {
        order_compare(c, f, &c->frame[i]);
    }
    return rc;
}
