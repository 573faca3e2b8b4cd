//! Lists in pages, with cursors that nobody can make up.

use std::fmt;
use std::str::FromStr;

use abca_core::TaskId;
use abca_core::store::ListQuery;
use abca_core::task::Task;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;

use crate::abca::Abca;
use crate::error::{Error, ErrorKind};
use crate::link::LinkSecret;

/// Bytes of a task's id, and of the signature behind it.
const ID: usize = 26;
const SIGNATURE: usize = 16;

/// Where the next page of a list begins. Text for programs to pass on: it is signed by the state folder's secret, and belongs
/// to the filters that it was given for. Stable: tasks that come meanwhile are before the first page.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct ListCursor(String);

impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ListCursor {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// A page of a list.
#[derive(Debug, Clone, serde::Serialize)]
pub struct TaskPage {
    /// Newest first.
    pub tasks: Vec<Task>,
    /// Asks for the next page; `None` on the last.
    pub next: Option<ListCursor>,
}

impl Abca {
    /// A page of tasks, newest first: the first, or the one that a cursor names. `query.before` is the cursor's; a limit of 0
    /// means 100.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a cursor that this state folder did not give, or gave for other filters; when the
    /// store cannot be read.
    pub async fn page(&self, mut query: ListQuery, after: Option<&ListCursor>) -> Result<TaskPage, Error> {
        let secret = &self.inner.secret;
        query.before = after.map(|c| read(secret, &query, c)).transpose()?;
        query.limit = if query.limit == 0 { super::abca::LIST } else { query.limit };
        let wanted = query.limit;
        // One more says whether there is a next page.
        query.limit = wanted.saturating_add(1);
        let mut tasks = self.inner.store.list(&query).await?;
        let more = tasks.len() > wanted;
        tasks.truncate(wanted);
        let next = tasks.last().filter(|_| more).map(|t| write(secret, &query, t.id));
        Ok(TaskPage { tasks, next })
    }
}

fn write(secret: &LinkSecret, query: &ListQuery, last: TaskId) -> ListCursor {
    let mut bytes = last.to_string().into_bytes();
    bytes.extend_from_slice(&signature(secret, query, &last.to_string()));
    ListCursor(URL_SAFE_NO_PAD.encode(bytes))
}

fn read(secret: &LinkSecret, query: &ListQuery, cursor: &ListCursor) -> Result<TaskId, Error> {
    let bad = || {
        let text = "the cursor is not one that was given for this list: begin without one, and keep the filters";
        Error::new(ErrorKind::Invalid, text)
    };
    let bytes = URL_SAFE_NO_PAD.decode(&cursor.0).ok().filter(|b| b.len() == ID + SIGNATURE).ok_or_else(bad)?;
    let (id, signed) = bytes.split_at(ID);
    let id = std::str::from_utf8(id).map_err(|_| bad())?;
    mac(secret, query, id).verify_truncated_left(signed).map_err(|_| bad())?;
    id.parse().map_err(|_| bad())
}

fn signature(secret: &LinkSecret, query: &ListQuery, id: &str) -> [u8; SIGNATURE] {
    let whole = mac(secret, query, id).finalize().into_bytes();
    std::array::from_fn(|i| whole[i])
}

/// Over the filters, each behind its length, and the id.
fn mac(secret: &LinkSecret, query: &ListQuery, id: &str) -> hmac::Hmac<sha2::Sha256> {
    let mut statuses: Vec<&str> = query.statuses.iter().map(|s| s.as_str()).collect();
    statuses.sort_unstable();
    let time = |t: Option<abca_core::Timestamp>| t.map(|t| t.as_millis().to_string()).unwrap_or_default();
    let filters = [
        query.user.as_ref().map(|u| u.as_str().to_owned()).unwrap_or_default(),
        statuses.join(","),
        query.repo.clone().unwrap_or_default(),
        time(query.since),
        time(query.until),
        id.to_owned(),
    ];
    filters.iter().fold(secret.mac_for(b"list:"), |mac, part| {
        mac.chain_update((part.len() as u64).to_le_bytes()).chain_update(part)
    })
}

#[cfg(test)]
mod tests {
    use abca_core::Timestamp;
    use abca_core::task::TaskStatus;

    use super::*;
    use crate::clock::OsRandom;

    #[test]
    fn a_cursor_counts_for_its_filters_and_its_secret_only() {
        let (mine, other) = (LinkSecret::random(&OsRandom), LinkSecret::random(&OsRandom));
        let id = TaskId::from_parts(Timestamp::from_millis(7), 7);
        let query =
            ListQuery { statuses: vec![TaskStatus::Failed, TaskStatus::Queued], limit: 3, ..ListQuery::default() };
        let cursor = write(&mine, &query, id);
        let turned = ListQuery { statuses: vec![TaskStatus::Queued, TaskStatus::Failed], limit: 9, ..query.clone() };
        assert_eq!(read(&mine, &turned, &cursor).unwrap(), id);
        let narrower = ListQuery { repo: Some("acme/app".to_owned()), ..query.clone() };
        for (secret, query, cursor) in [
            (&other, &query, cursor.clone()),
            (&mine, &narrower, cursor.clone()),
            (&mine, &query, ListCursor(String::new())),
            (&mine, &query, ListCursor(URL_SAFE_NO_PAD.encode(id.to_string()))),
            (&mine, &query, ListCursor(format!("A{}", &cursor.0[1..]))),
        ] {
            assert_eq!(read(secret, query, &cursor).unwrap_err().kind(), ErrorKind::Invalid, "{cursor}");
        }
    }
}
