#include "opendfs/where.h"

#include "client/fake_world_priv.h"
#include "testing/testing.h"

/* Where the pieces are, as the map and the members say. */

#define CHUNK ((size_t)FAKE_CHUNK_BYTES)

static uint8_t pattern[70 * CHUNK];

static void write_file(struct world *w, const char *path, size_t len)
{
    struct opendfs_file *f = world_file(w, path, OPENDFS_READ | OPENDFS_WRITE | OPENDFS_CREATE);
    CHECK_EQ(DO(w, pwrite, f, pattern, len, 0), len);
    CHECK_OK(DO(w, close, f, NULL, 0));
}
static void begin(struct world *w)
{
    world_open(w, testing_seed());
    world_start(w);
    world_fill(pattern, sizeof pattern, 3);
}
static const struct opendfs_where *where(struct world *w, const struct opendfs_where_query *q)
{
    CHECK_OK(DO(w, where, q));
    CHECK_TRUE(w->op.data != NULL);
    return w->op.data;
}

/* Tables that do not come with the first page of the map are asked for, and then the other rows. */
TEST(a_map_with_tables_in_pages_of_their_own_is_taken)
{
    struct world w;
    world_open(&w, testing_seed());
    w.cluster->late_tables = true;
    world_start(&w);
    world_fill(pattern, sizeof pattern, 3);
    write_file(&w, "/f", 9 * CHUNK);
    const struct opendfs_where_query q = {.path = "/f"};
    const struct opendfs_where *p = where(&w, &q);
    CHECK_EQ(p->count, 9);
    for (uint32_t i = 0; i < p->count; i++) {
        CHECK_EQ(p->chunks[i].member_count, 2);
    }
    world_close(&w);
}

TEST(each_chunk_has_its_chain_and_each_member_its_say)
{
    struct world w;
    begin(&w);
    write_file(&w, "/f", 3 * CHUNK + 100);
    const struct opendfs_where_query q = {.path = "/f"};
    const struct opendfs_where *p = where(&w, &q);
    CHECK_EQ(p->stat.size_bytes, 3 * CHUNK + 100);
    CHECK_TRUE(!p->in_metadata);
    CHECK_EQ(p->chunk_bytes, CHUNK);
    CHECK_EQ(p->chunk_count, 4);
    CHECK_EQ(p->count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        const struct opendfs_where_chunk *k = &p->chunks[i];
        CHECK_EQ(k->index, i);
        CHECK_EQ(k->epoch, 1);
        CHECK_EQ(k->member_count, 2);
        for (unsigned n = 0; n < 2; n++) {
            const struct opendfs_where_member *m = &k->members[n];
            CHECK_EQ(m->target->id, w.cluster->chain[k->chain - 1].order[n]);
            CHECK_TEXT(m->target->address, w.node[m->target->id].at.text);
            CHECK_TEXT(m->target->host, w.node[m->target->id].at.text);
            CHECK_EQ(m->state, OPENDFS_MEMBER_SERVING);
            CHECK_EQ(m->result, 0);
            CHECK_TRUE(m->there && m->version >= 1 && m->epoch == 1);
            CHECK_EQ(m->length_bytes, i == 3 ? 100 : CHUNK);
        }
    }
    opendfs_async_release(w.fs, &w.op);
    world_close(&w);
}

TEST(many_chunks_come_in_pages)
{
    struct world w;
    begin(&w);
    write_file(&w, "/f", sizeof pattern);
    struct opendfs_where_query q = {.path = "/f"};
    size_t pages = 0;
    for (bool more = true; more; pages++) {
        const struct opendfs_where *p = where(&w, &q);
        CHECK_EQ(p->chunk_count, 70);
        for (size_t i = 0; i < p->count; i++) {
            CHECK_EQ(p->chunks[i].index, q.first + i);
            CHECK_TRUE(p->chunks[i].members[1].there);
        }
        q.first += p->count;
        q.path = NULL;
        q.ino = p->stat.ino;
        more = p->count > 0 && q.first < p->chunk_count;
        opendfs_async_release(w.fs, &w.op);
    }
    CHECK_EQ(pages, 2);
    CHECK_EQ(where(&w, &q)->count, 0); /* behind the end */
    opendfs_async_release(w.fs, &w.op);
    q.first = 69;
    q.max = 1;
    CHECK_EQ(where(&w, &q)->chunks[0].index, 69);
    opendfs_async_release(w.fs, &w.op);
    world_close(&w);
}

TEST(members_that_are_gone_or_lack_it_are_told_apart)
{
    struct world w;
    begin(&w);
    write_file(&w, "/f", CHUNK);
    const struct opendfs_where_query q = {.path = "/f"};
    const struct opendfs_where *p = where(&w, &q);
    uint32_t chain = p->chunks[0].chain, one = p->chunks[0].members[0].target->id,
             two = p->chunks[0].members[1].target->id;
    opendfs_async_release(w.fs, &w.op);
    w.node[one].lacks = true;
    p = where(&w, &q);
    CHECK_EQ(p->chunks[0].members[0].result, 0);
    CHECK_TRUE(!p->chunks[0].members[0].there && p->chunks[0].members[1].there);
    opendfs_async_release(w.fs, &w.op);
    w.node[two].corrupt = true; /* and knows it */
    CHECK_TRUE(where(&w, &q)->chunks[0].members[1].damaged);
    opendfs_async_release(w.fs, &w.op);
    w.node[two].key_min = 99; /* it refuses, whatever the capability */
    p = where(&w, &q);
    CHECK_EQ(p->chunks[0].members[1].result, -EACCES);
    CHECK_TRUE(p->chunks[0].members[1].why[0] != '\0');
    opendfs_async_release(w.fs, &w.op);
    world_kill(&w, two);
    uint64_t began = loop_sim_now_ns(w.sim);
    p = where(&w, &q);
    CHECK_TRUE(loop_sim_now_ns(w.sim) - began < 10 * SECOND);
    CHECK_TRUE(p->chunks[0].members[1].result < 0);
    opendfs_async_release(w.fs, &w.op);
    w.cluster->chain[chain - 1].serving = 1; /* the map of now counts, and nobody asks the other */
    w.cluster->chain[chain - 1].epoch++;
    w.node[one].lacks = false;
    p = where(&w, &q);
    CHECK_EQ(p->chunks[0].epoch, 2);
    CHECK_EQ(p->chunks[0].members[0].result, 0);
    CHECK_EQ(p->chunks[0].members[1].state, OPENDFS_MEMBER_OFFLINE);
    CHECK_EQ(p->chunks[0].members[1].result, -EAGAIN);
    opendfs_async_release(w.fs, &w.op);
    world_close(&w);
}

TEST(what_has_no_chunks_says_so)
{
    struct world w;
    begin(&w);
    write_file(&w, "/small", 10);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    static const char *const paths[] = {"/small", "/d", "/"};
    for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
        const struct opendfs_where_query q = {.path = paths[i]};
        const struct opendfs_where *p = where(&w, &q);
        CHECK_EQ(p->chunk_count, 0);
        CHECK_EQ(p->count, 0);
        CHECK_TRUE(i > 0 || p->in_metadata);
        opendfs_async_release(w.fs, &w.op);
    }
    const struct opendfs_where_query none = {.path = "/none"}, number = {.ino = 4711};
    CHECK_EQ(DO(&w, where, &none), -ENOENT);
    CHECK_TEXT(w.op.error, "/none: No such file or directory");
    CHECK_EQ(DO(&w, where, &number), -ENOENT);
    world_close(&w);
}

/* The end of the client while members are asked. */
TEST(the_end_comes_while_members_are_asked)
{
    struct world w;
    begin(&w);
    write_file(&w, "/f", 3 * CHUNK);
    const struct opendfs_where_query q = {.path = "/f"};
    for (unsigned i = 1; i < NODES; i++) {
        loop_sim_pause(w.loop[i], true);
    }
    opendfs_async_where(w.fs, world_op(&w), &q);
    world_run(&w, SECOND);
    CHECK_TRUE(!w.done);
    for (unsigned i = 1; i < NODES; i++) {
        loop_sim_pause(w.loop[i], false);
    }
    world_close(&w);
    CHECK_EQ(w.op.result, -ECANCELED);
}

TEST(names_come_page_by_page)
{
    struct world w;
    begin(&w);
    write_file(&w, "/f", 10);
    CHECK_OK(DO(&w, stat, "/f"));
    struct opendfs_names cursor = {.ino = w.op.stat.ino};
    static const char *const expected[][2] = {{"/", "f"}, {"/d/e", "again"}};
    for (size_t i = 0; i < 2; i++) {
        CHECK_OK(DO(&w, names_next, &cursor));
        const struct opendfs_names_page *p = w.op.data;
        CHECK_EQ(p->count, 1);
        CHECK_TEXT(p->names[0].directory, expected[i][0]);
        CHECK_TEXT(p->names[0].name, expected[i][1]);
        opendfs_async_release(w.fs, &w.op);
    }
    CHECK_EQ(cursor.after_parent, 2);
    CHECK_TEXT(cursor.after_name, "again");
    cursor = (struct opendfs_names){.ino = 4711};
    CHECK_EQ(DO(&w, names_next, &cursor), -ENOENT);
    world_close(&w);
}
