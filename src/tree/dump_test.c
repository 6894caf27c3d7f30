/* tree/dump_test.c -- lines of a file that rig_image_priv.h describes, sound and damaged. */
#include "tree/dump.h"

#include "testing/testing.h"
#include "tree/check.h"
#include "tree/look.h"
#include "tree/rig_bytes_priv.h"
#include "tree/rig_image_make_priv.h"

#include <stdio.h>
#include <stdlib.h>

struct world {
    struct rig_bytes disk;
    struct disk_file *file;
    size_t lines, len;
    char all[64 << 10];
    uint64_t damages;
    struct err err;
};

static void world_line(void *arg, const char *text, size_t len)
{
    struct world *w = arg;
    CHECK_TRUE(text[len] == 0 && strlen(text) == len && w->len + len + 2 < sizeof w->all);
    w->len += (size_t)snprintf(w->all + w->len, sizeof w->all - w->len, "%s\n", text);
    w->lines++;
}

static struct world *world_new(void)
{
    size_t len = 0;
    struct world *w = mem_zalloc(sizeof *w);
    uint8_t *golden = rig_image_make(RIG_WRONG_NOTHING, &len);
    CHECK(w != NULL);
    rig_bytes_init(&w->disk);
    w->file = rig_bytes_put(&w->disk, "/f", golden, len);
    mem_free(golden);
    return w;
}

static struct world *world_free(struct world *w)
{
    if (w != NULL) {
        rig_bytes_fini(&w->disk);
        mem_free(w);
    }
    return NULL;
}
DEFINE_FREEP(world)

static struct tree_dump_options dump_options(struct world *w)
{
    w->len = w->lines = 0;
    w->all[0] = 0;
    return (struct tree_dump_options){
        .disk = &w->disk.base, .path = "/f", .to = {.line = world_line, .arg = w}};
}

static size_t count(const struct world *w, const char *part)
{
    size_t n = 0;
    for (const char *at = w->all; (at = strstr(at, part)) != NULL; at++) {
        n++;
    }
    return n;
}

/* Of the line with `line`. */
static uint64_t number(const struct world *w, const char *line, const char *name)
{
    const char *at = strstr(w->all, line);
    CHECK_TRUE(at != NULL && strstr(at, name) != NULL);
    return strtoull(strstr(at, name) + strlen(name), NULL, 10);
}

TEST(dump_shows_tables)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_dump_options opt = dump_options(w);
    CHECK_OK(tree_dump(&opt, &w->damages, &w->err));
    CHECK_EQ(w->damages, 0);
    CHECK_EQ(count(w, "superblock: offset "), 2);
    CHECK_EQ(count(w, "\nblock "), 7);
    CHECK_EQ(count(w, "\nblock 2, level 1, "), 1);
    CHECK_EQ(count(w, "older extent: block 8, level 1, "), 1);
    CHECK_EQ(count(w, "\nsegment "), 2);
    opt = dump_options(w);
    opt.older = true;
    CHECK_OK(tree_dump(&opt, &w->damages, &w->err));
    CHECK_EQ(count(w, "older extent"), 0);
    CHECK_EQ(count(w, "\nsegment "), 0);
}

/* A number that was given out, of a node that no checkpoint has yet: it lies nowhere. */
TEST(dump_shows_numbers_without_a_node)
{
    CLEANUP(world_freep) struct world *w = world_new();
    const struct tree_btt_entry none = {.kind = TREE_BTT_NODE, .level = 1, .birth = 3};
    struct tree_look l;
    struct tree_look_table t;
    CHECK_OK(tree_look_open(&w->disk.base, "/f", &l, &w->err));
    CHECK_OK(tree_look_table(&l, &l.pair.super[1], &t));
    uint8_t *page = w->file->at + t.index.place[0].offset;
    tree_btt_entry_encode(&none, page + 16 + 7 * TREE_BTT_ENTRY_BYTES);
    t.index.place[0].checksum = tree_btt_page_seal(page, t.super.file_id, 0);
    t.super.table.checksum =
        tree_btt_index_encode(&t.index, t.super.file_id, w->file->at + t.super.table.offset);
    tree_super_encode(&t.super, w->file->at + TREE_SUPER_SECOND);
    tree_look_table_fini(&t);
    tree_look_close(&l);
    struct tree_dump_options opt = dump_options(w);
    CHECK_OK(tree_dump(&opt, &w->damages, &w->err));
    CHECK_EQ(count(w, "\nblock "), 6);
    CHECK_EQ(count(w, "number without node: block 7\n"), 1);
    CHECK_EQ(count(w, ", bytes 0,"), 0);
}

TEST(dump_shows_a_node)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_dump_options opt = dump_options(w);
    opt.block = 2;
    opt.keys = opt.values = true;
    CHECK_OK(tree_dump(&opt, &w->damages, &w->err));
    CHECK_EQ(count(w, "slot 1, child 5, low \"f\", high \"m\"\n"), 1);
    CHECK_EQ(count(w, "partition: part 4, kind ranges, slot 1, run 1, "), 1);
    CHECK_EQ(
        count(w, "message: block 2, part 3, type put, msn 306, key \"l1\", value \"changed\"\n"),
        1);
    CHECK_EQ(count(w, "type range_delete, msn 310, low \"g\", high \"i\"\n"), 1);
    opt = dump_options(w);
    opt.block = 8;
    CHECK_RC(tree_dump(&opt, &w->damages, &w->err), ENOENT);
    opt.block = 800;
    CHECK_RC(tree_dump(&opt, &w->damages, &w->err), ENOENT);
}

TEST(dump_shows_a_range_of_keys)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_dump_options opt = dump_options(w);
    opt.keys = true;
    CHECK_OK(tree_dump(&opt, &w->damages, &w->err));
    CHECK_EQ(count(w, "record: "), 25);
    CHECK_EQ(count(w, "message: "), 3 + 9 + 1 + 8 + 1);
    opt = dump_options(w);
    opt.keys = opt.to.json = true;
    opt.low = rig_text("h");
    opt.high = rig_text("h2");
    CHECK_OK(tree_dump(&opt, &w->damages, &w->err));
    CHECK_EQ(count(w, "{\"what\":\"record\",\"block\":5,\"part\":1,\"key\":\"h1\"}\n"), 1);
    CHECK_EQ(count(w, "\"record\""), 1);
    CHECK_EQ(count(w, "\"message\""), 3); /* of the root, of block 2, the deleted range */
}

TEST(dump_goes_on_behind_damage)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_dump_options opt = dump_options(w);
    opt.block = 6;
    CHECK_OK(tree_dump(&opt, &w->damages, &w->err));
    uint64_t offset = strtoull(strstr(w->all, "offset ") + 7, NULL, 10);
    w->file->at[offset + 40] ^= 1;
    CHECK_OK(tree_dump(&opt, &w->damages, &w->err));
    CHECK_EQ(w->damages, 1);
    opt = dump_options(w);
    opt.keys = true;
    CHECK_OK(tree_dump(&opt, &w->damages, &w->err));
    CHECK_EQ(count(w, "damage: block 6, text node"), 1);
    CHECK_EQ(count(w, "record: "), 25 - 7);
    struct tree_stats_options stats = {.disk = &w->disk.base, .path = "/f", .to = opt.to};
    CHECK_OK(tree_stats(&stats, &w->damages, &w->err));
    CHECK_EQ(w->damages, 1);
    memset(w->file->at, 0, 4096);
    memset(w->file->at + TREE_SUPER_SECOND, 0, 4096);
    CHECK_ERR(tree_dump(&opt, &w->damages, &w->err), ERR_corrupt);
    CHECK_ERR(tree_stats(&stats, &w->damages, &w->err), ERR_corrupt);
}

TEST(stats_add_up)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_lines to = dump_options(w).to;
    struct tree_stats_options opt = {.disk = &w->disk.base, .path = "/f", .to = to};
    CHECK_OK(tree_stats(&opt, &w->damages, &w->err));
    CHECK_EQ(w->lines, 5);
    CHECK_EQ(count(w, "level 0, nodes 4, entries 25, "), 1);
    CHECK_EQ(count(w, "level 1, nodes 2, entries 9, "), 1);
    uint64_t extents = number(w, "level 1, ", "extent bytes "),
             dead = number(w, "level 1, ", "dead bytes ");
    CHECK_TRUE(extents - dead >=
               number(w, "level 1, ", "packed bytes ") + 2 * (uint64_t)TREE_NODE_FIXED_BYTES);
    CHECK_TRUE(dead > extents / 2);
    CHECK_EQ(count(w, "runs 3, runs of a slot most 2, "), 1);
    CHECK_EQ(count(w, "memtables: segments 2, entries 8, "), 1);
    /* 2 superblocks, 7 nodes, an older extent, page, index, list, drops, 2 segments */
    CHECK_EQ(count(w, "used bytes 65536, "), 1);
}

TEST(line_keeps_every_byte)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_line l = {0};
    struct tree_lines to = dump_options(w).to;
    for (unsigned json = 0; json < 2; json++) {
        to.json = json == 1;
        tree_line_begin(&l, &to, "a_b");
        tree_line_bytes(&l, "some_key", kv_slice_of("a\\\"\0\xff", 5));
        tree_line_text(&l, "text", "x\"\\\n");
        tree_line_number(&l, "n", UINT64_MAX);
        tree_line_hex(&l, "h", "\x01\xfe", 2);
        tree_line_say(&l, "%s", "!");
        CHECK_OK(tree_line_end(&l, &to));
    }
    tree_line_fini(&l);
    CHECK_TEXT(w->all, "a b: some key \"a\\x5c\\x22\\x00\\xff\", text x\"\\\n, "
                       "n 18446744073709551615, h 01fe!\n"
                       "{\"what\":\"a_b\",\"some_key\":\"a\\\\x5c\\\\x22\\\\x00\\\\xff\","
                       "\"text\":\"x\\\"\\\\\\u000a\",\"n\":\"18446744073709551615\","
                       "\"h\":\"01fe\"}\n");
}

/* ---- findings ---- */

TEST(findings_are_sentences_or_objects)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_line l = {0};
    struct tree_lines to = dump_options(w).to;
    struct tree_finding f = {.severity = TREE_FINDING_DAMAGE,
                             .code = "partition",
                             .text = "broken",
                             .advice = "mend it",
                             .checkpoint = 3,
                             .offset = 4096,
                             .len = TREE_FINDING_NONE,
                             .block = 7,
                             .partition = 2,
                             .segment = TREE_FINDING_NONE,
                             .ranged = true,
                             .high = rig_text("k"),
                             .records = 5};
    CHECK_OK(tree_finding_print(&f, &l, &to));
    to.json = true;
    CHECK_OK(tree_finding_print(&f, &l, &to));
    tree_line_fini(&l);
    CHECK_TEXT(w->all,
               "damage: block 7, partition 2, offset 4096, broken; keys before \"k\"; about 5 "
               "records; mend it\n"
               "{\"what\":\"finding\",\"severity\":\"damage\",\"code\":\"partition\",\"text\":"
               "\"broken\",\"checkpoint\":3,\"offset\":4096,\"block\":7,\"partition\":2,\"low\":"
               "\"\",\"high\":\"k\",\"records\":5,\"advice\":\"mend it\"}\n");
}
