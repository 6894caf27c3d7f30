/*
 * bench/data/model.c -- what this machine does without us: the least that a chain of writes can
 * cost when all its members are here. Each copy crosses one socket (a copy into the kernel, one out
 * of it) and goes into one file; the files are made stable at the end.
 *
 * The line has bytes per second of the files written by turns, and CPU seconds per byte of a socket
 * and of a file: who makes N copies is not faster than disk / N, nor than the processors / (N *
 * (socket + file)).
 */
#include "data.h"

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
#include <sys/socket.h>

#define MODEL_PIECE ((size_t)1 << 20)
#define MODEL_COPIES_MAX 5u

static double model_cpu(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint8_t *model_piece(void)
{
    uint8_t *piece = malloc(MODEL_PIECE);
    if (piece == NULL) {
        data_die("model", "no memory");
    }
    data_fill(0, 0, piece, MODEL_PIECE);
    return piece;
}

/* --- Files ------------------------------------------------------------------------------------ */

struct model_cost {
    double seconds, cpu; /* per byte */
};

static struct model_cost model_files(const char *directory, uint64_t bytes, unsigned copies)
{
    int fd[MODEL_COPIES_MAX];
    char path[4096];
    uint8_t *piece = model_piece();
    for (unsigned i = 0; i < copies; i++) {
        (void)snprintf(path, sizeof path, "%s/model.%u", directory, i);
        fd[i] = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd[i] < 0 || unlink(path) < 0) { /* nothing stays behind, whatever happens */
            data_die(path, strerror(errno));
        }
    }
    double began = data_now(), cpu = model_cpu();
    for (uint64_t at = 0; at < bytes; at += MODEL_PIECE) {
        for (unsigned i = 0; i < copies; i++) {
            if (write(fd[i], piece, MODEL_PIECE) != (ssize_t)MODEL_PIECE) {
                data_die("write", strerror(errno));
            }
        }
    }
    for (unsigned i = 0; i < copies; i++) {
        if (fsync(fd[i]) < 0) {
            data_die("fsync", strerror(errno));
        }
    }
    double all = (double)base_align_up(bytes, MODEL_PIECE) * copies;
    const struct model_cost cost = {(data_now() - began) / all, (model_cpu() - cpu) / all};
    for (unsigned i = 0; i < copies; i++) {
        (void)close(fd[i]);
    }
    free(piece);
    return cost;
}

/* --- Sockets ---------------------------------------------------------------------------------- */

static void *model_receive(void *arg)
{
    int fd = *(int *)arg;
    uint8_t *piece = model_piece();
    while (recv(fd, piece, MODEL_PIECE, 0) > 0) {
    }
    free(piece);
    (void)close(fd);
    return NULL;
}

static void model_pair(int fd[2])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || fd[0] < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) < 0 ||
        listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&at, &len) < 0 ||
        connect(fd[0], (struct sockaddr *)&at, len) < 0 ||
        (fd[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0) {
        data_die("socket", strerror(errno));
    }
    (void)close(listener);
}

static struct model_cost model_socket(uint64_t bytes)
{
    int fd[2];
    pthread_t thread;
    uint8_t *piece = model_piece();
    model_pair(fd);
    double began = data_now(), cpu = model_cpu();
    if (pthread_create(&thread, NULL, model_receive, &fd[1]) != 0) {
        data_die("thread", strerror(errno));
    }
    for (uint64_t at = 0; at < bytes;) {
        ssize_t n = send(fd[0], piece, MODEL_PIECE, MSG_NOSIGNAL);
        if (n <= 0) {
            data_die("send", strerror(errno));
        }
        at += (uint64_t)n;
    }
    (void)shutdown(fd[0], SHUT_WR);
    (void)pthread_join(thread, NULL);
    (void)close(fd[0]);
    free(piece);
    return (struct model_cost){(data_now() - began) / (double)bytes,
                               (model_cpu() - cpu) / (double)bytes};
}

void data_model(const struct data_args *a)
{
    uint64_t bytes = data_number(a, "bytes", UINT64_C(1) << 30);
    unsigned copies = (unsigned)data_number(a, "copies", 1);
    if (copies == 0 || copies > MODEL_COPIES_MAX || bytes == 0) {
        data_die("copies", "out of range");
    }
    struct model_cost files = model_files(data_text(a, "directory", NULL), bytes, copies);
    struct model_cost wire = model_socket(bytes);
    double cores = (double)sysconf(_SC_NPROCESSORS_ONLN);
    double disk = 1 / (files.seconds * copies), cpu = cores / ((files.cpu + wire.cpu) * copies);
    printf("{\"command\":\"model\",\"copies\":%u,\"bytes\":%llu,\"disk_mb_s\":%.1f,"
           "\"file_cpu_s_gb\":%.4f,\"socket_mb_s\":%.1f,\"socket_cpu_s_gb\":%.4f,\"cores\":%.0f,"
           "\"disk_limit_mb_s\":%.1f,\"cpu_limit_mb_s\":%.1f,\"limit_mb_s\":%.1f}\n",
           copies, (unsigned long long)bytes, 1e-6 / files.seconds, files.cpu * 1e9,
           1e-6 / wire.seconds, wire.cpu * 1e9, cores, disk / 1e6, cpu / 1e6,
           (disk < cpu ? disk : cpu) / 1e6);
}
