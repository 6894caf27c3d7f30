/* cluster/settings.c -- the key table, and the arrays made from it. */
#include "cluster/settings.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define META_CACHE_BYTES (UINT64_C(256) << 20)
#define MOVE_RATE_MIN (UINT64_C(64) << 10)
#define TARGET_CACHE_MIN_BYTES (UINT64_C(17) << 20)

static const char *const engines[] = {"auto", "extent", "file", "ram", NULL};
static const char *const meta_engines[] = {"auto", "memory", "tree", NULL};
/* In the order of enum proto_failure_domain. */
static const char *const domains[] = {"auto", "target", "host", "rack", NULL};
static const char *const ios[] = {"auto", "uring", "threads", NULL};
static const char *const levels[] = {"error", "warn", "info", "debug", NULL};

static const struct config_key keys[] = {
    {.section = "cluster",
     .name = "id",
     .type = CONFIG_TEXT,
     .min = 36,
     .max = 36,
     .help = "identity of the cluster, made by `opendfs init`"},
    {.section = "cluster",
     .name = "name",
     .type = CONFIG_TEXT,
     .default_text = "opendfs",
     .min = 1,
     .max = 63,
     .help = "for people"},
    {.section = "cluster",
     .name = "copies",
     .type = CONFIG_U64,
     .default_text = "2",
     .min = 1,
     .max = 5,
     .help = "copies of each chunk in the default storage class, at its creation"},
    {.section = "cluster",
     .name = "domain",
     .type = CONFIG_ENUM,
     .default_text = "auto",
     .choices = domains,
     .help = "copies of a chunk of the default storage class are on different: targets, hosts or "
             "racks, at its creation. auto: hosts, where there are enough"},
    {.section = "cluster",
     .name = "lease",
     .type = CONFIG_MS,
     .default_text = "10s",
     .min = 500,
     .max = 600000,
     .help = "T of the protocols: how long a target or client may be silent before it counts as "
             "gone"},
    {.section = "cluster",
     .name = "rebuild",
     .type = CONFIG_MS,
     .default_text = "10min",
     .min = 1000,
     .max = UINT64_C(30) * 86400 * 1000,
     .help = "how long a target may be away before its copies are made anew on others"},
    {.section = "cluster",
     .name = "dark_wait",
     .type = CONFIG_MS,
     .default_text = "60s",
     .min = 1000,
     .max = 86400000,
     .help = "how long data that nobody serves waits for a copy that has all of it, before one "
             "serves that may lack what was not synced"},
    {.section = "cluster",
     .name = "audit_wait",
     .type = CONFIG_MS,
     .default_text = "1d",
     .min = 3600000,
     .max = UINT64_C(365) * 86400 * 1000,
     .help = "data of no file goes when two looks have found it, so far apart at least"},
    {.section = "cluster",
     .name = "moves",
     .type = CONFIG_U64,
     .default_text = "2",
     .min = 1,
     .max = 64,
     .help = "copies that are made at a time, to one target as well as from one"},
    {.section = "cluster",
     .name = "insecure",
     .type = CONFIG_BOOL,
     .default_text = "no",
     .help = "serve on addresses other than loopback without TLS"},
    {.section = "cluster",
     .name = "user",
     .type = CONFIG_TEXT,
     .default_text = "",
     .max = 31,
     .help = "whom servers become that are started as root; default: they stay root"},
    {.section = "meta",
     .name = "address",
     .type = CONFIG_TEXT,
     .many = true,
     .min = 3,
     .max = 127,
     .help = "host:port that clients and servers use"},
    {.section = "meta",
     .name = "directory",
     .type = CONFIG_TEXT,
     .many = true,
     .min = 1,
     .max = 1023,
     .help = "where it keeps the metadata"},
    {.section = "meta",
     .name = "memory",
     .type = CONFIG_BYTES,
     .many = true,
     .default_text = "4G",
     .min = UINT64_C(64) << 20,
     .help = "what it may use for records, log, sessions and requests; then new work waits"},
    {.section = "meta",
     .name = "engine",
     .type = CONFIG_ENUM,
     .many = true,
     .default_text = "auto",
     .choices = meta_engines,
     .help =
         "what keeps the records. tree: a file on the disk, `cache` of it in memory; memory: all "
         "in memory, checkpoints on the disk; auto: as it was made, a new one: tree"},
    {.section = "meta",
     .name = "cache",
     .type = CONFIG_BYTES,
     .many = true,
     .default_text = "0",
     .help = "of `memory`, what an engine on a disk has; 0: a quarter, at most 256M. The engine "
             "`memory` does not look at it"},
    {.section = "meta",
     .name = "io",
     .type = CONFIG_ENUM,
     .many = true,
     .default_text = "auto",
     .choices = ios,
     .help = "what reads and writes files. uring: io_uring of the kernel; threads: threads that "
             "wait; auto: io_uring where the kernel has it and allows it"},
    {.section = "node",
     .name = "host",
     .type = CONFIG_TEXT,
     .many = true,
     .default_text = "",
     .max = 63,
     .help = "failure domain 'host'; default: the node's own name"},
    {.section = "node",
     .name = "rack",
     .type = CONFIG_TEXT,
     .many = true,
     .default_text = "",
     .max = 63,
     .help = "failure domain 'rack'; default: each target counts as a rack of its own"},
    {.section = "node",
     .name = "watchdog",
     .type = CONFIG_MS,
     .many = true,
     .default_text = "10s",
     .max = 3600000,
     .help = "a worker whose loop stands still for so long is killed and started anew; 0: never"},
    {.section = "node",
     .name = "slow",
     .type = CONFIG_MS,
     .many = true,
     .default_text = "2s",
     .max = 3600000,
     .help = "a disk is sick when it takes so long on average, and ten times as long as usual; or "
             "when it fails again and again. 0: disks are not judged"},
    {.section = "node",
     .name = "rest",
     .type = CONFIG_MS,
     .many = true,
     .default_text = "10min",
     .min = 1000,
     .max = 86400000,
     .help = "how long a sick disk is left out at first; twice as long each time that follows"},
    {.section = "target",
     .name = "node",
     .type = CONFIG_TEXT,
     .many = true,
     .min = 1,
     .max = 63,
     .help = "the node that serves it"},
    {.section = "target",
     .name = "address",
     .type = CONFIG_TEXT,
     .many = true,
     .min = 3,
     .max = 127,
     .help = "host:port; port 0: any free one"},
    {.section = "target",
     .name = "directory",
     .type = CONFIG_TEXT,
     .many = true,
     .min = 1,
     .max = 1023,
     .help = "the data directory, one per disk"},
    {.section = "target",
     .name = "engine",
     .type = CONFIG_ENUM,
     .many = true,
     .default_text = "auto",
     .choices = engines,
     .help = "what keeps the chunks. extent: large containers; file: one file per chunk; auto: as "
             "it was made, a new one: extent; ram: tests"},
    {.section = "target",
     .name = "device",
     .type = CONFIG_TEXT,
     .many = true,
     .default_text = "",
     .max = 1023,
     .help = "a raw block device that has the chunks (engine extent); `opendfs chunk format` makes "
             "it ready. The directory has journal and index. Default: files in the directory"},
    {.section = "target",
     .name = "io",
     .type = CONFIG_ENUM,
     .many = true,
     .default_text = "threads",
     .choices = ios,
     .help = "what reads and writes files, as in [meta.N]"},
    {.section = "target",
     .name = "weight",
     .type = CONFIG_U64,
     .many = true,
     .default_text = "100",
     .max = 1000000,
     .help = "share of the copies, in any unit; 0: none. As it registers for the first time"},
    {.section = "target",
     .name = "labels",
     .type = CONFIG_TEXT,
     .many = true,
     .default_text = "",
     .max = 255,
     .help = "words; a storage class with labels has its copies on targets that have all "
             "of them. As it registers for the first time"},
    {.section = "target",
     .name = "scrub",
     .type = CONFIG_MS,
     .many = true,
     .default_text = "21d",
     .help = "every chunk is read and checked once in that time; 0: never"},
    {.section = "target",
     .name = "scrub_share",
     .type = CONFIG_PERCENT,
     .many = true,
     .default_text = "10%",
     .min = 1,
     .max = 100,
     .help =
         "of the time of the disk, at most, for that; an eighth of it while clients are served"},
    {.section = "target",
     .name = "move_rate",
     .type = CONFIG_BYTES,
     .many = true,
     .default_text = "0",
     .max = UINT64_C(1) << 40,
     .help = "bytes per second that are copied from here to bring others up to date (moves, "
             "rebuilds, targets that come back); 0: as much as clients leave"},
    {.section = "target",
     .name = "stream",
     .type = CONFIG_BYTES,
     .many = true,
     .default_text = "64M",
     .min = UINT64_C(1) << 20,
     .help =
         "buffers of reads of large files in order, which pass the page cache by; when they are "
         "used up, it is read through"},
    {.section = "target",
     .name = "cache",
     .type = CONFIG_BYTES,
     .many = true,
     .default_text = "64M",
     .help = "memory in which the newest and the most wanted of what those have read is kept; at "
             "least 17M, 0: none"},
    {.section = "target",
     .name = "reads",
     .type = CONFIG_U64,
     .many = true,
     .default_text = "8192",
     .min = 4,
     .max = 1000000,
     .help = "reads of clients under way, a quarter of them for one connection; then they wait"},
    {.section = "target",
     .name = "read_bytes",
     .type = CONFIG_BYTES,
     .many = true,
     .default_text = "1G",
     .min = UINT64_C(16) << 20,
     .help = "what they ask for together, a quarter of it for one connection"},
    {.section = "target",
     .name = "send_limit",
     .type = CONFIG_MS,
     .many = true,
     .default_text = "60s",
     .min = 1000,
     .max = 3600000,
     .help = "a connection that takes nothing of what it is sent for so long is closed"},
    {.section = "target",
     .name = "space_rest",
     .type = CONFIG_MS,
     .many = true,
     .default_text = "60s",
     .min = 1000,
     .max = 86400000,
     .help = "space of what was removed or written over is used again after it; at least "
             "`send_limit`, for until then somebody may be reading it"},
    {.section = "target",
     .name = "index_bytes",
     .type = CONFIG_BYTES,
     .many = true,
     .default_text = "64M",
     .min = UINT64_C(8) << 20,
     .max = UINT64_C(1) << 40,
     .help = "memory for the index of its chunks (engine extent)"},
    {.section = "target",
     .name = "entry_bytes",
     .type = CONFIG_BYTES,
     .many = true,
     .default_text = "64M",
     .min = UINT64_C(1) << 20,
     .max = UINT64_C(1) << 40,
     .help = "memory for chunks that were used lately (engine extent), about 1 KiB each"},
    {.section = "secrets",
     .name = "server",
     .type = CONFIG_TEXT,
     .default_text = "secret/server.key",
     .min = 1,
     .max = 1023,
     .help = "file with the servers' secret"},
    {.section = "secrets",
     .name = "client",
     .type = CONFIG_TEXT,
     .default_text = "secret/client.key",
     .min = 1,
     .max = 1023,
     .help = "file with the clients' secret"},
    {.section = "log",
     .name = "level",
     .type = CONFIG_ENUM,
     .default_text = "info",
     .choices = levels,
     .help = "error, warn, info or debug"},
};

size_t cluster_settings_sample(char *out, size_t size)
{
    return config_sample(keys, ARRAY_COUNT(keys), out, size);
}

/* `file` as seen from where the configuration lies. */
static char *beside(const char *path, const char *file)
{
    const char *slash = strrchr(path, '/');
    if (file[0] == '/' || slash == NULL) {
        return mem_strdup(file);
    }
    return mem_printf("%.*s/%s", (int)(slash == path ? 0 : slash - path), path, file);
}

struct cluster_settings *cluster_settings_free(struct cluster_settings *s)
{
    if (s == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < s->meta_count; i++) {
        mem_free(s->metas[i].name);
        mem_free(s->metas[i].address);
        mem_free(s->metas[i].directory);
    }
    for (size_t i = 0; i < s->node_count; i++) {
        mem_free(s->nodes[i].name);
    }
    for (size_t i = 0; i < s->target_count; i++) {
        mem_free(s->targets[i].name);
        mem_free(s->targets[i].address);
        mem_free(s->targets[i].directory);
        mem_free(s->targets[i].device);
    }
    mem_free(s->metas);
    mem_free(s->nodes);
    mem_free(s->targets);
    mem_free(s->server_secret);
    mem_free(s->client_secret);
    mem_free(s->run_directory);
    mem_free(s->log_directory);
    config_free(s->config);
    mem_free(s);
    return NULL;
}

static size_t count(const struct config *c, const char *base)
{
    size_t n = 0;
    while (config_section(c, base, n) != NULL) {
        n++;
    }
    return n;
}

static int add_metas(struct cluster_settings *s, const char *path, struct err *e)
{
    size_t n = count(s->config, "meta");
    if (n == 0) {
        return err_set(e, -ERR_config, "%s: no metadata server: a section [meta.0] is needed",
                       path);
    }
    s->metas = mem_calloc(n, sizeof *s->metas);
    if (s->metas == NULL) {
        return -ENOMEM;
    }
    for (; s->meta_count < n; s->meta_count++) {
        struct cluster_settings_meta *m = &s->metas[s->meta_count];
        const char *section = config_section(s->config, "meta", s->meta_count);
        *m = (struct cluster_settings_meta){
            .name = mem_strdup(section),
            .address = mem_strdup(config_text(s->config, section, "address")),
            .directory = beside(path, config_text(s->config, section, "directory")),
            .memory_bytes = config_u64(s->config, section, "memory"),
            .engine = (enum cluster_meta_engine)config_u64(s->config, section, "engine"),
            .cache_bytes = config_u64(s->config, section, "cache"),
            .io = (enum cluster_io)config_u64(s->config, section, "io")};
        if (m->cache_bytes == 0) {
            m->cache_bytes = base_min(m->memory_bytes / 4, META_CACHE_BYTES);
        }
        if (m->name == NULL || m->address == NULL || m->directory == NULL) {
            s->meta_count++;
            return -ENOMEM;
        }
        if (m->cache_bytes > m->memory_bytes / 4 * 3) {
            s->meta_count++;
            return config_error(s->config, section, "cache", e,
                                "more than three quarters of `memory`");
        }
    }
    return 0;
}

static int add_nodes(struct cluster_settings *s)
{
    size_t n = count(s->config, "node");
    s->nodes = mem_calloc(n + 1, sizeof *s->nodes);
    if (s->nodes == NULL) {
        return -ENOMEM;
    }
    for (; s->node_count < n; s->node_count++) {
        struct cluster_settings_node *d = &s->nodes[s->node_count];
        const char *section = config_section(s->config, "node", s->node_count);
        d->name = mem_strdup(section);
        if (d->name == NULL) {
            return -ENOMEM;
        }
        d->host = config_text(s->config, section, "host");
        d->rack = config_text(s->config, section, "rack");
        d->watchdog_ms = config_u64(s->config, section, "watchdog");
        d->slow_ms = config_u64(s->config, section, "slow");
        d->rest_ms = config_u64(s->config, section, "rest");
        if (d->host[0] == 0) {
            d->host = d->name + strlen("node.");
        }
    }
    return 0;
}

static int check_directory(struct cluster_settings *s, const char *directory, const char *section,
                           struct err *e)
{
    for (size_t i = 0; i < s->target_count; i++) {
        if (strcmp(s->targets[i].directory, directory) == 0) {
            return config_error(s->config, section, "directory", e,
                                "'%s' is the directory of [%s] already", directory,
                                s->targets[i].name);
        }
    }
    return 0;
}

static int fill_device(struct cluster_settings *s, struct cluster_settings_target *t,
                       const char *section, const char *path, struct err *e)
{
    const char *device = config_text(s->config, section, "device");
    if (device[0] == 0) {
        return 0;
    }
    t->device = beside(path, device);
    if (t->device == NULL) {
        return -ENOMEM;
    }
    if (t->engine != CLUSTER_ENGINE_AUTO && t->engine != CLUSTER_ENGINE_EXTENT) {
        return config_error(s->config, section, "device", e, "only with engine = extent");
    }
    for (size_t i = 0; i < s->target_count; i++) {
        const char *other = s->targets[i].device;
        if (other != NULL && strcmp(other, t->device) == 0) {
            return config_error(s->config, section, "device", e,
                                "'%s' is the device of [%s] already", other, s->targets[i].name);
        }
    }
    return 0;
}

/* Until a connection is closed the kernel may have pages of what was sent to it. */
static int fill_space(struct cluster_settings *s, struct cluster_settings_target *t,
                      const char *section, struct err *e)
{
    t->send_limit_ms = config_u64(s->config, section, "send_limit");
    t->space_rest_ms = config_u64(s->config, section, "space_rest");
    t->index_bytes = config_u64(s->config, section, "index_bytes");
    t->entry_bytes = config_u64(s->config, section, "entry_bytes");
    if (t->space_rest_ms < t->send_limit_ms) {
        return config_error(s->config, section, "space_rest", e,
                            "%llu ms are less than `send_limit` (%llu ms): somebody may still be "
                            "reading what lies there",
                            (unsigned long long)t->space_rest_ms,
                            (unsigned long long)t->send_limit_ms);
    }
    return 0;
}

/* Less does not hold enough blocks (datanode/blocks.h) for some to be kept longer than others. */
static int fill_cache(struct cluster_settings *s, struct cluster_settings_target *t,
                      const char *section, struct err *e)
{
    t->cache_bytes = config_u64(s->config, section, "cache");
    if (t->cache_bytes > 0 && t->cache_bytes < TARGET_CACHE_MIN_BYTES) {
        return config_error(s->config, section, "cache", e, "%llu bytes: at least 17M, or 0: none",
                            (unsigned long long)t->cache_bytes);
    }
    return 0;
}

static int fill_target(struct cluster_settings *s, struct cluster_settings_target *t,
                       const char *section, const char *path, struct err *e)
{
    t->name = mem_strdup(section);
    t->address = mem_strdup(config_text(s->config, section, "address"));
    t->directory = beside(path, config_text(s->config, section, "directory"));
    if (t->name == NULL || t->address == NULL || t->directory == NULL) {
        return -ENOMEM;
    }
    const char *node = config_text(s->config, section, "node");
    if (cluster_settings_find_node(s, node, &t->node, NULL) < 0) {
        return config_error(s->config, section, "node", e, "there is no section [node.%s]", node);
    }
    t->engine = (enum cluster_engine)config_u64(s->config, section, "engine");
    t->io = (enum cluster_io)config_u64(s->config, section, "io");
    t->weight = (uint32_t)config_u64(s->config, section, "weight");
    t->labels = config_text(s->config, section, "labels");
    t->scrub_ms = config_u64(s->config, section, "scrub");
    t->scrub_percent = (uint32_t)config_u64(s->config, section, "scrub_share");
    t->move_rate = config_u64(s->config, section, "move_rate");
    t->stream_bytes = config_u64(s->config, section, "stream");
    t->reads = config_u64(s->config, section, "reads");
    t->read_bytes = config_u64(s->config, section, "read_bytes");
    if (t->move_rate > 0 && t->move_rate < MOVE_RATE_MIN) {
        return config_error(s->config, section, "move_rate", e,
                            "less than 64K per second: a copy would never be done");
    }
    int rc = fill_space(s, t, section, e);
    rc = rc < 0 ? rc : fill_cache(s, t, section, e);
    rc = rc < 0 ? rc : fill_device(s, t, section, path, e);
    return rc < 0 ? rc : check_directory(s, t->directory, section, e);
}

static int add_targets(struct cluster_settings *s, const char *path, struct err *e)
{
    size_t n = count(s->config, "target");
    s->targets = mem_calloc(n + 1, sizeof *s->targets);
    if (s->targets == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        int rc = fill_target(s, &s->targets[i], config_section(s->config, "target", i), path, e);
        s->target_count++;
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

static int add_scalars(struct cluster_settings *s, const char *path, struct err *e)
{
    const struct config *c = s->config;
    if (uuid_from_text(&s->id, config_text(c, "cluster", "id")) < 0 || uuid_is_zero(&s->id)) {
        return config_error(c, "cluster", "id", e, "not an identity like those of `opendfs init`");
    }
    s->name = config_text(c, "cluster", "name");
    s->copies = (uint32_t)config_u64(c, "cluster", "copies");
    s->domain = (uint32_t)config_u64(c, "cluster", "domain");
    s->lease_ms = config_u64(c, "cluster", "lease");
    s->rebuild_ms = config_u64(c, "cluster", "rebuild");
    s->dark_wait_ms = config_u64(c, "cluster", "dark_wait");
    s->audit_wait_ms = config_u64(c, "cluster", "audit_wait");
    s->moves = (uint32_t)config_u64(c, "cluster", "moves");
    s->insecure = config_bool(c, "cluster", "insecure");
    s->user = config_text(c, "cluster", "user");
    s->log_level = (unsigned)config_u64(c, "log", "level");
    s->server_secret = beside(path, config_text(c, "secrets", "server"));
    s->client_secret = beside(path, config_text(c, "secrets", "client"));
    s->run_directory = beside(path, "run");
    s->log_directory = beside(path, "log");
    bool whole = s->server_secret != NULL && s->client_secret != NULL && s->run_directory != NULL &&
                 s->log_directory != NULL;
    return whole ? 0 : -ENOMEM;
}

int cluster_settings_parse(const char *text, size_t len, const char *path,
                           struct cluster_settings **ret, struct err *e)
{
    CLEANUP(cluster_settings_freep) struct cluster_settings *s = mem_zalloc(sizeof *s);
    if (s == NULL) {
        return -ENOMEM;
    }
    int rc = config_parse(text, len, path, keys, ARRAY_COUNT(keys), &s->config, e);
    if (rc < 0) {
        return rc;
    }
    rc = add_scalars(s, path, e);
    rc = rc < 0 ? rc : add_metas(s, path, e);
    rc = rc < 0 ? rc : add_nodes(s);
    rc = rc < 0 ? rc : add_targets(s, path, e);
    if (rc < 0) {
        return rc;
    }
    *ret = s;
    s = NULL;
    return 0;
}

/* The three lists have their names at the same place of their elements. */
struct names {
    const char *kind;
    const char *first; /* of element 0: address of its `name` member */
    size_t stride, count;
};

static const char *name_at(const struct names *n, size_t i)
{
    const char *text;
    memcpy(&text, n->first + i * n->stride, sizeof text);
    return text;
}

static int find(const struct names *n, const char *name, size_t *ret, struct err *e)
{
    size_t kind_len = strlen(n->kind);
    for (size_t i = 0; i < n->count; i++) {
        const char *full = name_at(n, i);
        if (strcmp(full, name) == 0 || strcmp(full + kind_len + 1, name) == 0) {
            *ret = i;
            return 0;
        }
    }
    char known[160];
    struct text t;
    text_init(&t, known, sizeof known);
    for (size_t i = 0; i < n->count; i++) {
        text_add(&t, "%s%s", i == 0 ? "" : ", ", name_at(n, i));
    }
    return err_set(e, -ENOENT, "no [%s] named '%s' (there is: %s)", n->kind, name,
                   n->count == 0 ? "none" : known);
}

int cluster_settings_find_meta(const struct cluster_settings *s, const char *name, size_t *ret,
                               struct err *e)
{
    struct names n = {"meta", (const char *)&s->metas->name, sizeof s->metas[0], s->meta_count};
    return find(&n, name, ret, e);
}

int cluster_settings_find_node(const struct cluster_settings *s, const char *name, size_t *ret,
                               struct err *e)
{
    struct names n = {"node", (const char *)&s->nodes->name, sizeof s->nodes[0], s->node_count};
    return find(&n, name, ret, e);
}

int cluster_settings_find_target(const struct cluster_settings *s, const char *name, size_t *ret,
                                 struct err *e)
{
    struct names n = {"target", (const char *)&s->targets->name, sizeof s->targets[0],
                      s->target_count};
    return find(&n, name, ret, e);
}

int cluster_secret_from_text(const char *text, size_t len, struct cluster_secret *ret)
{
    char digits[2 * CLUSTER_SECRET_BYTES + 1];
    if (len == sizeof digits && text[len - 1] == '\n') {
        len--;
    }
    if (len != sizeof digits - 1) {
        return -EINVAL;
    }
    memcpy(digits, text, len);
    digits[len] = 0;
    return text_unhex(ret->bytes, sizeof ret->bytes, digits);
}

void cluster_secret_to_text(const struct cluster_secret *s, char out[CLUSTER_SECRET_TEXT_SIZE])
{
    text_hex(out, s->bytes, sizeof s->bytes);
    memcpy(out + 2 * sizeof s->bytes, "\n", 2);
}
