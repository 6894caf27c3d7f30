/*
 * tree/tree_golden_test.c -- files that were written once and are kept: today's code must read them
 * as they were meant, so that nobody changes the format without noticing.
 *
 * test/corpus/tree_golden/NAME: units of 4 KiB that are not all zero, each as number (u32), length
 * without the zeros at its end (u32), bytes. With OPENDFS_GOLDEN=NAME in the environment that file
 * is made anew, and what belongs into the table below is printed.
 */
#include "tree/check.h"
#include "tree/rig_image_file_priv.h"
#include "tree/rig_life_priv.h"
#include "tree/rig_life_read_priv.h"

#include <stdlib.h>
#include <xxhash.h>

#include "wire/wire.h"

#define GOLDEN_MAX (96u << 10)
#define SUPER_UNIT 16u /* the other superblock */

/* A state: index, records, digest of all keys and values. */
struct state {
    uint64_t index, records, digest;
};
struct golden {
    const char *name;
    enum tree_codec_id codec;
    uint64_t first, last; /* commits up to the two checkpoints */
    struct state older, newest;
    unsigned cold;                      /* checkpoints until leaves get zstd; 0: as usual */
    size_t memtable_bytes, piece_bytes; /* 0: small; in the file: one piece */
};

static const struct golden golden[] = {
    {"v1-plain",
     TREE_CODEC_NONE,
     12,
     17,
     {12, 117, UINT64_C(0xaa497d9bbc1dc5af)},
     {17, 170, UINT64_C(0x4fd1775d8a780c1b)},
     0,
     0,
     0},
    {"v1-lz4",
     TREE_CODEC_LZ4,
     30,
     38,
     {30, 148, UINT64_C(0xf139e869f2305054)},
     {38, 231, UINT64_C(0xeef1ae039f6507c5)},
     0,
     0,
     0},
    {"v1-zstd",
     TREE_CODEC_ZSTD,
     30,
     34,
     {30, 148, UINT64_C(0xf139e869f2305054)},
     {34, 162, UINT64_C(0x3497464127a787f1)},
     0,
     0,
     0},
    {"v1-kept",
     TREE_CODEC_LZ4,
     30,
     46,
     {30, 148, UINT64_C(0xf139e869f2305054)},
     {46, 247, UINT64_C(0x4973b662c7e1a397)},
     1,
     9u << 10,
     4096},
};

static char *golden_path(const struct golden *g)
{
    char *path = mem_printf("%s/tree_golden/%s", ODFS_CORPUS, g->name);
    CHECK(path != NULL);
    return path;
}

static void begin(struct rig_life *l, struct rig_image_file *f, const struct golden *g)
{
    rig_life_init(l, 42);
    rig_image_file_init(f, l);
    l->rig.opt.memtable_bytes = g->memtable_bytes > 0 ? g->memtable_bytes : 2u << 10;
    l->rig.opt.piece_bytes = g->piece_bytes > 0 ? g->piece_bytes : l->rig.opt.piece_bytes;
    l->rig.opt.cold_checkpoints = g->cold > 0 ? g->cold : l->rig.opt.cold_checkpoints;
    l->rig.opt.shape = (struct tree_shape){.leaf_raw = 1024,
                                           .basement_raw = 256,
                                           .internal_raw = 2048,
                                           .part_raw = 512,
                                           .fanout = 4,
                                           .runs_max = 3,
                                           .filter_bits = 10,
                                           .codec = g->codec};
    rig_life_kill(l, false);
}

static void end(struct rig_life *l, struct rig_image_file *f)
{
    rig_image_file_fini(f);
    rig_life_fini(l);
}

/* ---- writing ---- */

static void golden_save(const struct golden *g, const struct rig_image_file *f)
{
    CLEANUP(mem_freep) char *path = golden_path(g);
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

static void golden_write(const struct golden *g)
{
    struct rig_life l;
    struct rig_image_file f;
    begin(&l, &f, g);
    CHECK_OK(rig_life_open(&l));
    rig_life_commit_to(&l, g->first - 4);
    loop_sim_enter(l.rig.machine.loop, settle_in, &l.rig);
    CHECK_TRUE(testing_machine_until(&l.rig.machine, rig_tree_over, &l.rig, 600000));
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
    end(&l, &f);
}

/* ---- reading ---- */

static void golden_load(const struct golden *g, struct rig_image_file *f)
{
    CLEANUP(mem_freep) char *path = golden_path(g);
    FILE *in = fopen(path, "rb");
    uint8_t head[8];
    CHECK_TRUE(in != NULL);
    memset(f->bytes, 0, RIG_IMAGE_BYTES);
    while (fread(head, 1, 8, in) == 8) {
        uint32_t unit = wire_load_u32(head), len = wire_load_u32(head + 4);
        CHECK_TRUE(unit < RIG_IMAGE_BYTES / RIG_IMAGE_UNIT && len <= RIG_IMAGE_UNIT);
        CHECK_TRUE(fread(f->bytes + (size_t)unit * RIG_IMAGE_UNIT, 1, len, in) == len);
    }
    (void)fclose(in);
    rig_image_file_put(f, 0, RIG_IMAGE_BYTES);
}

/* Of all that is there, in order. */
static struct state state_read(struct rig_life *l)
{
    struct state s = {.index = l->rig.found.index};
    l->back = false;
    l->first = true;
    rig_life_run(l, rig_life_snapshot_in);
    CHECK_OK(l->rig.rc);
    rig_life_run(l, rig_life_iter_in);
    CHECK_OK(l->rig.rc);
    while (rig_life_fetching(l, rig_life_move_in) == 1) {
        uint64_t part[3] = {s.digest, XXH3_64bits(l->it->key.at, l->it->key.len),
                            XXH3_64bits(l->it->value.at, l->it->value.len)};
        s.digest = XXH3_64bits(part, sizeof part);
        s.records++;
        l->first = false;
    }
    CHECK_EQ(l->rig.rc, 0);
    rig_life_run(l, rig_life_iter_free_in);
    rig_tree_release(&l->rig);
    rig_life_run(l, rig_life_snapshot_free_in);
    return s;
}

static void check_state(const char *name, const struct state *is, const struct state *expected)
{
    if (memcmp(is, expected, sizeof *is) != 0) {
        fprintf(stderr, "%s: {%llu, %llu, UINT64_C(0x%llx)}\n", name, (unsigned long long)is->index,
                (unsigned long long)is->records, (unsigned long long)is->digest);
    }
    CHECK_EQ(is->index, expected->index);
    CHECK_EQ(is->records, expected->records);
    CHECK_TRUE(is->digest == expected->digest);
}

static void check_sound_in(void *ctx)
{
    struct rig_life *l = ctx;
    for (unsigned older = 0; older < 2; older++) {
        struct tree_check_result result = {0};
        struct tree_check_options opt = {.disk = l->rig.env.disk,
                                         .path = RIG_PATH,
                                         .level = TREE_CHECK_LEVEL_MAX,
                                         .older = older == 1};
        CHECK_OK(tree_check(&opt, &result, NULL));
        CHECK_EQ(result.damages, 0);
        CHECK_EQ(result.warnings, 0);
    }
}

TEST(files_of_format_1)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): one thread */
    const char *how = getenv("OPENDFS_GOLDEN");

    for (size_t i = 0; i < ARRAY_COUNT(golden); i++) {
        const struct golden *g = &golden[i];
        struct rig_life l;
        struct rig_image_file f;
        bool write = how != NULL && strcmp(how, g->name) == 0;
        if (write) {
            golden_write(g);
        }
        begin(&l, &f, g);
        golden_load(g, &f);
        CHECK_OK(rig_life_open(&l));
        CHECK_TRUE(!l.rig.found.fell_back);
        struct state is = state_read(&l);
        rig_life_run(&l, check_sound_in);
        rig_life_kill(&l, false);
        /* Of the two superblocks the one that is newer goes. */
        uint64_t k[2] = {wire_load_u64(f.bytes + 32),
                         wire_load_u64(f.bytes + (size_t)SUPER_UNIT * RIG_IMAGE_UNIT + 32)};
        f.bytes[k[0] > k[1] ? 40 : (size_t)SUPER_UNIT * RIG_IMAGE_UNIT + 40] ^= 1;
        rig_image_file_put(&f, 0, RIG_IMAGE_BYTES);
        CHECK_OK(rig_life_open(&l));
        struct state was = state_read(&l);
        rig_life_kill(&l, false);
        end(&l, &f);
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
