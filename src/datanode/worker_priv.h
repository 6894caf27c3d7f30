/*
 * datanode/worker_priv.h -- the parts of a worker and how they call each other. All of it belongs
 * to one loop.
 *
 *   control.c    metadata leader: registration, heartbeats, lease, where other targets are
 *   reporter.c   what it is told besides; report.c: the queue
 *   scrub.c      the check of all chunks in the background
 *   chain.c      rows, roles, what a new row means (R12)
 *   item.c       chunks in use: locks, marks, waiting readers
 *   neighbor.c   links to other members
 *   update.c     one update on its way through this member; below.c: what it says to the successor
 *   admit.c      how many reads there may be; way.c, stream.c: which way their bytes take
 *   write.c, forward.c, read.c, batch.c, stat.c, sync.c, fence.c, remove.c, resync_*.c, repair.c:
 *                requests
 */
#pragma once

#include "base/buf.h"
#include "base/dict.h"
#include "base/env.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stats.h"
#include "chunk/read.h"
#include "chunk/store.h"
#include "cluster/capability.h"
#include "datanode/admit.h"
#include "datanode/chain_priv.h"
#include "datanode/control_priv.h"
#include "datanode/decide.h"
#include "datanode/discard.h"
#include "datanode/hold.h"
#include "datanode/item_priv.h"
#include "datanode/metrics_priv.h"
#include "datanode/neighbor_priv.h"
#include "datanode/rate.h"
#include "datanode/reporter.h"
#include "datanode/scrub.h"
#include "datanode/sick_priv.h"
#include "datanode/update_priv.h"
#include "datanode/worker.h"
#include "loop/loop.h"
#include "peer/client.h"
#include "peer/server.h"

#define DATANODE_READS_MAX 8192u /* in progress, unless said otherwise */
#define DATANODE_META_MAX 16u
#define DATANODE_FENCES_MAX 4096u
#define DATANODE_RETRY_MIN_MS 10u
#define DATANODE_RETRY_MAX_MS 1000u
#define DATANODE_WAIT_MS 50u /* readers wait for a commit */
#define DATANODE_WAIT_MAX_MS 10000u
#define DATANODE_CALL_MS 20000u /* between members; a late answer costs the link: R10 */
#define DATANODE_TEXT 256u
#define DATANODE_NAME 65u

/* ---- Requests ---- */

struct datanode_fence {
    struct list node;
    uint64_t session, cap_epoch, until_ms;
};

void datanode_on_stats(struct peer_user *user, struct peer_request *r);
void datanode_on_write(struct peer_user *user, struct peer_request *r);
void datanode_on_forward(struct peer_user *user, struct peer_request *r);
void datanode_on_trailer(struct peer_user *user, struct peer_link *l, const void *body);
void datanode_on_read(struct peer_user *user, struct peer_request *r);
void datanode_on_read_batch(struct peer_user *user, struct peer_request *r);
void datanode_on_stat(struct peer_user *user, struct peer_request *r);
void datanode_on_extents(struct peer_user *user, struct peer_request *r);
void datanode_on_sync(struct peer_user *user, struct peer_request *r);
void datanode_on_fence(struct datanode_worker *w, struct peer_request *r);
void datanode_on_revoke(struct datanode_worker *w, struct peer_request *r);
void datanode_on_remove(struct datanode_worker *w, struct peer_request *r);

/* Is this session's capability shut out? */
bool datanode_fenced(struct datanode_worker *w, const struct proto_capability *c);
void datanode_fences_writes_done(struct datanode_worker *w);
void datanode_fences_free(struct datanode_worker *w);

/* ---- The whole ---- */

struct datanode_worker {
    struct datanode_worker_options opt; /* texts are in `text` */
    struct net_address meta[DATANODE_META_MAX];
    char host[DATANODE_TEXT], rack[DATANODE_TEXT], labels[DATANODE_TEXT];
    char name[DATANODE_NAME];
    char advertise[NET_ADDRESS_SIZE];
    struct env env;
    struct loop *loop;
    struct stats *stats;
    struct chunk_store *store;
    struct chunk_user store_user;
    struct uuid uuid;
    uint64_t incarnation;
    /* What clients write waits for other members; so the members' own has memory of its own, and
     * those nearer to the end of a chain always find some (forward.c): no circle can wait. */
    struct buf_pool *pool, *member_pool;
    struct buf_pool *answer_pool;   /* whoever does not read keeps its answers long: others write */
    struct buf_pool *stream_pool;   /* what is read past the page cache */
    struct datanode_blocks *blocks; /* and kept; or NULL */
    uint64_t member_bytes, read_bytes;
    bool stream_unable, lent; /* no direct I/O here; the disk knows the memory of the two */
    struct peer_user user;    /* of the server */
    struct peer_server *server;
    struct datanode_control control;
    struct datanode_sick sick;
    struct datanode_reporter reporter;
    struct datanode_scrub scrub;
    struct dict chains, items, neighbors;
    struct list chain_list, neighbor_list, updates, fences, fence_waits, ops, removes;
    struct list repairs, repairs_new;
    struct loop_task repair_task;
    struct datanode_discard discard;
    uint64_t used_ns, neighbors_ns;  /* a client last read or wrote; neighbors were looked at */
    struct datanode_copying copying; /* to members that are brought up to date */
    struct datanode_holds holds;
    struct loop_timer repair_timer; /* damaged chunks that nobody could repair yet */
    struct chunk_damage repair_at;
    uint64_t repair_wait_ms;
    size_t update_count, fence_count, fence_wait_count, op_count, touched_count, read_count,
        remove_count, remove_active, sink_count, repair_count;
    bool failed, stopping, closing, left, served;
    uint64_t stopping_ns, stop_at_ns;
    struct loop_timer stop_timer;
    struct chunk_start store_start;
    struct chunk_stop store_stop;
    struct chunk_change lossy;
    bool lossy_busy;
    struct loop_task fail_task;
    int fail_rc;
    char fail_reason[DATANODE_TEXT];
    struct datanode_counters counters;
    struct datanode_gauges gauges;
    struct cluster_capability_known known;
};

/* It serves no more and asks its owner to end it. Once. */
void datanode_worker_fail(struct datanode_worker *w, int rc, const char *reason);
/* Answers with an error; a stale epoch with the row. `c` may be NULL. */
void datanode_refuse(struct peer_request *r, int rc, const struct datanode_chain *c);
static inline struct datanode_worker *datanode_worker_of(struct peer_user *user)
{
    return container_of(user, struct datanode_worker, user);
}
/* R8, R10, R11: the link on which it came has ended, or nobody waits any more. */
static inline bool datanode_request_dead(const struct peer_request *r)
{
    return r->link == NULL || net_conn_request_gone(r->wire);
}
/* Nobody waits for the answer any more, or soon nobody will: it is not begun. */
static inline bool datanode_request_late(const struct datanode_worker *w,
                                         const struct peer_request *r)
{
    return datanode_request_dead(r) || loop_tick_ns(w->loop) >= r->wire->deadline_ns;
}
NODISCARD int datanode_capability(struct datanode_worker *w, const struct peer_request *r,
                                  const struct proto_capability *c, uint64_t data_id,
                                  uint8_t rights);
/* Data of the wire is in a buffer, or there is none. */
static inline struct iovec datanode_slice_iovec(const struct slice *s)
{
    struct iovec v = {0};
    if (s->buf != NULL && s->len > 0) {
        v.iov_base = s->buf->at + (s->at - s->buf->at);
        v.iov_len = s->len;
    }
    return v;
}
static inline struct chunk_key datanode_key(struct proto_chunk c)
{
    return (struct chunk_key){.data_id = c.data_id, .index = c.index};
}
static inline struct proto_chunk datanode_key_wire(struct chunk_key k)
{
    return (struct proto_chunk){.data_id = k.data_id, .index = k.index};
}
static inline struct chunk_identity datanode_identity(struct proto_identity i)
{
    return (struct chunk_identity){.aepoch = i.aepoch, .ver = i.ver};
}
static inline struct proto_identity datanode_identity_wire(struct chunk_identity i)
{
    return (struct proto_identity){.aepoch = i.aepoch, .ver = i.ver};
}
static inline struct proto_route datanode_route_of(const struct datanode_chain *c, uint32_t attempt)
{
    return (struct proto_route){.chain = c->id, .epoch = c->row.epoch, .attempt = attempt};
}
/* The record, or all zero with just the key. 0; -ERR_need and the like. */
NODISCARD int datanode_lookup(struct datanode_worker *w, struct chunk_key key,
                              struct chunk_info *ret);
/* Of a chunk whose lock is held: it is in memory, unless there was none for it (-ERR_busy). */
NODISCARD int datanode_lookup_locked(struct datanode_worker *w, struct chunk_key key,
                                     struct chunk_info *ret);
/* Do the bytes of [offset, offset + data->len) of a chunk fit their CRCs, one per touched cell? */
NODISCARD int datanode_crc_check(uint32_t offset, const struct slice *data,
                                 const struct proto_u32s *crcs);
