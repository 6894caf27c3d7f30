/*
 * history/force.c -- the question of check.h, answered the simple way: every order of the
 * operations' steps is tried, nothing is remembered, nothing is left out. For tests of the checker.
 */
#include "check.h"

#include "tree.h"

#include "base/mem.h"

#include <string.h>

#define FORCE_OPS 8u
#define FORCE_DEPTH ((size_t)FORCE_OPS * 2u * (HISTORY_DEPTH + 1u))

struct force_frame {
    struct tree tree;
    unsigned candidate;
};

static size_t event_of(const struct history *h, size_t op, bool end)
{
    for (size_t i = 0; i < h->event_count; i++) {
        if (h->event[i].op == op && h->event[i].end == end) {
            return i;
        }
    }
    return SIZE_MAX;
}

/* May `op` do something now: has it begun before everything ended that has not happened yet? */
static bool may_go(const struct history *h, const struct tree *t, size_t op)
{
    size_t begin = event_of(h, op, false);
    for (unsigned i = 0; i < h->op_count; i++) {
        if (!tree_has_ended(t, i) && event_of(h, i, true) < begin) {
            return false;
        }
    }
    return !tree_has_ended(t, (unsigned)op);
}

static bool all_answered(const struct history *h, const struct tree *t)
{
    for (unsigned i = 0; i < h->op_count; i++) {
        if (h->op[i].outcome != HISTORY_OPEN && !tree_has_ended(t, i)) {
            return false;
        }
    }
    return true;
}

int check_by_force(const struct history *h)
{
    CHECK(h->op_count <= FORCE_OPS);
    struct force_frame *stack = mem_calloc(FORCE_DEPTH + 1, sizeof *stack);
    size_t depth = 1;
    int found = stack == NULL ? -ENOMEM : 0;
    if (stack != NULL) {
        tree_init(&stack[0].tree);
    }
    while (found == 0 && depth > 0) {
        struct force_frame *top = &stack[depth - 1];
        if (all_answered(h, &top->tree)) {
            found = 1;
        } else if (top->candidate == h->op_count) {
            depth--;
        } else {
            unsigned op = top->candidate++;
            struct force_frame *below = &stack[depth];
            *below = (struct force_frame){.tree = top->tree};
            bool goes = may_go(h, &top->tree, op);
            int rc = goes ? tree_step(&below->tree, &h->op[op], op) : 0;
            CHECK(rc >= 0 && depth < FORCE_DEPTH);
            depth += rc == 1 ? 1 : 0;
        }
    }
    mem_free(stack);
    return found;
}
