/* cli/complete_priv.h -- command lines of a shell, as far as completion must know them. */
#pragma once

#include "cli/cli_priv.h"
#include "cli/tables_priv.h"

#define COMPLETE_WORDS_MAX 256u

struct complete_line {
    char *memory; /* owned; the words are in it */
    const char *word[COMPLETE_WORDS_MAX];
    size_t count; /* the last one may be empty: it is what is to be completed */
    char quote;   /* the last word is inside of these, or 0 */
    size_t skip;  /* bytes of the last word in front of where the shell lets it begin */
};
/* Splits as a shell does, without expanding anything. `breaks`: COMP_WORDBREAKS. -ENOMEM, -E2BIG.
 */
NODISCARD int cli_complete_split(const char *line, const char *breaks, struct complete_line *ret);
void cli_complete_line_fini(struct complete_line *l);
/* What the shell is to put in place of the end of the last word, so that this becomes the word.
 * mem_free()d by the caller; NULL: no memory. */
NODISCARD char *cli_complete_quote(const struct complete_line *l, const char *word);
