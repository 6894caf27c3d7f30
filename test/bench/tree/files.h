/* bench/tree/files.h -- what a file system does with its records; and the files of an engine. */
#pragma once

#include "measure.h"

struct bench_options {
    const char *directory;
    uint64_t records, gets, dirs;
    double seconds, interval, rate;
    double number[4]; /* as given */
};

/*
 * inode  'I' number (8 bytes, big-endian) -> 120 bytes
 * name   'D' directory name              -> 16 bytes: number, type
 *
 * create  get of the name (absent), put name and inode, change the directory's inode
 * stat    get name and inode              readdir  all names of a directory
 * rename  get name, remove, get and put the other, change two directories
 * unlink  get name, remove it and its inode, change the directory
 * rmdir   a directory of a tenth of all files is removed as a range, then what lies behind is read
 * aging   create and unlink by turns over the same names; aged_scan, aged_stat: all records in
 * order, and stat, after that A directory is changed by an upsert where an engine has them, else by
 * get and put.
 */
void files_mixes(const struct engine *e, const struct bench_options *o);
void files_stall(const struct engine *e, const struct bench_options *o);

/* How many records a directory has, beside it. */
void files_remember(const char *directory, uint64_t records);
/* Reads it, and drops what the kernel has of the files. */
uint64_t files_forget(const char *directory);
