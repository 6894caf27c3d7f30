/* bench/machine.c -- plain files and sockets; see machine.h. */
#include "machine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#define PIECE_BYTES (UINT64_C(4) << 20)
#define PATH_SIZE 4096u

double machine_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* --- Processes -------------------------------------------------------------------------------- */

double machine_process_cpu(const char *pid)
{
    char path[64], text[1024];
    unsigned long long ticks[4] = {0};
    (void)snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return 0;
    }
    size_t len = fread(text, 1, sizeof text - 1, f);
    (void)fclose(f);
    text[len] = '\0';
    /* utime, stime, cutime, cstime: the 12th to 15th behind the name, which may hold anything. */
    const char *at = strrchr(text, ')');
    if (at == NULL || /* NOLINTNEXTLINE(cert-err34-c): the kernel's own numbers */
        sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %llu %llu",
               &ticks[0], &ticks[1], &ticks[2], &ticks[3]) != 4) {
        return 0;
    }
    return (double)(ticks[0] + ticks[1] + ticks[2] + ticks[3]) / (double)sysconf(_SC_CLK_TCK);
}

double machine_cluster_cpu(const char *directory, const char *names)
{
    char path[PATH_SIZE];
    double seconds = 0;
    (void)snprintf(path, sizeof path, "%s/run", directory);
    DIR *d = opendir(path);
    const struct dirent *entry;
    while (d != NULL && (entry = readdir(d)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');
        bool wanted = strncmp(entry->d_name, names, strlen(names)) == 0;
        if (!wanted || dot == NULL || strcmp(dot, ".pid") != 0) {
            continue;
        }
        char pid[32] = "";
        (void)snprintf(path, sizeof path, "%s/run/%s", directory, entry->d_name);
        FILE *f = fopen(path, "re");
        if (f != NULL && fscanf(f, "%20[0-9]", pid) == 1) {
            seconds += machine_process_cpu(pid);
        }
        if (f != NULL) {
            (void)fclose(f);
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return seconds;
}

/* --- Files ------------------------------------------------------------------------------------ */

static int write_all(int fd, const uint8_t *from, uint64_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, from, len);
        if (n < 0) {
            return -errno;
        }
        from += n;
        len -= (uint64_t)n;
    }
    return 0;
}

static int plain_file(const char *directory, const char *name)
{
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int rc = fd < 0 ? -errno : fd;
    if (fd >= 0) {
        (void)unlink(path); /* nothing stays behind, whatever happens */
    }
    return rc;
}

static int fill_files(const int *fd, unsigned count)
{
    uint8_t *piece = malloc(PIECE_BYTES);
    int rc = piece == NULL ? -ENOMEM : 0;
    if (rc == 0) {
        memset(piece, 0x5a, PIECE_BYTES);
    }
    for (uint64_t at = 0; at < MACHINE_FILE_BYTES && rc == 0; at += PIECE_BYTES) {
        for (unsigned i = 0; i < count && rc == 0; i++) {
            rc = write_all(fd[i], piece, PIECE_BYTES);
        }
    }
    free(piece);
    return rc;
}

int machine_files(const char *directory, double *ret_seconds)
{
    int fd[2] = {plain_file(directory, "plain.0"), plain_file(directory, "plain.1")};
    int rc = fd[0] < 0 ? fd[0] : fd[1] < 0 ? fd[1] : 0;
    double began = machine_now();
    rc = rc == 0 ? fill_files(fd, 2) : rc;
    for (unsigned i = 0; i < 2; i++) {
        if (rc == 0 && fsync(fd[i]) < 0) {
            rc = -errno;
        }
    }
    *ret_seconds = machine_now() - began;
    for (unsigned i = 0; i < 2; i++) {
        if (fd[i] >= 0) {
            (void)close(fd[i]);
        }
    }
    return rc;
}

/* --- Sockets ---------------------------------------------------------------------------------- */

static void *swallow(void *arg)
{
    int fd = *(int *)arg;
    uint8_t *piece = malloc(PIECE_BYTES);
    while (piece != NULL && recv(fd, piece, PIECE_BYTES, MSG_WAITALL) > 0) {
    }
    free(piece);
    (void)close(fd); /* which tells the sender that all of it is here */
    return NULL;
}

/* fd[0] is connected to fd[1]. */
static int loopback_pair(int *fd)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fd[1] = -1;
    bool good =
        listener >= 0 && fd[0] >= 0 && bind(listener, (struct sockaddr *)&at, sizeof at) == 0 &&
        listen(listener, 1) == 0 && getsockname(listener, (struct sockaddr *)&at, &len) == 0 &&
        connect(fd[0], (struct sockaddr *)&at, len) == 0 &&
        (fd[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;
    int rc = good ? 0 : -errno;
    if (listener >= 0) {
        (void)close(listener);
    }
    if (rc < 0 && fd[0] >= 0) {
        (void)close(fd[0]);
    }
    return rc;
}

static int send_file(int file)
{
    int fd[2], rc = loopback_pair(fd);
    if (rc < 0) {
        return rc;
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, swallow, &fd[1]) != 0) {
        (void)close(fd[0]);
        (void)close(fd[1]);
        return -EAGAIN;
    }
    off_t at = 0;
    while (rc == 0 && (uint64_t)at < MACHINE_FILE_BYTES) {
        ssize_t n = sendfile(fd[0], file, &at, PIECE_BYTES);
        rc = n < 0 ? -errno : n == 0 ? -EIO : 0;
    }
    (void)shutdown(fd[0], SHUT_WR);
    (void)pthread_join(thread, NULL);
    (void)close(fd[0]);
    return rc;
}

static double thread_cpu(void)
{
    struct rusage use = {.ru_utime.tv_sec = 0};
    (void)getrusage(RUSAGE_THREAD, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

int machine_socket(const char *directory, double *ret_seconds, double *ret_cpu)
{
    int file = plain_file(directory, "plain.0");
    int rc = file < 0 ? file : fill_files(&file, 1);
    double began = machine_now(), cpu = thread_cpu();
    rc = rc == 0 ? send_file(file) : rc;
    *ret_seconds = machine_now() - began;
    *ret_cpu = thread_cpu() - cpu;
    if (file >= 0) {
        (void)close(file);
    }
    return rc;
}

/* --- Small messages --------------------------------------------------------------------------- */

/* An epoll descriptor that waits for `fd`, which does not delay small packets; or -errno. */
static int echo_prepare(int fd)
{
    const int on = 1;
    struct epoll_event event = {.events = EPOLLIN};
    int ep = epoll_create1(EPOLL_CLOEXEC);
    if (ep < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event) < 0) {
        int rc = -errno;
        if (ep >= 0) {
            (void)close(ep);
        }
        return rc;
    }
    return ep;
}

/* Sleeps until there is something; bytes, 0 at the end, -errno. */
static ssize_t echo_receive(int ep, int fd, uint8_t *to, size_t len)
{
    struct epoll_event event;
    while (epoll_wait(ep, &event, 1, -1) != 1) {
    }
    ssize_t n = recv(fd, to, len, 0);
    return n < 0 ? -errno : n;
}

static void *send_back(void *arg)
{
    int fd = *(int *)arg, ep = echo_prepare(fd);
    uint8_t text[MACHINE_ECHO_BYTES * MACHINE_ECHO_IN_FLIGHT_MAX];
    ssize_t n = ep < 0 ? ep : 1;
    while (n > 0) {
        n = echo_receive(ep, fd, text, sizeof text);
        if (n > 0 && write_all(fd, text, (uint64_t)n) < 0) {
            n = 0;
        }
    }
    if (ep >= 0) {
        (void)close(ep);
    }
    (void)close(fd); /* which ends the other side */
    return NULL;
}

static int echo_rounds(int fd, unsigned in_flight, double seconds, double *ret_per_second)
{
    uint8_t text[MACHINE_ECHO_BYTES * MACHINE_ECHO_IN_FLIGHT_MAX] = {0};
    size_t len = (size_t)MACHINE_ECHO_BYTES * in_flight;
    uint64_t answered = 0;
    int ep = echo_prepare(fd), rc = ep < 0 ? ep : 0;
    double began = machine_now(), now = began;
    while (rc == 0 && now - began < seconds) {
        rc = write_all(fd, text, len);
        for (size_t got = 0; rc == 0 && got < len;) {
            ssize_t n = echo_receive(ep, fd, text, len - got);
            rc = n < 0 ? (int)n : n == 0 ? -EIO : 0;
            got += n > 0 ? (size_t)n : 0;
        }
        answered += in_flight;
        now = machine_now();
    }
    *ret_per_second = (double)answered / (now - began);
    if (ep >= 0) {
        (void)close(ep);
    }
    return rc;
}

int machine_echo(unsigned in_flight, double seconds, double *ret_per_second)
{
    CHECK(in_flight > 0 && in_flight <= MACHINE_ECHO_IN_FLIGHT_MAX);
    int fd[2], rc = loopback_pair(fd);
    if (rc < 0) {
        return rc;
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, send_back, &fd[1]) != 0) {
        (void)close(fd[1]);
        rc = -EAGAIN;
    } else {
        rc = echo_rounds(fd[0], in_flight, seconds, ret_per_second);
        (void)shutdown(fd[0], SHUT_WR);
        (void)pthread_join(thread, NULL);
    }
    (void)close(fd[0]);
    return rc;
}
