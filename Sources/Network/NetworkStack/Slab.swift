import DatapathMemory

/// What lives in a `Slab`: it can be made empty, and keeps its place in one chain at a time.
protocol SlabElement {
    init()
    /// The next free slot while the slot is free.
    var nextFree: UInt32 { get set }
}

/// Slots of one kind at one address, by index from 1 on; 0 is nobody. Backed page by page as they are used; a freed slot is the next one taken.
struct Slab<Element: SlabElement> {
    private let elements: UnsafeMutablePointer<Element>
    let capacity: Int
    private(set) var carvedCount: UInt32 = 1
    private var firstFree: UInt32 = 0
    private(set) var liveCount = 0

    init(capacity: Int) throws(DemikernelError) {
        self.capacity = capacity
        elements = try mapTable(Element.self, count: capacity + 1)
    }

    func deallocate() {
        unmapTable(elements, count: capacity + 1)
    }

    @inline(__always)
    subscript(index: UInt32) -> UnsafeMutablePointer<Element> { elements + Int(index) }

    /// The index of a slot by its address.
    func index(of element: UnsafeMutablePointer<Element>) -> UInt32 { UInt32(truncatingIfNeeded: element - elements) }

    /// Whether all slots are taken.
    @inline(__always)
    var isFull: Bool { firstFree == 0 && Int(carvedCount) > capacity }

    /// A slot in its first state; 0 at the limit. O(1).
    @inline(__always)
    mutating func take() -> UInt32 {
        if isFull { return 0 }
        let index = takeAsItIs()
        (elements + Int(index)).initialize(to: Element())
        return index
    }

    /// A slot that is lent to a connection, of a slab with as many as there are connections.
    mutating func takeLent() -> UInt32 {
        let index = take()
        precondition(index != 0, "more was lent than there are connections")
        return index
    }

    /// A slot of a slab that is not full, in the state in which it was freed, or zeroed: for who sets all of it. O(1).
    @inline(__always)
    mutating func takeAsItIs() -> UInt32 {
        var index = firstFree
        if index != 0 {
            firstFree = elements[Int(index)].nextFree
        } else {
            index = carvedCount
            carvedCount &+= 1
        }
        liveCount &+= 1
        return index
    }

    /// Frees a slot. O(1).
    @inline(__always)
    mutating func free(_ index: UInt32) {
        free(from: index, through: index, count: 1)
    }

    /// Frees `count` slots that are chained by `nextFree` from `first` to `last`. O(1).
    @inline(__always)
    mutating func free(from first: UInt32, through last: UInt32, count: Int) {
        elements[Int(last)].nextFree = firstFree
        firstFree = first
        liveCount &-= count
    }
}

/// The ends of a chain of slots, first in, first out; the links are in the slots.
struct SlotQueue {
    var first: UInt32 = 0
    var last: UInt32 = 0

    @inline(__always)
    var isEmpty: Bool { first == 0 }
}
