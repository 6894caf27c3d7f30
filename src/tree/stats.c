/* tree/stats.c -- tree_stats() of dump.h: sizes, from headers, and from each partition its codec.
 */
#include "tree/dump.h"

#include "base/mem.h"
#include "tree/look.h"

#define STATS_LEVELS 64u
#define STATS_CODECS 3u

struct stats_level {
    uint64_t nodes, entries, raw_bytes, packed_bytes, filter_bytes, extent_bytes, dead_bytes;
    uint64_t slots, runs, runs_most;                   /* of a slot */
    uint64_t parts[STATS_CODECS], bytes[STATS_CODECS]; /* of partitions, by enum tree_codec_id */
};
struct sizes {
    const struct tree_stats_options *opt;
    struct tree_look look;
    struct tree_look_table table;
    struct tree_line line;
    struct stats_level *level; /* STATS_LEVELS */
    uint64_t damages;
};

static int stats_damage(struct sizes *s, int rc, const char *name, uint64_t no)
{
    if (rc == -ENOMEM) {
        return rc;
    }
    s->damages++;
    tree_line_begin(&s->line, &s->opt->to, "damage");
    tree_line_number(&s->line, name, no);
    tree_line_text(&s->line, "text", err_text(rc));
    return tree_line_end(&s->line, &s->opt->to);
}

/* ---- nodes ---- */

/* Its first byte names the codec. */
static int stats_part(struct sizes *s, struct stats_level *l, const struct tree_look_node *n,
                      uint32_t i)
{
    const struct tree_partition *p = &n->header.partition[i];
    uint8_t codec = 0;
    l->packed_bytes += p->packed_len;
    l->filter_bytes += p->kind == TREE_PARTITION_FILTER ? p->packed_len : 0;
    int rc = tree_look_read(&s->look, tree_look_part_offset(n, i), &codec, 1);
    rc = rc == 0 && codec >= STATS_CODECS ? -ERR_bad_version : rc;
    if (rc < 0) {
        return stats_damage(s, rc, "block", n->header.block);
    }
    l->parts[codec]++;
    l->bytes[codec] += p->packed_len;
    return 0;
}

static void stats_runs(struct stats_level *l, const struct tree_node_header *h)
{
    uint64_t of_slot = 0;
    for (uint32_t i = 0; i < h->partition_count; i++) {
        const struct tree_partition *p = &h->partition[i];
        if (p->kind != TREE_PARTITION_RUN || p->flags == TREE_PARTITION_MORE) {
            continue;
        }
        bool same = i > 0 && p[-1].kind == TREE_PARTITION_RUN && p[-1].slot == p->slot;
        of_slot = same ? of_slot + 1 : 1;
        l->runs++;
        l->runs_most = base_max(l->runs_most, of_slot);
    }
}

static int stats_node(struct sizes *s, const struct tree_look_node *n,
                      const struct tree_btt_entry *entry)
{
    const struct tree_node_header *h = &n->header;
    struct stats_level *l = &s->level[h->level < STATS_LEVELS ? h->level : STATS_LEVELS - 1];
    uint64_t used = tree_node_used(h), older = 0;
    struct tree_btt_entry e = *entry;
    int rc = 0;
    l->nodes++;
    l->entries += h->entries;
    l->raw_bytes += h->raw_bytes;
    l->slots += h->slots;
    l->filter_bytes += h->filter.len;
    l->packed_bytes += h->pivots.packed_len + h->filter.len;
    for (uint32_t i = 0; i < h->partition_count && rc == 0; i++) {
        rc = stats_part(s, l, n, i);
        used += h->partition[i].extent > 0 ? h->partition[i].packed_len : 0;
    }
    stats_runs(l, h);
    for (unsigned i = 0; i < TREE_BTT_SEGMENTS_MAX && e.link != 0; i++) {
        tree_look_entry(&s->table, e.link, &e);
        older += (uint64_t)e.units * TREE_UNIT;
    }
    uint64_t extents = h->total_len + older;
    l->extent_bytes += extents;
    l->dead_bytes += extents > used ? extents - used : 0;
    return rc;
}

static int stats_nodes(struct sizes *s)
{
    const struct tree_look_table *t = &s->table;
    int rc = t->index_rc < 0 ? stats_damage(s, t->index_rc, "checkpoint", t->super.checkpoint) : 0;
    for (uint64_t block = 1; block < tree_look_blocks(t) && rc == 0; block++) {
        struct tree_btt_entry e;
        struct tree_look_node n;
        tree_look_entry(t, block, &e);
        if (e.kind != TREE_BTT_NODE || e.units == 0) {
            continue;
        }
        struct tree_look_at at = tree_look_at_entry(t, block, &e);
        rc = tree_look_node(&s->look, &at, &n, NULL);
        if (rc < 0) {
            rc = stats_damage(s, rc, "block", block);
            continue;
        }
        rc = stats_node(s, &n, &e);
        tree_look_node_fini(&n);
    }
    return rc;
}

static int stats_print_level(struct sizes *s, unsigned level)
{
    static const char *const parts[STATS_CODECS] = {"partitions_stored", "partitions_lz4",
                                                    "partitions_zstd"};
    static const char *const bytes[STATS_CODECS] = {"bytes_stored", "bytes_lz4", "bytes_zstd"};
    const struct stats_level *l = &s->level[level];
    const struct tree_super *super = &s->table.super;
    uint64_t limit = level == 0 ? super->leaf_raw : super->internal_raw;
    struct tree_line *out = &s->line;
    if (l->nodes == 0) {
        return 0;
    }
    tree_line_begin(out, &s->opt->to, "level");
    tree_line_number(out, "level", level);
    tree_line_number(out, "nodes", l->nodes);
    tree_line_number(out, "entries", l->entries);
    tree_line_number(out, "raw_bytes", l->raw_bytes);
    tree_line_number(out, "packed_bytes", l->packed_bytes);
    tree_line_number(out, "filter_bytes", l->filter_bytes);
    tree_line_number(out, "extent_bytes", l->extent_bytes);
    tree_line_number(out, "dead_bytes", l->dead_bytes);
    if (limit > 0) {
        tree_line_number(out, "fill_percent", l->raw_bytes / l->nodes * 100 / limit);
    }
    tree_line_number(out, "slots", l->slots);
    if (level > 0) {
        tree_line_number(out, "runs", l->runs);
        tree_line_number(out, "runs_of_a_slot_most", l->runs_most);
    }
    for (unsigned i = 0; i < STATS_CODECS; i++) {
        tree_line_number(out, parts[i], l->parts[i]);
        tree_line_number(out, bytes[i], l->bytes[i]);
    }
    return tree_line_end(out, &s->opt->to);
}

/* ---- segments ---- */

static int stats_segments(struct sizes *s)
{
    const struct tree_look_table *t = &s->table;
    uint64_t entries = 0, raw = 0, bytes = 0;
    int rc =
        t->pieces_rc < 0 ? stats_damage(s, t->pieces_rc, "checkpoint", t->super.checkpoint) : 0;
    for (size_t i = 0; i < t->piece_count && rc == 0; i++) {
        struct tree_look_segment segment;
        rc = tree_look_segment(&s->look, t->super.file_id, &t->piece[i], &segment, NULL);
        if (rc < 0) {
            rc = stats_damage(s, rc, "segment", i);
            continue;
        }
        entries += segment.s.entries;
        raw += segment.s.raw_bytes + segment.s.ranges.raw_len;
        bytes += segment.s.len;
        tree_look_segment_fini(&segment);
    }
    if (rc < 0) {
        return rc;
    }
    tree_line_begin(&s->line, &s->opt->to, "memtables");
    tree_line_number(&s->line, "segments", t->piece_count);
    tree_line_number(&s->line, "entries", entries);
    tree_line_number(&s->line, "raw_bytes", raw);
    tree_line_number(&s->line, "packed_bytes", bytes);
    return tree_line_end(&s->line, &s->opt->to);
}

/* ---- the file ---- */

static uint64_t stats_count(const uint64_t *bits, uint64_t units)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < (units + 63) / 64; i++) {
        count += (uint64_t)__builtin_popcountll(bits[i]);
    }
    return count;
}

/* What the other retained checkpoint uses is not free. */
static int stats_mark_other(struct sizes *s, uint64_t *bits)
{
    const struct tree_super *super = NULL;
    struct tree_look_table other;
    if (tree_look_choose(&s->look, !s->opt->older, &super, NULL) < 0) {
        return 0;
    }
    int rc = tree_look_table(&s->look, super, &other);
    if (rc == 0) {
        tree_look_mark(&s->look, &other, bits);
        tree_look_table_fini(&other);
    }
    return rc;
}

static int stats_file(struct sizes *s)
{
    const struct tree_super *super = &s->table.super;
    uint64_t units = s->look.size_bytes / TREE_UNIT;
    CLEANUP(mem_freep) uint64_t *bits = mem_calloc((size_t)(units / 64) + 1, sizeof *bits);
    if (bits == NULL) {
        return -ENOMEM;
    }
    tree_look_mark(&s->look, &s->table, bits);
    uint64_t used = stats_count(bits, units);
    int rc = stats_mark_other(s, bits);
    if (rc < 0) {
        return rc;
    }
    uint64_t both = stats_count(bits, units);
    tree_line_begin(&s->line, &s->opt->to, "file");
    tree_line_number(&s->line, "checkpoint", super->checkpoint);
    tree_line_number(&s->line, "applied_index", super->applied_index);
    tree_line_number(&s->line, "height", super->height);
    tree_line_number(&s->line, "bytes", s->look.size_bytes);
    tree_line_number(&s->line, "used_bytes", used * TREE_UNIT);
    tree_line_number(&s->line, "other_checkpoint_bytes", (both - used) * TREE_UNIT);
    tree_line_number(&s->line, "free_bytes", (units - both) * TREE_UNIT);
    tree_line_number(&s->line, "keys_estimate", super->key_count);
    return tree_line_end(&s->line, &s->opt->to);
}

static int stats_run(struct sizes *s)
{
    s->level = mem_calloc(STATS_LEVELS, sizeof *s->level);
    if (s->level == NULL) {
        return -ENOMEM;
    }
    int rc = stats_file(s);
    rc = rc < 0 ? rc : stats_nodes(s);
    for (unsigned i = STATS_LEVELS; i > 0 && rc == 0; i--) {
        rc = stats_print_level(s, i - 1);
    }
    return rc < 0 ? rc : stats_segments(s);
}

int tree_stats(const struct tree_stats_options *opt, uint64_t *ret_damages, struct err *e)
{
    struct sizes s = {.opt = opt};
    const struct tree_super *super = NULL;
    int rc = tree_look_open(opt->disk, opt->path, &s.look, e);
    rc = rc < 0 ? rc : tree_look_choose(&s.look, opt->older, &super, e);
    rc = rc < 0 ? rc : tree_look_table(&s.look, super, &s.table);
    rc = rc < 0 ? rc : stats_run(&s);
    if (rc == 0) {
        *ret_damages = s.damages;
    }
    mem_free(s.level);
    tree_line_fini(&s.line);
    tree_look_table_fini(&s.table);
    tree_look_close(&s.look);
    return rc;
}
