/// Requests and the replies of redis-server 7.0.15 to them, in order, from an empty store.
extension Exchange {
    static let hashes: [Exchange] = [
        Exchange("hset h a 1", ":1\r\n"),
        Exchange("hset h a 2", ":0\r\n"),
        Exchange("hgetall h", "*2\r\n$1\r\na\r\n$1\r\n2\r\n", resp3: "%1\r\n$1\r\na\r\n$1\r\n2\r\n"),
        Exchange("hset h a 3 b 4 c 5", ":2\r\n"),
        Exchange("hget h a", "$1\r\n3\r\n"),
        Exchange("hget h missing", "$-1\r\n", resp3: "_\r\n"),
        Exchange("hget missing a", "$-1\r\n", resp3: "_\r\n"),
        Exchange("hgetall missing", "*0\r\n", resp3: "%0\r\n"),
        Exchange("hlen h", ":3\r\n"),
        Exchange("hlen missing", ":0\r\n"),
        Exchange("hset h a", "-ERR wrong number of arguments for 'hset' command\r\n"),
        Exchange("hset h a 1 b", "-ERR wrong number of arguments for 'hset' command\r\n"),
        Exchange("hset h", "-ERR wrong number of arguments for 'hset' command\r\n"),
        Exchange("hget h", "-ERR wrong number of arguments for 'hget' command\r\n"),
        Exchange("set text x", "+OK\r\n"),
        Exchange("hset text a b", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        Exchange("hget text a", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        Exchange("hgetall text", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        Exchange("hlen text", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
    ]
}
