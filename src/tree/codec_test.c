/* tree/codec_test.c -- what was packed comes back; what is damaged is an error, never an overrun.
 */
#include "tree/codec.h"

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"

#include <string.h>

static const struct tree_codec_options both = {.zstd_level = 1};
static const enum tree_codec_id ids[] = {TREE_CODEC_NONE, TREE_CODEC_LZ4, TREE_CODEC_ZSTD};

/* Something that shrinks: words of few letters. */
static void fill(struct rand *r, uint8_t *raw, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        raw[i] = (uint8_t)('a' + rand_below(r, 4));
    }
}

TEST_TORTURE(codec_gives_back_what_it_packed)
{
    struct tree_codec c;
    struct rand r;
    rand_seed(&r, testing_seed());
    TRY(tree_codec_init(&c, &both));
    uint8_t *raw = mem_alloc(1u << 16), *out = mem_alloc((1u << 16) + 1),
            *back = mem_alloc(1u << 16);
    bool have = raw != NULL && out != NULL && back != NULL;
    for (unsigned i = 0; have && i < 60; i++) {
        size_t len = i < 30 ? i / 3 + 1 : (size_t)rand_range(&r, 1, 1u << 16);
        fill(&r, raw, len);
        size_t packed = tree_codec_pack(&c, ids[i % 3], raw, len, out);
        CHECK_TRUE(packed <= tree_codec_bound(len));
        CHECK_TRUE(len < 1000 || ids[i % 3] == TREE_CODEC_NONE || packed < len / 4 * 3);
        CHECK_OK(tree_codec_unpack(&c, out, packed, back, len));
        CHECK_BYTES(back, raw, len);
    }
    mem_free(raw);
    mem_free(out);
    mem_free(back);
    tree_codec_fini(&c);
    TRY(have ? 0 : -ENOMEM);
}

TEST(codec_packs_the_largest_partition_at_every_level)
{
    struct rand r;
    rand_seed(&r, 1);
    uint8_t *raw = mem_alloc(TREE_RAW_MAX), *out = mem_alloc(tree_codec_bound(TREE_RAW_MAX));
    uint8_t *back = mem_alloc(TREE_RAW_MAX);
    CHECK_TRUE(raw != NULL && out != NULL && back != NULL);
    fill(&r, raw, TREE_RAW_MAX / 64);
    for (size_t i = 1; i < 64; i++) {
        memcpy(raw + i * (TREE_RAW_MAX / 64), raw, TREE_RAW_MAX / 64);
    }
    for (int level = 1; level <= TREE_CODEC_ZSTD_LEVEL_MAX; level += 4) {
        struct tree_codec c;
        const struct tree_codec_options opt = {.zstd_level = level, .lz4_acceleration = level};
        CHECK_OK(tree_codec_init(&c, &opt));
        CHECK_TRUE(tree_codec_memory(&c) < 64u << 20);
        for (size_t i = 1; i < ARRAY_COUNT(ids); i++) {
            size_t packed = tree_codec_pack(&c, ids[i], raw, TREE_RAW_MAX, out);
            CHECK_EQ(out[0], ids[i]);
            CHECK_OK(tree_codec_unpack(&c, out, packed, back, TREE_RAW_MAX));
            CHECK_EQ(memcmp(back, raw, TREE_RAW_MAX), 0);
        }
        tree_codec_fini(&c);
    }
    mem_free(raw);
    mem_free(out);
    mem_free(back);
}

TEST(codec_keeps_as_it_is_what_does_not_shrink)
{
    struct tree_codec c;
    struct rand r;
    uint8_t raw[512], out[513];
    rand_seed(&r, testing_seed());
    rand_bytes(&r, raw, sizeof raw);
    CHECK_OK(tree_codec_init(&c, &both));
    for (size_t i = 0; i < ARRAY_COUNT(ids); i++) {
        CHECK_EQ(tree_codec_pack(&c, ids[i], raw, sizeof raw, out), sizeof raw + 1);
        CHECK_EQ(out[0], TREE_CODEC_NONE);
        CHECK_BYTES(out + 1, raw, sizeof raw);
    }
    tree_codec_fini(&c);
}

/* Every truncation and every wrong length of the result is an error, at the exact memory size. */
TEST(codec_refuses_what_is_cut_off_or_of_another_length)
{
    struct tree_codec packer, c;
    struct rand r;
    uint8_t raw[300], out[301];
    rand_seed(&r, testing_seed());
    CHECK_OK(tree_codec_init(&packer, &both));
    CHECK_OK(tree_codec_init(&c, NULL));
    for (size_t i = 0; i < ARRAY_COUNT(ids); i++) {
        fill(&r, raw, sizeof raw);
        size_t packed = tree_codec_pack(&packer, ids[i], raw, sizeof raw, out);
        for (size_t len = 0; len < packed; len++) {
            uint8_t *cut = mem_dup(out, len > 0 ? len : 1), *back = mem_alloc(sizeof raw);
            CHECK_TRUE(cut != NULL && back != NULL);
            CHECK_ERR(tree_codec_unpack(&c, cut, len, back, sizeof raw), ERR_corrupt);
            mem_free(cut);
            mem_free(back);
        }
        for (size_t len = 1; len < sizeof raw; len++) {
            uint8_t *back = mem_alloc(len);
            CHECK_TRUE(back != NULL);
            CHECK_ERR(tree_codec_unpack(&c, out, packed, back, len), ERR_corrupt);
            mem_free(back);
        }
    }
    tree_codec_fini(&packer);
    tree_codec_fini(&c);
}

TEST(codec_knows_what_it_holds)
{
    struct tree_codec small, large;
    CHECK_OK(tree_codec_init(&small, NULL));
    CHECK_OK(tree_codec_init(&large, &both));
    size_t unpack = tree_codec_memory(&small);
    CHECK_TRUE(unpack > 64u << 10 && unpack < 1u << 20);
    CHECK_TRUE(tree_codec_memory(&large) > 2 * unpack);
    tree_codec_fini(&small);
    tree_codec_fini(&large);
    CHECK_EQ(tree_codec_memory(&small), 0);
    CHECK_EQ(tree_codec_memory(&large), 0);
}

/* What does not shrink has one form only. */
TEST(codec_refuses_what_was_packed_without_need)
{
    static const uint8_t packed[] = {TREE_CODEC_LZ4, 0x50, 'a', 'b', 'c', 'd', 'e'};
    struct tree_codec c;
    uint8_t raw[8];
    CHECK_OK(tree_codec_init(&c, NULL));
    CHECK_RC(tree_codec_unpack(&c, packed, sizeof packed, raw, 5), ERR_bad_length);
    tree_codec_fini(&c);
}

TEST(codec_refuses_codecs_it_does_not_know)
{
    struct tree_codec c;
    uint8_t packed[8] = {0}, raw[16];
    CHECK_OK(tree_codec_init(&c, NULL));
    for (unsigned id = 3; id < 256; id++) {
        packed[0] = (uint8_t)id;
        CHECK_RC(tree_codec_unpack(&c, packed, sizeof packed, raw, sizeof raw), ERR_bad_version);
    }
    tree_codec_fini(&c);
}
