/*
 * chunk/extent_device.c -- the `extent` engine on a raw block device: whose it is, and where its
 * containers begin. The file `device` in the directory names it; its headers say that it is ours.
 *
 * A device that is not empty is somebody's until told otherwise: nothing is written to it but by
 * chunk_device_format(), which a person calls, and behind the header that this has left.
 */
#include "chunk/device.h"
#include "chunk/extent_room_priv.h"

#include "base/env.h"
#include "base/text.h"

#include <string.h>

#define LOOK_BYTES ((size_t)1 << 20) /* at each end: where others have their headers */
#define PATH_BYTES_MAX 4096u
#define DEVICE_LEAST (2 * CHUNK_STEP_UNITS * CHUNK_UNIT)

static const struct uuid nobody; /* whose a device is that was made ready */

/* ---- What is on it ---- */

struct signature {
    uint32_t offset;
    uint8_t len;
    const char *bytes, *name;
};
static const struct signature signatures[] = {
    {0, 4, "XFSB", "an XFS file system"},
    {1080, 2, "\x53\xef", "an ext2, ext3 or ext4 file system"},
    {65600, 8, "_BHRfS_M", "a Btrfs file system"},
    {3, 8, "NTFS    ", "an NTFS file system"},
    {82, 5, "FAT32", "a FAT file system"},
    {54, 3, "FAT", "a FAT file system"},
    {1024, 4, "\x10\x20\xf5\xf2", "an F2FS file system"},
    {0, 6, "LUKS\xba\xbe", "an encrypted volume (LUKS)"},
    {512, 8, "LABELONE", "a physical volume of LVM"},
    {4086, 10, "SWAPSPACE2", "swap space"},
    {4096, 4, "\xfc\x4e\x2b\xa9", "a member of a RAID"},
    {512, 8, "EFI PART", "a partition table (GPT)"},
    {510, 2, "\x55\xaa", "a partition table or boot sector"},
};

static bool all_zeros(const uint8_t *at, size_t len)
{
    return len == 0 || (at[0] == 0 && memcmp(at, at + 1, len - 1) == 0);
}

static const char *looks_like(const uint8_t *first)
{
    for (size_t i = 0; i < ARRAY_COUNT(signatures); i++) {
        const struct signature *s = &signatures[i];
        if (memcmp(first + s->offset, s->bytes, s->len) == 0) {
            return s->name;
        }
    }
    return "data that is not ours";
}

/* ---- Reading and writing, at once ---- */

static int device_read(struct disk *d, struct disk_file *file, uint64_t offset, void *to,
                       size_t len)
{
    struct disk_req req = {.op = DISK_READ, .file = file, .offset = offset, .buf = to, .len = len};
    int64_t got = disk_now(d, &req);
    return got < 0 ? (int)got : got < (int64_t)len ? -ERR_short_msg : 0;
}

static int device_write_header(struct disk *d, struct disk_file *file, const struct uuid *target,
                               uint32_t number)
{
    uint8_t *head = mem_aligned(CHUNK_UNIT, CHUNK_UNIT);
    if (head == NULL) {
        return -ENOMEM;
    }
    chunk_space_header(target, number, head);
    struct disk_req req = {.op = DISK_WRITE,
                           .file = file,
                           .offset = (uint64_t)number * CHUNK_CONTAINER_UNITS * CHUNK_UNIT,
                           .buf = head,
                           .len = CHUNK_UNIT};
    int64_t rc = disk_now(d, &req);
    mem_free(head);
    return rc < 0 ? (int)rc : 0;
}

static int device_sync(struct disk *d, struct disk_file *file)
{
    struct disk_req req = {.op = DISK_SYNC_ALL, .file = file};
    int64_t rc = disk_now(d, &req);
    return rc < 0 ? (int)rc : 0;
}

static void device_close(struct disk *d, struct disk_file *file)
{
    struct disk_req req = {.op = DISK_CLOSE, .file = file};
    (void)disk_now(d, &req);
}

/* Nobody else has it: neither the kernel for a mount, nor a server. */
static int device_take(struct disk *d, const char *path, struct disk_file **ret, uint64_t *ret_size,
                       struct err *e)
{
    struct disk_req req = {
        .op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE | DISK_EXCLUSIVE};
    int64_t rc = disk_now(d, &req);
    if (rc < 0) {
        return err_set(e, rc == -EBUSY ? -ERR_in_use : (int)rc, "device '%s'", path);
    }
    struct disk_file *file = req.file;
    req = (struct disk_req){.op = DISK_LOCK, .file = file};
    rc = disk_now(d, &req);
    req = (struct disk_req){.op = DISK_STAT, .file = file};
    rc = rc < 0 ? rc : disk_now(d, &req);
    if (rc >= 0 && req.stat.size_bytes < DEVICE_LEAST) {
        rc = -ENOSPC;
    }
    if (rc < 0) {
        device_close(d, file);
        return err_set(e, (int)rc, "device '%s'", path);
    }
    *ret = file;
    *ret_size = req.stat.size_bytes;
    return 0;
}

/* ---- Format, by a person ---- */

static int format_refuse(struct disk *d, struct disk_file *file, uint64_t size, const char *path,
                         struct err *e)
{
    CLEANUP(mem_freep) uint8_t *first = mem_alloc(LOOK_BYTES);
    CLEANUP(mem_freep) uint8_t *last = mem_alloc(LOOK_BYTES);
    if (first == NULL || last == NULL) {
        return -ENOMEM;
    }
    int rc = device_read(d, file, 0, first, LOOK_BYTES);
    rc = rc < 0 ? rc : device_read(d, file, size - LOOK_BYTES, last, LOOK_BYTES);
    if (rc < 0) {
        return err_set(e, rc, "device '%s'", path);
    }
    if (chunk_space_header_check(&nobody, 0, first) == 0) {
        return 0; /* it has been formatted, and nobody has taken it */
    }
    struct uuid owner;
    memcpy(owner.bytes, first + CHUNK_HEADER_OWNER, sizeof owner.bytes);
    if (chunk_space_header_check(&owner, 0, first) == 0) {
        char text[UUID_TEXT_SIZE];
        uuid_to_text(&owner, text);
        return err_set(e, -EEXIST, "device '%s' has the chunks of target %s", path, text);
    }
    bool empty = all_zeros(first, LOOK_BYTES) && all_zeros(last, LOOK_BYTES);
    return empty ? 0 : err_set(e, -EEXIST, "device '%s' has %s", path, looks_like(first));
}

/* What others know their own by goes, or they would still take it for theirs. */
static int format_clear(struct disk *d, struct disk_file *file, uint64_t size)
{
    CLEANUP(mem_freep) uint8_t *zeros = mem_zalloc(LOOK_BYTES);
    int rc = zeros == NULL ? -ENOMEM : 0;
    for (unsigned i = 0; i < 2 && rc == 0; i++) {
        struct disk_req req = {.op = DISK_WRITE,
                               .file = file,
                               .offset = i == 0 ? 0 : size - LOOK_BYTES,
                               .buf = zeros,
                               .len = LOOK_BYTES};
        int64_t put = disk_now(d, &req);
        rc = put < 0 ? (int)put : 0;
    }
    return rc;
}

int chunk_device_format(struct disk *d, const char *path, bool force, struct err *e)
{
    struct disk_file *file = NULL;
    uint64_t size = 0;
    int rc = device_take(d, path, &file, &size, e);
    if (rc < 0) {
        return rc;
    }
    rc = force ? 0 : format_refuse(d, file, size, path, e);
    if (rc == 0) {
        rc = format_clear(d, file, size);
        rc = rc < 0 ? rc : device_write_header(d, file, &nobody, 0);
        rc = rc < 0 ? rc : device_sync(d, file);
        rc = rc < 0 ? err_set(e, rc, "device '%s'", path) : 0;
    }
    device_close(d, file);
    return rc;
}

/* ---- The directory's ---- */

static uint64_t device_units(uint64_t size)
{
    return size / CHUNK_UNIT / CHUNK_STEP_UNITS * CHUNK_STEP_UNITS;
}

static uint32_t device_containers(uint64_t size)
{
    return (uint32_t)((device_units(size) + CHUNK_CONTAINER_UNITS - 1) / CHUNK_CONTAINER_UNITS);
}

static int device_note(struct disk *d, const char *directory, const char *path, uint64_t size)
{
    CLEANUP(mem_freep) char *name = mem_printf("%s/device", directory);
    CLEANUP(mem_freep) char *text = mem_printf("%s\n%llu\n", path, (unsigned long long)size);
    return name == NULL || text == NULL ? -ENOMEM : disk_store(d, name, text, strlen(text));
}

/* What the directory says; *ret NULL: it has none. */
static int device_noted(struct disk *d, const char *directory, char **ret, uint64_t *ret_size)
{
    CLEANUP(mem_freep) char *name = mem_printf("%s/device", directory);
    CLEANUP(mem_freep) void *text = NULL;
    size_t len = 0;
    *ret = NULL;
    if (name == NULL) {
        return -ENOMEM;
    }
    int rc = disk_load(d, name, PATH_BYTES_MAX, &text, &len);
    if (rc < 0) {
        return rc == -ENOENT ? 0 : rc;
    }
    char *end = strchr(text, '\n');
    char *last = end == NULL ? NULL : strchr(end + 1, '\n');
    uint64_t size = 0;
    if (last == NULL) {
        return -ERR_bad_value;
    }
    *end = *last = 0;
    if (text_to_u64(end + 1, &size) < 0) {
        return -ERR_bad_value;
    }
    *ret = mem_strdup(text);
    *ret_size = size;
    return *ret == NULL ? -ENOMEM : 0;
}

static int device_free(struct disk *d, struct disk_file *file, const char *path, struct err *e)
{
    uint8_t head[CHUNK_UNIT];
    int rc = device_read(d, file, 0, head, sizeof head);
    rc = rc < 0 ? rc : chunk_space_header_check(&nobody, 0, head);
    return rc < 0
               ? err_set(e, rc,
                         "device '%s' is not a free one that `opendfs chunk format` has made", path)
               : 0;
}

int chunk_device_ready(struct disk *d, const char *path, struct err *e)
{
    struct disk_file *file = NULL;
    uint64_t size = 0;
    int rc = device_take(d, path, &file, &size, e);
    if (rc == 0) {
        rc = device_free(d, file, path, e);
        device_close(d, file);
    }
    return rc;
}

/* Headers of a device that nobody has, the first one last: only with it the device is the target's.
 */
static int device_own(struct disk *d, struct disk_file *file, uint64_t size,
                      const struct uuid *target)
{
    int rc = 0;
    for (uint32_t n = device_containers(size) - 1; n > 0 && rc == 0; n--) {
        rc = device_write_header(d, file, target, n);
    }
    rc = rc < 0 ? rc : device_sync(d, file);
    rc = rc < 0 ? rc : device_write_header(d, file, target, 0);
    return rc < 0 ? rc : device_sync(d, file);
}

int chunk_device_claim(const struct chunk_options *opt, const struct uuid *target, struct err *e)
{
    struct disk *d = opt->env->disk;
    struct disk_file *file = NULL;
    uint64_t size = 0;
    int rc = device_take(d, opt->device, &file, &size, e);
    if (rc < 0) {
        return rc;
    }
    rc = device_free(d, file, opt->device, e);
    if (rc == 0) {
        rc = device_own(d, file, size, target);
        rc = rc < 0 ? err_set(e, rc, "device '%s'", opt->device) : 0;
    }
    device_close(d, file);
    if (rc < 0) {
        return rc;
    }
    rc = device_note(d, opt->directory, opt->device, size);
    return rc < 0 ? err_set(e, rc, "format: '%s/device'", opt->directory) : 0;
}

/* ---- Open ---- */

static int device_container(struct chunk_extent *x, uint32_t number)
{
    uint8_t head[CHUNK_UNIT];
    uint64_t begins = (uint64_t)number * CHUNK_CONTAINER_UNITS * CHUNK_UNIT;
    int rc = device_read(x->s->disk, x->device, begins, head, sizeof head);
    rc = rc < 0 ? rc : chunk_space_header_check(&x->s->super.target, number, head);
    rc = rc < 0 ? rc : chunk_space_room(x);
    if (rc == 0) {
        struct chunk_container *c = x->container[x->container_count++];
        c->file = x->device;
        c->begins = begins;
        chunk_container_wrote(c, false); /* by whoever died, perhaps */
    }
    return rc;
}

/* One that has become larger is used as it was. */
static int device_open(struct chunk_extent *x, const char *path, uint64_t size, struct err *e)
{
    struct chunk_store *s = x->s;
    uint64_t now = 0;
    int rc = device_take(s->disk, path, &x->device, &now, e);
    if (rc == 0 && now < size) {
        rc = err_set(e, -ERR_bad_length, "device '%s' is smaller than it was", path);
    }
    if (rc < 0) {
        return rc;
    }
    rc = chunk_file_fresh(s, x->device);
    if (rc < 0) {
        return err_set(e, rc, "device '%s', synced before it is used", path);
    }
    for (uint32_t n = 0; n < device_containers(size) && rc == 0; n++) {
        rc = device_container(x, n);
    }
    if (rc < 0) {
        return err_set(e, rc, "device '%s' does not have the chunks of '%s'", path, s->directory);
    }
    x->units = device_units(size);
    chunk_store_low(s, size);
    return 0;
}

int chunk_device_open(struct chunk_extent *x, struct err *e)
{
    struct chunk_store *s = x->s;
    const char *wanted = s->opt.device;
    CLEANUP(mem_freep) char *noted = NULL;
    uint64_t size = 0;
    int rc = device_noted(s->disk, s->directory, &noted, &size);
    if (rc < 0) {
        return err_set(e, rc, "'%s/device'", s->directory);
    }
    if (noted == NULL) {
        return wanted == NULL
                   ? 0
                   : err_set(e, -ERR_config, "'%s' was made without a device", s->directory);
    }
    rc = device_open(x, wanted == NULL ? noted : wanted, size, e);
    if (rc == 0 && wanted != NULL && strcmp(wanted, noted) != 0) {
        rc = device_note(s->disk, s->directory, wanted, size); /* it has another name now */
        rc = rc < 0 ? err_set(e, rc, "'%s/device'", s->directory) : 0;
    }
    return rc < 0 ? rc : 1;
}
