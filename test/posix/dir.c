/* readdir(), seekdir(), telldir(): listings, also of directories that change meanwhile. */
#include "suite.h"
#include <dirent.h>
#include <sys/syscall.h>

enum { MANY = 1000 };

static void make_many(int from, int to)
{
    char name[40];
    for (int i = from; i < to; i++) {
        snprintf(name, sizeof name, "file-with-some-name-%d", i);
        OK(close(FD(open(name, O_WRONLY | O_CREAT | O_EXCL, 0644))));
    }
}

/* -1 for other names. */
static int number_of(const char *name)
{
    return strncmp(name, "file-with-some-name-", 20) == 0 ? atoi(name + 20) : -1;
}

static DIR *open_here(void)
{
    turn();
    DIR *d = opendir(".");
    TRUE(d != NULL);
    return d;
}

static struct dirent *next_of(DIR *d)
{
    errno = 0;
    struct dirent *e = readdir(d);
    EQ(0, errno);
    return e;
}

TEST(readdir_lists_all_once)
{
    static unsigned char seen[MANY];
    make_many(0, MANY);
    DIR *d = open_here();
    int dots = 0;
    for (struct dirent *e; (e = next_of(d)) != NULL;) {
        int n = number_of(e->d_name);
        dots += strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
        if (n >= 0) {
            EQ(0, seen[n]++);
        }
    }
    for (int i = 0; i < MANY; i++) {
        EQ(1, seen[i]);
    }
    EQ(2, dots);
    TRUE(next_of(d) == NULL); /* the end stays the end */
    rewinddir(d);
    TRUE(next_of(d) != NULL);
    closedir(d);
}

TEST(readdir_tells_types_and_numbers)
{
    make_file("f", "");
    OK(mkdir("d", 0755));
    OK(mkfifo("p", 0644));
    OK(symlink("x", "l"));
    OK(mknod("s", S_IFSOCK | 0644, 0));
    DIR *d = open_here();
    int count = 0;
    for (struct dirent *e; (e = next_of(d)) != NULL;) {
        struct stat st = stat_of(e->d_name);
        if (strcmp(e->d_name, "..") != 0) { /* the mount may begin here */
            EQ(st.st_ino, e->d_ino);
        }
        TRUE(e->d_type == DT_UNKNOWN || e->d_type == IFTODT(st.st_mode));
        count++;
    }
    EQ(7, count);
    closedir(d);
}

TEST(readdir_removing_while_reading)
{
    make_many(0, MANY);
    int removed = 0;
    DIR *d = open_here();
    for (struct dirent *e; (e = next_of(d)) != NULL;) {
        if (number_of(e->d_name) >= 0) {
            OK(unlink(e->d_name));
            removed++;
        }
    }
    closedir(d);
    EQ(MANY, removed);
    d = open_here();
    int left = 0;
    while (next_of(d) != NULL) {
        left++;
    }
    EQ(2, left);
    closedir(d);
}

/* Names that are there all the time are listed exactly once, whatever comes and goes beside them.
 */
TEST(readdir_while_it_changes)
{
    static unsigned char seen[MANY];
    char name[40];
    make_many(0, MANY);
    DIR *d = open_here();
    int made = 0;
    for (struct dirent *e; (e = next_of(d)) != NULL;) {
        int n = number_of(e->d_name);
        if (n >= 0) {
            EQ(0, seen[n]++);
        }
        if (made < 2 * MANY) {
            snprintf(name, sizeof name, "new-%d", made++);
            OK(close(FD(creat(name, 0644))));
        }
        if (made % 3 == 0) {
            snprintf(name, sizeof name, "new-%d", made / 3);
            OK(unlink(name));
        }
    }
    for (int i = 0; i < MANY; i++) {
        EQ(1, seen[i]);
    }
    closedir(d);
}

TEST(seekdir_goes_back)
{
    static long place[MANY + 2];
    static char names[MANY + 2][40];
    make_many(0, MANY);
    DIR *d = open_here();
    int count = 0;
    for (;;) {
        long here = telldir(d);
        struct dirent *e = next_of(d);
        if (e == NULL) {
            break;
        }
        TRUE(count < MANY + 2);
        place[count] = here;
        snprintf(names[count++], sizeof names[0], "%.39s", e->d_name);
    }
    EQ(MANY + 2, count);
    for (int i = count - 1; i >= 0; i -= 7) {
        seekdir(d, place[i]);
        struct dirent *e = next_of(d);
        TRUE(e != NULL && strcmp(e->d_name, names[i]) == 0);
    }
    make_many(MANY, MANY + 100); /* a place stays one when names come and go */
    if (number_of(names[10]) >= 0) {
        OK(unlink(names[10]));
    }
    seekdir(d, place[500]);
    struct dirent *e = next_of(d);
    TRUE(e != NULL && strcmp(e->d_name, names[500]) == 0);
    closedir(d);
}

TEST(readdir_after_rewind_shows_what_is_new)
{
    DIR *d = open_here();
    while (next_of(d) != NULL) {
    }
    make_file("new", "");
    rewinddir(d);
    bool seen = false;
    for (struct dirent *e; (e = next_of(d)) != NULL;) {
        seen = seen || strcmp(e->d_name, "new") == 0;
    }
    TRUE(seen);
    closedir(d);
}

TEST(getdents_errors)
{
    char room[4096];
    make_file("f", "");
    ERR(ENOTDIR, syscall(SYS_getdents64, FD(open("f", O_RDONLY)), room, sizeof room));
    ERR(EBADF, syscall(SYS_getdents64, -1, room, sizeof room));
    ERR(EINVAL, syscall(SYS_getdents64, FD(open(".", O_RDONLY)), room, 1));
    ERR(EFAULT, syscall(SYS_getdents64, FD(open(".", O_RDONLY)), bad_address(), sizeof room));
    stay();
    OK(mkdir("d", 0755));
    int fd = FD(open("d", O_RDONLY));
    OK(rmdir("d"));
    ERR(ENOENT, syscall(SYS_getdents64, fd, room, sizeof room));
}

TEST(chdir_and_back)
{
    make_file("f", "");
    OK(mkdir("d", 0755));
    ERR(ENOTDIR, chdir("f"));
    ERR(ENOENT, chdir("none"));
    ERR(ENAMETOOLONG, chdir(name_of(256, 'n')));
    ERR(ENOTDIR, fchdir(FD(open("f", O_RDONLY))));
    ERR(EBADF, fchdir(-1));
    stay();
    OK(chdir("d"));
    TRUE(exists("../f"));
    char path[PATH_MAX];
    TRUE(getcwd(path, sizeof path) != NULL && strcmp(strrchr(path, '/'), "/d") == 0);
    OK(rename("../d", "../e"));
    TRUE(getcwd(path, sizeof path) != NULL && strcmp(strrchr(path, '/'), "/e") == 0);
    OK(rmdir("../e"));
    ERR(ENOENT, getcwd(path, sizeof path) == NULL ? -1 : 0);
    ERR(ENOENT, creat("x", 0644));
    OK(chdir(".."));
}
