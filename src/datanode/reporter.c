/* datanode/reporter.c -- see reporter.h. One message is under way at a time. */
#include "datanode/reporter.h"

#include "datanode/digest.h"
#include "datanode/repair.h"
#include "datanode/worker_priv.h"

#define CALL_MS 10000u
#define WAIT_MIN_MS 100u
#define WAIT_MAX_MS 10000u
#define FIGURES_NS (UINT64_C(10) * 1000 * NS_PER_MS)
#define DIGESTS_NS (UINT64_C(2) * 1000 * NS_PER_MS)

static struct datanode_worker *worker_of(struct datanode_reporter *p)
{
    return container_of(p, struct datanode_worker, reporter);
}

static void reporter_soon(struct datanode_reporter *p)
{
    struct datanode_worker *w = worker_of(p);
    if (!p->calling && !loop_timer_active(&p->again) && !w->closing && w->control.target != 0) {
        loop_defer(w->loop, &p->task);
    }
}

static struct proto_report_item reporter_item(const struct datanode_report *r)
{
    return (struct proto_report_item){.kind = (uint8_t)r->kind,
                                      .merged = r->merged,
                                      .chain = r->chain,
                                      .chunk = datanode_key_wire(r->chunk),
                                      .damage = (uint8_t)r->damage,
                                      .epoch = r->epoch,
                                      .same = r->same,
                                      .copied = r->copied,
                                      .dropped = r->dropped};
}

static bool reporter_reads_differ(const struct proto_read_figures *a,
                                  const struct proto_read_figures *b)
{
    return a->cached != b->cached || a->fetched != b->fetched || a->streamed != b->streamed ||
           a->copied != b->copied || a->busy != b->busy;
}

/* Worth telling? */
static bool reporter_differs(const struct proto_report_figures *a,
                             const struct proto_report_figures *b)
{
    return a->chunks != b->chunks || a->dirty != b->dirty || a->reserved != b->reserved ||
           a->resting != b->resting || a->scrub.permille != b->scrub.permille ||
           a->scrub.found != b->scrub.found || a->scrub.last_ms != b->scrub.last_ms ||
           a->scrub.begun_ms != b->scrub.begun_ms || a->scrub.repaired != b->scrub.repaired ||
           a->move_rate != b->move_rate || reporter_reads_differ(&a->reads, &b->reads);
}

static struct proto_report_figures reporter_figures(struct datanode_worker *w)
{
    struct chunk_store_info info;
    chunk_store_info(w->store, &info);
    struct proto_report_figures f = {.chunks = info.chunk_count,
                                     .dirty = info.dirty_count,
                                     .reserved = info.reserved_bytes,
                                     .resting = info.resting_bytes,
                                     .move_rate = w->copying.rate};
    datanode_scrub_figures(w, &f.scrub);
    datanode_read_figures(w, &f.reads);
    return f;
}

static void reporter_again(struct loop_timer *t)
{
    reporter_soon(container_of(t, struct datanode_reporter, again));
}

static void reporter_answered(struct peer_call *c, const struct peer_reply *r)
{
    struct datanode_reporter *p = container_of(c, struct datanode_reporter, call);
    struct datanode_worker *w = worker_of(p);
    p->calling = false;
    if (r->rc < 0) {
        p->standing_due = p->standing_due || p->standing_sent;
        p->digests_due = p->digests_due || p->digest_count > 0;
        p->wait_ms = base_min(base_max(p->wait_ms * 2, WAIT_MIN_MS), WAIT_MAX_MS);
        if (!w->closing) {
            loop_timer_in(w->loop, &p->again, p->wait_ms * NS_PER_MS);
        }
        return;
    }
    p->wait_ms = 0;
    datanode_reports_heard(&p->queue, p->sent, p->sent_count);
    if (p->standing_sent) {
        p->told = p->request.figures;
    }
    p->digests_due = datanode_digests_heard(w, p->digest, p->digest_count);
    if (p->queue.count > 0 || p->standing_due || p->digests_due) {
        reporter_soon(p);
    }
}

static void reporter_send(struct loop_task *t)
{
    struct datanode_reporter *p = container_of(t, struct datanode_reporter, task);
    struct datanode_worker *w = worker_of(p);
    if (p->calling || w->closing || (p->queue.count == 0 && !p->standing_due && !p->digests_due)) {
        return;
    }
    p->digest_count = datanode_digests_take(w, p->digest, ARRAY_COUNT(p->digest));
    p->digests_due = false;
    p->sent_count = datanode_reports_take(&p->queue, p->sent, ARRAY_COUNT(p->sent));
    for (size_t i = 0; i < p->sent_count; i++) {
        p->item[i] = reporter_item(&p->sent[i]);
    }
    p->standing_sent = p->standing_due;
    p->standing_due = false;
    p->request = (struct proto_report_request){
        .target = w->control.target,
        .incarnation = w->incarnation,
        .items = {.at = p->item, .count = p->sent_count},
        .disk_error = w->failed ? w->fail_rc : 0,
        .disk_text = proto_bytes_text(w->failed ? w->fail_reason : ""),
        .has_figures = p->standing_sent,
        .digests = {.at = p->digest, .count = p->digest_count}};
    if (p->standing_sent) {
        p->request.figures = reporter_figures(w);
        p->figures_ns = loop_now_ns(w->loop);
    }
    p->calling = true;
    p->call = (struct peer_call){.done = reporter_answered,
                                 .request = &p->request,
                                 .opcode = PROTO_OP_report,
                                 .flags = PEER_CALL_AGAIN,
                                 .timeout_ms = CALL_MS};
    peer_call(w->control.peer, &p->call);
}

void datanode_reporter_init(struct datanode_worker *w)
{
    w->reporter.task.run = reporter_send;
    w->reporter.again.fire = reporter_again;
}

void datanode_reporter_fini(struct datanode_worker *w)
{
    CHECK(!w->reporter.calling);
    loop_undefer(w->loop, &w->reporter.task);
    loop_timer_cancel(w->loop, &w->reporter.again);
}

void datanode_reporter_registered(struct datanode_worker *w)
{
    struct datanode_reporter *p = &w->reporter;
    p->standing_due = true;
    p->damage_due = true;
    datanode_digests_forget(w);
    p->digests_ns = 0;
    p->wait_ms = 0;
    loop_timer_cancel(w->loop, &p->again);
    datanode_repair_watch(w); /* walks over them all the same */
    reporter_soon(p);
}

static void reporter_digests(struct datanode_worker *w)
{
    struct datanode_reporter *p = &w->reporter;
    if (loop_now_ns(w->loop) - p->digests_ns < DIGESTS_NS || p->calling) {
        return;
    }
    p->digests_ns = loop_now_ns(w->loop);
    if (datanode_digests_look(w)) {
        p->digests_due = true;
        reporter_soon(p);
    }
}

void datanode_reporter_tick(struct datanode_worker *w)
{
    struct datanode_reporter *p = &w->reporter;
    reporter_digests(w);
    if (loop_now_ns(w->loop) - p->figures_ns < FIGURES_NS || p->standing_due || p->calling) {
        return;
    }
    struct proto_report_figures now = reporter_figures(w);
    p->figures_ns = loop_now_ns(w->loop);
    if (reporter_differs(&now, &p->told)) {
        p->standing_due = true;
        reporter_soon(p);
    }
}

static void reporter_add(struct datanode_worker *w, const struct datanode_report *r)
{
    datanode_reports_add(&w->reporter.queue, r);
    reporter_soon(&w->reporter);
}

void datanode_report_damage(struct datanode_worker *w, uint32_t chain, struct chunk_key key,
                            enum proto_damage damage)
{
    const struct datanode_report r = {
        .kind = PROTO_REPORT_DAMAGE, .chain = chain, .chunk = key, .damage = damage};
    reporter_add(w, &r);
}

void datanode_report_resynced(struct datanode_worker *w, uint32_t chain, uint32_t epoch,
                              const struct proto_sync_end_request *counts)
{
    const struct datanode_report r = {.kind = PROTO_REPORT_RESYNCED,
                                      .chain = chain,
                                      .epoch = epoch,
                                      .same = counts->same,
                                      .copied = counts->copied,
                                      .dropped = counts->dropped};
    reporter_add(w, &r);
}

void datanode_report_failed(struct datanode_worker *w)
{
    w->reporter.standing_due = true;
    reporter_soon(&w->reporter);
}
