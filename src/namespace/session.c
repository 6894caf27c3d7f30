#include "namespace/lock.h"
#include "namespace/plan_priv.h"

/*
 * Sessions and credentials. A session ends as a whole, with all that it had, in one command: closed
 * by its client, replaced by its successor, or expired by the leader (coherence.md L5). If it could
 * still write, a fence says so until every data node refuses it, and the files get a trim.
 */

static int namespace_session_get(struct namespace_plan *p, uint64_t session,
                                 struct namespace_session *ret)
{
    int rc = namespace_view_session(&p->view, session, ret);
    return rc == -ENOENT ? -ERR_session_expired : rc;
}

/*
 * What it wrote behind the recorded size must never be read. But others that share the file may
 * have data there that they have not committed yet: a trim would cut what they have acknowledged.
 * What the dead one left then is at most a write that it was not answered for (in S mode a write
 * has its size committed before that), and who lets go last leaves the trim.
 */
static int namespace_end_wopen(struct namespace_plan *p, uint64_t session, uint64_t ino)
{
    struct namespace_key key = namespace_key_u64s(NAMESPACE_WOPEN, ino, session);
    struct namespace_held h = {.ino = ino};
    struct namespace_wopen w;
    int own = NAMESPACE_GET(&p->view, &key, namespace_wopen, &w);
    int rc = namespace_view_inode(&p->view, ino, &h.inode);
    rc = namespace_view_both(own < 0 ? own : 0, rc);
    if (rc < 0 || own == 0) {
        return rc == -ENOENT || rc == 0 ? -EUCLEAN : rc;
    }
    bool stays = h.inode.nlink > 0 || (h.inode.flags & PROTO_INODE_TRASH) != 0;
    int others = stays ? 1 : namespace_orphan_others(p, ino, session);
    rc = others < 0 ? others : namespace_plan_delete(p, &key);
    if (rc < 0 || others == 0) {
        return rc; /* removed with its last orphan record */
    }
    bool in_line = (h.inode.flags & PROTO_INODE_INLINE) != 0; /* nothing in chunks counts */
    bool shares = !in_line && w.mode == PROTO_OPEN_S && !w.unflushed;
    others = namespace_wopen_pass_torn(p, ino, session, in_line || shares || w.torn);
    if (others < 0) {
        return others;
    }
    if (!shares || others == 0) {
        uint64_t from = in_line && others == 0 ? 0 : h.inode.size;
        rc = namespace_queue_trim(p, &h, from, p->state.cap_epoch);
    }
    if (rc < 0 || h.inode.data_id == 0) {
        return rc;
    }
    struct namespace_key inode = namespace_key_u64(NAMESPACE_INODE, ino);
    namespace_plan_touch(p, &h);
    h.inode.data_version = p->state.version;
    return NAMESPACE_PUT(p, &inode, namespace_inode, &h.inode);
}

static int namespace_end_wopens(struct namespace_plan *p, uint64_t session)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_SESSION_WOPEN, session);
    struct namespace_scan scan;
    bool fence = false;
    int needs = 0;
    int rc =
        namespace_scan_init_long(&scan, &p->view, &prefix, NULL, NAMESPACE_OBLIGATIONS_MAX + 1);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        p->state.cap_epoch += fence ? 0 : 1;
        fence = true;
        rc = namespace_end_wopen(p, session, namespace_key_read_u64(scan.it->key, 9));
        rc = namespace_plan_go_on(&needs, rc);
    }
    namespace_scan_fini(&scan);
    rc = namespace_view_both(rc, needs);
    if (rc < 0 || !fence) {
        return rc;
    }
    struct namespace_key key = namespace_key_u64(NAMESPACE_FENCE, session);
    struct namespace_fence f = {.cap_epoch = p->state.cap_epoch, .since_ns = p->now_ns};
    p->reply->fenced_session = session;
    return NAMESPACE_PUT(p, &key, namespace_fence, &f);
}

static int namespace_end_orphans(struct namespace_plan *p, uint64_t session)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_SESSION_ORPHAN, session);
    struct namespace_scan scan;
    int needs = 0;
    int rc =
        namespace_scan_init_long(&scan, &p->view, &prefix, NULL, NAMESPACE_OBLIGATIONS_MAX + 1);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        rc = namespace_orphan_drop(p, namespace_key_read_u64(scan.it->key, 9), session);
        rc = namespace_plan_go_on(&needs, rc);
    }
    namespace_scan_fini(&scan);
    return namespace_view_both(rc, needs);
}

static int namespace_session_end(struct namespace_plan *p, uint64_t session,
                                 const struct namespace_session *s)
{
    static const enum namespace_range single[] = {NAMESPACE_SESSION, NAMESPACE_OBLIGATIONS,
                                                  NAMESPACE_LOCKS};
    static const enum namespace_range all[] = {NAMESPACE_CRED,           NAMESPACE_CRED_INDEX,
                                               NAMESPACE_SLOT,           NAMESPACE_SESSION_WOPEN,
                                               NAMESPACE_SESSION_ORPHAN, NAMESPACE_SESSION_LOCK};
    struct namespace_key client = namespace_key(NAMESPACE_CLIENT);
    struct namespace_id newest;
    namespace_key_add_bytes(&client, proto_bytes_of(s->client.bytes, sizeof s->client.bytes));
    int found = NAMESPACE_GET(&p->view, &client, namespace_id, &newest);
    int rc = namespace_end_wopens(p, session);
    int orphans = rc < 0 && rc != -ERR_need ? rc : namespace_end_orphans(p, session);
    int locks = namespace_end_locks(p, session);
    rc = namespace_view_both(namespace_view_both(rc, orphans), namespace_view_both(locks, found));
    if (rc == 0 && found == 1 && newest.id == session) {
        rc = namespace_plan_delete(p, &client);
    }
    for (size_t i = 0; i < ARRAY_COUNT(single) && rc == 0; i++) {
        struct namespace_key key = namespace_key_u64(single[i], session);
        rc = namespace_plan_delete(p, &key);
    }
    for (size_t i = 0; i < ARRAY_COUNT(all) && rc == 0; i++) {
        struct namespace_key prefix = namespace_key_u64(all[i], session);
        rc = namespace_plan_delete_prefix(p, &prefix);
    }
    CHECK(p->state.sessions > 0);
    p->state.sessions--;
    return rc;
}

/* The older session of the same machine that the client says is over. */
static int namespace_session_replace(struct namespace_plan *p,
                                     const struct proto_session_open_request *r)
{
    struct namespace_session old;
    int rc = r->replaces == 0 ? -ENOENT : namespace_view_session(&p->view, r->replaces, &old);
    if (rc < 0) {
        return rc == -ENOENT ? 0 : rc;
    }
    bool over =
        !uuid_equal(&old.boot_id, &r->boot_id) || (r->flags & PROTO_SESSION_OLD_CLOSED) != 0;
    bool same = uuid_equal(&old.client, &r->client);
    return same && over ? namespace_session_end(p, r->replaces, &old) : 0;
}

static uint32_t namespace_session_slots(uint32_t wanted)
{
    uint64_t slots = wanted == 0 ? NAMESPACE_SLOTS_DEFAULT : wanted;
    return (uint32_t)base_max(NAMESPACE_SLOTS_MIN, base_min(slots, NAMESPACE_SLOTS_MAX));
}

static int namespace_session_make(struct namespace_plan *p,
                                  const struct proto_session_open_request *r,
                                  const struct namespace_key *client)
{
    int rc = namespace_session_replace(p, r);
    if (rc < 0) {
        return rc;
    }
    if (p->state.sessions >= NAMESPACE_SESSIONS_MAX) {
        return -EUSERS;
    }
    struct namespace_id id = {.id = p->state.next_session++};
    struct namespace_session s = {.client = r->client,
                                  .boot_id = r->boot_id,
                                  .verifier = r->verifier,
                                  .flags = r->flags & ~PROTO_SESSION_OLD_CLOSED,
                                  .slots = namespace_session_slots(r->slots),
                                  .next_cred = 1,
                                  .opened_version = p->state.version,
                                  .name = r->name};
    struct namespace_key key = namespace_key_u64(NAMESPACE_SESSION, id.id);
    p->state.sessions++;
    p->reply->session = id.id;
    p->reply->slots = s.slots;
    rc = NAMESPACE_PUT(p, &key, namespace_session, &s);
    return rc < 0 ? rc : NAMESPACE_PUT(p, client, namespace_id, &id);
}

/* Asked again (same client, boot and verifier): the same session. */
int namespace_session_open(struct namespace_plan *p, const struct proto_session_open_request *r)
{
    struct namespace_key client = namespace_key(NAMESPACE_CLIENT);
    struct namespace_session s = {0};
    struct namespace_id newest;
    namespace_key_add_bytes(&client, proto_bytes_of(r->client.bytes, sizeof r->client.bytes));
    int rc = NAMESPACE_GET(&p->view, &client, namespace_id, &newest);
    rc = rc == 1 ? namespace_view_session(&p->view, newest.id, &s) : rc < 0 ? rc : -ENOENT;
    if (rc < 0 && rc != -ENOENT) {
        return rc;
    }
    if (rc == 0 && s.verifier == r->verifier && uuid_equal(&s.boot_id, &r->boot_id)) {
        p->reply->session = newest.id;
        p->reply->slots = s.slots;
        return 0;
    }
    return namespace_session_make(p, r, &client);
}

int namespace_session_close(struct namespace_plan *p, const struct proto_session_close_request *r)
{
    struct namespace_session s;
    int rc = namespace_session_get(p, r->session, &s);
    if (rc < 0) {
        return rc == -ERR_session_expired ? 0 : rc; /* closed by the first copy of this */
    }
    return s.verifier != r->verifier ? -EPERM : namespace_session_end(p, r->session, &s);
}

int namespace_session_expire(struct namespace_plan *p, const struct namespace_expire *r)
{
    struct namespace_session s;
    int rc = namespace_view_session(&p->view, r->session, &s);
    return rc < 0 ? rc : namespace_session_end(p, r->session, &s);
}

static bool namespace_cred_equal(const struct namespace_cred *c,
                                 const struct proto_credential_request *r)
{
    size_t bytes = r->groups.count * sizeof *r->groups.at;
    return c->uid == r->uid && c->gid == r->gid && c->groups.count == r->groups.count &&
           (bytes == 0 || memcmp(c->groups.at, r->groups.at, bytes) == 0);
}

static struct namespace_key namespace_cred_key(uint64_t session, uint32_t cred)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_CRED, session);
    namespace_key_add_u32(&key, cred);
    return key;
}

static struct namespace_key namespace_cred_index(const struct proto_credential_request *r)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_CRED_INDEX, r->session);
    uint32_t crc = 0;
    for (size_t i = 0; i < r->groups.count; i++) {
        uint8_t le[4];
        wire_store_u32(le, r->groups.at[i]);
        crc = crc32c(crc, le, sizeof le);
    }
    namespace_key_add_u32(&key, r->uid);
    namespace_key_add_u32(&key, r->gid);
    namespace_key_add_u32(&key, crc);
    return key;
}

/* Who is registered already has a number. Of two with one checksum the index finds the newer. */
int namespace_credential(struct namespace_plan *p, const struct proto_credential_request *r)
{
    struct namespace_key index = namespace_cred_index(r);
    struct namespace_session s;
    struct namespace_cred c = {0};
    struct namespace_id id = {0};
    if (r->groups.count > NAMESPACE_GROUPS_MAX) {
        return -ERR_many_groups;
    }
    int rc = namespace_session_get(p, r->session, &s);
    int found = NAMESPACE_GET(&p->view, &index, namespace_id, &id);
    rc = namespace_view_both(rc, found);
    struct namespace_key key = namespace_cred_key(r->session, (uint32_t)id.id);
    found = rc == 0 && found == 1 ? NAMESPACE_GET(&p->view, &key, namespace_cred, &c) : 0;
    rc = namespace_view_both(rc, found);
    if (rc < 0) {
        return rc;
    }
    if (found == 1 && namespace_cred_equal(&c, r)) {
        p->reply->id = (uint32_t)id.id;
        return 0;
    }
    if (s.next_cred > NAMESPACE_CREDS_MAX ||
        s.cred_groups + r->groups.count > NAMESPACE_CRED_GROUPS_MAX) {
        return -ERR_many_credentials;
    }
    struct namespace_key owner = namespace_key_u64(NAMESPACE_SESSION, r->session);
    c = (struct namespace_cred){.uid = r->uid, .gid = r->gid, .groups = r->groups};
    id.id = s.next_cred++;
    s.cred_groups += (uint32_t)r->groups.count;
    key = namespace_cred_key(r->session, (uint32_t)id.id);
    p->reply->id = (uint32_t)id.id;
    rc = NAMESPACE_PUT(p, &key, namespace_cred, &c);
    rc = rc < 0 ? rc : NAMESPACE_PUT(p, &index, namespace_id, &id);
    return rc < 0 ? rc : NAMESPACE_PUT(p, &owner, namespace_session, &s);
}

int namespace_fence_finish(struct namespace_plan *p, const struct namespace_fence_done *r)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_FENCE, r->session);
    struct namespace_fence f;
    int rc = NAMESPACE_GET(&p->view, &key, namespace_fence, &f);
    if (rc <= 0) {
        return rc;
    }
    return f.cap_epoch == r->cap_epoch ? namespace_plan_delete(p, &key) : -ESTALE;
}

int namespace_check_fences(struct namespace_plan *p, uint64_t epoch)
{
    struct namespace_key prefix = namespace_key(NAMESPACE_FENCE);
    struct namespace_fence f;
    struct namespace_scan scan;
    if (epoch == 0) {
        return 0;
    }
    int rc = namespace_scan_init(&scan, &p->view, &prefix, NULL);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        rc = namespace_scan_value(&scan, &namespace_fence_type, &f);
        rc = rc == 0 && f.cap_epoch <= epoch ? -ERR_busy : rc;
    }
    namespace_scan_fini(&scan);
    return rc;
}
