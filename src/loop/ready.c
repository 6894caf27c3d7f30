#include "loop/ready.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* A pipe: its end is the end of the child, whatever happened to that. */

struct waiting {
    struct loop_fd watch;
    struct loop *loop;
    int rc;
};

int loop_ready_init(struct loop_ready *r)
{
    int fd[2];
    *r = (struct loop_ready){-1, -1};
    if (pipe2(fd, O_CLOEXEC) < 0) {
        return -errno;
    }
    int flags = fcntl(fd[0], F_GETFL);
    if (flags < 0 || fcntl(fd[0], F_SETFL, flags | O_NONBLOCK) < 0) {
        int rc = -errno;
        (void)close(fd[0]);
        (void)close(fd[1]);
        return rc;
    }
    *r = (struct loop_ready){fd[0], fd[1]};
    return 0;
}

static void end_close(int *fd)
{
    if (*fd >= 0) {
        (void)close(*fd);
    }
    *fd = -1;
}

void loop_ready_fini(struct loop_ready *r)
{
    end_close(&r->read_fd);
    end_close(&r->write_fd);
}

static void waiting_read(struct loop_fd *f, unsigned events)
{
    struct waiting *w = container_of(f, struct waiting, watch);
    char byte;
    (void)events;
    ssize_t n;
    do {
        n = read(f->fd, &byte, 1);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) {
        loop_fd_want(w->loop, f, LOOP_READABLE);
        return;
    }
    w->rc = n < 0 ? -errno : (int)n;
    loop_stop(w->loop, 0);
}

int loop_ready_wait(struct loop *l, struct loop_ready *r)
{
    struct waiting w = {.watch = {.ready = waiting_read, .fd = r->read_fd}, .loop = l};
    end_close(&r->write_fd);
    int rc = loop_fd_add(l, &w.watch);
    if (rc < 0) {
        return rc;
    }
    (void)loop_run(l);
    loop_fd_remove(l, &w.watch);
    return w.rc;
}

void loop_ready_say(int fd)
{
    while (write(fd, "+", 1) < 0 && errno == EINTR) {
    }
    (void)close(fd); /* is who started us gone, then nobody wants to know */
}
