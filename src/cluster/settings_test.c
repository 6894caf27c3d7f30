#include "cluster/settings.h"

#include "base/mem.h"
#include "testing/testing.h"

#include <stdio.h>
#include <string.h>

#define ID "0b54e0f2-7c0e-4cfa-a1b5-5d9b0f1f6a11"
#define HEAD "[cluster]\nid = " ID "\n[meta.0]\naddress = 127.0.0.1:9400\ndirectory = meta.0\n"

static int parse(const char *text, struct cluster_settings **ret, struct err *e)
{
    *ret = NULL;
    return cluster_settings_parse(text, strlen(text), "/srv/dfs/cluster.ini", ret, e);
}

TEST(settings_of_a_small_cluster)
{
    CLEANUP(cluster_settings_freep) struct cluster_settings *s = NULL;
    struct err e = {0};
    CHECK_OK(parse(HEAD "[node.a]\n[node.b]\nhost = h2\n[target.0]\nnode = a\naddress = x:0\n"
                        "directory = /disk\n[target.1]\nnode = b\naddress = 127.0.0.1:1\n"
                        "directory = t1\nengine = ram\nio = uring\n",
                   &s, &e));
    CHECK_EQ(s->copies, 2);
    CHECK_EQ(s->domain, 0);
    CHECK_EQ(s->lease_ms, 10000);
    CHECK_EQ(s->dark_wait_ms, 60000);
    CHECK_EQ(s->meta_count, 1);
    CHECK_TEXT(s->metas[0].directory, "/srv/dfs/meta.0");
    CHECK_EQ(s->metas[0].engine, CLUSTER_META_AUTO);
    CHECK_EQ(s->metas[0].cache_bytes, UINT64_C(256) << 20);
    CHECK_EQ(s->metas[0].io, CLUSTER_IO_AUTO);
    CHECK_EQ(s->node_count, 2);
    CHECK_TEXT(s->user, "");
    CHECK_EQ(s->nodes[0].watchdog_ms, 10000);
    CHECK_EQ(s->nodes[0].slow_ms, 2000);
    CHECK_EQ(s->nodes[0].rest_ms, 600000);
    CHECK_TEXT(s->nodes[0].host, "a");
    CHECK_TEXT(s->nodes[1].host, "h2");
    CHECK_EQ(s->target_count, 2);
    CHECK_TEXT(s->targets[0].directory, "/disk");
    CHECK_EQ(s->targets[1].node, 1);
    CHECK_EQ(s->targets[0].engine, CLUSTER_ENGINE_AUTO);
    CHECK_EQ(s->targets[1].engine, CLUSTER_ENGINE_RAM);
    CHECK_EQ(s->targets[0].io, CLUSTER_IO_THREADS);
    CHECK_EQ(s->targets[1].io, CLUSTER_IO_URING);
    CHECK_EQ(s->targets[1].stream_bytes, UINT64_C(64) << 20);
    CHECK_EQ(s->targets[1].move_rate, 0);
    CHECK_EQ(s->targets[1].cache_bytes, UINT64_C(64) << 20);
    CHECK_EQ(s->targets[1].reads, 8192);
    CHECK_EQ(s->targets[1].read_bytes, UINT64_C(1) << 30);
    CHECK_EQ(s->targets[1].space_rest_ms, 60000);
    CHECK_EQ(s->targets[1].send_limit_ms, 60000);
    CHECK_EQ(s->targets[1].index_bytes, UINT64_C(64) << 20);
    CHECK_EQ(s->targets[1].entry_bytes, UINT64_C(64) << 20);
    CHECK_TEXT(s->targets[1].directory, "/srv/dfs/t1");
    CHECK_TEXT(s->client_secret, "/srv/dfs/secret/client.key");
    size_t at = 9;
    CHECK_OK(cluster_settings_find_target(s, "1", &at, &e));
    CHECK_EQ(at, 1);
    CHECK_OK(cluster_settings_find_node(s, "node.a", &at, &e));
    CHECK_EQ(at, 0);
    CHECK_RC(cluster_settings_find_meta(s, "7", &at, &e), ENOENT);
    CHECK_TRUE(strstr(e.text, "meta.0") != NULL);
}

TEST(settings_of_processes_and_disks)
{
    CLEANUP(cluster_settings_freep) struct cluster_settings *s = NULL;
    struct err e = {0};
    CHECK_OK(parse("[cluster]\nid = " ID
                   "\nuser = storage\ndomain = rack\n[meta.0]\naddress = 127.0.0.1:9400\n"
                   "directory = meta.0\n[node.a]\nwatchdog = 0s\nslow = 0s\nrest = 1h\n",
                   &s, &e));
    CHECK_TEXT(s->user, "storage");
    CHECK_EQ(s->nodes[0].watchdog_ms, 0);
    CHECK_EQ(s->nodes[0].slow_ms, 0);
    CHECK_EQ(s->nodes[0].rest_ms, 3600000);
    struct cluster_settings *bad = NULL;
    CHECK_RC(parse(HEAD "[node.a]\nrest = 1ms\n", &bad, &e), ERR_config);
    CHECK_TRUE(strstr(e.text, "rest") != NULL);
}

/* Space is not used again while a connection that sent from it may still be there. */
TEST(space_rests_as_long_as_a_send_may_take)
{
#define TARGET HEAD "[node.a]\n[target.0]\nnode = a\naddress = x:0\ndirectory = d\n"
    static const struct {
        const char *text;
        uint64_t rest_ms, limit_ms; /* 0: it is refused */
    } cases[] = {
        {TARGET "space_rest = 2s\nsend_limit = 2s\n", 2000, 2000},
        {TARGET "space_rest = 5min\n", 300000, 60000},
        {TARGET "send_limit = 10s\n", 60000, 10000},
        {TARGET "space_rest = 2s\n", 0, 0},
        {TARGET "space_rest = 59s\nsend_limit = 60s\n", 0, 0},
        {TARGET "send_limit = 2min\n", 0, 0},
        {TARGET "space_rest = 500ms\nsend_limit = 500ms\n", 0, 0},
    };
#undef TARGET
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        CLEANUP(cluster_settings_freep) struct cluster_settings *s = NULL;
        struct err e = {0};
        int rc = parse(cases[i].text, &s, &e);
        if (cases[i].rest_ms == 0) {
            CHECK_RC(rc, ERR_config);
            CHECK_TRUE(strstr(e.text, "space_rest") != NULL ||
                       strstr(e.text, "send_limit") != NULL);
        } else {
            CHECK_OK(rc);
            CHECK_EQ(s->targets[0].space_rest_ms, cases[i].rest_ms);
            CHECK_EQ(s->targets[0].send_limit_ms, cases[i].limit_ms);
        }
    }
}

TEST(rate_of_moves_is_none_or_one_that_ends)
{
    CLEANUP(cluster_settings_freep) struct cluster_settings *s = NULL, *bad = NULL;
    struct err e = {0};
    const char *head = HEAD "[node.a]\n[target.0]\nnode = a\naddress = x:0\ndirectory = d\n";
    char text[400];
    snprintf(text, sizeof text, "%smove_rate = 100M\n", head);
    CHECK_OK(parse(text, &s, &e));
    CHECK_EQ(s->targets[0].move_rate, UINT64_C(100) << 20);
    snprintf(text, sizeof text, "%smove_rate = 1K\n", head);
    CHECK_RC(parse(text, &bad, &e), ERR_config);
    CHECK_TRUE(strstr(e.text, "move_rate") != NULL);
}

TEST(memory_of_the_chunks_index_has_bounds)
{
    CLEANUP(cluster_settings_freep) struct cluster_settings *s = NULL, *bad = NULL;
    struct err e = {0};
    const char *head = HEAD "[node.a]\n[target.0]\nnode = a\naddress = x:0\ndirectory = d\n";
    char text[400];
    snprintf(text, sizeof text, "%sindex_bytes = 1G\nentry_bytes = 8M\n", head);
    CHECK_OK(parse(text, &s, &e));
    CHECK_EQ(s->targets[0].index_bytes, UINT64_C(1) << 30);
    CHECK_EQ(s->targets[0].entry_bytes, UINT64_C(8) << 20);
    snprintf(text, sizeof text, "%sindex_bytes = 1M\n", head);
    CHECK_RC(parse(text, &bad, &e), ERR_config);
    CHECK_TRUE(strstr(e.text, "index_bytes") != NULL);
    snprintf(text, sizeof text, "%sentry_bytes = 0\n", head);
    CHECK_RC(parse(text, &bad, &e), ERR_config);
    CHECK_TRUE(strstr(e.text, "entry_bytes") != NULL);
}

TEST(the_cache_of_the_metadata_is_a_part_of_its_memory)
{
    static const struct {
        const char *text;
        uint64_t mib;
    } good[] = {{"memory = 64M\n", 16},
                {"memory = 1G\n", 256},
                {"memory = 100G\n", 256},
                {"memory = 1G\ncache = 768M\n", 768},
                {"engine = memory\ncache = 100M\n", 100}};
    for (size_t i = 0; i < ARRAY_COUNT(good); i++) {
        CLEANUP(cluster_settings_freep) struct cluster_settings *s = NULL;
        struct err e = {0};
        char text[400];
        snprintf(text, sizeof text, "%s%s", HEAD, good[i].text);
        CHECK_OK(parse(text, &s, &e));
        CHECK_EQ(s->metas[0].cache_bytes, good[i].mib << 20);
    }
}

TEST(settings_say_what_is_wrong_and_where)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"[cluster]\nid = " ID "\n", "[meta.0]"},
        {"[cluster]\nid = 00000000-0000-0000-0000-000000000000\n[meta.0]\naddress = a:1\n"
         "directory = d\n",
         "cluster.ini:2"},
        {HEAD "[target.0]\nnode = x\naddress = x:0\ndirectory = d\n", "[node.x]"},
        {HEAD "[node.a]\n[target.0]\nnode = a\naddress = x:0\ndirectory = d\n"
              "[target.1]\nnode = a\naddress = x:0\ndirectory = d\n",
         "target.0"},
        {HEAD "[node.a]\ncopies = 3\n", "cluster.ini:7"},
        {HEAD "memory = 1G\ncache = 769M\n", "cluster.ini:7"},
        {HEAD "engine = ram\n", "engine"},
        {HEAD "[node.a]\n[target.0]\nnode = a\naddress = x:0\ndirectory = d\nengine = file\n"
              "device = /dev/sdz\n",
         "only with engine = extent"},
        {HEAD "[node.a]\n[target.0]\nnode = a\naddress = x:0\ndirectory = d\ndevice = /dev/sdz\n"
              "[target.1]\nnode = a\naddress = x:1\ndirectory = e\ndevice = /dev/sdz\n",
         "is the device of [target.0] already"},
        {HEAD "io = fast\n", "io"},
        {"[cluster]\nid = " ID "\nlease = 10\n", "cluster.ini:3"},
        {"[cluster]\nid = " ID "\ncopies = 6\n", "cluster.ini:3"},
        {"[cluster]\nid = " ID "\ndomain = street\n", "cluster.ini:3"},
        {"[cluster]\nid = " ID "\ndark_wait = 1ms\n", "cluster.ini:3"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        CLEANUP(cluster_settings_freep) struct cluster_settings *s = NULL;
        struct err e = {0};
        CHECK_RC(parse(bad[i].text, &s, &e), ERR_config);
        if (strstr(e.text, bad[i].says) == NULL) {
            CHECK_TEXT(e.text, bad[i].says); /* shows both */
        }
    }
}

TEST(a_secret_survives_its_file)
{
    struct cluster_secret a = {{1, 2, 0xff}}, b;
    char text[CLUSTER_SECRET_TEXT_SIZE];
    cluster_secret_to_text(&a, text);
    CHECK_OK(cluster_secret_from_text(text, strlen(text), &b));
    CHECK_BYTES(&a, &b, sizeof a);
    for (size_t len = 0; len < strlen(text) - 1; len++) {
        CHECK_RC(cluster_secret_from_text(text, len, &b), EINVAL);
    }
    text[3] = 'g';
    CHECK_RC(cluster_secret_from_text(text, strlen(text), &b), EINVAL);
}

/* Of an allocation that is just as long: nothing behind it is read. A file that was cut anywhere is
 * one of less settings, or an error that names the file. */
TEST(settings_stand_every_truncation)
{
    static const char small[] = HEAD "[node.a]\nhost = h\n[target.0]\nnode = a\naddress = x:0\n"
                                     "directory = /disk\nengine = ram\nweight = 3\n";
    for (size_t len = 1; len < sizeof small; len++) {
        struct cluster_settings *s = NULL;
        struct err e = {0};
        char *cut = mem_alloc(len);
        CHECK_TRUE(cut != NULL);
        memcpy(cut, small, len);
        int rc = cluster_settings_parse(cut, len, "/c/cluster.ini", &s, &e);
        CHECK_TRUE(rc == 0 ? s != NULL : s == NULL && strstr(e.text, "cluster.ini") != NULL);
        cluster_settings_free(s);
        mem_free(cut);
    }
}
