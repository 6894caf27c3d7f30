/* tree/super.c -- see super.h. */
#include "tree/super.h"

#include "wire/wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <xxhash.h>

#define SUPER_MAGIC UINT64_C(0x3176004545525442) /* "BTREE\0v1" */
#define SUPER_SUM_AT (TREE_SUPER_BYTES - 8)
#define SUPER_BLOB_UNIT 4096u
#define SUPER_HEIGHT_MAX 64u

_Static_assert(TREE_SUPER_BYTES == 4096, "disk layout");

static uint64_t super_sum(const uint8_t id[TREE_SUPER_ID_BYTES], const uint8_t *bytes)
{
    uint64_t seed = XXH3_64bits(id, TREE_SUPER_ID_BYTES);
    return XXH3_64bits_withSeed(bytes, SUPER_SUM_AT, seed);
}

static void super_write_blob(struct wire_writer *w, const struct tree_super_blob *b)
{
    wire_write_u64(w, b->offset);
    wire_write_u32(w, b->len);
    wire_write_u64(w, b->checksum);
}

static void super_write_shape(struct wire_writer *w, const struct tree_super *s)
{
    wire_write_u64(w, s->checkpoint);
    wire_write_u64(w, s->applied_index);
    wire_write_u64(w, s->applied_term);
    wire_write_u64(w, s->max_msn);
    wire_write_u64(w, s->tree_version);
    wire_write_u64(w, s->root_block);
    wire_write_u32(w, s->height);
    wire_write_u32(w, s->fanout);
    wire_write_u32(w, s->leaf_raw);
    wire_write_u32(w, s->basement_raw);
    wire_write_u32(w, s->internal_raw);
    wire_write_u8(w, s->codec);
    wire_write_u8(w, s->hash);
    wire_write_u16(w, 0);
    wire_write_u64(w, s->next_block);
}

static const char *super_blob_wrong(const struct tree_super_blob *b, const char *wrong)
{
    bool none = b->offset == 0 && b->len == 0 && b->checksum == 0;
    bool place = b->offset > TREE_SUPER_SECOND || (b->offset > 0 && b->offset < TREE_SUPER_SECOND);
    bool good = place && b->offset % SUPER_BLOB_UNIT == 0 && b->len > 0 && b->offset <= INT64_MAX;
    return none || good ? NULL : wrong;
}

/* What is wrong, or NULL. */
static const char *super_wrong(const struct tree_super *s)
{
    const char *wrong = super_blob_wrong(&s->table, "place of the translation table");
    wrong = wrong != NULL ? wrong : super_blob_wrong(&s->segments, "place of the segment list");
    wrong = wrong != NULL ? wrong : super_blob_wrong(&s->drops, "place of the drop queue");
    if (wrong != NULL) {
        return wrong;
    }
    if (s->checkpoint == 0 || s->checkpoint >= UINT64_C(1) << 48) {
        return "number of the checkpoint";
    }
    if (s->table.len == 0) {
        return "place of the translation table";
    }
    if ((s->segment_count == 0) != (s->segments.len == 0)) {
        return "count of segments";
    }
    if (s->height > SUPER_HEIGHT_MAX) {
        return "height";
    }
    if (s->hash != 0) {
        return "kind of checksum";
    }
    return s->app_len > TREE_SUPER_APP_MAX ? "length of the owner's bytes" : NULL;
}

void tree_super_encode(struct tree_super *s, uint8_t out[TREE_SUPER_BYTES])
{
    CHECK(super_wrong(s) == NULL && s->incompatible == 0);
    memset(out, 0, TREE_SUPER_BYTES);
    struct wire_writer w = wire_writer_over(out, TREE_SUPER_USED_BYTES);
    wire_write_u64(&w, SUPER_MAGIC);
    s->format = TREE_SUPER_FORMAT;
    s->min_reader = TREE_SUPER_FORMAT;
    wire_write_u32(&w, s->format);
    wire_write_u32(&w, s->min_reader);
    wire_write_bytes(&w, s->file_id, sizeof s->file_id);
    super_write_shape(&w, s);
    super_write_blob(&w, &s->table);
    wire_write_u32(&w, s->segment_count);
    super_write_blob(&w, &s->segments);
    super_write_blob(&w, &s->drops);
    wire_write_u64(&w, s->size_used);
    wire_write_u64(&w, s->key_count);
    wire_write_u64(&w, s->logical_bytes);
    wire_write_u64(&w, s->previous);
    wire_write_u16(&w, s->app_len);
    uint8_t app[TREE_SUPER_APP_MAX] = {0};
    memcpy(app, s->app, s->app_len);
    wire_write_bytes(&w, app, sizeof app);
    wire_write_u64(&w, s->compatible);
    wire_write_u64(&w, s->incompatible);
    CHECK(!w.bad);
    s->checksum = super_sum(s->file_id, out);
    wire_store_u64(out + SUPER_SUM_AT, s->checksum);
}

static void super_read_blob(struct wire_reader *r, struct tree_super_blob *b)
{
    b->offset = wire_read_u64(r);
    b->len = wire_read_u32(r);
    b->checksum = wire_read_u64(r);
}

/* False: a field that must be zero is not. */
static bool super_read_shape(struct wire_reader *r, struct tree_super *s)
{
    s->checkpoint = wire_read_u64(r);
    s->applied_index = wire_read_u64(r);
    s->applied_term = wire_read_u64(r);
    s->max_msn = wire_read_u64(r);
    s->tree_version = wire_read_u64(r);
    s->root_block = wire_read_u64(r);
    s->height = wire_read_u32(r);
    s->fanout = wire_read_u32(r);
    s->leaf_raw = wire_read_u32(r);
    s->basement_raw = wire_read_u32(r);
    s->internal_raw = wire_read_u32(r);
    s->codec = wire_read_u8(r);
    s->hash = wire_read_u8(r);
    bool zero = wire_read_u16(r) == 0;
    s->next_block = wire_read_u64(r);
    return zero;
}

static bool super_is_zero(const uint8_t *at, size_t len)
{
    uint8_t any = 0;
    for (size_t i = 0; i < len; i++) {
        any |= at[i];
    }
    return any == 0;
}

/* Everything behind file id and checksum. */
static bool super_read(struct wire_reader *r, struct tree_super *s)
{
    bool zero = super_read_shape(r, s);
    super_read_blob(r, &s->table);
    s->segment_count = wire_read_u32(r);
    super_read_blob(r, &s->segments);
    super_read_blob(r, &s->drops);
    s->size_used = wire_read_u64(r);
    s->key_count = wire_read_u64(r);
    s->logical_bytes = wire_read_u64(r);
    s->previous = wire_read_u64(r);
    s->app_len = wire_read_u16(r);
    const uint8_t *app = wire_read_bytes(r, sizeof s->app);
    CHECK(app != NULL); /* the reader stands over the whole block */
    memcpy(s->app, app, sizeof s->app);
    s->compatible = wire_read_u64(r);
    s->incompatible = wire_read_u64(r);
    size_t used = s->app_len > sizeof s->app ? sizeof s->app : s->app_len;
    zero = zero && super_is_zero(s->app + used, sizeof s->app - used);
    return !r->bad && zero && super_is_zero(r->at, r->left);
}

static int super_check(const struct tree_super *s, uint64_t offset, bool clean, struct err *e)
{
    if (s->min_reader > TREE_SUPER_FORMAT || s->incompatible != 0) {
        return err_set(e, -ERR_bad_version,
                       "superblock at offset %" PRIu64 ": format %" PRIu32
                       " needs a reader of format %" PRIu32 ", features %" PRIx64,
                       offset, s->format, s->min_reader, s->incompatible);
    }
    const char *wrong = clean ? super_wrong(s) : "bytes that must be zero";
    if (wrong == NULL && tree_super_offset(s->checkpoint) != offset) {
        wrong = "number of the checkpoint, which belongs into the other place";
    }
    return wrong == NULL ? 0
                         : err_set(e, -ERR_bad_value,
                                   "superblock at offset %" PRIu64 " of checkpoint %" PRIu64 ": %s",
                                   offset, s->checkpoint, wrong);
}

int tree_super_decode(const uint8_t in[TREE_SUPER_BYTES], uint64_t offset, struct tree_super *ret,
                      struct err *e)
{
    struct wire_reader r = wire_reader_over(in, SUPER_SUM_AT);
    struct tree_super s = {0};
    uint64_t magic = wire_read_u64(&r);
    if (magic != SUPER_MAGIC) {
        return err_set(e, -ERR_bad_magic,
                       "superblock at offset %" PRIu64 ": begins with %016" PRIx64, offset, magic);
    }
    s.format = wire_read_u32(&r);
    s.min_reader = wire_read_u32(&r);
    memcpy(s.file_id, wire_read_bytes(&r, sizeof s.file_id), sizeof s.file_id);
    s.checksum = wire_load_u64(in + SUPER_SUM_AT);
    uint64_t sum = super_sum(s.file_id, in);
    if (s.checksum != sum) {
        return err_set(e, -ERR_bad_crc,
                       "superblock at offset %" PRIu64 ": has %016" PRIx64
                       ", its bytes give %016" PRIx64,
                       offset, s.checksum, sum);
    }
    bool clean = super_read(&r, &s);
    int rc = super_check(&s, offset, clean, e);
    if (rc == 0) {
        *ret = s;
    }
    return rc;
}

static int super_none(const struct tree_super_pair *p, struct err *e)
{
    return err_set(e, p->rc[0], "no valid superblock; %s; second place: %s",
                   err_message(&p->err[0], p->rc[0]), err_message(&p->err[1], p->rc[1]));
}

int tree_super_choose(const struct tree_super_pair *pair, struct tree_super_choice *ret,
                      struct err *e)
{
    const struct tree_super *s = pair->super;
    for (unsigned i = 0; i < TREE_SUPER_PLACES; i++) {
        if (pair->rc[i] == -ERR_bad_version) {
            return err_set(e, pair->rc[i], "%s", pair->err[i].text);
        }
    }
    if (pair->rc[0] < 0 && pair->rc[1] < 0) {
        return super_none(pair, e);
    }
    if (pair->rc[0] < 0 || pair->rc[1] < 0) {
        *ret = (struct tree_super_choice){.newest = pair->rc[0] < 0 ? 1 : 0, .older = -1};
        return 0;
    }
    if (memcmp(s[0].file_id, s[1].file_id, sizeof s[0].file_id) != 0 ||
        s[0].checkpoint == s[1].checkpoint) {
        return err_set(e, -ERR_corrupt,
                       "superblocks of two files in one: checkpoint %" PRIu64 " at 0, %" PRIu64
                       " at %u",
                       s[0].checkpoint, s[1].checkpoint, TREE_SUPER_SECOND);
    }
    int newest = s[0].checkpoint > s[1].checkpoint ? 0 : 1;
    bool follows = s[newest].previous == s[1 - newest].checksum;
    *ret = (struct tree_super_choice){.newest = newest, .older = follows ? 1 - newest : -1};
    return 0;
}

void tree_super_to_text(const struct tree_super *s, char *out, size_t size)
{
    snprintf(out, size,
             "checkpoint %" PRIu64 ", applied %" PRIu64 "/%" PRIu64 ", root %" PRIu64
             ", height %" PRIu32 ", next block %" PRIu64 ", %" PRIu64 " bytes",
             s->checkpoint, s->applied_index, s->applied_term, s->root_block, s->height,
             s->next_block, s->size_used);
}
