// The TCP echo over epoll; the two programs differ only in how long they let epoll_wait sleep.
#pragma once

#include "baseline.h"

enum { EVENTS = 256, BUFFER = 64 * 1024, DESCRIPTORS = 65536 };

// What one connection still owes its peer. Memory is taken only when the peer reads more slowly than it writes.
struct backlog {
    char *bytes;
    size_t start, end;
};

static struct backlog backlogs[DESCRIPTORS];

static inline void close_connection(int descriptor) {
    free(backlogs[descriptor].bytes);
    backlogs[descriptor] = (struct backlog){0};
    close(descriptor);  // takes it out of the epoll set as well
}

static inline void watch(int epoll, int operation, int descriptor, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = descriptor};
    if (epoll_ctl(epoll, operation, descriptor, &event) < 0) fail("epoll_ctl");
}

static inline void accept_all(int epoll, int listener) {
    for (;;) {
        int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor < 0) {
            if (errno == EAGAIN || errno == ECONNABORTED || errno == EMFILE || errno == ENFILE) return;
            if (errno == EINTR) continue;
            fail("accept4");
        }
        if (descriptor >= DESCRIPTORS) {
            close(descriptor);
            continue;
        }
        int on = 1;
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        watch(epoll, EPOLL_CTL_ADD, descriptor, EPOLLIN);
    }
}

// Sends what is owed; reading goes on only when nothing is.
static inline void write_backlog(int epoll, int descriptor) {
    struct backlog *owed = &backlogs[descriptor];
    while (owed->start < owed->end) {
        ssize_t sent = send(descriptor, owed->bytes + owed->start, owed->end - owed->start, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN) return;
            close_connection(descriptor);
            return;
        }
        owed->start += (size_t)sent;
    }
    owed->start = owed->end = 0;
    watch(epoll, EPOLL_CTL_MOD, descriptor, EPOLLIN);
}

static inline void echo_once(int epoll, int descriptor, char *buffer) {
    ssize_t received = recv(descriptor, buffer, BUFFER, 0);
    if (received <= 0) {
        if (received < 0 && (errno == EAGAIN || errno == EINTR)) return;
        close_connection(descriptor);
        return;
    }
    ssize_t sent = send(descriptor, buffer, (size_t)received, MSG_NOSIGNAL);
    if (sent == received) return;
    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            close_connection(descriptor);
            return;
        }
        sent = 0;
    }
    struct backlog *owed = &backlogs[descriptor];
    if (!owed->bytes && !(owed->bytes = malloc(BUFFER))) fail("malloc");
    owed->start = 0;
    owed->end = (size_t)(received - sent);
    memcpy(owed->bytes, buffer + sent, owed->end);
    watch(epoll, EPOLL_CTL_MOD, descriptor, EPOLLOUT);
}

// `timeout`: what epoll_wait gets: 0 polls without sleeping, -1 sleeps until something happens.
_Noreturn static inline void run_tcp_echo(int argc, char **argv, const char *name, int timeout) {
    static char buffer[BUFFER];
    int listener = bound_socket(argc, argv, SOCK_STREAM);
    if (listen(listener, 1024) < 0) fail("listen");
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) fail("epoll_create1");
    watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN);
    print_ready(name, listener);

    struct epoll_event events[EVENTS];
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS, timeout);
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            int descriptor = events[i].data.fd;
            if (descriptor == listener)
                accept_all(epoll, listener);
            else if (backlogs[descriptor].end > 0)
                write_backlog(epoll, descriptor);
            else
                echo_once(epoll, descriptor, buffer);
        }
    }
}
