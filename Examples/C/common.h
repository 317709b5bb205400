/* What the examples have in common: arguments, failure, and calls that wait for what they have issued. */
#ifndef COMMON_H_IS_INCLUDED
#define COMMON_H_IS_INCLUDED

#include <demi/libos.h>
#include <demi/sga.h>
#include <demi/wait.h>

/* What a program was started for: PROGRAM tcp|udp server|client ADDRESS PORT [COUNT]. */
struct arguments
{
    int is_server;
    int type;                    /* SOCK_STREAM or SOCK_DGRAM */
    struct sockaddr_in address;
    int count;                   /* messages; of an echo server, connections (TCP) or datagrams (UDP) */
};

/* Reads the arguments, or says how they are written and ends the program. Makes the thread's runtime. */
struct arguments start(int argc, char *const argv[], int standard_count);

/* Ends the program unless a call has succeeded. */
void check(int error, const char *call);

/* Ends the program where something is not as it must be. */
void require(int condition, const char *sentence);

/* Waits for an operation, which must succeed. */
demi_qresult_t wait_for(demi_qtoken_t token);

/* A bound socket. Prints "ready PORT" once it can be reached: a server's port may be 0, for one that is free. */
int open_server(const struct arguments *arguments);

/* A connected socket. */
int open_client(const struct arguments *arguments);

/* The next connection of a listener. */
int accept_connection(int listener);

/* Sends an array and frees it: its memory lives until it is sent. */
void send_array(int queue, demi_sgarray_t *array);

/* Sends size bytes of one value. */
void send_bytes(int queue, int value, size_t size);

/* What comes next; at the end of a stream it has no bytes. The caller frees it. */
demi_qresult_t receive(int queue);

/* Receives until there are size bytes, each of which must have the value. */
void receive_bytes(int queue, int value, size_t size);

#endif
