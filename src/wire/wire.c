/* wire/wire.c -- see wire.h. What is not worth inlining. */
#include "wire/wire.h"

const uint8_t *wire_read_counted(struct wire_reader *r, size_t max, size_t *ret_len)
{
    size_t len = wire_read_u32(r);
    r->bad = r->bad || len > max;
    const uint8_t *at = wire_read_bytes(r, len);
    *ret_len = at == NULL ? 0 : len;
    return at;
}

void wire_write_counted(struct wire_writer *w, const void *bytes, size_t len)
{
    if (len > UINT32_MAX) {
        w->bad = true;
        return;
    }
    wire_write_u32(w, (uint32_t)len);
    wire_write_bytes(w, bytes, len);
}

void wire_patch_u32(struct wire_writer *w, size_t offset, uint32_t v)
{
    if (w->at == NULL || w->bad) {
        return;
    }
    CHECK(w->len >= 4 && offset <= w->len - 4);
    wire_store_u32(w->at + offset, v);
}
