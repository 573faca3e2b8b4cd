//! abca
