//! TaskStore and MemoryStore adapters of abca.
