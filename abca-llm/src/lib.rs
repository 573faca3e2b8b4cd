//! ModelClient adapters of abca.
