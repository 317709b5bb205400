// TCP echo that busy-polls epoll: the yardstick for a library OS that polls kernel sockets.
#include "tcp-echo.h"

int main(int argc, char **argv) { run_tcp_echo(argc, argv, "echo-epoll-spin", 0); }
