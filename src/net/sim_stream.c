/*
 * net/sim_stream.c -- connections of the simulated network.
 *
 * Bytes written become segments that fly for a random time, in order, then lie at the receiver
 * until they are read; both count against the window. An end or a reset flies behind the data as a
 * segment of its own. A partition holds segments back; after a random while the sender's kernel
 * gives up.
 */
#include "net/sim_priv.h"

#include "base/mem.h"
#include "base/rand.h"

#include <stdio.h>
#include <string.h>

#define GIVE_UP_MIN_NS 10000000000u
#define GIVE_UP_MAX_NS 60000000000u

static struct net_sim_end *end_of(struct stream *s)
{
    return container_of(s, struct net_sim_end, base);
}

static struct net_sim_end *other(struct net_sim_end *e)
{
    return &e->link->end[1 - e->index];
}

static void drop_segments(struct net_sim_end *e, struct list *of)
{
    LIST_FOR_EACH_SAFE(at, of)
    {
        struct net_sim_segment *s = LIST_ENTRY(at, struct net_sim_segment, node);
        e->pipe_bytes -= s->len - s->taken;
        list_remove(at);
        mem_free(s);
    }
}

void net_sim_link_free(struct net_sim_link *k)
{
    for (unsigned i = 0; i < 2; i++) {
        struct net_sim_end *e = &k->end[i];
        drop_segments(e, &e->arrived);
        drop_segments(e, &e->flying);
        net_sim_disarm(k->world, &e->arrive);
        net_sim_disarm(k->world, &e->tell);
        net_sim_disarm(k->world, &e->give_up);
        net_sim_disarm(k->world, &e->forget);
        list_remove(&e->backlog);
    }
    list_remove(&k->node);
    mem_free(k);
}

/* Tells the owner, in an event of its own process. */
static void end_tell(struct net_sim_end *e, unsigned events)
{
    e->events |= events;
    if (e->base.user != NULL && !e->closed && !e->tell.armed) {
        net_sim_arm(e->link->world, &e->tell, e->base.net->loop, 0);
    }
}

static void end_told(struct net_sim_event *ev)
{
    struct net_sim_end *e = container_of(ev, struct net_sim_end, tell);
    unsigned events = e->events;
    e->events = 0;
    if (e->closed || e->base.user == NULL || events == 0) {
        return;
    }
    e->base.user->ready(e->base.user, events);
}

void net_sim_end_break(struct net_sim_end *e, int rc)
{
    if (e->closed || e->error < 0) {
        return;
    }
    struct rand *r = loop_sim_rand(e->link->world->sim);
    e->error = rc;
    drop_segments(e, &e->flying);
    if (rand_chance(r, 1, 2)) {
        drop_segments(e, &e->arrived); /* what was not read may be gone */
    }
    end_tell(e, STREAM_CLOSED | STREAM_READABLE | STREAM_WRITABLE);
}

/* Puts a segment on its way to `e`. */
static void send_segment(struct net_sim_end *e, struct net_sim_segment *s)
{
    struct net_sim *w = e->link->world;
    uint64_t now = loop_sim_now_ns(w->sim);
    s->at_ns = base_max(now + net_sim_delay(w), e->last_at_ns);
    e->last_at_ns = s->at_ns;
    bool first = list_empty(&e->flying);
    list_push_back(&e->flying, &s->node);
    e->pipe_bytes += s->len;
    if (first) {
        net_sim_arm(w, &e->arrive, NULL, s->at_ns - now);
    }
}

static struct net_sim_segment *segment_new(size_t len)
{
    struct net_sim_segment *s = net_sim_alloc(sizeof *s + len);
    if (s != NULL) {
        s->len = len;
    }
    return s;
}

static bool send_mark(struct net_sim_end *to, int kind)
{
    struct net_sim_segment *s = segment_new(0);
    if (s == NULL) {
        return false;
    }
    s->kind = kind == NET_SIM_FIN ? NET_SIM_FIN : NET_SIM_RST;
    send_segment(to, s);
    return true;
}

static void end_accept_data(struct net_sim_end *e, struct net_sim_segment *s)
{
    struct net_sim *w = e->link->world;
    w->delivered_bytes += s->len;
    if (w->corrupt_in > 0 && --w->corrupt_in == 0) {
        s->bytes[rand_below(loop_sim_rand(w->sim), s->len)] ^= 0x10;
    }
    list_push_back(&e->arrived, &s->node);
    end_tell(e, STREAM_READABLE);
}

/* A segment has reached `e`. */
static void end_receive(struct net_sim_end *e, struct net_sim_segment *s)
{
    bool dead = e->closed || e->error < 0;
    if (s->kind == NET_SIM_DATA && !dead) {
        end_accept_data(e, s);
        return;
    }
    e->pipe_bytes -= s->len;
    if (s->kind == NET_SIM_DATA) {
        /* Bytes for nobody: a reset, behind an end that may still fly. */
        e->refused = e->refused || other(e)->closed || send_mark(other(e), NET_SIM_RST);
    } else if (s->kind == NET_SIM_FIN && !dead) {
        e->eof = true;
        end_tell(e, STREAM_READABLE | STREAM_CLOSED);
    } else if (s->kind == NET_SIM_RST) {
        net_sim_end_break(e, -ECONNRESET);
    }
    mem_free(s);
}

static void end_gave_up(struct net_sim_event *ev)
{
    struct net_sim_end *e = container_of(ev, struct net_sim_end, give_up);
    net_sim_end_break(other(e), -ETIMEDOUT); /* the sender's side */
}

/* true: the path is cut, and `e`'s segments wait. */
static bool end_held_back(struct net_sim_end *e)
{
    struct net_sim *w = e->link->world;
    if (!net_sim_is_cut(w, other(e)->host, e->host)) {
        return false;
    }
    if (!e->give_up.armed) {
        e->give_up.fire = end_gave_up;
        net_sim_arm(w, &e->give_up, NULL,
                    rand_range(loop_sim_rand(w->sim), GIVE_UP_MIN_NS, GIVE_UP_MAX_NS));
    }
    return true;
}

static void end_arrive(struct net_sim_event *ev)
{
    struct net_sim_end *e = container_of(ev, struct net_sim_end, arrive);
    struct net_sim *w = e->link->world;
    if (list_empty(&e->flying) || end_held_back(e)) {
        return;
    }
    uint64_t now = loop_sim_now_ns(w->sim);
    bool broken = w->opt.reset_per_million > 0 && !e->link->pair &&
                  rand_chance(loop_sim_rand(w->sim), w->opt.reset_per_million, 1000000);
    if (w->break_in > 0 && !e->link->pair && --w->break_in == 0) {
        broken = true;
    }
    if (broken) {
        net_sim_end_break(e, -ECONNRESET);
        net_sim_end_break(other(e), -ECONNRESET);
    }
    while (!list_empty(&e->flying)) {
        struct net_sim_segment *s = LIST_ENTRY(e->flying.next, struct net_sim_segment, node);
        if (s->at_ns > now) {
            net_sim_arm(w, &e->arrive, NULL, s->at_ns - now);
            break;
        }
        list_remove(&s->node);
        end_receive(e, s);
    }
}

void net_sim_end_resume(struct net_sim_end *e)
{
    struct net_sim *w = e->link->world;
    if (net_sim_is_cut(w, other(e)->host, e->host)) {
        return;
    }
    net_sim_disarm(w, &e->give_up);
    if (!list_empty(&e->flying) && !e->arrive.armed) {
        net_sim_arm(w, &e->arrive, NULL, net_sim_delay(w));
    }
}

/* --- The stream's operations ------------------------------------------------------------------ */

static void sim_attach(struct stream *st, struct stream_user *u)
{
    struct net_sim_end *e = end_of(st);
    LOOP_OWNED(st->net->loop);
    st->user = u;
    bool over = e->eof || e->error < 0;
    end_tell(e, STREAM_READABLE | STREAM_WRITABLE | (over ? STREAM_CLOSED : 0));
}

static size_t take_bytes(struct net_sim_end *e, uint8_t *to, size_t len)
{
    size_t got = 0;
    while (got < len && !list_empty(&e->arrived)) {
        struct net_sim_segment *s = LIST_ENTRY(e->arrived.next, struct net_sim_segment, node);
        size_t n = base_min(len - got, s->len - s->taken);
        memcpy(to + got, s->bytes + s->taken, n);
        s->taken += n;
        got += n;
        if (s->taken == s->len) {
            list_remove(&s->node);
            mem_free(s);
        }
    }
    e->pipe_bytes -= got;
    return got;
}

static int64_t sim_read(struct stream *st, const struct iovec *iov, unsigned count)
{
    struct net_sim_end *e = end_of(st);
    LOOP_OWNED(st->net->loop);
    int64_t total = 0;
    for (unsigned i = 0; i < count; i++) {
        total += (int64_t)take_bytes(e, iov[i].iov_base, iov[i].iov_len);
    }
    if (total > 0) {
        struct net_sim_end *o = other(e);
        if (o->want_room && e->pipe_bytes < e->link->world->opt.window_bytes) {
            o->want_room = false;
            end_tell(o, STREAM_WRITABLE);
        }
        return total;
    }
    return e->error < 0 ? e->error : e->eof ? 0 : -EAGAIN;
}

static int64_t sim_write_bytes(struct net_sim_end *e, const struct iovec *iov, unsigned count,
                               size_t len)
{
    struct net_sim_segment *s = segment_new(len);
    if (s == NULL) {
        return -ENOMEM;
    }
    size_t at = 0;
    for (unsigned i = 0; i < count && at < len; i++) {
        size_t n = base_min(iov[i].iov_len, len - at);
        if (n > 0) {
            memcpy(s->bytes + at, iov[i].iov_base, n);
        }
        at += n;
    }
    send_segment(other(e), s);
    return (int64_t)len;
}

static int64_t sim_write(struct stream *st, const struct iovec *iov, unsigned count, bool more)
{
    struct net_sim_end *e = end_of(st);
    struct net_sim *w = e->link->world;
    (void)more;
    if (e->error < 0) {
        return e->error == -ECONNRESET ? -EPIPE : e->error;
    }
    size_t len = 0;
    for (unsigned i = 0; i < count; i++) {
        len += iov[i].iov_len;
    }
    size_t used = other(e)->pipe_bytes;
    if (used >= w->opt.window_bytes) {
        e->want_room = true;
        return -EAGAIN;
    }
    if (len > w->opt.window_bytes - used) {
        len = w->opt.window_bytes - used;
        e->want_room = true;
    } else if (len > 1 && rand_chance(loop_sim_rand(w->sim), 1, 16)) {
        /* like a kernel under pressure: takes a part, and is soon writable again */
        len = rand_range(loop_sim_rand(w->sim), 1, len);
        end_tell(e, STREAM_WRITABLE);
    }
    return len == 0 ? 0 : sim_write_bytes(e, iov, count, len);
}

/* The bytes of simulated files are known to their disk only. */
static int64_t sim_send_file(struct stream *st, struct disk_file *f, uint64_t offset, uint64_t len,
                             bool more)
{
    (void)st;
    (void)f;
    (void)offset;
    (void)len;
    (void)more;
    return -EOPNOTSUPP;
}

static int64_t sink_write(struct disk_sink *sink, const void *bytes, size_t len)
{
    struct net_sim_end *e = container_of(sink, struct net_sim_end, sink);
    const struct iovec iov = {.iov_base = (void *)bytes, .iov_len = len};
    return e->closed ? -EPIPE : sim_write(&e->base, &iov, 1, false);
}

static struct disk_sink *sim_sink(struct stream *st)
{
    return &end_of(st)->sink;
}

static void sim_peer(const struct stream *st, char *out, size_t size)
{
    const struct net_sim_end *e = (const struct net_sim_end *)(const void *)st;
    if (e->index == 0) {
        (void)snprintf(out, size, "%s", e->link->to.text);
    } else {
        (void)snprintf(out, size, "host%u:%u", e->link->end[0].host, 0U);
    }
}

static bool sim_within_host(const struct stream *st)
{
    const struct net_sim_end *e = (const struct net_sim_end *)(const void *)st;
    return e->link->end[0].host == e->link->end[1].host;
}

static struct stream *sim_close(struct stream *st)
{
    LOOP_OWNED(st->net->loop);
    net_sim_end_close(end_of(st), false);
    return NULL;
}

static const struct stream_ops sim_stream_ops = {
    .attach = sim_attach,
    .read = sim_read,
    .write = sim_write,
    .send_file = sim_send_file,
    .sink = sim_sink,
    .peer = sim_peer,
    .within_host = sim_within_host,
    .close = sim_close,
};

/* --- Life ------------------------------------------------------------------------------------- */

void net_sim_end_close(struct net_sim_end *e, bool killed)
{
    struct net_sim *w = e->link->world;
    if (e->closed) {
        return;
    }
    bool unread = !list_empty(&e->arrived);
    bool rude = unread || (killed && rand_chance(loop_sim_rand(w->sim), 1, 2));
    e->closed = true;
    e->node = NULL;
    e->fd = 0;
    e->base.user = NULL;
    net_sim_disarm(w, &e->tell);
    net_sim_disarm(w, &e->forget);
    list_remove(&e->backlog);
    drop_segments(e, &e->arrived);
    struct net_sim_end *o = other(e);
    if (!o->closed && e->error == 0) {
        if (!send_mark(o, rude ? NET_SIM_RST : NET_SIM_FIN)) {
            net_sim_end_break(o, -ECONNRESET);
        }
    }
    if (o->closed) {
        net_sim_link_free(e->link);
    }
}

struct net_sim_link *net_sim_link_new(struct net_sim *w, unsigned from, unsigned to)
{
    struct net_sim_link *k = net_sim_alloc(sizeof *k);
    if (k == NULL) {
        return NULL;
    }
    k->world = w;
    for (unsigned i = 0; i < 2; i++) {
        struct net_sim_end *e = &k->end[i];
        e->base.ops = &sim_stream_ops;
        e->link = k;
        e->index = i;
        e->host = i == 0 ? from : to;
        e->sink = (struct disk_sink){.fd = -1, .write = sink_write};
        e->arrive.fire = end_arrive;
        e->tell.fire = end_told;
        list_init(&e->arrived);
        list_init(&e->flying);
        list_init(&e->backlog);
    }
    list_push_back(&w->links, &k->node);
    return k;
}

struct stream *net_sim_end_take(struct net_sim_end *e, struct net_sim_node *n)
{
    net_sim_disarm(e->link->world, &e->forget);
    e->node = n;
    e->base.net = &n->base;
    return &e->base;
}
