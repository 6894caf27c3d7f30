/* loop/source.c -- see source.h. */
#include "loop/source.h"

#include "loop/loop_priv.h"

void loop_source_add(struct loop *l, struct loop_source *s)
{
    LOOP_OWNED(l);
    CHECK(!l->simulated);
    CHECK(s->flush != NULL && s->ready != NULL && s->rest != NULL && s->run != NULL);
    list_push_back(&l->sources, &s->node);
}

void loop_source_remove(struct loop *l, struct loop_source *s)
{
    LOOP_OWNED(l);
    list_remove(&s->node);
}

int loop_source_wake_fd(const struct loop *l)
{
    CHECK(!l->simulated);
    return l->ops->wake_fd(l);
}

int64_t loop_source_thread(const struct loop *l)
{
    return l->thread_id;
}

void loop_sources_flush(struct loop *l)
{
    LIST_FOR_EACH(node, &l->sources)
    {
        struct loop_source *s = LIST_ENTRY(node, struct loop_source, node);
        s->flush(s);
    }
}

bool loop_sources_ready(struct loop *l)
{
    LIST_FOR_EACH(node, &l->sources)
    {
        struct loop_source *s = LIST_ENTRY(node, struct loop_source, node);
        if (s->ready(s)) {
            return true;
        }
    }
    return false;
}

/* All of them, also when the first has something already. */
bool loop_sources_rest(struct loop *l)
{
    bool ready = false;
    LIST_FOR_EACH(node, &l->sources)
    {
        struct loop_source *s = LIST_ENTRY(node, struct loop_source, node);
        ready = s->rest(s) || ready;
    }
    return ready;
}

/* A source goes back into the list before it runs: it may remove itself or another. */
void loop_sources_run(struct loop *l)
{
    struct list todo;
    list_init(&todo);
    list_splice_back(&todo, &l->sources);
    for (struct list *node; (node = list_pop_front(&todo)) != NULL;) {
        struct loop_source *s = LIST_ENTRY(node, struct loop_source, node);
        list_push_back(&l->sources, node);
        if (!l->stopping) {
            s->run(s);
        }
    }
}
