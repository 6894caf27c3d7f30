/*
 * namespace/plan_priv.h -- one command being planned: what it has read, what it will write.
 *
 * Inodes are read once into the plan, changed there and written at the end; other records are
 * written to the batch as the operation goes, which is harmless: the batch is dropped when the plan
 * fails. An operation does all its reads, then checks, then changes.
 */
#pragma once

#include "base/crc32c.h"
#include "namespace/memory_priv.h"
#include "namespace/namespace.h"
#include "namespace/query.h"

#include <string.h>

#define NAMESPACE_PLAN_INODES 8u

struct namespace_held { /* an inode in the plan */
    uint64_t ino;
    uint64_t version_before, parent_before; /* 0: it is new */
    uint32_t nlink_before;
    uint64_t size_before, size_free; /* free: what no quota is asked for */
    uint64_t claim; /* directory whose quotas must have room for it, though it counts elsewhere */
    struct namespace_inode inode;
    bool dirty, removed, touched;
};

struct namespace_plan {
    struct namespace_view view;
    struct kv_batch *batch;
    const struct namespace_command *command;
    struct namespace_reply *reply;
    struct namespace_state state;
    int64_t now_ns;
    struct namespace_memory *memory;      /* NULL: nothing is kept */
    const struct namespace_memory *known; /* of a check, or NULL: no early verdict depends on it */
    struct namespace_cred cred;           /* of a client's mutation, as the next two */
    uint64_t session_id;
    uint32_t slots; /* of the session */
    struct namespace_held held[NAMESPACE_PLAN_INODES];
    size_t held_count;
    struct proto_op op; /* of a client's mutation, as the next two */
    uint32_t crc;
    uint64_t want_size; /* of a writer: what quotas are asked about; 0: nothing */
    bool runs;          /* it is the next of its slot: its result is stored, */
    bool stored;        /* unless it may run later */
    bool flags_changed; /* of the statistics of a directory */
};

/* apply.c */
int namespace_plan_format(struct namespace_plan *p, const struct namespace_format *r);
int namespace_plan_dispatch(struct namespace_plan *p);
/* The cluster's state; all zero before the command FORMAT. */
int namespace_plan_state(const struct namespace_plan *p, struct namespace_state *ret);
/* All of it but the commit: the plan has its view, batch and reply. A local failure, or 0. */
int namespace_plan_run(struct namespace_plan *p, const struct namespace_state *before,
                       const void *bytes, size_t len);

/* stats.c: the directory above, when it is remembered; then nobody reads its statistics on a way.
 */
bool namespace_plan_knows_parent(const struct namespace_plan *p, uint64_t ino, uint64_t *ret);
/* want.c: a mutation lacks something: all that it names itself is asked for together with that. */
void namespace_plan_wants(struct namespace_plan *p);

/* Of several reads that do not depend on each other: 0 for -ERR_need, which is noted, else `rc`.
 * What the plan does afterwards counts for nothing but its further needs. */
static inline int namespace_plan_go_on(int *needs, int rc)
{
    *needs = rc == -ERR_need ? rc : *needs;
    return rc == -ERR_need ? 0 : rc;
}

/* plan.c */
int namespace_plan_put(struct namespace_plan *p, const struct namespace_key *key,
                       const struct proto_type *type, const void *record);
#define NAMESPACE_PUT(plan, key, tag, record) \
    namespace_plan_put((plan), (key), &tag##_type, (1 ? (record) : (const struct tag *)NULL))
int namespace_plan_put_empty(struct namespace_plan *p, const struct namespace_key *key);
int namespace_plan_delete(struct namespace_plan *p, const struct namespace_key *key);
int namespace_plan_delete_prefix(struct namespace_plan *p, const struct namespace_key *prefix);
/* Reads an inode into the plan, once. -ENOENT. The pointer stays good for the whole plan. */
int namespace_plan_inode(struct namespace_plan *p, uint64_t ino, struct namespace_held **ret);
struct namespace_held *namespace_plan_new_inode(struct namespace_plan *p, uint64_t ino);
/* The inode has changed in this command: version, change counter, list of changes. */
void namespace_plan_touch(struct namespace_plan *p, struct namespace_held *h);
void namespace_plan_touch_ctime(struct namespace_plan *p, struct namespace_held *h);
/* A directory got or lost a name. */
void namespace_plan_touch_dir(struct namespace_plan *p, struct namespace_held *h);
/* May the caller do that to it? 0, -EACCES, -EPERM. */
int namespace_plan_may(struct namespace_plan *p, const struct namespace_held *h, uint32_t may);
/* May the caller open it for writing? What is append-only: only to append. */
int namespace_plan_may_open(struct namespace_plan *p, const struct namespace_held *h, bool append);
int namespace_plan_flush(struct namespace_plan *p); /* inodes and the list of changes */
/* Folded attributes of what the command names in `folds`. */
int namespace_plan_folds(struct namespace_plan *p);
/* Counts wopens and orphans of a session; the other fails with -ENFILE when it has too many. */
void namespace_plan_oblige(struct namespace_plan *p, uint64_t session, int delta);
int namespace_plan_check_obligations(struct namespace_plan *p);
/* A storage class; 0: that of new files. -ENOENT. */
int namespace_plan_class(const struct namespace_plan *p, uint32_t class_id,
                         struct proto_storage_class *ret);

/* inode.c */
int namespace_make_inode(struct namespace_plan *p, struct namespace_held *parent,
                         const struct proto_create_request *r, struct namespace_held **ret);
int namespace_give_data_id(struct namespace_plan *p, struct namespace_held *h);
/* nlink is 0 and nobody has it open: all its records go, its data becomes garbage. */
int namespace_remove_inode(struct namespace_plan *p, struct namespace_held *h);
/* `fence_epoch`: what it waits for at the data nodes; 0: nothing. */
int namespace_queue_trim(struct namespace_plan *p, struct namespace_held *h, uint64_t from,
                         uint64_t fence_epoch);
void namespace_set_size(struct namespace_plan *p, struct namespace_held *h, uint64_t size);
/* What chown(2) does to set-id bits; what write(2) and truncate(2) do to them and to file
 * capabilities; what chmod(2) does to set-gid for who is not in the group. */
void namespace_drop_set_ids(const struct namespace_plan *p, struct namespace_inode *n);
int namespace_kill_priv(struct namespace_plan *p, struct namespace_held *h);
void namespace_strip_setgid(const struct namespace_plan *p, struct namespace_inode *n);
/* -ERR_busy while bytes behind `size` of an earlier life may still be at the data nodes. */
int namespace_check_trim(struct namespace_plan *p, const struct namespace_held *h, uint64_t size);

/* dirent.c */
int namespace_find(struct namespace_plan *p, uint64_t parent, struct proto_bytes name,
                   struct namespace_dirent *ret); /* 1, 0 */
/* A directory in which the caller may look for a name. -ENOTDIR, -EACCES. */
int namespace_dir_to_search(struct namespace_plan *p, uint64_t ino, struct namespace_held **ret);
/* May the caller take this name away? The directory's rights, the sticky bit, chattr's flags. */
int namespace_check_removal(struct namespace_plan *p, const struct namespace_held *dir,
                            const struct namespace_held *victim);
int namespace_put_dirent(struct namespace_plan *p, uint64_t parent, struct proto_bytes name,
                         uint64_t ino, uint8_t type);
int namespace_link_record(struct namespace_plan *p, struct namespace_held *h, uint64_t parent,
                          struct proto_bytes name, bool add);
int namespace_drop_name(struct namespace_plan *p, struct namespace_held *h, uint64_t parent,
                        struct proto_bytes name, bool caller_open);
int namespace_create(struct namespace_plan *p, const struct proto_create_request *r);
int namespace_link(struct namespace_plan *p, const struct proto_link_request *r);
int namespace_unlink(struct namespace_plan *p, const struct proto_unlink_request *r);
int namespace_rmdir(struct namespace_plan *p, const struct proto_rmdir_request *r);

/* rename.c, setattr.c, xattr.c */
int namespace_rename(struct namespace_plan *p, const struct proto_rename_request *r);
int namespace_setattr(struct namespace_plan *p, const struct proto_setattr_request *r);
int namespace_setxattr(struct namespace_plan *p, const struct proto_setxattr_request *r);
int namespace_removexattr(struct namespace_plan *p, const struct proto_removexattr_request *r);

/* acl.c. `value` empty: the list is to go. The mode of a new inode, from what was asked for in
 * inode.mode, and its lists. */
int namespace_acl_set(struct namespace_plan *p, struct namespace_held *h,
                      enum namespace_acl_kind kind, struct proto_bytes value);
int namespace_acl_inherit(struct namespace_plan *p, const struct namespace_held *dir,
                          struct namespace_held *h, uint32_t umask);
int namespace_acl_remove_all(struct namespace_plan *p, const struct namespace_held *h);
int namespace_xattr_remove_all(struct namespace_plan *p, const struct namespace_held *h);
int namespace_xattr_drop_caps(struct namespace_plan *p, struct namespace_held *h);

/* wopen.c, orphan.c */
int namespace_wopen(struct namespace_plan *p, const struct proto_wopen_request *r);
int namespace_commit(struct namespace_plan *p, const struct proto_commit_request *r);
/* append.c */
int namespace_append_turn(struct namespace_plan *p, const struct proto_append_turn_request *r);
int namespace_append_done(struct namespace_plan *p, const struct proto_append_done_request *r);
int namespace_wopen_get(struct namespace_plan *p, uint64_t ino, uint64_t session,
                        struct namespace_wopen *ret);
int namespace_wopen_put(struct namespace_plan *p, uint64_t ino, uint64_t session,
                        const struct namespace_wopen *w);
int namespace_lease_return(struct namespace_plan *p, const struct proto_lease_return_request *r);
int namespace_wopen_grant(struct namespace_plan *p, struct namespace_held *h, bool try_only);
int namespace_wopen_drop(struct namespace_plan *p, uint64_t ino, uint64_t session);
/* How many others may write; with `torn` they get that mark. */
int namespace_wopen_pass_torn(struct namespace_plan *p, uint64_t ino, uint64_t session, bool torn);
int namespace_orphan_add(struct namespace_plan *p, uint64_t ino, uint64_t session, bool maybe);
int namespace_orphan_get(struct namespace_plan *p, uint64_t ino, uint64_t session); /* 1, 0 */
int namespace_orphan_drop(struct namespace_plan *p, uint64_t ino, uint64_t session);
int namespace_orphan_others(struct namespace_plan *p, uint64_t ino, uint64_t session);
int namespace_orphan_adopt(struct namespace_plan *p, uint64_t ino);     /* it has a name again */
int namespace_orphan_adopt_all(struct namespace_plan *p, uint64_t ino); /* whoever has it open */
int namespace_release(struct namespace_plan *p, const struct proto_release_request *r);
int namespace_orphans_of_session(struct namespace_plan *p, const struct namespace_orphan_drop *r);

/* session.c, slot.c, cluster.c, garbage.c */
int namespace_session_open(struct namespace_plan *p, const struct proto_session_open_request *r);
int namespace_session_close(struct namespace_plan *p, const struct proto_session_close_request *r);
int namespace_session_expire(struct namespace_plan *p, const struct namespace_expire *r);
int namespace_credential(struct namespace_plan *p, const struct proto_credential_request *r);
int namespace_fence_finish(struct namespace_plan *p, const struct namespace_fence_done *r);
/* -ERR_busy while a fence of that capability epoch or an older one is not done. */
int namespace_check_fences(struct namespace_plan *p, uint64_t epoch);
/* 0: run it; 1: answered from the slot; -ERR_bad_sequence. */
int namespace_slot_check(struct namespace_plan *p, const struct proto_op *op, uint32_t crc);
int namespace_slot_store(struct namespace_plan *p, const struct proto_op *op, uint32_t crc);
int namespace_slot_cancel(struct namespace_plan *p, const struct proto_slot_cancel_request *r);
int namespace_target_change(struct namespace_plan *p, const struct namespace_target_put *r);
int namespace_rows_change(struct namespace_plan *p, const struct namespace_rows_put *r);
int namespace_table_change(struct namespace_plan *p, const struct namespace_table_put *r);
int namespace_default_class_change(struct namespace_plan *p,
                                   const struct namespace_default_class *r);
int namespace_balance_change(struct namespace_plan *p, const struct namespace_balance *r);
int namespace_garbage_finish(struct namespace_plan *p, const struct namespace_garbage_done *r);
int namespace_trim_finish(struct namespace_plan *p, const struct namespace_trim_done *r);
