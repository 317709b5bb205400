// The inner loops of the Internet checksum (RFC 1071): a sum that only has to be right modulo 65535 may be taken over wider pieces.
//
// Short runs are summed inline, with 64-bit additions that carry: the fewest instructions, but each waits for the one before. Runs of 128 bytes and
// more are summed by a call, with vectors, where the processor has AVX2: 1460 bytes then take 24 ns, copied too 29 to 37.
#ifndef DEMI_INTERNET_CHECKSUM_H
#define DEMI_INTERNET_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Where `copies` is true, the bytes are copied to `target` as well; it is a constant in every caller, so that its tests fold away. Where it is
// false, nothing is written, and `target` is the bytes themselves, so that arithmetic on it stays inside of them.

/// Adds with the carry added in again: where plain additions could lose it.
static inline __attribute__((always_inline)) uint64_t demi_checksum_add(uint64_t left, uint64_t right) {
    unsigned long long carry, sum = __builtin_addcll(left, right, 0, &carry);
    return sum + carry;
}

static inline __attribute__((always_inline)) uint64_t demi_checksum_halves(uint64_t value) { return (value & 0xffffffffu) + (value >> 32); }

/// Sums 0 to 7 bytes.
static inline __attribute__((always_inline)) uint64_t demi_checksum_tiny(bool copies, uint8_t *target, const uint8_t *bytes, size_t count) {
    uint64_t sum = 0;
    if (count & 4) {
        uint32_t word;
        __builtin_memcpy(&word, bytes, 4);
        if (copies) __builtin_memcpy(target, &word, 4);
        sum = word;
    }
    if (count & 2) {
        uint16_t half;
        __builtin_memcpy(&half, bytes + (count & 4), 2);
        if (copies) __builtin_memcpy(target + (count & 4), &half, 2);
        sum += half;
    }
    if (count & 1) {
        if (copies) target[count - 1] = bytes[count - 1];
        sum += bytes[count - 1];
    }
    return sum;
}

/// Loads eight bytes.
static inline __attribute__((always_inline)) uint64_t demi_checksum_word(bool copies, uint8_t *target, const uint8_t *bytes) {
    uint64_t value;
    __builtin_memcpy(&value, bytes, 8);
    if (copies) __builtin_memcpy(target, &value, 8);
    return value;
}

/// Sums 8 bytes or more with additions that carry. All of the sum's 64 bits are in use.
///
/// A chain of them begins without a carry, so its last one cannot leave both all ones and a carry: adding the carry in once is enough.
static inline __attribute__((always_inline)) uint64_t demi_checksum_short(bool copies, uint8_t *target, const uint8_t *bytes, size_t count) {
    unsigned long long sum = 0, carry = 0;
    const uint8_t *end = bytes + count;
    for (size_t blocks = count / 64; blocks > 0; blocks--) {
        sum = __builtin_addcll(sum, demi_checksum_word(copies, target, bytes), 0, &carry);
        sum = __builtin_addcll(sum, demi_checksum_word(copies, target + 8, bytes + 8), carry, &carry);
        sum = __builtin_addcll(sum, demi_checksum_word(copies, target + 16, bytes + 16), carry, &carry);
        sum = __builtin_addcll(sum, demi_checksum_word(copies, target + 24, bytes + 24), carry, &carry);
        sum = __builtin_addcll(sum, demi_checksum_word(copies, target + 32, bytes + 32), carry, &carry);
        sum = __builtin_addcll(sum, demi_checksum_word(copies, target + 40, bytes + 40), carry, &carry);
        sum = __builtin_addcll(sum, demi_checksum_word(copies, target + 48, bytes + 48), carry, &carry);
        sum = __builtin_addcll(sum, demi_checksum_word(copies, target + 56, bytes + 56), carry, &carry);
        sum += carry;
        bytes += 64;
        if (copies) target += 64;
    }
    if (count & 32) {
        sum = __builtin_addcll(sum, demi_checksum_word(copies, target, bytes), 0, &carry);
        sum = __builtin_addcll(sum, demi_checksum_word(copies, target + 8, bytes + 8), carry, &carry);
        sum = __builtin_addcll(sum, demi_checksum_word(copies, target + 16, bytes + 16), carry, &carry);
        sum = __builtin_addcll(sum, demi_checksum_word(copies, target + 24, bytes + 24), carry, &carry);
        sum += carry;
        bytes += 32;
        if (copies) target += 32;
    }
    if ((count & 31) == 0) return sum;
    if (count & 16) {
        sum = __builtin_addcll(sum, demi_checksum_word(copies, target, bytes), 0, &carry);
        sum = __builtin_addcll(sum, demi_checksum_word(copies, target + 8, bytes + 8), carry, &carry);
        sum += carry;
        bytes += 16;
        if (copies) target += 16;
    }
    if (count & 8) {
        sum = __builtin_addcll(sum, demi_checksum_word(copies, target, bytes), 0, &carry);
        sum += carry;
        if (copies) target += 8;
    }
    if (count & 7) {
        // The last 1 to 7 bytes are the upper ones of the last eight.
        uint64_t last = demi_checksum_word(copies, target + (count & 7) - 8, end - 8) >> (64 - 8 * (count & 7));
        sum = __builtin_addcll(sum, last, 0, &carry);
        sum += carry;
    }
    return sum;
}

#if defined(__x86_64__)
/// Sums 128 bytes or more with vectors of four 64-bit words.
///
/// Every word is added as it is, which loses the carries, and once more as its upper half alone, which loses nothing; the sum of the lower halves
/// follows at the end, modulo 2^64, and it is below that. So a vector costs two additions and a shift, and needs no unpacking. The four vectors of
/// a step have sums of their own: no addition waits for another.
static inline __attribute__((always_inline, target("avx2"))) uint64_t demi_checksum_long(bool copies, uint8_t *target, const uint8_t *bytes, size_t count) {
    typedef uint64_t vector __attribute__((vector_size(32)));
    typedef uint64_t vector_in_memory __attribute__((vector_size(32), aligned(1), may_alias));
    const uint8_t *end = bytes + count;
    vector words_a = {0}, words_b = {0}, words_c = {0}, words_d = {0}, upper_a = {0}, upper_b = {0}, upper_c = {0}, upper_d = {0};
    do {
        const vector_in_memory *from = (const vector_in_memory *)bytes;
        vector a = from[0], b = from[1], c = from[2], d = from[3];
        if (copies) {
            vector_in_memory *to = (vector_in_memory *)target;
            to[0] = a;
            to[1] = b;
            to[2] = c;
            to[3] = d;
            target += 128;
        }
        words_a += a;
        words_b += b;
        words_c += c;
        words_d += d;
        upper_a += a >> 32;
        upper_b += b >> 32;
        upper_c += c >> 32;
        upper_d += d >> 32;
        bytes += 128;
    } while (end - bytes >= 128);
    vector words = words_a + words_b + words_c + words_d, upper = upper_a + upper_b + upper_c + upper_d;
    vector sums = words - (upper << 32) + upper;
    uint64_t sum = sums[0] + sums[1] + sums[2] + sums[3];
    size_t rest = (size_t)(end - bytes);
    return sum + (rest < 8 ? demi_checksum_tiny(copies, target, bytes, rest) : demi_checksum_halves(demi_checksum_short(copies, target, bytes, rest)));
}
static __attribute__((noinline, unused, target("avx2"))) uint64_t demi_checksum_sum_long(const uint8_t *bytes, size_t count) {
    return demi_checksum_long(false, (uint8_t *)bytes, bytes, count);
}
static __attribute__((noinline, unused, target("avx2"))) uint64_t demi_checksum_copy_and_sum_long(uint8_t *target, const uint8_t *bytes, size_t count) {
    return demi_checksum_long(true, target, bytes, count);
}
static inline __attribute__((always_inline)) bool demi_checksum_is_long(size_t count) { return count >= 128 && __builtin_cpu_supports("avx2"); }
#endif

/// The unfolded sum of `count` bytes as 16-bit words in memory order, an odd last byte padded with a zero behind it. Below (count / 4 + 2) << 32.
static inline __attribute__((always_inline)) uint64_t demi_checksum_sum(const void *bytes, size_t count) {
#if defined(__x86_64__)
    if (demi_checksum_is_long(count)) return demi_checksum_sum_long((const uint8_t *)bytes, count);
#endif
    if (count < 8) return demi_checksum_tiny(false, (uint8_t *)bytes, (const uint8_t *)bytes, count);
    return demi_checksum_halves(demi_checksum_short(false, (uint8_t *)bytes, (const uint8_t *)bytes, count));
}

/// As `demi_checksum_sum`, of 8 bytes or more, in all 64 bits: what is added to it is added with `demi_checksum_add`.
static inline __attribute__((always_inline)) uint64_t demi_checksum_wide_sum(const void *bytes, size_t count) {
#if defined(__x86_64__)
    if (demi_checksum_is_long(count)) return demi_checksum_sum_long((const uint8_t *)bytes, count);
#endif
    return demi_checksum_short(false, (uint8_t *)bytes, (const uint8_t *)bytes, count);
}

/// Copies `count` bytes and sums them in the same pass. The two runs must not overlap.
static inline __attribute__((always_inline)) uint64_t demi_checksum_copy_and_sum(void *target, const void *bytes, size_t count) {
#if defined(__x86_64__)
    if (demi_checksum_is_long(count)) return demi_checksum_copy_and_sum_long((uint8_t *)target, (const uint8_t *)bytes, count);
#endif
    if (count < 8) return demi_checksum_tiny(true, (uint8_t *)target, (const uint8_t *)bytes, count);
    return demi_checksum_halves(demi_checksum_short(true, (uint8_t *)target, (const uint8_t *)bytes, count));
}

#endif
