//! A TCP echo server over libdemikernel.so, in Rust without a crate: its own `extern "C"` block, and the types as the headers lay them out.
//!
//! usage: echo server|client ADDRESS PORT [COUNT]: the server ends after COUNT connections, the client sends COUNT messages and checks what comes back.

use std::net::Ipv4Addr;
use std::os::raw::{c_char, c_int, c_long, c_void};
use std::{env, mem, process, ptr, slice};

#[allow(dead_code)]
mod demi {
    use super::*;

    #[repr(C, packed)]
    #[derive(Clone, Copy)]
    pub struct Segment {
        pub address: *mut c_void,
        pub byte_count: u32,
    }

    /// As `struct sockaddr_in`.
    #[repr(C, packed)]
    #[derive(Clone, Copy)]
    pub struct SocketAddress {
        pub family: u16,
        pub port: [u8; 2],
        pub address: [u8; 4],
        pub zero: [u8; 8],
    }

    #[repr(C, packed)]
    #[derive(Clone, Copy)]
    pub struct Array {
        pub handle: *mut c_void,
        pub segment_count: u32,
        pub segments: [Segment; 1],
        pub source: SocketAddress,
    }

    #[repr(C, packed)]
    #[derive(Clone, Copy)]
    pub struct Accepted {
        pub queue: i32,
        pub peer: SocketAddress,
    }

    #[repr(C, packed)]
    #[derive(Clone, Copy)]
    pub union Value {
        pub array: Array,
        pub accepted: Accepted,
    }

    #[repr(C, packed)]
    #[derive(Clone, Copy)]
    pub struct Outcome {
        pub opcode: u32,
        pub queue: i32,
        pub token: u64,
        pub errno: i64,
        pub value: Value,
    }

    #[repr(C, packed)]
    pub struct Arguments {
        pub count: c_int,
        pub values: *const *mut c_char,
        pub callback: *const c_void,
    }

    #[repr(C)]
    pub struct Time {
        pub seconds: c_long,
        pub nanoseconds: c_long,
    }

    pub const PUSH: u32 = 1;
    pub const POP: u32 = 2;
    pub const ACCEPT: u32 = 3;
    pub const CONNECT: u32 = 4;
    pub const FAILED: u32 = 6;

    #[link(name = "demikernel")]
    extern "C" {
        pub fn demi_init(arguments: *const Arguments) -> c_int;
        pub fn demi_socket(queue: *mut c_int, domain: c_int, kind: c_int, protocol: c_int) -> c_int;
        pub fn demi_bind(queue: c_int, address: *const SocketAddress, size: u32) -> c_int;
        pub fn demi_listen(queue: c_int, backlog: c_int) -> c_int;
        pub fn demi_accept(token: *mut u64, queue: c_int) -> c_int;
        pub fn demi_connect(token: *mut u64, queue: c_int, address: *const SocketAddress, size: u32) -> c_int;
        pub fn demi_getsockname(queue: c_int, address: *mut SocketAddress, size: *mut u32) -> c_int;
        pub fn demi_close(queue: c_int) -> c_int;
        pub fn demi_push(token: *mut u64, queue: c_int, array: *const Array) -> c_int;
        pub fn demi_pop(token: *mut u64, queue: c_int) -> c_int;
        pub fn demi_wait(outcome: *mut Outcome, token: u64, timeout: *const Time) -> c_int;
        pub fn demi_sgaalloc(size: usize) -> Array;
        pub fn demi_sgafree(array: *mut Array) -> c_int;
    }
}

const AF_INET: c_int = 2;
const SOCK_STREAM: c_int = 1;

fn fail(sentence: &str) -> ! {
    eprintln!("{}", sentence);
    process::exit(1)
}

fn check(error: c_int, call: &str) {
    if error != 0 {
        fail(&format!("{}: {}", call, std::io::Error::from_raw_os_error(error)));
    }
}

/// Waits for an operation, which must succeed.
fn wait(token: u64) -> demi::Outcome {
    let mut outcome: demi::Outcome = unsafe { mem::zeroed() };
    check(unsafe { demi::demi_wait(&mut outcome, token, ptr::null()) }, "demi_wait");
    if outcome.opcode == demi::FAILED {
        check(outcome.errno as c_int, "an operation");
    }
    outcome
}

fn socket() -> c_int {
    let mut queue = 0;
    check(unsafe { demi::demi_socket(&mut queue, AF_INET, SOCK_STREAM, 0) }, "demi_socket");
    queue
}

/// The next bytes of a connection; none at its end.
fn pop(queue: c_int) -> demi::Array {
    let mut token = 0;
    check(unsafe { demi::demi_pop(&mut token, queue) }, "demi_pop");
    let outcome = wait(token);
    if outcome.opcode != demi::POP {
        fail("the operation was no pop");
    }
    unsafe { outcome.value.array }
}

/// Sends an array, and frees it: its memory lives until it is sent.
fn push(queue: c_int, mut array: demi::Array) {
    let mut token = 0;
    check(unsafe { demi::demi_push(&mut token, queue, &array) }, "demi_push");
    check(unsafe { demi::demi_sgafree(&mut array) }, "demi_sgafree");
    if wait(token).opcode != demi::PUSH {
        fail("the operation was no push");
    }
}

fn serve(address: demi::SocketAddress, count: u32) {
    let listener = socket();
    let size = mem::size_of::<demi::SocketAddress>() as u32;
    check(unsafe { demi::demi_bind(listener, &address, size) }, "demi_bind");
    check(unsafe { demi::demi_listen(listener, 16) }, "demi_listen");
    let mut bound = address;
    let mut bound_size = size;
    check(unsafe { demi::demi_getsockname(listener, &mut bound, &mut bound_size) }, "demi_getsockname");
    println!("ready {}", u16::from_be_bytes(bound.port));
    for _ in 0..count {
        let mut token = 0;
        check(unsafe { demi::demi_accept(&mut token, listener) }, "demi_accept");
        let outcome = wait(token);
        if outcome.opcode != demi::ACCEPT {
            fail("the operation was no accept");
        }
        let connection = unsafe { outcome.value.accepted.queue };
        loop {
            let mut array = pop(connection);
            if array.segments[0].byte_count == 0 {
                check(unsafe { demi::demi_sgafree(&mut array) }, "demi_sgafree");
                break;
            }
            push(connection, array);
        }
        check(unsafe { demi::demi_close(connection) }, "demi_close");
    }
    check(unsafe { demi::demi_close(listener) }, "demi_close");
}

fn ask(address: demi::SocketAddress, count: u32) {
    const SIZE: usize = 64;
    let queue = socket();
    let mut token = 0;
    let size = mem::size_of::<demi::SocketAddress>() as u32;
    check(unsafe { demi::demi_connect(&mut token, queue, &address, size) }, "demi_connect");
    if wait(token).opcode != demi::CONNECT {
        fail("the operation was no connect");
    }
    for message in 0..count {
        let value = b'a' + (message % 26) as u8;
        let array = unsafe { demi::demi_sgaalloc(SIZE) };
        if array.segment_count != 1 {
            fail("demi_sgaalloc: there is no memory left");
        }
        unsafe { ptr::write_bytes(array.segments[0].address as *mut u8, value, SIZE) };
        push(queue, array);
        let mut received = 0;
        while received < SIZE {
            let mut array = pop(queue);
            let segment = array.segments[0];
            let bytes = unsafe { slice::from_raw_parts(segment.address as *const u8, segment.byte_count as usize) };
            if bytes.is_empty() || bytes.iter().any(|byte| *byte != value) {
                fail("what came back is not what was sent");
            }
            received += bytes.len();
            check(unsafe { demi::demi_sgafree(&mut array) }, "demi_sgafree");
        }
    }
    check(unsafe { demi::demi_close(queue) }, "demi_close");
    println!("{} messages came back", count);
}

fn main() {
    assert_eq!((mem::size_of::<demi::Array>(), mem::size_of::<demi::Outcome>()), (40, 64));
    let words: Vec<String> = env::args().collect();
    let usage = "usage: echo server|client ADDRESS PORT [COUNT]";
    if words.len() < 4 {
        fail(usage);
    }
    let host: Ipv4Addr = words[2].parse().unwrap_or_else(|_| fail(usage));
    let port: u16 = words[3].parse().unwrap_or_else(|_| fail(usage));
    let count: u32 = words.get(4).map_or(Ok(1), |word| word.parse()).unwrap_or_else(|_| fail(usage));
    let address = demi::SocketAddress { family: AF_INET as u16, port: port.to_be_bytes(), address: host.octets(), zero: [0; 8] };
    let arguments = demi::Arguments { count: 0, values: ptr::null(), callback: ptr::null() };
    check(unsafe { demi::demi_init(&arguments) }, "demi_init");
    match words[1].as_str() {
        "server" => serve(address, count),
        "client" => ask(address, count),
        _ => fail(usage),
    }
}
