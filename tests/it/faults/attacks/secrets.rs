//! Secrets that come near: encoded, in pieces, in names, messages and diffs.

use serde_json::json;

use super::super::server::{Ask, Model, text, tools};
use super::super::world::{KEY, Place, named};

/// The platform's own key lies in the repository, as after a leak: in no form does it reach the model or the log.
#[tokio::test]
async fn the_platforms_key_is_withheld_in_every_form() {
    let show = "base64 -w0 key; echo; base64 -w20 key; xxd -p -c 300 key; xxd -p -c 300 key | tr a-f A-F; \
                python3 -c 'import urllib.parse,sys; print(urllib.parse.quote(open(\"key\").read()))'; \
                python3 -c 'print(\"\".join(\"%%%02x\" % b for b in open(\"key\",\"rb\").read()))'; \
                (printf pad; cat key) | base64 -w0; echo; (printf p; cat key) | base64 -w0; echo; \
                head -c 20 key; sleep 0.2; tail -c +21 key; echo; printf '\\033[1m'; cat key; printf '\\033[0m\\n'";
    let model = Model::start(|ask: &Ask| match ask.turn {
        0 => tools(
            0,
            &[
                ("Bash", json!({"command": "bash show.sh; echo one >> ran.log"})),
                ("Read", json!({"file_path": "key"})),
                ("Grep", json!({"pattern": "sk-ant", "output_mode": "content"})),
            ],
        ),
        _ => text(&format!("Done. The key is {KEY}.")),
    });
    let mut place = Place::with(&model, &[("key", KEY), ("show.sh", show)]).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    let outcome = place.end(&task).await;
    let seen = model.asks()[1].text();
    let all = format!("{seen}{}", place.record_of(&task).await);
    let hex: String = KEY.bytes().map(|b| format!("{b:02x}")).collect();
    for form in [KEY.to_owned(), KEY[7..].to_owned(), hex.to_uppercase(), hex] {
        assert!(!all.contains(&form), "{form}\n{seen}");
    }
    for shift in ["", "p", "pa", "pad"] {
        let encoded = base64(format!("{shift}{KEY}").as_bytes());
        // Without its ends, which what stands around it changes.
        let middle = &encoded[8..encoded.len() - 8];
        assert!(!all.contains(middle), "{shift:?} {middle}\n{seen}");
    }
    assert!(seen.matches("[REDACTED-").count() >= 10, "{seen}");
    assert!(!serde_json::to_string(&outcome).unwrap().contains(KEY));
    assert!(!serde_json::to_string(&place.pull_requests().await).unwrap().contains(KEY), "in a pull request");
}

/// What is to be pushed is read: a known key in a file, in a message, in a name of a file.
#[tokio::test]
async fn a_key_is_not_pushed() {
    for (what, command) in [
        ("a file", "cp key copied.txt; git add -A; git commit -qm 'fix: it'"),
        ("a message", "echo x >> ran.log; git add ran.log; git commit -qm \"fix: $(cat key)\""),
        ("an encoding", "base64 -w0 key > data.txt; git add -A; git commit -qm 'fix: it'"),
        (
            "a commit that is undone",
            "cp key c.txt; git add -A; git commit -qm a; git rm -q c.txt; git commit -qm b; echo x >> ran.log",
        ),
    ] {
        let script = format!("printf %s '{KEY}' > key; echo key >> .git/info/exclude; {command}");
        let model = Model::start(|ask: &Ask| match ask.turn {
            0 => tools(0, &[("Bash", json!({"command": "bash .attack/a.sh"}))]),
            _ => text("Done."),
        });
        let mut place = Place::with(
            &model,
            &[(".attack/a.sh", &script.replace(KEY, "$(cat .attack/half1 .attack/half2)").replace('\'', "\""))],
        )
        .await;
        // In two halves, so that the repository itself is clean.
        for (name, half) in [("half1", &KEY[..20]), ("half2", &KEY[20..])] {
            std::fs::write(place.repo().join(".attack").join(name), half).unwrap();
        }
        place.git(&["add", "-A"]);
        place.git(&["commit", "-qm", "halves"]);
        place.start_worker();
        let task = place.submit(&[]).await;
        let outcome = place.end(&task).await;
        assert_ne!(outcome.status, abca::TaskStatus::Completed, "{what}: {}", place.story(&task).await);
        assert!(place.pull_requests().await.is_empty(), "{what}");
        let events = place.events(&task).await;
        let denied = events.iter().any(|e| named(e, "policy_decision") && e.metadata["outcome"] == "denied");
        assert!(denied, "{what}: {}", place.story(&task).await);
        let refs = place.git(&["for-each-ref", "--format=%(refname)"]);
        let pushed: Vec<&str> = refs.lines().filter(|r| r.starts_with("refs/heads/bgagent")).collect();
        assert_eq!(pushed, Vec::<&str>::new(), "{what}");
        assert!(!place.record_of(&task).await.contains(KEY), "{what}");
    }
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let n = chunk.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        (0..4)
            .map(|i| if i <= chunk.len() { SIGNS[(n >> (18 - 6 * i) & 63) as usize] as char } else { '=' })
            .collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}
