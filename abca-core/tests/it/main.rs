//! Integration tests of the core's public API, one binary.

mod workflow_vectors;
