/* Queues: making them, connecting them, pushing and popping. */
#ifndef DEMI_LIBOS_H_IS_INCLUDED
#define DEMI_LIBOS_H_IS_INCLUDED

#include <demi/types.h>
#include <demi/wait.h>

DEMI_EXTERN_BEGIN

/* A function that a profiler would be told by. It is never called: cost is counted from outside. */
typedef void (*demi_callback_t)(const char *name, uint32_t value, uint64_t time);

/* What demi_init is told. */
struct DEMI_PACKED demi_args
{
    int argc;                  /* the program's own arguments, which are not looked at */
    char *const *argv;
    demi_callback_t callback;  /* may be NULL */
};

/*
 * demi_init: makes the calling thread's runtime
 *
 * Every other call of this thread works on it; a thread that wants to call makes its own. It ends with the thread, which closes what is open and stays until
 * everything is sent, for a while at most (demikernel.yaml(5), exit_linger_millis). The environment chooses what it runs over: LIBOS names the library OS (catnap, kernel sockets, when it is not set), CONFIG_PATH a file of settings. demikernel.yaml(5) has the keys.
 * What is wrong with either is told on the standard error output, all of it at once.
 *
 * Parameters:
 *   args  argc may be 0 and argv and callback NULL
 * Errors:
 *   EINVAL   args is NULL, argc is negative or argv is NULL beside a positive one, LIBOS names no library OS, or the settings have mistakes
 *   EEXIST   the thread has a runtime
 *   ENOTSUP  the library OS is not part of this library, or needs a device that it has not
 *   ENOENT   there is no file at CONFIG_PATH
 *   EACCES   the file at CONFIG_PATH may not be read
 *   ENOMEM   the memory that the runtime needs is not there
 *   EMFILE   the process has no descriptor left
 */
extern int demi_init(const struct demi_args *args);

/*
 * demi_socket: opens a socket's queue
 *
 * SOCK_STREAM makes a stream queue (TCP), SOCK_DGRAM a queue of datagrams (UDP).
 *
 * Over shared memory (LIBOS=catmem) there are connections alone, between the processes of one user on one machine. A program that knows IP addresses runs
 * unchanged: its sockets stand in a directory of the user's under their address and port (demikernel.yaml(5), catmem_directory), a connect to an address at
 * which nobody listens comes to whoever listens at 0.0.0.0 or ::, and an end that was not bound is 127.0.0.1 or ::1 with port 0. An AF_UNIX socket has the path
 * that it is given; its connections keep the boundaries of what is pushed, so that each array is popped as one, and empty ones are popped as well.
 *
 * Parameters:
 *   sockqd_out  where the queue descriptor goes
 *   domain      AF_INET or AF_INET6, or AF_UNIX for a path over shared memory
 *   type        SOCK_STREAM or SOCK_DGRAM; SOCK_SEQPACKET with AF_UNIX says the same as SOCK_STREAM; SOCK_NONBLOCK and SOCK_CLOEXEC change nothing
 *   protocol    0, or the type's protocol
 * Errors:
 *   EINVAL           sockqd_out is NULL
 *   EAFNOSUPPORT     domain is another one, or the library OS has none of it
 *   ESOCKTNOSUPPORT  type is another one, or the library OS has none of it
 *   EPROTONOSUPPORT  protocol is not the type's
 *   EMFILE           65536 queues are open, or the process has no descriptor left
 *   ENOBUFS          there is no memory for another socket
 */
extern int demi_socket(int *sockqd_out, int domain, int type, int protocol);

/*
 * demi_bind: gives a socket its local address
 *
 * Port 0 lets the library OS choose one, which demi_getsockname tells.
 *
 * Parameters:
 *   sockqd  the socket's queue
 *   addr    a struct sockaddr_in or sockaddr_in6; a struct sockaddr_un for a path over shared memory, which ends with its size or at a NUL
 *   size    its size; more than that of its family is as well
 * Errors:
 *   EBADF          no open queue has this descriptor
 *   EINVAL         addr is NULL, size is too small for the family, the path is empty, abstract or no UTF-8, or the socket is bound or connected
 *   ENAMETOOLONG   the path has more than 107 bytes
 *   EAFNOSUPPORT   the address is of another family than the socket
 *   EADDRINUSE     the address is in use
 *   EADDRNOTAVAIL  the host has no such address
 *   EACCES         the address is not for everyone; over shared memory: the directory is another user's, or others may write to it
 *   ENOENT         the path's directory does not exist
 *   ENOTDIR        the path's directory is none
 *   EMFILE         the process has no descriptor left
 *   EOPNOTSUPP     the queue is no socket's
 *   ENOBUFS        the process has used 65536 different paths
 */
extern int demi_bind(int sockqd, const struct sockaddr *addr, socklen_t size);

/*
 * demi_listen: lets a bound socket take connections
 *
 * Parameters:
 *   sockqd   the socket's queue
 *   backlog  connections that may wait for their demi_accept, at least 1
 * Errors:
 *   EBADF       no open queue has this descriptor
 *   EINVAL      backlog is below 1, or the socket is not bound, or connected
 *   EADDRINUSE  another socket listens there
 *   EOPNOTSUPP  the queue is no stream socket's
 */
extern int demi_listen(int sockqd, int backlog);

/*
 * demi_accept: asks for a listener's next connection
 *
 * Completes with DEMI_OPC_ACCEPT: qr_value.ares has the connection's queue and its peer.
 *
 * Parameters:
 *   qt_out  where the token goes
 *   sockqd  the listener's queue
 * Errors:
 *   EBADF       no open queue has this descriptor
 *   EINVAL      qt_out is NULL, or the socket does not listen
 *   EOPNOTSUPP  the queue is no stream socket's
 *   ENOBUFS     262144 operations are pending or not redeemed
 */
extern int demi_accept(demi_qtoken_t *qt_out, int sockqd);

/*
 * demi_connect: connects a socket
 *
 * Completes with DEMI_OPC_CONNECT. A datagram socket only gets its peer.
 *
 * Parameters:
 *   qt_out  where the token goes
 *   sockqd  the socket's queue
 *   addr    the peer, a struct sockaddr_in, sockaddr_in6 or sockaddr_un
 *   size    its size
 * Errors:
 *   EBADF         no open queue has this descriptor
 *   EINVAL        a pointer is NULL, size is too small for the family, the path is empty, abstract or no UTF-8, or the socket listens
 *   ENAMETOOLONG  the path has more than 107 bytes
 *   EISCONN       the socket is connected
 *   EALREADY      the socket is connecting
 *   EAFNOSUPPORT  the address is of another family than the socket
 *   EOPNOTSUPP    the queue is no socket's
 *   EADDRNOTAVAIL no local port is left
 *   ENOBUFS       262144 operations are pending or not redeemed, or the process has used 65536 different paths
 */
extern int demi_connect(demi_qtoken_t *qt_out, int sockqd, const struct sockaddr *addr, socklen_t size);

/*
 * demi_close: closes a queue
 *
 * Its descriptor is gone at once. Pending pops, accepts and connects fail with ECANCELED; pushes that were issued are still sent, then the end.
 *
 * Parameters:
 *   qd  the queue
 * Errors:
 *   EBADF  no open queue has this descriptor
 */
extern int demi_close(int qd);

/*
 * demi_push: sends a scatter-gather array
 *
 * Completes with DEMI_OPC_PUSH when the queue has taken all of it, in order; that is no receipt. The array stays the program's. It may be freed at
 * once, but its bytes must not change before the push has completed.
 *
 * Parameters:
 *   qt_out  where the token goes
 *   qd      the queue
 *   sga     an array of demi_sgaalloc, or of a pop; its segment may have been narrowed
 * Errors:
 *   EBADF         no open queue has this descriptor
 *   EINVAL        a pointer is NULL, sga is no array of this thread or was freed, its segment reaches beyond what it was, or it is empty on a stream
 *   ENOTCONN      the socket is not connected
 *   EDESTADDRREQ  the datagram socket has no peer
 *   EPIPE         the sending direction has ended
 *   EMSGSIZE      the array is larger than the largest unit
 *   EOPNOTSUPP    the queue takes nothing
 *   ENOBUFS       262144 operations are pending or not redeemed, or 262144 segments are in use
 */
extern int demi_push(demi_qtoken_t *qt_out, int qd, const demi_sgarray_t *sga);

/*
 * demi_pushto: sends a scatter-gather array as one datagram to an address
 *
 * Parameters:
 *   qt_out     where the token goes
 *   sockqd     a datagram socket's queue
 *   sga        an array of demi_sgaalloc, or of a pop; its segment may have been narrowed
 *   dest_addr  where to, a struct sockaddr_in or sockaddr_in6
 *   size       its size
 * Errors:
 *   EBADF         no open queue has this descriptor
 *   EINVAL        a pointer is NULL, size is too small for the family, or sga is no array of this thread, was freed, or reaches beyond what it was
 *   EAFNOSUPPORT  the address is of another family than the socket
 *   EOPNOTSUPP    the queue is no datagram socket's
 *   EMSGSIZE      the array is larger than a datagram
 *   EISCONN       the socket has a peer, and may send to no other
 *   EACCES        the address is a broadcast address: set SO_BROADCAST
 *   ENOBUFS       262144 operations are pending or not redeemed, or 262144 segments are in use
 */
extern int demi_pushto(
    demi_qtoken_t *qt_out, int sockqd, const demi_sgarray_t *sga, const struct sockaddr *dest_addr, socklen_t size);

/*
 * demi_pop: asks for what comes next
 *
 * Completes with DEMI_OPC_POP: qr_value.sga is an array of one segment, which is the program's until demi_sgafree. At the end of a stream its segment
 * has no bytes. A datagram's source stands in sga_addr; of IPv6 family and port, and the rest by demi_sga_address.
 *
 * Parameters:
 *   qt_out  where the token goes
 *   qd      the queue
 * Errors:
 *   EBADF       no open queue has this descriptor
 *   EINVAL      qt_out is NULL
 *   ENOTCONN    the socket is not connected
 *   EOPNOTSUPP  the queue gives nothing
 *   ENOBUFS     262144 operations are pending or not redeemed
 */
extern int demi_pop(demi_qtoken_t *qt_out, int qd);

/*
 * demi_setsockopt: sets an option of a socket
 *
 * SOL_SOCKET: SO_LINGER (a struct linger), SO_KEEPALIVE, SO_REUSEADDR, SO_REUSEPORT, SO_SNDBUF, SO_RCVBUF, SO_BROADCAST. IPPROTO_TCP: TCP_NODELAY,
 * TCP_KEEPIDLE, TCP_KEEPINTVL (both once SO_KEEPALIVE is on), TCP_USER_TIMEOUT. IPPROTO_IP: IP_TTL, IP_TOS, IP_MULTICAST_TTL, IP_MULTICAST_LOOP.
 * IPPROTO_IPV6: IPV6_UNICAST_HOPS, IPV6_TCLASS, IPV6_V6ONLY, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_LOOP. All but SO_LINGER are an int.
 *
 * Parameters:
 *   qd       the socket's queue
 *   level    SOL_SOCKET, IPPROTO_TCP, IPPROTO_IP or IPPROTO_IPV6
 *   optname  the option
 *   optval   its value
 *   optlen   the value's size in bytes
 * Errors:
 *   EBADF        no open queue has this descriptor
 *   EINVAL       optval is NULL, optlen is too small, or the value is out of range
 *   ENOPROTOOPT  there is no such level or option
 *   EOPNOTSUPP   sockets of this type, or of this library OS, have no such option
 */
extern int demi_setsockopt(int qd, int level, int optname, const void *optval, socklen_t optlen);

/*
 * demi_getsockopt: tells an option of a socket
 *
 * The options are those of demi_setsockopt.
 *
 * Parameters:
 *   qd       the socket's queue
 *   level    SOL_SOCKET, IPPROTO_TCP, IPPROTO_IP or IPPROTO_IPV6
 *   optname  the option
 *   optval   where its value goes
 *   optlen   the room there in bytes; then the value's size
 * Errors:
 *   EBADF        no open queue has this descriptor
 *   EINVAL       a pointer is NULL, or the value does not fit
 *   ENOPROTOOPT  there is no such level or option
 *   EOPNOTSUPP   sockets of this type, or of this library OS, have no such option
 */
extern int demi_getsockopt(int qd, int level, int optname, void *optval, socklen_t *optlen);

/*
 * demi_getpeername: tells the address that a socket is connected to
 *
 * A path has the NUL behind it within its size; an AF_UNIX end that was not bound is its family alone, of 2 bytes.
 *
 * Parameters:
 *   qd       the socket's queue
 *   addr     where the address goes
 *   addrlen  the room there in bytes; then the address's size
 * Errors:
 *   EBADF       no open queue has this descriptor
 *   EINVAL      a pointer is NULL, or the address does not fit
 *   ENOTCONN    the socket is not connected
 *   EOPNOTSUPP  the queue is no socket's
 */
extern int demi_getpeername(int qd, struct sockaddr *addr, socklen_t *addrlen);

/*
 * demi_getsockname: tells the address that a socket is bound to
 *
 * A path has the NUL behind it within its size; an AF_UNIX end that was not bound is its family alone, of 2 bytes.
 *
 * Parameters:
 *   qd       the socket's queue
 *   addr     where the address goes
 *   addrlen  the room there in bytes; then the address's size
 * Errors:
 *   EBADF       no open queue has this descriptor
 *   EINVAL      a pointer is NULL, or the address does not fit
 *   EOPNOTSUPP  the queue is no socket's
 */
extern int demi_getsockname(int qd, struct sockaddr *addr, socklen_t *addrlen);

DEMI_EXTERN_END

#endif /* DEMI_LIBOS_H_IS_INCLUDED */
