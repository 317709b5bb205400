/* Ping-pong. Client and server send each other COUNT messages in turn, and check what comes. */
#include "common.h"

#include <stdio.h>

#define MESSAGE_SIZE 256

int main(int argc, char *argv[])
{
    struct arguments arguments = start(argc, argv, 16);
    int listener = -1, queue, message;

    if (arguments.is_server)
    {
        queue = open_server(&arguments);
        if (arguments.type == SOCK_STREAM)
        {
            listener = queue;
            queue = accept_connection(listener);
        }
        for (message = 0; message < arguments.count; message++)
        {
            if (arguments.type == SOCK_DGRAM && message == 0)
            {
                /* From then on the sender of the first datagram is the peer. */
                demi_qresult_t result = receive(queue);
                struct sockaddr_in source = result.qr_value.sga.sga_addr;
                demi_qtoken_t token;

                require(result.qr_value.sga.sga_segs[0].sgaseg_len == MESSAGE_SIZE, "the first datagram has another size");
                check(demi_sgafree(&result.qr_value.sga), "demi_sgafree");
                check(demi_connect(&token, queue, (const struct sockaddr *)&source, sizeof(source)), "demi_connect");
                require(wait_for(token).qr_opcode == DEMI_OPC_CONNECT, "the operation was no connect");
            }
            else
                receive_bytes(queue, message % 256, MESSAGE_SIZE);
            send_bytes(queue, message % 256, MESSAGE_SIZE);
        }
        if (listener >= 0)
            check(demi_close(listener), "demi_close");
    }
    else
    {
        queue = open_client(&arguments);
        for (message = 0; message < arguments.count; message++)
        {
            send_bytes(queue, message % 256, MESSAGE_SIZE);
            receive_bytes(queue, message % 256, MESSAGE_SIZE);
        }
        printf("%d pings, %d pongs\n", arguments.count, arguments.count);
    }
    check(demi_close(queue), "demi_close");
    return 0;
}
