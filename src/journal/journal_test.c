/* journal/journal_test.c -- the rules of the contract, one by one; on a simulated and on a real
 * disk.
 */
#include "journal/journal.h"

#include "base/env.h"
#include "base/mem.h"
#include "base/stats.h"
#include "disk/sim.h"
#include "loop/sim.h"
#include "testing/machine.h"
#include "testing/testing.h"

#include <stdio.h>
#include <string.h>

#define MS 1000000ull
#define MANY 64u

struct fixture {
    struct testing_machine machine;
    struct env env;
    struct journal *journal;
    struct journal_user user;
    struct journal_append append[MANY];
    struct iovec iov[MANY];
    int rc[MANY];
    unsigned done, replayed, cuts, failed_calls;
    uint64_t order[MANY];
    int failed, open_rc, stop_rc;
    bool stopped;
    struct journal_stop stop;
    struct journal_options opt;
    struct err err;
};

static int fixture_record(struct journal_user *u, const struct journal_record *r)
{
    struct fixture *f = container_of(u, struct fixture, user);
    f->order[f->replayed++ % MANY] = r->index;
    return 0;
}

static int fixture_cut(struct journal_user *u, uint64_t index)
{
    struct fixture *f = container_of(u, struct fixture, user);
    (void)index;
    f->cuts++;
    return 0;
}

static void fixture_failed(struct journal_user *u, int rc, const char *reason)
{
    struct fixture *f = container_of(u, struct fixture, user);
    CHECK_TRUE(reason[0] != 0);
    f->failed = rc;
    f->failed_calls++;
}

static const struct journal_user_ops fixture_ops = {
    .record = fixture_record, .cut = fixture_cut, .failed = fixture_failed};

static void fixture_open(void *ctx)
{
    struct fixture *f = ctx;
    CHECK_OK(disk_make_directories(f->env.disk, f->opt.directory));
    f->opt.env = &f->env;
    f->opt.user = &f->user;
    f->stopped = false;
    f->replayed = 0;
    f->open_rc = journal_open(&f->opt, &f->journal, &f->err);
}

static void fixture_begin(struct fixture *f)
{
    *f = (struct fixture){.user.ops = &fixture_ops};
    testing_machine_init(&f->machine, testing_seed());
    testing_machine_start(&f->machine, "journal", &f->env);
    f->opt = (struct journal_options){.directory = "/j",
                                      .owner = "me",
                                      .segment_bytes = 65536,
                                      .max_record_bytes = 8192,
                                      .queue_bytes = 32768,
                                      .queue_records = 16};
}

static void fixture_end(struct fixture *f)
{
    testing_machine_kill(&f->machine, false);
    testing_machine_fini(&f->machine);
}

static void append_done(struct journal_append *a, int rc)
{
    a->rc = rc;
    a->type = 1000; /* marks it as done */
}

static void append_one(struct fixture *f, size_t i, const void *bytes, size_t len,
                       enum journal_durability durability)
{
    f->iov[i] = (struct iovec){(void *)bytes, len};
    f->append[i] = (struct journal_append){
        .done = append_done, .iov = &f->iov[i], .iov_count = 1, .durability = durability};
    journal_append(f->journal, &f->append[i]);
    CHECK_NE(f->append[i].type, 1000); /* never inside */
}

static bool all_done(const struct fixture *f)
{
    for (size_t i = 0; i < MANY; i++) {
        if (f->append[i].done != NULL && f->append[i].type != 1000) {
            return false;
        }
    }
    return true;
}

static bool fixture_until(struct fixture *f, bool (*done)(void *ctx))
{
    return testing_machine_until(&f->machine, done, f, 10000);
}

static bool fixture_done(void *ctx)
{
    return all_done(ctx);
}

static void fixture_settle(struct fixture *f)
{
    CHECK_TRUE(fixture_until(f, fixture_done));
}

static void stop_done(struct journal_stop *s, int rc)
{
    struct fixture *f = container_of(s, struct fixture, stop);
    f->stop_rc = rc;
    f->stopped = true;
    f->journal = journal_free(f->journal);
}

static void fixture_stop(void *ctx)
{
    struct fixture *f = ctx;
    f->stop.done = stop_done;
    journal_stop(f->journal, &f->stop);
}

static bool fixture_stopped(void *ctx)
{
    return ((struct fixture *)ctx)->stopped;
}

static void fixture_restart(struct fixture *f)
{
    loop_sim_enter(f->machine.loop, fixture_stop, f);
    CHECK_TRUE(fixture_until(f, fixture_stopped));
    CHECK_OK(f->stop_rc);
    loop_sim_enter(f->machine.loop, fixture_open, f);
}

static const uint8_t payload[8200]; /* zeros */

static void body_many(void *ctx)
{
    struct fixture *f = ctx;
    for (size_t i = 0; i < 10; i++) {
        append_one(f, i, payload, 100 * i, JOURNAL_STABLE);
        CHECK_NE(f->append[i].index, 0);
    }
}

TEST(journal_gives_back_what_was_appended_in_order)
{
    struct fixture f;
    fixture_begin(&f);
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    CHECK_OK(f.open_rc);
    loop_sim_enter(f.machine.loop, body_many, &f);
    fixture_settle(&f);
    for (size_t i = 0; i < 10; i++) {
        CHECK_OK(f.append[i].rc);
    }
    fixture_restart(&f);
    CHECK_OK(f.open_rc);
    CHECK_EQ(f.replayed, 10);
    for (size_t i = 0; i < 10; i++) {
        CHECK_EQ(f.order[i], i + 1);
    }
    fixture_end(&f);
}

/* What gathers becomes one batch with one sync. */
TEST(journal_commits_groups)
{
    struct fixture f;
    fixture_begin(&f);
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    loop_sim_enter(f.machine.loop, body_many, &f);
    fixture_settle(&f);
    struct journal_info info;
    journal_info(f.journal, &info);
    CHECK_EQ(info.next_index, 11);
    CHECK_EQ(info.stable_index, 11);
    /* one header of 56 bytes for all of them */
    CHECK_EQ(info.size_bytes,
             56 + 10 * 8 + 0 + 104 + 200 + 304 + 400 + 504 + 600 + 704 + 800 + 904);
    fixture_end(&f);
}

static void body_limits(void *ctx)
{
    struct fixture *f = ctx;
    append_one(f, 0, payload, 8193, JOURNAL_WRITTEN);
    for (size_t i = 1; i <= 6; i++) {
        append_one(f, i, payload, 8192, JOURNAL_WRITTEN);
    }
}

TEST(journal_refuses_beyond_its_limits)
{
    struct fixture f;
    fixture_begin(&f);
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    loop_sim_enter(f.machine.loop, body_limits, &f);
    fixture_settle(&f);
    CHECK_RC(f.append[0].rc, EMSGSIZE);
    CHECK_EQ(f.append[0].index, 0);
    for (size_t i = 1; i <= 4; i++) {
        CHECK_OK(f.append[i].rc);
    }
    CHECK_RC(f.append[5].rc, ERR_busy);
    CHECK_RC(f.append[6].rc, ERR_busy);
    loop_sim_enter(f.machine.loop, body_many, &f); /* there is room again */
    fixture_settle(&f);
    CHECK_OK(f.append[9].rc);
    fixture_end(&f);
}

static void body_fill(void *ctx)
{
    struct fixture *f = ctx;
    for (size_t i = 0; i < 4; i++) {
        append_one(f, i, payload, 8000, JOURNAL_STABLE);
    }
}

static void body_trim(void *ctx)
{
    journal_trim(((struct fixture *)ctx)->journal, 150);
}

TEST(journal_rolls_and_trims)
{
    struct fixture f;
    fixture_begin(&f);
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    for (unsigned round = 0; round < 40; round++) {
        loop_sim_enter(f.machine.loop, body_fill, &f);
        fixture_settle(&f);
        CHECK_OK(f.append[3].rc);
    }
    struct journal_info info;
    journal_info(f.journal, &info);
    CHECK_EQ(info.next_index, 161);
    CHECK_TRUE(info.segment_count > 15);
    loop_sim_enter(f.machine.loop, body_trim, &f);
    (void)fixture_until(&f, fixture_stopped);
    journal_info(f.journal, &info);
    CHECK_TRUE(info.segment_count <= 4);
    fixture_restart(&f);
    CHECK_OK(f.open_rc);
    CHECK_TRUE(f.order[0] <= 150 && f.replayed < 32);
    journal_info(f.journal, &info);
    CHECK_EQ(info.next_index, 161);
    fixture_end(&f);
}

TEST(journal_fails_once_and_for_good)
{
    struct fixture f;
    fixture_begin(&f);
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    loop_sim_enter(f.machine.loop, body_fill, &f);
    fixture_settle(&f);
    disk_sim_fail(f.machine.disk, DISK_SYNC, "/j", 1, 1, -EIO);
    loop_sim_enter(f.machine.loop, body_fill, &f);
    fixture_settle(&f);
    CHECK_RC(f.append[0].rc, ERR_failed_before);
    CHECK_EQ(f.failed, -EIO);
    loop_sim_enter(f.machine.loop, body_fill,
                   &f); /* the disk would take it again; the journal does not */
    fixture_settle(&f);
    CHECK_RC(f.append[0].rc, ERR_failed_before);
    CHECK_EQ(f.failed_calls, 1);
    struct journal_info info;
    journal_info(f.journal, &info);
    CHECK_EQ(info.room_bytes, 0);
    fixture_end(&f);
}

TEST(journal_waits_for_space_instead_of_failing)
{
    struct fixture f;
    fixture_begin(&f);
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    (void)fixture_until(&f, fixture_stopped); /* the first and the next are ready */
    disk_sim_capacity(f.machine.disk, 150000);
    int last = 0;
    for (unsigned round = 0; round < 12 && last == 0; round++) {
        loop_sim_enter(f.machine.loop, body_fill, &f);
        fixture_settle(&f);
        last = f.append[3].rc;
    }
    CHECK_RC(last, ENOSPC);
    CHECK_EQ(f.failed_calls, 0);
    disk_sim_capacity(f.machine.disk, 0);
    loop_sim_enter(f.machine.loop, body_fill, &f);
    fixture_settle(&f);
    CHECK_OK(f.append[3].rc);
    fixture_end(&f);
}

static void overtaken(struct journal_append *a, int rc)
{
    struct fixture *f = container_of(a, struct fixture, append[4]);
    append_done(a, rc);
    if (rc < 0) {
        append_one(f, 7, payload, 10, JOURNAL_WRITTEN); /* there would be room for it */
    }
}

static void body_overtaken(void *ctx)
{
    struct fixture *f = ctx;
    for (size_t i = 4; i < 7; i++) {
        append_one(f, i, payload, 8000, JOURNAL_WRITTEN);
    }
    f->append[4].done = overtaken;
}

/* Until all whose records have failed have heard of it: a record may need those. */
TEST(journal_lets_nothing_overtake_what_failed)
{
    struct fixture f;
    fixture_begin(&f);
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    (void)fixture_until(&f, fixture_stopped);
    disk_sim_capacity(f.machine.disk, 150000);
    f.append[4].rc = 0;
    for (unsigned round = 0; round < 30 && f.append[4].rc == 0; round++) {
        loop_sim_enter(f.machine.loop, body_overtaken, &f);
        fixture_settle(&f);
    }
    CHECK_RC(f.append[4].rc, ENOSPC);
    CHECK_RC(f.append[6].rc, ENOSPC);
    CHECK_RC(f.append[7].rc, ENOSPC);
    CHECK_EQ(f.append[7].index, 0);
    CHECK_EQ(f.failed_calls, 0);
    disk_sim_capacity(f.machine.disk, 0);
    loop_sim_enter(f.machine.loop, body_overtaken, &f);
    fixture_settle(&f);
    CHECK_OK(f.append[4].rc); /* it is over */
    fixture_end(&f);
}

/* Smaller and smaller ones, each half of what is there, down to the least; what they have is
 * replayed. */
TEST(journal_takes_smaller_segments_where_there_is_no_room)
{
    struct fixture f;
    fixture_begin(&f);
    f.opt.segment_bytes = 256 << 10;
    f.opt.least_bytes = 32768;
    disk_sim_capacity(f.machine.disk, (256 << 10) + 410000);
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    CHECK_OK(f.open_rc);
    struct journal_info info;
    uint64_t good = 0;
    int last = 0;
    for (unsigned round = 0; round < 100 && last == 0; round++) {
        loop_sim_enter(f.machine.loop, body_fill, &f);
        fixture_settle(&f);
        last = f.append[3].rc;
        for (unsigned i = 0; i < 4; i++) {
            good += f.append[i].rc == 0 ? 1 : 0;
        }
    }
    CHECK_RC(last, ENOSPC);
    journal_info(f.journal, &info);
    CHECK_TRUE(info.segment_count >= 3);
    CHECK_TRUE(info.segment_bytes >= 32768 && info.segment_bytes < 65536);
    CHECK_RC(info.spare_rc, ENOSPC);
    fixture_restart(&f);
    CHECK_OK(f.open_rc);
    CHECK_EQ(f.replayed, good);
    fixture_end(&f);
}

static void body_trim_all(void *ctx)
{
    struct fixture *f = ctx;
    struct journal_info info;
    journal_info(f->journal, &info);
    journal_trim(f->journal, info.stable_index);
}

/* Whatever becomes free somebody else takes at once. */
static void others_take_all(struct fixture *f)
{
    loop_sim_enter(f->machine.loop, body_trim_all, f);
    for (unsigned i = 0; i < 20; i++) {
        (void)testing_machine_until(&f->machine, fixture_stopped, f, 5);
        disk_sim_capacity(f->machine.disk, disk_sim_used_bytes(f->machine.disk));
    }
}

static void fill_rounds(struct fixture *f, unsigned rounds)
{
    for (unsigned round = 0; round < rounds; round++) {
        loop_sim_enter(f->machine.loop, body_fill, f);
        fixture_settle(f);
        CHECK_OK(f->append[3].rc);
        others_take_all(f);
    }
}

static void fill_alone(struct fixture *f, unsigned rounds)
{
    for (unsigned round = 0; round < rounds; round++) {
        loop_sim_enter(f->machine.loop, body_fill, f);
        fixture_settle(f);
        loop_sim_enter(f->machine.loop, body_trim_all, f);
    }
    (void)fixture_until(f, fixture_stopped);
}

/* What was trimmed is used again: not a byte of new space is needed, also behind an end in good
 * order, and behind one that leaves a segment of which only a part is used. */
TEST(journal_goes_on_without_new_space)
{
    struct fixture f;
    struct journal_info info;
    fixture_begin(&f);
    f.opt.keep_segments = 2;
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    for (unsigned life = 0; life < 6; life++) {
        disk_sim_capacity(f.machine.disk, 0);
        fill_alone(&f, 8);
        uint64_t used = disk_sim_used_bytes(f.machine.disk);
        others_take_all(&f);
        fill_rounds(&f, 30);
        CHECK_TRUE(disk_sim_used_bytes(f.machine.disk) <= used);
        journal_info(f.journal, &info);
        CHECK_TRUE(info.segment_count <= 3 && info.kept_count <= 2);
        if (life % 3 == 2) {
            fixture_restart(&f);
        } else {
            testing_machine_kill(&f.machine, life % 3 == 1);
            testing_machine_start(&f.machine, "journal", &f.env);
            loop_sim_enter(f.machine.loop, fixture_open, &f);
        }
        CHECK_OK(f.open_rc);
        fill_rounds(&f, 6);
        journal_info(f.journal, &info);
        CHECK_EQ(info.next_index, 1 + 4 * (8 + 30 + 6) * (life + 1));
    }
    CHECK_EQ(f.failed_calls, 0);
    fixture_end(&f);
}

/* Where no file can be made at all, those that were kept serve, though they are small. */
TEST(journal_goes_on_without_new_files)
{
    struct fixture f;
    fixture_begin(&f);
    f.opt.keep_segments = 2;
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    fill_alone(&f, 8);
    fill_rounds(&f, 10);
    f.opt.segment_bytes *= 2;
    fixture_restart(&f);
    CHECK_OK(f.open_rc);
    disk_sim_fail(f.machine.disk, DISK_OPEN, ".new", 1, 0, -ENOSPC);
    fill_rounds(&f, 30);
    CHECK_EQ(f.failed_calls, 0);
    fixture_end(&f);
}

/* Who keeps none has none: what was kept before is left alone, and is not taken for anything. */
TEST(journal_keeps_no_more_than_it_is_told)
{
    struct fixture f;
    struct journal_info info;
    fixture_begin(&f);
    f.opt.keep_segments = 1;
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    for (unsigned round = 0; round < 20; round++) {
        loop_sim_enter(f.machine.loop, body_fill, &f);
        fixture_settle(&f);
    }
    loop_sim_enter(f.machine.loop, body_trim_all, &f);
    (void)fixture_until(&f, fixture_stopped);
    journal_info(f.journal, &info);
    CHECK_EQ(info.kept_count, 1);
    f.opt.keep_segments = 9;
    loop_sim_enter(f.machine.loop, fixture_stop, &f);
    CHECK_TRUE(fixture_until(&f, fixture_stopped));
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    CHECK_RC(f.open_rc, EINVAL);
    f.opt.keep_segments = 0;
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    CHECK_OK(f.open_rc);
    journal_info(f.journal, &info);
    CHECK_EQ(info.kept_count, 0);
    CHECK_EQ(info.next_index, 81);
    fixture_end(&f);
}

/* An attempt that failed uses up no number: the first segment must be number 1, or its batches
 * would be missed at the next open. */
TEST(journal_numbers_only_segments_that_were_made)
{
    struct fixture f;
    fixture_begin(&f);
    disk_sim_fail(f.machine.disk, DISK_RENAME, "/j", 1, 3, -ENOSPC);
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    CHECK_OK(f.open_rc);
    (void)fixture_until(&f, fixture_stopped);
    testing_machine_kill(&f.machine, false);
    testing_machine_start(&f.machine, "journal", &f.env);
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    CHECK_OK(f.open_rc);
    loop_sim_enter(f.machine.loop, body_many, &f);
    fixture_settle(&f);
    CHECK_OK(f.append[9].rc);
    fixture_end(&f);
}

TEST(journal_refuses_another_owner)
{
    struct fixture f;
    fixture_begin(&f);
    loop_sim_enter(f.machine.loop, fixture_open, &f);
    loop_sim_enter(f.machine.loop, body_many, &f);
    fixture_settle(&f);
    f.opt.owner[0] = 'x';
    fixture_restart(&f);
    CHECK_RC(f.open_rc, ERR_wrong_cluster);
    CHECK_TRUE(strstr(f.err.text, "another owner") != NULL);
    fixture_end(&f);
}

/* --- a real disk ---------------------------------------------------------------------------------
 */

static void real_wait(struct fixture *f)
{
    for (unsigned i = 0; i < 5000 && !all_done(f); i++) {
        loop_run_once(f->env.loop, 10 * MS);
    }
    CHECK_TRUE(all_done(f));
}

static void real_stop(struct fixture *f)
{
    f->stop.done = stop_done;
    f->stopped = false;
    journal_stop(f->journal, &f->stop);
    for (unsigned i = 0; i < 5000 && !f->stopped; i++) {
        loop_run_once(f->env.loop, 10 * MS);
    }
    CHECK_TRUE(f->stopped);
    CHECK_OK(f->stop_rc);
}

TEST(journal_works_on_a_real_disk)
{
    struct fixture f = {.user.ops = &fixture_ops};
    char directory[512];
    (void)snprintf(directory, sizeof directory, "%s/journal", testing_directory());
    f.opt = (struct journal_options){.directory = directory,
                                     .owner = "me",
                                     .segment_bytes = 1u << 20,
                                     .max_record_bytes = 65536};
    CHECK_OK(loop_new(&(struct loop_options){.name = "journal"}, &f.env.loop, &f.err));
    f.env.stats = stats_new(NULL, "test");
    CHECK_OK(disk_pool_new(&f.env, &(struct disk_pool_options){.max_threads = 2}, &f.env.disk));
    fixture_open(&f);
    CHECK_OK(f.open_rc);
    for (unsigned round = 0; round < 100; round++) {
        for (size_t i = 0; i < 8; i++) {
            append_one(&f, i, payload, 8192, JOURNAL_STABLE);
        }
        real_wait(&f);
        CHECK_OK(f.append[7].rc);
    }
    real_stop(&f);
    fixture_open(&f);
    CHECK_OK(f.open_rc);
    CHECK_EQ(f.replayed, 800);
    real_stop(&f);
    disk_free(f.env.disk);
    stats_free(f.env.stats);
    loop_free(f.env.loop);
}
