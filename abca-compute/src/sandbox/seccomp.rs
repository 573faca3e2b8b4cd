//! System calls that the hands are refused: what opens the kernel or the walls rather than serves a build.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

/// Refused with `EPERM`, whatever the arguments.
const REFUSED: &[libc::c_long] = &[
    // mounts and namespaces
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    // other processes and their memory
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // wide doors into the kernel
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_fanotify_init,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    // the machine as a whole
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_vhangup,
];

/// Refused with `ENOSYS`: callers fall back to what a filter can see into.
const ABSENT: &[libc::c_long] =
    &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_clone3];

const NEW_NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// The filter for this machine's architecture; a program of another architecture (32-bit x86) is killed at its first
/// system call.
///
/// # Errors
/// A sentence that says what is missing.
pub(super) fn filter() -> Result<BpfProgram, String> {
    let arch: TargetArch = std::env::consts::ARCH
        .try_into()
        .map_err(|_| format!("seccomp filters for the architecture `{}`", std::env::consts::ARCH))?;
    let compile = |rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32| -> Result<BpfProgram, String> {
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno.cast_unsigned()), arch)
            .and_then(TryInto::try_into)
            .map_err(|e| format!("a seccomp filter ({e})"))
    };
    let when = |arg: u8, op: SeccompCmpOp, value: u64| {
        SeccompCondition::new(arg, SeccompCmpArgLen::Dword, op, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map_err(|e| format!("a seccomp rule ({e})"))
    };

    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    refused.extend([libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt].map(|call| (call, Vec::new())));
    let mut new_namespaces = Vec::new();
    for bit in (0..31).map(|bit| 1_i32 << bit).filter(|bit| NEW_NAMESPACES & bit != 0) {
        let bit = u64::from(bit.cast_unsigned());
        new_namespaces.push(when(0, SeccompCmpOp::MaskedEq(bit), bit)?);
    }
    refused.insert(libc::SYS_clone, new_namespaces);
    // Typing into the terminal of whoever started us. The kernel reads 32 bits of the request, and so do we.
    let terminal = [libc::TIOCSTI, libc::TIOCLINUX];
    let terminal: Result<Vec<_>, _> = terminal.into_iter().map(|r| when(1, SeccompCmpOp::Eq, r)).collect();
    refused.insert(libc::SYS_ioctl, terminal?);

    let absent = ABSENT.iter().map(|call| (*call, Vec::new())).collect();
    // Two filters would be two programs to hand over; the first decides and falls through to the second.
    let mut program = compile(absent, libc::ENOSYS)?;
    let second = compile(refused, libc::EPERM)?;
    let Some(last) = program.pop() else { return Err("a seccomp filter (empty)".to_owned()) };
    debug_assert_eq!((last.code, last.k), (RETURN, ALLOW));
    program.extend(second);
    if cfg!(target_arch = "x86_64") {
        // x32 calls carry bit 30 and would pass every rule by number.
        let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
        let guard = [
            instruction(LOAD_WORD, 0, 0, 0),
            instruction(JUMP_IF_AT_LEAST, 0, 1, 0x4000_0000),
            instruction(RETURN, 0, 0, ERRNO | libc::ENOSYS.cast_unsigned()),
        ];
        program.splice(0..0, guard);
    }
    Ok(program)
}

const LOAD_WORD: u16 = 0x20;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

/// The filter as bubblewrap reads it: `struct sock_filter`s in native byte order.
pub(super) fn to_bytes(program: &[sock_filter]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for i in program {
        bytes.extend_from_slice(&i.code.to_ne_bytes());
        bytes.extend_from_slice(&[i.jt, i.jf]);
        bytes.extend_from_slice(&i.k.to_ne_bytes());
    }
    bytes
}
