/*
 * Random operations of four users on two sessions against the model of a file system in
 * model_priv.h: names, links, modes, owners, times, access control lists, extended attributes, the
 * trash. The model says which error each operation must give, and what all attributes are
 * afterwards. The operations stand in headers of their own, by what they are about; here they are
 * chosen.
 */
#include "testing/testing.h"

#include "namespace/model_acl_priv.h"
#include "namespace/model_ask_priv.h"
#include "namespace/model_bin_priv.h"
#include "namespace/model_compare_priv.h"
#include "namespace/model_names_priv.h"
#include "namespace/model_rename_priv.h"

#define STEPS 12000u
#define RETENTION_S 60u /* of the root */

static void step_release(struct model *m, unsigned kind)
{
    struct node *n = &m->node[any_node(m)];
    (void)settle(m, kind, RIG_OP(&m->rig, release, .ino = n->ino));
    n->kept[m->session] = false;
    may_go(n);
}

static void open_session(struct model *m, size_t i, uint64_t verifier)
{
    m->op[i] = (struct proto_op){.session = rig_session(&m->rig, (uint8_t)(i + 1), verifier),
                                 .sequence = 1};
    for (size_t u = 0; u < USERS; u++) {
        m->cred[i][u] =
            rig_cred(&m->rig, m->op[i].session, user_uid[u], user_gid[u], user_group[u]);
    }
}

/* The machine is restarted: what only it kept is gone. */
static void step_restart(struct model *m)
{
    size_t i = m->session;
    CHECK_OK(RIG_DO(&m->rig, NAMESPACE_EXPIRE, namespace_expire, .session = m->op[i].session));
    for (size_t k = 0; k < m->node_count; k++) {
        struct node *n = &m->node[k];
        n->kept[i] = false;
        may_go(n);
    }
    open_session(m, i, rand_u64(&m->rand));
}

/* The same bytes again get the same answer and change nothing that the model would see. */
static void step_retry(struct model *m)
{
    int rc = m->rig.reply.rc;
    CHECK_EQ(rig_apply_bytes(&m->rig, m->rig.command, m->rig.command_len), rc);
    CHECK_TRUE(m->rig.reply.replayed);
}

typedef void step_function(struct model *m, unsigned kind);
static step_function *const kinds[] = {
    step_create, step_create, step_create, step_create,  step_create,  step_create,   step_remove,
    step_remove, step_remove, step_link,   step_rename,  step_rename,  step_rename,   step_chmod,
    step_chmod,  step_chown,  step_times,  step_acl,     step_acl,     step_truncate, step_write,
    step_flags,  step_xattr,  step_xattr,  step_release, ask_open,     ask_list,      ask_name,
    ask_xattr,   ask_xattr,   step_keep,   step_restore, step_restore, step_purge};
_Static_assert(ARRAY_COUNT(kinds) <= ARRAY_COUNT(((struct model *)0)->done),
               "there are more kinds than are counted");

static void step(struct model *m)
{
    unsigned kind = (unsigned)rand_below(&m->rand, ARRAY_COUNT(kinds));
    m->session = (size_t)rand_below(&m->rand, 2);
    m->user = rand_chance(&m->rand, 1, 3) ? 0 : (size_t)rand_below(&m->rand, USERS);
    m->expect = 0;
    m->step++;
    m->rig.op = m->op[m->session];
    m->rig.op.cred = m->cred[m->session][m->user];
    if (rand_chance(&m->rand, 1, 100)) {
        step_restart(m);
        return;
    }
    if (rand_chance(&m->rand, 1, 50)) {
        trash_expire(m);
        return;
    }
    uint64_t commands = m->rig.index;
    kinds[kind](m, kind);
    m->op[m->session] = m->rig.op;
    if (m->rig.index > commands && rand_chance(&m->rand, 1, 10)) {
        step_retry(m);
    }
}

static void model_open(struct model *m)
{
    rig_open(&m->rig);
    rand_seed(&m->rand, testing_seed());
    open_session(m, 0, 1);
    open_session(m, 1, 2);
    m->rig.op = m->op[0]; /* what is removed is kept, but where somebody says that it is not */
    m->rig.op.cred = m->cred[0][0];
    CHECK_OK(RIG_OP(&m->rig, setattr, .ino = PROTO_ROOT_INO, .mask = PROTO_SET_RETENTION,
                    .retention_s = RETENTION_S));
    m->op[0] = m->rig.op;
    struct proto_getattr_reply reply;
    CHECK_OK(RIG_QUERY(&m->rig, getattr, &reply, .ino = PROTO_ROOT_INO));
    m->node[0] = (struct node){.ino = PROTO_ROOT_INO,
                               .type = PROTO_INODE_DIRECTORY,
                               .access = list_minimal(0755),
                               .inherit = list_minimal(0),
                               .retention_s = RETENTION_S,
                               .change = reply.attr.change,
                               .generation = reply.attr.generation,
                               .atime_ns = reply.attr.btime_ns,
                               .mtime_ns = reply.attr.btime_ns,
                               .ctime_ns = reply.attr.ctime_ns,
                               .btime_ns = reply.attr.btime_ns,
                               .nlink = 2};
    m->node_count = 1;
}

/* Each operation was done, and was refused; else the rest says nothing. */
static void check_coverage(const struct model *m, step_function *what)
{
    unsigned done = 0, failed = 0;
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
        done += kinds[i] == what ? m->done[i] : 0;
        failed += kinds[i] == what ? m->failed[i] : 0;
    }
    CHECK_TRUE(done > 5);
    CHECK_TRUE(failed > 5 || what == step_release || what == step_purge);
}

TEST(random_operations_match_the_model)
{
    struct model *m = mem_zalloc(sizeof *m);
    CHECK_TRUE(m != NULL);
    model_open(m);
    for (unsigned i = 1; i <= STEPS; i++) {
        step(m);
        if (i % 500 == 0) {
            compare(m);
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
        check_coverage(m, kinds[i]);
    }
    CHECK_TRUE(m->expired > 0);
    rig_close(&m->rig);
    mem_free(m);
}
