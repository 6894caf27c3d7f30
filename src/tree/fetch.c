/*
 * tree/fetch.c -- see fetch.h.
 *
 * A load brings one head or one part, and whoever lacks it waits for it. Loads stand in a queue, of
 * those that a reader waits for or of those for jobs, in the order in which they were asked for.
 * One at its front takes a slot when one is idle and its memory is charged, and with it go loads
 * behind it whose parts lie beside its own. A slot reads once, has all of it unpacked by one job,
 * and then its loads end.
 *
 * A load does not keep the node alive that it is for, only its head. So at the end each waiter's
 * name is looked up again: what is named no more is passed over, also when what was read is
 * damaged, for its place in the file may have been given to somebody else in the meantime.
 *
 * Memory that is not to be had stops the queue until a slot is given back, those who were served
 * have been told, or somebody says retry; with no slot in use and nobody to be told the load at the
 * front fails, so that nobody waits for himself.
 */
#include "tree/fetch.h"

#include <inttypes.h>
#include <string.h>

#include "base/dict.h"
#include "base/env.h"
#include "base/mem.h"
#include "loop/executor.h"
#include "loop/loop.h"
#include "tree/fetch_buffer_priv.h"

#define FETCH_ERRORS 8u            /* that are kept, for those who have met them */
#define FETCH_HERE_MAX (32u << 10) /* packed bytes that the loop unpacks itself */
#define FETCH_READS 32u
#define FETCH_READS_MAX 1024u
#define FETCH_JOBS_SHARE 4u          /* of the reads, this part is never for jobs, */
#define FETCH_JOBS_LEAST 8u          /* and this one is theirs, whoever waits */
#define FETCH_JOIN_MAX 64u           /* loads of one read */
#define FETCH_AHEAD_MAX 128u         /* loads under way, from when on nothing is read ahead */
#define FETCH_LOOK_MAX 512u          /* loads of the queue that are looked at for that */
#define FETCH_GAP_MAX (64u << 10)    /* bytes between two of them that are read for nothing */
#define FETCH_SPAN_MAX (1u << 20)    /* bytes of a joined read */
#define FETCH_JOB_RAW_MAX (4u << 20) /* bytes that one job unpacks, unless it is one part */
/* By how much readers may overdraw the cache; the larger one counts. */
#define FETCH_BEYOND_SHARE 16u
#define FETCH_BEYOND_BYTES (UINT64_C(64) << 10)
#define FETCH_CODECS_MAX 4u /* jobs at a time; the only memory that is not charged */

struct fetch_request;

struct fetch_wait {
    struct list node; /* of the load; alone: it is over */
    struct fetch_load *load;
    struct fetch_request *request;
    size_t item; /* of the need list */
};

struct fetch_request {
    struct kv_fetch *fetch;
    int rc;         /* the first failure; what is being read still ends before it is told */
    uint64_t error; /* its text; 0: none */
    enum tree_fetch_lane lane;
    size_t left, count;
    struct fetch_wait wait[]; /* count */
};

/* Of a head: block and version. Of a part: where it is in memory, and TREE_NO_VERSION. */
struct fetch_key {
    uint64_t id, version;
};

struct fetch_load {
    struct dict_node hash;
    struct fetch_key key;
    struct list node; /* of the queue, or of a slot */
    struct list waits;
    bool queued;
    enum tree_fetch_lane lane;
    uint64_t block;                       /* of the node */
    uint32_t index;                       /* of the partition; TREE_NEED_HEAD */
    struct tree_head *head;               /* reference: the part's; or the result */
    struct tree_part *part;               /* reference; NULL: it is a head */
    const struct tree_partition *checked; /* what the head says of the part */
    struct tree_part_place place;         /* when it was read; of a head: of all that is read */
    uint64_t charged;                     /* besides the buffer */
    uint8_t *raw;                         /* result */
    int rc;
};

struct fetch_slot {
    struct tree_fetcher *x;
    enum tree_fetch_lane lane;
    struct list node;  /* idle, or waiting for a codec */
    struct list loads; /* ascending */
    struct tree_file_read read;
    struct loop_executor_job job;
    struct fetch_buffer buffer;
    struct tree_codec *codec;
    uint64_t since_ns;
    struct err err; /* of the read, or of a head */
};

struct tree_fetcher {
    struct env env;
    struct tree_file *file;
    struct tree_nodes *nodes;
    struct tree_cache *cache;
    struct loop_executor *executor;
    struct tree_times *times;
    void (*idle_call)(void *arg);
    void *idle_arg;
    uint8_t file_id[TREE_FILE_ID_BYTES];
    struct dict loads; /* all of them */
    struct list queue[TREE_FETCH_LANES], unpack[TREE_FETCH_LANES], idle;
    bool starved;     /* the queues wait for memory */
    size_t under_way; /* slots in use, */
    size_t jobs;      /* and how many of them for jobs */
    size_t requests;  /* fetches that were not told yet */
    struct kv_fetch *over, **over_end;
    struct loop_task task; /* tells them */
    struct tree_codec codec[FETCH_CODECS_MAX], *codec_idle[FETCH_CODECS_MAX];
    size_t codec_count, codec_idle_count;
    struct fetch_buffers buffers;
    struct err error[FETCH_ERRORS];
    uint64_t errors; /* ever; the nth is at n % FETCH_ERRORS */
    size_t slot_count;
    struct fetch_slot slot[];
};

/* A read to come. */
struct fetch_span {
    struct fetch_load *load[FETCH_JOIN_MAX];
    size_t count;
    uint32_t low, high; /* in the extent */
    uint64_t cost;
};

static struct fetch_load *load_of(struct list *node)
{
    return LIST_ENTRY(node, struct fetch_load, node);
}

static struct fetch_slot *slot_of(struct list *node)
{
    return LIST_ENTRY(node, struct fetch_slot, node);
}

/* NULL: nobody can look for it any more. */
static struct tree_node *fetch_node(const struct tree_fetcher *x, uint64_t block, uint64_t version)
{
    struct tree_node *node = tree_nodes_find(x->nodes, block, version);
    return node != NULL && node->version == version ? node : NULL;
}

/* ---- loads ---- */

static bool load_equal(const struct dict_node *node, const void *key)
{
    const struct fetch_load *load = (const void *)node; /* `hash` is first */
    const struct fetch_key *k = key;
    return load->key.id == k->id && load->key.version == k->version;
}
static const struct dict_ops load_ops = {.equal = load_equal};

static void load_free(struct fetch_load *load)
{
    CHECK(list_empty(&load->waits));
    (void)tree_head_unref(load->head);
    (void)tree_part_unref(load->part);
    mem_free(load);
}

/* The one under way, or a new one behind all others of its lane. -ENOMEM. */
static int load_get(struct tree_fetcher *x, const struct fetch_load *like, struct fetch_load **ret)
{
    uint64_t hash = dict_hash(&x->loads, &like->key, sizeof like->key);
    struct dict_node *found = dict_find(&x->loads, hash, &like->key);
    if (found != NULL) {
        *ret = container_of(found, struct fetch_load, hash);
        if ((*ret)->queued && like->lane < (*ret)->lane) { /* now a reader waits, too */
            list_remove(&(*ret)->node);
            (*ret)->lane = like->lane;
            list_push_back(&x->queue[like->lane], &(*ret)->node);
        }
        return 0;
    }
    struct fetch_load *load = mem_dup(like, sizeof *like);
    int rc = load == NULL ? -ENOMEM : dict_insert(&x->loads, hash, &load->hash);
    if (rc < 0) {
        mem_free(load);
        return rc;
    }
    load->head = like->head == NULL ? NULL : tree_head_ref(like->head);
    load->part = like->part == NULL ? NULL : tree_part_ref(like->part);
    load->queued = true;
    list_init(&load->waits);
    list_push_back(&x->queue[load->lane], &load->node);
    *ret = load;
    return 0;
}

static void load_leave_queue(struct fetch_load *load)
{
    CHECK(load->queued);
    load->queued = false;
    list_remove(&load->node);
}

/* ---- who waits ---- */

/* Tells them later: never inside the call that asked. */
static void fetch_over(struct tree_fetcher *x, struct kv_fetch *f, int rc, uint64_t error)
{
    f->next = NULL;
    f->engine[0] = (uint64_t)-rc;
    f->engine[1] = error;
    *x->over_end = f;
    x->over_end = &f->next;
    loop_defer(x->env.loop, &x->task);
}

static size_t fetch_missing(const struct kv_need *n)
{
    size_t missing = 0;
    for (size_t i = 0; i < n->count; i++) {
        missing += n->item[i].pin == NULL ? 1 : 0;
    }
    return missing;
}

/* Is there nothing left that it waits for? */
static void request_check(struct tree_fetcher *x, struct fetch_request *r)
{
    if (r->left == 0) {
        struct kv_need *n = r->fetch->need;
        n->missing = fetch_missing(n);
        fetch_over(x, r->fetch, r->rc, r->error);
        mem_free(r);
    }
}

/* What was not begun and nobody else waits for never will be. */
static void request_fail(struct tree_fetcher *x, struct fetch_request *r, int rc)
{
    r->rc = r->rc < 0 ? r->rc : rc;
    for (size_t i = 0; i < r->count; i++) {
        struct fetch_wait *w = &r->wait[i];
        if (list_empty(&w->node) || !w->load->queued) {
            continue;
        }
        list_remove(&w->node);
        r->left--;
        if (list_empty(&w->load->waits)) {
            load_leave_queue(w->load);
            dict_remove(&x->loads, &w->load->hash);
            load_free(w->load);
        }
    }
}

static int request_wait(struct tree_fetcher *x, struct fetch_request *r, size_t item,
                        const struct fetch_load *like)
{
    struct fetch_load *load = NULL;
    int rc = load_get(x, like, &load);
    if (rc == 0) {
        struct fetch_wait *w = &r->wait[r->count++];
        *w = (struct fetch_wait){.load = load, .request = r, .item = item};
        list_push_back(&load->waits, &w->node);
        r->left++;
    }
    return rc;
}

/* ---- the end of a load ---- */

static void load_describe(struct tree_fetcher *x, const struct fetch_load *load,
                          const struct err *known)
{
    const struct tree_part_place *at = &load->place;
    struct err *e = &x->error[++x->errors % FETCH_ERRORS];
    *e = (struct err){0};
    if (known != NULL && known->code != 0) {
        *e = *known;
    } else if (load->part == NULL) {
        err_set(e, load->rc, "block %" PRIu64 ", header at 0x%" PRIx64, load->block, at->extent);
    } else {
        err_set(e, load->rc,
                "block %" PRIu64 ", partition %" PRIu32 " at offset %" PRIu32
                " of the extent at 0x%" PRIx64,
                load->block, load->index, at->offset, at->extent);
    }
}

/* Hands out what came in. */
static void load_fill(struct tree_fetcher *x, struct fetch_load *load)
{
    if (load->part != NULL && load->raw != NULL) {
        if (tree_part_fill(load->part, load->raw)) {
            load->charged = 0; /* it is the part's */
        } else {
            tree_cache_put(x->cache, load->raw, load->part->raw_len);
        }
        load->raw = NULL;
        return;
    }
    if (load->part == NULL && load->head != NULL) {
        struct tree_node *node = fetch_node(x, load->block, load->key.version);
        if (node != NULL) {
            tree_node_fill(x->nodes, node, load->head);
            load->head = NULL;
        }
    }
}

static void wait_over(struct tree_fetcher *x, const struct fetch_load *load, struct fetch_wait *w,
                      const struct err *known)
{
    struct fetch_request *r = w->request;
    struct kv_need_item *item = &r->fetch->need->item[w->item];
    struct tree_need_name name = tree_need_name(item);
    struct tree_node *node = fetch_node(x, name.block, name.version);
    r->left--;
    if (node != NULL && load->rc < 0) {
        if (err_is(load->rc, EIO) && r->rc == 0) {
            load_describe(x, load, known);
            r->error = x->errors;
        }
        request_fail(x, r, load->rc);
    } else if (node != NULL && name.part == TREE_NEED_HEAD) {
        if (tree_node_pin(node)) {
            tree_need_set_node(item, node);
        }
    } else if (node != NULL && load->part != NULL && tree_part_hold(load->part)) {
        tree_need_set_part(item, load->part);
    }
    request_check(x, r);
}

/* Written anew meanwhile: nobody may have kept the extent that was read. */
static bool load_has_moved(const struct fetch_load *load)
{
    const struct tree_part *p = load->part;
    return p != NULL &&
           (p->place.extent != load->place.extent || p->place.birth != load->place.birth ||
            p->place.offset != load->place.offset);
}

/* `known`: the text of its failure, if there is one already. */
static void load_end(struct tree_fetcher *x, struct fetch_load *load, const struct err *known)
{
    struct list *node;
    dict_remove(&x->loads, &load->hash);
    if (err_is(load->rc, EIO) && load_has_moved(load)) {
        load->rc = 0; /* nothing came in, so it is asked for again */
    }
    if (load->rc == 0) {
        load_fill(x, load);
    }
    while ((node = list_pop_front(&load->waits)) != NULL) {
        wait_over(x, load, LIST_ENTRY(node, struct fetch_wait, node), known);
    }
    tree_cache_give(x->cache, load->charged);
    load_free(load);
}

/* ---- unpacking, on any thread ---- */

static uint64_t slot_time(struct fetch_slot *s, enum tree_time what, uint64_t bytes, uint64_t since)
{
    uint64_t now = loop_now_ns(s->x->env.loop);
    tree_time_add(s->x->times, what, now - since, bytes);
    return now;
}

/* Is it what the header says, and does it belong where it is? */
static int load_check(const struct tree_fetcher *x, const struct fetch_load *load,
                      const uint8_t *raw)
{
    const struct tree_head *h = load->head;
    struct tree_block block;
    struct tree_ranges ranges;
    struct tree_filter filter;
    int rc = 0;
    switch (load->checked->kind) {
    case TREE_PARTITION_LEAF:
    case TREE_PARTITION_RUN:
        return tree_pivots_open_block(&h->pivots, &h->header, load->index, raw, &block);
    case TREE_PARTITION_RANGES:
        return tree_pivots_open_ranges(&h->pivots, &h->header, load->index, raw, &ranges);
    default:
        rc = tree_filter_open(raw, load->checked->raw_len,
                              tree_seed(x->file_id, load->place.block, load->place.birth), &filter);
        return rc == 0 && filter.kind != TREE_FILTER_BLOOM ? -ERR_bad_value : rc;
    }
}

static int load_unpack(struct fetch_slot *s, struct fetch_load *load, const uint8_t *packed)
{
    const struct tree_part_place *at = &load->place;
    uint32_t raw_len = load->checked->raw_len;
    uint64_t since = loop_now_ns(s->x->env.loop);
    if (tree_sum(tree_seed(s->x->file_id, at->block, at->birth), packed, at->packed_len) !=
        at->sum) {
        return -ERR_bad_crc;
    }
    uint8_t *raw = tree_cache_get(s->x->cache, raw_len);
    if (raw == NULL) {
        return -ENOMEM;
    }
    int rc = tree_codec_unpack(s->codec, packed, at->packed_len, raw, raw_len);
    since = slot_time(s, TREE_TIME_DECOMPRESS, raw_len, since);
    if (rc == 0) {
        rc = load_check(s->x, load, raw);
        (void)slot_time(s, TREE_TIME_DESERIALISE, raw_len, since);
    }
    if (rc < 0) {
        tree_cache_put(s->x->cache, raw, raw_len);
        return rc;
    }
    load->raw = raw;
    return 0;
}

static int load_decode(struct fetch_slot *s, struct fetch_load *load, const uint8_t *bytes)
{
    const struct tree_part_place *at = &load->place;
    const struct tree_node_expect expect = {
        .file_id = s->x->file_id, .block = load->block, .birth = at->birth, .sum = at->sum};
    const struct tree_head_read r = {.cache = s->x->cache,
                                     .bytes = bytes,
                                     .len = at->packed_len,
                                     .expect = &expect,
                                     .extent_offset = at->extent,
                                     .codec = s->codec};
    uint64_t since = loop_now_ns(s->x->env.loop);
    int rc = tree_head_decode(&r, &load->head, &s->err);
    (void)slot_time(s, TREE_TIME_DESERIALISE, at->packed_len, since);
    return rc;
}

static void slot_work(struct loop_executor_job *j)
{
    struct fetch_slot *s = container_of(j, struct fetch_slot, job);
    LIST_FOR_EACH(node, &s->loads)
    {
        struct fetch_load *load = load_of(node);
        const uint8_t *at = s->buffer.bytes + (load->place.offset - s->read.offset);
        load->rc = load->part == NULL ? load_decode(s, load, at) : load_unpack(s, load, at);
    }
}

/* ---- slots ---- */

static void fetch_pump(struct tree_fetcher *x);

static void slot_end(struct fetch_slot *s)
{
    struct tree_fetcher *x = s->x;
    struct list *node;
    if (s->codec != NULL) {
        x->codec_idle[x->codec_idle_count++] = s->codec;
        s->codec = NULL;
    }
    while ((node = list_pop_front(&s->loads)) != NULL) {
        load_end(x, load_of(node), &s->err);
    }
    tree_fetch_buffer_put(&x->buffers, s->buffer);
    s->buffer = (struct fetch_buffer){0};
    list_push_front(&x->idle, &s->node);
    x->under_way--;
    x->jobs -= s->lane == TREE_FETCH_JOB ? 1 : 0;
    x->starved = false;
}

static void slot_fail(struct fetch_slot *s, int rc)
{
    LIST_FOR_EACH(node, &s->loads)
    {
        load_of(node)->rc = rc;
    }
    slot_end(s);
}

static void slot_worked(struct loop_executor_job *j)
{
    struct fetch_slot *s = container_of(j, struct fetch_slot, job);
    struct tree_fetcher *x = s->x;
    slot_end(s);
    fetch_pump(x);
}

/* -ENOMEM: none is left and none can be made. */
static int codec_get(struct tree_fetcher *x, struct tree_codec **ret)
{
    if (x->codec_idle_count == 0) {
        if (x->codec_count == FETCH_CODECS_MAX) {
            return -ENOMEM;
        }
        int rc = tree_codec_init(&x->codec[x->codec_count], NULL);
        if (rc < 0) {
            return rc;
        }
        x->codec_idle[x->codec_idle_count++] = &x->codec[x->codec_count++];
    }
    *ret = x->codec_idle[--x->codec_idle_count];
    return 0;
}

/* What has been read goes to the executor. What is small takes less time than that would, and when
 * the executor is full there is no other way: then the loop does the work. */
static void fetch_pump_unpack(struct tree_fetcher *x)
{
    while (!list_empty(&x->unpack[TREE_FETCH_READER]) || !list_empty(&x->unpack[TREE_FETCH_JOB])) {
        bool reader = !list_empty(&x->unpack[TREE_FETCH_READER]);
        struct fetch_slot *s = slot_of(x->unpack[reader ? TREE_FETCH_READER : TREE_FETCH_JOB].next);
        int rc = codec_get(x, &s->codec);
        if (rc < 0 && x->codec_count > 0) {
            return; /* until one is given back */
        }
        list_remove(&s->node);
        if (rc < 0) {
            slot_fail(s, rc);
            continue;
        }
        s->job = (struct loop_executor_job){.work = slot_work, .done = slot_worked};
        if (s->read.len <= FETCH_HERE_MAX ||
            loop_executor_submit(x->executor, x->env.loop, &s->job) < 0) {
            slot_work(&s->job);
            slot_end(s);
        }
    }
}

/* What a fetch may say, see kv.h. A full queue of the disk is a lack of room like another. */
static int fetch_code(int rc)
{
    if (rc == -ENOMEM || err_is(rc, EIO)) {
        return rc;
    }
    return err_is(rc, EAGAIN) ? -ENOMEM : -EIO;
}

static void slot_read_done(struct tree_file_read *r, int rc)
{
    struct fetch_slot *s = container_of(r, struct fetch_slot, read);
    struct tree_fetcher *x = s->x;
    (void)slot_time(s, TREE_TIME_READ, r->len, s->since_ns);
    if (rc < 0) {
        s->err = r->err;
        slot_fail(s, fetch_code(rc));
    } else {
        list_push_back(&x->unpack[s->lane], &s->node);
    }
    fetch_pump(x);
}

/* -ENOMEM: nothing has changed. */
static int slot_begin(struct tree_fetcher *x, const struct fetch_span *span)
{
    const struct tree_part_place *place = &span->load[0]->place;
    struct fetch_slot *s = slot_of(x->idle.next);
    uint32_t low = (uint32_t)base_align_down(span->low, TREE_UNIT);
    uint32_t high = (uint32_t)base_align_up(span->high, TREE_UNIT);
    CHECK(high <= place->extent_len && low < high);
    int rc = tree_fetch_buffer_get(&x->buffers, high - low, span->cost, &s->buffer);
    if (rc < 0) {
        return rc;
    }
    list_remove(&s->node);
    for (size_t i = 0; i < span->count; i++) {
        load_leave_queue(span->load[i]);
        list_push_back(&s->loads, &span->load[i]->node);
        span->load[i]->charged =
            span->load[i]->part == NULL ? span->cost : span->load[i]->part->raw_len;
    }
    s->err = (struct err){0};
    s->since_ns = loop_now_ns(x->env.loop);
    s->lane = span->load[0]->lane;
    s->read = (struct tree_file_read){
        .done = slot_read_done,
        .block = span->load[0]->block,
        .extent = {.unit = place->extent / TREE_UNIT, .count = place->extent_len / TREE_UNIT},
        .offset = low,
        .len = high - low,
        .buf = s->buffer.bytes};
    x->under_way++;
    x->jobs += s->lane == TREE_FETCH_JOB ? 1 : 0;
    tree_file_read(x->file, &s->read);
    return 0;
}

/* ---- what is read next ---- */

/* It ends without having been read. */
static int load_skip(struct tree_fetcher *x, struct fetch_load *load, int rc)
{
    load->rc = rc;
    load_leave_queue(load);
    load_end(x, load, NULL);
    return 0;
}

static int fetch_begin_head(struct tree_fetcher *x, struct fetch_load *load)
{
    const struct tree_node *node = fetch_node(x, load->block, load->key.version);
    if (node == NULL) {
        return load_skip(x, load, 0);
    }
    CHECK(node->written);
    const struct tree_file_place *p = &node->place;
    load->place = (struct tree_part_place){.block = load->block,
                                           .extent = tree_space_offset(p->extent),
                                           .birth = p->birth,
                                           .extent_len = (uint32_t)tree_space_bytes(p->extent),
                                           .packed_len = p->header_len,
                                           .sum = p->checksum};
    if (p->header_len < TREE_NODE_FIXED_BYTES || p->header_len > load->place.extent_len) {
        return load_skip(x, load, -ERR_bad_length);
    }
    struct fetch_span span = {
        .load = {load}, .count = 1, .high = p->header_len, .cost = tree_head_cost(p->header_len)};
    return slot_begin(x, &span);
}

static uint32_t load_high(const struct fetch_load *load)
{
    return load->place.offset + load->place.packed_len;
}

static bool fetch_same_extent(const struct tree_part_place *a, const struct tree_part_place *b)
{
    return a->extent == b->extent && a->birth == b->birth && a->extent_len == b->extent_len;
}

/* Loads of parts in the extent of the first one, ascending; where the first one is. It is the first
 * of the queue. */
static size_t fetch_look(struct tree_fetcher *x, struct fetch_load *first,
                         struct fetch_load *ret[FETCH_JOIN_MAX], size_t *ret_count)
{
    size_t count = 1, looked = 0, at = 0;
    struct list *n = first->node.next;
    first->place = first->part->place;
    ret[0] = first;
    for (; n != &x->queue[first->lane] && count < FETCH_JOIN_MAX && looked < FETCH_LOOK_MAX;
         n = n->next) {
        struct fetch_load *load = load_of(n);
        looked++;
        if (load->part == NULL || !fetch_same_extent(&load->part->place, &first->place)) {
            continue;
        }
        load->place = load->part->place;
        size_t i = count++;
        for (; i > 0 && ret[i - 1]->place.offset > load->place.offset; i--) {
            ret[i] = ret[i - 1];
        }
        ret[i] = load;
        at += i <= at ? 1 : 0;
    }
    *ret_count = count;
    return at;
}

/* Does the next one fit to those that are to be read together? */
static bool span_take(struct fetch_span *span, const struct fetch_load *load)
{
    uint32_t low = (uint32_t)base_min(span->low, load->place.offset);
    uint32_t high = (uint32_t)base_max(span->high, load_high(load));
    bool near = load->place.offset <= (uint64_t)span->high + FETCH_GAP_MAX &&
                (uint64_t)load_high(load) + FETCH_GAP_MAX >= span->low;
    uint64_t cost = span->cost + load->part->raw_len;
    if (!near || high - low > FETCH_SPAN_MAX || cost > FETCH_JOB_RAW_MAX) {
        return false;
    }
    span->low = low;
    span->high = high;
    span->cost = cost;
    return true;
}

static int fetch_begin_part(struct tree_fetcher *x, struct fetch_load *first)
{
    struct fetch_load *found[FETCH_JOIN_MAX];
    struct fetch_span span = {.load = {first}, .count = 1}, alone;
    size_t count = 0, at = fetch_look(x, first, found, &count);
    CHECK(!tree_part_is_dirty(first->part)); /* or it would be in memory */
    span.low = first->place.offset;
    span.high = load_high(first);
    span.cost = first->part->raw_len;
    alone = span;
    size_t low = at, high = at + 1;
    while (high < count && span_take(&span, found[high])) {
        high++;
    }
    while (low > 0 && span_take(&span, found[low - 1])) {
        low--;
    }
    span.count = high - low;
    for (size_t i = 0; i < span.count; i++) {
        span.load[i] = found[low + i];
    }
    int rc = slot_begin(x, &span);
    return rc < 0 && span.count > 1 ? slot_begin(x, &alone) : rc;
}

/* NULL: nothing may be read now. */
static struct fetch_load *fetch_next(const struct tree_fetcher *x)
{
    const struct list *readers = &x->queue[TREE_FETCH_READER], *jobs = &x->queue[TREE_FETCH_JOB];
    size_t least = base_max(x->slot_count / FETCH_JOBS_LEAST, 1);
    size_t most = base_max(x->slot_count - x->slot_count / FETCH_JOBS_SHARE, 1);
    bool reader = !list_empty(readers), job = !list_empty(jobs) && x->jobs < most;
    if (x->starved || list_empty(&x->idle) || !(reader || job)) {
        return NULL;
    }
    return load_of(job && (!reader || x->jobs < least) ? jobs->next : readers->next);
}

static int fetch_begin(struct tree_fetcher *x, struct fetch_load *load)
{
    return load->part == NULL ? fetch_begin_head(x, load) : fetch_begin_part(x, load);
}

/* Nobody is under way who could give memory back. What cannot be written, on a full disk say, may
 * have all of it for ever: readers go on, one read at a time, with a little more than there is. */
static int fetch_begin_beyond(struct tree_fetcher *x, struct fetch_load *load)
{
    struct tree_cache_info info;
    if (load->lane != TREE_FETCH_READER) {
        return -ENOMEM;
    }
    tree_cache_info(x->cache, &info);
    x->buffers.beyond = base_max(info.limit / FETCH_BEYOND_SHARE, FETCH_BEYOND_BYTES);
    int rc = fetch_begin(x, load);
    x->buffers.beyond = 0;
    return rc;
}

static void fetch_pump(struct tree_fetcher *x)
{
    fetch_pump_unpack(x);
    for (struct fetch_load *load = fetch_next(x); load != NULL; load = fetch_next(x)) {
        int rc = fetch_begin(x, load);
        bool alone = x->under_way == 0 && x->over == NULL;
        rc = rc == -ENOMEM && alone ? fetch_begin_beyond(x, load) : rc;
        if (rc < 0 && (x->under_way > 0 || x->over != NULL)) {
            x->starved = true;
        } else if (rc < 0) {
            (void)load_skip(x, load, rc);
        }
    }
    if (x->idle_call != NULL && !tree_fetcher_busy(x)) { /* nobody waited for the last one */
        loop_defer(x->env.loop, &x->task);
    }
}

/* ---- fetches ---- */

static void fetch_like(const struct tree_node *node, uint32_t index, struct fetch_load *ret)
{
    struct tree_head *h = node->head;
    *ret = (struct fetch_load){.key = {(uintptr_t)h->part[index], TREE_NO_VERSION},
                               .block = node->block,
                               .index = index,
                               .head = h,
                               .part = h->part[index],
                               .checked = &h->header.partition[index]};
}

static int fetch_part(struct tree_fetcher *x, struct fetch_request *r, size_t i,
                      const struct tree_node *node)
{
    struct kv_need_item *item = &r->fetch->need->item[i];
    struct tree_head *h = node->head;
    uint32_t index = tree_need_name(item).part;
    if (index >= h->header.partition_count) {
        return 0;
    }
    struct tree_part *part = h->part[index];
    if (tree_part_hold(part)) {
        tree_need_set_part(item, part);
        return 0;
    }
    struct fetch_load like;
    fetch_like(node, index, &like);
    like.lane = r->lane;
    return request_wait(x, r, i, &like);
}

static int fetch_item(struct tree_fetcher *x, struct fetch_request *r, size_t i)
{
    struct kv_need_item *item = &r->fetch->need->item[i];
    struct tree_need_name name = tree_need_name(item);
    struct tree_node *node = fetch_node(x, name.block, name.version);
    if (node == NULL) {
        return 0;
    }
    if (!tree_node_pin(node)) {
        struct fetch_load like = {.key = {name.block, name.version},
                                  .block = name.block,
                                  .index = TREE_NEED_HEAD,
                                  .lane = r->lane};
        return request_wait(x, r, i, &like);
    }
    if (name.part == TREE_NEED_HEAD) {
        tree_need_set_node(item, node);
        return 0;
    }
    int rc = fetch_part(x, r, i, node);
    tree_node_unpin(node);
    return rc;
}

void tree_fetcher_fetch(struct tree_fetcher *x, enum tree_fetch_lane lane, struct kv_fetch *f)
{
    LOOP_OWNED(x->env.loop);
    const struct kv_need *need = f->need;
    size_t missing = fetch_missing(need);
    int rc = 0;
    x->requests++;
    if (missing == 0) {
        fetch_over(x, f, 0, 0);
        return;
    }
    struct fetch_request *r = mem_zalloc(sizeof *r + missing * sizeof r->wait[0]);
    if (r == NULL) {
        fetch_over(x, f, -ENOMEM, 0);
        return;
    }
    r->fetch = f;
    r->lane = lane;
    for (size_t i = 0; i < need->count && rc == 0; i++) {
        rc = need->item[i].pin == NULL ? fetch_item(x, r, i) : 0;
    }
    if (rc < 0) {
        request_fail(x, r, rc);
    }
    request_check(x, r);
    fetch_pump(x);
}

void tree_fetcher_ahead(struct tree_fetcher *x, struct tree_node *node, uint32_t first,
                        uint32_t count)
{
    struct fetch_load like = {
        .key = {node->block, node->version}, .block = node->block, .index = TREE_NEED_HEAD};
    struct fetch_load *load = NULL;
    LOOP_OWNED(x->env.loop);
    int rc = x->loads.count < FETCH_AHEAD_MAX ? 0 : -ERR_busy;
    if (rc == 0 && !tree_node_pin(node)) {
        (void)load_get(x, &like, &load); /* nobody waits for it */
    } else if (rc == 0) {
        struct tree_head *h = node->head;
        uint32_t end = (uint32_t)base_min((uint64_t)first + count, h->header.partition_count);
        for (; first < end && rc == 0 && x->loads.count < FETCH_AHEAD_MAX; first++) {
            fetch_like(node, first, &like);
            rc = tree_part_is_absent(h->part[first]) ? load_get(x, &like, &load) : 0;
        }
        tree_node_unpin(node);
    }
    fetch_pump(x); /* what could not be asked for will be missed by somebody */
}

static void fetch_task(struct loop_task *t)
{
    struct tree_fetcher *x = container_of(t, struct tree_fetcher, task);
    /* What ends inside a callback waits for the next turn. Those who were not told yet stay in the
     * list, so that whoever lacks memory waits for them. */
    struct kv_fetch *last =
        x->over == NULL ? NULL : container_of(x->over_end, struct kv_fetch, next);
    bool end = last == NULL, more = false, idle = end && !tree_fetcher_busy(x);
    void (*idle_call)(void *arg) = x->idle_call;
    void *idle_arg = x->idle_arg;
    while (!end) { /* the last callback may free the fetcher, if there is no more */
        struct kv_fetch *f = x->over;
        CHECK(f != NULL);
        end = f == last;
        x->over = f->next;
        x->over_end = x->over == NULL ? &x->over : x->over_end;
        x->requests--;
        more = x->loads.count > 0;
        idle = x->requests == 0 && !more;
        f->done(f, -(int)f->engine[0]);
    }
    if (idle && idle_call != NULL) {
        idle_call(idle_arg);
    }
    if (more) { /* they may have given memory back */
        tree_fetcher_retry(x);
    }
}

void tree_fetcher_retry(struct tree_fetcher *x)
{
    LOOP_OWNED(x->env.loop);
    x->starved = false;
    fetch_pump(x);
}

/* ---- life ---- */

static const struct tree_fetcher_options *fetcher_options(const struct tree_fetcher_options *opt)
{
    CHECK(opt->env != NULL && opt->file != NULL && opt->nodes != NULL && opt->cache != NULL);
    CHECK(opt->executor != NULL && opt->times != NULL && opt->file_id != NULL);
    return opt;
}

int tree_fetcher_new(const struct tree_fetcher_options *o, struct tree_fetcher **ret)
{
    const struct tree_fetcher_options *opt = fetcher_options(o);
    size_t slots = base_min(opt->reads_max == 0 ? FETCH_READS : opt->reads_max, FETCH_READS_MAX);
    struct tree_fetcher *x = mem_zalloc(sizeof *x + slots * sizeof x->slot[0]);
    if (x == NULL) {
        return -ENOMEM;
    }
    x->env = *opt->env;
    x->file = opt->file;
    x->nodes = opt->nodes;
    x->cache = opt->cache;
    x->executor = opt->executor;
    x->times = opt->times;
    x->idle_call = opt->idle;
    x->idle_arg = opt->idle_arg;
    memcpy(x->file_id, opt->file_id, sizeof x->file_id);
    tree_fetch_buffers_init(&x->buffers, x->cache);
    dict_init(&x->loads, &load_ops, x, loop_random(x->env.loop));
    list_init(&x->idle);
    for (unsigned i = 0; i < TREE_FETCH_LANES; i++) {
        list_init(&x->queue[i]);
        list_init(&x->unpack[i]);
    }
    x->over_end = &x->over;
    x->task.run = fetch_task;
    x->slot_count = slots;
    for (size_t i = 0; i < slots; i++) {
        x->slot[i].x = x;
        list_init(&x->slot[i].loads);
        list_push_back(&x->idle, &x->slot[i].node);
    }
    *ret = x;
    return 0;
}

bool tree_fetcher_busy(const struct tree_fetcher *x)
{
    return x->requests > 0 || x->loads.count > 0;
}

uint64_t tree_fetcher_memory(const struct tree_fetcher *x)
{
    uint64_t bytes = sizeof *x + x->slot_count * sizeof x->slot[0];
    for (size_t i = 0; i < x->codec_count; i++) {
        bytes += tree_codec_memory(&x->codec[i]);
    }
    return bytes;
}

struct tree_fetcher *tree_fetcher_free(struct tree_fetcher *x)
{
    if (x != NULL) {
        CHECK(!tree_fetcher_busy(x) && x->under_way == 0);
        loop_undefer(x->env.loop, &x->task);
        tree_fetch_buffers_fini(&x->buffers);
        for (size_t i = 0; i < x->codec_count; i++) {
            tree_codec_fini(&x->codec[i]);
        }
        dict_fini(&x->loads);
        mem_free(x);
    }
    return NULL;
}

const struct err *tree_fetcher_error(const struct tree_fetcher *x, const struct kv_fetch *f)
{
    uint64_t nth = f != NULL ? f->engine[1] : x->errors;
    bool kept = nth > 0 && x->errors - nth < FETCH_ERRORS;
    return kept ? &x->error[nth % FETCH_ERRORS] : NULL;
}
