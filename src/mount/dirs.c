#include "mount/call_priv.h"

#include "base/dict.h"

#include <string.h>

/*
 * Listings. The place behind a name is told to the kernel as a hash of the name: it means the same
 * in each handle, also after a restart, and whatever else comes and goes. A listing goes on where
 * it stands; another place is looked for in its page, then from the beginning.
 */

#define PLACE_BEGIN UINT64_C(0)
#define PLACE_DOT UINT64_C(1)
#define PLACE_DOTS UINT64_C(2)

struct mount_listing {
    struct opendfs_op op;           /* of the page; it holds the entries */
    size_t at;                      /* next entry of the page */
    uint64_t place;                 /* where that is */
    char after[MOUNT_NAME_MAX + 1]; /* the page begins behind it */
    bool loaded, busy, opening;
    bool fresh;      /* nothing was listed since it was opened */
    uint64_t parent; /* for ".."; 0: not known */
    char *to;
    size_t room, used;
    uint64_t sought; /* a place that is looked for from the beginning; PLACE_BEGIN: none */
    struct mount_call *call;
};

static const struct dict place_seed = {.seed = 0}; /* the same everywhere, for ever */

/* Never one of the first three; positive as a signed number. */
static uint64_t place_of(const char *name, size_t len)
{
    uint64_t hash = dict_hash(&place_seed, name, len) >> 1;
    return hash > PLACE_DOTS ? hash : hash + PLACE_DOTS + 1;
}

static void listing_reset(struct mount *m, struct mount_listing *l)
{
    if (l->loaded) {
        opendfs_async_release(m->fs, &l->op);
    }
    l->loaded = false;
    l->at = 0;
    l->after[0] = '\0';
}

void mount_releasedir(struct mount_call *c)
{
    struct mount_listing *l = c->handle->listing;
    if (l != NULL) {
        listing_reset(c->mount, l);
    }
    mem_free(l);
    mount_handle_free(c->handle);
    c->answers->done(c, 0);
}

static void readdir_step(struct mount_call *c);

/* True: it is in the buffer. */
static bool listing_put(struct mount_call *c, struct mount_listing *l, const char *name,
                        const struct opendfs_stat *st, uint64_t next)
{
    size_t n = mount_fuse_dirent(c, l->to + l->used, l->room - l->used, name, st, next);
    l->used += n;
    if (n > 0) {
        l->place = next;
    }
    return n > 0;
}

static void readdir_answer(struct mount_call *c, int rc)
{
    struct mount_listing *l = c->handle->listing;
    struct iovec v = {l->to, l->used};
    c->text = l->to;
    l->to = NULL;
    l->busy = false;
    if (rc < 0 && v.iov_len == 0) {
        c->answers->done(c, rc);
    } else {
        c->answers->data(c, &v, v.iov_len > 0 ? 1 : 0);
    }
}

/* The first page is there: it says whether it may be read, and is not asked for again. */
static void opened(struct mount_call *c, int rc)
{
    struct mount_handle *h = c->handle;
    c->handle = NULL;
    h->listing->fresh = rc == 0;
    h->listing->busy = false;
    if (rc < 0) {
        mem_free(h->listing);
        mount_handle_free(h);
        c->answers->done(c, rc);
    } else {
        c->answers->opened(c, h);
    }
}

static void page_done(struct opendfs_op *op)
{
    struct mount_listing *l = op->context;
    struct mount_call *c = l->call;
    client_identity_put(c->mount->fs, op->as);
    op->as = NULL;
    l->loaded = op->result >= 0;
    l->at = 0;
    if (l->opening) {
        l->opening = false;
        opened(c, op->result < 0 ? (int)op->result : 0);
    } else if (op->result < 0) {
        readdir_answer(c, (int)op->result);
    } else {
        readdir_step(c);
    }
}

static void page_load(struct mount_call *c)
{
    struct mount_listing *l = c->handle->listing;
    if (l->loaded) { /* behind the last of this one */
        const struct opendfs_entry *e = &l->op.entries[l->op.entry_count - 1];
        memcpy(l->after, e->name, e->name_len + 1);
        opendfs_async_release(c->mount->fs, &l->op);
        l->loaded = false;
    }
    memset(&l->op, 0, sizeof l->op);
    l->op.done = page_done;
    l->op.context = l;
    l->op.at = c->ino;
    l->op.as = client_identity_again(c->op.as);
    opendfs_async_list(c->mount->fs, &l->op, NULL, l->after, 0);
}

/* "." and "..". False: no room. */
static bool dots_put(struct mount_call *c, struct mount_listing *l)
{
    struct opendfs_stat st = {.ino = c->ino, .type = OPENDFS_TYPE_DIRECTORY};
    if (l->place == PLACE_BEGIN && !listing_put(c, l, ".", &st, PLACE_DOT)) {
        return false;
    }
    if (l->place == PLACE_DOT) {
        st.ino = l->parent == 0 ? c->ino : l->parent;
        return listing_put(c, l, "..", &st, PLACE_DOTS);
    }
    return true;
}

/* Entries until the buffer is full, the page is over, or the sought place was found. */
static bool page_put(struct mount_call *c, struct mount_listing *l)
{
    for (; l->at < l->op.entry_count; l->at++) {
        const struct opendfs_entry *e = &l->op.entries[l->at];
        uint64_t next = place_of(e->name, e->name_len);
        if (l->sought != PLACE_BEGIN) {
            l->sought = next == l->sought ? PLACE_BEGIN : l->sought;
            l->place = next;
        } else if (!listing_put(c, l, e->name, &e->stat, next)) {
            return false;
        }
    }
    return true;
}

static void readdir_step(struct mount_call *c)
{
    struct mount_listing *l = c->handle->listing;
    if (l->sought == PLACE_BEGIN && !dots_put(c, l)) {
        readdir_answer(c, 0);
        return;
    }
    if (!l->loaded) {
        page_load(c);
        return;
    }
    bool full = !page_put(c, l);
    if (!full && (l->op.at_end || l->op.entry_count == 0)) {
        int rc = l->sought != PLACE_BEGIN ? -ESTALE : 0; /* that name has gone, nobody knows where
                                                            it was */
        l->sought = PLACE_BEGIN;
        readdir_answer(c, rc);
    } else if (full || l->used > 0) {
        readdir_answer(c, 0); /* enough: the next page comes with the next call */
    } else {
        page_load(c);
    }
}

/* Places the listing there, if it is in the page. */
static bool page_seek(struct mount_listing *l, uint64_t place)
{
    for (size_t i = 0; l->loaded && i < l->op.entry_count; i++) {
        if (place_of(l->op.entries[i].name, l->op.entries[i].name_len) == place) {
            l->at = i + 1;
            l->place = place;
            return true;
        }
    }
    return false;
}

static void listing_seek(struct mount_call *c, struct mount_listing *l)
{
    l->sought = PLACE_BEGIN;
    if (c->offset == PLACE_BEGIN || c->offset == PLACE_DOT || c->offset == PLACE_DOTS) {
        if (l->place != c->offset || (c->offset == PLACE_BEGIN && !l->fresh)) {
            listing_reset(c->mount, l); /* rewinddir() sees what is there now */
            l->place = c->offset;
        }
        return;
    }
    if (l->place == c->offset || page_seek(l, c->offset)) {
        return;
    }
    listing_reset(c->mount, l);
    l->place = PLACE_DOTS;
    l->sought = c->offset;
}

static void never(struct opendfs_op *op)
{
    (void)op;
    CHECK(false);
}

/* --- directories that are open and have been removed --------------------------------------------
 *
 * The servers have nothing of them any more, and the kernel asks for their attributes by number.
 */

static const struct opendfs_stat *dir_looked(const struct mount *m, uint64_t ino)
{
    for (unsigned i = 0; i < MOUNT_LOOKED; i++) {
        if (m->looked[i].ino == ino) {
            return &m->looked[i];
        }
    }
    return NULL;
}

void mount_dir_looked(struct mount *m, const struct opendfs_stat *st)
{
    const struct opendfs_stat *was = dir_looked(m, st->ino);
    unsigned at = was != NULL ? (unsigned)(was - m->looked) : m->looked_next++ % MOUNT_LOOKED;
    m->looked[at] = *st;
    LIST_FOR_EACH(node, &m->dirs)
    {
        struct mount_handle *h = LIST_ENTRY(node, struct mount_handle, node);
        h->known = h->ino == st->ino ? *st : h->known;
    }
}

static void dir_known(struct mount *m, struct mount_handle *h)
{
    const struct opendfs_stat *st = dir_looked(m, h->ino);
    h->known = st == NULL ? (struct opendfs_stat){0} : *st;
    list_push_back(&m->dirs, &h->node);
}

bool mount_dir_removed(struct mount *m, uint64_t ino, struct opendfs_stat *ret)
{
    LIST_FOR_EACH(node, &m->dirs)
    {
        const struct mount_handle *h = LIST_ENTRY(node, struct mount_handle, node);
        if (h->ino == ino && h->known.ino == ino) {
            *ret = h->known;
            ret->nlink = 0;
            return true;
        }
    }
    return false;
}

void mount_opendir(struct mount_call *c)
{
    if (mount_is_own(c)) {
        mount_own_opendir(c);
        return;
    }
    struct mount_handle *h = mount_handle_new();
    struct mount_listing *l = mem_zalloc(sizeof *l);
    if (h == NULL || l == NULL) {
        if (h != NULL) {
            mount_handle_free(h);
        }
        mem_free(l);
        c->answers->done(c, -ENOMEM);
        return;
    }
    h->ino = c->ino;
    h->listing = l;
    dir_known(c->mount, h);
    l->call = c;
    l->opening = true;
    c->handle = h;
    if (!mount_op(c, never)) {
        mem_free(l);
        mount_handle_free(h);
        return;
    }
    page_load(c);
}

void mount_readdir(struct mount_call *c)
{
    if (mount_is_own(c)) {
        mount_own_readdir(c);
        return;
    }
    struct mount_listing *l = c->handle->listing;
    if (l->busy) { /* two threads with one handle: the kernel lets one in at a time */
        c->answers->done(c, -EBUSY);
        return;
    }
    if (!mount_op(c, never)) {
        return;
    }
    l->to = mem_alloc(c->size);
    if (l->to == NULL) {
        c->answers->done(c, -ENOMEM);
        return;
    }
    l->busy = true;
    l->call = c;
    l->room = c->size;
    l->used = 0;
    listing_seek(c, l);
    l->fresh = false;
    readdir_step(c);
}
