//! The git program, the two repositories and the local forge, over real repositories on disk.

mod bare;
mod forge;
mod hands;
mod hostile;
mod http;
mod support;
