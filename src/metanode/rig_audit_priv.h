/*
 * metanode/rig_audit_priv.h -- for tests only: what a server has applied, as a number and as text.
 * Goes on inside the server's process, and waits outside for what is to be fetched.
 */
#pragma once

#include "base/text.h"
#include "loop/sim.h"
#include "metanode/metanode_priv.h"
#include "proto/table.h"

#include <string.h>

struct rig_audit {
    const struct metanode *m;
    uint64_t index, digest;
    struct text *text; /* may be NULL: all records, without what depends on time and chance */
    /* private */
    struct kv_snapshot *snapshot;
    struct kv_need need;
    struct kv_fetch fetch;
    struct kv_iter *it;
    struct mem_arena arena;
    struct namespace_digest sum;
    bool fetching, done;
};

static inline const struct proto_type *rig_audit_type(uint8_t range)
{
    static const struct proto_type *const types[256] = {
        [NAMESPACE_STATE] = &namespace_state_type,
        [NAMESPACE_TABLE] = &proto_table_type,
        [NAMESPACE_CLASS] = &proto_storage_class_type,
        [NAMESPACE_DIRENT] = &namespace_dirent_type,
        [NAMESPACE_INODE] = &namespace_inode_type,
        [NAMESPACE_ROW] = &proto_row_type,
        [NAMESPACE_DIR_STATS] = &namespace_dir_stats_type,
        [NAMESPACE_TARGET_UUID] = &namespace_id_type,
        [NAMESPACE_CRED] = &namespace_cred_type,
        [NAMESPACE_CRED_INDEX] = &namespace_id_type,
        [NAMESPACE_GARBAGE] = &namespace_garbage_type,
        [NAMESPACE_SLOT] = &namespace_slot_type,
        [NAMESPACE_ORPHAN] = &namespace_orphan_type,
        [NAMESPACE_SESSION] = &namespace_session_type,
        [NAMESPACE_TRIM] = &namespace_trim_type,
        [NAMESPACE_CLIENT] = &namespace_id_type,
        [NAMESPACE_WOPEN] = &namespace_wopen_type,
    };
    return types[range];
}

/* Does this field depend on when it happened, on what else the log holds, or on chance? */
static inline bool rig_audit_is_loose(const char *name, size_t len)
{
    static const char *const loose[] = {
        "version",    "change",         "data_version",   "applied_index",  "applied_parts",
        "time_ns",    "opened_version", "version_before", "parent_version", "seed",
        "generation", "trailer",        "lease_epoch",    "push_seq",       "renewed",
        "as_of",      "capability",     "expiry_wall_ms", "key_id",         "mac",
        "turn"};
    if (len > 3 && memcmp(name + len - 3, "_ns", 3) == 0) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_COUNT(loose); i++) {
        if (strlen(loose[i]) == len && memcmp(loose[i], name, len) == 0) {
            return true;
        }
    }
    return false;
}
/* Copies what proto_to_text() says, without the values of such fields. */
static inline void rig_audit_filter(const char *from, struct text *out)
{
    while (*from != 0) {
        size_t name = strspn(from, "abcdefghijklmnopqrstuvwxyz_0123456789");
        if (name > 0 && from[name] == '=' && rig_audit_is_loose(from, name)) {
            size_t value = strspn(from + name + 1, "-0123456789abcdefghijklmnopqrstuvwxyz<>");
            from += name + 1 + value;
            continue;
        }
        name = name == 0 ? 1 : name;
        text_add(out, "%.*s", (int)name, from);
        from += name;
    }
}

static inline void rig_audit_record(struct rig_audit *a, struct kv_slice key, struct kv_slice value)
{
    const uint8_t *bytes = key.at;
    char line[4096];
    struct text t;
    const struct proto_type *type = rig_audit_type(bytes[0]);
    text_add(a->text, "%c ", bytes[0]);
    for (size_t i = 1; i < key.len; i++) {
        text_add(a->text, "%02x", bytes[i]);
    }
    text_add(a->text, " (%zu) ", type == NULL ? value.len : 0);
    mem_arena_reset(&a->arena);
    void *record = type == NULL ? NULL : mem_arena_alloc(&a->arena, type->size + 1);
    if (record != NULL && proto_decode(type, value.at, value.len, &a->arena, record) == 0) {
        text_init(&t, line, sizeof line);
        proto_to_text(type, record, &t);
        rig_audit_filter(line, a->text);
    }
    text_add(a->text, "\n");
}

static inline void rig_audit_fetched(struct kv_fetch *f, int rc)
{
    CHECK(rc == 0);
    container_of(f, struct rig_audit, fetch)->fetching = false;
}

/* 0; -ERR_need: what it lacks is on its way. */
static inline int rig_audit_lacks(struct rig_audit *a, int rc)
{
    if (rc == -ERR_need) {
        a->fetching = true;
        a->fetch = (struct kv_fetch){.need = &a->need, .done = rig_audit_fetched};
        kv_fetch(a->m->kv, &a->fetch);
        return rc;
    }
    CHECK(rc >= 0);
    return 0;
}

static inline int rig_audit_sum(struct rig_audit *a)
{
    struct namespace_view v = {.snapshot = a->snapshot, .need = &a->need, .arena = &a->arena};
    int rc = 0;
    while (rc == 0 && !a->sum.done) {
        rc = rig_audit_lacks(a, namespace_digest_step(&v, 100, &a->sum));
        if (rc == 0) {
            kv_need_release(&a->need);
        }
    }
    return rc;
}

static inline int rig_audit_records(struct rig_audit *a)
{
    struct kv_iter_options opt = {.need = &a->need};
    int rc = a->it != NULL ? 0 : kv_iter_new(a->snapshot, &opt, &a->it);
    CHECK(rc == 0);
    do { /* on an error it has not moved: the same again */
        rc = a->it->key.at == NULL ? kv_iter_seek(a->it, kv_slice_of("", 0)) : kv_iter_next(a->it);
        if (rc == 1) {
            rig_audit_record(a, a->it->key, a->it->value);
        }
    } while (rc == 1);
    return rig_audit_lacks(a, rc);
}

static inline void rig_audit_in(void *context)
{
    struct rig_audit *a = context;
    if (a->snapshot == NULL) {
        CHECK(kv_snapshot_new(a->m->kv, &a->snapshot) == 0);
        mem_arena_init(&a->arena, 1u << 20);
    }
    if (rig_audit_sum(a) < 0 || (a->text != NULL && rig_audit_records(a) < 0)) {
        return;
    }
    a->digest = a->sum.value;
    a->index = a->snapshot->index;
    a->it = kv_iter_free(a->it);
    kv_need_release(&a->need);
    a->snapshot = kv_snapshot_free(a->snapshot);
    mem_arena_fini(&a->arena);
    a->done = true;
}

static inline bool rig_audit_goes_on(void *context)
{
    return !((struct rig_audit *)context)->fetching;
}

static inline void rig_audit(struct loop_sim *sim, struct loop *loop, struct rig_audit *a)
{
    while (!a->done) {
        loop_sim_enter(loop, rig_audit_in, a);
        uint64_t limit_ns = loop_sim_now_ns(sim) + UINT64_C(60000000000);
        CHECK(a->done || loop_sim_run(sim, rig_audit_goes_on, a, limit_ns));
    }
}
