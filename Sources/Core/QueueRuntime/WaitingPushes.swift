import DatapathMemory

/// The pushes that wait for room at a queue of a library OS: their arrays, chained through `nextArray` of the first descriptors, which name their operations.
extension RuntimeCore {
    /// Takes the array of one operation out of such a chain. O(length).
    /// - Parameters:
    ///   - first: the oldest array; nil for an empty chain.
    ///   - last: the newest one.
    /// - Returns: the array, which is the caller's now; nil where the operation has none in the chain.
    public func takeWaitingPush(
        _ operation: UInt32, from first: inout UnsafeMutablePointer<SegmentDescriptor>?, _ last: inout UnsafeMutablePointer<SegmentDescriptor>?
    ) -> UnsafeMutablePointer<SegmentDescriptor>? {
        var previous: UnsafeMutablePointer<SegmentDescriptor>?
        var current = first
        while let array = current, array.pointee.operation != operation {
            previous = array
            current = array.pointee.nextArray
        }
        guard let array = current else { return nil }
        let next = array.pointee.nextArray
        if let previous { previous.pointee.nextArray = next } else { first = next }
        if next == nil { last = previous }
        return array
    }
}
