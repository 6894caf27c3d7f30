/* prog/mount.c -- `opendfs mount`: a file system of this machine on the client library. */
#include "servers.h"

#include "base/env.h"
#include "mount/mount.h"

#include <signal.h>
#include <stdio.h>

/* The main thread waits for signals; the mount lives on the loop of the client's thread. */
struct mount_process {
    struct cli *cli;
    struct loop *main;
    struct opendfs *fs;
    struct mount *mount;
    struct loop_signal terminate, interrupt;
    struct loop_message to_client, to_main;
    struct err error;
    int rc;
    bool ending, over;
};

static void process_over(struct loop_message *m)
{
    struct mount_process *p = container_of(m, struct mount_process, to_main);
    loop_stop(p->main, p->rc < 0 ? CLI_EXIT_FAILED : 0);
}

/* On the client's loop: the last that is done there. */
static void process_tell(struct mount_process *p)
{
    p->over = true;
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
    const char *options = cli_value(p->cli, "options");
    const char *source = cli_argument(p->cli, 0);
    const struct mount_options opt = {.env = client_env(p->fs),
                                      .fs = p->fs,
                                      .at = cli_argument(p->cli, 1),
                                      .source = source,
                                      .options = options,
                                      .ended = process_ended,
                                      .context = p};
    p->rc = mount_new(&opt, &p->mount, &p->error);
    if (p->rc < 0) {
        process_tell(p);
    } else {
        cli_say(p->cli, "%s is mounted on %s", source, opt.at);
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

int server_mount(struct cli *c)
{
    struct mount_process p = {.cli = c, .main = cli_loop(c)};
    p.terminate = (struct loop_signal){.caught = process_terminated, .signo = SIGTERM};
    p.interrupt = (struct loop_signal){.caught = process_interrupted, .signo = SIGINT};
    if (loop_signal_add(p.main, &p.terminate) < 0 || loop_signal_add(p.main, &p.interrupt) < 0) {
        return cli_fail(c, "signals cannot be watched");
    }
    int code = cli_client(c, &p.fs);
    if (code == 0) {
        p.to_client.run = process_begin;
        loop_complete(client_env(p.fs)->loop, &p.to_client);
        code = loop_run(p.main);
    }
    if (p.rc < 0) {
        cli_fail(c, "%s", err_message(&p.error, p.rc));
    }
    loop_signal_remove(p.main, &p.terminate);
    loop_signal_remove(p.main, &p.interrupt);
    return code;
}
