/*
 * wire/wire.h -- bounded readers and writers of little-endian bytes.
 *
 * A reader is sticky: after the first read beyond the end everything reads as zero and `bad` stays
 * set; decode all, ask once. A writer is sticky in the same way when its memory is full; one
 * without memory (at NULL) only counts. No allocation, no thread rules: plain values of the caller.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

#include <string.h>

/* Little-endian at any address. Bounds are the caller's business. */
static inline uint16_t wire_load_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}
static inline uint32_t wire_load_u32(const uint8_t *at)
{
    return (uint32_t)wire_load_u16(at) | (uint32_t)wire_load_u16(at + 2) << 16;
}
static inline uint64_t wire_load_u64(const uint8_t *at)
{
    return (uint64_t)wire_load_u32(at) | (uint64_t)wire_load_u32(at + 4) << 32;
}
static inline void wire_store_u16(uint8_t *at, uint16_t v)
{
    at[0] = (uint8_t)v;
    at[1] = (uint8_t)(v >> 8);
}
static inline void wire_store_u32(uint8_t *at, uint32_t v)
{
    wire_store_u16(at, (uint16_t)v);
    wire_store_u16(at + 2, (uint16_t)(v >> 16));
}
static inline void wire_store_u64(uint8_t *at, uint64_t v)
{
    wire_store_u32(at, (uint32_t)v);
    wire_store_u32(at + 4, (uint32_t)(v >> 32));
}

struct wire_reader {
    const uint8_t *at;
    size_t left;
    bool bad;
};
static inline struct wire_reader wire_reader_over(const void *bytes, size_t len)
{
    return (struct wire_reader){.at = bytes, .left = len};
}
/* The next `len` bytes in place; NULL and bad when there are fewer. */
static inline const uint8_t *wire_read_bytes(struct wire_reader *r, size_t len)
{
    if (__builtin_expect(r->bad || r->left < len, 0)) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *at = r->at;
    r->at += len;
    r->left -= len;
    return at;
}
static inline uint8_t wire_read_u8(struct wire_reader *r)
{
    const uint8_t *at = wire_read_bytes(r, 1);
    return at == NULL ? 0 : *at;
}
static inline uint16_t wire_read_u16(struct wire_reader *r)
{
    const uint8_t *at = wire_read_bytes(r, 2);
    return at == NULL ? 0 : wire_load_u16(at);
}
static inline uint32_t wire_read_u32(struct wire_reader *r)
{
    const uint8_t *at = wire_read_bytes(r, 4);
    return at == NULL ? 0 : wire_load_u32(at);
}
static inline uint64_t wire_read_u64(struct wire_reader *r)
{
    const uint8_t *at = wire_read_bytes(r, 8);
    return at == NULL ? 0 : wire_load_u64(at);
}
/* A u32 length and so many bytes. Above `max`: bad. *ret_len is 0 when bad. */
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
/* Room for `len` bytes, now counted as written; NULL when counting or full. */
static inline uint8_t *wire_write_room(struct wire_writer *w, size_t len)
{
    if (w->at == NULL) {
        w->len += len;
        return NULL;
    }
    if (__builtin_expect(w->bad || w->size - w->len < len, 0)) {
        w->bad = true;
        return NULL;
    }
    uint8_t *at = w->at + w->len;
    w->len += len;
    return at;
}
static inline void wire_write_u8(struct wire_writer *w, uint8_t v)
{
    uint8_t *at = wire_write_room(w, 1);
    if (at != NULL) {
        *at = v;
    }
}
static inline void wire_write_u16(struct wire_writer *w, uint16_t v)
{
    uint8_t *at = wire_write_room(w, 2);
    if (at != NULL) {
        wire_store_u16(at, v);
    }
}
static inline void wire_write_u32(struct wire_writer *w, uint32_t v)
{
    uint8_t *at = wire_write_room(w, 4);
    if (at != NULL) {
        wire_store_u32(at, v);
    }
}
static inline void wire_write_u64(struct wire_writer *w, uint64_t v)
{
    uint8_t *at = wire_write_room(w, 8);
    if (at != NULL) {
        wire_store_u64(at, v);
    }
}
static inline void wire_write_bytes(struct wire_writer *w, const void *bytes, size_t len)
{
    uint8_t *at = wire_write_room(w, len);
    if (at != NULL && len > 0) {
        memcpy(at, bytes, len);
    }
}
/* A u32 length and the bytes. Lengths that do not fit a u32: bad. */
void wire_write_counted(struct wire_writer *w, const void *bytes, size_t len);
/* Overwrites four bytes written before (lengths, checksums); nothing when counting or bad. */
void wire_patch_u32(struct wire_writer *w, size_t offset, uint32_t v);
