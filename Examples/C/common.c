#include "common.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void require(int condition, const char *sentence)
{
    if (condition)
        return;
    fprintf(stderr, "%s\n", sentence);
    exit(EXIT_FAILURE);
}

void check(int error, const char *call)
{
    if (error == 0)
        return;
    fprintf(stderr, "%s: %s\n", call, strerror(error));
    exit(EXIT_FAILURE);
}

struct arguments start(int argc, char *const argv[], int standard_count)
{
    struct arguments arguments;
    struct demi_args args;
    int is_tcp, port;

    if (argc < 5 || argc > 6 || (strcmp(argv[1], "tcp") != 0 && strcmp(argv[1], "udp") != 0) ||
        (strcmp(argv[2], "server") != 0 && strcmp(argv[2], "client") != 0))
    {
        fprintf(stderr, "usage: %s tcp|udp server|client ADDRESS PORT [COUNT]\n", argv[0]);
        exit(EXIT_FAILURE);
    }
    memset(&arguments, 0, sizeof(arguments));
    is_tcp = strcmp(argv[1], "tcp") == 0;
    arguments.type = is_tcp ? SOCK_STREAM : SOCK_DGRAM;
    arguments.is_server = strcmp(argv[2], "server") == 0;
    arguments.address.sin_family = AF_INET;
    require(inet_pton(AF_INET, argv[3], &arguments.address.sin_addr) == 1, "the address is no IPv4 address");
    port = atoi(argv[4]);
    require(port >= 0 && port <= 65535, "the port is no number up to 65535");
    arguments.address.sin_port = htons((uint16_t)port);
    arguments.count = argc == 6 ? atoi(argv[5]) : standard_count;
    require(arguments.count >= 1, "the count is no positive number");

    memset(&args, 0, sizeof(args));
    args.argc = argc;
    args.argv = argv;
    check(demi_init(&args), "demi_init");
    return arguments;
}

demi_qresult_t wait_for(demi_qtoken_t token)
{
    demi_qresult_t result;

    check(demi_wait(&result, token, NULL), "demi_wait");
    if (result.qr_opcode == DEMI_OPC_FAILED)
        check((int)result.qr_ret, "an operation");
    return result;
}

int open_server(const struct arguments *arguments)
{
    struct sockaddr_in bound;
    socklen_t size = sizeof(bound);
    int queue;

    check(demi_socket(&queue, AF_INET, arguments->type, 0), "demi_socket");
    check(demi_bind(queue, (const struct sockaddr *)&arguments->address, sizeof(arguments->address)), "demi_bind");
    if (arguments->type == SOCK_STREAM)
        check(demi_listen(queue, 16), "demi_listen");
    check(demi_getsockname(queue, (struct sockaddr *)&bound, &size), "demi_getsockname");
    printf("ready %d\n", ntohs(bound.sin_port));
    fflush(stdout);
    return queue;
}

int open_client(const struct arguments *arguments)
{
    demi_qtoken_t token;
    int queue;

    check(demi_socket(&queue, AF_INET, arguments->type, 0), "demi_socket");
    check(demi_connect(&token, queue, (const struct sockaddr *)&arguments->address, sizeof(arguments->address)), "demi_connect");
    require(wait_for(token).qr_opcode == DEMI_OPC_CONNECT, "the operation was no connect");
    return queue;
}

int accept_connection(int listener)
{
    demi_qtoken_t token;
    demi_qresult_t result;

    check(demi_accept(&token, listener), "demi_accept");
    result = wait_for(token);
    require(result.qr_opcode == DEMI_OPC_ACCEPT, "the operation was no accept");
    return result.qr_value.ares.qd;
}

void send_array(int queue, demi_sgarray_t *array)
{
    demi_qtoken_t token;

    check(demi_push(&token, queue, array), "demi_push");
    check(demi_sgafree(array), "demi_sgafree");
    require(wait_for(token).qr_opcode == DEMI_OPC_PUSH, "the operation was no push");
}

void send_bytes(int queue, int value, size_t size)
{
    demi_sgarray_t array = demi_sgaalloc(size);

    require(array.sga_numsegs == 1, "demi_sgaalloc: there is no memory left");
    memset(array.sga_segs[0].sgaseg_buf, value, size);
    send_array(queue, &array);
}

demi_qresult_t receive(int queue)
{
    demi_qtoken_t token;
    demi_qresult_t result;

    check(demi_pop(&token, queue), "demi_pop");
    result = wait_for(token);
    require(result.qr_opcode == DEMI_OPC_POP && result.qr_value.sga.sga_numsegs == 1, "the operation was no pop of one segment");
    return result;
}

void receive_bytes(int queue, int value, size_t size)
{
    size_t received = 0;

    while (received < size)
    {
        demi_qresult_t result = receive(queue);
        const unsigned char *bytes = (const unsigned char *)result.qr_value.sga.sga_segs[0].sgaseg_buf;
        size_t count = result.qr_value.sga.sga_segs[0].sgaseg_len;
        size_t index;

        require(count > 0, "the peer has closed too early");
        for (index = 0; index < count; index++)
            require(bytes[index] == (unsigned char)value, "a byte is not what was sent");
        received += count;
        check(demi_sgafree(&result.qr_value.sga), "demi_sgafree");
    }
    require(received == size, "more came than was sent");
}
