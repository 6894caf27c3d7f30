#include "client/core_priv.h"

#include "base/log.h"
#include "client/map_priv.h"

#include <string.h>

/*
 * The session: opened on the first link to a leader, resumed on each later one; then the credential
 * is registered (once per session) and the gate opens. A leader that does not know what this
 * client has open, and one that has seen its lease run out (L4), gets claims of its open files.
 * A session that the servers have ended is replaced by a new one; what was under way in it is of
 * unknown outcome.
 */

#define CLIENT_GENERATION 1u
#define RETRY_MS 200u
#define FULL_MS 1000u
#define CLOSED_MS 200u
#define CALL_MS 10000u

static void session_open(struct opendfs *fs);
static void session_resume(struct opendfs *fs);

static void session_call(struct opendfs *fs, uint16_t opcode, const void *request, uint32_t flags,
                         void (*done)(struct peer_call *c, const struct peer_reply *r))
{
    struct client_session *s = &fs->session;
    s->call = (struct peer_call){
        .done = done, .request = request, .opcode = opcode, .flags = flags, .timeout_ms = CALL_MS};
    s->call.give_back = ERR_log_full;
    peer_call(fs->meta, &s->call);
}

/* What waiting alone does not end: the limits of a cluster and of a session. */
static bool session_is_refusal(int rc)
{
    return rc == -ERR_no_log_space || err_is(rc, EUSERS) || err_is(rc, ENFILE) ||
           err_is(rc, EINVAL);
}

/* Something did not work: the link is made anew, which begins from the start. */
static void session_again(struct opendfs *fs, int rc)
{
    fs->session.state = SESSION_NONE;
    if (fs->freeing || rc == -ERR_closed) {
        return;
    }
    rc = rc == -ERR_log_full ? -ERR_no_log_space : rc; /* a new session needs the log */
    bool refused = session_is_refusal(rc);
    if (refused) {
        log_warn(fs->env.log, "no session can be had", LOG_RC(rc));
        client_calls_no_session(fs, rc);
    }
    loop_timer_in(fs->loop, &fs->session.timer, (refused ? FULL_MS : RETRY_MS) * CLIENT_NS_PER_MS);
}

static void session_take_trailer(struct opendfs *fs, const struct proto_trailer *t)
{
    fs->session.lease_epoch = t->lease_epoch;
    fs->session.renewed_ns = loop_now_ns(fs->loop);
}

static void session_schedule(struct opendfs *fs)
{
    if (fs->freeing) {
        return; /* the end of a call that ends with all the rest */
    }
    uint64_t third = fs->session.lease_ms * CLIENT_NS_PER_MS / 3;
    loop_timer_in(fs->loop, &fs->session.timer, third);
}

static void session_ready(struct opendfs *fs)
{
    fs->session.state = SESSION_READY;
    session_schedule(fs);
    client_calls_rename(fs);
    peer_open_gate(fs->meta);
    client_slots_pump(fs);
    client_identities_ready(fs);
    client_map_session_ready(fs);
    client_shares_resumed(fs);
}

static void credential_done(struct peer_call *c, const struct peer_reply *r)
{
    struct opendfs *fs = container_of(c, struct opendfs, session.call);
    if (r->rc < 0) {
        if (r->rc == -ERR_session_expired) {
            client_session_expired(fs, fs->session.number);
        }
        session_again(fs, r->rc);
        return;
    }
    const struct proto_credential_reply *m = r->body;
    fs->session.cred = m->cred;
    session_ready(fs);
}

static void session_credential(struct opendfs *fs)
{
    struct client_session *s = &fs->session;
    s->state = SESSION_CREDENTIAL;
    s->request.credential =
        (struct proto_credential_request){.session = s->id,
                                          .uid = fs->uid,
                                          .gid = fs->gid,
                                          .groups = {.at = fs->groups, .count = fs->group_count},
                                          .lease_epoch = s->lease_epoch};
    session_call(fs, PROTO_OP_credential, &s->request.credential, PEER_CALL_EARLY, credential_done);
}

static void session_reclaim(struct opendfs *fs);

static void open_done(struct peer_call *c, const struct peer_reply *r)
{
    struct opendfs *fs = container_of(c, struct opendfs, session.call);
    struct client_session *s = &fs->session;
    if (r->rc < 0) {
        session_again(fs, r->rc);
        return;
    }
    const struct proto_session_open_reply *m = r->body;
    s->id = m->session;
    s->number++;
    s->slot_count = (uint32_t)base_min(base_max(m->slots, 1), CLIENT_SLOTS);
    s->lease_ms = m->lease_ms == 0 ? CLIENT_LEASE_MS : m->lease_ms;
    session_take_trailer(fs, &m->trailer);
    stats_count(&fs->counters.sessions, 1);
    client_slots_reset(fs);
    peer_set_session(fs->meta, s->id, CLIENT_GENERATION, false);
    client_map_new_session(fs);
    client_inodes_outdate(fs);
    if (fs->inodes.count > 0) { /* of the session before: their handles read on */
        session_reclaim(fs);
    } else {
        session_credential(fs);
    }
}

static void session_open(struct opendfs *fs)
{
    struct client_session *s = &fs->session;
    s->state = SESSION_OPENING;
    s->verifier = loop_random(fs->loop);
    struct uuid boot;
    loop_boot_id(fs->loop, boot.bytes);
    s->request.open = (struct proto_session_open_request){.client = s->client,
                                                          .boot_id = boot,
                                                          .verifier = s->verifier,
                                                          .slots = CLIENT_SLOTS,
                                                          .name = proto_bytes_text(fs->name)};
    session_call(fs, PROTO_OP_session_open, &s->request.open, PEER_CALL_EARLY, open_done);
}

static void session_claim(struct opendfs *fs);

static void reclaim_done(struct peer_call *c, const struct peer_reply *r)
{
    struct opendfs *fs = container_of(c, struct opendfs, session.call);
    fs->session.reclaiming = false;
    if (r->rc == 0 && !fs->session.request.reclaim.last) {
        session_claim(fs);
        return;
    }
    mem_free(fs->session.claims);
    fs->session.claims = NULL;
    if (r->rc < 0) {
        if (r->rc == -ERR_session_expired) {
            client_session_expired(fs, fs->session.number);
        }
        session_again(fs, r->rc);
        return;
    }
    const struct proto_reclaim_reply *m = r->body;
    session_take_trailer(fs, &m->trailer);
    if (fs->session.state == SESSION_READY) {
        session_schedule(fs);
    } else if (fs->session.cred == 0) {
        session_credential(fs);
    } else {
        session_ready(fs);
    }
}

#define CLAIMS_PAGE 4096u

static void session_claim(struct opendfs *fs)
{
    struct client_session *s = &fs->session;
    size_t n = (size_t)base_min(s->claim_count - s->claimed, CLAIMS_PAGE);
    s->reclaiming = true;
    s->request.reclaim = (struct proto_reclaim_request){
        .session = s->id,
        .verifier = s->verifier,
        .claims = {.at = n == 0 ? NULL : s->claims + s->claimed, .count = n},
        .last = s->claimed + n == s->claim_count};
    s->claimed += n;
    session_call(fs, PROTO_OP_reclaim, &s->request.reclaim, PEER_CALL_EARLY, reclaim_done);
}

/* Everything that is open, also for writing: a name may have gone meanwhile. */
static void session_reclaim(struct opendfs *fs)
{
    struct client_session *s = &fs->session;
    mem_free(s->claims);
    s->claim_count = s->claimed = 0;
    s->claims = client_inodes_claim(fs, &s->claim_count);
    if (s->claims == NULL) {
        session_again(fs, -ENOMEM);
        return;
    }
    session_claim(fs);
}

static void resume_done(struct peer_call *c, const struct peer_reply *r)
{
    struct opendfs *fs = container_of(c, struct opendfs, session.call);
    struct client_session *s = &fs->session;
    if (r->answered && err_is(r->rc, ESTALE)) {
        client_session_expired(fs, s->number);
        session_open(fs);
        return;
    }
    if (r->rc < 0) {
        session_again(fs, r->rc);
        return;
    }
    const struct proto_session_resume_reply *m = r->body;
    session_take_trailer(fs, &m->trailer);
    client_inodes_outdate(fs); /* what was said meanwhile is lost */
    if (m->must_reclaim) {
        session_reclaim(fs);
    } else if (s->cred == 0) {
        session_credential(fs);
    } else {
        session_ready(fs);
    }
}

static void session_resume(struct opendfs *fs)
{
    struct client_session *s = &fs->session;
    s->state = SESSION_OPENING;
    s->request.resume = (struct proto_session_resume_request){.session = s->id,
                                                              .verifier = s->verifier,
                                                              .incarnation = 1,
                                                              .generation = CLIENT_GENERATION};
    session_call(fs, PROTO_OP_session_resume, &s->request.resume, PEER_CALL_EARLY, resume_done);
}

static void session_begin(struct opendfs *fs)
{
    if (fs->stopping || peer_call_active(&fs->session.call)) {
        session_schedule(fs);
        return;
    }
    if (fs->session.id == 0) {
        session_open(fs);
    } else {
        session_resume(fs);
    }
}

static void renew_done(struct peer_call *c, const struct peer_reply *r)
{
    struct opendfs *fs = container_of(c, struct opendfs, session.call);
    if (r->answered && err_is(r->rc, ESTALE)) {
        client_session_expired(fs, fs->session.number);
        return;
    }
    if (r->rc < 0) {
        fs->session.closed_sent = 0;
        session_schedule(fs);
        return;
    }
    const struct proto_renew_reply *m = r->body;
    struct client_session *s = &fs->session;
    s->renewed_ns = loop_now_ns(fs->loop);
    s->closed_count -= s->closed_sent;
    memmove(s->closed, s->closed + s->closed_sent, s->closed_count * sizeof *s->closed);
    s->closed_sent = 0;
    if (!m->trailer.renewed && !fs->session.reclaiming) {
        session_reclaim(fs);
        return;
    }
    session_schedule(fs);
}

/* What is open again meanwhile is not among what was closed. */
static void session_renew(struct opendfs *fs)
{
    struct client_session *s = &fs->session;
    size_t n = 0;
    for (size_t i = 0; i < s->closed_count; i++) {
        if (!client_inode_is_open(fs, s->closed[i])) {
            s->closed[n++] = s->closed[i];
        }
    }
    s->closed_count = s->closed_sent = n;
    s->request.renew = (struct proto_renew_request){.session = s->id,
                                                    .lease_epoch = s->lease_epoch,
                                                    .push_seq = s->push_seq,
                                                    .closed = {.at = s->closed, .count = n}};
    /* The same list must not come again later, when some of it is open again. */
    session_call(fs, PROTO_OP_renew, &s->request.renew, PEER_CALL_RAW, renew_done);
}

static void session_timer(struct loop_timer *t)
{
    struct opendfs *fs = container_of(t, struct opendfs, session.timer);
    struct client_session *s = &fs->session;
    if (peer_link_of(fs->meta, 0) == NULL || peer_call_active(&s->call)) {
        session_schedule(fs);
        return;
    }
    if (s->state != SESSION_READY) {
        session_begin(fs);
        return;
    }
    uint64_t quiet_ns = loop_now_ns(fs->loop) - s->renewed_ns;
    if (quiet_ns < s->lease_ms * CLIENT_NS_PER_MS / 4 && s->closed_count == 0) {
        session_schedule(fs);
        return;
    }
    session_renew(fs);
}

void client_session_closed(struct opendfs *fs, uint64_t ino)
{
    struct client_session *s = &fs->session;
    if (s->closed_count < CLIENT_CLOSED_MAX && s->id != 0) {
        s->closed[s->closed_count++] = ino;
    }
    if (s->closed_count == 1 && s->state == SESSION_READY && !fs->stopping &&
        !peer_call_active(&s->call)) { /* as long as they do not know, they ask about it */
        loop_timer_in(fs->loop, &s->timer, CLOSED_MS * CLIENT_NS_PER_MS);
    }
    if (s->closed_count == CLIENT_CLOSED_MAX && s->state == SESSION_READY && !fs->stopping &&
        !peer_call_active(&s->call)) {
        session_renew(fs);
    }
}

static void meta_up(struct peer_user *u, struct peer_link *l)
{
    struct opendfs *fs = container_of(u, struct opendfs, meta_user);
    if (l->slot == 0) {
        loop_timer_cancel(fs->loop, &fs->session.timer);
        session_begin(fs);
    }
}

static void meta_down(struct peer_user *u, struct peer_link *l, int rc, const char *reason)
{
    struct opendfs *fs = container_of(u, struct opendfs, meta_user);
    (void)rc;
    (void)reason;
    if (l->slot == 0) {
        fs->session.state = SESSION_NONE;
    }
}

const struct peer_user_ops client_meta_user_ops = {.up = meta_up, .down = meta_down};

void client_session_expired(struct opendfs *fs, uint64_t number)
{
    struct client_session *s = &fs->session;
    if (number != s->number || s->id == 0) {
        return;
    }
    log_warn(fs->env.log, "session has expired", LOG_U64("session", s->id));
    s->id = 0;
    s->cred = 0;
    s->closed_count = s->closed_sent = 0;
    s->number++;
    if (s->state == SESSION_READY) {
        s->state = SESSION_NONE;
        peer_drop_link(fs->meta, 0, "session has expired");
    }
    client_inodes_lost_session(fs);
}

void client_session_init(struct opendfs *fs)
{
    struct client_session *s = &fs->session;
    s->timer.fire = session_timer;
    s->lease_ms = CLIENT_LEASE_MS;
    s->number = 1;
    loop_random_bytes(fs->loop, s->client.bytes, sizeof s->client.bytes);
    client_slots_reset(fs);
}

void client_session_fini(struct opendfs *fs)
{
    loop_timer_cancel(fs->loop, &fs->session.timer);
    mem_free(fs->session.claims);
    fs->session.claims = NULL;
}

static void close_done(struct peer_call *c, const struct peer_reply *r)
{
    struct opendfs *fs = container_of(c, struct opendfs, session.call);
    (void)r;
    fs->session.id = 0;
    client_check_stopped(fs);
}

void client_session_close(struct opendfs *fs)
{
    struct client_session *s = &fs->session;
    loop_timer_cancel(fs->loop, &s->timer);
    if (s->id == 0 || s->state != SESSION_READY || peer_link_of(fs->meta, 0) == NULL) {
        s->id = 0;
        client_check_stopped(fs);
        return;
    }
    if (peer_call_active(&s->call)) {
        peer_call_cancel(&s->call);
        s->id = 0; /* rare: it simply runs out */
        client_check_stopped(fs);
        return;
    }
    s->request.close =
        (struct proto_session_close_request){.session = s->id, .verifier = s->verifier};
    session_call(fs, PROTO_OP_session_close, &s->request.close, 0, close_done);
    s->call.timeout_ms = 1000;
}
