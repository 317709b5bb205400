#!/usr/bin/env python3
"""A TCP echo server over libdemikernel.so, by ctypes.

usage: echo.py server|client ADDRESS PORT [COUNT]

The server ends after COUNT connections; the client sends COUNT messages and checks what comes back. DEMIKERNEL_LIBRARY names the library where the
system's linker does not find it.
"""

import ctypes
import os
import socket
import struct
import sys

AF_INET, SOCK_STREAM = 2, 1
PUSH, POP, ACCEPT, CONNECT, FAILED = 1, 2, 3, 4, 6


class Segment(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("address", ctypes.c_void_p), ("byte_count", ctypes.c_uint32)]


class Array(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("handle", ctypes.c_void_p), ("segment_count", ctypes.c_uint32), ("segments", Segment * 1), ("source", ctypes.c_uint8 * 16)]


class Accepted(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("queue", ctypes.c_int32), ("peer", ctypes.c_uint8 * 16)]


class Value(ctypes.Union):
    _pack_ = 1
    _fields_ = [("array", Array), ("accepted", Accepted)]


class Outcome(ctypes.Structure):
    _pack_ = 1
    _fields_ = [
        ("opcode", ctypes.c_uint32), ("queue", ctypes.c_int32), ("token", ctypes.c_uint64), ("errno", ctypes.c_int64), ("value", Value),
    ]


class Arguments(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("count", ctypes.c_int), ("values", ctypes.c_void_p), ("callback", ctypes.c_void_p)]


assert (ctypes.sizeof(Array), ctypes.sizeof(Outcome), ctypes.sizeof(Arguments)) == (40, 64, 20)

library = ctypes.CDLL(os.environ.get("DEMIKERNEL_LIBRARY", "libdemikernel.so"))
library.demi_sgaalloc.restype = Array
library.demi_sgaalloc.argtypes = [ctypes.c_size_t]
library.demi_wait.argtypes = [ctypes.POINTER(Outcome), ctypes.c_uint64, ctypes.c_void_p]


def call(name, *arguments):
    """Calls a function of the library, which must succeed."""
    error = getattr(library, name)(*arguments)
    if error != 0:
        sys.exit(f"{name}: {os.strerror(error)}")


def issue(name, *arguments):
    """Calls a function that gives a token first, and waits for its operation, which must succeed."""
    token, outcome = ctypes.c_uint64(), Outcome()
    call(name, ctypes.byref(token), *arguments)
    call("demi_wait", ctypes.byref(outcome), token, None)
    if outcome.opcode == FAILED:
        sys.exit(f"{name}: {os.strerror(outcome.errno)}")
    return outcome


def push(queue, array):
    """Sends an array, and frees it."""
    assert issue("demi_push", queue, ctypes.byref(array)).opcode == PUSH
    call("demi_sgafree", ctypes.byref(array))


def open_socket():
    queue = ctypes.c_int()
    call("demi_socket", ctypes.byref(queue), AF_INET, SOCK_STREAM, 0)
    return queue.value


def serve(address, count):
    listener = open_socket()
    call("demi_bind", listener, address, 16)
    call("demi_listen", listener, 16)
    bound, size = ctypes.create_string_buffer(16), ctypes.c_uint32(16)
    call("demi_getsockname", listener, bound, ctypes.byref(size))
    print("ready", struct.unpack_from("!H", bound, 2)[0], flush=True)
    for _ in range(count):
        outcome = issue("demi_accept", listener)
        assert outcome.opcode == ACCEPT
        connection = outcome.value.accepted.queue
        while True:
            array = Array.from_buffer_copy(issue("demi_pop", connection).value.array)
            if array.segments[0].byte_count == 0:
                call("demi_sgafree", ctypes.byref(array))
                break
            push(connection, array)
        call("demi_close", connection)
    call("demi_close", listener)


def ask(address, count):
    queue = open_socket()
    assert issue("demi_connect", queue, address, 16).opcode == CONNECT
    for message in range(count):
        expected = bytes([ord("a") + message % 26]) * 64
        array = library.demi_sgaalloc(len(expected))
        assert array.segment_count == 1, "there is no memory left"
        ctypes.memmove(array.segments[0].address, expected, len(expected))
        push(queue, array)
        received = b""
        while len(received) < len(expected):
            array = Array.from_buffer_copy(issue("demi_pop", queue).value.array)
            assert array.segments[0].byte_count > 0, "the server has closed too early"
            received += ctypes.string_at(array.segments[0].address, array.segments[0].byte_count)
            call("demi_sgafree", ctypes.byref(array))
        assert received == expected, "what came back is not what was sent"
    call("demi_close", queue)
    print(count, "messages came back")


def main():
    if len(sys.argv) not in (4, 5) or sys.argv[1] not in ("server", "client"):
        sys.exit(__doc__.split("\n\n")[1])
    address = struct.pack("=H", AF_INET) + struct.pack("!H", int(sys.argv[3])) + socket.inet_aton(sys.argv[2]) + bytes(8)
    count = int(sys.argv[4]) if len(sys.argv) == 5 else 1
    arguments = Arguments()
    call("demi_init", ctypes.byref(arguments))
    (serve if sys.argv[1] == "server" else ask)(address, count)


if __name__ == "__main__":
    main()
