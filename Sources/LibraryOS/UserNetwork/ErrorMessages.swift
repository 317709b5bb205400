import Glibc

/// What errors mean here, and what mends them.
enum ErrorMessages {
    static let otherFamily: StaticString = "the address and the socket are of different families"
    static let notConnected: StaticString = "the socket is not connected"
    static let queueClosed: StaticString = "the queue was closed"

    static func bind(_ error: Int32) -> StaticString {
        switch error {
        case EADDRINUSE: "another queue of this network has this port, or all are in use: choose another one, or close a queue"
        case EADDRNOTAVAIL: "the interface does not have this address: bind to 0.0.0.0, :: or to one of NetworkConfiguration's addresses"
        case EINVAL: "the socket is bound already"
        default: ""
        }
    }

    static func connect(_ error: Int32) -> StaticString {
        switch error {
        case ECONNREFUSED: "nobody listens there: start the server, or mend the address"
        case ETIMEDOUT: "the peer did not answer"
        case EADDRNOTAVAIL: "no local port is left: close connections"
        case EADDRINUSE: "the bound address has a connection to this peer already"
        case EHOSTUNREACH: "nobody on the link answers for this address, or a router knows no way"
        case ENETUNREACH: "no route leads there: add one to NetworkConfiguration.routes"
        case EAFNOSUPPORT: "the bound address is of another family than this one: bind to :: for both"
        case EACCES: "this is a broadcast address: set SocketOption.broadcast(true) first"
        case EINVAL: "nobody can have this address: it has no port, or is no host's"
        default: ""
        }
    }

    static func group(_ error: Int32) -> StaticString {
        switch error {
        case EINVAL: "the address is no group's: groups are in 224.0.0.0/4 and ff00::/8"
        case ENODEV: "the interface has no address of the group's family"
        case EADDRINUSE: "the socket has joined the group already"
        case EADDRNOTAVAIL: "the socket has not joined the group"
        case ENOBUFS: "no more groups can be joined: raise NetworkLimits.multicastGroupsOfSocket or multicastGroups"
        case EAFNOSUPPORT: otherFamily
        default: ""
        }
    }

    static func send(_ error: Int32) -> StaticString {
        switch error {
        case EMSGSIZE: "the datagram is larger than the protocol allows (65507 bytes over IPv4, 65527 over IPv6), or than the link takes of one to several hosts"
        case EDESTADDRREQ: "the socket has no peer: connect it, or use pushTo"
        case EPIPE, ECONNRESET: "the peer has closed or reset the connection"
        case ETIMEDOUT: "the peer has stopped answering"
        case EADDRINUSE: "no local port is left: close sockets, or bind this one"
        default: connect(error)
        }
    }
}
