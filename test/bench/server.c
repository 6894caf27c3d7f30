#include "server.h"

#include "machine.h"

#include "opendfs/opendfs.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define SERVER_PATH 4096u

bool server_init(struct server *s, const char *bench)
{
    *s = (struct server){.cluster = getenv("OPENDFS_CLUSTER"), .program = getenv("OPENDFS")};
    if (s->cluster == NULL || s->program == NULL) {
        fprintf(stderr, "bench %s: OPENDFS_CLUSTER or OPENDFS is not set; see tools/bench.sh\n",
                bench);
        return false;
    }
    return true;
}

int server_connect(const struct server *s, struct opendfs **ret)
{
    struct opendfs_options opt = {.api_version = OPENDFS_API_VERSION,
                                  .cluster = s->cluster,
                                  .uid = UINT32_MAX,
                                  .gid = UINT32_MAX};
    return opendfs_connect(&opt, ret);
}

/* --- Its process ------------------------------------------------------------------------------ */

static pid_t server_pid(const struct server *s)
{
    char path[SERVER_PATH], text[32];
    long pid = 0;
    (void)snprintf(path, sizeof path, "%s/run/meta.0.pid", s->cluster);
    FILE *f = fopen(path, "re");
    if (f != NULL && fgets(text, sizeof text, f) != NULL) {
        pid = strtol(text, NULL, 10);
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return (pid_t)pid;
}

void server_kill(const struct server *s)
{
    pid_t pid = server_pid(s);
    CHECK(pid > 1);
    (void)kill(pid, SIGKILL);
}

/* What `up` has started is not our child. */
void server_until_gone(const struct server *s)
{
    pid_t pid = server_pid(s);
    if (s->started > 0) {
        (void)waitpid(s->started, NULL, 0);
    }
    while (kill(pid, 0) == 0) {
        (void)sched_yield();
    }
}

/* What it says goes into a file: whoever reads from us must not wait for its end. */
static int server_spawn(struct server *s)
{
    char config[SERVER_PATH], said[SERVER_PATH];
    posix_spawn_file_actions_t io;
    (void)snprintf(config, sizeof config, "%s/cluster.ini", s->cluster);
    (void)snprintf(said, sizeof said, "%s/run/started.log", s->cluster);
    char *argv[] = {(char *)s->program, "meta", "--config", config, NULL};
    int rc = posix_spawn_file_actions_init(&io);
    if (rc != 0) {
        return -rc;
    }
    rc = posix_spawn_file_actions_addopen(&io, 1, said, O_WRONLY | O_CREAT | O_APPEND, 0644);
    rc = rc != 0 ? rc : posix_spawn_file_actions_adddup2(&io, 1, 2);
    rc = rc != 0 ? rc : posix_spawn(&s->started, s->program, &io, NULL, argv, environ);
    (void)posix_spawn_file_actions_destroy(&io);
    return -rc;
}

int server_start(struct server *s, struct server_time *ret)
{
    struct opendfs *fresh = NULL;
    struct opendfs_stat st;
    double began = machine_now();
    int rc = server_spawn(s);
    rc = rc < 0 ? rc : server_connect(s, &fresh);
    rc = rc < 0 ? rc : opendfs_stat(fresh, "/", &st);
    ret->seconds = machine_now() - began;
    ret->cpu_seconds = machine_cluster_cpu(s->cluster, "meta.");
    opendfs_disconnect(fresh);
    return rc;
}

/* --- From outside ----------------------------------------------------------------------------- */

/* Of lines "name: number" in /proc; 0: there is none. */
static uint64_t server_kib(const struct server *s, const char *name)
{
    char path[64], line[256];
    uint64_t value = 0;
    size_t len = strlen(name);
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)server_pid(s));
    FILE *f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, name, len) == 0 && line[len] == ':') {
            value = strtoull(line + len + 1, NULL, 10);
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return value;
}

static uint64_t server_files(const struct server *s, const char *name)
{
    char path[SERVER_PATH], file[SERVER_PATH];
    uint64_t bytes = 0;
    (void)snprintf(path, sizeof path, "%s/meta.0/%s", s->cluster, name);
    DIR *d = opendir(path);
    const struct dirent *entry;
    while (d != NULL && (entry = readdir(d)) != NULL) {
        struct stat st;
        int n = snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        if (n > 0 && (size_t)n < sizeof file && stat(file, &st) == 0 && S_ISREG(st.st_mode)) {
            bytes += (uint64_t)st.st_blocks * 512;
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return bytes;
}

void server_look(const struct server *s, struct server_size *ret)
{
    *ret = (struct server_size){.rss_bytes = server_kib(s, "VmRSS") << 10,
                                .rss_peak_bytes = server_kib(s, "VmHWM") << 10,
                                .state_bytes = server_files(s, "state"),
                                .log_bytes = server_files(s, "log/log")};
}

/* The first sample of that name. */
static uint64_t server_sample(const char *text, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = text; at != NULL; at = strchr(at, '\n')) {
        at += *at == '\n' ? 1 : 0;
        if (strncmp(at, name, len) == 0 && at[len] == '{') {
            const char *end = strstr(at, "} ");
            return end == NULL ? 0 : strtoull(end + 2, NULL, 10);
        }
    }
    return 0;
}

void server_parse(const char *metrics, struct server_work *ret)
{
    static const char disk[] = "opendfs_disk_", meta[] = "opendfs_meta_";
    char name[64];
    const struct {
        const char *group, *name;
        uint64_t *to;
    } table[] = {{disk, "write_bytes_total", &ret->written_bytes},
                 {disk, "read_bytes_total", &ret->read_bytes},
                 {disk, "reads_total", &ret->reads},
                 {meta, "checkpoints_total", &ret->checkpoints},
                 {meta, "log_full", &ret->log_full},
                 {meta, "engine_busy", &ret->busy},
                 {meta, "engine_cache_bytes", &ret->cache_bytes},
                 {meta, "engine_unsaved_bytes", &ret->unsaved_bytes}};
    for (size_t i = 0; i < ARRAY_COUNT(table); i++) {
        (void)snprintf(name, sizeof name, "%s%s", table[i].group, table[i].name);
        *table[i].to = server_sample(metrics, name);
    }
}
