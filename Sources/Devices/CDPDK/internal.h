// What the parts of the shim share. DPDK's inlines need SSE 4.2, which is more than the compiler's default; the library asks the processor at its start.
#ifndef CDPDK_INTERNAL_H
#define CDPDK_INTERNAL_H

#include "CDPDK.h"

#if defined(__x86_64__)
#define DPDK_CODE_BEGINS _Pragma("clang attribute push(__attribute__((target(\"sse4.2\"))), apply_to=function)")
#define DPDK_CODE_ENDS _Pragma("clang attribute pop")
#else
#define DPDK_CODE_BEGINS
#define DPDK_CODE_ENDS
#endif

DPDK_CODE_BEGINS

#include <rte_config.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

/// In the private area of each mbuf that carries a block: of `receive_pool` with heap blocks, and of `transmit_pool`.
struct mbuf_private {
    struct rte_mbuf_ext_shared_info shared_info;
    /// What the mbuf holds; NULL for nothing.
    void *segment;
    struct dpdk_device *device;
};

struct dpdk_device {
    struct dpdk_shared shared;
    struct dpdk_block blocks[dpdk_burst_frames];
    struct dpdk_memory memory;
    struct rte_mempool *receive_pool;
    struct rte_mempool *transmit_pool;
    /// Segments that other threads are done with.
    struct rte_ring *returned_elsewhere;
    /// The thread that the device belongs to, by the address of a thread's own variable.
    const void *owner;
    struct rte_mbuf *pending[dpdk_burst_frames];
    uint32_t pending_bytes[dpdk_burst_frames];
    /// Mbufs of `receive_pool`, of `transmit_pool`.
    uint32_t receive_mbufs, transmit_mbufs;
    uint32_t maximum_frame_bytes;
    uint16_t port;
    uint16_t receive_descriptors, transmit_descriptors;
    bool is_started;
    /// Frames of several segments go out as such.
    bool transmits_segments;
    char name[RTE_ETH_NAME_MAX_LEN];
};

_Static_assert(offsetof(struct dpdk_device, shared) == 0, "Swift reaches the shared part through the device's address");
_Static_assert(dpdk_headroom == RTE_PKTMBUF_HEADROOM, "what DPDK leaves in front of a frame");

/// An address that is another one in each thread.
const void *dpdk_this_thread(void);

/// Adds to what Swift releases; from any thread.
void dpdk_return_segment(struct dpdk_device *device, void *segment);
/// Called by DPDK when the last user of a transmitted block is done.
void dpdk_block_is_free(void *address, void *mbuf_private);

DPDK_CODE_ENDS

#endif
