// One import for programs: the runtime, its memory and its tasks.
@_exported import DatapathMemory
@_exported import QueueRuntime
@_exported import TaskScheduler
