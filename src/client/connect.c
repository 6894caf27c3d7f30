#include "client/connect_priv.h"

#include "base/lock.h"
#include "client/directory.h"
#include "disk/disk.h"
#include "loop/executor.h"

#include <string.h>
#include <unistd.h>

/*
 * opendfs_connect(): a client with a loop and a thread of its own. Everything is made on the
 * calling thread; then the loop goes to its thread and stays there until opendfs_disconnect().
 */

#define ADDRESSES_MAX 16u

struct connect_where {
    struct net_address address[ADDRESSES_MAX];
    size_t count;
    struct uuid cluster_id; /* zero: not known */
    struct peer_secrets secrets;
};

static char *last_error(void)
{
    static _Thread_local char text[OPENDFS_ERROR_SIZE];
    return text;
}

void client_note_error(const char *text)
{
    struct text t;
    text_init(&t, last_error(), OPENDFS_ERROR_SIZE);
    text_add(&t, "%s", text);
}

const char *opendfs_last_error(void)
{
    return last_error();
}

static int connect_addresses(const char *list, struct connect_where *w, struct err *e)
{
    char one[NET_ADDRESS_SIZE];
    const char *at = list;
    while (*at != '\0' && w->count < ADDRESSES_MAX) {
        at += strspn(at, ", \t\r\n");
        size_t len = strcspn(at, ", \t\r\n");
        if (len == 0) {
            break;
        }
        if (len >= sizeof one) {
            return err_set(e, -EINVAL, "address '%.40s...'", at);
        }
        memcpy(one, at, len);
        one[len] = '\0';
        int rc = net_address_parse(one, CLIENT_META_PORT, &w->address[w->count], e);
        if (rc < 0) {
            return rc;
        }
        w->count++;
        at += len;
    }
    return w->count > 0 ? 0 : err_set(e, -EINVAL, "no address in '%s'", list);
}

static int connect_secret(struct disk *d, const char *path, struct connect_where *w, struct err *e)
{
    char hex[CLUSTER_SECRET_TEXT_SIZE + 1];
    int rc = client_directory_line(d, path, hex, sizeof hex);
    if (rc < 0) {
        return err_set(e, rc, "secret '%s'", path);
    }
    rc = peer_secret_from_text(&w->secrets.client, hex);
    return rc < 0 ? err_set(e, rc, "%s: not a secret", path) : 0;
}

static int connect_local(struct disk *d, const struct opendfs_options *o, bool file,
                         struct connect_where *w, struct err *e)
{
    CLEANUP(cluster_settings_freep) struct cluster_settings *s = NULL;
    CLEANUP(mem_freep) struct net_address *list = NULL;
    int rc = file ? client_directory_load_file(d, o->cluster, &s, e)
                  : client_directory_load(d, o->cluster, &s, e);
    rc = rc == 0 ? client_directory_addresses(d, s, &list, e) : rc;
    if (rc < 0) {
        return rc;
    }
    CHECK(list != NULL);
    w->cluster_id = s->id;
    w->count = base_min(s->meta_count, ADDRESSES_MAX);
    for (size_t i = 0; i < w->count; i++) {
        w->address[i] = list[i];
    }
    return connect_secret(d, o->secret_file != NULL ? o->secret_file : s->client_secret, w, e);
}

/* A directory, its configuration file, or a list of addresses. */
static int connect_find(struct disk *d, const struct opendfs_options *o, struct connect_where *w,
                        struct err *e)
{
    struct disk_req r = {.op = DISK_STAT, .path = o->cluster};
    if (disk_now(d, &r) >= 0) {
        return connect_local(d, o, !r.stat.directory, w, e);
    }
    if (o->secret_file == NULL) {
        return err_set(e, -EINVAL,
                       "'%s' does not exist; for an address the client secret must be named "
                       "(OPENDFS_SECRET=FILE)",
                       o->cluster);
    }
    int rc = connect_addresses(o->cluster, w, e);
    return rc < 0 ? rc : connect_secret(d, o->secret_file, w, e);
}

static int thread_new(struct client_thread **ret)
{
    struct client_thread *t = mem_zalloc(sizeof *t);
    if (t == NULL) {
        return -ENOMEM;
    }
    const struct loop_options opt = {.name = "opendfs"};
    int rc = loop_new(&opt, &t->env.loop, NULL);
    rc = rc == 0 ? net_socket_new(&t->env, &t->env.net) : rc;
    if (rc == 0) {
        loop_set_polling(t->env.loop, LOOP_POLL_US);
    }
    rc = rc == 0
             ? disk_pool_new(&t->env, &(struct disk_pool_options){.max_threads = 1}, &t->env.disk)
             : rc;
    if (rc < 0) {
        client_thread_free(t);
        return rc;
    }
    *ret = t;
    return 0;
}

struct client_thread *client_thread_free(struct client_thread *t)
{
    if (t == NULL) {
        return NULL;
    }
    client_free(t->fs);
    net_free(t->env.net);
    disk_free(t->env.disk);
    loop_free(t->env.loop);
    mem_free(t);
    return NULL;
}

/* The supplementary groups of the process, for who acts with its uid. `*ret` is the caller's. */
static int process_groups(const struct opendfs_options *o, gid_t **ret, size_t *ret_count)
{
    int count = o->uid == UINT32_MAX && o->groups == NULL ? getgroups(0, NULL) : 0;
    gid_t *groups = count > 0 ? mem_calloc((size_t)count, sizeof *groups) : NULL;
    if (count > 0 && groups == NULL) {
        return -ENOMEM;
    }
    count = count > 0 ? getgroups(count, groups) : count;
    *ret = groups;
    *ret_count = count > 0 ? (size_t)count : 0;
    return count < 0 ? -errno : 0;
}

static int thread_connect(struct client_thread *t, const struct opendfs_options *o, struct err *e)
{
    struct connect_where w = {0};
    CLEANUP(mem_freep) gid_t *groups = NULL;
    size_t count = 0;
    int rc = connect_find(t->env.disk, o, &w, e);
    rc = rc < 0 ? rc : process_groups(o, &groups, &count);
    if (rc < 0) {
        return rc;
    }
    const struct client_options opt = {.env = &t->env,
                                       .addresses = w.address,
                                       .address_count = w.count,
                                       .cluster_id = w.cluster_id,
                                       .secrets = w.secrets,
                                       .uid = o->uid == UINT32_MAX ? (uint32_t)geteuid() : o->uid,
                                       .gid = o->gid == UINT32_MAX ? (uint32_t)getegid() : o->gid,
                                       .umask = o->umask,
                                       .groups = groups != NULL ? groups : o->groups,
                                       .group_count = groups != NULL ? count : o->group_count,
                                       .cache_bytes = o->cache_bytes,
                                       .timeout_ms = o->timeout_ms,
                                       .host = o->host,
                                       .rack = o->rack,
                                       .stream_bytes = o->stream_bytes};
    rc = client_new(&opt, &t->fs);
    if (rc < 0) {
        return rc;
    }
    t->fs->thread = t;
    return loop_thread_start(t->env.loop, &t->thread);
}

int opendfs_connect(const struct opendfs_options *o, struct opendfs **ret)
{
    struct client_thread *t = NULL;
    struct err e = {0};
    if (o->api_version != OPENDFS_API_VERSION || o->cluster == NULL) {
        client_note_error("connect: this library has another version of its interface");
        return -EINVAL;
    }
    int rc = thread_new(&t);
    rc = rc == 0 ? thread_connect(t, o, &e) : rc;
    if (rc < 0) {
        client_note_error(err_message(&e, rc));
        if (t != NULL && t->thread != NULL) {
            t->thread = loop_thread_stop(t->thread);
        }
        client_thread_free(t);
        return -err_to_errno(rc);
    }
    struct opendfs *fs = t->fs;
    rc = client_wait_ready(fs, o->connect_ms);
    if (rc < 0) {
        opendfs_disconnect(fs);
        return rc;
    }
    *ret = fs;
    return 0;
}

struct stop_message {
    struct loop_message message;
    struct client_thread *thread;
    struct lock lock;
    struct lock_cond cond;
    bool done;
};

static void stop_done(void *context)
{
    struct stop_message *s = context;
    lock_take(&s->lock);
    s->done = true;
    lock_cond_signal(&s->cond);
    lock_release(&s->lock);
}

static void stop_run(struct loop_message *m)
{
    struct stop_message *s = container_of(m, struct stop_message, message);
    client_stop(s->thread->fs, stop_done, s);
}

void opendfs_disconnect(struct opendfs *fs)
{
    if (fs == NULL) {
        return;
    }
    struct client_thread *t = fs->thread;
    struct stop_message stop = {.message = {.run = stop_run}, .thread = t};
    CHECK(t != NULL);
    lock_init(&stop.lock, LOCK_RANK_client);
    lock_cond_init(&stop.cond);
    loop_complete(t->env.loop, &stop.message);
    lock_take(&stop.lock);
    while (!stop.done) {
        lock_cond_wait(&stop.cond, &stop.lock);
    }
    lock_release(&stop.lock);
    lock_cond_fini(&stop.cond);
    lock_fini(&stop.lock);
    t->thread = loop_thread_stop(t->thread);
    client_thread_free(t);
}

const char *opendfs_version(void)
{
    return ODFS_VERSION;
}

const char *opendfs_error_text(int result)
{
    return result >= 0 ? "success" : err_text(result);
}

void opendfs_free(void *memory)
{
    mem_free(memory);
}
