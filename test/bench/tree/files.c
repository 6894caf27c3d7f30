#include "files.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILES_INODE 120u
#define FILES_COUNTER 80u
#define FILES_KEY 64u
#define FILES_BIG (UINT64_C(1) << 60) /* the directory of `rmdir` */
#define FILES_AGING_ROUNDS 10u

static const struct engine *e;
static const struct bench_options *o;

struct files_key {
    size_t len;
    uint8_t at[FILES_KEY];
};

static void files_number(uint8_t *at, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++) {
        at[i] = (uint8_t)(v >> (56 - 8 * i));
    }
}

static struct kv_slice files_inode(struct files_key *k, uint64_t number)
{
    k->at[0] = 'I';
    files_number(k->at + 1, number);
    return kv_slice_of(k->at, 9);
}

static struct kv_slice files_name(struct files_key *k, uint64_t dir, uint64_t file, bool renamed)
{
    k->at[0] = 'D';
    files_number(k->at + 1, dir);
    int len = snprintf((char *)k->at + 9, FILES_KEY - 9, "%sfile.%08llx", renamed ? "r" : "",
                       (unsigned long long)file);
    return kv_slice_of(k->at, 9 + (size_t)len);
}

static uint64_t files_dir(uint64_t file)
{
    return measure_mix(file) % o->dirs;
}

static void files_change(uint64_t dir)
{
    struct files_key k;
    uint8_t value[ENGINE_VALUE_MAX];
    size_t len = 0;
    if (e->add != NULL) {
        e->add(files_inode(&k, dir), FILES_COUNTER, FILES_INODE);
        return;
    }
    if (!e->get(files_inode(&k, dir), value, &len)) {
        engine_die("change", "a directory is missing");
    }
    value[FILES_COUNTER]++;
    e->put(files_inode(&k, dir), kv_slice_of(value, len));
}

static void files_put_inode(uint64_t number, uint64_t seed)
{
    struct files_key k;
    uint8_t value[FILES_INODE] = {0};
    for (uint64_t i = 0; i < 6; i++) {
        uint64_t v = measure_mix(seed * 6 + i);
        memcpy(value + 8 * i, &v, 8);
    }
    e->put(files_inode(&k, number), kv_slice_of(value, sizeof value));
}

static uint64_t files_look(uint64_t dir, uint64_t file, bool renamed, bool *ret_there)
{
    struct files_key k;
    uint8_t value[ENGINE_VALUE_MAX];
    size_t len = 0;
    uint64_t number = 0;
    *ret_there = e->get(files_name(&k, dir, file, renamed), value, &len);
    if (*ret_there) {
        memcpy(&number, value, 8);
    }
    return number;
}

static void files_create(uint64_t dir, uint64_t file)
{
    struct files_key k;
    uint8_t value[16] = {0};
    bool there;
    uint64_t number = o->dirs + file;
    (void)files_look(dir, file, false, &there);
    if (there) {
        engine_die("create", "a name is there before it was made");
    }
    memcpy(value, &number, 8);
    e->begin();
    e->put(files_name(&k, dir, file, false), kv_slice_of(value, sizeof value));
    files_put_inode(number, file);
    files_change(dir);
    e->end();
}

static void files_stat(uint64_t file)
{
    struct files_key k;
    uint8_t value[ENGINE_VALUE_MAX];
    size_t len = 0;
    bool there;
    uint64_t number = files_look(files_dir(file), file, false, &there);
    if (!there || !e->get(files_inode(&k, number), value, &len)) {
        engine_die("stat", "a file is missing");
    }
}

/* The same for a file that may have another name by now, or none. */
static void files_find(uint64_t file)
{
    struct files_key k;
    uint8_t value[ENGINE_VALUE_MAX];
    size_t len = 0;
    bool there;
    uint64_t number = files_look(files_dir(file), file, false, &there);
    if (there && !e->get(files_inode(&k, number), value, &len)) {
        engine_die("find", "a file has a name and no inode");
    }
}

static struct {
    uint8_t prefix[9];
    uint64_t count;
} list;

static bool list_see(struct kv_slice key, struct kv_slice value)
{
    (void)value;
    if (key.len < sizeof list.prefix || memcmp(key.at, list.prefix, sizeof list.prefix) != 0) {
        return false;
    }
    list.count++;
    return true;
}

static void files_list(uint64_t dir)
{
    list.prefix[0] = 'D';
    files_number(list.prefix + 1, dir);
    e->scan(kv_slice_of(list.prefix, sizeof list.prefix), list_see);
}

static void files_rename(uint64_t file)
{
    struct files_key k;
    uint8_t value[16] = {0};
    uint64_t dir = files_dir(file), to = measure_mix(file + 1) % o->dirs;
    bool there, taken;
    uint64_t number = files_look(dir, file, false, &there);
    (void)files_look(to, file, true, &taken);
    if (!there || taken) {
        return; /* it was renamed before */
    }
    memcpy(value, &number, 8);
    e->begin();
    e->remove(files_name(&k, dir, file, false));
    e->put(files_name(&k, to, file, true), kv_slice_of(value, sizeof value));
    files_change(dir);
    files_change(to);
    e->end();
}

static void files_unlink(uint64_t file)
{
    struct files_key k;
    bool there;
    uint64_t number = files_look(files_dir(file), file, false, &there);
    if (!there) {
        return;
    }
    e->begin();
    e->remove(files_name(&k, files_dir(file), file, false));
    e->remove(files_inode(&k, number));
    files_change(files_dir(file));
    e->end();
}

/* ---- phases ---- */

enum mix { MIX_CREATE, MIX_STAT, MIX_LIST, MIX_RENAME, MIX_UNLINK, MIX_FIND };

static void mix_one(enum mix m, uint64_t i, uint64_t files)
{
    CHECK(m == MIX_CREATE || files > 0);
    files += m == MIX_CREATE ? 1 : 0; /* not looked at */
    switch (m) {
    case MIX_CREATE:
        files_create(files_dir(i), i);
        break;
    case MIX_STAT:
        files_stat(measure_random() % files);
        break;
    case MIX_LIST:
        files_list(measure_random() % o->dirs);
        break;
    case MIX_RENAME:
        files_rename(i * 7919 % files);
        break;
    case MIX_UNLINK:
        files_unlink((i * 7919 + 13) % files);
        break;
    case MIX_FIND:
        files_find(measure_random() % files);
        break;
    }
}

static uint64_t mix_run(enum mix m, const char *name, uint64_t count, uint64_t files)
{
    uint64_t n = 0;
    double begun = measure_now();
    measure_begin();
    checkpoints_start(e, o->interval);
    for (; n < count && measure_now() - begun < o->seconds; n++) {
        double from = measure_now();
        mix_one(m, n, files);
        measure_latency(measure_now() - from);
        checkpoints_look();
    }
    checkpoints_stop();
    measure_end(e, name, n, 0);
    return n;
}

static void files_directories(void)
{
    e->begin();
    for (uint64_t i = 0; i < o->dirs; i++) {
        files_put_inode(i, i);
        if (i % 1000 == 999) {
            e->end();
            e->begin();
        }
    }
    files_put_inode(FILES_BIG, 1);
    e->end();
}

static bool files_late(double begun)
{
    return measure_now() - begun >= o->seconds;
}

/* As one range where an engine can, else name by name; then what lies behind it is looked for. */
static void files_rmdir(uint64_t files)
{
    struct files_key low, high, k;
    uint64_t count = files / 10 + 1, made = 0;
    double begun = measure_now();
    for (; made < count && !files_late(begun); made++) {
        files_create(FILES_BIG, made + (UINT64_C(1) << 40));
    }
    measure_begin();
    low.at[0] = high.at[0] = 'D';
    files_number(low.at + 1, FILES_BIG);
    files_number(high.at + 1, FILES_BIG + 1);
    if (e->remove_range != NULL) {
        e->begin();
        e->remove_range(kv_slice_of(low.at, 9), kv_slice_of(high.at, 9));
        e->end();
    }
    for (uint64_t i = 0; i < made && e->remove_range == NULL; i++) {
        e->begin();
        e->remove(files_name(&k, FILES_BIG, i + (UINT64_C(1) << 40), false));
        e->end();
    }
    list.count = 0;
    files_list(FILES_BIG);
    if (list.count != 0) {
        engine_die("rmdir", "names are left");
    }
    measure_end(e, "rmdir_range", made, 0);
}

/* One round of names that come and go. How many changes. */
static uint64_t files_round(uint64_t part, uint64_t base, double begun)
{
    uint64_t made = 0;
    for (; made < part && !files_late(begun); made++) {
        files_create(files_dir(base + made), base + made);
        checkpoints_look();
    }
    for (uint64_t i = 0; i < made; i++) {
        files_unlink(base + i);
        checkpoints_look();
    }
    return 2 * made;
}

static bool files_see(struct kv_slice key, struct kv_slice value)
{
    (void)value;
    list.count += key.len > 0 ? 1 : 0;
    return true;
}

/* Ten rounds in the same space; then all records in order, and random files. */
static void files_aging(uint64_t files)
{
    uint64_t part = files / 20 + 1, base = UINT64_C(1) << 41, ops = 0;
    double begun = measure_now();
    measure_begin();
    checkpoints_start(e, o->interval);
    for (unsigned round = 0; round < FILES_AGING_ROUNDS && !files_late(begun); round++) {
        ops += files_round(part, base, begun);
    }
    checkpoints_stop();
    measure_end(e, "aging", ops, 0);
    list.count = 0;
    measure_begin();
    e->scan(kv_slice_of("\0", 1), files_see);
    measure_end(e, "aged_scan", list.count, 0);
    (void)mix_run(MIX_FIND, "aged_stat", o->gets, files);
}

void files_mixes(const struct engine *engine, const struct bench_options *options)
{
    e = engine;
    o = options;
    files_directories();
    uint64_t files = mix_run(MIX_CREATE, "create", o->records, 0);
    (void)mix_run(MIX_STAT, "stat", o->gets, files);
    list.count = 0;
    uint64_t lists = mix_run(MIX_LIST, "readdir", o->gets / 20, files);
    fprintf(stderr, "  %s: %.0f names to a directory\n", e->name,
            (double)list.count / (double)(lists > 0 ? lists : 1));
    (void)mix_run(MIX_RENAME, "rename", o->gets, files);
    (void)mix_run(MIX_UNLINK, "unlink", o->gets, files);
    files_rmdir(files);
    files_aging(files);
    if (e->say != NULL) {
        e->say();
    }
    e->close();
}

/* A create is late by what it took and by what the ones before it were late. */
void files_stall(const struct engine *engine, const struct bench_options *options)
{
    e = engine;
    o = options;
    files_directories();
    double begun = measure_now();
    uint64_t n = 0;
    measure_begin();
    checkpoints_start(e, o->interval);
    while (measure_now() - begun < o->seconds) {
        double due = begun + (double)n / o->rate, now = measure_now();
        if (now < due) {
            (void)nanosleep(&(struct timespec){.tv_nsec = (long)((due - now) * 1e9)}, NULL);
            continue;
        }
        double cpu = measure_cpu();
        files_create(files_dir(n), n);
        n++;
        checkpoints_look();
        measure_stop(measure_now() - due, measure_cpu() - cpu);
    }
    checkpoints_stop();
    measure_end(e, "stall", n, 0);
    if (e->say != NULL) {
        e->say();
    }
    e->close();
}

/* ---- files of an engine ---- */

static void files_count_path(const char *directory, char *path, size_t size)
{
    (void)snprintf(path, size, "%s.count", directory);
}

void files_remember(const char *directory, uint64_t records)
{
    char path[4096];
    files_count_path(directory, path, sizeof path);
    FILE *f = fopen(path, "we");
    if (f == NULL || fprintf(f, "%llu\n", (unsigned long long)records) < 0 || fclose(f) != 0) {
        engine_die(path, "cannot be written");
    }
}

static void files_drop(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fdatasync(fd);
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        (void)close(fd);
    }
}

uint64_t files_forget(const char *directory)
{
    char path[4096];
    char line[32];
    char *end = line;
    files_count_path(directory, path, sizeof path);
    FILE *f = fopen(path, "re");
    if (f == NULL || fgets(line, sizeof line, f) == NULL) {
        engine_die(path, "there is no load to go on from");
    }
    uint64_t records = strtoull(line, &end, 10);
    if (end == line) {
        engine_die(path, "is no number");
    }
    (void)fclose(f);
    DIR *d = opendir(directory);
    for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;) {
        (void)snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        files_drop(path);
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    return records;
}
