/* datanode/worker_test.c -- workers in the simulator: write, read, stat, sync, remove, start, end.
 */
#include "datanode/worker.h"

#include "chunk/store.h"
#include "datanode/rig_world_priv.h"
#include "testing/testing.h"

static bool write_and_read(unsigned targets, enum datanode_engine engine)
{
    struct rig r;
    rig_chain(&r, targets, engine, testing_seed());
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 10000, .fill = 3};
    CHECK_OK(rig_write(&r, &io));
    for (unsigned host = 1; host <= targets; host++) {
        io.host = host;
        CHECK_OK(rig_read(&r, &io));
    }
    io = (struct rig_io){.host = 1, .chain = 1, .data_id = 100, .length = 4u << 20, .fill = 9};
    CHECK_OK(rig_write(&r, &io));
    io.host = targets;
    CHECK_OK(rig_read(&r, &io));
    io.offset = 1000000; /* in the middle of a cell */
    io.length = 100;
    CHECK_OK(rig_read(&r, &io));
    for (unsigned host = 1; host <= targets; host++) {
        rig_stop(&r, host);
    }
    rig_close(&r);
    return true;
}

/*
 * Three targets, each head of a chain of all, and more writes of large chunks than all of their
 * buffers hold: what waits for others leaves room for what they wait for.
 */
static bool full_circle(enum datanode_engine engine)
{
    enum { CALLS = 15 };
    struct rig r;
    const struct rig_options opt = {
        .seed = testing_seed(), .targets = 3, .engine = engine, .buffer_bytes = 32u << 20};
    rig_chain_with(&r, &opt);
    rig_row(&r, 2, "2s 3s 1s");
    rig_row(&r, 3, "3s 1s 2s");
    for (uint32_t chain = 2; chain <= 3; chain++) {
        RIG_UNTIL(&r, rig_settled(&r, chain));
    }
    struct rig_call *call = mem_calloc(CALLS, sizeof *call);
    CHECK_TRUE(call != NULL);
    for (unsigned i = 0; i < CALLS; i++) {
        uint32_t chain = 1 + i % 3;
        const struct rig_io io = {.host = chain,
                                  .chain = chain,
                                  .data_id = 100,
                                  .index = i,
                                  .length = 4u << 20,
                                  .fill = (uint8_t)i};
        rig_write_begin(&r, &call[i], &io);
    }
    for (unsigned i = 0; i < CALLS; i++) {
        RIG_UNTIL(&r, call[i].done);
        CHECK_OK(call[i].rc);
        rig_call_end(&call[i]);
    }
    mem_free(call);
    rig_close(&r);
    return true;
}

TEST(workers_never_wait_for_buffers_in_a_circle)
{
    CHECK_TRUE(full_circle(DATANODE_ENGINE_FILE));
}

TEST(worker_alone_writes_and_reads)
{
    CHECK_TRUE(write_and_read(1, DATANODE_ENGINE_RAM));
    CHECK_TRUE(write_and_read(1, DATANODE_ENGINE_FILE));
}
TEST(worker_chain_of_two_writes_and_reads)
{
    CHECK_TRUE(write_and_read(2, DATANODE_ENGINE_RAM));
    CHECK_TRUE(write_and_read(2, DATANODE_ENGINE_FILE));
}
TEST(worker_chain_of_three_writes_and_reads)
{
    CHECK_TRUE(write_and_read(3, DATANODE_ENGINE_RAM));
    CHECK_TRUE(write_and_read(3, DATANODE_ENGINE_FILE));
}

static void open_two(struct rig *r)
{
    rig_chain(r, 2, DATANODE_ENGINE_FILE, testing_seed());
}

TEST(worker_reads_what_is_not_there)
{
    struct rig r;
    struct rig_call c;
    open_two(&r);
    const struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 4096};
    rig_read_begin(&r, &c, &io);
    RIG_UNTIL(&r, c.done);
    CHECK_OK(c.rc);
    CHECK_EQ(c.length, 0);
    CHECK_EQ(c.data_len, 0);
    rig_call_end(&c);
    rig_close(&r);
}

/* Partly covered cells are merged by every member, with the same digest. */
TEST(worker_merges_partial_cells)
{
    struct rig r;
    struct rig_call c;
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 9000, .fill = 1};
    CHECK_OK(rig_write(&r, &io));
    io = (struct rig_io){.host = 1, .chain = 1, .data_id = 100, .offset = 4000, .length = 200};
    io.fill = 7;
    CHECK_OK(rig_write(&r, &io));
    io = (struct rig_io){.host = 1, .chain = 1, .data_id = 100, .offset = 20000, .length = 10};
    CHECK_OK(rig_write(&r, &io)); /* with a hole in front */
    for (unsigned host = 1; host <= 2; host++) {
        io = (struct rig_io){.host = host, .chain = 1, .data_id = 100, .length = 20010};
        rig_read_begin(&r, &c, &io);
        RIG_UNTIL(&r, c.done);
        CHECK_OK(c.rc);
        CHECK_TRUE(c.data_good);
        CHECK_EQ(c.length, 20010);
        CHECK_EQ(c.data_len, 20010);
        CHECK_EQ(c.data[3999], 1);
        CHECK_EQ(c.data[4000], 7);
        CHECK_EQ(c.data[4199], 8);
        CHECK_EQ(c.data[4200], 2);
        CHECK_EQ(c.data[8999], 3);
        CHECK_EQ(c.data[9000], 0);
        CHECK_EQ(c.data[19999], 0);
        CHECK_EQ(c.data[20000], 4);
        rig_call_end(&c);
    }
    rig_close(&r);
}

TEST(worker_appends_where_the_chunk_ends)
{
    struct rig r;
    struct rig_call c;
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 5000, .fill = 1};
    CHECK_OK(rig_write(&r, &io));
    io.kind = PROTO_WRITE_APPEND; /* its cells are cut for offset 0 */
    io.length = 9000;
    rig_write_begin(&r, &c, &io);
    RIG_UNTIL(&r, c.done);
    CHECK_OK(c.rc);
    CHECK_EQ(c.offset, 5000);
    CHECK_EQ(c.length, 14000);
    rig_call_end(&c);
    io = (struct rig_io){.host = 2, .chain = 1, .data_id = 100, .length = 14000};
    rig_read_begin(&r, &c, &io);
    RIG_UNTIL(&r, c.done);
    CHECK_TRUE(c.data_good);
    CHECK_EQ(c.data[5000], 1);
    CHECK_EQ(c.data[13999], 3);
    rig_call_end(&c);
    rig_close(&r);
}

/* Section 6, step 2: the same request again is answered from `recent`. */
TEST(worker_answers_a_retry_from_recent)
{
    struct rig r;
    struct rig_call a;
    struct rig_call b;
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 100, .fill = 1, .seq = 5};
    io.kind = PROTO_WRITE_APPEND;
    rig_write_begin(&r, &a, &io);
    io.retry = true;
    rig_write_begin(&r, &b, &io); /* waits for the first */
    RIG_UNTIL(&r, a.done && b.done);
    CHECK_OK(a.rc);
    CHECK_OK(b.rc);
    CHECK_EQ(a.identity.ver, b.identity.ver);
    CHECK_EQ(b.length, 100);
    rig_call_end(&a);
    rig_call_end(&b);
    io.sync = true;
    CHECK_OK(rig_write(&r, &io)); /* stable when answered */
    io.seq = 4;
    CHECK_RC(rig_write(&r, &io), ERR_stale_request);
    rig_close(&r);
}

TEST(worker_refuses_what_does_not_fit)
{
    struct rig r;
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 100, .fill = 1};
    io.bad_crc = true;
    CHECK_RC(rig_write(&r, &io), ERR_bad_data);
    io.bad_crc = false;
    io.host = 2;
    CHECK_RC(rig_write(&r, &io), ERR_not_head);
    io.host = 1;
    io.epoch = 9;
    CHECK_RC(rig_write(&r, &io), ERR_ahead_epoch);
    rig_row(&r, 1, "1s 2s");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    io.epoch = 1;
    struct rig_call c;
    rig_write_begin(&r, &c, &io);
    RIG_UNTIL(&r, c.done);
    CHECK_RC(c.rc, ERR_stale_epoch);
    CHECK_EQ(c.row_epoch, 2); /* the row comes with it */
    rig_call_end(&c);
    io.epoch = 0;
    io.chain = 3;
    io.epoch = 1;
    CHECK_RC(rig_write(&r, &io), ERR_not_serving);
    io = (struct rig_io){.host = 1, .chain = 1, .data_id = 100, .offset = 4194304, .length = 100};
    CHECK_RC(rig_write(&r, &io), ERR_bad_value);
    rig_close(&r);
}

/* I6, section 8.6: synced, then power fails everywhere; whoever comes back first has it. */
static bool synced_survives(bool flag, unsigned survivor)
{
    struct rig r;
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 9000, .fill = 1};
    io.sync = flag;
    CHECK_OK(rig_write(&r, &io));
    CHECK_OK(flag ? 0 : rig_sync(&r, &io));
    for (unsigned host = 1; host <= 2; host++) {
        disk_sim_crash_mode(r.disk[host], DISK_SIM_LOSE_ALL);
        rig_crash(&r, host);
    }
    rig_row(&r, 1, survivor == 1 ? "1l 2l" : "2l 1l");
    rig_start(&r, survivor);
    RIG_UNTIL(&r, rig_info(&r, survivor).target != 0);
    CHECK_TRUE(r.target[survivor].lossy);
    rig_row(&r, 1, survivor == 1 ? "1s 2o" : "2s 1o");
    RIG_UNTIL(&r, rig_settled(&r, 1) && rig_info(&r, survivor).leased);
    io.host = survivor;
    RIG_UNTIL(&r, rig_read(&r, &io) == 0);
    io.fill = 2;
    CHECK_OK(rig_write(&r, &io));
    CHECK_OK(rig_read(&r, &io));
    rig_close(&r);
    return true;
}

/* Who has a capability writes in its own name only; a metadata server in any, and members forward
 * what they were given. */
TEST(worker_takes_no_write_in_the_name_of_another_client)
{
    struct rig r;
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 8192, .fill = 1};
    CHECK_OK(rig_write(&r, &io));
    io.client = 5;
    io.session = RIG_SESSION;
    io.fill = 2;
    CHECK_RC(rig_write(&r, &io), ERR_bad_capability);
    io.kind = PROTO_WRITE_SET_LENGTH;
    io.length = 0;
    CHECK_RC(rig_write(&r, &io), ERR_bad_capability);
    io = (struct rig_io){.host = 2, .chain = 1, .data_id = 100, .length = 8192, .fill = 1};
    CHECK_OK(rig_read(&r, &io)); /* nothing was changed */
    io.host = 1;
    io.fill = 3;
    io.client = 5;
    CHECK_OK(rig_write(&r, &io));
    io.host = 2;
    CHECK_OK(rig_read(&r, &io));
    io.host = 1;
    io.fill = 4;
    io.session = RIG_SESSION;
    io.as_meta = true;
    CHECK_OK(rig_write(&r, &io));
    io.host = 2;
    CHECK_OK(rig_read(&r, &io));
    rig_close(&r);
}

/* The same chunk may be named more than once: those behind it are synced all the same. */
TEST(worker_syncs_chunks_behind_one_that_is_named_twice)
{
    struct rig r;
    struct rig_call sync = {.host = 1};
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 9000, .fill = 1};
    CHECK_OK(rig_write(&r, &io));
    io.index = 1;
    CHECK_OK(rig_write(&r, &io));
    struct proto_chunk key[] = {{100, 0}, {100, 0}, {100, 0}, {100, 1}, {100, 1}};
    sync.rig = &r;
    sync.m.sync = (struct proto_sync_request){.route = rig_route(&r, &io),
                                              .capability = rig_capability(&r, 100),
                                              .data_id = 100,
                                              .chunks = {.at = key, .count = ARRAY_COUNT(key)}};
    sync.call.opcode = PROTO_OP_sync;
    rig_in(r.client.loop, rig_call_inside, &sync);
    RIG_UNTIL(&r, sync.done);
    CHECK_OK(sync.rc);
    for (unsigned host = 1; host <= 2; host++) {
        disk_sim_crash_mode(r.disk[host], DISK_SIM_LOSE_ALL);
        rig_crash(&r, host);
    }
    rig_row(&r, 1, "1l 2l");
    rig_start(&r, 2);
    RIG_UNTIL(&r, rig_info(&r, 2).target != 0);
    rig_row(&r, 1, "2s 1o");
    RIG_UNTIL(&r, rig_settled(&r, 1) && rig_info(&r, 2).leased);
    io.host = 2;
    for (io.index = 0; io.index < 2; io.index++) {
        RIG_UNTIL(&r, rig_read(&r, &io) == 0);
    }
    rig_close(&r);
}

TEST(worker_syncs_the_chain)
{
    CHECK_TRUE(synced_survives(false, 1));
    CHECK_TRUE(synced_survives(false, 2));
    CHECK_TRUE(synced_survives(true, 1));
    CHECK_TRUE(synced_survives(true, 2));
}

/* Section 8.1: what was written before a loss cannot be synced any more. */
TEST(worker_says_lost_once_loss_gen_rose)
{
    struct rig r;
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 100, .fill = 1};
    CHECK_OK(rig_write(&r, &io));
    r.row[1].loss_gen = 1;
    rig_row(&r, 1, "1s 2s");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    CHECK_RC(rig_sync(&r, &io), ERR_lost);
    io.loss_gen = 1;
    CHECK_OK(rig_sync(&r, &io));
    rig_close(&r);
}

TEST(worker_stat_lists_chunks)
{
    struct rig r;
    struct rig_call c;
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 123, .fill = 1};
    CHECK_OK(rig_write(&r, &io));
    io.index = 7;
    CHECK_OK(rig_write(&r, &io));
    io.data_id = 101;
    CHECK_OK(rig_write(&r, &io));
    io = (struct rig_io){.host = 2, .chain = 1, .data_id = 100};
    rig_stat_begin(&r, &c, &io);
    RIG_UNTIL(&r, c.done);
    CHECK_OK(c.rc);
    CHECK_EQ(c.stat_count, 2);
    CHECK_EQ(c.length, 123);
    rig_close(&r);
}

/* Section 9, I10: removed on all members, also while a write is on its way. */
TEST(worker_removes_a_data_id)
{
    struct rig r;
    struct rig_call w;
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 100, .fill = 1};
    CHECK_OK(rig_write(&r, &io));
    rig_write_begin(&r, &w, &io);
    CHECK_OK(rig_remove(&r, &io));
    RIG_UNTIL(&r, w.done);
    CHECK_TRUE(w.rc == 0 || w.rc == -ERR_gone);
    rig_call_end(&w);
    CHECK_RC(rig_write(&r, &io), ERR_gone);
    CHECK_RC(rig_read(&r, &io), ERR_gone);
    io.host = 2;
    CHECK_RC(rig_read(&r, &io), ERR_gone);
    CHECK_EQ(rig_info(&r, 1).chunk_count, 0);
    CHECK_EQ(rig_info(&r, 2).chunk_count, 0);
    io.host = 1;
    CHECK_OK(rig_remove(&r, &io)); /* again: done already */
    rig_close(&r);
}

/* Section 9, many at once: all members, stable when it is answered, nothing new of them. */
TEST(worker_removes_many_data_ids_at_once)
{
    struct rig r;
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .length = 5000, .fill = 3};
    for (io.data_id = 100; io.data_id < 200; io.data_id += 7) {
        CHECK_OK(rig_write(&r, &io));
    }
    uint64_t before = rig_info(&r, 1).chunk_count;
    CHECK_EQ(before, 15);
    io.data_id = 100;
    CHECK_RC(rig_remove_many(&r, &io, 3, 0), ERR_bad_value); /* not rising */
    CHECK_RC(rig_remove_many(&r, &io, 3, -1), ERR_bad_value);
    CHECK_EQ(rig_info(&r, 1).chunk_count, before);
    CHECK_OK(rig_remove_many(&r, &io, 60, 1)); /* 100 to 159 */
    CHECK_EQ(rig_info(&r, 1).chunk_count, before - 9);
    CHECK_EQ(rig_info(&r, 2).chunk_count, before - 9);
    for (unsigned host = 1; host <= 2; host++) {
        rig_crash(&r, host);
        rig_start(&r, host);
        RIG_UNTIL(&r, rig_info(&r, host).target != 0);
        CHECK_TRUE(chunk_store_dead(datanode_worker_store(r.target[host].worker), 100));
        CHECK_TRUE(chunk_store_dead(datanode_worker_store(r.target[host].worker), 159));
        CHECK_TRUE(!chunk_store_dead(datanode_worker_store(r.target[host].worker), 160));
    }
    rig_close(&r);
}

/* Section 9: what was removed long ago leaves the dead list when the leader says so. */
TEST(worker_forgets_what_was_removed)
{
    struct rig r;
    const struct rig_options opt = {.seed = testing_seed(),
                                    .targets = 2,
                                    .engine = DATANODE_ENGINE_FILE,
                                    .dead_keep_ms = 60000};
    rig_chain_with(&r, &opt);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 100, .fill = 1};
    for (io.data_id = 100; io.data_id < 300; io.data_id++) { /* more than a heartbeat names */
        CHECK_OK(rig_remove(&r, &io));
    }
    io.data_id = 150;
    uint64_t until = loop_sim_now_ns(r.world) + 30 * RIG_SECOND;
    RIG_UNTIL(&r, loop_sim_now_ns(r.world) > until);
    CHECK_EQ(r.target[1].dead, 0);
    CHECK_RC(rig_write(&r, &io), ERR_gone);
    RIG_UNTIL(&r, r.target[1].dead > 0 && r.target[2].dead > 0);
    until = loop_sim_now_ns(r.world) + 50 * RIG_SECOND;
    RIG_UNTIL(&r, loop_sim_now_ns(r.world) > until);
    CHECK_EQ(r.target[1].dead, 0); /* all are through */
    CHECK_EQ(r.target[2].dead, 0);
    for (io.data_id = 100; io.data_id < 300; io.data_id++) {
        CHECK_OK(rig_write(&r, &io));
    }
    rig_close(&r);
}

/* Section 8.5: what was acknowledged survives the process. */
TEST(worker_finds_its_chunks_after_a_kill)
{
    struct rig r;
    rig_chain(&r, 1, DATANODE_ENGINE_FILE, testing_seed());
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 10000, .fill = 3};
    CHECK_OK(rig_write(&r, &io));
    struct uuid uuid = rig_info(&r, 1).uuid;
    uint64_t incarnation = rig_info(&r, 1).incarnation;
    rig_kill(&r, 1);
    rig_start(&r, 1);
    RIG_UNTIL(&r, rig_info(&r, 1).target != 0);
    CHECK_TRUE(rig_info(&r, 1).incarnation > incarnation);
    struct uuid now = rig_info(&r, 1).uuid;
    CHECK_TRUE(uuid_equal(&uuid, &now));
    CHECK_TRUE(!r.target[1].lossy);
    CHECK_RC(rig_read(&r, &io), ERR_not_serving); /* R4 */
    rig_row(&r, 1, "1l");
    rig_row(&r, 1, "1s"); /* R2 */
    RIG_UNTIL(&r, rig_settled(&r, 1) && rig_info(&r, 1).leased);
    CHECK_OK(rig_read(&r, &io));
    rig_close(&r);
}

TEST(worker_that_lost_power_says_that_it_is_lossy)
{
    struct rig r;
    rig_chain(&r, 1, DATANODE_ENGINE_FILE, testing_seed());
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 10000, .fill = 3};
    CHECK_OK(rig_write(&r, &io));
    CHECK_OK(rig_sync(&r, &io));
    rig_crash(&r, 1);
    rig_start(&r, 1);
    RIG_UNTIL(&r, rig_info(&r, 1).target != 0);
    CHECK_TRUE(r.target[1].lossy);
    rig_row(&r, 1, "1l");
    rig_row(&r, 1, "1s");
    RIG_UNTIL(&r, rig_settled(&r, 1) && rig_info(&r, 1).leased);
    CHECK_OK(rig_read(&r, &io)); /* it was synced */
    rig_close(&r);
}

/*
 * It stays so until its chain has gone through the rows of its return, which raise loss_gen: a row
 * from before the start that names it as the only one is no promotion.
 */
TEST(worker_stays_lossy_until_it_is_promoted)
{
    struct rig r;
    rig_chain(&r, 1, DATANODE_ENGINE_FILE, testing_seed());
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 10000, .fill = 3};
    CHECK_OK(rig_write(&r, &io));
    CHECK_OK(rig_sync(&r, &io));
    rig_row(&r, 1, "1s");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    rig_crash(&r, 1);
    for (unsigned i = 0; i < 2; i++) { /* the second start is that of a process only */
        rig_start(&r, 1);
        r.target[1].leased = false; /* not before the row without it */
        RIG_UNTIL(&r, rig_info(&r, 1).target != 0);
        CHECK_TRUE(r.target[1].lossy);
        rig_for_ms(&r, 3000);
        rig_kill(&r, 1);
    }
    rig_start(&r, 1);
    rig_row(&r, 1, "1l");
    rig_row(&r, 1, "1s");
    RIG_UNTIL(&r, rig_settled(&r, 1) && rig_info(&r, 1).leased);
    rig_for_ms(&r, 3000);
    rig_kill(&r, 1);
    rig_start(&r, 1);
    RIG_UNTIL(&r, rig_info(&r, 1).target != 0);
    CHECK_TRUE(!r.target[1].lossy);
    rig_close(&r);
}

/* Section 8.3: a failed sync makes the target leave. */
TEST(worker_reports_a_failed_disk)
{
    struct rig r;
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 10000, .fill = 3};
    CHECK_OK(rig_write(&r, &io));
    disk_sim_fail(r.disk[2], DISK_SYNC, NULL, 1, 0, -EIO);
    disk_sim_fail(r.disk[2], DISK_SYNC_ALL, NULL, 1, 0, -EIO);
    struct rig_call c;
    rig_sync_begin(&r, &c, &io);
    RIG_UNTIL(&r, r.target[2].fails == 1 && r.target[2].report[1] == PROTO_REPORT_GONE);
    CHECK_TRUE(!rig_info(&r, 2).leased);
    rig_row(&r, 1, "1s 2o");
    RIG_UNTIL(&r, c.done);
    CHECK_RC(c.rc, ERR_stale_epoch); /* the client repeats all of it */
    CHECK_OK(rig_sync(&r, &io));
    rig_close(&r);
}

/* Of a failed disk at the head the client sees nothing but time: another member has it all. */
TEST(worker_head_with_a_failed_disk_is_no_error)
{
    struct rig r;
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 10000, .fill = 3};
    CHECK_OK(rig_write(&r, &io));
    disk_sim_fail(r.disk[1], DISK_SYNC, NULL, 1, 0, -EIO);
    disk_sim_fail(r.disk[1], DISK_SYNC_ALL, NULL, 1, 0, -EIO);
    CHECK_RC(rig_sync(&r, &io), ERR_not_serving);
    CHECK_RC(rig_write(&r, &io), ERR_not_serving);
    rig_row(&r, 1, "2s 1o");
    RIG_UNTIL(&r, r.target[2].known[1] == r.row[1].epoch);
    io.host = 2;
    CHECK_OK(rig_sync(&r, &io));
    CHECK_OK(rig_read(&r, &io));
    rig_close(&r);
}

static void answered(struct rig *r, struct rig_call *c)
{
    RIG_UNTIL(r, c->done);
    rig_call_end(c);
}
static void stop_when_idle(struct rig *r, unsigned host)
{
    RIG_UNTIL(r, rig_info(r, host).update_count == 0);
    rig_stop(r, host);
}
struct link_call {
    struct peer_link *link;
    struct peer_call *call;
};
static void link_call_inside(void *ctx)
{
    const struct link_call *c = ctx;
    peer_link_call(c->link, c->call);
}
/* The end in the middle of everything: requests are answered, nothing is left behind. */
static bool stops_under_load(unsigned host)
{
    struct rig r;
    struct rig_call w[20];
    struct rig_call reads[20];
    rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
    for (unsigned i = 0; i < ARRAY_COUNT(w); i++) {
        struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .index = i / 2, .length = 9000};
        rig_write_begin(&r, &w[i], &io);
        io.host = 1 + i % 3;
        rig_read_begin(&r, &reads[i], &io);
    }
    rig_for_ms(&r, 2);
    rig_stop(&r, host);
    rig_row(&r, 1, host == 1 ? "2s 3s 1o" : host == 2 ? "1s 3s 2o" : "1s 2s 3o");
    for (unsigned i = 0; i < ARRAY_COUNT(w); i++) {
        answered(&r, &w[i]);
        answered(&r, &reads[i]);
    }
    for (unsigned other = 1; other <= 3; other++) {
        if (other != host) {
            stop_when_idle(&r, other);
        }
    }
    rig_close(&r);
    return true;
}
TEST(worker_stops_under_load)
{
    for (unsigned host = 1; host <= 3; host++) {
        CHECK_TRUE(stops_under_load(host));
    }
}

/* The leader hears of it, and need not wait for the lease to run out. */
TEST(worker_that_stops_says_so)
{
    struct rig r;
    open_two(&r);
    CHECK_EQ(r.target[1].registers, 1);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 100, .fill = 1};
    CHECK_OK(rig_write(&r, &io));
    uint64_t began_ns = loop_sim_now_ns(r.world);
    rig_stop(&r, 1);
    CHECK_EQ(r.target[1].report[1], PROTO_REPORT_GONE);
    CHECK_TRUE(loop_sim_now_ns(r.world) < began_ns + RIG_SECOND / 5);
    CHECK_EQ(r.target[1].registers, 1);
    rig_row(&r, 1, "2s 1o");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    io.host = 2;
    CHECK_OK(rig_read(&r, &io));
    net_sim_cut(r.net, 0, 2, true); /* a leader that does not answer is not waited for */
    net_sim_cut(r.net, 2, 0, true);
    began_ns = loop_sim_now_ns(r.world);
    rig_stop(&r, 2);
    CHECK_TRUE(loop_sim_now_ns(r.world) < began_ns + 3 * RIG_SECOND / 2);
    rig_close(&r);
}

static void remove_begin(struct rig *r, struct rig_call *c, const struct rig_io *io)
{
    *c = (struct rig_call){.rig = r, .host = io->host, .as_meta = true};
    c->m.remove = (struct proto_remove_request){.route = rig_route(r, io), .data_id = io->data_id};
    c->call.opcode = PROTO_OP_remove;
    rig_in(r->client.loop, rig_call_inside, c);
}
static void stop_begin(struct rig *r, unsigned host)
{
    rig_in(r->target[host].process.loop, rig_stop_inside, &r->target[host]);
}
/* What waits for a successor that stands still ends with the limit, and nobody is told that it was
 * done. */
TEST(worker_stops_although_its_successor_stands_still)
{
    struct rig r;
    struct rig_call write;
    struct rig_call sync;
    struct rig_call remove;
    struct rig_call busy; /* a removal that waits for the write */
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 100, .fill = 1};
    CHECK_OK(rig_write(&r, &io));
    CHECK_OK(rig_sync(&r, &io));
    loop_sim_pause(r.target[2].process.loop, true);
    rig_sync_begin(&r, &sync, &io);
    rig_write_begin(&r, &write, &io);
    RIG_UNTIL(&r, rig_info(&r, 1).update_count == 1); /* else it finds the data removed */
    remove_begin(&r, &busy, &io);
    struct rig_io other = {.host = 1, .chain = 1, .data_id = 101};
    remove_begin(&r, &remove, &other);
    rig_for_ms(&r, 50);
    CHECK_TRUE(!sync.done && !write.done && !remove.done && !busy.done);
    uint64_t began_ns = loop_sim_now_ns(r.world);
    stop_begin(&r, 1);
    RIG_UNTIL(&r, r.target[1].stops == 1);
    CHECK_TRUE(loop_sim_now_ns(r.world) < began_ns + 5 * RIG_SECOND / 2);
    RIG_UNTIL(&r, sync.done && write.done && remove.done && busy.done);
    CHECK_TRUE(sync.rc < 0 && write.rc < 0 && remove.rc < 0 && busy.rc < 0);
    CHECK_TRUE(!sync.answered || err_is(sync.rc, EAGAIN));
    CHECK_TRUE(!remove.answered || err_is(remove.rc, EAGAIN));
    CHECK_TRUE(!busy.answered || err_is(busy.rc, EAGAIN));
    rig_in(r.target[1].process.loop, rig_free_inside, &r.target[1]);
    rig_call_end(&write);
    rig_close(&r);
}

/* The same for a SYNC when there is no link at all, and a repair that nobody answers. */
TEST(worker_stops_although_its_successor_is_not_there)
{
    struct rig r;
    struct rig_call sync;
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 100, .fill = 1};
    CHECK_OK(rig_write(&r, &io));
    rig_kill(&r, 2);
    rig_for_ms(&r, 100);
    rig_sync_begin(&r, &sync, &io);
    rig_for_ms(&r, 50);
    CHECK_TRUE(!sync.done);
    uint64_t began_ns = loop_sim_now_ns(r.world);
    stop_begin(&r, 1);
    RIG_UNTIL(&r, r.target[1].stops == 1);
    CHECK_TRUE(loop_sim_now_ns(r.world) < began_ns + 5 * RIG_SECOND / 2);
    RIG_UNTIL(&r, sync.done);
    CHECK_TRUE(sync.rc < 0);
    rig_in(r.target[1].process.loop, rig_free_inside, &r.target[1]);
    rig_close(&r);
}

/* A new row ends it too, at once: the old successor need not answer (section 8.1). */
TEST(worker_sync_ends_with_a_new_row)
{
    struct rig r;
    struct rig_call sync;
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 100, .fill = 1};
    CHECK_OK(rig_write(&r, &io));
    loop_sim_pause(r.target[2].process.loop, true);
    rig_sync_begin(&r, &sync, &io);
    rig_for_ms(&r, 50);
    rig_row(&r, 1, "1s 2o");
    rig_for_ms(&r, 100);
    CHECK_TRUE(sync.done);
    CHECK_RC(sync.rc, ERR_stale_epoch);
    CHECK_OK(rig_sync(&r, &io));
    rig_close(&r);
}

/* What the leader still asks is refused, and leaves nothing behind. */
TEST(worker_that_stops_takes_no_fence)
{
    struct rig r;
    struct rig_call write;
    struct rig_call fence;
    open_two(&r);
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 100, .fill = 1};
    CHECK_OK(rig_write(&r, &io));
    loop_sim_pause(r.target[2].process.loop, true);
    rig_write_begin(&r, &write, &io);
    rig_for_ms(&r, 50);
    stop_begin(&r, 1);
    struct peer_link *link = r.target[1].link; /* the leader's own, which stays up */
    CHECK_TRUE(link != NULL);
    fence = (struct rig_call){.rig = &r, .host = 1};
    fence.m.fence = (struct proto_fence_request){
        .session = RIG_SESSION, .cap_epoch = 9, .until_wall_ms = UINT64_MAX / 4};
    fence.call = (struct peer_call){
        .done = rig_called, .request = &fence.m, .opcode = PROTO_OP_fence, .timeout_ms = 10000};
    struct link_call c = {.link = link, .call = &fence.call};
    rig_in(r.meta.loop, link_call_inside, &c);
    RIG_UNTIL(&r, r.target[1].stops == 1);
    rig_in(r.target[1].process.loop, rig_free_inside, &r.target[1]);
    RIG_UNTIL(&r, fence.done && write.done);
    CHECK_TRUE(fence.rc < 0);
    rig_call_end(&write);
    rig_close(&r);
}

/* Cases 6, R11: a request that waits on an older link of its client is never applied. */
TEST(worker_drops_what_waits_on_a_dead_link)
{
    struct rig r;
    struct rig_call first;
    struct rig_call older;
    rig_chain(&r, 2, DATANODE_ENGINE_RAM, testing_seed());
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 100, .fill = 1};
    CHECK_OK(rig_write(&r, &io)); /* the links are up */
    net_sim_cut(r.net, 2, 1, true);
    io.fill = 2;
    rig_write_begin(&r, &first, &io); /* holds the chunk's lock until its successor answers */
    rig_for_ms(&r, 50);
    io.fill = 3;
    rig_write_begin(&r, &older, &io); /* waits for it */
    rig_for_ms(&r, 50);
    CHECK_EQ(rig_info(&r, 1).update_count, 2);
    net_sim_reset(r.net, RIG_CLIENT, 1); /* the client goes on with a newer link */
    RIG_UNTIL(&r, first.done && older.done);
    CHECK_TRUE(first.rc < 0 && older.rc < 0);
    net_sim_cut(r.net, 2, 1, false);
    RIG_UNTIL(&r, rig_info(&r, 1).update_count == 0);
    io.fill = 2;
    CHECK_OK(rig_read(&r, &io)); /* what was under way is done, what waited is not */
    rig_call_end(&first);
    rig_call_end(&older);
    rig_close(&r);
}
