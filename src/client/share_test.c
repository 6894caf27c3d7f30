#include "client/io_priv.h"

#include "client/fake_beside_priv.h"
#include "testing/testing.h"

/* Files that another client writes, too: W goes back, S waits, everything goes through. */

#define RW (OPENDFS_READ | OPENDFS_WRITE)
#define CHUNK ((size_t)FAKE_CHUNK_BYTES)
#define BLOCK 5000u

static uint8_t pattern[4 * CHUNK];

static struct fake_inode *file_of(struct world *w)
{
    struct fake_inode *n = fake_path(w->cluster, "f");
    CHECK_TRUE(n != NULL);
    return n;
}
/* A file of two blocks, closed. */
static void begin(struct world *w)
{
    world_open(w, testing_seed());
    world_start(w);
    world_fill(pattern, sizeof pattern, 3);
    struct opendfs_file *f = world_file(w, "/f", RW | OPENDFS_CREATE);
    CHECK_EQ(DO(w, pwrite, f, pattern, CHUNK + BLOCK, 0), CHUNK + BLOCK);
    CHECK_OK(DO(w, close, f, NULL, 0));
}
static struct fake_chunk *chunk(struct world *w, uint32_t index)
{
    struct proto_chunk key = {.data_id = file_of(w)->layout.data_id, .index = index};
    struct fake_chunk *k = fake_chunk(w->cluster, key, false);
    CHECK(k != NULL);
    return k;
}
/* What another client does to a chunk. */
static void other_writes(struct world *w, uint32_t index, uint8_t byte, size_t len)
{
    struct fake_chunk *k = chunk(w, index);
    memset(k->bytes, byte, len);
    k->length = (uint32_t)base_max(k->length, len);
    k->ver++;
}

struct push {
    struct fake_node *meta;
    struct proto_shared_now_push body;
};
static void push_in(void *ctx)
{
    const struct push *p = ctx;
    CHECK(peer_link_push(p->meta->newest, PROTO_OP_shared_now, &p->body) == 0);
}
static void push_shared_now(struct world *w)
{
    struct push p = {.meta = &w->node[0], .body = {.push_seq = 1, .ino = file_of(w)->ino}};
    loop_sim_enter(w->loop[0], push_in, &p);
}
static bool ask_is_done(void *ctx)
{
    return ((struct fake_ask *)ctx)->done > 0;
}
static void ask(struct world *w, void (*what)(void *ctx))
{
    struct fake_ask a = {.meta = &w->node[0], .ino = file_of(w)->ino};
    loop_sim_enter(w->loop[0], what, &a);
    CHECK_TRUE(loop_sim_run(w->sim, ask_is_done, &a, loop_sim_now_ns(w->sim) + SECOND));
}
static void recall(struct world *w)
{
    ask(w, fake_ask_recall);
}

/* Under way, not waited for. */
static void start_write(struct world *w, struct opendfs_file *f, size_t offset)
{
    opendfs_async_pwrite(w->fs, world_op(w), f, pattern, BLOCK, offset);
}

/* Neither a reader nor a writer begins while the other one has not flushed, however long that is:
 * this client asks again, and goes on when the answer is yes. */
TEST(who_has_to_wait_asks_again_and_never_goes_on_by_itself)
{
    struct world w;
    begin(&w);
    w.cluster->shared = w.cluster->share_waits = true;
    struct opendfs_file *f = world_file(&w, "/f", RW);
    unsigned writes = w.cluster->writes, asked = w.cluster->executed[PROTO_OP_wopen % 1024];
    start_write(&w, f, 0);
    world_run(&w, 200 * SECOND);
    CHECK_TRUE(!w.done);
    CHECK_EQ(w.cluster->writes, writes);
    CHECK_TRUE(w.cluster->executed[PROTO_OP_wopen % 1024] >= asked + 3);
    CHECK_TRUE(w.cluster->executed[PROTO_OP_wopen % 1024] <= asked + 8);
    w.cluster->share_waits = false;
    CHECK_EQ(world_wait(&w), BLOCK);
    CHECK_EQ(w.cluster->writes, writes + 1);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(file_of(&w)->cap_epoch, 0);
    world_close(&w);
}

TEST(a_push_ends_the_wait_at_once)
{
    struct world w;
    uint8_t got[BLOCK];
    begin(&w);
    w.cluster->shared = w.cluster->share_waits = true;
    struct opendfs_file *f = world_file(&w, "/f", RW);
    opendfs_async_pread(w.fs, world_op(&w), f, got, BLOCK, 0);
    world_run(&w, 2 * SECOND);
    CHECK_TRUE(!w.done);
    push_shared_now(&w); /* of an older wait: the server's answer counts */
    world_run(&w, 2 * SECOND);
    CHECK_TRUE(!w.done);
    other_writes(&w, 0, 7, BLOCK);
    w.cluster->share_waits = false;
    push_shared_now(&w);
    world_run(&w, SECOND);
    CHECK_TRUE(w.done && w.op.result == BLOCK && got[0] == 7 && got[BLOCK - 1] == 7);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* The leader that knew who waits is gone: the next one is asked when the session goes on. */
TEST(a_new_leader_is_asked)
{
    struct world w;
    begin(&w);
    w.cluster->shared = w.cluster->share_waits = true;
    struct opendfs_file *f = world_file(&w, "/f", RW);
    start_write(&w, f, 0);
    world_run(&w, SECOND);
    CHECK_TRUE(!w.done);
    world_kill(&w, 0);
    w.cluster->share_waits = false;
    world_node(&w, 0);
    world_run(&w, 10 * SECOND);
    CHECK_TRUE(w.done && w.op.result == BLOCK);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* The other one closes: then this one writes alone, and may keep what it writes. */
TEST(the_answer_may_be_to_write_alone)
{
    struct world w;
    begin(&w);
    w.cluster->shared = w.cluster->share_waits = true;
    struct opendfs_file *f = world_file(&w, "/f", RW);
    struct opendfs_file *g = world_file(&w, "/f", RW); /* one more handle waits, too */
    start_write(&w, g, 0);
    world_run(&w, SECOND);
    w.cluster->shared = w.cluster->share_waits = false;
    push_shared_now(&w);
    unsigned writes = w.cluster->writes;
    CHECK_EQ(world_wait(&w), BLOCK);
    CHECK_EQ(w.cluster->writes, writes);
    CHECK_OK(DO(&w, close, g, NULL, 0));
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(w.cluster->writes, writes + 1);
    CHECK_EQ(file_of(&w)->cap_epoch, 0);
    world_close(&w);
}

/* Closed while it waits: nothing is left behind. */
TEST(closing_does_not_wait_for_the_other_writer)
{
    struct world w;
    begin(&w);
    w.cluster->shared = w.cluster->share_waits = true;
    struct opendfs_file *f = world_file(&w, "/f", RW);
    push_shared_now(&w);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(file_of(&w)->cap_epoch, 0);
    f = world_file(&w, "/f", RW); /* and when the session is lost */
    start_write(&w, f, 0);
    world_run(&w, SECOND);
    memset(w.cluster->session, 0, sizeof w.cluster->session);
    CHECK_TRUE(world_wait(&w) < 0);
    (void)DO(&w, close, f, NULL, 0);
    world_close(&w);
}

/* Small contents that were read before the other one's last word are not its last word. */
TEST(small_contents_are_read_again_after_the_wait)
{
    struct world w;
    uint8_t got[32];
    world_open(&w, testing_seed());
    world_start(&w);
    struct opendfs_file *f = world_file(&w, "/f", RW | OPENDFS_CREATE);
    CHECK_EQ(DO(&w, pwrite, f, "old contents", 12, 0), 12);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    w.cluster->shared = w.cluster->share_waits = true;
    f = world_file(&w, "/f", RW);
    struct fake_inode *n = file_of(&w);
    memcpy(n->data, "new!", 4);
    n->data_len = n->attr.size = 4;
    n->attr.version++;
    w.cluster->shared = w.cluster->share_waits = false; /* it is our turn */
    push_shared_now(&w);
    CHECK_EQ(DO(&w, pread, f, got, sizeof got, 0), 4);
    CHECK_BYTES(got, "new!", 4);
    CHECK_EQ(DO(&w, pwrite, f, "er", 2, 3), 2);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(file_of(&w)->data_len, 5);
    CHECK_BYTES(file_of(&w)->data, "newer", 5);
    world_close(&w);
}

/* While W goes back, writing waits: else it would be acknowledged and stay here. */
TEST(what_is_written_during_a_recall_is_not_left_behind)
{
    struct world w;
    begin(&w);
    struct opendfs_file *f = world_file(&w, "/f", RW);
    CHECK_EQ(DO(&w, pwrite, f, pattern + 9, BLOCK, 0), BLOCK);
    w.cluster->meta_fault_op = PROTO_OP_lease_return;
    w.cluster->meta_fault = (struct fake_fault){.rc = -ERR_busy, .count = 5};
    recall(&w);
    CHECK_EQ(w.cluster->returns, 0);
    CHECK_EQ(DO(&w, pwrite, f, pattern + 77, BLOCK, 0), BLOCK);
    CHECK_EQ(w.cluster->returns, 1);
    CHECK_BYTES(chunk(&w, 0)->bytes, pattern + 77, BLOCK);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* Who returns what it has not changed leaves the times alone. */
TEST(returning_a_clean_file_changes_no_times)
{
    struct world w;
    begin(&w);
    struct opendfs_file *f = world_file(&w, "/f", RW);
    int64_t before = file_of(&w)->attr.mtime_ns;
    recall(&w);
    world_run(&w, SECOND);
    CHECK_EQ(w.cluster->returns, 1);
    CHECK_EQ(file_of(&w)->attr.mtime_ns, before);
    recall(&w); /* asked again: answered again, whatever this one believes to have */
    world_run(&w, SECOND);
    CHECK_EQ(w.cluster->returns, 2);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* In mode S nothing is kept: each read and each look sees what others have written before it. */
TEST(sharers_see_what_others_have_written)
{
    struct world w;
    uint8_t got[100];
    begin(&w);
    w.cluster->shared = true;
    struct opendfs_file *f = world_file(&w, "/f", RW);
    for (uint8_t i = 1; i < 20; i++) { /* in order: else it would read ahead */
        other_writes(&w, 0, i, CHUNK);
        CHECK_EQ(DO(&w, pread, f, got, sizeof got, (i - 1u) * sizeof got), sizeof got);
        CHECK_TRUE(got[0] == i && got[sizeof got - 1] == i);
    }
    other_writes(&w, 1, 50, CHUNK);
    file_of(&w)->attr.size = 2 * CHUNK; /* it has grown */
    CHECK_EQ(DO(&w, pread, f, got, sizeof got, 2 * CHUNK - 10), 10);
    CHECK_EQ(got[0], 50);
    CHECK_OK(DO(&w, fstat, f));
    CHECK_EQ(w.op.stat.size_bytes, 2 * CHUNK);
    file_of(&w)->attr.size = 10; /* or shrunk */
    CHECK_EQ(DO(&w, pread, f, got, sizeof got, 0), 10);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* Who only reads has read ahead what another one changes, and is told of the change. */
TEST(readers_see_what_they_were_told_of)
{
    struct world w;
    uint8_t got[100];
    begin(&w);
    struct opendfs_file *f = world_file(&w, "/f", OPENDFS_READ);
    for (uint8_t i = 0; i < 20; i++) {
        if (i > 0) {
            other_writes(&w, 0, i, CHUNK);
            other_writes(&w, 1, i, BLOCK);
            ask(&w, fake_ask_inval); /* what it is asked for is logged later */
        }
        uint64_t at = (i * UINT64_C(4096) + 7 * sizeof got * i) % (CHUNK + 4096);
        for (unsigned k = 0; k < 3; k++, at += sizeof got) { /* in order */
            CHECK_EQ(DO(&w, pread, f, got, sizeof got, at), sizeof got);
            CHECK_TRUE(i == 0 || (got[0] == i && got[sizeof got - 1] == i));
        }
        at = base_min(at, CHUNK - sizeof got);
        CHECK_EQ(DO(&w, pread_lent, f, sizeof got, at), sizeof got);
        CHECK_TRUE(i == 0 || *(const uint8_t *)w.op.data == i);
        opendfs_async_release(w.fs, &w.op);
    }
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* Who hears of a truncation by another one writes with its generation, but never into what that
 * has not cut yet: it would pass for cut. */
TEST(a_sharer_waits_where_a_truncation_has_not_cut)
{
    struct world w;
    begin(&w);
    w.cluster->shared = true;
    struct opendfs_file *f = world_file(&w, "/f", RW);
    world_fill(pattern, sizeof pattern, 4);
    file_of(&w)->attr.tgen++; /* the other one's truncation is logged */
    file_of(&w)->attr.size = BLOCK + 1000;
    w.cluster->trimming = true;
    CHECK_OK(DO(&w, fstat, f));
    unsigned writes = w.cluster->writes;
    opendfs_async_pwrite(w.fs, world_op(&w), f, pattern, 4096, 0);
    world_run(&w, 20 * SECOND);
    CHECK_TRUE(!w.done);
    CHECK_EQ(w.cluster->writes, writes);
    chunk(&w, 0)->tgen = file_of(&w)->attr.tgen; /* and reaches the chunk */
    chunk(&w, 0)->length = BLOCK + 1000;
    CHECK_EQ(world_wait(&w), 4096);
    CHECK_EQ(chunk(&w, 0)->length, BLOCK + 1000);
    start_write(&w, f, CHUNK); /* what is next to it is read when all is cut */
    world_run(&w, 5 * SECOND);
    CHECK_TRUE(!w.done);
    w.cluster->trimming = false;
    CHECK_EQ(world_wait(&w), BLOCK);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* The other one's truncation to `size`, through in all chunks. */
static void other_truncates(struct world *w, uint64_t size)
{
    struct fake_inode *n = file_of(w);
    n->attr.tgen++;
    n->attr.size = size;
    for (uint32_t k = 0; k < 2; k++) {
        uint64_t first = k * (uint64_t)CHUNK;
        uint32_t length = size > first ? (uint32_t)base_min(size - first, CHUNK) : 0;
        struct fake_chunk *c = chunk(w, k);
        memset(c->bytes + length, 0, CHUNK - length);
        c->length = (uint32_t)base_min(c->length, length);
        c->tgen = n->attr.tgen;
        c->ver++;
    }
}

/* It comes between the bytes and the size: then they are written once more, or there would be
 * zeros in their place. */
TEST(what_is_cut_before_its_commit_is_written_again)
{
    for (unsigned kind = 0; kind < 3; kind++) { /* copied, lent, stable */
        struct world w;
        begin(&w);
        w.cluster->shared = true;
        struct opendfs_file *f = world_file(&w, "/f", kind == 2 ? RW | OPENDFS_SYNC : RW);
        w.cluster->meta_fault_op = PROTO_OP_commit;
        w.cluster->meta_fault = (struct fake_fault){.rc = -ERR_busy, .count = UINT32_MAX};
        size_t len = kind == 1 ? 2 * PROTO_CELL_BYTES : BLOCK;
        if (kind == 1) {
            opendfs_async_pwrite_lent(w.fs, world_op(&w), f, pattern + 77, len, 0);
        } else {
            opendfs_async_pwrite(w.fs, world_op(&w), f, pattern + 77, len, 0);
        }
        world_run(&w, SECOND);
        CHECK_TRUE(!w.done);
        CHECK_BYTES(chunk(&w, 0)->bytes, pattern + 77, len);
        other_truncates(&w, 100);
        w.cluster->meta_fault.count = 0;
        CHECK_EQ(world_wait(&w), len);
        CHECK_EQ(file_of(&w)->attr.size, len);
        CHECK_EQ(chunk(&w, 0)->length, len);
        CHECK_BYTES(chunk(&w, 0)->bytes, pattern + 77, len);
        unsigned writes = w.cluster->writes; /* with the new generation it is not cut */
        CHECK_EQ(DO(&w, pwrite, f, pattern, len, 0), len);
        CHECK_EQ(w.cluster->writes, writes + 1);
        CHECK_OK(DO(&w, close, f, NULL, 0));
        world_close(&w);
    }
}

/* The bytes arrive before the cut, their acknowledgement does not: a retry is told that it is done,
 * under whatever generation it asks. */
TEST(what_is_cut_before_its_answer_is_written_again)
{
    struct world w;
    begin(&w);
    w.cluster->shared = true;
    struct opendfs_file *f = world_file(&w, "/f", RW);
    for (unsigned k = 1; k < NODES; k++) { /* done, but not answered */
        w.node[k].write_fault = (struct fake_fault){.count = 1, .after = true};
    }
    opendfs_async_pwrite(w.fs, world_op(&w), f, pattern + 77, BLOCK, 0);
    for (unsigned i = 0; i < 1000 && memcmp(chunk(&w, 0)->bytes, pattern + 77, BLOCK) != 0; i++) {
        world_run(&w, SECOND / 10000);
    }
    CHECK_TRUE(!w.done);
    other_truncates(&w, 0);
    CHECK_EQ(world_wait(&w), BLOCK);
    CHECK_EQ(file_of(&w)->attr.size, BLOCK);
    CHECK_BYTES(chunk(&w, 0)->bytes, pattern + 77, BLOCK);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* Who commits tells the end of what it wrote, not a size of before somebody else's truncation. */
TEST(a_sharer_does_not_bring_back_a_size_that_was_truncated)
{
    struct world w;
    begin(&w);
    w.cluster->shared = true;
    struct opendfs_file *f = world_file(&w, "/f", RW);
    CHECK_EQ(DO(&w, pwrite, f, pattern, BLOCK, CHUNK), BLOCK);
    other_truncates(&w, 0);
    CHECK_EQ(DO(&w, pwrite, f, pattern, BLOCK, 0), BLOCK);
    CHECK_EQ(file_of(&w)->attr.size, BLOCK);
    CHECK_OK(DO(&w, fstat, f));
    CHECK_EQ(w.op.stat.size_bytes, BLOCK);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(file_of(&w)->attr.size, BLOCK);
    world_close(&w);
}

/* All that wait hear of it at once; the first one that goes takes the others along. */
TEST(what_waits_for_a_cut_is_sent_once)
{
    struct world w;
    struct beside b[4];
    begin(&w);
    struct opendfs_file *f = world_file(&w, "/f", RW);
    world_fill(pattern, sizeof pattern, 4);
    chunk(&w, 0)->tgen = ++file_of(&w)->attr.tgen; /* somebody else's truncation */
    w.cluster->trimming = true;
    CHECK_EQ(DO(&w, pwrite, f, pattern, PROTO_CELL_BYTES, 0), PROTO_CELL_BYTES);
    CHECK_OK(DO(&w, fsync, f)); /* hears of it */
    unsigned writes = w.cluster->writes;
    for (unsigned i = 0; i < ARRAY_COUNT(b); i++) { /* behind all that is stored: zeros beside it */
        opendfs_async_pwrite(w.fs, beside_op(&b[i]), f, pattern, 500, (3 + i) * CHUNK + 100);
    }
    world_run(&w, 5 * SECOND);
    CHECK_EQ(w.cluster->writes, writes);
    w.cluster->trimming = false;
    for (unsigned k = 1; k < NODES; k++) { /* so that they are on their way when more hear of it */
        loop_sim_pause(w.loop[k], true);
    }
    world_run(&w, SECOND / 2);
    for (unsigned k = 1; k < NODES; k++) {
        loop_sim_pause(w.loop[k], false);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(b); i++) {
        CHECK_EQ(beside_wait(&w, &b[i]), 500);
    }
    world_run(&w, SECOND);
    CHECK_TRUE(w.cluster->writes <= writes + ARRAY_COUNT(b));
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* An empty file is in nobody's memory: the first one that writes it puts it into chunks. */
TEST(sharers_of_an_empty_file_see_the_first_contents)
{
    struct world w;
    uint8_t got[100];
    world_open(&w, testing_seed());
    world_start(&w);
    struct opendfs_file *f = world_file(&w, "/f", RW | OPENDFS_CREATE);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    w.cluster->shared = true;
    f = world_file(&w, "/f", RW);
    struct fake_inode *n = file_of(&w);
    n->chunked = true; /* another client writes */
    n->attr.flags &= ~PROTO_INODE_INLINE;
    n->attr.size = sizeof got;
    struct proto_chunk key = {.data_id = n->layout.data_id};
    struct fake_chunk *k = fake_chunk(w.cluster, key, true);
    memset(k->bytes, 5, sizeof got);
    k->length = sizeof got;
    k->ver = 1;
    CHECK_EQ(DO(&w, pread, f, got, sizeof got, 0), sizeof got);
    CHECK_TRUE(got[0] == 5 && got[99] == 5);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}
