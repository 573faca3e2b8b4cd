//! What a repository may carry.
