/*
 * datanode/rig_storm_world_priv.h -- for tests only: workers of rig_priv.h, and who sends them
 * anything: a client, the metadata server, and a target that there is only in rows and in words,
 * for which the storm speaks.
 */
#pragma once

#include "datanode/rig_world_priv.h"
#include "proto/sample.h"

#define STORM_CALLS 48u
#define STORM_BODY 65536u
#define STORM_DATA 12288u
#define STORM_RECORD 4096u
#define STORM_COUNT 6u  /* elements of lists */
#define STORM_LIAR 4u   /* as a target: it has no worker, and is the predecessor of others */
#define STORM_KINDS 64u /* of messages, from `write` on */

/* What decides about one message. */
struct storm_choice {
    uint8_t opcode, role, bend, length;
    uint16_t seed;
};
enum storm_bend {
    STORM_ROUTE = 1,  /* as drawn: of no chain, mostly */
    STORM_RIGHTS = 2, /* the same of capabilities */
    STORM_SUMS = 4,
    STORM_CHUNK = 8,
    STORM_BITS = 16,  /* some bits of the body */
    STORM_SHORT = 32, /* it ends early */
    STORM_TURN = 128  /* rows change before it */
};
struct storm_call {
    struct net_conn_call call;
    struct storm *storm;
    bool busy, member;
    struct buf *data;
    uint8_t body[STORM_BODY];
    uint32_t crc[STORM_DATA / 4096 + 2];
};
struct storm {
    struct rig rig;
    struct peer_user user;
    struct peer *member[RIG_TARGETS + 1]; /* ways to each worker as another target */
    struct storm_call call[STORM_CALLS];
    unsigned next, sent, turns, host;
    uint16_t opcode;            /* of the message that is made, for `host` */
    unsigned good[STORM_KINDS]; /* what was said as a predecessor, and done */
    uint64_t record[STORM_RECORD / 8];
};

/* ---- Who asks ---- */

/*
 * The first chain is of workers only: it must go on. In the others the storm is the predecessor: of
 * a member that serves and hands on, of one that syncs, and of both in turns. Anew, for who was
 * told nonsense has left.
 */
RIG void storm_rows(struct storm *s)
{
    static const char *const rows[] = {"4s 1y", "4s 1y 2o", "4s 2s 1y", "4s 1s 2y"};
    rig_row(&s->rig, 2, "4s 1s 2s");
    rig_row(&s->rig, 3, "4s 2y");
    rig_row(&s->rig, 4, rows[s->turns++ % ARRAY_COUNT(rows)]);
}
RIG void storm_member_inside(void *ctx)
{
    struct storm *s = ctx;
    for (unsigned i = 1; i <= s->rig.opt.targets; i++) {
        struct net_address at = rig_address(i);
        const struct peer_options opt = {.env = &s->rig.client.env,
                                         .user = &s->user,
                                         .secrets = rig_secrets(),
                                         .cluster_id = rig_cluster(),
                                         .role = PROTO_ROLE_TARGET,
                                         .name = "member",
                                         .addresses = &at,
                                         .address_count = 1,
                                         .pool = s->rig.pool,
                                         .session = STORM_LIAR,
                                         .generation = 1};
        s->user.ops = &rig_nothing_ops;
        CHECK(peer_new(&opt, &s->member[i]) == 0);
        peer_start(s->member[i]);
    }
}
RIG struct storm *storm_new(enum datanode_engine engine, uint64_t seed)
{
    struct storm *s = mem_zalloc(sizeof *s);
    CHECK(s != NULL);
    rig_chain(&s->rig, 2, engine, seed);
    rig_in(s->rig.client.loop, storm_member_inside, s);
    storm_rows(s);
    rig_for_ms(&s->rig, 200);
    return s;
}
RIG struct storm *storm_free(struct storm *s)
{
    rig_close(&s->rig);
    mem_free(s);
    return NULL;
}
