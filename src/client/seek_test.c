#include "client/io_priv.h"

#include "client/fake_world_priv.h"
#include "testing/testing.h"

/* Where a file has bytes and holes. */

#define RW (OPENDFS_READ | OPENDFS_WRITE)
#define MAKE (RW | OPENDFS_CREATE)
#define CHUNK ((uint64_t)FAKE_CHUNK_BYTES)
#define CELL 4096u
#define DATA OPENDFS_SEEK_DATA
#define HOLE OPENDFS_SEEK_HOLE
#define LARGEST (UINT64_C(1) << 60)

static uint8_t bytes[8 * FAKE_CHUNK_BYTES], zeros[8 * FAKE_CHUNK_BYTES];

static struct opendfs_file *begin(struct world *w)
{
    world_open(w, testing_seed());
    world_start(w);
    memset(bytes, 7, sizeof bytes);
    return world_file(w, "/f", MAKE);
}
static void finish(struct world *w, struct opendfs_file *f)
{
    CHECK_OK(DO(w, close, f, NULL, 0));
    world_close(w);
}
static void write_at(struct world *w, struct opendfs_file *f, uint64_t at, size_t len)
{
    CHECK_EQ(DO(w, pwrite, f, bytes, len, at), (int)len);
}
/* The result may be larger than an int. */
static int64_t seek(struct world *w, struct opendfs_file *f, uint64_t at, int whence)
{
    (void)DO(w, seek, f, at, whence);
    return w->op.result;
}

TEST(small_files_are_bytes_all_over)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(seek(&w, f, 0, DATA), -ENXIO); /* it is empty */
    CHECK_EQ(seek(&w, f, 0, HOLE), -ENXIO);
    write_at(&w, f, 10, 100);
    CHECK_EQ(seek(&w, f, 0, DATA), 0);
    CHECK_EQ(seek(&w, f, 50, DATA), 50);
    CHECK_EQ(seek(&w, f, 50, HOLE), 110);
    CHECK_EQ(seek(&w, f, 110, HOLE), -ENXIO);
    CHECK_EQ(seek(&w, f, 0, 5), -EINVAL);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    f = world_file(&w, "/g", MAKE);
    CHECK_OK(DO(&w, ftruncate, f, LARGEST)); /* nothing was ever in it */
    CHECK_EQ(seek(&w, f, 0, HOLE), 0);
    CHECK_EQ(seek(&w, f, 10, DATA), -ENXIO);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    f = world_file(&w, "/g", OPENDFS_READ); /* the fake server has a cell of zeros then */
    CHECK_TRUE(seek(&w, f, 0, HOLE) <= CELL);
    CHECK_EQ(seek(&w, f, CELL, DATA), -ENXIO);
    finish(&w, f);
}

/* Also what has not gone out yet: it goes now. */
TEST(what_was_written_is_found_and_nothing_else)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    write_at(&w, f, 2 * CHUNK + CELL, CELL);
    write_at(&w, f, 5 * CHUNK - CELL, CELL + 100);
    CHECK_OK(DO(&w, ftruncate, f, 9 * CHUNK + 7));
    CHECK_EQ(seek(&w, f, 0, HOLE), 0);
    CHECK_EQ(seek(&w, f, 0, DATA), (int64_t)(2 * CHUNK + CELL));
    CHECK_EQ(seek(&w, f, 2 * CHUNK + CELL + 5, DATA), (int64_t)(2 * CHUNK + CELL + 5));
    CHECK_EQ(seek(&w, f, 2 * CHUNK + CELL + 5, HOLE), (int64_t)(2 * CHUNK + 2 * CELL));
    CHECK_EQ(seek(&w, f, 2 * CHUNK + 2 * CELL, DATA), (int64_t)(5 * CHUNK - CELL));
    CHECK_EQ(seek(&w, f, 5 * CHUNK - CELL, HOLE), (int64_t)(5 * CHUNK + CELL));
    CHECK_EQ(seek(&w, f, 5 * CHUNK + CELL, DATA), -ENXIO);
    CHECK_EQ(seek(&w, f, 5 * CHUNK + CELL, HOLE), (int64_t)(5 * CHUNK + CELL));
    CHECK_EQ(seek(&w, f, 9 * CHUNK + 7, DATA), -ENXIO);
    finish(&w, f);
}

/* Cells of zeros are not stored, so they are holes again. */
TEST(written_zeros_are_holes)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    write_at(&w, f, 0, 4 * CHUNK);
    CHECK_EQ(DO(&w, pwrite, f, zeros, 2 * CELL, CHUNK + CELL), (int)(2 * CELL));
    CHECK_EQ(seek(&w, f, 0, HOLE), (int64_t)(CHUNK + CELL));
    CHECK_EQ(seek(&w, f, CHUNK + CELL, DATA), (int64_t)(CHUNK + 3 * CELL));
    CHECK_EQ(seek(&w, f, CHUNK + 3 * CELL, HOLE), (int64_t)(4 * CHUNK));
    finish(&w, f);
}

TEST(dense_chunks_are_not_asked_one_by_one)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    for (unsigned k = 0; k < 20; k++) {
        write_at(&w, f, k * 4 * CHUNK, 4 * CHUNK);
    }
    CHECK_EQ(seek(&w, f, 0, DATA), 0);
    CHECK_EQ(seek(&w, f, 0, HOLE), (int64_t)(80 * CHUNK));
    CHECK_EQ(w.cluster->extents, 0);
    finish(&w, f);
}

TEST(holes_of_any_size_cost_a_few_questions)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    write_at(&w, f, CHUNK << 31, 10);
    CHECK_OK(DO(&w, ftruncate, f, LARGEST));
    CHECK_OK(DO(&w, fsync, f));
    unsigned asked = w.cluster->stats;
    CHECK_EQ(seek(&w, f, 5, DATA), (int64_t)(CHUNK << 31));
    CHECK_EQ(seek(&w, f, CHUNK << 31, HOLE), (int64_t)((CHUNK << 31) + CELL));
    CHECK_EQ(seek(&w, f, (CHUNK << 31) + CELL, DATA), -ENXIO);
    CHECK_EQ(seek(&w, f, LARGEST - 1, HOLE), (int64_t)(LARGEST - 1));
    CHECK_EQ(seek(&w, f, LARGEST - 1, DATA), -ENXIO);
    CHECK_TRUE(w.cluster->stats - asked < 30 * FAKE_CHAINS);
    finish(&w, f);
}

/* Data nodes of an older version know chunks only. */
TEST(members_that_cannot_say_where_have_bytes_all_over)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    for (unsigned k = 1; k < NODES; k++) {
        w.node[k].old = true;
    }
    write_at(&w, f, CHUNK + 2 * CELL, CELL);
    write_at(&w, f, 4 * CHUNK, CELL);
    CHECK_EQ(seek(&w, f, 0, DATA), (int64_t)CHUNK);
    CHECK_EQ(seek(&w, f, CHUNK, HOLE), (int64_t)(CHUNK + 3 * CELL));
    CHECK_EQ(seek(&w, f, CHUNK + 3 * CELL, DATA), (int64_t)(4 * CHUNK));
    finish(&w, f);
}

#define FILE_BYTES (6 * CHUNK)

struct model {
    uint8_t bytes[FILE_BYTES + CELL];
    uint64_t size;
};

static bool model_cell(const struct model *m, uint64_t at)
{
    at -= at % CELL;
    return m->bytes[at] != 0 || memcmp(m->bytes + at, m->bytes + at + 1, CELL - 1) != 0;
}
static int64_t model_seek(const struct model *m, uint64_t at, int whence)
{
    while (at < m->size && model_cell(m, at) != (whence == DATA)) {
        at = base_align_down(at, CELL) + CELL;
    }
    return at < m->size ? (int64_t)at : whence == DATA ? -ENXIO : (int64_t)m->size;
}
static void model_step(struct world *w, struct model *m, struct rand *r, struct opendfs_file *f)
{
    uint64_t at = rand_below(r, FILE_BYTES - 1);
    size_t len = (size_t)base_min(rand_below(r, CHUNK) + 1, FILE_BYTES - at);
    bool zero = rand_below(r, 3) == 0;
    switch (rand_below(r, 4)) {
    case 0:
        CHECK_OK(DO(w, ftruncate, f, at + 2 * CELL));
        if (at + 2 * CELL < m->size) {
            memset(m->bytes + at + 2 * CELL, 0, (size_t)(sizeof m->bytes - at - 2 * CELL));
        }
        m->size = at + 2 * CELL;
        break;
    default:
        CHECK_EQ(DO(w, pwrite, f, zero ? zeros : bytes, len, at), (int)len);
        memset(m->bytes + at, zero ? 0 : 7, len);
        m->size = base_max(m->size, at + len);
    }
}

/* Members fail now and then. */
TEST(random_files_have_the_holes_of_a_model)
{
    static struct model m;
    for (uint64_t round = 0; round < 6; round++) {
        struct world w;
        struct rand r;
        struct opendfs_file *f = begin(&w);
        rand_seed(&r, testing_seed() + round);
        memset(&m, 0, sizeof m);
        m.size = FILE_BYTES; /* no small file: those have no holes */
        CHECK_OK(DO(&w, ftruncate, f, m.size));
        for (unsigned k = 0; k < 60; k++) {
            struct fake_node *n = &w.node[1 + rand_below(&r, FAKE_TARGETS)];
            model_step(&w, &m, &r, f);
            m.size = base_min(m.size, FILE_BYTES);
            CHECK_OK(DO(&w, ftruncate, f, m.size));
            n->stat_fault = (struct fake_fault){.rc = -ERR_pending, .count = k % 3};
            for (unsigned x = 0; x < 4 && m.size > 0; x++) {
                uint64_t at = rand_below(&r, m.size);
                int whence = x % 2 == 0 ? DATA : HOLE;
                CHECK_EQ(seek(&w, f, at, whence), model_seek(&m, at, whence));
            }
        }
        finish(&w, f);
    }
}
