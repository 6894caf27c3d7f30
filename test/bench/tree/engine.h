/*
 * bench/tree/engine.h -- the engines that are compared, behind one table of calls. One thread; a
 * failure ends the program with a message, for a benchmark that goes on is worth nothing.
 *
 * Changes come in groups (begin .. end), which other engines than ours may gather into larger
 * transactions. Reads see all changes that were ended.
 */
#pragma once

#include "base/base.h"
#include "kv/batch.h"

#define ENGINE_VALUE_MAX 4096u

struct engine {
    const char *name;
    void (*open)(const char *directory, uint64_t cache_bytes, bool create);
    void (*close)(void); /* all is durable */
    void (*begin)(void);
    void (*put)(struct kv_slice key, struct kv_slice value);
    void (*remove)(struct kv_slice key);
    void (*end)(void);
    bool (*get)(struct kv_slice key, uint8_t *value, size_t *ret_len);
    /* From the first key >= `from` on, while `see` says true. */
    void (*scan)(struct kv_slice from, bool (*see)(struct kv_slice key, struct kv_slice value));
    void (*checkpoint)(void); /* blocks until what was ended is durable */
    /* May be NULL. Adds 1 to the 64-bit number at an offset of a value, without reading it. */
    void (*add)(struct kv_slice key, uint16_t offset, uint32_t value_len);
    void (*remove_range)(struct kv_slice low, struct kv_slice high);
    /* The engine's own way to begin a checkpoint in the background, the next one in so many
     * seconds, and whether it is over; both NULL: another thread calls checkpoint(). */
    void (*checkpoint_begin)(double seconds);
    bool (*checkpoint_over)(void);
    void (*say)(void); /* statistics to standard error; may be NULL */
};

extern const struct engine engine_ours;
#ifdef WITH_ROCKSDB
extern const struct engine engine_rocksdb;
#endif
#ifdef WITH_LMDB
extern const struct engine engine_lmdb;
#endif
#ifdef WITH_WIREDTIGER
extern const struct engine engine_wiredtiger;
#endif

_Noreturn void engine_die(const char *what, const char *why);
