//! The demo, as a new user runs it.

use std::path::PathBuf;
use std::process::Command;

use super::place::{ABCA, Place, Ran, is_root};

/// The demo builds with cargo, so it runs with the home in which the toolchain is; the state folder is the test's.
fn home() -> PathBuf {
    std::env::home_dir().unwrap()
}

fn demo(place: &Place, args: &[&str]) -> Ran {
    let mut command = place.abca();
    command.arg("demo").args(args).env("HOME", home());
    toolchain(&mut command);
    command.output().unwrap().into()
}

/// Where this machine keeps its toolchain, if not in the home.
fn toolchain(command: &mut Command) {
    for name in ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

#[test]
fn it_works_twice_in_a_row_for_people_and_for_programs() {
    let place = Place::new();
    let first = demo(&place, &[]);
    first.prints(0, &["COMPLETED", "Pull request #1", "cargo test --quiet", "FAILED \u{2192} passed", "Where the"]);
    assert!(first.stderr.contains("The model is a recording; everything else is real"), "{first:#?}");

    let second = demo(&place, &["--output", "json"]);
    let json = second.ends(0).json();
    assert_eq!(second.stderr, "");
    assert_eq!(json["outcome"]["status"], "COMPLETED");
    assert_eq!(json["pull_request"]["number"], 1, "a sample of its own");
    assert_eq!(place.tasks(), 2);
}

#[test]
fn it_works_where_the_home_cannot_be_written_but_for_the_state_folder() {
    if !is_root("it_works_where_the_home_cannot_be_written_but_for_the_state_folder") {
        return;
    }
    let place = Place::new();
    let script = r#"
        mkdir -p "$STATE" && mount --bind "$HOME" "$HOME" && mount -o remount,ro,bind "$HOME" || exit 99
        if touch "$HOME/.abca-test" 2>/dev/null; then exit 98; fi
        exec "$ABCA" --state "$STATE" demo --output json
    "#;
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "170", "unshare", "--mount", "sh", "-c", script]);
    place.calm(&mut command);
    command.env("HOME", home()).env("STATE", place.state()).env("ABCA", ABCA);
    toolchain(&mut command);
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.ends(0).json()["outcome"]["status"], "COMPLETED");
}
