/*
 * tree/write_test.c -- node versions on a simulated disk: what was written reads back the same,
 * however often it was appended to, whatever was in memory, and after every failure.
 */
#include "tree/write.h"

#include "testing/machine.h"
#include "testing/testing.h"
#include "tree/rig_subject_check_priv.h"

static void check_first_and_next(const struct rig_head_spec *spec, enum tree_codec_id codec)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(1);
    r->w->shape.codec = (uint8_t)codec;
    rig_reopen(r->w, true);
    struct subject *s = subject_new(r, spec);
    change(s, 0);
    CHECK_OK(write_out(s));
    CHECK_TRUE(!s->req.appended && s->req.written_bytes >= 30000);
    check(s);
    check_places(s);
    reopen(r);
    check(s);
    change(s, 1); /* one part, and the others are not in memory */
    CHECK_OK(write_out(s));
    evict(s);
    change(s, 1);
    uint64_t before = used(r);
    CHECK_OK(write_out(s));
    CHECK_EQ(used(r), before); /* what was charged was given back */
    CHECK_TRUE(s->req.appended && s->req.written_bytes <= 12288);
    check(s);
    check_places(s);
    reopen(r);
    check(s);
}

TEST(a_leaf_is_written_and_appended_to)
{
    check_first_and_next(&leaf, TREE_CODEC_LZ4);
    check_first_and_next(&leaf, TREE_CODEC_ZSTD);
    check_first_and_next(&leaf, TREE_CODEC_NONE);
}

TEST(an_inner_node_is_written_and_appended_to)
{
    check_first_and_next(&inner, TREE_CODEC_LZ4);
    check_first_and_next(&inner, TREE_CODEC_ZSTD);
    check_first_and_next(&inner, TREE_CODEC_NONE);
}

static size_t older_count(struct subject *s)
{
    struct tree_space_extent x[1];
    return tree_file_older(s->rig->w->file, s->block, x, 0);
}

/* Again and again one part: appended until there are too many extents, then written whole, out of
 * what lies on disk. */
static void check_many_versions(const struct rig_head_spec *spec, bool in_memory)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(2);
    struct subject *s = subject_new(r, spec);
    unsigned whole = 0, in_a_row = 0;
    change(s, 0);
    CHECK_OK(write_out(s));
    for (unsigned i = 0; i < 15; i++) {
        if (!in_memory) {
            evict(s);
        }
        change(s, UINT64_C(1) << rand_below(&r->rand, spec->count));
        CHECK_OK(write_out(s));
        in_a_row = s->req.appended ? in_a_row + 1 : 0;
        whole += s->req.appended ? 0 : 1;
        CHECK_EQ(older_count(s), in_a_row);
        CHECK_EQ(s->node->place.older_count, in_a_row);
        CHECK_TRUE(in_a_row <= TREE_APPEND_EXTENTS);
        check(s);
        check_places(s);
        if (i % 4 == 3) {
            commit(r);
        }
    }
    CHECK_TRUE(whole >= 3);
    reopen(r);
    check(s);
}

TEST(extents_are_bounded)
{
    check_many_versions(&leaf, true);
    check_many_versions(&inner, true);
}

TEST(what_is_not_in_memory_is_copied_as_it_is)
{
    check_many_versions(&leaf, false);
    check_many_versions(&inner, false);
}

/* Next to nothing is dead: then the number of extents is what ends it. */
TEST(so_many_extents_and_no_more)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(2);
    struct subject *s = subject_new(r, &inner);
    change(s, 0);
    for (unsigned i = 0; i < 11; i++) {
        CHECK_OK(write_out(s));
        CHECK_EQ(older_count(s), i % (TREE_APPEND_EXTENTS + 1));
        change(s, 1U << 5); /* ranges: a few bytes */
    }
}

/* Parts that lie side by side are read at once. */
TEST(few_reads)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(2);
    struct subject *s = subject_new(r, &leaf);
    change(s, 0);
    CHECK_OK(write_out(s));
    evict(s);
    change(s, 0x0f);
    uint64_t before = r->w->reads_seen;
    CHECK_OK(write_out(s));
    CHECK_EQ(r->w->reads_seen, before + 1);
    check(s);
}

/* Half of what is there is not worth being kept. */
TEST(too_much_is_dead)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(3);
    struct subject *s = subject_new(r, &leaf);
    change(s, 0);
    CHECK_OK(write_out(s));
    change(s, 0x0f);
    CHECK_OK(write_out(s));
    CHECK_TRUE(!s->req.appended && older_count(s) == 0);
    change(s, 0x03);
    CHECK_OK(write_out(s));
    CHECK_TRUE(s->req.appended);
    change(s, 0x0c);
    CHECK_OK(write_out(s));
    CHECK_TRUE(!s->req.appended && older_count(s) == 0);
    check(s);
}

/* Where nothing is saved nothing is appended: all of it fits into the unit that is written. */
TEST(a_small_node_is_always_written_whole)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(3);
    struct rig_head_spec small = leaf;
    small.records = 1;
    small.record_bytes = 20;
    struct subject *s = subject_new(r, &small);
    change(s, 0);
    for (unsigned i = 0; i < 4; i++) {
        CHECK_OK(write_out(s));
        CHECK_TRUE(!s->req.appended && s->req.written_bytes == TREE_UNIT);
        check(s);
        change(s, 1);
    }
    CHECK_OK(write_out(s));
    evict(s);
    change(s, 1); /* rather than read the others */
    CHECK_OK(write_out(s));
    CHECK_TRUE(s->req.appended);
    check(s);
}

/* ---- trouble ---- */

/* Everything is as it was: nothing in use, no part knows of it. */
static void check_failing(struct subject *s, enum disk_op op, int fail)
{
    struct rig_write *w = s->rig->w;
    struct tree_part_place was[RIG_HEAD_PARTS];
    uint64_t before = rig_space_used(w);
    uint32_t count = s->node->head->header.partition_count;
    for (uint32_t i = 0; i < count; i++) {
        was[i] = s->node->head->part[i]->place;
    }
    rig_fail(w, op, 1, fail);
    CHECK_RC(write_out(s), -fail);
    CHECK_EQ(w->fail_nth, 0);
    CHECK_EQ(rig_space_used(w), before);
    CHECK_TRUE(s->req.written_bytes == 0 && !s->req.appended);
    for (uint32_t i = 0; i < count; i++) {
        const struct tree_part *p = s->node->head->part[i];
        CHECK_BYTES(&p->place, &was[i], sizeof was[i]);
        CHECK_EQ(p->state & ~TREE_PART_ABSENT, 0);
    }
}

static void check_failing_all(const struct rig_head_spec *spec)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(4);
    struct subject *s = subject_new(r, spec);
    change(s, 0);
    check_failing(s, DISK_WRITE, -EIO);
    check_failing(s, DISK_WRITE, -ENOSPC);
    CHECK_TRUE(tree_writer_error(r->w->writer)->code == -EIO);
    CHECK_OK(write_out(s));
    check(s);
    change(s, 1);
    check_failing(s, DISK_WRITE, -ENOSPC);
    CHECK_OK(write_out(s));
    CHECK_TRUE(s->req.appended);
    evict(s);
    change(s, 0x0f);
    check_failing(s, DISK_READ, -EIO);
    CHECK_TRUE(strstr(tree_writer_error(r->w->writer)->text, "block ") != NULL);
    check_failing(s, DISK_WRITE, -EIO);
    CHECK_OK(write_out(s));
    CHECK_TRUE(!s->req.appended);
    check(s);
    check_places(s);
    reopen(r);
    check(s);
}

TEST(a_failure_leaves_everything_as_it_was)
{
    check_failing_all(&leaf);
    check_failing_all(&inner);
}

/* The nth allocation fails, for all n: then it is written later. */
static void check_starving(const struct rig_head_spec *spec, bool absent)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(5);
    struct subject *s = subject_new(r, spec);
    unsigned failed = 0;
    bool hit = true;
    change(s, 0);
    CHECK_OK(write_out(s));
    for (uint64_t nth = 1; hit; nth++) {
        if (absent) {
            evict(s);
        }
        change(s, 0x0f);
        uint64_t passed = fault_passed(r->w->fault, "mem.alloc");
        rig_starve(r->w, nth);
        int rc = write_out(s);
        rig_starve(r->w, 0);
        hit = fault_passed(r->w->fault, "mem.alloc") - passed >= nth;
        CHECK_TRUE(rc == 0 || (rc == -ENOMEM && hit));
        failed += rc < 0 ? 1 : 0;
        CHECK_TRUE(rc == 0 || write_out(s) == 0);
        check(s);
    }
    CHECK_TRUE(failed >= 5);
}

TEST(a_node_is_written_without_memory_or_not_at_all)
{
    check_starving(&leaf, false);
    check_starving(&leaf, true);
    check_starving(&inner, true);
}

/* What is copied is checked before: damage does not get a new checksum. */
static void check_damaged(const struct rig_head_spec *spec, size_t part)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(6);
    struct subject *s = subject_new(r, spec);
    change(s, 0);
    CHECK_OK(write_out(s));
    evict(s);
    change(s, 0x0f);
    const struct tree_part_place at = s->node->head->part[part]->place;
    rig_damage(r->w, at.extent + at.offset + at.packed_len / 2, 0x10);
    CHECK_ERR(write_out(s), ERR_corrupt);
    CHECK_TRUE(strstr(tree_writer_error(r->w->writer)->text, "node 1 at byte ") != NULL);
    CHECK_EQ(s->node->head->part[part]->place.extent, at.extent);
    rig_damage(r->w, at.extent + at.offset + at.packed_len / 2, 0x10);
    CHECK_OK(write_out(s));
    check(s);
}

TEST(damage_is_not_copied)
{
    check_damaged(&leaf, 5);
    check_damaged(&leaf, 8); /* the filter */
    check_damaged(&inner, 5);
}

/* ---- several ---- */

static void check_several(unsigned writes_max, bool serial, uint64_t cache_bytes)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(testing_seed());
    r->w->writes_max = writes_max;
    r->w->serial = serial;
    r->w->cache_bytes = cache_bytes;
    rig_reopen(r->w, true);
    for (unsigned i = 0; i < BLOCKS; i++) {
        change(subject_new(r, i % 2 == 0 ? &leaf : &inner), 0);
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        write_begin(&r->s[i]);
    }
    wait_idle(r);
    for (unsigned i = 0; i < BLOCKS; i++) {
        CHECK_OK(r->s[i].rc);
        check(&r->s[i]);
    }
    CHECK_TRUE(r->w->times.count[TREE_TIME_WRITE] == BLOCKS);
    CHECK_TRUE(r->w->times.count[TREE_TIME_COMPRESS] == BLOCKS);
    CHECK_TRUE(r->w->times.count[TREE_TIME_SERIALISE] == BLOCKS);
    reopen(r);
    for (unsigned i = 0; i < BLOCKS; i++) {
        check(&r->s[i]);
    }
}

TEST(several_at_a_time)
{
    check_several(0, false, 64U << 20);
    check_several(1, false, 64U << 20);
    check_several(2, true, 64U << 20);
}

/* Until nothing is written any more; in one turn of the loop one partition is packed at most.
 * Returns how many the loop has packed. */
static uint64_t wait_responsive(struct rig *r)
{
    struct tree_writer *w = r->w->writer;
    uint64_t first = w->helped;
    for (unsigned n = 0; tree_writer_busy(w); n++) {
        uint64_t before = w->helped;
        CHECK_TRUE(n < 1000000);
        testing_machine_steps(&r->w->machine, 1);
        CHECK_TRUE(w->helped - before <= 1);
    }
    return w->helped - first;
}

/* What the executor does not take, or nobody else is to do, is packed by the loop: a piece at a
 * time. */
TEST(several_for_a_busy_executor)
{
    for (unsigned serial = 0; serial < 2; serial++) {
        CLEANUP(rig_freep) struct rig *r = rig_new(testing_seed());
        r->w->writes_max = BLOCKS;
        r->w->max_queued = serial == 0 ? 1 : 0;
        r->w->serial = serial == 1;
        rig_reopen(r->w, true);
        for (unsigned i = 0; i < BLOCKS; i++) {
            change(subject_new(r, &leaf), 0);
            write_begin(&r->s[i]);
        }
        CHECK_TRUE(wait_responsive(r) > BLOCKS);
        for (unsigned i = 0; i < BLOCKS; i++) {
            CHECK_OK(r->s[i].rc);
            check(&r->s[i]);
        }
    }
}

/* Less than one needs: one after the other. */
TEST(several_in_little_memory)
{
    check_several(4, false, 1000);
    check_several(4, true, 1000);
}

/* A split: of two blocks that share parts one goes on without them, and what was written of it
 * before is given back. Whichever of the two writes ends last, the parts are where the other one
 * has them. */
static void check_sharing(bool serial, bool heir_first)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(testing_seed());
    r->w->writes_max = 1;
    r->w->serial = serial;
    rig_reopen(r->w, true);
    struct subject *s = subject_new(r, &leaf), *heir = subject_new(r, &leaf);
    change(s, 0);
    s->frozen = s->node;
    heir->raw = s->raw;
    heir->node = s->node;
    change(heir, 0);
    CHECK_TRUE(heir->node->head->part[0] == s->frozen->head->part[0]);
    change(s, 0x1ff);
    uint64_t birth = tree_file_number(r->w->file);
    for (unsigned i = 0; i < 2; i++) {
        bool of_heir = (i == 0) == heir_first;
        r->birth = of_heir ? 0 : birth;
        write_begin(of_heir ? heir : s);
    }
    wait_idle(r);
    CHECK_OK(s->rc);
    CHECK_OK(heir->rc);
    check_places(heir);
    r->birth = 0;
    CHECK_OK(write_out(s));
    (void)inside(r, reclaim_in);
    check_places(heir);
    check(heir);
    check_places(s);
    check(s);
}

TEST(shared_parts_are_where_they_stay)
{
    for (unsigned i = 0; i < 4; i++) {
        check_sharing((i & 1) != 0, (i & 2) != 0);
    }
}

/* ---- checkpoints ---- */

/* The version of the checkpoint and the one behind it, each as its own; a crash decides. */
static void check_two_versions(bool later)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(7);
    struct subject *s = subject_new(r, &leaf);
    change(s, 0);
    CHECK_OK(write_out(s));
    commit(r);
    change(s, 1);
    freeze(r);
    change(s, 2);
    write_begin(s);
    wait_idle(r);
    CHECK_OK(s->rc);
    CHECK_TRUE(s->req.appended && s->frozen->written && !s->node->written);
    r->birth = 0;
    CHECK_OK(write_out(s));
    CHECK_TRUE(s->req.appended);
    check(s);
    CHECK_OK(rig_wait(r->w, rig_commit_in));
    if (later) {
        commit(r);
    }
    rig_reopen(r->w, true);
    s->raw = later ? s->raw : s->frozen_raw;
    check(s);
}

TEST(a_checkpoint_has_its_own_version)
{
    check_two_versions(false);
    check_two_versions(true);
}

static void drop_in(void *ctx)
{
    struct rig *r = ctx;
    tree_nodes_drop(r->w->nodes, r->on->block, ++r->version);
}

static void oldest_in(void *ctx)
{
    struct rig *r = ctx;
    tree_nodes_reclaim(r->w->nodes, r->oldest);
}

static void frozen_in(void *ctx)
{
    struct rig *r = ctx;
    const struct tree_node *n = r->on->frozen;
    CLEANUP(mem_freep) uint8_t *bytes = mem_aligned(TREE_UNIT, TREE_UNIT);
    CHECK_TRUE(bytes != NULL);
    rig_read(r->w, tree_space_offset(n->place.extent), bytes, TREE_UNIT);
    struct tree_node_probe p;
    CHECK_OK(tree_node_probe(bytes, TREE_UNIT, &p));
    CHECK_TRUE(p.sum == n->place.checksum && p.block == n->block);
}

/* The live tree does without it already; but a snapshot has it for longer than any checkpoint. */
TEST(what_a_snapshot_has_stays)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(8);
    struct subject *s = subject_new(r, &leaf);
    change(s, 0);
    freeze(r);
    r->oldest = r->version;
    (void)inside(r, drop_in);
    write_begin(s);
    wait_idle(r);
    CHECK_OK(s->rc);
    r->birth = 0;
    (void)inside(r, oldest_in);
    CHECK_OK(rig_wait(r->w, rig_commit_in));
    for (unsigned i = 0; i < 5; i++) { /* others would like to have the space */
        struct subject *other = i == 0 ? subject_new(r, &leaf) : &r->s[1];
        change(other, i == 0 ? 0 : 0xff);
        CHECK_OK(write_out(other));
        commit(r);
        r->on = s;
        (void)inside(r, frozen_in);
    }
    (void)rig_space_used(r->w);
    uint64_t held = r->w->info.space.deferred;
    r->oldest = r->version;
    (void)inside(r, oldest_in);
    (void)rig_space_used(r->w);
    CHECK_TRUE(held >= r->w->info.space.deferred + 10);
}

/* The number of a dropped block is in use again: what is written of the old one for the checkpoint
 * must not go on using extents of the new one. */
TEST(a_number_that_is_used_again)
{
    CLEANUP(rig_freep) struct rig *r = rig_new(9);
    struct subject *s = subject_new(r, &leaf);
    change(s, 0);
    CHECK_OK(write_out(s));
    commit(r);
    change(s, 1);
    freeze(r);
    uint64_t birth = r->birth;
    (void)inside(r, drop_in);
    r->birth = 0;
    struct subject *again = subject_new(r, &leaf);
    CHECK_EQ(again->block, s->block);
    change(again, 0);
    CHECK_OK(write_out(again));
    r->birth = birth;
    write_begin(s);
    wait_idle(r);
    CHECK_OK(s->rc);
    CHECK_TRUE(!s->req.appended);
    r->birth = 0;
    check(again);
    CHECK_OK(rig_wait(r->w, rig_commit_in));
    rig_reopen(r->w, true);
    s->raw = s->frozen_raw;
    check(s);
}
