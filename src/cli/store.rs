//! `store`: prepares a database for workers.

use serde_json::json;

use super::args::StoreCommand;
use super::common::{Failed, Output, Place, say, state_dir};
use super::{is_json, print_json};
use crate::StoreUrl;

pub(super) async fn store(place: Place, output: Output, command: StoreCommand) -> Result<u8, Failed> {
    let url: StoreUrl = match place.store {
        Some(url) => url,
        None => format!("sqlite:{}", state_dir(place.state)?.display()).parse()?,
    };
    let (done, text) = match command {
        StoreCommand::Init => ("init", url.init().await?),
        StoreCommand::Verify => {
            url.verify().await?;
            ("verify", "the tables are as this program expects".to_owned())
        }
        StoreCommand::Grants { worker } => ("grants", url.grants(&worker)?),
    };
    if is_json(output) {
        print_json(&json!({ "store": url.to_string(), "done": done, "text": text }))?;
    } else {
        say(&text);
    }
    Ok(0)
}
