/* usage: bench_mount COMMAND DIRECTORY [name=value ...]
 * Workloads on a directory of any file system, one for each call; run.py starts them on mounts.
 * Prints one line of JSON.
 *
 * - files: create, write and close files of `bytes` (0: empty); `own=1`: each thread in a directory
 *   of its own
 * - stat: lstat each of `files` files of one directory
 * - open_read: open, read all of and close each of them; what was written there is looked at
 * - write: `mib` MiB in order, shared by the threads, a file each; at the end each is synced
 * - read: the same files, in order; what was written there is looked at
 * - randread: `files` blocks of 4 KiB at random places of what `write` with one thread left
 * - randwrite: the same, written; at the end the file is synced
 *
 * threads=1 files=1000 bytes=4096 mib=256 own=0 seconds=60: after so many seconds it ends with what
 * it has ("capped").
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64u
#define MIB (UINT64_C(1) << 20)
#define BLOCK 4096u
#define BYTES_MAX MIB
#define ERRORS_MAX 20u /* of one thread, then it ends */
#define PATH_BYTES 4096

struct options {
    const char *command, *directory;
    uint64_t threads, files, bytes, mib, own, seconds;
};
struct thread;
struct workload {
    const char *name;
    int (*open)(struct thread *t);                 /* 0 or a negative errno; may be NULL */
    int64_t (*step)(struct thread *t, uint64_t i); /* bytes, or a negative errno */
    int (*close)(struct thread *t);                /* of the time that is measured; may be NULL */
};
struct thread {
    const struct options *o;
    const struct workload *w;
    pthread_t id;
    unsigned number;
    int fd;
    uint64_t from, until, random, ops, bytes, errors;
    int first_error;
    bool capped;
    double end;
    uint8_t *buffer;
    float *took_us; /* of each step */
    uint64_t took_count;
};

static pthread_barrier_t begin;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void fail(const char *what, const char *path, int error)
{
    fprintf(stderr, "bench_mount: %s '%s': %s\n", what, path, strerror(error));
    exit(1);
}

static uint64_t next_random(struct thread *t)
{
    t->random ^= t->random << 13;
    t->random ^= t->random >> 7;
    t->random ^= t->random << 17;
    return t->random;
}

/* A number at the beginning of each block says which it is. */
static void stamp(struct thread *t, uint64_t number)
{
    memcpy(t->buffer, &number, sizeof number);
}

static bool stamped(const struct thread *t, uint64_t number)
{
    return memcmp(t->buffer, &number, sizeof number) == 0;
}

static int write_all(int fd, const uint8_t *from, uint64_t count)
{
    while (count > 0) {
        ssize_t n = write(fd, from, count);
        if (n <= 0) {
            return n < 0 ? -errno : -EIO;
        }
        from += n;
        count -= (uint64_t)n;
    }
    return 0;
}

/* --- Files --------------------------------------------------------------------------- */

static void file_path(const struct thread *t, uint64_t i, char *ret)
{
    if (t->o->own != 0) {
        snprintf(ret, PATH_BYTES, "%s/%u/%06" PRIu64, t->o->directory, t->number, i);
    } else {
        snprintf(ret, PATH_BYTES, "%s/%06" PRIu64, t->o->directory, i);
    }
}

static int files_open(struct thread *t)
{
    char path[PATH_BYTES];
    if (t->o->own == 0) {
        return 0;
    }
    snprintf(path, sizeof path, "%s/%u", t->o->directory, t->number);
    return mkdir(path, 0755) < 0 ? -errno : 0;
}

static int64_t files_step(struct thread *t, uint64_t i)
{
    char path[PATH_BYTES];
    file_path(t, i, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        return -errno;
    }
    stamp(t, i);
    int rc = write_all(fd, t->buffer, t->o->bytes);
    if (close(fd) < 0 && rc == 0) {
        rc = -errno;
    }
    return rc < 0 ? rc : (int64_t)t->o->bytes;
}

static int64_t stat_step(struct thread *t, uint64_t i)
{
    char path[PATH_BYTES];
    struct stat s;
    file_path(t, i, path);
    return lstat(path, &s) < 0 ? -errno : 0;
}

static int64_t open_read_step(struct thread *t, uint64_t i)
{
    char path[PATH_BYTES];
    file_path(t, i, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    ssize_t n = read(fd, t->buffer, BYTES_MAX);
    int64_t rc = n < 0                                          ? -errno
                 : (uint64_t)n != t->o->bytes || !stamped(t, i) ? -EILSEQ
                                                                : (int64_t)n;
    close(fd);
    return rc;
}

/* --- One large file for each thread -------------------------------------------------- */

static int large_open(struct thread *t, int flags)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/large.%u", t->o->directory, t->number);
    t->fd = open(path, flags | O_CLOEXEC, 0644);
    return t->fd < 0 ? -errno : 0;
}

static int write_open(struct thread *t)
{
    return large_open(t, O_WRONLY | O_CREAT | O_TRUNC);
}

static int read_open(struct thread *t)
{
    return large_open(t, O_RDONLY);
}

static int random_open(struct thread *t)
{
    /* All threads work on one file. */
    struct thread first = {.o = t->o};
    int rc = large_open(&first, O_RDWR);
    t->fd = first.fd;
    return rc;
}

static int64_t write_step(struct thread *t, uint64_t i)
{
    stamp(t, i);
    int rc = write_all(t->fd, t->buffer, MIB);
    return rc < 0 ? rc : (int64_t)MIB;
}

static int64_t read_step(struct thread *t, uint64_t i)
{
    uint64_t have = 0;
    while (have < MIB) {
        ssize_t n = read(t->fd, t->buffer + have, MIB - have);
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            return -ENODATA; /* shorter than it was written */
        }
        have += (uint64_t)n;
    }
    return stamped(t, i) ? (int64_t)MIB : -EILSEQ;
}

static uint64_t random_place(struct thread *t)
{
    return next_random(t) % (t->o->mib * (MIB / BLOCK)) * BLOCK;
}

static int64_t randread_step(struct thread *t, uint64_t i)
{
    (void)i;
    ssize_t n = pread(t->fd, t->buffer, BLOCK, (off_t)random_place(t));
    return n < 0 ? -errno : n != BLOCK ? -ENODATA : n;
}

static int64_t randwrite_step(struct thread *t, uint64_t i)
{
    stamp(t, i);
    ssize_t n = pwrite(t->fd, t->buffer, BLOCK, (off_t)random_place(t));
    return n < 0 ? -errno : n != BLOCK ? -ENOSPC : n;
}

static int large_close(struct thread *t)
{
    return t->fd >= 0 && close(t->fd) < 0 ? -errno : 0;
}

static int large_sync_close(struct thread *t)
{
    int rc = t->fd >= 0 && fsync(t->fd) < 0 ? -errno : 0;
    int closed = large_close(t);
    return rc < 0 ? rc : closed;
}

static const struct workload workloads[] = {
    {"files", files_open, files_step, NULL},
    {"stat", NULL, stat_step, NULL},
    {"open_read", NULL, open_read_step, NULL},
    {"write", write_open, write_step, large_sync_close},
    {"read", read_open, read_step, large_close},
    {"randread", random_open, randread_step, large_close},
    {"randwrite", random_open, randwrite_step, large_sync_close},
};

/* --- Threads ------------------------------------------------------------------------- */

static void failed(struct thread *t, int rc)
{
    if (t->errors == 0) {
        t->first_error = -rc;
    }
    t->errors++;
}

static void *work(void *context)
{
    struct thread *t = context;
    pthread_barrier_wait(&begin);
    double before = now();
    t->end = before + (double)t->o->seconds;
    for (uint64_t i = t->from; i < t->until && t->errors < ERRORS_MAX; i++) {
        int64_t rc = t->w->step(t, i);
        double after = now();
        t->took_us[t->took_count++] = (float)((after - before) * 1e6);
        before = after;
        if (rc < 0) {
            failed(t, (int)rc);
        } else {
            t->ops++;
            t->bytes += (uint64_t)rc;
        }
        if (after > t->end) {
            t->capped = i + 1 < t->until;
            break;
        }
    }
    int rc = t->w->close != NULL ? t->w->close(t) : 0;
    if (rc < 0) {
        failed(t, rc);
    }
    return NULL;
}

static bool is_large(const struct workload *w)
{
    return w->step == write_step || w->step == read_step;
}

/* Its part of the work: files of one directory are cut into ranges, large files have numbers of
 * their own. */
static void thread_init(struct thread *t, const struct options *o, const struct workload *w,
                        unsigned number)
{
    uint64_t share = (is_large(w) ? o->mib : o->files) / o->threads;
    *t = (struct thread){.o = o, .w = w, .number = number, .fd = -1};
    t->random = (UINT64_C(0x9E3779B97F4A7C15) * (number + 1)) ^ (uint64_t)(now() * 1e9);
    t->from = is_large(w) ? 0 : number * share;
    t->until = t->from + share;
    t->took_us = calloc(share + 1, sizeof *t->took_us);
    void *buffer = NULL;
    if (t->took_us == NULL || posix_memalign(&buffer, BLOCK, BYTES_MAX) != 0) {
        fail("memory for", o->command, ENOMEM);
    }
    t->buffer = buffer;
    for (size_t k = 0; k < BYTES_MAX; k += sizeof(uint64_t)) {
        uint64_t r = next_random(t); /* what does not compress */
        memcpy(t->buffer + k, &r, sizeof r);
    }
    int rc = w->open != NULL ? w->open(t) : 0;
    if (rc < 0) {
        fail(w->name, o->directory, -rc);
    }
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static void report(const struct workload *w, const struct thread *all, double seconds)
{
    const struct options *o = all[0].o;
    uint64_t ops = 0, bytes = 0, errors = 0, count = 0;
    int first_error = 0;
    bool capped = false;
    for (unsigned k = 0; k < o->threads; k++) {
        ops += all[k].ops;
        bytes += all[k].bytes;
        errors += all[k].errors;
        count += all[k].took_count;
        capped = capped || all[k].capped;
        first_error = first_error != 0 ? first_error : all[k].first_error;
    }
    float *took = calloc(count + 1, sizeof *took);
    if (took == NULL) {
        fail("memory for", o->command, ENOMEM);
    }
    uint64_t at = 0;
    for (unsigned k = 0; k < o->threads; k++) {
        memcpy(took + at, all[k].took_us, all[k].took_count * sizeof *took);
        at += all[k].took_count;
    }
    qsort(took, count, sizeof *took, by_size);
    printf(
        "{\"command\": \"%s\", \"threads\": %" PRIu64 ", \"ops\": %" PRIu64 ", \"bytes\": %" PRIu64
        ", \"seconds\": %.6f, \"capped\": %d, \"errors\": %" PRIu64 ", \"first_error\": \"%s\", "
        "\"p50_us\": %.0f, \"p99_us\": %.0f, \"max_us\": %.0f}\n",
        w->name, o->threads, ops, bytes, seconds, capped, errors,
        errors > 0 ? strerror(first_error) : "", (double)took[count / 2],
        (double)took[count - count / 100 - (count > 0)], (double)took[count > 0 ? count - 1 : 0]);
    free(took);
}

static void run(const struct options *o, const struct workload *w)
{
    static struct thread all[THREADS_MAX];
    pthread_barrier_init(&begin, NULL, (unsigned)o->threads + 1);
    for (unsigned k = 0; k < o->threads; k++) {
        thread_init(&all[k], o, w, k);
    }
    for (unsigned k = 0; k < o->threads; k++) {
        int rc = pthread_create(&all[k].id, NULL, work, &all[k]);
        if (rc != 0) {
            fail("a thread for", o->command, rc);
        }
    }
    double before = now();
    pthread_barrier_wait(&begin);
    for (unsigned k = 0; k < o->threads; k++) {
        pthread_join(all[k].id, NULL);
    }
    report(w, all, now() - before);
    for (unsigned k = 0; k < o->threads; k++) {
        free(all[k].took_us);
        free(all[k].buffer);
    }
    pthread_barrier_destroy(&begin);
}

static bool parse(int argc, char **argv, struct options *ret)
{
    struct {
        const char *name;
        uint64_t *value;
        uint64_t least, most;
    } known[] = {{"threads", &ret->threads, 1, THREADS_MAX},
                 {"files", &ret->files, 1, 100000000},
                 {"bytes", &ret->bytes, 0, BYTES_MAX},
                 {"mib", &ret->mib, 1, 1000000},
                 {"own", &ret->own, 0, 1},
                 {"seconds", &ret->seconds, 1, 100000}};
    *ret = (struct options){NULL, NULL, 1, 1000, BLOCK, 256, 0, 60};
    if (argc < 3) {
        return false;
    }
    ret->command = argv[1];
    ret->directory = argv[2];
    for (int i = 3; i < argc; i++) {
        bool found = false;
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++) {
            size_t n = strlen(known[k].name);
            if (strncmp(argv[i], known[k].name, n) == 0 && argv[i][n] == '=') {
                char *end = NULL;
                *known[k].value = strtoull(argv[i] + n + 1, &end, 10);
                found = *end == '\0' && *known[k].value >= known[k].least &&
                        *known[k].value <= known[k].most;
            }
        }
        if (!found) {
            fprintf(stderr, "bench_mount: '%s' is not known, or out of bounds\n", argv[i]);
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    struct options o;
    if (!parse(argc, argv, &o)) {
        fprintf(stderr, "usage: bench_mount COMMAND DIRECTORY [name=value ...]\n");
        return 2;
    }
    for (size_t k = 0; k < sizeof workloads / sizeof workloads[0]; k++) {
        if (strcmp(workloads[k].name, o.command) == 0) {
            run(&o, &workloads[k]);
            return 0;
        }
    }
    fprintf(stderr, "bench_mount: no workload '%s'\n", o.command);
    return 2;
}
