#include "namespace/fsck_priv.h"
#include "namespace/lock.h"

/* Sessions and what they hold: credentials, slots, write authority, files without a name. */

#define FSCK_U(x) ((unsigned long long)(x))

static int fsck_of_session(struct fsck_check *c, uint64_t session, const char *what)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_SESSION, session);
    int rc = namespace_fsck_has(c, &key);
    FSCK_WANT(c, rc != 0, "session.missing", 0, "%s of session %llu, which does not exist", what,
              FSCK_U(session));
    return rc < 0 ? rc : 0;
}

static int fsck_session(struct fsck_check *c)
{
    struct namespace_session s;
    int rc = namespace_fsck_key_fits(c, 9, false)
                 ? namespace_fsck_value(c, &namespace_session_type, &s)
                 : 0;
    if (rc <= 0) {
        return rc;
    }
    struct namespace_key client = namespace_key(NAMESPACE_CLIENT);
    struct namespace_id newest = {0};
    namespace_key_add_bytes(&client, proto_bytes_of(s.client.bytes, sizeof s.client.bytes));
    rc = NAMESPACE_GET(c->v, &client, namespace_id, &newest);
    c->next.seen.sessions++;
    /* None: the newest has been closed, and this one is older and has not run out yet. */
    FSCK_WANT(c, rc != 1 || newest.id >= fsck_id(c, 1), "session.client", 0,
              "session %llu is newer than that which its client is said to have, %llu",
              FSCK_U(fsck_id(c, 1)), FSCK_U(newest.id));
    FSCK_WANT(c, fsck_id(c, 1) < c->state.next_session, "session.number", 0,
              "the number of session %llu was never given", FSCK_U(fsck_id(c, 1)));
    return rc < 0 ? rc : 0;
}

static int fsck_client(struct fsck_check *c)
{
    struct namespace_id id;
    int rc = namespace_fsck_key_fits(c, 17, false)
                 ? namespace_fsck_value(c, &namespace_id_type, &id)
                 : 0;
    return rc <= 0 ? rc : fsck_of_session(c, id.id, "the newest of a client");
}

static int fsck_slot(struct fsck_check *c)
{
    struct namespace_slot slot;
    FSCK_WANT(c, c->value.len <= NAMESPACE_RESULT_MAX, "slot.long", 0,
              "an answer of %zu bytes of session %llu", c->value.len, FSCK_U(fsck_id(c, 1)));
    int rc = namespace_fsck_key_fits(c, 13, false)
                 ? namespace_fsck_value(c, &namespace_slot_type, &slot)
                 : 0;
    return rc <= 0 ? rc : fsck_of_session(c, fsck_id(c, 1), "a slot");
}

static int fsck_cred(struct fsck_check *c)
{
    return namespace_fsck_key_fits(c, 12, true) ? fsck_of_session(c, fsck_id(c, 1), "a credential")
                                                : 0;
}

/* The same fact stands under the inode and under the session. */
static int fsck_pair(struct fsck_check *c, enum namespace_range other, const char *code)
{
    struct namespace_key key = namespace_key_u64s(other, fsck_id(c, 9), fsck_id(c, 1));
    int rc = namespace_fsck_has(c, &key);
    FSCK_WANT(c, rc != 0, code, 0, "a record of %llu and %llu in range '%c', and none in '%c'",
              FSCK_U(fsck_id(c, 1)), FSCK_U(fsck_id(c, 9)), *(const char *)c->key.at, (char)other);
    return rc < 0 ? rc : 0;
}

static int fsck_orphan(struct fsck_check *c)
{
    struct namespace_inode n;
    if (!namespace_fsck_key_fits(c, 17, false)) {
        return 0;
    }
    uint64_t ino = fsck_id(c, 1);
    int rc = namespace_fsck_inode(c, ino, &n);
    FSCK_WANT(c, rc < 0 || (rc == 1 && n.nlink == 0), "orphan.stray", ino,
              "kept open without a name, and it has one, or is gone");
    rc = rc < 0 ? rc : fsck_of_session(c, fsck_id(c, 9), "a file without a name");
    return rc < 0 ? rc : fsck_pair(c, NAMESPACE_SESSION_ORPHAN, "orphan.index");
}

static int fsck_session_orphan(struct fsck_check *c)
{
    return namespace_fsck_key_fits(c, 17, false) ? fsck_pair(c, NAMESPACE_ORPHAN, "orphan.index")
                                                 : 0;
}

/* I6: one writes alone, or all share; and at most one has something that the others wait for. */
static int fsck_wopen(struct fsck_check *c)
{
    struct namespace_wopen w;
    struct namespace_inode n;
    int rc = namespace_fsck_key_fits(c, 17, false)
                 ? namespace_fsck_value(c, &namespace_wopen_type, &w)
                 : 0;
    if (rc <= 0) {
        return rc;
    }
    uint64_t ino = fsck_id(c, 1);
    struct namespace_fsck_run *run = namespace_fsck_run(c, ino);
    run->count++;
    run->alone += w.mode == PROTO_OPEN_W ? 1 : 0;
    run->unflushed += w.unflushed ? 1 : 0;
    rc = namespace_fsck_inode(c, ino, &n);
    FSCK_WANT(c, rc < 0 || (rc == 1 && n.type == PROTO_INODE_FILE), "writer.stray", ino,
              "somebody writes what is no file");
    FSCK_WANT(c, w.mode == PROTO_OPEN_W || w.mode == PROTO_OPEN_S, "writer.mode", ino,
              "a writer in mode %u", w.mode);
    FSCK_WANT(c, w.cap_epoch <= c->state.cap_epoch, "writer.epoch", ino,
              "a writer with the capability epoch %llu, which was never given",
              FSCK_U(w.cap_epoch));
    rc = rc < 0 ? rc : fsck_of_session(c, fsck_id(c, 9), "a writer");
    return rc < 0 ? rc : fsck_pair(c, NAMESPACE_SESSION_WOPEN, "writer.index");
}

static int fsck_session_wopen(struct fsck_check *c)
{
    return namespace_fsck_key_fits(c, 17, false) ? fsck_pair(c, NAMESPACE_WOPEN, "writer.index")
                                                 : 0;
}

int namespace_fsck_session_run_end(struct fsck_check *c, const struct namespace_fsck_run *run)
{
    if (run->range == NAMESPACE_WOPEN) {
        FSCK_WANT(c, run->alone == 0 || run->count == 1, "writer.alone", run->id,
                  "%llu sessions write it, and one of them alone", FSCK_U(run->count));
        FSCK_WANT(c, run->unflushed <= 1, "writer.unflushed", run->id,
                  "%llu of its writers have what the others wait for", FSCK_U(run->unflushed));
    }
    return 0;
}

static int fsck_count(struct fsck_check *c, enum namespace_range range, uint64_t *count)
{
    struct namespace_key prefix = namespace_key_u64(range, fsck_id(c, 1));
    struct namespace_scan scan;
    int rc = namespace_scan_init(&scan, c->v, &prefix, NULL);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        (*count)++; /* NAMESPACE_OBLIGATIONS_MAX bounds them; more are damage, and found */
        rc = *count > UINT64_C(4) * NAMESPACE_OBLIGATIONS_MAX ? -EALREADY : 0;
    }
    namespace_scan_fini(&scan);
    return rc == -EALREADY ? 0 : rc;
}

static int fsck_obligations(struct fsck_check *c)
{
    uint64_t count = 0;
    if (!namespace_fsck_key_fits(c, 9, false)) {
        return 0;
    }
    struct wire_reader r = wire_reader_over(c->value.at, c->value.len);
    uint64_t said = wire_read_u64(&r);
    int rc = fsck_count(c, NAMESPACE_SESSION_ORPHAN, &count);
    rc = rc < 0 ? rc : fsck_count(c, NAMESPACE_SESSION_WOPEN, &count);
    FSCK_WANT(c, rc < 0 || (!r.bad && said == count), "session.count", 0,
              "session %llu is said to hold %llu files open, and holds %llu", FSCK_U(fsck_id(c, 1)),
              FSCK_U(said), FSCK_U(count));
    return rc < 0 ? rc : fsck_of_session(c, fsck_id(c, 1), "the count");
}

static int fsck_lock(struct fsck_check *c)
{
    struct namespace_lock l;
    struct namespace_key index =
        namespace_key_u64s(NAMESPACE_SESSION_LOCK, fsck_id(c, 9), fsck_id(c, 1));
    int rc = namespace_fsck_key_fits(c, 34, false)
                 ? namespace_fsck_value(c, &namespace_lock_type, &l)
                 : 0;
    if (rc <= 0) {
        return rc;
    }
    bool such = l.type == PROTO_LOCK_READ || l.type == PROTO_LOCK_WRITE;
    FSCK_WANT(c, such && l.last >= fsck_id(c, 26) && l.last <= PROTO_LOCK_LAST, "lock.range",
              fsck_id(c, 1), "a lock of type %u from %llu to %llu", l.type, FSCK_U(fsck_id(c, 26)),
              FSCK_U(l.last));
    rc = namespace_fsck_has(c, &index);
    FSCK_WANT(c, rc != 0, "lock.index", fsck_id(c, 1),
              "session %llu has locks of it, and its index does not say so", FSCK_U(fsck_id(c, 9)));
    return rc < 0 ? rc : fsck_of_session(c, fsck_id(c, 9), "a lock");
}

static int fsck_has_locks(struct fsck_check *c, uint64_t ino, uint64_t session, uint64_t *count)
{
    struct namespace_held_locks held;
    int rc = namespace_locks(c->v, ino, session, &held);
    *count += rc < 0 ? 0 : held.count;
    return rc;
}

static int fsck_session_lock(struct fsck_check *c)
{
    uint64_t count = 0;
    if (!namespace_fsck_key_fits(c, 17, false)) {
        return 0;
    }
    int rc = fsck_has_locks(c, fsck_id(c, 9), fsck_id(c, 1), &count);
    FSCK_WANT(c, rc < 0 || count > 0, "lock.index", fsck_id(c, 9),
              "session %llu is said to have locks of it, and has none", FSCK_U(fsck_id(c, 1)));
    return rc < 0 ? rc : 0;
}

static int fsck_locks(struct fsck_check *c)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_SESSION_LOCK, fsck_id(c, 1));
    struct namespace_scan scan;
    uint64_t count = 0;
    if (!namespace_fsck_key_fits(c, 9, false)) {
        return 0;
    }
    struct wire_reader r = wire_reader_over(c->value.at, c->value.len);
    uint64_t said = wire_read_u64(&r);
    int rc = namespace_scan_init(&scan, c->v, &prefix, NULL);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        uint64_t ino = namespace_key_read_u64(scan.it->key, 9);
        rc = fsck_has_locks(c, ino, fsck_id(c, 1), &count);
    }
    namespace_scan_fini(&scan);
    FSCK_WANT(c, rc < 0 || (!r.bad && said == count), "lock.count", 0,
              "session %llu is said to have %llu locks, and has %llu", FSCK_U(fsck_id(c, 1)),
              FSCK_U(said), FSCK_U(count));
    return rc < 0 ? rc : fsck_of_session(c, fsck_id(c, 1), "the count of locks");
}

static int fsck_fence(struct fsck_check *c)
{
    struct namespace_fence f;
    int rc = namespace_fsck_key_fits(c, 9, false)
                 ? namespace_fsck_value(c, &namespace_fence_type, &f)
                 : 0;
    FSCK_WANT(c, rc <= 0 || f.cap_epoch <= c->state.cap_epoch, "fence.epoch", 0,
              "a fence of session %llu with a capability epoch that was never given",
              FSCK_U(fsck_id(c, 1)));
    return rc < 0 ? rc : 0;
}

int namespace_fsck_session_record(struct fsck_check *c, enum namespace_range range, bool *ret_known)
{
    static const struct {
        enum namespace_range range;
        int (*check)(struct fsck_check *c);
    } checks[] = {
        {NAMESPACE_SESSION, fsck_session},
        {NAMESPACE_CLIENT, fsck_client},
        {NAMESPACE_SLOT, fsck_slot},
        {NAMESPACE_CRED, fsck_cred},
        {NAMESPACE_CRED_INDEX, fsck_cred},
        {NAMESPACE_ORPHAN, fsck_orphan},
        {NAMESPACE_SESSION_ORPHAN, fsck_session_orphan},
        {NAMESPACE_WOPEN, fsck_wopen},
        {NAMESPACE_SESSION_WOPEN, fsck_session_wopen},
        {NAMESPACE_OBLIGATIONS, fsck_obligations},
        {NAMESPACE_FENCE, fsck_fence},
        {NAMESPACE_LOCK, fsck_lock},
        {NAMESPACE_SESSION_LOCK, fsck_session_lock},
        {NAMESPACE_LOCKS, fsck_locks},
    };
    for (size_t i = 0; i < ARRAY_COUNT(checks); i++) {
        if (checks[i].range == range) {
            *ret_known = true;
            return checks[i].check(c);
        }
    }
    return 0;
}
