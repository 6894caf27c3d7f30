/*
 * namespace/fsck.h -- do all records of the metadata agree with each other?
 *
 * A pure function over a view: one pass over all records in key order, each checked against those
 * that it names and that must name it, with what runs of neighbours add up to; at the end the
 * counters of the state against what was seen. There is no recursion and no table of all inodes:
 * that every directory reaches the root follows from the heights of their statistics, which rise
 * from each directory to the one above it.
 *
 * Works in bounded steps on one snapshot. Any thread that may read it.
 */
#pragma once

#include "namespace/query.h"

#define NAMESPACE_FSCK_TEXT 200u
struct namespace_finding {
    const char *code; /* "name.dangling": for programs; constant */
    uint64_t data_id; /* of NAMESPACE_FSCK_DATA */
    uint64_t ino;     /* what it is about; 0: no inode */
    char text[NAMESPACE_FSCK_TEXT];
    char path[NAMESPACE_TRASH_PATH_MAX + 1]; /* of the inode, as far as it is known */
};

/* A run of neighbours: names of one directory, links or attributes or writers of one inode. */
struct namespace_fsck_run {
    uint8_t range; /* 0: none */
    uint64_t id;
    uint64_t count, bytes, directories, alone, unflushed;
    struct namespace_dir_stats sum;
};

/* The code of a finding that only says whose data it is. */
#define NAMESPACE_FSCK_DATA "data.of"

/* Start with all zero, or with data ids: then nothing is checked, and for each file that has one of
 * them that is told. Call until `done` on the same snapshot. */
struct namespace_fsck {
    const uint64_t *data_id; /* ascending, lent; NULL: check */
    size_t data_count;
    uint64_t records;  /* looked at */
    uint64_t findings; /* told */
    bool done;
    /* private */
    struct namespace_key after;
    struct namespace_fsck_run run;
    struct namespace_state seen; /* its counters, from the records */
    uint64_t trash_expiries;
};

/* Told once for each, in the order of the keys. */
struct namespace_fsck_sink {
    void (*found)(struct namespace_fsck_sink *s, const struct namespace_finding *f);
};

/* Looks at up to `max` records. -ERR_need: the next one lacks something, and those behind it list
 * theirs: fetch and call again; with 0 the caller releases the need list. The arena is reset before
 * each call. -ENOMEM, -ENOBUFS,
 * -ECANCELED (the snapshot was given up: start again with zero on a new one), class EIO. */
NODISCARD int namespace_fsck_step(const struct namespace_view *v, size_t max,
                                  struct namespace_fsck *f, struct namespace_fsck_sink *sink);
