/* cli/mode_priv.h -- what people write for modes, times, owners and sizes. No I/O but the machine's
 * own list of users. */
#pragma once

#include "base/base.h"

/* "0755", "u+rwX,g=u,o-w,+t": clauses from left to right. */
#define MODE_CLAUSES_MAX 16u
struct mode_change {
    struct mode_clause {
        char what;     /* '+', '-', '=' */
        uint32_t who;  /* the bits of those it is about, with their setuid, setgid, sticky */
        uint32_t bits; /* rwxst, for all: masked by `who` */
        uint32_t copy; /* 0700, 070, 07: the bits of these; 0: none */
        uint32_t keep; /* of those it is about, what stays as it is: the umask's */
        bool if_any_x; /* "X" */
        bool octal;    /* all bits at once */
    } clause[MODE_CLAUSES_MAX];
    size_t count;
};
/* `umask` counts where nobody is named ("+w"). False: it is not a mode. */
bool cli_mode_parse(const char *text, uint32_t umask, struct mode_change *ret);
uint32_t cli_mode_apply(const struct mode_change *m, uint32_t mode, bool directory);

/* "2026-11-21", "2026-11-21 10:15", "...:30", "...:30.5", with "T" instead of the space, with "Z"
 * or
 * "+01:00" behind it (else local time); "@SECONDS[.FRACTION]". */
bool cli_time_parse(const char *text, int64_t *ret_ns);
/* touch -t: [[CC]YY]MMDDhhmm[.ss] of local time; `now_ns` tells the year. */
bool cli_time_parse_stamp(const char *text, int64_t now_ns, int64_t *ret_ns);

/* "[+|-]N[ckMGT]": more than, less than, or just that. */
struct size_test {
    char sign;
    uint64_t value;
};
bool cli_size_test_parse(const char *text, bool units, struct size_test *ret);
bool cli_size_test(const struct size_test *t, uint64_t value);

/* "user", "user:group", "user:" (the user's own group), ":group"; names or numbers. */
struct owner_change {
    bool set_uid, set_gid;
    uint32_t uid, gid;
};
/* NULL: good; else what this machine does not know, in words. */
const char *cli_owner_parse(const char *text, struct owner_change *ret);
/* The name, or the number when this machine has none for it. Returns `out`. */
#define CLI_OWNER_SIZE 64u
const char *cli_user_to_text(uint32_t uid, bool numeric, char out[CLI_OWNER_SIZE]);
const char *cli_group_to_text(uint32_t gid, bool numeric, char out[CLI_OWNER_SIZE]);
