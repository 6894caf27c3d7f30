#include "client/io_priv.h"
#include "client/lock_priv.h"
#include "client/share_priv.h"

#include <string.h>

static bool inode_equal(const struct dict_node *n, const void *key)
{
    return container_of((struct dict_node *)n, struct client_inode, node)->ino ==
           *(const uint64_t *)key;
}
static const struct dict_ops inode_ops = {.equal = inode_equal};

static void room_ready(struct buf_waiter *w);
static void room_timer(struct loop_timer *t);
static void flush_timer(struct loop_timer *t);

void client_inodes_init(struct opendfs *fs)
{
    dict_init(&fs->inodes, &inode_ops, fs, loop_random(fs->loop));
    list_init(&fs->starving);
    fs->room.ready = room_ready;
    fs->room_timer.fire = room_timer;
    fs->flush_timer.fire = flush_timer;
}

struct client_inode *client_inode_find(struct opendfs *fs, uint64_t ino)
{
    struct dict_node *n = dict_find(&fs->inodes, dict_hash_u64(&fs->inodes, ino), &ino);
    return n == NULL ? NULL : container_of(n, struct client_inode, node);
}

bool client_inode_is_open(struct opendfs *fs, uint64_t ino)
{
    return client_inode_find(fs, ino) != NULL;
}

void client_inode_unlinked(struct opendfs *fs, uint64_t ino)
{
    struct client_inode *i = client_inode_find(fs, ino);
    if (i != NULL) {
        i->kept = true;
    }
}

void client_inode_freshen(struct opendfs *fs, struct proto_attr *a)
{
    const struct client_inode *i = client_inode_find(fs, a->ino);
    if (i != NULL && i->mode == PROTO_OPEN_W && i->dead == 0) {
        a->size = i->size;
        if (i->kill_priv) {
            a->mode &= (a->mode & 010) != 0 || i->outsider ? 01777U : 03777U;
        }
        a->mtime_ns = i->dirty && !i->told ? i->mtime_ns : a->mtime_ns;
        a->ctime_ns = i->dirty && a->ctime_ns < i->mtime_ns ? i->mtime_ns : a->ctime_ns;
        a->allocated = client_io_allocated(i) + client_update_left(i);
    }
}

static void wake_run(struct loop_task *t)
{
    struct client_inode *i = container_of(t, struct client_inode, wake);
    i->refs++;
    client_push_step(i);
    client_times_step(i);
    client_share_step(i);
    client_io_step_all(i);
    client_inode_put(i);
}

int client_inode_get(struct opendfs *fs, uint64_t ino, struct client_inode **ret)
{
    struct client_inode *i = client_inode_find(fs, ino);
    if (i == NULL) {
        i = mem_zalloc(sizeof *i);
        if (i == NULL) {
            return -ENOMEM;
        }
        i->fs = fs;
        i->ino = ino;
        i->next_number = 1;
        i->wake.run = wake_run;
        list_init(&i->handles);
        list_init(&i->locks);
        list_init(&i->updates);
        list_init(&i->fetches);
        list_init(&i->looks);
        list_init(&i->waiting);
        list_init(&i->held);
        list_init(&i->stale);
        list_init(&i->refreshed);
        list_init(&i->syncing);
        list_init(&i->starving_node);
        list_init(&i->asked);
        list_init(&i->setters);
        if (dict_insert(&fs->inodes, dict_hash_u64(&fs->inodes, ino), &i->node) < 0) {
            mem_free(i);
            return -ENOMEM;
        }
    }
    i->refs++;
    *ret = i;
    return 0;
}

static void inode_free(struct client_inode *i)
{
    loop_undefer(i->fs->loop, &i->wake);
    loop_timer_cancel(i->fs->loop, &i->share_timer);
    list_remove(&i->starving_node);
    client_locks_fini(i);
    mem_free(i->small);
    mem_free(i->unsynced);
    mem_free(i);
}

static void release_done(struct client_call *c, const struct peer_reply *r)
{
    struct client_inode *i = container_of(c, struct client_inode, release_call);
    i->letting_go = false;
    (void)r; /* if it did not arrive, the file goes with the session */
    client_inode_put(i);
}

/* Nothing refers to it any more, an `open` under way neither: if it has no name, it goes. */
static bool inode_releases(struct client_inode *i)
{
    if (!i->kept || i->fs->freeing || i->fs->stopping || i->dead < 0) {
        return false;
    }
    i->kept = false;
    i->letting_go = true;
    i->refs = 1;
    i->release_request = (struct proto_release_request){.ino = i->ino};
    i->release_call.done = release_done;
    client_mutate(i->fs, &i->release_call, PROTO_OP_release, &i->release_request);
    return true;
}

/* Requests in the background keep it: they hold references. */
void client_inode_put(struct client_inode *i)
{
    CHECK(i->refs > 0);
    if (--i->refs == 0 && !inode_releases(i)) {
        if (i->granted) {
            client_session_closed(i->fs, i->ino);
        }
        CHECK(list_empty(&i->updates) && list_empty(&i->fetches) && i->syncs == 0);
        CHECK(!i->renewing && !i->refreshing && !i->share_asking && list_empty(&i->waiting));
        CHECK(list_empty(&i->asked) && list_empty(&i->looks));
        CHECK(list_empty(&i->setters) && i->setting == 0);
        dict_remove(&i->fs->inodes, &i->node);
        inode_free(i);
    }
}

void client_inode_wake(struct client_inode *i)
{
    if (!i->fs->freeing) {
        loop_defer(i->fs->loop, &i->wake);
    }
}

void client_inode_fail(struct client_inode *i, int rc)
{
    LIST_FOR_EACH(at, &i->handles)
    {
        struct opendfs_file *f = LIST_ENTRY(at, struct opendfs_file, node);
        bool writes = (f->flags & OPENDFS_WRITE) != 0; /* a reader may sync what others wrote */
        f->sync_error = f->sync_error == 0 ? rc : f->sync_error;
        f->close_error = f->close_error == 0 && writes ? rc : f->close_error;
    }
}

/* Dirty data of a lost session are lost: told once at fsync, once at close. */
static void inode_lost(struct client_inode *i)
{
    if (i->mode == PROTO_OPEN_NONE || i->dead < 0) {
        return;
    }
    i->dead = -ERR_session_expired;
    i->kept = false;
    i->wait_shared = false; /* there is nothing left to wait for */
    if (i->dirty || i->committing || !list_empty(&i->updates)) {
        client_inode_fail(i, -ERR_lost);
    }
    client_update_cancel_all(i, -ERR_lost);
    client_inode_wake(i);
}

/* Files without a name went with it. */
void client_inodes_lost_session(struct opendfs *fs)
{
    struct dict_iter it;
    struct dict_node *n;
    dict_iter_init(&it, &fs->inodes);
    while ((n = dict_iter_next(&it)) != NULL) {
        struct client_inode *i = container_of(n, struct client_inode, node);
        i->kept = false;
        client_locks_lost(i);
        inode_lost(i);
    }
}

struct proto_claim *client_inodes_claim(struct opendfs *fs, size_t *ret_count)
{
    struct dict_iter it;
    struct dict_node *n;
    size_t count = 0;
    struct proto_claim *claims = mem_calloc(fs->inodes.count + 1, sizeof *claims);
    dict_iter_init(&it, &fs->inodes);
    while (claims != NULL && (n = dict_iter_next(&it)) != NULL) {
        struct client_inode *i = container_of(n, struct client_inode, node);
        bool writes = i->mode == PROTO_OPEN_W || i->mode == PROTO_OPEN_S;
        claims[count++] = (struct proto_claim){
            .kind = PROTO_OBJECT_INO,
            .ino = i->ino,
            .version = i->attr.version,
            .open = (uint8_t)(PROTO_RIGHT_READ | (writes ? PROTO_RIGHT_WRITE : 0U))};
        i->granted = true;
    }
    client_inodes_outdate(fs);
    *ret_count = count;
    return claims;
}

void client_inodes_outdate(struct opendfs *fs)
{
    struct dict_iter it;
    struct dict_node *n;
    dict_iter_init(&it, &fs->inodes);
    while ((n = dict_iter_next(&it)) != NULL) {
        container_of(n, struct client_inode, node)->outdated = true;
    }
}

/* --- capabilities -------------------------------------------------------------------------------
 */

#define CAP_EARLY_MS 10000u

void client_cap_take(struct opendfs *fs, struct client_cap *c, const struct proto_capability *from)
{
    if (from->mac.len != CLUSTER_MAC_BYTES) {
        return; /* none was given */
    }
    c->cap = *from;
    memcpy(c->mac, from->mac.at, CLUSTER_MAC_BYTES);
    c->cap.mac = proto_bytes_of(c->mac, CLUSTER_MAC_BYTES);
    c->known = true;
    c->taken_ns = loop_now_ns(fs->loop);
}

static void renewal_done(struct client_call *c, const struct peer_reply *r)
{
    struct client_inode *i = container_of(c, struct client_inode, renewal);
    struct list due, *at;
    i->renewing = false;
    if (r->rc == 0) {
        const struct proto_capability_renew_reply *m = r->body;
        for (size_t k = 0; k < base_min(m->capabilities.count, i->renew_request.wanted.count);
             k++) {
            const struct proto_capability *cap = &m->capabilities.at[k];
            bool writes = (i->renew_want[k].rights & PROTO_RIGHT_WRITE) != 0;
            if (cap->data_id != 0) {
                client_cap_take(i->fs, writes ? &i->write_cap : &i->read_cap, cap);
            }
        }
    }
    list_init(&due);
    list_splice_back(&due, &i->held);
    while ((at = list_pop_front(&due)) != NULL) {
        struct client_held *h = LIST_ENTRY(at, struct client_held, node);
        h->renewed(h);
    }
    client_inode_put(i);
}

static void renew(struct client_inode *i)
{
    size_t n = 0;
    if (i->renewing) {
        return;
    }
    if (i->read_cap.known) {
        i->renew_want[n++] =
            (struct proto_capability_want){.ino = i->ino, .rights = PROTO_RIGHT_READ};
    }
    if (i->write_cap.known && i->dead == 0) {
        i->renew_want[n++] =
            (struct proto_capability_want){.ino = i->ino,
                                           .rights = PROTO_RIGHT_READ | PROTO_RIGHT_WRITE,
                                           .cap_epoch = i->cap_epoch};
    }
    i->renewing = true;
    i->refs++;
    i->renew_request =
        (struct proto_capability_renew_request){.wanted = {.at = i->renew_want, .count = n}};
    i->renewal.done = renewal_done;
    client_query(i->fs, &i->renewal, PROTO_OP_capability_renew, &i->renew_request);
}

void client_inode_renew(struct client_inode *i, struct client_held *h)
{
    list_push_back(&i->held, &h->node);
    renew(i);
}

static void refresh_done(struct client_call *c, const struct peer_reply *r);

/* For those who wait now: who comes later may know of a newer change. */
static void refresh_start(struct client_inode *i)
{
    list_splice_back(&i->refreshed, &i->stale);
    i->refreshing = true;
    i->outdated = false;
    i->refs++;
    i->refresh_request = (struct proto_getattr_request){.ino = i->ino};
    i->refresh.done = refresh_done;
    client_query(i->fs, &i->refresh, PROTO_OP_getattr, &i->refresh_request);
}

static void refresh_done(struct client_call *c, const struct peer_reply *r)
{
    struct client_inode *i = container_of(c, struct client_inode, refresh);
    struct list due, *at;
    i->refreshing = false;
    if (r->rc == 0) {
        const struct proto_getattr_reply *m = r->body;
        uint32_t tgen = (uint32_t)base_max(m->attr.tgen, i->attr.tgen);
        bool small = i->in_line && i->mode == PROTO_OPEN_NONE && i->attr.version != m->attr.version;
        if (i->mode == PROTO_OPEN_NONE) {
            client_inode_take(i, &m->attr, &m->layout);
        }
        if (small && i->in_line) {
            client_share_reread(i);
        }
        if (i->mode == PROTO_OPEN_S && i->dead == 0) { /* others change it, too */
            i->attr = m->attr;
            client_inode_take_size(i, m->attr.size);
            if ((m->attr.flags & PROTO_INODE_INLINE) == 0 && i->in_line) {
                i->in_line = false; /* it was empty, and another one has begun */
                i->layout = m->layout;
            }
        }
        i->attr.tgen = tgen;
        i->cut_tgen = m->trimming ? i->cut_tgen : (uint32_t)base_max(i->cut_tgen, m->attr.tgen);
    }
    list_init(&due);
    list_splice_back(&due, &i->refreshed);
    if (i->fs->freeing) {
        list_splice_back(&due, &i->stale);
    }
    while ((at = list_pop_front(&due)) != NULL) {
        struct client_held *h = LIST_ENTRY(at, struct client_held, node);
        h->renewed(h);
    }
    if (!list_empty(&i->stale) && !i->refreshing) {
        refresh_start(i);
    }
    client_inode_put(i);
}

void client_inode_refresh(struct client_inode *i, struct client_held *h)
{
    list_push_back(&i->stale, &h->node);
    if (!i->refreshing) {
        refresh_start(i);
    }
}

#define OWE_MIN_MS 100u
#define OWE_MAX_MS 5000u

static void owe_end(struct client_inode *i)
{
    i->owes = false;
    client_inode_put(i);
}

static void owe_due(struct loop_timer *t)
{
    struct client_inode *i = container_of(t, struct client_inode, owe_timer);
    bool shared = i->mode == PROTO_OPEN_S && i->writers > 0;
    if (i->mode == PROTO_OPEN_NONE || i->dead < 0 || shared) {
        owe_end(i);
        return;
    }
    i->owe_ms = base_min(i->owe_ms * 2, OWE_MAX_MS);
    loop_timer_in(i->fs->loop, t, i->owe_ms * CLIENT_NS_PER_MS);
    client_inode_recall(i->fs, i->ino);
}

void client_inode_owe(struct client_inode *i)
{
    if (!i->owes && i->dead == 0 && !i->fs->freeing) {
        i->owes = true;
        i->refs++;
        i->owe_ms = OWE_MIN_MS;
        i->owe_timer.fire = owe_due;
        loop_timer_in(i->fs->loop, &i->owe_timer, OWE_MIN_MS * CLIENT_NS_PER_MS);
    }
}

void client_inode_check_cap(struct client_inode *i, const struct client_cap *c)
{
    bool writes = (c->cap.rights & PROTO_RIGHT_WRITE) != 0;
    uint64_t lives_ms = writes ? CLUSTER_CAPABILITY_WRITE_MS : CLUSTER_CAPABILITY_READ_MS;
    uint64_t due_ns = c->taken_ns + (lives_ms - CAP_EARLY_MS) * CLIENT_NS_PER_MS;
    if (c->known && loop_now_ns(i->fs->loop) > due_ns) {
        renew(i);
    }
}

/* --- memory -------------------------------------------------------------------------------------
 */

#define STARVE_MS 20u
#define FLUSH_MS 2000u

static void feed(struct opendfs *fs)
{
    struct list *at;
    while ((at = list_pop_front(&fs->starving)) != NULL) {
        struct client_inode *i = LIST_ENTRY(at, struct client_inode, starving_node);
        i->starving = false;
        client_inode_wake(i);
    }
    loop_timer_cancel(fs->loop, &fs->room_timer);
    buf_unwait(fs->write_pool, &fs->room);
}

static void room_ready(struct buf_waiter *w)
{
    feed(container_of(w, struct opendfs, room));
}

static void room_timer(struct loop_timer *t)
{
    feed(container_of(t, struct opendfs, room_timer));
}

static void flush_all(struct opendfs *fs)
{
    struct dict_iter it;
    struct dict_node *n;
    dict_iter_init(&it, &fs->inodes);
    while ((n = dict_iter_next(&it)) != NULL) {
        client_update_flush(container_of(n, struct client_inode, node), 0, UINT64_MAX);
    }
}

static void flush_timer(struct loop_timer *t)
{
    flush_all(container_of(t, struct opendfs, flush_timer));
}

void client_inode_flush_later(struct client_inode *i)
{
    if (!loop_timer_active(&i->fs->flush_timer)) {
        loop_timer_in(i->fs->loop, &i->fs->flush_timer, FLUSH_MS * CLIENT_NS_PER_MS);
    }
}

/* All that gathers, of all files, is sent: memory comes back only so. */
void client_inode_starve(struct client_inode *i)
{
    struct opendfs *fs = i->fs;
    if (!i->starving) {
        i->starving = true;
        list_push_back(&fs->starving, &i->starving_node);
    }
    flush_all(fs);
    if (!fs->room.queued) {
        buf_wait(fs->write_pool, &fs->room);
        loop_timer_in(fs->loop, &fs->room_timer, STARVE_MS * CLIENT_NS_PER_MS);
    }
}

void client_inodes_fini(struct opendfs *fs)
{
    struct dict_iter it;
    struct dict_node *n;
    dict_iter_init(&it, &fs->inodes);
    while ((n = dict_iter_next(&it)) != NULL) {
        struct client_inode *i = container_of(n, struct client_inode, node);
        i->refs++;
        if (i->owes) {
            loop_timer_cancel(fs->loop, &i->owe_timer);
            owe_end(i);
        }
        client_update_cancel_all(i, -ECANCELED);
        client_sync_cancel(i);
        client_look_cancel_all(i);
        client_io_cancel_all(i);
        while (!list_empty(&i->fetches)) {
            client_fetch_cancel(LIST_ENTRY(i->fetches.next, struct client_fetch, node));
        }
        while (!list_empty(&i->handles)) {
            client_file_free(LIST_ENTRY(i->handles.next, struct opendfs_file, node));
        }
        client_inode_put(i);
    }
    loop_timer_cancel(fs->loop, &fs->flush_timer);
    loop_timer_cancel(fs->loop, &fs->room_timer);
    buf_unwait(fs->write_pool, &fs->room);
    dict_fini(&fs->inodes);
}
