/* namespace/fsck_run_priv.h -- for tests: the check of fsck.h over a whole replica. */
#pragma once

#include "namespace/fsck.h"
#include "namespace/rig_cluster_priv.h"

#include <stdio.h>

#define FSCK_RUN_MAX 64u
struct fsck_run {
    struct namespace_fsck_sink sink;
    struct namespace_finding found[FSCK_RUN_MAX];
    size_t count; /* more are only counted */
    uint64_t records;
};

static inline void fsck_run_found(struct namespace_fsck_sink *s, const struct namespace_finding *f)
{
    struct fsck_run *run = container_of(s, struct fsck_run, sink);
    if (run->count < FSCK_RUN_MAX) {
        run->found[run->count] = *f;
    }
    run->count++;
}

static inline void fsck_run_all(struct rig_replica *m, size_t step, struct fsck_run *run)
{
    CLEANUP(kv_snapshot_freep) struct kv_snapshot *s = NULL;
    struct namespace_fsck f = {.done = false};
    struct mem_arena arena;
    *run = (struct fsck_run){.sink.found = fsck_run_found};
    CHECK_OK(kv_snapshot_new(m->kv, &s));
    mem_arena_init(&arena, 8U << 20);
    struct namespace_view v = {.snapshot = s, .need = &m->need, .arena = &arena};
    while (!f.done) {
        mem_arena_reset(&arena);
        int rc = namespace_fsck_step(&v, step, &f, &run->sink);
        if (rc == -ERR_need) {
            rig_fetch(m);
            continue;
        }
        CHECK_OK(rc);
        kv_need_release(&m->need);
    }
    CHECK_EQ(f.findings, run->count);
    run->records = f.records;
    mem_arena_fini(&arena);
}

/* Nothing is wrong, whatever has to be fetched. */
static inline void fsck_run_clean(struct rig *r)
{
    for (size_t i = 0; i < RIG_REPLICAS; i++) {
        struct fsck_run *run = mem_zalloc(sizeof *run);
        CHECK_TRUE(run != NULL);
        fsck_run_all(&r->replica[i], i == 0 ? 1000 : 7, run);
        for (size_t k = 0; k < base_min(run->count, FSCK_RUN_MAX); k++) {
            (void)fprintf(stderr, "%s: %s (%llu): %s\n", run->found[k].code, run->found[k].path,
                          (unsigned long long)run->found[k].ino, run->found[k].text);
        }
        CHECK_EQ(run->count, 0);
        mem_free(run);
    }
}
