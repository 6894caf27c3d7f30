#include "cluster/placement.h"

#include "base/mem.h"
#include "testing/testing.h"

#include <stdio.h>
#include <string.h>

#define TARGETS 12u

static void count_chains(const struct cluster_row *rows, size_t count, uint32_t load[TARGETS],
                         uint32_t heads[TARGETS], uint32_t pairs[TARGETS][TARGETS])
{
    for (size_t i = 0; i < count; i++) {
        heads[rows[i].member[0].target]++;
        for (size_t j = 0; j < rows[i].count; j++) {
            load[rows[i].member[j].target]++;
            for (size_t k = 0; k < rows[i].count; k++) {
                pairs[rows[i].member[j].target][rows[i].member[k].target] += j != k;
            }
        }
    }
}

static struct cluster_placement placement_of(const struct cluster_target *targets, size_t count,
                                             size_t copies)
{
    return (struct cluster_placement){
        .copies = copies, .domain = PROTO_DOMAIN_TARGET, .target = targets, .target_count = count};
}

static void check_even(const struct cluster_row *rows, size_t count, size_t n, size_t copies)
{
    uint32_t share = cluster_chains_per_target(copies, n);
    uint32_t load[TARGETS] = {0}, heads[TARGETS] = {0}, pairs[TARGETS][TARGETS] = {{0}};
    count_chains(rows, count, load, heads, pairs);
    for (size_t i = 0; i < n; i++) {
        CHECK_TRUE(load[i] >= share);
        CHECK_TRUE(load[i] <= share + 2);
        uint32_t least = UINT32_MAX, most = 0;
        for (size_t j = 0; j < n; j++) {
            least = j != i && pairs[i][j] < least ? pairs[i][j] : least;
            most = j != i && pairs[i][j] > most ? pairs[i][j] : most;
        }
        CHECK_TRUE(most - least <= 3);
        CHECK_TRUE(heads[i] * copies <= load[i] + 2 * copies);
    }
}
static void check_placement(size_t n, size_t copies)
{
    struct cluster_target targets[TARGETS];
    for (uint32_t i = 0; i < n; i++) {
        targets[i] = (struct cluster_target){.id = i, .weight = 100, .host_key = i, .rack_key = 1};
    }
    struct cluster_placement p = placement_of(targets, n, copies);
    struct cluster_row *rows = NULL;
    size_t count = 0;
    bool enough = false;
    CHECK_OK(cluster_placement_grow(&p, 10, &rows, &count, &enough));
    CHECK_TRUE(enough && count > 0);
    check_even(rows, count, n, copies);
    CHECK_EQ(rows[0].chain, 10);
    CHECK_EQ(rows[count - 1].chain, 10 + count - 1);
    mem_free(rows);
}

/* All targets alike: load, heads and shared pairs differ by little, so that a lost one is rebuilt
 * by all others. */
TEST(placement_spreads_load_heads_and_pairs)
{
    for (size_t n = 3; n <= TARGETS; n++) {
        check_placement(n, 2);
        check_placement(n, 3);
    }
}

/* The share in the rebuild of a lost target: most / mean of those that survive it. */
static uint32_t rebuild_of(size_t n, size_t copies, size_t per_host)
{
    struct cluster_target targets[48];
    CHECK(n <= ARRAY_COUNT(targets));
    for (uint32_t i = 0; i < n; i++) {
        targets[i] = (struct cluster_target){
            .id = i + 1, .weight = 100, .host_key = i / per_host, .rack_key = 1};
    }
    struct cluster_placement p = placement_of(targets, n, copies);
    struct cluster_row *rows = NULL;
    struct cluster_spread spread;
    size_t count = 0;
    bool enough = false;
    p.domain = per_host > 1 ? PROTO_DOMAIN_HOST : PROTO_DOMAIN_TARGET;
    CHECK_OK(cluster_placement_grow(&p, 1, &rows, &count, &enough));
    CHECK_TRUE(enough);
    p.row = rows;
    p.row_count = count;
    CHECK_OK(cluster_placement_spread(&p, &spread));
    CHECK_TRUE(spread.load_permille >= 1000 && spread.load_permille <= 1130);
    CHECK_TRUE(spread.heads_permille <= 1300);
    mem_free(rows);
    return spread.rebuild_permille;
}

TEST(placement_spreads_the_rebuild_of_a_lost_target)
{
    for (size_t copies = 2; copies <= 5; copies++) {
        for (size_t n = copies + 1; n <= 48; n += n < 12 ? 1 : 6) {
            uint32_t rebuild = rebuild_of(n, copies, 1);
            CHECK_TRUE(rebuild >= 1000 && rebuild <= (copies <= 3 ? 1500 : 2000));
        }
        CHECK_TRUE(rebuild_of(48, copies, 4) <= 2000);
    }
    CHECK_EQ(rebuild_of(4, 1, 1), 0); /* there is nothing to rebuild from */
}

/* Of a target with the fewest, and of all on average: others that have chains in common with it. */
struct partners {
    size_t least;
    double mean;
};
static struct partners partners_of(const struct cluster_row *rows, size_t count, size_t n)
{
    CLEANUP(mem_freep) uint8_t *pair = mem_zalloc(n * n);
    struct partners ret = {.least = n};
    CHECK_TRUE(pair != NULL);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < rows[i].count; j++) {
            for (size_t k = 0; k < rows[i].count; k++) {
                pair[(rows[i].member[j].target - 1) * n + rows[i].member[k].target - 1] |= j != k;
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        size_t partners = 0;
        for (size_t j = 0; j < n; j++) {
            partners += pair[i * n + j];
        }
        ret.least = base_min(ret.least, partners);
        ret.mean += (double)partners / (double)n;
    }
    return ret;
}

/* As the leader makes them: so many at a time, until nobody lacks any. Returns their number. */
static size_t grow_all(struct cluster_placement *p, struct cluster_row *all)
{
    p->row = all;
    for (p->row_count = 0;;) {
        struct cluster_row *rows = NULL;
        size_t count = 0;
        bool enough = false;
        CHECK_OK(cluster_placement_grow(p, 1 + (uint32_t)p->row_count, &rows, &count, &enough));
        CHECK_TRUE(enough && count <= cluster_rows_at_once(p->copies));
        CHECK_TRUE(p->row_count + count <= CLUSTER_TABLE_MAX);
        if (count > 0) {
            memcpy(all + p->row_count, rows, count * sizeof *rows);
        }
        mem_free(rows);
        if (count == 0) {
            return p->row_count;
        }
        p->row_count += count;
    }
}

static struct partners partners_in(size_t n, size_t copies, struct cluster_spread *ret)
{
    CLEANUP(mem_freep) struct cluster_target *targets = mem_calloc(n, sizeof *targets);
    CLEANUP(mem_freep) struct cluster_row *all = mem_calloc(CLUSTER_TABLE_MAX, sizeof *all);
    CHECK_TRUE(targets != NULL && all != NULL);
    for (uint32_t i = 0; i < n; i++) {
        targets[i] = (struct cluster_target){.id = i + 1, .weight = 100, .host_key = i};
    }
    struct cluster_placement p = placement_of(targets, n, copies);
    size_t count = grow_all(&p, all);
    CHECK_OK(cluster_placement_spread(&p, ret));
    struct partners x = partners_of(all, count, n);
    printf("%zu targets, %zu copies: %zu chains, %u for each target; partners: %zu at least, %.1f "
           "on average; most / mean: load %u, heads %u, rebuild %u permille\n",
           n, copies, count, cluster_chains_per_target(copies, n), x.least, x.mean,
           ret->load_permille, ret->heads_permille, ret->rebuild_permille);
    return x;
}

/* A lost target of two hundred is rebuilt by all others. Of a thousand each has as many partners as
 * half of a table's chains give it. */
TEST(placement_gives_hundreds_of_targets_many_partners)
{
    struct cluster_spread s;
    CHECK_TRUE(partners_in(200, 3, &s).least >= 190);
    CHECK_TRUE(s.load_permille <= 1050 && s.heads_permille <= 1200 && s.rebuild_permille <= 2500);
    CHECK_TRUE(partners_in(200, 2, &s).least >= 78);
    CHECK_TRUE(s.load_permille <= 1050 && s.heads_permille <= 1200);
    CHECK_TRUE(partners_in(1000, 3, &s).least >= 46);
    CHECK_TRUE(s.load_permille <= 1100 && s.heads_permille <= 1300);
}

/* A table that was made badly is seen: target 1 shares all of its chains with target 2. */
TEST(placement_tells_how_uneven_a_table_is)
{
    struct cluster_target targets[3];
    struct cluster_row rows[2] = {{.chain = 1, .epoch = 1, .count = 2},
                                  {.chain = 2, .epoch = 1, .count = 2}};
    struct cluster_spread spread;
    for (uint32_t i = 0; i < 3; i++) {
        targets[i] = (struct cluster_target){.id = i + 1, .weight = 100, .host_key = i};
    }
    struct cluster_placement p = placement_of(targets, 3, 2);
    for (size_t i = 0; i < 2; i++) {
        rows[i].member[0] = (struct cluster_member){.target = 1, .state = PROTO_MEMBER_SERVING};
        rows[i].member[1] = (struct cluster_member){.target = 2, .state = PROTO_MEMBER_SERVING};
    }
    p.row = rows;
    p.row_count = 2;
    CHECK_OK(cluster_placement_spread(&p, &spread));
    CHECK_EQ(spread.rebuild_permille, 2000);
    CHECK_EQ(spread.worst, 1);
    CHECK_EQ(spread.load_permille, 1500);
    CHECK_EQ(spread.heads_permille, 3000);
    p.row_count = 0;
    CHECK_OK(cluster_placement_spread(&p, &spread));
    CHECK_EQ(spread.rebuild_permille, 0);
}

TEST(placement_adds_chains_for_a_new_target_only)
{
    struct cluster_target targets[TARGETS];
    for (uint32_t i = 0; i < 5; i++) {
        targets[i] = (struct cluster_target){.id = i, .weight = 100, .host_key = i};
    }
    struct cluster_placement p = placement_of(targets, 4, 2);
    struct cluster_row *rows = NULL, *more = NULL;
    size_t count = 0, more_count = 0;
    bool enough = false;
    CHECK_OK(cluster_placement_grow(&p, 1, &rows, &count, &enough));
    p.row = rows;
    p.row_count = count;
    CHECK_OK(cluster_placement_grow(&p, 100, &more, &more_count, &enough));
    CHECK_EQ(more_count, 0); /* everybody has a share */
    CHECK_TRUE(more == NULL);
    p.target_count = 5;
    CHECK_OK(cluster_placement_grow(&p, 100, &more, &more_count, &enough));
    CHECK_EQ(more_count, CLUSTER_CHAINS_PER_TARGET);
    for (size_t i = 0; i < more_count; i++) {
        CHECK_TRUE(more[i].member[0].target == 4 || more[i].member[1].target == 4);
    }
    mem_free(rows);
    mem_free(more);
}

/* Targets that come and go do not make the table longer for ever. */
TEST(placement_has_a_limit_that_goes_with_the_targets)
{
    struct cluster_target targets[4];
    CLEANUP(mem_freep) struct cluster_row *all = mem_calloc(1024, sizeof *all);
    size_t all_count = 0;
    for (uint32_t i = 0; i < 4; i++) {
        targets[i] = (struct cluster_target){.id = i + 1, .weight = 100, .host_key = i};
    }
    for (unsigned round = 0; round < 20; round++) {
        struct cluster_placement p = placement_of(targets, 4, 2);
        struct cluster_row *rows = NULL;
        size_t count = 0;
        bool enough = false;
        p.row = all;
        p.row_count = all_count;
        CHECK_OK(cluster_placement_grow(&p, 1, &rows, &count, &enough));
        CHECK_TRUE(all_count + count <= 1024);
        for (size_t i = 0; i < count; i++) {
            all[all_count++] = rows[i];
        }
        mem_free(rows);
        for (size_t i = 0; i < all_count; i++) { /* the last one is drained */
            for (size_t j = 0; j < 2; j++) {
                bool last = all[i].member[j].target == 4;
                all[i].member[j].target = !last ? all[i].member[j].target
                                          : all[i].member[1 - j].target == 1 ? 2
                                                                             : 1;
            }
        }
    }
    CHECK_TRUE(all_count >= 48 && all_count <= 2 * 4 * CLUSTER_CHAINS_PER_TARGET / 2 + 1);
}

TEST(placement_keeps_copies_in_different_domains)
{
    struct cluster_target targets[6];
    for (uint32_t i = 0; i < 6; i++) {
        targets[i] = (struct cluster_target){.id = i, .weight = 50 + 10 * i, .host_key = i / 2};
    }
    struct cluster_placement p = placement_of(targets, 6, 3);
    struct cluster_row *rows = NULL;
    size_t count = 0;
    bool enough = false;
    p.domain = PROTO_DOMAIN_HOST;
    CHECK_OK(cluster_placement_grow(&p, 1, &rows, &count, &enough));
    CHECK_TRUE(enough && count > 0);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < 3; j++) {
            for (size_t k = 0; k < j; k++) {
                CHECK_NE(rows[i].member[j].target / 2, rows[i].member[k].target / 2);
            }
        }
    }
    mem_free(rows);
    p.copies = 4; /* three hosts only */
    CHECK_OK(cluster_placement_grow(&p, 1, &rows, &count, &enough));
    CHECK_TRUE(!enough);
    CHECK_EQ(count, 0);
    p.copies = 0;
    CHECK_RC(cluster_placement_grow(&p, 1, &rows, &count, &enough), ERR_bad_value);
}

TEST(placement_of_chunks_walks_the_stripe)
{
    struct proto_layout layout = {.seed = 5, .stripe_width = 3};
    CHECK_EQ(cluster_chunk_place(&layout, 0, 7), 5);
    CHECK_EQ(cluster_chunk_place(&layout, 1, 7), 6);
    CHECK_EQ(cluster_chunk_place(&layout, 2, 7), 0);
    CHECK_EQ(cluster_chunk_place(&layout, 3, 7), 5);
    layout.seed = UINT32_MAX;
    layout.stripe_width = 0;
    CHECK_EQ(cluster_chunk_place(&layout, UINT32_MAX, 10), UINT32_MAX % 10);
    CHECK_EQ(cluster_stripe_width(0, 200), CLUSTER_STRIPE_MAX);
    CHECK_EQ(cluster_stripe_width(0, 20), 20);
    CHECK_EQ(cluster_stripe_width(4, 20), 4);
}

TEST_TORTURE(placement_survives_want_of_memory)
{
    struct cluster_target targets[4];
    for (uint32_t i = 0; i < 4; i++) {
        targets[i] = (struct cluster_target){.id = i, .weight = 1, .host_key = i};
    }
    struct cluster_placement p = placement_of(targets, 4, 2);
    struct cluster_row *rows = NULL;
    size_t count = 0;
    bool enough = false;
    int rc = cluster_placement_grow(&p, 1, &rows, &count, &enough);
    CHECK_TRUE(rc == 0 || (testing_torturing() && rc == -ENOMEM));
    CHECK_TRUE(rc == 0 ? count > 0 : rows == NULL);
    mem_free(rows);
}
