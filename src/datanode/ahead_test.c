/* datanode/ahead_test.c -- requests that wait for what the index has on its disk, while whoever has
 * sent them goes away. */
#include "datanode/ahead.h"

#include "base/fault.h"
#include "datanode/rig_world_priv.h"
#include "datanode/worker_priv.h"
#include "testing/testing.h"

#define POINT "chunk.need"
#define TIMES 100u /* long enough to hear that a link has ended */

static const struct rig_io written = {
    .host = 1, .chain = 1, .data_id = 100, .length = 8192, .fill = 1};

/* Two members with a chunk; one of them can be told to forget what it has read at once. */
static void open_forgetful(struct rig *r, unsigned host)
{
    const struct rig_options opt = {.seed = 1,
                                    .targets = 2,
                                    .engine = DATANODE_ENGINE_EXTENT,
                                    .fault = fault_new(),
                                    .faulty = host};
    CHECK_TRUE(opt.fault != NULL);
    rig_chain_with(r, &opt);
    CHECK_OK(rig_write(r, &written));
    rig_for_ms(r, 3000); /* heartbeats come often enough for a pause */
}

/* It finds a request and the end of its link at once: the request ends, too, and the worker lives.
 */
static void close_forgetful(struct rig *r, unsigned host)
{
    fault_arm(r->opt.fault, POINT, 1, TIMES);
    uint64_t before = fault_passed(r->opt.fault, POINT);
    loop_sim_pause(r->target[host].process.loop, false);
    rig_for_ms(r, 100);
    CHECK_TRUE(fault_passed(r->opt.fault, POINT) > before);
    CHECK_EQ(r->target[host].worker->read_count, 0);
    fault_disarm(r->opt.fault, POINT);
    RIG_UNTIL(r, rig_info(r, host).leased);
    rig_close(r);
    fault_free(r->opt.fault);
}

static void leave_first(void *ctx)
{
    struct rig *r = ctx;
    r->target[1].client = peer_free(r->target[1].client);
}

TEST(ahead_stat_ends_with_its_link)
{
    struct rig r;
    struct rig_call c;
    open_forgetful(&r, 1);
    loop_sim_pause(r.target[1].process.loop, true);
    rig_stat_begin(&r, &c, &(struct rig_io){.host = 1, .chain = 1, .data_id = 50});
    rig_for_ms(&r, 5);
    rig_in(r.client.loop, leave_first, &r);
    rig_for_ms(&r, 5);
    CHECK_TRUE(c.done && !c.answered);
    close_forgetful(&r, 1);
}

static bool session_begun(struct rig *r)
{
    return datanode_chain_find(r->target[2].worker, 1)->sink != NULL;
}

TEST(ahead_index_ends_with_its_link)
{
    struct rig r;
    open_forgetful(&r, 2);
    rig_row(&r, 1, "1s 2w");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    struct rig_io more = written;
    more.data_id = 101;
    CHECK_OK(rig_write(&r, &more)); /* else it has all, and is asked for nothing */
    rig_row(&r, 1, "1s 2y");
    RIG_UNTIL(&r, session_begun(&r));
    loop_sim_pause(r.target[2].process.loop, true);
    rig_for_ms(&r, 5); /* until it is asked for its index */
    rig_stop(&r, 1);
    CHECK_EQ(r.target[2].worker->read_count, 0);
    rig_for_ms(&r, 5);
    close_forgetful(&r, 2);
}
