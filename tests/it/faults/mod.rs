//! Whole lives of the real program against a scripted model server, with everything going wrong that can.

mod answers;
mod attacks;
mod budget;
mod cancelled;
mod forge_gone;
mod gates;
mod in_the_way;
mod lives;
mod server;
mod servers;
mod session_killed;
mod settings;
mod setup;
mod words;
mod worker_killed;
mod world;
