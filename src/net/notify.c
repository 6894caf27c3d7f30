#include "net/notify.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int net_notify(const char *where, const char *state)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t len = where == NULL ? 0 : strlen(where);
    if (len == 0) {
        return 0;
    }
    if ((where[0] != '/' && where[0] != '@') || len >= sizeof to.sun_path) {
        return -EINVAL;
    }
    memcpy(to.sun_path, where, len);
    if (where[0] == '@') {
        to.sun_path[0] = '\0'; /* an abstract name */
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    ssize_t n =
        sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)(void *)&to, size);
    int rc = n < 0 ? -errno : 0;
    (void)close(fd);
    return rc;
}
