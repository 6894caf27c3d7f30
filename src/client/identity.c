#include "client/inode_priv.h"
#include "client/op_priv.h"

#include <errno.h>
#include <string.h>

/* Users on whose behalf operations run: each is registered once in a session, when it is needed. */

#define REGISTER_MS 10000u

struct identity_key {
    uint32_t uid, gid;
    const uint32_t *groups;
    size_t group_count;
};

static bool identity_equal(const struct dict_node *node, const void *key)
{
    const struct opendfs_identity *as =
        container_of((struct dict_node *)node, struct opendfs_identity, node);
    const struct identity_key *k = key;
    return as->uid == k->uid && as->gid == k->gid && as->group_count == k->group_count &&
           (k->group_count == 0 ||
            memcmp(as->groups, k->groups, k->group_count * sizeof *k->groups) == 0);
}

static uint64_t identity_hash(const struct dict *d, const struct identity_key *k)
{
    uint64_t part[3] = {
        k->uid, k->gid,
        k->group_count == 0 ? 0 : dict_hash(d, k->groups, k->group_count * sizeof *k->groups)};
    return dict_hash(d, part, sizeof part);
}

static const struct dict_ops identity_ops = {.equal = identity_equal};

void client_identities_init(struct opendfs *fs)
{
    struct client_identities *x = &fs->identities;
    dict_init(&x->dict, &identity_ops, fs, loop_random(fs->loop));
    list_init(&x->idle);
    list_init(&x->wanted);
    list_init(&x->waiting);
}

static void identity_free(struct opendfs *fs, struct opendfs_identity *as)
{
    struct client_identities *x = &fs->identities;
    CHECK(as->refs == 0 && x->asking != as && list_empty(&as->wanted));
    list_remove(&as->idle);
    x->idle_count--;
    dict_remove(&x->dict, &as->node);
    mem_free(as);
}

/* Calls have ended, and those who name somebody have put him back. */
void client_identities_fini(struct opendfs *fs)
{
    struct client_identities *x = &fs->identities;
    while (!list_empty(&x->idle)) {
        identity_free(fs, LIST_ENTRY(x->idle.next, struct opendfs_identity, idle));
    }
    CHECK(x->dict.count == 0 && list_empty(&x->waiting));
    dict_fini(&x->dict);
}

static struct opendfs_identity *identity_new(struct opendfs *fs, const struct identity_key *k,
                                             uint64_t hash)
{
    size_t bytes = k->group_count * sizeof *k->groups;
    struct opendfs_identity *as = mem_zalloc(sizeof *as + bytes);
    if (as == NULL || dict_insert(&fs->identities.dict, hash, &as->node) < 0) {
        mem_free(as);
        return NULL;
    }
    as->uid = k->uid;
    as->gid = k->gid;
    as->group_count = k->group_count;
    if (bytes > 0) {
        memcpy(as->groups, k->groups, bytes);
    }
    list_init(&as->idle);
    list_init(&as->wanted);
    return as;
}

int client_identity_get(struct opendfs *fs, uint32_t uid, uint32_t gid, const uint32_t *groups,
                        size_t group_count, struct opendfs_identity **ret)
{
    struct client_identities *x = &fs->identities;
    const struct identity_key key = {uid, gid, groups, group_count};
    LOOP_OWNED(fs->loop);
    if (group_count > CLIENT_GROUPS_MAX) {
        return -ERR_many_groups;
    }
    uint64_t hash = identity_hash(&x->dict, &key);
    struct dict_node *node = dict_find(&x->dict, hash, &key);
    struct opendfs_identity *as = node != NULL ? container_of(node, struct opendfs_identity, node)
                                               : identity_new(fs, &key, hash);
    if (as == NULL) {
        return -ENOMEM;
    }
    if (!list_empty(&as->idle)) {
        list_remove(&as->idle);
        x->idle_count--;
    }
    as->refs++;
    *ret = as;
    return 0;
}

struct opendfs_identity *client_identity_again(struct opendfs_identity *as)
{
    CHECK(as->refs > 0);
    as->refs++;
    return as;
}

void client_identity_put(struct opendfs *fs, struct opendfs_identity *as)
{
    struct client_identities *x = &fs->identities;
    if (as == NULL) {
        return;
    }
    LOOP_OWNED(fs->loop);
    CHECK(as->refs > 0);
    if (--as->refs > 0) {
        return;
    }
    list_remove(&as->wanted); /* nobody waits any more */
    list_push_back(&x->idle, &as->idle);
    if (++x->idle_count > CLIENT_IDENTITIES_IDLE) {
        identity_free(fs, LIST_ENTRY(x->idle.next, struct opendfs_identity, idle));
    }
}

bool client_identity_known(const struct opendfs *fs, const struct opendfs_identity *as)
{
    return as == NULL || (as->cred != 0 && as->session_number == fs->session.number);
}

uint32_t client_op_uid(struct opendfs_op *op)
{
    return op->as == NULL ? client_op_of(op)->fs->uid : op->as->uid;
}

bool client_op_in_group(struct opendfs_op *op, uint32_t gid)
{
    const struct opendfs *fs = client_op_of(op)->fs;
    const uint32_t *groups = op->as == NULL ? fs->groups : op->as->groups;
    size_t count = op->as == NULL ? fs->group_count : op->as->group_count;
    bool in = (op->as == NULL ? fs->gid : op->as->gid) == gid;
    for (size_t i = 0; i < count && !in; i++) {
        in = groups[i] == gid;
    }
    return in;
}

uint32_t client_identity_cred(const struct opendfs *fs, const struct opendfs_identity *as)
{
    return as == NULL ? fs->session.cred : as->cred;
}

static void identity_next(struct opendfs *fs);

/* A session that ended meanwhile has taken the answer along: asked again in the next one. */
static void identity_done(struct peer_call *c, const struct peer_reply *r)
{
    struct opendfs *fs = container_of(c, struct opendfs, identities.call);
    struct client_identities *x = &fs->identities;
    struct opendfs_identity *as = x->asking;
    x->asking = NULL;
    bool current = x->number == fs->session.number && fs->session.id != 0;
    if (!fs->freeing && current && r->rc == -ERR_session_expired) {
        client_session_expired(fs, x->number);
        current = false;
    }
    if (current && r->rc == 0) {
        as->cred = ((const struct proto_credential_reply *)r->body)->cred;
        as->session_number = x->number;
    }
    bool over = fs->freeing || (current && (r->rc == 0 || (r->answered && !err_is(r->rc, EAGAIN))));
    if (!over && as->refs > 1) { /* nobody has answered, or not in this session */
        list_push_back(&x->wanted, &as->wanted);
    }
    if (!fs->freeing) {
        int rc = !over ? -ETIMEDOUT : r->rc == -ERR_log_full ? -ERR_no_log_space : r->rc;
        client_calls_named(fs, as, rc, !over);
    }
    client_identity_put(fs, as);
    if (!fs->freeing) {
        identity_next(fs);
    }
}

static void identity_next(struct opendfs *fs)
{
    struct client_identities *x = &fs->identities;
    if (x->asking != NULL || fs->session.state != SESSION_READY || list_empty(&x->wanted)) {
        return;
    }
    struct opendfs_identity *as = LIST_ENTRY(x->wanted.next, struct opendfs_identity, wanted);
    list_remove(&as->wanted);
    as->refs++; /* of the registration; who waits has it, too */
    x->asking = as;
    x->number = fs->session.number;
    x->request =
        (struct proto_credential_request){.session = fs->session.id,
                                          .uid = as->uid,
                                          .gid = as->gid,
                                          .groups = {.at = as->groups, .count = as->group_count},
                                          .lease_epoch = fs->session.lease_epoch};
    x->call = (struct peer_call){
        .done = identity_done,
        .request = &x->request,
        .opcode = PROTO_OP_credential,
        .flags = PEER_CALL_AGAIN,
        .give_back = ERR_log_full,
        .timeout_ms =
            fs->timeout_ms == 0 ? REGISTER_MS : (uint32_t)base_min(REGISTER_MS, fs->timeout_ms)};
    peer_call(fs->meta, &x->call);
}

void client_identity_want(struct opendfs *fs, struct opendfs_identity *as)
{
    struct client_identities *x = &fs->identities;
    if (x->asking != as && list_empty(&as->wanted)) {
        list_push_back(&x->wanted, &as->wanted);
    }
    identity_next(fs);
}

void client_identities_ready(struct opendfs *fs)
{
    identity_next(fs);
}
