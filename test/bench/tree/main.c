/*
 * bench/tree/main.c -- one phase of one engine: bench_tree ENGINE PHASE DIRECTORY [name=value ...].
 * One process per phase, so that the next one begins with nothing in memory. A line of JSON per
 * figure on standard output.
 *
 * load     records=N in random order, 1,000 to a group, a durable checkpoint each interval=60 s
 * hit, miss  gets=N of random keys that are there, or are not; one value in 64 is compared
 * scan     all records in order; counted and compared
 * upsert   gets=N blind changes of random records (where an engine has none: puts)
 * rmw      the same as get, change, put
 * files    the mixes of a file system on records=N files: create, stat, readdir, rename, unlink,
 *          rmdir, aging (and a scan and stat after it); `seconds` at most for each
 * stall    rate=R creates per second for `seconds`, while checkpoints run
 *
 * Records: key of 24 bytes, 8 of them scrambled; value of 120, of which 48 are random.
 */
#include "files.h"
#include "measure.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RECORD_KEY 24u
#define RECORD_VALUE 120u
#define RECORD_GROUP 1000u
#define RECORD_COUNTER 80u /* offset in a value that upserts add to */

static const struct engine *const engines[] = {
    &engine_ours,
#ifdef WITH_ROCKSDB
    &engine_rocksdb,
#endif
#ifdef WITH_LMDB
    &engine_lmdb,
#endif
#ifdef WITH_WIREDTIGER
    &engine_wiredtiger,
#endif
};

void engine_die(const char *what, const char *why)
{
    fprintf(stderr, "bench_tree: %s: %s\n", what, why == NULL ? "?" : why);
    exit(2);
}

static void big_endian(uint8_t *at, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++) {
        at[i] = (uint8_t)(v >> (56 - 8 * i));
    }
}

static struct kv_slice record_key(uint64_t id, uint8_t at[RECORD_KEY])
{
    static const uint8_t tag[8] = {0, 0, 'i', 'n', 'o', 'd', 'e', 1};
    big_endian(at, measure_mix(id));
    big_endian(at + 8, id);
    memcpy(at + 16, tag, sizeof tag);
    return kv_slice_of(at, RECORD_KEY);
}

static struct kv_slice record_value(uint64_t id, uint8_t at[RECORD_VALUE])
{
    static const uint8_t owner[] = {'r', 'o', 'o', 't', 0, 0, 0, 0, 'u', 's', 'e', 'r', 's'};
    for (uint64_t i = 0; i < 6; i++) {
        uint64_t v = measure_mix(id * 6 + i);
        memcpy(at + 8 * i, &v, 8);
    }
    memset(at + 48, 0, RECORD_VALUE - 48);
    memcpy(at + 60, owner, sizeof owner);
    memset(at + 96, 'm', 8);
    return kv_slice_of(at, RECORD_VALUE);
}

/* Where upserts count, a value may differ from how it was loaded. */
static void record_check(uint64_t id, const uint8_t *got, size_t len)
{
    uint8_t value[RECORD_VALUE];
    (void)record_value(id, value);
    if (len != RECORD_VALUE || memcmp(got, value, RECORD_COUNTER) != 0 ||
        memcmp(got + RECORD_COUNTER + 8, value + RECORD_COUNTER + 8,
               RECORD_VALUE - RECORD_COUNTER - 8) != 0) {
        engine_die("get", "a wrong value");
    }
}

static void phase_load(const struct engine *e, const struct bench_options *o)
{
    uint8_t key[RECORD_KEY], value[RECORD_VALUE];
    uint64_t n = 0;
    double begun = measure_now();
    measure_begin();
    checkpoints_start(e, o->interval);
    while (n < o->records && measure_now() - begun < o->seconds) {
        double from = measure_now();
        e->begin();
        for (unsigned i = 0; i < RECORD_GROUP && n < o->records; i++, n++) {
            e->put(record_key(n, key), record_value(n, value));
        }
        e->end();
        checkpoints_look();
        measure_latency(measure_now() - from);
    }
    checkpoints_stop();
    if (e->say != NULL) {
        e->say();
    }
    e->close();
    measure_end(e, "load", n, n * (RECORD_KEY + RECORD_VALUE));
    files_remember(o->directory, n);
}

static void phase_get(const struct engine *e, const struct bench_options *o, bool hit)
{
    uint8_t key[RECORD_KEY], value[ENGINE_VALUE_MAX];
    uint64_t n = 0, found = 0;
    double begun = measure_now();
    measure_begin();
    for (; n < o->gets && measure_now() - begun < o->seconds; n++) {
        uint64_t id = measure_random() % o->records + (hit ? 0 : UINT64_C(1) << 40);
        size_t len = 0;
        double from = measure_now();
        bool there = e->get(record_key(id, key), value, &len);
        measure_latency(measure_now() - from);
        found += there ? 1 : 0;
        if (there && n % 64 == 0) {
            record_check(id, value, len);
        }
    }
    if (found != (hit ? n : 0)) {
        engine_die("get", "records are missing, or there that were never put");
    }
    measure_end(e, hit ? "hit" : "miss", n, 0);
    e->close();
}

static struct {
    uint64_t count;
    uint8_t last[RECORD_KEY];
} scan;

static bool scan_see(struct kv_slice key, struct kv_slice value)
{
    if (key.len != RECORD_KEY || value.len != RECORD_VALUE ||
        (scan.count > 0 && memcmp(scan.last, key.at, RECORD_KEY) >= 0)) {
        engine_die("scan", "out of order, or no record of ours");
    }
    memcpy(scan.last, key.at, RECORD_KEY);
    scan.count++;
    return true;
}

static void phase_scan(const struct engine *e, const struct bench_options *o)
{
    measure_begin();
    e->scan(kv_slice_of("\0", 1), scan_see);
    if (scan.count != o->records) {
        engine_die("scan", "it has not seen all records");
    }
    measure_end(e, "scan", scan.count, 0);
    e->close();
}

static void change_one(const struct engine *e, uint64_t id, bool blind)
{
    uint8_t key[RECORD_KEY], value[ENGINE_VALUE_MAX];
    struct kv_slice k = record_key(id, key);
    size_t len = RECORD_VALUE;
    if (blind && e->add != NULL) {
        e->add(k, RECORD_COUNTER, RECORD_VALUE);
        return;
    }
    if (blind) {
        (void)record_value(id, value);
    } else if (!e->get(k, value, &len)) {
        engine_die("rmw", "a record is missing");
    }
    value[RECORD_COUNTER]++;
    e->put(k, kv_slice_of(value, len));
}

static void phase_change(const struct engine *e, const struct bench_options *o, bool blind)
{
    uint64_t n = 0, group = blind ? RECORD_GROUP : 1;
    double begun = measure_now();
    measure_begin();
    checkpoints_start(e, o->interval);
    while (n < o->gets && measure_now() - begun < o->seconds) {
        double from = measure_now();
        e->begin();
        for (uint64_t i = 0; i < group && n < o->gets; i++, n++) {
            change_one(e, measure_random() % o->records, blind);
        }
        e->end();
        checkpoints_look();
        measure_latency(measure_now() - from);
    }
    checkpoints_stop();
    e->close();
    measure_end(e, blind ? "upsert" : "rmw", n, n * (RECORD_KEY + RECORD_VALUE));
}

/* ---- arguments ---- */

static void option(struct bench_options *o, const char *arg)
{
    const char *value = strchr(arg, '=');
    static const char *const name[] = {"records",  "gets", "cache_mib", "seconds",
                                       "interval", "rate", "dirs"};
    double *const number[] = {&o->number[0], &o->number[1], &o->number[2], &o->seconds,
                              &o->interval,  &o->rate,      &o->number[3]};
    for (size_t i = 0; value != NULL && i < ARRAY_COUNT(name); i++) {
        if ((size_t)(value - arg) == strlen(name[i]) &&
            strncmp(arg, name[i], (size_t)(value - arg)) == 0) {
            *number[i] = strtod(value + 1, NULL);
            return;
        }
    }
    engine_die("no such option", arg);
}

static const struct engine *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(engines); i++) {
        if (strcmp(engines[i]->name, name) == 0) {
            return engines[i];
        }
    }
    engine_die("this program was built without the engine", name);
}

int main(int argc, char **argv)
{
    struct bench_options o = {
        .number = {20e6, 1e6, 256, 0}, .seconds = 540, .interval = 60, .rate = 20000};
    if (argc == 2 && strcmp(argv[1], "--engines") == 0) {
        for (size_t i = 0; i < ARRAY_COUNT(engines); i++) {
            printf("%s\n", engines[i]->name);
        }
        return 0;
    }
    if (argc < 4) {
        engine_die("usage", "bench_tree ENGINE PHASE DIRECTORY [name=value ...]");
    }
    for (int i = 4; i < argc; i++) {
        option(&o, argv[i]);
    }
    const struct engine *e = find(argv[1]);
    const char *phase = argv[2];
    bool create =
        strcmp(phase, "load") == 0 || strcmp(phase, "files") == 0 || strcmp(phase, "stall") == 0;
    o.directory = argv[3];
    o.records = (uint64_t)o.number[0];
    o.gets = (uint64_t)o.number[1];
    o.dirs = o.number[3] > 0 ? (uint64_t)o.number[3] : o.records / 100 + 1;
    if (create && mkdir(o.directory, 0755) != 0 && errno != EEXIST) {
        engine_die(o.directory, strerror(errno));
    }
    if (!create) {
        o.records = files_forget(o.directory);
    }
    e->open(o.directory, (uint64_t)o.number[2] << 20, create);
    if (strcmp(phase, "load") == 0) {
        phase_load(e, &o);
    } else if (strcmp(phase, "hit") == 0 || strcmp(phase, "miss") == 0) {
        phase_get(e, &o, phase[0] == 'h');
    } else if (strcmp(phase, "scan") == 0) {
        phase_scan(e, &o);
    } else if (strcmp(phase, "upsert") == 0 || strcmp(phase, "rmw") == 0) {
        phase_change(e, &o, phase[0] == 'u');
    } else if (strcmp(phase, "files") == 0) {
        files_mixes(e, &o);
    } else if (strcmp(phase, "stall") == 0) {
        files_stall(e, &o);
    } else {
        engine_die("no such phase", phase);
    }
    return 0;
}
