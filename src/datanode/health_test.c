/* datanode/health_test.c -- when a disk is judged sick, and when it is not. */
#include "datanode/health.h"

#include "testing/testing.h"

#include <errno.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define US UINT64_C(1000)
#define START (UINT64_C(5000) * MS)

struct rig {
    struct datanode_health h;
    uint64_t now_ns;
};

static struct rig rig_of(const struct datanode_health_limits *limits)
{
    static const struct datanode_health_limits none = {0};
    struct rig r = {.now_ns = START};
    datanode_health_init(&r.h, limits == NULL ? &none : limits, r.now_ns);
    return r;
}

/* `count` requests one after the other, judged after each; true: sick in between or now. */
static bool requests(struct rig *r, enum datanode_health_kind kind, unsigned count, uint64_t ns)
{
    bool sick = r->h.sick;
    for (unsigned i = 0; i < count; i++) {
        datanode_health_begun(&r->h, r->now_ns);
        r->now_ns += ns;
        datanode_health_ended(&r->h, r->now_ns);
        datanode_health_took(&r->h, kind, ns, r->now_ns);
        (void)datanode_health_judge(&r->h, r->now_ns);
        sick = sick || r->h.sick;
    }
    return sick;
}

static bool errors(struct rig *r, unsigned count, uint64_t pause_ms, int64_t rc)
{
    for (unsigned i = 0; i < count; i++) {
        datanode_health_error(&r->h, rc, r->now_ns);
        r->now_ns += pause_ms * MS;
        (void)datanode_health_judge(&r->h, r->now_ns);
    }
    return r->h.sick;
}

TEST(a_disk_that_works_is_well)
{
    struct rig r = rig_of(NULL);
    CHECK_TRUE(!datanode_health_judge(&r.h, r.now_ns));
    for (unsigned i = 0; i < 200; i++) {
        CHECK_TRUE(!requests(&r, (enum datanode_health_kind)(i % DATANODE_HEALTH_KINDS), 50,
                             (UINT64_C(1) + i % 7) * 500 * US));
    }
    r.now_ns += 86400000 * MS; /* idle for a day */
    CHECK_TRUE(!datanode_health_judge(&r.h, r.now_ns));
}

TEST(errors_in_a_short_time_make_it_sick_and_rare_ones_do_not)
{
    static const struct {
        unsigned count;
        uint64_t pause_ms;
        int64_t rc;
        bool sick;
    } cases[] = {
        {5, 0, -EIO, true},        {4, 0, -EIO, false},      {8, 10000, -EIO, true},
        {100, 60000, -EIO, false}, /* one a minute comes to two, never to five */
        {100, 25000, -EIO, false}, {20, 8000, -EIO, true},   {100, 0, -ENOSPC, false},
        {100, 0, -ENOENT, false},  {100, 0, -EAGAIN, false}, {100, 0, -EINVAL, false},
        {5, 0, -EROFS, true},      {5, 0, -EUCLEAN, true},   {5, 0, -ENXIO, true},
        {5, 0, -EBADMSG, true},    {5, 0, -ETIMEDOUT, true}, {5, 0, -ENODEV, true},
        {5, 0, -ENODATA, true},    {5, 0, -EREMOTEIO, true},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct rig r = rig_of(NULL);
        CHECK_EQ(errors(&r, cases[i].count, cases[i].pause_ms, cases[i].rc), cases[i].sick);
        CHECK_EQ(strstr(r.h.reason, "failed") != NULL, cases[i].sick);
    }
}

TEST(old_errors_are_forgotten)
{
    struct rig r = rig_of(NULL);
    CHECK_TRUE(!errors(&r, 4, 0, -EIO));
    r.now_ns += 60000 * MS; /* two are left */
    CHECK_TRUE(!errors(&r, 2, 0, -EIO));
    CHECK_TRUE(errors(&r, 1, 0, -EIO));
    r = rig_of(NULL);
    CHECK_TRUE(!errors(&r, 4, 0, -EIO));
    r.now_ns += UINT64_C(100) * 86400000 * MS;
    CHECK_TRUE(!errors(&r, 4, 0, -EIO));
}

TEST(a_disk_that_becomes_slow_is_sick_after_a_while)
{
    for (unsigned kind = 0; kind < DATANODE_HEALTH_KINDS; kind++) {
        struct rig r = rig_of(NULL);
        enum datanode_health_kind k = (enum datanode_health_kind)kind;
        CHECK_TRUE(!requests(&r, k, 1000, 5 * MS));
        uint64_t began_ns = r.now_ns;
        CHECK_TRUE(requests(&r, k, 30, 3000 * MS));
        CHECK_TRUE(r.h.changed_ns - began_ns >= 20000 * MS);
        CHECK_TRUE(strstr(r.h.reason, k == DATANODE_HEALTH_READ    ? "reads take"
                                      : k == DATANODE_HEALTH_WRITE ? "writes take"
                                                                   : "syncs take") != NULL);
        CHECK_TRUE(strstr(r.h.reason, "usual are 5 ms") != NULL);
    }
}

TEST(a_slow_moment_is_not_a_sick_disk)
{
    struct rig r = rig_of(NULL);
    for (unsigned i = 0; i < 50; i++) {
        CHECK_TRUE(!requests(&r, DATANODE_HEALTH_SYNC, 500, 5 * MS));
        CHECK_TRUE(!requests(&r, DATANODE_HEALTH_SYNC, 1, 60000 * MS)); /* one that took long */
    }
    r = rig_of(NULL);
    for (unsigned i = 0; i < 50; i++) { /* 15 s of trouble, then some that are quick */
        CHECK_TRUE(!requests(&r, DATANODE_HEALTH_SYNC, 500, 5 * MS));
        CHECK_TRUE(!requests(&r, DATANODE_HEALTH_SYNC, 5, 3000 * MS));
    }
}

/* The machine was stopped for an hour with a request under way, and little happens afterwards. */
TEST(a_pause_of_the_machine_is_not_a_sick_disk)
{
    struct rig r = rig_of(NULL);
    CHECK_TRUE(!requests(&r, DATANODE_HEALTH_READ, 500, 5 * MS));
    CHECK_TRUE(!requests(&r, DATANODE_HEALTH_READ, 1, 3600000 * MS));
    for (unsigned i = 0; i < 100; i++) {
        r.now_ns += 2500 * MS;
        CHECK_TRUE(!requests(&r, DATANODE_HEALTH_READ, 1, 5 * MS));
    }
}

TEST(slow_long_ago_is_not_slow_now)
{
    struct rig r = rig_of(NULL);
    CHECK_TRUE(!requests(&r, DATANODE_HEALTH_READ, 1000, 5 * MS));
    CHECK_TRUE(!requests(&r, DATANODE_HEALTH_READ, 5, 10000 * MS));
    r.now_ns += 3600000 * MS;
    CHECK_TRUE(!datanode_health_judge(&r.h, r.now_ns));
    CHECK_TRUE(!requests(&r, DATANODE_HEALTH_READ, 1, 10000 * MS));
}

TEST(a_disk_that_was_never_fast_is_as_usual)
{
    struct rig r = rig_of(NULL);
    CHECK_TRUE(!requests(&r, DATANODE_HEALTH_WRITE, 500, 4000 * MS));
    CHECK_TRUE(!requests(&r, DATANODE_HEALTH_WRITE, 100, 20000 * MS / 2));
    CHECK_EQ(r.h.pace[DATANODE_HEALTH_WRITE].slow_count, 0);
}

TEST(what_is_slow_for_this_disk_is_fast_in_itself)
{
    struct rig r = rig_of(NULL);
    CHECK_TRUE(!requests(&r, DATANODE_HEALTH_READ, 1000, 50 * US));
    CHECK_TRUE(!requests(&r, DATANODE_HEALTH_READ, 1000, 1500 * MS)); /* below the limit */
}

TEST(a_disk_from_which_nothing_comes_back_is_sick)
{
    struct rig r = rig_of(NULL);
    CHECK_TRUE(!requests(&r, DATANODE_HEALTH_READ, 10, 5 * MS));
    r.now_ns += 3600000 * MS;
    datanode_health_begun(&r.h, r.now_ns);
    datanode_health_begun(&r.h, r.now_ns + 1000 * MS);
    r.now_ns += 14999 * MS;
    CHECK_TRUE(!datanode_health_judge(&r.h, r.now_ns));
    r.now_ns += 1 * MS;
    CHECK_TRUE(!datanode_health_judge(&r.h, r.now_ns)); /* it may have been the process itself */
    CHECK_TRUE(datanode_health_judge(&r.h, r.now_ns));
    CHECK_TRUE(r.h.sick);
    CHECK_TRUE(strstr(r.h.reason, "nothing has come back from it for 15 s") != NULL);
    r.now_ns += 3600000 * MS; /* it has rested, and still nothing */
    CHECK_TRUE(!datanode_health_judge(&r.h, r.now_ns));
    datanode_health_ended(&r.h, r.now_ns);
    CHECK_TRUE(datanode_health_judge(&r.h, r.now_ns));
    CHECK_TRUE(!r.h.sick);
}

TEST(a_pause_of_the_process_is_no_silence_of_the_disk)
{
    struct rig r = rig_of(NULL);
    for (unsigned i = 0; i < 10; i++) {
        datanode_health_begun(&r.h, r.now_ns);
        r.now_ns += 60000 * MS;
        CHECK_TRUE(!datanode_health_judge(&r.h, r.now_ns));
        datanode_health_ended(&r.h, r.now_ns);
        CHECK_TRUE(!datanode_health_judge(&r.h, r.now_ns));
    }
}

TEST(a_disk_that_fails_one_process_after_the_other_is_sick)
{
    struct rig r = rig_of(NULL);
    datanode_health_failures(&r.h, 2);
    CHECK_TRUE(!datanode_health_judge(&r.h, r.now_ns));
    datanode_health_failures(&r.h, 3);
    CHECK_TRUE(datanode_health_judge(&r.h, r.now_ns));
    CHECK_TRUE(strstr(r.h.reason, "failed 3 times in a row") != NULL);
    r.now_ns += 600000 * MS; /* then it is tried again */
    CHECK_TRUE(datanode_health_judge(&r.h, r.now_ns));
    CHECK_TRUE(!datanode_health_judge(&r.h, r.now_ns));
}

TEST(it_rests_longer_each_time)
{
    static const uint64_t rests_ms[] = {1000, 2000, 4000, 8000, 8000};
    const struct datanode_health_limits limits = {.rest_ms = 1000, .rest_max_ms = 8000};
    struct rig r = rig_of(&limits);
    for (size_t i = 0; i < ARRAY_COUNT(rests_ms); i++) {
        CHECK_TRUE(errors(&r, 5, 0, -EIO));
        r.now_ns += (rests_ms[i] - 1) * MS;
        CHECK_TRUE(!datanode_health_judge(&r.h, r.now_ns));
        r.now_ns += 1 * MS;
        CHECK_TRUE(datanode_health_judge(&r.h, r.now_ns));
        CHECK_TRUE(!r.h.sick);
        CHECK_TRUE(!errors(&r, 4, 0, -EIO)); /* what was before is forgotten */
    }
    r.now_ns += 8000 * MS; /* well for long: it begins anew */
    CHECK_TRUE(errors(&r, 5, 0, -EIO));
    r.now_ns += 1000 * MS;
    CHECK_TRUE(datanode_health_judge(&r.h, r.now_ns));
}

TEST(limits_are_those_that_are_given)
{
    const struct datanode_health_limits limits = {
        .errors = 2, .slow_ms = 100, .slow_factor = 3, .slow_for_ms = 1000, .stuck_ms = 500};
    struct rig r = rig_of(&limits);
    CHECK_TRUE(!errors(&r, 1, 0, -EIO));
    CHECK_TRUE(errors(&r, 1, 0, -EIO));
    r = rig_of(&limits);
    CHECK_TRUE(!requests(&r, DATANODE_HEALTH_READ, 100, 50 * MS));
    CHECK_TRUE(!requests(&r, DATANODE_HEALTH_READ, 100, 120 * MS)); /* less than three times */
    CHECK_TRUE(requests(&r, DATANODE_HEALTH_READ, 100, 400 * MS));
    r = rig_of(&limits);
    datanode_health_begun(&r.h, r.now_ns);
    CHECK_TRUE(!datanode_health_judge(&r.h, r.now_ns + 500 * MS));
    CHECK_TRUE(datanode_health_judge(&r.h, r.now_ns + 600 * MS));
}
