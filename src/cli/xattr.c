/* cli/xattr.c -- getfattr, setfattr: extended attributes; the table of these and of acl.c. */
#include "opendfs/xattr.h"
#include "cli/acl_priv.h"
#include "cli/cli_priv.h"
#include "cli/tables_priv.h"

#include "base/text.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#define NAMES_MAX 65536u
#define VALUE_MAX 65536u

/* What is shown of one file. */
struct xattr_file {
    struct cli *c;
    const char *path;
    struct cJSON *json; /* array of attributes; NULL: text */
    bool header;        /* its line is printed */
    char names[NAMES_MAX], value[VALUE_MAX];
};

/* ---- getfattr ---- */

/* Can it be shown between quotes? */
static bool is_text(const char *value, size_t len)
{
    size_t at = 0;
    while (at < len) {
        size_t n = text_utf8_len(value + at, len - at);
        if (n == 0 || (uint8_t)value[at] < 0x20 || value[at] == 0x7f) {
            return false;
        }
        at += n;
    }
    return true;
}

static void print_value(const char *name, const char *value, size_t len)
{
    bool text = is_text(value, len);
    printf("%s=%s", name, text ? "\"" : "0x");
    for (size_t i = 0; i < len; i++) {
        if (!text) {
            printf("%02x", (uint8_t)value[i]);
        } else {
            printf(value[i] == '"' || value[i] == '\\' ? "\\%c" : "%c", value[i]);
        }
    }
    printf("%s\n", text ? "\"" : "");
}

static void add_value(struct cJSON *array, const char *name, const char *value, size_t len)
{
    struct cJSON *o = cJSON_CreateObject();
    CLEANUP(mem_freep) char *text = mem_alloc(2 * len + 1);
    cJSON_AddStringToObject(o, "name", name);
    if (text != NULL && is_text(value, len)) {
        if (len > 0) {
            memcpy(text, value, len);
        }
        text[len] = 0;
        cJSON_AddStringToObject(o, "value", text);
    } else if (text != NULL) {
        text_hex(text, value, len);
        cJSON_AddStringToObject(o, "value_hex", text);
    }
    cJSON_AddItemToArray(array, o);
}

static void print_name(struct xattr_file *f, const char *name, const char *value, size_t len)
{
    char shown[1024];
    if (f->json != NULL) {
        add_value(f->json, name, value, len);
        return;
    }
    if (!f->header) {
        CLEANUP(mem_freep) char *path = mem_alloc(strlen(f->path) + 1);
        if (path != NULL) {
            cli_printable(f->path, strlen(f->path), path);
        }
        printf("# file: %s\n", path == NULL ? "?" : path);
        f->header = true;
    }
    cli_printable(name, base_min(strlen(name), sizeof shown - 1), shown);
    if (value == NULL) {
        printf("%s\n", shown);
    } else {
        print_value(shown, value, len);
    }
}

static int64_t get_value(struct xattr_file *f, const char *name)
{
    return cli_flag(f->c, "no-dereference")
               ? opendfs_lgetxattr(f->c->fs, f->path, name, f->value, sizeof f->value)
               : opendfs_getxattr(f->c->fs, f->path, name, f->value, sizeof f->value);
}

/* `any`: it may have gone since its name was read. */
static int show_one(struct xattr_file *f, const char *name, bool any)
{
    int64_t len = get_value(f, name);
    if (len == -ENODATA && any) {
        return 0;
    }
    if (len < 0) {
        return cli_fail(f->c, "%s: %s: %s", f->path, name, opendfs_error_text((int)len));
    }
    print_name(f, name, f->value, (size_t)len);
    return 0;
}

static int show_all(struct xattr_file *f)
{
    const char *prefix = cli_value(f->c, "match");
    prefix = prefix == NULL ? "user." : strcmp(prefix, "-") == 0 ? "" : prefix;
    bool values = cli_flag(f->c, "dump") || f->json != NULL;
    int64_t len = cli_flag(f->c, "no-dereference")
                      ? opendfs_llistxattr(f->c->fs, f->path, f->names, sizeof f->names)
                      : opendfs_listxattr(f->c->fs, f->path, f->names, sizeof f->names);
    if (len < 0) {
        return cli_fail_op(f->c, NULL);
    }
    int status = 0;
    for (const char *name = f->names; name < f->names + len; name += strlen(name) + 1) {
        if (strncmp(name, prefix, strlen(prefix)) != 0) {
            continue;
        }
        if (!values) {
            print_name(f, name, NULL, 0);
        } else if (show_one(f, name, true) != 0) {
            status = CLI_EXIT_FAILED;
        }
    }
    return status;
}

static int show_file(struct xattr_file *f)
{
    const char *name = cli_value(f->c, "name");
    f->json = f->c->json ? cJSON_CreateArray() : NULL;
    f->header = false;
    int status = name != NULL ? show_one(f, name, false) : show_all(f);
    if (f->json != NULL) {
        struct cJSON *o = cJSON_CreateObject();
        cli_json_add_name(o, "path", f->path);
        cJSON_AddItemToObject(o, "attributes", f->json);
        cli_print_json(o);
    } else if (f->header) {
        printf("\n");
    }
    return status;
}

/* Calls `one` with each file of the command line. */
static int each(struct cli *c, int (*one)(struct xattr_file *f))
{
    int status = cli_connect(c);
    CLEANUP(mem_freep) struct xattr_file *f = mem_zalloc(sizeof *f);
    if (status != 0 || f == NULL) {
        return status != 0 ? status : cli_fail(c, "%s", err_text(-ENOMEM));
    }
    for (size_t i = 0; i < c->argument_count && status != CLI_EXIT_USAGE; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument[i]);
        if (path == NULL) {
            return CLI_EXIT_USAGE;
        }
        f->c = c;
        f->path = path;
        int rc = one(f);
        status = rc != 0 ? rc : status;
    }
    return status;
}

static int run_getfattr(struct cli *c)
{
    return each(c, show_file);
}

/* ---- setfattr ---- */

/* "0x1a2b" is bytes, "\"text\"" without its quotes, all else as it is. False: not that. */
static bool value_of(const char *text, char *out, size_t *ret_len)
{
    size_t len = strlen(text);
    if (strncmp(text, "0x", 2) == 0) {
        *ret_len = (len - 2) / 2;
        return len % 2 == 0 && *ret_len <= VALUE_MAX && text_unhex(out, *ret_len, text + 2) == 0;
    }
    bool quoted = len >= 2 && text[0] == '"' && text[len - 1] == '"';
    size_t from = quoted ? 1 : 0, to = len - from, n = 0;
    if (to - from > VALUE_MAX) {
        return false;
    }
    for (size_t i = from; i < to; i++) {
        i += quoted && text[i] == '\\' && i + 1 < to ? 1 : 0;
        out[n++] = text[i];
    }
    *ret_len = n;
    return true;
}

/* What became of a change. */
static int changed(struct xattr_file *f, int rc)
{
    if (rc < 0) {
        return cli_fail_op(f->c, NULL);
    }
    cli_done(f->c);
    return 0;
}

static int remove_from(struct xattr_file *f, const char *name)
{
    return changed(f, cli_flag(f->c, "no-dereference")
                          ? opendfs_lremovexattr(f->c->fs, f->path, name)
                          : opendfs_removexattr(f->c->fs, f->path, name));
}

static int set_file(struct xattr_file *f)
{
    const char *away = cli_value(f->c, "remove"), *text = cli_value(f->c, "value");
    if (away != NULL) {
        return remove_from(f, away);
    }
    struct opendfs_xattr x = {.name = cli_value(f->c, "name"), .value = f->value};
    x.flags = cli_flag(f->c, "create") ? OPENDFS_XATTR_CREATE : 0;
    x.flags |= cli_flag(f->c, "replace") ? OPENDFS_XATTR_REPLACE : 0;
    if (!value_of(text == NULL ? "" : text, f->value, &x.size)) {
        return cli_usage(f->c,
                         "'%.40s' is no value: text, or 0x and pairs of digits, of 64 KiB "
                         "at most",
                         text);
    }
    return changed(f, cli_flag(f->c, "no-dereference") ? opendfs_lsetxattr(f->c->fs, f->path, &x)
                                                       : opendfs_setxattr(f->c->fs, f->path, &x));
}

static int run_setfattr(struct cli *c)
{
    bool set = cli_value(c, "name") != NULL, away = cli_value(c, "remove") != NULL;
    return set != away ? each(c, set_file) : cli_usage(c, "either -n NAME or -x NAME");
}

/* ---- The table ---- */

static const struct cli_option getfattr_options[] = {
    {"name", 'n', "NAME", "the value of this one"},
    {"dump", 'd', NULL, "values, too"},
    {"match", 'm', "PREFIX", "names that begin with it; default \"user.\", \"-\": all"},
    {"no-dereference", 'h', NULL, "symbolic links themselves"},
    {NULL, 0, NULL, NULL},
};
static const struct cli_option setfattr_options[] = {
    {"name", 'n', "NAME", "set this one"},
    {"value", 'v', "VALUE", "text, or 0x and pairs of hexadecimal digits; default: empty"},
    {"remove", 'x', "NAME", "remove this one"},
    {"create", 0, NULL, "fail when it is there"},
    {"replace", 0, NULL, "fail when it is not there"},
    {"no-dereference", 'h', NULL, "symbolic links themselves"},
    {NULL, 0, NULL, NULL},
};
#define MANY 100000u
const struct cli_command cli_xattr_commands[] = {
    {.name = "getfattr",
     .arguments = "PATH...",
     .summary = "show extended attributes",
     .options = getfattr_options,
     .min_arguments = 1,
     .max_arguments = MANY,
     .run = run_getfattr},
    {.name = "setfattr",
     .arguments = "PATH...",
     .summary = "set or remove an extended attribute",
     .options = setfattr_options,
     .counts = true,
     .min_arguments = 1,
     .max_arguments = MANY,
     .run = run_setfattr},
    {.name = "getfacl",
     .arguments = "PATH...",
     .summary = "show access control lists",
     .options = cli_getfacl_options,
     .min_arguments = 1,
     .max_arguments = MANY,
     .run = cli_run_getfacl},
    {.name = "setfacl",
     .arguments = "PATH...",
     .summary = "change access control lists",
     .details = "An ENTRY is user:NAME:RIGHTS, group:NAME:RIGHTS, user::RIGHTS (the owner), "
                "group::RIGHTS,\nmask::RIGHTS or other::RIGHTS; \"default:\" before it makes it "
                "one of the default list,\nwhich new files in a directory inherit. The words may "
                "be cut to one letter. RIGHTS are\nletters of rwxX or a digit, NAME may be a "
                "number. The mask is computed anew unless it is\nnamed. First -b and -k count, "
                "then -x, then -m. With -R symbolic links are left alone, and the default list "
                "is only that of\ndirectories.",
     .options = cli_setfacl_options,
     .counts = true,
     .min_arguments = 1,
     .max_arguments = MANY,
     .run = cli_run_setfacl},
};
const size_t cli_xattr_command_count = ARRAY_COUNT(cli_xattr_commands);
