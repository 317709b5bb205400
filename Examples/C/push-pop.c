/* Push-pop. The client sends COUNT messages, and the server receives them and checks their bytes. */
#include "common.h"

#include <stdio.h>

#define MESSAGE_SIZE 1024

int main(int argc, char *argv[])
{
    struct arguments arguments = start(argc, argv, 64);
    int listener = -1, queue, message;

    if (arguments.is_server)
    {
        queue = open_server(&arguments);
        if (arguments.type == SOCK_STREAM)
        {
            listener = queue;
            queue = accept_connection(listener);
        }
        receive_bytes(queue, 'x', (size_t)arguments.count * MESSAGE_SIZE);
        printf("%d bytes came\n", arguments.count * MESSAGE_SIZE);
        if (listener >= 0)
            check(demi_close(listener), "demi_close");
    }
    else
    {
        queue = open_client(&arguments);
        for (message = 0; message < arguments.count; message++)
            send_bytes(queue, 'x', MESSAGE_SIZE);
    }
    check(demi_close(queue), "demi_close");
    return 0;
}
