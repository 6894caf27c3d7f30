/* cli/complete_line.c -- see complete_priv.h. */
#include "cli/complete_priv.h"

#include "base/mem.h"

#include <string.h>

struct split {
    const char *at, *breaks;
    char *out;
    struct complete_line *l;
    const char *word; /* the current one; NULL: between words */
};

static bool is_blank(char ch)
{
    return ch == ' ' || ch == '\t' || ch == '\n';
}

static int begin_word(struct split *s)
{
    if (s->l->count == COMPLETE_WORDS_MAX) {
        return -E2BIG;
    }
    s->word = s->out;
    s->l->word[s->l->count++] = s->out;
    s->l->skip = 0;
    return 0;
}

static void end_word(struct split *s)
{
    *s->out++ = 0;
    s->word = NULL;
}

/* One byte of the line, which is not a blank outside of quotes. */
static void take(struct split *s)
{
    char ch = *s->at, *quote = &s->l->quote;
    if (ch == *quote && ch != 0) {
        *quote = 0;
    } else if (*quote == 0 && (ch == '"' || ch == '\'')) {
        *quote = ch;
        s->l->skip = (size_t)(s->out - s->word);
    } else if (ch == '\\' && *quote != '\'' && s->at[1] != 0) {
        bool plain = *quote == '"' && strchr("\"\\$`", s->at[1]) == NULL;
        if (plain) {
            *s->out++ = ch;
        }
        *s->out++ = *++s->at;
    } else {
        *s->out++ = ch;
        if (*quote == 0 && strchr(s->breaks, ch) != NULL) {
            s->l->skip = (size_t)(s->out - s->word);
        }
    }
}

int cli_complete_split(const char *line, const char *breaks, struct complete_line *ret)
{
    *ret = (struct complete_line){.memory = mem_alloc(strlen(line) + 2)};
    struct split s = {.at = line, .breaks = breaks, .out = ret->memory, .l = ret};
    if (ret->memory == NULL) {
        return -ENOMEM;
    }
    for (; *s.at != 0; s.at++) {
        if (ret->quote == 0 && is_blank(*s.at)) {
            if (s.word != NULL) {
                end_word(&s);
            }
            continue;
        }
        int rc = s.word == NULL ? begin_word(&s) : 0;
        if (rc < 0) {
            return rc;
        }
        take(&s);
    }
    int rc = s.word == NULL ? begin_word(&s) : 0;
    if (rc == 0) {
        end_word(&s);
    }
    return rc;
}

void cli_complete_line_fini(struct complete_line *l)
{
    mem_free(l->memory);
    l->memory = NULL;
}

char *cli_complete_quote(const struct complete_line *l, const char *word)
{
    size_t len = strlen(word);
    char *out = mem_alloc(2 * len + 1), *to = out;
    if (out == NULL) {
        return NULL;
    }
    const char *special = l->quote == '"'    ? "\"\\$`"
                          : l->quote == '\'' ? ""
                                             : " \t\"'\\$`&|;<>()*?[]{}!#~";
    for (size_t i = base_min(l->skip, len); i < len; i++) {
        if (strchr(special, word[i]) != NULL) {
            *to++ = '\\';
        }
        *to++ = word[i];
    }
    *to = 0;
    return out;
}
