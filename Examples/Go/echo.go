// A TCP echo server over libdemikernel.so, by cgo.
//
// usage: echo server|client ADDRESS PORT [COUNT]: the server ends after COUNT connections, the client sends COUNT messages and checks what comes back.
//
// Build it with PKG_CONFIG_PATH=PREFIX/lib/pkgconfig go build echo.go.
package main

/*
#cgo pkg-config: demikernel
#include <demi/libos.h>
#include <demi/sga.h>

// The types are packed, and Go has no such fields: C reads them.
static uint32_t opcode(const demi_qresult_t *result) { return result->qr_opcode; }
static int64_t failure(const demi_qresult_t *result) { return result->qr_ret; }
static demi_sgarray_t popped(const demi_qresult_t *result) { return result->qr_value.sga; }
static int accepted(const demi_qresult_t *result) { return result->qr_value.ares.qd; }
static uint32_t segments(const demi_sgarray_t *array) { return array->sga_numsegs; }
static void *address(const demi_sgarray_t *array) { return array->sga_segs[0].sgaseg_buf; }
static uint32_t length(const demi_sgarray_t *array) { return array->sga_segs[0].sgaseg_len; }
static int start(void)
{
    struct demi_args args = {0, NULL, NULL};
    return demi_init(&args);
}
*/
import "C"

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"
)

func fail(sentence string) {
	fmt.Fprintln(os.Stderr, sentence)
	os.Exit(1)
}

func check(code C.int, call string) {
	if code != 0 {
		fail(call + ": " + syscall.Errno(code).Error())
	}
}

// Waits for an operation, which must succeed.
func wait(token C.demi_qtoken_t, opcode C.uint32_t) C.demi_qresult_t {
	var result C.demi_qresult_t
	check(C.demi_wait(&result, token, nil), "demi_wait")
	if C.opcode(&result) == C.DEMI_OPC_FAILED {
		check(C.int(C.failure(&result)), "an operation")
	}
	if C.opcode(&result) != opcode {
		fail("the operation was another one")
	}
	return result
}

func open() C.int {
	var queue C.int
	check(C.demi_socket(&queue, C.AF_INET, C.SOCK_STREAM, 0), "demi_socket")
	return queue
}

// The next bytes of a connection; none at its end. They lie in the library's memory until they are freed.
func pop(queue C.int) (C.demi_sgarray_t, []byte) {
	var token C.demi_qtoken_t
	check(C.demi_pop(&token, queue), "demi_pop")
	result := wait(token, C.DEMI_OPC_POP)
	array := C.popped(&result)
	return array, unsafe.Slice((*byte)(C.address(&array)), int(C.length(&array)))
}

// Sends an array, and frees it: its memory lives until it is sent.
func push(queue C.int, array C.demi_sgarray_t) {
	var token C.demi_qtoken_t
	check(C.demi_push(&token, queue, &array), "demi_push")
	check(C.demi_sgafree(&array), "demi_sgafree")
	wait(token, C.DEMI_OPC_PUSH)
}

func serve(address C.struct_sockaddr_in, count int) {
	listener := open()
	size := C.socklen_t(unsafe.Sizeof(address))
	place := (*C.struct_sockaddr)(unsafe.Pointer(&address))
	check(C.demi_bind(listener, place, size), "demi_bind")
	check(C.demi_listen(listener, 16), "demi_listen")
	check(C.demi_getsockname(listener, place, &size), "demi_getsockname")
	fmt.Println("ready", binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&address.sin_port))[:]))
	for served := 0; served < count; served++ {
		var token C.demi_qtoken_t
		check(C.demi_accept(&token, listener), "demi_accept")
		result := wait(token, C.DEMI_OPC_ACCEPT)
		connection := C.accepted(&result)
		for {
			array, message := pop(connection)
			if len(message) == 0 {
				check(C.demi_sgafree(&array), "demi_sgafree")
				break
			}
			push(connection, array)
		}
		check(C.demi_close(connection), "demi_close")
	}
	check(C.demi_close(listener), "demi_close")
}

func ask(address C.struct_sockaddr_in, count int) {
	queue := open()
	var token C.demi_qtoken_t
	check(C.demi_connect(&token, queue, (*C.struct_sockaddr)(unsafe.Pointer(&address)), C.socklen_t(unsafe.Sizeof(address))), "demi_connect")
	wait(token, C.DEMI_OPC_CONNECT)
	for number := 0; number < count; number++ {
		expected := bytes.Repeat([]byte{'a' + byte(number%26)}, 64)
		array := C.demi_sgaalloc(C.size_t(len(expected)))
		if C.segments(&array) != 1 {
			fail("demi_sgaalloc: there is no memory left")
		}
		copy(unsafe.Slice((*byte)(C.address(&array)), len(expected)), expected)
		push(queue, array)
		var received []byte
		for len(received) < len(expected) {
			array, message := pop(queue)
			if len(message) == 0 {
				fail("the server has closed too early")
			}
			received = append(received, message...)
			check(C.demi_sgafree(&array), "demi_sgafree")
		}
		if !bytes.Equal(received, expected) {
			fail("what came back is not what was sent")
		}
	}
	check(C.demi_close(queue), "demi_close")
	fmt.Println(count, "messages came back")
}

func main() {
	usage := "usage: echo server|client ADDRESS PORT [COUNT]"
	if len(os.Args) < 4 || len(os.Args) > 5 {
		fail(usage)
	}
	host := net.ParseIP(os.Args[2]).To4()
	port, err := strconv.ParseUint(os.Args[3], 10, 16)
	if host == nil || err != nil {
		fail(usage)
	}
	count := 1
	if len(os.Args) == 5 {
		if count, err = strconv.Atoi(os.Args[4]); err != nil || count < 1 {
			fail(usage)
		}
	}
	var address C.struct_sockaddr_in
	address.sin_family = C.AF_INET
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&address.sin_port))[:], uint16(port))
	copy((*[4]byte)(unsafe.Pointer(&address.sin_addr))[:], host)

	// A runtime belongs to the thread that made it, and a goroutine to none unless it is locked to one.
	runtime.LockOSThread()
	check(C.start(), "demi_init")
	switch os.Args[1] {
	case "server":
		serve(address, count)
	case "client":
		ask(address, count)
	default:
		fail(usage)
	}
}
