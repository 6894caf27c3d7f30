/* datanode/sick_test.c -- workers whose disks fail, become slow or say nothing any more: what they
 * tell, and that they go on serving until they are asked to stop. */
#include "datanode/rig_world_priv.h"
#include "testing/testing.h"

#define HOST 1u
#define LENGTH 8192u

static void sick_chain(struct rig *r, unsigned targets)
{
    const struct rig_options opt = {
        .seed = testing_seed(),
        .targets = targets,
        .engine = DATANODE_ENGINE_FILE,
        .health = {.slow_ms = 200, .slow_for_ms = 2000, .stuck_ms = 3000, .rest_ms = 10000}};
    rig_chain_with(r, &opt);
}

static struct rig_io io_of(uint64_t data_id)
{
    return (struct rig_io){
        .host = HOST, .chain = 1, .data_id = data_id, .length = LENGTH, .fill = (uint8_t)data_id};
}

static void write_all(struct rig *r, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count; i++) {
        struct rig_io io = io_of(i);
        CHECK_OK(rig_write(r, &io));
    }
}

static bool is_sick(const struct rig *r)
{
    return r->target[HOST].sick[0] != 0;
}

TEST(a_disk_that_works_is_not_sick)
{
    struct rig r;
    sick_chain(&r, 2);
    write_all(&r, 100, 200);
    rig_for_ms(&r, 60000);
    CHECK_TRUE(!is_sick(&r));
    CHECK_TRUE(!rig_info(&r, HOST).sick);
    rig_stop(&r, HOST);
    rig_close(&r);
}

TEST(read_errors_make_a_disk_sick_until_it_has_rested)
{
    struct rig r;
    sick_chain(&r, 2);
    write_all(&r, 100, 40);
    disk_sim_fail(r.disk[HOST], DISK_READ, NULL, 1, 0, -EIO);
    disk_sim_fail(r.disk[HOST], DISK_SEND, NULL, 1, 0, -EIO);
    for (uint64_t i = 100; i < 200 && !is_sick(&r); i++) {
        struct rig_io io = io_of(100 + i % 40);
        (void)rig_read(&r, &io);
        rig_for_ms(&r, 50);
    }
    CHECK_TRUE(is_sick(&r));
    CHECK_TRUE(strstr(r.target[HOST].sick, "it has failed") != NULL);
    CHECK_TRUE(rig_info(&r, HOST).sick);
    CHECK_EQ(r.target[HOST].fails, 0);
    disk_sim_heal(r.disk[HOST]);
    /* What becomes of it is the leader's decision: until then it serves. */
    CHECK_EQ(r.target[HOST].report[1], PROTO_REPORT_OK);
    write_all(&r, 300, 1);
    RIG_UNTIL(&r, !is_sick(&r));
    CHECK_TRUE(!rig_info(&r, HOST).sick);
    rig_close(&r);
}

TEST(a_disk_that_becomes_slow_is_sick)
{
    struct rig r;
    sick_chain(&r, 1);
    write_all(&r, 100, 100);
    CHECK_TRUE(!is_sick(&r));
    disk_sim_slow(r.disk[HOST], 500000000);
    for (uint64_t i = 300; i < 400 && !is_sick(&r); i++) {
        write_all(&r, i, 1);
    }
    CHECK_TRUE(is_sick(&r));
    CHECK_TRUE(strstr(r.target[HOST].sick, " take ") != NULL);
    rig_close(&r);
}

TEST(a_disk_that_says_nothing_is_sick_while_heartbeats_go_on)
{
    struct rig r;
    struct rig_call call = {.done = false};
    sick_chain(&r, 1);
    write_all(&r, 100, 10);
    disk_sim_slow(r.disk[HOST], UINT64_C(8) * RIG_SECOND);
    struct rig_io io = io_of(500);
    rig_write_begin(&r, &call, &io);
    RIG_UNTIL(&r, is_sick(&r));
    CHECK_TRUE(strstr(r.target[HOST].sick, "nothing has come back") != NULL);
    CHECK_TRUE(rig_info(&r, HOST).leased);
    disk_sim_slow(r.disk[HOST], 0);
    RIG_UNTIL(&r, call.done);
    CHECK_OK(call.rc);
    rig_call_end(&call);
    RIG_UNTIL(&r, !is_sick(&r));
    rig_close(&r);
}
