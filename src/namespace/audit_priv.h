/*
 * namespace/audit_priv.h -- commands about data that belongs to nothing (audit.c), and the record
 * of data ids that were leapt over, which a restore writes, too.
 */
#pragma once

#include "namespace/plan_priv.h"

/* From now on every leap over data ids is a record; what was given before is one, too, if there
 * may have been a leap that nobody has written down. */
int namespace_leaps_begin(struct namespace_plan *p);
/* Data ids from `first` to `last` are not given by this state, but perhaps by another one. */
int namespace_leap_put(struct namespace_plan *p, uint64_t first, const struct namespace_leap *l);

int namespace_audit_start(struct namespace_plan *p, const struct namespace_audit_begin *r);
int namespace_audit_judge(struct namespace_plan *p, const struct namespace_audit_found *r);
int namespace_audit_finish(struct namespace_plan *p, const struct namespace_audit_end *r);
int namespace_audit_let_go(struct namespace_plan *p, const struct namespace_audit_release *r);
