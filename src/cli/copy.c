/* cli/copy.c -- see copy_priv.h; the table of put, get and cat. */
#include "cli/copy_priv.h"
#include "cli/tables_priv.h"

#include "base/mem.h"
#include "base/text.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DRAW_NS 200000000u
#define TEMPORARY_PREFIX ".opendfs-"
#define NS_PER_S 1e9

void cli_copy_progress(struct copy *p, bool at_once)
{
    if (p->c->quiet || p->c->json) {
        return;
    }
    struct terminal_progress t = {.what = p->what,
                                  .bytes_done = p->bytes,
                                  .bytes_total = p->bytes_total,
                                  .files_done = p->files,
                                  .files_total = p->files_total,
                                  .now_ns = loop_now_ns(p->c->loop),
                                  .start_ns = p->start_ns};
    cli_terminal_show(p->c->terminal, &t, at_once);
}

static void draw_due(struct loop_timer *t)
{
    struct copy *p = container_of(t, struct copy, draw);
    cli_copy_progress(p, true);
    loop_timer_in(p->c->loop, &p->draw, DRAW_NS);
}

void cli_copy_begin(struct copy *p, struct cli *c, const char *what)
{
    p->c = c;
    p->what = what;
    p->owner = geteuid() == 0;
    p->start_ns = loop_now_ns(c->loop);
    p->draw.fire = draw_due;
    loop_timer_in(c->loop, &p->draw, DRAW_NS);
}

int cli_copy_end(struct copy *p)
{
    struct cli *c = p->c;
    loop_timer_cancel(c->loop, &p->draw);
    cli_terminal_clear(c->terminal);
    double seconds = (double)(loop_now_ns(c->loop) - p->start_ns) / NS_PER_S;
    if (c->json) {
        struct cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "files", (double)p->files);
        cJSON_AddNumberToObject(o, "directories", (double)p->directories);
        cJSON_AddNumberToObject(o, "hard_links", (double)p->links);
        cJSON_AddNumberToObject(o, "others", (double)p->others);
        cJSON_AddNumberToObject(o, "bytes", (double)p->bytes);
        cJSON_AddNumberToObject(o, "failed", (double)p->failed);
        cJSON_AddNumberToObject(o, "seconds", seconds);
        cli_print_json(o);
    } else {
        char size[TEXT_UNIT_SIZE], rate[TEXT_UNIT_SIZE];
        uint64_t names = p->files + p->links + p->others;
        text_from_bytes(p->bytes, size);
        text_from_bytes((uint64_t)((double)p->bytes / (seconds > 0 ? seconds : 1)), rate);
        cli_say(c, "%s: %llu files, %llu directories, %s in %.1f s (%s/s)%s", p->what,
                (unsigned long long)names, (unsigned long long)p->directories, size, seconds, rate,
                p->failed > 0 ? ", with failures" : "");
        if (p->failed > 0) {
            cli_fail(c, "%llu could not be copied", (unsigned long long)p->failed);
        }
    }
    return p->failed > 0 ? CLI_EXIT_FAILED : p->status;
}

void cli_copy_fail(struct copy *p, const char *path, int64_t rc)
{
    p->failed++;
    cli_fail_path(p->c, path, rc);
}

/* The library names what it was given: the last part of the path, a temporary name, or all of it.
 * What comes behind is the cause. */
static const char *cause_of(const char *path, const char *error)
{
    const char *name = cli_copy_base_name(path);
    size_t len = strlen(name);
    if (len > 0 && strncmp(error, name, len) == 0 && strncmp(error + len, ": ", 2) == 0) {
        return error + len + 2;
    }
    const char *end = strstr(error, ": ");
    bool named = error[0] == '/' || strncmp(error, TEMPORARY_PREFIX, strlen(TEMPORARY_PREFIX)) == 0;
    return named && end != NULL ? end + 2 : error;
}

void cli_copy_fail_op(struct copy *p, const char *path, const struct opendfs_op *op)
{
    p->failed++;
    if (op->error[0] == '/' && strncmp(op->error, path, strlen(path)) == 0) {
        cli_fail(p->c, "%s", op->error);
    } else {
        cli_fail(p->c, "%s: %s", path,
                 op->error[0] == 0 ? opendfs_error_text((int)op->result)
                                   : cause_of(path, op->error));
    }
}

void cli_copy_temporary_name(struct copy *p, char out[COPY_NAME_SIZE])
{
    snprintf(out, COPY_NAME_SIZE, TEMPORARY_PREFIX "%s-%016llx", p->what,
             (unsigned long long)loop_random(p->c->loop));
}

const char *cli_copy_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash == NULL ? path : slash + 1;
    return strcmp(base, ".") == 0 || strcmp(base, "..") == 0 ? "" : base;
}

int cli_copy_find_destination(struct cli *c, bool many, struct copy_destination *ret)
{
    struct opendfs_stat st;
    ret->path = cli_path(c, c->argument[c->argument_count - 1]);
    if (ret->path == NULL) {
        return CLI_EXIT_USAGE;
    }
    int rc = opendfs_stat(c->fs, ret->path, &st);
    if (rc < 0 && rc != -ENOENT) {
        return cli_fail_op(c, NULL);
    }
    if (rc == 0 && st.type == OPENDFS_TYPE_DIRECTORY) {
        ret->ino = st.ino;
        return 0;
    }
    if (many) {
        return rc < 0 ? cli_fail_path(c, ret->path, rc) : cli_fail_path(c, ret->path, -ENOTDIR);
    }
    char *slash = strrchr(ret->path, '/');
    ret->name = mem_strdup(slash + 1);
    slash[slash == ret->path ? 1 : 0] = 0;
    if (ret->name == NULL) {
        return cli_fail_path(c, ret->path, -ENOMEM);
    }
    if (opendfs_stat(c->fs, ret->path, &st) < 0) {
        return cli_fail_op(c, NULL);
    }
    if (st.type != OPENDFS_TYPE_DIRECTORY) {
        return cli_fail_path(c, ret->path, -ENOTDIR);
    }
    ret->ino = st.ino;
    return 0;
}

void cli_copy_destination_fini(struct copy_destination *d)
{
    mem_free(d->path);
    mem_free(d->name);
}

#define XATTRS_TEXT                                                                                \
    "\nWith --xattrs a file has failed when one of its extended attributes could not be set, and " \
    "is there\nnevertheless. Access control lists are not among them."
static const struct cli_option put_options[] = {
    {"no-owner", 0, NULL, "do not copy user and group ids"},
    {"xattrs", 0, NULL, "extended attributes as well"},
    {NULL, 0, NULL, NULL},
};
#define MANY 100000u
static const struct cli_option cp_options[] = {
    {"recursive", 'r', NULL, "directories with all that is in them"},
    {"preserve", 'p', NULL, "mode and times stay, user and group for root"},
    {"no-replace", 'n', NULL, "fail where there is something already"},
    {"xattrs", 0, NULL, "extended attributes as well"},
    {NULL, 0, NULL, NULL},
};
const struct cli_command cli_copy_commands[] = {
    {.name = "put",
     .arguments = "LOCAL... PATH",
     .summary = "copy files and trees into the cluster",
     .options = put_options,
     .details =
         "Directories are copied with all that is in them. Mode, times, symbolic and hard links "
         "and special\nfiles are kept, user and group for root. Into PATH when it is a "
         "directory, else LOCAL becomes PATH. A\nfile that is there already is replaced "
         "in one step, when the new one is complete. '-' as LOCAL is\nstandard input. When put "
         "ends without error, all of it is on stable storage of all copies." XATTRS_TEXT,
     .min_arguments = 2,
     .max_arguments = MANY,
     .run = cli_run_put},
    {.name = "get",
     .arguments = "PATH... LOCAL",
     .summary = "copy files and trees out of the cluster",
     .options = put_options,
     .details =
         "The opposite of put. Every byte is checked against the checksums made by its writer; a "
         "file appears\nunder its name only when it is complete. '-' as LOCAL is standard "
         "output." XATTRS_TEXT,
     .min_arguments = 2,
     .max_arguments = MANY,
     .run = cli_run_get},
    {.name = "cp",
     .arguments = "SOURCE... DESTINATION",
     .summary = "copy files and trees inside the cluster",
     .options = cp_options,
     .details =
         "Into DESTINATION when it is a directory, else SOURCE becomes DESTINATION. A file that is "
         "there already is\nreplaced in one step, when the new one is complete. With -r symbolic "
         "links are copied as such and hard\nlinks stay hard links, else links are followed. "
         "Without -p the copy belongs to who makes it, with the\nmode of the source less the "
         "umask. When cp ends without error, all of it is on stable storage of all "
         "copies." XATTRS_TEXT,
     .min_arguments = 2,
     .max_arguments = MANY,
     .run = cli_run_cp},
    {.name = "cat",
     .arguments = "PATH...",
     .summary = "write files to standard output",
     .min_arguments = 1,
     .max_arguments = MANY,
     .run = cli_run_cat},
};
const size_t cli_copy_command_count = ARRAY_COUNT(cli_copy_commands);
