// TCP echo that sleeps in epoll_wait: the ordinary server.
#include "tcp-echo.h"

int main(int argc, char **argv) { run_tcp_echo(argc, argv, "echo-epoll-blocking", -1); }
