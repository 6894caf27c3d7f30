/*
 * namespace/query.h -- reads: what clients ask, and what the leader looks up for itself.
 *
 * All of them are functions of a snapshot, by the rules of view.h: -ERR_need means fetch and ask
 * again. Rights are checked with the caller's credential (-EACCES, -EPERM, -ERR_session_expired).
 * Replies point into the view; their trailers and capabilities are left empty for the caller to
 * fill in, and grants are the caller's business: register them before taking the snapshot.
 */
#pragma once

#include "namespace/view.h"

/* Clients' reads; errors as the system calls have them. */
NODISCARD int namespace_lookup(const struct namespace_view *v, const struct proto_lookup_request *q,
                               struct proto_lookup_reply *ret); /* an absent name: 0, attr.ino 0 */
NODISCARD int namespace_walk(const struct namespace_view *v, const struct proto_walk_request *q,
                             struct proto_walk_reply *ret);
NODISCARD int namespace_getattr(const struct namespace_view *v,
                                const struct proto_getattr_request *q,
                                struct proto_getattr_reply *ret);
/* At least one entry fits always. */
NODISCARD int namespace_readdir(const struct namespace_view *v,
                                const struct proto_readdir_request *q,
                                struct proto_readdir_reply *ret);
NODISCARD int namespace_readlink(const struct namespace_view *v,
                                 const struct proto_readlink_request *q,
                                 struct proto_readlink_reply *ret);
NODISCARD int namespace_access(const struct namespace_view *v, const struct proto_access_request *q,
                               struct proto_access_reply *ret);
/* `mode` as the records of writers have it: W or S of the caller's own, S when others write, else
 * R. What others that write must do first is the leader's to see to. */
NODISCARD int namespace_open(const struct namespace_view *v, const struct proto_open_request *q,
                             struct proto_open_reply *ret);
NODISCARD int namespace_read_inline(const struct namespace_view *v,
                                    const struct proto_read_inline_request *q,
                                    struct proto_read_inline_reply *ret);
NODISCARD int namespace_getxattr(const struct namespace_view *v,
                                 const struct proto_getxattr_request *q,
                                 struct proto_getxattr_reply *ret); /* -ENODATA */
NODISCARD int namespace_listxattr(const struct namespace_view *v,
                                  const struct proto_listxattr_request *q,
                                  struct proto_listxattr_reply *ret);
/* Their own for all, anybody's for root (-EPERM). Looks at some thousand records at most: a page
 * may be short, or empty, and say `more`. */
NODISCARD int namespace_trash_list(const struct namespace_view *v,
                                   const struct proto_trash_list_request *q,
                                   struct proto_trash_list_reply *ret);
/* For root (-EPERM). None: it is the root, or has been removed. */
NODISCARD int namespace_names(const struct namespace_view *v, const struct proto_names_request *q,
                              struct proto_names_reply *ret);
/* The retention that holds for `n` into a reply to getattr. */
NODISCARD int namespace_query_keeping(const struct namespace_view *v, uint64_t ino,
                                      const struct namespace_inode *n,
                                      struct proto_getattr_reply *ret);
/* When the next file of the trash is due. */
struct namespace_trash_due {
    uint64_t files; /* 0: the trash is empty */
    uint64_t garbage;
    int64_t expiry_ns;
};
NODISCARD int namespace_trash_first(const struct namespace_view *v,
                                    struct namespace_trash_due *ret);
/*
 * What a capability of this session may say: data id, rights and epoch; the leader adds expiry and
 * MAC. A right to write needs a record of a writer with that epoch. Refused, or nothing in chunks:
 * 0 and data_id 0.
 */
NODISCARD int namespace_capability(const struct namespace_view *v,
                                   const struct proto_caller *caller,
                                   const struct proto_capability_want *want,
                                   struct proto_capability *ret);
NODISCARD int namespace_dir_stats(const struct namespace_view *v,
                                  const struct proto_dir_stats_request *q,
                                  struct proto_dir_stats_reply *ret); /* -ENOTDIR */
/* What a space report of `ino` may say at most, because of quotas on it and above it. */
NODISCARD int namespace_statfs_quota(const struct namespace_view *v, uint64_t ino,
                                     struct proto_statfs_reply *space);
/* Files from the counters; space as the sum of what the targets said last, divided by the copies of
 * the default class. */
NODISCARD int namespace_statfs(const struct namespace_view *v, struct proto_statfs_reply *ret);
/*
 * What the statistics of a directory should be: its own names, and the statistics of the
 * directories in it. Runs in steps of at most `max` names: start with all zero, call until `done`.
 * Fills in parent, files, directories and bytes, and the least that newest_ns and height may be.
 */
struct namespace_dir_sum {
    struct namespace_dir_stats stats;
    struct namespace_key after; /* the last name that counts in it */
    bool done;
};
NODISCARD int namespace_dir_sum_step(const struct namespace_view *v, uint64_t ino, size_t max,
                                     struct namespace_dir_sum *sum);
/* Do the statistics of a directory agree with that sum? */
bool namespace_dir_sum_fits(const struct namespace_dir_stats *s,
                            const struct namespace_dir_sum *sum);
/* Pages of `max_rows` rows; classes, newest tables (older ones on files too) and targets come with
 * the first. Empty but for the epoch when the asker knows it. */
NODISCARD int namespace_cluster_map(const struct namespace_view *v,
                                    const struct proto_cluster_map_request *q, size_t max_rows,
                                    struct proto_cluster_map_reply *ret);

/*
 * Lists in key order, in the arena: number i belongs to record i. `ids` counts from above `after`,
 * at most `max`; `more`: there are others. The names say what the numbers are.
 */
#define NAMESPACE_LIST(tag)         \
    struct namespace_##tag##s {     \
        uint64_t *ids;              \
        struct namespace_##tag *at; \
        size_t count;               \
        bool more;                  \
    };
NAMESPACE_LIST(session)
NAMESPACE_LIST(wopen)
NAMESPACE_LIST(orphan)
NAMESPACE_LIST(fence)
NAMESPACE_LIST(trim)
NAMESPACE_LIST(garbage)
NAMESPACE_LIST(leap)
NAMESPACE_LIST(suspect)

NODISCARD int namespace_sessions(const struct namespace_view *v, uint64_t after, size_t max,
                                 struct namespace_sessions *ret);
NODISCARD int namespace_fences(const struct namespace_view *v, uint64_t after_session, size_t max,
                               struct namespace_fences *ret);
NODISCARD int namespace_trims(const struct namespace_view *v, uint64_t after_ino, size_t max,
                              struct namespace_trims *ret);
NODISCARD int namespace_garbages(const struct namespace_view *v, uint64_t after_data_id, size_t max,
                                 struct namespace_garbages *ret);
NODISCARD int namespace_leaps(const struct namespace_view *v, uint64_t after_data_id, size_t max,
                              struct namespace_leaps *ret);
NODISCARD int namespace_suspects(const struct namespace_view *v, uint64_t after_data_id, size_t max,
                                 struct namespace_suspects *ret);
/* The newest look for data that belongs to nothing; 0: there was none. */
NODISCARD int namespace_view_audit(const struct namespace_view *v, struct namespace_audit *ret);
/* Of one inode, by session; of one session, by inode. */
NODISCARD int namespace_writers(const struct namespace_view *v, uint64_t ino,
                                uint64_t after_session, size_t max, struct namespace_wopens *ret);
NODISCARD int namespace_session_wopens(const struct namespace_view *v, uint64_t session,
                                       uint64_t after_ino, size_t max,
                                       struct namespace_wopens *ret);
NODISCARD int namespace_keepers(const struct namespace_view *v, uint64_t ino,
                                uint64_t after_session, size_t max, struct namespace_orphans *ret);
NODISCARD int namespace_session_orphans(const struct namespace_view *v, uint64_t session,
                                        uint64_t after_ino, size_t max,
                                        struct namespace_orphans *ret);

/* What those who were told to wait for `shared_now` wait for. */
struct namespace_sharing {
    uint64_t holder; /* session that wrote alone and has not said its last word; 0: none */
    uint64_t alone;  /* session that writes alone now; 0: none */
    bool trimming;   /* what was left behind its end is being cut */
    uint64_t size, data_version;
};
/* -ENOENT: no such inode. */
NODISCARD int namespace_sharing(const struct namespace_view *v, uint64_t ino,
                                struct namespace_sharing *ret);

/* One record; -ENOENT. */
NODISCARD int namespace_view_session(const struct namespace_view *v, uint64_t session,
                                     struct namespace_session *ret);
NODISCARD int namespace_view_target(const struct namespace_view *v, uint32_t id,
                                    struct proto_target *ret);
NODISCARD int namespace_view_target_of(const struct namespace_view *v, const struct uuid *uuid,
                                       struct proto_target *ret);
NODISCARD int namespace_view_row(const struct namespace_view *v, uint32_t chain,
                                 struct proto_row *ret);
NODISCARD int namespace_view_table(const struct namespace_view *v, uint32_t class_id,
                                   uint32_t version, struct proto_table *ret);
/* Up to `max` from `first` on. */
NODISCARD int namespace_targets(const struct namespace_view *v, uint32_t first, size_t max,
                                struct proto_target_list *ret);
NODISCARD int namespace_rows(const struct namespace_view *v, uint32_t first, size_t max,
                             struct proto_row_list *ret);
NODISCARD int namespace_classes(const struct namespace_view *v, uint32_t first, size_t max,
                                struct proto_storage_class_list *ret);
/* The chains that a layout uses, ascending, each once: at most 64. -ENOENT: no such table. */
NODISCARD int namespace_layout_chains(const struct namespace_view *v,
                                      const struct proto_layout *layout, struct proto_u32s *ret);
/* Those that garbage is to be removed from. */
NODISCARD int namespace_garbage_chains(const struct namespace_view *v,
                                       const struct namespace_garbage *g, struct proto_u32s *ret);
