//! Links, races and git's own doors: nothing outside the work tree changes, nothing of the agent's runs in the brain.

use serde_json::json;

use super::super::server::{Ask, Model, text, tools};
use super::super::world::Place;

/// A folder is swapped for a link to the outside while a tool writes into it, over and over.
#[tokio::test]
async fn a_race_of_links_writes_nothing_outside() {
    let race = "mkdir -p real; while test ! -e stop; do ln -sfn OUTSIDE d; ln -sfn real d; rm -f d; done";
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => tools(0, &[("Bash", json!({"command": "bash race.sh", "run_in_background": true}))]),
        turn @ 1..=6 => {
            let write = |n: usize| ("Write", json!({"file_path": format!("d/evil-{turn}-{n}"), "content": "evil"}));
            tools(turn, &(0..8).map(write).collect::<Vec<_>>())
        }
        7 => tools(7, &[("Bash", json!({"command": "touch stop; echo one >> ran.log"}))]),
        _ => text("Done."),
    });
    let outside = tempfile::tempdir().unwrap();
    let script = race.replace("OUTSIDE", outside.path().to_str().unwrap());
    let mut place = Place::with(&model, &[("race.sh", &script), (".gitignore", "stop\nd\nreal\n")]).await;
    place.start_worker();
    let task = place.submit(&["--breaker", "off"]).await;
    // Delivered, or stuck on writes that failed.
    place.end(&task).await;
    let strays: Vec<_> = std::fs::read_dir(outside.path()).unwrap().flatten().collect();
    assert!(strays.is_empty(), "{strays:?}");
}

/// Hard links and links to what the brain keeps: not there, or not writable.
#[tokio::test]
async fn links_to_the_platforms_files_lead_nowhere() {
    let script = "ln /etc/passwd hard 2>&1 && echo x >> hard && echo LINKED; \
                  for f in STATE/abca.db STATE/link/link.secret STATE/abca-state HOME/.netrc; do \
                  ln -sfn $f l; cat l > /dev/null 2>&1 && echo READ $f; (echo x >> l) 2>/dev/null && echo WROTE $f; rm -f l; done; \
                  ls STATE 2>/dev/null && echo LISTED; ls -la /proc/self/fd | grep -c STATE; true";
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => tools(0, &[("Bash", json!({"command": "bash links.sh > seen.txt 2>&1; echo one >> ran.log"}))]),
        _ => text("Done."),
    });
    let mut place = Place::new(&model).await;
    let home = place.state().with_file_name("home");
    std::fs::write(home.join(".netrc"), "machine x password y").unwrap();
    let script = script.replace("STATE", place.state().to_str().unwrap()).replace("HOME", home.to_str().unwrap());
    std::fs::write(place.repo().join("links.sh"), script).unwrap();
    place.git(&["add", "-A"]);
    place.git(&["commit", "-qm", "links"]);
    let before = std::fs::read("/etc/passwd").unwrap();
    place.start_worker();
    let task = place.submit(&[]).await;
    let outcome = place.delivered(&task).await;
    let seen = place.on_branch(&outcome, "seen.txt");
    for wrong in ["LINKED", "READ", "WROTE", "LISTED"] {
        assert!(!seen.contains(wrong), "{seen}");
    }
    assert_eq!(std::fs::read("/etc/passwd").unwrap(), before);
}

/// Every way in which git runs a program, set up by a script: whatever runs, runs in the hands, and the work is delivered.
#[tokio::test]
async fn what_git_would_run_runs_in_no_place_but_the_hands() {
    let arm = "mkdir -p .git/hooks; printf '#!/bin/sh\\n/bin/touch OUTSIDE/pwned-$(basename $0)\\n' > /tmp/evil; chmod +x /tmp/evil; \
               for h in pre-commit post-commit pre-push post-checkout reference-transaction pre-receive update post-update \
               post-receive fsmonitor-watchman push-to-checkout pre-auto-gc post-index-change; do cp /tmp/evil .git/hooks/$h; done; cp /tmp/evil evil.sh; \
               for k in core.fsmonitor core.sshCommand core.editor core.pager core.gitProxy diff.external uploadpack.packObjectsHook \
               filter.x.clean filter.x.smudge filter.x.process merge.x.driver credential.helper gpg.program sequence.editor; do \
               git config $k $PWD/evil.sh; done; git config commit.gpgSign true; git config core.alternateRefsCommand $PWD/evil.sh; \
               echo '* filter=x diff=x merge=x' > .gitattributes; git config remote.origin.uploadpack $PWD/evil.sh; \
               git config remote.origin.url 'ext::sh -c touch% OUTSIDE/pwned-ext'; git config include.path $PWD/more; \
               printf '[core]\\n\\tsshCommand = OUTSIDE\\n' > more; printf '[submodule \"s\"]\\n\\tpath = s\\n\\turl = ext::sh\\n' > .gitmodules; \
               echo one >> ran.log";
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => tools(0, &[("Bash", json!({"command": "bash arm.sh"}))]),
        _ => text("Done."),
    });
    let outside = tempfile::tempdir().unwrap();
    let script = arm.replace("OUTSIDE", outside.path().to_str().unwrap());
    let mut place = Place::with(&model, &[("arm.sh", &script)]).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    let outcome = place.end(&task).await;
    let strays: Vec<_> = std::fs::read_dir(outside.path()).unwrap().flatten().collect();
    assert!(strays.is_empty(), "{strays:?}\n{}", place.story(&task).await);
    assert!(outcome.status.is_terminal());
    // The repository that was submitted has none of it.
    let config = std::fs::read_to_string(place.repo().join(".git/config")).unwrap();
    assert!(!config.contains("evil"), "{config}");
}
