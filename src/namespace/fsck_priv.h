/* namespace/fsck_priv.h -- one record being checked (fsck.h). */
#pragma once

#include "namespace/fsck.h"

#define FSCK_FOUND_MAX 8u /* of one record; more say nothing new */

struct fsck_check {
    const struct namespace_view *v;
    struct namespace_fsck next; /* as it is after this record */
    struct namespace_state state;
    struct kv_slice key, value;      /* of the record */
    struct namespace_finding *found; /* FSCK_FOUND_MAX, in the arena */
    size_t count;
};

/* fsck.c */
void namespace_fsck_say(struct fsck_check *c, const char *code, uint64_t ino, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Says that something should not be so when it is not. */
#define FSCK_WANT(c, so, code, ino, ...)                         \
    do {                                                         \
        if (!(so)) {                                             \
            namespace_fsck_say((c), (code), (ino), __VA_ARGS__); \
        }                                                        \
    } while (0)
/* 1, 0 or an error of reading. */
int namespace_fsck_has(struct fsck_check *c, const struct namespace_key *key);
int namespace_fsck_has_any(struct fsck_check *c, const struct namespace_key *prefix);
/* 1; 0: there is none, or it cannot be read, which its own check says. */
int namespace_fsck_get(struct fsck_check *c, const struct namespace_key *key,
                       const struct proto_type *t, void *ret);
#define FSCK_GET(c, key, tag, ret) \
    namespace_fsck_get((c), (key), &tag##_type, (1 ? (ret) : (struct tag *)NULL))
int namespace_fsck_inode(struct fsck_check *c, uint64_t ino, struct namespace_inode *ret);
/* Decodes the record's own value: 1; 0: said that it is broken. */
int namespace_fsck_value(struct fsck_check *c, const struct proto_type *t, void *ret);
/* The key has exactly (at least, `open`) so many bytes; else says so. */
bool namespace_fsck_key_fits(struct fsck_check *c, size_t len, bool open);
/* The run that this record belongs to. */
struct namespace_fsck_run *namespace_fsck_run(struct fsck_check *c, uint64_t id);
static inline uint64_t fsck_id(const struct fsck_check *c, size_t offset)
{
    return namespace_key_read_u64(c->key, offset);
}

/* fsck_names.c, fsck_sessions.c, fsck_cluster.c: 0 or an error of reading. */
int namespace_fsck_names_record(struct fsck_check *c, enum namespace_range range, bool *ret_known);
int namespace_fsck_names_run_end(struct fsck_check *c, const struct namespace_fsck_run *run);
int namespace_fsck_session_record(struct fsck_check *c, enum namespace_range range,
                                  bool *ret_known);
int namespace_fsck_session_run_end(struct fsck_check *c, const struct namespace_fsck_run *run);
int namespace_fsck_cluster_record(struct fsck_check *c, enum namespace_range range,
                                  bool *ret_known);
