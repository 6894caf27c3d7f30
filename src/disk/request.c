/* disk/request.c -- see request_priv.h. Pure: no system calls. */
#include "disk/request_priv.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

bool disk_request_on_file(const struct disk_req *req)
{
    switch (req->op) {
    case DISK_CLOSE:
    case DISK_READ:
    case DISK_WRITE:
    case DISK_SYNC:
    case DISK_SYNC_ALL:
    case DISK_DROP:
    case DISK_ALLOCATE:
    case DISK_PUNCH:
    case DISK_TRUNCATE:
    case DISK_LOCK:
    case DISK_SEND:
    case DISK_FETCH:
        return true;
    case DISK_STAT:
        return req->file != NULL;
    case DISK_OPEN:
    case DISK_SYNC_DIR:
    case DISK_STATFS:
    case DISK_RENAME:
    case DISK_LINK:
    case DISK_REMOVE:
    case DISK_MKDIR:
    case DISK_LIST:
        return false;
    }
    CHECK(false && "known operation");
    return false;
}

bool disk_request_direct(const struct disk_req *req)
{
    bool past = req->op == DISK_READ && (req->flags & DISK_PAST_CACHE) != 0;
    return past || (req->file->flags & DISK_DIRECT) != 0;
}

void disk_request_begun(const struct disk *d)
{
    if (d->observer != NULL) {
        d->observer->begun(d->observer);
    }
}

void disk_request_ended(const struct disk *d, const struct disk_req *req, int64_t rc, uint64_t ns)
{
    if (d->observer != NULL) {
        d->observer->ended(d->observer, req, rc, ns);
    }
}

uint64_t disk_request_bytes(const struct disk_req *req)
{
    if (req->iov == NULL) {
        return req->len;
    }
    uint64_t sum = 0;
    for (unsigned i = 0; i < req->iov_count && sum <= INT64_MAX; i++) {
        uint64_t len = req->iov[i].iov_len;
        sum = len > (uint64_t)INT64_MAX - sum ? UINT64_MAX : sum + len;
    }
    return sum;
}

static bool request_inside(uint64_t offset, uint64_t len)
{
    return offset <= INT64_MAX && len <= (uint64_t)INT64_MAX - offset;
}

/* The kernel asks for less on most devices; asking for the same everywhere keeps code that was
 * tried on one device or in simulation working on all. */
static bool request_aligned(const struct disk_req *req)
{
    uint64_t all = req->offset;
    if (req->iov == NULL) {
        return ((all | req->len | (uintptr_t)req->buf) & (DISK_UNIT - 1)) == 0;
    }
    for (unsigned i = 0; i < req->iov_count; i++) {
        all |= req->iov[i].iov_len | (uintptr_t)req->iov[i].iov_base;
    }
    return (all & (DISK_UNIT - 1)) == 0;
}

static int request_check_transfer(const struct disk_req *req)
{
    if (!request_inside(req->offset, disk_request_bytes(req))) {
        return -EINVAL;
    }
    return disk_request_direct(req) && !request_aligned(req) ? -EINVAL : 0;
}

static int request_check_flags(uint32_t flags)
{
    return (flags & DISK_CREATE) != 0 && (flags & DISK_READ_WRITE) == 0 ? -EINVAL : 0;
}

static int request_check_writable(const struct disk_req *req)
{
    return (req->file->flags & DISK_READ_WRITE) == 0 ? -EBADF : 0;
}

static int request_check_range(const struct disk_req *req)
{
    int rc = request_check_writable(req);
    if (rc < 0) {
        return rc;
    }
    return req->len == 0 || !request_inside(req->offset, req->len) ? -EINVAL : 0;
}

static void request_check_caller(const struct disk_req *req)
{
    if (disk_request_on_file(req)) {
        CHECK(req->file != NULL);
        return;
    }
    CHECK(req->path != NULL);
    CHECK((req->op != DISK_RENAME && req->op != DISK_LINK) || req->path_to != NULL);
}

int disk_request_check(const struct disk_req *req)
{
    request_check_caller(req);
    int rc = 0;
    switch (req->op) {
    case DISK_OPEN:
        return request_check_flags(req->flags);
    case DISK_WRITE:
        rc = request_check_writable(req);
        return rc < 0 ? rc : request_check_transfer(req);
    case DISK_READ:
        return request_check_transfer(req);
    case DISK_ALLOCATE:
    case DISK_PUNCH:
        return request_check_range(req);
    case DISK_TRUNCATE:
        rc = request_check_writable(req);
        return rc < 0 ? rc : request_inside(0, req->len) ? 0 : -EINVAL;
    case DISK_SEND:
        CHECK(req->sink != NULL);
        return request_inside(req->offset, req->len) ? 0 : -EINVAL;
    case DISK_FETCH: /* what is read past the page cache never gets there */
        return request_inside(req->offset, req->len) && !disk_request_direct(req) ? 0 : -EINVAL;
    case DISK_CLOSE:
    case DISK_SYNC:
    case DISK_SYNC_ALL:
    case DISK_DROP:
    case DISK_SYNC_DIR:
    case DISK_STAT:
    case DISK_STATFS:
    case DISK_RENAME:
    case DISK_LINK:
    case DISK_REMOVE:
    case DISK_MKDIR:
    case DISK_LIST:
    case DISK_LOCK:
        return 0;
    }
    return -EINVAL;
}

void disk_cursor_init(struct disk_cursor *c, const struct disk_req *req)
{
    *c = (struct disk_cursor){.iov = req->iov, .left = req->iov_count};
    if (req->iov == NULL) {
        c->whole = (struct iovec){.iov_base = req->buf, .iov_len = (size_t)req->len};
        c->left = 1;
    }
}

/* `whole` is found through the cursor itself, so that a copied cursor does not point elsewhere. */
static const struct iovec *cursor_at(const struct disk_cursor *c)
{
    return c->iov == NULL ? &c->whole : c->iov;
}

unsigned disk_cursor_window(const struct disk_cursor *c, struct iovec *out, unsigned max)
{
    unsigned count = 0;
    size_t bytes = 0, skip = c->skip;
    const struct iovec *at = cursor_at(c);
    for (unsigned i = 0; i < c->left && count < max && bytes < INT_MAX; i++) {
        size_t len = (size_t)base_min(at[i].iov_len - skip, INT_MAX - bytes);
        if (len > 0) {
            out[count].iov_base = (uint8_t *)at[i].iov_base + skip;
            out[count].iov_len = len;
            count++;
        }
        bytes += len;
        skip = 0;
    }
    return count;
}

void disk_cursor_advance(struct disk_cursor *c, size_t bytes)
{
    c->skip += bytes;
    while (c->left > 0 && c->skip >= cursor_at(c)->iov_len) {
        c->skip -= cursor_at(c)->iov_len;
        c->left--;
        c->iov = c->iov == NULL ? NULL : c->iov + 1;
    }
    CHECK(c->left > 0 || c->skip == 0);
}

static int names_compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int disk_names_make(const char *text, size_t text_len, size_t count, struct disk_names **ret)
{
    size_t head = sizeof(struct disk_names) + count * sizeof(char *);
    struct disk_names *names = mem_alloc(head + text_len);
    if (names == NULL) {
        return -ENOMEM;
    }
    char *at = (char *)names + head;
    if (text_len > 0) {
        memcpy(at, text, text_len);
    }
    names->count = count;
    for (size_t i = 0; i < count; i++) {
        names->name[i] = at;
        at += strlen(at) + 1;
    }
    CHECK(at == (char *)names + head + text_len);
    qsort(names->name, count, sizeof names->name[0], names_compare);
    *ret = names;
    return 0;
}
