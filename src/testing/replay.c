/* testing/replay.c -- see replay.h. */
#include "testing/replay.h"

#include "base/mem.h"
#include "base/rand.h"

#include <fts.h>
#include <stdio.h>
#include <sys/stat.h>

#define REPLAY_FILE_MAX (16u << 20)
#define REPLAY_RANDOM_COUNT 256u
#define REPLAY_RANDOM_BYTES 512u

bool testing_replay_wanted(void)
{
    return LLVMFuzzerTestOneInput != NULL;
}

/* 1 when it ran, 0 when it could not be read. The copy has the exact size, so that ASan sees an
 * overrun. */
static unsigned replay_file(const char *path, size_t size)
{
    FILE *f = size <= REPLAY_FILE_MAX ? fopen(path, "rbe") : NULL;
    if (f == NULL) {
        (void)fprintf(stderr, "%s: cannot read\n", path);
        return 0;
    }
    uint8_t *bytes = mem_alloc(size > 0 ? size : 1);
    bool good = bytes != NULL && fread(bytes, 1, size, f) == size;
    (void)fclose(f);
    if (good) {
        (void)LLVMFuzzerTestOneInput(bytes, size);
    }
    mem_free(bytes);
    return good ? 1 : 0;
}

static unsigned replay_tree(const char *path)
{
    char *roots[] = {(char *)(uintptr_t)path, NULL}; /* fts does not write to them */
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    unsigned count = 0;
    FTSENT *at = walk != NULL ? fts_read(walk) : NULL;
    for (; at != NULL; at = fts_read(walk)) {
        if (at->fts_info == FTS_F) {
            count += replay_file(at->fts_path, (size_t)at->fts_statp->st_size);
        }
    }
    if (walk != NULL) {
        (void)fts_close(walk);
    }
    return count;
}

/* Not a search, only a proof that the target stands any bytes at all. */
static void replay_random(void)
{
    struct rand r;
    rand_seed(&r, 1);
    (void)LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (unsigned i = 0; i < REPLAY_RANDOM_COUNT; i++) {
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
        struct stat st;
        if (argv[i][0] != '-' && stat(argv[i], &st) == 0) {
            count += replay_tree(argv[i]);
        }
    }
    replay_random();
    (void)printf("%u inputs of the corpus and %u generated ones\n", count, REPLAY_RANDOM_COUNT + 1);
    return 0;
}
