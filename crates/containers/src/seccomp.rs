//! Which system calls a container may make.
//!
//! The default profile is written into `config.json` as `linux.seccomp`, so that any OCI runtime can enforce it. Our own
//! compiles that section to BPF and installs it right before the program starts. See seccomp(2) and
//! <https://github.com/opencontainers/runtime-spec/blob/v1.0.2/config-linux.md#seccomp>.

mod install;
mod names;

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator, LinuxSyscall};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};
use serde_json::{Value, json};

use names::{BASE, BY_CAPABILITY, KNOWN};

/// Flags of clone(2) that make namespaces: of time, cgroup, uts, ipc, user, pid, net, and mount.
const CLONE_NAMESPACES: u64 = 0x7E02_0000;
/// What personality(2) may be set to: nothing, 32 bit addresses, both with another uname, and "tell me".
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// Sockets to the hypervisor know no network namespace.
const AF_VSOCK: u64 = 40;

/// Why a profile can't be enforced. It is an error, for a container with less protection than asked for is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeccompError {
    #[error(
        "seccomp profile: action `{0}` is not supported; use `errno`, `allow` or `kill`, or another runtime"
    )]
    Action(String),
    #[error("seccomp profile: system call `{0}` is unknown but not denied by default")]
    Unknown(String),
    #[error("seccomp profile: `{0}` compares in a way that is not supported")]
    Compare(String),
    #[error("cannot compile the seccomp profile")]
    Compile(#[source] seccompiler::BackendError),
    #[error("cannot install the seccomp profile; does the kernel have CONFIG_SECCOMP_FILTER?")]
    Install(#[source] nix::Error),
}

/// The default profile as a section of `config.json`, for a container that holds these capabilities.
pub(crate) fn default_profile(capabilities: &BTreeSet<String>) -> Value {
    let mut allowed: Vec<&str> = BASE.to_vec();
    for (capability, calls) in BY_CAPABILITY {
        if capabilities.contains(*capability) {
            allowed.extend_from_slice(calls);
        }
    }
    let one = |name: &str, args: Value| json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": args });
    let mut rules = vec![
        json!({ "names": allowed, "action": "SCMP_ACT_ALLOW" }),
        one(
            "socket",
            json!([{ "index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_NE" }]),
        ),
    ];
    for value in PERSONALITIES {
        rules.push(one(
            "personality",
            json!([{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }]),
        ));
    }
    if !capabilities.contains("SYS_ADMIN") {
        // The flags of clone3 lie in memory, where a filter can't look; told that it isn't there, C libraries use clone.
        rules.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }));
        rules.push(one(
            "clone",
            json!([{ "index": 0, "value": CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }]),
        ));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": architectures(),
        "syscalls": rules,
    })
}

fn architectures() -> Value {
    if cfg!(target_arch = "x86_64") {
        json!(["SCMP_ARCH_X86_64"])
    } else {
        json!(["SCMP_ARCH_AARCH64"])
    }
}

/// A profile compiled for this machine: filters that all must let a call pass.
#[derive(Debug, Clone)]
pub(crate) struct Filters(Vec<BpfProgram>);

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Compiles the section of `config.json`.
pub(crate) fn compile(profile: &LinuxSeccomp) -> Result<Filters, SeccompError> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let lenient = matches!(default, SeccompAction::Allow);
    // One filter knows two actions. So there is one for each action that rules name; each lets pass what the others
    // decide, and the kernel takes the strictest answer.
    let mut by_action: BTreeMap<u32, (SeccompAction, Rules)> = BTreeMap::new();
    let mut decided_elsewhere: Vec<i64> = Vec::new();
    for call in profile.syscalls().iter().flatten() {
        let action = action(call.action(), call.errno_ret())?;
        for name in call.names() {
            let Some(number) = KNOWN
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, number)| *number)
            else {
                if lenient {
                    return Err(SeccompError::Unknown(name.clone()));
                }
                continue;
            };
            if action != SeccompAction::Allow && action != default {
                decided_elsewhere.push(number);
            }
            let (_, rules) = by_action
                .entry(u32::from(action.clone()))
                .or_insert_with(|| (action.clone(), Rules::new()));
            merge(rules, number, rule(name, call)?);
        }
    }
    let mut filters = vec![newer_calls()];
    let allow = by_action
        .remove(&u32::from(SeccompAction::Allow))
        .map(|(_, rules)| rules)
        .unwrap_or_default();
    if !lenient {
        let mut allow = allow;
        for number in decided_elsewhere {
            allow.insert(number, Vec::new());
        }
        filters.push(program(allow, default.clone(), SeccompAction::Allow)?);
    }
    for (action, rules) in by_action.into_values() {
        if action != default {
            filters.push(program(rules, SeccompAction::Allow, action)?);
        }
    }
    Ok(Filters(filters))
}

impl Filters {
    /// Installs them for this process and what it becomes. Needs `no_new_privs` or CAP_SYS_ADMIN.
    pub(crate) fn install(&self) -> Result<(), SeccompError> {
        self.0
            .iter()
            .try_for_each(|filter| install::install(filter).map_err(SeccompError::Install))
    }
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<SeccompAction, SeccompError> {
    Ok(match action {
        LinuxSeccompAction::ScmpActAllow => SeccompAction::Allow,
        LinuxSeccompAction::ScmpActErrno => SeccompAction::Errno(errno.unwrap_or(libc::EPERM as u32)),
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => SeccompAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => SeccompAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => SeccompAction::Trap,
        LinuxSeccompAction::ScmpActLog => SeccompAction::Log,
        other => return Err(SeccompError::Action(format!("{other:?}"))),
    })
}

/// The condition under which a rule holds; absent is always.
fn rule(name: &str, call: &LinuxSyscall) -> Result<Option<SeccompRule>, SeccompError> {
    let unsupported = |_| SeccompError::Compare(name.to_owned());
    let mut conditions = Vec::new();
    for arg in call.args().iter().flatten() {
        let (op, value) = match arg.op() {
            LinuxSeccompOperator::ScmpCmpEq => (SeccompCmpOp::Eq, arg.value()),
            LinuxSeccompOperator::ScmpCmpNe => (SeccompCmpOp::Ne, arg.value()),
            LinuxSeccompOperator::ScmpCmpLt => (SeccompCmpOp::Lt, arg.value()),
            LinuxSeccompOperator::ScmpCmpLe => (SeccompCmpOp::Le, arg.value()),
            LinuxSeccompOperator::ScmpCmpGt => (SeccompCmpOp::Gt, arg.value()),
            LinuxSeccompOperator::ScmpCmpGe => (SeccompCmpOp::Ge, arg.value()),
            LinuxSeccompOperator::ScmpCmpMaskedEq => {
                (SeccompCmpOp::MaskedEq(arg.value()), arg.value_two().unwrap_or(0))
            }
        };
        let index = u8::try_from(arg.index()).map_err(|_| SeccompError::Compare(name.to_owned()))?;
        conditions
            .push(SeccompCondition::new(index, SeccompCmpArgLen::Qword, op, value).map_err(unsupported)?);
    }
    if conditions.is_empty() {
        return Ok(None);
    }
    SeccompRule::new(conditions).map(Some).map_err(unsupported)
}

/// Rules of one call are alternatives; one without a condition swallows the others.
fn merge(rules: &mut Rules, number: i64, rule: Option<SeccompRule>) {
    match (rules.get_mut(&number), rule) {
        (Some(known), Some(rule)) if !known.is_empty() => known.push(rule),
        (Some(_), Some(_)) => {}
        (_, None) => drop(rules.insert(number, Vec::new())),
        (None, Some(rule)) => drop(rules.insert(number, vec![rule])),
    }
}

fn program(
    rules: Rules,
    mismatch: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, SeccompError> {
    let arch = if cfg!(target_arch = "x86_64") {
        TargetArch::x86_64
    } else {
        TargetArch::aarch64
    };
    SeccompFilter::new(rules, mismatch, matched, arch)
        .and_then(BpfProgram::try_from)
        .map_err(SeccompError::Compile)
}

/// Calls newer than this list don't exist, rather than being forbidden: that is what C libraries ask for before they
/// fall back to an older one.
fn newer_calls() -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_GREATER: u16 = 0x25;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    let newest = KNOWN.iter().map(|(_, number)| *number).max().unwrap_or_default() as u32;
    let step = |code, jt, k| sock_filter { code, jt, jf: 0, k };
    vec![
        step(LOAD_NUMBER, 0, 0),
        step(JUMP_IF_GREATER, 1, newest),
        step(RETURN, 0, ALLOW),
        step(RETURN, 0, ERRNO | libc::ENOSYS as u32),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(capabilities: &[&str]) -> LinuxSeccomp {
        let held = capabilities.iter().map(ToString::to_string).collect();
        serde_json::from_value(default_profile(&held)).unwrap()
    }

    #[test]
    fn the_default_profile_compiles() {
        let filters = compile(&profile(&[])).unwrap();
        assert_eq!(filters.0.len(), 3, "newer calls, the list, clone3");
    }

    #[test]
    fn a_container_that_may_mount_may_call_mount() {
        let names = |caps: &[&str]| -> Vec<String> {
            profile(caps)
                .syscalls()
                .iter()
                .flatten()
                .flat_map(|call| call.names().clone())
                .collect()
        };
        assert!(!names(&[]).iter().any(|name| name == "mount"));
        assert!(names(&["SYS_ADMIN"]).iter().any(|name| name == "mount"));
        assert!(
            !names(&[])
                .iter()
                .any(|name| name == "keyctl" || name == "io_uring_setup")
        );
    }

    #[test]
    fn a_profile_that_denies_an_unknown_call_is_refused() {
        let profile = serde_json::from_value(json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["no_such_call"], "action": "SCMP_ACT_ERRNO" }],
        }))
        .unwrap();
        assert!(matches!(compile(&profile), Err(SeccompError::Unknown(_))));
    }
}
