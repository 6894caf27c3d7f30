/*
 * chunk/medium.c -- reads of what the medium has, whatever the page cache says (doc/design/0050).
 * What is dirty goes there first. Where the file system has no direct I/O it is read through the
 * cache, after that was told to let go of it: as good as can be had there.
 */
#include "chunk/parts_priv.h"

struct disk_req chunk_medium_read(const struct chunk_store *s, struct disk_file *file,
                                  uint64_t offset, uint8_t *to, size_t len)
{
    return (struct disk_req){.op = DISK_READ,
                             .flags = s->through_cache ? 0 : DISK_PAST_CACHE,
                             .file = file,
                             .offset = offset,
                             .buf = to,
                             .len = base_align_up(len, CHUNK_BLOCK)};
}

bool chunk_medium_cannot(struct chunk_store *s, struct disk_req *req, int64_t got)
{
    bool cannot = (req->flags & DISK_PAST_CACHE) != 0 && (got == -EOPNOTSUPP || got == -EINVAL);
    if (cannot) {
        s->through_cache = true;
        req->flags = 0;
    }
    return cannot;
}

int64_t chunk_medium_now(struct chunk_store *s, struct disk_file *file, uint64_t offset,
                         uint8_t *to, size_t len)
{
    struct disk_req req = chunk_medium_read(s, file, offset, to, len);
    int64_t got = s->through_cache ? -EOPNOTSUPP : disk_now(s->disk, &req);
    if (s->through_cache || chunk_medium_cannot(s, &req, got)) {
        struct disk_req drop = {.op = DISK_DROP, .file = file, .offset = offset, .len = req.len};
        (void)disk_now(s->disk, &drop); /* as far as it can */
        got = disk_now(s->disk, &req);
    }
    return got > (int64_t)len ? (int64_t)len : got;
}
