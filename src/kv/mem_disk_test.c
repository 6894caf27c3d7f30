/*
 * kv/mem_disk_test.c -- the memory engine as it pretends to be one on a disk: what it lends comes
 * to an end, reads ahead are one round, commits find no room, it fails, and its end takes time.
 */
#include "kv/mem.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "testing/testing.h"

#define RECORDS 300u
#define LARGE 100000u

struct world {
    struct kv_owner owner;
    struct kv *kv;
    struct kv_need need;
    unsigned wakes, rooms, stops, fetches;
    int fetch_rc;
    struct kv_fetch fetch;
    struct kv_room room;
    struct kv_stop stop;
};

static void woken(struct kv_owner *o)
{
    container_of(o, struct world, owner)->wakes++;
}
static void fetched(struct kv_fetch *f, int rc)
{
    struct world *w = container_of(f, struct world, fetch);
    w->fetches++;
    w->fetch_rc = rc;
}
static void has_room(struct kv_room *r)
{
    container_of(r, struct world, room)->rooms++;
}
static void stopped(struct kv_stop *s)
{
    container_of(s, struct world, stop)->stops++;
}

static void world_open(struct world *w, const struct kv_mem_options *pretend)
{
    struct kv_mem_options opt = *pretend;
    *w = (struct world){
        .owner.wake = woken, .fetch.done = fetched, .room.done = has_room, .stop.done = stopped};
    w->fetch.need = &w->need;
    opt.owner = &w->owner;
    opt.seed = testing_seed();
    CHECK_OK(kv_mem_new(&opt, &w->kv));
}

static struct kv_slice key_of(unsigned i, char buf[16])
{
    return kv_slice_of(buf, (size_t)snprintf(buf, 16, "key%05u", i));
}

static int put(struct world *w, unsigned i, uint64_t index)
{
    char key[16];
    struct kv_batch b = {0};
    CHECK_OK(kv_batch_put(&b, key_of(i, key), kv_slice_of("some value", 10)));
    int rc = kv_commit(w->kv, &b, index);
    kv_batch_fini(&b);
    return rc;
}

static void put_all(struct world *w)
{
    for (unsigned i = 0; i < RECORDS; i++) {
        CHECK_OK(put(w, i, i + 1));
    }
}

static void fetch_all(struct world *w)
{
    unsigned before = w->fetches;
    kv_fetch(w->kv, &w->fetch);
    for (unsigned polls = 0; w->fetches == before; polls++) {
        CHECK_TRUE(polls < 10);
        (void)kv_poll(w->kv);
    }
    CHECK_OK(w->fetch_rc);
}

static void world_close(struct world *w)
{
    kv_need_release(&w->need);
    w->kv = kv_mem_end(w->kv);
}

/* How many fetches a walk over all takes. */
static unsigned walk_rounds(struct world *w, struct kv_snapshot *s, uint32_t ahead)
{
    CLEANUP(kv_iter_freep) struct kv_iter *it = NULL;
    struct kv_iter_options opt = {.need = &w->need, .ahead = ahead};
    unsigned before = w->fetches, records = 0;
    bool begun = false;
    CHECK_OK(kv_iter_new(s, &opt, &it));
    int rc = 1;
    while (rc != 0) {
        rc = begun ? kv_iter_next(it) : kv_iter_seek(it, kv_slice_of(NULL, 0));
        if (rc == -ERR_need) {
            fetch_all(w);
        } else {
            CHECK_TRUE(rc >= 0);
            begun = true;
            records += (unsigned)rc;
        }
    }
    CHECK_EQ(records, RECORDS);
    kv_need_release(&w->need);
    return w->fetches - before;
}

TEST(a_walk_that_says_how_far_it_goes_is_one_round)
{
    struct world w;
    struct kv_snapshot *s;
    world_open(&w, &(struct kv_mem_options){.need_permille = 1000, .strict = true});
    put_all(&w);
    CHECK_OK(kv_snapshot_new(w.kv, &s));
    CHECK_EQ(walk_rounds(&w, s, 0), RECORDS + 1);
    CHECK_EQ(walk_rounds(&w, s, RECORDS / 10), 11);
    CHECK_EQ(walk_rounds(&w, s, 10 * RECORDS), 1);
    kv_snapshot_free(s);
    world_close(&w);
}

/* Memory that is freed shows in the sanitizer, and in what the domain still holds. */
TEST(what_was_lent_is_gone_with_the_list_or_the_snapshot)
{
    static uint8_t large[LARGE];
    for (unsigned first = 0; first < 2; first++) {
        struct world w;
        struct kv_batch b = {0};
        struct kv_slice got;
        struct kv_snapshot *s;
        struct mem_domain *d = mem_domain_new(), *outer = mem_domain_enter(d);
        world_open(&w, &(struct kv_mem_options){.strict = true});
        CHECK_OK(kv_batch_put(&b, kv_slice_of("a", 1), kv_slice_of(large, LARGE)));
        CHECK_OK(kv_commit(w.kv, &b, 1));
        kv_batch_fini(&b);
        CHECK_OK(kv_snapshot_new(w.kv, &s));
        size_t without = mem_domain_bytes(d);
        CHECK_EQ(kv_get(s, kv_slice_of("a", 1), &w.need, &got), 1);
        CHECK_BYTES(got.at, large, LARGE);
        CHECK_TRUE(mem_domain_bytes(d) >= without + LARGE);
        if (first == 0) {
            kv_need_release(&w.need);
            CHECK_EQ(mem_domain_bytes(d), without);
            kv_snapshot_free(s);
        } else {
            s = kv_snapshot_free(s);
            CHECK_TRUE(mem_domain_bytes(d) < without + LARGE / 2);
        }
        world_close(&w);
        (void)mem_domain_enter(outer);
        mem_domain_drop(d);
    }
}

TEST(who_finds_no_room_is_told_when_there_is_some)
{
    struct world w;
    unsigned refused = 0;
    world_open(&w, &(struct kv_mem_options){.busy_permille = 300});
    for (unsigned i = 0; i < RECORDS; i++) {
        int rc = put(&w, i, i + 1);
        while (rc == -ERR_busy) {
            unsigned before = w.rooms;
            refused++;
            CHECK_RC(put(&w, i, i + 1), ERR_busy); /* no use before that */
            kv_room(w.kv, &w.room);
            CHECK_EQ(w.rooms, before);
            for (unsigned polls = 0; w.rooms == before; polls++) {
                CHECK_TRUE(polls < 4 && w.wakes > 0);
                w.wakes = 0;
                (void)kv_poll(w.kv);
            }
            rc = put(&w, i, i + 1);
        }
        CHECK_OK(rc);
        CHECK_EQ(kv_applied_index(w.kv), i + 1);
    }
    CHECK_TRUE(refused > RECORDS / 10 && refused < RECORDS);
    CHECK_TRUE(kv_statistics(w.kv).busy >= (uint64_t)2 * refused);
    world_close(&w);
}

TEST(without_room_for_long_its_end_tells_who_waits)
{
    struct world w;
    world_open(&w, &(struct kv_mem_options){.strict = true});
    kv_mem_set_full(w.kv, true);
    kv_room(w.kv, &w.room);
    for (unsigned polls = 0; polls < 10; polls++) {
        CHECK_RC(put(&w, 1, 1), ERR_busy);
        (void)kv_poll(w.kv);
    }
    CHECK_EQ(w.rooms, 0);
    kv_mem_set_full(w.kv, false);
    (void)kv_poll(w.kv);
    CHECK_EQ(w.rooms, 1);
    CHECK_OK(put(&w, 1, 1));
    kv_mem_set_full(w.kv, true);
    kv_room(w.kv, &w.room);
    world_close(&w);
    CHECK_EQ(w.rooms, 2);
}

TEST(its_end_ends_what_is_under_way)
{
    char key[16];
    struct world w;
    struct kv_slice value;
    struct kv_snapshot *s;
    world_open(&w, &(struct kv_mem_options){.need_permille = 1000, .fetch_polls_max = 1000});
    put_all(&w);
    CHECK_OK(kv_snapshot_new(w.kv, &s));
    CHECK_RC(kv_get(s, key_of(1, key), &w.need, &value), ERR_need);
    kv_fetch(w.kv, &w.fetch);
    kv_room(w.kv, &w.room);
    kv_stop(w.kv, &w.stop);
    CHECK_EQ(w.fetches + w.rooms + w.stops, 0);
    for (unsigned polls = 0; w.stops == 0; polls++) {
        CHECK_TRUE(polls < 3);
        (void)kv_poll(w.kv);
    }
    CHECK_EQ(w.fetches, 1);
    CHECK_EQ(w.rooms, 1);
    CHECK_EQ(kv_get(s, key_of(1, key), &w.need, &value), 1); /* what is there stays */
    CHECK_BYTES(value.at, "some value", 10);
    kv_need_release(&w.need);
    kv_snapshot_free(s);
    kv_free(w.kv);
}

struct saving {
    struct kv_checkpoint base;
    int rc;
};
static void saved(struct kv_checkpoint *c, int rc)
{
    container_of(c, struct saving, base)->rc = rc;
}

TEST(a_failed_engine_says_why_and_is_still_read)
{
    char key[16];
    struct world w;
    struct err e = {0};
    struct kv_slice value;
    struct kv_snapshot *s;
    struct saving c = {.base.done = saved, .rc = 1};
    world_open(&w, &(struct kv_mem_options){.strict = true});
    CHECK_OK(put(&w, 1, 1));
    CHECK_OK(kv_failed(w.kv, &e));
    CHECK_TRUE(kv_statistics(w.kv).dirty_bytes > 0);
    kv_mem_fail(w.kv, -EIO);
    CHECK_RC(kv_failed(w.kv, &e), EIO);
    CHECK_TRUE(e.text[0] != 0);
    CHECK_RC(put(&w, 2, 2), EIO);
    kv_checkpoint(w.kv, &c.base);
    (void)kv_poll(w.kv);
    CHECK_RC(c.rc, EIO);
    CHECK_OK(kv_snapshot_new(w.kv, &s));
    CHECK_EQ(kv_get(s, key_of(1, key), &w.need, &value), 1);
    CHECK_EQ(kv_get(s, key_of(2, key), &w.need, &value), 0);
    kv_snapshot_free(s);
    world_close(&w);
}

TEST(it_knows_what_the_next_checkpoint_is_for)
{
    struct world w;
    struct saving c = {.base.done = saved, .rc = 1};
    world_open(&w, &(struct kv_mem_options){.strict = true});
    put_all(&w);
    struct kv_statistics before = kv_statistics(w.kv);
    CHECK_TRUE(strcmp(before.engine, "memory") == 0);
    CHECK_TRUE(before.dirty_bytes >= (uint64_t)RECORDS * 18 && before.cache_used > 0);
    CHECK_EQ(before.cache_limit, 0);
    CHECK_TRUE(kv_checkpoints(w.kv).whole);
    kv_checkpoint(w.kv, &c.base);
    (void)kv_poll(w.kv);
    CHECK_OK(c.rc);
    CHECK_EQ(kv_statistics(w.kv).dirty_bytes, 0);
    world_close(&w);
}
