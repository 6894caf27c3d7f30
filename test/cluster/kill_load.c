/*
 * kill_load -- a mixed load on names with hundreds of operations under way, for kill_loop_test.sh,
 * and the audit of what it was told.
 *
 *   kill_load run CLUSTER JOURNAL SEED SECONDS    works, ends when all that was begun is answered
 *   kill_load audit CLUSTER JOURNAL               is all of it there, and nothing else?
 *
 * Each lane works in a directory of its own, does one thing after the other and knows what every
 * answer must be: the servers are killed meanwhile, but a retry is never told of its own work. What
 * a lane does follows from seed, lane and the number of the operation, so the journal holds only
 * the numbers of those that were answered; each is written before the lane goes on. When this
 * program was killed, the operation behind a lane's last may have happened or not.
 */
#include "opendfs/async.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LANES 300u
#define NAMES 10u
#define NAMES_ABOVE 6u /* the others are in a directory below */
#define LARGE_BYTES 9000u
#define INLINE_BYTES 200u
#define PATH_BYTES 64u

enum kind { CREATE, SYMLINK, RENAME, LINK, UNLINK, CHMOD, WRITE, STAT, READ, LIST, KINDS };
static const char *const kind_names[] = {"create", "symlink", "rename", "link", "unlink",
                                         "chmod",  "write",   "stat",   "read", "list"};
enum step { MAKE_DIRS, ONLY, OPEN, DATA, SYNC, CLOSE };

struct inode {
    bool link;              /* symbolic */
    unsigned names;         /* 0: free */
    uint32_t mode, content; /* content: number of the operation that wrote it */
    bool large, any;        /* any: may hold anything */
};
struct model {
    struct inode inode[NAMES + 1];
    int entry[NAMES]; /* inode, or -1 */
};
struct doing {
    enum kind kind;
    unsigned a, b, flags;
    uint32_t mode;
    bool below; /* which directory is listed */
};
struct load;
struct lane {
    struct load *load;
    unsigned index;
    struct model model;
    uint32_t number; /* of the operation under way */
    struct doing doing;
    int expected; /* negative errno or 0 */
    enum step step;
    struct opendfs_op op;
    struct opendfs_file *file;
    struct opendfs_stat values;
    unsigned audit;             /* next check */
    bool differs, and_one_more; /* of an audit: not as after the last answer; nor ... */
    char path[PATH_BYTES], to[PATH_BYTES], text[PATH_BYTES];
    uint8_t bytes[LARGE_BYTES + 1], out[LARGE_BYTES];
};
struct load {
    struct opendfs *fs;
    bool auditing, whole; /* whole: the journal has an end, nothing was left under way */
    int journal;
    uint64_t seed;
    struct timespec until;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    unsigned running;
    uint64_t operations, failures, found; /* found: operations that nobody was told of */
    uint32_t answered[LANES];
    struct lane lane[LANES];
};

/* ---- What a lane does ---- */

static uint64_t mix(uint64_t v)
{
    v += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    v = (v ^ v >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    v = (v ^ v >> 27) * UINT64_C(0x94d049bb133111eb);
    return v ^ v >> 31;
}

static struct doing choose(const struct load *l, unsigned lane, uint32_t number)
{
    static const uint8_t weights[KINDS] = {
        [CREATE] = 26, [SYMLINK] = 3, [RENAME] = 18, [LINK] = 10, [UNLINK] = 22,
        [CHMOD] = 8,   [WRITE] = 1,   [STAT] = 6,    [READ] = 3,  [LIST] = 3};
    uint64_t r = mix(l->seed ^ mix((uint64_t)lane << 32 | number));
    unsigned at = (unsigned)(r % 100), kind = 0;
    while (at >= weights[kind]) {
        at -= weights[kind++];
    }
    return (struct doing){.kind = (enum kind)kind,
                          .a = (unsigned)(r >> 8) % NAMES,
                          .b = (unsigned)(r >> 16) % NAMES,
                          .flags = (unsigned)(r >> 24) % 3, /* 1, 2: the public ones */
                          .mode = (uint32_t)(r >> 32) & 0777,
                          .below = (r >> 44 & 1) != 0};
}

static void fill(uint8_t *bytes, size_t len, unsigned lane, uint32_t content)
{
    uint64_t v = mix((uint64_t)lane << 32 | content);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(v >> i % 7 * 8);
    }
}

static void path_of(unsigned lane, unsigned name, char out[PATH_BYTES])
{
    snprintf(out, PATH_BYTES, "/k/%u/%sn%u", lane, name < NAMES_ABOVE ? "" : "d/", name);
}

static void model_init(struct model *m)
{
    memset(m, 0, sizeof *m);
    for (unsigned i = 0; i < NAMES; i++) {
        m->entry[i] = -1;
    }
}

static struct inode *at(struct model *m, unsigned name)
{
    return m->entry[name] < 0 ? NULL : &m->inode[m->entry[name]];
}

static void put_new(struct model *m, unsigned name, struct inode n)
{
    int i = 0;
    while (m->inode[i].names > 0) {
        i++; /* one more than there are names */
    }
    n.names = 1;
    m->inode[i] = n;
    m->entry[name] = i;
}

static void drop(struct model *m, unsigned name)
{
    if (m->entry[name] >= 0) {
        m->inode[m->entry[name]].names--;
        m->entry[name] = -1;
    }
}

static int model_rename(struct model *m, const struct doing *d)
{
    bool exchange = d->flags == OPENDFS_RENAME_EXCHANGE;
    if (at(m, d->a) == NULL) {
        return -ENOENT;
    }
    if (d->flags == OPENDFS_RENAME_NOREPLACE && at(m, d->b) != NULL) {
        return -EEXIST;
    }
    if (exchange && at(m, d->b) == NULL) {
        return -ENOENT;
    }
    if (at(m, d->a) == at(m, d->b)) {
        return 0;
    }
    int a = m->entry[d->a], b = m->entry[d->b];
    if (!exchange) {
        drop(m, d->b);
        b = -1;
    }
    m->entry[d->a] = b;
    m->entry[d->b] = a;
    return 0;
}

static int model_link(struct model *m, const struct doing *d)
{
    if (at(m, d->a) == NULL) {
        return -ENOENT;
    }
    if (at(m, d->b) != NULL) {
        return -EEXIST;
    }
    m->entry[d->b] = m->entry[d->a];
    at(m, d->a)->names++;
    return 0;
}

/* Does it in the model; what the answer must be. */
static int model_do(struct model *m, const struct doing *d, uint32_t number)
{
    struct inode *n = at(m, d->a);
    bool makes = d->kind == CREATE || d->kind == SYMLINK;
    if (makes && n != NULL) {
        return -EEXIST;
    }
    if (makes || (d->kind == WRITE && n == NULL)) {
        bool write = d->kind == WRITE;
        put_new(m, d->a,
                (struct inode){.link = d->kind == SYMLINK,
                               .mode = write ? 0644 : d->mode,
                               .content = number,
                               .large = write});
        return 0;
    }
    if (d->kind == RENAME || d->kind == LINK) {
        return d->kind == RENAME ? model_rename(m, d) : model_link(m, d);
    }
    if (d->kind == LIST) {
        return 0;
    }
    if (n == NULL) {
        return -ENOENT;
    }
    if (d->kind == UNLINK) {
        drop(m, d->a);
    } else if (d->kind == CHMOD) {
        n->mode = d->mode;
    } else if (d->kind == WRITE) {
        n->content = number;
        n->large = true;
    }
    return 0;
}

/* Symbolic links lead nowhere: what would follow them looks at them instead. */
static struct doing next_doing(struct load *l, struct lane *a, uint32_t number)
{
    struct doing d = choose(l, a->index, number);
    const struct inode *n = at(&a->model, d.a);
    bool follows = d.kind == CHMOD || d.kind == WRITE || d.kind == READ;
    d.kind = n != NULL && n->link && follows ? STAT : d.kind;
    return d;
}

/* ---- Starting ---- */

static void arrived(struct opendfs_op *op);

static void start_file(struct lane *a)
{
    struct opendfs *fs = a->load->fs;
    bool reads = a->doing.kind == READ;
    if (a->step == OPEN) {
        opendfs_async_open(fs, &a->op, a->path,
                           reads ? OPENDFS_READ : OPENDFS_WRITE | OPENDFS_CREATE | OPENDFS_TRUNCATE,
                           0644);
    } else if (a->step == SYNC) {
        opendfs_async_fsync(fs, &a->op, a->file);
    } else if (a->step == CLOSE) {
        opendfs_async_close(fs, &a->op, a->file, NULL, 0);
    } else if (reads) {
        opendfs_async_pread(fs, &a->op, a->file, a->bytes, sizeof a->bytes, 0);
    } else {
        opendfs_async_pwrite(fs, &a->op, a->file, a->out, LARGE_BYTES, 0);
    }
}

static void start_name(struct lane *a)
{
    struct opendfs *fs = a->load->fs;
    const struct doing *d = &a->doing;
    a->values = (struct opendfs_stat){.mode = d->mode};
    switch (d->kind) {
    case CREATE:
        opendfs_async_create(fs, &a->op, a->path, &a->values, OPENDFS_SET_MODE, a->out,
                             INLINE_BYTES);
        break;
    case SYMLINK:
        snprintf(a->text, sizeof a->text, "nowhere/%u", a->number);
        opendfs_async_symlink(fs, &a->op, a->text, a->path, NULL, 0);
        break;
    case RENAME:
        opendfs_async_rename(fs, &a->op, a->path, a->to, d->flags);
        break;
    case LINK:
        opendfs_async_link(fs, &a->op, a->path, a->to);
        break;
    case UNLINK:
        opendfs_async_unlink(fs, &a->op, a->path);
        break;
    case CHMOD:
        opendfs_async_setattr(fs, &a->op, a->path, &a->values, OPENDFS_SET_MODE);
        break;
    case STAT:
        opendfs_async_lstat(fs, &a->op, a->path);
        break;
    case LIST:
        snprintf(a->path, sizeof a->path, "/k/%u%s", a->index, d->below ? "/d" : "");
        opendfs_async_list(fs, &a->op, a->path, NULL, 0);
        break;
    case WRITE:
    case READ:
    case KINDS:
        abort();
    }
}

static void start(struct lane *a, enum step step)
{
    a->step = step;
    memset(&a->op, 0, sizeof a->op);
    a->op.done = arrived;
    a->op.context = a;
    if (step == MAKE_DIRS) {
        snprintf(a->path, sizeof a->path, "/k/%u/d", a->index);
        opendfs_async_make_directories(a->load->fs, &a->op, a->path, 0755);
    } else if (step == ONLY) {
        start_name(a);
    } else {
        start_file(a);
    }
}

static void begin(struct lane *a)
{
    path_of(a->index, a->doing.a, a->path);
    path_of(a->index, a->doing.b, a->to);
    fill(a->out, sizeof a->out, a->index, a->number);
    start(a, a->doing.kind == WRITE || a->doing.kind == READ ? OPEN : ONLY);
}

static void end_lane(struct lane *a)
{
    struct load *l = a->load;
    pthread_mutex_lock(&l->lock);
    l->running--;
    pthread_cond_signal(&l->ended);
    pthread_mutex_unlock(&l->lock);
}

static bool time_is_over(const struct load *l)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec > l->until.tv_sec ||
           (now.tv_sec == l->until.tv_sec && now.tv_nsec >= l->until.tv_nsec);
}

/* What was under way when this program was killed may have happened: looks again, as if it had. */
static void take_one_more(struct lane *a)
{
    struct doing d = next_doing(a->load, a, a->number + 1);
    (void)model_do(&a->model, &d, a->number + 1);
    struct inode *n = at(&a->model, d.a);
    if (d.kind == WRITE && n != NULL) {
        n->any = true;
    }
    a->load->found++;
    a->and_one_more = true;
    a->differs = false;
    a->audit = 0;
}

static void next(struct lane *a)
{
    struct load *l = a->load;
    if (l->auditing) {
        if (a->audit == NAMES + 2 && a->differs) {
            take_one_more(a);
        }
        if (a->audit == NAMES + 2 || l->failures > 20) {
            end_lane(a);
            return;
        }
        unsigned check = a->audit++;
        const struct inode *n = check < NAMES ? at(&a->model, check) : NULL;
        a->doing = check >= NAMES
                       ? (struct doing){.kind = LIST, .below = check > NAMES}
                       : (struct doing){.kind = n != NULL && !n->link ? READ : STAT, .a = check};
        a->expected = check < NAMES && n == NULL ? -ENOENT : 0;
    } else if (time_is_over(l) || l->failures > 0) {
        end_lane(a);
        return;
    } else {
        a->number++;
        a->doing = next_doing(l, a, a->number);
        a->expected = model_do(&a->model, &a->doing, a->number);
    }
    begin(a);
}

/* ---- Answers ---- */

static void wrong(struct lane *a, const char *what)
{
    struct load *l = a->load;
    if (l->auditing && !l->whole && !a->and_one_more) {
        a->differs = true;
        return;
    }
    if (l->failures++ < 10) {
        fprintf(stderr, "%s %s %s%s(lane %u, operation %u): %s; it said %lld %s, not %d\n",
                kind_names[a->doing.kind], a->path, a->doing.kind == RENAME ? a->to : "",
                a->doing.kind == RENAME ? " " : "", a->index, a->number, what,
                (long long)a->op.result, a->op.error, a->expected);
    }
}

static void check_stat(struct lane *a)
{
    const struct inode *n = at(&a->model, a->doing.a);
    const struct opendfs_stat *st = &a->op.stat;
    uint32_t type = n->link ? OPENDFS_TYPE_SYMLINK : OPENDFS_TYPE_FILE;
    uint64_t size = n->large ? LARGE_BYTES : INLINE_BYTES;
    if (st->type != type || st->nlink != n->names ||
        (!n->link && (st->mode != n->mode || st->size_bytes != size))) {
        wrong(a, "another type, number of names, mode or size");
    }
}

static void check_list(struct lane *a)
{
    size_t count = 0;
    unsigned first = a->doing.below ? NAMES_ABOVE : 0;
    unsigned end = a->doing.below ? NAMES : NAMES_ABOVE;
    for (unsigned i = first; i < end; i++) {
        count += at(&a->model, i) != NULL ? 1 : 0;
    }
    size_t seen = 0;
    for (size_t i = 0; i < a->op.entry_count; i++) {
        const char *name = a->op.entries[i].name;
        unsigned n = name[0] == 'n' ? (unsigned)(name[1] - '0') : NAMES;
        seen += n >= first && n < end && name[2] == 0 && at(&a->model, n) != NULL ? 1 : 0;
    }
    size_t directories = a->doing.below ? 0 : 1;
    if (seen != count || a->op.entry_count != count + directories || a->op.at_end == 0) {
        wrong(a, "other names");
    }
    opendfs_async_release(a->load->fs, &a->op);
}

static void check_bytes(struct lane *a)
{
    const struct inode *n = at(&a->model, a->doing.a);
    size_t len = n->large ? LARGE_BYTES : INLINE_BYTES;
    fill(a->out, len, a->index, n->content);
    if (n->any) {
        return;
    }
    if (a->op.result != (int64_t)len || memcmp(a->bytes, a->out, len) != 0) {
        wrong(a, "other contents");
    }
}

static void answered(struct lane *a)
{
    struct load *l = a->load;
    if (!l->auditing) {
        char line[40];
        int len = snprintf(line, sizeof line, "%u %u\n", a->index, a->number);
        if (write(l->journal, line, (size_t)len) != len) {
            perror("journal");
            exit(2);
        }
    }
    l->operations++;
    next(a);
}

static void arrived_file(struct lane *a)
{
    if (a->step == OPEN) {
        if (a->op.result != a->expected) {
            wrong(a, "open");
        }
        a->file = a->op.file;
        if (a->op.result < 0) {
            answered(a);
        } else {
            start(a, DATA);
        }
        return;
    }
    if (a->step == DATA && a->doing.kind == READ) {
        check_bytes(a);
    } else if (a->op.result < 0 || (a->step == DATA && a->op.result != LARGE_BYTES)) {
        wrong(a, "contents");
    }
    if (a->step == CLOSE) {
        answered(a);
    } else {
        start(a, a->step == DATA && a->doing.kind == WRITE ? SYNC : CLOSE);
    }
}

static void arrived(struct opendfs_op *op)
{
    struct lane *a = op->context;
    if (a->step == MAKE_DIRS) {
        if (op->result < 0) {
            a->doing.kind = CREATE;
            wrong(a, "make directories");
        }
        next(a);
        return;
    }
    if (a->step != ONLY) {
        arrived_file(a);
        return;
    }
    if (op->result != a->expected) {
        wrong(a, "another answer");
    } else if (a->doing.kind == STAT && op->result == 0) {
        check_stat(a);
    } else if (a->doing.kind == LIST) {
        check_list(a);
    }
    answered(a);
}

/* ---- The journal ---- */

/* Two numbers; whoever wrote it may have been killed in the middle of the last line. */
static bool read_pair(const char *line, uint32_t *lane, uint32_t *number)
{
    char *rest, *end;
    unsigned long a = strtoul(line, &rest, 10), b = strtoul(rest, &end, 10);
    *lane = (uint32_t)a;
    *number = (uint32_t)b;
    return rest != line && end != rest && *end == '\n' && a <= UINT32_MAX && b <= UINT32_MAX;
}

static int read_lines(struct load *l, const char *path, FILE *f)
{
    char line[64], *end;
    uint32_t lane, number;
    if (fgets(line, sizeof line, f) == NULL || strncmp(line, "seed ", 5) != 0) {
        fprintf(stderr, "%s: not a journal\n", path);
        return -1;
    }
    l->seed = strtoull(line + 5, &end, 10);
    if (*end != '\n') {
        fprintf(stderr, "%s: its seed is no number\n", path);
        return -1;
    }
    while (fgets(line, sizeof line, f) != NULL && read_pair(line, &lane, &number)) {
        if (lane >= LANES || number != l->answered[lane] + 1) {
            fprintf(stderr, "%s: lane %u has %u behind %u\n", path, lane, number,
                    lane < LANES ? l->answered[lane] : 0);
            return -1;
        }
        l->answered[lane] = number;
    }
    l->whole = strcmp(line, "end\n") == 0;
    return 0;
}

static int read_journal(struct load *l, const char *path)
{
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return -1;
    }
    int rc = read_lines(l, path, f);
    fclose(f);
    for (unsigned i = 0; i < LANES && rc == 0; i++) {
        struct lane *a = &l->lane[i];
        for (uint32_t k = 1; k <= l->answered[i]; k++) {
            struct doing d = next_doing(l, a, k);
            (void)model_do(&a->model, &d, k);
        }
    }
    return rc;
}

/* ---- Life ---- */

static struct opendfs *connect_to(const char *cluster)
{
    struct opendfs_options o = {.api_version = OPENDFS_API_VERSION,
                                .cluster = cluster,
                                .uid = UINT32_MAX,
                                .gid = UINT32_MAX,
                                .connect_ms = 60000};
    struct opendfs *fs = NULL;
    int rc = opendfs_connect(&o, &fs);
    if (rc < 0) {
        fprintf(stderr, "%s: %s\n", cluster, opendfs_last_error());
        return NULL;
    }
    return fs;
}

static void wait_for_lanes(struct load *l)
{
    pthread_mutex_lock(&l->lock);
    while (l->running > 0) {
        pthread_cond_wait(&l->ended, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
}

static void init(struct load *l)
{
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->ended, NULL);
    for (unsigned i = 0; i < LANES; i++) {
        l->lane[i].load = l;
        l->lane[i].index = i;
        model_init(&l->lane[i].model);
    }
}

static int run(struct load *l, const char *cluster)
{
    l->fs = connect_to(cluster);
    if (l->fs == NULL) {
        return 2;
    }
    l->running = LANES;
    for (unsigned i = 0; i < LANES; i++) {
        if (l->auditing) {
            l->lane[i].number = l->answered[i];
            next(&l->lane[i]);
        } else {
            start(&l->lane[i], MAKE_DIRS);
        }
    }
    wait_for_lanes(l);
    opendfs_disconnect(l->fs);
    if (!l->auditing && dprintf(l->journal, "end\n") < 0) {
        perror("journal");
        return 2;
    }
    printf("%llu operations, %llu wrong%s", (unsigned long long)l->operations,
           (unsigned long long)l->failures, l->whole || !l->auditing ? "\n" : "");
    if (l->auditing && !l->whole) {
        printf(", %llu found that nobody was told of\n", (unsigned long long)l->found);
    }
    return l->failures == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    static struct load load;
    init(&load);
    if (argc == 4 && strcmp(argv[1], "audit") == 0) {
        load.auditing = true;
        return read_journal(&load, argv[3]) < 0 ? 2 : run(&load, argv[2]);
    }
    if (argc == 6 && strcmp(argv[1], "run") == 0) {
        load.seed = strtoull(argv[4], NULL, 10);
        load.journal = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);
        if (load.journal < 0 ||
            dprintf(load.journal, "seed %llu\n", (unsigned long long)load.seed) < 0) {
            perror(argv[3]);
            return 2;
        }
        clock_gettime(CLOCK_MONOTONIC, &load.until);
        load.until.tv_sec += strtol(argv[5], NULL, 10);
        return run(&load, argv[2]);
    }
    fprintf(stderr, "usage: kill_load run CLUSTER JOURNAL SEED SECONDS | audit CLUSTER JOURNAL\n");
    return 2;
}
