/// Members in the order of their scores: a hash table of the members, and a skip list of nodes that points to them.
///
/// Equal scores are ordered by the members' bytes. Insertion, removal and the search by rank take O(log n) expected time
/// (William Pugh, Skip Lists, 1990; with the widths of links, as Redis's `t_zset.c` has them). No deinitialiser: `destroy`
/// frees it.
struct SortedSet: ~Copyable {
    /// The head of a block; `height` links follow it.
    struct Node {
        /// The member; nil in the head of the list.
        let entry: EntryPointer?
        let score: Double
        var previous: UnsafeMutablePointer<Node>?
        let height: Int
    }
    fileprivate struct Link {
        var next: UnsafeMutablePointer<Node>?
        /// How many places further `next` is, or the end of the list where there is none.
        var width: Int
    }
    typealias NodePointer = UnsafeMutablePointer<Node>

    var members: HashTable
    private let head: NodePointer
    private var tail: NodePointer?
    private var height = 1

    private static let maximumHeight = 32

    init(heap: inout Heap) {
        members = HashTable(heap: &heap)
        head = Self.makeNode(entry: nil, score: 0, height: Self.maximumHeight, heap: &heap)
    }

    consuming func destroy(heap: inout Heap) {
        var node: NodePointer? = head
        while let current = node {
            node = current.links[0].next
            Self.release(current, heap: &heap)
        }
        members.destroy(heap: &heap) { _, _ in }
    }

    var count: Int { members.count }
    /// The node with the lowest score.
    var first: NodePointer? { head.links[0].next }

    /// Sets the score of `entry`, a member that is in `members`, and in the list if `isPresent`.
    mutating func setScore(
        _ score: Double, of entry: EntryPointer, isPresent: Bool, random: inout RandomSource, heap: inout Heap
    ) {
        if isPresent { unlink(entry.node, heap: &heap) }
        entry.node = link(entry, score: score, random: &random, heap: &heap)
    }

    /// Removes the member of `node`.
    mutating func remove(_ node: NodePointer, heap: inout Heap) {
        guard let entry = node.pointee.entry else { return }
        unlink(node, heap: &heap)
        members.remove(entry, heap: &heap)
    }

    /// The node at `rank`, counted from 0; `rank` is less than `count`.
    func node(atRank rank: Int) -> NodePointer {
        var node = head
        var remaining = rank + 1
        for level in stride(from: height - 1, through: 0, by: -1) {
            while let next = node.links[level].next, node.links[level].width <= remaining {
                remaining -= node.links[level].width
                node = next
            }
        }
        return node
    }

    private static func makeNode(entry: EntryPointer?, score: Double, height: Int, heap: inout Heap) -> NodePointer {
        let block = heap.allocate(blockSize(height: height))
        let node = block.bindMemory(to: Node.self, capacity: 1)
        node.initialize(to: Node(entry: entry, score: score, previous: nil, height: height))
        (block + MemoryLayout<Node>.stride).bindMemory(to: Link.self, capacity: height)
            .initialize(repeating: Link(next: nil, width: 0), count: height)
        return node
    }

    private static func release(_ node: NodePointer, heap: inout Heap) {
        heap.release(node, blockSize(height: node.pointee.height))
    }

    private static func blockSize(height: Int) -> Int {
        MemoryLayout<Node>.stride + height * MemoryLayout<Link>.stride
    }

    /// Whether `node` stands before the place of `entry` with `score`.
    private func precedes(_ node: NodePointer, _ entry: EntryPointer, _ score: Double) -> Bool {
        node.pointee.score < score || (node.pointee.score == score && node.pointee.entry!.key.precedes(entry.key))
    }

    private mutating func link(
        _ entry: EntryPointer, score: Double, random: inout RandomSource, heap: inout Heap
    ) -> NodePointer {
        // One level in four goes up, so that a node has 1.33 links on average.
        let nodeHeight = min(Self.maximumHeight, 1 + random.next().trailingZeroBitCount / 2)
        let count = self.count - 1
        while height < nodeHeight {
            head.links[height] = Link(next: nil, width: count)
            height += 1
        }
        let node = Self.makeNode(entry: entry, score: score, height: nodeHeight, heap: &heap)
        // From the top down, `position` is the rank (from 1) of `before`. The widths that the node splits depend on its rank,
        // which is known at the bottom only; until then its own links remember the predecessors and their ranks.
        var before = head
        var position = 0
        // The node that a level above has shown to be behind the place.
        var bound: NodePointer?
        for level in stride(from: height - 1, through: 0, by: -1) {
            var next = before.links[level].next
            while let candidate = next, candidate != bound, precedes(candidate, entry, score) {
                position += before.links[level].width
                before = candidate
                next = before.links[level].next
            }
            bound = next
            if level < nodeHeight {
                node.links[level] = Link(next: before, width: position)
            } else {
                before.links[level].width += 1
            }
        }
        node.pointee.previous = before == head ? nil : before
        for level in 0..<nodeHeight {
            let predecessor = node.links[level].next!
            let distance = position + 1 - node.links[level].width
            let split = predecessor.links[level]
            predecessor.links[level] = Link(next: node, width: distance)
            node.links[level] = Link(next: split.next, width: split.width - distance + 1)
        }
        if let next = node.links[0].next { next.pointee.previous = node } else { tail = node }
        return node
    }

    private mutating func unlink(_ node: NodePointer, heap: inout Heap) {
        guard let entry = node.pointee.entry else { return }
        var before = head
        var bound: NodePointer? = node
        for level in stride(from: height - 1, through: 0, by: -1) {
            var next = before.links[level].next
            while let candidate = next, candidate != bound, candidate != node, precedes(candidate, entry, node.pointee.score) {
                before = candidate
                next = before.links[level].next
            }
            bound = next
            if before.links[level].next == node {
                before.links[level].width += node.links[level].width - 1
                before.links[level].next = node.links[level].next
            } else {
                before.links[level].width -= 1
            }
        }
        if let next = node.links[0].next {
            next.pointee.previous = node.pointee.previous
        } else {
            tail = node.pointee.previous
        }
        while height > 1 && head.links[height - 1].next == nil { height -= 1 }
        Self.release(node, heap: &heap)
    }
}

extension UnsafeMutablePointer where Pointee == SortedSet.Node {
    fileprivate var links: UnsafeMutablePointer<SortedSet.Link> {
        (UnsafeMutableRawPointer(self) + MemoryLayout<SortedSet.Node>.stride).assumingMemoryBound(to: SortedSet.Link.self)
    }

    /// The node with the next higher score.
    var next: Self? { links[0].next }
    /// The node with the next lower score.
    var previous: Self? { pointee.previous }
    /// The member, valid until it is removed.
    var member: ByteSlice { pointee.entry!.key }
}

extension UnsafeMutablePointer where Pointee == Entry {
    /// The payload of a member of a sorted set.
    var node: SortedSet.NodePointer {
        get { pointee.payload!.assumingMemoryBound(to: SortedSet.Node.self) }
        nonmutating set { pointee.payload = UnsafeMutableRawPointer(newValue) }
    }
}
