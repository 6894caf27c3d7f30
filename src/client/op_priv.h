/*
 * client/op_priv.h -- operations under way: what opendfs_op.reserved holds, the task of one that
 * concerns names, the walk along a path.
 */
#pragma once

#include "client/core_priv.h"

#define CLIENT_PATH_MAX 4095u
#define CLIENT_LINKS_MAX 40u
#define CLIENT_WALK_MAX 64u

struct client_inode;
struct client_op;
struct client_task;

/* In opendfs_op.reserved. */
struct client_op {
    struct loop_message message;
    struct opendfs *fs;
    void (*run)(struct opendfs_op *op);    /* begins it, on the loop */
    void (*cancel)(struct opendfs_op *op); /* may be NULL: too late, or not possible */
    void *task;                            /* of `cancel` */
    void *held;                            /* what `data` or `entries` are in */
    void (*release)(struct opendfs *fs, void *held);
    struct list node; /* of opendfs.ops */
    const char *path, *to;
    const void *in;
    void *out;
    const struct opendfs_stat *values;
    size_t len;
    uint64_t offset, ino;
    uint32_t flags, mode, mask;
    bool active, follow;
};
_Static_assert(sizeof(struct client_op) <= sizeof(((struct opendfs_op *)0)->reserved),
               "opendfs_op.reserved is too small");
static inline struct client_op *client_op_of(struct opendfs_op *op)
{
    return (struct client_op *)(void *)op->reserved;
}
static inline struct opendfs_op *client_op_public(struct client_op *o)
{
    return (struct opendfs_op *)(void *)((char *)o - offsetof(struct opendfs_op, reserved));
}

/* op.c. Any thread: `run` is called on the loop. The arguments are set before. */
void client_op_start(struct opendfs *fs, struct opendfs_op *op, void (*run)(struct opendfs_op *op));
/* The outcome: `rc` is of our tree; `path` and `why` (may be NULL) say more. */
void client_op_finish(struct opendfs_op *op, int64_t rc, const char *path, const char *why);
void client_op_hold(struct opendfs_op *op, void *held,
                    void (*release)(struct opendfs *fs, void *held));
void client_stat_from(const struct proto_attr *a, struct opendfs_stat *ret);
uint32_t client_inode_type(uint32_t public_type); /* 0: none */

/*
 * From a path to an inode: components go out in batches, symbolic links are followed by hand.
 * Final components are followed if `follow`. If `parent` is set the walk ends in the directory of
 * the last component, which is in `last` then; the last component itself is not looked at.
 */
struct client_walk {
    const char *path; /* what the user gave: lent */
    uint64_t at;
    bool follow, parent, want_data;
    /* outcome */
    uint64_t dir; /* directory of the last component */
    struct proto_bytes last;
    struct proto_attr attr; /* ino 0: there is no such name in `dir` */
    struct proto_layout layout;
    struct proto_bytes data;          /* lent for the callback */
    bool has_data, has_layout, slash; /* slash: must be a directory */
    bool remote;                      /* another client writes it: only `getattr` tells its size */
    /* private */
    const char *rest;
    char *text; /* owned: after a symbolic link */
    unsigned links;
    size_t count; /* names of this batch */
    bool final;   /* the batch ends with the last component */
    uint64_t start;
    struct proto_walk_name name[CLIENT_WALK_MAX]; /* `count` of them; the rest is not set */
};
union client_request {
    struct proto_walk_request walk;
    struct proto_lookup_request lookup;
    struct proto_getattr_request getattr;
    struct proto_readlink_request readlink;
    struct proto_readdir_request readdir;
    struct proto_create_request create;
    struct proto_link_request link;
    struct proto_unlink_request unlink;
    struct proto_rmdir_request rmdir;
    struct proto_rename_request rename;
    struct proto_setattr_request setattr;
    struct proto_getxattr_request getxattr;
    struct proto_listxattr_request listxattr;
    struct proto_setxattr_request setxattr;
    struct proto_removexattr_request removexattr;
    struct proto_access_request access;
    struct proto_open_request open;
    struct proto_wopen_request wopen;
    struct proto_read_inline_request read_inline;
    struct proto_statfs_request statfs;
    struct proto_dir_stats_request dir_stats;
    struct proto_set_quota_request set_quota;
    struct proto_cluster_map_request cluster_map;
    struct proto_class_create_request class_create;
    struct proto_target_plan_request target_plan;
    struct proto_target_set_request target_set;
    struct proto_balance_set_request balance_set;
    struct proto_chain_order_request chain_order;
    struct proto_status_request status;
    struct proto_stats_request stats;
    struct proto_trash_list_request trash_list;
    struct proto_trash_restore_request trash_restore;
    struct proto_trash_purge_request trash_purge;
    struct proto_fsck_request fsck;
    struct proto_audit_request audit;
    struct proto_capability_renew_request capability_renew;
    struct proto_names_request names;
};
struct client_task {
    struct opendfs *fs;
    struct opendfs_op *op;
    struct client_call call;
    union client_request request;
    void (*walked)(struct client_task *t, int rc); /* after the walk */
    void (*next)(struct client_task *t, const struct peer_reply *r);
    /* of single operations */
    uint64_t first_dir, first_ino, victim;
    char first_name[PROTO_NAME_MAX + 1];
    size_t first_len;
    char *made; /* make_directories: the path so far */
    void *own;  /* of where.c */
    struct client_inode *inode;
    struct loop_timer again;
    struct list again_node, setter; /* of opendfs.resting; of inode.setters */
    bool opening, sets;             /* counted in the inode; in inode.setting */
    bool old_small, unanswered;     /* contents are of before; no server has said anything */
    uint64_t created_ino;
    unsigned rounds;
    int told;                       /* what a server has said in words of its own */
    char words[OPENDFS_ERROR_SIZE]; /* those */
    struct client_walk walk;        /* last: its names are not cleared for each operation */
};
struct client_task *client_task_new(struct opendfs_op *op); /* NULL: no memory, and it was said */
void client_task_finish(struct client_task *t, int64_t rc); /* ends the operation, frees the task */
void client_task_fail(struct client_task *t, const struct peer_reply *r); /* r->rc < 0 */
/* `rc` says that the inode which the walk has found is gone. Others may have put something else in
 * place of it meanwhile, so that the name was there all the time: true: the path is walked again.
 */
bool client_task_again(struct client_task *t, int rc,
                       void (*walked)(struct client_task *t, int rc));
void client_task_query(struct client_task *t, uint16_t opcode,
                       void (*next)(struct client_task *t, const struct peer_reply *r));
void client_task_mutate(struct client_task *t, uint16_t opcode,
                        void (*next)(struct client_task *t, const struct peer_reply *r));
/* attributes.c: of client_op_hold(): mem_free(). */
void client_op_free_held(struct opendfs *fs, void *held);
/* walk.c. `t->walk` has path, at, follow, parent, want_data; `walked` follows, also at once. */
void client_walk_start(struct client_task *t, void (*walked)(struct client_task *t, int rc));
void client_walk_fini(struct client_walk *w);
static inline uint32_t client_op_umask(struct client_op *o)
{
    const struct opendfs_op *op = client_op_public(o);
    return op->as == NULL ? o->fs->umask : op->umask & 0777;
}
/* Where the new name of a rename or link begins. */
static inline uint64_t client_op_at_to(const struct opendfs_op *op)
{
    return op->at_to == 0 ? op->at : op->at_to;
}
/* Runs an operation that begins with a walk along its path, from its `at`. */
void client_op_walk(struct opendfs_op *op, bool follow,
                    void (*walked)(struct client_task *t, int rc));
/* The same for those who need its number only: an empty path is not walked. */
void client_op_walk_ino(struct opendfs_op *op, bool follow,
                        void (*walked)(struct client_task *t, int rc));
/* Of `walked`: 0 when an inode was found (which is a directory), else why not. */
int client_walk_found(const struct client_task *t, int rc);
int client_walk_found_dir(const struct client_task *t, int rc);
/* The path is one name below a known directory: no walk is needed to find its parent. */
bool client_walk_is_name(const char *path, struct proto_bytes *ret);
/* The directory of a path's last name, into walk.dir and walk.last; `walked` follows, also at once.
 */
void client_walk_parent(struct client_task *t, const char *path, uint64_t at,
                        void (*walked)(struct client_task *t, int rc));

void client_setattr_fill(struct proto_setattr_request *r, uint64_t ino,
                         const struct opendfs_stat *values, uint32_t mask);
/* inode.c: what a file open for writing knows better than the server goes into `a`. */
void client_inode_freshen(struct opendfs *fs, struct proto_attr *a);
/* This file was unlinked while it is open here. */
void client_inode_unlinked(struct opendfs *fs, uint64_t ino);

/* open.c */
/* The fields of `values` that `mask` names, for a new inode. */
void client_create_values(struct proto_create_request *r, const struct opendfs_stat *values,
                          uint32_t mask);
void client_open_run(struct opendfs_op *op);
void client_open_fini(struct opendfs *fs);
