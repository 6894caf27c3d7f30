/*
 * Random operations of four users on two sessions against the model of a file system in
 * model_priv.h: names, links, modes, owners, times, access control lists, extended attributes, the
 * trash. The
 * model says which error each operation must give, and what all attributes are afterwards.
 */
#include "testing/testing.h"

#include "namespace/model_trash_priv.h"

#define STEPS 12000u

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
    if (is_dir(&m->node[node])) {
        m->node[parent].nlink++;
        m->node[node].parent = parent;
    }
}

static void drop_entry(struct model *m, struct entry *e)
{
    m->node[e->parent].entries--;
    m->node[e->parent].nlink -= is_dir(&m->node[e->node]) ? 1 : 0;
    e->used = false;
}

/* A name of it in `dir` is gone. */
static void drop_name(struct model *m, struct node *n, size_t dir, bool open)
{
    n->nlink = n->type == PROTO_INODE_DIRECTORY ? 0 : n->nlink - 1;
    n->kept[m->session] = n->nlink == 0 && open && n->type != PROTO_INODE_DIRECTORY;
    trash_put(m, n, dir);
    may_go(n);
}

/* Somebody looks for a name there. */
static bool check_search(struct model *m, const struct node *dir)
{
    (void)fails(m, dir->gone, -ENOENT);
    (void)fails(m, !is_dir(dir), -ENOTDIR);
    return m->expect == 0 && check_rights(m, dir, 1);
}

/* May this name be taken away? */
static bool check_removal(struct model *m, const struct node *dir, const struct node *n)
{
    bool sticky = (dir->special & 01000U) != 0;
    (void)check_rights(m, dir, 2);
    (void)fails(m, sticky && !is_owner(m, n) && !is_owner(m, dir), -EPERM);
    return fails(m, is_fixed(dir) || is_fixed(n), -EPERM);
}

/* The result is the expected one. True: it was done. */
static bool settle(struct model *m, unsigned kind, int rc)
{
    if (m->expect != rc) {
        (void)fprintf(stderr, "step %" PRIu64 " of kind %u: rc %d, expected %d\n", m->step, kind,
                      rc, m->expect);
    }
    CHECK_EQ(rc, m->expect);
    m->done[kind] += rc == 0 ? 1 : 0;
    m->failed[kind] += rc < 0 ? 1 : 0;
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
    for (int tries = 0; tries < 20 && (m->node[i].gone || !is_dir(&m->node[i])); tries++) {
        i = any_node(m);
    }
    return i;
}

static uint32_t any_mode(struct model *m)
{
    return (uint32_t)rand_below(&m->rand, 010000) | (rand_chance(&m->rand, 3, 4) ? 0700U : 0) |
           (rand_chance(&m->rand, 1, 2) ? 0011U : 0);
}

/* ---- Names ---- */

/* What a new inode gets from the directory and from who makes it. */
static void inherit(struct model *m, const struct node *dir, struct node *n, uint32_t mode,
                    uint32_t umask)
{
    bool group = (dir->special & 02000U) != 0;
    n->uid = user_uid[m->user];
    n->gid = group ? dir->gid : user_gid[m->user];
    n->special = mode & 07000U;
    if (is_dir(n) && group) {
        n->special |= 02000U;
    } else if (!is_dir(n) && m->user != 0 && !in_group(m, n->gid) && (mode & 010U) != 0) {
        n->special &= ~02000U;
    }
    n->inherit = list_minimal(0);
    n->access = list_minimal(mode & ~umask & 0777U);
    if (n->type == PROTO_INODE_SYMLINK) {
        n->special = 0;
        n->access = list_minimal(0777);
    } else if (dir->inherit.used) {
        n->access = dir->inherit;
        n->access.used = false;
        list_chmod(&n->access, list_mode(&dir->inherit) & mode);
        n->inherit = is_dir(n) ? dir->inherit : n->inherit;
    }
}

static void made(struct model *m, size_t d, size_t name, const struct node *like, uint32_t mode,
                 uint32_t umask)
{
    struct proto_attr a = m->rig.reply.attr;
    struct node *n = &m->node[m->node_count];
    *n = (struct node){.ino = a.ino,
                       .type = like->type,
                       .nlink = is_dir(like) ? 2 : 1,
                       .generation = a.generation,
                       .size = like->type == PROTO_INODE_SYMLINK ? 6 : 0};
    CHECK_TRUE(a.generation != 0);
    inherit(m, &m->node[d], n, mode, umask);
    touch_dir(m, n);
    n->atime_ns = n->mtime_ns;
    n->btime_ns = n->mtime_ns;
    touch_dir(m, &m->node[d]);
    add_entry(m, d, name, m->node_count++);
}

static void step_create(struct model *m, unsigned kind)
{
    static const uint8_t types[] = {PROTO_INODE_FILE,      PROTO_INODE_FILE,
                                    PROTO_INODE_DIRECTORY, PROTO_INODE_DIRECTORY,
                                    PROTO_INODE_SYMLINK,   PROTO_INODE_FIFO};
    size_t d = any_dir(m), name = (size_t)rand_below(&m->rand, NAMES);
    struct node like = {.type = types[rand_below(&m->rand, ARRAY_COUNT(types))]};
    bool exclusive = rand_chance(&m->rand, 1, 2), file = like.type == PROTO_INODE_FILE;
    uint32_t mode = any_mode(m), umask = rand_chance(&m->rand, 1, 2) ? 027 : 0;
    struct node *dir = &m->node[d];
    struct entry *e = find_entry(m, d, name);
    if (m->node_count == NODES) {
        return;
    }
    if (check_search(m, dir) && e != NULL) {
        (void)fails(m, exclusive || !file, -EEXIST);
        (void)fails(m, is_dir(&m->node[e->node]), -EISDIR);
        (void)fails(m, m->node[e->node].type > PROTO_INODE_DIRECTORY, -EEXIST);
    } else if (m->expect == 0) {
        (void)check_rights(m, dir, 2);
    }
    int rc = RIG_OP(&m->rig, create, .parent = dir->ino, .name = name_of(name), .type = like.type,
                    .mode = mode, .umask = umask, .target = rig_text("target"),
                    .flags = exclusive ? PROTO_CREATE_EXCLUSIVE : 0);
    if (settle(m, kind, rc) && e == NULL) {
        made(m, d, name, &like, mode, umask);
    }
}

static void step_link(struct model *m, unsigned kind)
{
    size_t i = any_node(m), d = any_dir(m), name = (size_t)rand_below(&m->rand, NAMES);
    struct node *n = &m->node[i], *dir = &m->node[d];
    (void)fails(m, n->gone, -ENOENT);
    if (m->expect == 0 && check_search(m, dir)) {
        (void)fails(m, find_entry(m, d, name) != NULL, -EEXIST);
    }
    if (m->expect == 0 && check_rights(m, dir, 2)) {
        (void)fails(m, is_dir(n) || is_fixed(n), -EPERM);
        (void)fails(m, n->nlink == 0 && !n->kept[m->session], -ENOENT);
    }
    int rc = RIG_OP(&m->rig, link, .ino = n->ino, .parent = dir->ino, .name = name_of(name));
    if (settle(m, kind, rc)) {
        n->nlink++;
        n->kept[0] = false;
        n->kept[1] = false;
        n->trash = false;
        touch(m, n);
        touch_dir(m, dir);
        add_entry(m, d, name, i);
    }
}

static int remove_name(struct model *m, size_t d, size_t name, bool rmdir, bool open)
{
    uint64_t ino = m->node[d].ino;
    return rmdir ? RIG_OP(&m->rig, rmdir, .parent = ino, .name = name_of(name))
                 : RIG_OP(&m->rig, unlink, .parent = ino, .name = name_of(name), .is_open = open);
}

static void step_remove(struct model *m, unsigned kind)
{
    size_t d = any_dir(m), name = (size_t)rand_below(&m->rand, NAMES);
    bool rmdir = rand_chance(&m->rand, 1, 3), open = rand_chance(&m->rand, 1, 3);
    struct node *dir = &m->node[d];
    struct entry *e = find_entry(m, d, name);
    (void)check_search(m, dir);
    (void)fails(m, e == NULL, -ENOENT);
    if (m->expect == 0 && check_removal(m, dir, &m->node[e->node])) {
        const struct node *n = &m->node[e->node];
        (void)fails(m, rmdir && !is_dir(n), -ENOTDIR);
        (void)fails(m, !rmdir && is_dir(n), -EISDIR);
        (void)fails(m, rmdir && n->entries > 0, -ENOTEMPTY);
    }
    if (settle(m, kind, remove_name(m, d, name, rmdir, open)) && e != NULL) {
        struct node *n = &m->node[e->node];
        touch(m, n);
        touch_dir(m, dir);
        drop_entry(m, e);
        drop_name(m, n, d, open && !rmdir);
    }
}

static bool is_below(const struct model *m, size_t node, size_t top)
{
    while (node != top && node != 0) {
        node = m->node[node].parent;
    }
    return node == top;
}

/* A directory that changes its parent. */
static bool check_moved(struct model *m, const struct node *n, size_t from, size_t to)
{
    return from == to || !is_dir(n) || check_rights(m, n, 2);
}

static bool check_loop(struct model *m, size_t what, size_t from, size_t to)
{
    return fails(m, from != to && is_dir(&m->node[what]) && is_below(m, to, what), -EINVAL);
}

static void check_rename(struct model *m, size_t d2, const struct entry *e, const struct entry *v,
                         bool exchange)
{
    size_t d1 = e->parent;
    const struct node *a = &m->node[e->node], *b = v == NULL ? NULL : &m->node[v->node];
    (void)check_loop(m, e->node, d1, d2);
    if (b != NULL && exchange) {
        (void)check_loop(m, v->node, d2, d1);
    }
    if (m->expect != 0 || a == b || !check_removal(m, &m->node[d1], a)) {
        return;
    }
    if (b == NULL) {
        (void)check_rights(m, &m->node[d2], 2);
    } else if (check_removal(m, &m->node[d2], b) && !exchange) {
        (void)fails(m, is_dir(a) && !is_dir(b), -ENOTDIR);
        (void)fails(m, !is_dir(a) && is_dir(b), -EISDIR);
    }
    if (m->expect == 0 && check_moved(m, a, d1, d2) && exchange) {
        (void)check_moved(m, b, d2, d1);
    }
    (void)fails(m, b != NULL && !exchange && b->entries > 0, -ENOTEMPTY);
}

static void do_rename(struct model *m, struct entry *e, struct entry *v, size_t d2, size_t name2,
                      bool exchange)
{
    size_t what = e->node, d1 = e->parent, name1 = e->name;
    if (v != NULL && v->node == what) {
        return;
    }
    touch_dir(m, &m->node[d1]);
    touch_dir(m, &m->node[d2]);
    touch(m, &m->node[what]);
    drop_entry(m, e);
    if (v != NULL) {
        size_t other = v->node;
        touch(m, &m->node[other]);
        drop_entry(m, v);
        if (exchange) {
            add_entry(m, d1, name1, other);
        } else {
            drop_name(m, &m->node[other], d2, false);
        }
    }
    add_entry(m, d2, name2, what);
}

static void step_rename(struct model *m, unsigned kind)
{
    static const uint32_t ways[] = {0, 0, 0, PROTO_RENAME_NOREPLACE, PROTO_RENAME_EXCHANGE};
    size_t d1 = any_dir(m), d2 = any_dir(m);
    size_t name1 = (size_t)rand_below(&m->rand, NAMES), name2 = (size_t)rand_below(&m->rand, NAMES);
    uint32_t flags = ways[rand_below(&m->rand, ARRAY_COUNT(ways))];
    bool exchange = (flags & PROTO_RENAME_EXCHANGE) != 0;
    struct entry *e = find_entry(m, d1, name1), *v = find_entry(m, d2, name2);
    if (check_search(m, &m->node[d1]) && check_search(m, &m->node[d2])) {
        (void)fails(m, e == NULL, -ENOENT);
        (void)fails(m, v != NULL && (flags & PROTO_RENAME_NOREPLACE) != 0, -EEXIST);
        (void)fails(m, v == NULL && exchange, -ENOENT);
    }
    if (m->expect == 0 && e != NULL) {
        check_rename(m, d2, e, v, exchange);
    }
    int rc = RIG_OP(&m->rig, rename, .parent = m->node[d1].ino, .name = name_of(name1),
                    .new_parent = m->node[d2].ino, .new_name = name_of(name2), .flags = flags);
    if (settle(m, kind, rc) && e != NULL) {
        do_rename(m, e, v, d2, name2, exchange);
    }
}

/* ---- Attributes ---- */

static void leave_group(const struct model *m, struct node *n)
{
    n->special &= m->user == 0 || in_group(m, n->gid) ? ~0U : ~02000U;
}

static void drop_set_ids(const struct model *m, struct node *n)
{
    n->special &= ~04000U & ((mode_of(n) & 010U) != 0 ? ~02000U : ~0U);
    leave_group(m, n);
}

/* Its contents are another user's now. */
static void written(struct model *m, struct node *n)
{
    if (m->user != 0) {
        drop_set_ids(m, n);
    }
    n->xattr[XATTRS - 1] = n->type == PROTO_INODE_FILE ? 0 : n->xattr[XATTRS - 1];
}

static bool check_change(struct model *m, const struct node *n)
{
    (void)fails(m, n->gone, -ENOENT);
    return fails(m, is_fixed(n), -EPERM);
}

static void step_chmod(struct model *m, unsigned kind)
{
    struct node *n = &m->node[any_node(m)];
    uint32_t mode = any_mode(m);
    (void)check_change(m, n);
    (void)fails(m, !is_owner(m, n), -EPERM);
    (void)fails(m, n->type == PROTO_INODE_SYMLINK, -EOPNOTSUPP);
    int rc = RIG_OP(&m->rig, setattr, .ino = n->ino, .mask = PROTO_SET_MODE, .mode = mode);
    if (settle(m, kind, rc)) {
        n->special = mode & 07000U;
        list_chmod(&n->access, mode);
        leave_group(m, n);
        touch(m, n);
    }
}

static void step_chown(struct model *m, unsigned kind)
{
    struct node *n = &m->node[any_node(m)];
    uint32_t to = user_uid[rand_below(&m->rand, USERS)];
    uint32_t gid = group_gid[rand_below(&m->rand, GROUPS)];
    bool change_uid = rand_chance(&m->rand, 1, 2);
    (void)check_change(m, n);
    (void)fails(m, !is_owner(m, n), -EPERM);
    (void)fails(m, m->user != 0 && change_uid && to != n->uid, -EPERM);
    (void)fails(m, m->user != 0 && gid != n->gid && !in_group(m, gid), -EPERM);
    int rc = RIG_OP(&m->rig, setattr, .ino = n->ino, .uid = to, .gid = gid,
                    .mask = PROTO_SET_GID | (change_uid ? PROTO_SET_UID : 0));
    if (settle(m, kind, rc)) {
        if (!is_dir(n)) {
            drop_set_ids(m, n);
            n->xattr[XATTRS - 1] = n->type == PROTO_INODE_FILE ? 0 : n->xattr[XATTRS - 1];
        }
        n->uid = change_uid ? to : n->uid;
        n->gid = gid;
        touch(m, n);
    }
}

static void step_truncate(struct model *m, unsigned kind)
{
    struct node *n = &m->node[any_node(m)];
    uint64_t size = rand_below(&m->rand, 10000);
    bool only_bits = rand_chance(&m->rand, 1, 4);
    (void)fails(m, n->gone, -ENOENT);
    (void)fails(m, !only_bits && is_dir(n), -EISDIR);
    (void)fails(m, !only_bits && n->type > PROTO_INODE_DIRECTORY, -EINVAL);
    if (m->expect == 0 && check_change(m, n)) {
        (void)check_rights(m, n, 2);
    }
    int rc = RIG_OP(&m->rig, setattr, .ino = n->ino, .size = size,
                    .mask = only_bits ? PROTO_SET_KILL_PRIV : PROTO_SET_SIZE);
    if (settle(m, kind, rc)) {
        touch(m, n);
        n->mtime_ns = only_bits ? n->mtime_ns : m->rig.time_ns;
        n->size = only_bits ? n->size : size;
        written(m, n);
    }
}

/* Small contents, by a writer that lets go at once. */
static void step_write(struct model *m, unsigned kind)
{
    struct node *n = &m->node[any_node(m)];
    bool append = rand_chance(&m->rand, 1, 2);
    (void)fails(m, n->gone, -ENOENT);
    (void)fails(m, is_dir(n), -EISDIR);
    (void)fails(m, n->type != PROTO_INODE_FILE, -EINVAL);
    (void)check_rights(m, n, 2);
    (void)fails(m, (n->flags & PROTO_INODE_APPEND) != 0 && !append, -EPERM);
    (void)fails(m, n->nlink == 0 && !n->kept[m->session], -ESTALE);
    if (!settle(m, kind, RIG_OP(&m->rig, wopen, .ino = n->ino, .append = append))) {
        return;
    }
    CHECK_EQ(m->rig.reply.result.mode, PROTO_OPEN_W);
    CHECK_OK(RIG_OP(&m->rig, commit, .ino = n->ino, .data = rig_text("some bytes"),
                    .cap_epoch = m->rig.reply.result.cap_epoch,
                    .flags = PROTO_COMMIT_HAS_DATA | PROTO_COMMIT_RELEASE));
    n->size = 10;
    touch_dir(m, n);
    written(m, n);
}

static void step_times(struct model *m, unsigned kind)
{
    static const int64_t moments[] = {0, -1, -999999999, INT64_MIN, INT64_MAX, 1700000000123456789};
    static const uint32_t ways[] = {PROTO_SET_ATIME | PROTO_SET_MTIME,
                                    PROTO_SET_ATIME,
                                    PROTO_SET_MTIME,
                                    PROTO_SET_ATIME_NOW,
                                    PROTO_SET_ATIME | PROTO_SET_MTIME_NOW,
                                    PROTO_SET_ATIME_NOW | PROTO_SET_MTIME_NOW,
                                    PROTO_SET_ATIME_NOW | PROTO_SET_MTIME_NOW,
                                    0};
    struct node *n = &m->node[any_node(m)];
    uint32_t mask = ways[rand_below(&m->rand, ARRAY_COUNT(ways))];
    bool now = mask == (PROTO_SET_ATIME_NOW | PROTO_SET_MTIME_NOW);
    int64_t atime = moments[rand_below(&m->rand, ARRAY_COUNT(moments))];
    int64_t mtime = moments[rand_below(&m->rand, ARRAY_COUNT(moments))];
    (void)fails(m, n->gone, -ENOENT);
    (void)fails(m, mask != 0 && (n->flags & PROTO_INODE_IMMUTABLE) != 0, -EPERM);
    (void)fails(m, mask != 0 && !now && is_fixed(n), -EPERM);
    (void)fails(m, mask != 0 && !now && !is_owner(m, n), -EPERM);
    if (m->expect == 0 && now && !is_owner(m, n)) {
        (void)check_rights(m, n, 2);
    }
    int rc =
        RIG_OP(&m->rig, setattr, .ino = n->ino, .mask = mask, .atime_ns = atime, .mtime_ns = mtime);
    if (settle(m, kind, rc) && mask != 0) {
        touch(m, n);
        n->atime_ns = (mask & PROTO_SET_ATIME) != 0 ? atime : n->atime_ns;
        n->mtime_ns = (mask & PROTO_SET_MTIME) != 0 ? mtime : n->mtime_ns;
        n->atime_ns = (mask & PROTO_SET_ATIME_NOW) != 0 ? m->rig.time_ns : n->atime_ns;
        n->mtime_ns = (mask & PROTO_SET_MTIME_NOW) != 0 ? m->rig.time_ns : n->mtime_ns;
    }
}

static void step_flags(struct model *m, unsigned kind)
{
    static const uint32_t ways[] = {0, 0, 0, PROTO_INODE_APPEND, PROTO_INODE_IMMUTABLE};
    size_t i = any_node(m);
    struct node *n = &m->node[i];
    uint32_t flags = i == 0 ? 0 : ways[rand_below(&m->rand, ARRAY_COUNT(ways))];
    (void)fails(m, n->gone, -ENOENT);
    (void)fails(m, m->user != 0, -EPERM);
    int rc =
        RIG_OP(&m->rig, setattr, .ino = n->ino, .mask = PROTO_SET_FLAGS, .flags = flags | 255U);
    if (rc == 0) { /* the other flags are not for clients to set */
        rc = RIG_OP(&m->rig, setattr, .ino = n->ino, .mask = PROTO_SET_FLAGS, .flags = flags);
        n->change++;
    }
    if (settle(m, kind, rc)) {
        n->flags = flags;
        touch(m, n);
    }
}

/* ---- Access control lists and extended attributes ---- */

static struct list_of any_list(struct model *m)
{
    struct list_of l = list_minimal((uint32_t)rand_below(&m->rand, 01000) |
                                    (rand_chance(&m->rand, 3, 4) ? 0700U : 0));
    bool some = rand_chance(&m->rand, 2, 3);
    l.used = true;
    for (size_t i = 0; some && i < USERS + GROUPS; i++) {
        uint8_t *to = i < USERS ? &l.user[i] : &l.named_group[i - USERS];
        *to = rand_chance(&m->rand, 1, 3) ? (uint8_t)rand_below(&m->rand, 8) : NO_ENTRY;
    }
    l.mask = some ? (uint8_t)rand_below(&m->rand, 8) : NO_ENTRY;
    return l;
}

/* The list as the attribute's value; true when somebody is named. */
static bool list_value(const struct list_of *l, uint8_t *out, size_t *ret_len)
{
    struct proto_acl_entry entry[USERS + GROUPS];
    struct proto_acl acl = {.owner = l->owner,
                            .group = l->group,
                            .other = l->other,
                            .has_mask = has_mask(l),
                            .mask = has_mask(l) ? l->mask : 0,
                            .entries = {.at = entry}};
    for (size_t i = 0; i < USERS + GROUPS; i++) {
        uint8_t perm = i < USERS ? l->user[i] : l->named_group[i - USERS];
        uint32_t id = i < USERS ? user_uid[i] : group_gid[i - USERS];
        if (perm != NO_ENTRY) {
            entry[acl.entries.count++] =
                (struct proto_acl_entry){.is_group = i >= USERS, .id = id, .perm = perm};
        }
    }
    struct wire_writer w = wire_writer_over(out, PROTO_ACL_VALUE_MAX);
    proto_acl_render(&acl, &w);
    *ret_len = w.len;
    return acl.entries.count > 0;
}

static void do_set_list(struct model *m, struct node *n, const struct list_of *l, bool inherited)
{
    bool had = inherited ? n->inherit.used : has_mask(&n->access);
    if (l == NULL && !had) {
        return;
    }
    touch(m, n);
    if (inherited) {
        n->inherit = l == NULL ? list_minimal(0) : *l;
    } else {
        n->access = l == NULL ? list_minimal(mode_of(n)) : *l;
        n->access.used = false;
        if (l != NULL) {
            leave_group(m, n);
        }
    }
}

static void step_acl(struct model *m, unsigned kind)
{
    uint8_t bytes[PROTO_ACL_VALUE_MAX];
    size_t len = 0, i = rand_chance(&m->rand, 1, 2) ? any_dir(m) : any_node(m);
    struct node *n = &m->node[i];
    struct list_of l = any_list(m);
    bool inherited = rand_chance(&m->rand, 1, 2), away = rand_chance(&m->rand, 1, 6);
    uint8_t mask = l.mask;
    l.mask = rand_chance(&m->rand, 1, 20) ? NO_ENTRY : l.mask; /* needed when anybody is named */
    bool bad = list_value(&l, bytes, &len) && !has_mask(&l);
    l.mask = bad ? mask : l.mask;
    (void)fails(m, n->gone, -ENOENT);
    (void)fails(m, bad && !away, -EINVAL);
    (void)fails(m, is_fixed(n), -EPERM);
    (void)fails(m, n->type == PROTO_INODE_SYMLINK, -EOPNOTSUPP);
    (void)fails(m, inherited && !is_dir(n) && !away, -EACCES);
    (void)fails(m, !is_owner(m, n) && (!inherited || is_dir(n)), -EPERM);
    struct proto_bytes name = rig_text(inherited ? PROTO_ACL_DEFAULT : PROTO_ACL_ACCESS);
    int rc = away ? RIG_OP(&m->rig, removexattr, .ino = n->ino, .name = name)
                  : RIG_OP(&m->rig, setxattr, .ino = n->ino, .name = name,
                           .value = proto_bytes_of(bytes, len));
    if (settle(m, kind, rc)) {
        do_set_list(m, n, away ? NULL : &l, inherited);
    }
}

static bool check_xattr(struct model *m, const struct node *n, size_t which)
{
    bool user = which < 2;
    (void)check_change(m, n);
    (void)fails(m, user && !is_dir(n) && n->type != PROTO_INODE_FILE, -EPERM);
    (void)fails(m, user && is_dir(n) && (n->special & 01000U) != 0 && !is_owner(m, n), -EPERM);
    (void)fails(m, !user && m->user != 0, -EPERM);
    return m->expect == 0 && (!user || check_rights(m, n, 2));
}

static void step_xattr(struct model *m, unsigned kind)
{
    struct node *n = &m->node[any_node(m)];
    size_t which = (size_t)rand_below(&m->rand, XATTRS), len = (size_t)rand_below(&m->rand, 7);
    bool away = rand_chance(&m->rand, 1, 4);
    uint32_t flags = rand_chance(&m->rand, 1, 2) ? (uint32_t)rand_below(&m->rand, 4) : 0;
    struct proto_bytes name = rig_text(xattr_name[which]);
    if (check_xattr(m, n, which)) {
        bool there = n->xattr[which] != 0;
        (void)fails(m, !away && there && (flags & PROTO_XATTR_CREATE) != 0, -EEXIST);
        (void)fails(m, !there && (away || (flags & PROTO_XATTR_REPLACE) != 0), -ENODATA);
    }
    int rc = away ? RIG_OP(&m->rig, removexattr, .ino = n->ino, .name = name)
                  : RIG_OP(&m->rig, setxattr, .ino = n->ino, .name = name, .flags = flags,
                           .value = proto_bytes_of("abcdef", len));
    if (settle(m, kind, rc)) {
        n->xattr[which] = away ? 0 : (uint8_t)(len + 1);
        touch(m, n);
    }
}

/* ---- Questions ---- */

static void ask_open(struct model *m, unsigned kind)
{
    struct proto_open_reply reply;
    const struct node *n = &m->node[any_node(m)];
    uint8_t access = (uint8_t)rand_below(&m->rand, 4);
    bool write = (access & PROTO_RIGHT_WRITE) != 0, append = rand_chance(&m->rand, 1, 2);
    (void)fails(m, n->gone, -ENOENT);
    (void)fails(m, write && is_dir(n), -EISDIR);
    (void)check_rights(m, n, ((access & PROTO_RIGHT_READ) != 0 ? 4U : 0) | (write ? 2U : 0));
    (void)fails(m, write && !append && (n->flags & PROTO_INODE_APPEND) != 0, -EPERM);
    (void)settle(
        m, kind,
        RIG_QUERY(&m->rig, open, &reply, .ino = n->ino, .access = access, .append = append));
}

static void ask_list(struct model *m, unsigned kind)
{
    struct proto_readdir_reply page;
    const struct node *dir = &m->node[any_dir(m)];
    (void)fails(m, dir->gone, -ENOENT);
    (void)fails(m, !is_dir(dir), -ENOTDIR);
    (void)check_rights(m, dir, 4);
    (void)settle(m, kind, RIG_QUERY(&m->rig, readdir, &page, .ino = dir->ino));
}

static void ask_name(struct model *m, unsigned kind)
{
    struct proto_lookup_reply found;
    size_t d = any_dir(m), name = (size_t)rand_below(&m->rand, NAMES);
    const struct node *dir = &m->node[d];
    (void)check_search(m, dir);
    int rc = RIG_QUERY(&m->rig, lookup, &found, .parent = dir->ino, .name = name_of(name));
    if (settle(m, kind, rc)) {
        const struct entry *e = find_entry(m, d, name);
        CHECK_EQ(found.attr.ino, e == NULL ? 0 : m->node[e->node].ino);
    }
}

static void ask_xattr(struct model *m, unsigned kind)
{
    struct proto_getxattr_reply reply;
    const struct node *n = &m->node[any_node(m)];
    size_t which = (size_t)rand_below(&m->rand, XATTRS);
    (void)fails(m, n->gone, -ENOENT);
    (void)fails(m, which == 2 && m->user != 0, -ENODATA);
    (void)fails(m, which < 2 && !is_dir(n) && n->type != PROTO_INODE_FILE, -ENODATA);
    if (m->expect == 0 && (which >= 2 || check_rights(m, n, 4))) {
        (void)fails(m, n->xattr[which] == 0, -ENODATA);
    }
    int rc =
        RIG_QUERY(&m->rig, getxattr, &reply, .ino = n->ino, .name = rig_text(xattr_name[which]));
    if (settle(m, kind, rc)) {
        CHECK_EQ(reply.value.len, n->xattr[which] - 1);
    }
}

/* ---- Trash ---- */

static void step_keep(struct model *m, unsigned kind)
{
    static const uint32_t times[] = {0, 50, 100, PROTO_RETENTION_NONE};
    struct node *n = &m->node[rand_chance(&m->rand, 1, 4) ? any_node(m) : any_dir(m)];
    uint32_t s = times[rand_below(&m->rand, ARRAY_COUNT(times))];
    (void)fails(m, n->gone, -ENOENT);
    (void)fails(m, !is_dir(n), -ENOTDIR);
    (void)check_change(m, n);
    (void)fails(m, !is_owner(m, n), -EPERM);
    int rc = RIG_OP(&m->rig, setattr, .ino = n->ino, .mask = PROTO_SET_RETENTION, .retention_s = s);
    if (settle(m, kind, rc)) {
        n->retention_s = s;
        touch(m, n);
    }
}

/* Mostly one that is in the trash. */
static size_t any_trash(struct model *m)
{
    size_t i = any_node(m);
    for (int tries = 0; tries < 200 && !m->node[i].trash; tries++) {
        i = any_node(m);
    }
    return i;
}

static void step_restore(struct model *m, unsigned kind)
{
    size_t i = any_trash(m), d = any_dir(m), name = (size_t)rand_below(&m->rand, NAMES);
    struct node *n = &m->node[i], *dir = &m->node[d];
    (void)fails(m, !n->trash, -ENOENT);
    (void)fails(m, !is_owner(m, n), -EPERM);
    if (m->expect == 0 && check_search(m, dir)) {
        (void)fails(m, find_entry(m, d, name) != NULL, -EEXIST);
        (void)check_rights(m, dir, 2);
    }
    int rc =
        RIG_OP(&m->rig, trash_restore, .ino = n->ino, .parent = dir->ino, .name = name_of(name));
    if (settle(m, kind, rc)) {
        n->nlink = 1;
        n->trash = n->kept[0] = n->kept[1] = false;
        touch(m, n);
        touch_dir(m, dir);
        add_entry(m, d, name, i);
    }
}

static void step_purge(struct model *m, unsigned kind)
{
    uint64_t inos[2];
    size_t at[2] = {any_node(m), any_trash(m)};
    size_t count = m->node[at[0]].ino < m->node[at[1]].ino ? 2 : 1;
    for (size_t i = 0; i < count; i++) {
        const struct node *n = &m->node[at[i]];
        inos[i] = n->ino;
        (void)fails(m, n->trash && !is_owner(m, n), -EPERM);
    }
    int rc = RIG_OP(&m->rig, trash_purge, .inos = {.at = inos, .count = count});
    bool done = settle(m, kind, rc);
    for (size_t i = 0; done && i < count; i++) {
        trash_over(m, &m->node[at[i]]);
    }
}

/* ---- All of it ---- */

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

static void compare_attr(const struct proto_attr *a, const struct node *n)
{
    uint32_t lists = (has_mask(&n->access) ? PROTO_INODE_HAS_ACL : 0) |
                     (n->inherit.used ? PROTO_INODE_HAS_DEFAULT_ACL : 0);
    CHECK_EQ(a->type, n->type);
    CHECK_EQ(a->mode, mode_of(n));
    CHECK_EQ(a->uid, n->uid);
    CHECK_EQ(a->gid, n->gid);
    CHECK_EQ(a->nlink, n->nlink);
    CHECK_EQ(a->size, n->size);
    CHECK_EQ(a->change, n->change);
    CHECK_EQ(a->atime_ns, n->atime_ns);
    CHECK_EQ(a->mtime_ns, n->mtime_ns);
    CHECK_EQ(a->ctime_ns, n->ctime_ns);
    CHECK_EQ(a->btime_ns, n->btime_ns);
    CHECK_EQ(a->generation, n->generation);
    CHECK_EQ(a->flags & (PROTO_INODE_IMMUTABLE | PROTO_INODE_APPEND), n->flags);
    CHECK_EQ(a->flags & (PROTO_INODE_HAS_ACL | PROTO_INODE_HAS_DEFAULT_ACL), lists);
}

static void compare_list(struct model *m, const struct node *n, bool inherited)
{
    struct proto_getxattr_reply reply;
    uint8_t bytes[PROTO_ACL_VALUE_MAX];
    size_t len = 0;
    const struct list_of *l = inherited ? &n->inherit : &n->access;
    bool there = inherited ? l->used : has_mask(l);
    int rc = RIG_QUERY(&m->rig, getxattr, &reply, .ino = n->ino,
                       .name = rig_text(inherited ? PROTO_ACL_DEFAULT : PROTO_ACL_ACCESS));
    if (n->type == PROTO_INODE_SYMLINK) {
        CHECK_RC(rc, EOPNOTSUPP);
        return;
    }
    CHECK_EQ(rc, there ? 0 : -ENODATA);
    if (there) {
        (void)list_value(l, bytes, &len);
        CHECK_EQ(reply.value.len, len);
        CHECK_BYTES(reply.value.at, bytes, len);
    }
}

static void compare_xattrs(struct model *m, const struct node *n)
{
    struct proto_listxattr_reply reply;
    size_t len = 0;
    CHECK_OK(RIG_QUERY(&m->rig, listxattr, &reply, .ino = n->ino));
    len += has_mask(&n->access) ? sizeof PROTO_ACL_ACCESS : 0;
    len += n->inherit.used ? sizeof PROTO_ACL_DEFAULT : 0;
    for (size_t i = 0; i < XATTRS; i++) {
        len += n->xattr[i] != 0 ? strlen(xattr_name[i]) + 1 : 0;
    }
    CHECK_EQ(reply.names.len, len);
}

static void compare_node(struct model *m, const struct node *n)
{
    struct proto_getattr_reply reply;
    int rc = RIG_QUERY(&m->rig, getattr, &reply, .ino = n->ino);
    CHECK_EQ(rc, n->gone ? -ENOENT : 0);
    if (rc == 0) {
        compare_attr(&reply.attr, n);
        compare_list(m, n, false);
        compare_list(m, n, true);
        compare_xattrs(m, n);
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
    m->rig.op = m->op[0];
    m->rig.op.cred = m->cred[0][0];
    trash_compare(m);
    for (size_t i = 0; i < m->node_count; i++) {
        const struct node *n = &m->node[i];
        compare_node(m, n);
        for (size_t name = 0; !n->gone && is_dir(n) && name < NAMES; name++) {
            compare_name(m, i, name);
        }
    }
    fsck(&m->rig);
}

static void model_open(struct model *m)
{
    rig_open(&m->rig);
    rand_seed(&m->rand, testing_seed());
    open_session(m, 0, 1);
    open_session(m, 1, 2);
    struct proto_getattr_reply reply;
    CHECK_OK(RIG_QUERY(&m->rig, getattr, &reply, .ino = PROTO_ROOT_INO));
    m->node[0] = (struct node){.ino = PROTO_ROOT_INO,
                               .type = PROTO_INODE_DIRECTORY,
                               .access = list_minimal(0755),
                               .inherit = list_minimal(0),
                               .generation = reply.attr.generation,
                               .atime_ns = reply.attr.btime_ns,
                               .mtime_ns = reply.attr.btime_ns,
                               .ctime_ns = reply.attr.btime_ns,
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
