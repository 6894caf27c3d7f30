/*
 * metanode/trash.c -- what has been in the trash for as long as it was to be goes, and, while a
 * target or the metadata has no room, the oldest of it before its time. Nothing is kept here but
 * when to look next: the first record by its end says what is due, and the log decides by its own
 * time.
 */
#include "metanode/metanode_priv.h"

#define TRASH_BATCH 256u      /* files of one command */
#define TRASH_EARLY_BATCH 64u /* then their garbage is awaited: it may be enough */
#define TRASH_LOOK_MS 5000u

struct metanode_trash {
    struct metanode *m;
    struct loop_timer timer;
    struct metanode_read read;
    struct metanode_waiter waiter;
    struct namespace_trash_due due;
    bool busy, again, early, stopped;
};

static void trash_schedule(struct metanode_trash *t, uint64_t ms)
{
    if (!t->stopped && !t->busy) {
        loop_timer_in(t->m->env->loop, &t->timer, ms * METANODE_NS_PER_MS);
    }
}

static bool trash_is_needed(const struct metanode *m)
{
    bool needed = kv_disk(m->kv) != KV_DISK_ROOM;
    LIST_FOR_EACH(node, &m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        needed = needed || (t->alive && t->registered && t->low_space);
    }
    return needed;
}

static void trash_logged(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct metanode_trash *t = container_of(w, struct metanode_trash, waiter);
    t->busy = false;
    trash_schedule(t, rc < 0 || reply->rc < 0 || t->early ? TRASH_LOOK_MS : 0);
}

static void trash_propose(struct metanode_trash *t, bool early)
{
    struct namespace_trash_expire body = {.max = early ? TRASH_EARLY_BATCH : TRASH_BATCH,
                                          .early = early};
    t->waiter.done = trash_logged;
    t->early = early;
    t->busy = true;
    if (metanode_propose(t->m, NAMESPACE_TRASH_PURGE, &namespace_trash_expire_type, &body,
                         &t->waiter) < 0) {
        t->busy = false;
        trash_schedule(t, TRASH_LOOK_MS);
    }
}

static int trash_read(struct metanode_read *read, const struct namespace_view *v)
{
    return namespace_trash_first(v, &container_of(read, struct metanode_trash, read)->due);
}

static void trash_read_done(struct metanode_read *read, int rc)
{
    struct metanode_trash *t = container_of(read, struct metanode_trash, read);
    t->busy = false;
    if (t->again) { /* something came after its snapshot */
        trash_schedule(t, 0);
        return;
    }
    if (t->stopped || (rc == 0 && t->due.files == 0)) {
        return; /* until something comes */
    }
    if (rc < 0) {
        trash_schedule(t, TRASH_LOOK_MS);
        return;
    }
    int64_t left_ns = t->due.expiry_ns - (int64_t)loop_wall_ns(t->m->env->loop);
    bool early = left_ns > 0 && t->due.garbage == 0 && trash_is_needed(t->m);
    if (left_ns <= 0 || early) {
        trash_propose(t, early);
    } else {
        trash_schedule(t, base_min((uint64_t)left_ns / METANODE_NS_PER_MS + 1, TRASH_LOOK_MS));
    }
}

static void trash_run(struct loop_timer *timer)
{
    struct metanode_trash *t = container_of(timer, struct metanode_trash, timer);
    if (t->m->phase != METANODE_SERVING || t->stopped || t->busy) {
        return;
    }
    t->busy = true;
    t->again = false;
    t->read = (struct metanode_read){.run = trash_read, .done = trash_read_done};
    metanode_read(t->m, &t->read);
}

void metanode_trash_kick(struct metanode *m)
{
    struct metanode_trash *t = m->cleanup.trash;
    if (!loop_timer_active(&t->timer)) {
        trash_schedule(t, 0);
    }
}

void metanode_trash_came(struct metanode *m, int64_t expiry_ns)
{
    struct metanode_trash *t = m->cleanup.trash;
    bool sooner = t->due.files == 0 || expiry_ns < t->due.expiry_ns;
    t->due.files = base_max(t->due.files, 1);
    t->due.expiry_ns = sooner ? expiry_ns : t->due.expiry_ns;
    if (sooner) {
        t->again = true;
        trash_schedule(t, 0);
    }
}

int metanode_trash_init(struct metanode *m)
{
    struct metanode_trash *t = mem_zalloc(sizeof *t);
    if (t == NULL) {
        return -ENOMEM;
    }
    t->m = m;
    t->timer.fire = trash_run;
    m->cleanup.trash = t;
    return 0;
}

void metanode_trash_stop(struct metanode *m)
{
    m->cleanup.trash->stopped = true;
    loop_timer_cancel(m->env->loop, &m->cleanup.trash->timer);
}

void metanode_trash_fini(struct metanode *m)
{
    if (m->cleanup.trash != NULL) {
        metanode_trash_stop(m);
        mem_free(m->cleanup.trash);
        m->cleanup.trash = NULL;
    }
}
