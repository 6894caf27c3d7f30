/*
 * metanode/engine_test.c -- the server on an engine that has no room at times, ends in its own time
 * and fails; and whose records a directory holds.
 */
#include "metanode/engine_priv.h"

#include "kv/mem.h"
#include "metanode/metanode_priv.h"
#include "metanode/rig_image_priv.h"
#include "metanode/rig_session_priv.h"
#include "testing/testing.h"

/* Nothing sleeps: who waits for room goes on when there is some. */
TEST(without_room_it_waits_until_there_is_some)
{
    struct rig r;
    uint64_t took[2];
    for (unsigned k = 0; k < 2; k++) {
        rig_new(&r, testing_seed());
        r.opt.busy_permille = k == 0 ? 0 : 500;
        rig_serve(&r);
        rig_client_ready(&r, 0);
        uint64_t from = loop_sim_now_ns(r.sim);
        rig_create_files(&r, 0, 200);
        took[k] = loop_sim_now_ns(r.sim) - from;
        CHECK_TRUE((kv_statistics(r.m->kv).busy > 100) == (k == 1));
        rig_check_files(&r, 200);
        rig_over(&r);
    }
    CHECK_TRUE(took[1] < took[0] + took[0] / 10);
}

static void fail_in(void *ctx)
{
    kv_mem_fail(((struct rig *)ctx)->m->kv, -EIO);
}
static bool has_ended(void *ctx)
{
    return ((struct rig *)ctx)->ended > 0;
}

static void check_ended(struct rig *r)
{
    CHECK_TRUE(rig_until(r, has_ended, r));
    CHECK_EQ(r->ended, 1);
    CHECK_RC(r->ended_rc, EIO);
    CHECK_TRUE(strstr(r->reason, "engine 'memory'") != NULL);
    CHECK_TRUE(strstr(r->reason, "told to fail") != NULL);
}

TEST(an_engine_that_fails_ends_the_server_and_says_why)
{
    for (unsigned idle = 0; idle < 2; idle++) {
        struct rig r;
        struct proto_create_request q;
        rig_ready(&r, 1, testing_seed());
        rig_create_files(&r, 0, 5);
        loop_sim_enter(r.loop, fail_in, &r);
        if (idle == 0) {
            q = rig_file(&r.client[0], "more", "content");
            r.client[0].flags = PEER_CALL_AGAIN;
            rig_begin(&r.client[0], PROTO_OP_create, &q);
        }
        uint64_t from = loop_sim_now_ns(r.sim);
        check_ended(&r);
        CHECK_TRUE(loop_sim_now_ns(r.sim) - from < 2 * RIG_SECOND);
        rig_stop(&r); /* in good order, all the same */
        rig_serve(&r);
        if (idle == 0) {
            CHECK_OK(rig_end(&r.client[0]));
            CHECK_TRUE(rig_lookup(&r.client[0], "more").ino != 0);
        }
        rig_check_files(&r, 5);
        rig_over(&r);
    }
}

static void fill_in(void *ctx)
{
    kv_mem_set_full(((struct rig *)ctx)->m->kv, true);
}
static void drain_in(void *ctx)
{
    kv_mem_set_full(((struct rig *)ctx)->m->kv, false);
}

static bool status_says(struct rig_client *c, uint8_t format, const char *words)
{
    struct proto_status_request q = {.format = format};
    c->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(c, PROTO_OP_status, &q));
    const struct proto_status_reply *reply = c->reply;
    return memmem(reply->body.at, reply->body.len, words, strlen(words)) != NULL;
}

/* Changes wait, reads do not, the status says so; an end in good order does not wait for ever. */
TEST(an_engine_without_room_for_long_is_told_of_and_holds_up_no_end)
{
    static const char says[] = "has had no room for changes for ";
    for (unsigned ends = 0; ends < 2; ends++) {
        struct rig r;
        rig_ready(&r, 2, testing_seed());
        rig_create_files(&r, 0, 3);
        loop_sim_enter(r.loop, fill_in, &r);
        struct proto_create_request q = rig_file(&r.client[0], "more", "content");
        r.client[0].flags = PEER_CALL_AGAIN;
        rig_begin(&r.client[0], PROTO_OP_create, &q);
        rig_run(&r, 3 * RIG_SECOND);
        CHECK_TRUE(!status_says(&r.client[1], PROTO_FORMAT_TEXT, says));
        rig_run(&r, 4 * RIG_SECOND);
        CHECK_TRUE(status_says(&r.client[1], PROTO_FORMAT_TEXT, says));
        CHECK_TRUE(rig_lookup(&r.client[1], "file0001").ino != 0);
        CHECK_TRUE(!r.client[0].done);
        if (ends == 1) {
            uint64_t from = loop_sim_now_ns(r.sim);
            rig_stop(&r);
            CHECK_TRUE(loop_sim_now_ns(r.sim) - from < 10 * RIG_SECOND);
            rig_serve(&r);
        } else {
            loop_sim_enter(r.loop, drain_in, &r);
        }
        CHECK_OK(rig_end(&r.client[0]));
        CHECK_TRUE(rig_lookup(&r.client[0], "more").ino != 0);
        CHECK_TRUE(!status_says(&r.client[1], PROTO_FORMAT_TEXT, says));
        rig_over(&r);
    }
}

static void store_in(struct rig *r, const char *path, const char *text)
{
    struct env env;
    rig_process(r, "hand", 1, &env);
    CHECK_OK(disk_sim_open(r->disk, env.loop, &env.disk));
    if (text != NULL) {
        CHECK_OK(disk_store(env.disk, path, text, strlen(text)));
    } else {
        struct disk_req remove = {.op = DISK_REMOVE, .path = path};
        CHECK_OK((int)disk_now(env.disk, &remove));
    }
    loop_sim_kill(env.loop);
}

TEST(records_of_another_engine_are_left_alone)
{
    struct rig r;
    rig_ready(&r, 1, testing_seed());
    rig_create_files(&r, 0, 5);
    rig_kill(&r);
    store_in(&r, "/meta/engine", "other\n");
    CHECK_RC(rig_start(&r), ERR_config);
    CHECK_TRUE(strstr(r.err.text, "'/meta'") != NULL);
    CHECK_TRUE(strstr(r.err.text, "'other'") != NULL);
    CHECK_TRUE(strstr(r.err.text, "'memory'") != NULL);
    rig_kill(&r);
    static const char *const damaged[] = {
        "",           "\n",
        "memory",     "two words\n",
        "m\0emory\n", "a-name-that-is-longer-than-any-there-is\n"};
    for (size_t i = 0; i < ARRAY_COUNT(damaged); i++) {
        store_in(&r, "/meta/engine", damaged[i]);
        CHECK_RC(rig_start(&r), ERR_bad_value);
        CHECK_TRUE(strstr(r.err.text, "/meta/engine") != NULL);
        rig_kill(&r);
    }
    store_in(&r, "/meta/engine", "memory\n");
    rig_serve(&r);
    rig_check_files(&r, 5);
    rig_over(&r);
}

TEST(who_names_no_engine_gets_that_of_the_records)
{
    for (unsigned tree = 0; tree < 2; tree++) {
        struct rig r;
        rig_new(&r, testing_seed());
        r.opt.engine = tree == 1 ? METANODE_ENGINE_DEFAULT : METANODE_ENGINE_MEMORY;
        rig_serve(&r);
        rig_client_ready(&r, 0);
        const char *name = tree == 1 ? "tree" : "memory"; /* of a new one the tree */
        CHECK_TEXT(kv_statistics(r.m->kv).engine, name);
        rig_create_files(&r, 0, 5);
        rig_kill(&r);
        r.opt.engine = METANODE_ENGINE_DEFAULT;
        rig_serve(&r);
        CHECK_TEXT(kv_statistics(r.m->kv).engine, name);
        rig_check_files(&r, 5);
        rig_kill(&r);
        store_in(&r, "/meta/engine", "other\n");
        CHECK_RC(rig_start(&r), ERR_config);
        CHECK_TRUE(strstr(r.err.text, "'other'") != NULL);
        rig_kill(&r);
        store_in(&r, "/meta/engine", tree == 1 ? "tree\n" : "memory\n");
        rig_serve(&r);
        rig_over(&r);
    }
}

/* Images without a name: what made them. */
TEST(images_of_before_are_those_of_the_engine_in_memory)
{
    struct rig r;
    rig_new(&r, testing_seed());
    r.opt.engine = METANODE_ENGINE_MEMORY;
    rig_serve(&r);
    rig_client_ready(&r, 0);
    rig_create_files(&r, 0, 5);
    rig_stop(&r);
    r.m = NULL;
    store_in(&r, "/meta/engine", NULL);
    r.opt.engine = METANODE_ENGINE_DEFAULT;
    rig_serve(&r);
    CHECK_TEXT(kv_statistics(r.m->kv).engine, "memory");
    rig_check_files(&r, 5);
    rig_over(&r);
}

/* One that was made before the name was recorded, with images or only a log. */
TEST(a_directory_that_names_no_engine_gets_a_name)
{
    for (unsigned images = 0; images < 2; images++) {
        struct rig r;
        struct rig_images look;
        rig_ready(&r, 1, testing_seed());
        rig_create_files(&r, 0, 5);
        if (images == 1) {
            rig_stop(&r);
            r.m = NULL;
        } else {
            rig_kill(&r);
        }
        rig_images_look(&r, &look);
        CHECK_EQ(look.count, images);
        store_in(&r, "/meta/engine", NULL);
        rig_serve(&r);
        rig_check_files(&r, 5);
        rig_kill(&r);
        store_in(&r, "/meta/engine", NULL); /* fails unless it is there */
        rig_serve(&r);
        rig_over(&r);
    }
}

TEST(the_status_tells_of_the_engine)
{
    struct rig r;
    rig_new(&r, testing_seed());
    r.opt.pretended_cache_bytes = 64u << 20;
    rig_serve(&r);
    rig_client_ready(&r, 0);
    CHECK_TRUE(status_says(&r.client[0], PROTO_FORMAT_JSON, "\"engine\":{\"name\":\"memory\","));
    CHECK_TRUE(status_says(&r.client[0], PROTO_FORMAT_JSON, "\"cache_limit\":67108864,"));
    CHECK_TRUE(status_says(&r.client[0], PROTO_FORMAT_JSON, "\"failed\":false}"));
    CHECK_TRUE(status_says(&r.client[0], PROTO_FORMAT_TEXT, "records: engine memory, "));
    CHECK_TRUE(status_says(&r.client[0], PROTO_FORMAT_TEXT, " of 64 MiB in memory, "));
    rig_over(&r);
}

static void note_misses(struct metanode_warmth *w, unsigned missed)
{
    for (unsigned i = 0; i < METANODE_COLD_MANY; i++) {
        metanode_warmth_note(w, i < missed);
    }
}

TEST(mutations_are_looked_at_first_while_many_miss_something)
{
    struct metanode_warmth w = {0};
    CHECK_TRUE(!w.cold);
    note_misses(&w, METANODE_COLD_MISSES);
    CHECK_TRUE(!w.cold);
    note_misses(&w, METANODE_COLD_MISSES + 1);
    CHECK_TRUE(w.cold);
    note_misses(&w, METANODE_COLD_MANY);
    CHECK_TRUE(w.cold);
    note_misses(&w, 0);
    CHECK_TRUE(!w.cold);
    for (unsigned need = 0; need < 2; need++) { /* and who notes them */
        struct rig r;
        rig_new(&r, testing_seed());
        r.opt.engine = METANODE_ENGINE_MEMORY; /* it pretends */
        r.opt.need_permille = need == 0 ? 1 : 1000;
        rig_serve(&r);
        rig_client_ready(&r, 0);
        rig_create_files(&r, 0, 3 * METANODE_COLD_MANY);
        CHECK_EQ(r.m->warmth.cold, need == 1);
        rig_over(&r);
    }
}

/* A cache fills up: all of it counts from the start. */
TEST(a_cache_is_memory_that_is_used)
{
    struct rig r;
    rig_new(&r, testing_seed());
    r.opt.memory_bytes = 64u << 20;
    r.opt.pretended_cache_bytes = 32u << 20;
    rig_serve(&r);
    rig_client_ready(&r, 0);
    CHECK_TRUE(metanode_memory_look(r.m) > 32u << 20);
    CHECK_TRUE(!metanode_memory_is_short(r.m));
    rig_create_files(&r, 0, 3);
    rig_over(&r);
}

/* Small sizes, so that its nodes are written, evicted and read again. */
static void tree_server(struct rig *r)
{
    rig_new(r, testing_seed());
    r->opt.engine = METANODE_ENGINE_TREE;
    rig_serve(r);
    rig_client_ready(r, 0);
    CHECK_TEXT(kv_statistics(r->m->kv).engine, "tree");
}

TEST(a_tree_keeps_the_records)
{
    struct rig r;
    tree_server(&r);
    rig_create_files(&r, 0, 600);
    rig_check_files(&r, 600);
    CHECK_TRUE(kv_statistics(r.m->kv).file_bytes > 0);
    for (unsigned life = 1; life < 4; life++) {
        rig_kill(&r);
        rig_serve(&r);
        rig_check_files(&r, 600 + 50 * (life - 1));
        rig_create_files(&r, 600 + 50 * (life - 1), 50);
    }
    rig_over(&r);
}

/* Reads and changes begin again on a newer state, without anybody noticing. */
TEST(what_reads_a_snapshot_that_is_given_up_begins_again)
{
    struct rig r;
    tree_server(&r);
    uint64_t passed = fault_passed(r.fault, "tree.snapshot");
    for (unsigned i = 0; i < 200; i++) {
        fault_arm(r.fault, "tree.snapshot", rand_range(&r.rand, 1, 12), rand_range(&r.rand, 1, 3));
        rig_create_files(&r, i, 1);
    }
    for (unsigned i = 0; i < 50; i++) {
        fault_arm(r.fault, "tree.snapshot", rand_range(&r.rand, 1, 200), 1);
        rig_check_files(&r, 200);
    }
    fault_disarm(r.fault, NULL);
    CHECK_TRUE(fault_passed(r.fault, "tree.snapshot") > passed + 1000);
    rig_kill(&r);
    rig_serve(&r);
    rig_check_files(&r, 200);
    rig_over(&r);
}

TEST(records_of_a_tree_are_not_opened_as_others)
{
    struct rig r;
    tree_server(&r);
    rig_create_files(&r, 0, 5);
    rig_kill(&r);
    r.opt.engine = METANODE_ENGINE_MEMORY;
    CHECK_RC(rig_start(&r), ERR_config);
    CHECK_TRUE(strstr(r.err.text, "'tree'") != NULL && strstr(r.err.text, "'memory'") != NULL);
    rig_kill(&r);
    r.opt.engine = METANODE_ENGINE_TREE;
    rig_serve(&r);
    rig_check_files(&r, 5);
    rig_over(&r);
}
