/* disk/known.c -- see known_priv.h. */
#include "disk/known_priv.h"

#include "base/fault.h"

#include <liburing.h>

/* ---- Files ---- */

static bool known_add_file(struct disk_known *k, struct disk_file *f)
{
    unsigned i = 0;
    while (i < DISK_KNOWN_FILES && k->file[i] != NULL) {
        i++;
    }
    if (i == DISK_KNOWN_FILES || FAULT(k->fault, "disk.uring_register")) {
        return false;
    }
    if (io_uring_register_files_update(k->uring, i, &f->fd, 1) != 1) {
        return false;
    }
    k->file[i] = f;
    f->known = i + 1;
    return true;
}

int disk_known_file(struct disk_known *k, struct disk_file *f)
{
    if (f->known == 0) {
        if (!k->has_files || f->locked || ++f->uses < DISK_KNOWN_USES) {
            return -1;
        }
        f->uses = 0; /* if not now, then perhaps after as many again */
        if (!known_add_file(k, f)) {
            return -1;
        }
    }
    return (int)f->known - 1;
}

/* Should the kernel not let go of it: the next file in its place, or the end of the ring, makes
 * it. */
void disk_known_forget(struct disk_known *k, struct disk_file *f)
{
    if (f->known != 0) {
        const int none = -1;
        unsigned i = f->known - 1;
        CHECK(k->uring != NULL && k->file[i] == f);
        (void)io_uring_register_files_update(k->uring, i, &none, 1);
        k->file[i] = NULL;
        f->known = 0;
        f->uses = 0;
    }
}

/* ---- Memory ---- */

static int known_tell_piece(struct disk_known *k, unsigned i)
{
    struct disk_known_piece *p = &k->piece[i];
    const struct iovec iov = {.iov_base = p->at, .iov_len = p->len};
    if (!k->has_pieces) {
        return -EOPNOTSUPP;
    }
    if (FAULT(k->fault, "disk.uring_register")) {
        return -ENOMEM;
    }
    int rc = io_uring_register_buffers_update_tag(k->uring, i, &iov, NULL, 1);
    p->known = rc == 1;
    return rc == 1 ? 0 : rc < 0 ? rc : -EINVAL;
}

static void known_drop_piece(struct disk_known *k, unsigned i)
{
    struct disk_known_piece *p = &k->piece[i];
    const struct iovec none = {.iov_base = NULL, .iov_len = 0};
    if (p->known && k->uring != NULL) {
        (void)io_uring_register_buffers_update_tag(k->uring, i, &none, NULL, 1);
    }
    *p = (struct disk_known_piece){.at = NULL};
}

int disk_known_piece(const struct disk_known *k, const void *at, size_t len)
{
    uintptr_t from = (uintptr_t)at;
    for (unsigned i = 0; i < k->piece_end; i++) {
        const struct disk_known_piece *p = &k->piece[i];
        uintptr_t start = (uintptr_t)p->at;
        if (p->known && from >= start && len <= p->len && from - start <= p->len - len) {
            return (int)i;
        }
    }
    return -1;
}

int disk_known_lend(struct disk_known *k, void *at, size_t len)
{
    CHECK(at != NULL && len > 0 && (((uintptr_t)at | len) & (DISK_UNIT - 1)) == 0);
    int rc = 0;
    size_t done = 0;
    for (unsigned i = 0; i < DISK_KNOWN_PIECES && done < len && rc == 0; i++) {
        if (k->piece[i].at != NULL) {
            continue;
        }
        size_t part = (size_t)base_min(len - done, DISK_KNOWN_PIECE_MAX);
        k->piece[i] =
            (struct disk_known_piece){.at = (uint8_t *)at + done, .len = part, .lent = at};
        k->piece_end = (unsigned)base_max(k->piece_end, i + 1);
        done += part;
        rc = known_tell_piece(k, i);
    }
    rc = rc == 0 && done < len ? -ENOSPC : rc;
    if (rc < 0) {
        disk_known_unlend(k, at);
    }
    return rc;
}

void disk_known_unlend(struct disk_known *k, const void *at)
{
    for (unsigned i = 0; i < k->piece_end; i++) {
        if (k->piece[i].at != NULL && k->piece[i].lent == at) {
            known_drop_piece(k, i);
        }
    }
}

/* ---- Rings come and go ---- */

void disk_known_open(struct disk_known *k, struct io_uring *uring)
{
    bool refused = FAULT(k->fault, "disk.uring_register");
    k->uring = uring;
    k->has_files = !refused && io_uring_register_files_sparse(uring, DISK_KNOWN_FILES) == 0;
    k->has_pieces = !refused && io_uring_register_buffers_sparse(uring, DISK_KNOWN_PIECES) == 0;
    for (unsigned i = 0; i < k->piece_end; i++) {
        if (k->piece[i].at != NULL) {
            (void)known_tell_piece(k, i); /* if not, then it goes without */
        }
    }
}

/* A ring ends some time after it was closed; what it knows is let go of at once, if this is its
 * thread. */
void disk_known_close(struct disk_known *k)
{
    bool any = false;
    for (unsigned i = 0; i < DISK_KNOWN_FILES; i++) {
        if (k->file[i] != NULL) {
            k->file[i]->known = 0;
            k->file[i] = NULL;
            any = true;
        }
    }
    for (unsigned i = 0; i < k->piece_end; i++) {
        any = any || k->piece[i].known;
        k->piece[i].known = false;
    }
    if (any) {
        (void)io_uring_unregister_files(k->uring);
        (void)io_uring_unregister_buffers(k->uring);
    }
    k->uring = NULL;
    k->has_files = k->has_pieces = false;
}
