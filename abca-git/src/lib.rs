//! GitProvider adapters of abca, and the git program behind guards.
