/*
 * Echo. The server sends back what comes, on all its connections at once: it waits for whatever completes first. It ends after COUNT connections (TCP)
 * or datagrams (UDP). The client sends COUNT messages, one after another, and checks what comes back.
 */
#include "common.h"

#include <stdio.h>

#define MESSAGE_SIZE 64
#define CONNECTIONS_MAX 64

/* One token for each connection, and one for the listener in front of them. */
static void serve_connections(int listener, int count)
{
    demi_qtoken_t tokens[CONNECTIONS_MAX + 1];
    int queues[CONNECTIONS_MAX + 1];
    int used = 1, accepted = 0, ended = 0;

    queues[0] = listener;
    check(demi_accept(&tokens[0], listener), "demi_accept");
    while (ended < count)
    {
        demi_qresult_t result;
        int ready;

        check(demi_wait_any(&result, &ready, tokens, used, NULL), "demi_wait_any");
        if (result.qr_opcode == DEMI_OPC_FAILED)
            check((int)result.qr_ret, "an operation");
        if (result.qr_opcode == DEMI_OPC_ACCEPT)
        {
            require(used <= CONNECTIONS_MAX, "there are too many connections at once");
            queues[used] = result.qr_value.ares.qd;
            check(demi_pop(&tokens[used], queues[used]), "demi_pop");
            used++;
            accepted++;
            if (accepted < count)
                check(demi_accept(&tokens[0], listener), "demi_accept");
            else
            {
                /* No further one is wanted: the last connection takes the listener's place. */
                used--;
                tokens[0] = tokens[used];
                queues[0] = queues[used];
            }
            continue;
        }
        if (result.qr_value.sga.sga_segs[0].sgaseg_len == 0)
        {
            check(demi_sgafree(&result.qr_value.sga), "demi_sgafree");
            check(demi_close(queues[ready]), "demi_close");
            used--;
            tokens[ready] = tokens[used];
            queues[ready] = queues[used];
            ended++;
            continue;
        }
        send_array(queues[ready], &result.qr_value.sga);
        check(demi_pop(&tokens[ready], queues[ready]), "demi_pop");
    }
}

static void serve_datagrams(int queue, int count)
{
    int served;

    for (served = 0; served < count; served++)
    {
        demi_qresult_t result = receive(queue);
        struct sockaddr_in source = result.qr_value.sga.sga_addr;
        demi_qtoken_t token;

        check(demi_pushto(&token, queue, &result.qr_value.sga, (const struct sockaddr *)&source, sizeof(source)), "demi_pushto");
        check(demi_sgafree(&result.qr_value.sga), "demi_sgafree");
        require(wait_for(token).qr_opcode == DEMI_OPC_PUSH, "the operation was no push");
    }
}

int main(int argc, char *argv[])
{
    struct arguments arguments = start(argc, argv, 1);
    int queue, message;

    if (arguments.is_server)
    {
        queue = open_server(&arguments);
        if (arguments.type == SOCK_STREAM)
            serve_connections(queue, arguments.count);
        else
            serve_datagrams(queue, arguments.count);
    }
    else
    {
        queue = open_client(&arguments);
        for (message = 0; message < arguments.count; message++)
        {
            send_bytes(queue, 'a' + message % 26, MESSAGE_SIZE);
            receive_bytes(queue, 'a' + message % 26, MESSAGE_SIZE);
        }
        printf("%d messages came back\n", arguments.count);
    }
    check(demi_close(queue), "demi_close");
    return 0;
}
