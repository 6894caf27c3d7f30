/* wire/frame.c -- see frame.h. */
#include "wire/frame.h"

#include "base/crc32c.h"
#include "wire/wire.h"

#include <stdio.h>

enum {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_KIND = 5,
    AT_OPCODE = 6,
    AT_ID = 8,
    AT_STATUS = 12,
    AT_BODY_LEN = 16,
    AT_DATA_LEN = 20,
    AT_TRACE = 24,
    AT_BODY_CRC = 32,
    AT_CRC = 36,
};
_Static_assert(AT_CRC + 4 == FRAME_BYTES, "the header ends with its checksum");

void wire_frame_encode(const struct wire_frame *f, uint8_t out[FRAME_BYTES])
{
    uint32_t status = f->kind == FRAME_RESPONSE  ? (uint32_t)f->status
                      : f->kind == FRAME_REQUEST ? f->deadline_ms
                                                 : 0;
    wire_store_u32(out + AT_MAGIC, FRAME_MAGIC);
    out[AT_VERSION] = FRAME_VERSION;
    out[AT_KIND] = f->kind;
    wire_store_u16(out + AT_OPCODE, f->opcode);
    wire_store_u32(out + AT_ID, f->id);
    wire_store_u32(out + AT_STATUS, status);
    wire_store_u32(out + AT_BODY_LEN, f->body_len);
    wire_store_u32(out + AT_DATA_LEN, f->data_len);
    wire_store_u64(out + AT_TRACE, f->trace);
    wire_store_u32(out + AT_BODY_CRC, f->body_crc);
    wire_store_u32(out + AT_CRC, crc32c(0, out, AT_CRC));
}

static int check_lengths(const struct wire_frame *f)
{
    uint32_t body_max = f->kind == FRAME_CANCEL ? 0 : FRAME_BODY_MAX;
    uint32_t data_max = f->kind == FRAME_CANCEL || f->kind == FRAME_PUSH ? 0 : FRAME_DATA_MAX;
    return f->body_len > body_max || f->data_len > data_max ? -ERR_bad_length : 0;
}

int wire_frame_decode(const uint8_t in[FRAME_BYTES], struct wire_frame *ret)
{
    if (wire_load_u32(in + AT_MAGIC) != FRAME_MAGIC) {
        return -ERR_bad_magic;
    }
    if (wire_load_u32(in + AT_CRC) != crc32c(0, in, AT_CRC)) {
        return -ERR_bad_crc;
    }
    if (in[AT_VERSION] != FRAME_VERSION) {
        return -ERR_bad_version;
    }
    uint32_t status = wire_load_u32(in + AT_STATUS);
    struct wire_frame f = {
        .kind = in[AT_KIND],
        .opcode = wire_load_u16(in + AT_OPCODE),
        .id = wire_load_u32(in + AT_ID),
        .status = in[AT_KIND] == FRAME_RESPONSE ? (int32_t)status : 0,
        .deadline_ms = in[AT_KIND] == FRAME_REQUEST ? status : 0,
        .body_len = wire_load_u32(in + AT_BODY_LEN),
        .data_len = wire_load_u32(in + AT_DATA_LEN),
        .trace = wire_load_u64(in + AT_TRACE),
        .body_crc = wire_load_u32(in + AT_BODY_CRC),
    };
    if (f.kind < FRAME_REQUEST || f.kind > FRAME_CANCEL || f.status > 0 || f.status == INT32_MIN) {
        return -ERR_bad_value;
    }
    int rc = check_lengths(&f);
    if (rc == 0) {
        *ret = f;
    }
    return rc;
}

void wire_frame_to_text(const struct wire_frame *f, char *out, size_t size)
{
    static const char *const names[] = {"unknown", "request", "response", "push", "cancel"};
    const char *kind = f->kind < ARRAY_COUNT(names) ? names[f->kind] : names[0];
    (void)snprintf(out, size,
                   "%s opcode=%u id=%u status=%d deadline_ms=%u body=%u data=%u trace=%016llx",
                   kind, f->opcode, f->id, f->status, f->deadline_ms, f->body_len, f->data_len,
                   (unsigned long long)f->trace);
}
