/*
 * consensus/consensus.c -- construction, the task, leadership, the lease, the end.
 *
 * Everything that calls the owner or enters the engine on our account runs from one task, in the
 * order of task_run().
 */
#include "consensus/consensus.h"

#include "base/mem.h"
#include "consensus/consensus_priv.h"
#include "consensus/heap.h"
#include "consensus/message.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

_Static_assert(RAFT_VERSION_NUMBER == 2201, "the guards are those of libraft 0.22.1");

#define ELECTION_TIMEOUT_MS 300u
#define QUEUE_BYTES (16u << 20)
#define QUEUE_COUNT 8192u
#define TRAILING_ALONE 1u /* 0 means an installed snapshot */
#define TRAILING 4096u
#define INFLIGHT 64u
#define LEASE_SLACK_NS 2000000u

void consensus_wake(struct consensus *c)
{
    loop_defer(c->env.loop, &c->task);
}

void consensus_fail(struct consensus *c, int rc, const char *fmt, ...)
{
    if (c->failed != 0) {
        return;
    }
    c->failed = rc;
    c->lease_from_ns = 0;
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(c->reason, sizeof c->reason, fmt, args);
    va_end(args);
    if (len > 0 && (size_t)len < sizeof c->reason && strstr(c->reason, err_text(rc)) == NULL) {
        (void)snprintf(c->reason + len, sizeof c->reason - (size_t)len, ": %s", err_text(rc));
    }
    consensus_wake(c);
}

unsigned consensus_voters(const struct consensus *c)
{
    unsigned voters = 0;
    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        voters += c->raft.configuration.servers[i].role == RAFT_VOTER ? 1U : 0U;
    }
    return voters;
}

bool consensus_leads(const struct consensus *c)
{
    return c->started && !c->closing && c->failed == 0 && c->raft.state == RAFT_LEADER &&
           raft_transferee(&c->raft) == 0;
}

/* --- what the owner may know ---------------------------------------------------------------------
 */

void consensus_state(const struct consensus *c, struct consensus_state *ret)
{
    *ret = (struct consensus_state){.term = c->term};
    if (!c->started || c->failed != 0 || c->closing) {
        return;
    }
    uint64_t id = 0;
    const char *address = NULL;
    if (c->raft.state == RAFT_LEADER) {
        id = c->id;
        address = c->raft.address;
    } else if (c->raft.state == RAFT_FOLLOWER) {
        id = c->raft.follower_state.current_leader.id;
        address = c->raft.follower_state.current_leader.address;
    }
    ret->role = c->raft.state == RAFT_LEADER      ? CONSENSUS_LEADER
                : c->raft.state == RAFT_CANDIDATE ? CONSENSUS_CANDIDATE
                                                  : CONSENSUS_FOLLOWER;
    ret->term = c->raft.current_term;
    ret->leader_id = id;
    if (address != NULL) {
        (void)snprintf(ret->leader_address, sizeof ret->leader_address, "%s", address);
    }
}

static void state_tell(struct consensus *c)
{
    struct consensus_state now;
    consensus_state(c, &now);
    bool same = now.role == c->told.role && now.term == c->told.term &&
                now.leader_id == c->told.leader_id && c->told_once;
    /* Who has failed steps down as well; but why, its user learns from `failed`. */
    if (!same && c->started && !c->closing && c->failed == 0) {
        c->told = now;
        c->told_once = true;
        c->fsm->ops->state(c->fsm, &now);
    }
}

static uint64_t lease_of_entries(struct consensus *c, uint64_t now, uint64_t length)
{
    uint64_t until = c->lease_from_ns == 0 ? 0 : c->lease_from_ns + length;
    if (until < now + length / 2 && !c->lease_wanted) {
        c->lease_wanted = true; /* the task looks at it whenever an entry is over */
        consensus_wake(c);
    }
    return until > now ? until : 0;
}

uint64_t consensus_lease_until_ns(struct consensus *c)
{
    LOOP_OWNED(c->env.loop);
    bool told = c->told.role == CONSENSUS_LEADER && c->told.term == c->raft.current_term;
    if (!told || !consensus_leads(c)) {
        return 0;
    }
    uint64_t now = loop_now_ns(c->env.loop);
    uint64_t length = (uint64_t)c->election_timeout_ms * 990000 - LEASE_SLACK_NS;
    uint64_t until = consensus_voters(c) == 1 ? now + length : lease_of_entries(c, now, length);
    /* What earlier leaders committed must be executed first. */
    bool ready =
        c->leader_term == c->raft.current_term && consensus_applied_index(c) >= c->leader_index;
    return ready ? until : 0;
}

void consensus_info(const struct consensus *c, struct consensus_info *ret)
{
    *ret = (struct consensus_info){.last_index = c->log_next == 0 ? 0 : c->log_next - 1,
                                   .applied_index = consensus_applied_index(c),
                                   .waiting = (uint32_t)c->used_count,
                                   .entries_in_flight = (uint32_t)c->batch_count,
                                   .failed = c->failed};
    if (c->started) {
        ret->commit_index = c->raft.commit_index;
    }
    struct consensus_snapshot s = {0};
    if (c->snapshot_bytes != NULL &&
        consensus_snapshot_decode(c->snapshot_bytes, c->snapshot_len, &s) == 0) {
        ret->snapshot_index = s.index;
    }
    if (c->journal != NULL) {
        struct journal_info j;
        journal_info(c->journal, &j);
        ret->log_bytes = j.size_bytes;
        ret->full = c->full_rc;
        ret->nearly_full = j.spare_rc < 0;
    }
}

void consensus_to_text(const struct consensus *c, char *out, size_t size)
{
    static const char *const roles[] = {"follower", "candidate", "leader"};
    struct consensus_state s;
    struct consensus_info i;
    consensus_state(c, &s);
    consensus_info(c, &i);
    (void)snprintf(out, size,
                   "consensus %" PRIu64 " %s: %s, term %" PRIu64 ", leader %" PRIu64
                   ", log to %" PRIu64 ", committed %" PRIu64 ", applied %" PRIu64
                   ", snapshot %" PRIu64 ", %u waiting%s%s",
                   c->id, c->directory, roles[s.role], s.term, s.leader_id, i.last_index,
                   i.commit_index, i.applied_index, i.snapshot_index, i.waiting,
                   c->failed != 0 ? ", " : "", c->failed != 0 ? c->reason : "");
}

void consensus_set_log_limit(struct consensus *c, uint64_t bytes)
{
    c->log_limit_bytes = bytes;
}

/* --- the task ------------------------------------------------------------------------------------
 */

static void failed_tell(struct consensus *c)
{
    if (c->failed == 0) {
        return;
    }
    consensus_refuse_waiting(c, -ERR_failed_before);
    consensus_lose_batches(c);
    consensus_finish(c);
    if (!c->failed_told && c->stop == NULL) {
        c->failed_told = true;
        c->fsm->ops->failed(c->fsm, c->failed, c->reason);
    }
}

static void engine_closed(struct raft *r)
{
    struct consensus *c = r->data;
    c->raft_init = false;
    c->started = false;
    c->closed = true;
    consensus_batches_free(c);
    if (c->stop != NULL) {
        consensus_wake(c);
    }
}

/* Towards the end: what is under way, then the engine, then everything else. May free c. */
static void stop_step(struct consensus *c)
{
    if (c->stop == NULL) {
        return;
    }
    bool settled = list_empty(&c->waiting) && list_empty(&c->batches) && c->applying == 0;
    bool failed = c->failed != 0 && c->applying == 0;
    if (!c->closing && (settled || failed || c->stop_late)) {
        c->closing = true;
        c->applying = 0; /* an owner that cannot go on keeps its entry */
        c->applying_batch = NULL;
        consensus_refuse_waiting(c, -ERR_shutting_down);
        consensus_lose_batches(c);
        loop_timer_cancel(c->env.loop, &c->stop_limit);
        raft_close(&c->raft, engine_closed);
    }
    if (c->closed) {
        consensus_finish(c);
        struct consensus_stop *stop = c->stop;
        c->stop = NULL;
        stop->done(stop, c->failed);
    }
}

static void start_run(struct consensus *c);

static void task_run(struct loop_task *t)
{
    struct consensus *c = container_of(t, struct consensus, task);
    if (!c->closing) {
        start_run(c);
        consensus_io_run(c);
        consensus_apply(c);
        consensus_install_try(c);
        consensus_snapshot_try(c);
        consensus_pack(c);
        state_tell(c);
    }
    failed_tell(c);
    consensus_finish(c);
    stop_step(c);
}

static void stop_late(struct loop_timer *t)
{
    struct consensus *c = container_of(t, struct consensus, stop_limit);
    c->stop_late = true;
    consensus_wake(c);
}

void consensus_stop(struct consensus *c, struct consensus_stop *s)
{
    LOOP_OWNED(c->env.loop);
    CHECK(c->stop == NULL && !c->closed);
    c->stop = s;
    c->snapshot_wanted = false;
    loop_timer_in(c->env.loop, &c->stop_limit, CONSENSUS_STOP_NS);
    consensus_wake(c);
}

/* --- construction --------------------------------------------------------------------------------
 */

static void stats_begin(struct consensus *c)
{
    struct consensus_counters *s = &c->stats;
    if (c->env.stats == NULL) {
        return;
    }
    s->group = stats_new(c->env.stats, "consensus");
    stats_add_counter(s->group, "operations", &s->operations);
    stats_add_counter(s->group, "entries", &s->entries);
    stats_add_counter(s->group, "bytes", &s->bytes);
    stats_add_counter(s->group, "busy", &s->busy);
    stats_add_counter(s->group, "elections", &s->elections);
    stats_add_counter(s->group, "snapshots", &s->snapshots);
    stats_add_histogram(s->group, "commit_time", &s->commit_time);
}

static int options_take(struct consensus *c, const struct consensus_options *opt)
{
    c->env = *opt->env;
    c->fsm = opt->fsm;
    c->transport = opt->transport;
    memcpy(c->cluster, opt->cluster, sizeof c->cluster);
    c->id = opt->id;
    c->incarnation = loop_random(c->env.loop) | 1;
    c->skip_to = opt->applied;
    c->election_timeout_ms =
        opt->election_timeout_ms != 0 ? opt->election_timeout_ms : ELECTION_TIMEOUT_MS;
    c->queue_bytes = opt->queue_bytes != 0 ? opt->queue_bytes : QUEUE_BYTES;
    c->queue_count = opt->queue_count != 0 ? opt->queue_count : QUEUE_COUNT;
    c->log_limit_bytes = opt->log_limit_bytes;
    list_init(&c->waiting);
    list_init(&c->batches);
    list_init(&c->finished);
    list_init(&c->lingering);
    c->task.run = task_run;
    consensus_pack_init(c);
    c->stop_limit.fire = stop_late;
    consensus_io_init(c);
    c->directory = mem_strdup(opt->directory);
    c->path_term = mem_printf("%s/term", opt->directory);
    c->path_snapshot = mem_printf("%s/snapshot", opt->directory);
    c->path_snapshot_new = mem_printf("%s/snapshot.new", opt->directory);
    c->path_log = mem_printf("%s/log", opt->directory);
    bool memory = c->directory != NULL && c->path_term != NULL && c->path_snapshot != NULL &&
                  c->path_snapshot_new != NULL && c->path_log != NULL;
    bool sound = opt->voter_count <= CONSENSUS_VOTERS_MAX && c->id > 0 &&
                 (opt->voter_count <= 1 || c->transport != NULL) && c->election_timeout_ms >= 20 &&
                 c->election_timeout_ms != 150; /* README */
    return !memory ? -ENOMEM : sound ? 0 : -EINVAL;
}

static int engine_init(struct consensus *c, const struct consensus_options *opt, struct err *e)
{
    const char *address = "";
    for (size_t i = 0; i < opt->voter_count; i++) {
        address = opt->voters[i].id == c->id ? opt->voters[i].address : address;
    }
    c->raft_fsm = (struct raft_fsm){.version = 1,
                                    .data = c,
                                    .apply = consensus_raft_apply,
                                    .snapshot = consensus_raft_snapshot,
                                    .restore = consensus_raft_restore};
    int bad = raft_init(&c->raft, &c->io, &c->raft_fsm, c->id, address);
    if (bad != 0) {
        return err_set(e, -EINVAL, "raft: %s", raft_errmsg(&c->raft));
    }
    c->raft_init = true;
    c->raft.data = c;
    raft_set_heartbeat_timeout(&c->raft, c->election_timeout_ms / 10);
    raft_set_election_timeout(&c->raft, c->election_timeout_ms);
    raft_set_pre_vote(&c->raft, true);
    raft_set_max_inflight_entries(&c->raft, INFLIGHT);
    raft_set_snapshot_threshold(&c->raft, UINT_MAX);
    unsigned trailing = opt->voter_count > 1 ? TRAILING : TRAILING_ALONE;
    raft_set_snapshot_trailing(&c->raft, opt->trailing != 0 ? opt->trailing : trailing);
    return 0;
}

int consensus_open(const struct consensus_options *opt, struct consensus **ret, struct err *e)
{
    consensus_heap_use();
    CLEANUP(consensus_freep) struct consensus *c = mem_zalloc(sizeof *c);
    if (c == NULL) {
        return -ENOMEM;
    }
    int rc = options_take(c, opt);
    if (rc < 0) {
        return err_set(e, rc, "open consensus '%s'", opt->directory);
    }
    LOOP_OWNED(c->env.loop);
    rc = consensus_load(c, opt, e);
    rc = rc < 0 ? rc : engine_init(c, opt, e);
    if (rc < 0) {
        return rc;
    }
    stats_begin(c);
    *ret = c;
    c = NULL;
    return 0;
}

/* Not from inside of anything: raft_start() appends, votes and, alone, becomes the leader. */
void consensus_engine_start(struct consensus *c)
{
    if (c->closing || c->failed != 0) {
        return;
    }
    if (c->begin_anew) {
        int rc = consensus_term_store(c, c->term, 0);
        if (rc < 0) {
            consensus_fail(c, rc, "write '%s'", c->path_term);
            return;
        }
    }
    if (c->cut_loaded) {
        consensus_write_cut(c, c->log_next);
    }
    c->started = true;
    consensus_enter(c);
    int bad = raft_start(&c->raft);
    consensus_leave(c);
    if (bad != 0 && c->failed == 0) {
        consensus_fail(c, -EIO, "start raft: %s", raft_errmsg(&c->raft));
    }
}

/* From the task, so that consensus_free() may follow consensus_start() at once. */
static void start_run(struct consensus *c)
{
    if (!c->start_wanted || c->stop != NULL) {
        return;
    }
    c->start_wanted = false;
    if (c->begin_anew) {
        consensus_write_first(c); /* the engine starts when it is stable */
    } else {
        consensus_engine_start(c);
    }
}

int consensus_start(struct consensus *c, struct err *e)
{
    LOOP_OWNED(c->env.loop);
    if (c->failed != 0) {
        return err_set(e, c->failed, "%s", c->reason);
    }
    CHECK(!c->started && !c->start_wanted && c->stop == NULL);
    c->start_wanted = true;
    consensus_wake(c);
    return 0;
}

struct consensus *consensus_free(struct consensus *c)
{
    if (c == NULL) {
        return NULL;
    }
    CHECK(c->stop == NULL && c->applying == 0);
    if (c->raft_init) {
        c->closing = true;
        raft_close(&c->raft, engine_closed);
    }
    c->journal = journal_free(c->journal);
    if (c->env.loop != NULL) {
        loop_timer_cancel(c->env.loop, &c->full_timer);
        loop_undefer(c->env.loop, &c->task);
        loop_timer_cancel(c->env.loop, &c->stop_limit);
    }
    consensus_loaded_free(c);
    consensus_ring_clear(c);
    consensus_install_drop(c);
    stats_free(c->stats.group);
    mem_free(c->snapshot_bytes);
    mem_free(c->path_log);
    mem_free(c->path_snapshot_new);
    mem_free(c->path_snapshot);
    mem_free(c->path_term);
    mem_free(c->directory);
    mem_free(c);
    return NULL;
}
