#include "base/text.h"

#include <stdio.h>
#include <string.h>

void text_init(struct text *t, char *at, size_t size)
{
    CHECK(size > 0);
    *t = (struct text){.at = at, .size = size};
    at[0] = '\0';
}

static bool text_is_continuation(char c)
{
    return ((uint8_t)c & 0xc0u) == 0x80u;
}

/* Length that the first byte of a character announces; 0 when none starts so. */
static size_t text_utf8_announced(uint8_t first)
{
    if (first < 0x80) {
        return 1;
    }
    if (first >= 0xc2 && first < 0xe0) { /* 0xc0 and 0xc1 would only start overlong forms */
        return 2;
    }
    if (first >= 0xe0 && first < 0xf0) {
        return 3;
    }
    return first >= 0xf0 && first < 0xf5 ? 4 : 0;
}

size_t text_utf8_len(const char *at, size_t left)
{
    if (left == 0) {
        return 0;
    }
    size_t len = text_utf8_announced((uint8_t)at[0]);
    if (len > left) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if (!text_is_continuation(at[i])) {
            return 0;
        }
    }
    if (len < 3) {
        return len;
    }
    /* Overlong forms, surrogates and what lies above U+10FFFF show in the first two bytes. */
    unsigned head = (unsigned)(uint8_t)at[0] << 8 | (uint8_t)at[1];
    bool bad = head < 0xe0a0 || (head >= 0xeda0 && head < 0xee00) ||
               (head >= 0xf000 && head < 0xf090) || head >= 0xf490;
    return bad ? 0 : len;
}

size_t text_whole_utf8(const char *at, size_t len)
{
    size_t back = 0;
    while (back < 3 && back < len && text_is_continuation(at[len - 1 - back])) {
        back++;
    }
    if (back == len) {
        return len;
    }
    size_t start = len - 1 - back;
    return text_utf8_announced((uint8_t)at[start]) > back + 1 ? start : len;
}

void text_add_va(struct text *t, const char *fmt, va_list args)
{
    if (t->cut) {
        return;
    }
    size_t room = t->size - t->len;
    int n = vsnprintf(t->at + t->len, room, fmt, args);
    if (n < 0) { /* the C library could not convert an argument */
        t->at[t->len] = '\0';
        t->cut = true;
        return;
    }
    if ((size_t)n < room) {
        t->len += (size_t)n;
        return;
    }
    t->len = text_whole_utf8(t->at, t->size - 1);
    t->at[t->len] = '\0';
    t->cut = true;
}

void text_add(struct text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    text_add_va(t, fmt, args);
    va_end(args);
}

void text_add_whole(struct text *t, const char *bytes, size_t len)
{
    if (t->cut || len >= t->size - t->len) {
        t->cut = true;
        return;
    }
    if (len > 0) {
        memcpy(t->at + t->len, bytes, len);
        t->len += len;
        t->at[t->len] = '\0';
    }
}

void text_add_bytes(struct text *t, const void *bytes, size_t len)
{
    const uint8_t *from = bytes;
    size_t start = t->len;
    size_t mark_at = start; /* the last end of an item behind which the mark fits */
    bool was_cut = t->cut;
    for (size_t i = 0; i < len && !t->cut; i++) {
        char item[5] = {(char)from[i]};
        size_t item_len = 1;
        if (from[i] < 0x20 || from[i] > 0x7e) {
            item[0] = '\\';
            item[1] = 'x';
            text_hex(item + 2, &from[i], 1);
            item_len = 4;
        }
        if (t->size - t->len > 3) {
            mark_at = t->len;
        }
        text_add_whole(t, item, item_len);
    }
    if (t->cut && !was_cut && t->size - mark_at > 3) {
        memcpy(t->at + mark_at, "...", 4);
        t->len = mark_at + 3;
    }
}

void text_hex(char *out, const void *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *from = bytes;
    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[from[i] >> 4];
        out[2 * i + 1] = digits[from[i] & 15u];
    }
    out[2 * len] = '\0';
}

/* Value of a digit, 16 for anything else. */
static unsigned text_hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return (unsigned)(c - '0');
    }
    if (c >= 'a' && c <= 'f') {
        return (unsigned)(c - 'a') + 10;
    }
    return c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10 : 16;
}

int text_unhex(void *out, size_t len, const char *hex)
{
    for (size_t i = 0; i < 2 * len; i++) {
        if (text_hex_digit(hex[i]) > 15) { /* the end as well */
            return -EINVAL;
        }
    }
    if (hex[2 * len] != '\0') {
        return -EINVAL;
    }
    uint8_t *to = out;
    for (size_t i = 0; i < len; i++) {
        to[i] = (uint8_t)(text_hex_digit(hex[2 * i]) << 4 | text_hex_digit(hex[2 * i + 1]));
    }
    return 0;
}

static bool uuid_dash_before(size_t byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

void uuid_to_text(const struct uuid *u, char out[UUID_TEXT_SIZE])
{
    for (size_t i = 0; i < sizeof u->bytes; i++) {
        if (uuid_dash_before(i)) {
            *out++ = '-';
        }
        text_hex(out, &u->bytes[i], 1);
        out += 2;
    }
}

int uuid_from_text(struct uuid *u, const char *text)
{
    char hex[2 * sizeof u->bytes + 1];
    size_t digits = 0;
    if (strnlen(text, UUID_TEXT_SIZE) != UUID_TEXT_SIZE - 1) {
        return -EINVAL;
    }
    for (size_t i = 0; i < sizeof u->bytes; i++) {
        if (uuid_dash_before(i) && *text++ != '-') {
            return -EINVAL;
        }
        hex[digits++] = *text++;
        hex[digits++] = *text++;
    }
    hex[digits] = '\0';
    return text_unhex(u->bytes, sizeof u->bytes, hex);
}

bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

bool uuid_is_zero(const struct uuid *u)
{
    static const struct uuid zero;
    return uuid_equal(u, &zero);
}

/* Digits at *at, which is moved behind them. -EINVAL when there is none. */
static int text_take_digits(const char **at, uint64_t *ret)
{
    const char *p = *at;
    uint64_t v = 0;
    bool fits = true;
    for (; *p >= '0' && *p <= '9'; p++) {
        fits = fits && !__builtin_mul_overflow(v, 10, &v) &&
               !__builtin_add_overflow(v, (uint64_t)(*p - '0'), &v);
    }
    if (p == *at) {
        return -EINVAL;
    }
    *at = p;
    *ret = v;
    return fits ? 0 : -ERANGE;
}

int text_to_u64(const char *text, uint64_t *ret)
{
    uint64_t v;
    int rc = text_take_digits(&text, &v);
    if (rc == -EINVAL || *text != '\0') {
        return -EINVAL;
    }
    if (rc == 0) {
        *ret = v;
    }
    return rc;
}

struct text_unit {
    const char *name;
    uint64_t factor;
};

static const struct text_unit text_byte_units[] = {
    {"", 1},
    {"B", 1},
    {"K", 1ull << 10},
    {"k", 1ull << 10},
    {"KiB", 1ull << 10},
    {"M", 1ull << 20},
    {"MiB", 1ull << 20},
    {"G", 1ull << 30},
    {"GiB", 1ull << 30},
    {"T", 1ull << 40},
    {"TiB", 1ull << 40},
    {"P", 1ull << 50},
    {"PiB", 1ull << 50},
    {"E", 1ull << 60},
    {"EiB", 1ull << 60},
    {NULL, 0},
};

static const struct text_unit text_ms_units[] = {
    {"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}, {"d", 86400000}, {NULL, 0},
};

#define TEXT_FRACTION_DIGITS 9

/* "<digits>[.<digits>][ ]<unit>". The table says which units there are. */
static int text_to_quantity(const char *text, const struct text_unit *unit, uint64_t *ret)
{
    uint64_t whole, fraction = 0, divisor = 1;
    int rc = text_take_digits(&text, &whole);
    if (rc == -EINVAL) {
        return rc;
    }
    if (*text == '.') {
        const char *from = ++text;
        if (text_take_digits(&text, &fraction) < 0 || text - from > TEXT_FRACTION_DIGITS) {
            return -EINVAL;
        }
        for (; from < text; from++) {
            divisor *= 10;
        }
    }
    if (text[0] == ' ' && text[1] != '\0') {
        text++;
    }
    while (unit->name != NULL && strcmp(unit->name, text) != 0) {
        unit++;
    }
    bool zero = text[0] == '\0' && whole == 0 && rc == 0;
    if ((unit->name == NULL && !zero) || (divisor > 1 && unit->factor <= 1)) {
        return -EINVAL;
    }
    uint64_t v;
    uint64_t part = (uint64_t)((unsigned __int128)fraction * unit->factor / divisor);
    if (rc < 0 || __builtin_mul_overflow(whole, unit->factor, &v) ||
        __builtin_add_overflow(v, part, &v)) {
        return -ERANGE;
    }
    *ret = v;
    return 0;
}

int text_to_bytes(const char *text, uint64_t *ret)
{
    return text_to_quantity(text, text_byte_units, ret);
}

int text_to_ms(const char *text, uint64_t *ret)
{
    return text_to_quantity(text, text_ms_units, ret);
}

const char *text_from_bytes(uint64_t bytes, char out[TEXT_UNIT_SIZE])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t u = 0;
    uint64_t tenths = bytes < 1024 ? bytes * 10 : UINT64_MAX;
    while (tenths >= 10240 && u + 1 < ARRAY_COUNT(units)) { /* again after rounding up to 1024.0 */
        u++;
        uint64_t unit = 1ull << (10 * u);
        tenths = (uint64_t)(((unsigned __int128)bytes * 10 + unit / 2) / unit);
    }
    struct text t;
    text_init(&t, out, TEXT_UNIT_SIZE);
    text_add(&t, "%llu", (unsigned long long)(tenths / 10));
    if (tenths % 10 != 0) {
        text_add(&t, ".%llu", (unsigned long long)(tenths % 10));
    }
    text_add(&t, " %s", units[u]);
    return out;
}

const char *text_from_ms(uint64_t ms, char out[TEXT_UNIT_SIZE])
{
    size_t u = ARRAY_COUNT(text_ms_units) - 2; /* the table ends with a NULL entry */
    while (u > 0 && ms < text_ms_units[u].factor) {
        u--;
    }
    uint64_t factor = text_ms_units[u].factor;
    struct text t;
    text_init(&t, out, TEXT_UNIT_SIZE);
    text_add(&t, "%llu %s", (unsigned long long)(ms / factor), text_ms_units[u].name);
    uint64_t rest = u > 0 ? ms % factor / text_ms_units[u - 1].factor : 0;
    if (rest > 0) {
        text_add(&t, " %llu %s", (unsigned long long)rest, text_ms_units[u - 1].name);
    }
    return out;
}

/* ---- Times ---- */

/* Days since 1970-01-01 -> the civil date (Howard Hinnant, "chrono-compatible low-level date
 * algorithms"). gmtime_r would do, but reads the time zone files. A year starts in March here, so
 * leap days come last. */
static void add_date(struct text *t, uint64_t days)
{
    uint64_t z = days + 719468; /* since 0000-03-01 */
    uint64_t era = z / 146097, day_of_era = z % 146097;
    uint64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint64_t month_from_march = (5 * day_of_year + 2) / 153;
    uint64_t day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    uint64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    uint64_t year = era * 400 + year_of_era + (month <= 2 ? 1 : 0);
    text_add(t, "%04u-%02u-%02u", (unsigned)year, (unsigned)month, (unsigned)day);
}

void text_add_time(struct text *t, uint64_t ms)
{
    unsigned in_day = (unsigned)(ms % 86400000);
    add_date(t, ms / 86400000);
    text_add(t, "T%02u:%02u:%02u.%03uZ", in_day / 3600000, in_day / 60000 % 60, in_day / 1000 % 60,
             in_day % 1000);
}
