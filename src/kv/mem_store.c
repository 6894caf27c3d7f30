#include "kv/mem_store_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "base/log.h"
#include "base/mem.h"
#include "disk/disk.h"
#include "kv/mem_load_priv.h"
#include "kv/mem_pin_priv.h"
#include "loop/executor.h"

#define STORE_NAME_DIGITS 16u
#define STORE_SUFFIX ".image"
#define STORE_UNFINISHED "unfinished"

enum store_step {
    STORE_IDLE,
    STORE_ROOM,
    STORE_OPEN,
    STORE_TRUNCATE, /* what a life before has left */
    STORE_HEADER,
    STORE_FILL, /* the executor's */
    STORE_BLOCK,
    STORE_FOOTER,
    STORE_SYNC,
    STORE_CLOSE,
    STORE_RENAME,
    STORE_SYNC_DIR,
    STORE_LIST, /* it is stable; what is older goes */
    STORE_REMOVE,
    STORE_ABORT_CLOSE,
    STORE_ABORT_REMOVE,
    STORE_DONE,
};

struct store_pin {
    bool used;
    uint64_t index, bytes;
};

struct kv_mem_store {
    const struct env *env;
    char *directory, *path_unfinished;
    uint8_t owner[16];
    uint64_t reserve_bytes;
    size_t block_bytes;
    struct loop_executor *executor;
    bool have, have_former;
    uint64_t durable, former; /* indexes of the newest stable image and of the one before */
    uint64_t durable_bytes, durable_term;
    struct store_pin pin[KV_PINS_MAX];

    /* the one under way */
    enum store_step step;
    struct kv_checkpoint *checkpoint;
    char *path;              /* its name; later of one that goes */
    struct kv_mem_tree tree; /* one reference on its root */
    struct kv_mem_path at;   /* this and the writer are the executor's while it fills */
    struct kv_image_writer writer;
    struct kv_slice block;
    struct loop_executor_job job;
    struct loop_task task;
    struct disk_req disk;
    struct disk_file *file;
    struct disk_names *names;
    size_t name_next;
    uint64_t written;                    /* bytes of the file */
    uint8_t edge[KV_IMAGE_HEADER_BYTES]; /* header, footer */
    int rc;
    bool cancelled;
};

/* ---- names ---- */

static char *store_path(const struct kv_mem_store *s, uint64_t index)
{
    return mem_printf("%s/%016" PRIx64 STORE_SUFFIX, s->directory, index);
}

static bool store_name_index(const char *name, uint64_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < STORE_NAME_DIGITS; i++) {
        char c = name[i];
        bool digit = c >= '0' && c <= '9';
        if (!digit && !(c >= 'a' && c <= 'f')) {
            return false;
        }
        v = v << 4 | (uint64_t)(digit ? c - '0' : c - 'a' + 10);
    }
    *ret = v;
    return strcmp(name + STORE_NAME_DIGITS, STORE_SUFFIX) == 0;
}

/* ---- writing ---- */

static void store_begin(struct kv_mem_store *s, enum store_step step);

/* A thread of the executor: the frozen tree is read, nothing of it is written by anyone but the
 * counts of references, which are not looked at here. */
static void store_fill(struct loop_executor_job *j)
{
    struct kv_mem_store *s = container_of(j, struct kv_mem_store, job);
    struct kv_mem_entry *e = kv_mem_path_entry(&s->at);
    while (e != NULL && kv_image_add(&s->writer, kv_mem_key(e), kv_mem_value(e))) {
        kv_mem_path_next(&s->at);
        e = kv_mem_path_entry(&s->at);
    }
    s->block = kv_slice_of(NULL, 0);
    if (kv_image_has_block(&s->writer)) {
        s->block = kv_image_block(&s->writer);
    }
}

static void store_abort(struct kv_mem_store *s, int rc)
{
    s->rc = rc;
    store_begin(s, s->file != NULL ? STORE_ABORT_CLOSE : STORE_ABORT_REMOVE);
}

static void store_filled(struct loop_executor_job *j)
{
    struct kv_mem_store *s = container_of(j, struct kv_mem_store, job);
    if (j->refused < 0 || s->cancelled) {
        store_abort(s, loop_executor_result(j, -ECANCELED));
        return;
    }
    store_begin(s, s->block.len > 0 ? STORE_BLOCK : STORE_FOOTER);
}

static void store_is_durable(struct kv_mem_store *s)
{
    if (s->have && s->durable != s->checkpoint->index) {
        s->former = s->durable;
        s->have_former = true;
    }
    s->durable = s->checkpoint->index;
    s->durable_term = s->checkpoint->term;
    s->durable_bytes = s->written;
    s->have = true;
}

/* What follows a step that went well. */
static enum store_step store_after(struct kv_mem_store *s, enum store_step step)
{
    switch (step) {
    case STORE_HEADER:
    case STORE_BLOCK:
        return STORE_FILL;
    case STORE_FOOTER:
        return STORE_SYNC;
    case STORE_SYNC_DIR:
        store_is_durable(s);
        return STORE_LIST;
    case STORE_REMOVE:
        return STORE_REMOVE;
    case STORE_ABORT_REMOVE:
        return STORE_DONE;
    case STORE_IDLE:
    case STORE_ROOM:
    case STORE_OPEN:
    case STORE_TRUNCATE:
    case STORE_FILL:
    case STORE_SYNC:
    case STORE_CLOSE:
    case STORE_RENAME:
    case STORE_LIST:
    case STORE_ABORT_CLOSE:
    case STORE_DONE:
    default:
        return step + 1;
    }
}

/* Is there room for the image beside what is left to others? */
static int store_room(const struct kv_mem_store *s)
{
    uint64_t need = s->tree.bytes + KV_IMAGE_RECORD_BYTES * s->tree.key_count;
    uint64_t free = s->disk.stat.free_bytes;
    return free < s->reserve_bytes || free - s->reserve_bytes < need ? -ENOSPC : 0;
}

static void store_stepped(struct disk_req *d, int64_t rc)
{
    struct kv_mem_store *s = container_of(d, struct kv_mem_store, disk);
    enum store_step step = s->step;
    if (step == STORE_ROOM && rc >= 0) {
        rc = store_room(s);
    } else if (step == STORE_OPEN && rc >= 0) {
        s->file = d->file;
    } else if (step == STORE_CLOSE || step == STORE_ABORT_CLOSE) {
        s->file = NULL;
    } else if (step == STORE_LIST && rc >= 0) {
        s->names = d->names;
    } else if (d->op == DISK_WRITE && rc >= 0) {
        s->written += (uint64_t)rc;
    }
    if (s->cancelled && step < STORE_RENAME && rc >= 0) {
        rc = -ECANCELED;
    }
    if (rc < 0 && step < STORE_LIST) { /* later ones cannot make it fail any more */
        store_abort(s, (int)rc);
        return;
    }
    store_begin(s, store_after(s, step));
}

static void store_write(struct kv_mem_store *s, void *bytes, size_t len)
{
    s->disk.op = DISK_WRITE;
    s->disk.flags = DISK_APPENDING | DISK_SOON;
    s->disk.offset = s->written;
    s->disk.buf = bytes;
    s->disk.len = len;
}

static bool store_pins(const struct kv_mem_store *s, uint64_t index)
{
    bool pins = false;
    for (size_t i = 0; i < KV_PINS_MAX; i++) {
        pins = pins || (s->pin[i].used && s->pin[i].index == index);
    }
    return pins;
}

/* The next name of an image that neither is the newest nor the one before. False: none. */
static bool store_next_old(struct kv_mem_store *s)
{
    uint64_t index = 0;
    while (s->names != NULL && s->name_next < s->names->count) {
        const char *name = s->names->name[s->name_next++];
        bool old = store_name_index(name, &index) && index != s->durable &&
                   !(s->have_former && index == s->former) && !store_pins(s, index);
        char *path = old ? store_path(s, index) : NULL;
        if (path != NULL) {
            mem_free(s->path);
            s->path = path;
            return true;
        }
    }
    return false;
}

static void store_over(struct kv_mem_store *s)
{
    struct kv_checkpoint *c = s->checkpoint;
    int rc = s->rc;
    kv_mem_node_unref(s->tree.pool, s->tree.root);
    kv_image_writer_fini(&s->writer);
    mem_free(s->names);
    mem_free(s->path);
    s->names = NULL;
    s->path = NULL;
    s->checkpoint = NULL;
    s->step = STORE_IDLE;
    c->done(c, rc);
}

/* Steps without a disk request. True: that was one. */
static bool store_begin_other(struct kv_mem_store *s)
{
    if (s->step == STORE_FILL) {
        s->job = (struct loop_executor_job){.work = store_fill, .done = store_filled};
        loop_executor_start(s->executor, s->env->loop, &s->job);
        return true;
    }
    if (s->step == STORE_DONE || (s->step == STORE_REMOVE && !store_next_old(s))) {
        store_over(s);
        return true;
    }
    return false;
}

static void store_begin(struct kv_mem_store *s, enum store_step step)
{
    static const enum disk_op ops[] = {
        [STORE_ROOM] = DISK_STATFS,       [STORE_OPEN] = DISK_OPEN,
        [STORE_TRUNCATE] = DISK_TRUNCATE, [STORE_HEADER] = DISK_WRITE,
        [STORE_BLOCK] = DISK_WRITE,       [STORE_FOOTER] = DISK_WRITE,
        [STORE_SYNC] = DISK_SYNC_ALL,     [STORE_CLOSE] = DISK_CLOSE,
        [STORE_RENAME] = DISK_RENAME,     [STORE_SYNC_DIR] = DISK_SYNC_DIR,
        [STORE_LIST] = DISK_LIST,         [STORE_REMOVE] = DISK_REMOVE,
        [STORE_ABORT_CLOSE] = DISK_CLOSE, [STORE_ABORT_REMOVE] = DISK_REMOVE};
    s->step = step;
    if (store_begin_other(s)) {
        return;
    }
    s->disk = (struct disk_req){
        .op = ops[step], .file = s->file, .path = s->path_unfinished, .done = store_stepped};
    if (step == STORE_OPEN) {
        s->disk.flags = DISK_READ_WRITE | DISK_CREATE;
    } else if (step == STORE_HEADER) {
        kv_image_header(&s->writer, s->edge);
        store_write(s, s->edge, KV_IMAGE_HEADER_BYTES);
    } else if (step == STORE_BLOCK) {
        store_write(s, (void *)s->block.at, s->block.len);
    } else if (step == STORE_FOOTER) {
        kv_image_footer(&s->writer, s->edge);
        store_write(s, s->edge, KV_IMAGE_FOOTER_BYTES);
    } else if (step == STORE_RENAME) {
        s->disk.path_to = s->path;
    } else if (step == STORE_ROOM || step == STORE_SYNC_DIR || step == STORE_LIST) {
        s->disk.path = s->directory;
    } else if (step == STORE_REMOVE) {
        s->disk.path = s->path;
    }
    disk_submit(s->env->disk, &s->disk);
}

/* The beginning, or there was no memory for it. */
static void store_run(struct loop_task *t)
{
    struct kv_mem_store *s = container_of(t, struct kv_mem_store, task);
    if (s->rc < 0) {
        store_begin(s, s->file != NULL ? STORE_ABORT_CLOSE : STORE_DONE);
    } else {
        store_begin(s, STORE_ROOM);
    }
}

void kv_mem_store_checkpoint(struct kv_mem_store *s, const struct kv_mem_tree *tree,
                             struct kv_checkpoint *c)
{
    CHECK(s->step == STORE_IDLE);
    struct kv_image_info info = {.index = c->index, .term = c->term, .records = tree->key_count};
    memcpy(info.owner, s->owner, sizeof info.owner);
    loop_random_bytes(s->env->loop, info.id, sizeof info.id);
    s->step = STORE_ROOM;
    s->checkpoint = c;
    s->tree = *tree;
    s->tree.root->ref++;
    s->file = NULL;
    s->name_next = 0;
    s->written = 0;
    s->cancelled = false;
    kv_mem_path_seek(&s->at, s->tree.root, kv_slice_of(NULL, 0));
    s->rc = kv_image_writer_init(&s->writer, &info, KV_IMAGE_PLAIN, s->block_bytes);
    s->path = store_path(s, c->index);
    s->rc = s->path == NULL ? -ENOMEM : s->rc;
    loop_defer(s->env->loop, &s->task);
}

void kv_mem_store_cancel(struct kv_mem_store *s)
{
    s->cancelled = s->step != STORE_IDLE;
}

bool kv_mem_store_busy(const struct kv_mem_store *s)
{
    return s->step != STORE_IDLE;
}

uint64_t kv_mem_store_durable(const struct kv_mem_store *s)
{
    return s->have ? s->durable : 0;
}

uint64_t kv_mem_store_bytes(const struct kv_mem_store *s)
{
    return s->have ? s->durable_bytes : 0;
}

/* ---- pins ---- */

/* What it kept goes after the next checkpoint. */
static void store_unpin(struct kv_mem_store *s, uint64_t index)
{
    size_t i = 0;
    while (i < KV_PINS_MAX && !(s->pin[i].used && s->pin[i].index == index)) {
        i++;
    }
    CHECK(i < KV_PINS_MAX);
    s->pin[i].used = false;
}

int kv_mem_store_pin(struct kv_mem_store *s, struct kv_pin **ret)
{
    size_t i = 0;
    if (s == NULL) {
        return -ENOENT;
    }
    while (i < KV_PINS_MAX && s->pin[i].used) {
        i++;
    }
    if (!s->have || i == KV_PINS_MAX) {
        return s->have ? -ENOBUFS : -ENOENT;
    }
    CLEANUP(mem_freep) char *path = store_path(s, s->durable);
    struct kv_mem_pin_options opt = {.env = s->env,
                                     .store = s,
                                     .unpin = store_unpin,
                                     .path = path,
                                     .index = s->durable,
                                     .term = s->durable_term,
                                     .bytes = s->durable_bytes};
    int rc = path == NULL ? -ENOMEM : kv_mem_pin_new(&opt, ret);
    if (rc == 0) {
        s->pin[i] =
            (struct store_pin){.used = true, .index = s->durable, .bytes = s->durable_bytes};
    }
    return rc;
}

/* How many, and bytes of images that are there for them only. */
static unsigned store_pinned(const struct kv_mem_store *s, uint64_t *ret_bytes)
{
    unsigned count = 0;
    *ret_bytes = 0;
    for (size_t i = 0; i < KV_PINS_MAX; i++) {
        const struct store_pin *p = &s->pin[i];
        bool kept = p->index == s->durable || (s->have_former && p->index == s->former);
        for (size_t j = 0; j < i; j++) {
            kept = kept || (s->pin[j].used && s->pin[j].index == p->index);
        }
        count += p->used ? 1 : 0;
        *ret_bytes += p->used && !kept ? p->bytes : 0;
    }
    return count;
}

void kv_mem_store_statistics(const struct kv_mem_store *s, struct kv_statistics *ret)
{
    if (s != NULL) {
        ret->file_bytes = kv_mem_store_bytes(s);
        ret->pins = store_pinned(s, &ret->pinned_bytes);
    }
}

/* ---- opening ---- */

/* What a life before did not finish takes room only. */
static int store_remove_unfinished(struct kv_mem_store *s, struct err *e)
{
    struct disk_req remove = {.op = DISK_REMOVE, .path = s->path_unfinished};
    int64_t rc = disk_now(s->env->disk, &remove);
    return rc < 0 && rc != -ENOENT ? err_set(e, (int)rc, "remove '%s'", s->path_unfinished) : 0;
}

static int store_load(struct kv_mem_store *s, uint64_t index, struct kv_mem_tree *tree,
                      struct err *e)
{
    struct kv_image_info info;
    CLEANUP(mem_freep) char *path = store_path(s, index);
    struct kv_mem_tree loaded = *tree;
    if (path == NULL) {
        return -ENOMEM;
    }
    int rc = kv_mem_load(s->env->disk, path, &loaded, &info, e);
    if (rc < 0) {
        return rc;
    }
    bool ours = memcmp(info.owner, s->owner, sizeof info.owner) == 0;
    if (!ours || info.index != index) {
        kv_mem_node_unref(loaded.pool, loaded.root);
        return ours
                   ? err_set(e, -ERR_bad_value, "image '%s' is of index %" PRIu64, path, info.index)
                   : err_set(e, -ERR_wrong_cluster, "image '%s' is of another cluster", path);
    }
    struct disk_req look = {.op = DISK_STAT, .path = path};
    s->durable_bytes = disk_now(s->env->disk, &look) < 0 ? 0 : look.stat.size_bytes;
    *tree = loaded;
    s->durable = index;
    s->durable_term = info.term;
    s->have = true;
    return 0;
}

static bool store_load_one(struct kv_mem_store *s, uint64_t index, struct kv_mem_tree *tree,
                           int *ret_rc, struct err *e)
{
    struct err why = {0};
    int rc = store_load(s, index, tree, &why);
    *ret_rc = 0;
    if (rc == -ENOMEM || rc == -ERR_wrong_cluster) {
        *ret_rc = err_set(e, rc, "%s", err_message(&why, rc));
    } else if (rc < 0) {
        log_warn(s->env->log, "image of the metadata is damaged, an older state is used",
                 LOG_TEXT("error", err_message(&why, rc)));
    }
    return rc == 0;
}

/* The newest that is sound. The one before it is kept, too, whether sound or not. */
static int store_load_newest(struct kv_mem_store *s, const struct disk_names *names,
                             struct kv_mem_tree *tree, struct err *e)
{
    int rc = 0;
    for (size_t i = names->count; i > 0 && !s->have_former && rc == 0; i--) { /* by index */
        uint64_t index = 0;
        if (!store_name_index(names->name[i - 1], &index)) {
            continue;
        }
        if (s->have) {
            s->former = index;
            s->have_former = true;
        } else {
            s->have = store_load_one(s, index, tree, &rc, e);
        }
    }
    return rc;
}

/* The name of what was loaded may be in the directory's cache only, of a life that was killed. */
static int store_sync_names(struct kv_mem_store *s, struct err *e)
{
    struct disk_req sync = {.op = DISK_SYNC_DIR, .path = s->directory};
    int rc = (int)disk_now(s->env->disk, &sync);
    return rc < 0 ? err_set(e, rc, "sync directory '%s'", s->directory) : 0;
}

static int store_init(struct kv_mem_store *s, const struct kv_mem_store_options *opt)
{
    struct loop_executor_options x = {
        .name = "checkpoint",
        .max_threads = 1,
        .max_queued = 1,
        .simulated = loop_is_simulated(opt->env->loop) ? opt->env->loop : NULL};
    s->env = opt->env;
    s->reserve_bytes = opt->reserve_bytes;
    s->block_bytes = opt->block_bytes;
    s->task.run = store_run;
    memcpy(s->owner, opt->owner, sizeof s->owner);
    s->directory = mem_strdup(opt->directory);
    s->path_unfinished = mem_printf("%s/" STORE_UNFINISHED, opt->directory);
    if (s->directory == NULL || s->path_unfinished == NULL) {
        return -ENOMEM;
    }
    return loop_executor_new(&x, &s->executor);
}

int kv_mem_store_open(struct kv_mem_store_options *opt, struct kv_mem_tree *tree,
                      struct kv_mem_store **ret, struct err *e)
{
    struct kv_mem_store *s = mem_zalloc(sizeof *s);
    struct disk_req list = {.op = DISK_LIST, .path = opt->directory};
    int rc = s == NULL ? -ENOMEM : store_init(s, opt);
    rc = rc < 0 ? rc : store_remove_unfinished(s, e);
    if (rc == 0) {
        rc = (int)disk_now(s->env->disk, &list);
        rc = rc < 0 ? err_set(e, rc, "list '%s'", opt->directory)
                    : store_load_newest(s, list.names, tree, e);
        mem_free(list.names);
    }
    if (rc == 0 && s->have) {
        rc = store_sync_names(s, e);
        if (rc < 0) {
            kv_mem_node_unref(tree->pool, tree->root);
        }
    }
    if (rc == 0 && tree->root == NULL) {
        tree->root = kv_mem_node_new(tree->pool, 0);
        rc = tree->root == NULL ? -ENOMEM : 0;
    }
    if (rc < 0) {
        kv_mem_store_free(s);
        return rc;
    }
    opt->found_index = s->durable;
    *ret = s;
    return 0;
}

struct kv_mem_store *kv_mem_store_free(struct kv_mem_store *s)
{
    if (s != NULL) {
        uint64_t bytes;
        CHECK(s->step == STORE_IDLE && store_pinned(s, &bytes) == 0);
        loop_executor_free(s->executor);
        mem_free(s->directory);
        mem_free(s->path_unfinished);
        mem_free(s);
    }
    return NULL;
}
