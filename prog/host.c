/* prog/host.c -- see host.h. Everything here is start-up and may block. */
#include "host.h"

#include "base/stats.h"
#include "base/text.h"
#include "client/directory.h"
#include "disk/local.h"
#include "loop/self.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define NS_PER_MS UINT64_C(1000000)
#define WAIT_MS UINT64_C(5000) /* for what this server must have */
#define PORT_MS UINT64_C(2000) /* for the port of last time: another one does as well */
#define WAIT_PAUSE_MS UINT64_C(20)

#define SECRET_FILE_MAX 256u
#define PID_SIZE 32u

static void write_line(struct log_sink *s, const struct log_line *line)
{
    (void)s;
    char text[LOG_LINE_SIZE + 256];
    size_t len = log_line_to_text(line, text, sizeof text - 1);
    text[len] = '\n';
    (void)fwrite(text, 1, len + 1, stderr); /* unbuffered: one write; nowhere to report a failure */
}

static uint64_t wall_ns(void *loop)
{
    return loop_wall_ns(loop);
}

/* ---- Configuration and secrets ---- */

static int load_secret(struct host *h, const char *path, struct peer_secret *ret, struct err *e)
{
    CLEANUP(mem_freep) void *text = NULL;
    size_t len = 0;
    struct disk_local_attr a;
    int rc = disk_local_stat(path, &a);
    if (rc == 0 && (a.mode & 077) != 0) {
        return err_set(e, -EACCES, "secret '%s' can be read by others (chmod 600 it)", path);
    }
    rc = rc < 0 ? rc : disk_load(h->disk, path, SECRET_FILE_MAX, &text, &len);
    if (rc < 0) {
        return err_set(e, rc, "secret '%s'", path);
    }
    struct cluster_secret secret;
    rc = cluster_secret_from_text(text, len, &secret);
    if (rc < 0) {
        return err_set(e, -ERR_config, "secret '%s' is not 64 hexadecimal digits", path);
    }
    _Static_assert(sizeof ret->bytes == sizeof secret.bytes, "one kind of secret");
    memcpy(ret->bytes, secret.bytes, sizeof ret->bytes);
    ret->known = true;
    return 0;
}

static int make_env(struct host *h, struct err *e)
{
    int rc = loop_new(&(struct loop_options){.name = "main"}, &h->loop, e);
    if (rc < 0) {
        return rc;
    }
    h->sink.write = write_line;
    h->log = log_new(&(struct log_options){.node = "opendfs",
                                           .level = LOG_INFO,
                                           .sink = &h->sink,
                                           .wall_ns = wall_ns,
                                           .clock = h->loop});
    h->stats = stats_new(NULL, "");
    if (h->log == NULL || h->stats == NULL) {
        return -ENOMEM;
    }
    mem_budget_init(&h->budget, NULL, HOST_BUDGET_BYTES);
    h->env = (struct env){.loop = h->loop, .log = h->log, .stats = h->stats, .budget = &h->budget};
    rc = disk_pool_new(&h->env, &(struct disk_pool_options){0}, &h->disk);
    h->env.disk = h->disk;
    rc = rc < 0 ? rc : net_socket_new(&h->env, &h->net);
    h->env.net = h->net;
    return rc;
}

int host_init_bare(struct host *h, struct err *e)
{
    *h = (struct host){0};
    return make_env(h, e);
}

int host_init(struct host *h, const char *config_path, struct err *e)
{
    *h = (struct host){.config_path = mem_strdup(config_path)};
    if (h->config_path == NULL) {
        return -ENOMEM;
    }
    int rc = make_env(h, e);
    rc = rc < 0 ? rc : client_directory_load_file(h->disk, h->config_path, &h->settings, e);
    rc = rc < 0 ? rc : load_secret(h, h->settings->server_secret, &h->secrets.server, e);
    rc = rc < 0 ? rc : load_secret(h, h->settings->client_secret, &h->secrets.client, e);
    rc = rc < 0 ? rc : disk_make_directories(h->disk, h->settings->run_directory);
    return rc;
}

void host_fini(struct host *h)
{
    if (h->watching) {
        loop_signal_remove(h->loop, &h->terminate);
        loop_signal_remove(h->loop, &h->interrupt);
        loop_signal_remove(h->loop, &h->hangup);
        loop_signal_remove(h->loop, &h->rotate);
    }
    if (h->pid_file != NULL) {
        struct disk_req req = {.op = DISK_CLOSE, .file = h->pid_file};
        (void)disk_now(h->disk, &req);
    }
    net_free(h->net);
    disk_free(h->disk);
    cluster_settings_free(h->settings);
    stats_free(h->stats);
    log_free(h->log);
    loop_free(h->loop);
    mem_free(h->name);
    mem_free(h->config_path);
}

int host_set_name(struct host *h, const char *name, struct err *e)
{
    h->name = mem_strdup(name);
    struct log *named =
        log_new(&(struct log_options){.node = h->name,
                                      .level = (enum log_level)h->settings->log_level,
                                      .sink = &h->sink,
                                      .wall_ns = wall_ns,
                                      .clock = h->loop});
    if (h->name == NULL || named == NULL) {
        log_free(named);
        return err_set(e, -ENOMEM, "start %s", name);
    }
    log_free(h->log);
    h->log = named;
    h->env.log = named;
    return 0;
}

int host_set_io(struct host *h, enum cluster_io io, struct err *e)
{
    if (io == CLUSTER_IO_THREADS) {
        log_info(h->log, "files are read and written by threads");
        return 0;
    }
    int rc = disk_pool_use_uring(h->disk);
    if (rc == 0) {
        log_info(h->log, "files are read and written by io_uring");
    } else if (io == CLUSTER_IO_AUTO) {
        log_info(h->log, "files are read and written by threads: there is no io_uring here",
                 LOG_RC(rc));
        rc = 0;
    }
    return rc < 0 ? err_set(e, rc, "io = uring: there is no io_uring here") : 0;
}

/* ---- Whose process this is ---- */

bool host_has_user(const struct host *h)
{
    return h->settings->user[0] != 0 && loop_self_is_root();
}

void host_open_log(struct host *h)
{
    struct err e = {0};
    int rc = h->log_path == NULL ? 0 : loop_self_log(h->log_path, &e);
    if (rc < 0) {
        log_error(h->log, "the log is not opened anew", LOG_TEXT("error", err_message(&e, rc)));
    }
}

/* Perhaps only root may make it; later this user opens it anew. */
static void give_log(struct host *h)
{
    struct err e = {0};
    int rc = h->log_path == NULL ? 0 : loop_self_give_log(h->log_path, h->settings->user, &e);
    if (rc < 0) {
        log_warn(h->log, "the log stays with root", LOG_TEXT("error", err_message(&e, rc)));
    }
}

int host_become_user(struct host *h, struct err *e)
{
    int rc = 0;
    if (h->pid_fd > 0) {
        host_open_log(h); /* the program before has left one: what runs does not end for a log */
    } else if (h->log_path != NULL) {
        rc = loop_self_log(h->log_path, e);
    }
    if (rc < 0 || !host_has_user(h)) {
        return rc;
    }
    give_log(h);
    return loop_self_become(h->settings->user, e);
}

/* ---- What the former life has not let go of yet ---- */

static void pause_over(struct loop_timer *t)
{
    (void)t;
}

static bool wait_within(struct host *h, struct host_wait *w, uint64_t limit_ms)
{
    struct loop_timer t = {.fire = pause_over};
    uint64_t now_ns = loop_now_ns(h->loop);
    if (w->end_ns == 0) {
        w->end_ns = now_ns + limit_ms * NS_PER_MS;
        log_info(h->log, "waiting for what somebody else still has", LOG_TEXT("what", w->what));
    }
    if (now_ns >= w->end_ns || h->stopping) {
        return false;
    }
    loop_timer_in(h->loop, &t, WAIT_PAUSE_MS * NS_PER_MS);
    while (loop_timer_active(&t)) {
        loop_run_once(h->loop, WAIT_PAUSE_MS * NS_PER_MS);
    }
    return !h->stopping;
}

bool host_wait(struct host *h, struct host_wait *w)
{
    return wait_within(h, w, WAIT_MS);
}

/* ---- Files in run/ ---- */

static char *run_path(const struct host *h, const char *name, const char *suffix)
{
    return mem_printf("%s/%s.%s", h->settings->run_directory, name, suffix);
}

void host_inherit_pid_file(struct host *h, int fd)
{
    h->pid_fd = fd;
}

int host_pid_fd(const struct host *h)
{
    return h->pid_fd > 0 ? h->pid_fd : disk_file_fd(h->pid_file);
}

void host_await_pid_file(struct host *h)
{
    CLEANUP(mem_freep) char *path = run_path(h, h->name, "pid");
    struct disk_req open = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE};
    struct host_wait wait = {.what = path};
    if (h->pid_fd > 0 || path == NULL || disk_now(h->disk, &open) < 0) {
        return; /* it is this process's, or of nobody, or whoever takes it says what is wrong */
    }
    struct disk_req lock;
    do {
        lock = (struct disk_req){.op = DISK_LOCK, .file = open.file};
    } while (disk_now(h->disk, &lock) == -ERR_in_use && host_wait(h, &wait));
    struct disk_req close = {.op = DISK_CLOSE, .file = open.file};
    (void)disk_now(h->disk, &close); /* nothing was written through it */
}

int host_take_pid_file(struct host *h, struct err *e)
{
    if (h->pid_fd > 0) {
        return 0; /* with this very process id in it */
    }
    CLEANUP(mem_freep) char *path = run_path(h, h->name, "pid");
    if (path == NULL) {
        return -ENOMEM;
    }
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE | DISK_CREATE};
    int64_t rc = disk_now(h->disk, &req);
    if (rc < 0) {
        return err_set(e, (int)rc, "pid file '%s'", path);
    }
    h->pid_file = req.file;
    req = (struct disk_req){.op = DISK_LOCK, .file = h->pid_file};
    rc = disk_now(h->disk, &req);
    if (rc < 0) {
        return err_set(e, (int)rc, "%s runs already ('%s')", h->name, path);
    }
    char text[PID_SIZE];
    int len = snprintf(text, sizeof text, "%lld\n", (long long)loop_process_id(h->loop));
    req = (struct disk_req){.op = DISK_TRUNCATE, .file = h->pid_file};
    rc = disk_now(h->disk, &req);
    req =
        (struct disk_req){.op = DISK_WRITE, .file = h->pid_file, .buf = text, .len = (uint64_t)len};
    rc = rc < 0 ? rc : disk_now(h->disk, &req);
    return rc < 0 ? err_set(e, (int)rc, "write pid file '%s'", path) : 0;
}

int host_publish_address(struct host *h, const struct net_address *at, struct err *e)
{
    CLEANUP(mem_freep) char *path = run_path(h, h->name, "address");
    CLEANUP(mem_freep) char *port = run_path(h, h->name, "port");
    if (path == NULL || port == NULL) {
        return -ENOMEM;
    }
    char line[NET_ADDRESS_SIZE + 1];
    size_t len = (size_t)snprintf(line, sizeof line, "%s\n", at->text);
    int rc = disk_store(h->disk, port, line, len);
    rc = rc < 0 ? rc : disk_store(h->disk, path, line, len);
    return rc < 0 ? err_set(e, rc, "publish the address in '%s'", path) : 0;
}

/* The former life of a server that was killed lets go of its lock before it lets go of its port,
 * and whoever is connected looks for the server there. False: somebody else has it. */
static bool gets_free(struct host *h, const struct net_address *at, uint64_t limit_ms)
{
    struct host_wait wait = {.what = at->text};
    struct net_listener *li = NULL;
    int rc;
    do {
        rc = net_listen(h->net, at, NULL, &li);
    } while (rc == -EADDRINUSE && wait_within(h, &wait, limit_ms));
    if (rc == 0) {
        net_listener_close(h->net, li);
    }
    return rc == 0;
}

int host_configured_address(struct host *h, const char *configured, struct net_address *ret,
                            struct err *e)
{
    int rc = net_address_parse(configured, CLUSTER_PORT_META, ret, e);
    if (rc == 0 && !net_address_is_loopback(ret) && !h->settings->insecure) {
        rc = err_set(e, -ERR_config,
                     "'%s' is not a loopback address, and connections are not encrypted: only "
                     "with 'insecure = yes' in [cluster]",
                     configured);
    }
    return rc;
}

int host_listen_address(struct host *h, const char *configured, struct net_address *ret,
                        struct err *e)
{
    int rc = host_configured_address(h, configured, ret, e);
    if (rc < 0) {
        return rc;
    }
    if (!client_directory_port_is_free_choice(configured)) {
        (void)gets_free(h, ret, WAIT_MS); /* if not, who listens there says why */
        return 0;
    }
    char line[NET_ADDRESS_SIZE];
    struct net_address last;
    CLEANUP(mem_freep) char *port = run_path(h, h->name, "port");
    if (port != NULL && client_directory_line(h->disk, port, line, sizeof line) == 0 &&
        net_address_parse(line, 0, &last, NULL) == 0 && gets_free(h, &last, PORT_MS)) {
        *ret = last;
    }
    return 0;
}

int host_take_new_mark(struct host *h, const char *directory, bool *ret_new, struct err *e)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/opendfs-new", directory);
    if (path == NULL) {
        return -ENOMEM;
    }
    struct disk_req req = {.op = DISK_REMOVE, .path = path};
    int64_t rc = disk_now(h->disk, &req);
    *ret_new = rc == 0;
    if (rc == 0) {
        req = (struct disk_req){.op = DISK_SYNC_DIR, .path = directory};
        rc = disk_now(h->disk, &req);
    }
    return rc < 0 && rc != -ENOENT ? err_set(e, (int)rc, "'%s'", path) : 0;
}

/* ---- Signals ---- */

static void stop_wanted(struct host *h)
{
    if (!h->stopping) {
        h->stopping = true;
        log_info(h->log, "stopping");
        if (h->stop != NULL) {
            h->stop(h);
        }
    }
}

static void terminated(struct loop_signal *s, int signo)
{
    (void)signo;
    stop_wanted(container_of(s, struct host, terminate));
}

static void interrupted(struct loop_signal *s, int signo)
{
    (void)signo;
    stop_wanted(container_of(s, struct host, interrupt));
}

static void rotate(struct loop_signal *s, int signo)
{
    (void)signo;
    struct host *h = container_of(s, struct host, rotate);
    host_open_log(h);
    if (h->rotated != NULL) {
        h->rotated(h);
    }
}

/* Blocks for the moment that reading a small file takes. */
static void reload(struct loop_signal *s, int signo)
{
    (void)signo;
    struct host *h = container_of(s, struct host, hangup);
    CLEANUP(cluster_settings_freep) struct cluster_settings *fresh = NULL;
    struct err e = {0};
    host_open_log(h);
    int rc = client_directory_load_file(h->disk, h->config_path, &fresh, &e);
    if (rc == 0 && !uuid_equal(&fresh->id, &h->settings->id)) {
        rc = err_set(&e, -ERR_wrong_cluster, "'%s' is of another cluster", h->config_path);
    }
    if (rc < 0) {
        log_error(h->log, "configuration is not reloaded", LOG_TEXT("error", err_message(&e, rc)));
        return;
    }
    log_set_level(h->log, (enum log_level)fresh->log_level);
    log_info(h->log, "log level reloaded",
             LOG_TEXT("level", log_level_name((enum log_level)fresh->log_level)));
    if (h->reload != NULL && !h->stopping) {
        h->reload(h, fresh);
    }
}

int host_watch_signals(struct host *h, struct err *e)
{
    h->terminate = (struct loop_signal){.caught = terminated, .signo = SIGTERM};
    h->interrupt = (struct loop_signal){.caught = interrupted, .signo = SIGINT};
    h->hangup = (struct loop_signal){.caught = reload, .signo = SIGHUP};
    h->rotate = (struct loop_signal){.caught = rotate, .signo = SIGUSR1};
    h->watching = true;
    struct loop_signal *all[] = {&h->terminate, &h->interrupt, &h->hangup, &h->rotate};
    for (size_t i = 0; i < ARRAY_COUNT(all); i++) {
        int rc = loop_signal_add(h->loop, all[i]);
        if (rc < 0) {
            return err_set(e, rc, "watch signal %d", all[i]->signo);
        }
    }
    return 0;
}
