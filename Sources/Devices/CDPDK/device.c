// A port on a virtual device: made, described, started on the heap's blocks, and ended.
#ifdef DPDK

#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

DPDK_CODE_BEGINS

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mbuf_pool_ops.h>

/// Descriptors of each direction, where the driver has no wish of its own.
enum { usual_descriptors = 256 };
/// Mbufs that each core keeps back for itself.
enum { cache_size = 32 };

static __thread char this_thread;
/// Devices of this thread, where it was made known to DPDK for them: it then has a cache of mbufs.
static __thread unsigned registrations;
static __thread bool was_registered;

const void *dpdk_this_thread(void) { return &this_thread; }

static void register_thread(void) {
    if (registrations == 0 && rte_lcore_id() == LCORE_ID_ANY) was_registered = rte_thread_register() == 0;
    registrations += 1;
}

static void unregister_thread(void) {
    registrations -= 1;
    if (registrations == 0 && was_registered) {
        rte_thread_unregister();
        was_registered = false;
    }
}

static int last_error(void) { return rte_errno != 0 ? -rte_errno : -EIO; }

int dpdk_device_open(const char *name, const char *arguments, struct dpdk_memory memory, struct dpdk_device **device) {
    uint16_t port;
    if (strlen(name) >= RTE_ETH_NAME_MAX_LEN) return -ENAMETOOLONG;
    if (rte_eth_dev_get_port_by_name(name, &port) == 0) return -EEXIST;
    struct dpdk_device *made = calloc(1, sizeof *made);
    if (made == NULL) return -ENOMEM;
    strcpy(made->name, name);
    int result = rte_eal_hotplug_add("vdev", name, arguments);
    if (result == 0) {
        result = rte_eth_dev_get_port_by_name(name, &made->port);
        if (result != 0) rte_eal_hotplug_remove("vdev", name);
    }
    if (result != 0) {
        free(made);
        // Many drivers return just -1 for whatever it was; only without root that may be what it says.
        if (result == -1 && geteuid() == 0) return -EINVAL;
        // No driver has this name.
        if (result == -EFAULT) return -ENODEV;
        return result < 0 ? result : -result;
    }
    made->shared.blocks = made->blocks;
    made->memory = memory;
    made->receive_descriptors = usual_descriptors;
    made->transmit_descriptors = usual_descriptors;
    rte_eth_dev_adjust_nb_rx_tx_desc(made->port, &made->receive_descriptors, &made->transmit_descriptors);
    *device = made;
    return 0;
}

void dpdk_device_describe(struct dpdk_device *device, struct dpdk_description *description) {
    memset(description, 0, sizeof *description);
    struct rte_ether_addr address;
    if (rte_eth_macaddr_get(device->port, &address) == 0) {
        for (int index = 0; index < RTE_ETHER_ADDR_LEN; index++) {
            description->mac_address = description->mac_address << 8 | address.addr_bytes[index];
        }
    }
    uint16_t mtu = RTE_ETHER_MTU;
    rte_eth_dev_get_mtu(device->port, &mtu);
    struct rte_eth_dev_info info;
    if (rte_eth_dev_info_get(device->port, &info) == 0) {
        device->transmits_segments = device->memory.transmits_from_blocks && (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0;
        description->maximum_segments = info.tx_desc_lim.nb_mtu_seg_max;
    }
    description->mtu = mtu;
    description->receive_descriptors = device->receive_descriptors;
    description->transmit_descriptors = device->transmit_descriptors;
}

int dpdk_device_set_mtu(struct dpdk_device *device, uint32_t mtu) {
    return mtu > UINT16_MAX ? -EINVAL : rte_eth_dev_set_mtu(device->port, (uint16_t)mtu);
}

/// What the driver may hold, what a burst holds on its way, and what the cores keep back.
static uint32_t mbufs_for(uint32_t descriptors) { return descriptors + 2 * dpdk_burst_frames + 2 * cache_size; }

uint32_t dpdk_device_blocks(struct dpdk_device *device) {
    device->receive_mbufs = mbufs_for(device->receive_descriptors) + device->memory.held_mbufs;
    return device->memory.receives_into_blocks ? device->receive_mbufs : 0;
}

struct blocks {
    struct dpdk_device *device;
    const struct dpdk_block *blocks;
    uint32_t bytes;
};

static void give_block(struct rte_mempool *pool, void *context, void *object, unsigned index) {
    struct blocks *blocks = context;
    struct rte_mbuf *mbuf = object;
    struct mbuf_private *private = rte_mbuf_to_priv(mbuf);
    (void)pool;
    private->device = blocks->device;
    private->segment = blocks->blocks[index].segment;
    mbuf->buf_addr = blocks->blocks[index].address;
    rte_mbuf_iova_set(mbuf, (rte_iova_t)(uintptr_t)mbuf->buf_addr);
    mbuf->buf_len = (uint16_t)blocks->bytes;
}

static void name_device(struct rte_mempool *pool, void *context, void *object, unsigned index) {
    struct mbuf_private *private = rte_mbuf_to_priv((struct rte_mbuf *)object);
    (void)pool, (void)index;
    private->device = context;
    private->segment = NULL;
}

/// A pool whose mbufs have `room` bytes of their own, but tell drivers that they have `told`.
static struct rte_mempool *make_pool(const char *kind, uint16_t port, uint32_t count, uint32_t room, uint32_t told) {
    char name[RTE_MEMPOOL_NAMESIZE];
    snprintf(name, sizeof name, "%s_%u", kind, port);
    struct rte_pktmbuf_pool_private settings = {
        .mbuf_data_room_size = (uint16_t)told, .mbuf_priv_size = RTE_ALIGN_CEIL(sizeof(struct mbuf_private), RTE_MBUF_PRIV_ALIGN)};
    struct rte_mempool *pool = rte_mempool_create_empty(
        name, count, sizeof(struct rte_mbuf) + settings.mbuf_priv_size + room, cache_size, sizeof settings, SOCKET_ID_ANY, 0);
    if (pool == NULL) return NULL;
    int result = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
    if (result == 0) {
        rte_pktmbuf_pool_init(pool, &settings);
        result = rte_mempool_populate_default(pool);
    }
    if (result < 0) {
        rte_mempool_free(pool);
        rte_errno = -result;
        return NULL;
    }
    rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
    return pool;
}

static int make_pools(struct dpdk_device *device, const struct dpdk_block *blocks, uint32_t block_bytes) {
    uint32_t frame_room = RTE_PKTMBUF_HEADROOM + device->maximum_frame_bytes + dpdk_tailroom;
    if (frame_room > UINT16_MAX) frame_room = UINT16_MAX;
    uint32_t told = block_bytes > UINT16_MAX ? UINT16_MAX : block_bytes;
    if (device->memory.receives_into_blocks) {
        device->receive_pool = make_pool("demikernel_rx", device->port, device->receive_mbufs, 0, told);
        if (device->receive_pool == NULL) return last_error();
        struct blocks given = {device, blocks, told};
        rte_mempool_obj_iter(device->receive_pool, give_block, &given);
    } else {
        // AF_XDP leaves 256 bytes more in front.
        uint32_t room = frame_room + 256 > UINT16_MAX ? UINT16_MAX : frame_room + 256;
        device->receive_pool = make_pool("demikernel_rx", device->port, device->receive_mbufs, room, room);
        if (device->receive_pool == NULL) return last_error();
        rte_mempool_obj_iter(device->receive_pool, name_device, device);
    }
    // A frame of several segments is copied into one mbuf where the driver takes no chains.
    uint32_t room = device->transmits_segments ? 0 : frame_room;
    device->transmit_mbufs = mbufs_for(device->transmit_descriptors) + dpdk_burst_segments;
    if (device->memory.frames_outlive_device) device->transmit_mbufs += 1024;
    device->transmit_pool = make_pool("demikernel_tx", device->port, device->transmit_mbufs, room, room);
    if (device->transmit_pool == NULL) return last_error();
    rte_mempool_obj_iter(device->transmit_pool, name_device, device);
    // All segments that the device can hold at once fit into either.
    uint32_t most = device->receive_mbufs + device->transmit_mbufs + dpdk_burst_segments;
    device->shared.returned = calloc(most, sizeof *device->shared.returned);
    if (device->shared.returned == NULL) return -ENOMEM;
    char name[RTE_RING_NAMESIZE];
    snprintf(name, sizeof name, "demikernel_back_%u", device->port);
    device->returned_elsewhere = rte_ring_create(name, rte_align32pow2(most + 1), SOCKET_ID_ANY, RING_F_SC_DEQ);
    return device->returned_elsewhere != NULL ? 0 : last_error();
}

static void free_pools(struct dpdk_device *device) {
    rte_mempool_free(device->receive_pool);
    rte_mempool_free(device->transmit_pool);
    rte_ring_free(device->returned_elsewhere);
    free(device->shared.returned);
    device->receive_pool = NULL;
    device->transmit_pool = NULL;
    device->returned_elsewhere = NULL;
    device->shared.returned = NULL;
}

static int start_port(struct dpdk_device *device, uint64_t mac_address) {
    struct rte_eth_conf configuration;
    memset(&configuration, 0, sizeof configuration);
    uint16_t mtu = RTE_ETHER_MTU;
    rte_eth_dev_get_mtu(device->port, &mtu);
    configuration.rxmode.mtu = mtu;
    if (device->transmits_segments) configuration.txmode.offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
    int result = rte_eth_dev_configure(device->port, 1, 1, &configuration);
    if (result != 0) return result;
    result = rte_eth_rx_queue_setup(device->port, 0, device->receive_descriptors, SOCKET_ID_ANY, NULL, device->receive_pool);
    if (result != 0) return result;
    result = rte_eth_tx_queue_setup(device->port, 0, device->transmit_descriptors, SOCKET_ID_ANY, NULL);
    if (result != 0) return result;
    result = rte_eth_dev_start(device->port);
    if (result != 0) return result;
    struct rte_ether_addr own;
    for (int index = 0; index < RTE_ETHER_ADDR_LEN; index++) own.addr_bytes[index] = (uint8_t)(mac_address >> (40 - 8 * index));
    struct rte_ether_addr now;
    // Where the driver filters by address, it has to know the stack's; one that cannot is asked for all frames. Groups are for all to see.
    if (rte_eth_macaddr_get(device->port, &now) == 0 && !rte_is_same_ether_addr(&own, &now) && !rte_is_zero_ether_addr(&now)
        && rte_eth_dev_default_mac_addr_set(device->port, &own) != 0) {
        rte_eth_promiscuous_enable(device->port);
    }
    rte_eth_allmulticast_enable(device->port);
    return 0;
}

int dpdk_device_start(
    struct dpdk_device *device, const struct dpdk_block *blocks, uint32_t block_bytes, uint32_t maximum_frame_bytes, uint64_t mac_address) {
    device->maximum_frame_bytes = maximum_frame_bytes;
    device->owner = dpdk_this_thread();
    register_thread();
    int result = make_pools(device, blocks, block_bytes);
    if (result == 0) {
        result = start_port(device, mac_address);
        if (result == 0) {
            device->is_started = true;
            return 0;
        }
        // Drivers may have taken mbufs while they were set up, which they give back here.
        rte_eth_dev_stop(device->port);
        rte_eth_dev_close(device->port);
        rte_eal_hotplug_remove("vdev", device->name);
        device->port = RTE_MAX_ETHPORTS;
    }
    free_pools(device);
    unregister_thread();
    return result;
}

/// What an mbuf still holds comes back. Nobody has the mbuf any more.
static void take_segment(struct rte_mempool *pool, void *context, void *object, unsigned index) {
    struct mbuf_private *private = rte_mbuf_to_priv((struct rte_mbuf *)object);
    (void)pool, (void)context, (void)index;
    if (private->segment == NULL) return;
    dpdk_return_segment(private->device, private->segment);
    private->segment = NULL;
}

bool dpdk_device_stop(struct dpdk_device *device) {
    if (device->is_started) {
        rte_pktmbuf_free_bulk(device->pending, device->shared.pending_count);
        device->shared.pending_count = 0;
        // What has arrived and nobody will take; a ring would keep it. Bounded, since a peer may send on.
        struct rte_mbuf *mbufs[dpdk_burst_frames];
        for (int turn = 0; turn < 64; turn++) {
            uint16_t count = rte_eth_rx_burst(device->port, 0, mbufs, dpdk_burst_frames);
            if (count == 0) break;
            rte_pktmbuf_free_bulk(mbufs, count);
        }
        rte_eth_dev_stop(device->port);
    }
    if (device->port != RTE_MAX_ETHPORTS) {
        rte_eth_dev_close(device->port);
        rte_eal_hotplug_remove("vdev", device->name);
    }
    if (!device->is_started) return false;
    device->is_started = false;
    void *segment;
    while (rte_ring_sc_dequeue(device->returned_elsewhere, &segment) == 0) dpdk_return_segment(device, segment);
    bool frames_are_out = device->memory.frames_outlive_device && rte_mempool_in_use_count(device->transmit_pool) != 0;
    if (device->memory.receives_into_blocks) rte_mempool_obj_iter(device->receive_pool, take_segment, NULL);
    if (!frames_are_out) rte_mempool_obj_iter(device->transmit_pool, take_segment, NULL);
    unregister_thread();
    return frames_are_out;
}

void dpdk_device_free(struct dpdk_device *device) {
    free_pools(device);
    free(device);
}

void dpdk_device_counts(struct dpdk_device *device, struct dpdk_counts *counts) {
    struct rte_eth_stats stats;
    if (!device->is_started || rte_eth_stats_get(device->port, &stats) != 0) return;
    counts->receive_ring_full += stats.imissed;
    counts->receive_errors += stats.ierrors;
    counts->receive_out_of_memory += stats.rx_nombuf;
    counts->transmit_errors += stats.oerrors;
}

DPDK_CODE_ENDS

#endif
