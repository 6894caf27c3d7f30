/*
 * A small world of targets and chains that does what the planner says, one step at a time: members
 * that join wait, sync and serve; those that are revoked are offline. Each move is checked when it
 * is made, and what is left when none comes any more.
 */
#include "cluster/moves.h"

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"

#include <string.h>

#define PLACES 24u
#define CHAINS 512u
#define MOVES 64u
#define PER_TARGET 2u

struct world {
    struct cluster_place place[PLACES];
    bool up[PLACES], lost[PLACES], suits[PLACES];
    size_t place_count, copies;
    enum proto_failure_domain domain;
    struct cluster_row row[CHAINS];
    struct cluster_moves_chain chain[CHAINS];
    size_t chain_count;
    struct cluster_moves_sum sum;
    bool balance;
    size_t joins, begun[PLACES];
};

static void add_place(struct world *w, uint64_t host, uint64_t rack)
{
    size_t i = w->place_count++;
    CHECK(i < PLACES);
    w->place[i] = (struct cluster_place){
        .target = {.id = (uint32_t)i + 1, .weight = 100, .host_key = host, .rack_key = rack},
        .usable = true};
    w->up[i] = w->suits[i] = true;
}

static void grow(struct world *w, uint32_t born)
{
    struct cluster_target target[PLACES];
    struct cluster_row *rows = NULL;
    size_t n = 0, count = 0;
    bool enough = false;
    for (size_t i = 0; i < w->place_count; i++) {
        if (w->place[i].usable && !w->place[i].leaves) {
            target[n++] = w->place[i].target;
        }
    }
    struct cluster_placement p = {.copies = w->copies,
                                  .domain = w->domain,
                                  .target = target,
                                  .target_count = n,
                                  .row = w->row,
                                  .row_count = w->chain_count};
    CHECK_OK(cluster_placement_grow(&p, (uint32_t)w->chain_count + 1, &rows, &count, &enough));
    CHECK(w->chain_count + count <= CHAINS);
    for (size_t i = 0; i < count; i++) {
        w->row[w->chain_count] = rows[i];
        w->row[w->chain_count].class_id = 1;
        w->row[w->chain_count++].born = born;
    }
    mem_free(rows);
}

static void world_make(struct world *w, size_t places, size_t copies, size_t per_host)
{
    *w = (struct world){.copies = copies,
                        .domain = per_host > 1 ? PROTO_DOMAIN_HOST : PROTO_DOMAIN_TARGET,
                        .balance = true};
    for (size_t i = 0; i < places; i++) {
        add_place(w, 100 + i / per_host, 1);
    }
    grow(w, 1);
    CHECK(w->chain_count > 0);
}

static void facts_of(struct world *w, struct cluster_moves_class *class,
                     struct cluster_moves_facts *ret)
{
    *class = (struct cluster_moves_class){
        .id = 1, .copies = w->copies, .domain = w->domain, .suits = w->suits};
    for (size_t i = 0; i < w->chain_count; i++) {
        w->chain[i] = (struct cluster_moves_chain){.row = &w->row[i]};
        for (size_t j = 0; j < w->row[i].count; j++) {
            w->chain[i].lost |= w->lost[w->row[i].member[j].target - 1] ? 1U << j : 0;
        }
    }
    *ret = (struct cluster_moves_facts){.place = w->place,
                                        .place_count = w->place_count,
                                        .class = class,
                                        .class_count = 1,
                                        .chain = w->chain,
                                        .chain_count = w->chain_count,
                                        .per_target = PER_TARGET,
                                        .balance = w->balance};
}

static bool same_domain(const struct world *w, uint32_t a, uint32_t b)
{
    const struct cluster_target *x = &w->place[a - 1].target, *y = &w->place[b - 1].target;
    return w->domain == PROTO_DOMAIN_RACK   ? x->rack_key == y->rack_key
           : w->domain == PROTO_DOMAIN_HOST ? x->host_key == y->host_key
                                            : a == b;
}

/* Members that stay, but one. */
static bool fits(const struct world *w, const struct cluster_row *row, uint32_t target)
{
    for (size_t i = 0; i < row->count; i++) {
        uint32_t m = row->member[i].target;
        if (!w->place[m - 1].leaves && !w->lost[m - 1] && same_domain(w, m, target)) {
            return false;
        }
    }
    return true;
}

static void check_join(const struct world *w, const struct cluster_row *row, uint32_t target)
{
    const struct cluster_place *p = &w->place[target - 1];
    CHECK_TRUE(p->usable && !p->leaves);
    CHECK_EQ(cluster_row_find(row, target), row->count);
    CHECK_TRUE(cluster_row_serving_count(row) > 0);
    size_t stay = 0;
    for (size_t i = 0; i < row->count; i++) {
        uint32_t m = row->member[i].target;
        stay += w->place[m - 1].leaves || w->lost[m - 1] ? 0 : 1;
    }
    for (uint32_t i = 0; i < w->place_count && stay < w->copies; i++) {
        const struct cluster_place *other = &w->place[i];
        bool may = other->usable && !other->leaves && w->suits[i] &&
                   cluster_row_find(row, i + 1) == row->count;
        CHECK_TRUE(fits(w, row, target) || !may || !fits(w, row, i + 1)); /* avoidable? */
    }
}

static void revoke(struct cluster_row *row, uint32_t target)
{
    size_t at = cluster_row_find(row, target);
    struct cluster_member m = {.target = target, .state = PROTO_MEMBER_OFFLINE};
    memmove(&row->member[at], &row->member[at + 1], (row->count - at - 1) * sizeof row->member[0]);
    row->member[row->count - 1] = m;
    row->epoch++;
}

static void make_move(struct world *w, const struct cluster_move *m)
{
    struct cluster_row *row = &w->row[m->chain];
    size_t at = cluster_row_find(row, m->target), serving = cluster_row_serving_count(row);
    if (m->kind == CLUSTER_MOVE_JOIN) {
        check_join(w, row, m->target);
        w->joins++;
        w->begun[m->target - 1]++;
        cluster_move_row(row, m, row);
        return;
    }
    CHECK_TRUE(at < row->count);
    enum proto_member_state s = row->member[at].state;
    if (m->kind == CLUSTER_MOVE_REVOKE) {
        CHECK_TRUE(s == PROTO_MEMBER_SERVING || s == PROTO_MEMBER_SYNCING);
        CHECK_TRUE(serving - (s == PROTO_MEMBER_SERVING) >= w->copies); /* never below */
        revoke(row, m->target);
        return;
    }
    CHECK_TRUE(s == PROTO_MEMBER_OFFLINE || s == PROTO_MEMBER_WAITING);
    CHECK_TRUE(serving >= w->copies);
    cluster_move_row(row, m, row);
}

/* What the chains do by themselves: waiting -> syncing -> serving, and what is down is offline. */
static void chain_live(struct world *w, struct cluster_row *row)
{
    size_t serving = cluster_row_serving_count(row);
    for (size_t i = 0; i < row->count; i++) {
        bool up = w->up[row->member[i].target - 1];
        enum proto_member_state s = row->member[i].state;
        if (!up && s != PROTO_MEMBER_OFFLINE) {
            if (s != PROTO_MEMBER_SERVING || serving > 1) {
                revoke(row, row->member[i].target);
            }
            return;
        }
        bool enough = row->count > w->copies && serving >= w->copies; /* was made to stop */
        if (up && s == PROTO_MEMBER_OFFLINE && !enough &&
            !w->place[row->member[i].target - 1].leaves) {
            row->member[i].state = PROTO_MEMBER_WAITING;
        }
    }
    if (serving < row->count && row->member[serving].state == PROTO_MEMBER_SYNCING) {
        row->member[serving].state = PROTO_MEMBER_SERVING;
        row->epoch++;
        return;
    }
    for (size_t i = serving; i < row->count; i++) {
        if (row->member[i].state == PROTO_MEMBER_WAITING) {
            struct cluster_member m = row->member[i];
            row->member[i] = row->member[serving];
            m.state = PROTO_MEMBER_SYNCING;
            row->member[serving] = m;
            row->epoch++;
            return;
        }
    }
}

/* No target has more to do than it may: as the one that gets, or the one that gives. */
static void check_limit(const struct world *w)
{
    size_t active[PLACES] = {0};
    for (size_t i = 0; i < w->chain_count; i++) {
        const struct cluster_row *row = &w->row[i];
        size_t serving = cluster_row_serving_count(row);
        for (size_t j = serving; j < row->count; j++) {
            uint32_t m = row->member[j].target;
            bool comes = row->member[j].state != PROTO_MEMBER_OFFLINE && !w->place[m - 1].leaves;
            if (comes && row->member[j].state != PROTO_MEMBER_LAST_SERVING && serving > 0) {
                active[m - 1]++;
                active[row->member[serving - 1].target - 1]++;
            }
        }
    }
    for (size_t i = 0; i < w->place_count; i++) {
        CHECK_TRUE(active[i] <= PER_TARGET);
    }
}

/* True: something is under way. */
static bool world_step(struct world *w)
{
    struct cluster_moves_class class;
    struct cluster_moves_facts facts;
    struct cluster_move move[MOVES];
    size_t count = 0;
    facts_of(w, &class, &facts);
    CHECK_OK(cluster_moves_plan(&facts, move, MOVES, &count, &w->sum));
    for (size_t i = 0; i < count; i++) {
        make_move(w, &move[i]);
        CHECK_TRUE(cluster_row_valid(&w->row[move[i].chain]));
    }
    bool busy = count > 0;
    for (size_t i = 0; i < w->chain_count; i++) {
        uint32_t epoch = w->row[i].epoch;
        chain_live(w, &w->row[i]);
        CHECK_TRUE(cluster_row_valid(&w->row[i]));
        busy = busy || w->row[i].epoch != epoch;
    }
    return busy;
}

static void world_rest(struct world *w)
{
    unsigned steps = 0;
    while (world_step(w)) {
        CHECK(++steps < 20000);
    }
}

static size_t members_on(const struct world *w, uint32_t target)
{
    size_t n = 0;
    for (size_t i = 0; i < w->chain_count; i++) {
        n += cluster_row_find(&w->row[i], target) < w->row[i].count;
    }
    return n;
}

static size_t clashes(const struct world *w)
{
    size_t n = 0;
    for (size_t i = 0; i < w->chain_count; i++) {
        for (size_t j = 0; j < w->row[i].count; j++) {
            for (size_t k = 0; k < j; k++) {
                n += same_domain(w, w->row[i].member[j].target, w->row[i].member[k].target);
            }
        }
    }
    return n;
}

/* All chains have just their copies, all serving, none on a target that leaves. */
static void check_whole(const struct world *w)
{
    for (size_t i = 0; i < w->chain_count; i++) {
        const struct cluster_row *row = &w->row[i];
        CHECK_EQ(row->count, w->copies);
        CHECK_EQ(cluster_row_serving_count(row), w->copies);
        for (size_t j = 0; j < row->count; j++) {
            CHECK_TRUE(!w->place[row->member[j].target - 1].leaves);
        }
    }
    CHECK_TRUE(w->sum.leaving == 0 && w->sum.lost == 0 && w->sum.making == 0);
    CHECK_TRUE(w->sum.endangered == 0 && w->sum.stuck == 0 && w->sum.uneven == 0);
}

static void check_even(const struct world *w, size_t slack)
{
    size_t least = SIZE_MAX, most = 0;
    for (size_t i = 0; i < w->place_count; i++) {
        if (w->place[i].usable && !w->place[i].leaves) {
            size_t n = members_on(w, (uint32_t)i + 1);
            least = base_min(least, n);
            most = base_max(most, n);
        }
    }
    CHECK_TRUE(most - least <= slack);
}

static void drain(struct world *w, size_t place)
{
    w->place[place].leaves = true;
}

static void lose(struct world *w, size_t place)
{
    w->up[place] = false;
    w->lost[place] = true;
    w->place[place].usable = false;
}

static void check_one_goes(struct world *w, size_t n, size_t copies, size_t i)
{
    world_make(w, n, copies, 1);
    drain(w, i);
    world_rest(w);
    check_whole(w);
    CHECK_EQ(members_on(w, (uint32_t)i + 1), 0);
    check_even(w, 3);
    if (copies > 1) { /* else what it had is gone */
        world_make(w, n, copies, 1);
        lose(w, i);
        world_rest(w);
        check_whole(w);
        CHECK_EQ(members_on(w, (uint32_t)i + 1), 0);
    }
}

/* Every small cluster, each of its targets drained or lost. */
TEST(every_target_of_every_small_cluster_goes)
{
    CLEANUP(mem_freep) struct world *w = mem_calloc(1, sizeof *w);
    for (size_t copies = 1; copies <= 5; copies++) {
        for (size_t n = copies + 1; n <= copies + 3; n++) {
            for (size_t i = 0; i < n; i++) {
                check_one_goes(w, n, copies, i);
            }
        }
    }
}

TEST(a_new_target_gets_its_share_of_old_chains)
{
    CLEANUP(mem_freep) struct world *w = mem_calloc(1, sizeof *w);
    world_make(w, 4, 2, 1);
    size_t moved = members_on(w, 1) * 4 / 5;
    add_place(w, 999, 1);
    w->joins = 0;
    world_rest(w);
    check_whole(w);
    check_even(w, 1);
    CHECK_TRUE(members_on(w, 5) >= moved - 1 && members_on(w, 5) <= moved + 1);
    CHECK_EQ(w->joins, members_on(w, 5)); /* nothing was moved in vain */
    w->balance = false;
    add_place(w, 998, 1);
    world_rest(w);
    CHECK_EQ(members_on(w, 6), 0);
}

/* New chains of a table that has grown are evened out on their own. */
TEST(each_version_of_a_table_is_even)
{
    CLEANUP(mem_freep) struct world *w = mem_calloc(1, sizeof *w);
    world_make(w, 4, 2, 1);
    size_t old = w->chain_count;
    add_place(w, 999, 1);
    grow(w, 2);
    CHECK_TRUE(w->chain_count > old);
    world_rest(w);
    check_whole(w);
    w->chain_count = old;
    check_even(w, 1);
}

TEST(a_lost_target_is_rebuilt_by_all_others)
{
    CLEANUP(mem_freep) struct world *w = mem_calloc(1, sizeof *w);
    world_make(w, 12, 3, 1);
    w->balance = false;
    lose(w, 4);
    world_rest(w);
    check_whole(w);
    size_t least = SIZE_MAX, most = 0;
    for (size_t i = 0; i < 12; i++) {
        if (i != 4) {
            least = base_min(least, w->begun[i]);
            most = base_max(most, w->begun[i]);
        }
    }
    CHECK_TRUE(least >= 1 && most <= least + 2);
}

/* The chain that has lost two of three comes before those that have lost one. */
TEST(the_most_endangered_chain_comes_first)
{
    CLEANUP(mem_freep) struct world *w = mem_calloc(1, sizeof *w);
    struct cluster_moves_class class;
    struct cluster_moves_facts facts;
    struct cluster_move move[MOVES];
    size_t count = 0, fewest = SIZE_MAX;
    world_make(w, 8, 3, 1);
    lose(w, 0);
    lose(w, 1);
    for (unsigned i = 0; i < 3; i++) {
        for (size_t j = 0; j < w->chain_count; j++) {
            chain_live(w, &w->row[j]);
        }
    }
    for (size_t i = 0; i < w->chain_count; i++) {
        fewest = base_min(fewest, cluster_row_serving_count(&w->row[i]));
    }
    CHECK_EQ(fewest, 1);
    facts_of(w, &class, &facts);
    CHECK_OK(cluster_moves_plan(&facts, move, MOVES, &count, &w->sum));
    CHECK_TRUE(count > 0 && w->sum.endangered > 0 && w->sum.lost > 0);
    for (size_t i = 0, before = 0; i < count; i++) {
        size_t serving = cluster_row_serving_count(&w->row[move[i].chain]);
        CHECK_TRUE(move[i].kind == CLUSTER_MOVE_JOIN);
        CHECK_TRUE(serving >= before);
        before = serving;
    }
}

TEST(an_heir_gets_all_of_it)
{
    CLEANUP(mem_freep) struct world *w = mem_calloc(1, sizeof *w);
    world_make(w, 6, 3, 2);
    add_place(w, w->place[1].target.host_key, 1);
    size_t had = members_on(w, 2);
    w->balance = false;
    w->place[1].leaves = true;
    w->place[1].heir = 7;
    world_rest(w);
    check_whole(w);
    CHECK_EQ(members_on(w, 7), had);
    CHECK_EQ(clashes(w), 0);
}

/* Two hosts of three are left for three copies: better twice on one host than once less; and apart
 * again when there is a third. */
TEST(domains_are_shared_only_where_nothing_else_is_left)
{
    CLEANUP(mem_freep) struct world *w = mem_calloc(1, sizeof *w);
    world_make(w, 6, 3, 2);
    CHECK_EQ(clashes(w), 0);
    lose(w, 4);
    lose(w, 5);
    world_rest(w);
    CHECK_TRUE(clashes(w) > 0 && w->sum.clashing > 0);
    check_whole(w);
    add_place(w, 777, 1);
    add_place(w, 777, 1);
    world_rest(w);
    check_whole(w);
    CHECK_EQ(clashes(w), 0);
    CHECK_EQ(w->sum.clashing, 0);
}

TEST(full_and_unsuitable_targets_get_nothing)
{
    CLEANUP(mem_freep) struct world *w = mem_calloc(1, sizeof *w);
    world_make(w, 5, 2, 1);
    add_place(w, 900, 1);
    add_place(w, 901, 1);
    w->place[5].usable = false;
    w->place[5].full = true;
    w->suits[6] = false;
    drain(w, 0);
    world_rest(w);
    check_whole(w);
    CHECK_EQ(members_on(w, 6), 0);
    CHECK_EQ(members_on(w, 7), 0);
    /* With nobody to take it, a copy stays where it is. */
    for (size_t i = 1; i < 7; i++) {
        w->place[i].usable = false;
    }
    drain(w, 1);
    size_t had = members_on(w, 2);
    world_rest(w);
    CHECK_EQ(members_on(w, 2), had);
    CHECK_EQ(w->sum.stuck, had);
    CHECK_EQ(w->sum.leaving, had);
}

/* Back before its copies were all made elsewhere: the rest stays, and what is too much goes. */
TEST(a_target_that_comes_back_keeps_what_was_not_made_elsewhere)
{
    CLEANUP(mem_freep) struct world *w = mem_calloc(1, sizeof *w);
    world_make(w, 6, 2, 1);
    lose(w, 2);
    for (unsigned i = 0; i < 3; i++) {
        (void)world_step(w);
    }
    size_t left = members_on(w, 3);
    CHECK_TRUE(left > 0);
    w->up[2] = true;
    w->lost[2] = false;
    w->place[2].usable = true;
    w->balance = false;
    world_rest(w);
    check_whole(w);
    CHECK_TRUE(members_on(w, 3) > 0 && members_on(w, 3) <= left);
}

static void random_event(struct world *w, struct rand *r)
{
    size_t i = rand_below(r, w->place_count), down = 0, leaving = 0;
    for (size_t j = 0; j < w->place_count; j++) {
        down += w->up[j] ? 0 : 1;
        leaving += w->place[j].leaves ? 1 : 0;
    }
    switch (rand_below(r, 5)) {
    case 0:
        if (w->place_count < PLACES) {
            add_place(w, 1000 + rand_below(r, 8), rand_below(r, 3));
        }
        break;
    case 1:
        if (leaving < 3) {
            drain(w, i);
        }
        break;
    case 2:
        w->place[i].leaves = false;
        break;
    case 3:
        if (down == 0 && w->copies > 1) { /* one at a time: no chain goes dark */
            lose(w, i);
        }
        break;
    default:
        for (size_t j = 0; j < w->place_count; j++) {
            w->up[j] = true;
            w->lost[j] = false;
            w->place[j].usable = true;
        }
        break;
    }
}

TEST(random_events_end_in_whole_and_even_chains)
{
    CLEANUP(mem_freep) struct world *w = mem_calloc(1, sizeof *w);
    struct rand r;
    rand_seed(&r, testing_seed());
    for (unsigned round = 0; round < 12; round++) {
        world_make(w, 6 + rand_below(&r, 6), 1 + rand_below(&r, 4), 1);
        w->domain = rand_below(&r, 2) == 0 ? PROTO_DOMAIN_TARGET : PROTO_DOMAIN_HOST;
        for (unsigned event = 0; event < 12; event++) {
            random_event(w, &r);
            for (uint64_t i = rand_below(&r, 20); i > 0; i--) {
                (void)world_step(w);
            }
        }
        for (size_t j = 0; j < w->place_count; j++) { /* all is well at last */
            w->up[j] = true;
            w->lost[j] = false;
            w->place[j].leaves = false;
            w->place[j].usable = true;
        }
        world_rest(w);
        check_whole(w);
        CHECK_EQ(clashes(w), 0);
    }
}

TEST(no_target_has_more_under_way_than_it_may)
{
    CLEANUP(mem_freep) struct world *w = mem_calloc(1, sizeof *w);
    world_make(w, 10, 3, 1);
    drain(w, 3);
    drain(w, 7);
    add_place(w, 999, 1);
    while (world_step(w)) {
        check_limit(w);
    }
    check_whole(w);
}

/* In a large cluster each further move costs looks at the chains of some targets, not at all. */
TEST(a_plan_looks_at_chains_of_those_that_it_concerns)
{
    enum { LARGE_PLACES = 240, LARGE_CHAINS = 8192 };
    static struct cluster_place place[LARGE_PLACES];
    static struct cluster_row row[LARGE_CHAINS];
    static struct cluster_moves_chain chain[LARGE_CHAINS];
    static bool suits[LARGE_PLACES];
    struct cluster_move move[MOVES];
    struct cluster_moves_sum sum;
    size_t count = 0;
    for (uint32_t i = 0; i < LARGE_PLACES; i++) {
        place[i] = (struct cluster_place){
            .target = {.id = i + 1, .weight = 100, .host_key = i, .rack_key = i}, .usable = true};
        suits[i] = true;
    }
    for (uint32_t i = 0; i < LARGE_CHAINS; i++) {
        row[i] = (struct cluster_row){
            .chain = i + 1, .epoch = 1, .class_id = 1, .born = 1 + i / 4096, .count = 3};
        for (uint32_t k = 0; k < 3; k++) {
            uint32_t at = (i + k * (1 + i / LARGE_PLACES)) % LARGE_PLACES;
            row[i].member[k] =
                (struct cluster_member){.target = at + 1, .state = PROTO_MEMBER_SERVING};
        }
        chain[i].row = &row[i];
    }
    place[7].leaves = true;
    const struct cluster_moves_class class = {
        .id = 1, .copies = 3, .domain = PROTO_DOMAIN_HOST, .suits = suits};
    const struct cluster_moves_facts facts = {.place = place,
                                              .place_count = LARGE_PLACES,
                                              .class = &class,
                                              .class_count = 1,
                                              .chain = chain,
                                              .chain_count = LARGE_CHAINS,
                                              .per_target = 64,
                                              .balance = true};
    CHECK_OK(cluster_moves_plan(&facts, move, MOVES, &count, &sum));
    CHECK_EQ(count, MOVES);
    CHECK_TRUE(sum.leaving > MOVES);
    CHECK_TRUE(sum.looks <= 6 * LARGE_CHAINS);
}

TEST_TORTURE(a_plan_survives_want_of_memory)
{
    static const bool suits[2] = {true, true};
    const struct cluster_place place[2] = {{.target = {.id = 1, .weight = 1}, .usable = true},
                                           {.target = {.id = 2, .weight = 1}, .usable = true}};
    const struct cluster_moves_class class = {
        .id = 1, .copies = 2, .domain = PROTO_DOMAIN_TARGET, .suits = suits};
    const struct cluster_row row = {.chain = 1,
                                    .epoch = 1,
                                    .class_id = 1,
                                    .count = 1,
                                    .member = {{.target = 1, .state = PROTO_MEMBER_SERVING}}};
    const struct cluster_moves_chain chain = {.row = &row};
    const struct cluster_moves_facts facts = {.place = place,
                                              .place_count = 2,
                                              .class = &class,
                                              .class_count = 1,
                                              .chain = &chain,
                                              .chain_count = 1,
                                              .per_target = 1};
    struct cluster_move move;
    struct cluster_moves_sum sum;
    size_t count = 0;
    int rc = cluster_moves_plan(&facts, &move, 1, &count, &sum);
    CHECK_TRUE(rc == 0 || (testing_torturing() && rc == -ENOMEM));
    CHECK_TRUE(rc < 0 || (count == 1 && move.target == 2 && move.kind == CLUSTER_MOVE_JOIN));
}
