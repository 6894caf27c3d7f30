/*
 * tree/check.h -- is a tree file sound? For a file that nobody writes. Changes nothing, goes on
 * behind what is damaged, and says of each damage where it is, which keys and about how many
 * records are affected, and what to do.
 *
 * Levels, each with those before it:
 *   1  superblocks, translation table, lists; who uses which space
 *   2  header and pivots of every node, the way from the root to each; of segments head and index
 *   3  every partition and every block of a segment: order, fences, counts, filters
 *   4  between levels: messages above are newer than those below; bodies of messages
 *
 * Blocks. One thread. Memory: 80 bytes for each block of the table, one node with the partitions of
 * one slot for each level of the tree, one partition of up to 4 MiB at a time.
 */
#pragma once

#include "base/err.h"
#include "kv/batch.h"
#include "tree/line.h"

struct disk;

#define TREE_CHECK_LEVEL_MAX 4u
#define TREE_FINDING_NONE UINT64_MAX

enum tree_finding_severity {
    TREE_FINDING_NOTE,    /* as it may be */
    TREE_FINDING_WARNING, /* nothing is lost, but it should not be so */
    TREE_FINDING_DAMAGE,
};
/* Everything is lent for the call. Numbers that do not apply: TREE_FINDING_NONE. */
struct tree_finding {
    enum tree_finding_severity severity;
    const char *code; /* a word for programs: "node", "partition", "overlap" */
    const char *text;
    const char *advice;   /* NULL: none */
    uint64_t checkpoint;  /* whose */
    uint64_t offset, len; /* in the file */
    uint64_t block, partition, segment;
    bool ranged;               /* keys low <= key < high are affected; empty: no bound */
    struct kv_slice low, high; /* as fences are */
    uint64_t records;          /* affected, about */
};
const char *tree_finding_severity(const struct tree_finding *f); /* "damage" */
/* What is said about a finding, cut where it does not fit. */
#define TREE_FINDING_TEXT 240u
void tree_finding_text(char out[TREE_FINDING_TEXT], const char *fmt, ...) PRINTF_LIKE(2, 3);
/* As a line. -ENOMEM. */
NODISCARD int tree_finding_print(const struct tree_finding *f, struct tree_line *l,
                                 const struct tree_lines *to);

struct tree_check_options {
    struct disk *disk;
    const char *path;
    unsigned level;
    bool older; /* the other retained checkpoint */
    void (*found)(void *arg, const struct tree_finding *f);
    void *arg;
};
struct tree_check_result {
    uint64_t checkpoint, applied_index; /* that was checked; 0: there is none */
    uint64_t notes, warnings, damages;
    uint64_t nodes, leaves, partitions, segments, records, messages, read_bytes;
    bool changed; /* somebody wrote the file meanwhile: findings say nothing */
};
/* 0, whatever was found; else it could not be checked: -ENOENT (no file, no older checkpoint),
 * -ENOMEM, other errors of opening. */
NODISCARD int tree_check(const struct tree_check_options *opt, struct tree_check_result *ret,
                         struct err *e);
