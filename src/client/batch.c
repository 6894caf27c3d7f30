#include "client/batch_priv.h"

#include "client/inode_priv.h"

#include <string.h>

/*
 * Reads that gather until the end of the round: several for one target become a READ_BATCH. Each
 * has its own outcome there. Whatever is not plain success, a refusal, an update that is not
 * committed yet, a failing disk, is not believed but asked for again by a READ of its own, with all
 * that fetch.c does then. What becomes of the message as a whole becomes of each.
 */

/* Less than the message allows: from about there on what costs is copying, and one large buffer is
 * copied more slowly than many small ones that stay in the processor's cache. */
#define TOGETHER_CELLS 4u
#define TOGETHER_CELLS_ALL 64u
_Static_assert(TOGETHER_CELLS <= PROTO_BATCH_CELLS && TOGETHER_CELLS_ALL <= PROTO_BATCH_CELLS_ALL,
               "the message takes it");

struct client_batch {
    struct opendfs *fs;
    struct list node;  /* while it is filled */
    struct list reads; /* in order of their places; who has given up is not there any more */
    uint32_t target, cells;
    unsigned count, cap_count;
    struct peer_call call;
    struct proto_read_batch_request request;
    struct proto_read_item item[PROTO_BATCH_MAX];
    struct proto_capability cap[PROTO_BATCH_MAX];
    struct client_cap own[PROTO_BATCH_MAX]; /* whose bytes those point to */
};

static uint32_t gather_cells(const struct proto_read_request *m)
{
    uint64_t end = base_align_up((uint64_t)m->offset + m->length, PROTO_CELL_BYTES);
    uint64_t from = base_align_down(m->offset, PROTO_CELL_BYTES);
    return (uint32_t)base_min((end - from) / PROTO_CELL_BYTES, UINT32_MAX);
}

bool client_gather_small(const struct proto_read_request *m)
{
    return m->flags == 0 && m->length > 0 && gather_cells(m) <= TOGETHER_CELLS;
}

static void gather_end(struct client_gather *g, const struct peer_reply *r)
{
    g->active = false;
    g->batch = NULL;
    g->call->done(g->call, r);
}

static void gather_alone(struct client_gather *g)
{
    struct peer *p;
    int rc = client_map_peer(g->fs, g->target, &p);
    const struct peer_reply none = {.rc = rc};
    if (rc < 0) {
        gather_end(g, &none);
        return;
    }
    g->active = false;
    g->batch = NULL;
    peer_call(p, g->call);
}

/* ---- The answer ---- */

static bool batch_is_sound(const struct client_batch *b, const struct peer_reply *r)
{
    const struct proto_read_batch_reply *m = r->body;
    uint64_t bytes = 0;
    for (size_t i = 0; i < m->results.count; i++) {
        bytes += m->results.at[i].bytes;
    }
    return m->results.count == b->count && bytes == r->data.len;
}

static void batch_answered(struct client_gather *g, const struct peer_reply *r)
{
    const struct proto_read_batch_reply *m = r->body;
    const struct proto_read_result *x = &m->results.at[g->place];
    size_t at = 0;
    for (unsigned i = 0; i < g->place; i++) {
        at += m->results.at[i].bytes;
    }
    const struct proto_read_reply reply = {.route = g->request->route,
                                           .identity = x->identity,
                                           .length = x->length,
                                           .offset = x->offset,
                                           .crcs = x->crcs};
    const struct peer_reply one = {
        .answered = true,
        .body = &reply,
        .data = {.buf = r->data.buf, .at = r->data.at + at, .len = x->bytes}};
    const struct peer_reply none = {.answered = true, .body = &reply}; /* a hole */
    gather_end(g, x->bytes > 0 ? &one : &none);
}

static void batch_one_done(struct client_gather *g, const struct peer_reply *r, bool sound,
                           bool again)
{
    const struct proto_read_batch_reply *m = r->body;
    if (sound && m->results.at[g->place].rc == 0) {
        batch_answered(g, r);
    } else if (again) {
        gather_alone(g);
    } else {
        gather_end(g, r);
    }
}

static void batch_done(struct peer_call *call, const struct peer_reply *r)
{
    struct client_batch *b = container_of(call, struct client_batch, call);
    struct opendfs *fs = b->fs;
    bool unknown = r->answered && r->rc == -ERR_unknown_message;
    bool sound = r->rc == 0 && batch_is_sound(b, r);
    bool again = !fs->freeing && (r->rc == 0 || unknown || r->rc == -ERR_bad_value);
    struct client_source *s = fs->freeing ? NULL : client_map_source(fs, b->target);
    if (s != NULL && unknown) {
        s->gathering.alone = true;
    }
    for (struct list *at; (at = list_pop_front(&b->reads)) != NULL;) {
        batch_one_done(LIST_ENTRY(at, struct client_gather, node), r, sound, again);
    }
    mem_free(b);
}

/* ---- The message ---- */

static struct client_batch *batch_new(struct opendfs *fs, const struct client_gather *first)
{
    struct client_batch *b = mem_zalloc(sizeof *b);
    if (b != NULL) {
        b->fs = fs;
        b->target = first->target;
        list_init(&b->node);
        list_init(&b->reads);
        b->call = (struct peer_call){.done = batch_done,
                                     .request = &b->request,
                                     .opcode = PROTO_OP_read_batch,
                                     .slot = first->call->slot,
                                     .flags = first->call->flags,
                                     .timeout_ms = first->call->timeout_ms};
    }
    return b;
}

/* Of one file they have one. */
static uint32_t batch_capability(struct client_batch *b, const struct proto_capability *c)
{
    const struct proto_capability *last = b->cap_count == 0 ? NULL : &b->cap[b->cap_count - 1];
    bool same = last != NULL && last->data_id == c->data_id &&
                last->last_data_id == c->last_data_id && last->session == c->session &&
                last->rights == c->rights && last->cap_epoch == c->cap_epoch &&
                last->expiry_wall_ms == c->expiry_wall_ms && last->key_id == c->key_id;
    if (!same) {
        struct client_cap *own = &b->own[b->cap_count];
        client_cap_take(b->fs, own, c);
        b->cap[b->cap_count++] = own->cap;
    }
    return b->cap_count - 1;
}

static void batch_add(struct client_batch *b, struct client_gather *g)
{
    const struct proto_read_request *m = g->request;
    g->batch = b;
    g->place = b->count;
    b->item[b->count++] =
        (struct proto_read_item){.route = m->route,
                                 .chunk = m->chunk,
                                 .offset = m->offset,
                                 .length = m->length,
                                 .capability = batch_capability(b, &m->capability)};
    b->cells += gather_cells(m);
    b->call.timeout_ms = (uint32_t)base_min(b->call.timeout_ms, g->call->timeout_ms);
    b->call.flags &= g->call->flags;
    list_push_back(&b->reads, &g->node);
}

static bool batch_takes(const struct client_batch *b, const struct client_gather *g)
{
    return b->count < PROTO_BATCH_MAX && b->cells + gather_cells(g->request) <= TOGETHER_CELLS_ALL;
}

static void batch_send(struct client_batch *b)
{
    struct peer *p;
    int rc = client_map_peer(b->fs, b->target, &p);
    const struct peer_reply none = {.rc = rc};
    if (list_empty(&b->reads)) { /* all were given up just now */
        mem_free(b);
        return;
    }
    b->request =
        (struct proto_read_batch_request){.capabilities = {.at = b->cap, .count = b->cap_count},
                                          .items = {.at = b->item, .count = b->count}};
    if (rc < 0) {
        batch_done(&b->call, &none);
        return;
    }
    stats_count(&b->fs->counters.batches, 1);
    stats_count(&b->fs->counters.batch_items, b->count);
    peer_call(p, &b->call);
}

/* ---- The end of a round ---- */

/* Into the batch of its target; NULL: it goes by itself. */
static struct client_batch *gather_place(struct opendfs *fs, struct client_source *s,
                                         struct client_gather *g, struct list *batches)
{
    struct client_gathering *x = &s->gathering;
    if (x->count < 2 || x->alone) {
        return NULL;
    }
    if (x->filling == NULL || !batch_takes(x->filling, g)) {
        x->filling = batch_new(fs, g); /* the older one is on the list */
        if (x->filling != NULL) {
            list_push_back(batches, &x->filling->node);
        }
    }
    return x->filling;
}

/* How many there are of each target. */
static void gather_count(struct opendfs *fs, const struct list *reads)
{
    LIST_FOR_EACH(at, reads)
    {
        const struct client_gather *g = LIST_ENTRY(at, struct client_gather, node);
        struct client_source *s = client_map_source(fs, g->target);
        if (s != NULL) {
            s->gathering.count++;
        }
    }
}

static void gather_reset(struct opendfs *fs, uint32_t target)
{
    struct client_source *s = client_map_source(fs, target);
    if (s != NULL) {
        s->gathering.count = 0;
        s->gathering.filling = NULL;
    }
}

static void gather_flush(struct loop_task *t)
{
    struct opendfs *fs = container_of(t, struct opendfs, gather_task);
    struct list now, singles, batches;
    list_init(&now);
    list_init(&singles);
    list_init(&batches);
    list_splice_back(&now, &fs->gathering);
    gather_count(fs, &now);
    for (struct list *at; (at = list_pop_front(&now)) != NULL;) {
        struct client_gather *g = LIST_ENTRY(at, struct client_gather, node);
        struct client_source *s = client_map_source(fs, g->target);
        struct client_batch *b = s == NULL ? NULL : gather_place(fs, s, g, &batches);
        if (b != NULL) {
            batch_add(b, g);
        } else {
            list_push_back(&singles, &g->node);
        }
    }
    LIST_FOR_EACH(at, &batches)
    {
        gather_reset(fs, LIST_ENTRY(at, struct client_batch, node)->target);
    }
    LIST_FOR_EACH(at, &singles)
    {
        gather_reset(fs, LIST_ENTRY(at, struct client_gather, node)->target);
    }
    for (struct list *at; (at = list_pop_front(&singles)) != NULL;) {
        gather_alone(LIST_ENTRY(at, struct client_gather, node));
    }
    for (struct list *at; (at = list_pop_front(&batches)) != NULL;) {
        batch_send(LIST_ENTRY(at, struct client_batch, node));
    }
}

void client_gather_start(struct opendfs *fs, uint32_t target, struct client_gather *g)
{
    CHECK(!g->active);
    g->fs = fs;
    g->target = target;
    g->batch = NULL;
    g->active = true;
    list_push_back(&fs->gathering, &g->node);
    loop_defer(fs->loop, &fs->gather_task);
}

void client_gather_cancel(struct client_gather *g)
{
    struct client_batch *b = g->batch;
    const struct peer_reply cancelled = {.rc = -ERR_cancelled};
    CHECK(g->active);
    list_remove(&g->node);
    if (b != NULL && list_empty(&b->reads)) {
        peer_call_cancel(&b->call); /* nobody waits for any of it */
    }
    gather_end(g, &cancelled);
}

void client_gather_init(struct opendfs *fs)
{
    list_init(&fs->gathering);
    fs->gather_task.run = gather_flush;
}

void client_gather_fini(struct opendfs *fs)
{
    CHECK(list_empty(&fs->gathering));
    loop_undefer(fs->loop, &fs->gather_task);
}
