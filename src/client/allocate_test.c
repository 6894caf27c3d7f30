#include "client/io_priv.h"

#include "client/fake_beside_priv.h"
#include "testing/testing.h"

/* fallocate: space that is asked for, holes, ranges of zeros. */

#define RW (OPENDFS_READ | OPENDFS_WRITE)
#define MAKE (RW | OPENDFS_CREATE)
#define CHUNK ((uint64_t)FAKE_CHUNK_BYTES)
#define CELL 4096u
#define KEEP OPENDFS_ALLOCATE_KEEP_SIZE
#define PUNCH (KEEP | OPENDFS_ALLOCATE_PUNCH)
#define ZERO OPENDFS_ALLOCATE_ZERO
#define SPACE (8 * CHUNK)
#define FILE_BYTES (6 * CHUNK)

struct model {
    uint8_t bytes[FILE_BYTES];
    uint64_t size;
};
static struct model m;
static uint8_t bytes[FILE_BYTES], got[FILE_BYTES + 1];

static struct opendfs_file *begin(struct world *w)
{
    world_open(w, testing_seed());
    w->cluster->available = SPACE;
    world_start(w);
    memset(bytes, 7, sizeof bytes);
    memset(&m, 0, sizeof m);
    return world_file(w, "/f", MAKE);
}
static void finish(struct world *w, struct opendfs_file *f)
{
    CHECK_OK(DO(w, close, f, NULL, 0));
    world_close(w);
}
static struct fake_chunk *chunk_of(struct world *w, uint64_t offset)
{
    const struct fake_inode *n = fake_path(w->cluster, "f");
    return fake_chunk(w->cluster,
                      (struct proto_chunk){n->layout.data_id, (uint32_t)(offset / CHUNK)}, false);
}
static void put(struct world *w, struct opendfs_file *f, uint64_t at, size_t len)
{
    CHECK_EQ(DO(w, pwrite, f, bytes, len, at), (int)len);
    memset(m.bytes + at, 7, len);
    m.size = base_max(m.size, at + len);
}
static void allocate(struct world *w, struct opendfs_file *f, unsigned mode, uint64_t at,
                     uint64_t len)
{
    CHECK_OK(DO(w, allocate, f, mode, at, len));
    if ((mode & (PUNCH & ~KEEP)) != 0 || (mode & ZERO) != 0) {
        memset(m.bytes + at, 0, (size_t)base_min(len, FILE_BYTES - at));
    }
    m.size = (mode & KEEP) != 0 ? m.size : base_max(m.size, at + len);
}
static void compare(struct world *w, struct opendfs_file *f)
{
    CHECK_OK(DO(w, fstat, f));
    CHECK_EQ(w->op.stat.size_bytes, m.size);
    CHECK_EQ(DO(w, pread, f, got, sizeof got, 0), (int)m.size);
    CHECK_BYTES(got, m.bytes, m.size);
}

TEST(allocation_makes_the_file_longer_and_nothing_else)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    put(&w, f, 0, 100);
    allocate(&w, f, 0, 50, 1000); /* it stays small */
    compare(&w, f);
    allocate(&w, f, KEEP, 0, 4 * CHUNK);
    compare(&w, f);
    allocate(&w, f, 0, 2 * CHUNK, CHUNK + 5);
    allocate(&w, f, 0, 0, 10); /* no shorter */
    compare(&w, f);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, 3 * CHUNK + 5);
    finish(&w, f);
}

TEST(what_cannot_be_done_says_so)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, allocate, f, 0, 0, 0), -EINVAL);
    CHECK_EQ(DO(&w, allocate, f, 8, 0, CELL), -EOPNOTSUPP);  /* collapse */
    CHECK_EQ(DO(&w, allocate, f, 32, 0, CELL), -EOPNOTSUPP); /* insert */
    CHECK_EQ(DO(&w, allocate, f, PUNCH & ~KEEP, 0, CELL), -EOPNOTSUPP);
    CHECK_EQ(DO(&w, allocate, f, PUNCH | ZERO, 0, CELL), -EOPNOTSUPP);
    CHECK_EQ(DO(&w, allocate, f, 0, OPENDFS_SIZE_MAX, 1), -EFBIG);
    CHECK_EQ(DO(&w, allocate, f, 0, CHUNK << 32, 1), -EFBIG); /* could not be written */
    CHECK_OK(DO(&w, allocate, f, PUNCH, CHUNK << 32, 1));
    CHECK_OK(DO(&w, close, f, NULL, 0));
    f = world_file(&w, "/f", OPENDFS_READ);
    CHECK_EQ(DO(&w, allocate, f, 0, 0, 1), -EBADF);
    finish(&w, f);
}

/* The fake cluster has some space, of which nothing is used. */
TEST(no_more_is_allocated_than_there_is)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_OK(DO(&w, statfs));
    uint64_t free = w.op.space.free_bytes;
    CHECK_TRUE(free > 0);
    put(&w, f, 0, 2 * CHUNK);
    CHECK_EQ(DO(&w, allocate, f, KEEP, 2 * CHUNK, free + 1), -ENOSPC);
    CHECK_EQ(DO(&w, allocate, f, 0, CHUNK, free + CHUNK + 1), -ENOSPC);
    CHECK_OK(DO(&w, allocate, f, KEEP, CHUNK, free + CHUNK)); /* one chunk of it is there */
    compare(&w, f);
    finish(&w, f);
}

TEST(a_quota_counts)
{
    struct world w;
    world_open(&w, testing_seed());
    w.cluster->available = SPACE;
    w.cluster->size_quota = 20000;
    world_start(&w);
    struct opendfs_file *f = world_file(&w, "/f", MAKE);
    CHECK_EQ(DO(&w, allocate, f, 0, 0, 20001), -EDQUOT);
    CHECK_OK(DO(&w, allocate, f, 0, 0, 20000));
    CHECK_OK(DO(&w, allocate, f, PUNCH, 0, 40000));
    CHECK_EQ(DO(&w, allocate, f, ZERO, 0, 40000), -EDQUOT);
    finish(&w, f);
}

TEST(whole_chunks_are_cleared_without_bytes)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    put(&w, f, 0, FILE_BYTES);
    CHECK_OK(DO(&w, fsync, f));
    unsigned writes = w.cluster->writes;
    uint64_t sent = w.fs->counters.write_bytes.value;
    allocate(&w, f, PUNCH, CHUNK, 4 * CHUNK);
    CHECK_EQ(w.cluster->writes - writes, 4);
    CHECK_EQ(w.fs->counters.write_bytes.value, sent);
    CHECK_EQ(chunk_of(&w, 2 * CHUNK)->length, 0);
    CHECK_EQ(chunk_of(&w, 0)->length, CHUNK);
    compare(&w, f);
    writes = w.cluster->writes;
    allocate(&w, f, PUNCH, CHUNK, 4 * CHUNK); /* there is nothing more */
    CHECK_EQ(w.cluster->writes, writes);
    put(&w, f, 2 * CHUNK + 50, 100);
    compare(&w, f);
    finish(&w, f);
}

/* It would be wrong for truncations to be in the way: their generation is that of the chunks. */
TEST(a_truncated_file_is_punched)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    put(&w, f, 0, FILE_BYTES);
    CHECK_OK(DO(&w, ftruncate, f, 4 * CHUNK));
    memset(m.bytes + 4 * CHUNK, 0, 2 * CHUNK);
    m.size = 4 * CHUNK;
    put(&w, f, 3 * CHUNK, 2 * CHUNK);
    allocate(&w, f, PUNCH, 0, 4 * CHUNK);
    compare(&w, f);
    finish(&w, f);
}

/* The chunk as it is stored ends within the hole; behind it there is more, which still gathers. */
TEST(what_gathers_behind_a_hole_stays)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    put(&w, f, CHUNK, 6000);
    CHECK_OK(DO(&w, fsync, f));
    put(&w, f, CHUNK + 39332, 7468);
    allocate(&w, f, PUNCH, CHUNK, 6517);
    compare(&w, f);
    CHECK_OK(DO(&w, fsync, f));
    compare(&w, f);
    finish(&w, f);
}

TEST(what_was_punched_is_stable)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    put(&w, f, 0, FILE_BYTES);
    CHECK_OK(DO(&w, fsync, f));
    unsigned syncs = w.cluster->syncs;
    allocate(&w, f, PUNCH, 100, 3 * CHUNK);
    CHECK_TRUE(w.cluster->syncs > syncs);
    finish(&w, f);
}

/* By this, too, programs know that a file has holes. */
TEST(what_a_file_takes_is_what_was_written)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    put(&w, f, 3 * CHUNK, CHUNK);
    put(&w, f, 0, CELL);
    for (unsigned k = 0; k < 2; k++) { /* before it is stored, and after */
        CHECK_OK(DO(&w, fstat, f));
        CHECK_EQ(w.op.stat.allocated_bytes, CHUNK + CELL);
        CHECK_OK(DO(&w, fsync, f));
    }
    put(&w, f, 5 * CHUNK, 100);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_OK(DO(&w, fstat, f));
    CHECK_EQ(w.op.stat.allocated_bytes, CHUNK + 2 * CELL);
    allocate(&w, f, PUNCH, 3 * CHUNK, CHUNK); /* a whole chunk, */
    CHECK_OK(DO(&w, fsync, f));
    CHECK_OK(DO(&w, fstat, f));
    CHECK_EQ(w.op.stat.allocated_bytes, 2 * CELL);
    put(&w, f, 4 * CHUNK, CHUNK);
    allocate(&w, f, PUNCH, 4 * CHUNK + CELL, 3 * CELL); /* and a part of one */
    CHECK_OK(DO(&w, fsync, f));
    CHECK_OK(DO(&w, fstat, f));
    CHECK_EQ(w.op.stat.allocated_bytes, CHUNK - 3 * CELL + 2 * CELL);
    CHECK_OK(DO(&w, ftruncate, f, 10));
    CHECK_OK(DO(&w, fstat, f));
    CHECK_EQ(w.op.stat.allocated_bytes, CELL);
    finish(&w, f);
}

TEST(punching_where_nothing_is_costs_nothing)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, bytes, 100, CHUNK << 31), 100);
    CHECK_OK(DO(&w, ftruncate, f, OPENDFS_SIZE_MAX));
    CHECK_OK(DO(&w, fsync, f));
    unsigned writes = w.cluster->writes;
    CHECK_OK(DO(&w, allocate, f, PUNCH, 5, OPENDFS_SIZE_MAX - 5));
    CHECK_EQ(w.cluster->writes - writes, 1);
    (void)DO(&w, seek, f, 0, OPENDFS_SEEK_DATA);
    CHECK_EQ(w.op.result, -ENXIO);
    finish(&w, f);
}

/* Data nodes of an older version do not know how to clear: they are sent zeros. */
TEST(older_members_are_sent_zeros)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    for (unsigned k = 1; k < NODES; k++) {
        w.node[k].old = true;
    }
    put(&w, f, 0, FILE_BYTES - 100);
    allocate(&w, f, PUNCH, CHUNK, FILE_BYTES);
    CHECK_EQ(chunk_of(&w, 2 * CHUNK)->length, CHUNK);
    compare(&w, f);
    finish(&w, f);
}

/* Of a chunk that others write, too, nothing behind the range is touched. */
TEST(in_a_shared_file_only_whole_chunks_are_cleared)
{
    struct world w;
    world_open(&w, testing_seed());
    w.cluster->available = SPACE;
    world_start(&w);
    memset(bytes, 7, sizeof bytes);
    memset(&m, 0, sizeof m);
    struct opendfs_file *f = world_file(&w, "/f", MAKE);
    put(&w, f, 0, 3 * CHUNK - 5000);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    w.cluster->shared = true;
    f = world_file(&w, "/f", RW);
    uint32_t before = chunk_of(&w, 2 * CHUNK)->length;
    allocate(&w, f, PUNCH, CHUNK, 2 * CHUNK - 5000);
    CHECK_EQ(chunk_of(&w, CHUNK)->length, 0);
    CHECK_EQ(chunk_of(&w, 2 * CHUNK)->length, before);
    allocate(&w, f, 0, 0, 4 * CHUNK);
    compare(&w, f);
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, 4 * CHUNK); /* others see it */
    finish(&w, f);
}

static void random_step(struct world *w, struct rand *r, struct opendfs_file *f)
{
    uint64_t at = rand_below(r, FILE_BYTES - 1), len = rand_below(r, 2 * CHUNK) + 1;
    len = base_min(len, FILE_BYTES - at);
    static const unsigned modes[] = {0, KEEP, PUNCH, PUNCH, ZERO, ZERO | KEEP};
    switch (rand_below(r, 8)) {
    case 0:
        CHECK_OK(DO(w, ftruncate, f, at));
        memset(m.bytes + at, 0, (size_t)(FILE_BYTES - at));
        m.size = at;
        break;
    case 1:
    case 2:
    case 3:
        put(w, f, at, (size_t)len);
        break;
    default:
        allocate(w, f, modes[rand_below(r, ARRAY_COUNT(modes))], at, len);
        /* Behind the end nothing was, and nothing is. */
        memset(m.bytes + m.size, 0, (size_t)(FILE_BYTES - m.size));
    }
}

TEST(random_changes_are_those_of_a_model)
{
    for (uint64_t round = 0; round < 8; round++) {
        struct world w;
        struct rand r;
        rand_seed(&r, testing_seed() + round);
        struct opendfs_file *f = begin(&w);
        for (unsigned i = 0; i < 60; i++) {
            struct fake_node *n = &w.node[1 + rand_below(&r, FAKE_TARGETS)];
            n->write_fault = (struct fake_fault){
                .rc = -ERR_busy, .count = (unsigned)rand_below(&r, 2), .after = i % 2 == 0};
            n->stat_fault = (struct fake_fault){.rc = -ERR_pending, .count = i % 3};
            random_step(&w, &r, f);
            compare(&w, f);
            if (rand_below(&r, 12) == 0) {
                CHECK_OK(DO(&w, close, f, NULL, 0));
                f = world_file(&w, "/f", RW);
                compare(&w, f);
            }
        }
        finish(&w, f);
    }
}
