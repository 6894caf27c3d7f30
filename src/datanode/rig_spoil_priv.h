/* datanode/rig_spoil_priv.h -- for tests only: a chunk of rig_priv.h, and damage of its file. */
#pragma once

#include "datanode/rig_world_priv.h"
#include "testing/testing.h"

static const struct rig_io io_first = {
    .host = 1, .chain = 1, .data_id = 100, .length = 8192, .fill = 1};

RIG int read_at(struct rig *r, unsigned host, uint8_t fill)
{
    struct rig_io io = io_first;
    io.host = host;
    io.fill = fill;
    return rig_read(r, &io);
}

/* doc/format/chunk.md: where a chunk's file is. Its first cell is in block 1. */
RIG int spoil_try(struct rig *r, unsigned host, uint8_t data_id, uint64_t offset)
{
    uint8_t key[12] = {data_id};
    char path[80];
    struct text t;
    unsigned directory = crc32c(0, key, sizeof key) % 1024;
    text_init(&t, path, sizeof path);
    text_add(&t, "/store/%02x/%02x/%016x.%08x", directory / 32, directory % 32, data_id, 0);
    return disk_sim_corrupt(r->disk[host], path, offset, 0x40);
}
RIG void spoil_data(struct rig *r, unsigned host, uint8_t data_id, uint64_t offset)
{
    CHECK(spoil_try(r, host, data_id, offset) == 0);
}
RIG void spoil_at(struct rig *r, unsigned host, uint64_t offset)
{
    spoil_data(r, host, 100, offset);
}
RIG void spoil_block(struct rig *r, unsigned host, uint64_t block)
{
    spoil_at(r, host, block * 4096 + 10);
}
RIG void spoil(struct rig *r, unsigned host)
{
    spoil_block(r, host, 1);
}
RIG void open_chain(struct rig *r, unsigned targets)
{
    rig_chain(r, targets, DATANODE_ENGINE_FILE, testing_seed());
    CHECK_OK(rig_write(r, &io_first));
    CHECK_OK(rig_sync(r, &io_first));
}
/* The client sees bytes that do not fit and tells so. */
RIG int check_at(struct rig *r, unsigned host)
{
    struct rig_call c;
    struct rig_io io = io_first;
    io.host = host;
    rig_read_begin(r, &c, &io);
    RIG_UNTIL(r, c.done);
    CHECK_OK(c.rc);
    CHECK_TRUE(!c.data_good); /* nothing is verified on the way */
    rig_call_end(&c);
    io.check = true;
    return rig_read(r, &io);
}
