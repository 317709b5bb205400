import Foundation
import Glibc
import Testing

/// A process that was forked has a copy of the runtime, and its end is none of the runtime's.
@Suite struct ForkTests {
    private static let program = """
        #include <demi/libos.h>
        #include <demi/sga.h>
        #include <arpa/inet.h>
        #include <stdlib.h>
        #include <string.h>
        #include <sys/wait.h>
        #include <unistd.h>

        static void must(int error) { if (error != 0) _exit(error); }

        static demi_qresult_t wait_for(demi_qtoken_t token)
        {
            demi_qresult_t result;
            must(demi_wait(&result, token, NULL));
            must(result.qr_opcode == DEMI_OPC_FAILED ? (int)result.qr_ret : 0);
            return result;
        }

        int main(void)
        {
            struct demi_args args = {0, NULL, NULL};
            struct sockaddr_in address;
            socklen_t size = sizeof(address);
            int listener, client, server, status;
            demi_qtoken_t token, other;
            must(demi_init(&args));
            memset(&address, 0, sizeof(address));
            address.sin_family = AF_INET;
            address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            must(demi_socket(&listener, AF_INET, SOCK_STREAM, 0));
            must(demi_bind(listener, (struct sockaddr *)&address, sizeof(address)));
            must(demi_listen(listener, 4));
            must(demi_getsockname(listener, (struct sockaddr *)&address, &size));
            if (fork() == 0) exit(0);
            wait(&status);
            must(status);
            must(demi_socket(&client, AF_INET, SOCK_STREAM, 0));
            must(demi_connect(&token, client, (struct sockaddr *)&address, sizeof(address)));
            must(demi_accept(&other, listener));
            server = wait_for(other).qr_value.ares.qd;
            wait_for(token);
            if (fork() == 0) exit(0);
            wait(&status);
            must(status);
            demi_sgarray_t array = demi_sgaalloc(64);
            must(demi_push(&token, client, &array));
            must(demi_sgafree(&array));
            must(demi_pop(&other, server));
            demi_qresult_t result = wait_for(other);
            must(result.qr_value.sga.sga_segs[0].sgaseg_len != 64);
            must(demi_sgafree(&result.qr_value.sga));
            wait_for(token);
            return 0;
        }
        """

    @Test(.enabled(if: access("/usr/bin/gcc", X_OK) == 0, "needs gcc: apt-get install gcc libc6-dev"), arguments: ["catnap", "catmem"])
    func aForkedChildsEndLeavesTheParentItsConnections(libraryOS: String) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fork-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try ForkTests.program.write(to: folder.appendingPathComponent("fork.c"), atomically: true, encoding: .utf8)
        try "demikernel:\n  catmem_directory: \(folder.path)/sockets\n".write(to: folder.appendingPathComponent("demikernel.yaml"), atomically: true, encoding: .utf8)
        let compilation = try run("/usr/bin/gcc", [
            "-o", "\(folder.path)/fork", "\(folder.path)/fork.c", "-I", Interface.headers.deletingLastPathComponent().path, "-L", Interface.products.path,
            "-lDemikernelC", "-Wl,-rpath,\(Interface.products.path)",
        ])
        try #require(compilation.status == 0, "\(compilation.output)")
        let result = try run("/usr/bin/timeout", ["30", "\(folder.path)/fork"], environment: [
            "LIBOS": libraryOS, "CONFIG_PATH": "\(folder.path)/demikernel.yaml", "PATH": "/usr/bin:/bin",
        ])
        #expect(result.status == 0, "\(result.output)")
    }
}
