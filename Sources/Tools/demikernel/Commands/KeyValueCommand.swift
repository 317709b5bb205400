import ArgumentParser
import Demikernel
import KeyValue

struct KeyValueCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kv",
        abstract: "Run the key-value server over a library OS.",
        discussion: """
            Speaks the Redis protocol: redis-cli and redis-benchmark work with it. Keeps everything in memory. Stops on SIGINT and SIGTERM.
            With several shards, each has a part of the keys; a command about keys of several shards (MGET, MSET, DEL) is not atomic.

            EXAMPLES
              demikernel kv --listen 127.0.0.1:6379
              demikernel kv --libos catmem --path /run/user/1000/kv.sock
              sudo demikernel kv --libos catnip --device tap:demi0,host=10.0.0.1/24 --address 10.0.0.2/24
              demikernel kv --listen 127.0.0.1:6379 --shards 2
              LIBOS=catnap CONFIG_PATH=server.yaml demikernel kv --idle spin --memory 256

            \(SettingKey.listing)
            """)

    @Option(
        help: ArgumentHelp(
            "Where to listen; port 0 takes any free one. When left out: port 6379 of 127.0.0.1, with catnip of every address.",
            valueName: "address:port"))
    var listen: Endpoint?

    @OptionGroup var settings: SettingsOptions
    @OptionGroup var process: ProcessOptions
    @OptionGroup var telemetry: TelemetryOptions

    func run() throws {
        let seed = UInt64.random(in: .min ... .max)
        try LibraryOSServer(command: "kv", listen: listen, port: 6379, laneCount: KeyValueServer.laneCount, settings: settings, process: process, telemetry: telemetry)
            .run { runtime, shard, address, socketOptions, whenReady throws(DemikernelError) in
                let maximumQueues = runtime.core.limits.maximumQueues
                var server = KeyValueServer(listen: address, socketOptions: socketOptions, seed: seed, maximumQueues: maximumQueues, shard: shard)
                try server.run(on: runtime, whenReady: whenReady)
                let statistics = server.statistics
                let others = shard.count > 1 ? ", \(statistics.batchesHandedOver) batches handed over, \(statistics.batchesAnswered) answered" : ""
                return """
                    \(statistics.connectionsAccepted) connections accepted, \(statistics.connectionsFailed) failed, \
                    \(statistics.droppedOutOfMemory) dropped for want of memory, \(statistics.batches) batches of requests\(others)
                    """
            }
    }
}
