/*
 * disk/known_priv.h -- what the kernel knows of a ring beforehand, so that it need not look it up
 * for each request: files that are used often, and memory that was lent (registered files and
 * buffers). Where it refuses, requests go as they would without. Thread: the ring's.
 *
 * A known file is kept open by the ring, too: it has to be forgotten before it is closed, or its
 * space and its name's file system stay busy. After a kill the kernel may let go of it a moment
 * after the process is gone, so that a file that is locked is never made known: its lock would be
 * found held by who comes next.
 */
#pragma once

#include "disk/request_priv.h"

struct fault;
struct io_uring;

#define DISK_KNOWN_FILES 256u
#define DISK_KNOWN_USES 64u /* transfers, before it pays to tell of a file */
#define DISK_KNOWN_PIECES 32u
#define DISK_KNOWN_PIECE_MAX (UINT64_C(1) << 30) /* the kernel's limit */

struct disk_known_piece {
    uint8_t *at; /* NULL: free */
    size_t len;
    void *lent; /* the region that it is of */
    bool known;
};

struct disk_known {
    struct io_uring *uring; /* NULL: there is none just now */
    struct fault *fault;
    bool has_files, has_pieces;
    struct disk_file *file[DISK_KNOWN_FILES];
    struct disk_known_piece piece[DISK_KNOWN_PIECES];
    unsigned piece_end; /* behind the last that is used */
};

/* A new ring is told again of the memory that is lent. */
void disk_known_open(struct disk_known *k, struct io_uring *uring);
void disk_known_close(struct disk_known *k); /* before its ring goes */
/* For one transfer: the number of the file, or -1: by its descriptor. */
int disk_known_file(struct disk_known *k, struct disk_file *f);
void disk_known_forget(struct disk_known *k, struct disk_file *f);
/* The number of the piece in which the bytes lie, or -1. */
int disk_known_piece(const struct disk_known *k, const void *at, size_t len);
/* 0, or -errno: the kernel does not take it, or there are too many; then nothing was lent. */
NODISCARD int disk_known_lend(struct disk_known *k, void *at, size_t len);
void disk_known_unlend(struct disk_known *k, const void *at);
