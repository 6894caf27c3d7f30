/*
 * tree/rig_golden_priv.h -- for tests only: the files of test/corpus/tree_golden, and what has to
 * be in them.
 *
 * NAME of a tree: units of 4 KiB that are not all zero, each as number (u32), length without the
 * zeros at its end (u32), bytes. NAME of a stream: its frames, each as length (u32), bytes.
 */
#pragma once

#include "tree/rig_image_file_priv.h"
#include "tree/rig_life_priv.h"
#include "tree/rig_life_read_priv.h"

#include <xxhash.h>

#include "wire/wire.h"

#define RIG_GOLDEN_SEED 42u
#define RIG_GOLDEN_STREAM "v1-stream" /* of the newest checkpoint of: */
#define RIG_GOLDEN_STREAM_OF "v1-pieces"

/* A state: index, records, digest of all keys and values. */
struct rig_state {
    uint64_t index, records, digest;
};
struct rig_golden {
    const char *name;
    enum tree_codec_id codec;
    uint64_t first, last; /* commits up to the two checkpoints */
    struct rig_state older, newest;
    unsigned cold;                      /* checkpoints until leaves get zstd; 0: as usual */
    size_t memtable_bytes, piece_bytes; /* 0: small; in the file: one piece */
    uint32_t leaf_raw;                  /* 0: 1024 */
    unsigned saves; /* so many checkpoints more before the two, and one without a codec first */
};

static const struct rig_golden rig_golden[] = {
    {.name = "v1-plain",
     .codec = TREE_CODEC_NONE,
     .first = 12,
     .last = 17,
     .older = {12, 117, UINT64_C(0xaa497d9bbc1dc5af)},
     .newest = {17, 170, UINT64_C(0x4fd1775d8a780c1b)}},
    {.name = "v1-lz4",
     .codec = TREE_CODEC_LZ4,
     .first = 30,
     .last = 38,
     .older = {30, 148, UINT64_C(0xf139e869f2305054)},
     .newest = {38, 231, UINT64_C(0xeef1ae039f6507c5)}},
    {.name = "v1-zstd",
     .codec = TREE_CODEC_ZSTD,
     .first = 30,
     .last = 34,
     .older = {30, 148, UINT64_C(0xf139e869f2305054)},
     .newest = {34, 162, UINT64_C(0x3497464127a787f1)}},
    {.name = "v1-kept",
     .codec = TREE_CODEC_LZ4,
     .first = 30,
     .last = 46,
     .older = {30, 148, UINT64_C(0xf139e869f2305054)},
     .newest = {46, 247, UINT64_C(0x4973b662c7e1a397)},
     .cold = 1,
     .memtable_bytes = 9u << 10,
     .piece_bytes = 4096},
    {.name = "v1-codecs",
     .codec = TREE_CODEC_LZ4,
     .first = 50,
     .last = 52,
     .older = {50, 282, UINT64_C(0x5e25cf4b55981a43)},
     .newest = {52, 282, UINT64_C(0x795ae952ec23cae9)},
     .cold = 1,
     .saves = 6,
     .leaf_raw = 4096},
    {.name = RIG_GOLDEN_STREAM_OF,
     .codec = TREE_CODEC_LZ4,
     .first = 30,
     .last = 50,
     .older = {30, 148, UINT64_C(0xf139e869f2305054)},
     .newest = {50, 282, UINT64_C(0x5e25cf4b55981a43)},
     .memtable_bytes = 48u << 10,
     .piece_bytes = 4096},
};

static inline const struct rig_golden *rig_golden_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(rig_golden); i++) {
        if (strcmp(rig_golden[i].name, name) == 0) {
            return &rig_golden[i];
        }
    }
    CHECK(false);
    return NULL;
}

static inline char *rig_golden_path(const char *name)
{
    char *path = mem_printf("%s/tree_golden/%s", ODFS_CORPUS, name);
    CHECK(path != NULL);
    return path;
}

static inline void rig_golden_begin(struct rig_life *l, struct rig_image_file *f,
                                    const struct rig_golden *g)
{
    rig_life_init(l, RIG_GOLDEN_SEED);
    rig_image_file_init(f, l);
    l->rig.opt.memtable_bytes = g->memtable_bytes > 0 ? g->memtable_bytes : 2u << 10;
    l->rig.opt.piece_bytes = g->piece_bytes > 0 ? g->piece_bytes : l->rig.opt.piece_bytes;
    l->rig.opt.cold_checkpoints = g->cold > 0 ? g->cold : l->rig.opt.cold_checkpoints;
    l->rig.opt.shape = (struct tree_shape){.leaf_raw = g->leaf_raw > 0 ? g->leaf_raw : 1024,
                                           .basement_raw = 256,
                                           .internal_raw = 2048,
                                           .part_raw = 512,
                                           .fanout = 4,
                                           .runs_max = 3,
                                           .filter_bits = 10,
                                           .codec = g->codec};
    rig_life_kill(l, false);
}

static inline void rig_golden_end(struct rig_life *l, struct rig_image_file *f)
{
    rig_image_file_fini(f);
    rig_life_fini(l);
}

static inline void rig_golden_load(const struct rig_golden *g, struct rig_image_file *f)
{
    CLEANUP(mem_freep) char *path = rig_golden_path(g->name);
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

/* Of all that is there, in order; 0, or a failure to read. */
static inline int rig_state_read(struct rig_life *l, struct rig_state *ret)
{
    *ret = (struct rig_state){.index = l->rig.found.index};
    l->back = false;
    l->first = true;
    rig_life_run(l, rig_life_snapshot_in);
    CHECK_OK(l->rig.rc);
    rig_life_run(l, rig_life_iter_in);
    int rc = l->rig.rc;
    while (rc == 0 || rc == 1) {
        rc = rig_life_fetching(l, rig_life_move_in);
        if (rc != 1) {
            break;
        }
        uint64_t part[3] = {ret->digest, XXH3_64bits(l->it->key.at, l->it->key.len),
                            XXH3_64bits(l->it->value.at, l->it->value.len)};
        ret->digest = XXH3_64bits(part, sizeof part);
        ret->records++;
        l->first = false;
    }
    if (l->it != NULL) {
        rig_life_run(l, rig_life_iter_free_in);
    }
    rig_tree_release(&l->rig);
    rig_life_run(l, rig_life_snapshot_free_in);
    return rc;
}

static inline bool rig_state_same(const struct rig_state *a, const struct rig_state *b)
{
    return a->index == b->index && a->records == b->records && a->digest == b->digest;
}
