/* base/list.h -- intrusive doubly linked lists. A node is in at most one list; no allocation, all
 * O(1). */
#pragma once

#include "base/base.h"

struct list {
    struct list *next,
        *prev; /* a head points to itself when empty; a node that is in no list too */
};

static inline void list_init(struct list *l)
{
    l->next = l;
    l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_insert_after(struct list *at, struct list *node)
{
    node->next = at->next;
    node->prev = at;
    at->next->prev = node;
    at->next = node;
}

static inline void list_push_back(struct list *head, struct list *node)
{
    list_insert_after(head->prev, node);
}

static inline void list_push_front(struct list *head, struct list *node)
{
    list_insert_after(head, node);
}

/* Fine for a node that is in no list, if it was initialised. */
static inline void list_remove(struct list *node)
{
    node->next->prev = node->prev;
    node->prev->next = node->next;
    list_init(node);
}

static inline struct list *list_pop_front(struct list *head)
{
    struct list *node = head->next;
    if (node == head) {
        return NULL;
    }
    list_remove(node);
    return node;
}

/* Moves all of `from` behind the end of `to`; `from` is empty afterwards. */
static inline void list_splice_back(struct list *to, struct list *from)
{
    if (!list_empty(from)) {
        from->next->prev = to->prev;
        to->prev->next = from->next;
        from->prev->next = to;
        to->prev = from->prev;
        list_init(from);
    }
}

/* NOLINTBEGIN(bugprone-macro-parentheses): `node` is declared, not used as a value. */
#define LIST_FOR_EACH(node, head) \
    for (struct list *node = (head)->next; node != (head); node = node->next)
/* The body may remove `node`, nothing else. */
#define LIST_FOR_EACH_SAFE(node, head)                                                     \
    for (struct list *node = (head)->next, *list_next_##node = node->next; node != (head); \
         node = list_next_##node, list_next_##node = node->next)
/* NOLINTEND(bugprone-macro-parentheses) */
#define LIST_ENTRY(node, type, member) container_of(node, type, member)
