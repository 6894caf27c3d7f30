/*
 * namespace/rig_rights_priv.h -- for tests of rights: people, files with modes, values of access
 * control lists. Alice is in group 7 too, bob in 8; carol in neither.
 */
#pragma once

#include "namespace/rig_cluster_priv.h"

enum rig_person { RIG_ROOT, RIG_ALICE, RIG_BOB, RIG_CAROL };
static const uint32_t rig_uid[] = {0, 1000, 1001, 1002}, rig_gid[] = {0, 100, 101, 102},
                      rig_group[] = {0, 7, 8, 0};

struct rights {
    struct rig r;
    uint32_t cred[4];
    uint8_t value[PROTO_ACL_VALUE_MAX];
};

/* Who does what comes next. */
static inline struct rig *rights_as(struct rights *t, enum rig_person who)
{
    t->r.op.cred = t->cred[who];
    return &t->r;
}

/* What comes first root does. */
static inline struct rig *rights_open(struct rights *t)
{
    rig_open(&t->r);
    for (size_t i = 0; i < ARRAY_COUNT(t->cred); i++) {
        t->cred[i] = rig_cred(&t->r, t->r.op.session, rig_uid[i], rig_gid[i], rig_group[i]);
    }
    return rights_as(t, RIG_ROOT);
}

static inline uint64_t rights_make(struct rig *r, uint64_t parent, const char *name,
                                   enum proto_inode_type type, uint32_t mode)
{
    CHECK_OK(RIG_OP(r, create, .parent = parent, .name = rig_text(name), .type = (uint8_t)type,
                    .mode = mode, .target = rig_text(type == PROTO_INODE_SYMLINK ? "to" : ""),
                    .flags = PROTO_CREATE_EXCLUSIVE));
    return r->reply.result.ino;
}

static inline struct proto_attr rights_attr(struct rig *r, uint64_t ino)
{
    struct proto_getattr_reply reply;
    CHECK_OK(RIG_QUERY(r, getattr, &reply, .ino = ino));
    return reply.attr;
}

static inline int rights_chmod(struct rig *r, uint64_t ino, uint32_t mode)
{
    return RIG_OP(r, setattr, .ino = ino, .mask = PROTO_SET_MODE, .mode = mode);
}

static inline int rights_chown(struct rig *r, uint64_t ino, uint32_t uid, uint32_t gid)
{
    return RIG_OP(r, setattr, .ino = ino, .mask = PROTO_SET_UID | PROTO_SET_GID, .uid = uid,
                  .gid = gid);
}

/* What is granted to open a file; for directories: to list. 0, -EACCES ... */
static inline int rights_open_file(struct rig *r, uint64_t ino, uint8_t access)
{
    struct proto_open_reply reply;
    return RIG_QUERY(r, open, &reply, .ino = ino, .access = access);
}

static inline struct proto_bytes rights_value(struct rights *t, const struct proto_acl *acl)
{
    struct wire_writer w = wire_writer_over(t->value, sizeof t->value);
    proto_acl_render(acl, &w);
    return proto_bytes_of(t->value, w.len);
}

/* rights_acl(&t, ino, false, .owner = 7, .group = 5, RIGHTS_NAMED({false, 1000, 4})) */
#define RIGHTS_NAMED(...)                                                                    \
    .has_mask = true, .entries = {.at = (struct proto_acl_entry[]){__VA_ARGS__},             \
                                  .count = sizeof((struct proto_acl_entry[]){__VA_ARGS__}) / \
                                           sizeof(struct proto_acl_entry)}
#define rights_acl(t, inode, is_default, ...)                                         \
    ({                                                                                \
        struct proto_acl rights_list = {__VA_ARGS__};                                 \
        RIG_OP(&(t)->r, setxattr, .ino = (inode),                                     \
               .name = rig_text((is_default) ? PROTO_ACL_DEFAULT : PROTO_ACL_ACCESS), \
               .value = rights_value((t), &rights_list));                             \
    })

/* 1 and the list as getxattr shows it; 0: there is none. */
static inline int rights_get_acl(struct rig *r, uint64_t ino, bool is_default,
                                 struct proto_acl *ret)
{
    struct proto_getxattr_reply reply;
    int rc = RIG_QUERY(r, getxattr, &reply, .ino = ino,
                       .name = rig_text(is_default ? PROTO_ACL_DEFAULT : PROTO_ACL_ACCESS));
    if (rc == -ENODATA) {
        return 0;
    }
    CHECK_OK(rc);
    CHECK_EQ(proto_acl_parse(reply.value.at, reply.value.len, &r->arena, ret, NULL), 1);
    return 1;
}
