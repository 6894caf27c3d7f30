#include "metanode/engine_priv.h"

#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "base/log.h"
#include "base/mem.h"
#include "disk/disk.h"
#include "kv/mem.h"
#include "tree/tree.h"

#define ENGINE_NAME_MAX 31u
#define ENGINE_TREE "tree"              /* the file of the tree */
#define ENGINE_NEW METANODE_ENGINE_TREE /* of a new directory, if nothing is said */
#define ENGINE_IMAGE ".image" /* what the memory engine has left where no name is recorded */

static const char *const engine_names[] = {
    [METANODE_ENGINE_MEMORY] = "memory", [METANODE_ENGINE_TREE] = "tree"};

struct engine_name {
    char text[ENGINE_NAME_MAX + 1]; /* empty: none */
};

/* ---- whose records they are ---- */

/* Directories of before the name was recorded: with images, or with none yet. */
static int engine_unnamed(const struct env *env, const char *state, struct engine_name *ret,
                          struct err *e)
{
    struct disk_req list = {.op = DISK_LIST, .path = state};
    int rc = (int)disk_now(env->disk, &list);
    if (rc < 0) {
        return err_set(e, rc, "list '%s'", state);
    }
    bool images = false;
    for (size_t i = 0; i < list.names->count; i++) {
        images = images || strstr(list.names->name[i], ENGINE_IMAGE) != NULL;
    }
    mem_free(list.names);
    (void)snprintf(ret->text, sizeof ret->text, "%s",
                   images ? engine_names[METANODE_ENGINE_MEMORY] : "");
    return 0;
}

/* One word and a newline. */
static int engine_parse(const void *bytes, size_t len, struct engine_name *ret)
{
    const char *text = bytes;
    if (len < 2 || len > ENGINE_NAME_MAX + 1 || text[len - 1] != '\n') {
        return -ERR_bad_value;
    }
    for (size_t i = 0; i + 1 < len; i++) {
        if (text[i] < 'a' || text[i] > 'z') {
            return -ERR_bad_value;
        }
    }
    memcpy(ret->text, text, len - 1);
    ret->text[len - 1] = 0;
    return 0;
}

/* By the name that is recorded; or, where none is, what a new directory gets. */
static int engine_resolve(const char *found, enum metanode_engine_kind *kind)
{
    if (*kind != METANODE_ENGINE_DEFAULT) {
        return 0;
    }
    *kind = ENGINE_NEW;
    for (unsigned i = 0; i < ARRAY_COUNT(engine_names) && found[0] != 0; i++) {
        if (engine_names[i] != NULL && strcmp(engine_names[i], found) == 0) {
            *kind = (enum metanode_engine_kind)i;
            return 0;
        }
    }
    return found[0] == 0 ? 0 : -ERR_config;
}

/* The engine that is wanted is settled, and is that of the records. */
static int engine_settle(const struct metanode_engine_options *o, const struct engine_name *found,
                         enum metanode_engine_kind *kind, struct err *e)
{
    int rc = engine_resolve(found->text, kind);
    if (rc < 0) {
        return err_set(e, rc, "the records in '%s' are of engine '%s', which this program has not",
                       o->directory, found->text);
    }
    const char *name = engine_names[*kind];
    if (found->text[0] != 0 && strcmp(found->text, name) != 0) {
        return err_set(e, -ERR_config,
                       "the records in '%s' are of engine '%s', and the configuration says '%s': "
                       "say engine = %s, or move them with a backup",
                       o->directory, found->text, name, found->text);
    }
    return 0;
}

static int engine_claim(const struct metanode_engine_options *o, const char *state,
                        enum metanode_engine_kind *kind, struct err *e)
{
    const struct env *env = o->env;
    CLEANUP(mem_freep) char *path = mem_printf("%s/engine", o->directory);
    CLEANUP(mem_freep) void *bytes = NULL;
    struct engine_name found = {0};
    char line[ENGINE_NAME_MAX + 2];
    size_t len = 0;
    if (path == NULL) {
        return -ENOMEM;
    }
    int rc = disk_load(env->disk, path, 4096, &bytes, &len);
    bool named = rc != -ENOENT;
    if (named && rc < 0) {
        return err_set(e, rc, "read '%s'", path);
    }
    rc = named ? engine_parse(bytes, len, &found) : engine_unnamed(env, state, &found, e);
    if (rc < 0) {
        return named ? err_set(e, rc, "'%s' names no engine", path) : rc;
    }
    rc = engine_settle(o, &found, kind, e);
    if (named || rc < 0) {
        return rc;
    }
    int n = snprintf(line, sizeof line, "%s\n", engine_names[*kind]);
    rc = disk_store(env->disk, path, line, (size_t)n);
    return rc < 0 ? err_set(e, rc, "write '%s'", path) : 0;
}

/* ---- opening ---- */

static int engine_open_memory(struct metanode_engine *g, const struct metanode_engine_options *o,
                              const char *state, struct err *e)
{
    struct kv_mem_open_options open = {.mem = {.budget = o->budget,
                                               .owner = &g->owner,
                                               .seed = loop_random(o->env->loop),
                                               .need_permille = o->need_permille,
                                               .fetch_polls_max = o->need_permille > 0 ? 2 : 0,
                                               .busy_permille = o->busy_permille,
                                               .strict = o->strict,
                                               .cache_bytes = o->pretended_cache_bytes},
                                       .env = o->env,
                                       .directory = state,
                                       .owner = o->owner,
                                       .reserve_bytes = o->reserve_bytes};
    return kv_mem_open(&open, &g->kv, e);
}

/* The file is made where there is none: whose records the directory has was settled before. */
static int engine_open_tree(struct metanode_engine *g, const struct metanode_engine_options *o,
                            const char *state, struct err *e)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/" ENGINE_TREE, state);
    struct tree_options open = {.env = o->env,
                                .path = path,
                                .owner = o->owner,
                                .cache_bytes = o->cache_bytes,
                                .reserve_bytes = o->reserve_bytes};
    struct tree_found found = {0};
    if (o->need_permille > 0) { /* so small that things are not in memory */
        open.shape = (struct tree_shape){.leaf_raw = 16u << 10,
                                         .basement_raw = 1u << 10,
                                         .internal_raw = 32u << 10,
                                         .part_raw = 4u << 10,
                                         .fanout = 8,
                                         .runs_max = 3,
                                         .filter_bits = 10,
                                         .codec = TREE_CODEC_LZ4};
        open.memtable_bytes = 64u << 10;
        open.cache_bytes = 4u << 20;
    }
    if (path == NULL) {
        return -ENOMEM;
    }
    int rc = tree_open(&open, &g->kv, &found, e);
    if (rc == -ENOENT) {
        rc = tree_create(&open, e);
        rc = rc < 0 ? rc : tree_open(&open, &g->kv, &found, e);
    }
    if (rc == 0 && found.fell_back) {
        log_error(o->env->log,
                  "the newest checkpoint of the metadata is damaged, the one before is used",
                  LOG_TEXT("file", path), LOG_TEXT("reason", found.note.text),
                  LOG_U64("index", found.index));
    }
    return rc;
}

static void engine_wake(struct kv_owner *o)
{
    struct metanode_engine *g = container_of(o, struct metanode_engine, owner);
    loop_defer(g->env->loop, &g->task);
}

static void engine_poll(struct loop_task *t)
{
    (void)kv_poll(container_of(t, struct metanode_engine, task)->kv);
}

int metanode_engine_open(struct metanode_engine *g, const struct metanode_engine_options *opt,
                         struct err *e)
{
    CLEANUP(mem_freep) char *state = mem_printf("%s/state", opt->directory);
    enum metanode_engine_kind kind = opt->kind;
    *g = (struct metanode_engine){
        .env = opt->env, .owner.wake = engine_wake, .task.run = engine_poll};
    int rc = state == NULL ? -ENOMEM : disk_make_directories(opt->env->disk, state);
    if (rc < 0) {
        return err_set(e, rc, "make '%s/state'", opt->directory);
    }
    CHECK(kind < ARRAY_COUNT(engine_names));
    rc = engine_claim(opt, state, &kind, e);
    if (rc < 0) {
        return rc;
    }
    switch (kind) {
    case METANODE_ENGINE_MEMORY:
        rc = engine_open_memory(g, opt, state, e);
        break;
    case METANODE_ENGINE_TREE:
        rc = engine_open_tree(g, opt, state, e);
        break;
    case METANODE_ENGINE_DEFAULT:
    default:
        return -ERR_config;
    }
    g->cache_limit = rc < 0 ? 0 : kv_statistics(g->kv).cache_limit;
    return rc;
}

void metanode_engine_close(struct metanode_engine *g)
{
    if (g->env != NULL) {
        loop_undefer(g->env->loop, &g->task);
    }
    g->kv = kv_free(g->kv);
}
