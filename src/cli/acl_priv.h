/*
 * cli/acl_priv.h -- the text of access control lists, as setfacl(1) and getfacl(1) have it. No I/O
 * but the machine's own list of users. Plain values, no owner.
 */
#pragma once

#include "cli/cli.h"
#include "proto/acl.h"

/* A list that can be changed, with room for one entry more than may be stored. */
struct cli_acl {
    bool present; /* of default lists; an access list is always there */
    struct proto_acl list;
    struct proto_acl_entry entry[PROTO_ACL_ENTRIES_MAX + 1];
};
struct cli_acls {
    struct cli_acl access, inherit; /* inherit: the default list */
    bool directory;
    bool pass_over; /* entries of a default list, when it is no directory */
};
/* From an attribute's value, or, with no value, from a mode (access lists). -EINVAL ...: as
 * proto_acl_parse(). */
NODISCARD int cli_acl_load(struct cli_acl *acl, const void *value, size_t len, uint32_t mode,
                           struct err *e);
/* The attribute's value. Returns its length. */
size_t cli_acl_value(const struct cli_acl *acl, uint8_t out[PROTO_ACL_VALUE_MAX]);

/*
 * "u:alice:rwx,g::r-x,m::r,o::-,d:u:1000:rX": sets these entries (setfacl -m), or removes them
 * (`remove`, setfacl -x: "u:alice,d:g:staff,m"). `defaults`: all of them are of the default list.
 * The mask is computed anew unless it is named. -EINVAL; `e` says what is wrong with which entry.
 */
NODISCARD int cli_acl_change(struct cli_acls *a, const char *spec, bool remove, bool defaults,
                             struct err *e);
/* No names and no mask any more; the default list goes (setfacl -b). */
void cli_acl_strip(struct cli_acls *a);

/* One line per entry, "user:alice:r-x\t#effective:r--\n", each after `prefix`. */
void cli_acl_to_text(const struct proto_acl *acl, bool numeric, const char *prefix,
                     void (*line)(void *context, const char *text), void *context);
/* "rwx" */
#define CLI_ACL_PERM_SIZE 4u
const char *cli_acl_perm_to_text(uint8_t perm, char out[CLI_ACL_PERM_SIZE]);

/* The commands: acl.c, acl_set.c. */
int cli_run_getfacl(struct cli *c);
int cli_run_setfacl(struct cli *c);
extern const struct cli_option cli_getfacl_options[], cli_setfacl_options[];
