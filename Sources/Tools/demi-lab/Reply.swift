import QueueRuntime

/// One line of output.
enum Reply: Encodable {
    case ok
    case error(String)
    /// What `poll` gives: the frames that were sent, and when the next timer is due.
    case polled(transmitted: [[UInt8]], nextTimer: UInt64?)
    /// A call that was refused, with its errno.
    case refused(Int32)
    /// A call that is done.
    case done
    /// A call that made a queue.
    case queue(QueueDescriptor)
    /// A call that began an operation.
    case began(QueueToken)
    /// What `try_wait` gives.
    case pending
    case completed(OperationRecord)

    private enum Key: String, CodingKey {
        case ok, error, tx, ret, qd, qt, done, addr, port, data
        case nextTimer = "next_timer_ns"
        case newQueue = "new_qd"
    }

    func encode(to encoder: any Encoder) throws {
        var object = encoder.container(keyedBy: Key.self)
        switch self {
        case .ok: try object.encode(true, forKey: .ok)
        case .error(let text): try object.encode(text, forKey: .error)
        case .polled(let transmitted, let nextTimer):
            try object.encode(transmitted.map(\.hexadecimal), forKey: .tx)
            // A null is written, too.
            try object.encode(nextTimer, forKey: .nextTimer)
        case .refused(let errno): try object.encode(errno, forKey: .ret)
        case .done: try object.encode(0, forKey: .ret)
        case .queue(let queue):
            try object.encode(0, forKey: .ret)
            try object.encode(queue.rawValue, forKey: .qd)
        case .began(let token):
            try object.encode(0, forKey: .ret)
            try object.encode(token.rawValue, forKey: .qt)
        case .pending: try object.encode(false, forKey: .done)
        case .completed(let record):
            try object.encode(true, forKey: .done)
            try object.encode(record.queue.rawValue, forKey: .qd)
            try object.encode(record.errno, forKey: .ret)
            try object.encodeIfPresent(record.newQueue?.rawValue, forKey: .newQueue)
            try object.encodeIfPresent(record.address?.hostText, forKey: .addr)
            try object.encodeIfPresent(record.address?.port, forKey: .port)
            try object.encodeIfPresent(record.data?.hexadecimal, forKey: .data)
        }
    }
}
