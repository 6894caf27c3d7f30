/* loop/self.c -- see self.h. */
#include "loop/self.h"

#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PASSWD_BYTES 16384u
#define STANDARD_ERROR 2
#define KEPT "OPENDFS_KEPT" /* the numbers of the descriptors, a blank behind each */
#define NUMBER_SIZE 12u

char *loop_self_absolute(const char *path)
{
    CLEANUP(mem_freep) char *here = mem_alloc(PATH_MAX);
    if (path[0] == '/') {
        return mem_strdup(path);
    }
    if (here == NULL || getcwd(here, PATH_MAX) == NULL) {
        return NULL;
    }
    return mem_printf("%s/%s", strcmp(here, "/") == 0 ? "" : here, path);
}

int loop_self_leave(void)
{
    return chdir("/") < 0 ? -errno : 0;
}

int loop_self_path(char *out, size_t size)
{
    static const char gone[] = " (deleted)"; /* so the kernel marks one that was replaced */
    ssize_t n = readlink("/proc/self/exe", out, size);
    if (n < 0) {
        return -errno;
    }
    if ((size_t)n >= size) {
        return -ENAMETOOLONG;
    }
    out[n] = 0;
    size_t len = (size_t)n, tail = sizeof gone - 1;
    if (len > tail && strcmp(out + len - tail, gone) == 0) {
        out[len - tail] = 0;
    }
    return 0;
}

int loop_self_log(const char *path, struct err *e)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    int rc = fd < 0 ? -errno : dup2(fd, STANDARD_ERROR) < 0 ? -errno : 0;
    if (fd >= 0) {
        close(fd);
    }
    return rc < 0 ? err_set(e, rc, "open log '%s'", path) : 0;
}

bool loop_self_is_root(void)
{
    return geteuid() == 0;
}

/* `text`: PASSWD_BYTES of the caller's. */
static int find_user(const char *user, char *text, struct passwd *ret, struct err *e)
{
    struct passwd *found = NULL;
    int rc = -getpwnam_r(user, ret, text, PASSWD_BYTES, &found);
    rc = rc == 0 && found == NULL ? -ENOENT : rc;
    return rc < 0 ? err_set(e, rc, "there is no user '%s'", user) : 0;
}

/* Only what is root's, a plain file and has no other name: who may make names in this folder could
 * have given it that of any file of the system. */
int loop_self_give_log(const char *path, const char *user, struct err *e)
{
    struct passwd entry;
    struct stat st;
    CLEANUP(mem_freep) char *text = mem_alloc(PASSWD_BYTES);
    int rc = text == NULL ? -ENOMEM : find_user(user, text, &entry, e);
    if (rc < 0) {
        return rc;
    }
    int fd = open(path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ELOOP ? 0 : err_set(e, -errno, "open log '%s'", path);
    }
    rc = fstat(fd, &st) < 0 ? -errno : 0;
    bool plain = rc == 0 && S_ISREG(st.st_mode) && st.st_uid == 0 && st.st_nlink == 1;
    if (plain && fchown(fd, entry.pw_uid, entry.pw_gid) < 0) {
        rc = -errno;
    }
    close(fd);
    return rc < 0 ? err_set(e, rc, "give log '%s' to '%s'", path, user) : 0;
}

/* Groups first: afterwards they could not be changed any more. */
static int change_ids(const char *user, uid_t uid, gid_t gid)
{
    if (initgroups(user, gid) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0) {
        return -errno;
    }
    if (uid != 0 && (setuid(0) == 0 || geteuid() == 0)) {
        return -EPERM; /* it could be root again */
    }
    return 0;
}

int loop_self_become(const char *user, struct err *e)
{
    struct passwd entry;
    CLEANUP(mem_freep) char *text = mem_alloc(PASSWD_BYTES);
    int rc = text == NULL ? -ENOMEM : find_user(user, text, &entry, e);
    if (rc < 0) {
        return rc;
    }
    if (geteuid() != 0 && geteuid() != entry.pw_uid) {
        return err_set(e, -EPERM, "only root can become user '%s'", user);
    }
    rc = geteuid() == 0 ? change_ids(user, entry.pw_uid, entry.pw_gid) : 0;
    if (rc == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
        rc = -errno;
    }
    return rc < 0 ? err_set(e, rc, "become user '%s'", user) : 0;
}

static int keep_open(const struct loop_self_program *p, bool keep)
{
    for (size_t i = 0; i < p->fd_count; i++) {
        if (fcntl(p->fds[i], F_SETFD, keep ? 0 : FD_CLOEXEC) < 0) {
            return -errno;
        }
    }
    return 0;
}

/* "NAME=" and the numbers. */
static char *kept_text(const struct loop_self_program *p)
{
    static const char name[] = KEPT "=";
    size_t size = sizeof name + p->fd_count * NUMBER_SIZE;
    char *text = mem_zalloc(size);
    struct text t;
    if (text != NULL) {
        text_init(&t, text, size);
        text_add(&t, "%s", name);
        for (size_t i = 0; i < p->fd_count; i++) {
            text_add(&t, "%d ", p->fds[i]);
        }
    }
    return text;
}

/* That of this process, with two more. */
static char **environment(char *first, char *second)
{
    size_t count = 0;
    while (environ[count] != NULL) {
        count++;
    }
    char **env = mem_calloc(count + 3, sizeof *env);
    if (env != NULL) {
        memcpy(env, environ, count * sizeof *env);
        env[count] = first;
        env[count + 1] = second;
    }
    return env;
}

int loop_self_exec(const struct loop_self_program *p, struct err *e)
{
    union { /* execve() does not change them, but says so nowhere */
        const char *const *given;
        char *const *wanted;
    } argv = {.given = p->argv};
    CLEANUP(mem_freep) char *kept = kept_text(p);
    CLEANUP(mem_freep) char *value = mem_printf("%s=%s", p->name, p->value);
    CLEANUP(mem_freep) char **env = environment(kept, value);
    if (kept == NULL || value == NULL || env == NULL) {
        return -ENOMEM;
    }
    int rc = keep_open(p, true);
    if (rc == 0) {
        (void)execve(p->path, argv.wanted, env);
        rc = -errno;
    }
    (void)keep_open(p, false);
    return err_set(e, rc, "run '%s'", p->path);
}

/* What is no number, or no descriptor, is passed over: it is only about what children get. */
static void keep_from_children(const char *numbers)
{
    while (numbers != NULL && *numbers != 0) {
        char *end = NULL;
        long fd = strtol(numbers, &end, 10);
        if (end != numbers && fd > STANDARD_ERROR && fd <= INT32_MAX) {
            (void)fcntl((int)fd, F_SETFD, FD_CLOEXEC);
        }
        numbers = end == numbers ? numbers + 1 : end;
    }
}

/* The value of a variable, which is not in the environment any more. It was in the memory of the
 * process from the beginning, and stays there. NULL: there is none. */
static const char *take_variable(const char *name)
{
    size_t len = strlen(name), to = 0;
    const char *value = NULL;
    for (size_t from = 0; environ[from] != NULL; from++) {
        if (strncmp(environ[from], name, len) == 0 && environ[from][len] == '=') {
            value = environ[from] + len + 1;
        } else {
            environ[to++] = environ[from];
        }
    }
    environ[to] = NULL;
    return value;
}

char *loop_self_take(const char *name)
{
    keep_from_children(take_variable(KEPT));
    const char *value = take_variable(name);
    return value == NULL ? NULL : mem_strdup(value);
}
