// UDP echo that busy-polls recvfrom.
#include "baseline.h"

int main(int argc, char **argv) {
    static char buffer[65536];
    int descriptor = bound_socket(argc, argv, SOCK_DGRAM);
    print_ready("udp-echo-spin", descriptor);
    for (;;) {
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        ssize_t received = recvfrom(descriptor, buffer, sizeof buffer, 0, (struct sockaddr *)&peer, &length);
        if (received < 0) {
            // ECONNREFUSED and its kin report what became of an earlier reply: no reason to stop serving.
            continue;
        }
        // A full send buffer drops the reply, as a network would.
        (void)sendto(descriptor, buffer, (size_t)received, MSG_NOSIGNAL, (struct sockaddr *)&peer, length);
    }
}
