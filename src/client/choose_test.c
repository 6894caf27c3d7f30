#include "client/choose_priv.h"

#include "testing/testing.h"

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define SMALL ((size_t)4096)
#define LARGE ((size_t)4 << 20)

static void answer(struct client_load *l, size_t bytes, uint64_t now_ns, uint64_t took_ns)
{
    client_load_begin(l);
    client_load_end(l, bytes, now_ns, took_ns);
}
static void answers(struct client_load *l, unsigned count, uint64_t now_ns, uint64_t took_ns)
{
    for (unsigned i = 0; i < count; i++) {
        answer(l, SMALL, now_ns, took_ns);
    }
}

TEST(the_moving_time_follows_and_believes_worse_sooner)
{
    struct client_load l = {0};
    CHECK_EQ(client_load_expect_ns(&l, SMALL, SECOND), 0);
    answers(&l, 100, SECOND, MS);
    CHECK_EQ(client_load_expect_ns(&l, SMALL, SECOND), MS);
    answer(&l, SMALL, SECOND, 9 * MS);
    CHECK_EQ(client_load_expect_ns(&l, SMALL, SECOND), 3 * MS);
    answer(&l, SMALL, SECOND, MS);
    CHECK_EQ(client_load_expect_ns(&l, SMALL, SECOND), 3 * MS - MS / 4);
    answers(&l, 100, SECOND, MS);
    CHECK_TRUE(client_load_expect_ns(&l, SMALL, SECOND) < MS + 100);
    CHECK_EQ(l.in_flight, 0);
}

TEST(lengths_are_kept_apart)
{
    struct client_load l = {0};
    for (unsigned i = 0; i < 20; i++) {
        answer(&l, LARGE, SECOND, 40 * MS);
        answer(&l, SMALL, SECOND, MS);
    }
    CHECK_EQ(client_load_expect_ns(&l, SMALL, SECOND), MS);
    CHECK_EQ(client_load_expect_ns(&l, LARGE, SECOND), 40 * MS);
    CHECK_EQ(client_load_expect_ns(&l, (size_t)1 << 20, SECOND), 0);
    CHECK_TRUE(client_load_late_ns(&l, SMALL) < 2 * MS);
    CHECK_TRUE(client_load_late_ns(&l, LARGE) >= 40 * MS);
    CHECK_EQ(client_load_late_ns(&l, (size_t)1 << 20), 0);
}

/* Who is not asked is forgotten: nobody is avoided for ever. */
TEST(times_fade_while_nobody_asks)
{
    struct client_load l = {0};
    answers(&l, 5, SECOND, 64 * MS);
    CHECK_EQ(client_load_expect_ns(&l, SMALL, 2 * SECOND), 32 * MS);
    CHECK_EQ(client_load_expect_ns(&l, SMALL, 7 * SECOND), MS);
    CHECK_EQ(client_load_expect_ns(&l, SMALL, 1000 * SECOND), 0);
    client_load_begin(&l);
    client_load_fail(&l, 2000 * SECOND, 5 * MS);
    CHECK_EQ(client_load_expect_ns(&l, SMALL, 2000 * SECOND), 100 * MS);
    client_load_begin(&l);
    client_load_fail(&l, 2000 * SECOND, 3 * SECOND);
    CHECK_EQ(client_load_expect_ns(&l, LARGE, 2000 * SECOND), 3 * SECOND);
    CHECK_EQ(client_load_expect_ns(&l, LARGE, 2100 * SECOND), 0);
    client_load_begin(&l);
    client_load_fail(&l, 2000 * SECOND, UINT64_MAX);
    CHECK_EQ(client_load_expect_ns(&l, LARGE, 2000 * SECOND), 60 * SECOND);
}

TEST(the_95th_percentile_is_that_of_the_newest_answers)
{
    struct client_load l = {0};
    answers(&l, 15, SECOND, MS);
    CHECK_EQ(client_load_late_ns(&l, SMALL), 0); /* too few to tell */
    answers(&l, 65, SECOND, MS);
    answers(&l, 4, SECOND, 200 * MS);
    uint64_t late = client_load_late_ns(&l, SMALL);
    CHECK_TRUE(late >= MS && late <= MS + MS / 4); /* 4 of 84 are less than 5 % */
    answers(&l, 2, SECOND, 200 * MS);
    late = client_load_late_ns(&l, SMALL);
    CHECK_TRUE(late >= 200 * MS && late <= 250 * MS);
    answers(&l, 5000, SECOND, 10 * MS); /* what was is forgotten, and nothing grows */
    late = client_load_late_ns(&l, SMALL);
    CHECK_TRUE(late >= 10 * MS && late <= 12 * MS + MS / 2);
    CHECK_TRUE(l.times[0].count < CLIENT_TIMES_MAX);
}

/* Each step holds what it says, from end to end. */
TEST(every_time_has_a_step_above_it)
{
    for (uint64_t ns = 1; ns < 70 * SECOND; ns += 1 + ns / 7) {
        struct client_load l = {0};
        answers(&l, 16, SECOND, ns);
        uint64_t late = client_load_late_ns(&l, SMALL);
        CHECK_TRUE(late >= base_min(ns, 60 * SECOND));
        CHECK_TRUE(late <= base_max(ns + ns / 4 + 1, UINT64_C(1) << 16));
    }
}

TEST(near_is_by_labels)
{
    CHECK_EQ(client_distance_of("a", "r1", "a", "r2"), CLIENT_SAME_HOST);
    CHECK_EQ(client_distance_of("a", "r1", "b", "r1"), CLIENT_SAME_RACK);
    CHECK_EQ(client_distance_of("a", "r1", "b", "r2"), CLIENT_ELSEWHERE);
    CHECK_EQ(client_distance_of("", "", "", ""), CLIENT_ELSEWHERE); /* not known is not equal */
    CHECK_EQ(client_distance_of("", "r1", "", "r1"), CLIENT_SAME_RACK);
}

struct members {
    struct client_load load[4];
    struct client_choice choice[4];
};
static void members_init(struct members *m)
{
    *m = (struct members){0};
    for (size_t i = 0; i < ARRAY_COUNT(m->load); i++) {
        m->choice[i] = (struct client_choice){
            .load = &m->load[i], .distance = CLIENT_ELSEWHERE, .allowed = true};
        answers(&m->load[i], 4, SECOND, MS);
    }
}
static size_t choose(const struct members *m, size_t count, uint64_t spread)
{
    const struct client_choice_of c = {
        .member = m->choice, .count = count, .bytes = SMALL, .spread = spread, .now_ns = SECOND};
    return client_choose(&c);
}

/* Equal members share the work, and the same bytes come from the same one. */
TEST(equal_members_are_homes_of_equal_parts)
{
    struct members m;
    members_init(&m);
    for (uint64_t spread = 0; spread < 12; spread++) {
        CHECK_EQ(choose(&m, 3, spread), spread % 3);
    }
    m.load[1].in_flight = 2; /* a little more is no reason to go elsewhere */
    CHECK_EQ(choose(&m, 3, 1), 1);
    m.load[1].in_flight = 9;
    CHECK_NE(choose(&m, 3, 1), 1);
    m.load[0].in_flight = m.load[2].in_flight = 9; /* they all have */
    CHECK_EQ(choose(&m, 3, 1), 1);
}

TEST(slow_members_are_left_until_they_are_forgotten)
{
    struct members m;
    members_init(&m);
    answers(&m.load[0], 10, SECOND, 50 * MS);
    for (uint64_t spread = 0; spread < 6; spread++) {
        CHECK_NE(choose(&m, 3, spread), 0);
    }
    m.load[1].in_flight = m.load[2].in_flight = 400; /* better slow than behind all these */
    CHECK_EQ(choose(&m, 3, 1), 0);
    const struct client_choice_of later = {
        .member = m.choice, .count = 3, .bytes = SMALL, .spread = 0, .now_ns = 60 * SECOND};
    CHECK_EQ(client_choose(&later), 0);
}

TEST(near_members_are_preferred_as_long_as_they_keep_up)
{
    struct members m;
    members_init(&m);
    m.choice[2].distance = CLIENT_SAME_RACK;
    for (uint64_t spread = 0; spread < 6; spread++) {
        CHECK_EQ(choose(&m, 3, spread), 2);
    }
    m.choice[1].distance = CLIENT_SAME_HOST;
    for (uint64_t spread = 0; spread < 6; spread++) {
        CHECK_EQ(choose(&m, 3, spread), 1);
    }
    m.load[1].in_flight = 30;
    CHECK_EQ(choose(&m, 3, 0), 2);
    m.load[2].in_flight = 30;
    CHECK_EQ(choose(&m, 3, 0), 0);
    m.choice[0].allowed = m.choice[2].allowed = false;
    CHECK_EQ(choose(&m, 3, 0), 1);
    m.choice[1].allowed = false;
    CHECK_EQ(choose(&m, 3, 0), 3);
    CHECK_EQ(choose(&m, 0, 5), 0);
}

/* One that was never asked is worth a try. */
TEST(new_members_are_asked)
{
    struct members m;
    members_init(&m);
    m.load[1] = (struct client_load){0};
    for (uint64_t spread = 0; spread < 6; spread++) {
        CHECK_EQ(choose(&m, 3, spread), 1);
    }
}

/* The model of a chain: each member serves one request at a time, one of them ten times slower, and
 * the client has up to eight under way. The slow one gets what it can do, about a twentieth, and
 * the others do not wait for it. */
struct flight {
    uint64_t began_ns, ends_ns;
    size_t member;
};
TEST(work_is_shared_by_what_members_can_do)
{
    static const uint64_t serve_ns[3] = {MS, MS, 10 * MS};
    struct members m;
    struct flight flight[8] = {{0}};
    uint64_t free_ns[3] = {0}, asked[3] = {0};
    members_init(&m);
    m.load[2] = (struct client_load){0};
    for (uint64_t i = 0; i < 8000; i++) {
        struct flight *first = &flight[0]; /* idle, or the next to end */
        for (size_t k = 0; k < ARRAY_COUNT(flight); k++) {
            first = flight[k].ends_ns < first->ends_ns ? &flight[k] : first;
        }
        uint64_t now = base_max(first->ends_ns, SECOND);
        if (first->ends_ns != 0) {
            client_load_end(&m.load[first->member], SMALL, now, now - first->began_ns);
        }
        const struct client_choice_of c = {
            .member = m.choice, .count = 3, .bytes = SMALL, .spread = i, .now_ns = now};
        size_t to = client_choose(&c);
        CHECK_TRUE(to < 3);
        client_load_begin(&m.load[to]);
        free_ns[to] = base_max(free_ns[to], now) + serve_ns[to];
        *first = (struct flight){.began_ns = now, .ends_ns = free_ns[to], .member = to};
        asked[to]++;
    }
    CHECK_TRUE(asked[2] > 0 && asked[2] < 600);
    CHECK_TRUE(asked[0] > 3000 && asked[1] > 3000);
    CHECK_TRUE(free_ns[0] < 6 * SECOND &&
               free_ns[1] < 6 * SECOND); /* 3.8 s of them if nothing were lost */
}

TEST(second_requests_are_a_few_of_a_hundred)
{
    struct client_budget b;
    unsigned taken = 0;
    client_budget_init(&b);
    for (unsigned i = 1; i <= 10000; i++) {
        client_budget_earn(&b);
        taken += client_budget_take(&b) ? 1 : 0; /* all want one */
        CHECK_TRUE(taken * CLIENT_HEDGE_SHARE <= i + CLIENT_HEDGE_SHARE);
    }
    CHECK_TRUE(taken >= 10000 / CLIENT_HEDGE_SHARE);
    for (unsigned i = 0; i < 10000; i++) {
        client_budget_earn(&b);
    }
    for (taken = 0; client_budget_take(&b); taken++) {
    }
    CHECK_EQ(taken, CLIENT_HEDGE_BURST); /* what is saved is bounded */
}
