// The packet path: mbufs around blocks of the heap, a burst at a time.
#ifdef DPDK

#include "internal.h"

#include <string.h>

DPDK_CODE_BEGINS

void dpdk_return_segment(struct dpdk_device *device, void *segment) {
    if (dpdk_this_thread() == device->owner) {
        device->shared.returned[device->shared.returned_count++] = segment;
    } else {
        // It has room for all segments that the device can hold.
        rte_ring_mp_enqueue(device->returned_elsewhere, segment);
    }
}

void dpdk_block_is_free(void *address, void *opaque) {
    struct mbuf_private *private = opaque;
    (void)address;
    void *segment = private->segment;
    if (segment == NULL) return;
    private->segment = NULL;
    dpdk_return_segment(private->device, segment);
}

// MARK: Transmit

static void drop_pending(struct dpdk_device *device) {
    rte_pktmbuf_free_bulk(device->pending, device->shared.pending_count);
    device->shared.counts.transmit_link_down += device->shared.pending_count;
    device->shared.pending_count = 0;
}

/// Offers what is pending to the driver. What it does not take stays, unless there is no link to take it ever.
static void send_pending(struct dpdk_device *device) {
    uint32_t count = device->shared.pending_count;
    uint16_t sent = rte_eth_tx_burst(device->port, 0, device->pending, (uint16_t)count);
    for (uint16_t index = 0; index < sent; index++) device->shared.counts.transmitted_bytes += device->pending_bytes[index];
    device->shared.counts.transmitted_frames += sent;
    device->shared.pending_count = count - sent;
    if (likely(sent == count)) return;
    memmove(device->pending, device->pending + sent, (count - sent) * sizeof device->pending[0]);
    memmove(device->pending_bytes, device->pending_bytes + sent, (count - sent) * sizeof device->pending_bytes[0]);
    if (sent == 0) {
        struct rte_eth_link link;
        if (rte_eth_link_get_nowait(device->port, &link) == 0 && link.link_status == RTE_ETH_LINK_DOWN) drop_pending(device);
    }
}

/// Wraps a segment, from now on the mbuf's, without a copy.
static inline void wrap(struct rte_mbuf *mbuf, const struct dpdk_transmitted *segment) {
    struct mbuf_private *private = rte_mbuf_to_priv(mbuf);
    private->segment = segment->segment;
    private->shared_info.free_cb = dpdk_block_is_free;
    private->shared_info.fcb_opaque = private;
    rte_mbuf_ext_refcnt_set(&private->shared_info, 1);
    rte_pktmbuf_attach_extbuf(
        mbuf, segment->address, (rte_iova_t)(uintptr_t)segment->address, (uint16_t)segment->byte_count, &private->shared_info);
    mbuf->data_len = (uint16_t)segment->byte_count;
}

/// One mbuf for each segment; NULL when the pool has no more, and then nothing has changed.
static struct rte_mbuf *make_chain(struct dpdk_device *device, const struct dpdk_transmitted *segments, uint32_t count, uint32_t byte_count) {
    struct rte_mbuf *mbufs[dpdk_burst_segments];
    if (rte_pktmbuf_alloc_bulk(device->transmit_pool, mbufs, count) != 0) return NULL;
    for (uint32_t index = 0; index < count; index++) {
        wrap(mbufs[index], &segments[index]);
        mbufs[index]->next = index + 1 < count ? mbufs[index + 1] : NULL;
    }
    mbufs[0]->nb_segs = (uint16_t)count;
    mbufs[0]->pkt_len = byte_count;
    return mbufs[0];
}

/// One mbuf with a copy of all segments, which come back at once.
static struct rte_mbuf *make_copy(struct dpdk_device *device, const struct dpdk_transmitted *segments, uint32_t count, uint32_t byte_count) {
    struct rte_mbuf *mbuf = rte_pktmbuf_alloc(device->transmit_pool);
    if (mbuf == NULL) return NULL;
    char *target = rte_pktmbuf_mtod(mbuf, char *);
    for (uint32_t index = 0; index < count; index++) {
        memcpy(target, segments[index].address, segments[index].byte_count);
        target += segments[index].byte_count;
        dpdk_return_segment(device, segments[index].segment);
    }
    mbuf->data_len = (uint16_t)byte_count;
    mbuf->pkt_len = byte_count;
    device->shared.counts.transmit_copies += 1;
    return mbuf;
}

uint32_t dpdk_device_transmit(struct dpdk_device *device, const struct dpdk_transmitted *segments, uint32_t segment_count) {
    // What waits goes first.
    if (device->shared.pending_count != 0) {
        send_pending(device);
        if (device->shared.pending_count != 0) return 0;
    }
    uint32_t frames = 0;
    for (uint32_t first = 0; first < segment_count && frames < dpdk_burst_frames;) {
        uint32_t count = 1;
        uint32_t byte_count = segments[first].byte_count;
        while (!segments[first + count - 1].ends_frame) byte_count += segments[first + count++].byte_count;
        bool copies = !device->memory.transmits_from_blocks || (count > 1 && !device->transmits_segments);
        struct rte_mbuf *mbuf = (copies ? make_copy : make_chain)(device, segments + first, count, byte_count);
        if (mbuf == NULL) break;
        device->pending[frames] = mbuf;
        device->pending_bytes[frames] = byte_count;
        frames += 1;
        first += count;
    }
    device->shared.pending_count = frames;
    if (frames != 0) send_pending(device);
    return frames;
}

// MARK: Receive

/// The frame's own block, whose place in the mbuf a block in store takes.
static inline void take_block(struct dpdk_device *device, struct rte_mbuf *mbuf, struct dpdk_received *frame) {
    struct mbuf_private *private = rte_mbuf_to_priv(mbuf);
    struct dpdk_block *block = &device->shared.blocks[--device->shared.block_count];
    frame->segment = private->segment;
    frame->offset = mbuf->data_off;
    frame->byte_count = mbuf->data_len;
    private->segment = block->segment;
    mbuf->buf_addr = block->address;
    rte_mbuf_iova_set(mbuf, (rte_iova_t)(uintptr_t)block->address);
}

/// A frame of this device that came back through a ring: the segment that was sent.
static inline void take_back(struct rte_mbuf *mbuf, struct dpdk_received *frame) {
    struct mbuf_private *private = rte_mbuf_to_priv(mbuf);
    frame->segment = private->segment;
    frame->offset = mbuf->data_off;
    frame->byte_count = mbuf->data_len;
    private->segment = NULL;
}

/// A frame in memory that is not this heap's, or in several pieces, moves into a block in store.
static void take_copy(struct dpdk_device *device, struct rte_mbuf *mbuf, struct dpdk_received *frame) {
    struct dpdk_block *block = &device->shared.blocks[--device->shared.block_count];
    frame->segment = block->segment;
    frame->offset = dpdk_headroom;
    frame->byte_count = mbuf->pkt_len;
    char *target = (char *)block->address + dpdk_headroom;
    uint32_t left = mbuf->pkt_len;
    for (struct rte_mbuf *part = mbuf; part != NULL && left > 0; part = part->next) {
        uint32_t count = part->data_len < left ? part->data_len : left;
        memcpy(target, rte_pktmbuf_mtod(part, char *), count);
        target += count;
        left -= count;
    }
    frame->byte_count -= left;
    device->shared.counts.receive_copies += 1;
}

static inline bool is_malformed(struct dpdk_device *device, struct rte_mbuf *mbuf) {
    // A driver that takes the tag of a VLAN away makes a frame of another network look like one of this; priority tags (VLAN 0) are none.
    return mbuf->pkt_len < RTE_ETHER_HDR_LEN || mbuf->pkt_len > device->maximum_frame_bytes
        || ((mbuf->ol_flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0 && (mbuf->vlan_tci & 0xfff) != 0);
}

uint32_t dpdk_device_receive(struct dpdk_device *device, struct dpdk_received *frames, uint32_t capacity) {
    if (device->shared.pending_count != 0) send_pending(device);
    if (unlikely(!rte_ring_empty(device->returned_elsewhere))) {
        void *segment;
        while (rte_ring_sc_dequeue(device->returned_elsewhere, &segment) == 0) dpdk_return_segment(device, segment);
    }
    struct rte_mbuf *mbufs[dpdk_burst_frames];
    if (capacity > dpdk_burst_frames) capacity = dpdk_burst_frames;
    uint16_t arrived = rte_eth_rx_burst(device->port, 0, mbufs, (uint16_t)capacity);
    if (arrived == 0) return 0;
    uint32_t count = 0;
    for (uint16_t index = 0; index < arrived; index++) {
        struct rte_mbuf *mbuf = mbufs[index];
        if (unlikely(is_malformed(device, mbuf))) {
            device->shared.counts.receive_malformed += 1;
            continue;
        }
        bool is_plain = mbuf->nb_segs == 1 && rte_mbuf_refcnt_read(mbuf) == 1;
        if (mbuf->pool == device->transmit_pool && is_plain && RTE_MBUF_HAS_EXTBUF(mbuf)) {
            take_back(mbuf, &frames[count]);
        } else if (unlikely(device->shared.block_count == 0)) {
            device->shared.counts.receive_out_of_memory += 1;
            continue;
        } else if (device->memory.receives_into_blocks && mbuf->pool == device->receive_pool && is_plain) {
            take_block(device, mbuf, &frames[count]);
        } else {
            take_copy(device, mbuf, &frames[count]);
        }
        device->shared.counts.received_bytes += frames[count].byte_count;
        count += 1;
    }
    device->shared.counts.received_frames += count;
    // The mbufs go back, with the blocks that they hold now.
    rte_pktmbuf_free_bulk(mbufs, arrived);
    return count;
}

DPDK_CODE_ENDS

#endif
