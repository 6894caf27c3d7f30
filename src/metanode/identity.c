#include "metanode/metanode_priv.h"

#include "base/crc32c.h"
#include "disk/disk.h"

/*
 * The directory of a metadata server: `lock` (held while it runs), `identity` (whose it is),
 * `log/`.
 *
 * `identity` is written before the log is made and once more after it: a directory that says "made"
 * and has no log has lost it, and must never begin a new one.
 */

#define METANODE_IDENTITY_MAGIC UINT32_C(0x444d444f) /* "ODMD" */
#define METANODE_IDENTITY_VERSION 1u
#define METANODE_IDENTITY_BYTES 48u /* magic, version, state, uuid, cluster id, spare, CRC */
enum { METANODE_BEING_MADE = 1, METANODE_MADE = 2 };
_Static_assert(METANODE_IDENTITY_BYTES == 4 + 4 + 4 + 16 + 16 + 4, "layout of identity");

static int identity_path(const struct metanode *m, const char *name, char **ret)
{
    *ret = mem_printf("%s/%s", m->opt.directory, name);
    return *ret == NULL ? -ENOMEM : 0;
}

static int identity_store(struct metanode *m, uint32_t state, struct err *e)
{
    CLEANUP(mem_freep) char *path = NULL;
    uint8_t bytes[METANODE_IDENTITY_BYTES];
    struct wire_writer w = wire_writer_over(bytes, sizeof bytes);
    wire_write_u32(&w, METANODE_IDENTITY_MAGIC);
    wire_write_u32(&w, METANODE_IDENTITY_VERSION);
    wire_write_u32(&w, state);
    wire_write_bytes(&w, m->uuid.bytes, sizeof m->uuid.bytes);
    wire_write_bytes(&w, m->opt.cluster_id.bytes, sizeof m->opt.cluster_id.bytes);
    wire_write_u32(&w, crc32c(0, bytes, w.len));
    CHECK(!w.bad && w.len == sizeof bytes);
    int rc = identity_path(m, "identity", &path);
    rc = rc < 0 ? rc : disk_store(m->env->disk, path, bytes, sizeof bytes);
    return rc < 0 ? err_set(e, rc, "write '%s/identity'", m->opt.directory) : 0;
}

static int identity_decode(struct metanode *m, const uint8_t *bytes, size_t len,
                           uint32_t *ret_state, struct err *e)
{
    struct wire_reader r = wire_reader_over(bytes, len);
    struct uuid cluster;
    uint32_t magic = wire_read_u32(&r), version = wire_read_u32(&r);
    if (r.bad || magic != METANODE_IDENTITY_MAGIC) {
        return err_set(e, -ERR_bad_magic, "'%s' is no metadata directory", m->opt.directory);
    }
    if (version != METANODE_IDENTITY_VERSION) {
        return err_set(e, -ERR_bad_version, "'%s/identity'", m->opt.directory);
    }
    *ret_state = wire_read_u32(&r);
    const uint8_t *uuid = wire_read_bytes(&r, 16), *id = wire_read_bytes(&r, 16);
    uint32_t crc = wire_read_u32(&r);
    if (r.bad || crc != crc32c(0, bytes, METANODE_IDENTITY_BYTES - 4)) {
        return err_set(e, -ERR_bad_crc, "'%s/identity' is damaged", m->opt.directory);
    }
    memcpy(m->uuid.bytes, uuid, 16);
    memcpy(cluster.bytes, id, 16);
    if (!uuid_equal(&cluster, &m->opt.cluster_id)) {
        char text[UUID_TEXT_SIZE];
        uuid_to_text(&cluster, text);
        return err_set(e, -ERR_wrong_cluster, "'%s' holds the metadata of cluster %s",
                       m->opt.directory, text);
    }
    return 0;
}

/* There is no `identity` that says whose the directory is: is the directory there at all? */
static int identity_missing(const struct metanode *m, struct err *e)
{
    struct disk_req look = {.op = DISK_STAT, .path = m->opt.directory};
    bool there = disk_now(m->env->disk, &look) >= 0;
    return err_set(e, -ENOENT, "directory '%s' %s: mount its disk or restore a backup",
                   m->opt.directory, there ? "holds no metadata" : "does not exist");
}

/* A directory that has anything else in it is not ours to use. */
static int identity_create(struct metanode *m, struct err *e)
{
    struct disk_req list = {.op = DISK_LIST, .path = m->opt.directory};
    if (!m->opt.create) {
        return identity_missing(m, e);
    }
    int64_t rc = disk_now(m->env->disk, &list);
    if (rc < 0) {
        return err_set(e, (int)rc, "list '%s'", m->opt.directory);
    }
    bool foreign = false;
    for (size_t i = 0; i < list.names->count; i++) {
        foreign = foreign || (strcmp(list.names->name[i], "lock") != 0 &&
                              strncmp(list.names->name[i], "identity", 8) != 0);
    }
    mem_free(list.names);
    if (foreign) {
        return err_set(e, -EEXIST, "'%s' is not empty and no metadata directory", m->opt.directory);
    }
    loop_random_bytes(m->env->loop, m->uuid.bytes, sizeof m->uuid.bytes);
    return identity_store(m, METANODE_BEING_MADE, e);
}

/* Without `create` nothing is made where no metadata is: the disk may not be mounted. */
static int identity_expected(const struct metanode *m, const char *identity, struct err *e)
{
    struct disk_req look = {.op = DISK_STAT, .path = identity};
    int rc = m->opt.create ? 0 : (int)disk_now(m->env->disk, &look);
    return rc == -ENOENT ? identity_missing(m, e)
           : rc < 0      ? err_set(e, rc, "look at '%s'", identity)
                         : 0;
}

static int identity_lock(struct metanode *m, struct err *e)
{
    CLEANUP(mem_freep) char *path = NULL;
    int rc = identity_path(m, "lock", &path);
    if (rc < 0) {
        return rc;
    }
    struct disk_req open = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE | DISK_CREATE};
    rc = (int)disk_now(m->env->disk, &open);
    if (rc < 0) {
        return err_set(e, rc, "open '%s'", path);
    }
    m->lock = open.file;
    struct disk_req lock = {.op = DISK_LOCK, .file = m->lock};
    rc = (int)disk_now(m->env->disk, &lock);
    return rc < 0 ? err_set(e, rc, "lock '%s'", path) : 0;
}

struct disk_file *metanode_lock_free(struct disk *d, struct disk_file *f)
{
    if (f != NULL) {
        struct disk_req close = {.op = DISK_CLOSE, .file = f};
        (void)disk_now(d, &close); /* nothing was written through it */
    }
    return NULL;
}

int metanode_identity_open(struct metanode *m, bool *ret_bootstrap, struct err *e)
{
    CLEANUP(mem_freep) char *path = NULL, *log = NULL;
    CLEANUP(mem_freep) void *bytes = NULL;
    size_t len = 0;
    uint32_t state = METANODE_BEING_MADE;
    int rc = m->opt.create ? disk_make_directories(m->env->disk, m->opt.directory) : 0;
    if (rc < 0) {
        return err_set(e, rc, "make '%s'", m->opt.directory);
    }
    rc = identity_path(m, "identity", &path);
    rc = rc < 0 ? rc : identity_path(m, "log", &log);
    rc = rc < 0 ? rc : identity_expected(m, path, e);
    rc = rc < 0 ? rc : identity_lock(m, e);
    if (rc < 0) {
        return rc;
    }
    rc = disk_load(m->env->disk, path, 4096, &bytes, &len);
    if (rc == -ENOENT) {
        rc = identity_create(m, e);
        m->created = rc == 0;
    } else if (rc < 0) {
        return err_set(e, rc, "read '%s'", path);
    } else {
        rc = identity_decode(m, bytes, len, &state, e);
    }
    if (rc < 0) {
        return rc;
    }
    *ret_bootstrap = state == METANODE_BEING_MADE;
    if (*ret_bootstrap) {
        rc = disk_make_directories(m->env->disk, log);
    }
    return rc < 0 ? err_set(e, rc, "make '%s'", log) : 0;
}

int metanode_identity_made(struct metanode *m, struct err *e)
{
    return identity_store(m, METANODE_MADE, e);
}
