#include "mount/options.h"

#include "base/mem.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

#define LIST_MAX 4096u
#define SOFT_SECONDS 60u

enum kind {
    KIND_KERNEL,  /* handed on */
    KIND_NOTHING, /* for mount(8), systemd and others, or as it is anyway */
    KIND_TEXT,
    KIND_BYTES,
    KIND_SECONDS,
    KIND_SOFT,
    KIND_HARD,
};
struct option {
    const char *name;
    enum kind kind;
    size_t field; /* of struct mount_setup */
};

#define FIELD(f) offsetof(struct mount_setup, f)
static const struct option options[] = {
    {"ro", KIND_KERNEL, 0},
    {"nosuid", KIND_KERNEL, 0},
    {"suid", KIND_KERNEL, 0},
    {"nodev", KIND_KERNEL, 0},
    {"dev", KIND_KERNEL, 0},
    {"noexec", KIND_KERNEL, 0},
    {"exec", KIND_KERNEL, 0},
    {"sync", KIND_KERNEL, 0},
    {"dirsync", KIND_KERNEL, 0},
    {"noatime", KIND_KERNEL, 0},
    {"nodiratime", KIND_KERNEL, 0},
    {"allow_other", KIND_KERNEL, 0},
    {"allow_root", KIND_KERNEL, 0},
    {"defaults", KIND_NOTHING, 0},
    {"rw", KIND_NOTHING, 0},
    {"async", KIND_NOTHING, 0},
    {"relatime", KIND_NOTHING, 0},
    {"auto", KIND_NOTHING, 0},
    {"noauto", KIND_NOTHING, 0},
    {"nofail", KIND_NOTHING, 0},
    {"_netdev", KIND_NOTHING, 0},
    {"user", KIND_NOTHING, 0},
    {"users", KIND_NOTHING, 0},
    {"nouser", KIND_NOTHING, 0},
    {"cluster", KIND_TEXT, FIELD(cluster)},
    {"secret", KIND_TEXT, FIELD(secret)},
    {"log", KIND_TEXT, FIELD(log)},
    {"cache", KIND_BYTES, FIELD(cache_bytes)},
    {"readahead", KIND_BYTES, FIELD(read_ahead_bytes)},
    {"timeout", KIND_SECONDS, FIELD(timeout_ms)},
    {"soft", KIND_SOFT, 0},
    {"hard", KIND_HARD, 0},
};

static const struct option *option_find(const char *word, size_t name_len)
{
    for (size_t i = 0; i < ARRAY_COUNT(options); i++) {
        if (strlen(options[i].name) == name_len && memcmp(options[i].name, word, name_len) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

static int kernel_add(struct mount_setup *s, const char *word)
{
    bool first = s->kernel == NULL || s->kernel[0] == '\0';
    char *more = mem_printf("%s%s%s", first ? "" : s->kernel, first ? "" : ",", word);
    if (more == NULL) {
        return -ENOMEM;
    }
    mem_free(s->kernel);
    s->kernel = more;
    return 0;
}

static int seconds_take(const char *value, uint64_t *ret_ms)
{
    char *end;
    unsigned long long n = strtoull(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || n == 0 || n > 86400) {
        return -EINVAL;
    }
    *ret_ms = n * 1000;
    return 0;
}

/* `value`: NULL: there was no '='. */
static int option_take(struct mount_setup *s, const struct option *o, const char *word,
                       const char *value, bool *soft)
{
    void *field = (char *)s + o->field;
    if ((value != NULL) !=
        (o->kind == KIND_TEXT || o->kind == KIND_BYTES || o->kind == KIND_SECONDS)) {
        return -EINVAL;
    }
    switch (o->kind) {
    case KIND_KERNEL:
        return kernel_add(s, word);
    case KIND_NOTHING:
        return 0;
    case KIND_TEXT: {
        char **text = field;
        mem_free(*text);
        *text = mem_strdup(value);
        return *text == NULL ? -ENOMEM : value[0] == '\0' ? -EINVAL : 0;
    }
    case KIND_BYTES:
        return text_to_bytes(value, field);
    case KIND_SECONDS:
        return seconds_take(value, field);
    case KIND_SOFT:
    case KIND_HARD:
        *soft = o->kind == KIND_SOFT;
        return 0;
    }
    return -EINVAL;
}

static int word_take(struct mount_setup *s, char *word, bool *soft, struct err *e)
{
    if (word[0] == '\0' || strncmp(word, "x-", 2) == 0 || strncmp(word, "comment=", 8) == 0) {
        return 0;
    }
    char *equals = strchr(word, '=');
    size_t len = equals == NULL ? strlen(word) : (size_t)(equals - word);
    const struct option *o = option_find(word, len);
    if (o == NULL) {
        return err_set(e, -EINVAL, "mount option '%s' is not known", word);
    }
    int rc = option_take(s, o, word, equals == NULL ? NULL : equals + 1, soft);
    return rc == 0 ? 0 : err_set(e, rc, "mount option '%s'", word);
}

static int list_take(struct mount_setup *s, const char *list, struct err *e)
{
    bool soft = false;
    if (strlen(list) > LIST_MAX) {
        return err_set(e, -E2BIG, "mount options of more than %u bytes", LIST_MAX);
    }
    CLEANUP(mem_freep) char *copy = mem_strdup(list);
    if (copy == NULL) {
        return err_set(e, -ENOMEM, "mount options");
    }
    int rc = 0;
    for (char *word = copy, *next; rc == 0 && word != NULL; word = next) {
        next = strchr(word, ',');
        if (next != NULL) {
            *next++ = '\0';
        }
        rc = word_take(s, word, &soft, e);
    }
    if (rc == 0 && !soft && s->timeout_ms != 0) {
        return err_set(e, -EINVAL, "mount option 'timeout' is for soft mounts: say 'soft', too");
    }
    if (soft && s->timeout_ms == 0) {
        s->timeout_ms = UINT64_C(1000) * SOFT_SECONDS;
    }
    return rc;
}

/* Addresses have colons, and so may paths: the first one with a slash behind it parts them. A local
 * cluster is a directory: "/clusters/a:/path". */
static int source_take(struct mount_setup *s, const char *source, struct err *e)
{
    const char *colon = strstr(source, ":/");
    const char *path = colon == NULL ? source : colon + 1;
    if (path[0] != '/' || colon == source) {
        return err_set(e, -EINVAL, "'%s' is not [CLUSTER:]/PATH", source);
    }
    s->path = mem_strdup(path);
    if (s->path == NULL) {
        return err_set(e, -ENOMEM, "mount");
    }
    if (colon == NULL) {
        return 0;
    }
    mem_free(s->cluster);
    s->cluster = mem_printf("%.*s", (int)(colon - source), source);
    return s->cluster == NULL ? err_set(e, -ENOMEM, "mount") : 0;
}

int mount_setup_parse(const char *source, const char *list, bool root, struct mount_setup *ret,
                      struct err *e)
{
    struct mount_setup s = {0};
    int rc = kernel_add(&s, root ? "allow_other,suid,dev" : "");
    rc = rc < 0 ? err_set(e, rc, "mount") : 0;
    rc = rc == 0 && list != NULL ? list_take(&s, list, e) : rc;
    rc = rc == 0 ? source_take(&s, source, e) : rc;
    if (rc < 0) {
        mount_setup_fini(&s);
        return rc;
    }
    *ret = s;
    return 0;
}

void mount_setup_fini(struct mount_setup *s)
{
    mem_free(s->cluster);
    mem_free(s->path);
    mem_free(s->secret);
    mem_free(s->log);
    mem_free(s->kernel);
    *s = (struct mount_setup){0};
}
