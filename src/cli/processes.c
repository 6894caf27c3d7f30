/*
 * cli/processes.c -- up, down: servers as detached processes.
 *
 * A server runs when it holds the lock of its pid file, so a stale file or a reused number is never
 * taken for it.
 */
#include "cli/local_priv.h"

#include "base/mem.h"
#include "base/text.h"
#include "loop/self.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define POLL_MS 20u
#define DYING_MS 400u
#define START_LIMIT_MS 30000u
#define STOP_LIMIT_MS 20000u
#define LOG_TAIL_BYTES 2000u
#define NS_PER_MS 1000000u

static uint64_t now_ms(const struct local *l)
{
    return loop_now_ns(l->c->loop) / NS_PER_MS;
}

static const char *directory_of(const struct cli *c)
{
    if (c->argument_count > 0) {
        return c->argument[0];
    }
    return c->cluster == NULL ? "." : c->cluster;
}

static char *log_path(const struct local *l, const char *name)
{
    return mem_printf("%s/%s.log", l->settings->log_directory, name);
}

/* The last lines of its log: why it did not start. */
static void show_log(struct local *l, const char *name)
{
    CLEANUP(mem_freep) char *path = log_path(l, name);
    CLEANUP(mem_freep) void *text = NULL;
    size_t len = 0;
    if (path == NULL || disk_load(l->disk, path, 64u << 20, &text, &len) < 0) {
        return;
    }
    const char *at = text;
    const char *tail = len > LOG_TAIL_BYTES ? at + len - LOG_TAIL_BYTES : at;
    const char *line = tail == at ? tail : strchr(tail, '\n');
    cli_say(l->c, "the end of %s:\n%s", path, line == NULL ? tail : line);
}

/* ---- up ---- */

static int spawn(struct local *l, const char *command, const char *option, const char *name,
                 int64_t *ret_pid)
{
    CLEANUP(mem_freep) char *given = log_path(l, name);
    CLEANUP(mem_freep) char *log = given == NULL ? NULL : loop_self_absolute(given);
    CLEANUP(mem_freep) char *config = loop_self_absolute(l->config_path);
    CLEANUP(mem_freep) char *address = cli_local_run_path(l, name, "address");
    int rc = log == NULL || config == NULL || address == NULL
                 ? -ENOMEM
                 : disk_make_directories(l->disk, l->settings->log_directory);
    if (rc < 0) {
        return cli_fail_path(l->c, l->settings->log_directory, rc);
    }
    struct disk_req stale = {.op = DISK_REMOVE, .path = address};
    (void)disk_now(l->disk, &stale); /* of its former life; mostly not there */
    const char *argv[] = {
        l->c->opt->program, command, "--config", config, option, name, "--log", log, NULL};
    struct loop_spawn_options o = {.argv = argv, .log_path = log, .detach = true, .leave = true};
    struct loop_child child = {0};
    struct err e = {0};
    rc = loop_spawn(l->c->loop, &o, &child, &e);
    if (rc < 0) {
        return cli_fail(l->c, "start %s: %s", name, err_message(&e, rc));
    }
    *ret_pid = child.pid;
    return 0;
}

/* Until it holds its pid file, and for a metadata server has published its address. */
static int wait_for_start(struct local *l, const char *name, int64_t pid, bool address)
{
    CLEANUP(mem_freep) char *path = cli_local_run_path(l, name, "address");
    uint64_t limit = now_ms(l) + START_LIMIT_MS;
    while (now_ms(l) < limit && path != NULL) {
        int64_t found;
        struct disk_req req = {.op = DISK_STAT, .path = path};
        if (cli_local_server(l, name, &found) == LOCAL_RUNNING &&
            (!address || disk_now(l->disk, &req) >= 0)) {
            return 0;
        }
        if (loop_process_signal(l->c->loop, pid, 0) == -ESRCH) {
            cli_fail(l->c, "%s has ended at once", name);
            show_log(l, name);
            return CLI_EXIT_FAILED;
        }
        cli_local_wait_ms(l, POLL_MS);
    }
    cli_fail(l->c, "%s does not get ready", name);
    show_log(l, name);
    return CLI_EXIT_FAILED;
}

static int start_server(struct local *l, const char *kind, const char *option, const char *name,
                        size_t *started)
{
    int64_t pid;
    if (cli_local_server(l, name, &pid) == LOCAL_RUNNING) {
        return 0;
    }
    int status = spawn(l, kind, option, name, &pid);
    status = status != 0 ? status : wait_for_start(l, name, pid, strcmp(kind, "meta") == 0);
    *started += status == 0 ? 1 : 0;
    return status;
}

static int start_servers(struct local *l, size_t *started)
{
    const struct cluster_settings *s = l->settings;
    int status = 0;
    for (size_t i = 0; status == 0 && i < s->meta_count; i++) {
        status = start_server(l, "meta", "--name", s->metas[i].name, started);
    }
    for (size_t i = 0; status == 0 && i < s->node_count; i++) {
        status = start_server(l, "data", "--node", s->nodes[i].name, started);
    }
    return status;
}

/* A process that is being killed holds its lock until the kernel has taken it down, which may take
 * a while: what seems to run is looked at again. */
static int start_all(struct local *l, size_t *started)
{
    size_t all = l->settings->meta_count + l->settings->node_count;
    uint64_t limit = now_ms(l) + DYING_MS;
    int status = start_servers(l, started);
    while (status == 0 && *started < all && now_ms(l) < limit) {
        cli_local_wait_ms(l, POLL_MS);
        status = start_servers(l, started);
    }
    return status;
}

/* The first target without a worker; NULL: all have one. What the metadata server says of a target
 * that died without a word is old for as long as its lease. */
static const struct cluster_settings_target *missing_worker(struct local *l)
{
    const struct cluster_settings *s = l->settings;
    for (size_t i = 0; i < s->target_count; i++) {
        int64_t pid;
        if (cli_local_server(l, s->targets[i].name, &pid) == LOCAL_STOPPED) {
            return &s->targets[i];
        }
    }
    return NULL;
}

static int say_what_is_missing(struct local *l, const struct cluster_health *h, uint64_t limit_ms)
{
    unsigned long long seconds = limit_ms / 1000;
    const struct cluster_settings_target *t = missing_worker(l);
    if (t == NULL) {
        return cli_fail(l->c, "only %zu of %zu targets serve after %llu s: %s", h->targets_up,
                        l->settings->target_count, seconds, h->words);
    }
    cli_fail(l->c, "%s does not run after %llu s", t->name, seconds);
    show_log(l, l->settings->nodes[t->node].name);
    return CLI_EXIT_FAILED;
}

static int wait_for_health(struct local *l, uint64_t limit_ms)
{
    struct cli *c = l->c;
    c->cluster = l->directory;
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    uint64_t limit = now_ms(l) + limit_ms;
    struct cluster_health h = {0};
    for (;;) {
        status = cli_status_ask(c, &h);
        bool good = h.good && h.targets_up >= l->settings->target_count;
        if (status != 0 || (good && missing_worker(l) == NULL)) {
            return status;
        }
        if (now_ms(l) >= limit) {
            return say_what_is_missing(l, &h, limit_ms);
        }
        cli_local_wait_ms(l, UINT64_C(5) * POLL_MS);
    }
}

int cli_run_up(struct cli *c)
{
    uint64_t wait_s = 60;
    const char *wait = cli_value(c, "wait");
    if (wait != NULL && (text_to_u64(wait, &wait_s) < 0 || wait_s > 86400)) {
        return cli_usage(c, "--wait '%s' is not a number of seconds", wait);
    }
    struct local l;
    size_t started = 0;
    int status = cli_local_open(&l, c, directory_of(c));
    status = status != 0 ? status : cli_local_lock(&l);
    status = status != 0 ? status : start_all(&l, &started);
    if (status == 0 && wait_s > 0) {
        status = wait_for_health(&l, 1000 * wait_s);
    }
    if (status == 0 && started == 0) {
        cli_say(c, "%s: was running already", l.directory);
    } else if (status == 0) {
        cli_say(c, "%s: %zu metadata server%s and %zu data nodes run, %zu targets", l.directory,
                l.settings->meta_count, l.settings->meta_count == 1 ? "" : "s",
                l.settings->node_count, l.settings->target_count);
    }
    cli_local_close(&l);
    return status;
}

/* ---- down ---- */

static int wait_for_end(struct local *l, const char *name, int64_t pid, uint64_t limit_ms)
{
    uint64_t limit = now_ms(l) + limit_ms;
    while (now_ms(l) < limit) {
        int64_t now_pid;
        if (cli_local_server(l, name, &now_pid) == LOCAL_STOPPED || now_pid != pid) {
            return 0;
        }
        cli_local_wait_ms(l, POLL_MS);
    }
    return -ETIMEDOUT;
}

static int stop_server(struct local *l, const char *name, size_t *stopped)
{
    int64_t pid;
    if (cli_local_server(l, name, &pid) == LOCAL_STOPPED) {
        return 0;
    }
    int rc = loop_process_signal(l->c->loop, pid, SIGTERM);
    if (rc < 0 && rc != -ESRCH) {
        return cli_fail(l->c, "stop %s (process %lld): %s", name, (long long)pid, err_text(rc));
    }
    if (wait_for_end(l, name, pid, STOP_LIMIT_MS) < 0) {
        cli_say(l->c, "%s (process %lld) does not end: killing it; nothing acknowledged is lost",
                name, (long long)pid);
        (void)loop_process_signal(l->c->loop, pid, SIGKILL);
        if (wait_for_end(l, name, pid, STOP_LIMIT_MS) < 0) {
            return cli_fail(l->c, "%s (process %lld) cannot be ended", name, (long long)pid);
        }
    }
    (*stopped)++;
    return 0;
}

int cli_run_down(struct cli *c)
{
    struct local l;
    size_t stopped = 0;
    int status = cli_local_open(&l, c, directory_of(c));
    status = status != 0 ? status : cli_local_lock(&l);
    /* Metadata first: so nobody takes notes while one data node after the other goes, and at the
     * next start all copies are as good as each other, even if one of them does not come back. */
    for (size_t i = 0; status == 0 && i < l.settings->meta_count; i++) {
        status = stop_server(&l, l.settings->metas[i].name, &stopped);
    }
    for (size_t i = 0; status == 0 && i < l.settings->node_count; i++) {
        status = stop_server(&l, l.settings->nodes[i].name, &stopped);
    }
    /* Workers end with their masters; one whose master was killed has its own pid file. */
    for (size_t i = 0; status == 0 && i < l.settings->target_count; i++) {
        status = stop_server(&l, l.settings->targets[i].name, &stopped);
    }
    if (status == 0) {
        cli_say(c, stopped == 0 ? "%s: nothing was running" : "%s: stopped", l.directory);
    }
    cli_local_close(&l);
    return status;
}
