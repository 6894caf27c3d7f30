/* datanode/metrics_test.c -- what a worker says of itself to who collects statistics. */
#include "datanode/worker.h"

#include "datanode/rig_world_priv.h"
#include "testing/testing.h"

#include <stdio.h>
#include <stdlib.h>

struct asked {
    struct rig *rig;
    unsigned host;
    struct peer_call call;
    struct proto_stats_request request;
    bool done;
    char *text; /* owned */
};

static void answered(struct peer_call *call, const struct peer_reply *r)
{
    struct asked *x = container_of(call, struct asked, call);
    CHECK_OK(r->rc);
    const struct proto_stats_reply *m = r->body;
    x->text = mem_zalloc(m->body.len + 1);
    CHECK_TRUE(x->text != NULL);
    memcpy(x->text, m->body.at, m->body.len);
    x->done = true;
}

static void ask_inside(void *ctx)
{
    struct asked *x = ctx;
    x->call = (struct peer_call){
        .done = answered, .request = &x->request, .opcode = PROTO_OP_stats, .timeout_ms = 10000};
    peer_call(x->rig->target[x->host].client, &x->call);
}

static long long value(struct rig *r, unsigned host, const char *name)
{
    struct asked x = {.rig = r, .host = host, .request.format = PROTO_FORMAT_PROMETHEUS};
    char line[80];
    rig_in(r->client.loop, ask_inside, &x);
    RIG_UNTIL(r, x.done);
    (void)snprintf(line, sizeof line, "\nopendfs_target_%s{", name);
    const char *at = strstr(x.text, line);
    CHECK_TEXT(at == NULL ? name : "", "");
    long long v = strtoll(strchr(at, '}') + 1, NULL, 10);
    mem_free(x.text);
    return v;
}

TEST(a_worker_tells_its_store_and_chains)
{
    struct rig r;
    const struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 8192, .fill = 1};
    rig_chain(&r, 2, DATANODE_ENGINE_FILE, testing_seed());
    CHECK_EQ(value(&r, 1, "chunks"), 0);
    CHECK_OK(rig_write(&r, &io));
    CHECK_EQ(value(&r, 1, "chunks"), 1);
    CHECK_OK(rig_sync(&r, &io));
    CHECK_EQ(value(&r, 1, "chunks_dirty"), 0);
    CHECK_EQ(value(&r, 2, "chunks_pending"), 0);
    CHECK_TRUE(value(&r, 1, "space_used_bytes") >= 8192);
    rig_for_ms(&r, 2000);
    CHECK_TRUE(value(&r, 1, "space_total_bytes") >= value(&r, 1, "space_free_bytes"));
    CHECK_TRUE(value(&r, 1, "space_free_bytes") > 0);
    CHECK_EQ(value(&r, 1, "space_low"), 0);
    CHECK_EQ(value(&r, 1, "failed"), 0);
    CHECK_EQ(value(&r, 1, "corrupt_total"), 0);
    for (unsigned host = 1; host <= 2; host++) {
        CHECK_EQ(value(&r, host, "lease"), 1);
        CHECK_EQ(value(&r, host, "chains"), 1);
        CHECK_EQ(value(&r, host, "chains_serving"), 1);
    }
    rig_row(&r, 1, "1s 2o");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    CHECK_EQ(value(&r, 1, "chains_serving"), 1);
    CHECK_EQ(value(&r, 2, "chains_serving"), 0);
    rig_close(&r);
}
