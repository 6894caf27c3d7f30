/*
 * namespace/model_ask_priv.h -- for model_test.c: questions, each with the answer or the error that
 * the model gives.
 */
#pragma once

#include "namespace/model_entry_priv.h"

static inline void ask_open(struct model *m, unsigned kind)
{
    struct proto_open_reply reply;
    const struct node *n = &m->node[any_node(m)];
    uint8_t access = (uint8_t)rand_below(&m->rand, 4);
    bool write = (access & PROTO_RIGHT_WRITE) != 0, append = rand_chance(&m->rand, 1, 2);
    (void)fails(m, n->gone, -ENOENT);
    (void)fails(m, write && is_dir(n), -EISDIR);
    (void)check_rights(m, n, ((access & PROTO_RIGHT_READ) != 0 ? 4U : 0) | (write ? 2U : 0));
    (void)fails(m, write && !append && (n->flags & PROTO_INODE_APPEND) != 0, -EPERM);
    (void)fails(m, n->nlink == 0 && !n->kept[m->session], -ESTALE);
    (void)settle(
        m, kind,
        RIG_QUERY(&m->rig, open, &reply, .ino = n->ino, .access = access, .append = append));
}

static inline void ask_list(struct model *m, unsigned kind)
{
    struct proto_readdir_reply page;
    const struct node *dir = &m->node[any_dir(m)];
    (void)fails(m, dir->gone, -ENOENT);
    (void)fails(m, !is_dir(dir), -ENOTDIR);
    (void)check_rights(m, dir, 4);
    (void)settle(m, kind, RIG_QUERY(&m->rig, readdir, &page, .ino = dir->ino));
}

static inline void ask_name(struct model *m, unsigned kind)
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

static inline void ask_xattr(struct model *m, unsigned kind)
{
    struct proto_getxattr_reply reply;
    const struct node *n = &m->node[any_node(m)];
    size_t which = (size_t)rand_below(&m->rand, XATTRS);
    unsigned tries = rand_chance(&m->rand, 1, 2) ? 50 : 0; /* rather one that is there */
    for (; tries > 0 && (n->gone || n->xattr[which] == 0); tries--) {
        n = &m->node[any_node(m)];
    }
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
