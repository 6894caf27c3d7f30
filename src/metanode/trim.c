/*
 * metanode/trim.c -- removes what lies behind the end of truncated files: each chain of the layout
 * is asked which chunks it has from the boundary on; the boundary chunk is cut, later ones become
 * empty, all with the truncate generation of the record, so that a late repetition has no effect on
 * newer contents. When all chains are through, the log says so.
 */
#include "metanode/metanode_priv.h"

#define TRIM_PAGE 16u
#define TRIM_CHUNKS 256u /* cut before the next question */
/* A data node of an older version answers for so many numbers, there or not: of one that has said
 * so often that there is nothing, no more is asked. */
#define TRIM_OLD_STEP 1024u
#define TRIM_OLD_BLANK 64u

struct trim {
    struct metanode_errand_item item; /* first */
    struct metanode_waiter waiter;
    struct peer_call call;
    struct proto_stat_request stat;
    struct proto_write_request write;
    uint8_t mac[CLUSTER_MAC_BYTES];
    uint64_t ino, from;
    uint32_t tgen;
    struct proto_layout layout;
    uint32_t chains[CLUSTER_STRIPE_MAX];
    size_t chain_count, at;
    uint32_t next_index; /* of the next question */
    bool more, fenced;
    unsigned blank;            /* such answers in a row */
    uint32_t cut[TRIM_CHUNKS]; /* chunks to cut, from the last answer */
    size_t cut_count, cut_at;
};

_Static_assert(offsetof(struct trim, item) == 0, "an errand frees its items");

static void trim_step(struct trim *t);

static void trim_logged(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct trim *t = container_of(w, struct trim, waiter);
    /* Busy: a fence of the writer was still on its way. Stale: it was cut again meanwhile. */
    metanode_errand_end(&t->item, rc == 0 && reply->rc == 0);
}

static void trim_log(struct trim *t)
{
    struct namespace_trim_done body = {.ino = t->ino, .tgen = t->tgen, .fenced = t->fenced};
    t->waiter.done = trim_logged;
    if (metanode_propose(t->item.errand->m, NAMESPACE_TRIM_DONE, &namespace_trim_done_type, &body,
                         &t->waiter) < 0) {
        metanode_errand_end(&t->item, false);
    }
}

static struct proto_capability trim_capability(struct trim *t)
{
    struct proto_capability c = {.data_id = t->layout.data_id,
                                 .last_data_id = t->layout.data_id,
                                 .session = METANODE_CLIENT,
                                 .rights = PROTO_RIGHT_READ | PROTO_RIGHT_WRITE,
                                 .cap_epoch = UINT64_MAX};
    metanode_sign(t->item.errand->m, &c, t->mac);
    return c;
}

static uint32_t trim_length(const struct trim *t, uint32_t index)
{
    uint64_t boundary = t->from / t->layout.chunk_size;
    return index == boundary ? (uint32_t)(t->from % t->layout.chunk_size) : 0;
}

static void trim_written(struct peer_call *call, const struct peer_reply *r)
{
    struct trim *t = container_of(call, struct trim, call);
    bool newer = r->rc == -ERR_stale_trunc || r->rc == -ERR_stale_request || r->rc == -ERR_gone;
    if (r->rc < 0 && !newer) {
        metanode_errand_end(&t->item, false);
        return;
    }
    t->cut_at++;
    trim_step(t);
}

static void trim_statted(struct peer_call *call, const struct peer_reply *r)
{
    struct trim *t = container_of(call, struct trim, call);
    if (r->rc < 0 && r->rc != -ERR_gone) {
        metanode_errand_end(&t->item, false);
        return;
    }
    const struct proto_stat_reply *reply = r->rc == 0 ? r->body : NULL;
    t->cut_count = 0;
    t->cut_at = 0;
    bool blank = reply != NULL && reply->more && reply->chunks.count == 0 &&
                 reply->next_index - t->next_index == TRIM_OLD_STEP;
    t->blank = blank ? t->blank + 1 : 0;
    t->more = reply != NULL && reply->more && reply->next_index > t->next_index &&
              t->blank < TRIM_OLD_BLANK;
    t->next_index = reply != NULL ? reply->next_index : 0;
    for (size_t i = 0; reply != NULL && i < reply->chunks.count; i++) {
        const struct proto_chunk_stat *s = &reply->chunks.at[i];
        if (t->cut_count == TRIM_CHUNKS) { /* these first */
            t->more = true;
            t->next_index = s->index;
            break;
        }
        /* Also one that is as short as it must be: its writer may have cut it, and a power cut
         * would take that back. The answer to ours comes when it is stable. */
        if (s->length >= trim_length(t, s->index)) {
            t->cut[t->cut_count++] = s->index;
        }
    }
    trim_step(t);
}

static void trim_call(struct trim *t, struct peer_link *link, uint16_t opcode, const void *request,
                      void (*done)(struct peer_call *c, const struct peer_reply *r))
{
    t->call = (struct peer_call){
        .done = done, .request = request, .opcode = opcode, .timeout_ms = METANODE_CALL_MS};
    peer_link_call(link, &t->call);
}

static void trim_ask(struct trim *t, struct peer_link *link, const struct proto_route *route)
{
    t->stat = (struct proto_stat_request){.route = *route,
                                          .capability = trim_capability(t),
                                          .data_id = t->layout.data_id,
                                          .first_index = t->next_index,
                                          .count = UINT32_MAX};
    trim_call(t, link, PROTO_OP_stat, &t->stat, trim_statted);
}

static void trim_cut(struct trim *t, struct peer_link *link, const struct proto_route *route)
{
    uint32_t index = t->cut[t->cut_at];
    t->write = (struct proto_write_request){.route = *route,
                                            .capability = trim_capability(t),
                                            .chunk = {.data_id = t->layout.data_id, .index = index},
                                            .client = METANODE_CLIENT,
                                            .seq = t->tgen,
                                            .kind = PROTO_WRITE_SET_LENGTH,
                                            .length = trim_length(t, index),
                                            .tgen = t->tgen,
                                            .sync = true};
    trim_call(t, link, PROTO_OP_write, &t->write, trim_written);
}

/* The next question: a chunk to cut, the next chunks of this chain, the next chain, the log. */
static void trim_step(struct trim *t)
{
    struct proto_route route;
    bool cuts = t->cut_at < t->cut_count;
    if (!cuts && !t->more) {
        t->at++;
        t->blank = 0;
        t->next_index = (uint32_t)(t->from / t->layout.chunk_size);
        t->more = true;
    }
    if (t->at > t->chain_count && !t->item.errand->stopped) {
        trim_log(t);
        return;
    }
    struct peer_link *link =
        t->item.errand->stopped
            ? NULL
            : metanode_head_link(t->item.errand->m, t->chains[t->at - 1], &route);
    if (link == NULL) {
        metanode_errand_end(&t->item, false);
    } else if (cuts) {
        trim_cut(t, link, &route);
    } else {
        trim_ask(t, link, &route);
    }
}

static int trim_add(struct metanode_errand *e, const struct namespace_view *v, uint64_t ino,
                    const struct namespace_trim *record)
{
    struct proto_u32s chains;
    int rc = namespace_layout_chains(v, &record->layout, &chains);
    if (rc < 0 || record->layout.chunk_size == 0) {
        return rc;
    }
    struct trim *t = mem_zalloc(sizeof *t);
    if (t == NULL) {
        return -ENOMEM;
    }
    t->ino = ino;
    t->from = record->from;
    t->tgen = record->tgen;
    t->layout = record->layout;
    bool beyond = t->from / t->layout.chunk_size > UINT32_MAX; /* no chunk is there */
    t->chain_count = beyond ? 0 : base_min(chains.count, CLUSTER_STRIPE_MAX);
    for (size_t i = 0; i < t->chain_count; i++) {
        t->chains[i] = chains.at[i];
    }
    metanode_errand_add(e, &t->item);
    return 0;
}

static int trim_page(struct metanode_errand *e, const struct namespace_view *v)
{
    struct namespace_trims page;
    int rc = namespace_trims(v, e->after, TRIM_PAGE, &page);
    for (size_t i = 0; rc == 0 && i < page.count; i++) {
        rc = trim_add(e, v, page.ids[i], &page.at[i]);
    }
    if (rc == 0) {
        e->more = page.more;
        e->after = page.count > 0 ? page.ids[page.count - 1] : 0;
    }
    return rc;
}

static void trim_start(struct metanode_errand_item *item)
{
    struct trim *t = container_of(item, struct trim, item);
    t->fenced = item->errand->m->cleanup.fences == 0;
    trim_step(t);
}

const struct metanode_errand_ops metanode_trim_ops = {.page = trim_page, .start = trim_start};
