import KeyValueStore
import Testing

/// Long random sequences of operations against models made of the standard library's collections.
@Suite struct ModelTests {
    private func bulk(_ text: String?) -> String { text.map { "$\($0.utf8.count)\r\n\($0)\r\n" } ?? "$-1\r\n" }
    private func array(_ texts: [String]) -> String { "*\(texts.count)\r\n" + texts.map { bulk($0) }.joined() }

    /// The elements of a flat array of bulk strings.
    private func elements(_ reply: String) -> [String] {
        let lines = reply.split(separator: "\r\n", omittingEmptySubsequences: false)
        return stride(from: 2, to: lines.count - 1, by: 2).map { String(lines[$0]) }
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func strings(seed: UInt64) {
        let session = TestSession(seed: seed)
        var random = TestRandom(state: seed)
        var model: [String: String] = [:]
        for _ in 0..<20_000 {
            let key = "key\(Int.random(in: 0..<3000, using: &random))"
            let value = String(repeating: "x", count: Int.random(in: 0..<100, using: &random))
            switch Int.random(in: 0..<6, using: &random) {
            case 0, 1:
                #expect(session.reply("set \(key) \(value)") == "+OK\r\n")
                model[key] = value
            case 2:
                #expect(session.reply("append \(key) y\(value)") == ":\((model[key] ?? "").utf8.count + 1 + value.utf8.count)\r\n")
                model[key, default: ""] += "y" + value
            case 3:
                #expect(session.reply("del \(key)") == ":\(model.removeValue(forKey: key) == nil ? 0 : 1)\r\n")
            default:
                #expect(session.reply("get \(key)") == bulk(model[key]))
            }
        }
        #expect(session.reply("dbsize") == ":\(model.count)\r\n")
        for (key, value) in model { #expect(session.reply("get \(key)") == bulk(value)) }
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func lists(seed: UInt64) {
        let session = TestSession(seed: seed)
        var random = TestRandom(state: seed)
        var model: [String] = []
        for step in 0..<20_000 {
            let growing = (step / 2000) % 2 == 0
            let size = Int.random(in: 0..<50, using: &random) == 0 ? 3000 : Int.random(in: 0..<40, using: &random)
            let value = "\(step)" + String(repeating: "x", count: size)
            switch Int.random(in: 0..<(growing ? 10 : 14), using: &random) {
            case 0..<4:
                model.insert(value, at: 0)
                #expect(session.reply("lpush l \(value)") == ":\(model.count)\r\n")
            case 4..<8:
                model.append(value)
                #expect(session.reply("rpush l \(value)") == ":\(model.count)\r\n")
            case 8, 10, 12:
                #expect(session.reply("lpop l") == bulk(model.isEmpty ? nil : model.removeFirst()))
            case 9, 11, 13:
                #expect(session.reply("rpop l") == bulk(model.popLast()))
            default: break
            }
            if step % 50 == 0 {
                let start = Int.random(in: -20...model.count, using: &random)
                let stop = start + Int.random(in: 0...20, using: &random)
                let lower = max(0, start < 0 ? model.count + start : start)
                let upper = min(model.count - 1, stop < 0 ? model.count + stop : stop)
                let expected = lower <= upper ? Array(model[lower...upper]) : []
                #expect(session.reply("lrange l \(start) \(stop)") == array(expected))
            }
        }
        #expect(session.reply("lrange l 0 -1") == array(model))
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func sets(seed: UInt64) {
        let session = TestSession(seed: seed)
        var random = TestRandom(state: seed)
        var model: Set<String> = []
        for step in 0..<20_000 {
            if (step / 4000) % 2 == 0 {
                let member = "member\(Int.random(in: 0..<5000, using: &random))"
                #expect(session.reply("sadd s \(member)") == ":\(model.insert(member).inserted ? 1 : 0)\r\n")
            } else {
                let popped = elements("*1\r\n" + session.reply("spop s")).first
                #expect(model.isEmpty == (popped == nil))
                if let popped { #expect(model.remove(popped) != nil) }
            }
        }
        #expect(session.reply("scard s") == ":\(model.count)\r\n")
        #expect(Set(elements(session.reply("smembers s"))) == model)
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func hashes(seed: UInt64) {
        let session = TestSession(seed: seed)
        var random = TestRandom(state: seed)
        var model: [String: String] = [:]
        for step in 0..<20_000 {
            let field = "field\(Int.random(in: 0..<2000, using: &random))"
            if step % 2 == 0 {
                #expect(session.reply("hset h \(field) \(step)") == ":\(model.updateValue("\(step)", forKey: field) == nil ? 1 : 0)\r\n")
            } else {
                #expect(session.reply("hget h \(field)") == bulk(model[field]))
            }
        }
        let all = elements(session.reply("hgetall h"))
        #expect(all.count == 2 * model.count)
        for index in stride(from: 0, to: all.count, by: 2) { #expect(model[all[index]] == all[index + 1]) }
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func sortedSets(seed: UInt64) {
        let session = TestSession(seed: seed)
        var random = TestRandom(state: seed)
        var model: [String: Int] = [:]
        func ordered() -> [(key: String, value: Int)] { model.sorted { ($0.value, $0.key) < ($1.value, $1.key) } }
        for step in 0..<10_000 {
            let member = "m\(Int.random(in: 0..<500, using: &random))"
            let score = Int.random(in: 0..<100, using: &random)
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                #expect(session.reply("zadd z \(score) \(member)") == ":\(model.updateValue(score, forKey: member) == nil ? 1 : 0)\r\n")
            case 5..<7:
                let sum = model[member, default: 0] + score
                model[member] = sum
                #expect(session.reply("zadd z incr \(score) \(member)") == bulk("\(sum)"))
            case 7, 8:
                let first = ordered().first
                #expect(session.reply("zpopmin z") == array(first.map { [$0.key, "\($0.value)"] } ?? []))
                if let first { model[first.key] = nil }
            default:
                guard step % 5 == 0 else { continue }
                let start = Int.random(in: 0...max(1, model.count), using: &random)
                let all = ordered()
                let slice = all[min(start, all.count)..<min(start + 5, all.count)].flatMap { [$0.key, "\($0.value)"] }
                #expect(session.reply("zrange z \(start) \(start + 4) withscores") == array(slice))
                let reversed = all.reversed().dropFirst(start).prefix(5).map(\.key)
                #expect(session.reply("zrange z \(start) \(start + 4) rev") == array(reversed))
            }
        }
        #expect(session.reply("zcard z") == ":\(model.count)\r\n")
        #expect(session.reply("zrange z 0 -1") == array(ordered().map(\.key)))
    }
}
