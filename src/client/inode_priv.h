/*
 * client/inode_priv.h -- open files: one inode object for all handles of a file, its updates that
 * are not acknowledged yet, its requests to chains. Owner: the client's loop.
 */
#pragma once

#include "client/map_priv.h"
#include "cluster/capability.h"

#define CLIENT_UPDATES_MAX 256u /* of one file, not acknowledged */
#define CLIENT_OPEN_UPDATES 16u /* of them: still gathering */
#define CLIENT_UNIT_BYTES (1u << 20)

struct client_held {
    void (*renewed)(struct client_held *h);
    struct list node;
};
struct client_cap {
    struct proto_capability cap; /* its mac points to `mac` */
    uint8_t mac[CLUSTER_MAC_BYTES];
    bool known;
    uint64_t taken_ns; /* by our own uptime: wall clocks differ, and jump */
};
/* A chain with acknowledged updates that were not synced. */
struct client_unsynced {
    uint32_t chain, loss_gen; /* the smallest of them */
    uint64_t acks;
};
struct client_inode {
    struct dict_node node; /* of opendfs.inodes */
    struct opendfs *fs;
    uint64_t ino;
    unsigned refs;         /* handles, opens and operations under way */
    struct list handles;   /* struct opendfs_file */
    struct list locks;     /* struct client_holder */
    uint64_t lock_version; /* of its data, as the newest lock has seen them */
    bool lock_dropped;     /* that was newer than what was known */
    unsigned writers;      /* handles that are open for writing */
    struct proto_attr attr;
    struct proto_layout layout;
    struct client_cap read_cap, write_cap;
    enum proto_open_mode mode; /* of our write authority; NONE: none */
    uint64_t cap_epoch, data_version;
    uint32_t cut_tgen;       /* what truncations up to this generation cut is cut in all chunks */
    uint32_t uncut_tgen;     /* of an own truncation that failed to cut some */
    uint64_t session_number; /* in which the authority was given */
    uint64_t size;
    uint64_t set_size;   /* mode W: to which it was made longer; also stored_end bounds what is told
                          */
    uint64_t shared_end; /* mode S: of what was stored since the newest commit */
    bool limited;        /* by a quota: not beyond size_limit without having asked */
    uint64_t size_limit;
    int64_t mtime_ns;
    bool in_line, dirty, chunked; /* dirty: size, times or small contents are not committed;
                                     chunked: some update was acknowledged since the last commit */
    bool unknown_past; /* others, or handles that are gone, may have left chunks that are not stable
                        */
    int torn; /* negative: such contents could not be stored in chunks, so they stay in the metadata
                 and nothing of this tenure is committed: all its syncs and closes fail */
    bool spilled; /* contents that are stable in the metadata have gone to chunks, not stable there
                   */
    bool meta_busy, releasing, recalled;
    bool untouched; /* mode W: made, and nothing else: that its contents are here can wait */
    bool parked;    /* given back at what was probably the last close; who writes once more asks */
    bool busy_end;  /* somebody did: not a second time; */
    bool unparked;  /* and it has not got it back yet */
    bool granted;   /* the server was asked to open it for reading: it is told when it is closed */
    bool kept; /* the server keeps it for us though it has no name, or may lose it: `release` at the
                  end */
    bool outdated;   /* what is known of it may be old: asked before the next look */
    bool rereading;  /* small contents that another one has changed: looks wait */
    bool letting_go; /* its `release` is under way: who opens it now looks its name up again */
    bool committing; /* a commit or the return of W is under way */
    struct client_call reread_call;
    struct proto_read_inline_request reread_request;
    bool kill_priv;      /* who wrote is not root: the next commit says so */
    bool outsider;       /* nor in the group of the file, */
    bool told;           /* times of all writes until now were handed over: those on record count */
    struct list asked;   /* client_asked.node: questions that wait for the mutation under way */
    struct list setters; /* client_task.setter: as they (times.c), */
    unsigned setting;    /* and those under way: commits wait */
    struct client_call release_call;
    struct proto_release_request release_request;
    /* Reads and writes wait until the other writer has flushed, or it is our turn (share.c). */
    bool wait_shared, share_wanted, share_asking;
    struct loop_timer share_timer; /* when to ask again at the latest */
    struct client_call share_call;
    union {
        struct proto_wopen_request wopen;
        struct proto_read_inline_request read_inline;
    } share_request;
    bool owes; /* the authority, that could not be given back: again later */
    struct loop_timer owe_timer;
    uint64_t owe_ms;
    unsigned opening; /* opens for writing under way */
    int dead;         /* the authority is lost: why */
    uint8_t *small;   /* contents while in_line; inline_limit bytes */
    size_t small_len, small_room;
    uint64_t
        small_version;   /* of the inode, that they are of; while somebody writes here: of before */
    bool taking;         /* those that a new writer begins with are on their way: others wait */
    uint64_t stored_end; /* behind it chunks hold nothing */
    int64_t taken;       /* bytes that chunks take more than attr.allocated says, or less */
    struct list updates; /* struct client_update, oldest first */
    size_t update_count;
    uint64_t next_number;
    struct client_unsynced *unsynced;
    size_t unsynced_count, unsynced_capacity;
    unsigned syncs; /* requests under way */
    int sync_rc;
    bool sync_unread;    /* who began the newest sync has not seen sync_rc yet */
    struct list fetches; /* under way */
    struct list looks;   /* struct client_look, under way */
    struct list waiting; /* struct client_io */
    struct loop_task wake;
    uint64_t writes;            /* counts changes of contents: what was read ahead before is old */
    struct client_call renewal; /* of a capability */
    struct proto_capability_renew_request renew_request;
    struct proto_capability_want renew_want[2];
    bool renewing;
    struct client_call refresh; /* of the truncate generation */
    struct proto_getattr_request refresh_request;
    bool refreshing;
    struct list stale, refreshed; /* client_held.node: who waits for the next, for this one */
    struct list held;             /* requests that wait for it: struct client_held */
    struct list syncing;
    bool starving;
    struct list starving_node;
};
struct opendfs_file {
    struct opendfs *fs;
    struct client_inode *inode;
    struct list node;
    unsigned flags;              /* OPENDFS_... */
    bool unprivileged, outsider; /* opened by somebody who is not root; nor in its group */
    int sync_error, close_error; /* of delayed writes, not told yet */
    uint64_t next_offset;        /* of a reader in order */
    uint64_t run_end, run_bytes; /* of reads that were begun one behind the other, and how much */
    unsigned window;             /* units to read ahead */
    struct list blocks;          /* struct client_block */
    size_t block_count;
    char *path; /* for messages */
};

bool client_op_in_group(struct opendfs_op *op, uint32_t gid);
uint32_t client_op_uid(struct opendfs_op *op); /* identity.c: on whose behalf it is */

/* inode.c */
void client_inodes_init(struct opendfs *fs);
void client_inodes_fini(struct opendfs *fs);
struct client_inode *client_inode_find(struct opendfs *fs, uint64_t ino); /* NULL: not open */
NODISCARD int client_inode_get(struct opendfs *fs, uint64_t ino, struct client_inode **ret);
void client_inode_put(struct client_inode *i);
/* Something changed: all that wait on this file look again, soon. */
void client_inode_wake(struct client_inode *i);
void client_inode_fail(struct client_inode *i, int rc); /* a delayed write failed */
void client_cap_take(struct opendfs *fs, struct client_cap *c, const struct proto_capability *from);
/* A member does not like the capability: get new ones, then `renewed`. */
void client_inode_renew(struct client_inode *i, struct client_held *h);
/* Somebody else may have changed the file, or cut a chunk (also behind one that died): asks for the
 * truncate generation of now, in mode S for all attributes, then `renewed`. */
void client_inode_refresh(struct client_inode *i, struct client_held *h);
/* The write authority has to go back, and did not: the metadata server had no room for that, say.
 * Tried again until it has, or a writer has opened the file again and closes it. */
void client_inode_owe(struct client_inode *i);
/* What a question about it, or a setattr, waits for is over: push.c, times.c. */
void client_push_step(struct client_inode *i);
void client_times_step(struct client_inode *i);
/* Soon to expire: gets new ones in the background. */
void client_inode_check_cap(struct client_inode *i, const struct client_cap *c);
/* Waits for memory of the write pool, then wakes. */
void client_inode_starve(struct client_inode *i);
/* Something gathers: it is sent after some seconds even if nobody asks. */
void client_inode_flush_later(struct client_inode *i);

/* io.c: operations on files. */
void client_inode_recall(struct opendfs *fs, uint64_t ino);
void client_io_step_all(struct client_inode *i);
void client_io_cancel_all(struct client_inode *i);
/* Truncates after opening, then calls `then`. */
void client_io_truncate(struct opendfs_file *f, uint64_t size, void (*then)(void *context, int rc),
                        void *context);
struct opendfs_file *client_file_new(struct client_inode *i, unsigned flags, const char *path);
void client_file_free(struct opendfs_file *f);
/* Small contents, of that version of the inode, into memory. */
NODISCARD int client_inode_set_small(struct client_inode *i, uint64_t version, const void *bytes,
                                     size_t len);

/* read.c */
struct client_io;
bool client_read_step(struct client_io *io); /* true: has ended */
void client_read_cancel(struct client_io *io);
void client_blocks_drop(struct opendfs_file *f);
