/*
 * Random operations of three users on two sessions against a model of a file system in plain
 * arrays. The model says which errors an operation may give: success must come exactly when there
 * is none. Then random nonsense, after which all records must still agree.
 */
#include "base/rand.h"
#include "testing/testing.h"

#include "namespace/fsck_rig_priv.h"

#include <stdio.h>

#define NODES 300u
#define NAMES 8u
#define ENTRIES 2000u
#define USERS 3u
#define STEPS 3000u
#define STORM_KINDS 8u

struct node {
    uint64_t ino;
    uint8_t type;
    bool gone;
    uint32_t mode, uid, gid, nlink, entries;
    uint64_t size;
    size_t parent; /* of directories */
    bool kept[2];  /* by which session */
};
struct entry {
    bool used;
    size_t parent, name, node;
};
struct model {
    struct rig rig;
    struct rand rand;
    struct node node[NODES];
    size_t node_count;
    struct entry entry[ENTRIES];
    struct proto_op op[2]; /* sessions */
    uint32_t cred[2][USERS];
    size_t session, user; /* of the present operation */
    int error[16];
    size_t error_count;
};

static const uint32_t user_uid[USERS] = {0, 1000, 1001};
static const uint32_t user_gid[USERS] = {0, 100, 101};
static const uint32_t user_group[USERS] = {0, 7, 7};

static struct proto_bytes name_of(size_t i)
{
    static const char *const names[NAMES] = {"a", "b", "b!", "c", "cc", "\xc3\xa4", "z", "Z"};
    return proto_bytes_text(names[i]);
}

static void may_fail(struct model *m, bool when, int error)
{
    if (when) {
        CHECK_TRUE(m->error_count < ARRAY_COUNT(m->error));
        m->error[m->error_count++] = error;
    }
}

static bool in_group(const struct model *m, uint32_t gid)
{
    return user_gid[m->user] == gid || (m->user != 0 && user_group[m->user] == gid);
}

static bool may(const struct model *m, const struct node *n, uint32_t want)
{
    uint32_t shift = user_uid[m->user] == n->uid ? 6 : in_group(m, n->gid) ? 3 : 0;
    return m->user == 0 || ((n->mode >> shift) & want) == want;
}

static struct entry *find_entry(struct model *m, size_t parent, size_t name)
{
    for (size_t i = 0; i < ENTRIES; i++) {
        struct entry *e = &m->entry[i];
        if (e->used && e->parent == parent && e->name == name) {
            return e;
        }
    }
    return NULL;
}

static void add_entry(struct model *m, size_t parent, size_t name, size_t node)
{
    size_t i = 0;
    while (m->entry[i].used) {
        i++;
        CHECK_TRUE(i < ENTRIES);
    }
    m->entry[i] = (struct entry){.used = true, .parent = parent, .name = name, .node = node};
    m->node[parent].entries++;
    if (m->node[node].type == PROTO_INODE_DIRECTORY) {
        m->node[parent].nlink++;
        m->node[node].parent = parent;
    }
}

static void drop_entry(struct model *m, struct entry *e)
{
    m->node[e->parent].entries--;
    m->node[e->parent].nlink -= m->node[e->node].type == PROTO_INODE_DIRECTORY ? 1 : 0;
    e->used = false;
}

/* A name of it is gone. */
static void drop_name(struct model *m, struct node *n, bool open)
{
    n->nlink = n->type == PROTO_INODE_DIRECTORY ? 0 : n->nlink - 1;
    n->kept[m->session] = n->nlink == 0 && open && n->type != PROTO_INODE_DIRECTORY;
    n->gone = n->nlink == 0 && !n->kept[0] && !n->kept[1];
}

/* Can names be added or removed there? False when there is nothing more to say about it. */
static bool check_dir(struct model *m, const struct node *dir, uint32_t want)
{
    may_fail(m, dir->gone, -ENOENT);
    may_fail(m, !dir->gone && dir->type != PROTO_INODE_DIRECTORY, -ENOTDIR);
    if (m->error_count > 0) {
        return false;
    }
    may_fail(m, !may(m, dir, want), -EACCES);
    return true;
}

static void check_sticky(struct model *m, const struct node *dir, const struct node *n)
{
    uint32_t uid = user_uid[m->user];
    bool sticky = (dir->mode & 01000U) != 0;
    may_fail(m, sticky && uid != 0 && uid != n->uid && uid != dir->uid, -EPERM);
}

/* The result is one of the expected errors, or success if there is none. */
static bool settle(struct model *m, int rc)
{
    bool expected = m->error_count == 0 && rc == 0;
    for (size_t i = 0; i < m->error_count; i++) {
        expected = expected || m->error[i] == rc;
    }
    if (!expected) {
        (void)fprintf(stderr, "rc %d, expected %d of %zu\n", rc,
                      m->error_count > 0 ? m->error[0] : 0, m->error_count);
    }
    CHECK_TRUE(expected);
    return rc == 0;
}

static size_t any_node(struct model *m)
{
    return (size_t)rand_below(&m->rand, m->node_count);
}

/* Mostly directories that are there. */
static size_t any_dir(struct model *m)
{
    size_t i = any_node(m);
    for (int tries = 0; tries < 20 && (m->node[i].gone || m->node[i].type != 2); tries++) {
        i = any_node(m);
    }
    return i;
}

static void step_create(struct model *m)
{
    static const uint8_t types[] = {PROTO_INODE_FILE, PROTO_INODE_FILE, PROTO_INODE_DIRECTORY,
                                    PROTO_INODE_SYMLINK, PROTO_INODE_FIFO};
    size_t d = any_dir(m), name = (size_t)rand_below(&m->rand, NAMES);
    uint8_t type = types[rand_below(&m->rand, ARRAY_COUNT(types))];
    bool exclusive = rand_chance(&m->rand, 1, 2);
    uint32_t mode = (uint32_t)rand_below(&m->rand, 010000) | 0700U;
    struct node *dir = &m->node[d];
    struct entry *e = find_entry(m, d, name);
    if (check_dir(m, dir, 1) && e != NULL) {
        may_fail(m, exclusive || type != PROTO_INODE_FILE, -EEXIST);
        may_fail(m, m->node[e->node].type == PROTO_INODE_DIRECTORY, -EISDIR);
        may_fail(m, m->node[e->node].type > PROTO_INODE_DIRECTORY, -EEXIST);
    } else if (e == NULL && !dir->gone) {
        (void)check_dir(m, dir, 3);
    }
    int rc = RIG_OP(&m->rig, create, .parent = dir->ino, .name = name_of(name), .type = type,
                    .mode = mode, .flags = exclusive ? PROTO_CREATE_EXCLUSIVE : 0,
                    .target = rig_text("target"));
    if (!settle(m, rc) || e != NULL) {
        return;
    }
    bool is_dir = type == PROTO_INODE_DIRECTORY, inherit = (dir->mode & 02000U) != 0;
    struct node *n = &m->node[m->node_count];
    *n = (struct node){.ino = m->rig.reply.result.ino,
                       .type = type,
                       .uid = user_uid[m->user],
                       .gid = inherit ? dir->gid : user_gid[m->user],
                       .nlink = is_dir ? 2 : 1,
                       .size = type == PROTO_INODE_SYMLINK ? 6 : 0};
    n->mode = mode | (is_dir && inherit ? 02000U : 0);
    if (!is_dir && m->user != 0 && !in_group(m, n->gid) && (mode & 010U) != 0) {
        n->mode &= ~02000U;
    }
    add_entry(m, d, name, m->node_count++);
}

static void step_link(struct model *m)
{
    size_t i = any_node(m), d = any_dir(m), name = (size_t)rand_below(&m->rand, NAMES);
    struct node *n = &m->node[i], *dir = &m->node[d];
    (void)check_dir(m, dir, 3);
    may_fail(m, n->gone, -ENOENT);
    may_fail(m, !n->gone && n->type == PROTO_INODE_DIRECTORY, -EPERM);
    may_fail(m, !dir->gone && find_entry(m, d, name) != NULL, -EEXIST);
    may_fail(m, !n->gone && n->nlink == 0 && !n->kept[m->session], -ENOENT);
    int rc = RIG_OP(&m->rig, link, .ino = n->ino, .parent = dir->ino, .name = name_of(name));
    if (settle(m, rc)) {
        n->nlink++;
        n->kept[0] = false;
        n->kept[1] = false;
        add_entry(m, d, name, i);
    }
}

static void step_remove(struct model *m, bool rmdir)
{
    size_t d = any_dir(m), name = (size_t)rand_below(&m->rand, NAMES);
    bool open = rand_chance(&m->rand, 1, 3);
    struct node *dir = &m->node[d];
    struct entry *e = find_entry(m, d, name);
    bool is_dir = e != NULL && m->node[e->node].type == PROTO_INODE_DIRECTORY;
    if (check_dir(m, dir, 3)) {
        may_fail(m, e == NULL, -ENOENT);
    }
    if (e != NULL && !dir->gone) {
        check_sticky(m, dir, &m->node[e->node]);
        may_fail(m, rmdir && !is_dir, -ENOTDIR);
        may_fail(m, !rmdir && is_dir, -EISDIR);
        may_fail(m, rmdir && is_dir && m->node[e->node].entries > 0, -ENOTEMPTY);
    }
    int rc =
        rmdir ? RIG_OP(&m->rig, rmdir, .parent = dir->ino, .name = name_of(name))
              : RIG_OP(&m->rig, unlink, .parent = dir->ino, .name = name_of(name), .is_open = open);
    if (settle(m, rc)) {
        struct node *n = &m->node[e->node];
        drop_entry(m, e);
        drop_name(m, n, open && !rmdir);
    }
}

static bool is_below(const struct model *m, size_t node, size_t top)
{
    while (node != top && node != 0) {
        node = m->node[node].parent;
    }
    return node == top;
}

static void check_move(struct model *m, size_t what, size_t from, size_t to)
{
    const struct node *n = &m->node[what];
    if (from != to && n->type == PROTO_INODE_DIRECTORY) {
        may_fail(m, is_below(m, to, what), -EINVAL);
        may_fail(m, !may(m, n, 2), -EACCES);
    }
}

static void check_rename(struct model *m, size_t d1, size_t d2, const struct entry *e,
                         const struct entry *v, uint32_t flags)
{
    may_fail(m, e == NULL, -ENOENT);
    may_fail(m, v != NULL && (flags & PROTO_RENAME_NOREPLACE) != 0, -EEXIST);
    may_fail(m, v == NULL && (flags & PROTO_RENAME_EXCHANGE) != 0, -ENOENT);
    if (e == NULL || (v != NULL && v->node == e->node)) {
        return;
    }
    const struct node *a = &m->node[e->node];
    check_sticky(m, &m->node[d1], a);
    check_move(m, e->node, d1, d2);
    if (v == NULL) {
        return;
    }
    const struct node *b = &m->node[v->node];
    check_sticky(m, &m->node[d2], b);
    if ((flags & PROTO_RENAME_EXCHANGE) != 0) {
        check_move(m, v->node, d2, d1);
        return;
    }
    bool a_dir = a->type == PROTO_INODE_DIRECTORY, b_dir = b->type == PROTO_INODE_DIRECTORY;
    may_fail(m, a_dir && !b_dir, -ENOTDIR);
    may_fail(m, !a_dir && b_dir, -EISDIR);
    may_fail(m, a_dir && b_dir && b->entries > 0, -ENOTEMPTY);
}

static void do_rename(struct model *m, struct entry *e, struct entry *v, size_t d2, size_t name2,
                      uint32_t flags)
{
    size_t what = e->node, d1 = e->parent, name1 = e->name;
    if (v != NULL && v->node == what) {
        return;
    }
    drop_entry(m, e);
    if (v != NULL) {
        size_t other = v->node;
        drop_entry(m, v);
        if ((flags & PROTO_RENAME_EXCHANGE) != 0) {
            add_entry(m, d1, name1, other);
        } else {
            drop_name(m, &m->node[other], false);
        }
    }
    add_entry(m, d2, name2, what);
}

static void step_rename(struct model *m)
{
    static const uint32_t ways[] = {0, 0, 0, PROTO_RENAME_NOREPLACE, PROTO_RENAME_EXCHANGE};
    size_t d1 = any_dir(m), d2 = any_dir(m);
    size_t name1 = (size_t)rand_below(&m->rand, NAMES), name2 = (size_t)rand_below(&m->rand, NAMES);
    uint32_t flags = ways[rand_below(&m->rand, ARRAY_COUNT(ways))];
    struct entry *e = find_entry(m, d1, name1), *v = find_entry(m, d2, name2);
    bool good = check_dir(m, &m->node[d1], 3);
    good = check_dir(m, &m->node[d2], 3) && good;
    if (good) {
        check_rename(m, d1, d2, e, v, flags);
    }
    int rc = RIG_OP(&m->rig, rename, .parent = m->node[d1].ino, .name = name_of(name1),
                    .new_parent = m->node[d2].ino, .new_name = name_of(name2), .flags = flags);
    if (settle(m, rc)) {
        do_rename(m, e, v, d2, name2, flags);
    }
}

static void step_chmod(struct model *m)
{
    struct node *n = &m->node[any_node(m)];
    uint32_t uid = user_uid[m->user], mode = (uint32_t)rand_below(&m->rand, 010000) | 0500U;
    may_fail(m, n->gone, -ENOENT);
    may_fail(m, !n->gone && uid != 0 && uid != n->uid, -EPERM);
    int rc = RIG_OP(&m->rig, setattr, .ino = n->ino, .mask = PROTO_SET_MODE, .mode = mode);
    if (settle(m, rc)) {
        n->mode = mode & (uid == 0 || in_group(m, n->gid) ? ~0U : ~02000U);
    }
}

static void step_chown(struct model *m)
{
    struct node *n = &m->node[any_node(m)];
    uint32_t uid = user_uid[m->user];
    uint32_t to = user_uid[rand_below(&m->rand, USERS)],
             gid = rand_chance(&m->rand, 1, 2) ? 7 : 100;
    bool change_uid = rand_chance(&m->rand, 1, 2);
    may_fail(m, n->gone, -ENOENT);
    may_fail(m, !n->gone && uid != 0 && uid != n->uid, -EPERM);
    may_fail(m, !n->gone && uid != 0 && change_uid && to != n->uid, -EPERM);
    may_fail(m, !n->gone && uid != 0 && gid != n->gid && !in_group(m, gid), -EPERM);
    int rc = RIG_OP(&m->rig, setattr, .ino = n->ino, .uid = to, .gid = gid,
                    .mask = PROTO_SET_GID | (change_uid ? PROTO_SET_UID : 0));
    if (settle(m, rc)) {
        n->uid = change_uid ? to : n->uid;
        n->gid = gid;
        if (n->type != PROTO_INODE_DIRECTORY) {
            n->mode &= ~04000U & ((n->mode & 010U) != 0 ? ~02000U : ~0U);
        }
    }
}

static void step_truncate(struct model *m)
{
    struct node *n = &m->node[any_node(m)];
    uint64_t size = rand_below(&m->rand, 10000);
    may_fail(m, n->gone, -ENOENT);
    if (!n->gone) {
        may_fail(m, n->type == PROTO_INODE_DIRECTORY, -EISDIR);
        may_fail(m, n->type > PROTO_INODE_DIRECTORY, -EINVAL);
        may_fail(m, !may(m, n, 2), -EACCES);
    }
    int rc = RIG_OP(&m->rig, setattr, .ino = n->ino, .mask = PROTO_SET_SIZE, .size = size);
    if (settle(m, rc)) {
        n->size = size;
        if (m->user != 0) {
            n->mode &= ~04000U & ((n->mode & 010U) != 0 ? ~02000U : ~0U);
        }
    }
}

static void step_release(struct model *m)
{
    struct node *n = &m->node[any_node(m)];
    CHECK_OK(RIG_OP(&m->rig, release, .ino = n->ino));
    n->kept[m->session] = false;
    n->gone = n->gone || (n->nlink == 0 && !n->kept[0] && !n->kept[1]);
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
        n->gone = n->gone || (n->nlink == 0 && !n->kept[0] && !n->kept[1]);
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

static void step(struct model *m)
{
    static void (*const others[])(struct model *) = {step_link,   step_rename,   step_rename,
                                                     step_chmod,  step_truncate, step_chown,
                                                     step_rename, step_release};
    uint64_t dice = rand_below(&m->rand, 100);
    m->session = (size_t)rand_below(&m->rand, 2);
    m->user = rand_chance(&m->rand, 1, 2) ? 0 : (size_t)rand_below(&m->rand, USERS);
    m->error_count = 0;
    m->rig.op = m->op[m->session];
    m->rig.op.cred = m->cred[m->session][m->user];
    if (dice < 30 && m->node_count < NODES) {
        step_create(m);
    } else if (dice < 45) {
        step_remove(m, rand_chance(&m->rand, 1, 3));
    } else if (dice == 99) {
        step_restart(m);
        return;
    } else {
        others[rand_below(&m->rand, ARRAY_COUNT(others))](m);
    }
    m->op[m->session] = m->rig.op;
    if (rand_chance(&m->rand, 1, 10)) {
        step_retry(m);
    }
}

static void compare_node(struct model *m, const struct node *n)
{
    struct proto_getattr_reply reply;
    int rc = RIG_QUERY(&m->rig, getattr, &reply, .ino = n->ino);
    CHECK_EQ(rc, n->gone ? -ENOENT : 0);
    if (rc == 0) {
        CHECK_EQ(reply.attr.type, n->type);
        CHECK_EQ(reply.attr.mode, n->mode);
        CHECK_EQ(reply.attr.uid, n->uid);
        CHECK_EQ(reply.attr.gid, n->gid);
        CHECK_EQ(reply.attr.nlink, n->nlink);
        CHECK_EQ(reply.attr.size, n->size);
    }
}

static void compare_name(struct model *m, size_t dir, size_t name)
{
    struct proto_lookup_reply reply;
    const struct entry *e = find_entry(m, dir, name);
    CHECK_OK(RIG_QUERY(&m->rig, lookup, &reply, .parent = m->node[dir].ino, .name = name_of(name)));
    CHECK_EQ(reply.attr.ino, e == NULL ? 0 : m->node[e->node].ino);
}

static void compare(struct model *m)
{
    for (size_t i = 0; i < m->node_count; i++) {
        const struct node *n = &m->node[i];
        compare_node(m, n);
        bool dir = !n->gone && n->type == PROTO_INODE_DIRECTORY;
        for (size_t name = 0; dir && name < NAMES; name++) {
            compare_name(m, i, name);
        }
    }
}

static void model_open(struct model *m)
{
    rig_open(&m->rig);
    rand_seed(&m->rand, testing_seed());
    m->node[0] = (struct node){
        .ino = PROTO_ROOT_INO, .type = PROTO_INODE_DIRECTORY, .mode = 0755, .nlink = 2};
    m->node_count = 1;
    open_session(m, 0, 1);
    open_session(m, 1, 2);
}

TEST(random_operations_match_the_model)
{
    struct model *m = mem_zalloc(sizeof *m);
    CHECK_TRUE(m != NULL);
    model_open(m);
    for (unsigned i = 1; i <= STEPS; i++) {
        step(m);
        if (i % 500 == 0) {
            m->rig.op = m->op[0];
            m->rig.op.cred = m->cred[0][0];
            compare(m);
            fsck(&m->rig);
        }
    }
    rig_close(&m->rig);
    mem_free(m);
}

/* Writers, restarts, garbage and bent commands: only the records must agree. */
/* Which it was, when it succeeded; else STORM_KINDS. */
static uint64_t storm_file(struct rig *r, struct rand *rand, uint64_t ino, uint64_t epoch)
{
    struct namespace_keep keep = {.session = 1 + rand_below(rand, 5), .maybe = true};
    r->keeps = (struct namespace_keep_list){.at = &keep, .count = rand_below(rand, 2)};
    uint64_t size = rand_below(rand, 9000);
    struct proto_bytes name = name_of((size_t)rand_below(rand, NAMES));
    uint64_t kind = rand_below(rand, STORM_KINDS);
    int rc = 0;
    switch (kind) {
    case 0:
    case 1:
        rc = RIG_OP(r, create, .parent = 1, .name = name, .type = PROTO_INODE_FILE, .mode = 0644,
                    .flags = (uint32_t)rand_below(rand, 16), .data = rig_text("data"));
        break;
    case 2:
        rc = RIG_OP(r, wopen, .ino = ino, .try_only = rand_chance(rand, 1, 3));
        break;
    case 3:
        rc = RIG_OP(r, commit, .ino = ino, .cap_epoch = epoch, .size = size,
                    .data = rig_text("some"), .flags = (uint32_t)rand_below(rand, 16),
                    .allocated = rand_below(rand, 2));
        break;
    case 4:
        rc = RIG_OP(r, unlink, .parent = 1, .name = name, .is_open = rand_chance(rand, 1, 2));
        break;
    case 5:
        rc = RIG_OP(r, setattr, .ino = ino, .mask = PROTO_SET_SIZE, .size = size,
                    .cap_epoch = rand_chance(rand, 1, 2) ? epoch : 0);
        break;
    case 6:
        rc = RIG_OP(r, lease_return, .ino = ino, .has_final = true, .cap_epoch = epoch,
                    .size = size, .keep = {.at = &ino, .count = rand_below(rand, 2)});
        break;
    default:
        rc = RIG_OP(r, link, .ino = ino, .parent = 1, .name = name);
        break;
    }
    r->keeps.count = 0;
    return rc == 0 ? kind : STORM_KINDS;
}

static void storm_bend(struct rig *r, struct rand *rand)
{
    size_t flips = 1 + (size_t)rand_below(rand, 4);
    for (size_t i = 0; i < flips && r->command_len > 4; i++) {
        size_t at = 4 + (size_t)rand_below(rand, r->command_len - 4); /* its version stays */
        r->command[at] = (uint8_t)rand_u64(rand);
    }
    (void)rig_apply_bytes(r, r->command, r->command_len);
}

/* The leader sees to fences, then to trims. */
static void storm_finish(struct rig *r)
{
    struct namespace_fences f;
    struct namespace_trims t;
    CHECK_OK(RIG_VIEW(r, namespace_fences(&r->view, 0, 1, &f)));
    if (f.count > 0) {
        CHECK_OK(RIG_DO(r, NAMESPACE_FENCE_DONE, namespace_fence_done, .session = f.ids[0],
                        .cap_epoch = f.at[0].cap_epoch));
        return;
    }
    CHECK_OK(RIG_VIEW(r, namespace_trims(&r->view, 0, 1, &t)));
    if (t.count > 0) {
        CHECK_OK(RIG_DO(r, NAMESPACE_TRIM_DONE, namespace_trim_done, .ino = t.ids[0],
                        .tgen = t.at[0].tgen));
    }
}

TEST(all_records_agree_after_a_storm)
{
    struct rig r;
    struct rand rand;
    struct proto_op ops[3] = {{0}};
    uint64_t done[STORM_KINDS + 1] = {0}, epochs[3] = {0}, wrote[3] = {0};
    rig_open(&r);
    rig_make_class(&r, 4);
    rand_seed(&rand, testing_seed());
    for (unsigned i = 0; i < 3000; i++) {
        size_t s = (size_t)rand_below(&rand, 3);
        if (ops[s].session == 0 || rand_chance(&rand, 1, 80)) {
            (void)RIG_DO(&r, NAMESPACE_EXPIRE, namespace_expire, .session = ops[s].session);
            ops[s] = (struct proto_op){
                .session = rig_session(&r, (uint8_t)(10 + s), rand_u64(&rand)), .sequence = 1};
            ops[s].cred = rig_cred(&r, ops[s].session, 0, 0, 0);
        }
        r.op = ops[s];
        bool again = wrote[s] != 0 && rand_chance(&rand, 1, 2);
        done[storm_file(&r, &rand, again ? wrote[s] : 2 + rand_below(&rand, 40), epochs[s])]++;
        ops[s] = r.op;
        if (r.reply.result.cap_epoch != 0) {
            epochs[s] = r.reply.result.cap_epoch;
            wrote[s] = r.reply.result.ino;
        }
        if (rand_chance(&rand, 1, 5)) {
            storm_finish(&r);
        }
        if (rand_chance(&rand, 1, 4)) {
            storm_bend(&r, &rand);
        }
        uint64_t id = 1 + rand_below(&rand, 30);
        (void)RIG_DO(&r, NAMESPACE_GARBAGE_DONE, namespace_garbage_done,
                     .chain = 1 + (uint32_t)rand_below(&rand, 4),
                     .data_ids = {.at = &id, .count = 1});
        if (i % 300 == 299) {
            fsck(&r);
        }
    }
    fsck(&r);
    for (size_t i = 0; i < STORM_KINDS; i++) {
        CHECK_TRUE(done[i] > 10);
    }
    rig_close(&r);
}
