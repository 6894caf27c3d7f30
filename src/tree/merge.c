#include "tree/merge.h"

#include <string.h>

#include "base/mem.h"
#include "tree/source_set_priv.h"

/*
 * The sources stand in a heap, by key. A call goes through steps: place all sources
 * (or step those that stand on the present key), look at the least key, fold what all sources say
 * about it, and if nothing remains of it pass over it. Each step can be gone on with: what a failed
 * call has done so far stays, and the same call continues. Any other call places all sources again,
 * relative to the record the merge stands on, which keeps its own copy of key and value.
 *
 * Where one source alone has the next records, and can say so, the merge only steps through them:
 * what it lends is the source's then, and is copied when the source is to move in another way.
 */

enum fold_outcome { FOLD_MORE, FOLD_VALUE, FOLD_NOTHING };

enum merge_call { MERGE_NO_CALL, MERGE_SEEK, MERGE_SEEK_BACK, MERGE_NEXT, MERGE_PREV };
enum merge_step { MERGE_PLACE, MERGE_LEAVE, MERGE_PASS, MERGE_LOOK, MERGE_FOLD };

struct merge_key {
    size_t len;
    uint8_t bytes[KV_KEY_MAX];
};

struct merge_slot {
    struct tree_source *source;
    struct tree_range range; /* of stable sources: what was last found, if `ranged` */
    bool ranged;
    bool on; /* it stands on a key */
};

struct tree_merge {
    const struct tree_snapshot *snapshot;
    struct merge_key lower, upper;
    struct source_set ranged; /* sources that may have deleted ranges */
    unsigned words;           /* of sets */
    bool ranges;              /* there are such sources */

    /* where it stands */
    bool standing;
    struct merge_key *key, *next_key; /* the second is of the record that is looked at */
    struct kv_slice value, next_value;
    struct tree_room room; /* of `value`, if it lies in none of the sources */
    uint32_t plain;        /* keys of the first source alone that it may simply step to */
    bool lent; /* it has stepped: `value`, and the key, which is not in `key`, are the source's */
    bool placed, backwards; /* the sources stand where going on this way needs them */

    /* the call that is under way, or failed and may be repeated */
    enum merge_call call;
    enum merge_step step;
    struct merge_key target, bound; /* of a seek; end of the range that is passed over */
    bool target_strict;             /* not the target itself */
    size_t place_count;             /* sources placed so far */
    struct source_set group, todo;  /* sources with the key looked at; those not asked yet */
    size_t group_count;
    size_t cover;       /* source whose range delete ended the folding; or count */
    bool bare;          /* and it has nothing newer in that range */
    bool taken, asked;  /* message and range of the first of `todo` */
    uint64_t range_msn; /* of the first of `todo`, if asked */
    enum fold_outcome outcome;
    struct tree_fold fold;

    struct merge_key keys[2];
    size_t heap_count, count;
    uint8_t heap[TREE_SOURCES_MAX];
    struct merge_slot slot[]; /* count */
};

/* ---- folding ---- */

void tree_fold_fini(struct tree_fold *f)
{
    mem_free(f->pending);
    tree_room_fini(&f->room);
    *f = (struct tree_fold){0};
}

static int fold_push(struct tree_fold *f, struct kv_slice body)
{
    if (f->count >= TREE_PENDING_MAX) {
        return -E2BIG;
    }
    int rc = mem_grow(&f->pending, &f->capacity, f->count + 1, sizeof f->pending[0]);
    if (rc == 0) {
        f->pending[f->count++] = body;
    }
    return rc;
}

static int fold_take(struct tree_fold *f, const struct tree_message *m, uint64_t range_msn)
{
    if (m->msn < range_msn) {
        return FOLD_NOTHING;
    }
    switch (m->type) {
    case TREE_PUT:
        return FOLD_VALUE;
    case TREE_DELETE:
        return FOLD_NOTHING;
    case TREE_UPSERT: {
        int rc = fold_push(f, m->body);
        return rc < 0 ? rc : FOLD_MORE;
    }
    case TREE_NOTE:
        return FOLD_MORE;
    case TREE_RANGE_DELETE:
    default:
        return -ERR_bad_value; /* no message of one key; a source read it somewhere */
    }
}

/* All that a source says about the key it stands on. An outcome, or an error: to be repeated with
 * *taken as it was left. */
static int fold_source(struct tree_fold *f, struct tree_source *s, uint64_t range_msn, bool *taken)
{
    int rc = 1;
    while (rc == 1) {
        if (!*taken) {
            int outcome = fold_take(f, &s->message, range_msn);
            if (outcome != FOLD_MORE) {
                return outcome;
            }
            *taken = true;
        }
        rc = s->ops->older(s);
        *taken = rc != 1;
    }
    if (rc < 0) {
        return rc;
    }
    return range_msn > 0 ? FOLD_NOTHING : FOLD_MORE;
}

/* The upserts, oldest first, on `value`; its address is NULL if there is none. 1, 0, -ENOMEM; it
 * may be repeated. */
static int fold_apply(struct tree_fold *f, struct kv_slice value, struct kv_slice *ret)
{
    for (size_t i = f->count; i > 0; i--) {
        struct tree_message m = {.type = TREE_UPSERT, .body = f->pending[i - 1]};
        int rc = tree_message_apply(&m, value, &f->room, &value);
        if (rc < 0) {
            return rc;
        }
    }
    if (value.at == NULL) {
        return 0;
    }
    *ret = value;
    return 1;
}

static struct kv_slice fold_value(const struct tree_source *s, int outcome)
{
    if (outcome != FOLD_VALUE) {
        return kv_slice_of(NULL, 0);
    }
    const void *at = s->message.body.at;
    return kv_slice_of(at != NULL ? at : "", s->message.body.len);
}

/* What a source says about a key, as an outcome. */
static int get_from(struct tree_source *s, struct kv_slice key, struct tree_fold *f)
{
    struct tree_range range = {0};
    bool taken = false;
    int rc = s->ops->find(s, key);
    if (rc >= 0 && s->has_ranges) {
        int covered = s->ops->covering(s, key, &range);
        rc = covered < 0 ? covered : rc;
    }
    if (rc <= 0) {
        return rc < 0 ? rc : range.msn > 0 ? FOLD_NOTHING : FOLD_MORE;
    }
    return fold_source(f, s, range.msn, &taken);
}

void tree_fold_begin(struct tree_fold *f)
{
    f->count = 0;
    f->base = kv_slice_of(NULL, 0);
    f->decided = false;
}

int tree_fold_ask(struct tree_fold *f, struct tree_source *s, struct kv_slice key)
{
    size_t count = f->count;
    CHECK(!f->decided);
    int outcome = get_from(s, key, f);
    if (outcome < 0) {
        f->count = count; /* what it said so far it will say again */
        return outcome;
    }
    if (outcome != FOLD_MORE) {
        f->base = fold_value(s, outcome);
        f->decided = true;
    }
    return f->decided ? 1 : 0;
}

int tree_fold_end(struct tree_fold *f, struct kv_slice *ret)
{
    return fold_apply(f, f->base, ret);
}

int tree_merge_get(struct tree_source *const *sources, size_t count, struct kv_slice key,
                   struct tree_fold *f, struct kv_slice *ret)
{
    int rc = 0;
    tree_fold_begin(f);
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = tree_fold_ask(f, sources[i], key);
    }
    return rc < 0 ? rc : tree_fold_end(f, ret);
}

/* ---- making ---- */

static void merge_key_set(struct merge_key *k, struct kv_slice from)
{
    CHECK(from.len <= KV_KEY_MAX);
    k->len = from.len;
    if (from.len > 0) {
        memcpy(k->bytes, from.at, from.len);
    }
}

static struct kv_slice merge_slice(const struct merge_key *k)
{
    return kv_slice_of(k->bytes, k->len);
}

size_t tree_merge_bytes(size_t count)
{
    return sizeof(struct tree_merge) + count * sizeof(struct merge_slot);
}

int tree_merge_new(const struct tree_merge_options *opt, struct tree_merge **ret)
{
    CHECK(opt->count <= TREE_SOURCES_MAX);
    struct tree_merge *m = mem_alloc(sizeof *m + opt->count * sizeof m->slot[0]);
    if (m == NULL) {
        return -ENOMEM;
    }
    memset(m, 0, offsetof(struct tree_merge, keys)); /* what follows is set before it is read */
    m->snapshot = opt->snapshot;
    m->count = opt->count;
    m->words = source_set_words(opt->count);
    m->heap_count = 0;
    m->key = &m->keys[0];
    m->next_key = &m->keys[1];
    m->key->len = 0;
    merge_key_set(&m->lower, opt->lower);
    merge_key_set(&m->upper, opt->upper);
    for (size_t i = 0; i < m->count; i++) {
        m->slot[i] = (struct merge_slot){.source = opt->sources[i]};
        if (opt->sources[i]->has_ranges) {
            source_set_add(&m->ranged, i);
            m->ranges = true;
        }
    }
    *ret = m;
    return 0;
}

struct tree_merge *tree_merge_free(struct tree_merge *m)
{
    if (m != NULL) {
        tree_fold_fini(&m->fold);
        tree_room_fini(&m->room);
        mem_free(m);
    }
    return NULL;
}

struct kv_slice tree_merge_key(const struct tree_merge *m)
{
    CHECK(m->standing);
    return m->lent ? m->slot[m->heap[0]].source->key : merge_slice(m->key);
}

struct kv_slice tree_merge_value(const struct tree_merge *m)
{
    CHECK(m->standing);
    return m->value;
}

/* ---- the heap ---- */

static bool heap_before(const struct tree_merge *m, size_t a, size_t b)
{
    int order = kv_slice_compare(m->slot[a].source->key, m->slot[b].source->key);
    return m->backwards ? order > 0 : order < 0;
}

static void heap_down(struct tree_merge *m, size_t at)
{
    uint8_t moved = m->heap[at];
    for (size_t child = 2 * at + 1; child < m->heap_count; child = 2 * at + 1) {
        if (child + 1 < m->heap_count && heap_before(m, m->heap[child + 1], m->heap[child])) {
            child++;
        }
        if (!heap_before(m, m->heap[child], moved)) {
            break;
        }
        m->heap[at] = m->heap[child];
        at = child;
    }
    m->heap[at] = moved;
}

static void heap_build(struct tree_merge *m)
{
    m->heap_count = 0;
    for (size_t i = 0; i < m->count; i++) {
        if (m->slot[i].on) {
            m->heap[m->heap_count++] = (uint8_t)i;
        }
    }
    for (size_t i = m->heap_count / 2; i > 0; i--) {
        heap_down(m, i - 1);
    }
}

/* The first has moved, or left the heap. */
static void heap_first_moved(struct tree_merge *m, bool on)
{
    m->slot[m->heap[0]].on = on;
    if (!on) {
        m->heap[0] = m->heap[--m->heap_count];
    }
    if (m->heap_count > 1) {
        heap_down(m, 0);
    }
}

/* All that stand on the key of the first: they are the top of the heap. */
static void heap_group(struct tree_merge *m)
{
    uint8_t open[TREE_SOURCES_MAX];
    size_t open_count = 1;
    struct kv_slice key = m->slot[m->heap[0]].source->key;
    source_set_clear(&m->group, m->words);
    source_set_add(&m->group, m->heap[0]);
    m->group_count = 1;
    open[0] = 0;
    while (open_count > 0) {
        size_t at = open[--open_count];
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < m->heap_count; child++) {
            if (kv_slice_compare(m->slot[m->heap[child]].source->key, key) == 0) {
                source_set_add(&m->group, m->heap[child]);
                m->group_count++;
                open[open_count++] = (uint8_t)child;
            }
        }
    }
}

/* ---- steps ---- */

static int merge_move(struct tree_source *s, bool backwards)
{
    return backwards ? s->ops->prev(s) : s->ops->next(s);
}

static int merge_place_one(struct tree_merge *m, struct tree_source *s)
{
    struct kv_slice target = merge_slice(&m->target);
    int rc = m->backwards ? s->ops->seek_back(s, target) : s->ops->seek(s, target);
    if (rc == 1 && m->target_strict && kv_slice_compare(s->key, target) == 0) {
        rc = merge_move(s, m->backwards);
    }
    return rc;
}

static int merge_place(struct tree_merge *m)
{
    while (m->place_count < m->count) {
        struct merge_slot *slot = &m->slot[m->place_count];
        int rc = merge_place_one(m, slot->source);
        if (rc < 0) {
            /* The others will say the same: what they lack is fetched at the same time. */
            for (size_t i = m->place_count + 1; rc == -ERR_need && i < m->count; i++) {
                (void)merge_place_one(m, m->slot[i].source);
            }
            return rc;
        }
        slot->on = rc == 1;
        m->place_count++;
    }
    heap_build(m);
    m->step = MERGE_LOOK;
    return 0;
}

/* Behind the range delete that covers the key, for that source, if it has nothing newer there, and
 * those behind it; else to the next. */
static int merge_pass_one(const struct tree_merge *m, size_t i, struct kv_slice key)
{
    struct tree_source *s = m->slot[i].source;
    struct kv_slice bound = merge_slice(&m->bound);
    if (i < m->cover || (i == m->cover && !m->bare)) {
        return merge_move(s, m->backwards);
    }
    if (bound.len == 0) {
        return 0;
    }
    if (!m->backwards) {
        return s->ops->seek(s, bound);
    }
    /* The low end belongs to the range: it is passed over by itself. */
    return kv_slice_compare(bound, key) == 0 ? s->ops->prev(s) : s->ops->seek_back(s, bound);
}

/* All sources on `key` go on. */
static int merge_pass(struct tree_merge *m, const struct merge_key *k)
{
    struct kv_slice key = merge_slice(k);
    while (m->heap_count > 0) {
        size_t first = m->heap[0];
        if (kv_slice_compare(m->slot[first].source->key, key) != 0) {
            break;
        }
        int rc = merge_pass_one(m, first, key);
        if (rc < 0) {
            return rc;
        }
        heap_first_moved(m, rc == 1);
    }
    m->step = MERGE_LOOK;
    return 0;
}

static bool merge_beyond(const struct tree_merge *m, struct kv_slice key)
{
    if (m->backwards) {
        return kv_slice_compare(key, merge_slice(&m->lower)) < 0;
    }
    return m->upper.len > 0 && kv_slice_compare(key, merge_slice(&m->upper)) >= 0;
}

/* Is there a key to fold? */
static bool merge_look(struct tree_merge *m)
{
    if (m->heap_count == 0) {
        return false;
    }
    struct kv_slice key = m->slot[m->heap[0]].source->key;
    if (merge_beyond(m, key)) {
        return false;
    }
    merge_key_set(m->next_key, key);
    heap_group(m);
    for (unsigned i = 0; i < m->words; i++) {
        m->todo.word[i] = m->group.word[i] | m->ranged.word[i];
    }
    m->cover = m->count;
    m->taken = false;
    m->asked = false;
    m->outcome = FOLD_MORE;
    m->fold.count = 0;
    m->step = MERGE_FOLD;
    return true;
}

static bool range_holds(const struct tree_range *r, struct kv_slice key)
{
    return kv_slice_compare(r->low, key) <= 0 &&
           (r->high.len == 0 || kv_slice_compare(key, r->high) < 0);
}

/* Asks a source what covers the key that is looked at. */
static int merge_ask_range(struct tree_merge *m, size_t i)
{
    struct merge_slot *slot = &m->slot[i];
    struct kv_slice key = merge_slice(m->next_key);
    m->range_msn = 0;
    if (slot->source->has_ranges && !(slot->ranged && range_holds(&slot->range, key))) {
        slot->ranged = false;
        int rc = slot->source->ops->covering(slot->source, key, &slot->range);
        if (rc < 0) {
            return rc;
        }
        slot->ranged = slot->source->stable;
    }
    if (slot->source->has_ranges && slot->range.msn > 0) {
        m->range_msn = slot->range.msn;
        merge_key_set(&m->bound, m->backwards ? slot->range.low : slot->range.high);
    }
    m->asked = true;
    return 0;
}

/* What the sources say, newest first, until it is known. */
static int merge_fold_all(struct tree_merge *m)
{
    while (m->outcome == FOLD_MORE) {
        size_t i = source_set_first(&m->todo, m->words);
        if (i == TREE_SOURCES_MAX) {
            break;
        }
        int rc = m->asked ? 0 : merge_ask_range(m, i);
        if (rc < 0) {
            return rc;
        }
        int outcome = m->range_msn > 0 ? FOLD_NOTHING : FOLD_MORE;
        if (source_set_has(&m->group, i)) {
            outcome = fold_source(&m->fold, m->slot[i].source, m->range_msn, &m->taken);
        }
        if (outcome < 0) {
            return outcome;
        }
        m->outcome = (enum fold_outcome)outcome;
        if (outcome == FOLD_MORE) {
            source_set_remove(&m->todo, i);
            m->taken = false;
            m->asked = false;
        } else if (outcome == FOLD_NOTHING && m->range_msn > 0) {
            m->cover = i;
            m->bare = m->slot[i].range.bare;
        }
    }
    return 0;
}

/* 1: it has landed; 0: nothing is there, pass on. */
static int merge_fold(struct tree_merge *m)
{
    struct kv_slice value = kv_slice_of(NULL, 0);
    bool stable = true;
    int rc = merge_fold_all(m);
    if (rc < 0) {
        return rc;
    }
    if (m->outcome == FOLD_VALUE) {
        const struct tree_source *s = m->slot[source_set_first(&m->todo, m->words)].source;
        value = fold_value(s, FOLD_VALUE);
        stable = s->stable;
    }
    if (m->fold.count == 0 && value.at != NULL && !stable) {
        rc = tree_room_reserve(&m->fold.room, value.len + 1); /* an empty value has an address */
        if (rc < 0) {
            return rc;
        }
        memcpy(m->fold.room.at, value.at, value.len);
        value.at = m->fold.room.at;
    }
    rc = fold_apply(&m->fold, value, &value);
    if (rc == 1) {
        m->next_value = value;
    } else if (rc == 0) {
        m->step = MERGE_PASS;
    }
    return rc;
}

/* ---- where one source is alone ---- */

/* It stands on a record of the first source. How many of that come before any other has something
 * to say? */
static uint32_t merge_plain(const struct tree_merge *m)
{
    struct kv_slice limit = merge_slice(&m->upper);
    size_t first = m->heap[0];
    struct tree_source *s = m->slot[first].source;
    bool alone = !m->backwards && !m->ranges && m->group_count == 1;
    if (!alone || m->fold.count > 0 || s->ops->plain == NULL) {
        return 0;
    }
    for (size_t i = 1; i < 3 && i < m->heap_count; i++) {
        struct kv_slice key = m->slot[m->heap[i]].source->key;
        limit = limit.len == 0 || kv_slice_compare(key, limit) < 0 ? key : limit;
    }
    return s->ops->plain(s, limit);
}

static int merge_step_plain(struct tree_merge *m)
{
    struct tree_source *s = m->slot[m->heap[0]].source;
    int rc = m->snapshot == NULL ? 0 : tree_snapshot_check(m->snapshot);
    if (rc < 0) {
        return rc;
    }
    m->plain--;
    m->lent = true;
    s->ops->step(s);
    m->value = fold_value(s, FOLD_VALUE);
    return 1;
}

/* Before a source moves in another way: what is lent becomes the merge's own. */
static int merge_settle(struct tree_merge *m)
{
    m->plain = 0;
    if (!m->lent) {
        return 0;
    }
    const struct tree_source *s = m->slot[m->heap[0]].source;
    if (!s->stable) {
        int rc = tree_room_reserve(&m->room, m->value.len + 1);
        if (rc < 0) {
            return rc;
        }
        memcpy(m->room.at, m->value.at, m->value.len);
        m->value.at = m->room.at;
    }
    merge_key_set(m->key, s->key);
    m->lent = false;
    return 0;
}

/* ---- landing ---- */

/* It stands on the key that was looked at. */
static void merge_land(struct tree_merge *m)
{
    struct merge_key *key = m->key;
    struct tree_room room = m->room;
    m->key = m->next_key;
    m->next_key = key;
    m->value = m->next_value;
    m->room = m->fold.room;
    m->fold.room = room;
    m->standing = true;
    m->placed = true;
    m->plain = merge_plain(m);
}

/* Until it lands, 1, or is at the end, 0. */
static int merge_steps(struct tree_merge *m)
{
    int rc = 0;
    while (rc == 0) {
        switch (m->step) {
        case MERGE_PLACE:
            rc = merge_place(m);
            break;
        case MERGE_LEAVE:
            rc = merge_pass(m, m->key);
            break;
        case MERGE_PASS:
            rc = merge_pass(m, m->next_key);
            break;
        case MERGE_LOOK:
            if (!merge_look(m)) {
                return 0;
            }
            break;
        case MERGE_FOLD:
            rc = merge_fold(m);
            break;
        default:
            CHECK(false && "a step");
        }
    }
    return rc;
}

static int merge_run(struct tree_merge *m)
{
    int rc = merge_steps(m);
    int cancelled = m->snapshot == NULL ? 0 : tree_snapshot_check(m->snapshot);
    if (cancelled < 0 || rc < 0) {
        return cancelled < 0 ? cancelled : rc;
    }
    m->call = MERGE_NO_CALL;
    if (rc == 1) {
        merge_land(m);
    } else {
        m->standing = false;
        m->placed = false;
        m->plain = 0;
    }
    return rc;
}

/* ---- calls ---- */

static void merge_begin_at(struct tree_merge *m, enum merge_call call, struct kv_slice target,
                           bool strict)
{
    m->call = call;
    m->step = MERGE_PLACE;
    m->backwards = call == MERGE_SEEK_BACK || call == MERGE_PREV;
    m->placed = false;
    m->place_count = 0;
    m->target_strict = strict;
    merge_key_set(&m->target, target);
}

static int merge_seek_to(struct tree_merge *m, enum merge_call call, struct kv_slice target,
                         bool strict)
{
    bool again = m->call == call && m->target_strict == strict &&
                 kv_slice_compare(merge_slice(&m->target), target) == 0;
    int rc = merge_settle(m);
    if (rc < 0) {
        return rc;
    }
    if (!again) {
        merge_begin_at(m, call, target, strict);
    }
    return merge_run(m);
}

int tree_merge_seek(struct tree_merge *m, struct kv_slice key)
{
    struct kv_slice lower = merge_slice(&m->lower);
    bool inside = kv_slice_compare(key, lower) > 0;
    return merge_seek_to(m, MERGE_SEEK, inside ? key : lower, false);
}

int tree_merge_seek_back(struct tree_merge *m, struct kv_slice key)
{
    struct kv_slice upper = merge_slice(&m->upper);
    bool inside = upper.len == 0 || (key.len > 0 && kv_slice_compare(key, upper) < 0);
    return merge_seek_to(m, MERGE_SEEK_BACK, inside ? key : upper, !inside);
}

static int merge_go(struct tree_merge *m, enum merge_call call)
{
    CHECK(m->standing);
    if (m->call == call) {
        return merge_run(m); /* it goes on */
    }
    if (m->plain > 0 && call == MERGE_NEXT) {
        return merge_step_plain(m);
    }
    int rc = merge_settle(m);
    if (rc < 0) {
        return rc;
    }
    if (m->placed && m->backwards == (call == MERGE_PREV)) {
        m->call = call;
        m->step = MERGE_LEAVE;
    } else {
        merge_begin_at(m, call, merge_slice(m->key), true);
    }
    return merge_run(m);
}

int tree_merge_next(struct tree_merge *m)
{
    return merge_go(m, MERGE_NEXT);
}

int tree_merge_prev(struct tree_merge *m)
{
    return merge_go(m, MERGE_PREV);
}
