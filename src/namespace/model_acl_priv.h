/*
 * namespace/model_acl_priv.h -- for model_test.c: operations on access control lists and
 * extended attributes.
 */
#pragma once

#include "namespace/model_attr_priv.h"

static inline struct list_of any_list(struct model *m)
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
static inline bool list_value(const struct list_of *l, uint8_t *out, size_t *ret_len)
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

static inline void do_set_list(struct model *m, struct node *n, const struct list_of *l,
                               bool inherited)
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

static inline void step_acl(struct model *m, unsigned kind)
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

static inline bool check_xattr(struct model *m, const struct node *n, size_t which)
{
    bool user = which < 2;
    (void)check_change(m, n);
    (void)fails(m, user && !is_dir(n) && n->type != PROTO_INODE_FILE, -EPERM);
    (void)fails(m, user && is_dir(n) && (n->special & 01000U) != 0 && !is_owner(m, n), -EPERM);
    (void)fails(m, !user && m->user != 0, -EPERM);
    return m->expect == 0 && (!user || check_rights(m, n, 2));
}

static inline void step_xattr(struct model *m, unsigned kind)
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
