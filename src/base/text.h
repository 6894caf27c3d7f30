/* base/text.h -- small text helpers: bounded formatting, hex, uuids, units. Nothing allocates. */
#pragma once

#include "base/base.h"
#include "base/err.h"

#include <stdarg.h>

/* A bounded text under construction: never overflows, remembers that it was cut. */
struct text {
    char *at;
    size_t size, len; /* len < size always; at[len] == 0 */
    bool cut;
};
void text_init(struct text *t, char *at, size_t size); /* size > 0 */
/* Keeps what fits, in whole UTF-8 characters. After a cut nothing more is added. */
void text_add(struct text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
void text_add_va(struct text *t, const char *fmt, va_list args) PRINTF_LIKE(2, 0);
/* All of the bytes or, when they do not fit, none of them and a cut. */
void text_add_whole(struct text *t, const char *bytes, size_t len);
/* Adds bytes that may be anything: printable ASCII as is, the rest as \xNN, cut with "...". */
void text_add_bytes(struct text *t, const void *bytes, size_t len);

/* Bytes of the well-formed UTF-8 character at `at` (1 to 4), or 0. */
size_t text_utf8_len(const char *at, size_t left);
/* `len` without the character that a cut at `len` left incomplete. */
size_t text_whole_utf8(const char *at, size_t len);

void text_hex(char *out, const void *bytes, size_t len); /* out: 2 * len + 1 */
NODISCARD int text_unhex(void *out, size_t len,
                         const char *hex); /* exactly 2 * len digits, else -EINVAL */

struct uuid {
    uint8_t bytes[16];
};
#define UUID_TEXT_SIZE 37u
void uuid_to_text(const struct uuid *u, char out[UUID_TEXT_SIZE]); /* 8-4-4-4-12 */
NODISCARD int uuid_from_text(struct uuid *u, const char *text);
bool uuid_equal(const struct uuid *a, const struct uuid *b);
bool uuid_is_zero(const struct uuid *u);

/* "4096", "64K", "4MiB", "1.5G" (powers of 1024, up to E) -> bytes; "30s", "200ms", "10min", "1h",
 * "2d" -> milliseconds (only 0 may stand without unit). One blank may divide number and unit; a
 * fraction needs a unit and is rounded down. -EINVAL bad text, -ERANGE does not fit. */
NODISCARD int text_to_bytes(const char *text, uint64_t *ret);
NODISCARD int text_to_ms(const char *text, uint64_t *ret);
NODISCARD int text_to_u64(const char *text, uint64_t *ret);
#define TEXT_UNIT_SIZE 24u
const char *text_from_bytes(uint64_t bytes, char out[TEXT_UNIT_SIZE]); /* "1.4 GiB" */
const char *text_from_ms(uint64_t ms, char out[TEXT_UNIT_SIZE]);       /* "1 min 20 s" */
void text_add_time(struct text *t, uint64_t ms); /* since 1970: "2026-11-22T17:03:00.000Z" */
