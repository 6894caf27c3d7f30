/*
 * disk/sim_names.c -- directories of a simulated machine: names in sorted arrays, and the changes
 * of names that no sync has made durable.
 *
 * A change is atomic: a crash takes it whole or not at all. What a journalling file system orders
 * is ordered here too: a change needs the earlier ones that touch the same name or the same file.
 * Everything else is independent, so that a forgotten DISK_SYNC_DIR is found.
 */
#include "disk/sim_priv.h"

#include "base/mem.h"

#include <string.h>

#define NAME_CHANGES_MAX                                                    \
    4096u /* more: the oldest becomes durable, as a kernel would do in time \
           */

/* ---- Nodes ---- */

struct sim_node *disk_sim_node_new(struct disk_sim *m, bool directory)
{
    struct sim_node *n = mem_zalloc(sizeof *n);
    if (n == NULL) {
        return NULL;
    }
    n->machine = m;
    n->refs = 1;
    n->directory = directory;
    n->mtime_ns = loop_sim_now_ns(m->sim);
    disk_sim_contents_init(n);
    list_push_back(&m->nodes, &n->node);
    return n;
}

struct sim_node *disk_sim_node_ref(struct sim_node *n)
{
    n->refs++;
    return n;
}

/* Freeing waits for disk_sim_reap(): a directory's entries refer to further nodes. */
void disk_sim_node_unref(struct sim_node *n)
{
    CHECK(n->refs > 0);
    if (--n->refs == 0) {
        list_remove(&n->node);
        list_push_back(&n->machine->dead, &n->node);
    }
}

void disk_sim_reap(struct disk_sim *m)
{
    for (struct list *node; (node = list_pop_front(&m->dead)) != NULL;) {
        struct sim_node *n = LIST_ENTRY(node, struct sim_node, node);
        disk_sim_names_fini(n);
        disk_sim_contents_fini(n);
        mem_free(n);
    }
}

static void node_forget_if_lost(struct sim_node *n)
{
    if (n->links == 0 && n->opens == 0) {
        disk_sim_contents_forget(n);
    }
}

void disk_sim_node_closed(struct sim_node *n)
{
    CHECK(n->opens > 0);
    n->opens--;
    node_forget_if_lost(n);
    disk_sim_node_unref(n);
}

/* ---- Entries ---- */

static int name_compare(const char *entry, const char *name, size_t len)
{
    int rc = strncmp(entry, name, len);
    return rc != 0 ? rc : entry[len] != 0 ? 1 : 0;
}

static size_t entry_position(const struct sim_node *dir, const char *name, size_t len)
{
    size_t low = 0, high = dir->dir.entry_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (name_compare(dir->dir.entry[mid]->name, name, len) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

static struct sim_entry *entry_find(const struct sim_node *dir, const char *name, size_t len)
{
    size_t at = entry_position(dir, name, len);
    if (at == dir->dir.entry_count || name_compare(dir->dir.entry[at]->name, name, len) != 0) {
        return NULL;
    }
    return dir->dir.entry[at];
}

static struct sim_entry *entry_make(struct sim_node *dir, const char *name, size_t len)
{
    struct sim_names *d = &dir->dir;
    struct sim_entry *entry = entry_find(dir, name, len);
    if (entry != NULL) {
        return entry;
    }
    if (mem_grow(&d->entry, &d->entry_capacity, d->entry_count + 1, sizeof(struct sim_entry *)) <
        0) {
        return NULL;
    }
    entry = mem_zalloc(sizeof *entry + len + 1);
    if (entry == NULL) {
        return NULL;
    }
    memcpy(entry->name, name, len);
    size_t at = entry_position(dir, name, len);
    memmove(&d->entry[at + 1], &d->entry[at], (d->entry_count - at) * sizeof(struct sim_entry *));
    d->entry[at] = entry;
    d->entry_count++;
    return entry;
}

static void entry_drop_if_unused(struct sim_node *dir, struct sim_entry *entry)
{
    struct sim_names *d = &dir->dir;
    if (entry->live != NULL || entry->durable != NULL || entry->pending > 0) {
        return;
    }
    size_t at = entry_position(dir, entry->name, strlen(entry->name));
    CHECK(d->entry[at] == entry);
    d->entry_count--;
    memmove(&d->entry[at], &d->entry[at + 1], (d->entry_count - at) * sizeof(struct sim_entry *));
    mem_free(entry);
}

static void entry_set_durable(struct sim_entry *entry, struct sim_node *n)
{
    struct sim_node *old = entry->durable;
    entry->durable = n == NULL ? NULL : disk_sim_node_ref(n);
    if (old != NULL) {
        disk_sim_node_unref(old);
    }
}

static void entry_set_live(struct sim_entry *entry, struct sim_node *n)
{
    struct sim_node *old = entry->live;
    entry->live = n == NULL ? NULL : disk_sim_node_ref(n);
    if (n != NULL) {
        n->links++;
    }
    if (old != NULL) {
        old->links--;
        node_forget_if_lost(old);
        disk_sim_node_unref(old);
    }
}

static bool directory_empty(const struct sim_node *dir)
{
    for (size_t i = 0; i < dir->dir.entry_count; i++) {
        if (dir->dir.entry[i]->live != NULL) {
            return false;
        }
    }
    return true;
}

void disk_sim_names_fini(struct sim_node *dir)
{
    struct sim_names *d = &dir->dir;
    for (size_t i = 0; i < d->entry_count; i++) {
        CHECK(d->entry[i]->pending == 0);
        entry_set_live(d->entry[i], NULL);
        entry_set_durable(d->entry[i], NULL);
        mem_free(d->entry[i]);
    }
    mem_free(d->entry);
}

void disk_sim_names_revert(struct sim_node *dir)
{
    struct sim_names *d = &dir->dir;
    size_t kept = 0;
    for (size_t i = 0; i < d->entry_count; i++) {
        struct sim_entry *entry = d->entry[i];
        CHECK(entry->pending == 0);
        if (entry->live != entry->durable) {
            entry_set_live(entry, entry->durable);
        }
        if (entry->live == NULL) {
            mem_free(entry);
        } else {
            d->entry[kept++] = entry;
        }
    }
    d->entry_count = kept;
}

/* ---- Changes of names ---- */

static void end_hold(struct sim_end *end)
{
    if (end->entry != NULL) {
        end->entry->pending++;
        disk_sim_node_ref(end->dir);
    }
}

static void end_drop(struct sim_end *end)
{
    if (end->entry != NULL) {
        end->entry->pending--;
        entry_drop_if_unused(end->dir, end->entry);
        disk_sim_node_unref(end->dir);
    }
}

static void change_finish(struct disk_sim *m, struct sim_name_change *c, bool durable)
{
    if (durable && c->to.entry != NULL) {
        entry_set_durable(c->to.entry, c->target);
    }
    if (durable && c->from.entry != NULL) {
        entry_set_durable(c->from.entry, NULL);
    }
    list_remove(&c->node);
    m->name_change_count--;
    end_drop(&c->from);
    end_drop(&c->to);
    disk_sim_node_unref(c->target);
    mem_free(c);
}

static bool ends_meet(const struct sim_end *a, const struct sim_end *b)
{
    return a->entry != NULL && a->entry == b->entry;
}

/* Does `later` need `earlier`? The last case keeps directories that move past each other a tree. */
static bool change_needs(const struct sim_name_change *later, const struct sim_name_change *earlier)
{
    bool moves = earlier->target->directory && earlier->from.entry != NULL;
    return later->target == earlier->target || ends_meet(&later->from, &earlier->from) ||
           ends_meet(&later->from, &earlier->to) || ends_meet(&later->to, &earlier->from) ||
           ends_meet(&later->to, &earlier->to) ||
           (moves && (later->from.dir == earlier->target || later->to.dir == earlier->target));
}

/* Backwards: what a chosen change needs is chosen too. */
static void changes_close(struct disk_sim *m)
{
    for (struct list *at = m->name_changes.prev; at != &m->name_changes; at = at->prev) {
        const struct sim_name_change *later = LIST_ENTRY(at, struct sim_name_change, node);
        if (!later->chosen) {
            continue;
        }
        for (struct list *b = at->prev; b != &m->name_changes; b = b->prev) {
            struct sim_name_change *earlier = LIST_ENTRY(b, struct sim_name_change, node);
            earlier->chosen = earlier->chosen || change_needs(later, earlier);
        }
    }
}

static void changes_settle(struct disk_sim *m, bool drop_others)
{
    changes_close(m);
    LIST_FOR_EACH_SAFE(node, &m->name_changes)
    {
        struct sim_name_change *c = LIST_ENTRY(node, struct sim_name_change, node);
        if (c->chosen || drop_others) {
            change_finish(m, c, c->chosen);
        }
    }
}

void disk_sim_sync_dir(struct disk_sim *m, const struct sim_node *dir, uint64_t mark)
{
    LIST_FOR_EACH(node, &m->name_changes)
    {
        struct sim_name_change *c = LIST_ENTRY(node, struct sim_name_change, node);
        c->chosen = c->seq <= mark && (c->from.dir == dir || c->to.dir == dir);
    }
    changes_settle(m, false);
}

void disk_sim_sync_create(struct disk_sim *m, const struct sim_node *file, uint64_t mark)
{
    LIST_FOR_EACH(node, &m->name_changes)
    {
        struct sim_name_change *c = LIST_ENTRY(node, struct sim_name_change, node);
        c->chosen = c->seq <= mark && c->create && c->target == file;
    }
    changes_settle(m, false);
}

void disk_sim_names_crash(struct disk_sim *m, unsigned keep)
{
    LIST_FOR_EACH(node, &m->name_changes)
    {
        struct sim_name_change *c = LIST_ENTRY(node, struct sim_name_change, node);
        c->chosen = rand_chance(&m->rand, keep, 1000);
    }
    changes_settle(m, true);
}

/* Carries a change out on the live side and keeps it. Nothing has happened when it fails. */
static int change_do(struct disk_sim *m, const struct sim_name_change *what)
{
    struct sim_name_change *c = mem_dup(what, sizeof *what);
    if (c == NULL) {
        return -ENOMEM;
    }
    c->seq = ++m->seq;
    disk_sim_node_ref(c->target);
    end_hold(&c->from);
    end_hold(&c->to);
    list_push_back(&m->name_changes, &c->node);
    m->name_change_count++;
    if (c->to.entry != NULL) {
        entry_set_live(c->to.entry, c->target);
        c->to.dir->mtime_ns = loop_sim_now_ns(m->sim);
    }
    if (c->from.entry != NULL) {
        entry_set_live(c->from.entry, NULL);
        c->from.dir->mtime_ns = loop_sim_now_ns(m->sim);
    }
    if (m->name_change_count > NAME_CHANGES_MAX) {
        change_finish(m, LIST_ENTRY(m->name_changes.next, struct sim_name_change, node), true);
    }
    return 0;
}

/* ---- Paths ---- */

/* The next component; its length, 0 at the end. */
static size_t path_component(const char **at)
{
    for (;;) {
        while (**at == '/') {
            (*at)++;
        }
        size_t len = strcspn(*at, "/");
        if (len != 1 || **at != '.') {
            return len;
        }
        (*at)++;
    }
}

/* `..` is refused: nothing of ours makes such a path, and a parent pointer would have to be kept.
 */
static int component_check(const char *name, size_t len)
{
    if (len > SIM_NAME_MAX) {
        return -ENAMETOOLONG;
    }
    return len == 2 && memcmp(name, "..", 2) == 0 ? -EINVAL : 0;
}

int disk_sim_walk(struct disk_sim *m, const char *path, const struct sim_node *about,
                  struct sim_place *ret)
{
    struct sim_place p = {.node = m->root};
    size_t len;
    if (*path == 0) {
        return -ENOENT;
    }
    for (const char *at = path; (len = path_component(&at)) > 0; at += len) {
        int rc = component_check(at, len);
        if (rc < 0 || p.node == NULL) {
            return rc < 0 ? rc : -ENOENT;
        }
        if (!p.node->directory) {
            return -ENOTDIR;
        }
        p.passed = p.passed || p.node == about;
        p.dir = p.node;
        p.name = at;
        p.name_len = len;
        const struct sim_entry *entry = entry_find(p.dir, at, len);
        p.node = entry == NULL ? NULL : entry->live;
    }
    *ret = p;
    return 0;
}

/* ---- What processes do ---- */

int disk_sim_create(struct disk_sim *m, const struct sim_place *at, bool directory,
                    struct sim_node **ret)
{
    struct sim_entry *entry = entry_make(at->dir, at->name, at->name_len);
    struct sim_node *n = entry == NULL ? NULL : disk_sim_node_new(m, directory);
    if (entry == NULL || n == NULL) {
        if (entry != NULL) {
            entry_drop_if_unused(at->dir, entry);
        }
        return -ENOMEM;
    }
    const struct sim_name_change c = {.create = !directory, .target = n, .to = {at->dir, entry}};
    int rc = change_do(m, &c);
    if (rc < 0) {
        entry_drop_if_unused(at->dir, entry);
    } else {
        *ret = n;
    }
    disk_sim_node_unref(n); /* the entries hold it */
    return rc;
}

static int rename_replaces(const struct sim_node *from, const struct sim_node *to)
{
    if (from->directory && !to->directory) {
        return -ENOTDIR;
    }
    if (!from->directory && to->directory) {
        return -EISDIR;
    }
    return to->directory && !directory_empty(to) ? -ENOTEMPTY : 0;
}

static int rename_between(struct disk_sim *m, const struct sim_place *from,
                          const struct sim_place *to)
{
    struct sim_entry *target = entry_make(to->dir, to->name, to->name_len);
    if (target == NULL) {
        return -ENOMEM;
    }
    const struct sim_name_change c = {
        .target = from->node,
        .from = {from->dir, entry_find(from->dir, from->name, from->name_len)},
        .to = {to->dir, target},
    };
    int rc = change_do(m, &c);
    if (rc < 0) {
        entry_drop_if_unused(to->dir, target);
    }
    return rc;
}

int disk_sim_rename(struct disk_sim *m, const char *path, const char *path_to)
{
    struct sim_place from, to;
    int rc = disk_sim_walk(m, path, NULL, &from);
    if (rc < 0) {
        return rc;
    }
    if (from.node == NULL) {
        return -ENOENT;
    }
    rc = disk_sim_walk(m, path_to, from.node, &to);
    if (rc < 0) {
        return rc;
    }
    if (from.dir == NULL || to.dir == NULL) {
        return -EBUSY;
    }
    if (to.passed) {
        return -EINVAL; /* into itself */
    }
    if (to.node == from.node) {
        return 0;
    }
    rc = to.node == NULL ? 0 : rename_replaces(from.node, to.node);
    return rc < 0 ? rc : rename_between(m, &from, &to);
}

int disk_sim_link(struct disk_sim *m, const char *path, const char *path_to)
{
    struct sim_place from, to;
    int rc = disk_sim_walk(m, path, NULL, &from);
    if (rc < 0) {
        return rc;
    }
    if (from.node == NULL) {
        return -ENOENT;
    }
    rc = disk_sim_walk(m, path_to, NULL, &to);
    if (rc < 0) {
        return rc;
    }
    if (to.node != NULL) {
        return -EEXIST;
    }
    if (from.node->directory) {
        return -EPERM;
    }
    struct sim_entry *entry = entry_make(to.dir, to.name, to.name_len);
    if (entry == NULL) {
        return -ENOMEM;
    }
    const struct sim_name_change c = {.target = from.node, .to = {to.dir, entry}};
    rc = change_do(m, &c);
    if (rc < 0) {
        entry_drop_if_unused(to.dir, entry);
    }
    return rc;
}

int disk_sim_remove(struct disk_sim *m, const char *path)
{
    struct sim_place at;
    int rc = disk_sim_walk(m, path, NULL, &at);
    if (rc < 0) {
        return rc;
    }
    if (at.node == NULL) {
        return -ENOENT;
    }
    if (at.dir == NULL) {
        return -EBUSY;
    }
    if (at.node->directory && !directory_empty(at.node)) {
        return -ENOTEMPTY;
    }
    const struct sim_name_change c = {
        .target = at.node,
        .from = {at.dir, entry_find(at.dir, at.name, at.name_len)},
    };
    return change_do(m, &c);
}

int64_t disk_sim_list(const struct sim_node *dir, char **ret_text, size_t *ret_len)
{
    CLEANUP(mem_freep) char *text = NULL;
    size_t capacity = 0, len = 0;
    int64_t count = 0;
    for (size_t i = 0; i < dir->dir.entry_count; i++) {
        const struct sim_entry *entry = dir->dir.entry[i];
        if (entry->live == NULL) {
            continue;
        }
        size_t size = strlen(entry->name) + 1;
        if (mem_grow(&text, &capacity, len + size, 1) < 0) {
            return -ENOMEM;
        }
        memcpy(text + len, entry->name, size);
        len += size;
        count++;
    }
    *ret_text = text;
    *ret_len = len;
    text = NULL;
    return count;
}
