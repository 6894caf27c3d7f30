/* cli/common.c -- what the commands share: paths, connecting, texts, jobs. */
#include "cli/cli_priv.h"

#include "base/mem.h"
#include "base/text.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ll
#define PATH_LIMIT 4095u
#define CONNECT_QUIET_MS 3000u
#define CONNECT_LIMIT_MS 60000u

static void job_done(struct opendfs_op *op)
{
    struct cli_job *j = container_of(op, struct cli_job, op);
    loop_complete(j->loop, &j->message);
}

static void job_arrived(struct loop_message *m)
{
    struct cli_job *j = container_of(m, struct cli_job, message);
    j->finished(j);
}

void cli_job_prepare(struct cli *c, struct cli_job *j, void (*finished)(struct cli_job *j))
{
    j->op = (struct opendfs_op){.done = job_done};
    j->finished = finished;
    j->loop = c->loop;
    j->message.run = job_arrived;
}

static void wait_over(struct cli_job *j)
{
    container_of(j, struct cli_wait, job)->over = true;
    loop_stop(j->loop, 0);
}

struct opendfs_op *cli_wait_begin(struct cli *c, struct cli_wait *w)
{
    *w = (struct cli_wait){.over = false};
    cli_job_prepare(c, &w->job, wait_over);
    return &w->job.op;
}

int64_t cli_wait_end(struct cli *c, struct cli_wait *w)
{
    while (!w->over) {
        loop_run(c->loop);
    }
    return w->job.op.result;
}

void cli_done(const struct cli *c)
{
    c->totals->done++;
}

int cli_fail_path(const struct cli *c, const char *path, int64_t rc)
{
    return cli_fail(c, "%s: %s", path, err_text((int)rc));
}

int cli_fail_op(const struct cli *c, const struct opendfs_op *op)
{
    return cli_fail(c, "%s", op == NULL ? opendfs_last_error() : op->error);
}

/* The library names what it was given, if anything. */
int cli_fail_at(const struct cli *c, const char *path, const struct opendfs_op *op)
{
    const char *end = strstr(op->error, ": ");
    const char *slash = strrchr(path, '/');
    size_t len = end == NULL ? 0 : (size_t)(end - op->error);
    bool named = len > 0 && slash != NULL &&
                 ((strlen(path) == len && memcmp(path, op->error, len) == 0) ||
                  (strlen(slash + 1) == len && memcmp(slash + 1, op->error, len) == 0));
    const char *cause = op->error[0] == 0 ? opendfs_error_text((int)op->result)
                        : named           ? end + 2
                                          : op->error;
    return cli_fail(c, "%s: %s", path, cause);
}

/* Set to nothing is the same as not set. */
const char *cli_environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != 0 ? value : NULL;
}

/* A server that is starting is worth waiting for, but not in silence. */
static int connect_patiently(struct cli *c, const struct opendfs_options *wanted)
{
    const char *secret = wanted->secret_file;
    struct opendfs_options o = {.api_version = OPENDFS_API_VERSION,
                                .cluster = c->cluster,
                                .secret_file =
                                    secret != NULL ? secret : cli_environment("OPENDFS_SECRET"),
                                .uid = UINT32_MAX,
                                .gid = UINT32_MAX,
                                .timeout_ms = wanted->timeout_ms,
                                .cache_bytes = wanted->cache_bytes,
                                .connect_ms = CONNECT_QUIET_MS,
                                .host = cli_environment("OPENDFS_HOST"),
                                .rack = cli_environment("OPENDFS_RACK")};
    int rc = opendfs_connect(&o, &c->fs);
    if (rc == -ETIMEDOUT) {
        cli_say(c, "no metadata server answers yet (%s): waiting. Does the cluster run?",
                opendfs_last_error());
        o.connect_ms = CONNECT_LIMIT_MS - CONNECT_QUIET_MS;
        rc = opendfs_connect(&o, &c->fs);
    }
    return rc;
}

static int connect_as(struct cli *c, const struct opendfs_options *wanted)
{
    if (c->fs != NULL) {
        return 0;
    }
    c->cluster = wanted->cluster != NULL ? wanted->cluster : c->cluster;
    if (c->cluster == NULL) {
        c->cluster = ".";
    }
    int rc = connect_patiently(c, wanted);
    if (rc == -ETIMEDOUT) {
        c->fs = NULL;
        return cli_fail(c, "no metadata server has answered for %u s: %s", CONNECT_LIMIT_MS / 1000,
                        opendfs_last_error());
    }
    if (rc < 0) {
        c->fs = NULL;
        cli_fail_op(c, NULL);
        if (rc == -ENOENT && strcmp(c->cluster, ".") == 0) {
            cli_say(c, "Say which cluster: -C DIR or OPENDFS_CLUSTER=DIR (made by `opendfs init "
                       "DIR`), or -C HOST:PORT with OPENDFS_SECRET=FILE.");
        }
        return CLI_EXIT_FAILED;
    }
    return 0;
}

int cli_connect(struct cli *c)
{
    return connect_as(c, &(struct opendfs_options){0});
}

int cli_client(struct cli *c, const struct opendfs_options *wanted, struct opendfs **ret)
{
    int code = connect_as(c, wanted);
    *ret = c->fs;
    return code;
}

const char *cli_cluster(const struct cli *c)
{
    return c->cluster;
}

struct loop *cli_loop(struct cli *c)
{
    return c->loop;
}

/* ---- Paths ---- */

/* Appends the components of `text` to `out`, which is a clean absolute path without final slash. */
static size_t add_components(char *out, size_t len, const char *text)
{
    while (*text != 0) {
        size_t n = strcspn(text, "/");
        if (n == 2 && memcmp(text, "..", 2) == 0) {
            while (len > 0 && out[--len] != '/') {
            }
        } else if (n > 0 && !(n == 1 && text[0] == '.')) {
            out[len++] = '/';
            memcpy(out + len, text, n);
            len += n;
        }
        text += n;
        text += *text == '/' ? 1 : 0;
    }
    return len;
}

char *cli_path(const struct cli *c, const char *text)
{
    if (text[0] != '/') {
        cli_usage(c, "'%s' is not a path inside the cluster: it must begin with '/'", text);
        return NULL;
    }
    if (strlen(text) > PATH_LIMIT) {
        cli_usage(c, "a path of %zu bytes is too long (limit %u)", strlen(text), PATH_LIMIT);
        return NULL;
    }
    char *out = mem_alloc(strlen(text) + 2);
    if (out == NULL) {
        cli_fail_path(c, text, -ENOMEM);
        return NULL;
    }
    size_t len = add_components(out, 0, text);
    if (len == 0) {
        out[len++] = '/';
    }
    out[len] = 0;
    return out;
}

char *cli_join(const char *parent, const char *name)
{
    size_t len = strlen(parent);
    return mem_printf("%s%s%s", parent, len > 0 && parent[len - 1] == '/' ? "" : "/", name);
}

/* ---- Texts ---- */

void cli_printable(const char *name, size_t len, char *out)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char b = (unsigned char)name[i];
        out[i] = (char)(b < ' ' || b == 127 ? '?' : b);
    }
    out[len] = 0;
}

void cli_print_name(const char *name)
{
    CLEANUP(mem_freep)
    char *shown = isatty(STDOUT_FILENO) == 1 ? mem_alloc(strlen(name) + 1) : NULL;
    if (shown != NULL) {
        cli_printable(name, strlen(name), shown);
    }
    fputs(shown == NULL ? name : shown, stdout);
}

static const struct {
    uint32_t type;
    char letter;
    const char *name;
} types[] = {
    {OPENDFS_TYPE_FIFO, 'p', "fifo"},           {OPENDFS_TYPE_CHAR, 'c', "character device"},
    {OPENDFS_TYPE_DIRECTORY, 'd', "directory"}, {OPENDFS_TYPE_BLOCK, 'b', "block device"},
    {OPENDFS_TYPE_FILE, '-', "file"},           {OPENDFS_TYPE_SYMLINK, 'l', "symbolic link"},
    {OPENDFS_TYPE_SOCKET, 's', "socket"},
};

const char *cli_type_name(uint32_t type)
{
    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        if (types[i].type == type) {
            return types[i].name;
        }
    }
    return "unknown";
}

void cli_mode_to_text(const struct opendfs_stat *st, char out[CLI_MODE_SIZE])
{
    out[0] = '?';
    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        if (types[i].type == st->type) {
            out[0] = types[i].letter;
        }
    }
    for (unsigned i = 0; i < 9; i++) {
        out[1 + i] = '-';
        if ((st->mode & (0400u >> i)) != 0) {
            out[1 + i] = "rwx"[i % 3];
        }
    }
    static const struct {
        uint32_t bit;
        unsigned at;
        const char *letters;
    } special[] = {{04000, 3, "sS"}, {02000, 6, "sS"}, {01000, 9, "tT"}};
    for (size_t i = 0; i < ARRAY_COUNT(special); i++) {
        if ((st->mode & special[i].bit) != 0) {
            out[special[i].at] = special[i].letters[out[special[i].at] == '-' ? 1 : 0];
        }
    }
    out[10] = 0;
}

void cli_time_to_text(int64_t ns, bool with_ns, char out[CLI_TIME_SIZE])
{
    int64_t rest = ns % NS_PER_S;
    time_t s = ns / NS_PER_S - (rest < 0 ? 1 : 0);
    rest += rest < 0 ? NS_PER_S : 0;
    struct tm tm;
    if (localtime_r(&s, &tm) == NULL) {
        snprintf(out, CLI_TIME_SIZE, "%lld", (long long)s);
        return;
    }
    size_t len =
        strftime(out, CLI_TIME_SIZE, with_ns ? "%Y-%m-%d %H:%M:%S" : "%Y-%m-%d %H:%M", &tm);
    if (with_ns) {
        snprintf(out + len, CLI_TIME_SIZE - len, ".%09lld", (long long)rest);
    }
}

void cli_print_json(struct cJSON *json)
{
    char *text = cJSON_PrintUnformatted(json);
    printf("%s\n", text == NULL ? "{}" : text);
    cJSON_free(text);
    cJSON_Delete(json);
}

void cli_json_add_name(struct cJSON *o, const char *key, const char *name)
{
    size_t len = strlen(name), at = 0;
    while (at < len) {
        size_t n = text_utf8_len(name + at, len - at);
        if (n == 0) {
            break;
        }
        at += n;
    }
    if (at == len) {
        cJSON_AddStringToObject(o, key, name);
        return;
    }
    CLEANUP(mem_freep) char *shown = mem_alloc(4 * len + 8);
    CLEANUP(mem_freep) char *hex = mem_alloc(2 * len + 1);
    if (shown != NULL && hex != NULL) {
        struct text t;
        text_init(&t, shown, 4 * len + 8);
        text_add_bytes(&t, name, len);
        text_hex(hex, name, len);
        char key_hex[64];
        snprintf(key_hex, sizeof key_hex, "%s_hex", key);
        cJSON_AddStringToObject(o, key, shown);
        cJSON_AddStringToObject(o, key_hex, hex);
    }
}

/* Numbers beyond 2^53 do not survive JSON as numbers: times and ids are texts. */
void cli_json_add_i64(struct cJSON *o, const char *name, int64_t v)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)v);
    cJSON_AddStringToObject(o, name, text);
}

struct cJSON *cli_json_of_path(const char *path)
{
    struct cJSON *o = cJSON_CreateObject();
    cli_json_add_name(o, "path", path);
    return o;
}

struct cJSON *cli_stat_to_json(const char *path, const struct opendfs_stat *st)
{
    struct cJSON *o = cJSON_CreateObject();
    char mode[8];
    snprintf(mode, sizeof mode, "%04o", st->mode & 07777u);
    cli_json_add_name(o, "path", path);
    cJSON_AddStringToObject(o, "type", cli_type_name(st->type));
    cJSON_AddStringToObject(o, "mode", mode);
    cJSON_AddNumberToObject(o, "nlink", st->nlink);
    cJSON_AddNumberToObject(o, "uid", st->uid);
    cJSON_AddNumberToObject(o, "gid", st->gid);
    cJSON_AddNumberToObject(o, "size", (double)st->size_bytes);
    cJSON_AddNumberToObject(o, "allocated", (double)st->allocated_bytes);
    cli_json_add_i64(o, "ino", (int64_t)st->ino);
    cli_json_add_i64(o, "mtime_ns", st->mtime_ns);
    cli_json_add_i64(o, "atime_ns", st->atime_ns);
    cli_json_add_i64(o, "ctime_ns", st->ctime_ns);
    cli_json_add_i64(o, "btime_ns", st->btime_ns);
    return o;
}
