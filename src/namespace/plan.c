#include "namespace/plan_priv.h"

#include "namespace/stats_priv.h"

#define NAMESPACE_RECORD_BYTES 1024u /* most records are shorter */

/* Of inodes there are many, and most end with zeros. */
static int namespace_plan_encode(const struct proto_type *type, const void *record,
                                 struct wire_writer *w)
{
    bool many = type == &namespace_inode_type;
    return many ? proto_encode_compact(type, record, w) : proto_encode(type, record, w);
}

int namespace_plan_put(struct namespace_plan *p, const struct namespace_key *key,
                       const struct proto_type *type, const void *record)
{
    uint8_t small[NAMESPACE_RECORD_BYTES];
    struct wire_writer w = wire_writer_over(small, sizeof small);
    int rc = namespace_plan_encode(type, record, &w);
    if (rc == -EMSGSIZE) {
        size_t len = 0;
        rc = proto_encoded_bytes(type, record, &len);
        CHECK(rc == 0 && len <= KV_VALUE_MAX);
        uint8_t *bytes = mem_arena_alloc(p->view.arena, len);
        if (bytes == NULL) {
            return -ENOMEM;
        }
        w = wire_writer_over(bytes, len);
        rc = namespace_plan_encode(type, record, &w);
    }
    CHECK(rc == 0); /* limits were checked where the fields came in */
    return kv_batch_put(p->batch, namespace_key_slice(key), kv_slice_of(w.at, w.len));
}

int namespace_plan_put_empty(struct namespace_plan *p, const struct namespace_key *key)
{
    return kv_batch_put(p->batch, namespace_key_slice(key), kv_slice_of(NULL, 0));
}

int namespace_plan_delete(struct namespace_plan *p, const struct namespace_key *key)
{
    return kv_batch_delete(p->batch, namespace_key_slice(key));
}

int namespace_plan_delete_prefix(struct namespace_plan *p, const struct namespace_key *prefix)
{
    struct namespace_key end = namespace_key_end(prefix);
    return kv_batch_delete_range(p->batch, namespace_key_slice(prefix), namespace_key_slice(&end));
}

/* The state is at hand: it need not be read for its default. */
int namespace_plan_class(const struct namespace_plan *p, uint32_t class_id,
                         struct proto_storage_class *ret)
{
    uint32_t id = class_id == 0 ? p->state.default_class : class_id;
    return id == 0 ? -ENOENT : namespace_view_class(&p->view, id, ret);
}

static struct namespace_held *namespace_plan_find(struct namespace_plan *p, uint64_t ino)
{
    for (size_t i = 0; i < p->held_count; i++) {
        if (p->held[i].ino == ino) {
            return &p->held[i];
        }
    }
    return NULL;
}

int namespace_plan_inode(struct namespace_plan *p, uint64_t ino, struct namespace_held **ret)
{
    struct namespace_held *h = namespace_plan_find(p, ino);
    if (h == NULL) {
        CHECK(p->held_count < NAMESPACE_PLAN_INODES);
        h = &p->held[p->held_count];
        *h = (struct namespace_held){.ino = ino};
        int rc = namespace_view_inode(&p->view, ino, &h->inode);
        if (rc < 0) {
            return rc;
        }
        h->version_before = h->inode.version;
        h->parent_before = h->inode.parent;
        h->nlink_before = h->inode.nlink;
        h->size_before = h->inode.size;
        h->size_free = h->inode.size;
        p->held_count++;
    }
    *ret = h;
    return h->removed ? -ENOENT : 0;
}

struct namespace_held *namespace_plan_new_inode(struct namespace_plan *p, uint64_t ino)
{
    CHECK(namespace_plan_find(p, ino) == NULL);
    CHECK(p->held_count < NAMESPACE_PLAN_INODES);
    struct namespace_held *h = &p->held[p->held_count++];
    *h = (struct namespace_held){.ino = ino};
    return h;
}

int namespace_plan_may(struct namespace_plan *p, const struct namespace_held *h, uint32_t may)
{
    return namespace_cred_check(&p->view, &p->cred, h->ino, &h->inode, may);
}

int namespace_plan_may_open(struct namespace_plan *p, const struct namespace_held *h, bool append)
{
    int rc = namespace_plan_may(p, h, NAMESPACE_MAY_WRITE);
    return rc < 0 ? rc : namespace_check_append(&h->inode, append);
}

void namespace_plan_touch(struct namespace_plan *p, struct namespace_held *h)
{
    h->dirty = true;
    if (!h->touched) {
        h->touched = true;
        h->inode.version = p->state.version;
        h->inode.change++;
    }
}

void namespace_plan_touch_ctime(struct namespace_plan *p, struct namespace_held *h)
{
    namespace_plan_touch(p, h);
    h->inode.ctime_ns = p->now_ns;
}

void namespace_plan_touch_dir(struct namespace_plan *p, struct namespace_held *h)
{
    namespace_plan_touch_ctime(p, h);
    h->inode.mtime_ns = p->now_ns;
}

static void namespace_plan_list_change(struct namespace_plan *p, const struct namespace_held *h)
{
    struct namespace_reply *r = p->reply;
    CHECK(r->change_count < NAMESPACE_CHANGES_MAX);
    r->change_parent[r->change_count] = h->parent_before;
    struct proto_change *c = &r->change[r->change_count++];
    *c = (struct proto_change){
        .ino = h->ino, .version_before = h->version_before, .version_after = h->inode.version};
    namespace_inode_attr(h->ino, &h->inode, &c->attr);
}

int namespace_plan_flush(struct namespace_plan *p)
{
    int rc = 0;
    for (size_t i = 0; i < p->held_count && rc == 0; i++) {
        struct namespace_held *h = &p->held[i];
        if (h->dirty && !h->removed) {
            struct namespace_key key = namespace_key_u64(NAMESPACE_INODE, h->ino);
            rc = NAMESPACE_PUT(p, &key, namespace_inode, &h->inode);
        }
        if (h->touched) {
            namespace_plan_list_change(p, h);
        }
        if (h->ino == p->reply->result.ino) {
            namespace_inode_attr(h->ino, &h->inode, &p->reply->attr);
            namespace_inode_layout(&h->inode, &p->reply->layout);
            p->reply->data_version = h->inode.data_version;
        }
    }
    return rc;
}

int namespace_plan_folds(struct namespace_plan *p)
{
    int needs = 0;
    for (size_t i = 0; i < p->command->folds.count; i++) {
        const struct namespace_fold *f = &p->command->folds.at[i];
        struct namespace_held *h;
        if (namespace_plan_find(p, f->ino) == NULL && p->held_count >= NAMESPACE_PLAN_INODES - 4) {
            continue; /* no operation changes so many files */
        }
        int rc = namespace_plan_go_on(&needs, namespace_plan_inode(p, f->ino, &h));
        if (needs < 0 || rc == -ENOENT || (rc == 0 && h->inode.type != PROTO_INODE_FILE)) {
            continue;
        }
        if (rc < 0) {
            return namespace_view_both(rc, needs);
        }
        namespace_plan_touch(p, h);
        struct namespace_inode *n = &h->inode;
        n->data_version = f->size > n->size ? p->state.version : n->data_version;
        namespace_set_size(p, h, base_max(n->size, f->size));
        namespace_quota_accept(h);
        n->mtime_ns = f->mtime_ns > n->mtime_ns ? f->mtime_ns : n->mtime_ns;
        n->ctime_ns = f->ctime_ns > n->ctime_ns ? f->ctime_ns : n->ctime_ns;
        n->atime_ns = f->atime_ns > n->atime_ns ? f->atime_ns : n->atime_ns;
    }
    return needs;
}

void namespace_plan_oblige(struct namespace_plan *p, uint64_t session, int delta)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_OBLIGATIONS, session);
    struct kv_field add = {.offset = 0, .op = KV_FIELD_ADD, .operand = (uint64_t)(int64_t)delta};
    /* A failure stays in the batch and is found when it is committed. */
    (void)kv_batch_upsert(p->batch, namespace_key_slice(&key), 8, &add, 1);
}

int namespace_plan_check_obligations(struct namespace_plan *p)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_OBLIGATIONS, p->session_id);
    struct kv_slice value;
    int rc = namespace_view_get_bytes(&p->view, &key, &value);
    if (rc <= 0) {
        return rc;
    }
    struct wire_reader r = wire_reader_over(value.at, value.len);
    return wire_read_u64(&r) >= NAMESPACE_OBLIGATIONS_MAX ? -ENFILE : 0;
}
