#include "tree/snapshots.h"

#include "testing/testing.h"

static struct tree_snapshots *snapshots(size_t count_max, uint64_t budget_bytes)
{
    struct tree_snapshots *s = NULL;
    struct tree_snapshots_options opt = {
        .count_max = count_max, .budget_bytes = budget_bytes, .published = 10};
    CHECK_OK(tree_snapshots_new(&opt, &s));
    return s;
}

static unsigned publish(struct tree_snapshots *s, uint64_t msn, uint64_t bytes, uint64_t kept)
{
    return tree_snapshots_publish(s, msn, &(struct tree_superseded){.bytes = bytes, .kept = kept});
}

TEST(limits_are_what_was_published)
{
    struct tree_snapshots *s = snapshots(3, 100);
    struct tree_snapshot a, b, c, d;
    CHECK_OK(tree_snapshots_take(s, &a));
    publish(s, 20, 0, 0);
    CHECK_OK(tree_snapshots_take(s, &b));
    CHECK_OK(tree_snapshots_take(s, &c));
    CHECK_RC(tree_snapshots_take(s, &d), ERR_busy);
    publish(s, 30, 0, 0);
    CHECK_EQ(a.limit, 10);
    CHECK_EQ(b.limit, 20);
    CHECK_EQ(c.limit, 20);
    const struct tree_snapshots_view *v = tree_snapshots_look(s);
    uint64_t youngest = 0;
    CHECK_EQ(v->published, 30);
    CHECK_EQ(v->count, 2);
    CHECK_TRUE(tree_snapshots_youngest(v, &youngest));
    CHECK_EQ(youngest, 20);
    tree_snapshots_release(s, &b);
    CHECK_OK(tree_snapshots_take(s, &d));
    CHECK_EQ(d.limit, 30);
    tree_snapshots_release(s, &c);
    tree_snapshots_release(s, &a);
    v = tree_snapshots_look(s);
    CHECK_EQ(v->count, 1);
    CHECK_EQ(v->limit[0], 30);
    tree_snapshots_release(s, &d);
    CHECK_TRUE(!tree_snapshots_youngest(tree_snapshots_look(s), &youngest));
    tree_snapshots_free(s);
}

TEST(between_and_oldest_reader_know_the_ends)
{
    struct tree_snapshots *s = snapshots(4, 100);
    struct tree_snapshot a, b;
    CHECK_EQ(tree_snapshots_oldest_reader(tree_snapshots_look(s), 0), 10);
    CHECK_TRUE(!tree_snapshots_between(tree_snapshots_look(s), 0, 100));
    CHECK_OK(tree_snapshots_take(s, &a)); /* 10 */
    publish(s, 20, 0, 0);
    CHECK_OK(tree_snapshots_take(s, &b)); /* 20 */
    publish(s, 30, 0, 0);
    const struct tree_snapshots_view *v = tree_snapshots_look(s);
    CHECK_TRUE(tree_snapshots_between(v, 10, 11));
    CHECK_TRUE(tree_snapshots_between(v, 5, 11));
    CHECK_TRUE(!tree_snapshots_between(v, 5, 10));
    CHECK_TRUE(!tree_snapshots_between(v, 11, 20));
    CHECK_TRUE(tree_snapshots_between(v, 11, 21));
    CHECK_TRUE(tree_snapshots_between(v, 20, 30));
    CHECK_TRUE(!tree_snapshots_between(v, 21, 1000));
    CHECK_EQ(tree_snapshots_oldest_reader(v, 9), 10);
    CHECK_EQ(tree_snapshots_oldest_reader(v, 10), 20); /* above the base only */
    CHECK_EQ(tree_snapshots_oldest_reader(v, 20), 30);
    tree_snapshots_release(s, &a);
    CHECK_EQ(tree_snapshots_oldest_reader(tree_snapshots_look(s), 9), 20);
    tree_snapshots_release(s, &b);
    tree_snapshots_free(s);
}

TEST(the_oldest_is_given_up_when_too_much_is_kept)
{
    struct tree_snapshots *s = snapshots(4, 100);
    struct tree_snapshot a, b;
    CHECK_OK(tree_snapshots_take(s, &a));
    CHECK_EQ(publish(s, 20, 60, 0), 0); /* `a` sees all that was superseded: it is at 10 */
    CHECK_EQ(tree_snapshots_state(s).kept_bytes, 60);
    CHECK_OK(tree_snapshots_take(s, &b));
    CHECK_EQ(publish(s, 30, 40, 7), 0); /* so does `b` */
    CHECK_EQ(tree_snapshots_state(s).kept_bytes, 100);
    CHECK_EQ(publish(s, 40, 50, 7), 1); /* `b` sees 7 of this; that is too much */
    CHECK_RC(tree_snapshot_check(&a), ECANCELED);
    CHECK_OK(tree_snapshot_check(&b));
    CHECK_EQ(tree_snapshots_state(s).kept_bytes, 47);
    CHECK_EQ(tree_snapshots_state(s).live_count, 1);
    CHECK_EQ(tree_snapshots_state(s).cancelled_count, 1);
    const struct tree_snapshots_view *v = tree_snapshots_look(s);
    CHECK_TRUE(!tree_snapshots_between(v, 0, 20));    /* nothing is kept for it any more */
    CHECK_EQ(tree_snapshots_oldest_reader(v, 0), 10); /* but it may be reading */
    tree_snapshots_release(s, &a);
    CHECK_EQ(tree_snapshots_oldest_reader(tree_snapshots_look(s), 0), 20);
    tree_snapshots_release(s, &b);
    CHECK_EQ(tree_snapshots_state(s).kept_bytes, 0);
    tree_snapshots_free(s);
}

TEST(what_was_kept_for_one_passes_to_the_next_older)
{
    struct tree_snapshots *s = snapshots(4, 100);
    struct tree_snapshot a, b;
    CHECK_OK(tree_snapshots_take(s, &a));
    publish(s, 20, 10, 0);
    CHECK_OK(tree_snapshots_take(s, &b));
    publish(s, 30, 20, 0);
    tree_snapshots_release(s, &b);
    CHECK_EQ(tree_snapshots_state(s).kept_bytes, 30);
    CHECK_EQ(a.kept_bytes, 30);
    CHECK_EQ(publish(s, 40, 99, 0), 0); /* nobody sees that */
    CHECK_OK(tree_snapshots_take(s, &b));
    CHECK_EQ(publish(s, 50, 200, 0), 2); /* all of them, if need be */
    CHECK_EQ(tree_snapshots_state(s).kept_bytes, 0);
    CHECK_EQ(tree_snapshots_state(s).published, 50);
    tree_snapshots_release(s, &a);
    tree_snapshots_release(s, &b);
    tree_snapshots_free(s);
}

/* Neither for what is kept for it, nor do others go for that. */
TEST(the_one_that_is_held_is_never_given_up)
{
    struct tree_snapshots *s = snapshots(1, 100);
    struct tree_snapshot a, b, held;
    CHECK_OK(tree_snapshots_take(s, &a));
    tree_snapshots_hold(s, &held); /* beside as many as there may be */
    CHECK_RC(tree_snapshots_take(s, &b), ERR_busy);
    CHECK_EQ(tree_snapshots_look(s)->count, 1);
    CHECK_EQ(publish(s, 20, 500, 0), 0);
    CHECK_EQ(held.kept_bytes, 500);
    CHECK_TRUE(!tree_snapshots_give_up(s));
    tree_snapshots_release(s, &a);
    CHECK_OK(tree_snapshots_take(s, &b));
    CHECK_EQ(publish(s, 30, 101, 0), 1);
    CHECK_RC(tree_snapshot_check(&b), ECANCELED);
    CHECK_OK(tree_snapshot_check(&held));
    CHECK_EQ(tree_snapshots_look(s)->limit[0], 10);
    CHECK_EQ(tree_snapshots_look(s)->cancelled[0], 20);
    tree_snapshots_release(s, &held);
    CHECK_EQ(tree_snapshots_state(s).kept_bytes, 0);
    CHECK_EQ(tree_snapshots_state(s).live_count, 0);
    tree_snapshots_release(s, &b);
    tree_snapshots_free(s);
}

TEST_TORTURE(a_list_survives_a_failed_allocation)
{
    CLEANUP(tree_snapshots_freep) struct tree_snapshots *s = NULL;
    TRY(tree_snapshots_new(&(struct tree_snapshots_options){.count_max = 1}, &s));
    CHECK_EQ(tree_snapshots_state(s).live_count, 0);
}

TEST(the_oldest_is_given_up_when_memory_is_short)
{
    struct tree_snapshots *s = snapshots(3, 100);
    struct tree_snapshot a, b;
    CHECK_TRUE(!tree_snapshots_give_up(s));
    CHECK_OK(tree_snapshots_take(s, &a));
    CHECK_TRUE(!tree_snapshots_give_up(s)); /* nothing is kept for it */
    publish(s, 20, 40, 40);
    CHECK_OK(tree_snapshots_take(s, &b));
    CHECK_TRUE(tree_snapshots_give_up(s));
    CHECK_RC(tree_snapshot_check(&a), ECANCELED);
    CHECK_OK(tree_snapshot_check(&b));
    CHECK_EQ(tree_snapshots_state(s).kept_bytes, 0);
    CHECK_TRUE(!tree_snapshots_give_up(s));
    tree_snapshots_release(s, &a);
    tree_snapshots_release(s, &b);
    tree_snapshots_free(s);
}
