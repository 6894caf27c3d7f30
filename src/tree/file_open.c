/*
 * tree/file_open.c -- making a tree file and opening one; blocks (start-up only).
 *
 * The newest valid superblock counts. If what it names is damaged, the older one does, whose blocks
 * nobody has overwritten: the superblock that will not be used is made void first, so that it
 * cannot come back when they are. Free is what neither of the two retained checkpoints names.
 */
#include "tree/file_priv.h"

#include "base/mem.h"
#include "wire/wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PUNCH_BYTES (UINT64_C(1) << 20)
#define GROW_BYTES (UINT64_C(64) << 20)
#define NEW_SUFFIX ".new"
#define FIRST_INDEX (TREE_SUPER_SECOND + TREE_SUPER_BYTES) /* of a new file */

static int file_now(const struct tree_file *f, struct disk_req *req)
{
    int64_t rc = disk_now(f->env.disk, req);
    return rc < 0 ? (int)rc : 0;
}

/* An error that passes must not cost a checkpoint: once more. */
int tree_file_read_now(const struct tree_file *f, uint64_t offset, void *buf, size_t len)
{
    struct disk_req req = {
        .op = DISK_READ, .file = f->file, .offset = offset, .buf = buf, .len = len};
    int64_t got = disk_now(f->env.disk, &req);
    got = got == -EIO ? disk_now(f->env.disk, &req) : got;
    return got < 0 ? (int)got : (uint64_t)got < len ? -ERR_short_msg : 0;
}

static int file_write_now(const struct tree_file *f, uint64_t offset, void *buf, size_t len)
{
    struct disk_req req = {
        .op = DISK_WRITE, .file = f->file, .offset = offset, .buf = buf, .len = len};
    int64_t put = disk_now(f->env.disk, &req);
    return put < 0 ? (int)put : (uint64_t)put < len ? -EIO : 0;
}

static int file_open_now(struct tree_file *f, const struct tree_file_options *opt)
{
    struct disk_req req = {.op = DISK_OPEN,
                           .path = opt->path,
                           .flags = opt->read_only ? DISK_READ_ONLY : DISK_READ_WRITE};
    f->direct = !opt->buffered;
    if (f->direct) {
        req.flags |= DISK_DIRECT;
        int rc = file_now(f, &req);
        if (rc != -EINVAL) {
            f->file = rc < 0 ? NULL : req.file;
            return rc;
        }
        f->direct = false; /* the file system cannot */
        req.flags &= ~DISK_DIRECT;
    }
    int rc = file_now(f, &req);
    f->file = rc < 0 ? NULL : req.file;
    return rc;
}

/* ---- loading ---- */

struct file_loader {
    struct tree_file *f;
    const struct tree_file_options *opt;
    const struct tree_super *super; /* that is being loaded */
    uint64_t size_bytes;            /* of the file */
    bool old;                       /* for what it keeps from being used only */
    struct tree_btt_index index;
    uint8_t *pages; /* FILE_BATCH_PAGES of them */
    uint64_t page_first, page_count;
    struct err *err;
};

static int load_wrong(struct file_loader *l, int rc, const char *what, uint64_t no, uint64_t offset)
{
    return err_set(l->err, rc, "checkpoint %" PRIu64 ", %s %" PRIu64 " at offset %" PRIu64,
                   l->super->checkpoint, what, no, offset);
}

/* What a checkpoint occupies. The older one shares most of it with the newest. */
static int load_claim(struct file_loader *l, struct tree_space_extent x, uint64_t birth,
                      const char *what, uint64_t no)
{
    struct tree_space *space = l->f->space;
    int rc = birth > l->super->checkpoint ? -ERR_bad_value : tree_space_claim(space, x);
    if (!l->old) {
        return rc < 0 ? load_wrong(l, rc, what, no, tree_space_offset(x)) : 0;
    }
    if (rc == -ERR_corrupt && tree_space_all_used(space, x)) {
        return 0;
    }
    if (rc < 0) {
        return load_wrong(l, rc, what, no, tree_space_offset(x));
    }
    rc = tree_space_reserve(space, 1);
    if (rc < 0) {
        tree_space_give(space, x);
        return rc;
    }
    struct tree_space_life life = {.birth = birth, .death = l->f->super.checkpoint};
    tree_space_defer(space, x, &life);
    return 0;
}

static int load_claim_blob(struct file_loader *l, const struct tree_super_blob *b, const char *what)
{
    return b->len == 0 ? 0 : load_claim(l, tree_file_blob_extent(b), l->super->checkpoint, what, 0);
}

/* Into fresh memory (mem_free), in whole units. */
static int load_blob(struct file_loader *l, const struct tree_super_blob *b, const char *what,
                     uint8_t **ret)
{
    uint64_t size = tree_file_blob_units(b->len) * FILE_UNIT;
    if (size > FILE_BLOB_MAX || b->offset > l->size_bytes || size > l->size_bytes - b->offset) {
        return load_wrong(l, -ERR_bad_length, what, 0, b->offset);
    }
    uint8_t *bytes = mem_aligned(FILE_UNIT, (size_t)size);
    if (bytes == NULL) {
        return -ENOMEM;
    }
    int rc = tree_file_read_now(l->f, b->offset, bytes, (size_t)size);
    if (rc < 0) {
        mem_free(bytes);
        return load_wrong(l, rc, what, 0, b->offset);
    }
    *ret = bytes;
    return 0;
}

static int load_index(struct file_loader *l)
{
    const struct tree_super *s = l->super;
    uint8_t *bytes = NULL;
    int rc = load_blob(l, &s->table, "index of the translation table", &bytes);
    if (rc < 0) {
        return rc;
    }
    rc = tree_btt_index_decode(bytes, s->table.len, s->file_id, s->table.checksum, &l->index);
    mem_free(bytes);
    if (rc == 0 && (l->index.checkpoint != s->checkpoint || l->index.next_block != s->next_block)) {
        mem_free(l->index.place);
        rc = -ERR_bad_value;
    }
    if (rc < 0) {
        return rc == -ENOMEM
                   ? rc
                   : load_wrong(l, rc, "index of the translation table", 0, s->table.offset);
    }
    return 0;
}

/* Page `i`, checked; pages that lie one behind the other are read at once. */
static int load_page(struct file_loader *l, size_t i, const uint8_t **ret)
{
    const struct tree_btt_place *p = l->index.place;
    if (i < l->page_first || i >= l->page_first + l->page_count) {
        size_t n = 1;
        while (n < FILE_BATCH_PAGES && i + n < l->index.page_count &&
               p[i + n].offset == p[i].offset + n * FILE_UNIT) {
            n++;
        }
        l->page_count = 0;
        int rc = tree_file_read_now(l->f, p[i].offset, l->pages, n * FILE_UNIT);
        if (rc < 0) {
            return load_wrong(l, rc, "translation table, page", i, p[i].offset);
        }
        l->page_first = i;
        l->page_count = n;
    }
    *ret = l->pages + (i - l->page_first) * FILE_UNIT;
    int rc = tree_btt_page_check(*ret, l->super->file_id, i, p[i].checksum);
    return rc < 0 ? load_wrong(l, rc, "translation table, page", i, p[i].offset) : 0;
}

static int load_claim_page(struct file_loader *l, size_t i, const uint8_t *page)
{
    const struct tree_btt_place *p = &l->index.place[i];
    struct tree_space_extent own = {.unit = p->offset / FILE_UNIT, .count = 1};
    int rc = load_claim(l, own, p->birth, "translation table, page", i);
    for (unsigned j = 0; j < TREE_BTT_PAGE_ENTRIES && rc == 0; j++) {
        struct tree_btt_entry e;
        rc = tree_btt_page_entry(page, j, &e);
        if (rc == 0 && e.units > 0) {
            struct tree_space_extent x = {.unit = e.unit, .count = e.units};
            rc = load_claim(l, x, e.birth, "block", i * TREE_BTT_PAGE_ENTRIES + j);
        }
    }
    return rc;
}

/* Of the older one only pages that the newest has not. */
static bool load_page_wanted(const struct file_loader *l, size_t i)
{
    const struct tree_file *f = l->f;
    uint64_t offset = l->index.place[i].offset;
    bool same = l->old && i < f->place_count && f->place[i].offset == offset;
    return offset != 0 && !same;
}

static int load_pages(struct file_loader *l)
{
    int rc = 0;
    for (size_t i = 0; i < l->index.page_count && rc == 0; i++) {
        const uint8_t *page = NULL;
        if (!load_page_wanted(l, i)) {
            continue;
        }
        rc = load_page(l, i, &page);
        if (rc == 0 && !l->old) {
            rc = tree_btt_load_page(l->f->table, i, page);
        }
        rc = rc < 0 ? rc : load_claim_page(l, i, page);
    }
    return rc;
}

static int load_pieces(struct file_loader *l, struct tree_btt_piece **ret)
{
    const struct tree_super *s = l->super;
    if (s->segment_count > TREE_BTT_PIECES_MAX) {
        return load_wrong(l, -ERR_bad_length, "list of segments", s->segment_count,
                          s->segments.offset);
    }
    struct tree_btt_piece *piece = mem_calloc(s->segment_count + 1, sizeof *piece);
    uint8_t *bytes = NULL;
    int rc = piece == NULL ? -ENOMEM : 0;
    if (rc == 0 && s->segment_count > 0) {
        rc = load_blob(l, &s->segments, "list of segments", &bytes);
        struct tree_btt_pieces_in in = {.bytes = bytes,
                                        .file_id = s->file_id,
                                        .len = s->segments.len,
                                        .count = s->segment_count,
                                        .checkpoint = s->checkpoint,
                                        .expected = s->segments.checksum};
        int decoded = rc < 0 ? rc : tree_btt_pieces_decode(&in, piece);
        if (rc == 0 && decoded < 0) {
            rc = load_wrong(l, decoded, "list of segments", 0, s->segments.offset);
        }
    }
    for (size_t i = 0; i < s->segment_count && rc == 0; i++) {
        uint64_t units = tree_file_blob_units(piece[i].len);
        struct tree_space_extent x = {.unit = piece[i].offset / FILE_UNIT,
                                      .count = (uint32_t)base_min(units, UINT32_MAX)};
        rc = load_claim(l, x, piece[i].birth, "segment", i);
    }
    mem_free(bytes);
    if (rc < 0) {
        mem_free(piece);
        return rc;
    }
    *ret = piece;
    return 0;
}

static int load_drops(struct file_loader *l, uint8_t **ret)
{
    const struct tree_super *s = l->super;
    uint8_t *bytes = NULL;
    if (s->drops.len == 0) {
        return 0;
    }
    int rc = load_blob(l, &s->drops, "drop queue", &bytes);
    if (rc == 0 &&
        tree_btt_blob_sum(s->file_id, s->checkpoint, bytes, s->drops.len) != s->drops.checksum) {
        mem_free(bytes);
        rc = load_wrong(l, -ERR_bad_crc, "drop queue", 0, s->drops.offset);
    }
    if (rc == 0) {
        *ret = bytes;
    }
    return rc;
}

/* Everything that both kinds of loading look at, after the index. */
static int load_parts(struct file_loader *l, struct tree_file_found *found)
{
    const struct tree_super *s = l->super;
    l->pages = mem_aligned(FILE_UNIT, (size_t)FILE_BATCH_PAGES * FILE_UNIT);
    if (l->pages == NULL) {
        return -ENOMEM;
    }
    int rc = load_claim_blob(l, &s->table, "index of the translation table");
    rc = rc < 0 ? rc : load_claim_blob(l, &s->segments, "list of segments");
    rc = rc < 0 ? rc : load_claim_blob(l, &s->drops, "drop queue");
    rc = rc < 0 ? rc : load_pages(l);
    rc = rc < 0 ? rc : load_pieces(l, &found->piece);
    rc = rc < 0 ? rc : load_drops(l, &found->drops);
    found->piece_count = rc < 0 ? 0 : s->segment_count;
    mem_free(l->pages);
    return rc;
}

static int load_root(struct file_loader *l)
{
    const struct tree_super *s = l->super;
    struct tree_btt_entry e = {.kind = TREE_BTT_NODE, .units = 1};
    if (s->root_block != 0) {
        tree_btt_get(l->f->table, s->root_block, &e);
    }
    return e.kind == TREE_BTT_NODE && e.units > 0
               ? 0
               : err_set(l->err, -ERR_corrupt, "checkpoint %" PRIu64 ": no root, block %" PRIu64,
                         s->checkpoint, s->root_block);
}

static int load_space(struct file_loader *l)
{
    uint64_t grow = l->opt->grow_bytes == 0 ? GROW_BYTES : l->opt->grow_bytes;
    struct tree_space_options so = {.grow_units = grow / FILE_UNIT};
    struct tree_space_extent first = {.unit = 0, .count = 1},
                             second = {.unit = TREE_SUPER_SECOND / FILE_UNIT, .count = 1};
    CHECK(so.grow_units > 0);
    int rc = tree_space_new(&so, &l->f->space);
    rc = rc < 0 ? rc : tree_space_prepare(l->f->space, l->size_bytes / FILE_UNIT);
    if (rc < 0) {
        return rc;
    }
    tree_space_resize(l->f->space, l->size_bytes / FILE_UNIT);
    rc = tree_space_claim(l->f->space, first);
    rc = rc < 0 ? rc : tree_space_claim(l->f->space, second);
    return rc < 0 ? load_wrong(l, rc, "superblock", 1, TREE_SUPER_SECOND) : 0;
}

/* The file is as of this checkpoint; or an error, and it is as of none. */
static int load_newest(struct file_loader *l, struct tree_file_found *found)
{
    struct tree_file *f = l->f;
    int rc = tree_btt_new(&f->table);
    rc = rc < 0 ? rc : load_space(l);
    rc = rc < 0 ? rc : load_index(l);
    if (rc == 0) {
        f->super = *l->super;
        f->place = l->index.place;
        f->place_count = l->index.page_count;
        rc = tree_btt_load(f->table, &l->index);
    }
    rc = rc < 0 ? rc : load_parts(l, found);
    rc = rc < 0 ? rc : load_root(l);
    rc = rc < 0 ? rc : tree_btt_adopt(f->table, !l->opt->read_only, l->err);
    if (rc < 0) {
        tree_file_found_fini(found);
        f->table = tree_btt_free(f->table);
        f->space = tree_space_free(f->space);
        mem_freep(&f->place);
        f->place_count = 0;
        return rc;
    }
    found->super = *l->super;
    return 0;
}

/* What the older one names is not to be used. */
static int load_older(struct file_loader *l)
{
    struct tree_file_found unused = {0};
    l->old = true;
    l->f->older = l->super->checkpoint;
    tree_file_retain(l->f);
    int rc = load_index(l);
    if (rc == 0) {
        rc = load_parts(l, &unused);
        mem_free(l->index.place);
    }
    tree_file_found_fini(&unused);
    if (rc < 0) {
        l->f->older = 0;
        tree_file_retain(l->f);
    }
    return rc;
}

/* ---- superblocks ---- */

static void supers_read(struct tree_file *f, uint8_t *block, struct tree_super_pair *pair)
{
    for (unsigned i = 0; i < TREE_SUPER_PLACES; i++) {
        uint64_t offset = i * (uint64_t)TREE_SUPER_SECOND;
        int rc = tree_file_read_now(f, offset, block, TREE_SUPER_BYTES);
        if (rc < 0) {
            err_set(&pair->err[i], rc, "superblock at offset %" PRIu64, offset);
        }
        pair->rc[i] =
            rc < 0 ? rc : tree_super_decode(block, offset, &pair->super[i], &pair->err[i]);
    }
}

/* It must not be found valid by a later open, when its blocks are gone. */
static int super_void(struct tree_file *f, unsigned place, uint8_t *block, struct err *e)
{
    uint64_t offset = place * (uint64_t)TREE_SUPER_SECOND;
    int rc = tree_file_read_now(f, offset, block, TREE_SUPER_BYTES);
    if (rc < 0) {
        memset(block, 0, TREE_SUPER_BYTES);
    }
    wire_store_u64(block, TREE_SUPER_VOID_MAGIC);
    rc = file_write_now(f, offset, block, TREE_SUPER_BYTES);
    return rc < 0 ? err_set(e, rc, "superblock at offset %" PRIu64 " cannot be made void", offset)
                  : 0;
}

/* ---- opening ---- */

struct file_opening {
    struct tree_file *f;
    const struct tree_file_options *opt;
    struct tree_super_pair pair;
    struct tree_super_choice choice;
    struct tree_file_found *found;
    uint64_t size_bytes;
    struct err *err;
};

static struct file_loader opening_loader(struct file_opening *o, int place, struct err *e)
{
    return (struct file_loader){.f = o->f,
                                .opt = o->opt,
                                .super = &o->pair.super[place],
                                .size_bytes = o->size_bytes,
                                .err = e};
}

/* Loads the newest, or the one before. Afterwards choice.older >= 0: it is retained as well. */
static int opening_load(struct file_opening *o)
{
    struct tree_super_choice *c = &o->choice;
    struct err *note = &o->found->note;
    struct file_loader l = opening_loader(o, c->newest, note);
    int rc = o->opt->older ? err_set(note, -ERR_corrupt, "checkpoint %" PRIu64 " is not wanted",
                                     l.super->checkpoint)
                           : load_newest(&l, o->found);
    if (rc < 0 && (c->older < 0 || !err_is(rc, EIO))) {
        return err_set(o->err, rc, "%s", err_message(note, rc));
    }
    if (rc < 0) {
        struct err why = {0};
        c->newest = c->older;
        c->older = -1;
        o->found->fell_back = true;
        l = opening_loader(o, c->newest, &why);
        rc = load_newest(&l, o->found);
        return rc < 0 ? err_set(o->err, rc, "%s; before: %s", err_message(&why, rc), note->text)
                      : 0;
    }
    if (c->older >= 0) {
        l = opening_loader(o, c->older, note);
        rc = load_older(&l);
        c->older = rc < 0 ? -1 : c->older;
        return rc == -ENOMEM ? rc : 0;
    }
    int other = 1 - c->newest;
    if (o->pair.rc[other] < 0) {
        *note = o->pair.err[other];
    } else {
        err_set(note, -ERR_corrupt, "superblock of checkpoint %" PRIu64 " is not the one before",
                o->pair.super[other].checkpoint);
    }
    return 0;
}

/* Numbers go on behind all that were seen, in the place where the one in use is not. */
static void opening_number(struct file_opening *o)
{
    struct tree_file *f = o->f;
    f->number = f->super.checkpoint + 1;
    int other = 1 - o->choice.newest;
    if (o->pair.rc[other] == 0) {
        f->number = base_max(f->number, o->pair.super[other].checkpoint + 1);
    }
    f->number += f->number % TREE_SUPER_PLACES == f->super.checkpoint % TREE_SUPER_PLACES ? 1 : 0;
}

/* What was read is durable, and the other superblock is retained or none. */
static int opening_secure(struct file_opening *o, uint8_t *block)
{
    int other = 1 - o->choice.newest, rc = 0;
    int was = o->pair.rc[other];
    if (o->opt->read_only) {
        return 0;
    }
    if (o->choice.older < 0 && (was == 0 || !err_is(was, ERR_corrupt))) {
        rc = super_void(o->f, (unsigned)other, block, o->err);
    }
    if (rc == 0) {
        struct disk_req sync = {.op = DISK_SYNC, .file = o->f->file};
        rc = file_now(o->f, &sync);
        rc = rc < 0 ? err_set(o->err, rc, "sync '%s'", o->opt->path) : 0;
    }
    return rc;
}

static int opening_run(struct file_opening *o, uint8_t *block)
{
    struct tree_file *f = o->f;
    int rc = file_open_now(f, o->opt);
    struct disk_req stat = {.op = DISK_STAT, .file = f->file};
    rc = rc < 0 ? rc : file_now(f, &stat);
    /* A failed sync of a life before may have left in memory what the disk has not. */
    rc = rc < 0 ? rc : disk_refresh(f->env.disk, f->file);
    if (rc < 0) {
        return err_set(o->err, rc, "open '%s'", o->opt->path);
    }
    o->size_bytes = stat.stat.size_bytes;
    supers_read(f, block, &o->pair);
    rc = tree_super_choose(&o->pair, &o->choice, o->err);
    rc = rc < 0 ? rc : opening_load(o);
    rc = rc < 0 ? rc : opening_secure(o, block);
    if (rc == 0) {
        opening_number(o);
        tree_file_retain(f);
        o->found->older = f->older;
        if (f->older != 0) {
            o->found->older_index = o->pair.super[o->choice.older].applied_index;
        }
    }
    return rc;
}

/* What is free in it has no holes from now on. A disk that has no room for that has none for them
 * later either: writes say so. */
static void open_ahead(struct tree_file *f, const struct tree_file_options *opt)
{
    uint64_t grow = opt->grow_bytes == 0 ? GROW_BYTES : opt->grow_bytes;
    struct disk_req req = {
        .op = DISK_ALLOCATE, .file = f->file, .len = tree_space_size(f->space) * FILE_UNIT};
    f->shape.no_allocate = disk_now(f->env.disk, &req) == -EOPNOTSUPP;
    f->shape.ahead = base_min(opt->ahead_bytes, grow) / FILE_UNIT; /* cutting the end leaves it */
    f->shape.no_punch = true;
}

int tree_file_open(const struct tree_file_options *opt, struct tree_file **ret,
                   struct tree_file_found *found, struct err *e)
{
    *found = (struct tree_file_found){0};
    CLEANUP(tree_file_freep) struct tree_file *f = mem_zalloc(sizeof *f);
    CLEANUP(mem_freep) uint8_t *block = mem_aligned(FILE_UNIT, TREE_SUPER_BYTES);
    CLEANUP(mem_freep) struct file_opening *o = mem_zalloc(sizeof *o);
    if (f == NULL) {
        return -ENOMEM;
    }
    f->env = *opt->env;
    tree_file_init(f);
    if (block == NULL || o == NULL) {
        return -ENOMEM;
    }
    uint64_t punch = opt->punch_bytes == 0 ? PUNCH_BYTES : opt->punch_bytes;
    f->punch_units = (uint32_t)base_min(punch / FILE_UNIT, TREE_SPACE_REGION_UNITS);
    *o = (struct file_opening){.f = f, .opt = opt, .found = found, .err = e};
    int rc = opening_run(o, block);
    if (rc < 0) {
        tree_file_found_fini(found);
        return err_prefix(e, rc, "tree '%s'", opt->path);
    }
    if (opt->read_only) {
        err_set(&f->failure, -EROFS, "'%s' was opened for reading", opt->path);
    } else if (opt->ahead_bytes > 0) {
        open_ahead(f, opt);
    }
    *ret = f;
    f = NULL;
    return 0;
}

void tree_file_found_fini(struct tree_file_found *found)
{
    mem_freep(&found->piece);
    mem_freep(&found->drops);
    found->piece_count = 0;
}

/* ---- a new one ---- */

struct file_making {
    struct tree_file *f; /* a file and nothing else */
    char *path;          /* until it is whole */
    char *directory;
    struct err *err;
};

/* An empty table, and checkpoint 1 at its place. */
static int making_write(struct file_making *m, const struct tree_super *first, uint8_t *block)
{
    struct tree_file *f = m->f;
    struct tree_super s = *first;
    struct tree_btt_place none = {0};
    struct tree_btt_index x = {.checkpoint = 1, .next_block = 1, .page_count = 1, .place = &none};
    s.checkpoint = 1;
    s.next_block = 1;
    s.previous = 0;
    s.segment_count = 0;
    s.segments = (struct tree_super_blob){0};
    s.drops = (struct tree_super_blob){0};
    loop_random_bytes(f->env.loop, s.file_id, sizeof s.file_id);
    memset(block, 0, TREE_SUPER_BYTES);
    s.table =
        (struct tree_super_blob){.offset = FIRST_INDEX, .len = (uint32_t)tree_btt_index_bytes(1)};
    s.table.checksum = tree_btt_index_encode(&x, s.file_id, block);
    s.size_used = FIRST_INDEX + FILE_UNIT;
    int rc = file_write_now(f, FIRST_INDEX, block, FILE_UNIT);
    memset(block, 0, TREE_SUPER_BYTES);
    rc = rc < 0 ? rc : file_write_now(f, 0, block, TREE_SUPER_BYTES);
    tree_super_encode(&s, block);
    return rc < 0 ? rc : file_write_now(f, tree_super_offset(1), block, TREE_SUPER_BYTES);
}

static int making_fill(struct file_making *m, const struct tree_super *first, uint8_t *block)
{
    struct tree_file *f = m->f;
    struct disk_req open = {
        .op = DISK_OPEN, .path = m->path, .flags = DISK_READ_WRITE | DISK_CREATE};
    int rc = file_now(f, &open);
    if (rc < 0) {
        return rc;
    }
    f->file = open.file;
    struct disk_req cut = {.op = DISK_TRUNCATE, .file = f->file};
    struct disk_req sync = {.op = DISK_SYNC_ALL, .file = f->file};
    struct disk_req close = {.op = DISK_CLOSE, .file = f->file};
    rc = file_now(f, &cut); /* what a life before has left */
    rc = rc < 0 ? rc : making_write(m, first, block);
    rc = rc < 0 ? rc : file_now(f, &sync);
    int closed = file_now(f, &close);
    f->file = NULL;
    return rc < 0 ? rc : closed;
}

static int making_run(struct file_making *m, const struct tree_file_options *opt,
                      const struct tree_super *first)
{
    CLEANUP(mem_freep) uint8_t *block = mem_aligned(FILE_UNIT, TREE_SUPER_BYTES);
    struct disk_req stat = {.op = DISK_STAT, .path = opt->path};
    struct disk_req rename = {.op = DISK_RENAME, .path = m->path, .path_to = opt->path};
    struct disk_req sync = {.op = DISK_SYNC_DIR, .path = m->directory};
    int rc = file_now(m->f, &stat);
    if (rc != -ENOENT || block == NULL) {
        return rc == 0 ? -EEXIST : rc == -ENOENT ? -ENOMEM : rc;
    }
    rc = making_fill(m, first, block);
    if (rc < 0) {
        struct disk_req remove = {.op = DISK_REMOVE, .path = m->path};
        (void)file_now(m->f, &remove); /* the next attempt begins with it */
        return rc;
    }
    rc = file_now(m->f, &rename);
    return rc < 0 ? rc : file_now(m->f, &sync);
}

int tree_file_create(const struct tree_file_options *opt, const struct tree_super *first,
                     struct err *e)
{
    CLEANUP(mem_freep) struct tree_file *f = mem_zalloc(sizeof *f);
    CLEANUP(mem_freep) char *path = mem_printf("%s" NEW_SUFFIX, opt->path);
    CLEANUP(mem_freep) char *directory = mem_strdup(opt->path);
    if (f == NULL || path == NULL || directory == NULL) {
        return -ENOMEM;
    }
    char *slash = strrchr(directory, '/');
    if (slash == NULL) {
        memcpy(directory, ".", 2); /* a path has at least one character */
    } else {
        slash[slash == directory ? 1 : 0] = '\0';
    }
    f->env = *opt->env;
    struct file_making m = {.f = f, .path = path, .directory = directory, .err = e};
    int rc = making_run(&m, opt, first);
    return rc < 0 ? err_set(e, rc, "make tree '%s'", opt->path) : 0;
}
