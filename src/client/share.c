#include "client/op_priv.h"
#include "client/share_priv.h"
#include "client/update_priv.h"

/*
 * A file that another client writes, too (coherence.md 6.3). Who was told S may have to wait: the
 * other writer, which was alone, has not flushed, or has died and is not shut out yet. Only the
 * server knows when that is over, so it is asked, with the same `wopen`: when it has pushed
 * `shared_now`; when the session has gone on at a leader that does not know who waits; and after
 * some time in any case. The answer may also be W, when the other one has closed the file.
 *
 * Contents that are in the metadata cannot be shared, as each writer would have its own copy. Who
 * gives W back moves them to chunks first; where that is not possible the writers take turns in W.
 */

#define SHARE_LATE_MS 30000u /* the time that the other one has; a lease comes on top */

static void share_late(struct loop_timer *t)
{
    struct client_inode *i = container_of(t, struct client_inode, share_timer);
    i->share_wanted = true;
    client_inode_wake(i);
}

static void share_wait(struct client_inode *i)
{
    uint64_t ms = SHARE_LATE_MS + i->fs->session.lease_ms;
    i->wait_shared = true;
    i->share_timer.fire = share_late;
    loop_timer_in(i->fs->loop, &i->share_timer, ms * CLIENT_NS_PER_MS);
}

static void share_go_on(struct client_inode *i)
{
    i->wait_shared = false;
    i->share_wanted = false;
    loop_timer_cancel(i->fs->loop, &i->share_timer);
}

void client_inode_take_size(struct client_inode *i, uint64_t size)
{
    i->size = i->mode == PROTO_OPEN_S ? base_max(i->shared_end, size) : i->size;
}

void client_inode_take(struct client_inode *i, const struct proto_attr *a,
                       const struct proto_layout *layout)
{
    if (i->mode == PROTO_OPEN_W && i->dead == 0) {
        return;
    }
    bool changed = i->attr.ino != 0 && i->attr.version != a->version;
    bool chunks = (a->flags & PROTO_INODE_INLINE) == 0 && a->size > 0;
    i->unknown_past = i->unknown_past || (chunks && (changed || i->attr.ino == 0));
    i->writes += changed ? 1 : 0;
    i->attr = *a;
    i->layout = *layout;
    bool own = i->dirty && i->dead == 0; /* written in mode S, and not committed yet */
    i->size = own ? base_max(i->shared_end, a->size) : a->size;
    i->mtime_ns = own ? i->mtime_ns : a->mtime_ns;
    if (list_empty(&i->updates)) {
        i->stored_end = (a->flags & PROTO_INODE_INLINE) != 0 ? 0 : a->size;
    }
    if ((a->flags & PROTO_INODE_INLINE) == 0) {
        i->in_line = false;
    }
}

static void share_take(struct client_inode *i, const struct proto_wopen_reply *m)
{
    if (i->mode != PROTO_OPEN_W || i->dead < 0) {
        i->torn = i->mode == PROTO_OPEN_S && i->dead == 0 ? i->torn : 0;
        i->parked = i->untouched = false;
        i->mode = PROTO_OPEN_NONE;
        i->set_size = 0;
        client_inode_take(i, &m->attr, &m->layout);
        i->mode = m->mode;
        i->cap_epoch = m->cap_epoch;
        i->data_version = m->data_version;
        if (m->mode == PROTO_OPEN_S && !m->shared_now) {
            share_wait(i);
        } else {
            share_go_on(i);
        }
        i->session_number = i->fs->session.number;
        i->dead = 0;
    }
    client_cap_take(i->fs, &i->write_cap, &m->capability);
    i->limited = m->limited;
    i->size_limit = m->size_limit;
}

void client_inode_take_mode(struct client_inode *i, const struct proto_wopen_reply *m)
{
    if (i->wait_shared) { /* one more handle: how it goes on is for the question of all */
        client_cap_take(i->fs, &i->write_cap, &m->capability);
        client_share_pushed(i->fs, i->ino);
    } else {
        share_take(i, m);
    }
}

static void share_asked_all(struct client_inode *i)
{
    i->share_asking = false;
    i->meta_busy = false;
    if (i->writers == 0 && i->opening == 0 && !i->fs->freeing) {
        client_inode_recall(i->fs, i->ino); /* it was closed meanwhile */
    }
    client_inode_wake(i);
    client_inode_put(i);
}

/* The contents of before the other one's last word are of no use. */
static void share_contents_done(struct client_call *c, const struct peer_reply *r)
{
    struct client_inode *i = container_of(c, struct client_inode, share_call);
    const struct proto_read_inline_reply *m = r->body;
    int rc = r->rc;
    if (rc == 0 && m->has_data) {
        rc = client_inode_set_small(i, m->version, m->data.at, m->data.len);
    } else if (rc == 0) {
        i->layout = m->layout;
        i->attr.flags &= ~PROTO_INODE_INLINE;
        i->in_line = false;
    }
    if (rc == 0 || i->dead < 0) {
        share_go_on(i);
    }
    share_asked_all(i); /* else it waits on, and asks again */
}

/* True: they have to be asked for. */
static bool share_contents(struct client_inode *i)
{
    if ((i->attr.flags & PROTO_INODE_INLINE) == 0) {
        return false;
    }
    if (i->attr.size == 0 && client_inode_set_small(i, i->attr.version, NULL, 0) == 0) {
        return false;
    }
    share_wait(i);
    i->share_request.read_inline = (struct proto_read_inline_request){.ino = i->ino};
    i->share_call.done = share_contents_done;
    client_query(i->fs, &i->share_call, PROTO_OP_read_inline, &i->share_request.read_inline);
    return true;
}

static void reread_done(struct client_call *c, const struct peer_reply *r)
{
    struct client_inode *i = container_of(c, struct client_inode, reread_call);
    const struct proto_read_inline_reply *m = r->body;
    int rc = r->rc;
    i->rereading = false;
    if (i->mode == PROTO_OPEN_NONE && rc == 0 && m->has_data) {
        rc = client_inode_set_small(i, m->version, m->data.at, m->data.len);
    } else if (i->mode == PROTO_OPEN_NONE && rc == 0) {
        i->layout = m->layout;
        i->attr.flags &= ~PROTO_INODE_INLINE;
        i->in_line = false;
    }
    if (rc < 0 && i->mode == PROTO_OPEN_NONE) { /* as it was read before, until the next look */
        i->size = i->small_len;
        i->outdated = true;
    }
    client_inode_wake(i);
    client_inode_put(i);
}

void client_share_reread(struct client_inode *i)
{
    if (i->rereading || i->fs->freeing) {
        i->outdated = true; /* the next look comes to it */
        return;
    }
    i->rereading = true;
    i->refs++;
    i->reread_request = (struct proto_read_inline_request){.ino = i->ino};
    i->reread_call.done = reread_done;
    client_query(i->fs, &i->reread_call, PROTO_OP_read_inline, &i->reread_request);
}

static void share_asked(struct client_call *c, const struct peer_reply *r)
{
    struct client_inode *i = container_of(c, struct client_inode, share_call);
    if (r->rc == 0 && i->dead == 0) {
        share_take(i, r->body);
        i->writes++;
        if (!i->wait_shared && share_contents(i)) {
            return;
        }
    } else if (i->dead == 0 && i->unparked && r->answered && !err_is(r->rc, EAGAIN)) {
        i->dead = r->rc; /* it may not be written any more */
        share_go_on(i);
    } else if (i->dead == 0) {
        share_wait(i); /* asks again later */
    }
    i->unparked = i->unparked && i->wait_shared;
    share_asked_all(i);
}

void client_share_step(struct client_inode *i)
{
    bool can = i->wait_shared && i->share_wanted && !i->share_asking && !i->meta_busy;
    if (!can || i->dead < 0 || i->fs->freeing) {
        return;
    }
    i->share_wanted = false;
    i->share_asking = true;
    i->meta_busy = true; /* a release must not overtake it */
    i->refs++;
    i->share_request.wopen = (struct proto_wopen_request){
        .ino = i->ino, .append = (i->attr.flags & PROTO_INODE_APPEND) != 0};
    i->share_call.done = share_asked;
    client_mutate(i->fs, &i->share_call, PROTO_OP_wopen, &i->share_request.wopen);
}

void client_share_unpark(struct client_inode *i)
{
    i->parked = false;
    i->busy_end = true;
    i->unparked = true;
    i->wait_shared = true; /* asks by itself, as who has waited for its turn */
}

bool client_share_waits(struct client_inode *i)
{
    if (i->wait_shared && !loop_timer_active(&i->share_timer) && !i->share_asking) {
        share_wait(i); /* its turn was over: it asks for the next one when it needs it */
        i->share_wanted = true;
        client_inode_wake(i);
    }
    return i->wait_shared;
}

void client_share_returned(struct client_inode *i)
{
    i->wait_shared = i->mode == PROTO_OPEN_S && i->in_line && i->small_len > 0;
}

void client_share_pushed(struct opendfs *fs, uint64_t ino)
{
    struct client_inode *i = client_inode_find(fs, ino);
    if (i != NULL && i->wait_shared) {
        i->share_wanted = true;
        client_inode_wake(i);
    }
}

void client_shares_resumed(struct opendfs *fs)
{
    struct dict_iter it;
    struct dict_node *n;
    dict_iter_init(&it, &fs->inodes);
    while ((n = dict_iter_next(&it)) != NULL) {
        struct client_inode *i = container_of(n, struct client_inode, node);
        if (i->wait_shared && loop_timer_active(&i->share_timer)) {
            i->share_wanted = true;
            client_inode_wake(i);
        }
    }
}
