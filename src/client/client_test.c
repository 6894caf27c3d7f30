#include "client/client.h"

#include "client/fake_world_priv.h"
#include "testing/testing.h"

/* Names, attributes and sessions against the fake metadata server. */

TEST(names_are_made_found_listed_and_removed)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/music", 0750));
    CHECK_EQ(w.op.stat.mode, 0750);
    CHECK_EQ(w.op.stat.type, OPENDFS_TYPE_DIRECTORY);
    uint64_t dir = w.op.stat.ino;
    CHECK_EQ(DO(&w, mkdir, "/music", 0750), -EEXIST);
    struct opendfs_stat v = {.mode = 0640, .mtime_ns = 77, .uid = 9};
    unsigned mask = OPENDFS_SET_MTIME | OPENDFS_SET_UID;
    CHECK_OK(DO(&w, create, "/music/a", &v, mask, "hello", 5));
    CHECK_EQ(DO(&w, create, "/music/a", &v, mask, "hello", 5), -EEXIST);
    CHECK_OK(DO(&w, stat, "//music/./a"));
    CHECK_EQ(w.op.stat.size_bytes, 5);
    CHECK_EQ(w.op.stat.mtime_ns, 77);
    CHECK_EQ(w.op.stat.uid, 9);
    CHECK_EQ(w.op.stat.mode, 0640);
    opendfs_async_stat(w.fs, world_op(&w), "a");
    w.op.at = dir; /* the message is not taken before the world runs */
    CHECK_OK(world_wait(&w));
    CHECK_OK(DO(&w, stat, "/music/../music/a"));
    CHECK_EQ(DO(&w, stat, "/music/b"), -ENOENT);
    CHECK_EQ(DO(&w, stat, "/music/a/b"), -ENOTDIR);
    CHECK_EQ(DO(&w, stat, "/none/a"), -ENOENT);
    CHECK_EQ(DO(&w, stat, "/music/a/"), -ENOTDIR);
    CHECK_EQ(DO(&w, stat, ""), -ENOENT);
    CHECK_TEXT(w.op.error, "No such file or directory");
    CHECK_OK(DO(&w, rename, "/music/a", "/b", 0));
    CHECK_EQ(DO(&w, stat, "/music/a"), -ENOENT);
    CHECK_OK(DO(&w, unlink, "/b"));
    CHECK_EQ(DO(&w, unlink, "/b"), -ENOENT);
    CHECK_EQ(DO(&w, unlink, "/music"), -EISDIR);
    CHECK_EQ(DO(&w, unlink, "/"), -EISDIR);
    world_close(&w);
}

TEST(mkdir_p_makes_what_is_missing)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, make_directories, "/a/b/c/d", 0755));
    CHECK_OK(DO(&w, make_directories, "/a/b/x", 0755));
    CHECK_OK(DO(&w, make_directories, "/a/b/x/", 0755));
    CHECK_EQ(w.cluster->executed[PROTO_OP_create % 1024], 5);
    struct opendfs_stat v = {.mode = 0644};
    CHECK_OK(DO(&w, create, "/a/f", &v, 0, "", 0));
    CHECK_EQ(DO(&w, make_directories, "/a/f", 0755), -ENOTDIR);
    CHECK_EQ(DO(&w, make_directories, "/a/f/g", 0755), -ENOTDIR);
    world_close(&w);
}

static unsigned links_are_followed(bool hidden)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    w.cluster->hide_symlinks = hidden;
    CHECK_OK(DO(&w, make_directories, "/d/e", 0755));
    struct opendfs_stat v = {.mode = 0644};
    CHECK_OK(DO(&w, create, "/d/e/f", &v, 0, "x", 1));
    uint64_t file = w.op.stat.ino;
    CHECK_OK(DO(&w, symlink, "e/f", "/d/relative", NULL, 0));
    CHECK_OK(DO(&w, symlink, "/d", "/absolute", NULL, 0));
    CHECK_OK(DO(&w, symlink, "loop", "/loop", NULL, 0));
    CHECK_OK(DO(&w, symlink, "nowhere", "/dangling", NULL, 0));
    CHECK_OK(DO(&w, stat, "/d/relative"));
    CHECK_EQ(w.op.stat.ino, file);
    CHECK_OK(DO(&w, stat, "/absolute/e/../relative"));
    CHECK_EQ(w.op.stat.ino, file);
    CHECK_OK(DO(&w, lstat, "/absolute/relative"));
    CHECK_EQ(w.op.stat.type, OPENDFS_TYPE_SYMLINK);
    CHECK_EQ(DO(&w, stat, "/loop"), -ELOOP);
    CHECK_EQ(DO(&w, stat, "/loop/x"), -ELOOP);
    CHECK_EQ(DO(&w, stat, "/dangling"), -ENOENT);
    char text[8];
    CHECK_EQ(DO(&w, readlink, "/d/relative", text, sizeof text), 3);
    CHECK_TEXT(text, "e/f");
    CHECK_EQ(DO(&w, readlink, "/d/e/f", text, sizeof text), -EINVAL);
    CHECK_OK(DO(&w, mkdir, "/absolute/e/g", 0700));
    CHECK_OK(DO(&w, stat, "/d/e/g"));
    CHECK_OK(DO(&w, open, "/dangling", OPENDFS_WRITE | OPENDFS_CREATE, 0644));
    CHECK_OK(DO(&w, close, w.op.file, NULL, 0));
    CHECK_OK(DO(&w, stat, "/nowhere"));
    CHECK_EQ(DO(&w, open, "/d/relative", OPENDFS_READ | OPENDFS_NOFOLLOW, 0), -ELOOP);
    unsigned executed = w.cluster->executed[PROTO_OP_create % 1024];
    world_close(&w);
    return executed;
}

TEST(symbolic_links_are_followed)
{
    unsigned made = links_are_followed(false);
    CHECK_EQ(links_are_followed(true), made); /* the server need not say what is in the way */
}

/* Others rename something to the name between the walk and the request: it was there all the time,
 * so nobody is told that it was not. */
TEST(a_name_that_is_replaced_meanwhile_is_there)
{
    struct world w;
    char text[16];
    uint8_t byte = 0;
    struct opendfs_stat v = {.mode = 0640};
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, create, "/f", &v, OPENDFS_SET_MODE, "x", 1));
    CHECK_OK(DO(&w, symlink, "f", "/l", NULL, 0));
    w.cluster->replace_after_walk = 3;
    CHECK_OK(DO(&w, setattr, "/f", &v, OPENDFS_SET_MODE));
    CHECK_EQ(w.cluster->replace_after_walk, 0);
    w.cluster->replace_after_walk = 1;
    CHECK_EQ(DO(&w, readlink, "/l", text, sizeof text), 1);
    w.cluster->replace_after_walk = 1; /* the link on the way */
    CHECK_OK(DO(&w, stat, "/l"));
    CHECK_EQ(w.op.stat.type, OPENDFS_TYPE_FILE);
    for (unsigned flags = OPENDFS_READ; flags <= (OPENDFS_READ | OPENDFS_WRITE); flags++) {
        w.cluster->replace_after_walk = 2;
        CHECK_OK(DO(&w, open, "/f", flags, 0));
        CHECK_EQ(w.cluster->replace_after_walk, 0);
        struct opendfs_file *f = w.op.file;
        CHECK_EQ(DO(&w, pread, f, &byte, 1, 0), flags == OPENDFS_WRITE ? -EBADF : 1);
        CHECK_OK(DO(&w, close, f, NULL, 0));
    }
    w.cluster->replace_after_walk = 1000; /* it never ends: neither do we wait for ever */
    CHECK_EQ(DO(&w, setattr, "/f", &v, OPENDFS_SET_MODE), -ENOENT);
    w.cluster->replace_after_walk = 0;
    CHECK_OK(DO(&w, open, "/f", OPENDFS_READ, 0)); /* so that unlink says which file it means */
    struct opendfs_file *f = w.op.file;
    w.cluster->replace_after_walk = 1;
    CHECK_OK(DO(&w, unlink, "/f"));
    CHECK_EQ(DO(&w, stat, "/f"), -ENOENT);
    w.cluster->replace_after_walk = 0;
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

TEST(long_names_are_refused)
{
    struct world w;
    char path[4200];
    world_open(&w, testing_seed());
    world_start(&w);
    memset(path, 'n', sizeof path);
    path[0] = '/';
    path[257] = '\0';
    CHECK_EQ(DO(&w, stat, path), -ENAMETOOLONG);
    CHECK_EQ(DO(&w, mkdir, path, 0755), -ENAMETOOLONG);
    path[256] = '\0';
    CHECK_OK(DO(&w, mkdir, path, 0755));
    CHECK_OK(DO(&w, stat, path));
    for (size_t i = 0; i < sizeof path; i++) {
        path[i] = i % 2 == 0 ? '/' : 'd';
    }
    path[4096] = '\0';
    CHECK_EQ(DO(&w, stat, path), -ENAMETOOLONG);
    path[4095] = '\0';
    CHECK_EQ(DO(&w, stat, path), -ENOENT);
    world_close(&w);
}

TEST(directories_are_listed_in_pages)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    struct opendfs_stat v = {.mode = 0644};
    static const char *const names[] = {"/e", "/b", "/d", "/a", "/c"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        CHECK_OK(DO(&w, create, names[i], &v, 0, "", 0));
    }
    char last[256] = "", all[16] = "";
    size_t count = 0;
    do {
        CHECK_OK(DO(&w, list, "/", last, 0));
        for (size_t i = 0; i < w.op.entry_count; i++) {
            const struct opendfs_entry *e = &w.op.entries[i];
            CHECK_EQ(e->stat.type, OPENDFS_TYPE_FILE);
            CHECK_EQ(e->name_len, 1);
            all[count++] = e->name[0];
            memcpy(last, e->name, e->name_len + 1);
        }
        opendfs_async_release(w.fs, &w.op);
    } while (!w.op.at_end);
    CHECK_TEXT(all, "abcde");
    CHECK_EQ(DO(&w, list, "/a", "", 0), -ENOTDIR);
    CHECK_OK(DO(&w, statfs));
    CHECK_EQ(w.op.space.free_bytes, 400);
    CHECK_OK(DO(&w, status_json));
    CHECK_TEXT((const char *)w.op.data, "{\"health\":\"good\"}");
    opendfs_async_release(w.fs, &w.op);
    world_close(&w);
}

/* C5, L7: executed once, whatever becomes of the answers. */
TEST(mutations_are_executed_once)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    for (unsigned i = 0; i < 20; i++) {
        char path[16];
        (void)snprintf(path, sizeof path, "/d/%u", i);
        w.cluster->meta_fault = (struct fake_fault){.count = i % 3, .after = true};
        CHECK_OK(DO(&w, mkdir, path, 0755)); /* a second execution would say EEXIST */
    }
    CHECK_EQ(w.cluster->executed[PROTO_OP_create % 1024], 21);
    CHECK_TRUE(w.cluster->repeats >= 13);
    w.cluster->meta_fault = (struct fake_fault){.rc = -ERR_busy, .count = 5};
    CHECK_OK(DO(&w, mkdir, "/e", 0755));
    world_close(&w);
}

TEST(a_restart_of_the_metadata_server_is_waited_for)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    world_kill(&w, 0);
    opendfs_async_mkdir(w.fs, world_op(&w), "/d/e", 0755);
    world_run(&w, 40 * SECOND);
    CHECK_TRUE(!w.done);
    world_node(&w, 0);
    CHECK_OK(world_wait(&w));
    CHECK_EQ(w.fs->session.number, 2); /* the same session */
    world_close(&w);
}

TEST(an_expired_session_is_replaced)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    uint64_t before = w.fs->session.id;
    memset(w.cluster->session, 0, sizeof w.cluster->session);
    CHECK_OK(DO(&w, mkdir, "/d/e", 0755)); /* was never executed in the old one: no doubt */
    CHECK_TRUE(w.fs->session.id != before);
    world_run(&w, 10 * SECOND);
    memset(w.cluster->session, 0, sizeof w.cluster->session);
    world_run(&w, 10 * SECOND); /* found by a renewal */
    CHECK_OK(DO(&w, stat, "/d/e"));
    world_close(&w);
}

static void targets_are(struct world *w, int rc, unsigned count)
{
    for (unsigned i = 1; i < NODES; i++) {
        w->node[i].write_fault = (struct fake_fault){.rc = rc, .count = count};
    }
}

/* Data nodes let a write pass in the name of its capability's session only. Who lost his session in
 * the middle of one never sends it again, also when he has the file open anew; the new session's
 * own writes are not refused, whoever wrote before. */
TEST(writes_go_in_the_name_of_the_session_of_their_capability)
{
    static uint8_t old[2 * FAKE_CHUNK_BYTES], new[2 * FAKE_CHUNK_BYTES];
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    world_fill(old, sizeof old, 3);
    world_fill(new, sizeof new, 4);
    struct opendfs_file *f = world_file(&w, "/f", OPENDFS_WRITE | OPENDFS_CREATE);
    struct opendfs_file *g = world_file(&w, "/g", OPENDFS_WRITE | OPENDFS_CREATE);
    targets_are(&w, -ERR_busy, UINT32_MAX);
    CHECK_EQ(DO(&w, pwrite, f, old, sizeof old, 0), sizeof old);
    CHECK_EQ(DO(&w, pwrite, g, old, sizeof old, 0), sizeof old);
    world_run(&w, SECOND); /* they are under way */
    uint64_t before = w.fs->session.id;
    memset(w.cluster->session, 0, sizeof w.cluster->session);
    world_run(&w, 10 * SECOND);
    CHECK_TRUE(w.fs->session.id > before);
    CHECK_TRUE(DO(&w, close, f, NULL, 0) < 0);
    f = world_file(&w, "/f", OPENDFS_WRITE);
    CHECK_EQ(DO(&w, pwrite, f, new, sizeof new, 0), sizeof new);
    world_run(&w, SECOND);
    CHECK_EQ(w.cluster->writes, 0);
    targets_are(&w, -ERR_bad_capability, 1); /* as if it were known of an older one: once more */
    CHECK_OK(DO(&w, fsync, f));
    CHECK_TRUE(w.cluster->writes >= 2);
    CHECK_EQ(w.cluster->foreign_writes, 0);
    for (uint32_t i = 0; i < FAKE_CHUNKS; i++) {
        const struct fake_chunk *k = &w.cluster->chunk[i];
        CHECK_TRUE(k->ver == 0 || k->client == w.fs->session.id);
    }
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_TRUE(DO(&w, close, g, NULL, 0) < 0);
    world_close(&w);
}

/* L4: answers that renew nothing do not keep a busy client from learning that it has lapsed. */
TEST(a_busy_client_whose_lease_is_over_takes_it_up_again)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    w.cluster->lapsed = true;
    for (unsigned i = 0; i < 40 && w.cluster->lapsed; i++) {
        struct opendfs_stat v = {.mode = 0755};
        CHECK_OK(DO(&w, create, "/f", &v, 0, "", 0));
        CHECK_OK(DO(&w, unlink, "/f"));
        world_run(&w, SECOND / 10);
    }
    CHECK_TRUE(!w.cluster->lapsed);
    CHECK_EQ(w.fs->session.number, 2); /* the same session */
    world_close(&w);
}

/* The answer was lost, then the session: nobody can know, and nobody guesses. */
TEST(an_outcome_that_cannot_be_known_is_an_error)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    w.cluster->meta_fault = (struct fake_fault){.count = 1, .after = true};
    opendfs_async_mkdir(w.fs, world_op(&w), "/d/e", 0755);
    while (w.cluster->executed[PROTO_OP_create % 1024] < 2) {
        CHECK_TRUE(loop_sim_step(w.sim));
    }
    memset(w.cluster->session, 0, sizeof w.cluster->session);
    CHECK_EQ(world_wait(&w), -EIO);
    CHECK_TEXT(w.op.error, "/d/e: outcome is unknown");
    CHECK_OK(DO(&w, stat, "/d/e"));
    world_close(&w);
}

/* The answer is lost until somebody else has removed what was made or changed; -ESTALE or 0. */
static int removed_before_the_answer(struct world *w)
{
    unsigned before = w->cluster->mutations;
    w->cluster->meta_fault = (struct fake_fault){.count = 1, .after = true};
    while (w->cluster->mutations == before) {
        CHECK_TRUE(loop_sim_step(w->sim));
    }
    fake_lookup(w->cluster, 1, proto_bytes_text("e"))->ino = 0;
    return world_wait(w);
}

/* It was done, once; but attributes of nothing are not shown as those of a file. */
TEST(what_is_gone_before_it_is_answered_has_no_attributes)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    opendfs_async_mkdir(w.fs, world_op(&w), "/e", 0755);
    CHECK_OK(removed_before_the_answer(&w));
    CHECK_TRUE(w.op.stat.ino != 0);
    CHECK_EQ(w.op.stat.nlink, 0);
    CHECK_EQ(w.cluster->executed[PROTO_OP_create % 1024], 2);
    CHECK_EQ(w.cluster->repeats, 1);
    opendfs_async_open(w.fs, world_op(&w), "/e", OPENDFS_READ | OPENDFS_CREATE, 0644);
    CHECK_EQ(removed_before_the_answer(&w), -ESTALE); /* there is nothing to open */
    CHECK_TEXT(w.op.error, "/e: done, and somebody has removed it since");
    CHECK_OK(DO(&w, mkdir, "/e", 0755));
    struct opendfs_stat values = {.mode = 0700};
    opendfs_async_setattr(w.fs, world_op(&w), "/e", &values, OPENDFS_SET_MODE);
    CHECK_OK(removed_before_the_answer(&w));
    CHECK_EQ(w.op.stat.nlink, 0);
    struct opendfs_file *f = world_file(&w, "/e", OPENDFS_WRITE | OPENDFS_CREATE);
    CHECK_EQ(DO(&w, pwrite, f, "hello", 5, 0), 5);
    opendfs_async_close(w.fs, world_op(&w), f, NULL, 0);
    CHECK_OK(removed_before_the_answer(&w)); /* what was written has arrived */
    CHECK_EQ(w.op.stat.size_bytes, 5);
    CHECK_EQ(w.op.stat.nlink, 0);
    CHECK_EQ(w.op.stat.type, OPENDFS_TYPE_FILE);
    world_close(&w);
}

TEST(operations_give_up_when_their_time_is_over)
{
    struct world w;
    world_open(&w, testing_seed());
    w.opt.timeout_ms = 3000;
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    world_kill(&w, 0);
    uint64_t before = loop_sim_now_ns(w.sim);
    int rc = DO(&w, mkdir, "/d/e", 0755);
    CHECK_TRUE(rc == -EAGAIN || rc == -ETIMEDOUT);
    CHECK_TRUE(loop_sim_now_ns(w.sim) - before < 5 * SECOND);
    world_node(&w, 0);
    CHECK_OK(DO(&w, mkdir, "/d/f", 0755));
    world_close(&w);
}

/* C5: what was given up can never run later; the slots are used again. */
TEST(slots_of_abandoned_mutations_are_burnt_and_used_again)
{
    struct world w;
    world_open(&w, testing_seed());
    w.opt.timeout_ms = 500;
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    for (unsigned i = 0; i < 12; i++) { /* more than there are slots */
        char path[16];
        (void)snprintf(path, sizeof path, "/d/%u", i);
        w.cluster->meta_fault = (struct fake_fault){.rc = -ERR_busy, .count = 1000};
        CHECK_EQ(DO(&w, mkdir, path, 0755), -EAGAIN);
        w.cluster->meta_fault.count = 0;
        world_run(&w, SECOND);
        CHECK_EQ(DO(&w, stat, path), -ENOENT);
    }
    for (unsigned i = 0; i < 20; i++) {
        char path[16];
        (void)snprintf(path, sizeof path, "/d/x%u", i);
        CHECK_OK(DO(&w, mkdir, path, 0755));
    }
    CHECK_EQ(w.cluster->executed[PROTO_OP_create % 1024], 21);
    world_close(&w);
}

/* Another client writes the file: the metadata server asks it for the size. */
TEST(a_stat_sees_what_another_client_writes)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    const struct opendfs_stat v = {.mode = 0600};
    CHECK_OK(DO(&w, create, "/f", &v, 0, "x", 1));
    CHECK_OK(DO(&w, stat, "/f"));
    CHECK_EQ(w.op.stat.size_bytes, 1);
    w.cluster->remote_size = 4711;
    CHECK_OK(DO(&w, stat, "/f"));
    CHECK_EQ(w.op.stat.size_bytes, 4711);
    world_close(&w);
}

/* A wopen that was given up was executed all the same: it goes back at once, and nobody has to wait
 * until the session ends. One whose file is open here belongs to that. */
TEST(what_an_abandoned_open_has_got_goes_back)
{
    struct world w;
    world_open(&w, testing_seed());
    w.opt.timeout_ms = 500;
    world_start(&w);
    const struct opendfs_stat v = {.mode = 0600};
    CHECK_OK(DO(&w, create, "/f", &v, 0, "x", 1));
    const struct fake_inode *n = fake_path(w.cluster, "f");
    w.cluster->meta_fault_op = PROTO_OP_wopen;
    w.cluster->meta_fault = (struct fake_fault){.count = 1000, .after = true};
    CHECK_TRUE(DO(&w, open, "/f", OPENDFS_WRITE, 0) < 0);
    CHECK_TRUE(n->cap_epoch != 0); /* it was executed */
    w.cluster->meta_fault.count = 0;
    world_run(&w, 3 * SECOND);
    CHECK_EQ(n->cap_epoch, 0);
    CHECK_EQ(w.cluster->returns, 1);
    CHECK_EQ(n->attr.size, 1);

    CHECK_OK(DO(&w, open, "/f", OPENDFS_WRITE, 0));
    struct opendfs_file *f = w.op.file;
    w.cluster->meta_fault.count = 1000;
    CHECK_TRUE(DO(&w, open, "/f", OPENDFS_WRITE, 0) < 0);
    w.cluster->meta_fault.count = 0;
    world_run(&w, 3 * SECOND);
    CHECK_TRUE(n->cap_epoch != 0);
    CHECK_EQ(w.cluster->returns, 1);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    CHECK_EQ(n->cap_epoch, 0);
    world_close(&w);
}

/* Without room in the metadata log changes fail soon; no slot is used up, reading goes on. */
TEST(a_full_metadata_log_is_told)
{
    struct world w;
    char path[16];
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    w.cluster->meta_fault = (struct fake_fault){.rc = -ERR_log_full, .count = 1000};
    uint64_t before = loop_sim_now_ns(w.sim);
    for (unsigned i = 0; i < 20; i++) { /* more than there are slots */
        CHECK_EQ(DO(&w, mkdir, "/d/e", 0755), -ENOSPC);
        CHECK_TEXT(w.op.error, "/d/e: the disk of the metadata is full");
        CHECK_OK(DO(&w, stat, "/d"));
    }
    CHECK_TRUE(loop_sim_now_ns(w.sim) - before < SECOND);
    w.cluster->meta_fault.count = 0;
    for (unsigned i = 0; i < 20; i++) {
        (void)snprintf(path, sizeof path, "/d/%u", i);
        CHECK_OK(DO(&w, mkdir, path, 0755));
    }
    CHECK_EQ(w.cluster->executed[PROTO_OP_create % 1024], 21);
    CHECK_EQ(w.fs->session.number, 2); /* the same session */
    world_close(&w);
}

/* Who waits for a session that cannot be opened is told, and gets one when there is room. */
TEST(a_full_metadata_log_admits_nobody_new)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    w.cluster->log_full = true;
    memset(w.cluster->session, 0, sizeof w.cluster->session);
    uint64_t before = loop_sim_now_ns(w.sim);
    CHECK_EQ(DO(&w, mkdir, "/d/e", 0755), -ENOSPC); /* was never executed in the old one */
    CHECK_TEXT(w.op.error, "/d/e: the disk of the metadata is full");
    CHECK_EQ(DO(&w, stat, "/d"), -ENOSPC);
    CHECK_EQ(DO(&w, mkdir, "/d/e", 0755), -ENOSPC);
    CHECK_TRUE(loop_sim_now_ns(w.sim) - before < 5 * SECOND);
    w.cluster->log_full = false;
    world_run(&w, 2 * SECOND);
    CHECK_OK(DO(&w, mkdir, "/d/e", 0755));
    CHECK_OK(DO(&w, stat, "/d"));
    world_close(&w);
}

/* Nothing waits for ever for a credential that the server will not have. */
TEST(a_refused_credential_is_told)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    w.cluster->meta_fault_op = PROTO_OP_credential;
    w.cluster->meta_fault = (struct fake_fault){.rc = -ERR_many_groups, .count = 1};
    memset(w.cluster->session, 0, sizeof w.cluster->session); /* a new session is needed */
    uint64_t before = loop_sim_now_ns(w.sim);
    CHECK_EQ(DO(&w, mkdir, "/d/e", 0755), -EINVAL);
    CHECK_TEXT(w.op.error, "/d/e: more groups than a user may have here (16,384)");
    CHECK_EQ(DO(&w, stat, "/d"), -EINVAL);
    CHECK_TRUE(loop_sim_now_ns(w.sim) - before < 5 * SECOND);
    w.cluster->meta_fault.rc = -ERR_busy; /* that passes: it waits */
    w.fs->timeout_ms = 3000;
    CHECK_EQ(DO(&w, stat, "/d"), -ETIMEDOUT);
    w.fs->timeout_ms = 0;
    w.cluster->meta_fault.count = 0;
    CHECK_OK(DO(&w, mkdir, "/d/e", 0755));
    world_close(&w);
}

/* No session can be had, for a reason that may pass: a change is not sent, and waits no longer than
 * it was told to. */
TEST(changes_without_a_session_give_up_when_their_time_is_over)
{
    struct world w;
    world_open(&w, testing_seed());
    w.opt.timeout_ms = 3000;
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    w.cluster->meta_fault_op = PROTO_OP_session_open;
    w.cluster->meta_fault = (struct fake_fault){.rc = -ERR_busy, .count = 1000};
    memset(w.cluster->session, 0, sizeof w.cluster->session);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t before = loop_sim_now_ns(w.sim);
        CHECK_EQ(DO(&w, mkdir, "/d/e", 0755), -ETIMEDOUT);
        CHECK_TRUE(loop_sim_now_ns(w.sim) - before < 4 * SECOND);
    }
    w.cluster->meta_fault.count = 0;
    CHECK_OK(DO(&w, mkdir, "/d/e", 0755));
    world_close(&w);
}

TEST(a_client_that_stops_ends_its_session)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    CHECK_TRUE(fake_session(w.cluster, 100) != NULL);
    w.done = false;
    loop_sim_enter(w.client_loop, world_stop_client, &w);
    CHECK_TRUE(loop_sim_run(w.sim, world_is_done, &w, loop_sim_now_ns(w.sim) + 10 * SECOND));
    CHECK_TRUE(fake_session(w.cluster, 100) == NULL);
    CHECK_EQ(DO(&w, stat, "/d"), -ESHUTDOWN);
    world_close(&w);
}

static bool world_asks(void *ctx)
{
    const struct world *w = ctx;
    return peer_call_active(&w->fs->session.call);
}

/* What ends with the client sets nothing up again. */
TEST(a_client_ends_while_it_renews_its_session)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, mkdir, "/d", 0755));
    CHECK_TRUE(!world_asks(&w));
    CHECK_TRUE(loop_sim_run(w.sim, world_asks, &w, loop_sim_now_ns(w.sim) + 60 * SECOND));
    loop_sim_enter(w.client_loop, world_free_client, &w);
    world_run(&w, 120 * SECOND);
    world_close(&w);
}
