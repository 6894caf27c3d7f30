#include "client/io_priv.h"

#include "client/fake_beside_priv.h"
#include "testing/testing.h"

/* Files against the fake cluster: contents, edges, and what chain.md says about failures. */

#define RW (OPENDFS_READ | OPENDFS_WRITE)
#define MAKE (RW | OPENDFS_CREATE)
#define CHUNK ((size_t)FAKE_CHUNK_BYTES)
#define LARGE (9u * CHUNK + 12345)

static struct fake_chunk *chunk_of(struct world *w, const char *name, uint32_t index)
{
    const struct fake_inode *n = fake_path(w->cluster, name);
    CHECK_TRUE(n != NULL);
    return fake_chunk(w->cluster, (struct proto_chunk){n->layout.data_id, index}, false);
}

/* All of a file as the servers have it, read through another client's eyes: a new handle. */
static void check_contents(struct world *w, const char *path, const uint8_t *expected, size_t len)
{
    uint8_t *got = mem_zalloc(len + 1);
    CHECK_TRUE(got != NULL);
    struct opendfs_file *f = world_file(w, path, OPENDFS_READ);
    CHECK_EQ(w->op.stat.size_bytes, len);
    CHECK_EQ(DO(w, pread, f, got, len + 1, 0), len);
    CHECK_BYTES(got, expected, len);
    CHECK_OK(DO(w, close, f, NULL, 0));
    mem_free(got);
}

static void write_file(struct world *w, const char *path, const uint8_t *bytes, size_t len)
{
    struct opendfs_file *f = world_file(w, path, MAKE | OPENDFS_TRUNCATE);
    CHECK_EQ(DO(w, pwrite, f, bytes, len, 0), len);
    CHECK_OK(DO(w, close, f, NULL, 0));
}

TEST(files_of_all_sizes_come_back)
{
    static const size_t sizes[] = {0,         1,         4095,          4096,
                                   4097,      8192,      CHUNK - 1,     CHUNK,
                                   CHUNK + 1, 2 * CHUNK, 100,           2 * CHUNK + 4095,
                                   5000,      CHUNK / 2, 3 * CHUNK + 1, LARGE};
    struct world w;
    static uint8_t bytes[LARGE];
    world_open(&w, testing_seed());
    world_start(&w);
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        char path[16];
        (void)snprintf(path, sizeof path, "/f%zu", i);
        world_fill(bytes, sizes[i], i);
        write_file(&w, path, bytes, sizes[i]);
        check_contents(&w, path, bytes, sizes[i]);
        const struct fake_inode *n = fake_path(w.cluster, path + 1);
        CHECK_EQ(n->chunked, sizes[i] > 4096);
        CHECK_EQ(n->cap_epoch, 0); /* released */
    }
    CHECK_TRUE(client_inode_find(w.fs, 2) == NULL);
    world_close(&w);
}

/* The same file is written again with other sizes: small to large, large to small. */
TEST(overwriting_with_truncation_leaves_nothing_of_the_old)
{
    static const size_t sizes[] = {100, LARGE, 50, 3 * CHUNK, CHUNK + 5, 4096, 0, 5000};
    struct world w;
    static uint8_t bytes[LARGE];
    world_open(&w, testing_seed());
    world_start(&w);
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        world_fill(bytes, sizes[i], i);
        write_file(&w, "/f", bytes, sizes[i]);
        check_contents(&w, "/f", bytes, sizes[i]);
    }
    world_close(&w);
}

struct model {
    uint8_t bytes[4 * CHUNK];
    size_t size;
};
static void model_write(struct model *m, size_t at, const uint8_t *from, size_t len)
{
    memcpy(m->bytes + at, from, len);
    m->size = len == 0 ? m->size : base_max(m->size, at + len); /* nothing changes nothing */
}

static void random_step(struct world *w, struct model *m, struct rand *r, struct opendfs_file *f)
{
    static uint8_t bytes[sizeof m->bytes];
    size_t at = (size_t)rand_below(r, sizeof m->bytes - 1);
    size_t len = (size_t)rand_below(r, rand_below(r, 2) == 0 ? 300 : CHUNK * 2);
    len = base_min(len, sizeof m->bytes - at);
    switch (rand_below(r, 10)) {
    case 0:
        CHECK_OK(DO(w, fsync, f));
        break;
    case 1: {
        size_t size = (size_t)rand_below(r, m->size + 1000);
        size = base_min(size, sizeof m->bytes);
        CHECK_OK(DO(w, ftruncate, f, size));
        memset(m->bytes + size, 0, sizeof m->bytes - size);
        m->size = size;
        break;
    }
    case 2:
    case 3:
    case 4: {
        size_t expected = at >= m->size ? 0 : base_min(len, m->size - at);
        CHECK_EQ(DO(w, pread, f, bytes, len, at), expected);
        CHECK_BYTES(bytes, m->bytes + at, expected);
        break;
    }
    case 5:
        at = (size_t)base_align_down(at, 4096);
        world_fill(bytes, len, at + len);
        CHECK_EQ(DO(w, pwrite_lent, f, bytes, len, at), len);
        model_write(m, at, bytes, len);
        break;
    default:
        world_fill(bytes, len, at + len);
        CHECK_EQ(DO(w, pwrite, f, bytes, len, at), len);
        model_write(m, at, bytes, len);
    }
    CHECK_OK(DO(w, fstat, f));
    CHECK_EQ(w->op.stat.size_bytes, m->size);
}

/* Anything, anywhere, against a model; members fail now and then. */
TEST(random_changes_are_those_of_a_model)
{
    static struct model m;
    for (uint64_t round = 0; round < 8; round++) {
        struct world w;
        struct rand r;
        rand_seed(&r, testing_seed() + round);
        memset(&m, 0, sizeof m);
        world_open(&w, testing_seed());
        world_start(&w);
        struct opendfs_file *f = world_file(&w, "/f", MAKE);
        for (unsigned i = 0; i < 60; i++) {
            struct fake_node *n = &w.node[1 + rand_below(&r, FAKE_TARGETS)];
            n->write_fault = (struct fake_fault){
                .rc = -ERR_busy, .count = (unsigned)rand_below(&r, 2), .after = i % 2 == 0};
            n->read_fault = (struct fake_fault){.rc = -ERR_pending, .count = i % 3};
            random_step(&w, &m, &r, f);
            if (rand_below(&r, 12) == 0) {
                CHECK_OK(DO(&w, close, f, NULL, 0));
                check_contents(&w, "/f", m.bytes, m.size);
                f = world_file(&w, "/f", RW);
            }
        }
        CHECK_OK(DO(&w, close, f, NULL, 0));
        check_contents(&w, "/f", m.bytes, m.size);
        world_close(&w);
    }
}

/* --- failures of members ------------------------------------------------------------------------
 */

static uint8_t pattern[LARGE];
static struct opendfs_file *begin(struct world *w)
{
    world_open(w, testing_seed());
    world_start(w);
    world_fill(pattern, sizeof pattern, 3);
    return world_file(w, "/f", MAKE);
}
static void finish(struct world *w, struct opendfs_file *f)
{
    CHECK_EQ(DO(w, pwrite, f, pattern, LARGE, 0), LARGE);
    CHECK_OK(DO(w, fsync, f));
    CHECK_OK(DO(w, close, f, NULL, 0));
    check_contents(w, "/f", pattern, LARGE);
    world_close(w);
}

TEST(refusals_are_retried)
{
    static const int codes[] = {ERR_busy,        ERR_not_head, ERR_not_serving,
                                ERR_ahead_epoch, ERR_bad_data, ERR_stale_epoch};
    for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
        struct world w;
        struct opendfs_file *f = begin(&w);
        for (unsigned k = 1; k < NODES; k++) {
            w.node[k].write_fault = (struct fake_fault){.rc = -codes[i], .count = 2};
            w.node[k].read_fault = (struct fake_fault){.rc = -codes[i], .count = 2};
            w.node[k].sync_fault = (struct fake_fault){.rc = -codes[i], .count = 2};
        }
        finish(&w, f);
        CHECK_EQ(w.node[1].write_fault.count, 0);
        unsigned retries = 0;
        for (unsigned k = 1; k < NODES; k++) {
            retries += w.node[k].retries;
        }
        /* A member that lost its role may have had the update before; the others said no. */
        bool doubtful = err_is(-codes[i], ERR_not_serving);
        CHECK_EQ(retries > 0, doubtful);
    }
}

/* R11: the answer is lost after the execution; a retry has the same number, and changes nothing. */
TEST(updates_with_lost_answers_are_applied_once)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    for (unsigned k = 1; k < NODES; k++) {
        w.node[k].write_fault = (struct fake_fault){.count = 3, .after = true};
    }
    struct fake_cluster *c = w.cluster;
    CHECK_EQ(DO(&w, pwrite, f, pattern, LARGE, 0), LARGE);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    check_contents(&w, "/f", pattern, LARGE);
    CHECK_TRUE(c->write_repeats > 0);
    CHECK_EQ(c->writes, 10);
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_EQ(chunk_of(&w, "f", i)->ver, 1);
    }
    world_close(&w);
}

/* A refusal carries the row: it is taken without asking the metadata server; a lower one never is.
 */
TEST(newer_rows_are_taken_from_refusals)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, CHUNK, 0), CHUNK);
    CHECK_OK(DO(&w, fsync, f));
    uint64_t fetches = stats_counter_value(&w.fs->counters.map_fetches);
    for (uint32_t i = 0; i < FAKE_CHAINS; i++) {
        uint32_t head = w.cluster->chain[i].order[0];
        w.cluster->chain[i].order[0] = w.cluster->chain[i].order[1];
        w.cluster->chain[i].order[1] = head;
        w.cluster->chain[i].epoch = 5;
    }
    CHECK_EQ(DO(&w, pwrite, f, pattern, LARGE, 0), LARGE);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_EQ(stats_counter_value(&w.fs->counters.map_fetches), fetches);
    CHECK_EQ(client_map_row(w.fs, 1)->epoch, 5);
    struct proto_member members[2];
    struct proto_row row;
    w.cluster->chain[0].epoch = 4;
    fake_row(w.cluster, 1, members, &row);
    client_map_take_row(w.fs, &row);
    CHECK_EQ(client_map_row(w.fs, 1)->epoch, 5);
    w.cluster->chain[0].epoch = 5;
    finish(&w, f);
}

TEST(a_damaged_copy_is_read_elsewhere)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    w.node[1].corrupt = true;
    CHECK_EQ(DO(&w, pwrite, f, pattern, LARGE, 0), LARGE);
    CHECK_OK(DO(&w, fsync, f));
    uint8_t byte;
    CHECK_EQ(DO(&w, pread, f, &byte, 1, 3), 1);
    CHECK_EQ(byte, pattern[3]);
    CHECK_TRUE(stats_counter_value(&w.fs->counters.bad_cells) > 0);
    world_run(&w, SECOND);
    CHECK_TRUE(w.node[1].checks > 0); /* it was told */
    CHECK_EQ(w.node[2].checks + w.node[3].checks, 0);
    finish(&w, f);
    f = begin(&w);
    w.node[2].read_fault = (struct fake_fault){.rc = -ERR_corrupt, .count = 5};
    finish(&w, f);
}

TEST(damage_of_all_copies_is_an_error_and_never_wrong_data)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    uint8_t byte;
    CHECK_EQ(DO(&w, pwrite, f, pattern, LARGE, 0), LARGE);
    CHECK_OK(DO(&w, fsync, f));
    for (unsigned k = 1; k < NODES; k++) {
        w.node[k].corrupt = true;
    }
    CHECK_EQ(DO(&w, pread, f, &byte, 1, 5 * CHUNK), -EIO);
    for (unsigned k = 1; k < NODES; k++) {
        w.node[k].corrupt = false;
    }
    CHECK_EQ(DO(&w, pread, f, &byte, 1, 5 * CHUNK), 1);
    CHECK_EQ(byte, pattern[5 * CHUNK]);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

TEST(pending_updates_are_waited_for_at_the_last_serving_member)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    for (unsigned k = 1; k < NODES; k++) {
        w.node[k].read_fault = (struct fake_fault){.rc = -ERR_pending, .count = 3};
    }
    uint8_t byte;
    CHECK_EQ(DO(&w, pwrite, f, pattern, LARGE, 0), LARGE);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_EQ(DO(&w, pread, f, &byte, 1, 3), 1);
    CHECK_EQ(byte, pattern[3]);
    finish(&w, f);
}

/* Errors of delayed writes: once at fsync, once at close. */
TEST(no_space_is_told_once_at_fsync_and_once_at_close)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    w.node[1].write_fault = (struct fake_fault){.rc = -ERR_no_space, .count = 1};
    CHECK_EQ(DO(&w, pwrite, f, pattern, CHUNK, 0), CHUNK);
    CHECK_EQ(DO(&w, fsync, f), -ENOSPC);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_EQ(DO(&w, close, f, NULL, 0), -ENOSPC);
    f = world_file(&w, "/f", RW);
    finish(&w, f);
}

/* chain.md test 17: power was cut between write and fsync. */
TEST(lost_updates_are_told_once)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, 2 * CHUNK, 0), 2 * CHUNK);
    CHECK_EQ(DO(&w, pread, f, pattern, 1, 0), 1); /* both chunks have been sent */
    world_run(&w, SECOND);
    w.cluster->chain[0].loss_gen++;
    w.cluster->chain[0].epoch++;
    CHECK_EQ(DO(&w, fsync, f), -EIO);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_EQ(DO(&w, close, f, NULL, 0), -EIO);
    world_close(&w);
}

TEST(expired_capabilities_are_renewed)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, CHUNK, 0), CHUNK);
    CHECK_OK(DO(&w, fsync, f));
    for (unsigned k = 1; k < NODES; k++) {
        w.node[k].key_min = 2;
    }
    finish(&w, f);
}

TEST(a_dead_target_is_survived_when_the_row_changes)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, LARGE, 0), LARGE);
    CHECK_OK(DO(&w, fsync, f));
    world_kill(&w, 1);
    uint8_t byte;
    for (uint32_t i = 0; i < 10; i++) { /* reading goes on at once */
        uint64_t before = loop_sim_now_ns(w.sim);
        CHECK_EQ(DO(&w, pread, f, &byte, 1, i * CHUNK + 7), 1);
        CHECK_EQ(byte, pattern[i * CHUNK + 7]);
        CHECK_TRUE(loop_sim_now_ns(w.sim) - before < 5 * SECOND);
    }
    CHECK_EQ(DO(&w, pwrite, f, pattern, LARGE, 0), LARGE);
    opendfs_async_fsync(w.fs, world_op(&w), f);
    world_run(&w, 5 * SECOND);
    CHECK_TRUE(!w.done);
    for (uint32_t i = 0; i < FAKE_CHAINS; i++) {
        if (w.cluster->chain[i].order[0] == 1) {
            w.cluster->chain[i].order[0] = w.cluster->chain[i].order[1];
            w.cluster->chain[i].order[1] = 1;
        }
        w.cluster->chain[i].serving = w.cluster->chain[i].order[1] == 1 ? 1 : 2;
        w.cluster->chain[i].epoch++;
    }
    CHECK_OK(world_wait(&w));
    finish(&w, f);
}

TEST(a_target_that_stands_still_is_read_around)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    uint8_t byte;
    CHECK_EQ(DO(&w, pwrite, f, pattern, LARGE, 0), LARGE);
    CHECK_OK(DO(&w, fsync, f));
    for (uint32_t i = 0; i < 10; i++) { /* all links are there */
        CHECK_EQ(DO(&w, pread, f, &byte, 1, i * CHUNK + 9), 1);
    }
    loop_sim_pause(w.loop[1], true);
    for (uint32_t i = 0; i < 10; i++) {
        uint64_t before = loop_sim_now_ns(w.sim);
        CHECK_EQ(DO(&w, pread, f, &byte, 1, (9 - i) * CHUNK + 7), 1);
        CHECK_EQ(byte, pattern[(9 - i) * CHUNK + 7]);
        CHECK_TRUE(loop_sim_now_ns(w.sim) - before < 5 * SECOND);
    }
    loop_sim_pause(w.loop[1], false);
    finish(&w, f);
}

TEST(a_restarted_target_is_found_again)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, LARGE, 0), LARGE);
    world_kill(&w, 1);
    world_kill(&w, 2);
    opendfs_async_fsync(w.fs, world_op(&w), f);
    world_run(&w, 20 * SECOND);
    CHECK_TRUE(!w.done);
    world_node(&w, 1);
    world_node(&w, 2);
    CHECK_OK(world_wait(&w));
    finish(&w, f);
}

/* --- the rest -----------------------------------------------------------------------------------
 */

TEST(lost_sessions_lose_dirty_data_and_say_so)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, 100, 0), 100);
    memset(w.cluster->session, 0, sizeof w.cluster->session);
    world_run(&w, 10 * SECOND);
    CHECK_EQ(DO(&w, pwrite, f, pattern, 100, 0), -ESTALE);
    CHECK_EQ(DO(&w, fsync, f), -EIO);
    CHECK_EQ(DO(&w, close, f, NULL, 0), -EIO);
    CHECK_OK(DO(&w, stat, "/f"));
    world_close(&w);
}

TEST(an_unlinked_file_lives_until_its_last_close)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, 2 * CHUNK, 0), 2 * CHUNK);
    CHECK_OK(DO(&w, unlink, "/f"));
    CHECK_EQ(DO(&w, stat, "/f"), -ENOENT);
    CHECK_EQ(DO(&w, pwrite, f, pattern, CHUNK, CHUNK), CHUNK);
    CHECK_EQ(w.cluster->executed[PROTO_OP_release % 1024], 0);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_run(&w, SECOND);
    CHECK_EQ(w.cluster->executed[PROTO_OP_release % 1024], 1);
    world_close(&w);
}

TEST(lent_data_are_not_copied)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite_lent, f, pattern, 3 * CHUNK + 100, 0), 3 * CHUNK + 100);
    CHECK_BYTES(chunk_of(&w, "f", 2)->bytes, pattern + 2 * CHUNK, CHUNK);
    CHECK_EQ(buf_pool_copied_bytes(w.fs->write_pool), 0);
    for (uint64_t at = 0; at < 3 * CHUNK + 100;) {
        int n = DO(&w, pread_lent, f, 4u << 20, at);
        CHECK_TRUE(n > 0 && (size_t)n == w.op.data_len);
        CHECK_BYTES(w.op.data, pattern + at, (size_t)n);
        at += (uint64_t)n;
        opendfs_async_release(w.fs, &w.op);
    }
    CHECK_EQ(DO(&w, pread_lent, f, 100, 3 * CHUNK + 100), 0);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

TEST(small_reads_in_order_are_read_ahead)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    uint8_t got[1000];
    CHECK_EQ(DO(&w, pwrite, f, pattern, LARGE, 0), LARGE);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    f = world_file(&w, "/f", OPENDFS_READ);
    w.cluster->reads = 0;
    for (uint64_t at = 0; at < LARGE; at += sizeof got) {
        size_t expected = base_min(sizeof got, LARGE - at);
        CHECK_EQ(DO(&w, pread, f, got, sizeof got, at), expected);
        CHECK_BYTES(got, pattern + at, expected);
    }
    CHECK_EQ(w.cluster->reads, 10); /* one per chunk: they are smaller than a block */
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

TEST(reading_and_writing_ask_for_the_right_mode)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    uint8_t byte = 1;
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(DO(&w, open, "/f", MAKE | OPENDFS_EXCLUSIVE, 0644), -EEXIST);
    CHECK_EQ(DO(&w, open, "/", OPENDFS_READ, 0), -EISDIR);
    CHECK_EQ(DO(&w, open, "/none", OPENDFS_READ, 0), -ENOENT);
    CHECK_EQ(DO(&w, open, "/f", 0, 0), -EINVAL);
    f = world_file(&w, "/f", OPENDFS_READ);
    CHECK_EQ(DO(&w, pwrite, f, &byte, 1, 0), -EBADF);
    CHECK_EQ(DO(&w, ftruncate, f, 0), -EBADF);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_OK(DO(&w, close, f, NULL, 0));
    f = world_file(&w, "/f", OPENDFS_WRITE);
    CHECK_EQ(DO(&w, pread, f, &byte, 1, 0), -EBADF);
    CHECK_EQ(DO(&w, pwrite, f, &byte, 1, UINT64_MAX), -EFBIG);
    const struct opendfs_stat v = {.mode = 0600, .uid = 12, .mtime_ns = 99};
    CHECK_OK(DO(&w, close, f, &v, OPENDFS_SET_MODE | OPENDFS_SET_UID | OPENDFS_SET_MTIME));
    CHECK_OK(DO(&w, stat, "/f"));
    CHECK_EQ(w.op.stat.mode, 0600);
    CHECK_EQ(w.op.stat.uid, 12);
    CHECK_EQ(w.op.stat.mtime_ns, 99);
    world_close(&w);
}

/* What is read ahead while something of it is not stored yet is old as soon as it is. */
TEST(reading_near_to_what_gathers_shows_it_later)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    static uint8_t got[4096];
    CHECK_EQ(DO(&w, pwrite, f, pattern, 8192, 0), 8192);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_EQ(DO(&w, pwrite, f, pattern + 1000, 4096, 4096), 4096);
    CHECK_EQ(DO(&w, pread, f, got, 4096, 0), 4096); /* brings more than that */
    CHECK_EQ(DO(&w, pread, f, got, 4096, 4096), 4096);
    CHECK_BYTES(got, pattern + 1000, 4096);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* Two handles of one file in one client see each other at once; the last one gives W back. */
TEST(handles_of_one_client_share_a_file)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    struct opendfs_file *g = world_file(&w, "/f", RW);
    uint8_t got[10];
    CHECK_EQ(DO(&w, pwrite, f, pattern, CHUNK + 10, 0), CHUNK + 10);
    CHECK_EQ(DO(&w, pread, g, got, 10, CHUNK), 10);
    CHECK_BYTES(got, pattern + CHUNK, 10);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_TRUE(fake_path(w.cluster, "f")->cap_epoch != 0);
    CHECK_EQ(DO(&w, pwrite, g, pattern, 10, 5), 10);
    CHECK_OK(DO(&w, close, g, NULL, 0));
    CHECK_EQ(fake_path(w.cluster, "f")->cap_epoch, 0);
    world_close(&w);
}

/* truncate(path): the chunks are cut at once, not some day by the metadata server. */
TEST(a_size_set_by_path_cuts_the_chunks)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, 3 * CHUNK, 0), 3 * CHUNK);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    const struct opendfs_stat v = {.size_bytes = CHUNK + 5, .mode = 0600};
    CHECK_OK(DO(&w, setattr, "/f", &v, OPENDFS_SET_SIZE | OPENDFS_SET_MODE));
    CHECK_EQ(chunk_of(&w, "f", 1)->length, 5);
    CHECK_EQ(chunk_of(&w, "f", 2)->length, 0);
    check_contents(&w, "/f", pattern, CHUNK + 5);
    CHECK_OK(DO(&w, stat, "/f"));
    CHECK_EQ(w.op.stat.mode, 0600);
    const struct opendfs_stat old = {.atime_ns = 5};
    CHECK_OK(DO(&w, setattr, "/f", &old, OPENDFS_SET_ATIME | OPENDFS_SET_MTIME_NOW));
    CHECK_EQ(w.op.stat.atime_ns, 5);
    CHECK_EQ(w.op.stat.mtime_ns, FAKE_NOW_NS);
    CHECK_OK(DO(&w, setattr, "/f", &v, OPENDFS_SET_ATIME_NOW));
    CHECK_EQ(w.op.stat.atime_ns, FAKE_NOW_NS);
    CHECK_EQ(DO(&w, setattr, "/f", &v, OPENDFS_SET_KILL_PRIV << 1), -EINVAL);
    CHECK_EQ(DO(&w, setattr, "/none", &v, OPENDFS_SET_SIZE), -ENOENT);
    CHECK_TEXT(w.op.error, "/none: No such file or directory");
    CHECK_EQ(DO(&w, setattr, "/", &v, OPENDFS_SET_SIZE), -EISDIR);
    world_close(&w);
}

static void all_syncs(struct world *w, int rc, unsigned count)
{
    for (unsigned k = 0; k < NODES; k++) {
        w->node[k].sync_fault = (struct fake_fault){.rc = rc, .count = count};
    }
}

static void all_writes(struct world *w, int rc, unsigned count)
{
    for (unsigned k = 0; k < NODES; k++) {
        w->node[k].write_fault = (struct fake_fault){.rc = rc, .count = count};
    }
}

/* Nobody can tell from times whether the bytes behind them are stable; from a size everybody can.
 */
TEST(a_sync_asks_both_servers_at_once_if_only_times_have_changed)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, CHUNK, 0), CHUNK);
    CHECK_OK(DO(&w, fsync, f));
    for (unsigned grows = 0; grows < 2; grows++) {
        const struct proto_attr before = fake_path(w.cluster, "f")->attr;
        world_run(&w, SECOND);
        CHECK_EQ(DO(&w, pwrite, f, pattern, 5000, grows * CHUNK), 5000);
        all_syncs(&w, -ERR_busy, UINT32_MAX);
        opendfs_async_fsync(w.fs, world_op(&w), f);
        world_run(&w, SECOND);
        const struct proto_attr *now = &fake_path(w.cluster, "f")->attr;
        CHECK_TRUE(!w.done);
        CHECK_EQ(now->mtime_ns != before.mtime_ns, grows == 0);
        CHECK_EQ(now->size, before.size);
        all_syncs(&w, 0, 0);
        CHECK_OK(world_wait(&w));
        CHECK_EQ(now->size, before.size + grows * 5000);
    }
    finish(&w, f);
}

TEST(a_sync_tells_times_beside_its_writes)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, CHUNK, 0), CHUNK);
    CHECK_OK(DO(&w, fsync, f));
    unsigned commits = w.cluster->executed[PROTO_OP_commit % 1024];
    CHECK_EQ(DO(&w, pwrite, f, pattern, 5000, 0), 5000);
    all_writes(&w, -ERR_busy, UINT32_MAX);
    opendfs_async_fsync(w.fs, world_op(&w), f);
    world_run(&w, SECOND);
    CHECK_TRUE(!w.done);
    CHECK_EQ(w.cluster->executed[PROTO_OP_commit % 1024], commits + 1);
    all_writes(&w, 0, 0);
    CHECK_OK(world_wait(&w));
    CHECK_EQ(w.cluster->executed[PROTO_OP_commit % 1024], commits + 1);
    finish(&w, f);
}

/* Its error is told, whatever was committed beside it; and the next sync tries again. */
TEST(a_sync_that_fails_beside_its_commit_is_told)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, CHUNK, 0), CHUNK);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_EQ(DO(&w, pwrite, f, pattern, 5000, 0), 5000);
    all_syncs(&w, -EIO, 1);
    unsigned before = w.cluster->syncs;
    CHECK_EQ(DO(&w, fsync, f), -EIO);
    CHECK_TRUE(w.cluster->syncs > before);
    before = w.cluster->syncs;
    all_syncs(&w, 0, 0);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_TRUE(w.cluster->syncs > before);
    finish(&w, f);
}

/* A client that dies now leaves a file that ends at what was synced, not zeros behind it. */
TEST(a_sync_tells_no_size_of_what_is_only_here)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    struct beside a;
    CHECK_EQ(DO(&w, pwrite, f, pattern, CHUNK, 0), CHUNK);
    all_syncs(&w, -ERR_busy, UINT32_MAX);
    opendfs_async_fsync(w.fs, beside_op(&a), f);
    world_run(&w, SECOND);
    all_writes(&w, -ERR_busy, UINT32_MAX);
    CHECK_EQ(DO(&w, pwrite, f, pattern + CHUNK, 5000, CHUNK), 5000);
    all_syncs(&w, 0, 0);
    CHECK_EQ(beside_wait(&w, &a), 0);
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, CHUNK);
    world_run(&w, 60 * SECOND);
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, CHUNK);
    memset(w.cluster->session, 0, sizeof w.cluster->session); /* its end */
    (void)DO(&w, close, f, NULL, 0);
    check_contents(&w, "/f", pattern, CHUNK);
    world_close(&w);
}

/* It goes on where it was longer on purpose; and what comes later is told by the next one. */
TEST(what_a_sync_did_not_tell_is_told_by_the_next)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    struct beside a;
    const struct proto_attr *now = &fake_path(w.cluster, "f")->attr;
    CHECK_EQ(DO(&w, pwrite, f, pattern, CHUNK, 0), CHUNK);
    all_syncs(&w, -ERR_busy, UINT32_MAX);
    opendfs_async_fsync(w.fs, beside_op(&a), f);
    world_run(&w, SECOND);
    CHECK_OK(DO(&w, ftruncate, f, 2 * CHUNK));
    CHECK_EQ(DO(&w, pwrite, f, pattern + 2 * CHUNK, 5000, 2 * CHUNK), 5000);
    all_syncs(&w, 0, 0);
    CHECK_EQ(beside_wait(&w, &a), 0);
    CHECK_EQ(now->size, 2 * CHUNK);
    CHECK_OK(DO(&w, fstat, f));
    CHECK_EQ(w.op.stat.size_bytes, 2 * CHUNK + 5000);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_EQ(now->size, 2 * CHUNK + 5000);
    CHECK_OK(DO(&w, ftruncate, f, 0)); /* of no meaning any more */
    CHECK_EQ(DO(&w, pwrite, f, pattern, 5000, CHUNK), 5000);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(now->size, CHUNK + 5000);
    world_close(&w);
}

/* What another one's commit tells is durable when that is answered, not before. */
TEST(a_sync_waits_for_the_commit_of_another)
{
    struct world w;
    struct opendfs_file *f = begin(&w), *g = world_file(&w, "/f", RW);
    struct beside a, b;
    CHECK_EQ(DO(&w, pwrite, f, pattern, CHUNK, 0), CHUNK);
    w.cluster->meta_fault = (struct fake_fault){.rc = -ERR_busy, .count = UINT32_MAX};
    w.cluster->meta_fault_op = PROTO_OP_commit;
    opendfs_async_fsync(w.fs, beside_op(&a), f);
    world_run(&w, SECOND);
    opendfs_async_fsync(w.fs, beside_op(&b), g);
    world_run(&w, SECOND);
    CHECK_TRUE(!a.done && !b.done);
    w.cluster->meta_fault.count = 0;
    CHECK_EQ(beside_wait(&w, &a), 0);
    CHECK_EQ(beside_wait(&w, &b), 0);
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, CHUNK);
    CHECK_OK(DO(&w, close, g, NULL, 0));
    finish(&w, f);
}

/* The answer of a commit is how it is learned: all handles are told. */
TEST(a_session_lost_in_a_commit_is_told_to_all)
{
    struct world w;
    struct opendfs_file *f = begin(&w), *g = world_file(&w, "/f", RW);
    CHECK_EQ(DO(&w, pwrite, g, pattern, CHUNK, 0), CHUNK);
    w.cluster->meta_fault = (struct fake_fault){.rc = -ERR_session_expired, .count = 1};
    w.cluster->meta_fault_op = PROTO_OP_commit;
    CHECK_TRUE(DO(&w, fsync, f) < 0);
    CHECK_TRUE(DO(&w, fsync, g) < 0);
    CHECK_TRUE(DO(&w, close, g, NULL, 0) < 0);
    CHECK_TRUE(DO(&w, close, f, NULL, 0) < 0);
    world_close(&w);
}

/* Its commit went through beside it: nothing is dirty, and yet not all is stable. */
TEST(what_is_not_stable_when_the_session_is_lost_is_told)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, CHUNK, 0), CHUNK);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_EQ(DO(&w, pwrite, f, pattern, 5000, 0), 5000);
    all_syncs(&w, -EIO, 1);
    CHECK_EQ(DO(&w, fsync, f), -EIO);
    memset(w.cluster->session, 0, sizeof w.cluster->session);
    world_run(&w, 10 * SECOND);
    CHECK_TRUE(DO(&w, fsync, f) < 0);
    (void)DO(&w, close, f, NULL, 0);
    world_close(&w);
}

static struct opendfs_file *begin_old(struct world *w, struct opendfs_file **other, unsigned flags)
{
    struct opendfs_file *f = begin(w);
    CHECK_EQ(DO(w, pwrite, f, pattern, 2 * CHUNK, 0), 2 * CHUNK);
    CHECK_OK(DO(w, close, f, NULL, 0));
    *other = world_file(w, "/f", RW | flags);
    return world_file(w, "/f", RW);
}

/* Of what was written before the file was opened. */
TEST(a_sync_waits_for_the_sync_of_another)
{
    struct world w;
    struct opendfs_file *g = NULL, *f = begin_old(&w, &g, 0);
    struct beside a, b;
    all_syncs(&w, -ERR_busy, UINT32_MAX);
    opendfs_async_fsync(w.fs, beside_op(&a), f);
    world_run(&w, SECOND);
    opendfs_async_fsync(w.fs, beside_op(&b), g);
    world_run(&w, SECOND);
    CHECK_TRUE(!a.done && !b.done);
    all_syncs(&w, 0, 0);
    CHECK_EQ(beside_wait(&w, &a), 0);
    CHECK_EQ(beside_wait(&w, &b), 0);
    CHECK_OK(DO(&w, close, g, NULL, 0));
    finish(&w, f);
}

/* One that waited longer begins its own before the other has seen how its own ended. */
TEST(the_error_of_a_sync_is_not_lost_to_the_next)
{
    struct world w;
    struct opendfs_file *h = NULL, *g = begin_old(&w, &h, OPENDFS_SYNC);
    struct beside a, b;
    unsigned writes = w.cluster->writes;
    all_writes(&w, -ERR_busy, UINT32_MAX);
    CHECK_EQ(DO(&w, pwrite, g, pattern, 5000, 0), 5000);
    opendfs_async_fsync(w.fs, beside_op(&b), g); /* waits for its write */
    world_run(&w, SECOND);
    for (unsigned k = 0; k < NODES; k++) { /* but for those of the same head */
        bool hit = w.node[k].write_fault.count < UINT32_MAX;
        w.node[k].write_fault.count = hit ? UINT32_MAX : 0;
    }
    all_syncs(&w, -ERR_busy, UINT32_MAX);
    opendfs_async_pwrite(w.fs, beside_op(&a), h, pattern, 5000, CHUNK);
    world_run(&w, SECOND);
    CHECK_TRUE(!a.done && !b.done);
    CHECK_EQ(w.cluster->writes, writes + 1);
    all_writes(&w, 0, 0);
    world_run(&w, 5 * SECOND);
    CHECK_EQ(w.cluster->writes, writes + 2);
    CHECK_TRUE(!a.done && !b.done);
    all_syncs(&w, -EIO, 1);
    int64_t first = beside_wait(&w, &a), second = beside_wait(&w, &b);
    CHECK_TRUE(first < 0 || second < 0);
    all_syncs(&w, 0, 0);
    (void)DO(&w, close, h, NULL, 0);
    CHECK_OK(DO(&w, fsync, g));
    finish(&w, g);
}

/* What others write meanwhile is theirs to tell. */
TEST(a_sync_beside_a_writer_commits_once)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    struct beside a;
    CHECK_EQ(DO(&w, pwrite, f, pattern, CHUNK, 0), CHUNK);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_EQ(DO(&w, pwrite, f, pattern, 5000, 0), 5000);
    unsigned before = w.cluster->executed[PROTO_OP_commit % 1024];
    all_syncs(&w, -ERR_busy, UINT32_MAX);
    opendfs_async_fsync(w.fs, beside_op(&a), f);
    world_run(&w, SECOND);
    CHECK_EQ(DO(&w, pwrite, f, pattern + 1, 5000, 0), 5000);
    world_run(&w, 5 * SECOND); /* it is sent */
    CHECK_TRUE(!a.done);
    all_syncs(&w, 0, 0);
    CHECK_EQ(beside_wait(&w, &a), 0);
    CHECK_EQ(w.cluster->executed[PROTO_OP_commit % 1024], before + 1);
    finish(&w, f);
}

/* What gathers is sent after some seconds, without anybody asking. */
TEST(written_data_do_not_gather_for_ever)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, 5000, 0), 5000);
    CHECK_EQ(w.cluster->writes, 0);
    world_run(&w, 5 * SECOND);
    CHECK_EQ(w.cluster->writes, 1);
    finish(&w, f);
}

static bool ask_is_done(void *ctx)
{
    return ((struct fake_ask *)ctx)->done > 0;
}
static void ask(struct world *w, struct fake_ask *a, void (*fn)(void *ctx))
{
    a->meta = &w->node[0];
    a->ino = fake_path(w->cluster, "f")->ino;
    a->done = 0;
    loop_sim_enter(w->loop[0], fn, a);
    CHECK_TRUE(loop_sim_run(w->sim, ask_is_done, a, loop_sim_now_ns(w->sim) + SECOND));
}

/* Another client opens the file: its size is asked for, then W goes back, everything flushed; from
 * then on writing goes through and publishes the size at once. */
TEST(write_authority_goes_back_when_it_is_recalled)
{
    struct world w;
    struct fake_ask a = {.ino = 0};
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, CHUNK + 10, 0), CHUNK + 10);
    ask(&w, &a, fake_ask_query);
    CHECK_TRUE(a.answer.known);
    CHECK_EQ(a.answer.size, CHUNK + 10);
    ask(&w, &a, fake_ask_recall);
    world_run(&w, SECOND);
    CHECK_EQ(w.cluster->returns, 1);
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, CHUNK + 10);
    CHECK_EQ(w.cluster->writes, 2);
    CHECK_EQ(DO(&w, pwrite, f, pattern + CHUNK + 10, 500, CHUNK + 10), 500);
    CHECK_EQ(chunk_of(&w, "f", 1)->length, 510);
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, CHUNK + 510);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    check_contents(&w, "/f", pattern, CHUNK + 510);
    CHECK_EQ(fake_path(w.cluster, "f")->cap_epoch, 0);
    world_close(&w);
}

/* A file of nothing but a size has nothing in chunks, and gets nothing there by a shorter size. */
TEST(cutting_an_inline_file_makes_no_chunks)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_OK(DO(&w, ftruncate, f, 4 * CHUNK));
    CHECK_OK(DO(&w, ftruncate, f, CHUNK + 10));
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, CHUNK + 10);
    CHECK_EQ(w.cluster->writes, 0);
    world_close(&w);
}

/* The metadata server has no room for the commit of a close: what was written, and the authority,
 * go back later. */
TEST(write_authority_goes_back_when_there_is_room)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, CHUNK + 10, 0), CHUNK + 10);
    w.cluster->meta_fault = (struct fake_fault){.rc = -ERR_log_full, .count = 5};
    CHECK_EQ(DO(&w, close, f, NULL, 0), -ENOSPC);
    CHECK_TRUE(fake_path(w.cluster, "f")->cap_epoch != 0);
    world_run(&w, 20 * SECOND);
    CHECK_EQ(fake_path(w.cluster, "f")->cap_epoch, 0);
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, CHUNK + 10);
    check_contents(&w, "/f", pattern, CHUNK + 10);
    world_close(&w);
}

TEST(small_dirty_contents_survive_a_recall)
{
    struct world w;
    struct fake_ask a = {.ino = 0};
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, pattern, 100, 0), 100);
    ask(&w, &a, fake_ask_recall);
    world_run(&w, SECOND);
    CHECK_EQ(w.cluster->returns, 1);
    CHECK_TRUE(fake_path(w.cluster, "f")->chunked); /* where all who write can share them */
    CHECK_EQ(fake_path(w.cluster, "f")->attr.size, 100);
    CHECK_EQ(DO(&w, pwrite, f, pattern + 100, 100, 100), 100);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    check_contents(&w, "/f", pattern, 200);
    world_close(&w);
}

/* Connections break all the time, everywhere. */
TEST(random_changes_survive_broken_connections)
{
    static struct model m;
    for (uint64_t round = 0; round < 4; round++) {
        struct world w;
        struct rand r;
        rand_seed(&r, testing_seed() + 100 + round);
        memset(&m, 0, sizeof m);
        world_open(&w, testing_seed() + round);
        net_sim_faults(w.net, 1500, 500);
        world_start(&w);
        struct opendfs_file *f = world_file(&w, "/f", MAKE);
        for (unsigned i = 0; i < 40; i++) {
            random_step(&w, &m, &r, f);
        }
        CHECK_OK(DO(&w, close, f, NULL, 0));
        check_contents(&w, "/f", m.bytes, m.size);
        net_sim_faults(w.net, 0, 0);
        world_close(&w);
    }
}

/* Many at once, through one client: what cli does with a tree. */
#define MANY 128u
struct many {
    struct opendfs_op op;
    struct world *w;
    char path[16];
    unsigned *left;
};
static void many_done(struct opendfs_op *op)
{
    struct many *m = op->context;
    CHECK(op->result == 0);
    --*m->left;
}
static bool many_are_done(void *ctx)
{
    return *(unsigned *)ctx == 0;
}
TEST(hundreds_of_operations_are_under_way_at_once)
{
    static struct many many[MANY];
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    unsigned left = MANY;
    memset(many, 0, sizeof many);
    w.cluster->meta_fault = (struct fake_fault){.count = 9, .after = true};
    for (unsigned i = 0; i < MANY; i++) {
        struct many *m = &many[i];
        (void)snprintf(m->path, sizeof m->path, "/d%u", i % 32);
        m->left = &left;
        m->op.done = many_done;
        m->op.context = m;
        opendfs_async_make_directories(w.fs, &m->op, m->path, 0755);
    }
    CHECK_TRUE(loop_sim_run(w.sim, many_are_done, &left, loop_sim_now_ns(w.sim) + 60 * SECOND));
    CHECK_OK(DO(&w, list, "/", "", 0));
    opendfs_async_release(w.fs, &w.op);
    world_close(&w);
}
