#include "client/connect_priv.h"

#include "client/fake_serve_priv.h"
#include "disk/disk.h"
#include "testing/testing.h"

#include <pthread.h>
#include <stdio.h>

/* The synchronous calls from several threads, over loopback TCP, against the fake cluster on a
 * thread of its own. */

#define NODES (1u + FAKE_TARGETS)
#define THREADS 4u
#define FILE_BYTES (3u * FAKE_CHUNK_BYTES + 77)

struct servers {
    struct fake_cluster cluster;
    struct fake_node node[NODES];
    struct env env;
    struct loop_thread *thread;
};

/* The client's secret, as `init` leaves it. */
static void secret_store(struct servers *s, char *path, size_t size)
{
    struct disk *d;
    char hex[65];
    struct peer_secrets secrets;
    fake_secrets(&secrets);
    text_hex(hex, secrets.client.bytes, 32);
    CHECK_OK(disk_pool_new(&s->env, &(struct disk_pool_options){.max_threads = 1}, &d));
    (void)snprintf(path, size, "%s/client.secret", testing_directory());
    CHECK_OK(disk_store(d, path, hex, 64));
    disk_free(d);
}

static void servers_start(struct servers *s, char *secret, size_t size)
{
    const struct loop_options opt = {.name = "fakes"};
    fake_cluster_init(&s->cluster);
    CHECK_OK(loop_new(&opt, &s->env.loop, NULL));
    CHECK_OK(net_socket_new(&s->env, &s->env.net));
    secret_store(s, secret, size);
    for (unsigned i = 0; i < NODES; i++) {
        s->node[i] = (struct fake_node){
            .cluster = &s->cluster, .target = i, .env = s->env, .at = {.text = "127.0.0.1:0"}};
        fake_start(&s->node[i]);
        if (i > 0) {
            s->cluster.target[i - 1] = &s->node[i];
        }
    }
    CHECK_OK(loop_thread_start(s->env.loop, &s->thread));
}

static void servers_stop(struct servers *s)
{
    s->thread = loop_thread_stop(s->thread);
    for (unsigned i = 0; i < NODES; i++) {
        fake_end(&s->node[i]);
    }
    for (unsigned i = 0; i < 20; i++) {
        loop_run_once(s->env.loop, 1000000);
    }
    for (unsigned i = 0; i < NODES; i++) {
        fake_pool_end(&s->node[i]);
    }
    net_free(s->env.net);
    loop_free(s->env.loop);
}

struct worker {
    pthread_t thread;
    struct opendfs *fs;
    unsigned number;
    int failed; /* line */
};
#define MUST(w, condition)          \
    do {                            \
        if (!(condition)) {         \
            (w)->failed = __LINE__; \
            return;                 \
        }                           \
    } while (0)

static void work(struct worker *w)
{
    char dir[32], path[48], text[8];
    struct opendfs_file *f;
    struct opendfs_stat st;
    uint8_t *bytes = mem_alloc(FILE_BYTES), *got = mem_alloc(FILE_BYTES);
    MUST(w, bytes != NULL && got != NULL);
    for (size_t i = 0; i < FILE_BYTES; i++) {
        bytes[i] = (uint8_t)(i * 7 + w->number);
    }
    (void)snprintf(dir, sizeof dir, "/t%u", w->number);
    (void)snprintf(path, sizeof path, "/t%u/file", w->number);
    MUST(w, opendfs_mkdir(w->fs, dir, 0755) == 0);
    MUST(w,
         opendfs_open(w->fs, path, OPENDFS_READ | OPENDFS_WRITE | OPENDFS_CREATE, 0644, &f) == 0);
    for (size_t at = 0; at < FILE_BYTES;) {
        size_t n = (size_t)base_min(10000, FILE_BYTES - at);
        MUST(w, opendfs_pwrite(f, bytes + at, n, at) == (int64_t)n);
        at += n;
    }
    MUST(w, opendfs_fsync(f) == 0);
    MUST(w, opendfs_fstat(f, &st) == 0 && st.size_bytes == FILE_BYTES);
    MUST(w, opendfs_pread(f, got, FILE_BYTES, 0) == FILE_BYTES);
    MUST(w, memcmp(got, bytes, FILE_BYTES) == 0);
    MUST(w, opendfs_ftruncate(f, 5) == 0);
    MUST(w, opendfs_close(f) == 0);
    MUST(w, opendfs_stat(w->fs, path, &st) == 0 && st.size_bytes == 5);
    MUST(w, opendfs_readlink(w->fs, path, text, sizeof text) == -EINVAL);
    MUST(w, strstr(opendfs_last_error(), path) != NULL); /* of this thread */
    mem_free(bytes);
    mem_free(got);
}

static void *work_run(void *arg)
{
    work(arg);
    return NULL;
}

static void list_root(struct opendfs *fs)
{
    struct opendfs_dir *d;
    struct opendfs_entry e;
    unsigned count = 0;
    CHECK_OK(opendfs_opendir(fs, "/", &d));
    while (opendfs_readdir(d, &e) == 1) {
        char expected[8];
        (void)snprintf(expected, sizeof expected, "t%u", count++);
        CHECK_TEXT(e.name, expected);
    }
    CHECK_EQ(count, THREADS);
    opendfs_closedir(d);
}

TEST(several_threads_share_a_client)
{
    struct servers *s = mem_zalloc(sizeof *s);
    struct worker worker[THREADS];
    struct opendfs *fs;
    char secret[512];
    CHECK_TRUE(s != NULL);
    servers_start(s, secret, sizeof secret);
    const struct opendfs_options opt = {.api_version = OPENDFS_API_VERSION,
                                        .cluster = s->node[0].at.text,
                                        .secret_file = secret,
                                        .uid = 1000,
                                        .timeout_ms = 60000};
    CHECK_OK(opendfs_connect(&opt, &fs));
    for (unsigned i = 0; i < THREADS; i++) {
        worker[i] = (struct worker){.fs = fs, .number = i};
        CHECK_EQ(pthread_create(&worker[i].thread, NULL, work_run, &worker[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_join(worker[i].thread, NULL), 0);
        CHECK_EQ(worker[i].failed, 0);
    }
    list_root(fs);
    char *json;
    struct opendfs_space space;
    CHECK_OK(opendfs_status_json(fs, &json));
    CHECK_TEXT(json, "{\"health\":\"good\"}");
    opendfs_free(json);
    CHECK_OK(opendfs_statfs(fs, &space));
    CHECK_EQ(space.free_bytes, 400);
    opendfs_disconnect(fs);
    servers_stop(s);
    mem_free(s);
}

TEST(a_wrong_secret_is_refused)
{
    struct servers *s = mem_zalloc(sizeof *s);
    struct opendfs *fs = NULL;
    char secret[512];
    CHECK_TRUE(s != NULL);
    servers_start(s, secret, sizeof secret);
    FILE *f = fopen(secret, "w");
    CHECK_TRUE(f != NULL);
    (void)fprintf(f, "%064d", 1);
    (void)fclose(f);
    const struct opendfs_options opt = {.api_version = OPENDFS_API_VERSION,
                                        .cluster = s->node[0].at.text,
                                        .secret_file = secret,
                                        .uid = 1000};
    CHECK_EQ(opendfs_connect(&opt, &fs), -EACCES);
    CHECK_TRUE(fs == NULL && opendfs_last_error()[0] != '\0');
    servers_stop(s);
    mem_free(s);
}

TEST(connecting_in_vain_tells_why)
{
    struct opendfs *fs = NULL;
    struct opendfs_options opt = {.api_version = OPENDFS_API_VERSION + 1, .cluster = "x"};
    CHECK_EQ(opendfs_connect(&opt, &fs), -EINVAL);
    opt.api_version = OPENDFS_API_VERSION;
    opt.cluster = "/no/such/place";
    CHECK_EQ(opendfs_connect(&opt, &fs), -EINVAL);
    CHECK_TRUE(strstr(opendfs_last_error(), "/no/such/place") != NULL);
    opt.cluster = testing_directory();
    CHECK_EQ(opendfs_connect(&opt, &fs), -ENOENT);
    CHECK_TRUE(strstr(opendfs_last_error(), testing_directory()) != NULL);
    opt.cluster = "127.0.0.1:1";
    opt.secret_file = "/no/such/file";
    CHECK_EQ(opendfs_connect(&opt, &fs), -ENOENT);
    CHECK_TRUE(strstr(opendfs_last_error(), "/no/such/file") != NULL);
    CHECK_TRUE(fs == NULL);
}

TEST(connecting_gives_up_in_time)
{
    struct servers *s = mem_zalloc(sizeof *s);
    struct opendfs *fs = NULL;
    char secret[512], at[NET_ADDRESS_SIZE];
    CHECK_TRUE(s != NULL);
    servers_start(s, secret, sizeof secret);
    (void)snprintf(at, sizeof at, "%s", s->node[0].at.text);
    servers_stop(s);
    mem_free(s);
    const struct opendfs_options opt = {.api_version = OPENDFS_API_VERSION,
                                        .cluster = at,
                                        .secret_file = secret,
                                        .connect_ms = 200};
    CHECK_EQ(opendfs_connect(&opt, &fs), -ETIMEDOUT);
    CHECK_TRUE(strstr(opendfs_last_error(), at) != NULL);
    CHECK_TRUE(fs == NULL);
}
