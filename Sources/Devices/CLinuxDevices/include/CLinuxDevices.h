// Linux calls on network devices that Swift cannot make: those with a variable number of arguments, and structs with unions.
// All are static inlines and return 0 (or what they say) or a negative errno.
#ifndef CLINUXDEVICES_H
#define CLINUXDEVICES_H

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <sys/syscall.h>
#include <linux/bpf.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/if_xdp.h>
#include <linux/sockios.h>

// MARK: TAP (linux/if_tun.h)

/// TUNSETIFF: attaches a descriptor of /dev/net/tun to the TAP interface `name`, which is made if there is none. `name` has room for IFNAMSIZ bytes
/// and gets the name that the kernel chose. With `multi_queue`, the descriptor is one of several queues.
static inline int linux_tap_attach(int descriptor, char *name, int multi_queue) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
    request.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | (multi_queue ? IFF_MULTI_QUEUE : 0));
    if (ioctl(descriptor, TUNSETIFF, &request) != 0) return -errno;
    memcpy(name, request.ifr_name, IFNAMSIZ);
    return 0;
}

/// TUNSETSTEERINGEBPF: has a program of `count` instructions (a socket filter of eBPF) choose the queue of each frame that the kernel sends.
static inline int linux_tap_steer(int descriptor, const uint64_t *instructions, uint32_t count) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
    attributes.insns = (uint64_t)(uintptr_t)instructions;
    attributes.insn_cnt = count;
    attributes.license = (uint64_t)(uintptr_t)"Apache-2.0";
    int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes);
    if (program < 0) return -errno;
    int result = ioctl(descriptor, TUNSETSTEERINGEBPF, &program) != 0 ? -errno : 0;
    close(program);
    return result;
}

/// TUNGETIFF: the interface that a descriptor is attached to, and the flags that it was attached with.
static inline int linux_tap_describe(int descriptor, char *name, uint16_t *flags) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    if (ioctl(descriptor, TUNGETIFF, &request) != 0) return -errno;
    memcpy(name, request.ifr_name, IFNAMSIZ);
    *flags = (uint16_t)request.ifr_flags;
    return 0;
}

/// SIOCGIFHWADDR of a TAP descriptor, in whatever network namespace the interface is: six bytes.
static inline int linux_tap_hardware_address(int descriptor, uint8_t *address) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    if (ioctl(descriptor, SIOCGIFHWADDR, &request) != 0) return -errno;
    memcpy(address, request.ifr_hwaddr.sa_data, 6);
    return 0;
}

// MARK: Interfaces (netdevice(7)): `socket` is any socket of the interface's network namespace

static inline int linux_interface_request(int socket, const char *name, unsigned long code, struct ifreq *request) {
    if (strlen(name) >= IFNAMSIZ) return -ENODEV;
    snprintf(request->ifr_name, IFNAMSIZ, "%s", name);
    return ioctl(socket, code, request) != 0 ? -errno : 0;
}

static inline int linux_interface_index(int socket, const char *name) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    int result = linux_interface_request(socket, name, SIOCGIFINDEX, &request);
    return result < 0 ? result : request.ifr_ifindex;
}

static inline int linux_interface_mtu(int socket, const char *name) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    int result = linux_interface_request(socket, name, SIOCGIFMTU, &request);
    return result < 0 ? result : request.ifr_mtu;
}

static inline int linux_interface_set_mtu(int socket, const char *name, int mtu) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    request.ifr_mtu = mtu;
    return linux_interface_request(socket, name, SIOCSIFMTU, &request);
}

/// The flags of the interface (IFF_UP, IFF_RUNNING, …).
static inline int linux_interface_flags(int socket, const char *name) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    int result = linux_interface_request(socket, name, SIOCGIFFLAGS, &request);
    return result < 0 ? result : (uint16_t)request.ifr_flags;
}

static inline int linux_interface_set_up(int socket, const char *name) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    int result = linux_interface_request(socket, name, SIOCGIFFLAGS, &request);
    if (result < 0) return result;
    if (request.ifr_flags & IFF_UP) return 0;
    request.ifr_flags |= IFF_UP;
    return linux_interface_request(socket, name, SIOCSIFFLAGS, &request);
}

/// Six bytes; -EAFNOSUPPORT for an interface that is not Ethernet.
static inline int linux_interface_hardware_address(int socket, const char *name, uint8_t *address) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    int result = linux_interface_request(socket, name, SIOCGIFHWADDR, &request);
    if (result < 0) return result;
    if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) return -EAFNOSUPPORT;
    memcpy(address, request.ifr_hwaddr.sa_data, 6);
    return 0;
}

/// Gives the interface its IPv4 address and the length of its prefix; `address` is in network order.
static inline int linux_interface_set_ipv4(int socket, const char *name, uint32_t address, int prefix_length) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    struct sockaddr_in *value = (struct sockaddr_in *)&request.ifr_addr;
    value->sin_family = AF_INET;
    value->sin_addr.s_addr = address;
    int result = linux_interface_request(socket, name, SIOCSIFADDR, &request);
    if (result < 0) return result;
    value->sin_family = AF_INET;
    value->sin_addr.s_addr = prefix_length == 0 ? 0 : htonl(~0u << (32 - prefix_length));
    return linux_interface_request(socket, name, SIOCSIFNETMASK, &request);
}

/// Gives the interface an IPv6 address; `socket` is of AF_INET6.
static inline int linux_interface_add_ipv6(int socket, int index, const uint8_t *address, int prefix_length) {
    // struct in6_ifreq of linux/ipv6.h, which contradicts netinet/in.h.
    struct {
        struct in6_addr address;
        uint32_t prefix_length;
        int index;
    } request;
    memset(&request, 0, sizeof request);
    memcpy(&request.address, address, 16);
    request.prefix_length = (uint32_t)prefix_length;
    request.index = index;
    return ioctl(socket, SIOCSIFADDR, &request) != 0 ? -errno : 0;
}

/// Writes the driver's name: 32 bytes.
static inline int linux_interface_driver(int socket, const char *name, char *driver) {
    struct ethtool_drvinfo information;
    memset(&information, 0, sizeof information);
    information.cmd = ETHTOOL_GDRVINFO;
    struct ifreq request;
    memset(&request, 0, sizeof request);
    request.ifr_data = (char *)&information;
    int result = linux_interface_request(socket, name, SIOCETHTOOL, &request);
    if (result < 0) return result;
    memcpy(driver, information.driver, sizeof information.driver);
    driver[sizeof information.driver - 1] = 0;
    return 0;
}

/// How many receive queues are in use; 1 for a driver that cannot tell.
static inline int linux_interface_receive_queues(int socket, const char *name) {
    struct ethtool_channels channels;
    memset(&channels, 0, sizeof channels);
    channels.cmd = ETHTOOL_GCHANNELS;
    struct ifreq request;
    memset(&request, 0, sizeof request);
    request.ifr_data = (char *)&channels;
    if (linux_interface_request(socket, name, SIOCETHTOOL, &request) < 0) return 1;
    uint32_t count = channels.rx_count + channels.combined_count;
    return count == 0 ? 1 : (int)count;
}

/// Switches transmit checksum offload (`ethtool -K NAME tx off`).
static inline int linux_interface_set_transmit_checksums(int socket, const char *name, int on) {
    struct ethtool_value value = {.cmd = ETHTOOL_STXCSUM, .data = (uint32_t)on};
    struct ifreq request;
    memset(&request, 0, sizeof request);
    request.ifr_data = (char *)&value;
    return linux_interface_request(socket, name, SIOCETHTOOL, &request);
}

// MARK: eBPF (bpf(2))

static inline int linux_bpf(int command, union bpf_attr *attributes) {
    long result = syscall(SYS_bpf, command, attributes, sizeof *attributes);
    return result < 0 ? -errno : (int)result;
}

/// A map from receive queue to AF_XDP socket. Returns its descriptor.
static inline int linux_bpf_make_socket_map(uint32_t capacity) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.map_type = BPF_MAP_TYPE_XSKMAP;
    attributes.key_size = 4;
    attributes.value_size = 4;
    attributes.max_entries = capacity;
    return linux_bpf(BPF_MAP_CREATE, &attributes);
}

static inline int linux_bpf_set_socket(int map, uint32_t queue, int socket) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.map_fd = (uint32_t)map;
    attributes.key = (uint64_t)(uintptr_t)&queue;
    attributes.value = (uint64_t)(uintptr_t)&socket;
    return linux_bpf(BPF_MAP_UPDATE_ELEM, &attributes);
}

/// Loads an XDP program; `takes_fragments` says that frames of several buffers may be given to it (Linux 5.18). Returns its descriptor.
static inline int linux_bpf_load_xdp(const uint64_t *instructions, uint32_t count, int takes_fragments) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.prog_type = BPF_PROG_TYPE_XDP;
    attributes.expected_attach_type = BPF_XDP;
    attributes.insns = (uint64_t)(uintptr_t)instructions;
    attributes.insn_cnt = count;
    attributes.license = (uint64_t)(uintptr_t)"GPL";
    attributes.prog_flags = takes_fragments ? BPF_F_XDP_HAS_FRAGS : 0;
    memcpy(attributes.prog_name, "demikernel", 11);
    return linux_bpf(BPF_PROG_LOAD, &attributes);
}

/// Attaches a program to an interface until the descriptor that this returns is closed (Linux 5.9).
static inline int linux_bpf_link_xdp(int program, int interface, uint32_t flags) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.link_create.prog_fd = (uint32_t)program;
    attributes.link_create.target_ifindex = (uint32_t)interface;
    attributes.link_create.attach_type = BPF_XDP;
    attributes.link_create.flags = flags;
    return linux_bpf(BPF_LINK_CREATE, &attributes);
}

/// Runs a loaded XDP program once on a frame, on no interface. Returns its verdict.
static inline int linux_bpf_run_xdp(int program, const void *frame, uint32_t byte_count) {
    union bpf_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.test.prog_fd = (uint32_t)program;
    attributes.test.data_in = (uint64_t)(uintptr_t)frame;
    attributes.test.data_size_in = byte_count;
    int result = linux_bpf(BPF_PROG_TEST_RUN, &attributes);
    return result < 0 ? result : (int)attributes.test.retval;
}

// MARK: AF_XDP (linux/if_xdp.h)

// Newer than the oldest headers that this builds with.
enum {
    linux_xdp_use_sg = 1 << 4,            // XDP_USE_SG, Linux 6.6: frames of several descriptors
    linux_xdp_packet_continues = 1 << 0,  // XDP_PKT_CONTD: the next descriptor is of the same frame
    linux_xdp_has_metadata = 1 << 1,      // XDP_TX_METADATA: in front of the frame stands what the kernel is to do with it
    linux_xdp_umem_has_metadata = 1 << 2, // XDP_UMEM_TX_METADATA_LEN, Linux 6.11
};

/// struct xdp_umem_reg, with its last field, which the oldest headers lack.
struct linux_xdp_memory {
    uint64_t address;
    uint64_t byte_count;
    uint32_t chunk_byte_count;
    uint32_t headroom;
    uint32_t flags;
    uint32_t metadata_byte_count;
};

/// struct xsk_tx_metadata (Documentation/networking/xsk-tx-metadata.rst), of a frame whose checksum is to be completed: from `start` on, counted from the
/// frame's first byte, into the field `offset` bytes behind that, which holds the pseudo-header's sum.
struct linux_xdp_metadata {
    uint64_t flags;
    uint16_t checksum_start;
    uint16_t checksum_offset;
    uint32_t unused;
    uint64_t launch_time;
};

enum { linux_xdp_metadata_checksum = 1 << 1 };  // XDP_TXMD_FLAGS_CHECKSUM

// The rings are shared with the kernel: an index is read before, and written behind, the descriptors that it speaks of.
static inline uint32_t linux_ring_load(const uint32_t *index) { return atomic_load_explicit((const _Atomic uint32_t *)index, memory_order_acquire); }
static inline void linux_ring_store(uint32_t *index, uint32_t value) {
    atomic_store_explicit((_Atomic uint32_t *)index, value, memory_order_release);
}
static inline uint32_t linux_ring_flags(const uint32_t *flags) { return atomic_load_explicit((const _Atomic uint32_t *)flags, memory_order_relaxed); }

#endif
