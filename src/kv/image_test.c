/*
 * kv/image_test.c -- images in memory and as files: what was written is read, the bytes are those
 * of the golden file, and whatever is done to a file is noticed.
 */
#include "kv/image.h"

#include "base/env.h"
#include "base/mem.h"
#include "base/rand.h"
#include "disk/disk.h"
#include "disk/sim.h"
#include "kv/image_file.h"
#include "testing/machine.h"
#include "testing/testing.h"

#include <stdio.h>
#include <string.h>

#define PATH "/image"

struct image {
    uint8_t *bytes;
    size_t len, capacity;
};

static struct kv_image_info info_of(uint8_t id)
{
    struct kv_image_info info = {.index = 77, .term = 3};
    memset(info.id, id, sizeof info.id);
    memset(info.owner, 0xc1, sizeof info.owner);
    return info;
}

static void image_push(struct image *im, const void *at, size_t len)
{
    CHECK_OK(mem_grow(&im->bytes, &im->capacity, im->len + len, 1));
    memcpy(im->bytes + im->len, at, len);
    im->len += len;
}

/* Record i of a test: keys ascend, some values are empty, some large. */
static size_t record_of(uint32_t i, uint8_t key[8], uint8_t *value, size_t value_max)
{
    snprintf((char *)key, 8, "%07u", i * 3);
    size_t len = i % 5 == 0 ? 0 : (size_t)i * 7919 % (i % 50 == 7 ? value_max : 60);
    memset(value, (int)(i & 0xff), len);
    return len;
}

static void image_write(struct image *im, const struct kv_image_info *info,
                        enum kv_image_codec codec, uint32_t count, size_t block_bytes)
{
    struct kv_image_writer w;
    uint8_t edge[KV_IMAGE_HEADER_BYTES], key[8];
    uint8_t *value = mem_alloc(KV_VALUE_MAX);
    *im = (struct image){0};
    CHECK_TRUE(value != NULL);
    CHECK_OK(kv_image_writer_init(&w, info, codec, block_bytes));
    kv_image_header(&w, edge);
    image_push(im, edge, KV_IMAGE_HEADER_BYTES);
    for (uint32_t i = 0; i < count; i++) {
        size_t len = record_of(i, key, value, KV_VALUE_MAX + 1);
        while (!kv_image_add(&w, kv_slice_of(key, 7), kv_slice_of(value, len))) {
            struct kv_slice block = kv_image_block(&w);
            image_push(im, block.at, block.len);
        }
    }
    if (kv_image_has_block(&w)) {
        struct kv_slice block = kv_image_block(&w);
        image_push(im, block.at, block.len);
    }
    kv_image_footer(&w, edge);
    image_push(im, edge, KV_IMAGE_FOOTER_BYTES);
    CHECK_EQ(w.file_bytes, im->len);
    kv_image_writer_fini(&w);
    mem_free(value);
}

static void image_free(struct image *im)
{
    mem_free(im->bytes);
    *im = (struct image){0};
}

/* ---- files, in a process of a simulated machine ---- */

struct files {
    struct testing_machine machine;
    struct env env;
};

static void files_open(struct files *f)
{
    testing_machine_init(&f->machine, testing_seed());
    testing_machine_start(&f->machine, "tool", &f->env);
}

static void files_close(struct files *f)
{
    testing_machine_kill(&f->machine, false);
    testing_machine_fini(&f->machine);
}

static int verify(struct files *f, const struct image *im, struct kv_image_info *ret, struct err *e)
{
    CHECK_OK(disk_store(f->env.disk, PATH, im->bytes, im->len));
    int rc = kv_image_file_verify(f->env.disk, PATH, ret, e);
    CHECK_TRUE(rc == 0 || (e->code == rc && strstr(e->text, PATH) != NULL));
    return rc;
}

static void check_reads_back(struct files *f, enum kv_image_codec codec, uint32_t count,
                             size_t block_bytes)
{
    struct image im;
    struct kv_image_file file;
    struct kv_slice k, v;
    struct err e = {0};
    uint8_t key[8], *value = mem_alloc(KV_VALUE_MAX);
    const struct kv_image_info info = info_of(9);
    CHECK_TRUE(value != NULL);
    image_write(&im, &info, codec, count, block_bytes);
    CHECK_OK(disk_store(f->env.disk, PATH, im.bytes, im.len));
    CHECK_OK(kv_image_file_open(f->env.disk, PATH, &file, &e));
    CHECK_EQ(file.reader.info.index, 77);
    CHECK_EQ(file.reader.info.term, 3);
    CHECK_BYTES(file.reader.info.owner, info.owner, 16);
    for (uint32_t i = 0; i < count; i++) {
        size_t len = record_of(i, key, value, KV_VALUE_MAX + 1);
        CHECK_EQ(kv_image_file_next(&file, &k, &v, &e), 1);
        CHECK_EQ(k.len, 7);
        CHECK_BYTES(k.at, key, 7);
        CHECK_EQ(v.len, len);
        CHECK_BYTES(v.at, value, len);
    }
    CHECK_EQ(kv_image_file_next(&file, &k, &v, &e), 0);
    kv_image_file_close(&file);
    image_free(&im);
    mem_free(value);
}

TEST(images_read_back_with_every_codec)
{
    struct files f;
    files_open(&f);
    for (int codec = KV_IMAGE_PLAIN; codec <= KV_IMAGE_ZSTD; codec++) {
        check_reads_back(&f, (enum kv_image_codec)codec, 0, 0);
        check_reads_back(&f, (enum kv_image_codec)codec, 1, 0);
        check_reads_back(&f, (enum kv_image_codec)codec, 900, 512);
        check_reads_back(&f, (enum kv_image_codec)codec, 900, 0);
    }
    files_close(&f);
}

/* ---- damage ---- */

TEST(every_truncation_is_noticed)
{
    struct files f;
    struct image im;
    struct kv_image_info got;
    const struct kv_image_info info = info_of(1);
    files_open(&f);
    image_write(&im, &info, KV_IMAGE_PLAIN, 9, 64);
    struct image cut = im;
    for (cut.len = 0; cut.len < im.len; cut.len++) {
        struct err e = {0};
        CHECK_ERR(verify(&f, &cut, &got, &e), ERR_corrupt);
    }
    struct err e = {0};
    CHECK_OK(verify(&f, &im, &got, &e));
    CHECK_EQ(got.records, 9);
    image_push(&im, "", 1); /* nor may anything follow */
    CHECK_ERR(verify(&f, &im, &got, &e), ERR_corrupt);
    image_free(&im);
    files_close(&f);
}

/* Each image is stored and read anew: with a sanitizer one bit of each byte has to do. */
#ifdef __SANITIZE_ADDRESS__
#define FLIP_STEP 7u
#else
#define FLIP_STEP 1u
#endif

static void check_flips(struct files *f, enum kv_image_codec codec)
{
    struct image im;
    struct kv_image_info got;
    const struct kv_image_info info = info_of(1);
    image_write(&im, &info, codec, 8, 100);
    for (size_t i = 0; i < im.len * 8; i += FLIP_STEP) {
        struct err e = {0};
        im.bytes[i / 8] ^= (uint8_t)(1U << (i % 8));
        CHECK_ERR(verify(f, &im, &got, &e), ERR_corrupt);
        im.bytes[i / 8] ^= (uint8_t)(1U << (i % 8));
    }
    image_free(&im);
}

TEST(every_flipped_bit_is_noticed)
{
    struct files f;
    files_open(&f);
    check_flips(&f, KV_IMAGE_PLAIN);
    check_flips(&f, KV_IMAGE_ZSTD);
    files_close(&f);
}

/* 512 bytes of an older image of the same length at the same place, as a lost write leaves them. */
TEST(mixtures_of_two_images_are_noticed)
{
    struct files f;
    struct image one, other;
    struct kv_image_info got;
    const struct kv_image_info a = info_of(1), b = info_of(2);
    files_open(&f);
    image_write(&one, &a, KV_IMAGE_PLAIN, 200, 512);
    image_write(&other, &b, KV_IMAGE_PLAIN, 200, 512);
    CHECK_EQ(one.len, other.len);
    for (size_t at = 0; at + 512 < one.len; at += 512) {
        uint8_t kept[512];
        struct err e = {0};
        memcpy(kept, one.bytes + at, sizeof kept);
        memcpy(one.bytes + at, other.bytes + at, sizeof kept);
        /* Inside of a large value both are the same. */
        bool same = memcmp(kept, one.bytes + at, sizeof kept) == 0;
        CHECK_EQ(verify(&f, &one, &got, &e) == 0, same);
        memcpy(one.bytes + at, kept, sizeof kept);
    }
    image_free(&one);
    image_free(&other);
    files_close(&f);
}

/* Every block is sound by itself; their order is not. */
TEST(blocks_at_each_others_place_are_noticed)
{
    struct files f;
    struct image im;
    struct kv_image_info got;
    struct err e = {0};
    const struct kv_image_info info = info_of(1);
    struct kv_image_writer w;
    uint8_t edge[KV_IMAGE_HEADER_BYTES];
    files_open(&f);
    CHECK_OK(kv_image_writer_init(&w, &info, KV_IMAGE_PLAIN, 16));
    im = (struct image){0};
    kv_image_header(&w, edge);
    image_push(&im, edge, KV_IMAGE_HEADER_BYTES);
    size_t size = 0;
    for (unsigned i = 0; i < 3; i++) {
        uint8_t key = (uint8_t)('a' + i);
        CHECK_TRUE(kv_image_add(&w, kv_slice_of(&key, 1), kv_slice_of("v", 1)));
        struct kv_slice block = kv_image_block(&w);
        image_push(&im, block.at, block.len);
        size = block.len;
    }
    kv_image_footer(&w, edge);
    image_push(&im, edge, KV_IMAGE_FOOTER_BYTES);
    CHECK_OK(verify(&f, &im, &got, &e));
    uint8_t kept[256];
    CHECK_TRUE(size < sizeof kept);
    uint8_t *first = im.bytes + KV_IMAGE_HEADER_BYTES;
    memcpy(kept, first, size);
    memcpy(first, first + size, size);
    memcpy(first + size, kept, size);
    CHECK_ERR(verify(&f, &im, &got, &e), ERR_corrupt);
    memcpy(first + size, first, size);
    memcpy(first, kept, size);
    CHECK_OK(verify(&f, &im, &got, &e));
    kv_image_writer_fini(&w);
    image_free(&im);
    files_close(&f);
}

/* Keys that do not ascend: within a block, and across two. */
TEST(the_order_of_keys_is_checked)
{
    struct files f;
    const struct kv_image_info info = info_of(1);
    static const char *const keys[][3] = {{"a", "c", "b"}, {"a", "b", "b"}, {"b", "a", "c"}};
    files_open(&f);
    for (unsigned i = 0; i < 6; i++) {
        struct image im = {0};
        struct kv_image_info got;
        struct kv_image_writer w;
        struct err e = {0};
        uint8_t edge[KV_IMAGE_HEADER_BYTES];
        CHECK_OK(kv_image_writer_init(&w, &info, KV_IMAGE_PLAIN, i < 3 ? 1000 : 1));
        kv_image_header(&w, edge);
        image_push(&im, edge, KV_IMAGE_HEADER_BYTES);
        for (unsigned k = 0; k < 3; k++) {
            while (!kv_image_add(&w, kv_slice_of(keys[i % 3][k], 1), kv_slice_of("", 0))) {
                struct kv_slice block = kv_image_block(&w);
                image_push(&im, block.at, block.len);
            }
        }
        struct kv_slice block = kv_image_block(&w);
        image_push(&im, block.at, block.len);
        kv_image_footer(&w, edge);
        image_push(&im, edge, KV_IMAGE_FOOTER_BYTES);
        kv_image_writer_fini(&w);
        CHECK_RC(verify(&f, &im, &got, &e), ERR_bad_value);
        image_free(&im);
    }
    files_close(&f);
}

/* ---- the golden file ---- */

static const char golden[] =
    "4f464453494d4731010000000000000005050505050505050505050505050505c1c1c1c1c1c1c1c1"
    "c1c1c1c1c1c1c1c14d00000000000000030000000000000003000000000000000000000000000000"
    "00000000000000000000000000000000000000000000000000000000000000000000000000000000"
    "000000006b1e901449424c4b2c9dd1ec000000000000000000000000000000001200000012000000"
    "02000000000000000000000000000000010003000000616f6e65020000000000616249424c4b8a15"
    "9cf4010000000000000002000000000000000c0000000c0000000100000000000000000000000000"
    "00000100050000006274687265654f464453454e4431020000000000000003000000000000001e00"
    "0000000000003e01000000000000e22a6e2100000000000000000000000000000000c6239c63";

TEST(the_bytes_are_those_of_the_golden_file)
{
    struct kv_image_info info = info_of(5);
    struct kv_image_writer w;
    struct image im = {0};
    uint8_t edge[KV_IMAGE_HEADER_BYTES];
    info.records = 3;
    CHECK_OK(kv_image_writer_init(&w, &info, KV_IMAGE_PLAIN, 24));
    kv_image_header(&w, edge);
    image_push(&im, edge, KV_IMAGE_HEADER_BYTES);
    CHECK_TRUE(kv_image_add(&w, kv_slice_of("a", 1), kv_slice_of("one", 3)));
    CHECK_TRUE(kv_image_add(&w, kv_slice_of("ab", 2), kv_slice_of(NULL, 0)));
    CHECK_TRUE(!kv_image_add(&w, kv_slice_of("b", 1), kv_slice_of("three", 5)));
    struct kv_slice block = kv_image_block(&w);
    image_push(&im, block.at, block.len);
    CHECK_TRUE(kv_image_add(&w, kv_slice_of("b", 1), kv_slice_of("three", 5)));
    block = kv_image_block(&w);
    image_push(&im, block.at, block.len);
    kv_image_footer(&w, edge);
    image_push(&im, edge, KV_IMAGE_FOOTER_BYTES);
    kv_image_writer_fini(&w);
    char *text = mem_alloc(2 * im.len + 1);
    CHECK_TRUE(text != NULL);
    for (size_t i = 0; i < im.len; i++) {
        snprintf(text + 2 * i, 3, "%02x", im.bytes[i]);
    }
    CHECK_TEXT(text, golden);
    mem_free(text);
    image_free(&im);
}

TEST(errors_of_the_disk_are_told)
{
    struct files f;
    struct image im;
    struct kv_image_info got;
    struct err e = {0};
    const struct kv_image_info info = info_of(1);
    files_open(&f);
    image_write(&im, &info, KV_IMAGE_ZSTD, 50, 512);
    disk_sim_fail(f.machine.disk, DISK_READ, PATH, 3, 1, -EIO);
    CHECK_RC(verify(&f, &im, &got, &e), EIO);
    CHECK_RC(kv_image_file_verify(f.env.disk, "/none", &got, &e), ENOENT);
    image_free(&im);
    files_close(&f);
}
