/* bench/tree/ours.c -- our tree, on the calling thread's loop. */
#include "engine.h"

#include "base/env.h"
#include "base/log.h"
#include "base/mem.h"
#include "disk/disk.h"
#include "loop/loop.h"
#include "tree/tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OURS_TICK 64u /* groups between two looks at the loop */
#define OURS_NEEDS 256u

static struct {
    struct env env;
    struct kv *kv;
    struct kv_batch batch;
    struct kv_need need;
    struct kv_fetch fetch;
    struct kv_checkpoint checkpoint;
    uint64_t index;
    unsigned groups;
    bool fetching, checkpointing, waiting, stopped;
} ours;

struct ours_place {
    size_t len;
    uint8_t key[KV_KEY_MAX + 1];
};

static void ours_check(int rc, const char *what)
{
    struct err e = {0};
    if (rc < 0) {
        if (ours.kv != NULL) {
            (void)kv_failed(ours.kv, &e);
        }
        engine_die(what, e.text[0] != 0 ? e.text : err_name(rc));
    }
}

static void ours_step(uint64_t wait_ns)
{
    loop_run_once(ours.env.loop, wait_ns);
}

static void ours_open(const char *directory, uint64_t cache_bytes, bool create)
{
    char path[4096];
    struct err e = {0};
    struct tree_found found;
    struct loop_options loop = {.name = "bench"};
    struct disk_pool_options disk = {0};
    (void)snprintf(path, sizeof path, "%s/tree", directory);
    int rc = loop_new(&loop, &ours.env.loop, &e);
    rc = rc < 0 ? rc : disk_pool_new(&ours.env, &disk, &ours.env.disk);
    ours_check(rc, "loop and disk");
    const char *threads = getenv("BENCH_IO"); /* NOLINT(concurrency-mt-unsafe) */
    bool uring = (threads == NULL || strcmp(threads, "threads") != 0) &&
                 disk_pool_use_uring(ours.env.disk) == 0;
    fprintf(stderr, "files are read and written by %s\n", uring ? "io_uring" : "threads");
    loop_set_polling(ours.env.loop, LOOP_POLL_US); /* as servers do */
    struct tree_options opt = {.env = &ours.env,
                               .path = path,
                               .owner = (const uint8_t *)"a benchmark's ow",
                               .cache_bytes = cache_bytes};
    rc = create ? tree_create(&opt, &e) : 0;
    rc = rc < 0 ? rc : tree_open(&opt, &ours.kv, &found, &e);
    if (rc < 0) {
        engine_die("open", e.text);
    }
    ours.index = kv_applied_index(ours.kv);
    kv_batch_init(&ours.batch);
}

static void ours_checkpoint_done(struct kv_checkpoint *c, int rc)
{
    (void)c;
    ours_check(rc, "checkpoint");
    ours.checkpointing = false;
}

/* Spread over a part of that, as the metadata server does. */
static void ours_checkpoint_begin(double seconds)
{
    uint64_t pace_ns = (uint64_t)(seconds * 0.4e9);
    ours.checkpointing = true;
    ours.checkpoint =
        (struct kv_checkpoint){.done = ours_checkpoint_done, .term = 1, .pace_ns = pace_ns};
    kv_checkpoint(ours.kv, &ours.checkpoint);
}

static bool ours_checkpoint_over(void)
{
    return !ours.checkpointing;
}

static void ours_checkpoint(void)
{
    kv_checkpoint_hurry(ours.kv);
    while (ours.checkpointing) {
        ours_step(1000000000);
    }
    ours_checkpoint_begin(0);
    while (ours.checkpointing) {
        ours_step(1000000000);
    }
}

static void ours_stopped(struct kv_stop *s)
{
    (void)s;
    ours.stopped = true;
}

static void ours_close(void)
{
    struct kv_stop stop = {.done = ours_stopped};
    ours_checkpoint();
    kv_stop(ours.kv, &stop);
    while (!ours.stopped) {
        ours_step(1000000000);
    }
    kv_batch_fini(&ours.batch);
    ours.kv = kv_free(ours.kv);
    disk_free(ours.env.disk);
    loop_free(ours.env.loop);
}

static void ours_begin(void)
{
    kv_batch_clear(&ours.batch);
}

static void ours_put(struct kv_slice key, struct kv_slice value)
{
    (void)kv_batch_put(&ours.batch, key, value);
}

static void ours_remove(struct kv_slice key)
{
    (void)kv_batch_delete(&ours.batch, key);
}

static void ours_add(struct kv_slice key, uint16_t offset, uint32_t value_len)
{
    struct kv_field f = {.offset = offset, .op = KV_FIELD_ADD, .operand = 1};
    (void)kv_batch_upsert(&ours.batch, key, value_len, &f, 1);
}

static void ours_remove_range(struct kv_slice low, struct kv_slice high)
{
    (void)kv_batch_delete_range(&ours.batch, low, high);
}

static void ours_roomy(struct kv_room *r)
{
    (void)r;
    ours.waiting = false;
}

static void ours_end(void)
{
    int rc;
    while ((rc = kv_commit(ours.kv, &ours.batch, ours.index + 1)) == -ERR_busy) {
        struct kv_room room = {.done = ours_roomy};
        ours.waiting = true;
        kv_room(ours.kv, &room);
        while (ours.waiting) {
            ours_step(1000000000);
        }
    }
    ours_check(rc, "commit");
    ours.index++;
    if (++ours.groups % OURS_TICK == 0 || ours.batch.count >= OURS_TICK) {
        ours_step(0);
    }
}

static void ours_fetched(struct kv_fetch *f, int rc)
{
    (void)f;
    ours_check(rc, "fetch");
    ours.fetching = false;
}

static void ours_fetch(void)
{
    ours.fetching = true;
    ours.fetch = (struct kv_fetch){.need = &ours.need, .done = ours_fetched};
    kv_fetch(ours.kv, &ours.fetch);
    while (ours.fetching) {
        ours_step(1000000000);
    }
}

static struct kv_snapshot *ours_snapshot(void)
{
    struct kv_snapshot *s = NULL;
    ours_check(kv_snapshot_new(ours.kv, &s), "snapshot");
    return s;
}

static int ours_look(struct kv_slice key, uint8_t *value, size_t *ret_len)
{
    struct kv_snapshot *s = ours_snapshot();
    struct kv_slice found = {0};
    int rc;
    while ((rc = kv_get(s, key, &ours.need, &found)) == -ERR_need) {
        ours_fetch();
    }
    if (rc == 1) {
        CHECK(found.len <= ENGINE_VALUE_MAX);
        memcpy(value, found.at, found.len);
        *ret_len = found.len;
    }
    kv_need_release(&ours.need);
    kv_snapshot_free(s);
    return rc;
}

static bool ours_get(struct kv_slice key, uint8_t *value, size_t *ret_len)
{
    int rc;
    do {
        rc = ours_look(key, value, ret_len);
    } while (rc == -ECANCELED);
    ours_check(rc, "get");
    return rc == 1;
}

/* 0: all was seen, or enough; -ECANCELED: the snapshot was given up, `at` is where to go on. */
static int ours_walk(struct kv_iter *it, struct kv_slice from, struct ours_place *at,
                     bool (*see)(struct kv_slice key, struct kv_slice value))
{
    for (bool first = true;; first = false) {
        int rc;
        while ((rc = first ? kv_iter_seek(it, from) : kv_iter_next(it)) == -ERR_need) {
            if (ours.need.count > OURS_NEEDS) { /* what a long walk has behind it may go */
                kv_need_release(&ours.need);
            } else {
                ours_fetch();
            }
        }
        if (rc <= 0 || !see(it->key, it->value)) {
            return rc < 0 ? rc : 0;
        }
        CHECK(it->key.len < sizeof at->key);
        memcpy(at->key, it->key.at, it->key.len);
        at->len = it->key.len;
    }
}

static void ours_scan(struct kv_slice from, bool (*see)(struct kv_slice key, struct kv_slice value))
{
    struct ours_place at = {0};
    int rc;
    do {
        struct kv_snapshot *s = ours_snapshot();
        struct kv_iter_options opt = {.need = &ours.need};
        struct kv_iter *it = NULL;
        ours_check(kv_iter_new(s, &opt, &it), "scan");
        rc = ours_walk(it, from, &at, see);
        kv_iter_free(it);
        kv_need_release(&ours.need);
        kv_snapshot_free(s);
        if (at.len > 0) { /* behind the last one that was seen */
            at.key[at.len] = 0;
            from = kv_slice_of(at.key, at.len + 1);
        }
    } while (rc == -ECANCELED);
    ours_check(rc, "scan");
}

static void ours_say(void)
{
    static const char *const kind[] = {"serialise", "compress",   "write",
                                       "read",      "decompress", "deserialise"};
    struct tree_statistics s;
    tree_statistics(ours.kv, &s);
    fprintf(stderr,
            "  ours: height %llu, %llu nodes, cache %llu of %llu MB (clean %llu, dirty %llu, "
            "memtables %llu), file %llu MB (free %llu), flushes %llu, splits %llu, merges %llu, "
            "flushed %llu MB, written %llu MB, checkpoints %llu, busy %llu\n",
            (unsigned long long)s.height, (unsigned long long)s.nodes,
            (unsigned long long)s.cache_used >> 20, (unsigned long long)s.cache_limit >> 20,
            (unsigned long long)s.clean_bytes >> 20, (unsigned long long)s.dirty_bytes >> 20,
            (unsigned long long)s.memtable_bytes >> 20, (unsigned long long)s.file_bytes >> 20,
            (unsigned long long)s.file_free_bytes >> 20, (unsigned long long)s.flushes,
            (unsigned long long)s.splits, (unsigned long long)s.merges,
            (unsigned long long)s.flushed_bytes >> 20, (unsigned long long)s.written_bytes >> 20,
            (unsigned long long)s.checkpoints, (unsigned long long)s.busy);
    for (unsigned i = 0; i < ARRAY_COUNT(kind); i++) {
        fprintf(stderr, "    %-12s %8llu times %8.2f s %8llu MB\n", kind[i],
                (unsigned long long)s.time_count[i], (double)s.time_ns[i] * 1e-9,
                (unsigned long long)s.time_bytes[i] >> 20);
    }
}

const struct engine engine_ours = {.name = "ours",
                                   .open = ours_open,
                                   .close = ours_close,
                                   .begin = ours_begin,
                                   .put = ours_put,
                                   .remove = ours_remove,
                                   .end = ours_end,
                                   .get = ours_get,
                                   .scan = ours_scan,
                                   .checkpoint = ours_checkpoint,
                                   .add = ours_add,
                                   .remove_range = ours_remove_range,
                                   .checkpoint_begin = ours_checkpoint_begin,
                                   .checkpoint_over = ours_checkpoint_over,
                                   .say = ours_say};
