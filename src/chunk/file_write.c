/*
 * chunk/file_write.c -- the `file` engine: space for updates, and where their bytes go: behind all
 * that the chunk's file has.
 */
#include "chunk/file_priv.h"

#define SOON_BYTES (512u << 10) /* large updates go to the medium while more of them come */

/* ---- Space ---- */

static uint64_t space_floor(const struct chunk_store *s)
{
    return base_min(s->total_bytes / 1024, UINT64_C(256) << 20);
}

static uint64_t space_free(const struct chunk_store *s)
{
    uint64_t used = s->reserved_bytes + space_floor(s);
    return s->free_bytes < used ? 0 : s->free_bytes - used;
}

static void reserve_allocated(struct chunk_work *w, int64_t rc)
{
    w->plan->reserved_count = rc < 0 ? 0 : w->plan->new_blocks;
    w->next(w, rc < 0 ? (int)rc : 0);
}

void chunk_file_reserve(struct chunk_work *w, chunk_next *next)
{
    struct chunk_store *s = w->s;
    struct chunk_entry *e = w->e;
    struct chunk_plan *p = w->plan;
    uint64_t bytes =
        (uint64_t)p->new_blocks * CHUNK_BLOCK + (e->newest_slot == CHUNK_NO_SLOT ? CHUNK_BLOCK : 0);
    if (bytes > space_free(s)) {
        next(w, -ENOSPC);
        return;
    }
    s->reserved_bytes += bytes;
    p->reserved_bytes = bytes;
    bool tight = s->free_bytes < s->low_bytes * 2;
    if (!tight || e->next_block > CHUNK_BLOCK_LIMIT - p->new_blocks) {
        next(w, 0);
        return;
    }
    /* Others fill the file system too: what must not fail later is taken now. */
    uint32_t first = e->next_block == 0 ? 1 : e->next_block;
    uint32_t from = e->newest_slot == CHUNK_NO_SLOT ? 0 : first;
    p->reserved_block = first;
    e->next_block = first + p->new_blocks;
    w->io = (struct disk_req){.op = DISK_ALLOCATE,
                              .flags = DISK_KEEP_SIZE,
                              .file = e->file->file,
                              .offset = (uint64_t)from * CHUNK_BLOCK,
                              .len = (uint64_t)(e->next_block - from) * CHUNK_BLOCK};
    w->next = next;
    chunk_work_io(w, &w->io, reserve_allocated);
}

void chunk_file_unreserve(struct chunk_work *w)
{
    struct chunk_plan *p = w->plan;
    w->s->reserved_bytes -= p->reserved_bytes;
    p->reserved_bytes = 0;
    if (p->reserved_count > 0 && w->e->life == w->life && w->e->file != NULL) {
        chunk_rest_add(w->s, w->e, p->reserved_block, p->reserved_count, 0);
    }
}

/* ---- Writing ---- */

/* Its record may be in the file all the same: the space is free only when a later one is stable. */
void chunk_file_waste(struct chunk_work *w, int rc)
{
    (void)rc;
    const struct chunk_plan *p = w->plan;
    uint32_t blocks = p->table_blocks + p->cell_blocks;
    if (blocks > 0) {
        chunk_rest_add(w->s, w->e, p->first_block, blocks, w->captured);
    }
}

static void write_done(struct chunk_work *w, int64_t got)
{
    const struct chunk_plan *p = w->plan;
    if (got < 0) {
        chunk_file_waste(w, (int)got);
        w->next(w, (int)got);
        return;
    }
    uint64_t bytes = (uint64_t)(p->table_blocks + p->cell_blocks) * CHUNK_BLOCK;
    w->s->free_bytes -= base_min(bytes, w->s->free_bytes);
    w->next(w, 0);
}

static void write_begin(struct chunk_work *w)
{
    const struct chunk_plan *p = w->plan;
    struct disk_file *file = w->e->file->file;
    uint32_t blocks = p->table_blocks + p->cell_blocks;
    if (blocks == 0 && !p->tail_append) {
        write_done(w, 0);
        return;
    }
    uint32_t soon = (uint64_t)blocks * CHUNK_BLOCK >= SOON_BYTES ? DISK_SOON : 0;
    /* Both are begun before either can be done: nothing completes inside submit. */
    if (p->tail_append) {
        w->e->tail_block = 0; /* a write that fails may have left anything there */
        w->tail_io = (struct disk_req){.op = DISK_WRITE,
                                       .file = file,
                                       .offset = p->tail_block * CHUNK_BLOCK + p->tail_offset,
                                       .iov = p->tail,
                                       .iov_count = p->tail_count};
        chunk_work_io(w, &w->tail_io, write_done);
    }
    if (blocks > 0) {
        w->io = (struct disk_req){.op = DISK_WRITE,
                                  .flags = DISK_APPENDING | soon,
                                  .file = file,
                                  .offset = (uint64_t)p->first_block * CHUNK_BLOCK,
                                  .iov = p->iov,
                                  .iov_count = p->iov_count};
        chunk_work_io(w, &w->io, write_done);
    }
}

static int write_place(struct chunk_work *w)
{
    struct chunk_entry *e = w->e;
    struct chunk_plan *p = w->plan;
    uint32_t first = e->next_block == 0 ? 1 : e->next_block;
    if (p->reserved_count > 0) {
        first = p->reserved_block;
    }
    if (first > CHUNK_BLOCK_LIMIT - p->new_blocks) {
        return -ENOSPC; /* 8 TiB of updates: a copy from a peer begins a new file */
    }
    int rc = chunk_plan_place(p, w->version, first);
    uint32_t end = first + p->table_blocks + p->cell_blocks;
    if (rc == 0 && p->reserved_count > 0) {
        CHECK(end <= p->reserved_block + p->reserved_count);
        p->reserved_count -= end - p->reserved_block;
        p->reserved_block = end;
    } else if (rc == 0) {
        e->next_block = end;
    }
    return rc;
}

void chunk_file_write(struct chunk_work *w, chunk_next *next)
{
    int rc = write_place(w);
    if (rc < 0) {
        next(w, rc);
        return;
    }
    w->next = next;
    write_begin(w);
}

/* ---- The file of a chunk goes ---- */

static void remove_begin(struct chunk_work *w, chunk_next *next,
                         void (*step)(struct chunk_work *w, int64_t rc))
{
    w->path = chunk_path(w->s, w->e->item.key);
    if (w->path == NULL) {
        next(w, -ENOMEM);
        return;
    }
    w->next = next;
    w->io = (struct disk_req){.op = DISK_REMOVE, .path = w->path};
    chunk_work_io(w, &w->io, step);
}

static void unmake_done(struct chunk_work *w, int64_t rc)
{
    mem_freep(&w->path);
    w->next(w, rc < 0 ? (int)rc : 0);
}

void chunk_file_unmake(struct chunk_work *w, chunk_next *next)
{
    if (w->e->file == NULL) {
        next(w, 0);
        return;
    }
    chunk_entry_gone(w->s, w->e);
    remove_begin(w, next, unmake_done);
}

static void remove_done(struct chunk_work *w, int64_t got)
{
    struct chunk_store *s = w->s;
    mem_freep(&w->path);
    int rc = got == -ENOENT ? 0 : (int)got;
    if (rc == 0) {
        uint32_t dir = chunk_directory(s, w->e->item.key);
        s->dirty_dirs[dir / 64] |= UINT64_C(1) << (dir % 64);
        s->dirs_dirty = true;
        chunk_entry_gone(s, w->e);
    }
    w->next(w, rc);
}

void chunk_file_remove(struct chunk_work *w, chunk_next *next)
{
    remove_begin(w, next, remove_done);
}
