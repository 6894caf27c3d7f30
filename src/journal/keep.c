/*
 * journal/keep.c -- segments that were trimmed and are kept for reuse: so that a journal that gives
 * space back never needs new space to do it, also when others have taken all that is free.
 *
 * Such a file is called .old and says nothing: what its batches were is void, for they do not fit
 * the header that it gets when it becomes a segment again (its nonce is in all their checksums).
 */
#include "journal/journal_priv.h"

#define KEEP_UNIT 4096u

static unsigned keep_largest(const struct journal *j)
{
    unsigned best = 0;
    for (unsigned i = 1; i < j->kept_count; i++) {
        best = j->kept[i].bytes > j->kept[best].bytes ? i : best;
    }
    return best;
}

uint64_t journal_keep_most(const struct journal *j)
{
    return j->kept_count == 0 ? 0 : j->kept[keep_largest(j)].bytes;
}

static void keep_drop(struct journal *j, unsigned i)
{
    j->kept[i] = j->kept[--j->kept_count];
}

struct journal_kept journal_keep_take(struct journal *j)
{
    unsigned best = keep_largest(j);
    CHECK(j->kept_count > 0);
    struct journal_kept k = j->kept[best];
    keep_drop(j, best);
    return k;
}

uint64_t journal_keep_bytes(const struct journal *j, uint64_t bytes)
{
    uint64_t least = base_max(j->least_bytes, 4 * (uint64_t)JOURNAL_DATA_OFFSET);
    bytes = bytes / KEEP_UNIT * KEEP_UNIT;
    return j->keep_segments == 0 || bytes < least || bytes / 4 < j->max_record_bytes ? 0 : bytes;
}

/* The file of that name is kept already, or on its way to become a segment again. */
static bool keep_has(const struct journal *j, uint64_t number)
{
    bool has = j->prepare.taken == number && number != 0;
    for (unsigned i = 0; i < j->kept_count && !has; i++) {
        has = j->kept[i].number == number;
    }
    return has;
}

bool journal_keep_wants(const struct journal *j, uint64_t number, uint64_t bytes)
{
    if (keep_has(j, number)) {
        return false;
    }
    bool room = j->kept_count < j->keep_segments;
    for (unsigned i = 0; i < j->kept_count && !room; i++) {
        room = bytes > j->kept[i].bytes;
    }
    return room && journal_keep_bytes(j, bytes) > 0;
}

bool journal_keep_add(struct journal *j, uint64_t number, uint64_t bytes, uint64_t *ret_surplus)
{
    CHECK(j->kept_count < JOURNAL_KEEP_MAX + 1);
    j->kept[j->kept_count++] =
        (struct journal_kept){.number = number, .bytes = journal_keep_bytes(j, bytes)};
    if (j->kept_count <= j->keep_segments) {
        return false;
    }
    unsigned least = 0;
    for (unsigned i = 1; i < j->kept_count; i++) {
        least = j->kept[i].bytes < j->kept[least].bytes ? i : least;
    }
    *ret_surplus = j->kept[least].number;
    keep_drop(j, least);
    return true;
}
