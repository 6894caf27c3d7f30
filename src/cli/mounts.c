/* cli/mounts.c -- `opendfs mount --status`: the mounts of this machine, and what they do. */
#include "base/mem.h"
#include "cli/cli_priv.h"
#include "cli/local_priv.h"
#include "disk/disk.h"
#include "disk/local.h"

#include <cjson/cJSON.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE "/proc/self/mountinfo"
#define TABLE_MAX (16u << 20)
#define STATS_MAX (1u << 20)

/* The kernel writes blanks and the like as three octal digits. In place. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *at = text; *at != '\0'; at++) {
        bool octal = at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' &&
                     at[2] <= '7' && at[3] >= '0' && at[3] <= '7';
        unsigned char byte = (unsigned char)*at;
        if (octal) {
            byte = (unsigned char)(((at[1] & 3) << 6) | ((at[2] & 7) << 3) | (at[3] & 7));
            at += 3;
        }
        memcpy(to++, &byte, 1);
    }
    *to = '\0';
}

static unsigned long long value_of(const char *stats, const char *name)
{
    size_t len = strlen(name);
    for (const char *line = stats; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n' ? 1 : 0;
        if (strncmp(line, name, len) == 0 && line[len] == ' ') {
            return strtoull(line + len, NULL, 10);
        }
    }
    return 0;
}

static int mount_show(struct cli *c, struct local *l, const char *source, const char *at)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/.opendfs/stats", at);
    CLEANUP(mem_freep) void *stats = NULL;
    size_t len = 0;
    int rc = path == NULL ? -ENOMEM : disk_load(l->disk, path, STATS_MAX, &stats, &len);
    if (rc < 0) {
        return cli_fail(c, "%s: %s: %s", at, source, err_text(rc));
    }
    unsigned long long pid = value_of(stats, "opendfs_mount_process_id");
    unsigned long long calls = value_of(stats, "opendfs_mount_calls_total");
    unsigned long long waiting = value_of(stats, "opendfs_mount_calls_waiting");
    struct cJSON *o = cli_json(c) ? cJSON_CreateObject() : NULL;
    if (o != NULL) {
        cli_json_add_name(o, "directory", at);
        cli_json_add_name(o, "source", source);
        cli_json_add_i64(o, "process", (int64_t)pid);
        cli_json_add_i64(o, "calls", (int64_t)calls);
        cli_json_add_i64(o, "waiting", (int64_t)waiting);
        cli_print_json(o);
        return 0;
    }
    printf("%s  %s  process %llu, %llu calls, %llu waiting\n", at, source, pid, calls, waiting);
    return 0;
}

/* A line: ... number:number root DIRECTORY options ... - TYPE SOURCE options. In place. */
static int line_show(struct cli *c, struct local *l, char *line, const char *only, size_t *count)
{
    char *word[5], *rest = line;
    char *after = strstr(line, " - fuse.opendfs ");
    for (size_t i = 0; i < ARRAY_COUNT(word); i++) {
        word[i] = strsep(&rest, " ");
        if (word[i] == NULL) {
            return 0;
        }
    }
    if (after == NULL) {
        return 0;
    }
    char *source = after + strlen(" - fuse.opendfs ");
    source[strcspn(source, " ")] = '\0';
    unescape(word[4]);
    unescape(source);
    if (only != NULL && strcmp(only, word[4]) != 0) {
        return 0;
    }
    ++*count;
    return mount_show(c, l, source, word[4]);
}

int cli_mounts_show(struct cli *c, const char *only)
{
    struct local l;
    CLEANUP(mem_freep) void *table = NULL;
    CLEANUP(mem_freep) char *whole = NULL;
    size_t len = 0, count = 0;
    int rc = only == NULL ? 0 : disk_local_whole(only, &whole);
    if (rc < 0) {
        return cli_fail_path(c, only, rc);
    }
    int status = cli_local_begin(&l, c, ".");
    if (status != 0) {
        return status;
    }
    rc = disk_load(l.disk, TABLE, TABLE_MAX, &table, &len);
    if (rc < 0) {
        status = cli_fail_path(c, TABLE, rc);
    }
    for (char *line = table, *next; rc == 0 && line != NULL; line = next) {
        next = strchr(line, '\n');
        if (next != NULL) {
            *next++ = '\0';
        }
        int shown = line_show(c, &l, line, whole, &count);
        status = shown != 0 ? shown : status;
    }
    if (rc == 0 && only != NULL && count == 0) {
        status = cli_fail(c, "%s: no file system of ours is mounted there", only);
    }
    cli_local_close(&l);
    return status;
}
