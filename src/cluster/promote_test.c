/* Promotion by an administrator: every row of up to three members with everything that can be known
 * of them, against the rule once more; what becomes of those that are set aside. */
#include "cluster/promote.h"

#include "cluster/moves.h"
#include "testing/testing.h"

#include <string.h>

enum {
    S = PROTO_MEMBER_SERVING,
    Y = PROTO_MEMBER_SYNCING,
    W = PROTO_MEMBER_WAITING,
    L = PROTO_MEMBER_LAST_SERVING,
    O = PROTO_MEMBER_OFFLINE,
    A, /* offline, set aside */
};

static const struct cluster_chain_times waited = {
    .now_ns = 1060, .dark_since_ns = 1000, .dark_wait_ns = 60, .wall_ms = 777};

static const struct cluster_fact there = {
    .present = true, .intact = true, .heard_ns = 100, .known_epoch = 9, .held = PROTO_HELD_WHOLE};

static struct cluster_row row_of(size_t count, const int *states, const uint32_t *left)
{
    struct cluster_row row = {.chain = 7, .epoch = 9, .loss_gen = 2, .class_id = 1, .count = count};
    for (size_t i = 0; i < count; i++) {
        bool aside = states[i] == A;
        row.member[i] = (struct cluster_member){.target = (uint32_t)(i + 1),
                                                .state = aside ? PROTO_MEMBER_OFFLINE
                                                               : (enum proto_member_state)states[i],
                                                .aside = aside,
                                                .left_epoch = left[i],
                                                .left_ms = left[i] * UINT64_C(100)};
    }
    return row;
}

/* --- the rule once more ----------------------------------------------------------------------- */

struct whole {
    struct cluster_row row;
    struct cluster_fact fact[3];
    struct cluster_chain_times times;
};

static bool can_say(const struct whole *x, size_t i)
{
    return x->fact[i].present && !x->fact[i].gone && x->fact[i].known_epoch == x->row.epoch;
}

static bool has_all(const struct whole *x, size_t i)
{
    int state = (int)x->row.member[i].state;
    return can_say(x, i) && x->fact[i].held == PROTO_HELD_WHOLE && (state == W || state == O);
}

static bool is_before(const struct whole *x, size_t i)
{
    return x->row.member[i].left_epoch < x->row.promotion.epoch;
}

/* Is it known that member j has all that member i has, and more? */
static bool has_more(const struct whole *x, size_t j, size_t i)
{
    uint32_t mine = x->row.member[i].left_epoch, other = x->row.member[j].left_epoch;
    return has_all(x, j) && other > mine && (mine == 0 || is_before(x, i) == is_before(x, j));
}

static bool may(const struct whole *x, size_t i)
{
    bool ok = has_all(x, i) && x->times.now_ns - x->times.dark_since_ns >= x->times.dark_wait_ns;
    for (size_t j = 0; j < x->row.count; j++) {
        int state = (int)x->row.member[j].state;
        bool back = state == L && x->fact[j].present && !x->fact[j].gone;
        ok = ok && state != S && !back && !(j != i && has_more(x, j, i));
    }
    return ok;
}

/* Nothing that may have more than the promoted one is made equal to it, however it goes on. */
static void check_after(const struct whole *x, size_t chosen, const struct cluster_row *next)
{
    uint32_t of = x->row.member[chosen].left_epoch;
    CHECK_TRUE(cluster_row_valid(next));
    CHECK_EQ(next->epoch, x->row.epoch + 1);
    CHECK_EQ(next->loss_gen, x->row.loss_gen + 1);
    CHECK_EQ(next->count, x->row.count);
    CHECK_EQ(next->member[0].target, x->row.member[chosen].target);
    CHECK_EQ(cluster_row_serving_count(next), 1);
    CHECK_EQ(next->promotion.target, x->row.member[chosen].target);
    CHECK_EQ(next->promotion.epoch, next->epoch);
    CHECK_EQ(next->promotion.of_epoch, of);
    CHECK_EQ(next->member[0].left_epoch, 0);
    for (size_t i = 0; i < x->row.count; i++) {
        const struct cluster_member *was = &x->row.member[i];
        const struct cluster_member *is = &next->member[cluster_row_find(next, was->target)];
        bool part = can_say(x, i) && x->fact[i].held == PROTO_HELD_PART;
        bool less = was->left_epoch != 0 && of != 0 && was->left_epoch <= of &&
                    is_before(x, i) == is_before(x, chosen);
        bool lost = i != chosen && (was->aside || (int)was->state == L || (!part && !less));
        CHECK_EQ(is->aside, lost);
        CHECK_TRUE(i == chosen || is->left_epoch == was->left_epoch);
        CHECK_TRUE(i == chosen || is->state == (lost ? PROTO_MEMBER_OFFLINE : was->state));
    }
}

static void check_whole(const struct whole *x)
{
    size_t best = cluster_promote_best(&x->row, x->fact, &x->times);
    uint32_t most = 0;
    bool any = false;
    for (size_t i = 0; i < x->row.count; i++) {
        size_t other = 99;
        uint32_t target = x->row.member[i].target;
        enum cluster_promotable p =
            cluster_promote_check(&x->row, x->fact, &x->times, target, &other);
        bool ok = may(x, i);
        CHECK_EQ(p == CLUSTER_PROMOTE_MAY, ok);
        CHECK_TRUE(other <= x->row.count);
        bool names = p == CLUSTER_PROMOTE_SERVED || p == CLUSTER_PROMOTE_RETURNS ||
                     p == CLUSTER_PROMOTE_OLDER;
        CHECK_EQ(other < x->row.count, names);
        if (ok) {
            struct cluster_row next;
            any = true;
            most = x->row.member[i].left_epoch > most ? x->row.member[i].left_epoch : most;
            cluster_promote_row(&x->row, x->fact, target, 777, &next);
            check_after(x, i, &next);
        }
    }
    CHECK_EQ(best < x->row.count, any);
    CHECK_TRUE(!any || (may(x, best) && x->row.member[best].left_epoch == most));
}

/* A member's state, until when its copy was whole, and what it says. */
#define STATES 6u
#define LEFTS 3u
#define SAYS 5u
#define ALL (STATES * LEFTS * SAYS)
static void set_member(struct whole *x, size_t i, unsigned code, int *state, uint32_t *left)
{
    static const int states[STATES] = {S, Y, W, L, O, A};
    static const uint32_t lefts[LEFTS] = {0, 3, 6};
    static const struct cluster_fact facts[SAYS] = {
        {.heard_ns = 1, .known_epoch = 9, .held = PROTO_HELD_WHOLE}, /* not there any more */
        {.present = true, .known_epoch = 9, .held = PROTO_HELD_WHOLE},
        {.present = true, .known_epoch = 9, .held = PROTO_HELD_PART},
        {.present = true, .known_epoch = 9},
        {.present = true, .known_epoch = 8, .held = PROTO_HELD_WHOLE}};
    state[i] = states[code % STATES];
    left[i] = lefts[code / STATES % LEFTS];
    x->fact[i] = facts[code / STATES / LEFTS];
}

TEST(promotion_is_refused_whenever_less_may_be_lost)
{
    uint64_t checked = 0;
    for (size_t count = 1; count <= 3; count++) {
        unsigned end = count == 1 ? ALL : count == 2 ? ALL * ALL : ALL * ALL * ALL;
        for (unsigned code = 0; code < end; code++) {
            struct whole x = {.times = waited};
            int state[3];
            uint32_t left[3];
            for (size_t i = 0, rest = code; i < count; i++, rest /= ALL) {
                set_member(&x, i, (unsigned)(rest % ALL), state, left);
            }
            x.row = row_of(count, state, left);
            if (!cluster_row_valid(&x.row)) {
                continue;
            }
            for (unsigned how = 0; how < 3; how++) {
                x.row.promotion.epoch = how == 1 ? 5 : 0;
                x.times.now_ns = how == 2 ? 1059 : 1060;
                check_whole(&x);
                checked++;
            }
        }
    }
    CHECK_TRUE(checked > 300000);
}

TEST(promotion_says_why_it_is_refused)
{
    static const struct {
        const char *name;
        int state[3];
        uint32_t left[3];
        enum proto_held held;
        bool away; /* the first one */
        uint32_t target;
        enum cluster_promotable says;
    } cases[] = {
        {"the set is lost", {W, L, L}, {3, 0, 0}, PROTO_HELD_WHOLE, false, 1, CLUSTER_PROMOTE_MAY},
        {"one serves", {S, W, O}, {0, 3, 3}, PROTO_HELD_WHOLE, false, 2, CLUSTER_PROMOTE_SERVED},
        {"one of the set", {W, L, O}, {3, 6, 3}, PROTO_HELD_WHOLE, false, 2, CLUSTER_PROMOTE_SET},
        {"a stranger", {W, L, L}, {3, 6, 6}, PROTO_HELD_WHOLE, false, 9, CLUSTER_PROMOTE_STRANGER},
        {"away", {O, L, L}, {3, 6, 6}, PROTO_HELD_WHOLE, true, 1, CLUSTER_PROMOTE_AWAY},
        {"a part", {W, L, L}, {3, 6, 6}, PROTO_HELD_PART, false, 1, CLUSTER_PROMOTE_PART},
        {"says nothing",
         {W, L, L},
         {3, 6, 6},
         PROTO_HELD_UNKNOWN,
         false,
         1,
         CLUSTER_PROMOTE_SILENT},
        {"set aside before", {A, L, L}, {3, 6, 6}, PROTO_HELD_WHOLE, false, 1, CLUSTER_PROMOTE_MAY},
    };
    for (size_t k = 0; k < ARRAY_COUNT(cases); k++) {
        struct cluster_row row = row_of(3, cases[k].state, cases[k].left);
        struct cluster_fact fact[3] = {there, {.known_epoch = 9}, {.known_epoch = 9}};
        size_t other;
        fact[0].present = !cases[k].away;
        fact[0].held = cases[k].held;
        enum cluster_promotable says =
            cluster_promote_check(&row, fact, &waited, cases[k].target, &other);
        if (says != cases[k].says) {
            CHECK_TEXT(cases[k].name, "");
        }
        CHECK_EQ(says, cases[k].says);
    }
}

/* One of the set that is there is going to serve, be it lossy or behind. */
TEST(promotion_waits_for_one_of_the_set_that_is_there)
{
    struct cluster_row row = row_of(2, (const int[]){W, L}, (const uint32_t[]){3, 6});
    struct cluster_fact fact[2] = {there, {.present = true, .known_epoch = 1}};
    size_t other;
    CHECK_EQ(cluster_promote_check(&row, fact, &waited, 1, &other), CLUSTER_PROMOTE_RETURNS);
    CHECK_EQ(other, 1);
    fact[1].gone = true; /* it says that it does not serve: it has no whole copy, say */
    CHECK_EQ(cluster_promote_check(&row, fact, &waited, 1, &other), CLUSTER_PROMOTE_MAY);
}

/* --- what follows ----------------------------------------------------------------------------- */

/* The newer one comes back: it stays as it is until an administrator gives it up. */
TEST(promotion_puts_aside_what_may_have_more)
{
    struct cluster_row row = row_of(3, (const int[]){L, W, L}, (const uint32_t[]){6, 3, 6}), next,
                       then;
    struct cluster_fact fact[3] = {{0}, there, {0}};
    cluster_promote_row(&row, fact, 2, 777, &next);
    CHECK_EQ(next.promotion.of_ms, 300);
    CHECK_EQ(next.promotion.time_ms, 777);
    char text[256];
    cluster_row_to_text(&next, text, sizeof text);
    CHECK_TEXT(text, "chain 7 epoch 10 loss_gen 3: 2=serving 1=offline(aside) 3=offline(aside)");
    for (size_t i = 0; i < 3; i++) {
        fact[i] = there;
        fact[i].known_epoch = next.epoch;
    }
    CHECK_TRUE(!cluster_chain_step(&next, fact, &waited, &then));
    CHECK_TRUE(!cluster_discard_row(&next, 2, &then)); /* it serves */
    CHECK_TRUE(!cluster_discard_row(&next, 9, &then));
    CHECK_TRUE(cluster_discard_row(&next, 1, &then));
    CHECK_EQ(then.epoch, next.epoch + 1);
    CHECK_TRUE(!cluster_discard_row(&then, 1, &next));
    for (size_t i = 0; i < 3; i++) {
        fact[i].known_epoch = then.epoch;
    }
    CHECK_TRUE(cluster_chain_step(&then, fact, &waited, &next));
    cluster_row_to_text(&next, text, sizeof text);
    CHECK_TEXT(text, "chain 7 epoch 12 loss_gen 3: 2=serving 1=waiting 3=offline(aside)");
}

/* When what was promoted is lost as well, the newer one is the better way out. */
TEST(promotion_of_one_that_was_set_aside)
{
    struct cluster_row row = row_of(3, (const int[]){L, A, W}, (const uint32_t[]){8, 4, 3}), next;
    struct cluster_fact fact[3] = {{0}, there, there};
    size_t other;
    row.promotion = (struct cluster_promotion){.target = 1, .epoch = 5, .of_epoch = 3};
    CHECK_EQ(cluster_promote_best(&row, fact, &waited), 1);
    CHECK_EQ(cluster_promote_check(&row, fact, &waited, 3, &other), CLUSTER_PROMOTE_OLDER);
    CHECK_EQ(other, 1);
    cluster_promote_row(&row, fact, 2, 777, &next);
    CHECK_TRUE(!next.member[0].aside);
    CHECK_TRUE(next.member[1].aside);  /* what was promoted before has what was written since */
    CHECK_TRUE(!next.member[2].aside); /* older, of the same line */
    struct cluster_row dark = row_of(2, (const int[]){L, A}, (const uint32_t[]){8, 4});
    CHECK_TRUE(!cluster_discard_row(&dark, 2, &next)); /* it may be needed */
}

TEST(rows_say_until_when_copies_were_whole)
{
    struct cluster_row row = row_of(3, (const int[]){S, S, Y}, (const uint32_t[]){0, 0, 2}), next;
    struct cluster_fact fact[3] = {there, there, there};
    fact[0].gone = true;
    fact[0].gone_ns = 50;
    CHECK_TRUE(cluster_chain_step(&row, fact, &waited, &next)); /* the head leaves */
    CHECK_EQ(next.member[cluster_row_find(&next, 1)].left_epoch, 9);
    CHECK_EQ(next.member[cluster_row_find(&next, 1)].left_ms, 777);
    CHECK_EQ(next.member[cluster_row_find(&next, 2)].left_epoch, 0);
    CHECK_EQ(next.member[cluster_row_find(&next, 3)].left_epoch, 2); /* a session does not count */
    fact[1].gone = true;
    CHECK_TRUE(cluster_chain_step(&row, fact, &waited, &next)); /* both: the set */
    CHECK_EQ(next.member[0].left_epoch, 9);
    CHECK_EQ(next.member[1].left_epoch, 9);
    CHECK_EQ(next.member[2].left_epoch, 2);
    row = row_of(2, (const int[]){S, Y}, (const uint32_t[]){0, 2});
    fact[0] = fact[1] = there;
    fact[1].synced_epoch = 9;
    CHECK_TRUE(cluster_chain_step(&row, fact, &waited, &next)); /* it is whole again */
    CHECK_EQ(next.member[1].left_epoch, 0);
    CHECK_EQ(next.member[1].left_ms, 0);
}

TEST(rows_take_with_them_what_was_set_aside)
{
    struct cluster_row row = row_of(3, (const int[]){S, A, O}, (const uint32_t[]){0, 4, 3}), back;
    struct proto_member members[CLUSTER_MEMBERS_MAX];
    struct cluster_row_rest rest;
    struct proto_row message;
    CHECK_EQ(cluster_row_rest_count(&row), 2);
    row.promotion = (struct cluster_promotion){
        .target = 1, .epoch = 5, .of_epoch = 2, .of_ms = 200, .time_ms = 777};
    CHECK_EQ(cluster_row_rest_count(&row), 3);
    cluster_row_to_proto(&row, members, &message);
    CHECK_OK(cluster_row_from_proto(&message, &back)); /* as a node of an earlier version sees it */
    CHECK_TRUE(!back.member[1].aside);
    CHECK_EQ(back.promotion.epoch, 0);
    cluster_row_rest_to_proto(&row, &rest, &message);
    CHECK_EQ(message.left.count, 2);
    CHECK_OK(cluster_row_from_proto(&message, &back));
    for (size_t i = 0; i < 3; i++) {
        CHECK_EQ(back.member[i].aside, row.member[i].aside);
        CHECK_EQ(back.member[i].left_epoch, row.member[i].left_epoch);
        CHECK_EQ(back.member[i].left_ms, row.member[i].left_ms);
    }
    CHECK_EQ(back.promotion.of_ms, 200);
    CHECK_EQ(back.promotion.target, 1);
    rest.left[0].target = 1; /* who serves is not aside */
    CHECK_RC(cluster_row_from_proto(&message, &back), ERR_bad_value);
    rest.left[0].target = 9;
    CHECK_RC(cluster_row_from_proto(&message, &back), ERR_bad_value);
}

/* --- moves ------------------------------------------------------------------------------------ */

#define PLACES 4u
/* What is aside counts as lost at once, and is never taken away. */
TEST(moves_leave_alone_what_was_set_aside)
{
    struct cluster_row row = row_of(2, (const int[]){S, A}, (const uint32_t[]){0, 4});
    struct cluster_place place[PLACES];
    bool suits[PLACES];
    struct cluster_moves_class class = {
        .id = 1, .copies = 2, .domain = PROTO_DOMAIN_TARGET, .suits = suits};
    struct cluster_moves_chain chain = {.row = &row};
    for (uint32_t i = 0; i < PLACES; i++) {
        place[i] = (struct cluster_place){
            .target = {.id = i + 1, .weight = 100, .host_key = i + 1, .rack_key = i + 1},
            .usable = true};
        suits[i] = true;
    }
    const struct cluster_moves_facts facts = {.place = place,
                                              .place_count = PLACES,
                                              .class = &class,
                                              .class_count = 1,
                                              .chain = &chain,
                                              .chain_count = 1,
                                              .per_target = 2,
                                              .balance = true};
    struct cluster_move move[4];
    struct cluster_moves_sum sum;
    size_t count = 0;
    CHECK_OK(cluster_moves_plan(&facts, move, 4, &count, &sum));
    CHECK_EQ(count, 1);
    CHECK_EQ(move[0].kind, CLUSTER_MOVE_JOIN);
    CHECK_TRUE(move[0].target > 2);
    CHECK_EQ(sum.lost, 1);
    row = row_of(3, (const int[]){S, S, A}, (const uint32_t[]){0, 0, 4});
    place[2].leaves = true; /* its target is to be removed, too */
    CHECK_OK(cluster_moves_plan(&facts, move, 4, &count, &sum));
    CHECK_EQ(count, 0);
    CHECK_EQ(sum.lost, 0);
    CHECK_EQ(sum.leaving, 1); /* it is not empty before that is given up */
}
