/* datanode/way_test.c -- every row of the choice between ways, and how pieces become reads. */
#include "datanode/way.h"

#include "testing/testing.h"

#define MIB (1u << 20)

static enum datanode_way choose(bool resident, bool stream, bool able, uint32_t length,
                                unsigned reads)
{
    const struct datanode_way_view v = {
        .resident = resident, .stream = stream, .able = able, .length = length, .reads = reads};
    return datanode_way_choose(&v);
}

TEST(what_is_resident_is_sent_from_where_it_is)
{
    for (unsigned i = 0; i < 8; i++) {
        bool stream = (i & 1) != 0, able = (i & 2) != 0;
        CHECK_EQ(choose(true, stream, able, (i & 4) != 0 ? 4096 : MIB, 1), DATANODE_WAY_CACHED);
    }
}

TEST(only_large_cold_reads_in_order_pass_the_cache_by)
{
    CHECK_EQ(choose(false, true, true, MIB, 1), DATANODE_WAY_STREAMED);
    CHECK_EQ(choose(false, true, true, DATANODE_SMALL_BYTES + 1, 1), DATANODE_WAY_STREAMED);
    CHECK_EQ(choose(false, true, true, MIB, DATANODE_STREAM_READS), DATANODE_WAY_STREAMED);
    CHECK_EQ(choose(false, false, true, MIB, 1), DATANODE_WAY_FETCHED);
    CHECK_EQ(choose(false, true, false, MIB, 1), DATANODE_WAY_FETCHED);
    CHECK_EQ(choose(false, true, true, DATANODE_SMALL_BYTES, 1), DATANODE_WAY_FETCHED);
    CHECK_EQ(choose(false, true, true, MIB, 0), DATANODE_WAY_FETCHED);
    CHECK_EQ(choose(false, true, true, MIB, DATANODE_STREAM_READS + 1), DATANODE_WAY_FETCHED);
}

static struct disk_file *some_file(void) /* nobody looks into it */
{
    static uint64_t memory;
    return (struct disk_file *)(void *)&memory;
}

TEST(pieces_are_cut_where_buffers_meet)
{
    struct disk_file *f = some_file();
    struct chunk_piece p[3] = {{.file = f, .offset = 8192, .len = 4 * MIB}};
    CHECK_EQ(datanode_way_reads(p, 1), 4);
    p[0].len = MIB;
    CHECK_EQ(datanode_way_reads(p, 1), 1);
    p[0].len = MIB + 1;
    CHECK_EQ(datanode_way_reads(p, 1), 2);
    p[0] = (struct chunk_piece){.file = f, .offset = 4096, .len = 4096};
    p[1] = (struct chunk_piece){.file = f, .offset = 40960, .len = MIB};
    p[2] = (struct chunk_piece){.file = f, .offset = 0, .len = 100};
    CHECK_EQ(datanode_way_reads(p, 3), 4); /* the second one lies in two buffers */
    CHECK_EQ(datanode_way_reads(p, 0), 0);
    p[1].file = NULL; /* holes are not read */
    CHECK_EQ(datanode_way_reads(p, 3), 2);
    CHECK_EQ(datanode_way_reads(p + 1, 1), 0);
}

/* What does not lie in whole units cannot be read so. */
TEST(pieces_that_are_not_aligned_do_not_pass_the_cache_by)
{
    struct disk_file *f = some_file();
    struct chunk_piece p[2] = {{.file = f, .offset = 512, .len = MIB}};
    CHECK_EQ(datanode_way_reads(p, 1), 0);
    p[0] = (struct chunk_piece){.file = f, .offset = 4096, .len = 100};
    p[1] = (struct chunk_piece){.file = f, .offset = 8192, .len = MIB};
    CHECK_EQ(datanode_way_reads(p, 1), 1);
    CHECK_EQ(datanode_way_reads(p, 2), 0);
    p[0].len = 0;
    CHECK_EQ(datanode_way_reads(p, 1), 0);
}
