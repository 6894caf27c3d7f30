/*
 * namespace/model_names_priv.h -- for model_test.c: operations that make and take names away.
 */
#pragma once

#include "namespace/model_entry_priv.h"

/* What a new inode gets from the directory and from who makes it. */
static inline void inherit(struct model *m, const struct node *dir, struct node *n, uint32_t mode,
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

static inline void made(struct model *m, size_t d, size_t name, const struct node *like,
                        uint32_t mode, uint32_t umask)
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

static inline void step_create(struct model *m, unsigned kind)
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

static inline void step_link(struct model *m, unsigned kind)
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

static inline int remove_name(struct model *m, size_t d, size_t name, bool rmdir, bool open)
{
    uint64_t ino = m->node[d].ino;
    return rmdir ? RIG_OP(&m->rig, rmdir, .parent = ino, .name = name_of(name))
                 : RIG_OP(&m->rig, unlink, .parent = ino, .name = name_of(name), .is_open = open);
}

static inline void step_remove(struct model *m, unsigned kind)
{
    size_t d = any_dir(m), name = (size_t)rand_below(&m->rand, NAMES);
    bool rmdir = rand_chance(&m->rand, 1, 3), open = rand_chance(&m->rand, 1, 3);
    if (rand_chance(&m->rand, 3, 4)) {
        any_name(m, &d, &name);
    }
    struct node *dir = &m->node[d];
    struct entry *e = find_entry(m, d, name);
    if (e != NULL && rand_chance(&m->rand, 7, 8)) {
        rmdir = is_dir(&m->node[e->node]);
    }
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
