/* tree/rig_image_segment_priv.h -- for tests: memtable and checkpoints of the file that
 * rig_image_priv.h describes. */
#pragma once

#include "tree/rig_image_priv.h"
#include "tree/write.h"
#include "wire/wire.h"

/* Two segments of one memtable. */
static inline void rig_image_segment(struct rig_image *r, uint32_t number, const char *letters)
{
    static const struct tree_codec_options packing = {0};
    const struct tree_ranges_item range = {.low = rig_text("x"), .high = rig_text("y"), .msn = 940};
    struct tree_codec codec;
    struct tree_segment_writer w;
    struct tree_segment_end end = {0};
    size_t at = TREE_SEGMENT_HEADER_BYTES, len = 0;
    uint8_t ranges[64];
    CHECK(tree_codec_init(&codec, &packing) == 0);
    struct tree_segment_options opt = {.id = {.file_id = r->found.super.file_id,
                                              .checkpoint = r->birth,
                                              .number = tree_keep_number(5, number)},
                                       .packer = &codec,
                                       .codec = TREE_CODEC_LZ4,
                                       .block_bytes = 64};
    tree_segment_writer_init(&w, &opt);
    memset(r->aligned, 0, (size_t)2 * TREE_UNIT);
    tree_segment_begin(&w, r->aligned);
    for (size_t i = 0; letters[i] != 0; i++) {
        char key[] = {letters[i], '1', 0};
        struct tree_block_entry e = {.key = rig_text(key),
                                     .body = rig_text("newest"),
                                     .type = 1,
                                     .msn = 920 + number * 10 + i};
        while (tree_segment_add(&w, &e) == 0) {
            CHECK(tree_segment_block(&w, r->aligned + at, &len) == 0);
            at += len;
        }
    }
    CHECK(tree_segment_block(&w, r->aligned + at, &len) == 0);
    at += len;
    len = number == 1 ? tree_ranges_encode(&range, 1, ranges) : 0;
    CHECK(tree_segment_end(&w, kv_slice_of(ranges, len), r->aligned + at, &end) == 0);
    at += end.len;
    r->write = (struct tree_file_write){.done = rig_image_written,
                                        .birth = r->birth,
                                        .buf = r->aligned,
                                        .len = base_align_up(at, TREE_UNIT)};
    rig_image_wait(r, rig_image_write);
    r->piece[number] = (struct tree_btt_piece){.offset = tree_space_offset(r->write.extent),
                                               .len = at,
                                               .checksum = end.sum,
                                               .birth = r->birth};
    wire_store_u32(r->piece[number].owner, 5); /* memtable 5, piece, of 2: see keep.c */
    wire_store_u32(r->piece[number].owner + 4, number);
    wire_store_u32(r->piece[number].owner + 8, 2);
    tree_segment_writer_fini(&w);
    tree_codec_fini(&codec);
}

/* One memtable in two pieces, nothing of it drained. */
static inline void rig_image_extra(struct rig_image *r)
{
    const struct tree_extra x = {.table = {{.number = 5, .msn_min = 920, .msn_max = 940}},
                                 .table_count = 1};
    CHECK(tree_extra_bytes(&x) <= sizeof r->extra);
    tree_extra_encode(&x, NULL, r->extra);
    r->commit.piece = r->piece;
    r->commit.piece_count = r->wrong == RIG_WRONG_PIECES ? 1 : 2;
    r->commit.drops = r->extra;
    r->commit.drops_len = tree_extra_bytes(&x);
}

/* ---- checkpoints ---- */

static inline void rig_image_committed(struct tree_file_commit *c, int rc)
{
    rig_image_done(container_of(c, struct rig_image, commit), rc);
}
static inline void rig_image_commit(struct rig_image *r)
{
    uint64_t k = 0;
    CHECK(tree_file_freeze(r->file, &k) == 0);
    r->commit.done = rig_image_committed;
    r->commit.super.applied_index = 1000 + k;
    r->commit.super.applied_term = 4;
    r->commit.super.max_msn = 950;
    r->commit.super.root_block = 1;
    r->commit.super.height = 3;
    r->commit.super.app_len = 16;
    memcpy(r->commit.super.app, RIG_IMAGE_OWNER, 16);
    tree_file_commit(r->file, &r->commit);
}
