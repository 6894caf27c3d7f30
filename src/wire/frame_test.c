#include "wire/frame.h"

#include "base/crc32c.h"
#include "testing/testing.h"
#include "wire/wire.h"

#include <string.h>

#define AT_VERSION 4u
#define AT_KIND 5u
#define AT_STATUS 12u
#define AT_BODY_LEN 16u
#define AT_DATA_LEN 20u
#define AT_CRC 36u

static const struct wire_frame sample = {.kind = FRAME_RESPONSE,
                                         .opcode = 0x0201,
                                         .id = 0x06050403,
                                         .status = -ENOENT,
                                         .body_len = 77,
                                         .data_len = 4096,
                                         .trace = 0x0e0d0c0b0a090807u,
                                         .body_crc = 0x12345678};

static bool same(const struct wire_frame *a, const struct wire_frame *b)
{
    return a->kind == b->kind && a->opcode == b->opcode && a->id == b->id &&
           a->status == b->status && a->deadline_ms == b->deadline_ms &&
           a->body_len == b->body_len && a->data_len == b->data_len && a->trace == b->trace &&
           a->body_crc == b->body_crc;
}
/* A header with one field changed and a checksum that is right again. */
static int decode_with_u32(const struct wire_frame *f, size_t at, uint32_t v)
{
    uint8_t bytes[FRAME_BYTES];
    struct wire_frame out;
    wire_frame_encode(f, bytes);
    wire_store_u32(bytes + at, v);
    wire_store_u32(bytes + AT_CRC, crc32c(0, bytes, AT_CRC));
    return wire_frame_decode(bytes, &out);
}

TEST(frames_have_the_documented_layout)
{
    uint8_t bytes[FRAME_BYTES];
    wire_frame_encode(&sample, bytes);
    CHECK_BYTES(bytes, "OFDS\x01\x02\x01\x02\x03\x04\x05\x06", 12);
    CHECK_EQ((int32_t)wire_load_u32(bytes + 12), -ENOENT);
    CHECK_EQ(wire_load_u32(bytes + 16), 77);
    CHECK_EQ(wire_load_u32(bytes + 20), 4096);
    CHECK_BYTES(bytes + 24, "\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x78\x56\x34\x12", 12);
    CHECK_EQ(wire_load_u32(bytes + 36), crc32c(0, bytes, 36));
}

TEST(frames_come_back_as_they_were)
{
    uint8_t bytes[FRAME_BYTES];
    struct wire_frame out;
    wire_frame_encode(&sample, bytes);
    CHECK_OK(wire_frame_decode(bytes, &out));
    CHECK_TRUE(same(&sample, &out));
    const struct wire_frame request = {.kind = FRAME_REQUEST,
                                       .deadline_ms = UINT32_MAX,
                                       .body_len = FRAME_BODY_MAX,
                                       .data_len = FRAME_DATA_MAX};
    wire_frame_encode(&request, bytes);
    CHECK_OK(wire_frame_decode(bytes, &out));
    CHECK_TRUE(same(&request, &out));
    const struct wire_frame cancel = {.kind = FRAME_CANCEL, .id = 9, .status = -1};
    wire_frame_encode(&cancel, bytes);
    CHECK_OK(wire_frame_decode(bytes, &out));
    CHECK_EQ(out.status, 0); /* only responses have one */
}

/* Every bit is covered by the magic number or the checksum, and nothing is written then. */
TEST(every_flipped_bit_is_noticed)
{
    for (size_t bit = 0; bit < (size_t)FRAME_BYTES * 8; bit++) {
        uint8_t bytes[FRAME_BYTES];
        struct wire_frame out = sample;
        wire_frame_encode(&sample, bytes);
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << (bit % 8));
        out.id = 5;
        int rc = wire_frame_decode(bytes, &out);
        CHECK_RC(rc, bit < 32 ? ERR_bad_magic : ERR_bad_crc);
        CHECK_EQ(out.id, 5);
    }
}

TEST(values_outside_their_limits_are_refused)
{
    struct wire_frame request = {.kind = FRAME_REQUEST}, push = {.kind = FRAME_PUSH};
    struct wire_frame cancel = {.kind = FRAME_CANCEL};
    uint32_t kinds = (uint32_t)sample.opcode << 16 | FRAME_VERSION;
    CHECK_RC(decode_with_u32(&sample, AT_VERSION, kinds + 1), ERR_bad_version);
    CHECK_RC(decode_with_u32(&sample, AT_VERSION, kinds), ERR_bad_value); /* kind 0 */
    CHECK_RC(decode_with_u32(&sample, AT_VERSION, kinds | 5u << 8), ERR_bad_value);
    CHECK_RC(decode_with_u32(&sample, AT_STATUS, 1), ERR_bad_value);
    CHECK_RC(decode_with_u32(&sample, AT_STATUS, 0x80000000u), ERR_bad_value);
    CHECK_OK(decode_with_u32(&sample, AT_STATUS, 0x80000001u));
    CHECK_OK(decode_with_u32(&request, AT_STATUS, 0x80000000u)); /* a deadline */
    CHECK_RC(decode_with_u32(&request, AT_BODY_LEN, FRAME_BODY_MAX + 1), ERR_bad_length);
    CHECK_RC(decode_with_u32(&request, AT_DATA_LEN, FRAME_DATA_MAX + 1), ERR_bad_length);
    CHECK_RC(decode_with_u32(&push, AT_DATA_LEN, 1), ERR_bad_length);
    CHECK_RC(decode_with_u32(&cancel, AT_DATA_LEN, 1), ERR_bad_length);
    CHECK_RC(decode_with_u32(&cancel, AT_BODY_LEN, 1), ERR_bad_length);
}

TEST(text_of_frames_fits_and_tells)
{
    char out[FRAME_TEXT_SIZE];
    struct wire_frame f = {.kind = FRAME_RESPONSE,
                           .opcode = UINT16_MAX,
                           .id = UINT32_MAX,
                           .status = -INT32_MAX,
                           .deadline_ms = UINT32_MAX,
                           .body_len = UINT32_MAX,
                           .data_len = UINT32_MAX,
                           .trace = UINT64_MAX};
    wire_frame_to_text(&f, out, sizeof out);
    CHECK_TRUE(strlen(out) < sizeof out - 1 && strstr(out, "trace=ffffffffffffffff") != NULL);
    CHECK_TRUE(strncmp(out, "response opcode=65535", 21) == 0);
    f.kind = 200;
    wire_frame_to_text(&f, out, sizeof out);
    CHECK_TRUE(strncmp(out, "unknown", 7) == 0);
}
