/* tree/rebuild_test.c -- new files from damaged ones: the same records, or it is said which are
 * missing. */
#include "tree/rebuild.h"

#include "base/rand.h"
#include "testing/testing.h"
#include "tree/dump.h"
#include "tree/look.h"
#include "tree/rig_bytes_priv.h"
#include "tree/rig_image_make_priv.h"

#include <stdio.h>

#define TEXT_MAX (32u << 10)

struct world {
    struct rig_bytes disk;
    struct disk_file *file;
    uint8_t *golden;
    size_t len;
    struct tree_rebuild_result result;
    uint64_t check_damages, check_warnings;
    uint64_t told; /* records that findings name as lost */
    uint64_t doubts;
    char first[300];
    char before[TEXT_MAX], after[TEXT_MAX];
    size_t text_len;
    struct err err;
    bool show;
};

static void world_found(void *arg, const struct tree_finding *f)
{
    struct world *w = arg;
    if (w->show) {
        printf("%s: %s block %lld\n", tree_finding_severity(f), f->text, (long long)f->block);
    }
    w->doubts += f->severity == TREE_FINDING_WARNING ? 1 : 0;
    if (f->severity == TREE_FINDING_DAMAGE) {
        w->told += f->records == TREE_FINDING_NONE ? 1000 : f->records;
        snprintf(w->first, sizeof w->first, "%s", w->first[0] == 0 ? f->text : w->first);
    }
}

static void world_checked(void *arg, const struct tree_finding *f)
{
    struct world *w = arg;
    w->check_damages += f->severity == TREE_FINDING_DAMAGE ? 1 : 0;
    w->check_warnings += f->severity == TREE_FINDING_WARNING ? 1 : 0;
    if (w->show) {
        printf("check %s: %s\n", tree_finding_severity(f), f->text);
    }
}

/* Records and messages without the places where they lie. */
static void before_line(void *arg, const char *text, size_t len)
{
    struct world *w = arg;
    const char *key = strstr(text, "\"type\"");
    key = key == NULL ? strstr(text, "\"key\"") : key;
    if (key != NULL) {
        CHECK_TRUE(w->text_len + len < TEXT_MAX);
        w->text_len +=
            (size_t)snprintf(w->before + w->text_len, TEXT_MAX - w->text_len, "%s\n", key);
    }
}

static size_t lines(const char *text)
{
    size_t n = 0;
    for (; *text != 0; text++) {
        n += *text == '\n' ? 1 : 0;
    }
    return n;
}

static void world_dump(struct world *w, const char *path, char *out)
{
    uint64_t damages = 0;
    struct tree_dump_options opt = {.disk = &w->disk.base,
                                    .path = path,
                                    .keys = true,
                                    .values = true,
                                    .to = {.json = true, .line = before_line, .arg = w}};
    w->before[0] = 0;
    w->text_len = 0;
    CHECK_OK(tree_dump(&opt, &damages, &w->err));
    memmove(out, w->before, w->text_len + 1);
}

static struct world *world_new(void)
{
    struct world *w = mem_zalloc(sizeof *w);
    CHECK(w != NULL);
    rig_bytes_init(&w->disk);
    w->golden = rig_image_make(RIG_WRONG_NOTHING, &w->len);
    w->file = rig_bytes_put(&w->disk, "/f", w->golden, w->len);
    world_dump(w, "/f", w->after);
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

static struct tree_rebuild_options options(struct world *w)
{
    return (struct tree_rebuild_options){
        .disk = &w->disk.base, .path = "/f", .out = "/n", .found = world_found, .arg = w};
}

static int world_rebuild(struct world *w, const struct tree_rebuild_options *opt)
{
    struct disk_file *old = rig_bytes_find(&w->disk, "/n");
    if (old != NULL) {
        rig_bytes_forget(old);
    }
    w->doubts = w->told = w->check_damages = w->check_warnings = 0;
    w->first[0] = 0;
    w->err = (struct err){0};
    return tree_rebuild(opt, &w->result, &w->err);
}

/* The new file is sound in every way. */
static void world_check(struct world *w)
{
    struct tree_check_result r;
    struct tree_check_options opt = {.disk = &w->disk.base,
                                     .path = "/n",
                                     .level = TREE_CHECK_LEVEL_MAX,
                                     .found = world_checked,
                                     .arg = w};
    CHECK_OK(tree_check(&opt, &r, &w->err));
    CHECK_EQ(w->check_damages + w->check_warnings, 0);
    CHECK_EQ(r.checkpoint, w->result.checkpoint);
    CHECK_TRUE(rig_bytes_find(&w->disk, "/n.partial") == NULL);
}

/* Rebuilds; `missing` of the records and messages of before are not there. */
static void world_saves(struct world *w, const struct tree_rebuild_options *opt, size_t missing)
{
    CLEANUP(mem_freep) char *had = mem_strdup(w->after);
    CHECK_OK(world_rebuild(w, opt));
    world_check(w);
    world_dump(w, "/n", w->after);
    CHECK_EQ(lines(w->after) + missing, lines(had));
    CHECK_TRUE(missing > 0 || strcmp(w->after, had) == 0);
    const char *at = had; /* in the same order */
    for (const char *line = w->after; *line != 0; line = strchr(line, '\n') + 1) {
        size_t len = (size_t)(strchr(line, '\n') - line) + 1;
        while (strncmp(at, line, len) != 0) {
            CHECK_TRUE(*at != 0);
            at = strchr(at, '\n') + 1;
        }
    }
    memcpy(w->after, had, strlen(had) + 1);
    memcpy(w->file->at, w->golden, w->len);
}

/* ---- where things are ---- */

static uint64_t node_at(struct world *w, uint64_t block, uint32_t part, uint64_t *ret_part)
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
    *ret_part = part < n.header.partition_count ? tree_look_part_offset(&n, part) : 0;
    tree_look_node_fini(&n);
    tree_look_table_fini(&t);
    tree_look_close(&l);
    return at.offset;
}

static void spoil_part(struct world *w, uint64_t block, uint32_t part)
{
    uint64_t at = 0;
    node_at(w, block, part, &at);
    w->file->at[at + 3] ^= 1;
}
static void spoil_node(struct world *w, uint64_t block)
{
    uint64_t part = 0;
    w->file->at[node_at(w, block, 0, &part) + 50] ^= 1;
}
static void wipe(struct world *w, uint64_t offset)
{
    memset(w->file->at + offset, 0, TREE_UNIT);
}
static void wipe_supers(struct world *w)
{
    wipe(w, 0);
    wipe(w, TREE_SUPER_SECOND);
}
/* All units that begin like this. */
static size_t wipe_magic(struct world *w, const char *magic)
{
    size_t n = 0;
    for (uint64_t at = 0; at < w->len; at += TREE_UNIT) {
        if (memcmp(w->file->at + at, magic, 4) == 0) {
            wipe(w, at);
            n++;
        }
    }
    return n;
}

/* ---- tests ---- */

TEST(rebuild_of_a_sound_file_is_the_same)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_rebuild_options opt = options(w);
    world_saves(w, &opt, 0);
    CHECK_EQ(w->result.copied, 7);
    CHECK_EQ(w->result.mended + w->result.made + w->result.older + w->result.losses, 0);
    CHECK_EQ(w->doubts, 0);
    CHECK_EQ(w->result.pieces, 2);
    CHECK_EQ(w->result.checkpoint, 3);
    CHECK_EQ(w->result.applied_index, 1003);
    CHECK_TRUE(w->result.has_super);
    opt.older = true;
    CHECK_OK(world_rebuild(w, &opt));
    world_check(w);
    CHECK_EQ(w->result.checkpoint, 2);
    CHECK_EQ(w->result.pieces, 0);
    CHECK_EQ(w->result.left_out, 3);
    CHECK_EQ(w->result.left_out_index, 1003);
    CHECK_EQ(w->result.losses, 1);
}

/* What was committed between two checkpoints is lost with the newer one's superblock, and is told;
 * with the older one's nothing is. */
TEST(rebuild_from_the_older_checkpoint_says_what_is_missing)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_rebuild_options opt = options(w);
    for (unsigned how = 0; how < 2; how++) {
        uint64_t bad = how == 0 ? TREE_SUPER_SECOND + 40 : TREE_SUPER_SECOND;
        memset(w->file->at + bad, how == 0 ? 0xee : 0, how == 0 ? 1 : TREE_SUPER_BYTES);
        CHECK_OK(world_rebuild(w, &opt));
        world_check(w);
        CHECK_EQ(w->result.checkpoint, 2);
        CHECK_EQ(w->result.left_out, 3);
        CHECK_EQ(w->result.left_out_index, 0);
        CHECK_EQ(w->result.losses, 1);
        CHECK_TRUE(strstr(w->first,
                          "is of checkpoint 2, and what was committed behind index 100") != NULL);
        memcpy(w->file->at, w->golden, w->len);
    }
    wipe(w, 0);
    world_saves(w, &opt, 0);
    CHECK_EQ(w->result.checkpoint, 3);
    CHECK_EQ(w->result.losses + w->result.left_out, 0);
    w->file->at[TREE_SUPER_SECOND] ^= 1;
    memcpy(w->file->at + TREE_SUPER_SECOND, "VOIDTREE", 8); /* given up before, and told then */
    CHECK_OK(world_rebuild(w, &opt));
    CHECK_EQ(w->result.losses + w->result.left_out, 0);
}

TEST(rebuild_without_superblocks_finds_the_same)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_rebuild_options opt = options(w);
    wipe_supers(w);
    world_saves(w, &opt, 0);
    CHECK_EQ(w->result.copied, 7);
    CHECK_EQ(w->result.checkpoint, 3);
    CHECK_TRUE(!w->result.has_super && w->result.applied_index == 0 && w->result.losses == 0);
    /* Nor the table, with what was given. */
    wipe_supers(w);
    CHECK_EQ(wipe_magic(w, "BTTI"), 2);
    CHECK_TRUE(wipe_magic(w, "BTTB") > 0);
    opt.index = 1003;
    opt.owner = (const uint8_t *)RIG_IMAGE_OWNER;
    world_saves(w, &opt, 0);
    CHECK_EQ(w->result.copied, 7);
    CHECK_EQ(w->result.applied_index, 1003);
    CHECK_EQ(w->result.checkpoint, 3);
    /* Nor the lists: eight messages and a deleted range were in the memtable, and nobody knows that
     * block 5 was not finished when it was written again. */
    wipe_supers(w);
    wipe_magic(w, "BTTI");
    wipe_magic(w, "BTTB");
    wipe_magic(w, "BSGL");
    world_saves(w, &opt, 9 + 1);
    CHECK_EQ(w->result.pieces, 0);
    CHECK_EQ(w->result.checkpoint, 4);
    CHECK_EQ(w->doubts, 3);
}

TEST(rebuild_without_what_is_known_of_memtables)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_rebuild_options opt = options(w);
    CHECK_EQ(wipe_magic(w, "BTEX"), 1);
    world_saves(w, &opt, 0);
    CHECK_EQ(w->result.pieces, 2);
    wipe_supers(w);
    wipe_magic(w, "BTEX");
    world_saves(w, &opt, 0);
    CHECK_EQ(wipe_magic(w, "BSGL"), 1);
    world_saves(w, &opt, 9);
    CHECK_EQ(w->result.losses, 1);
}

TEST(rebuild_mends_nodes)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_rebuild_options opt = options(w);
    const struct {
        uint64_t block;
        uint32_t part;
        size_t lost;
    } parts[] = {{6, 0, 3}, {6, 1, 4}, {7, 1, 5}, {2, 0, 3}, {2, 1, 2},
                 {2, 2, 2}, {2, 3, 2}, {2, 4, 1}, {1, 0, 3}, {5, 2, 0}};
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        spoil_part(w, parts[i].block, parts[i].part);
        world_saves(w, &opt, parts[i].lost);
        CHECK_EQ(w->result.mended, 1);
        CHECK_EQ(w->result.copied, 6);
        CHECK_EQ(w->told, parts[i].lost);
    }
    for (uint32_t i = 0; i < 2; i++) {
        spoil_part(w, 7, i);
    }
    for (uint32_t i = 0; i < 5; i++) {
        spoil_part(w, 2, i);
    }
    world_saves(w, &opt, 7 + 9 + 1);
    CHECK_EQ(w->result.mended, 2);
}

TEST(rebuild_uses_the_older_state_of_a_leaf)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_rebuild_options opt = options(w);
    spoil_node(w, 4);
    CHECK_OK(world_rebuild(w, &opt));
    world_check(w);
    CHECK_EQ(w->result.older, 1);
    CHECK_EQ(w->result.losses, 1);
    world_dump(w, "/n", w->after);
    CHECK_EQ(lines(w->after), 25 + 22 + 1); /* e1 was there before */
    CHECK_TRUE(strstr(w->first, "as it was at checkpoint 2") != NULL);
}

TEST(rebuild_fills_holes)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_rebuild_options opt = options(w);
    spoil_node(w, 7);
    world_saves(w, &opt, 7);
    CHECK_EQ(w->result.made, 1);
    CHECK_EQ(w->result.losses, 1);
    spoil_node(w, 3); /* had no messages: its children are found again */
    world_saves(w, &opt, 0);
    CHECK_EQ(w->result.made, 1);
    CHECK_EQ(w->result.copied, 6);
    spoil_node(w, 2);
    world_saves(w, &opt, 10);
    spoil_node(w, 1);
    world_saves(w, &opt, 3);
    spoil_node(w, 1);
    spoil_node(w, 3);
    spoil_node(w, 6);
    world_saves(w, &opt, 3 + 7);
    CHECK_EQ(w->result.made, 3);
    for (uint64_t block = 1; block <= 7; block++) { /* the older states are left, of leaves */
        spoil_node(w, block);
    }
    CHECK_OK(world_rebuild(w, &opt));
    world_check(w);
    CHECK_EQ(w->result.older, 1);
    CHECK_EQ(w->result.copied, 1);
}

TEST(rebuild_without_table_or_root)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_rebuild_options opt = options(w);
    spoil_node(w, 1);
    wipe_supers(w);
    wipe_magic(w, "BTTI");
    world_saves(w, &opt, 3); /* its messages */
    CHECK_EQ(w->result.made, 1);
}

TEST(rebuild_mends_segments)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_rebuild_options opt = options(w);
    uint64_t at[2] = {0};
    size_t n = 0;
    for (uint64_t i = 0; i < w->len; i += TREE_UNIT) {
        if (memcmp(w->golden + i, "BTMS", 4) == 0) {
            at[n++] = i;
        }
    }
    CHECK_EQ(n, 2);
    w->file->at[at[0] + TREE_SEGMENT_HEADER_BYTES + 5] ^= 1; /* its first block: one message */
    world_saves(w, &opt, 1);
    CHECK_EQ(w->told, 1);
    CHECK_EQ(w->result.pieces, 2);
    CHECK_EQ(w->result.pieces_mended, 1);
    w->file->at[at[0] + 10] ^= 1;
    world_saves(w, &opt, 4);
    CHECK_EQ(w->result.pieces, 1);
    CHECK_EQ(w->result.pieces_lost, 1);
    w->file->at[at[0] + 10] ^= 1;
    w->file->at[at[1] + 10] ^= 1;
    world_saves(w, &opt, 9);
    CHECK_EQ(w->result.pieces, 0);
}

/* Behind good checksums: one child twice, another one where its fences do not belong. */
TEST(rebuild_of_a_file_that_contradicts_itself)
{
    const enum rig_wrong wrong[] = {RIG_WRONG_CHILD, RIG_WRONG_FENCES};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        CLEANUP(world_freep) struct world *w = world_new();
        struct tree_rebuild_options opt = options(w);
        mem_freep(&w->golden);
        w->golden = rig_image_make(wrong[i], &w->len);
        rig_bytes_put(&w->disk, "/f", w->golden, w->len);
        CHECK_OK(world_rebuild(w, &opt));
        world_check(w);
        CHECK_EQ(w->result.made, 1);
        CHECK_EQ(w->result.losses, 1);
        world_dump(w, "/n", w->after);
        CHECK_EQ(lines(w->after), 3 + 10 + 9 + 25 - 7);
    }
}

/* Whatever is damaged: a sound file comes of it, and what is missing was told. */
TEST(rebuild_survives_anything)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_rebuild_options opt = options(w);
    size_t made = 0;
    struct rand r;
    rand_seed(&r, testing_seed());
    for (unsigned round = 0; round < 300; round++) {
        unsigned count = 1 + (unsigned)rand_below(&r, 4);
        bool flips = rand_below(&r, 2) == 0;
        for (unsigned i = 0; i < count; i++) {
            uint64_t unit = rand_below(&r, w->len / TREE_UNIT);
            uint8_t *to = w->file->at + unit * TREE_UNIT;
            if (flips) {
                to[rand_below(&r, 600)] ^= (uint8_t)(1u << rand_below(&r, 8));
            } else {
                uint64_t from = rand_below(&r, w->len / TREE_UNIT);
                memcpy(to, w->golden + from * TREE_UNIT, TREE_UNIT);
            }
        }
        int rc = world_rebuild(w, &opt);
        CHECK_TRUE(rc == 0 || err_is(rc, ERR_corrupt));
        if (rc == 0) {
            char dump[TEXT_MAX];
            world_check(w);
            world_dump(w, "/n", dump);
            bool guess = !w->result.has_super || w->result.checkpoint != 3;
            bool same = strcmp(dump, w->after) == 0;
            CHECK_TRUE(guess || w->result.losses > 0 || w->doubts > 0 || same);
            made++;
        } else {
            CHECK_TRUE(rig_bytes_find(&w->disk, "/n") == NULL &&
                       rig_bytes_find(&w->disk, "/n.partial") == NULL && w->err.text[0] != 0);
        }
        memcpy(w->file->at, w->golden, w->len);
    }
    CHECK_TRUE(made > 200);
}

TEST(rebuild_leaves_nothing_behind_when_it_fails)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_rebuild_options opt = options(w);
    w->disk.write_rc = -ENOSPC;
    CHECK_RC(world_rebuild(w, &opt), ENOSPC);
    CHECK_TRUE(rig_bytes_find(&w->disk, "/n.partial") == NULL);
    w->disk.write_rc = 0;
    rig_bytes_put(&w->disk, "/other", "x", 1);
    opt.out = "/other";
    CHECK_RC(world_rebuild(w, &opt), EEXIST);
    CHECK_EQ(rig_bytes_find(&w->disk, "/other")->len, 1);
    opt.out = "/n";
    memset(w->file->at, 0, w->len);
    CHECK_RC(world_rebuild(w, &opt), ERR_bad_magic);
    w->file->len = 0;
    CHECK_RC(world_rebuild(w, &opt), ERR_bad_magic);
}

TEST(rebuild_runs_out_of_memory)
{
    CLEANUP(world_freep) struct world *w = world_new();
    struct tree_rebuild_options opt = options(w);
    spoil_part(w, 2, 3);
    spoil_node(w, 3);
    int rc = -ENOMEM;
    uint64_t nth = 0;
    while (rc == -ENOMEM) {
        struct disk_file *old = rig_bytes_find(&w->disk, "/n");
        CHECK_TRUE(old == NULL);
        mem_fail_at(++nth);
        rc = world_rebuild(w, &opt);
        mem_fail_at(0);
    }
    CHECK_OK(rc);
    CHECK_TRUE(nth > 100);
    world_check(w);
}
