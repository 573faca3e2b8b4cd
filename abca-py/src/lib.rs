//! Python bindings of abca. Nothing is here yet: `docs/status.md` says what is to come.
