#include "namespace/lock.h"

#include "base/rand.h"
#include "testing/testing.h"

#include "namespace/rig_cluster_priv.h"

/*
 * Locks against a model of one number for each byte: whatever owners take and let go of, in
 * whatever pieces, each byte has the lock that it should have, the same in as few records as
 * possible.
 */

#define BYTES 24u
#define FILES 2u
#define OWNERS 4u /* two of each of two sessions */
#define ROUNDS 1500u

struct model {
    struct rig r;
    struct proto_op op[2];
    uint64_t ino[FILES];
    uint8_t type[FILES][2][OWNERS][BYTES];
};

static struct namespace_held_lock lock_of(const struct model *m, unsigned owner, uint8_t kind,
                                          uint8_t type, uint64_t start, uint64_t last)
{
    return (struct namespace_held_lock){.session = m->op[owner / 2].session,
                                        .owner = owner % 2 + 1,
                                        .kind = kind,
                                        .type = type,
                                        .start = start,
                                        .last = last,
                                        .pid = 100 + owner};
}

static int take(struct model *m, uint64_t ino, const struct namespace_held_lock *l)
{
    return RIG_DO(&m->r, NAMESPACE_LOCK_GRANT, namespace_lock_grant, .ino = ino,
                  .session = l->session, .owner = l->owner, .kind = l->kind, .type = l->type,
                  .start = l->start, .last = l->last, .pid = l->pid);
}

static int let_go(struct model *m, unsigned session, uint64_t ino,
                  const struct namespace_held_lock *l)
{
    m->r.op = m->op[session];
    int rc = RIG_OP(&m->r, unlock, .ino = ino, .kind = l->kind, .owner = l->owner,
                    .start = l->start, .last = l->last);
    m->op[session] = m->r.op;
    return rc;
}

static bool conflicts(const struct model *m, unsigned file, unsigned owner,
                      const struct namespace_held_lock *l)
{
    bool is = false;
    for (unsigned o = 0; o < OWNERS; o++) {
        for (uint64_t b = l->start; b <= l->last && o != owner; b++) {
            uint8_t has = m->type[file][l->kind - 1][o][b];
            is = is || (has != 0 && (has == PROTO_LOCK_WRITE || l->type == PROTO_LOCK_WRITE));
        }
    }
    return is;
}

static void check_file(struct model *m, unsigned file, size_t *records)
{
    struct namespace_held_locks held;
    uint8_t seen[2][OWNERS][BYTES] = {0};
    CHECK_OK(RIG_VIEW(&m->r, namespace_locks(&m->r.view, m->ino[file], 0, &held)));
    for (size_t i = 0; i < held.count; i++) {
        const struct namespace_held_lock *h = &held.at[i];
        unsigned o = (h->session == m->op[1].session ? 2 : 0) + (unsigned)h->owner - 1;
        CHECK_TRUE(h->last < BYTES && h->start <= h->last);
        for (uint64_t b = h->start; b <= h->last; b++) {
            CHECK_EQ(seen[h->kind - 1][o][b], 0);
            seen[h->kind - 1][o][b] = h->type;
        }
        bool joined = h->start > 0 && seen[h->kind - 1][o][h->start - 1] == h->type;
        CHECK_TRUE(!joined); /* else they were one */
        records[o / 2]++;
    }
    CHECK_BYTES(seen, m->type[file], sizeof seen);
}

static uint64_t count_of(struct model *m, uint64_t session)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_LOCKS, session);
    struct kv_slice value;
    int rc = RIG_VIEW(&m->r, namespace_view_get_bytes(&m->r.view, &key, &value));
    CHECK_TRUE(rc >= 0);
    return rc == 0 ? 0 : wire_load_u64(value.at);
}

static bool has_index(struct model *m, uint64_t session, uint64_t ino)
{
    struct namespace_key key = namespace_key_u64s(NAMESPACE_SESSION_LOCK, session, ino);
    struct kv_slice value;
    int rc = RIG_VIEW(&m->r, namespace_view_get_bytes(&m->r.view, &key, &value));
    CHECK_TRUE(rc >= 0);
    return rc == 1;
}

static void check_all(struct model *m)
{
    size_t all[2] = {0};
    for (unsigned f = 0; f < FILES; f++) {
        size_t records[2] = {0};
        check_file(m, f, records);
        for (unsigned s = 0; s < 2; s++) {
            CHECK_EQ(has_index(m, m->op[s].session, m->ino[f]), records[s] > 0);
            all[s] += records[s];
        }
    }
    CHECK_EQ(count_of(m, m->op[0].session), all[0]);
    CHECK_EQ(count_of(m, m->op[1].session), all[1]);
}

static void model_open(struct model *m)
{
    *m = (struct model){0};
    rig_open(&m->r);
    m->op[1] = rig_machine(&m->r, 2, 22);
    for (unsigned f = 0; f < FILES; f++) {
        CHECK_OK(RIG_OP(&m->r, create, .parent = 1, .name = rig_text(f == 0 ? "a" : "b"),
                        .type = PROTO_INODE_FILE, .mode = 0644));
        m->ino[f] = m->r.reply.result.ino;
    }
    m->op[0] = m->r.op;
}

static void step(struct model *m, struct rand *random)
{
    unsigned file = (unsigned)rand_below(random, FILES);
    unsigned owner = (unsigned)rand_below(random, OWNERS);
    uint8_t kind = (uint8_t)(1 + rand_below(random, 2));
    uint8_t type = (uint8_t)rand_below(random, 3);
    uint64_t a = rand_below(random, BYTES), b = rand_below(random, BYTES);
    struct namespace_held_lock l = lock_of(m, owner, kind, type, base_min(a, b), base_max(a, b));
    if (type == PROTO_LOCK_NONE) {
        CHECK_OK(let_go(m, owner / 2, m->ino[file], &l));
    } else if (conflicts(m, file, owner, &l)) {
        CHECK_RC(take(m, m->ino[file], &l), EAGAIN);
        return;
    } else {
        CHECK_OK(take(m, m->ino[file], &l));
        struct namespace_held_locks held;
        CHECK_OK(RIG_VIEW(&m->r, namespace_locks(&m->r.view, m->ino[file], 0, &held)));
        CHECK_TRUE(namespace_lock_is_held(&held, &l));
    }
    memset(&m->type[file][kind - 1][owner][l.start], type, l.last - l.start + 1);
}

TEST(each_byte_has_the_lock_that_it_should_have)
{
    struct model m;
    struct rand random;
    model_open(&m);
    rand_seed(&random, testing_seed());
    for (unsigned i = 0; i < ROUNDS; i++) {
        step(&m, &random);
        if (i % 16 == 0) {
            check_all(&m);
        }
    }
    check_all(&m);
    struct namespace_expire end = {.session = m.op[1].session};
    CHECK_OK(RIG_DO(&m.r, NAMESPACE_EXPIRE, namespace_expire, .session = end.session));
    for (unsigned f = 0; f < FILES; f++) {
        for (unsigned kind = 0; kind < 2; kind++) {
            memset(m.type[f][kind][2], 0, sizeof m.type[f][kind][2]);
            memset(m.type[f][kind][3], 0, sizeof m.type[f][kind][3]);
        }
    }
    check_all(&m); /* the other session's stay, and nothing of this one */
    m.r.op = m.op[0];
    rig_close(&m.r);
}

TEST(who_is_in_the_way_is_told)
{
    struct model m;
    model_open(&m);
    struct namespace_held_lock l = lock_of(&m, 2, PROTO_LOCK_POSIX, PROTO_LOCK_READ, 10, 19);
    struct proto_lock_test_reply reply;
    CHECK_OK(take(&m, m.ino[0], &l));
    m.r.op = m.op[0];
    CHECK_OK(RIG_QUERY(&m.r, lock_test, &reply, .ino = m.ino[0], .kind = PROTO_LOCK_POSIX,
                       .type = PROTO_LOCK_READ, .owner = 1, .start = 0, .last = PROTO_LOCK_LAST));
    CHECK_EQ(reply.type, PROTO_LOCK_NONE);
    CHECK_OK(RIG_QUERY(&m.r, lock_test, &reply, .ino = m.ino[0], .kind = PROTO_LOCK_POSIX,
                       .type = PROTO_LOCK_WRITE, .owner = 1, .start = 0, .last = PROTO_LOCK_LAST));
    CHECK_EQ(reply.type, PROTO_LOCK_READ);
    CHECK_EQ(reply.session, m.op[1].session);
    CHECK_EQ(reply.pid, 102);
    CHECK_TRUE(reply.start == 10 && reply.last == 19);
    CHECK_OK(RIG_QUERY(&m.r, lock_test, &reply, .ino = m.ino[0], .kind = PROTO_LOCK_FLOCK,
                       .type = PROTO_LOCK_WRITE, .owner = 1, .start = 0, .last = PROTO_LOCK_LAST));
    CHECK_EQ(reply.type, PROTO_LOCK_NONE); /* flock(2) is another kind */
    CHECK_RC(RIG_QUERY(&m.r, lock_test, &reply, .ino = m.ino[0], .kind = 3, .type = 1, .last = 1),
             EINVAL);
    rig_close(&m.r);
}

TEST(what_cannot_be_granted_is_refused)
{
    struct model m;
    model_open(&m);
    struct namespace_held_lock l = lock_of(&m, 0, PROTO_LOCK_POSIX, PROTO_LOCK_WRITE, 5, 4);
    CHECK_RC(take(&m, m.ino[0], &l), EINVAL);
    l = lock_of(&m, 0, PROTO_LOCK_POSIX, PROTO_LOCK_WRITE, 5, PROTO_LOCK_LAST + 1);
    CHECK_RC(take(&m, m.ino[0], &l), EINVAL);
    l = lock_of(&m, 0, PROTO_LOCK_POSIX, PROTO_LOCK_NONE, 5, 6);
    CHECK_RC(take(&m, m.ino[0], &l), EINVAL);
    l = lock_of(&m, 0, PROTO_LOCK_POSIX, PROTO_LOCK_WRITE, 5, PROTO_LOCK_LAST);
    CHECK_RC(take(&m, 9999, &l), ESTALE);
    l.session = 77;
    CHECK_RC(take(&m, m.ino[0], &l), ERR_session_expired);
    l.session = m.op[0].session;
    CHECK_OK(take(&m, m.ino[0], &l));
    CHECK_OK(let_go(&m, 0, 9999, &l)); /* there is nothing, which is what was wanted */
    CHECK_OK(let_go(&m, 0, m.ino[0], &l));
    CHECK_EQ(count_of(&m, l.session), 0);
    m.r.op = m.op[0];
    rig_close(&m.r);
}

TEST(a_session_has_so_many_locks_and_no_more)
{
    struct model m;
    model_open(&m);
    struct namespace_held_lock l = lock_of(&m, 0, PROTO_LOCK_POSIX, PROTO_LOCK_READ, 0, 0);
    struct namespace_key key = namespace_key_u64(NAMESPACE_LOCKS, l.session);
    uint8_t many[8];
    wire_store_u64(many, NAMESPACE_LOCKS_MAX - 1);
    for (unsigned i = 0; i < RIG_REPLICAS; i++) {
        struct kv_batch b;
        kv_batch_init(&b);
        CHECK_OK(kv_batch_put(&b, namespace_key_slice(&key), kv_slice_of(many, sizeof many)));
        CHECK_OK(rig_commit(&m.r.replica[i], &b, m.r.index + 1));
        kv_batch_fini(&b);
    }
    m.r.index++;
    CHECK_OK(take(&m, m.ino[0], &l));
    l.start = l.last = 5;
    CHECK_RC(take(&m, m.ino[0], &l), ENOLCK);
    m.r.op = m.op[0];
    rig_close(&m.r);
}
