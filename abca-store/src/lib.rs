//! Where abca keeps tasks: adapters of [`abca_core::store::TaskStore`].
//!
//! | type | feature | durable | shared by processes | for |
//! | --- | --- | --- | --- | --- |
//! | [`InProcess`] | – | no | no | tests, notebooks, tasks that may be forgotten |
//! | `DynamoDb` | `dynamodb` | yes | yes, anywhere | AWS |
//! | [`Sqlite`] | `sqlite` (default) | yes | yes, on one machine | everything else on one machine |

#[cfg(feature = "dynamodb")]
pub mod dynamodb;
#[cfg(feature = "sqlite")]
mod group;
mod in_process;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "dynamodb")]
pub use dynamodb::{DynamoDb, DynamoDbConfig};
pub use in_process::InProcess;
#[cfg(feature = "sqlite")]
pub use sqlite::{Sqlite, SqliteConfig};
