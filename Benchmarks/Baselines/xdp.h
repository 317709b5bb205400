// A raw AF_XDP socket on queue 0 of an interface: one region of memory, four rings, a steering program of twenty instructions, by system calls only.
#pragma once

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 2048, CHUNKS = 4096, RING = 2048, BATCH = 64 };

// The bytes in front of the payload of a datagram over IPv4.
enum { ETHERNET = 14, IPV4 = 20, UDP = 8, HEADERS = ETHERNET + IPV4 + UDP };

struct xdp_ring {
    _Atomic uint32_t *producer, *consumer, *flags;
    void *entries;
};

struct xdp_socket {
    int descriptor;
    unsigned char *memory;
    struct xdp_ring receive, transmit, fill, completion;
};

static inline void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static inline struct xdp_ring map_ring(int descriptor, off_t page, const struct xdp_ring_offset *offset, size_t entry) {
    char *base = mmap(NULL, offset->desc + RING * entry, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor, page);
    if (base == MAP_FAILED) fail("mmap of a ring");
    return (struct xdp_ring){
        (_Atomic uint32_t *)(base + offset->producer), (_Atomic uint32_t *)(base + offset->consumer), (_Atomic uint32_t *)(base + offset->flags),
        base + offset->desc};
}

static inline int bpf(int command, union bpf_attr *attributes) { return (int)syscall(SYS_bpf, command, attributes, sizeof *attributes); }

#define INSTRUCTION(CODE, TO, FROM, OFFSET, VALUE) ((struct bpf_insn){.code = (CODE), .dst_reg = (TO), .src_reg = (FROM), .off = (OFFSET), .imm = (VALUE)})

// Hands datagrams over IPv4 to `port` to the socket, and all else to the kernel. The link, and with it the program, ends with the process.
static inline void steer(int socket, unsigned interface, uint16_t port) {
    union bpf_attr map = {.map_type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4, .max_entries = 1};
    int table = bpf(BPF_MAP_CREATE, &map);
    if (table < 0) fail("BPF_MAP_CREATE");
    struct bpf_insn program[] = {
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0),
        INSTRUCTION(BPF_LDX | BPF_MEM | BPF_W, 2, 6, 0, 0),            // the frame's start
        INSTRUCTION(BPF_LDX | BPF_MEM | BPF_W, 3, 6, 4, 0),            // and end
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_X, 4, 2, 0, 0),
        INSTRUCTION(BPF_ALU64 | BPF_ADD | BPF_K, 4, 0, 0, HEADERS),
        INSTRUCTION(BPF_JMP | BPF_JGT | BPF_X, 4, 3, 12, 0),
        INSTRUCTION(BPF_LDX | BPF_MEM | BPF_H, 5, 2, 12, 0),           // EtherType
        INSTRUCTION(BPF_JMP | BPF_JNE | BPF_K, 5, 0, 10, htons(0x0800)),
        INSTRUCTION(BPF_LDX | BPF_MEM | BPF_B, 5, 2, 23, 0),           // protocol
        INSTRUCTION(BPF_JMP | BPF_JNE | BPF_K, 5, 0, 8, IPPROTO_UDP),
        INSTRUCTION(BPF_LDX | BPF_MEM | BPF_H, 5, 2, 36, 0),           // destination port
        INSTRUCTION(BPF_JMP | BPF_JNE | BPF_K, 5, 0, 6, htons(port)),
        INSTRUCTION(BPF_LDX | BPF_MEM | BPF_W, 2, 6, 16, 0),           // receive queue
        INSTRUCTION(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_FD, 0, table),
        INSTRUCTION(0, 0, 0, 0, 0),
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_K, 3, 0, 0, XDP_PASS),
        INSTRUCTION(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_redirect_map),
        INSTRUCTION(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
        INSTRUCTION(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, XDP_PASS),
        INSTRUCTION(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
    };
    union bpf_attr load = {
        .prog_type = BPF_PROG_TYPE_XDP, .expected_attach_type = BPF_XDP, .insns = (uintptr_t)program, .insn_cnt = sizeof program / sizeof *program,
        .license = (uintptr_t) "GPL"};
    int steering = bpf(BPF_PROG_LOAD, &load);
    if (steering < 0) fail("BPF_PROG_LOAD");
    union bpf_attr link = {.link_create = {.prog_fd = (uint32_t)steering, .target_ifindex = interface, .attach_type = BPF_XDP, .flags = XDP_FLAGS_DRV_MODE}};
    if (bpf(BPF_LINK_CREATE, &link) < 0) fail("BPF_LINK_CREATE in driver mode");
    uint32_t queue = 0;
    union bpf_attr entry = {.map_fd = (uint32_t)table, .key = (uintptr_t)&queue, .value = (uintptr_t)&socket};
    if (bpf(BPF_MAP_UPDATE_ELEM, &entry) < 0) fail("BPF_MAP_UPDATE_ELEM");
}

// Opens a socket for the datagrams to `port`, the fill ring filled with the first half of the chunks. The second half is the caller's.
static inline struct xdp_socket open_xdp(const char *name, uint16_t port) {
    struct xdp_socket opened;
    unsigned interface = if_nametoindex(name);
    if (interface == 0) fail(name);
    opened.descriptor = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (opened.descriptor < 0) fail("socket(AF_XDP)");
    opened.memory = mmap(NULL, CHUNK * CHUNKS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (opened.memory == MAP_FAILED) fail("mmap of the chunks");
    struct xdp_umem_reg region = {.addr = (uintptr_t)opened.memory, .len = CHUNK * CHUNKS, .chunk_size = CHUNK};
    if (setsockopt(opened.descriptor, SOL_XDP, XDP_UMEM_REG, &region, sizeof region) < 0) fail("XDP_UMEM_REG");
    const int rings[] = {XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_RX_RING, XDP_TX_RING};
    for (int i = 0; i < 4; i++) {
        int entries = RING;
        if (setsockopt(opened.descriptor, SOL_XDP, rings[i], &entries, sizeof entries) < 0) fail("the size of a ring");
    }
    struct xdp_mmap_offsets offsets;
    socklen_t length = sizeof offsets;
    if (getsockopt(opened.descriptor, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &length) < 0) fail("XDP_MMAP_OFFSETS");
    opened.receive = map_ring(opened.descriptor, XDP_PGOFF_RX_RING, &offsets.rx, sizeof(struct xdp_desc));
    opened.transmit = map_ring(opened.descriptor, XDP_PGOFF_TX_RING, &offsets.tx, sizeof(struct xdp_desc));
    opened.fill = map_ring(opened.descriptor, (off_t)XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, sizeof(uint64_t));
    opened.completion = map_ring(opened.descriptor, (off_t)XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.cr, sizeof(uint64_t));
    for (uint64_t i = 0; i < RING; i++) ((uint64_t *)opened.fill.entries)[i] = i * CHUNK;
    atomic_store_explicit(opened.fill.producer, RING, memory_order_release);
    struct sockaddr_xdp address = {.sxdp_family = AF_XDP, .sxdp_ifindex = interface, .sxdp_flags = XDP_COPY | XDP_USE_NEED_WAKEUP};
    if (bind(opened.descriptor, (struct sockaddr *)&address, sizeof address) < 0) fail("bind");
    steer(opened.descriptor, interface, port);
    return opened;
}

// In copy mode the kernel sends within this call.
static inline void send_transmitted(struct xdp_socket *opened) {
    if (atomic_load_explicit(opened->transmit.flags, memory_order_relaxed) & XDP_RING_NEED_WAKEUP)
        (void)sendto(opened->descriptor, NULL, 0, MSG_DONTWAIT, NULL, 0);
}

static inline uint64_t nanoseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
