//! File tools: what they do, and what they refuse.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use abca::session::hands::{ExecRequest, FileKind};
use abca::session::tools::MAX_RESULT_CHARS;
use abca_core::model::Content;
use serde_json::json;

use super::{Scene, call, said};

#[tokio::test]
async fn read_numbers_lines_and_pages() {
    let scene = Scene::new();
    let client = scene.client().await;
    scene.file("crlf.txt", "\u{feff}one\r\ntwo\r\n\r\nfour");
    let whole = said(&client, "Read", json!({"file_path": "crlf.txt"})).await;
    assert_eq!(whole, "     1\tone\n     2\ttwo\n     3\t\n     4\tfour\n");
    let some = said(&client, "Read", json!({"file_path": "crlf.txt", "offset": 2, "limit": 1})).await;
    assert_eq!(some, "     2\ttwo\n[1 lines shown; there are more: go on with offset 3]\n");
    let none = said(&client, "Read", json!({"file_path": "crlf.txt", "offset": 9})).await;
    assert_eq!(none, "[`crlf.txt` has 4 lines; there is no line 9]");
    scene.file("empty", "");
    assert_eq!(said(&client, "Read", json!({"file_path": "empty"})).await, "[`empty` is empty]");
    scene.file("wide", "ü".repeat(5_000) + "\nx\n");
    let wide = said(&client, "Read", json!({"file_path": "wide"})).await;
    assert_eq!(
        wide,
        format!(
            "     1\t{} [... line cut]\n     2\tx\n[1 lines are longer than 2000 characters and were cut]\n",
            "ü".repeat(2_000)
        )
    );
    scene.file("latin1", b"caf\xe9\n");
    let latin = said(&client, "Read", json!({"file_path": "latin1"})).await;
    assert_eq!(latin, "     1\tcaf\u{fffd}\n[not all of it is UTF-8; other bytes are shown as U+FFFD]\n");
    scene.file("long", "0123456789\n".repeat(10_000));
    let long = said(&client, "Read", json!({"file_path": "long"})).await;
    assert!(
        long.chars().count() <= MAX_RESULT_CHARS && long.ends_with("go on with offset 1634]\n"),
        "{}",
        &long[long.len() - 90..]
    );
}

#[tokio::test]
async fn read_refuses_what_is_no_text_and_never_hangs() {
    let scene = Scene::new();
    let client = scene.client().await;
    scene.file("sub/x", "");
    scene.file("a.gz", b"\x1f\x8b\x08\0\0\0\0\0");
    rustix::fs::mknodat(rustix::fs::CWD, scene.root().join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    symlink("/dev/zero", scene.root().join("zero")).unwrap();
    let table = [
        ("sub", "ERROR `sub` is a directory; use `Glob` or `ls` to see what is in it"),
        ("a.gz", "ERROR `a.gz` is a binary file (application/gzip, 8 bytes); it is not shown"),
        ("fifo", "ERROR `fifo` is no regular file but a FIFO, socket or device; it is not read"),
    ];
    for (path, want) in table {
        assert_eq!(said(&client, "Read", json!({"file_path": path})).await, want);
    }
    let zero = said(&client, "Read", json!({"file_path": "zero"})).await;
    assert!(zero.starts_with("ERROR `zero` is outside the work tree"), "{zero}");
    let gone = said(&client, "Read", json!({"file_path": "sub/X"})).await;
    assert!(gone.ends_with("did you mean `sub/x`?"), "{gone}");
}

#[tokio::test]
async fn images_come_as_images_up_to_the_limit() {
    let scene = Scene::new();
    let client = scene.client().await;
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";
    scene.file("a.png", png);
    let outcome = call(&client, "Read", json!({"file_path": "a.png"})).await;
    assert_eq!(
        outcome.content,
        [
            Content::text("[`a.png`: image/png, 29 bytes]"),
            Content::Image { media_type: "image/png".into(), data: "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAA=".into() }
        ]
    );
    scene.file("big.png", [png.as_slice(), &vec![0; 4 << 20]].concat());
    let big = said(&client, "Read", json!({"file_path": "big.png"})).await;
    assert_eq!(
        big,
        "ERROR `big.png` is an image (image/png) of 4.0 MiB, and images may have 3.8 MiB at most (5.0 MiB as base64); make it smaller first"
    );
}

#[tokio::test]
async fn a_file_of_200_mb_is_read_in_pieces() {
    let scene = Scene::new();
    let hands = scene.hands();
    let client = hands.client().await.unwrap();
    // Two million lines of 100 bytes.
    client.exec(ExecRequest::shell("yes \"$(printf %099d 7)\" | head -c 200000000 > big"), |_| {}).await.unwrap();
    let got = said(&client, "Read", json!({"file_path": "big", "offset": 1_999_999, "limit": 1})).await;
    assert_eq!(got, format!("1999999\t{:099}\n[1 lines shown; there are more: go on with offset 2000000]\n", 7));
    let status = std::fs::read_to_string(format!("/proc/{}/status", client.info().pid)).unwrap();
    let peak: u64 =
        status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap();
    assert!(peak < 64 << 10, "{peak} KiB");
    let refused = said(&client, "Edit", json!({"file_path": "big", "old_string": "7", "new_string": "8"})).await;
    assert_eq!(refused, "ERROR `big` is larger than 32.0 MiB; use a script");
}

#[tokio::test]
async fn write_is_whole_and_keeps_the_mode() {
    let scene = Scene::new();
    let client = scene.client().await;
    let made = said(&client, "Write", json!({"file_path": "a/b/c.sh", "content": "x\ny\n"})).await;
    assert_eq!(made, "[`a/b/c.sh` made: 2 lines, 4 bytes]");
    let path = scene.root().join("a/b/c.sh");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o751)).unwrap();
    let absolute = path.to_str().unwrap().to_owned();
    assert_eq!(
        said(&client, "Write", json!({"file_path": absolute, "content": ""})).await,
        "[`a/b/c.sh` written: 0 lines, 0 bytes]"
    );
    assert_eq!((scene.content("a/b/c.sh"), path.metadata().unwrap().permissions().mode() & 0o777), (Vec::new(), 0o751));
    assert_eq!(std::fs::read_dir(scene.root().join("a/b")).unwrap().count(), 1);
    symlink("a/b/c.sh", scene.root().join("link")).unwrap();
    said(&client, "Write", json!({"file_path": "link", "content": "z"})).await;
    assert!(scene.root().join("link").symlink_metadata().unwrap().is_symlink());
    assert_eq!(scene.content("a/b/c.sh"), b"z");
    assert_eq!(said(&client, "Write", json!({"file_path": "a", "content": "z"})).await, "ERROR `a` is a directory");
}

#[tokio::test]
async fn nothing_outside_is_read_or_written_and_git_is_left_alone() {
    let scene = Scene::new();
    let client = scene.client().await;
    std::fs::write(scene.dir.path().join("secret"), "s").unwrap();
    symlink("../secret", scene.root().join("out")).unwrap();
    symlink("..", scene.root().join("up")).unwrap();
    symlink("nowhere", scene.root().join("dangling")).unwrap();
    scene.file(".git/config", "[core]\n");
    symlink(".git", scene.root().join("dotgit")).unwrap();
    for path in
        ["../secret", "out", "up/secret", "/etc/passwd", "up/new", "../new", "no/../../new", "/proc/self/environ"]
    {
        for (tool, more) in [
            ("Read", json!({})),
            ("Write", json!({"content": "x"})),
            ("Edit", json!({"old_string": "s", "new_string": "t"})),
            ("Grep", json!({})),
        ] {
            let mut input = more;
            let field = if tool == "Grep" { "path" } else { "file_path" };
            input[field] = path.into();
            if tool == "Grep" {
                input["pattern"] = ".".into();
            }
            let got = said(&client, tool, input).await;
            let fits = ["is outside the work tree", "does not exist", "is not a usable path"];
            assert!(got.starts_with("ERROR ") && fits.iter().any(|f| got.contains(f)), "{tool} {path}: {got}");
        }
    }
    for path in [".git/hooks/x", ".git/config", "dotgit/config", "sub/.git/x", ".GIT/config", ".git"] {
        let got = said(&client, "Write", json!({"file_path": path, "content": "x"})).await;
        assert!(got.contains("belongs to git's own files"), "{path}: {got}");
    }
    let got = said(&client, "Write", json!({"file_path": "dangling", "content": "x"})).await;
    assert_eq!(got, "ERROR `dangling` is a symbolic link to nothing");
    assert_eq!(
        said(&client, "Write", json!({"file_path": ".gitignore", "content": "x"})).await,
        "[`.gitignore` made: 1 lines, 1 bytes]"
    );
    assert_eq!(std::fs::read(scene.dir.path().join("secret")).unwrap(), b"s");
    assert_eq!(scene.content(".git/config"), b"[core]\n");
    assert!(!scene.dir.path().join("new").exists());
    let tmp = scene.dir.path().join("tmp/note");
    let got = said(&client, "Write", json!({"file_path": tmp.to_str().unwrap(), "content": "x"})).await;
    assert!(got.contains("made"), "{got}");
}

#[tokio::test]
async fn edit_changes_one_place_and_nothing_else() {
    let scene = Scene::new();
    let client = scene.client().await;
    let edit = async |old: &str, new: &str, all: bool| {
        said(&client, "Edit", json!({"file_path": "f", "old_string": old, "new_string": new, "replace_all": all})).await
    };
    scene.file("f", b"\xef\xbb\xbfone\r\ntwo\r\n\xfftwo\r\nlast");
    assert_eq!(
        edit("one\ntwo\n", "1\n2\n3\n", false).await.lines().next(),
        Some("[`f`: 1 replacement, the first in line 1]")
    );
    assert_eq!(scene.content("f"), b"\xef\xbb\xbf1\r\n2\r\n3\r\n\xfftwo\r\nlast");
    scene.file("f", "a\n  b\na\n");
    assert_eq!(
        edit("a", "c", false).await,
        "ERROR `old_string` is in `f` 2 times (lines 1, 3), and it is not said which; add lines around it until it is unique, or set `replace_all`"
    );
    assert_eq!(
        edit("b\n  a", "c", false).await,
        "ERROR `old_string` is not in `f`; line 2 is like its first line, so look at spaces, tabs and the lines after it; read the file and copy the text exactly, without line numbers"
    );
    assert_eq!(scene.content("f"), b"a\n  b\na\n");
    assert_eq!(
        edit("a", "c", true).await,
        "[`f`: 2 replacements, the first in line 1]\n     1\tc\n     2\t  b\n     3\tc\n     4\t\n"
    );
    assert_eq!(scene.content("f"), b"c\n  b\nc\n");
    assert!(
        said(&client, "Edit", json!({"file_path": "g", "old_string": "a", "new_string": "b"}))
            .await
            .contains("does not exist")
    );
}

#[tokio::test]
async fn glob_finds_newest_first_and_shows_odd_names() {
    let scene = Scene::new();
    let client = scene.client().await;
    for (name, age) in [("src/b.rs", 20), ("src/a.rs", 20), ("src/deep/new.rs", 10), (".git/x.rs", 1), ("top.rs", 30)] {
        scene.file(name, "");
        let when = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 - age);
        std::fs::File::options().write(true).open(scene.root().join(name)).unwrap().set_modified(when).unwrap();
    }
    symlink("/etc", scene.root().join("etc")).unwrap();
    assert_eq!(
        said(&client, "Glob", json!({"pattern": "**/*.rs"})).await,
        "src/deep/new.rs\nsrc/a.rs\nsrc/b.rs\ntop.rs\n"
    );
    assert_eq!(said(&client, "Glob", json!({"pattern": "*.{rs,py}", "path": "src"})).await, "src/a.rs\nsrc/b.rs\n");
    let absolute = scene.root().canonicalize().unwrap().join("src/*.rs");
    assert_eq!(said(&client, "Glob", json!({"pattern": absolute.to_str().unwrap()})).await, "src/a.rs\nsrc/b.rs\n");
    assert_eq!(said(&client, "Glob", json!({"pattern": "etc/**"})).await, "[no files match]");
    assert!(
        said(&client, "Glob", json!({"pattern": "a[", })).await.starts_with("ERROR the pattern is not a valid glob")
    );
    std::fs::write(scene.root().join(OsStr::from_bytes(b"odd\n\xff.py")), "needle").unwrap();
    assert_eq!(said(&client, "Glob", json!({"pattern": "*.py"})).await, "$'odd\\n\\xff.py'\n");
    assert_eq!(said(&client, "Grep", json!({"pattern": "needle"})).await, "$'odd\\n\\xff.py'\n");
    for i in 0..101 {
        scene.file(&format!("many/{i:03}"), "");
    }
    let many = said(&client, "Glob", json!({"pattern": "many/*"})).await;
    assert!(many.lines().count() == 101 && many.ends_with("[100 of 101 files; narrow the pattern or the path]\n"));
}

#[tokio::test]
async fn grep_shows_lines_files_or_counts() {
    let scene = Scene::new();
    let client = scene.client().await;
    scene.file("a.rs", "fn one() {}\nlet x;\nlet y;\nlet z;\nfn two() {\n}\n");
    scene.file("b.py", "def fn():\n  pass\n");
    scene.file("bin", b"fn\0");
    scene.file("ignored.rs", "fn");
    scene.file(".gitignore", "ignored.rs\n");
    let table = [
        (json!({"pattern": "fn"}), "a.rs\nb.py\n"),
        (json!({"pattern": "FN", "-i": true, "type": "py"}), "b.py\n"),
        (json!({"pattern": "^fn", "output_mode": "count"}), "a.rs:2\n"),
        (
            json!({"pattern": "^fn \\w+", "output_mode": "content", "glob": "*.rs"}),
            "a.rs:1:fn one() {}\na.rs:5:fn two() {\n",
        ),
        (
            json!({"pattern": "one|two", "output_mode": "content", "-A": 1, "-n": false}),
            "a.rs:fn one() {}\na.rs-let x;\n--\na.rs:fn two() {\na.rs-}\n",
        ),
        (
            json!({"pattern": "y", "output_mode": "content", "-C": 1, "path": "a.rs"}),
            "a.rs-2-let x;\na.rs:3:let y;\na.rs-4-let z;\n",
        ),
        (
            json!({"pattern": "two\\(\\) \\{\\n\\}", "output_mode": "content", "multiline": true}),
            "a.rs:5:fn two() {\na.rs:6:}\n",
        ),
        (json!({"pattern": "two\\(\\) \\{\\n\\}"}), "[no matches]\n"),
        (
            json!({"pattern": "let", "output_mode": "content", "head_limit": 1, "offset": 1}),
            "a.rs:3:let y;\n[1 lines shown; there are more: go on with offset 2]\n",
        ),
        (json!({"pattern": "fn", "glob": "!*.rs"}), "b.py\n"),
    ];
    for (input, want) in table {
        assert_eq!(said(&client, "Grep", input.clone()).await, want, "{input}");
    }
    assert!(
        said(&client, "Grep", json!({"pattern": "("}))
            .await
            .starts_with("ERROR `pattern` is not a valid regular expression")
    );
    assert!(
        said(&client, "Grep", json!({"pattern": "a", "type": "klingon"}))
            .await
            .starts_with("ERROR there is no file type `klingon`")
    );
    scene.file("flood", "needle\n".repeat(100_000));
    let flood = said(&client, "Grep", json!({"pattern": "needle", "output_mode": "content"})).await;
    assert!(flood.chars().count() <= MAX_RESULT_CHARS && flood.contains("there are more"));
}

#[tokio::test]
async fn todo_lists_are_echoed_and_kept_by_the_brain() {
    let scene = Scene::new();
    let client = scene.client().await;
    let todo = |c: &str, s: &str| json!({"content": c, "status": s, "activeForm": c});
    let list = json!({"todos": [todo("a", "completed"), todo("b", "in_progress"), todo("c", "pending"), todo("d", "pending")]});
    assert_eq!(said(&client, "TodoWrite", list).await, "[noted: 2 to do, 1 in progress, 1 done]\n");
}

#[tokio::test]
async fn the_brain_reads_and_writes_beside_the_tools() {
    let scene = Scene::new();
    let client = scene.client().await;
    scene.file("CLAUDE.md", "c");
    scene.file("AGENTS.md", "a");
    scene.file(".claude/rules/2.md", "2");
    scene.file(".claude/rules/1.md", "1".repeat(70_000));
    symlink("/etc/passwd", scene.root().join(".claude/settings.json")).unwrap();
    let files = client.project_files().await.unwrap();
    let seen: Vec<_> = files.iter().map(|f| (f.path.as_str(), f.bytes.len(), f.truncated)).collect();
    assert_eq!(
        seen,
        [
            ("CLAUDE.md", 1, false),
            ("AGENTS.md", 1, false),
            (".claude/rules/1.md", 64 << 10, true),
            (".claude/rules/2.md", 1, false)
        ]
    );
    client.write("x/y.bin", b"\0\xff").await.unwrap();
    assert_eq!(client.read("x/y.bin", 1).await.unwrap().bytes, b"\0");
    let stat = client.stat("x/y.bin").await.unwrap();
    assert_eq!((stat.kind, stat.size_bytes), (FileKind::File, 2));
    assert_eq!(client.stat(".claude/settings.json").await.unwrap().kind, FileKind::Symlink);
    assert!(client.read(".claude/settings.json", 9).await.is_err());
}
