/* chunk/open_test.c -- who may open a directory, and what it says of itself. */
#include "chunk/look.h"
#include "chunk/rig_store_priv.h"

#include <string.h>

/* A life that ends before it has begun. */
static int refused(struct store_rig *r)
{
    int rc = rig_boot(r);
    loop_sim_kill(r->loop);
    return rc;
}

static unsigned strangers(enum chunk_engine engine)
{
    struct store_rig *r = rig_new(engine, testing_seed());
    rig_stop(r);
    r->opt.cluster.bytes[3] ^= 1;
    CHECK_RC(refused(r), ERR_wrong_cluster);
    CHECK_TRUE(r->error.text[0] != 0);
    r->opt.cluster.bytes[3] ^= 1;
    r->opt.directory = "/nowhere";
    CHECK_RC(refused(r), ENOENT);
    r->opt.directory = engine == CHUNK_ENGINE_FILE ? "/data/00" : "/data/journal";
    CHECK_ERR(refused(r), ERR_corrupt);
    r->opt.directory = "/data";
    CHECK_OK(rig_boot(r));
    const struct chunk_format_options f = {.target = {.bytes = "target"}};
    struct chunk_options opt = r->opt;
    opt.env = &r->env;
    CHECK_RC(chunk_store_format(&opt, &f, NULL), ENOTEMPTY);
    struct chunk_store *second = NULL;
    opt.user = &r->user;
    CHECK_RC(chunk_store_open(&opt, &second, NULL), ERR_in_use);
    rig_stop(r);
    rig_end(r);
    return 1;
}

TEST(strangers_are_refused)
{
    CHECK_TRUE(strangers(CHUNK_ENGINE_FILE) > 0);
    CHECK_TRUE(strangers(CHUNK_ENGINE_EXTENT) > 0);
}

/* Another engine would find nothing, and say that all is well. */
static unsigned other_engine(enum chunk_engine made, enum chunk_engine wanted)
{
    struct store_rig *r = rig_new(made, testing_seed());
    rig_stop(r);
    r->opt.engine = wanted;
    CHECK_RC(refused(r), ERR_config);
    CHECK_TRUE(strstr(r->error.text, "was made with engine = ") != NULL);
    r->opt.engine = made;
    CHECK_OK(rig_boot(r));
    rig_stop(r);
    rig_end(r);
    return 1;
}

TEST(another_engine_is_refused)
{
    CHECK_TRUE(other_engine(CHUNK_ENGINE_FILE, CHUNK_ENGINE_EXTENT) > 0);
    CHECK_TRUE(other_engine(CHUNK_ENGINE_EXTENT, CHUNK_ENGINE_FILE) > 0);
}

/* It is not taken for one of the other engine, which has no index either. */
TEST(a_directory_without_its_index_is_what_it_was)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    rig_stop(r);
    CHECK_OK(loop_sim_process(r->sim, "data", 1, &r->loop));
    CHECK_OK(disk_sim_open(r->machine, r->loop, &r->disk));
    struct disk_req req = {.op = DISK_REMOVE, .path = "/data/index"};
    CHECK_EQ(disk_now(r->disk, &req), 0);
    struct chunk_looked looked;
    CHECK_OK(chunk_store_look(r->disk, "/data", &looked, NULL));
    CHECK_EQ(looked.engine, CHUNK_ENGINE_EXTENT);
    loop_sim_kill(r->loop);
    CHECK_RC(refused(r), ENOENT);
    r->opt.engine = CHUNK_ENGINE_FILE;
    CHECK_RC(refused(r), ERR_config);
    rig_end(r);
}

static uint64_t lives(enum chunk_engine engine)
{
    struct store_rig *r = rig_new(engine, testing_seed());
    struct chunk_store_info info;
    struct chunk_looked looked;
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.incarnation, 1);
    CHECK_OK(chunk_store_look(r->disk, "/data", &looked, NULL));
    CHECK_TRUE(!looked.clean);
    rig_stop(r);
    CHECK_OK(rig_boot(r));
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.incarnation, 2);
    CHECK_TRUE(!info.lossy);
    CHECK_OK(chunk_store_look(r->disk, "/data", &looked, NULL));
    CHECK_EQ(looked.engine, engine);
    CHECK_EQ(looked.incarnation, 2);
    CHECK_TRUE(uuid_equal(&looked.cluster, &r->opt.cluster));
    CHECK_TRUE(uuid_equal(&looked.target, &info.target));
    CHECK_RC(chunk_store_look(r->disk, "/nowhere", &looked, NULL), ENOENT);
    rig_stop(r);
    rig_end(r);
    return info.incarnation;
}

TEST(each_life_has_a_number)
{
    CHECK_EQ(lives(CHUNK_ENGINE_FILE), 2);
    CHECK_EQ(lives(CHUNK_ENGINE_EXTENT), 2);
}

/* Where nobody says otherwise 2 % of a disk are kept free for what has to be done in any case. */
static bool is_low_with(struct store_rig *r, uint64_t free_bytes)
{
    struct chunk_store_info info;
    disk_sim_capacity(r->machine, disk_sim_used_bytes(r->machine) + free_bytes);
    rig_pass(r, 12000); /* one that has nothing to do looks at its disk now and then */
    chunk_store_info(r->store, &info);
    return info.low;
}
static uint64_t reserve_of(enum chunk_engine engine, uint64_t total_bytes)
{
    const uint64_t step = UINT64_C(64) << 20;
    struct store_rig *r = rig_new(engine, testing_seed());
    rig_stop(r);
    disk_sim_capacity(r->machine, total_bytes);
    r->opt.low_bytes = 0;
    CHECK_OK(rig_boot(r));
    uint64_t most = step;
    while (is_low_with(r, most)) {
        most += step;
    }
    rig_stop(r);
    rig_end(r);
    return most - step; /* a little less than it keeps */
}

TEST(a_part_of_the_disk_is_kept_free)
{
    static const enum chunk_engine engines[] = {CHUNK_ENGINE_FILE, CHUNK_ENGINE_EXTENT};
    static const uint64_t gigabytes[] = {10, 51, 100};
    for (size_t i = 0; i < ARRAY_COUNT(engines); i++) {
        for (size_t k = 0; k < ARRAY_COUNT(gigabytes); k++) {
            uint64_t total = gigabytes[k] << 30, kept = reserve_of(engines[i], total);
            CHECK_TRUE(kept <= total / 50);
            CHECK_TRUE(kept + (UINT64_C(128) << 20) >= total / 50);
        }
    }
}
