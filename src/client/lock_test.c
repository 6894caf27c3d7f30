#include "client/lock_priv.h"

#include "client/fake_world_priv.h"
#include "opendfs/lock.h"
#include "testing/testing.h"

/* Locks as the library asks for them and lets them go; who gets one is for metanode/lock_test.c. */

#define RW (OPENDFS_READ | OPENDFS_WRITE)
#define OWNER 77u

static const struct opendfs_lock whole = {.kind = OPENDFS_LOCK_POSIX,
                                          .type = OPENDFS_LOCK_WRITE,
                                          .last = OPENDFS_LOCK_LAST,
                                          .owner = OWNER,
                                          .pid = 4711};
static const struct opendfs_lock none = {
    .kind = OPENDFS_LOCK_POSIX, .last = OPENDFS_LOCK_LAST, .owner = OWNER};

static struct opendfs_file *begin(struct world *w)
{
    world_open(w, testing_seed());
    world_start(w);
    w->cluster->locks.outcome = PROTO_LOCK_GRANTED;
    return world_file(w, "/f", RW | OPENDFS_CREATE);
}
static void finish(struct world *w, struct opendfs_file *f)
{
    if (f != NULL) {
        CHECK_OK(DO(w, close, f, NULL, 0));
    }
    world_close(w);
}
static unsigned unlocks(const struct world *w)
{
    return w->cluster->executed[PROTO_OP_unlock % 1024];
}

TEST(what_was_taken_is_let_go_and_nothing_else)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_OK(DO(&w, lock, f, &none, 0));
    CHECK_EQ(unlocks(&w), 0); /* there is nothing: nobody is asked */
    struct opendfs_lock part = whole;
    part.start = 10;
    part.last = 19;
    CHECK_OK(DO(&w, lock, f, &part, 0));
    const struct proto_lock_request *q = &w.cluster->locks.newest;
    CHECK_TRUE(q->start == 10 && q->last == 19 && q->owner == OWNER && q->pid == 4711);
    CHECK_TRUE(q->type == PROTO_LOCK_WRITE && q->kind == PROTO_LOCK_POSIX && !q->wait);
    CHECK_TRUE(client_lock_held(f, OPENDFS_LOCK_POSIX, OWNER));
    CHECK_TRUE(!client_lock_held(f, OPENDFS_LOCK_FLOCK, OWNER));
    part.type = OPENDFS_LOCK_NONE;
    CHECK_OK(DO(&w, lock, f, &part, 0));
    CHECK_EQ(unlocks(&w), 1);
    CHECK_TRUE(client_lock_held(f, OPENDFS_LOCK_POSIX, OWNER)); /* elsewhere, perhaps */
    CHECK_OK(DO(&w, lock, f, &none, 0));
    CHECK_EQ(unlocks(&w), 2);
    CHECK_TRUE(!client_lock_held(f, OPENDFS_LOCK_POSIX, OWNER));
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_run(&w, SECOND);
    CHECK_EQ(unlocks(&w), 2);
    finish(&w, NULL);
}

TEST(each_outcome_has_its_error)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    w.cluster->locks.outcome = PROTO_LOCK_CONFLICT;
    CHECK_EQ(DO(&w, lock, f, &whole, 0), -EAGAIN);
    w.cluster->locks.outcome = PROTO_LOCK_DEADLOCK;
    CHECK_EQ(DO(&w, lock, f, &whole, 1), -EDEADLK);
    CHECK_TRUE(w.cluster->locks.newest.wait);
    CHECK_TRUE(!client_lock_held(f, OPENDFS_LOCK_POSIX, OWNER));
    struct opendfs_lock bad = whole;
    bad.start = 5;
    bad.last = 4;
    CHECK_EQ(DO(&w, lock, f, &bad, 0), -EINVAL);
    bad = whole;
    bad.kind = OPENDFS_LOCK_FLOCK;
    bad.start = 1;
    CHECK_EQ(DO(&w, lock, f, &bad, 0), -EINVAL);
    struct opendfs_file *r = world_file(&w, "/f", OPENDFS_READ);
    CHECK_EQ(DO(&w, lock, r, &whole, 0), -EBADF); /* to write needs a handle that writes */
    CHECK_OK(DO(&w, close, r, NULL, 0));
    finish(&w, f);
}

/* Longer than any attempt: asked again and again, with one cookie. */
TEST(who_waits_waits_however_long_it_takes)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    w.cluster->locks.hold = true;
    opendfs_async_lock(w.fs, world_op(&w), f, &whole, 1);
    world_run(&w, SECOND);
    uint64_t cookie = w.cluster->locks.newest.cookie;
    world_run(&w, 100 * SECOND);
    CHECK_TRUE(w.cluster->locks.asked > 2);
    CHECK_EQ(w.cluster->locks.newest.cookie, cookie);
    loop_sim_enter(w.loop[0], fake_lock_let, w.cluster);
    CHECK_OK(world_wait(&w));
    w.cluster->locks.late = 3; /* its server was faster with giving up than our own clock */
    CHECK_OK(DO(&w, lock, f, &whole, 1));
    CHECK_EQ(w.cluster->locks.late, 0);
    cookie = w.cluster->locks.newest.cookie;
    CHECK_OK(DO(&w, lock, f, &whole, 0));
    CHECK_TRUE(w.cluster->locks.newest.cookie != cookie);
    finish(&w, f);
}

TEST(who_gives_up_is_told_whether_it_was_granted)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    for (unsigned late = 0; late < 2; late++) {
        w.cluster->locks.hold = true;
        w.cluster->locks.granted_late = late == 1;
        opendfs_async_lock(w.fs, world_op(&w), f, &whole, 1);
        world_run(&w, SECOND);
        opendfs_async_cancel(w.fs, &w.op);
        CHECK_EQ(world_wait(&w), late == 1 ? 0 : -ECANCELED);
        CHECK_TRUE(w.cluster->locks.newest.cancel);
        CHECK_EQ(client_lock_held(f, OPENDFS_LOCK_POSIX, OWNER), late == 1);
        world_run(&w, SECOND);
    }
    finish(&w, f);
}

/* The last handle of an open file may be closed by another process than the one that locked. */
TEST(closing_a_handle_lets_go_of_what_was_locked_through_it)
{
    struct world w;
    struct opendfs_file *f = begin(&w), *g = world_file(&w, "/f", RW);
    CHECK_OK(DO(&w, lock, f, &whole, 0));
    CHECK_OK(DO(&w, close, g, NULL, 0));
    world_run(&w, SECOND);
    CHECK_EQ(unlocks(&w), 0);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_run(&w, SECOND);
    CHECK_EQ(unlocks(&w), 1);
    const struct proto_unlock_request *q = &w.cluster->locks.let_go;
    CHECK_TRUE(q->start == 0 && q->last == PROTO_LOCK_LAST && q->owner == OWNER);
    finish(&w, NULL);
}

TEST(another_type_of_flock_is_another_lock)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    struct opendfs_lock l = whole;
    l.kind = OPENDFS_LOCK_FLOCK;
    l.type = OPENDFS_LOCK_READ;
    CHECK_OK(DO(&w, lock, f, &l, 0));
    CHECK_OK(DO(&w, lock, f, &l, 0));
    CHECK_EQ(unlocks(&w), 0);
    w.cluster->locks.outcome = PROTO_LOCK_CONFLICT;
    l.type = OPENDFS_LOCK_WRITE;
    CHECK_EQ(DO(&w, lock, f, &l, 0), -EAGAIN);
    CHECK_EQ(unlocks(&w), 1); /* and is lost, as in Linux */
    CHECK_TRUE(!client_lock_held(f, OPENDFS_LOCK_FLOCK, OWNER));
    finish(&w, f);
}

/* Who locks sees what others wrote before, though nobody told that anything has changed. */
TEST(a_lock_makes_what_was_known_old)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(DO(&w, pwrite, f, "old", 3, 0), 3);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    char got[8] = "";
    f = world_file(&w, "/f", OPENDFS_READ);
    CHECK_EQ(DO(&w, pread, f, got, 8, 0), 3);
    struct fake_inode *n = fake_path(w.cluster, "f");
    CHECK(n != NULL);
    n->data[0] = 'n'; /* "nld" */
    n->attr.version++;
    w.cluster->locks.data_version = 5;
    CHECK_EQ(DO(&w, pread, f, got, 8, 0), 3);
    CHECK_BYTES(got, "old", 3);
    struct opendfs_lock l = whole;
    l.type = OPENDFS_LOCK_READ;
    CHECK_OK(DO(&w, lock, f, &l, 0));
    CHECK_EQ(DO(&w, pread, f, got, 8, 0), 3);
    CHECK_BYTES(got, "nld", 3);
    CHECK_TRUE(client_lock_dropped(f) && !client_lock_dropped(f));
    CHECK_OK(DO(&w, lock, f, &l, 0));
    CHECK_TRUE(!client_lock_dropped(f)); /* nobody has written since */
    finish(&w, f);
}

TEST(who_is_in_the_way_is_told)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    struct opendfs_lock l = whole;
    CHECK_OK(DO(&w, lock_test, f, &l));
    CHECK_EQ(l.type, OPENDFS_LOCK_NONE);
    w.cluster->locks.found =
        (struct proto_lock_test_reply){.type = PROTO_LOCK_READ, .pid = 99, .start = 5, .last = 6};
    l = whole;
    CHECK_OK(DO(&w, lock_test, f, &l));
    CHECK_TRUE(l.type == OPENDFS_LOCK_READ && l.start == 5 && l.last == 6 && l.pid == 99);
    finish(&w, f);
}

/* Each fault of the call that lets go: it is let go once, in the end. */
TEST(a_lock_is_let_go_once_whatever_happens)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    for (unsigned after = 0; after < 2; after++) {
        unsigned before = unlocks(&w);
        CHECK_OK(DO(&w, lock, f, &whole, 0));
        w.cluster->meta_fault_op = PROTO_OP_unlock;
        w.cluster->meta_fault =
            (struct fake_fault){.count = 1, .rc = -ERR_busy, .after = after == 1};
        CHECK_OK(DO(&w, lock, f, &none, 0));
        CHECK_EQ(unlocks(&w), before + 1);
    }
    finish(&w, f);
}
