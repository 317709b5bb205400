import CDemikernel
import Foundation
import Testing

/// The binary interface against the committed list. Layout.c asserts the same of C.
@Suite struct ABITests {
    private static let sizes: [String: Int] = [
        "demi_qtoken_t": MemoryLayout<demi_qtoken_t>.size, "demi_sgaseg_t": MemoryLayout<demi_sgaseg_t>.size,
        "demi_sgarray_t": MemoryLayout<demi_sgarray_t>.size, "demi_accept_result_t": MemoryLayout<demi_accept_result_t>.size,
        "demi_qresult_t": MemoryLayout<demi_qresult_t>.size, "demi_args": MemoryLayout<demi_args>.size,
        "demi_statistics": MemoryLayout<demi_statistics>.size,
    ]
    private static let offsets: [String: Int?] = [
        "demi_sgaseg_t.sgaseg_buf": MemoryLayout<demi_sgaseg_t>.offset(of: \.sgaseg_buf),
        "demi_sgaseg_t.sgaseg_len": MemoryLayout<demi_sgaseg_t>.offset(of: \.sgaseg_len),
        "demi_sgarray_t.sga_buf": MemoryLayout<demi_sgarray_t>.offset(of: \.sga_buf),
        "demi_sgarray_t.sga_numsegs": MemoryLayout<demi_sgarray_t>.offset(of: \.sga_numsegs),
        "demi_sgarray_t.sga_segs": MemoryLayout<demi_sgarray_t>.offset(of: \.sga_segs),
        "demi_sgarray_t.sga_addr": MemoryLayout<demi_sgarray_t>.offset(of: \.sga_addr),
        "demi_accept_result_t.qd": MemoryLayout<demi_accept_result_t>.offset(of: \.qd),
        "demi_accept_result_t.addr": MemoryLayout<demi_accept_result_t>.offset(of: \.addr),
        "demi_qresult_t.qr_opcode": MemoryLayout<demi_qresult_t>.offset(of: \.qr_opcode),
        "demi_qresult_t.qr_qd": MemoryLayout<demi_qresult_t>.offset(of: \.qr_qd),
        "demi_qresult_t.qr_qt": MemoryLayout<demi_qresult_t>.offset(of: \.qr_qt),
        "demi_qresult_t.qr_ret": MemoryLayout<demi_qresult_t>.offset(of: \.qr_ret),
        "demi_qresult_t.qr_value": MemoryLayout<demi_qresult_t>.offset(of: \.qr_value),
        "demi_args.argc": MemoryLayout<demi_args>.offset(of: \.argc),
        "demi_args.argv": MemoryLayout<demi_args>.offset(of: \.argv),
        "demi_args.callback": MemoryLayout<demi_args>.offset(of: \.callback),
        "demi_statistics.turns": MemoryLayout<demi_statistics>.offset(of: \.turns),
        "demi_statistics.allocations_refused": MemoryLayout<demi_statistics>.offset(of: \.allocations_refused),
    ]
    private static let values: [String: Int] = [
        "DEMI_OPC_INVALID": Int(DEMI_OPC_INVALID.rawValue), "DEMI_OPC_PUSH": Int(DEMI_OPC_PUSH.rawValue), "DEMI_OPC_POP": Int(DEMI_OPC_POP.rawValue),
        "DEMI_OPC_ACCEPT": Int(DEMI_OPC_ACCEPT.rawValue), "DEMI_OPC_CONNECT": Int(DEMI_OPC_CONNECT.rawValue),
        "DEMI_OPC_CLOSE": Int(DEMI_OPC_CLOSE.rawValue), "DEMI_OPC_FAILED": Int(DEMI_OPC_FAILED.rawValue),
        "DEMI_SGARRAY_MAXSIZE": Int(DEMI_SGARRAY_MAXSIZE),
    ]

    @Test func typesLieInMemoryAsPromised() throws {
        let promises = try Interface.promises()
        for (kind, measured) in [("size", ABITests.sizes), ("value", ABITests.values), ("offset", ABITests.offsets.compactMapValues { $0 })] {
            let promised = Dictionary(uniqueKeysWithValues: promises.filter { $0[0] == kind }.map { ($0[1], Int($0[2])!) })
            #expect(measured == promised)
        }
    }

    @Test func theLibraryHasEveryPromisedSymbolAndNoOther() throws {
        let symbols = try Interface.promises().filter { $0[0] == "symbol" }
        #expect(symbols.count { $0[2] == "DEMIKERNEL_1.5" } == 19)
        let library = try #require(dlopen(Interface.products.appendingPathComponent("libDemikernelC.so").path, RTLD_NOW | RTLD_LOCAL))
        for symbol in symbols { #expect(dlsym(library, symbol[1]) != nil, "\(symbol[1])") }
        #expect(Set(try Interface.documentedErrors().keys) == Set(symbols.map { $0[1] }))
    }

    /// scripts/install gives the symbols their versions by this map.
    @Test func theVersionsAreThoseOfTheLinkersMap() throws {
        let text = try String(contentsOf: Interface.root.appendingPathComponent("scripts/c-interface/symbols.map"), encoding: .utf8)
        var node = ""
        var found: Set<[String]> = []
        for line in text.split(separator: "\n").map({ $0.trimmingCharacters(in: .whitespaces) }) {
            if line.hasSuffix("{") { node = String(line.dropLast(2)) }
            if line.hasPrefix("demi_") { found.insert(["symbol", String(line.dropLast()), node]) }
        }
        #expect(found == Set(try Interface.promises().filter { $0[0] == "symbol" }))
    }

    @Test func theVersionIsThatOfTheCommand() throws {
        let command = try String(
            contentsOf: Interface.root.appendingPathComponent("Sources/Tools/demikernel/Commands/RootCommand.swift"), encoding: .utf8)
        #expect(command.contains("version: \"\(String(cString: demi_version()))\""))
    }
}
