//! Pages of the web as text: what the tool `WebFetch` does, in the brain and through the [`Gate`](crate::egress::Gate).
//!
//! | bound | value |
//! | --- | --- |
//! | bytes of an answer, as they come | 5 MiB |
//! | bytes of it once unpacked, and of each layer | 10 MiB |
//! | layers of packing | 2 |
//! | redirects, all within one host | 5 |
//! | time, everything together | 30 s |
//!
//! What does not fit is refused, and told as an event where it looks like an attack.

mod decode;
mod fetch;
mod page;

pub(crate) use fetch::Web;
