/* cli/mode_value.c -- times, sizes and owners as people write them. */
#include "cli/mode_priv.h"

#include "base/text.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS_PER_S 1000000000ll

/* ---- Times ---- */

/* `count` digits. NULL: there are not as many. */
static const char *digits(const char *p, unsigned count, int *ret)
{
    int v = 0;
    for (unsigned i = 0; i < count; i++) {
        if (p == NULL || p[i] < '0' || p[i] > '9') {
            return NULL;
        }
        v = 10 * v + (p[i] - '0');
    }
    *ret = v;
    return p + count;
}

static const char *expect(const char *p, char ch)
{
    return p != NULL && *p == ch ? p + 1 : NULL;
}

/* ".5" and the like, if there is. */
static const char *fraction(const char *p, int64_t *ret_ns)
{
    *ret_ns = 0;
    if (p == NULL || *p != '.') {
        return p;
    }
    int64_t unit = NS_PER_S / 10;
    for (p++; *p >= '0' && *p <= '9' && unit > 0; p++, unit /= 10) {
        *ret_ns += unit * (*p - '0');
    }
    return p;
}

/* "Z", "+01:00", "+0100": seconds east of Greenwich. */
static const char *zone(const char *p, bool *ret_given, int64_t *ret_s)
{
    *ret_given = p != NULL && (*p == 'Z' || *p == '+' || *p == '-');
    *ret_s = 0;
    if (!*ret_given || *p == 'Z') {
        return *ret_given ? p + 1 : p;
    }
    int hours = 0, minutes = 0, sign = *p == '-' ? -1 : 1;
    p = digits(p + 1, 2, &hours);
    p = p != NULL && *p == ':' ? p + 1 : p;
    p = digits(p, 2, &minutes);
    *ret_s = (int64_t)sign * (hours * 3600 + minutes * 60);
    return p;
}

/* False: there is no such moment, as the 30th of February. */
static bool moment(const struct tm *in, bool utc, int64_t *ret_s)
{
    struct tm tm = *in;
    tm.tm_isdst = -1;
    time_t s = utc ? timegm(&tm) : mktime(&tm);
    *ret_s = s;
    return tm.tm_mon == in->tm_mon && tm.tm_mday == in->tm_mday && tm.tm_min == in->tm_min &&
           in->tm_sec < 60 && in->tm_hour < 24;
}

static bool parse_seconds(const char *text, int64_t *ret_ns)
{
    uint64_t s = 0;
    int64_t rest;
    char whole[24];
    bool negative = *text == '-';
    text += negative ? 1 : 0;
    size_t len = strcspn(text, ".");
    snprintf(whole, sizeof whole, "%.*s", (int)base_min(len, sizeof whole - 1), text);
    const char *end = fraction(text + len, &rest);
    if (text_to_u64(whole, &s) < 0 || s > 9000000000ull || *end != 0) {
        return false;
    }
    *ret_ns = (negative ? -1 : 1) * ((int64_t)s * NS_PER_S + rest);
    return true;
}

bool cli_time_parse(const char *text, int64_t *ret_ns)
{
    if (text[0] == '@') {
        return parse_seconds(text + 1, ret_ns);
    }
    struct tm tm = {.tm_sec = 0};
    int year = 0, month = 0;
    int64_t rest = 0, east = 0, s = 0;
    bool zoned = false;
    const char *p = expect(digits(text, 4, &year), '-');
    p = expect(digits(p, 2, &month), '-');
    p = digits(p, 2, &tm.tm_mday);
    if (p != NULL && (*p == ' ' || *p == 'T')) {
        p = expect(digits(p + 1, 2, &tm.tm_hour), ':');
        p = digits(p, 2, &tm.tm_min);
        if (p != NULL && *p == ':') {
            p = fraction(digits(p + 1, 2, &tm.tm_sec), &rest);
        }
        p = p != NULL && p[0] == ' ' && (p[1] == '+' || p[1] == '-') ? p + 1 : p;
        p = zone(p, &zoned, &east);
    }
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    if (p == NULL || *p != 0 || year < 1800 || year > 2200 || !moment(&tm, zoned, &s)) {
        return false;
    }
    *ret_ns = (s - east) * NS_PER_S + rest;
    return true;
}

bool cli_time_parse_stamp(const char *text, int64_t now_ns, int64_t *ret_ns)
{
    time_t now = now_ns / NS_PER_S;
    struct tm tm = {.tm_sec = 0}, today;
    if (localtime_r(&now, &today) == NULL) {
        return false;
    }
    int year = today.tm_year + 1900, month = 0;
    size_t len = strspn(text, "0123456789");
    const char *p = len == 12 ? digits(text, 4, &year) : len == 10 ? digits(text, 2, &year) : text;
    if (len == 10) { /* as POSIX has it */
        year += year < 69 ? 2000 : 1900;
    }
    p = len == 8 || len == 10 || len == 12 ? digits(p, 2, &month) : NULL;
    p = digits(p, 2, &tm.tm_mday);
    p = digits(p, 2, &tm.tm_hour);
    p = digits(p, 2, &tm.tm_min);
    p = p != NULL && *p == '.' ? digits(p + 1, 2, &tm.tm_sec) : p;
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    int64_t s;
    if (p == NULL || *p != 0 || year < 1800 || year > 2200 || !moment(&tm, false, &s)) {
        return false;
    }
    *ret_ns = s * NS_PER_S;
    return true;
}

/* ---- Sizes ---- */

bool cli_size_test_parse(const char *text, bool units, struct size_test *ret)
{
    static const char letters[] = "ckMGT";
    char number[24];
    char sign = '=';
    if (*text == '+' || *text == '-') {
        sign = *text;
    }
    text += sign == '=' ? 0 : 1;
    size_t len = strspn(text, "0123456789");
    const char *unit = text[len] == 0 || !units ? NULL : strchr(letters, text[len]);
    bool end = text[len] == 0 || (unit != NULL && text[len + 1] == 0);
    if (len == 0 || len >= sizeof number || !end) {
        return false;
    }
    memcpy(number, text, len);
    number[len] = 0;
    unsigned shift = unit == NULL ? 0 : 10 * (unsigned)(unit - letters);
    uint64_t v;
    if (text_to_u64(number, &v) < 0 || v > UINT64_MAX >> shift) {
        return false;
    }
    *ret = (struct size_test){.sign = sign, .value = v << shift};
    return true;
}

bool cli_size_test(const struct size_test *t, uint64_t value)
{
    return t->sign == '+'   ? value > t->value
           : t->sign == '-' ? value < t->value
                            : value == t->value;
}

/* ---- Owners ---- */

static bool number_of(const char *text, uint32_t *ret)
{
    uint64_t v;
    if (text_to_u64(text, &v) < 0 || v >= UINT32_MAX) {
        return false;
    }
    *ret = (uint32_t)v;
    return true;
}

static bool user_of(const char *text, struct owner_change *o, uint32_t *ret_group)
{
    const struct passwd *p = getpwnam(text);
    if (p == NULL && !number_of(text, &o->uid)) {
        return false;
    }
    o->uid = p != NULL ? p->pw_uid : o->uid;
    p = p != NULL ? p : getpwuid(o->uid);
    *ret_group = p != NULL ? p->pw_gid : UINT32_MAX;
    o->set_uid = true;
    return true;
}

static bool group_of(const char *text, struct owner_change *o)
{
    const struct group *g = getgrnam(text);
    if (g == NULL && !number_of(text, &o->gid)) {
        return false;
    }
    o->gid = g != NULL ? g->gr_gid : o->gid;
    o->set_gid = true;
    return true;
}

const char *cli_owner_parse(const char *text, struct owner_change *ret)
{
    struct owner_change o = {.set_uid = false};
    char user[256];
    uint32_t own_group = UINT32_MAX;
    const char *colon = strchr(text, ':');
    size_t len = colon == NULL ? strlen(text) : (size_t)(colon - text);
    if (len >= sizeof user || text[0] == 0 || strcmp(text, ":") == 0) {
        return "is no owner: USER, USER:GROUP, USER: or :GROUP";
    }
    memcpy(user, text, len);
    user[len] = 0;
    if (len > 0 && !user_of(user, &o, &own_group)) {
        return "this machine knows no such user";
    }
    if (colon != NULL && colon[1] == 0) {
        o.gid = own_group;
        o.set_gid = true;
        if (own_group == UINT32_MAX) {
            return "this machine does not know the group of that user";
        }
    } else if (colon != NULL && !group_of(colon + 1, &o)) {
        return "this machine knows no such group";
    }
    *ret = o;
    return NULL;
}

const char *cli_user_to_text(uint32_t uid, bool numeric, char out[CLI_OWNER_SIZE])
{
    const struct passwd *p = numeric ? NULL : getpwuid(uid);
    snprintf(out, CLI_OWNER_SIZE, "%u", uid);
    if (p != NULL) {
        snprintf(out, CLI_OWNER_SIZE, "%s", p->pw_name);
    }
    return out;
}

const char *cli_group_to_text(uint32_t gid, bool numeric, char out[CLI_OWNER_SIZE])
{
    const struct group *g = numeric ? NULL : getgrgid(gid);
    snprintf(out, CLI_OWNER_SIZE, "%u", gid);
    if (g != NULL) {
        snprintf(out, CLI_OWNER_SIZE, "%s", g->gr_name);
    }
    return out;
}
