//! Trajectories: record any model, and play a recording back where a real model was.
//!
//! A trajectory is a file of JSON lines. The first says what it is; each further one is a step, the answer to one
//! call. A step is either recorded, with a fingerprint of what was asked, or written by hand:
//!
//! ```json
//! {"abca_trajectory": 1, "match": "normalised"}
//! {"say": "I look at the tests.", "calls": [{"name": "Bash", "input": {"command": "cargo test"}}]}
//! {"expect": ["1 failed"], "calls": [{"name": "Edit", "input": {"file_path": "src/lib.rs", "old_string": "-", "new_string": "+"}}]}
//! {"say": "Fixed."}
//! ```
//!
//! By hand, a step has `say` (the text), `calls` (`name`, `input`, and an `id` if you must), `expect` (texts that
//! the newest user message must hold, tool results included), `stop` and `usage`. All may be missing, but not all
//! of them. `//` begins a comment line.
//!
//! Whether a conversation still fits a recorded step is judged by the header's `match`:
//!
//! | `match` | compared |
//! | --- | --- |
//! | `shape` | the assistant's messages (tool names and ids), and what kinds of parts the newest user message has |
//! | `normalised` | also its texts, the system prompt and the names of the tools, with volatile parts masked: ids (ULID, UUID), hashes of 7 to 40 hex digits, paths below home and temporary folders, times, durations, process ids |
//! | `strict` | the same without masks, and the tools' schemas |
//!
//! A recording holds the conversation's answers and excerpts of its prompts. Treat it as you treat the repository.

mod fingerprint;
mod player;
mod recorder;
mod trajectory;

pub use player::Replay;
pub use recorder::Recorder;
pub use trajectory::Match;
