//! Tests of abca-compute as its users see it. The test program is also the session program and what runs inside the
//! walls: it is executed again for both.

#![cfg(target_os = "linux")]

mod inside;
mod strategies;
mod walls;

/// Before the test harness's own `main`, as a user's program calls it first in theirs.
extern "C" fn before_main() {
    abca_compute::init();
    inside::run_if_asked();
    strategies::become_session_if_asked();
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = before_main;
