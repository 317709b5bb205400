// Memory that two processes share: C11 atomics on its words, files of memory with seals, and descriptors that travel over unix sockets.
// Declared here because glibc hides half of it behind _GNU_SOURCE, and Swift cannot use the control-message macros.
#ifndef CDATAPATH_SHARED_MEMORY_H
#define CDATAPATH_SHARED_MEMORY_H

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

static inline uint16_t demi_load_acquire_u16(const void *address) {
    return atomic_load_explicit((const _Atomic uint16_t *)address, memory_order_acquire);
}
static inline uint16_t demi_load_relaxed_u16(const void *address) {
    return atomic_load_explicit((const _Atomic uint16_t *)address, memory_order_relaxed);
}
static inline void demi_store_release_u16(void *address, uint16_t value) {
    atomic_store_explicit((_Atomic uint16_t *)address, value, memory_order_release);
}
static inline uint32_t demi_load_acquire_u32(const void *address) {
    return atomic_load_explicit((const _Atomic uint32_t *)address, memory_order_acquire);
}
static inline void demi_store_release_u32(void *address, uint32_t value) {
    atomic_store_explicit((_Atomic uint32_t *)address, value, memory_order_release);
}
static inline void demi_store_relaxed_u32(void *address, uint32_t value) {
    atomic_store_explicit((_Atomic uint32_t *)address, value, memory_order_relaxed);
}
static inline uint64_t demi_load_relaxed_u64(const void *address) {
    return atomic_load_explicit((const _Atomic uint64_t *)address, memory_order_relaxed);
}
static inline uint64_t demi_load_acquire_u64(const void *address) {
    return atomic_load_explicit((const _Atomic uint64_t *)address, memory_order_acquire);
}
/// A release store that is also a full barrier: what this thread loads afterwards is loaded after the store is seen. One exchange instruction.
static inline void demi_store_fenced_u32(void *address, uint32_t value) {
    atomic_store_explicit((_Atomic uint32_t *)address, value, memory_order_seq_cst);
}
static inline void demi_store_fenced_u64(void *address, uint64_t value) {
    atomic_store_explicit((_Atomic uint64_t *)address, value, memory_order_seq_cst);
}
/// A full barrier between the stores before it and the loads behind it.
static inline void demi_fence(void) { atomic_thread_fence(memory_order_seq_cst); }

/// Fetches the line for writing, ahead of the store.
static inline void demi_prefetch(const void *address) { __builtin_prefetch(address, 0, 3); }
static inline void demi_prefetch_for_write(const void *address) { __builtin_prefetch(address, 1, 3); }

enum {
    DEMI_SEAL_SEAL = 1,    // F_SEAL_SEAL
    DEMI_SEAL_SHRINK = 2,  // F_SEAL_SHRINK
    DEMI_SEAL_GROW = 4,    // F_SEAL_GROW
    DEMI_SEAL_WRITE = 8,   // F_SEAL_WRITE
};

/// memfd_create(2), closed on exec, which can be sealed. Returns the descriptor, or -1 with errno set.
static inline int demi_memory_file(const char *name) {
    extern int memfd_create(const char *, unsigned int);
    return memfd_create(name, 1u /* MFD_CLOEXEC */ | 2u /* MFD_ALLOW_SEALING */);
}

/// Adds seals (F_ADD_SEALS). Returns 0, or -1 with errno set.
static inline int demi_add_seals(int file, int seals) { return fcntl(file, 1033, seals); }

/// The seals of a file of memory (F_GET_SEALS); -1 with errno set for a file that has none, as any that lies on a disk.
static inline int demi_seals(int file) { return fcntl(file, 1034); }

enum { DEMI_MAXIMUM_DESCRIPTORS = 4 };

/// Sends one message with up to DEMI_MAXIMUM_DESCRIPTORS descriptors, without blocking and without SIGPIPE. Returns its length, or -1 with errno set.
static inline ssize_t demi_send_message(int socket, const void *bytes, size_t byte_count, const int *descriptors, int descriptor_count) {
    union {
        char bytes[CMSG_SPACE(sizeof(int) * DEMI_MAXIMUM_DESCRIPTORS)];
        struct cmsghdr alignment;
    } control;
    struct iovec vector = {.iov_base = (void *)bytes, .iov_len = byte_count};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (descriptor_count > 0) {
        if (descriptor_count > DEMI_MAXIMUM_DESCRIPTORS) {
            errno = EINVAL;
            return -1;
        }
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)descriptor_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)descriptor_count);
        memcpy(CMSG_DATA(header), descriptors, sizeof(int) * (size_t)descriptor_count);
    }
    return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/// Receives one message without blocking; its descriptors, closed on exec, go to `descriptors`, which has room for DEMI_MAXIMUM_DESCRIPTORS, and
/// their number to `descriptor_count`. More descriptors than that are closed by the kernel. A message that is longer than `capacity`, or that had
/// more descriptors, fails with EMSGSIZE, and its descriptors are closed. Returns the message's length, 0 at the end, or -1 with errno set.
static inline ssize_t demi_receive_message(int socket, void *bytes, size_t capacity, int *descriptors, int *descriptor_count) {
    union {
        char bytes[CMSG_SPACE(sizeof(int) * DEMI_MAXIMUM_DESCRIPTORS)];
        struct cmsghdr alignment;
    } control;
    struct iovec vector = {.iov_base = bytes, .iov_len = capacity};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    *descriptor_count = 0;
    ssize_t count = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (count < 0) return count;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t number = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t index = 0; index < number; index++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + index * sizeof(int), sizeof descriptor);
            if (*descriptor_count < DEMI_MAXIMUM_DESCRIPTORS) {
                descriptors[(*descriptor_count)++] = descriptor;
            } else {
                close(descriptor);
            }
        }
    }
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
        for (int index = 0; index < *descriptor_count; index++) close(descriptors[index]);
        *descriptor_count = 0;
        errno = EMSGSIZE;
        return -1;
    }
    return count;
}

/// Fills in a unix socket's address. Returns its length, or 0 when the path does not fit.
static inline socklen_t demi_unix_address(struct sockaddr_un *address, const char *path) {
    size_t count = strlen(path);
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (count == 0 || count >= sizeof address->sun_path) return 0;
    memcpy(address->sun_path, path, count);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + count + 1);
}

/// The user of the process that made a unix socket's other end (SO_PEERCRED), or -1.
static inline int64_t demi_peer_user(int file) {
    struct { pid_t process; uid_t user; gid_t group; } peer;  // struct ucred
    socklen_t byte_count = sizeof peer;
    return getsockopt(file, SOL_SOCKET, SO_PEERCRED, &peer, &byte_count) == 0 ? (int64_t)peer.user : -1;
}

#endif
