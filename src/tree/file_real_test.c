/* tree/file_real_test.c -- tree/file.h on a real file system, with direct I/O where it can. */
#include "tree/file.h"

#include "base/env.h"
#include "base/mem.h"
#include "loop/loop.h"
#include "testing/testing.h"

#include <string.h>

#define UNIT UINT64_C(4096)
#define BLOCKS 20u
#define MS UINT64_C(1000000)

struct one {
    struct tree_file_write w;
    struct real *real;
};
struct real {
    struct env env;
    struct tree_file_options opt;
    struct tree_file *file;
    struct tree_file_found found;
    struct one write[BLOCKS];
    struct tree_file_read read;
    struct tree_file_commit commit;
    struct tree_file_stop stop;
    uint8_t *bytes; /* a unit for each block */
    unsigned left;
    int rc;
};

static void real_wait(struct real *r)
{
    uint64_t end = loop_now_ns(r->env.loop) + 20000 * MS;
    while (r->left > 0 && loop_now_ns(r->env.loop) < end) {
        loop_run_once(r->env.loop, 10 * MS);
    }
    CHECK_EQ(r->left, 0);
}

static void write_done(struct tree_file_write *w, int rc)
{
    struct real *r = container_of(w, struct one, w)->real;
    r->left--;
    r->rc = rc < 0 ? rc : r->rc;
}

static void commit_done(struct tree_file_commit *c, int rc)
{
    struct real *r = container_of(c, struct real, commit);
    r->left--;
    r->rc = rc;
}

static void read_done(struct tree_file_read *q, int rc)
{
    struct real *r = container_of(q, struct real, read);
    r->left--;
    r->rc = rc;
}

static void stop_done(struct tree_file_stop *s)
{
    struct real *r = container_of(s, struct real, stop);
    r->left--;
}

/* All at once; block i + 1 is full of `what` + i. */
static void write_all(struct real *r, uint8_t what, bool fresh)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        struct tree_file_write *w = &r->write[i].w;
        uint64_t block = i + 1;
        if (fresh) {
            CHECK_OK(tree_file_block_new(r->file, 0, &block));
        }
        memset(r->bytes + i * UNIT, what + (int)i, UNIT);
        *w = (struct tree_file_write){.done = write_done,
                                      .block = block,
                                      .birth = tree_file_number(r->file),
                                      .buf = r->bytes + i * UNIT,
                                      .len = UNIT,
                                      .append = !fresh && i % 2 == 0};
        r->write[i].real = r;
        r->left++;
        tree_file_write(r->file, w);
    }
    real_wait(r);
    CHECK_OK(r->rc);
}

static void checkpoint(struct real *r, uint64_t index)
{
    uint64_t k = 0;
    CHECK_OK(tree_file_freeze(r->file, &k));
    r->commit = (struct tree_file_commit){.done = commit_done, .super.applied_index = index};
    r->left = 1;
    tree_file_commit(r->file, &r->commit);
    real_wait(r);
    CHECK_OK(r->rc);
    CHECK_EQ(r->commit.super.checkpoint, k);
}

static void check_all(struct real *r, uint8_t what)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        struct tree_file_place p;
        CHECK_OK(tree_file_find(r->file, i + 1, &p));
        CHECK_EQ(p.older_count, i % 2 == 0 ? 1 : 0);
        r->read = (struct tree_file_read){
            .done = read_done, .block = i + 1, .extent = p.extent, .len = UNIT, .buf = r->bytes};
        r->left = 1;
        tree_file_read(r->file, &r->read);
        real_wait(r);
        CHECK_OK(r->rc);
        CHECK_TRUE(r->bytes[0] == what + i && r->bytes[UNIT - 1] == what + i);
    }
}

static void close_file(struct real *r)
{
    r->stop.done = stop_done;
    r->left = 1;
    tree_file_stop(r->file, &r->stop);
    real_wait(r);
    r->file = tree_file_free(r->file);
}

static void check_run(bool buffered)
{
    struct real r = {.bytes = mem_aligned(UNIT, BLOCKS * UNIT)};
    struct tree_super first = {.fanout = 32};
    struct err e = {0};
    struct loop_options lo = {.name = "tree"};
    struct disk_pool_options po = {.max_threads = 2};
    CLEANUP(mem_freep) char *path = mem_printf("%s/tree%d", testing_directory(), buffered ? 1 : 0);
    CHECK_TRUE(path != NULL && r.bytes != NULL);
    CHECK_OK(loop_new(&lo, &r.env.loop, &e));
    CHECK_OK(disk_pool_new(&r.env, &po, &r.env.disk));
    r.opt = (struct tree_file_options){
        .env = &r.env, .path = path, .buffered = buffered, .grow_bytes = 32 * UNIT};
    CHECK_OK(tree_file_create(&r.opt, &first, &e));
    CHECK_OK(tree_file_open(&r.opt, &r.file, &r.found, &e));
    write_all(&r, 10, true);
    checkpoint(&r, 100);
    write_all(&r, 50, false);
    checkpoint(&r, 200);
    write_all(&r, 90, false); /* of no checkpoint */
    tree_file_found_fini(&r.found);
    close_file(&r);
    CHECK_OK(tree_file_open(&r.opt, &r.file, &r.found, &e));
    CHECK_TRUE(r.found.super.applied_index == 200 && r.found.older == 2 && !r.found.fell_back);
    check_all(&r, 50);
    checkpoint(&r, 300);
    CHECK_TRUE(tree_file_sound(r.file));
    tree_file_found_fini(&r.found);
    close_file(&r);
    (void)disk_free(r.env.disk);
    (void)loop_free(r.env.loop);
    mem_free(r.bytes);
}

TEST(file_works_on_a_real_disk)
{
    check_run(false);
    check_run(true);
}
