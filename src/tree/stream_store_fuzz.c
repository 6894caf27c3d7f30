/*
 * tree/stream_store_fuzz.c -- any bytes as the partial file of a checkpoint that is received: its
 * two records, the header of the stream, pages, list, drop queue. Edits of an empty file (unit,
 * place in it, bytes); then magics, numbers of pages and checksums are made good, so that what lies
 * behind them is reached. The receiver goes on from there or begins anew, and says neither is
 * wrong.
 */
#include "tree/stream_receive_priv.h"

#include "base/env.h"
#include "base/mem.h"
#include "disk/disk.h"
#include "kv/frame.h"
#include "loop/sim.h"
#include "testing/machine.h"
#include "testing/replay.h"
#include "wire/wire.h"

#include <string.h>
#include <xxhash.h>

#define FUZZ_UNITS 24u
#define FUZZ_PAGES 4u
#define SUPER_AT (TREE_STREAM_HEADER_BYTES - TREE_SUPER_BYTES)

const unsigned testing_replay_generated = 64;

struct fuzz {
    struct testing_machine machine;
    struct env env;
    uint8_t *file;
};

static void fuzz_edit(uint8_t *file, const uint8_t *data, size_t size)
{
    struct wire_reader r = wire_reader_over(data, size);
    while (r.left >= 4) {
        size_t unit = wire_read_u8(&r) % FUZZ_UNITS, at = wire_read_u16(&r) % TREE_UNIT;
        size_t len = wire_read_u8(&r) % 64U, room = TREE_UNIT - at;
        len = base_min(len, r.left);
        len = base_min(len, room);
        const uint8_t *bytes = wire_read_bytes(&r, len);
        if (len > 0) {
            memcpy(file + unit * TREE_UNIT + at, bytes, len);
        }
    }
}

/* Pages that are sound, as many as the header says. */
static void fuzz_pages(uint8_t *file, struct tree_stream_header *h)
{
    h->page_count = (h->super.next_block + TREE_BTT_PAGE_ENTRIES - 1) / TREE_BTT_PAGE_ENTRIES;
    h->page_sent = 0;
    for (uint64_t no = 0; no < h->page_count; no++) {
        uint8_t *page = file + (RECEIVE_TABLE_UNIT + no) * TREE_UNIT;
        bool there = false;
        for (size_t i = 0; i < TREE_BTT_PAGE_BYTES; i++) {
            there = there || page[i] != 0;
        }
        if (there) {
            uint64_t sum = tree_btt_page_seal(page, h->super.file_id, no);
            wire_store_u64(page + TREE_BTT_PAGE_BYTES - 8, sum);
            h->page_sent++;
        }
    }
}

/* The name of the stream; 0: there is no sound header. */
static uint64_t fuzz_header(uint8_t *file)
{
    uint8_t *b = file + RECEIVE_HEADER_UNIT * (size_t)TREE_UNIT, *s = b + SUPER_AT;
    struct tree_stream_header h = {0};
    uint64_t number = wire_load_u64(s + 32);
    wire_store_u64(s, UINT64_C(0x3176004545525442)); /* "BTREE", 0, "v1" */
    wire_store_u32(s + 8, 1);
    wire_store_u32(s + 12, 1);
    wire_store_u64(
        s + TREE_SUPER_BYTES - 8,
        XXH3_64bits_withSeed(s, TREE_SUPER_BYTES - 8, XXH3_64bits(s + 16, TREE_SUPER_ID_BYTES)));
    if (tree_super_decode(s, tree_super_offset(number), &h.super, NULL) < 0) {
        return 0;
    }
    h.free_head = wire_load_u64(b + 24);
    h.free_count = wire_load_u64(b + 32);
    if (h.super.next_block > FUZZ_PAGES * TREE_BTT_PAGE_ENTRIES) {
        return 0;
    }
    fuzz_pages(file, &h);
    tree_stream_header_encode(&h, b);
    return tree_stream_header_decode(b, TREE_STREAM_HEADER_BYTES, &h, NULL) < 0
               ? 0
               : tree_stream_name(&h.super);
}

static void fuzz_records(uint8_t *file, uint64_t stream)
{
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *b = file + (RECEIVE_RECORD_UNIT + i) * (size_t)TREE_UNIT;
        const uint8_t *in = b + 32;
        const struct kv_cursor at = {.stream = stream,
                                     .number = wire_load_u64(in),
                                     .chain = wire_load_u64(in + 8),
                                     .place = {.kind = wire_load_u32(in + 16),
                                               .part = wire_load_u32(in + 20),
                                               .item = wire_load_u64(in + 24),
                                               .offset = wire_load_u64(in + 32)}};
        wire_store_u64(b, UINT64_C(0x0031564345525442)); /* "BTREC1", 0 */
        wire_store_u32(b + 8, 1);
        kv_cursor_encode(&at, b + 32);
        wire_store_u64(b + TREE_UNIT - 8, tree_sum(0, b, TREE_UNIT - 8));
    }
}

static void fuzz_open(void *ctx)
{
    struct fuzz *f = ctx;
    struct tree_receive *x = NULL;
    struct err e = {0};
    const struct tree_receive_options opt = {.disk = f->env.disk, .path = "/copy"};
    CHECK(disk_store(f->env.disk, "/copy.partial", f->file, FUZZ_UNITS * (size_t)TREE_UNIT) == 0);
    int rc = tree_receive_new(&opt, &x, &e);
    CHECK(rc == 0 || rc == -ENOMEM);
    if (rc == 0) {
        bool whole = false;
        rc = tree_receive_put(x, f->file, TREE_UNIT, &whole, &e);
        CHECK(rc < 0 && e.code < 0 && !whole); /* that is no frame */
        x = tree_receive_free(x);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz f = {.file = mem_zalloc(FUZZ_UNITS * (size_t)TREE_UNIT)};
    CHECK(f.file != NULL);
    testing_machine_init(&f.machine, 1);
    testing_machine_start(&f.machine, "receiver", &f.env);
    fuzz_edit(f.file, data, size);
    loop_sim_enter(f.machine.loop, fuzz_open, &f);
    fuzz_records(f.file, fuzz_header(f.file));
    loop_sim_enter(f.machine.loop, fuzz_open, &f);
    testing_machine_kill(&f.machine, false);
    testing_machine_fini(&f.machine);
    mem_free(f.file);
    return 0;
}
