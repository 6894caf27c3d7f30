/*
 * tree/fetch_real_test.c -- tree/fetch.h with real threads and a real disk: the loop fetches all
 * the time in a cache that is too small for everything, while readers pin what is there and compare
 * it with what was written. For the thread sanitizer.
 */
#include "tree/fetch.h"

#include <pthread.h>
#include <sched.h>

#include "disk/disk.h"
#include "loop/executor.h"
#include "loop/loop.h"
#include "testing/testing.h"
#include "tree/rig_fetch_priv.h"

#define NODES 4u
#define READERS 3u
#define ASKS 4u
#define ROUNDS 60u
#define WANTED 6u
#define MS UINT64_C(1000000)

struct world;

struct ask {
    struct kv_fetch fetch;
    struct kv_need need;
    struct world *world;
    unsigned rounds;
};

struct world {
    struct env env;
    struct kv kv;
    struct rand rand;
    struct tree_file *file;
    struct tree_file_found found;
    struct tree_file_write write;
    struct tree_file_stop stop;
    struct tree_cache *cache;
    struct tree_nodes *nodes;
    struct loop_executor *executor;
    struct tree_fetcher *x;
    struct tree_times times;
    struct made_spec spec[NODES];
    struct made made[NODES];
    uint8_t *raw[NODES][MADE_PARTS_MAX]; /* what readers compare with */
    struct ask ask[ASKS];
    size_t waits, got, short_of;
    _Atomic bool over;
};

struct reader {
    struct world *world;
    pthread_t thread;
    uint64_t seed;
    size_t seen;
    const char *wrong;
};

static void world_wait(struct world *w)
{
    uint64_t end = loop_now_ns(w->env.loop) + 60000 * MS;
    while (w->waits > 0 && loop_now_ns(w->env.loop) < end) {
        loop_run_once(w->env.loop, 10 * MS);
    }
    CHECK_EQ(w->waits, 0);
}

static void world_written(struct tree_file_write *q, int rc)
{
    struct world *w = container_of(q, struct world, write);
    CHECK_OK(rc);
    w->waits--;
}

static void world_write(struct world *w, size_t n)
{
    struct made_spec *s = &w->spec[n];
    struct made *m = &w->made[n];
    uint64_t birth = tree_file_number(w->file);
    *s = (struct made_spec){.level = n % 2 == 0 ? 0 : 1,
                            .slots = 12,
                            .keys = 40,
                            .value_len = 60,
                            .codec = n < 2 ? TREE_CODEC_LZ4 : TREE_CODEC_ZSTD};
    CHECK_OK(tree_file_block_new(w->file, s->level, &s->block));
    made_node(m, s, w->found.super.file_id, birth);
    w->write = (struct tree_file_write){.done = world_written,
                                        .block = s->block,
                                        .birth = birth,
                                        .buf = m->bytes,
                                        .len = m->header.total_len,
                                        .header_len = (uint32_t)base_align_up(m->head_len, 512),
                                        .checksum = m->sum,
                                        .level = s->level};
    w->waits = 1;
    tree_file_write(w->file, &w->write);
    world_wait(w);
    for (uint32_t i = 0; i <= s->slots; i++) {
        w->raw[n][i] = mem_alloc(m->partition[i].raw_len + MADE_SLACK);
        CHECK_EQ(made_raw(s, &m->header, i, w->raw[n][i]), m->partition[i].raw_len);
    }
}

static void world_unpin(struct kv *kv, struct kv_need_item *item)
{
    (void)kv;
    tree_need_unpin(item);
}
static const struct kv_ops world_kv_ops = {.unpin = world_unpin};

static void world_open(struct world *w)
{
    struct err e = {0};
    const struct loop_options lo = {.name = "tree"};
    const struct disk_pool_options po = {.max_threads = 2};
    const struct tree_super first = {.fanout = 32};
    CLEANUP(mem_freep) char *path = mem_printf("%s/tree", testing_directory());
    CHECK_TRUE(path != NULL);
    CHECK_OK(loop_new(&lo, &w->env.loop, &e));
    CHECK_OK(disk_pool_new(&w->env, &po, &w->env.disk));
    const struct tree_file_options fo = {.env = &w->env, .path = path};
    CHECK_OK(tree_file_create(&fo, &first, &e));
    CHECK_OK(tree_file_open(&fo, &w->file, &w->found, &e));
    for (size_t n = 0; n < NODES; n++) {
        world_write(w, n);
    }
    const struct tree_cache_options co = {.limit_bytes = 128u << 10};
    CHECK_OK(tree_cache_new(&co, &w->cache));
    const struct tree_nodes_options no = {.file = w->file, .cache = w->cache};
    CHECK_OK(tree_nodes_new(&no, &w->nodes));
    const struct loop_executor_options eo = {.name = "tree", .max_threads = 2, .max_queued = 64};
    CHECK_OK(loop_executor_new(&eo, &w->executor));
    const struct tree_fetcher_options xo = {.env = &w->env,
                                            .file = w->file,
                                            .nodes = w->nodes,
                                            .cache = w->cache,
                                            .executor = w->executor,
                                            .times = &w->times,
                                            .file_id = w->found.super.file_id,
                                            .reads_max = 3};
    CHECK_OK(tree_fetcher_new(&xo, &w->x));
    w->kv.ops = &world_kv_ops;
}

static void world_stopped(struct tree_file_stop *s)
{
    container_of(s, struct world, stop)->waits--;
}

static void world_close(struct world *w)
{
    CHECK_TRUE(!tree_fetcher_busy(w->x));
    w->x = tree_fetcher_free(w->x);
    w->nodes = tree_nodes_free(w->nodes);
    w->cache = tree_cache_free(w->cache);
    w->executor = loop_executor_free(w->executor);
    w->stop.done = world_stopped;
    w->waits = 1;
    tree_file_stop(w->file, &w->stop);
    world_wait(w);
    w->file = tree_file_free(w->file);
    tree_file_found_fini(&w->found);
    (void)disk_free(w->env.disk);
    (void)loop_free(w->env.loop);
    for (size_t n = 0; n < NODES; n++) {
        mem_free(w->made[n].bytes);
        for (uint32_t i = 0; i < MADE_PARTS_MAX; i++) {
            mem_free(w->raw[n][i]);
        }
    }
}

/* ---- the loop's thread ---- */

static void ask_begin(struct ask *a);

static void ask_done(struct kv_fetch *f, int rc)
{
    struct ask *a = container_of(f, struct ask, fetch);
    struct world *w = a->world;
    CHECK_TRUE(rc == 0 || rc == -ENOMEM);
    w->got += a->need.count - a->need.missing;
    w->short_of += rc < 0 ? 1 : 0;
    kv_need_release(&a->need);
    w->waits--;
    if (a->rounds > 0) {
        ask_begin(a);
    }
}

static void ask_begin(struct ask *a)
{
    struct world *w = a->world;
    const struct tree_need_from from = {.kv = &w->kv, .need = &a->need};
    for (unsigned i = 0; i < WANTED; i++) {
        const struct made_spec *s = &w->spec[rand_below(&w->rand, NODES)];
        struct tree_need_name name = {.block = s->block, .part = TREE_NEED_HEAD};
        if (!rand_chance(&w->rand, 1, 8)) {
            name.part = (uint32_t)rand_below(&w->rand, s->slots + 1u);
        }
        CHECK_RC(tree_need_miss(&from, &name), ERR_need);
    }
    a->rounds--;
    w->waits++;
    a->fetch = (struct kv_fetch){.need = &a->need, .done = ask_done};
    tree_fetcher_fetch(w->x, rand_chance(&w->rand, 1, 2) ? TREE_FETCH_READER : TREE_FETCH_JOB,
                       &a->fetch);
}

/* ---- readers ---- */

static void reader_look(struct reader *r, size_t n, uint32_t i)
{
    struct world *w = r->world;
    struct tree_node *node = tree_nodes_find(w->nodes, w->spec[n].block, 0);
    if (node == NULL) {
        r->wrong = "a node";
    } else if (tree_node_pin(node)) {
        struct tree_part *p = node->head->part[i];
        if (tree_part_pin(p)) {
            r->seen++;
            r->wrong = memcmp(p->bytes, w->raw[n][i], p->raw_len) == 0 ? r->wrong : "bytes";
            tree_part_unpin(p);
        }
        tree_node_unpin(node);
    }
}

static void *reader_run(void *arg)
{
    struct reader *r = arg;
    struct world *w = r->world;
    struct rand rand;
    rand_seed(&rand, r->seed);
    while (r->wrong == NULL && (!w->over || r->seen == 0)) { /* once, however late it began */
        size_t n = rand_below(&rand, NODES);
        reader_look(r, n, (uint32_t)rand_below(&rand, w->spec[n].slots + 1u));
        (void)sched_yield();
    }
    return NULL;
}

TEST(fetch_goes_on_while_others_read)
{
    static struct world w;
    struct reader reader[READERS];
    w = (struct world){0};
    rand_seed(&w.rand, testing_seed());
    world_open(&w);
    for (unsigned i = 0; i < READERS; i++) {
        reader[i] = (struct reader){.world = &w, .seed = testing_seed() + i};
        CHECK_EQ(pthread_create(&reader[i].thread, NULL, reader_run, &reader[i]), 0);
    }
    for (unsigned i = 0; i < ASKS; i++) {
        w.ask[i] = (struct ask){.world = &w, .rounds = ROUNDS};
        ask_begin(&w.ask[i]);
    }
    world_wait(&w);
    w.over = true;
    size_t seen = 0;
    for (unsigned i = 0; i < READERS; i++) {
        CHECK_EQ(pthread_join(reader[i].thread, NULL), 0);
        CHECK_TRUE(reader[i].wrong == NULL);
        seen += reader[i].seen;
    }
    struct tree_cache_info info;
    tree_cache_info(w.cache, &info);
    CHECK_TRUE(w.got > (size_t)ASKS * ROUNDS && w.short_of < (size_t)ASKS * ROUNDS);
    CHECK_TRUE(seen > 0 && info.evictions > 0);
    CHECK_TRUE(w.times.ns[TREE_TIME_READ] > 0 && w.times.ns[TREE_TIME_DECOMPRESS] > 0);
    world_close(&w);
}
