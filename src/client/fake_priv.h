/*
 * client/fake_priv.h -- for tests only: a cluster in memory. One metadata server with sessions and
 * exactly-once slots, targets that share one set of chunks; each does what chain.md and
 * coherence.md ask of a server, as far as a client can see it, and fails when it is told to.
 */
#pragma once
#include "base/crc32c.h"
#include "base/env.h"
#include "base/mem.h"
#include "client/fake_lock_state_priv.h"
#include "client/fake_people_priv.h"
#include "peer/server.h"

#include <string.h>

#define FAKE_INODES 256u
#define FAKE_SESSIONS 4u
#define FAKE_SLOTS 64u
#define FAKE_TARGETS 3u
#define FAKE_CHAINS 4u
#define FAKE_CHUNKS 192u
#define FAKE_SLOW 32u
#define FAKE_CHUNK_BYTES (64u << 10)
#define FAKE_CELLS (FAKE_CHUNK_BYTES / PROTO_CELL_BYTES)

/* Wrong answers, each so many times. */
struct fake_fault {
    int rc;
    unsigned count;
    bool after; /* the request is executed, then the connection breaks */
};
struct fake_inode {
    uint64_t ino, parent; /* ino 0: free; nlink 0: unlinked, open */
    char name[256];
    struct proto_attr attr;
    struct proto_layout layout;
    uint8_t data[PROTO_CELL_BYTES]; /* small contents, or a link's target */
    size_t data_len;
    bool chunked;
    uint64_t cap_epoch; /* not 0: somebody writes */
    struct fake_xattr {
        char name[256]; /* "": free */
        uint8_t value[64];
        size_t len;
    } xattr[4];
};
union fake_reply {
    struct proto_create_reply create;
    struct proto_unlink_reply unlink;
    struct proto_rename_reply rename;
    struct proto_link_reply link;
    struct proto_setattr_reply setattr;
    struct proto_wopen_reply wopen;
    struct proto_commit_reply commit;
};
struct fake_session {
    uint64_t id; /* 0: none */
    uint64_t verifier;
    struct {
        uint64_t sequence;
        int rc;
        uint32_t crc, opcode;
        union fake_reply reply;
    } slot[FAKE_SLOTS];
};
struct fake_chunk {
    struct proto_chunk key; /* data_id 0: free */
    uint32_t length, tgen, chain;
    uint64_t ver, client, seq;
    uint8_t bytes[FAKE_CHUNK_BYTES];
};
struct fake_node;
struct fake_cluster {
    struct fake_inode inode[FAKE_INODES];
    struct fake_session session[FAKE_SESSIONS];
    struct fake_chunk chunk[FAKE_CHUNKS];
    uint64_t next_ino, next_session, next_data_id, version, map_epoch, cap_epoch, size_quota, asked;
    struct {
        uint32_t epoch, loss_gen;
        uint32_t order[2]; /* targets; the head first */
        size_t serving;
    } chain[FAKE_CHAINS];
    struct fake_fault meta_fault;
    bool log_full, lapsed; /* no session can be opened; its lease is over until it reclaims */
    struct fake_node *meta, *target[FAKE_TARGETS];
    struct fake_people people;
    uint32_t key_id;        /* of its capabilities */
    uint16_t meta_fault_op; /* 0: any mutation; or it, `credential`, `session_open` */
    unsigned opens, mutations, repeats, writes, write_repeats, foreign_writes, reads, stats;
    unsigned extents, syncs, returns, closed, claims, xattrs_asked, executed[1024];
    uint32_t umask, commit_flags;      /* of the newest create; of the newest commit */
    bool appends, shared, share_waits; /* newest wopen; others write, they have not flushed */
    uint64_t remote_size, available;   /* another client writes all files: only getattr says this */
    bool trimming, late_tables; /* not all is cut in all chunks; tables come late with the map */
    bool hide_symlinks, refuse_setattr; /* walk ends before what is no directory; EPERM */
    struct fake_locks locks;
    unsigned replace_after_walk; /* so often: what was found is another inode a moment later */
};
struct fake_node {
    struct peer_user user;
    struct env env;
    struct fake_cluster *cluster;
    struct peer_server *server;
    struct buf_pool *pool;
    struct net_address at;
    uint32_t target;          /* 0: the metadata server */
    struct peer_link *newest; /* control link that is up */
    /* of targets */
    struct fake_fault write_fault, read_fault, sync_fault, stat_fault;
    bool corrupt;        /* answers with a flipped bit */
    bool repairs, lacks; /* until it is told so; says that it has no chunk */
    enum { FAKE_HONEST, FAKE_SHORT, FAKE_ELSEWHERE, FAKE_NO_SUMS } lie; /* answers to reads */
    uint64_t slow_ns; /* answers to reads after that */
    struct fake_slow {
        struct loop_timer timer;
        struct fake_node *node;
        struct peer_request *request; /* NULL: free */
    } slow[FAKE_SLOW];
    uint32_t key_min; /* older capabilities are refused */
    bool old;         /* knows no message with several reads, none about extents, no clearing */
    unsigned reads, writes, checks, retries, cancelled, streams, batches;
};

static inline void fake_cluster_init(struct fake_cluster *c)
{
    memset(c, 0, sizeof *c);
    c->available = 400;
    c->next_ino = 2;
    c->next_session = 100;
    c->next_data_id = 1000;
    c->map_epoch = 1;
    c->key_id = 1;
    c->inode[0].ino = PROTO_ROOT_INO;
    c->inode[0].attr = (struct proto_attr){
        .ino = PROTO_ROOT_INO, .type = PROTO_INODE_DIRECTORY, .mode = 0755, .nlink = 2};
    for (uint32_t i = 0; i < FAKE_CHAINS; i++) {
        c->chain[i].epoch = 1;
        c->chain[i].order[0] = 1 + i % FAKE_TARGETS;
        c->chain[i].order[1] = 1 + (i + 1) % FAKE_TARGETS;
        c->chain[i].serving = 2;
    }
}

/* True: the fault happens now. */
static inline bool fake_fault_hits(struct fake_fault *f)
{
    if (f->count == 0) {
        return false;
    }
    f->count--;
    return true;
}
static inline void fake_break(struct peer_request *r)
{
    if (r->link != NULL) {
        peer_link_close(r->link, -ERR_closed, "a test wants it");
    }
}
static inline struct fake_inode *fake_find(struct fake_cluster *c, uint64_t ino)
{
    for (size_t i = 0; ino != 0 && i < FAKE_INODES; i++) {
        if (c->inode[i].ino == ino) {
            return &c->inode[i];
        }
    }
    return NULL;
}
static inline struct fake_inode *fake_lookup(struct fake_cluster *c, uint64_t parent,
                                             struct proto_bytes name)
{
    for (size_t i = 0; i < FAKE_INODES; i++) {
        struct fake_inode *n = &c->inode[i];
        if (n->ino != 0 && n->parent == parent && n->attr.nlink > 0 &&
            proto_bytes_equal(proto_bytes_text(n->name), name)) {
            return n;
        }
    }
    return NULL;
}
static inline struct fake_inode *fake_path(struct fake_cluster *c, const char *name)
{
    return fake_lookup(c, PROTO_ROOT_INO, proto_bytes_text(name));
}
static inline struct fake_chunk *fake_chunk(struct fake_cluster *c, struct proto_chunk key,
                                            bool make)
{
    struct fake_chunk *empty = NULL;
    for (size_t i = 0; i < FAKE_CHUNKS; i++) {
        struct fake_chunk *k = &c->chunk[i];
        if (k->key.data_id == key.data_id && k->key.index == key.index) {
            return k;
        }
        empty = empty == NULL && k->key.data_id == 0 ? k : empty;
    }
    if (make) {
        CHECK(empty != NULL);
        empty->key = key;
    }
    return make ? empty : NULL;
}
