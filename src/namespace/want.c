#include "namespace/plan_priv.h"

/*
 * Where records are on a disk, an operation that finds out one by one what it lacks waits as often.
 * What a request names itself is known at once: when something is missing, it is asked for
 * together. Nothing is looked at here, so that no outcome depends on it, nor on a read that fails:
 * it is found again where it counts.
 */

static void want_key(struct namespace_plan *p, const struct namespace_key *key)
{
    struct kv_slice value;
    int rc = namespace_view_get_bytes(&p->view, key, &value);
    (void)rc; /* what is missing is in the list */
}

static void want_u64(struct namespace_plan *p, enum namespace_range range, uint64_t id)
{
    struct namespace_key key = namespace_key_u64(range, id);
    want_key(p, &key);
}

/* The first records behind it: mostly there are few. */
static void want_prefix(struct namespace_plan *p, const struct namespace_key *prefix)
{
    struct namespace_scan scan;
    int rc = namespace_scan_init(&scan, &p->view, prefix, NULL);
    rc = rc < 0 ? rc : namespace_scan_next(&scan);
    (void)rc;
    namespace_scan_fini(&scan);
}

static void want_range(struct namespace_plan *p, enum namespace_range range, uint64_t id)
{
    struct namespace_key prefix = namespace_key_u64(range, id);
    want_prefix(p, &prefix);
}

static void want_caller(struct namespace_plan *p)
{
    const struct proto_op *op = &p->op;
    struct namespace_key slot = namespace_key_u64(NAMESPACE_SLOT, op->session);
    struct namespace_key cred = namespace_key_u64(NAMESPACE_CRED, op->session);
    namespace_key_add_u32(&slot, op->slot);
    namespace_key_add_u32(&cred, op->cred);
    want_u64(p, NAMESPACE_SESSION, op->session);
    want_key(p, &slot);
    want_key(p, &cred);
}

static void want_name(struct namespace_plan *p, uint64_t parent, struct proto_bytes name)
{
    uint64_t above;
    want_u64(p, NAMESPACE_INODE, parent);
    if (!namespace_plan_knows_parent(p, parent, &above)) {
        want_u64(p, NAMESPACE_DIR_STATS, parent);
    }
    if (name.len > 0 && name.len <= PROTO_NAME_MAX) {
        struct namespace_key key = namespace_key_name(NAMESPACE_DIRENT, parent, name);
        want_key(p, &key);
    }
}

/* One that is written, or was. */
static void want_file(struct namespace_plan *p, uint64_t ino)
{
    want_u64(p, NAMESPACE_INODE, ino);
    want_u64(p, NAMESPACE_TRIM, ino);
    want_u64(p, NAMESPACE_INLINE, ino);
    want_u64(p, NAMESPACE_OBLIGATIONS, p->op.session);
    want_range(p, NAMESPACE_WOPEN, ino);
    want_range(p, NAMESPACE_ORPHAN, ino);
}

static void want_lock(struct namespace_plan *p, uint64_t ino)
{
    struct namespace_key own = namespace_key_u64s(NAMESPACE_LOCK, ino, p->op.session);
    want_u64(p, NAMESPACE_LOCKS, p->op.session);
    want_prefix(p, &own);
}

static void want_create(struct namespace_plan *p, const struct proto_create_request *r)
{
    want_name(p, r->parent, r->name);
    want_u64(p, NAMESPACE_OBLIGATIONS, p->op.session);
}

static void want_rename(struct namespace_plan *p, const struct proto_rename_request *r)
{
    want_name(p, r->parent, r->name);
    want_name(p, r->new_parent, r->new_name);
}

static void want_link(struct namespace_plan *p, const struct proto_link_request *r)
{
    want_name(p, r->parent, r->name);
    want_u64(p, NAMESPACE_INODE, r->ino);
}

static void want_restore(struct namespace_plan *p, const struct proto_trash_restore_request *r)
{
    want_name(p, r->parent, r->name);
    want_u64(p, NAMESPACE_INODE, r->ino);
    want_range(p, NAMESPACE_ORPHAN, r->ino);
}

#define WANT(name_, call)                               \
    case PROTO_OP_##name_: {                            \
        const struct proto_##name_##_request *r = body; \
        call;                                           \
        break;                                          \
    }

static void want_body(struct namespace_plan *p, const void *body)
{
    switch (p->command->kind) {
        WANT(create, want_create(p, r))
        WANT(link, want_link(p, r))
        WANT(unlink, want_name(p, r->parent, r->name))
        WANT(rmdir, want_name(p, r->parent, r->name))
        WANT(rename, want_rename(p, r))
        WANT(setattr, want_file(p, r->ino))
        WANT(setxattr, want_u64(p, NAMESPACE_INODE, r->ino))
        WANT(removexattr, want_u64(p, NAMESPACE_INODE, r->ino))
        WANT(wopen, want_file(p, r->ino))
        WANT(commit, want_file(p, r->ino))
        WANT(release, want_file(p, r->ino))
        WANT(lease_return, want_file(p, r->ino))
        WANT(append_turn, want_file(p, r->ino))
        WANT(append_done, want_file(p, r->ino))
        WANT(unlock, want_lock(p, r->ino))
        WANT(trash_restore, want_restore(p, r))
    default: /* quotas, and what finds all that it needs together by itself */
        break;
    }
}

void namespace_plan_wants(struct namespace_plan *p)
{
    const struct proto_message *m = proto_message_find(p->command->kind);
    CHECK(m != NULL); /* it is a mutation */
    void *body = mem_arena_alloc(p->view.arena, m->request->size + 1);
    struct proto_bytes bytes = p->command->body;
    if (p->memory == NULL) { /* else they are mostly known */
        want_caller(p);
    }
    if (body != NULL && proto_decode(m->request, bytes.at, bytes.len, p->view.arena, body) == 0) {
        want_body(p, body);
    }
}
