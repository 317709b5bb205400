// DPDK as Swift sees it: nothing of rte_mbuf, whose alignment Swift cannot import, and one call per burst. Only with the trait DPDK is there code behind.
//
// A "segment" is a SegmentDescriptor of the heap, whose bytes lie at an address that goes with it: C carries the pointer and gives it back.
// A device belongs to one thread; what other threads do to its mbufs (a driver's own thread, another device on a ring) is taken care of.
#ifndef CDPDK_H
#define CDPDK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// The most frames of a burst.
enum { dpdk_burst_frames = 64 };
/// The most segments of all frames of a burst.
enum { dpdk_burst_segments = 256 };
/// Bytes in front of a received frame.
enum { dpdk_headroom = 128 };
/// Bytes behind a received frame that drivers want to have: for tags of VLANs, the check sequence, a header of virtio, the alignment of a packet ring.
enum { dpdk_tailroom = 128 };
/// The most bytes of an error's text, with the zero at its end.
enum { dpdk_message_bytes = 256 };

/// A block that a frame can be received into.
struct dpdk_block {
    void *segment;
    void *address;
};

/// A received frame: `byte_count` bytes at `offset` of what `segment` covered when it was given as a block, or was transmitted.
struct dpdk_received {
    void *segment;
    uint32_t offset;
    uint32_t byte_count;
};

/// One segment of a frame to transmit.
struct dpdk_transmitted {
    void *segment;
    void *address;
    uint32_t byte_count;
    /// 1 in the last segment of a frame.
    uint32_t ends_frame;
};

struct dpdk_counts {
    uint64_t transmitted_frames, transmitted_bytes, transmit_copies, transmit_link_down, transmit_errors;
    uint64_t received_frames, received_bytes, receive_copies, receive_out_of_memory, receive_malformed, receive_ring_full, receive_errors;
};

/// What both sides of the language border touch on each burst; the first part of a device.
struct dpdk_shared {
    /// Blocks in store for frames to come, `block_count` of them and at most `dpdk_burst_frames`. Swift fills it up after a burst.
    struct dpdk_block *blocks;
    uint32_t block_count;
    /// Frames that the driver did not take yet.
    uint32_t pending_count;
    /// Segments that the device is done with: Swift releases them, and sets the count to 0.
    void **returned;
    uint32_t returned_count;
    struct dpdk_counts counts;
};

struct dpdk_device;

/// How frames and memory meet; decided by the driver's name.
struct dpdk_memory {
    /// Received into blocks of the heap. Else into memory of DPDK, and copied from there.
    bool receives_into_blocks;
    /// Transmitted from where they lie. Else copied into memory of DPDK.
    bool transmits_from_blocks;
    /// Frames can outlive the device that sent them: others have them in a ring.
    bool frames_outlive_device;
    /// Mbufs that the driver holds for frames to come, beside one for each descriptor.
    uint32_t held_mbufs;
};

struct dpdk_description {
    /// 48 bits; 0 where the driver has none.
    uint64_t mac_address;
    uint32_t mtu;
    uint32_t maximum_segments;
    /// Receive and transmit descriptors that `dpdk_device_start` will ask for.
    uint32_t receive_descriptors, transmit_descriptors;
};

/// The processor that the calling thread runs on now.
int dpdk_this_processor(void);
/// Starts the environment abstraction layer (EAL): the first call does, and each returns how that ended, 0 or a negative errno. The affinity of the
/// calling thread is as it was.
int dpdk_start(int count, const char *const *arguments);
/// Writes the first line of error that DPDK has logged since the last call; an empty one where there is none.
void dpdk_take_message(char *message);

/// Makes the virtual device and its port. Returns 0 or a negative errno, as far as the driver has one.
int dpdk_device_open(const char *name, const char *arguments, struct dpdk_memory memory, struct dpdk_device **device);
void dpdk_device_describe(struct dpdk_device *device, struct dpdk_description *description);
/// Returns 0 or a negative errno.
int dpdk_device_set_mtu(struct dpdk_device *device, uint32_t mtu);
/// How many blocks `dpdk_device_start` wants, each of `block_bytes` or more.
uint32_t dpdk_device_blocks(struct dpdk_device *device);
/// Makes the pools and starts the port. The blocks are the device's then; not when it fails. Returns 0 or a negative errno.
int dpdk_device_start(
    struct dpdk_device *device, const struct dpdk_block *blocks, uint32_t block_bytes, uint32_t maximum_frame_bytes, uint64_t mac_address);
/// Ends the port and the virtual device. All segments that it held are in `returned` then. Returns whether frames of it are still in somebody's
/// ring: then their memory stays.
bool dpdk_device_stop(struct dpdk_device *device);
/// Frees what `dpdk_device_stop` left; not if that returned true.
void dpdk_device_free(struct dpdk_device *device);

/// Takes frames from the driver; returns how many were written. Also transmits what is pending.
uint32_t dpdk_device_receive(struct dpdk_device *device, struct dpdk_received *frames, uint32_t capacity);
/// Takes whole frames, the first ones in order, and returns how many; at most `dpdk_burst_frames`.
uint32_t dpdk_device_transmit(struct dpdk_device *device, const struct dpdk_transmitted *segments, uint32_t segment_count);
/// Adds the driver's own counts of what it dropped.
void dpdk_device_counts(struct dpdk_device *device, struct dpdk_counts *counts);

static inline struct dpdk_shared *dpdk_device_shared(struct dpdk_device *device) { return (struct dpdk_shared *)device; }

#endif
