#include "namespace/plan_priv.h"

/*
 * Where records are on a disk, an operation that finds out one by one what it lacks waits as often.
 * What a request names itself is known at once: it is asked for together, before the operation runs
 * and says what else it needs. Nothing is looked at here, so that no outcome depends on it.
 */

struct namespace_wants {
    struct namespace_plan *p;
    int needs;
    int rc; /* why it cannot go on */
};

static void want_note(struct namespace_wants *w, int rc)
{
    bool local = rc == -ENOMEM || rc == -ENOBUFS;
    w->needs = rc == -ERR_need ? rc : w->needs;
    w->rc = w->rc == 0 && local ? rc : w->rc; /* all else is found again where it counts */
}

static void want_key(struct namespace_wants *w, const struct namespace_key *key)
{
    struct kv_slice value;
    want_note(w, namespace_view_get_bytes(&w->p->view, key, &value));
}

static void want_u64(struct namespace_wants *w, enum namespace_range range, uint64_t id)
{
    struct namespace_key key = namespace_key_u64(range, id);
    want_key(w, &key);
}

/* The first records behind it: mostly there are few. */
static void want_range(struct namespace_wants *w, enum namespace_range range, uint64_t id)
{
    struct namespace_key prefix = namespace_key_u64(range, id);
    struct namespace_scan scan;
    int rc = namespace_scan_init(&scan, &w->p->view, &prefix, NULL);
    want_note(w, rc < 0 ? rc : namespace_scan_next(&scan));
    namespace_scan_fini(&scan);
}

static void want_caller(struct namespace_wants *w)
{
    const struct proto_op *op = &w->p->op;
    struct namespace_key slot = namespace_key_u64(NAMESPACE_SLOT, op->session);
    struct namespace_key cred = namespace_key_u64(NAMESPACE_CRED, op->session);
    namespace_key_add_u32(&slot, op->slot);
    namespace_key_add_u32(&cred, op->cred);
    want_u64(w, NAMESPACE_SESSION, op->session);
    want_key(w, &slot);
    want_key(w, &cred);
}

static void want_name(struct namespace_wants *w, uint64_t parent, struct proto_bytes name)
{
    want_u64(w, NAMESPACE_INODE, parent);
    want_u64(w, NAMESPACE_DIR_STATS, parent);
    if (name.len > 0 && name.len <= PROTO_NAME_MAX) {
        struct namespace_key key = namespace_key_name(NAMESPACE_DIRENT, parent, name);
        want_key(w, &key);
    }
}

/* One that is written, or was. */
static void want_file(struct namespace_wants *w, uint64_t ino)
{
    want_u64(w, NAMESPACE_INODE, ino);
    want_u64(w, NAMESPACE_TRIM, ino);
    want_u64(w, NAMESPACE_INLINE, ino);
    want_u64(w, NAMESPACE_OBLIGATIONS, w->p->op.session);
    want_range(w, NAMESPACE_WOPEN, ino);
    want_range(w, NAMESPACE_ORPHAN, ino);
}

static void want_create(struct namespace_wants *w, const struct proto_create_request *r)
{
    want_name(w, r->parent, r->name);
    want_u64(w, NAMESPACE_OBLIGATIONS, w->p->op.session);
}

static void want_rename(struct namespace_wants *w, const struct proto_rename_request *r)
{
    want_name(w, r->parent, r->name);
    want_name(w, r->new_parent, r->new_name);
}

static void want_link(struct namespace_wants *w, const struct proto_link_request *r)
{
    want_name(w, r->parent, r->name);
    want_u64(w, NAMESPACE_INODE, r->ino);
}

static void want_restore(struct namespace_wants *w, const struct proto_trash_restore_request *r)
{
    want_name(w, r->parent, r->name);
    want_u64(w, NAMESPACE_INODE, r->ino);
    want_range(w, NAMESPACE_ORPHAN, r->ino);
}

#define WANT(name_, call)                               \
    case PROTO_OP_##name_: {                            \
        const struct proto_##name_##_request *r = body; \
        call;                                           \
        break;                                          \
    }

static void want_body(struct namespace_wants *w, const void *body)
{
    switch (w->p->command->kind) {
        WANT(create, want_create(w, r))
        WANT(link, want_link(w, r))
        WANT(unlink, want_name(w, r->parent, r->name))
        WANT(rmdir, want_name(w, r->parent, r->name))
        WANT(rename, want_rename(w, r))
        WANT(setattr, want_file(w, r->ino))
        WANT(setxattr, want_u64(w, NAMESPACE_INODE, r->ino))
        WANT(removexattr, want_u64(w, NAMESPACE_INODE, r->ino))
        WANT(wopen, want_file(w, r->ino))
        WANT(commit, want_file(w, r->ino))
        WANT(release, want_file(w, r->ino))
        WANT(lease_return, want_file(w, r->ino))
        WANT(append_turn, want_file(w, r->ino))
        WANT(append_done, want_file(w, r->ino))
        WANT(trash_restore, want_restore(w, r))
    default: /* quotas, and what finds all that it needs together by itself */
        break;
    }
}

int namespace_plan_wants(struct namespace_plan *p)
{
    struct namespace_wants w = {.p = p};
    if (p->view.snapshot->kv->resident) {
        return 0;
    }
    const struct proto_message *m = proto_message_find(p->command->kind);
    CHECK(m != NULL); /* it is a mutation */
    void *body = mem_arena_alloc(p->view.arena, m->request->size + 1);
    if (body == NULL) {
        return -ENOMEM;
    }
    struct proto_bytes bytes = p->command->body;
    if (p->memory == NULL) { /* else they are mostly known */
        want_caller(&w);
    }
    if (proto_decode(m->request, bytes.at, bytes.len, p->view.arena, body) == 0) {
        want_body(&w, body);
    }
    return w.rc < 0 ? w.rc : w.needs;
}
