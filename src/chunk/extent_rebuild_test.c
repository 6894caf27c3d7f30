/*
 * chunk/extent_rebuild_test.c -- a store whose index, journal or containers are damaged is made
 * anew: what it gives back afterwards are bytes of a version that was committed, or it says that
 * they are lost; and nothing that is kept is given to others.
 */
#include "chunk/rig_put_priv.h"

#include "base/rand.h"
#include "chunk/extent_priv.h"
#include "chunk/rebuild.h"

#define CHUNKS 60u
#define SMALL 26624u
#define LARGE (300u * CHUNK_CELL + 100u)

struct rebuild_rig {
    struct store_rig *r;
    struct chunk_rebuild rebuild;
    uint64_t ver[CHUNKS]; /* the newest; 0: none */
    unsigned losses, gone, index_findings;
};

static struct chunk_key key_of(uint64_t i)
{
    return (struct chunk_key){.data_id = 100 + i / 4, .index = (uint32_t)(i % 4)};
}

static uint32_t length_of(uint64_t i)
{
    return i % 7 == 0 ? LARGE : SMALL;
}

static void heard_lost(struct chunk_rebuild *rebuild, const struct chunk_loss *loss)
{
    struct rebuild_rig *x = container_of(rebuild, struct rebuild_rig, rebuild);
    CHECK_TRUE(loss->why != NULL && loss->why[0] != 0);
    x->losses++;
    x->gone += loss->gone ? 1 : 0;
}

static void heard_index(void *arg, const struct tree_finding *f)
{
    struct rebuild_rig *x = container_of((struct chunk_rebuild *)arg, struct rebuild_rig, rebuild);
    CHECK_EQ(f->severity, TREE_FINDING_DAMAGE);
    x->index_findings++;
}

static void put_next(struct rebuild_rig *x, uint64_t i)
{
    x->ver[i]++;
    CHECK_OK(rig_put_whole(x->r, key_of(i), x->ver[i], length_of(i)));
}

/* Most of it is in the index, some in the journal alone. The process dies. */
static struct rebuild_rig *rebuild_rig_new(void)
{
    struct rebuild_rig *x = mem_zalloc(sizeof *x);
    CHECK_TRUE(x != NULL);
    x->r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    for (unsigned round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < CHUNKS; i++) {
            if (round == 0 || i % 3 == round) {
                put_next(x, i);
            }
        }
        rig_pass(x->r, 65000); /* a checkpoint */
    }
    for (uint64_t i = 0; i < CHUNKS; i += 5) {
        put_next(x, i);
    }
    for (uint64_t i = 3; i < CHUNKS; i += 20) {
        CHECK_OK(rig_delete(x->r, key_of(i)));
        x->ver[i] = 0;
    }
    CHECK_OK(rig_sync(x->r));
    loop_sim_kill(x->r->loop);
    return x;
}

static void rebuild_rig_free(struct rebuild_rig *x)
{
    rig_end(x->r);
    mem_free(x);
}

static int rebuild(struct rebuild_rig *x, bool without_journal)
{
    struct store_rig *r = x->r;
    x->losses = x->gone = x->index_findings = 0;
    x->rebuild = (struct chunk_rebuild){
        .without_journal = without_journal, .lost = heard_lost, .index = heard_index};
    r->opt.rebuild = &x->rebuild;
    int rc = rig_boot(r);
    if (rc == 0 || r->store != NULL) {
        CHECK_TRUE(rig_wait(r, rig_stop_in) < 0);
        CHECK_OK(rig_wait(r, rig_free_in));
    }
    loop_sim_kill(r->loop);
    r->opt.rebuild = NULL;
    CHECK_TRUE(rc < 0 || x->losses == x->rebuild.lost_count);
    return rc;
}

/* As others see it. Returns how many have their newest content. */
static unsigned check_chunks(struct rebuild_rig *x, bool may_return)
{
    unsigned newest = 0;
    for (uint64_t i = 0; i < CHUNKS; i++) {
        struct chunk_info info;
        int rc = rig_look_up(x->r, key_of(i), &info);
        if (rc == -ENOENT) {
            newest += x->ver[i] == 0 ? 1 : 0;
            continue;
        }
        CHECK_OK(rc);
        if ((info.flags & CHUNK_DAMAGED) != 0) {
            CHECK_ERR(rig_check(x->r, key_of(i), x->ver[i], length_of(i)), ERR_corrupt);
            continue;
        }
        CHECK_TRUE(may_return || x->ver[i] != 0);
        CHECK_TRUE(info.committed.ver > 0);
        CHECK_OK(rig_check(x->r, key_of(i), info.committed.ver, length_of(i)));
        newest += info.committed.ver == x->ver[i] ? 1 : 0;
    }
    return newest;
}

static void check_usable(struct rebuild_rig *x)
{
    struct store_rig *r = x->r;
    struct chunk_store_info info;
    r->opt.thorough = true;
    CHECK_OK(rig_boot(r));
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.wrong, 0);
    CHECK_TRUE(info.lossy);
    CHECK_EQ(info.chunk_count, x->rebuild.chunks);
}

/* As from another copy. */
static void heal(struct store_rig *r, struct chunk_key key, uint64_t ver, uint32_t length)
{
    uint8_t *bytes = mem_zalloc(length);
    uint32_t *crc = mem_calloc(CHUNK_CELLS_MAX, sizeof *crc);
    struct iovec iov = {.iov_base = bytes, .iov_len = length};
    CHECK_TRUE(bytes != NULL && crc != NULL);
    rig_fill(bytes, length, key, ver);
    for (uint32_t i = 0; i < chunk_cells(length); i++) {
        crc[i] = crc32c(0, bytes + (size_t)i * CHUNK_CELL, chunk_cell_bytes(length, i));
    }
    r->update = (struct chunk_update){.key = key,
                                      .chain = 5,
                                      .kind = CHUNK_WHOLE,
                                      .install = true,
                                      .identity = {.aepoch = 1, .ver = ver},
                                      .last_ver = ver,
                                      .new_length = length,
                                      .crc = crc,
                                      .crc_count = chunk_cells(length),
                                      .data = &iov,
                                      .data_count = 1};
    CHECK_OK(rig_wait(r, rig_update_in));
    mem_free(bytes);
    mem_free(crc);
}

/* New chunks get none of what is kept; what is damaged is healed by a whole content. */
static void check_goes_on(struct rebuild_rig *x, bool may_return)
{
    struct store_rig *r = x->r;
    unsigned before = check_chunks(x, may_return);
    for (uint64_t i = 0; i < 40; i++) {
        const struct chunk_key key = {.data_id = 100000 + i};
        CHECK_OK(rig_put_whole(r, key, 1, length_of(i)));
    }
    CHECK_EQ(check_chunks(x, may_return), before);
    for (uint64_t i = 0; i < CHUNKS; i++) {
        struct chunk_info info;
        if (rig_look_up(r, key_of(i), &info) == 0 && (info.flags & CHUNK_DAMAGED) != 0) {
            x->ver[i] = base_max(info.last_ver, x->ver[i]) + 1;
            heal(r, key_of(i), x->ver[i], length_of(i));
            CHECK_OK(rig_check(r, key_of(i), x->ver[i], length_of(i)));
        }
    }
    rig_stop(r);
    CHECK_OK(rig_boot(r));
    for (uint64_t i = 0; i < 40; i++) {
        const struct chunk_key key = {.data_id = 100000 + i};
        CHECK_OK(rig_check(r, key, 1, length_of(i)));
    }
    struct chunk_store_info info;
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.wrong, 0);
    rig_stop(r);
}

/* ---- Tests ---- */

TEST(of_a_sound_store_nothing_is_lost)
{
    struct rebuild_rig *x = rebuild_rig_new();
    CHECK_OK(rebuild(x, false));
    CHECK_EQ(x->losses, 0);
    CHECK_TRUE(x->rebuild.index_sound && !x->rebuild.index_gone && !x->rebuild.journal_broken);
    check_usable(x);
    CHECK_EQ(check_chunks(x, false), CHUNKS);
    check_goes_on(x, false);
    rebuild_rig_free(x);
}

/* Without superblocks no server takes it. */
TEST(an_index_without_superblocks_is_made_anew)
{
    struct rebuild_rig *x = rebuild_rig_new();
    CHECK_OK(disk_sim_corrupt(x->r->machine, "/data/index", 40, 1));
    CHECK_OK(disk_sim_corrupt(x->r->machine, "/data/index", 65536 + 40, 1));
    CHECK_ERR(rig_boot(x->r), ERR_corrupt);
    loop_sim_kill(x->r->loop);
    CHECK_OK(rebuild(x, false));
    CHECK_TRUE(!x->rebuild.index_sound);
    check_usable(x);
    CHECK_TRUE(check_chunks(x, true) > CHUNKS / 2);
    check_goes_on(x, true);
    rebuild_rig_free(x);
}

static void remove_files(struct rebuild_rig *x, const char *directory, const char *with)
{
    struct store_rig *r = x->r;
    CHECK_OK(loop_sim_process(r->sim, "data", 1, &r->loop));
    CHECK_OK(disk_sim_open(r->machine, r->loop, &r->disk));
    struct disk_req req = {.op = DISK_LIST, .path = directory};
    CHECK_TRUE(disk_now(r->disk, &req) >= 0);
    struct disk_names *names = req.names;
    for (size_t i = 0; i < names->count; i++) {
        CLEANUP(mem_freep) char *path = mem_printf("%s/%s", directory, names->name[i]);
        struct disk_req remove = {.op = DISK_REMOVE, .path = path};
        CHECK_TRUE(strstr(names->name[i], with) == NULL || disk_now(r->disk, &remove) == 0);
    }
    mem_free(names);
    loop_sim_kill(r->loop);
}

/* What the journal alone has is there: contents that need nothing of before. */
TEST(an_index_that_is_gone_leaves_what_the_journal_has)
{
    struct rebuild_rig *x = rebuild_rig_new();
    remove_files(x, "/data", "index");
    CHECK_ERR(rig_boot(x->r), ENOENT);
    loop_sim_kill(x->r->loop);
    CHECK_OK(rebuild(x, false));
    CHECK_TRUE(x->rebuild.index_gone);
    check_usable(x);
    CHECK_TRUE(check_chunks(x, true) >= CHUNKS / 5);
    check_goes_on(x, true);
    rebuild_rig_free(x);
}

/* What the newest checkpoint of the index has is there; not what has been given to others since. */
TEST(a_journal_that_is_gone_leaves_what_the_index_has)
{
    struct rebuild_rig *x = rebuild_rig_new();
    remove_files(x, "/data/journal", "journal");
    CHECK_OK(rebuild(x, false));
    check_usable(x);
    CHECK_TRUE(check_chunks(x, true) >= CHUNKS / 2);
    check_goes_on(x, true);
    rebuild_rig_free(x);
}

TEST(a_journal_is_passed_over_when_that_is_wanted)
{
    struct rebuild_rig *x = rebuild_rig_new();
    CHECK_OK(rebuild(x, true));
    check_usable(x);
    (void)check_chunks(x, true);
    check_goes_on(x, true);
    rebuild_rig_free(x);
}

/* Bytes that do not match are not kept, and the chunk is known to be damaged. */
TEST(bad_bytes_are_told_of)
{
    struct rebuild_rig *x = rebuild_rig_new();
    for (uint64_t unit = 1; unit < 2500; unit += 40) {
        CHECK_OK(disk_sim_corrupt(x->r->machine, "/data/space.0000", unit * CHUNK_UNIT + 5, 1));
    }
    CHECK_OK(rebuild(x, false));
    CHECK_TRUE(x->losses > 0 && x->losses < CHUNKS);
    check_usable(x);
    struct chunk_store_info info;
    chunk_store_info(x->r->store, &info);
    CHECK_EQ(info.damaged_count, x->losses);
    CHECK_EQ(check_chunks(x, false), CHUNKS - x->losses);
    for (uint64_t i = 0; i < CHUNKS; i++) {
        struct chunk_info c;
        if (rig_look_up(x->r, key_of(i), &c) == 0 && (c.flags & CHUNK_DAMAGED) != 0) {
            CHECK_EQ(c.last_ver, x->ver[i]);
        }
    }
    check_goes_on(x, false);
    rebuild_rig_free(x);
}

static uint64_t file_bytes(struct rebuild_rig *x, const char *path)
{
    struct store_rig *r = x->r;
    CHECK_OK(loop_sim_process(r->sim, "data", 1, &r->loop));
    CHECK_OK(disk_sim_open(r->machine, r->loop, &r->disk));
    struct disk_req req = {.op = DISK_STAT, .path = path};
    int64_t rc = disk_now(r->disk, &req);
    loop_sim_kill(r->loop);
    return rc < 0 ? 0 : req.stat.size_bytes;
}

/* Anything may be damaged. What is there afterwards is right; what was not touched is all there. */
static void spoil(struct rebuild_rig *x, struct rand *rand, const char *path, unsigned places)
{
    uint64_t bytes = file_bytes(x, path);
    for (unsigned i = 0; i < places && bytes > 0; i++) {
        uint64_t at = rand_below(rand, bytes);
        for (uint64_t k = at; k < base_min(bytes, at + 8); k++) {
            CHECK_OK(disk_sim_corrupt(x->r->machine, path, k, (uint8_t)rand_range(rand, 1, 255)));
        }
    }
}

TEST(whatever_is_damaged_no_wrong_bytes_come_back)
{
    struct rand rand;
    rand_seed(&rand, testing_seed());
    for (unsigned seed = 0; seed < 12; seed++) {
        struct rebuild_rig *x = rebuild_rig_new();
        if (seed % 3 != 0) {
            spoil(x, &rand, "/data/index", 1 + (unsigned)rand_below(&rand, 60));
        }
        if (seed % 3 != 1) {
            spoil(x, &rand, "/data/journal/0000000000000001.journal", 3);
        }
        if (seed % 4 == 3) {
            spoil(x, &rand, "/data/space.0000", 5);
        }
        CHECK_OK(rebuild(x, false));
        check_usable(x);
        (void)check_chunks(x, true);
        check_goes_on(x, true);
        rebuild_rig_free(x);
    }
}

/* What only the kernel had is on the medium afterwards. */
TEST(what_is_kept_survives_a_power_cut)
{
    struct rebuild_rig *x = rebuild_rig_new();
    x->r->opt.flush_ms = 600000;
    CHECK_OK(rig_boot(x->r));
    for (uint64_t i = 0; i < CHUNKS; i += 2) {
        put_next(x, i);
    }
    for (uint64_t i = 0; i < 70; i++) { /* a list of their commits */
        const struct chunk_key key = {.data_id = 100000 + i};
        CHECK_OK(rig_put_whole(x->r, key, 1, SMALL));
    }
    rig_pass(x->r, 20);
    loop_sim_kill(x->r->loop);
    CHECK_OK(rebuild(x, false));
    CHECK_EQ(x->losses, 0);
    disk_sim_crash_mode(x->r->machine, DISK_SIM_LOSE_ALL);
    disk_sim_crash(x->r->machine);
    loop_sim_reboot(x->r->sim, 1);
    check_usable(x);
    CHECK_EQ(check_chunks(x, false), CHUNKS);
    rebuild_rig_free(x);
}

/* That the journal broke off decides what is believed: one that ended early has not forgotten it
 * for the next. */
TEST(a_broken_journal_stays_one_until_it_is_done)
{
    struct rebuild_rig *x = rebuild_rig_new();
    struct store_rig *r = x->r;
    uint64_t bytes = file_bytes(x, "/data/journal/0000000000000001.journal");
    CHECK_TRUE(bytes > 3 * CHUNK_CELL);
    CHECK_OK(disk_sim_corrupt(r->machine, "/data/journal/0000000000000001.journal",
                              2 * CHUNK_CELL + 100, 1));
    for (unsigned life = 0; life < 3; life++) {
        if (life < 2) {
            disk_sim_fail(r->machine, life == 0 ? DISK_RENAME : DISK_WRITE, "index.made", 1, 0,
                          -ENOSPC);
        }
        CHECK_EQ(rebuild(x, false) == 0, life == 2);
        CHECK_TRUE(x->rebuild.journal_broken);
        disk_sim_heal(r->machine);
    }
    check_usable(x);
    (void)check_chunks(x, true);
    check_goes_on(x, true);
    rebuild_rig_free(x);
}

/* Their records carry them, and the containers were not flushed: the medium has them there only. */
TEST(contents_that_only_records_have_are_placed)
{
    struct rebuild_rig *x = rebuild_rig_new();
    struct store_rig *r = x->r;
    r->opt.flush_ms = 10000000;
    CHECK_OK(rig_boot(r));
    CHECK_OK(rig_sync(r));
    for (uint64_t i = 1; i < CHUNKS; i += 7) {
        put_next(x, i);
    }
    CHECK_TRUE(r->store->extent->container[0]->late && !r->store->extent->container[0]->dirty);
    CHECK_OK(rig_sync(r));
    loop_sim_kill(r->loop);
    disk_sim_crash_mode(r->machine, DISK_SIM_LOSE_ALL);
    disk_sim_crash(r->machine);
    loop_sim_reboot(r->sim, 1);
    for (unsigned again = 0; again < 2; again++) { /* a second one finds the files of the first */
        CHECK_OK(rebuild(x, false));
        CHECK_EQ(x->losses, 0);
        CHECK_TRUE(!x->rebuild.journal_broken);
    }
    check_usable(x);
    CHECK_EQ(check_chunks(x, false), CHUNKS);
    check_goes_on(x, false);
    rebuild_rig_free(x);
}

/* One that ends early is begun again; until it is through the old files are there. */
TEST(a_rebuild_that_ends_early_is_done_again)
{
    struct rand rand;
    rand_seed(&rand, testing_seed());
    for (unsigned seed = 0; seed < 8; seed++) {
        struct rebuild_rig *x = rebuild_rig_new();
        struct store_rig *r = x->r;
        for (unsigned life = 0; life < 3; life++) {
            x->rebuild = (struct chunk_rebuild){.lost = heard_lost, .index = heard_index};
            r->opt.rebuild = &x->rebuild;
            CHECK_OK(loop_sim_process(r->sim, "data", 1, &r->loop));
            CHECK_OK(disk_sim_open(r->machine, r->loop, &r->disk));
            r->env = (struct env){.loop = r->loop, .disk = r->disk};
            r->over = false;
            loop_sim_enter(r->loop, rig_open_in, r);
            (void)loop_sim_run(r->sim, rig_is_over, r,
                               loop_sim_now_ns(r->sim) + rand_below(&rand, 40000000));
            loop_sim_kill(r->loop);
            if (rand_chance(&rand, 1, 2)) {
                disk_sim_crash(r->machine);
                loop_sim_reboot(r->sim, 1);
            }
        }
        CHECK_OK(rebuild(x, false));
        CHECK_EQ(x->losses, 0);
        check_usable(x);
        CHECK_EQ(check_chunks(x, false), CHUNKS);
        check_goes_on(x, false);
        rebuild_rig_free(x);
    }
}
