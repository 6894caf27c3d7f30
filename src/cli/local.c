/* cli/local.c -- a cluster in one directory: its files; init; the table of its commands. */
#include "cli/local_priv.h"
#include "cli/tables_priv.h"

#include "base/env.h"
#include "base/mem.h"
#include "client/directory.h"
#include "disk/local.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INI_SIZE 32768u
#define TARGETS_DEFAULT 3u
#define TARGETS_MAX 64u
#define NS_PER_MS 1000000u

/* ---- The directory ---- */

int cli_local_begin(struct local *l, struct cli *c, const char *directory)
{
    *l = (struct local){.c = c, .directory = directory};
    l->config_path = mem_printf("%s/%s", directory, CLUSTER_LOCAL_FILE);
    struct env env = {.loop = c->loop};
    int rc = l->config_path == NULL ? -ENOMEM : 0;
    rc = rc < 0 ? rc : disk_pool_new(&env, &(struct disk_pool_options){0}, &l->disk);
    return rc < 0 ? cli_fail_path(c, directory, rc) : 0;
}

int cli_local_open(struct local *l, struct cli *c, const char *directory)
{
    int status = cli_local_begin(l, c, directory);
    if (status != 0) {
        return status;
    }
    struct err e = {0};
    int rc = client_directory_load(l->disk, directory, &l->settings, &e);
    if (rc < 0) {
        cli_fail(c, "%s", err_message(&e, rc));
    }
    if (rc == -ENOENT) {
        cli_say(c, "'%s' is not the directory of a cluster; `opendfs init DIR` makes one.",
                directory);
    }
    return rc < 0 ? CLI_EXIT_FAILED : 0;
}

void cli_local_close(struct local *l)
{
    if (l->lock != NULL) {
        struct disk_req req = {.op = DISK_CLOSE, .file = l->lock};
        (void)disk_now(l->disk, &req);
    }
    disk_free(l->disk);
    cluster_settings_free(l->settings);
    mem_free(l->config_path);
}

char *cli_local_run_path(const struct local *l, const char *name, const char *suffix)
{
    return mem_printf("%s/%s.%s", l->settings->run_directory, name, suffix);
}

int cli_local_lock(struct local *l)
{
    CLEANUP(mem_freep) char *path = cli_local_run_path(l, "up", "lock");
    int rc = path == NULL ? -ENOMEM : disk_make_directories(l->disk, l->settings->run_directory);
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE | DISK_CREATE};
    rc = rc < 0 ? rc : (int)disk_now(l->disk, &req);
    if (rc < 0) {
        return cli_fail_path(l->c, l->settings->run_directory, rc);
    }
    l->lock = req.file;
    req = (struct disk_req){.op = DISK_LOCK, .file = l->lock};
    rc = (int)disk_now(l->disk, &req);
    if (rc == -ERR_in_use) {
        return cli_fail(l->c, "%s: another up or down is at work", l->directory);
    }
    return rc < 0 ? cli_fail_path(l->c, path, rc) : 0;
}

static void time_is_over(struct loop_timer *t)
{
    (void)t;
}

void cli_local_wait_ms(struct local *l, uint64_t ms)
{
    struct loop_timer t = {.fire = time_is_over};
    loop_timer_in(l->c->loop, &t, ms * NS_PER_MS);
    while (loop_timer_active(&t)) {
        loop_run_once(l->c->loop, ms * NS_PER_MS);
    }
}

enum local_state cli_local_server(struct local *l, const char *name, int64_t *ret_pid)
{
    CLEANUP(mem_freep) char *path = cli_local_run_path(l, name, "pid");
    CLEANUP(mem_freep) void *text = NULL;
    size_t len = 0;
    *ret_pid = 0;
    if (path == NULL || disk_load(l->disk, path, 64, &text, &len) < 0) {
        return LOCAL_STOPPED;
    }
    *ret_pid = strtoll(text, NULL, 10);
    if (*ret_pid <= 1 || loop_process_signal(l->c->loop, *ret_pid, 0) == -ESRCH) {
        return LOCAL_STOPPED; /* no need to touch the lock */
    }
    /* A process of that number is there: the server, if the file is locked. */
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE};
    if (disk_now(l->disk, &req) < 0) {
        return LOCAL_STOPPED;
    }
    struct disk_req lock = {.op = DISK_LOCK, .file = req.file};
    int64_t rc = disk_now(l->disk, &lock);
    struct disk_req close = {.op = DISK_CLOSE, .file = req.file};
    (void)disk_now(l->disk, &close);
    return rc == -ERR_in_use ? LOCAL_RUNNING : LOCAL_STOPPED;
}

int cli_local_write(struct local *l, const char *name, const char *text)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/%s", l->directory, name);
    int rc = path == NULL ? -ENOMEM : disk_store(l->disk, path, text, strlen(text));
    return rc < 0 ? cli_fail_path(l->c, path == NULL ? name : path, rc) : 0;
}

/* ---- init ---- */

struct init {
    struct local local;
    uint64_t copies, targets, port;
    const char *name;
};

static int number(struct cli *c, const char *option, uint64_t otherwise, uint64_t max,
                  uint64_t *ret)
{
    const char *text = cli_value(c, option);
    *ret = otherwise;
    if (text != NULL && (text_to_u64(text, ret) < 0 || *ret > max)) {
        return cli_usage(c, "--%s '%s' is not a number up to %llu", option, text,
                         (unsigned long long)max);
    }
    return 0;
}

static int check_numbers(struct cli *c, struct init *n)
{
    int status = number(c, "copies", 2, 5, &n->copies);
    status = status != 0 ? status : number(c, "targets", TARGETS_DEFAULT, TARGETS_MAX, &n->targets);
    status = status != 0 ? status : number(c, "port", CLUSTER_PORT_META, 65000, &n->port);
    if (status != 0) {
        return status;
    }
    if (n->copies == 0 || n->targets < n->copies) {
        return cli_usage(c, "%llu copies need as many targets or more; there are %llu",
                         (unsigned long long)n->copies, (unsigned long long)n->targets);
    }
    n->name = cli_value(c, "name") == NULL ? "opendfs" : cli_value(c, "name");
    if (n->name[0] == 0 || strlen(n->name) > 63 || strpbrk(n->name, ";#\n\r") != NULL) {
        return cli_usage(c, "--name '%s' must have 1 to 63 bytes and no ; or #", n->name);
    }
    return 0;
}

/* The directory must be empty, or is made. */
static int claim(struct local *l)
{
    CLEANUP(mem_freep) struct disk_names *names = NULL;
    int rc = disk_local_list(l->directory, &names);
    if (rc == -ENOENT) {
        rc = disk_make_directories(l->disk, l->directory);
        return rc < 0 ? cli_fail_path(l->c, l->directory, rc) : 0;
    }
    if (rc < 0) {
        return cli_fail_path(l->c, l->directory, rc);
    }
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->name[i], CLUSTER_LOCAL_FILE) == 0) {
            return cli_fail(l->c, "%s: holds a cluster already (%s)", l->directory,
                            CLUSTER_LOCAL_FILE);
        }
    }
    if (names->count > 0) {
        return cli_fail(l->c, "%s: is not empty ('%s' is in it): nothing was changed", l->directory,
                        names->name[0]);
    }
    return 0;
}

static int make_new(struct local *l, const char *name)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/%s", l->directory, name);
    CLEANUP(mem_freep) char *mark = mem_printf("%s/" LOCAL_NEW_MARK, name);
    int rc = path == NULL || mark == NULL ? -ENOMEM : disk_make_directories(l->disk, path);
    if (rc < 0) {
        return cli_fail_path(l->c, name, rc);
    }
    return cli_local_write(l, mark, "");
}

static int write_secret(struct local *l, const char *name)
{
    struct cluster_secret secret;
    char text[CLUSTER_SECRET_TEXT_SIZE];
    loop_random_bytes(l->c->loop, secret.bytes, sizeof secret.bytes);
    cluster_secret_to_text(&secret, text);
    return cli_local_write(l, name, text);
}

static void port_of(const struct init *n, uint64_t offset, char out[16])
{
    snprintf(out, 16, "%llu", (unsigned long long)(n->port == 0 ? 0 : n->port + offset));
}

static void describe(const struct init *n, struct text *t)
{
    struct uuid id;
    char id_text[UUID_TEXT_SIZE], port[16];
    loop_random_bytes(n->local.c->loop, id.bytes, sizeof id.bytes);
    id.bytes[6] = (uint8_t)((id.bytes[6] & 0x0f) | 0x40); /* version 4: random */
    id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3f) | 0x80);
    uuid_to_text(&id, id_text);
    text_add(t,
             "# An OpenDFS cluster. All keys with their defaults stand at the end.\n\n"
             "[cluster]\nid = %s\nname = %s\ncopies = %llu\n\n",
             id_text, n->name, (unsigned long long)n->copies);
    port_of(n, 0, port);
    text_add(t, "[meta.0]\naddress = 127.0.0.1:%s\ndirectory = meta.0\n", port);
    for (uint64_t i = 0; i < n->targets; i++) {
        port_of(n, CLUSTER_PORT_TARGET - CLUSTER_PORT_META + i, port);
        text_add(t,
                 "\n[node.%llu]\n\n[target.%llu]\nnode = %llu\naddress = 127.0.0.1:%s\n"
                 "directory = target.%llu\n",
                 (unsigned long long)i, (unsigned long long)i, (unsigned long long)i, port,
                 (unsigned long long)i);
    }
    char sample[INI_SIZE / 2];
    (void)cluster_settings_sample(sample, sizeof sample);
    text_add(t, "\n# --- all keys ---\n");
    for (char *line = strtok(sample, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        text_add(t, "%s%s\n", line[0] == '#' ? "" : "#", line);
    }
}

static int write_files(struct init *n)
{
    struct local *l = &n->local;
    char name[32];
    int status = make_new(l, "meta.0");
    for (uint64_t i = 0; status == 0 && i < n->targets; i++) {
        snprintf(name, sizeof name, "target.%llu", (unsigned long long)i);
        status = make_new(l, name);
    }
    static const char *const plain[] = {"run", "log", "secret"};
    for (size_t i = 0; status == 0 && i < ARRAY_COUNT(plain); i++) {
        CLEANUP(mem_freep) char *path = mem_printf("%s/%s", l->directory, plain[i]);
        int rc = path == NULL ? -ENOMEM : disk_make_directories(l->disk, path);
        status = rc < 0 ? cli_fail_path(l->c, plain[i], rc) : 0;
    }
    status = status != 0 ? status : write_secret(l, "secret/server.key");
    status = status != 0 ? status : write_secret(l, "secret/client.key");
    if (status != 0) {
        return status;
    }
    CLEANUP(mem_freep) char *ini = mem_alloc(INI_SIZE);
    if (ini == NULL) {
        return cli_fail_path(l->c, l->config_path, -ENOMEM);
    }
    struct text t;
    text_init(&t, ini, INI_SIZE);
    describe(n, &t);
    if (t.cut) {
        return cli_fail(l->c, "%s: would be too long", l->config_path);
    }
    return cli_local_write(l, CLUSTER_LOCAL_FILE, ini); /* last: with it the cluster exists */
}

static int run_init(struct cli *c)
{
    struct init n = {0};
    int status = check_numbers(c, &n);
    if (status != 0) {
        return status;
    }
    const char *directory = c->argument[0];
    status = cli_local_begin(&n.local, c, directory);
    status = status != 0 ? status : claim(&n.local);
    status = status != 0 ? status : write_files(&n);
    if (status == 0) {
        cli_say(c,
                "%s: a cluster of 1 metadata server and %llu data nodes, %llu copies.\n"
                "Start it with: opendfs up %s",
                directory, (unsigned long long)n.targets, (unsigned long long)n.copies, directory);
    }
    cli_local_close(&n.local);
    return status;
}

/* ---- The table ---- */

static const struct cli_option init_options[] = {
    {"copies", 0, "N", "copies of each chunk, 1 to 5; default 2"},
    {"targets", 0, "N", "data nodes with one directory each; default 3"},
    {"port", 0, "BASE", "metadata at BASE, data at BASE + 10 and on; 0: any free; default 9400"},
    {"name", 0, "NAME", "for people"},
    {NULL, 0, NULL, NULL},
};
static const struct cli_option up_options[] = {
    {"wait", 0, "SECONDS", "until all targets serve; default 60"},
    {NULL, 0, NULL, NULL},
};
static const struct cli_option status_options[] = {
    {"check", 0, NULL, "end with status 1 when it is not healthy"},
    {NULL, 0, NULL, NULL},
};
const struct cli_command cli_local_commands[] = {
    {.name = "init",
     .arguments = "DIR",
     .summary = "make a cluster on this machine",
     .details = "Writes DIR/cluster.ini, the secrets, and directories for a metadata server and "
                "the data nodes. DIR must\nbe empty or absent. Nothing is started.",
     .options = init_options,
     .min_arguments = 1,
     .max_arguments = 1,
     .run = run_init},
    {.name = "up",
     .arguments = "[DIR]",
     .summary = "start the cluster of a directory",
     .details = "Starts what does not run yet, in the background, and waits until it serves. Logs "
                "are in DIR/log.",
     .options = up_options,
     .max_arguments = 1,
     .run = cli_run_up},
    {.name = "down",
     .arguments = "[DIR]",
     .summary = "stop the cluster of a directory",
     .details = "Stops all servers in good order.",
     .max_arguments = 1,
     .run = cli_run_down},
    {.name = "status",
     .arguments = "",
     .summary = "tell how the cluster is",
     .details = "The first line says it in one word. When something is wrong: what it is, what it "
                "means, what helps. Then what\nis stored, the metadata servers and the targets.",
     .options = status_options,
     .run = cli_run_status},
};
const size_t cli_local_command_count = ARRAY_COUNT(cli_local_commands);
