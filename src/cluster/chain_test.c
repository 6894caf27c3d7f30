/* Every cell of the table of chain.md section 4, then random lives of a chain under its invariants.
 */
#include "cluster/chain.h"

#include "base/rand.h"
#include "testing/testing.h"

#include <string.h>

enum {
    S = PROTO_MEMBER_SERVING,
    Y = PROTO_MEMBER_SYNCING,
    W = PROTO_MEMBER_WAITING,
    L = PROTO_MEMBER_LAST_SERVING,
    O = PROTO_MEMBER_OFFLINE
};

static struct cluster_row row_of(size_t count, const int *states)
{
    struct cluster_row row = {.chain = 7, .epoch = 5, .loss_gen = 2, .class_id = 1, .count = count};
    for (size_t i = 0; i < count; i++) {
        row.member[i] = (struct cluster_member){.target = (uint32_t)(i + 1),
                                                .state = (enum proto_member_state)states[i]};
    }
    return row;
}

static const struct cluster_fact well = {
    .present = true, .intact = true, .heard_ns = 100, .known_epoch = 5};
static const struct cluster_fact lossy = {.present = true, .heard_ns = 100, .known_epoch = 5};
static const struct cluster_fact gone = {
    .gone = true, .gone_ns = 50, .heard_ns = 40, .known_epoch = 5};
static const struct cluster_fact synced = {
    .present = true, .intact = true, .heard_ns = 100, .known_epoch = 5, .synced_epoch = 5};
static const struct cluster_fact synced_before = {
    .present = true, .intact = true, .heard_ns = 100, .known_epoch = 5, .synced_epoch = 4};
static const struct cluster_fact behind = {
    .present = true, .intact = true, .heard_ns = 100, .known_epoch = 4};
static const struct cluster_fact away = {.heard_ns = 40};

struct step_case {
    const char *name;
    size_t count;
    int before[4];
    const struct cluster_fact *fact[4];
    const char *after; /* "" = no change */
    uint64_t dark_ms;
};

static const struct step_case cases[] = {
    {"all well", 2, {S, S}, {&well, &well}, "", 0},
    {"tail gone", 2, {S, S}, {&well, &gone}, "chain 7 epoch 6 loss_gen 2: 1=serving 2=offline", 0},
    {"head gone", 2, {S, S}, {&gone, &well}, "chain 7 epoch 6 loss_gen 2: 2=serving 1=offline", 0},
    {"head of three gone, order stays",
     3,
     {S, S, S},
     {&gone, &well, &well},
     "chain 7 epoch 6 loss_gen 2: 2=serving 3=serving 1=offline",
     0},
    {"all gone: the set",
     2,
     {S, S},
     {&gone, &gone},
     "chain 7 epoch 6 loss_gen 2: 1=last-serving 2=last-serving",
     0},
    {"last serving gone, syncing waits",
     2,
     {S, Y},
     {&gone, &well},
     "chain 7 epoch 6 loss_gen 2: 1=last-serving 2=waiting",
     0},
    {"both gone while syncing",
     2,
     {S, Y},
     {&gone, &gone},
     "chain 7 epoch 6 loss_gen 2: 1=last-serving 2=offline",
     0},
    {"syncing gone",
     2,
     {S, Y},
     {&well, &gone},
     "chain 7 epoch 6 loss_gen 2: 1=serving 2=offline",
     0},
    {"syncing goes on", 2, {S, Y}, {&well, &well}, "", 0},
    {"synced", 2, {S, Y}, {&well, &synced}, "chain 7 epoch 6 loss_gen 2: 1=serving 2=serving", 0},
    {"synced in an older epoch", 2, {S, Y}, {&well, &synced_before}, "", 0},
    {"predecessor of syncing goes",
     3,
     {S, S, Y},
     {&well, &gone, &synced},
     "chain 7 epoch 6 loss_gen 2: 1=serving 3=syncing 2=offline",
     0},
    {"waiting begins to sync",
     2,
     {S, W},
     {&well, &well},
     "chain 7 epoch 6 loss_gen 2: 1=serving 2=syncing",
     0},
    {"waiting that does not know the row", 2, {S, W}, {&well, &behind}, "", 0},
    {"one syncs at a time", 3, {S, Y, W}, {&well, &well, &well}, "", 0},
    {"waiting, chain dark", 2, {L, W}, {&away, &well}, "", 100},
    {"waiting gone",
     2,
     {S, W},
     {&well, &gone},
     "chain 7 epoch 6 loss_gen 2: 1=serving 2=offline",
     0},
    {"offline is back",
     2,
     {S, O},
     {&well, &well},
     "chain 7 epoch 6 loss_gen 2: 1=serving 2=waiting",
     0},
    {"offline, restarted, does not know the row", 2, {S, O}, {&well, &behind}, "", 0},
    {"offline stays away", 2, {S, O}, {&well, &away}, "", 0},
    {"joins behind the serving ones",
     3,
     {S, O, W},
     {&well, &away, &well},
     "chain 7 epoch 6 loss_gen 2: 1=serving 3=syncing 2=offline",
     0},
    {"dark, one intact",
     2,
     {L, L},
     {&away, &well},
     "chain 7 epoch 6 loss_gen 2: 2=serving 1=offline",
     0},
    {"dark, one lossy, too early", 2, {L, L}, {&lossy, &away}, "", 0},
    {"dark, one lossy, waited",
     2,
     {L, L},
     {&lossy, &away},
     "chain 7 epoch 6 loss_gen 3: 1=serving 2=offline",
     100},
    {"dark, set back lossy",
     2,
     {L, L},
     {&lossy, &lossy},
     "chain 7 epoch 6 loss_gen 3: 1=serving 2=offline",
     0},
    {"dark, intact beats lossy",
     2,
     {L, L},
     {&lossy, &well},
     "chain 7 epoch 6 loss_gen 2: 2=serving 1=offline",
     0},
    {"dark, outsider is never promoted",
     2,
     {L, O},
     {&away, &well},
     "chain 7 epoch 6 loss_gen 2: 1=last-serving 2=waiting",
     100},
    {"dark, intact but does not know the row", 1, {L}, {&behind}, "", 100},
};

static bool step(const struct step_case *c, struct cluster_row *next)
{
    struct cluster_row row = row_of(c->count, c->before);
    struct cluster_fact fact[4];
    for (size_t i = 0; i < c->count; i++) {
        fact[i] = *c->fact[i];
    }
    struct cluster_chain_times times = {
        .now_ns = 1000 + c->dark_ms, .dark_since_ns = 1000, .dark_wait_ns = 60};
    return cluster_chain_step(&row, fact, &times, next);
}

TEST(chain_table_is_that_of_the_protocol)
{
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct cluster_row next;
        char text[256] = "";
        if (step(&cases[i], &next)) {
            cluster_row_to_text(&next, text, sizeof text);
        }
        if (strcmp(text, cases[i].after) != 0) {
            CHECK_TEXT(cases[i].name, "");
        }
        CHECK_TEXT(text, cases[i].after);
    }
}

/* ---- The whole table ----
 *
 * Every row of up to three members with everything that can be known of each of them, against the
 * table once more: as what a member in a state with a report wishes, the most urgent wish first.
 */

enum report { R_NONE, R_OK, R_SYNCED, R_INTACT, R_LOSSY, R_GONE, R_COUNT };
enum wish { ALL_LOST, LEAVES, PROMOTED, PROMOTED_LOSSY, SERVES, SYNCS, WAITS, STAYS };

static const uint8_t wishes[][R_COUNT] = {
    /*     none   ok     synced  intact    lossy           gone */
    [S] = {STAYS, STAYS, STAYS, STAYS, STAYS, LEAVES},
    [Y] = {STAYS, STAYS, SERVES, STAYS, STAYS, LEAVES},
    [W] = {STAYS, SYNCS, SYNCS, SYNCS, SYNCS, LEAVES},
    [L] = {STAYS, STAYS, STAYS, PROMOTED, PROMOTED_LOSSY, STAYS},
    [O] = {STAYS, WAITS, WAITS, WAITS, WAITS, STAYS},
};

struct whole {
    struct cluster_row row;
    struct cluster_fact fact[3];
    struct cluster_chain_times times;
    size_t serving, gone, last,
        back; /* gone: of the serving ones; back: of the last-serving ones */
    bool syncing;
};

/* Synced in this epoch and intact or not say something in one state each. */
static enum report report_of(const struct whole *x, size_t i)
{
    const struct cluster_fact *f = &x->fact[i];
    int state = (int)x->row.member[i].state;
    if (f->gone) {
        return R_GONE;
    }
    if (!f->present || f->known_epoch != x->row.epoch) {
        return R_NONE;
    }
    if (state == L) {
        return f->intact ? R_INTACT : R_LOSSY;
    }
    return state == Y && f->synced_epoch == x->row.epoch ? R_SYNCED : R_OK;
}

static bool another_was_heard(const struct whole *x, size_t i)
{
    bool heard = false;
    for (size_t j = 0; j < x->row.count; j++) {
        heard = heard || (j != i && (int)x->row.member[j].state == S && !x->fact[j].gone &&
                          x->fact[j].heard_ns > x->fact[i].gone_ns);
    }
    return heard;
}

static enum wish wish_of(const struct whole *x, size_t i)
{
    int state = (int)x->row.member[i].state;
    enum wish w = (enum wish)wishes[state][report_of(x, i)];
    if (x->serving > 0 && x->gone == x->serving) {
        return state == S || state == Y ? ALL_LOST : STAYS;
    }
    if (w == LEAVES && state == S && !another_was_heard(x, i)) {
        return STAYS;
    }
    if (w == PROMOTED_LOSSY && x->back < x->last &&
        x->times.now_ns - x->times.dark_since_ns < x->times.dark_wait_ns) {
        return STAYS;
    }
    return w == SYNCS && (x->serving == 0 || x->syncing) ? STAYS : w;
}

static void count_whole(struct whole *x)
{
    x->serving = x->gone = x->last = x->back = 0;
    x->syncing = false;
    for (size_t i = 0; i < x->row.count; i++) {
        int state = (int)x->row.member[i].state;
        enum report r = report_of(x, i);
        x->serving += state == S;
        x->gone += state == S && r == R_GONE;
        x->last += state == L;
        x->back += state == L && (r == R_INTACT || r == R_LOSSY);
        x->syncing = x->syncing || state == Y;
    }
}

/* Those that serve become the set; one that is brought up to date waits, if it is there. */
static int state_when_lost(const struct whole *x, size_t i)
{
    int state = (int)x->row.member[i].state;
    if (state == Y) {
        return x->fact[i].gone ? O : W;
    }
    return state == S ? L : state;
}

static int state_after(const struct whole *x, size_t i, enum wish most, bool first)
{
    int state = (int)x->row.member[i].state;
    bool mine = wish_of(x, i) == most;
    switch (most) {
    case ALL_LOST:
        return state_when_lost(x, i);
    case LEAVES:
        return mine ? O : state;
    case PROMOTED:
    case PROMOTED_LOSSY:
        return mine && first ? S : state == L ? O : state;
    case SERVES:
        return mine ? S : state;
    case SYNCS:
        return mine && first ? Y : state;
    case WAITS:
        return mine ? W : state;
    case STAYS:
        break;
    }
    return state;
}

/* Serving ones keep their order, a joining one is behind them, one that has served and left is
 * last. */
static unsigned place_of(int before, int after)
{
    return before == S && after == S   ? 0
           : after == S                ? 1
           : after == Y                ? 2
           : before == S && after == O ? 4
                                       : 3;
}

static bool expect(struct whole *x, struct cluster_row *ret)
{
    enum wish most = STAYS;
    count_whole(x);
    for (size_t i = 0; i < x->row.count; i++) {
        most = wish_of(x, i) < most ? wish_of(x, i) : most;
    }
    *ret = x->row;
    if (most == STAYS) {
        return false;
    }
    ret->epoch++;
    ret->loss_gen += most == PROMOTED_LOSSY ? 1 : 0;
    size_t n = 0, firsts = 0;
    int after[3];
    for (size_t i = 0; i < x->row.count; i++) {
        after[i] = state_after(x, i, most, firsts == 0);
        firsts += wish_of(x, i) == most;
    }
    for (unsigned place = 0; place <= 4; place++) {
        for (size_t i = 0; i < x->row.count; i++) {
            if (place_of((int)x->row.member[i].state, after[i]) == place) {
                ret->member[n] = x->row.member[i];
                ret->member[n++].state = (enum proto_member_state)after[i];
            }
        }
    }
    return true;
}

static void check_whole(struct whole *x)
{
    struct cluster_row want, got = x->row;
    bool changes = expect(x, &want);
    CHECK_EQ(cluster_chain_step(&x->row, x->fact, &x->times, &got), changes);
    bool same = got.epoch == want.epoch && got.loss_gen == want.loss_gen && got.count == want.count;
    for (size_t i = 0; i < got.count; i++) {
        same = same && got.member[i].target == want.member[i].target &&
               got.member[i].state == want.member[i].state;
    }
    if (!same) {
        char before[256], a[256], b[256];
        cluster_row_to_text(&x->row, before, sizeof before);
        cluster_row_to_text(&got, a, sizeof a);
        cluster_row_to_text(&want, b, sizeof b);
        CHECK_TEXT(before, "");
        CHECK_TEXT(a, b);
    }
    CHECK_TRUE(same);
}

#define FACTS 64u
static struct cluster_fact fact_of(unsigned bits)
{
    return (struct cluster_fact){.gone = (bits & 1) != 0,
                                 .gone_ns = 50,
                                 .heard_ns = (bits & 2) != 0 ? 51 : 50,
                                 .present = (bits & 4) != 0,
                                 .known_epoch = (bits & 8) != 0 ? 5 : 4,
                                 .intact = (bits & 16) != 0,
                                 .synced_epoch = (bits & 32) != 0 ? 5 : 4};
}

/* What says nothing in its state is the same for all three, else there are too many. */
static bool is_worth_it(const struct whole *x, size_t i, unsigned bits)
{
    int state = (int)x->row.member[i].state;
    return x->row.count < 3 ||
           ((state == S || (bits & 2) == 0) && (state == L || (bits & 16) == 0) &&
            (state == Y || (bits & 32) == 0));
}

static uint64_t check_facts(struct whole *x)
{
    unsigned bits[3] = {0};
    uint64_t checked = 0;
    size_t i = 0;
    while (i < x->row.count) {
        bool worth = true;
        for (size_t k = 0; k < x->row.count; k++) {
            worth = worth && is_worth_it(x, k, bits[k]);
            x->fact[k] = fact_of(bits[k]);
        }
        for (unsigned waited = 0; waited < 2 && worth; waited++) {
            x->times.now_ns = waited == 0 ? 1059 : 1060;
            check_whole(x);
            checked++;
        }
        for (i = 0; i < x->row.count && ++bits[i] == FACTS; i++) {
            bits[i] = 0;
        }
    }
    return checked;
}

TEST(chain_table_holds_for_every_row_and_all_facts)
{
    static const int states[] = {S, Y, W, L, O};
    uint64_t checked = 0, rows = 0;
    for (size_t count = 1; count <= 3; count++) {
        for (unsigned code = 0; code < 125; code++) {
            const int all[] = {states[code % 5], states[code / 5 % 5], states[code / 25]};
            struct whole x = {.row = row_of(count, all),
                              .times = {.dark_since_ns = 1000, .dark_wait_ns = 60}};
            bool again = (count < 3 && code >= 25) || (count < 2 && code >= 5);
            if (again || !cluster_row_valid(&x.row)) {
                continue;
            }
            rows++;
            checked += check_facts(&x);
        }
    }
    CHECK_EQ(rows, 4 + 13 + 37);
    CHECK_TRUE(checked > 200000);
}

/* R1: nobody is removed before another serving member was heard after the loss. */
TEST(chain_waits_until_another_member_was_heard)
{
    struct cluster_row row = row_of(2, (const int[]){S, S}), next;
    struct cluster_fact fact[2] = {well, gone};
    struct cluster_chain_times times = {.now_ns = 1000};
    fact[0].heard_ns = fact[1].gone_ns; /* not after */
    CHECK_TRUE(!cluster_chain_step(&row, fact, &times, &next));
    fact[0].heard_ns++;
    CHECK_TRUE(cluster_chain_step(&row, fact, &times, &next));
}

static struct cluster_fact random_fact(struct rand *r, uint32_t epoch)
{
    return (struct cluster_fact){.gone = rand_chance(r, 1, 3),
                                 .gone_ns = rand_below(r, 100),
                                 .heard_ns = rand_below(r, 100),
                                 .present = rand_chance(r, 2, 3),
                                 .intact = rand_chance(r, 1, 2),
                                 .known_epoch = epoch - (uint32_t)rand_chance(r, 1, 4),
                                 .synced_epoch = rand_chance(r, 1, 3) ? epoch : epoch - 1};
}

/* I8 and what follows from it, over a million random steps. */
TEST(chain_keeps_its_invariants)
{
    struct rand r;
    rand_seed(&r, testing_seed());
    struct cluster_row row = row_of(4, (const int[]){S, S, S, S});
    for (unsigned i = 0; i < 200000; i++) {
        struct cluster_fact fact[4];
        for (size_t j = 0; j < row.count; j++) {
            fact[j] = random_fact(&r, row.epoch);
        }
        struct cluster_chain_times times = {.now_ns = rand_below(&r, 100), .dark_wait_ns = 50};
        struct cluster_row next = row;
        if (!cluster_chain_step(&row, fact, &times, &next)) {
            CHECK_BYTES(&next, &row, sizeof row);
            continue;
        }
        CHECK_EQ(next.epoch, row.epoch + 1);
        CHECK_TRUE(cluster_row_valid(&next));
        CHECK_TRUE(next.loss_gen == row.loss_gen || cluster_row_serving_count(&row) == 0);
        for (size_t j = 0; j < next.count; j++) {
            size_t before = cluster_row_find(&row, next.member[j].target);
            CHECK_TRUE(before < row.count);
            if (next.member[j].state == PROTO_MEMBER_SERVING &&
                row.member[before].state != PROTO_MEMBER_SERVING) {
                CHECK_TRUE(row.member[before].state == PROTO_MEMBER_SYNCING ||
                           row.member[before].state == PROTO_MEMBER_LAST_SERVING);
                CHECK_TRUE(fact[before].present && !fact[before].gone &&
                           fact[before].known_epoch == row.epoch);
            }
        }
        row = next;
    }
}

TEST(chain_row_travels)
{
    struct cluster_row row = row_of(4, (const int[]){S, S, Y, O}), back;
    struct proto_member members[CLUSTER_MEMBERS_MAX];
    struct proto_row message;
    cluster_row_to_proto(&row, members, &message);
    CHECK_OK(cluster_row_from_proto(&message, &back));
    CHECK_EQ(back.count, 4);
    CHECK_EQ(back.member[2].state, Y);
    CHECK_EQ(cluster_row_head(&back), 0);
    CHECK_EQ(cluster_row_tail(&back), 2);
    CHECK_EQ(cluster_row_successor(&back, 2), 2);
    CHECK_EQ(cluster_row_successor(&back, 3), 4);
    CHECK_EQ(cluster_row_predecessor(&back, 3), 1);
    CHECK_EQ(cluster_row_predecessor(&back, 4), 4);
    members[3].target = 1; /* twice the same target */
    CHECK_RC(cluster_row_from_proto(&message, &back), ERR_bad_value);
    members[3].target = 4;
    members[0].state = O; /* a serving one behind an offline one */
    CHECK_RC(cluster_row_from_proto(&message, &back), ERR_bad_value);
    members[0].state = 9;
    CHECK_RC(cluster_row_from_proto(&message, &back), ERR_bad_value);
}
