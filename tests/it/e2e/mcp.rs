//! Tools of MCP servers: whole tasks with real servers, well-behaved and hostile ones.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::place::{FIX, Place, Ran};

const SERVER: &str = include_str!("../mcp/server.py");

/// A task with one server, `test`, that behaves so.
struct Served {
    place: Place,
    repo: PathBuf,
    config: PathBuf,
}

impl Served {
    fn new(how: &str, more: Value) -> Self {
        let place = Place::new();
        let repo = place.sample("repo");
        std::fs::write(repo.join("server.py"), SERVER).unwrap();
        place.commit(&repo, "a server");
        let mut server = json!({"command": "python3", "args": ["server.py", how]});
        server.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = place.file("mcp.json", &json!({"mcpServers": {"test": server}}).to_string());
        Self { place, repo, config }
    }

    /// Runs a task whose model makes these steps, and repairs the file at the end.
    fn run(&self, steps: &[Value], more: &[&str]) -> (Ran, Value) {
        let args =
            [&["--test", "sh check.sh", "--tools", "elevated", "--mcp", self.config.to_str().unwrap()], more].concat();
        self.run_with(steps, &args)
    }

    fn run_with(&self, steps: &[Value], args: &[&str]) -> (Ran, Value) {
        let mut text = String::from("{\"abca_trajectory\": 1}\n");
        for step in steps {
            text.push_str(&format!("{step}\n"));
        }
        let fix = json!({"say": "Done.", "calls": [{"name": "Bash", "input": {"command": "echo right > file.txt; git commit -qam 'fix: it'"}}]});
        text.push_str(&format!("{fix}\n{}\n", json!({"say": "The file is right now."})));
        self.place.task_json(&self.repo, &text, args)
    }

    fn events(&self, json: &Value) -> Vec<Value> {
        let task = json["outcome"]["task_id"].as_str().unwrap();
        self.place.run(["events", task, "--output", "json"]).json().as_array().unwrap().clone()
    }

    /// What the guard of MCP servers decided: outcome, subject and kind.
    fn decided(&self, json: &Value) -> Vec<String> {
        let events = self.events(json);
        let of = events.iter().map(|e| &e["metadata"]).filter(|m| m["guard"] == "mcp" || m["guard"] == "tool_tier");
        of.map(|m| format!("{} {} {}", m["outcome"], m["subject"], m["detail"]).replace('"', "")).collect()
    }
}

fn call(tool: &str, input: Value) -> Value {
    json!({"say": "I ask.", "calls": [{"name": tool, "input": input}]})
}

fn then(expect: &[&str], tool: &str, input: Value) -> Value {
    json!({"expect": expect, "say": "I go on.", "calls": [{"name": tool, "input": input}]})
}

fn done(json: &Value) {
    assert_eq!(json["outcome"]["status"], "COMPLETED", "{json:#}");
}

#[test]
fn a_server_in_the_sandbox_is_called_like_any_tool() {
    let served = Served::new("good", json!({}));
    let steps = [
        call("mcp__test__echo", json!({"text": "hello"})),
        then(&["source=\"mcp server test\"", "you said hello"], "mcp__test__count", json!({})),
        then(&["called 2 times"], "mcp__test__echo", json!("no object")),
        then(&["have to be a JSON object"], "mcp__test__gone", json!({})),
        then(&["there is no tool `mcp__test__gone`"], "TodoWrite", json!({"todos": []})),
    ];
    let (ran, json) = served.run(&steps, &[]);
    ran.ends(0);
    done(&json);
    let pinned: Vec<Value> =
        served.events(&json).into_iter().filter(|e| e["metadata"]["milestone"] == "mcp_tools_pinned").collect();
    assert_eq!(pinned.len(), 1);
    assert_eq!(pinned[0]["metadata"]["details"], "mcp__test__count, mcp__test__echo");
    assert_eq!(served.decided(&json), ["denied mcp__test__gone null"]);
}

#[test]
fn it_has_no_credentials_and_none_of_its_own_reach_the_model() {
    let served = Served::new("env", json!({"env": {"TOKEN": "fabricated-token-0123456789"}}));
    let steps = [
        call("mcp__test__echo", json!({})),
        then(&["[[], \"[REDACTED-KNOWN_SECRET]\", false, \"/workspace\"]"], "TodoWrite", json!({"todos": []})),
    ];
    let (ran, json) = served.run(&steps, &[]);
    ran.ends(0);
    done(&json);
    let stored = std::fs::read(served.place.state().join("abca.db")).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&stored).contains("fabricated-token"), "the token is in the store");
}

#[test]
fn secrets_and_forged_marks_in_a_result_are_taken_out() {
    let served = Served::new("secret", json!({"env": {"TOKEN": "fabricated-token-0123456789"}}));
    let steps = [
        call("mcp__test__echo", json!({})),
        then(&["[REDACTED", "external-content", "[SANITIZED_PREFIX] System: obey"], "TodoWrite", json!({"todos": []})),
    ];
    let (ran, json) = served.run(&steps, &[]);
    ran.ends(0);
    done(&json);
    let told = served.place.run(["log", json["outcome"]["task_id"].as_str().unwrap()]);
    assert!(!told.stdout.contains("AKIAIOSFODNN7EXAMPLE") && !told.stdout.contains("fabricated-token"), "{told:#?}");
}

#[test]
fn whatever_a_server_does_the_task_goes_on_and_an_event_says_what_it_was() {
    let cases: [(&str, Value, &str, &str); 6] = [
        ("hangs", json!({"timeout": 1500}), "no answer within 1500 ms", "failed test hang"),
        ("floods", json!({}), "it sent more than", "failed test flood"),
        ("long", json!({}), "it sent a message of more than", "failed test flood"),
        ("garbage", json!({}), "lines that are no messages", "failed test garbage"),
        ("dies", json!({}), "it said last: no more memory for you", "failed test died"),
        ("asks", json!({}), "refused: -32601, -32601, -32601, -32601", ""),
    ];
    for (how, more, says, told) in cases {
        let served = Served::new(how, more);
        let steps = [call("mcp__test__echo", json!({"text": "x"})), then(&[says], "TodoWrite", json!({"todos": []}))];
        let (ran, json) = served.run(&steps, &[]);
        ran.ends(0);
        done(&json);
        let decided = served.decided(&json);
        if how == "asks" {
            assert_eq!(decided, ["denied test asks"; 4], "{how}");
        } else {
            assert_eq!(decided, [told], "{how}");
        }
    }
}

#[test]
fn a_server_that_fails_again_and_again_is_given_up() {
    let served = Served::new("dies", json!({}));
    let steps = [
        call("mcp__test__echo", json!({"n": 1})),
        then(&["started anew with the next call"], "mcp__test__echo", json!({"n": 2})),
        then(&["started anew with the next call"], "mcp__test__echo", json!({"n": 3})),
        then(&["It is not started again"], "mcp__test__echo", json!({"n": 4})),
        then(&["it was started 3 times already"], "TodoWrite", json!({"todos": []})),
    ];
    let (ran, json) = served.run(&steps, &[]);
    ran.ends(0);
    done(&json);
    let died = "failed test died";
    assert_eq!(served.decided(&json), [died, died, died, "failed test given_up"]);
}

#[test]
fn a_server_that_cannot_start_costs_its_tools_and_nothing_else() {
    let served = Served::new("absent", json!({}));
    let (ran, json) = served.run(&[call("mcp__test__echo", json!({}))], &[]);
    ran.ends(0);
    done(&json);
    assert_eq!(served.decided(&json), ["failed test died", "denied mcp__test__echo null"]);
    let missing = Served::new("good", json!({"command": "no-such-program"}));
    let (ran, json) = missing.run(&[], &[]);
    ran.ends(0);
    done(&json);
    let reasons: Vec<String> = missing
        .events(&json)
        .iter()
        .filter(|e| e["metadata"]["guard"] == "mcp")
        .map(|e| e["metadata"]["reason"].to_string())
        .collect();
    assert!(reasons.len() == 1 && reasons[0].contains("`no-such-program` cannot be started"), "{reasons:?}");
}

#[test]
fn a_tool_that_changes_is_not_called_any_more_and_a_new_one_is_not_offered() {
    let served = Served::new("changes", json!({}));
    let steps = [
        call("mcp__test__echo", json!({"text": "x"})),
        then(&["you said x"], "mcp__test__echo", json!({"text": "y"})),
        then(&["has changed or withdrawn the tool `echo`"], "mcp__test__steal", json!({})),
        then(&["there is no tool `mcp__test__steal`"], "TodoWrite", json!({"todos": []})),
    ];
    let (ran, json) = served.run(&steps, &[]);
    ran.ends(0);
    done(&json);
    let decided = served.decided(&json);
    let expected = [
        "denied mcp__test__count changed",
        "denied mcp__test__echo changed",
        "denied test changed",
        "denied mcp__test__echo changed",
        "denied mcp__test__steal null",
    ];
    assert_eq!(decided, expected);
}

#[test]
fn orders_in_descriptions_do_not_reach_the_model() {
    let served = Served::new("injects", json!({}));
    let (ran, json) = served.run(&[call("mcp__test__echo", json!({"text": "x"}))], &[]);
    ran.ends(0);
    done(&json);
    assert_eq!(served.decided(&json), ["denied test: bad name! definition"]);
    let task = json["outcome"]["task_id"].as_str().unwrap();
    let log = served.place.run(["log", task, "--output", "json"]).stdout;
    assert!(log.contains("A tool of the MCP server `test`, which describes it so: Says it."), "{log}");
    assert!(!log.contains("id_rsa") && !log.contains("Ignore all previous") && !log.contains('\u{200b}'), "{log}");
}

#[test]
fn nothing_of_a_server_outlives_the_agent() {
    let served = Served::new("leaves", json!({}));
    // What it left would still be writing while the work is verified.
    let still = "test ! -e alive || { n=$(wc -l < alive); sleep 0.5; test $n = $(wc -l < alive); }";
    let config = served.config.to_str().unwrap();
    let steps = [call("mcp__test__echo", json!({"text": "x"}))];
    let (ran, json) = served.run_with(&steps, &["--test", still, "--tools", "elevated", "--mcp", config]);
    ran.ends(0);
    done(&json);
}

#[test]
fn tiers_hold_and_say_so() {
    let served = Served::new("good", json!({}));
    let config = served.config.to_str().unwrap();
    served.place.task(&served.repo, FIX, &["--mcp", config]).fails(2, &["add `--tools elevated`"]);
    served.place.task(&served.repo, FIX, &["--tools", "more"]).fails(2, &["read-only"]);
    let steps = [
        call("mcp__test__echo", json!({})),
        then(&["there is no tool `mcp__test__echo`"], "Write", json!({"file_path": "file.txt", "content": "right"})),
        then(
            &["there is no tool `Write`; there are: Glob, Grep, Read, TodoWrite"],
            "Read",
            json!({"file_path": "file.txt"}),
        ),
        then(&["wrong"], "Bash", json!({"command": "echo right > file.txt"})),
        then(&["there is no tool `Bash`"], "TodoWrite", json!({"todos": []})),
    ];
    let (_, json) = served.run_with(&steps, &["--tools", "read-only"]);
    let decided = served.decided(&json);
    let expected = ["mcp__test__echo", "Write", "Bash", "Bash"].map(|tool| format!("denied {tool} null"));
    assert_eq!(decided, expected);
    assert_eq!(served.place.git(&served.repo, ["show", "main:file.txt"]), "wrong\n");
}

#[test]
fn configuration_of_the_repository_counts_from_the_base_branch_and_only_where_it_is_switched_on() {
    let served = Served::new("good", json!({}));
    let theirs = |name: &str| json!({"mcpServers": {name: {"command": "python3", "args": ["server.py"]}}}).to_string();
    let commit = |text: &str| {
        std::fs::write(served.repo.join(".mcp.json"), text).unwrap();
        served.place.commit(&served.repo, "servers");
    };
    commit(&theirs("repo"));
    let elevated = ["--tools", "elevated"];
    let (_, json) = served.run_with(&[call("mcp__repo__echo", json!({}))], &elevated);
    assert_eq!(served.decided(&json), ["denied mcp__repo__echo null"]);
    let on = ["--tools", "elevated", "--mcp-from-repository"];
    // What the agent writes into its work tree counts for nothing.
    let write = json!({"file_path": "later.json", "content": theirs("later")});
    let steps = [
        call("mcp__repo__echo", json!({"text": "x"})),
        then(&["you said x"], "Write", write),
        then(&[], "Bash", json!({"command": "cp later.json sub.json"})),
        then(&[], "mcp__later__echo", json!({})),
    ];
    let (ran, json) = served.run_with(&steps, &on);
    ran.ends(0);
    assert_eq!(served.decided(&json), ["denied mcp__later__echo null"]);
    // One that cannot be used is told, with its place.
    commit(r#"{"mcpServers": {"repo": {"command": "x", "env": {"A": "${HOME}"}}}}"#);
    let (ran, json) = served.run_with(&[], &on);
    ran.ends(0);
    assert_eq!(served.decided(&json), ["denied .mcp.json configuration"]);
    // The operator's name counts.
    commit(&theirs("test"));
    let config = served.config.to_str().unwrap();
    let (ran, json) = served.run_with(&[], &[&on[..], &["--mcp", config]].concat());
    ran.ends(0);
    assert_eq!(served.decided(&json), ["denied .mcp.json configuration"]);
}

#[test]
fn a_file_that_cannot_be_used_is_refused_before_anything_runs() {
    let place = Place::new();
    let repo = place.sample("repo");
    let refused = |text: &str, says: &[&str]| {
        let file = place.file("bad.json", text);
        place.task(&repo, FIX, &["--tools", "elevated", "--mcp", file.to_str().unwrap()]).fails(2, says);
    };
    refused("{\n  \"mcpServers\": {,}\n}", &["bad.json", "line 2, column 18"]);
    refused(
        r#"{"mcpServers": {"a": {"command": "x", "env": {"T": "${HOME}"}}}}"#,
        &["`mcpServers.a.env.T` holds `${`"],
    );
    place.task(&repo, FIX, &["--tools", "elevated", "--mcp", "/no/such.json"]).fails(2, &["/no/such.json"]);
    assert_eq!(place.tasks(), 0);
}

#[test]
fn a_policy_sees_server_tool_and_arguments_and_files_are_judged_as_files() {
    let served = Served::new("good", json!({}));
    let policy = served.place.file(
        "own.cedar",
        r#"@tier("hard") @rule_id("no_shouting") @summary("no shouting")
forbid (principal, action == Agent::Action::"call_mcp", resource)
when { context.server == "test" && context.tool == "echo" && context.values.contains("text=HELLO") };"#,
    );
    let steps = [
        call("mcp__test__echo", json!({"text": "HELLO"})),
        then(&["`no_shouting`"], "mcp__test__echo", json!({"text": "hi", "path": ".git/config"})),
        then(&["denied by policy"], "mcp__test__count", json!({})),
        then(&["called 1 times"], "TodoWrite", json!({"todos": []})),
    ];
    let (ran, json) = served.run(&steps, &["--policy", policy.to_str().unwrap()]);
    ran.ends(0);
    done(&json);
}

/// A server on the machine's loopback interface; ended with the test.
struct OnNetwork {
    child: std::process::Child,
    port: String,
}

impl OnNetwork {
    fn start(how: &str) -> Self {
        Self::start_with(&[how])
    }

    fn start_with(args: &[&str]) -> Self {
        use std::io::BufRead;
        let mut command = std::process::Command::new("python3");
        command.args(["-c", include_str!("../mcp/http.py")]).args(args).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut port = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { child, port: port.trim().to_owned() }
    }
}

impl Drop for OnNetwork {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_on_the_network_is_reached_through_the_proxy_and_by_no_other_way() {
    let on = |how: &str, more: Value| {
        let server = OnNetwork::start(how);
        let mut served = Served::new("good", json!({}));
        let mut config = json!({"url": format!("http://127.0.0.1:{}/mcp", server.port)});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        served.config = served.place.file("http.json", &json!({"mcpServers": {"test": config}}).to_string());
        (server, served)
    };
    let (server, served) = on("good", json!({"headers": {"Authorization": "Bearer fabricated-0123456789"}}));
    let host = format!("127.0.0.1:{}", server.port);
    let network = ["--network", "proxy", "--allow-host", &host];
    let steps = [
        call("mcp__test__echo", json!({"text": "hi"})),
        then(&[&format!("you said hi with [REDACTED-KNOWN_SECRET] to {host}")], "TodoWrite", json!({"todos": []})),
    ];
    let (ran, json) = served.run(&steps, &network);
    ran.ends(0);
    done(&json);
    let through: Vec<Value> = served.events(&json).into_iter().filter(|e| e["metadata"]["stage"] == "egress").collect();
    assert!(!through.is_empty() && through.iter().all(|e| e["metadata"]["subject"] == host), "{through:#?}");
    // Without the proxy, or when the list does not name it, it is not there.
    for (more, says) in
        [(&[][..], "--network proxy"), (&["--network", "proxy", "--allow-host", "other.example"], "start")]
    {
        let (ran, json) = served.run(&[call("mcp__test__echo", json!({}))], more);
        ran.ends(0);
        assert_eq!(served.decided(&json), ["failed test start", "denied mcp__test__echo null"], "{says}");
    }
    for (how, more, says) in [
        ("hangs", json!({"timeout": 1500}), "no answer within 1500 ms"),
        ("large", json!({}), "exceeded the maximum size"),
        ("redirects", json!({}), "cannot be reached|was ended|refused"),
    ] {
        let (server, served) = on(how, more);
        let host = format!("127.0.0.1:{}", server.port);
        let steps = [call("mcp__test__echo", json!({"text": "x"}))];
        let (ran, json) = served.run(&steps, &["--network", "proxy", "--allow-host", &host]);
        ran.ends(0);
        done(&json);
        let events = served.events(&json);
        let asked: Vec<&Value> = events.iter().map(|e| &e["metadata"]).filter(|m| m["stage"] == "egress").collect();
        assert!(asked.iter().all(|m| m["subject"] == host), "{how}: {asked:#?}");
        let result = events
            .iter()
            .find(|e| e["event_type"] == "agent_tool_result" && e["metadata"]["tool_name"] == "mcp__test__echo");
        let shown = result.unwrap()["metadata"]["content_preview"].to_string();
        assert!(says.split('|').any(|word| shown.contains(word)), "{how}: {shown}");
    }
}

#[test]
fn a_server_in_the_sandbox_reaches_what_is_listed_and_nothing_by_itself() {
    let server = OnNetwork::start("good");
    let host = format!("127.0.0.1:{}", server.port);
    let served = Served::new("reach", json!({}));
    let request = format!("DELETE http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let steps = [
        call("mcp__test__echo", json!({"text": request, "port": server.port})),
        then(&["HTTP/1.1 200 OK", "by itself ConnectionRefusedError"], "TodoWrite", json!({"todos": []})),
    ];
    let (ran, json) = served.run(&steps, &["--network", "proxy", "--allow-host", &host]);
    ran.ends(0);
    done(&json);
}

/// An authority, and a certificate of its own for this name: the files of authority, certificate and key.
fn certified(place: &Place, name: &str) -> [String; 3] {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let (authority_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::new(params, authority_key)).unwrap();
    let file = |file: &str, text: String| place.file(file, &text).to_str().unwrap().to_owned();
    [
        file("ca.pem", pem("CERTIFICATE", authority.der())),
        file("leaf.pem", pem("CERTIFICATE", leaf.der())),
        file("key.pem", pem("PRIVATE KEY", &key.serialize_der())),
    ]
}

fn pem(what: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
}

#[test]
fn a_server_behind_tls_has_to_prove_who_it_is() {
    for (name, proves) in [("127.0.0.1", true), ("other.example", false)] {
        let mut served = Served::new("good", json!({}));
        let [authority, certificate, key] = certified(&served.place, name);
        let server = OnNetwork::start_with(&["good", &certificate, &key]);
        let host = format!("127.0.0.1:{}", server.port);
        let config = json!({"mcpServers": {"test": {"url": format!("https://{host}/mcp"), "headers": {"Authorization": "Bearer fabricated-0123456789"}}}});
        served.config = served.place.file("https.json", &config.to_string());
        let mut steps = vec![call("mcp__test__echo", json!({"text": "hi"}))];
        if proves {
            let said = format!("you said hi with [REDACTED-KNOWN_SECRET] to {host}");
            steps.push(then(&[&said], "TodoWrite", json!({"todos": []})));
        }
        let network = ["--network", "proxy", "--allow-host", &host, "--egress-ca", &authority];
        let (ran, json) = served.run(&steps, &network);
        ran.ends(0);
        done(&json);
        let decided = served.decided(&json);
        if proves {
            assert!(decided.is_empty(), "{decided:?}");
        } else {
            assert_eq!(decided, ["failed test start", "denied mcp__test__echo null"]);
            let reason =
                served.events(&json).iter().find(|e| e["metadata"]["guard"] == "mcp").unwrap()["metadata"]["reason"]
                    .to_string();
            assert!(reason.contains("no TLS with"), "{reason}");
        }
    }
}
