// A UDP client on a raw AF_XDP socket: keeps a window of datagrams under way to an echo server and times each one. A line "WINDOW NANOSECONDS" on
// standard input asks for a round; the answer is five words of 64 bits (round trips, nanoseconds of the round and of processor time, losses, samples)
// and the samples, nanoseconds in 32 bits each.
#include "xdp.h"

enum { PAYLOAD = 64, FRAME = HEADERS + PAYLOAD, SAMPLES = 1 << 20, WINDOW = RING / 2 };

static uint32_t samples[SAMPLES];
static unsigned char model[FRAME];

static uint32_t sum(const unsigned char *bytes, int count) {
    uint32_t total = 0;
    for (int i = 0; i < count; i += 2) {
        uint16_t word;
        memcpy(&word, bytes + i, 2);
        total += word;
    }
    return total;
}

static uint16_t checksum(uint32_t total) {
    while (total >> 16) total = (total & 0xffff) + (total >> 16);
    return (uint16_t)~total;
}

static void read_address(const char *text, unsigned char *bytes) {
    if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", bytes, bytes + 1, bytes + 2, bytes + 3, bytes + 4, bytes + 5) != 6) {
        fprintf(stderr, "not a hardware address: %s\n", text);
        exit(64);
    }
}

int main(int argc, char **argv) {
    if (argc != 8) {
        fprintf(stderr, "usage: %s INTERFACE MAC ADDRESS PORT PEER-MAC PEER-ADDRESS PEER-PORT\n", argv[0]);
        return 64;
    }
    read_address(argv[5], model);
    read_address(argv[2], model + 6);
    model[12] = 0x08;
    unsigned char *ip = model + ETHERNET, *udp = ip + IPV4;
    memcpy(ip, (unsigned char[]){0x45, 0, 0, FRAME - ETHERNET, 0, 0, 0x40, 0, 64, IPPROTO_UDP}, 10);
    if (inet_pton(AF_INET, argv[3], ip + 12) != 1 || inet_pton(AF_INET, argv[6], ip + 16) != 1) {
        fprintf(stderr, "not an IPv4 address\n");
        return 64;
    }
    uint16_t words[] = {htons((uint16_t)atoi(argv[4])), htons((uint16_t)atoi(argv[7])), htons(UDP + PAYLOAD)};
    memcpy(udp, words, sizeof words);
    uint16_t header = checksum(sum(ip, IPV4));
    memcpy(ip + 10, &header, 2);
    // The pseudo-header and all of the datagram but its numbers.
    uint32_t constant = sum(ip + 12, 8) + htons(IPPROTO_UDP) + htons(UDP + PAYLOAD) + sum(udp, UDP);

    struct xdp_socket opened = open_xdp(argv[1], (uint16_t)atoi(argv[4]));
    static uint64_t unused[CHUNKS];
    int unused_count = 0;
    for (uint64_t i = RING; i < CHUNKS; i++) unused[unused_count++] = i * CHUNK;
    printf("udp-load-xdp: ready on %s\n", argv[1]);
    fflush(stdout);

    uint32_t received = 0, sent = 0, completed = 0, filled = RING;
    uint64_t round = 0;
    unsigned window;
    unsigned long long duration;
    while (scanf("%u %llu", &window, &duration) == 2) {
        if (window > WINDOW) window = WINDOW;
        uint64_t processor = nanoseconds(CLOCK_THREAD_CPUTIME_ID), start = nanoseconds(CLOCK_MONOTONIC), now = start, heard = start;
        uint64_t trips = 0, lost = 0, sample_count = 0;
        unsigned under_way = 0;
        round++;
        while (now - start < duration || (under_way > 0 && now - heard < 100000000)) {
            uint32_t before = sent;
            while (under_way < window && unused_count > 0 && now - start < duration) {
                uint64_t address = unused[--unused_count];
                unsigned char *frame = opened.memory + address;
                memcpy(frame, model, FRAME);
                uint64_t stamps[] = {round, now};
                memcpy(frame + HEADERS, stamps, sizeof stamps);
                uint16_t complement = checksum(constant + sum(frame + HEADERS, sizeof stamps));
                memcpy(frame + ETHERNET + IPV4 + 6, &complement, 2);
                ((struct xdp_desc *)opened.transmit.entries)[sent++ % RING] = (struct xdp_desc){.addr = address, .len = FRAME};
                under_way++;
            }
            if (sent != before) atomic_store_explicit(opened.transmit.producer, sent, memory_order_release);
            if (sent != atomic_load_explicit(opened.transmit.consumer, memory_order_relaxed)) send_transmitted(&opened);
            uint32_t done = atomic_load_explicit(opened.completion.producer, memory_order_acquire);
            while (completed != done) unused[unused_count++] = ((uint64_t *)opened.completion.entries)[completed++ % RING];
            atomic_store_explicit(opened.completion.consumer, completed, memory_order_release);

            uint32_t arrived = atomic_load_explicit(opened.receive.producer, memory_order_acquire);
            now = nanoseconds(CLOCK_MONOTONIC);
            if (arrived == received) {
                // What has not come back after so long is lost.
                if (under_way > 0 && now - heard > 100000000) {
                    lost += under_way;
                    under_way = 0;
                    heard = now;
                }
                continue;
            }
            heard = now;
            while (received != arrived) {
                struct xdp_desc frame = ((struct xdp_desc *)opened.receive.entries)[received++ % RING];
                uint64_t stamps[2];
                memcpy(stamps, opened.memory + frame.addr + HEADERS, sizeof stamps);
                ((uint64_t *)opened.fill.entries)[filled++ % RING] = frame.addr & ~(uint64_t)(CHUNK - 1);
                if (stamps[0] != round || under_way == 0) continue;  // one that was given up
                under_way--;
                if (now - start < duration) trips++;
                if (sample_count < SAMPLES) samples[sample_count++] = (uint32_t)(now - stamps[1]);
            }
            atomic_store_explicit(opened.receive.consumer, received, memory_order_release);
            atomic_store_explicit(opened.fill.producer, filled, memory_order_release);
        }
        uint64_t elapsed = now - start < duration ? now - start : duration;
        uint64_t answer[] = {trips, elapsed, nanoseconds(CLOCK_THREAD_CPUTIME_ID) - processor, lost + under_way, sample_count};
        fwrite(answer, sizeof answer, 1, stdout);
        fwrite(samples, sizeof *samples, sample_count, stdout);
        fflush(stdout);
    }
    return 0;
}
