#include "client/inode_priv.h"

#include "client/fake_world_priv.h"
#include "testing/testing.h"

/* What a rename has replaced can be opened by its number for a moment. */

static uint64_t make(struct world *w, const char *path, const char *text)
{
    const struct opendfs_stat v = {.mode = 0644};
    CHECK_OK(DO(w, create, path, &v, 0, text, strlen(text)));
    return w->op.stat.ino;
}
static void keep(void *ctx)
{
    client_keep_replaced(((struct world *)ctx)->fs);
}
static unsigned releases(const struct world *w)
{
    return w->cluster->executed[PROTO_OP_release % 1024];
}

TEST(what_was_replaced_is_open_for_a_moment)
{
    struct world w;
    char got[8] = "";
    world_open(&w, testing_seed());
    world_start(&w);
    loop_sim_enter(w.client_loop, keep, &w);
    uint64_t old = make(&w, "/f", "old");
    (void)make(&w, "/new", "new");
    CHECK_OK(DO(&w, rename, "/new", "/f", 0));
    struct opendfs_op *op = world_op(&w);
    op->at = old;
    opendfs_async_open(w.fs, op, "", OPENDFS_READ, 0);
    CHECK_OK(world_wait(&w));
    struct opendfs_file *f = w.op.file;
    CHECK_EQ(DO(&w, pread, f, got, sizeof got, 0), 3);
    CHECK_BYTES(got, "old", 3);
    world_run(&w, 3 * SECOND);
    CHECK_EQ(releases(&w), 0); /* it is open */
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_run(&w, SECOND);
    CHECK_EQ(releases(&w), 1);
    CHECK_TRUE(fake_find(w.cluster, old) == NULL);
    world_close(&w);
}

TEST(nothing_lingers_where_nobody_asked_for_it)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    uint64_t old = make(&w, "/f", "old");
    (void)make(&w, "/new", "new");
    CHECK_OK(DO(&w, rename, "/new", "/f", 0));
    CHECK_TRUE(fake_find(w.cluster, old) == NULL);
    world_run(&w, 3 * SECOND);
    CHECK_EQ(releases(&w), 0);
    world_close(&w);
}

/* A session holds so many files without a name, and no more. */
TEST(many_do_not_linger)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    loop_sim_enter(w.client_loop, keep, &w);
    (void)make(&w, "/f", "old");
    for (unsigned i = 0; i < 200; i++) {
        (void)make(&w, "/new", "new");
        CHECK_OK(DO(&w, rename, "/new", "/f", 0));
    }
    CHECK_TRUE(releases(&w) <= 200 && w.fs->lingers.count <= 128);
    world_run(&w, 3 * SECOND);
    CHECK_EQ(w.fs->lingers.count, 0);
    world_close(&w);
}
