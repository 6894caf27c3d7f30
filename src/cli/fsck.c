/* cli/fsck.c -- fsck: what is wrong in the metadata and on the data nodes, in words. */
#include "cli/cli_priv.h"
#include "cli/tables_priv.h"

#include "base/mem.h"
#include "opendfs/check.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#define SHOWN_MAX 10000u /* more are only counted */

struct fsck {
    struct cli *c;
    struct cJSON *findings; /* array: kept until the end, because a check may begin again */
    uint64_t count, records;
};

static int fsck_keep(struct fsck *k, const struct opendfs_finding *f)
{
    k->count++;
    if (k->count > SHOWN_MAX) {
        return 0;
    }
    size_t len = strlen(f->path);
    CLEANUP(mem_freep) char *shown = mem_alloc(len + 1);
    struct cJSON *o = cJSON_CreateObject();
    if (shown == NULL || o == NULL) {
        cJSON_Delete(o);
        return cli_fail(k->c, "%s", err_text(-ENOMEM));
    }
    cli_printable(f->path, len, shown);
    char ino[32];
    snprintf(ino, sizeof ino, "%llu", (unsigned long long)f->ino);
    cJSON_AddStringToObject(o, "code", f->code);
    cJSON_AddStringToObject(o, "ino", ino);
    cJSON_AddStringToObject(o, "path", shown);
    cJSON_AddStringToObject(o, "text", f->text);
    cJSON_AddItemToArray(k->findings, o);
    return 0;
}

static int fsck_page(struct fsck *k, const struct opendfs_check_page *page)
{
    int status = 0;
    if (page->restarted) {
        cJSON_Delete(k->findings);
        k->findings = cJSON_CreateArray();
        k->count = 0;
        cli_say(k->c, "the metadata have changed too much meanwhile: beginning again");
    }
    for (size_t i = 0; i < page->count && status == 0; i++) {
        status = fsck_keep(k, &page->findings[i]);
    }
    k->records = page->records;
    return status;
}

static int fsck_all(struct fsck *k, bool data)
{
    struct opendfs_check check = {.data = data ? 1 : 0};
    bool done = false;
    int status = 0;
    while (!done && status == 0) {
        struct opendfs_check_page *page = NULL;
        if (opendfs_check_next(k->c->fs, &check, &page) < 0) {
            return cli_fail_op(k->c, NULL);
        }
        status = fsck_page(k, page);
        done = page->done != 0;
        opendfs_free(page);
    }
    return status;
}

static const char *fsck_text(const struct cJSON *o, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
}

static void fsck_print(const struct fsck *k, bool data)
{
    const struct cJSON *o;
    cJSON_ArrayForEach(o, k->findings)
    {
        const char *ino = fsck_text(o, "ino"), *path = fsck_text(o, "path");
        if (strcmp(ino, "0") == 0) {
            printf("%s [%s]\n", fsck_text(o, "text"), fsck_text(o, "code"));
        } else {
            printf("%s (inode %s): %s [%s]\n", path, ino, fsck_text(o, "text"),
                   fsck_text(o, "code"));
        }
    }
    if (k->count > SHOWN_MAX) {
        printf("and %llu more\n", (unsigned long long)(k->count - SHOWN_MAX));
    }
    if (data && k->count == 0) {
        printf("nothing is known to be wrong with what the data nodes hold\n");
    } else if (data) {
        printf("%llu findings on the data nodes\n", (unsigned long long)k->count);
    } else if (k->count == 0) {
        printf("%llu records agree with each other\n", (unsigned long long)k->records);
    } else {
        printf("%llu findings in %llu records: the metadata are damaged\n",
               (unsigned long long)k->count, (unsigned long long)k->records);
    }
}

/* Adds what it finds to `all` (JSON) or prints it. */
static int fsck_part(struct cli *c, bool data, struct cJSON *all, struct fsck *total)
{
    struct fsck k = {.c = c, .findings = cJSON_CreateArray()};
    int status = fsck_all(&k, data);
    total->count += k.count;
    total->records += data ? 0 : k.records;
    if (status == 0 && !c->json) {
        fsck_print(&k, data);
    }
    while (status == 0 && c->json && cJSON_GetArraySize(k.findings) > 0) {
        cJSON_AddItemToArray(all, cJSON_DetachItemFromArray(k.findings, 0));
    }
    cJSON_Delete(k.findings);
    return status;
}

static int run_fsck(struct cli *c)
{
    struct fsck k = {.c = c};
    bool all = !cli_flag(c, "namespace") && !cli_flag(c, "data");
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    k.findings = cJSON_CreateArray();
    if (all || cli_flag(c, "namespace")) {
        status = fsck_part(c, false, k.findings, &k);
    }
    if (status == 0 && (all || cli_flag(c, "data"))) {
        status = fsck_part(c, true, k.findings, &k);
    }
    if (status == 0 && c->json) {
        struct cJSON *o = cJSON_CreateObject();
        cJSON_AddNumberToObject(o, "records", (double)k.records);
        cJSON_AddNumberToObject(o, "count", (double)k.count);
        cJSON_AddItemToObject(o, "findings", k.findings);
        k.findings = NULL;
        cli_print_json(o);
    }
    cJSON_Delete(k.findings);
    return status != 0 || k.count > 0 ? CLI_EXIT_FAILED : 0;
}

static const struct cli_option fsck_options[] = {
    {"namespace", 0, NULL,
     "only names, inodes, sessions, chains, counters: all records of the metadata"},
    {"data", 0, NULL,
     "only what data nodes hold: damaged chunks and their files, chains without all copies"},
    {NULL, 0, NULL, NULL},
};
const struct cli_command cli_fsck_commands[] = {
    {.name = "fsck",
     .arguments = "",
     .summary = "check a running cluster: its metadata, and what data nodes hold",
     .details =
         "For root. Reads all records of one moment, a few thousand at a time, so that nobody "
         "waits; changes\nnothing. Of the data nodes it says what is known: chunks that readers or "
         "the check in the background\nhave found damaged, with the files that they belong to, "
         "failed disks, targets that are down, chains\nthat lack copies, removed files that wait. "
         "Each finding names the file, what is wrong, and a word for\nprograms. The exit status is "
         "1 when there are any.",
     .options = fsck_options,
     .run = run_fsck},
};
const size_t cli_fsck_command_count = ARRAY_COUNT(cli_fsck_commands);
