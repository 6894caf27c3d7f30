/* chunk/super.c -- the superblock: two copies in turn, one file, which is also the lock. */
#include "chunk/look.h"
#include "chunk/parts_priv.h"

#include <string.h>

#define COPY_DISTANCE CHUNK_BLOCK /* not in one physical block of the disk */

static uint64_t super_offset(uint64_t number)
{
    return (number % CHUNK_SUPER_COPIES) * COPY_DISTANCE;
}

/* ---- Superblock, later ---- */

static void super_write(struct chunk_store *s);

static void super_over(struct chunk_store *s, int rc)
{
    s->super_busy = false;
    if (rc < 0) {
        chunk_store_fail(s, rc, "the superblock could not be written");
    } else {
        s->super_written = s->super_target;
    }
    struct list now;
    list_init(&now);
    list_splice_back(&now, &s->super_waiters);
    bool more = rc == 0 && s->super_written < s->super_wanted;
    LIST_FOR_EACH_SAFE(node, &now)
    {
        struct chunk_work *w = LIST_ENTRY(node, struct chunk_work, ready);
        if (rc == 0 && w->captured > s->super_written) {
            list_remove(&w->ready);
            list_push_back(&s->super_waiters, &w->ready);
        }
    }
    if (more) {
        super_write(s);
    }
    for (struct list *node = list_pop_front(&now); node != NULL; node = list_pop_front(&now)) {
        struct chunk_work *w = LIST_ENTRY(node, struct chunk_work, ready);
        w->finish(w, rc);
    }
    chunk_stop_check(s);
}

static void super_synced(struct disk_req *req, int64_t rc)
{
    struct chunk_store *s = container_of(req, struct chunk_store, super_req);
    if (chunk_came_back(s)) {
        super_over(s, (int)rc);
    }
}

static void super_put(struct disk_req *req, int64_t rc)
{
    struct chunk_store *s = container_of(req, struct chunk_store, super_req);
    if (!chunk_came_back(s)) {
        return;
    }
    if (rc < 0) {
        super_over(s, (int)rc);
        return;
    }
    s->super_req = (struct disk_req){.op = DISK_SYNC, .file = s->super_file, .done = super_synced};
    s->in_flight++;
    disk_submit(s->disk, &s->super_req);
}

static void super_write(struct chunk_store *s)
{
    s->super_busy = true;
    s->super_target = s->super_wanted;
    s->super.number++;
    chunk_super_encode(&s->super, s->super_bytes);
    s->super_req = (struct disk_req){.op = DISK_WRITE,
                                     .file = s->super_file,
                                     .offset = super_offset(s->super.number),
                                     .buf = s->super_bytes,
                                     .len = CHUNK_SUPER_BYTES,
                                     .done = super_put};
    s->in_flight++;
    disk_submit(s->disk, &s->super_req);
}

void chunk_super_save(struct chunk_store *s, struct chunk_work *w)
{
    s->super_wanted++;
    if (w != NULL) {
        w->captured = s->super_wanted;
        list_remove(&w->ready);
        list_push_back(&s->super_waiters, &w->ready);
    }
    if (!s->super_busy) {
        super_write(s);
    }
}

/* ---- Superblock, at once ---- */

int chunk_super_save_now(struct chunk_store *s)
{
    s->super.number++;
    chunk_super_encode(&s->super, s->super_bytes);
    struct disk_req req = {.op = DISK_WRITE,
                           .file = s->super_file,
                           .offset = super_offset(s->super.number),
                           .buf = s->super_bytes,
                           .len = CHUNK_SUPER_BYTES};
    int64_t rc = disk_now(s->disk, &req);
    if (rc >= 0) {
        req = (struct disk_req){.op = DISK_SYNC, .file = s->super_file};
        rc = disk_now(s->disk, &req);
    }
    return rc < 0 ? (int)rc : 0;
}

/* The newer one of two good copies. A damaged copy is no reason to refuse: one is always being
 * replaced when power fails. */
static int super_read(struct disk *d, struct disk_file *file, struct chunk_super *ret)
{
    int result = -ERR_short_msg;
    bool found = false;
    for (uint64_t copy = 0; copy < CHUNK_SUPER_COPIES; copy++) {
        uint8_t bytes[CHUNK_SUPER_BYTES];
        struct disk_req req = {.op = DISK_READ,
                               .file = file,
                               .offset = super_offset(copy),
                               .buf = bytes,
                               .len = sizeof bytes};
        int64_t got = disk_now(d, &req);
        struct chunk_super x;
        int rc = got < 0                       ? (int)got
                 : got < (int64_t)sizeof bytes ? -ERR_short_msg
                                               : chunk_super_decode(bytes, &x);
        if (rc == 0 && (!found || x.number > ret->number)) {
            *ret = x;
            found = true;
        }
        result = found ? 0 : rc;
    }
    return result;
}

static bool is_there(struct disk *d, const char *path)
{
    struct disk_req req = {.op = DISK_STAT, .path = path};
    return disk_now(d, &req) >= 0;
}

/* 1, 0, or why that cannot be told. */
static int has_name(struct disk *d, const char *directory, const char *name)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/%s", directory, name);
    struct disk_req req = {.op = DISK_STAT, .path = path};
    int64_t rc = path == NULL ? -ENOMEM : disk_now(d, &req);
    return rc == -ENOENT ? 0 : rc < 0 ? (int)rc : 1;
}

/* Of `extent` there is a journal also when the index is lost: it must not look like the other. */
static int super_engine(struct disk *d, const char *directory, enum chunk_engine *ret)
{
    int found = has_name(d, directory, "index");
    found = found != 0 ? found : has_name(d, directory, "journal");
    *ret = found > 0 ? CHUNK_ENGINE_EXTENT : CHUNK_ENGINE_FILE;
    return found < 0 ? found : 0;
}

/* The directory is there. A disk that cannot be read or written says so. */
static int super_unopened(const char *directory, int rc, struct err *e)
{
    return rc == -ENOENT
               ? err_set(e, -ERR_bad_magic, "'%s' is not a formatted data directory", directory)
               : err_set(e, rc, "superblock of '%s'", directory);
}

int chunk_store_look(struct disk *d, const char *directory, struct chunk_looked *ret, struct err *e)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/super", directory);
    enum chunk_engine engine = CHUNK_ENGINE_FILE;
    struct chunk_super super = {0};
    if (path == NULL) {
        return -ENOMEM;
    }
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_ONLY};
    int64_t rc = disk_now(d, &req);
    if (rc < 0) {
        bool made = rc != -ENOENT || is_there(d, directory);
        return made ? super_unopened(directory, (int)rc, e)
                    : err_set(e, -ENOENT, "data directory '%s'", directory);
    }
    struct disk_file *file = req.file;
    int bad = super_read(d, file, &super);
    req = (struct disk_req){.op = DISK_CLOSE, .file = file};
    (void)disk_now(d, &req);
    bad = bad < 0 ? bad : super_engine(d, directory, &engine);
    *ret = (struct chunk_looked){.engine = engine,
                                 .target = super.target,
                                 .cluster = super.cluster,
                                 .incarnation = super.incarnation,
                                 .lossy = super.lossy,
                                 .clean = super.clean};
    return bad < 0 ? err_set(e, bad, "superblock of '%s'", directory) : 0;
}

/* A directory belongs to the engine that it was made with: another one would find nothing in it. */
static int super_engine_check(const struct chunk_store *s, struct err *e)
{
    static const char *const names[] = {
        [CHUNK_ENGINE_FILE] = "file", [CHUNK_ENGINE_EXTENT] = "extent"};
    enum chunk_engine made = CHUNK_ENGINE_FILE;
    int rc = super_engine(s->disk, s->directory, &made);
    if (rc < 0) {
        return err_set(e, rc, "data directory '%s'", s->directory);
    }
    if (made == s->opt.engine) {
        return 0;
    }
    return err_set(e, -ERR_config, "'%s' was made with engine = %s, not %s", s->directory,
                   names[made], names[s->opt.engine]);
}

int chunk_super_open(struct chunk_store *s, struct err *e)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/super", s->directory);
    if (path == NULL) {
        return -ENOMEM;
    }
    struct disk_req req = {.op = DISK_STAT, .path = s->directory};
    int64_t rc = disk_now(s->disk, &req);
    if (rc < 0) {
        return err_set(e, (int)rc, "data directory '%s'", s->directory);
    }
    req = (struct disk_req){.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE};
    rc = disk_now(s->disk, &req);
    if (rc < 0) {
        return super_unopened(s->directory, (int)rc, e);
    }
    s->super_file = req.file;
    req = (struct disk_req){.op = DISK_LOCK, .file = s->super_file};
    rc = disk_now(s->disk, &req);
    if (rc == 0) {
        rc = super_read(s->disk, s->super_file, &s->super);
    }
    if (rc < 0) {
        return err_set(e, (int)rc, "superblock of '%s'", s->directory);
    }
    if (!uuid_equal(&s->super.cluster, &s->opt.cluster)) {
        return err_set(e, -ERR_wrong_cluster, "data directory '%s'", s->directory);
    }
    return super_engine_check(s, e);
}

int chunk_file_fresh(const struct chunk_store *s, struct disk_file *file)
{
    return s->super.clean || s->rebooted ? 0 : disk_refresh(s->disk, file);
}
