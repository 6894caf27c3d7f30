/*
 * disk/sim_file.c -- contents of simulated files: pages on demand in sorted leaves of 1 MiB, once
 * for the live and once for the durable side, and the changes between the two.
 */
#include "disk/sim_cache_priv.h"

#include "base/mem.h"

#include <string.h>

/* What a kernel would have written back by itself by then. */
#define CHANGES_MAX 4096u
#define CHANGE_BYTES_MAX (16u << 20)

enum sim_side { LIVE, DURABLE };

/* ---- Pages ---- */

static void page_unref(struct sim_page *p)
{
    if (p != NULL && --p->refs == 0) {
        mem_free(p);
    }
}

static struct sim_page **leaf_slot(struct sim_leaf *leaf, enum sim_side side, uint64_t page)
{
    return side == LIVE ? &leaf->live[page % SIM_LEAF_PAGES]
                        : &leaf->durable[page % SIM_LEAF_PAGES];
}

/* Where the leaf is or belongs. */
static size_t leaf_position(const struct sim_contents *c, uint64_t index)
{
    size_t low = 0, high = c->leaf_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (c->leaf[mid]->index < index) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static struct sim_leaf *leaf_find(const struct sim_contents *c, uint64_t page)
{
    uint64_t index = page / SIM_LEAF_PAGES;
    size_t at = leaf_position(c, index);
    return at < c->leaf_count && c->leaf[at]->index == index ? c->leaf[at] : NULL;
}

struct sim_leaf *disk_sim_leaf(const struct sim_node *n, uint64_t page)
{
    return leaf_find(&n->file, page);
}

static struct sim_leaf *leaf_make(struct sim_contents *c, uint64_t page)
{
    struct sim_leaf *leaf = leaf_find(c, page);
    if (leaf != NULL) {
        return leaf;
    }
    if (mem_grow(&c->leaf, &c->leaf_capacity, c->leaf_count + 1, sizeof(struct sim_leaf *)) < 0) {
        return NULL;
    }
    leaf = mem_zalloc(sizeof *leaf);
    if (leaf == NULL) {
        return NULL;
    }
    leaf->index = page / SIM_LEAF_PAGES;
    size_t at = leaf_position(c, leaf->index);
    memmove(&c->leaf[at + 1], &c->leaf[at], (c->leaf_count - at) * sizeof(struct sim_leaf *));
    c->leaf[at] = leaf;
    c->leaf_count++;
    return leaf;
}

static bool leaf_empty(const struct sim_leaf *leaf)
{
    for (size_t i = 0; i < SIM_LEAF_PAGES; i++) {
        if (leaf->live[i] != NULL || leaf->durable[i] != NULL) {
            return false;
        }
    }
    return true;
}

static void leaves_trim(struct sim_contents *c)
{
    size_t kept = 0;
    for (size_t i = 0; i < c->leaf_count; i++) {
        if (leaf_empty(c->leaf[i])) {
            mem_free(c->leaf[i]);
        } else {
            c->leaf[kept++] = c->leaf[i];
        }
    }
    c->leaf_count = kept;
}

static void charge(struct sim_node *n, enum sim_side side, int64_t pages)
{
    if (side == LIVE) {
        n->file.live_pages += (uint64_t)pages;
        n->machine->used_bytes += (uint64_t)pages * SIM_PAGE;
    }
}

/* A page of this side alone, to be changed. */
static struct sim_page *page_own(struct sim_node *n, enum sim_side side, uint64_t page)
{
    struct sim_leaf *leaf = leaf_make(&n->file, page);
    if (leaf == NULL) {
        return NULL;
    }
    struct sim_page **slot = leaf_slot(leaf, side, page);
    leaf->dirty = true;
    if (*slot != NULL && (*slot)->refs == 1) {
        return *slot;
    }
    struct sim_page *own = mem_zalloc(sizeof *own);
    if (own == NULL) {
        return NULL;
    }
    own->refs = 1;
    if (*slot == NULL) {
        charge(n, side, 1);
    } else {
        memcpy(own->bytes, (*slot)->bytes, SIM_PAGE);
        page_unref(*slot);
    }
    *slot = own;
    return own;
}

/* ---- Pages that are stuck ---- */

static bool page_stuck(const struct sim_node *n, uint64_t page)
{
    const struct sim_leaf *leaf = leaf_find(&n->file, page);
    uint64_t at = page % SIM_LEAF_PAGES;
    return leaf != NULL && (leaf->stuck[at / 64] >> at % 64 & 1) != 0;
}

static void pages_unstick(struct sim_node *n, uint64_t first, uint64_t end)
{
    for (uint64_t page = first; page < end; page++) {
        struct sim_leaf *leaf = leaf_find(&n->file, page);
        uint64_t at = page % SIM_LEAF_PAGES;
        if (leaf != NULL) {
            leaf->stuck[at / 64] &= ~(UINT64_C(1) << at % 64);
        }
    }
}

static void page_stick(struct sim_node *n, uint64_t page)
{
    struct sim_leaf *leaf = leaf_find(&n->file, page);
    uint64_t at = page % SIM_LEAF_PAGES;
    const struct sim_page *durable = leaf == NULL ? NULL : *leaf_slot(leaf, DURABLE, page);
    if (leaf != NULL && (durable == NULL || durable == n->machine->zero)) {
        leaf->stuck[at / 64] |= UINT64_C(1) << at % 64;
    }
}

void disk_sim_stick(struct sim_node *n, const struct sim_change *c)
{
    bool sticks = c->kind == SIM_WRITE && !c->direct;
    uint64_t end = sticks ? base_align_up(c->offset + c->len, SIM_PAGE) / SIM_PAGE : 0;
    for (uint64_t page = c->offset / SIM_PAGE; page < end; page++) {
        page_stick(n, page);
    }
}

/* ---- One side: bytes in, bytes gone, space reserved ---- */

static int side_put(struct sim_node *n, enum sim_side side, uint64_t offset, const uint8_t *bytes,
                    uint64_t len)
{
    for (uint64_t done = 0; done < len;) {
        uint64_t at = offset + done, within = at % SIM_PAGE;
        uint64_t part = base_min(SIM_PAGE - within, len - done);
        bool stuck = side == DURABLE && page_stuck(n, at / SIM_PAGE);
        struct sim_page *p = stuck ? NULL : page_own(n, side, at / SIM_PAGE);
        if (p == NULL && !stuck) {
            return -ENOMEM;
        }
        if (p != NULL) {
            memcpy(p->bytes + within, bytes + done, part);
        }
        done += part;
    }
    return 0;
}

/* Zeros within one page. */
static int side_blank(struct sim_node *n, enum sim_side side, uint64_t offset, uint64_t end)
{
    struct sim_leaf *leaf = leaf_find(&n->file, offset / SIM_PAGE);
    if (offset >= end || leaf == NULL || *leaf_slot(leaf, side, offset / SIM_PAGE) == NULL) {
        return 0;
    }
    struct sim_page *p = page_own(n, side, offset / SIM_PAGE);
    if (p == NULL) {
        return -ENOMEM;
    }
    memset(p->bytes + offset % SIM_PAGE, 0, end - offset);
    return 0;
}

static void side_drop(struct sim_node *n, enum sim_side side, uint64_t first, uint64_t end)
{
    struct sim_contents *c = &n->file;
    for (size_t i = leaf_position(c, first / SIM_LEAF_PAGES); i < c->leaf_count; i++) {
        struct sim_leaf *leaf = c->leaf[i];
        uint64_t base = leaf->index * SIM_LEAF_PAGES;
        if (base >= end) {
            break;
        }
        uint64_t stop = base_min(end, base + SIM_LEAF_PAGES);
        for (uint64_t page = base_max(first, base); page < stop; page++) {
            struct sim_page **slot = leaf_slot(leaf, side, page);
            if (*slot != NULL) {
                charge(n, side, -1);
                page_unref(*slot);
                *slot = NULL;
                leaf->dirty = true;
            }
        }
    }
}

static int side_clear(struct sim_node *n, enum sim_side side, uint64_t offset, uint64_t end)
{
    uint64_t first = base_align_up(offset, SIM_PAGE), last = base_align_down(end, SIM_PAGE);
    int rc = side_blank(n, side, offset, base_min(first, end));
    if (rc == 0 && last >= first) {
        rc = side_blank(n, side, last, end);
    }
    if (rc == 0 && last > first) {
        side_drop(n, side, first / SIM_PAGE, last / SIM_PAGE);
    }
    return rc;
}

static int side_reserve(struct sim_node *n, enum sim_side side, uint64_t offset, uint64_t end)
{
    for (uint64_t page = offset / SIM_PAGE; page * SIM_PAGE < end; page++) {
        struct sim_leaf *leaf = leaf_make(&n->file, page);
        if (leaf == NULL) {
            return -ENOMEM;
        }
        struct sim_page **slot = leaf_slot(leaf, side, page);
        if (*slot == NULL) {
            *slot = n->machine->zero;
            (*slot)->refs++;
            leaf->dirty = true;
            charge(n, side, 1);
        }
    }
    return 0;
}

static int side_apply(struct sim_node *n, enum sim_side side, const struct sim_change *c)
{
    uint64_t *size = side == LIVE ? &n->file.live_size : &n->file.durable_size;
    uint64_t end = c->offset + c->len;
    int rc = 0;
    switch (c->kind) {
    case SIM_WRITE:
        rc = side_put(n, side, c->offset, c->bytes, c->len);
        break;
    case SIM_TRUNCATE:
        rc = side_clear(n, side, c->len, SIM_FILE_MAX);
        if (rc == 0) {
            *size = c->len;
        }
        return rc;
    case SIM_PUNCH:
        return side_clear(n, side, c->offset, end);
    case SIM_ALLOCATE:
        rc = side_reserve(n, side, c->offset, end);
        break;
    }
    if (rc == 0 && !c->keep_size) {
        *size = base_max(*size, end);
    }
    return rc;
}

/* ---- Life ---- */

void disk_sim_contents_init(struct sim_node *n)
{
    list_init(&n->file.changes);
}

void disk_sim_change_free(struct sim_node *n, struct sim_change *c)
{
    list_remove(&c->node);
    n->file.change_count--;
    n->file.change_bytes -= c->kind == SIM_WRITE ? c->len : 0;
    mem_free(c);
}

void disk_sim_contents_forget(struct sim_node *n)
{
    side_drop(n, LIVE, 0, UINT64_MAX);
    leaves_trim(&n->file);
    n->file.live_size = 0;
    CHECK(n->file.live_pages == 0);
}

void disk_sim_contents_fini(struct sim_node *n)
{
    LIST_FOR_EACH_SAFE(node, &n->file.changes)
    {
        disk_sim_change_free(n, LIST_ENTRY(node, struct sim_change, node));
    }
    side_drop(n, LIVE, 0, UINT64_MAX);
    side_drop(n, DURABLE, 0, UINT64_MAX);
    leaves_trim(&n->file);
    mem_free(n->file.leaf);
}

/* ---- What processes do ---- */

static size_t contents_read(const struct sim_node *n, enum sim_side side, uint64_t offset, void *to,
                            size_t len)
{
    uint64_t size = side == LIVE ? n->file.live_size : n->file.durable_size;
    if (offset >= size) {
        return 0;
    }
    size_t sum = (size_t)base_min(len, size - offset);
    for (size_t done = 0; done < sum;) {
        uint64_t at = offset + done, within = at % SIM_PAGE;
        size_t part = (size_t)base_min(SIM_PAGE - within, sum - done);
        struct sim_leaf *leaf = leaf_find(&n->file, at / SIM_PAGE);
        struct sim_page *p = leaf == NULL ? NULL : *leaf_slot(leaf, side, at / SIM_PAGE);
        if (p == NULL) {
            memset((uint8_t *)to + done, 0, part);
        } else {
            memcpy((uint8_t *)to + done, p->bytes + within, part);
        }
        done += part;
    }
    return sum;
}

size_t disk_sim_read(const struct sim_node *n, uint64_t offset, void *to, size_t len)
{
    return contents_read(n, LIVE, offset, to, len);
}

/* What would be written there, and what would not. */
static void change_over(const struct sim_node *n, const struct sim_change *c, uint64_t offset,
                        uint8_t *to, size_t len)
{
    uint64_t from = c->kind == SIM_TRUNCATE ? c->len : c->offset;
    uint64_t end = c->kind == SIM_TRUNCATE ? SIM_FILE_MAX : c->offset + c->len;
    from = base_max(from, offset);
    end = base_min(end, offset + len);
    for (uint64_t at = from; at < end && c->kind != SIM_ALLOCATE; at++) {
        if (c->kind != SIM_WRITE) {
            to[at - offset] = 0;
        } else if (!page_stuck(n, at / SIM_PAGE)) {
            to[at - offset] = c->bytes[at - c->offset];
        }
    }
}

size_t disk_sim_read_medium(const struct sim_node *n, uint64_t offset, void *to, size_t len)
{
    size_t sum = offset < n->file.live_size ? (size_t)base_min(len, n->file.live_size - offset) : 0;
    size_t got = contents_read(n, DURABLE, offset, to, sum);
    memset((uint8_t *)to + got, 0, sum - got);
    LIST_FOR_EACH(node, &n->file.changes)
    {
        change_over(n, LIST_ENTRY(node, struct sim_change, node), offset, to, sum);
    }
    return sum;
}

/* Is there room for the pages that the range lacks? */
static int contents_room(const struct sim_node *n, uint64_t offset, uint64_t len)
{
    uint64_t capacity = disk_sim_capacity_bytes(n->machine), used = n->machine->used_bytes;
    uint64_t room = used >= capacity ? 0 : (capacity - used) / SIM_PAGE, missing = 0;
    if (len > capacity) {
        return -ENOSPC;
    }
    for (uint64_t page = offset / SIM_PAGE; page * SIM_PAGE < offset + len; page++) {
        struct sim_leaf *leaf = leaf_find(&n->file, page);
        missing += leaf == NULL || *leaf_slot(leaf, LIVE, page) == NULL ? 1 : 0;
    }
    return missing > room ? -ENOSPC : 0;
}

/* Pages that lie wholly in the range. */
static void contents_unstick(struct sim_node *n, uint64_t offset, uint64_t end)
{
    uint64_t last = n->file.leaf_count == 0
                        ? 0
                        : (n->file.leaf[n->file.leaf_count - 1]->index + 1) * SIM_LEAF_PAGES;
    pages_unstick(n, base_align_up(offset, SIM_PAGE) / SIM_PAGE, base_min(end / SIM_PAGE, last));
}

/* Applies a new change to the live side and keeps it for the durable one. Takes it over. */
static int contents_change(struct sim_node *n, struct sim_change *c)
{
    struct sim_contents *f = &n->file;
    int rc = side_apply(n, LIVE, c);
    if (rc < 0) {
        mem_free(c);
        return rc;
    }
    if (c->kind == SIM_TRUNCATE || c->kind == SIM_PUNCH) {
        uint64_t end = c->kind == SIM_TRUNCATE ? SIM_FILE_MAX : c->offset + c->len;
        contents_unstick(n, c->kind == SIM_TRUNCATE ? c->len : c->offset, end);
        leaves_trim(f);
    }
    c->seq = ++n->machine->seq;
    n->mtime_ns = loop_sim_now_ns(n->machine->sim);
    list_push_back(&f->changes, &c->node);
    f->change_count++;
    f->change_bytes += c->kind == SIM_WRITE ? c->len : 0;
    while (f->change_count > CHANGES_MAX || f->change_bytes > CHANGE_BYTES_MAX) {
        struct sim_change *oldest = LIST_ENTRY(f->changes.next, struct sim_change, node);
        if (disk_sim_settle(n, oldest) < 0) {
            break; /* tried again with the next change */
        }
        disk_sim_change_free(n, oldest);
    }
    return 0;
}

/* Sectors are written as they are in memory: each has what was put beside the new bytes before. And
 * pages are written back whole: with them what a failed writeback has left there, unless they have
 * left memory and come back meanwhile. */
static void write_widen(const struct sim_node *n, const struct disk_req *req, uint64_t *from,
                        uint64_t *end)
{
    if (disk_request_direct(req)) {
        return;
    }
    bool page = n->file.diverged && !rand_chance(&n->machine->rand, 1, 2);
    uint64_t size = base_max(*end, n->file.live_size), unit = page ? SIM_PAGE : SIM_SECTOR;
    *from = base_min(base_align_down(*from, unit), size);
    *end = base_min(base_align_up(*end, unit), size);
}

int64_t disk_sim_write(struct sim_node *n, const struct disk_req *req, uint64_t limit)
{
    uint64_t len = base_min(disk_request_bytes(req), limit);
    if (len == 0) {
        return 0;
    }
    if (req->offset > SIM_FILE_MAX || len > SIM_FILE_MAX - req->offset) {
        return -EFBIG;
    }
    int rc = contents_room(n, req->offset, len);
    if (rc < 0) {
        return rc;
    }
    uint64_t from = req->offset, end = req->offset + len;
    write_widen(n, req, &from, &end);
    struct sim_change *c = mem_alloc(sizeof *c + (end - from));
    if (c == NULL) {
        return -ENOMEM;
    }
    *c = (struct sim_change){
        .kind = SIM_WRITE, .direct = disk_request_direct(req), .offset = from, .len = end - from};
    if (end - from > len) {
        memset(c->bytes, 0, end - from);
        (void)disk_sim_read(n, from, c->bytes, end - from);
    }
    if (c->direct) {
        contents_unstick(n, req->offset, req->offset + len);
    }
    struct disk_cursor cursor;
    struct iovec piece;
    disk_cursor_init(&cursor, req);
    for (uint64_t done = 0; done < len && disk_cursor_window(&cursor, &piece, 1) > 0;) {
        size_t part = (size_t)base_min(piece.iov_len, len - done);
        memcpy(c->bytes + (req->offset - from) + done, piece.iov_base, part);
        disk_cursor_advance(&cursor, part);
        done += part;
    }
    rc = contents_change(n, c);
    return rc < 0 ? rc : (int64_t)len;
}

static int64_t contents_reshape(struct sim_node *n, const struct disk_req *req)
{
    uint64_t offset = req->op == DISK_TRUNCATE ? 0 : req->offset;
    if (req->op != DISK_PUNCH && (offset > SIM_FILE_MAX || req->len > SIM_FILE_MAX - offset)) {
        return -EFBIG;
    }
    if (req->op == DISK_ALLOCATE) {
        int rc = contents_room(n, offset, req->len);
        if (rc < 0) {
            return rc;
        }
    }
    struct sim_change *c = mem_zalloc(sizeof *c);
    if (c == NULL) {
        return -ENOMEM;
    }
    c->kind = req->op == DISK_TRUNCATE ? SIM_TRUNCATE
              : req->op == DISK_PUNCH  ? SIM_PUNCH
                                       : SIM_ALLOCATE;
    c->keep_size = (req->flags & DISK_KEEP_SIZE) != 0;
    c->offset = offset;
    c->len = req->len;
    return contents_change(n, c);
}

int64_t disk_sim_reshape(struct sim_node *n, const struct disk_req *req)
{
    int64_t rc = contents_reshape(n, req);
    if (rc < 0 || req->op != DISK_PUNCH || (req->flags & DISK_KEEP_SIZE) == 0) {
        return rc;
    }
    const struct disk_req keep = {
        .op = DISK_ALLOCATE, .flags = DISK_KEEP_SIZE, .offset = req->offset, .len = req->len};
    return contents_reshape(n, &keep);
}

/* Also on its way to the medium. */
static void changes_corrupt(struct sim_node *n, uint64_t offset, uint8_t xor_with)
{
    LIST_FOR_EACH(node, &n->file.changes)
    {
        struct sim_change *c = LIST_ENTRY(node, struct sim_change, node);
        if (c->kind == SIM_WRITE && offset >= c->offset && offset - c->offset < c->len) {
            c->bytes[offset - c->offset] ^= xor_with;
        }
    }
}

int disk_sim_corrupt_byte(struct sim_node *n, uint64_t offset, uint8_t xor_with)
{
    uint64_t page = offset / SIM_PAGE;
    size_t within = (size_t)(offset % SIM_PAGE);
    if (offset >= n->file.live_size) {
        return -ERANGE;
    }
    changes_corrupt(n, offset, xor_with);
    struct sim_leaf *leaf = leaf_find(&n->file, page);
    bool shared = leaf != NULL && *leaf_slot(leaf, LIVE, page) == *leaf_slot(leaf, DURABLE, page);
    struct sim_page *p = page_own(n, LIVE, page);
    if (p == NULL) {
        return -ENOMEM;
    }
    p->bytes[within] ^= xor_with;
    if (shared) { /* also a hole of both: they stay equal */
        struct sim_page **slot = leaf_slot(leaf_find(&n->file, page), DURABLE, page);
        page_unref(*slot);
        *slot = p;
        p->refs++;
        return 0;
    }
    p = offset < n->file.durable_size ? page_own(n, DURABLE, page) : NULL;
    if (p != NULL) {
        p->bytes[within] ^= xor_with;
    }
    return 0;
}

int disk_sim_rot_byte(struct sim_node *n, uint64_t offset, uint8_t xor_with)
{
    if (offset >= n->file.durable_size) {
        return -ERANGE;
    }
    struct sim_page *p = page_own(n, DURABLE, offset / SIM_PAGE);
    if (p == NULL) {
        return -ENOMEM;
    }
    p->bytes[offset % SIM_PAGE] ^= xor_with;
    n->file.diverged = true;
    return 0;
}

/* ---- From live to durable and back ---- */

int disk_sim_settle(struct sim_node *n, const struct sim_change *c)
{
    return side_apply(n, DURABLE, c);
}

void disk_sim_settle_torn(struct sim_node *n, const struct sim_change *c)
{
    CHECK(c->kind == SIM_WRITE);
    for (uint64_t done = 0; done < c->len;) {
        uint64_t at = c->offset + done;
        uint64_t part = base_min(SIM_SECTOR - at % SIM_SECTOR, c->len - done);
        if (rand_chance(&n->machine->rand, 1, 2) &&
            side_put(n, DURABLE, at, c->bytes + done, part) == 0) {
            n->file.durable_size = base_max(n->file.durable_size, at + part);
        }
        done += part;
    }
}

/* A file system notes what was written for each run of blocks, or not. */
void disk_sim_settle_pages(struct sim_node *n, const struct sim_change *c)
{
    CHECK(c->kind == SIM_WRITE);
    for (uint64_t done = 0; done < c->len;) {
        uint64_t at = c->offset + done;
        uint64_t part = base_min(SIM_PAGE - at % SIM_PAGE, c->len - done);
        if (rand_chance(&n->machine->rand, 1, 2)) {
            page_stick(n, at / SIM_PAGE);
        } else if (side_put(n, DURABLE, at, c->bytes + done, part) == 0) {
            n->file.durable_size = base_max(n->file.durable_size, at + part);
        }
        done += part;
    }
}

static void leaf_copy(struct sim_leaf *leaf, enum sim_side from, enum sim_side to)
{
    for (uint64_t i = 0; i < SIM_LEAF_PAGES; i++) {
        struct sim_page **source = leaf_slot(leaf, from, i), **target = leaf_slot(leaf, to, i);
        if (*source != *target) {
            page_unref(*target);
            *target = *source;
            if (*source != NULL) {
                (*source)->refs++;
            }
        }
    }
    leaf->dirty = false;
}

/* All is covered: durable becomes live by sharing its pages. No memory is needed. */
static void contents_settle_all(struct sim_node *n)
{
    struct sim_contents *c = &n->file;
    for (size_t i = 0; i < c->leaf_count; i++) {
        if (c->leaf[i]->dirty) {
            leaf_copy(c->leaf[i], LIVE, DURABLE);
        }
    }
    c->durable_size = c->live_size;
    leaves_trim(c);
    LIST_FOR_EACH_SAFE(node, &c->changes)
    {
        disk_sim_change_free(n, LIST_ENTRY(node, struct sim_change, node));
    }
}

int disk_sim_sync(struct sim_node *n, uint64_t mark)
{
    struct sim_contents *c = &n->file;
    if (list_empty(&c->changes)) {
        return 0;
    }
    if (!c->diverged && LIST_ENTRY(c->changes.prev, struct sim_change, node)->seq <= mark) {
        contents_settle_all(n);
        return 0;
    }
    LIST_FOR_EACH_SAFE(node, &c->changes)
    {
        struct sim_change *change = LIST_ENTRY(node, struct sim_change, node);
        if (change->seq > mark) {
            break;
        }
        int rc = disk_sim_settle(n, change);
        if (rc < 0) {
            return rc;
        }
        disk_sim_change_free(n, change);
    }
    return 0;
}

void disk_sim_contents_revert(struct sim_node *n)
{
    struct sim_contents *c = &n->file;
    uint64_t pages = 0;
    for (size_t i = 0; i < c->leaf_count; i++) {
        leaf_copy(c->leaf[i], DURABLE, LIVE);
        memset(c->leaf[i]->stuck, 0, sizeof c->leaf[i]->stuck);
        for (size_t k = 0; k < SIM_LEAF_PAGES; k++) {
            pages += c->leaf[i]->live[k] == NULL ? 0 : 1;
        }
    }
    n->machine->used_bytes += (pages - c->live_pages) * SIM_PAGE; /* wraps back when fewer */
    c->live_pages = pages;
    c->live_size = c->durable_size;
    c->diverged = false;
    disk_sim_cache_forget(n);
    leaves_trim(c);
}
