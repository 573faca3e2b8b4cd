//! ComputeStrategy adapters of abca, and the sandbox of the hands.
