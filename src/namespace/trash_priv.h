/* namespace/trash_priv.h -- what the other plans need of trash.c. */
#pragma once

#include "namespace/plan_priv.h"

/* The last name of `h` is gone: 1: it is kept; 0: no retention holds there. */
int namespace_trash_put(struct namespace_plan *p, struct namespace_held *h, uint64_t parent,
                        struct proto_bytes name);
int namespace_trash_take(struct namespace_plan *p, struct namespace_held *h);
/* It has another owner now, and may be in the trash. */
int namespace_trash_chown(struct namespace_plan *p, const struct namespace_held *h,
                          uint32_t old_uid);
void namespace_trash_set_retention(struct namespace_plan *p, struct namespace_inode *n,
                                   uint32_t retention_s);
int namespace_trash_restore(struct namespace_plan *p, const struct proto_trash_restore_request *r);
int namespace_trash_purge(struct namespace_plan *p, const struct proto_trash_purge_request *r);
int namespace_trash_expire(struct namespace_plan *p, const struct namespace_trash_expire *r);
