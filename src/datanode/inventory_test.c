/* datanode/inventory_test.c -- what a target says that it holds: in order, in pages, only of chains
 * that it serves. */
#include "datanode/inventory.h"

#include "datanode/rig_world_priv.h"
#include "testing/testing.h"

struct asked {
    struct peer_call call;
    struct proto_inventory_request q;
    struct rig_target *t;
    struct proto_inventory_entry entry[64];
    size_t count;
    bool eof, done;
    struct proto_chunk next;
    int rc;
};

static void ask_done(struct peer_call *call, const struct peer_reply *r)
{
    struct asked *x = container_of(call, struct asked, call);
    x->done = true;
    x->rc = r->rc;
    if (r->rc == 0) {
        const struct proto_inventory_reply *m = r->body;
        CHECK(m->entries.count <= ARRAY_COUNT(x->entry));
        for (size_t i = 0; i < m->entries.count; i++) {
            x->entry[i] = m->entries.at[i];
        }
        x->count = m->entries.count;
        x->eof = m->eof;
        x->next = m->next;
    }
}

static void ask_inside(void *ctx)
{
    struct asked *x = ctx;
    x->call = (struct peer_call){
        .done = ask_done, .flags = PEER_CALL_RAW, .request = &x->q, .opcode = PROTO_OP_inventory};
    peer_call(x->t->meta_client, &x->call);
}

/* As the leader asks; 0: the page is in `x`. */
static int ask(struct rig *r, unsigned host, struct asked *x)
{
    x->t = &r->target[host];
    x->done = false;
    x->q.target = x->q.target == 0 ? host : x->q.target;
    x->q.incarnation = x->q.incarnation == 0 ? rig_info(r, host).incarnation : x->q.incarnation;
    rig_in(r->client.loop, ask_inside, x);
    RIG_UNTIL(r, x->done);
    return x->rc;
}

static void put(struct rig *r, uint32_t chain, uint64_t data_id, uint32_t index)
{
    struct rig_io io = {.host = chain == 2 ? 2 : 1,
                        .chain = chain,
                        .data_id = data_id,
                        .index = index,
                        .length = 4096,
                        .fill = 1};
    CHECK_OK(rig_write(r, &io));
}

/* Two chains; data id 50 has chunks of both, 60 and 70 of one. */
static void open_two(struct rig *r)
{
    rig_chain(r, 2, DATANODE_ENGINE_RAM, testing_seed());
    rig_row(r, 2, "2s 1s");
    RIG_UNTIL(r, rig_settled(r, 2));
    for (uint32_t i = 0; i < 6; i++) {
        put(r, 1 + i % 2, 50, i);
    }
    put(r, 1, 60, 0);
    put(r, 1, 60, 3);
    put(r, 2, 70, 1);
}

static bool is_at(const struct asked *x, size_t i, uint64_t data_id, uint32_t index, uint32_t chain)
{
    const struct proto_inventory_entry *e = &x->entry[i];
    return e->chunk.data_id == data_id && e->chunk.index == index && e->chain == chain;
}

TEST(inventory_names_each_data_id_once_for_each_chain)
{
    struct rig r;
    open_two(&r);
    for (unsigned host = 1; host <= 2; host++) {
        struct asked x = {.q.max_entries = 60};
        CHECK_OK(ask(&r, host, &x));
        CHECK_TRUE(x.eof && x.count == 4);
        CHECK_TRUE(is_at(&x, 0, 50, 0, 1) && is_at(&x, 1, 50, 1, 2));
        CHECK_TRUE(is_at(&x, 2, 60, 0, 1) && is_at(&x, 3, 70, 1, 2));
        CHECK_TRUE(!x.entry[0].busy && x.entry[0].digest != 0);
    }
    struct asked part = {.q = {.first = {.data_id = 51}, .end = 70, .max_entries = 60}};
    CHECK_OK(ask(&r, 1, &part));
    CHECK_TRUE(part.eof && part.count == 1 && is_at(&part, 0, 60, 0, 1));
    rig_close(&r);
}

TEST(inventory_comes_in_pages)
{
    struct rig r;
    open_two(&r);
    struct asked x = {.q = {.max_entries = 1}};
    unsigned pages = 0;
    uint64_t last = 0;
    for (bool eof = false; !eof; eof = x.eof) {
        CHECK_OK(ask(&r, 1, &x));
        CHECK_TRUE(x.count <= 1 && ++pages < 20);
        CHECK_TRUE(x.count == 0 || x.entry[0].chunk.data_id >= last);
        last = x.count == 0 ? last : x.entry[0].chunk.data_id;
        x.q.first = x.next;
    }
    CHECK_EQ(last, 70);
    rig_close(&r);
}

TEST(inventory_of_a_chain_has_every_chunk)
{
    struct rig r;
    open_two(&r);
    struct asked x = {.q = {.chain = 1, .epoch = r.row[1].epoch, .max_entries = 60}};
    CHECK_OK(ask(&r, 2, &x));
    CHECK_TRUE(x.eof && x.count == 5);
    CHECK_TRUE(is_at(&x, 0, 50, 0, 1) && is_at(&x, 2, 50, 4, 1) && is_at(&x, 4, 60, 3, 1));
    CHECK_TRUE(x.entry[0].identity.ver == 1 && x.entry[0].identity.aepoch != 0);
    x.q.epoch--;
    CHECK_RC(ask(&r, 2, &x), ERR_stale_epoch);
    x.q.epoch += 2;
    CHECK_RC(ask(&r, 2, &x), ERR_ahead_epoch);
    rig_close(&r);
}

/* What it has of chains that it does not serve is not its own to tell. */
TEST(inventory_is_of_what_it_serves)
{
    struct rig r;
    struct rig_io io = {.host = 1, .chain = 1, .data_id = 60};
    open_two(&r);
    rig_row(&r, 2, "2s 1o");
    RIG_UNTIL(&r, rig_settled(&r, 2));
    struct asked x = {.q.max_entries = 60};
    CHECK_OK(ask(&r, 1, &x));
    CHECK_TRUE(x.eof && x.count == 2 && is_at(&x, 0, 50, 0, 1) && is_at(&x, 1, 60, 0, 1));
    CHECK_OK(rig_remove(&r, &io));
    CHECK_OK(ask(&r, 1, &x));
    CHECK_TRUE(x.eof && x.count == 1 && is_at(&x, 0, 50, 0, 1));
    x.q.incarnation++; /* asked of an earlier life, or of another target */
    CHECK_RC(ask(&r, 1, &x), ESTALE);
    struct asked other = {.q = {.target = 2, .max_entries = 60}};
    CHECK_RC(ask(&r, 1, &other), ESTALE);
    rig_close(&r);
}
