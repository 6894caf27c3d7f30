/* cli/acl.c -- getfacl: access control lists of files. */
#include "cli/acl_priv.h"
#include "cli/cli_priv.h"
#include "cli/mode_priv.h"
#include "opendfs/xattr.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

const struct cli_option cli_getfacl_options[] = {
    {"access", 'a', NULL, "the access list only"},
    {"default", 'd', NULL, "the default list only"},
    {"omit-header", 'c', NULL, "without the lines of path, owner and group"},
    {"numeric", 'n', NULL, "numbers of users and groups instead of names"},
    {NULL, 0, NULL, NULL},
};

/* The lists of one file. */
struct acl_file {
    struct cli *c;
    const char *path;
    struct opendfs_stat stat;
    struct cli_acls now;
    uint8_t value[PROTO_ACL_VALUE_MAX];
};

static int load_list(struct acl_file *f, const char *name, struct cli_acl *acl)
{
    struct err e = {0};
    int64_t len = opendfs_getxattr(f->c->fs, f->path, name, f->value, sizeof f->value);
    if (len < 0 && len != -ENODATA) {
        return cli_fail_op(f->c, NULL);
    }
    int rc = cli_acl_load(acl, f->value, len < 0 ? 0 : (size_t)len, f->stat.mode, &e);
    return rc < 0 ? cli_fail(f->c, "%s: %s", f->path, err_message(&e, rc)) : 0;
}

static int load(struct acl_file *f)
{
    if (opendfs_stat(f->c->fs, f->path, &f->stat) < 0) {
        return cli_fail_op(f->c, NULL);
    }
    f->now.directory = f->stat.type == OPENDFS_TYPE_DIRECTORY;
    int status = load_list(f, PROTO_ACL_ACCESS, &f->now.access);
    if (status == 0 && f->now.directory) {
        status = load_list(f, PROTO_ACL_DEFAULT, &f->now.inherit);
    }
    return status;
}

static void print_line(void *context, const char *text)
{
    (void)context;
    printf("%s\n", text);
}

static void print_header(const struct acl_file *f, bool numeric)
{
    char owner[CLI_OWNER_SIZE], flags[] = "---";
    CLEANUP(mem_freep) char *shown = mem_alloc(strlen(f->path) + 1);
    if (shown != NULL) {
        cli_printable(f->path, strlen(f->path), shown);
    }
    printf("# file: %s\n", shown == NULL ? "?" : shown);
    printf("# owner: %s\n", cli_user_to_text(f->stat.uid, numeric, owner));
    printf("# group: %s\n", cli_group_to_text(f->stat.gid, numeric, owner));
    for (unsigned i = 0; i < 3; i++) {
        flags[i] = (char)((f->stat.mode & (04000U >> i)) != 0 ? "sst"[i] : '-');
    }
    if ((f->stat.mode & 07000U) != 0) {
        printf("# flags: %s\n", flags);
    }
}

static void add_entry(struct cJSON *array, const char *kind, int64_t id, uint8_t perm)
{
    char text[CLI_ACL_PERM_SIZE];
    struct cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "kind", kind);
    if (id >= 0) {
        cJSON_AddNumberToObject(o, "id", (double)id);
    }
    cJSON_AddStringToObject(o, "rights", cli_acl_perm_to_text(perm, text));
    cJSON_AddItemToArray(array, o);
}

static struct cJSON *list_to_json(const struct proto_acl *acl)
{
    struct cJSON *array = cJSON_CreateArray();
    add_entry(array, "user", -1, acl->owner);
    add_entry(array, "group", -1, acl->group);
    for (size_t i = 0; i < acl->entries.count; i++) {
        const struct proto_acl_entry *e = &acl->entries.at[i];
        add_entry(array, e->is_group ? "group" : "user", e->id, e->perm);
    }
    if (acl->has_mask) {
        add_entry(array, "mask", -1, acl->mask);
    }
    add_entry(array, "other", -1, acl->other);
    return array;
}

static int show(struct acl_file *f)
{
    bool access = cli_flag(f->c, "access"), inherit = cli_flag(f->c, "default");
    bool numeric = cli_flag(f->c, "numeric"), both = access == inherit;
    if (f->c->json) {
        struct cJSON *o = cli_stat_to_json(f->path, &f->stat);
        if (both || access) {
            cJSON_AddItemToObject(o, "access", list_to_json(&f->now.access.list));
        }
        if ((both || inherit) && f->now.inherit.present) {
            cJSON_AddItemToObject(o, "default", list_to_json(&f->now.inherit.list));
        }
        cli_print_json(o);
        return 0;
    }
    if (!cli_flag(f->c, "omit-header")) {
        print_header(f, numeric);
    }
    if (both || access) {
        cli_acl_to_text(&f->now.access.list, numeric, "", print_line, NULL);
    }
    if ((both || inherit) && f->now.inherit.present) {
        const char *prefix = both ? "default:" : "";
        cli_acl_to_text(&f->now.inherit.list, numeric, prefix, print_line, NULL);
    }
    printf("\n");
    return 0;
}

int cli_run_getfacl(struct cli *c)
{
    int status = cli_connect(c);
    CLEANUP(mem_freep) struct acl_file *f = mem_zalloc(sizeof *f);
    if (status != 0 || f == NULL) {
        return status != 0 ? status : cli_fail(c, "%s", err_text(-ENOMEM));
    }
    for (size_t i = 0; i < c->argument_count && status != CLI_EXIT_USAGE; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument[i]);
        if (path == NULL) {
            return CLI_EXIT_USAGE;
        }
        memset(f, 0, sizeof *f);
        f->c = c;
        f->path = path;
        int rc = load(f);
        rc = rc == 0 ? show(f) : rc;
        status = rc != 0 ? rc : status;
    }
    return status;
}
