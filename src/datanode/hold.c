/*
 * datanode/hold.c -- see hold.h. One write is under way at a time; it takes all chains whose record
 * is not as it should be, so nothing has to wait in a queue. A write that finds no space is tried
 * again; any other failure ends the process, like that of any other write.
 *
 * At the start every good record of the file is read, also behind bad ones: each was true when it
 * was written, and what is missing is as if it had never been written.
 */
#include "datanode/hold.h"

#include "base/crc32c.h"
#include "datanode/worker_priv.h"
#include "wire/wire.h"

#include <stdlib.h>
#include <string.h>

#define HOLD_FILE_MAX (256u << 20)
#define HOLD_SPARE 1024u /* records that the file may have more than it needs */
#define HOLD_AGAIN_NS (1000 * NS_PER_MS)
#define HOLD_LOST 1u
#define HOLD_KNOWN \
    2u /* without it the epoch says nothing: the first records were made for people */

/* ---- Records ---- */

static uint32_t hold_crc(const uint8_t *bytes, uint64_t place)
{
    uint8_t number[8];
    wire_store_u64(number, place);
    return crc32c(crc32c(0, number, sizeof number), bytes, DATANODE_HOLD_BYTES - 4);
}

void datanode_hold_encode(const struct datanode_hold_record *x, uint64_t place,
                          uint8_t to[DATANODE_HOLD_BYTES])
{
    wire_store_u32(to, x->chain);
    wire_store_u32(to + 4, x->epoch);
    wire_store_u32(to + 8, (x->lost ? HOLD_LOST : 0) | (x->epoch > 0 ? HOLD_KNOWN : 0));
    wire_store_u32(to + 12, hold_crc(to, place));
}

int datanode_hold_decode(const uint8_t from[DATANODE_HOLD_BYTES], uint64_t place,
                         struct datanode_hold_record *ret)
{
    if (wire_load_u32(from + 12) != hold_crc(from, place)) {
        return -ERR_bad_crc;
    }
    uint32_t what = wire_load_u32(from + 8);
    *ret = (struct datanode_hold_record){.chain = wire_load_u32(from),
                                         .epoch =
                                             (what & HOLD_KNOWN) != 0 ? wire_load_u32(from + 4) : 0,
                                         .lost = (what & HOLD_LOST) != 0};
    return 0;
}

/* ---- Start ---- */

struct hold_read {
    struct datanode_hold_record record;
    size_t place;
};

static int hold_compare(const void *a, const void *b)
{
    const struct hold_read *x = a, *y = b;
    if (x->record.chain != y->record.chain) {
        return x->record.chain < y->record.chain ? -1 : 1;
    }
    return x->place < y->place ? -1 : x->place > y->place ? 1 : 0;
}

/* The last word on each chain; how many chains there are. They come first in `all`. */
static size_t hold_last(struct hold_read *all, size_t count)
{
    size_t last = 0;
    if (count > 0) {
        qsort(all, count, sizeof *all, hold_compare);
    }
    for (size_t i = 0; i < count; i++) {
        if (i + 1 == count || all[i + 1].record.chain != all[i].record.chain) {
            all[last++] = all[i];
        }
    }
    return last;
}

/* Only what is needed. If it cannot be done, the old file goes on. */
static void hold_rewrite(struct datanode_worker *w, const char *path)
{
    struct datanode_holds *h = &w->holds;
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(h->known_count * DATANODE_HOLD_BYTES + 1);
    for (size_t i = 0; i < h->known_count && bytes != NULL; i++) {
        datanode_hold_encode(&h->known[i], i, bytes + i * DATANODE_HOLD_BYTES);
    }
    int rc = bytes == NULL
                 ? -ENOMEM
                 : disk_store(w->env.disk, path, bytes, h->known_count * DATANODE_HOLD_BYTES);
    if (rc == 0) {
        h->records = h->known_count;
    } else {
        log_warn(w->env.log, "the list of chains is not written anew", LOG_TEXT("path", path),
                 LOG_RC(rc));
    }
}

static int hold_read(struct datanode_worker *w, const char *path, const uint8_t *bytes, size_t len)
{
    struct datanode_holds *h = &w->holds;
    size_t slots = len / DATANODE_HOLD_BYTES, good = 0;
    CLEANUP(mem_freep) struct hold_read *all = mem_calloc(slots + 1, sizeof *all);
    if (all == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < slots; i++) {
        all[good].place = i;
        if (datanode_hold_decode(bytes + i * DATANODE_HOLD_BYTES, i, &all[good].record) == 0) {
            good++;
        }
    }
    h->records = slots;
    h->known_count = hold_last(all, good);
    h->known = mem_calloc(h->known_count + 1, sizeof *h->known);
    if (h->known == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < h->known_count; i++) {
        h->known[i] = all[i].record;
    }
    if (good < slots || len % DATANODE_HOLD_BYTES != 0) {
        log_warn(w->env.log, "records of the list of chains are damaged", LOG_TEXT("path", path),
                 LOG_U64("bad", slots - good));
    }
    if (good < slots || len % DATANODE_HOLD_BYTES != 0 || slots > h->known_count + HOLD_SPARE) {
        hold_rewrite(w, path);
    }
    return 0;
}

static int hold_open_file(struct datanode_worker *w, const char *path, bool there)
{
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE | DISK_CREATE};
    int64_t rc = disk_now(w->env.disk, &req);
    if (rc >= 0) {
        w->holds.file = req.file;
    }
    if (rc >= 0 && !there) { /* its name must be as stable as what it will say */
        req = (struct disk_req){.op = DISK_SYNC_DIR, .path = w->opt.directory};
        rc = disk_now(w->env.disk, &req);
    }
    return rc < 0 ? (int)rc : 0;
}

/* What a life before has left of it in memory may be nowhere else. */
static int hold_refresh(struct datanode_worker *w, const char *path)
{
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE};
    int64_t rc = disk_now(w->env.disk, &req);
    if (rc < 0) {
        return (int)rc;
    }
    int fresh = disk_refresh(w->env.disk, req.file);
    req = (struct disk_req){.op = DISK_CLOSE, .file = req.file};
    (void)disk_now(w->env.disk, &req); /* nothing was written */
    return fresh;
}

static void hold_again(struct loop_timer *t);

int datanode_holds_open(struct datanode_worker *w, struct err *e)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/chains", w->opt.directory);
    CLEANUP(mem_freep) void *bytes = NULL;
    size_t len = 0;
    w->holds.again.fire = hold_again;
    if (w->opt.engine == DATANODE_ENGINE_RAM) {
        return 0; /* what it has goes with the process */
    }
    int rc = path == NULL ? -ENOMEM : hold_refresh(w, path);
    rc = rc < 0 ? rc : disk_load(w->env.disk, path, HOLD_FILE_MAX, &bytes, &len);
    bool there = rc != -ENOENT;
    rc = there ? rc : 0;
    rc = rc < 0 ? rc : hold_read(w, path, bytes, len);
    rc = rc < 0 ? rc : hold_open_file(w, path, there);
    if (rc == -ENOSPC || rc == -EDQUOT) {
        log_warn(w->env.log, "which chains it has left is not kept: there is no space",
                 LOG_TEXT("path", path));
        return 0;
    }
    return rc < 0 ? err_set(e, rc, "list of chains '%s'", path == NULL ? "" : path) : 0;
}

void datanode_holds_close(struct datanode_worker *w)
{
    struct datanode_holds *h = &w->holds;
    CHECK(!h->busy);
    loop_timer_cancel(w->loop, &h->again);
    if (h->file != NULL) {
        struct disk_req req = {.op = DISK_CLOSE, .file = h->file};
        (void)disk_now(w->env.disk, &req); /* what was answered for is stable */
        h->file = NULL;
    }
    mem_freep(&h->known);
    h->known_count = 0;
}

/* ---- Writing ---- */

static void hold_write(struct datanode_worker *w);

static void hold_again(struct loop_timer *t)
{
    hold_write(container_of(t, struct datanode_worker, holds.again));
}

static void hold_wake(struct datanode_worker *w)
{
    struct list now;
    list_init(&now);
    list_splice_back(&now, &w->holds.waits);
    for (struct list *node; (node = list_pop_front(&now)) != NULL;) {
        struct datanode_hold_wait *wait = LIST_ENTRY(node, struct datanode_hold_wait, node);
        wait->done(wait);
    }
}

static void hold_over(struct datanode_worker *w, int rc)
{
    struct datanode_holds *h = &w->holds;
    bool left = false;
    h->busy = false;
    for (size_t i = 0; i < h->count && rc == 0; i++) {
        h->chain[i]->noted_lost = h->value[i].lost;
        h->chain[i]->noted_epoch = h->value[i].epoch;
        left = left || (h->value[i].lost && h->chain[i]->released);
    }
    h->records += rc == 0 ? h->count : 0;
    if (rc == -ENOSPC || rc == -EDQUOT || rc == -ENOMEM || rc == -ERR_busy) {
        loop_timer_in(w->loop, &h->again, HOLD_AGAIN_NS);
    } else if (rc < 0) {
        datanode_worker_fail(w, rc, "the list of chains could not be written");
    } else {
        hold_write(w);
    }
    if (left) {
        datanode_discard_start(w); /* which has waited for that */
    }
    hold_wake(w);
}

static void hold_synced(struct disk_req *req, int64_t rc)
{
    struct datanode_worker *w = container_of(req, struct datanode_worker, holds.req);
    if (rc < 0) { /* also for lack of space: nobody knows what of it is there */
        datanode_worker_fail(w, (int)rc, "the list of chains could not be written");
    }
    hold_over(w, rc < 0 ? (int)rc : 0);
}

static void hold_put(struct disk_req *req, int64_t rc)
{
    struct datanode_worker *w = container_of(req, struct datanode_worker, holds.req);
    struct datanode_holds *h = &w->holds;
    if (rc != (int64_t)(h->count * DATANODE_HOLD_BYTES)) {
        hold_over(w, rc < 0 ? (int)rc : -ENOSPC);
        return;
    }
    h->req = (struct disk_req){.op = DISK_SYNC, .file = h->file, .done = hold_synced};
    disk_submit(w->env.disk, &h->req);
}

static bool hold_lost_is_due(const struct datanode_chain *c)
{
    return c->row.count > 0 && c->noted_lost == c->held;
}

/* Not each epoch: only so often that a start recognizes the row after the last one it knew. */
static bool hold_epoch_is_due(const struct datanode_chain *c)
{
    bool knows = c->row.count > 0 && (datanode_chain_is_member(c) || c->released);
    return knows && (c->noted_epoch == 0 || c->row.epoch - c->noted_epoch >= DATANODE_LEAP / 2);
}

static bool hold_is_due(const struct datanode_chain *c)
{
    return hold_lost_is_due(c) || hold_epoch_is_due(c);
}

static struct datanode_hold_record hold_record(const struct datanode_chain *c)
{
    bool knows = datanode_chain_is_member(c) || c->released;
    return (struct datanode_hold_record){
        .chain = c->id, .epoch = knows ? c->row.epoch : c->noted_epoch, .lost = !c->held};
}

static void hold_write(struct datanode_worker *w)
{
    struct datanode_holds *h = &w->holds;
    if (h->busy || h->file == NULL || w->closing || w->failed) {
        return;
    }
    h->count = 0;
    LIST_FOR_EACH(at, &w->chain_list)
    {
        struct datanode_chain *c = LIST_ENTRY(at, struct datanode_chain, all);
        if (h->count == DATANODE_HOLD_BATCH || !hold_is_due(c)) {
            continue;
        }
        const struct datanode_hold_record x = hold_record(c);
        datanode_hold_encode(&x, h->records + h->count, h->bytes + h->count * DATANODE_HOLD_BYTES);
        h->chain[h->count] = c;
        h->value[h->count++] = x;
    }
    if (h->count == 0) {
        return;
    }
    h->busy = true;
    h->req = (struct disk_req){.op = DISK_WRITE,
                               .file = h->file,
                               .offset = h->records * DATANODE_HOLD_BYTES,
                               .buf = h->bytes,
                               .len = h->count * DATANODE_HOLD_BYTES,
                               .done = hold_put};
    disk_submit(w->env.disk, &h->req);
}

void datanode_hold_note(struct datanode_chain *c)
{
    if (hold_is_due(c)) {
        hold_write(c->worker);
    }
}

/* ---- Questions ---- */

const struct datanode_hold_record *datanode_hold_find(const struct datanode_worker *w,
                                                      uint32_t chain)
{
    const struct datanode_holds *h = &w->holds;
    size_t low = 0, high = h->known_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (h->known[middle].chain < chain) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < h->known_count && h->known[low].chain == chain ? &h->known[low] : NULL;
}

bool datanode_hold_stable(const struct datanode_chain *c)
{
    return c->worker->holds.file == NULL || !hold_lost_is_due(c);
}

void datanode_hold_await(struct datanode_chain *c, struct datanode_hold_wait *wait)
{
    list_push_back(&c->worker->holds.waits, &wait->node);
    datanode_hold_note(c);
}
