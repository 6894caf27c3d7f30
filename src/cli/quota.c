/* cli/quota.c -- limits of directories. */
#include "cli/usage_priv.h"

#include "cli/cli_priv.h"
#include "opendfs/usage.h"

#include "base/mem.h"
#include "base/text.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

/* ---- get ---- */

static void limit_to_json(struct cJSON *to, const char *name, uint64_t used, uint64_t soft,
                          uint64_t hard, int64_t grace_ns)
{
    struct cJSON *o = cJSON_AddObjectToObject(to, name);
    cJSON_AddNumberToObject(o, "used", (double)used);
    cJSON_AddNumberToObject(o, "soft", (double)soft);
    cJSON_AddNumberToObject(o, "hard", (double)hard);
    cli_json_add_i64(o, "grace_end_ns", grace_ns);
}

static struct cJSON *quota_to_json(const char *path, const struct opendfs_dir_stats *s)
{
    const struct opendfs_quota *q = &s->quota;
    struct cJSON *o = cli_json_of_path(path);
    cJSON_AddBoolToObject(o, "limited", s->has_quota != 0);
    limit_to_json(o, "bytes", s->bytes, q->bytes_soft, q->bytes_hard, q->bytes_grace_ns);
    limit_to_json(o, "files", s->files + s->directories, q->files_soft, q->files_hard,
                  q->files_grace_ns);
    cJSON_AddNumberToObject(o, "grace_s", (double)q->grace_s);
    return o;
}

static void number_text(uint64_t n, bool bytes, char out[TEXT_UNIT_SIZE])
{
    if (bytes) {
        text_from_bytes(n, out);
    } else {
        snprintf(out, TEXT_UNIT_SIZE, "%llu", (unsigned long long)n);
    }
}

static void print_limit(const char *what, bool bytes, uint64_t used, uint64_t soft, uint64_t hard,
                        int64_t grace_ns)
{
    char texts[3][TEXT_UNIT_SIZE], until[CLI_TIME_SIZE];
    number_text(used, bytes, texts[0]);
    number_text(soft, bytes, texts[1]);
    number_text(hard, bytes, texts[2]);
    printf("  %s: %s used, soft %s, hard %s", what, texts[0], soft == 0 ? "none" : texts[1],
           hard == 0 ? "none" : texts[2]);
    if (grace_ns != 0) {
        cli_time_to_text(grace_ns, false, until);
        printf(", soft limit exceeded: until %s", until);
    }
    printf("\n");
}

static void print_quota(const char *path, const struct opendfs_dir_stats *s)
{
    const struct opendfs_quota *q = &s->quota;
    char grace[TEXT_UNIT_SIZE];
    cli_print_name(path);
    if (!s->has_quota) {
        printf(": no limits\n");
        return;
    }
    printf(": grace time %s\n", text_from_ms(q->grace_s * 1000, grace));
    print_limit("bytes", true, s->bytes, q->bytes_soft, q->bytes_hard, q->bytes_grace_ns);
    print_limit("files", false, s->files + s->directories, q->files_soft, q->files_hard,
                q->files_grace_ns);
}

int cli_run_quota_get(struct cli *c)
{
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < c->argument_count && status != CLI_EXIT_USAGE; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument[i]);
        struct opendfs_dir_stats s;
        if (path == NULL) {
            status = CLI_EXIT_USAGE;
        } else if (opendfs_dir_stats(c->fs, path, &s) < 0) {
            status = cli_fail_op(c, NULL);
        } else if (c->json) {
            cli_print_json(quota_to_json(path, &s));
        } else {
            print_quota(path, &s);
        }
    }
    return status;
}

/* ---- set ---- */

/* "SOFT:HARD", either may be empty: no limit. One number alone is hard. */
static int parse_limits(struct cli *c, const char *option, bool bytes, uint64_t *soft,
                        uint64_t *hard)
{
    const char *text = cli_value(c, option), *colon = strchr(text, ':');
    char part[64];
    size_t len = colon == NULL ? 0 : (size_t)(colon - text);
    const char *texts[] = {part, colon == NULL ? text : colon + 1};
    uint64_t *rets[] = {soft, hard};
    int rc = len < sizeof part ? 0 : -EINVAL;
    snprintf(part, sizeof part, "%.*s", (int)base_min(len, sizeof part - 1), text);
    for (size_t i = 0; i < 2 && rc == 0; i++) {
        *rets[i] = 0;
        if (texts[i][0] != 0) {
            rc = bytes ? text_to_bytes(texts[i], rets[i]) : text_to_u64(texts[i], rets[i]);
        }
    }
    if (rc == 0 && *hard > 0 && *soft > *hard) {
        return cli_usage(c, "--%s %s: the soft limit is above the hard one", option, text);
    }
    return rc < 0 ? cli_usage(c, "--%s '%s' is not SOFT:HARD, as %s", option, text,
                              bytes ? "10G:12G" : "1000:1200")
                  : 0;
}

static int parse_grace(struct cli *c, uint64_t *ret_s)
{
    const char *text = cli_value(c, "grace");
    uint64_t ms = 0;
    if (text_to_ms(text, &ms) < 0 || ms < 1000) {
        return cli_usage(c, "--grace '%s' is not a time of a second or more, as 7d", text);
    }
    *ret_s = ms / 1000;
    return 0;
}

static int parse_quota(struct cli *c, struct opendfs_quota *q, unsigned *mask)
{
    int rc = 0;
    if (cli_value(c, "bytes") != NULL) {
        *mask |= OPENDFS_QUOTA_BYTES;
        rc = parse_limits(c, "bytes", true, &q->bytes_soft, &q->bytes_hard);
    }
    if (rc == 0 && cli_value(c, "files") != NULL) {
        *mask |= OPENDFS_QUOTA_FILES;
        rc = parse_limits(c, "files", false, &q->files_soft, &q->files_hard);
    }
    if (rc == 0 && cli_value(c, "grace") != NULL) {
        *mask |= OPENDFS_QUOTA_GRACE;
        rc = parse_grace(c, &q->grace_s);
    }
    return rc == 0 && *mask == 0 ? cli_usage(c, "give --bytes, --files or --grace") : rc;
}

static int change_all(struct cli *c, const struct opendfs_quota *q, unsigned mask)
{
    int status = cli_connect(c);
    for (size_t i = 0; c->fs != NULL && status != CLI_EXIT_USAGE && i < c->argument_count; i++) {
        CLEANUP(mem_freep) char *path = cli_path(c, c->argument[i]);
        if (path == NULL) {
            status = CLI_EXIT_USAGE;
        } else if (opendfs_set_quota(c->fs, path, q, mask) < 0) {
            status = cli_fail_op(c, NULL);
        }
    }
    return status;
}

int cli_run_quota_set(struct cli *c)
{
    struct opendfs_quota q = {0};
    unsigned mask = 0;
    int status = parse_quota(c, &q, &mask);
    return status != 0 ? status : change_all(c, &q, mask);
}

int cli_run_quota_clear(struct cli *c)
{
    const struct opendfs_quota none = {0};
    return change_all(c, &none, OPENDFS_QUOTA_CLEAR);
}
