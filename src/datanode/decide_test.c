/* datanode/decide_test.c -- the decision tables, every row and every order of rows. */
#include "datanode/decide.h"

#include "testing/testing.h"

#include <string.h>

static const struct chunk_identity none = {0, 0};
static const struct chunk_identity v5 = {2, 5};
static const struct chunk_identity v6 = {3, 6};
static const struct chunk_identity v6_other = {2, 6};

/* ---- FORWARD: the table of section 6 ---- */

struct forward_case {
    const char *what;
    struct chunk_identity committed, pending, identity, base;
    bool damaged, whole, dead, syncing;
    enum datanode_forward_action expected;
};
#define GOOD DATANODE_FORWARD_GOOD
#define JOIN DATANODE_FORWARD_JOIN
#define ACCEPT DATANODE_FORWARD_ACCEPT
#define INSTALL DATANODE_FORWARD_INSTALL
#define WHOLE DATANODE_FORWARD_NEED_WHOLE
#define GONE DATANODE_FORWARD_GONE
#define DIVERGED DATANODE_FORWARD_DIVERGED

TEST(decide_forward_follows_the_table)
{
    const struct forward_case cases[] = {
        {"committed = n", v6, none, v6, v5, .expected = GOOD},
        {"committed = n, whole", v6, none, v6, v5, .whole = true, .expected = GOOD},
        {"committed = n, removed: who holds n never refuses it", v6, none, v6, v5, .dead = true,
         .expected = GOOD},
        {"committed = n, damaged", v6, none, v6, v5, .damaged = true, .expected = GOOD},
        {"pending = n", v5, v6, v6, v5, .expected = JOIN},
        {"pending = n, removed", v5, v6, v6, v5, .dead = true, .expected = JOIN},
        {"no pending, committed = b", v5, none, v6, v5, .expected = ACCEPT},
        {"no record, no base", none, none, v6, none, .expected = ACCEPT},
        {"whole on the base", v5, none, v6, v5, .whole = true, .expected = ACCEPT},
        {"gaps in the numbers are harmless", v5, none, {3, 9}, v5, .expected = ACCEPT},
        {"syncing, whole", none, none, v6, v5, .whole = true, .syncing = true, .expected = INSTALL},
        {"syncing, whole, higher version here",
         {2, 9},
         none,
         v6,
         v5,
         .whole = true,
         .syncing = true,
         .expected = INSTALL},
        {"syncing, whole, damaged", v5, none, v6, v5, .damaged = true, .whole = true,
         .syncing = true, .expected = INSTALL},
        {"syncing, delta", v5, none, v6, v5, .syncing = true, .expected = WHOLE},
        {"damaged, delta", v5, none, v6, v5, .damaged = true, .expected = WHOLE},
        {"damaged, whole", v5, none, v6, v5, .damaged = true, .whole = true, .expected = ACCEPT},
        {"removed", v5, none, v6, v5, .dead = true, .expected = GONE},
        {"removed, no record", none, none, v6, none, .dead = true, .expected = GONE},
        {"removed, syncing", none, none, v6, v5, .whole = true, .dead = true, .syncing = true,
         .expected = GONE},
        {"no record, but a base", none, none, v6, v5, .expected = DIVERGED},
        {"another base", v6_other, none, v6, v5, .expected = DIVERGED},
        {"another base, whole", v6_other, none, v6, v5, .whole = true, .expected = DIVERGED},
        {"equal number of another epoch", v6_other, none, v6, v6_other, .expected = ACCEPT},
        {"another pending", v5, v6_other, v6, v5, .expected = DIVERGED},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const struct forward_case *c = &cases[i];
        struct chunk_info info = {.committed = c->committed,
                                  .pending = c->pending,
                                  .has_pending = c->pending.ver != 0,
                                  .flags = c->damaged ? CHUNK_DAMAGED : 0};
        const struct datanode_forward_view v = {.info = &info,
                                                .identity = c->identity,
                                                .base = c->base,
                                                .whole = c->whole,
                                                .dead = c->dead,
                                                .syncing = c->syncing};
        enum datanode_forward_action action = datanode_forward_decide(&v);
        if (action != c->expected) {
            testing_failed(c->what, __FILE__, __LINE__);
        }
    }
}

/* ---- WRITE: section 6, step 2 ---- */

struct write_case {
    const char *what;
    uint32_t tgen, record_tgen;
    uint64_t client, seq;
    bool dead, set_length, retry, overflow, uncut;
    int expected;
    uint32_t length;
};

TEST(decide_write_checks_in_order)
{
    const struct write_case cases[] = {
        {"new", 0, 0, 1, 8, .expected = DATANODE_WRITE_ACCEPT},
        {"new client", 0, 0, 2, 1, .expected = DATANODE_WRITE_ACCEPT},
        {"same seq", 0, 0, 1, 7, .expected = DATANODE_WRITE_AGAIN},
        {"same seq, retry", 0, 0, 1, 7, .retry = true, .expected = DATANODE_WRITE_AGAIN},
        {"older seq", 0, 0, 1, 6, .expected = -ERR_stale_request},
        {"retry, not known", 0, 0, 2, 1, .retry = true, .expected = DATANODE_WRITE_ACCEPT},
        {"retry, forgotten", 0, 0, 2, 1, .retry = true, .overflow = true,
         .expected = -ERR_unknown_outcome},
        {"new though some were forgotten", 0, 0, 2, 1, .overflow = true,
         .expected = DATANODE_WRITE_ACCEPT},
        {"same seq though some were forgotten", 0, 0, 1, 7, .retry = true, .overflow = true,
         .expected = DATANODE_WRITE_AGAIN},
        {"removed before all", 0, 9, 1, 7, .dead = true, .expected = -ERR_gone},
        {"older than a truncation", 8, 9, 1, 8, .expected = -ERR_stale_trunc},
        {"older than a truncation, before recent", 8, 9, 1, 7, .expected = -ERR_stale_trunc},
        {"as new as a truncation", 9, 9, 1, 8, .expected = DATANODE_WRITE_ACCEPT},
        {"newer than a truncation", 10, 9, 1, 8, .expected = DATANODE_WRITE_ACCEPT},
        {"newer than a truncation that may not have cut it", 10, 9, 1, 8, .uncut = true,
         .length = 1, .expected = -ERR_busy},
        {"the same, but made before", 10, 9, 1, 7, .uncut = true, .length = 1,
         .expected = DATANODE_WRITE_AGAIN},
        {"which has nothing to cut", 10, 9, 1, 8, .uncut = true, .expected = DATANODE_WRITE_ACCEPT},
        {"which has cut it", 9, 9, 1, 8, .uncut = true, .length = 1,
         .expected = DATANODE_WRITE_ACCEPT},
        {"truncation itself", 10, 9, 1, 8, .set_length = true, .uncut = true, .length = 1,
         .expected = DATANODE_WRITE_ACCEPT},
        {"truncation", 10, 9, 1, 8, .set_length = true, .expected = DATANODE_WRITE_ACCEPT},
        {"truncation, repeated", 9, 9, 1, 8, .set_length = true, .expected = DATANODE_WRITE_DONE},
        {"truncation, late", 8, 9, 1, 8, .set_length = true, .expected = DATANODE_WRITE_DONE},
        {"truncation of a removed one", 9, 9, 1, 8, .dead = true, .set_length = true,
         .expected = -ERR_gone},
        {"first length", 0, 0, 1, 8, .set_length = true, .expected = DATANODE_WRITE_ACCEPT},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        const struct write_case *c = &cases[i];
        struct chunk_info info = {.tgen = c->record_tgen,
                                  .length = c->length,
                                  .flags = c->overflow ? CHUNK_DEDUPE_OVERFLOW : 0,
                                  .recent_count = 1,
                                  .recent = {{.client = 1, .seq = 7, .ver = 33}}};
        const struct datanode_write_view v = {.info = &info,
                                              .dead = c->dead,
                                              .set_length = c->set_length,
                                              .retry = c->retry,
                                              .uncut = c->uncut,
                                              .tgen = c->tgen,
                                              .client = c->client,
                                              .seq = c->seq};
        struct chunk_recent entry = {0};
        int rc = datanode_write_decide(&v, &entry);
        if (rc != c->expected || (rc == DATANODE_WRITE_AGAIN && entry.ver != 33)) {
            testing_failed(c->what, __FILE__, __LINE__);
        }
    }
}

TEST(decide_identity_is_never_given_twice)
{
    struct chunk_info info = {0};
    struct chunk_identity id = datanode_identity_next(&info, 4);
    CHECK_EQ(id.aepoch, 4);
    CHECK_EQ(id.ver, 1);
    info.committed = v5;
    info.last_ver = 9; /* 6 to 9 were refused: R15 */
    CHECK_EQ(datanode_identity_next(&info, 4).ver, 10);
    info.last_ver = 0;
    CHECK_EQ(datanode_identity_next(&info, 4).ver, 6);
}

/* ---- recent ---- */

static struct chunk_info info_with(unsigned count, uint64_t first_ms)
{
    struct chunk_info info = {.recent_count = count};
    for (unsigned i = 0; i < count; i++) {
        info.recent[i] =
            (struct chunk_recent){.client = i + 1, .seq = 1, .ver = i, .time_ms = first_ms + i};
    }
    return info;
}

/* Plans at the head, applies at two members; both arrive at the same. */
static int apply(const struct chunk_info *info, uint64_t client, uint64_t now_ms,
                 struct chunk_info *ret)
{
    struct datanode_recent_change change = {
        .entry = {.client = client, .seq = 2, .ver = 99, .time_ms = now_ms}};
    struct chunk_recent other[CHUNK_RECENT_MAX] = {0};
    uint16_t flags = 0;
    datanode_recent_plan(info, &change);
    *ret = *info;
    memset(ret->recent, 0, sizeof ret->recent);
    int count = datanode_recent_apply(info, &change, ret->recent, &ret->flags);
    CHECK_EQ(datanode_recent_apply(info, &change, other, &flags), count);
    CHECK_BYTES(other, ret->recent, sizeof other);
    CHECK_EQ(flags, ret->flags);
    ret->recent_count = count < 0 ? 0 : (unsigned)count;
    return (int)change.evicted_count;
}

TEST(decide_recent_replaces_the_same_client)
{
    struct chunk_info info = info_with(3, 1000);
    struct chunk_info next;
    struct chunk_recent entry;
    CHECK_EQ(apply(&info, 2, 5000, &next), 0);
    CHECK_EQ(next.recent_count, 3);
    CHECK_EQ(datanode_recent_find(&next, 2, 2, &entry), DATANODE_SEEN_SAME);
    CHECK_EQ(entry.ver, 99);
    CHECK_EQ(datanode_recent_find(&next, 2, 1, &entry), DATANODE_SEEN_NEWER);
    CHECK_EQ(datanode_recent_find(&next, 2, 3, &entry), DATANODE_SEEN_NEW);
    CHECK_EQ(datanode_recent_find(&next, 9, 1, &entry), DATANODE_SEEN_NEW);
}

TEST(decide_recent_keeps_entries_for_ten_minutes)
{
    struct chunk_info info = info_with(3, 1000);
    struct chunk_info next;
    CHECK_EQ(apply(&info, 9, 1000 + DATANODE_RECENT_MS - 1, &next), 0);
    CHECK_EQ(next.recent_count, 4);
    CHECK_EQ(apply(&info, 9, 1001 + DATANODE_RECENT_MS, &next), 2); /* the two that are older */
    CHECK_EQ(next.recent_count, 2);
    CHECK_EQ(next.flags, 0);
    CHECK_EQ(apply(&info, 9, 10, &next), 0); /* the clock went back: they are kept */
    CHECK_EQ(next.recent_count, 4);
}

TEST(decide_recent_says_when_it_forgot_too_early)
{
    struct chunk_info info = info_with(CHUNK_RECENT_MAX, 1000);
    struct chunk_info next;
    struct chunk_info later;
    struct chunk_recent entry;
    CHECK_EQ(apply(&info, 99, 5000, &next), 1);
    CHECK_EQ(next.recent_count, CHUNK_RECENT_MAX);
    CHECK_EQ(next.flags, CHUNK_DEDUPE_OVERFLOW);
    CHECK_EQ(datanode_recent_find(&next, 1, 1, &entry), DATANODE_SEEN_NEW); /* the oldest went */
    CHECK_EQ(apply(&next, 98, 5000 + DATANODE_RECENT_MS - 1, &later), CHUNK_RECENT_MAX - 1);
    CHECK_EQ(later.flags, CHUNK_DEDUPE_OVERFLOW); /* one of them is not ten minutes old */
    CHECK_EQ(apply(&next, 98, 5000 + DATANODE_RECENT_MS, &later), CHUNK_RECENT_MAX);
    CHECK_EQ(later.flags, 0);
    CHECK_EQ(later.recent_count, 1);
}

TEST(decide_recent_refuses_what_does_not_fit)
{
    struct chunk_info info = info_with(CHUNK_RECENT_MAX, 1000);
    struct datanode_recent_change change = {.entry = {.client = 99, .time_ms = 5000}};
    struct chunk_recent list[CHUNK_RECENT_MAX];
    uint16_t flags = 0;
    CHECK_RC(datanode_recent_apply(&info, &change, list, &flags), ERR_bad_value);
}

/* ---- Resync ---- */

TEST(decide_copy_is_refused_after_a_newer_update)
{
    struct chunk_info info = {.committed = v6};
    struct datanode_copy_view v = {.info = &info, .touched = true, .ver = 5};
    CHECK_TRUE(!datanode_copy_takes(&v)); /* test case 12 */
    v.ver = 6;
    CHECK_TRUE(!datanode_copy_takes(&v));
    v.ver = 7;
    CHECK_TRUE(datanode_copy_takes(&v));
    v.ver = 5;
    v.touched = false;
    CHECK_TRUE(datanode_copy_takes(&v)); /* test case 11: higher local versions go */
    v.dead = true;
    CHECK_TRUE(!datanode_copy_takes(&v)); /* test case 13 */
}

TEST(decide_walk_compares_identity_and_digest)
{
    struct datanode_walk_side p = {.there = true, .identity = v6, .digest = 1};
    struct datanode_walk_side s = p;
    const struct datanode_walk_side nothing = {0};
    CHECK_EQ(datanode_walk_decide(&p, &s), DATANODE_WALK_SAME);
    s.damaged = true;
    CHECK_EQ(datanode_walk_decide(&p, &s), DATANODE_WALK_COPY);
    s = p;
    s.identity = v6_other; /* test case 10: equal number, other bytes */
    CHECK_EQ(datanode_walk_decide(&p, &s), DATANODE_WALK_COPY);
    s = p;
    s.digest = 2;
    CHECK_EQ(datanode_walk_decide(&p, &s), DATANODE_WALK_COPY);
    CHECK_EQ(datanode_walk_decide(&p, &nothing), DATANODE_WALK_COPY);
    CHECK_EQ(datanode_walk_decide(&nothing, &s), DATANODE_WALK_DROP);
    CHECK_EQ(datanode_walk_decide(&nothing, &nothing), DATANODE_WALK_SAME);
}

/* ---- R4 ---- */

TEST(decide_restart_is_over_with_a_row_that_knows_of_it)
{
    struct cluster_row row = {.chain = 1,
                              .epoch = 7,
                              .count = 2,
                              .member = {{.target = 1, .state = PROTO_MEMBER_SERVING},
                                         {.target = 2, .state = PROTO_MEMBER_SERVING}}};
    struct datanode_fence_view v = {.row = &row, .target = 2, .registered_epoch = 6};
    CHECK_TRUE(!datanode_restart_over(&v));
    row.epoch = 8; /* two rows later, still not out of it: made before the registration */
    CHECK_TRUE(!datanode_restart_over(&v));
    row.member[1].state = PROTO_MEMBER_SYNCING;
    CHECK_TRUE(!datanode_restart_over(&v));
    row.member[1].state = PROTO_MEMBER_WAITING;
    CHECK_TRUE(datanode_restart_over(&v));
    row.member[1].state = PROTO_MEMBER_OFFLINE;
    CHECK_TRUE(datanode_restart_over(&v));
    v.target = 3;
    CHECK_TRUE(datanode_restart_over(&v));
    row.member[0] = (struct cluster_member){.target = 3, .state = PROTO_MEMBER_SERVING};
    row.member[1].state = PROTO_MEMBER_OFFLINE;
    CHECK_TRUE(datanode_restart_over(&v)); /* promoted: last-serving in between */
    row.epoch = 7;
    CHECK_TRUE(!datanode_restart_over(&v));
}

/* ---- Who has a whole copy ---- */

TEST(decide_hold_by_the_first_row)
{
    struct datanode_hold_view v = {
        .before = PROTO_MEMBER_OFFLINE, .now = PROTO_MEMBER_SERVING, .is = true, .first = true};
    CHECK_TRUE(datanode_hold_decide(&v)); /* it begins with the chain */
    v.leaps = true;
    CHECK_TRUE(!datanode_hold_decide(&v)); /* an old chain, and it has never heard of it */
    v.leaps = false;
    v.now = PROTO_MEMBER_WAITING;
    CHECK_TRUE(!datanode_hold_decide(&v)); /* it joins */
    v.registration = true;
    CHECK_TRUE(datanode_hold_decide(&v)); /* it was there before it was started anew */
    v.leaps = true;
    v.now = PROTO_MEMBER_LAST_SERVING;
    CHECK_TRUE(datanode_hold_decide(&v));
    v.lost = true;
    CHECK_TRUE(!datanode_hold_decide(&v)); /* R4 knows nothing of that */
    v.lost = false;
    v.met = true;
    CHECK_TRUE(!datanode_hold_decide(&v));
    CHECK_TRUE(!datanode_stale_decide(&v));
}

TEST(decide_hold_ends_by_leaving)
{
    struct datanode_hold_view v = {
        .before = PROTO_MEMBER_OFFLINE, .now = PROTO_MEMBER_SERVING, .is = true, .held = true};
    CHECK_TRUE(datanode_hold_decide(&v));
    v.is = false;
    CHECK_TRUE(!datanode_hold_decide(&v));
    v.is = true;
    v.held = false;
    CHECK_TRUE(!datanode_hold_decide(&v));
}

TEST(decide_stale_by_the_rows_of_a_backup)
{
    static const enum proto_member_state away[] = {PROTO_MEMBER_SYNCING, PROTO_MEMBER_WAITING,
                                                   PROTO_MEMBER_OFFLINE};
    struct datanode_hold_view v = {
        .before = PROTO_MEMBER_SERVING, .now = PROTO_MEMBER_SERVING, .is = true, .leaps = true};
    CHECK_TRUE(!datanode_stale_decide(&v));
    v.before = PROTO_MEMBER_LAST_SERVING;
    CHECK_TRUE(!datanode_stale_decide(&v));
    for (size_t i = 0; i < ARRAY_COUNT(away); i++) {
        v.before = away[i];
        v.leaps = false; /* an administrator's command */
        CHECK_TRUE(!datanode_stale_decide(&v));
        v.leaps = true;
        CHECK_TRUE(datanode_stale_decide(&v));
        v.synced = true;
        CHECK_TRUE(!datanode_stale_decide(&v));
        v.synced = false;
    }
    v.stale = true;
    v.leaps = false;
    v.before = PROTO_MEMBER_SERVING;
    v.now = PROTO_MEMBER_LAST_SERVING; /* it goes on being so */
    CHECK_TRUE(datanode_stale_decide(&v));
    v.now = PROTO_MEMBER_OFFLINE;
    CHECK_TRUE(!datanode_stale_decide(&v));
}
