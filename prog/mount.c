/* prog/mount.c -- `opendfs mount`: a file system of this machine on the client library. */
#include "mount/mount.h"

#include "base/env.h"
#include "base/mem.h"
#include "loop/ready.h"
#include "loop/self.h"
#include "mount/options.h"
#include "net/notify.h"
#include "opendfs/async.h"
#include "servers.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READY_FD 3 /* of a child */

/* The main thread waits for signals; the mount lives on the loop of the client's thread. */
struct mount_process {
    struct cli *cli;
    struct loop *main;
    struct opendfs *fs;
    struct mount *mount;
    struct mount_setup setup;
    const char *source, *at;
    uint64_t root;
    struct loop_signal terminate, interrupt;
    struct loop_message to_client, to_main;
    struct err error;
    int rc;
    bool ending, child;
};

/* It is mounted: so who started us, and a service manager, are told; then words go to the log. */
static void process_ready(struct mount_process *p)
{
    cli_say(p->cli, "%s is mounted on %s", p->source, p->at);
    if (net_notify(getenv("NOTIFY_SOCKET"), "READY=1") < 0) {
        cli_say(p->cli, "the service manager cannot be told: NOTIFY_SOCKET");
    }
    if (p->setup.log != NULL || p->child) {
        const char *log = p->setup.log == NULL ? "/dev/null" : p->setup.log;
        int rc = loop_self_log(log, &p->error);
        if (rc < 0) {
            cli_say(p->cli, "%s", err_message(&p->error, rc));
        }
    }
    if (loop_self_leave() < 0) {
        cli_say(p->cli, "the working directory stays in use");
    }
    if (p->child) {
        loop_ready_say(READY_FD);
    }
}

static void process_over(struct loop_message *m)
{
    struct mount_process *p = container_of(m, struct mount_process, to_main);
    loop_stop(p->main, p->rc < 0 ? CLI_EXIT_FAILED : 0);
}

/* On the client's loop: the last that is done there. */
static void process_tell(struct mount_process *p)
{
    p->to_main.run = process_over;
    loop_complete(p->main, &p->to_main);
}

static void process_stopped(void *context)
{
    struct mount_process *p = context;
    p->mount = mount_free(p->mount);
    process_tell(p);
}

static void process_end(struct mount_process *p)
{
    if (p->mount != NULL && !p->ending) {
        p->ending = true;
        mount_stop(p->mount, process_stopped, p);
    }
}

static void process_ended(void *context, int rc)
{
    struct mount_process *p = context;
    p->rc = p->rc < 0 ? p->rc : rc;
    process_end(p);
}

static void process_begin(struct loop_message *m)
{
    struct mount_process *p = container_of(m, struct mount_process, to_client);
    const struct mount_options opt = {.env = client_env(p->fs),
                                      .fs = p->fs,
                                      .root = p->root,
                                      .at = p->at,
                                      .source = p->source,
                                      .options = p->setup.kernel,
                                      .read_ahead_bytes = p->setup.read_ahead_bytes,
                                      .ended = process_ended,
                                      .context = p};
    p->rc = mount_new(&opt, &p->mount, &p->error);
    if (p->rc < 0) {
        process_tell(p);
    } else {
        process_ready(p);
    }
}

static void process_interrupt(struct loop_message *m)
{
    process_end(container_of(m, struct mount_process, to_client));
}

static void process_caught(struct mount_process *p)
{
    p->to_client.run = process_interrupt;
    loop_complete(client_env(p->fs)->loop, &p->to_client);
}

static void process_terminated(struct loop_signal *s, int signo)
{
    (void)signo;
    process_caught(container_of(s, struct mount_process, terminate));
}

static void process_interrupted(struct loop_signal *s, int signo)
{
    (void)signo;
    process_caught(container_of(s, struct mount_process, interrupt));
}

/* The directory of the tree that is mounted. 0 or an exit status. */
static int process_root(struct mount_process *p)
{
    struct opendfs_stat st;
    int rc = opendfs_stat(p->fs, p->setup.path, &st);
    rc = rc == 0 && st.type != OPENDFS_TYPE_DIRECTORY ? -ENOTDIR : rc;
    if (rc < 0) {
        return cli_fail(p->cli, "%s: %s", p->source, opendfs_error_text(rc));
    }
    p->root = st.ino;
    return 0;
}

static int process_run(struct mount_process *p)
{
    const struct opendfs_options wanted = {.cluster = p->setup.cluster,
                                           .secret_file = p->setup.secret,
                                           .timeout_ms = p->setup.timeout_ms,
                                           .cache_bytes = p->setup.cache_bytes};
    int code = cli_client(p->cli, &wanted, &p->fs);
    code = code == 0 ? process_root(p) : code;
    if (code != 0) {
        return code;
    }
    p->to_client.run = process_begin;
    loop_complete(client_env(p->fs)->loop, &p->to_client);
    code = loop_run(p->main);
    if (p->rc < 0) {
        cli_fail(p->cli, "%s: %s", p->source, err_message(&p->error, p->rc));
    }
    return code;
}

static int process_foreground(struct mount_process *p)
{
    p->terminate = (struct loop_signal){.caught = process_terminated, .signo = SIGTERM};
    p->interrupt = (struct loop_signal){.caught = process_interrupted, .signo = SIGINT};
    if (loop_signal_add(p->main, &p->terminate) < 0 ||
        loop_signal_add(p->main, &p->interrupt) < 0) {
        return cli_fail(p->cli, "signals cannot be watched");
    }
    int code = process_run(p);
    loop_signal_remove(p->main, &p->terminate);
    loop_signal_remove(p->main, &p->interrupt);
    return code;
}

/* The same command once more, which goes on when this one has ended. What it says until it is ready
 * goes where ours goes; later to its log. */
static int process_background(struct mount_process *p)
{
    const char *options = cli_value(p->cli, "options"), *cluster = cli_cluster(p->cli);
    const char *argv[] = {NULL,
                          "mount",
                          p->source,
                          p->at,
                          "--foreground",
                          "--options",
                          options == NULL ? "" : options,
                          "--cluster",
                          cluster == NULL ? "." : cluster,
                          NULL};
    struct loop_ready ready;
    struct loop_child child = {0};
    struct err e = {0};
    int rc = loop_ready_init(&ready);
    if (rc < 0) {
        return cli_fail(p->cli, "mount in the background: %s", err_text(rc));
    }
    const struct loop_spawn_options spawn = {
        .argv = argv, .fds = &ready.write_fd, .fd_count = 1, .detach = true};
    rc = loop_spawn(p->main, &spawn, &child, &e);
    rc = rc < 0 ? rc : loop_ready_wait(p->main, &ready);
    loop_ready_fini(&ready);
    if (rc < 0) {
        return cli_fail(p->cli, "mount in the background: %s", err_message(&e, rc));
    }
    return rc == 1 ? 0 : CLI_EXIT_FAILED; /* it has said why */
}

int server_mount(struct cli *c)
{
    struct mount_process p = {
        .cli = c, .main = cli_loop(c), .source = cli_argument(c, 0), .at = cli_argument(c, 1)};
    CLEANUP(mem_freep) char *fds = loop_self_take("OPENDFS_FDS");
    p.child = fds != NULL && strcmp(fds, "1") == 0;
    struct err e = {0};
    if (cli_flag(c, "status")) {
        return cli_argument(c, 1) == NULL
                   ? cli_mounts_show(c, p.source)
                   : cli_usage(c, "--status is asked of one directory, or of all");
    }
    if (p.at == NULL) {
        return cli_usage(c, "what is to be mounted, and where?");
    }
    int rc =
        mount_setup_parse(p.source, cli_value(c, "options"), loop_self_is_root(), &p.setup, &e);
    if (rc < 0) {
        return cli_usage(c, "%s", err_message(&e, rc));
    }
    CLEANUP(mem_freep) char *at = loop_self_absolute(p.at); /* it is unmounted from elsewhere */
    if (at == NULL) {
        mount_setup_fini(&p.setup);
        return cli_fail(c, "%s: no such path from here", p.at);
    }
    p.at = at;
    int code = cli_flag(c, "foreground") ? process_foreground(&p) : process_background(&p);
    mount_setup_fini(&p.setup);
    return code;
}
