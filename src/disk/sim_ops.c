/*
 * disk/sim_ops.c -- one request on a simulated machine, carried out at once. Called outside of the
 * process's memory domain; what the caller gets for itself is made inside.
 */
#include "disk/sim_cache_priv.h"

#include "base/mem.h"

#include <string.h>

#define SEND_PIECE 16384u

static struct sim_file *sim_file_of(struct disk_file *f)
{
    return container_of(f, struct sim_file, base);
}

static int64_t sim_open_node(struct sim_view *v, struct disk_req *req, struct sim_file *f)
{
    struct sim_place at;
    int rc = disk_sim_walk(v->machine, req->path, NULL, &at);
    if (rc < 0) {
        return rc;
    }
    if (at.node != NULL && (~req->flags & (DISK_CREATE | DISK_EXCLUSIVE)) == 0) {
        return -EEXIST;
    }
    if (at.node != NULL && at.node->directory) {
        return -EISDIR;
    }
    if (at.node == NULL && (req->flags & DISK_CREATE) == 0) {
        return -ENOENT;
    }
    if (at.node == NULL) {
        rc = disk_sim_create(v->machine, &at, false, &at.node);
        if (rc < 0) {
            return rc;
        }
    }
    f->inode = disk_sim_node_ref(at.node);
    f->inode->opens++;
    disk_sim_opened(f);
    return 0;
}

static int64_t sim_open(struct sim_view *v, struct disk_req *req)
{
    size_t size = strlen(req->path) + 1;
    struct sim_file *f = mem_zalloc(sizeof *f + size);
    if (f == NULL) {
        return -ENOMEM;
    }
    memcpy(f->path, req->path, size);
    f->base.fd = -1;
    f->base.flags = req->flags;
    int64_t rc = sim_open_node(v, req, f);
    if (rc < 0) {
        mem_free(f);
        return rc;
    }
    list_push_back(&v->files, &f->node);
    req->file = &f->base;
    return 0;
}

void disk_sim_file_close(struct sim_file *f)
{
    struct sim_node *n = f->inode;
    if (n->locked_by == &f->base) {
        n->locked_by = NULL;
    }
    list_remove(&f->node);
    mem_free(f);
    disk_sim_node_closed(n);
}

static int64_t sim_close(struct disk_req *req)
{
    disk_sim_file_close(sim_file_of(req->file));
    req->file = NULL;
    return 0;
}

static int64_t sim_read(const struct disk_req *req)
{
    struct sim_node *n = sim_file_of(req->file)->inode;
    struct disk_cursor c;
    struct iovec piece;
    uint64_t sum = 0;
    bool past = (req->flags & DISK_PAST_CACHE) != 0;
    if (past && n->machine->no_direct) {
        return -EOPNOTSUPP;
    }
    disk_cursor_init(&c, req);
    while (disk_cursor_window(&c, &piece, 1) > 0) {
        size_t got = past
                         ? disk_sim_read_medium(n, req->offset + sum, piece.iov_base, piece.iov_len)
                         : disk_sim_read(n, req->offset + sum, piece.iov_base, piece.iov_len);
        sum += got;
        disk_cursor_advance(&c, got);
        if (got < piece.iov_len) {
            break;
        }
    }
    if (!disk_request_direct(req)) {
        disk_sim_cache_add(n, req->offset, sum);
    }
    return (int64_t)sum;
}

static int64_t sim_fetch(const struct disk_req *req)
{
    struct sim_node *n = sim_file_of(req->file)->inode;
    uint64_t size = n->file.live_size;
    uint64_t len = req->offset >= size ? 0 : base_min(req->len, size - req->offset);
    disk_sim_cache_add(n, req->offset, len);
    return (int64_t)len;
}

static int64_t sim_sync(const struct disk_req *req, uint64_t mark)
{
    struct sim_node *n = sim_file_of(req->file)->inode;
    int rc = disk_sim_sync(n, mark);
    if (rc == 0 && req->op == DISK_SYNC_ALL) {
        disk_sim_sync_create(n->machine, n, mark);
    }
    return disk_sim_hear(sim_file_of(req->file)) ? -EIO : rc;
}

static int64_t sim_write(const struct disk_req *req)
{
    struct sim_node *n = sim_file_of(req->file)->inode;
    int64_t put = disk_sim_write(n, req, UINT64_MAX);
    if (put > 0 && !disk_request_direct(req)) {
        disk_sim_cache_add(n, req->offset, (uint64_t)put);
    }
    bool stable = put >= 0 && (req->flags & DISK_STABLE) != 0;
    int rc = stable ? disk_sim_sync(n, UINT64_MAX) : 0;
    rc = stable && disk_sim_hear(sim_file_of(req->file)) ? -EIO : rc;
    return rc < 0 ? rc : put;
}

/* The directory, or why there is none. */
static int64_t sim_directory(struct disk_sim *m, const char *path, struct sim_node **ret)
{
    struct sim_place at;
    int rc = disk_sim_walk(m, path, NULL, &at);
    if (rc < 0) {
        return rc;
    }
    if (at.node == NULL) {
        return -ENOENT;
    }
    if (!at.node->directory) {
        return -ENOTDIR;
    }
    *ret = at.node;
    return 0;
}

static int64_t sim_sync_dir(struct disk_sim *m, const struct disk_req *req, uint64_t mark)
{
    struct sim_node *dir = NULL;
    int64_t rc = sim_directory(m, req->path, &dir);
    if (rc == 0) {
        disk_sim_sync_dir(m, dir, mark);
    }
    return rc;
}

static int64_t sim_stat(struct disk_sim *m, struct disk_req *req)
{
    struct sim_place at = {.node = NULL};
    if (req->file != NULL) {
        at.node = sim_file_of(req->file)->inode;
    } else {
        int rc = disk_sim_walk(m, req->path, NULL, &at);
        if (rc < 0) {
            return rc;
        }
    }
    if (at.node == NULL) {
        return -ENOENT;
    }
    req->stat = (struct disk_stat){
        .size_bytes = at.node->file.live_size,
        .allocated_bytes = at.node->file.live_pages * SIM_PAGE,
        .mtime_ns = at.node->mtime_ns,
        .directory = at.node->directory,
    };
    return 0;
}

static int64_t sim_statfs(struct disk_sim *m, struct disk_req *req)
{
    struct sim_place at;
    int rc = disk_sim_walk(m, req->path, NULL, &at);
    if (rc < 0) {
        return rc;
    }
    if (at.node == NULL) {
        return -ENOENT;
    }
    uint64_t total = disk_sim_capacity_bytes(m);
    req->stat = (struct disk_stat){
        .total_bytes = total,
        .free_bytes = total - base_min(total, m->used_bytes),
    };
    return 0;
}

static int64_t sim_mkdir(struct disk_sim *m, const struct disk_req *req)
{
    struct sim_place at;
    int rc = disk_sim_walk(m, req->path, NULL, &at);
    if (rc < 0) {
        return rc;
    }
    return at.node != NULL ? -EEXIST : disk_sim_create(m, &at, true, &at.node);
}

static int64_t sim_list(struct sim_view *v, struct disk_req *req)
{
    struct sim_node *dir = NULL;
    int64_t rc = sim_directory(v->machine, req->path, &dir);
    if (rc < 0) {
        return rc;
    }
    CLEANUP(mem_freep) char *text = NULL;
    size_t len = 0;
    int64_t count = disk_sim_list(dir, &text, &len);
    if (count < 0) {
        return count;
    }
    mem_domain_enter(v->caller);
    rc = disk_names_make(text, len, (size_t)count, &req->names);
    mem_domain_enter(NULL);
    return rc < 0 ? rc : count;
}

static int64_t sim_lock(const struct disk_req *req)
{
    struct sim_node *n = sim_file_of(req->file)->inode;
    if (n->locked_by != NULL && n->locked_by != req->file) {
        return -ERR_in_use;
    }
    n->locked_by = req->file;
    return 0;
}

/* The sink is the process's: it is called as its other code is. */
static int64_t sim_send(struct sim_view *v, const struct disk_req *req)
{
    struct sim_node *n = sim_file_of(req->file)->inode;
    uint8_t piece[SEND_PIECE];
    uint64_t sum = 0;
    while (sum < req->len) {
        size_t want = (size_t)base_min(sizeof piece, req->len - sum);
        size_t got = disk_sim_read(n, req->offset + sum, piece, want);
        if (got == 0) {
            break;
        }
        mem_domain_enter(v->caller);
        int64_t put = req->sink->write(req->sink, piece, got);
        mem_domain_enter(NULL);
        if (put < 0 && sum == 0) {
            return put;
        }
        sum += put < 0 ? 0 : (uint64_t)put;
        if (put < (int64_t)got) {
            break;
        }
    }
    disk_sim_cache_add(n, req->offset, sum);
    return (int64_t)sum;
}

static int64_t sim_execute(struct sim_view *v, struct disk_req *req, uint64_t mark)
{
    struct disk_sim *m = v->machine;
    switch (req->op) {
    case DISK_OPEN:
        return sim_open(v, req);
    case DISK_CLOSE:
        return sim_close(req);
    case DISK_READ:
        return sim_read(req);
    case DISK_WRITE:
        return sim_write(req);
    case DISK_SYNC:
    case DISK_SYNC_ALL:
        return sim_sync(req, mark);
    case DISK_SYNC_DIR:
        return sim_sync_dir(m, req, mark);
    case DISK_DROP: /* a part, perhaps: of large folios that only begin or end there */
        if (req->len == 0 || rand_chance(&m->rand, 1, 2)) {
            disk_sim_drop(sim_file_of(req->file)->inode);
        }
        return 0;
    case DISK_ALLOCATE:
    case DISK_PUNCH:
    case DISK_TRUNCATE:
        return disk_sim_reshape(sim_file_of(req->file)->inode, req);
    case DISK_STAT:
        return sim_stat(m, req);
    case DISK_STATFS:
        return sim_statfs(m, req);
    case DISK_RENAME:
        return disk_sim_rename(m, req->path, req->path_to);
    case DISK_LINK:
        return disk_sim_link(m, req->path, req->path_to);
    case DISK_REMOVE:
        return disk_sim_remove(m, req->path);
    case DISK_MKDIR:
        return sim_mkdir(m, req);
    case DISK_LIST:
        return sim_list(v, req);
    case DISK_LOCK:
        return sim_lock(req);
    case DISK_SEND:
        return sim_send(v, req);
    case DISK_FETCH:
        return sim_fetch(req);
    }
    return -EINVAL;
}

int64_t disk_sim_execute(struct sim_view *v, struct disk_req *req, uint64_t mark)
{
    int64_t rc = sim_execute(v, req, mark);
    disk_sim_reap(v->machine);
    disk_sim_write_back(v->machine);
    return rc;
}

static void sim_write_prefix(struct sim_view *v, const struct disk_req *req)
{
    uint64_t len = disk_request_bytes(req);
    uint64_t part = len == 0 ? 0 : rand_below(&v->machine->rand, len);
    if (disk_sim_write(sim_file_of(req->file)->inode, req, part) < 0) {
        return; /* nothing of it happened, which is allowed too */
    }
}

/* The others that have it open will hear of it, too. */
void disk_sim_fail_sync(struct sim_file *f, uint64_t mark)
{
    disk_sim_strand(f->inode, mark);
    disk_sim_failed(f->inode);
    (void)disk_sim_hear(f);
}

/* Part of it was written; or all, and its sync failed. */
static void sim_write_failing(struct sim_view *v, const struct disk_req *req)
{
    struct sim_file *f = sim_file_of(req->file);
    if ((req->flags & DISK_STABLE) == 0 || rand_chance(&v->machine->rand, 1, 2)) {
        sim_write_prefix(v, req);
    } else if (disk_sim_write(f->inode, req, UINT64_MAX) >= 0) {
        disk_sim_fail_sync(f, UINT64_MAX);
    }
}

/* What lies behind its end in the caller's memory is nothing that was in the file. */
static int64_t sim_read_short(struct sim_view *v, struct disk_req *req, uint64_t mark, int most)
{
    struct disk_cursor c;
    struct iovec piece;
    int64_t rc = disk_sim_execute(v, req, mark);
    if (rc <= most) {
        return rc;
    }
    disk_cursor_init(&c, req);
    disk_cursor_advance(&c, (size_t)most);
    while (disk_cursor_window(&c, &piece, 1) > 0) {
        memset(piece.iov_base, 0xdb, piece.iov_len);
        disk_cursor_advance(&c, piece.iov_len);
    }
    return most;
}

int64_t disk_sim_execute_failing(struct sim_view *v, struct disk_req *req, uint64_t mark, int rc)
{
    bool trace = rand_chance(&v->machine->rand, 1, 2);
    if (rc > 0) {
        return sim_read_short(v, req, mark, rc);
    }
    if (req->op == DISK_CLOSE) {
        disk_sim_execute(v, req, mark); /* the descriptor is gone in any case */
    } else if (req->op == DISK_WRITE && trace) {
        sim_write_failing(v, req);
    } else if ((req->op == DISK_SYNC || req->op == DISK_SYNC_ALL) && trace) {
        disk_sim_fail_sync(sim_file_of(req->file), mark);
    }
    return rc;
}

static bool op_modifies(enum disk_op op)
{
    return op != DISK_CLOSE && op != DISK_READ && op != DISK_STAT && op != DISK_STATFS &&
           op != DISK_LIST && op != DISK_LOCK && op != DISK_SEND && op != DISK_FETCH &&
           op != DISK_DROP;
}

void disk_sim_execute_orphan(struct sim_view *v, const struct disk_req *req, uint64_t mark)
{
    uint64_t outcome = rand_below(&v->machine->rand, 3);
    if (!op_modifies(req->op) || outcome == 0) {
        return;
    }
    if (req->op == DISK_WRITE && outcome == 1) {
        sim_write_prefix(v, req);
        return;
    }
    struct disk_req copy = *req;            /* the process's own is not written to any more */
    (void)disk_sim_execute(v, &copy, mark); /* a file that it opens is closed with the others */
}
