/*
 * disk/ring.c -- see ring_priv.h.
 *
 * Submissions gather in `waiting` and go to the kernel in one call per round of the loop. The ring
 * defers its work to the loop's thread (IORING_SETUP_DEFER_TASKRUN): nothing interrupts the loop,
 * a flag in shared memory says that there is something, and one call fetches all of it. The eventfd
 * that ends the loop's sleep is told only while the loop sleeps.
 *
 * Invariants: `under_way` never exceeds the room for completions, so the kernel has none to put
 * aside; the two halves of a write that is to be stable are taken by the kernel together, or the
 * second is made void: alone it would not wait for the first.
 */
#include "disk/ring_priv.h"

#include "base/fault.h"
#include "base/mem.h"
#include "disk/known_priv.h"
#include "loop/source.h"

#include <liburing.h>
#include <stdatomic.h>

#define RING_SUBMISSIONS 128u
#define RING_COMPLETIONS 1024u
#define RING_BATCH 32u             /* so many waiting requests do not wait for the round's end */
#define RING_TRIES 8u              /* calls of one flush */
#define RING_RETRY_NS 1000000u     /* when the kernel takes nothing */
#define RING_COPY_MAX (128u << 10) /* through the page cache: copied on the loop, perhaps */
#define RING_DIRECT_MAX (1u << 20) /* its pages are looked up on the loop */
#define RING_PIECES_MAX 1024u      /* the kernel's limit */
#define RING_SYNC UINT64_C(1)      /* in the data of an entry: the second half of a write */

struct disk_ring {
    struct io_uring uring;
    struct disk_known known;
    struct disk_ring_options opt;
    struct loop_source source;
    struct loop_timer retry;
    struct list waiting;
    unsigned waiting_count;
    unsigned under_way; /* entries given, whose completions are to come */
    int64_t thread;     /* loop_source_thread() of the one that it is bound to */
    bool open;
    bool resting; /* the eventfd is told */
};

/* ---- To the kernel ---- */

static uint64_t ring_left(const struct disk_ring_job *job)
{
    return disk_request_bytes(job->req) - job->so_far;
}

/* Only of one piece of memory. */
static unsigned ring_length(struct disk_ring *r, const struct disk_ring_job *job)
{
    uint64_t len = ring_left(job);
    if (FAULT(r->opt.fault, "disk.uring_short") && len >= UINT64_C(2) * DISK_UNIT) {
        len = len / 2 / DISK_UNIT * DISK_UNIT;
    }
    return (unsigned)len;
}

/* Of one piece of memory. Its pages are looked up for direct transfers only. */
static void ring_prepare_piece(struct disk_ring *r, struct io_uring_sqe *sqe, int fd,
                               struct disk_ring_job *job)
{
    const struct disk_req *req = job->req;
    uint64_t at = req->offset + job->so_far;
    void *buf = (uint8_t *)req->buf + job->so_far;
    unsigned len = ring_length(r, job);
    bool direct = (req->file->flags & DISK_DIRECT) != 0 || (req->flags & DISK_PAST_CACHE) != 0;
    bool read = req->op == DISK_READ;
    int piece = direct ? disk_known_piece(&r->known, buf, len) : -1;
    job->known_memory = piece >= 0;
    if (piece >= 0 && read) {
        io_uring_prep_read_fixed(sqe, fd, buf, len, at, piece);
    } else if (piece >= 0) {
        io_uring_prep_write_fixed(sqe, fd, buf, len, at, piece);
    } else if (read) {
        io_uring_prep_read(sqe, fd, buf, len, at);
    } else {
        io_uring_prep_write(sqe, fd, buf, len, at);
    }
}

static void ring_prepare_transfer(struct disk_ring *r, struct io_uring_sqe *sqe, int fd,
                                  struct disk_ring_job *job)
{
    const struct disk_req *req = job->req;
    uint64_t at = req->offset;
    if (req->iov == NULL) {
        ring_prepare_piece(r, sqe, fd, job);
        return;
    }
    CHECK(job->so_far == 0);
    bool read = req->op == DISK_READ;
    if (read) {
        io_uring_prep_readv(sqe, fd, req->iov, req->iov_count, at);
    } else {
        io_uring_prep_writev(sqe, fd, req->iov, req->iov_count, at);
    }
}

static bool ring_has_second(const struct disk_req *req)
{
    return req->op == DISK_WRITE && (req->flags & DISK_STABLE) != 0;
}

/* What an entry names the file by: the descriptor, or its number among those that are known. */
static int ring_file(struct disk_ring *r, struct disk_ring_job *job, unsigned *ret_flags)
{
    if ((job->req->flags & DISK_PAST_CACHE) != 0) {
        job->known_file = false;
        return atomic_load(&job->req->file->past_fd);
    }
    int known = disk_known_file(&r->known, job->req->file);
    job->known_file = known >= 0;
    *ret_flags = known >= 0 ? IOSQE_FIXED_FILE : 0;
    return known >= 0 ? known : job->req->file->fd;
}

/* There is room for two. */
static void ring_prepare(struct disk_ring *r, struct disk_ring_job *job)
{
    const struct disk_req *req = job->req;
    unsigned flags = 0;
    int fd = ring_file(r, job, &flags);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);
    CHECK(sqe != NULL);
    if (req->op == DISK_READ || req->op == DISK_WRITE) {
        ring_prepare_transfer(r, sqe, fd, job);
    } else {
        io_uring_prep_fsync(sqe, fd, req->op == DISK_SYNC ? IORING_FSYNC_DATASYNC : 0);
    }
    io_uring_sqe_set_data64(sqe, (uintptr_t)job);
    io_uring_sqe_set_flags(sqe, flags);
    job->left = 1;
    if (ring_has_second(req)) {
        io_uring_sqe_set_flags(sqe, flags | IOSQE_IO_LINK);
        sqe = io_uring_get_sqe(&r->uring);
        CHECK(sqe != NULL);
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        io_uring_sqe_set_data64(sqe, (uintptr_t)job | RING_SYNC);
        io_uring_sqe_set_flags(sqe, flags);
        job->left = 2;
    }
    r->under_way += job->left;
}

static void ring_fill(struct disk_ring *r)
{
    while (!list_empty(&r->waiting) && io_uring_sq_space_left(&r->uring) >= 2 &&
           r->under_way + 2 <= RING_COMPLETIONS) {
        struct list *node = list_pop_front(&r->waiting);
        r->waiting_count--;
        ring_prepare(r, LIST_ENTRY(node, struct disk_ring_job, node));
    }
}

static struct disk_ring_job *ring_job(uint64_t data)
{
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): the kernel carries integers. */
    return (struct disk_ring_job *)(uintptr_t)(data & ~RING_SYNC);
}

/* The kernel stopped between the two halves of a write: the second one becomes nothing, and a
 * thread syncs when the first is done. */
static void ring_sever(struct disk_ring *r)
{
    unsigned head = io_uring_smp_load_acquire(r->uring.sq.khead);
    struct io_uring_sqe *sqe = &r->uring.sq.sqes[head & r->uring.sq.ring_mask];
    uint64_t data = sqe->user_data;
    if (io_uring_sq_ready(&r->uring) > 0 && (data & RING_SYNC) != 0) {
        ring_job(data)->severed = true;
        io_uring_prep_nop(sqe);
        io_uring_sqe_set_data64(sqe, data);
    }
}

static int ring_enter_part(struct disk_ring *r)
{
    unsigned tail = r->uring.sq.sqe_tail;
    r->uring.sq.sqe_tail = tail - io_uring_sq_ready(&r->uring) + 1;
    int rc = io_uring_submit_and_get_events(&r->uring);
    r->uring.sq.sqe_tail = tail;
    return rc;
}

/* Gives what is prepared, and fetches what was deferred. */
static int ring_enter(struct disk_ring *r)
{
    if (FAULT(r->opt.fault, "disk.uring_again")) {
        return -EAGAIN;
    }
    if (FAULT(r->opt.fault, "disk.uring_part") && io_uring_sq_ready(&r->uring) > 1) {
        return ring_enter_part(r);
    }
    return io_uring_submit_and_get_events(&r->uring);
}

static bool ring_deferred(const struct disk_ring *r)
{
    unsigned flags = __atomic_load_n(r->uring.sq.kflags, __ATOMIC_ACQUIRE);
    return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

/* Nothing that is refused here is lost: entries stay in the queue until the kernel takes them. */
static void ring_pass_on(struct disk_ring *r, bool fetch)
{
    for (unsigned i = 0; i < RING_TRIES; i++) {
        ring_fill(r);
        if (io_uring_sq_ready(&r->uring) == 0 && !fetch && !ring_deferred(r)) {
            return;
        }
        int rc = ring_enter(r);
        if (rc == -EINTR) {
            continue;
        }
        CHECK(rc >= 0 || rc == -EAGAIN || rc == -EBUSY || rc == -ENOMEM);
        fetch = false;
        ring_sever(r);
        if (rc < 0) {
            break;
        }
    }
    if (io_uring_sq_ready(&r->uring) > 0) {
        loop_timer_in(r->opt.loop, &r->retry, RING_RETRY_NS);
    }
}

static struct disk_ring *ring_of(struct loop_source *s)
{
    return container_of(s, struct disk_ring, source);
}

static void ring_flush(struct loop_source *s)
{
    ring_pass_on(ring_of(s), false);
}

/* The round that follows flushes. */
static void ring_retry(struct loop_timer *t)
{
    (void)t;
}

static bool ring_ready(struct loop_source *s)
{
    const struct disk_ring *r = ring_of(s);
    return io_uring_cq_ready(&r->uring) > 0 || ring_deferred(r);
}

/* The call that follows sees what came before the eventfd was told; what comes later tells it. The
 * flag alone might be seen too late on some processors. */
static bool ring_rest(struct loop_source *s)
{
    struct disk_ring *r = ring_of(s);
    if (r->under_way == 0 && r->waiting_count == 0) {
        return false;
    }
    r->resting = true;
    int rc = io_uring_cq_eventfd_toggle(&r->uring, true);
    CHECK(rc == 0);
    atomic_thread_fence(memory_order_seq_cst);
    ring_pass_on(r, true);
    return ring_ready(s);
}

/* ---- From the kernel ---- */

/* It was not begun, or it has to be begun anew. */
static bool ring_undone(int32_t rc)
{
    return rc == -EAGAIN || rc == -EINTR || rc == -ECANCELED;
}

static void ring_finish(struct disk_ring_job *job, int64_t result, struct list *finished)
{
    job->result = result;
    list_push_back(finished, &job->node);
}

static void ring_hand_back(struct disk_ring_job *job, struct list *finished)
{
    job->again = true;
    list_push_back(finished, &job->node);
}

static void ring_judge_write(struct disk_ring_job *job, struct list *finished)
{
    bool second = ring_has_second(job->req);
    bool unsynced = second && (job->severed || ring_undone(job->synced));
    if (job->moved == 0) {
        ring_finish(job, -EIO, finished);
    } else if (ring_left(job) > 0 || unsynced) {
        ring_hand_back(job, finished); /* perhaps there is nothing to do but the sync */
    } else if (second && job->synced < 0) {
        ring_finish(job, job->synced, finished);
    } else {
        ring_finish(job, (int64_t)job->so_far, finished);
    }
}

static void ring_judge_read(struct disk_ring *r, struct disk_ring_job *job, struct list *finished)
{
    const struct disk_req *req = job->req;
    /* A direct read that ends inside a unit has met the end; the next offset is not aligned. */
    bool end = disk_request_direct(req) && job->so_far % DISK_UNIT != 0;
    if (job->moved == 0 || end || ring_left(job) == 0) {
        ring_finish(job, (int64_t)job->so_far, finished);
    } else if (req->iov == NULL) {
        list_push_back(&r->waiting, &job->node);
        r->waiting_count++;
    } else {
        ring_hand_back(job, finished);
    }
}

static void ring_judge(struct disk_ring *r, struct disk_ring_job *job, struct list *finished)
{
    enum disk_op op = job->req->op;
    if (ring_undone(job->moved)) {
        ring_hand_back(job, finished);
    } else if (job->moved < 0) {
        ring_finish(job, job->moved, finished);
    } else if (op == DISK_READ) {
        job->so_far += (uint64_t)job->moved;
        ring_judge_read(r, job, finished);
    } else if (op == DISK_WRITE) {
        job->so_far += (uint64_t)job->moved;
        ring_judge_write(job, finished);
    } else {
        ring_finish(job, 0, finished);
    }
}

static void ring_take(struct disk_ring *r, const struct io_uring_cqe *cqe, struct list *finished)
{
    struct disk_ring_job *job = ring_job(cqe->user_data);
    if ((cqe->user_data & RING_SYNC) != 0) {
        job->synced = cqe->res;
    } else {
        job->moved = cqe->res;
    }
    CHECK(r->under_way > 0 && job->left > 0);
    r->under_way--;
    if (--job->left == 0) {
        ring_judge(r, job, finished);
    }
}

static void ring_run(struct loop_source *s)
{
    struct disk_ring *r = ring_of(s);
    struct list finished;
    list_init(&finished);
    if (r->resting) {
        r->resting = false;
        int rc = io_uring_cq_eventfd_toggle(&r->uring, false);
        CHECK(rc == 0);
    }
    if (ring_deferred(r)) {
        ring_pass_on(r, true);
    }
    const struct io_uring_cqe *cqe;
    unsigned head, count = 0;
    io_uring_for_each_cqe(&r->uring, head, cqe)
    {
        ring_take(r, cqe, &finished);
        count++;
    }
    io_uring_cq_advance(&r->uring, count);
    if (!list_empty(&finished)) {
        r->opt.user->finished(r->opt.user, &finished);
    }
}

/* ---- Requests ---- */

static bool ring_takes_transfer(const struct disk_req *req)
{
    bool direct = disk_request_direct(req);
    bool past = (req->flags & DISK_PAST_CACHE) != 0;
    uint64_t bytes = disk_request_bytes(req);
    if (past && atomic_load(&req->file->past_fd) < 0) {
        return false; /* a thread opens the file once more, or says that it cannot */
    }
    /* To begin storing soon is a call of its own that waits: not worth it here. */
    bool soon = req->op == DISK_WRITE && (req->flags & DISK_SOON) != 0 && !direct;
    return bytes > 0 && bytes <= (direct ? RING_DIRECT_MAX : RING_COPY_MAX) && !soon &&
           (req->iov == NULL || req->iov_count <= RING_PIECES_MAX);
}

bool disk_ring_takes(const struct disk_req *req)
{
    switch (req->op) {
    case DISK_READ:
    case DISK_WRITE:
        return ring_takes_transfer(req);
    case DISK_SYNC:
    case DISK_SYNC_ALL:
        return true;
    case DISK_OPEN:
    case DISK_CLOSE:
    case DISK_SYNC_DIR:
    case DISK_DROP:
    case DISK_ALLOCATE:
    case DISK_PUNCH:
    case DISK_TRUNCATE:
    case DISK_STAT:
    case DISK_STATFS:
    case DISK_RENAME:
    case DISK_LINK:
    case DISK_REMOVE:
    case DISK_MKDIR:
    case DISK_LIST:
    case DISK_LOCK:
    case DISK_SEND:
    case DISK_FETCH:
        return false;
    }
    return false;
}

void disk_ring_submit(struct disk_ring *r, struct disk_ring_job *job)
{
    CHECK(r->open && r->thread == loop_source_thread(r->opt.loop));
    job->again = job->severed = false;
    job->so_far = 0;
    job->moved = job->synced = 0;
    list_push_back(&r->waiting, &job->node);
    if (++r->waiting_count >= RING_BATCH) {
        ring_pass_on(r, false);
    }
}

/* ---- Life ---- */

/* What a filter of system calls forbids shows at the first use of each. */
static int ring_try(struct disk_ring *r)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);
    CHECK(sqe != NULL);
    io_uring_prep_nop(sqe);
    int rc = io_uring_submit_and_wait(&r->uring, 1);
    if (rc < 0) {
        return rc;
    }
    struct io_uring_cqe *cqe = NULL;
    rc = io_uring_peek_cqe(&r->uring, &cqe);
    if (rc == 0) {
        rc = cqe->res;
        io_uring_cqe_seen(&r->uring, cqe);
    }
    return rc;
}

static int ring_set_up(struct disk_ring *r)
{
    const unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_EXT_ARG;
    unsigned workers[2] = {r->opt.max_workers, r->opt.max_workers};
    struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                         IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL |
                                         IORING_SETUP_CQSIZE,
                                .cq_entries = RING_COMPLETIONS};
    if (FAULT(r->opt.fault, "disk.uring_setup")) {
        return -EPERM;
    }
    int rc = io_uring_queue_init_params(RING_SUBMISSIONS, &r->uring, &p);
    if (rc < 0) {
        return rc;
    }
    rc = (p.features & needed) == needed ? 0 : -EOPNOTSUPP;
    rc = rc < 0 ? rc : io_uring_register_iowq_max_workers(&r->uring, workers);
    rc = rc < 0 ? rc : io_uring_register_eventfd(&r->uring, loop_source_wake_fd(r->opt.loop));
    rc = rc < 0 ? rc : io_uring_cq_eventfd_toggle(&r->uring, false);
    rc = rc < 0 ? rc : ring_try(r);
    if (rc < 0) {
        io_uring_queue_exit(&r->uring);
    }
    return rc;
}

static int ring_open(struct disk_ring *r)
{
    int rc = ring_set_up(r);
    if (rc < 0) {
        return rc;
    }
    r->open = true;
    disk_known_open(&r->known, &r->uring);
    r->thread = loop_source_thread(r->opt.loop);
    loop_source_add(r->opt.loop, &r->source);
    return 0;
}

static void ring_close(struct disk_ring *r)
{
    CHECK(r->under_way == 0 && r->waiting_count == 0);
    if (r->open) {
        loop_source_remove(r->opt.loop, &r->source);
        loop_timer_cancel(r->opt.loop, &r->retry);
        disk_known_close(&r->known);
        io_uring_queue_exit(&r->uring);
        r->open = false;
    }
}

bool disk_ring_usable(struct disk_ring *r)
{
    if (r->open && r->thread != loop_source_thread(r->opt.loop)) {
        ring_close(r);
        (void)ring_open(r); /* if not: the threads serve */
    }
    return r->open;
}

void disk_ring_forget(struct disk_ring *r, struct disk_file *f)
{
    /* On another thread there is another ring, which does not know it. */
    if (f->known != 0 && disk_ring_usable(r)) {
        disk_known_forget(&r->known, f);
    }
}

int disk_ring_lend(struct disk_ring *r, void *at, size_t len)
{
    return disk_ring_usable(r) ? disk_known_lend(&r->known, at, len) : -EOPNOTSUPP;
}

void disk_ring_unlend(struct disk_ring *r, const void *at)
{
    (void)disk_ring_usable(r);
    disk_known_unlend(&r->known, at);
}

int disk_ring_new(const struct disk_ring_options *opt, struct disk_ring **ret)
{
    struct disk_ring *r = mem_zalloc(sizeof *r);
    if (r == NULL) {
        return -ENOMEM;
    }
    r->opt = *opt;
    r->known.fault = opt->fault;
    r->source = (struct loop_source){
        .flush = ring_flush, .ready = ring_ready, .rest = ring_rest, .run = ring_run};
    r->retry.fire = ring_retry;
    list_init(&r->source.node);
    list_init(&r->waiting);
    int rc = ring_open(r);
    if (rc < 0) {
        mem_free(r);
        return rc;
    }
    *ret = r;
    return 0;
}

struct disk_ring *disk_ring_free(struct disk_ring *r)
{
    if (r != NULL) {
        ring_close(r);
        mem_free(r);
    }
    return NULL;
}
