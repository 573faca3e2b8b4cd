//! Stores named by a URL: what `--store` and `Builder::store_url` take.

use std::fmt;
#[cfg(feature = "sqlite")]
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use abca_core::store::TaskStore;
use secrecy::{ExposeSecret, SecretString};

use crate::error::{Error, ErrorKind};

/// Where tasks live. It may hold a password, and is never printed whole.
///
/// | URL | store |
/// | --- | --- |
/// | `sqlite:FOLDER` | SQLite in a folder on a local disk |
/// | `postgres://USER:PASSWORD@HOST:PORT/DATABASE?schema=NAME` | PostgreSQL; the password may come from `PGPASSWORD` or `~/.pgpass` instead |
/// | `dynamodb:TABLE` | DynamoDB, reached with what the surroundings say: `AWS_REGION`, profiles, `AWS_ENDPOINT_URL_DYNAMODB` |
#[derive(Clone)]
pub struct StoreUrl {
    kind: Kind,
    rest: SecretString,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Postgres,
    DynamoDb,
}

impl Kind {
    const fn feature(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::DynamoDb => "dynamodb",
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for StoreUrl {
    /// Without user, password and query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.rest.expose_secret();
        match self.kind {
            Kind::Sqlite | Kind::DynamoDb => f.write_str(rest),
            Kind::Postgres => {
                let after = rest.split_once("://").map_or("", |(_, after)| after);
                let place = after.split('?').next().unwrap_or_default();
                write!(f, "postgres://{}", place.rsplit_once('@').map_or(place, |(_, host)| host))
            }
        }
    }
}

impl FromStr for StoreUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let scheme = text.split(':').next().unwrap_or_default();
        let kind = match scheme {
            "sqlite" => Kind::Sqlite,
            "postgres" | "postgresql" => Kind::Postgres,
            "dynamodb" => Kind::DynamoDb,
            _ => {
                // What was written may be a password.
                let text = "a store is named as `sqlite:FOLDER`, `postgres://USER@HOST/DATABASE` or `dynamodb:TABLE`";
                return Err(Error::new(ErrorKind::Invalid, text));
            }
        };
        Ok(Self { kind, rest: SecretString::from(text) })
    }
}

impl StoreUrl {
    /// Whether it holds a password.
    pub fn has_password(&self) -> bool {
        let rest = self.rest.expose_secret();
        let authority = rest.split_once("://").map_or("", |(_, after)| after);
        let authority = authority.split(['/', '?']).next().unwrap_or_default();
        let named = authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
        self.kind == Kind::Postgres && (named || rest.contains("password="))
    }

    #[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "for a worker in the background"))]
    pub(crate) fn expose(&self) -> &str {
        self.rest.expose_secret()
    }

    /// What stands behind the scheme.
    fn name(&self) -> &str {
        self.rest.expose_secret().split_once(':').map_or("", |(_, name)| name)
    }

    #[cfg(feature = "sqlite")]
    fn folder(&self) -> PathBuf {
        PathBuf::from(self.name())
    }

    fn not_built(&self) -> Error {
        let feature = self.kind.feature();
        Error::new(ErrorKind::Config, format!("this abca was built without the feature `{feature}`: build it with it"))
    }

    /// Opens the store. Its tables must be there, but for SQLite, which makes them.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when this program was built without it; [`ErrorKind::State`] when its tables are missing, older
    /// or newer than this program's; [`ErrorKind::Unavailable`] when it cannot be reached.
    pub async fn open(&self) -> Result<Arc<dyn TaskStore>, Error> {
        match self.kind {
            #[cfg(feature = "sqlite")]
            Kind::Sqlite => Ok(Arc::new(abca_store::Sqlite::open(self.folder()).await?)),
            #[cfg(feature = "postgres")]
            Kind::Postgres => Ok(Arc::new(abca_store::Postgres::open_with(self.postgres()?).await?)),
            #[cfg(feature = "dynamodb")]
            Kind::DynamoDb => Ok(Arc::new(abca_store::DynamoDb::open(self.dynamodb()).await?)),
            #[allow(unreachable_patterns, reason = "every store is there with every feature")]
            _ => Err(self.not_built()),
        }
    }

    /// Makes the tables, or brings them up to date; idempotent. Answers what was done, for people.
    ///
    /// # Errors
    /// As [`Self::open`]; also when the rights to make tables are missing.
    pub async fn init(&self) -> Result<String, Error> {
        match self.kind {
            #[cfg(feature = "sqlite")]
            Kind::Sqlite => {
                abca_store::Sqlite::open(self.folder()).await?;
                Ok("the database is there and up to date".to_owned())
            }
            #[cfg(feature = "postgres")]
            Kind::Postgres => {
                let before = abca_store::Postgres::init(&self.postgres()?).await?;
                let now = abca_store::Postgres::version();
                Ok(match before {
                    0 => format!("the tables are made, at version {now}"),
                    before if before == now => format!("the tables were there, at version {now}"),
                    before => format!("the tables were brought from version {before} to {now}"),
                })
            }
            #[cfg(feature = "dynamodb")]
            Kind::DynamoDb => {
                abca_store::DynamoDb::init(self.dynamodb()).await?;
                Ok(format!("the table `{}` is there", self.name()))
            }
            #[allow(unreachable_patterns, reason = "every store is there with every feature")]
            _ => Err(self.not_built()),
        }
    }

    /// Checks that the tables are what this program expects, and changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::State`], saying what differs; else as [`Self::open`].
    pub async fn verify(&self) -> Result<(), Error> {
        match self.kind {
            #[cfg(feature = "sqlite")]
            Kind::Sqlite => {
                let file = self.folder().join("abca.db");
                if !file.is_file() {
                    let text = format!("`{}` is not there: run `abca store init`", file.display());
                    return Err(Error::new(ErrorKind::State, text));
                }
                abca_store::Sqlite::open(self.folder()).await?;
                Ok(())
            }
            #[cfg(feature = "postgres")]
            Kind::Postgres => Ok(abca_store::Postgres::verify(&self.postgres()?).await?),
            #[cfg(feature = "dynamodb")]
            Kind::DynamoDb => {
                let store = abca_store::DynamoDb::open(self.dynamodb()).await?;
                Ok(store.verify().await?)
            }
            #[allow(unreachable_patterns, reason = "every store is there with every feature")]
            _ => Err(self.not_built()),
        }
    }

    /// The least privileges that a worker needs, as the store's own language has them: SQL or an IAM policy. `worker` is the
    /// role or, for DynamoDB, the table's ARN.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when this program was built without the store.
    pub fn grants(&self, worker: &str) -> Result<String, Error> {
        match self.kind {
            Kind::Sqlite => {
                Ok(format!("-- `{worker}` reads and writes the folder `{}`; nothing else is needed", self.name()))
            }
            #[cfg(feature = "postgres")]
            Kind::Postgres => Ok(abca_store::Postgres::grants(&self.postgres()?, worker)),
            #[cfg(feature = "dynamodb")]
            Kind::DynamoDb => Ok(abca_store::dynamodb::policy(worker)),
            #[allow(unreachable_patterns, reason = "every store is there with every feature")]
            _ => Err(self.not_built()),
        }
    }

    #[cfg(feature = "postgres")]
    fn postgres(&self) -> Result<abca_store::PostgresConfig, Error> {
        abca_store::PostgresConfig::new(self.rest.expose_secret())
            .map_err(|e| Error::new(ErrorKind::Invalid, e.message().to_owned()))
    }

    #[cfg(feature = "dynamodb")]
    fn dynamodb(&self) -> abca_store::DynamoDbConfig {
        abca_store::DynamoDbConfig::table(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_and_never_shown() {
        for (text, shown, password) in [
            ("postgres://ann:s3cret@db.example:5432/abca?sslmode=require", "postgres://db.example:5432/abca", true),
            ("postgres://ann:p@ss/word@db/abca", "postgres://", true),
            ("postgres://ann@db/abca", "postgres://db/abca", false),
            ("postgresql://db/abca?user=ann&password=s3cret", "postgres://db/abca", true),
            ("sqlite:/var/lib/abca", "sqlite:/var/lib/abca", false),
            ("dynamodb:abca", "dynamodb:abca", false),
        ] {
            let url: StoreUrl = text.parse().unwrap();
            let (display, debug) = (url.to_string(), format!("{url:?}"));
            assert!(display.starts_with(shown), "{display}");
            assert!(!display.contains("s3cret") && !debug.contains("s3cret"), "{display} {debug}");
            assert_eq!(url.has_password(), password, "{shown}");
        }
        let error = "mysql://ann:s3cret@db".parse::<StoreUrl>().unwrap_err().to_string();
        assert!(!error.contains("s3cret") && error.contains("postgres://"), "{error}");
    }
}
