/*
 * tree/tree_golden_test.c -- files that were written once and are kept: today's code must read them
 * as they were meant, so that nobody changes the format without noticing.
 *
 * With OPENDFS_GOLDEN=NAME in the environment that file of test/corpus/tree_golden is made anew,
 * and what belongs into the table of rig_golden_priv.h is printed. The stream is made of the file
 * that it is of, which comes first.
 */
#include "tree/check.h"
#include "tree/look.h"
#include "tree/rig_golden_priv.h"
#include "tree/rig_golden_stream_priv.h"

#include <stdlib.h>

#define GOLDEN_MAX (96u << 10)
#define SUPER_UNIT 16u /* the other superblock */

static bool is_to_be_written(const char *name)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread */
    const char *how = getenv("OPENDFS_GOLDEN");
    return how != NULL && strcmp(how, name) == 0;
}

/* ---- writing ---- */

static void golden_save(const struct rig_golden *g, const struct rig_image_file *f)
{
    CLEANUP(mem_freep) char *path = rig_golden_path(g->name);
    FILE *out = fopen(path, "wb");
    CHECK(out != NULL);
    for (uint32_t unit = 0; unit < RIG_IMAGE_BYTES / RIG_IMAGE_UNIT; unit++) {
        const uint8_t *b = f->bytes + (size_t)unit * RIG_IMAGE_UNIT;
        uint32_t len = RIG_IMAGE_UNIT;
        uint8_t head[8];
        while (len > 0 && b[len - 1] == 0) {
            len--;
        }
        wire_store_u32(head, unit);
        wire_store_u32(head + 4, len);
        CHECK(len == 0 || (fwrite(head, 1, 8, out) == 8 && fwrite(b, 1, len, out) == len));
    }
    CHECK(ftell(out) <= (long)GOLDEN_MAX);
    CHECK(fclose(out) == 0);
}

static void settled(struct tree_settle *s, int rc)
{
    struct rig_tree *r = container_of(s, struct rig_tree, settle);
    r->rc = rc;
    r->over = true;
}

static void settle_in(void *ctx)
{
    struct rig_tree *r = ctx;
    r->over = false;
    r->settle.done = settled;
    tree_settle(r->kv, &r->settle);
}

/* Nothing is only in memtables. */
static void settle(struct rig_life *l)
{
    loop_sim_enter(l->rig.machine.loop, settle_in, &l->rig);
    CHECK_TRUE(testing_machine_until(&l->rig.machine, rig_tree_over, &l->rig, 600000));
}

/* What is there first is not packed at all. */
static void golden_write_plain(struct rig_life *l, const struct rig_golden *g)
{
    l->rig.opt.shape.codec = TREE_CODEC_NONE;
    CHECK_OK(rig_life_open(l));
    rig_life_commit_to(l, g->first - 5 - g->saves);
    settle(l);
    CHECK_OK(rig_life_save(l));
    rig_life_kill(l, false);
    l->rig.opt.shape.codec = g->codec;
}

static void golden_write(const struct rig_golden *g)
{
    struct rig_life l;
    struct rig_image_file f;
    rig_golden_begin(&l, &f, g);
    if (g->saves > 0) {
        golden_write_plain(&l, g);
    }
    CHECK_OK(rig_life_open(&l));
    for (unsigned left = g->saves; left > 0; left--) {
        rig_life_commit_to(&l, g->first - 4 - left);
        settle(&l);
        CHECK_OK(rig_life_save(&l));
    }
    rig_life_commit_to(&l, g->first - 4);
    settle(&l);
    rig_life_commit_to(&l, g->first);
    CHECK_OK(rig_life_save(&l));
    rig_life_commit_to(&l, g->last);
    CHECK_OK(rig_life_save(&l));
    struct tree_statistics s;
    tree_statistics(l.rig.kv, &s);
    CHECK_TRUE(s.height >= 2);
    rig_life_kill(&l, false);
    rig_image_file_take(&f);
    golden_save(g, &f);
    rig_golden_end(&l, &f);
}

/* ---- reading ---- */

struct kinds { /* of what is in a file */
    struct disk *disk;
    uint64_t parts[TREE_CODEC_ZSTD + 1]; /* of leaves */
    uint64_t pieces, pieces_most;        /* of memtables; of one of them */
};

static void kinds_of_node(struct kinds *k, struct tree_look *l, const struct tree_look_node *n)
{
    for (uint32_t i = 0; n->header.level == 0 && i < n->header.partition_count; i++) {
        uint8_t codec = 0;
        CHECK_OK(tree_look_read(l, tree_look_part_offset(n, i), &codec, 1));
        CHECK_TRUE(codec < ARRAY_COUNT(k->parts));
        k->parts[codec] += n->header.partition[i].kind == TREE_PARTITION_LEAF ? 1 : 0;
    }
}

static void kinds_in(void *ctx)
{
    struct kinds *k = ctx;
    struct tree_look l;
    struct tree_look_table t;
    const struct tree_super *super = NULL;
    CHECK_OK(tree_look_open(k->disk, RIG_PATH, &l, NULL));
    CHECK_OK(tree_look_choose(&l, false, &super, NULL));
    CHECK_OK(tree_look_table(&l, super, &t));
    for (uint64_t block = 1; block < tree_look_blocks(&t); block++) {
        struct tree_btt_entry e;
        struct tree_look_node n;
        tree_look_entry(&t, block, &e);
        if (e.kind == TREE_BTT_NODE && e.units > 0) {
            struct tree_look_at at = tree_look_at_entry(&t, block, &e);
            CHECK_OK(tree_look_node(&l, &at, &n, NULL));
            kinds_of_node(k, &l, &n);
            tree_look_node_fini(&n);
        }
    }
    k->pieces = t.piece_count;
    for (size_t i = 0; i < t.piece_count; i++) { /* its owner: memtable, piece, pieces */
        k->pieces_most = base_max(k->pieces_most, wire_load_u32(t.piece[i].owner + 8));
    }
    tree_look_table_fini(&t);
    tree_look_close(&l);
}

/* What each file is there for. */
static void check_kinds(struct rig_life *l, const struct rig_golden *g)
{
    struct kinds k = {.disk = l->rig.env.disk};
    loop_sim_enter(l->rig.machine.loop, kinds_in, &k);
    fprintf(stderr, "%s: leaves: %llu stored, %llu LZ4, %llu zstd; %llu pieces, %llu of one\n",
            g->name, (unsigned long long)k.parts[0], (unsigned long long)k.parts[1],
            (unsigned long long)k.parts[2], (unsigned long long)k.pieces,
            (unsigned long long)k.pieces_most);
    if (strcmp(g->name, "v1-codecs") == 0) {
        CHECK_TRUE(k.parts[TREE_CODEC_NONE] > 0 && k.parts[TREE_CODEC_LZ4] > 0 &&
                   k.parts[TREE_CODEC_ZSTD] > 0);
    } else if (strcmp(g->name, "v1-pieces") == 0) {
        CHECK_TRUE(k.pieces_most >= 3 && k.pieces >= k.pieces_most);
    } else if (strcmp(g->name, "v1-kept") == 0) {
        CHECK_TRUE(k.pieces >= 4);
    }
}

static void check_state(const char *name, const struct rig_state *is,
                        const struct rig_state *expected)
{
    if (!rig_state_same(is, expected)) {
        fprintf(stderr, "%s: {%llu, %llu, UINT64_C(0x%llx)}\n", name, (unsigned long long)is->index,
                (unsigned long long)is->records, (unsigned long long)is->digest);
    }
    CHECK_EQ(is->index, expected->index);
    CHECK_EQ(is->records, expected->records);
    CHECK_TRUE(is->digest == expected->digest);
}

static void found(void *arg, const struct tree_finding *f)
{
    (void)arg;
    fprintf(stderr, "%s, %s: %s\n", tree_finding_severity(f), f->code, f->text);
}

static void check_sound_in(void *ctx)
{
    struct rig_life *l = ctx;
    for (unsigned older = 0; older < 2; older++) {
        struct tree_check_result result = {0};
        struct tree_check_options opt = {.disk = l->rig.env.disk,
                                         .path = RIG_PATH,
                                         .level = TREE_CHECK_LEVEL_MAX,
                                         .older = older == 1,
                                         .found = found};
        CHECK_OK(tree_check(&opt, &result, NULL));
        CHECK_EQ(result.damages, 0);
        CHECK_EQ(result.warnings, 0);
    }
}

static struct rig_state state_now(struct rig_life *l)
{
    struct rig_state s;
    CHECK_OK(rig_state_read(l, &s));
    return s;
}

TEST(files_of_format_1)
{
    for (size_t i = 0; i < ARRAY_COUNT(rig_golden); i++) {
        const struct rig_golden *g = &rig_golden[i];
        struct rig_life l;
        struct rig_image_file f;
        bool write = is_to_be_written(g->name);
        if (write) {
            golden_write(g);
        }
        rig_golden_begin(&l, &f, g);
        rig_golden_load(g, &f);
        CHECK_OK(rig_life_open(&l));
        CHECK_TRUE(!l.rig.found.fell_back);
        struct rig_state is = state_now(&l);
        rig_life_run(&l, check_sound_in);
        check_kinds(&l, g);
        rig_life_kill(&l, false);
        /* Of the two superblocks the one that is newer goes. */
        uint64_t k[2] = {wire_load_u64(f.bytes + 32),
                         wire_load_u64(f.bytes + (size_t)SUPER_UNIT * RIG_IMAGE_UNIT + 32)};
        f.bytes[k[0] > k[1] ? 40 : (size_t)SUPER_UNIT * RIG_IMAGE_UNIT + 40] ^= 1;
        rig_image_file_put(&f, 0, RIG_IMAGE_BYTES);
        CHECK_OK(rig_life_open(&l));
        struct rig_state was = state_now(&l);
        rig_life_kill(&l, false);
        rig_golden_end(&l, &f);
        if (write) {
            fprintf(stderr, "%s: {%llu, %llu, UINT64_C(0x%llx)}, {%llu, %llu, UINT64_C(0x%llx)}\n",
                    g->name, (unsigned long long)was.index, (unsigned long long)was.records,
                    (unsigned long long)was.digest, (unsigned long long)is.index,
                    (unsigned long long)is.records, (unsigned long long)is.digest);
        } else {
            check_state(g->name, &was, &g->older);
            check_state(g->name, &is, &g->newest);
        }
    }
}

/* ---- the stream ---- */

static void check_copy_in(void *ctx)
{
    struct rig_golden_stream *s = ctx;
    struct tree_check_result result = {0};
    struct tree_check_options opt = {.disk = s->life.rig.env.disk,
                                     .path = RIG_COPY,
                                     .level = TREE_CHECK_LEVEL_MAX,
                                     .found = found};
    CHECK_OK(tree_check(&opt, &result, NULL));
    CHECK_EQ(result.damages, 0);
    CHECK_EQ(result.warnings, 0);
}

/* Whoever goes on with a stream of an older sender's needs the same frames: there is one way only
 * to cut a checkpoint. */
TEST(todays_sender_makes_the_same_stream)
{
    struct rig_golden_stream s;
    struct rig_frames kept;
    rig_golden_stream_begin(&s);
    rig_golden_stream_make(&s);
    if (is_to_be_written(RIG_GOLDEN_STREAM)) {
        rig_golden_stream_save(&s.frames);
    }
    rig_golden_stream_load(&kept);
    CHECK_EQ(s.frames.count, kept.count);
    CHECK_TRUE(kept.count > 10);
    for (size_t i = 0; i < kept.count; i++) {
        CHECK_EQ(s.frames.len[i], kept.len[i]);
        CHECK_BYTES(s.frames.frame[i], kept.frame[i], kept.len[i]);
    }
    rig_frames_fini(&kept);
    rig_golden_stream_end(&s);
}

TEST(a_stream_of_format_1_is_received)
{
    struct rig_golden_stream s;
    rig_golden_stream_begin(&s);
    rig_golden_stream_load(&s.frames);
    rig_golden_stream_open(&s);
    for (size_t i = 0; i < s.frames.count; i++) {
        rig_golden_stream_put(&s, i);
    }
    loop_sim_enter(s.life.rig.machine.loop, check_copy_in, &s);
    rig_golden_stream_check(&s);
    rig_golden_stream_end(&s);
}
