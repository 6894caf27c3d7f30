/* history/check.c -- see check.h. */
#include "check.h"

#include "tree.h"

#include "base/dict.h"
#include "base/mem.h"
#include "base/text.h"

#include <string.h>
#include <xxhash.h>

#define NO_SLOT UINT8_MAX
#define MARKS_PER_BLOCK 1024u

/* A place that was looked at. */
struct mark {
    struct dict_node node;
    uint64_t low, high;
};
struct mark_block {
    struct mark_block *next;
    struct mark mark[MARKS_PER_BLOCK];
};
/* One choice on the way: at the end of an operation that has not happened yet. */
struct frame {
    struct tree tree;
    size_t place; /* event */
    unsigned candidate;
};
struct search {
    const struct history *h;
    uint8_t *slot;                  /* by operation; NO_SLOT: it is not looked at */
    uint32_t (*active)[TREE_SLOTS]; /* by event: operation + 1 in each slot */
    struct dict seen;
    struct mark_block *blocks;
    size_t block_used;
    struct frame *frame;
    size_t depth, capacity;
    uint64_t states_max;
    struct tree best; /* where the farthest place was reached last */
    size_t best_place;
    struct check_report *report;
};

static bool mark_equal(const struct dict_node *node, const void *key)
{
    const struct mark *m = container_of((struct dict_node *)node, struct mark, node);
    const XXH128_hash_t *hash = key;
    return m->low == hash->low64 && m->high == hash->high64;
}
static const struct dict_ops mark_ops = {.equal = mark_equal};

/* 1: it is new; 0: it was here before. */
static int mark(struct search *s, const struct frame *f)
{
    XXH128_hash_t hash = XXH3_128bits_withSeed(&f->tree, sizeof f->tree, f->place);
    if (dict_find(&s->seen, hash.low64, &hash) != NULL) {
        return 0;
    }
    if (s->blocks == NULL || s->block_used == MARKS_PER_BLOCK) {
        struct mark_block *b = mem_zalloc(sizeof *b);
        if (b == NULL) {
            return -ENOMEM;
        }
        b->next = s->blocks;
        s->blocks = b;
        s->block_used = 0;
    }
    struct mark *m = &s->blocks->mark[s->block_used++];
    m->low = hash.low64;
    m->high = hash.high64;
    s->report->states++;
    int rc = dict_insert(&s->seen, hash.low64, &m->node);
    return rc < 0 ? rc : 1;
}

/* ---- Slots: operations under way at each event ---- */

/* Questions whose answer nobody knows say nothing. */
static bool is_looked_at(const struct history_op *op)
{
    return op->outcome != HISTORY_OPEN || !history_is_question(op->kind);
}

static int give_slots(struct search *s)
{
    const struct history *h = s->h;
    uint32_t now[TREE_SLOTS] = {0};
    s->slot = mem_alloc(h->op_count + 1);
    s->active = mem_calloc(h->event_count + 1, sizeof *s->active);
    if (s->slot == NULL || s->active == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < h->event_count; i++) {
        uint32_t op = h->event[i].op;
        if (h->event[i].end) {
            memcpy(s->active[i], now, sizeof now);
            now[s->slot[op]] = 0;
            continue;
        }
        unsigned at = 0;
        while (at < TREE_SLOTS && now[at] != 0) {
            at++;
        }
        s->slot[op] = is_looked_at(&h->op[op]) ? (uint8_t)at : NO_SLOT;
        if (s->slot[op] != NO_SLOT && at == TREE_SLOTS) {
            return -E2BIG;
        }
        if (s->slot[op] != NO_SLOT) {
            now[at] = op + 1;
        }
    }
    return 0;
}

/* ---- The search ---- */

/* Goes on to the next end of an operation that has not happened yet in this order; false: there is
 * none, all is done. */
static bool advance(const struct search *s, struct frame *f)
{
    const struct history *h = s->h;
    for (; f->place < h->event_count; f->place++) {
        const struct history_event *e = &h->event[f->place];
        unsigned slot = s->slot[e->op];
        if (e->end && !tree_has_ended(&f->tree, slot)) {
            return true;
        }
        if (slot != NO_SLOT) {
            tree_begin(&f->tree, slot);
        }
    }
    return false;
}

/* Takes the place that `f` has come to. 1: the end of the history. */
static int push(struct search *s, struct frame *f)
{
    bool more = advance(s, f);
    if (f->place >= s->best_place) {
        s->best_place = f->place;
        s->best = f->tree;
    }
    if (!more) {
        return 1;
    }
    tree_normalize(&f->tree);
    int rc = mark(s, f);
    if (rc <= 0) {
        return rc;
    }
    rc = mem_grow(&s->frame, &s->capacity, s->depth + 1, sizeof *s->frame);
    if (rc == 0) {
        f->candidate = 0;
        s->frame[s->depth++] = *f;
    }
    return rc;
}

/* The operation whose answer is due comes first, then the others. */
static unsigned candidate_slot(unsigned due, unsigned candidate)
{
    return candidate == 0 ? due : candidate <= due ? candidate - 1 : candidate;
}

/* Tries the next step that the top of the stack has not tried. 1: all is in order. */
static int next(struct search *s)
{
    struct frame *top = &s->frame[s->depth - 1];
    if (top->candidate == TREE_SLOTS) {
        s->depth--;
        return 0;
    }
    unsigned due = s->slot[s->h->event[top->place].op];
    unsigned slot = candidate_slot(due, top->candidate++);
    uint32_t op = s->active[top->place][slot];
    if (op == 0 || tree_has_ended(&top->tree, slot)) {
        return 0;
    }
    struct frame f = *top;
    s->report->steps++;
    int rc = tree_step(&f.tree, &s->h->op[op - 1], slot);
    return rc <= 0 ? rc : push(s, &f);
}

static int run(struct search *s)
{
    struct frame *f = mem_zalloc(sizeof *f);
    if (f == NULL) {
        return -ENOMEM;
    }
    tree_init(&f->tree);
    int rc = push(s, f);
    mem_free(f);
    while (rc == 0 && s->depth > 0) {
        rc = s->report->states > s->states_max ? -E2BIG : next(s);
    }
    return rc;
}

static void explain(struct search *s)
{
    const struct history *h = s->h;
    struct text t;
    text_init(&t, s->report->text, sizeof s->report->text);
    s->report->stuck = h->event[s->best_place].op;
    text_add(&t, "no order explains: ");
    history_op_to_text(h, &h->op[s->report->stuck], &t);
    text_add(&t, "\n  under way: ");
    for (unsigned i = 0; i < TREE_SLOTS; i++) {
        uint32_t op = s->active[s->best_place][i];
        if (op != 0 && op - 1 != s->report->stuck) {
            text_add(&t, "\n    ");
            history_op_to_text(h, &h->op[op - 1], &t);
            text_add(&t, tree_has_ended(&s->best, i) ? " (has happened)" : "");
        }
    }
    text_add(&t, "\n  a tree that was possible: ");
    tree_to_text(&s->best, h, &t);
}

int check_history(const struct history *h, uint64_t states_max, struct check_report *ret)
{
    struct search s = {.h = h, .report = ret};
    *ret = (struct check_report){.verdict = CHECK_UNKNOWN};
    s.states_max = states_max == 0 ? CHECK_STATES_MAX : states_max;
    dict_init(&s.seen, &mark_ops, NULL, 0);
    int rc = give_slots(&s);
    rc = rc < 0 ? rc : run(&s);
    if (rc == 1) {
        ret->verdict = CHECK_LINEARIZABLE;
    } else if (rc == 0) {
        ret->verdict = CHECK_NOT_LINEARIZABLE;
        explain(&s);
    } else if (rc == -E2BIG) {
        struct text t;
        text_init(&t, ret->text, sizeof ret->text);
        text_add(&t, "too many states, too many operations under way, or too many files");
    }
    dict_fini(&s.seen);
    while (s.blocks != NULL) {
        struct mark_block *b = s.blocks;
        s.blocks = b->next;
        mem_free(b);
    }
    mem_free(s.frame);
    mem_free(s.slot);
    mem_free(s.active);
    return rc == -ENOMEM ? rc : 0;
}
