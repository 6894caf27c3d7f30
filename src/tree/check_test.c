/* tree/check_test.c -- what a check says of sound files and of damaged ones. */
#include "tree/check.h"

#include "base/rand.h"
#include "testing/testing.h"
#include "tree/look.h"
#include "tree/rig_bytes_priv.h"
#include "tree/rig_image_make_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct world {
    struct rig_bytes disk;
    struct disk_file *file;
    uint8_t *golden;
    size_t len;
    struct tree_check_result result;
    struct err err;
    /* of the last check */
    char first[400]; /* the first finding that is no note */
    struct tree_finding finding;
    char low[64], high[64];
    bool show;
};

static void world_found(void *arg, const struct tree_finding *f)
{
    struct world *w = arg;
    if (w->show) {
        printf("%s %s: block %" PRId64 " part %" PRId64 " segment %" PRId64 " at %" PRId64
               "+%" PRId64 ": %s; '%.*s' to '%.*s', %" PRId64 " records\n",
               tree_finding_severity(f), f->code, (int64_t)f->block, (int64_t)f->partition,
               (int64_t)f->segment, (int64_t)f->offset, (int64_t)f->len, f->text, (int)f->low.len,
               (const char *)f->low.at, (int)f->high.len, (const char *)f->high.at,
               (int64_t)f->records);
    }
    CHECK_TRUE(f->text != NULL && f->text[0] != 0);
    if (f->severity != TREE_FINDING_NOTE && w->first[0] == 0) {
        w->finding = *f;
        snprintf(w->first, sizeof w->first, "%s", f->text);
        snprintf(w->low, sizeof w->low, "%.*s", (int)f->low.len, (const char *)f->low.at);
        snprintf(w->high, sizeof w->high, "%.*s", (int)f->high.len, (const char *)f->high.at);
    }
}

static struct world *world_new(void)
{
    struct world *w = mem_zalloc(sizeof *w);
    CHECK(w != NULL);
    rig_bytes_init(&w->disk);
    w->golden = rig_image_make(RIG_WRONG_NOTHING, &w->len);
    w->file = rig_bytes_put(&w->disk, "/f", w->golden, w->len);
    return w;
}

static struct world *world_free(struct world *w)
{
    if (w != NULL) {
        rig_bytes_fini(&w->disk);
        mem_free(w->golden);
        mem_free(w);
    }
    return NULL;
}
DEFINE_FREEP(world)

static int world_check(struct world *w, unsigned level, bool older)
{
    struct tree_check_options opt = {.disk = &w->disk.base,
                                     .path = "/f",
                                     .level = level,
                                     .older = older,
                                     .found = world_found,
                                     .arg = w};
    w->first[0] = 0;
    w->finding = (struct tree_finding){.code = ""};
    return tree_check(&opt, &w->result, &w->err);
}

TEST(check_finds_nothing_in_a_sound_file)
{
    CLEANUP(world_freep) struct world *w = world_new();
    w->show = true;
    for (unsigned level = 1; level <= TREE_CHECK_LEVEL_MAX; level++) {
        CHECK_OK(world_check(w, level, false));
        CHECK_EQ(w->result.damages + w->result.warnings, 0);
        CHECK_EQ(w->result.checkpoint, 3);
        CHECK_EQ(w->result.applied_index, 1003);
        CHECK_EQ(w->result.nodes, level > 1 ? 7 : 0);
        CHECK_OK(world_check(w, level, true));
        CHECK_EQ(w->result.damages + w->result.warnings, 0);
        CHECK_EQ(w->result.checkpoint, 2);
    }
    CHECK_EQ(w->result.records, 26);
    CHECK_OK(world_check(w, 4, false));
    CHECK_EQ(w->result.records, 25);
    CHECK_EQ(w->result.leaves, 4);
    CHECK_EQ(w->result.segments, 2);
    CHECK_EQ(w->result.messages, 3 + 9 + 8);
    CHECK_TRUE(!w->result.changed && w->result.read_bytes > 0);
}

/* ---- every bit ---- */

static void cover(struct world *w, uint8_t *map, uint64_t offset, uint64_t len)
{
    CHECK_TRUE(offset + len <= w->len);
    memset(map + offset, 1, (size_t)len);
}

static void cover_node(struct world *w, struct tree_look *l, const struct tree_look_table *t,
                       uint64_t block, uint8_t *map)
{
    struct tree_btt_entry e;
    struct tree_look_node n;
    tree_look_entry(t, block, &e);
    if (e.kind != TREE_BTT_NODE || e.units == 0) {
        return;
    }
    struct tree_look_at at = tree_look_at_entry(t, block, &e);
    CHECK_OK(tree_look_node(l, &at, &n, NULL));
    cover(w, map, n.offset, tree_node_used(&n.header));
    for (uint32_t i = 0; i < n.header.partition_count; i++) {
        cover(w, map, tree_look_part_offset(&n, i), n.header.partition[i].packed_len);
    }
    tree_look_node_fini(&n);
}

/* Bytes that a checksum of one of the two checkpoints covers. */
static void cover_checkpoint(struct world *w, struct tree_look *l, unsigned place, uint8_t *map)
{
    const struct tree_super *s = &l->pair.super[place];
    struct tree_look_table t;
    CHECK_OK(tree_look_table(l, s, &t));
    cover(w, map, place * (uint64_t)TREE_SUPER_SECOND, TREE_SUPER_BYTES);
    cover(w, map, s->table.offset, s->table.len);
    cover(w, map, s->segments.offset, s->segments.len);
    cover(w, map, s->drops.offset, s->drops.len);
    for (size_t i = 0; i < t.index.page_count; i++) {
        cover(w, map, t.index.place[i].offset, TREE_BTT_PAGE_BYTES);
    }
    for (size_t i = 0; i < t.piece_count; i++) {
        cover(w, map, t.piece[i].offset, t.piece[i].len);
    }
    for (uint64_t block = 1; block < t.index.next_block; block++) {
        cover_node(w, l, &t, block, map);
    }
    tree_look_table_fini(&t);
}

static uint8_t *cover_all(struct world *w)
{
    struct tree_look l;
    uint8_t *map = mem_zalloc(w->len);
    CHECK_TRUE(map != NULL);
    CHECK_OK(tree_look_open(&w->disk.base, "/f", &l, &w->err));
    for (unsigned i = 0; i < TREE_SUPER_PLACES; i++) {
        cover_checkpoint(w, &l, i, map);
    }
    tree_look_close(&l);
    return map;
}

static bool world_finds(struct world *w)
{
    CHECK_OK(world_check(w, 3, false));
    if (w->result.damages + w->result.warnings > 0) {
        return true;
    }
    int rc = world_check(w, 3, true);
    CHECK_TRUE(rc == 0 || rc == -ENOENT);
    return rc < 0 || w->result.damages + w->result.warnings > 0;
}

/* Long stretches of zeros, free space and padding: some of them, others with another seed. */
static bool worth_a_flip(const struct world *w, const uint8_t *map, uint64_t i)
{
    static const uint8_t zeros[16];
    bool zero = i + sizeof zeros <= w->len && memcmp(w->golden + i, zeros, sizeof zeros) == 0;
    uint64_t step = map[i] == 0 ? 127 : zero ? 31 : 2;
    return (i + testing_seed()) % step == 0;
}

/* Found is what a checksum covers; everything else is free space or padding. */
TEST(check_finds_every_bit_that_counts)
{
    CLEANUP(world_freep) struct world *w = world_new();
    CLEANUP(mem_freep) uint8_t *map = cover_all(w);
    uint64_t flipped = 0;
    for (uint64_t i = 0; i < w->len; i++) {
        if (worth_a_flip(w, map, i)) {
            uint8_t mask = (uint8_t)(1u << (i / 2 + testing_seed()) % 8);
            w->file->at[i] ^= mask;
            CHECK_EQ(world_finds(w), map[i] != 0);
            w->file->at[i] ^= mask;
            flipped++;
        }
    }
    CHECK_TRUE(flipped > 1000);
}

/* ---- what is said ---- */

static uint64_t world_unit(struct world *w, uint64_t block)
{
    struct tree_look l;
    struct tree_look_table t;
    struct tree_btt_entry e;
    CHECK_OK(tree_look_open(&w->disk.base, "/f", &l, &w->err));
    CHECK_OK(tree_look_table(&l, &l.pair.super[1], &t));
    tree_look_entry(&t, block, &e);
    tree_look_table_fini(&t);
    tree_look_close(&l);
    return e.unit * TREE_UNIT;
}

/* Damages a byte, checks, and puts it right again. */
static void world_spoil(struct world *w, uint64_t offset, unsigned level)
{
    w->file->at[offset] ^= 0x10;
    CHECK_OK(world_check(w, level, false));
    w->file->at[offset] ^= 0x10;
}

static void check_said(struct world *w, const char *code, uint64_t block, const char *low,
                       const char *high, uint64_t records)
{
    CHECK_TEXT(w->finding.code, code);
    CHECK_EQ(w->finding.block, block);
    CHECK_TEXT(w->low, low);
    CHECK_TEXT(w->high, high);
    CHECK_EQ(w->finding.records, records);
    CHECK_TRUE(w->finding.advice != NULL);
}

static uint64_t part_at(struct world *w, uint64_t block, uint32_t part)
{
    struct tree_look l;
    struct tree_look_table t;
    struct tree_btt_entry e;
    struct tree_look_node n;
    CHECK_OK(tree_look_open(&w->disk.base, "/f", &l, &w->err));
    CHECK_OK(tree_look_table(&l, &l.pair.super[1], &t));
    tree_look_entry(&t, block, &e);
    struct tree_look_at at = tree_look_at_entry(&t, block, &e);
    CHECK_OK(tree_look_node(&l, &at, &n, NULL));
    uint64_t offset = tree_look_part_offset(&n, part);
    tree_look_node_fini(&n);
    tree_look_table_fini(&t);
    tree_look_close(&l);
    return offset;
}

TEST(check_names_the_keys_that_are_affected)
{
    CLEANUP(world_freep) struct world *w = world_new();
    world_spoil(w, part_at(w, 6, 1) + 3, 3); /* a basement */
    check_said(w, "partition", 6, "p", "t", 4);
    CHECK_EQ(w->result.damages, 1);
    world_spoil(w, part_at(w, 2, 1) + 3, 3); /* a run in an older extent */
    check_said(w, "partition", 2, "f", "m", 2);
    CHECK_EQ(w->result.damages, 1);
    world_spoil(w, part_at(w, 2, 3) + 3, 3); /* behind a cut */
    check_said(w, "partition", 2, "k", "m", 2);
    world_spoil(w, part_at(w, 2, 3) + 3, 2);
    CHECK_EQ(w->result.damages, 0);           /* nobody has looked there */
    world_spoil(w, world_unit(w, 7) + 40, 2); /* the header of a leaf */
    check_said(w, "node", 7, "t", "", 6);
    CHECK_EQ(w->result.nodes, 6);
    world_spoil(w, world_unit(w, 3) + 40, 2); /* and of an internal node: what is below counts */
    check_said(w, "node", 3, "m", "", 14);
    CHECK_EQ(w->result.nodes, 6);
    CHECK_EQ(w->result.damages, 1);
    world_spoil(w, world_unit(w, 1) + 40, 2);
    check_said(w, "node", 1, "", "", 25 + 9); /* and what node 2 buffers */
}

/* Sound checksums, and yet: what is said first, on which level. */
static const struct wrong {
    const char *code, *text, *low, *high;
    unsigned level;
    uint64_t block, records;
} wrongs[RIG_WRONG_COUNT] = {
    [RIG_WRONG_ORDER] = {"order", "are newer than those above", "", "f", 4, 2, 2},
    [RIG_WRONG_RUNS] = {"order", "are newer than those above", "f", "m", 4, 2, 1},
    [RIG_WRONG_RANGE] = {"order", "are newer than those above", "f", "m", 4, 2, 1},
    [RIG_WRONG_FILTER] = {"partition", "not in the filter", "f", "m", 3, 2, 1},
    [RIG_WRONG_FENCES] = {"node", "its fences are not those", "u", "", 2, 7, 6},
    [RIG_WRONG_CHILD] = {"node", "is in the tree twice", "t", "", 2, 6, 6},
    [RIG_WRONG_NEWER] = {"partition", "newer than those of the memtables", "", "m", 4, 1, 3},
    [RIG_WRONG_ABOVE] = {"order", "are newer than those above", "f", "m", 4, 2, 1},
    [RIG_WRONG_LEAF] = {"partition", "not in the filter", "p", "t", 3, 6, 1},
    [RIG_WRONG_PIECES] = {"memtables", "has not all of its pieces", "", "", 1, UINT64_MAX,
                          UINT64_MAX},
};

TEST(check_finds_what_no_checksum_tells)
{
    CLEANUP(world_freep) struct world *w = world_new();
    for (unsigned i = 1; i < RIG_WRONG_COUNT; i++) {
        size_t len = 0;
        const struct wrong *x = &wrongs[i];
        uint8_t *bytes = rig_image_make((enum rig_wrong)i, &len);
        rig_bytes_put(&w->disk, "/f", bytes, len);
        mem_free(bytes);
        for (unsigned level = 1; level < x->level; level++) {
            CHECK_OK(world_check(w, level, false));
            CHECK_EQ(w->result.damages + w->result.warnings, 0);
        }
        CHECK_OK(world_check(w, x->level, false));
        CHECK_TRUE(w->result.damages > 0 && strstr(w->first, x->text) != NULL);
        check_said(w, x->code, x->block, x->low, x->high, x->records);
    }
}

TEST(check_survives_every_truncation)
{
    CLEANUP(world_freep) struct world *w = world_new();
    uint64_t last = 0; /* behind the last byte in use */
    CLEANUP(mem_freep) uint8_t *map = cover_all(w);
    for (uint64_t i = 0; i < w->len; i++) {
        last = map[i] != 0 ? base_align_up(i + 1, TREE_UNIT) : last;
    }
    for (uint64_t len = 0; len < w->len; len += 509) {
        w->file->len = len;
        int rc = world_check(w, 4, false);
        CHECK_OK(rc);
        CHECK_TRUE(len >= last || w->result.damages + w->result.warnings > 0);
    }
    w->file->len = w->len;
    CHECK_OK(world_check(w, 4, false));
    CHECK_EQ(w->result.damages, 0);
}

TEST(check_survives_anything)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct rand r;
    rand_seed(&r, testing_seed());
    for (unsigned round = 0; round < 300; round++) {
        unsigned count = 1 + (unsigned)rand_below(&r, 3);
        for (unsigned i = 0; i < count; i++) { /* units of other places, or noise */
            uint8_t *to = w->file->at + rand_below(&r, w->len / TREE_UNIT) * TREE_UNIT;
            uint64_t from = rand_below(&r, w->len / TREE_UNIT) * TREE_UNIT;
            if (rand_below(&r, 2) == 0) {
                memcpy(to, w->golden + from, TREE_UNIT);
            } else {
                rand_bytes(&r, to, TREE_UNIT);
            }
        }
        CHECK_OK(world_check(w, 4, false));
        int rc = world_check(w, 4, true);
        CHECK_TRUE(rc == 0 || rc == -ENOENT);
        memcpy(w->file->at, w->golden, w->len);
    }
}

TEST(check_goes_on_after_read_errors)
{
    CLEANUP(world_freep) struct world *w = world_new();
    w->disk.read_rc = -EIO;
    w->disk.read_at = part_at(w, 5, 0);
    CHECK_OK(world_check(w, 3, false));
    CHECK_EQ(w->result.damages, 1);
    check_said(w, "node", 5, "f", "m", 6); /* its header lies in the same unit */
    CHECK_EQ(w->result.nodes, 6);
    CHECK_TRUE(strstr(w->first, "error") != NULL);
    struct tree_check_options none = {
        .disk = &w->disk.base, .path = "/none", .level = 1, .found = world_found, .arg = w};
    CHECK_RC(tree_check(&none, &w->result, &w->err), ENOENT);
}

TEST(check_says_that_a_file_is_empty_or_in_use)
{
    CLEANUP(world_freep) struct world *w = world_new();
    w->disk.touch_after = 10; /* after the superblocks were read */
    CHECK_OK(world_check(w, 4, false));
    CHECK_TRUE(w->result.changed && w->disk.touch_after == 0);
    memset(w->file->at, 0, w->len);
    CHECK_OK(world_check(w, 4, false));
    CHECK_EQ(w->result.damages, 2);
    CHECK_EQ(w->result.checkpoint, 0);
    CHECK_TRUE(!w->result.changed);
}

/* ---- space ---- */

/* Other bytes of a page of the table, with all checksums above it made anew. */
static void seal_page(struct world *w, uint64_t block, const struct tree_btt_entry *e)
{
    struct tree_look l;
    struct tree_look_table t;
    CHECK_OK(tree_look_open(&w->disk.base, "/f", &l, &w->err));
    CHECK_OK(tree_look_table(&l, &l.pair.super[1], &t));
    uint8_t *page = w->file->at + t.index.place[0].offset;
    tree_btt_entry_encode(e, page + 16 + block * TREE_BTT_ENTRY_BYTES);
    t.index.place[0].checksum = tree_btt_page_seal(page, t.super.file_id, 0);
    t.super.table.checksum =
        tree_btt_index_encode(&t.index, t.super.file_id, w->file->at + t.super.table.offset);
    tree_super_encode(&t.super, w->file->at + TREE_SUPER_SECOND);
    tree_look_table_fini(&t);
    tree_look_close(&l);
}

static void check_place(struct world *w, uint64_t block, struct tree_btt_entry e, const char *said)
{
    seal_page(w, block, &e);
    CHECK_OK(world_check(w, 1, false));
    CHECK_TRUE(w->result.damages > 0);
    if (strstr(w->first, said) == NULL) {
        CHECK_TEXT(w->first, said);
    }
    memcpy(w->file->at, w->golden, w->len);
}

TEST(check_knows_who_uses_which_space)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_look l;
    struct tree_look_table t;
    struct tree_btt_entry five, six, e;
    CHECK_OK(tree_look_open(&w->disk.base, "/f", &l, &w->err));
    CHECK_OK(tree_look_table(&l, &l.pair.super[1], &t));
    tree_look_entry(&t, 5, &five);
    tree_look_entry(&t, 6, &six);
    uint64_t index = t.super.table.offset / TREE_UNIT;
    tree_look_table_fini(&t);
    tree_look_close(&l);
    seal_page(w, 6, &six); /* nothing is different */
    CHECK_OK(world_check(w, 4, false));
    CHECK_EQ(w->result.damages, 0);
    e = six;
    e.unit = five.unit;
    check_place(w, 6, e, "block 6 overlaps with block 5");
    e.unit = index;
    check_place(w, 6, e, "overlaps with");
    e.unit = 0x123456;
    check_place(w, 6, e, "behind the end of the file");
    e = six;
    e.birth = 4;
    check_place(w, 6, e, "later checkpoint");
    e = six;
    e.units = 2; /* with what lies behind it, in this checkpoint and in the other one */
    check_place(w, 6, e, "overlaps with");
    e = six;
    e.birth = 1; /* the other one says 2 */
    check_place(w, 6, e, "of the other checkpoint");
    e = (struct tree_btt_entry){.kind = TREE_BTT_FREE}; /* not in the chain */
    check_place(w, 6, e, "belong to nothing");
    e = five;
    e.link = 6; /* a node is no older extent */
    e.segment_count = 1;
    check_place(w, 5, e, "older extent");
}

TEST(check_runs_out_of_memory)
{
    CLEANUP(world_freep) struct world *w = world_new();
    int rc = -ENOMEM;
    uint64_t nth = 0;
    while (rc == -ENOMEM) {
        mem_fail_at(++nth);
        rc = world_check(w, 4, false);
        mem_fail_at(0);
    }
    CHECK_OK(rc);
    CHECK_TRUE(nth > 50);
    CHECK_EQ(w->result.damages, 0);
}
