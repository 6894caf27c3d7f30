/* testing/replay.c -- see replay.h. */
#include "testing/replay.h"

#include "base/mem.h"
#include "base/rand.h"

#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPLAY_FILE_MAX (16u << 20)
#define REPLAY_RANDOM_COUNT 256u
#define REPLAY_RANDOM_BYTES 512u

bool testing_replay_wanted(void)
{
    return LLVMFuzzerTestOneInput != NULL;
}

/* True when all of the file was read. */
static bool read_whole(const char *path, uint8_t *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? 1 : -1;
    size_t len = 0;
    while (len < size && got > 0) {
        got = read(fd, out + len, size - len);
        len += got > 0 ? (size_t)got : 0;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return fd >= 0 && len == size;
}

/* True when it ran. The copy has the exact size, so that a sanitizer sees an overrun. */
static bool replay_file(const char *path, size_t size)
{
    uint8_t *bytes = size <= REPLAY_FILE_MAX ? mem_alloc(size > 0 ? size : 1) : NULL;
    bool good = bytes != NULL && read_whole(path, bytes, size);
    if (good) {
        (void)LLVMFuzzerTestOneInput(bytes, size);
    } else {
        (void)fprintf(stderr, "%s: cannot read\n", path);
    }
    mem_free(bytes);
    return good;
}

static unsigned replay_tree(char *path)
{
    char *roots[] = {path, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    unsigned count = 0;
    FTSENT *at = walk != NULL ? fts_read(walk) : NULL;
    for (; at != NULL; at = fts_read(walk)) {
        if (at->fts_info == FTS_F && replay_file(at->fts_path, (size_t)at->fts_statp->st_size)) {
            count++;
        }
    }
    if (walk != NULL) {
        (void)fts_close(walk);
    }
    return count;
}

static unsigned random_count(void)
{
    return &testing_replay_generated == NULL ? REPLAY_RANDOM_COUNT : testing_replay_generated;
}

/* Not a search, only a proof that the target stands any bytes at all. */
static void replay_random(void)
{
    struct rand r;
    rand_seed(&r, 1);
    (void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (unsigned i = 0; i < random_count(); i++) {
        uint8_t bytes[REPLAY_RANDOM_BYTES];
        size_t size = rand_below(&r, sizeof bytes + 1);
        rand_bytes(&r, bytes, size);
        (void)LLVMFuzzerTestOneInput(bytes, size);
    }
}

int testing_replay(int argc, char **argv)
{
    unsigned count = 0;
    for (int i = 1; i < argc; i++) {
        count += argv[i][0] != '-' ? replay_tree(argv[i]) : 0;
    }
    replay_random();
    (void)printf("%u inputs of the corpus and %u generated ones\n", count, random_count() + 1);
    return 0;
}
