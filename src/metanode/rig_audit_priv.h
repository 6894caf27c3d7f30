/*
 * metanode/rig_audit_priv.h -- for tests only (also of test/sim): what a server has applied, as a
 * number and as text. Inside the server's process (loop_sim_enter).
 */
#pragma once

#include "base/text.h"
#include "metanode/metanode_priv.h"
#include "proto/table.h"

#include <string.h>

struct rig_audit {
    const struct metanode *m;
    uint64_t index, digest;
    bool all;          /* nothing of the log is left to be applied */
    struct text *text; /* may be NULL: all records, without what depends on time and chance */
};

struct rig_audit_fetch {
    struct kv_fetch base;
    int rc;
    bool done;
};
static inline void rig_audit_fetched(struct kv_fetch *f, int rc)
{
    struct rig_audit_fetch *a = container_of(f, struct rig_audit_fetch, base);
    a->rc = rc;
    a->done = true;
}
/* Brings in what is missing, by polling: the engine in memory needs no loop for it. */
static inline void rig_audit_fetch(const struct metanode *m, struct kv_need *need)
{
    struct rig_audit_fetch f = {.base = {.need = need, .done = rig_audit_fetched}};
    kv_fetch(m->kv, &f.base);
    while (!f.done) {
        (void)kv_poll(m->kv);
    }
    CHECK(f.rc == 0);
}

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

static inline void rig_audit_record(const struct rig_audit *a, struct kv_slice key,
                                    struct kv_slice value, struct mem_arena *arena)
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
    mem_arena_reset(arena);
    void *record = type == NULL ? NULL : mem_arena_alloc(arena, type->size + 1);
    if (record != NULL && proto_decode(type, value.at, value.len, arena, record) == 0) {
        text_init(&t, line, sizeof line);
        proto_to_text(type, record, &t);
        rig_audit_filter(line, a->text);
    }
    text_add(a->text, "\n");
}

static inline void rig_audit_records(struct rig_audit *a, struct kv_snapshot *s,
                                     struct kv_need *need)
{
    struct mem_arena arena;
    struct kv_iter_options opt = {.need = need};
    struct kv_iter *it = NULL;
    mem_arena_init(&arena, 1u << 20);
    CHECK(kv_iter_new(s, &opt, &it) == 0);
    bool begun = false;
    int rc = kv_iter_seek(it, kv_slice_of("", 0));
    while (rc != 0) {
        if (rc == -ERR_need) { /* it has not moved: the same again */
            rig_audit_fetch(a->m, need);
        } else {
            CHECK(rc == 1);
            rig_audit_record(a, it->key, it->value, &arena);
            begun = true;
        }
        rc = begun ? kv_iter_next(it) : kv_iter_seek(it, kv_slice_of("", 0));
    }
    kv_iter_free(it);
    mem_arena_fini(&arena);
}

static inline void rig_audit_in(void *context)
{
    struct rig_audit *a = context;
    CLEANUP(kv_snapshot_freep) struct kv_snapshot *s = NULL;
    struct kv_need need = {0};
    struct mem_arena arena;
    struct namespace_digest d = {0};
    struct consensus_info info;
    CHECK(kv_snapshot_new(a->m->kv, &s) == 0);
    mem_arena_init(&arena, 1u << 20);
    struct namespace_view v = {.snapshot = s, .need = &need, .arena = &arena};
    while (!d.done) {
        int rc = namespace_digest_step(&v, 100, &d);
        if (rc == -ERR_need) {
            rig_audit_fetch(a->m, &need);
            continue;
        }
        CHECK(rc == 0);
        kv_need_release(&need);
    }
    if (a->text != NULL) {
        rig_audit_records(a, s, &need);
        kv_need_release(&need);
    }
    consensus_info(a->m->consensus, &info);
    a->digest = d.value;
    a->index = s->index;
    a->all = info.last_index == s->index;
    mem_arena_fini(&arena);
}
