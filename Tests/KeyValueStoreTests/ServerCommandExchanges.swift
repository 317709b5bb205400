/// Requests and the replies of redis-server 7.0.15 to them, in order, from an empty store.
extension Exchange {
    static let server: [Exchange] = [
        Exchange("config get save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n", resp3: "%1\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        Exchange("config get appendonly", "*2\r\n$10\r\nappendonly\r\n$2\r\nno\r\n", resp3: "%1\r\n$10\r\nappendonly\r\n$2\r\nno\r\n"),
        Exchange("config get maxmemory", "*2\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n", resp3: "%1\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n"),
        Exchange("config get nosuch", "*0\r\n", resp3: "%0\r\n"),
        Exchange(
            "config get maxmemory-pol* databases",
            "*4\r\n$9\r\ndatabases\r\n$2\r\n16\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n",
            resp3: "%2\r\n$9\r\ndatabases\r\n$2\r\n16\r\n$16\r\nmaxmemory-policy\r\n$10\r\nnoeviction\r\n"),
        Exchange("config set maxmemory 100mb", "+OK\r\n"),
        Exchange("config get maxmemory", "*2\r\n$9\r\nmaxmemory\r\n$9\r\n104857600\r\n", resp3: "%1\r\n$9\r\nmaxmemory\r\n$9\r\n104857600\r\n"),
        Exchange("config set maxmemory 0", "+OK\r\n"),
        Exchange("config set a b", "-ERR Unknown option or number of arguments for CONFIG SET - 'a'\r\n"),
        Exchange("config set maxmemory", "-ERR wrong number of arguments for 'config|set' command\r\n"),
        Exchange("config set maxmemory 1 save", "-ERR syntax error\r\n"),
        Exchange(
            "config set maxmemory much",
            "-ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value\r\n"),
        Exchange("config resetstat", "+OK\r\n"),
        Exchange("config resetstat a", "-ERR wrong number of arguments for 'config|resetstat' command\r\n"),
        Exchange("config what", "-ERR unknown subcommand 'what'. Try CONFIG HELP.\r\n"),
        Exchange("config get", "-ERR wrong number of arguments for 'config|get' command\r\n"),
        Exchange("config", "-ERR wrong number of arguments for 'config' command\r\n"),
        Exchange("command what", "-ERR unknown subcommand 'what'. Try COMMAND HELP.\r\n"),
        Exchange("command count a", "-ERR wrong number of arguments for 'command|count' command\r\n"),
        Exchange("command docs missing", "*0\r\n", resp3: "%0\r\n"),
        Exchange("command info missing", "*1\r\n$-1\r\n", resp3: "*1\r\n_\r\n"),
        Exchange("info what", "$0\r\n\r\n", resp3: "=4\r\ntxt:\r\n"),
        Exchange("what", "-ERR unknown command 'what', with args beginning with: \r\n"),
        Exchange("what a b c", "-ERR unknown command 'what', with args beginning with: 'a' 'b' 'c' \r\n"),
        Exchange(
            "quitx aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b",
            "-ERR unknown command 'quitx', with args beginning with: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' \r\n"),
    ]
}
