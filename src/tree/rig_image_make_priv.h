/* tree/rig_image_make_priv.h -- for tests: makes the file that rig_image_priv.h describes. */
#pragma once

#include "tree/rig_image_segment_priv.h"

static inline void rig_image_open(struct rig_image *r)
{
    struct tree_super first = {.fanout = 32, .app_len = 16, .app = RIG_IMAGE_OWNER};
    struct err e = {0};
    CHECK(tree_file_create(&r->opt, &first, &e) == 0);
    CHECK(tree_file_open(&r->opt, &r->file, &r->found, &e) == 0);
    r->aligned = mem_aligned(TREE_UNIT, (size_t)16 * TREE_UNIT);
    CHECK(r->aligned != NULL);
    for (uint64_t i = 1; i <= RIG_IMAGE_BLOCKS; i++) {
        uint64_t block = 0;
        CHECK(tree_file_block_new(r->file, 0, &block) == 0);
        CHECK(block == i);
    }
    r->birth = tree_file_number(r->file);
    rig_image_done(r, 0);
}

static inline void rig_image_root(struct rig_image *r)
{
    static const struct kv_slice pivot[] = {{"m", 1}};
    static const uint64_t child[] = {2, 3};
    rig_image_begin(r, 1, 2);
    uint64_t msn = r->wrong == RIG_WRONG_NEWER   ? 925
                   : r->wrong == RIG_WRONG_ORDER ? 150
                   : r->wrong == RIG_WRONG_ABOVE ? 305
                                                 : 800;
    r->node.header.msn_max = 950;
    rig_image_run(r, 0, "bch", msn);
    rig_image_internal_end(
        r, "bch", &(struct tree_pivots_source){.pivot = pivot, .child = child, .slots = 2});
    rig_image_put(r, false);
}

static inline struct tree_pivots_source rig_image_source2(void)
{
    static const struct kv_slice pivot[] = {{"f", 1}}, cut[] = {{"k", 1}};
    static const uint64_t child[] = {4, 5};
    return (struct tree_pivots_source){
        .high = rig_text("m"), .pivot = pivot, .child = child, .cut = cut, .slots = 2};
}

/* Its first run: one partition for each child. */
static inline void rig_image_two(struct rig_image *r)
{
    struct tree_pivots_source s = rig_image_source2();
    rig_image_begin(r, 2, 1);
    rig_image_run(r, 0, "bcd", 200);
    rig_image_run(r, 1, "gl", 210);
    rig_image_internal_end(r, "bcdgl", &s);
    rig_image_put(r, false);
}

/* The first run stays where it is; a second one for the second child in two partitions, with a
 * deleted range. */
static inline void rig_image_two_again(struct rig_image *r)
{
    struct tree_pivots_source s = rig_image_source2();
    const struct tree_ranges_item range = {.low = rig_text("g"),
                                           .high = rig_text("i"),
                                           .msn = r->wrong == RIG_WRONG_RANGE ? 205 : 310};
    struct tree_partition old[2] = {r->node.partition[0], r->node.partition[1]};
    struct tree_file_place place;
    uint8_t raw[64];
    CHECK(tree_file_find(r->file, 2, &place) == 0);
    rig_image_begin(r, 2, 1);
    r->node.header.extent_count = 1;
    r->node.extent[0] = (struct tree_extent){.offset = tree_space_offset(place.extent),
                                             .birth = place.birth,
                                             .len = (uint32_t)tree_space_bytes(place.extent)};
    for (unsigned i = 0; i < 2; i++) {
        r->node.partition[r->node.header.partition_count] = old[i];
        r->node.partition[r->node.header.partition_count++].extent = 1;
    }
    rig_image_run(r, 1, "hj", 300)->run = 1;
    struct tree_partition *more = rig_image_run(r, 1, "kl", r->wrong == RIG_WRONG_RUNS ? 203 : 305);
    more->run = 1;
    more->flags = TREE_PARTITION_MORE;
    size_t len = tree_ranges_encode(&range, 1, raw);
    rig_part(&r->node, TREE_PARTITION_RANGES, 1, raw, len)->run = 1;
    s.cuts = 1;
    rig_image_internal_end(r, r->wrong == RIG_WRONG_FILTER ? "bcdghjk" : "bcdghjkl", &s);
    rig_image_put(r, true);
}

static inline void rig_image_three(struct rig_image *r)
{
    static const struct kv_slice pivot[] = {{"t", 1}};
    const uint64_t child[] = {6, r->wrong == RIG_WRONG_CHILD ? 6 : 7};
    rig_image_begin(r, 3, 1);
    rig_image_internal_end(r, "",
                           &(struct tree_pivots_source){
                               .low = rig_text("m"), .pivot = pivot, .child = child, .slots = 2});
    rig_image_put(r, false);
}

static inline void rig_image_stopped(struct tree_file_stop *s)
{
    rig_image_done(container_of(s, struct rig_image, stop), 0);
}
static inline void rig_image_stop(struct rig_image *r)
{
    r->stop.done = rig_image_stopped;
    tree_file_stop(r->file, &r->stop);
}
/* Into memory that outlives the machine. */
static inline void rig_image_take(struct rig_image *r)
{
    struct disk_req open = {.op = DISK_OPEN, .path = "/tree"};
    CHECK(disk_now(r->env.disk, &open) >= 0);
    struct disk_req stat = {.op = DISK_STAT, .file = open.file};
    CHECK(disk_now(r->env.disk, &stat) >= 0);
    r->len = (size_t)stat.stat.size_bytes;
    struct mem_domain *was = mem_domain_enter(NULL);
    r->bytes = mem_alloc(r->len);
    mem_domain_enter(was);
    struct disk_req read = {.op = DISK_READ, .file = open.file, .buf = r->bytes, .len = r->len};
    CHECK(r->bytes != NULL && disk_now(r->env.disk, &read) == (int64_t)r->len);
    rig_image_done(r, 0);
}

static inline void rig_image_fill(struct rig_image *r)
{
    const struct rig_image_leaf leaf[] = {
        {4, "", "f", "c", "ab", "cde", "abcde"},
        {5, "f", "m", "h", "fg", "hijkl", "fghijkl"},
        {6, "m", "t", "p", "mno", "pqrs", r->wrong == RIG_WRONG_LEAF ? "mnopqr" : "mnopqrs"},
        {7, r->wrong == RIG_WRONG_FENCES ? "u" : "t", "", "v",
         r->wrong == RIG_WRONG_FENCES ? "u" : "tu", "vwxyz", "tuvwxyz"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(leaf); i++) {
        rig_image_leaf(r, &leaf[i]);
    }
    rig_image_root(r);
    rig_image_three(r);
    rig_image_two(r);
}

static inline void rig_image_start(struct rig_image *r)
{
    r->sim = loop_sim_new(1);
    CHECK(r->sim != NULL);
    r->disk = disk_sim_new(&(struct disk_sim_options){.sim = r->sim});
    CHECK(r->disk != NULL && loop_sim_process(r->sim, "tree", 1, &r->env.loop) == 0);
    CHECK(disk_sim_open(r->disk, r->env.loop, &r->env.disk) == 0);
}

/* The bytes (mem_free) of the file. */
static inline uint8_t *rig_image_make(enum rig_wrong wrong, size_t *ret_len)
{
    const struct rig_image_leaf again = {4, "", "f", "c", "ab", "cd", "abcd"};
    const struct rig_image_leaf later = {5, "f", "m", "h", "f", "hijkl", "fhijkl"};
    struct rig_image *r = mem_zalloc(sizeof *r);
    CHECK(r != NULL);
    r->wrong = wrong;
    rig_image_start(r);
    r->opt = (struct tree_file_options){
        .env = &r->env, .path = "/tree", .grow_bytes = (uint64_t)32 * TREE_UNIT};
    rig_image_wait(r, rig_image_open);
    rig_image_fill(r);
    rig_image_wait(r, rig_image_commit);
    r->birth++;
    rig_image_two_again(r);
    rig_image_leaf(r, &again);
    rig_image_segment(r, 0, "aceg");
    rig_image_segment(r, 1, "nopz");
    rig_image_extra(r);
    rig_image_wait(r, rig_image_commit);
    r->birth++;
    rig_image_leaf(r, &later);
    rig_image_wait(r, rig_image_stop);
    rig_image_wait(r, rig_image_take);
    uint8_t *bytes = r->bytes;
    *ret_len = r->len;
    loop_sim_kill(r->env.loop);
    disk_sim_free(r->disk);
    loop_sim_free(r->sim);
    mem_free(r);
    return bytes;
}
