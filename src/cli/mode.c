/* cli/mode.c -- modes as chmod(1) takes them. */
#include "cli/mode_priv.h"

#include <string.h>

#define MODE_ALL 07777u

static bool parse_octal(const char *text, struct mode_change *ret)
{
    uint32_t mode = 0;
    for (const char *p = text; *p != 0; p++) {
        if (*p < '0' || *p > '7' || mode > 0777) {
            return false;
        }
        mode = 8 * mode + (uint32_t)(*p - '0');
    }
    *ret = (struct mode_change){.count = 1};
    ret->clause[0] =
        (struct mode_clause){.what = '=', .who = MODE_ALL, .bits = mode, .octal = true};
    return true;
}

/* "ugoa" in front of the operators. */
static const char *take_who(const char *p, uint32_t *ret)
{
    *ret = 0;
    for (;; p++) {
        switch (*p) {
        case 'u':
            *ret |= 04700;
            break;
        case 'g':
            *ret |= 02070;
            break;
        case 'o':
            *ret |= 01007;
            break;
        case 'a':
            *ret |= MODE_ALL;
            break;
        default:
            return p;
        }
    }
}

/* "rwxXst", or one of "ugo". */
static const char *take_bits(const char *p, struct mode_clause *c)
{
    static const struct {
        char letter;
        uint32_t bits;
    } letters[] = {{'r', 0444}, {'w', 0222}, {'x', 0111}, {'s', 06000}, {'t', 01000}};
    if (*p == 'u' || *p == 'g' || *p == 'o') {
        c->copy = *p == 'u' ? 0700 : *p == 'g' ? 070 : 07;
        return p + 1;
    }
    for (;; p++) {
        bool known = *p == 'X';
        c->if_any_x = c->if_any_x || known;
        for (size_t i = 0; i < ARRAY_COUNT(letters); i++) {
            known = known || *p == letters[i].letter;
            c->bits |= *p == letters[i].letter ? letters[i].bits : 0;
        }
        if (!known) {
            return p;
        }
    }
}

bool cli_mode_parse(const char *text, uint32_t umask, struct mode_change *ret)
{
    struct mode_change m = {.count = 0};
    if (text[0] >= '0' && text[0] <= '9') {
        return parse_octal(text, ret);
    }
    for (const char *p = text;; p++) {
        uint32_t who;
        p = take_who(p, &who);
        if (*p != '+' && *p != '-' && *p != '=') {
            return false;
        }
        while (*p == '+' || *p == '-' || *p == '=') {
            if (m.count == MODE_CLAUSES_MAX) {
                return false;
            }
            struct mode_clause *c = &m.clause[m.count++];
            *c = (struct mode_clause){.what = *p, .who = who == 0 ? MODE_ALL : who};
            c->keep = who == 0 ? umask & 0777 : 0;
            p = take_bits(p + 1, c);
        }
        if (*p == 0) {
            *ret = m;
            return true;
        }
        if (*p != ',') {
            return false;
        }
    }
}

static uint32_t clause_bits(const struct mode_clause *c, uint32_t mode, bool directory)
{
    uint32_t bits = c->bits;
    if (c->if_any_x && (directory || (mode & 0111) != 0)) {
        bits |= 0111;
    }
    if (c->copy != 0) {
        uint32_t three = mode & c->copy;
        three = c->copy == 0700 ? three >> 6 : c->copy == 070 ? three >> 3 : three;
        bits |= three << 6 | three << 3 | three;
    }
    return bits & c->who & ~c->keep;
}

uint32_t cli_mode_apply(const struct mode_change *m, uint32_t mode, bool directory)
{
    mode &= MODE_ALL;
    for (size_t i = 0; i < m->count; i++) {
        const struct mode_clause *c = &m->clause[i];
        uint32_t bits = c->octal ? c->bits : clause_bits(c, mode, directory);
        /* "=" leaves the set-id bits of a directory alone, as chmod(1) does. */
        uint32_t special = directory && !c->octal ? 06000 : 0;
        if (c->what == '+') {
            mode |= bits;
        } else if (c->what == '-') {
            mode &= ~bits;
        } else {
            mode = (mode & (~c->who | special)) | bits;
        }
    }
    return mode;
}
