/* net/notify_test.c -- what a service manager hears. */
#include "net/notify.h"

#include "testing/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int listener(const char *name, size_t len)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    memcpy(at.sun_path, name, len);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK_TRUE(fd >= 0);
    CHECK_OK(bind(fd, (struct sockaddr *)(void *)&at,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)));
    return fd;
}

TEST(a_service_manager_hears_it)
{
    char directory[] = "/tmp/opendfs.notify.XXXXXX", path[64], heard[32] = "";
    CHECK_TRUE(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/socket", directory);
    int fd = listener(path, strlen(path));
    CHECK_OK(net_notify(path, "READY=1"));
    CHECK_EQ(recv(fd, heard, sizeof heard - 1, 0), 7);
    CHECK_TEXT(heard, "READY=1");
    close(fd);
    CHECK_TRUE(net_notify(path, "READY=1") < 0);
    unlink(path);
    CHECK_RC(net_notify(path, "READY=1"), ENOENT);
    rmdir(directory);
    /* An abstract name begins with a zero byte, written as @. */
    snprintf(path, sizeof path, "@opendfs.%d", (int)getpid());
    char bound[64];
    size_t len = strlen(path);
    memcpy(bound, path, len);
    bound[0] = '\0';
    fd = listener(bound, len);
    CHECK_OK(net_notify(path, "STOPPING=1"));
    CHECK_EQ(recv(fd, heard, sizeof heard - 1, 0), 10);
    close(fd);
}

TEST(nobody_wants_to_know)
{
    char longer[300];
    memset(longer, 'a', sizeof longer - 1);
    longer[0] = '/';
    longer[sizeof longer - 1] = '\0';
    CHECK_OK(net_notify(NULL, "READY=1"));
    CHECK_OK(net_notify("", "READY=1"));
    CHECK_RC(net_notify(longer, "READY=1"), EINVAL);
    CHECK_RC(net_notify("relative", "READY=1"), EINVAL);
}
