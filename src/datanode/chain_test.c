/*
 * datanode/chain_test.c -- interleavings of section 13 of the protocol (the number of the case is
 * in the comment) that need rows, leases and faults of links, but no resync.
 */
#include "datanode/chain_priv.h"

#include "datanode/rig_world_priv.h"
#include "datanode/worker_priv.h"
#include "testing/testing.h"

static const struct rig_io first = {
    .host = 1, .chain = 1, .data_id = 100, .length = 8192, .fill = 1};

static struct rig_io with(uint8_t fill)
{
    struct rig_io io = first;
    io.fill = fill;
    return io;
}
static int read_at(struct rig *r, unsigned host, uint8_t fill)
{
    struct rig_io io = with(fill);
    io.host = host;
    return rig_read(r, &io);
}
static int stat_at(struct rig *r, const struct rig_io *io)
{
    struct rig_call c;
    rig_stat_begin(r, &c, io);
    RIG_UNTIL(r, c.done);
    return c.rc;
}
static void open_three(struct rig *r)
{
    rig_chain(r, 3, DATANODE_ENGINE_RAM, testing_seed());
    CHECK_OK(rig_write(r, &first));
}

/* Case 1, R12.3: what the tail showed is committed by the member that has it pending. */
TEST(chain_pending_is_committed_by_the_new_tail)
{
    struct rig r;
    struct rig_call w;
    open_three(&r);
    const struct rig_io io = with(2);
    net_sim_cut(r.net, 3, 2, true); /* the tail's answer does not arrive */
    rig_write_begin(&r, &w, &io);
    RIG_UNTIL(&r, read_at(&r, 3, 2) == 0);
    CHECK_RC(read_at(&r, 2, 2), ERR_pending); /* I5: neither old nor new */
    CHECK_RC(read_at(&r, 1, 2), ERR_pending);
    rig_kill(&r, 1);
    rig_kill(&r, 3);
    rig_row(&r, 1, "2s 1o 3o");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    CHECK_OK(read_at(&r, 2, 2));
    RIG_UNTIL(&r, w.done);
    CHECK_TRUE(w.rc < 0);
    rig_call_end(&w);
    rig_close(&r);
}

/* The first write of a new chain waits for connections, not for the next tick: the rows and the
 * write come at any moment between two ticks (200 ms). */
TEST(chain_is_ready_when_its_rows_are_there)
{
    for (unsigned i = 0; i < 10; i++) {
        struct rig r;
        struct rig_call w;
        const struct rig_options opt = {
            .seed = testing_seed() + i, .targets = 2, .engine = DATANODE_ENGINE_RAM};
        rig_open(&r, &opt);
        RIG_UNTIL(&r, rig_info(&r, 1).leased && rig_info(&r, 2).leased);
        rig_for_ms(&r, i * UINT64_C(20));
        rig_row(&r, 1, "1s 2s");
        rig_for_ms(&r, 10);
        rig_write_begin(&r, &w, &first);
        rig_for_ms(&r, 100);
        CHECK_TRUE(w.done);
        CHECK_OK(w.rc);
        rig_call_end(&w);
        rig_close(&r);
    }
}

/* Case 3, R8: the lease is over when the answer of the successor arrives. */
TEST(chain_head_without_lease_does_not_answer)
{
    struct rig r;
    struct rig_call w;
    open_three(&r);
    const struct rig_io io = with(2);
    net_sim_cut(r.net, 2, 1, true);
    rig_write_begin(&r, &w, &io);
    RIG_UNTIL(&r, read_at(&r, 2, 2) == 0); /* committed below the head */
    net_sim_cut(r.net, 0, 1, true);
    net_sim_cut(r.net, 1, 0, true);
    RIG_UNTIL(&r, !rig_info(&r, 1).leased);
    net_sim_cut(r.net, 2, 1, false);
    RIG_UNTIL(&r, w.done);
    CHECK_TRUE(w.rc < 0 && !w.answered);
    CHECK_RC(read_at(&r, 1, 2), ERR_not_serving); /* R7 */
    rig_call_end(&w);
    rig_close(&r);
}

/* Case 4, R9: an isolated old head and a client with the old row. */
TEST(chain_isolated_head_commits_nothing)
{
    struct rig r;
    struct rig_call w;
    open_three(&r);
    r.target[1].deaf = true;
    rig_row(&r, 1, "2s 3s 1o");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    struct rig_io io = with(2);
    io.epoch = 1;
    rig_write_begin(&r, &w, &io); /* the successor says stale_epoch, and the row with it */
    RIG_UNTIL(&r, w.done);
    CHECK_TRUE(w.rc < 0 && (!w.answered || w.rc == -ERR_stale_epoch));
    CHECK_OK(read_at(&r, 2, 1));
    CHECK_OK(read_at(&r, 3, 1));
    rig_call_end(&w);
    rig_close(&r);
}

/* Case 18: a member that serves in e + 1 while its predecessor is in e and waits. */
TEST(chain_reads_never_go_backward_across_a_row)
{
    struct rig r;
    struct rig_call w;
    open_three(&r);
    const struct rig_io io = with(2);
    net_sim_cut(r.net, 3, 2, true);
    rig_write_begin(&r, &w, &io);
    RIG_UNTIL(&r, read_at(&r, 3, 2) == 0);
    r.target[1].deaf = true;
    rig_row(&r, 1, "1s 2s 3o");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    CHECK_OK(read_at(&r, 2, 2)); /* last now: committed */
    struct rig_io old = with(2);
    old.epoch = 1;
    int rc = rig_read(&r, &old);
    CHECK_TRUE(rc == -ERR_pending || rc == -ERR_stale_epoch || rc == 0);
    r.target[1].deaf = false;
    rig_row(&r, 1, "1s 2s 3o");
    RIG_UNTIL(&r, w.done);
    CHECK_OK(w.rc); /* forwarded again in the new row, found committed */
    RIG_UNTIL(&r, rig_settled(&r, 1));
    CHECK_OK(read_at(&r, 1, 2));
    rig_call_end(&w);
    rig_close(&r);
}

/* R12: the tail dies while an update is on its way; the client gets its answer. */
TEST(chain_goes_on_without_its_tail)
{
    struct rig r;
    struct rig_call w;
    open_three(&r);
    const struct rig_io io = with(2);
    rig_write_begin(&r, &w, &io);
    rig_for_ms(&r, 1);
    rig_kill(&r, 3);
    rig_for_ms(&r, 100);
    rig_row(&r, 1, "1s 2s 3o");
    RIG_UNTIL(&r, w.done);
    CHECK_OK(w.rc);
    RIG_UNTIL(&r, rig_settled(&r, 1));
    CHECK_OK(read_at(&r, 1, 2));
    CHECK_OK(read_at(&r, 2, 2));
    rig_call_end(&w);
    rig_close(&r);
}

/* Case 2, R14, and R12: the head dies at any moment of an update; the others agree, and a retry of
 * the client (case 8) applies it once. */
TEST(chain_goes_on_without_its_head)
{
    for (uint64_t ms = 0; ms < 8; ms++) {
        struct rig r;
        struct rig_call w;
        open_three(&r);
        struct rig_io io = with(2);
        io.seq = 50;
        rig_write_begin(&r, &w, &io);
        rig_for_ms(&r, ms);
        rig_kill(&r, 1);
        rig_row(&r, 1, "2s 3s 1o");
        RIG_UNTIL(&r, rig_settled(&r, 1));
        int at_tail = read_at(&r, 3, 2);
        int at_head = read_at(&r, 2, 2);
        CHECK_TRUE(at_tail != 0 || at_head == 0 || at_head == -ERR_pending);
        io.host = 2;
        io.retry = true;
        CHECK_OK(rig_write(&r, &io));
        CHECK_OK(read_at(&r, 2, 2));
        CHECK_OK(read_at(&r, 3, 2));
        const struct rig_io third = {
            .host = 2, .chain = 1, .data_id = 100, .length = 8192, .fill = 3, .client = 5};
        CHECK_OK(rig_write(&r, &third));
        struct rig_call again; /* case 8: after another client's write */
        rig_write_begin(&r, &again, &io);
        RIG_UNTIL(&r, again.done);
        CHECK_OK(again.rc);
        CHECK_OK(read_at(&r, 3, 3));
        RIG_UNTIL(&r, w.done);
        rig_call_end(&w);
        rig_call_end(&again);
        rig_close(&r);
    }
}

/* What is remembered of clients is dated by the leader's clock: a head whose own is wrong forgets
 * nobody before the time, and an update that is sent once more is not applied again. */
TEST(chain_remembers_clients_whatever_the_clock_of_its_head_says)
{
    struct rig r;
    open_three(&r);
    struct rig_io io = with(2);
    io.seq = 50;
    CHECK_OK(rig_write(&r, &io));
    rig_kill(&r, 1);
    loop_sim_clock(r.world, 2, INT64_C(3600) * 1000000000, 0);
    rig_row(&r, 1, "2s 3s 1o");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    const struct rig_io other = {
        .host = 2, .chain = 1, .data_id = 100, .length = 8192, .fill = 3, .client = 5};
    CHECK_OK(rig_write(&r, &other));
    io.host = 2;
    io.retry = true;
    CHECK_OK(rig_write(&r, &io));
    CHECK_OK(read_at(&r, 2, 3));
    CHECK_OK(read_at(&r, 3, 3));
    rig_close(&r);
}

/* Cases 5, 7, R15: refused below, dropped above, the number is not given again. */
TEST(chain_refused_update_is_dropped_everywhere)
{
    struct rig r;
    const struct rig_options opt = {.seed = testing_seed(),
                                    .targets = 3,
                                    .engine = DATANODE_ENGINE_RAM,
                                    .small = 3,
                                    .small_bytes = 1u << 20};
    rig_chain_with(&r, &opt);
    CHECK_OK(rig_write(&r, &first));
    struct rig_io big = with(2);
    big.length = 2u << 20;
    CHECK_RC(rig_write(&r, &big), ERR_no_space);
    for (unsigned host = 1; host <= 3; host++) {
        CHECK_OK(read_at(&r, host, 1));
    }
    struct rig_call w;
    const struct rig_io io = with(4);
    rig_write_begin(&r, &w, &io);
    RIG_UNTIL(&r, w.done);
    CHECK_OK(w.rc);
    CHECK_EQ(w.identity.ver, 3); /* 2 was refused */
    CHECK_OK(read_at(&r, 3, 4));
    rig_call_end(&w);
    rig_close(&r);
}

/* The same when nothing else is known of the chunk: it was its first update (`last_ver`). */
static void check_first_refused(enum datanode_engine engine)
{
    struct rig r;
    struct rig_call w;
    const struct rig_options opt = {.seed = testing_seed(),
                                    .targets = 2,
                                    .engine = engine,
                                    .small = 2,
                                    .small_bytes = 1u << 20};
    rig_chain_with(&r, &opt);
    disk_sim_capacity(r.disk[2], disk_sim_used_bytes(r.disk[2]) + (1u << 20));
    rig_for_ms(&r, 1500); /* the store looks each second */
    struct rig_io big = with(2);
    big.length = 2u << 20;
    CHECK_RC(rig_write(&r, &big), ERR_no_space);
    disk_sim_capacity(r.disk[2], 0);
    struct rig_io read = first;
    read.length = 0;
    CHECK_OK(rig_read(&r, &read));
    rig_write_begin(&r, &w, &first);
    RIG_UNTIL(&r, w.done);
    CHECK_OK(w.rc);
    CHECK_EQ(w.identity.ver, 2); /* 1 was refused */
    CHECK_OK(read_at(&r, 1, 1));
    CHECK_OK(read_at(&r, 2, 1));
    rig_call_end(&w);
    rig_close(&r);
}
TEST(chain_number_of_a_refused_first_update_is_not_given_again)
{
    check_first_refused(DATANODE_ENGINE_RAM);
    check_first_refused(DATANODE_ENGINE_FILE);
}

/*
 * Refused by the successor while it is being stored here, then a new row: the refusal is void, and
 * the successor's new answer decides. Never may it be dropped here and committed there.
 */
static void check_refuse_then_row(uint64_t ms)
{
    struct rig r;
    struct rig_call w;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    CHECK_OK(rig_write(&r, &first));
    struct rig_io big = with(2);
    big.length = 1u << 20;
    disk_sim_capacity(r.disk[2], disk_sim_used_bytes(r.disk[2]) + 4096);
    disk_sim_slow(r.disk[1], 300 * UINT64_C(1000000));
    rig_write_begin(&r, &w, &big);
    rig_for_ms(&r, ms); /* at most of them: the refusal is here, the own store is not complete */
    disk_sim_capacity(r.disk[2], 0);
    rig_row(&r, 1, "1s 2s");
    RIG_UNTIL(&r, w.done);
    CHECK_TRUE(w.rc == 0 || w.rc == -ERR_no_space);
    const uint8_t expected = w.rc == 0 ? 2 : 1;
    disk_sim_slow(r.disk[1], 0);
    RIG_UNTIL(&r, read_at(&r, 1, expected) == 0);
    int rc = read_at(&r, 2, expected);
    CHECK_TRUE(rc == 0 || r.target[2].report[1] == PROTO_REPORT_GONE); /* stays silent, or agrees */
    rig_call_end(&w);
    rig_close(&r);
}
TEST(chain_refusal_is_void_in_a_new_row)
{
    for (uint64_t ms = 50; ms < 1500; ms += 200) {
        check_refuse_then_row(ms);
    }
}

/* Section 6, sync flag: what is found committed there is not yet stable there. */
TEST(chain_synced_write_is_stable_when_found_committed)
{
    struct rig r;
    struct rig_call w;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    CHECK_OK(rig_write(&r, &first));
    CHECK_OK(rig_sync(&r, &first));
    struct rig_io io = with(2);
    io.sync = true;
    disk_sim_crash_mode(r.disk[2], DISK_SIM_LOSE_ALL);
    disk_sim_slow(r.disk[2], 500 * UINT64_C(1000000));
    rig_write_begin(&r, &w, &io);
    const struct rig_io at_tail = {.host = 2, .chain = 1, .data_id = 100};
    RIG_UNTIL(&r, stat_at(&r, &at_tail) == -ERR_pending);
    RIG_UNTIL(&r, stat_at(&r, &at_tail) == 0); /* committed, its sync is under way */
    rig_row(&r, 1, "1s 2s");                   /* it is forwarded again */
    RIG_UNTIL(&r, w.done);
    CHECK_OK(w.rc);
    rig_kill(&r, 1);
    rig_crash(&r, 2);
    disk_sim_slow(r.disk[2], 0);
    rig_start(&r, 2);
    RIG_UNTIL(&r, rig_info(&r, 2).target != 0);
    rig_row(&r, 1, "1l 2l");
    rig_row(&r, 1, "2s 1o");
    RIG_UNTIL(&r, rig_settled(&r, 1) && rig_info(&r, 2).leased);
    CHECK_OK(read_at(&r, 2, 2));
    rig_call_end(&w);
    rig_close(&r);
}

/* Two members, each the other's successor, with as many writes as there may be: none waits for
 * ever.
 */
TEST(chain_members_do_not_wait_for_each_other_in_a_circle)
{
    struct rig r;
    struct rig_call w[32];
    const struct rig_options opt = {
        .seed = testing_seed(), .targets = 2, .engine = DATANODE_ENGINE_RAM, .max_updates = 8};
    rig_chain_with(&r, &opt);
    rig_row(&r, 2, "2s 1s");
    RIG_UNTIL(&r, rig_settled(&r, 2));
    for (unsigned i = 0; i < ARRAY_COUNT(w); i++) {
        struct rig_io io = first;
        io.host = 1 + i % 2;
        io.chain = io.host;
        io.data_id = 100 + io.chain;
        io.index = i;
        rig_write_begin(&r, &w[i], &io);
    }
    unsigned good = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(w); i++) {
        RIG_UNTIL(&r, w[i].done);
        CHECK_TRUE(w[i].rc == 0 || w[i].rc == -ERR_busy);
        good += w[i].rc == 0 ? 1U : 0U;
        rig_call_end(&w[i]);
    }
    CHECK_TRUE(good >= 8);
    rig_close(&r);
}

/* Case 9, R4: who has started anew serves nothing by a row from before that. */
TEST(chain_restarted_member_does_not_serve)
{
    struct rig r;
    open_three(&r);
    rig_kill(&r, 2);
    rig_start(&r, 2);
    RIG_UNTIL(&r, rig_info(&r, 2).target != 0 && rig_info(&r, 2).leased);
    rig_for_ms(&r, 500);
    CHECK_RC(read_at(&r, 2, 1), ERR_not_serving);
    CHECK_EQ(rig_info(&r, 2).serving_count, 0);
    rig_close(&r);
}

/* Case 22, R7: the clock decides, not a timer. */
TEST(chain_stopped_process_finds_its_lease_over)
{
    struct rig r;
    struct rig_call c;
    open_three(&r);
    struct rig_io io = with(1);
    io.host = 2;
    rig_read_begin(&r, &c, &io);
    loop_sim_pause(r.target[2].process.loop, true);
    rig_for_ms(&r, 3 * RIG_LEASE_MS);
    net_sim_cut(r.net, 0, 2, true);
    loop_sim_pause(r.target[2].process.loop, false);
    RIG_UNTIL(&r, c.done);
    CHECK_RC(c.rc, ERR_not_serving);
    rig_call_end(&c);
    rig_close(&r);
}

/* Case 23: a truncation that is repeated after a newer write has no effect. */
TEST(chain_truncation_happens_once)
{
    struct rig r;
    open_three(&r);
    struct rig_io cut = first;
    cut.kind = PROTO_WRITE_SET_LENGTH;
    cut.length = 5000;
    cut.tgen = 3;
    CHECK_OK(rig_write(&r, &cut));
    struct rig_call s;
    rig_stat_begin(&r, &s, &first);
    RIG_UNTIL(&r, s.done);
    CHECK_EQ(s.length, 5000);
    struct rig_io late = with(2);
    CHECK_RC(rig_write(&r, &late), ERR_stale_trunc);
    late.tgen = 3;
    CHECK_OK(rig_write(&r, &late));
    cut.seq = 0;
    CHECK_OK(rig_write(&r, &cut));
    CHECK_OK(read_at(&r, 3, 2));
    rig_close(&r);
}

/* Case 22, R6: who stood still has heard of nobody, which says nothing about them. */
TEST(chain_stopped_process_names_nobody)
{
    struct rig r;
    open_three(&r);
    const struct rig_io io = with(2);
    for (uint64_t ms = 2100; ms < 4100; ms += 190) { /* ends in all places of a heartbeat */
        rig_for_ms(&r, 1000);
        loop_sim_pause(r.target[1].process.loop, true);
        rig_for_ms(&r, ms);
        loop_sim_pause(r.target[1].process.loop, false);
        rig_for_ms(&r, 1000);
        CHECK_EQ(r.target[1].suspicions, 0);
    }
    CHECK_OK(rig_write(&r, &io));
    net_sim_cut(r.net, 1, 2, true); /* but later it does */
    net_sim_cut(r.net, 2, 1, true);
    rig_for_ms(&r, 1500);
    CHECK_EQ(r.target[1].suspicions, 0);
    RIG_UNTIL(&r, r.target[1].suspect == 2);
    rig_close(&r);
}

static uint64_t bulk_since(struct rig *r, unsigned slot)
{
    struct datanode_neighbor *n = datanode_neighbor_get(r->target[1].worker, 2);
    const struct peer_link *l = peer_link_of(n->peer, slot);
    return l == NULL ? 0 : l->up_ns;
}
/* A question about no chunk that ends with its row takes no link of updates with it. */
TEST(chain_ends_a_question_and_no_other_chains_updates)
{
    struct rig r;
    struct rig_call s;
    struct rig_io other = first;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    rig_row(&r, 2, "1s 2s");
    RIG_UNTIL(&r, rig_settled(&r, 2));
    CHECK_OK(rig_write(&r, &first));
    other.chain = 2;
    other.data_id++;
    CHECK_OK(rig_write(&r, &other));
    unsigned slot = datanode_slot_of((struct chunk_key){.data_id = other.data_id});
    rig_for_ms(&r, 2000);
    uint64_t since_ns = bulk_since(&r, slot);
    CHECK_TRUE(since_ns != 0);
    disk_sim_slow(r.disk[2], 5 * RIG_SECOND);
    rig_sync_begin(&r, &s, &first);
    rig_for_ms(&r, 500);
    CHECK_TRUE(!s.done);
    rig_row(&r, 1, "1s 2s");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    RIG_UNTIL(&r, s.done);
    CHECK_RC(s.rc, ERR_stale_epoch);
    rig_for_ms(&r, 2000);
    CHECK_EQ(bulk_since(&r, slot), since_ns);
    disk_sim_slow(r.disk[2], 0);
    rig_close(&r);
}

/* R8: a head that leaves with a write on its disk says nothing: the client must not think that it
 * may ask again for ever, as after a refusal. */
TEST(chain_head_that_leaves_with_a_stored_write_does_not_answer)
{
    struct rig r;
    struct rig_call w;
    struct rig_call early;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    CHECK_OK(rig_write(&r, &first));
    net_sim_cut(r.net, 1, 2, true); /* it does not get further */
    const struct rig_io io = with(2);
    rig_write_begin(&r, &w, &io);
    rig_for_ms(&r, 500);
    CHECK_TRUE(!w.done);
    rig_row(&r, 1, "2s 1o");
    RIG_UNTIL(&r, w.done);
    CHECK_TRUE(!w.answered);
    RIG_UNTIL(&r, rig_settled(&r, 1));
    rig_write_begin(&r, &early, &io); /* refused before it was stored: that is said */
    RIG_UNTIL(&r, early.done);
    CHECK_TRUE(early.answered);
    CHECK_TRUE(err_is(early.rc, EAGAIN));
    rig_call_end(&w);
    rig_call_end(&early);
    rig_close(&r);
}

/* What is written after a truncation by somebody who does not know how far that has got waits for
 * the cut: it would pass for it, and the old bytes would come back. */
TEST(chain_write_with_a_new_generation_waits_for_the_cut)
{
    struct rig r;
    struct rig_call s;
    open_three(&r);
    struct rig_io late = with(2);
    late.length = 4096;
    late.tgen = 3;
    late.uncut = true;
    CHECK_RC(rig_write(&r, &late), ERR_busy);
    struct rig_io other = late;
    other.index = 7; /* new: there is nothing to cut */
    CHECK_OK(rig_write(&r, &other));
    struct rig_io cut = first;
    cut.kind = PROTO_WRITE_SET_LENGTH;
    cut.length = 5000;
    cut.tgen = 3;
    CHECK_OK(rig_write(&r, &cut));
    rig_stat_begin(&r, &s, &first);
    RIG_UNTIL(&r, s.done);
    CHECK_EQ(s.length, 5000);
    CHECK_OK(rig_write(&r, &late));
    CHECK_OK(rig_read(&r, &late));
    rig_close(&r);
}

/* R6, case 21: a member names the successor that it cannot reach. */
TEST(chain_names_a_silent_successor)
{
    struct rig r;
    open_three(&r);
    net_sim_cut(r.net, 1, 2, true);
    net_sim_cut(r.net, 2, 1, true);
    RIG_UNTIL(&r, r.target[1].suspect == 2);
    CHECK_EQ(r.target[2].suspect, 0);
    rig_row(&r, 1, "1s 3s 2o");
    RIG_UNTIL(&r, r.target[1].suspect == 0 && r.target[3].known[1] == 2);
    const struct rig_io io = with(2);
    CHECK_OK(rig_write(&r, &io));
    CHECK_OK(read_at(&r, 3, 2));
    rig_close(&r);
}

/* A successor that answers questions and takes no other links: it cannot be reached either. */
struct half {
    struct rig *rig;
    struct rig_process process;
    struct peer_user user;
    struct peer_server *server;
    struct buf_pool *pool;
    size_t max_connections;
    unsigned pings, trailers;
    struct peer_request *forward; /* not answered yet */
    struct proto_route said;      /* how its answer differs */
    uint32_t digest;
};
static void half_forward(struct peer_user *u, struct peer_request *q)
{
    struct half *f = container_of(u, struct half, user);
    CHECK_TRUE(f->forward == NULL);
    f->forward = q;
    f->trailers = 0;
}
static void half_trailer(struct peer_user *u, struct peer_link *l, const void *body)
{
    (void)l;
    (void)body;
    container_of(u, struct half, user)->trailers++;
}
static void half_answer(void *ctx)
{
    struct half *f = ctx;
    const struct proto_forward_request *m = f->forward->body;
    const struct proto_forward_reply reply = {
        .route = {.chain = m->route.chain,
                  .epoch = m->route.epoch - f->said.epoch,
                  .attempt = m->route.attempt - f->said.attempt},
        .digest = f->digest};
    peer_request_answer(f->forward, &reply, NULL);
    f->forward = NULL;
}
static void half_ping(struct peer_user *u, struct peer_request *q)
{
    const struct proto_ping_request *m = q->body;
    const struct proto_ping_reply reply = {.cookie = m->cookie};
    container_of(u, struct half, user)->pings++;
    peer_request_answer(q, &reply, NULL);
}
static const struct peer_handler half_handlers[] = {
    {.opcode = PROTO_OP_ping, .request = half_ping},
    {.opcode = PROTO_OP_forward, .request = half_forward},
    {.opcode = PROTO_OP_forward_trailer, .push = half_trailer}};
static void half_pool(void *ctx)
{
    struct half *f = ctx;
    const struct buf_pool_options pool = {.limit_bytes = 64u << 20, .max_size = 4u << 20};
    f->pool = buf_pool_new(&pool);
    CHECK_TRUE(f->pool != NULL);
}
static void half_inside(void *ctx)
{
    struct half *f = ctx;
    const struct peer_server_options opt = {.env = &f->process.env,
                                            .user = &f->user,
                                            .handlers = half_handlers,
                                            .handler_count = ARRAY_COUNT(half_handlers),
                                            .secrets = rig_secrets(),
                                            .cluster_id = rig_cluster(),
                                            .role = PROTO_ROLE_TARGET,
                                            .name = "half",
                                            .pool = f->pool,
                                            .max_connections = f->max_connections};
    struct net_address at = rig_address(2);
    f->user.ops = &rig_nothing_ops;
    CHECK((peer_server_new(&opt, &f->server)) == 0);
    CHECK((peer_server_listen(f->server, &at, NULL)) == 0);
}
static void leave_second(void *ctx)
{
    struct rig *r = ctx;
    r->target[2].client = peer_free(r->target[2].client);
    r->target[2].meta_client = peer_free(r->target[2].meta_client);
}
/* It stands for the second of three members. */
static void open_half(struct rig *r, struct half *half)
{
    open_three(r);
    half->rig = r;
    rig_row(r, 1, "1s 3s 2o");
    RIG_UNTIL(r, rig_settled(r, 1));
    rig_in(r->client.loop, leave_second, r);
    rig_kill(r, 2);
    rig_process(r, &half->process, 2);
    rig_in(half->process.loop, half_pool, half);
    rig_in(half->process.loop, half_inside, half);
    rig_row(r, 1, "1s 2s 3o");
    RIG_UNTIL(r, r->target[1].known[1] == r->row[1].epoch);
}
TEST(chain_names_a_successor_that_takes_no_updates)
{
    struct rig r;
    struct rig_call w;
    struct half half = {.max_connections = 1};
    open_half(&r, &half);
    RIG_UNTIL(&r, half.pings > 3);
    CHECK_EQ(r.target[1].suspect, 0); /* nobody misses it */
    const struct rig_io io = with(2);
    rig_write_begin(&r, &w, &io);
    rig_for_ms(&r, 1500);
    CHECK_EQ(r.target[1].suspect, 0);
    rig_for_ms(&r, 1500);
    CHECK_EQ(r.target[1].suspect, 2);
    rig_row(&r, 1, "1s 3s 2o");
    RIG_UNTIL(&r, w.done);
    CHECK_OK(w.rc);
    rig_for_ms(&r, 1000);
    CHECK_EQ(r.target[1].suspect, 0);
    rig_call_end(&w);
    rig_close(&r);
}

/* R10: an answer of another attempt, or of another epoch, commits nothing. */
TEST(chain_counts_only_answers_of_its_attempt)
{
    struct rig r;
    struct rig_call w;
    struct half half = {.max_connections = 100};
    open_half(&r, &half);
    const struct rig_io io = with(2);
    rig_write_begin(&r, &w, &io);
    half.digest = chunk_digest(io.length, w.crc);
    static const struct proto_route wrong[] = {
        {.attempt = 1}, {.epoch = 1}, {.attempt = UINT32_MAX}, {.epoch = UINT32_MAX}};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        RIG_UNTIL(&r, half.forward != NULL && half.trailers == 1);
        half.said = wrong[i];
        rig_in(half.process.loop, half_answer, &half);
        rig_for_ms(&r, 5);
        CHECK_TRUE(!w.done);
        CHECK_RC(read_at(&r, 1, 2), ERR_pending);
    }
    RIG_UNTIL(&r, half.forward != NULL && half.trailers == 1);
    half.said = (struct proto_route){0};
    rig_in(half.process.loop, half_answer, &half);
    RIG_UNTIL(&r, w.done);
    CHECK_OK(w.rc);
    CHECK_OK(read_at(&r, 1, 2));
    rig_call_end(&w);
    rig_close(&r);
}

/* Of the newest link of a slot from one target to another one; 0: it is not up. */
static uint64_t link_number(struct rig *r, unsigned from, uint32_t to, unsigned slot)
{
    const struct datanode_neighbor *n = datanode_neighbor_get(r->target[from].worker, to);
    const struct peer_link *l = n == NULL || n->peer == NULL ? NULL : peer_link_of(n->peer, slot);
    return l == NULL ? 0 : l->number;
}

/* R10: the answer to a FORWARD does not come in time. The next attempt goes out on a new link: what
 * is left of the old one is not heard any more. */
TEST(chain_sends_again_on_a_new_link_when_an_answer_is_late)
{
    struct rig r;
    struct rig_call w;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    CHECK_OK(rig_write(&r, &first));
    unsigned slot = datanode_slot_of((struct chunk_key){.data_id = first.data_id});
    uint64_t number = link_number(&r, 1, 2, slot);
    CHECK_TRUE(number > 0);
    disk_sim_slow(r.disk[2], 25 * RIG_SECOND);
    const struct rig_io io = with(2);
    rig_write_begin(&r, &w, &io);
    rig_for_ms(&r, DATANODE_CALL_MS - 1000);
    CHECK_EQ(link_number(&r, 1, 2, slot), number);
    rig_for_ms(&r, 2000);
    CHECK_TRUE(link_number(&r, 1, 2, slot) > number);
    CHECK_TRUE(!w.done);
    disk_sim_slow(r.disk[2], 0);
    RIG_UNTIL(&r, w.done);
    CHECK_OK(w.rc);
    CHECK_OK(read_at(&r, 2, 2));
    CHECK_OK(read_at(&r, 1, 2));
    rig_call_end(&w);
    rig_close(&r);
}

/* The same for questions: SYNC and its like. */
TEST(chain_asks_again_on_a_new_link_when_an_answer_is_late)
{
    struct rig r;
    struct rig_call s;
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    CHECK_OK(rig_write(&r, &first));
    disk_sim_slow(r.disk[2], 25 * RIG_SECOND);
    rig_sync_begin(&r, &s, &first);
    rig_for_ms(&r, DATANODE_CALL_MS - 1000);
    uint64_t number = link_number(&r, 1, 2, DATANODE_SLOT_ASK);
    CHECK_TRUE(number > 0);
    rig_for_ms(&r, 2000);
    CHECK_TRUE(link_number(&r, 1, 2, DATANODE_SLOT_ASK) > number);
    CHECK_TRUE(!s.done);
    disk_sim_slow(r.disk[2], 0);
    RIG_UNTIL(&r, s.done);
    CHECK_OK(s.rc);
    rig_close(&r);
}

/*
 * Case 7: messages of older attempts arrive late (rows come all the time, and the network holds
 * some of their bytes back), after the update was refused and its number was passed over.
 */
static void keep_asking(struct rig *r, struct rig_io io, int expected)
{
    int rc = -EAGAIN;
    io.seq = ++r->seq;
    for (unsigned i = 0; i < 1000 && rc != 0 && rc != -ERR_no_space; i++) {
        struct rig_call w;
        io.epoch = 0;
        rig_write_begin(r, &w, &io);
        if (expected != 0 && i < 3) {
            rig_for_ms(r, 2 + (i * 7 + io.fill) % 30);
            rig_row(r, 1, "1s 2s 3s");
        }
        RIG_UNTIL(r, w.done);
        rc = w.rc;
        io.retry = true;
        rig_call_end(&w);
    }
    CHECK_EQ(rc, expected);
}
TEST(chain_older_attempts_of_a_refused_update_have_no_effect)
{
    struct rig r;
    const struct rig_options opt = {.seed = testing_seed(),
                                    .targets = 3,
                                    .engine = DATANODE_ENGINE_RAM,
                                    .small = 3,
                                    .small_bytes = 256u << 10};
    rig_chain_with(&r, &opt);
    CHECK_OK(rig_write(&r, &first));
    net_sim_faults(r.net, 0, 50000);
    for (uint8_t i = 0; i < 12; i++) {
        struct rig_io big = with((uint8_t)(100 + i));
        big.length = 300u << 10;
        keep_asking(&r, big, -ERR_no_space);
        const struct rig_io small = with((uint8_t)(10 + i));
        keep_asking(&r, small, 0);
        for (unsigned host = 1; host <= 3; host++) {
            int rc = -EAGAIN;
            while (rc < 0 && rc != -EILSEQ) {
                rc = read_at(&r, host, small.fill);
            }
            CHECK_OK(rc);
            CHECK_EQ(r.target[host].report[1], PROTO_REPORT_OK);
        }
    }
    rig_close(&r);
}

/* Links that break all the time: every write is applied once, in order. */
TEST(chain_survives_resets)
{
    struct rig r;
    open_three(&r);
    net_sim_faults(r.net, 3000, 3000);
    for (unsigned i = 0; i < 40; i++) {
        struct rig_io io = with((uint8_t)i);
        io.seq = 1000 + i;
        int rc;
        do {
            rc = rig_write(&r, &io);
            io.retry = true;
        } while (rc < 0);
    }
    net_sim_faults(r.net, 0, 0);
    for (unsigned host = 1; host <= 3; host++) {
        RIG_UNTIL(&r, rig_settled(&r, 1));
        CHECK_OK(read_at(&r, host, 39));
    }
    rig_close(&r);
}

/* Section 10.5: the head refuses growth while a member is under its low-water mark; what does not
 * grow is taken, and when there is space again, everything. */
TEST(chain_refuses_growth_when_a_member_is_low)
{
    struct rig r;
    const struct rig_options opt = {.seed = testing_seed(),
                                    .targets = 2,
                                    .engine = DATANODE_ENGINE_RAM,
                                    .small = 2,
                                    .small_bytes = 8u << 20,
                                    .low_bytes = 6u << 20};
    rig_chain_with(&r, &opt);
    CHECK_OK(rig_write(&r, &first));
    struct rig_io big = with(2);
    big.length = 3u << 20;
    CHECK_OK(rig_write(&r, &big)); /* its answer says that little is left */
    struct rig_io more = with(3);
    more.index = 1;
    CHECK_RC(rig_write(&r, &more), ERR_no_space);
    const struct rig_io same = with(4);
    CHECK_OK(rig_write(&r, &same));
    const struct rig_io remove = {.host = 1, .chain = 1, .data_id = 100};
    CHECK_OK(rig_remove(&r, &remove)); /* needs no reserve */
    rig_for_ms(&r, 3000);
    more.data_id = 101;
    more.seq = 0;
    CHECK_OK(rig_write(&r, &more));
    rig_close(&r);
}
