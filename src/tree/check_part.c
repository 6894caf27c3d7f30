/* tree/check_part.c -- everything that lies in a node: each partition, and whether the filters know
 * its keys. */
#include "tree/check_priv.h"

#include "base/mem.h"
#include "tree/message.h"

#include <inttypes.h>

#define PART_FILTERS_MAX 8u /* looked at; a node has one */

struct part_filter {
    uint8_t *raw; /* owned */
    struct tree_filter filter;
    uint16_t slot;
};
struct part_check {
    struct check *c;
    const struct tree_look_node *n;
    struct part_filter filter[PART_FILTERS_MAX];
    size_t filter_count;
    /* of the partition that is looked at */
    uint64_t missing; /* keys that a filter does not know */
    uint64_t outside; /* message numbers that the header does not admit */
    uint64_t newer;   /* messages that should be older than the memtables */
    uint64_t bad_bodies;
    struct err bad_body; /* the first one */
};

/* About partition i; `records` of its entries are affected. */
static void part_tell(struct part_check *p, uint32_t i, const char *text, uint64_t records)
{
    const struct tree_look_node *n = p->n;
    const struct tree_partition *part = &n->header.partition[i];
    struct tree_pivots_bounds bounds;
    struct tree_finding f = tree_check_finding(p->c, TREE_FINDING_DAMAGE, "partition");
    tree_look_bounds(n, i, &bounds);
    f.block = n->header.block;
    f.partition = i;
    f.offset = tree_look_part_offset(n, i);
    f.len = part->packed_len;
    f.text = text;
    f.advice = p->c->advice;
    f.ranged = true;
    f.low = bounds.low;
    f.high = bounds.high;
    f.records = records;
    tree_check_tell(p->c, &f);
}

static void part_tell_rc(struct part_check *p, uint32_t i, int rc)
{
    const struct tree_partition *part = &p->n->header.partition[i];
    struct err e = {0};
    err_set(&e, rc, "%s of slot %u, run %u", tree_look_kind(part->kind), part->slot, part->run);
    part_tell(p, i, e.text, part->kind == TREE_PARTITION_FILTER ? 0 : part->entries);
}

/* ---- filters ---- */

static int part_load_filter(struct part_check *p, uint32_t i)
{
    const struct tree_node_header *h = &p->n->header;
    struct part_filter f = {.slot = h->partition[i].slot};
    int rc = tree_look_part(&p->c->look, p->n, i, &f.raw);
    rc = rc < 0 ? rc
                : tree_filter_open(f.raw, h->partition[i].raw_len,
                                   tree_node_seed(h, h->partition[i].extent), &f.filter);
    rc = rc == 0 && f.filter.kind != TREE_FILTER_BLOOM ? -ERR_bad_value : rc;
    if (rc == 0 && p->filter_count < PART_FILTERS_MAX) {
        p->filter[p->filter_count++] = f;
        return 0;
    }
    mem_free(f.raw);
    if (rc < 0 && !tree_check_fatal(rc)) {
        part_tell_rc(p, i, rc);
        rc = 0;
    }
    return rc;
}

static int part_load_filters(struct part_check *p)
{
    const struct tree_node_header *h = &p->n->header;
    int rc = 0;
    for (uint32_t i = 0; i < h->partition_count && rc == 0; i++) {
        if (h->partition[i].kind == TREE_PARTITION_FILTER) {
            rc = part_load_filter(p, i);
            p->c->result->partitions++;
        }
    }
    return rc;
}

static bool part_known(const struct part_check *p, const struct tree_partition *part,
                       struct kv_slice key)
{
    uint64_t print = tree_fingerprint(key);
    const struct tree_look_node *n = p->n;
    uint64_t of_run =
        n->filter.kind == TREE_FILTER_RUNS ? tree_filter_of_run(print, part->run) : print;
    bool known =
        n->filter_bytes == NULL || n->filter_rc < 0 || tree_filter_may_contain(&n->filter, of_run);
    for (size_t i = 0; i < p->filter_count; i++) {
        const struct part_filter *f = &p->filter[i];
        bool mine = f->slot == TREE_SLOT_ALL || f->slot == part->slot;
        known = known && (!mine || tree_filter_may_contain(&f->filter, print));
    }
    return known;
}

/* ---- blocks ---- */

static void part_check_entry(struct part_check *p, const struct tree_partition *part,
                             const struct tree_block_entry *e)
{
    const struct tree_node_header *h = &p->n->header;
    p->missing += part_known(p, part, e->key) ? 0 : 1;
    if (part->kind != TREE_PARTITION_RUN) {
        return;
    }
    p->outside += e->msn < h->msn_min || e->msn > h->msn_max ? 1 : 0;
    p->newer += e->msn >= tree_check_limit(p->c, e->key) ? 1 : 0;
    struct err err = {0};
    if (p->c->opt->level > 3 && tree_message_check(e->type, e->body, &err) < 0) {
        p->bad_body = p->bad_bodies == 0 ? err : p->bad_body;
        p->bad_bodies++;
    }
}

static void part_tell_entries(struct part_check *p, uint32_t i)
{
    struct err e = {0};
    if (p->missing > 0) {
        tree_finding_text(e.text, "%" PRIu64 " keys are not in the filter, so reads miss them",
                          p->missing);
        part_tell(p, i, e.text, p->missing);
    }
    if (p->outside > 0) {
        tree_finding_text(e.text, "%" PRIu64 " message numbers outside of those of the header",
                          p->outside);
        part_tell(p, i, e.text, p->outside);
    }
    if (p->newer > 0 && p->c->opt->level > 3) {
        tree_finding_text(e.text, "%" PRIu64 " messages are newer than those of the memtables",
                          p->newer);
        part_tell(p, i, e.text, p->newer);
    }
    if (p->bad_bodies > 0) {
        part_tell(p, i, p->bad_body.text, p->bad_bodies);
    }
}

static int part_check_raw(struct part_check *p, uint32_t i, const uint8_t *raw)
{
    const struct tree_look_node *n = p->n;
    const struct tree_partition *part = &n->header.partition[i];
    struct tree_block_iter it;
    struct tree_block b;
    if (part->kind == TREE_PARTITION_RANGES) {
        struct tree_ranges r;
        return tree_pivots_open_ranges(&n->pivots, &n->header, i, raw, &r);
    }
    int rc = tree_pivots_open_block(&n->pivots, &n->header, i, raw, &b);
    if (rc < 0) {
        return rc;
    }
    p->missing = p->outside = p->newer = p->bad_bodies = 0;
    tree_block_iter_init(&it, &b);
    for (bool there = tree_block_iter_seek(&it, 0); there; there = tree_block_iter_next(&it)) {
        part_check_entry(p, part, &it.entry);
    }
    part_tell_entries(p, i);
    return 0;
}

static int part_check(struct part_check *p, uint32_t i)
{
    uint8_t *raw = NULL;
    int rc = tree_look_part(&p->c->look, p->n, i, &raw);
    rc = rc < 0 ? rc : part_check_raw(p, i, raw);
    mem_free(raw);
    p->c->result->partitions++;
    if (rc < 0 && !tree_check_fatal(rc)) {
        part_tell_rc(p, i, rc);
        rc = 0;
    }
    return rc;
}

int tree_check_parts(struct check *c, const struct tree_look_node *n)
{
    struct part_check p = {.c = c, .n = n};
    int rc = part_load_filters(&p);
    for (uint32_t i = 0; i < n->header.partition_count && rc == 0; i++) {
        rc = n->header.partition[i].kind == TREE_PARTITION_FILTER ? 0 : part_check(&p, i);
    }
    for (size_t i = 0; i < p.filter_count; i++) {
        mem_free(p.filter[i].raw);
    }
    return rc;
}
