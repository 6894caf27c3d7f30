/*
 * cluster/settings.h -- the one configuration file of a cluster, read by every part of it.
 *
 *   [cluster]   id, name, copies, lease ...         once
 *   [meta.N]    a metadata server                   one or more
 *   [node.N]    a data node: a machine              any number
 *   [target.N]  a data directory of a node          any number
 *   [secrets], [log]                                optional
 *
 * Relative paths are relative to the directory of the file. Port 0 means: a free one, chosen at the
 * first start and published in run/<name>.address beside the file; for clusters on one machine.
 * Parsing makes no I/O; the result is read-only and may be shared by threads.
 */
#pragma once

#include "base/base.h"
#include "base/config.h"
#include "base/err.h"
#include "base/text.h"
#include "cluster/capability.h"

#define CLUSTER_PORT_META 9400u
#define CLUSTER_PORT_TARGET 9410u /* + index */
#define CLUSTER_LOCAL_FILE "cluster.ini"
#define CLUSTER_SETTINGS_MAX (256u << 10) /* bytes of the file */

enum cluster_io { CLUSTER_IO_AUTO, CLUSTER_IO_URING, CLUSTER_IO_THREADS };
enum cluster_meta_engine { CLUSTER_META_AUTO, CLUSTER_META_MEMORY, CLUSTER_META_TREE };
struct cluster_settings_meta {
    char *name;      /* "meta.0" */
    char *address;   /* "host:port" */
    char *directory; /* absolute, or relative to the working directory like the file itself */
    uint64_t memory_bytes;
    enum cluster_meta_engine engine;
    uint64_t cache_bytes; /* at most half of the memory */
    enum cluster_io io;
};
struct cluster_settings_node {
    char *name; /* "node.a" */
    const char *host, *rack;
    uint64_t watchdog_ms;      /* 0: workers are not watched */
    uint64_t slow_ms, rest_ms; /* when a disk is too slow (0: never sick), and how long it rests */
};
enum cluster_engine {
    CLUSTER_ENGINE_AUTO,
    CLUSTER_ENGINE_EXTENT,
    CLUSTER_ENGINE_FILE,
    CLUSTER_ENGINE_RAM
};
struct cluster_settings_target {
    char *name;  /* "target.0" */
    size_t node; /* index */
    char *address, *directory;
    char *device; /* of engine `extent`: that has the chunks; NULL: files in the directory */
    enum cluster_engine engine;
    enum cluster_io io;
    uint32_t weight;
    const char *labels;
    uint64_t scrub_ms; /* 0: never */
    uint32_t scrub_percent;
    uint64_t move_rate;                /* bytes per second; 0: no limit */
    uint64_t stream_bytes;             /* buffers of reads past the page cache */
    uint64_t cache_bytes;              /* what those have read is kept; 0: it is not */
    uint64_t reads, read_bytes;        /* of clients under way */
    uint64_t send_limit_ms;            /* a connection that takes nothing for so long is closed */
    uint64_t space_rest_ms;            /* at least that: space is used again after it */
    uint64_t index_bytes, entry_bytes; /* memory of engine `extent` */
};
struct cluster_settings {
    struct config *config; /* owner of the texts */
    struct uuid id;
    const char *name;
    uint32_t copies, domain; /* enum proto_failure_domain; 0: chosen */
    uint64_t lease_ms, rebuild_ms, dark_wait_ms, audit_wait_ms;
    uint32_t moves;
    bool insecure;
    const char *user; /* whom servers become that are started as root; empty: nobody else */
    struct cluster_settings_meta *metas;
    size_t meta_count;
    struct cluster_settings_node *nodes;
    size_t node_count;
    struct cluster_settings_target *targets;
    size_t target_count;
    char *server_secret, *client_secret; /* paths */
    char *run_directory, *log_directory;
    enum { CLUSTER_LOG_ERROR, CLUSTER_LOG_WARN, CLUSTER_LOG_INFO, CLUSTER_LOG_DEBUG } log_level;
};

/* `path` is where `text` was read from: origin of messages, base of relative paths. -ERR_config
 * with file, line and key; -ENOMEM. */
NODISCARD int cluster_settings_parse(const char *text, size_t len, const char *path,
                                     struct cluster_settings **ret, struct err *e);
struct cluster_settings *cluster_settings_free(struct cluster_settings *s);
DEFINE_FREEP(cluster_settings)

/* Index of a server by its name with or without the kind ("meta.0", "0"); -ENOENT with a message
 * that lists what there is. */
NODISCARD int cluster_settings_find_meta(const struct cluster_settings *s, const char *name,
                                         size_t *ret, struct err *e);
NODISCARD int cluster_settings_find_node(const struct cluster_settings *s, const char *name,
                                         size_t *ret, struct err *e);
NODISCARD int cluster_settings_find_target(const struct cluster_settings *s, const char *name,
                                           size_t *ret, struct err *e);

/* A secret file: 64 hexadecimal digits and a newline. */
#define CLUSTER_SECRET_TEXT_SIZE (2u * CLUSTER_SECRET_BYTES + 2u)
NODISCARD int cluster_secret_from_text(const char *text, size_t len, struct cluster_secret *ret);
void cluster_secret_to_text(const struct cluster_secret *s, char out[CLUSTER_SECRET_TEXT_SIZE]);

/* The commented table of all keys, for `opendfs init` and the manual; as config_sample(). */
size_t cluster_settings_sample(char *out, size_t size);
