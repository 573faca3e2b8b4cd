//! The real program from end to end: odd repositories, odd machines, odd input. Only the model is written by hand.

mod commands;
mod contents;
mod demo;
mod egress;
mod guardrail;
mod input;
mod mcp;
mod operate;
mod place;
mod repositories;
mod states;
mod web;
