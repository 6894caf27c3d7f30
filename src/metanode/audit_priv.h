/*
 * metanode/audit_priv.h -- the leader's look for data that belongs to nothing: see audit.c; what
 * is known of looks, for people: audit_told.c. Thread of the loop.
 */
#pragma once

#include "base/text.h"
#include "loop/loop.h"
#include "metanode/read.h"
#include "namespace/used.h"
#include "peer/link.h"

struct metanode;
struct peer_request;
struct peer_user;

#define METANODE_AUDIT_PAGE 2048u /* entries that a target names at a time */
#define METANODE_AUDIT_WAIT_MS (UINT64_C(24) * 3600 * 1000)
#define METANODE_LEAPS_TOLD 32u

/* What the log knows of looks, as of the last read. */
struct metanode_audit_known {
    bool known;
    struct namespace_audit audit; /* `missed` lies in this structure, */
    uint32_t missed[64];
    bool begun; /* there was one at all */
    uint64_t suspects;
    size_t leap_count; /* all; those that are told are in `leap` */
    struct namespace_leap leap[METANODE_LEAPS_TOLD];
    uint64_t leap_first[METANODE_LEAPS_TOLD];
};
struct metanode_auditing; /* a look */
struct metanode_audits {
    struct metanode *m;
    struct metanode_auditing *look;
    struct metanode_audit_known now;
    struct metanode_read read;
    bool reading, again, stopped;
    bool beginning; /* what begins a look is on its way into the log */
};

int metanode_audit_init(struct metanode *m);
void metanode_audit_fini(struct metanode *m);
void metanode_audit_stop(struct metanode *m);
/* A look is under way in this server. */
bool metanode_audit_goes_on(const struct metanode *m);
/* It has been begun in the log. -ENOMEM. */
int metanode_audit_go(struct metanode *m, uint64_t look);

/* audit_told.c */
/* What the log knows has changed, or this server leads now. */
void metanode_audit_touch(struct metanode *m);
void metanode_audit_json(const struct metanode *m, struct text *out);
/* A sentence about orphans, and the code for it; number `place` of them. False: there is none. */
bool metanode_audit_words(const struct metanode *m, size_t place, struct text *out,
                          const char **ret_code);
void metanode_audit(struct peer_user *u, struct peer_request *r); /* an administrator's request */
