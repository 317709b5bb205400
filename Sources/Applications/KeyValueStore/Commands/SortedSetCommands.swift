extension KeyValueStore {
    private struct AddOptions {
        var onlyNew = false
        var onlyPresent = false
        var onlyGreater = false
        var onlyLess = false
        var countsChanges = false
        var increments = false
    }

    /// `ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member …]`
    mutating func sortedSetAdd(_ request: Request, _ replies: inout ReplyOutput) {
        var options = AddOptions()
        var first = 2
        scanning: while first < request.count {
            switch request[first] {
            case let option where option.matches("nx"): options.onlyNew = true
            case let option where option.matches("xx"): options.onlyPresent = true
            case let option where option.matches("gt"): options.onlyGreater = true
            case let option where option.matches("lt"): options.onlyLess = true
            case let option where option.matches("ch"): options.countsChanges = true
            case let option where option.matches("incr"): options.increments = true
            default: break scanning
            }
            first += 1
        }
        guard first < request.count, (request.count - first) % 2 == 0 else { return replies.syntaxError() }
        if options.onlyNew && options.onlyPresent {
            return replies.error("ERR XX and NX options at the same time are not compatible")
        }
        if (options.onlyGreater && (options.onlyNew || options.onlyLess)) || (options.onlyLess && options.onlyNew) {
            return replies.error("ERR GT, LT, and/or NX options at the same time are not compatible")
        }
        if options.increments && request.count - first > 2 {
            return replies.error("ERR INCR option supports a single increment-element pair")
        }
        // All scores are read before the first change, so that a bad one leaves the set as it was.
        for index in stride(from: first, to: request.count, by: 2) where request[index].double() == nil {
            return replies.error("ERR value is not a valid float")
        }
        var entry = find(request[1], request)
        if let entry, !replies.check(entry, is: .sortedSet) { return }
        if entry == nil {
            if options.onlyPresent { return options.increments ? replies.null() : replies.integer(0) }
            entry = collection(.sortedSet, at: request[1], request, &replies)
        }
        guard let entry else { return }
        let set = entry.sortedSet
        var added = 0
        var changed = 0
        var newScore: Double?
        for index in stride(from: first, to: request.count, by: 2) {
            // Adding zero turns the negative zero into the positive one, which is how Redis prints it.
            let given = (request[index].double() ?? 0) + 0
            let name = request[index + 1]
            let nameHash = hash(name)
            guard let member = set.pointee.members.find(name, hash: nameHash, heap: &heap) else {
                if options.onlyPresent { continue }
                let member = set.pointee.members.insert(name, hash: nameHash, heap: &heap)
                set.pointee.setScore(given, of: member, isPresent: false, random: &random, heap: &heap)
                added += 1
                newScore = given
                continue
            }
            if options.onlyNew { continue }
            let current = member.node.pointee.score
            let score = options.increments ? current + given : given
            if score.isNaN {
                replies.error("ERR resulting score is not a number (NaN)")
                return
            }
            if (options.onlyGreater && score <= current) || (options.onlyLess && score >= current) { continue }
            newScore = score
            if score == current { continue }
            set.pointee.setScore(score, of: member, isPresent: true, random: &random, heap: &heap)
            changed += 1
        }
        if options.increments {
            if let newScore { replies.double(newScore) } else { replies.null() }
        } else {
            replies.integer(options.countsChanges ? added + changed : added)
        }
    }

    /// `ZPOPMIN key [count]`
    mutating func sortedSetPopMinimum(_ request: Request, _ replies: inout ReplyOutput) {
        guard request.count <= 3 else { return replies.syntaxError() }
        var wanted: Int?
        if request.count == 3 {
            guard let count = request[2].integer(), count >= 0 else { return replies.mustBePositive() }
            wanted = Int(count)
        }
        guard let entry = find(request[1], request) else { return replies.array(0) }
        guard replies.check(entry, is: .sortedSet) else { return }
        let set = entry.sortedSet
        let count = min(wanted ?? 1, set.pointee.count)
        let usesPairs = replies.usesRESP3 && wanted != nil
        replies.array(usesPairs ? count : 2 * count)
        for _ in 0..<count {
            guard let node = set.pointee.first else { break }
            if usesPairs { replies.array(2) }
            replies.bulk(node.member)
            replies.double(node.pointee.score)
            set.pointee.remove(node, heap: &heap)
        }
        if set.pointee.count == 0 { remove(entry, from: request.database) }
    }

    mutating func sortedSetCount(_ request: Request, _ replies: inout ReplyOutput) {
        guard let entry = read(request[1], request) else { return replies.integer(0) }
        guard replies.check(entry, is: .sortedSet) else { return }
        replies.integer(entry.sortedSet.pointee.count)
    }

    /// `ZRANGE key start stop [REV] [WITHSCORES]`, by rank.
    mutating func sortedSetRange(_ request: Request, _ replies: inout ReplyOutput) {
        var withScores = false
        var isReversed = false
        for index in 4..<max(4, request.count) {
            if request[index].matches("limit") && index + 2 < request.count {
                replies.raw("-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX\r\n")
                return
            } else if request[index].matches("withscores") {
                withScores = true
            } else if request[index].matches("rev") && !isReversed {
                isReversed = true
            } else {
                return replies.syntaxError()
            }
        }
        guard let start = request[2].integer(), let stop = request[3].integer() else { return replies.notAnInteger() }
        guard let entry = read(request[1], request) else { return replies.array(0) }
        guard replies.check(entry, is: .sortedSet) else { return }
        let set = entry.sortedSet
        let range = Self.range(from: start, through: stop, count: set.pointee.count)
        let usesPairs = withScores && replies.usesRESP3
        replies.array(withScores && !usesPairs ? 2 * range.count : range.count)
        guard !range.isEmpty else { return }
        var node: SortedSet.NodePointer? = set.pointee.node(
            atRank: isReversed ? set.pointee.count - 1 - range.lowerBound : range.lowerBound)
        for _ in range {
            guard let current = node else { return }
            if usesPairs { replies.array(2) }
            replies.bulk(current.member)
            if withScores { replies.double(current.pointee.score) }
            node = isReversed ? current.previous : current.next
        }
    }
}
