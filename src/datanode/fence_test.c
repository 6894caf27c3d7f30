/* datanode/fence_test.c -- REVOKE (R5), FENCE, capabilities. */
#include "datanode/worker.h"

#include "datanode/rig_world_priv.h"
#include "testing/testing.h"

static const struct rig_io first = {
    .host = 1, .chain = 1, .data_id = 100, .length = 100, .fill = 1};

static void open_two(struct rig *r)
{
    rig_chain(r, 2, DATANODE_ENGINE_RAM, testing_seed());
    CHECK_OK(rig_write(r, &first));
}

/*
 * R5: from the answer on this member neither reads nor takes requests of the chain, in no row that
 * still names it as serving either: one without it may be made by then. It tells so, for a leader
 * that has not heard the answer.
 */
TEST(fence_revoked_member_stops)
{
    struct rig r;
    struct rig_call c;
    struct rig_io io = first;
    open_two(&r);
    rig_revoke_begin(&r, &c, 2);
    RIG_UNTIL(&r, c.done);
    CHECK_OK(c.rc);
    io.host = 2;
    CHECK_RC(rig_read(&r, &io), ERR_not_serving);
    io.host = 1;
    CHECK_OK(rig_read(&r, &io));
    rig_row(&r, 1, "1s 2s");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    io.host = 2;
    CHECK_RC(rig_read(&r, &io), ERR_not_serving);
    CHECK_EQ(r.target[2].report[1], PROTO_REPORT_GONE);
    rig_row(&r, 1, "1s 2o");
    rig_row(&r, 1, "1s 2s");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    CHECK_OK(rig_read(&r, &io));
    r.row[1].epoch++; /* a REVOKE from the future: it has to learn the row first */
    rig_revoke_begin(&r, &c, 2);
    RIG_UNTIL(&r, c.done);
    CHECK_RC(c.rc, ERR_ahead_epoch);
    rig_close(&r);
}

TEST(fence_shuts_out_older_capabilities)
{
    struct rig r;
    struct rig_call c;
    open_two(&r);
    rig_fence_begin(&r, &c, 1, 5); /* the client's is 5: still good */
    RIG_UNTIL(&r, c.done);
    CHECK_OK(c.rc);
    CHECK_OK(rig_write(&r, &first));
    rig_fence_begin(&r, &c, 1, 6);
    RIG_UNTIL(&r, c.done);
    CHECK_OK(c.rc);
    CHECK_RC(rig_write(&r, &first), ERR_bad_capability);
    CHECK_RC(rig_read(&r, &first), ERR_bad_capability);
    rig_fence_begin(&r, &c, 1, 4); /* an older one does not open it again */
    RIG_UNTIL(&r, c.done);
    CHECK_RC(rig_write(&r, &first), ERR_bad_capability);
    rig_close(&r);
}

/* It is answered after the last older write, and what waits behind that one is not executed. */
TEST(fence_waits_for_older_writes)
{
    struct rig r;
    struct rig_call w;
    struct rig_call queued;
    struct rig_call c;
    struct rig_io io = first;
    open_two(&r);
    net_sim_cut(r.net, 2, 1, true);
    io.fill = 2;
    rig_write_begin(&r, &w, &io);
    rig_for_ms(&r, 20);
    io.fill = 3;
    rig_write_begin(&r, &queued, &io);
    rig_for_ms(&r, 20);
    rig_fence_begin(&r, &c, 1, 6);
    rig_for_ms(&r, 200);
    CHECK_TRUE(!c.done && !w.done);
    net_sim_cut(r.net, 2, 1, false);
    RIG_UNTIL(&r, c.done && w.done && queued.done);
    CHECK_OK(c.rc);
    CHECK_OK(w.rc);
    CHECK_RC(queued.rc, ERR_bad_capability);
    io.fill = 2;
    io.host = 2; /* the fence of the other member is its own */
    CHECK_OK(rig_read(&r, &io));
    rig_call_end(&w);
    rig_call_end(&queued);
    rig_close(&r);
}

/* A member further on answers only when what was forwarded to it is committed, too. */
TEST(fence_waits_for_forwarded_writes)
{
    struct rig r;
    struct rig_call w;
    struct rig_call c;
    struct rig_io io = first;
    rig_chain(&r, 3, DATANODE_ENGINE_RAM, testing_seed());
    CHECK_OK(rig_write(&r, &first));
    net_sim_cut(r.net, 3, 2, true);
    io.fill = 2;
    rig_write_begin(&r, &w, &io);
    rig_for_ms(&r, 20);
    rig_kill(&r, 1); /* the head, and the client's request with it */
    rig_row(&r, 1, "2s 3s 1o");
    RIG_UNTIL(&r, r.target[2].known[1] == r.row[1].epoch);
    rig_fence_begin(&r, &c, 2, 6);
    rig_for_ms(&r, 200);
    CHECK_TRUE(!c.done);
    net_sim_cut(r.net, 3, 2, false);
    RIG_UNTIL(&r, c.done && w.done);
    CHECK_OK(c.rc);
    io.host = 3;
    CHECK_OK(rig_read(&r, &io));
    rig_call_end(&w);
    rig_close(&r);
}
