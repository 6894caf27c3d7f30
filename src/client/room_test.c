#include "client/io_priv.h"

#include "client/fake_world_priv.h"
#include "testing/testing.h"

/* Writers ask before a file becomes larger than a quota lets it. */

#define MAKE (OPENDFS_READ | OPENDFS_WRITE | OPENDFS_CREATE)
#define LIMIT 20000u

static uint8_t bytes[2 * LIMIT];

static void open_limited(struct world *w)
{
    world_open(w, testing_seed());
    w->cluster->size_quota = LIMIT;
    world_start(w);
    world_fill(bytes, sizeof bytes, 1);
}

TEST(what_fits_is_written_without_a_question)
{
    struct world w;
    open_limited(&w);
    struct opendfs_file *f = world_file(&w, "/f", MAKE);
    CHECK_EQ(DO(&w, pwrite, f, bytes, 100, 0), 100);
    CHECK_EQ(DO(&w, pwrite, f, bytes, LIMIT, 0), LIMIT);
    CHECK_EQ(DO(&w, pwrite, f, bytes, 10, LIMIT - 10), 10);
    CHECK_OK(DO(&w, ftruncate, f, LIMIT));
    CHECK_OK(DO(&w, fsync, f));
    CHECK_EQ(w.cluster->asked, 0);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, LIMIT);
    world_close(&w);
}

TEST(what_does_not_fit_is_refused_and_the_rest_stays)
{
    struct world w;
    open_limited(&w);
    struct opendfs_file *f = world_file(&w, "/f", MAKE);
    CHECK_EQ(DO(&w, pwrite, f, bytes, 5000, 0), 5000);
    CHECK_EQ(DO(&w, pwrite, f, bytes, LIMIT, 1), -EDQUOT);
    CHECK_EQ(DO(&w, pwrite_lent, f, bytes, LIMIT, 4096), -EDQUOT);
    CHECK_EQ(DO(&w, ftruncate, f, LIMIT + 1), -EDQUOT);
    CHECK_EQ(w.cluster->asked, 3);
    CHECK_EQ(DO(&w, pwrite, f, bytes, 4000, 5000), 4000);
    CHECK_OK(DO(&w, fsync, f)); /* a refused write is not told again */
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, 9000);
    f = world_file(&w, "/f", OPENDFS_READ);
    static uint8_t got[LIMIT];
    CHECK_EQ(DO(&w, pread, f, got, LIMIT, 0), 9000);
    CHECK_BYTES(got, bytes, 5000);
    CHECK_BYTES(got + 5000, bytes, 4000);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* Somebody made room, or the limit was raised: the next question says so. */
TEST(what_others_left_can_be_used)
{
    struct world w;
    open_limited(&w);
    struct opendfs_file *f = world_file(&w, "/f", MAKE);
    CHECK_EQ(DO(&w, pwrite, f, bytes, LIMIT, 1), -EDQUOT);
    w.cluster->size_quota = 2 * LIMIT;
    CHECK_EQ(DO(&w, pwrite, f, bytes, LIMIT, 1), LIMIT);
    CHECK_EQ(DO(&w, pwrite, f, bytes, LIMIT, LIMIT), LIMIT); /* the limit is known now */
    CHECK_EQ(w.cluster->asked, 2);
    w.cluster->size_quota = 0;
    CHECK_EQ(DO(&w, pwrite, f, bytes, 1, 2 * LIMIT), 1);
    CHECK_EQ(DO(&w, pwrite, f, bytes, 1, 3 * LIMIT), 1);
    CHECK_EQ(w.cluster->asked, 3);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, 3 * LIMIT + 1);
    world_close(&w);
}

struct pair {
    struct opendfs_op op[2];
    struct opendfs_file *file;
    unsigned done;
};
static void pair_done(struct opendfs_op *op)
{
    ((struct pair *)op->context)->done++;
}
static bool pair_is_done(void *ctx)
{
    return ((struct pair *)ctx)->done == 2;
}

/* What comes behind a write that asks waits for it: the order is that of the start. */
TEST(later_writes_do_not_overtake_one_that_asks)
{
    struct world w;
    open_limited(&w);
    static uint8_t got[2 * LIMIT];
    struct pair p = {.file = world_file(&w, "/f", MAKE)};
    CHECK_EQ(DO(&w, pwrite, p.file, bytes, 5000, 0), 5000);
    w.cluster->size_quota = 2 * LIMIT; /* which the client does not know */
    for (size_t i = 0; i < 2; i++) {
        p.op[i].done = pair_done;
        p.op[i].context = &p;
    }
    opendfs_async_pwrite(w.fs, &p.op[0], p.file, bytes + 1, LIMIT, 4000);
    opendfs_async_pwrite(w.fs, &p.op[1], p.file, bytes + 7, 100, 4000);
    CHECK_TRUE(loop_sim_run(w.sim, pair_is_done, &p, loop_sim_now_ns(w.sim) + 60 * SECOND));
    CHECK_EQ(p.op[0].result, LIMIT);
    CHECK_EQ(p.op[1].result, 100);
    CHECK_EQ(DO(&w, pread, p.file, got, sizeof got, 0), LIMIT + 4000);
    CHECK_BYTES(got + 4000, bytes + 7, 100);
    CHECK_BYTES(got + 4100, bytes + 101, LIMIT - 100);
    CHECK_OK(DO(&w, close, p.file, NULL, 0));
    world_close(&w);
}
