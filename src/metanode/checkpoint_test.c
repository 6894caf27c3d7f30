/*
 * metanode/checkpoint_test.c -- the log is trimmed behind checkpoints, and what a server loads is
 * what it had: also from the checkpoint before, when the newest is damaged, and without either it
 * says so and does not start.
 */
#include "metanode/metanode_priv.h"

#include "metanode/rig_image_priv.h"
#include "metanode/rig_session_priv.h"
#include "testing/testing.h"

#define FILES 60u

static uint64_t digest_of(struct rig *r)
{
    struct kv_snapshot *s;
    struct kv_need need = {0};
    struct mem_arena arena;
    struct namespace_digest d = {0};
    mem_arena_init(&arena, 8u << 20);
    CHECK_OK(kv_snapshot_new(r->m->kv, &s));
    struct namespace_view v = {.snapshot = s, .need = &need, .arena = &arena};
    while (!d.done) {
        int rc = namespace_digest_step(&v, 100, &d);
        CHECK_TRUE(rc == 0 || rc == -ERR_need);
        kv_need_release(&need);
    }
    kv_snapshot_free(s);
    mem_arena_fini(&arena);
    CHECK_TRUE(d.records > 0);
    return d.value;
}

static void ready_on(struct rig *r, uint64_t bytes, enum metanode_engine_kind engine)
{
    rig_new(r, testing_seed());
    r->opt.engine = engine;
    r->opt.checkpoint_bytes = bytes;
    rig_serve(r);
    rig_client_ready(r, 0);
}

static void ready(struct rig *r, uint64_t bytes)
{
    ready_on(r, bytes, rig_engine());
}

static bool checkpoint_rests(void *ctx)
{
    return !((struct rig *)ctx)->m->checkpoints.active;
}

/* A disk may be slow by its seed; a checkpoint must not last as long as all that is made. */
static void create_at_rest(struct rig *r, unsigned from, unsigned count)
{
    for (unsigned i = 0; i < count; i += 4) {
        rig_create_files(r, from + i, (unsigned)base_min(4, count - i));
        CHECK_TRUE(rig_until(r, checkpoint_rests, r));
    }
}

TEST(the_log_is_trimmed_and_the_state_comes_back)
{
    struct rig r;
    struct consensus_info info;
    ready(&r, 2000);
    create_at_rest(&r, 0, FILES);
    consensus_info(r.m->consensus, &info);
    CHECK_TRUE(info.snapshot_index > 0);
    CHECK_TRUE(r.m->checkpoints.count.value > 2);
    for (unsigned power = 0; power < 2; power++) {
        if (power != 0) {
            rig_power(&r);
        } else {
            rig_kill(&r);
        }
        rig_serve(&r);
        CHECK_TRUE(kv_checkpoints(r.m->kv).durable_index > 0);
        rig_check_files(&r, FILES);
    }
    rig_over(&r);
}

TEST(a_server_that_ends_in_good_order_begins_where_it_was)
{
    struct rig r;
    ready(&r, 1u << 20);
    rig_create_files(&r, 0, 10);
    uint64_t applied = kv_applied_index(r.m->kv), digest = digest_of(&r);
    rig_stop(&r);
    r.m = NULL;
    CHECK_OK(rig_start(&r));
    CHECK_EQ(kv_applied_index(r.m->kv), kv_checkpoints(r.m->kv).durable_index);
    CHECK_EQ(kv_applied_index(r.m->kv), applied);
    CHECK_TRUE(digest_of(&r) == digest);
    CHECK_TRUE(rig_until(&r, rig_is_serving, &r));
    rig_check_files(&r, 10);
    rig_over(&r);
}

TEST(the_interval_makes_a_checkpoint_when_there_were_changes)
{
    struct rig r;
    rig_new(&r, testing_seed());
    r.opt.checkpoint_interval_ms = 10000;
    rig_serve(&r);
    rig_client_ready(&r, 0);
    rig_create_files(&r, 0, 3);
    rig_keep_alive(&r, &r.client[0], 25);
    uint64_t made = r.m->checkpoints.count.value;
    CHECK_TRUE(made > 0);
    rig_keep_alive(&r, &r.client[0], 40); /* nothing is logged now */
    CHECK_TRUE(r.m->checkpoints.count.value <= made + 1);
    rig_over(&r);
}

/* Where a checkpoint writes only what has changed, how much there is does not matter. */
TEST(how_much_there_is_counts_only_where_all_of_it_is_written)
{
    uint64_t made[2];
    for (unsigned part = 0; part < 2; part++) {
        struct rig r;
        rig_new(&r, testing_seed());
        r.opt.engine = METANODE_ENGINE_MEMORY; /* it pretends */
        r.opt.checkpoint_bytes = 2000;
        r.opt.pretended_cache_bytes = part == 1 ? 1u << 30 : 0;
        rig_serve(&r);
        rig_client_ready(&r, 0);
        create_at_rest(&r, 0, 5 * FILES);
        made[part] = r.m->checkpoints.count.value;
        create_at_rest(&r, 5 * FILES, FILES);
        made[part] = r.m->checkpoints.count.value - made[part];
        rig_over(&r);
    }
    CHECK_TRUE(made[0] > 0 && made[1] > 2 * made[0]);
}

/* ---- one that writes what has changed may take its time ---- */

#define PACE_INTERVAL_S 40u

static bool checkpoint_runs(void *ctx)
{
    return ((struct rig *)ctx)->m->checkpoints.active;
}

/* A tree so small that its records are in nodes; `checkpoint_bytes` of log to a checkpoint. */
static void pace_ready(struct rig *r, uint64_t checkpoint_bytes)
{
    rig_new(r, testing_seed());
    r->opt.engine = METANODE_ENGINE_TREE;
    r->opt.need_permille = 1;
    r->opt.checkpoint_bytes = checkpoint_bytes;
    r->opt.checkpoint_interval_ms = (uint64_t)PACE_INTERVAL_S * 1000;
    rig_serve(r);
    rig_client_ready(r, 0);
    rig_create_files(r, 0, 900);
    for (unsigned s = 0; s < 2 * PACE_INTERVAL_S && !checkpoint_runs(r); s++) {
        rig_keep_alive(r, &r->client[0], 1);
    }
    CHECK_TRUE(checkpoint_runs(r));
}

TEST(a_checkpoint_is_spread_over_the_interval)
{
    struct rig r;
    unsigned seconds = 0;
    pace_ready(&r, 1u << 30);
    for (; checkpoint_runs(&r); seconds++) {
        CHECK_TRUE(seconds < PACE_INTERVAL_S);
        rig_create_files(&r, 900 + seconds, 1); /* as ever */
        rig_keep_alive(&r, &r.client[0], 1);
    }
    CHECK_TRUE(seconds > PACE_INTERVAL_S / 3);
    CHECK_TRUE(kv_checkpoints(r.m->kv).durable_index > 0);
    rig_kill(&r);
    rig_serve(&r);
    rig_check_files(&r, 900 + seconds);
    rig_over(&r);
}

TEST(a_checkpoint_hurries_when_the_next_one_is_due)
{
    struct rig r;
    pace_ready(&r, 1u << 30);
    r.m->opt.checkpoint_bytes = 4000;
    uint64_t from = loop_sim_now_ns(r.sim);
    rig_create_files(&r, 900, 40);
    CHECK_TRUE(rig_until(&r, checkpoint_rests, &r));
    CHECK_TRUE(loop_sim_now_ns(r.sim) - from < RIG_SECOND * PACE_INTERVAL_S / 8);
    rig_over(&r);
}

TEST(a_checkpoint_does_not_hold_up_an_end)
{
    struct rig r;
    pace_ready(&r, 1u << 30);
    uint64_t from = loop_sim_now_ns(r.sim), applied = kv_applied_index(r.m->kv);
    rig_stop(&r);
    r.m = NULL;
    CHECK_TRUE(loop_sim_now_ns(r.sim) - from < RIG_SECOND * PACE_INTERVAL_S / 8);
    rig_serve(&r);
    CHECK_TRUE(kv_checkpoints(r.m->kv).durable_index >= applied);
    rig_check_files(&r, 900);
    rig_over(&r);
}

TEST(a_little_is_saved_at_the_end_only_where_that_costs_little)
{
    unsigned files = 30 * FILES; /* so many that a whole one is far more than a file or two */
    for (unsigned part = 0; part < 2; part++) {
        struct rig r;
        rig_new(&r, testing_seed());
        r.opt.engine = METANODE_ENGINE_MEMORY; /* it pretends */
        r.opt.checkpoint_bytes = 30000;
        r.opt.pretended_cache_bytes = part == 1 ? 1u << 30 : 0;
        rig_serve(&r);
        rig_client_ready(&r, 0);
        rig_create_files(&r, 0, files);
        uint64_t made = r.m->checkpoints.count.value;
        for (unsigned i = 0; r.m->checkpoints.count.value == made; i++) {
            rig_create_files(&r, files + i, 1);
        }
        uint64_t durable = kv_checkpoints(r.m->kv).durable_index;
        rig_stop(&r);
        r.m = NULL;
        rig_serve(&r);
        CHECK_EQ(kv_checkpoints(r.m->kv).durable_index > durable, part == 1);
        rig_check_files(&r, files);
        rig_over(&r);
    }
}

TEST(changes_that_take_much_of_the_cache_are_saved)
{
    struct rig r;
    rig_new(&r, testing_seed());
    r.opt.engine = METANODE_ENGINE_MEMORY; /* it pretends */
    r.opt.checkpoint_bytes = 1u << 30;
    r.opt.pretended_cache_bytes = 100000;
    rig_serve(&r);
    rig_client_ready(&r, 0);
    unsigned n = 0;
    while (kv_statistics(r.m->kv).dirty_bytes < 24000) {
        CHECK_EQ(r.m->checkpoints.count.value, 0);
        rig_create_files(&r, n++, 1);
    }
    rig_create_files(&r, n, 5);
    CHECK_TRUE(rig_until(&r, checkpoint_rests, &r));
    CHECK_EQ(r.m->checkpoints.count.value, 1);
    CHECK_TRUE(kv_statistics(r.m->kv).dirty_bytes < 10000);
    rig_over(&r);
}

/* What a cache leaves of the memory is for the log, too: nobody waits until the next interval for
 * room that a checkpoint gives back. With room for hardly more than a segment it is the last thing
 * that helps; with some more nobody is refused at all. */
TEST(log_that_takes_the_memory_is_trimmed)
{
    static char value[60000];
    (void)memset(value, 'x', sizeof value - 1);
    for (unsigned room_mib = 17; room_mib <= 40; room_mib += 23) {
        struct rig r;
        rig_new(&r, testing_seed());
        r.opt.engine = METANODE_ENGINE_MEMORY; /* it pretends */
        r.opt.checkpoint_bytes = 1u << 30;
        r.opt.checkpoint_interval_ms = 3600u * 1000;
        r.opt.pretended_cache_bytes = 1u << 30;
        rig_serve(&r);
        rig_client_ready(&r, 0);
        r.m->opt.memory_bytes = ((UINT64_C(1) << 30) + (room_mib << 20)) / 7 * 8;
        struct rig_client *c = &r.client[0];
        rig_create_files(&r, 0, 1);
        uint64_t ino = rig_lookup(c, "file0000").ino;
        c->flags = PEER_CALL_AGAIN;
        uint64_t begin = metanode_now(r.m), logged = 0;
        for (; logged < 100u << 20; logged += sizeof value) {
            struct proto_setxattr_request q = {.op = rig_op(c, 0),
                                               .ino = ino,
                                               .name = proto_bytes_text("user.log"),
                                               .value = proto_bytes_text(value)};
            CHECK_OK(rig_call(c, PROTO_OP_setxattr, &q));
            CHECK_TRUE(rig_until(&r, checkpoint_rests, &r));
        }
        CHECK_TRUE(metanode_now(r.m) - begin < 600 * RIG_SECOND);
        CHECK_TRUE(r.m->checkpoints.count.value > 4);
        CHECK_TRUE(room_mib < 32 || stats_counter_value(&r.m->memory.refused) == 0);
        CHECK_TRUE(metanode_memory_look(r.m) <
                   (UINT64_C(1) << 30) + (room_mib << 20) + 2 * sizeof value);
        rig_over(&r);
    }
}

TEST(the_interval_is_shorter_where_changes_are_written)
{
    for (unsigned part = 0; part < 2; part++) {
        struct rig r;
        rig_new(&r, testing_seed());
        r.opt.engine = METANODE_ENGINE_MEMORY; /* it pretends */
        r.opt.pretended_cache_bytes = part == 1 ? 1u << 30 : 0;
        rig_serve(&r);
        rig_client_ready(&r, 0);
        rig_create_files(&r, 0, 3);
        rig_keep_alive(&r, &r.client[0], 65);
        CHECK_EQ(r.m->checkpoints.count.value, part);
        rig_keep_alive(&r, &r.client[0], 240);
        CHECK_TRUE(r.m->checkpoints.count.value > 0);
        rig_over(&r);
    }
}

TEST(the_checkpoint_before_serves_when_the_newest_is_damaged)
{
    struct rig r;
    char damaged[300] = "";
    ready_on(&r, 4096, METANODE_ENGINE_MEMORY);
    for (unsigned i = 0; i < 4; i++) {
        rig_create_files(&r, i * FILES, FILES);
        CHECK_TRUE(rig_until(&r, checkpoint_rests, &r));
        uint64_t newest = kv_checkpoints(r.m->kv).durable_index;
        rig_kill(&r);
        CHECK_TRUE(rig_image_damage(&r, damaged));
        CHECK_OK(rig_start(&r));
        CHECK_TRUE(kv_checkpoints(r.m->kv).durable_index < newest);
        CHECK_TRUE(kv_checkpoints(r.m->kv).durable_index > 0);
        CHECK_TRUE(rig_until(&r, rig_is_serving, &r));
        rig_check_files(&r, (i + 1) * FILES);
    }
    rig_over(&r);
}

TEST(without_a_sound_checkpoint_it_does_not_start)
{
    struct rig r;
    char damaged[300] = "";
    ready_on(&r, 4096, METANODE_ENGINE_MEMORY);
    rig_create_files(&r, 0, FILES * 2);
    CHECK_TRUE(rig_until(&r, checkpoint_rests, &r));
    rig_kill(&r);
    CHECK_TRUE(rig_image_damage(&r, damaged));
    rig_serve(&r); /* on the one before, which then is the newest that is left */
    rig_kill(&r);
    struct rig_images i;
    rig_images_look(&r, &i);
    CHECK_EQ(i.count, 2);
    struct disk_req list = {.op = DISK_LIST, .path = RIG_STATE};
    rig_process(&r, "look", 1, &i.env);
    CHECK_OK(disk_sim_open(r.disk, i.env.loop, &i.env.disk));
    CHECK_TRUE(disk_now(i.env.disk, &list) >= 0);
    char path[300];
    snprintf(path, sizeof path, RIG_STATE "/%s", list.names->name[0]);
    mem_free(list.names);
    loop_sim_kill(i.env.loop);
    CHECK_OK(disk_sim_corrupt(r.disk, path, 140, 4));
    CHECK_ERR(rig_start(&r), EIO);
    CHECK_TRUE(strstr(r.err.text, "state at 0") != NULL);
    rig_close(&r);
}

TEST(a_disk_that_takes_no_checkpoint_stops_nothing)
{
    static const int errors[] = {-ENOSPC, -EIO};
    for (unsigned k = 0; k < 2; k++) {
        struct rig r;
        ready_on(&r, 4096, METANODE_ENGINE_MEMORY);
        rig_create_files(&r, 0, FILES);
        CHECK_TRUE(rig_until(&r, checkpoint_rests, &r));
        uint64_t durable = kv_checkpoints(r.m->kv).durable_index;
        disk_sim_fail(r.disk, k == 0 ? DISK_WRITE : DISK_SYNC_ALL, "unfinished", 1, 0, errors[k]);
        rig_create_files(&r, FILES, FILES);
        CHECK_TRUE(r.m->checkpoints.failing);
        CHECK_EQ(r.m->checkpoints.failures.value, 1); /* not again at once */
        CHECK_EQ(kv_checkpoints(r.m->kv).durable_index, durable);
        rig_check_files(&r, 2 * FILES);
        disk_sim_heal(r.disk);
        rig_keep_alive(&r, &r.client[0], 35);
        rig_create_files(&r, 2 * FILES, 2);
        CHECK_TRUE(rig_until(&r, checkpoint_rests, &r));
        CHECK_TRUE(!r.m->checkpoints.failing);
        CHECK_TRUE(kv_checkpoints(r.m->kv).durable_index > durable);
        rig_kill(&r);
        rig_serve(&r);
        rig_check_files(&r, 2 * FILES + 2);
        rig_over(&r);
    }
}
