/*
 * base/log.h -- structured log: a message, a level, named fields, a trace id. The sink is set by
 * who assembles the process. Libraries do not log what they return; the edge logs once.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

enum log_kind { LOG_KIND_END, LOG_KIND_TEXT, LOG_KIND_U64, LOG_KIND_I64, LOG_KIND_HEX };
struct log_field {
    const char *name;
    enum log_kind kind;
    union {
        const char *text;
        uint64_t u64;
        int64_t i64;
    } value;
};

#define LOG_TEXT(n, v) ((struct log_field){.name = (n), .kind = LOG_KIND_TEXT, .value.text = (v)})
#define LOG_U64(n, v) ((struct log_field){.name = (n), .kind = LOG_KIND_U64, .value.u64 = (v)})
#define LOG_I64(n, v) ((struct log_field){.name = (n), .kind = LOG_KIND_I64, .value.i64 = (v)})
#define LOG_HEX(n, v) ((struct log_field){.name = (n), .kind = LOG_KIND_HEX, .value.u64 = (v)})
#define LOG_RC(v) LOG_TEXT("error", err_text(v))

struct log;
#define LOG_LINE_SIZE 2048u /* longest fields, and longest line of a sink that asks for no more */
struct log_line {           /* what a sink gets; lent for the call */
    enum log_level level;
    uint64_t wall_ns;
    uint64_t trace;
    const char *node; /* "meta", "data.1" */
    const char *message;
    const char *fields; /* "path=/x chunk=3", values quoted where needed; "" for none */
};
struct log_sink {
    void (*write)(struct log_sink *s, const struct log_line *line);
};
struct log_options {
    const char *node;
    enum log_level level;
    struct log_sink *sink;            /* must outlive the log; NULL: nothing is wanted */
    uint64_t (*wall_ns)(void *clock); /* may be NULL: time 0 */
    void *clock;
};
/* A log is used from any thread if its sink and clock can be. Never allocates after log_new. */
NODISCARD struct log *log_new(const struct log_options *opt);
struct log *log_free(struct log *l);
DEFINE_FREEP(log)
void log_set_level(struct log *l, enum log_level level);
bool log_wants(const struct log *l, enum log_level level); /* l may be NULL: false */

/*
 * `fields` (NULL: none) end with a LOG_KIND_END field; use the macros. A text value is quoted when
 * it is empty or holds a blank, quote, backslash, '=' or control byte; inside quotes these are \"
 * \\ \n \r \t \xNN, also for bytes that are not UTF-8. A NULL text is shown as -. Fields that do
 * not fit LOG_LINE_SIZE are cut, with "..." as the mark.
 */
void log_write(struct log *l, enum log_level level, uint64_t trace, const char *message,
               const struct log_field *fields);
#define LOG_AT(l, level, trace, message, ...)                                                      \
    (log_wants((l), (level))                                                                       \
         ? log_write((l), (level), (trace), (message),                                             \
                     (const struct log_field[]){__VA_ARGS__ __VA_OPT__(, ){.kind = LOG_KIND_END}}) \
         : (void)0)
#define log_error(l, message, ...) LOG_AT(l, LOG_ERROR, 0, message __VA_OPT__(, ) __VA_ARGS__)
#define log_warn(l, message, ...) LOG_AT(l, LOG_WARN, 0, message __VA_OPT__(, ) __VA_ARGS__)
#define log_info(l, message, ...) LOG_AT(l, LOG_INFO, 0, message __VA_OPT__(, ) __VA_ARGS__)
#define log_debug(l, message, ...) LOG_AT(l, LOG_DEBUG, 0, message __VA_OPT__(, ) __VA_ARGS__)

/*
 * One line of text as written to standard error, without newline:
 * "2026-11-21T10:00:00.123Z info meta message trace=00000000000000a1 k=v". Control bytes of the
 * message are escaped, so that one call is always one line. Cut with "..." at `size` (> 0); returns
 * its length.
 */
size_t log_line_to_text(const struct log_line *line, char *out, size_t size);
const char *log_level_name(enum log_level level); /* "error", "warn", "info", "debug" */
