//! Removes by force what a daemon left behind, and says what it was. After an orderly end there is nothing to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Outcome, program};

/// Removes processes, mounts, links, the firewall table and cgroups of the daemon with these folders.
pub(crate) fn sweep(run: &Path, state: &Path) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    processes(run, state, &mut found)?;
    mounts(run, state, &mut found)?;
    links(&mut found)?;
    table(&mut found);
    cgroups(Path::new("/sys/fs/cgroup"), 0, &mut found);
    Ok(found)
}

/// Those that were started with our run folder, and those that see our folders in a mount namespace of their own.
fn processes(run: &Path, state: &Path, found: &mut Vec<String>) -> Outcome {
    let (run, state) = (run.to_string_lossy(), state.to_string_lossy());
    let own = fs::read_link("/proc/self/ns/mnt")?;
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        if pid == std::process::id().cast_signed() {
            continue;
        }
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let is_linkspan = line.contains("linkspan") && line.contains(&*run);
        let is_inside = fs::read_link(entry.path().join("ns/mnt")).is_ok_and(|namespace| namespace != own)
            && fs::read_to_string(entry.path().join("mountinfo"))
                .is_ok_and(|mounts| mounts.contains(&*state) || mounts.contains(&*run));
        if is_linkspan || is_inside {
            found.push(format!("process {pid} {}", line.trim()));
            pids.push(pid);
        }
    }
    for pid in &pids {
        // It may have ended by itself meanwhile.
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    for _ in 0..100 {
        if !pids.iter().any(|pid| kill(Pid::from_raw(*pid), None).is_ok()) {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn mounts(run: &Path, state: &Path, found: &mut Vec<String>) -> Outcome {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let points = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from);
    // Later mounts lie on earlier ones.
    let ours: Vec<PathBuf> = points
        .filter(|point| point.starts_with(run) || point.starts_with(state))
        .collect();
    for point in ours.into_iter().rev() {
        found.push(format!("mount {}", point.display()));
        program::output(Command::new("umount").arg("--lazy").arg(&point))?;
    }
    Ok(())
}

fn links(found: &mut Vec<String>) -> Outcome {
    for line in program::output(Command::new("ip").args(["-o", "link"]))?.lines() {
        let Some(name) = line.split(": ").nth(1).and_then(|name| name.split('@').next()) else {
            continue;
        };
        if name.starts_with("ls-") {
            found.push(format!("link {name}"));
            // The other end of a pair goes with the first.
            let _ = program::output(Command::new("ip").args(["link", "delete", name]));
        }
    }
    Ok(())
}

fn table(found: &mut Vec<String>) {
    let nft = program::find("nft").unwrap_or_else(|| "nft".into());
    if program::output(Command::new(nft).args(["delete", "table", "inet", "linkspan"])).is_ok() {
        found.push("firewall table inet linkspan".to_owned());
    }
}

/// Folders called `linkspan…`, deepest first; a cgroup with processes in it refuses.
fn cgroups(folder: &Path, depth: u32, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = folder.to_string_lossy().contains("/linkspan") || name.starts_with("linkspan");
        // Test rigs clean up after themselves, and a service of systemd's is not the demo's.
        if name.starts_with("linkspan-rig") || name.ends_with(".service") || depth > 5 || !path.is_dir() {
            continue;
        }
        cgroups(&path, depth + 1, found);
        if is_ours && fs::remove_dir(&path).is_ok() {
            found.push(format!("cgroup {}", path.display()));
        }
    }
}
