/* datanode/batch_test.c -- several small reads in one request: each with its own outcome. */
#include "datanode/worker.h"

#include "base/fault.h"
#include "datanode/rig_world_priv.h"
#include "datanode/worker_priv.h"
#include "testing/testing.h"

#define ITEMS 5u

struct asked {
    struct rig *rig;
    struct peer_call call;
    struct proto_read_batch_request m;
    struct proto_read_item item[PROTO_BATCH_MAX];
    struct proto_capability cap[2];
    bool done;
    int rc;
    struct proto_read_result result[PROTO_BATCH_MAX]; /* `crcs` is gone */
    bool good[PROTO_BATCH_MAX];                       /* its bytes fit its checksums */
    uint8_t first[PROTO_BATCH_MAX];                   /* byte of its data */
    size_t data_len;
};

static void take(struct asked *x, size_t i, const struct proto_read_result *p, const uint8_t *at)
{
    x->result[i] = *p;
    x->first[i] = p->bytes > 0 ? at[0] : 0;
    x->good[i] = p->crcs.count == (p->bytes + 4095) / 4096;
    for (size_t k = 0; k < p->crcs.count && x->good[i]; k++) {
        size_t len = base_min(4096, p->bytes - k * 4096);
        x->good[i] = crc32c(0, at + k * 4096, len) == p->crcs.at[k];
    }
}

static void answered(struct peer_call *call, const struct peer_reply *r)
{
    struct asked *x = container_of(call, struct asked, call);
    const struct proto_read_batch_reply *m = r->body;
    size_t at = 0;
    x->done = true;
    x->rc = r->rc;
    x->data_len = r->data.len;
    if (r->rc < 0) {
        return;
    }
    CHECK_EQ(m->results.count, x->m.items.count);
    for (size_t i = 0; i < m->results.count; i++) {
        CHECK_TRUE(at + m->results.at[i].bytes <= r->data.len);
        take(x, i, &m->results.at[i], r->data.at + at);
        at += m->results.at[i].bytes;
    }
    CHECK_EQ(at, r->data.len); /* nothing of those that failed */
}

static void ask_inside(void *ctx)
{
    struct asked *x = ctx;
    x->call = (struct peer_call){
        .done = answered, .request = &x->m, .opcode = PROTO_OP_read_batch, .flags = PEER_CALL_RAW};
    peer_call(x->rig->target[1].client, &x->call);
}

/* `count` items, item i of chunk i of its chain: odd ones of chain 2. */
static struct asked *prepare(struct rig *r, size_t count, uint32_t offset, uint32_t length)
{
    struct asked *x = mem_zalloc(sizeof *x);
    CHECK(x != NULL);
    x->rig = r;
    x->cap[0] = rig_capability(r, 100);
    x->cap[1] = x->cap[0];
    x->cap[1].cap_epoch++; /* not what was signed */
    x->m = (struct proto_read_batch_request){.capabilities = {.at = x->cap, .count = 2},
                                             .items = {.at = x->item, .count = count}};
    for (uint32_t i = 0; i < count; i++) {
        const struct rig_io io = {.chain = 1 + i % 2};
        x->item[i] = (struct proto_read_item){.route = rig_route(r, &io),
                                              .chunk = {.data_id = 100, .index = i},
                                              .offset = offset,
                                              .length = length};
    }
    return x;
}
static void ask(struct asked *x)
{
    rig_in(x->rig->client.loop, ask_inside, x);
    RIG_UNTIL(x->rig, x->done);
}
static int ask_once(struct asked *x)
{
    ask(x);
    int rc = x->rc;
    mem_free(x);
    return rc;
}
static void check_item(const struct asked *x, size_t i, uint32_t bytes)
{
    const struct proto_read_result *p = &x->result[i];
    CHECK_OK(p->rc);
    CHECK_TRUE(x->good[i]);
    CHECK_EQ(p->bytes, bytes);
    CHECK_EQ(x->first[i], (uint8_t)(10 + i + p->offset / 4096));
}

static uint64_t served(struct rig *r, enum datanode_way way)
{
    return stats_counter_value(&r->target[1].worker->counters.way[way].requests);
}
static void check_quiet(struct rig *r)
{
    rig_for_ms(r, 100);
    CHECK_EQ(r->target[1].worker->read_count, 0);
    CHECK_EQ(r->target[1].worker->read_bytes, 0);
    CHECK_EQ(buf_pool_used_bytes(r->target[1].worker->pool), 0);
}

/* Chunk i is 30000 + i bytes of fill 10 + i; two chains. */
static void open_chunks(struct rig *r, unsigned targets, enum datanode_engine engine)
{
    const struct rig_options opt = {.seed = testing_seed(),
                                    .targets = targets,
                                    .engine = engine,
                                    .scrub_ms = DATANODE_SCRUB_NEVER};
    rig_chain_with(r, &opt);
    rig_row(r, 2, targets == 1 ? "1s" : "1s 2s");
    RIG_UNTIL(r, rig_settled(r, 2));
    for (uint32_t i = 0; i < ITEMS; i++) {
        const struct rig_io io = {.host = 1,
                                  .chain = 1 + i % 2,
                                  .data_id = 100,
                                  .index = i,
                                  .length = 30000 + i,
                                  .fill = (uint8_t)(10 + i)};
        CHECK_OK(rig_write(r, &io));
    }
}

TEST(batch_reads_chunks_of_several_chains)
{
    for (unsigned e = 0; e < 2; e++) {
        struct rig r;
        open_chunks(&r, 1, e == 0 ? DATANODE_ENGINE_RAM : DATANODE_ENGINE_FILE);
        struct asked *x = prepare(&r, ITEMS + 1, 5000, 4000); /* the last one is not there */
        ask(x);
        CHECK_OK(x->rc);
        for (uint32_t i = 0; i < ITEMS; i++) {
            check_item(x, i, 8192); /* whole cells */
            CHECK_EQ(x->result[i].offset, 4096);
            CHECK_EQ(x->result[i].length, 30000 + i);
        }
        CHECK_OK(x->result[ITEMS].rc);
        CHECK_EQ(x->result[ITEMS].length, 0);
        CHECK_EQ(x->result[ITEMS].bytes, 0);
        mem_free(x);
        x = prepare(&r, ITEMS, 28672, 32768); /* to the end, and behind it */
        ask(x);
        for (uint32_t i = 0; i < ITEMS; i++) {
            check_item(x, i, 30000 + i - 28672);
        }
        mem_free(x);
        check_quiet(&r);
        rig_close(&r);
    }
}

/* The disk is asked for all that are not there, and the loop for none of it. */
TEST(batch_brings_in_what_is_cold)
{
    struct rig r;
    open_chunks(&r, 1, DATANODE_ENGINE_FILE);
    disk_sim_cache_mode(r.disk[1], DISK_SIM_CACHE_EXACT);
    for (unsigned round = 0; round < 2; round++) {
        struct asked *x = prepare(&r, ITEMS, 0, 30000);
        ask(x);
        CHECK_OK(x->rc);
        for (uint32_t i = 0; i < ITEMS; i++) {
            check_item(x, i, 30000 + i);
        }
        mem_free(x);
        CHECK_EQ(served(&r, DATANODE_WAY_FETCHED), ITEMS);
        CHECK_EQ(served(&r, DATANODE_WAY_CACHED), round * ITEMS);
    }
    CHECK_EQ(stats_counter_value(&r.target[1].worker->counters.batches), 2);
    CHECK_EQ(stats_counter_value(&r.target[1].worker->counters.batch_items), 2 * ITEMS);
    check_quiet(&r);
    rig_close(&r);
}

TEST(batch_items_fail_alone)
{
    struct rig r;
    open_chunks(&r, 1, DATANODE_ENGINE_FILE);
    struct asked *x = prepare(&r, ITEMS, 0, 4096);
    x->item[0].route.epoch--;
    x->item[2].capability = 1;
    x->item[4].route.chain = 1 + (x->item[4].route.chain & 1); /* of the other one */
    x->item[4].route.epoch = r.row[x->item[4].route.chain].epoch;
    ask(x);
    CHECK_OK(x->rc);
    CHECK_RC(x->result[0].rc, ERR_stale_epoch);
    check_item(x, 1, 4096);
    CHECK_TRUE(x->result[2].rc < 0);
    check_item(x, 3, 4096);
    CHECK_RC(x->result[4].rc, ERR_bad_value);
    CHECK_EQ(x->data_len, 2 * 4096);
    mem_free(x);
    check_quiet(&r);
    rig_close(&r);
}

/* What the disk does not give is asked for again by a read of its own. */
TEST(batch_passes_over_what_the_disk_does_not_give)
{
    struct rig r;
    open_chunks(&r, 1, DATANODE_ENGINE_FILE);
    disk_sim_cache_mode(r.disk[1], DISK_SIM_CACHE_EXACT);
    disk_sim_fail(r.disk[1], DISK_READ, NULL, 2, 1, -EIO);
    struct asked *x = prepare(&r, ITEMS, 0, 8192);
    unsigned failed = 0;
    ask(x);
    CHECK_OK(x->rc);
    for (uint32_t i = 0; i < ITEMS; i++) {
        failed += x->result[i].rc == -ERR_busy ? 1 : 0;
        if (x->result[i].rc == 0) {
            check_item(x, i, 8192);
        }
    }
    CHECK_EQ(failed, 1);
    CHECK_EQ(x->data_len, (ITEMS - 1) * 8192);
    mem_free(x);
    CHECK_EQ(rig_info(&r, 1).damaged_count, 0);
    check_quiet(&r);
    rig_close(&r);
}

/* I5: neither the old content nor the pending one, and the others do not wait. */
TEST(batch_does_not_wait_for_a_commit)
{
    struct rig r;
    struct rig_call write;
    open_chunks(&r, 2, DATANODE_ENGINE_FILE);
    const struct rig_io io = {
        .host = 1, .chain = 1, .data_id = 100, .index = 2, .length = 4096, .fill = 12};
    net_sim_cut(r.net, 2, 1, true);
    rig_write_begin(&r, &write, &io);
    rig_for_ms(&r, 100);
    struct asked *x = prepare(&r, ITEMS, 0, 4096);
    ask(x);
    CHECK_RC(x->result[2].rc, ERR_pending);
    check_item(x, 1, 4096);
    check_item(x, 3, 4096);
    mem_free(x);
    net_sim_cut(r.net, 2, 1, false);
    RIG_UNTIL(&r, write.done);
    rig_call_end(&write);
    check_quiet(&r);
    rig_close(&r);
}

/* R8 */
TEST(batch_shows_nothing_once_the_lease_is_over)
{
    struct rig r;
    open_chunks(&r, 1, DATANODE_ENGINE_FILE);
    CHECK_OK(ask_once(prepare(&r, 1, 0, 4096)));
    disk_sim_cache_mode(r.disk[1], DISK_SIM_CACHE_EXACT);
    disk_sim_slow(r.disk[1], 4 * RIG_SECOND);
    struct asked *x = prepare(&r, ITEMS, 0, 4096);
    rig_in(r.client.loop, ask_inside, x);
    RIG_UNTIL(&r, r.target[1].worker->read_count == 1);
    r.target[1].leased = false;
    RIG_UNTIL(&r, x->done);
    CHECK_OK(x->rc);
    for (uint32_t i = 0; i < ITEMS; i++) {
        CHECK_RC(x->result[i].rc, ERR_not_serving);
    }
    CHECK_EQ(x->data_len, 0);
    mem_free(x);
    check_quiet(&r);
    rig_close(&r);
}

TEST(batch_refuses_what_is_not_small)
{
    struct rig r;
    open_chunks(&r, 1, DATANODE_ENGINE_RAM);
    CHECK_RC(ask_once(prepare(&r, 0, 0, 4096)), ERR_bad_value);
    CHECK_RC(ask_once(prepare(&r, 1, 4095, 16 * 4096)), ERR_bad_value); /* touches 17 cells */
    CHECK_OK(ask_once(prepare(&r, 1, 4096, 16 * 4096)));
    CHECK_OK(ask_once(prepare(&r, 16, 0, 16 * 4096)));
    CHECK_RC(ask_once(prepare(&r, 17, 0, 16 * 4096)), ERR_bad_value);
    CHECK_OK(ask_once(prepare(&r, 64, 0, 4096)));
    CHECK_RC(ask_once(prepare(&r, 1, 4u << 20, 1)), ERR_bad_value); /* behind the longest chunk */
    CHECK_RC(ask_once(prepare(&r, 1, UINT32_MAX, UINT32_MAX)), ERR_bad_value);
    struct asked *x = prepare(&r, 1, 0, 4096);
    x->item[0].capability = 2; /* there are two */
    CHECK_RC(ask_once(x), ERR_bad_value);
    check_quiet(&r);
    rig_close(&r);
}

struct short_of {
    struct fault *fault;
};
static void short_inside(void *ctx)
{
    const struct short_of *c = ctx;
    struct mem_domain *d = mem_domain_enter(NULL);
    mem_domain_set_fault(d, c->fault);
    (void)mem_domain_enter(d);
}

/* Its nth allocation fails: "busy", as a whole or of some items, or its connection ends. */
static uint64_t ask_short(struct rig *r, uint64_t nth)
{
    struct short_of c = {.fault = fault_new()};
    CHECK_TRUE(c.fault != NULL);
    struct asked *x = prepare(r, ITEMS, 0, 8192);
    if (nth > 0) {
        fault_arm(c.fault, "mem.alloc", nth, 1);
    }
    rig_in(r->target[1].process.loop, short_inside, &c);
    ask(x);
    uint64_t passed = fault_passed(c.fault, "mem.alloc");
    struct fault *used = c.fault;
    c.fault = NULL;
    rig_in(r->target[1].process.loop, short_inside, &c);
    (void)fault_free(used);
    for (uint32_t i = 0; i < ITEMS && x->rc == 0; i++) {
        if (x->result[i].rc == 0) {
            check_item(x, i, 8192);
        } else {
            CHECK_RC(x->result[i].rc, ERR_busy);
        }
    }
    CHECK_TRUE(x->rc == 0 || nth > 0);
    mem_free(x);
    return passed;
}

TEST(batch_without_memory_is_asked_again)
{
    struct rig r;
    open_chunks(&r, 1, DATANODE_ENGINE_FILE);
    uint64_t count = ask_short(&r, 0);
    CHECK_TRUE(count > 2);
    for (uint64_t nth = 1; nth <= count; nth++) {
        (void)ask_short(&r, nth);
        check_quiet(&r);
    }
    (void)ask_short(&r, 0);
    check_quiet(&r);
    rig_close(&r);
}

/* It stops while the disk reads for it. */
TEST(batch_ends_when_its_worker_does)
{
    struct rig r;
    open_chunks(&r, 1, DATANODE_ENGINE_FILE);
    disk_sim_cache_mode(r.disk[1], DISK_SIM_CACHE_EXACT);
    disk_sim_slow(r.disk[1], RIG_SECOND / 5);
    struct asked *x = prepare(&r, ITEMS, 0, 4096);
    rig_in(r.client.loop, ask_inside, x);
    RIG_UNTIL(&r, r.target[1].worker->read_count == 1);
    rig_stop(&r, 1);
    RIG_UNTIL(&r, x->done);
    CHECK_TRUE(x->rc == 0 || x->rc == -ERR_closed || err_is(x->rc, EAGAIN));
    mem_free(x);
    rig_close(&r);
}
