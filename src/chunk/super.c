/*
 * chunk/super.c -- the superblock (two copies in turn, one file, which is also the lock) and the
 * list of removed data (appended to, checked by position).
 */
#include "chunk/look.h"
#include "chunk/parts_priv.h"

#include <string.h>

#define COPY_DISTANCE CHUNK_BLOCK /* not in one physical block of the disk */
#define DEAD_BATCH 1024u
#define DEAD_READ 2048u                /* records at a time */
#define DEAD_AHEAD (UINT64_C(1) << 20) /* bytes that it has on the disk before it needs them */

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

/* ---- The dead ---- */

static struct chunk_dead_item *dead_find(const struct chunk_store *s, uint64_t data_id)
{
    struct chunk_item *item = chunk_index_find(&s->dead, (struct chunk_key){data_id, 0});
    return item == NULL ? NULL : container_of(item, struct chunk_dead_item, item);
}

bool chunk_dead_stable(const struct chunk_store *s, uint64_t data_id)
{
    const struct chunk_dead_item *d = dead_find(s, data_id);
    return d != NULL && d->stable;
}

static void dead_remove(struct chunk_store *s, struct chunk_dead_item *d)
{
    chunk_index_remove(&s->dead, d->item.key);
    mem_free(d);
}

static int dead_apply(struct chunk_store *s, const struct chunk_dead_record *x)
{
    struct chunk_dead_item *d = dead_find(s, x->data_id);
    if (x->forget && d != NULL) {
        dead_remove(s, d);
    }
    if (x->forget || d != NULL) {
        return 0;
    }
    d = mem_zalloc(sizeof *d);
    if (d == NULL) {
        return -ENOMEM;
    }
    d->item.key.data_id = x->data_id;
    d->time_ms = x->time_ms;
    int rc = chunk_index_insert(&s->dead, &d->item);
    if (rc < 0) {
        mem_free(d);
    }
    return rc;
}

/* What leaves the list: a removal of which no record became stable, a forgetting that did, unless
 * the same is being removed once more. */
static void dead_written(struct chunk_store *s, const struct chunk_change *c, int rc)
{
    struct chunk_dead_item *d = dead_find(s, c->key.data_id);
    bool removal = c->op == CHUNK_REMOVE_DATA;
    if (d == NULL) {
        CHECK(!removal);
        return;
    }
    if (removal) {
        d->writing--;
    }
    if (rc == 0) {
        d->stable = removal;
    }
    if (!d->stable && d->writing == 0) {
        dead_remove(s, d);
    }
}

static void dead_write(struct chunk_store *s);

static void dead_over(struct chunk_store *s, int rc)
{
    s->dead_busy = false;
    mem_freep(&s->dead_bytes);
    if (rc < 0 && rc != -ENOSPC && rc != -ENOMEM) {
        chunk_store_fail(s, rc, "the list of removed data could not be written");
    }
    struct list now;
    list_init(&now);
    list_splice_back(&now, &s->dead_batch);
    uint64_t count = 0;
    LIST_FOR_EACH(node, &now)
    {
        count++;
    }
    s->dead_records += rc == 0 ? count : 0;
    if (!list_empty(&s->dead_waiters)) {
        dead_write(s);
    }
    for (struct list *node = list_pop_front(&now); node != NULL; node = list_pop_front(&now)) {
        struct chunk_work *w = LIST_ENTRY(node, struct chunk_work, ready);
        dead_written(s, w->of.change, rc);
        w->next(w, rc);
    }
}

static void dead_synced(struct disk_req *req, int64_t rc)
{
    struct chunk_store *s = container_of(req, struct chunk_store, dead_req);
    if (!chunk_came_back(s)) {
        return;
    }
    if (rc < 0) { /* also for lack of space: nobody knows what of it is there */
        chunk_store_fail(s, (int)rc, "a sync failed");
    }
    dead_over(s, (int)rc);
}

static void dead_put(struct disk_req *req, int64_t rc)
{
    struct chunk_store *s = container_of(req, struct chunk_store, dead_req);
    if (!chunk_came_back(s)) {
        return;
    }
    if (rc < 0) {
        dead_over(s, (int)rc);
        return;
    }
    s->dead_req = (struct disk_req){.op = DISK_SYNC, .file = s->dead_file, .done = dead_synced};
    s->in_flight++;
    disk_submit(s->disk, &s->dead_req);
}

static void dead_submit(struct chunk_store *s)
{
    size_t count = 0;
    LIST_FOR_EACH(node, &s->dead_batch)
    {
        count++;
    }
    s->dead_req = (struct disk_req){.op = DISK_WRITE,
                                    .flags = DISK_APPENDING,
                                    .file = s->dead_file,
                                    .offset = s->dead_records * CHUNK_DEAD_BYTES,
                                    .buf = s->dead_bytes,
                                    .len = count * CHUNK_DEAD_BYTES,
                                    .done = dead_put};
    s->in_flight++;
    disk_submit(s->disk, &s->dead_req);
}

/* Where there is no room for it the write itself says so, if it needs any. */
static void dead_has_room(struct chunk_store *s, const struct disk_req *req, int64_t rc)
{
    if (rc >= 0) {
        s->dead_ahead = req->offset + req->len;
    } else if (rc == -EOPNOTSUPP) {
        s->dead_ahead = UINT64_MAX; /* it cannot be had */
    }
}

static void dead_made_room(struct disk_req *req, int64_t rc)
{
    struct chunk_store *s = container_of(req, struct chunk_store, dead_req);
    if (chunk_came_back(s)) {
        dead_has_room(s, req, rc);
        dead_submit(s);
    }
}

static struct disk_req dead_room(const struct chunk_store *s)
{
    return (struct disk_req){.op = DISK_ALLOCATE,
                             .flags = DISK_KEEP_SIZE,
                             .file = s->dead_file,
                             .offset = s->dead_records * CHUNK_DEAD_BYTES,
                             .len = DEAD_AHEAD,
                             .done = dead_made_room};
}

static void dead_without_memory(struct disk_req *req, int64_t rc)
{
    (void)rc;
    struct chunk_store *s = container_of(req, struct chunk_store, dead_req);
    if (chunk_came_back(s)) {
        dead_over(s, -ENOMEM);
    }
}

static uint64_t dead_now_ms(const struct chunk_store *s)
{
    return loop_wall_ns(s->loop) / 1000000;
}

static void dead_write(struct chunk_store *s)
{
    size_t count = 0;
    s->dead_busy = true;
    s->dead_bytes = mem_alloc((size_t)DEAD_BATCH * CHUNK_DEAD_BYTES);
    while (count < DEAD_BATCH && s->dead_bytes != NULL && !list_empty(&s->dead_waiters)) {
        struct list *node = list_pop_front(&s->dead_waiters);
        struct chunk_work *w = LIST_ENTRY(node, struct chunk_work, ready);
        list_push_back(&s->dead_batch, node);
        struct chunk_dead_record x = {.data_id = w->of.change->key.data_id,
                                      .time_ms = dead_now_ms(s),
                                      .position = s->dead_records + count,
                                      .forget = w->of.change->op == CHUNK_FORGET_DEAD};
        chunk_dead_encode(&x, s->dead_bytes + count * CHUNK_DEAD_BYTES);
        count++;
    }
    if (count == 0) { /* no memory: answered like all, later */
        list_splice_back(&s->dead_batch, &s->dead_waiters);
        s->dead_req =
            (struct disk_req){.op = DISK_STAT, .file = s->dead_file, .done = dead_without_memory};
        s->in_flight++;
        disk_submit(s->disk, &s->dead_req);
        return;
    }
    if (s->dead_records * CHUNK_DEAD_BYTES + DEAD_AHEAD / 2 <= s->dead_ahead) {
        dead_submit(s);
        return;
    }
    s->dead_req = dead_room(s);
    s->in_flight++;
    disk_submit(s->disk, &s->dead_req);
}

/* In memory at once, so that no new chunk comes to be meanwhile; stable before w->next. */
void chunk_dead_append(struct chunk_store *s, struct chunk_work *w)
{
    bool forget = w->of.change->op == CHUNK_FORGET_DEAD;
    struct chunk_dead_record x = {
        .data_id = w->of.change->key.data_id, .time_ms = dead_now_ms(s), .forget = forget};
    int rc = forget && s->dead_file != NULL ? 0 : dead_apply(s, &x);
    struct chunk_dead_item *d = forget || rc < 0 ? NULL : dead_find(s, x.data_id);
    if (rc < 0 || s->dead_file == NULL) {
        if (d != NULL) {
            d->stable = true; /* as much as all else is */
        }
        w->next(w, rc);
        return;
    }
    if (d != NULL) {
        d->writing++;
    }
    list_remove(&w->ready);
    list_push_back(&s->dead_waiters, &w->ready);
    if (!s->dead_busy) {
        dead_write(s);
    }
}

/* A record counts when it is good and stands where it says. Others are passed over: what an append
 * that power loss tore left out was not answered, and what it left behind was asked for. */
static int dead_replay(struct chunk_store *s, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++, s->dead_records++) {
        struct chunk_dead_record x;
        bool good = chunk_dead_decode(bytes + i * CHUNK_DEAD_BYTES, &x) == 0 &&
                    x.position == s->dead_records;
        int rc = good ? dead_apply(s, &x) : 0;
        if (rc < 0) {
            return rc;
        }
        if (good && !x.forget) {
            dead_find(s, x.data_id)->stable = true;
        }
    }
    return 0;
}

static int dead_load(struct chunk_store *s)
{
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc((size_t)DEAD_READ * CHUNK_DEAD_BYTES);
    if (bytes == NULL) {
        return -ENOMEM;
    }
    bool end = false;
    while (!end) {
        struct disk_req req = {.op = DISK_READ,
                               .file = s->dead_file,
                               .offset = s->dead_records * CHUNK_DEAD_BYTES,
                               .buf = bytes,
                               .len = (size_t)DEAD_READ * CHUNK_DEAD_BYTES};
        int64_t got = disk_now(s->disk, &req);
        if (got < 0) {
            return (int)got;
        }
        size_t count = (size_t)got / CHUNK_DEAD_BYTES;
        end = count < DEAD_READ;
        int rc = dead_replay(s, bytes, count);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static int64_t dead_file_open(struct chunk_store *s, const char *path)
{
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE};
    int64_t rc = disk_now(s->disk, &req);
    s->dead_file = rc < 0 ? NULL : req.file;
    return rc < 0 ? rc : chunk_file_fresh(s, req.file);
}

/* Shorter again: only those that are dead. */
static int dead_compact(struct chunk_store *s, const char *path)
{
    uint8_t *bytes = mem_alloc((s->dead.count + 1) * CHUNK_DEAD_BYTES);
    if (bytes == NULL) {
        return 0; /* another time */
    }
    size_t count = 0;
    struct chunk_key key = {0, 0};
    for (struct chunk_item *item = chunk_index_next(&s->dead, key); item != NULL;
         item = chunk_index_next(&s->dead, key)) {
        const struct chunk_dead_item *d = container_of(item, struct chunk_dead_item, item);
        struct chunk_dead_record x = {
            .data_id = item->key.data_id, .time_ms = d->time_ms, .position = count};
        chunk_dead_encode(&x, bytes + count * CHUNK_DEAD_BYTES);
        count++;
        key = (struct chunk_key){item->key.data_id, 1};
    }
    int rc = disk_store(s->disk, path, bytes, count * CHUNK_DEAD_BYTES);
    mem_free(bytes);
    if (rc < 0) {
        return rc == -ENOSPC || rc == -EDQUOT ? 0 : rc; /* there is room in the old one */
    }
    struct disk_req req = {.op = DISK_CLOSE, .file = s->dead_file};
    (void)disk_now(s->disk, &req);
    s->dead_records = count;
    return (int)dead_file_open(s, path);
}

int chunk_dead_open(struct chunk_store *s, struct err *e)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/dead", s->directory);
    if (path == NULL) {
        return -ENOMEM;
    }
    int64_t rc = dead_file_open(s, path);
    if (rc == 0) {
        rc = dead_load(s);
    }
    if (rc == 0 && s->dead_records > s->dead.count * 2 + DEAD_READ) {
        rc = dead_compact(s, path);
    }
    if (rc == 0) {
        struct disk_req room = dead_room(s);
        dead_has_room(s, &room, disk_now(s->disk, &room));
    }
    rc = rc == -ENOENT ? -ERR_bad_magic : rc;
    return rc < 0 ? err_set(e, (int)rc, "list of removed data '%s'", path) : 0;
}
