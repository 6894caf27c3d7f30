/*
 * chunk/extent_memory.c -- the `extent` engine: bounds of what is known of chunks and has to be in
 * memory. There are two: what the index has not been told yet cannot be forgotten; and a start
 * after a crash takes into memory all chunks that the journal names behind the newest checkpoint,
 * before it forgets any. A record of 150 bytes may name a chunk that needs 12 KiB there, so the
 * length of the journal alone bounds nothing.
 */
#include "chunk/extent_index_priv.h"
#include "chunk/extent_room_priv.h"

#define ENTRIES_MANY_BYTES (UINT64_C(64) << 20)

/* It is told in time, and what comes faster than it takes waits. */
bool chunk_memory_full(struct chunk_store *s)
{
    uint64_t most = base_max(2 * s->opt.entry_bytes, ENTRIES_MANY_BYTES);
    if (s->cached_bytes >= most / 4 * 3) { /* above what is always full of what may be forgotten */
        chunk_extent_round(s);
    }
    return s->cached_bytes >= most;
}

/* ---- What a start would take ---- */

void chunk_backlog_init(struct chunk_extent *x)
{
    uint64_t most = base_max(2 * x->s->opt.entry_bytes, ENTRIES_MANY_BYTES);
    x->backlog = (struct chunk_backlog){.most_bytes = 4 * most};
}

/* A chunk counts once, and for what it grows by. One that was forgotten meanwhile counts again. */
void chunk_backlog_named(struct chunk_extent *x, struct chunk_entry *e, uint64_t index)
{
    struct chunk_backlog *b = &x->backlog;
    bool again = e->named > 0 && e->known > x->newer;
    bool later = e->named > 0 && e->known > b->next_from;
    size_t more = e->charged > e->named ? e->charged - e->named : 0;
    b->bytes += again ? more : e->charged;
    b->next_bytes += later ? more : e->charged;
    e->named = e->charged;
    e->known = base_max(e->known, index);
}

/* What the checkpoint that begins does not have is what the index does not know. */
void chunk_backlog_begin(struct chunk_extent *x)
{
    struct chunk_backlog *b = &x->backlog;
    b->next_from = kv_applied_index(x->index);
    b->next_bytes = 0;
    LIST_FOR_EACH(node, &x->s->dirty)
    {
        const struct chunk_entry *e = LIST_ENTRY(node, struct chunk_entry, dirty);
        b->next_bytes += e->known > b->next_from ? e->charged : 0;
    }
}

void chunk_backlog_over(struct chunk_extent *x)
{
    x->backlog.bytes = x->backlog.next_bytes;
}

/* A checkpoint makes it less, and a round before that. */
bool chunk_backlog_full(struct chunk_extent *x)
{
    const struct chunk_backlog *b = &x->backlog;
    if (b->bytes >= b->most_bytes / 2) {
        chunk_extent_round(x->s);
        chunk_extent_hurry(x);
    }
    return b->bytes >= b->most_bytes;
}

/* The next start would take all of it again, and what comes on top, until a checkpoint is made. */
void chunk_backlog_replayed(struct chunk_extent *x)
{
    LIST_FOR_EACH(node, &x->s->clock)
    {
        struct chunk_entry *e = LIST_ENTRY(node, struct chunk_entry, clock);
        chunk_entry_charge(x->s, e);
        if (e->known > x->newer) {
            e->named = e->charged;
            x->backlog.bytes += e->charged;
        }
    }
}

/* ---- What waits for it ---- */

/* Not on a disk where the index has no room: what removes is what gives it some. */
static bool admit_waits(struct chunk_extent *x)
{
    const struct chunk_store *s = x->s;
    chunk_extent_pace(x);
    bool behind = chunk_backlog_full(x), full = chunk_journal_full(x);
    if (full) {
        chunk_room_trim(x);
    }
    return (behind || full) && !x->index_full && !s->stopping && s->failed == 0;
}

static void admit_again(struct chunk_work *w)
{
    chunk_extent_admit(w, w->next);
}

/* In its turn, and in order of those that wait: updates, which can be told to come again, are. */
void chunk_extent_admit(struct chunk_work *w, chunk_next *next)
{
    struct chunk_extent *x = w->s->extent;
    if (!admit_waits(x)) {
        next(w, 0);
        return;
    }
    w->next = next;
    w->begin = admit_again;
    list_remove(&w->ready);
    list_push_back(&x->admits, &w->ready);
}

void chunk_admits_again(struct chunk_extent *x)
{
    for (struct list *node = list_pop_front(&x->admits); node != NULL;
         node = list_pop_front(&x->admits)) {
        chunk_work_ready(LIST_ENTRY(node, struct chunk_work, ready));
    }
}
