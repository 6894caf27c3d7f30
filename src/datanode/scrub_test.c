/* datanode/scrub_test.c -- damage that no reader has met is found, repaired and told. */
#include "datanode/scrub.h"

#include "datanode/rig_spoil_priv.h"
#include "testing/testing.h"

#define ROUND_MS 60000u
#define FILES 12u

static void open_scrubbed(struct rig *r, unsigned targets)
{
    const struct rig_options opt = {.seed = testing_seed(),
                                    .targets = targets,
                                    .engine = DATANODE_ENGINE_FILE,
                                    .scrub_ms = ROUND_MS};
    rig_chain_with(r, &opt);
    struct rig_io io = io_first;
    for (unsigned i = 0; i < FILES; i++) {
        io.data_id = 100 + i;
        CHECK_OK(rig_write(r, &io));
        CHECK_OK(rig_sync(r, &io));
    }
}

TEST(scrub_finds_damage_that_nobody_reads_and_has_it_repaired)
{
    struct rig r;
    open_scrubbed(&r, 2);
    spoil_data(&r, 2, 104, 4096 + 10);
    spoil_data(&r, 2, 109, 8192 + 10);
    spoil_data(&r, 1, 107, 4096 + 10);
    for (unsigned i = 0; i < 4; i++) {
        rig_for_ms(&r, ROUND_MS);
    }
    CHECK_TRUE(disk_sim_begun(r.disk[1], DISK_SCRUBBING) >= FILES);
    CHECK_TRUE(disk_sim_begun(r.disk[1], DISK_COPYING) > 0); /* the repair, and of the other's */
    CHECK_EQ(rig_info(&r, 1).damaged_count + rig_info(&r, 2).damaged_count, 0);
    CHECK_EQ(r.target[2].repaired, 2);
    CHECK_EQ(r.target[1].repaired, 1);
    const struct proto_scrub_figures *f = &r.target[2].figures.scrub;
    CHECK_EQ(f->found_ever, 2);
    CHECK_EQ(f->repaired, 2);
    CHECK_TRUE(f->last_ms > 0 && f->last_took_ms > 0);
    struct rig_io io = io_first;
    for (unsigned host = 1; host <= 2; host++) {
        for (unsigned i = 0; i < FILES; i++) {
            io.host = host;
            io.data_id = 100 + i;
            CHECK_OK(rig_read(&r, &io));
        }
    }
    rig_close(&r);
}

/* A worker that is stopped in the middle of it ends in good order and goes on after its start. */
TEST(scrub_ends_with_its_worker_and_goes_on_with_the_next)
{
    struct rig r;
    open_scrubbed(&r, 1);
    for (unsigned i = 0; i < 5; i++) {
        rig_for_ms(&r, 20000 + 777 * i);
        rig_stop(&r, 1);
        rig_start(&r, 1);
        RIG_UNTIL(&r, rig_info(&r, 1).target != 0);
    }
    RIG_UNTIL(&r, r.target[1].figures.scrub.last_ms > 0);
    CHECK_EQ(r.target[1].figures.scrub.found_ever, 0);
    rig_close(&r);
}
