/* datanode/report_test.c -- the queue of reports: order, newer words, room, nothing lost. */
#include "datanode/report.h"

#include "base/rand.h"
#include "testing/testing.h"

#include <string.h>

static struct datanode_report damaged(uint32_t chain, uint64_t data_id, enum proto_damage damage)
{
    return (struct datanode_report){.kind = PROTO_REPORT_DAMAGE,
                                    .chain = chain,
                                    .chunk = {.data_id = data_id, .index = 3},
                                    .damage = damage};
}
static void add_damage(struct datanode_reports *q, uint32_t chain, uint64_t data_id,
                       enum proto_damage damage)
{
    const struct datanode_report r = damaged(chain, data_id, damage);
    datanode_reports_add(q, &r);
}
static void add_resync(struct datanode_reports *q, uint32_t chain, uint64_t copied)
{
    const struct datanode_report r = {
        .kind = PROTO_REPORT_RESYNCED, .chain = chain, .epoch = 2, .copied = copied};
    datanode_reports_add(q, &r);
}

TEST(report_queue_tells_the_urgent_first_and_the_older_before_the_newer)
{
    struct datanode_reports q = {0};
    struct datanode_report out[8];
    add_resync(&q, 9, 1);
    add_damage(&q, 1, 20, PROTO_DAMAGE_FOUND);
    add_resync(&q, 8, 1);
    add_damage(&q, 1, 10, PROTO_DAMAGE_FOUND);
    CHECK_EQ(datanode_reports_take(&q, out, 8), 4);
    CHECK_EQ(out[0].chunk.data_id, 20);
    CHECK_EQ(out[1].chunk.data_id, 10);
    CHECK_EQ(out[2].chain, 9);
    CHECK_EQ(out[3].chain, 8);
    CHECK_EQ(datanode_reports_take(&q, out, 3), 3);
    datanode_reports_heard(&q, out, 3);
    CHECK_EQ(datanode_reports_take(&q, out, 8), 1);
    CHECK_EQ(out[0].chain, 8);
    datanode_reports_heard(&q, out, 1);
    CHECK_EQ(q.count, 0);
}

TEST(report_queue_keeps_what_is_newer_than_the_answer)
{
    struct datanode_reports q = {0};
    struct datanode_report sent[2], now[2];
    add_damage(&q, 1, 10, PROTO_DAMAGE_FOUND);
    CHECK_EQ(datanode_reports_take(&q, sent, 2), 1);
    add_damage(&q, 1, 10, PROTO_DAMAGE_REPAIRED); /* while the first is on its way */
    datanode_reports_heard(&q, sent, 1);
    CHECK_EQ(datanode_reports_take(&q, now, 2), 1);
    CHECK_EQ(now[0].damage, PROTO_DAMAGE_REPAIRED);
    CHECK_EQ(now[0].merged, 1);
    datanode_reports_heard(&q, now, 1);
    CHECK_EQ(q.count, 0);
}

TEST(report_queue_makes_one_of_a_chain_when_it_is_full)
{
    struct datanode_reports q = {0};
    struct datanode_report out[DATANODE_REPORTS_MAX];
    add_damage(&q, 7, 5, PROTO_DAMAGE_NO_COPY);
    for (uint64_t i = 1; i < DATANODE_REPORTS_MAX; i++) {
        add_damage(&q, 4, i, PROTO_DAMAGE_FOUND);
    }
    CHECK_EQ(q.count, DATANODE_REPORTS_MAX);
    CHECK_EQ(datanode_reports_take(&q, out, 2), 2);
    add_damage(&q, 4, 1000, PROTO_DAMAGE_NO_COPY);
    CHECK_EQ(q.count, 2);
    datanode_reports_heard(&q, out, 2); /* chain 7's, and one that was merged since: it stays */
    CHECK_EQ(datanode_reports_take(&q, out, 2), 1);
    CHECK_EQ(out[0].chain, 4);
    CHECK_EQ(out[0].chunk.data_id, 0);
    CHECK_EQ(out[0].merged, DATANODE_REPORTS_MAX);
    CHECK_EQ(out[0].damage, PROTO_DAMAGE_NO_COPY);
    add_damage(&q, 4, 3, PROTO_DAMAGE_FOUND); /* told by the one on all of the chain */
    CHECK_EQ(q.count, 1);
    CHECK_EQ(q.at[0].merged, DATANODE_REPORTS_MAX + 1);
}

TEST(report_queue_makes_one_of_all_chains_when_each_has_one)
{
    struct datanode_reports q = {0};
    for (uint32_t i = 1; i < DATANODE_REPORTS_MAX; i++) {
        add_resync(&q, i, 2);
    }
    add_damage(&q, 3, 9, PROTO_DAMAGE_FOUND);
    add_damage(&q, 4, 9, PROTO_DAMAGE_FOUND);
    CHECK_EQ(q.count, 3); /* what is less urgent was merged */
    struct datanode_report out[4];
    CHECK_EQ(datanode_reports_take(&q, out, 4), 3);
    CHECK_EQ(out[2].kind, PROTO_REPORT_RESYNCED);
    CHECK_EQ(out[2].chain, 0);
    CHECK_EQ(out[2].merged, DATANODE_REPORTS_MAX - 1);
    CHECK_EQ(out[2].copied, 2 * (DATANODE_REPORTS_MAX - 1));
}

TEST(report_queue_has_room_when_the_least_urgent_is_alone)
{
    struct datanode_reports q = {0};
    add_resync(&q, 1, 2);
    for (uint32_t i = 1; i < DATANODE_REPORTS_MAX + 50; i++) {
        add_damage(&q, i, 9, PROTO_DAMAGE_FOUND);
        CHECK_TRUE(q.count <= DATANODE_REPORTS_MAX);
    }
    struct datanode_report out[4];
    CHECK_EQ(datanode_reports_take(&q, out, 4), 2); /* one on all damage */
    CHECK_EQ(out[0].kind, PROTO_REPORT_DAMAGE);
    CHECK_EQ(out[0].chain, 0);
    CHECK_EQ(out[0].merged, DATANODE_REPORTS_MAX + 49);
    CHECK_EQ(out[1].kind, PROTO_REPORT_RESYNCED);
}

/* A chunk without a readable record. */
TEST(report_queue_keeps_a_chunk_of_an_unknown_chain_apart)
{
    struct datanode_reports q = {0};
    add_damage(&q, 0, 7, PROTO_DAMAGE_FOUND);
    add_damage(&q, 3, 8, PROTO_DAMAGE_FOUND);
    add_damage(&q, 3, 9, PROTO_DAMAGE_REPAIRED);
    CHECK_EQ(q.count, 3);
    add_damage(&q, 0, 7, PROTO_DAMAGE_REPAIRED);
    CHECK_EQ(q.count, 3);
}

/* Whatever comes and whenever answers do: each report is told by one that was sent later, or is
 * still there. */
#define CHAINS 300u
#define DATA 40u
struct told {
    uint64_t asked[CHAINS][DATA], heard[CHAINS][DATA]; /* steps; 0: never */
};

static bool is_told_by(const struct datanode_report *r, uint32_t chain, uint64_t data_id)
{
    return r->kind == PROTO_REPORT_DAMAGE && (r->chain == 0 || r->chain == chain) &&
           (r->chunk.data_id == 0 || r->chunk.data_id == data_id);
}

static void heard_all(struct told *t, const struct datanode_report *out, size_t count,
                      uint64_t sent)
{
    for (size_t i = 0; i < count; i++) {
        for (uint32_t c = 1; c < CHAINS; c++) {
            for (uint64_t d = 1; d < DATA; d++) {
                t->heard[c][d] = is_told_by(&out[i], c, d) ? sent : t->heard[c][d];
            }
        }
    }
}

TEST(report_queue_loses_nothing)
{
    static struct told t;
    static struct datanode_reports q;
    struct datanode_report out[16];
    struct rand rand;
    size_t sent_count = 0;
    uint64_t sent_at = 0;
    memset(&t, 0, sizeof t);
    memset(&q, 0, sizeof q);
    rand_seed(&rand, testing_seed());
    for (uint64_t step = 1; step <= 4000; step++) {
        uint32_t chain = 1 + (uint32_t)rand_below(&rand, CHAINS - 1);
        uint64_t data_id = 1 + rand_below(&rand, DATA - 1);
        add_damage(&q, chain, data_id, PROTO_DAMAGE_FOUND);
        t.asked[chain][data_id] = step;
        CHECK_TRUE(q.count <= DATANODE_REPORTS_MAX);
        if (rand_below(&rand, 40) == 0) {
            datanode_reports_heard(&q, out, sent_count);
            heard_all(&t, out, sent_count, sent_at);
            sent_count = datanode_reports_take(&q, out, ARRAY_COUNT(out));
            sent_at = step;
        }
    }
    for (uint32_t c = 1; c < CHAINS; c++) {
        for (uint64_t d = 1; d < DATA; d++) {
            bool waits = false;
            for (size_t i = 0; i < q.count; i++) {
                waits = waits || is_told_by(&q.at[i], c, d);
            }
            CHECK_TRUE(waits || t.heard[c][d] >= t.asked[c][d]);
        }
    }
}
