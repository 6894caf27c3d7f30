#include "namespace/lock.h"

#include "namespace/plan_priv.h"

/*
 * Locks of files (coherence.md section 8): which are held. Who waits is not here: the leader lets
 * those in one by one (metanode/lock.c), each by a command that looks once more. Ranges of one
 * owner never overlap, and those of one type that touch are one, as POSIX has it; so a range that
 * an owner has is in a single record, and taking it twice changes nothing.
 *
 * A record stands under its file and session; the session has an index of such files, and a count.
 */

#define LOCK_KEY_BYTES 34u /* range, ino, session, kind, owner, start */
#define LOCKS_FEW 16u

static struct namespace_key lock_prefix(uint64_t ino, uint64_t session)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_LOCK, ino);
    if (session != 0) {
        namespace_key_add_u64(&key, session);
    }
    return key;
}

static struct namespace_key lock_key(uint64_t ino, const struct namespace_held_lock *l)
{
    struct namespace_key key = lock_prefix(ino, l->session);
    namespace_key_add_bytes(&key, proto_bytes_of(&l->kind, 1));
    namespace_key_add_u64(&key, l->owner);
    namespace_key_add_u64(&key, l->start);
    return key;
}

static int lock_read(const struct namespace_scan *scan, struct namespace_held_lock *ret)
{
    struct kv_slice key = scan->it->key;
    struct namespace_lock l;
    int rc = namespace_scan_value(scan, &namespace_lock_type, &l);
    if (rc < 0 || key.len != LOCK_KEY_BYTES) {
        return rc < 0 ? rc : -EUCLEAN;
    }
    *ret = (struct namespace_held_lock){.session = namespace_key_read_u64(key, 9),
                                        .kind = ((const uint8_t *)key.at)[17],
                                        .owner = namespace_key_read_u64(key, 18),
                                        .start = namespace_key_read_u64(key, 26),
                                        .last = l.last,
                                        .type = l.type,
                                        .pid = l.pid};
    return 0;
}

static int locks_add(const struct namespace_view *v, struct namespace_held_locks *all, size_t *room,
                     const struct namespace_held_lock *l)
{
    if (all->count == *room) {
        size_t more = *room == 0 ? LOCKS_FEW : 2 * *room;
        struct namespace_held_lock *at = mem_arena_alloc(v->arena, more * sizeof *at);
        if (at == NULL) {
            return -ENOMEM;
        }
        if (all->count > 0) {
            memcpy(at, all->at, all->count * sizeof *at);
        }
        all->at = at;
        *room = more;
    }
    all->at[all->count++] = *l;
    return 0;
}

int namespace_locks(const struct namespace_view *v, uint64_t ino, uint64_t session,
                    struct namespace_held_locks *ret)
{
    struct namespace_key prefix = lock_prefix(ino, session);
    struct namespace_scan scan;
    size_t room = 0;
    *ret = (struct namespace_held_locks){0};
    int rc = namespace_scan_init(&scan, v, &prefix, NULL);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        struct namespace_held_lock l;
        rc = lock_read(&scan, &l);
        rc = rc < 0 ? rc : locks_add(v, ret, &room, &l);
    }
    namespace_scan_fini(&scan);
    return rc;
}

static bool lock_same_owner(const struct namespace_held_lock *a,
                            const struct namespace_held_lock *b)
{
    return a->kind == b->kind && a->session == b->session && a->owner == b->owner;
}

static bool lock_overlaps(const struct namespace_held_lock *a, const struct namespace_held_lock *b)
{
    return a->start <= b->last && b->start <= a->last;
}

bool namespace_lock_conflicts(const struct namespace_held_lock *a,
                              const struct namespace_held_lock *b)
{
    bool writes = a->type == PROTO_LOCK_WRITE || b->type == PROTO_LOCK_WRITE;
    return a->kind == b->kind && writes && lock_overlaps(a, b) && !lock_same_owner(a, b);
}

bool namespace_lock_is_held(const struct namespace_held_locks *held,
                            const struct namespace_held_lock *wanted)
{
    bool is = false;
    for (size_t i = 0; i < held->count && !is; i++) {
        const struct namespace_held_lock *h = &held->at[i];
        is = lock_same_owner(h, wanted) && h->type == wanted->type && h->start <= wanted->start &&
             h->last >= wanted->last;
    }
    return is;
}

int namespace_lock_check(const struct namespace_held_lock *l)
{
    bool kind = l->kind == PROTO_LOCK_POSIX || l->kind == PROTO_LOCK_FLOCK;
    bool type = l->type <= PROTO_LOCK_WRITE;
    return kind && type && l->start <= l->last && l->last <= PROTO_LOCK_LAST ? 0 : -EINVAL;
}

int namespace_lock_test(const struct namespace_view *v, const struct proto_lock_test_request *q,
                        struct proto_lock_test_reply *ret)
{
    const struct namespace_held_lock wanted = {.session = q->caller.session,
                                               .owner = q->owner,
                                               .start = q->start,
                                               .last = q->last,
                                               .kind = q->kind,
                                               .type = q->type};
    const struct namespace_held_lock *first = NULL;
    struct namespace_held_locks held;
    *ret = (struct proto_lock_test_reply){0};
    int rc = namespace_lock_check(&wanted);
    rc = rc < 0 ? rc : namespace_locks(v, q->ino, 0, &held);
    for (size_t i = 0; rc == 0 && i < held.count; i++) {
        bool before = first == NULL || held.at[i].start < first->start;
        first = before && namespace_lock_conflicts(&held.at[i], &wanted) ? &held.at[i] : first;
    }
    if (rc == 0 && first != NULL) {
        ret->type = first->type;
        ret->session = first->session;
        ret->pid = first->pid;
        ret->start = first->start;
        ret->last = first->last;
    }
    return rc;
}

/* --- changing -----------------------------------------------------------------------------------
 */

static int lock_put(struct namespace_plan *p, uint64_t ino, const struct namespace_held_lock *l)
{
    const struct namespace_lock record = {.last = l->last, .type = l->type, .pid = l->pid};
    struct namespace_key key = lock_key(ino, l);
    return NAMESPACE_PUT(p, &key, namespace_lock, &record);
}

static int lock_drop(struct namespace_plan *p, uint64_t ino, const struct namespace_held_lock *l)
{
    struct namespace_key key = lock_key(ino, l);
    return namespace_plan_delete(p, &key);
}

/* What is left of `old` beside the range of `l`. How many were put, or an error. */
static int lock_put_rest(struct namespace_plan *p, uint64_t ino,
                         const struct namespace_held_lock *old, const struct namespace_held_lock *l)
{
    struct namespace_held_lock left = *old, right = *old;
    int rc = 0, put = 0;
    if (old->start < l->start) {
        left.last = l->start - 1;
        rc = lock_put(p, ino, &left);
        put++;
    }
    if (rc == 0 && old->last > l->last) {
        right.start = l->last + 1;
        rc = lock_put(p, ino, &right);
        put++;
    }
    return rc < 0 ? rc : put;
}

/* The session's index of files and its count follow. `had`: records of the file before. */
static int lock_account(struct namespace_plan *p, uint64_t ino, uint64_t session, size_t had,
                        int delta)
{
    struct namespace_key index = namespace_key_u64s(NAMESPACE_SESSION_LOCK, session, ino);
    struct namespace_key count = namespace_key_u64(NAMESPACE_LOCKS, session);
    struct kv_field add = {.offset = 0, .op = KV_FIELD_ADD, .operand = (uint64_t)(int64_t)delta};
    int rc = 0;
    if (delta != 0) {
        rc = kv_batch_upsert(p->batch, namespace_key_slice(&count), 8, &add, 1);
    }
    if (rc == 0 && had == 0 && delta > 0) {
        rc = namespace_plan_put_empty(p, &index);
    } else if (rc == 0 && had > 0 && had + (size_t)(int64_t)delta == 0) {
        rc = namespace_plan_delete(p, &index);
    }
    return rc;
}

/* The owner's locks in the range of `l` become what `l` says; type NONE: they go. */
static int lock_set(struct namespace_plan *p, uint64_t ino, const struct namespace_held_lock *l,
                    const struct namespace_held_locks *own)
{
    struct namespace_held_lock whole = *l; /* with those of its type that it touches */
    int rc = 0, delta = 0;
    for (size_t i = 0; i < own->count && rc >= 0;
         i++) { /* first all that go: keys may come again */
        const struct namespace_held_lock *h = &own->at[i];
        bool joins = h->type == l->type && h->start <= l->last + 1 && l->start <= h->last + 1;
        if (!lock_same_owner(h, l) || (!joins && !lock_overlaps(h, l))) {
            continue;
        }
        whole.start = joins ? base_min(whole.start, h->start) : whole.start;
        whole.last = joins ? base_max(whole.last, h->last) : whole.last;
        rc = lock_drop(p, ino, h);
        delta--;
    }
    for (size_t i = 0; i < own->count && rc >= 0; i++) {
        const struct namespace_held_lock *h = &own->at[i];
        if (lock_same_owner(h, l) && h->type != l->type && lock_overlaps(h, l)) {
            rc = lock_put_rest(p, ino, h, l);
            delta += rc > 0 ? rc : 0;
        }
    }
    if (rc >= 0 && l->type != PROTO_LOCK_NONE) {
        rc = lock_put(p, ino, &whole);
        delta++;
    }
    return rc < 0 ? rc : lock_account(p, ino, l->session, own->count, delta);
}

static int lock_check_count(struct namespace_plan *p, uint64_t session)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_LOCKS, session);
    struct kv_slice value;
    int rc = namespace_view_get_bytes(&p->view, &key, &value);
    if (rc <= 0) {
        return rc;
    }
    struct wire_reader r = wire_reader_over(value.at, value.len);
    return wire_read_u64(&r) >= NAMESPACE_LOCKS_MAX ? -ENOLCK : 0;
}

/* The file may be gone: what is let go of is the session's. */
int namespace_unlock(struct namespace_plan *p, const struct proto_unlock_request *r)
{
    const struct namespace_held_lock l = {.session = p->session_id,
                                          .owner = r->owner,
                                          .start = r->start,
                                          .last = r->last,
                                          .kind = r->kind};
    struct namespace_held_locks own;
    p->reply->result.ino = r->ino;
    int rc = namespace_lock_check(&l);
    rc = rc < 0 ? rc : namespace_locks(&p->view, r->ino, l.session, &own);
    return rc < 0 ? rc : lock_set(p, r->ino, &l, &own);
}

static int lock_grant_check(struct namespace_plan *p, uint64_t ino,
                            const struct namespace_held_lock *l)
{
    struct namespace_session s;
    struct namespace_inode n = {0};
    int rc = namespace_lock_check(l);
    if (rc < 0 || l->type == PROTO_LOCK_NONE) {
        return -EINVAL;
    }
    int session = namespace_view_session(&p->view, l->session, &s);
    int inode = namespace_view_inode(&p->view, ino, &n);
    int count = lock_check_count(p, l->session);
    p->reply->data_version = n.data_version;
    session = session == -ENOENT ? -ERR_session_expired : session;
    rc = namespace_view_both(session, inode == -ENOENT ? -ESTALE : inode);
    return namespace_view_both(rc, count);
}

int namespace_lock_take(struct namespace_plan *p, const struct namespace_lock_grant *r)
{
    const struct namespace_held_lock l = {.session = r->session,
                                          .owner = r->owner,
                                          .start = r->start,
                                          .last = r->last,
                                          .kind = r->kind,
                                          .type = r->type,
                                          .pid = r->pid};
    struct namespace_held_locks held, own = {0};
    int rc = lock_grant_check(p, r->ino, &l);
    rc = namespace_view_both(rc, namespace_locks(&p->view, r->ino, 0, &held));
    for (size_t i = 0; rc == 0 && i < held.count; i++) {
        if (namespace_lock_conflicts(&held.at[i], &l)) {
            return -EAGAIN;
        }
        if (held.at[i].session == l.session) { /* they stand one behind the other */
            own.at = own.count == 0 ? &held.at[i] : own.at;
            own.count++;
        }
    }
    return rc < 0 ? rc : lock_set(p, r->ino, &l, &own);
}

int namespace_end_locks(struct namespace_plan *p, uint64_t session)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_SESSION_LOCK, session);
    struct namespace_scan scan;
    int rc = namespace_scan_init_long(&scan, &p->view, &prefix, NULL, LOCKS_FEW);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        struct namespace_key locks = lock_prefix(namespace_key_read_u64(scan.it->key, 9), session);
        rc = namespace_plan_delete_prefix(p, &locks);
    }
    namespace_scan_fini(&scan);
    return rc;
}
