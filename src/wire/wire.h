/*
 * wire/wire.h -- bounded readers and writers of little-endian bytes, and the frame header of the
 * protocol.
 *
 * A reader is sticky: after the first read beyond the end everything reads as zero and `bad` stays
 * set; decode all, ask once. A writer is sticky in the same way when its memory is full.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

struct wire_reader {
    const uint8_t *at;
    size_t left;
    bool bad;
};
static inline struct wire_reader wire_reader_over(const void *bytes, size_t len)
{
    return (struct wire_reader){.at = bytes, .left = len};
}
uint8_t wire_read_u8(struct wire_reader *r);
uint16_t wire_read_u16(struct wire_reader *r);
uint32_t wire_read_u32(struct wire_reader *r);
uint64_t wire_read_u64(struct wire_reader *r);
/* The next `len` bytes in place; NULL and bad when there are fewer. */
const uint8_t *wire_read_bytes(struct wire_reader *r, size_t len);
/* A u32 length and so many bytes. Above `max`: bad. */
const uint8_t *wire_read_counted(struct wire_reader *r, size_t max, size_t *ret_len);

struct wire_writer {
    uint8_t *at; /* NULL: only counts */
    size_t len, size;
    bool bad;
};
static inline struct wire_writer wire_writer_over(void *bytes, size_t size)
{
    return (struct wire_writer){.at = bytes, .size = size};
}
void wire_write_u8(struct wire_writer *w, uint8_t v);
void wire_write_u16(struct wire_writer *w, uint16_t v);
void wire_write_u32(struct wire_writer *w, uint32_t v);
void wire_write_u64(struct wire_writer *w, uint64_t v);
void wire_write_bytes(struct wire_writer *w, const void *bytes, size_t len);
void wire_write_counted(struct wire_writer *w, const void *bytes, size_t len);
/* Overwrites four bytes written before (lengths, checksums). */
void wire_patch_u32(struct wire_writer *w, size_t offset, uint32_t v);
