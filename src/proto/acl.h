/*
 * proto/acl.h -- POSIX access control lists as Linux passes them around: the values of the extended
 * attributes system.posix_acl_access and system.posix_acl_default (version 2; numbers are
 * little-endian, a u32 version, then per entry u16 tag, u16 rights, u32 id).
 *
 * struct proto_acl is one taken apart. Plain values, no owner, any thread, no I/O.
 */
#pragma once

#include "proto/proto.h"

#define PROTO_ACL_ACCESS "system.posix_acl_access"
#define PROTO_ACL_DEFAULT "system.posix_acl_default"
#define PROTO_ACL_ENTRIES_MAX 1024u /* of named users and groups */
#define PROTO_ACL_VALUE_MAX (4u + 8u * (PROTO_ACL_ENTRIES_MAX + 4u))

/*
 * Takes a value apart; the entries are in `a`. Accepted is what Linux accepts: owner, named users,
 * owning group, named groups, mask, others in this order, the mask present when anybody is named.
 * 1: a list; 0: a value without entries, which means to have no list. -EINVAL: malformed;
 * -EOPNOTSUPP: another version; -ENOSPC: more than PROTO_ACL_ENTRIES_MAX; -ENOMEM. `e` (may be
 * NULL) says what is wrong with which entry.
 */
NODISCARD int proto_acl_parse(const void *value, size_t len, struct mem_arena *a,
                              struct proto_acl *ret, struct err *e);
/* Appends the value to `w`, which has room for proto_acl_value_bytes(). */
void proto_acl_render(const struct proto_acl *acl, struct wire_writer *w);
size_t proto_acl_value_bytes(const struct proto_acl *acl);
