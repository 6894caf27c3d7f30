/* chunk/plan.c -- see plan_priv.h. */
#include "chunk/plan_priv.h"

#include "base/crc32c.h"

#include <string.h>

/* ---- Which cells keep old bytes ---- */

static void plan_add_edge(struct chunk_plan *p, struct chunk_edge edge)
{
    edge.used = true;
    edge.old_bytes = chunk_cell_bytes(p->old_length, edge.cell);
    edge.read = edge.read && edge.old_bytes > 0 && p->old->block[edge.cell] != 0;
    CHECK(!p->edge[1].used);
    p->edge[p->edge[0].used ? 1 : 0] = edge;
}

/* The old last cell gets zeros behind its bytes: those that lie there may be anything. */
static void plan_extend(struct chunk_plan *p)
{
    uint32_t cell = p->old_length / CHUNK_CELL;
    plan_add_edge(p, (struct chunk_edge){.cell = cell, .read = true});
}

static void plan_touched(struct chunk_plan *p, const struct chunk_entry *e, uint32_t cell)
{
    uint32_t start = cell * CHUNK_CELL;
    uint32_t from = p->from > start ? p->from - start : 0;
    uint32_t to = (uint32_t)base_min(CHUNK_CELL, p->to - start);
    uint32_t old_bytes = chunk_cell_bytes(p->old_length, cell);
    if (from == 0 && to >= chunk_cell_bytes(p->new_length, cell)) {
        return; /* all of it is new */
    }
    if (from > 0 && from == old_bytes && p->old->block[cell] != 0 &&
        p->old->block[cell] == e->tail_block && e->tail_bytes == from) {
        p->tail_append = true;
        return;
    }
    plan_add_edge(p, (struct chunk_edge){
                         .cell = cell, .from = from, .to = to, .read = from > 0 || to < old_bytes});
}

static void plan_write(struct chunk_plan *p, const struct chunk_entry *e)
{
    uint32_t first = p->from / CHUNK_CELL, last = (p->to - 1) / CHUNK_CELL;
    if (p->from > p->old_length && p->old_length % CHUNK_CELL != 0 &&
        p->old_length / CHUNK_CELL < first) {
        plan_extend(p);
    }
    plan_touched(p, e, first);
    if (last != first) {
        plan_touched(p, e, last);
    }
}

static void plan_set_length(struct chunk_plan *p)
{
    if (p->new_length > p->old_length && p->old_length % CHUNK_CELL != 0) {
        plan_extend(p);
    } else if (p->new_length < p->old_length && p->new_length % CHUNK_CELL != 0) {
        plan_add_edge(p, (struct chunk_edge){.cell = p->new_length / CHUNK_CELL, .read = true});
    }
}

static int plan_check(const struct chunk_update *u)
{
    switch (u->kind) {
    case CHUNK_WRITE:
        return u->length == 0 || u->length > CHUNK_LENGTH_MAX ||
                       u->offset > CHUNK_LENGTH_MAX - u->length
                   ? -EINVAL
                   : 0;
    case CHUNK_SET_LENGTH:
    case CHUNK_WHOLE:
        return u->new_length > CHUNK_LENGTH_MAX ? -EINVAL : 0;
    }
    return -EINVAL;
}

static int plan_edge_memory(struct chunk_plan *p)
{
    for (unsigned i = 0; i < 2; i++) {
        if (p->edge[i].used) {
            p->edge[i].bytes = mem_zalloc(CHUNK_CELL);
            if (p->edge[i].bytes == NULL) {
                return -ENOMEM;
            }
        }
    }
    return 0;
}

/* Room for the table: a run for each cell at worst. */
static uint32_t plan_table_blocks(const struct chunk_plan *p, unsigned recent_count)
{
    uint32_t bytes = 4 + chunk_cells(p->new_length) * 16 + recent_count * 36;
    return bytes <= CHUNK_TABLE_INLINE ? 0 : (bytes + CHUNK_BLOCK - 1) / CHUNK_BLOCK;
}

int chunk_plan_new(const struct chunk_update *u, const struct chunk_entry *e,
                   struct chunk_plan **ret)
{
    int rc = plan_check(u);
    if (rc < 0) {
        return rc;
    }
    struct chunk_plan *p = mem_zalloc(sizeof *p);
    if (p == NULL) {
        return -ENOMEM;
    }
    bool keeps = u->kind != CHUNK_WHOLE && e->committed != NULL;
    p->old = keeps ? chunk_version_ref(e->committed) : NULL;
    p->old_length = keeps ? p->old->meta.length : 0;
    p->new_length = u->new_length;
    if (u->kind == CHUNK_WRITE) {
        p->from = u->offset;
        p->to = u->offset + u->length;
        p->new_length = (uint32_t)base_max(p->old_length, p->to);
        plan_write(p, e);
    } else if (u->kind == CHUNK_WHOLE) {
        p->to = u->new_length;
    } else {
        plan_set_length(p);
    }
    rc = plan_edge_memory(p);
    if (rc < 0) {
        chunk_plan_free(p);
        return rc;
    }
    bool apart = p->edge[0].used && (p->from == p->to || p->edge[0].cell < p->from / CHUNK_CELL);
    p->new_cells = (p->to > p->from ? chunk_cells(p->to) - p->from / CHUNK_CELL : 0) + apart;
    p->new_blocks =
        chunk_cells(p->to) - p->from / CHUNK_CELL + 1 + plan_table_blocks(p, CHUNK_RECENT_MAX);
    *ret = p;
    return 0;
}

struct chunk_plan *chunk_plan_free(struct chunk_plan *p)
{
    if (p != NULL) {
        chunk_version_unref(p->old);
        mem_free(p->edge[0].bytes);
        mem_free(p->edge[1].bytes);
        mem_free(p->iov);
        mem_free(p->tail);
        mem_free(p->table);
        mem_free(p);
    }
    return NULL;
}

/* ---- The new version ---- */

struct source { /* the caller's pieces */
    const struct iovec *iov;
    unsigned left;
    size_t used; /* of the first */
};

/* Takes `len` bytes: adds them to `to` (when not NULL); says whether all were zero (asked for). */
static unsigned source_take(struct source *src, size_t len, struct iovec *to, bool *zero)
{
    unsigned count = 0;
    while (len > 0) {
        CHECK(src->left > 0);
        size_t n = base_min(len, src->iov->iov_len - src->used);
        uint8_t *at = (uint8_t *)src->iov->iov_base + src->used;
        if (zero != NULL && n > 0) {
            *zero = *zero && at[0] == 0 && memcmp(at, at + 1, n - 1) == 0;
        }
        if (to != NULL && n > 0) {
            to[count++] = (struct iovec){.iov_base = at, .iov_len = n};
        }
        len -= n;
        src->used += n;
        if (src->used == src->iov->iov_len) {
            src->iov++;
            src->left--;
            src->used = 0;
        }
    }
    return count;
}

struct build {
    struct chunk_plan *p;
    struct chunk_version *v;
    const uint32_t *crc; /* the caller's, next one */
    struct source src;
    uint32_t next; /* number of the next new block */
};

static int build_room(struct chunk_plan *p, unsigned more)
{
    size_t capacity = p->iov_capacity;
    int rc = mem_grow(&p->iov, &capacity, (size_t)p->iov_count + more, sizeof *p->iov);
    p->iov_capacity = (unsigned)capacity;
    return rc;
}

static void build_piece(struct chunk_plan *p, uint8_t *at, size_t len)
{
    if (len == 0) {
        return;
    }
    CHECK(p->iov != NULL);
    struct iovec *last = p->iov_count > 0 ? &p->iov[p->iov_count - 1] : NULL;
    if (last != NULL && (uint8_t *)last->iov_base + last->iov_len == at) {
        last->iov_len += len;
        return;
    }
    p->iov[p->iov_count++] = (struct iovec){.iov_base = at, .iov_len = len};
}

/* New bytes joined to those that are there already when they follow them in memory. */
static int build_data(struct build *b, uint32_t len)
{
    struct chunk_plan *p = b->p;
    while (len > 0) {
        int rc = build_room(p, 1);
        if (rc < 0) {
            return rc;
        }
        while (b->src.iov->iov_len == b->src.used) { /* an empty piece */
            b->src.iov++;
            b->src.used = 0;
            b->src.left--;
            CHECK(b->src.left > 0);
        }
        size_t n = base_min(len, b->src.iov->iov_len - b->src.used);
        struct iovec one = {.iov_len = 0};
        (void)source_take(&b->src, n, &one, NULL);
        build_piece(p, one.iov_base, n);
        len -= (uint32_t)n;
    }
    return 0;
}

static void build_new_block(struct build *b, uint32_t cell)
{
    b->v->block[cell] = CHUNK_NEW_BLOCK + b->next++;
}

/* An edge: old bytes, new bytes, old bytes; whole in its new block. */
static int build_edge(struct build *b, struct chunk_edge *edge)
{
    struct chunk_plan *p = b->p;
    uint32_t bytes = chunk_cell_bytes(p->new_length, edge->cell);
    bool fresh = edge->to > edge->from;
    uint32_t crc = crc32c(0, edge->bytes, edge->from);
    if (fresh) {
        crc = crc32c_combine(crc, *b->crc++, edge->to - edge->from);
    }
    crc = crc32c(crc, edge->bytes + edge->to, bytes - edge->to);
    b->v->crc[edge->cell] = crc;
    bool shrunk = !fresh && bytes <= edge->old_bytes;
    if (shrunk || (!fresh && !edge->read)) {
        return 0; /* its block, or hole, serves on */
    }
    int rc = build_room(p, 2);
    if (rc == 0) {
        build_piece(p, edge->bytes, edge->from);
        rc = build_data(b, edge->to - edge->from);
    }
    rc = rc == 0 ? build_room(p, 1) : rc;
    if (rc == 0) {
        build_piece(p, edge->bytes + edge->to, bytes - edge->to);
        build_new_block(b, edge->cell);
    }
    return rc;
}

static int build_tail(struct build *b, uint32_t cell)
{
    struct chunk_plan *p = b->p;
    uint32_t from = p->from % CHUNK_CELL;
    uint32_t len = (uint32_t)base_min(CHUNK_CELL - from, p->to - p->from);
    p->tail = mem_calloc((size_t)b->src.left + 1, sizeof *p->tail);
    if (p->tail == NULL) {
        return -ENOMEM;
    }
    p->tail_count = source_take(&b->src, len, p->tail, NULL);
    p->tail_block = b->v->block[cell];
    p->tail_offset = from;
    b->v->crc[cell] = crc32c_combine(b->v->crc[cell], *b->crc++, len);
    return 0;
}

/* A cell that is all new; zeros are not stored. */
static int build_full(struct build *b, uint32_t cell)
{
    uint32_t bytes = chunk_cell_bytes(b->p->new_length, cell);
    uint32_t crc = *b->crc++;
    b->v->crc[cell] = crc;
    if (crc == crc32c_zeros(0, bytes)) {
        struct source look = b->src;
        bool zero = true;
        (void)source_take(&look, bytes, NULL, &zero);
        if (zero) {
            b->src = look;
            b->v->block[cell] = 0;
            return 0;
        }
    }
    build_new_block(b, cell);
    return build_data(b, bytes);
}

static struct chunk_edge *plan_edge(struct chunk_plan *p, uint32_t cell)
{
    for (unsigned i = 0; i < 2; i++) {
        if (p->edge[i].used && p->edge[i].cell == cell) {
            return &p->edge[i];
        }
    }
    return NULL;
}

static int build_cells(struct build *b)
{
    struct chunk_plan *p = b->p;
    uint32_t first = p->from / CHUNK_CELL, end = chunk_cells(p->to);
    struct chunk_edge *apart = &p->edge[0];
    if (apart->used && (p->from == p->to || apart->cell < first)) {
        int rc = build_edge(b, apart);
        if (rc < 0) {
            return rc;
        }
    }
    for (uint32_t cell = first; cell < end && p->to > p->from; cell++) {
        struct chunk_edge *edge = plan_edge(p, cell);
        int rc = edge != NULL                      ? build_edge(b, edge)
                 : cell == first && p->tail_append ? build_tail(b, cell)
                                                   : build_full(b, cell);
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* Old cells as they are, holes behind them. */
static void build_base(const struct chunk_plan *p, struct chunk_version *v)
{
    uint32_t cells = chunk_cells(p->new_length), old = chunk_cells(p->old_length);
    uint32_t keep = (uint32_t)base_min(cells, old);
    if (keep > 0) {
        memcpy(v->crc, p->old->crc, (size_t)keep * sizeof *v->crc);
        memcpy(v->block, p->old->block, (size_t)keep * sizeof *v->block);
    }
    uint32_t zeros = crc32c_zeros(0, CHUNK_CELL);
    for (uint32_t cell = keep; cell < cells; cell++) {
        uint32_t bytes = chunk_cell_bytes(p->new_length, cell);
        v->crc[cell] = bytes == CHUNK_CELL ? zeros : crc32c_zeros(0, bytes);
    }
}

static int build_check(const struct chunk_plan *p, const struct chunk_update *u)
{
    uint32_t cells = p->to > p->from ? chunk_cells(p->to) - p->from / CHUNK_CELL : 0;
    size_t bytes = 0;
    for (unsigned i = 0; i < u->data_count && bytes <= CHUNK_LENGTH_MAX; i++) {
        bytes += u->data[i].iov_len;
    }
    return u->crc_count != cells || bytes != p->to - p->from ||
                   u->recent_count > CHUNK_RECENT_MAX || chunk_identity_none(u->identity)
               ? -EINVAL
               : 0;
}

int chunk_plan_build(struct chunk_plan *p, const struct chunk_update *u,
                     const struct chunk_entry *e, struct chunk_version **ret)
{
    int rc = build_check(p, u);
    if (rc < 0) {
        return rc;
    }
    struct chunk_version *v = chunk_version_new(chunk_cells(p->new_length), u->recent_count);
    if (v == NULL) {
        return -ENOMEM;
    }
    bool keeps_flags = e->committed != NULL && u->kind != CHUNK_WHOLE;
    v->meta = (struct chunk_meta){.identity = u->identity,
                                  .base = u->base,
                                  .kind = (uint8_t)u->kind,
                                  .whole = !keeps_flags || p->new_length == 0 ||
                                           (p->from == 0 && p->to == p->new_length),
                                  .length = p->new_length,
                                  .tgen = u->tgen,
                                  .flags = (uint16_t)(u->flags & CHUNK_FLAGS_ALL & ~CHUNK_DAMAGED),
                                  .recent_count = u->recent_count};
    if (u->recent_count > 0) {
        memcpy(v->recent, u->recent, u->recent_count * sizeof *v->recent);
    }
    build_base(p, v);
    struct build b = {.p = p, .v = v, .crc = u->crc, .src = {u->data, u->data_count, 0}};
    rc = build_cells(&b);
    if (rc < 0) {
        chunk_version_unref(v);
        return rc;
    }
    p->cell_blocks = b.next;
    v->meta.digest = chunk_digest(p->new_length, v->crc);
    *ret = v;
    return 0;
}

/* ---- Places ---- */

static void place_cells(struct chunk_version *v, uint64_t from, uint64_t to)
{
    uint32_t cells = chunk_cells(v->meta.length);
    for (uint32_t cell = 0; cell < cells; cell++) {
        if (v->block[cell] >= from) {
            v->block[cell] = v->block[cell] - from + to;
        }
    }
}

/* How long the table is depends on where the cells lie, and that on how long it is: the few runs
 * more or less are settled by asking again. */
int chunk_plan_place(struct chunk_plan *p, struct chunk_version *v, uint32_t first_block)
{
    struct chunk_table t = {.length = v->meta.length,
                            .crc = v->crc,
                            .block = v->block,
                            .recent = v->recent,
                            .recent_count = v->meta.recent_count};
    /* New blocks keep their high numbers while it is measured, and so join no old run. */
    size_t len = chunk_table_encode(&t, NULL, 0);
    bool inside = len <= CHUNK_TABLE_INLINE;
    p->first_block = first_block;
    p->table_blocks = inside ? 0 : (uint32_t)((len + CHUNK_BLOCK - 1) / CHUNK_BLOCK);
    place_cells(v, CHUNK_NEW_BLOCK, first_block + p->table_blocks);
    v->own_blocks = p->table_blocks + p->cell_blocks;
    chunk_version_count(v);
    v->meta.table_block = inside ? 0 : first_block;
    if (inside) {
        return 0;
    }
    p->table = mem_zalloc((size_t)p->table_blocks * CHUNK_BLOCK);
    if (p->table == NULL || build_room(p, 1) < 0) {
        return -ENOMEM;
    }
    /* Joined runs only make it shorter. */
    v->meta.table_bytes = (uint32_t)chunk_table_encode(&t, p->table, len);
    v->meta.table_crc = crc32c(0, p->table, v->meta.table_bytes);
    memmove(p->iov + 1, p->iov, p->iov_count * sizeof *p->iov);
    p->iov[0] =
        (struct iovec){.iov_base = p->table, .iov_len = (size_t)p->table_blocks * CHUNK_BLOCK};
    p->iov_count++;
    return 0;
}
