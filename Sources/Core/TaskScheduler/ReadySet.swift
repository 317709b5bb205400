/// Which of up to 262,144 tasks are ready: one bit each, with a summary word over every 64 words and one over those.
///
/// Finding the next ready task looks at three words, however many tasks sleep. A task that is ready alone, as is usual where one request is
/// answered at a time, stands beside the words: then `top` is 0.
@frozen
@usableFromInline
struct ReadySet {
    @usableFromInline static let maximumCapacity = 64 * 64 * 64
    @usableFromInline static let none = UInt32.max

    /// Bit i of `top` says that `summaries[i]` is not zero.
    @usableFromInline var top: UInt64 = 0
    /// The only ready task, or `none`.
    @usableFromInline var lone = ReadySet.none
    @usableFromInline let summaries: UnsafeMutablePointer<UInt64>
    @usableFromInline let words: UnsafeMutablePointer<UInt64>

    init(capacity: Int) {
        precondition(capacity > 0 && capacity <= ReadySet.maximumCapacity)
        summaries = .allocate(capacity: 64)
        summaries.initialize(repeating: 0, count: 64)
        let wordCount = (capacity + 63) / 64
        words = .allocate(capacity: wordCount)
        words.initialize(repeating: 0, count: wordCount)
    }

    func deallocate() {
        summaries.deallocate()
        words.deallocate()
    }

    @inlinable
    var isEmpty: Bool { top == 0 && lone == ReadySet.none }

    /// Marks a task ready; marking it twice is marking it once.
    @inlinable
    @inline(__always)
    mutating func insert(_ index: UInt32) {
        if top == 0 {
            if lone == ReadySet.none {
                lone = index
            } else {
                insertSecond(index)
            }
        } else {
            insertBit(index)
        }
    }

    @usableFromInline
    @inline(never)
    mutating func insertSecond(_ index: UInt32) {
        guard index != lone else { return }
        insertBit(lone)
        lone = ReadySet.none
        insertBit(index)
    }

    @inlinable
    @inline(__always)
    mutating func insertBit(_ index: UInt32) {
        let word = Int(index &>> 6)
        let old = words[word]
        words[word] = old | 1 &<< UInt64(index & 63)
        guard old == 0 else { return }
        summaries[word &>> 6] |= 1 &<< UInt64(word & 63)
        top |= 1 &<< UInt64(word &>> 6)
    }

    mutating func remove(_ index: UInt32) {
        if lone == index {
            lone = ReadySet.none
            return
        }
        let word = Int(index &>> 6)
        words[word] &= ~(1 &<< UInt64(index & 63))
        if words[word] == 0 { removeEmpty(word) }
    }

    /// Takes a word that has become empty out of the words above it.
    mutating func removeEmpty(_ word: Int) {
        let summary = summaries[word &>> 6] & ~(1 &<< UInt64(truncatingIfNeeded: word & 63))
        summaries[word &>> 6] = summary
        if summary == 0 { top &= ~(1 &<< UInt64(truncatingIfNeeded: word &>> 6)) }
    }

    /// The first word with a ready task; there is one, as `top` is not 0.
    var firstWord: Int {
        let index = top.trailingZeroBitCount
        return index &<< 6 | summaries[index].trailingZeroBitCount
    }

    /// The next word with a ready task.
    @usableFromInline
    @inline(never)
    func word(after word: Int) -> Int? {
        var index = (word + 1) >> 6
        guard index < 64 else { return nil }
        var summary = summaries[index] & (.max << UInt64((word + 1) & 63))
        if summary == 0 {
            let later = top & ~(.max >> UInt64(63 - index))
            guard later != 0 else { return nil }
            index = later.trailingZeroBitCount
            summary = summaries[index]
        }
        return index << 6 | summary.trailingZeroBitCount
    }
}
