//! Which devices a container may open, on cgroup version 2: a program in the kernel that is asked at every open and mknod.
//!
//! Version 1 has a controller for it. See the kernel's `Documentation/admin-guide/cgroup-v2.rst`, "Device controller".

mod bpf;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use bpf::Instruction;

/// Of the kernel's `BPF_DEVCG_*`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAY_MAKE: i32 = 1;
const MAY_READ: i32 = 2;
const MAY_WRITE: i32 = 4;

/// Why devices can't be restricted. An error, for open devices are open hosts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevicesError {
    #[error("device rules that deny single devices are not supported; deny all and allow some")]
    Deny,
    #[error("cannot restrict devices; does the kernel have CONFIG_CGROUP_BPF?")]
    Kernel(#[source] io::Error),
}

/// Devices that one rule allows; absent is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Allowed {
    kind: Option<i32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

/// Puts OCI's rules in force for a cgroup.
pub(crate) fn restrict(cgroup: &Path, rules: &[LinuxDeviceCgroup]) -> Result<(), DevicesError> {
    let Some(allowed) = allow_list(rules)? else {
        return Ok(());
    };
    let folder = File::open(cgroup).map_err(DevicesError::Kernel)?;
    bpf::attach(&program(&allowed), folder.as_fd()).map_err(DevicesError::Kernel)
}

/// The rules in order, as what is allowed in the end; absent is everything.
fn allow_list(rules: &[LinuxDeviceCgroup]) -> Result<Option<Vec<Allowed>>, DevicesError> {
    let mut list = None;
    for rule in rules {
        let number = |number: Option<i64>| {
            number
                .filter(|one| *one >= 0)
                .and_then(|one| i32::try_from(one).ok())
        };
        let kind = match rule.typ() {
            Some(LinuxDeviceType::B) => Some(BLOCK),
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(CHARACTER),
            _ => None,
        };
        let access = rule
            .access()
            .as_deref()
            .unwrap_or("rwm")
            .chars()
            .fold(0, |access, letter| {
                access
                    | match letter {
                        'r' => MAY_READ,
                        'w' => MAY_WRITE,
                        'm' => MAY_MAKE,
                        _ => 0,
                    }
            });
        let one = Allowed {
            kind,
            major: number(rule.major()),
            minor: number(rule.minor()),
            access,
        };
        let everything = kind.is_none() && one.major.is_none() && one.minor.is_none();
        match (rule.allow(), everything) {
            (true, true) => list = None,
            (false, true) => list = Some(Vec::new()),
            (true, false) => list.iter_mut().for_each(|list| list.push(one)),
            (false, false) => return Err(DevicesError::Deny),
        }
    }
    Ok(list)
}

/// Registers: 1 is the question, 2 the kind of device, 3 the access asked for, 4 and 5 the numbers, 0 the answer.
fn program(allowed: &[Allowed]) -> Vec<Instruction> {
    let mut program = vec![
        Instruction::load(2, 1, 0),
        Instruction::copy(3, 2),
        Instruction::shift_right(3, 16),
        Instruction::and(2, 0xffff),
        Instruction::load(4, 1, 4),
        Instruction::load(5, 1, 8),
    ];
    for one in allowed {
        let mut tests = Vec::new();
        tests.extend(one.kind.map(|kind| (2, kind)));
        tests.extend(one.major.map(|major| (4, major)));
        tests.extend(one.minor.map(|minor| (5, minor)));
        // Every test that fails jumps behind the rule; behind the tests come five instructions more.
        let length = tests.len() + 5;
        for (at, (register, value)) in tests.iter().enumerate() {
            program.push(Instruction::jump_unless_equal(
                *register,
                *value,
                (length - at - 1) as i16,
            ));
        }
        program.push(Instruction::copy(0, 3));
        program.push(Instruction::and(0, !one.access));
        program.push(Instruction::jump_unless_equal(0, 0, 2));
        program.push(Instruction::set(0, 1));
        program.push(Instruction::exit());
    }
    program.push(Instruction::set(0, 0));
    program.push(Instruction::exit());
    program
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use serde_json::json;

    use super::*;

    fn rules(rules: serde_json::Value) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_value(rules).unwrap()
    }

    #[test]
    fn later_rules_count() {
        let list = allow_list(&rules(json!([
            { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw" },
            { "allow": false, "access": "rwm" },
            { "allow": true, "type": "b", "access": "m" },
        ])))
        .unwrap();
        assert_eq!(
            list,
            Some(vec![Allowed {
                kind: Some(BLOCK),
                major: None,
                minor: None,
                access: MAY_MAKE
            }])
        );
        assert_eq!(
            allow_list(&rules(json!([{ "allow": true, "access": "rwm" }]))).unwrap(),
            None
        );
    }

    #[test]
    fn a_process_can_open_what_is_allowed_and_nothing_else() {
        let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        let root = roots
            .iter()
            .map(Path::new)
            .find(|root| root.join("cgroup.controllers").exists());
        let Some(root) = root.filter(|_| nix::unistd::geteuid().is_root()) else {
            println!("SKIP: not root, or no cgroup version 2");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "must not be skipped");
            return;
        };
        let group = root.join(format!("linkspan-devices-{}", std::process::id()));
        std::fs::create_dir(&group).unwrap();
        restrict(
            &group,
            &rules(json!([
                { "allow": false, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 5, "access": "r" },
            ])),
        )
        .unwrap();
        let procs = group.join("cgroup.procs");
        let script = "true > /dev/null && echo null; head -c 1 /dev/zero | wc -c; true 2>&- > /dev/zero || echo not zero; \
                      head -c 1 /dev/urandom | wc -c";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        // SAFETY: between fork and exec only a file is written, which needs no lock of ours.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(move || std::fs::write(&procs, "0"));
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        std::fs::remove_dir(&group).unwrap();
        assert_eq!(text, "null\n1\nnot zero\n0\n");
    }
}
