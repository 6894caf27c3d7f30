#include "metanode/metanode_priv.h"

#include "base/log.h"

/* How a change gets into the log, and how a read of the state is repeated until it has all. */

#define METANODE_READ_ROUNDS 10000u /* each brings something more, and keeps it */
#define METANODE_READ_SNAPSHOTS 4u  /* that are given up under one read */

/*
 * What was not taken, or is not known, must not look like an answer: the slot of a client would not
 * know of it. It is all of class EAGAIN, so that the same request comes again.
 */
static int proposal_refused(struct metanode *m, int rc)
{
    if (rc == -ENOSPC) {
        if (!m->log_full) {
            log_error(m->env->log, "the disk of the metadata is full: changes are refused");
        }
        m->log_full = true;
        return -ERR_log_full;
    }
    return err_is(rc, EAGAIN) ? rc : -ERR_unavailable;
}

static void proposal_taken(struct metanode *m)
{
    struct consensus_info info;
    if (m->log_full) { /* few are while it is full: those that others need */
        consensus_info(m->consensus, &info);
        m->log_full = info.full != 0 || kv_disk(m->kv) != KV_DISK_ROOM;
        if (!m->log_full) {
            log_info(m->env->log, "the disk of the metadata has room again");
        }
    }
}

static bool kind_is_among(uint16_t kind, const uint16_t *kinds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (kinds[i] == kind) {
            return true;
        }
    }
    return false;
}

/* Sessions, leases, rows: few and small, and without them nobody could even read. */
static bool proposal_is_urgent(uint16_t kind)
{
    static const uint16_t kinds[] = {
        PROTO_OP_session_open, PROTO_OP_session_close, PROTO_OP_credential,  PROTO_OP_slot_cancel,
        PROTO_OP_lease_return, PROTO_OP_release,       PROTO_OP_append_done, PROTO_OP_unlock,
        NAMESPACE_FORMAT_ROOT, NAMESPACE_EXPIRE,       NAMESPACE_TARGET_PUT, NAMESPACE_ROWS_PUT,
        NAMESPACE_FENCE_DONE,  NAMESPACE_BALANCE};
    return kind_is_among(kind, kinds, ARRAY_COUNT(kinds));
}

/* Takes more away than it adds, sooner or later. */
static bool proposal_removes(uint16_t kind)
{
    static const uint16_t kinds[] = {
        PROTO_OP_unlink,     PROTO_OP_rmdir,         PROTO_OP_removexattr,  PROTO_OP_trash_purge,
        NAMESPACE_TRIM_DONE, NAMESPACE_GARBAGE_DONE, NAMESPACE_ORPHAN_DROP, NAMESPACE_TRASH_PURGE};
    return kind_is_among(kind, kinds, ARRAY_COUNT(kinds));
}

/* What is in the log must be applied: the engine is asked before. */
static bool proposal_has_room(const struct metanode_proposal *p)
{
    switch (kv_disk(p->m->kv)) {
    case KV_DISK_LOW:
        return p->base.urgent || p->removes;
    case KV_DISK_FULL:
        return p->base.urgent;
    case KV_DISK_ROOM:
    default:
        return true;
    }
}

static void proposal_done(struct consensus_proposal *base, int rc, uint64_t index)
{
    struct metanode_proposal *p = container_of(base, struct metanode_proposal, base);
    (void)index;
    if (rc == 0) {
        proposal_taken(p->m);
    }
    if (p->waiter != NULL) { /* else metanode_apply has told it */
        struct metanode_waiter *w = p->waiter;
        p->waiter = NULL;
        w->done(w, proposal_refused(p->m, rc < 0 ? rc : -ERR_unknown_outcome), NULL);
    }
    mem_free(p);
}

int metanode_command(struct metanode *m, uint16_t kind, struct proto_bytes body,
                     const struct namespace_command *said, struct metanode_proposal **ret)
{
    struct namespace_command c = said != NULL ? *said : (struct namespace_command){0};
    c.version = (uint16_t)base_max(c.version, namespace_command_version(kind, NULL));
    c.kind = kind;
    c.time_ns = (int64_t)loop_wall_ns(m->env->loop);
    c.random = loop_random(m->env->loop);
    c.body = body;
    size_t len = 0;
    int rc = proto_encoded_bytes(&namespace_command_type, &c, &len);
    if (rc < 0) {
        return rc;
    }
    if (len > CONSENSUS_OPERATION_MAX) {
        return -EMSGSIZE;
    }
    struct metanode_proposal *p = mem_alloc(sizeof *p + len);
    if (p == NULL) {
        return -ENOMEM;
    }
    *p = (struct metanode_proposal){.m = m, .len = len};
    struct wire_writer w = wire_writer_over(p->bytes, len);
    rc = PROTO_ENCODE(namespace_command, &c, &w);
    CHECK(rc == 0 && w.len == len);
    p->base = (struct consensus_proposal){
        .done = proposal_done, .bytes = p->bytes, .len = len, .urgent = proposal_is_urgent(kind)};
    p->removes = proposal_removes(kind);
    *ret = p;
    return 0;
}

void metanode_submit(struct metanode_proposal *p, struct metanode_waiter *w)
{
    p->waiter = w;
    p->base.rc = proposal_has_room(p) ? 0 : -ENOSPC;
    consensus_propose(p->m->consensus, &p->base);
}

int metanode_propose(struct metanode *m, uint16_t kind, const struct proto_type *type,
                     const void *body, struct metanode_waiter *w)
{
    size_t len = 0;
    int rc = proto_encoded_bytes(type, body, &len);
    if (rc < 0) {
        return rc;
    }
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(len + 1);
    if (bytes == NULL) {
        return -ENOMEM;
    }
    struct wire_writer writer = wire_writer_over(bytes, len);
    rc = proto_encode(type, body, &writer);
    struct metanode_proposal *p;
    const struct namespace_command said = {.version = namespace_command_version(kind, body)};
    rc = rc < 0 ? rc : metanode_command(m, kind, proto_bytes_of(bytes, writer.len), &said, &p);
    if (rc == 0) {
        metanode_submit(p, w);
    }
    return rc;
}

static void read_end(struct metanode_read *r, int rc)
{
    /* `done` may free the request: what has to be released is moved out first. */
    struct metanode *m = r->m;
    struct kv_need need = r->need;
    struct kv_snapshot *snapshot = r->snapshot;
    struct mem_arena arena = r->arena;
    m->reads--;
    r->done(r, rc);
    mem_arena_fini(&arena);
    kv_need_release(&need);
    kv_snapshot_free(snapshot);
}

static void read_fetched(struct kv_fetch *f, int rc);

static int read_run(struct metanode_read *r)
{
    struct namespace_view v = {.need = &r->need, .arena = &r->arena};
    int rc = r->snapshot == NULL ? kv_snapshot_new(r->m->kv, &r->snapshot) : 0;
    v.snapshot = r->snapshot;
    mem_arena_reset(&r->arena);
    return rc < 0 ? rc : r->run(r, &v);
}

/* A long read on a busy engine: the state it looked at is not kept any more. */
static bool read_begins_anew(struct metanode_read *r)
{
    bool anew = ++r->given_up < METANODE_READ_SNAPSHOTS && r->m->phase != METANODE_ENDED;
    if (anew) {
        kv_need_release(&r->need);
        r->snapshot = kv_snapshot_free(r->snapshot);
    }
    return anew;
}

/* True: it is over with *ret_rc; false: a fetch is under way. */
static bool read_step(struct metanode_read *r, int *ret_rc)
{
    int rc = read_run(r);
    while (rc == -ECANCELED && read_begins_anew(r)) {
        rc = read_run(r);
    }
    if (rc == -ERR_need && ++r->rounds < METANODE_READ_ROUNDS && r->m->phase != METANODE_ENDED) {
        r->fetch = (struct kv_fetch){.need = &r->need, .done = read_fetched};
        kv_fetch(r->m->kv, &r->fetch);
        return false;
    }
    *ret_rc = rc == -ERR_need || rc == -ENOBUFS || rc == -ECANCELED ? -ERR_busy : rc;
    return true;
}

static void read_fetched(struct kv_fetch *f, int rc)
{
    struct metanode_read *r = container_of(f, struct metanode_read, fetch);
    rc = rc == -ENOMEM || rc == -ECANCELED ? -ERR_busy : rc; /* for what was to be brought in */
    if (rc < 0 || read_step(r, &rc)) {
        read_end(r, rc);
    }
}

void metanode_read(struct metanode *m, struct metanode_read *r)
{
    int rc;
    r->m = m;
    r->snapshot = NULL;
    r->need = (struct kv_need){0};
    r->rounds = r->given_up = 0;
    mem_arena_init(&r->arena, METANODE_ARENA_BYTES);
    m->reads++;
    if (read_step(r, &rc)) {
        read_end(r, rc);
    }
}
