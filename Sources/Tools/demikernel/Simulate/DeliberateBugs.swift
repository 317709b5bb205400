import ArgumentParser

#if DELIBERATE_BUGS
    import NetworkStack
#endif

/// The bugs that `--bug` names. They are in builds that were made for them.
enum DeliberateBugs {
    /// Gives every network stack that is made from now on the bug of this name.
    static func choose(_ name: String) throws {
        #if DELIBERATE_BUGS
            guard let bug = DeliberateBug(rawValue: name) else {
                throw ValidationError("there is no bug '\(name)'; there are \(DeliberateBug.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            DeliberateBug.present = bug
        #else
            throw CommandFailure(
                "this program was built without deliberate bugs, so it cannot have '\(name)': build it with DEMIKERNEL_DELIBERATE_BUGS=1 in the environment "
                    + "and a scratch path of its own, as scripts/deliberate-bugs does")
        #endif
    }
}
