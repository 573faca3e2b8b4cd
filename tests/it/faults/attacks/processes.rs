//! The brain's processes, the kernel's doors.

use serde_json::json;

use super::super::server::{Ask, Model, text, tools};
use super::super::world::{KEY, Place};
use super::{decided, ran};

/// No other process is there to be read, and the calls that would read one are refused.
#[tokio::test]
async fn no_memory_but_its_own_can_be_read() {
    let script = r#"python3 - <<'END'
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments])
    print(name, "DONE" if result >= 0 else f"refused {ctypes.get_errno()}")
call("ptrace", 101, 16, 1, 0, 0)
buffer = ctypes.create_string_buffer(64)
class Vec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
here, there = Vec(ctypes.addressof(buffer), 64), Vec(0x400000, 64)
call("process_vm_readv", 310, 1, ctypes.addressof(here), 1, ctypes.addressof(there), 1, 0)
call("pidfd_getfd", 438, 3, 0, 0)
call("bpf", 321, 0, 0, 0)
call("perf_event_open", 298, 0, 0, -1, -1, 0)
call("userfaultfd", 323, 0)
call("add_key", 248, 0, 0, 0, 0, -2)
call("keyctl", 250, 0, -3, 0)
call("kcmp", 312, 1, 2, 0, 0, 0)
call("mount", 165, 0, 0, 0, 0, 0)
call("unshare", 272, 0x10000000)
call("setns", 308, 0, 0)
call("init_module", 175, 0, 0, 0)
call("kexec_load", 246, 0, 0, 0, 0)
call("open_by_handle_at", 304, -100, 0, 0)
call("chroot", 161, 0)
mine = os.getpid()
for pid in sorted(int(p) for p in os.listdir("/proc") if p.isdigit()):
    for name in ("environ", "cmdline", "maps"):
        try:
            text = open(f"/proc/{pid}/{name}", "rb").read()
            if b"ABCA_SESSION" in text or b"__abca-session" in text:
                print("BRAIN", pid, name)
        except OSError:
            pass
for path in ("/proc/kcore", "/dev/mem", "/dev/kmem", "/proc/1/root/home", "/proc/sys/kernel/core_pattern", "/sys/kernel/debug", "/dev/sda", "/dev/vda"):
    try:
        open(path, "r+b" if "core_pattern" in path else "rb").read(1)
        print("OPENED", path)
    except OSError:
        pass
END
"#;
    let (place, task, seen) = ran(script, &[]).await;
    for wrong in ["DONE", "BRAIN", "OPENED"] {
        assert!(!seen.contains(wrong), "{seen}");
    }
    assert_eq!(seen.matches("refused").count(), 16, "{seen}");
    assert!(!place.record_of(&task).await.contains(KEY));
}

/// What names the doors on a command line is refused before it runs.
#[tokio::test]
async fn doors_that_are_named_are_denied() {
    let doors = [
        "cat /proc/1/environ",
        "strings /proc/self/../*/mem",
        "dd if=/dev/zero of=/dev/vda",
        "curl http://169.254.169.254/latest/meta-data/",
    ];
    let model = Model::start(move |ask: &Ask| match ask.turn {
        0 => {
            let mut calls: Vec<_> = doors.iter().map(|c| ("Bash", json!({"command": c}))).collect();
            calls.push(("Read", json!({"file_path": "/proc/1/environ"})));
            calls.push(("Bash", json!({"command": "echo one >> ran.log"})));
            tools(0, &calls)
        }
        _ => text("Done."),
    });
    let mut place = Place::new(&model).await;
    place.start_worker();
    let task = place.submit(&[]).await;
    place.delivered(&task).await;
    let outcomes: Vec<String> = decided(&place.events(&task).await).into_iter().map(|(outcome, _)| outcome).collect();
    assert_eq!(outcomes, ["denied"; 5], "{}", place.story(&task).await);
}
