//! Where abca keeps tasks: adapters of [`abca_core::store::TaskStore`].
//!
//! | type | feature | durable | shared by processes | for |
//! | --- | --- | --- | --- | --- |
//! | [`InProcess`] | – | no | no | tests, notebooks, tasks that may be forgotten |
//! | `DynamoDb` | `dynamodb` | yes | yes, anywhere | AWS |
//! | `Postgres` | `postgres` | yes | yes, anywhere | several machines |
//! | [`Sqlite`] | `sqlite` (default) | yes | yes, on one machine | everything else on one machine |

#[cfg(feature = "dynamodb")]
pub mod dynamodb;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod group;
mod in_process;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "dynamodb")]
pub use dynamodb::{DynamoDb, DynamoDbConfig};
pub use in_process::InProcess;
#[cfg(feature = "postgres")]
pub use postgres::{Postgres, PostgresConfig};
#[cfg(feature = "sqlite")]
pub use sqlite::{Sqlite, SqliteConfig};
