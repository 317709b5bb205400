// Takes bulk data over TCP, one connection at a time, and throws it away. The stream is of chunks of 64 KiB: one that starts with 1 is the last of a round, and
// a byte goes back when all of it has been read.
#include "baseline.h"

enum { CHUNK = 64 * 1024 };

int main(int argc, char **argv) {
    static char buffer[4 * CHUNK];
    int listener = bound_socket(argc, argv, SOCK_STREAM);
    if (listen(listener, 8) < 0) fail("listen");
    int flags = fcntl(listener, F_GETFL);
    if (fcntl(listener, F_SETFL, flags & ~O_NONBLOCK) < 0) fail("fcntl");
    print_ready("tcp-sink", listener);
    for (;;) {
        int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0) continue;
        int on = 1;
        setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        size_t position = 0;
        int is_last = 0;
        ssize_t count;
        while ((count = recv(connection, buffer, sizeof buffer, 0)) > 0 || (count < 0 && errno == EINTR)) {
            for (ssize_t start = 0; start < count;) {
                if (position == 0) is_last = buffer[start] == 1;
                size_t piece = CHUNK - position;
                if (piece > (size_t)(count - start)) piece = (size_t)(count - start);
                position = (position + piece) % CHUNK;
                start += (ssize_t)piece;
                if (position == 0 && is_last) (void)send(connection, "1", 1, MSG_NOSIGNAL);
            }
        }
        close(connection);
    }
}
