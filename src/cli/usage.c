/* cli/usage.c -- du, df; the table of what concerns space, limits and storage classes. */
#include "cli/usage_priv.h"

#include "cli/cli_priv.h"
#include "cli/tables_priv.h"
#include "opendfs/usage.h"

#include "base/mem.h"
#include "base/text.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

/* ---- du ---- */

struct usage {
    struct cli *c;
    bool summary, human;
    int status;
};

static void print_usage(struct usage *u, const char *path, const struct opendfs_dir_stats *s)
{
    if (u->c->json) {
        struct cJSON *o = cli_json_of_path(path);
        cJSON_AddNumberToObject(o, "bytes", (double)s->bytes);
        cJSON_AddNumberToObject(o, "files", (double)s->files);
        cJSON_AddNumberToObject(o, "directories", (double)s->directories);
        cli_json_add_i64(o, "newest_ns", s->newest_ns);
        cli_print_json(o);
        return;
    }
    char size[TEXT_UNIT_SIZE];
    if (u->human) {
        text_from_bytes(s->bytes, size);
    } else {
        snprintf(size, sizeof size, "%llu", (unsigned long long)s->bytes);
    }
    unsigned long long count = s->files + s->directories;
    printf("%s\t%llu\t", size, count);
    cli_print_name(path);
    printf("\n");
}

static void usage_fails(struct usage *u)
{
    u->status = cli_fail_op(u->c, NULL);
}

static void usage_of_children(struct usage *u, const char *path)
{
    struct opendfs_dir *dir;
    struct opendfs_entry e;
    if (opendfs_opendir(u->c->fs, path, &dir) < 0) {
        usage_fails(u);
        return;
    }
    int rc;
    while ((rc = opendfs_readdir(dir, &e)) > 0) {
        struct opendfs_dir_stats s;
        if (e.stat.type != OPENDFS_TYPE_DIRECTORY) {
            continue;
        }
        CLEANUP(mem_freep) char *full = cli_join(path, e.name);
        int told = full == NULL ? -ENOMEM : opendfs_dir_stats(u->c->fs, full, &s);
        if (told == -ENOENT) { /* removed meanwhile */
            continue;
        }
        if (told < 0) {
            u->status = full == NULL ? cli_fail_path(u->c, path, told) : cli_fail_op(u->c, NULL);
            continue;
        }
        print_usage(u, full, &s);
    }
    if (rc < 0) {
        usage_fails(u);
    }
    opendfs_closedir(dir);
}

static void usage_of(struct usage *u, const char *path)
{
    struct opendfs_stat st;
    struct opendfs_dir_stats s = {.files = 1};
    if (opendfs_lstat(u->c->fs, path, &st) < 0) {
        usage_fails(u);
        return;
    }
    bool dir = st.type == OPENDFS_TYPE_DIRECTORY;
    s.bytes = st.size_bytes;
    s.newest_ns = st.ctime_ns;
    if (dir && opendfs_dir_stats(u->c->fs, path, &s) < 0) {
        usage_fails(u);
        return;
    }
    if (dir && !u->summary) {
        usage_of_children(u, path);
    }
    print_usage(u, path, &s);
}

static int run_du(struct cli *c)
{
    int rc = cli_connect(c);
    if (rc != 0) {
        return rc;
    }
    struct usage u = {.c = c, .summary = cli_flag(c, "summary"), .human = cli_flag(c, "human")};
    size_t count = c->argument_count == 0 ? 1 : c->argument_count;
    for (size_t i = 0; i < count && u.status != CLI_EXIT_USAGE; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument_count == 0 ? "/" : c->argument[i]);
        if (path == NULL) {
            u.status = CLI_EXIT_USAGE;
        } else {
            usage_of(&u, path);
        }
    }
    return u.status;
}

/* ---- df ---- */

static void space_text(uint64_t bytes, bool human, char out[TEXT_UNIT_SIZE])
{
    if (human) {
        text_from_bytes(bytes, out);
    } else {
        snprintf(out, TEXT_UNIT_SIZE, "%llu", (unsigned long long)bytes);
    }
}

static void print_space(const struct cli *c, const char *path, const struct opendfs_space *s)
{
    char total[TEXT_UNIT_SIZE], used[TEXT_UNIT_SIZE], left[TEXT_UNIT_SIZE];
    bool human = cli_flag(c, "human");
    uint64_t taken = s->total_bytes - base_min(s->free_bytes, s->total_bytes);
    uint64_t percent = s->total_bytes == 0
                           ? 0
                           : (taken / 64 * 100 + s->total_bytes / 64) / (s->total_bytes / 64 + 1);
    space_text(s->total_bytes, human, total);
    space_text(taken, human, used);
    space_text(s->free_bytes, human, left);
    printf("%16s %16s %16s %4llu%% %10llu %20llu ", total, used, left, (unsigned long long)percent,
           (unsigned long long)s->files, (unsigned long long)s->free_files);
    cli_print_name(path);
    printf("\n");
}

static struct cJSON *space_to_json(const char *path, const struct opendfs_space *s)
{
    struct cJSON *o = cli_json_of_path(path);
    cJSON_AddNumberToObject(o, "total", (double)s->total_bytes);
    cJSON_AddNumberToObject(o, "free", (double)s->free_bytes);
    cJSON_AddNumberToObject(o, "files", (double)s->files);
    cJSON_AddNumberToObject(o, "files_free", (double)s->free_files);
    return o;
}

static int run_df(struct cli *c)
{
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    size_t count = c->argument_count == 0 ? 1 : c->argument_count;
    if (!c->json) {
        printf("%16s %16s %16s %5s %10s %20s %s\n", "total", "used", "free", "use", "files",
               "files free", "path");
    }
    for (size_t i = 0; i < count && status != CLI_EXIT_USAGE; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument_count == 0 ? "/" : c->argument[i]);
        struct opendfs_space s;
        if (path == NULL) {
            status = CLI_EXIT_USAGE;
        } else if (opendfs_statfs_at(c->fs, path, &s) < 0) {
            status = cli_fail_op(c, NULL);
        } else if (c->json) {
            cli_print_json(space_to_json(path, &s));
        } else {
            print_space(c, path, &s);
        }
    }
    return status;
}

/* ---- The table ---- */

static const struct cli_option du_options[] = {
    {"summary", 's', NULL, "only the sum of each PATH"},
    {"human", 'h', NULL, "sizes with units"},
    {NULL, 0, NULL, NULL},
};
static const struct cli_option df_options[] = {
    {"human", 'h', NULL, "sizes with units"},
    {NULL, 0, NULL, NULL},
};
static const struct cli_option quota_options[] = {
    {"bytes", 0, "SOFT:HARD", "limits of the sum of sizes, as 10G:12G, :12G or 10G:"},
    {"files", 0, "SOFT:HARD", "limits of the number of files and directories"},
    {"grace", 0, "TIME", "how long a soft limit may be exceeded; default 7d"},
    {NULL, 0, NULL, NULL},
};
static const struct cli_option class_options[] = {
    {"copies", 0, "N", "copies of each chunk; default 2"},
    {"domain", 0, "WHAT",
     "copies are on different: target, host or rack; default: hosts if there "
     "are enough"},
    {"labels", 0, "WORDS", "only targets that have all of these labels"},
    {"chunk", 0, "SIZE", "a power of two; default 4MiB"},
    {"inline", 0, "SIZE", "files up to that size stay in the metadata; default 4KiB"},
    {NULL, 0, NULL, NULL},
};
#define MANY 100000u
const struct cli_command cli_usage_commands[] = {
    {.name = "du",
     .arguments = "[PATH...]",
     .summary = "how much is below directories",
     .details = "Sum of the sizes, number of files and directories, path; one line for each "
                "directory in PATH,\nthen PATH itself. The sums are kept all the time: the answer "
                "does not depend on how much it is.\nA file with several names counts at one of "
                "them.",
     .options = du_options,
     .max_arguments = MANY,
     .run = run_du},
    {.name = "df",
     .arguments = "[PATH...]",
     .summary = "how much space there is",
     .details = "For file data, after copies; if a quota of PATH or of a directory above allows "
                "less, what is left of that.",
     .options = df_options,
     .max_arguments = MANY,
     .run = run_df},
    {.name = "quota get",
     .arguments = "DIRECTORY...",
     .summary = "show limits, and how much of them is used",
     .min_arguments = 1,
     .max_arguments = MANY,
     .run = cli_run_quota_get},
    {.name = "quota set",
     .arguments = "DIRECTORY...",
     .summary = "limit what may be below directories",
     .details = "What is not given stays as it is. A hard limit is never exceeded by anything new; "
                "a soft one for the grace\ntime. Limits bind everybody; only root sets them. What "
                "has been written already is not refused.",
     .options = quota_options,
     .min_arguments = 1,
     .max_arguments = MANY,
     .run = cli_run_quota_set},
    {.name = "quota clear",
     .arguments = "DIRECTORY...",
     .summary = "remove the limits of directories",
     .min_arguments = 1,
     .max_arguments = MANY,
     .run = cli_run_quota_clear},
    {.name = "class list",
     .arguments = "",
     .summary = "list storage classes",
     .run = cli_run_class_list},
    {.name = "class create",
     .arguments = "NAME",
     .summary = "make a storage class over the targets that suit it",
     .options = class_options,
     .min_arguments = 1,
     .max_arguments = 1,
     .run = cli_run_class_create},
    {.name = "class show",
     .arguments = "DIRECTORY...",
     .summary = "show the storage class of new files in directories",
     .min_arguments = 1,
     .max_arguments = MANY,
     .run = cli_run_class_show},
    {.name = "class set",
     .arguments = "NAME PATH...",
     .summary = "give directories a storage class",
     .details = "New files and directories in them get it. What is there keeps its own; copy it to "
                "change that.\nA directory that is moved keeps its class.",
     .min_arguments = 2,
     .max_arguments = MANY,
     .run = cli_run_class_set},
};
const size_t cli_usage_command_count = ARRAY_COUNT(cli_usage_commands);
